"""Figures for Prometheus: requests counted here, reconstructions read from the database."""

from collections.abc import Iterator

import sqlalchemy.exc
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from halfscan_api.database import Database
from halfscan_api.reconstructions import service
from halfscan_api.reconstructions.standing import last_reconciliation
from halfscan_api.reconstructions.tables import Reconciliation

_DISAGREEMENTS = ("missing", "stale", "orphaned", "doubled", "unknown", "mended")
# A client may send any word as its method; each would become a series of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counters of one app; an app has its own registry, so that two can live in one process.

    Parameters
    ----------
    database : Database
        Asked for the reconstructions at each scrape: the row is the truth after a restart too.
    """

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "halfscan_api_requests",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "halfscan_api_request_duration_seconds",
            "Time to answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self.registry.register(_Reconstructions(database))

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the rule of the route, never its values."""
        method = method if method in _METHODS else "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class _Reconstructions(Collector):
    """Rows by status; without the database, only the figure that says so."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        # Named here so that registering asks nothing of a database that may not be there yet.
        yield from (_rows(), _disagreements(None), _compared(None), _database_up(0))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            with self._database.read() as session:
                counts = service.summary(session)
                last = last_reconciliation(session)
                comparison = (_disagreements(last), _compared(last))
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError):
            yield _database_up(0)
            return
        rows = _rows()
        for status, count in counts.items():
            rows.add_metric([status.value], count)
        yield rows
        yield from comparison
        yield _database_up(1)


def _rows() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "halfscan_reconstructions", "Reconstructions by status.", labels=["status"]
    )


def _disagreements(last: Reconciliation | None) -> GaugeMetricFamily:
    figures = GaugeMetricFamily(
        "halfscan_archive_disagreements",
        "Derived series about which ledger and archive disagreed when they were last compared.",
        labels=["kind"],
    )
    for kind in _DISAGREEMENTS if last is not None else ():
        figures.add_metric([kind], getattr(last, kind))
    return figures


def _compared(last: Reconciliation | None) -> GaugeMetricFamily:
    figures = GaugeMetricFamily(
        "halfscan_archive_compared_timestamp_seconds",
        "When ledger and archive were last compared [s since 1970].",
    )
    if last is not None:
        figures.add_metric([], last.finished_at.timestamp())
    return figures


def _database_up(value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily("halfscan_database_up", "1 while the database answers.", value=value)
