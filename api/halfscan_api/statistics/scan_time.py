"""Scan time of each sequence and of the whole protocol, by arm."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.statistics.differing import (
    DifferenceRow,
    Draft,
    Numbers,
    adjusted_text,
    complete,
    complete_pairs,
    difference_notes,
    difference_rows,
    difference_text,
    summary_text,
    test_text,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import DifferenceQuery
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, Table, number
from halfscan_api.statistics.values import scan_times
from halfscan_api.studies.protocol import EndpointKind

TOTAL = "total"


@dataclass(frozen=True, slots=True)
class SavingRow:
    """Scan time that a test arm saves.

    Attributes
    ----------
    kind : str
        ``saving``.
    item, label : str
        Sequence, or the whole protocol.
    reference_arm, test_arm : str
    reference_s, test_s : float or None
        Mean scan time of the cases that have both [s].
    saving_percent : float or None
        100 (1 - test / reference).
    n, n_given : int
    reason : str or None
        ``too_few``: no case has both.
    """

    item: str
    label: str
    reference_arm: str
    test_arm: str
    reference_s: float | None
    test_s: float | None
    saving_percent: float | None
    n: int
    n_given: int
    reason: str | None
    kind: str = "saving"


Row = DifferenceRow | SavingRow


def compute(session: Session, frame: Frame, options: DifferenceQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : DifferenceQuery

    Returns
    -------
    Table of DifferenceRow and SavingRow
    """
    times = with_total(frame, scan_times(session, frame))
    drafts = list(_drafts(frame, times))
    differences = difference_rows(frame, drafts, options, EndpointKind.SCAN_TIME)
    rows: tuple[Row, ...] = (*differences, *(_saving(frame, draft) for draft in drafts))
    return Table.of(
        frame,
        options,
        name="scan-time",
        title="Scan time by protocol",
        rows=rows,
        grids=(_grid(frame, rows),),
        notes=(
            (
                "Scan time in seconds, as it was noted with each series at enrolment (from its "
                "headers, or as it was sent). Total: cases with every sequence."
            ),
            (
                "Where every case was scanned with the same times the difference is constant: it "
                "is known, and there is nothing to test."
            ),
            *difference_notes(frame, options),
        ),
    )


def with_total(
    frame: Frame, times: Mapping[tuple[str, str], Numbers]
) -> dict[tuple[str, str], Numbers]:
    """Add the total of each arm, of the cases that have every sequence."""
    names = frame.protocol.sequence_names
    totals = {
        (arm, TOTAL): np.sum([times[arm, name] for name in names], axis=0)
        for arm in frame.protocol.arm_names
    }
    return {**times, **totals}


def _drafts(frame: Frame, times: Mapping[tuple[str, str], Numbers]) -> Iterator[Draft]:
    places = [*frame.protocol.sequence_names, TOTAL]
    for arm in frame.test_arms:
        for place in places:
            reference, test = times[frame.reference, place], times[arm, place]
            total = place == TOTAL
            yield Draft(
                item=place,
                label="Total" if total else frame.sequence_label(place),
                level=TOTAL if total else "sequence",
                place=None if total else place,
                reader=None,
                test_arm=arm,
                singles=(complete(reference), complete(test)),
                pairs=complete_pairs(reference, test),
                set_by_protocol=True,
            )


def _saving(frame: Frame, draft: Draft) -> SavingRow:
    reference, test = draft.pairs
    there = len(reference) > 0
    before = float(reference.mean()) if there else None
    after = float(test.mean()) if there else None
    saving = 100 * (1 - after / before) if before and after is not None else None
    return SavingRow(
        item=draft.item,
        label=draft.label,
        reference_arm=frame.reference,
        test_arm=draft.test_arm,
        reference_s=before,
        test_s=after,
        saving_percent=saving,
        n=len(reference),
        n_given=max(frame.n_cases, len(reference)),
        reason=None if there else "too_few",
    )


def _grid(frame: Frame, rows: tuple[Row, ...]) -> Grid:
    savings = {
        (row.item, row.test_arm): row.saving_percent for row in rows if isinstance(row, SavingRow)
    }
    arms = frame.protocol.arm_names
    titles = ("", *(f"{frame.arm_label(arm)} [s]" for arm in arms[:2]))
    head: Line = tuple(
        Cell(text) for text in (*titles, "Difference [s]", "Saving [%]", "p", "p adjusted")
    )
    body: list[Line] = []
    for row in rows:
        if isinstance(row, DifferenceRow):
            saving = savings[row.item, row.test_arm]
            body.append(
                (
                    Cell(row.label),
                    summary_text(row.reference, 1),
                    summary_text(row.test, 1),
                    difference_text(row.difference, 1),
                    NOTHING if saving is None else number(saving, 1),
                    test_text(row.difference),
                    adjusted_text(row.adjusted),
                )
            )
    return Grid("Scan time by protocol", (head,), tuple(body))
