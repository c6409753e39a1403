"""A reading with all its answers, as they lie in the database."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.audit import JsonObject
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import Finding, Reading, ReadingSession, Score
from halfscan_api.states import state_of
from halfscan_api.studies.tables import Reader, StudyCase

SESSION_COLUMNS = ("number", "kind", "created_at", "override_reason", "override_at")
READING_COLUMNS = (
    *("arm", "batch", "position", "repeat_round", "state", "version", "protocol_version"),
    *("opened_at", "last_seen_at", "completed_at", "active_s", "missing_reason", "counted"),
)
CHOICE_COLUMNS = ("value", "saved_at")
MEASUREMENT_COLUMNS = (
    *("transferred", "mean", "sd", "area_mm2", "n_pixels", "snr", "source", "geometry"),
    *("sop_instance_uid", "frame_number", "noise", "saved_at"),
)


@dataclass(slots=True)
class Sheet:
    """A reading, what it belongs to, and its answers by what they answer.

    Attributes
    ----------
    reading : Reading
    session : ReadingSession
    reader, case : str
        Name and pseudonym.
    scores : dict
        (sequence, criterion) -> Score.
    findings : dict
        (finding, level) -> Finding.
    measurements : dict
        (arm, sequence, region) -> Measurement; those of another arm were transferred.
    """

    reading: Reading
    session: ReadingSession
    reader: str
    case: str
    scores: dict[tuple[str, str], Score] = field(default_factory=dict)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    measurements: dict[tuple[str, str, str], Measurement] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What the audit trail calls the reading."""
        return f"reading/{self.reading.code}"

    def answer_columns(self, *, arm: str | None = None) -> dict[str, Any]:
        """Columns that a new answer repeats; `arm` is that of the images, if it is another."""
        return {
            "study_id": self.reading.study_id,
            "reader_id": self.reading.reader_id,
            "case_id": self.reading.case_id,
            "reading_id": self.reading.id,
            "arm": arm or self.reading.arm,
            "session_kind": self.session.kind,
            "session_number": self.session.number,
            "repeat_round": self.reading.repeat_round,
            "counted": self.reading.counted,
        }

    def state(self) -> JsonObject:
        """Everything that counts of the reading, as the audit trail and the export hold it."""
        return {
            "session": self.session.code,
            "reader": self.reader,
            "case": self.case,
            **state_of(self.reading, READING_COLUMNS),
            "scores": _nested((key, row, CHOICE_COLUMNS) for key, row in self.scores.items()),
            "findings": _nested((key, row, CHOICE_COLUMNS) for key, row in self.findings.items()),
            "measurements": _nested(
                (key, row, MEASUREMENT_COLUMNS) for key, row in self.measurements.items()
            ),
        }


Row = Score | Finding | Measurement
R = TypeVar("R", Score, Finding, Measurement)


def load_sheets(
    session: Session, study_id: int, reading_ids: Iterable[int] | None = None
) -> list[Sheet]:
    """Load readings of a study with their answers, by their id; all of them by default."""
    wanted = None if reading_ids is None else list(reading_ids)
    query = (
        select(Reading, ReadingSession, Reader.name, StudyCase.pseudonym)
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .join(Reader, Reader.id == Reading.reader_id)
        .join(StudyCase, StudyCase.id == Reading.case_id)
        .where(Reading.study_id == study_id)
        .order_by(Reading.id)
    )
    if wanted is not None:
        query = query.where(Reading.id.in_(wanted))
    sheets = {row[0].id: Sheet(*row) for row in session.execute(query)}
    for sheet, score in _answers(session, Score, study_id, wanted, sheets):
        sheet.scores[score.sequence, score.criterion] = score
    for sheet, finding in _answers(session, Finding, study_id, wanted, sheets):
        sheet.findings[finding.finding, finding.level] = finding
    for sheet, measured in _answers(session, Measurement, study_id, wanted, sheets):
        sheet.measurements[measured.arm, measured.sequence, measured.region] = measured
    return list(sheets.values())


def load_sheet(session: Session, reading: Reading) -> Sheet:
    """Load one reading with its answers."""
    return load_sheets(session, reading.study_id, [reading.id])[0]


def _answers(
    session: Session,
    table: type[R],
    study_id: int,
    wanted: list[int] | None,
    sheets: Mapping[int, Sheet],
) -> Iterator[tuple[Sheet, R]]:
    # By the reading alone: what the row itself says of its study is checked elsewhere.
    ids = select(Reading.id).where(Reading.study_id == study_id) if wanted is None else wanted
    for row in session.scalars(select(table).where(table.reading_id.in_(ids))):
        # A reading without its reader or case is no sheet: only an edit past the API makes one.
        sheet = sheets.get(row.reading_id)
        if sheet is not None:
            yield sheet, row


def _nested(rows: Iterable[tuple[tuple[str, ...], Row, Iterable[str]]]) -> JsonObject:
    tree: JsonObject = {}
    for key, row, columns in rows:
        branch = tree
        for name in key[:-1]:
            branch = branch.setdefault(name, {})
        branch[key[-1]] = state_of(row, columns)
    return tree
