"""The command line: lazy, one line for what is wrong, JSON as the public contract says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import MPEG2MPML, ExplicitVRLittleEndian, RLELossless

from dicom_maker import (
    add_siemens_classic,
    add_siemens_xa_enhanced,
    enhanced_object,
    mr_object,
    mr_series,
    save,
    set_raw,
)
from halfscan_plugin.cli import COMMANDS, main

# What each command must not import: a worker no web server, help nothing at all.
HEAVY = {
    "alembic",
    "apiflask",
    "flask",
    "httpx",
    "numpy",
    "onnxruntime",
    "pydantic",
    "pydicom",
    "pynetdicom",
    "pyorthanc",
    "requests",
    "scipy",
    "sqlalchemy",
}
CONTRACT = {
    "series_instance_uid",
    "manufacturer",
    "series_description",
    "accelerated",
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
    "partial_fourier",
    "deep_learning",
    "decision",
    "reason",
    "evidence",
}


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HALFSCAN_")}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Halfscan = Callable[..., Done]


@pytest.fixture
def halfscan(capsys: pytest.CaptureFixture[str]) -> Halfscan:
    """Run a command in this process: as a user does, but without the start of Python."""

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, written.out, written.err)

    return run


def as_program(*arguments: str | Path) -> Done:
    """Run a command as a program of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "halfscan_plugin.cli", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def imported(code: str) -> set[str]:
    """Run code in a fresh interpreter and give the heavy modules that it imported."""
    script = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "MODULES"
    return HEAVY.intersection(name.split(".")[0] for name in last)


def run(*arguments: str) -> str:
    return (
        "from halfscan_plugin.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "a folder with spaces"
    place.mkdir()
    return place


def fast(slices: int = 4, **attributes: Any) -> list[Any]:
    series = mr_series(slices, **{"rows": 24, "columns": 24, "NumberOfAverages": 1, **attributes})
    return [add_siemens_classic(dataset, "p2") for dataset in series]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(run(*arguments)) == set()


def test_help_lists_every_command(halfscan: Halfscan) -> None:
    done = halfscan("--help")
    assert done.returncode == 0
    for name, (_, line) in COMMANDS.items():
        assert name in done.stdout
        assert line[:30] in done.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(halfscan: Halfscan, command: str) -> None:
    done = halfscan(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: halfscan {command}")


@pytest.mark.parametrize("command", ["worker", "inspect", "reconstruct"])
def test_the_archive_side_imports_no_web_server(command: str) -> None:
    found = imported(run(command, "--help"))
    assert found.isdisjoint({"flask", "apiflask", "sqlalchemy", "alembic", "onnxruntime"})


def test_the_api_side_imports_no_inference() -> None:
    found = imported(run("serve", "--help"))
    assert found.isdisjoint({"onnxruntime", "pynetdicom"})


def test_inspect_imports_no_onnx_runtime(folder: Path) -> None:
    save(fast(), folder)
    found = imported(run("inspect", str(folder)))
    assert found.isdisjoint({"onnxruntime", "flask", "sqlalchemy", "pyorthanc", "scipy"})


def test_the_worker_imports_no_web_server_when_it_works() -> None:
    found = imported(
        "import halfscan_plugin.worker, halfscan_plugin.commands, halfscan_plugin.logs"
    )
    assert found.isdisjoint({"flask", "apiflask", "sqlalchemy", "alembic"})


def test_the_plugin_imports_the_standard_library_alone() -> None:
    assert imported("import halfscan_plugin.plugin") == set()


def test_an_unknown_command_is_named(halfscan: Halfscan) -> None:
    done = halfscan("inspekt")
    assert done.returncode == 2
    assert "inspekt" in done.stderr


# --- inspect ----------------------------------------------------------------------------------


def inspected(halfscan: Halfscan, *paths: Path) -> list[dict[str, Any]]:
    done = halfscan("inspect", *paths, "--json")
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def test_inspect_keeps_the_public_contract(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "one")
    slow = mr_series(3, name="slow", NumberOfAverages=2, PartialFourier="NO", SeriesNumber=6)
    save([add_siemens_classic(dataset, None) for dataset in slow], folder / "two")
    save([add_siemens_xa_enhanced(enhanced_object(), "p2 s3")], folder / "three")
    save(mr_series(2, name="unknown", Manufacturer=None, SeriesDescription=None), folder / "four")
    reports = {r["series_instance_uid"]: r for r in inspected(halfscan, folder)}
    assert len(reports) == 4
    for report in reports.values():
        assert set(report) >= CONTRACT
        assert report["decision"] in {"reconstruct", "skip"}
        assert report["accelerated"] in {True, False, None}
        for item in report["evidence"]:
            assert set(item) == {"tag", "name", "value", "says"}
            assert all(isinstance(value, str) for value in item.values())
    unknown = reports[mr_object(name="unknown").SeriesInstanceUID]
    assert (unknown["manufacturer"], unknown["series_description"]) == (None, None)
    assert (unknown["accelerated"], unknown["decision"]) == (None, "skip")
    first = reports[fast()[0].SeriesInstanceUID]
    assert (first["accelerated"], first["decision"], first["in_plane_factor"]) == (
        True,
        "reconstruct",
        2.0,
    )
    second = reports[slow[0].SeriesInstanceUID]
    assert (second["accelerated"], second["decision"], second["averages"]) == (False, "skip", 2.0)
    third = reports[enhanced_object().SeriesInstanceUID]
    assert (third["multiband_factor"], third["deep_learning"]) == (3.0, False)


def test_inspect_for_people(folder: Path) -> None:
    save(fast(), folder)
    done = as_program("inspect", folder)
    assert done.returncode == 0
    assert done.stdout.startswith("reconstruct  2.25.")
    assert re.search(r"\(0051,1011\)  \[SIEMENS MR HEADER\] xx11  p2 +total factor 2", done.stdout)
    assert re.search(r"rule +default: accelerated\b", done.stdout)
    assert "[accelerated]" in done.stdout
    assert "4 slices transverse" in done.stdout
    assert "tried" not in done.stdout
    assert done.stderr == ""


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_inspect_does_not_depend_on_the_order_of_files(halfscan: Halfscan, folder: Path) -> None:
    series = fast()
    set_raw(series[3], "InstanceNumber", "IS", b"x ")
    files = save(series, folder)
    assert inspected(halfscan, *files) == inspected(halfscan, *files[::-1])


def test_a_header_cannot_move_the_cursor_of_a_terminal(halfscan: Halfscan, folder: Path) -> None:
    save(fast(SeriesDescription="a\x1b[2Jb"), folder)
    done = halfscan("inspect", folder)
    assert "\x1b" not in done.stdout
    assert "a?[2Jb" in done.stdout


def test_garbage_among_the_files_is_told_and_does_no_harm(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder)
    for number in range(7):
        (folder / f"note{number}.txt").write_text("hello")
    done = halfscan("inspect", folder, "--json")
    assert len(json.loads(done.stdout)) == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert "note0.txt: not a DICOM file" in lines[0]
    assert lines[-1] == "ignored: 2 further files"


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_values_that_break_rules_are_not_printed_as_warnings(folder: Path) -> None:
    series = fast()
    for dataset in series:
        set_raw(dataset, "PatientBirthDate", "DA", b"born in May ")
    save(series, folder / "in")
    done = as_program("reconstruct", folder / "in", folder / "out")
    assert done.returncode == 0
    assert "born" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["inspect"], ["reconstruct", "OUT"]])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: place / "nothing here", "does not exist"),
        (lambda place: place, "no DICOM series in"),
        (lambda place: place / "note.txt", "no DICOM series in"),
        (lambda place: place / ("x" * 300), "long"),
    ],
)
def test_wrong_paths_give_one_line(
    halfscan: Halfscan,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    make: Callable[[Path], Path],
    message: str,
) -> None:
    (folder / "note.txt").write_text("hello")
    name, *rest = command
    monkeypatch.chdir(folder)
    done = halfscan(name, make(folder), *rest)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("ignored: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("halfscan: ")
    assert message in lines[0]
    assert not (folder / "OUT").exists()


def test_missing_arguments_are_named(halfscan: Halfscan) -> None:
    assert halfscan("inspect").returncode == 2
    done = halfscan("reconstruct", "in")
    assert done.returncode == 2
    assert "OUT" in done.stderr


KNEE = """
[[rule]]
name = "no knees"
action = "skip"
reason = "the network has not been tried on knees"
when.BodyPartExamined = "KNEE"

[[rule]]
name = "soft"
action = "reconstruct"
strength = 0
series_description = "{SeriesDescription} soft"
when = { averages = "< 2", BodyPartExamined = "LSPINE" }
"""


@pytest.fixture
def rules(folder: Path) -> Path:
    file = folder / "rules.toml"
    file.write_text(KNEE)
    return file


def spine_and_knee(place: Path) -> tuple[str, str]:
    spine = fast(BodyPartExamined="LSPINE")
    knee = fast(name="knee", BodyPartExamined="KNEE", SeriesNumber=6)
    save(spine, place)
    save(knee, place)
    return spine[0].SeriesInstanceUID, knee[0].SeriesInstanceUID


def test_inspect_says_which_rule_of_a_file_decides(
    halfscan: Halfscan, folder: Path, rules: Path
) -> None:
    spine, knee = spine_and_knee(folder / "in")
    done = halfscan("inspect", folder / "in", "--rules", rules, "--json")
    reports = {report["series_instance_uid"]: report for report in json.loads(done.stdout)}
    assert reports[spine]["rule"] == "soft"
    assert reports[spine]["decision"] == "reconstruct"
    assert reports[spine]["strength"] == 0
    assert reports[spine]["derived_series_description"] == "t2_tse_sag soft"
    assert reports[spine]["tried"] == [
        {"rule": "no knees", "failure": "BodyPartExamined is 'KNEE': no, it is LSPINE"},
        {"rule": "soft", "failure": None},
    ]
    assert reports[knee]["rule"] == "no knees"
    assert (reports[knee]["decision"], reports[knee]["reason_code"]) == ("skip", "by_rule")
    assert "not been tried on knees" in reports[knee]["reason"]


def test_explain_shows_every_rule_that_was_tried(
    halfscan: Halfscan, folder: Path, rules: Path
) -> None:
    spine_and_knee(folder / "in")
    done = halfscan("inspect", folder / "in", "--rules", rules, "--explain")
    assert re.search(r"tried +no knees: BodyPartExamined is 'KNEE': no, it is LSPINE", done.stdout)
    assert re.search(r"tried +soft: every condition holds: it decides", done.stdout)
    assert re.search(r"settings +model dbpn-s, strength 0, called 't2_tse_sag soft'", done.stdout)


def test_inspect_takes_the_rules_of_the_worker(
    halfscan: Halfscan, folder: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, knee = spine_and_knee(folder / "in")
    monkeypatch.setenv("HALFSCAN_WORKER_RULES", str(rules))
    reports = {r["series_instance_uid"]: r for r in inspected(halfscan, folder / "in")}
    assert reports[knee]["rule"] == "no knees"


@pytest.mark.parametrize("command", [["inspect", "IN"], ["reconstruct", "IN", "OUT"]])
def test_bad_rules_stop_the_command(
    halfscan: Halfscan, folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    save(fast(), folder / "IN")
    (folder / "rules.toml").write_text(KNEE.replace('"< 2"', '"few"'))
    monkeypatch.chdir(folder)
    done = halfscan(*command, "--rules", "rules.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "halfscan: rules.toml, line 13, rule 'soft': averages must be a comparison such as "
        "'< 2' or '>= 2 and < 4', a number or 'unknown', got 'few'\n"
    )
    assert not (folder / "OUT").exists()


def test_bad_rules_stop_the_worker(
    halfscan: Halfscan, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFSCAN_WORKER_TOKEN", "t")
    done = halfscan("worker", "--rules", folder / "missing.toml")
    assert done.returncode == 2
    assert "missing.toml' cannot be read: No such file or directory" in done.stderr
    monkeypatch.setenv("HALFSCAN_WORKER_RULES", str(folder))
    done = halfscan("worker")
    assert done.returncode == 2
    assert "cannot be read: Is a directory" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either PATHS or --series UID"),
        (["IN", "--series", "1.2"], "give either PATHS or --series UID"),
        (["IN", "--orthanc", "http://127.0.0.1:1"], "--orthanc needs --series UID"),
        (["--series", "1.2", "--orthanc", "nowhere"], "HALFSCAN_WORKER_ORTHANC_URL"),
    ],
)
def test_inspect_looks_at_folders_or_at_the_archive(
    halfscan: Halfscan, arguments: list[str], message: str
) -> None:
    done = halfscan("inspect", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- reconstruct ------------------------------------------------------------------------------


def reconstructed(halfscan: Halfscan, *arguments: str | Path) -> list[dict[str, Any]]:
    done = halfscan("reconstruct", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def contents(place: Path) -> dict[str, bytes]:
    return {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("*") if f.is_file()}


def test_reconstruct_from_folder_to_folder(halfscan: Halfscan, folder: Path) -> None:
    series = fast()
    save(series, folder / "in" / "deep")
    save(mr_series(2, name="other", SeriesNumber=1005), folder / "in")
    target = folder / "out" / "new"
    reports = {r["series_instance_uid"]: r for r in reconstructed(halfscan, folder / "in", target)}
    other = reports[mr_series(2, name="other")[0].SeriesInstanceUID]
    assert (other["status"], other["reason_code"]) == ("skipped", "acceleration_unknown")
    report = reports[series[0].SeriesInstanceUID]
    assert report["status"] == "done"
    assert set(report["timings_s"]) == {"decode", "reconstruct", "guard", "derive"}
    assert len(report["model_sha256"]) == 64
    place = Path(report["folder"])
    assert place == target / report["derived_series_instance_uid"]
    assert sorted(f.name for f in place.iterdir()) == report["files"]
    assert [path.name for path in target.iterdir()] == [place.name], "nothing else is left there"
    for source, name in zip(series, report["files"], strict=True):
        derived = dcmread(place / name)
        assert derived.SeriesInstanceUID == report["derived_series_instance_uid"]
        assert derived.ImagePositionPatient == source.ImagePositionPatient
        assert derived.SeriesNumber == 1006, "1005 is taken"
        assert derived.pixel_array.shape == source.pixel_array.shape
        assert (derived.pixel_array != source.pixel_array).any()


def test_a_rule_gives_strength_and_name(halfscan: Halfscan, folder: Path, rules: Path) -> None:
    spine, knee = spine_and_knee(folder / "in")
    reports = {
        report["series_instance_uid"]: report
        for report in reconstructed(halfscan, folder / "in", folder / "out", "--rules", rules)
    }
    assert (reports[knee]["status"], reports[knee]["rule"]) == ("skipped", "no knees")
    report = reports[spine]
    assert (report["status"], report["rule"], report["strength"]) == ("done", "soft", 0)
    derived = dcmread(Path(report["folder"]) / report["files"][0])
    assert derived.SeriesDescription == "t2_tse_sag soft"
    assert "strength 0" in derived.DerivationDescription


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ([], ExplicitVRLittleEndian),
        (["--transfer-syntax", "uncompressed"], ExplicitVRLittleEndian),
        (["--transfer-syntax", "source"], RLELossless),
    ],
)
def test_the_transfer_syntax_of_what_is_written(
    halfscan: Halfscan, folder: Path, option: list[str], syntax: str
) -> None:
    series = fast()
    for dataset in series:
        dataset.compress(RLELossless, generate_instance_uid=False)
    save(series, folder / "in")
    (report,) = reconstructed(halfscan, folder / "in", folder / "out", *option)
    for name in report["files"]:
        derived = dcmread(Path(report["folder"]) / name)
        assert derived.file_meta.TransferSyntaxUID == syntax
        assert derived.pixel_array.shape == (24, 24)


def test_a_gap_between_slices_is_told(halfscan: Halfscan, folder: Path) -> None:
    series = fast(6)
    for dataset in series[3:]:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 1]
    save(series, folder / "in")
    (report,) = inspected(halfscan, folder / "in")
    (warning,) = report["warnings"]
    done = halfscan("inspect", folder / "in")
    assert re.search(rf"warning +{re.escape(warning)}", done.stdout)
    (made,) = reconstructed(halfscan, folder / "in", folder / "out")
    # The pixels are noise alone, which no model was trained on.
    outside, gap = made["warnings"]
    assert outside.startswith("outside what model")
    assert gap == warning
    shown = halfscan("reconstruct", folder / "in", folder / "out")
    assert re.search(rf"warning +{re.escape(warning)}", shown.stdout)


def test_twice_gives_the_same_files(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "in")
    reconstructed(halfscan, folder / "in", folder / "out")
    once = contents(folder / "out")
    reconstructed(halfscan, folder / "in", folder / "out")
    assert contents(folder / "out") == once


def test_a_result_is_not_reconstructed_again(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder)
    reconstructed(halfscan, folder, folder / "out")
    once = contents(folder)
    reports = reconstructed(halfscan, folder, folder / "out", "--force")
    assert sorted(report["status"] for report in reports) == ["done", "skipped"]
    assert {r["reason_code"] for r in reports if r["status"] == "skipped"} == {"halfscan_output"}
    assert contents(folder) == once


def test_force_overrules_the_rules_where_it_is_possible(halfscan: Halfscan, folder: Path) -> None:
    save(mr_series(3, name="slow", rows=24, columns=24), folder / "in")
    save(mr_series(3, name="ct", Modality="CT", SeriesNumber=6), folder / "in")
    statuses = {
        r["reason_code"]: r["status"]
        for r in reconstructed(halfscan, folder / "in", folder / "out")
    }
    assert statuses == {"acceleration_unknown": "skipped", "not_mr": "skipped"}
    assert not (folder / "out").exists()
    forced = reconstructed(halfscan, folder / "in", folder / "out", "--force")
    assert {r["reason_code"]: r["status"] for r in forced} == {
        "acceleration_unknown": "done",
        "not_mr": "skipped",
    }
    (made,) = (report for report in forced if report["status"] == "done")
    assert made["forced"] is True
    derived = dcmread(Path(made["folder"]) / made["files"][0])
    said = "On demand, against the decision to skip it (acceleration_unknown)"
    assert said in derived.DerivationDescription


def test_strength_zero_gives_the_source_back(halfscan: Halfscan, folder: Path) -> None:
    series = fast()
    save(series, folder / "in")
    (report,) = reconstructed(halfscan, folder / "in", folder / "out", "--strength", "0")
    for source, name in zip(series, report["files"], strict=True):
        derived = dcmread(Path(report["folder"]) / name)
        assert (derived.pixel_array == source.pixel_array).all()


def test_a_series_that_cannot_be_read_does_not_stop_the_others(
    halfscan: Halfscan, folder: Path
) -> None:
    save(fast(), folder / "in")
    cut = fast(name="cut", SeriesNumber=6)
    cut[1].PixelData = cut[1].PixelData[:100]
    save(cut, folder / "in")
    compressed = fast(name="compressed", SeriesNumber=7)
    for dataset in compressed:
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00\xffO"
    save(compressed, folder / "in")
    truncated = save([mr_object(name="truncated", SeriesNumber=8)], folder / "in")[0]
    truncated.write_bytes(truncated.read_bytes()[:600])
    done = halfscan("reconstruct", folder / "in", folder / "out", "--json")
    reports = json.loads(done.stdout)
    assert {r["reason_code"]: r["status"] for r in reports} == {
        "accelerated": "done",
        "damaged_pixels": "skipped",
        "unsupported_transfer_syntax": "skipped",
        "damaged_file": "unreadable",
    }
    assert done.returncode == 3
    assert "2 series or files could not be read" in done.stderr.splitlines()[-1]
    (lost,) = (r for r in reports if r["status"] == "unreadable")
    assert (lost["file"], lost["series_instance_uid"]) == (str(truncated), None)
    assert lost["warnings"] == [f"{truncated} was left out: {lost['reason']}"]
    for report in reports[:-1]:
        (warning,) = (one for one in report["warnings"] if not one.startswith("outside"))
        assert warning.startswith(f"an image may be missing: {truncated.name} beside it was left")
    (damaged,) = (r for r in reports if r["reason_code"] == "damaged_pixels")
    assert re.search(rf"{cut[1].SOPInstanceUID} \(file .*\.dcm\)", damaged["reason"])
    shown = halfscan("reconstruct", folder / "in", folder / "out")
    assert f"unreadable   {truncated}" in shown.stdout


@pytest.mark.parametrize("keep", [0, 100, 400, 600, 900, -2000, -1])
def test_a_truncated_file_never_passes_in_silence(
    halfscan: Halfscan, folder: Path, keep: int
) -> None:
    """Wherever it is cut: in its header, or in its pixels."""
    last = save(fast(), folder / "in")[-1]
    last.write_bytes(last.read_bytes()[:keep])
    done = halfscan("reconstruct", folder / "in", folder / "out", "--json")
    assert done.returncode == 3
    reports = json.loads(done.stdout)
    assert last.name in json.dumps(reports)
    assert any(report["status"] in {"unreadable", "skipped"} for report in reports)
    if any(report["status"] == "unreadable" for report in reports):
        assert halfscan("inspect", folder / "in").returncode == 3


def test_two_images_with_one_uid_are_told(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "in")
    other = fast()[1]
    other.InstanceNumber = 99
    (second,) = save([other], folder / "in" / "b")
    done = halfscan("inspect", folder / "in", "--json")
    assert done.returncode == 3
    assert f"damaged: {second}: another image than" in done.stderr
    save(fast()[:2], folder / "copies")
    save(fast()[:2], folder / "copies" / "b")
    assert halfscan("inspect", folder / "copies").returncode == 0, "copies take nothing away"


@pytest.mark.parametrize("command", ["inspect", "reconstruct"])
def test_exit_codes_are_documented(halfscan: Halfscan, command: str) -> None:
    manual = (Path(__file__).parents[1] / "docs" / "operation.md").read_text(encoding="utf-8")
    written = halfscan(command, "--help").stdout
    assert "Exit codes:" in written
    for code in range(4):
        assert re.search(rf"^ +{code}  \w", written, re.MULTILINE), written
        assert re.search(rf"^\| `{code}` \|", manual, re.MULTILINE)


def test_reconstruct_for_people(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "in")
    save(mr_series(2, name="other"), folder / "in" / "b")
    done = halfscan("reconstruct", folder / "in", folder / "out")
    assert done.returncode == 0
    assert "done         2.25." in done.stdout
    assert "skipped      2.25." in done.stdout
    assert "4 files in" in done.stdout
    assert done.stderr == ""


def test_a_target_that_is_a_file_is_one_line(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "in")
    (folder / "out").write_text("mine")
    done = halfscan("reconstruct", folder / "in", folder / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("halfscan: ")
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "out").read_text() == "mine"


@pytest.mark.parametrize("strength", ["2", "-1", "nan", "much"])
def test_a_wrong_strength_is_refused(halfscan: Halfscan, folder: Path, strength: str) -> None:
    save(fast(), folder / "in")
    done = halfscan("reconstruct", folder / "in", folder / "out", "--strength", strength)
    assert done.returncode == 2
    assert "strength" in done.stderr
    assert not (folder / "out").exists()


def test_an_unknown_model_is_one_line_with_those_that_exist(
    halfscan: Halfscan, folder: Path
) -> None:
    save(fast(), folder / "in")
    done = halfscan("reconstruct", folder / "in", folder / "out", "--model", "nobody")
    assert done.returncode == 2
    assert done.stderr.startswith("halfscan: ")
    assert "'nobody'" in done.stderr
    assert "known are" in done.stderr


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    for number in range(100):
        save(fast(1, name=f"s{number}", SeriesNumber=number), folder / str(number))
    command = f"{sys.executable!r} -m halfscan_plugin.cli inspect {str(folder)!r} --json"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1; exit ${{PIPESTATUS[0]}}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


@pytest.mark.cases
def test_real_series(halfscan: Halfscan, cases: Path) -> None:
    """The folder of real series as it is, files of other kinds included."""
    truth = {
        case["case"]: case["truth"]["accelerated_ge2"]
        for case in json.loads((cases / "truth.json").read_text(encoding="utf-8"))
    }
    for name in ("si_xa30_classic_tfl_p2", "si_e11_epi_nopat", "cn_v61_classic_speeder2"):
        (report,) = inspected(halfscan, cases / name)
        assert report["accelerated"] is truth[name]
        assert report["decision"] == ("reconstruct" if truth[name] else "skip")
