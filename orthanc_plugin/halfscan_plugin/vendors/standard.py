"""The standard's own attributes (PS3.3 C.8.13.5.6 MR Modifier, C.8.13.5.7 MR Averages).

They stand at the top level of classic objects and in the functional groups of enhanced ones, some
vendors put them elsewhere. A factor is believed wherever it stands; the flag ParallelAcquisition
and the name of the technique only where there is no factor, because exports write YES with every
factor 1.0, and names that an earlier protocol left behind.
"""

from collections.abc import Sequence

from pydicom import Dataset

from halfscan_plugin.headers import number, text, texts
from halfscan_plugin.vendors.findings import Evidence, Findings, add_number, evidence_of

__all__ = ["conclude", "is_3d", "parallel_acquisition", "read_standard", "techniques"]

# Techniques that excite several slices at once: their factor out of plane counts those slices.
MULTIBAND = {"MBSENSE", "SMS"}
COMPRESSED_SENSING = {"CS", "CSENSE"}
# Defined terms of (0018,9078) and names that vendors write, none of them compressed sensing.
OTHER_TECHNIQUES = {"SENSE", "GRAPPA", "PILS", "SMASH", *MULTIBAND}
# Defined terms of (0018,0022) ScanOptions: partial Fourier in the phase or frequency direction.
PARTIAL_FOURIER = {"PFP", "PFF"}


def techniques(places: Sequence[Dataset]) -> set[str]:
    """Give the names in ParallelAcquisitionTechnique."""
    return {text(place, "ParallelAcquisitionTechnique") for place in places} - {""}


def is_3d(header: Dataset) -> bool:
    """Say whether a volume was encoded as a whole, so that slices may share an acceleration."""
    return text(header, "MRAcquisitionType") == "3D"


def parallel_acquisition(places: Sequence[Dataset]) -> bool | None:
    """Say what ParallelAcquisition says; YES counts before NO, None where neither is written."""
    flags = {text(place, "ParallelAcquisition") for place in places}
    return True if "YES" in flags else False if "NO" in flags else None


def read_standard(header: Dataset, places: Sequence[Dataset], findings: Findings) -> None:
    """Read what the attributes state.

    Parameters
    ----------
    header : Dataset
        The object.
    places : sequence of Dataset
        Where the attributes may stand; the first that states a fact decides it.
    findings : Findings
        Takes the facts.
    """
    # Several slices are excited at once in 2D only; in 3D such a name is stale.
    multiband = techniques(places) & MULTIBAND if not is_3d(header) else set()
    for place in places:
        add_number(
            place, "ParallelReductionFactorInPlane", "in_plane_factor", findings, "factor in plane"
        )
        _read_out_of_plane(place, multiband, findings)
        technique = text(place, "ParallelAcquisitionTechnique")
        if technique:
            findings.evidence.append(
                evidence_of(place, "ParallelAcquisitionTechnique", f"technique {technique}")
            )
        _read_partial_fourier(place, findings)
        add_number(place, "NumberOfAverages", "averages", findings, "averages")


def _read_out_of_plane(place: Dataset, multiband: set[str], findings: Findings) -> None:
    keyword = "ParallelReductionFactorOutOfPlane"
    # Siemens writes SMS and 1.0 with any number of slices at once: only more than one says it.
    if "MBSENSE" in multiband or (multiband and (number(place, keyword) or 0) > 1):
        add_number(place, keyword, "multiband_factor", findings, "slices excited at once")
    else:
        add_number(place, keyword, "slice_factor", findings, "factor along slices")


def _read_partial_fourier(place: Dataset, findings: Findings) -> None:
    value = text(place, "PartialFourier")
    if value in {"YES", "NO"}:
        says = "partial Fourier" if value == "YES" else "no partial Fourier"
        findings.add("partial_fourier", value == "YES", evidence_of(place, "PartialFourier", says))


def conclude(header: Dataset, places: Sequence[Dataset], findings: Findings) -> None:
    """Conclude what follows from the attributes where none states it."""
    flag = parallel_acquisition(places)
    for place in places:
        if flag is not None and text(place, "ParallelAcquisition") == ("YES" if flag else "NO"):
            _conclude_from_flag(place, findings, flag=flag)
            break
    named = [place for place in places if text(place, "ParallelAcquisitionTechnique")]
    if named:
        _conclude_from_technique(header, named, findings, flag=flag)
    if text(header, "MRAcquisitionType") == "2D":
        evidence = evidence_of(header, "MRAcquisitionType", "2D: slices are not encoded together")
        findings.conclude("slice_factor", 1.0, evidence)
    if PARTIAL_FOURIER.intersection(texts(header, "ScanOptions")):
        evidence = evidence_of(header, "ScanOptions", "partial Fourier")
        findings.conclude("partial_fourier", True, evidence)


def _conclude_from_flag(place: Dataset, findings: Findings, *, flag: bool) -> None:
    if flag:
        says = "parallel imaging, if a factor says so too"
        findings.evidence.append(evidence_of(place, "ParallelAcquisition", says))
        return
    evidence = evidence_of(place, "ParallelAcquisition", "no parallel imaging")
    findings.conclude("in_plane_factor", 1.0, evidence)
    findings.conclude("slice_factor", 1.0, evidence)


def _conclude_from_technique(
    header: Dataset, named: Sequence[Dataset], findings: Findings, *, flag: bool | None
) -> None:
    names = techniques(named)
    written = ", ".join(sorted(names))
    facts = findings.facts

    def evidence(says: str) -> Evidence:
        return evidence_of(named[0], "ParallelAcquisitionTechnique", f"{written}: {says}")

    if names <= OTHER_TECHNIQUES:
        findings.conclude("compressed_sensing_factor", 1.0, evidence("no compressed sensing"))
        if names & MULTIBAND and not is_3d(header):
            says = "several slices at once: none encoded together"
            findings.conclude("slice_factor", 1.0, evidence(says))
    elif names & COMPRESSED_SENSING and flag is not False:
        total = facts.get("in_plane_factor", 1.0) * facts.get("slice_factor", 1.0)
        if total > 1:
            says = f"compressed sensing by {total:g}"
            findings.conclude("compressed_sensing_factor", total, evidence(says))
        elif "compressed_sensing_factor" not in facts:
            says = "compressed sensing by an unknown factor"
            findings.conclude("unknown_factor", True, evidence(says))
