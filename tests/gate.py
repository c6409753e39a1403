"""A gate between a program and a server: real HTTP on loopback, held where a test says.

A test that wants to kill a worker between two of its steps holds the request that would begin the
second one.
"""

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Gate:
    """What passes, and what is held.

    Attributes
    ----------
    url : str
        Address for the program.
    passed : list of str
        Requests that went through, as in ``"POST /instances"``.
    bytes_back : dict of str to int
        How much of the answers the program has taken, by path.
    """

    url: str
    passed: list[str] = field(default_factory=list)
    bytes_back: dict[str, int] = field(default_factory=dict)
    _held: str = ""
    _skip: int = 0
    _reached: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)

    def hold(self, request: str, after: int = 0) -> None:
        """Hold the requests that match a pattern, once `after` of them have passed."""
        self._held, self._skip = request, after
        self._reached.clear()
        self._open.clear()

    def wait(self, patience_s: float = 60) -> None:
        """Wait until a request is held."""
        assert self._reached.wait(patience_s), f"no {self._held} within {patience_s} s"

    def drop(self) -> None:
        """Let go: what was held is answered by nobody, what comes next passes."""
        self._held = ""
        self._open.set()

    def lets_pass(self, request: str) -> bool:
        """Wait at the gate; False for what was held."""
        if not self._held or not re.search(self._held, request):
            return True
        if self._skip > 0:
            self._skip -= 1
            return True
        self._reached.set()
        self._open.wait(120)
        return False


@contextmanager
def gate(target: str) -> Iterator[Gate]:
    """Stand before a server."""
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {self.path}"
            if not state.lets_pass(request):
                self.close_connection = True
                return
            state.passed.append(request)
            connection = http.client.HTTPConnection(host, timeout=60)
            with suppress(OSError):
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                connection.request(self.command, self.path, body, headers)
                self._answer(connection.getresponse())
            connection.close()

        def _answer(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(answer.length or 0))
            self.end_headers()
            while chunk := answer.read(2**16):
                self.wfile.write(chunk)
                state.bytes_back[self.path] = state.bytes_back.get(self.path, 0) + len(chunk)

        do_GET = do_POST = do_DELETE = _forward  # noqa: N815  (the base class's names)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a killed program
    state = Gate(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        state.drop()
        server.shutdown()
        thread.join()
        server.server_close()
        time.sleep(0.05)  # handlers that were let go end by themselves
