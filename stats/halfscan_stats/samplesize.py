"""How many pairs a reader study needs, and the power that it has.

Every function has a twin: ``sample_size_*`` searches the smallest number of observations whose
power reaches the target, ``power_*`` gives the power of a number of observations. The exact tests
are judged by enumerating every table that can occur, not by a normal approximation.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.measurements import finite
from halfscan_stats.planning import (
    CERTAIN,
    LARGEST,
    SampleSize,
    check,
    check_levels,
    in_clusters,
    smallest,
    tail_of,
    unreachable,
    whole,
)
from halfscan_stats.proportions import score_statistic
from halfscan_stats.samplesize_kappa import power_kappa, sample_size_kappa
from halfscan_stats.samplesize_mrmc import power_mrmc, sample_size_mrmc

__all__ = [
    "SampleSize",
    "power_kappa",
    "power_mcnemar",
    "power_mrmc",
    "power_noninferiority",
    "power_paired_t",
    "sample_size_kappa",
    "sample_size_mcnemar",
    "sample_size_mrmc",
    "sample_size_noninferiority",
    "sample_size_paired_t",
]

NEGLIGIBLE = 1e-100  # probability: what is rarer never occurs, and scipy's binomial overflows
BLOCK = 512  # numbers of discordant pairs that are worked out together

Floats = npt.NDArray[np.float64]


def power_paired_t(
    n: int,
    delta: float,
    sd: float,
    *,
    alpha: float = 0.05,
    two_sided: bool = True,
) -> SampleSize:
    """Power of the paired t-test.

    Parameters
    ----------
    n : int
        Pairs, at least 2.
    delta : float
        True mean of the differences, in the unit of `sd`.
    sd : float
        Standard deviation of the differences, above 0.
    alpha, two_sided
        Level, and whether the test is two-sided. As in R's ``power.t.test``, a rejection on the
        wrong side does not count as power.

    Returns
    -------
    SampleSize

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha)
    check(finite(sd, "sd") > 0, "sd must be above 0", sd)
    finite(delta, "delta")
    n = whole(n, 2)
    power = _t_power(n, abs(delta) / sd, tail_of(alpha, two_sided=two_sided))
    return SampleSize("paired t-test, noncentral t", n, power, alpha)


def sample_size_paired_t(
    delta: float,
    sd: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    two_sided: bool = True,
    cluster_size: float | None = None,
    icc: float = 0.0,
    cluster_size_cv: float = 0.0,
) -> SampleSize:
    """Pairs that a paired t-test needs, as R's ``power.t.test(type = "paired")``.

    Parameters
    ----------
    delta, sd, alpha, two_sided
        See `power_paired_t`.
    power : float
        Power to reach.
    cluster_size, icc, cluster_size_cv
        Mean number of pairs in a cluster (patient), their intraclass correlation, and the
        coefficient of variation of the cluster sizes (SD over mean, 0 where all are one size): n
        grows by the design effect ``1 + ((cv**2 + 1) * cluster_size - 1) * icc`` (Eldridge, Ashby
        & Kerry 2006, Int J Epidemiol 35:1292-1300). A cluster that is much larger than the others
        says less than its share.

    Returns
    -------
    SampleSize
        `n_unrounded` is the root that R prints. With delta 0 there is no n (`not_reachable`), and
        none is looked for beyond ten million (`too_many`).

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha, power)
    method = power_paired_t(2, delta, sd, alpha=alpha, two_sided=two_sided).method
    effect, tail = abs(delta) / sd, tail_of(alpha, two_sided=two_sided)
    if _t_power(LARGEST, effect, tail) < power:
        return unreachable(method, alpha, power, ever=delta != 0)
    low, high = 2.0, float(LARGEST)
    if _t_power(low, effect, tail) >= power:
        high = low
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_power(middle, effect, tail) < power else (low, middle)
    n = math.ceil(high - 1e-6)
    found = SampleSize(
        method, n, _t_power(n, effect, tail), alpha, n_unrounded=high, target_power=power
    )
    return in_clusters(found, cluster_size, icc, cluster_size_cv)


def _t_power(n: float, effect: float, tail: float) -> float:
    """Power of the upper tail."""
    from scipy import stats  # noqa: PLC0415  (slow import)

    critical, shift = special.stdtrit(n - 1, 1 - tail), math.sqrt(n) * effect
    if shift - critical > CERTAIN:
        return 1.0  # where the noncentral distribution is hard to compute
    return float(np.clip(stats.nct.sf(critical, n - 1, shift), 0.0, 1.0))


def power_mcnemar(n: int, p10: float, p01: float, *, alpha: float = 0.05) -> SampleSize:
    """Power of the exact (binomial) McNemar test, by enumeration.

    Every number of discordant pairs is weighted with its probability, and every split of it that
    the two-sided exact test rejects is counted.

    Parameters
    ----------
    n : int
        Pairs.
    p10, p01 : float
        Probability that a pair is positive on the first side only, and on the second side only.
    alpha : float
        Two-sided level.

    Returns
    -------
    SampleSize

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha)
    _check_discordance(p10, p01)
    n = whole(n, 1)
    power = _mcnemar_power(n, p10, p01, alpha)
    return SampleSize("McNemar, exact binomial, enumerated", n, power, alpha)


def sample_size_mcnemar(
    p10: float,
    p01: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    cluster_size: float | None = None,
    icc: float = 0.0,
    cluster_size_cv: float = 0.0,
) -> SampleSize:
    """Pairs that the exact McNemar test needs.

    The power of an exact test is saw-toothed in n. The answer is the n from which on the power
    stays at or above the target.

    Parameters
    ----------
    p10, p01, alpha
        See `power_mcnemar`.
    power : float
        Power to reach.
    cluster_size, icc, cluster_size_cv
        See `sample_size_paired_t`.

    Returns
    -------
    SampleSize
        With p10 = p01 there is no n (`not_reachable`), and none is looked for beyond ten million
        (`too_many`).

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha, power)
    method = power_mcnemar(1, p10, p01, alpha=alpha).method

    def at(n: int) -> float:
        return _mcnemar_power(n, p10, p01, alpha)

    if math.isclose(p10, p01, abs_tol=1e-12):
        return unreachable(method, alpha, power)
    n = smallest(at, power, 4 / (p10 + p01))
    if n is None:
        return unreachable(method, alpha, power, ever=True)
    found = SampleSize(method, n, at(n), alpha, target_power=power)
    return in_clusters(found, cluster_size, icc, cluster_size_cv)


def _mcnemar_power(n: int, p10: float, p01: float, alpha: float) -> float:
    """Sum over the numbers of discordant pairs that can occur."""
    from scipy import stats  # noqa: PLC0415  (slow import)

    discordant = p10 + p01
    if discordant < NEGLIGIBLE:
        return 0.0
    m = _likely(n, discordant)
    first, last = int(m[0]) // BLOCK, int(m[-1]) // BLOCK
    share = p10 / discordant
    rejected = np.concatenate([_rejected(i, share, alpha) for i in range(first, last + 1)])
    chance = rejected[m - first * BLOCK]
    return float(np.clip(np.sum(stats.binom.pmf(m, n, discordant) * chance), 0.0, 1.0))


@lru_cache(maxsize=256)
def _rejected(block: int, share: float, alpha: float) -> Floats:
    """Chance that the exact test rejects m discordant pairs, for a block of m: n plays no part."""
    from scipy import stats  # noqa: PLC0415  (slow import)

    m = np.arange(block * BLOCK, (block + 1) * BLOCK)
    # Largest count in the smaller cell that the exact test rejects: 2 P(X <= critical) <= alpha.
    critical = stats.binom.ppf(alpha / 2, m, 0.5)
    critical -= special.bdtr(critical, m, 0.5) > alpha / 2 * (1 + 1e-12)
    low = stats.binom.cdf(critical, m, share)
    high = stats.binom.sf(m - critical - 1, m, share)
    return np.where(critical >= 0, low + high, 0.0)


def power_noninferiority(
    n: int, p10: float, p01: float, margin: float, *, alpha: float = 0.05
) -> SampleSize:
    """Power of the score test of non-inferiority of paired proportions, by enumeration.

    Every table (b, c) is weighted with its trinomial probability; those that
    `noninferiority_paired_proportions` calls non-inferior are counted.

    Parameters
    ----------
    n : int
        Pairs.
    p10, p01 : float
        Probability that only the new method finds it, and that only the reference does.
    margin : float
        Margin of non-inferiority, a difference of proportions, above 0 and below 1.
    alpha : float
        One-sided level.

    Returns
    -------
    SampleSize

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha)
    _check_discordance(p10, p01)
    check(0 < finite(margin, "margin") < 1, "margin must be above 0 and below 1", margin)
    n = whole(n, 1)
    power = _score_power(n, p10, p01, margin, alpha)
    return SampleSize("score test (Nam 1997), enumerated", n, power, alpha)


def sample_size_noninferiority(
    p10: float,
    p01: float,
    margin: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    cluster_size: float | None = None,
    icc: float = 0.0,
    cluster_size_cv: float = 0.0,
) -> SampleSize:
    """Pairs that the score test of non-inferiority needs.

    Parameters
    ----------
    p10, p01, margin, alpha
        See `power_noninferiority`.
    power : float
        Power to reach; as for `sample_size_mcnemar` it holds from the answer on.
    cluster_size, icc, cluster_size_cv
        See `sample_size_paired_t`.

    Returns
    -------
    SampleSize
        Where the true difference p10 - p01 is not above -margin there is no n
        (`not_reachable`), and none is looked for beyond ten million (`too_many`).

    Raises
    ------
    StatsError
        If an argument lies outside its range.
    """
    check_levels(alpha, power)
    method = power_noninferiority(1, p10, p01, margin, alpha=alpha).method

    def at(n: int) -> float:
        return _score_power(n, p10, p01, margin, alpha)

    def at_all(n: npt.NDArray[np.int64]) -> Floats:
        return _score_powers(n, p10, p01, margin, alpha)

    if p10 - p01 <= -margin + 1e-12:
        return unreachable(method, alpha, power)
    n = smallest(at, power, 2 / margin, at_all)
    if n is None:
        return unreachable(method, alpha, power, ever=True)
    found = SampleSize(method, n, at(n), alpha, target_power=power)
    return in_clusters(found, cluster_size, icc, cluster_size_cv)


def _score_power(n: int, p10: float, p01: float, margin: float, alpha: float) -> float:
    """Sum over the tables that can occur."""
    return float(_score_powers(np.array([n]), p10, p01, margin, alpha)[0])


def _score_powers(
    n: npt.NDArray[np.int64], p10: float, p01: float, margin: float, alpha: float
) -> Floats:
    """Give the power of several n at once: a search asks for hundreds in a row."""
    from scipy import stats  # noqa: PLC0415  (slow import)

    p10 = 0.0 if p10 < NEGLIGIBLE else p10
    # What one n cannot have, another can: its probability is zero, or next to it.
    b = np.arange(_likely(int(n.min()), p10)[0], _likely(int(n.max()), p10)[-1] + 1)
    pairs = n[:, np.newaxis]
    others = np.maximum(pairs - b, 0)
    critical = special.ndtri(1 - alpha)
    # z falls with c, so that for every b the rejected tables are those up to some c.
    low, high = np.full(others.shape, -1), others.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        rejected = score_statistic(b, middle, pairs, -margin) >= critical
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle - 1)
    share = p01 / (1 - p10) if p10 < 1 else 0.0
    chance = stats.binom.cdf(low, others, min(share, 1.0))
    power = np.sum(stats.binom.pmf(b, pairs, p10) * np.where(low >= 0, chance, 0.0), axis=1)
    clipped: Floats = np.clip(power, 0.0, 1.0)
    return clipped


def _likely(n: int, probability: float) -> npt.NDArray[np.int64]:
    """Counts of n trials that occur: beyond 12 standard deviations nothing does."""
    mean = n * probability
    reach = 12 * math.sqrt(mean * (1 - probability)) + 30
    return np.arange(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)


def _check_discordance(p10: float, p01: float) -> None:
    for share in (p10, p01):
        check(0 <= finite(share, "p10 and p01") <= 1, "p10 and p01 must lie in [0, 1]", share)
    check(p10 + p01 <= 1 + 1e-12, "p10 + p01 must be at most 1", p10 + p01)
