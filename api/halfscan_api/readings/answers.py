"""Saving answers: checked against the protocol of the reading, each one a row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.measurements.schemas import NewMeasurement
from halfscan_api.measurements.service import (
    Measured,
    RegionMeasured,
    put_measurement,
    update_snr,
)
from halfscan_api.readings.schemas import NewFinding, NewScore
from halfscan_api.readings.sheet import Sheet
from halfscan_api.readings.tables import Finding, Score
from halfscan_api.studies.protocol import Choice, Protocol, Section

Error = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of all kinds, to be saved together.

    `measurements` come from a viewer, `measured` from the server itself or from a report.
    """

    scores: Sequence[NewScore] = ()
    findings: Sequence[NewFinding] = ()
    measurements: Sequence[NewMeasurement] = ()
    measured: Sequence[RegionMeasured] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.scores, self.findings, self.measurements, self.measured)))


def save_answers(
    session: Session, sheet: Sheet, protocol: Protocol, answers: Answers, *, now: datetime
) -> None:
    """Save answers to a reading, all or none.

    Raises
    ------
    InvalidRequest
        Names every answer that the protocol does not ask for, or that is no point of its scale.
    """
    errors = [
        *_wrong_scores(protocol, answers.scores),
        *_wrong_findings(protocol, answers.findings),
        *_wrong_measurements(protocol, answers.measurements),
        *_wrong_measurements(protocol, answers.measured),
    ]
    if errors:
        raise InvalidRequest(errors)
    for score in answers.scores:
        _save_score(session, sheet, score, now)
    for finding in answers.findings:
        _save_finding(session, sheet, finding, now)
    for one in answers.measurements:
        measured = (
            Measured(one.mean, one.sd, one.area_mm2, one.n_pixels)
            if one.mean is not None and one.sd is not None
            else None
        )
        put_measurement(session, sheet, one.sequence, one.region, measured, now=now)
    for made in answers.measured:
        put_measurement(session, sheet, made.sequence, made.region, made.measured, now=now)
    if answers.measurements or answers.measured:
        update_snr(sheet, protocol)
    session.flush()


def missing_answers(sheet: Sheet, protocol: Protocol) -> list[str]:
    """Name the answers that the protocol requires and that are not there."""
    return [
        name
        for section, name, is_there in _asked(sheet, protocol)
        if section in protocol.required and not is_there
    ]


def _asked(sheet: Sheet, protocol: Protocol) -> Iterator[tuple[Section, str, bool]]:
    for sequence in protocol.sequence_names:
        for criterion in protocol.criteria_of(sequence):
            name = f"{sequence}/{criterion.name}"
            yield Section.SCORES, name, (sequence, criterion.name) in sheet.scores
        for region in protocol.regions_of(sequence):
            key = (sheet.reading.arm, sequence, region.name)
            yield Section.MEASUREMENTS, f"{sequence}/{region.name}", key in sheet.measurements
    for finding in protocol.findings:
        for level in finding.levels:
            name = f"{finding.name}/{level}"
            yield Section.FINDINGS, name, (finding.name, level) in sheet.findings


def _wrong_scores(protocol: Protocol, scores: Sequence[NewScore]) -> Iterator[Error]:
    for index, score in enumerate(scores):
        where = f"scores.{index}"
        asked = {one.name: one for one in protocol.criteria_of(score.sequence)}
        if score.sequence not in protocol.sequence_names:
            yield _unknown(f"{where}.sequence", score.sequence, protocol.sequence_names)
        elif score.criterion not in asked:
            yield _unknown(f"{where}.criterion", score.criterion, asked)
        elif score.value is not None:
            yield from _wrong_value(where, score.value, asked[score.criterion].scale)


def _wrong_findings(protocol: Protocol, findings: Sequence[NewFinding]) -> Iterator[Error]:
    asked = {one.name: one for one in protocol.findings}
    for index, finding in enumerate(findings):
        where = f"findings.{index}"
        if finding.finding not in asked:
            yield _unknown(f"{where}.finding", finding.finding, asked)
        elif finding.level not in asked[finding.finding].levels:
            yield _unknown(f"{where}.level", finding.level, asked[finding.finding].levels)
        elif finding.value is not None:
            yield from _wrong_value(where, finding.value, asked[finding.finding].grades)


def _wrong_measurements(
    protocol: Protocol, measurements: Sequence[NewMeasurement | RegionMeasured]
) -> Iterator[Error]:
    for index, one in enumerate(measurements):
        where = f"measurements.{index}"
        regions = [region.name for region in protocol.regions_of(one.sequence)]
        if one.sequence not in protocol.sequence_names:
            yield _unknown(f"{where}.sequence", one.sequence, protocol.sequence_names)
        elif one.region not in regions:
            yield _unknown(f"{where}.region", one.region, regions)


def _wrong_value(where: str, value: int, choices: Sequence[Choice]) -> Iterator[Error]:
    known = [choice.value for choice in choices]
    if value not in known:
        yield _unknown(f"{where}.value", value, known)


def _unknown(field: str, value: object, known: object) -> Error:
    names = ", ".join(str(name) for name in list(known))  # type: ignore[call-overload]
    detail = f"must be one of {names or '(none)'}, got {value!r}"
    return {"in": "body", "field": field, "detail": detail}


def _save_score(session: Session, sheet: Sheet, new: NewScore, now: datetime) -> None:
    key = (new.sequence, new.criterion)
    row = sheet.scores.get(key)
    if new.value is None:
        if row is not None:
            session.delete(sheet.scores.pop(key))
        return
    if row is None:
        row = Score(**sheet.answer_columns(), sequence=new.sequence, criterion=new.criterion)
        sheet.scores[key] = row
        session.add(row)
    if row.value != new.value:
        row.value, row.saved_at = new.value, now


def _save_finding(session: Session, sheet: Sheet, new: NewFinding, now: datetime) -> None:
    key = (new.finding, new.level)
    row = sheet.findings.get(key)
    if new.value is None:
        if row is not None:
            session.delete(sheet.findings.pop(key))
        return
    if row is None:
        row = Finding(**sheet.answer_columns(), finding=new.finding, level=new.level)
        sheet.findings[key] = row
        session.add(row)
    if row.value != new.value:
        row.value, row.saved_at = new.value, now
