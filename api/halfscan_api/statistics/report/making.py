"""Reports are made in the background, by a thread of the process that was asked first."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from halfscan_api.errors import HalfscanError
from halfscan_api.state import state
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report import ledger
from halfscan_api.statistics.report.build import build
from halfscan_api.statistics.report.facts import load_facts
from halfscan_api.statistics.report.ledger import Claim, ReportLeaseLost, Version, version_of
from halfscan_api.statistics.routes import cached_table
from halfscan_api.studies.service import get_study

log = structlog.stdlib.get_logger(__name__)

# Reports that a process makes at the same time: figures are drawn one by one anyway.
MOST_AT_ONCE = 2
NOTE_EVERY_S = 0.5
HEARTBEAT_S = 20.0


def present_version(session: Session, study_id: int) -> tuple[Version, str]:
    """Give the state that a study is in now, and the study's name.

    Raises
    ------
    StudyNotFound
    """
    study = get_study(session, study_id)
    return version_of(study, load_facts(session, study, load_frame(session, study))), study.name


class Maker:
    """Makes the reports of an app.

    Parameters
    ----------
    app : Flask
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def ensure(self, version: Version, *, again: bool = False) -> None:
        """Begin a report that nobody makes; `again` as in `ledger.claim`."""
        with state().database.write() as session:
            claimed = ledger.claim(session, version, now=state().clock(), again=again)
        if claimed is None:
            return
        # No process waits for it when it ends: the lease runs out, and another begins anew.
        threading.Thread(
            target=self._run,
            args=(version, claimed),
            name=f"report-{claimed.report_id}",
            daemon=True,
        ).start()

    def _run(self, version: Version, claimed: Claim) -> None:
        with self._app.app_context():
            try:
                with self._place(claimed):
                    self._make(version, claimed)
            except ReportLeaseLost:
                log.warning("report_lease_lost", report_id=claimed.report_id)
            except SQLAlchemyError as error:
                # The database is away, so that nothing can be noted there: the lease runs out.
                log.warning(
                    "report_stopped", report_id=claimed.report_id, error=type(error).__name__
                )

    @contextmanager
    def _place(self, claimed: Claim) -> Iterator[None]:
        while not self._places.acquire(timeout=HEARTBEAT_S):
            self._note(claimed, (0, 0, "waiting for other reports"))
        try:
            yield
        finally:
            self._places.release()

    def _make(self, version: Version, claimed: Claim) -> None:
        began = time.monotonic()
        try:
            page = self._page(version, claimed)
        except (ReportLeaseLost, SQLAlchemyError):
            raise
        except Exception as error:
            log.exception("report_failed", report_id=claimed.report_id)
            # What an error of ours says is made for whoever asked.
            why = str(error) if isinstance(error, HalfscanError) else type(error).__name__
            with state().database.write() as session:
                ledger.fail(session, claimed, why, now=state().clock())
            return
        with state().database.write() as session:
            if page is None:
                ledger.give_up(session, claimed)
            else:
                ledger.finish(session, claimed, page, now=state().clock())
        log.info(
            "report_made" if page is not None else "report_outdated",
            report_id=claimed.report_id,
            study_id=version.study_id,
            revision=version.revision,
            duration_s=round(time.monotonic() - began, 1),
        )

    def _page(self, version: Version, claimed: Claim) -> str | None:
        """Write the report; None where the study has moved on since it was claimed."""
        last = [0.0]

        def note(done: int, parts: int, part: str) -> None:
            if time.monotonic() - last[0] >= NOTE_EVERY_S:
                self._note(claimed, (done, parts, part))
                last[0] = time.monotonic()

        with state().database.snapshot() as session:
            study = get_study(session, version.study_id)
            facts = load_facts(session, study, load_frame(session, study))
            if version_of(study, facts) != version:
                return None
            return build(
                session,
                facts,
                lambda name, query: cached_table(session, study, name, query),
                progress=note,
            )

    @staticmethod
    def _note(claimed: Claim, progress: tuple[int, int, str]) -> None:
        with state().database.write() as session:
            ledger.advance(session, claimed, progress, now=state().clock())
