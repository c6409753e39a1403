"""Reconstructions that finish join their cases by themselves, in the background.

The worker's report is committed and answered first. What happens here can fail in any way (the
archive is away, the series are odd): it is logged, and the ledger knows nothing of it. What was
missed, also by a server that was killed, the next enrolment of the study finds.
"""

from concurrent.futures import ThreadPoolExecutor

import structlog
from apiflask import APIFlask
from flask import Flask, current_app

from halfscan_api.archive import archive
from halfscan_api.audit import Actor
from halfscan_api.enrolment import service
from halfscan_api.enrolment.schemas import Enrolment
from halfscan_api.state import state

log = structlog.stdlib.get_logger(__name__)

ACTOR = Actor(token_id=None, name="automatic enrolment", role="service")
_KEY = "halfscan_enrolment_watcher"


class Watcher:
    """One thread that enrols, a study of the archive after the other."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="enrolment")
        self._waiting: set[str] = set()

    def settled(self, app: Flask, study_instance_uid: str) -> None:
        """Enrol what a study of the archive now has; returns at once."""
        # One look, which is still to come, is enough for all series of an examination.
        if study_instance_uid not in self._waiting:
            self._waiting.add(study_instance_uid)
            self._threads.submit(self._look, app, study_instance_uid)

    def _look(self, app: Flask, study_instance_uid: str) -> None:
        self._waiting.discard(study_instance_uid)
        _enrol(app, study_instance_uid)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown(wait=True)


def attach(app: APIFlask) -> None:
    """Give an app its watcher."""
    app.extensions[_KEY] = Watcher()


def watcher(app: Flask) -> Watcher:
    """Watcher of an app."""
    found = app.extensions[_KEY]
    if not isinstance(found, Watcher):
        raise TypeError(f"the app must carry a Watcher, got {type(found).__name__}")
    return found


def settled(study_instance_uid: str) -> None:
    """Say that a series of a study of the archive has its outcome; never fails, never waits."""
    if state().settings.orthanc_url is None:
        return
    app = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - a thread needs the app itself
    try:
        watcher(app).settled(app, study_instance_uid)
    except RuntimeError:  # the server is shutting down
        log.warning("enrolment_not_started", study_instance_uid=study_instance_uid)


def _enrol(app: Flask, study_instance_uid: str) -> None:
    with app.app_context():
        try:
            with state().database.read() as session:
                studies = service.automatic_studies(session)
            wanted = Enrolment(dry_run=False, study_instance_uids=[study_instance_uid])
            for study_id in studies:
                done = service.enrol(
                    state().database,
                    archive(),
                    study_id,
                    wanted,
                    actor=ACTOR,
                    now=state().clock(),
                )
                pairs = sum(len(case.pairs) for case in done.cases)
                log.info("cases_enrolled", study=study_id, pairs=pairs, automatic=True)
        except Exception as error:  # noqa: BLE001 - nobody waits for the result: the log has it
            log.warning("enrolment_failed", error=type(error).__name__, cause=str(error))
