"""Observations nested in patients: clustered kappa, clustered McNemar and the bootstrap."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from halfscan_stats import (
    Agreement,
    Bootstrap,
    Reason,
    StatsError,
    cluster_bootstrap,
    clustered_kappa,
    clustered_mcnemar,
    cohen_kappa,
    gwet_ac,
    icc,
    pabak,
)
from stats_golden import Case, reference_cases

SCALE = (1, 2, 3)
quick = settings(max_examples=60, deadline=None)
# (patient, first reader, second reader), one row an observation.
nested = arrays.arrays(
    np.int64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(1, 3)
)
counts = arrays.arrays(
    np.int64, st.integers(0, 8).map(lambda n: (n, 2, 2)), elements=st.integers(0, 3)
)


def nested_scores(patients: int = 31, levels: int = 5) -> npt.NDArray[np.int64]:
    """Rows of patient, first and second reader, alike within patients."""
    rng = np.random.default_rng(21)
    patient = np.repeat(np.arange(patients), levels)
    tendency = np.repeat(rng.normal(0, 1, patients), levels) + rng.normal(0, 0.5, patient.size)
    scores = np.digitize(tendency[:, None] + rng.normal(0, 0.4, (patient.size, 2)), [-0.5, 0.8]) + 1
    return np.column_stack([patient, scores])


@quick
@given(rows=nested, weights=st.sampled_from(["none", "linear", "quadratic"]))
def test_clustered_kappa_is_kappa_with_another_variance(
    rows: npt.NDArray[np.int64], weights: str
) -> None:
    patient, a, b = rows.T
    result = clustered_kappa(a, b, cluster=patient, categories=SCALE, weights=weights)
    naive = cohen_kappa(a, b, categories=SCALE, weights=weights, cluster=patient)
    json.dumps(result.as_dict(), allow_nan=False)
    assert (result.value, result.naive_interval) == (naive.value, naive.interval)
    assert (result.interval, result.se) == (naive.cluster_interval, naive.cluster_se)
    assert (result.interval is None) == (result.reason is not None)
    swapped = clustered_kappa(b, a, cluster=-patient, categories=SCALE, weights=weights)
    assert swapped.se == pytest.approx(result.se, abs=1e-9)
    tables = np.zeros((4, 3, 3), dtype=int)
    np.add.at(tables, (patient, a - 1, b - 1), 1)
    by_table = clustered_kappa(tables=tables, weights=weights)
    assert by_table.se == pytest.approx(result.se, abs=1e-9)
    assert by_table.n_clusters == result.n_clusters == np.unique(patient).size


def test_one_observation_a_patient_is_the_large_sample_variance() -> None:
    rows = nested_scores()
    for weights in ("none", "linear", "quadratic"):
        a, b = rows[:, 1], rows[:, 2]
        single = clustered_kappa(a, b, cluster=range(155), categories=SCALE, weights=weights)
        assert single.naive_se is not None
        assert single.se == pytest.approx(single.naive_se * np.sqrt(155 / 154))
        assert single.design_effect == pytest.approx(155 / 154)


def test_clustered_kappa_is_close_to_the_jackknife_and_the_bootstrap() -> None:
    patient, a, b = nested_scores(60).T
    result = clustered_kappa(a, b, cluster=patient, categories=SCALE)
    assert result.se is not None
    assert result.naive_se is not None
    left = np.array([cohen_kappa(a[patient != p], b[patient != p]).value for p in range(60)])
    jackknife = np.sqrt(59 / 60 * ((left - left.mean()) ** 2).sum())
    assert result.se == pytest.approx(jackknife, rel=0.05)
    drawn = cluster_bootstrap("kappa", a, b, cluster=patient, rng=3)
    assert result.se == pytest.approx(drawn.se, rel=0.1)
    assert result.se > 1.1 * result.naive_se


@quick
@given(tables=counts)
def test_clustered_mcnemar(tables: npt.NDArray[np.int64]) -> None:
    result = clustered_mcnemar(tables=tables)
    json.dumps(result.as_dict(), allow_nan=False)
    assert (result.p_value is None) == (result.reason in (Reason.TOO_FEW, Reason.ZERO_VARIANCE))
    swapped = clustered_mcnemar(tables=tables.transpose(0, 2, 1)[::-1])
    assert swapped.obuchowski == pytest.approx(result.obuchowski)
    assert swapped.durkalski_p == pytest.approx(result.durkalski_p)
    assert (swapped.b, swapped.c) == (result.c, result.b)
    decision = result.decision
    assert (decision.interval is None) == (result.n_clusters < 2)
    if decision.interval is not None and result.difference is not None:
        assert decision.p_value is not None
        low, high = decision.interval.low, decision.interval.high
        assert low <= result.difference + 1e-12
        assert high >= result.difference - 1e-12
        assert (low > 0 or high < 0) == (decision.p_value < 0.05)
    # The same from answers, positive first in a table and 1 in an answer.
    index = np.arange(4 * len(tables)).repeat(tables.ravel())
    cluster, cell = index // 4, index % 4
    answers = clustered_mcnemar((cell < 2) * 1, (cell % 2 == 0) * 1, cluster=cluster)
    assert answers == result


def test_one_observation_a_patient_is_mcnemar() -> None:
    first = [1] * 20 + [1] * 9 + [0] * 3 + [0] * 30
    second = [1] * 20 + [0] * 9 + [1] * 3 + [0] * 30
    result = clustered_mcnemar(first, second, cluster=range(62))
    assert result.naive is not None
    assert (result.b, result.c, result.naive.chi2) == (9, 3, 3.0)
    assert result.durkalski == pytest.approx(3.0)
    assert result.obuchowski == pytest.approx(3.0 * 61 / 62)


def test_answers_by_name_and_missing() -> None:
    result = clustered_mcnemar(
        ["yes", "yes", None, "no"],
        ["no", "yes", "yes", "no"],
        cluster=["p1", "p1", "p2", "p3"],
        categories=("no", "yes"),
    )
    assert (result.n, result.n_given, result.n_clusters, result.b, result.c) == (3, 4, 2, 1, 0)


def test_clustered_mcnemar_keeps_its_level() -> None:
    """No difference, answers alike within patients: 5 % of the tests say otherwise, not more."""
    rng = np.random.default_rng(12)
    rejected = {"obuchowski": 0, "durkalski": 0, "naive": 0}
    cluster = np.repeat(np.arange(40), 5)
    for _ in range(600):
        leaning = np.repeat(rng.normal(0, 1.5, (40, 2)), 5, axis=0)
        answers = (leaning + rng.normal(0, 1, (200, 2)) > 0).astype(int)
        result = clustered_mcnemar(answers, cluster=cluster)
        assert result.naive is not None
        rejected["naive"] += (result.naive.p_asymptotic or 1.0) < 0.05
        for name in ("obuchowski", "durkalski"):
            rejected[name] += getattr(result, f"{name}_p") < 0.05
    assert rejected["naive"] / 600 > 0.15
    for name in ("obuchowski", "durkalski"):
        assert 0.025 < rejected[name] / 600 < 0.08


@pytest.mark.parametrize("case", reference_cases("cluster_bootstrap_enumerated"))
def test_bootstrap_against_all_resamples_of_the_collection(case: Case) -> None:
    data, expected = case["data"], case["expected"]
    result = cluster_bootstrap(
        "kappa", data["r1"], data["r2"], cluster=data["cluster"], rng=1, n_resamples=20_000
    )
    assert result.value == pytest.approx(expected["kappa"])
    assert result.n_undefined == expected["n_undefined"]
    error = expected["boot_se"] / np.sqrt(20_000)  # of the mean; of the spread less
    assert result.mean == pytest.approx(expected["boot_mean"], abs=4 * error)
    assert result.se == pytest.approx(expected["boot_se"], abs=4 * error)
    assert result.interval is not None
    assert result.interval.low == pytest.approx(expected["pct_low"])
    assert result.interval.high == pytest.approx(expected["pct_high"])


def test_bootstrap_against_all_resamples() -> None:
    """Three patients: 27 resamples, all of them counted."""
    tables = np.array([[[3, 1], [0, 2]], [[2, 0], [2, 1]], [[1, 1], [0, 4]]])
    kappas = [
        cohen_kappa(table=tables[list(drawn)].sum(axis=0)).value
        for drawn in itertools.product(range(3), repeat=3)
    ]
    exact = np.array(kappas, dtype=np.float64)
    result = cluster_bootstrap("kappa", totals=tables, rng=2, n_resamples=40_000)
    assert result.value == pytest.approx(cohen_kappa(table=tables.sum(axis=0)).value)
    assert result.mean == pytest.approx(exact.mean(), abs=4 * float(exact.std()) / 200)
    assert result.se == pytest.approx(exact.std(), rel=0.02)


def raw_agreement(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float((a == b).mean())


STATISTICS: dict[str, Callable[..., Any]] = {
    "kappa": cohen_kappa,
    "kappa_linear": lambda a, b: cohen_kappa(a, b, categories=SCALE, weights="linear"),
    "kappa_quadratic": lambda a, b: cohen_kappa(a, b, categories=SCALE, weights="quadratic").value,
    "raw_agreement": raw_agreement,
}


@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize("name", STATISTICS)
def test_the_fast_road_is_the_slow_road(name: str, interval: str) -> None:
    """Draw by draw: tables times weights give what the resampled observations give."""
    patient, a, b = nested_scores(12).T
    options: dict[str, Any] = {"cluster": patient, "n_resamples": 100, "interval": interval}
    fast = cluster_bootstrap(name, a, b, categories=SCALE, rng=7, **options)
    slow = cluster_bootstrap(STATISTICS[name], a, b, rng=7, **options)
    assert fast.value == pytest.approx(slow.value)
    assert fast.se == pytest.approx(slow.se)
    assert fast.interval is not None
    assert slow.interval is not None
    assert fast.interval.low == pytest.approx(slow.interval.low)
    assert fast.interval.high == pytest.approx(slow.interval.high)


@pytest.mark.parametrize(("name", "function"), [("pabak", pabak), ("gwet_ac1", gwet_ac)])
def test_other_agreements_by_name(name: str, function: Callable[..., Agreement]) -> None:
    patient, a, b = nested_scores().T
    result = cluster_bootstrap(name, a, b, cluster=patient, categories=SCALE, rng=7)
    direct = function(a, b, categories=SCALE, cluster=patient)
    assert result.value == pytest.approx(direct.value)
    assert result.se == pytest.approx(direct.cluster_se, rel=0.1)


def test_a_function_of_totals() -> None:
    """The mean of all observations, from the sum and the number of each patient."""
    rng = np.random.default_rng(5)
    patient = rng.integers(0, 40, 300)
    values = rng.normal(0, 1, 40)[patient] + rng.normal(10, 1, 300)
    totals = np.column_stack(
        [np.bincount(patient, weights=values, minlength=40), np.bincount(patient, minlength=40)]
    )
    fast = cluster_bootstrap(lambda sums: sums[:, 0] / sums[:, 1], totals=totals, rng=1)
    slow = cluster_bootstrap(np.mean, values, cluster=patient, rng=1)
    assert fast.value == pytest.approx(values.mean())
    assert fast.se == pytest.approx(slow.se)
    assert fast.interval is not None
    assert fast.interval.low < values.mean() < fast.interval.high


def test_rows_are_drawn_whole() -> None:
    ratings = np.random.default_rng(3).normal(0, 1, (30, 1)) + np.random.default_rng(4).normal(
        0, 0.3, (30, 2)
    )
    result = cluster_bootstrap(icc, ratings, cluster=range(30), rng=1, n_resamples=50)
    assert result.value == icc(ratings).value
    assert result.interval is not None


def test_the_seed_decides() -> None:
    patient, a, b = nested_scores().T

    def interval(rng: Any) -> Any:
        return cluster_bootstrap("kappa", a, b, cluster=patient, rng=rng, n_resamples=50).interval

    assert interval(1) == interval(1) == interval(np.random.default_rng(1)) != interval(2)


def bootstrap_of(statistic: Any, *data: Any, **options: Any) -> Bootstrap:
    result = cluster_bootstrap(statistic, *data, rng=1, n_resamples=200, **options)
    json.dumps(result.as_dict(), allow_nan=False)
    return result


def test_undefined_answers() -> None:
    same, both = [1] * 6, [1, 2, 1, 2, 1, 2]
    patient = [1, 1, 2, 2, 3, 3]
    result = bootstrap_of("kappa", same, same, cluster=patient)
    assert (result.value, result.reason) == (None, Reason.NO_VARIATION)
    result = bootstrap_of(cohen_kappa, same, same, cluster=patient)
    assert (result.value, result.reason) == (None, Reason.UNDEFINED)
    result = bootstrap_of("kappa", both, both, cluster=patient)
    assert (result.value, result.interval, result.reason) == (1.0, None, Reason.PERFECT_AGREEMENT)
    result = bootstrap_of("kappa", same, both, cluster=patient)
    assert (result.value, result.interval, result.reason) == (0.0, None, Reason.ZERO_VARIANCE)
    result = bootstrap_of("kappa", both, same, cluster=[1] * 6)
    assert (result.n_clusters, result.reason) == (1, Reason.TOO_FEW)
    result = bootstrap_of("kappa", [], [], cluster=[])
    assert (result.n, result.reason) == (0, Reason.TOO_FEW)
    result = bootstrap_of("kappa", [1, None], [None, 2], cluster=[1, 2])
    assert (result.n, result.n_given, result.reason) == (0, 2, Reason.TOO_FEW)


def test_a_finding_in_one_patient_alone() -> None:
    """Every third resample or so has none of it: no interval, and how many is said."""
    a = [1, 1, 0, 0] + [0] * 16
    b = [1, 0, 0, 0] + [0] * 16
    result = bootstrap_of("kappa", a, b, cluster=np.repeat(range(5), 4))
    assert result.value is not None
    assert result.interval is None
    assert result.reason is Reason.UNDEFINED_RESAMPLES
    assert 40 < result.n_undefined < 100
    assert result.se is not None


def test_clusters_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many patients: the weights of all resamples are never held at once."""
    patient, a, b = nested_scores().T
    whole = cluster_bootstrap("kappa", a, b, cluster=patient, rng=1, n_resamples=100)
    monkeypatch.setattr("halfscan_stats.bootstrap._BLOCK", 31 * 7)
    blocks = cluster_bootstrap("kappa", a, b, cluster=patient, rng=1, n_resamples=100)
    assert blocks == whole


TABLE = [[[1, 2], [3, 4]], [[2, 1], [0, 5]]]
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: clustered_kappa([1], [1]), "cluster must be given"),
    (lambda: clustered_kappa([1], [1], tables=TABLE), "tables must stand alone"),
    (lambda: clustered_kappa(tables=[[1, 2], [3, 4]]), r"\(cluster, category, category\)"),
    (lambda: clustered_mcnemar([1], [1]), "answers and cluster must be given"),
    (lambda: clustered_mcnemar([1], [2], cluster=[1]), "got 2"),
    (
        lambda: clustered_mcnemar([1], [0], cluster=[1], categories=(0, 1, 2)),
        "negative and positive",
    ),
    (lambda: clustered_mcnemar(tables=[[1, 2]]), r"\(cluster, 2, 2\)"),
    (lambda: clustered_mcnemar(tables=TABLE, cluster=[1, 2]), "must stand alone"),
    (lambda: clustered_mcnemar(tables=TABLE, method="yang"), "got 'yang'"),
    (lambda: cluster_bootstrap("kappa", totals=TABLE), "rng must be"),
    (lambda: cluster_bootstrap("kappa", rng=1), "data with cluster, or totals"),
    (lambda: cluster_bootstrap("kappa", [1], [1], rng=1), "cluster must be given"),
    (lambda: cluster_bootstrap("kappa", totals=TABLE, cluster=[1], rng=1), "sums over clusters"),
    (lambda: cluster_bootstrap("kappa", totals=[1, 2], rng=1), "category, category"),
    (lambda: cluster_bootstrap("alpha", totals=TABLE, rng=1), "callable or one of kappa"),
    (lambda: cluster_bootstrap("kappa", [1], [1], [1], cluster=[1], rng=1), "two readers, got 3"),
    (lambda: cluster_bootstrap("pabak", [1], [1], cluster=[1], rng=1), "must be declared"),
    (lambda: cluster_bootstrap("kappa", totals=TABLE, rng=1, n_resamples=1), "at least 2, got 1"),
    (lambda: cluster_bootstrap("kappa", totals=TABLE, rng=1, interval="t"), "got 't'"),
    (lambda: cluster_bootstrap(np.mean, [1, 2], [1], cluster=[1, 2], rng=1), "one length"),
    (lambda: cluster_bootstrap(np.mean, 5, cluster=[1], rng=1), "one length"),
    (lambda: cluster_bootstrap(np.sum, totals=[[1.0], [2.0]], rng=1), "one value a resample"),
    (lambda: cluster_bootstrap(np.sum, totals=[[1.0], [None]], rng=1), "without missing ones"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_names_the_rule_and_the_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()
