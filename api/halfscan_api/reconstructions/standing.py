"""The derived series that should be in the archive, and the last comparison; no HTTP here."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from halfscan_api.reconstructions.replacement import MAY_CHANGE, NOT_FOUND, gave_way
from halfscan_api.reconstructions.schemas import (
    NewReconciliation,
    SourcePage,
    SourceSeries,
    StandingPage,
    StandingSeries,
)
from halfscan_api.reconstructions.tables import (
    AttemptResult,
    Reconciliation,
    Reconstruction,
    ReconstructionAttempt,
    Status,
)


def list_standing(session: Session, after: int, limit: int) -> StandingPage:
    """List the derived series that were made and not replaced, oldest first.

    Parameters
    ----------
    session : Session
    after : int
        Where the page begins: ``next_after`` of the one before, 0 at first.
    limit : int
        Derived series on a page.
    """
    made = session.execute(
        select(ReconstructionAttempt, Reconstruction)
        .join(Reconstruction, ReconstructionAttempt.reconstruction_id == Reconstruction.id)
        .where(
            ReconstructionAttempt.id > after,
            ReconstructionAttempt.result == AttemptResult.DONE.value,
            ReconstructionAttempt.replaced_at.is_(None),
        )
        .order_by(ReconstructionAttempt.id)
        .limit(limit)
    ).all()
    rows = _rows_by_series(session, {row.orthanc_series_id for _, row in made})
    items = [_standing(attempt, row, rows[row.orthanc_series_id]) for attempt, row in made]
    return StandingPage(items=items, next_after=made[-1][0].id if len(made) == limit else None)


def list_sources(session: Session, after: int, limit: int, *, gone: bool) -> SourcePage:
    """List the series that were looked at and should be in the archive, by their rows.

    Parameters
    ----------
    session : Session
    after : int
        Where the page begins: ``next_after`` of the one before, 0 at first.
    limit : int
        Rows on a page; a series with several current rows may be on several pages.
    gone : bool
        Also those that are known to be deleted; no number of instances is theirs.
    """
    left_out = MAY_CHANGE - {NOT_FOUND} if gone else MAY_CHANGE
    ended = [Status.DONE.value, Status.SKIPPED.value, Status.DEAD.value]
    looked_at = session.scalars(
        select(Reconstruction)
        .where(
            Reconstruction.id > after,
            Reconstruction.status.in_(ended),
            Reconstruction.replaced_at.is_(None),
            or_(
                Reconstruction.reason_code.is_(None),
                Reconstruction.reason_code.not_in(left_out),
            ),
        )
        .order_by(Reconstruction.id)
        .limit(limit)
    ).all()
    rows = _rows_by_series(session, {row.orthanc_series_id for row in looked_at})
    items = [
        SourceSeries(
            orthanc_series_id=series_id,
            n_instances=[row.n_instances for row in members if not gave_way(row)],
        )
        for series_id, members in rows.items()
    ]
    return SourcePage(items=items, next_after=looked_at[-1].id if len(looked_at) == limit else None)


def note_reconciliation(
    session: Session, counts: NewReconciliation, now: datetime
) -> Reconciliation:
    """Keep what a comparison of ledger and archive came to."""
    row = Reconciliation(finished_at=now, **counts.model_dump())
    session.add(row)
    session.flush()
    return row


def last_reconciliation(session: Session) -> Reconciliation | None:
    """Give the newest comparison; None before the first one."""
    return session.scalar(select(Reconciliation).order_by(Reconciliation.id.desc()).limit(1))


def _rows_by_series(session: Session, series_ids: set[str]) -> dict[str, list[Reconstruction]]:
    rows: dict[str, list[Reconstruction]] = {series_id: [] for series_id in series_ids}
    for row in session.scalars(
        select(Reconstruction).where(Reconstruction.orthanc_series_id.in_(series_ids))
    ):
        rows[row.orthanc_series_id].append(row)
    return rows


def _standing(
    attempt: ReconstructionAttempt, row: Reconstruction, rows: Sequence[Reconstruction]
) -> StandingSeries:
    current = [other for other in rows if not gave_way(other)]
    same = row.derived_series_instance_uid == attempt.derived_series_instance_uid
    return StandingSeries(
        id=row.id,
        orthanc_series_id=row.orthanc_series_id,
        orthanc_study_id=row.orthanc_study_id,
        study_instance_uid=row.study_instance_uid,
        source_digests=[other.source_digest for other in current],
        n_instances=[other.n_instances for other in current],
        derived_series_instance_uid=str(attempt.derived_series_instance_uid),
        derived_orthanc_series_id=attempt.derived_orthanc_series_id,
        derived_instances=row.derived_instances if same else None,
        source_missing=any(other.reason_code == NOT_FOUND for other in rows) and not current,
    )
