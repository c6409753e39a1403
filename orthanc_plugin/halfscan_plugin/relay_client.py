"""The API as the relay sees it: standard library only, since it runs inside Orthanc."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Protocol

from halfscan_plugin.relay_settings import ApiUnavailable, RelaySettings

__all__ = ["AnnouncementRefused", "Api", "ApiClient"]

# The announcement itself is wrong, or contradicts what is known: asking again changes nothing.
REFUSALS = {400, 409, 413, 422}


class Api(Protocol):
    """What the relay asks of the API: see `ApiClient`."""

    def announce(self, series: dict[str, Any]) -> dict[str, Any]: ...
    def check(self) -> None: ...
    def depart(self, series_ids: Sequence[str]) -> None: ...
    def standing(self, after: int) -> tuple[list[dict[str, Any]], int | None]: ...
    def sources(self, after: int, *, gone: bool) -> tuple[list[dict[str, Any]], int | None]: ...
    def retry(self, reconstruction_id: int) -> None: ...


class AnnouncementRefused(Exception):
    """The API will never take this announcement; the series is logged and left aside."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, whose answer is no acknowledgement."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow nothing: the answer 3xx becomes an `HTTPError`."""


class ApiClient:
    """The API's reconstructions over HTTP: announces what came, tells what went.

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

    def announce(self, series: dict[str, Any]) -> dict[str, Any]:
        """POST one series; give its row once the API has acknowledged it.

        Raises
        ------
        ApiUnavailable
            If the API cannot be reached, or does not take announcements now.
        AnnouncementRefused
            If the API says that the announcement itself is wrong.
        """
        answer = self._ask("", json.dumps(series).encode())
        # Something else may listen at the address and answer 200 to whatever it is asked.
        row: dict[str, Any] = answer if isinstance(answer, dict) else {}
        if row.get("source_digest") != series["source_digest"]:
            raise self._is_foreign()
        return row

    def depart(self, series_ids: Sequence[str]) -> None:
        """Tell which of Orthanc's series are no longer in the archive.

        Raises
        ------
        ApiUnavailable, AnnouncementRefused
        """
        body = json.dumps({"orthanc_series_ids": list(series_ids)}).encode()
        answer = self._ask("/departures", body)
        if not isinstance(answer, dict) or "reconstructions" not in answer:
            raise self._is_foreign()

    def standing(self, after: int) -> tuple[list[dict[str, Any]], int | None]:
        """List derived series that should be in the archive, a page at a time.

        Parameters
        ----------
        after : int
            Where the page begins; 0 for the first one.

        Returns
        -------
        list of dict, int or None
            The derived series with their sources, and where the next page begins.

        Raises
        ------
        ApiUnavailable, AnnouncementRefused
        """
        return self._page("standing", after)

    def sources(self, after: int, *, gone: bool) -> tuple[list[dict[str, Any]], int | None]:
        """List series that were looked at, as `standing` does; with `gone` those deleted since."""
        return self._page("sources", after, f"&gone={str(gone).lower()}")

    def _page(
        self, resource: str, after: int, query: str = ""
    ) -> tuple[list[dict[str, Any]], int | None]:
        answer = self._ask(f"/{resource}?after={after}{query}", None)
        if not isinstance(answer, dict) or not {"items", "next_after"} <= set(answer):
            raise self._is_foreign()
        return answer["items"], answer["next_after"]

    def retry(self, reconstruction_id: int) -> None:
        """Let a reconstruction that has ended begin anew.

        Raises
        ------
        ApiUnavailable, AnnouncementRefused
        """
        self._ask(f"/{reconstruction_id}/retry", b"{}")

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
            raise self._is_foreign()

    def _is_foreign(self) -> ApiUnavailable:
        return ApiUnavailable(f"what answers at {self._address} is not the API")

    def _ask(self, path: str, body: bytes | None) -> Any:
        """Send one request; None for an answer that is not JSON."""
        request = urllib.request.Request(  # noqa: S310  (http or https: the settings check it)
            self._address + path,
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
