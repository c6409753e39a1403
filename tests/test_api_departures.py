"""What the ledger says once series are deleted from the archive, and once they come back."""

from typing import Any

import pytest

from api_support import Api, done, json_of, series, skipped

pytest_plugins = ["api_fixtures"]

SOURCE = series(1)["orthanc_series_id"]
DERIVED = series(999)["orthanc_series_id"]
STUDY = series(500)["orthanc_series_id"]


def finish(api: Api, claimed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = api.post(f"/{claimed['id']}/outcome", done(claimed, **changes))
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def depart(api: Api, *series_ids: str) -> list[int]:
    answer = api.post("/departures", {"orthanc_series_ids": list(series_ids)})
    assert answer.status_code == 200, answer.text
    rows: list[int] = json_of(answer)["reconstructions"]
    return rows


def standing(api: Api, **query: Any) -> dict[str, Any]:
    answer = api.get("/standing", query_string=query)
    assert answer.status_code == 200, answer.text
    return json_of(answer)


@pytest.fixture
def made(api: Api) -> int:
    """Give a row that is done."""
    row = api.add(1, orthanc_study_id=STUDY)
    finish(api, api.must_claim())
    return int(row["id"])


def test_a_source_that_is_gone_goes_to_a_worker(api: Api, made: int) -> None:
    assert depart(api, SOURCE) == [made]
    assert depart(api, SOURCE) == [], "it waits already"
    claimed = api.must_claim()
    assert claimed["orthanc_study_id"] == STUDY
    [earlier] = claimed["supersedes"]
    assert earlier["derived_orthanc_series_id"] == DERIVED
    outcome = skipped(claimed, reason_code="series_not_found", replaced=["2.25.4242"])
    assert api.post(f"/{made}/outcome", outcome).status_code == 200
    assert depart(api, SOURCE, DERIVED) == [], "known"
    assert standing(api)["items"] == []
    again = api.post("", series(1))
    assert (again.status_code, json_of(again)["status"]) == (200, "pending"), "it came back"


def test_what_is_kept_without_its_source_is_marked_and_not_asked_about_again(
    api: Api, made: int
) -> None:
    depart(api, SOURCE)
    kept = skipped(api.must_claim(), reason_code="series_not_found", warnings=["it stays"])
    assert api.post(f"/{made}/outcome", kept).status_code == 200
    assert depart(api, SOURCE) == []
    [item] = standing(api)["items"]
    assert (item["source_missing"], item["source_digests"]) == (True, [])


@pytest.mark.parametrize("order", [[SOURCE, DERIVED], [DERIVED, SOURCE]])
def test_a_study_that_goes_as_a_whole_leaves_no_work(api: Api, made: int, order: list[str]) -> None:
    assert depart(api, *order) == [made]
    row = api.show(made)
    assert (row["status"], row["reason_code"]) == ("skipped", "series_not_found")
    assert row["derived_series_instance_uid"] is None
    assert row["attempts"][0]["derived_series_instance_uid"] == "2.25.4242"
    assert row["attempts"][0]["replaced_at"] is not None
    assert api.claim() is None
    assert json_of(api.post("", series(1)))["status"] == "pending", "sent again, made again"


def test_a_derived_series_that_somebody_deleted_is_not_made_again_by_itself(
    api: Api, made: int
) -> None:
    assert depart(api, DERIVED) == [made]
    row = api.show(made)
    assert (row["status"], row["reason_code"]) == ("skipped", "derived_deleted")
    assert "retry" in row["reason"]
    assert api.claim() is None
    assert standing(api)["items"] == []
    assert json_of(api.post(f"/{made}/retry"))["status"] == "pending"


def test_what_a_worker_removes_itself_is_its_own_to_tell(api: Api, made: int) -> None:
    api.add(1, source_digest="f" * 64, n_instances=13)
    claimed = api.must_claim()
    assert depart(api, DERIVED) == []
    new = {
        "derived_series_instance_uid": "2.25.77",
        "derived_orthanc_series_id": series(998)["orthanc_series_id"],
    }
    finish(api, claimed, replaced=["2.25.4242"], **new)
    assert api.show(made)["replaced_by"] == claimed["id"]
    assert depart(api, DERIVED) == []
    assert api.show(claimed["id"])["status"] == "done"


@pytest.mark.parametrize("is_done", [True, False])
def test_a_source_that_goes_while_a_worker_has_it_is_looked_at_again(
    api: Api, *, is_done: bool
) -> None:
    row_id = api.add(1)["id"]
    claimed = api.must_claim()
    assert depart(api, SOURCE) == [row_id]
    if is_done:
        assert finish(api, claimed)["status"] == "pending"
        assert len(api.must_claim()["supersedes"]) == 1
    else:
        outcome = skipped(claimed, reason_code="series_not_found")
        assert json_of(api.post(f"/{row_id}/outcome", outcome))["status"] == "skipped"
        assert api.claim() is None


def test_whatever_was_skipped_is_looked_at_anew_when_it_comes_back(api: Api) -> None:
    row_id = api.add(1)["id"]
    api.post(f"/{row_id}/outcome", skipped(api.must_claim()))
    assert depart(api, SOURCE, series(7)["orthanc_series_id"]) == [row_id]
    assert api.show(row_id)["reason_code"] == "series_not_found"
    assert json_of(api.post("", series(1)))["status"] == "pending"


def test_what_should_stand_is_listed_in_pages(api: Api) -> None:
    for number in range(1, 4):
        api.add(number, orthanc_study_id=STUDY)
        derived = series(900 + number)["orthanc_series_id"]
        finish(
            api,
            api.must_claim(),
            derived_series_instance_uid=f"2.25.{number}",
            derived_orthanc_series_id=derived,
        )
    api.add(9)
    first = standing(api, limit=2)
    rest = standing(api, after=first["next_after"], limit=2)
    assert rest["next_after"] is None
    items = [*first["items"], *rest["items"]]
    assert [item["derived_series_instance_uid"] for item in items] == ["2.25.1", "2.25.2", "2.25.3"]
    assert items[0] == {
        "id": 1,
        "orthanc_series_id": SOURCE,
        "orthanc_study_id": STUDY,
        "study_instance_uid": "1.2.826.0.1.1",
        "source_digests": [series(1)["source_digest"]],
        "n_instances": [12],
        "derived_series_instance_uid": "2.25.1",
        "derived_orthanc_series_id": series(901)["orthanc_series_id"],
        "derived_instances": 12,
        "source_missing": False,
    }


def test_what_was_looked_at_is_listed_in_pages(api: Api, made: int) -> None:
    skips = ["not_accelerated", "superseded", "halfscan_output", "missing_slices"]
    for number, code in enumerate(skips, 2):
        api.add(number)
        claimed = api.must_claim()
        api.post(f"/{claimed['id']}/outcome", skipped(claimed, reason_code=code))
    api.add(9)
    first = json_of(api.get("/sources", query_string={"limit": 2}))
    rest = json_of(api.get("/sources", query_string={"after": first["next_after"], "limit": 2}))
    assert rest["next_after"] is None
    items = {item["orthanc_series_id"]: item["n_instances"] for item in first["items"]}
    items |= {item["orthanc_series_id"]: item["n_instances"] for item in rest["items"]}
    assert items == {series(n)["orthanc_series_id"]: [12] for n in (1, 2, 5)}
    depart(api, SOURCE, DERIVED)
    listed = json_of(api.get("/sources", query_string={"gone": "true"}))["items"]
    assert {item["orthanc_series_id"]: item["n_instances"] for item in listed}[SOURCE] == []
    assert made == 1


def test_a_content_of_before_counts_until_it_gave_way(api: Api, made: int) -> None:
    row_id = api.add(1, source_digest="f" * 64, n_instances=11)["id"]
    claimed = api.must_claim()
    assert standing(api)["items"][0]["n_instances"] == [12, 11]
    api.post(f"/{row_id}/outcome", skipped(claimed, reason_code="superseded"))
    [item] = standing(api)["items"]
    assert (item["id"], item["n_instances"]) == (made, [12])


def test_rows_are_found_by_what_they_made_or_are_about_to(api: Api, made: int) -> None:
    def rows() -> list[int]:
        answer = api.get("", query_string={"derived_series_instance_uid": "2.25.4242"})
        return [row["id"] for row in json_of(answer)["items"]]

    assert rows() == [made]
    depart(api, DERIVED)
    assert rows() == []
    api.post(f"/{made}/retry")
    claimed = api.must_claim()
    token = {"lease_token": claimed["lease_token"], "derived_series_instance_uid": "2.25.4242"}
    api.post(f"/{made}/lease", token)
    assert rows() == [made]


def test_what_halfscan_wrote_is_looked_at_again_when_it_is_announced_again(api: Api) -> None:
    row_id = api.add(1)["id"]
    api.post(f"/{row_id}/outcome", skipped(api.must_claim(), reason_code="halfscan_output"))
    assert json_of(api.post("", series(1)))["status"] == "pending"


def test_a_copy_is_looked_at_again_when_its_source_goes(api: Api) -> None:
    source = api.add(5, orthanc_study_id=STUDY)
    api.post(f"/{source['id']}/outcome", skipped(api.must_claim()))
    beside = api.add(6, orthanc_study_id=STUDY)
    api.post(f"/{beside['id']}/outcome", skipped(api.must_claim()))
    noted = {"reason_code": "halfscan_output"}
    copy = api.add(7, orthanc_study_id=STUDY)["id"]
    claimed = api.must_claim()
    assert claimed["look_again"] is False
    outcome = skipped(claimed, **noted, source_orthanc_series_id=source["orthanc_series_id"])
    api.post(f"/{copy}/outcome", outcome)
    assert depart(api, beside["orthanc_series_id"]) == [beside["id"]], "no source of the copy"
    assert depart(api, source["orthanc_series_id"]) == [source["id"], copy]
    claimed = api.must_claim()
    assert (claimed["id"], claimed["look_again"]) == (copy, True)
    api.post(f"/{copy}/outcome", skipped(claimed, **noted))
    api.post(f"/{copy}/retry")
    assert api.must_claim()["look_again"] is False


def test_a_source_that_went_while_its_copy_was_looked_at(api: Api) -> None:
    source = api.add(5)
    api.post(f"/{source['id']}/outcome", skipped(api.must_claim()))
    copy = api.add(7)["id"]
    claimed = api.must_claim()
    depart(api, source["orthanc_series_id"])
    told = {"source_orthanc_series_id": source["orthanc_series_id"]}
    outcome = skipped(claimed, reason_code="halfscan_output", **told)
    assert json_of(api.post(f"/{copy}/outcome", outcome))["status"] == "pending"
    assert api.must_claim()["look_again"] is True


def test_what_was_to_wait_is_due_once_it_is_announced_whole(api: Api) -> None:
    api.add(1, delay_s=30)
    assert api.claim() is None
    api.post("", series(1))
    assert api.claim() is not None


def test_the_orthanc_study_of_an_old_row_is_noted_when_it_is_told(api: Api) -> None:
    row_id = api.add(1)["id"]
    assert api.show(row_id)["orthanc_study_id"] is None
    api.post("", series(1, orthanc_study_id=STUDY))
    assert api.show(row_id)["orthanc_study_id"] == STUDY


def test_the_last_comparison_stands_in_the_metrics(api: Api) -> None:
    assert api.get("/reconciliations/last").status_code == 204
    counts = {"checked": 9, "missing": 1, "stale": 2, "orphaned": 3, "doubled": 4, "unknown": 5}
    for mended in (0, 6):
        answer = api.post("/reconciliations", {**counts, "mended": mended})
        assert answer.status_code == 201, answer.text
    last = json_of(api.get("/reconciliations/last", role="coordinator"))
    assert last["mended"] == 6
    text = api.client.get("/metrics").text
    assert 'halfscan_archive_disagreements{kind="orphaned"} 3.0' in text
    assert 'halfscan_archive_disagreements{kind="mended"} 6.0' in text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in {"", "#"})
    compared = float(lines["halfscan_archive_compared_timestamp_seconds"])
    assert compared == api.clock().timestamp()


@pytest.mark.parametrize(
    "body", [{}, {"orthanc_series_ids": []}, {"orthanc_series_ids": ["x"]}, {"series": [SOURCE]}]
)
def test_departures_that_say_nothing_are_refused(api: Api, body: dict[str, Any]) -> None:
    assert api.post("/departures", body).status_code == 422
