"""What the endpoints of the statistics answer, for the OpenAPI document."""

from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from halfscan_api.schemas import Input, JsonValue, Output


class TableOut(Output):
    """A table as JSON; docs/statistics.md explains the rows of each."""

    table: str
    title: str
    study: str
    revision: int
    protocol_version: int
    options: dict[str, JsonValue]
    rows: Annotated[
        list[dict[str, JsonValue]],
        Field(description="Each with its kind; results with full precision, undefined is null."),
    ]
    methods: list[str]
    reasons: Annotated[dict[str, str], Field(description="Reason -> what it means.")]
    notes: list[str]


class TableAddress(Output):
    """A table that can be asked for."""

    name: str
    what: str
    href: str


class TableList(Output):
    """The tables of a study."""

    revision: int
    items: list[TableAddress]


class StreamQuery(Input):
    """How long a stream lives."""

    life_s: Annotated[
        FiniteFloat, Field(ge=0, le=300, description="Seconds until it ends; connect again then.")
    ] = 25.0


def table_answers(missing: str) -> Any:
    """Describe the answers of a table: three formats, or nothing new."""
    schema = TableOut.model_json_schema()
    text = {"schema": {"type": "string"}}
    return {
        200: {
            "description": "The table; ETag is the revision of the study",
            "content": {
                "application/json": {"schema": schema},
                "text/csv": text,
                "text/html": text,
            },
        },
        304: "The revision is the one that If-None-Match names",
        404: missing,
    }


# Of one event of the stream.
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}
# Any: APIFlask's annotation knows no mixture of texts and whole responses; its code does.
STREAM_ANSWERS: Any = {
    200: {
        "description": "Server-sent events: the revision now and each time it moves",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
    404: "There is no such study",
    503: "Too many streams are open",
}
