"""Slices along their normal: in order, and none missing."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.slices import Labels, Orientation, Slice, Stack

__all__ = ["in_order", "normal_of"]

JUMP = 1.5  # in units of the usual spacing
WHOLE = 0.15  # how far from a whole multiple a jump may be
IRREGULAR = 0.1  # share of the usual spacing by which neighbours may differ
SAME_MM = 0.05  # no difference that a scanner means


def normal_of(orientation: Orientation) -> npt.NDArray[np.float64]:
    """Give the unit normal of a plane: rows cross columns (PS3.3 C.7.6.2.1.1)."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def in_order(
    slices: Sequence[Slice], labels: Labels, numbers: set[int], names: Sequence[str]
) -> list[Stack]:
    """Order the slices of one volume, check that none is missing, and separate slabs.

    Parameters
    ----------
    slices : sequence of Slice
        Of one orientation and no two in one place, in the order of their numbers.
    labels : tuple of (str, str)
        What separates them from others in the same place.
    numbers : set of int
        Numbers of all images beside which these were numbered.
    names : sequence of str
        SOPInstanceUID of each object, for messages.

    Returns
    -------
    list of Stack
        One, or one for each slab.

    Raises
    ------
    UnreadableSeries
        ``missing_slices`` where the spacing jumps by a whole multiple and the numbers have a hole.
    """
    orientation = slices[0].orientation
    positions = [place.position for place in slices if place.position is not None]
    if orientation is None or len(positions) < len(slices):
        return [Stack(tuple(slices), orientation, None, labels)]
    depths = np.array(positions) @ normal_of(orientation)
    order = np.argsort(depths, kind="stable")
    ordered = [slices[index] for index in order]
    gaps = [float(gap) for gap in np.diff(depths[order])]
    if not gaps:
        return [Stack(tuple(ordered), orientation, None, labels)]
    holes = _Holes(ordered, numbers)
    usual = _usual(gaps, ordered, holes)
    jumps = [index for index, gap in enumerate(gaps) if gap > JUMP * usual + SAME_MM]
    for index in jumps:
        if _is_multiple(gaps[index] / max(usual, SAME_MM)) and holes.between(index):
            _refuse(ordered[index], ordered[index + 1], gaps[index], usual, names)
    between = [gap for index, gap in enumerate(gaps) if index not in set(jumps)]
    regular = all(abs(gap - usual) <= max(IRREGULAR * usual, SAME_MM) for gap in between)
    if regular and not any(holes.between(index) for index in jumps):
        return _slabs(ordered, gaps, jumps, usual, labels)
    warning = f"irregular spacing: {min(gaps):.4g} to {max(gaps):.4g} mm"
    return [Stack(tuple(ordered), orientation, usual, labels, (warning,))]


class _Holes:
    """Where the numbers of slices in the order of their places leave one out."""

    def __init__(self, ordered: Sequence[Slice], numbers: set[int]) -> None:
        self._own = [place.number for place in ordered if place.number is not None]
        self._numbers = sorted(numbers)
        self.usable = len(set(self._own)) == len(ordered)
        steps = {b > a for a, b in pairwise(self._own)}
        self._in_a_row = len(steps) == 1

    def between(self, index: int) -> bool:
        """Tell whether a number is not there between a slice and the next.

        Slices that were numbered as they were acquired, every other one first, have their
        neighbours' numbers anywhere: then a hole anywhere counts. So does numbering that is none.
        """
        if not self.usable:
            return True
        low, high = self._numbers[0], self._numbers[-1]
        if self._in_a_row:
            low, high = sorted(self._own[index : index + 2])
        inside = bisect_left(self._numbers, high) - bisect_right(self._numbers, low)
        return inside < high - low - 1


def _usual(gaps: Sequence[float], ordered: Sequence[Slice], holes: _Holes) -> float:
    """Give the usual distance of neighbours: the median, or what the header says.

    Where every other slice is missing, the distances alone look regular.
    """
    usual = sorted(gaps)[(len(gaps) - 1) // 2]
    stated = ordered[0].pitch_mm
    if holes.usable and stated is not None and _is_multiple(usual / stated):
        doubtful = [index for index, gap in enumerate(gaps) if gap > JUMP * stated]
        if all(holes.between(index) for index in doubtful):
            return stated
    return usual


def _is_multiple(ratio: float) -> bool:
    return ratio > JUMP and abs(ratio - round(ratio)) <= WHOLE


def _refuse(one: Slice, other: Slice, gap: float, usual: float, names: Sequence[str]) -> None:
    count = round(gap / max(usual, SAME_MM)) - 1
    raise UnreadableSeries(
        "missing_slices",
        f"{count} slices are missing between {_who(one, names)} and {_who(other, names)}: "
        f"{gap:.4g} mm apart, usually {usual:.4g} mm",
    )


def _who(place: Slice, names: Sequence[str]) -> str:
    frame = f" frame {place.frame + 1}" if place.frame else ""
    return f"instance {names[place.source]}{frame} (number {place.number})"


def _slabs(
    ordered: Sequence[Slice],
    gaps: Sequence[float],
    jumps: Sequence[int],
    usual: float,
    labels: Labels,
) -> list[Stack]:
    ends = [0, *(index + 1 for index in jumps), len(ordered)]
    # Slabs apart on purpose look the same as slices that were lost before they were numbered.
    warnings = tuple(
        f"gap of {gaps[index]:.4g} mm between slices {index + 1} and {index + 2} of "
        f"{len(ordered)}, usually {usual:.4g} mm: their numbers leave none out"
        for index in jumps
    )
    stacks = []
    for number, (start, end) in enumerate(pairwise(ends), 1):
        slab = (("slab", str(number)),) if jumps else ()
        members = tuple(ordered[start:end])
        spacing = usual if end - start > 1 else None
        stacks.append(Stack(members, members[0].orientation, spacing, (*labels, *slab), warnings))
    return stacks
