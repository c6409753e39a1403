"""Regions of a reading, measured on the series of the other arms at the same place in the patient.

The regions are placed once, by a reader who does not know the arm, and measured in both: what
differs is then the images, not the hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from halfscan_api.archive import SeriesIdentity, archive
from halfscan_api.audit import Actor
from halfscan_api.blinded.source import SourceCache
from halfscan_api.measurements.geometry import (
    Coordinates,
    Geometry,
    Kind,
    UnusableGeometry,
    nearest_frame,
)
from halfscan_api.measurements.regions import Ruler, measured
from halfscan_api.measurements.remeasurement import (
    change_of,
    complete_sheets,
    measure_each,
    series_of,
)
from halfscan_api.measurements.schemas import NotTransferred, Transferred
from halfscan_api.measurements.service import Measured, put_measurement, update_snr
from halfscan_api.measurements.tables import Measurement
from halfscan_api.state import state
from halfscan_api.studies.service import (
    get_study,
    protocol_of,
)


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
    ruler = Ruler()
    total, left_out = measure_each(
        jobs,
        lambda job: _measure(job, cache, ruler),
        lambda reading_id, made: _store(study_id, reading_id, made, actor=actor, now=now),
    )
    return Transferred(
        measured=total,
        unchanged=unchanged,
        left_out=[job.left_out(reason) for job, reason in left_out],
    )


def _jobs(session: Session, study_id: int, codes: Sequence[str] | None) -> tuple[list[_Job], int]:
    """Find what is to be measured, and count what is measured already."""
    study = get_study(session, study_id)
    arms = protocol_of(session, study).arm_names
    series = series_of(session, study)
    jobs, unchanged = [], 0
    for sheet in complete_sheets(session, study, codes):
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
    with change_of(study_id, reading_id, "reading.transfer", actor=actor, now=now) as (
        session,
        study,
        sheet,
    ):
        for job, values in made:
            own = sheet.measurements.get((sheet.reading.arm, job.sequence, job.region))
            if _is_placed_so(own, job):
                put_measurement(
                    session, sheet, job.sequence, job.region, values, now=now, arm=job.arm
                )
        update_snr(sheet, protocol_of(session, study, sheet.reading.protocol_version))


def _is_placed_so(own: Measurement | None, job: _Job) -> bool:
    return own is not None and own.geometry == job.geometry
