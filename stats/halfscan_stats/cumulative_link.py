"""The likelihood of a cumulative logit model with patients and readers as random, and its top.

Laplace's approximation: the random effects are integrated out around their mode. Its gradient is
exact, through the mode and the curvature there, so that the fit ends where the likelihood is
level to eight digits, and takes little time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize, special

from halfscan_stats.ratings import Codes, Numbers

__all__ = ["CumulativeLinkData", "CumulativeLinkFit", "fit_cumulative_link", "laplace_likelihood"]

_STEP = 1e-4  # of the differences of the gradient, in units of the parameters (log odds)
_LEAST_SD = 1e-3  # below it a random effect has no spread: it is at the end of its range
_START_SD = 0.6
_LEVEL = 1e-6  # a gradient below, in log likelihood by log odds, is that of the top
_LEAST_SHARE = 1e-300


@dataclass(slots=True)
class CumulativeLinkData:
    """Complete observations; `modes` are the random effects of the last point, a warm start.

    Parameters
    ----------
    scores : ndarray of int
        (observation,), 0 to categories - 1, each of which occurs.
    design : ndarray of float
        (observation, effect), without an intercept.
    clusters, readers : ndarray of int
        (observation,), patient and reader of each.
    n_categories, n_clusters, n_readers : int
        How many there are. With one reader there is no random effect of readers.
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
        """Number the cells of patient and reader, and start at no random effect."""
        self.cells = self.clusters * self.n_readers + self.readers
        self.modes = np.zeros(self.n_clusters + self.n_readers)


@dataclass(frozen=True, slots=True)
class CumulativeLinkFit:
    """The top of the likelihood.

    Parameters
    ----------
    raw, se : ndarray of float
        Thresholds, then effects, and their standard errors.
    sds : tuple of float
        Standard deviations of patients and readers; 0 at the end of the range.
    log_likelihood : float
        At the top.
    converged : bool
        Whether the likelihood is level there, and falls to every side.
    """

    raw: Numbers
    se: Numbers
    sds: tuple[float, float]
    log_likelihood: float
    converged: bool


# --- the likelihood -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Terms:
    """Each observation's log share F(a, b) = log(expit(a) - expit(b)), and its derivatives."""

    height: float  # joint log density: sum of F, minus half the squares of the random effects
    a: Numbers  # slopes by the upper and the lower cut
    b: Numbers
    aa: Numbers
    ab: Numbers
    bb: Numbers
    upper: Numbers
    lower: Numbers
    share: Numbers

    @property
    def slope(self) -> Numbers:
        """By the linear predictor, which is taken from both cuts."""
        return -(self.a + self.b)

    @property
    def weight(self) -> Numbers:
        """Curvature by the linear predictor; the logistic density is log-concave."""
        return np.maximum(-(self.aa + 2 * self.ab + self.bb), 0.0)

    def weight_slopes(self) -> tuple[Numbers, Numbers]:
        """Slopes of the weight by the upper and the lower cut."""
        f, g, p = _density(self.upper), _density(self.lower), self.share
        f1, g1 = f * (1 - 2 * self.upper), g * (1 - 2 * self.lower)
        f2, g2 = f * (1 - 6 * f), g * (1 - 6 * g)
        aaa = f2 / p - 3 * f * f1 / p**2 + 2 * (f / p) ** 3
        aab = g * f1 / p**2 - 2 * f * f * g / p**3
        abb = f * g1 / p**2 + 2 * f * g * g / p**3
        bbb = -g2 / p - 3 * g * g1 / p**2 - 2 * (g / p) ** 3
        return -(aaa + 2 * aab + abb), -(aab + 2 * abb + bbb)


def _density(share: Numbers) -> Numbers:
    return share * (1 - share)


def _terms(
    data: CumulativeLinkData, cuts: Numbers, fixed: Numbers, spread: Numbers, modes: Numbers
) -> _Terms:
    predictor = (
        fixed + spread[0] * modes[data.clusters] + spread[1] * modes[data.n_clusters + data.readers]
    )
    a, b = cuts[data.scores + 1] - predictor, cuts[data.scores] - predictor
    upper, lower = special.expit(a), special.expit(b)
    # Far above 0 both are nearly 1: their complements keep the digits.
    share = np.where(b > 0, special.expit(-b) - special.expit(-a), upper - lower)
    p = np.maximum(share, _LEAST_SHARE)
    f, g = _density(upper), _density(lower)
    return _Terms(
        height=float(np.log(p).sum() - modes @ modes / 2),
        a=f / p,
        b=-g / p,
        aa=f * (1 - 2 * upper) / p - (f / p) ** 2,
        ab=f * g / p**2,
        bb=-g * (1 - 2 * lower) / p - (g / p) ** 2,
        upper=upper,
        lower=lower,
        share=p,
    )


@dataclass(frozen=True, slots=True)
class _Curvature:
    """Curvature of the joint log density by the random effects, and its inverse.

    Patients touch readers alone, and no other patient: they are eliminated first.
    """

    own: Numbers  # (patient,)
    scaled: Numbers  # (patient, reader), cross over own
    of_readers: Numbers  # (reader, reader), inverse of what is left of the readers
    log_determinant: float

    def solve(self, right: Numbers) -> Numbers:
        """Apply the inverse to a vector of patients, then readers."""
        patients = self.own.size
        readers = self.of_readers @ (right[patients:] - self.scaled.T @ right[:patients])
        return np.concatenate([right[:patients] / self.own - self.scaled @ readers, readers])

    def inverse(self) -> tuple[Numbers, Numbers, Numbers]:
        """Inverse: of patients with themselves, with readers, of readers with themselves."""
        across = -self.scaled @ self.of_readers
        patients = 1 / self.own - np.sum(across * self.scaled, axis=1)
        return patients, across, np.diag(self.of_readers)


def _curvature(data: CumulativeLinkData, spread: Numbers, weight: Numbers) -> _Curvature:
    size = data.n_clusters * data.n_readers
    shared = np.bincount(data.cells, weights=weight, minlength=size).reshape(-1, data.n_readers)
    own = 1 + spread[0] ** 2 * shared.sum(axis=1)
    cross = spread[0] * spread[1] * shared
    scaled = cross / own[:, np.newaxis]
    left = np.diag(1 + spread[1] ** 2 * shared.sum(axis=0)) - cross.T @ scaled
    log_determinant = float(np.log(own).sum() + np.linalg.slogdet(left)[1])
    return _Curvature(own, scaled, np.linalg.inv(left), log_determinant)


def _by_effect(data: CumulativeLinkData, values: Numbers) -> tuple[Numbers, Numbers]:
    """Sums of values of observations by patient, and by reader."""
    patients = np.bincount(data.clusters, weights=values, minlength=data.n_clusters)
    readers = np.bincount(data.readers, weights=values, minlength=data.n_readers)
    return patients.astype(np.float64), readers.astype(np.float64)


def _pull(data: CumulativeLinkData, spread: Numbers, values: Numbers) -> Numbers:
    patients, readers = _by_effect(data, values)
    return np.concatenate([spread[0] * patients, spread[1] * readers])


def _mode(data: CumulativeLinkData, cuts: Numbers, fixed: Numbers, spread: Numbers) -> _Terms:
    """Find the mode of the random effects by Newton's steps, halved where they lead down."""
    modes = data.modes.copy()
    terms = _terms(data, cuts, fixed, spread, modes)
    for _ in range(50):
        right = _pull(data, spread, terms.slope) - modes
        step = _curvature(data, spread, terms.weight).solve(right)
        shrink = 1.0
        while True:
            tried = _terms(data, cuts, fixed, spread, modes + shrink * step)
            if tried.height >= terms.height - 1e-12 or shrink < 1e-4:
                break
            shrink /= 2
        modes, terms = modes + shrink * step, tried
        if float(np.abs(step).max()) < 1e-6:  # the next step would be its square
            break
    data.modes = modes
    return terms


def laplace_likelihood(
    data: CumulativeLinkData, raw: Numbers, sds: Numbers
) -> tuple[float, Numbers]:
    """Laplace's approximation of the log likelihood, and its gradient.

    Parameters
    ----------
    data : CumulativeLinkData
        Its `modes` are moved.
    raw : ndarray of float
        Thresholds, rising, then effects.
    sds : ndarray of float
        (2,), of patients and readers; the likelihood is the same for either sign.

    Returns
    -------
    float
        Minus infinity where the thresholds do not rise.
    ndarray of float
        By thresholds, effects and both standard deviations.
    """
    first = data.n_categories - 1
    cuts = np.concatenate([[-np.inf], raw[:first], [np.inf]])
    if not (np.diff(cuts) > 0).all():
        return -math.inf, np.zeros(raw.size + 2)
    terms = _mode(data, cuts, data.design @ raw[first:], sds)
    curvature = _curvature(data, sds, terms.weight)
    return terms.height - curvature.log_determinant / 2, _gradient(data, sds, terms, curvature)


def _gradient(
    data: CumulativeLinkData, spread: Numbers, terms: _Terms, curvature: _Curvature
) -> Numbers:
    """Gradient of the height minus half the log determinant, both at the mode.

    The mode moves with the parameters: what that does to the determinant comes in by one solve.
    """
    patients, across, readers = curvature.inverse()
    own, both, of_reader = (
        patients[data.clusters],
        across.ravel()[data.cells],
        readers[data.readers],
    )
    leverage = spread[0] ** 2 * own + 2 * spread[0] * spread[1] * both + spread[1] ** 2 * of_reader
    by_upper, by_lower = terms.weight_slopes()
    moved = curvature.solve(_pull(data, spread, -leverage * (by_upper + by_lower)))
    of_patients, of_readers = moved[: data.n_clusters], moved[data.n_clusters :]
    shift = spread[0] * of_patients[data.clusters] + spread[1] * of_readers[data.readers]
    upper = terms.a - (leverage * by_upper - shift * (terms.aa + terms.ab)) / 2
    lower = terms.b - (leverage * by_lower - shift * (terms.ab + terms.bb)) / 2
    predictor = -(upper + lower)
    size = data.n_categories
    at_cuts = (
        np.bincount(data.scores, weights=upper, minlength=size)[:-1]
        + np.bincount(data.scores, weights=lower, minlength=size)[1:]
    )
    pulls, slopes = _by_effect(data, predictor), _by_effect(data, terms.slope)
    by_patients = pulls[0] @ data.modes[: data.n_clusters] - slopes[0] @ of_patients / 2
    by_readers = pulls[1] @ data.modes[data.n_clusters :] - slopes[1] @ of_readers / 2
    by_patients -= terms.weight @ (spread[0] * own + spread[1] * both)
    by_readers -= terms.weight @ (spread[0] * both + spread[1] * of_reader)
    return np.concatenate([at_cuts, predictor @ data.design, [by_patients, by_readers]])


# --- the fit ------------------------------------------------------------------------------------


def fit_cumulative_link(
    data: CumulativeLinkData, near: CumulativeLinkFit | None = None
) -> CumulativeLinkFit:
    """Maximise the likelihood.

    BFGS first, on the first threshold and the logs of the gaps, so that thresholds rise. Then
    Newton's steps on the thresholds themselves. Standard deviations have either sign on the way:
    the likelihood is even in them, and level at 0, where it may have its top.

    Parameters
    ----------
    data : CumulativeLinkData
    near : CumulativeLinkFit, optional
        Of the same observations with other effects: its thresholds and spreads are begun with.

    Returns
    -------
    CumulativeLinkFit
    """
    first, random = data.n_categories - 1, 1 + (data.n_readers > 1)
    counts = np.bincount(data.scores, minlength=first + 1)
    starts = special.logit(np.cumsum(counts)[:-1] / counts.sum())
    sds = np.full(random, _START_SD)
    if near is not None:
        starts, sds = near.raw[:first], np.maximum(near.sds[:random], _START_SD / 10)
    effects = np.zeros(data.design.shape[1])
    start = np.concatenate([starts[:1], np.log(np.diff(starts)), effects, sds])

    def unpacked(point: Numbers) -> Numbers:
        gaps = np.exp(np.minimum(point[1:first], 10.0))
        cuts = np.concatenate([point[:1], point[0] + np.cumsum(gaps)])
        return np.concatenate([cuts, point[first:]])

    def cost(point: Numbers) -> tuple[float, Numbers]:
        value, gradient = _cost(data, unpacked(point), random)
        above = np.cumsum(gradient[:first][::-1])[::-1]
        gaps = np.exp(np.minimum(point[1:first], 10.0))
        return value, np.concatenate([above[:1], above[1:] * gaps, gradient[first:]])

    found = optimize.minimize(cost, start, jac=True, method="BFGS", options={"gtol": 1e-5}).x
    return _polished(data, unpacked(found), random)


def _cost(data: CumulativeLinkData, point: Numbers, random: int) -> tuple[float, Numbers]:
    """Minus log likelihood and its gradient, at thresholds, effects and standard deviations."""
    sds = np.zeros(2)
    sds[:random] = point[-random:]
    value, gradient = laplace_likelihood(data, point[:-random], sds)
    return -value, -gradient[: point.size]


def _polished(data: CumulativeLinkData, point: Numbers, random: int) -> CumulativeLinkFit:
    """Take Newton's steps, since BFGS stops near the top; give what is there.

    The curvature of the first point leads there too; it is taken anew where the top is not near.
    """
    value, gradient = _cost(data, point, random)
    curvature = _hessian(data, point, random)
    for _ in range(8):
        if float(np.abs(gradient).max()) < _LEVEL / 100:
            break
        step: Any = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        lower, slope = _cost(data, point - step, random)
        if not lower <= value + 1e-9:
            break
        point, value, gradient = point - step, lower, slope
        if float(np.abs(step).max()) > _STEP:
            curvature = _hessian(data, point, random)
    ended = np.where(np.abs(point[-random:]) < _LEAST_SD, 0.0, point[-random:])
    point = np.concatenate([point[:-random], ended])
    value, gradient = _cost(data, point, random)
    variances = np.diag(np.linalg.pinv(curvature))[:-random]
    falls = bool((np.linalg.eigvalsh(curvature) > 0).all())
    sds = [*np.abs(ended).tolist(), 0.0]
    return CumulativeLinkFit(
        raw=point[:-random],
        se=np.sqrt(np.maximum(variances, 0.0)),
        sds=(float(sds[0]), float(sds[1])),
        log_likelihood=-value,
        converged=falls and float(np.abs(gradient).max()) < _LEVEL,
    )


def _hessian(data: CumulativeLinkData, point: Numbers, random: int) -> Numbers:
    """Curvature by differences of the gradient on either side."""
    rows = []
    for place in range(point.size):
        aside = np.zeros(point.size)
        aside[place] = _STEP
        ahead, back = (_cost(data, point + sign * aside, random)[1] for sign in (1, -1))
        rows.append((ahead - back) / (2 * _STEP))
    matrix = np.array(rows)
    return (matrix + matrix.T) / 2
