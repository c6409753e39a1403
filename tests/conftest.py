"""Fixtures that several test modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

pytest_plugins = ["archive_fixtures"]


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder with the real MR series, which are no part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cases"
    folder = Path(os.environ.get("MR_CASES") or beside)
    if not (folder / "truth.json").exists():
        pytest.skip("the real MR series are not here: MR_CASES or ../shared/cases")
    return folder


@pytest.fixture(autouse=True)
def log_of_each_test() -> Iterator[None]:
    """Forget how a test has set up the log: its stream is closed with the test."""
    yield
    structlog.reset_defaults()
