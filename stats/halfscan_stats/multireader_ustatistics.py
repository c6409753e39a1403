"""Many readers, many cases, any design: the U-statistics of Gallas.

Not every reader has to read every case with every treatment: readers may share the cases out
(split plot), or ratings may be missing. The variance of the area under the curve, averaged over
readers, is put together from the pairs of comparisons that the design has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from halfscan_stats.multireader import rated_cases
from halfscan_stats.multireader_contrast import (
    Contrast,
    contrast_of,
    spread_reason,
    student_quantile,
)
from halfscan_stats.multireader_moments import RANDOM, Moments, SuccessCounts, success_counts
from halfscan_stats.ratings import Numbers, check_level
from halfscan_stats.result import Estimate, Interval, Reason

__all__ = ["MrmcMoments", "MrmcUStatistics", "mrmc_ustatistics"]

NOISE = 1e-14  # of squared areas: below is rounding


@dataclass(frozen=True, slots=True)
class MrmcMoments:
    """What the covariance of the mean areas of two treatments is made of.

    Parameters
    ----------
    first, second : int
        The treatments, from 0; the same one twice for a variance.
    values : tuple of float or None
        M1 to M8: the chance that two comparisons both succeed that share reader and both cases;
        reader and positive case; reader and negative case; the reader alone; then the same with
        two readers. None where the design has none such.
    coefficients : tuple of float
        What each is multiplied with; those of the design alone.
    covariance : float or None
        Their sum: unbiased; None without two readers who read different cases.
    """

    first: int
    second: int
    values: tuple[float | None, ...]
    coefficients: tuple[float, ...]
    covariance: float | None


@dataclass(frozen=True, slots=True)
class MrmcUStatistics(Estimate):
    """What the analysis answers.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`: the first treatment minus the second, readers and cases random. n counts
        cases with a truth and at least one rating.
    design : str
        ``fully crossed``, ``paired split plot`` (every reader read the same cases with all
        treatments, but not all of the study) or ``incomplete``.
    n_positive, n_negative, n_readers, n_treatments, n_ratings : int
        Cases with and without the finding, readers with a comparison, treatments, ratings.
    figures : tuple of tuple of float or None
        (treatment, reader), areas under the curve; None where a reader did not rate a case of
        either kind.
    treatments : tuple of Estimate
        (treatment,), areas over all comparisons of all readers; intervals for random readers and
        cases.
    moments : tuple of MrmcMoments
        Every treatment with itself and with those after it.
    contrasts, fixed_readers : tuple of Contrast
        Every pair of treatments: for readers and cases like these, and for these readers.
    """

    design: str = "fully crossed"
    n_positive: int = 0
    n_negative: int = 0
    n_readers: int = 0
    n_treatments: int = 0
    n_ratings: int = 0
    figures: tuple[tuple[float | None, ...], ...] = ()
    treatments: tuple[Estimate, ...] = ()
    moments: tuple[MrmcMoments, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    fixed_readers: tuple[Contrast, ...] = ()

    @property
    def p_value(self) -> float | None:
        """P-value of the first difference, readers and cases random."""
        return self.contrasts[0].p_value if self.contrasts else None


def mrmc_ustatistics(
    ratings: npt.ArrayLike, truth: npt.ArrayLike, *, paired: bool = False, level: float = 0.95
) -> MrmcUStatistics:
    """Compare the areas under the curve of treatments in a design of any kind [1]_, [2]_, [3]_.

    Parameters
    ----------
    ratings : array_like
        (treatment, reader, case); a higher rating is more suspicion, None or NaN where a reader
        did not read a case with a treatment.
    truth : array_like
        (case,), 1 (or True) with the finding, 0 without it, None where unknown.
    paired : bool
        Take the ratings of a reader and a case only where there is one for every treatment. With
        ratings that lack here and there that is better than to take them all, see Notes.
    level : float
        Confidence level.

    Returns
    -------
    MrmcUStatistics
        An area is the share of all comparisons that succeed: a reader counts by the comparisons
        that he or she made. One reader: only `fixed_readers` answers, the variance is the
        unbiased version of DeLong's. One positive or negative case: no variance (`too_few`).
        An unbiased variance may come out below zero (`negative_variance`).

    Raises
    ------
    StatsError
        If the input breaks a rule.

    Notes
    -----
    Degrees of freedom are Satterthwaite's, as the program iMRMC has them (``dfBDG``): the squared
    variance over the sum, for negative cases, positive cases and readers, of
    ``component**2 / df**3``, with components from the biased moments; at least the smallest of
    the three. Student's t takes them as they are; iMRMC rounds them down, and takes the normal
    distribution above 50.

    What is missing with one treatment alone makes the variance of a difference noisy: what readers
    and cases have in common no longer cancels. With a fifth of the ratings of 6 readers and 120
    cases missing (800 simulated studies) it came out negative in 11 % and the 95 % intervals of the
    others covered .911; paired, in none, and .949, with no larger spread of the difference (0.0359
    against 0.0364). A split plot, whose readers read their cases with all treatments, is the same
    either way.

    References
    ----------
    .. [1] Gallas BD (2006). Acad Radiol 13:353-362.
    .. [2] Gallas BD, Brown DG (2008). Neural Netw 21:387-397.
    .. [3] Gallas BD, Bandos A, Samuelson FW, Wagner RF (2009). Commun Stat Theory Methods
       38:2586-2603.
    """
    check_level(level)
    scores, known = rated_cases(ratings, truth)
    if paired:
        scores = np.where(np.isnan(scores).any(axis=0), np.nan, scores)
    kept = ~np.isnan(known) & ~np.isnan(scores).all(axis=(0, 1))
    positive = known[kept] == 1
    rated = scores[:, :, kept]
    shape = (scores.shape[0], scores.shape[1])
    flat = rated.reshape(shape[0] * shape[1], -1)
    counts = success_counts(flat[:, positive], flat[:, ~positive], shape)
    analysis = _Analysis(counts, int(positive.size), known.size, level)
    return _answer(analysis, rated, positive)


@dataclass(frozen=True, slots=True)
class _Analysis:
    """What every part of the answer starts from."""

    counts: SuccessCounts
    n: int
    n_given: int
    level: float

    @property
    def method(self) -> str:
        return "U-statistics of any design (Gallas 2006, 2009), auc"

    def table(self, values: Numbers) -> Numbers:
        """Give what belongs to the rows as (treatment, reader)."""
        return values.reshape(self.counts.shape)

    @property
    def areas(self) -> list[float | None]:
        """Areas of the treatments over all comparisons."""
        wins, pairs = (
            self.table(sums).sum(axis=1) for sums in (self.counts.wins, self.counts.pairs)
        )
        return [
            float(won / made) if made > 0 else None for won, made in zip(wins, pairs, strict=True)
        ]


def _answer(
    analysis: _Analysis, rated: Numbers, positive: npt.NDArray[np.bool_]
) -> MrmcUStatistics:
    """Put the parts together."""
    counts, t = analysis.counts, analysis.counts.shape[0]
    pairs = {
        (i, j): counts.moments(i, j)
        for i in range(t)
        for j in range(i, t)
        if None not in (analysis.areas[i], analysis.areas[j])
    }
    contrasts = _contrasts(analysis, pairs)
    first = next(iter(contrasts), None)
    made = analysis.table(counts.pairs)
    return MrmcUStatistics(
        analysis.method,
        analysis.n,
        analysis.n_given,
        value=None if first is None else first.difference,
        interval=None if first is None else first.interval,
        reason=Reason.TOO_FEW if first is None else first.reason,
        design=_design(rated),
        n_positive=int(positive.sum()),
        n_negative=int((~positive).sum()),
        n_readers=int((made > 0).any(axis=0).sum()),
        n_treatments=t,
        n_ratings=int((~np.isnan(rated)).sum()),
        figures=_figures(analysis),
        treatments=tuple(_treatment(analysis, i, pairs.get((i, i))) for i in range(t)),
        moments=tuple(
            MrmcMoments(i, j, m.values, tuple(map(float, m.coefficients)), m.covariance)
            for (i, j), m in pairs.items()
        ),
        contrasts=contrasts,
        fixed_readers=_fixed_readers(analysis),
    )


def _design(rated: Numbers) -> str:
    """Name the design by which ratings there are (treatment, reader, case)."""
    there = ~np.isnan(rated)
    if there.all():
        return "fully crossed"
    return "paired split plot" if (there == there[:1]).all() else "incomplete"


def _figures(analysis: _Analysis) -> tuple[tuple[float | None, ...], ...]:
    wins, pairs = (analysis.table(sums) for sums in (analysis.counts.wins, analysis.counts.pairs))
    return tuple(
        tuple(
            float(won / made) if made > 0 else None
            for won, made in zip(won_row, made_row, strict=True)
        )
        for won_row, made_row in zip(wins, pairs, strict=True)
    )


def _contrasts(analysis: _Analysis, pairs: dict[tuple[int, int], Moments]) -> tuple[Contrast, ...]:
    """Differences with the variance of random readers and cases."""
    found = []
    for i, j in combinations(range(len(analysis.areas)), 2):
        if (i, j) not in pairs:
            continue
        moments = pairs[i, i], pairs[j, j], pairs[i, j]
        parts = [one.covariance for one in moments]
        variance = None
        if parts[0] is not None and parts[1] is not None and parts[2] is not None:
            variance = parts[0] + parts[1] - 2 * parts[2]
        df = _df(variance, moments, (1.0, 1.0, -2.0))
        found.append(_contrast(analysis, i, j, variance, df))
    return tuple(found)


def _fixed_readers(analysis: _Analysis) -> tuple[Contrast, ...]:
    """Differences for these readers: from the covariance of their areas, normal distribution."""
    matrix, known = analysis.counts.covariance()
    made = analysis.table(analysis.counts.pairs)
    found = []
    for i, j in combinations(range(len(made)), 2):
        if made[i].sum() == 0 or made[j].sum() == 0:
            continue
        weights = np.zeros_like(made)
        weights[i], weights[j] = made[i] / made[i].sum(), -made[j] / made[j].sum()
        flat = weights.ravel()
        used = flat != 0
        told = known[np.ix_(used, used)].all()
        variance = float(flat @ matrix @ flat) if told else None
        found.append(_contrast(analysis, i, j, variance, None))
    return tuple(found)


def _contrast(
    analysis: _Analysis, i: int, j: int, variance: float | None, df: float | None
) -> Contrast:
    one, other = analysis.areas[i], analysis.areas[j]
    difference = (one or 0.0) - (other or 0.0)
    if variance is None:
        return Contrast(i, j, difference, reason=Reason.TOO_FEW)
    if variance <= NOISE:
        return Contrast(i, j, difference, reason=spread_reason(variance, NOISE))
    return contrast_of(i, j, difference, math.sqrt(variance), df, analysis.level)


def _df(
    variance: float | None, moments: tuple[Moments, ...], signs: tuple[float, ...]
) -> float | None:
    """Satterthwaite's degrees of freedom; None where there are none or they are infinite."""
    if variance is None or variance <= NOISE:
        return None
    # A covariance has no degrees of freedom of its own.
    own = [one for one, sign in zip(moments, signs, strict=True) if sign > 0]
    least = {name: max(1, min(one.df(name) for one in own)) for name in RANDOM}
    spread = sum(
        sum(sign * one.component(name) for one, sign in zip(moments, signs, strict=True)) ** 2
        / least[name] ** 3
        for name in RANDOM
    )
    if spread <= NOISE**2:
        return None
    return max(variance**2 / spread, float(min(least.values())))


def _treatment(analysis: _Analysis, i: int, moments: Moments | None) -> Estimate:
    """The area of one treatment, readers and cases random."""
    method = f"{analysis.method}, one treatment, readers and cases random"
    area, variance = analysis.areas[i], None if moments is None else moments.covariance
    interval, reason = None, Reason.TOO_FEW
    if area is not None and variance is not None and moments is not None:
        reason = spread_reason(variance, NOISE)
        if variance > NOISE:
            df = _df(variance, (moments,), (1.0,))
            reach = student_quantile((1 + analysis.level) / 2, df) * math.sqrt(variance)
            interval = Interval(max(area - reach, 0.0), min(area + reach, 1.0), analysis.level)
    return Estimate(
        method,
        analysis.n,
        analysis.n_given,
        value=area,
        interval=interval,
        reason=reason if interval is None else None,
    )
