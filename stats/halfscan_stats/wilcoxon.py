"""Wilcoxon's signed rank test for paired scores, as SPSS computes it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.differences import differences_of
from halfscan_stats.ratings import Numbers, check_level, cluster_codes
from halfscan_stats.result import Interval, Reason, TestResult

__all__ = ["Wilcoxon", "wilcoxon_signed_rank"]

EXACT_UP_TO = 50  # pairs: the distribution of the ranks is added up, not approximated
FEW = 20  # pairs that differ: with fewer the normal approximation misleads, most of all with ties
PAIRWISE_UP_TO = 200  # pairs: all averages of two differences fit in one small matrix


@dataclass(frozen=True, slots=True)
class Wilcoxon(TestResult):
    """What the signed rank test answers; `statistic` is z.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`; n counts complete pairs, zero differences included. `p_value` is the
        normal approximation, as SPSS and the reference study have it. `p_shown` is the one to
        print.
    n_positive, n_negative : int
        Pairs in which the first is larger, and smaller.
    n_nonzero : int
        Pairs that differ: those that are ranked.
    w_plus, w_minus : float or None
        Sums of the ranks of positive (first larger) and of negative differences.
    p_corrected : float or None
        With continuity correction, as R prints by default.
    p_exact : float or None
        From the permutation distribution of the ranks, ties included, which is right for them;
        up to 50 ranked pairs.
    z_pratt, p_pratt : float or None
        With the zeros ranked before they are dropped (Pratt 1959).
    rank_biserial : float or None
        (w_plus - w_minus) / (w_plus + w_minus): the effect size, -1 to 1.
    pseudomedian : float or None
        Median of the averages of two differences (Hodges & Lehmann), zeros included.
    interval : Interval or None
        Of the pseudomedian; None with too few pairs for its level.
    interval_reason : Reason or None
        Why there is no interval: ``too_few``.
    hodges_lehmann : float or None
        The same of the pairs that differ: zeros are dropped, as the p-value drops them. It never
        lies on the other side of 0 than the rank sums.
    hodges_lehmann_interval : Interval or None
        Shifts that the test behind `p_shown` does not reject, with the ties that there are: the
        permutation distribution below 20 pairs that differ, else the normal approximation.
    hodges_lehmann_excludes_zero : bool or None
        Whether 0 is outside of it: exactly where `p_shown` is below 1 - level. With tied scores 0
        may be the limit that a shift comes near to without being allowed: an open limit.
    hodges_lehmann_reason : Reason or None
        Why one of them is None: ``too_few`` or ``all_differences_zero``.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_z, cluster_p_value : float or None
        With the signs of a cluster flipped together, clusters of unequal size weighted by the
        correlation of their signed ranks (Rosner, Glynn & Lee 2006); None with fewer than two
        clusters that differ.
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    """

    n_positive: int = 0
    n_negative: int = 0
    n_nonzero: int = 0
    w_plus: float | None = None
    w_minus: float | None = None
    p_corrected: float | None = None
    p_exact: float | None = None
    z_pratt: float | None = None
    p_pratt: float | None = None
    rank_biserial: float | None = None
    pseudomedian: float | None = None
    interval: Interval | None = None
    interval_reason: Reason | None = None
    hodges_lehmann: float | None = None
    hodges_lehmann_interval: Interval | None = None
    hodges_lehmann_excludes_zero: bool | None = None
    hodges_lehmann_reason: Reason | None = None
    n_clusters: int | None = None
    cluster_z: float | None = None
    cluster_p_value: float | None = None
    cluster_reason: Reason | None = None

    @property
    def z(self) -> float | None:
        """The standardised rank sum: `statistic` under its own name."""
        return self.statistic

    @property
    def exact(self) -> bool:
        """Whether so few pairs differ that the exact p is the one to print."""
        return 0 < self.n_nonzero < FEW and self.p_exact is not None

    @property
    def p_shown(self) -> float | None:
        """The p-value to print: exact below 20 pairs that differ, else the approximation."""
        return self.p_exact if self.exact else self.p_value


def wilcoxon_signed_rank(
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    *,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Wilcoxon:
    """Test whether paired differences are symmetric about zero.

    Zero differences are dropped, ties get average ranks and correct the variance, and there is no
    continuity correction [1]_: z = (W+ - n(n+1)/4) / sqrt(n(n+1)(2n+1)/24 - sum(t^3 - t)/48). The
    exact p-value adds up the permutation distribution of the ranks that are there, ties kept (all
    flips of signs). With few pairs it is the one to report: four equal differences of one sign
    have an exact p of 0.125 and an approximate one of 0.046. Differences that agree in 13 digits
    count as equal.

    Parameters
    ----------
    x, y : array_like
        (pair,), None or NaN where missing (pairwise deletion); `x` alone may be (pair, 2).
    cluster : array_like, optional
        (pair,), the patient that a pair belongs to [2]_.
    level : float
        Confidence level of the intervals of the pseudomedian and of the Hodges-Lehmann estimate
        [3]_.

    Returns
    -------
    Wilcoxon
        All differences zero: z = 0 and p = 1 (`all_differences_zero`); no pair: None (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Wilcoxon F (1945). Biometrics Bull 1:80-83; SPSS Statistics Algorithms, NPAR TESTS.
    .. [2] Rosner B, Glynn RJ, Lee MLT (2006). Biometrics 62:185-192.
    .. [3] Hollander M, Wolfe DA, Chicken E (2014). Nonparametric Statistical Methods, 3.3.
    """
    check_level(level)
    pairs = differences_of(x, y)
    clusters = None if cluster is None else cluster_codes(cluster, pairs.kept)
    method = (
        "Wilcoxon signed rank, zeros dropped, ties corrected, no continuity correction; below "
        f"{FEW} pairs that differ the exact permutation p is shown"
    )
    count = None if clusters is None else clusters[1]
    if pairs.n == 0:
        few = Reason.TOO_FEW
        nested = None if count is None else few
        return Wilcoxon(
            method,
            0,
            pairs.n_given,
            reason=few,
            interval_reason=few,
            hodges_lehmann_reason=few,
            n_clusters=count,
            cluster_reason=nested,
        )
    differences = pairs.clean
    center, interval = _pseudomedian(differences, level)
    codes = None if clusters is None else clusters[0]
    return Wilcoxon(
        method,
        pairs.n,
        pairs.n_given,
        pseudomedian=center,
        interval=interval,
        interval_reason=Reason.TOO_FEW if interval is None else None,
        n_clusters=count,
        **_test(differences, codes, level),
    )


def _test(
    differences: Numbers, clusters: npt.NDArray[np.intp] | None, level: float
) -> dict[str, Any]:
    """Give the fields that come from the ranks of what differs."""
    there = differences != 0
    ranked = differences[there]
    if ranked.size == 0:
        tied = Reason.ALL_DIFFERENCES_ZERO
        certain = {"p_value": 1.0, "p_corrected": 1.0, "p_exact": 1.0, "statistic": 0.0}
        nested_reason = None if clusters is None else tied
        reasons = {"hodges_lehmann_reason": tied, "cluster_reason": nested_reason}
        return certain | {"reason": tied, **reasons}
    ranks = _ranks(np.abs(ranked))
    plus, total = float(ranks[ranked > 0].sum()), float(ranks.sum())
    spread = math.sqrt(float(np.sum(ranks**2)) / 4)
    z = (plus - total / 2) / spread
    pratt = z if there.all() else _z_pratt(differences)
    nested = None if clusters is None else _cluster_z(np.copysign(ranks, ranked), clusters[there])
    return {
        "statistic": z,
        "p_value": _two_sided(z),
        "n_positive": int((ranked > 0).sum()),
        "n_negative": int((ranked < 0).sum()),
        "n_nonzero": ranked.size,
        "w_plus": plus,
        "w_minus": total - plus,
        "p_corrected": _two_sided(max(abs(plus - total / 2) - 0.5, 0.0) / spread),
        "p_exact": _exact(ranks, plus) if ranked.size <= EXACT_UP_TO else None,
        "z_pratt": pratt,
        "p_pratt": _two_sided(pratt),
        "rank_biserial": (2 * plus - total) / total,
        **_hodges_lehmann(ranked, ranks, min(plus, total - plus), level),
        "cluster_z": nested,
        "cluster_p_value": None if nested is None else _two_sided(nested),
        "cluster_reason": Reason.TOO_FEW if clusters is not None and nested is None else None,
    }


def _ranks(magnitudes: Numbers) -> Numbers:
    """Average ranks."""
    _, inverse, counts = np.unique(magnitudes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    average: Numbers = (last - (counts - 1) / 2)[inverse]
    return average


def _two_sided(z: float) -> float:
    return float(min(1.0, 2 * special.ndtr(-abs(z))))


def _z_pratt(differences: Numbers) -> float:
    """Z with the zeros ranked as the smallest, then dropped."""
    ranks = _ranks(np.abs(differences))
    there = differences != 0
    plus = ranks[differences > 0].sum()
    return float((plus - ranks[there].sum() / 2) / math.sqrt(np.sum(ranks[there] ** 2) / 4))


def _cluster_z(signed: Numbers, codes: npt.NDArray[np.intp]) -> float | None:
    """Weighted sum of the signed ranks over its spread when whole clusters change sign.

    A cluster of g pairs weighs ``g / (1 + (g - 1) rho)`` times its mean (Rosner, Glynn & Lee
    2006): that is its sum where all clusters have one size, and less where it says the same thing
    many times.
    """
    sizes = np.bincount(codes)
    there = sizes > 0
    sizes, sums = sizes[there], np.asarray(np.bincount(codes, weights=signed)[there], dtype=float)
    if sizes.size < 2:
        return None
    if sizes.min() < sizes.max():
        sums = sums / (1 + (sizes - 1) * _rank_correlation(signed, sums, sizes))
    spread = math.sqrt(float(np.sum(sums**2)))
    return float(sums.sum()) / spread if spread > 0 else 0.0


def _rank_correlation(signed: Numbers, sums: Numbers, sizes: npt.NDArray[np.intp]) -> float:
    """Correlation of the signed ranks of a cluster, within 0 and 1, for clusters of unequal size.

    From the mean squares between and within clusters, corrected for few clusters
    (Rosner, Glynn & Lee 2006).
    """
    n, clusters = signed.size, sizes.size
    explained = float(np.sum(sums**2 / sizes))
    between = (explained - float(sums.sum()) ** 2 / n) / (clusters - 1)
    within = max(float(np.sum(signed**2)) - explained, 0.0) / (n - clusters)
    usual = (n - float(np.sum(sizes**2)) / n) / (clusters - 1)
    of_clusters = (between - within) / usual
    if of_clusters <= 0:
        return 0.0
    rho = of_clusters / (of_clusters + within)
    if clusters > 2:
        rho *= 1 + (1 - rho**2) / (clusters - 2.5)
    return min(rho, 1.0)


def _exact(ranks: Numbers, plus: float) -> float:
    """Two-sided p from the distribution of the rank sum over all assignments of signs."""
    doubled = np.rint(2 * ranks).astype(int)  # average ranks are halves
    chance = _rank_sum_distribution(tuple(sorted(doubled.tolist())))
    at = round(2 * plus)
    smaller = min(at, chance.size - 1 - at)  # it is symmetric
    return float(min(1.0, 2 * chance[: smaller + 1].sum()))


@functools.lru_cache(maxsize=256)
def _rank_sum_distribution(ranks: tuple[int, ...]) -> Numbers:
    """Probability of every sum of ranks that each count or do not, by coin."""
    chance = np.zeros(sum(ranks) + 1)
    chance[0] = 1.0
    reached = 0
    for rank in ranks:
        reached += rank
        chance[rank : reached + 1] = chance[rank : reached + 1] + chance[: reached + 1 - rank]
        chance[: reached + 1] /= 2
    chance.flags.writeable = False  # the cache hands out one array
    return chance


def _pseudomedian(differences: Numbers, level: float) -> tuple[float, Interval | None]:
    """Hodges-Lehmann estimate, and its interval from the ordered averages of two differences."""
    n = differences.size
    averages = n * (n + 1) // 2
    ordered = np.sort(differences)
    wanted = [(averages + 1) // 2, averages // 2 + 1]
    outside = _outside(n, (1 - level) / 2)
    if outside > 0:
        wanted += [outside, averages + 1 - outside]
    values = _ordered_averages(ordered, wanted)
    center = (values[0] + values[1]) / 2
    return center, Interval(values[2], values[3], level) if outside > 0 else None


def _hodges_lehmann(
    ranked: Numbers, ranks: Numbers, smaller: float, level: float
) -> dict[str, Any]:
    """Estimate and interval from the averages of two differences that are not zero.

    Average ranks make the sum of the positive ranks the number of positive averages and half the
    zero ones. So a shift is kept while neither side has fewer averages than `least`, the smallest
    sum that the test does not reject.
    """
    averages = ranked.size * (ranked.size + 1) // 2
    least = _least_sum(ranks, level)
    wanted = [(averages + 1) // 2, averages // 2 + 1]
    if least > 0:
        wanted += [math.ceil(least), averages + 1 - math.ceil(least)]
    values = _ordered_averages(np.sort(ranked), wanted)
    center = {"hodges_lehmann": (values[0] + values[1]) / 2}
    if least <= 0:
        return center | {"hodges_lehmann_reason": Reason.TOO_FEW}
    return center | {
        "hodges_lehmann_interval": Interval(values[2], values[3], level),
        "hodges_lehmann_excludes_zero": smaller < least,
    }


def _least_sum(ranks: Numbers, level: float) -> float:
    """Smallest rank sum whose p, the one that is shown, is not below 1 - level."""
    if ranks.size < FEW:
        doubled = np.rint(2 * ranks).astype(int)
        chance = _rank_sum_distribution(tuple(sorted(doubled.tolist())))
        return float(np.searchsorted(2 * np.cumsum(chance), 1 - level)) / 2
    spread = math.sqrt(float(np.sum(ranks**2)) / 4)
    return float(ranks.sum()) / 2 + float(special.ndtri((1 - level) / 2)) * spread


def _outside(n: int, tail: float) -> int:
    """Rank of the average that is the lower limit; 0 where n is too small for one."""
    if n <= EXACT_UP_TO:
        chance = _rank_sum_distribution(tuple(range(1, n + 1)))
        return int(np.searchsorted(np.cumsum(chance), tail, side="right"))
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return math.floor(n * (n + 1) / 4 + float(special.ndtri(tail)) * spread)


def _ordered_averages(ordered: Numbers, wanted: list[int]) -> list[float]:
    """The k-th smallest averages of two differences (one with itself included), k from 1."""
    n = ordered.size
    if n <= PAIRWISE_UP_TO:
        rows, columns = _pairs_of(n)
        sums = np.sort(ordered[rows] + ordered[columns])
        return [float(sums[k - 1]) / 2 for k in wanted]
    return [_kth_average(ordered, k) for k in wanted]


@functools.lru_cache(maxsize=16)
def _pairs_of(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Every pair of n, one with itself included."""
    return np.triu_indices(n)


def _kth_average(ordered: Numbers, k: int) -> float:
    """The same by halving the range of the sums: no matrix of all pairs."""
    places = np.arange(ordered.size)
    low, high = 2 * float(ordered[0]), 2 * float(ordered[-1])
    for _ in range(64):
        middle = (low + high) / 2
        partners = np.searchsorted(ordered, middle - ordered, side="right")
        if int(np.maximum(partners - places, 0).sum()) >= k:
            high = middle
        else:
            low = middle
    return high / 2
