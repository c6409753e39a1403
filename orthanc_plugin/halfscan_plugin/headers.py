"""Attributes of a header as plain values, whatever a file holds.

pydicom converts a value when it is asked for it, and raises all kinds of exceptions where the
bytes do not fit the value representation. Here an attribute that cannot be read counts as absent,
and one of another type than the standard says gives no number: who needs the attribute says what
is missing.
"""

import contextlib
import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydicom import DataElement, Dataset, config
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

__all__ = [
    "as_number",
    "element",
    "elements",
    "integer",
    "items",
    "number",
    "numbers",
    "printable",
    "private_block",
    "stripped_text",
    "text",
    "texts",
    "uid",
    "undecoded",
    "value_text",
]

LONGEST_UNKNOWN = 1 << 24  # bytes of an unknown element that are tried as a sequence


def element(dataset: Dataset, name: str | BaseTag) -> DataElement | None:
    """Give an element by keyword or tag; None if it is absent or cannot be read."""
    if name not in dataset:
        return None
    # ValueError, TypeError, KeyError, NotImplementedError, OverflowError, LookupError and more:
    # what pydicom raises depends on the value representation.
    with contextlib.suppress(Exception):
        return dataset[name]
    return None


def undecoded(dataset: Dataset, name: str | BaseTag) -> DataElement | RawDataElement | None:
    """Give an element as it stands there, decoded or not; None if it is absent or damaged."""
    with contextlib.suppress(Exception):  # as in `element`
        return dataset.get_item(name)
    return None


def elements(dataset: Dataset) -> Iterator[DataElement]:
    """Yield the elements that can be read, in the order of their tags."""
    for tag in sorted(dataset.keys()):
        found = element(dataset, tag)
        if found is not None:
            yield found


def items(dataset: Dataset, name: str | BaseTag) -> list[Dataset]:
    """Give the items of a sequence; none if it is absent, cannot be read or is no sequence.

    A private sequence that went through a file with implicit VR is an element of VR UN: its bytes
    are a sequence in implicit VR, little endian (PS3.5 section 6.2.2).
    """
    found = element(dataset, name)
    if found is None:
        return []
    if found.VR == "UN" and isinstance(found.value, bytes):
        return _items_of_bytes(found.value)
    return list(found.value) if isinstance(found.value, Sequence) else []


def _items_of_bytes(data: bytes) -> list[Dataset]:
    if not data.startswith(b"\xfe\xff\x00\xe0") or len(data) > LONGEST_UNKNOWN:
        return []
    # Text or numbers that happen to begin like an item make the parser raise all kinds of errors.
    with contextlib.suppress(Exception):
        return list(read_sequence(BytesIO(data), True, True, len(data), ["iso8859"]))
    return []


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Give the values of an attribute as texts; an empty list if it has none."""
    found = element(dataset, keyword)
    if found is None or found.value is None or isinstance(found.value, Sequence | bytes):
        return []
    values = found.value if isinstance(found.value, MultiValue | list) else [found.value]
    written = [_written(value) for value in values]
    return [] if written == [""] else written


def text(dataset: Dataset, keyword: str) -> str:
    r"""Give an attribute as one text, values joined by ``\``; empty if it has none."""
    return "\\".join(texts(dataset, keyword))


def uid(dataset: Dataset, keyword: str) -> UID:
    """Give an attribute as a UID, valid or not; empty if it has none."""
    return UID(text(dataset, keyword), config.IGNORE)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Give the values of an attribute as finite numbers; empty unless all of them are."""
    found = element(dataset, keyword)
    if found is None:
        return ()
    values = [as_number(value) for value in _as_list(found.value)]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """Give an attribute as one finite number; None if it is anything else."""
    found = element(dataset, keyword)
    return None if found is None else as_number(found.value)


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Give an attribute as one whole number; None if it is anything else."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def private_block(dataset: Dataset, group: int, creator: str) -> dict[int, BaseTag]:
    """Find the elements of a private block (PS3.5 section 7.8.1).

    Parameters
    ----------
    dataset : Dataset
        Where to look, not below.
    group : int
        An odd group number.
    creator : str
        The private creator.

    Returns
    -------
    dict of int to BaseTag
        Tags by their low byte; empty where the block is not there or holds nothing.
    """
    tags = [tag for tag in dataset.keys() if tag.group == group]  # noqa: SIM118  (no dict: Dataset)
    starts = {
        tag.element
        for tag in tags
        if 0x10 <= tag.element <= 0xFF and stripped_text(element(dataset, tag)) == creator
    }
    return {tag.element & 0xFF: tag for tag in tags if tag.element >> 8 in starts}


def value_text(found: DataElement | None) -> str:
    r"""Give an element's value as text, values joined by ``\``; bytes are taken for ASCII.

    A sequence has no text.
    """
    if found is None or found.value is None or isinstance(found.value, Sequence):
        return ""
    return "\\".join(_written(value) for value in _as_list(found.value))


def _written(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    # A person's name is decoded only now, with the character sets that the file claims.
    with contextlib.suppress(Exception):
        return str(value)
    return ""


def stripped_text(found: DataElement | None) -> str:
    """Give an element's value as text, without the spaces and zero bytes that pad it."""
    return value_text(found).strip(" \0\t\r\n")


def as_number(value: Any) -> float | None:
    """Give a value as a finite number, or None."""
    if isinstance(value, bytes):
        return None
    try:
        converted = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list) else [value]


def printable(written: str, longest: int = 200) -> str:
    """Make a text fit for a line on a terminal and for any database.

    Control characters become ``?``; beyond `longest` characters it ends with ``...``.
    """
    short = written if len(written) <= longest else written[: longest - 3] + "..."
    return "".join(c if c.isprintable() else "?" for c in short).strip()
