"""Sample sizes: powers by brute force and simulation, searches that are right to the last pair."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from halfscan_stats import (
    SampleSize,
    StatsError,
    cohen_kappa,
    mcnemar,
    noninferiority_paired_proportions,
    power_kappa,
    power_mcnemar,
    power_noninferiority,
    power_paired_t,
    sample_size_kappa,
    sample_size_mcnemar,
    sample_size_noninferiority,
    sample_size_paired_t,
)

quick = settings(max_examples=25, deadline=None)
shares = st.floats(0.01, 0.4)


def power(answer: SampleSize) -> float:
    assert answer.power is not None
    return answer.power


def enumerated(n: int, p10: float, p01: float, rejects: Any) -> float:
    """Power by going through every table one by one."""
    rest = 1 - p10 - p01
    return float(
        sum(
            stats.multinomial.pmf([b, c, n - b - c], n, [p10, p01, rest])
            for b, c in itertools.product(range(n + 1), repeat=2)
            if b + c <= n and rejects(b, c)
        )
    )


@pytest.mark.parametrize(("n", "p10", "p01"), [(12, 0.4, 0.1), (25, 0.3, 0.05), (9, 0.0, 0.8)])
def test_the_power_of_mcnemar_goes_through_every_table(n: int, p10: float, p01: float) -> None:
    expected = enumerated(n, p10, p01, lambda b, c: (mcnemar(b, c).p_value or 0) <= 0.05)
    assert power(power_mcnemar(n, p10, p01)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "p10", "p01", "margin"), [(15, 0.1, 0.1, 0.2), (22, 0.05, 0.2, 0.3), (18, 0.3, 0.0, 0.1)]
)
def test_the_power_of_noninferiority_goes_through_every_table(
    n: int, p10: float, p01: float, margin: float
) -> None:
    def rejects(b: int, c: int) -> bool:
        return bool(noninferiority_paired_proportions(b, c, n, margin=margin).noninferior)

    expected = enumerated(n, p10, p01, rejects)
    assert power(power_noninferiority(n, p10, p01, margin)) == pytest.approx(expected, abs=1e-12)


@quick
@given(st.integers(2, 200), st.floats(0, 2), st.floats(0.1, 3), st.sampled_from([0.01, 0.05]))
def test_the_power_of_t_is_that_of_statsmodels(
    n: int, delta: float, sd: float, alpha: float
) -> None:
    answer = power(power_paired_t(n, delta, sd, alpha=alpha, two_sided=False))
    expected = TTestPower().power(delta / sd, n, alpha, alternative="larger")
    assert answer == pytest.approx(expected, abs=1e-6)


def test_the_power_of_kappa_is_what_a_simulation_finds() -> None:
    # H0: kappa = .4; both readers find 30 %, and the truth is .7.
    n, share, rng = 80, 0.3, np.random.default_rng(1)
    both = share * (share + 0.7 * (1 - share))
    cells = [both, share - both, share - both, 1 - 2 * share + both]
    variance = _kappa_variance(0.4, share)
    rejected = 0
    for table in rng.multinomial(n, cells, size=2000):
        kappa = cohen_kappa(table=table.reshape(2, 2)).value or 0.0
        rejected += (kappa - 0.4) / math.sqrt(variance / n) > 1.6449
    answer = power_kappa(n, 0.4, 0.7, marginals=(share, share), two_sided=False)
    assert power(answer) == pytest.approx(rejected / 2000, abs=0.04)


def _kappa_variance(kappa: float, share: float) -> float:
    """N times the variance, from the standard error of a huge table with these shares."""
    both = share * (share + kappa * (1 - share))
    n = 10**9
    table = np.rint(np.array([[both, share - both], [share - both, 1 - 2 * share + both]]) * n)
    se = cohen_kappa(table=table.astype(np.int64)).se
    assert se is not None
    return n * se**2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_two_raters_and_the_dirichlet_model_are_the_same(share: float) -> None:
    one = sample_size_kappa(0.4, 0.6, prevalence=share)
    other = sample_size_kappa(0.4, 0.6, prevalence=[share, 1 - share])
    assert one == other


def test_more_raters_need_fewer_subjects() -> None:
    sizes = [sample_size_kappa(0.4, 0.6, prevalence=0.3, raters=r).n or 0 for r in (2, 3, 4, 6)]
    assert sizes == sorted(sizes, reverse=True)
    categories = [
        sample_size_kappa(0.4, 0.6, prevalence=[0.2, 0.3, 0.5], raters=r).n or 0 for r in (2, 3, 5)
    ]
    assert categories == sorted(categories, reverse=True)


@pytest.mark.parametrize("raters", [2, 3, 4])
@pytest.mark.parametrize("prevalence", [0.3, (0.2, 0.3, 0.5)])
def test_the_power_of_the_size_is_the_power_asked_for(raters: int, prevalence: Any) -> None:
    answer = sample_size_kappa(0.3, 0.6, prevalence=prevalence, raters=raters, power=0.9)
    assert answer.n is not None
    assert answer.n_unrounded is not None
    assert power(answer) >= 0.9 - 1e-5
    before = power_kappa(answer.n - 1, 0.3, 0.6, prevalence=prevalence, raters=raters)
    assert power(before) < 0.9


@quick
@given(shares, shares, st.sampled_from([0.7, 0.8, 0.9]))
def test_mcnemar_sizes_hold_from_there_on(p10: float, p01: float, target: float) -> None:
    if abs(p10 - p01) < 0.05:
        p10 += 0.1
    answer = sample_size_mcnemar(p10, p01, power=target)
    assert answer.n is not None
    assert power(power_mcnemar(answer.n, p10, p01)) == power(answer) >= target
    assert power(power_mcnemar(answer.n - 1, p10, p01)) < target
    after = range(answer.n, answer.n + 60)
    assert min(power(power_mcnemar(n, p10, p01)) for n in after) >= target


@quick
@given(st.floats(0, 0.1), st.floats(0, 0.1), st.sampled_from([0.05, 0.1]))
def test_noninferiority_sizes_hold_from_there_on(p10: float, p01: float, extra: float) -> None:
    margin = max(p01 - p10, 0) + extra
    answer = sample_size_noninferiority(p10, p01, margin)
    assert answer.n is not None
    assert power(answer) >= 0.8
    assert answer.n == 1 or power(power_noninferiority(answer.n - 1, p10, p01, margin)) < 0.8
    after = range(answer.n, answer.n + 60)
    assert min(power(power_noninferiority(n, p10, p01, margin)) for n in after) >= 0.8


@quick
@given(st.integers(2, 300), st.floats(0.05, 1), st.integers(1, 100))
def test_more_observations_have_more_power(n: int, effect: float, more: int) -> None:
    assert power(power_paired_t(n + more, effect, 1)) >= power(power_paired_t(n, effect, 1)) - 1e-9
    few, many = (power_kappa(k, 0.2, 0.2 + 0.7 * effect, prevalence=0.4) for k in (n, n + more))
    assert power(many) >= power(few) - 1e-9
    # exact tests are saw-toothed: four times as many are safely more
    for function, arguments in (
        (power_mcnemar, (0.3, 0.1)),
        (power_noninferiority, (0.05, 0.05, 0.1)),
    ):
        assert power(function(4 * n + 40, *arguments)) >= power(function(n, *arguments)) - 1e-9


@quick
@given(st.floats(0.05, 3), st.floats(0.5, 0.99), st.booleans())
def test_t_sizes_are_the_smallest(effect: float, target: float, two_sided: bool) -> None:  # noqa: FBT001
    answer = sample_size_paired_t(effect, 1, power=target, two_sided=two_sided)
    assert answer.n is not None
    assert power(answer) >= target - 1e-6
    if answer.n > 2:
        before = power_paired_t(answer.n - 1, effect, 1, two_sided=two_sided)
        assert power(before) < target + 1e-6


def test_the_test_keeps_its_level() -> None:
    for n in (20, 55, 155, 400):
        assert power(power_mcnemar(n, 0.1, 0.1)) <= 0.05
    for n in (60, 155, 400):  # the score test keeps it almost
        assert power(power_noninferiority(n, 0.02, 0.07, 0.05)) <= 0.06


def test_small_effects_need_no_table_of_all_counts() -> None:
    answer = sample_size_noninferiority(0.2, 0.2, 0.02)
    assert answer.n is not None
    assert 6000 < answer.n < 6400
    assert power(power_mcnemar(500_000, 0.101, 0.1)) < 1


def test_nested_observations_need_more() -> None:
    alone = sample_size_mcnemar(0.1, 0.03)
    nested = sample_size_mcnemar(0.1, 0.03, cluster_size=5, icc=0.2)
    assert alone.n is not None
    assert nested.n == math.ceil(1.8 * alone.n - 1e-9)
    assert nested.n_clusters == math.ceil(1.8 * alone.n / 5 - 1e-9)
    single = sample_size_mcnemar(0.1, 0.03, cluster_size=1, icc=0.9)
    assert (single.n, single.n_clusters) == (alone.n, alone.n)
    for size in (sample_size_paired_t, sample_size_noninferiority):
        arguments = (0.5, 1) if size is sample_size_paired_t else (0.02, 0.02, 0.05)
        assert size(*arguments, cluster_size=4, icc=1).design_effect == 4


@pytest.mark.parametrize(
    "answer",
    [
        sample_size_mcnemar(0.1, 0.1),
        sample_size_mcnemar(0, 0),
        sample_size_noninferiority(0.0, 0.05, 0.05),
        sample_size_noninferiority(0.0, 0.2, 0.05),
        sample_size_paired_t(0, 1),
        sample_size_kappa(0.5, 0.5, prevalence=0.3),
    ],
)
def test_what_no_sample_reaches(answer: SampleSize) -> None:
    assert (answer.n, answer.power, answer.reason) == (None, None, "not_reachable")
    json.dumps(answer.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (sample_size_paired_t, {"delta": 1, "sd": 0}, "sd must be above 0"),
        (sample_size_paired_t, {"delta": math.inf, "sd": 1}, "delta must be a finite"),
        (sample_size_paired_t, {"delta": 1, "sd": 1, "power": 0.01}, "power must be above alpha"),
        (sample_size_paired_t, {"delta": 1, "sd": 1, "alpha": 0}, "alpha must be above 0"),
        (sample_size_paired_t, {"delta": 1, "sd": 1, "icc": 0.2}, "icc needs cluster_size"),
        (sample_size_paired_t, {"delta": 1, "sd": 1, "icc": 2}, "icc must lie"),
        (sample_size_paired_t, {"delta": 1, "sd": 1, "cluster_size": 0}, "at least 1"),
        (power_paired_t, {"n": 1, "delta": 1, "sd": 1}, "n must be at least 2"),
        (power_mcnemar, {"n": 0, "p10": 0.1, "p01": 0.1}, "n must be at least 1"),
        (power_mcnemar, {"n": 5, "p10": -0.1, "p01": 0.1}, "lie in"),
        (power_mcnemar, {"n": 5, "p10": 0.6, "p01": 0.6}, "at most 1"),
        (power_noninferiority, {"n": 5, "p10": 0, "p01": 0, "margin": 0}, "margin must"),
        (sample_size_kappa, {"kappa0": 0.4, "kappa1": 0.6}, "either marginals"),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.6, "prevalence": 0.3, "marginals": (0.3, 0.3)},
            "either marginals",
        ),
        (sample_size_kappa, {"kappa0": -0.1, "kappa1": 0.6, "prevalence": 0.3}, "kappa must be"),
        (sample_size_kappa, {"kappa0": 0.4, "kappa1": 0.6, "prevalence": 1}, r"within \(0, 1\)"),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.6, "prevalence": [0.3, 0.3]},
            "must sum to 1",
        ),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.6, "prevalence": 0.3, "raters": 1},
            "raters must be at least 2",
        ),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.6, "marginals": (0.3, 0.3), "raters": 3},
            "marginals are for 2 raters",
        ),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.9, "marginals": (0.2, 0.8)},
            "cannot occur with the marginals",
        ),
        (
            sample_size_kappa,
            {"kappa0": 0.4, "kappa1": 0.9, "marginals": (0, 0.8)},
            "marginals must be above 0",
        ),
    ],
)
def test_refused(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        function(**arguments)


@pytest.mark.parametrize(("two_sided", "n"), [(False, 96), (True, 119)])
def test_the_example_of_another_manual_names_the_kappas_the_other_way_round(
    two_sided: bool,  # noqa: FBT001
    n: int,
) -> None:
    marginals = 0.5, 0.5
    found = sample_size_kappa(0.85, 0.7, marginals=marginals, two_sided=two_sided)
    other = sample_size_kappa(0.7, 0.85, marginals=marginals, two_sided=two_sided)
    assert found.n == n
    assert other.n is not None
    assert other.n > n


def test_what_never_occurs_needs_no_observations_of_its_own() -> None:
    rare = math.ulp(0.0)
    assert sample_size_noninferiority(rare, 0.0, 0.05) == sample_size_noninferiority(0.0, 0.0, 0.05)
    assert sample_size_mcnemar(rare, rare * 2).reason == "not_reachable"
