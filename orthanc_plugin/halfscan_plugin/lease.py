"""The lease of a claimed reconstruction: kept while a worker works, and asked before it stores.

A worker that has lost its lease must not write: another one may be at the same series already.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import structlog

from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerUnavailable

__all__ = ["Lease"]

log = structlog.get_logger()


class Lease:
    """What a worker holds of a reconstruction.

    Parameters
    ----------
    ledger : Ledger
        The API.
    job : dict
        The claimed row: ``id``, ``attempt``, ``lease_token``.
    lease_s : float
        Length of the lease [s]; it is renewed at a third of it.
    stop : threading.Event
        Set when the worker shall end: nothing is waited for then.

    Attributes
    ----------
    lost : threading.Event
        Set once the lease is another's, or this attempt has been given up.
    """

    def __init__(
        self, ledger: Ledger, job: dict[str, Any], lease_s: float, stop: threading.Event
    ) -> None:
        self.lost = threading.Event()
        self._ledger = ledger
        self._job = job
        self._lease_s = lease_s
        self._stop = stop
        self._until = time.monotonic() + lease_s

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it in the background while the block runs."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self._lease_s / 3) and not self.lost.is_set():
                try:
                    self._renew()
                except LeaseLost:
                    return
                except HalfscanError as error:
                    log.warning("lease_not_renewed", id=self._job["id"], reason=str(error))

        thread = threading.Thread(target=keep, name="halfscan-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(1.0)

    def check(self) -> None:
        """Raise `LeaseLost` unless it counts by this machine's own clock."""
        if time.monotonic() >= self._until:
            self.lost.set()
        if self.lost.is_set():
            raise LeaseLost(f"the lease of reconstruction {self._job['id']} is lost")

    def announce(self, derived_series_instance_uid: str, poll_s: float) -> None:
        """Tell the ledger what is about to be stored; an API that is away is waited for.

        Raises
        ------
        LeaseLost
            If the lease is another's, or the worker ends: nothing may be stored.
        """
        while True:
            try:
                return self._renew(derived_series_instance_uid)
            except LedgerUnavailable as error:
                log.warning("store_waits", id=self._job["id"], reason=str(error))
            if self.lost.wait(poll_s) or self._stop.is_set():
                self.lost.set()
                self.check()

    def _renew(self, derived_series_instance_uid: str | None = None) -> None:
        asked = time.monotonic()
        try:
            self._ledger.renew(
                self._job["id"], self._job["lease_token"], derived_series_instance_uid
            )
        except LeaseLost:
            self.lost.set()
            raise
        self._until = asked + self._lease_s
