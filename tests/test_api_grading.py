"""Visual grading over HTTP: the same as the package says of the same scores."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from api_support import Api, json_of
from halfscan_api.readings.tables import Score
from halfscan_api.studies.protocol import template
from halfscan_stats import cumulative_link_mixed_model, visual_grading_characteristics
from statistics_fixtures import Simulation, fill_study, tang_study

pytest_plugins = ["api_fixtures"]


def ask(api: Api, study: int, **query: object) -> Any:
    path = f"/api/v1/studies/{study}/statistics/visual-grading"
    answer = api.send("GET", path, role="statistician", query_string=query)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_table_is_what_the_package_says(api: Api) -> None:
    with api.database.write() as session:
        simulation = Simulation(template("tang2024"), missing=0.1)
        study = fill_study(session, simulation, cases=12).id
    rows = json_of(ask(api, study))["rows"]
    with api.database.snapshot() as session:
        scores = session.scalars(select(Score).where(Score.criterion == "noise")).all()
    here = [one for one in scores if one.sequence == "sag_t1"]
    area = visual_grading_characteristics(
        [one.value for one in here],
        [one.arm == "accelerated" for one in here],
        cluster=[one.case_id for one in here],
        categories=range(1, 5),
    )
    [found] = [
        row["answer"]
        for row in rows
        if (row["kind"], row["item"], row.get("place")) == ("vgc", "noise", "sag_t1")
        and row["reader"] is None
    ]
    assert found["value"] == pytest.approx(area.value)
    assert area.interval is not None
    assert found["interval"]["low"] == pytest.approx(area.interval.low)
    assert (found["n"], found["n_clusters"]) == (len(here), 12)
    sequences = sorted({one.sequence for one in scores})
    effects = {"test": [int(one.arm == "accelerated") for one in scores]}
    effects |= {name: [int(one.sequence == name) for one in scores] for name in sequences[1:]}
    model = cumulative_link_mixed_model(
        [one.value for one in scores],
        effects,
        cluster=[one.case_id for one in scores],
        reader=[one.reader_id for one in scores],
        categories=range(1, 5),
    )
    [fitted] = [row for row in rows if (row["kind"], row["item"]) == ("vgr", "noise")]
    effect = model.coefficient("test")
    assert effect is not None
    assert fitted["odds_ratio"] == pytest.approx(np.exp(effect.estimate), rel=1e-5)
    assert fitted["p_value"] == pytest.approx(effect.p_value, rel=1e-4)
    assert fitted["answer"]["n_readers"] == 2
    assert fitted["answer"]["readers"] == "random"
    assert 0 <= fitted["answer"]["lr_p_value"] <= 1
    several = visual_grading_characteristics(
        [one.value for one in here],
        [one.arm == "accelerated" for one in here],
        cluster=[one.case_id for one in here],
        reader=[one.reader_id for one in here],
        categories=range(1, 5),
    )
    likes = {
        (row["item"], row["place"], row["reader"]): row["random_readers"]
        for row in rows
        if row["kind"] == "vgc"
    }
    assert likes["noise", "sag_t1", "r1"] is None
    assert likes["noise", "sag_t1", None]["value"] == pytest.approx(several.value)
    assert likes["noise", "sag_t1", None]["p_value"] == pytest.approx(several.p_value)


def test_readers_are_what_the_query_says(api: Api) -> None:
    study = tang_study(api, cases=8)
    answer = json_of(ask(api, study, sequence="sag_t1", readers="fixed"))
    assert answer["options"]["readers"] == "fixed"
    models = [row["answer"] for row in answer["rows"] if row["kind"] == "vgr"]
    assert {one["readers"] for one in models} == {"fixed"}
    assert {one["sd_reader"] for one in models} == {None}
    assert any("readers fixed" in method for method in answer["methods"])
    assert any("these readers" in note for note in answer["notes"])
    page = ask(api, study, sequence="sag_t1", format="html").text
    assert "p, likelihood ratio" in page
    assert "AUC, readers random" in page
    assert "few readers say little" in page
    path = f"/api/v1/studies/{study}/statistics/visual-grading?readers=none"
    assert api.send("GET", path, role="statistician").status_code == 422


def test_every_format_and_a_study_without_scores(api: Api) -> None:
    study = tang_study(api, cases=6)
    page = ask(api, study, format="html", sequence="sag_t1").text
    assert "Visual grading regression: Accelerated TSE" in page
    assert "Visual grading characteristics on Sagittal T1 images" in page
    assert "Sagittal T2" not in page
    assert "chance that a score with the test protocol is above" in page
    for line in ask(api, study, format="csv").text.splitlines()[:1]:
        assert "odds_ratio" in line
    path = f"/api/v1/studies/{study}/statistics/visual-grading?sequence=nothing"
    assert api.send("GET", path, role="statistician").status_code == 422
