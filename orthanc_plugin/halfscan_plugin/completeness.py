"""Which volumes of a series are whole, which are left out, and which show that images were lost.

A volume is whole if no other of the series holds all its places and more. Stations that overlap
hold places of their own, each in a row; they share at most half of them, unless the numbers show
that nothing was lost. Of a volume that is not whole, either the scanner acquired no more, or an
image was lost on its way:

- An object with many frames arrives whole: what it lacks was never acquired.
- A scan was stopped if its last volume ends early: it is the last by what separates it, and has
  what comes first in the others, by time or by number. Volumes that are acquired together, such as
  echoes, stop together.
- Else the number counts that a missing image would have by the numbers of a whole volume. Where
  another image has it, or all have lower ones, the scanner numbered what there was. Where it is
  free, the image was lost.

Where slices are acquired one after the other, at all their times each, a scan is stopped within its
last slice: that slice is left out, if most images would be otherwise.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.parts import Located, Part, is_dense, named
from halfscan_plugin.phases import CLOCKS, number_of

__all__ = ["cover", "keep_whole", "lacking", "without_last_slice"]

# Volumes that differ in these alone were acquired together.
SIMULTANEOUS = {"kind", "EchoNumbers", "EchoTime", "EffectiveEchoTime", "ImageType", "FrameType"}
FEWEST_OF_A_STATION = 3
MOST_SHARED = 0.5  # of the places of the smaller of two stations that follow each other

Places = frozenset[int]


def keep_whole(
    parts: Sequence[Part], numbers: set[int], names: Sequence[str]
) -> tuple[list[Part], tuple[str, ...]]:
    """Keep the volumes that are whole, and say which images are left out.

    Parameters
    ----------
    parts : sequence of Part
        No two images of one lie in one place.
    numbers : set of int
        Numbers of all images beside which these were numbered.
    names : sequence of str
        SOPInstanceUID of each object, for messages.

    Raises
    ------
    UnreadableSeries
        ``missing_slices`` if no volume is whole, or if an image was lost.
    """
    widest = _widest(parts)
    if len(widest) > 1 and not _are_stations(widest, parts, numbers):
        raise lacking(parts)
    whole = [part for part in parts if part.places in widest]
    incomplete = [part for part in parts if part.places not in widest]
    if not incomplete:
        return whole, ()
    numbering = _Numbering(whole, incomplete, numbers)
    for part in incomplete:
        if numbering.is_lost(part):
            raise lacking([*whole, part])
    descriptions = "; ".join(
        f"{_label(part)} has {len(part.places)} of {len(_model(part, whole).places)} slices "
        f"({named(part.images, names)})"
        for part in incomplete
    )
    count = sum(len(part.images) for part in incomplete)
    return whole, (f"left out: {_images(count)} of volumes that are not whole: {descriptions}",)


def cover(parts: Sequence[Part], numbers: set[int]) -> bool:
    """Tell whether an explanation leaves whole volumes, or stations, and most of the images."""
    widest = _widest(parts)
    if len(widest) > 1 and not _are_stations(widest, parts, numbers):
        return False
    kept = sum(len(part.images) for part in parts if part.places in widest)
    return 2 * kept >= sum(len(part.images) for part in parts)


def without_last_slice(
    part: Part, numbers: set[int], names: Sequence[str]
) -> tuple[Part, str] | None:
    """Leave out a slice that was acquired last and stopped, where slice follows slice.

    Parameters
    ----------
    part : Part
        Several images in each place.
    numbers : set of int
        Numbers of all images beside which these were numbered.
    names : sequence of str
        SOPInstanceUID of each object, for the message.

    Returns
    -------
    tuple of Part and str, or None
        The other slices, with as many images each, and what was left out; None where no slice, or
        another than the last one, has fewer images, or where an image may have been lost.
    """
    counts = part.counts()
    most = max(counts.values())
    fewer = [place for place, count in counts.items() if count < most]
    if len(fewer) > 1 or len(counts) < 2 or not is_dense(part.images, numbers):
        return None
    last = part.images[-counts[fewer[0]] :]
    if any(item.place != fewer[0] for item in last):
        return None
    rest = Part(part.images[: -len(last)], part.labels)
    return rest, (
        f"left out: {_images(len(last))} of the last slice, which has {len(last)} of {most} "
        f"({named(last, names)})"
    )


def lacking(parts: Sequence[Part]) -> UnreadableSeries:
    """Say which volume lacks which slice."""
    everywhere = frozenset[int]().union(*(part.places for part in parts))
    fewest = min(parts, key=lambda part: len(part.places))
    model = min(
        (part for part in parts if part.places - fewest.places),
        key=lambda part: -len(part.places),
    )
    gap = min(model.places - fewest.places)
    image = next(item.image for item in model.images if item.place == gap)
    where = image.number if image.position is None else image.position
    return UnreadableSeries(
        "missing_slices",
        f"{_label(fewest)} has {len(fewest.places)} of {len(everywhere)} slices, none at {where}",
    )


class _Numbering:
    """What the labels and numbers of a series say of the images that are not there."""

    def __init__(
        self, whole: Sequence[Part], incomplete: Sequence[Part], numbers: set[int]
    ) -> None:
        self._whole, self._parts = whole, (*whole, *incomplete)
        self._numbers = numbers
        images = [item.image for part in self._parts for item in part.images]
        self._has_numbers = len({image.number for image in images} - {None}) == len(images)
        self._has_frames = len({image.source for image in images}) < len(images)

    def is_lost(self, part: Part) -> bool:
        """Tell whether a volume lacks an image that there once was."""
        together = self._is_simultaneous(part)
        if self._has_frames or (not together and self._ends_early(part)):
            return False
        if not self._has_numbers:
            return True
        free = self._free(part)
        if free is None:  # numbered by no rule: any number that is not there may be the one
            return max(self._numbers) - min(self._numbers) + 1 > len(self._numbers)
        return bool(free) and (together or min(free) < max(self._numbers))

    def _free(self, part: Part) -> set[int] | None:
        """Give the numbers that its missing images would have and that no image has."""
        own = {item.place: item.image.number or 0 for item in part.images}
        best: tuple[int, set[int]] | None = None
        for model in self._models(part):
            theirs = {item.place: item.image.number or 0 for item in model.images}
            shifts = {own[place] - theirs[place] for place in own}
            if len(shifts) == 1:
                (shift,) = shifts
                missing = {theirs[place] + shift for place in model.places - part.places}
                if best is None or abs(shift) < best[0]:
                    best = abs(shift), {n for n in missing - self._numbers if n > 0}
        return None if best is None else best[1]

    def _models(self, part: Part) -> list[Part]:
        return [model for model in self._whole if part.places < model.places]

    def _is_simultaneous(self, part: Part) -> bool:
        return any(
            {key for key, _ in set(part.labels) ^ set(model.labels)} <= SIMULTANEOUS
            for model in self._models(part)
        )

    def _ends_early(self, part: Part) -> bool:
        """Tell whether a volume is the last one, and has what comes first in the others."""
        keyword, value = part.labels[-1]
        rest = part.labels[:-1]
        earlier = [
            dict(other.labels).get(keyword, "")
            for other in self._parts
            if other is not part and other.labels[:-1] == rest
        ]
        if not earlier or max(map(_order, earlier)) >= _order(value):
            return False
        model, count = self._models(part)[0], len(part.places)
        return any(
            {item.place for item in images[:count]} == part.places for images in _sequences(model)
        )


def _sequences(part: Part) -> Iterator[Sequence[Located]]:
    """Give the images of a volume as they may have been acquired: by time, by number, by place."""
    for keyword in CLOCKS:
        times = {item: number_of(item, keyword) for item in part.images}
        if len(set(times.values())) == len(times) and all(map(math.isfinite, times.values())):
            yield sorted(part.images, key=times.__getitem__)
    if len({item.image.number for item in part.images} - {None}) == len(part.images):
        yield part.images
    else:
        by_place = sorted(part.images, key=lambda item: item.place)
        yield from (by_place, by_place[::-1])


def _are_stations(coverages: Iterable[Places], parts: Sequence[Part], numbers: set[int]) -> bool:
    """Tell whether slabs follow each other along the normal and overlap."""
    ordered = sorted(coverages, key=min)
    everywhere = sorted(frozenset[int]().union(*ordered))
    rank = {place: index for index, place in enumerate(everywhere)}
    for places in ordered:
        in_a_row = rank[max(places)] - rank[min(places)] + 1 == len(places)
        if len(places) < FEWEST_OF_A_STATION or not in_a_row:
            return False
    shared = [len(low & high) / min(len(low), len(high)) for low, high in pairwise(ordered)]
    most = (
        1.0 if is_dense([item for part in parts for item in part.images], numbers) else MOST_SHARED
    )
    return 0 < max(shared, default=0.0) <= most


def _widest(parts: Sequence[Part]) -> set[Places]:
    coverages = {part.places for part in parts}
    return {places for places in coverages if not any(places < other for other in coverages)}


def _model(part: Part, whole: Sequence[Part]) -> Part:
    return next(model for model in whole if part.places < model.places)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _label(part: Part) -> str:
    return ", ".join(f"{keyword} {value or '(none)'}" for keyword, value in part.labels)


def _order(value: str) -> float:
    """Give a label's value as a number; what is none has no order, and nothing comes after it."""
    try:
        return float(value) if value else -math.inf
    except ValueError:
        return math.inf
