"""Lineage of a study in one query.

From the source series over the reconstruction (model, version, evidence) and the derived series to
the readings and the answers that came of it.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, ScalarSelect, Select, func, select
from sqlalchemy.orm import Session

from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import Reading, ReadingState, Score
from halfscan_api.reconstructions.tables import Reconstruction
from halfscan_api.studies.tables import CaseSeries, Study, StudyCase


def lineage(session: Session, study: Study) -> Sequence[Row[Any]]:
    """Follow every series of a study from where it comes from to what came of it."""
    return session.execute(lineage_query(study.id)).all()


def lineage_query(study_id: int) -> Select[Any]:
    """Give the query: one row a series."""
    made = Reconstruction
    return (
        select(
            StudyCase.pseudonym.label("case"),
            CaseSeries.arm,
            CaseSeries.sequence,
            CaseSeries.series_instance_uid,
            CaseSeries.lineage,
            made.id.label("reconstruction_id"),
            made.series_instance_uid.label("source_series_instance_uid"),
            made.model_name,
            made.model_version,
            made.model_sha256,
            made.strength,
            made.reason,
            made.acquisition,
            _readings(None).label("readings"),
            _readings(ReadingState.COMPLETE).label("complete"),
            _answers(Score).label("scores"),
            _answers(Measurement).label("measurements"),
        )
        .join(StudyCase, StudyCase.id == CaseSeries.case_id)
        .join(made, made.id == CaseSeries.reconstruction_id, isouter=True)
        .where(CaseSeries.study_id == study_id)
        .order_by(CaseSeries.id)
    )


def _readings(state: ReadingState | None) -> ScalarSelect[int]:
    query = select(func.count(Reading.id)).where(
        Reading.case_id == CaseSeries.case_id, Reading.arm == CaseSeries.arm
    )
    if state is not None:
        query = query.where(Reading.state == state.value)
    return query.correlate(CaseSeries).scalar_subquery()


def _answers(table: type[Score] | type[Measurement]) -> ScalarSelect[int]:
    return (
        select(func.count(table.id))
        .join(Reading, Reading.id == table.reading_id)
        .where(
            Reading.case_id == CaseSeries.case_id,
            table.arm == CaseSeries.arm,
            table.sequence == CaseSeries.sequence,
        )
        .correlate(CaseSeries)
        .scalar_subquery()
    )
