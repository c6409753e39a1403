"""Orthanc's study of a series, what was deleted meanwhile, and comparisons with the archive."""

import sqlalchemy as sa
from alembic import op

from halfscan_api.database import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INDEXED = (
    ("reconstruction", "orthanc_study_id"),
    ("reconstruction", "source_orthanc_series_id"),
    ("reconstruction_attempt", "derived_series_instance_uid"),
    ("reconstruction_attempt", "derived_orthanc_series_id"),
)
_COUNTS = ("checked", "missing", "stale", "orphaned", "doubled", "unknown", "mended")


def upgrade() -> None:
    with op.batch_alter_table("reconstruction") as table:
        table.add_column(sa.Column("orthanc_study_id", sa.String(64), nullable=True))
        table.add_column(sa.Column("source_orthanc_series_id", sa.String(64), nullable=True))
        table.add_column(
            sa.Column("look_again", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("reconstruction") as table:
        table.alter_column("look_again", existing_type=sa.Boolean(), server_default=None)
    for table_name, column in _INDEXED:
        op.create_index(op.f(f"ix_{table_name}_{column}"), table_name, [column])
    op.create_table(
        "reconciliation",
        sa.Column("id", _ID, nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation")),
    )


def downgrade() -> None:
    op.drop_table("reconciliation")
    for table_name, column in reversed(_INDEXED):
        op.drop_index(op.f(f"ix_{table_name}_{column}"), table_name)
    with op.batch_alter_table("reconstruction") as table:
        table.drop_column("look_again")
        table.drop_column("source_orthanc_series_id")
        table.drop_column("orthanc_study_id")
