"""Counts by category follow the answers: completed, amended, excluded, repeated."""

import json
import random
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

from sqlalchemy import select, text, update

from api_study import Play, Reading, answered, start_study
from api_support import Api
from halfscan_api.readings.counts import expected_pairs, recount, wrong_counts
from halfscan_api.readings.profiles import Answer, profile_of
from halfscan_api.readings.tables import AnswerCount, AnswerPair, AnswerProfile

pytest_plugins = ["api_fixtures"]

Key = tuple[object, ...]


def drawn(rng: random.Random) -> Any:
    return lambda reading: answered(reading, lambda *_: rng.randrange(100))


def stored(play: Play) -> tuple[Counter[Key], Counter[Key]]:
    readers = dict(enumerate(sorted(play.tokens), 1))
    with play.api.database.read() as session:
        counts = Counter[Key]()
        for one in session.scalars(select(AnswerCount)):
            what = (one.answer_kind, one.item, one.place)
            who = (readers[one.reader_id], one.arm, one.repeat_round)
            counts[(*what, *who, one.value)] = one.n
        pairs = Counter[Key]()
        for pair in session.scalars(select(AnswerPair)):
            sides = (
                (readers[pair.reader_a], pair.arm_a, pair.value_a),
                (readers[pair.reader_b], pair.arm_b, pair.value_b),
            )
            key = (pair.pair_kind, pair.answer_kind, pair.item, pair.place, pair.repeat_round)
            pairs[(*key, *sides)] = pair.n
    assert 0 not in {*counts.values(), *pairs.values()}
    return counts, pairs


def expected(play: Play) -> tuple[Counter[Key], Counter[Key]]:
    """The same from the export, in plain Python."""
    states = play.run("GET", "/export")["states"]
    readings = [
        state for name, state in states.items() if name.startswith("reading/") and state["counted"]
    ]
    counts, pairs = Counter[Key](), Counter[Key]()
    for state in readings:
        for what, value in answers(state).items():
            own = (state["reader"], state["arm"], state["repeat_round"])
            counts[(*what, *own, value)] += 1
    for one, other in combinations(readings, 2):
        ordered = pairing(one, other)
        if one["case"] != other["case"] or ordered is None:
            continue
        kind, a, b = ordered
        for what in answers(a).keys() & answers(b).keys():
            sides = [(side["reader"], side["arm"], answers(side)[what]) for side in (a, b)]
            pairs[(kind, *what, b["repeat_round"], *sides)] += 1
    return counts, pairs


def stored_profiles(play: Play) -> Counter[Key]:
    """Cases by question and by the answers at every level: sets of (reader, arm, round, value)."""
    names = dict(enumerate(sorted(play.tokens), 1))
    found = Counter[Key]()
    with play.api.database.read() as session:
        for row in session.scalars(select(AnswerProfile)):
            readings = [(names[one], arm, number) for one, arm, number in json.loads(row.readings)]
            levels = Counter(
                frozenset(
                    (*reading, int(value))
                    for reading, value in zip(readings, word.split(","), strict=True)
                    if value != "-"
                )
                for word in row.answers.split(" ")
            )
            found[row.answer_kind, row.item, row.place, frozenset(levels.items())] += row.n
            assert row.n > 0
    return found


def expected_profiles(play: Play) -> Counter[Key]:
    """The same from the export, in plain Python."""
    cases: dict[Key, dict[Key, set[Key]]] = defaultdict(lambda: defaultdict(set))
    for name, state in play.run("GET", "/export")["states"].items():
        if name.startswith("reading/") and state["counted"]:
            reading = (state["reader"], state["arm"], state["repeat_round"])
            for (kind, item, place), value in answers(state).items():
                together = "" if kind == "finding" else place
                cases[state["case"], kind, item, together][place,].add((*reading, value))
    return Counter(
        (*question, frozenset(Counter(map(frozenset, levels.values())).items()))
        for (_, *question), levels in cases.items()
    )


def test_a_profile_tells_no_order_of_levels_and_who_is_missing() -> None:
    one = [Answer("L1", 1, "a", 0, 2), Answer("L2", 1, "a", 0, 0), Answer("L1", 2, "a", 0, 1)]
    other = [one[1]._replace(level="L1"), one[2]._replace(level="L2"), one[0]._replace(level="L2")]
    profile = profile_of(one)
    assert profile is not None
    assert profile == profile_of(other)
    assert (profile.readings, profile.answers) == ('[[1,"a",0],[2,"a",0]]', "0,- 2,1")
    assert profile_of([]) is None


def pairing(one: Any, other: Any) -> tuple[str, Any, Any] | None:
    rounds = {one["repeat_round"], other["repeat_round"]}
    same_reader, same_arm = one["reader"] == other["reader"], one["arm"] == other["arm"]
    if rounds == {0} and same_arm and not same_reader:
        return "inter_reader", *sorted((one, other), key=lambda side: side["reader"])
    if rounds == {0} and same_reader and not same_arm:
        return "inter_arm", *sorted((one, other), key=lambda side: side["arm"])
    if len(rounds) == 2 and 0 in rounds and same_reader and same_arm:
        return "intra_reader", *sorted((one, other), key=lambda side: side["repeat_round"])
    return None


def answers(state: dict[str, Any]) -> dict[Key, int]:
    scores: dict[Key, int] = {
        ("score", criterion, sequence): one["value"]
        for sequence, inner in state["scores"].items()
        for criterion, one in inner.items()
    }
    findings: dict[Key, int] = {
        ("finding", finding, level): one["value"]
        for finding, inner in state["findings"].items()
        for level, one in inner.items()
    }
    return {**scores, **findings}


def test_counts_follow_everything_that_happens(api: Api) -> None:
    rng = random.Random(5)
    changes: dict[str, Any] = {"washout_days": 0, "repeat_sessions": 3}
    play = start_study(api, cases=3, training=1, readers=("r1", "r2", "r3"), **changes)
    for number in range(6):
        for reader in ("r1", "r2", "r3"):
            play.read_session(reader, number, drawn(rng))
        # A reader changes what was read in the session that is read, and no other.
        amend_all(play, rng, number)
    assert stored(play) == expected(play)
    assert stored_profiles(play) == expected_profiles(play)
    assert sum(stored_profiles(play).values()) >= 3
    kinds = {key[0] for key in stored(play)[1]}
    assert kinds == {"inter_reader", "inter_arm", "intra_reader"}
    for path in ("/cases/P02/exclude", "/cases/P01/exclude", "/cases/P02/readmit"):
        play.run("POST", path, {"reason": "because"})
        assert stored(play) == expected(play)
        assert stored_profiles(play) == expected_profiles(play)
    amend_all(play, rng, 5)
    assert stored(play) == expected(play)
    assert stored_profiles(play) == expected_profiles(play)
    assert play.verify()["holds"]
    with api.database.write() as session:
        recount(session, play.study_id)
        assert wrong_counts(session, play.study_id) == 0
    assert stored(play) == expected(play)
    assert stored_profiles(play) == expected_profiles(play)
    with api.database.write() as session:
        session.execute(update(AnswerProfile).values(n=AnswerProfile.n + 1))
        assert wrong_counts(session, play.study_id) > 0


def amend_all(play: Play, rng: random.Random, session: int) -> None:
    """Change an answer, take one back, in every completed reading, those of P01 included."""
    for row in (one for one in play.allocation() if one["session"] == session):
        reading = Reading(play, row["reader"], {"code": row["code"]}, "")
        held = {
            one["value"]
            for one in reading.show()["answers"]["scores"]
            if (one["sequence"], one["criterion"]) == ("sag_t1", "noise")
        }
        other = rng.choice(sorted({1, 2, 3, 4} - held))
        score = {"sequence": "sag_t1", "criterion": "noise", "value": other}
        finding = {"finding": "disc_bulge", "level": "L4/L5", "value": None}
        answer = reading.amend(reason="looked again", scores=[score], findings=[finding])
        assert answer.status_code == 200, answer.text


def test_only_what_is_complete_counts(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    reading = play.must_next("r1", play.session("r1"))
    reading.fill(drawn(random.Random(1)))
    assert stored(play) == (Counter(), Counter())
    reading.complete()
    assert sum(stored(play)[0].values()) == 5


def test_readers_who_complete_at_the_same_moment_miss_no_pair(api: Api) -> None:

    names = tuple(f"r{number}" for number in range(1, 7))
    play = start_study(api, cases=1, readers=names)
    open_ones = []
    for number, name in enumerate(names):
        reading = play.must_next(name, play.session(name))
        reading.fill(drawn(random.Random(number)))
        open_ones.append(reading)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda reading: reading.complete(), open_ones))
    assert stored(play) == expected(play)
    assert stored_profiles(play) == expected_profiles(play)
    assert play.verify()["holds"]


def test_pairs_are_looked_up_by_the_reading(sqlite_api: Api) -> None:
    """Not each answer against all others to its question: a square of the number of cases."""
    play = start_study(sqlite_api, cases=1, washout_days=0)
    for reader in ("r1", "r2"):
        play.read_session(reader, 0)
    steps = []
    with play.api.database.read() as session:
        for query in expected_pairs(session, play.study_id):
            sql = query.compile(session.connection(), compile_kwargs={"literal_binds": True})
            plan = session.execute(text(f"EXPLAIN QUERY PLAN {sql}"))
            steps += [row.detail for row in plan if re.search(r"\b(score|finding)_\d", row.detail)]
    # Two answers in each of three kinds of pairs, for scores and for findings.
    assert len(steps) == 2 * 3 * 2
    for step in steps:
        assert re.search(r"USING INDEX \w+ \(reading_id=\?", step), step
