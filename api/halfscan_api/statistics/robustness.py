"""Robustness: whether what was shown against a margin hangs on one patient."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.statistics.comparisons import Comparison, comparisons
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import RobustnessQuery
from halfscan_api.statistics.results import Cell, Grid, Line, Table, p_text, words_of, yes
from halfscan_api.studies.protocol import EndpointKind


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """A comparison with a margin, done again without each patient.

    Attributes
    ----------
    kind : str
        ``without_a_patient``.
    endpoint, hypothesis : str
    item, label : str
        Finding, criterion or region.
    place, reader : str or None
        Sequence; reader, None for all together.
    reference_arm, test_arm : str
    n_patients : int
        Patients with a pair.
    p_value : float or None
        With all of them.
    p_lowest, p_highest : float or None
        Without one patient: whichever makes p smallest and largest.
    shown : bool or None
        With all of them, at the one-sided level.
    n_turned : int
        Patients without whom it would be the other way.
    """

    endpoint: str
    hypothesis: str
    item: str
    label: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    n_patients: int
    p_value: float | None
    p_lowest: float | None
    p_highest: float | None
    shown: bool | None
    n_turned: int
    kind: str = "without_a_patient"


def compute(session: Session, frame: Frame, options: RobustnessQuery) -> Table[RobustnessRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : RobustnessQuery

    Returns
    -------
    Table of RobustnessRow
    """
    alpha = options.alpha or frame.protocol.alpha
    rows = [
        _row(frame, comparison, alpha)
        for comparison in comparisons(
            session, frame, together=True, without={EndpointKind.SCAN_TIME}
        )
    ]
    return Table.of(
        frame,
        options,
        name="robustness",
        title="Robustness",
        rows=tuple(rows),
        grids=tuple(_grids(frame, rows)),
        notes=(
            (
                "Each comparison of findings, scores and SNR with a margin, done again without "
                f"each patient, at the one-sided level {alpha:g} and without correction "
                "for several tests. Turned: patients without whom the answer would be the other "
                "one."
            ),
            (
                "Each reader alone, and all together, stand in the table of equivalence. Sites and "
                "scanners are not compared: the study does not record them."
            ),
        ),
    )


def _row(frame: Frame, comparison: Comparison, alpha: float) -> RobustnessRow:
    """Leave out each patient in turn."""
    patients = comparison.members
    everyone = comparison.p_value(comparison.result(alpha))
    shown = None if everyone is None else everyone <= alpha
    members = np.unique(patients)
    without = [
        comparison.p_value(comparison.result(alpha, patients != patient)) for patient in members
    ]
    there = [p_value for p_value in without if p_value is not None]
    return RobustnessRow(
        endpoint=comparison.endpoint.name,
        hypothesis=comparison.endpoint.hypothesis.value,
        item=comparison.item,
        label=comparison.label,
        place=comparison.place,
        reader=comparison.reader,
        reference_arm=frame.reference,
        test_arm=comparison.test_arm,
        n_patients=members.size,
        p_value=everyone,
        p_lowest=min(there, default=None),
        p_highest=max(there, default=None),
        shown=shown,
        n_turned=sum((p_value <= alpha) != shown for p_value in there),
    )


# --- layout -------------------------------------------------------------------------------------


def _grids(frame: Frame, rows: list[RobustnessRow]) -> Iterator[Grid]:
    head = tuple(
        map(
            Cell,
            ("", "Reader", "p", "p without a patient, from", "to", "Shown", "Turned", "Patients"),
        )
    )
    for endpoint in dict.fromkeys(row.endpoint for row in rows):
        body = tuple(_line(frame, row) for row in rows if row.endpoint == endpoint)
        caption = f"Without each patient in turn: {words_of(endpoint)}"
        yield Grid(caption, (head,), body)


def _line(frame: Frame, row: RobustnessRow) -> Line:
    place = f", {frame.sequence_label(row.place)}" if row.place else ""
    return (
        Cell(f"{row.label}{place}"),
        row.reader or "all together",
        *(p_text(value) for value in (row.p_value, row.p_lowest, row.p_highest)),
        yes(row.shown),
        str(row.n_turned),
        str(row.n_patients),
    )
