"""Intraclass correlation, all six forms, from the mean squares of the analysis of variance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from halfscan_stats.differences import check_magnitude
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import f_quantile, f_survival, t_quantile
from halfscan_stats.ratings import (
    ArrayLike,
    Codes,
    Numbers,
    check_level,
    cluster_codes,
    numbers,
    subject_by_reader,
)
from halfscan_stats.result import Estimate, Interval, Reason

__all__ = ["ICC_FORMS", "Icc", "MeanSquares", "icc", "icc_forms"]

# Names of McGraw & Wong, the one to report first; and what Shrout & Fleiss and others call them.
ICC_FORMS = {
    "A,1": "two-way random, absolute agreement, single reader",
    "A,k": "two-way random, absolute agreement, mean of k readers",
    "C,1": "two-way mixed, consistency, single reader",
    "C,k": "two-way mixed, consistency, mean of k readers",
    "1,1": "one-way random, single reader",
    "1,k": "one-way random, mean of k readers",
}
_SYNONYMS = {
    "A1": "A,1",
    "2,1": "A,1",
    "2": "A,1",
    "AK": "A,k",
    "2,K": "A,k",
    "2K": "A,k",
    "C1": "C,1",
    "3,1": "C,1",
    "3": "C,1",
    "CK": "C,k",
    "3,K": "C,k",
    "3K": "C,k",
    "1,1": "1,1",
    "1": "1,1",
    "1,K": "1,k",
    "1K": "1,k",
    "K": "1,k",
}
# Root of a mean square over the largest score, below which there is only rounding left.
_ROUNDING = 1e-12
# Share of its terms below which a sum of mean squares is zero but for rounding.
_CANCELLED = 1e-9


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """Mean squares of subjects by readers, complete data.

    Parameters
    ----------
    subjects, readers, error : float
        Two-way: MSR between subjects, MSC between readers, MSE of what is left [units squared].
    within : float
        One-way: MSW within subjects.
    n, k : int
        Subjects and readers, at least 2 each.
    """

    subjects: float
    readers: float
    error: float
    within: float
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class Icc(Estimate):
    """An intraclass correlation, with its F test and the mean squares that it comes from.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; n counts subjects with all ratings.
    form : str
        ``A,1``, ``A,k``, ``C,1``, ``C,k``, ``1,1`` or ``1,k``.
    n_readers : int
        Readers.
    f, df1, df2, p_value : float or None
        F test of the hypothesis that the ICC is 0, and its degrees of freedom.
    mean_squares : MeanSquares or None
        None without 2 subjects and 2 readers.
    n_clusters : int or None
        Clusters (patients); None without `cluster`.
    cluster_se, cluster_interval : float, Interval or None
        With subjects nested in clusters.
    cluster_reason : Reason or None
        Why they are None although clusters were given.
    """

    form: str = "A,1"
    n_readers: int = 2
    f: float | None = None
    df1: float | None = None
    df2: float | None = None
    p_value: float | None = None
    mean_squares: MeanSquares | None = None
    n_clusters: int | None = None
    cluster_se: float | None = None
    cluster_interval: Interval | None = None
    cluster_reason: Reason | None = None


def icc(
    ratings: ArrayLike,
    second: ArrayLike | None = None,
    *,
    form: str = "A,1",
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> Icc:
    """Intraclass correlation with its interval [1]_ [2]_.

    Parameters
    ----------
    ratings : array_like
        (subject, reader), or (subject,) with `second`. None and NaN are missing: subjects with
        all ratings are used.
    second : array_like, optional
        (subject,), the second of two readers.
    form : str
        ``A,1`` (two-way, absolute agreement, single reader), ``A,k``, ``C,1``, ``C,k`` (two-way,
        consistency), ``1,1`` or ``1,k`` (one-way); the names of Shrout & Fleiss (``ICC(2,1)``,
        ``ICC2``, ``ICC3k``) are understood too.
    level : float
        Confidence level.
    cluster : array_like, optional
        (subject,), the patient of each, where several subjects (levels, protocols) share one;
        adds the interval of the jackknife over clusters, with K - 1 degrees of freedom.

    Returns
    -------
    Icc
        The interval is written on mean squares and needs no division by MSE: readers who differ
        by a constant (MSE = 0) have ICC(A,1) with its interval. Negative values are reported.
        Undefined answers: ``no_variation`` (None), ``perfect_agreement`` (1, no interval; for
        consistency readers may differ by a constant), ``too_few`` (None, below 2 subjects or 2
        readers), ``negative_variance`` (None, where the total variance comes out negative and the
        ratio above 1). ``rater_constant`` stands beside a value where a reader gave one score
        throughout; ``negative_variance`` beside a negative one without an interval.

    Raises
    ------
    StatsError
        On an unknown form, a wrong shape, or scores that are no numbers.

    Notes
    -----
    The p-value of agreement is that of F = MSR / MSE with n - 1 and Satterthwaite's degrees of
    freedom at the estimate, as R's irr computes it; programs that take (n - 1) (k - 1) instead
    print a smaller one for the same F.

    References
    ----------
    .. [1] McGraw KO, Wong SP. Forming inferences about some intraclass correlation coefficients.
       Psychol Methods 1996;1:30-46. doi:10.1037/1082-989X.1.1.30
    .. [2] Shrout PE, Fleiss JL. Intraclass correlations: uses in assessing rater reliability.
       Psychol Bull 1979;86:420-428. doi:10.1037/0033-2909.86.2.420
    """
    return icc_forms(ratings, second, forms=(form,), level=level, cluster=cluster)[0]


def icc_forms(
    ratings: ArrayLike,
    second: ArrayLike | None = None,
    *,
    forms: tuple[str, ...] = tuple(ICC_FORMS),
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> tuple[Icc, ...]:
    """Several forms of the intraclass correlation from one analysis of variance.

    Parameters
    ----------
    ratings, second, level, cluster
        See `icc`.
    forms : tuple of str
        Which; without it all six, ICC(A,1) first.

    Returns
    -------
    tuple of Icc
        In the order of `forms`.

    Raises
    ------
    StatsError
        As `icc`.
    """
    names, level = [_form(form) for form in forms], check_level(level)
    scores = numbers(subject_by_reader(ratings, second), "ratings")
    check_magnitude(scores[~np.isnan(scores)])
    missing = np.isnan(scores)
    kept = np.ones(len(scores), dtype=np.bool_)
    if missing.any():
        kept = np.asarray(~missing.any(axis=1))
        scores = scores[kept]
    squares = _mean_squares(scores)
    constant = squares is not None and any((column == column[0]).all() for column in scores.T)
    answers = [
        _answer(name, squares, scores.shape, kept.size, level, constant=constant) for name in names
    ]
    if cluster is None:
        return tuple(answers)
    codes, n_clusters = cluster_codes(cluster, kept)
    left_out = _left_out(scores, codes, n_clusters) if squares else None
    return tuple(_with_clusters(answer, left_out, n_clusters, level) for answer in answers)


def _form(form: str) -> str:
    plain = str(form).upper().replace(" ", "").removeprefix("ICC").strip("()")
    exact = {name.upper(): name for name in ICC_FORMS}
    found = exact.get(plain) or _SYNONYMS.get(plain)
    if found is None:
        raise StatsError(f"form must be one of {', '.join(ICC_FORMS)}, got {form!r}")
    return found


def _mean_squares(scores: Numbers) -> MeanSquares | None:
    """Analysis of variance of complete scores; mean squares of rounding alone become 0."""
    n, k = scores.shape
    if n < 2 or k < 2:
        return None
    rest = scores - scores.mean()
    largest = max(float(scores.max()), -float(scores.min()))
    # einsum, because sums along a short axis are slow, and threads of BLAS where cores are busy.
    rows, columns = np.einsum("ij->i", rest) / k, np.einsum("ij->j", rest) / n
    subjects, readers = k * _squares(rows) / (n - 1), n * _squares(columns) / (k - 1)
    rest -= rows[:, None]
    within = _squares(rest) / (n * (k - 1))
    rest -= columns[None, :]
    error = _squares(rest) / ((n - 1) * (k - 1))
    noise = (_ROUNDING * largest) ** 2
    subjects, readers, error, within = (
        0.0 if square <= noise else square for square in (subjects, readers, error, within)
    )
    return MeanSquares(subjects, readers, error, within, n, k)


def _squares(values: Numbers) -> float:
    """Sum of squares."""
    flat = values.ravel()
    return float(np.einsum("i,i->", flat, flat))


def _ratio(form: str, squares: MeanSquares) -> tuple[float, float]:
    """The ICC as numerator and denominator."""
    n, k = squares.n, squares.k
    error = squares.within if form.startswith("1") else squares.error
    bottom = squares.subjects
    if form.endswith("1"):
        bottom += (k - 1) * error
    if form.startswith("A"):
        bottom += (squares.readers - error) / n * (k if form == "A,1" else 1)
    return squares.subjects - error, bottom


def _answer(
    form: str,
    squares: MeanSquares | None,
    shape: tuple[int, ...],
    n_given: int,
    level: float,
    *,
    constant: bool,
) -> Icc:
    """One form; `constant` tells that a reader gave one score throughout."""
    fields: dict[str, Any] = {
        "method": f"ICC({form}): {ICC_FORMS[form]} (McGraw & Wong 1996)",
        "n": shape[0],
        "n_given": n_given,
        "form": form,
        "n_readers": shape[1],
        "mean_squares": squares,
    }
    if squares is None:
        return Icc(**fields, reason=Reason.TOO_FEW)
    value, reason = _value(form, squares)
    fields["value"] = value
    if reason in (None, Reason.NEGATIVE_VARIANCE) and value is not None:
        fields |= _f_test(form, squares)
    if reason is not None:
        return Icc(**fields, reason=reason)
    limits = _limits(form, squares, level)
    if limits is None or value is None or not limits[0] <= value <= limits[1]:
        return Icc(**fields, reason=Reason.NEGATIVE_VARIANCE)
    reason = Reason.RATER_CONSTANT if constant else None
    return Icc(**fields, interval=Interval(*limits, level), reason=reason)


def _value(form: str, squares: MeanSquares) -> tuple[float | None, Reason | None]:
    """The ICC, and why it has no interval."""
    top, bottom = _ratio(form, squares)
    error = squares.within if form.startswith("1") else squares.error
    if abs(bottom) <= _CANCELLED * (squares.subjects + squares.readers + squares.within):
        return None, _no_ratio(squares)
    if error == 0 and (squares.readers == 0 or not form.startswith("A")):
        return 1.0, Reason.PERFECT_AGREEMENT
    if squares.subjects == error == 0:  # every reader gave one score, and not the same
        return 0.0, Reason.RATER_CONSTANT
    if bottom < 0 or squares.subjects == 0:
        # Below zero the numerator is too, and larger: above 1 nothing is a share of variance.
        # Without spread between subjects the interval would have no width.
        return None if bottom < 0 else top / bottom, Reason.NEGATIVE_VARIANCE
    if abs(top) <= 1e-14 * (squares.subjects + error):
        return 0.0, None  # a constant reader: the mean squares differ by rounding
    return top / bottom, None


def _no_ratio(squares: MeanSquares) -> Reason:
    """Why the denominator is zero."""
    if squares.subjects == squares.within == 0:
        return Reason.NO_VARIATION
    return Reason.RATER_CONSTANT if squares.error == 0 else Reason.NEGATIVE_VARIANCE


def _satterthwaite(squares: MeanSquares) -> float | None:
    """Degrees of freedom of the denominator of ICC(A,1), free of a division by MSE.

    None where that denominator is zero: neither subjects nor readers differ.
    """
    n, k = squares.n, squares.k
    top, bottom = _ratio("A,1", squares)
    terms = squares.subjects + squares.readers + squares.error
    if abs(bottom) <= _CANCELLED * terms:
        return None
    value = top / bottom
    # As shares of all terms: the squares of large numbers would overflow.
    of_readers = k * value * squares.readers / terms
    of_error = (n * (1 + (k - 1) * value) - k * value) * squares.error / terms
    squared = of_readers**2 / (k - 1) + of_error**2 / ((n - 1) * (k - 1))
    return (of_readers + of_error) ** 2 / squared if squared > _CANCELLED**2 else None


def _f_test(form: str, squares: MeanSquares) -> dict[str, float]:
    """F test of no correlation; with MSE = 0 there is no F, and p is its limit, 0."""
    n, k = squares.n, squares.k
    df1 = float(n - 1)
    if form.startswith("1"):
        error, df2 = squares.within, float(n * (k - 1))
    else:
        error, df2 = squares.error, df1 * (k - 1)
    if form.startswith("A"):
        df2 = _satterthwaite(squares) or df2
    if error == 0:
        return {"df1": df1, "df2": df2, "p_value": 0.0 if squares.subjects > 0 else 1.0}
    f = squares.subjects / error
    return {"f": f, "df1": df1, "df2": df2, "p_value": f_survival(f, df1, df2)}


def _limits(form: str, squares: MeanSquares, level: float) -> tuple[float, float] | None:
    """Limits of the interval; None where they are no interval."""
    if form.startswith("A"):
        limits = _agreement_limits(squares, level)
    else:
        limits = _consistency_limits(squares, level, one_way=form.startswith("1"))
    if limits is None or form.endswith("1"):
        return limits
    # Spearman and Brown: from a single reader to the mean of k.
    k = squares.k
    if 1 + limits[0] * (k - 1) <= _CANCELLED:
        return None
    low, high = (k * limit / (1 + limit * (k - 1)) for limit in limits)
    return low, high


def _agreement_limits(squares: MeanSquares, level: float) -> tuple[float, float] | None:
    """Limits of ICC(A,1), McGraw & Wong table 7, on mean squares."""
    n, k = squares.n, squares.k
    df, tail = _satterthwaite(squares), (1 - level) / 2
    if not df:
        return None
    # The reciprocals of the upper quantiles: finite where degrees of freedom are next to none.
    upper, lower = f_quantile(tail, df, n - 1), f_quantile(tail, n - 1, df)
    spread = k * squares.readers + (k * n - k - n) * squares.error
    bottoms = (spread + n * upper * squares.subjects, lower * spread + n * squares.subjects)
    if min(bottoms) <= 0:
        return None
    low = n * (upper * squares.subjects - squares.error) / bottoms[0]
    high = n * (squares.subjects - lower * squares.error) / bottoms[1]
    # With next to no degrees of freedom both limits are one point, beside the estimate.
    return (low, high) if high - low > _CANCELLED * (1 + abs(low)) else None


def _consistency_limits(
    squares: MeanSquares, level: float, *, one_way: bool
) -> tuple[float, float] | None:
    """Limits of ICC(C,1) and ICC(1,1), McGraw & Wong table 7, on mean squares."""
    n, k = squares.n, squares.k
    error, df = (squares.within, n * (k - 1)) if one_way else (squares.error, (n - 1) * (k - 1))
    tail = (1 + level) / 2
    scales = (error * f_quantile(tail, n - 1, df), error / f_quantile(tail, df, n - 1))
    low, high = (
        (squares.subjects - scale) / (squares.subjects + (k - 1) * scale) for scale in scales
    )
    return low, high


def _left_out(scores: Numbers, clusters: Codes, n_clusters: int) -> list[MeanSquares] | None:
    """Mean squares without each cluster in turn, from sums within the clusters."""
    n, k = scores.shape
    sizes = np.bincount(clusters, minlength=n_clusters)
    if n_clusters < 2 or n - int(sizes.max()) < 2:
        return None
    centred = scores - scores.mean()
    order = np.argsort(clusters, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    columns = np.add.reduceat(centred[order], starts, axis=0)
    rows = np.add.reduceat(centred.sum(axis=1)[order] ** 2, starts)
    squares = np.add.reduceat((centred**2).sum(axis=1)[order], starts)
    left = n - sizes
    column = columns.sum(axis=0) - columns
    row, square = rows.sum() - rows, squares.sum() - squares
    middle = column.sum(axis=1) ** 2 / (left * k)
    of_subjects, of_readers = row / k - middle, (column**2).sum(axis=1) / left - middle
    within = square - row / k
    error = np.maximum(within - of_readers, 0.0)
    table = np.column_stack(
        [
            of_subjects / (left - 1),
            of_readers / (k - 1),
            error / ((left - 1) * (k - 1)),
            within / (left * (k - 1)),
        ]
    )
    table[table <= (_ROUNDING * float(np.abs(scores).max())) ** 2] = 0.0
    return [
        MeanSquares(subjects, readers, error, within, n=count, k=k)
        for (subjects, readers, error, within), count in zip(
            table.tolist(), left.tolist(), strict=True
        )
    ]


def _with_clusters(
    answer: Icc, left_out: list[MeanSquares] | None, n_clusters: int, level: float
) -> Icc:
    """The answer with the interval of the jackknife over clusters beside the naive one."""
    answer = replace(answer, n_clusters=n_clusters)
    if answer.interval is None or answer.value is None:
        return replace(answer, cluster_reason=answer.reason)
    if left_out is None:
        return replace(answer, cluster_reason=Reason.TOO_FEW)
    ratios = [_ratio(answer.form, squares) for squares in left_out]
    if any(bottom <= 0 for _, bottom in ratios):
        return replace(answer, cluster_reason=Reason.UNDEFINED_RESAMPLES)
    values = np.array([top / bottom for top, bottom in ratios])
    away = values - values.mean()
    se = math.sqrt((n_clusters - 1) / n_clusters * float(away @ away))
    half = t_quantile((1 + level) / 2, n_clusters - 1) * se
    # An ICC has no lower bound of its own that its estimates keep, only the upper one.
    limits = answer.value - half, min(answer.value + half, 1.0)
    return replace(answer, cluster_se=se, cluster_interval=Interval(*limits, level))
