"""Cases, their series, readers: what a coordinator does before and while a study is read."""

from typing import Any

import pytest

from api_study import DAY, STUDIES, case_series, plain_answers, start_study, uid
from api_support import Api, done, json_of

pytest_plugins = ["api_fixtures"]


def test_a_case_with_its_series(api: Api) -> None:
    play = start_study(api, cases=1, allocate=False)
    case = play.run("GET", "/cases/P01")
    assert (case["kind"], case["missing"], case["excluded_at"]) == ("study", [], None)
    # In the order of the protocol, whatever order they came in.
    assert [(one["arm"], one["sequence"]) for one in case["series"]] == [
        ("standard", "sag_t1"),
        ("standard", "tra_t2"),
        ("accelerated", "sag_t1"),
        ("accelerated", "tra_t2"),
    ]
    assert play.run("GET", "/cases")["items"] == [case]
    detail = play.run("GET", "")
    assert (detail["cases"], detail["readers"], detail["locked"]) == (1, 2, False)


def test_series_one_by_one(api: Api) -> None:
    play = start_study(api, cases=0, allocate=False)
    play.run("POST", "/cases", {"pseudonym": "P01"})
    for one in case_series("small", "P01", play.protocol):
        place = f"/cases/P01/series/{one.pop('arm')}/{one.pop('sequence')}"
        case = play.run("PUT", place, {**one, "parameters": {"RepetitionTime": 621.0}})
    assert case["missing"] == []
    assert {one["scan_time_s"] for one in case["series"]} == {77.0, 41.0}
    assert case["series"][0]["parameters"] == {"RepetitionTime": 621.0}
    revision = play.run("GET", "")["revision"]
    # The same again changes nothing, and moves nothing.
    play.run("PUT", place, {**one, "parameters": {"RepetitionTime": 621.0}})
    assert play.run("GET", "")["revision"] == revision
    assert play.verify()["holds"]


SERIES = {"series_instance_uid": "1.2.3", "study_instance_uid": "1.2"}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/cases/P01/series/usual/sag_t1", SERIES, 404, "the arm must be one of standard"),
        ("/cases/P01/series/standard/cor", SERIES, 404, "the sequence must be one of sag_t1"),
        ("/cases/P99/series/standard/sag_t1", SERIES, 404, "there is no case P99"),
        ("/cases/P%00/series/standard/sag_t1", SERIES, 404, "there is no case"),
        ("/cases/P01/series/standard/sag_t1", {**SERIES, "scan_time_s": 0}, 422, "scan_time_s"),
        ("/cases/P01/series/standard/sag_t1", {"series_instance_uid": "x"}, 422, "series_inst"),
    ],
)
def test_a_series_that_is_refused(
    api: Api, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    play = start_study(api, cases=1, readers=(), allocate=False)
    answer = api.send("PUT", play.url + path, body, role="coordinator")
    assert answer.status_code == status, answer.text
    assert says in json_of(answer)["detail"]


def test_a_series_stands_for_one_thing(api: Api) -> None:
    play = start_study(api, cases=1, allocate=False)
    taken = {**SERIES, "series_instance_uid": uid("small", "P01", "standard", "sag_t1")}
    path = f"{play.url}/cases/P01/series/accelerated/sag_t1"
    answer = api.send("PUT", path, taken, role="coordinator")
    assert (answer.status_code, json_of(answer)["title"]) == (409, "Series taken")
    # Another study may read the same images.
    assert start_study(api, name="other", cases=0, allocate=False).run(
        "POST",
        "/cases",
        {"pseudonym": "X", "series": [{**taken, "arm": "standard", "sequence": "sag_t1"}]},
    )


def test_what_was_read_stays_what_it_was(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    reading = play.must_next("r1", play.session("r1"))
    arm = play.place(reading.code)["arm"]
    path = f"{play.url}/cases/P01/series/{arm}/sag_t1"
    answer = api.send("PUT", path, SERIES, role="coordinator")
    assert (answer.status_code, json_of(answer)["title"]) == (409, "Series locked")
    same = {
        "series_instance_uid": uid("small", "P01", arm, "sag_t1"),
        "study_instance_uid": uid("small", "P01"),
        "scan_time_s": 50,
    }
    assert api.send("PUT", path, same, role="coordinator").status_code == 200
    other = "accelerated" if arm == "standard" else "standard"
    path = f"{play.url}/cases/P01/series/{other}/sag_t1"
    assert api.send("PUT", path, SERIES, role="coordinator").status_code == 200
    assert play.verify()["holds"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"pseudonym": "P01"}, 409),
        ({"pseudonym": "Doe^John"}, 422),
        ({"pseudonym": ""}, 422),
        ({"pseudonym": "P02", "kind": "control"}, 422),
        ({"pseudonym": "P02", "series": [{**SERIES, "arm": "standard", "sequence": "cor"}]}, 404),
    ],
)
def test_a_case_that_is_refused(sqlite_api: Api, body: dict[str, Any], status: int) -> None:
    play = start_study(sqlite_api, cases=1, readers=(), allocate=False)
    answer = sqlite_api.send("POST", f"{play.url}/cases", body, role="coordinator")
    assert answer.status_code == status
    assert len(play.run("GET", "/cases")["items"]) == 1
    assert play.verify()["holds"]


@pytest.mark.parametrize("study_id", [99, 2**64])
def test_a_study_that_is_not_there(api: Api, study_id: int) -> None:
    for path in ("", "/protocol", "/cases", "/audit/verify", "/export", "/lineage", "/sessions"):
        answer = api.send("GET", f"{STUDIES}/{study_id}{path}", role="coordinator")
        assert answer.status_code == 404, path
        assert json_of(answer)["detail"] == f"there is no study {study_id}"


# --- exclusion ----------------------------------------------------------------------------------


def test_an_excluded_case_no_longer_counts_and_is_not_read(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1", "r2"))
    play.read_session("r1", 0)
    opened = play.must_next("r2", play.session("r2"))
    case = play.place(opened.code)["case"]
    body = {"reason": "metal in the spine", "at": "2030-01-01T12:00:00+02:00"}
    shown = play.run("POST", f"/cases/{case}/exclude", body)
    assert shown["excluded_at"] == "2030-01-01T10:00:00Z"
    assert shown["exclusion_reason"] == "metal in the spine"
    refused = opened.send("PUT", "/scores", {"scores": plain_answers(opened)["scores"]})
    opened.show()
    refused = opened.send("PUT", "/scores", {"scores": plain_answers(opened)["scores"]})
    assert (refused.status_code, json_of(refused)["title"]) == (409, "Reading withdrawn")
    assert play.must_next("r2", play.session("r2")).code != opened.code
    api.clock.advance(28 * DAY)
    assert len(play.read_session("r1", 1)) == 2
    rows = [row for row in play.allocation() if row["case"] == case]
    assert sorted((row["reader"], row["state"]) for row in rows) == [
        ("r1", "complete"),
        ("r1", "withdrawn"),
        ("r2", "withdrawn"),
        ("r2", "withdrawn"),
    ]
    assert play.run("GET", "")["excluded"] == 1
    assert play.verify()["holds"]


def test_a_case_that_comes_back(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    first = play.read_session("r1", 0)[0]
    case = play.place(first)["case"]
    play.run("POST", f"/cases/{case}/exclude", {"reason": "consent withdrawn"})
    play.run("POST", f"/cases/{case}/readmit", {"reason": "that was another patient"})
    states = play.run("GET", "/export")["states"]
    assert "excluded_at" not in states[f"case/{case}"]
    assert states[f"reading/{first}"]["counted"] is True
    api.clock.advance(28 * DAY)
    assert len(play.read_session("r1", 1)) == 2
    reasons = [event["reason"] for event in play.events(subject=f"case/{case}")]
    assert reasons == [None] * 5 + ["consent withdrawn", "that was another patient"]
    assert play.verify()["holds"]


@pytest.mark.parametrize(("path", "first"), [("exclude", "exclude"), ("readmit", None)])
def test_what_cannot_be_excluded_or_readmitted(api: Api, path: str, first: str | None) -> None:
    play = start_study(api, cases=1, readers=(), allocate=False)
    if first is not None:
        play.run("POST", f"/cases/P01/{first}", {"reason": "metal"})
    answer = api.send("POST", f"{play.url}/cases/P01/{path}", {"reason": "why"}, role="coordinator")
    assert (answer.status_code, json_of(answer)["title"]) == (409, "Exclusion conflict")


def test_a_reason_is_needed(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=1, readers=(), allocate=False)
    for body in ({}, {"reason": ""}, {"reason": None}):
        answer = sqlite_api.send("POST", f"{play.url}/cases/P01/exclude", body, role="coordinator")
        assert answer.status_code == 422


# --- readers ------------------------------------------------------------------------------------


def test_a_reader_gets_a_token_and_another_one(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    session = play.session("r1")
    reading = play.must_next("r1", session)
    old = play.tokens["r1"]
    made = play.run("POST", "/readers/r1/token", {"reason": "left it on the train", "days": 90})
    assert made["token"] != old
    assert play.ask("r1", "GET", "/sessions").status_code == 401
    play.tokens["r1"] = made["token"]
    assert play.must_next("r1", session).code == reading.code
    listed = play.run("GET", "/readers")["items"]
    assert [(one["name"], "token" in one) for one in listed] == [("r1", False)]
    [event] = play.events(action="reader.token")
    assert event["reason"] == "left it on the train"
    assert made["token"] not in str(play.events())


def test_the_coordinator_revokes_the_token_of_a_reader(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    path, body = "/readers/r1/token/revoke", {"reason": "has left the house"}
    assert play.run("POST", path, body)["name"] == "r1"
    assert play.ask("r1", "GET", "/sessions").status_code == 401
    [event] = play.events(action="reader.revoke")
    assert event["reason"] == "has left the house"
    twice = api.send("POST", play.url + path, body, role="coordinator")
    assert (twice.status_code, json_of(twice)["title"]) == (409, "No token")
    play.tokens["r1"] = play.run("POST", "/readers/r1/token", {"reason": "came back"})["token"]
    assert play.ask("r1", "GET", "/sessions").status_code == 200
    assert play.verify()["holds"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "r1"}, 409),
        ({"name": "1"}, 422),
        ({"name": "r" * 33}, 422),
        ({"name": "r2", "experience_years": -1}, 422),
        ({"name": "r2", "days": 0}, 422),
    ],
)
def test_a_reader_who_is_refused(sqlite_api: Api, body: dict[str, Any], status: int) -> None:
    play = start_study(sqlite_api, cases=0, readers=("r1",), allocate=False)
    answer = sqlite_api.send("POST", f"{play.url}/readers", body, role="coordinator")
    assert answer.status_code == status
    assert len(play.run("GET", "/readers")["items"]) == 1


def test_a_token_belongs_to_one_study(api: Api) -> None:
    one = start_study(api, name="one", cases=1, readers=("r1",))
    other = start_study(api, name="other", cases=1, readers=("r1",))
    assert one.session("r1") != other.session("r1")
    answer = one.ask("r1", "POST", f"/sessions/{other.session('r1')}/next")
    assert answer.status_code == 404


# --- repeats and keys ---------------------------------------------------------------------------


def test_a_call_with_a_key_happens_once(api: Api) -> None:
    play = start_study(api, cases=0, readers=(), allocate=False)
    headers = {
        "Authorization": f"Bearer {api.tokens['coordinator']}",
        "Idempotency-Key": "enrol-P01",
    }
    url = f"{play.url}/cases"
    first = api.client.post(url, json={"pseudonym": "P01"}, headers=headers)
    again = api.client.post(url, json={"pseudonym": "P01"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.data == again.data
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    other = api.client.post(url, json={"pseudonym": "P02"}, headers=headers)
    assert (other.status_code, json_of(other)["title"]) == (422, "Key reused")
    assert len(play.run("GET", "/cases")["items"]) == 1
    # Somebody else's key is another key.
    headers["Authorization"] = f"Bearer {api.tokens['service']}"
    assert api.client.post(url, json={"pseudonym": "P02"}, headers=headers).status_code == 201
    # After a week it is forgotten.
    api.clock.advance(8 * DAY)
    assert api.client.post(url, json={"pseudonym": "P03"}, headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "ä"])
def test_a_key_that_is_none(sqlite_api: Api, key: str) -> None:
    headers = {
        "Authorization": f"Bearer {sqlite_api.tokens['coordinator']}",
        "Idempotency-Key": key,
    }
    body = {"name": "s", "template": "tang2024"}
    answer = sqlite_api.client.post(STUDIES, json=body, headers=headers)
    assert answer.status_code == 422
    [error] = json_of(answer)["errors"]
    assert (error["in"], error["field"]) == ("header", "idempotency_key")


def test_what_the_network_made_is_no_reference(api: Api) -> None:
    row = api.add()
    made = uid("derived")
    outcome = done(api.must_claim(), derived_series_instance_uid=made)
    assert api.post(f"/{row['id']}/outcome", outcome).status_code == 200
    play = start_study(api, cases=1, readers=("r1",), allocate=False)
    body = {"series_instance_uid": made, "study_instance_uid": "1.2"}
    path = f"{play.url}/cases/P01/series"
    refused = api.send("PUT", f"{path}/standard/sag_t1", body, role="coordinator")
    assert (refused.status_code, json_of(refused)["title"]) == (409, "Series derived")
    assert f"reconstruction {row['id']}" in json_of(refused)["detail"]
    series = [{"arm": "standard", "sequence": "sag_t1", **body}]
    whole = {"pseudonym": "P02", "kind": "study", "series": series}
    assert api.send("POST", f"{play.url}/cases", whole, role="coordinator").status_code == 409
    taken = api.send("PUT", f"{path}/accelerated/sag_t1", body, role="coordinator")
    assert taken.status_code == 200


# --- lineage ------------------------------------------------------------------------------------


def test_lineage_from_the_source_to_the_measurements(api: Api) -> None:
    row = api.add()
    outcome = done(
        api.must_claim(), derived_series_instance_uid=uid("small", "P01", "accelerated", "sag_t1")
    )
    assert api.post(f"/{row['id']}/outcome", outcome).status_code == 200
    play = start_study(api, cases=1, readers=("r1",))
    play.read_session("r1", 0)
    api.clock.advance(28 * DAY)
    play.read_session("r1", 1)
    items = play.run("GET", "/lineage")["items"]
    assert len(items) == 4
    [made] = [one for one in items if one["reconstruction_id"] is not None]
    assert (made["arm"], made["sequence"]) == ("accelerated", "sag_t1")
    assert made["source_series_instance_uid"] == row["series_instance_uid"]
    assert (made["model_name"], made["model_version"], made["strength"]) == ("dbp", "1", 1.0)
    assert made["evidence"] == [{"tag": "0018,9069", "value": "2"}]
    assert (made["readings"], made["complete"]) == (1, 1)
    assert (made["scores"], made["measurements"]) == (2, 2)
    [plain] = [one for one in items if (one["arm"], one["sequence"]) == ("standard", "sag_t1")]
    assert (plain["model_name"], plain["scores"]) == (None, 2)
    shown = play.run("GET", "/cases/P01")["series"]
    models = [one["lineage"]["model_sha256"] for one in shown if one["lineage"] is not None]
    assert models == ["ab" * 32]
