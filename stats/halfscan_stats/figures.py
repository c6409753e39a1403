"""Figures of merit of readers (AUC, sensitivity, specificity) and their covariance.

All readers read the same cases with every treatment, so their figures move together when other
cases are drawn. The covariance is estimated from what each case adds to each figure.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.multireader_moments import success_counts
from halfscan_stats.ratings import Numbers, finite

__all__ = ["Figures", "covariance_matrix", "figures_of"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of merit, and what every case adds to them.

    Parameters
    ----------
    values : ndarray of float or None
        (treatment, reader); None without the cases that it needs.
    parts : tuple of ndarray of float
        (treatment * reader, case of a kind): for the AUC how a positive case fares against the
        negative ones, and a negative against the positive ones; for a share the calls themselves.
        The mean of each row is the figure.
    scores : tuple of ndarray of float
        (treatment * reader, positive case) and (treatment * reader, negative case).
    shape : tuple of int
        Treatments and readers.
    """

    values: Numbers | None
    parts: tuple[Numbers, ...]
    scores: tuple[Numbers, Numbers]
    shape: tuple[int, int]

    @property
    def n_positive(self) -> int:
        """Cases with the finding."""
        return int(self.scores[0].shape[1])

    @property
    def n_negative(self) -> int:
        """Cases without the finding."""
        return int(self.scores[1].shape[1])

    @property
    def n_treatments(self) -> int:
        """Treatments."""
        return self.shape[0]

    @property
    def n_readers(self) -> int:
        """Readers."""
        return self.shape[1]

    @property
    def is_auc(self) -> bool:
        """Whether positive and negative cases are compared."""
        return len(self.parts) == 2


def figures_of(
    scores: Numbers, positive: npt.NDArray[np.bool_], figure: str, threshold: float | None
) -> Figures:
    """Compute the figures of merit.

    Parameters
    ----------
    scores : ndarray of float
        (treatment, reader, case), complete.
    positive : ndarray of bool
        (case,), with the finding.
    figure : {"auc", "sensitivity", "specificity"}
        Figure of merit.
    threshold : float or None
        Ratings at or above are positive calls.

    Returns
    -------
    Figures

    Raises
    ------
    StatsError
        If the figure is unknown, or a threshold is missing or has no use (the AUC).
    """
    shape = (scores.shape[0], scores.shape[1])
    flat = scores.reshape(shape[0] * shape[1], -1)
    kinds = flat[:, positive], flat[:, ~positive]
    parts: tuple[Numbers, ...]
    if figure == "auc":
        if threshold is not None:
            raise StatsError(f"threshold is for sensitivity and specificity, got {threshold!r}")
        parts = _placements(*kinds)
    elif figure in {"sensitivity", "specificity"}:
        cut = _threshold(flat, threshold)
        right = kinds[0] >= cut if figure == "sensitivity" else kinds[1] < cut
        parts = (right.astype(float),)
    else:
        raise StatsError(f"figure must be auc, sensitivity or specificity, got {figure!r}")
    answered = all(part.shape[1] > 0 for part in parts)
    values = parts[0].mean(axis=1).reshape(shape) if answered else None
    return Figures(values=values, parts=parts, scores=kinds, shape=shape)


def _threshold(scores: Numbers, threshold: float | None) -> float:
    if threshold is not None:
        return finite(threshold, "threshold")
    if not np.isin(scores, (0, 1)).all():
        raise StatsError("threshold is needed: the ratings are not 0 and 1")
    return 1.0


def _placements(positive: Numbers, negative: Numbers) -> tuple[Numbers, Numbers]:
    """Share of the other kind that each case is on the right side of; ties count half."""
    if positive.shape[1] == 0 or negative.shape[1] == 0:
        return np.empty((len(positive), 0)), np.empty((len(positive), 0))
    ups, downs = np.empty_like(positive), np.empty_like(negative)
    for row, (high, low) in enumerate(zip(positive, negative, strict=True)):
        ups[row] = _share_below(high, np.sort(low))
        downs[row] = 1 - _share_below(low, np.sort(high))
    return ups, downs


def _share_below(values: Numbers, others: Numbers) -> Numbers:
    left = np.searchsorted(others, values, side="left")
    right = np.searchsorted(others, values, side="right")
    share: Numbers = (left + right) / (2 * others.size)
    return share


def covariance_matrix(
    merit: Figures, method: str, n_resamples: int, rng: np.random.Generator
) -> Numbers | None:
    """Estimate the covariance of the figures.

    Parameters
    ----------
    merit : Figures
        The figures and what every case adds.
    method : {"jackknife", "delong", "bootstrap", "unbiased"}
        See `obuchowski_rockette`.
    n_resamples, rng
        Of the bootstrap.

    Returns
    -------
    ndarray of float or None
        (treatment * reader, treatment * reader); None with fewer than two cases of a kind.

    Raises
    ------
    StatsError
        If the method is unknown, or not made for the figure.
    """
    if method not in {"jackknife", "delong", "bootstrap", "unbiased"}:
        raise StatsError(
            f"covariance must be jackknife, delong, bootstrap or unbiased, got {method!r}"
        )
    if method == "unbiased" and not merit.is_auc:
        raise StatsError("the unbiased covariance is for the auc")
    if method == "bootstrap" and n_resamples < 2:
        raise StatsError(f"n_resamples must be at least 2, got {n_resamples!r}")
    if any(part.shape[1] < 2 for part in merit.parts):
        return None
    if method == "jackknife":
        return _jackknife(merit.parts)
    if method == "delong":
        return _delong(merit.parts)
    return _unbiased(merit) if method == "unbiased" else _bootstrap(merit, n_resamples, rng)


def _jackknife(parts: tuple[Numbers, ...]) -> Numbers:
    """Leave out every case that the figure uses, one by one."""
    left_out = []
    for part in parts:
        n = part.shape[1]
        left_out.append((n * part.mean(axis=1, keepdims=True) - part) / (n - 1))
    together = np.concatenate(left_out, axis=1)
    n = together.shape[1]
    away = together - together.mean(axis=1, keepdims=True)
    matrix: Numbers = (n - 1) / n * (away @ away.T)
    return matrix


def _delong(parts: tuple[Numbers, ...]) -> Numbers:
    """Add up the covariance of the structural components of either kind of case."""
    rows = len(parts[0])
    matrix = np.zeros((rows, rows))
    for part in parts:
        n = part.shape[1]
        away = part - part.mean(axis=1, keepdims=True)
        matrix += away @ away.T / ((n - 1) * n)
    return matrix


def _unbiased(merit: Figures) -> Numbers:
    """Estimate E[A_i A_j] by the figures and E[A_i] E[A_j] by products of disjoint pairs."""
    return success_counts(*merit.scores, merit.shape).covariance()[0]


def _kernel(positive: Numbers, negative: Numbers) -> Numbers:
    """Give 1 where the positive case is rated higher, 1/2 for a tie: (positive, negative)."""
    high, low = positive[:, None], negative[None, :]
    return np.asarray((high > low) + 0.5 * (high == low), dtype=float)


def _bootstrap(merit: Figures, n_resamples: int, rng: np.random.Generator) -> Numbers:
    """Resample cases within their kind; a case drawn twice weighs twice."""
    sizes = [part.shape[1] for part in merit.parts]
    weights = [rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) for n in sizes]
    if not merit.is_auc:
        return _covariance(merit.parts[0] @ weights[0].T / sizes[0])
    drawn = np.empty((len(merit.parts[0]), n_resamples))
    for row, (positive, negative) in enumerate(zip(*merit.scores, strict=True)):
        kernel = _kernel(positive, negative)
        drawn[row] = np.sum((weights[0] @ kernel) * weights[1], axis=1) / (sizes[0] * sizes[1])
    return _covariance(drawn)


def _covariance(drawn: Numbers) -> Numbers:
    """Covariance of the rows, a matrix for one row too."""
    return np.asarray(np.cov(drawn), dtype=float).reshape(len(drawn), -1)
