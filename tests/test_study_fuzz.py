"""schemathesis against the real server over HTTP, with a study in it and every role.

`test_api_schemathesis` asks the app itself; here gunicorn answers, requests that break the document
must be refused, and bodies that are nearly right reach what lies behind the validation. What the
checks are able to find is shown on an API that is wrong on purpose.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import schemathesis
from flask import Flask, Response, request
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api_study import SCALE, case_series, small_protocol, uid
from api_support import series
from moving_clock_server import moving_clock_server
from study_databases import new_database, new_token
from study_player import API, Coordinator, Json, Line, Lines, ReaderPlayer, Simulation, begin

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
NO_ARCHIVE = "urn:halfscan:problem:archive-not-configured"
ROLES = ("service", "coordinator", "statistician", "admin", "reader", "nobody")
# Requests of one operation: where the role may, and where it is turned away.
ALLOWED, REFUSED = 8, 2
STUDY = f"{API}/studies/{{study_id}}"
NOISE = f"{STUDY}/cases/{{pseudonym}}/noise-series/{{arm}}/{{sequence}}/{{role}}"
READING = f"{API}/readings/{{code}}"


@dataclass
class Subject:
    """The server that is asked, what is known to be there, and bodies that it takes.

    Attributes
    ----------
    url : str
    tokens : dict
        By role; nobody has none.
    known : dict
        Values of path parameters behind which there is something.
    forced : dict
        Values that keep the tokens of this test alive.
    bodies : dict
        (method, path) -> bodies that are right, or were.
    coordinator : Coordinator
    asked : Counter
        Answers by status.
    """

    url: str
    tokens: dict[str, str]
    known: dict[str, list[Any]]
    forced: dict[str, list[Any]]
    bodies: dict[tuple[str, str], list[Json]]
    coordinator: Coordinator
    asked: Counter[int] = field(default_factory=Counter)

    def headers(self, role: str) -> dict[str, str]:
        token = self.tokens.get(role)
        return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("fuzz")
    url = new_database("sqlite", folder, None, "fuzz")
    tokens = {role: new_token(url, role) for role in ROLES if role not in {"reader", "nobody"}}
    with moving_clock_server(folder, url) as server, Lines(server.url) as lines:
        coordinator = begin(
            lines.line(tokens["coordinator"]),
            "fuzzed",
            cases=3,
            training=1,
            protocol=small_protocol(washout_days=0),
        )
        names = ("r1", "r2", "spare")
        secrets = {name: coordinator.add_reader(name) for name in names}
        coordinator.run("POST", "/allocation")
        tokens["reader"] = secrets["r1"]
        _read(coordinator, lines, secrets)
        lines.line(tokens["service"]).must("POST", f"{API}/reconstructions", series())
        yield _subject(server.url, tokens, coordinator)


def _read(coordinator: Coordinator, lines: Lines, secrets: Mapping[str, str]) -> None:
    """Leave something in every state: complete, open, waiting."""
    simulation = Simulation(1, coordinator.images())
    for name, sessions in (("r1", (0, 1)), ("r2", (0,))):
        player = ReaderPlayer(name, lines.line(secrets[name]), simulation)
        for number in sessions:
            player.read_session(number)
    open_one = ReaderPlayer("r1", lines.line(secrets["r1"]), simulation)
    open_one.next(open_one.sessions()[2]["code"])


def _subject(url: str, tokens: dict[str, str], coordinator: Coordinator) -> Subject:
    readings = coordinator.allocation()
    codes = [one["code"] for one in readings if one["reader"] == "r1" and one["state"] != "pending"]
    others = [one["code"] for one in readings if one["reader"] == "r2"][:2]
    sessions = [one["code"] for one in coordinator.sessions("r1")]
    spare = coordinator.run("GET", "/readers")["items"][2]["token_id"]
    known: dict[str, list[Any]] = {
        "study_id": [1],
        "reconstruction_id": [1],
        "inspection_id": [1],
        "pseudonym": ["P01", "P02", "T01"],
        "arm": ["standard", "accelerated"],
        "sequence": ["sag_t1", "tra_t2"],
        "role": ["repeat", "noise_map"],
        "code": [*codes, *others, *sessions],
    }
    forced: dict[str, list[Any]] = {
        "token_id": [spare, 10**6, 2**70],
        "name": ["spare", "none", "r9"],
    }
    return Subject(url, tokens, known, forced, _bodies(coordinator), coordinator)


def _bodies(coordinator: Coordinator) -> dict[tuple[str, str], list[Json]]:
    protocol = small_protocol()
    score = {"sequence": "sag_t1", "criterion": "noise", "value": 3}
    finding = {"finding": "disc_bulge", "level": "L4/L5", "value": 1}
    measured = {"sequence": "sag_t1", "region": "psoas", "mean": 100.5, "sd": 3, "area_mm2": 25.0}
    circle = {"kind": "circle", "coordinates": "image", "points": [[9, 9], [9, 12]]}
    drawn = {"sequence": "sag_t1", "region": "psoas", "geometry": circle}
    case = {"pseudonym": "P99", "series": case_series("fuzzed", "P99", protocol)}
    one_series = {"series_instance_uid": uid("new"), "study_instance_uid": uid("fuzzed", "P01")}
    amendment = {"reason": "mistyped", "scores": [score], "measurements": [measured]}
    reason = [{"reason": "an attempt"}]
    study = {"name": "another", "protocol": protocol}
    return {
        ("POST", f"{API}/studies"): [study, {"name": "templated", "template": "tang2024"}],
        ("POST", f"{API}/studies/import"): [coordinator.export()],
        ("PUT", f"{STUDY}/protocol"): [
            {"protocol": {**protocol, "title": "Longer"}, "reason": "a typo"},
            {"protocol": small_protocol(criteria=[{"name": "x", "label": "X", "scale": SCALE}])},
        ],
        ("POST", f"{STUDY}/cases"): [case],
        ("PUT", f"{STUDY}/cases/{{pseudonym}}/series/{{arm}}/{{sequence}}"): [one_series],
        ("PUT", NOISE): [{**one_series, "series_instance_uid": uid("noise")}],
        ("POST", f"{NOISE}/withdraw"): reason,
        ("POST", f"{STUDY}/cases/{{pseudonym}}/exclude"): reason,
        ("POST", f"{STUDY}/cases/{{pseudonym}}/readmit"): reason,
        ("POST", f"{STUDY}/readers"): [{"name": "r7", "experience_years": 5}],
        ("POST", f"{STUDY}/readers/{{name}}/token"): reason,
        ("POST", f"{API}/sessions/{{code}}/override"): reason,
        ("PUT", f"{READING}/scores"): [{"scores": [score]}],
        ("PUT", f"{READING}/findings"): [{"findings": [finding]}],
        ("PUT", f"{READING}/measurements"): [{"measurements": [measured]}],
        ("POST", f"{READING}/measurements"): [
            {"measurements": [{**drawn, "sop_instance_uid": "2.25.1"}]}
        ],
        ("POST", f"{READING}/amend"): [amendment],
        ("POST", f"{READING}/complete"): [{"missing_reason": "the images are cut"}],
        ("POST", f"{API}/reconstructions"): [series(2)],
        ("POST", f"{API}/tokens"): [{"name": "another", "role": "statistician", "days": 3}],
    }


# --- requests -----------------------------------------------------------------------------------


def operations(subject: Subject) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{subject.url}/openapi.json")
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    # A stream that goes on for half a minute has its own test.
    return [one for one in found if not one.path.endswith("/events")]


def may(operation: Any, role: str) -> bool:
    """Whether the document lets a role through, or everybody."""
    needed = operation.definition.raw.get("security")
    return needed is None or role in {
        name for one in needed for names in one.values() for name in names
    }


@st.composite
def nearly(draw: st.DrawFn, right: Json) -> Any:
    """A body that is right but for one place."""
    body = copy.deepcopy(right)
    node: Any = body
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return body
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and draw(st.integers(0, 3)):
            node = node[key]
            continue
        _spoil(draw, node, key)
        return body


def _spoil(draw: st.DrawFn, node: Any, key: Any) -> None:
    how = draw(st.sampled_from(["drop", "repeat", "replace", "add", "keep"]))
    odd = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=40),
        st.sampled_from(["\0", "\ud7ff", "x" * 5000, 2**63, -1, 1e308, [], {}, [[]], "P01", 0]),
    )
    if how == "drop":
        del node[key]
    elif how == "repeat" and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif how == "add" and isinstance(node, dict):
        node[draw(st.text(max_size=10))] = draw(odd)
    elif how == "replace":
        node[key] = draw(odd)


def ask(
    operation: Any,
    subject: Subject,
    role: str,
    examples: int,
    mode: GenerationMode = GenerationMode.POSITIVE,
    bodies: list[Json] | None = None,
) -> None:
    """Send requests of one operation and check every answer."""
    checks = [*CHECKS]
    # Where the test itself puts in the path what is right, nothing wrong may be left to refuse.
    if mode is GenerationMode.NEGATIVE and not _is_forced(operation, subject):
        checks.append(negative_data_rejection)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def send(case: Any, data: st.DataObject) -> None:
        if mode is GenerationMode.POSITIVE:
            _lead_somewhere(case, subject, data)
        else:
            _force(case, subject, data)
        if bodies:
            case.body = data.draw(nearly(data.draw(st.sampled_from(bodies))))
        answer = case.call(headers=subject.headers(role))
        subject.asked[answer.status_code] += 1
        if answer.status_code == 414:
            # A line of more than 4094 characters never reaches the app: no operation documents it.
            assert answer.headers["Content-Type"] == ["application/problem+json"]
            return
        # The one 5xx that is right: this server has no archive, and says so.
        missing = answer.status_code == 503 and NO_ARCHIVE in answer.text
        case.validate_response(
            answer,
            checks=[one for one in checks if not (missing and one is not_a_server_error)],
            headers=subject.headers(role),
        )

    send()


def _is_forced(operation: Any, subject: Subject) -> bool:
    return any(f"{{{name}}}" in operation.path for name in subject.forced)


def _lead_somewhere(case: Any, subject: Subject, data: st.DataObject) -> None:
    for name in case.path_parameters or {}:
        if name in subject.known and data.draw(st.integers(0, 3)):
            case.path_parameters[name] = data.draw(st.sampled_from(subject.known[name]))
    if "If-Match" in (case.headers or {}) and data.draw(st.integers(0, 3)):
        case.headers["If-Match"] = "*"
    _force(case, subject, data)


def _force(case: Any, subject: Subject, data: st.DataObject) -> None:
    for name in case.path_parameters or {}:
        if name in subject.forced:
            case.path_parameters[name] = data.draw(st.sampled_from(subject.forced[name]))
    wait_s = (case.query or {}).get("wait_s")
    if isinstance(wait_s, int | float) and wait_s > 0:
        case.query["wait_s"] = min(wait_s, 0.1)


# --- the API ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_every_operation_answers_as_documented(subject: Subject, role: str) -> None:
    for operation in operations(subject):
        if not may(operation, role):
            ask(operation, subject, role, REFUSED)
            continue
        ask(operation, subject, role, ALLOWED)
        # What takes nothing can be sent nothing wrong.
        with suppress(Unsatisfiable):
            ask(operation, subject, role, ALLOWED // 2, GenerationMode.NEGATIVE)
        bodies = subject.bodies.get((operation.method.upper(), operation.path))
        if bodies:
            # An admin may what others may: they have asked it already.
            examples = ALLOWED if role == "admin" else 4 * ALLOWED
            ask(operation, subject, role, examples, bodies=bodies)


def test_the_requests_came_far(subject: Subject) -> None:
    """Counted over all roles: they were not all turned away at the door."""
    verified = subject.coordinator.verify()
    assert verified["holds"], verified["faults"]
    assert subject.asked[200] + subject.asked[201] > 100, subject.asked
    assert {204, 401, 403, 404, 409, 422} <= subject.asked.keys(), subject.asked


# --- an API that is wrong on purpose ------------------------------------------------------------


class Point(BaseModel):
    """What the wrong API says that it takes and gives."""

    model_config = ConfigDict(extra="forbid", strict=True)

    value: Annotated[int, Field(ge=0, le=9)]


POINT = {"content": {"application/json": {"schema": Point.model_json_schema()}}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "wrong", "version": "1"},
    "paths": {
        "/points": {
            "post": {
                "requestBody": {**POINT, "required": True},
                "responses": {
                    "200": {**POINT, "description": "The point"},
                    "422": {"description": "No point"},
                },
            }
        }
    },
}
JSON, HTML = "application/json", "text/html"
# What it does with a right and with a wrong body: status, content type, body.
Reply = tuple[int, str, str]
RIGHT: Reply = (200, JSON, '{"value": 3}')
REFUSES: Reply = (422, JSON, "{}")
WRONG: list[tuple[Reply, Reply, str]] = [
    ((500, JSON, "{}"), REFUSES, "Server error"),
    (RIGHT, (503, JSON, "{}"), "Server error"),
    ((200, JSON, '{"value": "high"}'), REFUSES, "Response violates schema"),
    ((200, JSON, "{}"), REFUSES, "Response violates schema"),
    ((418, JSON, "{}"), REFUSES, "Undocumented status code"),
    ((200, HTML, "<p>3</p>"), REFUSES, "Undocumented Content-Type"),
    (RIGHT, RIGHT, "Schema-violating request accepted"),
]


def _ask_an_api_that(right: Reply, wrong: Reply) -> None:
    app = Flask("wrong")

    @app.get("/openapi.json")
    def document() -> Json:
        return DOCUMENT

    @app.post("/points")
    def points() -> Response:
        try:
            Point.model_validate_json(request.get_data())
        except ValidationError:
            status, kind, body = wrong
        else:
            status, kind, body = right
        return Response(body, status=status, content_type=kind)

    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    nothing = Subject("", {}, {}, {}, {}, Coordinator(Line("", ""), ""))
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        ask(schema["/points"]["POST"], nothing, "nobody", ALLOWED, mode)


@pytest.mark.parametrize(("right", "wrong", "found"), WRONG)
def test_a_wrong_api_is_found_out(right: Reply, wrong: Reply, found: str) -> None:
    with pytest.raises(FailureGroup) as caught:
        _ask_an_api_that(right, wrong)
    assert found in {one.title for one in caught.value.exceptions}


def test_a_right_api_is_not() -> None:
    _ask_an_api_that(RIGHT, REFUSES)
