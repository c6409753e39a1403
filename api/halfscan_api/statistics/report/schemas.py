"""What the endpoints of the report take and answer."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from halfscan_api.schemas import Input, Output


class ReportHeaders(Input):
    """Header of a request for the report."""

    prefer: Annotated[
        str | None,
        Field(
            max_length=1000,
            description="RFC 7240: wait=N waits at most N seconds, respond-async not at all.",
        ),
    ] = None


class ReportProgress(Output):
    """How far the report of the present state of a study is."""

    state: Annotated[
        Literal["absent", "making", "done", "failed"],
        Field(description="absent: nobody has asked for it, or who made it has vanished."),
    ]
    revision: Annotated[int, Field(description="Of the study, that the report tells of.")]
    etag: Annotated[str, Field(description="Of the finished report.")]
    parts_done: int
    parts: Annotated[int, Field(description="Tables, figures and text; 0 before it has begun.")]
    part: Annotated[str, Field(description="What is made now; empty otherwise.")]
    started_at: datetime | None
    finished_at: datetime | None
    error: Annotated[str | None, Field(description="Why it failed.")]
    href: Annotated[str, Field(description="Address of the report.")]
