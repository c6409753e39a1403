"""Siemens' CSA header: named values in a private element of classic objects (VB, VE, XA classic).

The layout is not published; what is read here is what SPM and nibabel describe
(https://nipy.org/nibabel/dicom/siemens_csa.html).
"""

import re
import struct

from pydicom import Dataset

from halfscan_plugin.headers import element, private_block

__all__ = ["csa_values", "protocol_number"]

BLOCK = (0x0029, "SIEMENS CSA HEADER")
IMAGE_HEADER, PROTOCOL = 0x10, 0x20
MAGIC = b"SV10"
MOST_TAGS = 1000


def csa_values(header: Dataset) -> dict[str, list[str]]:
    """Read the CSA image header.

    Parameters
    ----------
    header : Dataset
        A classic object.

    Returns
    -------
    dict of str to list of str
        Values by name; empty where there is no such header, or it is damaged.
    """
    content = _bytes(header, IMAGE_HEADER)
    if not content.startswith(MAGIC):
        return {}
    try:
        return _tags(content)
    except struct.error:  # cut short
        return {}


def protocol_number(header: Dataset, name: str) -> float | None:
    """Give a number of the protocol (ASCCONV), such as ``sSliceArray.lSize``."""
    pattern = re.escape(name.encode()) + rb"\s*=\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s"
    found = re.search(pattern, _bytes(header, PROTOCOL))
    return None if found is None else float(found[1])


def _bytes(header: Dataset, low: int) -> bytes:
    tag = private_block(header, *BLOCK).get(low)
    found = None if tag is None else element(header, tag)
    return found.value if found is not None and isinstance(found.value, bytes) else b""


def _tags(content: bytes) -> dict[str, list[str]]:
    """Read the tags: name, multiplicity, type and items, each item with its length."""
    values: dict[str, list[str]] = {}
    (count,) = struct.unpack_from("<I", content, 8)
    place = 16
    for _ in range(min(count, MOST_TAGS)):
        name, _, _, _, items = struct.unpack_from("<64si4sii4x", content, place)
        place += 84
        found = []
        for _ in range(min(items, MOST_TAGS)):
            (length,) = struct.unpack_from("<4xi8x", content, place)
            if not 0 <= length <= len(content):
                return values
            written = content[place + 16 : place + 16 + length]
            place += 16 + (length + 3) // 4 * 4
            if written.strip(b"\0 "):
                found.append(_text(written))
        values[_text(name)] = found
    return values


def _text(written: bytes) -> str:
    return written.split(b"\0")[0].decode("latin-1").strip()
