"""Pixels of one object: what its header must say, and what its bytes hold (PS3.3 C.7.6.3)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from halfscan_plugin.codestream import announced_size
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import as_number, element, integer, text, uid
from halfscan_plugin.overlays import embedded_bits

__all__ = [
    "Excess",
    "Stored",
    "cells_of",
    "check_header",
    "decode",
    "empty_padding",
    "excess_of",
    "holds_something",
    "padding_of",
    "pixel_warnings",
    "value_range",
]

Stored = npt.NDArray[np.integer[Any]]  # (frame, row, column)

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
UID_TEXT = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 section 9.1
BITS_ALLOCATED = (8, 16, 32)
GREY = {"MONOCHROME1", "MONOCHROME2"}
MOST_PIXELS = 2**29  # of an object: 2,000 volumes of 64 slices with 64 x 64 pixels
# No image gives so many pixels for a compressed byte, but for small ones that hold nothing.
SMALL_PIXELS, MOST_PIXELS_PER_BYTE = 2**24, 1000
AREA = (3, 3)  # of padding, the smallest [pixels]
MOST_TILES = 4096  # of a JPEG 2000 image; scanners write one


@dataclass(frozen=True, slots=True)
class Excess:
    """Pixels of an object that BitsStored cannot hold.

    Parameters
    ----------
    pixels : int
        How many.
    furthest : int
        The value that is furthest off.
    bits : int
        So many hold them all.
    """

    pixels: int
    furthest: int
    bits: int


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

    Unused bits of a pixel cell may hold anything (PS3.5 section 8.1.1). Those that the header
    calls an overlay are taken away, and a sign that was not extended into them is. Whatever else
    is there is part of the value: scanners write more than their BitsStored, and to mask it would
    turn the brightest pixels dark.

    Parameters
    ----------
    dataset : Dataset
        The object.

    Returns
    -------
    ndarray of integers, shape (frame, row, column)
        As stored; one frame for a classic object. `excess_of` tells what is beyond BitsStored.

    Raises
    ------
    UnreadableSeries
        ``unsupported_transfer_syntax``, ``damaged_pixels``, or ``pixel_description`` where HighBit
        and the pixels leave open which bits hold the values.
    """
    cells = cells_of(dataset)
    values = _values(dataset, cells)
    _check_high_bit(dataset, values)
    return values


def cells_of(dataset: Dataset) -> Stored:
    """Decode the pixel cells of an object, unused bits included; as `decode`."""
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
        pixels = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
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
    cells: Stored = pixels.reshape(shape)
    return cells


def padding_of(dataset: Dataset, stored: Stored) -> npt.NDArray[np.bool_]:
    """Find the pixels that PixelPaddingValue marks (PS3.3 C.7.5.1.1.2).

    The value is written in the pixels' own bits, whatever value representation it has: 63536 is
    -2000 where pixels are signed, and the other way round.
    """
    nothing = np.zeros(stored.shape, dtype=np.bool_)
    value = _in_cells(_padding_number(dataset, "PixelPaddingValue"), stored.dtype)
    if value is None:
        return nothing
    limit = _in_cells(_padding_number(dataset, "PixelPaddingRangeLimit"), stored.dtype)
    low, high = sorted((value, value if limit is None else limit))
    marked = (stored >= low) & (stored <= high)
    bits = int(dataset.BitsStored)
    if not marked.any() and low == high > value_range(bits, signed=False)[1]:
        # A negative value in unsigned pixels, cut to their bits.
        marked = stored == low % 2**bits
    return np.asarray(marked, dtype=np.bool_)


def empty_padding(stored: Stored, padding: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Choose the padding of one image that is shown empty: areas, and values beyond the image's.

    A padding value that the image has too, such as 0 in the noise of air, marks single pixels
    there: a hole for each would disturb the noise around them.
    """
    inside = stored[~padding]
    if inside.size in {0, stored.size}:
        return padding
    beyond = (stored < inside.min()) | (stored > inside.max())
    return np.asarray(padding & (beyond | _areas(padding)), dtype=np.bool_)


def value_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Give the smallest and the largest value that so many bits hold."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def excess_of(dataset: Dataset, stored: Stored, padding: npt.NDArray[np.bool_]) -> Excess | None:
    """Find the pixels that BitsStored cannot hold, but for padding; None if there are none."""
    signed, bits = dataset.PixelRepresentation == 1, int(dataset.BitsStored)
    low, high = value_range(bits, signed=signed)
    beyond = stored[((stored < low) | (stored > high)) & ~padding]
    if beyond.size == 0:
        return None
    ends = int(beyond.min()), int(beyond.max())
    while not all(low <= end <= high for end in ends):
        bits += 1
        low, high = value_range(bits, signed=signed)
    return Excess(beyond.size, max(ends, key=abs), bits)


def holds_something(dataset: Dataset, keyword: str) -> bool:
    """Tell whether an attribute is there and not empty, be it readable or not."""
    item = dataset.get_item(keyword)
    return item is not None and item.value not in (None, b"", "")


def pixel_warnings(
    sources: Sequence[Dataset], excesses: Sequence[Excess | None]
) -> tuple[str, ...]:
    """Tell of the objects whose pixels do not fit what their headers say of bits."""
    warnings = []
    wrong = [d for d in sources if integer(d, "HighBit") not in {None, int(d.BitsStored) - 1}]
    if wrong:
        warnings.append(
            f"HighBit is {wrong[0].HighBit} in instance {wrong[0].SOPInstanceUID}, BitsStored "
            f"{wrong[0].BitsStored}: HighBit is not used (in {len(wrong)} of {len(sources)} "
            "objects)"
        )
    known = [(e, d) for e, d in zip(excesses, sources, strict=True) if e is not None]
    if known:
        worst, dataset = max(known, key=lambda pair: abs(pair[0].furthest))
        bits = int(dataset.BitsStored)
        low, high = value_range(bits, signed=dataset.PixelRepresentation == 1)
        warnings.append(
            f"pixels beyond BitsStored: {sum(e.pixels for e, _ in known)}, up to {worst.furthest} "
            f"in instance {dataset.SOPInstanceUID}, where {bits} bits hold {low} to {high} (in "
            f"{len(known)} of {len(sources)} objects); they count as they are, and BitsStored of "
            f"the derived object is {worst.bits}"
        )
    return tuple(warnings)


def _areas(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Give the parts of a mask that squares of `AREA` within it cover."""
    covered = np.zeros_like(mask)
    if min(mask.shape) < max(AREA):
        return covered
    squares = np.lib.stride_tricks.sliding_window_view(mask, AREA).all(axis=(2, 3))
    rows, columns = squares.shape
    for row, column in np.ndindex(AREA):
        covered[row : row + rows, column : column + columns] |= squares
    return covered


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
    signed = _count(dataset, "PixelRepresentation")
    problem = None
    if not all((_count(dataset, keyword) or 0) > 0 for keyword in ("Rows", "Columns")):
        problem = "Rows and Columns are missing"
    elif allocated not in BITS_ALLOCATED:
        problem = f"BitsAllocated must be 8, 16 or 32, got {allocated}"
    elif stored is None or not 1 <= stored <= allocated:
        problem = f"BitsStored must be 1 to {allocated}, got {stored}"
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


def _values(dataset: Dataset, cells: Stored) -> Stored:
    """Take the values out of pixel cells."""
    signed, bits = dataset.PixelRepresentation == 1, int(dataset.BitsStored)
    overlays = embedded_bits(dataset)
    low, high = value_range(bits, signed=signed)
    smallest, largest = int(cells.min()), int(cells.max())
    if not overlays and low <= smallest and largest <= high:
        return cells
    if not signed:
        return cells & ~cells.dtype.type(overlays)
    if overlays or (low <= smallest and largest < 2**bits):
        unused = cells.dtype.itemsize * 8 - bits
        return (cells << unused) >> unused
    return cells


def _check_high_bit(dataset: Dataset, values: Stored) -> None:
    """Refuse values that HighBit moves to other bits of a cell, if it is not wrong itself."""
    high, bits = integer(dataset, "HighBit"), int(dataset.BitsStored)
    shift = 0 if high is None else high + 1 - bits
    if shift <= 0:
        return
    within = value_range(bits, signed=dataset.PixelRepresentation == 1)
    beyond = int(values.min()) < within[0] or int(values.max()) > within[1]
    # What lies in the bits below would be lost by the shift: it is image.
    below = values.any() and not (values & (2 ** min(shift, bits) - 1)).any()
    if beyond or below:
        raise UnreadableSeries(
            "pixel_description",
            f"instance {text(dataset, 'SOPInstanceUID')}: HighBit must be BitsStored - 1, got "
            f"{high} with {bits}, and the pixels leave open which bits hold their values",
        )


def _padding_number(dataset: Dataset, keyword: str) -> int | None:
    """Read a padding value, whatever its value representation."""
    found = element(dataset, keyword)
    if found is None:
        return None
    if isinstance(found.value, bytes):
        little = (
            uid(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
            != ExplicitVRBigEndian
        )
        known = len(found.value) in {1, 2, 4}
        return int.from_bytes(found.value, "little" if little else "big") if known else None
    value = as_number(found.value)
    return int(value) if value is not None and value == int(value) else None


def _in_cells(value: int | None, dtype: np.dtype[np.integer[Any]]) -> int | None:
    """Give a padding value of 16 bits as pixels of a type hold it; None where they cannot."""
    ends = np.iinfo(dtype)
    readings = () if value is None else (value, value - 2**16, value + 2**16)
    return next((reading for reading in readings if ends.min <= reading <= ends.max), None)
