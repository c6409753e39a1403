"""The command line: lazy, one line for what is wrong, JSON as the public contract says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

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


def test_the_api_side_imports_no_network_and_no_dicom() -> None:
    found = imported(run("serve", "--help"))
    assert found.isdisjoint({"onnxruntime", "pydicom", "pynetdicom", "pyorthanc"})


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


def test_a_command_without_its_packages_says_what_to_install() -> None:
    code = (
        "sys.modules['pydicom'] = None\n"
        "sys.modules['flask'] = None\n"
        "from halfscan_plugin.cli import main\n"
        "main(['serve', '--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "halfscan serve needs flask: pip install 'halfscan[api]'" in done.stderr
    assert "Traceback" not in done.stderr


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
    assert "(0051,1011) [SIEMENS MR HEADER] xx11 = p2: total factor 2" in done.stdout
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
    assert set(report["timings_s"]) == {"decode", "reconstruct", "derive"}
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
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00\xffO"
    save(compressed, folder / "in")
    truncated = save([mr_object(name="truncated", SeriesNumber=8)], folder / "in")[0]
    truncated.write_bytes(truncated.read_bytes()[:600])
    statuses = {
        r["reason_code"]: r["status"]
        for r in reconstructed(halfscan, folder / "in", folder / "out")
    }
    assert statuses == {
        "accelerated": "done",
        "damaged_pixels": "skipped",
        "unsupported_transfer_syntax": "skipped",
    }


def test_reconstruct_for_people(halfscan: Halfscan, folder: Path) -> None:
    save(fast(), folder / "in")
    save(mr_series(2, name="other"), folder / "in" / "b")
    done = halfscan("reconstruct", folder / "in", folder / "out")
    assert done.returncode == 0
    assert "done       2.25." in done.stdout
    assert "skipped    2.25." in done.stdout
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
