"""When a reader may read what: training first, then one session after the other.

A reading is ready when its reader has completed the same case in all earlier sessions, and the
wash-out has passed since. A session begins with all the cases of a batch (those that were
allocated together) at once: when the last of them is ready. Were each case ready on its own, a
reader could tell from the time of day which one came back. Once a batch has begun in a session, a
case that was taken back into the study late waits alone and does not hold up the others.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.errors import HalfscanError
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.studies.tables import Reader


class SessionNotFound(HalfscanError):
    """No session of the caller has this code."""

    http_status = 404


class SessionNotOpen(HalfscanError):
    """The session has readings left, and none of them is ready."""

    http_status = 409


class SessionState(StrEnum):
    """``waiting``: nothing is ready. ``open``: there is something to read. ``complete``: all is."""

    WAITING = "waiting"
    OPEN = "open"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a session stands.

    Attributes
    ----------
    session : ReadingSession
    state : SessionState
    total, complete : int
        Readings, without the withdrawn ones.
    opens_at : datetime or None
        When the next reading becomes ready, where that is known.
    cause : str or None
        What a waiting session waits for.
    ready : frozenset of int
        Ids of the readings that may be opened.
    """

    session: ReadingSession
    state: SessionState
    total: int
    complete: int
    opens_at: datetime | None
    cause: str | None
    ready: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Wait:
    """Why a batch is not ready: until a time, or for something to be done first."""

    cause: str
    until: datetime | None


def find_session(
    session: Session, code: str, *, reader: Reader | None = None, lock: bool = False
) -> ReadingSession:
    """Get a session by its code; with `reader`, only one of this reader.

    Raises
    ------
    SessionNotFound
        The same, whether nobody has it or someone else.
    """
    query = select(ReadingSession).where(ReadingSession.code == known_code(code))
    if reader is not None:
        query = query.where(ReadingSession.reader_id == reader.id)
    if lock:
        query = query.with_for_update(key_share=True)
    row = session.scalar(query)
    if row is None:
        raise SessionNotFound(f"there is no session {code}")
    return row


def known_code(code: str) -> str:
    """Give a code as it may be looked up: what can be none is replaced by what nobody has."""
    return code if re.fullmatch(r"[0-9a-f]{32}", code) else ""


def standings(
    session: Session, reader: Reader, *, washout_days: int, now: datetime
) -> list[Standing]:
    """Tell where each session of a reader stands, by their number."""
    rows = session.scalars(
        select(ReadingSession)
        .where(ReadingSession.reader_id == reader.id)
        .order_by(ReadingSession.number)
    ).all()
    readings = session.execute(
        select(
            Reading.session_id,
            Reading.id,
            Reading.case_id,
            Reading.batch,
            Reading.state,
            Reading.opened_at,
            Reading.completed_at,
        ).where(Reading.reader_id == reader.id, Reading.state != ReadingState.WITHDRAWN.value)
    )
    by_session: dict[int, list[_Read]] = defaultdict(list)
    for session_id, row_id, case_id, batch, state, opened_at, completed_at in readings:
        begun = opened_at is not None
        read = _Read(row_id, case_id, batch, ReadingState(state), begun, completed_at)
        by_session[session_id].append(read)
    past = _Past(timedelta(days=washout_days), now)
    result = []
    for row in rows:
        own = by_session[row.id]
        result.append(_standing(row, own, past.waits(row, own)))
        past.add(row, own)
    return result


@dataclass(frozen=True, slots=True)
class _Read:
    id: int
    case_id: int
    batch: int
    state: ReadingState
    begun: bool
    completed_at: datetime | None


# ("batch", number), ("case", id) or training: what must be over before a reading is ready.
_Group = tuple[str, int]
_TRAINING: _Group = ("training", 0)


class _Past:
    """What a reader has read in the sessions so far, and what is still to be waited for."""

    def __init__(self, washout: timedelta, now: datetime) -> None:
        self._washout, self._now = washout, now
        self._unfinished: set[_Group] = set()
        self._last: dict[_Group, datetime] = {}

    def add(self, row: ReadingSession, reads: Sequence[_Read]) -> None:
        """Take in a session, before the next one is asked about."""
        training = row.kind == SessionKind.TRAINING
        for read in reads:
            groups = [_TRAINING] if training else [("batch", read.batch), ("case", read.case_id)]
            for group in groups:
                if read.completed_at is None:
                    self._unfinished.add(group)
                else:
                    known = self._last.get(group, read.completed_at)
                    self._last[group] = max(known, read.completed_at)

    def waits(self, row: ReadingSession, reads: Sequence[_Read]) -> dict[int, _Wait | None]:
        """Say for each reading that is left in a session what it waits for; None once ready."""
        begun = {read.batch for read in reads if read.begun}
        training = row.kind == SessionKind.TRAINING
        waived = row.override_at is not None
        waits: dict[int, _Wait | None] = {}
        for read in reads:
            if read.state is ReadingState.PENDING:
                alone = read.batch in begun
                group = ("case", read.case_id) if alone else ("batch", read.batch)
                waits[read.id] = None if training else self._wait(group, waived=waived)
        return waits

    def _wait(self, group: _Group, *, waived: bool) -> _Wait | None:
        # An override waives the wash-out and never the order: two arms must not lie side by side.
        if _TRAINING in self._unfinished:
            return _Wait("the training session is not complete", None)
        if group in self._unfinished:
            return _Wait("an earlier session is not complete", None)
        last = self._last.get(group)
        if waived or last is None or last + self._washout <= self._now:
            return None
        what = f"the wash-out of {self._washout.days} days is not over"
        return _Wait(what, last + self._washout)


def _standing(
    row: ReadingSession, own: Sequence[_Read], waits: dict[int, _Wait | None]
) -> Standing:
    states = Counter(read.state for read in own)
    ready = frozenset(row_id for row_id, wait in waits.items() if wait is None)
    waiting = [wait for wait in waits.values() if wait is not None]
    if states[ReadingState.OPEN] or ready:
        state = SessionState.OPEN
    elif waiting:
        state = SessionState.WAITING
    else:
        state = SessionState.COMPLETE
    known = [wait.until for wait in waiting if wait.until is not None]
    is_waiting = state is SessionState.WAITING
    return Standing(
        session=row,
        state=state,
        total=len(own),
        complete=states[ReadingState.COMPLETE],
        opens_at=min(known, default=None) if is_waiting else None,
        cause=waiting[0].cause if is_waiting else None,
        ready=ready,
    )
