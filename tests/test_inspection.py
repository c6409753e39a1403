"""What `inspect` says of a series: the same of files and of the archive, and nothing is done."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import RawDataStorage

from archive_fixtures import Site
from dicom_maker import add_siemens_classic, mr_series, save
from halfscan_models.registry import WEIGHTS, find_model
from halfscan_plugin.errors import BadInput
from halfscan_plugin.files import read_folder
from halfscan_plugin.inspection import (
    Defaults,
    inspect_folder,
    inspect_series,
    reconstruct_folder,
)
from halfscan_plugin.planes import PLANES
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.reports import print_inspection, print_reconstruction
from halfscan_plugin.rules import DEFAULT_RULES
from halfscan_plugin.rules_file import parse_rules

KNEE = """
[[rule]]
name = "no knees"
action = "skip"
reason = "the network has not been tried on knees"
when.BodyPartExamined = "KNEE"
"""


def fast(slices: int = 4, **attributes: Any) -> list[Dataset]:
    series = mr_series(slices, **{"NumberOfAverages": 1, **attributes})
    return [add_siemens_classic(dataset, "p2") for dataset in series]


def test_the_report_of_a_series() -> None:
    report = inspect_series(fast(orientation="sagittal", ManufacturerModelName="Aera"))
    assert report["decision"] == "reconstruct"
    assert report["rule"] == "default: accelerated"
    assert (report["model"], report["strength"]) == (find_model().name, 1.0)
    assert report["derived_series_description"] == "t2_tse_sag HS"
    assert report["tried"][-1] == {"rule": "default: accelerated", "failure": None}
    # All but the last one, which takes what is left.
    assert len(report["tried"]) == len(DEFAULT_RULES.all) - 1
    assert report["stacks"] == [
        {"slices": 4, "plane": "sagittal", "spacing_mm": 4.0, "labels": {}, "warnings": []}
    ]
    assert report["manufacturer_model_name"] == "Aera"
    assert json.loads(json.dumps(report)) == report


def test_a_report_names_what_will_be_used(tmp_path: Path) -> None:
    """The rule's own settings, or else the worker's; none where nothing is made."""
    names = ("model", "strength", "derived_series_description")
    defaults = Defaults("dbpn-s", 0.25)
    report = inspect_series(fast(), defaults=defaults)
    assert [report[name] for name in names] == ["dbpn-s", 0.25, "t2_tse_sag HS"]
    rule = '[[rule]]\nname = "x"\naction = "reconstruct"\nstrength = 0\nseries_description = "y"'
    report = inspect_series(fast(), parse_rules(rule, "x", models=[]), defaults)
    assert [report[name] for name in names] == ["dbpn-s", 0.0, "y"]
    report = inspect_series(fast(Modality="CT"), defaults=defaults)
    assert [report[name] for name in names] == [None, None, None]
    with pytest.raises(BadInput, match="no model is called 'nobody'"):
        inspect_series(fast(), defaults=Defaults("nobody"))
    save(fast(rows=24, columns=24), tmp_path / "in")
    folder = read_folder([tmp_path / "in"])
    (told,) = inspect_folder(folder)
    (made,) = reconstruct_folder(folder, tmp_path / "out", Engine(threads=1))
    derived = dcmread(Path(made["folder"]) / made["files"][0])
    assert derived.SeriesDescription == told["derived_series_description"]
    assert (made["model_name"], made["strength"]) == (told["model"], told["strength"])


def test_raw_data_beside_the_images_is_told(tmp_path: Path) -> None:
    raw = mr_series(1, name="raw")[0]
    raw.SOPClassUID = RawDataStorage
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        delattr(raw, keyword)
    for images in (fast(), fast(NumberOfAverages=2)):
        report = inspect_series([raw, *images])
        assert report["warnings"] == ["set aside: 1 x Raw Data Storage, no image"]
        assert [stack["slices"] for stack in report["stacks"]] == [4]


def test_a_reason_names_the_files(tmp_path: Path) -> None:
    series = fast(8)
    del series[3]
    files = save(series, tmp_path)
    (report,) = inspect_folder(read_folder([tmp_path]))
    assert report["reason_code"] == "missing_slices"
    for index in (2, 3):
        assert f"{series[index].SOPInstanceUID} (file {files[index].name})" in report["reason"]


def test_what_is_skipped_always_tried_no_rule() -> None:
    report = inspect_series(fast(Modality="CT"))
    assert (report["decision"], report["rule"], report["tried"]) == ("skip", "always: not_mr", [])


def test_volumes_are_told_of_what_is_skipped_too() -> None:
    report = inspect_series(mr_series(3, NumberOfAverages=2))
    assert report["decision"] == "skip"
    assert [stack["slices"] for stack in report["stacks"]] == [3]


def test_headers_that_form_no_volume_have_none() -> None:
    series = fast(8)
    del series[3]
    report = inspect_series(series)
    assert (report["decision"], report["reason_code"]) == ("skip", "missing_slices")
    assert report["stacks"] == []
    assert report["rule"] == "default: accelerated"


def test_echoes_are_told_apart() -> None:
    series = [
        *fast(3, EchoTime="10", EchoNumbers=1),
        *fast(3, name="b", EchoTime="90", EchoNumbers=2),
    ]
    report = inspect_series(series)
    assert [stack["slices"] for stack in report["stacks"]] == [3, 3]
    assert all(stack["labels"] for stack in report["stacks"])


@given(order=st.permutations(range(4)))
def test_the_order_of_the_headers_does_not_matter(order: list[int]) -> None:
    series = fast()
    rules = parse_rules(KNEE, "x", models=[])
    assert inspect_series([series[i] for i in order], rules) == inspect_series(series, rules)


def is_dicom(file: Path) -> bool:
    return file.is_file() and file.read_bytes()[128:132] == b"DICM"


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_series_have_reports(cases: Path) -> None:
    for folder in sorted(path for path in cases.iterdir() if path.is_dir()):
        files = [file for file in sorted(folder.rglob("*")) if is_dicom(file)]
        if not files:
            continue
        headers = [dcmread(file, stop_before_pixels=True) for file in files]
        report = inspect_series(headers)
        assert json.dumps(report), folder.name
        for stack in report["stacks"]:
            assert stack["plane"] in {*PLANES, None}, folder.name
        if report["decision"] == "reconstruct":
            assert sum(s["slices"] for s in report["stacks"]) >= len(headers), folder.name


# --- for people -------------------------------------------------------------------------------


def test_a_report_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    report = inspect_series(fast(SeriesDescription="a\x1b[2Jb"))
    report["warnings"] = ["a gap of 8 mm between slices 3 and 4"]
    print_inspection([report], explain=True)
    written = capsys.readouterr().out
    assert written.startswith(f"reconstruct  {report['series_instance_uid']}\n")
    for expected in (
        r"series +SIEMENS, a\?\[2Jb",
        r"images +4 objects; 4 slices transverse every 4 mm",
        r"rule +default: accelerated",
        r"reason +accelerated, .* \[accelerated\]",
        r"warning +a gap of 8 mm between slices 3 and 4",
        r"tried +default: accelerated: every condition holds: it decides",
        r"tried +default: averaged: averages >= 2: no, it is 1",
        r"tag +name +value +says",
    ):
        assert re.search(expected, written), expected
    assert "\x1b" not in written


def test_many_volumes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    series = [
        dataset
        for time in range(1, 41)
        for dataset in fast(3, name=f"t{time}", TemporalPositionIdentifier=time)
    ]
    print_inspection([inspect_series(series)], explain=False)
    written = capsys.readouterr().out
    by = "TemporalPositionIdentifier 1, 2, 3, 4, ..., 40"
    assert f"120 objects; 40 volumes of 3 slices transverse every 4 mm, {by}" in written


def test_what_no_rule_saw_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    print_inspection([inspect_series(fast(1, Modality="CT"))], explain=True)
    written = capsys.readouterr().out
    assert re.search(r"images +1 object; 1 slice transverse ", written)
    assert re.search(r"tried +no rule: such a series is skipped before any", written)


def test_brackets_in_a_header_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    report = inspect_series(fast(SeriesDescription="[bold]t2[/bold] :smile:"))
    print_inspection([report], explain=False)
    assert "[bold]t2[/bold] :smile:" in capsys.readouterr().out


def test_a_reconstruction_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "series_instance_uid": "1.2",
        "status": "failed",
        "rule": "spine",
        "reason_code": "reconstruction_failed",
        "reason": "odd",
        "forced": False,
        "warnings": ["one", "two"],
    }
    print_reconstruction([report])
    written = capsys.readouterr().out
    assert written.startswith("failed       1.2\n")
    assert re.search(r"reason +odd \[reconstruction_failed\]", written)
    assert len(re.findall(r"warning +(?:one|two)", written)) == 2


# --- without an archive -----------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_fails_the_series_that_asks_for_it(tmp_path: Path) -> None:
    listed = json.loads((WEIGHTS / "models.json").read_text(encoding="utf-8"))
    (model,) = listed["models"]
    shutil.copy(WEIGHTS / model["file"], tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    listed["models"] = [model, {**model, "name": "broken", "file": "broken.onnx"}]
    (tmp_path / "models.json").write_text(json.dumps(listed), encoding="utf-8")
    rules = parse_rules(
        '[[rule]]\nname = "x"\naction = "reconstruct"\nmodel = "broken"\n'
        'when.BodyPartExamined = "KNEE"',
        "rules.toml",
        models=["broken"],
    )
    size = {"rows": 24, "columns": 24}
    save(fast(3, BodyPartExamined="KNEE", **size), tmp_path / "in" / "a")
    save(fast(3, name="other", SeriesNumber=6, **size), tmp_path / "in" / "b")
    folder = read_folder([tmp_path / "in"])
    engine = Engine(threads=1, weights=tmp_path)
    first, second = reconstruct_folder(folder, tmp_path / "out", engine, rules=rules)
    assert (first["status"], first["reason_code"]) == ("failed", "reconstruction_failed")
    assert "are not those of model 'broken'" in first["reason"]
    assert (first["rule"], second["rule"]) == ("x", "default: accelerated")
    assert second["status"] == "done"


# --- in the archive ---------------------------------------------------------------------------


def halfscan(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HALFSCAN_")}
    return subprocess.run(
        [sys.executable, "-m", "halfscan_plugin.cli", *map(str, arguments)],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def archive(make_site: Callable[..., Site]) -> Site:
    """Give an archive on which no worker runs."""
    running = make_site()
    running.start("api", "orthanc")
    return running


@pytest.mark.archive
def test_the_archive_is_told_as_the_files_are(archive: Site, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(KNEE)
    chosen = {
        "spine": fast(5, BodyPartExamined="LSPINE", orientation="sagittal"),
        "knee": fast(3, name="knee", BodyPartExamined="KNEE", SeriesNumber=6),
        "derived": fast(3, name="derived", ImageType=["DERIVED", "PRIMARY"], SeriesNumber=7),
        "gap": fast(8, name="gap", SeriesNumber=8)[:3] + fast(8, name="gap", SeriesNumber=8)[4:],
    }
    files = [file for name, series in chosen.items() for file in save(series, tmp_path / name)]
    archive.send(files)
    uids = [str(series[0].SeriesInstanceUID) for series in chosen.values()]
    before = httpx.get(f"{archive.stack.orthanc_url}/statistics").json()
    options = [option for uid in uids for option in ("--series", uid)]
    settings = {
        "HALFSCAN_WORKER_ORTHANC_URL": archive.stack.orthanc_url,
        "HALFSCAN_WORKER_RULES": str(rules),
    }
    done = halfscan("inspect", *options, "--json", **settings)
    assert done.returncode == 0, done.stderr
    of_archive = json.loads(done.stdout)
    of_files = json.loads(
        halfscan(
            "inspect", *(tmp_path / name for name in chosen), "--rules", rules, "--json"
        ).stdout
    )
    by_uid = {report["series_instance_uid"]: report for report in of_files}
    assert [report["series_instance_uid"] for report in of_archive] == uids
    for report in of_archive:
        twin = by_uid[report["series_instance_uid"]]
        assert report == {**twin, "reason": re.sub(r" \(file [^)]*\)", "", twin["reason"])}
    assert [report["rule"] for report in of_archive] == [
        "default: accelerated",
        "no knees",
        "always: derived",
        "default: accelerated",
    ]
    assert of_archive[3]["reason_code"] == "missing_slices"
    assert httpx.get(f"{archive.stack.orthanc_url}/statistics").json() == before
    done = halfscan("inspect", "--series", "1.2.3", "--orthanc", archive.stack.orthanc_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "halfscan: the archive has no series 1.2.3\n"


def test_an_archive_that_is_away_is_one_line() -> None:
    done = halfscan("inspect", "--series", "1.2.3", "--orthanc", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "Orthanc at http://127.0.0.1:1 cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
