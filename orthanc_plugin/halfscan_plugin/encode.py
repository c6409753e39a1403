"""Pixels to PixelData: transfer syntaxes, and what is said of lossy compression.

A derived object is Explicit VR Little Endian, which every archive and viewer takes, or by setting
coded losslessly the way its source is. What was coded is decoded again and must be the same pixels;
otherwise it is stored uncompressed, and a note says so.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.headers import text, uid

__all__ = ["SYNTAXES", "Syntax", "lossy_attributes", "set_pixels", "target_syntax"]

Pixels = npt.NDArray[np.integer[Any]]
Syntax = Literal["uncompressed", "source"]
SYNTAXES: tuple[Syntax, ...] = ("uncompressed", "source")

# The syntax of the source, and the lossless one that a derived object gets for it. A syntax that is
# not here gives Explicit VR Little Endian: JPEG Lossless, for one, can be read but nothing here
# writes it.
LOSSLESS = {
    DeflatedExplicitVRLittleEndian: DeflatedExplicitVRLittleEndian,
    RLELossless: RLELossless,
    JPEGLSLossless: JPEGLSLossless,
    JPEGLSNearLossless: JPEGLSLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    JPEG2000: JPEG2000Lossless,
}
# Codecs that lose information, by what LossyImageCompressionMethod calls them (PS3.3
# C.7.6.1.1.5.1). The first two always do; the others may, where the object does not deny it.
LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)


class NotLosslessError(HalfscanError):
    """Pixels cannot be coded in a way that gives the same pixels again."""


def target_syntax(source: Dataset, syntax: Syntax) -> tuple[UID, str | None]:
    """Choose the transfer syntax of a derived object.

    Parameters
    ----------
    source : Dataset
        Its source.
    syntax : {"uncompressed", "source"}
        ``"source"`` asks for the source's own lossless compression.

    Returns
    -------
    tuple of (UID, str or None)
        The syntax, and a note where the source is compressed in a way that cannot be written.
    """
    found = uid(getattr(source, "file_meta", Dataset()), "TransferSyntaxUID")
    if syntax == "uncompressed":
        return ExplicitVRLittleEndian, None
    if found in LOSSLESS:
        return LOSSLESS[found], None
    if found.is_transfer_syntax and found.is_compressed:
        return ExplicitVRLittleEndian, f"{found.name} cannot be written: stored uncompressed"
    return ExplicitVRLittleEndian, None


def set_pixels(derived: Dataset, pixels: Pixels, syntax: UID) -> str | None:
    """Store pixels in the bit depth that an object's header names.

    Parameters
    ----------
    derived : Dataset
        An object with the Image Pixel attributes (PS3.3 C.7.6.3) but for HighBit and PixelData,
        and with `file_meta`; changed in place.
    pixels : ndarray of integers, shape (row, column) or (frame, row, column)
        Stored values, within BitsStored.
    syntax : UID
        The transfer syntax that is wanted.

    Returns
    -------
    str or None
        Why the pixels were stored uncompressed although `syntax` compresses them.
    """
    derived.HighBit = int(derived.BitsStored) - 1
    signed = derived.PixelRepresentation == 1
    bits = int(derived.BitsAllocated)
    frames = pixels.reshape(-1, int(derived.Rows), int(derived.Columns))
    cells = frames.astype(np.dtype(f"{'i' if signed else 'u'}{bits // 8}").newbyteorder("<"))
    note = None
    if syntax.is_encapsulated:
        try:
            _set_encoded(derived, cells, syntax)
        except NotLosslessError as error:
            note = f"{syntax.name} failed ({error}): stored uncompressed"
            syntax = ExplicitVRLittleEndian
        else:
            return None
    derived.file_meta.TransferSyntaxUID = syntax
    content = cells.tobytes()
    derived.PixelData = content + b"\0" * (len(content) % 2)  # even length, PS3.5 section 7.1
    derived["PixelData"].VR = "OB" if bits <= 8 else "OW"
    derived["PixelData"].is_undefined_length = False
    return note


def lossy_attributes(source: Dataset) -> dict[str, Any]:
    """Say of a source what LossyImageCompression must say from now on.

    Once lossy, always said (PS3.3 C.7.6.1.1.5). What the header says itself is kept elsewhere; here
    is what it fails to say although its pixels are coded with loss.

    Returns
    -------
    dict of str to value
        Attributes by keyword; empty where there is nothing to add.
    """
    found = uid(getattr(source, "file_meta", Dataset()), "TransferSyntaxUID")
    said = text(source, "LossyImageCompression")
    if found not in LOSSY_METHODS or (said == "00" and found not in ALWAYS_LOSSY):
        return {}
    added: dict[str, Any] = {"LossyImageCompression": "01"}
    if not text(source, "LossyImageCompressionRatio"):
        added["LossyImageCompressionRatio"] = f"{_ratio(source):.4g}"
    if not text(source, "LossyImageCompressionMethod"):
        added["LossyImageCompressionMethod"] = LOSSY_METHODS[found]
    return added


def _ratio(source: Dataset) -> float:
    """Compute how many times larger the pixels are than their code."""
    frames = int(source.get("NumberOfFrames") or 1)
    cells = frames * int(source.Rows) * int(source.Columns)
    return cells * int(source.BitsAllocated) / 8 / max(len(source.PixelData), 1)


def _set_encoded(derived: Dataset, cells: Pixels, syntax: UID) -> None:
    """Encode the pixels, and decode them again."""
    try:
        encoder = get_encoder(syntax)
        coded = [encoder.encode(frame, **_description(derived)) for frame in cells]
        derived.file_meta.TransferSyntaxUID = syntax
        derived.PixelData = encapsulate(coded)
        derived["PixelData"].VR = "OB"
        derived["PixelData"].is_undefined_length = True
        decoded = pixel_array(derived)
    except MemoryError:
        raise
    except Exception as error:  # codecs raise whatever the libraries below them raise
        raise NotLosslessError(type(error).__name__) from error
    if not np.array_equal(decoded.reshape(cells.shape), cells):
        raise NotLosslessError("decoding gives other pixels")


def _description(derived: Dataset) -> dict[str, Any]:
    return {
        "rows": int(derived.Rows),
        "columns": int(derived.Columns),
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "bits_allocated": int(derived.BitsAllocated),
        "bits_stored": int(derived.BitsStored),
        "pixel_representation": int(derived.PixelRepresentation),
        "photometric_interpretation": text(derived, "PhotometricInterpretation"),
    }
