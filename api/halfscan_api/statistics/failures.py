"""Failure analysis: which findings were seen with one protocol alone, where, and by whom."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from halfscan_api.readings.tables import Finding
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.results import Cell, Grid, Line, Table, used
from halfscan_api.studies.tables import CaseSeries, StudyCase

MOST_NAMED = 12  # places in one cell of the page; the JSON and CSV hold all


@dataclass(frozen=True, slots=True)
class DisagreementRow:
    """A finding that a reader saw at a level with one arm alone.

    Attributes
    ----------
    kind : str
        ``disagreement``.
    item, label : str
        Finding.
    reader, case, level : str
        `case` is the pseudonym.
    reference_arm, test_arm : str
    reference, test : int
        Grades; 0 is absent.
    lost : bool
        Whether it was seen with the reference arm alone.
    """

    item: str
    label: str
    reader: str
    case: str
    level: str
    reference_arm: str
    test_arm: str
    reference: int
    test: int
    lost: bool
    kind: str = "disagreement"


@dataclass(frozen=True, slots=True)
class WithoutReconstructionRow:
    """Series of a test arm that no model is on record for.

    Attributes
    ----------
    kind : str
        ``without_reconstruction``.
    arm, sequence : str
    n, n_given : int
        Such series, of all series of this arm and sequence.
    """

    arm: str
    sequence: str
    n: int
    n_given: int
    kind: str = "without_reconstruction"


Row = DisagreementRow | WithoutReconstructionRow


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
    Table of DisagreementRow and WithoutReconstructionRow
    """
    disagreements = list(_disagreements(session, frame))
    without = list(_without(session, frame))
    return Table.of(
        frame,
        options,
        name="failures",
        title="Failure analysis",
        rows=(*disagreements, *without),
        grids=tuple(_grids(frame, disagreements, without)),
        notes=(
            (
                "Lost: seen by a reader with the reference protocol alone; gained: with the test "
                "protocol alone. Without a reference standard neither is right or wrong; a place "
                "that several readers lose is worth a look at its images."
            ),
            (
                f"At most {MOST_NAMED} places are named in a cell, several readers' first; the "
                "table as CSV has all."
            ),
        ),
    )


def _disagreements(session: Session, frame: Frame) -> Iterator[DisagreementRow]:
    labels = {finding.name: finding.label for finding in frame.protocol.findings}
    names = {reader.id: reader.name for reader in frame.readers}
    first, second = aliased(Finding), aliased(Finding)
    for arm in frame.test_arms:
        rows = session.execute(
            select(
                first.finding,
                first.reader_id,
                StudyCase.pseudonym,
                first.level,
                first.value,
                second.value,
            )
            .join(
                second,
                (second.case_id == first.case_id)
                & (second.reader_id == first.reader_id)
                & (second.finding == first.finding)
                & (second.level == first.level),
            )
            .join(StudyCase, StudyCase.id == first.case_id)
            .where(
                first.study_id == frame.study_id,
                second.study_id == frame.study_id,
                *(first.arm == frame.reference, second.arm == arm),
                *(first.counted, second.counted),
                *(first.repeat_round == 0, second.repeat_round == 0),
                (first.value > 0) != (second.value > 0),
            )
            .order_by(first.finding, StudyCase.pseudonym, first.level, first.reader_id)
        )
        for item, reader, case, level, reference, test in rows:
            if item in labels and reader in names:
                yield DisagreementRow(
                    item=item,
                    label=labels[item],
                    reader=names[reader],
                    case=case,
                    level=level,
                    reference_arm=frame.reference,
                    test_arm=arm,
                    reference=reference,
                    test=test,
                    lost=reference > 0,
                )


def _without(session: Session, frame: Frame) -> Iterator[WithoutReconstructionRow]:
    found: dict[tuple[str, str], list[bool]] = {}
    rows = session.execute(
        select(CaseSeries.arm, CaseSeries.sequence, CaseSeries.reconstruction_id).where(
            CaseSeries.study_id == frame.study_id, CaseSeries.arm.in_(frame.test_arms)
        )
    )
    for arm, sequence, reconstruction in rows:
        found.setdefault((arm, sequence), []).append(reconstruction is None)
    for (arm, sequence), nothing in sorted(found.items()):
        yield WithoutReconstructionRow(arm, sequence, sum(nothing), len(nothing))


# --- layout -------------------------------------------------------------------------------------


def _grids(
    frame: Frame, rows: list[DisagreementRow], without: list[WithoutReconstructionRow]
) -> Iterator[Grid]:
    for arm in frame.test_arms:
        some = [row for row in rows if row.test_arm == arm]
        body: list[Line] = []
        for finding in frame.protocol.findings:
            here = [row for row in some if row.item == finding.name]
            lost, gained = ([row for row in here if row.lost == side] for side in (True, False))
            cells = (str(len(lost)), _places(lost), str(len(gained)), _places(gained))
            body.append((Cell(finding.label), *cells))
        if body:
            names = frame.arm_label(frame.reference), frame.arm_label(arm)
            head = ("", "Lost", "Where", "Gained", "Where")
            caption = (
                f"Findings seen with {names[0]} alone (lost) and with {names[1]} alone (gained)"
            )
            yield Grid(caption, (tuple(map(Cell, head)),), tuple(body))
    if any(row.n for row in without):
        lines: tuple[Line, ...] = tuple(
            (
                Cell(frame.arm_label(row.arm)),
                frame.sequence_label(row.sequence),
                used(row.n, row.n_given),
            )
            for row in without
        )
        titles = ("Protocol", "Sequence", "Series")
        caption = "Series of the test protocol without a recorded reconstruction"
        yield Grid(caption, (tuple(map(Cell, titles)),), lines)


def _places(rows: list[DisagreementRow]) -> str:
    """Write where: places that several readers name come first."""
    readers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        readers.setdefault((row.case, row.level), []).append(row.reader)
    ordered = sorted(readers.items(), key=lambda one: (-len(one[1]), one[0]))
    texts = [f"{case} {level} ({', '.join(who)})" for (case, level), who in ordered]
    if len(texts) > MOST_NAMED:
        texts = [*texts[:MOST_NAMED], f"and {len(texts) - MOST_NAMED} more"]
    return "; ".join(texts)
