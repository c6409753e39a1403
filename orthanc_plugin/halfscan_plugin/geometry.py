"""Headers of a series to its slices, and the volumes that they form.

No pixels are needed: what is said here can be known before anything is decoded. The network works
on single images, so a volume decides the order of the slices, what is written about them, and
whether the series is whole; no value is ever interpolated between slices.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from pydicom import Dataset

from halfscan_plugin.concatenation import (
    check_concatenations,
    concatenation,
    concatenation_number,
)
from halfscan_plugin.enhanced import enhanced_slices, is_enhanced
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.gaps import in_order, normal_of
from halfscan_plugin.headers import integer, numbers, text
from halfscan_plugin.labels import separate
from halfscan_plugin.mosaic import is_mosaic, mosaic_slices
from halfscan_plugin.slices import Orientation, Slice, Stack, classic_slices
from halfscan_plugin.stations import beside_each_other, overlapping
from halfscan_plugin.stopped import stopped_object

__all__ = ["Slice", "Stack", "sort_slices", "split"]

SAME_ORIENTATION = 0.01  # direction cosines; scanners write one orientation with some jitter
# Slabs along the discs of a spine are tilted against each other; localizers are orthogonal.
MOST_TILT_DEG = 50.0
FEWEST_FAN = 4
LARGEST_FAN_STEP_DEG = 45.0
FLAT = 0.05  # distance of a fan's normals from one plane


def split(headers: Sequence[Dataset]) -> tuple[Stack, ...]:
    """Find the volumes of a series.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of all its objects, in any order.

    Returns
    -------
    tuple of Stack
        Whole volumes, each image in one at most; `Slice.source` is the index into `headers`. What
        is left out stands in the warnings.

    Raises
    ------
    UnreadableSeries
        If the headers do not say which images form a volume (``ambiguous_geometry``), if slices
        are missing (``missing_slices``), if the planes are those of a localizer
        (``mixed_orientation``), if a part of a concatenation is missing
        (``incomplete_concatenation``), if an object cannot be taken apart into images
        (``multi_frame``, ``frame_count``, ``mosaic``), holds other images than magnitudes
        (``not_magnitude``, ``mixed_frames``), or breaks a rule of geometry (``bad_geometry``).
    """
    if not headers:
        raise UnreadableSeries("no_pixels", "the series holds no objects")
    names = [text(header, "SOPInstanceUID") for header in headers]
    check_concatenations(headers)
    # In the order in which they were numbered: what follows keeps it where nothing else decides.
    order = sorted(
        range(len(headers)),
        key=lambda i: (
            integer(headers[i], "InstanceNumber") or 0,
            concatenation_number(headers[i]),
            names[i],
        ),
    )
    slices = [place for index in order for place in _slices(headers[index], index)]
    _check_all_or_none(slices, names)
    # The parts of a concatenation are one object.
    groups = _groups(slices, [concatenation(header) or str(i) for i, header in enumerate(headers)])
    if _is_fan(groups):
        return (_fan(groups),)
    _check_planes(groups, names)
    left_out = stopped_object([group.slices for group in groups], names)
    if left_out is None:
        return tuple(stack for group in groups for stack in _stacks(group, names))
    return tuple(
        replace(stack, warnings=(left_out, *stack.warnings))
        for group in groups[:-1]
        for stack in _stacks(group, names)
    )


def sort_slices(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Order objects along their normal, then by InstanceNumber and SOPInstanceUID."""

    def key(dataset: Dataset) -> tuple[float, int, str]:
        orientation = numbers(dataset, "ImageOrientationPatient")
        position = numbers(dataset, "ImagePositionPatient")
        along = 0.0
        if len(orientation) == 6 and len(position) == 3:
            normal = np.cross(orientation[:3], orientation[3:])
            along = round(float(normal @ np.asarray(position)), 3)
        return along, integer(dataset, "InstanceNumber") or 0, text(dataset, "SOPInstanceUID")

    return sorted(datasets, key=key)


@dataclass(frozen=True, slots=True)
class _Group:
    """Slices of one orientation, and all numbers that those beside them have."""

    slices: list[Slice]
    numbers: set[int]

    @property
    def known(self) -> bool:
        return any(keyword == "StackID" for keyword, _ in self.slices[0].labels)


def _stacks(group: _Group, names: Sequence[str]) -> list[Stack]:
    """Find the volumes of one orientation."""
    stations = beside_each_other(group.slices)
    stacks: list[Stack] = []
    for number, station in enumerate(stations, 1):
        label = (("station", str(number)),) if len(stations) > 1 else ()
        parts, warnings = separate(station, group.numbers, names)
        for part in parts:
            for piece in overlapping(part, group.numbers):
                members = [item.image for item in piece.images]
                ordered = in_order(members, (*label, *piece.labels), group.numbers, names)
                stacks += [
                    replace(stack, warnings=(*warnings, *stack.warnings)) for stack in ordered
                ]
    return stacks


def _slices(header: Dataset, source: int) -> list[Slice]:
    if is_enhanced(header):
        return enhanced_slices(header, source)
    return mosaic_slices(header, source) if is_mosaic(header) else classic_slices(header, source)


def _check_all_or_none(slices: Sequence[Slice], names: Sequence[str]) -> None:
    for keyword, values in (
        ("ImagePositionPatient", [place.position for place in slices]),
        ("ImageOrientationPatient", [place.orientation for place in slices]),
    ):
        without = [place for place, value in zip(slices, values, strict=True) if value is None]
        if without and len(without) < len(slices):
            raise UnreadableSeries(
                "bad_geometry",
                f"instance {names[without[0].source]} has no {keyword}, "
                f"{len(slices) - len(without)} of {len(slices)} images have one",
            )


def _groups(slices: Sequence[Slice], objects: Sequence[str]) -> list[_Group]:
    """Separate what never forms one volume: objects with several slices, stacks, orientations.

    Objects that hold one slice at several times, as those of a beating heart do, form volumes
    together, as objects of a single image do.
    """
    images = Counter(objects[place.source] for place in slices)
    places: dict[str, set[object]] = {}
    for place in slices:
        where = place.position or ("number", place.number)
        places.setdefault(objects[place.source], set()).add(where)
    apart: dict[tuple[str, str], list[Slice]] = {}
    for place in slices:
        name, stack = objects[place.source], dict(place.labels).get("StackID", "")
        alone = ("", stack if images[name] == 1 else "")
        apart.setdefault((name, stack) if len(places[name]) > 1 else alone, []).append(place)
    return [
        _Group(group, {place.number for place in members if place.number is not None})
        for members in apart.values()
        for group in _oriented(members)
    ]


def _oriented(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[tuple[Orientation | None, list[Slice]]] = []
    known: dict[Orientation | None, list[Slice]] = {}
    for place in slices:
        if place.orientation not in known:
            near = next((group for first, group in groups if _same(first, place.orientation)), None)
            if near is None:
                near = []
                groups.append((place.orientation, near))
            known[place.orientation] = near
        known[place.orientation].append(place)
    return [group for _, group in groups]


def _same(one: Orientation | None, other: Orientation | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= SAME_ORIENTATION for a, b in zip(one, other, strict=True))


def _tilt_deg(one: Orientation, other: Orientation) -> float:
    """Give the angle between two planes, whichever way their normals point."""
    cosine = abs(float(normal_of(one) @ normal_of(other)))
    return math.degrees(math.acos(min(cosine, 1.0)))


def _check_planes(groups: Sequence[_Group], names: Sequence[str]) -> None:
    """Let pass one plane, and slabs that are tilted against each other; refuse a localizer."""
    for one, other in combinations(_distinct(groups), 2):
        a, b = one.slices[0], other.slices[0]
        if a.orientation is None or b.orientation is None:
            continue
        tilt = _tilt_deg(a.orientation, b.orientation)
        why = None
        if tilt > MOST_TILT_DEG:
            why = f"slabs may be by {MOST_TILT_DEG:g}"
        elif any(len(group.slices) < 2 and not group.known for group in (one, other)):
            why = "and one of them is a single image"
        if why is not None:
            raise UnreadableSeries(
                "mixed_orientation",
                f"instances {names[a.source]} and {names[b.source]} are tilted by {tilt:.0f} "
                f"degrees against each other, {why}: a localizer",
            )


def _distinct(groups: Sequence[_Group]) -> list[_Group]:
    """Give one group for each orientation, the one with the most slices."""
    found: list[_Group] = []
    for group in sorted(groups, key=lambda g: -len(g.slices)):
        if not any(_same(g.slices[0].orientation, group.slices[0].orientation) for g in found):
            found.append(group)
    return found


def _is_fan(groups: Sequence[_Group]) -> bool:
    """Tell whether single images turn around one axis, step by step."""
    if len(groups) < FEWEST_FAN or any(len(group.slices) > 1 for group in groups):
        return False
    planes = [group.slices[0].orientation for group in groups]
    known = [plane for plane in planes if plane is not None]
    steps = [_tilt_deg(one, other) for one, other in pairwise(known)]
    # Planes that share an axis have normals in one plane.
    flatness = np.linalg.svd(np.array([normal_of(plane) for plane in known]), compute_uv=False)[2]
    return max(steps) <= LARGEST_FAN_STEP_DEG and bool(flatness < FLAT * math.sqrt(len(known)))


def _fan(groups: Sequence[_Group]) -> Stack:
    slices = tuple(group.slices[0] for group in groups)
    return Stack(slices, warnings=(f"radial: {len(slices)} images of as many orientations",))
