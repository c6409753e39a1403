"""The reference study recomputed: what agrees, what no data give, and the command."""

import json
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner

from halfscan_stats import cohen_kappa, icc
from halfscan_stats.cli import published
from halfscan_stats.published import PublishedStudy, published_figures, recompute
from halfscan_stats.published_search import (
    data_with_icc,
    joint_tables,
    kappa_table,
    margins_of,
    rounds_to,
)
from stats_golden import ABSENT, reference_file


@pytest.fixture(scope="module")
def study() -> PublishedStudy:
    return recompute()


def test_what_agrees_and_what_does_not(study: PublishedStudy) -> None:
    assert study.counts == {
        "Scan time": (3, 3),
        "Table 2, p": (4, 10),
        "Table 2, kappa": (0, 5),
        "Table 3, p": (26, 26),
        "Table 3, ICC": (13, 13),
        "Table 4, kappa": (32, 32),
        "Table 5, McNemar": (8, 8),
    }


def test_the_wilcoxon_rows(study: PublishedStudy) -> None:
    rows = {row.item: row for row in study.rows if row.table == "Table 2, p"}
    for name in ("noise", "overall_quality"):
        assert all(rows[f"{name}, reader {reader}"].agrees for reader in (1, 2))
    assert rows["noise, reader 1"].recomputed == "p = 0.0005"
    assert rows["overall_quality, reader 2"].recomputed == "p = 0.0082"
    # the same summary as for noise, and another p
    assert "no scores" in rows["sharpness, reader 1"].how
    assert "a paired t-test does" in rows["diagnostic_confidence, reader 2"].how


def test_iccs_need_both_protocols(study: PublishedStudy) -> None:
    rows = [row for row in study.rows if row.table == "Table 3, ICC"]
    assert all(row.published == row.recomputed for row in rows)
    assert all("not within one" in row.how for row in rows)


def test_kappas_come_with_the_tables_that_give_them(study: PublishedStudy) -> None:
    rows = [row for row in study.rows if row.table == "Table 4, kappa"]
    tables = [json.loads(row.how.split("table ")[1]) for row in rows if "[[" in row.how]
    assert len(tables) == 27
    assert all(np.sum(table) == 155 for table in tables)
    assert all(row.published == row.recomputed for row in rows)


def test_noninferiority_stands_beside_table_5(study: PublishedStudy) -> None:
    answers = {row.item: row.noninferiority for row in study.rows if row.noninferiority}
    assert len(answers) == 8
    failing = [item for item, answer in answers.items() if not answer.noninferior]
    assert failing == ["disc_bulge"]
    bulge = answers["disc_bulge"]
    assert bulge.interval is not None
    assert bulge.difference == pytest.approx(-0.026, abs=5e-4)
    assert bulge.interval.low == pytest.approx(-0.059, abs=5e-4)
    assert bulge.p_value == pytest.approx(0.10, abs=5e-3)
    wider = recompute(margin=0.06).rows
    assert all(row.noninferiority.noninferior for row in wider if row.noninferiority)


def test_the_figures_cite_their_source() -> None:
    figures = published_figures()
    assert "10.1186/s41747-024-00470-0" in figures["citation"]
    assert "CC BY 4.0" in figures["licence"]
    for total, both, standard, accelerated, _ in figures["detection"]["rows"].values():
        assert total == both + standard + accelerated


def test_the_figures_are_those_of_the_reference() -> None:
    path = reference_file("tang2024.json")
    if path is None:
        pytest.skip(ABSENT)
    known, ours = json.loads(path.read_text(encoding="utf-8")), published_figures()
    assert ours["kappas"]["rows"] == known["table4_kappa"]["rows"]
    for row in known["table3_sag_t1_snr"]:
        one, two = row["reader1"], row["reader2"]
        expected = [one["sd"], one["dl"], two["sd"], two["dl"], row["icc"]]
        assert ours["snr"]["rows"][row["structure"]] == expected
    for finding, (*counts, p) in known["table5_detection"]["rows"].items():
        assert ours["detection"]["rows"][finding] == [*counts, f"{p:.3f}"]
    for mine, row in zip(ours["scores"]["rows"], known["table2_sag_t1_likert"], strict=True):
        assert mine[:4] == [row["item"], row["reader"], row["sd"], row["dl"]]
        assert float(mine[4].lstrip("<")) == float(str(row["p"]).lstrip("<"))
    assert ours["scan_time"]["total_s"] == [
        known["scan_time"]["standard_s"],
        known["scan_time"]["accelerated_s"],
    ]


def test_the_search_of_kappas_finds_what_is_there_and_nothing_else() -> None:
    answer = cohen_kappa(table=[[9, 3], [2, 16]])
    assert answer.value is not None
    assert answer.interval is not None
    printed = [round(x, 2) for x in (answer.value, answer.interval.low, answer.interval.high)]
    found = kappa_table(30, *printed)
    assert found is not None
    again = cohen_kappa(table=found)
    assert again.interval is not None
    assert rounds_to(again.value, printed[0])
    assert rounds_to(again.interval.low, printed[1])
    assert rounds_to(again.interval.high, printed[2])
    assert kappa_table(30, printed[0], printed[1] + 0.1, printed[2] - 0.1) is None


def test_the_search_of_margins_is_complete() -> None:
    found = margins_of(7, 3.43, 0.79)
    expected = [
        counts
        for counts in product(range(8), repeat=4)
        if sum(counts) == 7
        and abs(np.dot(counts, [1, 2, 3, 4]) / 7 - 3.43) < 0.0055
        and abs(np.repeat([1, 2, 3, 4], counts).std(ddof=1) - 0.79) < 0.0055
    ]
    assert sorted(found) == sorted(expected)
    assert expected


def test_the_joint_tables_are_all_tables() -> None:
    found = list(joint_tables((2, 1), (1, 2)))
    assert found == [((0, 2), (1, 0)), ((1, 1), (0, 1))]
    for table in joint_tables((0, 3, 2, 1), (1, 1, 2, 2)):
        assert np.sum(table, axis=1).tolist() == [0, 3, 2, 1]
        assert np.sum(table, axis=0).tolist() == [1, 1, 2, 2]


def test_the_search_of_iccs_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    patients = rng.normal(150, 40, (31, 1))
    values = patients + rng.normal(0, 15, (31, 2))
    answer = icc(values)
    assert answer.value is not None
    assert answer.interval is not None
    arm = tuple((float(c.mean()), float(c.std(ddof=1))) for c in values.T)
    printed = tuple(round(x, 2) for x in (answer.value, answer.interval.low, answer.interval.high))
    assert data_with_icc(31, [(arm[0], arm[1])], (printed[0], printed[1], printed[2])) is not None
    assert data_with_icc(31, [(arm[0], arm[1])], (printed[0], printed[1] - 0.1, 0.99)) is None


def test_the_command_prints_the_table() -> None:
    done = CliRunner().invoke(published, [])
    assert done.exit_code == 0, done.output
    assert "Table 5, McNemar: 8 of 8 agree" in done.output
    assert "NOT shown non-inferior: difference -2.6 %" in done.output
    assert "Not reproduced: 11 of 97" in done.output
    assert "Tang H" in done.output


def test_the_command_prints_json() -> None:
    done = CliRunner().invoke(published, ["--json", "--margin", "0.06"])
    answer = json.loads(done.output)
    assert answer["counts"]["Table 4, kappa"] == {"agree": 32, "of": 32}
    assert {row["agrees"] for row in answer["rows"]} == {True, False}
    bulge = next(row for row in answer["rows"] if row["item"] == "disc_bulge")
    assert bulge["noninferiority"]["margin"] == 0.06
    assert bulge["noninferiority"]["noninferior"] is True


@pytest.mark.parametrize("arguments", [["--margin", "0"], ["--margin", "1"], ["--alpha", "0.5"]])
def test_the_command_refuses(arguments: list[str]) -> None:
    done = CliRunner().invoke(published, arguments)
    assert done.exit_code == 2
    assert "is not in the range" in done.output
