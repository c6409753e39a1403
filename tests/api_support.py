"""Helpers of the API's tests: the app with its clock and tokens, bodies of requests."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any

from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import make_url, text
from werkzeug.test import TestResponse

from halfscan_api.app import create_app
from halfscan_api.audit import COMMAND_LINE, SYSTEM, Trail
from halfscan_api.auth import Role, create_token, token_state
from halfscan_api.database import Base, Database, utc_now
from halfscan_api.reconstructions import service
from halfscan_api.reconstructions.schemas import Outcome
from halfscan_api.settings import Settings
from halfscan_api.state import state

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "/api/v1/reconstructions"


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Api:
    """The app, its clock, and a token for each role."""

    app: APIFlask
    clock: Clock
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    @property
    def database(self) -> Database:
        with self.app.app_context():
            return state().database

    def send(
        self, method: str, path: str, body: object = None, *, role: str = "service", **more: Any
    ) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        if body is not None:
            more["json"] = body
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str = "", *, role: str = "service", **more: Any) -> TestResponse:
        return self.send("GET", URL + path, role=role, **more)

    def post(self, path: str = "", body: object = None, *, role: str = "service") -> TestResponse:
        return self.send("POST", URL + path, body, role=role)

    def add(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        answer = self.post("", series(number, **changes))
        assert answer.status_code == 201, answer.text
        return json_of(answer)

    def claim(self, worker: str = "w1", **more: Any) -> dict[str, Any] | None:
        answer = self.post("/claim", {"worker": worker, **more})
        assert answer.status_code in {200, 204}, answer.text
        return json_of(answer) if answer.status_code == 200 else None

    def must_claim(self, worker: str = "w1", **more: Any) -> dict[str, Any]:
        row = self.claim(worker, **more)
        assert row is not None
        return row

    def show(self, row_id: int) -> dict[str, Any]:
        answer = self.get(f"/{row_id}")
        assert answer.status_code == 200, answer.text
        return json_of(answer)


def json_of(answer: TestResponse) -> dict[str, Any]:
    body = answer.get_json()
    assert isinstance(body, dict)
    return body


def series(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Body of a POST; each number is another series."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    body = {
        "orthanc_series_id": "-".join(digest[i : i + 8] for i in range(0, 40, 8)),
        "series_instance_uid": f"1.2.826.0.1.{number}.2",
        "study_instance_uid": f"1.2.826.0.1.{number}",
        "source_digest": digest,
        "n_instances": 12,
    }
    return {**body, **changes}


def done(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Body of an outcome that ends well."""
    body = {
        "lease_token": row["lease_token"],
        "status": "done",
        "reason_code": "accelerated",
        "reason": "in-plane factor 2",
        "acquisition": {"in_plane_factor": 2.0, "evidence": [{"tag": "0018,9069", "value": "2"}]},
        "derived_series_instance_uid": "2.25.4242",
        "derived_orthanc_series_id": series(999)["orthanc_series_id"],
        "derived_instances": 12,
        "model_name": "dbp",
        "model_version": "1",
        "model_sha256": "ab" * 32,
        "strength": 1.0,
        "timings_s": {"fetch": 0.5, "reconstruct": 3.25},
        "quality": {"noise_sd": [1.5, 2.5], "note": None},
        "warnings": ["two slices overlap"],
    }
    return {**body, **changes}


def skipped(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "lease_token": row["lease_token"],
        "status": "skipped",
        "reason_code": "not_accelerated",
        "reason": "no factor >= 2",
        "acquisition": {"in_plane_factor": 1.0},
        **changes,
    }


def failed(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"lease_token": row["lease_token"], "status": "failed", "error": "no disk", **changes}


# Where the worker processes of a test meet: none in the test's own process.
_meetings: list[Barrier] = []


def wait_for_others(barrier: Barrier) -> None:
    """Tell a new worker process of a test where it meets the others."""
    _meetings.append(barrier)


def drain(url: str, worker: str) -> list[int]:
    """Claim and finish until nothing is left: what a worker process of a test runs.

    The first job is held until every process has one, so that none can do all the work before the
    others are up.
    """
    database = Database(make_url(url), pool_size=1)
    ids: list[int] = []
    while True:
        with database.write() as session:
            row, _ = service.claim(session, worker=worker, lease_s=600, now=utc_now())
            if row is None:
                break
            row_id, lease_token = row.id, row.lease_token
        if not ids:
            for meeting in _meetings:
                meeting.wait(120)
        ids.append(row_id)
        outcome = Outcome.model_validate(done({"lease_token": lease_token}))
        with database.write() as session:
            service.finish(session, row_id, outcome, settings=Settings(), now=utc_now())
    database.dispose()
    return ids


def make_api(url: str, **settings: Any) -> Api:
    clock = Clock()
    api = Api(create_app(Settings(database_url=url, **settings), clock=clock), clock)
    with api.database.write() as session:
        for role in Role:
            row, secret = create_token(session, name=f"the-{role.value}", role=role, now=START)
            trail = Trail(session, SYSTEM, COMMAND_LINE, START)
            trail.record("token.create", f"token/{row.id}", new=token_state(row))
            api.tokens[role.value] = secret
    return api


def empty_postgresql(url: str) -> None:
    """Take every row out of a PostgreSQL database, and let its numbers begin again."""
    database = Database(make_url(url))
    with database.engine.begin() as connection:
        # The audit trail refuses to be emptied, as it should: no triggers in this transaction.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        names = ", ".join(table.name for table in Base.metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    database.dispose()
