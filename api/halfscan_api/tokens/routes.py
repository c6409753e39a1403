"""Routes under ``/api/v1/tokens`` and ``/api/v1/audit``: for admins alone."""

from apiflask import APIBlueprint

from halfscan_api.audit import SYSTEM, Trail, head_of
from halfscan_api.auth import (
    Role,
    caller,
    create_token,
    get_token,
    list_tokens,
    requires,
    revoke_token,
    token_state,
)
from halfscan_api.state import state
from halfscan_api.studies.record_routes import page_of_events
from halfscan_api.studies.schemas import (
    AuditQuery,
    EventPage,
    FaultOut,
    Verification,
    VerifyQuery,
)
from halfscan_api.studies.trail import verify_server
from halfscan_api.tokens.schemas import (
    NewApiToken,
    Revocation,
    TokenList,
    TokenOut,
    TokenWithSecret,
)

blueprint = APIBlueprint("tokens", __name__, tag="tokens")


@blueprint.post("/tokens")
@requires(Role.ADMIN)
@blueprint.input(NewApiToken)
@blueprint.output(TokenWithSecret, status_code=201, description="With the secret, this once")
def create(json_data: NewApiToken) -> tuple[TokenWithSecret, int]:
    """Make a token.

    It is stored hashed, so this takes no Idempotency-Key: if the answer is lost, revoke it.
    """
    now = state().clock()
    with state().database.write() as session:
        row, secret = create_token(
            session, name=json_data.name, role=json_data.role, now=now, days=json_data.days
        )
        system = Trail(session, SYSTEM, caller().actor(), now)
        system.record("token.create", f"token/{row.id}", new=token_state(row))
        shown = TokenOut.model_validate(row).model_dump()
    return TokenWithSecret(**shown, token=secret), 201


@blueprint.get("/tokens")
@requires(Role.ADMIN)
@blueprint.output(TokenList)
def find() -> TokenList:
    """List the tokens, oldest first; never the secrets."""
    with state().database.read() as session:
        return TokenList(items=[TokenOut.model_validate(row) for row in list_tokens(session)])


@blueprint.post("/tokens/<int:token_id>/revoke")
@requires(Role.ADMIN)
@blueprint.input(Revocation)
@blueprint.output(TokenOut)
@blueprint.doc(responses={404: "There is no such token"})
def revoke(token_id: int, json_data: Revocation) -> TokenOut:
    """Revoke a token, from now on; twice changes nothing."""
    now = state().clock()
    with state().database.write() as session:
        row = get_token(session, token_id)
        if row.revoked_at is None:
            revoke_token(session, str(row.id), now=now)
            system = Trail(session, SYSTEM, caller().actor(), now)
            system.record(
                "token.revoke", f"token/{row.id}", new=token_state(row), reason=json_data.reason
            )
        return TokenOut.model_validate(row)


@blueprint.get("/audit")
@requires(Role.ADMIN)
@blueprint.input(AuditQuery, location="query")
@blueprint.output(EventPage)
def list_events(query_data: AuditQuery) -> EventPage:
    """List the events of the server itself (tokens, imports), oldest first."""
    with state().database.read() as session:
        return page_of_events(session, SYSTEM, query_data)


@blueprint.get("/audit/verify")
@requires(Role.ADMIN)
@blueprint.input(VerifyQuery, location="query")
@blueprint.output(Verification)
def verify(query_data: VerifyQuery) -> Verification:
    """Find any edit of the trail of the server, of tokens, and of what a study has here alone.

    The chain must hold and the triggers that guard it be there; tokens, the token of each reader,
    the reconstruction of each series and the secret of each study must be what its events say.
    """
    with state().database.snapshot() as session:
        events, head_hash = head_of(session, SYSTEM)
        faults = verify_server(session, known_hash=query_data.known_hash)
    return Verification(
        holds=not faults,
        events=events,
        head_hash=head_hash,
        faults=[FaultOut.model_validate(fault) for fault in faults],
    )
