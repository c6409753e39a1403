"""Routes under ``/api/v1/inspections``: ask what would happen to a series, without doing it.

A worker answers, because its rules and its models decide. Readers get nothing here: which series
would be reconstructed tells them what they must not know.
"""

import threading
import time
from typing import Any

import structlog
from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, url_for

from halfscan_api.auth import Role, requires
from halfscan_api.inspections import service
from halfscan_api.inspections.schemas import (
    ClaimedInspection,
    InspectionClaim,
    InspectionOut,
    InspectionOutcome,
    NewInspection,
    Wait,
)
from halfscan_api.state import state

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("inspections", __name__, tag="inspections")

LOOK_EVERY_S = 0.25
_WAITING = "halfscan_waiting"
# Any: APIFlask's annotation knows no mixture of texts and whole responses; its code does.
_CREATE_ANSWERS: Any = {
    200: {
        "description": "The same question is open already",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InspectionOut"}}},
    },
}


def limit_waiting(app: APIFlask, threads: int) -> None:
    """Let at most half of the server's threads wait for answers: the others keep on serving."""
    app.extensions[_WAITING] = threading.BoundedSemaphore(max(1, threads // 2))


@blueprint.post("")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(NewInspection)
@blueprint.output(InspectionOut, status_code=201, description="It is new; Location is its address")
@blueprint.doc(responses=_CREATE_ANSWERS)
def create(json_data: NewInspection) -> tuple[InspectionOut, int, dict[str, str]]:
    """Ask what would happen to a series in the archive; nothing is done to it."""
    with state().database.write() as session:
        row, is_new = service.create(session, json_data, now=state().clock())
        body = InspectionOut.model_validate(row)
    if is_new:
        log.info("inspection_created", id=body.id)
    location = url_for(".get_one", inspection_id=body.id)
    return body, 201 if is_new else 200, {"Location": location}


@blueprint.get("/<int:inspection_id>")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(Wait, location="query")
@blueprint.output(InspectionOut)
def get_one(inspection_id: int, query_data: Wait) -> InspectionOut:
    """Show an inspection, once it is answered or wait_s have passed.

    Sooner, and still open, where many wait at once: ask again.
    """
    _wait_until_settled(inspection_id, query_data.wait_s)
    with state().database.write() as session:
        row = service.get(session, inspection_id, now=state().clock())
        return InspectionOut.model_validate(row)


@blueprint.post("/claim")
@requires(Role.SERVICE)
@blueprint.input(InspectionClaim)
@blueprint.output(ClaimedInspection, description="Leased to this worker")
@blueprint.doc(responses={204: "Nobody asks"})
def claim(json_data: InspectionClaim) -> ClaimedInspection | Response:
    """Take the oldest open question."""
    with state().database.write() as session:
        row = service.claim(
            session, worker=json_data.worker, lease_s=json_data.lease_s, now=state().clock()
        )
        body = None if row is None else ClaimedInspection.model_validate(row)
    if body is None:
        return Response(status=204)
    log.info("inspection_claimed", id=body.id, worker=body.worker)
    return body


@blueprint.post("/<int:inspection_id>/outcome")
@requires(Role.SERVICE)
@blueprint.input(InspectionOutcome)
@blueprint.output(InspectionOut)
@blueprint.doc(responses={409: "The token does not hold the lease, or no longer"})
def finish(inspection_id: int, json_data: InspectionOutcome) -> InspectionOut:
    """Answer a question; the same answer may be sent again."""
    with state().database.write() as session:
        row = service.finish(session, inspection_id, json_data, now=state().clock())
        body = InspectionOut.model_validate(row)
    log.info("inspection_finished", id=body.id, status=body.status, error_code=body.error_code)
    return body


def _wait_until_settled(inspection_id: int, wait_s: float) -> None:
    waiting: threading.BoundedSemaphore = current_app.extensions[_WAITING]
    deadline = time.monotonic() + wait_s
    if wait_s == 0 or not waiting.acquire(blocking=False):
        return
    try:
        while time.monotonic() < deadline:
            with state().database.read() as session:
                if service.is_settled(session, inspection_id, now=state().clock()):
                    return
            time.sleep(min(LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))
    finally:
        waiting.release()
