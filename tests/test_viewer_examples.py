"""The documented calls and the example client, against a real server with a real archive."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from werkzeug.serving import make_server

from api_support import Api
from blinded_support import SEQUENCES, BlindedStudy

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def served(archive_api: Api) -> Iterator[str]:
    """Address of the app on a port of its own."""
    server = make_server("127.0.0.1", 0, archive_api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def example() -> ModuleType:
    """The example client as a module."""
    spec = importlib.util.spec_from_file_location(
        "read_session", PROJECT / "examples" / "read_session.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up by the name of their module.
    sys.modules["read_session"] = module
    spec.loader.exec_module(module)
    return module


def test_the_example_reads_a_whole_session(
    blinded: BlindedStudy, served: str, example: ModuleType
) -> None:
    client = example.Client(served, blinded.play.tokens["r1"])
    seen: list[dict[str, tuple[int, ...]]] = []

    def judge(reading: Any) -> dict[str, Any]:
        seen.append({name: images[0].pixels().shape for name, images in reading.images.items()})
        questions = reading.body["questions"]
        scores = [
            {"sequence": one["sequence"], "criterion": one["criterion"], "value": 3}
            for one in questions["criteria"]
        ]
        findings = [
            {"finding": one["finding"], "level": level, "value": 0}
            for one in questions["findings"]
            for level in one["levels"]
        ]
        regions = [
            {
                "sequence": one["sequence"],
                "region": one["region"],
                "sop_instance_uid": reading.images[one["sequence"]][1].uid,
                "geometry": {
                    "kind": "circle",
                    "coordinates": "image",
                    "points": [[50, 50], [54, 50]],
                },
            }
            for one in questions["regions"]
        ]
        return {"scores": scores, "findings": findings, "regions": regions}

    [session, _] = client.call("GET", "/api/v1/sessions").json()["items"]
    codes = list(example.read_session(client, session["code"], judge))
    assert len(codes) == len(seen) == 1
    assert set(seen[0]) == set(SEQUENCES)
    [first, second] = blinded.play.sessions("r1")
    assert (first["state"], second["state"]) == ("complete", "waiting")
    with pytest.raises(RuntimeError, match="409 the session waits"):
        list(example.read_session(client, second["code"], judge))
    client.close()
    assert blinded.play.verify()["holds"]


def test_the_pixels_of_the_example_are_those_of_the_archive(
    blinded: BlindedStudy, served: str, example: ModuleType
) -> None:
    viewer = blinded.open()
    client = example.Client(served, blinded.play.tokens["r1"])
    reading = example.Reading(client, viewer.reading.body, viewer.reading.etag)
    reading.load_images()
    originals = blinded.lumbar.datasets(blinded.lumbar.uid(blinded.arm(viewer), "sag_t2"))
    for image, original in zip(reading.images["sag_t2"], originals, strict=True):
        np.testing.assert_array_equal(image.pixels(), original.pixel_array)
    client.close()


def test_the_documented_calls_work(blinded: BlindedStudy, served: str, tmp_path: Path) -> None:
    """The shell commands of docs/viewers.md, as they stand there."""
    for program in ("bash", "curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install {program})")
    text = (PROJECT / "docs" / "viewers.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    environment = {**os.environ, "API": served, "TOKEN": blinded.play.tokens["r1"]}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    done = json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))
    assert done["state"] == "complete"
    measured = json.loads((tmp_path / "measured.json").read_text(encoding="utf-8"))
    assert measured["measurements"][0]["n_pixels"] > 50
    assert (tmp_path / "slice.png").read_bytes().startswith(b"\x89PNG")
    header = json.loads((tmp_path / "metadata.json").read_text(encoding="utf-8"))[0]
    pixels = header["00280010"]["Value"][0] * header["00280011"]["Value"][0]
    assert (tmp_path / "slice.raw").stat().st_size == 2 * pixels
