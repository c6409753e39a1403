"""How a reading looks to its reader: nothing here may depend on the arm but the images themselves.

Every list follows the protocol, never the database, so that no order tells anything.
"""

from sqlalchemy.orm import Session

from halfscan_api.measurements.schemas import MeasurementOut
from halfscan_api.readings.answers import missing_answers
from halfscan_api.readings.blinding import blinded_series, blinded_study_uid, images_address
from halfscan_api.readings.schemas import (
    AnswersOut,
    CriterionOut,
    FindingOut,
    FindingQuestion,
    Images,
    Questions,
    ReadingOut,
    RegionOut,
    SavedOut,
    ScoreOut,
    SeriesOut,
    SessionDetail,
    SessionOut,
)
from halfscan_api.readings.service import Desk
from halfscan_api.readings.sessions import Standing
from halfscan_api.readings.sheet import Sheet
from halfscan_api.readings.tables import ReadingState, SessionKind
from halfscan_api.studies.protocol import Protocol, RegionRole


def reading_out(session: Session, desk: Desk) -> ReadingOut:
    """Show a reading to its reader."""
    reading, protocol = desk.sheet.reading, desk.protocol
    series = blinded_series(session, desk.study, reading, protocol)
    return ReadingOut(
        code=reading.code,
        session=desk.sheet.session.code,
        training=desk.sheet.session.kind == SessionKind.TRAINING,
        state=ReadingState(reading.state),
        images=Images(
            dicom_web=images_address(reading),
            study_instance_uid=blinded_study_uid(desk.study, reading),
            series=[SeriesOut.model_validate(one) for one in series],
        ),
        questions=questions_out(protocol),
        answers=answers_out(desk.sheet, protocol),
        missing=len(missing_answers(desk.sheet, protocol)),
    )


def saved_out(desk: Desk) -> SavedOut:
    """Say what a change left behind."""
    reading = desk.sheet.reading
    return SavedOut(
        code=reading.code,
        state=ReadingState(reading.state),
        missing=len(missing_answers(desk.sheet, desk.protocol)),
    )


def session_out(standing: Standing) -> SessionOut:
    """Show a session to its reader."""
    return SessionOut(
        code=standing.session.code,
        training=standing.session.kind == SessionKind.TRAINING,
        state=standing.state,
        total=standing.total,
        complete=standing.complete,
        opens_at=standing.opens_at,
        cause=standing.cause,
    )


def session_detail(standing: Standing, reader: str) -> SessionDetail:
    """Show a session to the coordinator."""
    row = standing.session
    return SessionDetail(
        code=row.code,
        reader=reader,
        number=row.number,
        kind=SessionKind(row.kind),
        state=standing.state,
        total=standing.total,
        complete=standing.complete,
        opens_at=standing.opens_at,
        cause=standing.cause,
        override_reason=row.override_reason,
        override_at=row.override_at,
    )


def questions_out(protocol: Protocol) -> Questions:
    """Lay out all that is asked."""
    return Questions(
        criteria=[
            CriterionOut(
                sequence=sequence,
                criterion=one.name,
                label=one.label,
                scale=list(one.scale),
            )
            for sequence in protocol.sequence_names
            for one in protocol.criteria_of(sequence)
        ],
        findings=[
            FindingQuestion(
                finding=one.name,
                label=one.label,
                levels=list(one.levels),
                grades=list(one.grades),
            )
            for one in protocol.findings
        ],
        regions=[
            RegionOut(
                sequence=sequence,
                region=one.name,
                label=one.label,
                noise=one.role is RegionRole.NOISE,
                area_mm2=one.area_mm2,
            )
            for sequence in protocol.sequence_names
            for one in protocol.regions_of(sequence)
        ],
        required=list(protocol.required),
    )


def answers_out(sheet: Sheet, protocol: Protocol) -> AnswersOut:
    """Lay out the answers so far, in the order of the questions."""
    scores = [
        sheet.scores.get((sequence, one.name))
        for sequence in protocol.sequence_names
        for one in protocol.criteria_of(sequence)
    ]
    findings = [
        sheet.findings.get((one.name, level)) for one in protocol.findings for level in one.levels
    ]
    # Of the reading's own images: what was transferred to another arm is not the reader's.
    measurements = [
        sheet.measurements.get((sheet.reading.arm, sequence, one.name))
        for sequence in protocol.sequence_names
        for one in protocol.regions_of(sequence)
    ]
    return AnswersOut(
        scores=[ScoreOut.model_validate(row) for row in scores if row is not None],
        findings=[FindingOut.model_validate(row) for row in findings if row is not None],
        measurements=[
            MeasurementOut.model_validate(row) for row in measurements if row is not None
        ],
    )
