"""A cursor over Orthanc's own change log, relayed to the API.

The change log is the queue's source: nothing is held only in memory. The cursor lives in Orthanc
itself, as a global property, and moves past a series only after the API has acknowledged it.

Orthanc raises no ``StableSeries`` for a series that it received before it was killed: after the
restart the change log holds the ``NewInstance`` and ``NewSeries`` rows alone, and the series says
``IsStable``. The relay therefore follows those rows too, asks the series, and holds the cursor
behind whatever is not yet stable.

This module runs inside Orthanc: standard library only, and the Orthanc SDK is passed in.
"""

import hashlib
import http.client
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "ApiClient",
    "ApiUnavailable",
    "OrthancModule",
    "Relay",
    "RelaySettings",
    "SettingsError",
    "source_digest",
]

FIRST_USER_PROPERTY = 1024  # Orthanc keeps the lower global properties for itself
PAGE_ROWS = 1000
LONGEST_INTERVAL_S = 3600
# The announcement itself is wrong, or contradicts what is known: asking again changes nothing.
REFUSALS = {400, 409, 413, 422}
# While the API is away, series wait in memory as identifiers only; past this many the relay stops
# reading on. Nothing is lost: the cursor still stands before the first of them.
MOST_WAITING = 20_000
FOLLOWED = {"NewSeries", "NewInstance", "StableSeries"}


class SettingsError(Exception):
    """A setting of the section ``Halfscan`` in Orthanc's configuration breaks a rule."""


class ApiUnavailable(Exception):
    """The API could not be reached, or refused: the series will be announced again."""


class AnnouncementRefused(Exception):
    """The API will never take this announcement; the series is logged and left aside."""


class OrthancModule(Protocol):
    """What the relay uses of the module ``orthanc`` that the Python plugin provides."""

    def RestApiGet(self, uri: str) -> bytes: ...  # noqa: N802  (Orthanc's name)
    def GetGlobalProperty(self, number: int, default: str) -> str: ...  # noqa: N802  (Orthanc's name)
    def SetGlobalProperty(self, number: int, value: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogInfo(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogWarning(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)
    def LogError(self, message: str) -> None: ...  # noqa: N802  (Orthanc's name)


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The section ``Halfscan`` of Orthanc's configuration file.

    Parameters
    ----------
    api_url : str
        Address of the API, such as ``http://127.0.0.1:8780``.
    token_file : str or None
        File that holds the bearer token of role ``service``; read again when the API refuses it.
    token : str or None
        The token itself, where a file is impractical.
    start_from : {"now", "beginning"}
        What a first start does with series that are in the archive already.
    poll_interval_s : float
        How often the change log is read when no callback wakes the relay [s].
    cursor_property : int
        Number of the global property that holds the cursor, 1024 or above.
    """

    api_url: str
    token_file: str | None = None
    token: str | None = None
    start_from: str = "now"
    poll_interval_s: float = 5.0
    cursor_property: int = 7290

    @classmethod
    def from_section(cls, section: object) -> "RelaySettings":
        """Check the section of the configuration file.

        Raises
        ------
        SettingsError
            If a name is unknown, a value is missing or breaks a rule; the message says which.
        """
        if not isinstance(section, dict):
            raise SettingsError(
                'Orthanc\'s configuration needs a section "Halfscan" with ApiUrl and TokenFile'
            )
        names = {
            "ApiUrl": "api_url",
            "TokenFile": "token_file",
            "Token": "token",
            "StartFrom": "start_from",
            "PollIntervalS": "poll_interval_s",
            "CursorProperty": "cursor_property",
        }
        unknown = sorted(set(section) - set(names))
        if unknown:
            raise SettingsError(
                f"Halfscan.{unknown[0]} is not a setting; known: {', '.join(names)}"
            )
        if "ApiUrl" not in section:
            raise SettingsError("Halfscan.ApiUrl is missing: the address of the API")
        settings = cls(**{names[key]: value for key, value in section.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raise `SettingsError` at the first value that breaks a rule."""
        if not _is_address(self.api_url):
            raise SettingsError(
                "Halfscan.ApiUrl must be http://HOST or https://HOST, with a port where needed, "
                f"got {self.api_url!r}"
            )
        if (self.token is None) == (self.token_file is None):
            raise SettingsError("Halfscan needs exactly one of TokenFile and Token")
        for name, value in (("Token", self.token), ("TokenFile", self.token_file)):
            if value is not None and not (isinstance(value, str) and value):
                raise SettingsError(f"Halfscan.{name} must be a non-empty text")
        if self.token is not None and not _is_token(self.token):
            raise SettingsError("Halfscan.Token must be one word of printable ASCII")
        if self.start_from not in {"now", "beginning"}:
            raise SettingsError(
                f'Halfscan.StartFrom must be "now" or "beginning", got {self.start_from!r}'
            )
        interval = self.poll_interval_s
        if (
            isinstance(interval, bool)
            or not isinstance(interval, int | float)
            or not 0 < interval <= LONGEST_INTERVAL_S
        ):
            raise SettingsError(
                f"Halfscan.PollIntervalS must be above 0 and at most {LONGEST_INTERVAL_S}, "
                f"got {interval!r}"
            )
        number = self.cursor_property
        if isinstance(number, bool) or not isinstance(number, int) or number < FIRST_USER_PROPERTY:
            raise SettingsError(
                f"Halfscan.CursorProperty must be {FIRST_USER_PROPERTY} or above, got {number!r}"
            )

    def read_token(self) -> str:
        """Give the bearer token; a missing or empty file raises `ApiUnavailable`."""
        if self.token is not None:
            return self.token
        assert self.token_file is not None  # noqa: S101  (check() has made sure)
        try:
            token = Path(self.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiUnavailable(f"the token file cannot be read: {error}") from error
        if not token:
            raise ApiUnavailable(f"the token file {self.token_file!r} is empty")
        if not _is_token(token):
            # Said here, because urllib's own message would show the token.
            raise ApiUnavailable(f"the token file {self.token_file!r} holds more than one word")
        return token


def source_digest(sop_instance_uids: Iterable[str]) -> str:
    """Name a set of instances: SHA-256 over their sorted SOPInstanceUIDs, one a line."""
    return hashlib.sha256("\n".join(sorted(sop_instance_uids)).encode()).hexdigest()


def _is_address(url: object) -> bool:
    if not isinstance(url, str):
        return False
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment) and url.isascii() and " " not in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and port != 0


def _is_token(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, whose answer is no acknowledgement."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow nothing: the answer 3xx becomes an `HTTPError`."""


class ApiClient:
    """Announces series to the API over HTTP.

    Parameters
    ----------
    settings : RelaySettings
        Where the API is, and the token.
    timeout_s : float
        Longest wait for an answer [s].
    """

    def __init__(self, settings: RelaySettings, timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._address = settings.api_url.rstrip("/") + "/api/v1/reconstructions"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def announce(self, series: dict[str, Any]) -> None:
        """POST one series; return once the API has acknowledged it.

        Raises
        ------
        ApiUnavailable
            If the API cannot be reached, or does not take announcements now.
        AnnouncementRefused
            If the API says that the announcement itself is wrong.
        """
        answer = self._ask("", json.dumps(series).encode())
        # Something else may listen at the address and answer 200 to whatever it is asked.
        digest = answer.get("source_digest") if isinstance(answer, dict) else None
        if digest != series["source_digest"]:
            raise ApiUnavailable(f"what answers at {self._address} is not the API")

    def check(self) -> None:
        """Ask for the list of reconstructions, to see that address and token are right.

        Raises
        ------
        ApiUnavailable
            If they are not, or the API is away.
        """
        try:
            answer = self._ask("?per_page=1", None)
        except AnnouncementRefused as error:
            raise ApiUnavailable(str(error)) from error
        if not isinstance(answer, dict) or "items" not in answer:
            raise ApiUnavailable(f"what answers at {self._address} is not the API")

    def _ask(self, query: str, body: bytes | None) -> Any:
        """Send one request; None for an answer that is not JSON."""
        request = urllib.request.Request(  # noqa: S310  (http or https: the settings check it)
            self._address + query,
            data=body,
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self._settings.read_token()}",
            },
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                message = f"the API at {self._address} answered {error.code}: {_detail(error)}"
            if error.code in {401, 403}:
                message += " (look at TokenFile; halfscan token list)"
            if error.code in REFUSALS:
                raise AnnouncementRefused(message) from error
            raise ApiUnavailable(message) from error
        except (OSError, http.client.HTTPException) as error:
            raise ApiUnavailable(
                f"the API at {self._address} cannot be reached: {error}"
            ) from error
        except ValueError:
            return None


def _detail(error: urllib.error.HTTPError) -> str:
    """Give a problem's own words in one line; its request id would make every report a new one."""
    try:
        text = error.read(2000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200]


class Relay:
    """Follows the change log and announces every stable series.

    Parameters
    ----------
    orthanc : OrthancModule
        The Orthanc SDK.
    settings : RelaySettings
        Checked settings.
    announce : callable
        Takes the announcement of one series, returns once it is acknowledged and raises
        `ApiUnavailable` otherwise.
    check : callable, optional
        Raises `ApiUnavailable` if address or token are wrong; asked once at the start, so that a
        wrong setting shows before the first series comes.
    """

    def __init__(
        self,
        orthanc: OrthancModule,
        settings: RelaySettings,
        announce: Callable[[dict[str, Any]], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._orthanc = orthanc
        self._settings = settings
        self._announce = announce
        self._check = check
        self._checked = False
        self._wake = threading.Event()
        self._stop = threading.Event()
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
            "announced_series": self._announced,
            "refused_series": self._refused,
            "last_error": self._last_error,
        }

    def step(self) -> None:
        """Read the change log to its end and announce what is stable.

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
            if not self._waiting:
                pause_s = self._settings.poll_interval_s

    def _check_once(self) -> None:
        if not self._checked:
            self._check()
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
        uids = [i["MainDicomTags"]["SOPInstanceUID"] for i in instances]
        try:
            self._announce(
                {
                    "orthanc_series_id": series_id,
                    "series_instance_uid": series["MainDicomTags"]["SeriesInstanceUID"],
                    "study_instance_uid": study["MainDicomTags"]["StudyInstanceUID"],
                    "source_digest": source_digest(uids),
                    "n_instances": len(uids),
                }
            )
        except AnnouncementRefused as error:
            # One series that the API cannot take must not hold up those behind it.
            self._refused += 1
            self._orthanc.LogError(f"halfscan: series {series_id} is left aside: {error}")
        else:
            self._announced += 1
        return True

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
            # orthanc.OrthancException carries (code, text); 17 is UnknownResource.
            if error.args and error.args[0] == 17:
                return None
            raise
