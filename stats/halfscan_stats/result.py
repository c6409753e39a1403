"""What the statistics answer with: a value and its interval, or None and the reason.

A result never carries NaN or infinity: they would turn into broken JSON, or worse, into a number
that somebody believes. What is undefined is None, next to what can still be said.

Every result is a frozen dataclass derived from `Result`. A function with more to say derives its
own class (``@dataclass(frozen=True, slots=True)``, every new field with a default) and calls the
parent's ``__post_init__`` by the parent's name: with slots, ``super()`` does not work there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

from halfscan_stats.errors import StatsError

__all__ = [
    "Agreement",
    "ClusteredAgreement",
    "Estimate",
    "Interval",
    "Reason",
    "Result",
    "TestResult",
    "landis_koch",
]


class Reason(StrEnum):
    """Why a value, an interval or a p-value is None, or what the value must be read with."""

    RATER_CONSTANT = "rater_constant"
    """A reader gave the same score throughout."""
    NO_VARIATION = "no_variation"
    """Everyone gave the same score."""
    PERFECT_AGREEMENT = "perfect_agreement"
    """All agree, on scores that vary: the asymptotic interval would be [1, 1]."""
    CONSTANT_DIFFERENCE = "constant_difference"
    """All paired differences are the same: they have no spread to test against."""
    ALL_DIFFERENCES_ZERO = "all_differences_zero"
    """Every pair is tied."""
    NO_DISCORDANT = "no_discordant"
    """No pair disagrees."""
    TOO_FEW = "too_few"
    """Fewer observations, readers or clusters than the method needs."""
    ZERO_VARIANCE = "zero_variance"
    """The estimated standard error is zero, and agreement is not perfect."""
    NEGATIVE_VARIANCE = "negative_variance"
    """A variance came out negative: the estimate has no interval, or lies outside its range."""
    UNDEFINED_RESAMPLES = "undefined_resamples"
    """Too many bootstrap resamples had no answer for an interval to be believed."""
    UNDEFINED = "undefined"
    """The statistic that was handed in has no value on these data."""
    NO_CONVERGENCE = "no_convergence"
    """An iterative fit found no solution."""
    SINGULAR = "singular"
    """A matrix of the fit has no inverse: a group is empty, or two columns say the same."""
    UNBOUNDED = "unbounded"
    """The denominator of a ratio is zero: there is no upper limit."""
    TOO_MANY = "too_many"
    """More observations than the method, or the search for a sample size, was made for."""
    NOT_REACHABLE = "not_reachable"
    """No finite sample gives what was asked for."""
    NOT_POSITIVE = "not_positive"
    """A measurement is 0 or below: it has no logarithm, and no ratio."""
    PAIRS_UNKNOWN = "pairs_unknown"
    """Only the discordant pairs were given, not how many pairs there are."""


def plain(value: object) -> Any:
    """A value as JSON knows it: enumerations as text, dataclasses as objects, tuples as lists.

    Parameters
    ----------
    value : object
        A field of a result: None, a number, text, a sequence, a mapping or another dataclass.

    Returns
    -------
    object
        Made of dict, list, str, int, float, bool and None alone.

    Raises
    ------
    ValueError
        If a number in it is NaN or infinite.
    """
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a result must be finite or None, got {value!r}")
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a result cannot hold a {type(value).__name__}: {value!r}")


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

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: low, high, level."""
        return dict(plain(self))


@dataclass(frozen=True, slots=True)
class Result:
    """What every result carries.

    Parameters
    ----------
    method : str
        The method by name, with its source.
    n, n_given : int
        Observations used, and observations given: the difference was missing.

    Raises
    ------
    ValueError
        If a number of the result is not finite, or ``0 <= n <= n_given`` does not hold.
    """

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

    @property
    def n_missing(self) -> int:
        """Observations given but not used."""
        return self.n_given - self.n

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: every field by name, and n_missing. Undefined is null, never NaN."""
        return {**plain(self), "n_missing": self.n_missing}


@dataclass(frozen=True, slots=True)
class Estimate(Result):
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
        Why one of them is None, or what the value must be read with.

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
        Result.__post_init__(self)
        if (self.value is None or self.interval is None) and self.reason is None:
            raise ValueError("an estimate without value or interval needs a reason")


@dataclass(frozen=True, slots=True)
class TestResult(Result):
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
        Why the p-value is None, or what it must be read with.

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
        Result.__post_init__(self)
        if self.p_value is None and self.reason is None:
            raise ValueError("a test without a p-value needs a reason")
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise ValueError(f"p_value must lie in [0, 1], got {self.p_value!r}")


_LANDIS_KOCH = (
    (0.2, "slight"),
    (0.4, "fair"),
    (0.6, "moderate"),
    (0.8, "substantial"),
    (1.0, "almost perfect"),
)


def landis_koch(value: float | None) -> str | None:
    """Word of Landis & Koch for a kappa [1]_.

    Parameters
    ----------
    value : float or None
        A chance-corrected agreement.

    Returns
    -------
    str or None
        ``poor`` below 0, ``slight`` up to 0.20, ``fair`` up to 0.40, ``moderate`` up to 0.60,
        ``substantial`` up to 0.80, ``almost perfect`` above; None for None.

    Raises
    ------
    StatsError
        If the value is NaN, infinite or no number.

    References
    ----------
    .. [1] Landis JR, Koch GG. The measurement of observer agreement for categorical data.
       Biometrics 1977;33:159-174. doi:10.2307/2529310
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise StatsError(f"value must be finite or None, got {value!r}")
    rounded = round(value, 10)  # 0.6 is moderate, and so is 0.6000000000000001
    if rounded < 0:
        return "poor"
    return next((word for limit, word in _LANDIS_KOCH if rounded <= limit), "almost perfect")


@dataclass(frozen=True, slots=True)
class Agreement(Estimate):
    """A chance-corrected agreement of readers on a scale.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; n counts subjects.
    se : float or None
        Standard error that the interval rests on (non-null).
    raw_agreement : float or None
        Share of identical scores, 0 to 1: over subjects with two readers, over the pairs of
        readers within subjects with more.
    observed_agreement, expected_agreement : float or None
        Weighted agreement seen, and what chance would give: the two terms of the value.
    se0, z, p_value : float or None
        Standard error under the hypothesis of chance agreement, the value over it, and the
        two-sided p-value; None where the method has no such test.
    weights : str
        ``none``, ``linear`` or ``quadratic`` (Krippendorff's alpha: its metric).
    categories : tuple or None
        The declared scale; None where none was declared and the answer does not depend on it.
        Where it does (AC1, PABAK), the values seen, and `method` says so.
    n_readers : int
        Readers.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_se, cluster_interval : float, Interval or None
        The same with the observations nested in clusters.
    cluster_interval_t : Interval or None
        The interval of `cluster_se` from Student's t with one degree of freedom less than
        clusters. Kappa's `cluster_interval` takes the normal distribution; for the others both
        are one.
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    design_effect : float or None
        Variance with clusters over variance without.
    """

    se: float | None = None
    raw_agreement: float | None = None
    observed_agreement: float | None = None
    expected_agreement: float | None = None
    se0: float | None = None
    z: float | None = None
    p_value: float | None = None
    weights: str = "none"
    categories: tuple[Any, ...] | None = None
    n_readers: int = 2
    n_clusters: int | None = None
    cluster_se: float | None = None
    cluster_interval: Interval | None = None
    cluster_interval_t: Interval | None = None
    cluster_reason: Reason | None = None
    design_effect: float | None = None

    @property
    def word(self) -> str | None:
        """Word of Landis & Koch for the value."""
        return landis_koch(self.value)

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: every field by name, n_missing and word."""
        return {**Result.as_dict(self), "word": self.word}


@dataclass(frozen=True, slots=True)
class ClusteredAgreement(Agreement):
    """An agreement whose `se` and `interval` know of the clusters; the naive ones stand beside.

    Parameters
    ----------
    naive_se, naive_interval : float, Interval or None
        As if all observations were independent.
    """

    naive_se: float | None = None
    naive_interval: Interval | None = None
