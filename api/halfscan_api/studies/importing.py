"""A study from the document that `studies.exporting` wrote: the same study, or none.

The document must prove itself before a row is made: its chain of events must hold, and its states
must be what the events add up to. What was made is then verified like any study.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent, JsonObject, canonical, check_chain, new_head
from halfscan_api.errors import HalfscanError
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.counts import recount
from halfscan_api.readings.sheet import (
    CHOICE_COLUMNS,
    MEASUREMENT_COLUMNS,
    READING_COLUMNS,
    SESSION_COLUMNS,
    Sheet,
)
from halfscan_api.readings.tables import Finding, Reading, ReadingSession, Score
from halfscan_api.states import leaves, moment_of, row_of
from halfscan_api.studies.allocation import ALLOCATION_COLUMNS
from halfscan_api.studies.cases import (
    CASE_COLUMNS,
    NOISE_SERIES_COLUMNS,
    SERIES_COLUMNS,
    find_reconstruction,
)
from halfscan_api.studies.exporting import EVENT_COLUMNS
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.readers import READER_COLUMNS
from halfscan_api.studies.schemas import StudyDocument
from halfscan_api.studies.service import STUDY_COLUMNS, STUDY_SUBJECT, VERSION_COLUMNS, add_study
from halfscan_api.studies.tables import (
    Allocation,
    CaseSeries,
    NoiseSeries,
    ProtocolVersion,
    Reader,
    Study,
    StudyCase,
)
from halfscan_api.studies.trail import States, add_up, study_faults

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError)


class BadDocument(HalfscanError):
    """The document is no export, or was changed."""

    http_status = 422


class ImportConflict(HalfscanError):
    """Something of the study is in the database already."""

    http_status = 409


@dataclass(slots=True)
class _Made:
    """Rows made so far, by what the document calls them."""

    study: Study
    cases: dict[str, StudyCase] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    sessions: dict[str, ReadingSession] = field(default_factory=dict)


def import_study(session: Session, document: StudyDocument) -> Study:
    """Make a study from its export; no reader has a token until the coordinator makes one.

    Raises
    ------
    BadDocument
        Its chain of events does not hold, or its states are not what the events say.
    StudyExists, ImportConflict
        The name is taken, or a code of it.
    """
    try:
        events = [_event(document.name, one) for one in document.events]
        told: States = {}
        head = (document.head.events, document.head.hash)
        for fault in check_chain(add_up(events, told), head=head):
            raise BadDocument(f"the chain of events: {fault.sequence_number} {fault.what}")
        if told != document.states:
            raise BadDocument("the states are not what the events add up to")
        study = _make_rows(session, document)
        session.add_all(events)
        session.add(new_head(session, study.name, *head))
        session.flush()
    except IntegrityError:
        raise ImportConflict(
            "a code or the trail of the study is in the database already"
        ) from None
    except _UNREADABLE as error:
        cause = str(error).splitlines()[0] if str(error) else ""
        raise BadDocument(f"the document cannot be read: {type(error).__name__} {cause}") from None
    recount(session, study.id)
    for wrong in study_faults(session, study):
        raise BadDocument(f"the document contradicts itself: {wrong.subject} {wrong.what}")
    return study


def _event(chain: str, document: Mapping[str, object]) -> AuditEvent:
    old, new = document["old"], document["new"]
    return AuditEvent(
        **{name: document[name] for name in EVENT_COLUMNS},
        revision=document.get("revision"),
        chain=chain,
        at=moment_of(str(document["at"])),
        old_text=None if old is None else canonical(old),
        new_text=None if new is None else canonical(new),
    )


def _make_rows(session: Session, document: StudyDocument) -> Study:
    states: States = document.states
    study = row_of(
        Study,
        STUDY_COLUMNS,
        states[STUDY_SUBJECT],
        revision=document.revision,
        secret=secrets.token_hex(32),
    )
    if study.name != document.name:
        raise BadDocument(f"the study is named {study.name!r} and {document.name!r}")
    add_study(session, study)
    made = _Made(study)
    for number, state in _of(states, "protocol"):
        Protocol.model_validate(state["document"])
        session.add(
            row_of(ProtocolVersion, VERSION_COLUMNS, state, study_id=study.id, number=int(number))
        )
    for pseudonym, state in sorted(_of(states, "case"), key=lambda one: one[1]["enrolled_at"]):
        made.cases[pseudonym] = _make_case(session, study, pseudonym, state)
    for name, state in sorted(_of(states, "reader"), key=lambda one: one[1]["created_at"]):
        reader = row_of(Reader, READER_COLUMNS, state, study_id=study.id, name=name)
        made.readers[name] = reader
        session.add(reader)
    session.flush()
    _make_sessions(session, made, states)
    for code, state in _of(states, "reading"):
        _make_reading(session, made, code, state)
    return study


def _make_case(session: Session, study: Study, pseudonym: str, state: JsonObject) -> StudyCase:
    case = row_of(StudyCase, CASE_COLUMNS, state, study_id=study.id, pseudonym=pseudonym)
    session.add(case)
    session.flush()
    for arm, series in state["series"].items():
        for sequence, one in series.items():
            made_by = find_reconstruction(
                session, one["series_instance_uid"], one.get("orthanc_series_id")
            )
            session.add(
                row_of(
                    CaseSeries,
                    SERIES_COLUMNS,
                    one,
                    study_id=study.id,
                    case_id=case.id,
                    arm=arm,
                    sequence=sequence,
                    reconstruction_id=made_by.id if made_by is not None else None,
                )
            )
    for (arm, sequence, role), one in leaves(state.get("noise_series", {}), 3):
        place = {"arm": arm, "sequence": sequence, "role": role}
        owner = {"study_id": study.id, "case_id": case.id}
        session.add(row_of(NoiseSeries, NOISE_SERIES_COLUMNS, one, **owner, **place))
    return case


def _make_sessions(session: Session, made: _Made, states: States) -> None:
    for _, state in _of(states, "allocation"):
        owner = {"study_id": made.study.id, "reader_id": made.readers[state["reader"]].id}
        session.add(row_of(Allocation, ALLOCATION_COLUMNS, state, **owner))
    for code, state in _of(states, "session"):
        owner = {"study_id": made.study.id, "reader_id": made.readers[state["reader"]].id}
        row = row_of(ReadingSession, SESSION_COLUMNS, state, code=code, **owner)
        made.sessions[code] = row
        session.add(row)
    session.flush()


def _make_reading(session: Session, made: _Made, code: str, state: JsonObject) -> None:
    row = made.sessions[state["session"]]
    reading = row_of(
        Reading,
        READING_COLUMNS,
        state,
        code=code,
        study_id=made.study.id,
        session_id=row.id,
        reader_id=made.readers[state["reader"]].id,
        case_id=made.cases[state["case"]].id,
    )
    session.add(reading)
    session.flush()
    sheet = Sheet(reading, row, state["reader"], state["case"])
    own = sheet.answer_columns()
    for (sequence, criterion), one in leaves(state["scores"], 2):
        names = {"sequence": sequence, "criterion": criterion}
        session.add(row_of(Score, CHOICE_COLUMNS, one, **own, **names))
    for (finding, level), one in leaves(state["findings"], 2):
        names = {"finding": finding, "level": level}
        session.add(row_of(Finding, CHOICE_COLUMNS, one, **own, **names))
    for (arm, sequence, region), one in leaves(state["measurements"], 3):
        names = {"sequence": sequence, "region": region}
        columns = sheet.answer_columns(arm=arm)
        session.add(row_of(Measurement, MEASUREMENT_COLUMNS, one, **columns, **names))


def _of(states: States, kind: str) -> Iterator[tuple[str, JsonObject]]:
    """Give the subjects of a kind by their name, with their states."""
    for subject, state in states.items():
        found, _, name = subject.partition("/")
        if found == kind:
            yield name, state
