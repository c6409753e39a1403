"""Numbers as they come in: measurements and counts, checked, with what is missing as NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError

__all__ = [
    "ArrayLike",
    "Counts",
    "Numbers",
    "Pairs",
    "as_array",
    "counts_of",
    "finite",
    "is_missing",
    "numbers",
    "paired_numbers",
    "subject_by_reader",
]

ArrayLike: TypeAlias = npt.ArrayLike | Sequence[Any]  # lists with None too
Numbers = npt.NDArray[np.float64]  # any shape; NaN where missing
Counts = npt.NDArray[np.int64]  # any shape; at least 0

LARGEST_COUNT = 1_000_000_000  # beyond any study, and within what the distributions can take


@dataclass(frozen=True, slots=True)
class Pairs:
    """Complete pairs of measurements.

    Parameters
    ----------
    x, y : ndarray of float
        (pair,), finite.
    kept : ndarray of bool
        (pair given,), True where both were there.
    """

    x: Numbers
    y: Numbers
    kept: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Complete pairs."""
        return int(self.x.size)

    @property
    def n_given(self) -> int:
        """Pairs given."""
        return int(self.kept.size)


def as_array(values: ArrayLike, name: str) -> npt.NDArray[Any]:
    """Values as an array of whatever type; masked entries become missing."""
    if isinstance(values, str | bytes | dict | set):
        raise StatsError(f"{name} must be an array, got {values!r}")
    if isinstance(values, np.ma.MaskedArray):
        unmasked = np.array(values.data, dtype=object)
        unmasked[np.ma.getmaskarray(values)] = None
        return unmasked
    try:
        array = np.asarray(values)
        if array.dtype.kind == "U" and not hasattr(values, "dtype"):
            # A list of numbers and text: numpy would turn the numbers into text.
            return np.array(values, dtype=object)
    except ValueError as error:
        raise StatsError(f"{name} must be a regular array: {error}") from error
    return array


def is_missing(value: object) -> bool:
    """Whether a single value is None, NaN or the like (pandas.NA, NaT)."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124  # that is what NaN does
    except TypeError:  # pandas.NA is neither equal nor different
        return True


def numbers(values: ArrayLike, name: str = "values") -> Numbers:
    """Measurements as float64, missing ones as NaN.

    Parameters
    ----------
    values : array_like
        Any shape; numbers, None and NaN.
    name : str
        How an error names them.

    Returns
    -------
    ndarray of float
        Same shape.

    Raises
    ------
    StatsError
        On text, complex numbers, infinity or a ragged list.
    """
    array = as_array(values, name)
    if array.dtype.kind == "O":
        array = np.array(
            [_number(value, name) for value in array.ravel()], dtype=np.float64
        ).reshape(array.shape)
    elif array.dtype.kind not in "biuf":
        raise StatsError(f"{name} must be numbers, got {array.dtype.name}")
    result = array.astype(np.float64, copy=False)
    if np.isinf(result).any():
        raise StatsError(f"{name} must be finite or missing, got infinity")
    return result


def _number(value: object, name: str) -> float:
    if is_missing(value):
        return math.nan
    try:
        if not isinstance(value, str | bytes):
            return float(value)  # type: ignore[arg-type]  # the error is the check
    except (TypeError, ValueError):
        pass
    raise StatsError(f"{name} must be numbers, got {value!r}")


def subject_by_reader(
    ratings: ArrayLike, second: ArrayLike | None = None, name: str = "ratings"
) -> npt.NDArray[Any]:
    """One array (subject, reader) from itself, or from two vectors.

    Parameters
    ----------
    ratings : array_like
        (subject, reader), or (subject,) with `second`.
    second : array_like, optional
        (subject,), the second reader.
    name : str
        How an error names them.

    Returns
    -------
    ndarray
        (subject, reader), of whatever type.

    Raises
    ------
    StatsError
        If the shapes do not fit.
    """
    array = as_array(ratings, name)
    if second is None:
        if array.ndim != 2:
            raise StatsError(
                f"{name} must be (subject, reader) or two vectors, got shape {array.shape}"
            )
        return array
    other = as_array(second, name)
    if array.ndim != 1 or array.shape != other.shape:
        raise StatsError(
            f"{name} of two readers must be two vectors of one length, "
            f"got shapes {array.shape} and {other.shape}"
        )
    if array.dtype.kind != other.dtype.kind:  # else numpy would turn numbers into text
        array, other = array.astype(object), other.astype(object)
    return np.stack([array, other]).T  # each reader's ratings stay together in memory


def paired_numbers(x: ArrayLike, y: ArrayLike | None = None, name: str = "measurements") -> Pairs:
    """Pairwise complete measurements.

    Parameters
    ----------
    x : array_like
        (pair,), or (pair, 2) without `y`.
    y : array_like, optional
        (pair,).
    name : str
        How an error names them.

    Returns
    -------
    Pairs
        The complete pairs, and which they are.

    Raises
    ------
    StatsError
        If the shapes do not fit, or something is no number.
    """
    array = numbers(subject_by_reader(x, y, name), name)
    if array.shape[1] != 2:
        raise StatsError(f"{name} must come in pairs, got shape {array.shape}")
    kept = np.asarray(~np.isnan(array).any(axis=1))
    complete = array[kept]
    return Pairs(x=complete[:, 0], y=complete[:, 1], kept=kept)


def counts_of(values: ArrayLike, name: str = "counts") -> Counts:
    """Counts of any shape, checked.

    Parameters
    ----------
    values : array_like
        Whole numbers, at least 0.
    name : str
        How an error names them.

    Returns
    -------
    ndarray of int
        Same shape.

    Raises
    ------
    StatsError
        If one is missing, negative or not whole, or they add up to more than a billion.
    """
    array = numbers(values, name)
    wrong = ~((array >= 0) & (array == np.floor(array)))
    if wrong.any():
        raise StatsError(
            f"{name} must be whole numbers, at least 0, got {array[wrong].flat[0].item()!r}"
        )
    if float(array.sum()) > LARGEST_COUNT:
        raise StatsError(f"{name} must add up to at most {LARGEST_COUNT:,}, got {array.sum():g}")
    return array.astype(np.int64)


def finite(value: object, name: str) -> float:
    """One number, such as a margin.

    Raises
    ------
    StatsError
        If it is text, missing or infinite.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise StatsError(f"{name} must be a finite number, got {value!r}")
