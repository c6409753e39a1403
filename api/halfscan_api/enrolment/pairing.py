"""The enrolment rule: the standard series and the derived one of the same patient and sequence.

Within one patient and day, a sequence is paired if exactly one series can be its standard arm and
exactly one its derived arm. Everything else is left out with the reason.

Where a protocol has several test arms, the one that is named after the network is the derived arm
of what that network made; arms with other names are enrolled by hand.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from halfscan_api.archive import ArchivedSeries
from halfscan_api.blinded.source import Frame
from halfscan_api.enrolment.headers import Kind, Plane, SeriesFacts, Weighting
from halfscan_api.studies.protocol import ArmRole, Protocol

# What differs by less is the same [mm, and without a unit].
SAME_MM, SAME_COSINE = 0.05, 1e-3
_PLANES = {
    "sag": Plane.SAGITTAL,
    "sagittal": Plane.SAGITTAL,
    "cor": Plane.CORONAL,
    "coronal": Plane.CORONAL,
    "tra": Plane.TRANSVERSE,
    "transverse": Plane.TRANSVERSE,
    "ax": Plane.TRANSVERSE,
    "axial": Plane.TRANSVERSE,
}
_FAT = {"fs", "fatsat", "stir", "spair", "spir"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series that may be enrolled.

    Attributes
    ----------
    series : ArchivedSeries
    facts : SeriesFacts
    source_of : str or None
        Status of its reconstruction, if it is the source of one.
    has_twin : bool
        The archive holds its UIDs under another patient too.
    """

    series: ArchivedSeries
    facts: SeriesFacts
    source_of: str | None = None
    has_twin: bool = False

    @property
    def uid(self) -> str:
        """Its SeriesInstanceUID."""
        return self.series.series_instance_uid


@dataclass(frozen=True, slots=True)
class Pair:
    """The two arms of a sequence.

    Attributes
    ----------
    sequence : str
    arm : str
        The test arm of the derived series.
    standard, derived : Candidate
    visible : list of str
        What a reader could tell the arms by, besides the pixels.
    """

    sequence: str
    arm: str
    standard: Candidate
    derived: Candidate
    visible: list[str]

    @property
    def both(self) -> tuple[Candidate, Candidate]:
        """Both arms."""
        return self.standard, self.derived


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A series that is not enrolled, and why."""

    series_instance_uid: str
    study_instance_uid: str
    reason: str


@dataclass(slots=True)
class Paired:
    """What the rule made of the series of one patient and day."""

    arms: set[str] = field(default_factory=set)
    pairs: list[Pair] = field(default_factory=list)
    # Orthanc's identifiers of series that could be enrolled for another patient too.
    contested: set[str] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave(self, candidate: Candidate, reason: str) -> None:
        """Note a series that is left out."""
        series = candidate.series
        self.left_out.append(LeftOut(candidate.uid, series.study_instance_uid, reason))


def sequences_of(protocol: Protocol) -> dict[Kind, str]:
    """Tell which kind of series each sequence of a protocol is, from the parts of its name.

    For example sag_t2_fs: a plane (sag, cor, tra, ax), a weighting (t1, t2, pd), and fs or stir
    where fat is suppressed. Sequences with other names are enrolled by hand.
    """
    found: dict[Kind, str] = {}
    for name in protocol.sequence_names:
        parts = set(re.split(r"[_\W]+", name.lower()))
        planes = {_PLANES[part] for part in parts if part in _PLANES}
        weightings = [one for one in Weighting if one.value in parts]
        if len(planes) == 1 and len(weightings) == 1:
            kind = Kind(planes.pop(), weightings[0], bool(parts & _FAT))
            found.setdefault(kind, name)
    return found


def arm_of_network(model: str, protocol: Protocol) -> str | None:
    """Tell which test arm the series of a network belong to.

    Parameters
    ----------
    model : str
        Name and version of the network, such as ``dbpn-s 1``.
    protocol : Protocol

    Returns
    -------
    str or None
        The test arm, where there is one alone. Of several, the one whose name or label is that of
        the network, with or without its version; None if that is none, or more than one.
    """
    arms = [arm for arm in protocol.arms if arm.role is ArmRole.TEST]
    if len(arms) == 1:
        return arms[0].name
    names = {_plain(model), _plain(model.rpartition(" ")[0])} - {""}
    found = [arm.name for arm in arms if names & {_plain(arm.name), _plain(arm.label)}]
    return found[0] if len(found) == 1 else None


def pair(
    candidates: Iterable[Candidate], sequences: Mapping[Kind, str], protocol: Protocol
) -> Paired:
    """Pair the series of one patient and day.

    Parameters
    ----------
    candidates : iterable of Candidate
    sequences : mapping of Kind to str
        From `sequences_of`.
    protocol : Protocol
    """
    result = Paired()
    arms = protocol.test_arms
    standard: dict[str, list[Candidate]] = defaultdict(list)
    derived: dict[str, dict[str, list[Candidate]]] = defaultdict(dict)
    for one in candidates:
        reason = _unfit(one, sequences)
        if reason is not None:
            result.leave(one, reason)
        elif one.facts.kind is not None and not one.facts.by_halfscan:
            standard[sequences[one.facts.kind]].append(one)
        elif one.facts.kind is not None:
            arm = arm_of_network(one.facts.model, protocol)
            if arm is None:
                named = f"no arm, or not one alone, of {', '.join(arms)} is named after its network"
                result.leave(one, f"{named} {one.facts.model}: enrol it by hand")
            else:
                result.arms.add(arm)
                derived[sequences[one.facts.kind]].setdefault(arm, []).append(one)
    for sequence in sequences.values():
        _pair_one(result, sequence, standard[sequence], derived[sequence])
    return result


def _unfit(one: Candidate, sequences: Mapping[Kind, str]) -> str | None:
    """Say why a series can be neither arm."""
    facts = one.facts
    if one.source_of is not None and not facts.by_halfscan:
        if one.source_of == "done":
            return "it is the source of a derived series, which stands for it"
        return f"it is to be reconstructed, and that is {one.source_of}"
    if facts.derived and not facts.by_halfscan:
        return "it is no original image (ImageType DERIVED)"
    if facts.kind is None:
        return facts.unclear
    if facts.kind not in sequences:
        return f"no sequence of the protocol is {facts.kind}"
    return None


def _pair_one(
    result: Paired, sequence: str, standard: list[Candidate], derived: dict[str, list[Candidate]]
) -> None:
    """Pair the standard series of a sequence with the derived one of each arm."""
    paired = False
    for arm, own in derived.items():
        if len(standard) == 1 and len(own) == 1:
            visible = list(visible_differences(standard[0].facts.frames, own[0].facts.frames))
            result.pairs.append(Pair(sequence, arm, standard[0], own[0], visible))
            paired = True
        else:
            _leave_out(result, sequence, own, standard, "standard")
    if not paired:
        _leave_out(result, sequence, standard, list(chain(*derived.values())), "derived")


def _leave_out(
    result: Paired, sequence: str, own: list[Candidate], other: list[Candidate], name: str
) -> None:
    for one in own:
        if len(own) > 1:
            reason = f"{len(own)} series can be {sequence} in this arm: enrol one by hand"
        elif not other:
            reason = f"there is no {name} series of {sequence}"
        else:
            reason = f"{len(other)} {name} series can be {sequence}: enrol one by hand"
        result.leave(one, reason)


def visible_differences(first: Sequence[Frame], second: Sequence[Frame]) -> Iterator[str]:
    """Say what of the geometry and grey scale differs: readers see it, for it must stay true."""
    if len(first) != len(second):
        yield f"{len(first)} and {len(second)} images"
    one, other = first[0], second[0]
    if (one.rows, one.columns) != (other.rows, other.columns):
        yield f"{one.rows} x {one.columns} and {other.rows} x {other.columns} pixels"
    if not np.allclose(one.spacing_mm, other.spacing_mm, atol=1e-4):
        yield f"PixelSpacing {_shown(one.spacing_mm)} and {_shown(other.spacing_mm)} mm"
    if one.thickness_mm != other.thickness_mm:
        yield f"SliceThickness {one.thickness_mm} and {other.thickness_mm} mm"
    same_rows = np.allclose(one.row_direction, other.row_direction, atol=SAME_COSINE)
    if not same_rows or not np.allclose(one.normal, other.normal, atol=SAME_COSINE):
        yield "ImageOrientationPatient"
    if len(first) == len(second):
        away = max(
            float(np.linalg.norm(a.position - b.position))
            for a, b in zip(first, second, strict=True)
        )
        if away > SAME_MM:
            yield f"positions up to {away:.2f} mm apart"
    if one.frame_of_reference_uid != other.frame_of_reference_uid:
        yield "no shared frame of reference: regions cannot be transferred"
    if one.photometric != other.photometric:
        yield f"{one.photometric} and {other.photometric}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _shown(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
