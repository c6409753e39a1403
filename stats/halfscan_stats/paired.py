"""Paired differences: t, Wilcoxon, McNemar, and the choice between them.

The paired t-test and Shapiro and Wilk's test come from scipy, behind guards: of constant data
scipy makes p = 0 and "normal". Wilcoxon's and McNemar's tests have modules of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.differences import check_magnitude, differences_of, without_noise
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import ROUNDING, cluster_se, cluster_sums
from halfscan_stats.mcnemar import McNemar, mcnemar
from halfscan_stats.ratings import (
    Numbers,
    check_level,
    cluster_codes,
    numbers,
)
from halfscan_stats.result import Interval, Reason, Result, TestResult
from halfscan_stats.wilcoxon import Wilcoxon, wilcoxon_signed_rank

__all__ = [
    "McNemar",
    "PairedChoice",
    "PairedT",
    "Shapiro",
    "Summary",
    "Wilcoxon",
    "choose_paired_test",
    "mcnemar",
    "paired_t",
    "shapiro_wilk",
    "summarize",
    "wilcoxon_signed_rank",
]

SHAPIRO_MAX = 5000  # observations that Royston's approximation of p was made for


@dataclass(frozen=True, slots=True)
class PairedT(TestResult):
    """What the paired t-test answers; `statistic` is t.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`; n counts complete pairs.
    df : int or None
        Degrees of freedom, n - 1.
    mean_difference : float or None
        Mean of x - y.
    sd_difference, se : float or None
        Standard deviation of the differences, and standard error of their mean.
    interval : Interval or None
        Of the mean difference.
    effect_size : float or None
        Mean over standard deviation of the differences (Cohen's d_z).
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_se, cluster_interval, cluster_p_value : float, Interval or None
        With the differences nested in clusters, t with clusters - 1 degrees of freedom.
    cluster_reason : Reason or None
        Why they are None although clusters were given: one cluster (`too_few`), clusters whose
        means do not differ (`zero_variance`), or what `reason` says.
    """

    df: int | None = None
    mean_difference: float | None = None
    sd_difference: float | None = None
    se: float | None = None
    interval: Interval | None = None
    effect_size: float | None = None
    n_clusters: int | None = None
    cluster_se: float | None = None
    cluster_interval: Interval | None = None
    cluster_p_value: float | None = None
    cluster_reason: Reason | None = None

    @property
    def t(self) -> float | None:
        """Student's t: `statistic` under its own name."""
        return self.statistic


def paired_t(
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> PairedT:
    """Test whether the mean of paired differences x - y is zero (Student 1908).

    Parameters
    ----------
    x, y : array_like
        (pair,), None or NaN where missing (pairwise deletion); `x` alone may be (pair, 2).
    cluster : array_like, optional
        (pair,), the patient that a pair belongs to. The cluster-robust standard error is the
        sandwich [1]_ with the factor clusters / (clusters - 1).
    level : float
        Confidence level of the interval.

    Returns
    -------
    PairedT
        Differences without spread: no t and no p (`constant_difference`); fewer than two pairs:
        `too_few`. The mean difference is there wherever there is a pair.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Liang KY, Zeger SL (1986). Biometrika 73:13-22.
    """
    check_level(level)
    pairs = differences_of(x, y)
    differences = pairs.values
    clusters = None if cluster is None else cluster_codes(cluster, pairs.kept)
    count = None if clusters is None else clusters[1]
    method, n = "paired t-test", pairs.n
    if n == 0:
        few = Reason.TOO_FEW
        nobody = None if count is None else few
        return PairedT(
            method, n, pairs.n_given, reason=few, n_clusters=count, cluster_reason=nobody
        )
    mean = float(differences.mean())
    sd = float(differences.std(ddof=1)) if n > 1 else 0.0
    if sd == 0 or np.ptp(pairs.clean) == 0:
        reason = Reason.TOO_FEW if n == 1 else Reason.CONSTANT_DIFFERENCE
        return PairedT(
            method,
            n,
            pairs.n_given,
            reason=reason,
            mean_difference=mean,
            sd_difference=None if n == 1 else 0.0,
            n_clusters=count,
            cluster_reason=None if count is None else reason,
        )
    se = sd / math.sqrt(n)
    nested = None if clusters is None else _cluster_spread(differences - mean, *clusters)
    reach = _t_reach(n - 1, level) * se
    return PairedT(
        method,
        n,
        pairs.n_given,
        statistic=mean / se,
        p_value=_t_two_sided(mean / se, n - 1),
        df=n - 1,
        mean_difference=mean,
        sd_difference=sd,
        se=se,
        interval=Interval(mean - reach, mean + reach, level),
        effect_size=mean / sd,
        **_nested_fields(mean, nested, count, level),
    )


def _nested_fields(
    mean: float, se: float | None, count: int | None, level: float
) -> dict[str, Any]:
    """Give the fields that know of the clusters."""
    if count is None:
        return {}
    if se is None:
        reason = Reason.TOO_FEW if count < 2 else Reason.ZERO_VARIANCE
        return {"n_clusters": count, "cluster_reason": reason}
    reach = _t_reach(count - 1, level) * se
    return {
        "n_clusters": count,
        "cluster_se": se,
        "cluster_interval": Interval(mean - reach, mean + reach, level),
        "cluster_p_value": _t_two_sided(mean / se, count - 1),
    }


def _cluster_spread(residuals: Numbers, codes: npt.NDArray[np.intp], count: int) -> float | None:
    """Cluster-robust standard error of a mean, from residuals that sum to zero.

    Parameters
    ----------
    residuals : ndarray of float
        (observation,), deviations from the mean.
    codes : ndarray of int
        (observation,), cluster of each, 0 to count - 1.
    count : int
        Clusters.

    Returns
    -------
    float or None
        None with fewer than two clusters, or where the clusters do not differ.
    """
    if count < 2:
        return None
    se = cluster_se(cluster_sums(residuals, codes, count), residuals.size)
    return se if se > ROUNDING * float(np.abs(residuals).max()) / residuals.size else None


def _t_reach(df: int, level: float) -> float:
    return float(special.stdtrit(df, (1 + level) / 2))


def _t_two_sided(t: float, df: int) -> float:
    return float(min(1.0, 2 * special.stdtr(df, -abs(t))))


@dataclass(frozen=True, slots=True)
class Shapiro(TestResult):
    """What Shapiro and Wilk's test answers; `statistic` is W.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`.
    alpha : float
        Level below which normality is rejected.
    """

    alpha: float = 0.05

    @property
    def w(self) -> float | None:
        """Shapiro and Wilk's W: `statistic` under its own name."""
        return self.statistic

    @property
    def normal(self) -> bool | None:
        """Whether normality is not rejected; None where the test has no answer."""
        return None if self.p_value is None else self.p_value >= self.alpha


def shapiro_wilk(x: npt.ArrayLike, *, alpha: float = 0.05) -> Shapiro:
    """Test whether values come from a normal distribution [1]_, [2]_.

    Parameters
    ----------
    x : array_like
        (observation,), None or NaN where missing.
    alpha : float
        Level for `Shapiro.normal`.

    Returns
    -------
    Shapiro
        Constant values: None (`no_variation`), never "normal"; fewer than three: `too_few`; more
        than 5000: `too_many`, p was never approximated there.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Shapiro SS, Wilk MB (1965). Biometrika 52:591-611.
    .. [2] Royston P (1995). Appl Stat 44:547-551 (AS R94).
    """
    check_level(alpha, "alpha")
    values, given = _values(x)
    method = "Shapiro-Wilk (Royston 1995)"
    reason = _shapiro_reason(values)
    if reason is not None:
        return Shapiro(method, values.size, given, reason=reason, alpha=alpha)
    # Scaled, so that the squares of tiny or huge values neither vanish nor overflow.
    low, high = float(values.min()), float(values.max())
    scaled = (values - (low + high) / 2) / (high - low)
    from scipy.stats import shapiro  # noqa: PLC0415  (slow import)

    w, p = shapiro(scaled)
    return Shapiro(method, values.size, given, statistic=float(w), p_value=float(p), alpha=alpha)


def _shapiro_reason(values: Numbers) -> Reason | None:
    if values.size < 3:
        return Reason.TOO_FEW
    if np.ptp(without_noise(values, check_magnitude(values))) == 0:
        return Reason.NO_VARIATION
    return Reason.TOO_MANY if values.size > SHAPIRO_MAX else None


def _values(x: npt.ArrayLike) -> tuple[Numbers, int]:
    """Values that are there, and how many were given."""
    given = numbers(x)
    if given.ndim != 1:
        raise StatsError(f"values must be one vector, got shape {given.shape}")
    values = given[~np.isnan(given)]
    if values.size:
        check_magnitude(values)
    return values, given.size


class Shown(StrEnum):
    """How a summary is written."""

    MEAN_SD = "mean_sd"
    MEDIAN_IQR = "median_iqr"


@dataclass(frozen=True, slots=True)
class Summary(Result):
    """Location and spread of a variable, both ways, and which of them to show.

    Parameters
    ----------
    method, n, n_given
        See `Result`.
    mean, sd : float or None
        None with no observation; the standard deviation needs two.
    median, q1, q3 : float or None
        Quartiles by linear interpolation (R's type 7).
    minimum, maximum : float or None
        The range.
    shown : {"mean_sd", "median_iqr"} or None
        What to show; None with no observation.
    normality : Shapiro or None
        The test that decided; None where it was fixed.
    reason : Reason or None
        Why something is None.
    """

    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    shown: str | None = None
    normality: Shapiro | None = None
    reason: Reason | None = None

    def text(self, digits: int = 2) -> str:
        """As a table shows it: ``3.61 ± 0.49``, or ``4.00 (3.00-4.00)``."""
        if self.mean is None or self.median is None:
            return "-"
        if self.shown == Shown.MEAN_SD:
            return f"{self.mean:.{digits}f}" + (
                "" if self.sd is None else f" ± {self.sd:.{digits}f}"
            )
        return f"{self.median:.{digits}f} ({self.q1:.{digits}f}-{self.q3:.{digits}f})"


def summarize(x: npt.ArrayLike, *, show: str = "normality", alpha: float = 0.05) -> Summary:
    """Mean and standard deviation, or median and quartiles, as normality says.

    Parameters
    ----------
    x : array_like
        (observation,), None or NaN where missing.
    show : {"normality", "mean_sd", "median_iqr"}
        What decides: Shapiro and Wilk's test, or the protocol.
    alpha : float
        Level of the test of normality.

    Returns
    -------
    Summary
        Where normality has no answer (constant, or fewer than three values) the mean is shown.

    Raises
    ------
    StatsError
        If the input breaks a rule.
    """
    if show not in {"normality", *Shown}:
        raise StatsError(f"show must be normality, mean_sd or median_iqr, got {show!r}")
    values, given = _values(x)
    normality = shapiro_wilk(x, alpha=alpha) if show == "normality" else None
    method = "mean and SD; median and quartiles (linear interpolation)"
    if values.size == 0:
        return Summary(method, 0, given, normality=normality, reason=Reason.TOO_FEW)
    shown = show
    if normality is not None:
        shown = Shown.MEDIAN_IQR if normality.normal is False else Shown.MEAN_SD
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return Summary(
        method,
        values.size,
        given,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        median=median,
        q1=q1,
        q3=q3,
        minimum=float(values.min()),
        maximum=float(values.max()),
        shown=shown,
        normality=normality,
        reason=Reason.TOO_FEW if values.size == 1 else None,
    )


@dataclass(frozen=True, slots=True)
class PairedChoice(Result):
    """The paired test that was chosen, beside the one that was not.

    Parameters
    ----------
    method, n, n_given
        See `Result`; `method` is that of the chosen test.
    chosen : {"t", "wilcoxon"}
        Which test answers.
    by : {"normality", "protocol"}
        What decided.
    normality : Shapiro
        Of the differences.
    t, wilcoxon
        Both tests.
    """

    chosen: str = "wilcoxon"
    by: str = "normality"
    normality: Shapiro | None = None
    t: PairedT | None = None
    wilcoxon: Wilcoxon | None = None

    @property
    def test(self) -> PairedT | Wilcoxon | None:
        """The test that was chosen."""
        return self.t if self.chosen == "t" else self.wilcoxon

    @property
    def p_value(self) -> float | None:
        """P-value to print: of the chosen test; Wilcoxon's exact one where few pairs differ."""
        if isinstance(self.test, Wilcoxon):
            return self.test.p_shown
        return None if self.test is None else self.test.p_value

    @property
    def p_method(self) -> str:
        """Which p-value that is: ``t``, ``wilcoxon`` or ``wilcoxon_exact``."""
        return (
            "wilcoxon_exact" if isinstance(self.test, Wilcoxon) and self.test.exact else self.chosen
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: every field by name, n_missing, p_value, p_method and reason."""
        reason = None if self.reason is None else self.reason.value
        shown = {"p_value": self.p_value, "p_method": self.p_method, "reason": reason}
        return {**Result.as_dict(self), **shown}

    @property
    def reason(self) -> Reason | None:
        """Reason of the test that was chosen."""
        return None if self.test is None else self.test.reason


def choose_paired_test(
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    by: str = "normality",
    cluster: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
) -> PairedChoice:
    """Paired t-test where the differences look normal, Wilcoxon's test where they do not.

    Parameters
    ----------
    x, y, cluster, level
        See `paired_t`.
    by : {"normality", "t", "wilcoxon"}
        What decides: Shapiro and Wilk's test of the differences, or the protocol.
    alpha : float
        Level of the test of normality.

    Returns
    -------
    PairedChoice
        Where normality has no answer (constant differences, too few), Wilcoxon's test.

    Raises
    ------
    StatsError
        If the input breaks a rule.
    """
    if by not in {"normality", "t", "wilcoxon"}:
        raise StatsError(f"by must be normality, t or wilcoxon, got {by!r}")
    pairs = differences_of(x, y)
    normality = shapiro_wilk(pairs.clean, alpha=alpha)
    t = paired_t(x, y, cluster=cluster, level=level)
    wilcoxon = wilcoxon_signed_rank(x, y, cluster=cluster, level=level)
    chosen = ("t" if normality.normal else "wilcoxon") if by == "normality" else by
    return PairedChoice(
        method=t.method if chosen == "t" else wilcoxon.method,
        n=pairs.n,
        n_given=pairs.n_given,
        chosen=chosen,
        by="normality" if by == "normality" else "protocol",
        normality=normality,
        t=t,
        wilcoxon=wilcoxon,
    )
