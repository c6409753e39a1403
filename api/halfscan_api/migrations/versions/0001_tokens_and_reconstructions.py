"""Tokens and reconstructions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True),
    "postgresql",
)
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_api_token()
    _create_reconstruction()
    _create_reconstruction_attempt()


def downgrade() -> None:
    op.drop_table("reconstruction_attempt")
    op.drop_table("reconstruction")
    op.drop_table("api_token")


def _create_api_token() -> None:
    op.create_table(
        "api_token",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.Column("last_used_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "role IN ('service', 'coordinator', 'reader', 'statistician')",
            name=op.f("ck_api_token_role"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_token_sha256")),
    )
    op.create_index(
        "uq_api_token_name_active",
        "api_token",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )


def _create_reconstruction() -> None:
    op.create_table(
        "reconstruction",
        sa.Column("id", _ID, nullable=False),
        sa.Column("orthanc_series_id", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("source_digest", sa.String(64), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", _MOMENT, nullable=False),
        sa.Column("lease_token", sa.String(64), nullable=True),
        sa.Column("lease_s", sa.Integer(), nullable=True),
        sa.Column("lease_until", _MOMENT, nullable=True),
        sa.Column("worker", sa.String(64), nullable=True),
        sa.Column("reason_code", sa.String(64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("acquisition", _JSON, nullable=True),
        sa.Column("derived_series_instance_uid", sa.String(64), nullable=True),
        sa.Column("derived_orthanc_series_id", sa.String(64), nullable=True),
        sa.Column("derived_instances", sa.Integer(), nullable=True),
        sa.Column("model_name", sa.String(64), nullable=True),
        sa.Column("model_version", sa.String(64), nullable=True),
        sa.Column("model_sha256", sa.String(64), nullable=True),
        sa.Column("strength", sa.Float(), nullable=True),
        sa.Column("timings_s", _JSON, nullable=True),
        sa.Column("quality", _JSON, nullable=True),
        sa.Column("warnings", _JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'leased', 'done', 'skipped', 'dead')",
            name=op.f("ck_reconstruction_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconstruction")),
        sa.UniqueConstraint(
            "orthanc_series_id",
            "source_digest",
            name=op.f("uq_reconstruction_orthanc_series_id_source_digest"),
        ),
    )
    for columns in (["series_instance_uid"], ["study_instance_uid"], ["status", "run_after"]):
        op.create_index(op.f(f"ix_reconstruction_{'_'.join(columns)}"), "reconstruction", columns)


def _create_reconstruction_attempt() -> None:
    op.create_table(
        "reconstruction_attempt",
        sa.Column("id", _ID, nullable=False),
        sa.Column("reconstruction_id", _ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("lease_token", sa.String(64), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("result", sa.String(16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("outcome_sha256", sa.String(64), nullable=True),
        sa.CheckConstraint(
            "result IN ('done', 'skipped', 'failed', 'lost')",
            name=op.f("ck_reconstruction_attempt_result"),
        ),
        sa.ForeignKeyConstraint(
            ["reconstruction_id"],
            ["reconstruction.id"],
            name=op.f("fk_reconstruction_attempt_reconstruction_id_reconstruction"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconstruction_attempt")),
        sa.UniqueConstraint("lease_token", name=op.f("uq_reconstruction_attempt_lease_token")),
    )
    op.create_index(
        op.f("ix_reconstruction_attempt_reconstruction_id"),
        "reconstruction_attempt",
        ["reconstruction_id"],
    )
