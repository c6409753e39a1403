"""Many readers, many cases (MRMC): whether a treatment changes what they achieve.

The method of Obuchowski and Rockette with the degrees of freedom of Hillis: an analysis of
variance of the readers' figures of merit, corrected for the covariance that they have because all
readers read the same cases. A treatment is what the readers look at: standard or accelerated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.figures import Figures, covariance_matrix, figures_of
from halfscan_stats.multireader_contrast import (
    Contrast,
    contrast_of,
    spread_reason,
    student_quantile,
)
from halfscan_stats.ratings import Numbers, check_level, generator, numbers
from halfscan_stats.result import Estimate, Interval, Reason, Result

__all__ = [
    "MrmcTest",
    "ObuchowskiRockette",
    "VarianceComponents",
    "obuchowski_rockette",
]

NOISE = 1e-28  # of squared figures of merit: below is rounding


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Where the spread of the figures of merit comes from; None where it cannot be told.

    Parameters
    ----------
    reader, treatment_reader : float or None
        Variance between readers, and of the interaction of treatment and reader, as they come
        out of the mean squares: an estimate may be negative.
    error : float or None
        Variance of one reader's figure because other cases could have been drawn.
    cov1, cov2, cov3 : float or None
        Covariance of two figures: same reader, other treatment; other reader, same treatment;
        both other.
    ms_treatment, ms_reader, ms_treatment_reader : float or None
        Mean squares.
    """

    reader: float | None = None
    treatment_reader: float | None = None
    error: float | None = None
    cov1: float | None = None
    cov2: float | None = None
    cov3: float | None = None
    ms_treatment: float | None = None
    ms_reader: float | None = None
    ms_treatment_reader: float | None = None


@dataclass(frozen=True, slots=True)
class MrmcTest(Result):
    """A test of all treatments, and their differences.

    Parameters
    ----------
    method, n, n_given
        See `Result`; n counts cases.
    f : float or None
        F statistic of H0: all treatments are equal.
    df1 : int or None
        Treatments - 1.
    df2 : float or None
        Denominator degrees of freedom; None where they are infinite (normal distribution).
    p_value : float or None
        Of F.
    contrasts : tuple of Contrast
        Every pair of treatments.
    reason : Reason or None
        Why p is None.
    """

    f: float | None = None
    df1: int | None = None
    df2: float | None = None
    p_value: float | None = None
    contrasts: tuple[Contrast, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class ObuchowskiRockette(Estimate):
    """What the analysis answers.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`: the first treatment minus the second, readers and cases random. n counts
        cases.
    figure, covariance : str
        Figure of merit, and how its covariance was estimated.
    n_positive, n_negative, n_readers, n_treatments : int
        Cases with and without the finding, readers, treatments.
    figures : tuple of tuple of float
        (treatment, reader), figures of merit.
    treatments : tuple of Estimate
        (treatment,), means over readers; intervals for random readers and cases.
    components : VarianceComponents
        Variance components and mean squares.
    random_both, fixed_readers, fixed_cases : MrmcTest or None
        Conclusions for: readers and cases like these; these readers, cases like these; readers
        like these, these cases.
    """

    figure: str = "auc"
    covariance: str = "jackknife"
    n_positive: int = 0
    n_negative: int = 0
    n_readers: int = 0
    n_treatments: int = 0
    figures: tuple[tuple[float, ...], ...] = ()
    treatments: tuple[Estimate, ...] = ()
    components: VarianceComponents = VarianceComponents()
    random_both: MrmcTest | None = None
    fixed_readers: MrmcTest | None = None
    fixed_cases: MrmcTest | None = None

    @property
    def p_value(self) -> float | None:
        """P-value of the treatments, readers and cases random."""
        return None if self.random_both is None else self.random_both.p_value


def obuchowski_rockette(
    ratings: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    figure: str = "auc",
    covariance: str = "jackknife",
    threshold: float | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    rng: np.random.Generator | int = 0,
) -> ObuchowskiRockette:
    """Compare treatments that many readers used on the same cases [1]_, [2]_.

    Parameters
    ----------
    ratings : array_like
        (treatment, reader, case); a higher rating is more suspicion. A case that lacks a rating
        is left out.
    truth : array_like
        (case,), 1 (or True) with the finding, 0 without it, None where unknown.
    figure : {"auc", "sensitivity", "specificity"}
        Figure of merit: area under the empirical curve, or a share of cases at `threshold`.
    covariance : {"jackknife", "delong", "bootstrap", "unbiased"}
        Estimate of the covariance of the figures: cases left out one by one; structural
        components [3]_; cases resampled within positives and within negatives; or the unbiased
        estimate of the U-statistics [4]_ (AUC only).
    threshold : float, optional
        Ratings at or above are positive calls. Needed for sensitivity and specificity unless the
        ratings are 0 and 1; refused for the AUC, which has none.
    level : float
        Confidence level.
    n_resamples, rng
        Resamples and source of randomness (or its seed) of the bootstrap.

    Returns
    -------
    ObuchowskiRockette
        One reader: only `fixed_readers` answers, the others say `too_few`. One positive or
        negative case: no covariance, only `fixed_cases` answers. No spread at all:
        `zero_variance`.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Obuchowski NA, Rockette HE (1995). Commun Stat Simul Comput 24:285-308.
    .. [2] Hillis SL (2007). Stat Med 26:596-619.
    .. [3] DeLong ER, DeLong DM, Clarke-Pearson DL (1988). Biometrics 44:837-845.
    .. [4] Gallas BD, Pennello GA, Myers KJ (2007). J Opt Soc Am A 24:B70-B80.
    """
    check_level(level)
    scores, positive, given = _cases(ratings, truth)
    merit = figures_of(scores, positive, figure, threshold)
    name = f"Obuchowski-Rockette (Hillis 2007), {figure}, {covariance} covariance"
    matrix = covariance_matrix(merit, covariance, n_resamples, generator(rng))
    analysis = _Analysis(
        name=name,
        theta=merit.values,
        components=_components(merit.values, matrix),
        matrix=matrix,
        n=positive.size,
        n_given=given,
        level=level,
    )
    return _answer(analysis, merit, figure, covariance)


def _cases(
    ratings: npt.ArrayLike, truth: npt.ArrayLike
) -> tuple[Numbers, npt.NDArray[np.bool_], int]:
    """Give the complete cases: ratings (treatment, reader, case), and which are positive."""
    scores, known = rated_cases(ratings, truth)
    kept = ~np.isnan(known) & ~np.isnan(scores).any(axis=(0, 1))
    return scores[:, :, kept], known[kept] == 1, known.size


def rated_cases(ratings: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Check ratings (treatment, reader, case) and truth (case,); what is missing is NaN."""
    scores, known = numbers(ratings, "ratings"), numbers(truth, "truth")
    if scores.ndim != 3 or 0 in scores.shape[:2]:
        raise StatsError(f"ratings must be (treatment, reader, case), got shape {scores.shape}")
    if known.shape != scores.shape[2:]:
        raise StatsError(
            f"truth must have one value a case ({scores.shape[2]}), got shape {known.shape}"
        )
    if not np.isin(known[~np.isnan(known)], (0, 1)).all():
        raise StatsError("truth must be 1 with the finding and 0 without it")
    return scores, known


@dataclass(frozen=True, slots=True)
class _Analysis:
    """What every conclusion starts from."""

    name: str
    theta: Numbers | None  # (treatment, reader)
    components: VarianceComponents
    matrix: Numbers | None  # covariance of theta, flattened
    n: int
    n_given: int
    level: float


def _components(theta: Numbers | None, matrix: Numbers | None) -> VarianceComponents:
    """Give mean squares and averaged covariances."""
    if theta is None:
        return VarianceComponents()
    t, r = theta.shape
    total, rows, columns = theta.mean(), theta.mean(axis=1), theta.mean(axis=0)
    rest = theta - rows[:, None] - columns[None, :] + total
    ms_t = _mean_square(r * np.sum((rows - total) ** 2), t - 1)
    ms_r = _mean_square(t * np.sum((columns - total) ** 2), r - 1)
    ms_tr = _mean_square(np.sum(rest**2), (t - 1) * (r - 1))
    error, cov1, cov2, cov3 = _averaged(matrix, t, r)
    reader = interaction = None
    if ms_r is not None and ms_tr is not None and error is not None:
        reader = (ms_r - ms_tr) / t - (cov1 or 0.0) + (cov3 or 0.0)
        # Not held at 0: Hillis (2007) does that in the denominators of the tests alone.
        interaction = ms_tr - error + (cov1 or 0.0) + (cov2 or 0.0) - (cov3 or 0.0)
    return VarianceComponents(reader, interaction, error, cov1, cov2, cov3, ms_t, ms_r, ms_tr)


def _mean_square(total: float, df: int) -> float | None:
    if df == 0:
        return None
    square = float(total) / df
    return square if square > NOISE else 0.0


def _averaged(matrix: Numbers | None, t: int, r: int) -> tuple[float | None, ...]:
    """Error, Cov1, Cov2, Cov3: the covariances averaged by what two figures share."""
    if matrix is None:
        return None, None, None, None
    blocks = matrix.reshape(t, r, t, r)
    same_treatment = np.eye(t, dtype=bool)[:, None, :, None]
    same_reader = np.eye(r, dtype=bool)[None, :, None, :]
    kinds = (
        same_treatment & same_reader,
        ~same_treatment & same_reader,
        same_treatment & ~same_reader,
        ~same_treatment & ~same_reader,
    )
    full = (np.broadcast_to(kind, blocks.shape) for kind in kinds)
    return tuple(float(blocks[kind].mean()) if kind.any() else None for kind in full)


def _answer(
    analysis: _Analysis, merit: Figures, figure: str, covariance: str
) -> ObuchowskiRockette:
    """Put the three conclusions together."""
    tests = {
        "random_both": _random_both(analysis),
        "fixed_readers": _fixed_readers(analysis),
        "fixed_cases": _fixed_cases(analysis),
    }
    first = next(iter(tests["random_both"].contrasts), None)
    theta = analysis.theta
    return ObuchowskiRockette(
        analysis.name,
        analysis.n,
        analysis.n_given,
        value=None if first is None else first.difference,
        interval=None if first is None else first.interval,
        reason=tests["random_both"].reason,
        figure=figure,
        covariance=covariance,
        n_positive=merit.n_positive,
        n_negative=merit.n_negative,
        n_readers=merit.n_readers,
        n_treatments=merit.n_treatments,
        figures=() if theta is None else tuple(tuple(map(float, row)) for row in theta),
        treatments=_treatments(analysis),
        components=analysis.components,
        **tests,
    )


def _random_both(analysis: _Analysis) -> MrmcTest:
    """Readers and cases are random: the denominator of Obuchowski and Rockette, df of Hillis."""
    parts, name = analysis.components, "readers and cases random"
    if analysis.theta is None or parts.ms_treatment_reader is None or parts.error is None:
        return _no_test(analysis, name, Reason.TOO_FEW)
    t, r = analysis.theta.shape
    shared = max(r * ((parts.cov2 or 0.0) - (parts.cov3 or 0.0)), 0.0)
    denominator = parts.ms_treatment_reader + shared
    df = None
    if parts.ms_treatment_reader > 0:
        df = (denominator / parts.ms_treatment_reader) ** 2 * (t - 1) * (r - 1)
    return _test(analysis, name, denominator, df)


def _fixed_readers(analysis: _Analysis) -> MrmcTest:
    """Conclude for these readers: only the cases are random."""
    parts, name = analysis.components, "readers fixed, cases random"
    if analysis.theta is None or parts.error is None or parts.cov1 is None:
        return _no_test(analysis, name, Reason.TOO_FEW)
    r = analysis.theta.shape[1]
    shared = max((parts.cov2 or 0.0) - (parts.cov3 or 0.0), 0.0)
    return _test(analysis, name, parts.error - parts.cov1 + (r - 1) * shared, None)


def _fixed_cases(analysis: _Analysis) -> MrmcTest:
    """Conclude for these cases: only the readers are random; no covariance is needed."""
    parts, name = analysis.components, "readers random, cases fixed"
    if analysis.theta is None or parts.ms_treatment_reader is None:
        return _no_test(analysis, name, Reason.TOO_FEW)
    t, r = analysis.theta.shape
    return _test(analysis, name, parts.ms_treatment_reader, (t - 1) * (r - 1))


def _no_test(analysis: _Analysis, name: str, reason: Reason) -> MrmcTest:
    """Give the differences alone."""
    means = () if analysis.theta is None else analysis.theta.mean(axis=1)
    return MrmcTest(
        f"{analysis.name}, {name}",
        analysis.n,
        analysis.n_given,
        contrasts=tuple(
            Contrast(i, j, float(means[i] - means[j]), reason=reason)
            for i, j in combinations(range(len(means)), 2)
        ),
        reason=reason,
    )


def _test(analysis: _Analysis, name: str, denominator: float, df: float | None) -> MrmcTest:
    """Give F and the contrasts from the mean square that the treatments are compared with."""
    theta, ms = analysis.theta, analysis.components.ms_treatment
    if theta is None or ms is None:
        return _no_test(analysis, name, Reason.TOO_FEW)
    if denominator <= NOISE:
        return _no_test(analysis, name, spread_reason(denominator, NOISE))
    t, r = theta.shape
    means, se = theta.mean(axis=1), math.sqrt(2 * denominator / r)
    contrasts = tuple(
        contrast_of(i, j, float(means[i] - means[j]), se, df, analysis.level)
        for i, j in combinations(range(t), 2)
    )
    f = ms / denominator
    above = special.chdtrc(t - 1, f * (t - 1)) if df is None else special.fdtrc(t - 1, df, f)
    return MrmcTest(
        f"{analysis.name}, {name}",
        analysis.n,
        analysis.n_given,
        f=f,
        df1=t - 1,
        df2=df,
        p_value=float(above),
        contrasts=contrasts,
    )


def _treatments(analysis: _Analysis) -> tuple[Estimate, ...]:
    """Give the mean figure of every treatment, readers and cases random (Hillis 2007)."""
    theta, matrix = analysis.theta, analysis.matrix
    if theta is None:
        return ()
    t, r = theta.shape
    method = f"{analysis.name}, one treatment, readers and cases random"
    found = []
    for i in range(t):
        mean = float(theta[i].mean())
        interval = None
        if matrix is not None and r > 1:
            block = matrix.reshape(t, r, t, r)[i, :, i, :]
            cov2 = float(block[~np.eye(r, dtype=bool)].mean())
            interval = _treatment_interval(theta[i], cov2, analysis.level)
        reason = Reason.TOO_FEW if matrix is None or r == 1 else Reason.ZERO_VARIANCE
        found.append(
            Estimate(
                method,
                analysis.n,
                analysis.n_given,
                value=mean,
                interval=interval,
                reason=reason if interval is None else None,
            )
        )
    return tuple(found)


def _treatment_interval(values: Numbers, cov2: float, level: float) -> Interval | None:
    r, ms = values.size, float(values.var(ddof=1))
    total = ms + r * max(cov2, 0.0)
    if total <= NOISE:
        return None
    df = (total / ms) ** 2 * (r - 1) if ms > NOISE else None
    reach = student_quantile((1 + level) / 2, df) * math.sqrt(total / r)
    mean = float(values.mean())
    return Interval(max(mean - reach, 0.0), min(mean + reach, 1.0), level)
