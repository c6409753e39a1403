"""DICOM objects to one float volume, and back to stored pixel values.

A series that cannot be read as a volume raises `UnreadableSeries` with a reason; a worker records
it as skipped, because another attempt would find the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import UID

from halfscan_plugin.errors import HalfscanError

__all__ = ["SeriesVolume", "UnreadableSeries", "read_volume", "sort_slices", "stored_values"]

Volume = npt.NDArray[np.float32]  # (slice, row, column)


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
    """

    sources: tuple[Dataset, ...]
    volume: Volume
    padding: npt.NDArray[np.bool_]


def sort_slices(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Order slices along their normal, then by InstanceNumber and SOPInstanceUID."""

    def key(dataset: Dataset) -> tuple[float, int, str]:
        orientation = dataset.get("ImageOrientationPatient")
        position = dataset.get("ImagePositionPatient")
        along = 0.0
        if orientation and position and len(orientation) == 6 and len(position) == 3:
            cosines = np.asarray(orientation, dtype=float)
            normal = np.cross(cosines[:3], cosines[3:])
            along = round(float(normal @ np.asarray(position, dtype=float)), 3)
        return along, int(dataset.get("InstanceNumber") or 0), str(dataset.SOPInstanceUID)

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
        nothing here can decode, are cut short, or hold negative values.
    """
    sources = sort_slices(datasets)
    _check_sizes(sources)
    slices, paddings = [], []
    for dataset in sources:
        stored = _decode(dataset)
        padding = _padding(dataset, stored)
        values = stored.astype(np.float32) * _slope(dataset) + _intercept(dataset)
        values[padding] = 0.0
        slices.append(values)
        paddings.append(padding)
    volume = np.stack(slices)
    lowest = float(volume.min())
    if lowest < 0:
        raise UnreadableSeries(
            "negative_values", f"a magnitude image has no negative values, found {lowest:g}"
        )
    return SeriesVolume(tuple(sources), volume, np.stack(paddings))


def stored_values(dataset: Dataset, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Turn pixel values back into what the object stores.

    Parameters
    ----------
    dataset : Dataset
        The source object: RescaleSlope, RescaleIntercept, BitsStored, PixelRepresentation.
    values : ndarray, float32, shape (row, column)
        Values on the source's scale.

    Returns
    -------
    ndarray, int64, shape (row, column)
        Rounded, and clipped to what BitsStored can hold.
    """
    stored = np.rint((values.astype(np.float64) - _intercept(dataset)) / _slope(dataset))
    bits = int(dataset.BitsStored)
    low, high = (0, 2**bits - 1)
    if dataset.PixelRepresentation == 1:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return np.clip(stored, low, high).astype(np.int64)


def decoded(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Give the stored pixel values of one object, shape (row, column)."""
    return _decode(dataset).astype(np.int64)


def _check_sizes(sources: Sequence[Dataset]) -> None:
    sizes = {(int(s.Rows), int(s.Columns)) for s in sources}
    if len(sizes) > 1:
        text = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise UnreadableSeries("mixed_sizes", f"slices of different size: {text}")


def _decode(dataset: Dataset) -> npt.NDArray[np.generic]:
    uid = dataset.SOPInstanceUID
    if "PixelData" not in dataset:
        raise UnreadableSeries("no_pixels", f"instance {uid} has no PixelData")
    photometric = dataset.get("PhotometricInterpretation")
    if photometric != "MONOCHROME2" or dataset.get("SamplesPerPixel") != 1:
        raise UnreadableSeries(
            "photometric_interpretation",
            f"instance {uid} is {photometric}, only MONOCHROME2 can be reconstructed",
        )
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise UnreadableSeries("multi_frame", f"instance {uid} holds several frames")
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID") or "")
    try:
        pixels: npt.NDArray[np.generic] = dataset.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        # pydicom: no decoder for this syntax is installed, or it is no image syntax at all.
        raise UnreadableSeries(
            "unsupported_transfer_syntax",
            f"instance {uid}: transfer syntax {syntax.name} cannot be decoded",
        ) from error
    except (ValueError, AttributeError, EOFError, TypeError, KeyError, IndexError) as error:
        raise UnreadableSeries(
            "damaged_pixels", f"instance {uid}: pixels cannot be read: {error}"
        ) from error
    return pixels


def _padding(dataset: Dataset, stored: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Find the pixels that PixelPaddingValue marks (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    # Scanners also write a padding value of 0 for plain background, where noise is
    # information: only values outside what a magnitude can take are holes in the image.
    if not isinstance(value, int) or value >= 0:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    low, high = sorted((value, other))
    return np.asarray((stored >= low) & (stored <= high), dtype=np.bool_)  # type: ignore[operator]  # generic


def _slope(dataset: Dataset) -> float:
    return _number(dataset, "RescaleSlope", 1.0) or 1.0


def _intercept(dataset: Dataset) -> float:
    return _number(dataset, "RescaleIntercept", 0.0)


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    value = dataset.get(keyword)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UnreadableSeries("bad_rescale", f"{keyword} is {value!r}, not a number") from error
    if not np.isfinite(number):
        raise UnreadableSeries("bad_rescale", f"{keyword} is {value!r}, not finite")
    return number
