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

METHOD = "visual grading characteristics (Bath & Mansson 2007), "
FIXED = "interval over patients (Obuchowski 1997), Student's t"
RANDOM = "mean of the readers' areas, readers and patients random (Hillis 2007), Student's t"


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
        Two-sided, of the hypothesis that the area is 0.5, from Student's t with `df` degrees of
        freedom: the interval excludes 0.5 where it is below 1 - level.
    curve : tuple of (float, float)
        Points (reference, test): shares of scores at or above each category, from (0, 0) to (1, 1).
    n_reference, n_test : int
        Scores of either protocol.
    n_clusters : int
        Clusters (patients).
    readers : {"fixed", "random"}
        Fixed: the interval is of these readers. Random: of readers like these.
    reader_areas : tuple of float
        Area of each reader, in the order of their labels; empty where readers are fixed.
    df : float or None
        Degrees of freedom of t.
    """

    se: float | None = None
    p_value: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    n_reference: int = 0
    n_test: int = 0
    n_clusters: int = 0
    readers: str = "fixed"
    reader_areas: tuple[float, ...] = ()
    df: float | None = None


def visual_grading_characteristics(
    ratings: npt.ArrayLike,
    test: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike,
    reader: npt.ArrayLike | None = None,
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
    reader : array_like, optional
        (observation,), the reader of each. With it readers are random, as in VGC Analyzer [3]_: the
        value is the mean of the readers' areas, the interval that of one
        treatment in a study of many readers and many cases [4]_, with no more degrees of freedom
        than patients give. A reader who lacks scores of a protocol is left out. Without it the
        scores of all readers are one distribution, and readers are fixed.
    categories : sequence
        The scale in its order.
    level : float
        Confidence level; the interval is cut at 0 and 1.

    Returns
    -------
    VisualGrading
        No score of a protocol: None (`too_few`). One patient, or one reader where readers are
        random: no interval (`too_few`). Everyone the same score: `no_variation`; no spread between
        patients, as with identical scores: `zero_variance`. The area is there.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Bath M, Mansson LG (2007). Br J Radiol 80:169-176.
    .. [2] Obuchowski NA (1997). Biometrics 53:567-578.
    .. [3] Bath M, Hansson J (2016). VGC Analyzer: a software for statistical analysis of fully
       crossed multiple-reader multiple-case visual grading characteristics studies. Radiat Prot
       Dosimetry 169:46-53. It resamples; here is no resampling.
    .. [4] Hillis SL (2007). Stat Med 26:596-619.
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
    data = _kept(given.codes, sides.astype(bool), cluster, reader)
    scores, new = data.scores, data.new
    common: dict[str, Any] = {
        "method": METHOD + (FIXED if reader is None else RANDOM),
        "n": scores.size,
        "n_given": given.codes.size,
        "n_reference": int((~new).sum()),
        "n_test": int(new.sum()),
        "n_clusters": data.n_clusters,
        "readers": "fixed" if reader is None else "random",
    }
    if not (common["n_reference"] and common["n_test"]):
        return VisualGrading(reason=Reason.TOO_FEW, **common)
    common["curve"] = _curve(scores, new, len(given.categories))[0]
    sums, areas = _by_reader(data, len(given.categories))
    if reader is None:
        spread = _fixed(sums)
    else:
        common["reader_areas"] = tuple(areas.tolist())
        spread = _random(sums, areas)
    value = float(areas.mean())
    if spread is None or spread[0] * math.sqrt(scores.size) <= ROUNDING:
        same = Reason.NO_VARIATION if np.ptp(scores) == 0 else Reason.ZERO_VARIANCE
        reason = Reason.TOO_FEW if spread is None else same
        return VisualGrading(value=value, reason=reason, **common)
    return VisualGrading(value=value, **_tested(value, *spread, level), **common)


def _tested(value: float, se: float, df: float, level: float) -> dict[str, Any]:
    """Give the interval, and the p-value of no difference, of one t distribution."""
    reach = t_quantile((1 + level) / 2, df) * se
    return {
        "interval": Interval(max(value - reach, 0.0), min(value + reach, 1.0), level),
        "se": se,
        "p_value": float(2 * special.stdtr(df, -abs(value - 0.5) / se)),
        "df": float(df),
    }


@dataclass(frozen=True, slots=True)
class _Kept:
    """Scores that are there; with random readers, of those who scored both protocols."""

    scores: Codes
    new: npt.NDArray[np.bool_]
    clusters: Codes
    readers: Codes
    n_clusters: int


def _kept(
    codes: Codes, new: npt.NDArray[np.bool_], cluster: npt.ArrayLike, reader: npt.ArrayLike | None
) -> _Kept:
    kept = codes >= 0
    if reader is None:
        clusters, count = cluster_codes(cluster, kept)
        return _Kept(codes[kept], new[kept], clusters, np.zeros_like(clusters), count)
    readers, _ = cluster_codes(reader, kept)
    both = np.intersect1d(readers[new[kept]], readers[~new[kept]])
    used = np.isin(readers, both)
    kept[np.flatnonzero(kept)[~used]] = False
    clusters, count = cluster_codes(cluster, kept)
    places = np.searchsorted(both, readers[used])
    return _Kept(codes[kept], new[kept], clusters, places, count)


def _by_reader(data: _Kept, n_categories: int) -> tuple[Numbers, Numbers]:
    """Give what each patient adds to the area of each reader, (patient, reader), and the areas."""
    sums, areas = [], []
    for reader in range(int(data.readers.max()) + 1):
        own = data.readers == reader
        _, area, influence = _curve(data.scores[own], data.new[own], n_categories)
        sums.append(np.bincount(data.clusters[own], weights=influence, minlength=data.n_clusters))
        areas.append(area)
    return np.array(sums, dtype=np.float64).T, np.array(areas, dtype=np.float64)


def _fixed(sums: Numbers) -> tuple[float, float] | None:
    """Standard error and degrees of freedom over patients, of one distribution of all scores."""
    count = sums.shape[0]
    if count < 2:
        return None
    return math.sqrt(count / (count - 1) * float(np.sum(sums**2))), count - 1


def _random(sums: Numbers, areas: Numbers) -> tuple[float, float] | None:
    """Give them over readers and patients: a single treatment of Obuchowski and Rockette's model.

    The mean square of readers holds how they differ and what is theirs alone of the patients'
    variance; what they share of it (their covariance) does not shrink with more readers.
    """
    count, readers = sums.shape
    if count < 2 or readers < 2:
        return None
    covariance = count / (count - 1) * (sums.T @ sums)
    off = float(covariance.sum() - np.trace(covariance)) / (readers * (readers - 1))
    of_readers = float(areas.var(ddof=1))
    total = of_readers + readers * max(off, 0.0)
    df: float = count - 1
    if of_readers > ROUNDING**2:
        df = min(df, (total / of_readers) ** 2 * (readers - 1))
    return math.sqrt(total / readers), df


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
