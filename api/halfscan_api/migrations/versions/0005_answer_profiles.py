"""Cases counted by the profile of their answers, filled from the answers that count."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from halfscan_api.readings.profiles import expected_profiles

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    table = op.create_table(
        "answer_profile",
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("answer_kind", sa.String(16), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("readings", sa.Text(), nullable=False),
        sa.Column("answers", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_answer_profile_study_id_study")
        ),
        sa.PrimaryKeyConstraint(
            "study_id", "answer_kind", "item", "place", "digest", name=op.f("pk_answer_profile")
        ),
    )
    session = Session(op.get_bind())
    for study_id in session.scalars(sa.text("SELECT id FROM study")).all():
        rows = list(expected_profiles(session, study_id))
        if rows:
            session.execute(sa.insert(table), rows)


def downgrade() -> None:
    op.drop_table("answer_profile")
