"""Reads that are tried again, over real connections: cut, refused, busy, broken off, and away."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from halfscan_api.archive import Archive, ArchiveUnavailable
from halfscan_archive.retrying import RetryingTransport

OK = b"[]"


@dataclass
class Script:
    """What a server does with one request after the other, and what came.

    Attributes
    ----------
    url : str
    steps : list of str or int
        ``hang up`` answers nothing, ``break off`` half an answer, ``close`` answers and then closes
        the connection unannounced; a number is a status. After the last step all is answered.
    requests : list of (connection, method)
        Connections are numbered from 1.
    """

    url: str
    steps: list[str | int] = field(default_factory=list)
    retry_after: str = ""
    requests: list[tuple[int, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(*steps: str | int, retry_after: str = "") -> Iterator[Script]:
    """Serve on a free loopback port, with connections that are kept."""
    connections: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self)
            self.number = len(connections)

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.bodies.append(body)
            script.requests.append((self.number, self.command))
            step = script.steps.pop(0) if script.steps else 200
            if step == "hang up":
                self.close_connection = True
                return
            self.send_response(step if isinstance(step, int) else 200)
            self.send_header("Content-Type", "application/json")
            if isinstance(step, int) and step >= 400 and script.retry_after:
                self.send_header("Retry-After", script.retry_after)
            self.send_header("Content-Length", str(len(OK)))
            self.end_headers()
            if step == "break off":
                self.wfile.write(OK[:1])
            else:
                self.wfile.write(OK)
            self.close_connection = step in {"break off", "close"}

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  (the base class's names)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(f"http://127.0.0.1:{server.server_address[1]}", list(steps), retry_after)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client(**options: float) -> httpx.Client:
    """Make a client whose tries follow one another at once."""
    transport = RetryingTransport(pauses_s=(0.0, 0.01, 0.01), **options)
    return httpx.Client(transport=transport, trust_env=False, timeout=10)


@pytest.mark.parametrize("step", ["hang up", "break off", 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_read_is_tried_again_on_a_connection_of_its_own(method: str, step: str | int) -> None:
    with scripted(200, step, step) as server, client() as kept:
        kept.get(server.url).raise_for_status()
        answer = kept.request(method, f"{server.url}/tools/find", content=b"asked")
    assert (answer.status_code, answer.content) == (200, OK)
    # The second request came over the kept connection, the others each over a new one.
    assert [number for number, _ in server.requests] == [1, 1, 2, 3]
    assert server.bodies[1:] == [b"asked"] * 3


def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    with scripted("close") as server, client() as kept:
        assert [kept.get(server.url).status_code for _ in range(2)] == [200, 200]
    assert len(server.requests) == 2


@pytest.mark.parametrize("step", ["hang up", 503])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/instances"), ("DELETE", "/series/x"), ("PUT", "/x")]
)
def test_what_may_change_something_goes_through_once(
    method: str, path: str, step: str | int
) -> None:
    with scripted(step) as server, client() as kept:
        if step == "hang up":
            with pytest.raises(httpx.RemoteProtocolError):
                kept.request(method, server.url + path)
        else:
            assert kept.request(method, server.url + path).status_code == step
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500, 501])
def test_other_answers_stand(status: int) -> None:
    with scripted(status) as server, client() as kept:
        assert kept.get(server.url).status_code == status
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("retry_after", "tries"),
    [("1", 2), ("3600", 1), ("Wed, 21 Oct 2015 07:28:00 GMT", 2), ("-1", 2), ("", 2)],
)
def test_a_server_is_given_the_time_it_asks_for_within_the_bound(
    retry_after: str, tries: int
) -> None:
    with scripted(503, retry_after=retry_after) as server, client() as kept:
        begun = time.monotonic()
        answer = kept.get(server.url)
        waited_s = time.monotonic() - begun
    assert (answer.status_code, len(server.requests)) == (200 if tries == 2 else 503, tries)
    assert waited_s >= (1 if retry_after == "1" else 0)


def test_the_waits_that_a_server_asks_for_add_up() -> None:
    with scripted(*[503] * 9, retry_after="1") as server, client(longest_wait_s=1.5) as kept:
        assert kept.get(server.url).status_code == 503
    assert len(server.requests) == 2


# --- the archive --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["hang up", "break off", 503])
def test_the_archive_is_asked_again(step: str | int) -> None:
    with scripted(step, step) as server, closing(Archive(server.url)) as archive:
        assert archive.all_series() == []
    assert len(server.requests) == 3
    assert {json.loads(body)["Level"] for body in server.bodies} == {"Series"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (("hang up",), "the archive cannot be reached: try again"),
        ((503,), "the archive is busy: try again"),
        ((500,), "the archive does not answer as it should"),
    ],
)
def test_an_archive_that_goes_on_so_is_unavailable(steps: tuple[str | int], said: str) -> None:
    with (
        scripted(*steps * 9) as server,
        closing(Archive(server.url)) as archive,
        pytest.raises(ArchiveUnavailable, match=said),
    ):
        archive.all_series()
    assert len(server.requests) == (1 if 500 in steps else 4)


def test_an_archive_that_is_away_is_said_within_the_bound() -> None:
    with socket.socket() as unused:  # bound and not listening: nobody else gets its port
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        begun = time.monotonic()
        with (
            closing(Archive(url)) as archive,
            pytest.raises(ArchiveUnavailable, match="cannot be reached"),
        ):
            archive.all_series()
    assert 2 < time.monotonic() - begun < 30  # 2.6 s, and a busy machine
