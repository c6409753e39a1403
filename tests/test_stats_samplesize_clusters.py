"""Sample sizes where patients give several observations, and of studies of many readers."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from halfscan_stats import (
    Reason,
    SampleSize,
    StatsError,
    VarianceComponents,
    noninferiority_mrmc,
    obuchowski_rockette,
    power_mrmc,
    sample_size_kappa,
    sample_size_mcnemar,
    sample_size_mrmc,
    sample_size_noninferiority,
    sample_size_paired_t,
)

# Of Van Dyke's study (114 cases, 5 readers, jackknife), as R's MRMCaov 0.3.0 prints them.
VAN_DYKE = VarianceComponents(
    treatment_reader=0.0002004025235815,
    error=0.0008022882655721,
    cov1=0.0003466137094407,
    cov2=0.0003440748288609,
    cov3=0.0002390283708922,
)
PLANS: dict[str, Callable[..., SampleSize]] = {
    "paired_t": lambda **nested: sample_size_paired_t(1, 2, **nested),
    "mcnemar": lambda **nested: sample_size_mcnemar(0.2, 0.1, **nested),
    "noninferiority": lambda **nested: sample_size_noninferiority(0.1, 0.1, 0.1, **nested),
    "kappa": lambda **nested: sample_size_kappa(0.4, 0.7, prevalence=0.3, **nested),
    "mrmc": lambda **nested: sample_size_mrmc(
        0.05, VAN_DYKE, n_readers=6, pilot_cases=114, **nested
    ),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_size_grows_with_the_design_effect(plan: Callable[..., SampleSize]) -> None:
    alone = plan()
    assert alone.n is not None
    assert (alone.design_effect, alone.n_clusters) == (1.0, None)
    even = plan(cluster_size=5, icc=0.25)
    assert (even.n, even.design_effect) == (2 * alone.n, 2.0)
    assert even.n_clusters == math.ceil(2 * alone.n / 5)
    uneven = plan(cluster_size=5, icc=0.25, cluster_size_cv=0.6)
    assert uneven.design_effect == pytest.approx(1 + (1.36 * 5 - 1) * 0.25)
    assert uneven.n == math.ceil(alone.n * uneven.design_effect - 1e-9)
    assert plan(cluster_size=5, cluster_size_cv=0.6).n == alone.n  # no correlation, no loss


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"cluster_size": 0.5}, "cluster_size must be at least 1, got 0.5"),
        ({"cluster_size": 2, "icc": 1.5}, r"icc must lie in \[0, 1\], got 1.5"),
        ({"icc": 0.5}, "icc needs cluster_size, got 0.5"),
        ({"cluster_size_cv": 0.5}, "cluster_size_cv needs cluster_size, got 0.5"),
        ({"cluster_size": 2, "cluster_size_cv": -1}, "cluster_size_cv must be at least 0"),
    ],
)
def test_clusters_that_cannot_be(
    plan: Callable[..., SampleSize], nested: dict[str, float], message: str
) -> None:
    with pytest.raises(StatsError, match=message):
        plan(**nested)


@pytest.mark.parametrize("sizes", [[4, 4, 4], [1, 1, 10], [2, 3, 5, 8, 13]])
@pytest.mark.parametrize("icc", [0.0, 0.1, 0.6])
def test_the_design_effect_is_the_variance_of_a_mean_over_clusters(
    sizes: list[int], icc: float
) -> None:
    """Var(mean) n / sd^2 where observations of a cluster correlate by the icc, added up."""
    matrix = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for size in sizes:
        matrix[start : start + size, start : start + size] = icc
        start += size
    np.fill_diagonal(matrix, 1.0)
    variance = matrix.sum() / sum(sizes) ** 2
    cv = float(np.std(sizes) / np.mean(sizes))
    found = sample_size_paired_t(
        1, 2, cluster_size=float(np.mean(sizes)), icc=icc, cluster_size_cv=cv
    )
    assert found.design_effect == pytest.approx(variance * sum(sizes))


@pytest.mark.parametrize(
    ("readers", "cases", "difference", "power"),
    [
        # R 4 with the formulas of RJafroc's SsPowerGivenJKOrVarCom (RRRC), noncentral F of R.
        (5, 114, 0.0438003220612, 0.50704296707466),
        (6, 251, 0.05, 0.89228198939154),
        (6, 250, 0.05, 0.89154564566796),
        (5, 100, 0.05, 0.57333597776827),
        (10, 112, 0.05, 0.78152942320652),
    ],
)
def test_power_of_van_dyke(readers: int, cases: int, difference: float, power: float) -> None:
    found = power_mrmc(cases, difference, VAN_DYKE, n_readers=readers, pilot_cases=114)
    assert found.power == pytest.approx(power, abs=1e-9)
    assert (found.n, found.n_readers) == (cases, readers)


@pytest.mark.parametrize(
    ("readers", "two_sided", "one_sided"),
    [(4, 361, 188), (6, 170, 119), (8, 134, 100)],  # R, as above; one-sided: noncentral t
)
def test_cases_for_a_power_of_80_percent(readers: int, two_sided: int, one_sided: int) -> None:
    study: dict[str, Any] = {"n_readers": readers, "pilot_cases": 114}
    assert sample_size_mrmc(0.05, VAN_DYKE, **study).n == two_sided
    assert sample_size_mrmc(0, VAN_DYKE, margin=0.05, **study).n == one_sided
    # A shift of .05 is one, whether it is the difference, the margin or both.
    assert sample_size_mrmc(0.02, VAN_DYKE, margin=0.03, **study).n == one_sided


def test_what_no_number_of_cases_reaches() -> None:
    study: dict[str, Any] = {"pilot_cases": 114}
    few = sample_size_mrmc(0.05, VAN_DYKE, n_readers=2, **study)
    assert (few.n, few.reason) == (None, Reason.NOT_REACHABLE)
    nothing = sample_size_mrmc(0, VAN_DYKE, n_readers=8, **study)
    assert nothing.reason is Reason.NOT_REACHABLE
    worse = sample_size_mrmc(-0.06, VAN_DYKE, n_readers=8, margin=0.05, **study)
    assert worse.reason is Reason.NOT_REACHABLE
    alike = replace(VAN_DYKE, treatment_reader=-0.0001)  # counts as 0
    far = sample_size_mrmc(1e-6, alike, n_readers=8, **study)
    assert far.reason is Reason.TOO_MANY


def test_one_case_less_falls_short() -> None:
    study: dict[str, Any] = {"n_readers": 6, "pilot_cases": 114}
    found = sample_size_mrmc(0, VAN_DYKE, margin=0.05, **study)
    assert found.n is not None
    less = power_mrmc(found.n - 1, 0, VAN_DYKE, margin=0.05, **study).power
    enough = power_mrmc(found.n, 0, VAN_DYKE, margin=0.05, **study).power
    assert less is not None
    assert enough is not None
    assert less < 0.8 <= enough == found.power


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difference": 1.5}, r"difference must lie in \(-1, 1\), got 1.5"),
        ({"margin": 0}, "margin must be above 0 and below 1, got 0"),
        ({"n_readers": 1}, "n_readers must be at least 2, got 1"),
        ({"n_readers": 2.5}, "n_readers must be a whole number, got 2.5"),
        ({"pilot_cases": 1}, "pilot_cases must be at least 2, got 1"),
        ({"components": VarianceComponents()}, "components must have treatment_reader"),
        (
            {"components": VarianceComponents(None, 0.0, 0.0, 0.0, 0.0, 0.0)},
            "components leave no variance of cases",
        ),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "difference": 0.05,
        "components": VAN_DYKE,
        "n_readers": 5,
        "pilot_cases": 114,
    } | arguments
    with pytest.raises(StatsError, match=message):
        sample_size_mrmc(**given)


def simulated(rng: np.random.Generator, readers: int, cases: int) -> tuple[Any, Any]:
    """A study of two equal treatments, and its truth."""
    truth = (np.arange(cases) % 2 == 0).astype(int)
    case = rng.normal(0, 0.7, cases) + 1.5 * truth
    apart = rng.normal(0, 0.3, (1, readers, 1)) + rng.normal(0, 0.2, (2, readers, 1))
    noise = rng.normal(0, 0.5, (2, 1, cases)) + rng.normal(0, 0.7, (2, readers, cases))
    return case + truth * apart + noise, truth


def test_the_planned_power_is_the_power_of_the_test() -> None:
    """Components of large pilot studies, then how often the planned study shows its hypothesis."""
    rng = np.random.default_rng(31)
    names = ("treatment_reader", "error", "cov1", "cov2", "cov3")
    pilots = [obuchowski_rockette(*simulated(rng, 6, 100)).components for _ in range(150)]
    means = {name: float(np.mean([getattr(one, name) for one in pilots])) for name in names}
    components = VarianceComponents(**means)
    planned = power_mrmc(80, 0, components, n_readers=5, pilot_cases=100, margin=0.08)
    shown = [
        noninferiority_mrmc(obuchowski_rockette(*simulated(rng, 5, 80)), 0.08).noninferior is True
        for _ in range(600)
    ]
    assert planned.power is not None
    assert 0.5 < planned.power < 0.95
    error = math.sqrt(planned.power * (1 - planned.power) / 600)
    assert abs(np.mean(shown) - planned.power) < 3 * error + 0.03  # the pilots' own error
