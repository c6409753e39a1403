"""The reconstruction worker: claim, fetch, decide, reconstruct, store, finish.

It needs the API's address, a token and Orthanc's address; no database. The row in the API is the
truth: a worker that dies leaves a lease that runs out, and another attempt takes over.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from pydicom import Dataset

from halfscan_models.errors import ModelsError
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.archive import Archive, ArchiveUnavailable, SeriesNotFound
from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.headers import printable
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.rules import decide
from halfscan_plugin.volume import UnreadableSeries

__all__ = ["Worker"]

LONGEST_PAUSE_S = 30.0
LONGEST_TEXT = 2000  # what the API takes as a reason

log = structlog.get_logger()


class Worker:
    """Works off reconstructions until it is stopped.

    Parameters
    ----------
    ledger : Ledger
        The API.
    archive : Archive
        Orthanc.
    engine : Engine
        The loaded model.
    name : str
        How the ledger calls this worker.
    lease_s : float
        Length of a lease [s]; it is renewed at a third of it.
    poll_s : float
        Pause when nothing waits [s].
    """

    def __init__(
        self,
        ledger: Ledger,
        archive: Archive,
        engine: Engine,
        *,
        name: str,
        lease_s: float,
        poll_s: float,
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._engine = engine
        self._name = name
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._stop = threading.Event()

    def stop(self) -> None:
        """Finish the series at hand, then end."""
        self._stop.set()

    def run(self) -> None:
        """Claim and process until stopped; an API or an archive that is away is waited for."""
        pause_s = self._poll_s
        complaint = ""
        while not self._stop.is_set():
            try:
                worked = self.step()
            except (LedgerUnavailable, ArchiveUnavailable) as error:
                if str(error) != complaint:  # once, not at every try
                    log.warning("waiting", reason=str(error))
                complaint = str(error)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                worked = False
            else:
                if complaint:
                    log.info("reachable_again")
                complaint, pause_s = "", self._poll_s
            if not worked:
                self._stop.wait(pause_s)

    def step(self) -> bool:
        """Work off one reconstruction; False where nothing waits.

        Raises
        ------
        LedgerUnavailable, ArchiveUnavailable
            If one of them is away before something was claimed.
        """
        self._archive.ping()  # an archive that is away must not use up attempts
        job = self._ledger.claim(self._name, self._lease_s)
        if job is None:
            return False
        with self._lease(job) as lost:
            outcome = self._outcome(job)
            if lost.is_set():
                log.warning("lease_lost", id=job["id"], attempt=job["attempt"])
                return True
            self._report(job, outcome, lost)
        return True

    def _outcome(self, job: dict[str, Any]) -> dict[str, Any]:
        """Process one reconstruction; whatever happens becomes an outcome."""
        log.info("reconstruction_claimed", id=job["id"], attempt=job["attempt"])
        try:
            return self._process(job)
        except SeriesNotFound as error:
            return _skipped("series_not_found", str(error))
        except UnreadableSeries as error:
            return _skipped(error.code, str(error))
        except (HalfscanError, ModelsError) as error:
            text = printable(f"{type(error).__name__}: {error}", LONGEST_TEXT)
            return {"status": "failed", "error": text}
        except MemoryError:
            return {"status": "failed", "error": "MemoryError: the series does not fit"}
        except Exception as error:  # noqa: BLE001  (one series must not stop all the others)
            # A defect of ours or a file that nobody thought of. Kind and place, not the text:
            # it may quote a header, and logs carry no patient data.
            where = f"{type(error).__name__} at {_place(error)}"
            log.error("unexpected_error", id=job["id"], where=where)  # noqa: TRY400  (as above)
            return {"status": "failed", "error": f"unexpected {where}"}

    def _process(self, job: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        instance_ids = self._archive.instance_ids(job["orthanc_series_id"])
        # One object first: most series are not for us, and need not be fetched whole.
        first = self._archive.dataset(instance_ids[0])
        acquisition = read_acquisition(first)
        facts = acquisition.as_dict()
        decision = decide([first], acquisition, complete=False)
        if decision.action == "skip":
            return _skipped(decision.reason_code, decision.reason, facts)
        datasets = [first, *(self._archive.dataset(i) for i in instance_ids[1:])]
        decision = decide(datasets, acquisition)
        if decision.action == "skip":
            return _skipped(decision.reason_code, decision.reason, facts)
        fetched = time.perf_counter()
        return self._reconstruct(job, datasets, fetched - started) | {
            "reason_code": decision.reason_code,
            "reason": decision.reason,
            "acquisition": facts,
        }

    def _reconstruct(
        self, job: dict[str, Any], datasets: list[Dataset], fetch_s: float
    ) -> dict[str, Any]:
        numbers = self._archive.series_numbers(job["orthanc_series_id"])
        outcome = self._engine.run(datasets, numbers)
        begun = time.perf_counter()
        stored = self._archive.store(outcome.series.datasets)
        timings = {
            "fetch": round(fetch_s, 4),
            **outcome.timings_s,
            "store": round(time.perf_counter() - begun, 4),
        }
        return {
            "status": "done",
            **outcome.facts(),
            "derived_orthanc_series_id": stored.orthanc_series_id,
            "derived_instances": stored.instances,
            "timings_s": {**timings, "total": round(sum(timings.values()), 4)},
        }

    def _report(self, job: dict[str, Any], outcome: dict[str, Any], lost: threading.Event) -> None:
        """Report an outcome, for as long as the lease may still be ours."""
        while True:
            try:
                row = self._ledger.finish(job["id"], job["lease_token"], outcome)
            except LeaseLost as error:
                log.warning("lease_lost", id=job["id"], reason=str(error))
                return
            except LedgerRefused as error:
                # The row must not stay leased for an outcome that will never be taken.
                log.error("outcome_refused", id=job["id"], reason=str(error))  # noqa: TRY400  (ids only)
                if outcome["status"] == "failed":
                    return
                outcome = {"status": "failed", "error": f"the API refused the outcome: {error}"}
            except LedgerUnavailable as error:
                log.warning("outcome_waits", id=job["id"], reason=str(error))
                if lost.wait(self._poll_s) or self._stop.is_set():
                    return  # the lease runs out, and the next attempt finds its work done
            else:
                log.info(
                    "reconstruction_finished",
                    id=job["id"],
                    attempt=job["attempt"],
                    status=row["status"],
                    reason=row.get("reason_code") or row.get("error"),
                )
                return

    @contextlib.contextmanager
    def _lease(self, job: dict[str, Any]) -> Iterator[threading.Event]:
        """Keep the lease while the block runs; the event is set once it is lost."""
        lost, over = threading.Event(), threading.Event()

        def keep() -> None:
            while not over.wait(self._lease_s / 3):
                try:
                    self._ledger.renew(job["id"], job["lease_token"])
                except LeaseLost:
                    lost.set()
                    return
                except HalfscanError as error:
                    log.warning("lease_not_renewed", id=job["id"], reason=str(error))

        thread = threading.Thread(target=keep, name="halfscan-lease", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            over.set()
            thread.join(1.0)


def _skipped(code: str, reason: str, acquisition: dict[str, Any] | None = None) -> dict[str, Any]:
    text = printable(reason, LONGEST_TEXT)
    outcome = {"status": "skipped", "reason_code": code, "reason": text}
    return outcome if acquisition is None else {**outcome, "acquisition": acquisition}


def _place(error: BaseException) -> str:
    """Name file and line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
