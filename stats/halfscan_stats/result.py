"""What the statistics answer with: a value and its interval, or None and the reason.

A result never carries NaN or infinity: they would turn into broken JSON, or worse, into a number
that somebody believes. What is undefined is None, next to what can still be said.
"""

import math
from dataclasses import dataclass, fields
from enum import StrEnum

__all__ = ["Estimate", "Interval", "Reason", "TestResult"]


class Reason(StrEnum):
    """Why a value, an interval or a p-value is None."""

    RATER_CONSTANT = "rater_constant"
    NO_VARIATION = "no_variation"
    PERFECT_AGREEMENT = "perfect_agreement"
    CONSTANT_DIFFERENCE = "constant_difference"
    ALL_DIFFERENCES_ZERO = "all_differences_zero"
    NO_DISCORDANT = "no_discordant"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Parameters
    ----------
    low, high : float
        Its limits, ``low <= high``, both finite.
    level : float
        Confidence level, above 0 and below 1.

    Raises
    ------
    ValueError
        If a limit is not finite, the limits are in the wrong order, or the level is no level.
    """

    low: float
    high: float
    level: float = 0.95

    def __post_init__(self) -> None:
        """Check the limits."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"limits must be finite, got [{self.low}, {self.high}]")
        if self.low > self.high:
            raise ValueError(f"low must be <= high, got [{self.low}, {self.high}]")
        if not 0 < self.level < 1:
            raise ValueError(f"level must be above 0 and below 1, got {self.level!r}")


@dataclass(frozen=True, slots=True)
class _Result:
    """What every result carries."""

    method: str
    n: int
    n_given: int

    def __post_init__(self) -> None:
        """Check that no number is NaN or infinite, and the counts."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be finite or None, got {value!r}")
        if not 0 <= self.n <= self.n_given:
            raise ValueError(f"0 <= n <= n_given must hold, got {self.n} of {self.n_given}")


@dataclass(frozen=True, slots=True)
class Estimate(_Result):
    """A value with its interval.

    Parameters
    ----------
    method : str
        The method by name, with its source.
    n, n_given : int
        Observations used, and observations given: the difference was missing.
    value : float or None
        None where undefined.
    interval : Interval or None
        None where undefined.
    reason : Reason or None
        Why one of them is None.

    Raises
    ------
    ValueError
        If a number is not finite, or something is None without a reason.
    """

    value: float | None = None
    interval: Interval | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        """Check that what is missing has a reason."""
        _Result.__post_init__(self)
        if (self.value is None or self.interval is None) and self.reason is None:
            raise ValueError("an estimate without value or interval needs a reason")


@dataclass(frozen=True, slots=True)
class TestResult(_Result):
    """A test statistic with its p-value.

    Parameters
    ----------
    method : str
        The method by name, with its source.
    n, n_given : int
        Observations used, and observations given: the difference was missing.
    statistic : float or None
        None where undefined, or where the test has none (an exact test).
    p_value : float or None
        Two-sided unless the method says otherwise; None where undefined.
    reason : Reason or None
        Why the p-value is None.

    Raises
    ------
    ValueError
        If a number is not finite, p lies outside [0, 1], or p is None without a reason.
    """

    __test__ = False  # pytest: this is not a test

    statistic: float | None = None
    p_value: float | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        """Check the p-value."""
        _Result.__post_init__(self)
        if self.p_value is None and self.reason is None:
            raise ValueError("a test without a p-value needs a reason")
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise ValueError(f"p_value must lie in [0, 1], got {self.p_value!r}")
