"""Studies, readings, answers, the audit trail; the role admin."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True),
    "postgresql",
)
_MOMENT = sa.DateTime(timezone=True)
_ROLES = "'service', 'coordinator', 'reader', 'statistician'"


def upgrade() -> None:
    _allow_roles(f"{_ROLES}, 'admin'")
    _create_audit_event()
    _create_audit_head()
    _create_study()
    _create_idempotency_record()
    _create_protocol_version()
    _create_reader()
    _create_study_case()
    _create_allocation()
    _create_answer_count()
    _create_answer_pair()
    _create_case_series()
    _create_reading_session()
    _create_reading()
    _create_finding()
    _create_measurement()
    _create_score()
    _make_audit_append_only()


def downgrade() -> None:
    _make_audit_changeable()
    op.drop_table("score")
    op.drop_table("measurement")
    op.drop_table("finding")
    op.drop_table("reading")
    op.drop_table("reading_session")
    op.drop_table("case_series")
    op.drop_table("answer_pair")
    op.drop_table("answer_count")
    op.drop_table("allocation")
    op.drop_table("study_case")
    op.drop_table("reader")
    op.drop_table("protocol_version")
    op.drop_table("idempotency_record")
    op.drop_table("study")
    op.drop_table("audit_head")
    op.drop_table("audit_event")
    op.execute("DELETE FROM api_token WHERE role = 'admin'")
    _allow_roles(_ROLES)


def _allow_roles(roles: str) -> None:
    with op.batch_alter_table("api_token") as table:
        table.drop_constraint(op.f("ck_api_token_role"), type_="check")
        table.create_check_constraint(op.f("ck_api_token_role"), f"role IN ({roles})")


def _refers(
    table: str, column: str, other: str, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=ondelete)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _make_audit_append_only() -> None:
    message = "audit_event is append-only"
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_event_no_{verb.lower()} BEFORE {verb} ON audit_event "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_change_of_audit_event() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_event_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_event()"
    )


def _make_audit_changeable() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(f"DROP TRIGGER audit_event_no_{verb}")
        return
    op.execute("DROP TRIGGER audit_event_no_change ON audit_event")
    op.execute("DROP FUNCTION refuse_change_of_audit_event")


def _create_audit_event() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("sequence_number", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("token_id", _ID, nullable=True),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("reader", sa.String(64), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("old_text", sa.Text(), nullable=True),
        sa.Column("new_text", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
        _unique("audit_event", "chain", "sequence_number"),
    )
    op.create_index(op.f("ix_audit_event_chain_subject"), "audit_event", ["chain", "subject"])


def _create_audit_head() -> None:
    op.create_table(
        "audit_head",
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("sequence_number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("pk_audit_head")),
    )


def _create_study() -> None:
    op.create_table(
        "study",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("protocol_version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("seed", _ID, nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        _unique("study", "name"),
    )


def _create_idempotency_record() -> None:
    op.create_table(
        "idempotency_record",
        sa.Column("id", _ID, nullable=False),
        sa.Column("token_id", _ID, nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("headers", _JSON, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        _refers("idempotency_record", "token_id", "api_token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_record")),
        _unique("idempotency_record", "token_id", "key"),
    )
    op.create_index(op.f("ix_idempotency_record_created_at"), "idempotency_record", ["created_at"])


def _create_protocol_version() -> None:
    op.create_table(
        "protocol_version",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", _JSON, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        _refers("protocol_version", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_protocol_version")),
        _unique("protocol_version", "study_id", "number"),
    )


def _create_reader() -> None:
    op.create_table(
        "reader",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("experience_years", sa.Float(), nullable=True),
        sa.Column("token_id", _ID, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        _refers("reader", "study_id", "study"),
        _refers("reader", "token_id", "api_token"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reader")),
        _unique("reader", "study_id", "name"),
        _unique("reader", "token_id"),
    )


def _create_study_case() -> None:
    op.create_table(
        "study_case",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("pseudonym", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("enrolled_at", _MOMENT, nullable=False),
        sa.Column("excluded_at", _MOMENT, nullable=True),
        sa.Column("exclusion_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(excluded_at IS NULL) = (exclusion_reason IS NULL)",
            name=op.f("ck_study_case_exclusion_has_a_reason"),
        ),
        sa.CheckConstraint("kind IN ('study', 'training')", name=op.f("ck_study_case_kind")),
        _refers("study_case", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_case")),
        _unique("study_case", "study_id", "pseudonym"),
    )


def _create_allocation() -> None:
    op.create_table(
        "allocation",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("protocol_version", sa.Integer(), nullable=False),
        sa.Column("study_cases", _JSON, nullable=False),
        sa.Column("training_cases", _JSON, nullable=False),
        sa.Column("repeat_cases", _JSON, nullable=False),
        sa.Column("rules", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        _refers("allocation", "reader_id", "reader"),
        _refers("allocation", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allocation")),
        _unique("allocation", "reader_id", "batch"),
    )
    op.create_index(op.f("ix_allocation_study_id"), "allocation", ["study_id"])


def _create_answer_count() -> None:
    op.create_table(
        "answer_count",
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("answer_kind", sa.String(16), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        _refers("answer_count", "reader_id", "reader"),
        _refers("answer_count", "study_id", "study"),
        sa.PrimaryKeyConstraint(
            "study_id",
            "answer_kind",
            "item",
            "place",
            "reader_id",
            "arm",
            "repeat_round",
            "value",
            name=op.f("pk_answer_count"),
        ),
    )


def _create_answer_pair() -> None:
    op.create_table(
        "answer_pair",
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("pair_kind", sa.String(16), nullable=False),
        sa.Column("answer_kind", sa.String(16), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("reader_a", _ID, nullable=False),
        sa.Column("reader_b", _ID, nullable=False),
        sa.Column("arm_a", sa.String(64), nullable=False),
        sa.Column("arm_b", sa.String(64), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("value_a", sa.Integer(), nullable=False),
        sa.Column("value_b", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        _refers("answer_pair", "reader_a", "reader"),
        _refers("answer_pair", "reader_b", "reader"),
        _refers("answer_pair", "study_id", "study"),
        sa.PrimaryKeyConstraint(
            "study_id",
            "pair_kind",
            "answer_kind",
            "item",
            "place",
            "reader_a",
            "reader_b",
            "arm_a",
            "arm_b",
            "repeat_round",
            "value_a",
            "value_b",
            name=op.f("pk_answer_pair"),
        ),
    )


def _create_case_series() -> None:
    op.create_table(
        "case_series",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("sequence", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("orthanc_series_id", sa.String(64), nullable=True),
        sa.Column("scan_time_s", sa.Float(), nullable=True),
        sa.Column("parameters", _JSON, nullable=True),
        sa.Column("reconstruction_id", _ID, nullable=True),
        sa.Column("lineage", _JSON, nullable=True),
        sa.Column("added_at", _MOMENT, nullable=False),
        _refers("case_series", "case_id", "study_case"),
        _refers("case_series", "reconstruction_id", "reconstruction", ondelete="SET NULL"),
        _refers("case_series", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_series")),
        _unique("case_series", "case_id", "arm", "sequence"),
        _unique("case_series", "study_id", "series_instance_uid"),
    )
    op.create_index(op.f("ix_case_series_reconstruction_id"), "case_series", ["reconstruction_id"])
    op.create_index(
        op.f("ix_case_series_series_instance_uid"), "case_series", ["series_instance_uid"]
    )


def _create_reading_session() -> None:
    op.create_table(
        "reading_session",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("override_reason", sa.Text(), nullable=True),
        sa.Column("override_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "kind IN ('training', 'reading', 'repeat')", name=op.f("ck_reading_session_kind")
        ),
        _refers("reading_session", "reader_id", "reader"),
        _refers("reading_session", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading_session")),
        _unique("reading_session", "code"),
        _unique("reading_session", "reader_id", "number"),
    )
    op.create_index(op.f("ix_reading_session_study_id"), "reading_session", ["study_id"])


def _create_reading() -> None:
    op.create_table(
        "reading",
        sa.Column("id", _ID, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("protocol_version", sa.Integer(), nullable=True),
        sa.Column("opened_at", _MOMENT, nullable=True),
        sa.Column("last_seen_at", _MOMENT, nullable=True),
        sa.Column("completed_at", _MOMENT, nullable=True),
        sa.Column("active_s", sa.Float(), nullable=False),
        sa.Column("missing_reason", sa.Text(), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'open', 'complete', 'withdrawn')", name=op.f("ck_reading_state")
        ),
        _refers("reading", "case_id", "study_case"),
        _refers("reading", "reader_id", "reader"),
        _refers("reading", "session_id", "reading_session"),
        _refers("reading", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading")),
        _unique("reading", "code"),
        _unique("reading", "reader_id", "case_id", "arm", "repeat_round"),
        _unique("reading", "session_id", "case_id"),
        _unique("reading", "session_id", "position"),
    )
    op.create_index(op.f("ix_reading_case_id"), "reading", ["case_id"])
    op.create_index(op.f("ix_reading_reader_id"), "reading", ["reader_id"])
    op.create_index(op.f("ix_reading_study_id_state"), "reading", ["study_id", "state"])
    op.create_index(
        "uq_reading_session_id_open",
        "reading",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )


def _create_finding() -> None:
    op.create_table(
        "finding",
        sa.Column("finding", sa.String(64), nullable=False),
        sa.Column("level", sa.String(32), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("session_kind", sa.String(16), nullable=False),
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("saved_at", _MOMENT, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("reading_id", _ID, nullable=False),
        _refers("finding", "case_id", "study_case"),
        _refers("finding", "reader_id", "reader"),
        _refers("finding", "reading_id", "reading"),
        _refers("finding", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
        _unique("finding", "reading_id", "finding", "level"),
    )
    op.create_index(
        op.f("ix_finding_study_id_finding_level_reader_id_arm_case_id"),
        "finding",
        ["study_id", "finding", "level", "reader_id", "arm", "case_id"],
    )


def _create_measurement() -> None:
    op.create_table(
        "measurement",
        sa.Column("sequence", sa.String(64), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("transferred", sa.Boolean(), nullable=False),
        sa.Column("mean", sa.Float(), nullable=False),
        sa.Column("sd", sa.Float(), nullable=False),
        sa.Column("area_mm2", sa.Float(), nullable=True),
        sa.Column("n_pixels", sa.Integer(), nullable=True),
        sa.Column("snr", sa.Float(), nullable=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("geometry", _JSON, nullable=True),
        sa.Column("sop_instance_uid", sa.String(64), nullable=True),
        sa.Column("frame_number", sa.Integer(), nullable=True),
        sa.Column("id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("session_kind", sa.String(16), nullable=False),
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("saved_at", _MOMENT, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("reading_id", _ID, nullable=False),
        sa.CheckConstraint(
            "source IN ('viewer', 'geometry', 'report')", name=op.f("ck_measurement_source")
        ),
        _refers("measurement", "case_id", "study_case"),
        _refers("measurement", "reader_id", "reader"),
        _refers("measurement", "reading_id", "reading"),
        _refers("measurement", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
        _unique("measurement", "reading_id", "sequence", "region", "arm"),
    )
    op.create_index(
        op.f("ix_measurement_study_id_region_sequence_reader_id_arm_case_id"),
        "measurement",
        ["study_id", "region", "sequence", "reader_id", "arm", "case_id"],
    )


def _create_score() -> None:
    op.create_table(
        "score",
        sa.Column("sequence", sa.String(64), nullable=False),
        sa.Column("criterion", sa.String(64), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("session_kind", sa.String(16), nullable=False),
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("repeat_round", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("saved_at", _MOMENT, nullable=False),
        sa.Column("study_id", _ID, nullable=False),
        sa.Column("reader_id", _ID, nullable=False),
        sa.Column("case_id", _ID, nullable=False),
        sa.Column("reading_id", _ID, nullable=False),
        _refers("score", "case_id", "study_case"),
        _refers("score", "reader_id", "reader"),
        _refers("score", "reading_id", "reading"),
        _refers("score", "study_id", "study"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score")),
        _unique("score", "reading_id", "sequence", "criterion"),
    )
    op.create_index(
        op.f("ix_score_study_id_criterion_sequence_reader_id_arm_case_id"),
        "score",
        ["study_id", "criterion", "sequence", "reader_id", "arm", "case_id"],
    )
