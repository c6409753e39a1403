"""How the readings went: time taken, answers left out, amendments, exclusions and their return."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent, timestamp
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import Finding, Reading, Score
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.results import Cell, Grid, Line, Table, number, share
from halfscan_api.studies.tables import StudyCase
from halfscan_stats import Summary, summarize

_SECTIONS = ("scores", "findings", "measurements")
_ACTIONS = {
    "case.exclude": "excluded",
    "case.readmit": "taken back into the study",
    "reading.amend": "amended",
}


@dataclass(frozen=True, slots=True)
class ReadingTimeRow:
    """How long a reader took for a reading of an arm.

    Attributes
    ----------
    kind : str
        ``reading_time``.
    reader, arm : str
    minutes : Summary
        Active time of the counted readings of the first round; pauses are left out.
    """

    reader: str
    arm: str
    minutes: Summary
    kind: str = "reading_time"


@dataclass(frozen=True, slots=True)
class MissingRow:
    """Answers that the counted readings of the first round lack.

    Attributes
    ----------
    kind : str
        ``missing``.
    reader, arm : str
    section : str
        ``scores``, ``findings`` or ``measurements``.
    n_missing, n_given : int
        Answers that are missing, of those that the newest protocol asks these readings for.
    """

    reader: str
    arm: str
    section: str
    n_missing: int
    n_given: int
    kind: str = "missing"


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """An event that changed what counts: an exclusion, its end, or an amended reading.

    Attributes
    ----------
    kind : str
        ``change``.
    at : str
        UTC.
    action : str
        As the audit trail names it.
    subject : str
        Pseudonym of the case, and the reader of an amended reading.
    reason : str or None
    """

    at: str
    action: str
    subject: str
    reason: str | None
    kind: str = "change"


Row = ReadingTimeRow | MissingRow | ChangeRow


def compute(session: Session, frame: Frame, options: TableQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : TableQuery

    Returns
    -------
    Table of ReadingTimeRow, MissingRow and ChangeRow
    """
    times = list(_times(session, frame))
    missing = list(_missing(session, frame))
    changes = list(_changes(session, frame))
    return Table.of(
        frame,
        options,
        name="conduct",
        title="Conduct of the readings",
        rows=(*times, *missing, *changes),
        grids=tuple(_grids(frame, times, missing, changes)),
        notes=(
            (
                "Readings of the first round that count. Time: from opening to completion without "
                "the gaps that the protocol calls pauses."
            ),
            (
                "Missing: of the answers that the newest version of the protocol asks for; each "
                "reading that was completed without them has its reason in the audit trail."
            ),
            "Every exclusion, every case that was taken back, and every amended reading, oldest "
            "first; the audit trail holds the old and the new values."
            if changes
            else "No case was excluded, and no complete reading amended.",
        ),
    )


def _counted(frame: Frame) -> tuple[ColumnElement[bool], ...]:
    return Reading.study_id == frame.study_id, Reading.counted.is_(True), Reading.repeat_round == 0


def _times(session: Session, frame: Frame) -> Iterator[ReadingTimeRow]:
    rows = session.execute(
        select(Reading.reader_id, Reading.arm, Reading.active_s)
        .where(*_counted(frame))
        # The same data, the same sums to the last bit.
        .order_by(Reading.case_id)
    )
    found: dict[tuple[int, str], list[float]] = {}
    for reader_id, arm, seconds in rows:
        found.setdefault((reader_id, arm), []).append(seconds / 60)
    for reader in frame.readers:
        for arm in frame.protocol.arm_names:
            minutes = np.asarray(found.get((reader.id, arm), []), dtype=np.float64)
            yield ReadingTimeRow(reader.name, arm, summarize(minutes, show="median_iqr"))


def _asked(frame: Frame) -> dict[str, int]:
    """How many answers of each section a reading is asked for."""
    protocol = frame.protocol
    sequences = protocol.sequence_names
    return {
        "scores": sum(len(protocol.criteria_of(name)) for name in sequences),
        "findings": sum(len(finding.levels) for finding in protocol.findings),
        "measurements": sum(len(protocol.regions_of(name)) for name in sequences),
    }


def _missing(session: Session, frame: Frame) -> Iterator[MissingRow]:
    key = Reading.reader_id, Reading.arm
    readings = {
        (reader, arm): n
        for reader, arm, n in session.execute(
            select(*key, func.count()).where(*_counted(frame)).group_by(*key)
        )
    }
    tables: dict[str, type[Score | Finding | Measurement]] = {
        "scores": Score,
        "findings": Finding,
        "measurements": Measurement,
    }
    asked = _asked(frame)
    for section in _SECTIONS:
        table = tables[section]
        there = select(*key, func.count()).join(table, table.reading_id == Reading.id)
        if table is Measurement:  # what was measured on another arm is no answer of the reading
            there = there.where(~Measurement.transferred)
        answers = {
            (reader, arm): n
            for reader, arm, n in session.execute(there.where(*_counted(frame)).group_by(*key))
        }
        for reader in frame.readers:
            for arm in frame.protocol.arm_names:
                given = readings.get((reader.id, arm), 0) * asked[section]
                # A reading of an older version may have been asked for less.
                missing = max(0, given - answers.get((reader.id, arm), 0))
                yield MissingRow(reader.name, arm, section, missing, given)


def _changes(session: Session, frame: Frame) -> Iterator[ChangeRow]:
    events = session.execute(
        select(AuditEvent.at, AuditEvent.action, AuditEvent.subject, AuditEvent.reason)
        .where(AuditEvent.chain == frame.name, AuditEvent.action.in_(_ACTIONS))
        .order_by(AuditEvent.sequence_number)
    ).all()
    codes = [subject.partition("/")[2] for _, action, subject, _ in events if "reading" in action]
    names = {reader.id: reader.name for reader in frame.readers}
    cases = {
        code: f"{case}, reader {names.get(reader, reader)}"
        for code, case, reader in session.execute(
            select(Reading.code, StudyCase.pseudonym, Reading.reader_id)
            .join(StudyCase, StudyCase.id == Reading.case_id)
            .where(Reading.study_id == frame.study_id, Reading.code.in_(codes))
        )
    }
    for at, action, subject, reason in events:
        name = subject.partition("/")[2]
        yield ChangeRow(timestamp(at), action, cases.get(name, name), reason)


# --- layout -------------------------------------------------------------------------------------


def _grids(
    frame: Frame,
    times: list[ReadingTimeRow],
    missing: list[MissingRow],
    changes: list[ChangeRow],
) -> Iterator[Grid]:
    head = tuple(map(Cell, ("Reader", "Protocol", "Minutes, median (quartiles)", "Range", "n")))
    body: tuple[Line, ...] = tuple(
        (
            Cell(row.reader),
            frame.arm_label(row.arm),
            row.minutes.text(1),
            f"{number(row.minutes.minimum, 1)} to {number(row.minutes.maximum, 1)}",
            str(row.minutes.n),
        )
        for row in times
    )
    if body:
        yield Grid("Reading times", (head,), body)
    counts: dict[tuple[str, str], list[str]] = {}
    for row in missing:
        text = f"{share(row.n_missing, row.n_given)} of {row.n_given}" if row.n_given else "none"
        counts.setdefault((row.reader, row.arm), []).append(text)
    if counts:
        titles = ("Reader", "Protocol", *(name.capitalize() for name in _SECTIONS))
        lines: tuple[Line, ...] = tuple(
            (Cell(reader), frame.arm_label(arm), *texts) for (reader, arm), texts in counts.items()
        )
        yield Grid("Missing answers, number (percent)", (tuple(map(Cell, titles)),), lines)
    if changes:
        events: tuple[Line, ...] = tuple(
            (
                Cell(row.at[:16].replace("T", " ")),
                row.subject,
                _ACTIONS[row.action],
                row.reason or "",
            )
            for row in changes
        )
        titles = ("Date (UTC)", "Case", "What happened", "Reason")
        yield Grid("Exclusions and amendments", (tuple(map(Cell, titles)),), events)
