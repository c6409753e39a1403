"""Inspections over HTTP, on SQLite and PostgreSQL: a question, a worker's answer, and no answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_support import Api, json_of, make_api, series

pytest_plugins = ["api_fixtures"]

URL = "/api/v1/inspections"
UID = "1.2.826.0.1.7"
RESULT = {"series_instance_uid": UID, "decision": "reconstruct", "evidence": [{"tag": "x"}]}


def ask(api: Api, role: str = "coordinator", **body: Any) -> TestResponse:
    return api.send("POST", URL, body or {"series_instance_uid": UID}, role=role)


def show(api: Api, row_id: int, query: str = "", role: str = "coordinator") -> dict[str, Any]:
    answer = api.send("GET", f"{URL}/{row_id}{query}", role=role)
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def claim(api: Api, worker: str = "w1", **more: Any) -> dict[str, Any] | None:
    answer = api.send("POST", f"{URL}/claim", {"worker": worker, **more})
    return json_of(answer) if answer.status_code == 200 else None


def must_claim(api: Api, worker: str = "w1", **more: Any) -> dict[str, Any]:
    row = claim(api, worker, **more)
    assert row is not None
    return row


def answer(api: Api, claimed: dict[str, Any], **changes: Any) -> TestResponse:
    body = {"lease_token": claimed["lease_token"], "status": "done", "result": RESULT, **changes}
    return api.send("POST", f"{URL}/{claimed['id']}/outcome", body)


def test_a_question_and_its_answer(api: Api) -> None:
    asked = ask(api)
    body = json_of(asked)
    assert asked.status_code == 201
    assert asked.headers["Location"] == f"{URL}/{body['id']}"
    assert (body["status"], body["worker"], body["result"]) == ("pending", None, None)
    claimed = must_claim(api)
    assert (claimed["id"], claimed["series_instance_uid"]) == (body["id"], UID)
    assert claimed["orthanc_series_id"] is None
    assert claim(api, "w2") is None
    assert show(api, body["id"])["status"] == "leased"
    assert "lease_token" not in show(api, body["id"])
    assert answer(api, claimed).status_code == 200
    shown = show(api, body["id"], role="statistician")
    assert (shown["status"], shown["result"], shown["worker"]) == ("done", RESULT, "w1")
    assert (shown["error_code"], shown["error"]) == (None, None)
    assert shown["finished_at"] is not None


def test_a_question_by_orthancs_identifier(api: Api) -> None:
    orthanc_id = series()["orthanc_series_id"]
    assert ask(api, orthanc_series_id=orthanc_id).status_code == 201
    assert must_claim(api)["orthanc_series_id"] == orthanc_id


@pytest.mark.parametrize(
    "body", [{"a": 1}, {"series_instance_uid": UID, "orthanc_series_id": "x"}, {"nothing": None}]
)
def test_exactly_one_name_is_needed(api: Api, body: dict[str, Any]) -> None:
    assert ask(api, **body).status_code == 422
    both = {"series_instance_uid": UID, "orthanc_series_id": series()["orthanc_series_id"]}
    assert "exactly one" in json_of(ask(api, **both))["detail"]


def test_an_open_question_is_not_asked_twice(api: Api) -> None:
    first = json_of(ask(api))
    assert ask(api).status_code == 200
    assert json_of(ask(api))["id"] == first["id"]
    claimed = must_claim(api)
    assert json_of(ask(api))["id"] == first["id"]
    answer(api, claimed)
    # The rules, the model and the series may be others by now.
    again = ask(api)
    assert (again.status_code, json_of(again)["id"]) == (201, first["id"] + 1)
    assert ask(api, series_instance_uid="1.2.3").status_code == 201


def test_an_answer_that_is_an_error(api: Api) -> None:
    row = json_of(ask(api))
    failure = {"status": "failed", "error_code": "series_not_found", "error": "not there"}
    assert answer(api, must_claim(api), result=None, **failure).status_code == 200
    shown = show(api, row["id"])
    assert (shown["status"], shown["error_code"]) == ("failed", "series_not_found")
    assert shown["result"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"result": None},
        {"error": "e"},
        {"status": "failed"},
        {"status": "failed", "result": None, "error": "e"},
        {"status": "leased"},
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(api: Api, changes: dict[str, Any]) -> None:
    ask(api)
    assert answer(api, must_claim(api), **changes).status_code == 422


def test_the_same_answer_may_come_again(api: Api) -> None:
    ask(api)
    claimed = must_claim(api)
    assert [answer(api, claimed).status_code for _ in range(2)] == [200, 200]
    failure = {"status": "failed", "result": None, "error_code": "x", "error": "e"}
    assert answer(api, claimed, **failure).status_code == 409


def test_nobody_answers(api: Api) -> None:
    row = json_of(ask(api))
    api.clock.advance(59)
    assert show(api, row["id"])["status"] == "pending"
    api.clock.advance(1)
    shown = show(api, row["id"])
    assert (shown["status"], shown["error_code"]) == ("failed", "no_worker")
    assert shown["error"] == "no worker took it within 60 s: is one running?"
    assert claim(api) is None
    assert ask(api).status_code == 201


def test_a_worker_that_vanishes_is_followed_by_another(api: Api) -> None:
    row = json_of(ask(api))
    lost = must_claim(api, "w1", lease_s=10)
    api.clock.advance(10)
    taken = must_claim(api, "w2", lease_s=10)
    assert (taken["id"], taken["worker"]) == (row["id"], "w2")
    assert answer(api, lost).status_code == 409
    api.clock.advance(10)
    shown = show(api, row["id"])
    assert (shown["status"], shown["error_code"]) == ("failed", "worker_vanished")
    assert "w2 vanished at attempt 2 of 2" in shown["error"]
    assert answer(api, taken).status_code == 409


def test_the_only_worker_vanishes(api: Api) -> None:
    row = json_of(ask(api))
    must_claim(api, lease_s=10)
    api.clock.advance(10 + 60)
    assert show(api, row["id"])["error_code"] == "worker_vanished"


def test_a_late_answer_counts_while_nobody_else_has_the_question(api: Api) -> None:
    ask(api)
    claimed = must_claim(api, lease_s=10)
    api.clock.advance(30)
    assert answer(api, claimed).status_code == 200


def test_the_oldest_question_comes_first(api: Api) -> None:
    ids = [json_of(ask(api, series_instance_uid=f"1.{n}"))["id"] for n in (3, 1, 2)]
    assert [must_claim(api)["id"] for _ in ids] == ids


def test_old_inspections_are_removed(api: Api) -> None:
    old = json_of(ask(api))["id"]
    api.clock.advance(timedelta(days=7).total_seconds() + 1)
    ask(api, series_instance_uid="1.2.3")
    gone = api.send("GET", f"{URL}/{old}")
    assert gone.status_code == 404
    assert json_of(gone)["detail"] == (
        f"there is no inspection {old}; they are removed after 7 days"
    )


@pytest.mark.parametrize("row_id", ["77", str(2**63)])
def test_an_unknown_id_is_not_found(api: Api, row_id: str) -> None:
    assert api.send("GET", f"{URL}/{row_id}").status_code == 404
    assert api.send("GET", f"{URL}/{row_id}?wait_s=0.1").status_code == 404
    body = {"lease_token": "x", "status": "done", "result": {}}
    assert api.send("POST", f"{URL}/{row_id}/outcome", body).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [
        ("POST", "", {"service", "coordinator", "statistician"}),
        ("GET", "/1", {"service", "coordinator", "statistician"}),
        ("POST", "/claim", {"service"}),
        ("POST", "/1/outcome", {"service"}),
    ],
)
def test_who_may(sqlite_api: Api, method: str, path: str, roles: set[str]) -> None:
    ask(sqlite_api)
    body: dict[str, Any] | None = None if method == "GET" else {}
    for role in sqlite_api.tokens:
        status = sqlite_api.send(method, URL + path, body, role=role).status_code
        assert (status == 403) == (role not in roles | {"admin"}), role


# --- waiting for the answer -------------------------------------------------------------------


def test_waiting_ends_with_the_answer(api: Api) -> None:
    row = json_of(ask(api))
    claimed = must_claim(api)
    threading.Timer(0.5, answer, (api, claimed)).start()
    began = time.monotonic()
    assert show(api, row["id"], "?wait_s=20")["status"] == "done"
    assert 0.3 < time.monotonic() - began < 10


def test_waiting_ends_without_an_answer(api: Api) -> None:
    row = json_of(ask(api))
    began = time.monotonic()
    assert show(api, row["id"], "?wait_s=0.6")["status"] == "pending"
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("wait_s", ["-1", "20.1", "nan", "soon"])
def test_how_long_one_may_wait(sqlite_api: Api, wait_s: str) -> None:
    ask(sqlite_api)
    answered = sqlite_api.send("GET", f"{URL}/1?wait_s={wait_s}")
    assert answered.status_code == 422
    assert "wait_s" in json_of(answered)["detail"]


def test_those_who_wait_leave_room_for_others(api_database_url: str, api_environment: None) -> None:
    api = make_api(api_database_url, threads=4)
    row = json_of(ask(api))
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        waits = list(
            pool.map(lambda _: _timed(lambda: show(api, row["id"], "?wait_s=2")), range(4))
        )
    assert sum(seconds >= 2 for seconds in waits) == 2, "half of four threads"
    assert time.monotonic() - began < 10
    api.database.dispose()


def _timed(what: Any) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


def test_many_workers_take_each_question_once(api: Api) -> None:
    ids = [json_of(ask(api, series_instance_uid=f"1.{n}"))["id"] for n in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(lambda n: claim(api, f"w{n}"), range(18)))
    assert sorted(row["id"] for row in claims if row is not None) == ids
