"""Readers and their tokens."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from halfscan_api.audit import SYSTEM, JsonObject, Trail
from halfscan_api.auth import ApiToken, Caller, Role, create_token, revoke_token, token_state
from halfscan_api.database import storable
from halfscan_api.errors import HalfscanError
from halfscan_api.states import state_of
from halfscan_api.studies.local import tell_locally
from halfscan_api.studies.service import move_revision
from halfscan_api.studies.tables import Reader, Study

READER_COLUMNS = ("experience_years", "created_at")


class ReaderNotFound(HalfscanError):
    """No reader of the study has this name."""

    http_status = 404


class ReaderExists(HalfscanError):
    """The name is taken."""

    http_status = 409


class NoToken(HalfscanError):
    """The reader has no token that could be revoked."""

    http_status = 409


class NoReader(HalfscanError):
    """A token with the role reader that belongs to no reader of a study."""

    http_status = 409


def add_reader(
    trail: Trail, study: Study, *, name: str, experience_years: float | None, days: int | None
) -> tuple[Reader, str]:
    """Add a reader and make the token; the study must be locked.

    Returns
    -------
    Reader, str
        The row, and the token, which nobody can show again.

    Raises
    ------
    ReaderExists
    TokenError
        A token of that name exists.
    """
    reader = Reader(
        study_id=study.id, name=name, experience_years=experience_years, created_at=trail.now
    )
    try:
        with trail.session.begin_nested():
            trail.session.add(reader)
    except IntegrityError:
        raise ReaderExists(f"a reader {name!r} exists in the study {study.name}") from None
    secret = _give_token(trail, study, reader, days=days)
    move_revision(study)
    trail.record("reader.add", reader_subject(reader), new=reader_state(reader))
    return reader, secret


def replace_token(
    trail: Trail, study: Study, reader: Reader, *, reason: str, days: int | None
) -> str:
    """Revoke the token of a reader and make a new one."""
    _revoke(trail, reader, reason)
    secret = _give_token(trail, study, reader, days=days)
    trail.record("reader.token", reader_subject(reader), reason=reason)
    return secret


def revoke_readers_token(trail: Trail, reader: Reader, *, reason: str) -> None:
    """Revoke the token of a reader, without a new one; the study must be locked.

    Raises
    ------
    NoToken
        The reader has none that counts.
    """
    if not _revoke(trail, reader, reason):
        raise NoToken(f"the reader {reader.name} has no token that counts")
    trail.record("reader.revoke", reader_subject(reader), reason=reason)


def get_reader(session: Session, study: Study, name: str) -> Reader:
    """Get a reader of a study.

    Raises
    ------
    ReaderNotFound
    """
    reader = session.scalar(
        select(Reader).where(Reader.study_id == study.id, Reader.name == storable(name))
    )
    if reader is None:
        raise ReaderNotFound(f"there is no reader {name} in the study {study.name}")
    return reader


def list_readers(session: Session, study: Study) -> Sequence[Reader]:
    """Every reader of a study, in the order in which they came."""
    return session.scalars(
        select(Reader).where(Reader.study_id == study.id).order_by(Reader.id)
    ).all()


def reader_of(session: Session, caller: Caller) -> Reader:
    """Get the reader whom the token of a request belongs to.

    Raises
    ------
    NoReader
    """
    reader = session.scalar(select(Reader).where(Reader.token_id == caller.token_id))
    if reader is None:
        raise NoReader("this token belongs to no reader of a study: the coordinator makes readers")
    return reader


def reader_subject(reader: Reader) -> str:
    """Name a reader as the audit trail does."""
    return f"reader/{reader.name}"


def reader_state(reader: Reader) -> JsonObject:
    """Give a reader as the audit trail holds it: without the token."""
    return state_of(reader, READER_COLUMNS)


def _revoke(trail: Trail, reader: Reader, reason: str) -> bool:
    """Revoke the token of a reader; tells whether there was one that counts."""
    old = None if reader.token_id is None else trail.session.get_one(ApiToken, reader.token_id)
    if old is None or old.revoked_at is not None:
        return False
    revoke_token(trail.session, str(old.id), now=trail.now)
    system = Trail(trail.session, SYSTEM, trail.actor, trail.now)
    system.record("token.revoke", f"token/{old.id}", new=token_state(old), reason=reason)
    return True


def _give_token(trail: Trail, study: Study, reader: Reader, *, days: int | None) -> str:
    token, secret = create_token(
        trail.session,
        name=f"{study.name}.{reader.name}",
        role=Role.READER,
        now=trail.now,
        days=days,
    )
    reader.token_id = token.id
    trail.session.flush()
    system = Trail(trail.session, SYSTEM, trail.actor, trail.now)
    system.record("token.create", f"token/{token.id}", new=token_state(token))
    tell_locally(trail, study, "reader.token", {"readers": {reader.name: token.id}})
    return secret
