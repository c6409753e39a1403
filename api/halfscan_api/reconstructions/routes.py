"""Routes under ``/api/v1/reconstructions``.

Readers get nothing here: which series was reconstructed would tell them what they must not know.
"""

from typing import Any

import structlog
from apiflask import APIBlueprint
from flask import Response, request, url_for

from halfscan_api.auth import Role, requires
from halfscan_api.enrolment import watcher
from halfscan_api.errors import HalfscanError
from halfscan_api.reconstructions import service
from halfscan_api.reconstructions.departures import depart
from halfscan_api.reconstructions.replacement import find_superseded
from halfscan_api.reconstructions.schemas import (
    Claim,
    ClaimedReconstruction,
    Departures,
    DeparturesOut,
    LeaseOut,
    NewReconciliation,
    NewReconstruction,
    Outcome,
    OutcomeStatus,
    Place,
    ReconciliationOut,
    ReconstructionDetail,
    ReconstructionFilter,
    ReconstructionOut,
    ReconstructionPage,
    Renewal,
    SourcePage,
    SourcePlace,
    StandingPage,
    Summary,
)
from halfscan_api.reconstructions.standing import (
    last_reconciliation,
    list_sources,
    list_standing,
    note_reconciliation,
)
from halfscan_api.reconstructions.tables import Reconstruction, Status
from halfscan_api.state import state


class BodyNotTaken(HalfscanError):
    """The request says something that this route would not heed."""

    http_status = 422


log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("reconstructions", __name__, tag="reconstructions")

# Any: APIFlask's annotation knows no mixture of texts and whole responses; its code does.
_CREATE_ANSWERS: Any = {
    200: {
        "description": "The same instances of this series were announced before",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ReconstructionOut"}}
        },
    },
    409: "They were announced before with other facts",
}
_LEASE_LOST = "The token does not hold the lease, or no longer"


@blueprint.post("")
@requires(Role.SERVICE, Role.COORDINATOR)
@blueprint.input(NewReconstruction)
@blueprint.output(
    ReconstructionOut, status_code=201, description="It is new; Location is its address"
)
@blueprint.doc(responses=_CREATE_ANSWERS)
def create(json_data: NewReconstruction) -> tuple[ReconstructionOut, int, dict[str, str]]:
    """Announce a series.

    Idempotent: the same series with the same content (source_digest) gives the same row. With
    another content, be it other instances or other pixels under the same UIDs, it is another row.
    A row that gave way to another content, whose series was gone or whose derived series was
    deleted is pending again when its own content is announced again.
    """
    with state().database.write() as session:
        row, is_new = service.create(
            session,
            json_data,
            max_attempts=state().settings.max_attempts,
            now=state().clock(),
        )
        body = ReconstructionOut.model_validate(row)
    if is_new:
        log.info("reconstruction_created", id=body.id, n_instances=body.n_instances)
    location = url_for(".get_one", reconstruction_id=body.id)
    return body, 201 if is_new else 200, {"Location": location}


@blueprint.post("/claim")
@requires(Role.SERVICE)
@blueprint.input(Claim)
@blueprint.output(ClaimedReconstruction, description="Leased to this worker")
@blueprint.doc(responses={204: "There is nothing to do"})
def claim(json_data: Claim) -> ClaimedReconstruction | Response:
    """Take the next reconstruction.

    It is leased for lease_s seconds; a worker that needs longer renews the lease. A worker that
    lets the lease run out loses the row to the next one; at the last attempt the row becomes dead.
    Two rows of one series are never leased at a time. `supersedes` lists the derived series of
    earlier attempts at it that nothing has replaced yet.
    """
    body: ClaimedReconstruction | None = None
    with state().database.write() as session:
        row, buried = service.claim(
            session,
            worker=json_data.worker,
            lease_s=json_data.lease_s or state().settings.lease_s,
            now=state().clock(),
        )
        if row is not None:
            body = ClaimedReconstruction(
                **ReconstructionOut.model_validate(row).model_dump(),
                lease_token=row.lease_token,
                look_again=row.look_again,
                supersedes=find_superseded(session, row),
            )
            row.look_again = False  # this claim looks
    for row_id in buried:
        log.warning("reconstruction_dead", id=row_id, cause="worker_vanished")
    if body is None:
        return Response(status=204)
    log.info("reconstruction_claimed", id=body.id, attempt=body.attempt, worker=body.worker)
    return body


@blueprint.post("/<int:reconstruction_id>/lease")
@requires(Role.SERVICE)
@blueprint.input(Renewal)
@blueprint.output(LeaseOut)
@blueprint.doc(responses={409: _LEASE_LOST})
def renew(reconstruction_id: int, json_data: Renewal) -> LeaseOut:
    """Prolong a lease by its length.

    Also one that has run out, while nobody else has taken the row. With
    derived_series_instance_uid the worker says what it is about to store.
    """
    with state().database.write() as session:
        until = service.renew(
            session,
            reconstruction_id,
            lease_token=json_data.lease_token,
            now=state().clock(),
            derived_series_instance_uid=json_data.derived_series_instance_uid,
        )
    log.debug("reconstruction_lease_renewed", id=reconstruction_id)
    return LeaseOut(lease_until=until)


@blueprint.post("/<int:reconstruction_id>/outcome")
@requires(Role.SERVICE)
@blueprint.input(Outcome)
@blueprint.output(ReconstructionOut)
@blueprint.doc(responses={409: f"{_LEASE_LOST}; or it reported another outcome before"})
def finish(reconstruction_id: int, json_data: Outcome) -> ReconstructionOut:
    """Report what became of a claim.

    `done` and `skipped` end it. `failed` lets it wait, each time twice as long, and try again, or
    makes it dead after the last attempt or when it is permanent. The same report may be sent
    again: it changes nothing and gets the same answer.
    """
    with state().database.write() as session:
        row, changed = service.finish(
            session,
            reconstruction_id,
            json_data,
            settings=state().settings,
            now=state().clock(),
        )
        body = ReconstructionOut.model_validate(row)
    if changed:
        _log_outcome(body, json_data)
        # A standard series, which is skipped, may be the last one that its case waited for.
        if body.status in {Status.DONE, Status.SKIPPED}:
            watcher.settled(body.study_instance_uid)
    return body


@blueprint.get("")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(ReconstructionFilter, location="query")
@blueprint.output(ReconstructionPage)
def find(query_data: ReconstructionFilter) -> ReconstructionPage:
    """List reconstructions, newest first."""
    with state().database.read() as session:
        page = service.find(session, query_data)
        return ReconstructionPage(
            items=[ReconstructionOut.model_validate(row) for row in page.items],
            page=query_data.page,
            per_page=query_data.per_page,
            total=page.total,
            pages=-(-page.total // query_data.per_page),
        )


@blueprint.get("/summary")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(Summary)
def summarize() -> Summary:
    """Count the reconstructions by status."""
    with state().database.read() as session:
        counts = service.summary(session)
    figures: dict[str, Any] = {status.value: count for status, count in counts.items()}
    return Summary(**figures, total=sum(counts.values()))


@blueprint.post("/departures")
@requires(Role.SERVICE)
@blueprint.input(Departures)
@blueprint.output(DeparturesOut)
def note_departures(json_data: Departures) -> DeparturesOut:
    """Tell which series were deleted from the archive, sources and derived ones.

    A row whose source is gone is pending again where it has a derived series, which a worker then
    removes or keeps as it was set; one whose derived series is gone is skipped, as
    `derived_deleted`, until its source is announced again or somebody retries it. Telling twice
    changes nothing.
    """
    with state().database.write() as session:
        ids = depart(session, json_data.orthanc_series_ids, state().clock())
    for row_id in ids:
        log.info("reconstruction_lost_series", id=row_id)
    return DeparturesOut(reconstructions=ids)


@blueprint.get("/standing")
@requires(Role.SERVICE, Role.COORDINATOR)
@blueprint.input(Place, location="query")
@blueprint.output(StandingPage)
def find_standing(query_data: Place) -> StandingPage:
    """List the derived series that should be in the archive, oldest first.

    They were made and neither replaced nor deleted, as far as the ledger knows; each with the
    contents that its source may have now. `halfscan doctor archive` compares them.
    """
    with state().database.read() as session:
        return list_standing(session, query_data.after, query_data.limit)


@blueprint.get("/sources")
@requires(Role.SERVICE, Role.COORDINATOR)
@blueprint.input(SourcePlace, location="query")
@blueprint.output(SourcePage)
def find_sources(query_data: SourcePlace) -> SourcePage:
    """List the series that were looked at and should be in the archive, with their instances.

    The plugin counts them after images were deleted: a series with another number of images is
    announced as it is by then. With `gone` those too that are known to be deleted, without a
    number: one of them that is in the archive has come back.
    """
    query = query_data
    with state().database.read() as session:
        return list_sources(session, query.after, query.limit, gone=query.gone)


@blueprint.post("/reconciliations")
@requires(Role.SERVICE)
@blueprint.input(NewReconciliation)
@blueprint.output(ReconciliationOut, status_code=201)
def add_reconciliation(json_data: NewReconciliation) -> ReconciliationOut:
    """Note what a comparison of ledger and archive came to; `/metrics` tells the last one."""
    with state().database.write() as session:
        row = note_reconciliation(session, json_data, state().clock())
        return ReconciliationOut.model_validate(row)


@blueprint.get("/reconciliations/last")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ReconciliationOut)
@blueprint.doc(responses={204: "Ledger and archive were never compared"})
def get_last_reconciliation() -> ReconciliationOut | Response:
    """Tell what the last comparison of ledger and archive came to."""
    with state().database.read() as session:
        row = last_reconciliation(session)
        return Response(status=204) if row is None else ReconciliationOut.model_validate(row)


@blueprint.get("/<int:reconstruction_id>")
@requires(Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ReconstructionDetail)
def get_one(reconstruction_id: int) -> ReconstructionDetail:
    """Show a reconstruction and its attempts."""
    with state().database.read() as session:
        return ReconstructionDetail.model_validate(service.get(session, reconstruction_id))


@blueprint.post("/<int:reconstruction_id>/retry")
@requires(Role.SERVICE, Role.COORDINATOR)
@blueprint.output(ReconstructionOut)
@blueprint.doc(responses={409: "It has not ended yet", 422: "The request has a body"})
def retry(reconstruction_id: int) -> ReconstructionOut:
    """Let a reconstruction that has ended begin anew.

    A done one is made again with the rules and the model of today; its derived series stays in
    the archive until the next one is stored. There is no body: another model or strength is a
    matter of the worker's rules.
    """
    if request.get_data() and request.get_json(silent=True) != {}:
        raise BodyNotTaken(
            "a retry takes no body: the next worker's rules, model and settings decide"
        )
    with state().database.write() as session:
        row: Reconstruction = service.retry(session, reconstruction_id, now=state().clock())
        body = ReconstructionOut.model_validate(row)
    log.info("reconstruction_retried", id=reconstruction_id)
    return body


def _log_outcome(body: ReconstructionOut, outcome: Outcome) -> None:
    if body.status is Status.PENDING and outcome.status is not OutcomeStatus.FAILED:
        log.info("reconstruction_looked_at_again", id=body.id, attempt=body.attempt)
        return
    event = {
        "done": "reconstruction_done",
        "skipped": "reconstruction_skipped",
        "dead": "reconstruction_dead",
        "pending": "reconstruction_failed",
    }[body.status.value]
    level = log.warning if body.status.value in {"dead", "pending"} else log.info
    level(event, id=body.id, attempt=body.attempt, reason_code=body.reason_code)
