"""Who reads which case in which arm, and in which order: all of it follows from a seed.

As in the reference study, things are put into order by random numbers. The random number of a
thing is the SHA-256 of the seed and of what the thing is called, so that any program in any
language can do it again.

- Arms: the cases of a batch, in random order, go in blocks of as many as there are arms. A block
  draws an order of the arms; its first case follows that order from session to session, the next
  case begins one arm later. So each case comes once in each arm, and in each session the arms
  differ by one case at most.
- Order: each session has its own random order. The case that ends a session does not begin the
  next one, unless it is the only one.
- Repeat sessions draw the arms anew in the same way, each round of as many sessions as arms.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from halfscan_api.readings.tables import SessionKind

# Moves when the rules above change: an allocation names the rules that it was made by.
RULES = 1
TRAINING_NUMBER = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """What an allocation follows from.

    Attributes
    ----------
    seed : int
    reader : str
        Name of the reader.
    batch : int
        From 1; a reader gets a further batch when cases are enrolled later.
    arms : sequence of str
        Names of the arms.
    study_cases, training_cases, repeat_cases : sequence of str
        Pseudonyms; the repeat cases are some of the study cases.
    repeat_sessions : int
    """

    seed: int
    reader: str
    batch: int
    arms: Sequence[str]
    study_cases: Sequence[str]
    training_cases: Sequence[str] = ()
    repeat_cases: Sequence[str] = ()
    repeat_sessions: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """A case in one arm, at its place in a session."""

    case: str
    arm: str


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What a batch adds to a session, in the order of reading.

    Attributes
    ----------
    number : int
        0 is training, 1 up to the number of arms are the readings, then come the repeats.
    kind : SessionKind
    repeat_round : int
        0, and from 1 on in the repeat sessions.
    slots : list of Slot
    """

    number: int
    kind: SessionKind
    repeat_round: int
    slots: list[Slot]


def allocate(draw: Draw) -> list[SessionPlan]:
    """Lay out the sessions of a batch.

    Returns
    -------
    list of SessionPlan
        By their number; those without a case are left out.
    """
    n_arms = len(draw.arms)
    training = _arms_by_session(draw, draw.training_cases, "training")
    plans = [SessionPlan(TRAINING_NUMBER, SessionKind.TRAINING, 0, training[0])]
    for index, slots in enumerate(_arms_by_session(draw, draw.study_cases, "reading")):
        plans.append(SessionPlan(1 + index, SessionKind.READING, 0, slots))
    for repeat in range(draw.repeat_sessions):
        repeat_round = 1 + repeat // n_arms
        slots = _arms_by_session(draw, draw.repeat_cases, f"repeat {repeat_round}")[repeat % n_arms]
        number = 1 + n_arms + repeat
        plans.append(SessionPlan(number, SessionKind.REPEAT, repeat_round, slots))
    _put_in_order(draw, plans)
    return [plan for plan in plans if plan.slots]


def choose_repeats(seed: int, cases: Sequence[str], *, wanted: int | None) -> list[str]:
    """Draw the cases that are read again; the same for every reader.

    Parameters
    ----------
    seed : int
    cases : sequence of str
        Study cases of the batch.
    wanted : int or None
        How many; None means all.
    """
    drawn = sorted(cases, key=partial(_random, seed, "repeat cases"))
    return drawn[: len(drawn) if wanted is None else max(wanted, 0)]


def _arms_by_session(draw: Draw, cases: Sequence[str], stage: str) -> list[list[Slot]]:
    """Give each case one arm in each of as many sessions as there are arms."""
    n_arms = len(draw.arms)
    where = (draw.seed, draw.reader, draw.batch, stage)
    shuffled = sorted(cases, key=partial(_random, *where, "case"))
    sessions: list[list[Slot]] = [[] for _ in draw.arms]
    for index, case in enumerate(shuffled):
        block, shift = divmod(index, n_arms)
        order = sorted(draw.arms, key=partial(_random, *where, "arm", block))
        for number, slots in enumerate(sessions):
            slots.append(Slot(case, order[(shift + number) % n_arms]))
    return sessions


def _put_in_order(draw: Draw, plans: list[SessionPlan]) -> None:
    last: str | None = None
    for plan in plans:
        where = (draw.seed, draw.reader, draw.batch, "order", plan.number)
        slots = {slot.case: slot for slot in plan.slots}
        plan.slots[:] = [slots[case] for case in sorted(slots, key=partial(_random, *where))]
        if len(plan.slots) > 1 and plan.slots[0].case == last:
            plan.slots.append(plan.slots.pop(0))
        last = plan.slots[-1].case if plan.slots else last


def _random(*named: int | str) -> bytes:
    text = json.dumps(named, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
