"""Requests that may be sent again: an Idempotency-Key makes a write happen once.

The answer is stored in the transaction of the write. Whoever lost it (a server that was killed, a
network that broke) sends the same request with the same key and gets the same answer; the key with
another request is refused. An error is not stored: nothing was written, and the request runs anew.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

from flask import Response, request
from pydantic import Field
from sqlalchemy import ForeignKey, Integer, String, Text, delete, select
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column
from werkzeug.http import parse_etags

from halfscan_api.auth import caller
from halfscan_api.database import Base, Id, Json, UtcDateTime
from halfscan_api.errors import HalfscanError, PreconditionRequired, VersionConflict
from halfscan_api.schemas import Input, Output
from halfscan_api.state import state

MAX_KEY = 128
# How long an answer is kept.
KEPT = timedelta(days=7)


class IdempotencyRecord(Base):
    """The answer to a request that carried a key."""

    __tablename__ = "idempotency_record"
    __table_args__ = (Unique("token_id", "key"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    token_id: Mapped[int] = mapped_column(Id, ForeignKey("api_token.id"))
    key: Mapped[str] = mapped_column(String(MAX_KEY))
    # Of the method, the path and the body.
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    body: Mapped[str] = mapped_column(Text)
    headers: Mapped[dict[str, str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class KeyReused(HalfscanError):
    """The key came before, with another request."""

    http_status = 422


class WriteHeaders(Input):
    """Header of a write that may be sent again."""

    idempotency_key: Annotated[
        str | None,
        Field(
            pattern=rf"^[\x21-\x7e]{{1,{MAX_KEY}}}$",
            description="The same key and request again: the same answer, and one write.",
        ),
    ] = None


class ChangeHeaders(WriteHeaders):
    """Headers of a change to something that has versions."""

    if_match: Annotated[
        str | None,
        Field(max_length=1000, description="ETag of what is changed; needed (428 without it)."),
    ] = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers.

    Attributes
    ----------
    body : Output or None
        None for an empty body.
    status : int
    headers : dict
    """

    body: Output | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def write_once(
    work: Callable[[Session], Answer],
    *,
    headers: WriteHeaders,
    check_replay: Callable[[Session, str], None] | None = None,
) -> Response:
    """Run a write in one transaction, once for each Idempotency-Key.

    Parameters
    ----------
    work : callable
        Gets a writing session and gives the answer.
    headers : WriteHeaders
        Of the request.
    check_replay : callable, optional
        Gets the session and the body of a stored answer, and raises if it must not be given again.

    Raises
    ------
    KeyReused
    """
    key = headers.idempotency_key
    now = state().clock()
    with state().database.write() as session:
        if key is None:
            return _response(_stored(work(session)))
        record = _begin(session, key, now)
        if record is None:
            again = _replay(session, key)
            if check_replay is not None:
                check_replay(session, again[1])
            return _response(again)
        stored = _stored(work(session))
        record.status, record.body, record.headers = stored
        session.flush()
    return _response(stored)


_Stored = tuple[int, str, dict[str, str]]


def check_version(headers: ChangeHeaders, version: int) -> None:
    """Let a change through that starts from the newest version.

    Raises
    ------
    PreconditionRequired
        The header If-Match is missing.
    VersionConflict
        It names another version.
    """
    if headers.if_match is None:
        raise PreconditionRequired(f"send the header If-Match: the ETag, now {etag(version)}")
    if not parse_etags(headers.if_match).contains(str(version)):
        raise VersionConflict(
            f"If-Match must be {etag(version)}, the newest version, got {headers.if_match}: "
            "read it again"
        )


def etag(version: int) -> str:
    """Write a version as an ETag."""
    return f'"{version}"'


def _begin(session: Session, key: str, now: datetime) -> IdempotencyRecord | None:
    """Take the key; None where it was taken before.

    On PostgreSQL the insert waits for a request with the same key that is under way; on SQLite
    the transaction itself has waited.
    """
    token_id = caller().token_id
    session.execute(
        delete(IdempotencyRecord).where(
            IdempotencyRecord.token_id == token_id, IdempotencyRecord.created_at < now - KEPT
        )
    )
    record = IdempotencyRecord(
        token_id=token_id,
        key=key,
        request_sha256=_request_digest(),
        status=0,
        body="",
        headers={},
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(record)
    except IntegrityError:
        return None
    return record


def _replay(session: Session, key: str) -> _Stored:
    record = session.scalars(
        select(IdempotencyRecord).where(
            IdempotencyRecord.token_id == caller().token_id, IdempotencyRecord.key == key
        )
    ).one()
    if record.request_sha256 != _request_digest():
        raise KeyReused(
            f"the Idempotency-Key {key} came before with another request: take a new key"
        )
    return record.status, record.body, {**record.headers, "Idempotent-Replayed": "true"}


def _request_digest() -> str:
    parts = (request.method.encode(), request.path.encode(), request.get_data())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _stored(answer: Answer) -> _Stored:
    body = "" if answer.body is None else answer.body.model_dump_json()
    return answer.status, body, dict(answer.headers)


def _response(stored: _Stored) -> Response:
    status, body, headers = stored
    content_type = "application/json" if body else None
    return Response(body, status=status, headers=headers, content_type=content_type)
