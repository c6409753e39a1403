"""Visual grading regression: ordinal logistic regression with patients and readers as random.

Scores of image quality are ordered categories without distances. A cumulative link mixed model
takes them as such: it says by which odds a score is higher with one protocol than with another,
for the same patient and reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from halfscan_stats.errors import StatsError
from halfscan_stats.inference import normal_quantile, two_sided_p
from halfscan_stats.mixed import Coefficient
from halfscan_stats.ratings import Codes, Numbers, check_level, cluster_codes, coded, numbers
from halfscan_stats.result import Interval, Reason, Result

__all__ = ["OrdinalMixedModel", "cumulative_link_mixed_model"]

METHOD = (
    "visual grading regression (Smedby & Fredrikson 2010): cumulative logit mixed model, "
    "Laplace approximation"
)
_STEP = 1e-4  # of the numerical derivatives, in units of the parameters (log odds)
_LEAST_SD = 1e-3  # below it a random effect has no spread: it is at the end of its range
_LARGE_SD = 0.2  # above it there is no doubt that it has one
_NEAR = 1e-4  # a curvature so near to the top is that of the top to five digits
_LARGEST = 20.0  # log odds, or its standard error, beyond which a group is told apart completely


@dataclass(frozen=True, slots=True)
class OrdinalMixedModel(Result):
    """A cumulative link mixed model.

    Parameters
    ----------
    method, n, n_given
        See `Result`; n counts complete observations.
    coefficients : tuple of Coefficient
        Fixed effects on the log odds of a higher category; empty where undefined.
    thresholds : tuple of float
        Between the categories that occur, rising.
    categories : tuple
        Those that occur, in the order of the scale.
    sd_cluster, sd_reader : float or None
        Standard deviations of the random intercepts; sd_reader None with a single reader.
    log_likelihood : float or None
        By Laplace's approximation.
    n_clusters, n_readers : int
        Patients and readers.
    reason : Reason or None
        Why there is no answer: ``no_variation`` (one category), ``too_few`` (clusters),
        ``singular`` (effects that cannot be told apart, or a group in which every score is above
        those of the other), ``no_convergence``.
    """

    coefficients: tuple[Coefficient, ...] = ()
    thresholds: tuple[float, ...] = ()
    categories: tuple[Any, ...] = ()
    sd_cluster: float | None = None
    sd_reader: float | None = None
    log_likelihood: float | None = None
    n_clusters: int = 0
    n_readers: int = 0
    reason: Reason | None = None

    def coefficient(self, name: str) -> Coefficient | None:
        """Give the fixed effect of that name, or None where the model has no answer."""
        return next((effect for effect in self.coefficients if effect.name == name), None)

    def odds_ratio(self, name: str) -> tuple[float, Interval] | None:
        """Give the odds ratio of a fixed effect with its Wald interval, or None."""
        effect = self.coefficient(name)
        if effect is None:
            return None
        low, high = math.exp(effect.interval.low), math.exp(effect.interval.high)
        return math.exp(effect.estimate), Interval(low, high, effect.interval.level)


def cumulative_link_mixed_model(
    ratings: npt.ArrayLike,
    effects: Mapping[str, npt.ArrayLike],
    *,
    cluster: npt.ArrayLike,
    reader: npt.ArrayLike | None = None,
    categories: Sequence[Any],
    level: float = 0.95,
) -> OrdinalMixedModel:
    """Fit logit P(score <= j) = threshold_j - (effects + patient + reader) [1]_, [2]_.

    Random intercepts of patients and, with two readers or more, of readers are normal and crossed.
    The likelihood is Laplace's approximation, as that of ``clmm`` in R's package ordinal [3]_.

    Parameters
    ----------
    ratings : array_like
        (observation,), scores; None and NaN are missing.
    effects : mapping of str to array_like
        Fixed effects, (observation,) each: numbers, such as 0 and 1 for the protocol.
    cluster : array_like
        (observation,), the patient of each.
    reader : array_like, optional
        (observation,), the reader of each.
    categories : sequence
        The scale in its order. Categories that do not occur are left out.
    level : float
        Confidence level of the Wald intervals.

    Returns
    -------
    OrdinalMixedModel

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Smedby O, Fredrikson M (2010). Visual grading regression. Br J Radiol 83:767-775.
    .. [2] Agresti A (2010). Analysis of Ordinal Categorical Data, 2nd ed., ch. 10.
    .. [3] Christensen RHB (2019). ordinal: regression models for ordinal data. R package.
    """
    check_level(level)
    data = _prepared(ratings, effects, cluster, reader, categories)
    common: dict[str, Any] = {
        "categories": data.categories,
        "n_clusters": data.n_clusters,
        "n_readers": data.n_readers,
    }
    reason = _without_answer(data)
    if reason is None:
        fit = _fitted(data)
        reason = _failed(fit)
    if reason is not None:
        return OrdinalMixedModel(METHOD, data.scores.size, data.n_given, reason=reason, **common)
    names = tuple(effects)
    first = len(data.categories) - 1
    reach = normal_quantile((1 + level) / 2)
    return OrdinalMixedModel(
        METHOD,
        data.scores.size,
        data.n_given,
        coefficients=tuple(
            _coefficient(name, fit.raw[first + place], fit.se[first + place], reach, level)
            for place, name in enumerate(names)
        ),
        thresholds=tuple(float(value) for value in fit.raw[:first]),
        sd_cluster=fit.sds[0],
        sd_reader=fit.sds[1] if data.n_readers > 1 else None,
        log_likelihood=fit.log_likelihood,
        **common,
    )


def _coefficient(name: str, estimate: float, se: float, reach: float, level: float) -> Coefficient:
    interval = Interval(estimate - reach * se, estimate + reach * se, level)
    return Coefficient(
        name, float(estimate), float(se), float(estimate / se), two_sided_p(estimate / se), interval
    )


# --- the data -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Data:
    """Complete observations; `modes` are the random effects of the last point, a warm start."""

    scores: Codes
    design: Numbers
    clusters: Codes
    readers: Codes
    n_clusters: int
    n_readers: int
    n_given: int
    categories: tuple[Any, ...]
    cells: Codes = field(init=False)
    modes: Numbers = field(init=False)

    def __post_init__(self) -> None:
        self.cells = self.clusters * self.n_readers + self.readers
        self.modes = np.zeros(self.n_clusters + self.n_readers)


def _prepared(
    ratings: npt.ArrayLike,
    effects: Mapping[str, npt.ArrayLike],
    cluster: npt.ArrayLike,
    reader: npt.ArrayLike | None,
    categories: Sequence[Any],
) -> _Data:
    given = coded(np.asarray(ratings, dtype=object), categories)
    if given.codes.ndim != 1:
        raise StatsError(f"ratings must be one vector, got shape {given.codes.shape}")
    if not effects:
        raise StatsError("effects must name at least one fixed effect")
    kept = given.codes >= 0
    columns = []
    for name, values in effects.items():
        column = numbers(values)
        if column.shape != given.codes.shape:
            raise StatsError(
                f"effect {name!r} must have one value an observation, got shape {column.shape}"
            )
        columns.append(column)
        kept &= ~np.isnan(column)
    clusters, n_clusters = cluster_codes(cluster, kept)
    readers, n_readers = np.zeros(int(kept.sum()), dtype=np.intp), 1
    if reader is not None:
        readers, n_readers = cluster_codes(reader, kept)
    seen, scores = np.unique(given.codes[kept], return_inverse=True)
    return _Data(
        scores=scores.astype(np.intp),
        design=np.column_stack([column[kept] for column in columns]),
        clusters=clusters,
        readers=readers,
        n_clusters=n_clusters,
        n_readers=n_readers,
        n_given=given.codes.size,
        categories=tuple(given.categories[place] for place in seen),
    )


def _without_answer(data: _Data) -> Reason | None:
    if data.scores.size == 0 or data.n_clusters < 2:
        return Reason.TOO_FEW
    if len(data.categories) < 2:
        return Reason.NO_VARIATION
    full = np.column_stack([np.ones(data.scores.size), data.design])
    if np.linalg.matrix_rank(full) < full.shape[1]:
        return Reason.SINGULAR
    return None


# --- the likelihood -----------------------------------------------------------------------------


def _log_likelihood(data: _Data, raw: Numbers, sds: tuple[float, float]) -> float:
    """Laplace's approximation, at thresholds and effects `raw` and these standard deviations."""
    first = len(data.categories) - 1
    cuts = np.concatenate([[-np.inf], raw[:first], [np.inf]])
    if not (np.diff(cuts) > 0).all():
        return -math.inf
    fixed = data.design @ raw[first:]
    spread = np.array(sds)
    modes = data.modes.copy()
    height, slope, weight = _curve(data, cuts, fixed, spread, modes)
    for _ in range(50):
        step, _ = _newton(data, spread, modes, slope, weight)
        shrink = 1.0
        while True:
            tried = modes + shrink * step
            found = _curve(data, cuts, fixed, spread, tried)
            if found[0] >= height - 1e-12 or shrink < 1e-4:
                break
            shrink /= 2
        modes, (height, slope, weight) = tried, found
        if float(np.abs(step).max()) < 1e-6:  # the next step would be its square
            break
    data.modes = modes
    _, log_determinant = _newton(data, spread, modes, slope, weight)
    return height - log_determinant / 2


def _curve(
    data: _Data, cuts: Numbers, fixed: Numbers, spread: Numbers, modes: Numbers
) -> tuple[float, Numbers, Numbers]:
    """Joint log density at the random effects, its slope and curvature by linear predictor."""
    predictor = (
        fixed + spread[0] * modes[data.clusters] + spread[1] * modes[data.n_clusters + data.readers]
    )
    upper = special.expit(cuts[data.scores + 1] - predictor)
    lower = special.expit(cuts[data.scores] - predictor)
    share = np.maximum(upper - lower, 1e-300)
    dense_upper, dense_lower = upper * (1 - upper), lower * (1 - lower)
    slope = (dense_lower - dense_upper) / share
    bend = (dense_upper * (1 - 2 * upper) - dense_lower * (1 - 2 * lower)) / share
    height = float(np.log(share).sum() - modes @ modes / 2)
    return height, slope, np.maximum(slope**2 - bend, 0.0)


def _newton(
    data: _Data, spread: Numbers, modes: Numbers, slope: Numbers, weight: Numbers
) -> tuple[Numbers, float]:
    """Newton's step of the random effects, and the log determinant of the curvature.

    Patients touch readers alone, and no other patient: they are eliminated first.
    """
    patients, readers = data.n_clusters, data.n_readers
    cells = np.bincount(data.cells, weights=weight, minlength=patients * readers)
    shared = cells.reshape(patients, readers)
    own = 1 + spread[0] ** 2 * shared.sum(axis=1)
    cross = spread[0] * spread[1] * shared
    of_readers = np.diag(1 + spread[1] ** 2 * shared.sum(axis=0))
    pull = np.concatenate(
        [
            spread[0] * np.bincount(data.clusters, weights=slope, minlength=patients),
            spread[1] * np.bincount(data.readers, weights=slope, minlength=readers),
        ]
    )
    gradient = pull - modes
    scaled = cross / own[:, np.newaxis]
    left = of_readers - cross.T @ scaled
    right = gradient[patients:] - scaled.T @ gradient[:patients]
    step_readers = np.linalg.solve(left, right)
    step_patients = gradient[:patients] / own - scaled @ step_readers
    log_determinant = float(np.log(own).sum() + np.linalg.slogdet(left)[1])
    return np.concatenate([step_patients, step_readers]), log_determinant


# --- the fit ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fit:
    raw: Numbers
    se: Numbers
    sds: tuple[float, float]
    log_likelihood: float
    converged: bool


def _fitted(data: _Data) -> _Fit:
    """Maximise: thresholds by their first and the logs of their gaps, log standard deviations."""
    first = len(data.categories) - 1
    counts = np.bincount(data.scores, minlength=first + 1)
    starts = special.logit(np.cumsum(counts)[:-1] / counts.sum())
    random = 1 + (data.n_readers > 1)
    start = np.concatenate(
        [starts[:1], np.log(np.diff(starts)), np.zeros(data.design.shape[1]), np.full(random, -0.5)]
    )

    def unpacked(point: Numbers) -> tuple[Numbers, tuple[float, float]]:
        cuts = np.concatenate([point[:1], point[0] + np.cumsum(np.exp(point[1:first]))])
        sds = np.exp(np.clip(point[len(point) - random :], -12, 5))
        both = float(sds[0]), float(sds[1]) if random > 1 else 0.0
        return np.concatenate([cuts, point[first : len(point) - random]]), both

    def cost(point: Numbers) -> float:
        return -_log_likelihood(data, *unpacked(point))

    point = optimize.minimize(cost, start, method="BFGS", options={"gtol": 5e-5, "eps": 1e-6}).x
    raw, sds = unpacked(point)
    # A likelihood that is no lower without a random effect has its top at the end of the range.
    top = -_log_likelihood(data, raw, sds)
    free = [
        place
        for place, sd in enumerate(sds[:random])
        if sd > _LARGE_SD
        or (sd > _LEAST_SD and -_log_likelihood(data, raw, _without(sds, place)) > top)
    ]

    def near(values: Numbers) -> float:
        """Cost by raw thresholds and effects and the log of those SDs that are not 0."""
        spread = [0.0, 0.0]
        for place, value in zip(free, values[raw.size :], strict=True):
            spread[place] = math.exp(value)
        return -_log_likelihood(data, values[: raw.size], (spread[0], spread[1]))

    best = np.concatenate([raw, [math.log(sds[place]) for place in free]])
    best, curvature = _polished(near, best)
    variances = np.diag(np.linalg.pinv(curvature))[: raw.size]
    ended = [0.0, 0.0]
    for place, value in zip(free, best[raw.size :], strict=True):
        ended[place] = math.exp(value)
    gradient = float(np.abs(_gradient(near, best)).max())
    return _Fit(
        raw=best[: raw.size],
        se=np.sqrt(np.maximum(variances, 0.0)),
        sds=(ended[0], ended[1]),
        log_likelihood=-near(best),
        converged=gradient < 1e-3 and bool((variances > 0).all()),
    )


def _without(sds: tuple[float, float], place: int) -> tuple[float, float]:
    return (0.0, sds[1]) if place == 0 else (sds[0], 0.0)


def _failed(fit: _Fit) -> Reason | None:
    largest = max(float(np.abs(fit.raw).max()), float(fit.se.max()))
    if largest > _LARGEST:
        return Reason.SINGULAR
    return None if fit.converged else Reason.NO_CONVERGENCE


def _gradient(function: Any, point: Numbers) -> Numbers:
    slopes = np.empty(point.size)
    for place in range(point.size):
        ahead, back = point.copy(), point.copy()
        ahead[place] += _STEP
        back[place] -= _STEP
        slopes[place] = (function(ahead) - function(back)) / (2 * _STEP)
    return slopes


def _polished(function: Any, point: Numbers) -> tuple[Numbers, Numbers]:
    """Take Newton's steps, since BFGS stops near the top; give the point and the curvature."""
    start, curvature = point, _hessian(function, point)
    for _ in range(6):
        try:
            step = np.linalg.solve(curvature, _gradient(function, point))
        except np.linalg.LinAlgError:
            break
        largest = float(np.abs(step).max())
        if largest > 0.5 or function(point - step) > function(point) + 1e-9:
            break
        point = point - step
        if largest < 1e-7:
            break
    if float(np.abs(point - start).max()) > _NEAR:
        curvature = _hessian(function, point)
    return point, curvature


def _hessian(function: Any, point: Numbers) -> Numbers:
    wide, size = 10 * _STEP, point.size
    matrix = np.empty((size, size))

    def at(row: int, column: int, ahead: int, aside: int) -> float:
        moved = point.copy()
        moved[row] += ahead * wide
        moved[column] += aside * wide
        return float(function(moved))

    for row in range(size):
        for column in range(row + 1):
            corners = at(row, column, 1, 1) + at(row, column, -1, -1)
            others = at(row, column, 1, -1) + at(row, column, -1, 1)
            matrix[row, column] = matrix[column, row] = (corners - others) / (4 * wide**2)
    return matrix
