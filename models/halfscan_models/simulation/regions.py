"""The regions of interest of the reference study, placed by the anatomy.

Names and mean areas are those of Tang et al. 2024 (doi:10.1186/s41747-024-00470-0), methods: on
sagittal images the five bodies, the five discs, psoas, fluid and fat; on transverse images both
roots, both psoas, the disc L3/4, fluid and fat. `background` lies in the air behind the back.
"""

from collections.abc import Iterator, Mapping
from math import cos, pi, sin, sqrt

import numpy as np

from halfscan_models.simulation.anatomy import SIDES, Anatomy
from halfscan_models.simulation.arrays import Point
from halfscan_models.simulation.geometry import Region, SliceStack
from halfscan_models.simulation.pathology import LEVELS
from halfscan_models.simulation.protocol import Plane

__all__ = ["place_regions"]

_X: Point = (1.0, 0.0, 0.0)
_Y: Point = (0.0, 1.0, 0.0)
_Z: Point = (0.0, 0.0, 1.0)


def _half_axes(area_mm2: float, ratio: float) -> tuple[float, float]:
    """Half axes of an ellipse of the given area; `ratio` is first over second."""
    second = sqrt(area_mm2 / pi / ratio)
    return ratio * second, second


def _tilted(tilt: float) -> tuple[Point, Point]:
    """Axes u (to the back) and w (upwards) of a frame that leans by `tilt` radians."""
    return (0.0, cos(tilt), -sin(tilt)), (0.0, sin(tilt), cos(tilt))


def _sagittal(anatomy: Anatomy, stack: SliceStack) -> Iterator[Region]:
    for name, vertebra in anatomy.vertebrae.items():
        if name.startswith("L"):
            axes = _tilted(vertebra.frame.tilt)
            centre = vertebra.frame.point(0, -2.5, 0)
            halves = _half_axes(204.9, 1.15)
            yield Region(f"vertebra_{name}", "sagittal", centre, halves, *axes)
    for level in LEVELS:
        disc = anatomy.discs[level]
        name = f"disc_{level.replace('/', '_')}"
        centre = disc.frame.point(0, 0.5, 0)
        axes = _tilted(disc.frame.tilt)
        yield Region(name, "sagittal", centre, _half_axes(24.7, 3.2), *axes)
    height = anatomy.vertebrae["L4"].frame.z0
    x, y = anatomy.psoas["left"].centre(height)
    half = anatomy.psoas["left"].half_axes(height)[0]
    # Where the stack ends early, its outermost slice still cuts the muscle's inner part.
    inner = max(min(x - 0.6 * half, stack.first_mm[0]), x - 0.85 * half)
    yield Region("psoas", "sagittal", (inner, y, height), _half_axes(184.8, 0.55), _Y, _Z)
    height = anatomy.vertebrae["L3"].frame.z0
    _, y = anatomy.sac.centre(height)
    deep = anatomy.sac.half_axes(height)[1]
    lean = np.arctan2(anatomy.sac.centre(height + 5)[1] - anatomy.sac.centre(height - 5)[1], 10)
    centre = (0.0, y - 0.42 * deep, height)
    yield Region("csf", "sagittal", centre, _half_axes(25.0, 0.3), *_tilted(float(lean)))
    height = anatomy.vertebrae["L4"].frame.z0 - 5
    yield Region("fat", "sagittal", _fat(anatomy, height), _half_axes(29.8, 0.4), _Y, _Z)
    air = (0.0, _skin_back(anatomy, 30.0) + 14.0, 30.0)
    yield Region("background", "sagittal", air, _half_axes(300.0, 0.35), _Y, _Z)


def _skin_back(anatomy: Anatomy, z_mm: float) -> float:
    """Back of the skin in the midline at one height [mm]."""
    return anatomy.skin.centre(z_mm)[1] + anatomy.skin.half_axes(z_mm)[1]


def _fat(anatomy: Anatomy, z_mm: float) -> Point:
    """Middle of the subcutaneous fat behind the spine at one height."""
    wall = anatomy.body_wall
    inner = wall.centre(z_mm)[1] + wall.half_axes(z_mm)[1]
    return (0.0, (inner + _skin_back(anatomy, z_mm) - 2.0) / 2, z_mm)


def _transverse(anatomy: Anatomy, stack: SliceStack) -> Iterator[Region]:
    disc = anatomy.discs["L3/L4"]
    level = disc.frame.z0
    centre = disc.frame.point(0, 0, 0)
    yield Region("disc_L3_L4", "transverse", centre, _half_axes(325.3, 1.6), _X, _Y)
    for side in SIDES:
        x, y = anatomy.psoas[side].centre(level)
        place = (x, y, level)
        yield Region(f"psoas_{side}", "transverse", place, _half_axes(70.2, 1.0), _X, _Y)
        # The root runs obliquely: it is found where the slice nearest its ganglion cuts it.
        path = sorted(anatomy.root_path("L3/L4", side), key=lambda node: node[0][2])
        ganglion = anatomy.root_path("L3/L4", side)[2][0]
        slice_ = stack.nearest_slice(ganglion)
        height = stack.to_patient(slice_, 0, 0)[2] if slice_ is not None else ganglion[2]
        heights = [node[0][2] for node in path]
        x, y = (float(np.interp(height, heights, [n[0][i] for n in path])) for i in (0, 1))
        place = (x, y, height)
        yield Region(f"nerve_root_{side}", "transverse", place, _half_axes(1.1, 1.0), _X, _Y)
    height = anatomy.vertebrae["L4"].frame.z0
    _, y = anatomy.sac.centre(height)
    deep = anatomy.sac.half_axes(height)[1]
    place = (0.0, y - 0.45 * deep, height)
    yield Region("csf", "transverse", place, _half_axes(9.2, 1.6), _X, _Y)
    yield Region("fat", "transverse", _fat(anatomy, height), _half_axes(25.2, 2.5), _X, _Y)


def place_regions(anatomy: Anatomy, stacks: Mapping[Plane, SliceStack]) -> tuple[Region, ...]:
    """Place all regions whose slice is part of the stacks; each is moved into its slice."""
    wanted: list[Region] = []
    if "sagittal" in stacks:
        wanted.extend(_sagittal(anatomy, stacks["sagittal"]))
    if "transverse" in stacks:
        wanted.extend(_transverse(anatomy, stacks["transverse"]))
    placed: list[Region] = []
    for region in wanted:
        stack = stacks[region.plane]
        slice_ = stack.nearest_slice(region.centre_mm)
        if slice_ is not None:
            _, row, column = stack.to_index(region.centre_mm)
            centre = stack.to_patient(slice_, row, column)
            axes = region.half_axes_mm, region.first_axis, region.second_axis
            placed.append(Region(region.name, region.plane, centre, *axes))
    return tuple(placed)
