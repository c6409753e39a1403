"""Table of the inspections: a question about a series, and the answer of a worker."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from halfscan_api.database import Base, Id, Json, UtcDateTime


class InspectionStatus(StrEnum):
    """Where an inspection stands: ``pending -> leased -> done | failed``."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


_STATUSES = ", ".join(repr(status.value) for status in InspectionStatus)


class Inspection(Base):
    """One question; removed some days later."""

    __tablename__ = "inspection"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        # Rows are removed: an id must never come back as that of another question.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    # As it was asked: one of the two.
    orthanc_series_id: Mapped[str | None] = mapped_column(String(64))
    series_instance_uid: Mapped[str | None] = mapped_column(String(64))

    status: Mapped[str] = mapped_column(String(16), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(String(64))

    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
