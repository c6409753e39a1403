"""Siemens: the text of the private headers (VB, VE and XA).

VB and VE write ``p2`` at (0051,xx11) of the block ``SIEMENS MR HEADER`` and leave the element
out where nothing was accelerated. XA writes ``p2`` or ``p2 s3`` (s: slices excited at once) at
(0021,xx09) of ``SIEMENS MR SDS 01``, in enhanced objects inside a private sequence. In 3D the
text gives the total factor. Private elements are found by their creator, never by the full
number: the block moves.
"""

import re
from collections.abc import Iterator

from pydicom import DataElement, Dataset

from halfscan_plugin.headers import element, elements, items, private_block, value_text
from halfscan_plugin.vendors.findings import Evidence, Findings, evidence_of_element

__all__ = ["read"]

CLASSIC = (0x0051, "SIEMENS MR HEADER", 0x11)
XA = (0x0021, "SIEMENS MR SDS 01", 0x09)
XA_IMAGE_TYPE = (0x0021, "SIEMENS MR SDI 02", 0x75)
# Deep Resolve Boost, Gain and Sharp.
DEEP_RESOLVE = {"DRB", "DRG", "DRS"}
TEXT = re.compile(r"^(?:p(?P<total>\d+(?:\.\d+)?))?\s*(?:s(?P<bands>\d+))?$")


def read(header: Dataset, findings: Findings) -> None:
    """Add what Siemens' private attributes say."""
    places = list(_places(header))
    has_xa = _has_block(places, XA)
    where = XA if has_xa else CLASSIC
    group, creator, low = where
    name = f"[{creator}] xx{low:02X}"
    found = _find(places, where)
    if found is not None:
        _read_text(found, name, findings)
    elif _has_block(places, where):
        absent = Evidence(f"({group:04X},xx{low:02X})", name, "", "absent: not accelerated")
        findings.add("in_plane_factor", 1.0, absent)
    _read_deep_resolve(header, places, findings)


def _read_text(found: DataElement, name: str, findings: Findings) -> None:
    match = TEXT.match(value_text(found).strip())
    total = float(match["total"] or 1.0) if match is not None else 0.0
    if match is None or not (match["total"] or match["bands"]) or total == 0:
        findings.evidence.append(evidence_of_element(found, name, "not understood"))
        return
    findings.add(
        "in_plane_factor", total, evidence_of_element(found, name, f"total factor {total:g}")
    )
    bands = float(match["bands"] or 0)
    if bands > 0:
        says = f"{bands:g} slices excited at once"
        findings.add("multiband_factor", bands, evidence_of_element(found, name, says))


def _read_deep_resolve(header: Dataset, places: list[Dataset], findings: Findings) -> None:
    image_type = element(header, "ImageType")
    private = _find(places, XA_IMAGE_TYPE)
    known = [(image_type, "ImageType"), (private, f"[{XA_IMAGE_TYPE[1]}] xx{XA_IMAGE_TYPE[2]:02X}")]
    present = [(found, name) for found, name in known if found is not None]
    for found, name in present:
        tokens = DEEP_RESOLVE.intersection(value_text(found).split("\\"))
        if tokens:
            says = f"Deep Resolve ({', '.join(sorted(tokens))})"
            findings.add("deep_learning", True, evidence_of_element(found, name, says))
            return
    # The ImageType of an enhanced object never holds the tokens, so it cannot deny them.
    if present and (private is not None or "SharedFunctionalGroupsSequence" not in header):
        found, name = present[-1]
        says = "no Deep Resolve token"
        findings.add("deep_learning", False, evidence_of_element(found, name, says))


def _places(header: Dataset) -> Iterator[Dataset]:
    """Yield the object and, in enhanced ones, the private sequences of its functional groups."""
    yield header
    groups = items(header, "SharedFunctionalGroupsSequence")
    groups += items(header, "PerFrameFunctionalGroupsSequence")[:1]
    for group in groups:
        for found in elements(group):
            if found.tag.is_private:
                yield from items(group, found.tag)


def _has_block(places: list[Dataset], where: tuple[int, str, int]) -> bool:
    return any(private_block(place, *where[:2]) for place in places)


def _find(places: list[Dataset], where: tuple[int, str, int]) -> DataElement | None:
    """Find an element that holds something, by group, creator and low byte."""
    group, creator, low = where
    for place in places:
        tag = private_block(place, group, creator).get(low)
        found = None if tag is None else element(place, tag)
        if value_text(found).strip():
            return found
    return None
