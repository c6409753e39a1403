"""Laplace's approximation of the likelihood of a cumulative logit mixed model, with its slope.

Random intercepts of clusters and of readers are crossed. With b the standardised random effects at
their mode and H the curvature of the joint density there, the log likelihood is the joint log
density at b less log|H| / 2 (Tierney & Kadane 1986, J Am Stat Assoc 81:82-86). Its slope follows
from that of the joint density, of log|H|, and of the mode, which moves with the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from halfscan_stats.ratings import Codes, Numbers

__all__ = ["OrdinalObservations", "laplace_likelihood"]

_LOWEST = -1e10  # of a point outside of the range: no infinity meets the optimiser


@dataclass(slots=True)
class OrdinalObservations:
    """Complete observations; `modes` are the random effects of the last point, a warm start.

    Parameters
    ----------
    scores : ndarray of int
        (observation,), category of each, 0 to `n_categories` - 1, every one of them there.
    design : ndarray of float
        (observation, effect), fixed effects.
    clusters, readers : ndarray of int
        (observation,), 0 to `n_clusters` - 1 and to `n_readers` - 1.
    n_categories, n_clusters, n_readers : int
    """

    scores: Codes
    design: Numbers
    clusters: Codes
    readers: Codes
    n_categories: int
    n_clusters: int
    n_readers: int
    cells: Codes = field(init=False)
    modes: Numbers = field(init=False)

    def __post_init__(self) -> None:
        """Number the cells of cluster and reader."""
        self.cells = self.clusters * self.n_readers + self.readers
        self.modes = np.zeros(self.n_clusters + self.n_readers)

    def by_effect(self, values: Numbers) -> Numbers:
        """Sum values of observations by cluster, and by reader: (cluster + reader,)."""
        return np.concatenate(
            [
                np.bincount(self.clusters, weights=values, minlength=self.n_clusters),
                np.bincount(self.readers, weights=values, minlength=self.n_readers),
            ]
        )


def laplace_likelihood(
    data: OrdinalObservations, raw: Numbers, sds: tuple[float, float]
) -> tuple[float, Numbers]:
    """Log likelihood and its slope.

    Parameters
    ----------
    data : OrdinalObservations
        Its `modes` are moved to those of this point.
    raw : ndarray of float
        Thresholds, rising, then fixed effects.
    sds : (float, float)
        Standard deviations of clusters and readers.

    Returns
    -------
    float, ndarray of float
        The slope by `raw`, then by the logarithms of both standard deviations.
    """
    first = data.n_categories - 1
    cuts = np.concatenate([[-np.inf], raw[:first], [np.inf]])
    if not (np.diff(cuts) > 0).all():
        return _LOWEST, np.zeros(raw.size + 2)
    fixed = data.design @ raw[first:]
    scale = np.repeat(sds, [data.n_clusters, data.n_readers])
    modes, curve = _mode(data, cuts, fixed, scale)
    data.modes = modes
    curvature = _Curvature(data, sds, curve.weight)
    value = curve.height - curvature.log_determinant / 2
    return value, _slope(data, sds, modes, curve, curvature)


@dataclass(frozen=True, slots=True)
class _Curve:
    """The joint density at a point; slope and weight (curvature) by the linear predictor.

    `upper` and `lower` are the logistic distribution at both ends of each category.
    """

    height: float
    upper: Numbers
    lower: Numbers
    share: Numbers
    slope: Numbers
    bend: Numbers

    @property
    def weight(self) -> Numbers:
        """Minus the second derivative, never below 0."""
        return np.maximum(self.slope**2 - self.bend, 0.0)


def _curve(
    data: OrdinalObservations, cuts: Numbers, fixed: Numbers, scale: Numbers, modes: Numbers
) -> _Curve:
    moved = scale * modes
    predictor = fixed + moved[data.clusters] + moved[data.n_clusters + data.readers]
    upper = special.expit(cuts[data.scores + 1] - predictor)
    lower = special.expit(cuts[data.scores] - predictor)
    share = np.maximum(upper - lower, 1e-300)
    dense_upper, dense_lower = upper * (1 - upper), lower * (1 - lower)
    return _Curve(
        height=float(np.log(share).sum() - modes @ modes / 2),
        upper=upper,
        lower=lower,
        share=share,
        slope=(dense_lower - dense_upper) / share,
        bend=(dense_upper * (1 - 2 * upper) - dense_lower * (1 - 2 * lower)) / share,
    )


def _mode(
    data: OrdinalObservations, cuts: Numbers, fixed: Numbers, scale: Numbers
) -> tuple[Numbers, _Curve]:
    """Find the random effects at which the joint density is highest, by Newton's steps."""
    modes = data.modes
    curve = _curve(data, cuts, fixed, scale, modes)
    sds = float(scale[0]), float(scale[-1])
    for _ in range(50):
        gradient = scale * data.by_effect(curve.slope) - modes
        step = _Curvature(data, sds, curve.weight).solve(gradient)
        shrink = 1.0
        while True:
            tried = modes + shrink * step
            ahead = _curve(data, cuts, fixed, scale, tried)
            if ahead.height >= curve.height - 1e-12 or shrink < 1e-4:
                break
            shrink /= 2
        modes, curve = tried, ahead
        if float(np.abs(step).max()) < 1e-6:  # the next step would be its square
            break
    return modes, curve


class _Curvature:
    """H, by blocks: a cluster touches readers alone, and no other cluster."""

    def __init__(
        self, data: OrdinalObservations, sds: tuple[float, float], weight: Numbers
    ) -> None:
        shape = data.n_clusters, data.n_readers
        cells = np.bincount(data.cells, weights=weight, minlength=shape[0] * shape[1])
        shared = cells.reshape(shape)
        self._own = 1 + sds[0] ** 2 * shared.sum(axis=1)
        self._scaled = sds[0] * sds[1] * shared / self._own[:, np.newaxis]
        left = np.diag(1 + sds[1] ** 2 * shared.sum(axis=0))
        left -= self._scaled.T @ (self._own[:, np.newaxis] * self._scaled)
        self._of_readers = np.linalg.inv(left)
        self._count = shape[0]
        self.log_determinant = float(np.log(self._own).sum() + np.linalg.slogdet(left)[1])

    def solve(self, right: Numbers) -> Numbers:
        """H^-1 times a vector (cluster + reader,)."""
        clusters, readers = right[: self._count], right[self._count :]
        of_readers = self._of_readers @ (readers - self._scaled.T @ clusters)
        return np.concatenate([clusters / self._own - self._scaled @ of_readers, of_readers])

    def blocks(self) -> tuple[Numbers, Numbers, Numbers]:
        """H^-1 of clusters (its diagonal), of cluster and reader, of readers (its diagonal)."""
        mixed = self._scaled @ self._of_readers
        clusters = 1 / self._own + (mixed * self._scaled).sum(axis=1)
        return clusters, -mixed, np.diag(self._of_readers)


def _slope(
    data: OrdinalObservations,
    sds: tuple[float, float],
    modes: Numbers,
    curve: _Curve,
    curvature: _Curvature,
) -> Numbers:
    """Slope of the log likelihood, at the mode."""
    own, mixed, of_readers = curvature.blocks()
    clusters, readers = data.clusters, data.readers
    half = sds[0] * sds[1] * mixed.ravel()[data.cells]
    # Variance of the predictor at the mode, by its part of the cluster and of the reader.
    parts = sds[0] ** 2 * own[clusters] + half, half + sds[1] ** 2 * of_readers[readers]
    variance = parts[0] + parts[1]
    turns = _turns(curve)
    pulled = data.by_effect(turns.weight_by_predictor * variance)
    scale = np.repeat(sds, [data.n_clusters, data.n_readers])
    carried = curvature.solve(scale * pulled)
    moved = scale * carried
    shift = moved[clusters] + moved[data.n_clusters + readers]
    weight = curve.weight
    of_predictor = curve.slope - (variance * turns.weight_by_predictor - shift * weight) / 2
    ends = [
        by_end - (variance * weight_by_end + shift * slope_by_end) / 2
        for by_end, slope_by_end, weight_by_end in (turns.upper, turns.lower)
    ]
    size = data.n_categories + 1
    cuts = np.bincount(data.scores + 1, weights=ends[0], minlength=size)
    cuts += np.bincount(data.scores, weights=ends[1], minlength=size)
    effects = scale * modes
    pulls = scale * data.by_effect(curve.slope)
    spreads = [
        float(effect @ of_predictor - weight @ part - taken @ pull / 2)
        for effect, part, taken, pull in (
            (
                effects[clusters],
                parts[0],
                carried[: data.n_clusters],
                pulls[: data.n_clusters],
            ),
            (
                effects[data.n_clusters + readers],
                parts[1],
                carried[data.n_clusters :],
                pulls[data.n_clusters :],
            ),
        )
    ]
    return np.concatenate([cuts[1:-1], of_predictor @ data.design, spreads])


@dataclass(frozen=True, slots=True)
class _Turns:
    """How log density, slope and weight of an observation turn with what they depend on.

    Of either end of the category: the log density, its slope by the predictor, and the weight.
    """

    weight_by_predictor: Numbers
    upper: tuple[Numbers, Numbers, Numbers]
    lower: tuple[Numbers, Numbers, Numbers]


def _turns(curve: _Curve) -> _Turns:
    slope, bend, share = curve.slope, curve.bend, curve.share
    ends: list[Any] = []
    thirds = []
    for sign, end in ((1, curve.upper), (-1, curve.lower)):
        dense = end * (1 - end)
        second = dense * (1 - 2 * end)
        third = dense * (1 - 6 * end + 6 * end**2)
        by_end = sign * dense / share
        slope_by_end = -sign * second / share - slope * by_end
        weight_by_end = 2 * slope * slope_by_end - (sign * third / share - bend * by_end)
        ends.append((by_end, slope_by_end, weight_by_end))
        thirds.append(third)
    by_predictor = -2 * slope * curve.weight + (thirds[0] - thirds[1]) / share + bend * slope
    return _Turns(by_predictor, ends[0], ends[1])
