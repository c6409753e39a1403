"""What goes over the wire: strict input, plain output, and the field types that subjects share.

APIFlask hands pydantic models to an adapter; the one here replaces its own, because that one reads
only the first of a repeated query parameter, takes any media type, lets NaN through and does not
say which value it refused.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, get_args

from apiflask.schema_adapters import registry
from apiflask.schema_adapters.pydantic import PydanticAdapter
from flask import Request
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic import JsonValue as JsonValue  # noqa: PLC0414 - subjects import it from here

from halfscan_api.errors import InvalidRequest, MalformedBody, UnsupportedBody

SHOWN_CHARACTERS = 80
_ENUM = re.compile(r"<\w+\.\w+: ('[^']*')>")

DicomUid = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+(\.[0-9]+)*$",
        max_length=64,
        description="DICOM unique identifier (PS3.5 section 9.1): digits and dots.",
    ),
]
Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$",
        description="A letter, then up to 63 letters, digits, dots, dashes, underscores.",
    ),
]
# Blanks at its ends say nothing: they are taken off before the length is asked for.
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=2000),
    Field(description="Why; stays for ever. Three characters at least, without blanks around."),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256, hexadecimal.")]
OrthancId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$",
        description="Orthanc's identifier of the series.",
    ),
]


def _sane(moment: datetime) -> datetime:
    # The ends of the calendar overflow when the zone is taken off.
    if not 1900 <= moment.year <= 9000:
        raise ValueError("the year must lie between 1900 and 9000")
    return moment.astimezone(UTC)


Moment = Annotated[
    AwareDatetime,
    AfterValidator(_sane),
    Field(description="ISO 8601 with its zone; write UTC as Z."),
]


class Input(BaseModel):
    """Base of what a client sends: unknown fields are refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """Base of what a client gets; made from the attributes of a row or a result."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class StrictAdapter(PydanticAdapter):
    """Reads a JSON body or a query into a pydantic model."""

    def validate_input(self, request: Request, location: str, **kwargs: Any) -> BaseModel:
        """Check the input.

        Raises
        ------
        UnsupportedBody, MalformedBody, InvalidRequest
            The body is no JSON, no object, or breaks a rule of the model.
        """
        del kwargs
        values: Mapping[str, Any]
        if location == "json":
            where, values = "body", read_json_object(request)
        elif location == "query":
            where, values = "query", self._query(request)
        elif location == "headers":
            where, values = "header", self._headers(request)
        else:
            raise ValueError(f"location must be json, query or headers, got {location!r}")
        try:
            return self.model_class.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(_explain(error, where, self.model_class)) from None

    def _headers(self, request: Request) -> dict[str, str]:
        """Give the headers that the model names: the field if_match is the header If-Match."""
        named = {name: request.headers.get(_header(name)) for name in self.model_class.model_fields}
        return {name: value for name, value in named.items() if value is not None}

    def _query(self, request: Request) -> dict[str, Any]:
        """Give a list for each field that is one, and refuse the repetition of any other."""
        values: dict[str, Any] = {}
        for name, given in request.args.lists():
            field = self.model_class.model_fields.get(name)
            if field is not None and field.metadata and "repeatable" in field.metadata:
                values[name] = given
            elif len(given) > 1:
                detail = f"may be given once, got {len(given)} values"
                raise InvalidRequest([{"in": "query", "field": name, "detail": detail}])
            else:
                values[name] = given[0]
            if any("\0" in value for value in given):
                detail = "must not hold the character U+0000"
                raise InvalidRequest([{"in": "query", "field": name, "detail": detail}])
        return values


registry.register("pydantic", StrictAdapter)


def read_json_object(request: Request) -> dict[str, Any]:
    """Read the body of a request as one JSON object (RFC 8259, so no NaN and no Infinity).

    Raises
    ------
    UnsupportedBody
        The media type is not JSON.
    MalformedBody
        The body is no JSON object, or holds what no database stores: the character U+0000, half
        a surrogate pair, a number beyond the range of double precision.
    """
    if not request.is_json:
        got = request.mimetype or "none"
        raise UnsupportedBody(f"Content-Type must be application/json, got {got}")
    body = request.get_data()
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
        _check_storable(value)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedBody(f"the body must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBody(f"the body must be a JSON object, got {_shown(value)}")
    return value


def _header(field: str) -> str:
    return field.replace("_", "-").title()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_storable(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("the character U+0000 cannot be stored")
        value.encode()  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number is beyond the range of double precision")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_storable(key)
            _check_storable(item)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item)


def _explain(
    error: ValidationError, where: str, model: type[BaseModel]
) -> Sequence[Mapping[str, str]]:
    errors = []
    for entry in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in entry["loc"]) or "(whole)"
        # Of a choice of an enumeration, pydantic shows how Python writes it.
        detail = _ENUM.sub(r"\1", entry["msg"].removeprefix("Value error, "))
        if entry["type"] == "extra_forbidden":
            inner = _model_at(model, entry["loc"][:-1])
            known = "" if inner is None else f"; known are {', '.join(inner.model_fields)}"
            detail = f"unknown name{known}"
        elif entry["loc"] and entry["type"] != "missing":
            detail = f"{detail}, got {_shown(entry['input'])}"
        errors.append({"in": where, "field": field, "detail": detail})
    return errors


def _model_at(model: type[BaseModel], path: Iterable[int | str]) -> type[BaseModel] | None:
    """Find the model of a part of a body; None where a part can be of several."""
    found: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        field = found.model_fields.get(part) if found is not None else None
        inner = set(_models_in(field.annotation)) if field is not None else set()
        found = inner.pop() if len(inner) == 1 else None
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models_in(one)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
