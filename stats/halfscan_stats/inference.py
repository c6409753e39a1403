"""From a standard error to an interval and a p-value, with and without clusters."""

import math
from typing import Any

import numpy as np
from scipy import special

from halfscan_stats.ratings import Codes, Numbers
from halfscan_stats.result import Interval, Reason

__all__ = [
    "ROUNDING",
    "clipped",
    "cluster_fields",
    "cluster_se",
    "cluster_sums",
    "f_quantile",
    "f_survival",
    "mean_se",
    "normal_interval",
    "normal_quantile",
    "t_interval",
    "t_quantile",
    "two_sided_p",
]

# Standard error times the root of n below which there is only rounding left.
ROUNDING = 1e-9


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    return float(special.ndtri(probability))


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t distribution."""
    return float(special.stdtrit(df, probability))


def f_quantile(probability: float, df1: float, df2: float) -> float:
    """Quantile of the F distribution; the degrees of freedom need not be whole."""
    return float(special.fdtri(df1, df2, probability))


def f_survival(statistic: float, df1: float, df2: float) -> float:
    """Probability of an F at least as large."""
    return float(special.fdtrc(df1, df2, statistic))


def two_sided_p(z: float) -> float:
    """Two-sided p-value of a standard normal statistic."""
    return float(2 * special.ndtr(-abs(z)))


def clipped(value: float, low: float, high: float, level: float) -> Interval:
    """An interval of an agreement or of a difference of shares, cut at -1 and 1.

    An agreement below -1 (missing ratings or weighted PABAK allow it) keeps its lower limit.
    """
    lowest = -1.0 if value >= -1 else low
    return Interval(max(min(low, 1.0), lowest), min(high, 1.0), level)


def normal_interval(value: float, se: float, level: float) -> Interval:
    """Asymptotic interval of an agreement, clipped at -1 and 1."""
    half = normal_quantile((1 + level) / 2) * se
    return clipped(value, value - half, value + half, level)


def t_interval(value: float, se: float, df: int, level: float) -> Interval:
    """Interval of an agreement from Student's t, clipped at -1 and 1."""
    half = t_quantile((1 + level) / 2, df) * se
    return clipped(value, value - half, value + half, level)


def mean_se(influence: Numbers) -> float:
    """Standard error of an estimate from what each of n subjects adds to it.

    Parameters
    ----------
    influence : ndarray of float
        (subject,), mean zero: how far one subject pulls the estimate, times n.

    Returns
    -------
    float
        ``sqrt(sum(influence**2) / (n (n - 1)))``.
    """
    n = influence.size
    return math.sqrt(float(influence @ influence) / (n * (n - 1)))


def cluster_sums(influence: Numbers, clusters: Codes, n_clusters: int) -> Numbers:
    """Sum of the influence within each cluster, (cluster,)."""
    return np.asarray(
        np.bincount(clusters, weights=influence, minlength=n_clusters), dtype=np.float64
    )


def cluster_se(sums: Numbers, n: int) -> float:
    """Standard error where subjects are independent between clusters only.

    Parameters
    ----------
    sums : ndarray of float
        (cluster,), the influence summed within each; together zero.
    n : int
        Subjects.

    Returns
    -------
    float
        ``sqrt(K / (K - 1) * sum(sums**2)) / n`` for K clusters: the linearised (sandwich)
        estimator. With one subject a cluster it is `mean_se`.
    """
    count = sums.size
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / n


def cluster_fields(
    value: float, sums: Numbers, n: int, naive_se: float | None, level: float, *, normal: bool
) -> dict[str, Any]:
    """The fields of `Agreement` that know of the clusters.

    Parameters
    ----------
    value : float
        The agreement.
    sums : ndarray of float
        (cluster,), see `cluster_se`.
    n : int
        Subjects.
    naive_se : float or None
        Standard error without clusters.
    level : float
        Confidence level.
    normal : bool
        Interval from the normal distribution; else from Student's t with K - 1 degrees of freedom.

    Returns
    -------
    dict
        ``n_clusters``, and ``cluster_se``, ``cluster_interval``, ``cluster_interval_t`` and
        ``design_effect`` or ``cluster_reason``.
    """
    fields: dict[str, Any] = {"n_clusters": sums.size}
    if sums.size < 2:
        return fields | {"cluster_reason": Reason.TOO_FEW}
    se = cluster_se(sums, n)
    if se * math.sqrt(n) <= ROUNDING:
        return fields | {"cluster_se": 0.0, "cluster_reason": Reason.ZERO_VARIANCE}
    by_t = t_interval(value, se, sums.size - 1, level)
    return fields | {
        "cluster_se": se,
        "cluster_interval": normal_interval(value, se, level) if normal else by_t,
        "cluster_interval_t": by_t,
        "design_effect": (se / naive_se) ** 2 if naive_se else None,
    }
