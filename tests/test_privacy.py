"""Nothing leaves on its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Variables that would silence ONNX Runtime's telemetry without our doing.
SILENCING = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD", "GITHUB_ACTIONS"}
LOAD = "from halfscan_models import load_reconstructor; load_reconstructor()"


def traces(code: str, folder: Path) -> list[str]:
    """Run Python code and list the files that it leaves in its temporary folder."""
    environment = {name: value for name, value in os.environ.items() if name not in SILENCING}
    environment |= {"TMPDIR": str(folder), "HOME": str(folder)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    return [file.name for file in folder.rglob("*")]


def test_loading_a_model_starts_no_telemetry(tmp_path: Path) -> None:
    """A telemetry session of ONNX Runtime leaves the file ``.ses``."""
    assert traces(LOAD, tmp_path) == []


def test_the_sign_of_telemetry_is_one(tmp_path: Path) -> None:
    """Without our care the file is there: else the test above could not fail."""
    left = traces("import onnxruntime", tmp_path)
    version = tuple(int(n) for n in _onnxruntime_version().split(".")[:2])
    assert (".ses" in left) == (version >= (1, 29))


QUOTES_A_VALUE = """
from pydicom import Dataset
{silence}
header = Dataset()
header.PatientBirthDate = "the 3rd of May"
header.PatientAge = "ninety"
header.StudyInstanceUID = "Doe^John"
"""
SILENCE = "from halfscan_plugin.logs import configure; configure('debug', 'console')"
SILENCE_API = (
    "from halfscan_api.settings import Settings; from halfscan_api.logs import configure_logging; "
    "configure_logging(Settings(log_level='debug'))"
)


@pytest.mark.parametrize(
    ("silence", "speaks"), [("", True), (SILENCE, False), (SILENCE_API, False)]
)
def test_pydicom_quotes_no_value_in_a_log(silence: str, *, speaks: bool) -> None:
    """Without our care it does: else this could not fail."""
    done = subprocess.run(
        [sys.executable, "-c", QUOTES_A_VALUE.format(silence=silence)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ("Doe^John" in done.stderr) == speaks
    assert bool(done.stderr) == speaks


def _onnxruntime_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (importing the package has effects)

    return version("onnxruntime")
