"""What was deleted from the archive, and what the ledger says of it; no HTTP here."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.reconstructions.replacement import (
    DERIVED_DELETED,
    HALFSCAN_OUTPUT,
    NOT_FOUND,
    find_superseded,
)
from halfscan_api.reconstructions.schemas import DERIVED_FIELDS
from halfscan_api.reconstructions.service import begin_anew
from halfscan_api.reconstructions.tables import Reconstruction, ReconstructionAttempt, Status

GONE = "the series is no longer in the archive"
DERIVED_GONE = "its derived series was deleted from the archive; a retry makes it again"


def depart(session: Session, orthanc_series_ids: Sequence[str], now: datetime) -> list[int]:
    """Take note of series that are no longer in the archive, sources and derived ones.

    A row whose source is gone waits for a worker again as long as it has a derived series: the
    worker removes that series or keeps it, as it was set; so it does with a copy that it has seen
    beside that source. A row whose derived series is gone says so; nothing is made again that
    somebody has deleted, unless the source is sent again.

    Parameters
    ----------
    session : Session
    orthanc_series_ids : sequence of str
    now : datetime

    Returns
    -------
    list of int
        Ids of the rows that changed.
    """
    gone = list(dict.fromkeys(orthanc_series_ids))
    # First what is derived: of a study that went as a whole, nothing is left to remove.
    changed = _derived(session, gone, now)
    for series_id in gone:
        changed |= _source(session, series_id, now)
    changed |= _copies(session, gone, now)
    return sorted(changed)


def _source(session: Session, series_id: str, now: datetime) -> set[int]:
    rows = _rows_of(session, series_id)
    if not rows:
        return set()
    leased = [row for row in rows if row.status == Status.LEASED]
    if leased:
        for row in leased:
            row.look_again = True
        return {row.id for row in leased}
    last = max(rows, key=lambda row: (row.status == Status.DONE, row.updated_at, row.id))
    if last.status == Status.PENDING or last.reason_code in {NOT_FOUND, HALFSCAN_OUTPUT}:
        return set()
    if find_superseded(session, last):
        begin_anew(last, now)
    else:
        _skip(last, NOT_FOUND, GONE, now)
    return {last.id}


def _derived(session: Session, gone: Sequence[str], now: datetime) -> set[int]:
    attempts = session.scalars(
        select(ReconstructionAttempt).where(
            ReconstructionAttempt.derived_orthanc_series_id.in_(gone),
            ReconstructionAttempt.replaced_at.is_(None),
        )
    ).all()
    changed = set()
    for attempt in attempts:
        row = session.get_one(Reconstruction, attempt.reconstruction_id)
        others = _rows_of(session, row.orthanc_series_id)
        if any(other.status == Status.LEASED for other in others):
            continue  # its worker removes what it replaces, and says so itself
        attempt.replaced_at = now
        same = row.derived_orthanc_series_id == attempt.derived_orthanc_series_id
        if row.status == Status.DONE and same:
            _skip(row, DERIVED_DELETED, DERIVED_GONE, now)
            changed.add(row.id)
    session.flush()
    return changed


def _copies(session: Session, gone: Sequence[str], now: datetime) -> set[int]:
    """Let copied derived series whose source is gone be looked at again."""
    copies = session.scalars(
        select(Reconstruction)
        .where(
            Reconstruction.source_orthanc_series_id.in_(gone),
            Reconstruction.orthanc_series_id.not_in(gone),
        )
        .with_for_update()
    ).all()
    for row in copies:
        row.look_again = True
        if row.status == Status.SKIPPED:
            begin_anew(row, now)
    return {row.id for row in copies}


def _rows_of(session: Session, series_id: str) -> Sequence[Reconstruction]:
    return session.scalars(
        select(Reconstruction)
        .where(Reconstruction.orthanc_series_id == series_id)
        .order_by(Reconstruction.id)
        .with_for_update()
    ).all()


def _skip(row: Reconstruction, code: str, reason: str, now: datetime) -> None:
    for name in (*DERIVED_FIELDS, "derived_instances"):
        setattr(row, name, None)
    row.status = Status.SKIPPED.value
    row.reason_code, row.reason = code, reason
    row.updated_at = row.finished_at = now
