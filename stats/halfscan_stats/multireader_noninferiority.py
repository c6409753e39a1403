"""Whether a treatment is not much worse than another, over many readers and many cases."""

from __future__ import annotations

from dataclasses import dataclass

from halfscan_stats.errors import StatsError
from halfscan_stats.multireader import ObuchowskiRockette
from halfscan_stats.multireader_contrast import (
    Contrast,
    contrast_of,
    student_tail,
)
from halfscan_stats.multireader_ustatistics import MrmcUStatistics
from halfscan_stats.ratings import check_alpha, check_level, finite
from halfscan_stats.result import Interval, Reason, TestResult

__all__ = ["MrmcNonInferiority", "noninferiority_mrmc"]


@dataclass(frozen=True, slots=True)
class MrmcNonInferiority(TestResult):
    """Whether the first treatment's figure of merit is not much below the second's.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`: t and the one-sided p of H0: first - second <= -margin. n counts cases.
    margin, alpha : float
        Margin of non-inferiority, a difference of the figure of merit, and the one-sided level.
    difference, se : float or None
        First minus second, and its standard error.
    df : float or None
        Degrees of freedom; None where they are infinite (normal distribution).
    interval : Interval or None
        Of the difference, two-sided with confidence 1 - 2 alpha.
    noninferior : bool or None
        Whether p <= alpha: the lower limit does not lie below -margin.
    """

    margin: float = 0.0
    alpha: float = 0.05
    difference: float | None = None
    se: float | None = None
    df: float | None = None
    interval: Interval | None = None
    noninferior: bool | None = None


def noninferiority_mrmc(
    analysis: ObuchowskiRockette | MrmcUStatistics,
    margin: float,
    *,
    alpha: float = 0.05,
    readers: str = "random",
    first: int = 0,
    second: int = 1,
) -> MrmcNonInferiority:
    """Test non-inferiority by the standard error and degrees of freedom of an analysis [1]_.

    Parameters
    ----------
    analysis : ObuchowskiRockette or MrmcUStatistics
        Whose difference is tested.
    margin : float
        How much less the first treatment may achieve, above 0 and below 1.
    alpha : float
        One-sided level.
    readers : {"random", "fixed"}
        Conclude for readers like these (and cases like these), or for these readers.
    first, second : int
        Treatments, from 0: the new one and the reference.

    Returns
    -------
    MrmcNonInferiority
        Undefined where the analysis has no standard error, with its reason.

    Raises
    ------
    StatsError
        If an argument lies outside its range.

    References
    ----------
    .. [1] Chen W, Petrick NA, Sahiner B (2012). Acad Radiol 19:1158-1165.
    """
    if not 0 < finite(margin, "margin") < 1:
        raise StatsError(f"margin must be above 0 and below 1, got {margin!r}")
    check_alpha(alpha)
    level = check_level(1 - 2 * alpha)
    compared = _contrast(analysis, readers, first, second)
    method = f"{analysis.method}, readers {readers}, non-inferiority (Chen et al. 2012)"
    n, given = analysis.n, analysis.n_given
    if compared is None or compared.se is None:
        reason = analysis.reason if compared is None else compared.reason
        return MrmcNonInferiority(
            method,
            n,
            given,
            reason=reason or Reason.TOO_FEW,
            margin=margin,
            alpha=alpha,
            difference=None if compared is None else compared.difference,
        )
    t = (compared.difference + margin) / compared.se
    p_value = student_tail(-t, compared.df)
    narrow = contrast_of(first, second, compared.difference, compared.se, compared.df, level)
    return MrmcNonInferiority(
        method,
        n,
        given,
        statistic=t,
        p_value=p_value,
        margin=margin,
        alpha=alpha,
        difference=compared.difference,
        se=compared.se,
        df=compared.df,
        interval=narrow.interval,
        noninferior=p_value <= alpha,
    )


def _contrast(
    analysis: ObuchowskiRockette | MrmcUStatistics, readers: str, first: int, second: int
) -> Contrast | None:
    """The difference asked for, from either analysis; None where there is none."""
    if readers not in {"random", "fixed"}:
        raise StatsError(f"readers must be random or fixed, got {readers!r}")
    count = analysis.n_treatments
    if not (0 <= first < count and 0 <= second < count and first != second):
        raise StatsError(
            f"first and second must be two of {count} treatments from 0, got "
            f"{first!r} and {second!r}"
        )
    if isinstance(analysis, MrmcUStatistics):
        found = analysis.contrasts if readers == "random" else analysis.fixed_readers
    else:
        test = analysis.random_both if readers == "random" else analysis.fixed_readers
        found = () if test is None else test.contrasts
    one = next((c for c in found if {c.first, c.second} == {first, second}), None)
    if one is None or (one.first, one.second) == (first, second):
        return one
    return Contrast(first, second, -one.difference, se=one.se, df=one.df, reason=one.reason)
