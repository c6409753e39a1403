"""Which reports there are, and who makes the next one; no HTTP and no threads here.

A report is made once for each state of a study, by whichever process was asked first. It holds a
lease while it works and renews it with each part, so that what a killed process left is taken over.
Each function works inside the transaction of its session.
"""

import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, undefer

from halfscan_api.errors import HalfscanError
from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.tables import ReportState, StudyReport
from halfscan_api.studies.tables import Study

# Longer than any part of a report; a part takes seconds at a million answers.
LEASE = timedelta(seconds=90)
ATTEMPTS = 3
# A report that failed is tried again by who asks after this time.
PAUSE = timedelta(seconds=30)
# Newest reports of a study that are kept.
KEPT = 3
MOST_ERROR = 1000


class ReportFailed(HalfscanError):
    """The report of this state of the study could not be made."""

    http_status = 500


class ReportLeaseLost(HalfscanError):
    """Another process makes the report, or it is not wanted any more."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a study that a report tells of.

    Attributes
    ----------
    study_id : int
    revision : int
    name : str
        Of the revision and of what the report tells beside the tables.
    """

    study_id: int
    revision: int
    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make a report.

    Attributes
    ----------
    report_id : int
    token : str
    """

    report_id: int
    token: str


def version_of(study: Study, facts: Facts) -> Version:
    """Name the state of a study that a report of these facts would tell of.

    An amended reason or a waived wash-out moves no revision, but the report tells of it.
    """
    return Version(study.id, study.revision, f"{study.revision}-{facts.digest()}")


def find(session: Session, version: Version, *, content: bool = False) -> StudyReport | None:
    """Get the report of a state of a study, as far as it is."""
    query = select(StudyReport).where(
        StudyReport.study_id == version.study_id, StudyReport.version == version.name
    )
    return session.scalar(query.options(undefer(StudyReport.content)) if content else query)


def html_of(row: StudyReport) -> str | None:
    """Give the page of a finished report."""
    return None if row.content is None else zlib.decompress(row.content).decode()


def is_left(row: StudyReport, now: datetime) -> bool:
    """Tell whether the process that made a report has vanished."""
    return row.state == ReportState.MAKING and row.lease_until <= now


def claim(
    session: Session, version: Version, *, now: datetime, again: bool = False
) -> Claim | None:
    """Take a report to be made; None where it is there, is being made, or failed just now.

    Parameters
    ----------
    session : Session
        A writing one.
    version : Version
    now : datetime
    again : bool
        A report that failed is made anew at once, not only after a pause.

    Returns
    -------
    Claim or None
    """
    # One row to wait for: two processes on PostgreSQL that claim at once come one after the other.
    session.execute(
        select(Study.id).where(Study.id == version.study_id).with_for_update(key_share=True)
    )
    row = find(session, version)
    token = secrets.token_hex(16)
    if row is None:
        row = StudyReport(study_id=version.study_id, version=version.name, attempt=0)
        row.revision = version.revision
    elif is_left(row, now):
        if row.attempt >= ATTEMPTS:
            _fail(row, f"the process that made it vanished {row.attempt} times", now)
            return None
    elif row.state == ReportState.FAILED and (again or _is_over(row, now)):
        row.attempt = 0
    else:
        return None
    row.state = ReportState.MAKING.value
    row.parts_done, row.parts, row.part, row.error = 0, 0, "", None
    row.attempt += 1
    row.lease_token, row.lease_until = token, now + LEASE
    row.started_at, row.finished_at = now, None
    session.add(row)
    session.flush()
    return Claim(row.id, token)


def advance(
    session: Session, claimed: Claim, progress: tuple[int, int, str], *, now: datetime
) -> None:
    """Note how far a report is, and renew its lease.

    Parameters
    ----------
    session : Session
    claimed : Claim
    progress : (int, int, str)
        Parts done, parts in all, the one that is made next.
    now : datetime

    Raises
    ------
    ReportLeaseLost
    """
    done, parts, part = progress
    _update(
        session,
        claimed,
        {"parts_done": done, "parts": parts, "part": part, "lease_until": now + LEASE},
    )


def finish(session: Session, claimed: Claim, page: str, *, now: datetime) -> None:
    """Keep a report that is made, and forget the oldest of the study.

    Raises
    ------
    ReportLeaseLost
    """
    content = zlib.compress(page.encode(), 6)
    done = StudyReport.parts
    state = {"state": ReportState.DONE.value, "content": content, "parts_done": done, "part": ""}
    _update(session, claimed, {**state, "finished_at": now})
    study_id = session.scalar(
        select(StudyReport.study_id).where(StudyReport.id == claimed.report_id)
    )
    newest = (
        select(StudyReport.id)
        .where(StudyReport.study_id == study_id, StudyReport.state != ReportState.MAKING.value)
        .order_by(StudyReport.finished_at.desc(), StudyReport.id.desc())
        .limit(KEPT)
    )
    session.execute(
        delete(StudyReport).where(
            StudyReport.study_id == study_id,
            (StudyReport.state != ReportState.MAKING.value) | (StudyReport.lease_until <= now),
            StudyReport.id.not_in(list(session.scalars(newest))),
        )
    )


def fail(session: Session, claimed: Claim, why: str, *, now: datetime) -> None:
    """Note why a report could not be made.

    Raises
    ------
    ReportLeaseLost
    """
    values = {"state": ReportState.FAILED.value, "error": why[:MOST_ERROR], "finished_at": now}
    _update(session, claimed, values)


def give_up(session: Session, claimed: Claim) -> None:
    """Forget a report that was begun: the study has moved on."""
    session.execute(
        delete(StudyReport).where(
            StudyReport.id == claimed.report_id, StudyReport.lease_token == claimed.token
        )
    )


def _update(session: Session, claimed: Claim, values: dict[str, object]) -> None:
    found = session.scalar(
        update(StudyReport)
        .where(
            StudyReport.id == claimed.report_id,
            StudyReport.lease_token == claimed.token,
            StudyReport.state == ReportState.MAKING.value,
        )
        .values(values)
        .returning(StudyReport.id)
        .execution_options(synchronize_session=False)
    )
    if found is None:
        raise ReportLeaseLost(
            f"the lease of report {claimed.report_id} must be held by who makes it: it no longer is"
        )


def _fail(row: StudyReport, why: str, now: datetime) -> None:
    row.state, row.error, row.finished_at = ReportState.FAILED.value, why, now


def _is_over(row: StudyReport, now: datetime) -> bool:
    return row.finished_at is None or row.finished_at + PAUSE <= now
