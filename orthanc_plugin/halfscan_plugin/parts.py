"""Images with the places where they lie, and the parts into which those of one place are sorted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from halfscan_plugin.gaps import normal_of
from halfscan_plugin.slices import Labels, Slice

__all__ = ["Located", "Part", "is_dense", "located", "named"]

SAME_PLACE_MM = 0.02  # positions of one slice may differ in the last digits that were written


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """An image and its place.

    Parameters
    ----------
    place : int
        Rank among the places of all images along the normal; images in one plane share it.
    image : Slice
        The image.
    labels : mapping of str to str
        Its labels, by keyword.
    """

    place: int
    image: Slice
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """Some images of a series, and what separates them from the others.

    Parameters
    ----------
    images : tuple of Located
        In the order of their numbers.
    labels : tuple of (str, str)
        Keyword and value.
    """

    images: tuple[Located, ...]
    labels: Labels = ()

    @cached_property
    def places(self) -> frozenset[int]:
        """Where it has an image."""
        return frozenset(item.place for item in self.images)

    @property
    def is_crowded(self) -> bool:
        """Whether two images lie in one place."""
        return len(self.places) < len(self.images)

    def counts(self) -> Counter[int]:
        """Count the images of each place."""
        return Counter(item.place for item in self.images)

    def by_label(self, keyword: str) -> list["Part"]:
        """Separate by the values of a label; an absent one is a value of its own."""
        return self.split(keyword, [item.labels.get(keyword, "") for item in self.images])

    def split(self, keyword: str, values: Sequence[str]) -> list["Part"]:
        """Separate by a value for each image, in the order in which the values first come."""
        groups: dict[str, list[Located]] = {}
        for item, value in zip(self.images, values, strict=True):
            groups.setdefault(value, []).append(item)
        return [
            Part(tuple(images), (*self.labels, (keyword, value)))
            for value, images in groups.items()
        ]


def located(slices: Sequence[Slice]) -> tuple[Located, ...]:
    """Find the places of images of one orientation.

    Two images of one orientation at the same depth along their normal are in one plane, so they
    cannot be of one volume, wherever in that plane they lie. An image whose position is not known
    lies where its number says.
    """
    depths = _depths(slices)
    order = sorted(range(len(slices)), key=depths.__getitem__)
    ranks = {order[0]: 0} if order else {}
    for before, index in pairwise(order):
        ranks[index] = ranks[before] + (depths[index] - depths[before] > SAME_PLACE_MM)
    return tuple(
        Located(ranks[index], image, dict(image.labels)) for index, image in enumerate(slices)
    )


def named(images: Sequence[Located], names: Sequence[str]) -> str:
    """Name images: by their numbers where those are their own, frames by their object.

    Parameters
    ----------
    images : sequence of Located
        The images.
    names : sequence of str
        SOPInstanceUID of each object.
    """
    objects: dict[int, list[int]] = {}
    for item in images:
        objects.setdefault(item.image.source, []).append(item.image.frame)
    if any(len(frames) > 1 or frames[0] for frames in objects.values()):
        return ", ".join(
            f"frames {_ranges([frame + 1 for frame in frames])} of instance {names[source]}"
            for source, frames in objects.items()
        )
    numbers = [item.image.number for item in images if item.image.number is not None]
    if len(set(numbers)) == len(images):
        return f"InstanceNumber {_ranges(numbers)}"
    return f"instances {', '.join(names[source] for source in objects)}"


def is_dense(images: Sequence[Located], numbers: set[int]) -> bool:
    """Tell whether images have numbers of their own, and no number of the series is left out."""
    own = {item.image.number for item in images} - {None}
    return len(own) == len(images) and max(numbers) - min(numbers) + 1 == len(numbers)


def _depths(slices: Sequence[Slice]) -> list[float]:
    orientation = slices[0].orientation if slices else None
    positions = [image.position for image in slices if image.position is not None]
    if orientation is None or len(positions) < len(slices):
        return [
            float(index if image.number is None else image.number)
            for index, image in enumerate(slices)
        ]
    return [float(depth) for depth in np.array(positions) @ normal_of(orientation)]


def _ranges(numbers: Iterable[int]) -> str:
    """Write whole numbers as ranges: 3 to 7, 9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number <= runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in runs)
