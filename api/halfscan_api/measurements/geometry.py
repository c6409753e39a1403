"""Regions of interest on an image: which pixels lie inside, and what they measure.

Two systems of coordinates, both those of DICOM structured reports:

- ``image``: column and row in pixels; (0, 0) is the outer corner of the first pixel, whose centre
  lies at (0.5, 0.5) (PS3.3 C.18.6.1.1).
- ``patient``: x, y, z [mm] in the frame of reference (PS3.3 C.18.9.1.1).

A pixel belongs to a region if its centre lies inside: for an ellipse on the line too, for a polygon
by the even-odd rule. Area is that of the region itself, not of its pixels. SD is that of a sample
(n - 1), so that a region needs two pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_api.blinded.source import Frame, SourceSeries
from halfscan_api.errors import HalfscanError

Points = npt.NDArray[np.float64]  # (point, 2) in the plane [mm], or (point, 3) in the patient [mm]
Mask = npt.NDArray[np.bool_]  # (row, column)

MIN_PIXELS = 2
# Points of a polygon at least, and at most.
MIN_POINTS, MAX_POINTS = 3, 1000
# How far the axes of an ellipse may miss a common middle, in the larger side of a pixel.
_AXES_TOLERANCE = 0.5
# How far a point may lie off the image, relative to the slice thickness.
_PLANE_TOLERANCE = 0.5
# How far the corners of two images on one grid may lie apart, relative to the size of a pixel.
_GRID_TOLERANCE = 0.05
_EPSILON = 1e-9


class Kind(StrEnum):
    """``circle``: centre, a point on the line. ``ellipse``: ends of one axis, then of the other."""

    CIRCLE = "circle"
    ELLIPSE = "ellipse"
    POLYGON = "polygon"


class Coordinates(StrEnum):
    """What the points are measured in."""

    IMAGE = "image"
    PATIENT = "patient"


class UnusableGeometry(HalfscanError):
    """The region cannot be measured on this image."""

    http_status = 422


@dataclass(frozen=True, slots=True)
class Geometry:
    """A region of interest.

    Attributes
    ----------
    kind : Kind
    coordinates : Coordinates
    points : sequence of sequence of float
        Two numbers a point in the image, three in the patient.
    """

    kind: Kind
    coordinates: Coordinates
    points: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class RegionValues:
    """What a region measures.

    Attributes
    ----------
    mean, sd : float
        Of the pixel values inside, as viewers show them.
    area_mm2 : float
        Area of the region [mm2].
    n_pixels : int
        Pixels whose centre lies inside.
    points_mm : list of list of float
        The region in patient coordinates [mm].
    """

    mean: float
    sd: float
    area_mm2: float
    n_pixels: int
    points_mm: list[list[float]]


def measure(geometry: Geometry, frame: Frame, values: npt.NDArray[np.float64]) -> RegionValues:
    """Measure a region on an image.

    Parameters
    ----------
    geometry : Geometry
    frame : Frame
        The image.
    values : ndarray, float64, shape (row, column)
        Its pixel values.

    Raises
    ------
    UnusableGeometry
        It is no region, does not lie on the image, or holds fewer than two pixel centres.
    """
    points = in_plane(geometry, frame)
    mask, area = _mask_of(geometry.kind, points, frame)
    inside = values[mask]
    return RegionValues(
        mean=float(inside.mean()),
        sd=float(inside.std(ddof=1)),
        area_mm2=area,
        n_pixels=int(inside.size),
        points_mm=[
            [round(value, 4) for value in one] for one in to_patient(points, frame).tolist()
        ],
    )


def pixels_inside(geometry: Geometry, frame: Frame) -> Mask:
    """Tell which pixels of an image lie inside a region.

    Returns
    -------
    ndarray of bool, shape (row, column)

    Raises
    ------
    UnusableGeometry
        As `measure` does.
    """
    mask, _ = _mask_of(geometry.kind, in_plane(geometry, frame), frame)
    return mask


def same_grid(one: Frame, other: Frame) -> bool:
    """Tell whether the pixels of two images lie at the same places of one frame of reference."""
    if not one.frame_of_reference_uid or (
        one.frame_of_reference_uid != other.frame_of_reference_uid
    ):
        return False
    if (one.rows, one.columns) != (other.rows, other.columns):
        return False
    corners = np.array([[0, 0], [one.columns, 0], [0, one.rows], [one.columns, one.rows]], float)
    places = [
        to_patient(corners * (frame.spacing_mm[1], frame.spacing_mm[0]), frame)
        for frame in (one, other)
    ]
    apart = np.linalg.norm(places[0] - places[1], axis=1)
    return bool(apart.max() <= _GRID_TOLERANCE * min(one.spacing_mm))


def check_points(kind: Kind, count: int) -> None:
    """Check how many points a region has.

    Raises
    ------
    ValueError
    """
    exact = {Kind.CIRCLE: 2, Kind.ELLIPSE: 4}.get(kind)
    if exact is not None and count != exact:
        raise ValueError(f"a region of kind {kind.value} must have {exact} points, got {count}")
    if exact is None and not MIN_POINTS <= count <= MAX_POINTS:
        raise ValueError(f"a polygon must have {MIN_POINTS} to {MAX_POINTS} points, got {count}")


def nearest_frame(points: Sequence[Sequence[float]], source: SourceSeries) -> Frame:
    """Find the image of a series that a region in patient coordinates lies on.

    Raises
    ------
    UnusableGeometry
        Each is farther away than half the distance of two slices.
    """
    centre = np.asarray(points, float).mean(axis=0)
    frame = min(source.frames, key=lambda one: _distance(centre, one))
    apart = source.spacing_between_mm or frame.thickness_mm or 0.0
    if _distance(centre, frame) > max(apart, frame.thickness_mm or 0.0) / 2 + _EPSILON:
        raise UnusableGeometry(
            f"the region must lie on a slice of the series, the nearest is "
            f"{_distance(centre, frame):.2f} mm away"
        )
    return frame


def in_plane(geometry: Geometry, frame: Frame) -> Points:
    """Give the points in the plane of an image [mm]: along its rows, along its columns.

    The origin is the outer corner of the first pixel.

    Raises
    ------
    UnusableGeometry
    """
    points = np.asarray(geometry.points, float)
    height, width = frame.spacing_mm
    if geometry.coordinates is Coordinates.IMAGE:
        return points * (width, height)
    offsets = points - frame.position
    thickness = frame.thickness_mm or 0.0
    away = float(np.abs(offsets @ frame.normal).max())
    allowed = max(_PLANE_TOLERANCE * thickness, 0.01)
    if away > allowed:
        raise UnusableGeometry(
            f"points must lie within {allowed:.2f} mm of the image, got {away:.2f} mm"
        )
    along = np.column_stack([offsets @ frame.row_direction, offsets @ frame.column_direction])
    # ImagePositionPatient is the centre of the first pixel.
    corner: Points = along + np.array([width / 2, height / 2])
    return corner


def to_patient(points: Points, frame: Frame) -> Points:
    """Give points in the plane of an image, as `in_plane` does, in the patient [mm]."""
    height, width = frame.spacing_mm
    along = points - np.array([width / 2, height / 2])
    found: Points = (
        frame.position + along[:, :1] * frame.row_direction + along[:, 1:] * frame.column_direction
    )
    return found


def as_json(values: RegionValues, kind: Kind, frame_of_reference_uid: str) -> Mapping[str, Any]:
    """Give a measured region as it is stored: in patient coordinates."""
    return {
        "kind": kind.value,
        "coordinates": Coordinates.PATIENT.value,
        "points": values.points_mm,
        "frame_of_reference_uid": frame_of_reference_uid,
    }


def _distance(point: Points, frame: Frame) -> float:
    return abs(float((point - frame.position) @ frame.normal))


def _mask_of(kind: Kind, points: Points, frame: Frame) -> tuple[Mask, float]:
    """Which pixel centres lie inside, at least two, and the area [mm2]."""
    mask, area = _inside(kind, points, frame)
    n_pixels = int(mask.sum())
    if n_pixels < MIN_PIXELS:
        height, width = frame.spacing_mm
        raise UnusableGeometry(
            f"a region must hold at least {MIN_PIXELS} pixel centres, got {n_pixels}: "
            f"its area is {area:.3g} mm2, that of a pixel {height * width:.3g} mm2"
        )
    return mask, area


def _inside(kind: Kind, points: Points, frame: Frame) -> tuple[Mask, float]:
    """Which pixel centres lie inside, and the area [mm2]."""
    height, width = frame.spacing_mm
    if kind is Kind.POLYGON:
        area = _polygon_area(points)
        low, high = points.min(axis=0), points.max(axis=0)
    else:
        centre, first, second = _axes(kind, points, tolerance=_AXES_TOLERANCE * max(height, width))
        area = math.pi * abs(float(np.linalg.det(np.array([first, second]))))
        reach = np.hypot(first, second)
        low, high = centre - reach, centre + reach
    size = np.array([frame.columns * width, frame.rows * height])
    if area <= _EPSILON:
        raise UnusableGeometry("the region must have an area, got a line or a point")
    if (low < -_EPSILON).any() or (high > size + _EPSILON).any():
        raise UnusableGeometry(
            f"the region must lie on the image, whose sides are {size[0]:.6g} x {size[1]:.6g} mm: "
            f"it reaches from ({low[0]:.6g}, {low[1]:.6g}) to ({high[0]:.6g}, {high[1]:.6g})"
        )
    x = (np.arange(frame.columns) + 0.5) * width
    y = (np.arange(frame.rows) + 0.5) * height
    grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    if kind is Kind.POLYGON:
        return _in_polygon(grid, points), area
    return _in_ellipse(grid - centre, first, second), area


def _axes(kind: Kind, points: Points, *, tolerance: float) -> tuple[Points, Points, Points]:
    """Centre and two half axes; any two conjugate half diameters span the same ellipse."""
    if kind is Kind.CIRCLE:
        centre, first = points[0], points[1] - points[0]
        return centre, first, np.array([-first[1], first[0]])
    middles = (points[0] + points[1]) / 2, (points[2] + points[3]) / 2
    apart = float(np.linalg.norm(middles[0] - middles[1]))
    if apart > tolerance:
        raise UnusableGeometry(
            f"the axes of an ellipse must cross in their middle, got middles {apart:.3g} mm apart"
        )
    return sum(middles) / 2, (points[1] - points[0]) / 2, (points[3] - points[2]) / 2


def _in_ellipse(offsets: Points, first: Points, second: Points) -> Mask:
    # offset = s * first + t * second, and inside is s^2 + t^2 <= 1.
    parts = offsets @ np.linalg.inv(np.array([first, second]))
    inside: Mask = (parts**2).sum(axis=-1) <= 1 + _EPSILON
    return inside


def _in_polygon(grid: Points, points: Points) -> Mask:
    """Even-odd rule: a ray to the right crosses the line an odd number of times."""
    x, y = grid[..., 0], grid[..., 1]
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        # Between 0 and 1, however short the side is.
        share = (y[crosses] - y0) / (y1 - y0)
        inside[crosses] ^= x[crosses] < x0 + share * (x1 - x0)
    return inside


def _polygon_area(points: Points) -> float:
    """Area by the shoelace formula [mm2]; a line that crosses itself has none."""
    if _crosses_itself(points):
        raise UnusableGeometry("the line of a polygon must not cross itself")
    x, y = (points - points[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _crosses_itself(points: Points) -> bool:
    """Tell whether two sides that are no neighbours cross."""
    count = len(points)
    ends = np.roll(points, -1, axis=0)

    def side(a: Points, b: Points, c: Points) -> Points:
        ab, ac = b - a, c - a
        turn: Points = np.sign(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0])
        return turn

    for index in range(count - 2):
        others = slice(index + 2, count - 1 if index == 0 else count)
        a, b, c, d = points[index], ends[index], points[others], ends[others]
        first = side(a, b, c) * side(a, b, d) < 0
        if (first & (side(c, d, a) * side(c, d, b) < 0)).any():
            return True
    return False
