"""DICOM objects to one float volume, and back to stored pixel values.

A series that cannot be read as a volume raises `UnreadableSeries` with a reason; a worker records
it as skipped, because another attempt would find the same bytes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.headers import element, integer, number, numbers, text, uid

__all__ = ["SeriesVolume", "UnreadableSeries", "read_volume", "sort_slices", "stored_values"]

Volume = npt.NDArray[np.float32]  # (slice, row, column)
Stored = npt.NDArray[np.integer[Any]]  # (slice, row, column) or (row, column)

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# How many numbers each attribute of the geometry holds, where it is there at all.
GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
UID_TEXT = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 section 9.1
BITS_ALLOCATED = (8, 16, 32)


class UnreadableSeries(HalfscanError):
    """The pixels of a series cannot be used; `code` is a static word, the message says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SeriesVolume:
    """A series as one array.

    Parameters
    ----------
    sources : tuple of Dataset
        The objects in the order of the slices.
    volume : ndarray, float32, shape (slice, row, column)
        Pixel values after RescaleSlope and RescaleIntercept (PS3.3 C.11.1), padding set to 0.
    padding : ndarray of bool, same shape
        Pixels that hold no image (PixelPaddingValue).
    stored : ndarray of integers, same shape
        Pixel values as the objects store them.
    """

    sources: tuple[Dataset, ...]
    volume: Volume
    padding: npt.NDArray[np.bool_]
    stored: Stored


def sort_slices(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Order slices along their normal, then by InstanceNumber and SOPInstanceUID."""

    def key(dataset: Dataset) -> tuple[float, int, str]:
        orientation = numbers(dataset, "ImageOrientationPatient")
        position = numbers(dataset, "ImagePositionPatient")
        along = 0.0
        if len(orientation) == 6 and len(position) == 3:
            normal = np.cross(orientation[:3], orientation[3:])
            along = round(float(normal @ np.asarray(position)), 3)
        return along, integer(dataset, "InstanceNumber") or 0, text(dataset, "SOPInstanceUID")

    return sorted(datasets, key=key)


def read_volume(datasets: Sequence[Dataset]) -> SeriesVolume:
    """Decode the pixels of a series.

    Parameters
    ----------
    datasets : sequence of Dataset
        Classic MR images of one series, with pixels.

    Returns
    -------
    SeriesVolume
        Slices sorted along their normal.

    Raises
    ------
    UnreadableSeries
        If the slices differ in size, are no MONOCHROME2 images, are compressed in a way that
        nothing here can decode, are cut short, hold negative values, or if a header breaks a
        rule without which the pixels have no meaning.
    """
    if not datasets:
        raise UnreadableSeries("no_pixels", "the series holds no objects")
    sources = sort_slices(datasets)
    for dataset in sources:
        _check_header(dataset)
    _check_series(sources)
    slices, paddings, stored = [], [], []
    for dataset in sources:
        pixels = _decode(dataset)
        padding = _padding(dataset, pixels)
        values = _rescaled(dataset, pixels)
        values[padding] = 0.0
        slices.append(values)
        paddings.append(padding)
        stored.append(pixels)
    volume = np.stack(slices)
    lowest = float(volume.min())
    if lowest < 0:
        raise UnreadableSeries(
            "negative_values", f"a magnitude image has no negative values, found {lowest:g}"
        )
    return SeriesVolume(tuple(sources), volume, np.stack(paddings), np.stack(stored))


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
    dataset, padding = source.sources[index], source.padding[index]
    change = np.subtract(result[index], source.volume[index], dtype=np.float64)
    # Clipped first: a tiny RescaleSlope could exceed what an integer holds.
    with np.errstate(over="ignore"):
        steps = np.clip(np.rint(change / _slope(dataset)), -(2.0**40), 2.0**40)
    wanted = source.stored[index].astype(np.int64) + steps.astype(np.int64)
    bits = int(dataset.BitsStored)
    low, high = (0, 2**bits - 1)
    if dataset.PixelRepresentation == 1:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    wanted[padding] = source.stored[index][padding]
    pixels = np.clip(wanted, low, high)
    return pixels, int(np.count_nonzero(pixels != wanted))


def _check_header(dataset: Dataset) -> None:
    name = text(dataset, "SOPInstanceUID")
    for keyword in IDENTITY:
        found, value = element(dataset, keyword), text(dataset, keyword)
        if found is None or not (isinstance(found.value, UID) and UID_TEXT.fullmatch(value)):
            raise UnreadableSeries(
                "bad_uid",
                f"instance {name}: {keyword} must be digits and dots, at most 64, got {value!r}",
            )
    for keyword, length in GEOMETRY.items():
        if _holds_something(dataset, keyword) and len(numbers(dataset, keyword)) != length:
            raise UnreadableSeries(
                "bad_geometry", f"instance {name}: {keyword} must be {length} numbers"
            )
    if "PixelData" not in dataset:
        raise UnreadableSeries("no_pixels", f"instance {name} has no PixelData")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric != "MONOCHROME2" or integer(dataset, "SamplesPerPixel") != 1:
        raise UnreadableSeries(
            "photometric_interpretation",
            f"instance {name} is {photometric}, only MONOCHROME2 can be reconstructed",
        )
    frames = integer(dataset, "NumberOfFrames")
    if frames not in {None, 0, 1}:
        raise UnreadableSeries("multi_frame", f"instance {name} holds {frames} frames")
    _check_pixel_description(dataset, name)


def _check_pixel_description(dataset: Dataset, name: str) -> None:
    """Check what PS3.3 C.7.6.3 Image Pixel says of the cells."""
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    high, signed = integer(dataset, "HighBit"), integer(dataset, "PixelRepresentation")
    problem = None
    if not (integer(dataset, "Rows") and integer(dataset, "Columns")):
        problem = "Rows and Columns are missing"
    elif allocated not in BITS_ALLOCATED:
        problem = f"BitsAllocated must be 8, 16 or 32, got {allocated}"
    elif stored is None or not 1 <= stored <= allocated:
        problem = f"BitsStored must be 1 to {allocated}, got {stored}"
    elif high not in {None, stored - 1}:
        problem = f"HighBit must be BitsStored - 1, got {high}"
    elif signed not in {0, 1}:
        problem = f"PixelRepresentation must be 0 or 1, got {signed}"
    if problem is not None:
        raise UnreadableSeries("pixel_description", f"instance {name}: {problem}")


def _holds_something(dataset: Dataset, keyword: str) -> bool:
    item = dataset.get_item(keyword)
    return item is not None and item.value not in (None, b"", "")


def _check_series(sources: Sequence[Dataset]) -> None:
    uids = Counter(str(source.SOPInstanceUID) for source in sources)
    name, times = uids.most_common(1)[0]
    if times > 1:
        raise UnreadableSeries("duplicate_instance", f"instance {name} is there {times} times")
    sizes = {(int(s.Rows), int(s.Columns)) for s in sources}
    if len(sizes) > 1:
        shown = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise UnreadableSeries("mixed_sizes", f"slices of different size: {shown}")


def _decode(dataset: Dataset) -> Stored:
    name = text(dataset, "SOPInstanceUID")
    syntax = uid(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:  # a syntax that holds no images, or none at all
        available = False
    if not available:
        raise UnreadableSeries(
            "unsupported_transfer_syntax",
            f"instance {name}: transfer syntax {syntax.name or 'unknown'} cannot be decoded",
        )
    try:
        pixels: Stored = pixel_array(dataset)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever the libraries below them raise
        raise UnreadableSeries(
            "damaged_pixels", f"instance {name}: pixels cannot be read: {error}"
        ) from error
    if pixels.shape != (dataset.Rows, dataset.Columns) or pixels.dtype.kind not in "iu":
        raise UnreadableSeries(
            "damaged_pixels",
            f"instance {name}: pixels form {pixels.shape} of {pixels.dtype}, "
            f"not {dataset.Rows} x {dataset.Columns} integers",
        )
    return pixels


def _padding(dataset: Dataset, stored: Stored) -> npt.NDArray[np.bool_]:
    """Find the pixels that PixelPaddingValue marks (PS3.3 C.7.5.1.1.2)."""
    value = integer(dataset, "PixelPaddingValue")
    # Scanners also write a padding value of 0 for plain background, where noise is
    # information: only values outside what a magnitude can take are holes in the image.
    if value is None or value >= 0:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = integer(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((stored >= low) & (stored <= high), dtype=np.bool_)


def _rescaled(dataset: Dataset, stored: Stored) -> Volume:
    exact = stored.astype(np.float64) * _slope(dataset) + _number(dataset, "RescaleIntercept", 0.0)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    if not np.isfinite(values).all():
        largest = float(np.abs(exact).max())
        raise UnreadableSeries(
            "bad_rescale",
            f"RescaleSlope and RescaleIntercept give {largest:g}, beyond single precision",
        )
    return values


def _slope(dataset: Dataset) -> float:
    return _number(dataset, "RescaleSlope", 1.0) or 1.0


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    if not _holds_something(dataset, keyword):
        return default
    value = number(dataset, keyword)
    if value is None:
        raise UnreadableSeries("bad_rescale", f"{keyword} must be one finite number")
    return value
