"""Server-sent events: the revision as it moves, from real servers on one database."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from api_study import STUDIES, plain_answers, start_study
from api_support import Api, json_of
from halfscan_api.statistics import events
from statistics_fixtures import bump, tang_study

pytest_plugins = ["api_fixtures"]

Start = Callable[[], str]


@pytest.fixture
def start(api_database_url: str, tmp_path: Path, api_environment: None) -> Iterator[Start]:
    """Start real servers on one database; gives their addresses."""
    processes: list[subprocess.Popen[bytes]] = []

    def run() -> str:
        ready = tmp_path / f"ready-{len(processes)}.json"
        command = [sys.executable, "-m", "halfscan_api", "serve", "--port", "0"]
        command += ["--ready-file", str(ready), "--database-url", api_database_url]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        processes.append(process)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url: str = json.loads(ready.read_text())["url"]
        return url

    yield run
    for process in processes:
        process.terminate()
        assert process.wait(40) == 0


def open_stream(url: str, api: Api, study: int, **headers: str) -> requests.Response:
    return requests.get(
        f"{url}{STUDIES}/{study}/events?life_s=6",
        headers={"Authorization": f"Bearer {api.tokens['statistician']}", **headers},
        stream=True,
        timeout=20,
    )


def next_revision(lines: Iterator[str]) -> int:
    """Read one event."""
    event: dict[str, str] = {}
    for line in lines:
        if not line and "data" in event:
            assert event["event"] == "revision"
            assert json.loads(event["data"]) == {"revision": int(event["id"])}
            return int(event["id"])
        name, _, value = line.partition(": ")
        event[name] = value
    raise AssertionError("the stream ended")


def test_a_stream_tells_what_another_process_did(start: Start, api: Api) -> None:
    """The servers share nothing but the database."""
    study = start_study(api, cases=1, readers=("r1",), washout_days=0)
    first, second = start(), start()
    with open_stream(first, api, study.study_id) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(decode_unicode=True)
        before = next_revision(lines)
        reading = study.must_next("r1", study.session("r1", 0))
        reading.fill(plain_answers)
        completed = requests.post(
            f"{second}/api/v1/readings/{reading.code}/complete",
            json={},
            headers={"Authorization": f"Bearer {study.tokens['r1']}", "If-Match": reading.etag},
            timeout=20,
        )
        assert completed.status_code == 200, completed.text
        assert next_revision(lines) == before + 1
    with open_stream(second, api, study.study_id, **{"Last-Event-ID": str(before)}) as answer:
        assert next_revision(answer.iter_lines(decode_unicode=True)) == before + 1


def test_streams_leave_threads_to_others(start: Start, api: Api) -> None:
    """Half of the eight threads may stream; the rest keeps on serving, and a closed one frees."""
    study = tang_study(api, cases=1)
    url = start()
    opened = [open_stream(url, api, study) for _ in range(4)]
    for answer in opened:
        assert next_revision(answer.iter_lines(decode_unicode=True)) == 1
    refused = open_stream(url, api, study)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    assert refused.json()["title"] == "Too many streams"
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    for answer in opened:
        answer.close()
    with api.database.write() as session:
        bump(session, study)  # the servers notice at the next event that nobody listens
    deadline = time.monotonic() + 20
    while (again := open_stream(url, api, study)).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert next_revision(again.iter_lines(decode_unicode=True)) == 2
    again.close()


# --- the generator itself -----------------------------------------------------------------------


def test_a_stream_has_a_bounded_life(api: Api) -> None:
    study = tang_study(api, cases=1)
    found = list(events.revisions(api.database, study, known=None, life_s=0))
    assert found == ["retry: 2000\n\n", 'id: 1\nevent: revision\ndata: {"revision":1}\n\n']
    began = time.monotonic()
    assert list(events.revisions(api.database, study, known=1, life_s=0.3)) == ["retry: 2000\n\n"]
    assert 0.3 <= time.monotonic() - began < 5


def test_a_quiet_stream_has_a_heartbeat(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tang_study(api, cases=1)
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    found = list(events.revisions(api.database, study, known=1, life_s=1))
    assert 2 <= found.count(": nothing new\n\n") <= 10
    assert not any("revision" in event for event in found)


def test_every_move_is_told_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tang_study(api, cases=1)
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.01)

    def move() -> None:
        for _ in range(5):
            time.sleep(0.2)
            with api.database.write() as session:
                bump(session, study)

    mover = threading.Thread(target=move)
    mover.start()
    found = "".join(events.revisions(api.database, study, known=None, life_s=3))
    mover.join()
    assert [line for line in found.splitlines() if line.startswith("id")] == [
        f"id: {number}" for number in range(1, 7)
    ]


def test_a_study_that_is_not_there_has_no_stream(sqlite_api: Api) -> None:
    path = f"{STUDIES}/7/events"
    answer = sqlite_api.send("GET", path, role="statistician")
    assert (answer.status_code, json_of(answer)["title"]) == (404, "Study not found")
    refused = sqlite_api.send("GET", f"{path}?life_s=301", role="statistician")
    assert refused.status_code == 422


@pytest.mark.parametrize("header", [None, "", "-1", "x", "1.5", "9" * 30, "\u0663"])
def test_a_last_event_id_that_is_none(header: str | None) -> None:
    assert events.last_event_id(header) is None


def test_the_place_of_a_stream_is_given_back_once(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=1)
    for _ in range(10):
        path = f"{STUDIES}/{study}/events?life_s=0"
        with sqlite_api.send("GET", path, role="coordinator") as answer:
            assert (answer.status_code, b"id: 1" in answer.data) == (200, True)
            answer.close()
