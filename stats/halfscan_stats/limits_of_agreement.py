"""Limits of agreement of two methods or readers on the same subjects (Bland & Altman).

Limits of the difference hold for every magnitude only where the spread of the differences does not
grow with it. Where it does, measurements are compared by their ratio: limits are computed of the
logarithms and transformed back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from halfscan_stats.differences import check_magnitude
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import t_quantile
from halfscan_stats.ratings import (
    ArrayLike,
    Codes,
    Numbers,
    Pairs,
    check_level,
    cluster_codes,
    paired_numbers,
)
from halfscan_stats.result import Estimate, Interval, Reason
from halfscan_stats.spread import SpreadTrend, spread_trend

__all__ = ["BlandAltman", "bland_altman"]

_LIMITS = ("1999", "1986", "exact")
_SCALES = ("difference", "ratio", "by_spread")
# Beyond its logarithm a ratio is no number of a computer any more.
_LARGEST_LOG = 700.0
# What is transformed back from the logarithms.
_LOCATIONS = (
    *("value", "interval", "lower", "lower_interval", "upper", "upper_interval"),
    *("cluster_interval", "cluster_lower", "cluster_lower_interval"),
    *("cluster_upper", "cluster_upper_interval"),
)
# Standard deviation over the largest measurement, below which there is only rounding left.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class BlandAltman(Estimate):
    """Bias (the value) with its interval, and the limits of agreement with theirs.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; the value is the mean difference, first minus second [their units]; on the
        ratio scale the geometric mean of first over second.
    scale : {"difference", "ratio"}
        What value, limits and their intervals are of.
    scale_reason : Reason or None
        Why it is the difference although the spread grows with the mean: ``not_positive``.
    trend : SpreadTrend or None
        What decided the scale; None where it was fixed.
    sd : float or None
        Standard deviation of the differences (on the ratio scale of the differences of natural
        logarithms, as are `se_limits` and `cluster_sd`); None below 2 pairs.
    lower, upper : float or None
        Limits of agreement, value -/+ multiplier * sd; on the ratio scale value times
        exp(-/+ multiplier * sd).
    lower_interval, upper_interval : Interval or None
        Their intervals.
    multiplier : float
        Standard deviations from the bias to a limit.
    se_limits : float or None
        Standard error of a limit; None for exact intervals.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_interval : Interval or None
        Interval of the bias that knows of the clusters.
    cluster_sd : float or None
        Standard deviation of a single difference of a new patient: between plus within.
    cluster_lower, cluster_upper : float or None
        Limits of agreement from it.
    cluster_lower_interval, cluster_upper_interval : Interval or None
        Their intervals.
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    """

    scale: str = "difference"
    scale_reason: Reason | None = None
    trend: SpreadTrend | None = None
    sd: float | None = None
    lower: float | None = None
    upper: float | None = None
    lower_interval: Interval | None = None
    upper_interval: Interval | None = None
    multiplier: float = 1.96
    se_limits: float | None = None
    n_clusters: int | None = None
    cluster_interval: Interval | None = None
    cluster_sd: float | None = None
    cluster_lower: float | None = None
    cluster_upper: float | None = None
    cluster_lower_interval: Interval | None = None
    cluster_upper_interval: Interval | None = None
    cluster_reason: Reason | None = None

    @property
    def bias(self) -> float | None:
        """Mean difference, or geometric mean ratio: the value by its own name."""
        return self.value


def bland_altman(
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    multiplier: float = 1.96,
    limits: str = "1999",
    level: float = 0.95,
    cluster: ArrayLike | None = None,
    scale: str = "difference",
    alpha: float = 0.05,
) -> BlandAltman:
    """Bias and limits of agreement, with intervals of all three.

    Parameters
    ----------
    x, y : array_like
        (subject,) each, the two measurements; or `x` alone, (subject, 2). None and NaN are
        missing: complete pairs are used.
    multiplier : float
        Standard deviations from the bias to a limit: 1.96, or 2 as in the first paper.
    limits : {"1999", "1986", "exact"}
        Standard error of a limit: s sqrt(1/n + z^2 / (2 (n - 1))) [2]_; the simpler
        s sqrt(3 / n) of the first paper [1]_; or none, with the exact interval from the
        noncentral t distribution [3]_.
    level : float
        Confidence level.
    cluster : array_like, optional
        (subject,), the patient of each pair, where several share one; adds limits whose
        standard deviation is the one between plus the one within patients [4]_, and intervals of
        the jackknife over patients.
    scale : {"difference", "ratio", "by_spread"}
        Of the difference; of the ratio, by the limits of the logarithms transformed back [1]_ [2]_
        [5]_; or whichever `spread_trend` asks for.
    alpha : float
        One-sided level of `spread_trend`.

    Returns
    -------
    BlandAltman
        Undefined answers: ``constant_difference`` beside limits without width; ``too_few`` with
        one pair (its difference, no more) or none; of the ratio ``not_positive`` where a
        measurement is 0 or below, ``undefined`` where a ratio or a limit is no finite number.

    Raises
    ------
    StatsError
        On a wrong shape, something that is no number, or an unknown kind of limits or scale.

    References
    ----------
    .. [1] Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of
       clinical measurement. Lancet 1986;327:307-310. doi:10.1016/S0140-6736(86)90837-8
    .. [2] Bland JM, Altman DG. Measuring agreement in method comparison studies. Stat Methods Med
       Res 1999;8:135-160. doi:10.1177/096228029900800204
    .. [3] Carkeet A. Exact parametric confidence intervals for Bland-Altman limits of agreement.
       Optom Vis Sci 2015;92:e71-e80. doi:10.1097/OPX.0000000000000513
    .. [4] Bland JM, Altman DG. Agreement between methods of measurement with multiple
       observations per individual. J Biopharm Stat 2007;17:571-582. doi:10.1080/10543400701329422
    .. [5] Euser AM, Dekker FW, le Cessie S. A practical approach to Bland-Altman plots and
       variation coefficients for log transformed variables. J Clin Epidemiol 2008;61:978-982.
       doi:10.1016/j.jclinepi.2007.11.003
    """
    if scale not in _SCALES:
        raise StatsError(f"scale must be one of {', '.join(_SCALES)}, got {scale!r}")
    if limits not in _LIMITS:
        raise StatsError(f"limits must be one of {', '.join(_LIMITS)}, got {limits!r}")
    if not (isinstance(multiplier, int | float) and 0 < multiplier < math.inf):
        raise StatsError(f"multiplier must be above 0 and finite, got {multiplier!r}")
    level, pairs = check_level(level), paired_numbers(x, y)
    check_magnitude(np.concatenate([pairs.x, pairs.y]))
    chosen, fields = _scale_of(pairs, scale, check_level(alpha, "alpha"))
    fields |= {
        "method": f"Bland-Altman, bias -/+ {multiplier:g} SD; intervals of the limits: {limits}",
        "n": pairs.n,
        "n_given": pairs.n_given,
        "multiplier": float(multiplier),
        "scale": chosen,
    }
    differences = pairs.x - pairs.y
    largest = float(np.abs(np.concatenate([pairs.x, pairs.y])).max(initial=0.0))
    if chosen == "ratio":
        fields["method"] += "; of the logarithms, transformed back to the ratio"
        if not _has_logarithm(pairs):
            return BlandAltman(**fields, reason=Reason.NOT_POSITIVE)
        differences = np.log(pairs.x) - np.log(pairs.y)
        largest = max(1.0, float(np.abs(np.log([pairs.x, pairs.y])).max(initial=0.0)))
    fields |= _limits(differences, float(multiplier), limits, level, largest)
    if cluster is not None:
        codes, n_clusters = cluster_codes(cluster, pairs.kept)
        fields["n_clusters"] = n_clusters
        fields |= _clustered(differences, codes, n_clusters, float(multiplier), level)
    return BlandAltman(**_transformed_back(fields) if chosen == "ratio" else fields)


def _scale_of(pairs: Pairs, scale: str, alpha: float) -> tuple[str, dict[str, Any]]:
    """Give the scale, and what is to be said of the choice."""
    if scale != "by_spread":
        return scale, {}
    trend = spread_trend(pairs.x, pairs.y, alpha=alpha)
    fields: dict[str, Any] = {"trend": trend}
    if not trend.grows:
        return "difference", fields
    if not _has_logarithm(pairs):
        return "difference", {**fields, "scale_reason": Reason.NOT_POSITIVE}
    return "ratio", fields


def _has_logarithm(pairs: Pairs) -> bool:
    return bool((pairs.x > 0).all() and (pairs.y > 0).all())


def _transformed_back(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn differences of logarithms into ratios, with their limits and intervals."""
    there = {name: fields[name] for name in _LOCATIONS if fields.get(name) is not None}
    ends = [
        end
        for found in there.values()
        for end in ((found.low, found.high) if isinstance(found, Interval) else (found,))
    ]
    if max(map(abs, ends), default=0.0) > _LARGEST_LOG:
        return {**fields, **dict.fromkeys(there), "reason": Reason.UNDEFINED}
    return fields | {
        name: Interval(math.exp(found.low), math.exp(found.high), found.level)
        if isinstance(found, Interval)
        else math.exp(found)
        for name, found in there.items()
    }


def _limits(
    differences: Numbers, multiplier: float, kind: str, level: float, largest: float
) -> dict[str, Any]:
    """Bias and limits of independent differences."""
    n = differences.size
    if n < 2:
        value = float(differences[0]) if n else None
        return {"value": value, "reason": Reason.TOO_FEW}
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    if sd <= _ROUNDING * largest:
        sd = 0.0
    lower, upper = bias - multiplier * sd, bias + multiplier * sd
    fields: dict[str, Any] = {"value": bias, "sd": sd, "lower": lower, "upper": upper}
    half = t_quantile((1 + level) / 2, n - 1)
    fields["interval"] = _around(bias, half * sd / math.sqrt(n), level)
    if sd == 0:
        fields["reason"] = Reason.CONSTANT_DIFFERENCE
    if kind == "exact":
        near, far = (_exact(n, multiplier, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
        fields["lower_interval"] = Interval(bias - far * sd, bias - near * sd, level)
        fields["upper_interval"] = Interval(bias + near * sd, bias + far * sd, level)
        return fields
    share = 3 / n if kind == "1986" else 1 / n + multiplier**2 / (2 * (n - 1))
    se = sd * math.sqrt(share)
    fields["se_limits"] = se
    fields["lower_interval"] = _around(lower, half * se, level)
    fields["upper_interval"] = _around(upper, half * se, level)
    return fields


def _around(value: float, half: float, level: float) -> Interval:
    return Interval(value - half, value + half, level)


def _exact(n: int, multiplier: float, probability: float) -> float:
    """Standard deviations from the bias to a limit of the exact interval (Carkeet 2015)."""
    root = math.sqrt(n)
    return float(special.nctdtrit(n - 1, multiplier * root, probability)) / root


def _clustered(
    differences: Numbers, clusters: Codes, n_clusters: int, multiplier: float, level: float
) -> dict[str, Any]:
    """Bias and limits of differences nested in patients, with intervals of the jackknife."""
    if n_clusters < 3:  # the jackknife leaves one out, and variance needs two
        return {"cluster_reason": Reason.TOO_FEW}
    centre = float(differences.mean())
    centred = differences - centre
    sizes = np.bincount(clusters, minlength=n_clusters).astype(np.float64)
    totals = np.bincount(clusters, weights=centred, minlength=n_clusters)
    squares = np.bincount(clusters, weights=centred**2, minlength=n_clusters)
    terms = np.stack([np.ones(n_clusters), sizes, sizes**2, totals, totals**2 / sizes, squares])
    whole = terms.sum(axis=1, keepdims=True)
    bias, sd = _bias_and_sd(whole)
    left_biases, left_sds = _bias_and_sd(whole - terms)
    half = t_quantile((1 + level) / 2, n_clusters - 1)
    fields: dict[str, Any] = {"cluster_sd": sd.item()}
    for name, sign in (("", 0), ("_lower", -1), ("_upper", 1)):
        value = centre + bias.item() + sign * multiplier * sd.item()
        away = left_biases + sign * multiplier * left_sds
        away -= away.mean()
        se = math.sqrt((n_clusters - 1) / n_clusters * float(away @ away))
        fields[f"cluster{name}_interval"] = _around(value, half * se, level)
        if name:
            fields[f"cluster{name}"] = value
    return fields


def _bias_and_sd(terms: Numbers) -> tuple[Numbers, Numbers]:
    """Mean difference, and standard deviation of a single difference of a new patient.

    One-way analysis of variance with patients of unequal size: the variance within is MSW, the
    one between (MSB - MSW) / m with m = (N - sum(n^2) / N) / (K - 1), at least 0.

    Parameters
    ----------
    terms : ndarray of float
        (6, set of patients), sums over the patients of a set: 1, n, n^2, the total T of their
        differences, T^2 / n, and the squares of their differences.

    Returns
    -------
    ndarray of float, ndarray of float
        (set of patients,) each.
    """
    count, n, sizes, total, of_clusters, squares = terms
    bias = total / n
    between = np.maximum(of_clusters - n * bias**2, 0.0) / (count - 1)
    within = np.maximum(squares - of_clusters, 0.0) / np.maximum(n - count, 1)
    size = (n - sizes / n) / (count - 1)
    return bias, np.sqrt(within + np.maximum((between - within) / size, 0.0))
