"""Objects in compressed transfer syntaxes, with encoders that the project's tests can count on."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
from openjpeg.utils import encode_array
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_maker import Pixels

__all__ = ["LOSSLESS", "LOSSY", "NEAR", "compressed", "frames_of"]

LOSSLESS = [RLELossless, JPEG2000Lossless, JPEG2000, JPEGLSLossless, JPEGLosslessSV1]
LOSSY = [JPEGLSNearLossless, JPEGBaseline8Bit]
CATEGORY_BITS = 5  # one code length for all 17 categories: 17 of 32 codes
NEAR = 2  # how far JPEG-LS may be off
# What pydicom encodes by itself.
OPTIONS: dict[UID, dict[str, Any]] = {
    RLELossless: {},
    JPEGLSLossless: {},
    JPEGLSNearLossless: {"jls_error": NEAR},
}


def compressed(dataset: Dataset, syntax: UID) -> Dataset:
    """Compress the pixels of an object in place; its UIDs stay.

    JPEG 2000 (1.2.840.10008.1.2.4.91) is written reversibly.
    """
    if syntax in OPTIONS:
        dataset.compress(syntax, generate_instance_uid=False, **OPTIONS[syntax])
    elif syntax != DeflatedExplicitVRLittleEndian:
        frames = [_encode(frame, dataset, syntax) for frame in frames_of(dataset)]
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax in LOSSY:
        dataset.LossyImageCompression = "01"
    return dataset


def frames_of(dataset: Dataset) -> Pixels:
    """Give the pixels, frame by frame."""
    return np.asarray(dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns))


def _encode(frame: Pixels, dataset: Dataset, syntax: UID) -> bytes:
    bits = int(dataset.BitsStored)
    if syntax in {JPEG2000Lossless, JPEG2000}:
        return bytes(encode_array(frame, bits_stored=bits, photometric_interpretation=2))
    unsigned = frame.astype(frame.dtype.str.replace("i", "u"))
    if syntax == JPEGLosslessSV1:
        return jpeg_lossless(unsigned, int(dataset.BitsAllocated))
    buffer = BytesIO()
    Image.fromarray(unsigned.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def jpeg_lossless(image: Pixels, precision: int) -> bytes:
    """Encode one image as lossless JPEG, first-order prediction (ISO/IEC 10918-1, annex H)."""
    rows, columns = image.shape
    segments = (
        (0xC3, struct.pack(">BHHB3B", precision, rows, columns, 1, 1, 0x11, 0)),
        (0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    )
    head = b"".join(struct.pack(">BBH", 0xFF, mark, len(s) + 2) + s for mark, s in segments)
    values = image.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (precision - 1)
    written = "".join(_code(int(step)) for step in (values - predicted).ravel())
    written += "1" * (-len(written) % 8)
    scan = int(written, 2).to_bytes(len(written) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


def _code(step: int) -> str:
    """Write a difference modulo 2**16: its category, then its bits (table H.2)."""
    step = (step + 2**15 - 1) % 2**16 - 2**15 + 1
    category = abs(step).bit_length()
    extra = step if step > 0 else step + (1 << category) - 1
    bits = f"{extra:0{category}b}" if 0 < category < 16 else ""
    return f"{category:0{CATEGORY_BITS}b}{bits}"
