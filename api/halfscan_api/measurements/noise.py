"""SNR of a reading's regions by a repeated series or a noise map, where the case has one.

The reader places a region once, on the images before them. What the noise is there, the server
measures afterwards, on series that no reader sees.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import SeriesIdentity, archive
from halfscan_api.audit import Actor, JsonObject, timestamp
from halfscan_api.blinded.source import Frame, SourceCache, SourceSeries, identity_of
from halfscan_api.measurements.geometry import (
    Coordinates,
    Geometry,
    Kind,
    UnusableGeometry,
    pixels_inside,
    same_grid,
)
from halfscan_api.measurements.regions import RecentImages
from halfscan_api.measurements.remeasurement import (
    change_of,
    complete_sheets,
    measure_each,
    series_of,
)
from halfscan_api.measurements.schemas import NoiseMeasured, NoiseNotMeasured
from halfscan_api.measurements.tables import Measurement
from halfscan_api.state import state
from halfscan_api.studies.protocol import Protocol, RegionRole
from halfscan_api.studies.service import (
    get_study,
    protocol_of,
)
from halfscan_api.studies.tables import NoiseRole, NoiseSeries
from halfscan_stats import (
    Reason,
    SignalToNoise,
    SnrMethod,
    StatsError,
    snr_difference,
    snr_noise_map,
)

METHODS: Final = {
    NoiseRole.REPEAT.value: SnrMethod.DIFFERENCE,
    NoiseRole.NOISE_MAP.value: SnrMethod.NOISE_MAP,
}
_NO_NOISE = {
    SnrMethod.DIFFERENCE: "the repeat differs nowhere, or by a constant: it is a copy",
    SnrMethod.NOISE_MAP: "the noise map is 0 in the region",
}


@dataclass(frozen=True, slots=True)
class _Job:
    """A region of a reading, and a series that tells its noise."""

    reading_id: int
    code: str
    arm: str
    sequence: str
    region: str
    method: SnrMethod
    geometry: Mapping[str, Any] | None
    image: tuple[str | None, int | None]
    series: SeriesIdentity | None
    noise_id: int
    noise: SeriesIdentity

    @property
    def noise_uid(self) -> str:
        return self.noise.series_instance_uid

    def left_out(self, reason: str) -> NoiseNotMeasured:
        return NoiseNotMeasured(
            reading=self.code,
            arm=self.arm,
            sequence=self.sequence,
            region=self.region,
            method=self.method.value,
            reason=reason,
        )


def measure_noise(
    study_id: int,
    codes: Sequence[str] | None,
    *,
    cache: SourceCache,
    actor: Actor,
    now: datetime,
) -> NoiseMeasured:
    """Measure the SNR of the regions of complete readings on repeats and noise maps.

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
    images = RecentImages(SourceSeries.rescaled)
    total, left_out = measure_each(
        jobs,
        lambda job: _measure(job, cache, images),
        lambda reading_id, made: _store(study_id, reading_id, made, actor=actor, now=now),
    )
    return NoiseMeasured(
        measured=total,
        unchanged=unchanged,
        left_out=[job.left_out(reason) for job, reason in left_out],
    )


def _jobs(session: Session, study_id: int, codes: Sequence[str] | None) -> tuple[list[_Job], int]:
    """Find what is to be measured, and count what is measured already."""
    study = get_study(session, study_id)
    signals = _signals(protocol_of(session, study))
    series = series_of(session, study)
    noise = defaultdict(list)
    for row in session.scalars(select(NoiseSeries).where(NoiseSeries.study_id == study.id)):
        noise[row.case_id, row.arm, row.sequence].append(row)
    jobs, unchanged = [], 0
    for sheet in complete_sheets(session, study, codes):
        reading = sheet.reading
        for (arm, sequence, region), own in sorted(sheet.measurements.items()):
            if arm != reading.arm or (sequence, region) not in signals:
                continue
            place = (reading.case_id, arm, sequence)
            for row in noise[place]:
                method = METHODS[row.role]
                before = (own.noise or {}).get(method.value, {})
                if before.get("series_instance_uid") == row.series_instance_uid:
                    unchanged += 1
                    continue
                names = (reading.id, reading.code, arm, sequence, region, method)
                image = (own.sop_instance_uid, own.frame_number)
                seen = (own.geometry, image, series.get(place))
                jobs.append(_Job(*names, *seen, row.id, identity_of(row)))
    return jobs, unchanged


def _signals(protocol: Protocol) -> set[tuple[str, str]]:
    return {
        (sequence, region.name)
        for sequence in protocol.sequence_names
        for region in protocol.regions_of(sequence)
        if region.role is RegionRole.SIGNAL
    }


def _measure(job: _Job, cache: SourceCache, images: RecentImages) -> SignalToNoise:
    if job.geometry is None:
        raise UnusableGeometry("the viewer measured the region: its place is not known")
    if job.series is None:
        raise UnusableGeometry("the case has no such series in this arm")
    own, other = (cache.get(archive(), series) for series in (job.series, job.noise))
    frame = _image_of(job, own)
    partner = _partner(frame, own, other)
    geometry = Geometry(Kind(job.geometry["kind"]), Coordinates.PATIENT, job.geometry["points"])
    mask = pixels_inside(geometry, frame)
    signal, noise = images.get(own, frame)[mask], images.get(other, partner)[mask]
    try:
        if job.method is SnrMethod.DIFFERENCE:
            answer = snr_difference(signal, noise)
        else:
            answer = snr_noise_map(float(signal.mean()), noise)
    except StatsError as error:
        raise UnusableGeometry(str(error)) from None
    if answer.reason is Reason.ZERO_VARIANCE:
        raise UnusableGeometry(_NO_NOISE[job.method])
    return answer


def _image_of(job: _Job, source: SourceSeries) -> Frame:
    """Find the image that the region was placed on."""
    found = (one for one in source.frames if (one.sop_instance_uid, one.number) == job.image)
    frame = next(found, None)
    if frame is None:
        raise UnusableGeometry("the archive no longer holds the image that the region lies on")
    return frame


def _partner(frame: Frame, source: SourceSeries, other: SourceSeries) -> Frame:
    """Find the image of another series on the same pixels; of several (echoes) the same one."""
    alike = [one for one in source.frames if same_grid(one, frame)]
    partners = [one for one in other.frames if same_grid(one, frame)]
    if not partners:
        raise UnusableGeometry(
            "the series has no image on the same pixels, in the same frame of reference: matrix, "
            "pixel spacing, position and orientation must be those of the series that was read"
        )
    if len(partners) != len(alike):
        raise UnusableGeometry(
            f"both series must hold as many images at this place, got {len(alike)} and "
            f"{len(partners)}"
        )
    return partners[alike.index(frame)]


def _store(
    study_id: int,
    reading_id: int,
    made: Sequence[tuple[_Job, SignalToNoise]],
    *,
    actor: Actor,
    now: datetime,
) -> None:
    """Store what was measured, unless the region has moved or the series was replaced meanwhile."""
    with change_of(study_id, reading_id, "reading.noise", actor=actor, now=now) as (
        session,
        _,
        sheet,
    ):
        for job, answer in made:
            own = sheet.measurements.get((job.arm, job.sequence, job.region))
            row = session.get(NoiseSeries, job.noise_id)
            if own is not None and _stands(job, own, row):
                own.noise = {**(own.noise or {}), job.method.value: _entry(job, answer, now)}


def _stands(job: _Job, own: Measurement, row: NoiseSeries | None) -> bool:
    moved = own.geometry != job.geometry or (own.sop_instance_uid, own.frame_number) != job.image
    return not moved and row is not None and row.series_instance_uid == job.noise_uid


def _entry(job: _Job, answer: SignalToNoise, now: datetime) -> JsonObject:
    return {
        "snr": answer.value,
        "signal": answer.signal,
        "noise": answer.noise,
        "n_pixels": answer.n,
        "series_instance_uid": job.noise_uid,
        "measured_at": timestamp(now),
    }
