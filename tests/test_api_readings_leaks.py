"""What a reader can reach tells nothing of arm, patient, other readers or results."""

import json
import re
from typing import Any

import pytest

from api_study import DAY, Play, Reading, plain_answers, start_study, uid
from api_support import Api, done, json_of

pytest_plugins = ["api_fixtures"]

_HEX = re.compile(r"\b[0-9a-f]{32}\b")
_UID = re.compile(r"2\.25\.\d+")


@pytest.fixture
def play(api: Api) -> Play:
    """One arm is reconstructed and scanned faster, as in life."""
    number = 0
    for case in ("P01", "P02"):
        for name in ("sag_t1", "tra_t2"):
            number += 1
            row = api.add(number)
            made = uid("small", case, "accelerated", name)
            outcome = done(api.must_claim(), derived_series_instance_uid=made)
            assert api.post(f"/{row['id']}/outcome", outcome).status_code == 200
    return start_study(api, cases=2, training=1, repeat_sessions=1)


def everything(reading: Reading) -> list[Any]:
    """All that the reader of a reading can fetch, in the order of a reading."""
    play, reader = reading.play, reading.reader
    session = reading.body["session"]
    answers = [play.ask(reader, "GET", f"/readings/{reading.code}")]
    answers.append(play.ask(reader, "GET", f"/sessions/{session}/next"))
    answers.append(play.ask(reader, "GET", "/sessions"))
    bad = {"scores": [{"sequence": "sag_t1", "criterion": "noise", "value": 9}]}
    answers.append(reading.send("PUT", "/scores", bad))
    answers.append(reading.send("POST", "/complete", {}))
    answers.append(reading.send("PUT", "/scores", bad, If_Match='"0"'))
    for section, items in plain_answers(reading).items():
        answers.append(reading.send("PUT", f"/{section}", {section: items}))
    answers.append(reading.send("POST", "/complete", {}))
    score = {"sequence": "sag_t1", "criterion": "noise", "value": 2}
    answers.append(reading.amend(reason="looked again", scores=[score]))
    answers.append(play.ask(reader, "GET", f"/readings/{reading.code}"))
    return [
        (answer.status_code, sorted(answer.headers.items()), answer.get_data(as_text=True))
        for answer in answers
    ]


def masked(found: list[Any]) -> str:
    """The same with what is random in every answer replaced, and its length kept out."""
    text = json.dumps(found)
    text = _UID.sub("UID", _HEX.sub("CODE", text))
    return re.sub(r'"Content-Length", "\d+"', "", text)


def test_the_two_arms_of_a_case_look_alike(play: Play) -> None:
    """Reading by reading, at the same place of the two sessions of a reader."""
    shown: dict[tuple[str, str], str] = {}
    play.read_session("r1", 0)
    for number in (1, 2):
        session = play.session("r1", number)
        for _ in range(2):
            reading = play.must_next("r1", session)
            place = play.place(reading.code)
            shown[place["case"], place["arm"]] = masked(everything(reading))
        play.api.clock.advance(28 * DAY)
    assert len(shown) == 4
    for case in ("P01", "P02"):
        one, other = (progress_out(shown[case, arm]) for arm in ("standard", "accelerated"))
        assert one == other


def progress_out(text: str) -> str:
    """Without how far the session is, which depends on the position and on nothing else."""
    return re.sub(r'\\"(complete|total|state|cause|opens_at)\\":[^,}]*', "", text)


def test_nothing_that_a_reader_gets_names_what_must_be_hidden(play: Play) -> None:
    states = play.run("GET", "/export")["states"]
    hidden = {"standard", "accelerated", "Standard", "Accelerated", "A small study", "small"}
    hidden |= {"P01", "P02", "T01", "repeat", "seed", "the-coordinator", "r2"}
    for name, state in states.items():
        if name.startswith("case/"):
            for arm in state["series"].values():
                for one in arm.values():
                    hidden |= {one["series_instance_uid"], one["study_instance_uid"]}
                    hidden |= {str(one["scan_time_s"])}
    texts = []
    for number in range(4):
        session = play.session("r1", number)
        while (reading := play.next("r1", session)) is not None:
            for status, headers, body in everything(reading):
                texts.append(f"{status} {headers} {body}")
        texts.append(play.ask("r1", "GET", "/sessions").text)
        play.api.clock.advance(28 * DAY)
    assert len(texts) > 50
    for text in texts:
        # The times of the session and random codes may hold any digits.
        plain = _UID.sub("", _HEX.sub("", text))
        found = {word for word in hidden if word in plain}
        assert not found, (found, text)


def test_numbers_of_rows_do_not_reach_a_reader(play: Play) -> None:
    reading = play.must_next("r1", play.session("r1"))
    body = json.dumps(reading.show()) + play.ask("r1", "GET", "/sessions").text
    assert not re.search(r'"(\w+_)?id"', body.replace('"series_instance_uid"', ""))


def test_a_blinded_uid_belongs_to_one_reading_alone(play: Play) -> None:
    seen: list[str] = []
    for reader in ("r1", "r2"):
        for number in (0, 1):
            session = play.session(reader, number)
            while (reading := play.next(reader, session)) is not None:
                images = reading.body["images"]
                seen.append(images["study_instance_uid"])
                seen += [one["series_instance_uid"] for one in images["series"]]
                # The same each time that it is asked for.
                assert reading.show()["images"] == images
                reading.fill(plain_answers)
                reading.complete()
    assert len(set(seen)) == len(seen) == 2 * 3 * 3
    assert all(len(one) <= 64 and re.fullmatch(r"2\.25\.[1-9]\d*", one) for one in seen)


def test_other_doors_are_closed(play: Play) -> None:
    """Everything that a reader's token is no key for says so in the same words."""
    for path in (
        *("/studies", "/studies/1", "/studies/1/allocation", "/studies/1/export", "/studies/99"),
        *("/studies/1/audit", "/studies/1/lineage", "/reconstructions", "/reconstructions/1"),
        *("/tokens", "/audit", "/inspections/1", f"/sessions/{play.session('r1')}/override"),
    ):
        method = "POST" if path.endswith("override") else "GET"
        answer = play.ask("r1", method, path, {} if method == "POST" else None)
        assert answer.status_code == 403, path
        assert json_of(answer)["detail"].endswith("the token has reader")


def test_a_session_is_the_same_for_both_arms_at_any_moment(play: Play) -> None:
    """Versions count calls, not answers; they begin alike in every reading."""
    etags = set()
    for reader in ("r1", "r2"):
        session = play.session(reader, 0)
        reading = play.must_next(reader, session)
        etags.add(reading.etag)
    assert etags == {'"2"'}
