"""The whole road against the real programs: C-STORE in, a derived series out."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from archive_fixtures import Site, uid_of

pytestmark = pytest.mark.archive

KEPT = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "FrameOfReferenceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation", "Rows",
    "Columns", "AcquisitionDate", "AcquisitionTime", "RepetitionTime", "EchoTime", "Modality",
    "BodyPartExamined", "InstanceNumber", "BitsStored", "PixelRepresentation",
)  # fmt: skip


def check_against_sources(derived: list[Dataset], files: list[Path]) -> None:
    """Every derived image has its source, whose place and time it keeps."""
    sources = {str(d.SOPInstanceUID): d for d in map(dcmread, files)}
    assert len(derived) == len(sources)
    for image in derived:
        (reference,) = image.SourceImageSequence
        source = sources.pop(str(reference.ReferencedSOPInstanceUID))
        for keyword in KEPT:
            assert image.get(keyword) == source.get(keyword), keyword
        assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert image.SeriesInstanceUID != source.SeriesInstanceUID
        assert image.SeriesNumber != source.SeriesNumber
        assert image.pixel_array.shape == source.pixel_array.shape
        assert not np.array_equal(image.pixel_array, source.pixel_array)


def dcmdump_says_fine(dataset: Dataset, path: Path) -> None:
    program = shutil.which("dcmdump")
    if program is None:
        pytest.skip("dcmtk's dcmdump is not installed")
    dataset.save_as(path, enforce_file_format=True)
    done = subprocess.run([program, "+E", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_simulated_exam_comes_back_reconstructed(
    site: Site, small_exam: dict[str, list[Path]], tmp_path: Path
) -> None:
    for files in small_exam.values():
        site.send(files)
    for name, files in small_exam.items():
        row = site.finished(uid_of(files))
        assert row["attempt"] == 1
        if name.startswith("standard/"):
            assert row["status"] == "skipped"
            assert row["reason_code"] in {"not_accelerated", "averaged"}
            continue
        assert row["status"] == "done", row
        assert row["reason_code"] == "accelerated"
        assert row["timings_s"]["total"] > 0
        derived = site.derived(row)
        check_against_sources(derived, files)
        dcmdump_says_fine(derived[0], tmp_path / "derived.dcm")
    site.settled()
    assert site.derived_series_count() == 4
    assert "Traceback" not in site.log("worker") + site.log("api")


def test_the_standard_fat_suppressed_scan_is_told_from_the_fast_one(
    site: Site, small_exam: dict[str, list[Path]]
) -> None:
    """Both have factor 2; only the averages differ."""
    averaged = [
        files
        for name, files in small_exam.items()
        if name.startswith("standard/")
        and dcmread(files[0], stop_before_pixels=True).get("ParallelReductionFactorInPlane") == 2
    ]
    (files,) = averaged
    site.send(files)
    row = site.finished(uid_of(files))
    assert (row["status"], row["reason_code"]) == ("skipped", "averaged")
    assert "2 averages" in row["reason"]


def test_the_plugin_says_where_it_stands(site: Site, fast_series: list[Path]) -> None:
    site.send(fast_series)
    site.finished(uid_of(fast_series))
    state = httpx.get(f"{site.stack.orthanc_url}/halfscan/status").json()
    assert state["enabled"] is True
    assert state["error"] is None
    assert state["announced_series"] >= 1
    assert httpx.post(f"{site.stack.orthanc_url}/halfscan/status").status_code == 405


def test_a_derived_series_that_arrives_again_triggers_nothing(
    site: Site, fast_series: list[Path], tmp_path: Path
) -> None:
    site.send(fast_series)
    row = site.finished(uid_of(fast_series))
    files = []
    for number, dataset in enumerate(site.derived(row)):
        files.append(tmp_path / f"back-{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    # The archive forgets it, and another node sends it back.
    httpx.delete(f"{site.stack.orthanc_url}/series/{row['derived_orthanc_series_id']}")
    site.send(files)
    site.settled()
    again = site.finished(row["derived_series_instance_uid"])
    assert (again["status"], again["reason_code"]) == ("skipped", "halfscan_output")
    assert site.derived_series_count() == 1


def test_a_series_sent_twice_is_reconstructed_once(site: Site, fast_series: list[Path]) -> None:
    site.send(fast_series)
    first = site.finished(uid_of(fast_series))
    site.send(fast_series)
    site.send(fast_series)
    again = site.ledger.announce(
        {
            key: first[key]
            for key in (
                "orthanc_series_id",
                "series_instance_uid",
                "study_instance_uid",
                "source_digest",
                "n_instances",
            )
        }
    )
    assert again["id"] == first["id"]
    site.settled()
    assert site.row(uid_of(fast_series)) == first
    assert site.derived_series_count() == 1


@pytest.mark.cases
def test_a_real_accelerated_series_is_reconstructed(
    site: Site, cases: Path, tmp_path: Path
) -> None:
    files = sorted((cases / "si_xa30_classic_tfl_p2").glob("*.dcm"))
    site.send(files)
    row = site.finished(uid_of(files))
    assert row["status"] == "done", row
    assert any(item["value"] == "p2" for item in row["acquisition"]["evidence"])
    derived = site.derived(row)
    check_against_sources(derived, files)
    dcmdump_says_fine(derived[0], tmp_path / "derived.dcm")


@pytest.mark.cases
def test_a_real_series_that_is_not_accelerated_is_skipped(site: Site, cases: Path) -> None:
    files = sorted((cases / "si_e11_epi_nopat").glob("*.dcm"))
    site.send(files)
    row = site.finished(uid_of(files))
    assert (row["status"], row["reason_code"]) == ("skipped", "not_accelerated")
    assert row["acquisition"]["accelerated"] is False
    assert "below 2" in row["reason"]


@pytest.mark.parametrize("start_from", ["now", "beginning"])
def test_what_was_there_before_the_plugin(
    make_site: Callable[..., Site], fast_series: list[Path], variant: Any, start_from: str
) -> None:
    site = make_site(plugin_options={"StartFrom": start_from})
    nothing = site.stack.folder / "nothing.py"  # an archive without the plugin
    nothing.touch()
    site.stack.orthanc_options["PythonScript"] = str(nothing)
    site.start("api", "orthanc")
    site.send(fast_series)
    site.stop("orthanc")
    del site.stack.orthanc_options["PythonScript"]
    site.start("orthanc")
    later = variant(fast_series)
    site.send(later)
    site.wait_for(lambda: site.row(uid_of(later)))
    assert (site.row(uid_of(fast_series)) is not None) == (start_from == "beginning")
