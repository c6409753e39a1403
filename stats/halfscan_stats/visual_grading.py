"""Visual grading characteristics: how often a score of one protocol is above one of the other.

Two distributions of scores are compared as a receiver operating curve compares those of the well
and the ill: the area under the curve is the chance that a score with the test protocol is higher
than one with the reference, ties counted half. It uses the order of the scale alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.inference import ROUNDING, t_quantile
from halfscan_stats.ratings import Codes, Numbers, check_level, cluster_codes, coded
from halfscan_stats.result import Estimate, Interval, Reason

__all__ = ["VisualGrading", "visual_grading_characteristics"]

METHOD = (
    "visual grading characteristics (Bath & Mansson 2007), interval over patients "
    "(Obuchowski 1997), Student's t"
)


@dataclass(frozen=True, slots=True)
class VisualGrading(Estimate):
    """Area under the curve of visual grading characteristics.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; n counts scores of both protocols. The value is 0.5 without a difference,
        above it where the test protocol is scored higher.
    se : float or None
        Standard error over patients.
    p_value : float or None
        Two-sided, of the hypothesis that the area is 0.5, from Student's t with clusters - 1
        degrees of freedom: the interval excludes 0.5 where it is below 1 - level.
    curve : tuple of (float, float)
        Points (reference, test): shares of scores at or above each category, from (0, 0) to (1, 1).
    n_reference, n_test : int
        Scores of either protocol.
    n_clusters : int
        Clusters (patients).
    """

    se: float | None = None
    p_value: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    n_reference: int = 0
    n_test: int = 0
    n_clusters: int = 0


def visual_grading_characteristics(
    ratings: npt.ArrayLike,
    test: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike,
    categories: Sequence[Any],
    level: float = 0.95,
) -> VisualGrading:
    """Compare the scores of two protocols [1]_; scores of a patient are not independent [2]_.

    Every score has a component: the share of the other protocol's scores that it beats, ties
    counted half. The components of a patient, of both protocols and all readers, are added up:
    the variance between patients of these sums is that of the area.

    Parameters
    ----------
    ratings : array_like
        (observation,), scores of both protocols; None and NaN are missing.
    test : array_like
        (observation,), True (1) for the test protocol, False (0) for the reference.
    cluster : array_like
        (observation,), the patient of each.
    categories : sequence
        The scale in its order.
    level : float
        Confidence level; the interval is cut at 0 and 1.

    Returns
    -------
    VisualGrading
        No score of a protocol: None (`too_few`). One patient: no interval (`too_few`). Everyone
        the same score: `no_variation`; no spread between patients, as with identical scores:
        `zero_variance`, and the area is there.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Bath M, Mansson LG (2007). Br J Radiol 80:169-176.
    .. [2] Obuchowski NA (1997). Biometrics 53:567-578.
    """
    check_level(level)
    given = coded(np.asarray(ratings, dtype=object), categories)
    sides = np.asarray(test)
    if given.codes.ndim != 1 or sides.shape != given.codes.shape:
        raise StatsError(
            "ratings and test must be vectors of one length, "
            f"got shapes {given.codes.shape} and {sides.shape}"
        )
    if not np.isin(sides, (0, 1)).all():
        raise StatsError(f"test must be 0 or 1, got {sorted(set(sides.tolist()))!r}")
    kept = given.codes >= 0
    scores, new = given.codes[kept], sides[kept].astype(bool)
    clusters, count = cluster_codes(cluster, kept)
    counts: dict[str, Any] = {
        "n_reference": int((~new).sum()),
        "n_test": int(new.sum()),
        "n_clusters": count,
    }
    n = scores.size
    if not (counts["n_reference"] and counts["n_test"]):
        return VisualGrading(METHOD, n, kept.size, reason=Reason.TOO_FEW, **counts)
    curve, area, influence = _curve(scores, new, len(given.categories))
    sums = np.bincount(clusters, weights=influence, minlength=count)
    se = math.sqrt(count / (count - 1) * float(sums @ sums)) if count > 1 else 0.0
    reason = None
    if count < 2:
        reason = Reason.TOO_FEW
    elif se * math.sqrt(n) <= ROUNDING:
        reason = Reason.NO_VARIATION if np.ptp(scores) == 0 else Reason.ZERO_VARIANCE
    common: dict[str, Any] = {"value": area, "curve": curve, **counts}
    if reason is not None:
        return VisualGrading(METHOD, n, kept.size, reason=reason, **common)
    reach = t_quantile((1 + level) / 2, count - 1) * se
    return VisualGrading(
        METHOD,
        n,
        kept.size,
        interval=Interval(max(area - reach, 0.0), min(area + reach, 1.0), level),
        se=se,
        p_value=float(2 * special.stdtr(count - 1, -abs(area - 0.5) / se)),
        **common,
    )


def _curve(
    scores: Codes, new: npt.NDArray[np.bool_], n_categories: int
) -> tuple[tuple[tuple[float, float], ...], float, Numbers]:
    """Give the curve, its area, and what each score adds to it: mean zero over each protocol."""
    counts = [np.bincount(scores[side], minlength=n_categories) for side in (~new, new)]
    above = [np.append(np.cumsum(n[::-1])[::-1], 0) / n.sum() for n in counts]
    ties = [n / n.sum() for n in counts]
    # The share of the reference that a test score beats; of the test that beats a reference score.
    beats = (1 - above[0][:-1] + ties[0] / 2)[scores]
    beaten = (above[1][1:] + ties[1] / 2)[scores]
    area = float(beats[new].mean())
    influence = np.where(new, (beats - area) / new.sum(), (beaten - area) / (~new).sum())
    points = tuple(
        (float(x), float(y)) for x, y in zip(above[0][::-1], above[1][::-1], strict=True)
    )
    return points, area, influence
