"""Headers as Orthanc gives them, without the pixels: the start of a file, or its tags as JSON.

Orthanc tells the tags of a whole series in one answer (``/series/{id}/instances-tags?short``),
and it reads no pixels for that. The answer leaves out binary elements and long texts, so one
object is read as a file besides, up to its pixels.
"""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BytesIO, RawIOBase
from typing import Any

import httpx
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

__all__ = ["FileStart", "public_header"]

PIXELS = 0x7FE0  # group of PixelData
CHARACTER_SET = Tag("SpecificCharacterSet")
# How the numbers of a binary value representation are packed (PS3.5 section 6.2).
PACKED = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
# Value representations that are text, in a file as in JSON.
WRITTEN = {
    "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
    "UT",
}  # fmt: skip


class FileStart(RawIOBase):
    """A file that arrives over the network, fetched only as far as it is read.

    Parameters
    ----------
    chunks : iterator of bytes
        What arrives.

    Attributes
    ----------
    error : httpx.HTTPError or None
        Why no more came; a parser may hide it behind an error of its own.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._arrived = BytesIO()
        self._length = 0
        self.error: httpx.HTTPError | None = None

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from another place."""
        return True

    def tell(self) -> int:
        """Give the place of the next byte."""
        return self._arrived.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place; the end of the file is known only once all of it has arrived."""
        if whence == 2:
            self._fetch(None)
        return self._arrived.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, or all; fewer only at the end of the file."""
        all_of_it = size is None or size < 0
        self._fetch(None if all_of_it else self.tell() + (size or 0))
        return self._arrived.read(size)

    def _fetch(self, until: int | None) -> None:
        """Let bytes arrive up to a place, or all of them."""
        place = self._arrived.seek(0, 1)
        self._arrived.seek(self._length)
        try:
            while until is None or self._length < until:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._length += self._arrived.write(chunk)
        except httpx.HTTPError as error:
            self.error = error
            raise
        finally:
            self._arrived.seek(place)


def public_header(told: Mapping[str, Any]) -> Dataset:
    r"""Make a header from the tags that Orthanc tells of one object.

    Parameters
    ----------
    told : mapping of str to str, list or None
        Values by tag, as in ``"0020,0032": "1\\2\\3"``: texts in UTF-8 whatever the value
        representation, sequences as lists of such mappings, None for what is binary or too long.

    Returns
    -------
    Dataset
        The public elements; a value that does not fit its value representation stands there as
        it does in a file, and shows when it is asked for.
    """
    found: dict[BaseTag, DataElement | RawDataElement] = {}
    for name, value in told.items():
        known = _public(name)
        element = None if known is None else _element(*known, value)
        if element is not None:
            found[element.tag] = element
    header = Dataset(found)
    header.set_original_encoding(False, True, "utf8")
    if CHARACTER_SET in found:
        header.SpecificCharacterSet = "ISO_IR 192"  # whatever it was: Orthanc has converted it
    return header


@lru_cache(maxsize=4096)
def _public(name: str) -> tuple[BaseTag, str] | None:
    """Give tag and value representation of a public element of the data set, by its number."""
    tag = Tag(*(int(part, 16) for part in name.split(",")))
    if tag.is_private or tag.group in (2, PIXELS) or not dictionary_has_tag(tag):
        return None
    return tag, dictionary_VR(tag).split(" ")[0]


def _element(tag: BaseTag, vr: str, value: Any) -> DataElement | RawDataElement | None:
    """Make one element; None for what JSON does not tell."""
    if vr == "SQ":
        items = value if isinstance(value, list) else []
        return DataElement(tag, vr, Sequence([public_header(item) for item in items]))
    if not isinstance(value, str):
        return None
    if vr in WRITTEN:
        content = value.encode()
    elif vr in PACKED:
        try:
            numbers = [float(part) if vr[0] == "F" else int(part) for part in value.split("\\")]
            content = struct.pack(f"<{len(numbers)}{PACKED[vr]}", *numbers)
        except (ValueError, struct.error):
            return None
    else:
        return None
    return RawDataElement(tag, vr, len(content), content, 0, False, True)
