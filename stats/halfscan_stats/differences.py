"""Differences of paired measurements, and what in them is only rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.ratings import Numbers, paired_numbers

__all__ = ["Differences", "check_magnitude", "differences_of", "without_noise"]

DIGITS = 13  # of a double's 16: what differs beyond is rounding noise of a subtraction
LARGEST = 1e100  # measurements beyond have squares that a double cannot hold


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences of the complete pairs.

    Parameters
    ----------
    values : ndarray of float
        (pair,), first minus second.
    clean : ndarray of float
        The same without rounding noise: for ranks and ties, and to see that all are equal.
    kept : ndarray of bool
        (pair given,), which were complete.
    """

    values: Numbers
    clean: Numbers
    kept: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Complete pairs."""
        return int(self.values.size)

    @property
    def n_given(self) -> int:
        """Pairs given."""
        return int(self.kept.size)


def differences_of(x: npt.ArrayLike, y: npt.ArrayLike | None = None) -> Differences:
    """Subtract pairwise complete measurements.

    Parameters
    ----------
    x, y : array_like
        (pair,), None or NaN where missing; `x` alone may be (pair, 2).

    Returns
    -------
    Differences

    Raises
    ------
    StatsError
        If the shapes do not fit, or something is no number or beyond 1e100.
    """
    pairs = paired_numbers(x, y)
    if pairs.n == 0:
        return Differences(pairs.x, pairs.x, pairs.kept)
    scale = max(check_magnitude(pairs.x), check_magnitude(pairs.y))
    values = pairs.x - pairs.y
    return Differences(values, without_noise(values, scale), pairs.kept)


def check_magnitude(values: Numbers) -> float:
    """Give the largest magnitude of values that are there.

    Raises
    ------
    StatsError
        If it is beyond 1e100.
    """
    scale = float(np.abs(values).max(initial=0.0))
    if scale > LARGEST:
        raise StatsError(f"measurements must not exceed {LARGEST:g}, got {scale!r}")
    return scale


def without_noise(values: Numbers, scale: float) -> Numbers:
    """Values without the rounding noise of the subtraction that they come from.

    0.3 - 0.2 and 0.2 - 0.1 are one difference, but not to the last bit.

    Parameters
    ----------
    values : ndarray of float
        Differences.
    scale : float
        Largest magnitude of what was subtracted.

    Returns
    -------
    ndarray of float
        Rounded to 13 significant digits of the scale.
    """
    if scale < 1 / LARGEST:
        return values
    return np.round(values, DIGITS - math.ceil(math.log10(scale)))
