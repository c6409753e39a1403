"""The reconstruction worker: claim, fetch, decide, reconstruct, store, finish.

It needs the API's address, a token and Orthanc's address; no database. The row in the API is the
truth: a worker that dies leaves a lease that runs out, and another attempt takes over.
"""

import threading
import time
from pathlib import Path
from typing import Any

import structlog
from pydicom import Dataset

from halfscan_models.errors import ModelsError
from halfscan_plugin.archive import (
    Archive,
    ArchiveUnavailable,
    SeriesNotFound,
    SourceSeries,
)
from halfscan_plugin.errors import GuardFailed, HalfscanError, UnreadableSeries
from halfscan_plugin.headers import printable
from halfscan_plugin.inspector import Inspector
from halfscan_plugin.lease import Lease
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.reconstruction import Engine, Outcome
from halfscan_plugin.rules import DEFAULT_RULES, Decision, Rules, judge
from halfscan_plugin.succession import Orphans, Succession

__all__ = ["Worker"]

LONGEST_PAUSE_S = 30.0
LONGEST_TEXT = 2000  # what the API takes as a reason
# A series that still arrives is looked at again after this time, unless it is announced before.
STILL_ARRIVING_S = 30
SUPERSEDED = "superseded"
# What may still come: it is waited for as long as the row has attempts.
MAY_STILL_COME = {"incomplete_concatenation"}

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
    rules : Rules
        What decides.
    orphans : {"remove", "keep"}
        What happens to a derived series that has lost its source.
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
        rules: Rules = DEFAULT_RULES,
        orphans: Orphans = "remove",
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._engine = engine
        self._name = name
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._rules = rules
        self._orphans: Orphans = orphans
        self._stop = threading.Event()

    def stop(self) -> None:
        """Finish the series at hand, then end."""
        self._stop.set()

    def run(self) -> None:
        """Claim and process until stopped; an API or an archive that is away is waited for.

        Questions about series are answered in a thread beside.

        Raises
        ------
        LedgerRefused
            If the token is wrong; it is asked for first, so that an archive that is away does not
            hide it.
        """
        inspector = Inspector(
            self._ledger,
            self._archive,
            self._rules,
            name=self._name,
            poll_s=self._poll_s,
            defaults=self._engine.defaults,
        )
        thread = threading.Thread(
            target=inspector.run, args=(self._stop,), name="halfscan-inspector", daemon=True
        )
        thread.start()
        try:
            self._work()
        finally:
            self._stop.set()
            thread.join(2.0)

    def _work(self) -> None:
        pause_s = self._poll_s
        complaint, checked = "", False
        while not self._stop.is_set():
            try:
                if not checked:
                    self._ledger.check()
                    checked = True
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
        lease = Lease(self._ledger, job, self._lease_s, self._stop)
        with lease.kept():
            outcome = self._outcome(job, lease)
            if lease.lost.is_set():
                log.warning("lease_lost", id=job["id"], attempt=job["attempt"])
                return True
            self._report(job, outcome, lease.lost)
        return True

    def _outcome(self, job: dict[str, Any], lease: Lease) -> dict[str, Any]:
        """Process one reconstruction; whatever happens becomes an outcome."""
        log.info("reconstruction_claimed", id=job["id"], attempt=job["attempt"])
        succession = Succession(self._archive, self._ledger, job, lease.check, self._orphans)
        try:
            outcome = self._done_or_skipped(job, lease, succession)
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
        return outcome

    def _done_or_skipped(
        self, job: dict[str, Any], lease: Lease, succession: Succession
    ) -> dict[str, Any]:
        try:
            source = self._archive.source(job["orthanc_series_id"])
            if source.source_digest != job["source_digest"]:
                return self._give_way(source)
            try:
                outcome = self._process(source, job, lease, succession)
            except UnreadableSeries as error:
                outcome = _skipped(error.code, str(error))
            if outcome["status"] == "skipped":
                return self._leave(source, job, outcome, succession)
        except (SeriesNotFound, _SourceChanged) as error:
            return self._look_again(job, error, succession)
        return outcome

    def _leave(
        self,
        source: SourceSeries,
        job: dict[str, Any],
        outcome: dict[str, Any],
        succession: Succession,
    ) -> dict[str, Any]:
        """Skip a series; what is not whole yet is waited for, and what stands beside is tidied."""
        may_come = outcome["reason_code"] in MAY_STILL_COME
        if may_come and job["attempt"] < job.get("max_attempts", 0):
            return {"status": "failed", "error": f"waiting for the rest: {outcome['reason']}"}
        if outcome["reason_code"] == "halfscan_output":
            remark = succession.tidy(source)
            if "reason" in remark:
                reason = f"{outcome['reason']}; {remark['reason']}"
                outcome |= {**remark, "reason": printable(reason, LONGEST_TEXT)}
        kept = succession.keep(source).facts()
        kept["warnings"] = [*outcome.get("warnings", []), *kept.get("warnings", [])]
        return outcome | {name: value for name, value in kept.items() if value}

    def _look_again(
        self, job: dict[str, Any], cause: Exception, succession: Succession
    ) -> dict[str, Any]:
        """Say what became of a series that changed or went while it was worked on."""
        try:
            source = self._archive.source(job["orthanc_series_id"])
        except SeriesNotFound:
            return _skipped("series_not_found", str(cause)) | succession.orphan().facts()
        if source.source_digest != job["source_digest"]:
            return self._give_way(source)
        return {"status": "failed", "error": f"the series was stored anew meanwhile: {cause}"}

    def _process(
        self, source: SourceSeries, job: dict[str, Any], lease: Lease, succession: Succession
    ) -> dict[str, Any]:
        started = time.perf_counter()
        # Headers first: most series are not for us, and their pixels need not be fetched.
        acquisition, decision = judge(self._archive.headers(source.orthanc_series_id), self._rules)
        decided = {
            "rule": decision.rule or None,
            "reason_code": decision.reason_code,
            "reason": printable(decision.reason, LONGEST_TEXT),
            "acquisition": acquisition.as_dict(),
        }
        detected = time.perf_counter()
        if decision.action == "skip":
            return {"status": "skipped", **decided}
        try:
            datasets = [self._archive.dataset(instance_id) for instance_id in source.instance_ids]
            timings = {"detect": detected - started, "fetch": time.perf_counter() - detected}
            outcome = self._run(source, job, datasets, decision)
            return self._store(source, lease, outcome, decision, timings, succession) | decided
        except UnreadableSeries as error:  # what the headers did not tell
            return decided | _skipped(error.code, str(error))
        except GuardFailed as error:
            return decided | self._refused(error, decision)

    def _refused(self, error: GuardFailed, decision: Decision) -> dict[str, Any]:
        """Say of a result that is not stored what it was made with, and how far off it was."""
        written = printable(str(error), LONGEST_TEXT)
        return {
            "status": "failed",
            "permanent": True,  # the same pixels give the same result
            "reason_code": error.code,
            "reason": written,
            "error": written,
            **self._engine.provenance_of(decision).facts(),
            "quality": error.facts or None,
            "warnings": list(decision.warnings),
        }

    def _give_way(self, source: SourceSeries) -> dict[str, Any]:
        """Leave a series that holds another content by now to the row that stands for it."""
        delay_s = 0 if source.is_stable else STILL_ARRIVING_S
        row = self._ledger.announce({**source.announcement(), "delay_s": delay_s})
        return _skipped(
            SUPERSEDED,
            f"the archive holds another content of it by now, {len(source.files)} instances: "
            f"reconstruction {row['id']} stands for it",
        )

    def _run(
        self,
        source: SourceSeries,
        job: dict[str, Any],
        datasets: list[Dataset],
        decision: Decision,
    ) -> Outcome:
        beside = self._archive.series_of_study(source.orthanc_study_id)
        numbers = {s.series_instance_uid: s.number for s in beside if s.number is not None}
        earlier = [made["derived_series_instance_uid"] for made in job["supersedes"]]
        return self._engine.run(datasets, numbers, decision=decision, replaces=earlier)

    def _store(
        self,
        source: SourceSeries,
        lease: Lease,
        outcome: Outcome,
        decision: Decision,
        timings_s: dict[str, float],
        succession: Succession,
    ) -> dict[str, Any]:
        """Store a derived series beside a source that is there before and after."""
        begun = time.perf_counter()
        self._check_source(source)
        lease.announce(outcome.series.series_instance_uid, self._poll_s)
        stored = self._archive.store(outcome.series.datasets, lease.check)
        try:
            self._check_source(source)
        except _SourceChanged:
            if stored.added:  # a study that was deleted must not come back with this series alone
                lease.check()
                self._archive.remove_derived(stored.orthanc_series_id)
            raise
        removal = succession.replace(source, outcome.series)
        facts = outcome.facts()
        timings = {
            **{name: round(seconds, 4) for name, seconds in timings_s.items()},
            **outcome.timings_s,
            "store": round(time.perf_counter() - begun, 4),
        }
        warnings = (*decision.warnings, *facts["warnings"], *removal.warnings)
        return {
            "status": "done",
            **facts,
            "derived_orthanc_series_id": stored.orthanc_series_id,
            "derived_instances": stored.instances,
            "timings_s": {**timings, "total": round(sum(timings.values()), 4)},
            "warnings": list(dict.fromkeys(warnings)),
            "replaced": removal.gone,
        }

    def _check_source(self, source: SourceSeries) -> None:
        if not self._archive.holds(source):
            raise _SourceChanged("the source changed or was deleted while it was reconstructed")

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


class _SourceChanged(HalfscanError):
    """The archive no longer holds what was read."""


def _skipped(code: str, reason: str) -> dict[str, Any]:
    text = printable(reason, LONGEST_TEXT)
    return {"status": "skipped", "reason_code": code, "reason": text}


def _place(error: BaseException) -> str:
    """Name file and line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
