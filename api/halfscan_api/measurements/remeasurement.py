"""Regions of complete readings, measured once more: what transfer and noise share.

Pixels are fetched before a transaction begins, one reading is stored at a time, and only what has
not changed meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import ImagesMissing, SeriesIdentity
from halfscan_api.audit import Actor
from halfscan_api.blinded.source import UnusableImages, identity_of
from halfscan_api.measurements.geometry import UnusableGeometry
from halfscan_api.readings.sheet import Sheet, load_sheet, load_sheets
from halfscan_api.readings.tables import Reading, ReadingState
from halfscan_api.state import state
from halfscan_api.studies.service import lock_study, move_revision, record_change, trail_of
from halfscan_api.studies.tables import CaseSeries, Study


class _OfReading(Protocol):
    @property
    def reading_id(self) -> int: ...


Job = TypeVar("Job", bound=_OfReading)
Value = TypeVar("Value")


def complete_sheets(session: Session, study: Study, codes: Sequence[str] | None) -> Sequence[Sheet]:
    """Load the complete readings with these codes; all of the study where None."""
    query = select(Reading.id).where(
        Reading.study_id == study.id, Reading.state == ReadingState.COMPLETE.value
    )
    if codes is not None:
        query = query.where(Reading.code.in_(codes))
    return load_sheets(session, study.id, session.scalars(query).all())


def series_of(session: Session, study: Study) -> dict[tuple[int, str, str], SeriesIdentity]:
    """Give the series of a study by case, arm and sequence."""
    rows = session.scalars(select(CaseSeries).where(CaseSeries.study_id == study.id))
    return {(row.case_id, row.arm, row.sequence): identity_of(row) for row in rows}


def measure_each(
    jobs: Iterable[Job],
    measure: Callable[[Job], Value],
    store: Callable[[int, list[tuple[Job, Value]]], None],
) -> tuple[int, list[tuple[Job, str]]]:
    """Measure job after job, and store what came of them reading by reading.

    Parameters
    ----------
    jobs : iterable
        Those of one reading follow each other; each has a `reading_id`.
    measure : callable
        Raises UnusableGeometry, UnusableImages or ImagesMissing where a job has no answer.
    store : callable
        Called with the reading and its answers, where there are any.

    Returns
    -------
    int
        How many jobs were measured.
    list of (job, reason)
        Those that were not, and why.
    """
    total, left_out = 0, []
    for reading_id, own in groupby(jobs, key=lambda job: job.reading_id):
        made: list[tuple[Job, Value]] = []
        for job in own:
            try:
                made.append((job, measure(job)))
            except (UnusableGeometry, UnusableImages, ImagesMissing) as error:
                left_out.append((job, str(error)))
        if made:
            store(reading_id, made)
        total += len(made)
    return total, left_out


@contextmanager
def change_of(
    study_id: int, reading_id: int, action: str, *, actor: Actor, now: datetime
) -> Iterator[tuple[Session, Study, Sheet]]:
    """Lock a reading and its study for a change, and record under `action` what has changed."""
    with state().database.write() as session:
        study = lock_study(session, study_id)
        reading = session.get_one(Reading, reading_id, with_for_update=True)
        sheet = load_sheet(session, reading)
        before = sheet.state()
        yield session, study, sheet
        session.flush()
        after = sheet.state()
        if after != before:
            move_revision(study)
            record_change(
                trail_of(session, study, actor, now), action, sheet.subject, before, after
            )
