r"""GE: the block ``GEMS_PARM_01``.

(0043,xx83) gives the reciprocals of the factors in plane and along slices, ``0.5\1``; value 6 of
(0043,xx84) says whether parallel imaging was on (value 5 names a technique even when it was off);
(0043,xxB6) begins with the slices excited at once (HyperBand), (0043,xxB7) with the factor of
compressed sensing (HyperSense), 1 when off; (0043,xxCA) is there when AIR Recon DL was on.
``ACC_GEMS`` in ScanOptions stands at factor 1.5 as well and is not used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset

from halfscan_plugin.headers import as_number, integer, stripped_text, texts
from halfscan_plugin.vendors.findings import Findings, evidence_of_element
from halfscan_plugin.vendors.places import Block, find, is_absent, private_places

__all__ = ["read"]

BLOCK = Block(0x0043, "GEMS_PARM_01")
RECIPROCALS, PARALLEL, RECON_DL = 0x83, 0x84, 0xCA
# (0018,1020) ends with the release, such as DV28.0_R02, MR29.1_EA or SIGNA_LX1.MR30.1_DA.
RELEASE = re.compile(r"[A-Z]{2}(\d{2})\.\d")
# Sonic DL came with MR30 for cardiac cine; how it is marked is not known, nor what came later.
SONIC_DL_FROM = 30


@dataclass(frozen=True, slots=True)
class _Option:
    """An element whose first value is a factor, and its name in ScanOptions when it is on."""

    low: int
    name: str
    fact: str
    says: str


HYPERBAND = _Option(0xB6, "HYPERBAND_GEMS", "multiband_factor", "slices excited at once:")
HYPERSENSE = _Option(0xB7, "HYPERSENSE_GEMS", "compressed_sensing_factor", "compressed sensing by")


def read(header: Dataset, findings: Findings) -> None:
    """Add what GE's private attributes say."""
    places = private_places(header, BLOCK.group)
    _read_factors(places, findings)
    _read_option(header, places, findings, HYPERBAND)
    _read_option(header, places, findings, HYPERSENSE)
    _read_recon_dl(header, places, findings)


def _values(found: DataElement | None) -> list[str]:
    return [value.strip() for value in stripped_text(found).split("\\")]


def _read_factors(places: Sequence[Dataset], findings: Findings) -> None:
    found = find(places, BLOCK, RECIPROCALS)
    if found is not None:
        name = BLOCK.name(RECIPROCALS)
        pairs = (("in_plane_factor", "factor in plane"), ("slice_factor", "factor along slices"))
        for (fact, says), written in zip(pairs, _values(found), strict=False):
            share = as_number(written)
            if share is not None and 0.01 <= share <= 1:
                # Written with six digits: 0.333333 is a third.
                factor = round(1 / share, 3)
                evidence = evidence_of_element(found, name, f"{says} {factor:g}")
                findings.add(fact, factor, evidence)
            else:
                findings.evidence.append(evidence_of_element(found, name, f"{says} unreadable"))
    found = find(places, BLOCK, PARALLEL)
    switch = [*_values(found), "", "", "", "", "", ""][5]
    if found is not None and switch == "NO":
        evidence = evidence_of_element(found, BLOCK.name(PARALLEL), "no parallel imaging")
        findings.conclude("in_plane_factor", 1.0, evidence)
        findings.conclude("slice_factor", 1.0, evidence)
    elif found is not None and switch == "YES":
        says = "parallel imaging, if a factor says so too"
        findings.evidence.append(evidence_of_element(found, BLOCK.name(PARALLEL), says))


def _read_option(
    header: Dataset, places: Sequence[Dataset], findings: Findings, option: _Option
) -> None:
    found = find(places, BLOCK, option.low)
    listed = texts(header, "ScanOptions")
    if found is not None:
        factor = as_number(_values(found)[0])
        known = factor is not None and factor >= 1
        says = f"{option.says} {factor:g}" if known else f"{option.says} unreadable"
        evidence = evidence_of_element(found, BLOCK.name(option.low), says)
        if known:
            findings.add(option.fact, factor, evidence)
        else:
            findings.evidence.append(evidence)
    elif is_absent(places, BLOCK, option.low) and option.name not in listed:
        # The element is there when it is on; where the options are listed, they say so too.
        says = f"absent: {option.says} 1"
        findings.add(option.fact, 1.0, BLOCK.absent(option.low, says))


def _read_recon_dl(header: Dataset, places: Sequence[Dataset], findings: Findings) -> None:
    found = find(places, BLOCK, RECON_DL)
    if found is not None:
        strength = as_number(_values(found)[0])
        says = "AIR Recon DL" if strength != 0 else "AIR Recon DL with strength 0"
        evidence = evidence_of_element(found, BLOCK.name(RECON_DL), says)
        findings.add("deep_learning", strength != 0, evidence)
    elif is_absent(places, BLOCK, RECON_DL) and not _may_be_sonic_dl(header):
        absent = BLOCK.absent(RECON_DL, "absent: no AIR Recon DL")
        findings.add("deep_learning", False, absent)


def _may_be_sonic_dl(header: Dataset) -> bool:
    match = RELEASE.search("\\".join(texts(header, "SoftwareVersions")))
    release = int(match[1]) if match is not None else 0
    is_cine = (integer(header, "CardiacNumberOfImages") or 0) > 1
    return release > SONIC_DL_FROM or (release == SONIC_DL_FROM and is_cine)
