"""Routes under ``/api/v1/studies`` to the record: audit trail, export, import, lineage."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import structlog
from apiflask import APIBlueprint
from flask import Response, request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.audit import SYSTEM, AuditEvent, Trail, canonical, head_of
from halfscan_api.auth import Role, caller, requires
from halfscan_api.readings.tables import Reading
from halfscan_api.state import state
from halfscan_api.studies.callers import callers_trail
from halfscan_api.studies.exporting import event_document, export_study
from halfscan_api.studies.importing import import_study
from halfscan_api.studies.local import local_state, local_subject
from halfscan_api.studies.present import lineage_list
from halfscan_api.studies.schemas import (
    AuditQuery,
    EventOut,
    EventPage,
    ExportQuery,
    FaultOut,
    Imported,
    LineageList,
    StudyDocument,
    StudyOut,
    Verification,
    VerifyQuery,
)
from halfscan_api.studies.service import get_study
from halfscan_api.studies.tables import Reader, StudyCase
from halfscan_api.studies.tabulating import study_as_zip
from halfscan_api.studies.trail import note_look, verify

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("study_records", __name__, tag="study records")

MAX_DOCUMENT_BYTES = 512 * 2**20
_NO_STUDY = "There is no such study"
_EXPORT_ANSWERS: Any = {
    200: {
        "description": "The study: JSON, or a zip of CSV files with a data dictionary",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    404: _NO_STUDY,
}


def _large_body(view: Callable[P, R]) -> Callable[P, R]:
    """Take a body of up to `MAX_DOCUMENT_BYTES`; stands below `requires`, above the input."""

    @wraps(view)
    def raised(*args: P.args, **kwargs: P.kwargs) -> R:
        request.max_content_length = MAX_DOCUMENT_BYTES
        return view(*args, **kwargs)

    return raised


@blueprint.get("/<int:study_id>/audit")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(AuditQuery, location="query")
@blueprint.output(EventPage)
@blueprint.doc(responses={404: _NO_STUDY})
def list_events(study_id: int, query_data: AuditQuery) -> EventPage:
    """List the events of the audit trail, oldest first.

    While readings are left this shows answers by arm, and is recorded itself.
    """
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        page = page_of_events(session, study.name, query_data)
    _looked(study_id, "audit")
    return page


@blueprint.get("/<int:study_id>/audit/verify")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(VerifyQuery, location="query")
@blueprint.output(Verification)
@blueprint.doc(responses={404: _NO_STUDY})
def verify_trail(study_id: int, query_data: VerifyQuery) -> Verification:
    """Find any edit of the trail, and any edit of what it tells of.

    The chain must hold; what its events add up to must be what the tables hold; the counts must be
    those of the answers; the allocation must follow from the seed.
    """
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        faults = verify(session, study, known_hash=query_data.known_hash)
        events, head_hash = head_of(session, study.name)
    if faults:
        log.error("audit_trail_broken", id=study_id, faults=len(faults))
    return Verification(
        holds=not faults,
        events=events,
        head_hash=head_hash,
        faults=[FaultOut.model_validate(fault) for fault in faults],
    )


@blueprint.get("/<int:study_id>/export")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(ExportQuery, location="query")
@blueprint.doc(responses=_EXPORT_ANSWERS)
def export(study_id: int, query_data: ExportQuery) -> Response:
    """Export the whole study.

    While readings are left this unblinds, and is recorded.
    """
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        if query_data.format == "csv":
            content, kind = study_as_zip(session, study), "application/zip"
        else:
            content = (canonical(export_study(session, study)) + "\n").encode()
            kind = "application/json"
    _looked(study_id, "export")
    ending = "zip" if query_data.format == "csv" else "json"
    disposition = f'attachment; filename="{study.name}.{ending}"'
    return Response(content, content_type=kind, headers={"Content-Disposition": disposition})


@blueprint.post("/import")
@requires(Role.COORDINATOR)
@_large_body
@blueprint.input(StudyDocument)
@blueprint.output(Imported, status_code=201)
@blueprint.doc(
    responses={409: "The name is taken, or a code of it", 413: "The document is too large"}
)
def import_document(json_data: StudyDocument) -> tuple[Imported, int]:
    """Make a study from its JSON export: the same study, or none.

    Readers come without tokens. The import is recorded in the trail of the server, not in that of
    the study, which stays what it was.
    """
    digest = hashlib.sha256(canonical(json_data.model_dump()).encode()).hexdigest()
    with state().database.write() as session:
        study = import_study(session, json_data)
        system = Trail(session, SYSTEM, caller().actor(), state().clock())
        new = {"sha256": digest, "events": json_data.head.events, **local_state(session, study)}
        system.record("study.import", local_subject(study), new=new)
        shown = Imported(
            study=StudyOut.model_validate(study),
            cases=_count(session, StudyCase, study.id),
            readers=_count(session, Reader, study.id),
            readings=_count(session, Reading, study.id),
            events=json_data.head.events,
            sha256=digest,
        )
    log.info("study_imported", id=shown.study.id)
    return shown, 201


@blueprint.get("/<int:study_id>/lineage")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(LineageList)
@blueprint.doc(responses={404: _NO_STUDY})
def show_lineage(study_id: int) -> LineageList:
    """Follow each series: source, reconstruction, derived series, readings, measurements."""
    with state().database.snapshot() as session:
        return lineage_list(session, get_study(session, study_id))


def page_of_events(session: Session, chain: str, query: AuditQuery) -> EventPage:
    """Give a page of the events of a chain."""
    wanted = select(AuditEvent).where(
        AuditEvent.chain == chain, AuditEvent.sequence_number > query.after
    )
    if query.subject is not None:
        wanted = wanted.where(AuditEvent.subject == query.subject)
    if query.action is not None:
        wanted = wanted.where(AuditEvent.action == query.action)
    rows = session.scalars(wanted.order_by(AuditEvent.sequence_number).limit(query.per_page))
    events, head_hash = head_of(session, chain)
    items = [EventOut.model_validate(event_document(row)) for row in rows]
    return EventPage(items=items, events=events, head_hash=head_hash)


def _looked(study_id: int, what: str) -> None:
    with state().database.write() as session:
        study = get_study(session, study_id)
        note_look(callers_trail(session, study), study, what)


def _count(session: Session, table: type[StudyCase | Reader | Reading], study_id: int) -> int:
    found = session.scalar(select(func.count(table.id)).where(table.study_id == study_id))
    return found or 0
