"""Bodies of the enrolment from the archive."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from halfscan_api.schemas import DicomUid, Input, Output
from halfscan_api.studies.tables import CaseKind


class Enrolment(Input):
    """Where to look, and whether to write."""

    dry_run: Annotated[bool, Field(description="true shows what would be enrolled, and does not.")]
    study_instance_uids: Annotated[
        list[DicomUid] | None,
        Field(
            min_length=1,
            max_length=1000,
            description="Studies of the archive; by default those with reconstructed series.",
        ),
    ] = None
    kind: CaseKind = CaseKind.STUDY


class EnrolmentSetting(Input):
    """Whether a reconstruction that finishes joins its case by itself."""

    automatic: bool


class EnrolmentSettingOut(Output):
    """Whether a reconstruction that finishes joins its case by itself."""

    automatic: bool
    changed_at: datetime | None


class EnrolledPair(Output):
    """The two arms of a sequence."""

    sequence: str
    arm: Annotated[str, Field(description="The test arm that the derived series is enrolled in.")]
    standard_series_instance_uid: str
    derived_series_instance_uid: str
    standard_scan_time_s: float | None
    derived_scan_time_s: float | None
    visible_differences: Annotated[
        list[str],
        Field(description="What readers can see besides the pixels: geometry stays true."),
    ]


class EnrolledCase(Output):
    """A case that was made or completed."""

    pseudonym: str
    is_new: bool
    pairs: list[EnrolledPair]


class NotEnrolled(Output):
    """A series that was left out, and why."""

    series_instance_uid: str
    study_instance_uid: str
    reason: str


class EnrolmentOut(Output):
    """What was enrolled, or would be."""

    dry_run: bool
    cases: list[EnrolledCase]
    unchanged: Annotated[int, Field(description="Pairs that were enrolled before.")]
    left_out: list[NotEnrolled]
    not_told: Annotated[
        list[str],
        Field(description="Sequences of the protocol whose name tells no plane and weighting."),
    ]
    arms_not_told: Annotated[
        list[str],
        Field(
            description="Test arms that no series was told to belong to: of several arms, one is "
            "named after the network that makes its series; others are enrolled by hand."
        ),
    ]
