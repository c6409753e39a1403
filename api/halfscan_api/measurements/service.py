"""What becomes of measurements: they are stored, and give the SNR.

SNR is the mean of the signal over the standard deviation of the background noise, both in the same
sequence of the same images (Tang et al. 2024, doi:10.1186/s41747-024-00470-0).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from halfscan_api.measurements.tables import Measurement, MeasurementSource
from halfscan_api.readings.sheet import Sheet
from halfscan_api.studies.protocol import Protocol, RegionRole


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in a region.

    Attributes
    ----------
    mean, sd : float
        Of the pixel values.
    area_mm2 : float or None
        Area [mm2].
    n_pixels : int or None
    source : MeasurementSource
    geometry : mapping or None
        What the server measured.
    sop_instance_uid : str or None
        Instance of the archive that the region lies on.
    frame_number : int or None
        From 1.
    """

    mean: float
    sd: float
    area_mm2: float | None = None
    n_pixels: int | None = None
    source: MeasurementSource = MeasurementSource.VIEWER
    geometry: Mapping[str, Any] | None = None
    sop_instance_uid: str | None = None
    frame_number: int | None = None


@dataclass(frozen=True, slots=True)
class RegionMeasured:
    """A region of a sequence, and what the server or a report says that it measures."""

    sequence: str
    region: str
    measured: Measured


def put_measurement(
    session: Session,
    sheet: Sheet,
    sequence: str,
    region: str,
    measured: Measured | None,
    *,
    now: datetime,
    arm: str | None = None,
) -> None:
    """Store what was measured in a region, or take it back; `update_snr` comes afterwards.

    Parameters
    ----------
    session : Session
    sheet : Sheet
        The reading.
    sequence, region : str
        Names that its protocol knows.
    measured : Measured or None
        None takes the measurement back.
    now : datetime
    arm : str, optional
        Arm of the images, where the geometry was transferred to another than the reading's.
    """
    where = arm or sheet.reading.arm
    key = (where, sequence, region)
    row = sheet.measurements.get(key)
    if measured is None:
        if row is not None:
            session.delete(sheet.measurements.pop(key))
        return
    if row is None:
        transferred = where != sheet.reading.arm
        row = Measurement(
            **sheet.answer_columns(arm=where),
            sequence=sequence,
            region=region,
            transferred=transferred,
        )
        sheet.measurements[key] = row
        session.add(row)
    row.mean, row.sd = measured.mean, measured.sd
    row.area_mm2, row.n_pixels = measured.area_mm2, measured.n_pixels
    row.source = measured.source.value
    row.geometry = dict(measured.geometry) if measured.geometry is not None else None
    row.sop_instance_uid, row.frame_number = measured.sop_instance_uid, measured.frame_number
    # Of another place it would be another one.
    row.noise = None
    row.saved_at = now


def update_snr(sheet: Sheet, protocol: Protocol) -> None:
    """Compute the SNR of every measurement of a reading anew.

    It is None for the noise region itself, and for the others until the noise of their sequence is
    measured and its SD is not 0.
    """
    noise_regions = {
        one.group: one.name for one in protocol.regions if one.role is RegionRole.NOISE
    }
    groups = {one.name: one.group for one in protocol.sequences}
    for (arm, sequence, region), row in sheet.measurements.items():
        noise_region = noise_regions.get(groups.get(sequence, ""))
        noise = sheet.measurements.get((arm, sequence, noise_region or ""))
        known = noise is not None and noise.sd > 0 and region != noise_region
        row.snr = row.mean / noise.sd if known and noise is not None else None
