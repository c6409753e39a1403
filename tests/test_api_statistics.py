"""Every table over HTTP: formats, revision, blinding, undefined answers, and the counts behind."""

import csv
import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from api_study import STUDIES, Play, plain_answers, start_study
from api_support import Api, json_of
from halfscan_api.readings.tables import AnswerKind, Finding, Score
from halfscan_api.statistics import options, results
from halfscan_api.statistics.counts import (
    PairCounts,
    Side,
    ValueCounts,
    no_tables,
    patient_tables,
)
from halfscan_api.statistics.differing import score_difference_text
from halfscan_api.statistics.frame import load_frame, scale_of, units_of
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.service import SUBJECTS, compute_table
from halfscan_api.studies.protocol import Protocol, template
from halfscan_api.studies.service import get_study
from halfscan_stats import (
    Interval,
    choose_paired_test,
    cohen_kappa,
    icc,
    mcnemar,
    wilcoxon_signed_rank,
)
from statistics_fixtures import Simulation, bump, fill_study, tang_study

pytest_plugins = ["api_fixtures"]


def ask(
    api: Api, study: int, name: str, *, role: str = "statistician", **query: Any
) -> TestResponse:
    accept = query.pop("accept", None)
    headers = {"Authorization": f"Bearer {api.tokens[role]}"}
    headers |= {"Accept": accept} if accept else {}
    headers |= query.pop("headers", {})
    path = f"{STUDIES}/{study}/statistics/{name}"
    return api.client.get(path, headers=headers, query_string=query)


def table(api: Api, study: int, name: str, **query: Any) -> dict[str, Any]:
    answer = ask(api, study, name, **query)
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def rows(api: Api, study: int, name: str, kind: str, **query: Any) -> list[dict[str, Any]]:
    return [row for row in table(api, study, name, **query)["rows"] if row["kind"] == kind]


def answers_by_case(api: Api, study: int, answer: type[Score] | type[Finding]) -> dict[Any, Any]:
    """Every answer, row by row: (item, place, reader, arm) -> case -> value."""
    item, place = ("criterion", "sequence") if answer is Score else ("finding", "level")
    found: dict[Any, Any] = {}
    with api.database.read() as session:
        answers: Any = session.scalars(select(answer).where(answer.study_id == study))
        for row in answers:
            key = (getattr(row, item), getattr(row, place), row.reader_id, row.arm)
            found.setdefault(key, {})[row.case_id] = row.value
    return found


def paired(first: dict[int, int], second: dict[int, int]) -> tuple[list[int], list[int]]:
    both = sorted(first.keys() & second.keys())
    return [first[case] for case in both], [second[case] for case in both]


# --- every table, in every format ---------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.15], ids=["complete", "with missing answers"])
def test_every_table_in_every_format_says_the_same(api: Api, missing: float) -> None:
    study = tang_study(api, missing=missing, cases=9)
    for name in SUBJECTS:
        body = table(api, study, name)
        assert (body["table"], body["study"], body["revision"]) == (name, "filled", 1)
        assert body["rows"], name
        text_of = json.dumps(body, allow_nan=False)
        assert "NaN" not in text_of
        lines = list(csv.DictReader(io.StringIO(ask(api, study, name, format="csv").text)))
        assert len(lines) == len(body["rows"])
        assert {line["kind"] for line in lines} == {row["kind"] for row in body["rows"]}
        page = ask(api, study, name, format="html")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.text.startswith("<!DOCTYPE html>")
        for method in body["methods"]:
            assert str(escape(method)) in page.text
        for reason, meaning in body["reasons"].items():
            assert meaning
            # The page explains the brackets that stand in it, no others.
            assert (f"<b>{reason}</b>" in page.text) == (f"[{reason}]" in page.text)
            assert reason in ask(api, study, name, format="csv").text


def test_the_header_accept_chooses_where_the_query_does_not(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=2)
    for accept, expected in (
        ("text/csv", "text/csv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "application/json"),
    ):
        answer = ask(sqlite_api, study, "participants", accept=accept)
        assert answer.mimetype == expected
        assert "Accept" in answer.headers["Vary"]
    assert ask(sqlite_api, study, "snr", accept="text/csv", format="html").mimetype == "text/html"
    assert ask(sqlite_api, study, "snr", format="xml").status_code == 422


def test_csv_and_json_hold_the_same_numbers_to_the_last_digit(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=12)
    body = rows(sqlite_api, study, "agreement", "kappa", section="findings")
    text_of = ask(sqlite_api, study, "agreement", section="findings", format="csv").text
    for row, line in zip(body, csv.DictReader(io.StringIO(text_of)), strict=True):
        value, interval = row["kappa"]["value"], row["kappa"]["interval"]
        assert line["kappa.value"] == ("" if value is None else repr(value))
        if interval is not None:
            assert float(line["kappa.interval.low"]) == interval["low"]
            assert (
                float(line["kappa.cluster_interval.high"])
                == row["kappa"]["cluster_interval"]["high"]
            )
        assert json.loads(line["table"]) == row["table"]
        assert line["kappa.n_missing"] == "0"


def test_what_a_study_is_called_cannot_break_out_of_the_page(sqlite_api: Api) -> None:
    evil = '<script>alert("x")</script>'
    play = start_study(
        sqlite_api,
        cases=1,
        findings=[{"name": "f", "label": evil, "levels": ["L1"]}],
        title=evil,
    )
    for name in SUBJECTS:
        page = ask(sqlite_api, play.study_id, name, format="html")
        assert page.status_code == 200, page.text
        assert "<script" not in page.text
        assert "script-src" not in page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_an_empty_study_answers_every_table_with_reasons(api: Api) -> None:
    """No case, no reader, no answer: nothing is a number, nothing is an error."""
    answer = api.send("POST", STUDIES, {"name": "e", "template": "tang2024"}, role="coordinator")
    study = json_of(answer)["id"]
    for name in SUBJECTS:
        for form in ("json", "csv", "html"):
            assert ask(api, study, name, format=form).status_code == 200, (name, form)
    [*_, step] = rows(api, study, "participants", "step")
    assert (step["step"], step["n"]) == ("read_throughout", 0)
    for row in rows(api, study, "scan-time", "saving"):
        assert (row["saving_percent"], row["reason"], row["n"]) == (None, "too_few", 0)


def test_a_study_with_one_reader_compares_the_arms_alone(api: Api) -> None:
    study = tang_study(api, cases=6, readers=("r1",))
    for name in SUBJECTS:
        assert ask(api, study, name, format="html").status_code == 200, name
    found = {row["compared"]["comparison"] for row in table(api, study, "agreement")["rows"]}
    assert found == {"inter_protocol"}
    answers = [row["answer"] for row in rows(api, study, "equivalence", "interchangeability")]
    assert {(one["value"], one["reason"]) for one in answers} == {(None, "too_few")}


def test_more_than_two_readers_have_fleiss_kappa_and_every_pair(api: Api) -> None:
    study = tang_study(api, cases=8, readers=("r1", "r2", "r3"))
    body = table(api, study, "agreement", section="findings")
    pairs = {
        tuple(row["compared"]["readers"])
        for row in body["rows"]
        if row["kind"] == "kappa" and row["compared"]["comparison"] == "inter_reader"
    }
    assert pairs == {("r1", "r2"), ("r1", "r3"), ("r2", "r3")}
    fleiss = [row for row in body["rows"] if row["kind"] == "fleiss"]
    assert len(fleiss) == 8 * 2
    assert {row["kappa"]["n"] for row in fleiss} == {8 * 5}
    assert {row["kappa"]["n_clusters"] for row in fleiss} == {8}


@pytest.mark.parametrize("name", sorted(SUBJECTS))
def test_a_study_that_is_not_there(sqlite_api: Api, name: str) -> None:
    for study in (99, 2**70):
        answer = ask(sqlite_api, study, name)
        assert (answer.status_code, json_of(answer)["title"]) == (404, "Study not found")


def test_the_list_names_every_table(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=1)
    answer = sqlite_api.send("GET", f"{STUDIES}/{study}/statistics", role="coordinator")
    body = json_of(answer)
    assert [item["name"] for item in body["items"]] == list(SUBJECTS)
    for item in body["items"]:
        assert sqlite_api.send("GET", item["href"], role="coordinator").status_code == 200


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("image-quality", {"sequence": "sag_t9"}, "sequence: must be one of sag_t1"),
        ("snr", {"sequence": "nothing"}, "sequence: must be one of"),
        ("agreement", {"weights": "cubic"}, "weights"),
        ("agreement", {"level": "1"}, "level"),
        ("detection", {"alpha": "0.7"}, "alpha"),
        ("mrmc", {"truth_reader": "nobody"}, "truth_reader: must be one of r1, r2"),
        ("mrmc", {"truth_arm": "x", "truth_reader": "r1"}, "truth_arm: must be one of standard"),
        ("mrmc", {"figure": "sensitivity", "covariance": "unbiased"}, "covariance: unbiased"),
        ("sample-size", {"power": "1"}, "power"),
        ("sample-size", {"power": "0.01"}, "power: must be above alpha"),
        ("sample-size", {"delta": "1"}, "delta: is of no use without sd"),
        ("sample-size", {"margin": "0.1", "p10": "0.1"}, "margin: is of no use without p01"),
        ("sample-size", {"icc": "0.1"}, "icc: is of no use without cluster_size"),
        ("sample-size", {"p10": "0.9", "p01": "0.9"}, "p01: p10 + p01 must be at most 1"),
        ("participants", {"level": "0.9"}, "unknown name"),
    ],
)
def test_options_that_are_refused(
    sqlite_api: Api, name: str, query: dict[str, str], says: str
) -> None:
    study = tang_study(sqlite_api, cases=1)
    answer = ask(sqlite_api, study, name, **query)
    assert answer.status_code == 422
    assert says in json_of(answer)["detail"]


# --- the numbers against the rows ---------------------------------------------------------------


@pytest.fixture
def filled(api: Api) -> tuple[Api, int]:
    """The reference study with a tenth of the answers missing, and two readings to come."""
    unread = [("r1", "P0003", "accelerated"), ("r2", "P0005", "standard")]
    return api, tang_study(api, cases=14, missing=0.1, unread=unread)


def test_kappas_of_scores_are_those_of_the_rows(filled: tuple[Api, int]) -> None:
    api, study = filled
    given = answers_by_case(api, study, Score)
    found = rows(api, study, "agreement", "kappa", section="scores")
    assert len(found) == 11 * 4 * 4
    for row in found:
        readers = [int(name[1]) for name in row["compared"]["readers"]]
        sides = (
            [(reader, row["compared"]["arms"][0]) for reader in readers]
            if len(readers) == 2
            else [(readers[0], arm) for arm in row["compared"]["arms"]]
        )
        first, second = paired(*(given[row["item"], row["place"], *side] for side in sides))
        expected = cohen_kappa(first, second, categories=(1, 2, 3, 4), weights="linear")
        assert (row["kappa"]["n"], row["kappa"]["n_given"]) == (len(first), 14)
        assert row["kappa"]["value"] == pytest.approx(expected.value, abs=1e-12)
        assert row["kappa"]["weights"] == "linear"
        reason = None if expected.reason is None else expected.reason.value
        assert row["kappa"]["reason"] == reason
        assert row["kappa"]["raw_agreement"] == pytest.approx(expected.raw_agreement)
        assert row["kappa"]["word"] == expected.word


def test_kappas_of_findings_allow_for_patients(filled: tuple[Api, int]) -> None:
    api, study = filled
    given = answers_by_case(api, study, Finding)
    for row in rows(api, study, "agreement", "kappa", section="findings"):
        if row["compared"]["comparison"] != "inter_protocol":
            continue
        reader = int(row["compared"]["readers"][0][1])
        first, second, patients = [], [], []
        for level in ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"):
            one, other = (
                given[row["item"], level, reader, arm] for arm in ("standard", "accelerated")
            )
            both = sorted(one.keys() & other.keys())
            first += [one[case] for case in both]
            second += [other[case] for case in both]
            patients += both
        expected = cohen_kappa(first, second, categories=(0, 1), cluster=patients)
        kappa = row["kappa"]
        assert (kappa["n"], kappa["n_given"]) == (len(first), 14 * 5)
        assert kappa["value"] == pytest.approx(expected.value, abs=1e-12)
        for name in ("interval", "cluster_interval"):
            limits = getattr(expected, name)
            if limits is None:
                assert kappa[name] is None
            else:
                assert kappa[name]["low"] == pytest.approx(limits.low, abs=1e-12)
                assert kappa[name]["high"] == pytest.approx(limits.high, abs=1e-12)
        assert kappa["n_clusters"] == expected.n_clusters


def test_differences_of_scores_are_those_of_the_rows(filled: tuple[Api, int]) -> None:
    api, study = filled
    given = answers_by_case(api, study, Score)
    found = rows(api, study, "image-quality", "difference", difference_test="wilcoxon")
    single = [row for row in found if row["level"] == "criterion"]
    assert len(single) == 11 * 4 * 2
    for row in single:
        reader = int(row["reader"][1])
        arms = [
            given[row["item"], row["place"], reader, arm] for arm in ("standard", "accelerated")
        ]
        first, second = paired(*arms)
        expected = wilcoxon_signed_rank(second, first)
        assert row["difference"]["wilcoxon"]["p_value"] == pytest.approx(expected.p_value)
        assert row["difference"]["chosen"] == "wilcoxon"
        assert row["difference"]["by"] == "protocol"
        assert row["reference"]["n"] == len(arms[0])
        assert row["reference"]["mean"] == pytest.approx(np.mean(list(arms[0].values())))
        assert row["difference"]["n"] == len(first)
        assert row["difference"]["n_missing"] == 14 - len(first)


def test_a_group_of_criteria_is_one_value_a_case(filled: tuple[Api, int]) -> None:
    api, study = filled
    given = answers_by_case(api, study, Score)
    names = [one.name for one in template("tang2024").criteria if one.group == "sharpness"]
    assert len(names) == 7
    for row in rows(api, study, "image-quality", "difference", sequence="sag_t2"):
        if row["level"] != "group":
            continue
        reader = int(row["reader"][1])
        means = []
        for arm in ("standard", "accelerated"):
            by_name = [given[name, "sag_t2", reader, arm] for name in names]
            complete = set.intersection(*(set(one) for one in by_name))
            means.append({case: np.mean([one[case] for one in by_name]) for case in complete})
        first, second = paired(*means)
        assert row["difference"]["n"] == len(first)
        assert row["reference"]["mean"] == pytest.approx(np.mean(list(means[0].values())))
        difference = np.mean(np.subtract(second, first))
        assert row["difference"]["t"]["mean_difference"] == pytest.approx(difference)


def test_detection_is_that_of_the_rows(filled: tuple[Api, int]) -> None:
    api, study = filled
    given = answers_by_case(api, study, Finding)
    found = rows(api, study, "detection", "detection")
    assert len(found) == 8 * 3
    for row in found:
        if row["reader"] is None:
            parts = [one for one in found if one["item"] == row["item"] and one["reader"]]
            for name in ("n", "n_given", "total", "both", "reference_only", "test_only", "neither"):
                assert row[name] == sum(part[name] for part in parts)
            assert row["clustered"]["n_clusters"] <= 14
            continue
        cells = {(0, 0): 0, (0, 1): 0, (1, 0): 0, (1, 1): 0}
        for level in ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"):
            reader = int(row["reader"][1])
            one, other = (
                given[row["item"], level, reader, arm] for arm in ("standard", "accelerated")
            )
            for pair in zip(*paired(one, other), strict=True):
                cells[pair] += 1
        counted = (row["neither"], row["test_only"], row["reference_only"], row["both"])
        assert counted == tuple(cells.values())
        assert row["total"] == sum(counted) - row["neither"]
        test = row["mcnemar"]
        assert test["difference"] == pytest.approx((cells[0, 1] - cells[1, 0]) / row["n"])
        assert test["p_value"] == mcnemar(cells[0, 1], cells[1, 0], row["n"]).p_value


def test_levels_add_up(filled: tuple[Api, int]) -> None:
    api, study = filled
    found = rows(api, study, "detection", "detection", by_level=True)
    whole = {(row["item"], row["reader"]): row for row in found if row["place"] is None}
    for key, row in whole.items():
        levels = [one for one in found if (one["item"], one["reader"]) == key and one["place"]]
        assert len(levels) == 5
        for name in ("n", "n_given", "total", "both"):
            assert row[name] == sum(level[name] for level in levels)


def test_iccs_say_whether_they_are_pooled(filled: tuple[Api, int]) -> None:
    api, study = filled
    for name in ("snr", "agreement"):
        iccs = rows(api, study, name, "icc")
        mine = [row for row in iccs if (row["item"], row["place"]) == ("psoas", "sag_t1")]
        scopes = [
            (row["compared"]["scope"], tuple(row["compared"]["arms"]))
            for row in mine
            if row["compared"]["comparison"] == "inter_reader"
        ]
        assert scopes == [
            ("within", ("standard",)),
            ("within", ("accelerated",)),
            ("pooled", ("standard", "accelerated")),
        ]
        within, _, pooled = (row["icc"] for row in mine[:3])
        assert (within["n_given"], pooled["n_given"]) == (14, 28)
        assert within["n"] <= 14 < pooled["n"]
        assert within["n_clusters"] is None
        # Patients who have a complete pair in one arm at least.
        assert within["n"] <= pooled["n_clusters"] <= 14
        assert pooled["cluster_interval"] != pooled["interval"]


def test_the_icc_is_that_of_the_snr(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=10)
    simulation = Simulation(template("tang2024"))
    values = []
    for number in range(1, 11):
        both = []
        for reader in ("r1", "r2"):
            measured = simulation.answers(f"P{number:04}", "standard", reader)["measurements"]
            of = {one["region"]: one for one in measured if one["sequence"] == "tra_t2"}
            both.append(of["csf"]["mean"] / of["background"]["sd"])
        values.append(both)
    expected = icc(values)
    [found, *_] = [
        row["icc"]
        for row in rows(sqlite_api, study, "snr", "icc", sequence="tra_t2")
        if row["item"] == "csf"
    ]
    assert found["value"] == pytest.approx(expected.value)
    assert found["form"] == "A,1"


def test_scan_times_of_the_reference_study(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api)
    [total] = [
        row for row in rows(sqlite_api, study, "scan-time", "saving") if row["item"] == "total"
    ]
    assert (total["reference_s"], total["test_s"], total["n"]) == (317, 175, 31)
    assert total["saving_percent"] == pytest.approx(44.795, abs=1e-3)
    for row in rows(sqlite_api, study, "scan-time", "difference"):
        choice = row["difference"]
        assert choice["t"]["reason"] == "constant_difference"
        assert choice["t"]["p_value"] is None
        # Settings, not a sample: no test stands in for the one that cannot be.
        assert choice["wilcoxon"]["p_value"] is None
        assert choice["wilcoxon"]["reason"] == "constant_difference"
        assert choice["wilcoxon"]["pseudomedian"] == choice["t"]["mean_difference"]
        assert row["adjusted"]["p_value"] is None


def test_a_number_below_zero_that_rounds_to_zero_has_no_sign() -> None:
    minus = "\N{MINUS SIGN}"
    assert [results.number(value, 3) for value in (-0.0001, -0.0, -0.0006, None)] == [
        *("0.000", "0.000", f"{minus}0.001", "\N{EN DASH}")
    ]
    shown = results.with_interval(-1e-9, Interval(-0.02, 0.0), None)
    assert shown == f"0.00 ({minus}0.02,\N{NO-BREAK SPACE}0.00)"


def test_table_1_is_what_enrolment_noted(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=3)
    found = {
        (row["item"], row["place"], row["arm"]): row
        for row in rows(sqlite_api, study, "protocol", "parameter")
    }
    row = found["tr_ms", "sag_t1", "standard"]
    assert (row["value"], row["values"], row["n"], row["label"]) == (621, 1, 3, "TR [ms]")
    assert found["fov_mm", "tra_t2", "accelerated"]["value"] == [180, 180]
    row = found["acceleration_factor", "sag_t1", "standard"]
    assert (row["value"], row["reason"], row["n"]) == (None, "not_in_headers", 0)
    page = ask(sqlite_api, study, "protocol", format="html").text
    # As the publication prints it: no code of ours, no count of nothing.
    assert "<td>None</td>" in page
    assert "not_in_headers" not in page.split("<tbody>")[1].split("</tbody>")[0]
    assert "280 \N{MULTIPLICATION SIGN} 280" in page


def test_parameters_that_differ_show_their_range(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=3)
    with sqlite_api.database.write() as session:
        session.execute(
            text(
                "UPDATE case_series SET parameters = json_set(parameters, '$.tr_ms', 700) "
                "WHERE case_id = 1 AND arm = 'standard' AND sequence = 'sag_t1'"
            )
        )
    [row] = [
        row
        for row in rows(sqlite_api, study, "protocol", "parameter")
        if (row["item"], row["place"], row["arm"]) == ("tr_ms", "sag_t1", "standard")
    ]
    assert (row["value"], row["values"], row["low"], row["high"]) == (621, 2, 621, 700)
    assert "621 [621 to 700]" in ask(sqlite_api, study, "protocol", format="html").text


# --- options ------------------------------------------------------------------------------------


def test_the_protocol_fixes_the_test_unless_the_query_does(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=10)
    for asked, chosen in (("paired_t", {"t"}), ("wilcoxon", {"wilcoxon"})):
        found = rows(sqlite_api, study, "snr", "difference", difference_test=asked)
        assert {row["difference"]["chosen"] for row in found} == chosen
    found = rows(sqlite_api, study, "snr", "difference")
    assert {row["difference"]["by"] for row in found} == {"normality"}
    for row in found:
        normal = row["difference"]["normality"]["p_value"] >= 0.05
        assert row["difference"]["chosen"] == ("t" if normal else "wilcoxon")


def agrees_with_p(choice: dict[str, Any]) -> bool:
    """Fail where what is shown and its interval speak against p; whether p is below 0.05."""
    t, ranks, p = choice["t"], choice["wilcoxon"], choice["p_value"]
    small: bool = p is not None and p < 0.05
    if choice["chosen"] == "t":
        value, interval = t["mean_difference"], t["interval"]
        excludes = interval is not None and interval["low"] * interval["high"] > 0
    else:
        value, interval = ranks["hodges_lehmann"], ranks["hodges_lehmann_interval"]
        excludes = bool(ranks["hodges_lehmann_excludes_zero"])
        if value is not None:
            assert value * (ranks["w_plus"] - ranks["w_minus"]) >= 0
    assert excludes == small
    if interval is not None:
        assert interval["low"] <= value <= interval["high"]
        assert small or interval["low"] <= 0 <= interval["high"]
        assert not small or interval["low"] >= 0 or interval["high"] <= 0
    return small


def test_what_is_shown_comes_near_to_zero_without_holding_it() -> None:
    improved = choose_paired_test([1] * 14 + [-1] * 4, [0] * 18, by="wilcoxon")
    assert score_difference_text(improved, 2) == (
        "14 higher, 4 lower, 0 same\nHodges-Lehmann 1.00 (>\xa00.00,\xa01.00)\nn 18 of 18"
    )
    worsened = choose_paired_test([-1] * 141 + [1] * 59, [0] * 200, by="wilcoxon")
    assert worsened.p_value is not None
    assert worsened.p_value < 0.001
    assert "Hodges-Lehmann <\xa00.00 (\u22121.00,\xa0<\xa00.00)" in score_difference_text(
        worsened, 2
    )
    same = choose_paired_test([2, 2], [2, 2], by="wilcoxon")
    assert score_difference_text(same, 2).splitlines()[0] == "0 higher, 0 lower, 2 same"


def test_a_row_of_scores_does_not_contradict_itself(sqlite_api: Api) -> None:
    """One summary style, counts that add up, and a difference on the side that p speaks for."""
    exact = significant = shown = 0
    for seed in range(3):
        with sqlite_api.database.write() as session:
            simulation = Simulation(template("tang2024"), seed=seed, missing=0.05)
            study = fill_study(session, simulation, name=f"scores{seed}", cases=31).id
        for row in rows(sqlite_api, study, "image-quality", "difference"):
            choice = row["difference"]
            ranks = choice["wilcoxon"]
            assert row["reference"]["shown"] == row["test"]["shown"]
            assert row["test"]["shown"] == ("mean_sd" if choice["chosen"] == "t" else "median_iqr")
            assert ranks["n_positive"] + ranks["n_negative"] == ranks["n_nonzero"] <= ranks["n"]
            exact += choice["p_method"] == "wilcoxon_exact"
            shown += 1
            significant += agrees_with_p(choice)
    assert shown > 89
    assert exact > 20
    assert significant > 20
    page = ask(sqlite_api, study, "image-quality", sequence="sag_t1", format="html").text
    assert re.search(r"\d+ higher, \d+ lower, \d+ same", page)
    assert "Wilcoxon, exact" in page
    assert "exact below 20 pairs that differ" in page


def test_p_values_are_adjusted_as_the_protocol_declares(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=10)
    for row in rows(sqlite_api, study, "image-quality", "difference", sequence="sag_t1"):
        test = row["difference"][row["difference"]["chosen"]]
        assert row["adjusted"]["n_tests"] == 2
        difference = row["difference"]
        exact = difference["p_method"] == "wilcoxon_exact"
        assert exact == (difference["chosen"] == "wilcoxon" and 0 < test["n_nonzero"] < 20)
        assert difference["p_value"] == test["p_exact" if exact else "p_value"]
        assert row["adjusted"]["p_value"] == pytest.approx(min(1, 2 * difference["p_value"]))


def test_without_a_stated_size_a_table_is_one_family(sqlite_api: Api) -> None:
    document = {**template("tang2024").as_document(), "multiplicity": {"method": "holm"}}
    with sqlite_api.database.write() as session:
        simulation = Simulation(Protocol.model_validate(document))
        study = fill_study(session, simulation, cases=10).id
    found = rows(sqlite_api, study, "snr", "difference", sequence="sag_t1")
    whole = rows(sqlite_api, study, "snr", "difference")
    assert {row["adjusted"]["n_tests"] for row in found} == {len(whole)}
    # What is shown changes no p-value.
    assert [row for row in whole if row["place"] == "sag_t1"] == found
    shown = rows(sqlite_api, study, "image-quality", "difference", sequence="sag_t2")
    whole = rows(sqlite_api, study, "image-quality", "difference")
    assert [row for row in whole if row["place"] == "sag_t2"] == shown
    shown = rows(sqlite_api, study, "detection", "detection")
    whole = rows(sqlite_api, study, "detection", "detection", by_level="true")
    assert [row for row in whole if row["place"] is None] == shown
    found = rows(sqlite_api, study, "snr", "difference", sequence="sag_t1")
    assert all(
        row["adjusted"]["p_value"] >= row["difference"][row["difference"]["chosen"]]["p_value"]
        for row in found
    )


def test_the_level_moves_every_interval(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=10)
    for name, kind, path in (
        ("agreement", "kappa", "kappa"),
        ("agreement", "icc", "icc"),
        ("detection", "detection", "mcnemar"),
    ):
        wide = rows(sqlite_api, study, name, kind, level=0.99)
        narrow = rows(sqlite_api, study, name, kind, level=0.8)
        for one, other in zip(wide, narrow, strict=True):
            if one[path]["interval"] and other[path]["interval"]:
                assert one[path]["interval"]["level"] == 0.99
                assert one[path]["interval"]["low"] <= other[path]["interval"]["low"]


def test_noninferiority_of_every_declared_endpoint(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=20)
    proportions = rows(sqlite_api, study, "equivalence", "proportion")
    assert len(proportions) == 8 * 3
    for row in proportions:
        test = row["test"]
        assert (row["endpoint"], row["hypothesis"]) == (
            "detection_noninferiority",
            "noninferiority",
        )
        assert (test["margin"], test["alpha"], test["interval"]["level"]) == (0.05, 0.05, 0.9)
        decision = test["decision"]
        assert row["p_value"] == decision["p_value"] == decision["p_lower"]
        assert "design effect of patients" in decision["method"]
        assert row["adjusted"]["p_value"] >= row["p_value"]
        assert row["shown"] == test["noninferior"] == (row["p_value"] <= 0.05)
        assert row["shown"] == (decision["interval"]["low"] > -0.05)
        assert test["n_clusters"] == 20
    means = rows(sqlite_api, study, "equivalence", "mean")
    assert [row["place"] for row in means[::2]] == ["sag_t1", "sag_t2", "sag_t2_fs", "tra_t2"]
    for row in means:
        assert (row["margin"], row["p_value"]) == (0.5, row["test"]["p_low"])
    index = rows(sqlite_api, study, "equivalence", "interchangeability")
    assert len(index) == 8
    # The margin of non-inferiority is none of interchangeability.
    assert {(row["answer"]["margin"], row["endpoint"], row["shown"]) for row in index} == {
        (None, None, None)
    }


def test_equivalence_of_every_kind_of_endpoint(sqlite_api: Api) -> None:
    endpoints = [
        {"name": "e1", "role": "primary", "kind": "detection", "hypothesis": "equivalence",
         "item": "disc_bulge", "margin": 0.1},
        {"name": "e2", "role": "primary", "kind": "snr", "hypothesis": "noninferiority",
         "item": "psoas", "sequence": "sag_t1", "margin": 5},
        {"name": "e3", "role": "secondary", "kind": "scan_time", "hypothesis": "noninferiority",
         "margin": 10},
        {"name": "e4", "role": "secondary", "kind": "image_quality", "hypothesis": "equivalence",
         "item": "noise", "margin": 1},
        {"name": "e5", "role": "primary", "kind": "detection", "item": "disc_bulge",
         "hypothesis": "interchangeability", "margin": 0.1},
    ]  # fmt: skip
    document = {**template("tang2024").as_document(), "endpoints": endpoints}
    with sqlite_api.database.write() as session:
        study = fill_study(session, Simulation(Protocol.model_validate(document)), cases=12).id
    found = table(sqlite_api, study, "equivalence")["rows"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        by_name.setdefault(row.get("endpoint", ""), []).append(row)
    sizes = {name: len(by_name[name]) for name in by_name}
    assert sizes == {"e1": 3, "e2": 2, "e3": 1, "e4": 8, "e5": 1, None: 7}
    for row in by_name["e1"]:
        interval = row["test"]["decision"]["interval"]
        low, high = interval["low"], interval["high"]
        assert row["shown"] == (low > -0.1 and high < 0.1)
    for row in by_name["e2"]:
        assert row["p_value"] == row["test"]["p_low"]
    # The same times in every case: no spread for a t-test, and twelve signs.
    [time] = by_name["e3"]
    assert (time["test"]["p_value"], time["test"]["reason"]) == (None, "constant_difference")
    assert time["test"]["mean_difference"] == 175 - 317
    assert (time["p_value"], time["shown"]) == (0.5**12, True)
    assert "sign test" in time["test"]["decision"]["method"]
    for row in by_name["e4"]:
        assert row["p_value"] == row["test"]["decision"]["p_value"] is not None
    [index] = by_name["e5"]
    decision = index["answer"]["decision"]
    assert (index["role"], index["answer"]["margin"]) == ("primary", 0.1)
    assert decision["interval"]["level"] == pytest.approx(0.9)
    assert index["shown"] == (index["p_value"] <= 0.05) == (decision["interval"]["high"] < 0.1)
    # A primary endpoint, of all readers together, as is the first one.
    assert index["adjusted"]["n_tests"] == 2


def test_primary_endpoints_are_corrected_among_themselves(sqlite_api: Api) -> None:
    endpoints = [
        {"name": "e1", "role": "primary", "kind": "detection", "hypothesis": "noninferiority",
         "item": "disc_bulge", "margin": 0.1},
        {"name": "e2", "role": "exploratory", "kind": "image_quality",
         "hypothesis": "noninferiority", "margin": 0.5},
        {"name": "e3", "role": "primary", "kind": "snr", "hypothesis": "difference",
         "item": "psoas", "sequence": "sag_t1"},
    ]  # fmt: skip
    holm = {"endpoints": endpoints, "multiplicity": {"method": "holm"}}
    document = {**template("tang2024").as_document(), **holm}
    with sqlite_api.database.write() as session:
        study = fill_study(session, Simulation(Protocol.model_validate(document)), cases=12).id
    [*single, together] = rows(sqlite_api, study, "equivalence", "proportion")
    assert {row["adjusted"]["n_tests"] for row in single} == {2}
    assert together["adjusted"]["n_tests"] == 1
    assert together["adjusted"]["p_value"] == together["p_value"]
    assert together["adjusted"]["role"] == "primary"
    found = rows(sqlite_api, study, "snr", "difference")
    sizes = {row["adjusted"]["role"]: row["adjusted"]["n_tests"] for row in found}
    assert sizes == {"primary": 2, "exploratory": len(found) - 2}


def test_no_query_breaks_the_server(sqlite_api: Api) -> None:
    """Every choice of every table, and the ends of every range: an answer or a refusal."""
    study = tang_study(sqlite_api, cases=3, readers=("r1", "r2", "expert"))
    for name, subject in SUBJECTS.items():
        fields = subject.query.model_json_schema()["properties"]
        choices: dict[str, list[Any]] = {}
        for field, schema in fields.items():
            if field == "format":
                continue
            values = []
            for one in schema.get("anyOf", [schema]):
                values += one.get("enum", [])
                ends = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
                values += [one[end] for end in ends if end in one]
            choices[field] = values
        queries = [{field: value} for field, values in choices.items() for value in values]
        if name == "mrmc":
            queries = [
                {"truth_reader": "expert", "figure": figure, "covariance": covariance}
                for figure in choices["figure"]
                for covariance in choices["covariance"]
            ]
        if name == "sample-size":
            queries += [
                {"delta": delta, "sd": sd} for delta in (-1e6, 0, 1e6) for sd in (1e-6, 1e6)
            ]
            queries += [{"p10": p10, "p01": p01} for p10 in (0, 1) for p01 in (0, 1)]
            queries += [
                {"kappa1": kappa, "prevalence": share, "kappa0": 0}
                for kappa in (0.001, 1)
                for share in (0.001, 0.999)
            ]
        for query in queries:
            answer = ask(sqlite_api, study, name, **query)
            assert answer.status_code in {200, 422}, (name, query, answer.text)


def test_a_plan_allows_for_patients_and_claims_no_power_of_its_own(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=16)
    found = rows(sqlite_api, study, "sample-size", "plan")
    for row in found:
        assert "present" not in row
        if row["test"] == "noninferiority" and row["plan"] is not None:
            effect = row["plan"]["design_effect"]
            assert effect == pytest.approx(1 + 4 * row["assumptions"]["icc"])
    page = ask(sqlite_api, study, "sample-size", format="html").text
    assert "This study: 16 cases; the protocol states no number planned beforehand." in page
    assert "Power now" not in page


@pytest.mark.parametrize("cases", [1, 6])
def test_every_reason_in_a_cell_is_explained_below(sqlite_api: Api, cases: int) -> None:
    protocol = template("tang2024").model_copy(update={"endpoints": ()})
    with sqlite_api.database.write() as session:
        study = fill_study(session, Simulation(protocol), cases=cases).id
    printed = set()
    for name in SUBJECTS:
        with sqlite_api.database.snapshot() as session:
            table = compute_table(session, get_study(session, study), name)
        # Brackets in headings are units.
        cells = [
            cell
            for grid in table.grids
            for line in grid.body
            for cell in line
            if isinstance(cell, str)
        ]
        reasons = {words for cell in cells for words in re.findall(r"\[([^\]]+)\]", cell)}
        assert reasons <= {results.words_of(reason) for reason in table.printed_reasons}, name
        printed |= reasons
    assert {"no margin", "no reference standard"} & printed == {"no margin"}


def test_texts_say_what_was_asked(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=6, readers=("r1", "r2", "expert"))
    page = ask(sqlite_api, study, "agreement", level=0.9, format="html").text
    assert "90% confidence" in page
    assert "95% confidence" not in page
    assert "The query fixes Wilcoxon" in ask(
        sqlite_api, study, "snr", difference_test="wilcoxon", format="html"
    ).text  # fmt: skip
    page = ask(sqlite_api, study, "equivalence", format="html").text
    for words in (
        "Design effect",
        "p (naive)",
        "margin 0.05",
        "non-inferiority",
        "counts over the",
    ):
        assert words in page
    assert "noninferiority of" not in page
    assert "by level no" in ask(sqlite_api, study, "detection", format="html").text
    page = ask(sqlite_api, study, "mrmc", truth_reader="expert", format="html").text
    assert "which favours" in page


def test_without_a_reference_standard_mrmc_says_so(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=10, readers=("r1", "r2", "expert"))
    for row in rows(sqlite_api, study, "mrmc", "mrmc"):
        assert (row["answer"], row["reason"]) == (None, "no_reference_standard")
    found = rows(sqlite_api, study, "mrmc", "mrmc", truth_reader="expert")
    assert {tuple(row["readers"]) for row in found} == {("r1", "r2")}
    assert any(row["answer"]["value"] is not None for row in found)
    for row in found:
        assert row["arms"] == ["accelerated", "standard"]
        answer = row["answer"]
        assert answer["n_positive"] + answer["n_negative"] == answer["n"] == 10
    for figure in ("sensitivity", "specificity"):
        found = rows(sqlite_api, study, "mrmc", "mrmc", truth_reader="expert", figure=figure)
        assert {row["answer"]["figure"] for row in found} == {figure}


def test_sample_sizes_from_the_study_and_from_the_query(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=16)
    found = rows(sqlite_api, study, "sample-size", "plan")
    assert {row["source"] for row in found} == {"study"}
    assert {row["test"] for row in found} == {"noninferiority", "kappa", "paired_t"}
    for row in found:
        assert (row["plan"] is None) == (
            row["reason"] is not None and row["reason"] != "not_reachable"
        )
        if row["test"] == "noninferiority":
            assert row["assumptions"]["cluster_size"] == 5
            assert row["plan"]["n_clusters"] * 5 >= row["plan"]["n"]
    asked = rows(
        sqlite_api, study, "sample-size", "plan",
        delta=0.5, sd=1, p10=0.1, p01=0.05, margin=0.1, kappa1=0.8, prevalence=0.3,
        cluster_size=5, icc=0.2,
    )  # fmt: skip
    plans = {row["test"]: row for row in asked if row["source"] == "asked"}
    assert list(plans) == ["paired_t", "mcnemar", "noninferiority", "kappa"]
    assert plans["paired_t"]["plan"]["design_effect"] == pytest.approx(1.8)
    assert plans["paired_t"]["assumptions"]["delta"] == 0.5


# --- the revision -------------------------------------------------------------------------------


def test_nothing_is_computed_twice(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=3)
    tables = sqlite_api.app.extensions["halfscan_statistics_tables"]
    first = ask(sqlite_api, study, "agreement")
    assert (first.headers["ETag"], tables.computed) == ('"1"', 1)
    for form in ("json", "html", "csv", "json"):
        ask(sqlite_api, study, "agreement", format=form)
    assert tables.computed == 1
    ask(sqlite_api, study, "agreement", level=0.9)
    assert tables.computed == 2
    with sqlite_api.database.write() as session:
        bump(session, study)
    second = ask(sqlite_api, study, "agreement")
    assert (second.headers["ETag"], tables.computed) == ('"2"', 3)
    assert json_of(first)["rows"] == json_of(second)["rows"]


def test_unchanged_is_304(api: Api) -> None:
    study = tang_study(api, cases=2)
    tag = ask(api, study, "snr").headers["ETag"]
    computed = api.app.extensions["halfscan_statistics_tables"].computed
    for known in (tag, f"W/{tag}", f'"0", {tag}'):
        for name in SUBJECTS:
            answer = ask(api, study, name, headers={"If-None-Match": known})
            assert (answer.status_code, answer.data) == (304, b"")
            assert answer.headers["ETag"] == tag
    assert api.app.extensions["halfscan_statistics_tables"].computed == computed
    assert ask(api, study, "snr", headers={"If-None-Match": '"0"'}).status_code == 200


def test_a_table_moves_with_every_reading(api: Api) -> None:
    """While readings come in, each completed one is in the next answer."""
    play = start_study(api, cases=3, washout_days=0)
    seen = []
    for reader in ("r1", "r2"):
        session = play.session(reader, 0)
        while (reading := play.next(reader, session)) is not None:
            before = ask(api, play.study_id, "participants")
            reading.fill(plain_answers)
            tag = before.headers["ETag"]
            unchanged = ask(api, play.study_id, "participants", headers={"If-None-Match": tag})
            assert unchanged.status_code == 304  # not complete, so it does not count
            reading.complete()
            answer = ask(api, play.study_id, "participants", headers={"If-None-Match": tag})
            assert answer.status_code == 200
            read = [row["n"] for row in json_of(answer)["rows"] if row.get("step") == "read"]
            seen.append(sum(read))
    assert seen == [1, 2, 3, 4, 5, 6]
    kappas = rows(api, play.study_id, "agreement", "kappa", section="scores")
    assert all(row["kappa"]["n"] + row["kappa"]["n_missing"] == 3 for row in kappas)
    assert sum(row["kappa"]["n"] for row in kappas) > 0


def test_an_amendment_and_an_exclusion_move_the_numbers(api: Api) -> None:
    play = start_study(api, cases=3, readers=("r1",), washout_days=0)
    play.read_session("r1", 0)
    codes = play.read_session("r1", 1)
    before = rows(api, play.study_id, "detection", "detection")[0]
    assert (before["n"], before["n_given"]) == (6, 6)
    place = play.place(codes[0])
    reading = play.ask("r1", "GET", f"/readings/{codes[0]}")
    body = {
        "reason": "seen again",
        "findings": [{"finding": "disc_bulge", "level": "L4/L5", "value": None}],
    }
    amended = play.ask(
        "r1", "POST", f"/readings/{codes[0]}/amend", body, If_Match=reading.headers["ETag"]
    )
    assert amended.status_code == 200, amended.text
    after = rows(api, play.study_id, "detection", "detection")[0]
    assert (after["n"], after["n_given"]) == (5, 6)
    play.run("POST", f"/cases/{place['case']}/exclude", {"reason": "moved too much"})
    last = rows(api, play.study_id, "detection", "detection")[0]
    assert (last["n"], last["n_given"]) == (4, 4)
    [excluded] = rows(api, play.study_id, "participants", "exclusion")
    assert (excluded["case"], excluded["why"]) == (place["case"], "moved too much")


# --- blinding -----------------------------------------------------------------------------------


def test_looking_while_readings_are_open_is_recorded_once(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    for _ in range(3):
        for role in ("statistician", "coordinator", "admin"):
            ask(api, play.study_id, "detection", role=role)
            ask(api, play.study_id, "agreement", role=role, format="html")
    looks = play.events(action="looked")
    seen = [
        (event["role"], event["subject"]) for event in looks if "statistics" in event["subject"]
    ]
    assert sorted(seen) == sorted(
        (role, f"statistics/{name}")
        for role in ("statistician", "coordinator", "admin")
        for name in ("detection", "agreement")
    )
    assert play.verify()["holds"]


def test_looking_again_after_a_reading_is_another_look(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=2, readers=("r1",), washout_days=0)
    ask(sqlite_api, play.study_id, "snr")
    play.read_session("r1", 0)
    ask(sqlite_api, play.study_id, "snr")
    looks = play.events(action="looked", subject="statistics/snr")
    assert len({event["reason"] for event in looks}) == len(looks) == 2
    play.read_session("r1", 1)
    # Nothing is left to read: from here on nobody is unblinded by it.
    ask(sqlite_api, play.study_id, "snr")
    assert len(play.events(action="looked", subject="statistics/snr")) == 2


def test_a_reader_never_sees_statistics(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=1, readers=("r1",), washout_days=0)
    play.read_session("r1", 0)
    play.read_session("r1", 1)
    for path in ("", *(f"/{name}" for name in SUBJECTS)):
        answer = play.ask("r1", "GET", f"/studies/{play.study_id}/statistics{path}")
        assert answer.status_code == 403
    assert play.ask("r1", "GET", f"/studies/{play.study_id}/events").status_code == 403


# --- counts -------------------------------------------------------------------------------------


def test_counts_from_the_database_are_those_of_the_rows(filled: tuple[Api, int]) -> None:
    api, study_id = filled
    given = answers_by_case(api, study_id, Score)
    with api.database.snapshot() as session:
        frame = load_frame(session, get_study(session, study_id))
        values = ValueCounts(session, frame, AnswerKind.SCORE)
        pairs = PairCounts(session, frame, AnswerKind.SCORE)
        for unit in units_of(frame.protocol, "sag_t1"):
            if unit.level == "group":
                continue
            own = given[unit.name, "sag_t1", 1, "standard"]
            assert values.values(unit.name, "sag_t1", 1, "standard").tolist() == sorted(
                own.values()
            )
            sides = Side(1, "standard"), Side(1, "accelerated")
            there = pairs.table(unit.name, ["sag_t1"], unit.scale, *sides)
            back = pairs.table(unit.name, ["sag_t1"], unit.scale, *reversed(sides))
            assert (there == back.T).all()
            tables = patient_tables(
                session, frame, {unit.name: "u"}, unit.scale, sides, place="sag_t1", table=Score
            )["u", ""]
            assert (tables.sum(axis=0) == there).all()
            assert set(tables.sum(axis=(1, 2)).tolist()) == {1}


def test_profiles_say_what_the_rows_say(filled: tuple[Api, int]) -> None:
    api, study_id = filled
    scores, findings = AnswerKind.SCORE, AnswerKind.FINDING
    with api.database.snapshot() as session:
        frame = load_frame(session, get_study(session, study_id))
        asked: list[tuple[AnswerKind, str, str, tuple[int, ...]]] = [
            (findings, one.name, "", scale_of(one)) for one in frame.protocol.findings
        ]
        asked += [
            (scores, unit.name, "sag_t1", unit.scale)
            for unit in units_of(frame.protocol, "sag_t1")
            if unit.level == "criterion"
        ]
        profiles = {kind: Profiles(session, frame, kind) for kind in (scores, findings)}
        standard, accelerated = Side(1, "standard"), Side(1, "accelerated")
        for sides in (
            (standard, accelerated),
            (accelerated, standard),
            (Side(None, "standard"), Side(None, "accelerated")),
            (Side(1, None), Side(2, None)),
            (standard, Side(1, "standard", 1)),
        ):
            for kind, item, place, scale in asked:
                answer = Score if kind is scores else Finding
                there = patient_tables(
                    session, frame, {item: item}, scale, sides, place=place or None, table=answer
                ).get((item, ""), no_tables(scale))
                found = profiles[kind].tables(item, place, scale, sides)
                assert sorted(found.tolist()) == sorted(there.tolist())


def test_profiles_give_answers_and_readers_by_value(filled: tuple[Api, int]) -> None:
    api, study_id = filled
    given = answers_by_case(api, study_id, Finding)
    with api.database.snapshot() as session:
        frame = load_frame(session, get_study(session, study_id))
        finding = frame.protocol.findings[0]
        found = Profiles(session, frame, AnswerKind.FINDING)
        readings = [(1, "standard"), (2, "standard"), (2, "accelerated")]
        answers = found.answers(finding.name, "", readings, (len(finding.levels), frame.n_cases))
        counts, patients = found.readers_by_value(finding.name, "", scale_of(finding), "standard")
    expected = [
        [given[finding.name, level, *reading].get(case, -1) for reading in readings]
        for level in finding.levels
        for case in range(1, frame.n_cases + 1)
    ]
    assert answers.shape == (len(finding.levels), frame.n_cases, len(readings))
    assert sorted(np.nan_to_num(answers, nan=-1).reshape(-1, 3).tolist()) == sorted(expected)
    both = [row[:2] for row in expected if max(row[:2]) >= 0]
    assert sorted(counts.tolist()) == sorted([row.count(0), row.count(1)] for row in both)
    assert len(set(patients.tolist())) == frame.n_cases


def test_a_result_is_the_same_from_python(sqlite_api: Api) -> None:
    """What a report takes: the frozen result, computed in one state of the database."""
    study = tang_study(sqlite_api, cases=4)
    with sqlite_api.database.snapshot() as session:
        found = compute_table(
            session, get_study(session, study), "snr", options.SnrQuery(sequence="sag_t1")
        )
    assert found.as_dict() == table(sqlite_api, study, "snr", sequence="sag_t1")
    assert math.isfinite(found.rows[0].reference.mean)


def test_graded_findings_have_weighted_kappa_and_count_as_present(api: Api) -> None:
    grades = [{"value": value, "label": str(value)} for value in range(4)]
    document = template("tang2024").as_document()
    document["findings"] = [
        {"name": "stenosis", "label": "Stenosis", "levels": ["L1", "L2"], "grades": grades},
        {"name": "bulge", "label": "Bulge", "levels": ["L1"]},
    ]
    with api.database.write() as session:
        study = fill_study(session, Simulation(Protocol.model_validate(document)), cases=12).id
    found = rows(api, study, "agreement", "kappa", section="findings")
    weights = {row["item"]: row["kappa"]["weights"] for row in found}
    assert weights == {"stenosis": "linear", "bulge": "none"}
    assert {len(row["table"]) for row in found if row["item"] == "stenosis"} == {4}
    given = answers_by_case(api, study, Finding)
    row = rows(api, study, "detection", "detection")[0]
    present = 0
    for level in ("L1", "L2"):
        one, other = (given["stenosis", level, 1, arm] for arm in ("standard", "accelerated"))
        present += sum(
            first > 0 and second > 0 for first, second in zip(*paired(one, other), strict=True)
        )
    assert row["both"] == present


def test_a_repeat_is_agreement_of_a_reader_with_themselves(api: Api) -> None:
    play: Play = start_study(api, cases=3, readers=("r1",), washout_days=0, repeat_sessions=1)
    for number in range(3):
        play.read_session("r1", number)
    found = [
        row
        for row in table(api, play.study_id, "agreement")["rows"]
        if row["compared"]["comparison"] == "intra_reader"
    ]
    assert {row["compared"]["repeat_round"] for row in found} == {1}
    kappas = [row for row in found if row["kind"] == "kappa"]
    # The repeats are in one arm or the other; together every case came twice.
    assert sum(row["kappa"]["n"] for row in kappas if row["item"] == "noise") >= 3
    assert all(row["kappa"]["raw_agreement"] in {None, 1.0} for row in kappas)
