"""Late slices, and the same series made again: the archive ends with one derived series.

Whatever is killed when, the archive holds the old derived series, both, or the new one, but never
none and never half of one for long.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from archive_fixtures import PATIENCE_S, Site, uid_of
from dicom_maker import encoded, enhanced_object
from gate import gate
from halfscan_plugin.files import read_folder
from halfscan_plugin.inspection import reconstruct_folder
from halfscan_plugin.reconstruction import Engine

pytestmark = pytest.mark.archive

MakeSite = Callable[..., Site]
Variant = Callable[..., list[Path]]
QUICK = {"HALFSCAN_WORKER_LEASE_S": "5", "HALFSCAN_WORKER_POLL_S": "0.2"}


def rows_of(site: Site, files: list[Path]) -> list[dict[str, Any]]:
    """Give the rows of a series, oldest first."""
    rows: list[dict[str, Any]] = site.ledger.rows(series_instance_uid=uid_of(files))["items"]
    return rows[::-1]


def wait_for_row(site: Site, files: list[Path], n_instances: int, status: str) -> dict[str, Any]:
    def row() -> dict[str, Any] | None:
        rows = [r for r in rows_of(site, files) if r["n_instances"] == n_instances]
        return rows[0] if rows and rows[0]["status"] == status else None

    found: dict[str, Any] = site.wait_for(row)
    return found


def instances_of(site: Site, uid: str | None) -> int:
    """Count the instances of a derived series; 0 where it is not in the archive."""
    found = site.archive.find_series(str(uid))
    return sum(len(site.archive.instance_ids(series_id)) for series_id in found)


def check_one_is_left(site: Site, files: list[Path], last: dict[str, Any]) -> None:
    """Check the archive and the trail in the ledger once everything has settled."""
    site.settled()
    assert instances_of(site, last["derived_series_instance_uid"]) == len(files)
    assert site.derived_series_count() == 1
    for row in rows_of(site, files):
        detail = site.ledger.row(row["id"])
        for attempt in detail["attempts"]:
            uid = attempt["derived_series_instance_uid"]
            if uid not in {None, last["derived_series_instance_uid"]}:
                assert attempt["replaced_by"] == last["id"], detail
                assert attempt["replaced_at"] is not None
    assert "Traceback" not in site.log("worker") + site.log("api")


def test_late_slices_replace_the_derived_series(site: Site, fast_series: list[Path]) -> None:
    site.send(fast_series[:3])
    first = wait_for_row(site, fast_series, 3, "done")
    assert instances_of(site, first["derived_series_instance_uid"]) == 3
    numbers = {d.SeriesNumber for d in site.derived(first)}
    site.send(fast_series[3:])
    second = wait_for_row(site, fast_series, 4, "done")
    check_one_is_left(site, fast_series, second)
    assert {d.SeriesNumber for d in site.derived(second)} == numbers
    check_a_folder_gives_the_same(site, fast_series, second)
    old = site.ledger.row(first["id"])
    assert (old["status"], old["replaced_by"]) == ("done", second["id"])
    assert old["replaced_at"] is not None
    assert second["replaced_by"] is None
    assert instances_of(site, first["derived_series_instance_uid"]) == 0


def check_a_folder_gives_the_same(site: Site, files: list[Path], row: dict[str, Any]) -> None:
    folder = site.stack.folder / "again"
    engine = Engine(threads=1)
    (report,) = reconstruct_folder(read_folder(files), folder, engine)
    made = [dcmread(folder / report["derived_series_instance_uid"] / f) for f in report["files"]]
    stored = {d.SOPInstanceUID: d for d in site.derived(row)}
    assert {d.SOPInstanceUID for d in made} == set(stored)
    for dataset in made:
        twin = stored[dataset.SOPInstanceUID]
        assert (dataset.SeriesNumber, dataset.PixelData) == (twin.SeriesNumber, twin.PixelData)


def test_what_grew_before_a_worker_came_is_reconstructed_once(
    make_site: MakeSite, fast_series: list[Path]
) -> None:
    site = make_site()
    site.start("api", "orthanc")
    site.send(fast_series[:3])
    site.wait_for(lambda: rows_of(site, fast_series))
    site.send(fast_series[3:])
    site.wait_for(lambda: len(rows_of(site, fast_series)) == 2)
    site.start("worker")
    last = wait_for_row(site, fast_series, 4, "done")
    first = wait_for_row(site, fast_series, 3, "skipped")
    assert first["reason_code"] == "superseded"
    assert f"reconstruction {last['id']} stands for it" in first["reason"]
    assert [a["derived_series_instance_uid"] for a in site.ledger.row(first["id"])["attempts"]] == [
        None
    ]
    check_one_is_left(site, fast_series, last)


def test_a_worker_announces_what_the_relay_cannot(
    make_site: MakeSite, fast_series: list[Path]
) -> None:
    """An archive without the plugin; somebody announced a series that has grown since."""
    site = make_site()
    nothing = site.stack.folder / "nothing.py"
    nothing.touch()
    site.stack.orthanc_options["PythonScript"] = str(nothing)
    site.start()
    site.send(fast_series)
    header = dcmread(fast_series[0], stop_before_pixels=True)
    site.ledger.announce(
        {
            "orthanc_series_id": site.archive.find_series(uid_of(fast_series))[0],
            "series_instance_uid": uid_of(fast_series),
            "study_instance_uid": str(header.StudyInstanceUID),
            "source_digest": "0" * 64,
            "n_instances": 3,
        }
    )
    row = wait_for_row(site, fast_series, 4, "done")
    source = site.archive.source(row["orthanc_series_id"])
    assert row["source_digest"] == source.source_digest
    assert wait_for_row(site, fast_series, 3, "skipped")["reason_code"] == "superseded"
    assert instances_of(site, row["derived_series_instance_uid"]) == 4


def test_late_objects_that_forbid_it_leave_the_old_series(
    site: Site, fast_series: list[Path], variant: Variant
) -> None:
    def maps(dataset: Dataset, number: int) -> None:
        dataset.SeriesInstanceUID = uid_of(fast_series)
        dataset.ImageType = ["DERIVED", "PRIMARY", "M", "MAP"]
        dataset.InstanceNumber = 90 + number

    site.send(fast_series)
    first = wait_for_row(site, fast_series, 4, "done")
    site.send(variant(fast_series[:1], maps))
    second = wait_for_row(site, fast_series, 5, "skipped")
    site.settled()
    (warning,) = second["warnings"]
    uid = first["derived_series_instance_uid"]
    assert f"the derived series {uid} of reconstruction {first['id']} stays" in warning
    assert instances_of(site, uid) == 4
    assert site.ledger.row(first["id"])["replaced_at"] is None


@pytest.mark.parametrize("strength", ["0.5", "1.0"])
def test_a_done_series_is_made_again(
    make_site: MakeSite, fast_series: list[Path], strength: str
) -> None:
    site = make_site()
    site.start()
    site.send(fast_series)
    first = site.finished(uid_of(fast_series))
    site.settled()
    site.stop("worker")
    site.start("worker", HALFSCAN_WORKER_STRENGTH=strength)
    site.ledger.retry(first["id"])
    again = site.wait_for(lambda: (r := site.ledger.row(first["id"]))["status"] == "done" and r)
    assert again["strength"] == float(strength)
    check_one_is_left(site, fast_series, again)
    earlier, last = again["attempts"]
    assert (earlier["strength"], last["strength"]) == (1.0, float(strength))
    assert earlier["replaced_by"] == again["id"]
    same = again["derived_series_instance_uid"] == first["derived_series_instance_uid"]
    assert same == (strength == "1.0")
    if not same:
        pixels = [d.pixel_array.astype(int) for d in site.derived(again)]
        sources = [dcmread(f).pixel_array.astype(int) for f in fast_series]
        assert not np.array_equal(pixels[0], sources[0])


# --- kill -9 ----------------------------------------------------------------------------------

# Requests of the worker, and how many of them pass before the kill: to Orthanc, or to the API.
POINTS = {
    "before the first object is stored": ("archive", "POST /instances$", 0),
    "with half of them stored": ("archive", "POST /instances$", 2),
    "between the last object and the removal": ("archive", "DELETE /series/", 0),
    "before it is reported": ("api", "POST .*/outcome$", 0),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_while_it_replaces(
    make_site: MakeSite, fast_series: list[Path], point: str
) -> None:
    side, request, after = POINTS[point]
    site = make_site()
    site.start()
    site.send(fast_series[:3])
    first = wait_for_row(site, fast_series, 3, "done")
    site.settled()
    site.stop("worker")
    with gate(site.stack.orthanc_url) as archive, gate(site.stack.api_url) as api:
        held = {"archive": archive, "api": api}[side]
        held.hold(request, after)
        site.start(
            "worker",
            **QUICK,
            HALFSCAN_WORKER_ORTHANC_URL=archive.url,
            HALFSCAN_WORKER_API_URL=api.url,
        )
        site.send(fast_series[3:])
        held.wait(PATIENCE_S)
        site.kill("worker")
    old = instances_of(site, first["derived_series_instance_uid"])
    killed = site.row(uid_of(fast_series))
    assert killed is not None
    assert (killed["status"], killed["n_instances"]) == ("leased", 4)
    (attempt,) = site.ledger.row(killed["id"])["attempts"]
    new = instances_of(site, attempt["derived_series_instance_uid"])
    assert (old, new) == {
        "before the first object is stored": (3, 0),
        "with half of them stored": (3, 2),
        "between the last object and the removal": (3, 4),
        "before it is reported": (0, 4),
    }[point]
    site.start("worker", **QUICK)
    last = wait_for_row(site, fast_series, 4, "done")
    assert last["attempt"] == 2
    check_one_is_left(site, fast_series, last)


def test_half_a_series_of_a_killed_worker_goes_when_the_source_grows(
    make_site: MakeSite, fast_series: list[Path]
) -> None:
    """No later attempt makes the same objects again: the ledger alone knows of them."""
    site = make_site()
    site.start("api", "orthanc")
    with gate(site.stack.orthanc_url) as archive:
        archive.hold("POST /instances$", 2)
        site.start("worker", **QUICK, HALFSCAN_WORKER_ORTHANC_URL=archive.url)
        site.send(fast_series[:3])
        archive.wait(PATIENCE_S)
        site.kill("worker")
    site.send(fast_series[3:])
    site.wait_for(lambda: len(rows_of(site, fast_series)) == 2)
    assert site.derived_series_count() == 1
    site.start("worker", **QUICK)
    last = wait_for_row(site, fast_series, 4, "done")
    assert wait_for_row(site, fast_series, 3, "skipped")["reason_code"] == "superseded"
    check_one_is_left(site, fast_series, last)


def test_a_worker_that_hangs_does_not_store_beside_the_next(
    make_site: MakeSite, fast_series: list[Path]
) -> None:
    """Its lease ran out while Orthanc kept it waiting; it comes back and finds it lost."""
    site = make_site()
    site.start("api", "orthanc")
    with gate(site.stack.orthanc_url) as archive, gate(site.stack.api_url) as api:
        archive.hold("POST /instances$", 1)
        site.start(
            "worker",
            **QUICK,
            HALFSCAN_WORKER_ORTHANC_URL=archive.url,
            HALFSCAN_WORKER_API_URL=api.url,
        )
        site.send(fast_series)
        archive.wait(PATIENCE_S)
        hanging = site.programs.pop("worker")
        api.hold("POST .*/lease$")  # it cannot renew any more
        site.start("worker", **QUICK)
        row = site.finished(uid_of(fast_series))
        assert (row["status"], row["attempt"]) == ("done", 2)
        archive.drop()
        api.drop()
        site.wait_for(lambda: "lease_lost" in site.log("worker"))
        site.settled()
        hanging.stop()
    assert instances_of(site, row["derived_series_instance_uid"]) == 4
    assert site.ledger.row(row["id"])["attempts"][0]["result"] == "lost"


# --- headers, and questions -------------------------------------------------------------------


def test_an_object_of_many_frames_is_not_pulled_for_its_header(
    make_site: MakeSite,
) -> None:
    frames = 40
    pixels = np.random.default_rng(1).integers(0, 4000, (frames, 512, 512)).astype(np.uint16)
    dataset = enhanced_object(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    site = make_site()
    site.start("api", "orthanc")
    answer = site.upload(encoded(dataset)).json()
    with gate(site.stack.orthanc_url) as archive:
        through = type(site.archive)(archive.url)
        (header,) = through.headers(answer["ParentSeries"])
        through.close()
        taken = sum(archive.bytes_back.values())
    assert header.NumberOfFrames == frames
    assert len(header.PerFrameFunctionalGroupsSequence) == frames
    assert "PixelData" not in header
    assert taken < pixels.nbytes / 2, "what the sockets hold at most"


def halfscan_inspect(site: Site, uid: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "halfscan_plugin.cli", "inspect", "--json"),
            *("--series", uid, "--orthanc", site.stack.orthanc_url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (report,) = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def test_a_question_about_a_series_in_the_archive(
    make_site: MakeSite, small_exam: dict[str, list[Path]]
) -> None:
    site = make_site(stable_age_s=600)  # nothing is announced: only questions are asked
    site.start()
    for name, files in small_exam.items():
        site.send(files)
        asked = site.ledger.ask(series_instance_uid=uid_of(files))
        answered = site.ledger.inspection(asked["id"], wait_s=20)
        assert answered["status"] == "done", answered
        assert answered["result"] == halfscan_inspect(site, uid_of(files))
        fast = name.startswith("accelerated/")
        assert answered["result"]["decision"] == ("reconstruct" if fast else "skip")
    asked = site.ledger.ask(series_instance_uid="1.2.3.4")
    answered = site.ledger.inspection(asked["id"], wait_s=20)
    assert (answered["status"], answered["error_code"]) == ("failed", "series_not_found")
    assert site.rows() == []
    assert site.derived_series_count() == 0
    assert "unexpected" not in site.log("worker")


def test_the_list_without_our_own_output(site: Site, fast_series: list[Path]) -> None:
    site.send(fast_series)
    site.finished(uid_of(fast_series))
    site.settled()
    codes = [row["reason_code"] for row in site.rows()]
    assert sorted(codes) == ["accelerated", "halfscan_output"]
    rest = site.ledger.rows(exclude_reason_code=["halfscan_output"])["items"]
    assert [row["reason_code"] for row in rest] == ["accelerated"]
    assert rest[0]["rule"] == "default: accelerated"
    assert httpx.get(f"{site.stack.api_url}/readyz").is_success
