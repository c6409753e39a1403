"""Is the database what its audit trail says? Every subject's state, told and found.

The told state is what the events of a subject add up to, the found one is what the tables hold. Any
edit of a case, series, session, reading or answer that went past the API leaves a difference. What
a study has on this server alone, and the tokens, are compared with the chain of the server.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.append_only import check_triggers
from halfscan_api.audit import (
    SYSTEM,
    AuditEvent,
    AuditHead,
    Fault,
    JsonObject,
    Trail,
    check_chain,
    check_seal,
    events_of,
    head_of,
    merge,
    patch_of,
)
from halfscan_api.auth import list_tokens, token_state
from halfscan_api.readings.counts import unlike_counts
from halfscan_api.readings.sheet import load_sheets
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.studies.allocation import (
    allocation_state,
    allocation_subject,
    list_allocations,
    session_state,
    session_subject,
    wrong_allocations,
)
from halfscan_api.studies.cases import case_state, case_subject, list_cases
from halfscan_api.studies.evidence import (
    Discrepancy,
    differences,
    ledger_faults,
    local_faults,
    reference_faults,
    setting_faults,
    unlike_their_reading,
    whole,
)
from halfscan_api.studies.local import local_state, local_subject
from halfscan_api.studies.readers import list_readers, reader_state, reader_subject
from halfscan_api.studies.service import (
    STUDY_SUBJECT,
    list_studies,
    list_versions,
    study_state,
    version_state,
    version_subject,
)
from halfscan_api.studies.tables import Study

LOOKED = "looked"
_MOST_FAULTS = 1000

States = dict[str, JsonObject]


def found_states(session: Session, study: Study) -> Iterator[tuple[str, JsonObject]]:
    """Give every subject of a study with its state, from the tables."""
    yield STUDY_SUBJECT, study_state(study)
    for version in list_versions(session, study):
        yield version_subject(version.number), version_state(version)
    for case in list_cases(session, study):
        yield case_subject(case), case_state(case)
    for reader in list_readers(session, study):
        yield reader_subject(reader), reader_state(reader)
        for allocation in list_allocations(session, reader):
            yield allocation_subject(reader, allocation), allocation_state(reader, allocation)
        for row in session.scalars(
            select(ReadingSession).where(ReadingSession.reader_id == reader.id)
        ):
            yield session_subject(row), session_state(row, reader.name)
    for sheet in load_sheets(session, study.id):
        yield sheet.subject, sheet.state()


def add_up(events: Iterable[AuditEvent], states: States) -> Iterator[AuditEvent]:
    """Pass events on, and add up in `states` what they tell."""
    for event in events:
        try:
            patch = patch_of(event.new_text)
        except ValueError:
            patch = None  # its hash is wrong too, and that is told
        if patch is not None:
            merge(states.setdefault(event.subject, {}), patch)
        yield event


def verify(session: Session, study: Study, *, known_hash: str | None = None) -> list[Discrepancy]:
    """Find where the chain of a study or of the server does not hold, or the tables are not so.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    study : Study
    known_hash : str, optional
        A hash that was noted outside the database.

    Returns
    -------
    list of Discrepancy
        The first thousand; empty when all is well.
    """
    here = study_faults(session, study, known_hash=known_hash)
    return list(islice(chain(here, server_faults(session)), _MOST_FAULTS))


def verify_server(session: Session, *, known_hash: str | None = None) -> list[Discrepancy]:
    """Find where the chain of the server does not hold, or tokens are not what it says."""
    return list(islice(server_faults(session, known_hash=known_hash), _MOST_FAULTS))


def study_faults(
    session: Session, study: Study, *, known_hash: str | None = None
) -> Iterator[Discrepancy]:
    """Find what does not hold of a study wherever it is; the parameters are those of `verify`."""
    told: States = {}
    newest = _Newest()
    events = newest.watch(add_up(events_of(session, study.name), told))
    yield from _chain_faults(session, study.name, events, known_hash)
    # Events from before there were revisions tell of none.
    if newest.revision not in {None, study.revision}:
        what = f"must be {newest.revision} as in the events, got {study.revision}: study.revision"
        yield Discrepancy(what, STUDY_SUBJECT, table="study", column="revision")
    yield from _state_faults(told, found_states(session, study))
    yield from unlike_their_reading(session, study)
    yield from reference_faults(session, study)
    yield from ledger_faults(session, study)
    for table, row, column in unlike_counts(session, study.id):
        what = f"is not what the answers say: {table}.{column}"
        yield Discrepancy(what, row, table=table, column=column)
    for subject in wrong_allocations(session, study):
        yield whole(subject, "does not follow from the seed")


def server_faults(session: Session, *, known_hash: str | None = None) -> Iterator[Discrepancy]:
    """Find what does not hold of the server: its chain, the triggers, tokens, local numbers."""
    told: States = {}
    events = add_up(events_of(session, SYSTEM), told)
    for fault in _chain_faults(session, SYSTEM, events, known_hash):
        yield replace(fault, what=f"the trail of the server: {fault.what}")
    yield from (_from_fault(fault) for fault in check_triggers(session))
    known = {SYSTEM, *(study.name for study in list_studies(session))}
    for table in (AuditEvent, AuditHead):
        for name in set(session.scalars(select(table.chain).distinct())) - known:
            what = f"the chain {name} belongs to no study"
            yield Discrepancy(what, table=table.__tablename__, column="chain")
    tokens = {name: state for name, state in told.items() if name.startswith("token/")}
    rows = ((f"token/{row.id}", token_state(row)) for row in list_tokens(session))
    yield from _state_faults(tokens, rows)
    for study in list_studies(session):
        said = told.get(local_subject(study), {})
        found = local_state(session, study)
        yield from local_faults(study, {name: said.get(name, {}) for name in found}, found)
        yield from setting_faults(session, study, since=int(said.get("events", 0)))


def note_look(trail: Trail, study: Study, what: str) -> None:
    """Record that someone saw answers by arm while readings are left: once for each revision.

    Call it after the answer has been made, in the same transaction.

    Parameters
    ----------
    trail : Trail
        Of the study.
    study : Study
    what : str
        What was looked at, for example ``export`` or ``statistics/agreement``.
    """
    session = trail.session
    left = session.scalar(
        select(Reading.id)
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .where(
            Reading.study_id == study.id,
            Reading.state.in_([ReadingState.PENDING.value, ReadingState.OPEN.value]),
            ReadingSession.kind != SessionKind.TRAINING.value,
        )
        .limit(1)
    )
    if left is None:
        return
    seen = f"revision {study.revision}"
    newest = session.scalar(
        select(AuditEvent)
        .where(
            AuditEvent.chain == study.name,
            AuditEvent.subject == what,
            AuditEvent.action == LOOKED,
            AuditEvent.token_id == trail.actor.token_id,
        )
        .order_by(AuditEvent.sequence_number.desc())
        .limit(1)
    )
    if newest is None or newest.reason != seen:
        trail.record(LOOKED, what, reason=seen)


@dataclass(slots=True)
class _Newest:
    """The newest revision of the events that were seen."""

    revision: int | None = None

    def watch(self, events: Iterable[AuditEvent]) -> Iterator[AuditEvent]:
        for event in events:
            if event.revision is not None:
                self.revision = max(event.revision, self.revision or 0)
            yield event


def _chain_faults(
    session: Session, name: str, events: Iterable[AuditEvent], known_hash: str | None
) -> Iterator[Discrepancy]:
    faults = check_chain(events, head=head_of(session, name), known_hash=known_hash)
    for fault in chain(faults, check_seal(session, name)):
        yield _from_fault(fault)


def _from_fault(fault: Fault) -> Discrepancy:
    return Discrepancy(
        fault.what,
        sequence_number=fault.sequence_number,
        table=fault.table,
        column=fault.column or None,
    )


def _state_faults(told: States, found: Iterable[tuple[str, JsonObject]]) -> Iterator[Discrepancy]:
    """Compare what the events tell with what the tables hold; takes out of `told` what is there."""
    for subject, state in found:
        said = told.pop(subject, None)
        if said is None:
            yield whole(subject, "is in the tables, and in no event")
        else:
            yield from differences(subject, said, state)
    for subject in told:
        yield whole(subject, "is in the events, and not in the tables")
