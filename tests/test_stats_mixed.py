"""Mixed models and estimating equations: closed forms, guards, units."""

import json
import math
from typing import Any

import numpy as np
import pytest

from halfscan_stats import StatsError, gee_logit, linear_mixed_model, paired_t


def balanced(patients: int = 25, spread: float = 3.0, seed: int = 0) -> tuple[Any, Any, Any]:
    """Two protocols in every patient: y, protocol, patient."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    protocol = np.tile([0.0, 1.0], patients)
    y = 100 + 8 * protocol + spread * rng.normal(size=patients)[patient]
    return y + rng.normal(size=2 * patients), protocol, patient


def test_a_balanced_random_intercept_is_the_paired_t_test() -> None:
    y, protocol, patient = balanced()
    answer = linear_mixed_model(y, {"protocol": protocol}, patient)
    effect = answer.coefficient("protocol")
    t = paired_t(y[1::2], y[::2])
    assert effect is not None
    assert effect.estimate == pytest.approx(t.mean_difference)
    assert effect.se == pytest.approx(t.se, rel=1e-4)
    assert effect.z == pytest.approx(t.t, rel=1e-4)


def test_the_variances_are_those_of_the_mean_squares() -> None:
    y, protocol, patient = balanced()
    answer = linear_mixed_model(y, {"protocol": protocol}, patient)
    rest = y.reshape(-1, 2) - y.reshape(-1, 2).mean(axis=0)
    within = np.sum((rest - rest.mean(axis=1, keepdims=True)) ** 2) / (len(rest) - 1)
    between = 2 * rest.mean(axis=1).var(ddof=1)
    assert answer.sd_residual == pytest.approx(math.sqrt(within), rel=1e-3)
    assert answer.sd_group == pytest.approx(math.sqrt((between - within) / 2), rel=1e-3)
    assert answer.sd_group is not None
    assert answer.sd_residual is not None
    share = answer.sd_group**2 / (answer.sd_group**2 + answer.sd_residual**2)
    assert answer.icc == pytest.approx(share)


def test_patients_who_do_not_differ_have_a_spread_of_zero() -> None:
    # Gradients fail on the boundary; the fit must not.
    for seed in range(6):
        y, protocol, patient = balanced(spread=0.0, seed=seed)
        y -= 0.6 * (np.bincount(patient, y) / 2)[patient]
        answer = linear_mixed_model(y, {"protocol": protocol}, patient)
        assert answer.reason is None
        assert answer.sd_group == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale: float) -> None:
    y, protocol, patient = balanced()
    one = linear_mixed_model(y, {"protocol": protocol}, patient)
    other = linear_mixed_model(y * scale, {"protocol": protocol}, patient)
    assert one.coefficients[1].z == pytest.approx(other.coefficients[1].z, rel=1e-3)
    assert one.icc == pytest.approx(other.icc, rel=1e-3)


def test_order_and_missing_observations() -> None:
    y, protocol, patient = balanced()
    order = np.random.default_rng(2).permutation(y.size)
    one = linear_mixed_model(y, {"protocol": protocol}, patient)
    other = linear_mixed_model(y[order], {"protocol": protocol[order]}, patient[order])
    assert one.coefficients[1].estimate == pytest.approx(other.coefficients[1].estimate)
    gap = y.copy()
    gap[3] = np.nan
    answer = linear_mixed_model(gap, {"protocol": protocol}, patient)
    assert (answer.n, answer.n_given, answer.n_groups) == (49, 50, 25)


def test_random_slopes_have_a_spread_and_a_correlation() -> None:
    rng = np.random.default_rng(1)
    patient, day = np.repeat(np.arange(30), 8), np.tile(np.arange(8.0), 30)
    own = rng.normal(size=(30, 2)) * [2, 0.5]
    y = 10 + own[patient, 0] + (1 + own[patient, 1]) * day + rng.normal(size=240)
    answer = linear_mixed_model(y, {"day": day}, patient, slope="day")
    assert answer.sd_slope == pytest.approx(0.5, abs=0.15)
    assert answer.sd_group == pytest.approx(2, abs=0.6)
    assert answer.slope_correlation is not None
    assert -1 <= answer.slope_correlation <= 1
    assert answer.icc is None


@pytest.mark.parametrize(
    ("y", "fixed", "groups", "reason"),
    [
        ([1, 2, 3], {}, [1, 1, 1], "too_few"),
        ([1, 2, 3, 4], {}, [1, 2, 3, 4], "too_few"),
        ([], {}, [], "too_few"),
        ([4, 4, 4, 4], {}, [1, 1, 2, 2], "no_variation"),
        ([1, 2, 3, 5, 4, 1], {"p": [0] * 6}, [1, 1, 2, 2, 3, 3], "singular"),
        ([1, 1, 2, 2, 3, 3], {}, [1, 1, 2, 2, 3, 3], "zero_variance"),
        ([1, 2, 2, 3, 3, 4], {"p": [0, 1] * 3}, [1, 1, 2, 2, 3, 3], "zero_variance"),
    ],
)
def test_a_mixed_model_without_an_answer(y: Any, fixed: Any, groups: Any, reason: str) -> None:
    answer = linear_mixed_model(y, fixed, groups)
    assert (answer.coefficients, answer.sd_group, answer.reason) == ((), None, reason)
    assert answer.coefficient("intercept") is None
    json.dumps(answer.as_dict(), allow_nan=False)


def test_estimating_equations_of_one_share() -> None:
    # Only an intercept: the log odds of the share, and the sandwich of a mean.
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(31), 5)
    y = (rng.random(155) < 0.25 + 0.3 * (patient % 2)).astype(int)
    answer = gee_logit(y, {}, patient, correlation="independence")
    share = y.mean()
    sums = np.bincount(patient, y - share)
    se = math.sqrt(float(sums @ sums)) / 155 / (share * (1 - share))
    assert answer.coefficients[0].estimate == pytest.approx(math.log(share / (1 - share)))
    assert answer.coefficients[0].se == pytest.approx(se, rel=1e-6)
    assert answer.alpha is None
    exchangeable = gee_logit(y, {}, patient)
    residuals = (y - share) / math.sqrt(share * (1 - share))
    pairs = [
        residuals[i] * residuals[j]
        for i in range(155)
        for j in range(i)
        if patient[i] == patient[j]
    ]
    expected = np.mean(pairs) / np.mean(residuals**2)
    assert exchangeable.alpha == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("y", "fixed", "reason"),
    [
        ([0] * 8, {}, "no_variation"),
        ([0, 1, 0, 1, 1, 0, 1, 0], {"p": [1] * 8}, "singular"),
        ([0, 0, 0, 0, 1, 0, 1, 1], {"p": [0, 0, 0, 0, 1, 1, 1, 1]}, "singular"),
        ([0, 1, 0, 1, 0, 1, 0, 1], {"p": [0, 1] * 4}, "singular"),
    ],
)
def test_estimating_equations_without_an_answer(y: Any, fixed: Any, reason: str) -> None:
    answer = gee_logit(y, fixed, [1, 1, 2, 2, 3, 3, 4, 4])
    assert (answer.coefficients, answer.reason) == ((), reason)
    json.dumps(answer.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (linear_mixed_model, ([1, 2], {"p": [1]}, [1, 2]), "vectors of one length"),
        (linear_mixed_model, ([1, 2], {"intercept": [1, 2]}, [1, 2]), "an intercept is added"),
        (linear_mixed_model, ([1, 2], {"p": [1, 2]}, [1]), "one label an observation"),
        (gee_logit, ([0, 2], {"p": [1, 2]}, [1, 2]), "y must be 1 and 0"),
    ],
)
def test_refused(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        function(*arguments)
    with pytest.raises(StatsError, match="slope must be one of p"):
        linear_mixed_model([1, 2], {"p": [1, 2]}, [1, 2], slope="q")
    with pytest.raises(StatsError, match="correlation must be"):
        gee_logit([0, 1], {}, [1, 2], correlation="ar1")
