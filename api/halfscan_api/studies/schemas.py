"""Bodies and queries of the studies."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from halfscan_api.schemas import DicomUid, Input, JsonValue, Moment, OrthancId, Output, Reason
from halfscan_api.studies.protocol import Key, Protocol, ReaderName, templates
from halfscan_api.studies.tables import CaseKind, NoiseRole

MAX_PER_PAGE = 1000

StudyName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,30}$",
        description="A letter, then up to 30 letters, digits, dashes, underscores.",
    ),
]
Pseudonym = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Stands for the patient, whose identity stays in the archive: letters, digits, "
        "dots, dashes, underscores.",
    ),
]
Days = Annotated[int | None, Field(ge=1, le=36500, description="Days that the token counts.")]
Years = Annotated[FiniteFloat | None, Field(ge=0, le=80)]


class NewStudy(Input):
    """A study: a whole protocol, or the name of a template, whose title and seed may differ."""

    name: StudyName
    template: Annotated[
        Literal["tang2024"] | None, Field(description="Protocol of a published study.")
    ] = None
    protocol: Protocol | None = None
    title: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    seed: Annotated[int | None, Field(ge=0, le=2**53 - 1)] = None

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        if (self.template is None) == (self.protocol is None):
            raise ValueError(f"give a protocol or a template ({', '.join(templates())}), and one")
        return self


class NewProtocol(Input):
    """A new version of the protocol."""

    protocol: Protocol
    reason: Annotated[Reason | None, Field(description="Needed once readings exist.")] = None


class SeriesIn(Input):
    """A series of a case."""

    series_instance_uid: DicomUid
    study_instance_uid: DicomUid
    orthanc_series_id: OrthancId | None = None
    scan_time_s: Annotated[
        FiniteFloat | None, Field(gt=0, le=86400, description="Scan time [s].")
    ] = None
    parameters: Annotated[
        dict[str, JsonValue] | None,
        Field(max_length=200, description="What the headers say: name -> value."),
    ] = None


class NoiseSeriesIn(Input):
    """A series that tells the noise of a series of a case."""

    series_instance_uid: DicomUid
    study_instance_uid: DicomUid
    orthanc_series_id: OrthancId | None = None


class Withdrawal(Input):
    """A series is taken back."""

    reason: Reason


class PlacedSeries(SeriesIn):
    """A series of a case, with its arm and sequence."""

    arm: Key
    sequence: Key


class NewCase(Input):
    """A case, with the series that are known already."""

    pseudonym: Pseudonym
    kind: CaseKind = CaseKind.STUDY
    series: Annotated[tuple[PlacedSeries, ...], Field(max_length=128)] = ()


class Exclusion(Input):
    """A case is taken out of the study."""

    reason: Reason
    at: Annotated[Moment | None, Field(description="When it was decided; now by default.")] = None


class Readmission(Input):
    """A case is taken back."""

    reason: Reason


class NewReader(Input):
    """A reader, who gets a token."""

    name: ReaderName
    experience_years: Years = None
    days: Days = None


class NewToken(Input):
    """A reader gets another token; the old one no longer counts."""

    reason: Reason
    days: Days = None


class ReaderRevocation(Input):
    """The token of a reader no longer counts, and there is no other."""

    reason: Reason


class AuditQuery(Input):
    """Which events to list."""

    after: Annotated[int, Field(ge=0, le=2**31 - 1, description="Number of the last one seen.")] = 0
    per_page: Annotated[int, Field(ge=1, le=MAX_PER_PAGE)] = 100
    subject: Annotated[str | None, Field(max_length=200)] = None
    action: Annotated[str | None, Field(max_length=64)] = None


class VerifyQuery(Input):
    """What the chain must hold."""

    known_hash: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="A hash that was noted earlier, outside this database.",
        ),
    ] = None


class ExportQuery(Input):
    """In which form."""

    format: Annotated[
        Literal["json", "csv"], Field(description="csv: a zip file with a data dictionary.")
    ] = "json"


class Head(Input):
    """Where the chain of events ends."""

    events: Annotated[int, Field(ge=0)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StudyDocument(Input):
    """A whole study, as the export writes it."""

    format: Literal["halfscan-study"]
    format_version: Literal[1]
    name: StudyName
    revision: Annotated[int, Field(ge=1, le=2**31 - 1)]
    head: Head
    events: list[dict[str, Any]]
    states: dict[str, dict[str, Any]]


class ReadingCounts(Output):
    """How many readings stand where, training included."""

    pending: int
    open: int
    complete: int
    withdrawn: int


class StudyOut(Output):
    """A study."""

    id: int
    name: str
    title: str
    protocol_version: int
    revision: Annotated[int, Field(description="Moves when what statistics see has changed.")]
    created_at: datetime


class StudyDetail(StudyOut):
    """A study, and where it stands."""

    locked: Annotated[bool, Field(description="Readings exist: the protocol may only grow.")]
    cases: int
    excluded: int
    readers: int
    readings: ReadingCounts


class StudyList(Output):
    """All studies, oldest first."""

    items: list[StudyOut]


class ProtocolOut(Output):
    """A version of the protocol."""

    version: int
    reason: str | None
    created_at: datetime
    protocol: dict[str, Any]


class ProtocolHistory(Output):
    """Every version, oldest first."""

    items: list[ProtocolOut]


class SeriesOfCase(Output):
    """A series of a case."""

    arm: str
    sequence: str
    series_instance_uid: str
    study_instance_uid: str
    orthanc_series_id: str | None
    scan_time_s: float | None
    parameters: dict[str, Any] | None
    reconstruction_id: int | None
    lineage: Annotated[
        dict[str, Any] | None, Field(description="The reconstruction that made it, if one did.")
    ]
    added_at: datetime


class NoiseSeriesOfCase(Output):
    """A series that tells the noise of a series of a case; no reader is shown it."""

    arm: str
    sequence: str
    role: NoiseRole
    series_instance_uid: str
    study_instance_uid: str
    orthanc_series_id: str | None
    lineage: Annotated[
        dict[str, Any] | None, Field(description="The reconstruction that made it, if one did.")
    ]
    added_at: datetime


class CaseOut(Output):
    """A case."""

    pseudonym: str
    kind: CaseKind
    enrolled_at: datetime
    excluded_at: datetime | None
    exclusion_reason: str | None
    missing: Annotated[list[str], Field(description="Series that it lacks, as arm/sequence.")]
    series: list[SeriesOfCase]
    noise_series: list[NoiseSeriesOfCase]


class CaseList(Output):
    """The cases of a study, in the order of enrolment."""

    items: list[CaseOut]


class ReaderOut(Output):
    """A reader."""

    name: str
    experience_years: float | None
    token_id: int | None
    created_at: datetime


class ReaderWithToken(ReaderOut):
    """A reader, and the token, shown this once."""

    token: str


class ReaderList(Output):
    """The readers of a study."""

    items: list[ReaderOut]


class MadeAllocation(Output):
    """What a reader got at once."""

    reader: str
    batch: int
    study_cases: int
    training_cases: int
    repeat_cases: int


class LeftOutCase(Output):
    """A case that cannot be allocated yet."""

    case: str
    missing: list[str]


class AllocationOut(Output):
    """What an allocation did."""

    made: list[MadeAllocation]
    left_out: list[LeftOutCase]


class AllocatedReading(Output):
    """Who reads what, in which arm and place: this unblinds."""

    reader: str
    session: int
    position: int
    case: str
    arm: str
    repeat_round: int
    batch: int
    code: str
    state: str


class AllocationList(Output):
    """The whole allocation."""

    seed: int
    items: list[AllocatedReading]


class EventOut(Output):
    """An event of the audit trail; old and new are JSON merge patches (RFC 7396)."""

    sequence_number: int
    at: datetime
    token_id: int | None
    actor: str
    role: str
    reader: str | None
    action: str
    subject: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    reason: str | None
    revision: Annotated[
        int | None, Field(description="Of the study after the event; none for the server's own.")
    ] = None
    previous_hash: str
    hash: str


class EventPage(Output):
    """Events in their order, after the one that was asked for."""

    items: list[EventOut]
    events: Annotated[int, Field(description="Events of the chain.")]
    head_hash: str


class FaultOut(Output):
    """Something that does not hold."""

    sequence_number: int | None
    subject: Annotated[str | None, Field(description="What it is about, down to the row.")]
    table: str | None
    column: Annotated[
        str | None, Field(description="Of several, separated by commas, one is wrong.")
    ]
    what: str


class Verification(Output):
    """Whether the chain holds, and the tables are what it says."""

    holds: bool
    events: int
    head_hash: str
    faults: Annotated[list[FaultOut], Field(description="The first thousand.")]


class LineageRow(Output):
    """A series of a case: where it comes from, and what came of it."""

    case: str
    arm: str
    sequence: str
    series_instance_uid: str
    source_series_instance_uid: str | None
    reconstruction_id: int | None
    model_name: str | None
    model_version: str | None
    model_sha256: str | None
    strength: float | None
    reason: str | None
    evidence: list[Any] | None
    readings: int
    complete: int
    scores: int
    measurements: int


class LineageList(Output):
    """The lineage of every series of a study."""

    items: list[LineageRow]


class Imported(Output):
    """What an import made."""

    study: StudyOut
    cases: int
    readers: int
    readings: int
    events: int
    sha256: Annotated[str, Field(description="Of the document, in its canonical form.")]
