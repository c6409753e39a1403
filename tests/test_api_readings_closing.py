"""One session at a time: what was read in another session is closed to its reader."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_study import DAY, Play, Reading, plain_answers, start_study
from api_support import Api, json_of

pytest_plugins = ["api_fixtures"]

SCORE = {"sequence": "sag_t1", "criterion": "noise", "value": 3}
CLOSED = (409, "Reading closed")
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "/scores", {"scores": [SCORE]}),
    ("PUT", "/findings", {"findings": [{"finding": "disc_bulge", "level": "L4/L5", "value": 1}]}),
    (
        "PUT",
        "/measurements",
        {"measurements": [{"sequence": "sag_t1", "region": "psoas", "mean": 1, "sd": 1}]},
    ),
    ("POST", "/complete", {}),
    ("POST", "/amend", {"reason": "looked again", "scores": [SCORE]}),
]


def show(play: Play, code: str) -> TestResponse:
    return play.ask("r1", "GET", f"/readings/{code}")


def title(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, json_of(answer)["title"]


def read_one(play: Play, number: int) -> Reading:
    reading = play.must_next("r1", play.session("r1", number))
    play.api.clock.advance(60)
    reading.fill(plain_answers)
    reading.complete()
    return reading


def late_cases(play: Play, *pseudonyms: str) -> None:
    for pseudonym in pseudonyms:
        play.enrol(pseudonym)
    play.run("POST", "/allocation")


def override(play: Play, number: int) -> None:
    path = f"/api/v1/sessions/{play.session('r1', number)}/override"
    answer = play.api.send("POST", path, {"reason": "the reader leaves"}, role="coordinator")
    assert answer.status_code == 200, answer.text


def test_the_first_reading_of_a_session_closes_the_session_before(api: Api) -> None:
    play = start_study(api, cases=4, readers=("r1",))
    codes = play.read_session("r1", 0)
    api.clock.advance(28 * DAY)
    # Open, but not begun: nothing is held side by side yet.
    assert play.sessions("r1")[1]["state"] == "open"
    amended = play.ask("r1", "POST", f"/readings/{codes[0]}/amend", CALLS[-1][2], If_Match="*")
    assert amended.status_code == 200
    play.must_next("r1", play.session("r1", 1))
    events = len(play.events())
    said: dict[str, set[str]] = {"standard": set(), "accelerated": set()}
    for code in codes:
        arm = play.place(code)["arm"]
        for method, path, body in CALLS:
            answer = play.ask("r1", method, f"/readings/{code}{path}", body, If_Match="*")
            assert title(answer) == CLOSED, (method, path, answer.text)
            assert answer.mimetype == "application/problem+json"
            assert "gone on in another session" in json_of(answer)["detail"]
            text = answer.text.replace(code, "CODE")
            text = text.replace(json_of(answer)["request_id"], "")
            said[arm].add(f"{method} {path} {text} {sorted(answer.headers.keys())}")
    # The same words for both arms, call by call, and no ETag.
    assert said["standard"] == said["accelerated"]
    assert len(said["standard"]) == len(CALLS)
    assert "ETag" not in "".join(said["standard"])
    # Nothing was written but that the coordinator looked at the allocation.
    assert {one["action"] for one in play.events()[events:]} <= {"looked"}
    assert play.verify()["holds"]


def test_the_readings_of_the_same_session_stay_open(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",))
    play.read_session("r1", 0)
    api.clock.advance(28 * DAY)
    first = read_one(play, 1)
    second = read_one(play, 1)
    play.must_next("r1", play.session("r1", 1))
    for reading in (first, second):
        assert reading.show()["state"] == "complete"
        changed = reading.amend(reason="looked again", scores=[SCORE])
        assert changed.status_code == 200, changed.text


def test_training_and_every_session_before_are_closed(api: Api) -> None:
    """Repeats too: the arm of a repeat is that of one of the readings before."""
    play = start_study(api, cases=2, training=1, readers=("r1",), repeat_sessions=1)
    read: list[str] = []
    for number in range(4):
        api.clock.advance(28 * DAY)
        codes = play.read_session("r1", number)
        assert {show(play, code).status_code for code in codes} == {200}
        assert all(title(show(play, code)) == CLOSED for code in read)
        read += codes
    assert len(read) == 1 + 2 + 2 + 2


def test_a_training_case_that_comes_late_closes_nothing(api: Api) -> None:
    play = start_study(api, cases=2, training=1, readers=("r1",))
    play.read_session("r1", 0)
    first = read_one(play, 1)
    play.enrol("T02", "training")
    play.run("POST", "/allocation")
    [late] = play.read_session("r1", 0)
    assert show(play, late).status_code == 200
    assert first.show()["state"] == "complete"
    read_one(play, 1)
    assert title(show(play, late)) == CLOSED


def test_readers_do_not_close_each_other(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1", "r2"))
    [code] = play.read_session("r1", 0)
    play.read_session("r2", 0)
    api.clock.advance(28 * DAY)
    play.read_session("r2", 1)
    assert show(play, code).status_code == 200


def test_an_override_lets_nobody_read_two_sessions_at_once(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",))
    sessions = [play.session("r1", number) for number in (0, 1)]
    done = [read_one(play, 0) for _ in range(3)][-1]
    late_cases(play, "P91", "P92")
    open_one = play.must_next("r1", sessions[0])
    override(play, 1)
    refused = play.ask("r1", "POST", f"/sessions/{sessions[1]}/next")
    assert title(refused) == (409, "Another reading open")
    assert json_of(refused)["open_session"] == sessions[0]
    open_one.fill(plain_answers)
    open_one.complete()
    api.clock.advance(1)
    later = read_one(play, 1)
    assert title(show(play, done.code)) == CLOSED
    assert show(play, later.code).status_code == 200
    # Back to what is left of the first session: now the later one is closed, and stays so.
    back = read_one(play, 0)
    assert title(show(play, later.code)) == CLOSED
    assert title(show(play, done.code)) == CLOSED
    assert show(play, back.code).status_code == 200
    read_one(play, 1)
    assert title(show(play, later.code)) == CLOSED
    assert title(show(play, back.code)) == CLOSED


def test_two_sessions_asked_at_once_open_one_reading(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",))
    play.read_session("r1", 0)
    late_cases(play, "P91")
    api.clock.advance(28 * DAY)
    sessions = [play.session("r1", number) for number in (0, 1)]

    def ask(session: str) -> int:
        return play.ask("r1", "POST", f"/sessions/{session}/next").status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, sessions * 3))
    assert sorted(statuses) == [200, 200, 200, 409, 409, 409]
    assert [row["state"] for row in play.allocation()].count("open") == 1


def test_a_stored_answer_is_not_given_again_once_closed(api: Api) -> None:
    """An Idempotency-Key opens no door that is closed."""
    play = start_study(api, cases=1, readers=("r1",), washout_days=0)
    session = play.session("r1", 0)
    key = {"Idempotency_Key": "k1"}
    reading = play.must_next("r1", session)
    reading.fill(plain_answers)

    def replay() -> TestResponse:
        return play.ask("r1", "POST", f"/sessions/{session}/next", **key)

    assert len(json_of(replay())["answers"]["scores"]) == 3
    reading.complete()
    again = replay()
    assert again.headers["Idempotent-Replayed"] == "true"
    play.must_next("r1", play.session("r1", 1))
    assert title(replay()) == CLOSED


def test_a_reading_that_was_withdrawn_is_closed_too(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    reading = play.must_next("r1", play.session("r1"))
    reading.fill(plain_answers)
    case = play.place(reading.code)["case"]
    play.run("POST", f"/cases/{case}/exclude", {"reason": "consent unclear"})
    read_one(play, 0)
    assert json_of(show(play, reading.code))["state"] == "withdrawn"
    api.clock.advance(28 * DAY)
    read_one(play, 1)
    assert title(show(play, reading.code)) == CLOSED
    # Taken back, it is read to its end in its own session.
    play.run("POST", f"/cases/{case}/readmit", {"reason": "consent found"})
    assert title(show(play, reading.code)) == CLOSED
    again = play.must_next("r1", play.session("r1"))
    assert again.code == reading.code
    assert again.show()["answers"]["scores"]


# --- what two readings of one case have in common -----------------------------------------------


@pytest.mark.parametrize("back", [False, True])
def test_an_exclusion_moves_no_version_that_its_reader_did_not_see_move(
    api: Api, *, back: bool
) -> None:
    play = start_study(api, cases=3, readers=("r1",), washout_days=0)
    codes = play.read_session("r1", 0)
    before = {code: show(play, code).headers["ETag"] for code in codes}
    case = play.place(codes[0])["case"]
    play.run("POST", f"/cases/{case}/exclude", {"reason": "metal"})
    if back:
        play.run("POST", f"/cases/{case}/readmit", {"reason": "that was another patient"})
    assert {code: show(play, code).headers["ETag"] for code in codes} == before
    # Nor does it show in the next session, where the case may be to come.
    session = play.session("r1", 1)
    first = []
    while (reading := play.next("r1", session)) is not None:
        first.append(reading.etag)
        reading.fill(plain_answers)
        reading.complete()
    assert first == ['"2"'] * (3 if back else 2)
    assert play.verify()["holds"]
