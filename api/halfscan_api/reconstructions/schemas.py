"""Bodies and queries of the reconstructions."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, FiniteFloat, model_validator

from halfscan_api.database import MAX_ID
from halfscan_api.reconstructions.tables import AttemptResult, Status
from halfscan_api.schemas import DicomUid, Input, JsonValue, Moment, OrthancId, Output, Sha256

MAX_PAGE = 1_000_000
MAX_PER_PAGE = 200

LeaseSeconds = Annotated[int, Field(ge=1, le=3600, description="Length of the lease [s].")]
LeaseToken = Annotated[str, Field(min_length=1, max_length=64)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Query = Annotated[list[Status], Field(description="Repeat it for several."), "repeatable"]
ReasonCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
ReasonCodes = Annotated[list[ReasonCode], Field(description="Repeat it for several."), "repeatable"]


class NewReconstruction(Input):
    """A series that lies complete in the archive."""

    orthanc_series_id: OrthancId
    orthanc_study_id: Annotated[
        OrthancId | None, Field(description="Orthanc's identifier of its study.")
    ] = None
    series_instance_uid: DicomUid
    study_instance_uid: DicomUid
    source_digest: Annotated[
        Sha256,
        Field(
            description="Names the content: sha256 over the sorted lines 'SOPInstanceUID MD5', MD5 "
            "of each instance's file as Orthanc tells it; hexadecimal."
        ),
    ]
    n_instances: Count
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher runs first.")] = 0
    delay_s: Annotated[
        int, Field(ge=0, le=86400, description="A new row is not claimed before [s].")
    ] = 0


class Departures(Input):
    """Series that are no longer in the archive."""

    orthanc_series_ids: Annotated[list[OrthancId], Field(min_length=1, max_length=1000)]


class Place(Input):
    """Where a page of a list begins."""

    after: Annotated[int, Field(ge=0, le=MAX_ID)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 500


class SourcePlace(Place):
    """Which series that were looked at to list."""

    gone: Annotated[bool, Field(description="Those too that are known to be deleted.")] = False


class Claim(Input):
    """A worker asks for work."""

    worker: Name
    lease_s: LeaseSeconds | None = None


class Renewal(Input):
    """A worker that is still at it.

    Before it stores the first object of a derived series it names the series here, so that what
    it might leave behind is known.
    """

    lease_token: LeaseToken
    derived_series_instance_uid: DicomUid | None = None


class OutcomeStatus(StrEnum):
    """What a worker can report."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class Outcome(Input):
    """What became of a claim.

    ``done`` needs the derived series and the model, ``skipped`` a reason_code and a reason,
    ``failed`` an error; ``permanent`` says that another attempt would fail the same way.
    ``replaced`` names the derived series of earlier attempts that are no longer in the archive.
    """

    lease_token: LeaseToken
    status: OutcomeStatus
    reason_code: ReasonCode | None = None
    reason: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    rule: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    acquisition: dict[str, JsonValue] | None = None
    derived_series_instance_uid: DicomUid | None = None
    derived_orthanc_series_id: OrthancId | None = None
    derived_instances: Count | None = None
    model_name: Name | None = None
    model_version: Name | None = None
    model_sha256: Sha256 | None = None
    strength: Annotated[FiniteFloat, Field(ge=0, le=10)] | None = None
    timings_s: dict[str, Seconds] | None = None
    quality: dict[str, JsonValue] | None = None
    warnings: Annotated[list[str], Field(max_length=1000)] | None = None
    error: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    source_orthanc_series_id: Annotated[
        OrthancId | None,
        Field(description="Of a copied derived series: what in its study it was made from."),
    ] = None
    permanent: bool = False
    replaced: Annotated[list[DicomUid], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _fits_its_status(self) -> Self:
        needed, refused = _RULES[self.status]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"status {self.status.value} needs {', '.join(missing)}")
        extra = [name for name in refused if getattr(self, name) not in (None, False)]
        if extra:
            raise ValueError(f"status {self.status.value} must not come with {', '.join(extra)}")
        return self


_DERIVED = ("derived_series_instance_uid", "derived_orthanc_series_id", "derived_instances")
_FAILURE = ("error", "permanent")
# status: the fields that it needs, the fields that would contradict it
_RULES: dict[OutcomeStatus, tuple[tuple[str, ...], tuple[str, ...]]] = {
    OutcomeStatus.DONE: (
        ("derived_series_instance_uid", "model_name", "model_version", "model_sha256"),
        _FAILURE,
    ),
    OutcomeStatus.SKIPPED: (("reason_code", "reason"), (*_DERIVED, *_FAILURE)),
    OutcomeStatus.FAILED: (("error",), (*_DERIVED, "replaced")),
}
# What goes from the body into the row as it is.
OUTCOME_FIELDS = tuple(
    name
    for name in Outcome.model_fields
    if name not in {"lease_token", "status", "permanent", "replaced"}
)
# What an attempt keeps of it, also after the row was made again.
DERIVED_FIELDS = (
    "derived_series_instance_uid",
    "derived_orthanc_series_id",
    "model_name",
    "model_version",
    "model_sha256",
    "strength",
)


class ReconstructionFilter(Input):
    """Which reconstructions to list."""

    status: Query = Field(default_factory=list)
    reason_code: ReasonCodes = Field(default_factory=list)
    exclude_reason_code: ReasonCodes = Field(default_factory=list)
    orthanc_series_id: OrthancId | None = None
    series_instance_uid: DicomUid | None = None
    study_instance_uid: DicomUid | None = None
    derived_series_instance_uid: Annotated[
        DicomUid | None, Field(description="Made by an attempt, or about to be, and not replaced.")
    ] = None
    created_after: Moment | None = None
    updated_after: Moment | None = None
    page: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 1
    per_page: Annotated[int, Field(ge=1, le=MAX_PER_PAGE)] = 50


class ReconstructionOut(Output):
    """A reconstruction."""

    id: Annotated[int, Field(ge=1, le=MAX_ID)]
    status: Status
    orthanc_series_id: str
    orthanc_study_id: str | None
    series_instance_uid: str
    study_instance_uid: str
    source_digest: str
    n_instances: int
    priority: int
    attempt: Annotated[int, Field(description="Attempts that were begun since the last retry.")]
    max_attempts: int
    run_after: datetime
    lease_until: datetime | None
    worker: Annotated[str | None, Field(description="Who holds the lease, or held it last.")]
    reason_code: str | None
    reason: str | None
    rule: Annotated[str | None, Field(description="Name of the rule that decided.")]
    acquisition: dict[str, Any] | None
    derived_series_instance_uid: str | None
    derived_orthanc_series_id: str | None
    derived_instances: int | None
    model_name: str | None
    model_version: str | None
    model_sha256: str | None
    strength: float | None
    timings_s: dict[str, float] | None
    quality: dict[str, Any] | None
    warnings: list[str] | None
    error: Annotated[str | None, Field(description="Of the last failed attempt, until it is done.")]
    source_orthanc_series_id: Annotated[
        str | None,
        Field(description="Of a copied derived series: what in its study it was made from."),
    ]
    replaced_by: Annotated[
        int | None, Field(description="The reconstruction whose derived series took its place.")
    ]
    replaced_at: datetime | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Superseded(Output):
    """A derived series of an earlier attempt at the same series, still in the archive perhaps."""

    id: Annotated[int, Field(description="The reconstruction that it belongs to.")]
    derived_series_instance_uid: str
    derived_orthanc_series_id: str | None
    complete: Annotated[
        bool, Field(description="False for what an attempt that was cut short left behind.")
    ]


class ClaimedReconstruction(ReconstructionOut):
    """A reconstruction, the token that its worker must show, and what it replaces."""

    lease_token: str
    look_again: Annotated[
        bool, Field(description="It, or the source of a copy, was deleted since it was looked at.")
    ]
    supersedes: list[Superseded]


class AttemptOut(Output):
    """One attempt."""

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    result: AttemptResult | None
    error: str | None
    derived_series_instance_uid: Annotated[
        str | None, Field(description="What it stored, or was about to store.")
    ]
    derived_orthanc_series_id: str | None
    model_name: str | None
    model_version: str | None
    model_sha256: str | None
    strength: float | None
    replaced_by: Annotated[
        int | None, Field(description="The reconstruction whose derived series took its place.")
    ]
    replaced_at: datetime | None


class ReconstructionDetail(ReconstructionOut):
    """A reconstruction with its attempts, oldest first."""

    attempts: list[AttemptOut]


class ReconstructionPage(Output):
    """One page of reconstructions, newest first."""

    items: list[ReconstructionOut]
    page: int
    per_page: int
    total: int
    pages: int


class DeparturesOut(Output):
    """What followed from departures."""

    reconstructions: Annotated[list[int], Field(description="Ids of the rows that changed.")]


class StandingSeries(Output):
    """A derived series that should be in the archive, and the contents it may stand beside."""

    id: Annotated[int, Field(description="The reconstruction that it belongs to.")]
    orthanc_series_id: Annotated[str, Field(description="Of the source.")]
    orthanc_study_id: str | None
    study_instance_uid: str
    source_digests: Annotated[
        list[str], Field(description="Contents of the source that reconstructions stand for.")
    ]
    n_instances: Annotated[list[int], Field(description="Their numbers of instances.")]
    derived_series_instance_uid: str
    derived_orthanc_series_id: str | None
    derived_instances: int | None
    source_missing: Annotated[
        bool, Field(description="The source is known to be gone; the derived series was kept.")
    ]


class SourceSeries(Output):
    """A series that was looked at, and the numbers of instances that rows stand for."""

    orthanc_series_id: str
    n_instances: list[int]


class SourcePage(Output):
    """A page of the series that should be in the archive as they were looked at."""

    items: list[SourceSeries]
    next_after: Annotated[
        int | None, Field(description="Where the next page begins; null at the end.")
    ]


class StandingPage(Output):
    """A page of the derived series that should be in the archive."""

    items: list[StandingSeries]
    next_after: Annotated[
        int | None, Field(description="Where the next page begins; null at the end.")
    ]


Tally = Annotated[int, Field(ge=0, le=1_000_000_000)]


class NewReconciliation(Input):
    """What a comparison of ledger and archive came to, in series.

    ``missing`` are derived series that are not there, or not whole; ``stale`` stand for another
    content of their source; ``orphaned`` have lost it; ``doubled`` are copies beside one that the
    ledger knows; ``unknown`` were written by Halfscan, and this ledger knows nothing of them.
    """

    checked: Tally
    missing: Tally
    stale: Tally
    orphaned: Tally
    doubled: Tally
    unknown: Tally
    mended: Tally


class ReconciliationOut(Output):
    """A comparison of ledger and archive."""

    id: int
    finished_at: datetime
    checked: int
    missing: int
    stale: int
    orphaned: int
    doubled: int
    unknown: int
    mended: int


class LeaseOut(Output):
    """How long a lease lasts now."""

    lease_until: datetime


class Summary(Output):
    """How many reconstructions stand where."""

    pending: int
    leased: int
    done: int
    skipped: int
    dead: int
    total: int
