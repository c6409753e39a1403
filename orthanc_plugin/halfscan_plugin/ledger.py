"""The API as the worker sees it: claim a reconstruction, keep its lease, report its outcome.

Besides, the inspections: questions about series in the archive, and their answers.
"""

from collections.abc import Iterator
from typing import Any

import requests
import requests.auth

from halfscan_plugin.errors import HalfscanError

__all__ = ["LeaseLost", "Ledger", "LedgerRefused", "LedgerUnavailable"]

RECONSTRUCTIONS = "/reconstructions"
INSPECTIONS = "/inspections"
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
HINT = "HALFSCAN_WORKER_TOKEN or ..._TOKEN_FILE, of role service; halfscan token list"


class LedgerUnavailable(HalfscanError):
    """The API cannot be reached, or is in trouble: try again later."""


class LedgerRefused(HalfscanError):
    """The API refuses the request itself: a wrong token, or a defect.

    Attributes
    ----------
    status : int
        HTTP status; 0 where it is not known.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class LeaseLost(HalfscanError):
    """Another worker may have taken the reconstruction over, or it is finished already."""


class Ledger:
    """The resources ``reconstructions`` and ``inspections`` of the API.

    Parameters
    ----------
    url : str
        Address of the API.
    token : str
        Bearer token of role ``service``.
    timeout_s : float
        Longest wait for one answer [s].
    """

    def __init__(self, url: str, token: str, timeout_s: float = 20.0) -> None:
        self._base = url.rstrip("/") + "/api/v1"
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.auth = _Bearer(token)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def check(self) -> None:
        """See that address and token are right, without taking anything.

        Raises
        ------
        LedgerRefused
            If the token is unknown, revoked or of a role that may not work here.
        LedgerUnavailable
            If the API is away.
        """
        try:
            # No row has this number: only who may renew a lease is told so.
            self._post(f"{RECONSTRUCTIONS}/0/lease", {"lease_token": "check"})
        except LedgerRefused as error:
            if error.status != NOT_FOUND:
                raise

    def claim(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        """Take the next reconstruction; None where nothing waits."""
        return self._claim(RECONSTRUCTIONS, worker, lease_s)

    def renew(
        self, job_id: int, lease_token: str, derived_series_instance_uid: str | None = None
    ) -> None:
        """Prolong a lease; raise `LeaseLost` if it is ours no longer.

        Parameters
        ----------
        job_id : int
        lease_token : str
        derived_series_instance_uid : str, optional
            What is about to be stored.
        """
        body = {"lease_token": lease_token}
        if derived_series_instance_uid is not None:
            body["derived_series_instance_uid"] = derived_series_instance_uid
        self._post(f"{RECONSTRUCTIONS}/{job_id}/lease", body)

    def finish(self, job_id: int, lease_token: str, outcome: dict[str, Any]) -> dict[str, Any]:
        """Report an outcome and give the row as it now stands.

        Reporting the same outcome again is harmless, so an answer that was lost on the network
        is simply asked for again.
        """
        body = {"lease_token": lease_token, **outcome}
        return _object(self._post(f"{RECONSTRUCTIONS}/{job_id}/outcome", body))

    def rows(self, **filters: str | int | list[str]) -> dict[str, Any]:
        """List reconstructions; `filters` are the API's query parameters."""
        return _object(self._send("GET", RECONSTRUCTIONS, params=filters))

    def row(self, job_id: int) -> dict[str, Any]:
        """Read one reconstruction."""
        return _object(self._send("GET", f"{RECONSTRUCTIONS}/{job_id}"))

    def announce(self, series: dict[str, Any]) -> dict[str, Any]:
        """Announce one series, as the relay does."""
        return _object(self._post(RECONSTRUCTIONS, series))

    def retry(self, job_id: int) -> dict[str, Any]:
        """Put a reconstruction that has ended back into the queue."""
        return _object(self._post(f"{RECONSTRUCTIONS}/{job_id}/retry", {}))

    def depart(self, orthanc_series_ids: list[str]) -> list[int]:
        """Tell which series are no longer in the archive; give the ids of the rows that changed."""
        body = {"orthanc_series_ids": orthanc_series_ids}
        return list(_object(self._post(f"{RECONSTRUCTIONS}/departures", body))["reconstructions"])

    def standing(self) -> Iterator[dict[str, Any]]:
        """Yield the derived series that should be in the archive, with their sources."""
        return self._pages("standing")

    def sources(self, *, gone: bool) -> Iterator[dict[str, Any]]:
        """Yield the series that were looked at; with `gone` those too that were deleted since."""
        return self._pages("sources", gone="true" if gone else "false")

    def _pages(self, resource: str, **query: str) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            parameters = {"after": after, **query}
            page = _object(self._send("GET", f"{RECONSTRUCTIONS}/{resource}", params=parameters))
            yield from page["items"]
            after = page["next_after"]

    def add_reconciliation(self, counts: dict[str, int]) -> None:
        """Note what a comparison of ledger and archive came to."""
        self._post(f"{RECONSTRUCTIONS}/reconciliations", counts)

    def claim_inspection(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        """Take the next question about a series; None where nobody asks."""
        return self._claim(INSPECTIONS, worker, lease_s)

    def finish_inspection(
        self, inspection_id: int, lease_token: str, outcome: dict[str, Any]
    ) -> dict[str, Any]:
        """Answer a question and give it as it now stands; the same answer may be sent again."""
        body = {"lease_token": lease_token, **outcome}
        return _object(self._post(f"{INSPECTIONS}/{inspection_id}/outcome", body))

    def ask(self, **series: str) -> dict[str, Any]:
        """Ask what would happen to a series.

        Parameters
        ----------
        **series
            Either ``series_instance_uid`` or ``orthanc_series_id``.
        """
        return _object(self._post(INSPECTIONS, series))

    def inspection(self, inspection_id: int, wait_s: float = 0) -> dict[str, Any]:
        """Read an inspection, once it is answered or `wait_s` seconds have passed."""
        path = f"{INSPECTIONS}/{inspection_id}"
        return _object(self._send("GET", path, longest_s=wait_s, params={"wait_s": wait_s}))

    def _claim(self, resource: str, worker: str, lease_s: float) -> dict[str, Any] | None:
        response = self._post(f"{resource}/claim", {"worker": worker, "lease_s": lease_s})
        return None if response.status_code == 204 else _object(response)

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._send("POST", path, json=body)

    def _send(
        self, method: str, path: str, *, longest_s: float = 0, **arguments: Any
    ) -> requests.Response:
        address = self._base + path
        try:
            response = self._session.request(
                method,
                address,
                timeout=self._timeout_s + longest_s,
                allow_redirects=False,  # a redirected POST would arrive as a GET
                **arguments,
            )
        except requests.RequestException as error:
            raise LedgerUnavailable(f"the API at {address} cannot be reached: {error}") from error
        if 200 <= response.status_code < 300:
            return response
        message = f"{method} {address} answered {response.status_code}: {_problem(response)}"
        if response.status_code == 409 and path.endswith(("/lease", "/outcome")):
            raise LeaseLost(message)
        if response.status_code >= 500 or response.status_code == 429:
            raise LedgerUnavailable(message)
        if response.status_code in {UNAUTHORIZED, FORBIDDEN}:
            message += f" (look at the worker's token: {HINT})"
        raise LedgerRefused(message, response.status_code)


class _Bearer(requests.auth.AuthBase):
    """Adds the token; unlike a plain header it is not replaced by what ``~/.netrc`` holds."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign one request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _object(response: requests.Response) -> dict[str, Any]:
    """Read an answer as a JSON object; anything else does not come from the API."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise LedgerUnavailable(f"what answers at {response.url} is not the API")
    return answer


def _problem(response: requests.Response) -> str:
    """Give the problem+json's own words, or the start of whatever came."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or problem)
    except (ValueError, AttributeError):
        return response.text[:200]
