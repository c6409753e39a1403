"""Table of the measurements, one row a region."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Float, Index, Integer, String
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column

from halfscan_api.database import Base, Json, one_of
from halfscan_api.readings.tables import AnswerOfReading


class MeasurementSource(StrEnum):
    """Who measured.

    ``viewer``: mean and SD came from the viewer. ``geometry``: the server measured a geometry on
    the archived pixels. ``report``: a DICOM structured report (TID 1500) carried it.
    """

    VIEWER = "viewer"
    GEOMETRY = "geometry"
    REPORT = "report"


class Measurement(AnswerOfReading, Base):
    """Mean and SD of the signal in one region of one sequence.

    `arm` is the arm of the images. It is that of the reading, unless `transferred`: then the
    server measured the reading's geometry on the paired series of another arm.
    """

    __tablename__ = "measurement"
    __table_args__ = (
        Unique("reading_id", "sequence", "region", "arm"),
        CheckConstraint(one_of("source", MeasurementSource), name="source"),
        Index(None, "study_id", "region", "sequence", "reader_id", "arm", "case_id"),
    )

    sequence: Mapped[str] = mapped_column(String(64))
    region: Mapped[str] = mapped_column(String(64))
    transferred: Mapped[bool] = mapped_column(Boolean)
    mean: Mapped[float] = mapped_column(Float)
    sd: Mapped[float] = mapped_column(Float)
    area_mm2: Mapped[float | None] = mapped_column(Float)
    n_pixels: Mapped[int | None] = mapped_column(Integer)
    # Mean over the SD of the noise region of the same sequence; None until both are there, for
    # the noise region itself, and where that SD is 0.
    snr: Mapped[float | None] = mapped_column(Float)
    source: Mapped[str] = mapped_column(String(16))
    # As the server measured it: kind, coordinates, and the instance it lies on (archive UIDs).
    geometry: Mapped[dict[str, Any] | None] = mapped_column(Json)
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    frame_number: Mapped[int | None] = mapped_column(Integer)
    # SNR by other ways than the background, once the reading is complete: method -> SNR, signal,
    # noise, pixels, and the series that told the noise.
    noise: Mapped[dict[str, Any] | None] = mapped_column(Json)
