"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["archive_fixtures"]


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder with the real MR series, which are no part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cases"
    folder = Path(os.environ.get("MR_CASES") or beside)
    if not (folder / "truth.json").exists():
        pytest.skip("the real MR series are not here: MR_CASES or ../shared/cases")
    return folder
