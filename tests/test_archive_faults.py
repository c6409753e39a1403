"""When something is wrong: nothing is lost, and the next series goes on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)

from archive_fixtures import Site, uid_of
from halfscan_models.registry import WEIGHTS, find_model
from halfscan_plugin import stack

pytestmark = pytest.mark.archive

MakeSite = Callable[..., Site]
Variant = Callable[..., list[Path]]


def test_what_arrives_while_the_api_is_down_is_reconstructed_once_it_is_back(
    site: Site, fast_series: list[Path]
) -> None:
    site.stop("api")
    site.send(fast_series)
    site.wait_for(lambda: "cannot be reached" in site.log("orthanc"))
    site.wait_for(lambda: "waiting" in site.log("worker"))
    site.start("api")
    row = site.finished(uid_of(fast_series))
    assert row["status"] == "done", row
    assert "acknowledges again" in site.log("orthanc")


def test_orthanc_killed_before_the_series_was_stable(
    make_site: MakeSite, fast_series: list[Path]
) -> None:
    site = make_site(stable_age_s=60)
    site.start("api", "orthanc", "worker")
    site.send(fast_series)
    state = httpx.get(f"{site.stack.orthanc_url}/halfscan/status").json()
    assert state["announced_series"] == 0
    site.kill("orthanc")
    site.start("orthanc")
    row = site.finished(uid_of(fast_series))
    assert row["status"] == "done", row
    assert row["n_instances"] == len(fast_series)


def test_api_and_orthanc_killed_together(site: Site, fast_series: list[Path]) -> None:
    site.stop("worker")
    site.send(fast_series)
    site.kill("api")
    site.kill("orthanc")
    site.start("orthanc", "api", "worker")
    assert site.finished(uid_of(fast_series))["status"] == "done"


def test_a_worker_killed_in_the_middle_is_replaced(
    make_site: MakeSite, small_exam: dict[str, list[Path]], variant: Variant
) -> None:
    site = make_site()
    site.start("api", "orthanc")
    # Enough slices that the attempt is still running when it is killed.
    files = [f for name in small_exam if name.startswith("accel") for f in small_exam[name]]
    frame = dcmread(files[0])

    def one_series(dataset: Dataset, number: int) -> None:
        for keyword in ("ImageOrientationPatient", "Rows", "Columns", "PixelData"):
            setattr(dataset, keyword, frame[keyword].value)
        dataset.InstanceNumber = number + 1
        normal = np.cross(frame.ImageOrientationPatient[:3], frame.ImageOrientationPatient[3:])
        dataset.ImagePositionPatient = [round(4 * number * part, 4) for part in normal]

    many = variant(files * 4, one_series)
    site.send(many)
    uid = uid_of(many)
    site.wait_for(lambda: site.row(uid))
    site.start("worker", HALFSCAN_WORKER_LEASE_S="5", HALFSCAN_WORKER_NAME="first")
    site.wait_for(lambda: (site.row(uid) or {}).get("status") == "leased")
    site.kill("worker")
    killed = site.row(uid)
    assert killed is not None
    assert killed["status"] == "leased", "the attempt was over before the kill"
    site.start("worker", HALFSCAN_WORKER_LEASE_S="5", HALFSCAN_WORKER_NAME="second")
    row = site.finished(uid)
    assert (row["status"], row["attempt"], row["worker"]) == ("done", 2, "second")
    assert row["derived_instances"] == len(many)
    site.settled()
    assert site.derived_series_count() == 1


def test_a_worker_killed_while_it_stores_leaves_one_whole_series(
    site: Site, fast_series: list[Path]
) -> None:
    """Half of a derived series lies in the archive already when the attempt starts."""
    site.send(fast_series)
    first = site.finished(uid_of(fast_series))
    site.settled()
    instance_ids = site.archive.instance_ids(first["derived_orthanc_series_id"])
    for instance_id in instance_ids[: len(instance_ids) // 2]:
        httpx.delete(f"{site.stack.orthanc_url}/instances/{instance_id}")
    site.ledger.retry(first["id"])
    row = site.finished(uid_of(fast_series))
    assert row["derived_series_instance_uid"] == first["derived_series_instance_uid"]
    assert site.archive.instance_ids(row["derived_orthanc_series_id"]) == instance_ids
    assert site.derived_series_count() == 1


def test_after_the_last_attempt_a_job_is_dead_visible_and_can_be_retried(
    make_site: MakeSite, fast_series: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An archive that refuses derived images: a filter of Orthanc's own, in Lua."""
    script = tmp_path / "refuse.lua"
    script.write_text(
        "function ReceivedInstanceFilter(dicom, origin)\n"
        "  return string.find(dicom.ImageType, 'DERIVED') == nil\n"
        "end\n"
    )
    site = make_site()
    site.stack.orthanc_options["LuaScripts"] = [str(script)]
    site.stack.api_variables |= {
        "HALFSCAN_API_MAX_ATTEMPTS": "2",
        "HALFSCAN_API_BACKOFF_S": "0.1",
    }
    site.start()
    site.send(fast_series)
    row = site.finished(uid_of(fast_series))
    assert (row["status"], row["attempt"]) == ("dead", 2)
    assert "FilteredOut" in row["error"]
    dead = site.ledger.rows(status="dead")
    assert [item["id"] for item in dead["items"]] == [row["id"]]
    # Nothing half done is left behind.
    assert site.derived_series_count() == 0

    site.stop("orthanc")
    del site.stack.orthanc_options["LuaScripts"]
    site.start("orthanc")
    site.ledger.retry(row["id"])
    row = site.finished(uid_of(fast_series))
    assert (row["status"], row["attempt"]) == ("done", 1)


def _ct(dataset: Dataset, _: int) -> None:
    dataset.Modality = "CT"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage


def _raw(dataset: Dataset, _: int) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RawDataStorage
    del dataset.PixelData, dataset.Rows, dataset.Columns


def _no_pixels(dataset: Dataset, _: int) -> None:
    del dataset.PixelData


def _secondary_capture(dataset: Dataset, _: int) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage


def _mixed_orientation(dataset: Dataset, number: int) -> None:
    dataset.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][number % 2]


def _localizer(dataset: Dataset, _: int) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _mixed_sizes(dataset: Dataset, number: int) -> None:
    if number == 0:
        dataset.Rows -= 2
        dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]


def _cut_pixels(dataset: Dataset, _: int) -> None:
    dataset.PixelData = dataset.PixelData[:1000]


def _video(dataset: Dataset, _: int) -> None:
    """Say MPEG-4, for which there is no decoder."""
    dataset.PixelData = encapsulate([bytes(100)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41


BROKEN = {
    "not_mr": _ct,
    "not_an_image": _secondary_capture,
    "no_pixels": _no_pixels,
    "mixed_orientation": _mixed_orientation,
    "localizer": _localizer,
    "mixed_sizes": _mixed_sizes,
    "damaged_pixels": _cut_pixels,
    "unsupported_transfer_syntax": _video,
}


def test_bad_series_are_skipped_with_their_reason_and_block_nothing(
    site: Site, fast_series: list[Path], variant: Variant
) -> None:
    expected = {}
    for code, change in BROKEN.items():
        files = variant(fast_series, change)
        for file in files:
            assert site.upload(file.read_bytes()).is_success, code
        expected[uid_of(files)] = code
    single = variant(fast_series[:1])
    site.send(single)
    expected[uid_of(single)] = "single_slice"
    raw = variant(fast_series, _raw)
    site.send(raw)
    expected[uid_of(raw)] = "not_an_image"
    site.send(fast_series)

    assert site.finished(uid_of(fast_series))["status"] == "done"
    for uid, code in expected.items():
        row = site.finished(uid)
        assert (row["status"], row["reason_code"]) == ("skipped", code), row
        assert len(row["reason"]) > 10
        assert code in site.log("worker")
    assert "Traceback" not in site.log("worker") + site.log("api")


def test_a_truncated_file_does_not_block_the_next_series(
    site: Site, fast_series: list[Path], variant: Variant
) -> None:
    """Orthanc takes a file that ends in the middle of its pixels, or refuses it: both are fine."""
    cut = variant(fast_series)
    taken = []
    for file in cut:
        content = file.read_bytes()
        taken.append(site.upload(content[: len(content) * 2 // 3]).is_success)
    site.upload(b"DICM" * 100)
    site.send(fast_series)
    assert site.finished(uid_of(fast_series))["status"] == "done"
    if any(taken):
        row = site.finished(uid_of(cut))
        assert (row["status"], row["reason_code"]) == ("skipped", "damaged_pixels"), row
    assert "Traceback" not in site.log("worker")


def halfscan(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HALFSCAN_")}
    return subprocess.run(
        [sys.executable, "-m", "halfscan_plugin.cli", *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_weights_whose_sha256_differs_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    file = weights / find_model().file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    done = halfscan("worker", HALFSCAN_WORKER_TOKEN="t", HALFSCAN_WORKER_WEIGHTS=str(weights))
    assert done.returncode == 2
    assert "sha256" in done.stderr.lower()
    assert file.name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        ("worker", {}, "HALFSCAN_WORKER_TOKEN"),
        ("worker", {"HALFSCAN_WORKER_TOKN": "t"}, "did you mean HALFSCAN_WORKER_TOKEN"),
        ("worker", {"HALFSCAN_WORKER_TOKEN": "t", "HALFSCAN_WORKER_STRENGTH": "2"}, "STRENGTH"),
        ("serve", {"HALFSCAN_API_PROT": "1"}, "HALFSCAN_API_PORT"),
        ("serve", {"HALFSCAN_API_PORT": "many"}, "PORT"),
        ("serve", {"HALFSCAN_SOMETHING": "1"}, "HALFSCAN_SOMETHING"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(
    command: str, variables: dict[str, str], message: str
) -> None:
    done = halfscan(command, **variables)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("programs", [("api", "orthanc"), ("api",)])
def test_a_wrong_token_ends_the_worker_with_one_line(
    make_site: MakeSite, programs: tuple[str, ...]
) -> None:
    """An archive that is away at the start does not hide it."""
    site = make_site()
    site.start(*programs)
    done = halfscan(
        "worker",
        HALFSCAN_WORKER_TOKEN="not-a-token",
        HALFSCAN_WORKER_API_URL=site.stack.api_url,
        HALFSCAN_WORKER_ORTHANC_URL=site.stack.orthanc_url,
    )
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "look at the worker's token: HALFSCAN_WORKER_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"ApiUrl": "ftp://x", "Token": "t"}, "ApiUrl"),
        ({"ApiUrl": "http://127.0.0.1:1", "Token": "t", "Tokens": "t"}, "Halfscan.Tokens"),
        ({"ApiUrl": "http://127.0.0.1:1"}, "exactly one of TokenFile and Token"),
    ],
)
def test_wrong_plugin_settings_leave_the_archive_running(
    make_site: MakeSite, section: dict[str, Any], message: str
) -> None:
    site = make_site()
    site.stack.plugin_section = section
    site.start("orthanc")
    assert httpx.get(f"{site.stack.orthanc_url}/system").is_success
    state = httpx.get(f"{site.stack.orthanc_url}/halfscan/status").json()
    assert state["enabled"] is False
    assert message in state["error"]
    assert message in site.log("orthanc")


def test_logs_carry_no_patient_data(site: Site, fast_series: list[Path], variant: Variant) -> None:
    def named(dataset: Dataset, _: int) -> None:
        dataset.PatientName = "Zebrafinch^Quartz"
        dataset.PatientID = "PSEUDO-778899"

    files = variant(fast_series, named)
    site.send(files)
    row = site.finished(uid_of(files))
    text = json.dumps(row) + "".join(site.log(name) for name in ("api", "worker", "orthanc"))
    assert "Zebrafinch" not in text
    assert "PSEUDO-778899" not in text


def test_a_wrong_token_shows_before_the_first_series_comes(make_site: MakeSite) -> None:
    site = make_site(plugin_options={"TokenFile": "/nowhere/token"})
    site.start("api", "orthanc")

    def error() -> Any:
        return httpx.get(f"{site.stack.orthanc_url}/halfscan/status").json()["last_error"]

    assert "token file" in site.wait_for(error)


SITE_SCRIPT = """
import sys
sys.path.append({package!r})
import orthanc
from halfscan_plugin.plugin import register

def on_change(change_type, level, resource_id):
    if change_type == orthanc.ChangeType.STABLE_SERIES:
        orthanc.LogWarning("the site's own callback")

{calls}
"""


@pytest.mark.parametrize("ours_works", [True, False])
def test_an_archive_with_a_script_of_its_own(
    make_site: MakeSite, fast_series: list[Path], *, ours_works: bool
) -> None:
    """Orthanc takes one callback: the site's is called by ours, or ours is off; it runs anyway."""
    calls = "register(orthanc, on_change=on_change)"
    if not ours_works:
        calls = "orthanc.RegisterOnChangeCallback(on_change)\nregister(orthanc)"
    site = make_site()
    script = site.stack.folder / "site_script.py"
    package = str(Path(stack.__file__).parents[1])
    script.write_text(SITE_SCRIPT.format(package=package, calls=calls))
    site.stack.orthanc_options["PythonScript"] = str(script)
    site.start()
    site.send(fast_series)
    site.wait_for(lambda: "the site's own callback" in site.log("orthanc"))
    if ours_works:
        assert site.finished(uid_of(fast_series))["status"] == "done"
    else:
        assert "register(orthanc, on_change=...)" in site.log("orthanc")
        assert httpx.get(f"{site.stack.orthanc_url}/system").is_success
        assert httpx.get(f"{site.stack.orthanc_url}/halfscan/status").json()["enabled"] is False
