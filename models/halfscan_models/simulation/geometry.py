"""Where the voxels of a series lie: stacks of slices in patient coordinates (DICOM PS3.3 C.7.6.2).

A plane's own axes are (slice, readout, phase). Sagittal: readout head to feet, phase front to
back, slices left to right. Transverse: readout right to left, phase front to back, slices feet
to head. Rows and columns of the image follow: sagittal rows run along the readout, transverse
rows along the phase direction.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.simulation.arrays import BoolArray, Point
from halfscan_models.simulation.protocol import Plane

__all__ = ["Region", "SliceStack"]

Vector = npt.NDArray[np.float64]

# Plane: direction of growing column index, of growing row index, of growing slice index.
_DIRECTIONS: dict[Plane, tuple[Point, Point, Point]] = {
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
    "transverse": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


@dataclass(frozen=True, slots=True)
class SliceStack:
    """Geometry of one series.

    Attributes
    ----------
    plane : Plane
        Sagittal or transverse.
    shape : tuple of int
        Slices, rows, columns.
    first_mm : Point
        Centre of the first voxel of the first slice, patient coordinates [mm].
    pixel_mm : float
        Distance between pixel centres, the same along rows and columns [mm].
    thickness_mm, spacing_mm : float
        Slice thickness; distance between slice centres [mm].
    """

    plane: Plane
    shape: tuple[int, int, int]
    first_mm: Point
    pixel_mm: float
    thickness_mm: float
    spacing_mm: float

    @property
    def row_direction(self) -> Point:
        """Unit vector along a row (growing column index)."""
        return _DIRECTIONS[self.plane][0]

    @property
    def column_direction(self) -> Point:
        """Unit vector along a column (growing row index)."""
        return _DIRECTIONS[self.plane][1]

    @property
    def normal(self) -> Point:
        """Unit vector of growing slice index: the cross product of the other two."""
        return _DIRECTIONS[self.plane][2]

    def _matrix(self) -> Vector:
        columns = (
            np.multiply(self.normal, self.spacing_mm),
            np.multiply(self.column_direction, self.pixel_mm),
            np.multiply(self.row_direction, self.pixel_mm),
        )
        return np.stack(columns, axis=1)

    def to_patient(self, slice_: float, row: float, column: float) -> Point:
        """Patient coordinates [mm] of a voxel position."""
        x, y, z = np.add(self.first_mm, self._matrix() @ (slice_, row, column))
        return float(x), float(y), float(z)

    def to_index(self, point: Point) -> Point:
        """Position (slice, row, column), not rounded, of a point in patient coordinates [mm]."""
        s, r, c = np.linalg.solve(self._matrix(), np.subtract(point, self.first_mm))
        return float(s), float(r), float(c)

    def nearest_slice(self, point: Point) -> int | None:
        """Slice whose slab or gap holds a point [mm]; None beyond the stack."""
        index = self.to_index(point)[0]
        nearest = round(index)
        inside = abs(index - nearest) <= 0.5 and 0 <= nearest < self.shape[0]
        return nearest if inside else None


@dataclass(frozen=True, slots=True)
class Region:
    """An elliptical region of interest in one slice, in patient coordinates.

    Attributes
    ----------
    name : str
        For example ``vertebra_L1``, ``disc_L3_L4``, ``psoas``, ``csf``, ``fat``, ``background``.
    plane : Plane
        Plane of the series that it is for.
    centre_mm : Point
        Centre, in the middle of the slice [mm].
    half_axes_mm : tuple of float
        Half axes along `first_axis` and `second_axis` [mm].
    first_axis, second_axis : Point
        Unit vectors in the slice's plane.
    """

    name: str
    plane: Plane
    centre_mm: Point
    half_axes_mm: tuple[float, float]
    first_axis: Point
    second_axis: Point

    @property
    def area_mm2(self) -> float:
        """Area of the ellipse [mm^2]."""
        return float(np.pi * self.half_axes_mm[0] * self.half_axes_mm[1])

    def mask(self, stack: SliceStack) -> BoolArray:
        """Voxels (slice, row, column) whose centre lies in the ellipse, in its nearest slice."""
        inside: BoolArray = np.zeros(stack.shape, np.bool_)
        slice_ = stack.nearest_slice(self.centre_mm)
        if stack.plane != self.plane or slice_ is None:
            return inside
        rows, columns = np.mgrid[: stack.shape[1], : stack.shape[2]] * stack.pixel_mm
        origin = np.subtract(stack.to_patient(slice_, 0, 0), self.centre_mm)
        total = np.zeros(stack.shape[1:])
        axes = (self.first_axis, self.second_axis)
        for axis, half in zip(axes, self.half_axes_mm, strict=True):
            along = (
                np.dot(origin, axis)
                + rows * np.dot(stack.column_direction, axis)
                + columns * np.dot(stack.row_direction, axis)
            )
            total += np.square(along / half)
        inside[slice_] = total <= 1
        return inside
