"""Krippendorff's alpha: agreement of any number of readers on any scale of measurement.

One minus the disagreement seen over the disagreement expected, where disagreement is the mean
squared distance of two scores. On the interval and ordinal scales that distance is a squared
difference (of the values, or of their ranks), so that sums and sums of squares suffice; on the
nominal scale counts do. Nothing is ever as large as values by values.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.inference import ROUNDING, cluster_fields, cluster_sums, mean_se, t_interval
from halfscan_stats.ratings import (
    ArrayLike,
    Coded,
    Codes,
    Numbers,
    check_level,
    cluster_codes,
    coded,
    numbers,
    subject_by_reader,
)
from halfscan_stats.result import Agreement, Reason

__all__ = ["krippendorff_alpha"]

_METRICS = ("nominal", "ordinal", "interval", "ratio")
# Values compared at once on the ratio scale, whose distances have no sums.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Distances:
    """What alpha needs to know of the distances.

    Parameters
    ----------
    within : ndarray of float
        (unit,), sum over the ordered pairs of a unit's ratings.
    across : ndarray of float
        (unit,), sum over a unit's ratings of the mean distance to all ratings.
    overall : float
        Mean distance of two ratings of all, drawn with replacement.
    """

    within: Numbers
    across: Numbers
    overall: float


def krippendorff_alpha(
    ratings: ArrayLike,
    second: ArrayLike | None = None,
    *,
    metric: str = "nominal",
    categories: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> Agreement:
    """Krippendorff's alpha [1]_, with the interval of Gwet's linearised variance [2]_.

    Parameters
    ----------
    ratings : array_like
        (unit, reader), or (unit,) with `second`. None and NaN are missing: units with two or
        more ratings are used.
    second : array_like, optional
        (unit,), the second of two readers.
    metric : {"nominal", "ordinal", "interval", "ratio"}
        Distance of two scores: 1 unless equal; the number of ratings from one to the other; the
        difference of the values; the difference over the sum (values of at least 0).
    categories : sequence, optional
        The declared scale in its order. Needed for the ordinal metric of text; the answer does
        not depend on unused categories.
    level : float
        Confidence level.
    cluster : array_like, optional
        (unit,), the patient of each; adds the cluster-robust interval.

    Returns
    -------
    Agreement
        `weights` names the metric; observed and expected agreement are there for the nominal one.
        The interval is from Student's t with n - 1 degrees of freedom, clipped at 1. Undefined
        answers: ``no_variation`` (None, where R's irr says 1), ``perfect_agreement`` (1, no
        interval), ``too_few`` (None, below 2 units with two ratings).

    Raises
    ------
    StatsError
        On an unknown metric, ratings outside the scale, text where the metric needs numbers, or
        negative values on the ratio scale.

    References
    ----------
    .. [1] Krippendorff K. Content analysis: an introduction to its methodology. 3rd ed. Los
       Angeles: Sage; 2013. ISBN 978-1-4129-8315-0. Chapter 12.
    .. [2] Gwet KL. Handbook of inter-rater reliability. 4th ed. Gaithersburg: Advanced Analytics;
       2014. ISBN 978-0-9708062-8-4
    """
    if metric not in _METRICS:
        raise StatsError(f"metric must be one of {', '.join(_METRICS)}, got {metric!r}")
    level = check_level(level)
    array = subject_by_reader(ratings, second)
    values, found = _values(array, metric, categories)
    kept = np.asarray((found.codes >= 0).sum(axis=1) >= 2)
    fields: dict[str, Any] = {
        "method": f"Krippendorff's alpha, {metric} metric; variance of Gwet 2014",
        "n": int(kept.sum()),
        "n_given": kept.size,
        "weights": metric,
        "categories": found.scale,
        "n_readers": array.shape[1],
    }
    clusters: Codes | None = None
    if cluster is not None:
        clusters, fields["n_clusters"] = cluster_codes(cluster, kept)
    return Agreement(**fields | _answer(values, found.codes[kept], metric, level, clusters))


def _answer(
    values: Numbers, codes: Codes, metric: str, level: float, clusters: Codes | None
) -> dict[str, Any]:
    """What the units with two or more ratings say."""
    given = codes >= 0
    reason = _reason(codes, given)
    fields: dict[str, Any] = {
        "reason": reason,
        "cluster_reason": None if clusters is None else reason,
    }
    if len(codes) == 0:
        return fields
    nominal = _nominal(codes, given)
    fields["raw_agreement"] = _raw_agreement(nominal.within, given)
    if reason in (Reason.NO_VARIATION, Reason.TOO_FEW):
        return fields
    distances = nominal if metric == "nominal" else _distances(values, codes, given, metric)
    value, influence, seen = _alpha(distances, given)
    if metric == "nominal":
        fields |= {"observed_agreement": 1 - seen, "expected_agreement": 1 - distances.overall}
    if reason is Reason.PERFECT_AGREEMENT:
        return fields | {"value": 1.0, "se": 0.0}
    return fields | {"value": value} | _spread(value, influence, level, clusters)


def _values(
    array: npt.NDArray[Any],
    metric: str,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None,
) -> tuple[Numbers, Coded]:
    """The value of each position on the scale, and the ratings as positions on it."""
    if categories is None and array.dtype.kind == "O" and not _has_text(array):
        array = numbers(array, "ratings")
    if categories is None and array.dtype.kind in "biuf":
        # Measurements too: any number of values, in ascending order.
        values, codes = np.unique(numbers(array, "ratings"), return_inverse=True)
        missing = np.isnan(values)
        codes = np.where(missing[codes], -1, codes).reshape(array.shape)
        found = Coded(codes.astype(np.intp), (), declared=False)
        return _checked(values[~missing], metric), found
    needs = "alpha with the ordinal metric of text" if metric == "ordinal" else None
    found = coded(array, categories, needs_scale=needs)
    if metric in ("interval", "ratio"):
        return _checked(numbers(found.categories, "categories"), metric), found
    return np.arange(len(found.categories), dtype=np.float64), found


def _has_text(array: npt.NDArray[Any]) -> bool:
    return any(isinstance(value, str) for value in array.ravel())


def _checked(values: Numbers, metric: str) -> Numbers:
    if metric == "ratio" and (values < 0).any():
        raise StatsError(f"the ratio metric needs values of at least 0, got {values.min().item()}")
    return values


def _reason(codes: Codes, given: npt.NDArray[np.bool_]) -> Reason | None:
    if len(codes) == 0:
        return Reason.TOO_FEW
    used = codes[given]
    if (used == used[0]).all():
        return Reason.NO_VARIATION
    if len(codes) < 2:
        return Reason.TOO_FEW
    largest = codes.max(axis=1)
    smallest = np.where(given, codes, largest[:, None]).min(axis=1)
    return Reason.PERFECT_AGREEMENT if (largest == smallest).all() else None


def _alpha(distances: _Distances, given: npt.NDArray[np.bool_]) -> tuple[float, Numbers, float]:
    """Alpha, what each unit adds to it, and the disagreement seen.

    With r ratings of a unit, their mean number r', and D the mean distance of all:
    alpha = 1 - (1 - e) Do / D with Do = mean(within / (r' (r - 1))) and e = 1 / sum(r).
    """
    each = given.sum(axis=1).astype(np.float64)
    mean = float(each.mean())
    of_unit = distances.within / (mean * (each - 1))
    seen = float(of_unit.mean())
    corrected = (1 - 1 / float(each.sum())) * seen
    ratio, share = seen / distances.overall, each / mean
    # The first term vanishes where every unit has as many ratings.
    influence = (corrected * (share - 1) - of_unit) / distances.overall + ratio
    influence -= 2 * ratio * (share - distances.across / (mean * distances.overall))
    return 1 - corrected / distances.overall, influence, corrected


def _spread(
    value: float, influence: Numbers, level: float, clusters: Codes | None
) -> dict[str, Any]:
    """Standard error and interval, without and with clusters."""
    n, se = influence.size, mean_se(influence)
    fields: dict[str, Any] = {"se": se, "interval": t_interval(value, se, n - 1, level)}
    if se * math.sqrt(n) <= ROUNDING:
        fields = {"se": 0.0, "reason": Reason.ZERO_VARIANCE}
    if clusters is not None:
        sums = cluster_sums(influence, clusters, int(clusters.max()) + 1)
        fields |= cluster_fields(value, sums, n, fields["se"], level, normal=False)
    return fields


def _raw_agreement(within: Numbers, given: npt.NDArray[np.bool_]) -> float:
    """Share of identical pairs, mean over the units."""
    each = given.sum(axis=1)
    return 1 - float((within / (each * (each - 1))).mean())


def _distances(
    values: Numbers, codes: Codes, given: npt.NDArray[np.bool_], metric: str
) -> _Distances:
    counts = np.bincount(codes[given], minlength=values.size)
    values = _scaled(np.where(counts > 0, values, 0.0))
    if metric == "ratio":
        return _ratio(values, codes, given)
    # The ordinal distance counts the ratings from one category to the other, half of those at
    # the ends: the difference of their mean ranks.
    scores = np.cumsum(counts) - counts / 2 if metric == "ordinal" else values
    centred = scores - float(scores @ counts) / int(counts.sum())
    ratings = np.where(given, centred[codes], 0.0)
    each, squares = given.sum(axis=1), (ratings**2).sum(axis=1)
    variance = float(centred**2 @ counts) / int(counts.sum())
    return _Distances(
        within=2 * np.maximum(each * squares - ratings.sum(axis=1) ** 2, 0.0),
        across=squares + each * variance,
        overall=2 * variance,
    )


def _scaled(values: Numbers) -> Numbers:
    """Values over a power of two: alpha stays the same, and no square over- or underflows."""
    return np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]))


def _nominal(codes: Codes, given: npt.NDArray[np.bool_]) -> _Distances:
    """Sort each unit's ratings: a run of m equal ones makes m^2 equal ordered pairs."""
    size = int(codes.max()) + 1
    shares = np.bincount(codes[given], minlength=size) / int(given.sum())
    each = given.sum(axis=1)
    units = np.broadcast_to(np.arange(len(codes))[:, None], codes.shape)[given]
    cells, runs = np.unique(units * size + codes[given], return_counts=True)
    equal = np.bincount(cells // size, weights=runs.astype(np.float64) ** 2, minlength=len(codes))
    across = np.where(given, 1 - shares[codes], 0.0).sum(axis=1)
    return _Distances(
        within=np.asarray(each**2 - equal, dtype=np.float64),
        across=across,
        overall=1 - float(shares @ shares),
    )


def _ratio(values: Numbers, codes: Codes, given: npt.NDArray[np.bool_]) -> _Distances:
    """Every pair of readers, and every value against all values, a block at a time."""
    within = np.zeros(len(codes))
    for first in range(codes.shape[1]):
        for second in range(first):
            both = given[:, first] & given[:, second]
            pair = values[codes[both, first]], values[codes[both, second]]
            within[both] += 2 * _ratio_distance(*pair)
    counts = np.bincount(codes[given], minlength=values.size)
    shares = counts / int(counts.sum())
    mean_distance = np.empty(values.size)
    step = max(1, _BLOCK // values.size)
    for start in range(0, values.size, step):
        block = values[start : start + step, None]
        mean_distance[start : start + step] = _ratio_distance(block, values[None, :]) @ shares
    across = np.where(given, mean_distance[codes], 0.0).sum(axis=1)
    return _Distances(within, across, float(mean_distance @ shares))


def _ratio_distance(a: Numbers, b: Numbers) -> Numbers:
    total = a + b
    return ((a - b) / np.where(total == 0, 1.0, total)) ** 2
