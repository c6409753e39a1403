"""``halfscan demo`` as a person and as a script would run it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from halfscan_plugin.stack import StartFailed, find_orthanc

pytestmark = [pytest.mark.archive, pytest.mark.timeout(600)]

COMMAND = [sys.executable, "-m", "halfscan_plugin.cli", "demo"]
SEQUENCES = 4


@pytest.fixture(autouse=True)
def _needs_orthanc() -> None:
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary folder is ours to look into, with a space in its name."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HALFSCAN_")}
    return clean | {"TMPDIR": str(folder)}


@pytest.fixture
def demo(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A demo that runs until it is interrupted."""
    # Tests in a shell's background ignore SIGINT, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        yield process
        if process.poll() is None:
            process.terminate()


def everything_has_ended(children: list[psutil.Process], environment: dict[str, str]) -> None:
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_once_gives_json_and_ends_by_itself(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "--once", "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["series"]) == SEQUENCES
    assert len({series["derived_series_instance_uid"] for series in result["series"]}) == SEQUENCES
    assert all(series["seconds"] > 0 for series in result["series"])
    assert "halfscan: reconstructing series\n" in done.stderr, "through a pipe too it says so"
    everything_has_ended([], environment)


def play_the_study(shown: str, folder: Path) -> None:
    """The shell commands of docs/studies.md, with the two lines that the demo prints."""
    for program in ("bash", "curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install {program})")
    exported = dict(re.findall(r"export (API|COORDINATOR)=(\S+)", shown))
    manual = Path(__file__).resolve().parents[1] / "docs" / "studies.md"
    [script] = re.findall(r"```sh\n(.*?)```", manual.read_text(encoding="utf-8"), flags=re.DOTALL)
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **exported},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr

    def written(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    [case] = written("enrolled.json")["cases"]
    assert len(case["pairs"]) == SEQUENCES
    left_out = {one["reason"] for one in written("enrolled.json")["left_out"]}
    assert left_out == {"it is the source of a derived series, which stands for it"}
    assert written("verified.json")["holds"]
    assert written("answer.json")["state"] == "complete"
    # Both arms were seen and counted: the faster one is the one that was reconstructed.
    first, second = ((folder / f"slice-{number}.png").read_bytes() for number in (0, 1))
    assert first.startswith(b"\x89PNG")
    assert first != second
    assert written("image-quality.json")["revision"] > 1


def test_ctrl_c_ends_everything_that_it_started(
    demo: "subprocess.Popen[str]", environment: dict[str, str], tmp_path: Path
) -> None:
    assert demo.stdout is not None
    lines: list[str] = []
    for line in demo.stdout:
        lines.append(line)
        if "Ctrl-C ends everything" in line:
            break
    shown = "".join(lines)
    assert shown.count("1.2.826.") == SEQUENCES
    explorer, docs, rows = (
        re.search(rf"^{label} +(http\S+)", shown, re.MULTILINE)
        for label in ("Orthanc Explorer", "API, interactive", "Reconstructions")
    )
    assert explorer
    assert docs
    assert rows
    token = re.search(r"Bearer (\S+)'", shown)
    assert token
    for address in (explorer[1], docs[1]):
        assert requests.get(address, timeout=20).status_code == 200
    headers = {"Authorization": f"Bearer {token[1]}"}
    answer = requests.get(rows[1], params={"status": "done"}, headers=headers, timeout=20)
    assert answer.json()["total"] == SEQUENCES
    # The standard scans; the derived series, which come back from the archive, follow them.
    answer = requests.get(rows[1], params={"status": "skipped"}, headers=headers, timeout=20)
    assert answer.json()["total"] >= SEQUENCES
    play_the_study(shown, tmp_path)

    children = psutil.Process(demo.pid).children(recursive=True)
    assert {"Orthanc"} <= {child.name() for child in children}
    demo.send_signal(signal.SIGINT)
    # Each of three programs has 15 s to end politely, and the machine may be busy.
    assert demo.wait(120) == 0
    everything_has_ended(children, environment)


def test_ctrl_c_while_it_still_starts(
    demo: "subprocess.Popen[str]", environment: dict[str, str]
) -> None:
    process = psutil.Process(demo.pid)
    deadline = time.monotonic() + 60
    while not (children := process.children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) != 0
    everything_has_ended(children, environment)
    assert demo.stderr is not None
    assert "Traceback" not in demo.stderr.read()
