"""The server: gunicorn with one process and several threads.

Threads, because synchronous workers end a long answer such as server-sent events. One process,
because the counters of `halfscan_api.metrics` live in it; more capacity is another server on the
same PostgreSQL.
"""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from halfscan_api.app import create_app
from halfscan_api.database import Clock, utc_now
from halfscan_api.errors import HalfscanError
from halfscan_api.refusing import Worker as ThreadedWorker
from halfscan_api.settings import Settings

# A server that was killed holds its port until its child notices, which takes about a second.
BIND_PATIENCE_S = 2.0
BACKLOG = 256


class AddressError(HalfscanError):
    """The server cannot listen where it should."""


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises
    ------
    AddressError
        The address is unknown, not of this machine, not allowed or in use.
    """
    deadline = time.monotonic() + BIND_PATIENCE_S
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            return _bound(socket.socket(family, kind, protocol), address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            advice = "; choose another with --port, or 0 for a free one"
            hint = advice if error.errno == errno.EADDRINUSE else ""
            raise AddressError(
                f"cannot listen on {host} port {port}: {error.strerror or error}{hint}"
            ) from error


def address_of(listener: socket.socket) -> str:
    """Address for a browser on this machine, such as ``http://127.0.0.1:8780``."""
    host, port = listener.getsockname()[:2]
    if listener.family == socket.AF_INET6:
        return f"http://[{'::1' if host == '::' else host}]:{port}"
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared


def serve(
    settings: Settings,
    listener: socket.socket,
    *,
    ready_file: Path | None = None,
    announce: Callable[[str], None],
    clock: Clock = utc_now,
) -> None:
    """Serve until a signal ends it; SIGTERM lets running requests finish.

    Does not return: gunicorn ends the process.

    Parameters
    ----------
    settings : Settings
    listener : socket
        From `listen`.
    ready_file : Path, optional
        Gets ``{"url": ..., "pid": ...}`` once requests are answered; removed at the end.
    announce : callable
        Called with the address once requests are answered.
    clock : callable
        Gives the time now; no command and no setting leads here, only a program of one's own.
    """
    url = address_of(listener)
    pid = os.getpid()

    def ready(worker: Worker) -> None:
        del worker
        announce(url)
        # Last: who waits for the file may end the server at once.
        if ready_file is not None:
            write_ready_file(ready_file, url, pid)

    def ended(arbiter: Arbiter) -> None:
        del arbiter
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)

    _Server(settings, listener, clock, post_worker_init=ready, on_exit=ended).run()


def write_ready_file(path: Path, url: str, pid: int) -> None:
    """Write the file at one stroke: who waits for it never reads half of it."""
    draft = path.with_name(f"{path.name}.{pid}")
    draft.write_text(json.dumps({"url": url, "pid": pid}) + "\n", encoding="utf-8")
    draft.replace(path)


def _bound(listener: socket.socket, address: Any) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Log(Logger):
    """Sends gunicorn's lines to the handlers of the root logger."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        # Its starting and stopping is told by what is printed and by the supervisor.
        self.error_log.setLevel(max(logging.getLogger().level, logging.WARNING))
        self.error_log.propagate = True


class _Server(BaseApplication):
    def __init__(
        self, settings: Settings, listener: socket.socket, clock: Clock, **hooks: Any
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._options = {
            # Gunicorn owns the descriptor from here on, and closes it when it stops.
            "bind": [f"fd://{listener.detach()}"],
            "workers": 1,
            "worker_class": ThreadedWorker,
            "threads": settings.threads,
            "logger_class": _Log,
            "control_socket_disable": True,
            **hooks,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app(self._settings, clock=self._clock)
