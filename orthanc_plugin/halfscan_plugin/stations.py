"""Stations: slabs of one orientation that were acquired at several positions of the table.

Sagittal and coronal stations lie beside each other in the same planes, axial ones follow each
other and may overlap. Either way each is a volume of its own. Stations whose slices share places
are told apart like everything that does: `labels`.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from halfscan_plugin.gaps import IRREGULAR, SAME_MM, normal_of
from halfscan_plugin.parts import Part, is_dense, located
from halfscan_plugin.slices import Slice

__all__ = ["beside_each_other", "overlapping"]

# A table moves by more; what moves by less is a patient whom the scanner follows.
FEWEST_MM = 10.0
FEWEST = 4  # images of two stations


def beside_each_other(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Separate slices that lie in the same planes, but in other places there.

    Parameters
    ----------
    slices : sequence of Slice
        Of one orientation.

    Returns
    -------
    list of list of Slice
        One for each station; all slices in one where no two stations share a plane.
    """
    orientation = slices[0].orientation
    positions = [image.position for image in slices if image.position is not None]
    if orientation is None or len(positions) < len(slices):
        return [list(slices)]
    normal = normal_of(orientation)
    depths = np.array(positions) @ normal
    within = np.array(positions) - depths[:, np.newaxis] * normal
    centres = np.empty((0, 3))
    members: list[list[int]] = []
    for index, place in enumerate(within):
        near = np.flatnonzero(np.linalg.norm(centres - place, axis=1) < FEWEST_MM)
        if near.size:
            members[near[0]].append(index)
        else:
            centres = np.vstack((centres, place))
            members.append([index])
    places = [item.place for item in located(slices)]
    planes = [{places[index] for index in indices} for indices in members]
    shared = Counter(plane for station in planes for plane in station)
    # Where the position drifts from slice to slice, no plane holds two of them.
    if max(shared.values()) < 2:
        return [list(slices)]
    return [[slices[index] for index in indices] for indices in members]


def overlapping(part: Part, numbers: set[int]) -> list[Part]:
    """Separate stations that overlap without sharing a place.

    Slices of both alternate where they overlap: then the spacing is irregular, and a label, or the
    order of the numbers, tells stations apart that are regular. Every other slice of one volume, as
    interleaved scans acquire them, is no station: together they are regular.

    Parameters
    ----------
    part : Part
        No two images lie in one place.
    numbers : set of int
        Numbers of all images beside which these were numbered: where one is not there, a slice may
        be missing, and the spacing says nothing of stations.

    Returns
    -------
    list of Part
        One for each station; `part` alone where there are none.
    """
    orientation = part.images[0].image.orientation
    positions = [item.image.position for item in part.images if item.image.position is not None]
    if orientation is None or len(positions) < max(len(part.images), FEWEST):
        return [part]
    normal = normal_of(orientation)
    depth = {
        item: float(normal @ np.array(item.image.position, dtype=np.float64))
        for item in part.images
    }
    if not is_dense(part.images, numbers) or _pitch(list(depth.values())) is not None:
        return [part]
    keywords = dict.fromkeys(key for item in part.images for key in item.labels)
    for stations in (*map(part.by_label, keywords), _in_a_row(part, list(depth.values()))):
        spans = [[depth[item] for item in station.images] for station in stations]
        pitches = [pitch for span in spans if (pitch := _pitch(span))]
        ordered = sorted(spans, key=min)
        if (
            len(pitches) == len(stations)
            and max(pitches) - min(pitches) <= max(IRREGULAR * max(pitches), SAME_MM)
            and any(min(later) < max(earlier) for earlier, later in pairwise(ordered))
        ):
            return stations
    return [part]


def _in_a_row(part: Part, depths: Sequence[float]) -> list[Part]:
    """Separate where the images, in the order of their numbers, step back or leap."""
    steps = np.diff(depths)
    usual = np.sort(steps)[(len(steps) - 1) // 2]
    leaps = np.abs(steps - usual) > max(IRREGULAR * abs(usual), SAME_MM)
    return part.split("order", [str(rank) for rank in np.concatenate(([1], 1 + leaps.cumsum()))])


def _pitch(depths: Sequence[float]) -> float | None:
    """Give the distance of neighbours; None where there is none, or not one."""
    gaps = np.diff(np.sort(depths))
    if not gaps.size or gaps.max() - gaps.min() > max(IRREGULAR * gaps.max(), SAME_MM):
        return None
    return float(gaps.mean())
