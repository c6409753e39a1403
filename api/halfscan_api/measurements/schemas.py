"""Bodies of the measurements."""

from typing import Annotated, Self

from pydantic import Field, FiniteFloat, model_validator

from halfscan_api.measurements.geometry import MAX_POINTS, Coordinates, Kind, check_points
from halfscan_api.schemas import DicomUid, Input, Output
from halfscan_api.studies.protocol import Area, Key

Intensity = Annotated[FiniteFloat, Field(ge=-1e12, le=1e12)]
Deviation = Annotated[FiniteFloat, Field(ge=0, le=1e12)]


class NewMeasurement(Input):
    """Mean and SD in a region, as the viewer measured them; without both, it is taken back."""

    sequence: Key
    region: Key
    mean: Annotated[Intensity | None, Field(description="Mean of the pixel values.")] = None
    sd: Annotated[Deviation | None, Field(description="Their standard deviation.")] = None
    area_mm2: Area | None = None
    n_pixels: Annotated[int | None, Field(ge=1, le=100_000_000)] = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.mean is None) != (self.sd is None):
            raise ValueError("mean and sd belong together")
        return self


class MeasurementOut(Output):
    """A measurement, as its reader sees it."""

    sequence: str
    region: str
    mean: float
    sd: float
    area_mm2: float | None
    n_pixels: int | None
    snr: Annotated[
        float | None,
        Field(description="Mean over the SD of the noise region; null until both are there."),
    ]
    source: str


Coordinate = Annotated[FiniteFloat, Field(ge=-1e5, le=1e5)]


class GeometryIn(Input):
    """A region of interest, as in DICOM structured reports.

    In the image, a point is column and row in pixels, and (0, 0) the outer corner of the first
    pixel: its centre is (0.5, 0.5). In the patient, a point is x, y and z in mm.
    """

    kind: Annotated[
        Kind,
        Field(
            description="circle: centre, a point on the line. ellipse: both ends of one axis, then "
            "of the other. polygon: its corners; it closes itself."
        ),
    ]
    coordinates: Coordinates
    points: Annotated[
        list[Annotated[list[Coordinate], Field(min_length=2, max_length=3)]],
        Field(min_length=2, max_length=MAX_POINTS),
    ]

    @model_validator(mode="after")
    def _points_fit(self) -> Self:
        size = 2 if self.coordinates is Coordinates.IMAGE else 3
        if any(len(point) != size for point in self.points):
            raise ValueError(f"a point in the {self.coordinates.value} must have {size} numbers")
        check_points(self.kind, len(self.points))
        return self


class NewRegion(Input):
    """A region that the server measures."""

    sequence: Key
    region: Key
    sop_instance_uid: Annotated[
        DicomUid | None,
        Field(
            description="The image, under its blinded identifier; in patient coordinates the "
            "nearest image of the sequence by default."
        ),
    ] = None
    frame_number: Annotated[int, Field(ge=1, le=1, description="Images have one frame.")] = 1
    geometry: GeometryIn

    @model_validator(mode="after")
    def _image_is_known(self) -> Self:
        if self.sop_instance_uid is None and self.geometry.coordinates is Coordinates.IMAGE:
            raise ValueError("coordinates in the image need its sop_instance_uid")
        return self


class NewRegions(Input):
    """Regions to measure; one that was measured before is measured anew."""

    measurements: Annotated[list[NewRegion], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        keys = [(one.sequence, one.region) for one in self.measurements]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise ValueError(f"each region comes once, got twice: {' '.join(twice[0])}")
        return self


class MeasuredOut(Output):
    """What was measured; the ETag is the new version of the reading."""

    code: str
    missing: Annotated[int, Field(description="Answers that are required and not there.")]
    measurements: list[MeasurementOut]


class Transfer(Input):
    """Which readings to measure on the other arms."""

    readings: Annotated[
        list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]] | None,
        Field(min_length=1, max_length=1000, description="Codes; all complete ones by default."),
    ] = None


class NotTransferred(Output):
    """A region that could not be measured on another arm, and why."""

    reading: str
    arm: str
    sequence: str
    region: str
    reason: str


class NoiseRequest(Transfer):
    """Of which readings to measure the noise."""


class NoiseNotMeasured(NotTransferred):
    """A region whose noise could not be measured, and why."""

    method: Annotated[str, Field(description="difference or noise_map")]


class NoiseMeasured(Output):
    """What was measured on repeats and noise maps."""

    measured: int
    unchanged: Annotated[int, Field(description="Regions that were measured before.")]
    left_out: list[NoiseNotMeasured]


class Transferred(Output):
    """What a transfer did."""

    measured: int
    unchanged: Annotated[int, Field(description="Regions that were transferred before.")]
    left_out: list[NotTransferred]
