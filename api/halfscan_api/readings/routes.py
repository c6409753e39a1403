"""Routes under ``/api/v1/sessions`` and ``/api/v1/readings``: what readers see and do.

A reader reaches their own sessions and the readings that they have opened. Every other code gets
the same answer as one that nobody has.
"""

from collections.abc import Callable

import structlog
from apiflask import APIBlueprint
from flask import Response
from sqlalchemy.orm import Session

from halfscan_api.audit import Trail
from halfscan_api.auth import Role, caller, requires
from halfscan_api.idempotency import Answer, ChangeHeaders, WriteHeaders, etag, write_once
from halfscan_api.readings import service
from halfscan_api.readings.answers import Answers
from halfscan_api.readings.closing import check_replay
from halfscan_api.readings.present import reading_out, saved_out, session_detail, session_out
from halfscan_api.readings.schemas import (
    Amendment,
    Completion,
    Findings,
    Measurements,
    Override,
    ReadingOut,
    SavedOut,
    Scores,
    SessionDetail,
    SessionList,
)
from halfscan_api.readings.service import Desk
from halfscan_api.readings.sessions import find_session
from halfscan_api.state import state
from halfscan_api.studies.readers import reader_of
from halfscan_api.studies.service import get_study, trail_of
from halfscan_api.studies.tables import Reader

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("readings", __name__, tag="readings")

_STALE = {
    409: "The state of the reading does not allow it, or the token belongs to no reader",
    412: "If-Match names another version than the newest",
    428: "If-Match is missing",
}
_NOT_MINE = "No session or reading of the caller has this code"
_NO_READER = "The token belongs to no reader of a study"
_CLOSED = "The caller has gone on in another session, or the token belongs to no reader"


@blueprint.get("/sessions")
@requires(Role.READER)
@blueprint.output(SessionList)
@blueprint.doc(responses={409: _NO_READER})
def list_own_sessions() -> SessionList:
    """List the sessions of the calling reader, in the order in which they are read."""
    with state().database.read() as session:
        reader = reader_of(session, caller())
        found = service.standings_of(session, reader, state().clock())
        return SessionList(items=[session_out(one) for one in found])


@blueprint.get("/sessions/<code>/next")
@requires(Role.READER)
@blueprint.output(ReadingOut, description="The reading that is open; ETag is its version")
@blueprint.doc(responses={204: "No reading is open", 404: _NOT_MINE, 409: _NO_READER})
def show_open(code: str) -> Response | tuple[ReadingOut, int, dict[str, str]]:
    """Show the open reading of a session, if there is one."""
    with state().database.read() as session:
        reader = reader_of(session, caller())
        desk = service.open_reading(session, reader, find_session(session, code, reader=reader))
        if desk is None:
            return Response(status=204)
        return reading_out(session, desk), 200, _version(desk)


@blueprint.post("/sessions/<code>/next")
@requires(Role.READER)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(ReadingOut, description="The reading that is open now; ETag is its version")
@blueprint.doc(
    responses={
        204: "The session is complete",
        404: _NOT_MINE,
        409: (
            "Nothing is ready yet: `detail` says why, `opens_at` when, where that is known; "
            "or a reading of another session is open: `open_session`"
        ),
    }
)
def open_next(code: str, headers_data: WriteHeaders) -> Response:
    """Open the next reading of a session, or give the one that is open already."""

    def work(session: Session) -> Answer:
        reader, trail = _reader_and_trail(session)
        row = find_session(session, code, reader=reader, lock=True)
        desk = service.next_reading(trail, reader, row)
        if desk is None:
            return Answer(None, 204)
        return Answer(reading_out(session, desk), headers=_version(desk))

    return write_once(work, headers=headers_data, check_replay=check_replay)


@blueprint.post("/sessions/<code>/override")
@requires(Role.COORDINATOR)
@blueprint.input(Override)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(SessionDetail)
@blueprint.doc(responses={404: "There is no such session", 409: "It is open or complete"})
def override(code: str, json_data: Override, headers_data: WriteHeaders) -> Response:
    """Let a session begin before its time.

    The wash-out and the sessions before it are no longer waited for; the reason stays in the audit
    trail and with the session.
    """

    def work(session: Session) -> Answer:
        row = find_session(session, code, lock=True)
        reader = session.get_one(Reader, row.reader_id)
        study = get_study(session, row.study_id)
        now = state().clock()
        trail = trail_of(session, study, caller().actor(), now)
        service.override(trail, row, reader, json_data.reason)
        standing = service.standings_of(session, reader, now)
        [own] = [one for one in standing if one.session.id == row.id]
        return Answer(session_detail(own, reader.name))

    return write_once(work, headers=headers_data)


@blueprint.get("/readings/<code>")
@requires(Role.READER)
@blueprint.output(ReadingOut, description="ETag is its version")
@blueprint.doc(responses={404: _NOT_MINE, 409: _CLOSED})
def show(code: str) -> tuple[ReadingOut, int, dict[str, str]]:
    """Show a reading that the caller has opened: questions, images, answers so far.

    Once the caller has gone on in another session, it is closed.
    """
    with state().database.read() as session:
        reader = reader_of(session, caller())
        reading = service.find_reading(session, reader, code)
        desk = service.desk_of(session, reader, reading)
        return reading_out(session, desk), 200, _version(desk)


@blueprint.put("/readings/<code>/scores")
@requires(Role.READER)
@blueprint.input(Scores)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(SavedOut, description="Saved; ETag is the new version")
@blueprint.doc(responses={404: _NOT_MINE, **_STALE})
def put_scores(code: str, json_data: Scores, headers_data: ChangeHeaders) -> Response:
    """Save scores; those that are not named stay as they are."""
    return _save(code, Answers(scores=json_data.scores), headers_data)


@blueprint.put("/readings/<code>/findings")
@requires(Role.READER)
@blueprint.input(Findings)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(SavedOut, description="Saved; ETag is the new version")
@blueprint.doc(responses={404: _NOT_MINE, **_STALE})
def put_findings(code: str, json_data: Findings, headers_data: ChangeHeaders) -> Response:
    """Save findings; those that are not named stay as they are."""
    return _save(code, Answers(findings=json_data.findings), headers_data)


@blueprint.put("/readings/<code>/measurements")
@requires(Role.READER)
@blueprint.input(Measurements)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(SavedOut, description="Saved; ETag is the new version")
@blueprint.doc(responses={404: _NOT_MINE, **_STALE})
def put_measurements(code: str, json_data: Measurements, headers_data: ChangeHeaders) -> Response:
    """Save mean and SD as the viewer measured them; what is not named stays as it is."""
    return _save(code, Answers(measurements=json_data.measurements), headers_data)


@blueprint.post("/readings/<code>/complete")
@requires(Role.READER)
@blueprint.input(Completion)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(SavedOut, description="Complete; ETag is the new version")
@blueprint.doc(responses={404: _NOT_MINE, **_STALE})
def complete(code: str, json_data: Completion, headers_data: ChangeHeaders) -> Response:
    """Complete a reading.

    From here on it counts, and a change needs a reason. Answers that the protocol requires must be
    there, or a missing_reason.
    """

    def change(trail: Trail, reader: Reader) -> Desk:
        return service.complete(trail, reader, code, json_data.missing_reason, headers_data)

    return _change(change, headers_data)


@blueprint.post("/readings/<code>/amend")
@requires(Role.READER)
@blueprint.input(Amendment)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(SavedOut, description="Amended; ETag is the new version")
@blueprint.doc(responses={404: _NOT_MINE, **_STALE})
def amend(code: str, json_data: Amendment, headers_data: ChangeHeaders) -> Response:
    """Change a complete reading, for a reason; the old values stay in the audit trail."""
    answers = Answers(json_data.scores, json_data.findings, json_data.measurements)

    def change(trail: Trail, reader: Reader) -> Desk:
        return service.amend(trail, reader, code, answers, json_data.reason, headers_data)

    return _change(change, headers_data)


def _save(code: str, answers: Answers, headers: ChangeHeaders) -> Response:
    def change(trail: Trail, reader: Reader) -> Desk:
        return service.save(trail, reader, code, answers, headers)

    return _change(change, headers)


def _change(change: Callable[[Trail, Reader], Desk], headers: ChangeHeaders) -> Response:
    """Run a change to a reading of the caller, once for each Idempotency-Key."""

    def work(session: Session) -> Answer:
        reader, trail = _reader_and_trail(session)
        desk = change(trail, reader)
        return Answer(saved_out(desk), headers=_version(desk))

    return write_once(work, headers=headers, check_replay=check_replay)


def _reader_and_trail(session: Session) -> tuple[Reader, Trail]:
    reader = reader_of(session, caller())
    study = get_study(session, reader.study_id)
    actor = caller().actor(reader=reader.name)
    return reader, trail_of(session, study, actor, state().clock())


def _version(desk: Desk) -> dict[str, str]:
    return {"ETag": etag(desk.sheet.reading.version)}
