"""Table of what a study wishes of its enrolment."""

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from halfscan_api.database import Base, Id, UtcDateTime


class StudyEnrolment(Base):
    """Whether reconstructions that finish join their cases by themselves; no row means no."""

    __tablename__ = "study_enrolment"

    study_id: Mapped[int] = mapped_column(
        Id, ForeignKey("study.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    automatic: Mapped[bool] = mapped_column(Boolean)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
