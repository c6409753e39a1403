"""Several images in one place: which of them belong together."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.slices import Labels, Position, Slice

__all__ = ["separate"]

SAME_PLACE_MM = 0.02  # positions of one slice may differ in the last digits that were written
# What always tells volumes apart, so that each of them must be whole. Other labels count only
# where all volumes come out whole: a time of acquisition may also differ from slice to slice.
CERTAIN = {
    "kind",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
}
NAMED = 4  # instances in a message


def separate(slices: Sequence[Slice], names: Sequence[str]) -> list[tuple[list[Slice], Labels]]:
    """Separate images that lie in one place: echoes, times, diffusion weightings, kinds.

    Parameters
    ----------
    slices : sequence of Slice
        Images of one orientation, in the order of their numbers.
    names : sequence of str
        SOPInstanceUID of each object, for messages.

    Returns
    -------
    list of tuple
        Slices of which no two lie in one place, and what separates them from the others.

    Raises
    ------
    UnreadableSeries
        ``missing_slices`` if volumes that a label tells apart do not have the same places;
        ``ambiguous_geometry`` if no label tells the images of one place apart, and their number
        differs from place to place.
    """
    crowd = _Crowd(slices, names)
    parts: list[tuple[list[int], Labels]] = [(list(range(len(slices))), ())]
    for keyword in dict.fromkeys(key for place in slices for key, _ in place.labels):
        parts = [piece for part in parts for piece in crowd.by_label(*part, keyword)]
    parts = [piece for part in parts for piece in crowd.by_order(*part)]
    return [([slices[index] for index in members], labels) for members, labels in parts]


class _Crowd:
    """Slices with the places where they lie."""

    def __init__(self, slices: Sequence[Slice], names: Sequence[str]) -> None:
        self._slices, self._names = slices, names
        self._labels = [dict(place.labels) for place in slices]
        self._places = _places(slices)

    def by_label(
        self, members: list[int], labels: Labels, keyword: str
    ) -> list[tuple[list[int], Labels]]:
        """Separate by the value of a label, if it separates images that lie in one place."""
        there = {self._places[index] for index in members}
        if len(there) == len(members):
            return [(members, labels)]
        parts: dict[str, list[int]] = {}
        for index in members:
            parts.setdefault(self._labels[index].get(keyword, ""), []).append(index)
        covered = {value: {self._places[i] for i in part} for value, part in parts.items()}
        if sum(map(len, covered.values())) == len(there):  # it tells places apart, no images
            return [(members, labels)]
        if any(places != there for places in covered.values()):
            if keyword in CERTAIN:
                self._refuse_parts(keyword, covered, there)
            return [(members, labels)]
        return [(part, (*labels, (keyword, value))) for value, part in parts.items()]

    def by_order(self, members: list[int], labels: Labels) -> list[tuple[list[int], Labels]]:
        """Separate what no label does by its order: the first of each place, the second, ..."""
        counts = Counter(self._places[index] for index in members)
        if set(counts.values()) == {1}:
            return [(members, labels)]
        if len(set(counts.values())) > 1:
            self._refuse_order(members, counts)
        seen: Counter[int] = Counter()
        parts: dict[int, list[int]] = {}
        for index in members:
            seen[self._places[index]] += 1
            parts.setdefault(seen[self._places[index]], []).append(index)
        return [(part, (*labels, ("order", str(rank)))) for rank, part in parts.items()]

    def _refuse_parts(self, keyword: str, covered: dict[str, set[int]], there: set[int]) -> None:
        value, places = min(covered.items(), key=lambda item: len(item[1]))
        gap = self._slices[self._places.index(min(there - places))]
        where = gap.number if gap.position is None else gap.position
        raise UnreadableSeries(
            "missing_slices",
            f"{keyword} {value or '(none)'} has {len(places)} of {len(there)} slices, "
            f"none at {where}",
        )

    def _refuse_order(self, members: list[int], counts: Counter[int]) -> None:
        most, fewest = max(counts.values()), min(counts.values())
        crowded = next(place for place, count in counts.items() if count == most)
        there = [i for i in members if self._places[i] == crowded]
        who = ", ".join(self._names[self._slices[i].source] for i in there[:NAMED])
        raise UnreadableSeries(
            "ambiguous_geometry",
            f"{most} images lie in one place and nothing tells them apart, {fewest} in others: "
            f"instances {who}{', ...' if len(there) > NAMED else ''}",
        )


def _places(slices: Sequence[Slice]) -> list[int]:
    """Number the places; a slice whose position is not known lies where its number says."""
    exact: dict[object, int] = {}
    cells: dict[tuple[int, int, int], tuple[Position, int]] = {}
    found = []
    for index, place in enumerate(slices):
        position = place.position
        key = position or ("number", index if place.number is None else place.number)
        if key not in exact:
            near = None if position is None else _near(position, cells)
            exact[key] = index if near is None else near
            if position is not None and near is None:
                cells[_cell(position)] = (position, index)
        found.append(exact[key])
    return found


def _near(
    position: Position, cells: dict[tuple[int, int, int], tuple[Position, int]]
) -> int | None:
    x, y, z = _cell(position)
    for i, j, k in product((0, -1, 1), repeat=3):
        there = cells.get((x + i, y + j, z + k))
        if there is not None and math.dist(there[0], position) <= SAME_PLACE_MM:
            return there[1]
    return None


def _cell(position: Position) -> tuple[int, int, int]:
    x, y, z = (math.floor(value / SAME_PLACE_MM) for value in position)
    return x, y, z
