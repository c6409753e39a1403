"""Visual grading regression: ordinal logistic regression with patients and readers as random.

Scores of image quality are ordered categories without distances. A cumulative link mixed model
takes them as such: it says by which odds a score is higher with one protocol than with another,
for the same patient and reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.cumulative_link import (
    CumulativeLinkData,
    CumulativeLinkFit,
    fit_cumulative_link,
)
from halfscan_stats.errors import StatsError
from halfscan_stats.mixed import Coefficient, wald_coefficients
from halfscan_stats.ratings import check_level, cluster_codes, coded, numbers
from halfscan_stats.result import Interval, Reason, Result

__all__ = ["OrdinalMixedModel", "cumulative_link_mixed_model"]

METHOD = (
    "visual grading regression (Smedby & Fredrikson 2010): cumulative logit mixed model, "
    "Laplace approximation"
)
_ROLES = {
    "random": ", patients and readers random",
    "fixed": ", patients random, readers fixed",
    "single": ", patients random, one reader",
}
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
        Standard deviations of the random intercepts; sd_reader None unless readers are random.
    log_likelihood : float or None
        By Laplace's approximation.
    n_clusters, n_readers : int
        Patients and readers.
    readers : {"random", "fixed", "single"}
        What the readers were: random, fixed effects ``reader 2``, ``reader 3``, ... against the
        first one in the order of their labels, or only one.
    reason : Reason or None
        Why there is no answer: ``no_variation`` (one category), ``too_few`` (clusters),
        ``singular`` (effects that cannot be told apart, or a group in which every score is above
        those of the other), ``no_convergence``.
    tested : str or None
        Effect whose likelihood ratio was asked for.
    lr_statistic, lr_p_value : float or None
        Twice what the log likelihood loses without that effect, and its p from chi-square with
        one degree of freedom.
    lr_reason : Reason or None
        Why they are None although one was asked for.
    """

    coefficients: tuple[Coefficient, ...] = ()
    thresholds: tuple[float, ...] = ()
    categories: tuple[Any, ...] = ()
    sd_cluster: float | None = None
    sd_reader: float | None = None
    log_likelihood: float | None = None
    n_clusters: int = 0
    n_readers: int = 0
    readers: str = "single"
    reason: Reason | None = None
    tested: str | None = None
    lr_statistic: float | None = None
    lr_p_value: float | None = None
    lr_reason: Reason | None = None

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
    readers: str = "random",
    tested: str | None = None,
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
    readers : {"random", "fixed"}
        Random: readers like these; fixed: these readers. Two or three readers say little of how
        readers differ: the standard deviation of a random effect is then a rough guess.
    tested : str, optional
        Fixed effect to be tested by its likelihood ratio too: the model is fitted without it.
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
    if readers not in {"random", "fixed"}:
        raise StatsError(f"readers must be random or fixed, got {readers!r}")
    if tested is not None and tested not in effects:
        raise StatsError(f"tested must be one of {', '.join(effects)}, got {tested!r}")
    given = _prepared(ratings, effects, cluster, reader, categories)
    role = readers if given.data.n_readers > 1 else "single"
    names, data = list(effects), given.data
    if role == "fixed":
        names += [f"reader {number}" for number in range(2, data.n_readers + 1)]
        data = _with_fixed_readers(data)
    answer = OrdinalMixedModel(
        METHOD + _ROLES[role],
        data.scores.size,
        given.n_given,
        categories=given.categories,
        n_clusters=data.n_clusters,
        n_readers=given.data.n_readers,
        readers=role,
        tested=tested,
    )
    reason = _without_answer(data)
    fit = None if reason is not None else fit_cumulative_link(data)
    reason = reason if fit is None else _failed(fit)
    if fit is None or reason is not None:
        return replace(answer, reason=reason, lr_reason=None if tested is None else reason)
    ratio = {} if tested is None else _likelihood_ratio(data, fit, names.index(tested))
    return replace(answer, **_figures(fit, names, role, level), **ratio)


def _figures(
    fit: CumulativeLinkFit, names: Sequence[str], role: str, level: float
) -> dict[str, Any]:
    """Give the fields that come from the fit."""
    first = fit.raw.size - len(names)
    return {
        "coefficients": wald_coefficients(names, fit.raw[first:], fit.se[first:], level),
        "thresholds": tuple(float(value) for value in fit.raw[:first]),
        "sd_cluster": fit.sds[0],
        "sd_reader": fit.sds[1] if role == "random" else None,
        "log_likelihood": fit.log_likelihood,
    }


def _likelihood_ratio(
    data: CumulativeLinkData, fit: CumulativeLinkFit, place: int
) -> dict[str, Any]:
    """Fit without one effect, and compare."""
    smaller = fit_cumulative_link(replace(data, design=np.delete(data.design, place, axis=1)), fit)
    reason = _failed(smaller)
    if reason is not None:
        return {"lr_reason": reason}
    statistic = max(2 * (fit.log_likelihood - smaller.log_likelihood), 0.0)
    return {"lr_statistic": statistic, "lr_p_value": float(special.chdtrc(1, statistic))}


# --- the data -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """Complete observations, how many there were, and the categories that occur."""

    data: CumulativeLinkData
    n_given: int
    categories: tuple[Any, ...]


def _prepared(
    ratings: npt.ArrayLike,
    effects: Mapping[str, npt.ArrayLike],
    cluster: npt.ArrayLike,
    reader: npt.ArrayLike | None,
    categories: Sequence[Any],
) -> _Given:
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
    data = CumulativeLinkData(
        scores=scores.astype(np.intp),
        design=np.column_stack([column[kept] for column in columns]),
        clusters=clusters,
        readers=readers,
        n_categories=seen.size,
        n_clusters=n_clusters,
        n_readers=n_readers,
    )
    return _Given(data, given.codes.size, tuple(given.categories[place] for place in seen))


def _with_fixed_readers(data: CumulativeLinkData) -> CumulativeLinkData:
    """Turn the readers from a random effect into columns of the design, the first one left out."""
    columns = data.readers[:, np.newaxis] == np.arange(1, data.n_readers)
    return replace(
        data,
        design=np.column_stack([data.design, columns.astype(float)]),
        readers=np.zeros_like(data.readers),
        n_readers=1,
    )


def _without_answer(data: CumulativeLinkData) -> Reason | None:
    if data.scores.size == 0 or data.n_clusters < 2:
        return Reason.TOO_FEW
    if data.n_categories < 2:
        return Reason.NO_VARIATION
    full = np.column_stack([np.ones(data.scores.size), data.design])
    if np.linalg.matrix_rank(full) < full.shape[1]:
        return Reason.SINGULAR
    return None


def _failed(fit: CumulativeLinkFit) -> Reason | None:
    largest = max(float(np.abs(fit.raw).max()), float(fit.se.max()), *fit.sds)
    if largest > _LARGEST:
        return Reason.SINGULAR
    return None if fit.converged else Reason.NO_CONVERGENCE
