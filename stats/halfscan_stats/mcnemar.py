"""McNemar's test of paired proportions: whether one side finds more than the other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy.typing as npt
from scipy import special

from halfscan_stats.proportions import paired_counts, score_limits
from halfscan_stats.ratings import check_level
from halfscan_stats.result import Interval, Reason, TestResult

__all__ = ["McNemar", "mcnemar"]

SPSS_EXACT_BELOW = 25  # discordant pairs: NPAR TESTS uses the binomial distribution below


@dataclass(frozen=True, slots=True)
class McNemar(TestResult):
    """What McNemar's test answers; `p_value` is the exact one, whatever the counts.

    Parameters
    ----------
    method, n, n_given, p_value, reason
        See `TestResult`; n counts pairs, or the discordant ones alone where b and c were given
        without n: `method` and `difference_reason` say so. `statistic` is None: the exact test
        has none.
    b, c : int
        Pairs that are positive on the first side only, and on the second side only.
    difference : float or None
        (b - c) / n; None where n was not given.
    interval : Interval or None
        Of the difference, by Tango's score.
    difference_reason : Reason or None
        Why both are None: ``pairs_unknown`` or, without a pair, ``too_few``.
    odds_ratio : float or None
        b / c, conditional; None where c is 0.
    odds_ratio_low, odds_ratio_high : float or None
        Its exact limits (Clopper-Pearson on b / (b + c)); None where there is no upper limit.
    odds_ratio_reason : Reason or None
        Why one of the three is None.
    p_midp : float or None
        Mid-p, which is less conservative.
    chi2, p_asymptotic : float or None
        Chi-square with 1 degree of freedom, uncorrected.
    chi2_corrected, p_corrected : float or None
        The same with Edwards' continuity correction.
    p_spss : float
        What SPSS prints (NPAR TESTS): exact below 25 discordant pairs, else corrected.
    """

    b: int = 0
    c: int = 0
    difference: float | None = None
    interval: Interval | None = None
    difference_reason: Reason | None = None
    odds_ratio: float | None = None
    odds_ratio_low: float | None = None
    odds_ratio_high: float | None = None
    odds_ratio_reason: Reason | None = None
    p_midp: float | None = None
    chi2: float | None = None
    p_asymptotic: float | None = None
    chi2_corrected: float | None = None
    p_corrected: float | None = None
    p_spss: float | None = None

    @property
    def p_exact(self) -> float | None:
        """The exact binomial p-value: `p_value` under its own name."""
        return self.p_value


def mcnemar(
    first: npt.ArrayLike | None = None,
    second: npt.ArrayLike | None = None,
    n: int | None = None,
    *,
    b: int | None = None,
    c: int | None = None,
    table: npt.ArrayLike | None = None,
    categories: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> McNemar:
    """Test whether two paired proportions are equal.

    Under H0 the b + c discordant pairs fall on either side with probability 1/2. The exact p-value
    doubles the smaller binomial tail; mid-p [1]_ and the asymptotic chi-square [2]_ stand beside
    it. Observations within a patient are not independent: `clustered_mcnemar` allows for that.

    Parameters
    ----------
    first, second : array_like
        (pair,), the answers of either side, None or NaN where missing (pairwise deletion); or the
        counts b and c.
    n : int, optional
        Pairs, where counts are given; needed for the difference. Beside a table it must be the
        sum of the table.
    b, c : int, optional
        Pairs that are positive on the first side only, and on the second side only.
    table : array_like, optional
        (2, 2), first side down, second across, positive first: [[a, b], [c, d]].
    categories : sequence of two, optional
        What stands for negative and for positive; 0 and 1 without it.
    level : float
        Confidence level of the intervals.

    Returns
    -------
    McNemar
        Without a discordant pair the exact p is 1 and everything else None (`no_discordant`);
        without a pair p is None (`too_few`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Fagerland MW, Lydersen S, Laake P (2013). BMC Med Res Methodol 13:91.
    .. [2] McNemar Q (1947). Psychometrika 12:153-157.
    """
    check_level(level)
    counts = paired_counts(first, second, n, b=b, c=c, table=table, categories=categories)
    b, c = counts.b, counts.c
    method = "McNemar, exact binomial (two-sided)"
    pairs = counts.n_given if counts.n is None else counts.n
    if counts.n == 0:
        few = Reason.TOO_FEW
        return McNemar(method, 0, counts.n_given, reason=few, difference_reason=few)
    if counts.n is None:
        method += "; n counts the discordant pairs alone"
    difference, interval = None, None
    if counts.n is not None:
        difference = (b - c) / counts.n
        limits = score_limits(b, c, counts.n, float(special.ndtri((1 + level) / 2)))
        interval = Interval(*limits, level)
    low, high = _odds_limits(b, c, level)
    exact, midp = _binomial(b, c)
    discordant = b + c > 0
    chi2 = (b - c) ** 2 / (b + c) if discordant else None
    corrected = max(abs(b - c) - 1, 0) ** 2 / (b + c) if discordant else None
    p_corrected = _upper(corrected)
    return McNemar(
        method,
        pairs,
        counts.n_given,
        p_value=exact,
        reason=None if discordant else Reason.NO_DISCORDANT,
        b=b,
        c=c,
        difference=difference,
        interval=interval,
        difference_reason=Reason.PAIRS_UNKNOWN if counts.n is None else None,
        odds_ratio=b / c if c else None,
        odds_ratio_low=low,
        odds_ratio_high=high,
        odds_ratio_reason=_odds_reason(b, c),
        p_midp=midp,
        chi2=chi2,
        p_asymptotic=_upper(chi2),
        chi2_corrected=corrected,
        p_corrected=p_corrected,
        p_spss=exact if b + c < SPSS_EXACT_BELOW else p_corrected,
    )


def _binomial(b: int, c: int) -> tuple[float, float | None]:
    """Two-sided exact p, and mid-p."""
    m, smaller = b + c, min(b, c)
    if m == 0:
        return 1.0, None
    tail = float(special.bdtr(smaller, m, 0.5))
    probability = tail - (float(special.bdtr(smaller - 1, m, 0.5)) if smaller else 0.0)
    midp = 1 - probability / 2 if b == c else 2 * tail - probability
    return min(1.0, 2 * tail), midp


def _upper(chi2: float | None) -> float | None:
    """Upper tail of chi-square with 1 degree of freedom."""
    return None if chi2 is None else float(special.chdtrc(1, chi2))


def _odds_limits(b: int, c: int, level: float) -> tuple[float, float | None]:
    """Limits of b / c from the exact ones of b / (b + c)."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(b, c + 1, tail)) if b else 0.0
    high = float(special.betaincinv(b + 1, c, 1 - tail)) if c else 1.0
    return low / (1 - low), high / (1 - high) if high < 1 else None


def _odds_reason(b: int, c: int) -> Reason | None:
    if c:
        return None
    return Reason.UNBOUNDED if b else Reason.NO_DISCORDANT
