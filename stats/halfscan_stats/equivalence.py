"""What a test of difference cannot say: that the new method finds as much, or not much less.

Non-inferiority and equivalence of paired proportions by the score test, with its interval; where
the pairs are nested in patients, the same on the effective sample. Paired means (`tost`) and
readers' scores (`interchangeability`) have modules of their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from scipy import special

from halfscan_stats import rao_scott
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import normal_quantile
from halfscan_stats.proportions import (
    PairedCounts,
    paired_counts,
    score_limits,
    score_statistic,
)
from halfscan_stats.ratings import check_alpha, check_level, cluster_codes, finite
from halfscan_stats.result import Decision, Estimate, Interval, Reason, TestResult

__all__ = [
    "NonInferiority",
    "PairedDifference",
    "noninferiority_paired_proportions",
    "tango_interval",
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
    design_effect, cluster_interval : float, Interval or None
        With the pairs nested in clusters: the same on the effective sample (`rao_scott`).
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    """

    b: int = 0
    c: int = 0
    n_clusters: int | None = None
    design_effect: float | None = None
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
        **_cluster_interval(counts, cluster, level),
    )


def _counted(counts: PairedCounts) -> tuple[PairedCounts, int]:
    """Give the counts, and the number of pairs, which the difference needs."""
    if counts.n is None:
        raise StatsError("n is needed beside the counts b and c: the difference is (b - c) / n")
    return counts, counts.n


def _nested(
    counts: PairedCounts, cluster: npt.ArrayLike, margin: float
) -> tuple[int, rao_scott.PatientsScore | None]:
    """Give the number of clusters, and the score test on them."""
    if counts.differences is None or counts.kept is None:
        raise StatsError("cluster needs the answers as vectors: counts do not know their patients")
    codes, count = cluster_codes(cluster, counts.kept)
    return count, rao_scott.patients_score(counts.differences, codes, count, margin=margin)


def _cluster_interval(
    counts: PairedCounts, cluster: npt.ArrayLike | None, level: float
) -> dict[str, Any]:
    """Give what the clusters add to a difference of proportions."""
    if cluster is None:
        return {}
    count, score = _nested(counts, cluster, 0.0)
    if score is None:
        return {"n_clusters": count, "cluster_reason": Reason.TOO_FEW}
    return {
        "n_clusters": count,
        "design_effect": score.design_effect,
        "cluster_interval": score.interval(level),
    }


_SCORE = "score test (Nam 1997, Tango 1998)"
_UNDECIDED = Decision(_SCORE, reason=Reason.TOO_FEW)


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
    b, c : int
        Pairs found with the new method only, and with the reference only.
    z_upper, p_upper : float or None
        The same for H0: new - reference >= margin.
    p_equivalence : float or None
        The larger of both p-values.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    design_effect : float or None
        Of the clusters (`rao_scott.design_effect`).
    decision : Decision
        What decides: the score test, with `cluster` that on the effective sample. Its p-value is
        that of non-inferiority, its bounds are -margin and margin.
    noninferior, equivalent : bool or None
        Whether `decision` rejects the lower hypothesis, and both: whether its interval lies above
        -margin, and within (-margin, margin).
    """

    margin: float = 0.0
    alpha: float = 0.05
    difference: float | None = None
    interval: Interval | None = None
    b: int = 0
    c: int = 0
    z_upper: float | None = None
    p_upper: float | None = None
    p_equivalence: float | None = None
    n_clusters: int | None = None
    design_effect: float | None = None
    decision: Decision = _UNDECIDED
    noninferior: bool | None = None
    equivalent: bool | None = None

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
    stands beside it. It agrees with `tango_interval` at confidence 1 - 2 alpha. With clusters it
    is done again on the counts over their design effect [3]_, with Student's t, and that decides.

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
        (pair,), the patient that a pair belongs to: a test that allows for it decides.

    Returns
    -------
    NonInferiority
        No pair: None (`too_few`); no discordant pair at margin 0: no p (`no_discordant`); one
        cluster: the score test, and no decision (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Nam J (1997). Biometrics 53:1422-1430.
    .. [2] Tango T (1998). Stat Med 17:891-908.
    .. [3] Rao JNK, Scott AJ (1992). Biometrics 48:577-585.
    """
    if not 0 <= finite(margin, "margin") < 1:
        raise StatsError(f"margin must be at least 0 and below 1, got {margin!r}")
    check_alpha(alpha)
    counts, pairs = _counted(
        paired_counts(new, reference, n, b=b, c=c, table=table, categories=categories)
    )
    method = f"non-inferiority of paired proportions, {_SCORE}, one-sided"
    if pairs == 0:
        return NonInferiority(
            method, 0, counts.n_given, margin=margin, alpha=alpha, reason=Reason.TOO_FEW
        )
    tests = _score_tests(counts.b, counts.c, pairs, margin)
    limits = score_limits(counts.b, counts.c, pairs, normal_quantile(1 - alpha))
    interval = Interval(*limits, 1 - 2 * alpha)
    if cluster is None:
        nested: dict[str, Any] = {"decision": _naive_decision(tests, interval)}
    else:
        nested = _cluster_decision(counts, cluster, margin, alpha)
    lower, both = nested["decision"].p_value, nested["decision"].p_equivalence
    return NonInferiority(
        method,
        pairs,
        counts.n_given,
        margin=margin,
        alpha=alpha,
        difference=(counts.b - counts.c) / pairs,
        interval=interval,
        b=counts.b,
        c=counts.c,
        noninferior=None if lower is None else lower <= alpha,
        equivalent=None if both is None else both <= alpha,
        **tests,
        **nested,
    )


def _score_tests(b: int, c: int, n: int, margin: float) -> dict[str, Any]:
    """Give both one-sided tests of independent pairs."""
    if margin == 0 and b + c == 0:
        return {"reason": Reason.NO_DISCORDANT}
    z_low = float(score_statistic(b, c, n, -margin))
    z_high = float(score_statistic(b, c, n, margin))
    p_low, p_high = float(special.ndtr(-z_low)), float(special.ndtr(z_high))
    return {
        "statistic": z_low,
        "p_value": p_low,
        "z_upper": z_high,
        "p_upper": p_high,
        "p_equivalence": max(p_low, p_high),
    }


def _naive_decision(tests: dict[str, Any], interval: Interval) -> Decision:
    """Give what decides on independent pairs."""
    lower, upper = tests.get("p_value"), tests.get("p_upper")
    return Decision(_SCORE, lower, interval, lower, upper, tests.get("reason"))


def _cluster_decision(
    counts: PairedCounts, cluster: npt.ArrayLike, margin: float, alpha: float
) -> dict[str, Any]:
    """Give what decides on pairs of the same patients."""
    count, score = _nested(counts, cluster, margin)
    if score is None:
        return {"n_clusters": count, "decision": rao_scott.UNDECIDED}
    interval = score.interval(1 - 2 * alpha)
    if margin == 0 and counts.b + counts.c == 0:
        decision = Decision(rao_scott.METHOD, interval=interval, reason=Reason.NO_DISCORDANT)
    else:
        lower, upper = score.p_above(-margin), score.p_below(margin)
        decision = Decision(rao_scott.METHOD, lower, interval, lower, upper)
    return {"n_clusters": count, "design_effect": score.design_effect, "decision": decision}
