"""Allocation: reproducible, balanced, in random order; each case once in each arm."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_study import start_study
from api_support import Api
from halfscan_api.readings.tables import SessionKind
from halfscan_api.studies.randomisation import Draw, allocate, choose_repeats

pytest_plugins = ["api_fixtures"]

CASES = [f"P{number:02}" for number in range(1, 32)]
GOLDEN = [
    (0, ["T1 accelerated"]),
    (1, ["P01 accelerated", "P02 accelerated", "P04 standard", "P03 standard"]),
    (2, ["P04 accelerated", "P02 standard", "P01 standard", "P03 accelerated"]),
]


def draw(**changes: object) -> Draw:
    values: dict[str, object] = {
        "seed": 7,
        "reader": "r1",
        "batch": 1,
        "arms": ("standard", "accelerated"),
        "study_cases": CASES,
    }
    return Draw(**{**values, **changes})  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_allocation_for_ever() -> None:
    """Written down when the rules were: whoever changes the rules changes RULES, not this."""
    plans = allocate(draw(study_cases=CASES[:4], training_cases=["T1"]))
    shown = [(plan.number, [f"{slot.case} {slot.arm}" for slot in plan.slots]) for plan in plans]
    assert shown == GOLDEN


def test_the_order_of_enrolment_does_not_matter() -> None:
    assert allocate(draw()) == allocate(draw(study_cases=CASES[::-1]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**53 - 1),
    n_cases=st.integers(0, 40),
    n_arms=st.integers(2, 4),
    repeats=st.integers(0, 4),
    training=st.integers(0, 3),
)
def test_what_always_holds(
    seed: int, n_cases: int, n_arms: int, repeats: int, training: int
) -> None:
    arms = [f"arm{number}" for number in range(n_arms)]
    cases = [f"c{number}" for number in range(n_cases)]
    plans = allocate(
        draw(
            seed=seed,
            arms=arms,
            study_cases=cases,
            training_cases=[f"t{number}" for number in range(training)],
            repeat_cases=choose_repeats(seed, cases, wanted=5),
            repeat_sessions=repeats,
        )
    )
    assert [plan.number for plan in plans] == sorted({plan.number for plan in plans})
    reading = [plan for plan in plans if plan.kind is SessionKind.READING]
    for plan in plans:
        # Each case once in a session, and the arms balanced to one.
        assert len({slot.case for slot in plan.slots}) == len(plan.slots)
        counts = Counter(slot.arm for slot in plan.slots)
        assert max(counts.values()) - min(counts[arm] for arm in arms) <= 1
    # Each case in each arm exactly once over the sessions.
    everything = Counter((slot.case, slot.arm) for plan in reading for slot in plan.slots)
    assert everything == Counter((case, arm) for case in cases for arm in arms)
    # The case that ends a session does not begin the next one.
    for one, other in pairwise(plans):
        if len(other.slots) > 1:
            assert one.slots[-1].case != other.slots[0].case
    by_round: dict[int, Counter[object]] = {}
    for plan in plans:
        if plan.kind is SessionKind.REPEAT:
            by_round.setdefault(plan.repeat_round, Counter()).update(plan.slots)
    assert all(count == 1 for counter in by_round.values() for count in counter.values())


def test_arm_and_order_look_random() -> None:
    """Over many readers: no position and no case prefers an arm, no case prefers a position."""
    first_arm: Counter[str] = Counter()
    arm_at_start: Counter[str] = Counter()
    first_case: Counter[str] = Counter()
    readers = 600
    for number in range(readers):
        plan = allocate(draw(reader=f"reader{number}"))[0]
        first_arm[next(slot.arm for slot in plan.slots if slot.case == "P01")] += 1
        arm_at_start[plan.slots[0].arm] += 1
        first_case[plan.slots[0].case] += 1
    # Within four standard errors of a fair coin: sqrt(600)/2 = 12.
    assert abs(first_arm["standard"] - readers / 2) < 50
    assert abs(arm_at_start["standard"] - readers / 2) < 50
    assert max(first_case.values()) < 45  # 19 are expected
    assert len(first_case) == len(CASES)


def test_the_arms_do_not_alternate() -> None:
    """A reader who knew the arm of one reading would not know that of the next."""
    follows: Counter[bool] = Counter()
    for number in range(200):
        slots = allocate(draw(reader=f"reader{number}"))[0].slots
        follows.update(one.arm == other.arm for one, other in pairwise(slots))
    share = follows[True] / follows.total()
    # Of 31 cases with 15 or 16 in an arm, a fair shuffle gives (15*14 + 16*15) / (31*30) = 0.484.
    assert share == pytest.approx(0.484, abs=0.03)


def test_readers_and_batches_differ() -> None:
    plans = [
        allocate(draw()),
        allocate(draw(reader="r2")),
        allocate(draw(batch=2)),
        allocate(draw(seed=8)),
    ]
    orders = [tuple(plan[0].slots) for plan in plans]
    assert len(set(orders)) == 4


# --- over HTTP ----------------------------------------------------------------------------------


def test_everything_is_allocated_once(api: Api) -> None:
    play = start_study(api, cases=5, training=2)
    made = play.run("POST", "/allocation")
    assert made == {"made": [], "left_out": []}
    rows = play.allocation()
    assert len(rows) == 2 * (2 + 2 * 5)
    assert len({row["code"] for row in rows}) == len(rows)
    for reader in ("r1", "r2"):
        own = [row for row in rows if row["reader"] == reader and row["session"] > 0]
        assert len({(row["case"], row["arm"]) for row in own}) == 10
        assert Counter(row["session"] for row in own) == {1: 5, 2: 5}
    assert play.verify()["holds"]


def test_two_studies_with_one_seed_are_laid_out_alike_under_other_codes(api: Api) -> None:
    one, other = (start_study(api, name=name, cases=6) for name in ("one", "other"))
    rows = [
        [{key: row[key] for key in row if key != "code"} for row in play.allocation()]
        for play in (one, other)
    ]
    assert rows[0] == rows[1]
    codes = [{row["code"] for row in play.allocation()} for play in (one, other)]
    assert not codes[0] & codes[1]


def test_what_comes_later_is_appended(api: Api) -> None:
    play = start_study(api, cases=3)
    before = play.allocation()
    play.enrol("P04")
    play.add_reader("r3")
    made = play.run("POST", "/allocation")["made"]
    assert [(one["reader"], one["batch"], one["study_cases"]) for one in made] == [
        ("r1", 2, 1),
        ("r2", 2, 1),
        ("r3", 1, 4),
    ]
    after = play.allocation()
    assert [row for row in after if row in before] == before
    late = [row for row in after if row["batch"] == 2]
    assert {row["case"] for row in late} == {"P04"}
    assert {row["position"] for row in late} == {4}
    assert play.verify()["holds"]


def test_a_case_that_lacks_a_series_waits(api: Api) -> None:
    play = start_study(api, cases=2, allocate=False)
    play.run("POST", "/cases", {"pseudonym": "P09"})
    answer = play.run("POST", "/allocation")
    assert answer["left_out"] == [
        {
            "case": "P09",
            "missing": [
                f"{arm}/{name}"
                for arm in ("standard", "accelerated")
                for name in ("sag_t1", "tra_t2")
            ],
        }
    ]
    assert {row["case"] for row in play.allocation()} == {"P01", "P02"}


def test_repeat_sessions(api: Api) -> None:
    play = start_study(api, cases=4, repeat_sessions=2, repeat_cases=2)
    rows = [row for row in play.allocation() if row["session"] > 2]
    assert {row["repeat_round"] for row in rows} == {1}
    for reader in ("r1", "r2"):
        own = [row for row in rows if row["reader"] == reader]
        assert Counter(row["session"] for row in own) == {3: 2, 4: 2}
        assert len({(row["case"], row["arm"]) for row in own}) == 4
    # The same cases for both, and no more of them later.
    assert len({row["case"] for row in rows}) == 2
    play.enrol("P05")
    assert [one["repeat_cases"] for one in play.run("POST", "/allocation")["made"]] == [0, 0]
    assert play.verify()["holds"]
