"""Solid shapes in patient coordinates, evaluated on open meshes.

Every shape answers for points given as three arrays x, y, z [mm] that broadcast against each
other. Handed the axes of a slice as an open mesh, the terms of one coordinate are computed on
one axis only, which makes the phantom fast enough to be sampled anew for every slice.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import cos, sin
from typing import Protocol

import numpy as np

from halfscan_models.simulation.arrays import BoolArray, FloatArray, Point

__all__ = ["Block", "Body", "Both", "Box", "Capsule", "Disc", "Frame", "Shape", "Tube"]

Box = tuple[Point, Point]  # lowest and highest corner [mm]


class Shape(Protocol):
    """A solid: a box that holds it, and the test whether a point lies inside."""

    @property
    def box(self) -> Box:
        """Corners of an axis-parallel box that holds the shape [mm]."""

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """Whether each point lies inside; the inputs broadcast [mm]."""


@dataclass(frozen=True)
class Frame:
    """Local coordinates of a vertebra or disc: x, u (to its back), w (to its upper side).

    The frame is turned about the left-right axis by `tilt` [rad]; positive leans the upper side
    backwards.
    """

    x0: float
    y0: float
    z0: float
    tilt: float = 0.0

    def local(
        self, x: FloatArray, y: FloatArray, z: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Patient to local coordinates [mm]."""
        c, s = np.float32(cos(self.tilt)), np.float32(sin(self.tilt))
        dy, dz = y - np.float32(self.y0), z - np.float32(self.z0)
        return x - np.float32(self.x0), dy * c - dz * s, dy * s + dz * c

    def point(self, x: float, u: float, w: float) -> Point:
        """Local to patient coordinates [mm]."""
        c, s = cos(self.tilt), sin(self.tilt)
        return (self.x0 + x, self.y0 + u * c + w * s, self.z0 - u * s + w * c)

    def at(self, x: float, u: float, w: float, lean: float = 0.0) -> "Frame":
        """A frame at a local point, leaning `lean` radians more."""
        return Frame(*self.point(x, u, w), self.tilt + lean)

    def box(self, half_x: float, half_u: float, half_w: float) -> Box:
        """Box around a block of these half lengths about the origin."""
        c, s = abs(cos(self.tilt)), abs(sin(self.tilt))
        hy, hz = half_u * c + half_w * s, half_u * s + half_w * c
        return (
            (self.x0 - half_x, self.y0 - hy, self.z0 - hz),
            (self.x0 + half_x, self.y0 + hy, self.z0 + hz),
        )


def _cubed(value: FloatArray) -> FloatArray:
    magnitude: FloatArray = np.abs(value)
    return magnitude * magnitude * magnitude


def _kidney(x: FloatArray, u: FloatArray, half_x: float, half_u: float, back: float) -> FloatArray:
    """Cross-section of a body or disc, below 1 inside: round in front, hollow behind.

    `half_u` is its depth to the front, `back` to the back [mm].
    """
    across, front = x / np.float32(half_x), np.minimum(u / np.float32(half_u), 0)
    hollow = np.float32(0.06) * np.maximum(1 - np.square(across / np.float32(0.7)), 0)
    behind = np.maximum(u / np.float32(back) + np.where(u > 0, hollow, np.float32(0)), 0)
    narrow = 1 + np.float32(0.16) * np.square(front)
    return _cubed(across * narrow) + (_cubed(front) + _cubed(behind))


@dataclass(frozen=True)
class Block:
    """Ellipsoid, or with ``squared`` a box with well rounded edges (exponent 4)."""

    frame: Frame
    half_x: float
    half_u: float
    half_w: float
    squared: bool = False

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        return self.frame.box(self.half_x, self.half_u, self.half_w)

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        local = self.frame.local(x, y, z)
        halves = (self.half_x, self.half_u, self.half_w)
        a, b, c = (np.square(v / np.float32(h)) for v, h in zip(local, halves, strict=True))
        if self.squared:
            a, b, c = np.square(a), np.square(b), np.square(c)
        inside: BoolArray = a + (b + c) < 1
        return inside

    def grown(self, by_mm: float) -> "Block":
        """The same block with every half length longer by `by_mm`."""
        halves = (max(h + by_mm, 0.1) for h in (self.half_x, self.half_u, self.half_w))
        half_x, half_u, half_w = halves
        return replace(self, half_x=half_x, half_u=half_u, half_w=half_w)


@dataclass(frozen=True)
class Capsule:
    """Rod between two points, its radius changing from `r0` to `r1` [mm]."""

    p0: Point
    p1: Point
    r0: float
    r1: float

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        r = max(self.r0, self.r1)
        low = tuple(min(a, b) - r for a, b in zip(self.p0, self.p1, strict=True))
        high = tuple(max(a, b) + r for a, b in zip(self.p0, self.p1, strict=True))
        return ((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        start = np.asarray(self.p0, np.float32)
        along = np.asarray(self.p1, np.float32) - start
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        t = (dx * along[0] + (dy * along[1] + dz * along[2])) / np.float32(along @ along)
        t = np.clip(t, 0, 1)
        radius = np.float32(self.r0) + np.float32(self.r1 - self.r0) * t
        squared = (
            np.square(dx - t * along[0])
            + np.square(dy - t * along[1])
            + np.square(dz - t * along[2])
        )
        inside: BoolArray = squared < np.square(radius)
        return inside

    def grown(self, by_mm: float) -> "Capsule":
        """The same rod, thicker by `by_mm`."""
        return replace(self, r0=max(self.r0 + by_mm, 0.1), r1=max(self.r1 + by_mm, 0.1))


@dataclass(frozen=True)
class Tube:
    """A stack of ellipses in the transverse plane: centre and half axes by height.

    All arrays are float32 of one length, `z` ascending [mm]; between the knots the values are
    interpolated linearly, outside there is nothing.
    """

    z: FloatArray
    x_centre: FloatArray
    y_centre: FloatArray
    half_x: FloatArray
    half_y: FloatArray

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        return (
            (
                float((self.x_centre - self.half_x).min()),
                float((self.y_centre - self.half_y).min()),
                float(self.z[0]),
            ),
            (
                float((self.x_centre + self.half_x).max()),
                float((self.y_centre + self.half_y).max()),
                float(self.z[-1]),
            ),
        )

    def _at(self, z: FloatArray, values: FloatArray) -> FloatArray:
        return np.interp(z, self.z, values).astype(np.float32)

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        half_x, half_y = self._at(z, self.half_x), self._at(z, self.half_y)
        there = (z >= self.z[0]) & (z <= self.z[-1]) & (half_x > 0) & (half_y > 0)
        half_x, half_y = np.where(there, half_x, 1), np.where(there, half_y, 1)
        a = np.square((x - self._at(z, self.x_centre)) / half_x)
        b = np.square((y - self._at(z, self.y_centre)) / half_y)
        b = np.where(there, b, np.float32(2))
        inside: BoolArray = a + b < 1
        return inside

    def centre(self, z_mm: float) -> tuple[float, float]:
        """Centre (x, y) at one height [mm]."""
        return (
            float(np.interp(z_mm, self.z, self.x_centre)),
            float(np.interp(z_mm, self.z, self.y_centre)),
        )

    def half_axes(self, z_mm: float) -> tuple[float, float]:
        """Half axes along x and y at one height [mm]."""
        return (
            float(np.interp(z_mm, self.z, self.half_x)),
            float(np.interp(z_mm, self.z, self.half_y)),
        )

    def grown(self, by_mm: float) -> "Tube":
        """The same tube with both half axes longer by `by_mm`."""
        by = np.float32(by_mm)
        return replace(
            self,
            half_x=np.maximum(self.half_x + by, np.float32(0)),
            half_y=np.maximum(self.half_y + by, np.float32(0)),
        )


@dataclass(frozen=True)
class Body:
    """Vertebral body: rounded cross-section, waist, concave endplates.

    `upper` and `lower` are the heights of the two rims above and below the frame's origin, and
    the waist ends `waist` above and below it [mm]: a rim may move without the rest.
    """

    frame: Frame
    half_x: float
    half_u: float
    upper: float
    lower: float
    waist: float
    concavity: float = 1.8

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        return self.frame.box(self.half_x, self.half_u, max(self.upper, self.lower))

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        x, u, w = self.frame.local(x, y, z)
        relative = np.minimum(np.square(w / np.float32(self.waist)), 1)
        limit = _cubed(1 - np.float32(0.07) * (1 - relative))
        section = _kidney(x, u, self.half_x, self.half_u, self.half_u)
        # room to the rim > concavity (1 - section), solved for the section
        room = np.minimum(np.float32(self.upper) - w, np.float32(self.lower) + w)
        limit = np.where(room > 0, limit, np.float32(0))
        dip = 1 - room / np.float32(self.concavity)
        inside: BoolArray = (section < limit) & (section > dip)
        return inside

    def grown(self, by_mm: float) -> "Body":
        """The same body, larger on all sides by `by_mm`."""
        return replace(
            self,
            half_x=self.half_x + by_mm,
            half_u=self.half_u + by_mm,
            upper=self.upper + by_mm,
            lower=self.lower + by_mm,
        )


@dataclass(frozen=True)
class Disc:
    """Intervertebral disc: a wedge, thicker in its middle, that may bulge backwards.

    Half thickness at u is ``half_w - slope * u``, plus `lens` in the centre [mm]; `bulge` moves
    the back and half as much the sides outwards.
    """

    frame: Frame
    half_x: float
    half_u: float
    half_w: float
    slope: float
    lens: float = 2.5
    bulge: float = 0.0

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        half_u = self.half_u + self.bulge
        half_w = self.half_w + abs(self.slope) * half_u + self.lens
        return self.frame.box(self.half_x + self.bulge / 2, half_u, half_w)

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        x, u, w = self.frame.local(x, y, z)
        wide, back = self.half_x + self.bulge / 2, self.half_u + self.bulge
        section = _kidney(x, u, wide, self.half_u, back)
        # |w| < half_w - slope u + lens (1 - section), solved for the section
        room = np.float32(self.half_w) - np.float32(self.slope) * u - np.abs(w)
        inside: BoolArray = (section < 1) & (section < 1 + room / np.float32(self.lens))
        return inside


@dataclass(frozen=True)
class Both:
    """What lies in two shapes at once."""

    first: Shape
    second: Shape

    @cached_property
    def box(self) -> Box:
        """See `Shape`."""
        (a0, a1), (b0, b1) = self.first.box, self.second.box
        low = tuple(max(a, b) for a, b in zip(a0, b0, strict=True))
        high = tuple(min(a, b) for a, b in zip(a1, b1, strict=True))
        return ((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def contains(self, x: FloatArray, y: FloatArray, z: FloatArray) -> BoolArray:
        """See `Shape`."""
        inside: BoolArray = self.first.contains(x, y, z) & self.second.contains(x, y, z)
        return inside
