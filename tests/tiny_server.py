"""A real HTTP server on loopback that answers as a test says."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """What a real HTTP server answers, and what it was asked.

    Attributes
    ----------
    url : str
        Its address.
    status, body, headers
        The answer to every request.
    answers : dict of str to (int, bytes)
        Other answers, by the path of the request.
    hang_up : bool
        Close the connection instead.
    raw : bytes, optional
        Send these instead of an HTTP answer.
    requests : list of (method, path, headers, body)
        What came.
    """

    url: str
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    hang_up: bool = False
    raw: bytes | None = None
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serve(status: int = 200, body: bytes = b"{}") -> Iterator[Server]:
    """Serve on a free loopback port; the answer may be changed at any time."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            state.requests.append((self.command, self.path, dict(self.headers), body))
            if state.hang_up:
                self.connection.close()
                self.close_connection = True
                return
            if state.raw is not None:
                self.wfile.write(state.raw)
                self.close_connection = True
                return
            status, content = state.answers.get(self.path, (state.status, state.body))
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815  (the base class's names)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a closed connection
    state = Server(f"http://127.0.0.1:{server.server_address[1]}", status, body)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
