"""Headers that a real Orthanc tells decide as the files themselves do."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread

from archive_fixtures import Site
from halfscan_plugin.headers import element
from halfscan_plugin.rules import judge

pytestmark = pytest.mark.archive


@pytest.fixture
def orthanc(make_site: Callable[..., Site]) -> Site:
    """An Orthanc alone."""
    site = make_site()
    site.start("orthanc")
    return site


def headers_through(site: Site, files: list[Path]) -> list[Dataset]:
    """Put files into the archive, read the headers of their series, and remove it."""
    answers = [site.upload(file.read_bytes()).json() for file in files]
    (series_id,) = {answer["ParentSeries"] for answer in answers}
    headers = site.archive.headers(series_id)
    httpx.delete(f"{site.stack.orthanc_url}/series/{series_id}", timeout=30)
    assert len(headers) == len(files)
    return headers


def check_against_files(headers: list[Dataset], files: list[Path], name: str) -> None:
    """Compare what decides, and every public value that came."""
    originals = [dcmread(file, stop_before_pixels=True) for file in files]
    assert judge(headers)[0] == judge(originals)[0], name
    told, read = judge(headers)[1], judge(originals)[1]
    assert (told.action, told.reason_code, told.reason) == (
        read.action, read.reason_code, read.reason,
    ), name  # fmt: skip
    by_uid = {str(original.SOPInstanceUID): original for original in originals}
    for header in headers:
        original = by_uid[str(header.SOPInstanceUID)]
        for found in header:
            same = element(original, found.tag)
            if found.VR != "SQ" and found.keyword != "SpecificCharacterSet" and same is not None:
                assert str(found.value) == str(same.value), (name, found.keyword)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_simulated_series(orthanc: Site, small_exam: dict[str, list[Path]]) -> None:
    for name, files in small_exam.items():
        check_against_files(headers_through(orthanc, files), files, name)


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_series_of_every_vendor(orthanc: Site, cases: Path) -> None:
    tried = 0
    for folder in sorted(path for path in cases.iterdir() if path.is_dir()):
        files = sorted(folder.glob("*.dcm"))
        if files:
            check_against_files(headers_through(orthanc, files), files, folder.name)
            tried += 1
    assert tried > 15
