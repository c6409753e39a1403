"""MRMC designs that are not fully crossed, and non-inferiority: by brute force, R, simulation."""

import json
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from halfscan_stats import (
    MrmcUStatistics,
    Reason,
    StatsError,
    mrmc_ustatistics,
    noninferiority_mrmc,
    obuchowski_rockette,
)
from stats_golden import Case, agrees, own_cases, reference_cases, run

Scores = npt.NDArray[np.float64]


def study(
    rng: np.random.Generator, treatments: int = 2, readers: int = 4, cases: int = 24
) -> tuple[Scores, npt.NDArray[np.int64]]:
    """Ratings of readers who differ, (treatment, reader, case), and the truth."""
    truth = (np.arange(cases) % 2 == 0).astype(int)
    case = rng.normal(0, 0.7, cases) + 1.2 * truth
    per_reader = rng.normal(0, 0.4, (1, readers, 1)) + rng.normal(0, 0.3, (treatments, readers, 1))
    own = rng.normal(0, 0.4, (treatments, 1, cases)) + rng.normal(0, 0.6, (1, readers, cases))
    noise = rng.normal(0, 0.4, (treatments, readers, cases))
    return np.round(case + truth * per_reader + own + noise, 1), truth


def split(ratings: Scores) -> Scores:
    """Two readers read every other pair of cases, the other two the rest."""
    part = ratings.copy()
    early = np.arange(ratings.shape[2]) % 4 < 2
    part[:, :2, ~early] = np.nan
    part[:, 2:, early] = np.nan
    return part


@pytest.mark.parametrize("case", own_cases("multireader"))
def test_worked_example(case: Case) -> None:
    agrees(run(case), case["expected"], case["tolerance"])


@pytest.mark.parametrize("case", own_cases("multireader"))
def test_noninferiority_of_the_worked_examples(case: Case) -> None:
    known = case["noninferiority"]
    answer = noninferiority_mrmc(run(case), known["margin"])
    expected = {name: known[key] for name, key in (("p_value", "p_value"),)}
    expected |= {"interval.low": known["low"], "interval.high": known["high"]}
    agrees(answer, expected, case["tolerance"])
    assert answer.noninferior is (known["p_value"] <= 0.05)
    assert answer.noninferior is (known["low"] >= -known["margin"])


@pytest.mark.parametrize("case", reference_cases("mrmc_or"))
def test_van_dyke_has_the_standard_error_that_mrmcaov_printed(case: Case) -> None:
    data, known = case["data"], case["expected"]["random_both_unbiased"]
    ratings = [[[int(s) for s in data[f"t{t}r{r}"]] for r in range(1, 6)] for t in (1, 2)]
    answer = mrmc_ustatistics(ratings, [int(s) for s in data["truth"]])
    expected = {"value": known["diff"], "contrasts.0.se": known["se"], "contrasts.0.t": known["t"]}
    agrees(answer, expected, case["tolerance"])
    # The algorithm of iMRMC (doAUCmrmc) in R, on the same data: its dfBDG and variances.
    figures = {"contrasts.0.df": 12.8134110059817, "moments.0.covariance": 0.00109370448987996}
    figures |= {"moments.2.covariance": 0.00046187159143613}
    agrees(answer, figures, 1e-12)


def products(ratings: Scores, truth: npt.NDArray[np.int64]) -> list[list[float]]:
    """M1 to M8 of the first and the second treatment by their definition, pair by pair."""
    kinds = (np.flatnonzero(truth == 1), np.flatnonzero(truth == 0))
    found: list[list[float]] = [[] for _ in range(8)]
    compared = list(product(range(ratings.shape[1]), *kinds))
    for (r, p, q), (s, u, v) in product(compared, repeat=2):
        sides = (ratings[0, r, p] - ratings[0, r, q], ratings[1, s, u] - ratings[1, s, v])
        if np.isnan(sides).any():
            continue
        shared = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        kind = shared[p == u, q == v] + (0 if r == s else 4)
        found[kind].append(float(np.prod([(np.sign(side) + 1) / 2 for side in sides])))
    return found


@pytest.mark.parametrize("missing", ["none", "split", "some"])
def test_moments_are_means_over_pairs_of_comparisons(missing: str) -> None:
    rng = np.random.default_rng(11)
    ratings, truth = study(rng, cases=8)
    if missing == "split":
        ratings = split(ratings)
    if missing == "some":
        ratings[rng.random(ratings.shape) < 0.2] = np.nan
    answer = mrmc_ustatistics(ratings, truth)
    expected = products(ratings, truth)
    across = next(one for one in answer.moments if (one.first, one.second) == (0, 1))
    assert across.values == pytest.approx([np.mean(found) for found in expected])
    shares = np.array([len(found) for found in expected]) / sum(map(len, expected))
    shares[7] -= 1
    assert across.coefficients == pytest.approx(shares)
    assert across.covariance == pytest.approx(float(shares @ np.array(across.values, float)))


def test_fully_crossed_it_is_obuchowski_and_rockette_with_unbiased_covariances() -> None:
    for seed in range(5):
        ratings, truth = study(np.random.default_rng(seed), treatments=3)
        answer = mrmc_ustatistics(ratings, truth)
        assert answer.design == "fully crossed"
        known = obuchowski_rockette(ratings, truth, covariance="unbiased")
        assert np.allclose(np.array(answer.figures, float), known.figures)
        # The same for each pair: with three treatments OR pools what the contrasts keep apart.
        pair = obuchowski_rockette(ratings[:2], truth, covariance="unbiased")
        parts = pair.components
        assert parts.cov2 is not None
        assert parts.cov3 is not None
        if parts.cov2 >= parts.cov3 and pair.random_both is not None:
            assert answer.contrasts[0].se == pytest.approx(pair.random_both.contrasts[0].se)


def test_one_reader_is_tested_as_delong_does() -> None:
    ratings, truth = study(np.random.default_rng(3), readers=1, cases=80)
    answer = mrmc_ustatistics(ratings, truth)
    assert (answer.reason, answer.contrasts[0].reason) == (Reason.TOO_FEW, Reason.TOO_FEW)
    fixed = answer.fixed_readers[0]
    unbiased = obuchowski_rockette(ratings, truth, covariance="unbiased").fixed_readers
    delong = obuchowski_rockette(ratings, truth, covariance="delong").fixed_readers
    assert unbiased is not None
    assert delong is not None
    assert fixed.se == pytest.approx(unbiased.contrasts[0].se, rel=1e-12)
    assert fixed.se == pytest.approx(delong.contrasts[0].se, rel=0.03)
    assert fixed.p_value == pytest.approx(unbiased.contrasts[0].p_value)


def test_readers_who_share_no_case_have_independent_areas() -> None:
    ratings, truth = study(np.random.default_rng(5))
    answer = mrmc_ustatistics(split(ratings), truth)
    alone = [
        mrmc_ustatistics(part[:, :, ~np.isnan(part[0, 0])], truth[~np.isnan(part[0, 0])])
        for part in (split(ratings)[:, :2], split(ratings)[:, 2:])
    ]
    variances = [(one.fixed_readers[0].se or 0) ** 2 for one in alone]
    assert (answer.fixed_readers[0].se or 0) ** 2 == pytest.approx(sum(variances) / 4)


@pytest.mark.parametrize("design", ["split", "incomplete"])
def test_the_variance_is_unbiased(design: str) -> None:
    """Over many studies its mean is the variance of the difference, within Monte Carlo error."""
    rng = np.random.default_rng(17)
    differences, variances = [], []
    for _ in range(4000):
        ratings, truth = study(rng)
        if design == "split":
            ratings = split(ratings)
        else:
            ratings[rng.random(ratings.shape) < 0.3] = np.nan
        answer = mrmc_ustatistics(ratings, truth)
        first, both, second = (one.covariance for one in answer.moments)
        assert first is not None
        assert both is not None
        assert second is not None
        differences.append(answer.value or 0.0)
        variances.append(first + second - 2 * both)
    spread = np.var(differences, ddof=1)
    error = float(np.hypot(spread * (2 / 4000) ** 0.5, np.std(variances) / 4000**0.5))
    assert abs(np.mean(variances) - spread) < 3 * error
    assert error < 0.05 * spread


def test_the_design_is_named_and_counted() -> None:
    ratings, truth = study(np.random.default_rng(1))
    ratings[:, :, 3] = np.nan  # read by nobody yet
    answer = mrmc_ustatistics(ratings, truth)
    assert (answer.design, answer.n, answer.n_given) == ("fully crossed", 23, 24)
    assert mrmc_ustatistics(split(ratings), truth).design == "paired split plot"
    ratings[0, 1, 5] = np.nan
    holed = mrmc_ustatistics(ratings, truth)
    assert (holed.design, holed.n_ratings) == ("incomplete", 2 * 4 * 23 - 1)
    unknown = [None if case == 0 else int(value) for case, value in enumerate(truth)]
    assert mrmc_ustatistics(ratings, unknown).n == 22  # type: ignore[arg-type]  # None is missing


def test_paired_takes_what_a_reader_rated_with_every_treatment() -> None:
    ratings, truth = study(np.random.default_rng(6))
    assert mrmc_ustatistics(split(ratings), truth, paired=True) == mrmc_ustatistics(
        split(ratings), truth
    )
    ratings[0, 1, 5] = ratings[1, 2, 7] = np.nan
    answer = mrmc_ustatistics(ratings, truth, paired=True)
    ratings[1, 1, 5] = ratings[0, 2, 7] = np.nan
    assert answer == mrmc_ustatistics(ratings, truth)
    assert (answer.design, answer.n_ratings) == ("paired split plot", 2 * (4 * 24 - 2))


def test_paired_the_variance_of_holed_ratings_keeps_above_zero() -> None:
    """What readers and cases have in common cancels only where both treatments have it."""
    rng = np.random.default_rng(12)
    undefined = {True: 0, False: 0}
    for _ in range(200):
        ratings, truth = study(rng, cases=60)
        ratings[rng.random(ratings.shape) < 0.2] = np.nan
        for paired in undefined:
            undefined[paired] += mrmc_ustatistics(ratings, truth, paired=paired).interval is None
    assert undefined[True] == 0
    assert undefined[False] > 0


def test_order_does_not_matter() -> None:
    ratings, truth = study(np.random.default_rng(8))
    ratings = split(ratings)
    answer = mrmc_ustatistics(ratings, truth)
    order = np.random.default_rng(1).permutation(truth.size)
    for other in (
        mrmc_ustatistics(ratings[:, :, order], truth[order]),
        mrmc_ustatistics(ratings[:, ::-1], truth),
        mrmc_ustatistics(np.exp(ratings), truth),
        mrmc_ustatistics(-ratings, 1 - truth),
    ):
        assert other.value == pytest.approx(answer.value)
        assert other.contrasts[0].se == pytest.approx(answer.contrasts[0].se)
        assert other.contrasts[0].df == pytest.approx(answer.contrasts[0].df)
    swapped = mrmc_ustatistics(ratings[::-1], truth)
    assert swapped.value == pytest.approx(-(answer.value or 0))
    assert swapped.p_value == pytest.approx(answer.p_value)


def reasons(answer: MrmcUStatistics) -> list[Any]:
    """Every reason there is, after the answer has been written as JSON."""
    json.dumps(answer.as_dict(), allow_nan=False)
    return [one.reason for one in (*answer.contrasts, *answer.fixed_readers)]


def test_undefined_answers_say_why() -> None:
    ratings, truth = study(np.random.default_rng(2))
    nothing = mrmc_ustatistics(ratings, np.zeros(24))
    assert (nothing.value, nothing.reason, reasons(nothing)) == (None, Reason.TOO_FEW, [])
    assert {one.reason for one in nothing.treatments} == {Reason.TOO_FEW}
    kept = [0, *np.flatnonzero(truth == 0)]
    assert reasons(mrmc_ustatistics(ratings[:, :, kept], truth[kept])) == [Reason.TOO_FEW] * 2
    same = np.concatenate([ratings[:1], ratings[:1]])
    assert reasons(mrmc_ustatistics(same, truth)) == [Reason.ZERO_VARIANCE] * 2
    empty = np.full_like(ratings, np.nan)
    assert mrmc_ustatistics(empty, truth).reason is Reason.TOO_FEW


def test_a_negative_variance_is_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 3)
    found = {}
    for _ in range(200):
        answer = mrmc_ustatistics(rng.integers(1, 4, (2, 2, 6)).astype(float), truth)
        found[answer.reason] = answer
    assert found[Reason.NEGATIVE_VARIANCE].interval is None
    assert found[Reason.NEGATIVE_VARIANCE].contrasts[0].p_value is None


@pytest.mark.parametrize("method", ["or", "u"])
@pytest.mark.parametrize("readers", ["random", "fixed"])
def test_noninferiority_is_the_one_sided_test_of_the_shifted_difference(
    method: str, readers: str
) -> None:
    ratings, truth = study(np.random.default_rng(21))
    analysis: Any = (
        obuchowski_rockette(ratings, truth) if method == "or" else mrmc_ustatistics(ratings, truth)
    )
    answer = noninferiority_mrmc(analysis, 0.1, alpha=0.025, readers=readers)
    assert answer.se is not None
    t = (analysis.value + 0.1) / answer.se
    df = np.inf if answer.df is None else answer.df
    assert (answer.df is None) is (readers == "fixed")
    assert answer.statistic == pytest.approx(t)
    assert answer.p_value == pytest.approx(float(stats.t.sf(t, df)))
    assert answer.interval is not None
    low = analysis.value - stats.t.ppf(0.975, df) * answer.se
    assert answer.interval.low == pytest.approx(low)
    # Decided by the same method: at the margin where the limit lies, p is alpha.
    if low < 0:
        edge = noninferiority_mrmc(analysis, -float(low), alpha=0.025, readers=readers)
        assert edge.p_value == pytest.approx(0.025)


def test_noninferiority_of_the_other_way_round() -> None:
    ratings, truth = study(np.random.default_rng(4))
    analysis = obuchowski_rockette(ratings, truth)
    swapped = noninferiority_mrmc(analysis, 0.05, first=1, second=0)
    again = noninferiority_mrmc(obuchowski_rockette(ratings[::-1], truth), 0.05)
    assert swapped.difference == pytest.approx(again.difference)
    assert swapped.p_value == pytest.approx(again.p_value)


def test_noninferiority_without_an_error_says_why() -> None:
    ratings, truth = study(np.random.default_rng(4), readers=1)
    for analysis in (obuchowski_rockette(ratings, truth), mrmc_ustatistics(ratings, truth)):
        answer = noninferiority_mrmc(analysis, 0.05)
        assert (answer.p_value, answer.noninferior, answer.interval) == (None, None, None)
        assert answer.reason is Reason.TOO_FEW
        known = mrmc_ustatistics(ratings, truth).contrasts[0].difference
        assert answer.difference == pytest.approx(known)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": 0}, "margin must be above 0 and below 1, got 0"),
        ({"margin": 1.5}, "margin must be above 0 and below 1, got 1.5"),
        ({"margin": 0.1, "alpha": 0.5}, "alpha must be above 0 and below 0.5, got 0.5"),
        ({"margin": 0.1, "readers": "both"}, "readers must be random or fixed, got 'both'"),
        ({"margin": 0.1, "second": 2}, "two of 2 treatments from 0, got 0 and 2"),
        ({"margin": 0.1, "second": 0}, "two of 2 treatments from 0, got 0 and 0"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    ratings, truth = study(np.random.default_rng(4))
    with pytest.raises(StatsError, match=message):
        noninferiority_mrmc(mrmc_ustatistics(ratings, truth), **arguments)


@pytest.mark.parametrize(
    ("ratings", "truth", "message"),
    [
        ([[1, 2]], [0, 1], r"\(treatment, reader, case\), got shape"),
        (np.ones((2, 2, 3)), [0, 1], "one value a case"),
        (np.ones((2, 2, 2)), [0, 3], "1 with the finding"),
    ],
)
def test_ratings_that_are_no_design_are_refused(ratings: Any, truth: Any, message: str) -> None:
    with pytest.raises(StatsError, match=message):
        mrmc_ustatistics(ratings, truth)
