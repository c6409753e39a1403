"""The app factory."""

import time
import uuid
from importlib.metadata import version

import structlog
from apiflask import APIFlask
from flask import Response, g, request

from halfscan_api import archive, migrate, operations
from halfscan_api.auth import check_rules
from halfscan_api.blinded import answers as blinded
from halfscan_api.blinded import routes as blinded_images
from halfscan_api.blinded import search_routes as blinded_search
from halfscan_api.blinded import store_routes as blinded_store
from halfscan_api.cors import allow_origins
from halfscan_api.database import Clock, Database, utc_now
from halfscan_api.documentation import configure_documentation
from halfscan_api.enrolment import routes as enrolment
from halfscan_api.enrolment import watcher
from halfscan_api.errors import register_error_handlers
from halfscan_api.inspections import routes as inspections
from halfscan_api.measurements import routes as measurements
from halfscan_api.metrics import Metrics
from halfscan_api.readings import routes as readings
from halfscan_api.reconstructions import routes as reconstructions
from halfscan_api.settings import Settings
from halfscan_api.state import State, attach
from halfscan_api.statistics import routes as statistics
from halfscan_api.statistics.figures import routes as figures
from halfscan_api.statistics.report import routes as report
from halfscan_api.studies import noise_routes as noise_series
from halfscan_api.studies import record_routes as study_records
from halfscan_api.studies import routes as studies
from halfscan_api.tokens import routes as tokens

log = structlog.stdlib.get_logger(__name__)


def create_app(settings: Settings, *, clock: Clock = utc_now) -> APIFlask:
    """Make the app; the database is not touched before the first request.

    Parameters
    ----------
    settings : Settings
    clock : callable
        Gives the time now, with its zone.
    """
    app = APIFlask(
        "halfscan_api",
        title="Halfscan",
        version=version("halfscan"),
        docs_oauth2_redirect_path=None,
        # No folder of its own to serve files from.
        static_folder=None,  # type: ignore[arg-type] # APIFlask narrows Flask's str | None
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    database = Database(settings.url, pool_size=settings.threads, info=settings.session_info)
    attach(app, State(settings=settings, database=database, clock=clock))
    register_error_handlers(app)
    configure_documentation(app)
    _watch_requests(app, Metrics(database))
    archive.attach(app, settings)
    blinded.attach_cache(app)
    watcher.attach(app)
    allow_origins(app, settings.origins)
    inspections.limit_waiting(app, settings.threads)
    statistics.prepare(app, settings.threads)
    figures.prepare(app)
    report.prepare(app, settings.threads)
    app.register_blueprint(operations.blueprint)
    app.register_blueprint(reconstructions.blueprint, url_prefix="/api/v1/reconstructions")
    app.register_blueprint(inspections.blueprint, url_prefix="/api/v1/inspections")
    app.register_blueprint(tokens.blueprint, url_prefix="/api/v1")
    app.register_blueprint(studies.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(noise_series.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(study_records.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(
        enrolment.blueprint, url_prefix="/api/v1/studies/<int:study_id>/enrolment"
    )
    app.register_blueprint(readings.blueprint, url_prefix="/api/v1")
    app.register_blueprint(statistics.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(figures.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(report.blueprint, url_prefix="/api/v1/studies")
    app.register_blueprint(measurements.blueprint, url_prefix="/api/v1")
    app.register_blueprint(blinded_search.blueprint, url_prefix=blinded.ROOT)
    app.register_blueprint(blinded_store.blueprint, url_prefix=blinded.ROOT)
    app.register_blueprint(blinded_images.blueprint, url_prefix=blinded.ROOT)
    app.cli.add_command(migrate.db)
    check_rules(app)
    return app


def _watch_requests(app: APIFlask, metrics: Metrics) -> None:
    """Count, time and log every request, under an id that the client gets to see."""
    app.extensions[operations.METRICS] = metrics

    def begin() -> None:
        g.began = time.perf_counter()
        g.request_id = uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.began
        route = request.url_rule.rule if request.url_rule else "(none)"
        status = response.status_code
        metrics.observe(method=request.method, route=route, status=status, seconds=seconds)
        response.headers["X-Request-ID"] = g.request_id
        caller = g.get("caller")
        # What polls and scrapes all day long is for debugging only.
        quiet = status == 204 or (request.method in {"GET", "HEAD"} and status < 400)
        (log.debug if quiet else log.info)(
            "request_answered",
            method=request.method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            token_id=caller.token_id if caller else None,
        )
        return response

    app.before_request(begin)
    app.after_request(end)
