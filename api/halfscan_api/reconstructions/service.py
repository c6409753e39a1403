"""What happens to reconstructions; no HTTP here.

Each function takes a session and the time now, and works inside the session's transaction.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ScalarSelect, Select, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, selectinload

from halfscan_api.database import MAX_ID
from halfscan_api.errors import HalfscanError
from halfscan_api.reconstructions.replacement import NOT_FOUND, gave_way, note_replaced
from halfscan_api.reconstructions.schemas import (
    DERIVED_FIELDS,
    OUTCOME_FIELDS,
    NewReconstruction,
    Outcome,
    OutcomeStatus,
    ReconstructionFilter,
)
from halfscan_api.reconstructions.tables import (
    AttemptResult,
    Reconstruction,
    ReconstructionAttempt,
    Status,
)
from halfscan_api.settings import Settings

# Any number, the same everywhere: claims happen one after the other.
_CLAIM_LOCK = 4_815_162_343


class ReconstructionNotFound(HalfscanError):
    """No reconstruction has this id."""

    http_status = 404


class SourceMismatch(HalfscanError):
    """The same series and instances were announced before with other facts."""

    http_status = 409


class LeaseLost(HalfscanError):
    """The token does not hold the lease, or no longer."""

    http_status = 409


class OutcomeConflict(HalfscanError):
    """The attempt was reported before, with another outcome."""

    http_status = 409


class NotRetriable(HalfscanError):
    """Only what has ended can be tried again."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes
    ----------
    items : sequence of Reconstruction
    total : int
        Rows on all pages.
    """

    items: Sequence[Reconstruction]
    total: int


def create(
    session: Session, new: NewReconstruction, *, max_attempts: int, now: datetime
) -> tuple[Reconstruction, bool]:
    """Note a series, once for each set of its instances.

    A row begins anew when its content is announced again after it gave way to another one, after
    the series was gone, or after its derived series was deleted; so does one that Halfscan wrote.

    Returns
    -------
    Reconstruction, bool
        The row, and whether it is new.

    Raises
    ------
    SourceMismatch
        The row exists with other identifiers or another number of instances.
    """
    existing = _find_source(session, new)
    if existing is None:
        row = Reconstruction(
            **new.model_dump(exclude={"delay_s"}),
            status=Status.PENDING.value,
            attempt=0,
            max_attempts=max_attempts,
            run_after=now + timedelta(seconds=new.delay_s),
            created_at=now,
            updated_at=now,
        )
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:
            # Another request noted it between the look and the insert.
            existing = _find_source(session, new)
            if existing is None:
                raise
        else:
            return row, True
    for name in ("series_instance_uid", "study_instance_uid", "n_instances"):
        stands, got = getattr(existing, name), getattr(new, name)
        if stands != got:
            raise SourceMismatch(
                f"{name} must be {stands!r} as in reconstruction {existing.id}, got {got!r}"
            )
    existing.orthanc_study_id = existing.orthanc_study_id or new.orthanc_study_id
    if gave_way(existing):
        begin_anew(existing, now)
        existing.replaced_by = existing.replaced_at = None  # it stands for the series again
    due = now + timedelta(seconds=new.delay_s)
    if existing.status == Status.PENDING and existing.attempt == 0 and due < existing.run_after:
        existing.run_after = due  # whoever announced it before expected it later
    return existing, False


def claim(
    session: Session, *, worker: str, lease_s: int, now: datetime
) -> tuple[Reconstruction | None, Sequence[int]]:
    """Lease the next reconstruction to a worker.

    Takes what is pending and due, and what a vanished worker left behind; highest priority first,
    then the one that waits longest; never two rows of one series at a time. What vanished at its
    last attempt becomes dead, so that a series which kills its worker does not kill workers for
    ever.

    Returns
    -------
    Reconstruction or None, sequence of int
        The leased row, and the ids of the rows that became dead.
    """
    _one_at_a_time(session)
    buried = _bury_vanished(session, now)
    row = session.scalar(
        update(Reconstruction)
        .where(Reconstruction.id == _next_claimable(now))
        .values(
            status=Status.LEASED.value,
            attempt=Reconstruction.attempt + 1,
            lease_token=secrets.token_hex(16),
            lease_s=lease_s,
            lease_until=now + timedelta(seconds=lease_s),
            worker=worker,
            updated_at=now,
        )
        .returning(Reconstruction)
        .execution_options(synchronize_session=False)
    )
    if row is None:
        return None, buried
    _end_open_attempts(session, [row.id, *_release_vanished(session, row, now)], now)
    session.add(
        ReconstructionAttempt(
            reconstruction_id=row.id,
            attempt=row.attempt,
            worker=worker,
            lease_token=row.lease_token,
            started_at=now,
        )
    )
    return row, buried


def renew(
    session: Session,
    row_id: int,
    *,
    lease_token: str,
    now: datetime,
    derived_series_instance_uid: str | None = None,
) -> datetime:
    """Prolong a lease by its length; also one that has run out, while nobody else has taken it.

    Parameters
    ----------
    session : Session
    row_id : int
    lease_token : str
    now : datetime
    derived_series_instance_uid : str, optional
        What the worker is about to store.

    Raises
    ------
    ReconstructionNotFound, LeaseLost
    """
    _one_at_a_time(session)  # a claim must not take a lease for lost while it is renewed
    row = _get_for_update(session, row_id)
    if row.status != Status.LEASED or row.lease_token != lease_token or row.lease_s is None:
        raise _lease_lost(row)
    row.lease_until = now + timedelta(seconds=row.lease_s)
    row.updated_at = now
    if derived_series_instance_uid is not None:
        attempt = _attempt(session, row, lease_token)
        if attempt is not None:
            attempt.derived_series_instance_uid = derived_series_instance_uid
    return row.lease_until


def finish(
    session: Session, row_id: int, outcome: Outcome, *, settings: Settings, now: datetime
) -> tuple[Reconstruction, bool]:
    """Record what became of a claim.

    The same outcome with the same token may come again, since its answer may have been lost.

    Returns
    -------
    Reconstruction, bool
        The row, and whether this changed it.

    Raises
    ------
    ReconstructionNotFound, LeaseLost, OutcomeConflict
    """
    row = _get_for_update(session, row_id)
    attempt = _attempt(session, row, outcome.lease_token)
    digest = hashlib.sha256(outcome.model_dump_json().encode()).hexdigest()
    if attempt is None or attempt.result == AttemptResult.LOST:
        raise _lease_lost(row)
    if attempt.ended_at is not None:
        if attempt.outcome_sha256 != digest:
            raise OutcomeConflict(
                f"attempt {attempt.attempt} of reconstruction {row.id} was reported as "
                f"{attempt.result}, got another outcome: {outcome.status.value}"
            )
        return row, False
    attempt.ended_at = now
    attempt.result = outcome.status.value
    attempt.error = outcome.error
    attempt.outcome_sha256 = digest
    for name in OUTCOME_FIELDS:
        setattr(row, name, getattr(outcome, name))
    gone = set(outcome.replaced or ())
    if outcome.status is OutcomeStatus.DONE:
        for name in DERIVED_FIELDS:
            setattr(attempt, name, getattr(outcome, name))
        # The same series, made again: the earlier attempt's is no longer its own.
        gone.add(attempt.derived_series_instance_uid or "")
        row.replaced_by = row.replaced_at = None
    note_replaced(session, row, attempt, gone, now)
    _leave(row, outcome, settings, now)
    if row.source_orthanc_series_id is not None:
        row.look_again = row.look_again or _is_gone(session, row.source_orthanc_series_id)
    seen = row.reason_code == NOT_FOUND and row.status == Status.SKIPPED
    if row.look_again and row.status in {Status.DONE, Status.SKIPPED} and not seen:
        begin_anew(row, now)  # it was deleted while the worker had it
    else:
        row.look_again = False
    return row, True


def find(session: Session, wanted: ReconstructionFilter) -> Page:
    """List reconstructions, newest first."""
    query = _filtered(wanted)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = session.scalars(
        query.order_by(Reconstruction.id.desc())
        .limit(wanted.per_page)
        .offset((wanted.page - 1) * wanted.per_page)
    )
    return Page(items=rows.all(), total=total)


def get(session: Session, row_id: int) -> Reconstruction:
    """Get one reconstruction with its attempts.

    Raises
    ------
    ReconstructionNotFound
    """
    row = session.scalar(
        select(Reconstruction)
        .where(Reconstruction.id == _checked(row_id))
        .options(selectinload(Reconstruction.attempts))
    )
    if row is None:
        raise _not_found(row_id)
    return row


def retry(session: Session, row_id: int, *, now: datetime) -> Reconstruction:
    """Let what has ended begin anew, as if it had just arrived.

    The derived series that a done row has made stays in the archive until the next one is there;
    the row's attempts remember it. A row that another one has replaced keeps saying so until it
    has made a derived series again.

    Raises
    ------
    ReconstructionNotFound, NotRetriable
    """
    row = _get_for_update(session, row_id)
    if row.status not in {Status.DEAD, Status.SKIPPED, Status.DONE}:
        raise NotRetriable(
            f"only a dead, skipped or done reconstruction can be retried, "
            f"got {row.status} for reconstruction {row.id}"
        )
    begin_anew(row, now)
    return row


def summary(session: Session) -> dict[Status, int]:
    """Count the reconstructions by status; every status is there."""
    counted = session.execute(
        select(Reconstruction.status, func.count()).group_by(Reconstruction.status)
    )
    found = {Status(status): count for status, count in counted}
    return {status: found.get(status, 0) for status in Status}


def _is_gone(session: Session, series_id: str) -> bool:
    """Tell whether a series is known to be no longer in the archive."""
    rows = session.scalars(
        select(Reconstruction.reason_code).where(Reconstruction.orthanc_series_id == series_id)
    ).all()
    return NOT_FOUND in rows


def _find_source(session: Session, new: NewReconstruction) -> Reconstruction | None:
    return session.scalar(
        select(Reconstruction).where(
            Reconstruction.orthanc_series_id == new.orthanc_series_id,
            Reconstruction.source_digest == new.source_digest,
        )
    )


def _one_at_a_time(session: Session) -> None:
    """Wait for the claims and renewals that are under way; SQLite's BEGIN IMMEDIATE does so."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_CLAIM_LOCK)))


def begin_anew(row: Reconstruction, now: datetime) -> None:
    """Let a row wait for a worker, as if it had just been announced."""
    for name in (*OUTCOME_FIELDS, "worker", "finished_at"):
        setattr(row, name, None)
    row.status = Status.PENDING.value
    row.attempt = 0
    row.run_after = now
    row.updated_at = now


def _attempt(
    session: Session, row: Reconstruction, lease_token: str
) -> ReconstructionAttempt | None:
    return session.scalar(
        select(ReconstructionAttempt).where(
            ReconstructionAttempt.reconstruction_id == row.id,
            ReconstructionAttempt.lease_token == lease_token,
        )
    )


def _next_claimable(now: datetime) -> ScalarSelect[int]:
    # A scalar subquery: PostgreSQL evaluates it once, locks that one row and skips the rows that
    # another claim has locked. SQLite knows no row locks: BEGIN IMMEDIATE came before.
    due = and_(Reconstruction.status == Status.PENDING.value, Reconstruction.run_after <= now)
    left = and_(
        Reconstruction.status == Status.LEASED.value,
        Reconstruction.lease_until <= now,
        Reconstruction.attempt < Reconstruction.max_attempts,
    )
    other = aliased(Reconstruction)
    held = (
        select(other.id)
        .where(
            other.orthanc_series_id == Reconstruction.orthanc_series_id,
            other.id != Reconstruction.id,
            other.status == Status.LEASED.value,
            other.lease_until > now,
        )
        .exists()
    )
    return (
        select(Reconstruction.id)
        .where(or_(due, left), ~held)
        .order_by(Reconstruction.priority.desc(), Reconstruction.run_after, Reconstruction.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _bury_vanished(session: Session, now: datetime) -> Sequence[int]:
    rows = session.scalars(
        select(Reconstruction)
        .where(
            Reconstruction.status == Status.LEASED.value,
            Reconstruction.lease_until <= now,
            Reconstruction.attempt >= Reconstruction.max_attempts,
        )
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        row.error = (
            f"the worker {row.worker} vanished: its lease ran out at attempt "
            f"{row.attempt} of {row.max_attempts}"
        )
        _end(row, Status.DEAD, now)
    ids = [row.id for row in rows]
    _end_open_attempts(session, ids, now)
    return ids


def _release_vanished(session: Session, row: Reconstruction, now: datetime) -> Sequence[int]:
    """Take back the lease that ran out on another row of the series that was claimed now."""
    rows = session.scalars(
        select(Reconstruction)
        .where(
            Reconstruction.orthanc_series_id == row.orthanc_series_id,
            Reconstruction.id != row.id,
            Reconstruction.status == Status.LEASED.value,
        )
        .with_for_update()
    ).all()
    for other in rows:
        _release(other, Status.PENDING, now)
    return [other.id for other in rows]


def _end_open_attempts(session: Session, row_ids: Sequence[int], now: datetime) -> None:
    session.execute(
        update(ReconstructionAttempt)
        .where(
            ReconstructionAttempt.reconstruction_id.in_(row_ids),
            ReconstructionAttempt.ended_at.is_(None),
        )
        .values(
            ended_at=now,
            result=AttemptResult.LOST.value,
            error="the lease ran out: the worker vanished",
        )
        .execution_options(synchronize_session=False)
    )


def _leave(row: Reconstruction, outcome: Outcome, settings: Settings, now: datetime) -> None:
    """Give up the lease, for the status that follows from the outcome."""
    if outcome.status is OutcomeStatus.DONE:
        _end(row, Status.DONE, now)
    elif outcome.status is OutcomeStatus.SKIPPED:
        _end(row, Status.SKIPPED, now)
    elif outcome.permanent or row.attempt >= row.max_attempts:
        _end(row, Status.DEAD, now)
    else:
        wait_s = min(settings.backoff_s * 2 ** (row.attempt - 1), settings.backoff_cap_s)
        row.run_after = now + timedelta(seconds=wait_s)
        _release(row, Status.PENDING, now)


def _end(row: Reconstruction, status: Status, now: datetime) -> None:
    row.finished_at = now
    _release(row, status, now)


def _release(row: Reconstruction, status: Status, now: datetime) -> None:
    row.status = status.value
    row.lease_token = None
    row.lease_s = None
    row.lease_until = None
    row.updated_at = now


def _get_for_update(session: Session, row_id: int) -> Reconstruction:
    row = session.scalar(
        select(Reconstruction).where(Reconstruction.id == _checked(row_id)).with_for_update()
    )
    if row is None:
        raise _not_found(row_id)
    return row


def _checked(row_id: int) -> int:
    if row_id > MAX_ID:
        raise _not_found(row_id)
    return row_id


def _not_found(row_id: int) -> ReconstructionNotFound:
    return ReconstructionNotFound(f"there is no reconstruction {row_id}")


def _lease_lost(row: Reconstruction) -> LeaseLost:
    return LeaseLost(
        f"the lease_token must hold the lease of reconstruction {row.id}, which is {row.status} "
        f"at attempt {row.attempt}: another worker took it over, or it ended"
    )


def _filtered(wanted: ReconstructionFilter) -> Select[Reconstruction]:
    query = select(Reconstruction)
    if wanted.status:
        query = query.where(Reconstruction.status.in_([status.value for status in wanted.status]))
    code = Reconstruction.reason_code
    if wanted.reason_code:
        query = query.where(code.in_(wanted.reason_code))
    if wanted.exclude_reason_code:
        query = query.where(or_(code.is_(None), code.not_in(wanted.exclude_reason_code)))
    for name in ("orthanc_series_id", "series_instance_uid", "study_instance_uid"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(Reconstruction, name) == value)
    if wanted.derived_series_instance_uid is not None:
        made = ReconstructionAttempt.derived_series_instance_uid
        query = query.where(
            Reconstruction.attempts.any(
                and_(
                    made == wanted.derived_series_instance_uid,
                    ReconstructionAttempt.replaced_at.is_(None),
                )
            )
        )
    if wanted.created_after is not None:
        query = query.where(Reconstruction.created_at > wanted.created_after)
    if wanted.updated_after is not None:
        query = query.where(Reconstruction.updated_at > wanted.updated_after)
    return query
