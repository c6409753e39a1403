"""The route of the report; who sees it, sees results by arm."""

from collections.abc import Hashable
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, request

from halfscan_api.auth import Role, requires
from halfscan_api.state import state
from halfscan_api.statistics.cache import Cache
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report.build import build
from halfscan_api.statistics.report.facts import load_facts
from halfscan_api.statistics.routes import cached_table, looked
from halfscan_api.studies.service import get_study

blueprint = APIBlueprint("report", __name__, tag="report")

MOST_KEPT = 8
_REPORTS = "halfscan_statistics_reports"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_ANSWERS: Any = {
    200: {
        "description": "The report, one file; ETag is the revision and what else it tells of",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    304: "It is the report that If-None-Match names",
    404: "There is no such study",
}


def prepare(app: APIFlask) -> None:
    """Give an app its place for reports."""
    reports: Cache[str] = Cache(MOST_KEPT)
    app.extensions[_REPORTS] = reports


@blueprint.get("/<int:study_id>/statistics/report")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.doc(responses=_ANSWERS)
def show_report(study_id: int) -> Response:
    """Write the report of the study: methods, participants, tables, figures, checklist."""
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        facts = load_facts(session, study, load_frame(session, study))
        # An amended reason or a waived wash-out moves no revision, but the report tells of it.
        version = f"{study.revision}-{facts.digest()}"
        headers = {
            "ETag": f'"{version}"',
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
            "Content-Security-Policy": POLICY,
        }
        if request.if_none_match.contains_weak(version):
            return Response(status=304, headers=headers)
        reports: Cache[str] = current_app.extensions[_REPORTS]
        key: Hashable = (study_id, version)
        body = reports.get(
            key,
            lambda: build(
                session, facts, lambda name, query: cached_table(session, study, name, query)
            ),
        )
    looked(study_id, "report", study.revision)
    filename = f"{study.name}-report-{study.revision}.html"
    headers["Content-Disposition"] = f'inline; filename="{filename}"'
    return Response(body, content_type="text/html; charset=utf-8", headers=headers)
