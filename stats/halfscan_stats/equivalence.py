"""What a test of difference cannot say: that the new method is not worse, or as good.

Non-inferiority and equivalence of paired proportions (score test) and of paired means (two
one-sided t-tests), with the intervals that belong to them. Interchangeability of readers' scores
has a module of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.inference import normal_quantile, t_quantile
from halfscan_stats.interchangeability import Interchangeability, interchangeability
from halfscan_stats.paired import PairedT, cluster_spread, paired_t
from halfscan_stats.proportions import (
    PairedCounts,
    paired_counts,
    score_limits,
    score_statistic,
)
from halfscan_stats.ratings import check_level, cluster_codes, finite
from halfscan_stats.result import Estimate, Interval, Reason, TestResult

__all__ = [
    "Interchangeability",
    "NonInferiority",
    "PairedDifference",
    "Tost",
    "interchangeability",
    "noninferiority_paired_proportions",
    "tango_interval",
    "tost_paired",
]


@dataclass(frozen=True, slots=True)
class PairedDifference(Estimate):
    """A difference of paired proportions with its score interval.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; the value is (b - c) / n, the first side minus the second.
    b, c : int
        Pairs that are positive on the first side only, and on the second side only.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_se, cluster_interval : float, Interval or None
        With the pairs nested in clusters: the sandwich, and Student's t.
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    """

    b: int = 0
    c: int = 0
    n_clusters: int | None = None
    cluster_se: float | None = None
    cluster_interval: Interval | None = None
    cluster_reason: Reason | None = None


def tango_interval(  # noqa: PLR0913  (all but the answers are keywords)
    first: npt.ArrayLike | None = None,
    second: npt.ArrayLike | None = None,
    n: int | None = None,
    *,
    b: int | None = None,
    c: int | None = None,
    table: npt.ArrayLike | None = None,
    categories: Sequence[Hashable] | None = None,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """Difference of two paired proportions, with Tango's score interval [1]_.

    The limits are the differences that the score test does not reject. They are there for every
    table with a pair in it: with no discordant pair at all too.

    Parameters
    ----------
    first, second : array_like
        (pair,), the answers of either side, None or NaN where missing (pairwise deletion); or the
        counts b and c.
    n : int, optional
        Pairs, where counts are given.
    b, c : int, optional
        Pairs that are positive on the first side only, and on the second side only.
    table : array_like, optional
        (2, 2), first side down, second across, positive first: [[a, b], [c, d]].
    categories : sequence of two, optional
        What stands for negative and for positive; 0 and 1 without it.
    cluster : array_like, optional
        (pair,), the patient that a pair belongs to: an interval that allows for it stands beside.
    level : float
        Confidence level, two-sided.

    Returns
    -------
    PairedDifference
        No pair: None (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Tango T (1998). Stat Med 17:891-908.
    """
    check_level(level)
    counts, pairs = _counted(
        paired_counts(first, second, n, b=b, c=c, table=table, categories=categories)
    )
    method = "difference of paired proportions, score interval (Tango 1998)"
    if pairs == 0:
        return PairedDifference(method, 0, counts.n_given, reason=Reason.TOO_FEW)
    limits = score_limits(counts.b, counts.c, pairs, normal_quantile((1 + level) / 2))
    return PairedDifference(
        method,
        pairs,
        counts.n_given,
        value=(counts.b - counts.c) / pairs,
        interval=Interval(*limits, level),
        b=counts.b,
        c=counts.c,
        **_cluster_fields(counts, cluster, level),
    )


def _counted(counts: PairedCounts) -> tuple[PairedCounts, int]:
    """Give the counts, and the number of pairs, which the difference needs."""
    if counts.n is None:
        raise StatsError("n is needed beside the counts b and c: the difference is (b - c) / n")
    return counts, counts.n


def _cluster_fields(
    counts: PairedCounts, cluster: npt.ArrayLike | None, level: float
) -> dict[str, Any]:
    """Give what the clusters add to a difference of proportions."""
    if cluster is None:
        return {}
    if counts.differences is None or counts.kept is None:
        raise StatsError("cluster needs the answers as vectors: counts do not know their patients")
    codes, count = cluster_codes(cluster, counts.kept)
    mean = float(counts.differences.mean())
    se = cluster_spread(counts.differences - mean, codes, count)
    if se is None:
        reason = Reason.TOO_FEW if count < 2 else Reason.ZERO_VARIANCE
        return {"n_clusters": count, "cluster_reason": reason}
    reach = t_quantile((1 + level) / 2, count - 1) * se
    interval = Interval(max(mean - reach, -1.0), min(mean + reach, 1.0), level)
    return {"n_clusters": count, "cluster_se": se, "cluster_interval": interval}


@dataclass(frozen=True, slots=True)
class NonInferiority(TestResult):
    """Whether the new method finds not much less than the reference.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`: z and the one-sided p of H0: new - reference <= -margin.
    margin, alpha : float
        Margin of non-inferiority, and the one-sided level.
    difference : float or None
        (b - c) / n, new minus reference.
    interval : Interval or None
        Of the difference, by Tango's score, two-sided with confidence 1 - 2 alpha.
    noninferior : bool or None
        Whether p <= alpha: the lower limit lies above -margin.
    b, c : int
        Pairs found with the new method only, and with the reference only.
    z_upper, p_upper : float or None
        The same for H0: new - reference >= margin.
    p_equivalence : float or None
        The larger of both p-values.
    equivalent : bool or None
        Whether both are rejected: the interval lies within (-margin, margin).
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_se, cluster_interval, cluster_p_value : float, Interval or None
        With the pairs nested in clusters: the sandwich, and Student's t.
    cluster_noninferior : bool or None
        The answer that allows for clusters.
    cluster_reason : Reason or None
        Why these are None although clusters were given.
    """

    margin: float = 0.0
    alpha: float = 0.05
    difference: float | None = None
    interval: Interval | None = None
    noninferior: bool | None = None
    b: int = 0
    c: int = 0
    z_upper: float | None = None
    p_upper: float | None = None
    p_equivalence: float | None = None
    equivalent: bool | None = None
    n_clusters: int | None = None
    cluster_se: float | None = None
    cluster_interval: Interval | None = None
    cluster_p_value: float | None = None
    cluster_noninferior: bool | None = None
    cluster_reason: Reason | None = None

    @property
    def z(self) -> float | None:
        """The score statistic: `statistic` under its own name."""
        return self.statistic


def noninferiority_paired_proportions(  # noqa: PLR0913  (all but the answers are keywords)
    new: npt.ArrayLike | None = None,
    reference: npt.ArrayLike | None = None,
    n: int | None = None,
    *,
    margin: float,
    alpha: float = 0.05,
    b: int | None = None,
    c: int | None = None,
    table: npt.ArrayLike | None = None,
    categories: Sequence[Hashable] | None = None,
    cluster: npt.ArrayLike | None = None,
) -> NonInferiority:
    """Test whether the new method's proportion is not lower by the margin or more.

    One-sided score test with the variance under H0 [1]_, [2]_; the other side, for equivalence,
    stands beside it. It agrees with `tango_interval` at confidence 1 - 2 alpha.

    Parameters
    ----------
    new, reference : array_like
        (pair,), the answers, None or NaN where missing (pairwise deletion); or the counts b (new
        only) and c (reference only).
    n : int, optional
        Pairs, where counts are given.
    margin : float
        Margin as a difference of proportions, at least 0 and below 1. At 0 the test asks for
        superiority.
    alpha : float
        One-sided level, below 0.5.
    b, c : int, optional
        Pairs found with the new method only, and with the reference only.
    table : array_like, optional
        (2, 2), new down, reference across, positive first: [[a, b], [c, d]].
    categories : sequence of two, optional
        What stands for negative and for positive; 0 and 1 without it.
    cluster : array_like, optional
        (pair,), the patient that a pair belongs to: a test that allows for it stands beside.

    Returns
    -------
    NonInferiority
        No pair: None (`too_few`); no discordant pair at margin 0: no p (`no_discordant`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Nam J (1997). Biometrics 53:1422-1430.
    .. [2] Tango T (1998). Stat Med 17:891-908.
    """
    if not 0 <= finite(margin, "margin") < 1:
        raise StatsError(f"margin must be at least 0 and below 1, got {margin!r}")
    _check_alpha(alpha)
    counts, pairs = _counted(
        paired_counts(new, reference, n, b=b, c=c, table=table, categories=categories)
    )
    method = "non-inferiority of paired proportions, score test (Nam 1997, Tango 1998), one-sided"
    if pairs == 0:
        return NonInferiority(
            method, 0, counts.n_given, margin=margin, alpha=alpha, reason=Reason.TOO_FEW
        )
    level = 1 - 2 * alpha
    tests = _score_tests(counts.b, counts.c, pairs, margin, alpha)
    limits = score_limits(counts.b, counts.c, pairs, normal_quantile(1 - alpha))
    difference = (counts.b - counts.c) / pairs
    nested = _cluster_fields(counts, cluster, level)
    return NonInferiority(
        method,
        pairs,
        counts.n_given,
        margin=margin,
        alpha=alpha,
        difference=difference,
        interval=Interval(*limits, level),
        b=counts.b,
        c=counts.c,
        **tests,
        **nested,
        **_cluster_test(nested, difference, margin, alpha),
    )


def _score_tests(b: int, c: int, n: int, margin: float, alpha: float) -> dict[str, Any]:
    """Give both one-sided tests."""
    if margin == 0 and b + c == 0:
        return {"reason": Reason.NO_DISCORDANT}
    z_low = float(score_statistic(b, c, n, -margin))
    z_high = float(score_statistic(b, c, n, margin))
    p_low, p_high = float(special.ndtr(-z_low)), float(special.ndtr(z_high))
    return {
        "statistic": z_low,
        "p_value": p_low,
        "noninferior": p_low <= alpha,
        "z_upper": z_high,
        "p_upper": p_high,
        "p_equivalence": max(p_low, p_high),
        "equivalent": max(p_low, p_high) <= alpha,
    }


def _cluster_test(
    nested: dict[str, Any], difference: float, margin: float, alpha: float
) -> dict[str, Any]:
    """Give the one-sided test that belongs to the cluster-robust standard error."""
    if nested.get("cluster_se") is None:
        return {}
    t = (difference + margin) / nested["cluster_se"]
    p = float(special.stdtr(nested["n_clusters"] - 1, -t))
    return {"cluster_p_value": p, "cluster_noninferior": p <= alpha}


@dataclass(frozen=True, slots=True)
class Tost(TestResult):
    """Whether the mean difference lies between two bounds.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`: the larger p of the two one-sided tests, and its t.
    low, high, alpha : float
        Bounds of equivalence, and the level of each test.
    mean_difference, sd_difference, se : float or None
        Of x - y.
    df : int or None
        Degrees of freedom, n - 1.
    t_low, p_low : float or None
        Of H0: mean difference <= low; non-inferiority of x, where more is better.
    t_high, p_high : float or None
        Of H0: mean difference >= high.
    interval : Interval or None
        Of the mean difference, two-sided with confidence 1 - 2 alpha.
    equivalent : bool or None
        Whether p <= alpha: the interval lies within the bounds.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_interval, cluster_p_value : Interval, float or None
        With the pairs nested in clusters.
    cluster_equivalent : bool or None
        The answer that allows for clusters.
    """

    low: float = 0.0
    high: float = 0.0
    alpha: float = 0.05
    mean_difference: float | None = None
    sd_difference: float | None = None
    se: float | None = None
    df: int | None = None
    t_low: float | None = None
    p_low: float | None = None
    t_high: float | None = None
    p_high: float | None = None
    interval: Interval | None = None
    equivalent: bool | None = None
    n_clusters: int | None = None
    cluster_interval: Interval | None = None
    cluster_p_value: float | None = None
    cluster_equivalent: bool | None = None


def tost_paired(
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    cluster: npt.ArrayLike | None = None,
) -> Tost:
    """Test by two one-sided paired t-tests whether the mean difference is within bounds [1]_.

    Parameters
    ----------
    x, y : array_like
        (pair,), None or NaN where missing (pairwise deletion); `x` alone may be (pair, 2).
    low, high : float
        Bounds of equivalence of x - y, low < high, in the unit of x and y.
    margin : float, optional
        Instead of both bounds: -margin and margin.
    alpha : float
        Level of each test, below 0.5.
    cluster : array_like, optional
        (pair,), the patient that a pair belongs to.

    Returns
    -------
    Tost
        Differences without spread: no t and no p (`constant_difference`); fewer than two pairs:
        `too_few`.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Schuirmann DJ (1987). J Pharmacokinet Biopharm 15:657-680.
    """
    bounds = _bounds(low, high, margin)
    _check_alpha(alpha)
    t = paired_t(x, y, cluster=cluster, level=1 - 2 * alpha)
    method = "TOST, two one-sided paired t-tests (Schuirmann 1987)"
    common: dict[str, Any] = {
        "low": bounds[0],
        "high": bounds[1],
        "alpha": alpha,
        "mean_difference": t.mean_difference,
        "sd_difference": t.sd_difference,
        "n_clusters": t.n_clusters,
    }
    if t.mean_difference is None or t.se is None or t.df is None:
        return Tost(method, t.n, t.n_given, reason=t.reason, **common)
    sides = _one_sided(t.mean_difference, t.se, t.df, bounds)
    p = max(sides["p_low"], sides["p_high"])
    return Tost(
        method,
        t.n,
        t.n_given,
        statistic=sides["t_low"] if sides["p_low"] >= sides["p_high"] else sides["t_high"],
        p_value=p,
        se=t.se,
        df=t.df,
        interval=t.interval,
        equivalent=p <= alpha,
        **common,
        **sides,
        **_clustered_tost(t, bounds, alpha),
    )


def _check_alpha(alpha: float) -> None:
    if not 0 < finite(alpha, "alpha") < 0.5:
        raise StatsError(f"alpha must be above 0 and below 0.5, got {alpha!r}")


def _bounds(low: float | None, high: float | None, margin: float | None) -> tuple[float, float]:
    if (margin is None) == (low is None and high is None):
        raise StatsError("give either low and high, or margin")
    if margin is not None:
        high = finite(margin, "margin")
        low = -high
    if low is None or high is None:
        raise StatsError("low and high belong together")
    bounds = finite(low, "low"), finite(high, "high")
    if bounds[0] >= bounds[1]:
        raise StatsError(f"low must be below high, got {low!r} and {high!r}")
    return bounds


def _one_sided(mean: float, se: float, df: int, bounds: tuple[float, float]) -> dict[str, Any]:
    t_low, t_high = (mean - bounds[0]) / se, (mean - bounds[1]) / se
    return {
        "t_low": t_low,
        "p_low": float(special.stdtr(df, -t_low)),
        "t_high": t_high,
        "p_high": float(special.stdtr(df, t_high)),
    }


def _clustered_tost(t: PairedT, bounds: tuple[float, float], alpha: float) -> dict[str, Any]:
    if t.mean_difference is None or t.cluster_se is None or t.n_clusters is None:
        return {}
    sides = _one_sided(t.mean_difference, t.cluster_se, t.n_clusters - 1, bounds)
    p = max(sides["p_low"], sides["p_high"])
    return {
        "cluster_interval": t.cluster_interval,
        "cluster_p_value": p,
        "cluster_equivalent": p <= alpha,
    }
