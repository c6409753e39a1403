"""The API as the worker sees it: claim a reconstruction, keep its lease, report its outcome."""

from typing import Any

import requests
import requests.auth

from halfscan_plugin.errors import HalfscanError

__all__ = ["LeaseLost", "Ledger", "LedgerRefused", "LedgerUnavailable"]


class LedgerUnavailable(HalfscanError):
    """The API cannot be reached, or is in trouble: try again later."""


class LedgerRefused(HalfscanError):
    """The API refuses the request itself: a wrong token, or a defect."""


class LeaseLost(HalfscanError):
    """Another worker may have taken the reconstruction over, or it is finished already."""


class Ledger:
    """The resource ``reconstructions`` of the API.

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
        self._base = url.rstrip("/") + "/api/v1/reconstructions"
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.auth = _Bearer(token)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def claim(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        """Take the next reconstruction; None where nothing waits."""
        response = self._post("/claim", {"worker": worker, "lease_s": lease_s})
        if response.status_code == 204:
            return None
        return _object(response)

    def renew(self, job_id: int, lease_token: str) -> None:
        """Prolong a lease; raise `LeaseLost` if it is ours no longer."""
        self._post(f"/{job_id}/lease", {"lease_token": lease_token})

    def finish(self, job_id: int, lease_token: str, outcome: dict[str, Any]) -> dict[str, Any]:
        """Report an outcome and give the row as it now stands.

        Reporting the same outcome again is harmless, so an answer that was lost on the network
        is simply asked for again.
        """
        body = {"lease_token": lease_token, **outcome}
        return _object(self._post(f"/{job_id}/outcome", body))

    def rows(self, **filters: str | int) -> dict[str, Any]:
        """List reconstructions; `filters` are the API's query parameters."""
        return self._read("", filters)

    def row(self, job_id: int) -> dict[str, Any]:
        """Read one reconstruction."""
        return self._read(f"/{job_id}", {})

    def announce(self, series: dict[str, Any]) -> dict[str, Any]:
        """Announce one series, as the relay does."""
        return _object(self._post("", series))

    def retry(self, job_id: int) -> dict[str, Any]:
        """Put a dead or skipped reconstruction back into the queue."""
        return _object(self._post(f"/{job_id}/retry", {}))

    def _read(self, path: str, filters: dict[str, str | int]) -> dict[str, Any]:
        return _object(self._send("GET", path, params=filters))

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._send("POST", path, json=body)

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        address = self._base + path
        try:
            response = self._session.request(
                method,
                address,
                timeout=self._timeout_s,
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
        raise LedgerRefused(message)


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
