"""Series that tell the noise of others, and the SNR that follows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True),
    "postgresql",
)


def upgrade() -> None:
    op.create_table(
        "noise_series",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("sequence", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("orthanc_series_id", sa.String(64), nullable=True),
        sa.Column("lineage", _JSON, nullable=True),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('repeat', 'noise_map')", name=op.f("ck_noise_series_role")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_noise_series_study_id_study")
        ),
        sa.ForeignKeyConstraint(
            ["case_id"], ["study_case.id"], name=op.f("fk_noise_series_case_id_study_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_noise_series")),
        sa.UniqueConstraint(
            *("case_id", "arm", "sequence", "role"),
            name=op.f("uq_noise_series_case_id_arm_sequence_role"),
        ),
        sa.UniqueConstraint(
            *("study_id", "series_instance_uid"),
            name=op.f("uq_noise_series_study_id_series_instance_uid"),
        ),
    )
    with op.batch_alter_table("measurement") as table:
        table.add_column(sa.Column("noise", _JSON, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("measurement") as table:
        table.drop_column("noise")
    op.drop_table("noise_series")
