"""Agreement against published examples, hand-worked ones, and the collection made with R."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from halfscan_stats import (
    bland_altman,
    clustered_kappa,
    clustered_mcnemar,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    icc_forms,
    krippendorff_alpha,
    pabak,
)
from stats_golden import Case, agrees, own_cases, reference_cases, run


@pytest.mark.parametrize("case", own_cases("agreement"))
def test_worked_example(case: Case) -> None:
    agrees(run(case), case["expected"], case["tolerance"])


# What the collection calls a quantity, and where a result has it.
KAPPA = {
    "kappa": "value",
    "ase": "se",
    "ci_low": "interval.low",
    "ci_high": "interval.high",
    "ase0": "se0",
    "z": "z",
    "p": "p_value",
    "po": "observed_agreement",
    "pe": "expected_agreement",
    "n": "n",
}
REASONS = ("rater_constant", "no_variation", "perfect_agreement")
PABAK = {
    "pabak": "value",
    "pabak_ci_low": "interval.low",
    "pabak_ci_high": "interval.high",
    "prevalence_index": "prevalence_index",
    "bias_index": "bias_index",
}


def check(case: Case, result: Any, names: dict[str, str]) -> None:
    """Compare what both the collection and the names have."""
    known = case["expected"]
    expected = {path: known[name] for name, path in names.items() if name in known}
    assert expected
    agrees(result, expected, case["tolerance"])


def kappa_of(case: Case) -> Any:
    data = case["data"]
    if "table" in data:
        return cohen_kappa(table=data["table"], weights=data["weights"])
    return cohen_kappa(
        data["r1"], data["r2"], categories=data["categories"], weights=data["weights"]
    )


@pytest.mark.parametrize("case", reference_cases("cohen_kappa", "cohen_kappa_raw", "kappa_pabak"))
def test_kappa_of_the_collection(case: Case) -> None:
    result, expected = kappa_of(case), dict(case["expected"])
    if expected["ci_high"] is not None:  # clipped as printed, where the collection has it raw
        expected["ci_high"] = min(expected["ci_high"], 1.0)
    policy = case.get("policy", "")
    reason = next((reason for reason in REASONS if reason in policy), None)
    if reason == "perfect_agreement":  # no interval, where R gives [1, 1]
        expected |= {"ci_low": None, "ci_high": None}
    check(case | {"expected": expected}, result, KAPPA)
    assert result.reason == reason


@pytest.mark.parametrize("case", reference_cases("kappa_pabak"))
def test_pabak_of_the_collection(case: Case) -> None:
    check(case, pabak(table=case["data"]["table"]), PABAK)


@pytest.mark.parametrize("case", reference_cases("clustered_kappa"))
def test_clustered_kappa_of_the_collection(case: Case) -> None:
    data = case["data"]
    result = clustered_kappa(
        data["r1"], data["r2"], cluster=data["cluster"], weights=data["weights"]
    )
    names = {
        "kappa": "value",
        "se_cluster": "se",
        "ci_low_norm": "interval.low",
        "ci_high_norm": "interval.high",
        "ase_naive": "naive_se",
        "design_effect": "design_effect",
    }
    check(case, result, names)


@pytest.mark.parametrize("case", reference_cases("fleiss_kappa"))
def test_fleiss_kappa_of_the_collection(case: Case) -> None:
    result = fleiss_kappa(counts=case["data"]["counts"])
    check(case, result, {"kappa": "value", "z": "z", "p": "p_value", "gwet_se": "se"})
    compare_printed_interval(result, case["expected"]["gwet_ci"])


def compare_printed_interval(result: Any, printed: str) -> None:
    """Compare with an interval printed as text, three decimals: (0.24,0.588)."""
    low, high = (float(limit) for limit in printed.strip("()").split(","))
    if low == high == 1:
        assert result.interval is None
        assert result.reason == "perfect_agreement"
    else:
        assert (result.interval.low, result.interval.high) == pytest.approx((low, high), abs=6e-4)


RAW: dict[str, Callable[[Any, list[int], str], Any]] = {
    "ac": lambda ratings, scale, weights: gwet_ac(ratings, categories=scale, weights=weights),
    "fleiss": lambda ratings, scale, weights: fleiss_kappa(
        ratings, categories=scale, weights=weights
    ),
    "alpha": lambda ratings, _, weights: krippendorff_alpha(
        ratings, metric="nominal" if weights == "unweighted" else "interval"
    ),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("case", reference_cases("chance_corrected_raw"))
def test_raw_ratings_of_the_collection(case: Case, name: str) -> None:
    data, expected = case["data"], case["expected"]
    scale = sorted({score for row in data["ratings"] for score in row if score is not None})
    result = RAW[name](data["ratings"], scale, data["weights"])
    check(case, result, {name: "value", f"{name}_se": "se"})
    compare_printed_interval(result, expected[f"{name}_ci"])
    if result.expected_agreement is not None:
        terms = {f"{name}_pa": "observed_agreement", f"{name}_pe": "expected_agreement"}
        check(case, result, terms)


@pytest.mark.parametrize("case", reference_cases("chance_corrected_raw"))
def test_pabak_of_many_readers_of_the_collection(case: Case) -> None:
    ratings = case["data"]["ratings"]
    scale = sorted({score for row in ratings for score in row if score is not None})
    result = pabak(ratings, categories=scale, weights=case["data"]["weights"])
    check(case, result, {"bp": "value", "bp_se": "se"})


@pytest.mark.parametrize("case", reference_cases("chance_corrected_table"))
def test_tables_of_the_collection(case: Case) -> None:
    data, expected = case["data"], case["expected"]
    result = gwet_ac(table=data["table"], weights=data["weights"])
    check(case, result, {"ac": "value", "ac_se": "se"})
    compare_printed_interval(result, expected["ac_ci"])
    uniform = pabak(table=data["table"], weights=data["weights"])
    check(case, uniform, {"bp": "value", "bp_se": "se"})
    check(case, cohen_kappa(table=data["table"], weights=data["weights"]), {"kappa": "value"})


@pytest.mark.parametrize("case", reference_cases("krippendorff_alpha"))
def test_alpha_of_the_collection(case: Case) -> None:
    result = krippendorff_alpha(case["data"]["ratings"], metric=case["data"]["level"])
    if case["degenerate"]:  # its policy, where R's irr says 1
        assert (result.value, result.reason) == (None, "no_variation")
    else:
        check(case, result, {"alpha": "value"})


@pytest.mark.parametrize("case", reference_cases("icc_a1"))
def test_icc_of_the_collection(case: Case) -> None:
    results = {result.form: result for result in icc_forms(case["data"]["ratings"])}
    names = {
        "n": "n",
        "k": "n_readers",
        "msr": "mean_squares.subjects",
        "msc": "mean_squares.readers",
        "mse": "mean_squares.error",
        "icc": "value",
        "ci_low": "interval.low",
        "ci_high": "interval.high",
        "p": "p_value",
    }
    check(case, results["A,1"], names)
    expected = case["expected"]["psych"]
    consistency = {"value": expected["icc_c1"]}
    if results["C,1"].interval is not None:
        consistency |= {
            "interval.low": expected["icc_c1_low"],
            "interval.high": expected["icc_c1_high"],
        }
    agrees(results["C,1"], consistency, case["tolerance"])
    if expected["icc_a_k"] > 1:  # psych prints it; above 1 it is no share of variance
        agrees(results["A,k"], {"value": None, "reason": "negative_variance"}, case["tolerance"])
    else:
        agrees(results["A,k"], {"value": expected["icc_a_k"]}, case["tolerance"])


@pytest.mark.parametrize("case", reference_cases("bland_altman"))
def test_limits_of_the_collection(case: Case) -> None:
    data = case["data"]
    limits = {"lower": "low", "upper": "high"}
    names = {"n": "n", "bias": "value", "sd": "sd"}
    names |= {f"bias_ci_{end}": f"interval.{end}" for end in ("low", "high")}
    first = {"loa_se_1986": "se_limits"}
    for limit, name in limits.items():
        names[f"loa_{name}"], first[f"loa2_{name}"] = limit, limit
        for end in ("low", "high"):
            names[f"loa_{name}_ci_{end}"] = f"{limit}_interval.{end}"
            first[f"loa2_{name}_ci_{end}"] = f"{limit}_interval.{end}"
    result = bland_altman(data["x"], data["y"])
    check(case, result, names)
    check(case, bland_altman(data["x"], data["y"], multiplier=2, limits="1986"), first)
    assert result.reason == ("constant_difference" if case["degenerate"] else None)


@pytest.mark.parametrize("case", reference_cases("clustered_mcnemar"))
def test_clustered_mcnemar_of_the_collection(case: Case) -> None:
    counts = np.column_stack([case["data"][cell] for cell in "abcd"])
    result = clustered_mcnemar(tables=counts)
    if case["degenerate"]:
        assert (result.statistic, result.p_value) == (None, 1.0)
        assert result.reason == "no_discordant"
        return
    names = {name: name for name in ("obuchowski", "obuchowski_p", "durkalski", "durkalski_p")}
    check(case, result, names | {"mcnemar": "naive.chi2", "mcnemar_p": "naive.p_asymptotic"})
    other = clustered_mcnemar(tables=counts.reshape(-1, 2, 2), method="durkalski")
    assert (other.statistic, other.p_value) == (result.durkalski, result.durkalski_p)
