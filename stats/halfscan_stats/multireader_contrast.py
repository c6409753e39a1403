"""The difference of two treatments, with its interval and test, however its error was found."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import special

from halfscan_stats.inference import clipped, t_quantile
from halfscan_stats.result import Interval, Reason

__all__ = ["Contrast", "contrast_of", "spread_reason", "student_quantile", "student_tail"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Difference of two treatments.

    Parameters
    ----------
    first, second : int
        The treatments, from 0; the difference is the first minus the second.
    difference : float
        Of the means over readers.
    se : float or None
        Standard error.
    interval : Interval or None
        Confidence interval, clipped at -1 and 1.
    t, p_value : float or None
        The difference over its standard error, and its two-sided p.
    df : float or None
        Degrees of freedom; None where they are infinite (normal distribution).
    reason : Reason or None
        Why there is no interval and no p.
    """

    first: int
    second: int
    difference: float
    se: float | None = None
    interval: Interval | None = None
    t: float | None = None
    p_value: float | None = None
    df: float | None = None
    reason: Reason | None = None


def contrast_of(
    first: int, second: int, difference: float, se: float, df: float | None, level: float
) -> Contrast:
    """Give the interval and the test of a difference.

    Parameters
    ----------
    first, second : int
        The treatments.
    difference, se : float
        The difference, and its standard error, above 0.
    df : float or None
        Degrees of freedom; None for the normal distribution.
    level : float
        Confidence level.

    Returns
    -------
    Contrast
    """
    reach = student_quantile((1 + level) / 2, df) * se
    return Contrast(
        first,
        second,
        difference,
        se=se,
        interval=clipped(difference, difference - reach, difference + reach, level),
        t=difference / se,
        p_value=min(1.0, 2 * student_tail(-abs(difference) / se, df)),
        df=df,
    )


def spread_reason(variance: float, noise: float) -> Reason:
    """Why a variance that is not above the noise gives no test."""
    return Reason.ZERO_VARIANCE if variance > -noise else Reason.NEGATIVE_VARIANCE


def student_quantile(probability: float, df: float | None) -> float:
    """Quantile of Student's t, or of the normal distribution without degrees of freedom."""
    return float(special.ndtri(probability)) if df is None else t_quantile(probability, df)


def student_tail(t: float, df: float | None) -> float:
    """Probability of a value at most t."""
    return float(special.ndtr(t) if df is None else special.stdtr(df, t))
