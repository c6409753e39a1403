"""A cursor over Orthanc's own change log, relayed to the API.

The change log is the queue's source: nothing is held only in memory. The cursor lives in Orthanc
itself, as a global property, and moves past a series only after the API has acknowledged it.

Orthanc raises no ``StableSeries`` for a series that it received before it was killed: after the
restart the change log holds the ``NewInstance`` and ``NewSeries`` rows alone, and the series says
``IsStable``. The relay therefore follows those rows too, asks the series, and holds the cursor
behind whatever is not yet stable.

What was deleted does not stand in the change log: `departures`.

This module runs inside Orthanc: standard library only, and the Orthanc SDK is passed in.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from halfscan_plugin.departures import Departures
from halfscan_plugin.relay_client import AnnouncementRefused, Api, ApiClient
from halfscan_plugin.relay_settings import ApiUnavailable, RelaySettings, SettingsError

__all__ = [
    "AnnouncementRefused",
    "Api",
    "ApiClient",
    "ApiUnavailable",
    "OrthancModule",
    "Relay",
    "RelaySettings",
    "SettingsError",
    "source_digest",
]

PAGE_ROWS = 1000
UNKNOWN_RESOURCE = 17  # Orthanc's error code
# While the API is away, series wait in memory as identifiers only; past this many the relay stops
# reading on. Nothing is lost: the cursor still stands before the first of them.
MOST_WAITING = 20_000
FOLLOWED = {"NewSeries", "NewInstance", "StableSeries"}


class OrthancModule(Protocol):
    """What the relay uses of the module ``orthanc`` that the Python plugin provides."""

    def RestApiGet(self, uri: str) -> bytes: ...  # noqa: N802  (Orthanc's name)
    def GetGlobalProperty(self, number: int, default: str) -> str: ...  # noqa: N802  (Orthanc's name)
    def SetGlobalProperty(self, number: int, value: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogInfo(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogWarning(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogError(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)


def source_digest(instances: Iterable[tuple[str, str]]) -> str:
    """Name a set of instances and their contents.

    Parameters
    ----------
    instances : iterable of (str, str)
        SOPInstanceUID and MD5 of the file (Orthanc's attachment ``dicom``, uncompressed) of each:
        the same UID may come back with other pixels.

    Returns
    -------
    str
        SHA-256 over the sorted lines ``UID MD5``, hexadecimal.
    """
    lines = sorted(f"{uid} {md5}" for uid, md5 in instances)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Relay:
    """Follows the change log, announces every stable series, and tells what was deleted.

    Parameters
    ----------
    orthanc : OrthancModule
        The Orthanc SDK.
    settings : RelaySettings
        Checked settings.
    api : Api
        Where series are announced; it is asked once at the start whether address and token are
        right, so that a wrong setting shows before the first series comes.
    """

    def __init__(
        self,
        orthanc: OrthancModule,
        settings: RelaySettings,
        api: Api,
    ) -> None:
        self._orthanc = orthanc
        self._settings = settings
        self._api = api
        self._checked = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._departures = Departures(self._find, self._settle, api, self._stop.is_set)
        self._thread: threading.Thread | None = None
        self._scanned = -1  # last row of the change log that was read; -1: not started
        self._waiting: dict[str, int] = {}  # series -> first row that is not acknowledged
        self._announced = 0
        self._refused = 0
        self._last_error: str | None = None

    def start(self) -> None:
        """Follow the change log in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="halfscan-relay", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at the change log now; safe from any callback, never blocks."""
        self._wake.set()

    def note_deletion(self, series_id: str | None) -> None:
        """Take note that Orthanc deleted a series, or (None) an image; safe from any callback."""
        if self._departures.note(series_id):
            self._wake.set()  # from here on the relay looks each second until it is quiet

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread; what is not acknowledged is found again at the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def status(self) -> dict[str, Any]:
        """Say where the relay stands, for ``GET /halfscan/status``."""
        return {
            "api_url": self._settings.api_url,
            "cursor": self._cursor() if self._scanned >= 0 else None,
            "last_change": self._scanned if self._scanned >= 0 else None,
            "waiting_series": len(self._waiting),
            "waiting_deletions": self._departures.waiting,
            "announced_series": self._announced,
            "refused_series": self._refused,
            "last_error": self._last_error,
        }

    def step(self) -> None:
        """Read the change log to its end, announce what is stable, tell what was deleted.

        Raises
        ------
        ApiUnavailable
            If the API did not acknowledge a series; the cursor stands before it.
        Exception
            Whatever Orthanc raised when it was asked for a series, after the others had their
            turn; the cursor stands before that series.
        """
        if self._scanned < 0:
            self._scanned = self._first_position()
        trouble: Exception | None = None
        try:
            while len(self._waiting) < MOST_WAITING and not self._read_page():
                pass
            for series_id in list(self._waiting):
                if self._stop.is_set():
                    break
                try:
                    settled = self._settle(series_id)
                except ApiUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001  (Orthanc's own kinds; raised below)
                    trouble, settled = error, False
                if settled:
                    del self._waiting[series_id]
        finally:
            self._save_cursor()
        self._departures.step()
        if trouble is not None:
            raise trouble

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                # The step first: it notes where the change log stood at the very first start.
                self.step()
                self._check_once()
            except ApiUnavailable as error:
                self._report(f"halfscan: {error}; trying again, nothing is lost")
                # A callback must not hammer an API that is down.
                self._stop.wait(min(self._settings.poll_interval_s, 5.0))
            except Exception as error:  # noqa: BLE001  (the thread must outlive any surprise)
                self._report(f"halfscan: the change log cannot be followed: {error!r}")
                self._stop.wait(self._settings.poll_interval_s)
            else:
                if self._last_error is not None:
                    self._orthanc.LogWarning("halfscan: the API acknowledges again")
                self._last_error = None
            # A series that is still arriving is asked again soon.
            pause_s = min(1.0, self._settings.poll_interval_s)
            if not self._waiting and not self._departures.waiting:
                pause_s = self._settings.poll_interval_s

    def _check_once(self) -> None:
        if not self._checked:
            self._api.check()
            self._checked = True
            # Orthanc shows what it logs about its own start as warnings too.
            self._orthanc.LogWarning(
                f"halfscan: following the change log, announcing to {self._settings.api_url}"
            )

    def _report(self, message: str) -> None:
        if message != self._last_error:  # once, not at every try
            self._orthanc.LogError(message)
        self._last_error = message

    def _first_position(self) -> int:
        number = self._settings.cursor_property
        saved = self._orthanc.GetGlobalProperty(number, "")
        if saved.isdigit():
            return int(saved)
        if saved:
            raise ValueError(f"global property {number} holds {saved!r}, which is not a cursor")
        start = 0
        if self._settings.start_from == "now":
            start = int(self._get("/changes?last")["Last"])
        # Saved at once: what arrives while the API is away must not be taken for old.
        self._orthanc.SetGlobalProperty(number, str(start))
        return start

    def _read_page(self) -> bool:
        """Take in one page of the change log; True at its end, or when the relay stops."""
        page = self._get(f"/changes?since={self._scanned}&limit={PAGE_ROWS}")
        for row in page["Changes"]:
            if self._stop.is_set():
                return True
            if row["ChangeType"] in FOLLOWED:
                series_id = row["ID"]
                if row["ChangeType"] == "NewInstance":
                    series_id = self._parent_series(row["ID"])
                if series_id is not None:
                    self._waiting.setdefault(series_id, int(row["Seq"]))
            self._scanned = int(row["Seq"])
        return bool(page["Done"]) or not page["Changes"]

    def _settle(self, series_id: str) -> bool:
        """Announce one series; False while it is still arriving."""
        series = self._find(f"/series/{series_id}")
        if series is None:
            return True  # deleted meanwhile: nothing to reconstruct
        if not series["IsStable"]:
            return False
        instances = self._find(f"/series/{series_id}/instances")
        study = self._find(f"/studies/{series['ParentStudy']}")
        if not instances or study is None:
            return True
        announcement = {
            "orthanc_series_id": series_id,
            "orthanc_study_id": series["ParentStudy"],
            "series_instance_uid": series["MainDicomTags"]["SeriesInstanceUID"],
            "study_instance_uid": study["MainDicomTags"]["StudyInstanceUID"],
            "source_digest": source_digest(map(self._content, instances)),
            "n_instances": len(instances),
        }
        try:
            row = self._api.announce(announcement)
            if self._departures.is_missing(row):
                # It was made, and has gone unnoticed: with a study, say, that is sent again now.
                self._api.depart([row["derived_orthanc_series_id"]])
                self._api.announce(announcement)
        except AnnouncementRefused as error:
            # One series that the API cannot take must not hold up those behind it.
            self._refused += 1
            self._orthanc.LogError(f"halfscan: series {series_id} is left aside: {error}")
        else:
            self._announced += 1
        return True

    def _content(self, instance: dict[str, Any]) -> tuple[str, str]:
        """Give the SOPInstanceUID of an instance and the MD5 of its file."""
        place = f"/instances/{instance['ID']}"
        try:
            md5 = self._orthanc.RestApiGet(f"{place}/attachments/dicom/md5").decode("ascii").strip()
        except Exception as error:  # Orthanc's own kind
            # Orthanc keeps no MD5 where StoreMD5ForAttachments is off.
            if not _is_unknown(error):
                raise
            content = self._orthanc.RestApiGet(f"{place}/file")
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return instance["MainDicomTags"]["SOPInstanceUID"], md5

    def _cursor(self) -> int:
        return min(self._waiting.values()) - 1 if self._waiting else self._scanned

    def _save_cursor(self) -> None:
        number, cursor = self._settings.cursor_property, str(self._cursor())
        if self._orthanc.GetGlobalProperty(number, "") != cursor:
            self._orthanc.SetGlobalProperty(number, cursor)

    def _parent_series(self, instance_id: str) -> str | None:
        instance = self._find(f"/instances/{instance_id}")
        return None if instance is None else str(instance["ParentSeries"])

    def _get(self, uri: str) -> Any:
        return json.loads(self._orthanc.RestApiGet(uri))

    def _find(self, uri: str) -> Any:
        """GET that answers None where Orthanc says that the resource is unknown."""
        try:
            return self._get(uri)
        except Exception as error:
            if _is_unknown(error):
                return None
            raise


def _is_unknown(error: Exception) -> bool:
    """Tell UnknownResource: orthanc.OrthancException carries (code, text)."""
    return bool(error.args) and error.args[0] == UNKNOWN_RESOURCE
