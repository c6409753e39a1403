"""Bodies of the tokens."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from halfscan_api.auth import Role
from halfscan_api.schemas import Input, Name, Output, Reason


class NewApiToken(Input):
    """A token; readers get theirs from the coordinator of their study."""

    name: Name
    role: Literal[Role.SERVICE, Role.COORDINATOR, Role.STATISTICIAN, Role.ADMIN]
    days: Annotated[
        int | None, Field(ge=1, le=36500, description="Days that it counts; no end without it.")
    ] = None


class Revocation(Input):
    """A token no longer counts."""

    reason: Reason


class TokenOut(Output):
    """A token, never the secret."""

    id: int
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class TokenWithSecret(TokenOut):
    """A token with its secret, shown this once."""

    token: str


class TokenList(Output):
    """Every token, the revoked ones included, oldest first."""

    items: list[TokenOut]
