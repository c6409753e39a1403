"""Reads of an archive that are tried again before it is called away.

A server that restarts, closes a kept connection while a request is on its way, or has its database
locked for a moment is not away: the same read succeeds soon after on a connection of its own. What
changes anything goes through once, for whether it was done cannot be told.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
import structlog

__all__ = ["BUSY", "STREAMED", "RetryingTransport"]

log = structlog.stdlib.get_logger(__name__)

# Before the second, the third and the fourth try; how long all waits together may be [s].
PAUSES_S = (0.05, 0.5, 2.0)
LONGEST_WAIT_S = 4.0
# Of a server, or of a proxy before it, that is there and cannot answer now (RFC 9110, 15.6).
BUSY = frozenset({502, 503, 504})
# Name of a request's extension: its answer is read as it comes, by whoever asked.
STREAMED = "halfscan_streamed"
# Asks with a body, and changes nothing.
SEARCH = "/tools/find"
# A timeout is not among them: whoever waited for long should not wait as long again.
_CUT_OFF = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.PoolTimeout)


class RetryingTransport(httpx.BaseTransport):
    """Transport of an `httpx.Client` that tries reads again, each time on a new connection.

    The answer to a read is taken in whole, so that one that breaks off midway is read again; but
    for a request with the extension `STREAMED`.

    Parameters
    ----------
    pauses_s : sequence of float
        Wait before each further try [s].
    longest_wait_s : float
        All waits of a read together [s]. A server whose Retry-After asks for more is not waited
        for: its answer stands.
    """

    def __init__(
        self, pauses_s: Sequence[float] = PAUSES_S, longest_wait_s: float = LONGEST_WAIT_S
    ) -> None:
        context = httpx.create_ssl_context(trust_env=False)
        self._pauses_s = tuple(pauses_s)
        self._longest_wait_s = longest_wait_s
        self._kept = httpx.HTTPTransport(verify=context)
        single = httpx.Limits(max_keepalive_connections=0)
        self._fresh = httpx.HTTPTransport(verify=context, limits=single)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; a read up to once more than there are pauses."""
        if not _is_read(request):
            return self._kept.handle_request(request)
        transport, left_s = self._kept, self._longest_wait_s
        for pause_s in self._pauses_s:
            wait_s = pause_s
            with suppress(*_CUT_OFF):
                answer = _whole(transport, request)
                if answer.status_code not in BUSY:
                    return answer
                wait_s = max(pause_s, _retry_after_s(answer))
                if wait_s > left_s:
                    return answer
            log.info("archive_read_again", path=request.url.path, wait_s=wait_s)
            time.sleep(wait_s)
            transport, left_s = self._fresh, left_s - wait_s
        return _whole(transport, request)

    def close(self) -> None:
        """Close the connections."""
        self._kept.close()
        self._fresh.close()


def _is_read(request: httpx.Request) -> bool:
    if request.method == "POST":
        return request.url.path.endswith(SEARCH)
    return request.method in {"GET", "HEAD"}


def _whole(transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
    answer = transport.handle_request(request)
    if request.extensions.get(STREAMED) and answer.status_code not in BUSY:
        return answer
    try:
        answer.read()
    finally:
        answer.close()
    return answer


def _retry_after_s(answer: httpx.Response) -> float:
    """Give the wait that a server asks for; 0 where it gives none, or a date."""
    value = answer.headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdigit() else 0.0
