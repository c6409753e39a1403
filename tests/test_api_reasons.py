"""A reason that is blank is none, wherever one is taken."""

from collections.abc import Iterator

import pytest

from api_study import Play, plain_answers, small_protocol, start_study
from api_support import Api, json_of

pytest_plugins = ["api_fixtures"]

BLANK = ["", "   ", "\t\n  ", " ab ", "\u00a0\u2003\u3000  "]


@pytest.fixture
def play(sqlite_api: Api) -> Play:
    return start_study(sqlite_api, cases=2, readers=("r1", "r2"))


def calls(play: Play, reason: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Every call of those who run the study or the server that takes a reason."""
    protocol = small_protocol(title="Another title")
    session = play.session("r1", 1)
    yield "PUT", f"{play.url}/protocol", {"protocol": protocol, "reason": reason}
    yield "POST", f"{play.url}/cases/P01/exclude", {"reason": reason}
    yield "POST", f"{play.url}/cases/P01/readmit", {"reason": reason}
    noise = f"{play.url}/cases/P01/noise-series/standard/sag_t1/repeat"
    yield "POST", f"{noise}/withdraw", {"reason": reason}
    yield "POST", f"{play.url}/readers/r2/token", {"reason": reason}
    yield "POST", f"/api/v1/sessions/{session}/override", {"reason": reason}
    yield "POST", "/api/v1/tokens/1/revoke", {"reason": reason}


@pytest.mark.parametrize("reason", BLANK)
def test_a_blank_reason_is_refused(play: Play, reason: str) -> None:
    before = play.verify()["events"]
    for method, path, body in calls(play, reason):
        headers = {"Authorization": f"Bearer {play.api.tokens['admin']}", "If-Match": "*"}
        answer = play.api.client.open(path, method=method, json=body, headers=headers)
        assert answer.status_code == 422, (path, answer.text)
        assert json_of(answer)["errors"][0]["field"] == "reason", path
    assert play.verify()["events"] == before


@pytest.mark.parametrize("reason", BLANK)
def test_a_reader_gives_no_blank_reason(play: Play, reason: str) -> None:
    reading = play.must_next("r1", play.session("r1"))
    refused = reading.send("POST", "/complete", {"missing_reason": reason})
    assert refused.status_code == 422, refused.text
    reading.fill(plain_answers)
    reading.complete()
    assert reading.amend(reason=reason, scores=[]).status_code == 422


def test_blanks_around_a_reason_are_left_out(play: Play) -> None:
    made = play.run("POST", "/cases/P01/exclude", {"reason": "  moved too much\n"})
    assert made["exclusion_reason"] == "moved too much"
    [event] = play.events(action="case.exclude")
    assert event["reason"] == "moved too much"
