"""Where in an object attributes of the acquisition may stand, and how private ones are found.

A private element is known by its creator and the low byte of its number, never by the full
number: the block moves (PS3.5 section 7.8.1). pydicom leaves `private_creator` empty on sequences
that it read from a file, so the creators are looked up in the dataset itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset

from halfscan_plugin.headers import element, items, private_block, stripped_text, undecoded
from halfscan_plugin.vendors.findings import Evidence

__all__ = [
    "Block",
    "find",
    "functional_groups",
    "holds",
    "is_absent",
    "is_empty",
    "private_places",
    "public_places",
]

# Legacy converted objects keep what has no functional group of its own here (PS3.3 C.7.6.16.2.25).
CONVERTED = (
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)

# What an element with items in it may be called; None: read from a file with implicit VR.
MAYBE_ITEMS = {"SQ", "UN", None}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of private elements.

    Parameters
    ----------
    group : int
        An odd group number.
    creator : str
        The private creator.
    """

    group: int
    creator: str

    def name(self, low: int) -> str:
        """Name an element of the block, such as ``[GEMS_PARM_01] xx83``."""
        return f"[{self.creator}] xx{low:02X}"

    def absent(self, low: int, says: str) -> Evidence:
        """Make the evidence that an absent element gives."""
        return Evidence(f"({self.group:04X},xx{low:02X})", self.name(low), "", says)


def functional_groups(header: Dataset) -> list[Dataset]:
    """Give the shared functional groups and those of the first frame.

    Frames of one series share their protocol: the first speaks for all.
    """
    groups = items(header, "SharedFunctionalGroupsSequence")[:1]
    return groups + items(header, "PerFrameFunctionalGroupsSequence")[:1]


def public_places(header: Dataset) -> list[Dataset]:
    """Give the places where the public attributes may stand, the most general one first."""
    places = [header]
    for group in functional_groups(header):
        for name in ("MRModifierSequence", "MRAveragesSequence", *CONVERTED):
            places += items(group, name)[:1]
    return places


def private_places(header: Dataset, group: int) -> list[Dataset]:
    """Give the places where a vendor's private elements may stand.

    Parameters
    ----------
    header : Dataset
        A classic or enhanced object.
    group : int
        The number of the private group; its sequences are looked into, one level deep.

    Returns
    -------
    list of Dataset
        The object, its functional groups and, of each private sequence, the first item.
    """
    places = [header]
    for functional_group in functional_groups(header):
        places.append(functional_group)
        for name in CONVERTED:
            places += items(functional_group, name)[:1]
    return places + [item for place in places for item in _private_items(place, group)]


def _private_items(place: Dataset, group: int) -> Iterator[Dataset]:
    for tag in sorted(tag for tag in place.keys() if tag.group == group):  # noqa: SIM118
        # Asked before anything is decoded: groups hold hundreds of elements, and few sequences.
        if getattr(undecoded(place, tag), "VR", "") in MAYBE_ITEMS:
            yield from items(place, tag)[:1]


def find(places: Sequence[Dataset], block: Block, low: int) -> DataElement | None:
    """Find the first element of a block that holds something, by its low byte."""
    for place in places:
        tag = private_block(place, block.group, block.creator).get(low)
        found = None if tag is None else element(place, tag)
        if stripped_text(found):
            return found
    return None


def holds(places: Sequence[Dataset], block: Block) -> bool:
    """Say whether a block holds anything besides sequences.

    What is absent says something only where its neighbours are there: a block that an anonymiser
    emptied, or one that holds nothing but a sequence that cannot be read, tells nothing.
    """
    for place in places:
        for tag in private_block(place, block.group, block.creator).values():
            found = element(place, tag)
            if found is not None and found.VR != "SQ" and not _looks_like_items(found):
                return True
    return False


def is_empty(places: Sequence[Dataset], block: Block, low: int) -> bool:
    """Say whether an element is there and nowhere holds anything: somebody may have emptied it."""
    there = any(low in private_block(place, block.group, block.creator) for place in places)
    return there and find(places, block, low) is None


def is_absent(places: Sequence[Dataset], block: Block, low: int) -> bool:
    """Say whether an element is not there although its neighbours are.

    One that is there and empty tells nothing. Asked once `find` has found none.
    """
    return holds(places, block) and not is_empty(places, block, low)


def _looks_like_items(found: DataElement) -> bool:
    return isinstance(found.value, bytes) and found.value.startswith(b"\xfe\xff\x00\xe0")
