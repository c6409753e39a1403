"""DICOM headers to `Acquisition`: how a series was accelerated, and on what evidence.

What cannot be known is None, never a guess. The public attributes of the MR modules (PS3.3
C.8.13.5.6 MR Modifier Macro) come first, at the top level of classic objects and in the
functional groups of enhanced ones; a vendor's reader then adds what only its private attributes
say. A new vendor is one file in `vendors/` and one row in `READERS`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from halfscan_plugin.headers import text, uid
from halfscan_plugin.vendors import canon, ge, philips, siemens, uih
from halfscan_plugin.vendors.findings import Evidence, Findings
from halfscan_plugin.vendors.places import public_places
from halfscan_plugin.vendors.standard import conclude, read_standard

__all__ = ["ENHANCED", "MR_IMAGES", "READERS", "Acquisition", "Reader", "read_acquisition"]

ENHANCED = {EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage}
MR_IMAGES = {MRImageStorage, *ENHANCED}
ACCELERATED_FROM = 2.0  # "accelerated" means a factor of at least two


def _no_other_places(_header: Dataset) -> list[Dataset]:
    return []


@dataclass(frozen=True, slots=True)
class Reader:
    """How one vendor's headers are read.

    Parameters
    ----------
    manufacturers : tuple of str
        Upper-case beginnings of (0008,0070) Manufacturer that it answers to.
    read : callable
        Adds what the vendor's private attributes say.
    other_places : callable
        Gives further places where the vendor puts the standard's attributes.
    """

    manufacturers: tuple[str, ...]
    read: Callable[[Dataset, Findings], None]
    other_places: Callable[[Dataset], list[Dataset]] = _no_other_places


READERS = {
    "siemens": Reader(("SIEMENS",), siemens.read),
    "ge": Reader(("GE ", "GEMS"), ge.read),
    "philips": Reader(("PHILIPS",), philips.read, philips.nested_places),
    "canon": Reader(("CANON", "TOSHIBA"), canon.read),
    "uih": Reader(("UIH", "UNITED IMAGING"), uih.read),
}


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
    unknown_factor : bool
        Whether the headers say that the scan was accelerated, in plane, along slices or by
        compressed sensing, but not by how much; then no factor is made up.
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
    unknown_factor: bool = False
    evidence: tuple[Evidence, ...] = field(default=())

    @property
    def accelerated(self) -> bool | None:
        """Whether any factor reaches two; None while that cannot be known.

        A factor in plane below two, with nothing that speaks for another one, means no.
        """
        factors = (self.in_plane_factor, self.slice_factor, self.compressed_sensing_factor)
        if self.unknown_factor or any((factor or 0) >= ACCELERATED_FROM for factor in factors):
            return True
        return None if self.in_plane_factor is None else False

    def as_dict(self) -> dict[str, Any]:
        """Give the facts and their evidence as JSON-able values."""
        facts = asdict(self)
        # The contract has no name for it: `accelerated` and the evidence say it.
        del facts["unknown_factor"]
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
    if uid(header, "SOPClassUID") not in MR_IMAGES:
        return Acquisition()
    findings, places = Findings(), public_places(header)
    manufacturer = f"{text(header, 'Manufacturer').strip().upper()} "
    readers = [row for row in READERS.values() if manufacturer.startswith(row.manufacturers)]
    for reader in readers:
        places += reader.other_places(header)
    read_standard(header, places, findings)
    for reader in readers:
        reader.read(header, findings)
    conclude(header, places, findings)
    # What several places say in the same words is said once.
    return Acquisition(**findings.facts, evidence=tuple(dict.fromkeys(findings.evidence)))
