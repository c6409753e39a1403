"""Siemens VB, VD, VE and XA, classic and enhanced.

The protocol (ASCCONV) tells each factor; the text that the viewer shows (``p2``, ``p2 s3``) tells
the total over both directions, and the slices excited at once. VB and VE keep them in the blocks
``SIEMENS CSA HEADER`` and ``SIEMENS MR HEADER`` and leave the text out where nothing was
accelerated; XA in the blocks ``SIEMENS MR SDS 01`` and ``SIEMENS MR SDI 02``, in enhanced objects
within a private sequence of the functional groups.

Deep Resolve leaves tokens in ImageType, in enhanced objects only in the private image type.
(0021,xx76) and the protocol's ``sDeepResolve...`` and ``sIterativeDenoising...`` are there when it
is off as well.
"""

import re
from collections.abc import Sequence

from pydicom import DataElement, Dataset

from halfscan_plugin.headers import element, printable, stripped_text, texts, value_text
from halfscan_plugin.vendors.ascconv import Protocol, read_protocol
from halfscan_plugin.vendors.findings import Evidence, Findings, evidence_of_element, tag_text
from halfscan_plugin.vendors.places import (
    Block,
    find,
    holds,
    is_empty,
    private_places,
    public_places,
)
from halfscan_plugin.vendors.standard import COMPRESSED_SENSING, is_3d, techniques

__all__ = ["read"]

CLASSIC = Block(0x0051, "SIEMENS MR HEADER")
CLASSIC_TEXT, CLASSIC_VERSION = 0x11, 0x08
CSA = Block(0x0029, "SIEMENS CSA HEADER")
CSA_SERIES = 0x20
XA = Block(0x0021, "SIEMENS MR SDS 01")
XA_TEXT, XA_PROTOCOL = 0x09, 0x19
XA_IMAGE = Block(0x0021, "SIEMENS MR SDI 02")
XA_IMAGE_TEXT, XA_IMAGE_TYPE = 0x56, 0x75
# Lower case p: GRAPPA, upper case: mSENSE; s: slices at once.
TEXT = re.compile(r"(?:p(?P<total>\d+(?:\.\d+)?))?\s*(?:s(?P<bands>\d+))?", re.IGNORECASE)
# Deep Resolve Boost, Gain and Sharp.
DEEP_RESOLVE = {"DRB", "DRG", "DRS"}

PAT_MODE = "sPat.ucPATMode"
PAT_OFF, PAT_COMPRESSED_SENSING = 1, 256
BANDS = "sSliceAcceleration.lMultiBandFactor"
SEQUENCE_FILE, PRODUCT = "tSequenceFileName", "%SiemensSeq%"
# CMRR's sequences keep the slices at once here; for VD and VE, many wrote 1 into `BANDS` whatever
# it was (github.com/CMRR-C2P/MB, issue 223).
CMRR, CMRR_BANDS = "cmrr_", ("sWipMemBlock.alFree[13]", "sWiPMemBlock.alFree[13]")
PARTIAL_FOURIER = tuple(
    f"sKSpace.uc{direction}PartialFourier" for direction in ("Phase", "Slice", "Readout")
)
FULL_FOURIER = 16  # 16: all of k-space, 8: 7/8, 4: 6/8, 2: 5/8, 1: 4/8


def read(header: Dataset, findings: Findings) -> None:
    """Add what Siemens' private attributes say."""
    places = private_places(header, XA.group)
    protocol = _Protocol.find(places)
    if protocol is not None:
        protocol.add_factors(findings)
        protocol.add_bands(findings)
        protocol.add_others(findings)
    _read_text(header, places, findings)
    _read_deep_resolve(header, places, findings)


class _Protocol:
    """A protocol, the element that holds it, and what it says."""

    def __init__(self, protocol: Protocol, found: DataElement, name: str) -> None:
        self.protocol, self.found, self.name = protocol, found, name

    @classmethod
    def find(cls, places: Sequence[Dataset]) -> "_Protocol | None":
        """Find the protocol of XA, else that of VB and VE."""
        for block, low in ((XA, XA_PROTOCOL), (CSA, CSA_SERIES)):
            found = find(places, block, low)
            value = None if found is None else found.value
            data = value.encode("latin-1", "replace") if isinstance(value, str) else value
            protocol = read_protocol(data) if isinstance(data, bytes) else None
            if found is not None and protocol is not None:
                return cls(protocol, found, block.name(low))
        return None

    def evidence(self, key: str, says: str) -> Evidence:
        """Make the evidence of one line."""
        written = printable(self.protocol.values.get(key, ""))
        return Evidence(tag_text(self.found.tag), f"{self.name} {key}", written, says)

    def add_factors(self, findings: Findings) -> None:
        """Add the factors in plane, along slices and of compressed sensing."""
        mode = self.protocol.number(PAT_MODE)
        if mode == PAT_OFF:
            evidence = self.evidence(PAT_MODE, "no parallel imaging, no compressed sensing")
            for fact in ("in_plane_factor", "slice_factor", "compressed_sensing_factor"):
                findings.add(fact, 1.0, evidence)
            return
        for key, fact, says in (
            ("sPat.lAccelFactPE", "in_plane_factor", "factor in plane"),
            ("sPat.lAccelFact3D", "slice_factor", "factor along slices"),
        ):
            self._add_number(key, fact, says, findings)
        if mode == PAT_COMPRESSED_SENSING:
            # Only under this mode is the total believed: it also reads 2.0 on a p3 scan.
            key = "sPat.dTotalAccelFact"
            self._add_number(key, "compressed_sensing_factor", "compressed sensing by", findings)
        elif mode is not None and mode > 0:
            evidence = self.evidence(PAT_MODE, "no compressed sensing")
            findings.add("compressed_sensing_factor", 1.0, evidence)

    def add_bands(self, findings: Findings) -> None:
        """Add the slices excited at once, unless the sequence is known not to write them."""
        sequence = self.protocol.values.get(SEQUENCE_FILE, "")
        bands = self.protocol.number(BANDS)
        if bands is not None and bands >= 1:
            if bands > 1 or CMRR not in sequence.lower() or self._cmrr_agrees():
                self._add_number(BANDS, "multiband_factor", "slices excited at once:", findings)
        elif self.protocol.complete and PRODUCT in sequence and BANDS not in self.protocol.values:
            says = "a product sequence of a release without simultaneous slices"
            findings.add("multiband_factor", 1.0, self.evidence(SEQUENCE_FILE, says))

    def _cmrr_agrees(self) -> bool:
        """Say whether one slice at a time is what CMRR's own field says; in XA it may be absent."""
        own = [n for key in CMRR_BANDS if (n := self.protocol.number(key)) is not None]
        return own == [1.0] or (not own and self.found.tag.group == XA.group)

    def add_others(self, findings: Findings) -> None:
        """Add partial Fourier and averages."""
        known = {key: n for key in PARTIAL_FOURIER if (n := self.protocol.number(key)) is not None}
        partial = [key for key, n in known.items() if 0 < n < FULL_FOURIER]
        if partial:
            says = f"partial Fourier, {FULL_FOURIER} would be full"
            findings.add("partial_fourier", True, self.evidence(partial[0], says))
        elif FULL_FOURIER in known.values():
            evidence = self.evidence(next(iter(known)), "no partial Fourier")
            findings.add("partial_fourier", False, evidence)
        self._add_number("lAverages", "averages", "averages", findings)

    def _add_number(self, key: str, fact: str, says: str, findings: Findings) -> None:
        value = self.protocol.number(key)
        if value is not None and value > 0:
            findings.add(fact, value, self.evidence(key, f"{says} {value:g}"))


def _is_xa(header: Dataset, places: Sequence[Dataset]) -> bool:
    """Say whether XA wrote the object: it keeps the classic block, but not the text in it."""
    version = stripped_text(find(places, CLASSIC, CLASSIC_VERSION))
    software = "\\".join(texts(header, "SoftwareVersions"))
    return holds(places, XA) or version.endswith("X") or " XA" in f" {software.upper()}"


def _read_text(header: Dataset, places: Sequence[Dataset], findings: Findings) -> None:
    is_xa = _is_xa(header, places)
    where = ((XA, XA_TEXT), (XA_IMAGE, XA_IMAGE_TEXT)) if is_xa else ((CLASSIC, CLASSIC_TEXT),)
    for block, low in where:
        found = find(places, block, low)
        if found is not None:
            _add_text(header, found, block.name(low), findings)
            return
    block, low = where[0]
    # Compressed sensing has no text either.
    unknown = techniques(public_places(header)) & COMPRESSED_SENSING
    if any(is_empty(places, *place) for place in where):
        findings.evidence.append(block.absent(low, "there, but empty: says nothing"))
    elif holds(places, block) and not unknown:
        absent = block.absent(low, "absent: not accelerated")
        findings.conclude("in_plane_factor", 1.0, absent)
        findings.conclude("slice_factor", 1.0, absent)


def _add_text(header: Dataset, found: DataElement, name: str, findings: Findings) -> None:
    match = TEXT.fullmatch(stripped_text(found))
    total = float(match["total"] or 1.0) if match is not None else 0.0
    if match is None or not (match["total"] or match["bands"]) or total == 0:
        findings.evidence.append(evidence_of_element(found, name, "not understood"))
        return
    evidence = evidence_of_element(found, name, f"total factor {total:g}")
    if "in_plane_factor" in findings.facts:
        findings.evidence.append(evidence)
    elif is_3d(header) and total >= 2 and total.is_integer():
        # A product of whole numbers: one of the two is at least 2, but which is not written.
        findings.conclude("unknown_factor", True, evidence)
    else:
        findings.conclude("in_plane_factor", total, evidence)
        findings.conclude("slice_factor", 1.0, evidence)
    bands = float(match["bands"] or 0)
    if bands > 0:
        says = f"{bands:g} slices excited at once"
        findings.add("multiband_factor", bands, evidence_of_element(found, name, says))


def _read_deep_resolve(header: Dataset, places: Sequence[Dataset], findings: Findings) -> None:
    image_type = element(header, "ImageType")
    private = find(places, XA_IMAGE, XA_IMAGE_TYPE)
    known = [(image_type, "ImageType"), (private, XA_IMAGE.name(XA_IMAGE_TYPE))]
    present = [(f, name) for f, name in known if f is not None and stripped_text(f)]
    for found, name in present:
        tokens = DEEP_RESOLVE.intersection(value_text(found).strip(" \0").split("\\"))
        if tokens:
            says = f"Deep Resolve ({', '.join(sorted(tokens))})"
            findings.add("deep_learning", True, evidence_of_element(found, name, says))
            return
    # The ImageType of an enhanced object never holds the tokens, so it cannot deny them.
    if present and (private is not None or "SharedFunctionalGroupsSequence" not in header):
        found, name = present[-1]
        says = "no Deep Resolve token"
        findings.add("deep_learning", False, evidence_of_element(found, name, says))
