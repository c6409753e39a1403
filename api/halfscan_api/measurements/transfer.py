"""Regions of a reading, measured on the series of the other arms at the same place in the patient.

The regions are placed once, by a reader who does not know the arm, and measured in both: what
differs is then the images, not the hand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import ImagesMissing, SeriesIdentity, archive
from halfscan_api.audit import Actor
from halfscan_api.blinded.source import SourceCache, UnusableImages, identity_of
from halfscan_api.measurements.geometry import (
    Coordinates,
    Geometry,
    Kind,
    UnusableGeometry,
    nearest_frame,
)
from halfscan_api.measurements.regions import Ruler, measured
from halfscan_api.measurements.schemas import NotTransferred, Transferred
from halfscan_api.measurements.service import Measured, put_measurement, update_snr
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.sheet import load_sheet, load_sheets
from halfscan_api.readings.tables import Reading, ReadingState
from halfscan_api.state import state
from halfscan_api.studies.service import (
    get_study,
    lock_study,
    move_revision,
    protocol_of,
    record_change,
    trail_of,
)
from halfscan_api.studies.tables import CaseSeries


@dataclass(frozen=True, slots=True)
class _Job:
    """A region of a reading that is to be measured in another arm."""

    reading_id: int
    code: str
    arm: str
    sequence: str
    region: str
    geometry: Mapping[str, Any]
    series: SeriesIdentity | None

    def left_out(self, reason: str) -> NotTransferred:
        return NotTransferred(
            reading=self.code,
            arm=self.arm,
            sequence=self.sequence,
            region=self.region,
            reason=reason,
        )


def transfer(
    study_id: int,
    codes: Sequence[str] | None,
    *,
    cache: SourceCache,
    actor: Actor,
    now: datetime,
) -> Transferred:
    """Measure the regions of complete readings on the other arms.

    Parameters
    ----------
    study_id : int
    codes : sequence of str or None
        Of readings; all complete ones of the study where None.
    cache : SourceCache
    actor : Actor
    now : datetime

    Raises
    ------
    StudyNotFound, ArchiveNotConfigured, ArchiveUnavailable
    """
    with state().database.snapshot() as session:
        jobs, unchanged = _jobs(session, study_id, codes)
    total, left_out, ruler = 0, [], Ruler()
    for reading_id, own in _by_reading(jobs):
        made: list[tuple[_Job, Measured]] = []
        for job in own:
            try:
                made.append((job, _measure(job, cache, ruler)))
            except (UnusableGeometry, UnusableImages, ImagesMissing) as error:
                left_out.append(job.left_out(str(error)))
        if made:
            _store(study_id, reading_id, made, actor=actor, now=now)
        total += len(made)
    return Transferred(measured=total, unchanged=unchanged, left_out=left_out)


def _jobs(session: Session, study_id: int, codes: Sequence[str] | None) -> tuple[list[_Job], int]:
    """Find what is to be measured, and count what is measured already."""
    study = get_study(session, study_id)
    arms = protocol_of(session, study).arm_names
    query = select(Reading.id).where(
        Reading.study_id == study.id, Reading.state == ReadingState.COMPLETE.value
    )
    if codes is not None:
        query = query.where(Reading.code.in_(codes))
    series = {
        (row.case_id, row.arm, row.sequence): identity_of(row)
        for row in session.scalars(select(CaseSeries).where(CaseSeries.study_id == study.id))
    }
    jobs, unchanged = [], 0
    for sheet in load_sheets(session, study.id, session.scalars(query).all()):
        reading = sheet.reading
        for (arm, sequence, region), row in sorted(sheet.measurements.items()):
            if arm != reading.arm or row.geometry is None:
                continue
            for other in (one for one in arms if one != arm):
                before = sheet.measurements.get((other, sequence, region))
                if before is not None and before.geometry == row.geometry:
                    unchanged += 1
                    continue
                identity = series.get((reading.case_id, other, sequence))
                place = (reading.id, reading.code, other, sequence, region)
                jobs.append(_Job(*place, row.geometry, identity))
    return jobs, unchanged


def _by_reading(jobs: Iterable[_Job]) -> Iterator[tuple[int, list[_Job]]]:
    grouped: dict[int, list[_Job]] = {}
    for job in jobs:
        grouped.setdefault(job.reading_id, []).append(job)
    yield from grouped.items()


def _measure(job: _Job, cache: SourceCache, ruler: Ruler) -> Measured:
    if job.series is None:
        raise UnusableGeometry("the case has no such series in this arm")
    source = cache.get(archive(), job.series)
    geometry = Geometry(Kind(job.geometry["kind"]), Coordinates.PATIENT, job.geometry["points"])
    frame = nearest_frame(geometry.points, source)
    shared = job.geometry["frame_of_reference_uid"]
    if not shared or frame.frame_of_reference_uid != shared:
        raise UnusableGeometry("the two series do not share a frame of reference")
    values = ruler.measure(geometry, source, frame)
    made = measured(values, geometry, frame)
    # As it was placed, so that a repeated call finds that nothing has changed.
    return Measured(
        mean=made.mean,
        sd=made.sd,
        area_mm2=made.area_mm2,
        n_pixels=made.n_pixels,
        source=made.source,
        geometry=job.geometry,
        sop_instance_uid=made.sop_instance_uid,
        frame_number=made.frame_number,
    )


def _store(
    study_id: int,
    reading_id: int,
    made: Sequence[tuple[_Job, Measured]],
    *,
    actor: Actor,
    now: datetime,
) -> None:
    """Store what was measured for a reading, unless its own region has moved meanwhile."""
    with state().database.write() as session:
        study = lock_study(session, study_id)
        reading = session.get_one(Reading, reading_id, with_for_update=True)
        sheet = load_sheet(session, reading)
        before = sheet.state()
        for job, values in made:
            own = sheet.measurements.get((reading.arm, job.sequence, job.region))
            if _is_placed_so(own, job):
                put_measurement(
                    session, sheet, job.sequence, job.region, values, now=now, arm=job.arm
                )
        update_snr(sheet, protocol_of(session, study, reading.protocol_version))
        session.flush()
        move_revision(study)
        trail = trail_of(session, study, actor, now)
        record_change(trail, "reading.transfer", sheet.subject, before, sheet.state())


def _is_placed_so(own: Measurement | None, job: _Job) -> bool:
    return own is not None and own.geometry == job.geometry
