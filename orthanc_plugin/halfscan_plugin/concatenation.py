"""Concatenations: one multi-frame object in several parts (PS3.3 C.7.6.16.2.2.4).

ConcatenationFrameOffsetNumber says how many frames lie in the parts before, so that a hole shows
where InConcatenationTotalNumber, which a part need not have, is absent.
"""

from collections.abc import Sequence

from pydicom import Dataset

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import integer, text

__all__ = ["check_concatenations", "concatenation", "concatenation_number", "missing_parts"]


def concatenation(header: Dataset) -> str:
    """Give the ConcatenationUID of an object; empty where it is no part of a concatenation."""
    return text(header, "ConcatenationUID")


def concatenation_number(header: Dataset) -> int:
    """Give the place of an object among the parts of its concatenation, from 1 on; 0 if none."""
    return integer(header, "InConcatenationNumber") or 0


def missing_parts(headers: Sequence[Dataset]) -> dict[str, tuple[int, ...]]:
    """Find concatenations of which a part is not there.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of a series, in any order.

    Returns
    -------
    dict of str to tuple of int
        By ConcatenationUID, InConcatenationNumber of each missing part; empty where all parts are
        there. The last parts are missed only where InConcatenationTotalNumber tells how many
        there are.
    """
    parts: dict[str, list[Dataset]] = {}
    for header in headers:
        if concatenation(header):
            parts.setdefault(concatenation(header), []).append(header)
    missing = {uid: _missing(members) for uid, members in parts.items()}
    return {uid: numbers for uid, numbers in missing.items() if numbers}


def check_concatenations(headers: Sequence[Dataset]) -> None:
    """Refuse a series of which a part of a concatenation is not there.

    Raises
    ------
    UnreadableSeries
        ``incomplete_concatenation``; the part may still arrive.
    """
    for uid, numbers in missing_parts(headers).items():
        present = sum(concatenation(header) == uid for header in headers)
        shown = ", ".join(map(str, numbers))
        raise UnreadableSeries(
            "incomplete_concatenation",
            f"concatenation {uid} has {present} of {present + len(numbers)} parts: "
            f"InConcatenationNumber {shown} is missing",
        )


def _missing(parts: Sequence[Dataset]) -> tuple[int, ...]:
    numbers = {concatenation_number(part) for part in parts}
    if min(numbers) < 1:  # required, but not there: then the frames before tell
        numbers = _numbers_by_offset(parts)
    total = max(numbers)
    for part in parts:
        total = max(total, integer(part, "InConcatenationTotalNumber") or 0)
    return tuple(sorted(set(range(1, total + 1)) - numbers))


def _numbers_by_offset(parts: Sequence[Dataset]) -> set[int]:
    """Number parts by the frames before them; where frames are missing, so is one part."""
    numbers, number, frames = set[int](), 0, 0
    known = [(integer(part, "ConcatenationFrameOffsetNumber") or 0, part) for part in parts]
    for offset, part in sorted(known, key=lambda item: item[0]):
        number += 1 + (offset > frames)
        numbers.add(number)
        frames = offset + (integer(part, "NumberOfFrames") or 0)
    return numbers
