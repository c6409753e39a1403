"""The README's installation, as it is printed, in folders of the test's own.

Its commands are read from README.md. Only folders and ports are other ones, and what stays in the
foreground there (the API, the worker, Orthanc) is started beside the test.
"""

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from environment_support import (
    IMPORT_MODULES,
    NOT_IMPORTED,
    PACKAGES,
    ROOT,
    RUN_COMMANDS,
    pins,
    run_python,
)
from halfscan_plugin.cli import COMMANDS
from halfscan_plugin.stack import StartFailed, find_orthanc, reserved_port

DEBIAN_PACKAGES = ("orthanc", "orthanc-python", "orthanc-dicomweb")
PATIENCE_S = 120.0
# A hundred packages are unpacked, on however busy a machine.
pytestmark = pytest.mark.timeout(900)
# What says that the index cannot be reached, in pip's own words.
NO_INDEX = re.compile("NewConnectionError|ConnectTimeout|Temporary failure in name resolution")


def readme_steps() -> list[str]:
    """Give the commands of each step beside an Orthanc that runs already."""
    content = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(
        r"^## Beside an Orthanc that runs already$(.*?)^## ", content, re.MULTILINE | re.DOTALL
    )
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    blocks = [re.findall(r"^ {7}.*\n", step, re.MULTILINE) for step in steps]
    return [textwrap.dedent("".join(lines)) for lines in blocks]


@dataclass
class Machine:
    """Folders in place of a machine's, and the programs that run there."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    programs: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reserved = [reserved_port() for _ in range(3)]
        ports = (reserved.getsockname()[1] for reserved in self.reserved)
        self.http_port, self.dicom_port, self.api_port = ports
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HALFSCAN_", "PYTHON"))}
        self.environment = kept | self.environment

    @property
    def python(self) -> Path:
        return self.folder / "opt/halfscan/bin/python"

    @property
    def orthanc_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def moved(self, commands: str) -> str:
        """Put our folders and ports into commands."""
        for folder in ("/opt/halfscan", "/etc/orthanc", "/var/lib/halfscan"):
            commands = commands.replace(folder, f"{self.folder}{folder}")
        for port, own in ((8780, self.api_port), (8042, self.http_port)):
            commands = commands.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
            commands = commands.replace(f"--port {port}", f"--port {own}")
        return commands

    def type_in(self, commands: str) -> str:
        """Run commands in the clone; what they export stays for the next ones."""
        state = self.folder / "environment"
        script = f"{self.moved(commands)}\nenv --null > {state}\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=800,
            check=False,
        )
        if NO_INDEX.search(done.stdout):
            pytest.skip("pip cannot reach its index: no fresh environment")
        assert done.returncode == 0, done.stdout
        lines = state.read_text(encoding="utf-8").split("\0")
        self.environment = dict(line.split("=", 1) for line in lines if line)
        return done.stdout

    def start(self, name: str, command: str, **options: Any) -> None:
        """Start what stays in the foreground."""
        with self.log(name).open("wb") as log:
            self.programs[name] = subprocess.Popen(
                self.moved(command).split(),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def wait_for(self, name: str, what: Callable[[str], Any]) -> Any:
        """Wait until a program, or what it wrote into its log, gives something true."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            said = self.log(name).read_text(encoding="utf-8", errors="replace")
            try:
                value = what(said)
            except httpx.HTTPError:
                value = None
            if value:
                return value
            if self.programs[name].poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name}: {said[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        for program in reversed(self.programs.values()):
            program.send_signal(signal.SIGTERM)
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait(20)
        self.programs.clear()
        for reserved in self.reserved:
            reserved.close()


def release_of_tomorrow(name: str, folder: Path) -> None:
    """Make a wheel of a package that is newer than every one of today."""
    stem = name.replace("-", "_")
    info = f"{stem}-99999.0.dist-info"
    files = {
        f"{stem}_of_tomorrow.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 99999.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{stem}-99999.0-py3-none-any.whl", "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Make the environment of the README's first step, on a day with a new release of all."""
    # Not below pytest's own folder: Orthanc's user must get in.
    folder = Path(tempfile.mkdtemp(prefix="halfscan-installation-"))
    folder.chmod(0o755)
    tomorrow = folder / "tomorrow"
    tomorrow.mkdir()
    for name in pins(ROOT / "requirements/runtime.txt"):
        release_of_tomorrow(name, tomorrow)
    links = f"{tomorrow} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    machine = Machine(folder, {"PIP_FIND_LINKS": links, "PIP_NO_COMPILE": "1"})
    (folder / "opt").mkdir()
    try:
        machine.type_in(readme_steps()[0])
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(folder)


def test_the_environment_is_what_the_lock_file_pins(machine: Machine) -> None:
    script = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    installed = run_python(script, python=machine.python, folder=machine.folder)
    of_venv = {"halfscan", "pip", "setuptools"}
    versions = {
        re.sub("[-_.]+", "-", name).lower(): version
        for name, version in installed.items()
        if name not in of_venv
    }
    locked = pins(ROOT / "requirements/runtime.txt")
    assert versions == {
        name: version
        for name, entries in locked.items()
        for version, marker in entries
        if marker is None or marker.evaluate()
    }


def test_every_module_is_imported_and_every_command_helps(machine: Machine) -> None:
    """With nothing but the lock file; PyTorch is for training only."""
    folder = machine.folder
    failed = run_python(IMPORT_MODULES, *PACKAGES, python=machine.python, folder=folder)
    assert failed.keys() == NOT_IMPORTED, failed
    calls = [[command, "--help"] for command in COMMANDS]
    ended = run_python(
        RUN_COMMANDS, str(calls).replace("'", '"'), python=machine.python, folder=folder
    )
    for command in COMMANDS:
        status, out, err = ended[command]
        assert (status, err) == (0, ""), command
        assert out.startswith(f"Usage: halfscan {command}")


def packaged_configuration(target: Path) -> None:
    """Copy Orthanc's configuration as Debian ships it, owners and modes included."""
    query = ["dpkg-query", "--show", "--showformat=${Conffiles}\n", *DEBIAN_PACKAGES]
    shipped = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    digests = dict(zip(shipped[::2], shipped[1::2], strict=True))
    for file in sorted(Path("/etc/orthanc").iterdir()):
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        if digests.get(str(file)) != digest:
            pytest.skip(f"{file} is not as Debian ships it")
    subprocess.run(["cp", "--archive", "/etc/orthanc", target], check=True)


@pytest.fixture
def debian_orthanc(machine: Machine) -> Machine:
    """Give the machine with Debian's Orthanc, on other ports and with its data elsewhere."""
    try:
        find_orthanc()
        user = pwd.getpwnam("orthanc")
    except (StartFailed, KeyError) as error:
        pytest.skip(f"Debian's Orthanc is not here: {error}")
    if os.getuid() != 0:
        pytest.skip("the README's steps, and Orthanc as its own user, need root")
    (machine.folder / "etc").mkdir()
    (machine.folder / "var/lib").mkdir(parents=True)
    packaged_configuration(machine.folder / "etc")
    data = machine.folder / "var/lib/orthanc"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    main = machine.folder / "etc/orthanc/orthanc.json"
    content = main.read_text(encoding="utf-8")
    for shipped, own in (
        ('"HttpPort" : 8042', f'"HttpPort" : {machine.http_port}'),
        ('"DicomPort" : 4242', f'"DicomPort" : {machine.dicom_port}'),
        ('Directory" : "/var/lib/orthanc/db-v6"', f'Directory" : "{data}"'),
    ):
        assert shipped in content
        content = content.replace(shipped, own)
    main.write_text(content, encoding="utf-8")
    return machine


@pytest.mark.archive
def test_the_steps_of_the_readme_with_debians_orthanc(debian_orthanc: Machine) -> None:
    machine = debian_orthanc
    _, token, orthanc, worker, doctor = readme_steps()
    *commands, serve = token.splitlines()
    machine.type_in("\n".join(commands))
    assert serve.startswith("halfscan serve ")
    machine.start("api", serve)
    machine.wait_for("api", lambda said: "Halfscan API on" in said)

    *commands, restart = orthanc.splitlines()
    assert restart == "systemctl restart orthanc"
    for _ in range(2):  # who types it twice has done no harm
        machine.type_in("\n".join(commands))
    program, _ = find_orthanc()
    as_orthanc: dict[str, Any] = {"user": "orthanc", "group": "orthanc", "extra_groups": []}
    machine.start("orthanc", f"{program} /etc/orthanc", **as_orthanc)

    def state() -> Any:
        answer = httpx.get(f"{machine.orthanc_url}/halfscan/status").json()
        return answer if answer["cursor"] is not None or answer["error"] else None

    status = machine.wait_for("orthanc", lambda _: state())
    assert (status["enabled"], status["error"], status["last_error"]) == (True, None, None)
    secret = machine.folder / "etc/orthanc/halfscan-token"
    subprocess.run(["cat", secret], stdout=subprocess.DEVNULL, check=True, **as_orthanc)
    owner = secret.stat()
    assert (owner.st_mode & 0o777, owner.st_gid) == (0o640, pwd.getpwnam("orthanc").pw_gid)

    *commands, start = worker.splitlines()
    machine.type_in("\n".join(commands))
    assert start == "halfscan worker"
    machine.start("worker", start)
    machine.wait_for("worker", lambda said: "worker_started" in said)
    assert doctor.startswith("halfscan doctor archive --apply")
    machine.type_in(doctor)
    machine.stop()


def test_a_lock_file_with_a_gap_stops_at_once_and_names_it(tmp_path: Path) -> None:
    """Nothing fills the gap from an index: `pip check` has the last word."""
    whole = (ROOT / "requirements/worker.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=\w)", whole, flags=re.MULTILINE)
    build = {"editables", "hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"}
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(entry for entry in entries if entry.split("==")[0] in build))
    done = subprocess.run(
        [ROOT / "bin/make-venv", "python3", tmp_path / "venv", lock],
        cwd=ROOT,
        env=os.environ | {"PROGRESS_S": "1", "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if any(NO_INDEX.search(log.read_text(encoding="utf-8")) for log in tmp_path.glob("tmp.*")):
        pytest.skip("pip cannot reach its index: no fresh environment")
    assert done.returncode == 1
    assert "halfscan 0.1.0 requires numpy, which is not installed." in done.stderr
    assert "pip check failed" in done.stderr.splitlines()[-1]
    assert re.search(r"^halfscan: \d+ s: ", done.stderr, re.MULTILINE), "progress, through a pipe"
