"""Regions that the server measures on the archived pixels, for an open reading."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from halfscan_api.blinded.service import Image, ImagesNotFound, Viewing
from halfscan_api.blinded.source import Frame, SourceSeries
from halfscan_api.errors import HalfscanError, InvalidRequest
from halfscan_api.measurements.geometry import (
    Geometry,
    RegionValues,
    UnusableGeometry,
    as_json,
    measure,
    nearest_frame,
)
from halfscan_api.measurements.schemas import NewRegion
from halfscan_api.measurements.service import Measured, RegionMeasured
from halfscan_api.measurements.tables import MeasurementSource

Values = npt.NDArray[np.float64]


class RecentImages:
    """The images that were read last: one that several regions lie on is read once.

    Parameters
    ----------
    read : callable
        Gives the pixels of a frame of a series; shape (rows, columns).
    size : int
        How many are kept: a study's images are far more than fit into memory.
    """

    def __init__(self, read: Callable[[SourceSeries, Frame], Values], size: int = 16) -> None:
        self._read, self._size = read, size
        self._values: OrderedDict[tuple[str, str], Values] = OrderedDict()

    def get(self, source: SourceSeries, frame: Frame) -> Values:
        """Give the pixels of an image.

        Raises
        ------
        ImagesMissing, ArchiveUnavailable
        """
        # A SOPInstanceUID alone may stand under two patients.
        key = (source.series.orthanc_id, frame.key)
        if key not in self._values:
            self._values[key] = self._read(source, frame)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


class Ruler:
    """Measures regions on images as a viewer shows them."""

    def __init__(self) -> None:
        self._images = RecentImages(SourceSeries.shown)

    def measure(self, geometry: Geometry, source: SourceSeries, frame: Frame) -> RegionValues:
        """Measure a region on an image of a series.

        Raises
        ------
        UnusableGeometry, ImagesMissing, ArchiveUnavailable
        """
        return measure(geometry, frame, self._images.get(source, frame))


def measured(
    values: RegionValues,
    geometry: Geometry,
    frame: Frame,
    source: MeasurementSource = MeasurementSource.GEOMETRY,
) -> Measured:
    """Give what a region measured as it is stored."""
    return Measured(
        mean=values.mean,
        sd=values.sd,
        area_mm2=values.area_mm2,
        n_pixels=values.n_pixels,
        source=source,
        geometry=as_json(values, geometry.kind, frame.frame_of_reference_uid),
        sop_instance_uid=frame.sop_instance_uid,
        frame_number=frame.number,
    )


def measure_all(view: Viewing, regions: Sequence[NewRegion]) -> list[RegionMeasured]:
    """Measure regions on the images of a reading: all of them, or none.

    Raises
    ------
    InvalidRequest
        Names each region that cannot be measured, and why.
    """
    ruler, found, errors = Ruler(), [], []
    for index, region in enumerate(regions):
        try:
            found.append(_measure_one(view, region, ruler))
        except (UnusableGeometry, _Unknown) as error:
            errors.append(_error(index, error))
    if errors:
        raise InvalidRequest(errors)
    return found


class _Unknown(HalfscanError):
    """A field names what is not there."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


def _measure_one(view: Viewing, region: NewRegion, ruler: Ruler) -> RegionMeasured:
    image = find_image(view, region)
    geometry = Geometry(region.geometry.kind, region.geometry.coordinates, region.geometry.points)
    values = ruler.measure(geometry, image.source, image.frame)
    return RegionMeasured(region.sequence, region.region, measured(values, geometry, image.frame))


def find_image(view: Viewing, region: NewRegion) -> Image:
    """Find the image of a reading that a region lies on."""
    series = next((one for one in view.all_series if one.sequence == region.sequence), None)
    if series is None:
        known = ", ".join(one.sequence for one in view.all_series)
        raise _Unknown("sequence", f"must be one of {known}, got {region.sequence!r}")
    try:
        images = view.images(series.series_instance_uid, region.sop_instance_uid)
    except ImagesNotFound:
        detail = f"must be an image of the sequence {region.sequence} of this reading"
        raise _Unknown("sop_instance_uid", detail) from None
    if region.sop_instance_uid is not None:
        return images[0]
    frame = nearest_frame(region.geometry.points, images[0].source)
    return next(image for image in images if image.frame is frame)


def _error(index: int, error: Exception) -> Mapping[str, str]:
    field = error.field if isinstance(error, _Unknown) else "geometry"
    return {"in": "body", "field": f"measurements.{index}.{field}", "detail": str(error)}
