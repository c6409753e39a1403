"""The image header of Siemens' CSA format, reduced to fields that name nobody.

Up to VE11, a scanner of Siemens puts about a hundred named fields into one private attribute,
(0029,xx10). A program that unpacks a mosaic needs a few of them; others are free texts, and the
bytes behind the end of a text are whatever the scanner's memory held. So the header is written
anew: the wanted fields, each with its texts and nothing behind them.

The layout ("SV10") is not published; what is written here is what nibabel describes
(https://nipy.org/nibabel/dicom/siemens_csa.html). Little endian throughout:

    "SV10", 4 bytes, number of fields (4 bytes), 77 (4 bytes), then for each field
    name (64), VM (4), VR (4), type (4), number of texts (4), 77 or 205 (4), then for each text
    four times 4 bytes, the second of which is its length, and the text, padded to 4 bytes
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

__all__ = ["CsaField", "read_fields", "reduce_csa", "write_fields"]

MAGIC = b"SV10"
HEAD = struct.Struct("<4s4sII")
FIELD = struct.Struct("<64si4siii")
TEXT = struct.Struct("<4i")
# Field and text counts of real headers stay far below; beyond, the bytes are something else.
MOST_FIELDS, MOST_TEXTS = 1000, 100_000


@dataclass(frozen=True, slots=True)
class CsaField:
    """One field: its name, what it is said to be, and its texts (some are empty)."""

    name: str
    vm: int
    vr: str
    kind: int
    mark: int
    texts: tuple[str, ...]


def read_fields(content: bytes) -> list[CsaField]:
    """Read a CSA header.

    Raises
    ------
    ValueError
        If the bytes do not have the format, or end too early.
    """
    try:
        return list(_fields(content))
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not a CSA header of the format SV10: {error}") from error


def write_fields(fields: Collection[CsaField]) -> bytes:
    """Write a CSA header."""
    parts = [HEAD.pack(MAGIC, b"\4\3\2\1", len(fields), 77)]
    for field in fields:
        name, vr = field.name.encode("ascii"), field.vr.encode("ascii")
        parts.append(FIELD.pack(name, field.vm, vr, field.kind, len(field.texts), field.mark))
        for text in field.texts:
            value = text.encode("latin-1") + b"\0" if text else b""
            parts.append(TEXT.pack(len(value), len(value), 77, len(value)))
            parts.append(value + b"\0" * (-len(value) % 4))
    return b"".join([*parts, b"\0\0\0\0"])


def reduce_csa(content: bytes, names: Collection[str]) -> bytes:
    """Write a CSA header anew, with the fields of these names only.

    Raises
    ------
    ValueError
        If the bytes do not have the format.
    """
    return write_fields([field for field in read_fields(content) if field.name in names])


def _fields(content: bytes) -> Iterator[CsaField]:
    magic, _, count, _ = HEAD.unpack_from(content)
    if magic != MAGIC or count > MOST_FIELDS:
        raise ValueError("not a CSA header of the format SV10")
    at = HEAD.size
    for _ in range(count):
        name, vm, vr, kind, number, mark = FIELD.unpack_from(content, at)
        at += FIELD.size
        if not 0 <= number <= MOST_TEXTS:
            raise ValueError(f"a field of a CSA header cannot have {number} texts")
        texts = []
        for _ in range(number):
            length = TEXT.unpack_from(content, at)[1]
            at += TEXT.size
            if length < 0 or at + length > len(content):
                raise ValueError("a text of a CSA header ends behind its end")
            texts.append(_until_null(content[at : at + length]).decode("latin-1"))
            at += length + -length % 4
        yield CsaField(_name(name), vm, _name(vr), kind, mark, tuple(texts))


def _until_null(content: bytes) -> bytes:
    return content.split(b"\0", 1)[0]


def _name(content: bytes) -> str:
    return _until_null(content).decode("ascii")
