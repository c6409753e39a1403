"""Tables of the studies: protocol versions, cases and their series, readers, allocation.

Names, not numbers, tie a study together (the pseudonym of a case, the name of a reader, the code
of a reading): they are what the audit trail and the export speak of. `Study.revision` moves in
the transaction of every write that changes what statistics see.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Float, ForeignKey, Integer, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from halfscan_api.database import Base, Id, Json, UtcDateTime, one_of


class CaseKind(StrEnum):
    """``training`` cases come first, outside the study, and never count."""

    STUDY = "study"
    TRAINING = "training"


class NoiseRole(StrEnum):
    """What a series is to another one whose noise it tells.

    ``repeat``: a second acquisition of the same thing, prepared in the same way. ``noise_map``: the
    standard deviation of the noise in every pixel, in the units of the images.
    """

    REPEAT = "repeat"
    NOISE_MAP = "noise_map"


class Study(Base):
    """A reader study."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    # Of the newest protocol version, so that a list of studies reads no documents.
    title: Mapped[str] = mapped_column(String(200))
    protocol_version: Mapped[int] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(Id)
    # Key of the identifiers that readers see (HMAC); it leaves the database in no way.
    secret: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ProtocolVersion(Base):
    """A version of the protocol, from 1; it never changes."""

    __tablename__ = "protocol_version"
    __table_args__ = (Unique("study_id", "number"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    number: Mapped[int] = mapped_column(Integer)
    document: Mapped[dict[str, Any]] = mapped_column(Json)
    # Why it was amended; needed once readings exist.
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StudyCase(Base):
    """A patient under a pseudonym; who it is stays in the archive."""

    __tablename__ = "study_case"
    __table_args__ = (
        Unique("study_id", "pseudonym"),
        CheckConstraint(one_of("kind", CaseKind), name="kind"),
        CheckConstraint(
            "(excluded_at IS NULL) = (exclusion_reason IS NULL)", name="exclusion_has_a_reason"
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    pseudonym: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    enrolled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    excluded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exclusion_reason: Mapped[str | None] = mapped_column(Text)

    series: Mapped[list["CaseSeries"]] = relationship(
        order_by="CaseSeries.id", lazy="raise", back_populates="case"
    )
    noise_series: Mapped[list["NoiseSeries"]] = relationship(
        order_by="NoiseSeries.id", lazy="raise", back_populates="case"
    )


class CaseSeries(Base):
    """The series of a case in one arm and one sequence."""

    __tablename__ = "case_series"
    __table_args__ = (
        Unique("case_id", "arm", "sequence"),
        # One series cannot stand for two.
        Unique("study_id", "series_instance_uid"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    case_id: Mapped[int] = mapped_column(Id, ForeignKey("study_case.id"))
    arm: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[str] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    scan_time_s: Mapped[float | None] = mapped_column(Float)
    # What the headers say (Table 1 of a publication): name -> value.
    parameters: Mapped[dict[str, Any] | None] = mapped_column(Json)
    # The reconstruction that made it, where this database has it, and what it was, in any case.
    reconstruction_id: Mapped[int | None] = mapped_column(
        Id, ForeignKey("reconstruction.id", ondelete="SET NULL"), index=True
    )
    lineage: Mapped[dict[str, Any] | None] = mapped_column(Json)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)

    case: Mapped[StudyCase] = relationship(lazy="raise", back_populates="series")


class NoiseSeries(Base):
    """A series that tells the noise of the series of a case in one arm and one sequence.

    It is measured, and shown to no reader: readings are made of `CaseSeries` alone.
    """

    __tablename__ = "noise_series"
    __table_args__ = (
        Unique("case_id", "arm", "sequence", "role"),
        Unique("study_id", "series_instance_uid"),
        CheckConstraint(one_of("role", NoiseRole), name="role"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    case_id: Mapped[int] = mapped_column(Id, ForeignKey("study_case.id"))
    arm: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    # What made it, where it is a derived series.
    lineage: Mapped[dict[str, Any] | None] = mapped_column(Json)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)

    case: Mapped[StudyCase] = relationship(lazy="raise", back_populates="noise_series")


class Reader(Base):
    """Someone who reads in one study, with a token of their own."""

    __tablename__ = "reader"
    __table_args__ = (Unique("study_id", "name"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"))
    name: Mapped[str] = mapped_column(String(64))
    experience_years: Mapped[float | None] = mapped_column(Float)
    # None after an import: tokens do not travel.
    token_id: Mapped[int | None] = mapped_column(Id, ForeignKey("api_token.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Allocation(Base):
    """Which cases a reader got at once: with the seed, all that the allocation follows from."""

    __tablename__ = "allocation"
    __table_args__ = (Unique("reader_id", "batch"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id"), index=True)
    reader_id: Mapped[int] = mapped_column(Id, ForeignKey("reader.id"))
    batch: Mapped[int] = mapped_column(Integer)
    protocol_version: Mapped[int] = mapped_column(Integer)
    study_cases: Mapped[list[str]] = mapped_column(Json)
    training_cases: Mapped[list[str]] = mapped_column(Json)
    repeat_cases: Mapped[list[str]] = mapped_column(Json)
    # Version of the rules in `studies.randomisation`.
    rules: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
