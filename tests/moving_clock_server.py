"""The real server with a clock that a test moves, and that can be killed and started again.

As a script this is the launcher: it imports the API once and forks a server for each line on its
standard input, so that a server which was killed is back in a moment. What it starts is the server
of ``halfscan serve`` in a session of its own: gunicorn's master and its worker, on a real port.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import psutil

from halfscan_api import migrate, server
from halfscan_api.database import Database
from halfscan_api.logs import configure_logging
from halfscan_api.settings import Settings
from halfscan_plugin.stack import reserved_port

START = datetime(2030, 1, 7, 8, 0, tzinfo=UTC)
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class FileClock:
    """The time that a file says."""

    path: Path

    def __call__(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def set(self, now: datetime) -> None:
        # At one stroke: the server never reads half of it.
        draft = self.path.with_suffix(".draft")
        draft.write_text(now.isoformat())
        draft.replace(self.path)

    def advance(self, **time: float) -> None:
        self.set(self() + timedelta(**time))


@dataclass
class MovingClockServer:
    """A server that lives on one port, however often it is killed."""

    launcher: "subprocess.Popen[str]"
    folder: Path
    database_url: str
    threads: int
    clock: FileClock
    port: int
    pid: int = 0
    kills: int = 0
    startups_s: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        began = time.monotonic()
        ready_file = self.folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        order = {
            "database_url": self.database_url,
            "port": self.port,
            "threads": self.threads,
            "clock": str(self.clock.path),
            "ready_file": str(ready_file),
            "log": str(self.log),
        }
        self.pid = int(self._ask(json.dumps(order)))
        _wait_until(ready_file.exists, self.log)
        assert json.loads(ready_file.read_text()) == {"url": self.url, "pid": self.pid}
        self.startups_s.append(time.monotonic() - began)

    def kill(self) -> None:
        """Kill -9 of gunicorn's master and of its worker, at the same moment."""
        workers = psutil.Process(self.pid).children()
        assert workers, "gunicorn has no worker"
        os.killpg(self.pid, signal.SIGKILL)
        self._ask("wait")
        _wait_until(lambda: not any(_runs(worker) for worker in workers), self.log)
        self.kills += 1

    def stop(self) -> None:
        """Let it finish what it does, as a supervisor would."""
        os.kill(self.pid, signal.SIGTERM)
        self._ask("wait")

    def _ask(self, line: str) -> str:
        assert self.launcher.stdin is not None
        assert self.launcher.stdout is not None
        self.launcher.stdin.write(line + "\n")
        self.launcher.stdin.flush()
        answer = self.launcher.stdout.readline().strip()
        assert answer, "the launcher has ended"
        return answer


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _wait_until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.01)


@contextmanager
def moving_clock_server(
    folder: Path, database_url: str, *, threads: int = 8, now: datetime = START
) -> Iterator[MovingClockServer]:
    """Start the server on a free port; nothing of it is left at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = FileClock(folder / "clock.txt")
    clock.set(now)
    with (
        reserved_port() as reserved,
        subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.upper().startswith("HALFSCAN_")},
        ) as launcher,
    ):
        port: int = reserved.getsockname()[1]
        made = MovingClockServer(launcher, folder, database_url, threads, clock, port)
        try:
            made.start()
            yield made
        finally:
            if made.pid and psutil.pid_exists(made.pid):
                os.killpg(made.pid, signal.SIGKILL)
            launcher.kill()


# --- the launcher -------------------------------------------------------------------------------


def _launch() -> None:
    """Fork a server for each order; ``wait`` waits for the end of the last one."""
    pid = 0
    for line in sys.stdin:
        if line.strip() == "wait":
            _, status = os.waitpid(pid, 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            pid = answer = os.fork()
            if not pid:
                _serve(json.loads(line))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _serve(order: dict[str, Any]) -> NoReturn:
    """Serve as `halfscan_api.cli.serve` does, with the clock of the order."""
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    settings = Settings.load(
        database_url=order["database_url"], port=order["port"], threads=order["threads"]
    )
    configure_logging(settings)
    listener = server.listen(settings.host, settings.port)
    database = Database(settings.url)
    migrate.upgrade(database)
    database.dispose()
    sys.argv = ["halfscan serve"]
    server.serve(
        settings,
        listener,
        ready_file=Path(order["ready_file"]),
        announce=lambda url: print(f"Halfscan API on {url}", flush=True),  # noqa: T201
        clock=FileClock(Path(order["clock"])),
    )
    raise AssertionError("gunicorn ends the process")


if __name__ == "__main__":
    _launch()
