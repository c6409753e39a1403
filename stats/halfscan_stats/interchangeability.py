"""Interchangeability: may one reader use the new method while the others use the old one.

Readers disagree with one another whatever they look at. Two methods are interchangeable where
they do not disagree more when one of them looks at the new images.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats import rao_scott
from halfscan_stats.differences import check_magnitude
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import ROUNDING, clipped, cluster_sums, normal_quantile
from halfscan_stats.ratings import (
    Codes,
    Numbers,
    check_level,
    cluster_codes,
    coded,
    finite,
    generator,
    numbers,
    subject_by_reader,
)
from halfscan_stats.result import Decision, Estimate, Interval, Reason

__all__ = ["Interchangeability", "interchangeability"]

WEIGHTS_AT_ONCE = 4_000_000  # resampling weights held in memory
_WALD = "Wald test of the individual equivalence index, cluster-robust (Obuchowski 2014)"


@dataclass(frozen=True, slots=True)
class Interchangeability(Estimate):
    """How much more readers disagree when one of them uses the new method.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`. The value is the individual equivalence index: disagreement between a
        reader with the reference and another with the new method, minus disagreement between two
        readers with the reference. The interval is cluster-robust.
    se : float or None
        Cluster-robust standard error (each subject its own cluster without `cluster`).
    disagreement_reference, disagreement_between, disagreement_new : float or None
        Mean disagreement of two readers: both with the reference, one with either, both with the
        new method.
    bootstrap_interval : Interval or None
        Percentile interval from resampled clusters.
    n_resamples : int
        Resamples drawn.
    naive_se, naive_interval : float, Interval or None
        As if all subjects were independent.
    n_clusters : int
        Clusters (patients).
    n_readers : int
        Readers.
    margin : float or None
        Largest index that counts as interchangeable.
    decision : Decision
        What decides against the margin. Of mismatches the score test on the effective sample
        (`rao_scott`), which has an answer where no subject differs too; of squared differences
        Wald's, by `se`. The p-value is one-sided, the interval has the confidence asked for.
    interchangeable : bool or None
        Whether the upper limit of its interval lies below the margin.
    """

    se: float | None = None
    disagreement_reference: float | None = None
    disagreement_between: float | None = None
    disagreement_new: float | None = None
    bootstrap_interval: Interval | None = None
    n_resamples: int = 0
    naive_se: float | None = None
    naive_interval: Interval | None = None
    n_clusters: int = 0
    n_readers: int = 0
    margin: float | None = None
    decision: Decision = rao_scott.UNDECIDED
    interchangeable: bool | None = None


def interchangeability(  # noqa: PLR0913  (all but the ratings are keywords)
    reference: npt.ArrayLike,
    new: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike | None = None,
    categories: Sequence[Hashable] | None = None,
    disagreement: str = "mismatch",
    margin: float | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    rng: np.random.Generator | int = 0,
) -> Interchangeability:
    """Individual equivalence index of two methods [1]_, [2]_.

    The standard error is that of a generalised estimating equation with identity link and
    independent working correlation: the sandwich over clusters, without a small-sample factor.

    Parameters
    ----------
    reference, new : array_like
        (subject, reader), the same readers in the same order with either method; None or NaN
        where missing (a subject with a missing rating is left out).
    cluster : array_like, optional
        (subject,), the patient that a subject (a spinal level) belongs to.
    categories : sequence, optional
        The declared scale, for scores.
    disagreement : {"mismatch", "squared"}
        What two ratings cost: 1 if they differ (scores, findings), or the squared difference
        (measurements).
    margin : float, optional
        Largest index that counts as interchangeable, at least 0.
    level : float
        Confidence level; with ``mismatch`` the intervals are clipped at -1 and 1.
    n_resamples : int
        Bootstrap resamples of whole clusters; 0 for none.
    rng : numpy.random.Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    Interchangeability
        One reader, or no subject: None (`too_few`). Without spread there is a value, a decision
        on mismatches and no interval: `perfect_agreement`, `no_variation` or `zero_variance`;
        with one cluster there is neither (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Obuchowski NA, Subhas N, Schoenhagen P (2014). Acad Radiol 21:1483-1489.
    .. [2] Almansour H et al. (2023). Radiology 306:e212922.
    """
    check_level(level)
    if margin is not None and finite(margin, "margin") < 0:
        raise StatsError(f"margin must be at least 0, got {margin!r}")
    old, changed, kept = _ratings(reference, new, categories, disagreement)
    method = f"individual equivalence index (Obuchowski 2014), {disagreement}, cluster-robust"
    n, readers = old.shape
    common: dict[str, Any] = {"n_readers": readers, "margin": margin}
    if n == 0 or readers < 2:
        return Interchangeability(method, n, kept.size, reason=Reason.TOO_FEW, **common)
    pairs = list(combinations(range(readers), 2))
    within_old = _mean_loss(old, old, pairs, disagreement)
    between = _mean_loss(old, changed, list(permutations(range(readers), 2)), disagreement)
    index = between - within_old
    value = float(index.mean())
    codes, count = np.arange(n), n
    if cluster is not None:
        codes, count = cluster_codes(cluster, kept)
    sums = cluster_sums(index - value, codes, count)
    se = math.sqrt(float(sums @ sums)) / n
    naive_se = float(index.std()) / math.sqrt(n)
    common |= {
        "value": value,
        "disagreement_reference": float(within_old.mean()),
        "disagreement_between": float(between.mean()),
        "disagreement_new": float(_mean_loss(changed, changed, pairs, disagreement).mean()),
        "naive_se": naive_se,
        "n_clusters": count,
    }
    interval = _around(value, se, level, disagreement)
    reason = _without_interval(index, se, count, old, within_old + between)
    if disagreement == "mismatch":
        decision = _score_decision(index, codes, count, margin, level)
    else:
        decision = _wald_decision(value, se, interval, margin, reason)
    common |= {"decision": decision, "interchangeable": _below(decision, margin)}
    if reason is not None:
        return Interchangeability(method, n, kept.size, reason=reason, **common)
    drawn = _bootstrap(cluster_sums(index, codes, count), codes, n_resamples, generator(rng))
    return Interchangeability(
        method,
        n,
        kept.size,
        interval=interval,
        se=se,
        bootstrap_interval=_percentiles(drawn, level),
        n_resamples=drawn.size,
        naive_interval=_around(value, naive_se, level, disagreement),
        **common,
    )


def _ratings(
    reference: npt.ArrayLike,
    new: npt.ArrayLike,
    categories: Sequence[Hashable] | None,
    disagreement: str,
) -> tuple[Numbers, Numbers, npt.NDArray[np.bool_]]:
    """Give the complete ratings of both methods, and which subjects they are."""
    if disagreement not in {"mismatch", "squared"}:
        raise StatsError(f"disagreement must be mismatch or squared, got {disagreement!r}")
    old, changed = subject_by_reader(reference), subject_by_reader(new)
    if old.shape != changed.shape:
        raise StatsError(
            "both methods must have the same subjects and readers, "
            f"got shapes {old.shape} and {changed.shape}"
        )
    both = np.concatenate([old.astype(object), changed.astype(object)], axis=1)
    if disagreement == "mismatch":
        codes = coded(both, categories).codes
        values, there = codes.astype(float), codes >= 0
    else:
        values = numbers(both)
        there = ~np.isnan(values)
        if there.any():
            check_magnitude(values[there])
    kept = np.asarray(there.all(axis=1))
    return values[kept, : old.shape[1]], values[kept, old.shape[1] :], kept


def _mean_loss(
    first: Numbers, second: Numbers, pairs: list[tuple[int, int]], disagreement: str
) -> Numbers:
    """Disagreement of a subject's readers, averaged over the pairs of readers."""
    total = np.zeros(len(first))
    for j, k in pairs:
        distance = first[:, j] - second[:, k]
        total += distance != 0 if disagreement == "mismatch" else distance**2
    return total / len(pairs)


def _without_interval(
    index: Numbers, se: float, count: int, old: Numbers, disagreements: Numbers
) -> Reason | None:
    """Why there is no interval, or None."""
    if count < 2:
        return Reason.TOO_FEW
    if not disagreements.any():
        return Reason.NO_VARIATION if np.ptp(old) == 0 else Reason.PERFECT_AGREEMENT
    # The scale of the index is that of what it was computed from.
    if se * math.sqrt(index.size) <= ROUNDING * float(disagreements.max()):
        return Reason.ZERO_VARIANCE
    return None


def _score_decision(
    index: Numbers, codes: Codes, count: int, margin: float | None, level: float
) -> Decision:
    """Decide on mismatches: a share of the pairs of readers, between -1 and 1 in every subject."""
    score = rao_scott.patients_score(index, codes, count, margin=min(margin or 0.0, 1.0))
    if score is None:
        return rao_scott.UNDECIDED
    interval = score.interval(level)
    if margin is None:
        return Decision(rao_scott.METHOD, interval=interval, reason=Reason.NO_MARGIN)
    # A share is below 1 without a test.
    p_value = score.p_below(margin) if margin < 1 else 0.0
    return Decision(rao_scott.METHOD, p_value, interval, p_upper=p_value)


def _wald_decision(
    value: float, se: float, interval: Interval, margin: float | None, reason: Reason | None
) -> Decision:
    if reason is not None:
        return Decision(_WALD, reason=reason)
    if margin is None:
        return Decision(_WALD, interval=interval, reason=Reason.NO_MARGIN)
    p_value = float(special.ndtr((value - margin) / se))
    return Decision(_WALD, p_value, interval, p_upper=p_value)


def _below(decision: Decision, margin: float | None) -> bool | None:
    if margin is None or decision.interval is None:
        return None
    return decision.interval.high < margin


def _around(value: float, se: float, level: float, disagreement: str) -> Interval:
    reach = normal_quantile((1 + level) / 2) * se
    if disagreement == "mismatch":  # a difference of two shares
        return clipped(value, value - reach, value + reach, level)
    return Interval(value - reach, value + reach, level)


def _bootstrap(sums: Numbers, codes: Codes, n_resamples: int, rng: np.random.Generator) -> Numbers:
    """Draw the index of resampled clusters: a cluster drawn twice weighs twice."""
    if n_resamples < 0:
        raise StatsError(f"n_resamples must be at least 0, got {n_resamples!r}")
    count = sums.size
    # Clusters with the same sum and size are one line: which of them is drawn makes no difference.
    alike = np.column_stack([sums, np.bincount(codes, minlength=count)])
    kinds, members = np.unique(alike, axis=0, return_counts=True)
    drawn = np.empty(n_resamples)
    step = max(1, WEIGHTS_AT_ONCE // len(kinds))
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        weights = rng.multinomial(count, members / count, size=stop - start)
        total, size = (weights @ kinds).T
        drawn[start:stop] = total / size
    return drawn


def _percentiles(drawn: Numbers, level: float) -> Interval | None:
    if drawn.size == 0:
        return None
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)
