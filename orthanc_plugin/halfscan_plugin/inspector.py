"""Answers to the question what would happen to a series in the archive; nothing is done to it.

A small thread beside the worker's own, so that a question does not wait behind a long series.
"""

import threading
from typing import Any

import structlog

from halfscan_plugin.archive import Archive, ArchiveUnavailable, SeriesNotFound
from halfscan_plugin.errors import HalfscanError, UnreadableSeries
from halfscan_plugin.headers import printable
from halfscan_plugin.inspection import Defaults, inspect_series
from halfscan_plugin.ledger import Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.rules import Rules

__all__ = ["Inspector"]

LONGEST_PAUSE_S = 30.0
LEASE_S = 120  # of one question: the headers of thousands of objects take their time
LONGEST_TEXT = 2000  # what the API takes as an error

log = structlog.get_logger()


class Inspector:
    """Answers inspections until it is stopped.

    Parameters
    ----------
    ledger : Ledger
        The API.
    archive : Archive
        Orthanc.
    rules : Rules
        What decides.
    name : str
        How the API calls this worker.
    poll_s : float
        Pause when nobody asks [s].
    defaults : Defaults, optional
        What the worker takes where no rule names it.
    """

    def __init__(
        self,
        ledger: Ledger,
        archive: Archive,
        rules: Rules,
        *,
        name: str,
        poll_s: float,
        defaults: Defaults | None = None,
    ) -> None:
        self._ledger = ledger
        self._archive = archive
        self._rules = rules
        self._defaults = defaults
        self._name = name
        self._poll_s = poll_s

    def run(self, stop: threading.Event) -> None:
        """Answer until `stop` is set; an API that is away is waited for."""
        pause_s = self._poll_s
        while not stop.is_set():
            answered = False
            try:
                answered = self.step()
                pause_s = self._poll_s
            except LedgerUnavailable:  # the worker's own thread says so
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            except LedgerRefused as error:
                # A wrong token ends the worker itself; an API of before knows no inspections.
                log.warning("inspections_are_off", reason=str(error))
                return
            if not answered:
                stop.wait(pause_s)

    def step(self) -> bool:
        """Answer one question; False where nobody asks.

        Raises
        ------
        LedgerUnavailable, LedgerRefused
            If the API is away, or does not take an answer.
        """
        job = self._ledger.claim_inspection(self._name, LEASE_S)
        if job is None:
            return False
        outcome = self._outcome(job)
        try:
            self._ledger.finish_inspection(job["id"], job["lease_token"], outcome)
        except (LedgerUnavailable, LedgerRefused):
            raise
        except HalfscanError as error:  # the lease is lost: another one has the question
            log.warning("inspection_lost", id=job["id"], reason=str(error))
        else:
            log.info("inspection_answered", id=job["id"], status=outcome["status"])
        return True

    def _outcome(self, job: dict[str, Any]) -> dict[str, Any]:
        """Look at one series; whatever happens becomes an answer."""
        try:
            headers = self._archive.headers(self._find(job))
            return {
                "status": "done",
                "result": inspect_series(headers, self._rules, self._defaults),
            }
        except SeriesNotFound as error:
            return _failed("series_not_found", str(error))
        except ArchiveUnavailable as error:
            return _failed("archive_unavailable", str(error))
        except UnreadableSeries as error:
            return _failed(error.code, str(error))
        except _AmbiguousSeries as error:
            return _failed("ambiguous_series", str(error))
        except Exception as error:  # noqa: BLE001  (one question must not stop all the others)
            # The kind, not the text: it may quote a header, and logs carry no patient data.
            log.error("unexpected_error", inspection=job["id"], kind=type(error).__name__)  # noqa: TRY400
            return _failed("unexpected", f"unexpected {type(error).__name__}")

    def _find(self, job: dict[str, Any]) -> str:
        """Give Orthanc's identifier of the series that is asked about."""
        if job["orthanc_series_id"] is not None:
            return str(job["orthanc_series_id"])
        uid = job["series_instance_uid"]
        found = self._archive.find_series(uid)
        if not found:
            raise SeriesNotFound(f"the archive has no series {uid}")
        if len(found) > 1:
            raise _AmbiguousSeries(
                f"the archive has {len(found)} series {uid}: ask by orthanc_series_id, one of "
                f"{', '.join(sorted(found))}"
            )
        return found[0]


class _AmbiguousSeries(HalfscanError):
    """Several series of the archive have the same SeriesInstanceUID."""


def _failed(code: str, error: str) -> dict[str, Any]:
    return {"status": "failed", "error_code": code, "error": printable(error, LONGEST_TEXT)}
