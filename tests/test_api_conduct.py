"""How the readings went, what hangs on one patient, and where findings were lost."""

from typing import Any

import pytest

from api_study import Play, Reading, answered, start_study
from api_support import Api, json_of
from halfscan_api.studies.protocol import Protocol, template
from statistics_fixtures import Simulation, fill_study, tang_study

pytest_plugins = ["api_fixtures"]


def table(api: Api, study: int, name: str, **query: object) -> dict[str, Any]:
    path = f"/api/v1/studies/{study}/statistics/{name}"
    answer = api.send("GET", path, role="statistician", query_string=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = json_of(answer)
    return body


def rows_of(api: Api, study: int, name: str, kind: str) -> list[dict[str, Any]]:
    return [row for row in table(api, study, name)["rows"] if row["kind"] == kind]


def page(api: Api, study: int, name: str) -> str:
    path = f"/api/v1/studies/{study}/statistics/{name}?format=html"
    return api.send("GET", path, role="statistician").text


def read(play: Play, reader: str, number: int, seconds: float, **missing: int) -> list[str]:
    """Read a session, each reading with some answers of a section left out."""
    code, codes = play.session(reader, number), []
    while (reading := play.next(reader, code)) is not None:
        play.api.clock.advance(seconds)
        answers = answered(reading, lambda *what: sum(map(ord, "".join(what))))
        for section, items in answers.items():
            if items[missing.get(section, 0) :]:
                reading.put(section, items[missing.get(section, 0) :])
        reading.complete(**({"missing_reason": "no time"} if missing else {}))
        codes.append(reading.code)
    return codes


def test_times_and_missing_answers_by_reader_and_arm(api: Api) -> None:
    play = start_study(api, cases=3, washout_days=0)
    for number in (0, 1):
        read(play, "r1", number, 90)
        read(play, "r2", number, 240, scores=1, measurements=2)
    times = rows_of(api, play.study_id, "conduct", "reading_time")
    assert [(row["reader"], row["minutes"]["n"]) for row in times] == [
        *([("r1", 3)] * 2),
        *([("r2", 3)] * 2),
    ]
    assert [row["minutes"]["median"] for row in times] == pytest.approx([1.5, 1.5, 4, 4])
    found = rows_of(api, play.study_id, "conduct", "missing")
    counts = {
        (row["reader"], row["arm"], row["section"]): (row["n_missing"], row["n_given"])
        for row in found
    }
    for arm in ("standard", "accelerated"):
        assert counts["r1", arm, "scores"][0] == counts["r1", arm, "findings"][0] == 0
        assert counts["r2", arm, "scores"][0] == 3
        assert counts["r2", arm, "findings"][0] == 0
        assert counts["r2", arm, "measurements"][0] == 6
        assert counts["r1", arm, "scores"][1] == counts["r2", arm, "scores"][1] > 0
    assert "4.0 (4.0-4.0)" in page(api, play.study_id, "conduct")


def test_an_exclusion_that_was_taken_back_leaves_its_trace(api: Api) -> None:
    play = start_study(api, cases=3, washout_days=0)
    codes = read(play, "r1", 0, 60)
    play.run("POST", "/cases/P02/exclude", {"reason": "moved"})
    play.run("POST", "/cases/P02/readmit", {"reason": "it was P03 that moved"})
    place = play.place(codes[0])
    reading = Reading(play, "r1", {"code": codes[0]}, "")
    shown = reading.show()["answers"]
    score = {key: shown["scores"][0][key] for key in ("sequence", "criterion", "value")}
    score["value"] = 1 if score["value"] != 1 else 2
    answer = reading.amend(reason="misread the scale", scores=[score])
    assert answer.status_code == 200, answer.text
    changes = rows_of(api, play.study_id, "conduct", "change")
    assert [(row["action"], row["reason"]) for row in changes] == [
        ("case.exclude", "moved"),
        ("case.readmit", "it was P03 that moved"),
        ("reading.amend", "misread the scale"),
    ]
    assert [row["subject"] for row in changes] == ["P02", "P02", f"{place['case']}, reader r1"]
    told = page(api, play.study_id, "conduct")
    for words in ("taken back into the study", "it was P03 that moved", "misread the scale"):
        assert words in told
    path = f"/api/v1/studies/{play.study_id}/statistics/report"
    report = api.send("GET", path, role="statistician").text
    assert "1 exclusion was taken back" in report
    assert "it was P03 that moved" in report
    assert "None was excluded after enrolment" not in report


def test_findings_of_one_arm_alone_are_named(api: Api) -> None:
    study = tang_study(api, cases=8)
    found = rows_of(api, study, "failures", "disagreement")
    counted = rows_of_detection(api, study)
    for (item, reader), (lost, gained) in counted.items():
        here = [row for row in found if (row["item"], row["reader"]) == (item, reader)]
        assert sum(row["lost"] for row in here) == lost
        assert sum(not row["lost"] for row in here) == gained
    for row in found:
        assert (row["reference"] > 0, row["test"] > 0) == (row["lost"], not row["lost"])
    told = page(api, study, "failures")
    first = found[0]
    assert f"{first['case']} {first['level']} (" in told
    nothing = rows_of(api, study, "failures", "without_reconstruction")
    assert {(row["arm"], row["n"], row["n_given"]) for row in nothing} == {("accelerated", 8, 8)}


def rows_of_detection(api: Api, study: int) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (row["item"], row["reader"]): (row["reference_only"], row["test_only"])
        for row in rows_of(api, study, "detection", "detection")
        if row["reader"] is not None
    }


def test_without_each_patient(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=12)
    found = rows_of(sqlite_api, study, "robustness", "without_a_patient")
    equivalence = table(sqlite_api, study, "equivalence")["rows"]
    p_values = {
        (row["endpoint"], row["item"], row.get("place"), row["reader"]): row["p_value"]
        for row in equivalence
        if row["kind"] in {"proportion", "mean"}
    }
    assert {row["endpoint"] for row in found} == {
        "detection_noninferiority",
        "overall_quality_noninferiority",
    }
    for row in found:
        key = row["endpoint"], row["item"], row["place"], row["reader"]
        assert row["p_value"] == p_values[key]
        assert row["n_patients"] == 12
        assert 0 < row["p_lowest"] <= row["p_highest"] < 1
        assert row["shown"] == (row["p_value"] <= 0.05)
        turned = row["p_highest"] > 0.05 if row["shown"] else row["p_lowest"] <= 0.05
        assert (row["n_turned"] > 0) == turned


def test_what_was_planned_is_said(sqlite_api: Api) -> None:
    document = template("tang2024").as_document()
    document |= {"planned_cases": 40, "sample_size_rationale": "80 % power at 2 % discordance."}
    with sqlite_api.database.write() as session:
        simulation = Simulation(Protocol.model_validate(document))
        study = fill_study(session, simulation, cases=6).id
    told = page(sqlite_api, study, "sample-size")
    assert "40 cases planned, 6 included. 80 % power at 2 % discordance." in told


def test_sizes_of_the_regions_as_drawn(api: Api) -> None:
    play = start_study(api, cases=3, washout_days=0)
    read(play, "r1", 0, 60)
    read(play, "r1", 1, 60)
    found = rows_of(api, play.study_id, "snr", "size")
    assert {(row["item"], row["reader"], row["arm"]) for row in found} == {
        (item, "r1", arm) for item in ("psoas", "background") for arm in ("standard", "accelerated")
    }
    for row in found:
        area = row["area_mm2"]
        assert (area["mean"], area["sd"], area["minimum"], area["n"]) == (25.0, 0.0, 25.0, 3)
        assert (row["n_pixels"]["n"], row["n_pixels"]["reason"]) == (0, "too_few")
    told = page(api, play.study_id, "snr")
    assert "Size of the regions on Sagittal T1 images" in told
    assert "25.0 \N{PLUS-MINUS SIGN} 0.0" in told
    assert "What this ratio to the background cannot tell" in told
