"""Bad input: a problem document that names the rule and the value, and never a traceback."""

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api_support import URL, Api, done, failed, json_of, series, skipped

pytest_plugins = ["api_fixtures"]


def check_problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    body = json_of(answer)
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.text
    return body


def test_nothing_there(sqlite_api: Api) -> None:
    body = check_problem(sqlite_api.client.get("/no/such?x=1"), 404)
    assert body["detail"] == "there is nothing at /no/such"
    assert body["type"] == "about:blank"


@pytest.mark.parametrize("path", ["/-1", "/x", "/1.0", "/1/claim"])
def test_ids_are_whole_numbers(sqlite_api: Api, path: str) -> None:
    check_problem(sqlite_api.get(path), 404)


def test_the_wrong_method(sqlite_api: Api) -> None:
    answer = sqlite_api.client.delete(URL)
    body = check_problem(answer, 405)
    assert body["detail"] == f"{URL} takes GET, HEAD, OPTIONS, POST, got DELETE"
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_a_body_that_is_too_large(sqlite_api: Api) -> None:
    large = json.dumps({"worker": "x" * 1_048_576})
    answer = sqlite_api.send("POST", f"{URL}/claim", data=large, content_type="application/json")
    assert check_problem(answer, 413)["detail"] == "the body must be at most 1048576 bytes"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_no_json(sqlite_api: Api, content_type: str) -> None:
    answer = sqlite_api.send("POST", f"{URL}/claim", data="{}", content_type=content_type)
    body = check_problem(answer, 415)
    assert body["detail"].startswith("Content-Type must be application/json, got ")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"{'worker': 'w'}", "must be JSON"),
        (b"\xff\xff", "must be JSON"),
        (b"[]", "must be a JSON object, got []"),
        (b"null", "must be a JSON object, got None"),
        (b'"text"', "must be a JSON object, got 'text'"),
        (b'{"worker": NaN}', "NaN is no JSON number"),
        (b'{"worker": -Infinity}', "-Infinity is no JSON number"),
        (b'{"worker": 1e999}', "beyond the range"),
        (b'{"worker": "a\\u0000b"}', "U+0000"),
        (b'{"a\\u0000b": 1}', "U+0000"),
        (b'{"worker": "\\ud800"}', "surrogates not allowed"),
        (b'{"worker": ' + b"9" * 5000 + b"}", "must be JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
    ],
    ids=lambda value: value[:20].decode("latin1") if isinstance(value, bytes) else "",
)
def test_a_malformed_body(sqlite_api: Api, data: bytes, says: str) -> None:
    answer = sqlite_api.send("POST", f"{URL}/claim", data=data, content_type="application/json")
    assert says in check_problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orthanc_series_id", ""),
        ("orthanc_series_id", "x" * 44),
        ("orthanc_series_id", series()["orthanc_series_id"].upper()),
        ("orthanc_series_id", series()["orthanc_series_id"] + "\n"),
        ("orthanc_series_id", None),
        ("orthanc_series_id", 5),
        ("series_instance_uid", "1.2.x"),
        ("series_instance_uid", "1." + "2" * 63),
        ("series_instance_uid", "1..2"),
        ("series_instance_uid", ".1"),
        ("series_instance_uid", ""),
        ("series_instance_uid", "١.٢"),  # noqa: RUF001 - digits, but not DICOM's
        ("study_instance_uid", "1.2 "),
        ("source_digest", "0" * 63),
        ("source_digest", "G" * 64),
        ("n_instances", 0),
        ("n_instances", -1),
        ("n_instances", 1.5),
        ("n_instances", 10**30),
        ("n_instances", "many"),
        ("priority", 1001),
        ("priority", -1001),
        ("unknown", 1),
        ("id", 7),
        ("status", "done"),
    ],
)
def test_a_series_that_is_refused(sqlite_api: Api, name: str, value: object) -> None:
    body = check_problem(sqlite_api.post("", {**series(), name: value}), 422)
    assert body["type"] == "urn:halfscan:problem:invalid-request"
    [error] = body["errors"]
    assert (error["in"], error["field"]) == ("body", name)
    assert "known are" in error["detail"] or f"got {value!r}" in error["detail"]
    assert name in body["detail"]
    assert json_of(sqlite_api.get())["total"] == 0


@pytest.mark.parametrize("name", series().keys())
def test_a_series_that_lacks_something(sqlite_api: Api, name: str) -> None:
    sent = {key: value for key, value in series().items() if key != name}
    [error] = check_problem(sqlite_api.post("", sent), 422)["errors"]
    assert (error["field"], error["detail"]) == (name, "Field required")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "worker"),
        ({"worker": ""}, "worker"),
        ({"worker": "w" * 65}, "worker"),
        ({"worker": ["w"]}, "worker"),
        ({"worker": "w", "lease_s": 0}, "lease_s"),
        ({"worker": "w", "lease_s": 3601}, "lease_s"),
        ({"worker": "w", "lease": 60}, "lease"),
    ],
)
def test_a_claim_that_is_refused(sqlite_api: Api, body: dict[str, Any], field: str) -> None:
    sqlite_api.add()
    [error] = check_problem(sqlite_api.post("/claim", body), 422)["errors"]
    assert error["field"] == field
    assert sqlite_api.show(1)["status"] == "pending"


LEASE = {"lease_token": "f" * 32}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (done(LEASE, derived_series_instance_uid=None), "needs derived_series_instance_uid"),
        (done(LEASE, model_name=None, model_sha256=None), "needs model_name, model_sha256"),
        (done(LEASE, model_version=None), "status done needs model_version"),
        (done(LEASE, error="but"), "status done must not come with error"),
        (done(LEASE, permanent=True), "status done must not come with permanent"),
        (done(LEASE, model_sha256="AB" * 32), "model_sha256"),
        (done(LEASE, strength=-0.1), "strength"),
        (done(LEASE, timings_s={"fetch": -1}), "timings_s.fetch"),
        (done(LEASE, timings_s={"fetch": "slow"}), "timings_s.fetch"),
        (done(LEASE, quality=[1]), "quality"),
        (done(LEASE, warnings="one"), "warnings"),
        (done(LEASE, derived_instances=0), "derived_instances"),
        (done(LEASE, patient_name="X"), "patient_name"),
        (skipped(LEASE, reason=None), "status skipped needs reason"),
        (skipped(LEASE, reason_code=None), "status skipped needs reason_code"),
        (skipped(LEASE, reason_code="Not a code"), "reason_code"),
        (skipped(LEASE, derived_series_instance_uid="1.2"), "must not come with derived_series"),
        (failed(LEASE, error=None), "status failed needs error"),
        (failed(LEASE, error=""), "error"),
        (failed(LEASE, derived_instances=3), "must not come with derived_instances"),
        (failed(LEASE, permanent="perhaps"), "permanent"),
        (failed(LEASE, status="dead"), "status"),
        (failed(LEASE, status="pending"), "status"),
        ({"status": "failed", "error": "x"}, "lease_token"),
        (failed(LEASE, lease_token=""), "lease_token"),
    ],
)
def test_an_outcome_that_is_refused(sqlite_api: Api, body: dict[str, Any], says: str) -> None:
    assert says in check_problem(sqlite_api.post("/1/outcome", body), 422)["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=ready", "status.0"),
        ("status=done&status=ready", "status.1"),
        ("page=0", "page"),
        ("page=1000001", "page"),
        ("page=one", "page"),
        ("page=1&page=2", "page"),
        ("per_page=0", "per_page"),
        ("per_page=201", "per_page"),
        ("series_instance_uid=1.2.x", "series_instance_uid"),
        ("study_instance_uid=%00", "study_instance_uid"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2030-01-01T00:00:00", "created_after"),
        ("created_after=2030-01-01T00:00:00+00:00", "created_after"),
        ("created_after=9999-12-31T23:59:59-12:00", "created_after"),
        ("updated_after=0001-01-01T00:00:00%2B12:00", "updated_after"),
        ("Status=done", "Status"),
    ],
)
def test_a_query_that_is_refused(sqlite_api: Api, query: str, field: str) -> None:
    [error] = check_problem(sqlite_api.get(f"?{query}"), 422)["errors"]
    assert (error["in"], error["field"]) == ("query", field)


def test_a_long_value_is_not_repeated_in_full(sqlite_api: Api) -> None:
    answer = sqlite_api.post("/claim", {"worker": "x" * 100_000})
    assert len(check_problem(answer, 422)["detail"]) < 300


def test_an_error_inside_is_logged_and_not_shown(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a secret of the house")

    monkeypatch.setitem(sqlite_api.app.view_functions, "operations.healthz", broken)
    body = check_problem(sqlite_api.client.get("/healthz"), 500)
    assert "secret" not in json.dumps(body)
    captured = capsys.readouterr()
    assert "request_failed" in captured.out + captured.err
    assert body["request_id"] in captured.out + captured.err
