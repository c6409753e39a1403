"""What decides: identical arms are as good, and every finding that is missed makes it less so."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import special

from api_study import STUDIES
from api_support import Api, json_of
from halfscan_api.studies.protocol import Protocol, template
from statistics_fixtures import Simulation, fill_study

pytest_plugins = ["api_fixtures"]

FINDING = "disc_bulge"
CASES, LEVELS, READERS = 31, 5, 2
ENDPOINTS: list[dict[str, Any]] = [
    {"name": "found", "role": "primary", "kind": "detection", "hypothesis": "noninferiority",
     "item": FINDING, "margin": 0.05},
    {"name": "scores", "role": "secondary", "kind": "image_quality", "hypothesis": "equivalence",
     "item": "noise", "sequence": "sag_t1", "margin": 0.5},
    {"name": "readers", "role": "secondary", "kind": "detection", "item": FINDING,
     "hypothesis": "interchangeability", "margin": 0.1},
]  # fmt: skip
PROTOCOL = Protocol.model_validate({**template("tang2024").as_document(), "endpoints": ENDPOINTS})


@dataclass(frozen=True)
class Twins(Simulation):
    """The second arm's answers are those of the first, but for what is missed in it.

    `missed` is how many patients there are of whom one level is missed, by the first reader.
    """

    missed: int = 0

    def answers(self, case: str, arm: str, reader: str, repeat_round: int = 0) -> dict[str, Any]:
        first = self.protocol.arm_names[0]
        found = super().answers(case, first, reader, repeat_round)
        if reader == "r1":  # sees one level in every patient, which can be missed
            answer = next(one for one in found["findings"] if one["finding"] == FINDING)
            answer["value"] = int(arm == first or int(case[1:]) > self.missed)
        return found


def rows_of(api: Api, missed: int, kind: str) -> list[dict[str, Any]]:
    with api.database.write() as session:
        simulation = Twins(PROTOCOL, missed=missed)
        study = fill_study(session, simulation, name=f"missed{missed}", cases=CASES).id
    path = f"{STUDIES}/{study}/statistics/equivalence"
    answer = api.send("GET", path, role="statistician")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = json_of(answer)["rows"]
    return [row for row in rows if row["endpoint"] is not None and kind in {row["kind"], ""}]


def test_identical_arms_are_met(sqlite_api: Api) -> None:
    found = rows_of(sqlite_api, 0, "")
    assert {row["kind"] for row in found} == {"proportion", "mean", "interchangeability"}
    for row in found:
        assert (row["shown"], row["adjusted"]["significant"]) == (True, True), row["item"]
    together = next(row for row in found if row["kind"] == "proportion" and row["reader"] is None)
    n = CASES * LEVELS * READERS
    effect = 1 + (LEVELS * READERS - 1) * 0.1
    assert together["test"]["design_effect"] == pytest.approx(effect)
    t = np.sqrt(n / effect * 0.05 / 0.95)
    assert together["p_value"] == pytest.approx(special.stdtr(CASES - 1, -t))


def test_every_miss_makes_it_less_so(sqlite_api: Api) -> None:
    by_reader: dict[str | None, list[float]] = {}
    for missed in range(7):
        for row in rows_of(sqlite_api, missed, "proportion"):
            assert row["test"]["c"] == (0 if row["reader"] == "r2" else missed)
            by_reader.setdefault(row["reader"], []).append(row["p_value"])
            low = row["test"]["decision"]["interval"]["low"]
            assert row["shown"] == (row["p_value"] <= 0.05) == (low > -0.05)
    for reader in ("r1", None):
        assert (np.diff(by_reader[reader]) > 0).all(), reader
    assert np.ptp(by_reader["r2"]) == 0
    # Score test on the effective sample: 31 patients with 5 levels, two misses are met.
    assert [p <= 0.05 for p in by_reader["r1"]] == [True, True, True, False, False, False, False]


def test_the_page_names_the_test_that_decided(sqlite_api: Api) -> None:
    with sqlite_api.database.write() as session:
        study = fill_study(session, Twins(PROTOCOL), cases=CASES).id
    path = f"{STUDIES}/{study}/statistics/equivalence"
    page = sqlite_api.send("GET", path, role="statistician", query_string={"format": "html"}).text
    assert "score test (Nam 1997, Tango 1998) on counts over the design effect of patients" in page
    assert "exact sign tests: the differences have no spread" in page
    assert "too small" not in page
    assert "p (naive)" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": None}, "endpoint readers: interchangeability needs a margin"),
        ({"kind": "snr", "item": None}, "interchangeability is about detection, got snr"),
        ({"margin": 1.5}, "the margin of a proportion must be < 1, got 1.5"),
    ],
)
def test_a_margin_of_interchangeability_is_declared_right(
    api: Api, change: dict[str, Any], said: str
) -> None:
    document = PROTOCOL.as_document()
    document["endpoints"] = [{**ENDPOINTS[2], **change}]
    answer = api.send("POST", STUDIES, {"name": "x", "protocol": document}, role="coordinator")
    assert answer.status_code == 422
    assert said in answer.text
