"""Bearer tokens with a role, and the rule that every route states.

A token is shown once, when it is made; the table keeps its sha256. (A token has 256 random bits:
a slow hash, which protects guessable passwords, would add nothing.)
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import sqlalchemy.exc
import structlog
from flask import Flask, g, request
from sqlalchemy import CheckConstraint, Index, String, or_, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from halfscan_api.audit import Actor, JsonObject
from halfscan_api.database import MAX_ID, Base, Id, UtcDateTime, one_of
from halfscan_api.errors import Forbidden, HalfscanError, Unauthorized
from halfscan_api.state import state
from halfscan_api.states import state_of

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.stdlib.get_logger(__name__)

SCHEME = "BearerToken"
SECURITY_SCHEMES: Final = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "Made by `halfscan token create` or POST /tokens; a route names its roles.",
    }
}
TOKEN_PREFIX = "hs_"  # noqa: S105 - lets people and secret scanners recognise a token
# A token's last use is written at most this often: it must not turn every read into a write.
USE_RESOLUTION = timedelta(minutes=1)
_RULE = "halfscan_rule"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


class Role(StrEnum):
    """What the holder of a token is.

    ``service`` is a program of the house (relay, worker), ``coordinator`` runs a study,
    ``reader`` reads blinded, ``statistician`` reads results, ``admin`` makes tokens and may do all
    that others than readers may.
    """

    SERVICE = "service"
    COORDINATOR = "coordinator"
    READER = "reader"
    STATISTICIAN = "statistician"
    ADMIN = "admin"


class ApiToken(Base):
    """A bearer token; never the token itself."""

    __tablename__ = "api_token"
    __table_args__ = (
        CheckConstraint(one_of("role", Role), name="role"),
        # A name stands for one token at a time, so that it can be revoked by its name.
        Index(
            "uq_api_token_name_active",
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenError(HalfscanError):
    """A token that cannot be made, found or revoked."""

    http_status = 422


class TokenNotFound(HalfscanError):
    """No token has this id."""

    http_status = 404


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends the request.

    Attributes
    ----------
    token_id : int
    role : Role
    name : str
        Name of the token.
    """

    token_id: int
    role: Role
    name: str

    def actor(self, *, reader: str | None = None) -> Actor:
        """Give the caller as the audit trail names it; `reader` is the reader of the token."""
        return Actor(self.token_id, self.name, self.role.value, reader)


def create_token(
    session: Session, *, name: str, role: Role, now: datetime, days: int | None = None
) -> tuple[ApiToken, str]:
    """Make a token.

    Parameters
    ----------
    session : Session
        A writing one.
    name : str
        A letter, then up to 63 letters, digits, dots, dashes, underscores; free among the tokens
        that are not revoked.
    role : Role
    now : datetime
    days : int, optional
        Days that it counts; without it, until it is revoked.

    Returns
    -------
    ApiToken, str
        The row, and the token itself, which nobody can show again.

    Raises
    ------
    TokenError
        The name is malformed or taken.
    """
    if not _NAME.fullmatch(name):
        rule = "a letter, then at most 63 letters, digits, dots, dashes or underscores"
        raise TokenError(f"name must be {rule}, got {name!r}")
    taken = session.scalar(
        select(ApiToken.id).where(ApiToken.name == name, ApiToken.revoked_at.is_(None))
    )
    if taken is not None:
        raise TokenError(f"a token named {name!r} exists (id {taken}): revoke it or choose another")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(
        name=name,
        role=role.value,
        sha256=_digest(secret),
        created_at=now,
        expires_at=now + timedelta(days=days) if days is not None else None,
    )
    session.add(row)
    session.flush()
    return row, secret


def list_tokens(session: Session) -> Sequence[ApiToken]:
    """Every token, the revoked ones included, oldest first."""
    return session.scalars(select(ApiToken).order_by(ApiToken.id)).all()


def get_token(session: Session, token_id: int) -> ApiToken:
    """Get a token by its id.

    Raises
    ------
    TokenNotFound
    """
    row = session.get(ApiToken, token_id) if token_id <= MAX_ID else None
    if row is None:
        raise TokenNotFound(f"there is no token {token_id}")
    return row


def revoke_token(session: Session, key: str, *, now: datetime) -> ApiToken:
    """Revoke the token with this id or name; doing so twice by id changes nothing.

    Raises
    ------
    TokenError
        There is no such token.
    """
    if key.isdecimal():
        row = session.get(ApiToken, int(key)) if len(key) < 19 else None
    else:
        row = session.scalar(
            select(ApiToken).where(ApiToken.name == key, ApiToken.revoked_at.is_(None))
        )
    if row is None:
        raise TokenError(f"no token that counts has the id or name {key!r}")
    row.revoked_at = row.revoked_at or now
    return row


def token_state(row: ApiToken) -> JsonObject:
    """Give a token as the audit trail holds it.

    Of the secret, which has 256 random bits, the hash of its hash: enough to find an edit, and
    nothing that the table of tokens could be asked with.
    """
    state = state_of(row, ("name", "role", "created_at", "expires_at", "revoked_at"))
    return {**state, "fingerprint": _digest(row.sha256)}


def authenticate(header: str | None) -> Caller:
    """Find out who sends the request.

    Parameters
    ----------
    header : str or None
        The Authorization header.

    Raises
    ------
    Unauthorized
        No token, an unknown, expired or revoked one.
    """
    scheme, _, secret = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("a token is needed: send the header Authorization: Bearer TOKEN")
    now = state().clock()
    with state().database.read() as session:
        row = session.scalar(select(ApiToken).where(ApiToken.sha256 == _digest(secret.strip())))
    if row is None:
        raise _unauthorized("the token is unknown", error="invalid_token")
    if row.revoked_at is not None:
        raise _unauthorized("the token was revoked", error="invalid_token")
    if row.expires_at is not None and row.expires_at <= now:
        raise _unauthorized("the token has expired", error="invalid_token")
    if row.last_used_at is None or now - row.last_used_at >= USE_RESOLUTION:
        _note_use(row.id, now)
    return Caller(token_id=row.id, role=Role(row.role), name=row.name)


def requires(*roles: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only these roles through, and say so in the OpenAPI document.

    An admin may do what any other role than a reader may: readings are the reader's own.
    Stands directly below the route, so that nothing of the request is read before.
    """
    if not roles:
        raise ValueError("requires() needs at least one role")
    others = frozenset(roles) - {Role.READER}
    allowed = frozenset(roles) | ({Role.ADMIN} if others else set())

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            admit(allowed)
            return view(*args, **kwargs)

        _document(guarded, allowed)
        return guarded

    return decorate


def admit(allowed: frozenset[Role]) -> None:
    """Let the current request through if its token has one of these roles.

    Raises
    ------
    Unauthorized, Forbidden
    """
    g.caller = found = authenticate(request.headers.get("Authorization"))
    if found.role not in allowed:
        named = " or ".join(sorted(allowed))
        raise Forbidden(f"this needs the role {named}, the token has {found.role}")


def caller() -> Caller:
    """Who sends the current request; there is one wherever `requires` stands."""
    found = g.caller
    if not isinstance(found, Caller):
        raise TypeError(f"the request must carry a Caller, got {type(found).__name__}")
    return found


def public(view: Callable[P, R]) -> Callable[P, R]:
    """State that a route needs no token."""
    setattr(view, _RULE, frozenset())
    return view


def rule_of(view: Callable[..., Any]) -> frozenset[Role] | None:
    """Roles that a view lets through: empty for a public one, None where no rule was stated."""
    rule: frozenset[Role] | None = getattr(view, _RULE, None)
    return rule


def check_rules(app: Flask) -> None:
    """Refuse to serve a route that states no rule: forgetting one must not open it.

    Raises
    ------
    RuntimeError
        Names the routes.
    """
    bare = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule_of(app.view_functions[rule.endpoint]) is None
    ]
    if bare:
        raise RuntimeError(f"every route needs @requires or @public, not so: {', '.join(bare)}")


def _document(view: Callable[..., Any], allowed: frozenset[Role]) -> None:
    setattr(view, _RULE, allowed)
    # APIFlask gathers in _spec what its own decorators say about a view. OpenAPI 3.1 lets a
    # bearer scheme list role names where OAuth would list scopes.
    spec: dict[str, Any] = dict(getattr(view, "_spec", {}))
    spec["security"] = [{SCHEME: sorted(allowed)}]
    spec["responses"] = {**(spec.get("responses") or {}), 403: "The role of the token is another"}
    view._spec = spec  # type: ignore[attr-defined] # noqa: SLF001 - see above


def _unauthorized(message: str, *, error: str | None = None) -> Unauthorized:
    # RFC 6750 section 3: without credentials, the challenge carries no error code.
    challenge = 'Bearer realm="halfscan"' + (f', error="{error}"' if error else "")
    return Unauthorized(message, headers={"WWW-Authenticate": challenge})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _note_use(token_id: int, now: datetime) -> None:
    stale = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at <= now - USE_RESOLUTION)
    try:
        with state().database.write() as session:
            session.execute(
                update(ApiToken).where(ApiToken.id == token_id, stale).values(last_used_at=now)
            )
    except sqlalchemy.exc.OperationalError:
        # A busy database must not turn away a request over a note in the margin.
        log.warning("token_use_not_noted", token_id=token_id)
