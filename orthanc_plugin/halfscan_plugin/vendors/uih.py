"""United Imaging: the text of (0065,xx0D) in ``Image Private Header``, ``F:2S`` or ``F:2.50``.

The vendor calls it "ratio of parallel acquisition and acceleration". Where it names one factor, no
other acceleration is named, and none is assumed. How an unaccelerated series looks was not seen:
an absent text tells nothing. (UIH writes (0018,9073) AcquisitionDuration in milliseconds.)
"""

import re

from pydicom import Dataset

from halfscan_plugin.headers import stripped_text
from halfscan_plugin.vendors.findings import Findings, evidence_of_element
from halfscan_plugin.vendors.places import Block, find, private_places

__all__ = ["read"]

BLOCK = Block(0x0065, "Image Private Header")
TEXT_LOW = 0x0D
TEXT = re.compile(r"F:(?P<factor>\d{1,2}(?:\.\d{1,4})?)S?")


def read(header: Dataset, findings: Findings) -> None:
    """Add what UIH's private attributes say."""
    found = find(private_places(header, BLOCK.group), BLOCK, TEXT_LOW)
    if found is not None:
        match = TEXT.fullmatch(stripped_text(found))
        factor = float(match["factor"]) if match is not None else 0.0
        says = f"factor in plane {factor:g}" if factor > 0 else "not understood"
        evidence = evidence_of_element(found, BLOCK.name(TEXT_LOW), says)
        if factor > 0:
            findings.add("in_plane_factor", factor, evidence)
            others = evidence_of_element(found, BLOCK.name(TEXT_LOW), "names no other acceleration")
            for fact in ("slice_factor", "multiband_factor", "compressed_sensing_factor"):
                findings.conclude(fact, 1.0, others)
        else:
            findings.evidence.append(evidence)
