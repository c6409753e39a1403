"""Routes under ``/api/v1/studies/{id}``: the statistics, and the revision as it moves.

While readings are open these tables would unblind: the statistician and the coordinator alone see
them, and that they looked is recorded. Readers get nothing here at any time.
"""

import json
from collections.abc import Hashable
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, request, url_for
from sqlalchemy.orm import Session

from halfscan_api.auth import Role, caller, requires
from halfscan_api.idempotency import etag
from halfscan_api.state import state
from halfscan_api.statistics import events, options, render
from halfscan_api.statistics.cache import Cache, Seen
from halfscan_api.statistics.results import Table
from halfscan_api.statistics.schemas import (
    STREAM_ANSWERS,
    StreamQuery,
    TableAddress,
    TableList,
    table_answers,
)
from halfscan_api.statistics.service import SUBJECTS, compute_table
from halfscan_api.studies.callers import callers_trail
from halfscan_api.studies.service import get_study
from halfscan_api.studies.tables import Study
from halfscan_api.studies.trail import note_look

blueprint = APIBlueprint("statistics", __name__, tag="statistics")

_TABLES = "halfscan_statistics_tables"
_PAGES = "halfscan_statistics_pages"
_SEEN = "halfscan_statistics_seen"
_ANSWERS = table_answers("There is no such study")
_TYPES = {
    "json": ("application/json", render.as_json),
    "csv": ("text/csv; charset=utf-8", render.as_csv),
    "html": ("text/html; charset=utf-8", render.as_html),
}
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def prepare(app: APIFlask, threads: int) -> None:
    """Give an app its cache and its places for streams."""
    tables: Cache[Table[Any]] = Cache()
    pages: Cache[str] = Cache()
    app.extensions[_TABLES], app.extensions[_PAGES] = tables, pages
    app.extensions[_SEEN] = Seen()
    events.limit_streams(app, threads)


@blueprint.get("/<int:study_id>/statistics")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(TableList)
@blueprint.doc(responses={404: "There is no such study"})
def list_tables(study_id: int) -> TableList:
    """List the tables, and the present revision."""
    with state().database.read() as session:
        revision = get_study(session, study_id).revision
    base = url_for(".list_tables", study_id=study_id)
    items = [
        TableAddress(name=name, what=subject.what, href=f"{base}/{name}")
        for name, subject in SUBJECTS.items()
    ]
    return TableList(revision=revision, items=items)


@blueprint.get("/<int:study_id>/statistics/protocol")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.TableQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_protocol(study_id: int, query_data: options.TableQuery) -> Response:
    """Table 1: the technical parameters of both arms, from the archived headers."""
    return _answer(study_id, "protocol", query_data)


@blueprint.get("/<int:study_id>/statistics/scan-time")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.DifferenceQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_scan_time(study_id: int, query_data: options.DifferenceQuery) -> Response:
    """Scan time of each sequence and of the whole protocol, and what is saved."""
    return _answer(study_id, "scan-time", query_data)


@blueprint.get("/<int:study_id>/statistics/image-quality")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.ScoreQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_image_quality(study_id: int, query_data: options.ScoreQuery) -> Response:
    """Table 2 for each sequence: scores by reader and arm, their difference and agreement."""
    return _answer(study_id, "image-quality", query_data)


@blueprint.get("/<int:study_id>/statistics/visual-grading")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.GradingQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_visual_grading(study_id: int, query_data: options.GradingQuery) -> Response:
    """Scores as ordered categories: areas under the curve (VGC), and odds ratios (VGR)."""
    return _answer(study_id, "visual-grading", query_data)


@blueprint.get("/<int:study_id>/statistics/snr")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.SnrQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_snr(study_id: int, query_data: options.SnrQuery) -> Response:
    """Table 3 for each sequence: signal-to-noise ratio by region, reader and arm; ICC."""
    return _answer(study_id, "snr", query_data)


@blueprint.get("/<int:study_id>/statistics/agreement")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.AgreementQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_agreement(study_id: int, query_data: options.AgreementQuery) -> Response:
    """Table 4: agreement between readers, between protocols, and of a reader with themselves."""
    return _answer(study_id, "agreement", query_data)


@blueprint.get("/<int:study_id>/statistics/detection")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.DetectionQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_detection(study_id: int, query_data: options.DetectionQuery) -> Response:
    """Table 5: what was found with both arms and with one alone; McNemar's test."""
    return _answer(study_id, "detection", query_data)


@blueprint.get("/<int:study_id>/statistics/equivalence")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.EquivalenceQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_equivalence(study_id: int, query_data: options.EquivalenceQuery) -> Response:
    """Non-inferiority and equivalence of the declared endpoints; interchangeability."""
    return _answer(study_id, "equivalence", query_data)


@blueprint.get("/<int:study_id>/statistics/mrmc")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.MrmcQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_mrmc(study_id: int, query_data: options.MrmcQuery) -> Response:
    """Many readers and cases: Obuchowski-Rockette against a reader who is the reference."""
    return _answer(study_id, "mrmc", query_data)


@blueprint.get("/<int:study_id>/statistics/sample-size")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.SampleSizeQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_sample_size(study_id: int, query_data: options.SampleSizeQuery) -> Response:
    """Sample sizes: from what the study has shown so far, or from the figures of the query."""
    return _answer(study_id, "sample-size", query_data)


@blueprint.get("/<int:study_id>/statistics/participants")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.TableQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_participants(study_id: int, query_data: options.TableQuery) -> Response:
    """The flow of participants: enrolled, excluded with the reason, read by whom."""
    return _answer(study_id, "participants", query_data)


@blueprint.get("/<int:study_id>/statistics/conduct")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.TableQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_conduct(study_id: int, query_data: options.TableQuery) -> Response:
    """Reading times, missing answers, exclusions with their end, and amended readings."""
    return _answer(study_id, "conduct", query_data)


@blueprint.get("/<int:study_id>/statistics/robustness")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.RobustnessQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_robustness(study_id: int, query_data: options.RobustnessQuery) -> Response:
    """Every comparison with a margin, done again without each patient."""
    return _answer(study_id, "robustness", query_data)


@blueprint.get("/<int:study_id>/statistics/failures")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.TableQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_failures(study_id: int, query_data: options.TableQuery) -> Response:
    """Findings that a reader saw with one protocol alone: case, level, reader."""
    return _answer(study_id, "failures", query_data)


@blueprint.get("/<int:study_id>/statistics/lineage")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(options.TableQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_lineage(study_id: int, query_data: options.TableQuery) -> Response:
    """Where every series comes from: source, model, and the answers that count."""
    return _answer(study_id, "lineage", query_data)


@blueprint.get("/<int:study_id>/events")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(StreamQuery, location="query")
@blueprint.doc(responses=STREAM_ANSWERS)
def stream(study_id: int, query_data: StreamQuery) -> Response:
    """Push the revision of the study as it moves; Last-Event-ID names the one that is known."""
    with state().database.read() as session:
        get_study(session, study_id)
    return events.open_stream(
        current_app._get_current_object(),  # type: ignore[attr-defined] # noqa: SLF001 - Flask's way
        state().database,
        study_id,
        known=events.last_event_id(request.headers.get("Last-Event-ID")),
        life_s=query_data.life_s,
    )


def _answer(study_id: int, name: str, query: options.TableQuery) -> Response:
    """Answer with a table in the format that was asked for, or with 304."""
    chosen = query.format or _accepted()
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        headers = {
            "ETag": etag(study.revision),
            "Cache-Control": "private, no-cache",
            "Vary": "Accept, Authorization",
        }
        if request.if_none_match.contains_weak(str(study.revision)):
            return Response(status=304, headers=headers)
        table = cached_table(session, study, name, query)
    content_type, write = _TYPES[chosen]
    pages: Cache[str] = current_app.extensions[_PAGES]
    body = pages.get((_key(study, name, query), chosen), lambda: write(table))
    looked(study_id, name, study.revision)
    if chosen == "html":
        headers["Content-Security-Policy"] = _PAGE_POLICY
    if chosen == "csv":
        filename = f"{table.study}-{name}-{table.revision}.csv"
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return Response(body, content_type=content_type, headers=headers)


def cached_table(
    session: Session, study: Study, name: str, query: options.TableQuery
) -> Table[Any]:
    """Give a table; computed once for each revision and options."""
    tables: Cache[Table[Any]] = current_app.extensions[_TABLES]
    return tables.get(_key(study, name, query), lambda: compute_table(session, study, name, query))


def _key(study: Study, name: str, query: options.TableQuery) -> Hashable:
    return study.id, study.revision, name, json.dumps(query.shown(), sort_keys=True)


def _accepted() -> str:
    """Choose by the header Accept; JSON where it does not say."""
    known = {"application/json": "json", "text/csv": "csv", "text/html": "html"}
    best = request.accept_mimetypes.best_match(list(known), default="application/json")
    return known[best]


def looked(study_id: int, name: str, revision: int) -> None:
    """Record that the caller saw a table, figure or report, once for each revision."""
    seen: Seen = current_app.extensions[_SEEN]
    key = (caller().token_id, study_id, name, revision)
    if key in seen:
        return
    with state().database.write() as session:
        study = get_study(session, study_id)
        trail = callers_trail(session, study)
        note_look(trail, study, f"statistics/{name}")
    seen.add(key)
