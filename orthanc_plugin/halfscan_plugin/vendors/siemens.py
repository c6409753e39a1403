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
    has_xa = any(_block(place, *XA[:2]) for place in _places(header))
    found = _find(header, XA) if has_xa else _find(header, CLASSIC)
    group, creator, low = XA if has_xa else CLASSIC
    name = f"[{creator}] xx{low:02X}"
    if found is not None:
        _read_text(found, name, findings)
    elif has_xa or any(_block(place, *CLASSIC[:2]) for place in _places(header)):
        absent = Evidence(f"({group:04X},xx{low:02X})", name, "", "absent: not accelerated")
        findings.add("in_plane_factor", 1.0, absent)
    _read_deep_resolve(header, findings)


def _read_text(element: DataElement, name: str, findings: Findings) -> None:
    match = TEXT.match(str(element.value).strip())
    if match is None or not (match["total"] or match["bands"]):
        findings.evidence.append(evidence_of_element(element, name, "not understood"))
        return
    total = float(match["total"] or 1.0)
    findings.add(
        "in_plane_factor", total, evidence_of_element(element, name, f"total factor {total:g}")
    )
    if match["bands"]:
        bands = float(match["bands"])
        says = f"{bands:g} slices excited at once"
        findings.add("multiband_factor", bands, evidence_of_element(element, name, says))


def _read_deep_resolve(header: Dataset, findings: Findings) -> None:
    image_type = header.get("ImageType")
    elements = [(header["ImageType"], "ImageType")] if image_type else []
    private = _find(header, XA_IMAGE_TYPE)
    if private is not None:
        elements.append((private, f"[{XA_IMAGE_TYPE[1]}] xx75"))
    for element, name in elements:
        values = [element.value] if isinstance(element.value, str) else list(element.value)
        tokens = DEEP_RESOLVE.intersection(values)
        if tokens:
            says = f"Deep Resolve ({', '.join(sorted(tokens))})"
            findings.add("deep_learning", True, evidence_of_element(element, name, says))
            return
    if elements:
        element, name = elements[-1]
        findings.add(
            "deep_learning", False, evidence_of_element(element, name, "no Deep Resolve token")
        )


def _places(header: Dataset) -> Iterator[Dataset]:
    """Yield the object and, in enhanced ones, the private sequences of its functional groups."""
    yield header
    groups = list(header.get("SharedFunctionalGroupsSequence") or [])
    groups += list(header.get("PerFrameFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        for element in group:
            if element.tag.is_private and element.VR == "SQ":
                yield from element.value


def _block(place: Dataset, group: int, creator: str) -> bool:
    return creator in place.private_creators(group)


def _find(header: Dataset, where: tuple[int, str, int]) -> DataElement | None:
    group, creator, low = where
    for place in _places(header):
        if _block(place, group, creator):
            block = place.private_block(group, creator)
            if low in block and block[low].value not in (None, "", b""):
                return block[low]
    return None
