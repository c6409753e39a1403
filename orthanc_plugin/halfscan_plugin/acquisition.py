"""DICOM headers to `Acquisition`: how a series was accelerated, and on what evidence.

What cannot be known is None, never a guess. The public attributes of the MR modules (PS3.3
C.8.13.5.6 MR Modifier Macro) come first, at the top level of classic objects and in the
functional groups of enhanced ones; a vendor's reader then adds what only its private attributes
say. A new vendor is one file in `vendors/` and one row in `READERS`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from halfscan_plugin.headers import items, text, uid
from halfscan_plugin.vendors import siemens
from halfscan_plugin.vendors.findings import Evidence, Findings, add_number, evidence_of

__all__ = ["ENHANCED", "MR_IMAGES", "Acquisition", "read_acquisition"]

ENHANCED = {EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage}
MR_IMAGES = {MRImageStorage, *ENHANCED}
ACCELERATED_FROM = 2.0  # "accelerated" means a factor of at least two

# Under this technique the factor out of plane counts the slices that are excited at once.
MULTIBAND_SENSE = "MBSENSE"
# A vendor's reader, and the start of (0008,0070) Manufacturer that it answers to.
READERS = (("SIEMENS", siemens.read),)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What the scanner did, as far as its headers say.

    Parameters
    ----------
    in_plane_factor, slice_factor : float or None
        Parallel imaging in the phase direction and along slices [1].
    multiband_factor : float or None
        Slices excited at once; reported on its own, it does not count as acceleration [1].
    compressed_sensing_factor : float or None
        Acceleration by compressed sensing [1].
    averages : float or None
        NumberOfAverages; some vendors write fractions [1].
    partial_fourier : bool or None
        Whether part of k-space was left out by symmetry; this is not parallel imaging.
    deep_learning : bool or None
        Whether the vendor's own deep-learning reconstruction was at work.
    evidence : tuple of Evidence
        The attributes that say so.
    """

    in_plane_factor: float | None = None
    slice_factor: float | None = None
    multiband_factor: float | None = None
    compressed_sensing_factor: float | None = None
    averages: float | None = None
    partial_fourier: bool | None = None
    deep_learning: bool | None = None
    evidence: tuple[Evidence, ...] = field(default=())

    @property
    def accelerated(self) -> bool | None:
        """Whether any factor reaches two; None while no factor is known."""
        factors = (self.in_plane_factor, self.slice_factor, self.compressed_sensing_factor)
        known = [factor for factor in factors if factor is not None]
        return any(factor >= ACCELERATED_FROM for factor in known) if known else None

    def as_dict(self) -> dict[str, Any]:
        """Give the facts and their evidence as JSON-able values."""
        facts = asdict(self)
        facts["evidence"] = [asdict(item) for item in self.evidence]
        return {"accelerated": self.accelerated, **facts}


def read_acquisition(header: Dataset) -> Acquisition:
    """Read how one object was acquired.

    Parameters
    ----------
    header : Dataset
        A classic or enhanced MR object; pixels are not needed.

    Returns
    -------
    Acquisition
        Facts that no attribute supports are None; of an object that holds no MR image, such as
        raw data with the protocol of its scan, all of them.
    """
    findings = Findings()
    if uid(header, "SOPClassUID") not in MR_IMAGES:
        return Acquisition()
    _read_public(header, findings)
    manufacturer = text(header, "Manufacturer").upper()
    for start, read in READERS:
        if manufacturer.startswith(start):
            read(header, findings)
    return Acquisition(**findings.facts, evidence=tuple(findings.evidence))


def _places(header: Dataset) -> Iterator[Dataset]:
    """Yield the places where the public attributes may stand, the most general one first."""
    yield header
    groups = items(header, "SharedFunctionalGroupsSequence")
    # Frames of one series share their protocol: the first speaks for all.
    groups += items(header, "PerFrameFunctionalGroupsSequence")[:1]
    for group in groups:
        for name in ("MRModifierSequence", "MRAveragesSequence"):
            yield from items(group, name)


def _read_public(header: Dataset, findings: Findings) -> None:
    places = list(_places(header))
    techniques = {text(place, "ParallelAcquisitionTechnique") for place in places}
    slices = ("slice_factor", "factor along slices")
    if MULTIBAND_SENSE in techniques:
        slices = ("multiband_factor", "slices excited at once")
    for place in places:
        for keyword, fact, says in (
            ("ParallelReductionFactorInPlane", "in_plane_factor", "factor in plane"),
            ("ParallelReductionFactorOutOfPlane", *slices),
            ("NumberOfAverages", "averages", "averages"),
        ):
            add_number(place, keyword, fact, findings, says)
        technique = text(place, "ParallelAcquisitionTechnique")
        if technique:
            findings.evidence.append(
                evidence_of(place, "ParallelAcquisitionTechnique", f"technique {technique}")
            )
        _read_partial_fourier(place, findings)
    # Only now: a factor is believed wherever it stands, this flag where there is none.
    for place in places:
        _read_parallel_acquisition(place, findings)


def _read_partial_fourier(place: Dataset, findings: Findings) -> None:
    value = text(place, "PartialFourier")
    if value in {"YES", "NO"}:
        says = "partial Fourier" if value == "YES" else "no partial Fourier"
        findings.add("partial_fourier", value == "YES", evidence_of(place, "PartialFourier", says))


def _read_parallel_acquisition(place: Dataset, findings: Findings) -> None:
    value = text(place, "ParallelAcquisition")
    if value == "YES":
        # Some exports write YES with every factor 1.0: the factors are believed, not this.
        findings.evidence.append(
            evidence_of(place, "ParallelAcquisition", "parallel imaging, if a factor says so too")
        )
    elif value == "NO":
        findings.add(
            "in_plane_factor", 1.0, evidence_of(place, "ParallelAcquisition", "no parallel imaging")
        )
