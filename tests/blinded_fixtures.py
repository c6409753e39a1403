"""A reading study over a real archive: simulated exams, derived by the real worker, read blinded.

A test module asks for it with ``pytest_plugins = ["api_fixtures", "blinded_fixtures"]``.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_support import Api, make_api
from blinded_support import (
    BlindedStudy,
    Lumbar,
    derived_series,
    files_of,
    series_of,
    start_blinded,
)
from halfscan_api import archive
from halfscan_api.enrolment.watcher import watcher
from halfscan_plugin import exam
from halfscan_plugin.dimse import send
from halfscan_plugin.stack import Stack, StartFailed, find_orthanc


@pytest.fixture(scope="session")
def lumbar_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lumbar]:
    """Two small simulated patients in a real Orthanc, with the series that a worker derived."""
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("blinded")
    report = exam.simulate(folder / "exam", patients=2, seed=11, slices=4, matrix_scale=0.35)
    stack = Stack(folder, stable_age_s=1)
    try:
        stack.start()
        send(list(report.files), stack.dicom_port)
        truth = json.loads(report.truth.read_text(encoding="utf-8"))["patients"]
        derived = derived_series(stack, expected=8)
        yield Lumbar(
            stack.orthanc_url, truth, files_of(truth, report.out), series_of(truth, derived)
        )
    finally:
        stack.stop()


@pytest.fixture
def lumbar(lumbar_archive: Lumbar) -> Iterator[Lumbar]:
    """The archive as it was: what a test stores in it goes with the test."""
    before = lumbar_archive.instances()
    yield lumbar_archive
    lumbar_archive.delete(lumbar_archive.instances() - before)


@pytest.fixture
def archive_api(
    lumbar: Lumbar, api_sqlite_template: Path, tmp_path: Path, api_environment: None
) -> Iterator[Api]:
    """The app on SQLite, beside the archive."""
    path = tmp_path / "halfscan.db"
    shutil.copy(api_sqlite_template, path)
    yield from _beside(lumbar, f"sqlite:///{path}")


@pytest.fixture
def both_archive_apis(
    lumbar: Lumbar, api_database_url: str, api_environment: None
) -> Iterator[Api]:
    """The app on both databases, beside the archive: for what the database has a part in."""
    yield from _beside(lumbar, api_database_url)


def _beside(lumbar: Lumbar, database_url: str) -> Iterator[Api]:
    made = make_api(database_url, orthanc_url=lumbar.orthanc_url)
    yield made
    watcher(made.app).close()
    archive.close(made.app)
    made.database.dispose()


@pytest.fixture
def blinded(archive_api: Api, lumbar: Lumbar) -> BlindedStudy:
    """A study with one case, of which nothing has been read."""
    return BlindedStudy(start_blinded(archive_api, lumbar), lumbar)


@pytest.fixture
def both_blinded(both_archive_apis: Api, lumbar: Lumbar) -> BlindedStudy:
    """The same on both databases."""
    return BlindedStudy(start_blinded(both_archive_apis, lumbar), lumbar)
