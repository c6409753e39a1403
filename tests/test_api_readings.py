"""Readings over HTTP: opened, filled in piece by piece, completed, amended."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_study import Play, Reading, plain_answers, start_study
from api_support import Api, json_of

pytest_plugins = ["api_fixtures"]

SCORE = {"sequence": "sag_t1", "criterion": "noise", "value": 3}


@pytest.fixture
def play(api: Api) -> Play:
    return start_study(api, cases=2, readers=("r1", "r2"))


@pytest.fixture
def reading(play: Play) -> Reading:
    return play.must_next("r1", play.session("r1"))


def title(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, json_of(answer)["title"]


def test_what_a_reader_gets(reading: Reading) -> None:
    body = reading.body
    assert body.keys() == {
        *("code", "session", "training", "state", "images", "questions", "answers", "missing")
    }
    assert (body["state"], body["training"], body["missing"]) == ("open", False, 7)
    assert body["images"]["dicom_web"] == f"/api/v1/blinded/{reading.code}/dicom-web"
    series = body["images"]["series"]
    assert [(one["number"], one["sequence"], one["label"]) for one in series] == [
        (1, "sag_t1", "Sagittal T1"),
        (2, "tra_t2", "Transverse T2"),
    ]
    assert all(one["series_instance_uid"].startswith("2.25.") for one in series)
    asked = [(one["sequence"], one["criterion"]) for one in body["questions"]["criteria"]]
    assert asked == [("sag_t1", "noise"), ("sag_t1", "overall_quality"), ("tra_t2", "noise")]
    assert [one["levels"] for one in body["questions"]["findings"]] == [["L4/L5", "L5/S1"]]
    assert [one["region"] for one in body["questions"]["regions"]] == ["psoas", "background"]
    assert body["answers"] == {"scores": [], "findings": [], "measurements": []}
    assert reading.show() == body


def test_answers_are_saved_piece_by_piece(reading: Reading) -> None:
    assert reading.put("scores", [SCORE])["missing"] == 6
    reading.put("findings", [{"finding": "disc_bulge", "level": "L5/S1", "value": 1}])
    reading.put("scores", [{**SCORE, "sequence": "tra_t2", "value": 1}])
    reading.put("measurements", [{"sequence": "sag_t1", "region": "psoas", "mean": 90, "sd": 4}])
    body = reading.show()
    assert body["missing"] == 3
    # In the order of the questions.
    assert body["answers"]["scores"] == [SCORE, {**SCORE, "sequence": "tra_t2", "value": 1}]
    assert body["answers"]["findings"] == [{"finding": "disc_bulge", "level": "L5/S1", "value": 1}]
    [measured] = body["answers"]["measurements"]
    assert (measured["mean"], measured["snr"], measured["source"]) == (90.0, None, "viewer")
    # Another value replaces it, null takes it back.
    reading.put("scores", [{**SCORE, "value": 4}])
    assert reading.show()["answers"]["scores"][0]["value"] == 4
    assert reading.put("scores", [{**SCORE, "value": None}])["missing"] == 4
    assert reading.put("scores", [{**SCORE, "value": None}])["missing"] == 4


def test_snr_is_the_mean_over_the_noise(reading: Reading) -> None:
    def snr() -> dict[str, float | None]:
        rows = reading.show()["answers"]["measurements"]
        return {row["region"]: row["snr"] for row in rows}

    place = {"sequence": "sag_t1", "region": "psoas"}
    noise = {"sequence": "sag_t1", "region": "background"}
    reading.put("measurements", [{**noise, "mean": 0.4, "sd": 2.5}, {**place, "mean": 90, "sd": 9}])
    assert snr() == {"psoas": 36.0, "background": None}
    reading.put("measurements", [{**noise, "mean": 0.4, "sd": 0}])
    assert snr() == {"psoas": None, "background": None}
    reading.put("measurements", [{**noise, "mean": 0.4, "sd": 3}])
    assert snr()["psoas"] == 30.0
    reading.put("measurements", [noise])
    assert snr() == {"psoas": None}


@pytest.mark.parametrize(
    ("section", "items", "says"),
    [
        ("scores", [{**SCORE, "value": 5}], "scores.0.value: must be one of 1, 2, 3, 4, got 5"),
        ("scores", [{**SCORE, "value": 0}], "got 0"),
        ("scores", [{**SCORE, "value": "good"}], "value"),
        ("scores", [{**SCORE, "value": 2.5}], "value"),
        ("scores", [{**SCORE, "sequence": "cor"}], "must be one of sag_t1, tra_t2, got 'cor'"),
        ("scores", [{**SCORE, "criterion": "beauty"}], "must be one of noise, overall_quality"),
        (
            "scores",
            [{"sequence": "tra_t2", "criterion": "overall_quality", "value": 1}],
            "must be one of noise, got 'overall_quality'",
        ),
        ("scores", [SCORE, SCORE], "scores must name each answer once, got twice: sag_t1 noise"),
        ("scores", [], "at least 1"),
        ("scores", [SCORE, {**SCORE, "sequence": "tra_t2", "value": 9}], "scores.1.value"),
        ("findings", [{"finding": "disc_bulge", "level": "L1/L2", "value": 1}], "findings.0.level"),
        ("findings", [{"finding": "fracture", "level": "L4/L5", "value": 1}], "findings.0.finding"),
        ("findings", [{"finding": "disc_bulge", "level": "L4/L5", "value": 2}], "one of 0, 1, got"),
        (
            "measurements",
            [{"sequence": "sag_t1", "region": "psoas", "mean": 1}],
            "mean and sd belong together",
        ),
        (
            "measurements",
            [{"sequence": "sag_t1", "region": "psoas", "mean": 1, "sd": -1}],
            "greater than or equal to 0",
        ),
        (
            "measurements",
            [{"sequence": "tra_t2", "region": "psoas", "mean": 1, "sd": 1}],
            "must be one of (none), got 'psoas'",
        ),
    ],
)
def test_an_answer_that_is_refused(
    reading: Reading, section: str, items: list[dict[str, Any]], says: str
) -> None:
    answer = reading.send("PUT", f"/{section}", {section: items})
    assert answer.status_code == 422, answer.text
    assert says in json_of(answer)["detail"]
    # All or nothing.
    assert reading.show()["missing"] == 7


def test_a_change_starts_from_the_newest_version(reading: Reading) -> None:
    old = reading.etag
    body = {"scores": [SCORE]}
    missing = reading.play.ask("r1", "PUT", f"/readings/{reading.code}/scores", body)
    assert title(missing) == (428, "Precondition required")
    reading.put("scores", [SCORE])
    assert reading.etag != old
    stale = reading.send("PUT", "/scores", body, If_Match=old)
    assert title(stale) == (412, "Version conflict")
    weak = reading.send("PUT", "/scores", body, If_Match=f"W/{reading.etag}")
    assert weak.status_code == 412
    assert reading.send("PUT", "/scores", body, If_Match="*").status_code == 200


def test_two_windows_do_not_overwrite_each_other(reading: Reading) -> None:
    """Both start from the same version: one gets through, the other is told."""
    etag = reading.etag

    def save(value: int) -> int:
        body = {"scores": [{**SCORE, "value": value}]}
        path = f"/readings/{reading.code}/scores"
        return reading.play.ask("r1", "PUT", path, body, If_Match=etag).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(save, [1, 2, 3, 4])) == [200, 412, 412, 412]


def test_a_lost_answer_is_asked_for_again(reading: Reading) -> None:
    old = reading.etag
    body = {"scores": [SCORE]}
    first = reading.send("PUT", "/scores", body, Idempotency_Key="k1")
    # The client did not get it, and still holds the old version.
    again = reading.send("PUT", "/scores", body, If_Match=old, Idempotency_Key="k1")
    assert (again.status_code, again.data) == (200, first.data)
    assert again.headers["ETag"] == first.headers["ETag"]
    other = {"scores": [{**SCORE, "value": 1}]}
    assert title(reading.send("PUT", "/scores", other, Idempotency_Key="k1")) == (422, "Key reused")
    saves = reading.play.events(action="reading.save", subject=f"reading/{reading.code}")
    assert len(saves) == 1


def test_the_same_key_many_times_at_once_writes_once(reading: Reading) -> None:
    etag, path = reading.etag, f"/readings/{reading.code}/scores"

    def save(number: int) -> TestResponse:
        del number
        body = {"scores": [SCORE]}
        return reading.play.ask("r1", "PUT", path, body, If_Match=etag, Idempotency_Key="same")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(save, range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    events = reading.play.events(action="reading.save", subject=f"reading/{reading.code}")
    assert len(events) == 1


def test_complete_needs_all_answers_or_a_reason(reading: Reading) -> None:
    reading.put("scores", [SCORE])
    refused = reading.send("POST", "/complete", {})
    assert title(refused) == (409, "Answers missing")
    assert json_of(refused)["missing"] == [
        "sag_t1/overall_quality",
        "sag_t1/psoas",
        "sag_t1/background",
        "tra_t2/noise",
        "disc_bulge/L4/L5",
        "disc_bulge/L5/S1",
    ]
    assert reading.complete(missing_reason="the transverse series is cut off")["missing"] == 6
    states = reading.play.run("GET", "/export")["states"]
    state = states[f"reading/{reading.code}"]
    assert state["missing_reason"] == "the transverse series is cut off"


def test_only_what_the_protocol_requires_is_missed(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",), required=["findings"])
    reading = play.must_next("r1", play.session("r1"))
    assert reading.body["missing"] == 2
    reading.put("findings", plain_answers(reading)["findings"])
    assert reading.complete(missing_reason="not needed")["state"] == "complete"
    state = play.run("GET", "/export")["states"][f"reading/{reading.code}"]
    assert "missing_reason" not in state  # nothing was missing


def test_complete_locks(reading: Reading) -> None:
    early = reading.amend(reason="too early", scores=[SCORE])
    assert title(early) == (409, "Reading not complete")
    reading.fill(plain_answers)
    assert reading.complete()["state"] == "complete"
    for method, path, body in (
        ("PUT", "/scores", {"scores": [SCORE]}),
        ("POST", "/complete", {}),
    ):
        assert title(reading.send(method, path, body)) == (409, "Reading complete")


def test_an_amendment_keeps_the_old_value(reading: Reading) -> None:
    reading.fill(plain_answers)
    reading.complete()
    old = reading.show()["answers"]["scores"][0]["value"]
    new = {**SCORE, "value": old % 4 + 1}
    for body in ({"scores": [new]}, {"reason": "x", "scores": [new]}, {"reason": "misread"}):
        assert reading.amend(**body).status_code == 422
    revision = reading.play.run("GET", "")["revision"]
    assert reading.amend(reason="misread the scale", scores=[new]).status_code == 200
    assert reading.show()["answers"]["scores"][0] == new
    assert reading.show()["state"] == "complete"
    [event] = reading.play.events(action="reading.amend")
    assert event["reason"] == "misread the scale"
    assert (event["reader"], event["role"]) == ("r1", "reader")
    assert event["old"]["scores"]["sag_t1"]["noise"]["value"] == old
    assert event["new"]["scores"]["sag_t1"]["noise"]["value"] == new["value"]
    assert reading.play.run("GET", "")["revision"] == revision + 1
    assert reading.play.verify()["holds"]


def test_an_amendment_to_the_same_value_is_refused(reading: Reading) -> None:
    reading.fill(plain_answers)
    reading.complete()
    same = reading.show()["answers"]["scores"][0]
    etag = reading.etag
    reading.play.api.clock.advance(60)
    refused = reading.amend(reason="looked again", scores=[same])
    assert title(refused) == (409, "Nothing amended")
    reading.show()
    assert (reading.play.events(action="reading.amend"), reading.etag) == ([], etag)
    assert reading.play.verify()["holds"]


@pytest.mark.parametrize("value", ["4", True, 4.0])
def test_a_score_is_a_whole_number_and_nothing_else(reading: Reading, value: object) -> None:
    answer = reading.send("PUT", "/scores", {"scores": [{**SCORE, "value": value}]})
    assert answer.status_code == 422
    finding = {"finding": "disc_bulge", "level": "L4/L5", "value": value}
    assert reading.send("PUT", "/findings", {"findings": [finding]}).status_code == 422


def test_the_revision_moves_with_what_counts(play: Play, reading: Reading) -> None:
    def revision() -> int:
        found: int = play.run("GET", "")["revision"]
        return found

    start = revision()
    reading.fill(plain_answers)
    assert revision() == start  # drafts are nobody's business yet
    reading.complete()
    assert revision() == start + 1


def test_reading_time_leaves_pauses_out(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",), pause_minutes=10)
    reading = play.must_next("r1", play.session("r1"))
    answers = plain_answers(reading)
    api.clock.advance(90)
    reading.put("scores", answers["scores"])
    api.clock.advance(601)  # lunch
    reading.put("findings", answers["findings"])
    api.clock.advance(600)  # just no pause
    reading.put("measurements", answers["measurements"])
    api.clock.advance(5.5)
    reading.complete()
    state = play.run("GET", "/export")["states"][f"reading/{reading.code}"]
    assert state["active_s"] == 90 + 600 + 5.5


# --- what is not one's own ----------------------------------------------------------------------


def test_what_is_not_ones_own_is_not_there(play: Play, reading: Reading) -> None:
    """Another reader's code, a code whose turn has not come, and one that nobody has: all alike."""
    pending = next(
        row["code"] for row in play.allocation() if row["reader"] == "r2" and row["position"] == 2
    )
    answers = {}
    for code in (reading.code, pending, "0" * 32, "x", "%00", "0" * 33):
        for method, path, body in (
            ("GET", "", None),
            ("PUT", "/scores", {"scores": [SCORE]}),
            ("POST", "/complete", {}),
            ("POST", "/amend", {"reason": "why not", "scores": [SCORE]}),
        ):
            answer = play.ask("r2", method, f"/readings/{code}{path}", body, If_Match='"1"')
            shown = json_of(answer)
            del shown["request_id"], shown["instance"]
            shown["detail"] = shown["detail"].replace(code, "CODE").replace("\0", "CODE")
            headers = {key for key, _ in answer.headers}
            answers[code, method, path] = (answer.status_code, str(shown), frozenset(headers))
    assert len(set(answers.values())) == 1
    assert next(iter(answers.values()))[0] == 404


def test_sessions_are_ones_own(play: Play) -> None:
    theirs = play.session("r2")
    details = set()
    for code in (theirs, "0" * 32, "%00"):
        for method in ("GET", "POST"):
            answer = play.ask("r1", method, f"/sessions/{code}/next")
            assert answer.status_code == 404
            detail = json_of(answer)["detail"]
            details.add(detail.replace(code, "CODE").replace("\0", "CODE"))
    assert details == {"there is no session CODE"}


def test_codes_differ_between_readers_and_sessions(play: Play) -> None:
    codes = [row["code"] for row in play.allocation()]
    assert len(set(codes)) == len(codes) == 8
    assert all(len(code) == 32 for code in codes)


def test_next_gives_the_open_one_until_it_is_complete(play: Play, reading: Reading) -> None:
    session = play.session("r1")
    assert play.must_next("r1", session).code == reading.code
    shown = play.ask("r1", "GET", f"/sessions/{session}/next")
    assert (shown.status_code, json_of(shown)["code"]) == (200, reading.code)
    assert shown.headers["ETag"] == reading.etag
    reading.fill(plain_answers)
    reading.complete()
    assert play.ask("r1", "GET", f"/sessions/{session}/next").status_code == 204
    assert play.must_next("r1", session).code != reading.code


def test_next_asked_many_times_at_once_opens_one(play: Play) -> None:
    session = play.session("r1")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: play.must_next("r1", session).code, range(6)))
    assert len(set(found)) == 1
    assert [row["state"] for row in play.allocation()].count("open") == 1
    assert play.verify()["holds"]
