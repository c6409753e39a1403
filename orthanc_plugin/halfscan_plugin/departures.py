"""What was deleted from the archive, told to the API.

Orthanc writes no row of its change log when it deletes something: its callback alone tells, for
series and for single images, without saying to which series an image belonged. So series are told
to the API by name; after images were deleted, and once at the start (the callback may have come
while nobody listened), the relay counts what should be there: the images of every series that was
looked at, and those of the derived ones.

This module runs inside Orthanc: standard library only.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from halfscan_plugin.relay_client import AnnouncementRefused, Api
from halfscan_plugin.relay_settings import ApiUnavailable

__all__ = ["Departures"]

BATCH = 50  # series in one message
MOST_WAITING = 20_000  # past this many the count finds them
# Orthanc deletes the images of a study one after the other: a count in between sees half of it. And
# what is deleted to be sent again, corrected, has not gone: its derived series stays until then.
QUIET_S = 2.0
LONGEST_WAIT_S = 60.0  # where there is no quiet
# A count takes at most this share of the relay's time, however often images are deleted.
MOST_SHARE = 0.2


class Departures:
    """Takes note of deletions, and tells the API once they are over.

    Parameters
    ----------
    find : callable
        GET of a path of Orthanc's REST API; None where the resource is unknown.
    announce : callable
        Announces a series of the archive as it is now.
    api : Api
        Where it is told, and what should be there.
    stopped : callable
        Whether the relay is to end: a count is left where it is then.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        find: Callable[[str], Any],
        announce: Callable[[str], bool],
        api: Api,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._announce, self._api = find, announce, api
        self._stopped, self._clock = stopped, clock
        self._first = True
        self._lock = threading.Lock()
        self._series: set[str] = set()
        self._count_due = True
        self._last = self._due_since = self._not_before = clock()

    @property
    def waiting(self) -> int:
        """How many deletions are not told yet; a count that is due counts as one."""
        with self._lock:
            return len(self._series) + self._count_due

    def note(self, series_id: str | None) -> bool:
        """Take note that a series is gone, or (None) an image; safe from any callback.

        Returns
        -------
        bool
            Whether it is the first one after all before was told.
        """
        with self._lock:
            self._last = self._clock()
            first = not self._count_due and not self._series
            if first:
                self._due_since = self._last
            if series_id is None or len(self._series) >= MOST_WAITING:
                self._count_due = True
            else:
                self._series.add(series_id)
        return first

    def step(self) -> None:
        """Tell what is gone, and count what should be there if that is due.

        Raises
        ------
        ApiUnavailable
            If the API did not acknowledge it: it is told again.
        """
        with self._lock:
            now = self._clock()
            quiet = now - self._last >= QUIET_S or now - self._due_since >= LONGEST_WAIT_S
            gone = sorted(self._series) if quiet else []
            count = self._count_due and quiet and now >= self._not_before
        for first in range(0, len(gone), BATCH):
            if self._stopped():
                return
            self._tell(gone[first : first + BATCH])
        if count:
            with self._lock:
                self._count_due = False  # what is deleted from here on asks for another one
            try:
                self._count()
            except BaseException:
                with self._lock:
                    self._count_due = True
                raise
            finally:
                took_s = self._clock() - now
                self._not_before = self._clock() + max(took_s / MOST_SHARE, QUIET_S)

    def is_missing(self, row: dict[str, Any]) -> bool:
        """Tell whether the derived series that a row says is done is not in the archive."""
        derived = row.get("derived_orthanc_series_id")
        done = row.get("status") == "done" and derived is not None
        return done and self._find(f"/series/{derived}") is None

    def _tell(self, series_ids: list[str]) -> None:
        # What came back meanwhile is announced by the change log.
        gone = [name for name in series_ids if self._find(f"/series/{name}") is None]
        if gone:
            self._api.depart(gone)
        with self._lock:
            self._series.difference_update(series_ids)

    def _count(self) -> None:
        """Compare the archive with every series that should be in it.

        Raises
        ------
        Exception
            Whatever Orthanc raised when it was asked for a series, after the others had their turn.
        """
        trouble: Exception | None = None
        # At the first time also what the ledger takes for gone: a disk that was not there is back.
        sources = functools.partial(self._api.sources, gone=self._first)
        for list_page, compare in (
            (self._api.standing, self._compare),
            (sources, self._compare_source),
        ):
            for item in self._pages(list_page):
                try:
                    compare(item)
                except ApiUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001  (Orthanc's own kinds; raised below)
                    trouble = error
        if trouble is not None:
            raise trouble
        self._first = self._first and self._stopped()

    def _pages(
        self, list_page: Callable[[int], tuple[list[dict[str, Any]], int | None]]
    ) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page, after = list_page(after)
            for item in page:
                if self._stopped():
                    return
                yield item

    def _compare(self, item: dict[str, Any]) -> None:
        """Look for one derived series, and for its source."""
        source = self._find(f"/series/{item['orthanc_series_id']}")
        derived_id = item["derived_orthanc_series_id"]
        derived = None if derived_id is None else self._find(f"/series/{derived_id}")
        if source is None:
            gone = [item["orthanc_series_id"]]
            if derived is None and derived_id is not None:
                gone.append(derived_id)
            self._api.depart(gone)
            return
        images = 0 if derived is None else len(derived["Instances"])
        if derived_id is not None and images < (item["derived_instances"] or 1):
            # Nobody told that it was deleted: it was lost. Who deletes one is heard by name.
            with contextlib.suppress(AnnouncementRefused):  # a worker is at it already
                self._api.retry(item["id"])

    def _compare_source(self, item: dict[str, Any]) -> None:
        """Announce a series that has another number of images, or that has come back.

        Without the image that was in the way, a series that was skipped may be another one.
        """
        source = self._find(f"/series/{item['orthanc_series_id']}")
        if source is not None and len(source["Instances"]) not in item["n_instances"]:
            self._announce(item["orthanc_series_id"])
