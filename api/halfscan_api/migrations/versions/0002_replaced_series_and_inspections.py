"""Which derived series replaced which, the rule that decided, and inspections."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True),
    "postgresql",
)
_MOMENT = sa.DateTime(timezone=True)
_TABLES = ("reconstruction", "reconstruction_attempt")
_OF_THE_ATTEMPT: dict[str, sa.types.TypeEngine[Any]] = {
    "derived_series_instance_uid": sa.String(64),
    "derived_orthanc_series_id": sa.String(64),
    "model_name": sa.String(64),
    "model_version": sa.String(64),
    "model_sha256": sa.String(64),
    "strength": sa.Float(),
}


def upgrade() -> None:
    with op.batch_alter_table("reconstruction") as table:
        table.add_column(sa.Column("rule", sa.String(128), nullable=True))
    with op.batch_alter_table("reconstruction_attempt") as table:
        for name, kind in _OF_THE_ATTEMPT.items():
            table.add_column(sa.Column(name, kind, nullable=True))
    for name in _TABLES:
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("replaced_by", _ID, nullable=True))
            table.add_column(sa.Column("replaced_at", _MOMENT, nullable=True))
            table.create_foreign_key(
                op.f(f"fk_{name}_replaced_by_reconstruction"),
                "reconstruction",
                ["replaced_by"],
                ["id"],
                ondelete="SET NULL",
            )
    _remember_what_was_made()
    _create_inspection()


def downgrade() -> None:
    op.drop_table("inspection")
    for name in _TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_constraint(op.f(f"fk_{name}_replaced_by_reconstruction"), type_="foreignkey")
            table.drop_column("replaced_at")
            table.drop_column("replaced_by")
    with op.batch_alter_table("reconstruction_attempt") as table:
        for column in reversed(_OF_THE_ATTEMPT):
            table.drop_column(column)
    with op.batch_alter_table("reconstruction") as table:
        table.drop_column("rule")


def _remember_what_was_made() -> None:
    """Give every done row's last done attempt the derived series that it stored."""
    row = sa.table("reconstruction", sa.column("id"), *map(sa.column, _OF_THE_ATTEMPT))
    attempt = sa.table(
        "reconstruction_attempt",
        sa.column("id"),
        sa.column("reconstruction_id"),
        sa.column("result"),
        *map(sa.column, _OF_THE_ATTEMPT),
    )
    last = attempt.alias("last")
    of_the_row = {
        name: sa.select(row.c[name])
        .where(row.c.id == attempt.c.reconstruction_id)
        .scalar_subquery()
        for name in _OF_THE_ATTEMPT
    }
    op.execute(
        sa.update(attempt)
        .where(
            attempt.c.id.in_(
                sa.select(sa.func.max(last.c.id))
                .where(last.c.result == "done")
                .group_by(last.c.reconstruction_id)
            )
        )
        .values(of_the_row)
    )


def _create_inspection() -> None:
    op.create_table(
        "inspection",
        sa.Column("id", _ID, nullable=False),
        sa.Column("orthanc_series_id", sa.String(64), nullable=True),
        sa.Column("series_instance_uid", sa.String(64), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(64), nullable=True),
        sa.Column("lease_until", _MOMENT, nullable=True),
        sa.Column("worker", sa.String(64), nullable=True),
        sa.Column("result", _JSON, nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'leased', 'done', 'failed')",
            name=op.f("ck_inspection_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inspection")),
        sqlite_autoincrement=True,
    )
    for column in ("status", "created_at"):
        op.create_index(op.f(f"ix_inspection_{column}"), "inspection", [column])
