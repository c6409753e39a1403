"""The commands as a person runs them: a real gunicorn, a real kill -9, real mistakes."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from api_support import URL, done, series
from halfscan_api.__main__ import main

pytest_plugins = ["api_fixtures"]
pytestmark = pytest.mark.usefixtures("api_environment")

COMMAND = [sys.executable, "-m", "halfscan_api"]


@dataclass
class Server:
    """A running server, in a process group of its own."""

    process: subprocess.Popen[bytes]
    url: str
    ready_file: Path
    log: Path

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers; what still runs at the end is killed."""
    servers: list[Server] = []

    def run(*options: str, port: int = 0) -> Server:
        ready_file = tmp_path / "ready.json"
        ready_file.unlink(missing_ok=True)
        log = tmp_path / f"log-{len(servers)}"
        given = ["--database-url", f"sqlite:///{tmp_path}/halfscan.db", *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, "serve", "--port", str(port), "--ready-file", str(ready_file), *given],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                start_new_session=True,
            )
        server = Server(process, "", ready_file, log)
        servers.append(server)
        deadline = time.monotonic() + 60
        while not ready_file.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        facts = json.loads(ready_file.read_text())
        assert facts["pid"] == process.pid
        server.url = facts["url"]
        return server

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.kill()


def halfscan(*arguments: str, status: int = 0, environment: dict[str, str] | None = None) -> Result:
    """Run a command inside this process."""
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/halfscan.db"


@pytest.fixture
def session(database_url: str) -> Iterator[requests.Session]:
    """HTTP with a token of the role service."""
    name = ("--name", "w", "--database-url", database_url)
    made = halfscan("token", "create", "--role", "service", *name)
    with requests.Session() as opened:
        opened.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
        yield opened


def port_of(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1])


def test_nothing_is_lost_by_kill_9(start: Start, session: requests.Session) -> None:
    first = start()
    base = first.url + URL
    for number in range(1, 21):
        assert session.post(base, json=series(number)).status_code == 201
    claimed = session.post(f"{base}/claim", json={"worker": "w"}).json()
    finished = session.post(f"{base}/claim", json={"worker": "w"}).json()
    report = done(finished)
    session.post(f"{base}/{finished['id']}/outcome", json=report).raise_for_status()
    before = session.get(base, params={"per_page": 100}).json()
    first.kill()
    with pytest.raises(requests.ConnectionError):
        session.get(base)

    second = start(port=port_of(first))
    assert second.url == first.url
    assert session.get(base, params={"per_page": 100}).json() == before
    # The worker goes on as if nothing had happened.
    token = {"lease_token": claimed["lease_token"]}
    assert session.post(f"{base}/{claimed['id']}/lease", json=token).status_code == 200
    done_now = session.post(f"{base}/{claimed['id']}/outcome", json=done(claimed))
    assert done_now.json()["status"] == "done"
    assert session.post(f"{base}/{finished['id']}/outcome", json=report).status_code == 200
    counts = session.get(f"{base}/summary").json()
    assert (counts["done"], counts["pending"], counts["total"]) == (2, 18, 20)


def test_what_was_acknowledged_before_kill_9_is_there(
    start: Start, session: requests.Session
) -> None:
    """Killed in the middle of a stream of requests, at no particular moment."""
    server = start()
    acknowledged: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_announce_until_it_dies, server.url + URL, session, acknowledged)
        while len(acknowledged) < 15:
            assert not future.done(), future.exception()
            time.sleep(0.005)
        server.kill()
        future.result(30)
    again = start()
    page = session.get(again.url + URL, params={"per_page": 200}).json()
    stored = {item["source_digest"] for item in page["items"]}
    assert set(acknowledged) <= stored
    # At most the one whose answer was under way is there without anyone knowing.
    assert len(stored) - len(acknowledged) <= 1


def _announce_until_it_dies(base: str, session: requests.Session, told: list[str]) -> None:
    for number in range(1, 10_000):
        body = series(number)
        try:
            answer = session.post(base, json=body, timeout=10)
        except requests.RequestException:
            return
        assert answer.status_code == 201
        told.append(body["source_digest"])


def test_requests_at_the_same_time_over_http(start: Start, session: requests.Session) -> None:
    base = start("--threads", "6").url + URL
    for number in range(1, 31):
        session.post(base, json=series(number)).raise_for_status()
    headers = dict(session.headers)

    def claim(worker: int) -> int | None:
        answer = requests.post(
            f"{base}/claim", json={"worker": f"w{worker}"}, headers=headers, timeout=30
        )
        assert answer.status_code in {200, 204}
        return answer.json()["id"] if answer.status_code == 200 else None

    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(claim, range(36)))
    assert sorted(row for row in claims if row is not None) == list(range(1, 31))
    assert claims.count(None) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_removes_the_ready_file(start: Start, number: int) -> None:
    server = start()
    assert server.stop(number) == 0
    assert not server.ready_file.exists()
    log = server.log.read_text()
    assert "Traceback" not in log
    assert f"Halfscan API on {server.url}, documentation on {server.url}/docs" in log


def test_the_log_is_json_with_ids_only(start: Start, session: requests.Session) -> None:
    server = start()
    answer = session.post(server.url + URL, json=series())
    session.post(f"{server.url}{URL}/claim", json={"worker": "w"})
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[0] == "{"]
    events = {line["event"]: line for line in lines}
    assert events["reconstruction_created"]["id"] == 1
    assert events["reconstruction_created"]["request_id"] == answer.headers["X-Request-ID"]
    assert events["reconstruction_claimed"]["worker"] == "w"
    assert events["request_answered"]["token_id"] == 1
    text = server.log.read_text()
    assert series()["series_instance_uid"] not in text
    assert str(session.headers["Authorization"]).split()[1] not in text


def test_a_port_in_use(database_url: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [*COMMAND, "serve", "--port", str(port), "--database-url", database_url]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port, or 0 for a free one\n"
    )


SERVE = ("serve", "--port", "0")


def refused(server: Server, request: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send bytes as they are; status, headers and problem document of the answer."""
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as line:
        line.sendall(request)
        text = b""
        while part := line.recv(65536):
            text += part
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(one.split(": ", 1) for one in lines)
    assert int(headers["Content-Length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


def test_what_cannot_be_read_is_refused_as_a_problem(start: Start) -> None:
    server = start()
    for request, status in (
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"y" * 10_000 + b"\r\n\r\n", 431),
        (b"hello, is anybody there?\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhs_secret no colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: brotli\r\n\r\n", 501),
    ):
        found, headers, body = refused(server, request)
        assert found == status, (request[:40], body)
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["Connection"] == "close"
        assert body.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
        assert (body["status"], headers["X-Request-ID"]) == (status, body["request_id"])
        assert f'"{body["request_id"]}"' in server.log.read_text()
    # What was sent may hold a token: the log does not repeat it.
    assert "hs_secret" not in server.log.read_text()
    assert requests.get(f"{server.url}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ((*SERVE, "--database-url", "sqlite:///letter.db"), {}, "file is not a database"),
        ((*SERVE, "--database-url", "sqlite:///folder"), {}, "unable to open database file"),
        ((*SERVE, "--database-url", "sqlite:///no/x.db"), {}, "in a folder that exists"),
        (
            (*SERVE, "--database-url", "postgresql://u:geheim@127.0.0.1:1/db"),
            {},
            "postgresql+psycopg://u:***@127.0.0.1:1/db cannot be used",
        ),
        ((*SERVE, "--host", "192.0.2.1"), {}, "cannot listen on 192.0.2.1 port 0: "),
        ((*SERVE, "--host", "no host"), {}, "cannot listen on no host port 0: "),
        ((*SERVE, "--threads", "0"), {}, "HALFSCAN_API_THREADS: Input should be"),
        (SERVE, {"HALFSCAN_API_PROT": "1"}, "nearest known one is HALFSCAN_API_PORT"),
        ((*SERVE, "--ready-file", "no/where.json"), {}, "needs an existing folder"),
        (
            ("token", "revoke", "nobody", "--database-url", "sqlite:///new.db"),
            {},
            "no token that counts has the id or name 'nobody'",
        ),
        (("token", "revoke", "nobody"), {}, "there is no database halfscan.db"),
        (("token", "list"), {}, "there is no database halfscan.db"),
        (("token", "create", "--role", "service", "--name", "1"), {}, "name must be a letter"),
        (
            ("token", "create", "--role", "reader", "--name", "r1"),
            {},
            "the coordinator makes both at once, POST /api/v1/studies/ID/readers",
        ),
        (("token", "create", "--role", "owner", "--name", "x"), {}, "'owner' is not one of"),
        (("token", "list", "--database-url", "sqlite:///letter.db"), {}, "is not a database"),
    ],
)
def test_a_mistake_gets_one_line(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "letter.db").write_text("this is a letter " * 100)
    (tmp_path / "new.db").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments, env=environment)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code in {1, 2}
    assert result.stdout == ""
    assert "geheim" not in result.stderr
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last


def test_tokens_on_the_command_line(tmp_path: Path) -> None:
    environment = {"HALFSCAN_API_DATABASE_URL": f"sqlite:///{tmp_path}/t.db"}
    created = halfscan(
        *("token", "create", "--role", "statistician", "--name", "r1", "--days", "2", "--json"),
        environment=environment,
    )
    facts = json.loads(created.stdout)
    assert facts.keys() == {
        *("id", "name", "role", "created_at", "expires_at", "revoked_at", "last_used_at", "token")
    }
    assert (facts["id"], facts["role"], facts["revoked_at"]) == (1, "statistician", None)
    assert facts["expires_at"].endswith("Z")
    plain = halfscan(
        "token", "create", "--role", "service", "--name", "w1", environment=environment
    )
    assert plain.stdout.startswith("hs_")
    assert len(plain.stdout.split()) == 1
    assert "cannot be shown again" in plain.stderr
    twice = halfscan(
        "token", "create", "--role", "service", "--name", "w1", status=1, environment=environment
    )
    assert twice.stdout == ""
    assert "a token named 'w1' exists (id 2)" in twice.stderr
    assert "w1" in halfscan("token", "revoke", "w1", environment=environment).stdout
    listed = json.loads(halfscan("token", "list", "--json", environment=environment).stdout)
    assert [row["name"] for row in listed] == ["r1", "w1"]
    assert listed[0]["revoked_at"] is None
    assert listed[1]["revoked_at"] is not None
    table = halfscan("token", "list", environment=environment).stdout
    assert "r1" in table
    # The file holds the arms and the key of the blinded identifiers.
    files = sorted(tmp_path.glob("t.db*"))
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    for text in (table, json.dumps(listed), _everything_in(tmp_path / "t.db")):
        assert facts["token"] not in text
        assert plain.stdout.strip() not in text


def _everything_in(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()
