"""Overlays in unused bits of the pixel cells (PS3.5 section 8.1.2, retired).

Scanners of before 2004 drew into the bits above BitsStored. Those bits are no part of a value, and
no part of derived pixels: a derived object has the overlay as OverlayData (PS3.3 C.9.2).
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag

from halfscan_plugin.headers import element, integer

__all__ = ["add_overlay_data", "embedded_bits", "embedded_overlays", "overlay_elements"]

GROUPS = range(0x6000, 0x6020, 2)  # PS3.5 section 7.6
ROWS, COLUMNS, FRAMES, ORIGIN, FIRST_FRAME = 0x0010, 0x0011, 0x0015, 0x0050, 0x0051
BITS_ALLOCATED, BIT_POSITION, DATA = 0x0100, 0x0102, 0x3000


def overlay_elements(header: Dataset) -> Iterator[BaseTag]:
    """Find the elements of overlays that stand in the pixel cells."""
    for group in GROUPS:
        position = element(header, _tag(group, BIT_POSITION))
        if position is not None and position.value and _tag(group, DATA) not in header:
            yield from (tag for tag in header.keys() if tag.group == group)  # noqa: SIM118  (Dataset)


def embedded_overlays(header: Dataset) -> dict[int, int]:
    """Give the overlays in unused bits of the pixel cells: bit position by group."""
    unused = range(integer(header, "BitsStored") or 0, integer(header, "BitsAllocated") or 0)
    positions = {}
    for group in sorted({tag.group for tag in overlay_elements(header)}):
        found = element(header, _tag(group, BIT_POSITION))
        if found is not None and found.value in unused:
            positions[group] = int(found.value)
    return positions


def embedded_bits(header: Dataset) -> int:
    """Give the bits of a pixel cell that hold overlays, as a mask."""
    return sum(1 << position for position in set(embedded_overlays(header).values()))


def add_overlay_data(
    derived: Dataset, source: Dataset, cells: npt.NDArray[np.integer[Any]]
) -> None:
    """Give a derived object the overlays that its source has in unused bits.

    Parameters
    ----------
    derived : Dataset
        Changed in place.
    source : Dataset
        Its source.
    cells : ndarray of integers, shape (frame, row, column)
        The source's pixel cells, all bits.
    """
    for group, position in embedded_overlays(source).items():
        for tag in sorted(tag for tag in overlay_elements(source) if tag.group == group):
            found = element(source, tag)
            if found is not None:
                derived.add(copy.copy(found))
        frames, rows, columns = cells.shape
        derived.add_new(_tag(group, ROWS), "US", rows)
        derived.add_new(_tag(group, COLUMNS), "US", columns)
        if frames > 1:
            derived.add_new(_tag(group, FRAMES), "IS", frames)
            derived.add_new(_tag(group, FIRST_FRAME), "US", 1)
        if _tag(group, ORIGIN) not in derived:
            derived.add_new(_tag(group, ORIGIN), "SS", [1, 1])
        derived.add_new(_tag(group, BITS_ALLOCATED), "US", 1)
        derived.add_new(_tag(group, BIT_POSITION), "US", 0)
        packed = np.packbits((cells >> position & 1).astype(np.uint8).ravel(), bitorder="little")
        content = packed.tobytes()
        derived.add(DataElement(_tag(group, DATA), "OW", content + b"\0" * (len(content) % 2)))


def _tag(group: int, number: int) -> BaseTag:
    return BaseTag(group << 16 | number)
