"""Tables of the readings and their answers, one row an answer.

Each answer repeats what its reading knows (study, reader, case, arm, session), so that statistics
group and join one table alone. `counted` is true from the completion of the reading on, unless the
case is excluded; training never counts. For what statistics ask most, `AnswerCount`, `AnswerPair`
and `AnswerProfile` hold the counts themselves: they move in the transaction that completes or
amends a reading (`readings.counts`), and their size grows with categories, not with cases.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from halfscan_api.database import Base, Id, UtcDateTime, one_of


class SessionKind(StrEnum):
    """``training`` comes first, ``repeat`` sessions last, for intra-reader agreement."""

    TRAINING = "training"
    READING = "reading"
    REPEAT = "repeat"


class ReadingState(StrEnum):
    """``pending -> open -> complete``; what is amended stays complete.

    ``withdrawn``: the case was excluded before the reading was complete.
    """

    PENDING = "pending"
    OPEN = "open"
    COMPLETE = "complete"
    WITHDRAWN = "withdrawn"


class AnswerKind(StrEnum):
    """Answers that are counted by category."""

    SCORE = "score"
    FINDING = "finding"


class PairKind(StrEnum):
    """Which two readings of a case a pair of answers comes from.

    ``inter_reader``: two readers, the same arm. ``inter_arm``: one reader, two arms.
    ``intra_reader``: one reader, one arm, the first reading and a repeat.
    """

    INTER_READER = "inter_reader"
    INTER_ARM = "inter_arm"
    INTRA_READER = "intra_reader"


class ReadingSession(Base):
    """What one reader reads between two wash-outs; its state follows from its readings."""

    __tablename__ = "reading_session"
    __table_args__ = (
        Unique("reader_id", "number"),
        CheckConstraint(one_of("kind", SessionKind), name="kind"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"), index=True)
    reader_id: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"))
    code: Mapped[str] = mapped_column(String(32), unique=True)
    # 0 is training, 1 up to the number of arms are the readings, then come the repeats.
    number: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # The coordinator let it begin before its time.
    override_reason: Mapped[str | None] = mapped_column(Text)
    override_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Reading(Base):
    """One case in one arm, before one reader; `code` is all that the reader learns of it."""

    __tablename__ = "reading"
    __table_args__ = (
        Unique("session_id", "case_id"),
        Unique("session_id", "position"),
        Unique("reader_id", "case_id", "arm", "repeat_round"),
        CheckConstraint(one_of("state", ReadingState), name="state"),
        # At most one is open in a session, whoever asks at the same moment.
        Index(
            "uq_reading_session_id_open",
            "session_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        Index(None, "study_id", "state"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    reader_id: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"), index=True)
    session_id: Mapped[int] = mapped_column(Id, ForeignKey("reading_session.id"))
    case_id: Mapped[int] = mapped_column(Id, ForeignKey("study_case.id"), index=True)
    arm: Mapped[str] = mapped_column(String(64))
    batch: Mapped[int] = mapped_column(Integer)
    position: Mapped[int] = mapped_column(Integer)
    # 0 is the reading itself, 1 the first time that the same case and arm come again.
    repeat_round: Mapped[int] = mapped_column(Integer)
    code: Mapped[str] = mapped_column(String(32), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    # Moves with every change: the reader's ETag.
    version: Mapped[int] = mapped_column(Integer)
    protocol_version: Mapped[int | None] = mapped_column(Integer)
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    active_s: Mapped[float] = mapped_column(Float)
    # Why it was completed although answers are missing.
    missing_reason: Mapped[str | None] = mapped_column(Text)
    counted: Mapped[bool] = mapped_column(Boolean)


class AnswerOfReading:
    """Columns that every answer repeats from its reading."""

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    arm: Mapped[str] = mapped_column(String(64))
    session_kind: Mapped[str] = mapped_column(String(16))
    session_number: Mapped[int] = mapped_column(Integer)
    repeat_round: Mapped[int] = mapped_column(Integer)
    counted: Mapped[bool] = mapped_column(Boolean)
    saved_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @declared_attr
    def study_id(cls) -> Mapped[int]:  # noqa: N805 - SQLAlchemy's way
        return mapped_column(Id, ForeignKey("study.id"))

    @declared_attr
    def reader_id(cls) -> Mapped[int]:  # noqa: N805
        return mapped_column(Id, ForeignKey("reader.id"))

    @declared_attr
    def case_id(cls) -> Mapped[int]:  # noqa: N805
        return mapped_column(Id, ForeignKey("study_case.id"))

    @declared_attr
    def reading_id(cls) -> Mapped[int]:  # noqa: N805
        return mapped_column(Id, ForeignKey("reading.id"))


class Score(AnswerOfReading, Base):
    """A point of a scale, for one sequence and criterion."""

    __tablename__ = "score"
    __table_args__ = (
        Unique("reading_id", "sequence", "criterion"),
        Index(None, "study_id", "criterion", "sequence", "reader_id", "arm", "case_id"),
    )

    sequence: Mapped[str] = mapped_column(String(64))
    criterion: Mapped[str] = mapped_column(String(64))
    value: Mapped[int] = mapped_column(Integer)


class Finding(AnswerOfReading, Base):
    """The grade of a finding at one level; 0 is absent."""

    __tablename__ = "finding"
    __table_args__ = (
        Unique("reading_id", "finding", "level"),
        Index(None, "study_id", "finding", "level", "reader_id", "arm", "case_id"),
    )

    finding: Mapped[str] = mapped_column(String(64))
    level: Mapped[str] = mapped_column(String(32))
    value: Mapped[int] = mapped_column(Integer)


class AnswerCount(Base):
    """How often a reader gave a value, among the counted answers.

    `item` and `place` are criterion and sequence of a score, finding and level of a finding.
    """

    __tablename__ = "answer_count"

    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"), primary_key=True)
    answer_kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    item: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[str] = mapped_column(String(64), primary_key=True)
    reader_id: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"), primary_key=True)
    arm: Mapped[str] = mapped_column(String(64), primary_key=True)
    repeat_round: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(Integer, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)


class AnswerPair(Base):
    """How often two counted readings of the same case gave these two values: one cell of a table.

    ``inter_reader``: `reader_a` < `reader_b`, one arm, round 0. ``inter_arm``: one reader,
    `arm_a` < `arm_b` in the plain order of characters, round 0. ``intra_reader``: one reader, one
    arm, `a` of round 0 and `b` of `repeat_round`.
    """

    __tablename__ = "answer_pair"

    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"), primary_key=True)
    pair_kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    answer_kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    item: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[str] = mapped_column(String(64), primary_key=True)
    reader_a: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"), primary_key=True)
    reader_b: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"), primary_key=True)
    arm_a: Mapped[str] = mapped_column(String(64), primary_key=True)
    arm_b: Mapped[str] = mapped_column(String(64), primary_key=True)
    repeat_round: Mapped[int] = mapped_column(Integer, primary_key=True)
    value_a: Mapped[int] = mapped_column(Integer, primary_key=True)
    value_b: Mapped[int] = mapped_column(Integer, primary_key=True)
    n: Mapped[int] = mapped_column(Integer)


class AnswerProfile(Base):
    """How many cases have these answers in all their counted readings.

    A score is counted by criterion (`item`) and sequence (`place`), a finding with all its levels
    at once (`place` is empty). `readings` and `answers` are those of `readings.profiles.Profile`,
    `digest` is its key.
    """

    __tablename__ = "answer_profile"

    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"), primary_key=True)
    answer_kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    item: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    readings: Mapped[str] = mapped_column(Text)
    answers: Mapped[str] = mapped_column(Text)
    n: Mapped[int] = mapped_column(Integer)
