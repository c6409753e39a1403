"""Reconstructions over HTTP, on SQLite and PostgreSQL: the queue, its leases and its outcomes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from api_support import START, URL, Api, done, failed, json_of, series, skipped
from halfscan_api import migrate

pytest_plugins = ["api_fixtures"]

DERIVED = (
    "derived_series_instance_uid", "derived_orthanc_series_id",
    "model_name", "model_version", "model_sha256", "strength",
)  # fmt: skip


def moment(seconds: float = 0) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_a_new_series_is_pending(api: Api) -> None:
    answer = api.post("", series(priority=5))
    body = json_of(answer)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{URL}/{body['id']}"
    assert {key: body[key] for key in series()} == series()
    assert (body["status"], body["attempt"], body["max_attempts"]) == ("pending", 0, 3)
    assert body["priority"] == 5
    assert body["created_at"] == body["updated_at"] == body["run_after"] == moment()
    assert body["worker"] is body["lease_until"] is body["finished_at"] is None
    assert "lease_token" not in body
    assert api.show(body["id"]) == {**body, "attempts": []}


def test_the_same_source_is_one_row_whatever_became_of_it(api: Api) -> None:
    first = api.add()
    claimed = api.must_claim()
    api.post(f"/{first['id']}/outcome", skipped(claimed))
    again = api.post("", series(priority=9))
    assert again.status_code == 200
    assert again.headers["Location"] == f"{URL}/{first['id']}"
    assert json_of(again)["status"] == "skipped"
    assert json_of(again)["priority"] == 0
    assert json_of(api.get())["total"] == 1


def test_another_set_of_instances_is_another_row(api: Api) -> None:
    first = api.add()
    second = api.add(source_digest="0" * 64, n_instances=13)
    assert second["id"] != first["id"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("series_instance_uid", "1.9"), ("study_instance_uid", "1.8"), ("n_instances", 11)],
)
def test_the_same_source_with_other_facts_is_refused(api: Api, name: str, value: Any) -> None:
    first = api.add()
    answer = api.post("", series(**{name: value}))
    assert answer.status_code == 409
    detail = json_of(answer)["detail"]
    assert name in detail
    assert repr(value) in detail
    assert repr(first[name]) in detail


def test_nothing_to_claim(api: Api) -> None:
    answer = api.post("/claim", {"worker": "w1"})
    assert (answer.status_code, answer.data) == (204, b"")


def test_a_claim_leases_the_row(api: Api) -> None:
    row = api.add()
    api.clock.advance(10)
    claimed = api.must_claim("w1", lease_s=20)
    assert claimed["id"] == row["id"]
    assert (claimed["status"], claimed["attempt"], claimed["worker"]) == ("leased", 1, "w1")
    assert claimed["lease_until"] == moment(30)
    assert len(claimed["lease_token"]) == 32
    assert api.claim("w2") is None
    shown = api.show(row["id"])
    assert "lease_token" not in shown
    assert shown["attempts"] == [
        {
            "attempt": 1,
            "worker": "w1",
            "started_at": moment(10),
            "ended_at": None,
            "result": None,
            "error": None,
            **dict.fromkeys(DERIVED),
            "replaced_by": None,
            "replaced_at": None,
        }
    ]


def test_the_lease_lasts_as_the_settings_say_unless_asked_otherwise(api: Api) -> None:
    api.add()
    assert api.must_claim()["lease_until"] == moment(60)


def test_order_is_priority_then_waiting_time_then_id(api: Api) -> None:
    plain, urgent, later = api.add(1), api.add(2, priority=7), api.add(3)
    low = api.add(4, priority=-1)
    claimed = [api.must_claim()["id"] for _ in range(4)]
    assert claimed == [urgent["id"], plain["id"], later["id"], low["id"]]


def test_what_failed_waits_behind_what_is_due(api: Api) -> None:
    first, second = api.add(1), api.add(2)
    api.post(f"/{first['id']}/outcome", failed(api.must_claim()))
    api.clock.advance(10)
    assert [api.must_claim()["id"] for _ in range(2)] == [second["id"], first["id"]]


def test_done_keeps_everything_that_was_reported(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim()
    api.clock.advance(5)
    report = done(claimed)
    answer = api.post(f"/{row['id']}/outcome", report)
    body = json_of(answer)
    assert answer.status_code == 200
    reported = {key: value for key, value in report.items() if key != "lease_token"}
    assert {key: body[key] for key in reported} == reported
    assert body["finished_at"] == body["updated_at"] == moment(5)
    assert body["lease_until"] is None
    assert body["worker"] == "w1"
    [attempt] = api.show(row["id"])["attempts"]
    assert (attempt["result"], attempt["ended_at"]) == ("done", moment(5))
    assert api.claim() is None


def test_skipped_keeps_the_reason(api: Api) -> None:
    row = api.add()
    body = json_of(api.post(f"/{row['id']}/outcome", skipped(api.must_claim())))
    assert (body["status"], body["reason_code"]) == ("skipped", "not_accelerated")
    assert body["acquisition"] == {"in_plane_factor": 1.0}
    assert body["model_name"] is None
    assert body["finished_at"] == moment()


@pytest.mark.parametrize("make", [done, skipped, failed])
def test_the_same_outcome_twice_answers_the_same(api: Api, make: Any) -> None:
    row = api.add()
    report = make(api.must_claim())
    first = api.post(f"/{row['id']}/outcome", report)
    api.clock.advance(100)
    second = api.post(f"/{row['id']}/outcome", report)
    assert (first.status_code, second.status_code) == (200, 200)
    assert json_of(first) == json_of(second)
    assert len(api.show(row["id"])["attempts"]) == 1


def test_a_repeated_failure_does_not_disturb_the_next_attempt(api: Api) -> None:
    row = api.add()
    report = failed(api.must_claim("w1"))
    api.post(f"/{row['id']}/outcome", report)
    api.clock.advance(10)
    second = api.must_claim("w2")
    answer = api.post(f"/{row['id']}/outcome", report)
    assert (answer.status_code, json_of(answer)["status"]) == (200, "leased")
    assert api.post(f"/{row['id']}/outcome", done(second)).status_code == 200


def test_another_outcome_after_the_first_is_refused(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim()
    api.post(f"/{row['id']}/outcome", done(claimed))
    for other in (skipped(claimed), done(claimed, derived_series_instance_uid="2.25.1")):
        answer = api.post(f"/{row['id']}/outcome", other)
        assert answer.status_code == 409
        assert json_of(answer)["type"] == "urn:halfscan:problem:outcome-conflict"
    assert api.show(row["id"])["derived_series_instance_uid"] == "2.25.4242"


def test_failures_wait_twice_as_long_each_time_then_the_row_is_dead(api: Api) -> None:
    row = api.add()
    for attempt, wait in ((1, 10), (2, 20)):
        claimed = api.must_claim()
        assert claimed["attempt"] == attempt
        body = json_of(api.post(f"/{row['id']}/outcome", failed(claimed, error=f"e{attempt}")))
        assert (body["status"], body["error"]) == ("pending", f"e{attempt}")
        assert body["run_after"] == (api.clock.now + timedelta(seconds=wait)).isoformat().replace(
            "+00:00", "Z"
        )
        api.clock.advance(wait - 0.001)
        assert api.claim() is None
        api.clock.advance(0.001)
    body = json_of(api.post(f"/{row['id']}/outcome", failed(api.must_claim(), error="e3")))
    assert (body["status"], body["error"]) == ("dead", "e3")
    assert body["finished_at"] is not None
    api.clock.advance(1e6)
    assert api.claim() is None
    assert [entry["error"] for entry in api.show(row["id"])["attempts"]] == ["e1", "e2", "e3"]


def test_a_permanent_failure_is_dead_at_once(api: Api) -> None:
    row = api.add()
    body = json_of(api.post(f"/{row['id']}/outcome", failed(api.must_claim(), permanent=True)))
    assert (body["status"], body["attempt"]) == ("dead", 1)


def test_success_after_a_failure_clears_the_error_but_not_the_history(api: Api) -> None:
    row = api.add()
    api.post(f"/{row['id']}/outcome", failed(api.must_claim()))
    api.clock.advance(10)
    body = json_of(api.post(f"/{row['id']}/outcome", done(api.must_claim())))
    assert body["error"] is None
    assert [entry["result"] for entry in api.show(row["id"])["attempts"]] == ["failed", "done"]


def test_a_renewed_lease_keeps_its_length(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim(lease_s=20)
    api.clock.advance(15)
    answer = api.post(f"/{row['id']}/lease", {"lease_token": claimed["lease_token"]})
    assert (answer.status_code, json_of(answer)) == (200, {"lease_until": moment(35)})
    api.clock.advance(19)
    assert api.claim("w2") is None
    assert api.post(f"/{row['id']}/outcome", done(claimed)).status_code == 200


def test_a_lease_that_ran_out_is_good_until_somebody_takes_it(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim(lease_s=20)
    api.clock.advance(100)
    token = {"lease_token": claimed["lease_token"]}
    assert json_of(api.post(f"/{row['id']}/lease", token)) == {"lease_until": moment(120)}
    api.clock.advance(100)
    assert api.post(f"/{row['id']}/outcome", done(claimed)).status_code == 200


def test_a_vanished_worker_loses_the_row_to_the_next(api: Api) -> None:
    row = api.add()
    lost = api.must_claim("w1", lease_s=20)
    api.clock.advance(19.9)
    assert api.claim("w2") is None
    api.clock.advance(0.1)
    taken = api.must_claim("w2")
    assert (taken["id"], taken["attempt"], taken["worker"]) == (row["id"], 2, "w2")
    for path, body in (("lease", {"lease_token": lost["lease_token"]}), ("outcome", done(lost))):
        answer = api.post(f"/{row['id']}/{path}", body)
        assert answer.status_code == 409
        assert json_of(answer)["type"] == "urn:halfscan:problem:lease-lost"
    assert api.post(f"/{row['id']}/outcome", done(taken)).status_code == 200
    first, second = api.show(row["id"])["attempts"]
    assert (first["result"], first["worker"], second["result"]) == ("lost", "w1", "done")
    assert "vanished" in first["error"]


def test_a_series_that_kills_its_workers_becomes_dead(api: Api) -> None:
    row, other = api.add(1), api.add(2, priority=-1)
    tokens = []
    for attempt in (1, 2, 3):
        claimed = api.must_claim(f"w{attempt}")
        tokens.append(claimed["lease_token"])
        assert (claimed["id"], claimed["attempt"]) == (row["id"], attempt)
        api.clock.advance(60)
    assert api.must_claim("w4")["id"] == other["id"]
    shown = api.show(row["id"])
    assert (shown["status"], shown["attempt"]) == ("dead", 3)
    assert shown["error"] == "the worker w3 vanished: its lease ran out at attempt 3 of 3"
    assert [entry["result"] for entry in shown["attempts"]] == ["lost"] * 3
    for token in tokens:
        late = api.post(f"/{row['id']}/outcome", done({"lease_token": token}))
        assert late.status_code == 409
        assert "dead" in json_of(late)["detail"]


@pytest.mark.parametrize("path", ["lease", "outcome"])
def test_a_wrong_token_is_refused(api: Api, path: str) -> None:
    row = api.add()
    claimed = api.must_claim()
    body = done({"lease_token": "f" * 32}) if path == "outcome" else {"lease_token": "f" * 32}
    assert api.post(f"/{row['id']}/{path}", body).status_code == 409
    assert api.post(f"/{row['id']}/outcome", done(claimed)).status_code == 200


def test_the_token_of_another_row_is_refused(api: Api) -> None:
    api.add(1)
    api.add(2)
    first, second = api.must_claim(), api.must_claim()
    assert api.post(f"/{second['id']}/outcome", done(first)).status_code == 409


def test_a_finished_row_cannot_be_renewed(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim()
    api.post(f"/{row['id']}/outcome", done(claimed))
    answer = api.post(f"/{row['id']}/lease", {"lease_token": claimed["lease_token"]})
    assert answer.status_code == 409
    assert "which is done" in json_of(answer)["detail"]


@pytest.mark.parametrize("make", [skipped, lambda row: failed(row, permanent=True)])
def test_what_is_dead_or_skipped_can_be_retried(api: Api, make: Any) -> None:
    row = api.add()
    api.post(f"/{row['id']}/outcome", make(api.must_claim()))
    api.clock.advance(7)
    answer = api.post(f"/{row['id']}/retry", role="coordinator")
    body = json_of(answer)
    assert answer.status_code == 200
    fresh = {**row, "run_after": moment(7), "updated_at": moment(7)}
    assert body == fresh
    again = api.must_claim("w2")
    assert (again["id"], again["attempt"]) == (row["id"], 1)
    assert api.post(f"/{row['id']}/outcome", done(again)).status_code == 200
    assert [entry["attempt"] for entry in api.show(row["id"])["attempts"]] == [1, 1]


def test_nothing_else_can_be_retried(api: Api) -> None:
    row = api.add()
    statuses = []
    for step in (lambda: None, api.must_claim):
        step()
        answer = api.post(f"/{row['id']}/retry")
        assert answer.status_code == 409
        statuses.append(json_of(answer)["detail"])
    rule = "only a dead, skipped or done reconstruction can be retried, got "
    assert [text.removeprefix(rule).split()[0] for text in statuses] == ["pending", "leased"]


# --- one derived series takes the place of another ---------------------------------------------


def grown(**changes: Any) -> dict[str, Any]:
    """Announce series 1 again, with more instances."""
    return {"source_digest": "f" * 64, "n_instances": 14, **changes}


def finish(api: Api, claimed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = api.post(f"/{claimed['id']}/outcome", done(claimed, **changes))
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def test_two_rows_of_one_series_are_never_leased_at_a_time(api: Api) -> None:
    first, other = api.add(1), api.add(2, priority=-5)
    second = api.add(1, **grown(priority=5))
    claimed = api.must_claim("w1")
    assert claimed["id"] == second["id"]
    assert api.must_claim("w2")["id"] == other["id"], "the first row waits for the second"
    assert api.claim("w3") is None
    finish(api, claimed)
    assert api.must_claim("w3")["id"] == first["id"]


def test_a_vanished_worker_holds_up_no_other_row_of_its_series(api: Api) -> None:
    first = api.add(1)
    lost = api.must_claim("w1", lease_s=20)
    second = api.add(1, **grown(priority=5))
    api.clock.advance(19)
    assert api.claim("w2") is None
    api.clock.advance(1)
    taken = api.must_claim("w2")
    assert taken["id"] == second["id"]
    for path, body in (("lease", {"lease_token": lost["lease_token"]}), ("outcome", done(lost))):
        assert api.post(f"/{first['id']}/{path}", body).status_code == 409
    shown = api.show(first["id"])
    assert (shown["status"], shown["attempts"][0]["result"]) == ("pending", "lost")
    assert api.claim("w3") is None
    finish(api, taken)
    assert api.must_claim("w3")["id"] == first["id"]


def test_what_is_replaced_leaves_a_trail(api: Api) -> None:
    api.add(1)
    first = api.must_claim()
    assert first["supersedes"] == []
    finish(api, first)
    api.add(1, **grown())
    second = api.must_claim()
    assert second["supersedes"] == [
        {
            "id": first["id"],
            "derived_series_instance_uid": "2.25.4242",
            "derived_orthanc_series_id": done(first)["derived_orthanc_series_id"],
            "complete": True,
        }
    ]
    api.clock.advance(5)
    body = finish(api, second, derived_series_instance_uid="2.25.77", replaced=["2.25.4242"])
    assert (body["replaced_by"], body["replaced_at"]) == (None, None)
    old = api.show(first["id"])
    assert (old["status"], old["replaced_by"], old["replaced_at"]) == (
        "done", second["id"], moment(5),
    )  # fmt: skip
    assert old["updated_at"] == moment(5)
    [attempt] = old["attempts"]
    assert attempt["derived_series_instance_uid"] == "2.25.4242"
    assert (attempt["replaced_by"], attempt["replaced_at"]) == (second["id"], moment(5))
    api.add(1, source_digest="e" * 64, n_instances=15)
    superseded = api.must_claim()["supersedes"]
    assert [item["derived_series_instance_uid"] for item in superseded] == ["2.25.77"]


def test_what_was_not_removed_is_named_again(api: Api) -> None:
    api.add(1)
    finish(api, api.must_claim())
    api.add(1, **grown())
    finish(api, api.must_claim(), derived_series_instance_uid="2.25.77", replaced=["2.25.1"])
    api.add(1, source_digest="e" * 64, n_instances=15)
    named = [item["derived_series_instance_uid"] for item in api.must_claim()["supersedes"]]
    assert named == ["2.25.4242", "2.25.77"]


def test_other_series_are_never_named(api: Api) -> None:
    api.add(1)
    finish(api, api.must_claim())
    api.add(2)
    assert api.must_claim()["supersedes"] == []


def test_what_a_vanished_worker_was_about_to_store_is_known(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim("w1", lease_s=20)
    token = {"lease_token": claimed["lease_token"], "derived_series_instance_uid": "2.25.9"}
    assert api.post(f"/{row['id']}/lease", token).status_code == 200
    assert api.show(row["id"])["derived_series_instance_uid"] is None, "nothing is done yet"
    api.clock.advance(20)
    again = api.must_claim("w2")
    assert again["supersedes"] == [
        {
            "id": row["id"],
            "derived_series_instance_uid": "2.25.9",
            "derived_orthanc_series_id": None,
            "complete": False,
        }
    ]
    finish(api, again, derived_series_instance_uid="2.25.9")
    lost, last = api.show(row["id"])["attempts"]
    assert (lost["result"], lost["replaced_by"]) == ("lost", row["id"])
    assert (last["result"], last["replaced_at"]) == ("done", None)
    assert api.show(row["id"])["replaced_at"] is None
    api.add(1, **grown())
    [named] = api.must_claim()["supersedes"]
    assert (named["derived_series_instance_uid"], named["complete"]) == ("2.25.9", True)


def test_a_skip_may_clear_what_was_left_behind(api: Api) -> None:
    row = api.add()
    claimed = api.must_claim("w1", lease_s=20)
    token = {"lease_token": claimed["lease_token"], "derived_series_instance_uid": "2.25.9"}
    api.post(f"/{row['id']}/lease", token)
    api.clock.advance(20)
    report = skipped(api.must_claim("w2"), replaced=["2.25.9"], warnings=["one"])
    assert json_of(api.post(f"/{row['id']}/outcome", report))["warnings"] == ["one"]
    assert api.show(row["id"])["attempts"][0]["replaced_at"] == moment(20)


def test_a_done_row_is_made_again_and_remembers(api: Api) -> None:
    row = api.add()
    finish(api, api.must_claim("w1"), strength=0.5)
    answer = api.post(f"/{row['id']}/retry", role="coordinator")
    assert (answer.status_code, json_of(answer)["status"]) == (200, "pending")
    assert json_of(answer)["derived_series_instance_uid"] is None
    again = api.must_claim("w2")
    assert again["supersedes"][0]["derived_series_instance_uid"] == "2.25.4242"
    finish(api, again, derived_series_instance_uid="2.25.43", replaced=["2.25.4242"])
    first, second = api.show(row["id"])["attempts"]
    assert (first["strength"], second["strength"]) == (0.5, 1.0)
    assert (first["replaced_by"], second["replaced_by"]) == (row["id"], None)
    assert api.show(row["id"])["replaced_by"] is None, "it is its own latest that counts"


def test_a_row_that_was_replaced_says_so_until_it_is_done_again(api: Api) -> None:
    first = api.add(1)
    finish(api, api.must_claim())
    second = api.add(1, **grown())
    finish(api, api.must_claim(), derived_series_instance_uid="2.25.77", replaced=["2.25.4242"])
    stood = api.show(first["id"])
    assert stood["replaced_by"] == second["id"]
    trail = {name: stood[name] for name in ("replaced_by", "replaced_at")}
    body = json_of(api.post(f"/{first['id']}/retry"))
    assert {name: body[name] for name in trail} == trail
    report = skipped(api.must_claim(), reason_code="superseded")
    body = json_of(api.post(f"/{first['id']}/outcome", report))
    assert {name: body[name] for name in trail} == trail, "the archive holds the larger series"
    api.post(f"/{first['id']}/retry")
    finish(api, api.must_claim(), replaced=["2.25.77"])
    assert api.show(first["id"])["replaced_by"] is None
    assert api.show(second["id"])["replaced_by"] == first["id"]


@pytest.mark.parametrize("body", [{"strength": 0.5}, {"model": "x"}, {"priority": 1}])
def test_a_retry_does_not_ignore_what_it_is_told(api: Api, body: dict[str, Any]) -> None:
    row = api.add()
    api.post(f"/{row['id']}/outcome", skipped(api.must_claim()))
    answer = api.post(f"/{row['id']}/retry", body)
    assert answer.status_code == 422
    assert "a retry takes no body" in json_of(answer)["detail"]
    assert api.show(row["id"])["status"] == "skipped"
    assert api.post(f"/{row['id']}/retry", {}).status_code == 200, "an empty one asks for nothing"


def test_the_same_made_again_replaces_nothing(api: Api) -> None:
    row = api.add()
    finish(api, api.must_claim())
    api.post(f"/{row['id']}/retry")
    finish(api, api.must_claim())
    api.post(f"/{row['id']}/retry")
    assert len(api.must_claim()["supersedes"]) == 1


@pytest.mark.parametrize("how", ["skipped", "replaced"])
def test_what_gave_way_begins_anew_when_its_instances_are_back(api: Api, how: str) -> None:
    first = api.add(1)
    claimed = api.must_claim()
    if how == "skipped":
        api.post(f"/{first['id']}/outcome", skipped(claimed, reason_code="superseded"))
    else:
        finish(api, claimed)
        api.add(1, **grown())
        finish(api, api.must_claim(), derived_series_instance_uid="2.25.77", replaced=["2.25.4242"])
    answer = api.post("", series())
    body = json_of(answer)
    assert (answer.status_code, body["id"], body["status"]) == (200, first["id"], "pending")
    assert (body["replaced_by"], body["reason_code"], body["attempt"]) == (None, None, 0)
    assert api.must_claim()["id"] == first["id"]


def test_a_new_row_may_wait(api: Api) -> None:
    row = api.add(1, delay_s=30)
    assert row["run_after"] == moment(30)
    api.clock.advance(29)
    assert api.claim() is None
    api.clock.advance(1)
    assert api.must_claim()["id"] == row["id"]


def test_the_list_filters_by_reason_code(api: Api) -> None:
    codes = ["halfscan_output", "averaged", None]
    ids = []
    for number, code in enumerate(codes, 1):
        ids.append(api.add(number)["id"])
        if code is not None:
            claimed = api.must_claim()
            api.post(f"/{claimed['id']}/outcome", skipped(claimed, reason_code=code, rule="r 1"))

    def listed(query: str) -> list[int]:
        return [item["id"] for item in json_of(api.get(query))["items"]]

    assert listed("?reason_code=averaged") == [ids[1]]
    assert listed("?reason_code=averaged&reason_code=halfscan_output") == [ids[1], ids[0]]
    assert listed("?exclude_reason_code=halfscan_output") == [ids[2], ids[1]]
    assert listed("?exclude_reason_code=halfscan_output&exclude_reason_code=averaged") == [ids[2]]
    assert api.get("?reason_code=Not%20a%20code").status_code == 422
    assert json_of(api.get("?reason_code=averaged"))["items"][0]["rule"] == "r 1"


@pytest.mark.parametrize("row_id", ["1", "0", str(2**63), "9" * 40])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/lease"), ("POST", "/outcome"), ("POST", "/retry")]
)
def test_an_unknown_id_is_not_found(api: Api, method: str, path: str, row_id: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/lease": {"lease_token": "x"},
        "/outcome": failed({"lease_token": "x"}),
    }
    answer = api.send(method, f"{URL}/{row_id}{path}", bodies.get(path))
    assert answer.status_code == 404
    assert json_of(answer)["detail"] == f"there is no reconstruction {row_id}"


def test_the_list_filters_and_pages(api: Api) -> None:
    ids = []
    for number in range(1, 8):
        ids.append(api.add(number)["id"])
        api.clock.advance(1)
    claimed = api.must_claim()
    api.post(f"/{claimed['id']}/outcome", done(claimed))
    second = api.must_claim()

    def listed(query: str) -> list[int]:
        answer = api.get(query, role="statistician")
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in json_of(answer)["items"]]

    assert listed("") == ids[::-1]
    assert listed("?status=done") == [claimed["id"]]
    assert listed("?status=done&status=leased") == [second["id"], claimed["id"]]
    assert listed(f"?series_instance_uid={series(3)['series_instance_uid']}") == [ids[2]]
    assert listed(f"?study_instance_uid={series(4)['study_instance_uid']}") == [ids[3]]
    assert listed(f"?orthanc_series_id={series(5)['orthanc_series_id']}") == [ids[4]]
    assert listed(f"?created_after={moment(4)}") == ids[5:][::-1]
    assert listed("?created_after=2030-01-01T22:04:09-05:00") == ids[5:][::-1]
    assert listed(f"?updated_after={moment(6.5)}") == [ids[1], ids[0]]
    assert listed(f"?status=pending&created_after={moment(5)}") == [ids[6]]
    page = json_of(api.get("?per_page=3&page=3"))
    assert [item["id"] for item in page["items"]] == [ids[0]]
    assert (page["page"], page["per_page"], page["total"], page["pages"]) == (3, 3, 7, 3)
    assert listed("?page=1000000&per_page=200") == []


def test_the_summary_counts_every_status(api: Api) -> None:
    for number in range(1, 6):
        api.add(number)
    for make in (done, skipped):
        row = api.must_claim()
        api.post(f"/{row['id']}/outcome", make(row))
    row = api.must_claim()
    api.post(f"/{row['id']}/outcome", failed(row, permanent=True))
    api.must_claim()
    counts = {"pending": 1, "leased": 1, "done": 1, "skipped": 1, "dead": 1, "total": 5}
    assert json_of(api.get("/summary")) == counts
    text = api.client.get("/metrics").text
    assert 'halfscan_reconstructions{status="dead"} 1.0' in text
    assert "halfscan_database_up 1.0" in text


def test_unicode_and_large_values_come_back_as_they_were(api: Api) -> None:
    row = api.add()
    report = done(
        api.must_claim("Arbeiter-ß-東京"),
        reason="Faktor ≥ 2 \U0001f9e0",
        acquisition={"big": 2**60, "small": 1e-300, "deep": [[[["é"]]]], "quote'\"": "\\"},
        warnings=["x" * 10_000],
    )
    body = json_of(api.post(f"/{row['id']}/outcome", report))
    assert (body["reason"], body["acquisition"]) == (report["reason"], report["acquisition"])
    assert api.show(row["id"])["warnings"] == report["warnings"]
    assert body["worker"] == "Arbeiter-ß-東京"


def test_a_database_of_before_remembers_what_was_made(api: Api) -> None:
    """From revision 0001 on: the last done attempt gets what its row has stored."""
    row = api.add(1)
    api.post(f"/{row['id']}/outcome", failed(api.must_claim()))
    api.clock.advance(10)
    finish(api, api.must_claim())
    other = api.add(2)
    migrate.downgrade(api.database, "0001")
    migrate.upgrade(api.database)
    first, last = api.show(row["id"])["attempts"]
    assert [first[name] for name in DERIVED] == [None] * len(DERIVED)
    shown = api.show(row["id"])
    assert [last[name] for name in DERIVED] == [shown[name] for name in DERIVED]
    assert shown["derived_series_instance_uid"] == "2.25.4242"
    assert (shown["replaced_by"], shown["rule"]) == (None, None)
    assert api.show(other["id"])["status"] == "pending"


def test_many_claims_at_once_take_one_row_of_a_series(api: Api) -> None:
    for number in range(6):
        api.add(1, source_digest=f"{number:064x}", n_instances=10 + number)
    for left in range(6, 0, -1):
        with ThreadPoolExecutor(6) as pool:
            claims = [c for c in pool.map(api.claim, [f"w{n}" for n in range(6)]) if c is not None]
        assert len(claims) == 1, left
        finish(api, claims[0], derived_series_instance_uid=f"2.25.{left}")
    assert api.claim() is None


def test_a_lease_that_is_renewed_while_others_claim_stays_the_only_one(api: Api) -> None:
    """It has run out: whoever comes first has it, a claim of another row or the renewal."""
    for round_number in range(4):
        first = api.add(round_number + 1)
        claimed = api.must_claim("w1", lease_s=5)
        api.add(round_number + 1, **grown())
        api.clock.advance(5)
        with ThreadPoolExecutor(4) as pool:
            token = {"lease_token": claimed["lease_token"]}
            renewal = pool.submit(api.post, f"/{first['id']}/lease", token)
            taken = [c for c in pool.map(api.claim, ["w2", "w3", "w4"]) if c is not None]
            renewed = renewal.result().status_code == 200
        assert len(taken) + renewed == 1
        for row in [*taken, *([claimed] if renewed else [])]:
            answer = api.post(f"/{row['id']}/outcome", skipped(row))
            assert answer.status_code == 200
        while (rest := api.claim("w5")) is not None:
            api.post(f"/{rest['id']}/outcome", skipped(rest))
