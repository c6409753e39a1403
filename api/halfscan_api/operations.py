"""Routes for those who run the API: alive, ready, metrics."""

from ipaddress import ip_address
from typing import Any

from apiflask import APIBlueprint
from flask import Response, current_app, redirect, request, url_for
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug import Response as BaseResponse

from halfscan_api import migrate
from halfscan_api.auth import SCHEME, Role, admit, public
from halfscan_api.errors import DatabaseUnavailable, HalfscanError, one_line
from halfscan_api.metrics import Metrics
from halfscan_api.schemas import Output
from halfscan_api.state import state

METRICS = "halfscan_metrics"
# Any: APIFlask's annotation is narrower than what its code takes.
_METRICS_ANSWERS: Any = {
    200: {
        "description": "Prometheus text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    401: "From another machine a token is needed",
    403: "The role of the token is another",
}
_SCRAPERS = frozenset(Role) - {Role.READER}
_METRICS_SECURITY: Any = [{}, {SCHEME: sorted(_SCRAPERS)}]
# A proxy on this machine adds one of these: whoever stands behind it is not on this machine.
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")

blueprint = APIBlueprint("operations", __name__, tag="operations")


class SchemaOutdated(HalfscanError):
    """The schema is not the one that this program needs."""

    http_status = 503


class Alive(Output):
    """The process answers."""

    status: str


class Ready(Output):
    """The database answers and has the right schema."""

    status: str
    revision: str


@blueprint.get("/")
@public
@blueprint.doc(hide=True)
def root() -> BaseResponse:
    """Send a person who opens the address to the documentation."""
    return redirect(url_for("openapi.docs"))


@blueprint.get("/healthz")
@public
@blueprint.output(Alive)
def healthz() -> Alive:
    """Tell whether the process is alive.

    Asks nothing of the database: a supervisor that restarts the API cannot mend the database.
    """
    return Alive(status="alive")


@blueprint.get("/readyz")
@public
@blueprint.output(Ready)
@blueprint.doc(responses={503: "The database does not answer, or its schema is another"})
def readyz() -> Ready:
    """Tell whether requests can be served.

    The database must answer, and its schema must be at the newest revision.
    """
    try:
        revision = migrate.current(state().database)
    except DatabaseUnavailable as error:
        # The address of the database is for the log, not for everyone.
        cause = error.__cause__ or error
        raise DatabaseUnavailable(f"the database does not answer: {one_line(cause)}") from error
    if revision != migrate.head():
        raise SchemaOutdated(
            f"the schema must be at revision {migrate.head()}, got {revision or 'none'}: "
            "run flask --app halfscan_api.wsgi db upgrade, or restart halfscan serve"
        )
    return Ready(status="ready", revision=revision)


@blueprint.get("/metrics")
@public
@blueprint.doc(responses=_METRICS_ANSWERS, security=_METRICS_SECURITY)
def metrics() -> Response:
    """Give the figures for Prometheus: counts and times, no identifiers.

    How often readings were completed is among them, and nobody's business while a study runs: from
    another machine it takes a token of any role but reader. On this machine none is needed, so
    that the figures are there when the database is not.
    """
    if "Authorization" in request.headers or not _from_this_machine():
        admit(_SCRAPERS)
    gathered = current_app.extensions[METRICS]
    if not isinstance(gathered, Metrics):
        raise TypeError(f"the app must carry Metrics, got {type(gathered).__name__}")
    return Response(generate_latest(gathered.registry), content_type=CONTENT_TYPE_LATEST)


def _from_this_machine() -> bool:
    if not state().settings.metrics_loopback or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
