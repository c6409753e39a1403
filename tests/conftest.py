"""Fixtures that several test modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

pytest_plugins = ["archive_fixtures"]

# Fixtures for the whole run that are too dear for each worker of pytest-xdist to make its own.
DEAR = ("lumbar_archive",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a dear fixture, or one of their module, on one worker.

    All others are given out one by one, with ``--dist loadgroup``. First, because pytest-xdist
    itself looks at the marks in this hook.
    """
    for item in items:
        group = group_of(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def group_of(item: pytest.Item) -> str | None:
    """Name what ties a test to others: a dear fixture, or its file and how its fixtures are."""
    if not isinstance(item, pytest.Function):
        return None
    fixtures = item._fixtureinfo.name2fixturedefs
    for name in DEAR:
        if name in fixtures:
            return name
    of_module = [name for name, made in fixtures.items() if any(d.scope == "module" for d in made)]
    if not of_module:
        return None
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    kinds = [str(parameters[name]) for name in of_module if name in parameters]
    return "-".join([item.path.stem, *kinds])


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
