"""Whether the spread of the differences of two measurements grows with their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from halfscan_stats.differences import check_magnitude
from halfscan_stats.ratings import ArrayLike, Numbers, check_level, paired_numbers
from halfscan_stats.result import Reason, TestResult

__all__ = ["SpreadTrend", "spread_trend"]

# Below this many pairs two lines through them leave too little to tell a spread by.
_MIN_PAIRS = 5
# Of the largest measurement: what is smaller is rounding.
_ROUNDING = 1e-10


@dataclass(frozen=True, slots=True)
class SpreadTrend(TestResult):
    """The regression of the absolute residual difference on the mean.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`; the statistic is Student's t of the slope, the p-value one-sided: spread
        that grows.
    slope : float or None
        Absolute residual a unit of the mean. Times sqrt(pi / 2) it is that of the SD.
    alpha : float
        Level.
    grows : bool
        Whether the p-value lies below it; False where there is none.
    """

    slope: float | None = None
    alpha: float = 0.05
    grows: bool = False


def spread_trend(x: ArrayLike, y: ArrayLike | None = None, *, alpha: float = 0.05) -> SpreadTrend:
    """Tell whether the spread of the differences grows with the mean of both measurements.

    Differences are regressed on the means, and the absolute residuals of that line on the means
    again (section 3.2 of [1]_): a bias that grows is no spread. One-sided, since a spread that
    shrinks is no reason for a ratio. The t-test of the second slope takes n - 2 degrees of freedom.

    Parameters
    ----------
    x, y : array_like
        (subject,) each, or `x` alone, (subject, 2). None and NaN are missing: complete pairs are
        used.
    alpha : float
        One-sided level.

    Returns
    -------
    SpreadTrend
        Undefined answers: ``too_few`` below 5 pairs; ``no_variation`` where all means are the same;
        ``zero_variance`` where all differences lie on a line.

    Raises
    ------
    StatsError
        On a wrong shape, something that is no number or beyond 1e100, or a level that is none.

    References
    ----------
    .. [1] Bland JM, Altman DG. Measuring agreement in method comparison studies. Stat Methods Med
       Res 1999;8:135-160. doi:10.1177/096228029900800204
    """
    alpha, pairs = check_level(alpha, "alpha"), paired_numbers(x, y)
    largest = check_magnitude(np.concatenate([pairs.x, pairs.y]))
    method = "spread: |residual difference| on the mean, one-sided t (Bland & Altman 1999)"

    def undefined(reason: Reason, slope: float | None = None) -> SpreadTrend:
        return SpreadTrend(method, pairs.n, pairs.n_given, reason=reason, slope=slope, alpha=alpha)

    if pairs.n < _MIN_PAIRS:
        return undefined(Reason.TOO_FEW)
    means = (pairs.x + pairs.y) / 2
    centred = means - means.mean()
    if float(np.abs(centred).max()) <= _ROUNDING * largest:
        return undefined(Reason.NO_VARIATION)
    # In units of the largest measurement, so that no square leaves the range of a number.
    centred, differences = centred / largest, (pairs.x - pairs.y) / largest
    spread = np.abs(differences - _line(centred, differences))
    rest = spread - _line(centred, spread)
    slope = float(centred @ (spread - spread.mean()) / (centred @ centred))
    if float(spread.max()) <= _ROUNDING or float(np.abs(rest).max()) <= _ROUNDING:
        return undefined(Reason.ZERO_VARIANCE, slope)
    df = pairs.n - 2
    t = slope / math.sqrt(float(rest @ rest) / df / float(centred @ centred))
    p_value = float(special.stdtr(df, -t))
    return SpreadTrend(
        method,
        pairs.n,
        pairs.n_given,
        statistic=t,
        p_value=p_value,
        slope=slope,
        alpha=alpha,
        grows=p_value < alpha,
    )


def _line(centred: Numbers, values: Numbers) -> Numbers:
    """Give the least-squares line of values on centred means, at these means."""
    fitted: Numbers = values.mean() + centred * float(centred @ values) / float(centred @ centred)
    return fitted
