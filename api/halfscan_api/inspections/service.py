"""What happens to inspections; no HTTP here.

Each function takes a session and the time now, and works inside the session's transaction. What
runs out with time (nobody takes a question, a worker vanishes) is noted by whoever looks next.
"""

import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ScalarSelect, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from halfscan_api.database import MAX_ID
from halfscan_api.errors import HalfscanError
from halfscan_api.inspections.schemas import InspectionOutcome, NewInspection
from halfscan_api.inspections.tables import Inspection, InspectionStatus

# Headers take seconds: who asks should not wait much longer to hear that nobody answers.
UNANSWERED_S = 60
ATTEMPTS = 2
KEPT_DAYS = 7
OPEN = (InspectionStatus.PENDING.value, InspectionStatus.LEASED.value)


class InspectionNotFound(HalfscanError):
    """No inspection has this id, or not any more."""

    http_status = 404


class InspectionLeaseLost(HalfscanError):
    """The token does not hold the lease, or no longer."""

    http_status = 409


def create(session: Session, new: NewInspection, *, now: datetime) -> tuple[Inspection, bool]:
    """Note a question; one that is open already is not asked twice.

    Returns
    -------
    Inspection, bool
        The row, and whether it is new.
    """
    session.execute(
        delete(Inspection).where(Inspection.created_at < now - timedelta(days=KEPT_DAYS))
    )
    _note_time(session, now)
    asked = new.model_dump()
    same = [getattr(Inspection, name).is_not_distinct_from(asked[name]) for name in asked]
    row = session.scalar(select(Inspection).where(Inspection.status.in_(OPEN), *same).limit(1))
    if row is not None:
        return row, False
    row = Inspection(**asked, status=InspectionStatus.PENDING.value, attempt=0, created_at=now)
    session.add(row)
    session.flush()
    return row, True


def claim(session: Session, *, worker: str, lease_s: int, now: datetime) -> Inspection | None:
    """Lease the oldest open question to a worker; also one that a vanished worker left."""
    _note_time(session, now)
    return session.scalar(
        update(Inspection)
        .where(Inspection.id == _next_claimable(now))
        .values(
            status=InspectionStatus.LEASED.value,
            attempt=Inspection.attempt + 1,
            lease_token=secrets.token_hex(16),
            lease_until=now + timedelta(seconds=lease_s),
            worker=worker,
        )
        .returning(Inspection)
        .execution_options(synchronize_session=False)
    )


def finish(
    session: Session, row_id: int, outcome: InspectionOutcome, *, now: datetime
) -> Inspection:
    """Record the answer; the same answer may come again, since the reply may have been lost.

    Raises
    ------
    InspectionNotFound, InspectionLeaseLost
    """
    row = session.scalar(
        select(Inspection).where(Inspection.id == _checked(row_id)).with_for_update()
    )
    if row is None:
        raise _not_found(row_id)
    again = row.status == outcome.status and row.finished_at is not None
    if row.lease_token != outcome.lease_token or (row.status not in OPEN and not again):
        raise InspectionLeaseLost(
            f"the lease_token must hold the lease of inspection {row.id}, which is {row.status}"
        )
    if not again:
        row.status = outcome.status
        row.result = outcome.result
        row.error_code = outcome.error_code
        row.error = outcome.error
        row.finished_at = now
    return row


def get(session: Session, row_id: int, *, now: datetime) -> Inspection:
    """Get one inspection as it stands now.

    Raises
    ------
    InspectionNotFound
    """
    _note_time(session, now)
    row = session.get(Inspection, _checked(row_id))
    if row is None:
        raise _not_found(row_id)
    return row


def is_settled(session: Session, row_id: int, *, now: datetime) -> bool:
    """Tell, without writing, whether waiting longer would change nothing."""
    query = select(Inspection.id).where(
        Inspection.id == _checked(row_id), Inspection.status.in_(OPEN), ~_overdue(now)
    )
    return session.scalar(query) is None


def _note_time(session: Session, now: datetime) -> None:
    """Fail what nobody will answer any more."""
    overdue = session.scalars(
        select(Inspection).where(_overdue(now)).with_for_update(skip_locked=True)
    )
    for row in overdue:
        if row.status == InspectionStatus.PENDING:
            row.error_code = "no_worker"
            row.error = f"no worker took it within {UNANSWERED_S} s: is one running?"
        else:
            row.error_code = "worker_vanished"
            row.error = f"the worker {row.worker} vanished at attempt {row.attempt} of {ATTEMPTS}"
        row.status = InspectionStatus.FAILED.value
        row.lease_token = None
        row.finished_at = now
    session.flush()


def _overdue(now: datetime) -> ColumnElement[bool]:
    unanswered = and_(
        Inspection.status == InspectionStatus.PENDING.value,
        Inspection.created_at <= now - timedelta(seconds=UNANSWERED_S),
    )
    vanished = and_(
        Inspection.status == InspectionStatus.LEASED.value,
        or_(
            and_(Inspection.lease_until <= now, Inspection.attempt >= ATTEMPTS),
            Inspection.lease_until <= now - timedelta(seconds=UNANSWERED_S),
        ),
    )
    return or_(unanswered, vanished)


def _next_claimable(now: datetime) -> ScalarSelect[int]:
    left = and_(
        Inspection.status == InspectionStatus.LEASED.value,
        Inspection.lease_until <= now,
        Inspection.attempt < ATTEMPTS,
    )
    return (
        select(Inspection.id)
        .where(or_(Inspection.status == InspectionStatus.PENDING.value, left))
        .order_by(Inspection.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _checked(row_id: int) -> int:
    if row_id > MAX_ID:
        raise _not_found(row_id)
    return row_id


def _not_found(row_id: int) -> InspectionNotFound:
    return InspectionNotFound(
        f"there is no inspection {row_id}; they are removed after {KEPT_DAYS} days"
    )
