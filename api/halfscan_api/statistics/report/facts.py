"""What a report says beside the tables: who read, what was amended, with which software."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from platform import python_version
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.report.deviations import Seen, gaps_of, seen_before, shorter
from halfscan_api.studies.readers import list_readers
from halfscan_api.studies.service import list_versions
from halfscan_api.studies.tables import CaseKind, CaseSeries, Reader, Study, StudyCase

# Packages that the numbers and the pictures come from.
PACKAGES = ("halfscan", "numpy", "scipy", "matplotlib")
# Part of the package's statistics, which no table of the report asks for.
UNUSED = ("statsmodels",)

# The same as long as the process lives; each look reads a file.
version = cache(metadata.version)


@dataclass(frozen=True, slots=True)
class ReaderFact:
    """A reader, and how far the readings are (training and repeats left out)."""

    name: str
    experience_years: float | None
    complete: int
    total: int


@dataclass(frozen=True, slots=True)
class VersionFact:
    """A version of the protocol, what it changed, and what was known when it was made."""

    number: int
    created_at: str
    reason: str | None
    changes: tuple[str, ...]
    washout_days: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class OverrideFact:
    """A session that was let begin before its time."""

    reader: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A study as the report tells of it.

    Attributes
    ----------
    frame : Frame
    readers : tuple of ReaderFact
    versions : tuple of VersionFact
        Oldest first.
    overrides : tuple of OverrideFact
    seed : int
    enrolled, excluded, training : int
        Cases; excluded ones are among the enrolled.
    first_enrolled, last_enrolled, first_read, last_read : str or None
        As people write it, in UTC.
    allocated, left : int
        Readings (with repeats, without training), and those of them that are not complete.
    repeats : int
        Complete readings of repeat sessions.
    with_gaps : int
        Readings that were completed although answers were missing.
    amended : int
        Amendments of complete readings.
    shortest_gap_days : float or None
        Between two readings of a case by the same reader.
    second_readings, too_early : int
        Such pairs of readings, and those nearer to each other than the newest wash-out.
    with_parameters, n_series : int
        Series whose headers were noted at enrolment, and all series.
    software, unused : mapping
        Package -> version.
    """

    frame: Frame
    readers: tuple[ReaderFact, ...]
    versions: tuple[VersionFact, ...]
    overrides: tuple[OverrideFact, ...]
    seed: int
    enrolled: int
    excluded: int
    training: int
    first_enrolled: str | None
    last_enrolled: str | None
    first_read: str | None
    last_read: str | None
    allocated: int
    left: int
    repeats: int
    with_gaps: int
    amended: int
    shortest_gap_days: float | None
    second_readings: int
    too_early: int
    with_parameters: int
    n_series: int
    software: Mapping[str, str]
    unused: Mapping[str, str]

    @property
    def interim(self) -> bool:
        """Whether readings are left."""
        return self.left > 0

    def digest(self) -> str:
        """Give a short hash of all of it: two reports of the same digest are the same."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def load_facts(session: Session, study: Study, frame: Frame) -> Facts:
    """Load the facts of a study.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    study : Study
    frame : Frame

    Returns
    -------
    Facts
    """
    gaps = gaps_of(session, study)
    return Facts(
        frame=frame,
        readers=tuple(_readers(session, study)),
        versions=tuple(_versions(session, study)),
        overrides=tuple(_overrides(session, study)),
        seed=study.seed,
        shortest_gap_days=min(gaps) / timedelta(days=1) if gaps else None,
        second_readings=len(gaps),
        too_early=shorter(gaps, frame.protocol.washout_days),
        amended=_amended(session, study),
        software=versions_of(PACKAGES) | {"Python": python_version()},
        unused=versions_of(UNUSED),
        **_cases(session, study),
        **_readings(session, study),
        **_series(session, study),
    )


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Give the versions of packages; what is not installed says so."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _readers(session: Session, study: Study) -> Iterator[ReaderFact]:
    rows = session.execute(
        select(Reading.reader_id, Reading.state, func.count())
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .where(
            Reading.study_id == study.id,
            ReadingSession.kind == SessionKind.READING.value,
            Reading.state != ReadingState.WITHDRAWN.value,
        )
        .group_by(Reading.reader_id, Reading.state)
    )
    counts: Counter[tuple[int, str]] = Counter()
    for reader_id, state, n in rows:
        counts[reader_id, state] += n
        counts[reader_id, "total"] += n
    for reader in list_readers(session, study):
        yield ReaderFact(
            reader.name,
            reader.experience_years,
            counts[reader.id, ReadingState.COMPLETE.value],
            counts[reader.id, "total"],
        )


def _overrides(session: Session, study: Study) -> Iterator[OverrideFact]:
    rows = session.execute(
        select(Reader.name, ReadingSession.number, ReadingSession.override_reason)
        .join(Reader, Reader.id == ReadingSession.reader_id)
        .where(ReadingSession.study_id == study.id, ReadingSession.override_reason.is_not(None))
        .order_by(Reader.id, ReadingSession.number)
    )
    for name, number, reason in rows:
        yield OverrideFact(name, number, reason or "")


def _cases(session: Session, study: Study) -> dict[str, Any]:
    of_study = StudyCase.kind == CaseKind.STUDY.value
    enrolled, excluded, first, last = session.execute(
        select(
            func.count(),
            func.count(StudyCase.excluded_at),
            func.min(StudyCase.enrolled_at),
            func.max(StudyCase.enrolled_at),
        ).where(StudyCase.study_id == study.id, of_study)
    ).one()
    training = session.scalar(
        select(func.count()).select_from(StudyCase).where(StudyCase.study_id == study.id, ~of_study)
    )
    return {
        "enrolled": enrolled,
        "excluded": excluded,
        "training": training or 0,
        "first_enrolled": _text(first),
        "last_enrolled": _text(last),
    }


def _readings(session: Session, study: Study) -> dict[str, Any]:
    left = Reading.state.in_([ReadingState.PENDING.value, ReadingState.OPEN.value])
    counted = Reading.state == ReadingState.COMPLETE.value
    repeat = ReadingSession.kind == SessionKind.REPEAT.value
    columns = (
        func.count(),
        func.count().filter(left),
        func.count().filter(counted, repeat),
        func.count().filter(counted, Reading.missing_reason.is_not(None)),
        func.min(Reading.completed_at),
        func.max(Reading.completed_at),
    )
    allocated, n_left, repeats, with_gaps, first, last = session.execute(
        select(*columns)
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .where(
            Reading.study_id == study.id,
            ReadingSession.kind != SessionKind.TRAINING.value,
            Reading.state != ReadingState.WITHDRAWN.value,
        )
    ).one()
    return {
        "allocated": allocated,
        "left": n_left,
        "repeats": repeats,
        "with_gaps": with_gaps,
        "first_read": _text(first),
        "last_read": _text(last),
    }


def _series(session: Session, study: Study) -> dict[str, Any]:
    n_series, noted = session.execute(
        select(func.count(), func.count(CaseSeries.parameters)).where(
            CaseSeries.study_id == study.id
        )
    ).one()
    return {"n_series": n_series, "with_parameters": noted}


def _amended(session: Session, study: Study) -> int:
    count = session.scalar(
        select(func.count())
        .select_from(AuditEvent)
        .where(AuditEvent.chain == study.name, AuditEvent.action == "reading.amend")
    )
    return count or 0


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else minute(moment)


def minute(moment: datetime) -> str:
    """Write a moment for people."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# --- amendments ---------------------------------------------------------------------------------


def _versions(session: Session, study: Study) -> Iterator[VersionFact]:
    before: Mapping[str, Any] | None = None
    for row in list_versions(session, study):
        changes = () if before is None else tuple(changes_of(before, row.document))
        yield VersionFact(
            row.number,
            minute(row.created_at),
            row.reason,
            changes,
            int(row.document["washout_days"]),
            seen_before(session, study, row.created_at),
        )
        before = row.document


def changes_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say what one protocol document changed of another, part by part.

    Parameters
    ----------
    old, new : mapping
        Documents as they are stored.

    Yields
    ------
    str
    """
    for part in dict.fromkeys([*old, *new]):
        one, other = old.get(part), new.get(part)
        if one == other:
            continue
        if _is_named(one) or _is_named(other):
            yield from _named_changes(part, one or [], other or [])
        elif part == "description":
            yield "description: rewritten"
        else:
            yield f"{part}: {_shown(one)} became {_shown(other)}"


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, Mapping) for one in value)


def _named_changes(
    part: str, old: list[Mapping[str, Any]], new: list[Mapping[str, Any]]
) -> Iterator[str]:
    """Compare lists of things with a name; regions have theirs within a group."""
    before, after = ({_name(one): one for one in some} for some in (old, new))
    for name in after:
        if name not in before:
            yield f"{part}: {name} added"
        elif before[name] != after[name]:
            # What is tested is told in full: it may have been changed to fit the results.
            told = f" ({_fields(before[name], after[name])})" if part == "endpoints" else ""
            yield f"{part}: {name} changed{told}"
    for name in before:
        if name not in after:
            yield f"{part}: {name} removed"
    if list(before) != list(after) and set(before) == set(after):
        yield f"{part}: another order"


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_shown(old.get(name))} became {_shown(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


def _name(one: Mapping[str, Any]) -> str:
    group = one.get("group") if "role" in one or "area_mm2" in one else None
    return str(one.get("name")) if group is None else f"{group}/{one.get('name')}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(inner) for inner in value)
    return str(value)
