"""Tables of the reconstructions: the row is the truth."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from halfscan_api.database import Base, Id, Json, UtcDateTime


class Status(StrEnum):
    """Where a reconstruction stands: ``pending -> leased -> done | skipped | dead``."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    SKIPPED = "skipped"
    DEAD = "dead"


class AttemptResult(StrEnum):
    """How an attempt ended; ``lost`` is a worker that vanished."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    LOST = "lost"


def _one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class Reconstruction(Base):
    """One content of one series, to be decided on and perhaps reconstructed."""

    __tablename__ = "reconstruction"
    __table_args__ = (
        Unique("orthanc_series_id", "source_digest"),
        CheckConstraint(_one_of("status", Status), name="status"),
        Index(None, "status", "run_after"),
        Index(None, "orthanc_study_id"),
        Index(None, "source_orthanc_series_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    orthanc_series_id: Mapped[str] = mapped_column(String(64))
    # Orthanc's own study: one StudyInstanceUID may lie in the archive under several PatientIDs.
    # None for what was announced before it was noted.
    orthanc_study_id: Mapped[str | None] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    source_digest: Mapped[str] = mapped_column(String(64))
    n_instances: Mapped[int] = mapped_column(Integer)

    status: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)
    run_after: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_s: Mapped[int | None] = mapped_column(Integer)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(String(64))
    # Of a copied derived series: the series of the same study that it was made from.
    source_orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    # The source was deleted while a worker had it, or that of a copy: look once more.
    look_again: Mapped[bool] = mapped_column(Boolean, default=False)

    reason_code: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    rule: Mapped[str | None] = mapped_column(String(128))
    acquisition: Mapped[dict[str, Any] | None] = mapped_column(Json)
    derived_series_instance_uid: Mapped[str | None] = mapped_column(String(64))
    derived_orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    derived_instances: Mapped[int | None] = mapped_column(Integer)
    model_name: Mapped[str | None] = mapped_column(String(64))
    model_version: Mapped[str | None] = mapped_column(String(64))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    strength: Mapped[float | None] = mapped_column(Float)
    timings_s: Mapped[dict[str, float] | None] = mapped_column(Json)
    quality: Mapped[dict[str, Any] | None] = mapped_column(Json)
    warnings: Mapped[list[str] | None] = mapped_column(Json)
    error: Mapped[str | None] = mapped_column(Text)
    # Set once another derived series has taken the place of this row's in the archive.
    replaced_by: Mapped[int | None] = mapped_column(
        Id, ForeignKey("reconstruction.id", ondelete="SET NULL")
    )
    replaced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    attempts: Mapped[list["ReconstructionAttempt"]] = relationship(
        order_by="ReconstructionAttempt.id",
        foreign_keys="ReconstructionAttempt.reconstruction_id",
        lazy="raise",
        passive_deletes=True,
    )


class ReconstructionAttempt(Base):
    """One claim of a reconstruction, how it ended, and the derived series that it stored.

    The UID of a derived series stands here before its first object is stored. So whatever a
    vanished worker leaves behind in the archive is known, and the next one removes it.
    """

    __tablename__ = "reconstruction_attempt"
    __table_args__ = (
        CheckConstraint(_one_of("result", AttemptResult), name="result"),
        Index(None, "derived_series_instance_uid"),
        Index(None, "derived_orthanc_series_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    reconstruction_id: Mapped[int] = mapped_column(
        Id, ForeignKey("reconstruction.id", ondelete="CASCADE"), index=True
    )
    # Counts from 1 again after a retry.
    attempt: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str] = mapped_column(String(64))
    lease_token: Mapped[str] = mapped_column(String(64), unique=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    result: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[str | None] = mapped_column(Text)
    # Recognises an outcome that is sent again because its answer was lost.
    outcome_sha256: Mapped[str | None] = mapped_column(String(64))

    derived_series_instance_uid: Mapped[str | None] = mapped_column(String(64))
    derived_orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    model_name: Mapped[str | None] = mapped_column(String(64))
    model_version: Mapped[str | None] = mapped_column(String(64))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    strength: Mapped[float | None] = mapped_column(Float)
    replaced_by: Mapped[int | None] = mapped_column(
        Id, ForeignKey("reconstruction.id", ondelete="SET NULL")
    )
    replaced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Reconciliation(Base):
    """What one comparison of ledger and archive came to: counts of series, no identifiers."""

    __tablename__ = "reconciliation"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime)
    checked: Mapped[int] = mapped_column(Integer)
    missing: Mapped[int] = mapped_column(Integer)
    stale: Mapped[int] = mapped_column(Integer)
    orphaned: Mapped[int] = mapped_column(Integer)
    doubled: Mapped[int] = mapped_column(Integer)
    unknown: Mapped[int] = mapped_column(Integer)
    mended: Mapped[int] = mapped_column(Integer)
