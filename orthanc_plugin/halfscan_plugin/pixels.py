"""Pixels of one object: what its header must say, and what its bytes hold (PS3.3 C.7.6.3)."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from halfscan_plugin.codestream import announced_size
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import element, integer, text, uid

__all__ = ["Stored", "check_header", "decode", "holds_something", "padding_of"]

Stored = npt.NDArray[np.integer[Any]]  # (frame, row, column)

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
UID_TEXT = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 section 9.1
BITS_ALLOCATED = (8, 16, 32)
GREY = {"MONOCHROME1", "MONOCHROME2"}
MOST_PIXELS = 2**29  # of an object: 2,000 volumes of 64 slices with 64 x 64 pixels
# No image gives so many pixels for a compressed byte, but for small ones that hold nothing.
SMALL_PIXELS, MOST_PIXELS_PER_BYTE = 2**24, 1000
MOST_TILES = 4096  # of a JPEG 2000 image; scanners write one


def check_header(dataset: Dataset) -> None:
    """Check what the pixels of an object mean nothing without.

    Raises
    ------
    UnreadableSeries
        With the rule and the value: ``bad_uid``, ``no_pixels``, ``photometric_interpretation``,
        ``pixel_description``, ``too_large``.
    """
    name = text(dataset, "SOPInstanceUID")
    for keyword in IDENTITY:
        found, value = element(dataset, keyword), text(dataset, keyword)
        if found is None or not (isinstance(found.value, UID) and UID_TEXT.fullmatch(value)):
            raise UnreadableSeries(
                "bad_uid",
                f"instance {name}: {keyword} must be digits and dots, at most 64, got {value!r}",
            )
    pixels = element(dataset, "PixelData")
    if pixels is None or not isinstance(pixels.value, bytes):
        raise UnreadableSeries("no_pixels", f"instance {name} has no PixelData")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in GREY or _count(dataset, "SamplesPerPixel") != 1:
        raise UnreadableSeries(
            "photometric_interpretation",
            f"instance {name} is {photometric}, only MONOCHROME1 and MONOCHROME2 can be "
            "reconstructed",
        )
    _check_pixel_description(dataset, name)
    _check_amount(dataset, len(pixels.value), name)


def decode(dataset: Dataset) -> Stored:
    """Decode the pixels of an object whose header was checked.

    Parameters
    ----------
    dataset : Dataset
        The object.

    Returns
    -------
    ndarray of integers, shape (frame, row, column)
        As stored; one frame for a classic object.

    Raises
    ------
    UnreadableSeries
        ``unsupported_transfer_syntax``, or ``damaged_pixels``.
    """
    name = text(dataset, "SOPInstanceUID")
    syntax = uid(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    plugin = _plugin(syntax)
    if plugin is None:
        raise UnreadableSeries(
            "unsupported_transfer_syntax",
            f"instance {name}: transfer syntax {syntax.name or 'unknown'} cannot be decoded",
        )
    shape = (_frames(dataset), int(dataset.Rows), int(dataset.Columns))
    try:
        if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
            _check_codestreams(dataset, syntax, shape)
        pixels = pixel_array(dataset, decoding_plugin=plugin)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever the libraries below them raise
        raise UnreadableSeries(
            "damaged_pixels", f"instance {name}: pixels cannot be read: {error}"
        ) from error
    if pixels.size != shape[0] * shape[1] * shape[2] or pixels.dtype.kind not in "iu":
        raise UnreadableSeries(
            "damaged_pixels",
            f"instance {name}: pixels form {pixels.shape} of {pixels.dtype}, "
            f"not {shape[0]} x {shape[1]} x {shape[2]} integers",
        )
    _check_range(dataset, pixels, name)
    found: Stored = pixels.reshape(shape)
    return found


def padding_of(dataset: Dataset, stored: Stored) -> npt.NDArray[np.bool_]:
    """Find the pixels that PixelPaddingValue marks (PS3.3 C.7.5.1.1.2)."""
    value = integer(dataset, "PixelPaddingValue")
    # Scanners also write a padding value of 0 for plain background, where noise is
    # information: only values outside what a magnitude can take are holes in the image.
    if value is None or value >= 0:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = integer(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((stored >= low) & (stored <= high), dtype=np.bool_)


def holds_something(dataset: Dataset, keyword: str) -> bool:
    """Tell whether an attribute is there and not empty, be it readable or not."""
    item = dataset.get_item(keyword)
    return item is not None and item.value not in (None, b"", "")


def _frames(dataset: Dataset) -> int:
    return _count(dataset, "NumberOfFrames") or 1


def _count(dataset: Dataset, keyword: str) -> int | None:
    """Give a whole number that is written as one: decoders take the element as it is."""
    found = element(dataset, keyword)
    return int(found.value) if found is not None and isinstance(found.value, int) else None


def _plugin(syntax: UID) -> str | None:
    """Choose one decoder for each syntax, whatever else is installed; None if there is none."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # a syntax that holds no images, or none at all
        return None
    if not syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian:
        return ""
    # pylibjpeg gives up on damaged JPEG-LS at once, where CharLS (pyjpegls) takes seconds.
    plugin = "pydicom" if syntax == RLELossless else "pylibjpeg"
    return plugin if plugin in decoder.available_plugins else None


def _check_pixel_description(dataset: Dataset, name: str) -> None:
    allocated, stored = _count(dataset, "BitsAllocated"), _count(dataset, "BitsStored")
    high, signed = integer(dataset, "HighBit"), _count(dataset, "PixelRepresentation")
    problem = None
    if not all((_count(dataset, keyword) or 0) > 0 for keyword in ("Rows", "Columns")):
        problem = "Rows and Columns are missing"
    elif allocated not in BITS_ALLOCATED:
        problem = f"BitsAllocated must be 8, 16 or 32, got {allocated}"
    elif stored is None or not 1 <= stored <= allocated:
        problem = f"BitsStored must be 1 to {allocated}, got {stored}"
    elif high not in {None, stored - 1}:
        problem = f"HighBit must be BitsStored - 1, got {high}"
    elif signed not in {0, 1}:
        problem = f"PixelRepresentation must be 0 or 1, got {signed}"
    elif _frames(dataset) < 1 or _frames(dataset) != (integer(dataset, "NumberOfFrames") or 1):
        problem = f"NumberOfFrames must be a positive number, got {text(dataset, 'NumberOfFrames')}"
    elif "ModalityLUTSequence" in dataset:
        problem = "ModalityLUTSequence is a table, where RescaleSlope could be used"
    if problem is not None:
        raise UnreadableSeries("pixel_description", f"instance {name}: {problem}")


def _check_amount(dataset: Dataset, there: int, name: str) -> None:
    """Refuse what would need more memory than its bytes can be worth."""
    pixels = _frames(dataset) * int(dataset.Rows) * int(dataset.Columns)
    most = MOST_PIXELS
    syntax = uid(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    if syntax.is_transfer_syntax and syntax.is_encapsulated:
        most = min(most, max(SMALL_PIXELS, MOST_PIXELS_PER_BYTE * there))
    if pixels > most:
        raise UnreadableSeries(
            "too_large",
            f"instance {name}: {there} bytes for {_frames(dataset)} frames of {dataset.Rows} x "
            f"{dataset.Columns} pixels, at most {most} pixels can be read",
        )


def _check_codestreams(dataset: Dataset, syntax: UID, shape: tuple[int, int, int]) -> None:
    """Check that compressed frames announce the size and number that the header says."""
    frames = 0
    tables = [element(dataset, f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    values = [found.value for found in tables if found is not None]
    offsets = (values[0], values[1]) if len(values) == 2 else None
    for frame in generate_frames(
        dataset.PixelData, number_of_frames=shape[0], extended_offsets=offsets
    ):
        frames += 1
        size = (*shape[1:], 1) if syntax == RLELossless else announced_size(frame)
        if size is None or size[:2] != shape[1:] or size[2] > MOST_TILES:
            raise ValueError(f"frame {frames} announces {size}, not {shape[1]} x {shape[2]}")
    if frames != shape[0]:
        raise ValueError(f"{frames} frames, NumberOfFrames is {shape[0]}")


def _check_range(dataset: Dataset, pixels: Stored, name: str) -> None:
    bits = int(dataset.BitsStored)
    low, high = (0, 2**bits - 1)
    if dataset.PixelRepresentation == 1:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    found = (int(pixels.min()), int(pixels.max()))
    if found[0] < low or found[1] > high:
        raise UnreadableSeries(
            "pixel_description",
            f"instance {name}: pixels reach from {found[0]} to {found[1]}, "
            f"BitsStored {bits} holds {low} to {high}",
        )
