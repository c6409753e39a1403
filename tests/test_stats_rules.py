"""Input that contradicts itself is refused, and what an answer must be read with is said."""

import inspect
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import halfscan_stats
from halfscan_stats import (
    Reason,
    StatsError,
    adjust_pvalues,
    bland_altman,
    clustered_kappa,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    icc,
    interchangeability,
    krippendorff_alpha,
    landis_koch,
    linear_mixed_model,
    mcnemar,
    noninferiority_paired_proportions,
    obuchowski_rockette,
    pabak,
    power_kappa,
    power_mcnemar,
    power_noninferiority,
    power_paired_t,
    sample_size_kappa,
    sample_size_mcnemar,
    sample_size_noninferiority,
    sample_size_paired_t,
    tango_interval,
    tost_paired,
    wilcoxon_signed_rank,
)

TABLE = [[1, 2], [3, 4]]
HUGE = [[10**18, 1], [2, 10**18]]
OLD = [[0, 0], [1, 1], [0, 1], [1, 0], [1, 1]]
NEW = [[0, 1], [1, 1], [0, 1], [0, 0], [1, 1]]
SCORES = np.array([[[1, 2, 3, 4], [2, 1, 4, 3]], [[1, 3, 2, 4], [1, 2, 4, 3]]])
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: mcnemar(table=TABLE, n=99), "the 10 pairs of the table, got 99"),
    (lambda: tango_interval(table=TABLE, n=99), "the 10 pairs of the table, got 99"),
    (
        lambda: noninferiority_paired_proportions(table=TABLE, n=9, margin=0.1),
        "the 10 pairs of the table, got 9",
    ),
    (lambda: power_mcnemar(1.5, 0.1, 0.2), "whole number, got 1.5"),  # type: ignore[arg-type]
    (lambda: power_kappa(9.5, 0.4, 0.6, prevalence=0.3), "whole number"),  # type: ignore[arg-type]
    (lambda: power_noninferiority(9.5, 0.1, 0.1, 0.1), "whole number"),  # type: ignore[arg-type]
    (lambda: power_paired_t(9.5, 1, 1), "whole number"),  # type: ignore[arg-type]
    (lambda: power_mcnemar("a", 0.1, 0.2), "n must be a finite"),  # type: ignore[arg-type]
    (lambda: power_mcnemar(9, "a", 0.2), "p10 and p01 must be a"),  # type: ignore[arg-type]
    (lambda: interchangeability(OLD, NEW, margin=-0.1), "at least 0, got -0.1"),
    (lambda: interchangeability(OLD, NEW, margin=math.nan), "finite number, got nan"),
    (lambda: interchangeability(OLD, NEW, margin="a"), "finite number"),  # type: ignore[arg-type]
    (lambda: tost_paired([1, 2], [2, 4], margin="a"), "finite number"),  # type: ignore[arg-type]
    (lambda: tost_paired([1, 2], [2, 4], margin=1, alpha="a"), "alpha"),  # type: ignore[arg-type]
    (
        lambda: noninferiority_paired_proportions(1, 2, 9, margin="a"),  # type: ignore[arg-type]
        "margin must be a finite number, got 'a'",
    ),
    (
        lambda: obuchowski_rockette(SCORES, [0, 0, 1, 1], threshold=3),
        "for sensitivity and specificity, got 3",
    ),
    (lambda: cohen_kappa([1, 2, math.inf], [1, 2, 1]), "got infinity"),
    (lambda: cohen_kappa([1, 2, math.inf], [1.0, 2.0, 1.0]), "got inf"),
    (
        lambda: interchangeability(
            np.array([[math.inf, 1], [1, 1]], dtype=object), [[1, 1], [1, 1]]
        ),
        "got infinity",
    ),
    (lambda: adjust_pvalues(["a"]), "must be numbers, got 'a'"),  # type: ignore[list-item]
    (lambda: adjust_pvalues([[0.1, 0.2]]), "must be one list"),  # type: ignore[list-item]
    (lambda: adjust_pvalues([0.1], n_tests=2.5), "whole numbers"),  # type: ignore[arg-type]
    (lambda: adjust_pvalues([0.1], None), "method must be one of"),  # type: ignore[arg-type]
    (lambda: landis_koch(math.nan), "finite or None"),
    (lambda: linear_mixed_model([1, 2, 3], [1, 2, 3], [1, 1, 2]), "got a list"),  # type: ignore[arg-type]
    (lambda: icc([[1e308, -1e308], [1, 2], [3, 4]]), "must not exceed"),
    (lambda: bland_altman([1e308, 1, 2], [-1e308, 2, 3]), "must not exceed"),
    (lambda: mcnemar(table=HUGE), "at most 1,000,000,000"),
    (lambda: cohen_kappa(table=HUGE), "at most 1,000,000,000"),
    (lambda: gwet_ac(table=HUGE), "at most 1,000,000,000"),
    (lambda: pabak(table=HUGE), "at most 1,000,000,000"),
    (lambda: gwet_ac(table=TABLE, tables=[TABLE]), "not both"),
    (lambda: gwet_ac([1, 2], [1, 2], tables=[TABLE]), "must stand alone"),
    (lambda: gwet_ac(tables=TABLE), r"\(cluster, category, category\)"),
    (lambda: gwet_ac([1, 2], [1, 1], weights="linear"), "categories must be declared"),
    (lambda: pabak([1, 2], [1, 1], weights="linear"), "categories must be declared"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_input_that_breaks_a_rule_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()


def test_n_that_agrees_with_the_table_is_taken() -> None:
    assert mcnemar(table=TABLE, n=10) == mcnemar(table=TABLE)


def test_a_billion_counts_have_finite_answers() -> None:
    table = [[400_000_000, 100_000_000], [99_000_000, 400_000_000]]
    answer = mcnemar(table=table)
    assert (answer.b, answer.c, answer.n) == (100_000_000, 99_000_000, 999_000_000)
    assert answer.p_value is not None
    assert cohen_kappa(table=table).interval is not None
    assert gwet_ac(table=table).interval is not None


def test_discordant_pairs_alone_are_said_to_be_alone() -> None:
    alone, known = mcnemar(3, 4), mcnemar(3, 4, 20)
    assert alone.method.endswith("n counts the discordant pairs alone")
    assert (alone.n, alone.difference_reason) == (7, Reason.PAIRS_UNKNOWN)
    assert "discordant" not in known.method
    assert (known.n, known.difference_reason, known.p_value) == (20, None, alone.p_value)


@pytest.mark.parametrize("scale", [1e-200, 1e-310, 1e-3, 1e200, 1e307])
@pytest.mark.parametrize("metric", ["interval", "ratio"])
def test_alpha_does_not_depend_on_the_unit(metric: str, scale: float) -> None:
    ratings = np.array([[1.0, 2.0], [4.0, 4.0], [5.0, 8.0], [2.0, 2.0]])
    expected = krippendorff_alpha(ratings, metric=metric)
    answer = krippendorff_alpha(ratings * scale, metric=metric)
    assert answer.value == pytest.approx(expected.value, rel=1e-9)
    assert answer.se == pytest.approx(expected.se, rel=1e-9)


def all_sign_flips(differences: list[float]) -> float:
    """Share of the flips of signs that are as far from the middle, every one of them tried."""
    values = np.array([value for value in differences if value != 0])
    sizes = np.abs(values)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    away = abs(float(ranks @ np.sign(values)))
    flips = [abs(float(ranks @ signs)) for signs in product((-1, 1), repeat=len(values))]
    return sum(flip >= away - 1e-9 for flip in flips) / len(flips)


@pytest.mark.parametrize(
    "differences",
    [
        [-1, -1, -1, -1],
        [1, 1, -1, 2, 0, 2, 3, 1],
        [-2, 1, 1, 1, 3, 3, 4, -1, 0, 0, 2],
        [1, 2, 3, 4, 5, 6, -7],
    ],
)
def test_few_pairs_have_the_exact_p_of_all_sign_flips(differences: list[float]) -> None:
    answer = wilcoxon_signed_rank(differences, [0] * len(differences))
    assert answer.p_exact == pytest.approx(all_sign_flips(differences), abs=1e-12)
    assert (answer.exact, answer.p_shown) == (True, answer.p_exact)
    assert answer.method.endswith("the exact permutation p is shown")


def test_wilcoxon_says_why_something_is_not_there() -> None:
    few = wilcoxon_signed_rank([1, 2, 3, 4], [2, 3, 4, 5], cluster=[1, 1, 1, 1])
    assert (few.p_exact, few.interval, few.interval_reason) == (0.125, None, Reason.TOO_FEW)
    assert (few.cluster_z, few.cluster_reason) == (None, Reason.TOO_FEW)
    many = wilcoxon_signed_rank(list(range(1, 25)), [0] * 24)
    assert many.interval is not None
    assert many.interval_reason is None
    assert (many.exact, many.p_shown) == (False, many.p_value)
    none = wilcoxon_signed_rank([math.nan], [1], cluster=[1])
    assert (none.interval_reason, none.cluster_reason) == (Reason.TOO_FEW, Reason.TOO_FEW)


def test_chance_agreement_can_be_planned_against() -> None:
    # With two raters the noncentrality of one subject is kappa1^2, whatever the prevalence.
    for prevalence in (0.1, 0.3, 0.5):
        found = sample_size_kappa(0, 0.5, prevalence=prevalence)
        assert found.n_unrounded == pytest.approx(7.8489 / 0.25, rel=1e-3)
    assert power_kappa(32, 0, 0.5, prevalence=0.3).power == pytest.approx(0.807, abs=1e-3)


def test_a_sample_of_millions_is_found_and_a_larger_one_is_not_called_impossible() -> None:
    found = sample_size_mcnemar(0.2, 0.199)
    assert found.n is not None
    assert found.n == pytest.approx(7.8489 * 0.399 / 0.001**2, rel=0.01)
    for beyond in (
        sample_size_mcnemar(0.2, 0.1999),
        sample_size_paired_t(1e-5, 1),
        sample_size_noninferiority(0.2, 0.2, 1e-4),
    ):
        assert (beyond.n, beyond.reason) == (None, Reason.TOO_MANY)
    assert sample_size_mcnemar(0.2, 0.2).reason is Reason.NOT_REACHABLE
    assert sample_size_paired_t(0, 1).reason is Reason.NOT_REACHABLE


def test_no_limit_lies_where_no_value_can() -> None:
    cluster = [1, 1, 2, 2, 3, 3, 4]
    first, second = [0, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0, 0]
    kappa = clustered_kappa(first, second, cluster=cluster)
    agreements = [
        kappa.interval,
        kappa.naive_interval,
        kappa.cluster_interval_t,
        gwet_ac(first, second, categories=(0, 1)).interval,
        fleiss_kappa(first, second).interval,
        krippendorff_alpha(first, second).interval,
    ]
    for interval in agreements:
        assert interval is not None
        assert -1 <= interval.low < interval.high <= 1
    assert agreements[1] is not None
    assert agreements[1].low == -1
    index = interchangeability([[0, 0], [0, 0]], [[1, 1], [1, 0]], n_resamples=0)
    assert index.value == 0.75
    assert index.interval is not None
    assert index.interval.high == 1
    test = obuchowski_rockette([[[3, 4, 1], [3, 4, 2]], [[1, 1, 3], [1, 3, 2]]], [1, 1, 0])
    assert test.fixed_cases is not None
    contrast = test.fixed_cases.contrasts[0].interval
    assert contrast is not None
    assert contrast.high == 1


def test_few_clusters_have_the_wider_interval_of_t_beside() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, 60)
    second = np.where(rng.random(60) < 0.2, 1 - first, first)
    answer = clustered_kappa(first, second, cluster=np.repeat(np.arange(12), 5))
    assert answer.interval is not None
    assert answer.cluster_interval_t is not None
    assert answer.value is not None
    wider = (answer.value - answer.cluster_interval_t.low) / (answer.value - answer.interval.low)
    assert wider == pytest.approx(2.200985 / 1.959964, rel=1e-6)  # t with 11 df over z


@pytest.mark.parametrize("weights", ["none", "quadratic"])
def test_gwet_from_a_table_a_cluster_is_gwet_from_ratings(weights: str) -> None:
    rng = np.random.default_rng(5)
    first = rng.integers(0, 3, 80)
    second = np.where(rng.random(80) < 0.3, rng.integers(0, 3, 80), first)
    cluster = rng.integers(0, 16, 80)
    tables = np.zeros((17, 3, 3), dtype=int)  # the last patient has no observation
    np.add.at(tables, (cluster, first, second), 1)
    scale = (0, 1, 2)
    counted = gwet_ac(tables=tables, categories=scale, weights=weights)
    rated = gwet_ac(first, second, categories=scale, weights=weights, cluster=cluster)
    whole = gwet_ac(table=tables.sum(axis=0), categories=scale, weights=weights)
    assert counted.value == pytest.approx(rated.value, rel=1e-12)
    assert (counted.n_clusters, counted.n) == (rated.n_clusters, 80)
    assert counted.cluster_se == pytest.approx(rated.cluster_se, rel=1e-12)
    assert counted.interval == whole.interval


def test_fleiss_counts_the_subjects_that_two_readers_rated() -> None:
    answer = fleiss_kappa([[1, 2, 1], [1, None, None], [2, 2, 1], [None] * 3], categories=(1, 2))
    assert (answer.n, answer.n_given, answer.n_missing) == (2, 4, 2)


def test_a_scale_is_declared_where_the_answer_depends_on_it() -> None:
    """Chance agreement of AC1 and PABAK changes with a category that nobody used."""
    first, second = [1, 2, 1, 2, 1, 1], [1, 2, 2, 2, 1, 1]
    for function in (gwet_ac, pabak):
        with pytest.raises(StatsError, match="categories must be declared"):
            function(first, second)
        of_two, of_three = (function(first, second, categories=s) for s in ((1, 2), (1, 2, 3)))
        assert of_two.value != of_three.value
    assert fleiss_kappa(first, second).categories is None


@pytest.mark.parametrize("name", [n for n in halfscan_stats.__all__ if n.islower()])
def test_signatures_can_be_read(name: str) -> None:
    signature = str(inspect.signature(getattr(halfscan_stats, name)))
    assert "_Buffer" not in signature
    assert "_SupportsArray" not in signature
