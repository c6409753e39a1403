"""How a study looks to those who run it."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import Reading, ReadingSession
from halfscan_api.studies.allocation import Allocated
from halfscan_api.studies.cases import list_cases, missing_series
from halfscan_api.studies.lineage import lineage
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.readers import list_readers
from halfscan_api.studies.schemas import (
    AllocatedReading,
    AllocationList,
    AllocationOut,
    CaseOut,
    LeftOutCase,
    LineageList,
    LineageRow,
    MadeAllocation,
    NoiseSeriesOfCase,
    ProtocolOut,
    ReadingCounts,
    SeriesOfCase,
    StudyDetail,
    StudyOut,
)
from halfscan_api.studies.service import is_locked, readings_by_state
from halfscan_api.studies.tables import CaseKind, ProtocolVersion, Reader, Study, StudyCase

# What the enrolment noted of the reconstruction that made a series.
_NOTED = (
    *("reconstruction_id", "model_name", "model_version", "model_sha256", "strength", "reason"),
    "evidence",
)


def study_detail(session: Session, study: Study) -> StudyDetail:
    """Show a study, and where it stands."""
    cases = [case for case in list_cases(session, study) if case.kind == CaseKind.STUDY]
    return StudyDetail(
        **StudyOut.model_validate(study).model_dump(),
        locked=is_locked(session, study),
        cases=len(cases),
        excluded=sum(case.excluded_at is not None for case in cases),
        readers=len(list_readers(session, study)),
        readings=ReadingCounts(
            **{state.value: count for state, count in readings_by_state(session, study).items()}
        ),
    )


def protocol_out(version: ProtocolVersion) -> ProtocolOut:
    """Show a version of the protocol."""
    return ProtocolOut(
        version=version.number,
        reason=version.reason,
        created_at=version.created_at,
        protocol=version.document,
    )


def case_out(case: StudyCase, protocol: Protocol) -> CaseOut:
    """Show a case, its series in the order of the protocol."""
    arms, sequences = protocol.arm_names, protocol.sequence_names
    places = {(arm, name): (i, j) for i, arm in enumerate(arms) for j, name in enumerate(sequences)}
    series = sorted(case.series, key=lambda one: places.get((one.arm, one.sequence), (99, 99)))
    return CaseOut(
        pseudonym=case.pseudonym,
        kind=CaseKind(case.kind),
        enrolled_at=case.enrolled_at,
        excluded_at=case.excluded_at,
        exclusion_reason=case.exclusion_reason,
        missing=missing_series(case, protocol),
        series=[SeriesOfCase.model_validate(one) for one in series],
        noise_series=[NoiseSeriesOfCase.model_validate(one) for one in case.noise_series],
    )


def allocation_out(session: Session, allocated: Allocated) -> AllocationOut:
    """Show what an allocation did."""
    return AllocationOut(
        made=[
            MadeAllocation(
                reader=session.get_one(Reader, row.reader_id).name,
                batch=row.batch,
                study_cases=len(row.study_cases),
                training_cases=len(row.training_cases),
                repeat_cases=len(row.repeat_cases),
            )
            for row in allocated.made
        ],
        left_out=[LeftOutCase.model_validate(one) for one in allocated.left_out],
    )


def allocation_list(session: Session, study: Study) -> AllocationList:
    """Show who reads what, in which arm and place."""
    rows = session.execute(
        select(Reading, Reader.name, ReadingSession.number, StudyCase.pseudonym)
        .join(Reader, Reader.id == Reading.reader_id)
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .join(StudyCase, StudyCase.id == Reading.case_id)
        .where(Reading.study_id == study.id)
        .order_by(Reading.reader_id, ReadingSession.number, Reading.position)
    )
    items = [
        AllocatedReading(
            reader=reader,
            session=number,
            position=reading.position,
            case=case,
            arm=reading.arm,
            repeat_round=reading.repeat_round,
            batch=reading.batch,
            code=reading.code,
            state=reading.state,
        )
        for reading, reader, number, case in rows
    ]
    return AllocationList(seed=study.seed, items=items)


def lineage_list(session: Session, study: Study) -> LineageList:
    """Show where every series comes from and what came of it, by case, arm and sequence.

    What the enrolment noted of a reconstruction counts, since the audit trail holds it and it
    travels with the study; the ledger's own row fills in what an older note lacks.
    """
    items = []
    for row in lineage(session, study):
        kept = row.lineage or {}
        found = {**row._asdict(), "evidence": (row.acquisition or {}).get("evidence")}
        found |= {name: kept[name] for name in _NOTED if name in kept}
        if "series_instance_uid" in kept:
            found["source_series_instance_uid"] = kept["series_instance_uid"]
        items.append(LineageRow.model_validate(found))
    return LineageList(items=sorted(items, key=lambda one: (one.case, one.arm, one.sequence)))
