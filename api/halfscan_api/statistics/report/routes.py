"""The routes of the report; who sees it, sees results by arm.

A report takes seconds. It is made in the background and kept in the database, where every process
finds it; a request waits for it as long as its header Prefer says.
"""

import threading
import time
from typing import Any, Literal, cast

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, request, url_for

from halfscan_api.auth import Role, requires
from halfscan_api.state import state
from halfscan_api.statistics.report import ledger
from halfscan_api.statistics.report.ledger import ReportFailed, Version
from halfscan_api.statistics.report.making import Maker, present_version
from halfscan_api.statistics.report.preference import Preference, preference_of
from halfscan_api.statistics.report.schemas import ReportHeaders, ReportProgress
from halfscan_api.statistics.report.tables import ReportState, StudyReport
from halfscan_api.statistics.routes import looked

blueprint = APIBlueprint("report", __name__, tag="report")

# Without a preference. Less than what proxies between give an answer that does not come.
WAIT_S = 50.0
LOOK_EVERY_S = 0.2
RETRY_AFTER_S = 2
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_MAKER = "halfscan_report_maker"
_WAITING = "halfscan_report_waiting"
_PROGRESS: Any = {
    "application/json": {"schema": {"$ref": "#/components/schemas/ReportProgress"}},
}
_ANSWERS: Any = {
    200: {
        "description": "The report, one file; ETag is the revision and what else it tells of",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    202: {
        "description": "It is being made; Location tells how far it is",
        "content": _PROGRESS,
    },
    304: "It is the report that If-None-Match names",
    404: "There is no such study",
}
_BEGUN: Any = {
    202: {"description": "It is being made; Location tells how far it is", "content": _PROGRESS},
    404: "There is no such study",
}


def prepare(app: APIFlask, threads: int) -> None:
    """Give an app its maker of reports; at most half of the server's threads wait for them."""
    app.extensions[_MAKER] = Maker(app)
    app.extensions[_WAITING] = threading.BoundedSemaphore(max(1, threads // 2))


@blueprint.get("/<int:study_id>/statistics/report")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(ReportHeaders, location="headers")
@blueprint.doc(responses=_ANSWERS)
def show_report(study_id: int, headers_data: ReportHeaders) -> Response:
    """Give the report of the study; 202 where it is not ready within the wait (header Prefer)."""
    preference = preference_of(headers_data.prefer, default_s=WAIT_S, longest_s=WAIT_S)
    version, name = _present(study_id)
    if request.if_none_match.contains_weak(version.name):
        return Response(status=304, headers=_headers(version))
    version = _wait(version, preference.wait_s)
    with state().database.read() as session:
        row = ledger.find(session, version, content=True)
        body = None if row is None else ledger.html_of(row)
    if row is not None and row.state == ReportState.FAILED:
        raise _failure(row)
    if body is None:
        return _accepted(version, row, preference)
    looked(study_id, "report", version.revision)
    headers = _headers(version) | _applied(preference)
    filename = f"{name}-report-{version.revision}.html"
    headers["Content-Disposition"] = f'inline; filename="{filename}"'
    return Response(body, content_type="text/html; charset=utf-8", headers=headers)


@blueprint.post("/<int:study_id>/statistics/report")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ReportProgress, description="It is there")
@blueprint.doc(responses=_BEGUN)
def make_report(study_id: int) -> tuple[ReportProgress, int, dict[str, str]]:
    """Begin the report of the present state, where it is not there; a failed one is made anew."""
    version, _ = _present(study_id)
    _maker().ensure(version, again=True)
    body = _progress(version, _find(version))
    headers = {"Location": _monitor(study_id)}
    if body.state == "done":
        return body, 200, headers
    return body, 202, headers | {"Retry-After": str(RETRY_AFTER_S)}


@blueprint.get("/<int:study_id>/statistics/report/progress")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ReportProgress)
@blueprint.doc(responses={404: "There is no such study"})
def show_progress(study_id: int) -> tuple[ReportProgress, int, dict[str, str]]:
    """Tell how far the report of the present state is; begins none."""
    version, _ = _present(study_id)
    body = _progress(version, _find(version))
    headers = {"Cache-Control": "no-store"}
    if body.state == "making":
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return body, 200, headers


def _maker() -> Maker:
    return cast("Maker", current_app.extensions[_MAKER])


def _present(study_id: int) -> tuple[Version, str]:
    with state().database.snapshot() as session:
        return present_version(session, study_id)


def _find(version: Version) -> StudyReport | None:
    with state().database.read() as session:
        return ledger.find(session, version)


def _wait(version: Version, wait_s: float) -> Version:
    """Begin the report where nobody makes it, and wait until it is there, or failed.

    Returns
    -------
    Version
        Of the report: a newer one where the study moved on before it was begun.
    """
    waiting: threading.BoundedSemaphore = current_app.extensions[_WAITING]
    deadline = time.monotonic() + wait_s
    _begin(version)
    # Who finds no place asks again: the other threads keep on serving.
    if wait_s == 0 or not waiting.acquire(blocking=False):
        return version
    try:
        while True:
            row = _find(version)
            if row is not None and row.state != ReportState.MAKING:
                return version
            if row is None:
                version, _ = _present(version.study_id)
            if row is None or ledger.is_left(row, state().clock()):
                _maker().ensure(version)
            if time.monotonic() >= deadline:
                return version
            time.sleep(min(LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))
    finally:
        waiting.release()


def _begin(version: Version) -> None:
    row = _find(version)
    if row is None or row.state == ReportState.FAILED or ledger.is_left(row, state().clock()):
        _maker().ensure(version)


def _headers(version: Version) -> dict[str, str]:
    return {
        "ETag": f'"{version.name}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization, Prefer",
        "Content-Security-Policy": POLICY,
    }


def _applied(preference: Preference) -> dict[str, str]:
    return {"Preference-Applied": preference.applied} if preference.applied else {}


def _monitor(study_id: int) -> str:
    return url_for(".show_progress", study_id=study_id)


def _accepted(version: Version, row: StudyReport | None, preference: Preference) -> Response:
    headers = {
        "Location": _monitor(version.study_id),
        "Retry-After": str(RETRY_AFTER_S),
        "Cache-Control": "no-store",
        **_applied(preference),
    }
    body = _progress(version, row).model_dump_json()
    return Response(body, status=202, content_type="application/json", headers=headers)


def _progress(version: Version, row: StudyReport | None) -> ReportProgress:
    shown: Literal["absent", "making", "done", "failed"] = "absent"
    if row is not None and not ledger.is_left(row, state().clock()):
        shown = ReportState(row.state).value
    return ReportProgress(
        state=shown,
        revision=version.revision,
        etag=f'"{version.name}"',
        parts_done=row.parts_done if row is not None else 0,
        parts=row.parts if row is not None else 0,
        part=row.part if row is not None else "",
        started_at=row.started_at if row is not None else None,
        finished_at=row.finished_at if row is not None else None,
        error=row.error if row is not None else None,
        href=url_for(".show_report", study_id=version.study_id),
    )


def _failure(row: StudyReport) -> ReportFailed:
    seconds = int(ledger.PAUSE.total_seconds())
    return ReportFailed(
        f"the report of revision {row.revision} could not be made: {row.error}; POST makes it "
        f"again at once, GET after {seconds} s",
        headers={"Retry-After": str(seconds)},
    )
