"""Paired proportions: their counts, and the score statistic of Tango's interval and Nam's test.

Of n pairs, b are positive on the first side only and c on the second side only. The difference of
the proportions is (b - c) / n, the first minus the second.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.ratings import coded_pairs, counts_of, pair_table, square_table

__all__ = ["PairedCounts", "paired_counts", "score_limits", "score_statistic"]

Floats = npt.NDArray[np.float64]
HALVINGS = 60  # of an interval no longer than 2: the limits are right to 2e-18


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """Pairs of yes-or-no answers, counted.

    Parameters
    ----------
    b, c : int
        Pairs that are positive on the first side only, and on the second side only.
    n : int or None
        Complete pairs; None where only b and c were given.
    n_given : int
        Pairs given.
    differences : ndarray of float or None
        (pair,), 1 for b, -1 for c, else 0; None where counts were given.
    kept : ndarray of bool or None
        (pair given,), which were complete.
    """

    b: int
    c: int
    n: int | None
    n_given: int
    differences: Floats | None = None
    kept: npt.NDArray[np.bool_] | None = None


def paired_counts(
    first: Any,
    second: Any,
    n: int | None = None,
    *,
    b: int | None = None,
    c: int | None = None,
    table: npt.ArrayLike | None = None,
    categories: Sequence[Hashable] | None = None,
) -> PairedCounts:
    """Count pairs that come as vectors, as a table, or counted already.

    Parameters
    ----------
    first, second : array_like
        (pair,), the answers of either side; `first` alone may be (pair, 2). Or two numbers: the
        counts b and c.
    n : int, optional
        Pairs, where counts are given; a table has its own, which must not differ.
    b, c : int, optional
        The counts by name, instead of `first` and `second`.
    table : array_like, optional
        (2, 2), the first side down and the second across, positive first: [[a, b], [c, d]].
    categories : sequence of two, optional
        What stands for negative and for positive. Without it 0 and 1 (or False and True) do.

    Returns
    -------
    PairedCounts

    Raises
    ------
    StatsError
        If nothing is given or too much, a value is neither category, or counts do not fit.
    """
    if b is not None or c is not None:
        if first is not None or second is not None:
            raise StatsError("give two vectors, or the counts b and c, not both")
        first, second = b, c
    if table is None and second is None and _looks_like_a_table(first):
        first, table = None, first
    if (first is None and second is None) == (table is None):
        raise StatsError("give two vectors, or counts, or a table")
    if table is not None:
        return _counted_table(table, n)
    if first is None or np.ndim(first) == 0:
        return _counted(first, second, n)
    if n is not None:
        raise StatsError(f"n is for counts; vectors have their own length, got {n!r}")
    if categories is not None and len(categories) != 2:
        raise StatsError(f"categories must be (negative, positive), got {categories!r}")
    scale = (0, 1) if categories is None else categories
    pairs, kept = coded_pairs(first, second, scale)
    cells = pair_table(pairs.codes, 2)
    return PairedCounts(
        b=int(cells[1, 0]),
        c=int(cells[0, 1]),
        n=int(kept.sum()),
        n_given=kept.size,
        differences=(pairs.codes[:, 0] - pairs.codes[:, 1]).astype(float),
        kept=kept,
    )


def _looks_like_a_table(first: Any) -> bool:
    """Whether two by two values are counts: as answers of two pairs they would be 0 and 1."""
    if not isinstance(first, list | tuple | np.ndarray) or len(first) != 2:
        return False
    values = np.asarray(first, dtype=object)
    if values.shape != (2, 2):
        return False
    if all(value in (0, 1) for value in values.ravel()):
        raise StatsError("two by two values of 0 and 1: say table=..., or give two vectors")
    return all(isinstance(value, int | float | np.number) for value in values.ravel())


def _counted_table(table: npt.ArrayLike, n: int | None) -> PairedCounts:
    cells, _ = square_table(table)
    if cells.shape != (2, 2):
        raise StatsError(f"table must be (2, 2), got shape {cells.shape}")
    total = int(cells.sum())
    if n is not None and int(counts_of(n, "n")) != total:
        raise StatsError(f"n must be the {total} pairs of the table, got {n!r}")
    return PairedCounts(b=int(cells[0, 1]), c=int(cells[1, 0]), n=total, n_given=total)


def _counted(b: Any, c: Any, n: int | None) -> PairedCounts:
    if b is None or c is None:
        raise StatsError("counts come in pairs: b and c")
    first, second = (int(count) for count in counts_of([b, c]))
    total = first + second if n is None else int(counts_of(n, "n"))
    if total < first + second:
        raise StatsError(f"n must be at least b + c = {first + second}, got {n!r}")
    return PairedCounts(b=first, c=second, n=None if n is None else total, n_given=total)


def score_statistic(b: Any, c: Any, n: float | npt.NDArray[np.int64], difference: float) -> Floats:
    """Score statistic of H0: the difference of two paired proportions is `difference`.

    The variance is taken at the restricted maximum likelihood estimate under H0 [1]_, [2]_.
    At a difference of 0 its square is McNemar's chi-square.

    Parameters
    ----------
    b, c : array_like
        Discordant counts: first side only, second side only.
    n : float or array_like
        Number of pairs.
    difference : float
        The difference under H0, above -1 and below 1.

    Returns
    -------
    numpy.ndarray
        z, of the shape of b and c. 0 where numerator and variance are both 0.

    References
    ----------
    .. [1] Nam J (1997). Biometrics 53:1422-1430.
    .. [2] Tango T (1998). Stat Med 17:891-908, eq. 8.
    """
    first, second = np.asarray(b, dtype=float), np.asarray(c, dtype=float)
    distance = first - second - n * difference
    variance = _null_variance(first, second, n, difference)
    positive = variance > 0
    return np.where(positive, distance / np.sqrt(np.where(positive, variance, 1.0)), 0.0)


def score_limits(b: float, c: float, n: float, quantile: float) -> tuple[float, float]:
    """Differences that the score statistic does not reject: Tango's interval.

    Parameters
    ----------
    b, c, n : float
        Discordant counts and number of pairs.
    quantile : float
        Normal quantile, such as 1.96.

    Returns
    -------
    tuple of float
        Lower and upper limit.
    """
    estimate = (b - c) / n
    # Seen from the other side, the lower limit is an upper one.
    return (
        -_outermost(c, b, n, -estimate, quantile),
        _outermost(b, c, n, estimate, quantile),
    )


def _outermost(b: float, c: float, n: float, estimate: float, quantile: float) -> float:
    """Largest difference within the quantile, by halving: no division, so b = c = 0 is no case."""
    inside, outside = estimate, 1.0
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        distance = b - c - n * middle
        if distance * distance <= quantile * quantile * _null_variance_of(b, c, n, middle):
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


def _null_variance_of(b: float, c: float, n: float, difference: float) -> float:
    """Variance of b - c under H0: one pair of counts, in plain floats because halving repeats it.

    The probability q of "second only" under H0 solves 2 n q^2 + linear q + constant = 0.
    """
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    # The form that does not subtract two nearly equal numbers.
    q = -2 * constant / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    return max(n * (2 * q + difference * (1 - difference)), 0.0)


def _null_variance(
    b: Floats, c: Floats, n: float | npt.NDArray[np.int64], difference: float
) -> Floats:
    """Give the same for arrays of counts."""
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0.0))
    rising = linear > 0
    q = np.where(
        rising,
        -2 * constant / np.where(rising, linear + root, 1.0),
        (root - linear) / (4 * n),
    )
    return np.maximum(n * (2 * q + difference * (1 - difference)), 0.0)
