"""Bodies of sessions and readings: what a reader sends and gets."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from halfscan_api.measurements.schemas import MeasurementOut, NewMeasurement
from halfscan_api.readings.sessions import SessionState
from halfscan_api.readings.tables import ReadingState, SessionKind
from halfscan_api.schemas import Input, Output, Reason
from halfscan_api.studies.protocol import AreaRange, Choice, Key, LevelName, Section

# In one request.
MAX_ANSWERS = 2048
# Strict: neither a text nor true is a score.
Value = Annotated[
    int | None, Field(ge=0, le=100, strict=True, description="null takes the answer back.")
]


class NewScore(Input):
    """A point of the scale of a criterion."""

    sequence: Key
    criterion: Key
    value: Value


class NewFinding(Input):
    """The grade of a finding at a level; 0 is absent."""

    finding: Key
    level: LevelName
    value: Value


class Scores(Input):
    """Scores to save; those that are not named stay as they are."""

    scores: Annotated[list[NewScore], Field(min_length=1, max_length=MAX_ANSWERS)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _refuse_repeats("scores", [(one.sequence, one.criterion) for one in self.scores])
        return self


class Findings(Input):
    """Findings to save; those that are not named stay as they are."""

    findings: Annotated[list[NewFinding], Field(min_length=1, max_length=MAX_ANSWERS)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _refuse_repeats("findings", [(one.finding, one.level) for one in self.findings])
        return self


class Measurements(Input):
    """Measurements to save; those that are not named stay as they are."""

    measurements: Annotated[list[NewMeasurement], Field(min_length=1, max_length=MAX_ANSWERS)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _refuse_repeats("measurements", [(one.sequence, one.region) for one in self.measurements])
        return self


class Completion(Input):
    """The reader is done."""

    missing_reason: Annotated[
        Reason | None, Field(description="Why answers are missing; needed where some are.")
    ] = None


class Amendment(Input):
    """A change after completion; what is not named stays as it is."""

    reason: Reason
    scores: Annotated[tuple[NewScore, ...], Field(max_length=MAX_ANSWERS)] = ()
    findings: Annotated[tuple[NewFinding, ...], Field(max_length=MAX_ANSWERS)] = ()
    measurements: Annotated[tuple[NewMeasurement, ...], Field(max_length=MAX_ANSWERS)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _refuse_repeats("scores", [(one.sequence, one.criterion) for one in self.scores])
        _refuse_repeats("findings", [(one.finding, one.level) for one in self.findings])
        _refuse_repeats("measurements", [(one.sequence, one.region) for one in self.measurements])
        if not (self.scores or self.findings or self.measurements):
            raise ValueError("an amendment must change something: scores, findings, measurements")
        return self


class Override(Input):
    """A coordinator lets a session begin before its time."""

    reason: Reason


class SessionOut(Output):
    """A session, as its reader sees it; whether it repeats earlier readings is not told."""

    code: str
    training: bool
    state: SessionState
    total: Annotated[int, Field(description="Readings of the session.")]
    complete: int
    opens_at: datetime | None
    cause: Annotated[str | None, Field(description="What a waiting session waits for.")]


class SessionList(Output):
    """The sessions of a reader, in the order in which they are read."""

    items: list[SessionOut]


class SeriesOut(Output):
    """A series under its blinded identifier."""

    number: int
    sequence: str
    label: str
    series_instance_uid: str


class Images(Output):
    """Where the images are, while the reading is open."""

    dicom_web: Annotated[str, Field(description="Root of a DICOMweb service, same server.")]
    study_instance_uid: str
    series: list[SeriesOut]


class CriterionOut(Output):
    """A question about one sequence."""

    sequence: str
    criterion: str
    label: str
    scale: list[Choice]


class FindingQuestion(Output):
    """A finding, and where it is looked for."""

    finding: str
    label: str
    levels: list[str]
    grades: list[Choice]


class RegionOut(Output):
    """A region that is measured on one sequence."""

    sequence: str
    region: str
    label: str
    noise: Annotated[bool, Field(description="It is the background, whose SD is the noise.")]
    area_mm2: AreaRange | None


class Questions(Output):
    """All that is asked."""

    criteria: list[CriterionOut]
    findings: list[FindingQuestion]
    regions: list[RegionOut]
    required: list[Section]


class ScoreOut(Output):
    """An answer."""

    sequence: str
    criterion: str
    value: int


class FindingOut(Output):
    """An answer."""

    finding: str
    level: str
    value: int


class AnswersOut(Output):
    """All answers so far, in the order of the questions."""

    scores: list[ScoreOut]
    findings: list[FindingOut]
    measurements: list[MeasurementOut]


class ReadingOut(Output):
    """A reading, as its reader sees it."""

    code: str
    session: Annotated[str, Field(description="Code of the session.")]
    training: bool
    state: ReadingState
    images: Images
    questions: Questions
    answers: AnswersOut
    missing: Annotated[int, Field(description="Answers that are required and not there.")]


class SavedOut(Output):
    """What a change left behind; the ETag is the new version."""

    code: str
    state: ReadingState
    missing: Annotated[int, Field(description="Answers that are required and not there.")]


class SessionDetail(Output):
    """A session, as the coordinator sees it."""

    code: str
    reader: str
    number: Annotated[int, Field(description="0 is training; then the readings, then repeats.")]
    kind: SessionKind
    state: SessionState
    total: int
    complete: int
    opens_at: datetime | None
    cause: str | None
    override_reason: str | None
    override_at: datetime | None


class SessionDetailList(Output):
    """The sessions of all readers of a study."""

    items: list[SessionDetail]


def _refuse_repeats(what: str, keys: Sequence[tuple[str, str]]) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(f"{what} must name each answer once, got twice: {' '.join(twice[0])}")
