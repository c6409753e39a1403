"""Routes of the figures: the same rules as for the tables, since a figure unblinds as they do."""

from collections.abc import Hashable
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, current_app, request, url_for

from halfscan_api.auth import Role, requires
from halfscan_api.errors import HalfscanError
from halfscan_api.idempotency import etag
from halfscan_api.schemas import Output
from halfscan_api.state import state
from halfscan_api.statistics.cache import Cache
from halfscan_api.statistics.figures import catalogue
from halfscan_api.statistics.figures.catalogue import FIGURES, FigureName, FigureQuery
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.routes import looked
from halfscan_api.studies.service import get_study

blueprint = APIBlueprint("figures", __name__, tag="figures")

MOST_KEPT = 64
_FILES = "halfscan_statistics_figures"
_TYPES = {"svg": "image/svg+xml; charset=utf-8", "png": "image/png"}
# An SVG that is opened by itself is a document: it may load nothing and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANSWERS: Any = {
    200: {
        "description": "The figure; ETag is the revision of the study",
        "content": {"image/svg+xml": {"schema": {"type": "string"}}, "image/png": _BINARY},
    },
    304: "The revision is the one that If-None-Match names",
    404: "There is no such study or figure",
}


class FigureNotFound(HalfscanError):
    """No figure has this name."""

    http_status = 404


class FigureAddress(Output):
    """A figure that can be asked for."""

    name: str
    what: str
    href: str


class FigureList(Output):
    """The figures of a study."""

    revision: int
    items: list[FigureAddress]


def prepare(app: APIFlask) -> None:
    """Give an app its place for figures."""
    files: Cache[bytes] = Cache(MOST_KEPT)
    app.extensions[_FILES] = files


@blueprint.get("/<int:study_id>/statistics/figures")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(FigureList)
@blueprint.doc(responses={404: "There is no such study"})
def list_figures(study_id: int) -> FigureList:
    """List the figures, and the present revision."""
    with state().database.read() as session:
        revision = get_study(session, study_id).revision
    base = url_for(".list_figures", study_id=study_id)
    items = [
        FigureAddress(name=name, what=what, href=f"{base}/{name}") for name, what in FIGURES.items()
    ]
    return FigureList(revision=revision, items=items)


@blueprint.get("/<int:study_id>/statistics/figures/<name>")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.input(FigureQuery, location="query")
@blueprint.doc(responses=_ANSWERS)
def show_figure(study_id: int, name: str, query_data: FigureQuery) -> Response:
    """Draw a figure for print: SVG, or PNG at 300 dpi. Without data it says so."""
    known = _known(name)
    with state().database.snapshot() as session:
        study = get_study(session, study_id)
        headers = {
            "ETag": etag(study.revision),
            "Cache-Control": "private, no-cache",
            "Vary": "Authorization",
            "Content-Security-Policy": POLICY,
        }
        frame = load_frame(session, study)
        catalogue.check(frame, query_data)
        if request.if_none_match.contains_weak(str(study.revision)):
            return Response(status=304, headers=headers)
        key: Hashable = (study_id, study.revision, known, query_data.model_dump_json())
        files: Cache[bytes] = current_app.extensions[_FILES]
        content = files.get(key, lambda: catalogue.file_of(session, frame, known, query_data))
    looked(study_id, f"figures/{known}", study.revision)
    filename = f"{frame.name}-{known}-{study.revision}.{query_data.format}"
    headers["Content-Disposition"] = f'inline; filename="{filename}"'
    return Response(content, content_type=_TYPES[query_data.format], headers=headers)


def _known(name: str) -> FigureName:
    for known in FIGURES:
        if known == name:
            return known
    raise FigureNotFound(f"there is no figure {name}: there are {', '.join(FIGURES)}")
