"""What was kept of the protocol, and what had been seen before it was amended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent
from halfscan_api.readings.tables import Reading, ReadingSession, SessionKind
from halfscan_api.studies.tables import Study
from halfscan_api.studies.trail import LOOKED


@dataclass(frozen=True, slots=True)
class Seen:
    """What was known when a version of the protocol was made.

    Attributes
    ----------
    opened, complete : int
        Readings (without training) that had been opened and completed by then.
    looks : int
        Events of the audit trail by then that tell of a look at answers by arm.
    first_look : datetime or None
    """

    opened: int
    complete: int
    looks: int
    first_look: datetime | None


def seen_before(session: Session, study: Study, moment: datetime) -> Seen:
    """Tell what was known of a study before a moment."""
    opened, complete = session.execute(
        select(
            func.count().filter(Reading.opened_at < moment),
            func.count().filter(Reading.completed_at < moment),
        )
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .where(Reading.study_id == study.id, ReadingSession.kind != SessionKind.TRAINING.value)
    ).one()
    looks, first = session.execute(
        select(func.count(), func.min(AuditEvent.at)).where(
            AuditEvent.chain == study.name, AuditEvent.action == LOOKED, AuditEvent.at < moment
        )
    ).one()
    return Seen(opened, complete, looks, first)


def gaps_of(session: Session, study: Study) -> list[timedelta]:
    """Find the time from the end of a reading to the next one of the same case and reader."""
    rows = session.execute(
        select(Reading.reader_id, Reading.case_id, Reading.opened_at, Reading.completed_at)
        .where(Reading.study_id == study.id, Reading.counted)
        .order_by(Reading.reader_id, Reading.case_id, Reading.opened_at)
    )
    gaps = []
    before: tuple[int, int, datetime] | None = None
    for reader, case, opened, completed in rows:
        if opened is None or completed is None:
            continue
        if before is not None and before[:2] == (reader, case):
            gaps.append(opened - before[2])
        before = (reader, case, completed)
    return gaps


def shorter(gaps: Sequence[timedelta], days: int) -> int:
    """Count the gaps that are shorter than a wash-out."""
    return sum(gap < timedelta(days=days) for gap in gaps)
