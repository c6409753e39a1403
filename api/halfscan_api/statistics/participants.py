"""The flow of participants: enrolled, excluded and why, read by whom in which arm."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.audit import timestamp
from halfscan_api.readings.tables import Reading
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.results import Cell, Grid, Line, Table
from halfscan_api.studies.tables import CaseKind, CaseSeries, StudyCase


@dataclass(frozen=True, slots=True)
class StepRow:
    """A box of the flow chart.

    Attributes
    ----------
    kind : str
        ``step``.
    step : str
        ``enrolled``, ``excluded``, ``included``, ``with_every_series``, ``read`` (by one reader in
        one arm), ``read_throughout`` (by every reader in every arm).
    label : str
    reader, arm : str or None
        Of ``read``.
    n, n_given : int
        Cases, of those in the box above.
    """

    step: str
    label: str
    reader: str | None
    arm: str | None
    n: int
    n_given: int
    kind: str = "step"


@dataclass(frozen=True, slots=True)
class ExclusionRow:
    """A case that was excluded.

    Attributes
    ----------
    kind : str
        ``exclusion``.
    case : str
        Pseudonym.
    excluded_at : str
        UTC, ISO 8601.
    why : str
    """

    case: str
    excluded_at: str
    why: str
    kind: str = "exclusion"


Row = StepRow | ExclusionRow


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
    Table of StepRow and ExclusionRow
    """
    exclusions = list(_exclusions(session, frame))
    steps = list(_steps(session, frame, len(exclusions)))
    return Table.of(
        frame,
        options,
        name="participants",
        title="Flow of participants",
        rows=(*steps, *exclusions),
        grids=tuple(_grids(steps, exclusions)),
        notes=(
            (
                "Cases of the study; training cases are none of them. Read: complete readings of "
                "the first round that count."
            ),
        ),
    )


def _exclusions(session: Session, frame: Frame) -> Iterator[ExclusionRow]:
    rows = session.execute(
        select(StudyCase.pseudonym, StudyCase.excluded_at, StudyCase.exclusion_reason)
        .where(
            StudyCase.study_id == frame.study_id,
            StudyCase.kind == CaseKind.STUDY.value,
            StudyCase.excluded_at.is_not(None),
        )
        .order_by(StudyCase.id)
    )
    for case, at, why in rows:
        # The database holds the rule that both are there.
        if at is not None and why is not None:
            yield ExclusionRow(case, timestamp(at), why)


def _steps(session: Session, frame: Frame, excluded: int) -> Iterator[StepRow]:
    included, enrolled = frame.n_cases, frame.n_cases + excluded
    yield StepRow("enrolled", "Enrolled", None, None, enrolled, enrolled)
    yield StepRow("excluded", "Excluded", None, None, excluded, enrolled)
    yield StepRow("included", "Included", None, None, included, enrolled)
    protocol = frame.protocol
    every = len(protocol.arm_names) * len(protocol.sequence_names)
    complete = _cases_with(session, frame, every)
    yield StepRow(
        "with_every_series", "With every series in every arm", None, None, complete, included
    )
    read = _read(session, frame)
    for reader in frame.readers:
        for arm in protocol.arm_names:
            label = f"Read by {reader.name}: {frame.arm_label(arm)}"
            n = read.get((reader.id, arm), 0)
            yield StepRow("read", label, reader.name, arm, n, included)
    throughout = _read_throughout(session, frame, len(frame.readers) * len(protocol.arm_names))
    label = "Read by every reader in every arm"
    yield StepRow("read_throughout", label, None, None, throughout, included)


def _cases_with(session: Session, frame: Frame, n_series: int) -> int:
    cases = (
        select(CaseSeries.case_id)
        .join(StudyCase, StudyCase.id == CaseSeries.case_id)
        .where(
            CaseSeries.study_id == frame.study_id,
            StudyCase.kind == CaseKind.STUDY.value,
            StudyCase.excluded_at.is_(None),
        )
        .group_by(CaseSeries.case_id)
        .having(func.count() >= n_series)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(cases)) or 0


def _read(session: Session, frame: Frame) -> dict[tuple[int, str], int]:
    rows = session.execute(
        select(Reading.reader_id, Reading.arm, func.count())
        .where(Reading.study_id == frame.study_id, Reading.counted, Reading.repeat_round == 0)
        .group_by(Reading.reader_id, Reading.arm)
    )
    return {(reader, arm): n for reader, arm, n in rows}


def _read_throughout(session: Session, frame: Frame, n_readings: int) -> int:
    if not n_readings:
        return 0
    cases = (
        select(Reading.case_id)
        .where(Reading.study_id == frame.study_id, Reading.counted, Reading.repeat_round == 0)
        .group_by(Reading.case_id)
        .having(func.count() >= n_readings)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(cases)) or 0


def _grids(steps: list[StepRow], exclusions: list[ExclusionRow]) -> Iterator[Grid]:
    body: tuple[Line, ...] = tuple(
        (Cell(row.label), str(row.n), f"of {row.n_given}") for row in steps
    )
    yield Grid("Flow of participants", ((Cell(""), Cell("Cases"), Cell("")),), body)
    if exclusions:
        lines: tuple[Line, ...] = tuple(
            (Cell(row.case), row.excluded_at, row.why) for row in exclusions
        )
        yield Grid("Exclusions", ((Cell("Case"), Cell("Date"), Cell("Reason")),), lines)
