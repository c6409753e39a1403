"""DICOM headers to `Acquisition`: how a series was accelerated, and on what evidence.

What cannot be known is None, never a guess. The public attributes of the MR modules (PS3.3
C.8.13.5.6 MR Modifier Macro) come first, at the top level of classic objects and in the
functional groups of enhanced ones; a vendor's reader then adds what only its private attributes
say. A new vendor is one file in `vendors/` and one row in `READERS`.

A series is as its objects are, and an enhanced object as its frames: what all of them that tell a
fact say alike is known, and where they differ, the acquisition keeps each way. An object that does
not tell a fact does not differ: an archive tells the private elements of the first object alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from halfscan_plugin.headers import items, text, uid, undecoded
from halfscan_plugin.technique import find_technique
from halfscan_plugin.vendors import canon, ge, philips, siemens, uih
from halfscan_plugin.vendors.findings import Evidence, Findings
from halfscan_plugin.vendors.places import public_places
from halfscan_plugin.vendors.releases import conclude_deep_learning
from halfscan_plugin.vendors.standard import conclude, read_standard

__all__ = [
    "ENHANCED",
    "MR_IMAGES",
    "READERS",
    "Acquisition",
    "Reader",
    "read_acquisition",
    "read_series",
]

ENHANCED = {EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage}
MR_IMAGES = {MRImageStorage, *ENHANCED}
ACCELERATED_FROM = 2.0  # "accelerated" means a factor of at least two
# What decides; objects that differ in one of these were acquired differently.
DECIDING = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
)
COMPARED = (*DECIDING, "partial_fourier", "deep_learning", "unknown_factor")
# Where the frames of one object say for themselves how they were acquired.
FRAMES = Tag("PerFrameFunctionalGroupsSequence")
FRAME_MACROS = ("MRModifierSequence", "MRAveragesSequence")
FRAME_KEYWORDS = (
    "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane",
    "ParallelAcquisition",
    "ParallelAcquisitionTechnique",
    "NumberOfAverages",
)


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
    technique : str or None
        Diffusion, perfusion, functional or flow, read from the whole series (`technique`).
    unknown_factor : bool
        Whether the headers say that the scan was accelerated, in plane, along slices or by
        compressed sensing, but not by how much; then no factor is made up.
    deep_learning_possible : bool
        Whether `deep_learning` is None because the release may offer it, and no mark of it can be
        read (`vendors.releases`).
    ways : tuple of Acquisition
        The ways in which the objects and frames were acquired, where these differ in a factor or
        in the averages; a fact that differs is None here.
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
    technique: str | None = None
    unknown_factor: bool = False
    deep_learning_possible: bool = False
    ways: tuple["Acquisition", ...] = ()
    evidence: tuple[Evidence, ...] = field(default=())

    @property
    def accelerated(self) -> bool | None:
        """Whether any factor reaches two; None while that cannot be known, or where it differs.

        A factor in plane below two, with nothing that speaks for another one, means no.
        """
        if self.ways:
            known = self.values("accelerated")
            return bool(known[0]) if len(known) == 1 else None
        factors = (self.in_plane_factor, self.slice_factor, self.compressed_sensing_factor)
        if self.unknown_factor or any((factor or 0) >= ACCELERATED_FROM for factor in factors):
            return True
        return None if self.in_plane_factor is None else False

    def values(self, fact: str) -> list[Any]:
        """Give the known values of a fact, in ascending order: several where objects differ."""
        known = {getattr(way, fact) for way in self.ways or (self,)}
        return sorted(value for value in known if value is not None)

    def as_dict(self) -> dict[str, Any]:
        """Give the facts and their evidence as JSON-able values.

        ``differing`` holds the values of the facts that are null because the objects differ.
        """
        # The contract has no names for these: the other facts, the evidence and the reason say it.
        hidden = {"unknown_factor", "deep_learning_possible", "ways", "evidence"}
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        differing = {
            name: values for name in DECIDING if len(values := self.values(name)) > 1
        }  # fmt: skip
        return {
            "accelerated": self.accelerated,
            **facts,
            "differing": differing,
            "evidence": [item.as_dict() for item in self.evidence],
        }


def read_series(headers: Sequence[Dataset]) -> Acquisition:
    """Read how a series was acquired, all its objects together.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects; their order decides that of the evidence alone.

    Returns
    -------
    Acquisition
        What the objects and frames say alike, and the ways in which they differ.
    """
    together = _together([way for header in headers for way in _ways(header)])
    images = [header for header in headers if uid(header, "SOPClassUID") in MR_IMAGES]
    technique, evidence = find_technique(images)
    return replace(
        together,
        technique=technique,
        ways=tuple(replace(way, technique=technique) for way in together.ways),
        evidence=tuple(dict.fromkeys((*together.evidence, *evidence))),
    )


def read_acquisition(header: Dataset) -> Acquisition:
    """Read how one object was acquired; as `read_series`, without the technique.

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
    return _together(list(_ways(header)))


def _ways(header: Dataset) -> Iterator[Acquisition]:
    """Read an object once for each way in which its frames say they were acquired."""
    frames = items(header, FRAMES)
    kinds: dict[tuple[str, ...], Dataset] = {}
    for frame in frames:
        kinds.setdefault(_frame_facts(frame), frame)
    if len(kinds) < 2:
        yield _read(header)
        return
    for frame in kinds.values():
        # A copy of the object would share its elements: this one is put anew.
        others = {tag: undecoded(header, tag) for tag in header.keys() if tag != FRAMES}  # noqa: SIM118
        alone = Dataset({tag: found for tag, found in others.items() if found is not None})
        alone.add_new(FRAMES, "SQ", [frame])
        yield _read(alone)


def _frame_facts(frame: Dataset) -> tuple[str, ...]:
    places = [place for name in FRAME_MACROS for place in items(frame, name)[:1]]
    return tuple(text(place, keyword) for place in places for keyword in FRAME_KEYWORDS)


def _together(ways: Sequence[Acquisition]) -> Acquisition:
    """Take several acquisitions together; what one does not tell, the others tell for it."""
    distinct = list(dict.fromkeys(ways))
    if len(distinct) < 2:
        return distinct[0] if distinct else Acquisition()
    evidence = _evidence(distinct)
    known = {name: {getattr(way, name) for way in distinct} - {None} for name in DECIDING}
    agreed = {name: next(iter(found)) for name, found in known.items() if len(found) == 1}
    shared = agreed | _shared(distinct)
    differ = any(len(found) > 1 for found in known.values())
    # One says that it was accelerated by an unknown factor, another that it was not.
    differ = differ or {True, False} <= {way.accelerated for way in distinct}
    if not differ:
        unknown = any(way.unknown_factor for way in distinct)
        return Acquisition(**shared, unknown_factor=unknown, evidence=evidence)
    complete = {replace(way, **shared, evidence=()) for way in distinct}
    return Acquisition(**shared, ways=tuple(sorted(complete, key=_order)), evidence=evidence)


def _evidence(ways: Sequence[Acquisition]) -> tuple[Evidence, ...]:
    """Give the evidence of the first way, and of the others what they alone tell."""
    evidence = list(ways[0].evidence)
    known = {(fact, getattr(ways[0], fact)) for fact in COMPARED}
    for way in ways[1:]:
        told = {(fact, value) for fact in COMPARED if (value := getattr(way, fact)) is not None}
        new = {fact for fact, _ in told - known}
        evidence += [item for item in way.evidence if item.fact in new]
        known |= told
    return tuple(dict.fromkeys(evidence))


def _shared(ways: Sequence[Acquisition]) -> dict[str, Any]:
    """Give what says nothing of a way: what the vendor's network has touched speaks for all."""
    partial = {way.partial_fourier for way in ways} - {None}
    learned = {way.deep_learning for way in ways} - {None}
    return {
        "partial_fourier": partial.pop() if len(partial) == 1 else None,
        "deep_learning": any(learned) if learned else None,
        "deep_learning_possible": not learned and any(w.deep_learning_possible for w in ways),
    }


def _order(way: Acquisition) -> tuple[float, ...]:
    return tuple(-1.0 if (v := getattr(way, name)) is None else v for name in DECIDING)


def _read(header: Dataset) -> Acquisition:
    """Read an object all of whose frames were acquired alike."""
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
    conclude_deep_learning(header, manufacturer, findings)
    # What several places say in the same words is said once.
    return Acquisition(**findings.facts, evidence=tuple(dict.fromkeys(findings.evidence)))
