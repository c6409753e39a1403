"""Table 1: what the archived headers of both arms say, sequence by sequence.

The values are those that enrolment noted with each series (`case_series.parameters`). A parameter
that is not the same in every case is shown with its most frequent value and its range.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, Table
from halfscan_api.studies.tables import CaseKind, CaseSeries, StudyCase

# Names in which enrolment notes a parameter, and how a publication prints it, in its order.
LABELS = {
    "manufacturer": "Manufacturer",
    "model": "Model",
    "field_strength_t": "Field strength [T]",
    "thickness_mm": "Thickness [mm]",
    "tr_ms": "TR [ms]",
    "te_ms": "TE [ms]",
    "ti_ms": "TI [ms]",
    "fov_mm": "FOV [mm x mm]",
    "averages": "Averages",
    "matrix": "Matrix, acquired",
    "columns": "Matrix, columns",
    "rows": "Matrix, rows",
    "acceleration_factor": "Acceleration factor",
    "bandwidth_hz_px": "Bandwidth [Hz/px]",
    "scan_time_s": "Scan time [s]",
}
NOT_RECORDED, NOT_IN_HEADERS = "not_recorded", "not_in_headers"
# Parameters that are a choice: where the headers state none, there was none.
OPTIONAL = {"acceleration_factor"}


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter in one sequence of one arm.

    Attributes
    ----------
    kind : str
        ``parameter``.
    item, label : str
        Name of the parameter, as it was noted and for people.
    place : str
        Sequence.
    arm : str
    value : object
        The most frequent value; None where nothing was noted.
    values : int
        Different values.
    low, high : float or None
        Range, of numbers.
    n, n_given : int
        Cases with a value, and cases in the study.
    reason : str or None
        ``not_recorded``: enrolment noted no header of these series; ``not_in_headers``: it did,
        and they do not state this parameter.
    """

    item: str
    label: str
    place: str
    arm: str
    value: Any
    values: int
    low: float | None
    high: float | None
    n: int
    n_given: int
    reason: str | None
    kind: str = "parameter"


def compute(session: Session, frame: Frame, options: TableQuery) -> Table[ParameterRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : TableQuery

    Returns
    -------
    Table of ParameterRow
    """
    found = _noted(session, frame)
    names = _ordered(found)
    rows = tuple(
        _row(frame, name, arm, sequence, found[arm, sequence])
        for arm in frame.protocol.arm_names
        for sequence in frame.protocol.sequence_names
        for name in names
    )
    return Table.of(
        frame,
        options,
        name="protocol",
        title="Technical parameters of the protocols",
        rows=rows,
        grids=(_grid(frame, rows),),
        notes=(
            (
                "From the headers of the archived series, as enrolment noted them. Where cases "
                "differ: the most frequent value, the range in brackets. A dash: the headers do "
                "not state it."
            ),
        ),
    )


def _noted(session: Session, frame: Frame) -> dict[tuple[str, str], dict[str, Counter[str]]]:
    """Count what was noted: (arm, sequence) -> parameter -> value as JSON -> cases."""
    rows = session.execute(
        select(CaseSeries.arm, CaseSeries.sequence, CaseSeries.parameters, CaseSeries.scan_time_s)
        .join(StudyCase, StudyCase.id == CaseSeries.case_id)
        .where(
            CaseSeries.study_id == frame.study_id,
            StudyCase.kind == CaseKind.STUDY.value,
            StudyCase.excluded_at.is_(None),
        )
        .order_by(CaseSeries.id)
    )
    found: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(
        lambda: defaultdict(Counter)
    )
    for arm, sequence, parameters, seconds in rows:
        noted = dict(parameters or {})
        if seconds is not None:
            noted["scan_time_s"] = seconds
        for name, value in noted.items():
            if value is not None:
                found[arm, sequence][name][json.dumps(value, sort_keys=True)] += 1
    return found


def _ordered(found: dict[tuple[str, str], dict[str, Counter[str]]]) -> list[str]:
    """Known parameters in the order of a publication, then the others by name."""
    there = {name for noted in found.values() for name in noted}
    known = [name for name in LABELS if name in there]
    return [*known, *sorted(there - set(known))]


def _row(
    frame: Frame, name: str, arm: str, sequence: str, noted: dict[str, Counter[str]]
) -> ParameterRow:
    values = noted.get(name, Counter())
    stated = any(noted[other] for other in noted if other != "scan_time_s")
    decoded = [(json.loads(text), count) for text, count in values.most_common()]
    numbers = [
        value
        for value, _ in decoded
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    n = sum(count for _, count in decoded)
    return ParameterRow(
        item=name,
        label=LABELS.get(name, name),
        place=sequence,
        arm=arm,
        value=decoded[0][0] if decoded else None,
        values=len(decoded),
        low=float(min(numbers)) if numbers else None,
        high=float(max(numbers)) if numbers else None,
        n=n,
        n_given=max(frame.n_cases, n),
        reason=None if decoded else NOT_IN_HEADERS if stated else NOT_RECORDED,
    )


def _grid(frame: Frame, rows: tuple[ParameterRow, ...]) -> Grid:
    arms, sequences = frame.protocol.arm_names, frame.protocol.sequence_names
    upper: Line = (
        Cell(""),
        *(Cell(frame.arm_label(arm), columns=len(sequences)) for arm in arms),
    )
    lower: Line = (
        Cell("Sequence"),
        *(Cell(frame.sequence_label(sequence)) for _ in arms for sequence in sequences),
    )
    cells = {(row.item, row.arm, row.place): _text(row) for row in rows}
    labels = {row.item: row.label for row in rows}
    body: Iterator[Line] = (
        (Cell(label), *(cells[item, arm, sequence] for arm in arms for sequence in sequences))
        for item, label in labels.items()
    )
    return Grid("Technical parameters of the protocols", (upper, lower), tuple(body))


def _text(row: ParameterRow) -> str:
    if row.value is None:
        return "None" if row.item in OPTIONAL and row.reason == NOT_IN_HEADERS else NOTHING
    text = shown(row.value)
    if row.values > 1:
        text += (
            f" [{row.low:g} to {row.high:g}]" if row.low is not None else f" [{row.values} values]"
        )
    return text if row.n == row.n_given else f"{text}\nn {row.n} of {row.n_given}"


def shown(value: Any) -> str:
    """Write a value of a header: a list as 280 x 280, no trailing zeros."""
    if isinstance(value, list):
        return " \N{MULTIPLICATION SIGN} ".join(shown(item) for item in value)
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:g}"
    return str(value)
