"""DICOM objects to one float volume, and back to stored pixel values.

The stored values are kept, and a slice becomes floats when it is asked for: a long series would
otherwise be in memory twice. A series that cannot be read as a volume raises `UnreadableSeries`
with a reason; a worker records it as skipped, because another attempt would find the same bytes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from halfscan_plugin.enhanced import Groups, is_enhanced
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import sort_slices, split
from halfscan_plugin.headers import number, text
from halfscan_plugin.mosaic import Layout, is_mosaic, layout_of
from halfscan_plugin.pixels import (
    Excess,
    Stored,
    check_header,
    decode,
    empty_padding,
    excess_of,
    holds_something,
    padding_of,
    pixel_warnings,
    value_range,
)
from halfscan_plugin.slices import Slice, Stack

__all__ = [
    "SeriesVolume",
    "UnreadableSeries",
    "read_volume",
    "sort_slices",
    "stored_object",
    "stored_values",
]

Image = npt.NDArray[np.float32]  # (row, column)
Volume = npt.NDArray[np.float32]  # (slice, row, column)
# Of the pixels of a slice. Interpolation makes a few of a magnitude negative; half of the noise is
# negative in images that keep the sign.
MOST_NEGATIVE = 0.1
MOST_PIXELS = 2**29  # of a series: 4 GiB as floats with the stored values and the padding


@dataclass(frozen=True, slots=True)
class SeriesVolume:
    """A series as one array.

    Parameters
    ----------
    sources : tuple of Dataset
        The objects that have a slice in the volume, each once, in the order in which the slices
        come to them.
    slices : tuple of Slice
        What each image of the volume is, stack after stack; `Slice.source` is an index into
        `sources`.
    stacks : tuple of Stack
        The volumes of the series.
    stored : ndarray of integers, shape (slice, row, column)
        Pixel values as the objects store them.
    padding : ndarray of bool, same shape
        Pixels that hold no image and stay as they are: those of PixelPaddingValue, and single
        negative ones, which no magnitude has.
    slopes : ndarray, float64, shape (slice,)
        What one step of a stored value adds to the volume: RescaleSlope (PS3.3 C.11.1), negative
        where the values are turned over.
    intercepts : ndarray, float64, shape (slice,)
        RescaleIntercept.
    bits : tuple of int
        BitsStored of each object, or as many bits as its pixels need where they exceed it.
    warnings : tuple of str
        What is unusual about the pixels.
    darkest : float, optional
        In MONOCHROME1 more light is more signal: the rescaled values are turned over, and this
        one, the largest of the series, becomes 0.
    """

    sources: tuple[Dataset, ...]
    slices: tuple[Slice, ...]
    stacks: tuple[Stack, ...]
    stored: Stored
    padding: npt.NDArray[np.bool_]
    slopes: npt.NDArray[np.float64]
    intercepts: npt.NDArray[np.float64]
    bits: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    darkest: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(slice, row, column)."""
        return self.stored.shape

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.stored)

    def __getitem__(self, index: int) -> Image:
        """Give the values of one slice: float32, shape (row, column), never negative.

        Padding is 0, but for single pixels that have its value by chance: see `empty_padding`.
        """
        image = self.rescaled(index)
        image[empty_padding(self.stored[index], self.padding[index])] = 0.0
        return np.maximum(image, np.float32(0), out=image)

    def rescaled(self, index: int) -> Image:
        """Give the values of one slice with their sign, padding as any other pixel."""
        slope = self.slopes[index] if self.darkest is None else -self.slopes[index]
        with np.errstate(over="ignore"):
            exact = self.stored[index] * slope + self.intercepts[index]
            image: Image = np.asarray(exact, dtype=np.float32)
        return image if self.darkest is None else np.float32(self.darkest) - image

    @property
    def volume(self) -> Volume:
        """All values at once: float32, shape (slice, row, column). Made anew at each call."""
        return np.stack([self[index] for index in range(len(self))])

    def frames(self, source: int) -> list[int]:
        """Give the indices of the frames of an object that are in the volume, in their order."""
        return sorted(place.frame for place in self.slices if place.source == source)

    def part(self, indices: Sequence[int]) -> Self:
        """Give some of the slices."""
        chosen = list(indices)
        return replace(
            self,
            slices=tuple(self.slices[index] for index in chosen),
            stored=self.stored[chosen],
            padding=self.padding[chosen],
            slopes=self.slopes[chosen],
            intercepts=self.intercepts[chosen],
        )


def read_volume(datasets: Sequence[Dataset]) -> SeriesVolume:
    """Decode the pixels of a series.

    Parameters
    ----------
    datasets : sequence of Dataset
        MR images of one series, with pixels: classic and enhanced objects, and mosaics.

    Returns
    -------
    SeriesVolume
        Slices stack after stack, within a stack along the normal.

    Raises
    ------
    UnreadableSeries
        If the images differ in size, are not grey, are compressed in a way that nothing here can
        decode, are cut short, hold many negative values, if a header breaks a rule without which
        the pixels have no meaning, or for a reason that `split` gives.
    """
    if not datasets:
        raise UnreadableSeries("no_pixels", "the series holds no objects")
    for dataset in datasets:
        check_header(dataset)
    _check_series(datasets)
    sources, stacks = _in_order(datasets, split(datasets))
    slices = tuple(place for stack in stacks for place in stack.slices)
    _check_sizes(sources, slices)
    stored, padding, excesses = _pixels(sources, slices)
    slopes, intercepts = _rescale(sources, slices)
    bits = tuple(
        int(dataset.BitsStored) if excess is None else excess.bits
        for dataset, excess in zip(sources, excesses, strict=True)
    )
    warnings = pixel_warnings(sources, excesses)
    found = SeriesVolume(
        sources, slices, stacks, stored, padding, slopes, intercepts, bits, warnings
    )
    _check_finite(found)
    if text(sources[0], "PhotometricInterpretation") == "MONOCHROME1":
        # PS3.3 C.7.6.3.1.2: the smallest value is shown white. What BitsStored could hold says
        # nothing about black: noise is measured from there, so it is the darkest pixel.
        largest = [
            np.max(found.rescaled(index), where=~padding[index], initial=-np.inf)
            for index in range(len(found))
        ]
        found = replace(
            found,
            slopes=-slopes,
            darkest=max(map(float, filter(np.isfinite, largest)), default=0.0),
        )
        _check_finite(found)
    return _negative_kept(found)


def stored_values(source: SeriesVolume, result: Volume, index: int) -> tuple[Stored, int]:
    """Turn one slice of a result into what the object stores.

    The change against the source is converted, not the value: what did not change is stored as
    it was, bit for bit, whatever RescaleSlope and RescaleIntercept do to single precision.

    Parameters
    ----------
    source : SeriesVolume
        The series.
    result : ndarray, float32, shape (slice, row, column)
        Values on the source's scale.
    index : int
        Which slice.

    Returns
    -------
    ndarray of integers, shape (row, column)
        Rounded, clipped to what BitsStored can hold, padding as in the source.
    int
        How many pixels were clipped.
    """
    object_index, padding = source.slices[index].source, source.padding[index]
    change = np.subtract(result[index], source[index], dtype=np.float64)
    # Clipped first: a tiny RescaleSlope could exceed what an integer holds.
    with np.errstate(over="ignore"):
        steps = np.clip(np.rint(change / source.slopes[index]), -(2.0**40), 2.0**40)
    wanted = source.stored[index].astype(np.int64) + steps.astype(np.int64)
    signed = source.sources[object_index].PixelRepresentation == 1
    pixels = np.clip(wanted, *value_range(source.bits[object_index], signed=signed))
    clipped = int(np.count_nonzero((pixels != wanted) & ~padding))
    # Padding may lie beyond what BitsStored holds.
    pixels[padding] = source.stored[index][padding]
    return pixels, clipped


def stored_object(source: SeriesVolume, result: Volume, index: int) -> tuple[Stored, int]:
    """Turn a result into all that one object of the series stores.

    Parameters
    ----------
    source : SeriesVolume
        The series.
    result : ndarray, float32, shape (slice, row, column)
        Values on the source's scale.
    index : int
        Which object of `source.sources`.

    Returns
    -------
    ndarray of integers
        Of shape (row, column) for a classic object; for an enhanced one (frame, row, column), the
        frames that are in the volume in the source's order; a mosaic is put together again, its
        empty tiles as they were.
    int
        How many pixels were clipped.
    """
    dataset, clipped = source.sources[index], 0
    layout = layout_of(dataset) if _is_tiled(dataset) else None
    # Of its own, and of the same type: what is stored fits it, and a long series fits memory.
    pixels = decode(dataset).copy()
    for number_of_slice, place in enumerate(source.slices):
        if place.source == index:
            values, beyond = stored_values(source, result, number_of_slice)
            clipped += beyond
            if layout is None:
                pixels[place.frame] = values
            else:
                pixels[(0, *layout.window(place.frame))] = values
    return (pixels[source.frames(index)] if is_enhanced(dataset) else pixels[0]), clipped


def _in_order(
    datasets: Sequence[Dataset], stacks: Sequence[Stack]
) -> tuple[tuple[Dataset, ...], tuple[Stack, ...]]:
    """Sort the objects by their first slice, and number the slices' sources to match."""
    first = dict.fromkeys(place.source for stack in stacks for place in stack.slices)
    order = {source: index for index, source in enumerate(first)}
    numbered = tuple(
        replace(stack, slices=tuple(replace(s, source=order[s.source]) for s in stack.slices))
        for stack in stacks
    )
    return tuple(datasets[source] for source in first), numbered


def _check_series(datasets: Sequence[Dataset]) -> None:
    uids = Counter(str(dataset.SOPInstanceUID) for dataset in datasets)
    name, times = uids.most_common(1)[0]
    if times > 1:
        raise UnreadableSeries("duplicate_instance", f"instance {name} is there {times} times")
    for keyword, code in (
        ("SeriesInstanceUID", "mixed_series"),
        ("PhotometricInterpretation", "photometric_interpretation"),
    ):
        first = text(datasets[0], keyword)
        for dataset in datasets:
            if text(dataset, keyword) != first:
                raise UnreadableSeries(
                    code,
                    f"{keyword} of instance {dataset.SOPInstanceUID} is "
                    f"{text(dataset, keyword)}, of {datasets[0].SOPInstanceUID} {first}",
                )


def _is_tiled(dataset: Dataset) -> bool:
    return is_mosaic(dataset) and not is_enhanced(dataset)


def _check_sizes(sources: Sequence[Dataset], slices: Sequence[Slice]) -> None:
    sizes = set()
    for dataset in sources:
        tile = layout_of(dataset) if _is_tiled(dataset) else dataset
        sizes.add((tile.rows, tile.columns) if isinstance(tile, Layout) else _size(dataset))
    if len(sizes) > 1:
        shown = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise UnreadableSeries("mixed_sizes", f"slices of different size: {shown}")
    rows, columns = sizes.pop()
    if len(slices) * rows * columns > MOST_PIXELS:
        raise UnreadableSeries(
            "too_large",
            f"{len(slices)} slices of {rows} x {columns} pixels, at most {MOST_PIXELS} pixels fit",
        )


def _size(dataset: Dataset) -> tuple[int, int]:
    return int(dataset.Rows), int(dataset.Columns)


def _pixels(
    sources: Sequence[Dataset], slices: Sequence[Slice]
) -> tuple[Stored, npt.NDArray[np.bool_], list[Excess | None]]:
    """Decode each object once and lay its images where their slices are."""
    places: dict[int, list[tuple[int, int]]] = {}
    for index, place in enumerate(slices):
        places.setdefault(place.source, []).append((index, place.frame))
    stored: list[Stored] = [np.empty(0, dtype=np.int16)] * len(slices)
    padding: list[npt.NDArray[np.bool_]] = [np.empty(0, dtype=np.bool_)] * len(slices)
    excesses = []
    for source, dataset in enumerate(sources):
        images = _images(dataset)
        holes = padding_of(dataset, images)
        excesses.append(excess_of(dataset, images, holes))
        for index, frame in places[source]:
            stored[index], padding[index] = images[frame], holes[frame]
    values = np.stack(stored)
    # Nearly every series has none: no memory then, but for one value.
    if not any(holes.any() for holes in padding):
        return values, np.broadcast_to(np.False_, values.shape), excesses
    return values, np.stack(padding), excesses


def _negative_kept(source: SeriesVolume) -> SeriesVolume:
    """Leave a few negative pixels, as interpolation makes them, as they are.

    Raises
    ------
    UnreadableSeries
        ``negative_values``, where a slice has more than a magnitude can have.
    """
    masks, slices, lowest = [], 0, (0.0, 0)
    for index in range(len(source)):
        image = source.rescaled(index)
        negative = (image < 0) & ~source.padding[index]
        masks.append(negative)
        share = float(negative.mean())
        if share > 0:
            slices += 1
            lowest = min(lowest, (float(np.min(image, where=negative, initial=0)), index))
        if share > MOST_NEGATIVE:
            raise UnreadableSeries(
                "negative_values",
                f"a magnitude image has no negative values, found {lowest[0]:g}: {share:.0%} of "
                f"the pixels of slice {index + 1}, at most {MOST_NEGATIVE:.0%} pass",
            )
    if not slices:
        return source
    name = text(source.sources[source.slices[lowest[1]].source], "SOPInstanceUID")
    warning = (
        f"negative pixels: {sum(int(mask.sum()) for mask in masks)}, down to {lowest[0]:g} in "
        f"instance {name} (in {slices} of {len(source)} slices); a magnitude has none, they stay "
        "as they are"
    )
    padding = source.padding | np.stack(masks)
    return replace(source, padding=padding, warnings=(*source.warnings, warning))


def _images(dataset: Dataset) -> Stored:
    """Give the images of an object: the frames, or the tiles of a mosaic."""
    pixels = decode(dataset)
    if not _is_tiled(dataset):
        return pixels
    layout = layout_of(dataset)
    tiles = [pixels[(0, *layout.window(t))] for t in range(layout.across * layout.down)]
    for tile in range(layout.tiles, len(tiles)):
        if tiles[tile].any():
            raise UnreadableSeries(
                "mosaic",
                f"instance {text(dataset, 'SOPInstanceUID')}: tile {tile + 1} holds an image, "
                f"the header tells of {layout.tiles}",
            )
    return np.stack(tiles[: layout.tiles])


def _rescale(
    sources: Sequence[Dataset], slices: Sequence[Slice]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Read RescaleSlope and RescaleIntercept of each slice."""
    groups = {i: Groups(dataset) for i, dataset in enumerate(sources) if is_enhanced(dataset)}
    slopes, intercepts = [], []
    for place in slices:
        where = sources[place.source]
        if place.source in groups:
            where = groups[place.source].item(place.frame, "PixelValueTransformationSequence")
        slopes.append(_number(where, "RescaleSlope", 1.0) or 1.0)
        intercepts.append(_number(where, "RescaleIntercept", 0.0))
    return np.array(slopes), np.array(intercepts)


def _check_finite(source: SeriesVolume) -> None:
    for index in range(len(source)):
        if not np.isfinite(source.rescaled(index)).all(where=~source.padding[index]):
            exact = source.stored[index] * source.slopes[index] + source.intercepts[index]
            raise UnreadableSeries(
                "bad_rescale",
                f"RescaleSlope and RescaleIntercept give {float(np.abs(exact).max()):g}, beyond "
                "single precision",
            )


def _number(place: Dataset, keyword: str, default: float) -> float:
    if not holds_something(place, keyword):
        return default
    value = number(place, keyword)
    if value is None:
        raise UnreadableSeries("bad_rescale", f"{keyword} must be one finite number")
    return value
