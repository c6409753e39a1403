"""Two one-sided t-tests: whether a mean difference lies between two bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.paired import PairedT, paired_t
from halfscan_stats.ratings import check_alpha, finite
from halfscan_stats.result import Decision, Interval, Reason, TestResult

__all__ = ["Tost", "tost_paired"]

_METHOD = "TOST, two one-sided paired t-tests (Schuirmann 1987)"
_OF_PATIENTS = f"{_METHOD}, sandwich standard error of patients (Liang & Zeger 1986)"
_SIGN = "two one-sided exact sign tests: the differences have no spread"
_UNDECIDED = Decision(_METHOD, reason=Reason.TOO_FEW)


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
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    decision : Decision
        What decides: both t-tests, with `cluster` those of the sandwich standard error with
        clusters - 1 degrees of freedom. Where all differences (or those of all clusters) are the
        same they have no spread: the exact sign test, each cluster counted once, and its interval
        of the median.
    equivalent : bool or None
        Whether `decision` rejects both: its interval lies within the bounds.
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
    n_clusters: int | None = None
    decision: Decision = _UNDECIDED
    equivalent: bool | None = None


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
        Differences without spread: no t and no p (`constant_difference`), and a decision by their
        signs; fewer than two pairs, or one cluster: no decision (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Schuirmann DJ (1987). J Pharmacokinet Biopharm 15:657-680.
    """
    bounds = _bounds(low, high, margin)
    check_alpha(alpha)
    t = paired_t(x, y, cluster=cluster, level=1 - 2 * alpha)
    decision = _decided(t, bounds, alpha)
    both = decision.p_equivalence
    common: dict[str, Any] = {
        "low": bounds[0],
        "high": bounds[1],
        "alpha": alpha,
        "mean_difference": t.mean_difference,
        "sd_difference": t.sd_difference,
        "n_clusters": t.n_clusters,
        "decision": decision,
        "equivalent": None if both is None else both <= alpha,
    }
    if t.mean_difference is None or t.se is None or t.df is None:
        return Tost(_METHOD, t.n, t.n_given, reason=t.reason, **common)
    sides = _one_sided(t.mean_difference, t.se, t.df, bounds)
    return Tost(
        _METHOD,
        t.n,
        t.n_given,
        statistic=sides["t_low"] if sides["p_low"] >= sides["p_high"] else sides["t_high"],
        p_value=max(sides["p_low"], sides["p_high"]),
        se=t.se,
        df=t.df,
        interval=t.interval,
        **common,
        **sides,
    )


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


def _decided(t: PairedT, bounds: tuple[float, float], alpha: float) -> Decision:
    """Give what decides: on clusters, on pairs, or on differences without spread."""
    if t.mean_difference is None or t.n < 2 or t.n_clusters == 1:
        return Decision(_METHOD, reason=Reason.TOO_FEW)
    se, df, interval, method = t.se, t.df, t.interval, _METHOD
    if t.n_clusters is not None:
        se, df = t.cluster_se, t.n_clusters - 1
        interval, method = t.cluster_interval, _OF_PATIENTS
    if se is None or df is None:
        return _signs(t.mean_difference, t.n_clusters or t.n, bounds, alpha)
    sides = _one_sided(t.mean_difference, se, df, bounds)
    lower, upper = sides["p_low"], sides["p_high"]
    return Decision(method, max(lower, upper), interval, lower, upper)


def _signs(difference: float, count: int, bounds: tuple[float, float], alpha: float) -> Decision:
    """Test by the signs of `count` equal differences; a t-test would say p = 0.

    On either side of a bound all of them are on one side of it, which chance does once in 2^count.
    """
    chance = 0.5**count
    lower = chance if difference > bounds[0] else 1.0
    upper = chance if difference < bounds[1] else 1.0
    # Of the median, from the smallest to the largest: confidence 1 - 2^(1 - count).
    interval = Interval(difference, difference, 1 - 2 * alpha) if chance <= alpha else None
    return Decision(_SIGN, max(lower, upper), interval, lower, upper, Reason.CONSTANT_DIFFERENCE)
