"""Table of the reports: one row for each state of a study that a report was asked of."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, deferred, mapped_column

from halfscan_api.database import Base, Id, UtcDateTime, one_of


class ReportState(StrEnum):
    """Where a report stands: ``making -> done | failed``."""

    MAKING = "making"
    DONE = "done"
    FAILED = "failed"


class StudyReport(Base):
    """A report, or how far it is; removed when newer ones are made."""

    __tablename__ = "study_report"
    __table_args__ = (
        CheckConstraint(one_of("state", ReportState), name="state"),
        CheckConstraint("(state = 'done') = (content IS NOT NULL)", name="content"),
        Unique("study_id", "version"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(Id, ForeignKey("study.id", ondelete="CASCADE"))
    # Revision and digest of the facts: what the report was made from.
    version: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int] = mapped_column(Integer)

    state: Mapped[str] = mapped_column(String(16))
    parts_done: Mapped[int] = mapped_column(Integer)
    parts: Mapped[int] = mapped_column(Integer)
    part: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(Integer)
    # Whoever makes it renews the lease; another takes over what a killed process left.
    lease_token: Mapped[str] = mapped_column(String(64))
    lease_until: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)
    # HTML in UTF-8, compressed by zlib; loaded where it is asked for alone.
    content: Mapped[bytes | None] = deferred(mapped_column(LargeBinary))

    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
