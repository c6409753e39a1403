"""Allocation: readings are laid out for each reader by `studies.randomisation`, and stored."""

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from halfscan_api.audit import JsonObject, Trail
from halfscan_api.readings.sheet import SESSION_COLUMNS, Sheet
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.states import state_of
from halfscan_api.studies.cases import list_cases, missing_series
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.randomisation import (
    RULES,
    Draw,
    SessionPlan,
    Slot,
    allocate,
    choose_repeats,
)
from halfscan_api.studies.readers import list_readers
from halfscan_api.studies.service import move_revision, protocol_of
from halfscan_api.studies.tables import Allocation, CaseKind, Reader, Study, StudyCase

ALLOCATION_COLUMNS = (
    *("batch", "protocol_version", "study_cases", "training_cases", "repeat_cases", "rules"),
    "created_at",
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case that cannot be allocated yet.

    Attributes
    ----------
    case : str
        Pseudonym.
    missing : list of str
        Series that it lacks, as arm/sequence.
    """

    case: str
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Allocated:
    """What an allocation did.

    Attributes
    ----------
    made : list of Allocation
        One a reader who got something; empty when everything was allocated before.
    left_out : list of LeftOut
    """

    made: list[Allocation] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def extend_allocation(trail: Trail, study: Study) -> Allocated:
    """Give each reader every case that is complete and that the reader does not have yet.

    The first time this allocates the study; later it appends what came since, cases and readers.
    The study must be locked.
    """
    session, result = trail.session, Allocated()
    protocol = protocol_of(session, study)
    ready: dict[str, StudyCase] = {}
    for case in list_cases(session, study):
        missing = missing_series(case, protocol)
        if case.excluded_at is not None:
            continue
        if missing:
            result.left_out.append(LeftOut(case.pseudonym, missing))
        else:
            ready[case.pseudonym] = case
    for reader in list_readers(session, study):
        batch = _next_batch(session, study, protocol, reader, ready)
        if batch is None:
            continue
        if not result.made:
            move_revision(study)
        batch.created_at = trail.now
        session.add(batch)
        session.flush()
        trail.record(
            "allocation.make",
            allocation_subject(reader, batch),
            new=allocation_state(reader, batch),
        )
        for plan in allocate(_draw(study, protocol, reader, batch)):
            _lay_out(trail, reader, batch, plan, ready)
        result.made.append(batch)
    return result


def wrong_allocations(session: Session, study: Study) -> Iterator[str]:
    """Name each allocation that does not follow from the seed any more, as its subject."""
    stored: dict[tuple[int, int], dict[int, list[Slot]]] = defaultdict(lambda: defaultdict(list))
    rows = session.execute(
        select(
            Reading.reader_id,
            Reading.batch,
            ReadingSession.number,
            StudyCase.pseudonym,
            Reading.arm,
        )
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .join(StudyCase, StudyCase.id == Reading.case_id)
        .where(Reading.study_id == study.id)
        .order_by(ReadingSession.number, Reading.position)
    )
    for reader_id, batch, number, case, arm in rows:
        stored[reader_id, batch][number].append(Slot(case, arm))
    for reader in list_readers(session, study):
        for row in list_allocations(session, reader):
            if _drawn_again(session, study, reader, row) != stored.pop((reader.id, row.batch), {}):
                yield allocation_subject(reader, row)
    for reader_id, batch in stored:
        yield f"reader id {reader_id}, batch {batch}"


def _drawn_again(
    session: Session, study: Study, reader: Reader, row: Allocation
) -> dict[int, list[Slot]] | None:
    """Draw an allocation again; None where its protocol or its cases are no longer any."""
    try:
        protocol = protocol_of(session, study, row.protocol_version)
        plans = allocate(_draw(study, protocol, reader, row))
    except (NoResultFound, LookupError, TypeError, ValueError):
        return None
    return {plan.number: list(plan.slots) for plan in plans}


def list_allocations(session: Session, reader: Reader) -> Sequence[Allocation]:
    """Every allocation of a reader, oldest first."""
    return session.scalars(
        select(Allocation).where(Allocation.reader_id == reader.id).order_by(Allocation.batch)
    ).all()


def allocation_subject(reader: Reader, allocation: Allocation) -> str:
    """Name an allocation as the audit trail does."""
    return f"allocation/{reader.name}/{allocation.batch}"


def allocation_state(reader: Reader, allocation: Allocation) -> JsonObject:
    """Give an allocation as the audit trail holds it."""
    return {"reader": reader.name, **state_of(allocation, ALLOCATION_COLUMNS)}


def session_subject(session: ReadingSession) -> str:
    """Name a session as the audit trail does."""
    return f"session/{session.code}"


def session_state(session: ReadingSession, reader: str) -> JsonObject:
    """Give a session as the audit trail holds it."""
    return {"reader": reader, **state_of(session, SESSION_COLUMNS)}


def _next_batch(
    session: Session, study: Study, protocol: Protocol, reader: Reader, ready: dict[str, StudyCase]
) -> Allocation | None:
    earlier = list_allocations(session, reader)
    taken = {case for row in earlier for case in (*row.study_cases, *row.training_cases)}
    new = {
        kind: [name for name, case in ready.items() if name not in taken and case.kind == kind]
        for kind in CaseKind
    }
    if not any(new.values()):
        return None
    drawn = sum(len(row.repeat_cases) for row in earlier)
    wanted = None if protocol.repeat_cases is None else protocol.repeat_cases - drawn
    repeats = choose_repeats(study.seed, new[CaseKind.STUDY], wanted=wanted)
    return Allocation(
        study_id=study.id,
        reader_id=reader.id,
        batch=1 + len(earlier),
        protocol_version=study.protocol_version,
        study_cases=new[CaseKind.STUDY],
        training_cases=new[CaseKind.TRAINING],
        repeat_cases=repeats if protocol.repeat_sessions else [],
        rules=RULES,
    )


def _draw(study: Study, protocol: Protocol, reader: Reader, row: Allocation) -> Draw:
    return Draw(
        seed=study.seed,
        reader=reader.name,
        batch=row.batch,
        arms=protocol.arm_names,
        study_cases=row.study_cases,
        training_cases=row.training_cases,
        repeat_cases=row.repeat_cases,
        repeat_sessions=protocol.repeat_sessions,
    )


def _lay_out(
    trail: Trail,
    reader: Reader,
    batch: Allocation,
    plan: SessionPlan,
    cases: dict[str, StudyCase],
) -> None:
    session = trail.session
    row = _session(trail, reader, plan.number, plan.kind)
    last = session.scalar(select(func.max(Reading.position)).where(Reading.session_id == row.id))
    readings = [
        Reading(
            study_id=reader.study_id,
            reader_id=reader.id,
            session_id=row.id,
            case_id=cases[slot.case].id,
            arm=slot.arm,
            batch=batch.batch,
            position=position,
            repeat_round=plan.repeat_round,
            code=secrets.token_hex(16),
            state=ReadingState.PENDING.value,
            version=1,
            active_s=0.0,
            counted=False,
        )
        for position, slot in enumerate(plan.slots, 1 + (last or 0))
    ]
    session.add_all(readings)
    session.flush()
    for reading, slot in zip(readings, plan.slots, strict=True):
        sheet = Sheet(reading, row, reader.name, slot.case)
        trail.record("reading.allocate", sheet.subject, new=sheet.state())


def _session(trail: Trail, reader: Reader, number: int, kind: SessionKind) -> ReadingSession:
    row = trail.session.scalar(
        select(ReadingSession).where(
            ReadingSession.reader_id == reader.id, ReadingSession.number == number
        )
    )
    if row is None:
        row = ReadingSession(
            study_id=reader.study_id,
            reader_id=reader.id,
            code=secrets.token_hex(16),
            number=number,
            kind=kind.value,
            created_at=trail.now,
        )
        trail.session.add(row)
        trail.session.flush()
        trail.record("session.make", session_subject(row), new=session_state(row, reader.name))
    return row
