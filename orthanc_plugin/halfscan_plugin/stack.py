"""The real programs on loopback: Orthanc with the plugin, the API on SQLite, a worker.

The demo and the end-to-end tests start them here. Ports are free ones that the system chooses;
nothing is assumed of 8042 or 4242. Every process is ended by its own id.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from halfscan_plugin.errors import HalfscanError

__all__ = ["Program", "Stack", "StartFailed", "find_orthanc", "reserved_port"]

PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
PLUGINS = ("libOrthancPython.so", "libOrthancDicomWeb.so")
# AE titles that may send: ours, and the defaults of dcmtk's tools.
SENDERS = ("HALFSCAN", "STORESCU", "ECHOSCU")
START_S = 60.0
STOP_S = 15.0


class StartFailed(HalfscanError):
    """A program is not installed, or did not come up; the message has the end of its log."""


@dataclass
class Program:
    """A process that was started here.

    Parameters
    ----------
    name : str
        What it is.
    process : subprocess.Popen
        The process, leader of its own session.
    log : Path
        Where its output goes.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End it: SIGTERM first, SIGKILL if it does not go."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            # The whole session: the API's server has children of its own.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)

    def log_tail(self, characters: int = 1500) -> str:
        """Give the end of its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")[-characters:].strip()
        except OSError:
            return ""


def reserved_port() -> socket.socket:
    """Bind a free loopback port that the system gives to nobody else until the socket is closed.

    Orthanc and gunicorn set ``SO_REUSEADDR``, so they can listen on it by its number all the same.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def find_orthanc() -> tuple[str, list[str]]:
    """Find Orthanc and its plugins.

    Returns
    -------
    tuple of (str, list of str)
        The program and the plugins' files.

    Raises
    ------
    StartFailed
        If something is not installed; the message says how to install it.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("Orthanc", path=path)
    if program is None:
        raise StartFailed(
            "Orthanc is not installed; on Debian: "
            "apt-get install orthanc orthanc-python orthanc-dicomweb"
        )
    found = []
    for plugin in PLUGINS:
        files = [Path(folder) / plugin for folder in PLUGIN_FOLDERS]
        file = next((f for f in files if f.exists()), None)
        if file is None:
            raise StartFailed(
                f"Orthanc's plugin {plugin} is not in {' or '.join(PLUGIN_FOLDERS)}; on Debian: "
                "apt-get install orthanc-python orthanc-dicomweb"
            )
        found.append(str(file))
    return program, found


@dataclass
class Stack:
    """Orthanc, API and worker with their data in one folder.

    Parameters
    ----------
    folder : Path
        Where everything lies; it must exist.
    stable_age_s : int
        Seconds without a new instance after which Orthanc calls a series stable.
    orthanc_options : dict
        Further entries of Orthanc's configuration file.
    plugin_options : dict
        Further entries of its section ``Halfscan``.
    plugin_section : dict, optional
        This instead of the section ``Halfscan``.
    api_variables : dict of str to str
        Further environment variables of the API.
    """

    folder: Path
    stable_age_s: int = 2
    orthanc_options: dict[str, Any] = field(default_factory=dict)
    plugin_options: dict[str, Any] = field(default_factory=dict)
    plugin_section: dict[str, Any] | None = None
    api_variables: dict[str, str] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose the ports once: a program that is started again keeps its own."""
        self.folder = self.folder.resolve()  # the programs run in it, and are told paths in it
        self._reserved = [reserved_port() for _ in range(3)]
        ports = (reserved.getsockname()[1] for reserved in self._reserved)
        self.http_port, self.dicom_port, self.api_port = ports
        self._tokens: dict[str, str] = {}

    @property
    def orthanc_url(self) -> str:
        """Address of Orthanc."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def api_url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy's address of the API's database."""
        return f"sqlite:///{self.folder / 'halfscan.db'}"

    @property
    def token_file(self) -> Path:
        """File with the token of the relay and the worker."""
        return self.folder / "service-token"

    def token(self, role: str) -> str:
        """Give a token of a role, made on first use."""
        if role not in self._tokens:
            answer = self._halfscan(
                ["token", "create", "--role", role, "--name", f"stack-{role}", "--json"]
            )
            self._tokens[role] = json.loads(answer)["token"]
        return self._tokens[role]

    def start_api(self) -> Program:
        """Start the API; its database is created or brought up to date first."""
        arguments = ["serve", "--host", "127.0.0.1", "--port", str(self.api_port)]
        api = self._start("api", [*_HALFSCAN, *arguments], self._api_environment())
        self._wait(api, lambda: _answers(f"{self.api_url}/readyz"))
        return api

    def write_service_token(self) -> None:
        """Make the token that the relay and the worker share."""
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token("service"), encoding="utf-8")

    def start_orthanc(self) -> Program:
        """Start Orthanc with the plugin."""
        program, _ = find_orthanc()
        orthanc = self._start("orthanc", [program, str(self._write_configuration())], os.environ)
        self._wait(orthanc, lambda: _answers(f"{self.orthanc_url}/system"))
        return orthanc

    def start_worker(self, **variables: str) -> Program:
        """Start a worker; `variables` are added to its environment."""
        environment = _clean_environment() | {
            "HALFSCAN_WORKER_API_URL": self.api_url,
            "HALFSCAN_WORKER_TOKEN_FILE": str(self.token_file),
            "HALFSCAN_WORKER_ORTHANC_URL": self.orthanc_url,
            "HALFSCAN_WORKER_POLL_S": "0.5",
        }
        return self._start("worker", [*_HALFSCAN, "worker"], environment | variables)

    def start(self) -> None:
        """Start everything."""
        self.start_api()
        self.write_service_token()
        self.start_orthanc()
        self.start_worker()

    def stop(self) -> None:
        """End everything that was started here, the last first, and give the ports back."""
        for program in reversed(self.programs):
            program.stop()
        self.programs.clear()
        for reserved in self._reserved:
            reserved.close()

    def check(self) -> None:
        """Raise `StartFailed` if one of the programs has ended by itself."""
        for program in self.programs:
            status = program.process.poll()
            if status is not None:
                raise StartFailed(
                    f"{program.name} ended with status {status}:\n{program.log_tail()}"
                )

    def _write_configuration(self) -> Path:
        _, plugins = find_orthanc()
        script = Path(__file__).with_name("plugin.py")
        configuration = {
            "Name": "Halfscan",
            "StorageDirectory": str(self.folder / "orthanc"),
            "IndexDirectory": str(self.folder / "orthanc"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            # The DICOM port listens on every interface: take nothing but from this machine.
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": {title.lower(): [title, "127.0.0.1", 104] for title in SENDERS},
            "StableAge": self.stable_age_s,
            "Plugins": plugins,
            "PythonScript": str(script),
            "PythonVerbose": False,
            **self.orthanc_options,
            "Halfscan": self.plugin_section
            or {
                "ApiUrl": self.api_url,
                "TokenFile": str(self.token_file),
                "PollIntervalS": 1.0,
                **self.plugin_options,
            },
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
        return path

    def _api_environment(self) -> dict[str, str]:
        own = {
            "HALFSCAN_API_DATABASE_URL": self.database_url,
            "HALFSCAN_API_ORTHANC_URL": self.orthanc_url,
        }
        return _clean_environment() | own | self.api_variables

    def _halfscan(self, arguments: list[str]) -> str:
        """Run one command to its end and give its output."""
        done = subprocess.run(
            [*_HALFSCAN, *arguments],
            env=self._api_environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode != 0:
            raise StartFailed(f"halfscan {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout

    def _start(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> Program:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                arguments,
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal reaches us alone: we end the others, in order.
                start_new_session=True,
            )
        program = Program(name, process, log)
        self.programs.append(program)
        return program

    def _wait(self, program: Program, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not ready():
            if program.process.poll() is not None or time.monotonic() > deadline:
                raise StartFailed(f"{program.name} did not start:\n{program.log_tail()}")
            time.sleep(0.1)


_HALFSCAN = [sys.executable, "-m", "halfscan_plugin.cli"]


def _clean_environment() -> dict[str, str]:
    """Give our environment without Halfscan's settings: the stack makes its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HALFSCAN_")}


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
