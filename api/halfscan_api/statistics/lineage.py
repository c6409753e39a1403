"""Where every series comes from, and what of it counts: source, reconstruction, readings, answers.

As `studies.lineage`, but only with what counts, so that the answer changes when the revision does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import Reading, Score
from halfscan_api.reconstructions.tables import Reconstruction
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, Table
from halfscan_api.studies.tables import CaseSeries, StudyCase

_NOTED = ("model_name", "model_version", "model_sha256", "strength", "reason")


@dataclass(frozen=True, slots=True)
class LineageRow:
    """A series of a case.

    Attributes
    ----------
    kind : str
        ``series``.
    case, arm, sequence, series_instance_uid : str
    source_series_instance_uid : str or None
        What it was reconstructed from; None for an acquired one.
    model_name, model_version, model_sha256 : str or None
    strength : float or None
    why : str or None
        Why it was reconstructed.
    evidence : object
        What the headers of the source said.
    readings, scores, measurements : int
        That count.
    """

    case: str
    arm: str
    sequence: str
    series_instance_uid: str
    source_series_instance_uid: str | None
    model_name: str | None
    model_version: str | None
    model_sha256: str | None
    strength: float | None
    why: str | None
    evidence: Any
    readings: int
    scores: int
    measurements: int
    kind: str = "series"


def compute(session: Session, frame: Frame, options: TableQuery) -> Table[LineageRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : TableQuery

    Returns
    -------
    Table of LineageRow
    """
    rows = tuple(_rows(session, frame))
    return Table.of(
        frame,
        options,
        name="lineage",
        title="Lineage of every series",
        rows=rows,
        grids=(_grid(rows),),
        notes=(
            (
                "A series without a model was acquired. Readings, scores and measurements: those "
                "that count (complete, the case not excluded, no training)."
            ),
        ),
    )


def _rows(session: Session, frame: Frame) -> list[LineageRow]:
    readings = _counted(session, frame, Reading, ())
    scores = _counted(session, frame, Score, ("sequence",))
    measurements = _counted(session, frame, Measurement, ("sequence",))
    found = []
    for row in session.execute(_query(frame)):
        kept = dict(row.lineage or {})
        made = {name: getattr(row, name) for name in _NOTED}
        # After an import the reconstruction is not in this database: what was noted stands in.
        noted = {name: kept.get(name) if value is None else value for name, value in made.items()}
        key = (row.case_id, row.arm)
        found.append(
            LineageRow(
                case=row.pseudonym,
                arm=row.arm,
                sequence=row.sequence,
                series_instance_uid=row.series_instance_uid,
                source_series_instance_uid=row.source or kept.get("series_instance_uid"),
                model_name=noted["model_name"],
                model_version=noted["model_version"],
                model_sha256=noted["model_sha256"],
                strength=noted["strength"],
                why=noted["reason"],
                evidence=(row.acquisition or {}).get("evidence"),
                readings=readings.get(key, 0),
                scores=scores.get((*key, row.sequence), 0),
                measurements=measurements.get((*key, row.sequence), 0),
            )
        )
    return found


def _query(frame: Frame) -> Any:
    made = Reconstruction
    return (
        select(
            StudyCase.pseudonym,
            CaseSeries.case_id,
            CaseSeries.arm,
            CaseSeries.sequence,
            CaseSeries.series_instance_uid,
            CaseSeries.lineage,
            made.series_instance_uid.label("source"),
            *(getattr(made, name) for name in _NOTED),
            made.acquisition,
        )
        .join(StudyCase, StudyCase.id == CaseSeries.case_id)
        .join(made, made.id == CaseSeries.reconstruction_id, isouter=True)
        .where(CaseSeries.study_id == frame.study_id)
        .order_by(CaseSeries.id)
    )


def _counted(
    session: Session, frame: Frame, table: Any, more: Sequence[str]
) -> dict[tuple[Any, ...], int]:
    key = (table.case_id, table.arm, *(getattr(table, name) for name in more))
    rows = session.execute(
        select(*key, func.count())
        .where(table.study_id == frame.study_id, table.counted)
        .group_by(*key)
    )
    return {tuple(names): n for *names, n in rows}


def _grid(rows: tuple[LineageRow, ...]) -> Grid:
    titles = (
        *("Case", "Arm", "Sequence", "Series", "Source", "Model"),
        *("Readings", "Scores", "Measurements"),
    )
    body: tuple[Line, ...] = tuple(
        (
            Cell(row.case),
            row.arm,
            row.sequence,
            row.series_instance_uid,
            row.source_series_instance_uid or NOTHING,
            NOTHING if row.model_name is None else f"{row.model_name} {row.model_version}",
            str(row.readings),
            str(row.scores),
            str(row.measurements),
        )
        for row in rows
    )
    return Grid("Lineage of every series", (tuple(Cell(text) for text in titles),), body)
