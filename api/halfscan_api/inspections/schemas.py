"""Bodies and queries of the inspections."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from halfscan_api.database import MAX_ID
from halfscan_api.inspections.tables import InspectionStatus
from halfscan_api.schemas import DicomUid, Input, JsonValue, OrthancId, Output

LONGEST_WAIT_S = 20

Name = Annotated[str, Field(min_length=1, max_length=64)]
LeaseToken = Annotated[str, Field(min_length=1, max_length=64)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class NewInspection(Input):
    """A series in the archive: exactly one of its two names."""

    orthanc_series_id: OrthancId | None = None
    series_instance_uid: DicomUid | None = None

    @model_validator(mode="after")
    def _names_one_series(self) -> Self:
        if (self.orthanc_series_id is None) == (self.series_instance_uid is None):
            raise ValueError("exactly one of orthanc_series_id and series_instance_uid is needed")
        return self


class Wait(Input):
    """How long to wait for the answer."""

    wait_s: Annotated[
        float,
        Field(ge=0, le=LONGEST_WAIT_S, description="Longest wait for the answer [s]."),
    ] = 0


class InspectionClaim(Input):
    """A worker asks for a question."""

    worker: Name
    lease_s: Annotated[int, Field(ge=1, le=3600, description="Length of the lease [s].")] = 60


class InspectionOutcome(Input):
    """What a worker found: a result, or why there is none."""

    lease_token: LeaseToken
    status: Literal["done", "failed"]
    result: dict[str, JsonValue] | None = None
    error_code: Code | None = None
    error: Annotated[str, Field(min_length=1, max_length=2000)] | None = None

    @model_validator(mode="after")
    def _fits_its_status(self) -> Self:
        failure = (self.error_code, self.error)
        if self.status == "done" and (self.result is None or any(failure)):
            raise ValueError("status done needs a result, without error_code and error")
        if self.status == "failed" and (self.result is not None or not all(failure)):
            raise ValueError("status failed needs error_code and error, without a result")
        return self


class InspectionOut(Output):
    """An inspection, and its answer once there is one."""

    id: Annotated[int, Field(ge=1, le=MAX_ID)]
    status: InspectionStatus
    orthanc_series_id: str | None
    series_instance_uid: str | None
    worker: Annotated[str | None, Field(description="Who answers it, or has answered.")]
    result: Annotated[
        dict[str, Any] | None,
        Field(description="What `halfscan inspect --json` says of the series."),
    ]
    error_code: Annotated[
        str | None,
        Field(
            description="Why there is no result: series_not_found, ambiguous_series, no_worker, "
            "worker_vanished, archive_unavailable, or what is wrong with the series."
        ),
    ]
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class ClaimedInspection(InspectionOut):
    """An inspection, and the token that its worker must show."""

    lease_token: str
