"""What every table starts from: the study, its protocol, its readers and how many cases it has."""

from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.studies.protocol import Criterion, Finding, Protocol
from halfscan_api.studies.readers import list_readers
from halfscan_api.studies.service import protocol_of
from halfscan_api.studies.tables import CaseKind, Study, StudyCase


@dataclass(frozen=True, slots=True)
class ReaderOfStudy:
    """A reader, by the number of the row and the name."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A study at one revision.

    Attributes
    ----------
    study_id : int
    name, title : str
    revision, protocol_version : int
    protocol : Protocol
        The newest version.
    readers : tuple of ReaderOfStudy
        In the order in which they came.
    n_cases : int
        Cases of the study, the training and the excluded ones left out: what n is given of.
    """

    study_id: int
    name: str
    title: str
    revision: int
    protocol_version: int
    protocol: Protocol
    readers: tuple[ReaderOfStudy, ...]
    n_cases: int

    @property
    def reference(self) -> str:
        """Arm that the others are compared with."""
        return self.protocol.reference_arm

    @property
    def test_arms(self) -> list[str]:
        """Arms that are compared with the reference."""
        return self.protocol.test_arms

    @property
    def reader_pairs(self) -> list[tuple[ReaderOfStudy, ReaderOfStudy]]:
        """Every pair of readers."""
        return list(combinations(self.readers, 2))

    @property
    def readers_and_all(self) -> tuple[ReaderOfStudy | None, ...]:
        """Every reader, and None for all together where there are several."""
        return (*self.readers, None) if len(self.readers) > 1 else self.readers

    def arm_label(self, name: str) -> str:
        """Name of an arm for people."""
        return next((one.label for one in self.protocol.arms if one.name == name), name)

    def sequence_label(self, name: str) -> str:
        """Name of a sequence for people."""
        return next((one.label for one in self.protocol.sequences if one.name == name), name)


@dataclass(frozen=True, slots=True)
class Unit:
    """What one row of a table of scores is about: a criterion, or a group of criteria.

    Attributes
    ----------
    name, label : str
    level : str
        ``criterion`` or ``group``.
    criteria : tuple of str
        One, or those of the group.
    scale : tuple of int
        Values in their order.
    """

    name: str
    label: str
    level: str
    criteria: tuple[str, ...]
    scale: tuple[int, ...]


def load_frame(session: Session, study: Study) -> Frame:
    """Load the frame of a study."""
    n_cases = session.scalar(
        select(func.count(StudyCase.id)).where(
            StudyCase.study_id == study.id,
            StudyCase.kind == CaseKind.STUDY.value,
            StudyCase.excluded_at.is_(None),
        )
    )
    readers = sorted(list_readers(session, study), key=lambda row: row.id)
    return Frame(
        study_id=study.id,
        name=study.name,
        title=study.title,
        revision=study.revision,
        protocol_version=study.protocol_version,
        protocol=protocol_of(session, study),
        readers=tuple(ReaderOfStudy(row.id, row.name) for row in readers),
        n_cases=n_cases or 0,
    )


def sequences_of(frame: Frame, asked: str | None) -> list[str]:
    """Give the sequences that were asked for; all without a name.

    Raises
    ------
    InvalidRequest
        The protocol has no such sequence.
    """
    known = frame.protocol.sequence_names
    if asked is not None and asked not in known:
        detail = f"must be one of {', '.join(known)}, got {asked!r}"
        raise InvalidRequest([{"in": "query", "field": "sequence", "detail": detail}])
    return [name for name in known if asked in {None, name}]


def units_of(protocol: Protocol, sequence: str) -> list[Unit]:
    """Give the rows of a table of scores: each group before its criteria.

    Criteria form a group where they name the same one and have the same scale.
    """
    asked = protocol.criteria_of(sequence)
    units: list[Unit] = []
    grouped: set[str] = set()
    for criterion in asked:
        name = criterion.group
        if name is not None and name not in grouped:
            grouped.add(name)
            members = [one for one in asked if one.group == name]
            if len(members) > 1 and len({_values(one) for one in members}) == 1:
                criteria = tuple(one.name for one in members)
                label = name.replace("_", " ").capitalize()
                units.append(Unit(name, label, "group", criteria, _values(criterion)))
        units.append(
            Unit(
                criterion.name,
                criterion.label,
                "criterion",
                (criterion.name,),
                _values(criterion),
            )
        )
    return units


def scale_of(finding: Finding) -> tuple[int, ...]:
    """Give the grades of a finding, absent first."""
    return tuple(grade.value for grade in finding.grades)


def _values(criterion: Criterion) -> tuple[int, ...]:
    return tuple(choice.value for choice in criterion.scale)
