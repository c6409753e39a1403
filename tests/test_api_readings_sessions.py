"""When a reader may read: training, wash-out, override, repeats; and that time tells nothing."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from api_study import DAY, Play, plain_answers, start_study
from api_support import Api, json_of

pytest_plugins = ["api_fixtures"]


def refused(play: Play, reader: str, number: int) -> dict[str, Any]:
    answer = play.ask(reader, "POST", f"/sessions/{play.session(reader, number)}/next")
    assert answer.status_code == 409, answer.text
    body = json_of(answer)
    assert body["title"] == "Session not open"
    return body


def test_training_comes_first_and_never_counts(api: Api) -> None:
    play = start_study(api, cases=1, training=2, readers=("r1",))
    shown = play.sessions("r1")
    assert [(one["training"], one["state"], one["total"]) for one in shown] == [
        (True, "open", 2),
        (False, "waiting", 1),
        (False, "waiting", 1),
    ]
    body = refused(play, "r1", 1)
    assert body["detail"] == "the session waits: the training session is not complete"
    assert body["opens_at"] is None
    revision = play.run("GET", "")["revision"]
    play.read_session("r1", 0)
    assert play.run("GET", "")["revision"] == revision
    # No wash-out between training and study.
    assert len(play.read_session("r1", 1)) == 1


def test_the_wash_out_is_kept_to_the_second(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",))
    play.read_session("r1", 0, seconds=3600)
    end = api.clock.now
    body = refused(play, "r1", 1)
    assert body["detail"] == "the session waits: the wash-out of 28 days is not over"
    assert datetime.fromisoformat(body["opens_at"]) == end + timedelta(days=28)
    api.clock.advance(28 * DAY - 1)
    refused(play, "r1", 1)
    api.clock.advance(1)
    assert play.sessions("r1")[1]["state"] == "open"
    assert len(play.read_session("r1", 1)) == 3
    assert play.ask("r1", "POST", f"/sessions/{play.session('r1', 1)}/next").status_code == 204


def test_a_session_waits_for_the_one_before(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    reading = play.must_next("r1", play.session("r1"))
    reading.fill(plain_answers)
    reading.complete()
    api.clock.advance(100 * DAY)
    assert "an earlier session is not complete" in refused(play, "r1", 1)["detail"]


def test_the_time_of_opening_does_not_tell_which_case_came_back(api: Api) -> None:
    """Read over three days: the next session opens at once, four weeks after the last one."""
    play = start_study(api, cases=3, readers=("r1",))
    play.read_session("r1", 0, seconds=DAY)
    api.clock.advance(27 * DAY)  # 29, 28 and 27 days ago
    assert play.sessions("r1")[1]["state"] == "waiting"
    refused(play, "r1", 1)
    api.clock.advance(DAY)
    assert len(play.read_session("r1", 1, seconds=0)) == 3


def test_no_case_is_read_again_before_its_wash_out(api: Api) -> None:
    """Cases that are enrolled while session 2 runs wait for their own wash-out."""
    play = start_study(api, cases=2, readers=("r1",))
    play.read_session("r1", 0)
    api.clock.advance(28 * DAY)
    play.enrol("P03")
    play.run("POST", "/allocation")
    # P03 is new in session 1; session 2 goes on with the two that are ready.
    session = play.session("r1", 1)
    first = play.must_next("r1", session)
    first.fill(plain_answers)
    first.complete()
    assert len(play.read_session("r1", 0)) == 1
    second = play.must_next("r1", session)
    second.fill(plain_answers)
    second.complete()
    read = {play.place(one.code)["case"] for one in (first, second)}
    assert read == {"P01", "P02"}
    assert "wash-out" in refused(play, "r1", 1)["detail"]
    api.clock.advance(28 * DAY)
    [late] = play.read_session("r1", 1)
    assert play.place(late)["case"] == "P03"
    assert play.verify()["holds"]


def test_a_case_that_comes_back_late_waits_alone(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",))
    opened = play.must_next("r1", play.session("r1"))
    late = play.place(opened.code)["case"]
    play.run("POST", f"/cases/{late}/exclude", {"reason": "consent unclear"})
    play.read_session("r1", 0)
    api.clock.advance(28 * DAY)
    first = play.must_next("r1", play.session("r1", 1))
    first.fill(plain_answers)
    first.complete()
    play.run("POST", f"/cases/{late}/readmit", {"reason": "consent found"})
    second = play.must_next("r1", play.session("r1", 1))
    second.fill(plain_answers)
    second.complete()
    assert "an earlier session is not complete" in refused(play, "r1", 1)["detail"]
    assert play.read_session("r1", 0) == [opened.code]
    assert "wash-out" in refused(play, "r1", 1)["detail"]
    api.clock.advance(28 * DAY)
    assert len(play.read_session("r1", 1)) == 1
    assert play.verify()["holds"]


def test_without_a_wash_out_one_session_follows_the_other(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",), washout_days=0)
    assert len(play.read_session("r1", 0)) == len(play.read_session("r1", 1)) == 2


def test_the_coordinator_can_override_with_a_reason(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    play.read_session("r1", 0)
    path = f"/api/v1/sessions/{play.session('r1', 1)}/override"
    assert api.send("POST", path, {}, role="coordinator").status_code == 422
    answer = api.send("POST", path, {"reason": "the reader retires"}, role="coordinator")
    assert answer.status_code == 200
    shown = json_of(answer)
    assert (shown["state"], shown["override_reason"]) == ("open", "the reader retires")
    assert len(play.read_session("r1", 1)) == 2
    [event] = play.events(action="session.override")
    assert (event["reason"], event["actor"]) == ("the reader retires", "the-coordinator")
    again = api.send("POST", path, {"reason": "once more"}, role="coordinator")
    assert (again.status_code, json_of(again)["title"]) == (409, "Nothing to override")
    # The reader is not told why it opened.
    assert "retires" not in play.ask("r1", "GET", "/sessions").text
    assert play.verify()["holds"]


def test_an_override_waives_the_wash_out_and_never_the_order(api: Api) -> None:
    """With session 1 unread or half read, neither 2 nor 3 opens, and none before the training."""
    play = start_study(api, cases=2, training=1, readers=("r1",), repeat_sessions=1)
    for number in (1, 2, 3):
        path = f"/api/v1/sessions/{play.session('r1', number)}/override"
        answer = api.send("POST", path, {"reason": "a hurry"}, role="coordinator")
        assert (answer.status_code, json_of(answer)["state"]) == (200, "waiting")
        again = api.send("POST", path, {"reason": "more hurry"}, role="coordinator")
        assert (again.status_code, json_of(again)["title"]) == (409, "Nothing to override")
    assert "waived already" in json_of(again)["detail"]
    for number in (1, 2, 3):
        assert "training" in refused(play, "r1", number)["detail"]
    play.read_session("r1", 0)
    half = play.must_next("r1", play.session("r1", 1))
    half.fill(plain_answers)
    half.complete()
    for number in (2, 3):
        assert "an earlier session is not complete" in refused(play, "r1", number)["detail"]
    # In their order, they follow each other at once.
    assert [len(play.read_session("r1", number)) for number in (1, 2, 3)] == [1, 2, 2]
    assert play.verify()["holds"]


def test_a_session_that_is_not_there_cannot_be_overridden(api: Api) -> None:
    path = f"/api/v1/sessions/{'0' * 32}/override"
    answer = api.send("POST", path, {"reason": "because"}, role="coordinator")
    assert answer.status_code == 404


def test_repeat_sessions_come_last_and_look_like_the_others(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",), repeat_sessions=2)
    for number in range(4):
        assert len(play.read_session("r1", number)) == 2
        api.clock.advance(28 * DAY)
    shown = play.sessions("r1")
    assert [one["training"] for one in shown] == [False] * 4
    assert "repeat" not in play.ask("r1", "GET", "/sessions").text
    detail = play.run("GET", "/sessions")["items"]
    assert [(one["number"], one["kind"]) for one in detail] == [
        (1, "reading"),
        (2, "reading"),
        (3, "repeat"),
        (4, "repeat"),
    ]
    assert play.run("GET", "")["readings"]["complete"] == 8
    assert play.verify()["holds"]


@pytest.mark.parametrize("reader", ["r1", "r2"])
def test_readers_do_not_wait_for_each_other(api: Api, reader: str) -> None:
    play = start_study(api, cases=2)
    play.read_session(reader, 0)
    api.clock.advance(28 * DAY)
    assert len(play.read_session(reader, 1)) == 2
