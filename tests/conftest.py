"""Fixtures that several test modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["archive_fixtures"]

# The same examples in each run, so that a red test belongs to the change that it judges. The other
# profile looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder with the real MR series, which are no part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cases"
    folder = Path(os.environ.get("MR_CASES") or beside)
    if not (folder / "truth.json").exists():
        pytest.skip("the real MR series are not here: MR_CASES or ../shared/cases")
    return folder


@pytest.fixture(scope="session")
def reported() -> Path:
    """Folder with series that were built from bug reports, which are no part of the project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "reports" / "in"
    if not folder.exists():
        pytest.skip("the series of bug reports are not here: ../shared/reports/in")
    return folder


@pytest.fixture(autouse=True)
def log_of_each_test() -> Iterator[None]:
    """Forget how a test has set up the log: its stream is closed with the test."""
    yield
    structlog.reset_defaults()
