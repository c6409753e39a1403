"""Philips, classic and enhanced.

The standard's attributes are there, but in classic objects they stand in a private sequence,
(2005,xx0F) of ``Philips MR Imaging DD 005``; enhanced objects have them at the top level and once
more in (2005,xx0E) and (2005,xx0F) of the functional groups (other creators use these numbers for
other things). The flag and the name of the technique are often stale: the factors are believed.
Under ``CSENSE`` the factor is that of compressed sensing. SmartSpeed AI is named in (2005,xx10)
of ``Philips MR Imaging DD 008``.
"""

import re
from collections.abc import Sequence

from pydicom import Dataset

from halfscan_plugin.headers import items, private_block, stripped_text, text
from halfscan_plugin.vendors.findings import Evidence, Findings, evidence_of, evidence_of_element
from halfscan_plugin.vendors.places import (
    Block,
    find,
    functional_groups,
    private_places,
    public_places,
)
from halfscan_plugin.vendors.standard import (
    COMPRESSED_SENSING,
    parallel_acquisition,
    techniques,
)

__all__ = ["nested_places", "read"]

NESTED = Block(0x2005, "Philips MR Imaging DD 005")
NESTED_LOW = (0x0E, 0x0F)
# How the coils were combined: SYN_COCA without parallel imaging, SENSE with any kind of it.
COMBINATION = Block(0x2005, "Philips MR Imaging DD 001")
COMBINATION_LOW, NOT_PARALLEL = 0xA1, "SYN_COCA"
TECHNIQUE = Block(0x2005, "Philips MR Imaging DD 008")
TECHNIQUE_LOW = 0x10
WITHOUT_AI = {"NONE", "SENSE", "CSENSE", "CSSENSE", "CS_SENSE", "MBSENSE", "MB_SENSE"}
# Gyroscans of the 1990s: SENSE was published in 1999 (doi:10.1002/(SICI)1522-2594).
BEFORE_PARALLEL_IMAGING = {"T5", "S5", "S15", "GYROSCAN T5", "GYROSCAN S5", "GYROSCAN S15"}
EVERY_FACTOR = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
)


def nested_places(header: Dataset) -> list[Dataset]:
    """Give the private places where Philips puts the standard's attributes."""
    found = []
    for place in [header, *functional_groups(header)]:
        block = private_block(place, NESTED.group, NESTED.creator)
        for low in NESTED_LOW:
            if low in block:
                found += items(place, block[low])[:1]
    return found


def read(header: Dataset, findings: Findings) -> None:
    """Add what Philips' attributes say beyond the standard's reading of them."""
    nested = nested_places(header)
    _read_techniques([*public_places(header), *nested], findings)
    private = [*private_places(header, NESTED.group), *nested]
    _read_combination(private, findings)
    model = text(header, "ManufacturerModelName").strip().upper()
    if model in BEFORE_PARALLEL_IMAGING:
        says = "a scanner from before parallel imaging"
        evidence = evidence_of(header, "ManufacturerModelName", says)
        for fact in EVERY_FACTOR:
            findings.conclude(fact, 1.0, evidence)
        findings.conclude("deep_learning", False, evidence)
    _read_smart_speed(private, findings)


def _read_techniques(places: Sequence[Dataset], findings: Findings) -> None:
    """Conclude what it means that Philips names every technique in one attribute."""
    names, flag = techniques(places), parallel_acquisition(places)
    known = names or flag is False
    place, keyword = _speaker(places)
    if not known or place is None:
        return

    def evidence(says: str) -> Evidence:
        return evidence_of(place, keyword, says)

    if "MBSENSE" not in names:
        findings.conclude("multiband_factor", 1.0, evidence("slices excited one by one"))
    facts = findings.facts
    if not names & COMPRESSED_SENSING:
        findings.conclude("compressed_sensing_factor", 1.0, evidence("no compressed sensing"))
    elif "in_plane_factor" in facts:
        # One factor is set at the console; in 3D it may be split over two directions.
        total = facts["in_plane_factor"] * facts.get("slice_factor", 1.0)
        says = f"compressed sensing by {total:g}"
        findings.conclude("compressed_sensing_factor", total, evidence(says))


def _speaker(places: Sequence[Dataset]) -> tuple[Dataset | None, str]:
    """Find the attribute that tells the technique: its name or, without one, the flag."""
    for keyword in ("ParallelAcquisitionTechnique", "ParallelAcquisition"):
        for place in places:
            if text(place, keyword):
                return place, keyword
    return None, ""


def _read_combination(places: Sequence[Dataset], findings: Findings) -> None:
    found = find(places, COMBINATION, COMBINATION_LOW)
    if found is None or "in_plane_factor" in findings.facts:
        return
    name = COMBINATION.name(COMBINATION_LOW)
    if stripped_text(found) == NOT_PARALLEL:
        evidence = evidence_of_element(found, name, "coils combined without parallel imaging")
        for fact in EVERY_FACTOR:
            findings.conclude(fact, 1.0, evidence)
    else:
        says = "parallel imaging perhaps, by an unknown factor"
        findings.evidence.append(evidence_of_element(found, name, says))


def _read_smart_speed(places: Sequence[Dataset], findings: Findings) -> None:
    found = find(places, TECHNIQUE, TECHNIQUE_LOW)
    if found is None:
        return
    name, written = TECHNIQUE.name(TECHNIQUE_LOW), stripped_text(found).upper()
    if "AI" in re.split(r"[^A-Z]+", written):
        findings.add("deep_learning", True, evidence_of_element(found, name, "SmartSpeed AI"))
    elif written in WITHOUT_AI:
        evidence = evidence_of_element(found, name, "no SmartSpeed AI")
        findings.add("deep_learning", False, evidence)
    else:
        findings.evidence.append(evidence_of_element(found, name, "not understood"))
