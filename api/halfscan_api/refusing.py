"""What never reaches the app: a request that gunicorn cannot read is refused as a problem document.

Gunicorn itself answers such a request in HTML, and repeats in its log what was sent, which may hold
a token. Here the answer is ``application/problem+json`` like every other error, and the log has the
kind of mistake alone.
"""

import json
import socket
import uuid
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from halfscan_api.errors import PROBLEM_JSON

log = structlog.stdlib.get_logger(__name__)

# Longest wait for a client that does not take the answer [s].
_PATIENCE_S = 5.0
# By the name of gunicorn's error, since its versions differ in what they know: everything else that
# cannot be read is a bad request.
_REFUSALS = {
    "LimitRequestLine": (HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long"),
    "LimitRequestHeaders": (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "there are too many headers, or one is too long",
    ),
    "ExpectationFailed": (HTTPStatus.EXPECTATION_FAILED, "Expect must be 100-continue"),
    "UnsupportedTransferCoding": (
        HTTPStatus.NOT_IMPLEMENTED,
        "Transfer-Encoding must be chunked, or absent",
    ),
}
_UNREADABLE = (HTTPStatus.BAD_REQUEST, "the request must be HTTP/1.1: its first line or a header")


class Worker(ThreadWorker):
    """gunicorn's threaded worker, which refuses as the rest of the API does."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that went wrong outside the app, and close the connection."""
        del req, addr
        request_id = uuid.uuid4().hex
        name = type(exc).__name__
        if isinstance(exc, ParseException) or name in _REFUSALS:
            status, detail = _REFUSALS.get(name, _UNREADABLE)
            log.warning("request_refused", error=name, status=status, request_id=request_id)
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            detail = "an error inside the API: the log has it under this request_id"
            log.error("request_failed", error=name, request_id=request_id, exc_info=exc)
        try:
            client.settimeout(_PATIENCE_S)
            client.sendall(answer(status, detail, request_id))
        except OSError as error:
            log.debug("answer_not_sent", error=type(error).__name__, request_id=request_id)


def answer(status: HTTPStatus, detail: str, request_id: str) -> bytes:
    """Write a whole answer of HTTP/1.1 with a problem document (RFC 9457).

    Parameters
    ----------
    status : HTTPStatus
    detail : str
        What is wrong.
    request_id : str
        The same id stands in the log.
    """
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        # What could not be read has no path.
        "instance": "",
        "request_id": request_id,
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {PROBLEM_JSON}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
