"""What every function accepts: ratings, tables and clusters, checked once and in one place.

Ratings come as one array (subject, reader) or as two vectors, with the declared `categories`;
tables as counts; ``cluster`` as one label (patient) an observation. None and NaN are missing.
Whatever breaks a rule raises `StatsError` with the rule and the value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.measurements import (
    ArrayLike,
    Counts,
    Numbers,
    Pairs,
    as_array,
    counts_of,
    finite,
    is_missing,
    numbers,
    paired_numbers,
    subject_by_reader,
)

__all__ = [
    "MAX_CATEGORIES",
    "ArrayLike",
    "Coded",
    "Codes",
    "Counts",
    "Numbers",
    "Pairs",
    "check_alpha",
    "check_level",
    "cluster_codes",
    "coded",
    "coded_pairs",
    "counts_of",
    "finite",
    "generator",
    "numbers",
    "pair_table",
    "paired_numbers",
    "scale_of",
    "square_table",
    "subject_by_reader",
]

Codes = npt.NDArray[np.intp]  # position on the scale, -1 where missing

# More than any scale of a reader study; measurements given as scores would fill the memory.
MAX_CATEGORIES = 1000
# Integers within this range are looked up in a table instead of searched for.
_TABLE_RANGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Coded:
    """Ratings as positions on their scale.

    Parameters
    ----------
    codes : ndarray of int
        Shape of the ratings; -1 where missing.
    categories : tuple
        The scale in its order: the declared one or, where none was declared, the values seen.
    declared : bool
        Whether the scale was declared.
    """

    codes: Codes
    categories: tuple[Any, ...]
    declared: bool

    @property
    def scale(self) -> tuple[Any, ...] | None:
        """The declared scale; None where none was declared."""
        return self.categories if self.declared else None


def coded(
    ratings: ArrayLike,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    *,
    needs_scale: str | None = None,
    name: str = "ratings",
) -> Coded:
    """Ratings as positions on the declared scale.

    Parameters
    ----------
    ratings : array_like
        Any shape; numbers or text, None and NaN where missing.
    categories : sequence, optional
        The scale in its order, unused categories included. Without it the values seen stand in,
        in ascending order, which is right only where the answer does not depend on the scale.
    needs_scale : str, optional
        What depends on the scale; then `categories` must be declared.
    name : str
        How an error names the ratings.

    Returns
    -------
    Coded
        The positions, and the scale.

    Raises
    ------
    StatsError
        On a rating outside the scale, a scale that names a category twice, or no scale where one
        is needed.
    """
    array = as_array(ratings, name)
    if categories is None:
        if needs_scale is not None:
            raise StatsError(f"categories must be declared: {needs_scale} depends on the scale")
        scale, declared = _seen(array, name), False
    else:
        scale, declared = scale_of(categories), True
    numeric = array.dtype.kind in "biuf" and all(isinstance(c, int | float) for c in scale)
    codes = _search(array, scale, name) if numeric else _look_up(array, scale, name)
    return Coded(codes=codes, categories=scale, declared=declared)


def scale_of(categories: Iterable[Hashable] | npt.NDArray[Any]) -> tuple[Any, ...]:
    """The declared scale, checked, as Python's own values.

    Raises
    ------
    StatsError
        If it is empty, too long, or names a category twice or a missing one.
    """
    if isinstance(categories, str | bytes) or not isinstance(categories, Iterable):
        raise StatsError(f"categories must list the scale, got {categories!r}")
    scale = tuple(c.item() if isinstance(c, np.generic) else c for c in categories)
    if not scale:
        raise StatsError("categories must name at least one category, got none")
    if any(is_missing(c) or c in (math.inf, -math.inf) for c in scale):
        raise StatsError(f"categories must be finite and not missing, got {scale!r}")
    if len(set(scale)) != len(scale):
        raise StatsError(f"categories must differ, got {scale!r}")
    return _limited(scale)


def _limited(scale: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(scale) > MAX_CATEGORIES:
        raise StatsError(
            f"a scale has at most {MAX_CATEGORIES} categories, got {len(scale)}: "
            "measurements belong to icc or bland_altman"
        )
    return scale


def _seen(array: npt.NDArray[Any], name: str) -> tuple[Any, ...]:
    """The values seen, in ascending order."""
    if array.dtype.kind == "f":
        return _limited(tuple(np.unique(array[np.isfinite(array)]).tolist()))
    if array.dtype.kind in "biuUS":
        return _limited(tuple(np.unique(array).tolist()))
    values = {value for value in array.ravel() if not is_missing(value)}
    if any(value in (math.inf, -math.inf) for value in values):
        raise StatsError(f"{name} must be finite or missing, got infinity")
    try:
        return _limited(tuple(sorted(values)))
    except TypeError as error:
        raise StatsError(f"{name} must be all numbers or all text: {error}") from error


def _search(array: npt.NDArray[Any], scale: tuple[Any, ...], name: str) -> Codes:
    """Positions of numbers on a numeric scale."""
    points = np.array(scale, dtype=np.float64)
    if array.size == 0 or points.size == 0:
        missing = np.full(array.shape, -1, dtype=np.intp)
        return _refuse(array, scale, missing, name)
    if array.dtype.kind in "biu" and float(array.max()) - float(array.min()) < _TABLE_RANGE:
        start = int(array.min())
        table = _positions(np.arange(start, int(array.max()) + 1, dtype=np.float64), points)
        codes = table[array.astype(np.intp, copy=False) - start]
    else:
        codes = _positions(array.astype(np.float64, copy=False), points)
    return _refuse(array, scale, codes, name)


def _positions(values: Numbers, points: Numbers) -> Codes:
    """Position of each value among the points, -1 where it is none of them."""
    order = np.argsort(points)
    ranks = np.minimum(np.searchsorted(points, values, sorter=order), points.size - 1)
    found = order[ranks]
    return np.where(points[found] == values, found, -1)


def _refuse(array: npt.NDArray[Any], scale: tuple[Any, ...], codes: Codes, name: str) -> Codes:
    """The codes, after a check that only missing ratings have none."""
    outside = codes < 0
    if array.dtype.kind == "f":
        outside &= ~np.isnan(array)
    if outside.any():
        value = array[outside].flat[0].item()
        raise StatsError(f"{name} must lie on the scale {scale!r}, got {value!r}")
    return codes


def _look_up(array: npt.NDArray[Any], scale: tuple[Any, ...], name: str) -> Codes:
    """Positions of values of any kind."""
    places = {category: place for place, category in enumerate(scale)}
    codes = np.empty(array.size, dtype=np.intp)
    for index, value in enumerate(array.ravel().tolist()):
        place = -1 if is_missing(value) else places.get(value)
        if place is None:
            raise StatsError(f"{name} must lie on the scale {scale!r}, got {value!r}")
        codes[index] = place
    return codes.reshape(array.shape)


def coded_pairs(
    a: ArrayLike,
    b: ArrayLike | None,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    *,
    needs_scale: str | None = None,
) -> tuple[Coded, npt.NDArray[np.bool_]]:
    """Pairwise complete ratings of two readers.

    Parameters
    ----------
    a : array_like
        (subject,), or (subject, 2) without `b`.
    b : array_like or None
        (subject,).
    categories, needs_scale
        See `coded`.

    Returns
    -------
    Coded
        With codes (subject with both ratings, 2).
    ndarray of bool
        (subject given,), True where both ratings were there.

    Raises
    ------
    StatsError
        If the shapes do not fit, or as `coded`.
    """
    both = subject_by_reader(a, b)
    if both.shape[1] != 2:
        raise StatsError(f"ratings must be those of two readers, got shape {both.shape}")
    all_given = coded(both, categories, needs_scale=needs_scale)
    first, second = all_given.codes.T
    kept = (first >= 0) & (second >= 0)
    codes = all_given.codes if kept.all() else all_given.codes[kept]
    return Coded(codes, all_given.categories, all_given.declared), kept


def square_table(
    table: ArrayLike,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    name: str = "table",
) -> tuple[Counts, tuple[Any, ...] | None]:
    """A contingency table of two readers or two tests.

    Parameters
    ----------
    table : array_like
        (category, category) of counts: first reader down, second across.
    categories : sequence, optional
        The scale, one category a row.
    name : str
        How an error names the table.

    Returns
    -------
    ndarray of int
        The counts.
    tuple or None
        The scale, where declared.

    Raises
    ------
    StatsError
        If it is not square, not counts, or does not fit the scale.
    """
    counts = counts_of(table, name)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise StatsError(f"{name} must be square (category, category), got shape {counts.shape}")
    if categories is None:
        return counts, None
    scale = scale_of(categories)
    if len(scale) != counts.shape[0]:
        raise StatsError(f"{name} must have one row a category {scale!r}, got {counts.shape[0]}")
    return counts, scale


def pair_table(codes: Codes, n_categories: int) -> Counts:
    """Contingency table (category, category) of complete pairs of codes (subject, 2)."""
    cells = codes[:, 0] * n_categories + codes[:, 1]
    counts = np.bincount(cells, minlength=n_categories * n_categories)
    return counts.astype(np.int64).reshape(n_categories, n_categories)


def cluster_codes(cluster: ArrayLike, kept: npt.NDArray[np.bool_] | int) -> tuple[Codes, int]:
    """Clusters (patients) as numbers from 0.

    Parameters
    ----------
    cluster : array_like
        (observation given,), labels of any kind.
    kept : ndarray of bool, or int
        (observation given,), which observations are used; or how many there are, all used.

    Returns
    -------
    ndarray of int
        (observation used,), 0 to clusters - 1.
    int
        Clusters among the observations used.

    Raises
    ------
    StatsError
        If there is not one label an observation, or one is missing.
    """
    labels = as_array(cluster, "cluster")
    mask = np.ones(kept, dtype=np.bool_) if isinstance(kept, int) else kept
    if labels.shape != mask.shape:
        raise StatsError(
            f"cluster must have one label an observation ({mask.size}), got shape {labels.shape}"
        )
    if labels.dtype.kind == "O":
        numbered: dict[Any, int] = {}
        if any(is_missing(label) for label in labels):
            raise StatsError("cluster must name every observation's cluster, got a missing one")
        labels = np.array(
            [numbered.setdefault(label, len(numbered)) for label in labels], dtype=np.intp
        )
    elif labels.dtype.kind == "f" and np.isnan(labels).any():
        raise StatsError("cluster must name every observation's cluster, got a missing one")
    found, codes = np.unique(labels[mask], return_inverse=True)
    return codes.astype(np.intp).reshape(-1), int(found.size)


def check_level(level: float, name: str = "level") -> float:
    """A confidence level, above 0 and below 1.

    Raises
    ------
    StatsError
        If it is none.
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise StatsError(f"{name} must be above 0 and below 1, got {level!r}")
    return float(level)


def check_alpha(alpha: float) -> float:
    """A one-sided level, above 0 and below 0.5.

    Raises
    ------
    StatsError
        If it is none.
    """
    if not 0 < finite(alpha, "alpha") < 0.5:
        raise StatsError(f"alpha must be above 0 and below 0.5, got {alpha!r}")
    return float(alpha)


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """The source of randomness, which the caller passes in: a generator or a seed.

    Raises
    ------
    StatsError
        If there is none: a result must be repeatable.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, int) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(rng)
    raise StatsError(f"rng must be a numpy.random.Generator or a seed, got {rng!r}")
