"""The one exception root of the API, and how an exception becomes an HTTP answer.

Every error leaves as ``application/problem+json`` (RFC 9457), the ones that Flask and Werkzeug
raise included, and none carries a traceback.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import sqlalchemy.exc
import structlog
from apiflask import APIFlask, HTTPError
from flask import Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

PROBLEM_JSON = "application/problem+json"

log = structlog.stdlib.get_logger(__name__)

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "description": "URN of the kind of problem, or about:blank."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The rule that was broken, and the value."},
        "instance": {"type": "string", "description": "Path of the request."},
        "request_id": {"type": "string", "description": "The same id stands in the log."},
        "errors": {
            "type": "array",
            "description": "One entry a refused field.",
            "items": {
                "type": "object",
                "properties": {
                    "in": {"enum": ["body", "query", "header"]},
                    "field": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class HalfscanError(Exception):
    """Root of every error that the API raises on purpose.

    The message gives the rule and the value, and is shown to the client or on the command line.

    Attributes
    ----------
    http_status : int
        Status of the HTTP answer.
    extra : mapping
        Further members of the problem document.
    headers : mapping
        Further headers of the HTTP answer.
    """

    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    @classmethod
    def words(cls) -> list[str]:
        """Words of the class name, in small letters: ``LeaseLost`` -> ``["lease", "lost"]``."""
        return [word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", cls.__name__)]


class DatabaseUnavailable(HalfscanError):
    """The database cannot be reached, read or written."""

    http_status = 503


class InvalidRequest(HalfscanError):
    """Well-formed input that breaks a rule; ``errors`` names each field."""

    http_status = 422

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        named = "; ".join(f"{error['field']}: {error['detail']}" for error in errors)
        super().__init__(named, extra={"errors": [dict(error) for error in errors]})


class MalformedBody(HalfscanError):
    """A request body that is no JSON object."""

    http_status = 400


class UnsupportedBody(HalfscanError):
    """A request body of another media type than JSON."""

    http_status = 415


class PreconditionRequired(HalfscanError):
    """A change that must name the version that it starts from."""

    http_status = 428


class VersionConflict(HalfscanError):
    """The version that the change starts from is not the newest."""

    http_status = 412


class Unauthorized(HalfscanError):
    """No token, or one that does not count."""

    http_status = 401


class Forbidden(HalfscanError):
    """A good token whose role may not do this."""

    http_status = 403


def problem(
    status: int,
    detail: str,
    *,
    kind: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make a problem document (RFC 9457) for the current request.

    Parameters
    ----------
    status : int
        HTTP status.
    detail : str
        What is wrong here, for a person.
    kind : sequence of str
        Words that name the kind of problem; none means that the status says it all.
    extra, headers : mapping, optional
        Further members of the document, further headers of the answer.
    """
    phrase = HTTPStatus(status).phrase
    answer = jsonify(
        {
            **(extra or {}),
            "type": f"urn:halfscan:problem:{'-'.join(kind)}" if kind else "about:blank",
            "title": " ".join(kind).capitalize() if kind else phrase,
            "status": status,
            "detail": detail,
            "instance": request.path,
            "request_id": g.get("request_id", ""),
        }
    )
    answer.status_code = status
    answer.mimetype = PROBLEM_JSON
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer


def register_error_handlers(app: APIFlask) -> None:
    """Answer every exception with a problem document."""
    # The first two replace APIFlask's own handlers.
    app.register_error_handler(HTTPError, _from_apiflask)
    app.register_error_handler(HTTPException, _from_werkzeug)
    app.register_error_handler(HalfscanError, _from_halfscan)
    for error in (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.TimeoutError,
    ):
        app.register_error_handler(error, _from_database)
    app.register_error_handler(Exception, _from_anything)


def _from_halfscan(error: HalfscanError) -> Response:
    return problem(
        error.http_status,
        str(error),
        kind=error.words(),
        extra=error.extra,
        headers=error.headers,
    )


def _from_apiflask(error: HTTPError) -> Response:
    headers = error.headers if isinstance(error.headers, Mapping) else {}
    return problem(
        error.status_code,
        str(error.message),
        headers={name: str(value) for name, value in headers.items()},
    )


def _from_werkzeug(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return problem(status, _explain(status, error), headers=headers)


def _explain(status: int, error: HTTPException) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return f"{request.path} takes {allowed}, got {request.method}"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the body must be at most {request.max_content_length} bytes"
    return error.description or HTTPStatus(status).phrase


def _from_database(error: Exception) -> Response:
    log.error("database_unavailable", error=type(error).__name__, cause=one_line(error))
    return problem(
        503,
        "the database cannot be reached or is busy: try again",
        kind=DatabaseUnavailable.words(),
        headers={"Retry-After": "2"},
    )


def _from_anything(error: Exception) -> Response:
    log.error("request_failed", error=type(error).__name__, exc_info=error)
    return problem(500, "an error inside the API: the log has it under this request_id")


def one_line(error: BaseException) -> str:
    """First line of the cause of an error, without the SQL and its parameters."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
