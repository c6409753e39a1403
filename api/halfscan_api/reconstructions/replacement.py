"""One derived series takes the place of another; no HTTP here.

The attempts keep the trail: which derived series each one stored, and what replaced it when.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.reconstructions.schemas import Superseded
from halfscan_api.reconstructions.tables import (
    AttemptResult,
    Reconstruction,
    ReconstructionAttempt,
    Status,
)

# What a worker says of a row whose series holds another content by now, or is gone.
SUPERSEDED, NOT_FOUND = "superseded", "series_not_found"
# What the ledger says itself of a row whose derived series somebody has deleted.
DERIVED_DELETED = "derived_deleted"
# What a worker says of a series that Halfscan wrote; where it stands depends on what is beside it.
HALFSCAN_OUTPUT = "halfscan_output"


def find_superseded(session: Session, row: Reconstruction) -> list[Superseded]:
    """List the derived series of earlier attempts at a series that nothing has replaced yet.

    Parameters
    ----------
    session : Session
    row : Reconstruction
        A claimed row; what its own earlier attempts stored belongs to the list.

    Returns
    -------
    list of Superseded
        Oldest first, each derived series once.
    """
    stored = session.execute(
        select(ReconstructionAttempt, Reconstruction.id)
        .join(Reconstruction, ReconstructionAttempt.reconstruction_id == Reconstruction.id)
        .where(
            Reconstruction.orthanc_series_id == row.orthanc_series_id,
            ReconstructionAttempt.derived_series_instance_uid.is_not(None),
            ReconstructionAttempt.replaced_at.is_(None),
        )
        .order_by(ReconstructionAttempt.id)
    )
    found: dict[str, Superseded] = {}
    for attempt, row_id in stored:
        uid = str(attempt.derived_series_instance_uid)
        found[uid] = Superseded(
            id=row_id,
            derived_series_instance_uid=uid,
            derived_orthanc_series_id=attempt.derived_orthanc_series_id,
            complete=attempt.result == AttemptResult.DONE or (uid in found and found[uid].complete),
        )
    return list(found.values())


# Codes of skipped rows that may be otherwise once their content is announced again.
MAY_CHANGE = frozenset({SUPERSEDED, NOT_FOUND, DERIVED_DELETED, HALFSCAN_OUTPUT})


def gave_way(row: Reconstruction) -> bool:
    """Tell whether a row ended only because of what the archive held, and may be otherwise now."""
    if row.status == Status.SKIPPED:
        return row.reason_code in MAY_CHANGE
    return row.status == Status.DONE and row.replaced_at is not None


def note_replaced(
    session: Session,
    row: Reconstruction,
    attempt: ReconstructionAttempt,
    gone: set[str],
    now: datetime,
) -> None:
    """Note on the other attempts at the same series, and on their rows, what took their place."""
    older = session.execute(
        select(ReconstructionAttempt, Reconstruction)
        .join(Reconstruction, ReconstructionAttempt.reconstruction_id == Reconstruction.id)
        .where(
            Reconstruction.orthanc_series_id == row.orthanc_series_id,
            ReconstructionAttempt.id != attempt.id,
            ReconstructionAttempt.derived_series_instance_uid.in_(gone),
            ReconstructionAttempt.replaced_at.is_(None),
        )
    )
    for other, its_row in older:
        other.replaced_by, other.replaced_at = row.id, now
        same = its_row.derived_series_instance_uid == other.derived_series_instance_uid
        if its_row is not row and same:
            its_row.replaced_by, its_row.replaced_at = row.id, now
            its_row.updated_at = now
