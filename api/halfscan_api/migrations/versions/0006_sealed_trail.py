"""Events carry the revision, heads a seal; the server's chain tells of tokens and local numbers.

What the chain of the server did not tell so far (which token a reader has, which reconstruction a
series came from, the secret of a study) is told now as it stands: an edit is found from here on.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from halfscan_api.audit import FIRST_HASH, SYSTEM, canonical, new_head, timestamp
from halfscan_api.database import UtcDateTime, utc_now

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_HEAD = sa.table(
    "audit_head",
    *(sa.column(name) for name in ("chain", "sequence_number", "hash", "seal")),
)
_HASHED = ("chain", "sequence_number", "token_id", "actor", "role", "reader", "action", "subject")
_EVENT = sa.table(
    "audit_event",
    sa.column("at", UtcDateTime()),
    *(sa.column(name) for name in (*_HASHED, "old_text", "new_text", "reason")),
    *(sa.column(name) for name in ("previous_hash", "hash")),
)
_TOKEN = sa.table(
    "api_token",
    *(sa.column(name) for name in ("id", "name", "role", "sha256")),
    *(sa.column(name, UtcDateTime()) for name in ("created_at", "expires_at", "revoked_at")),
)


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("revision", sa.Integer(), nullable=True))
    op.add_column("audit_head", sa.Column("seal", sa.String(64), nullable=True))
    session = Session(op.get_bind())
    _tell(session, [*_tokens(session), *_studies(session)])
    for chain, number, last in session.execute(
        sa.select(_HEAD.c.chain, _HEAD.c.sequence_number, _HEAD.c.hash)
    ).all():
        seal = new_head(session, chain, number, last).seal
        session.execute(sa.update(_HEAD).where(_HEAD.c.chain == chain).values(seal=seal))
    with op.batch_alter_table("audit_head") as table:
        table.alter_column("seal", existing_type=sa.String(64), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("audit_head") as table:
        table.drop_column("seal")
    op.drop_column("audit_event", "revision")


def _tokens(session: Session) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in session.execute(sa.select(_TOKEN).order_by(_TOKEN.c.id)).all():
        moments = {
            name: timestamp(getattr(row, name))
            for name in ("created_at", "expires_at", "revoked_at")
            if getattr(row, name) is not None
        }
        fingerprint = hashlib.sha256(row.sha256.encode()).hexdigest()
        own = {"name": row.name, "role": row.role, "fingerprint": fingerprint}
        yield f"token/{row.id}", {**own, **moments}


def _studies(session: Session) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, name, secret in session.execute(sa.text("SELECT id, name, secret FROM study")):
        readers = session.execute(
            sa.text(
                "SELECT name, token_id FROM reader WHERE study_id = :id AND token_id IS NOT NULL"
            ),
            {"id": number},
        )
        series = session.execute(
            sa.text(
                "SELECT c.pseudonym, s.arm, s.sequence, s.reconstruction_id FROM case_series s "
                "JOIN study_case c ON c.id = s.case_id "
                "WHERE s.study_id = :id AND s.reconstruction_id IS NOT NULL"
            ),
            {"id": number},
        )
        made: dict[str, Any] = {}
        for case, arm, sequence, reconstruction in series:
            made.setdefault(case, {}).setdefault(arm, {})[sequence] = reconstruction
        yield (
            f"study/{name}",
            {
                "id": number,
                "secret_sha256": hashlib.sha256(secret.encode()).hexdigest(),
                "readers": dict(map(tuple, readers)),
                "reconstructions": made,
            },
        )


def _tell(session: Session, states: list[tuple[str, dict[str, Any]]]) -> None:
    """Append an event with each state to the chain of the server."""
    if not states:
        return
    found = session.execute(
        sa.select(_HEAD.c.sequence_number, _HEAD.c.hash).where(_HEAD.c.chain == SYSTEM)
    ).one_or_none()
    events, last = (0, FIRST_HASH) if found is None else found
    if found is None:
        session.execute(
            sa.insert(_HEAD).values(chain=SYSTEM, sequence_number=0, hash=FIRST_HASH, seal="")
        )
    now = utc_now()
    for number, (subject, state) in enumerate(states, events + 1):
        said: dict[str, Any] = dict.fromkeys(_HASHED)
        said |= {"chain": SYSTEM, "sequence_number": number, "actor": "migration", "role": "admin"}
        said |= {"action": "server.baseline", "subject": subject, "previous_hash": last}
        new = canonical(state)
        hashed = {**said, "at": timestamp(now), "old": None, "new": new, "reason": None}
        last = hashlib.sha256(canonical(hashed).encode()).hexdigest()
        session.execute(sa.insert(_EVENT).values(**said, at=now, new_text=new, hash=last))
    end = {"sequence_number": events + len(states), "hash": last}
    session.execute(sa.update(_HEAD).where(_HEAD.c.chain == SYSTEM).values(end))
