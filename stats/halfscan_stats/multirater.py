"""Agreement of any number of readers: Fleiss' kappa, Gwet's AC1 and AC2, PABAK.

All three are (observed - chance) / (1 - chance) with the same observed agreement, the mean over
subjects of the weighted agreement between pairs of readers; they differ in what they call chance.
Everything follows from the counts (subject, category): how many readers gave a subject a category.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.agreement import agreement_weights, weights_name
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import (
    ROUNDING,
    clipped,
    cluster_fields,
    cluster_sums,
    t_interval,
    two_sided_p,
)
from halfscan_stats.ratings import (
    ArrayLike,
    Codes,
    Counts,
    Numbers,
    check_level,
    cluster_codes,
    coded,
    coded_pairs,
    counts_of,
    pair_table,
    scale_of,
    square_table,
    subject_by_reader,
)
from halfscan_stats.result import Agreement, Reason

__all__ = ["Pabak", "fleiss_kappa", "gwet_ac", "pabak"]

_Scale = Sequence[Hashable] | npt.NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Pabak(Agreement):
    """PABAK, and for two readers on two categories the indices that it adjusts for.

    Parameters
    ----------
    prevalence_index : float or None
        (both first category - both second category) / n, -1 to 1.
    bias_index : float or None
        (first reader alone first category - second reader alone) / n, -1 to 1.
    """

    prevalence_index: float | None = None
    bias_index: float | None = None


@dataclass(frozen=True, slots=True)
class _Ratings:
    """Counts of ratings, and where they come from."""

    counts: Counts  # (row, category), every row with a rating
    frequency: Numbers  # (row,), how many subjects share the row: 1 with ratings
    scale: tuple[Any, ...] | None
    n_given: int
    n_readers: int
    divide_by_n: bool  # the variance of Gwet's formula for the table of two readers
    kept: npt.NDArray[np.bool_]
    by_cluster: Numbers | None = None  # (cluster, row), subjects, where tables were given


@dataclass(frozen=True, slots=True)
class _Terms:
    """The value, its two terms, and what each row adds to it."""

    value: float
    observed: float
    expected: float
    influence: Numbers  # (row,), mean zero


def fleiss_kappa(
    ratings: ArrayLike | None = None,
    second: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    categories: _Scale = None,
    weights: str | None = "none",
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> Agreement:
    """Fleiss' kappa of any number of readers [1]_, weighted and with missing ratings too [3]_.

    Parameters
    ----------
    ratings : array_like
        (subject, reader), or (subject,) with `second`. None and NaN are missing: a subject with
        one rating tells of chance, with two or more of agreement too. n counts the latter.
    second : array_like, optional
        (subject,), the second of two readers.
    counts : array_like, optional
        (subject, category) instead of ratings: how many readers gave that category.
    categories : sequence, optional
        The declared scale in its order; needed for weights with ratings.
    weights : {"none", "linear", "quadratic"}
        See `cohen_kappa`.
    level : float
        Confidence level.
    cluster : array_like, optional
        (subject,), the patient of each; adds the cluster-robust interval.

    Returns
    -------
    Agreement
        The interval is Gwet's, from Student's t with n - 1 degrees of freedom (subjects of one
        rating counted) [3]_, clipped at -1 and 1. z and p rest on the null standard error [2]_,
        which is there where weights are ``none`` and every subject has the same number of
        ratings. Undefined answers: ``no_variation`` (None), ``perfect_agreement`` (1, no
        interval), ``too_few`` (None, below 2 subjects or without a subject that two readers
        rated).

    Raises
    ------
    StatsError
        On ratings outside the scale, or counts that are none.

    References
    ----------
    .. [1] Fleiss JL. Measuring nominal scale agreement among many raters. Psychol Bull
       1971;76:378-382. doi:10.1037/h0031619
    .. [2] Fleiss JL, Nee JCM, Landis JR. Large sample variance of kappa in the case of different
       sets of raters. Psychol Bull 1979;86:974-977. doi:10.1037/0033-2909.86.5.974
    .. [3] Gwet KL. Handbook of inter-rater reliability. 4th ed. Gaithersburg: Advanced Analytics;
       2014. ISBN 978-0-9708062-8-4
    """
    kind, level = weights_name(weights), check_level(level)
    needs = None if kind == "none" else f"Fleiss' kappa with {kind} weights"
    given = _counted(ratings, second, counts, categories, needs)
    answer = _answer(given, "Fleiss' kappa", kind, level, cluster)
    if kind != "none" or answer.value is None:
        return answer
    return replace(answer, **_fleiss_test(given.counts, answer.value))


def gwet_ac(  # noqa: PLR0913  (all but the ratings are keywords)
    ratings: ArrayLike | None = None,
    second: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    table: ArrayLike | None = None,
    tables: ArrayLike | None = None,
    categories: _Scale = None,
    weights: str | None = "none",
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> Agreement:
    """Gwet's AC1 (unweighted) or AC2 (weighted) of any number of readers [1]_ [2]_.

    Parameters
    ----------
    ratings, second, counts, weights, level, cluster
        See `fleiss_kappa`.
    table : array_like, optional
        (category, category) of counts of two readers instead of ratings.
    tables : array_like, optional
        (cluster, category, category): the same for each cluster (patient); adds the
        cluster-robust interval, as `cluster` does with ratings.
    categories : sequence, optional
        The declared scale in its order; needed with ratings, because chance agreement depends
        on the number of categories, used or not.

    Returns
    -------
    Agreement
        The interval is from Student's t with n - 1 degrees of freedom, clipped at -1 and 1. With
        a table the variance divides by n, Gwet's formula for two readers; with ratings or counts
        by n - 1. The one with clusters is linearised, with K - 1 degrees of freedom for K
        clusters. Undefined as in `fleiss_kappa`.

    Raises
    ------
    StatsError
        On ratings outside the scale, an undeclared scale, or counts that are none.

    References
    ----------
    .. [1] Gwet KL. Computing inter-rater reliability and its variance in the presence of high
       agreement. Br J Math Stat Psychol 2008;61:29-48. doi:10.1348/000711006X126600
    .. [2] Gwet KL. Handbook of inter-rater reliability. 4th ed. Gaithersburg: Advanced Analytics;
       2014. ISBN 978-0-9708062-8-4
    """
    kind, level = weights_name(weights), check_level(level)
    name = "Gwet's AC1" if kind == "none" else "Gwet's AC2"
    if table is None and tables is None:
        given = _counted(ratings, second, counts, categories, name)
        return _answer(given, name, kind, level, cluster)
    if any(other is not None for other in (ratings, second, counts, cluster)):
        raise StatsError("table must stand alone, without ratings, counts and cluster")
    if table is not None and tables is not None:
        raise StatsError("table or tables must be given, not both")
    given = _tabled(table, categories) if table is not None else _clustered(tables, categories)  # type: ignore[arg-type]  # not None
    return _answer(given, name, kind, level, None)


def pabak(
    ratings: ArrayLike | None = None,
    second: ArrayLike | None = None,
    *,
    table: ArrayLike | None = None,
    categories: _Scale = None,
    weights: str | None = "none",
    level: float = 0.95,
    cluster: ArrayLike | None = None,
) -> Pabak:
    """Prevalence- and bias-adjusted kappa [1]_; for k categories (k po - 1) / (k - 1) [2]_.

    Parameters
    ----------
    ratings, second, weights, level, cluster
        See `fleiss_kappa`. Of two readers, subjects with both ratings are used.
    table : array_like, optional
        (category, category) of counts of two readers instead of ratings.
    categories : sequence, optional
        The declared scale in its order; needed with ratings, because chance agreement is one
        over the number of categories, used or not.

    Returns
    -------
    Pabak
        For two readers without weights the interval comes from the exact (Clopper-Pearson)
        interval of the raw agreement; else from Student's t as in `gwet_ac`. With perfect
        agreement the exact one is still there, next to the reason ``perfect_agreement``.
        ``no_variation`` (None) where everyone gave the same score, ``too_few`` (None) as in
        `fleiss_kappa`.

    Raises
    ------
    StatsError
        On ratings outside the scale, an undeclared scale, or a table that is none.

    References
    ----------
    .. [1] Byrt T, Bishop J, Carlin JB. Bias, prevalence and kappa. J Clin Epidemiol
       1993;46:423-429. doi:10.1016/0895-4356(93)90018-V
    .. [2] Brennan RL, Prediger DJ. Coefficient kappa: some uses, misuses, and alternatives. Educ
       Psychol Meas 1981;41:687-699. doi:10.1177/001316448104100307
    """
    kind, level = weights_name(weights), check_level(level)
    if table is not None:
        if ratings is not None or cluster is not None:
            raise StatsError("table must stand alone, without ratings and cluster")
        square: Counts | None = square_table(table, categories)[0]
        given = _tabled(table, categories)
    else:
        given, square = _paired(ratings, second, categories)
    answer = _answer(given, "PABAK", kind, level, cluster)
    fields: dict[str, Any] = {
        name: getattr(answer, name) for name in Agreement.__dataclass_fields__
    }
    if square is not None and kind == "none":
        fields |= _exact(answer, square, level)
    return Pabak(**fields)


def _counted(
    ratings: ArrayLike | None,
    second: ArrayLike | None,
    counts: ArrayLike | None,
    categories: _Scale,
    needs: str | None,
) -> _Ratings:
    """Counts from ratings or from themselves."""
    if (ratings is None) == (counts is None):
        raise StatsError("ratings or counts must be given, and not both")
    if counts is not None:
        rows = counts_of(counts)
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise StatsError(f"counts must be (subject, category), got shape {rows.shape}")
        scale = None if categories is None else scale_of(categories)
        if scale is not None and len(scale) != rows.shape[1]:
            raise StatsError(f"counts must have a column a category {scale!r}, got {rows.shape[1]}")
        return _rated(rows, scale, int(rows.sum(axis=1).max(initial=0)))
    array = subject_by_reader(ratings, second)  # type: ignore[arg-type]  # not None: see above
    found = coded(array, categories, needs_scale=needs)
    rows = _row_counts(found.codes, len(found.categories))
    return _rated(rows, found.scale, array.shape[1])


def _row_counts(codes: Codes, n_categories: int) -> Counts:
    """How often each row of codes (subject, reader) has each category."""
    counts = np.zeros((codes.shape[0], n_categories + 1), dtype=np.int64)
    subjects = np.arange(codes.shape[0])
    for column in codes.T:  # within a column no subject comes twice
        counts[subjects, column] += 1  # missing ones, -1, fall into the last column
    return counts[:, :n_categories]


def _rated(counts: Counts, scale: tuple[Any, ...] | None, n_readers: int) -> _Ratings:
    """The subjects that someone rated."""
    kept = np.asarray(counts.any(axis=1))
    counts = counts[kept]
    return _Ratings(counts, np.ones(len(counts)), scale, kept.size, n_readers, False, kept)


def _tabled(table: ArrayLike, categories: _Scale) -> _Ratings:
    """Counts from the table of two readers: a row for each cell that is not empty."""
    square, scale = square_table(table, categories)
    first, second = np.nonzero(square)
    rows = np.zeros((first.size, len(square)), dtype=np.int64)
    cells = np.arange(first.size)
    rows[cells, first] += 1
    rows[cells, second] += 1
    n = int(square.sum())
    return _Ratings(
        counts=rows,
        frequency=square[first, second].astype(np.float64),
        scale=scale,
        n_given=n,
        n_readers=2,
        divide_by_n=True,
        kept=np.ones(0, dtype=np.bool_),  # counts do not know their clusters
    )


def _clustered(tables: ArrayLike, categories: _Scale) -> _Ratings:
    """Counts from the tables of two readers, one a cluster."""
    each = counts_of(tables, "tables")
    if each.ndim != 3:
        raise StatsError(f"tables must be (cluster, category, category), got shape {each.shape}")
    each = each[each.any(axis=(1, 2))]  # a patient without observations is none
    whole = each.sum(axis=0)
    by_cluster = each[:, whole > 0].astype(np.float64)
    return replace(_tabled(whole, categories), by_cluster=by_cluster)


def _paired(
    ratings: ArrayLike | None, second: ArrayLike | None, categories: _Scale
) -> tuple[_Ratings, Counts | None]:
    """Counts for PABAK, and the table where there are two readers."""
    if ratings is None:
        raise StatsError("ratings or a table must be given")
    array = subject_by_reader(ratings, second)
    if array.shape[1] != 2:
        return _counted(array, None, None, categories, "PABAK"), None
    pairs, kept = coded_pairs(array, None, categories, needs_scale="PABAK")
    given = _rated(_row_counts(pairs.codes, len(pairs.categories)), pairs.scale, 2)
    given = replace(given, n_given=kept.size, kept=kept, divide_by_n=True)
    return given, pair_table(pairs.codes, len(pairs.categories))


def _reason(given: _Ratings) -> Reason | None:
    """What keeps the ratings from an agreement with an interval, if anything."""
    each = given.counts.sum(axis=1)
    several = each >= 2
    if not several.any():
        return Reason.TOO_FEW
    if np.count_nonzero(given.counts.any(axis=0)) == 1:
        return Reason.NO_VARIATION
    if given.frequency.sum() < 2:
        return Reason.TOO_FEW
    perfect = (given.counts.max(axis=1) == each)[several].all()
    return Reason.PERFECT_AGREEMENT if perfect else None


def _pair_agreement(given: _Ratings, weights: Numbers) -> tuple[Numbers, float]:
    """Agreement between pairs of readers, of each row and over the subjects with two readers."""
    each = given.counts.sum(axis=1).astype(np.float64)
    together = (given.counts * (given.counts @ weights)).sum(axis=1) - each
    several = each >= 2
    of_row = np.where(several, together / np.maximum(each * (each - 1), 1), 0.0)
    return of_row, float(given.frequency @ of_row) / float(given.frequency @ several)


def _chance(name: str, given: _Ratings, weights: Numbers) -> tuple[float, Numbers]:
    """Chance agreement, and what each row says of it (mean: chance agreement)."""
    shares = given.counts / given.counts.sum(axis=1, keepdims=True)
    overall = given.frequency @ shares / given.frequency.sum()
    total, size = float(weights.sum()), len(weights)
    if name == "PABAK":
        return total / size**2, np.full(len(shares), total / size**2)
    if name == "Fleiss' kappa":
        return float(overall @ weights @ overall), shares @ (weights @ overall)
    factor = total / (size * (size - 1))
    return factor * float(overall @ (1 - overall)), factor * (shares @ (1 - overall))


def _terms(given: _Ratings, weights: Numbers, name: str) -> _Terms:
    """Value and influence of each row (Gwet 2014, chapter 5)."""
    of_row, observed = _pair_agreement(given, weights)
    expected, chance = _chance(name, given, weights)
    value = (observed - expected) / (1 - expected)
    several = given.counts.sum(axis=1) >= 2
    inflation = float(given.frequency.sum()) / float(given.frequency @ several)
    influence = inflation * (of_row - expected * several) / (1 - expected)
    influence -= 2 * (1 - value) * (chance - expected) / (1 - expected) + value
    return _Terms(value, observed, expected, influence)


def _answer(
    given: _Ratings, name: str, kind: str, level: float, cluster: ArrayLike | None
) -> Agreement:
    """The answer of all three."""
    n, reason = round(float(given.frequency.sum())), _reason(given)
    fields = _named(given, name, kind) | {"reason": reason}
    clusters, n_clusters = _clusters_of(given, cluster)
    if n_clusters is not None:
        fields |= {"n_clusters": n_clusters, "cluster_reason": reason}
    if (given.counts.sum(axis=1) >= 2).any():
        raw = np.eye(given.counts.shape[1])
        fields["raw_agreement"] = _pair_agreement(given, raw)[1]
    if reason in (Reason.NO_VARIATION, Reason.TOO_FEW):
        return Agreement(**fields)
    terms = _terms(given, agreement_weights(given.counts.shape[1], kind), name)
    fields |= {"observed_agreement": terms.observed, "expected_agreement": terms.expected}
    if reason is Reason.PERFECT_AGREEMENT:
        return Agreement(**fields, value=1.0, se=0.0)
    fields |= _spread(given, terms, n, level)
    if n_clusters is not None:
        if given.by_cluster is not None:
            sums = given.by_cluster @ terms.influence
        else:
            sums = cluster_sums(terms.influence, clusters, n_clusters)
        fields |= cluster_fields(terms.value, sums, n, fields["se"], level, normal=False)
    return Agreement(**fields, value=terms.value)


def _named(given: _Ratings, name: str, kind: str) -> dict[str, Any]:
    """What every answer says of itself; n counts the subjects with two ratings or more."""
    method = f"{name}{'' if kind == 'none' else f', {kind} weights'} (Gwet 2014)"
    return {
        "method": method,
        "n": round(float(given.frequency @ (given.counts.sum(axis=1) >= 2))),
        "n_given": given.n_given,
        "weights": kind,
        "categories": given.scale,
        "n_readers": given.n_readers,
    }


def _clusters_of(given: _Ratings, cluster: ArrayLike | None) -> tuple[Codes, int | None]:
    """The cluster of each row, and how many clusters there are; None without clusters."""
    if given.by_cluster is not None:
        return np.empty(0, dtype=np.intp), len(given.by_cluster)
    if cluster is None:
        return np.empty(0, dtype=np.intp), None
    return cluster_codes(cluster, given.kept)


def _spread(given: _Ratings, terms: _Terms, n: int, level: float) -> dict[str, Any]:
    """Standard error and interval without clusters."""
    squares = float(given.frequency @ terms.influence**2)
    se = math.sqrt(squares / (n * (n if given.divide_by_n else n - 1)))
    if se * math.sqrt(n) <= ROUNDING:
        return {"se": 0.0, "reason": Reason.ZERO_VARIANCE}
    return {"se": se, "interval": t_interval(terms.value, se, n - 1, level)}


def _fleiss_test(counts: Counts, value: float) -> dict[str, Any]:
    """Test of chance agreement (Fleiss, Nee & Landis 1979), with one number of ratings."""
    n, readers = len(counts), int(counts[0].sum())
    if (counts.sum(axis=1) != readers).any():
        return {}
    shares = counts.sum(axis=0) / (n * readers)
    spread = shares * (1 - shares)
    total = float(spread.sum())
    skew = float((spread * (1 - 2 * shares)).sum())
    se0 = math.sqrt(2 * (total**2 - skew) / (n * readers * (readers - 1))) / total
    z = value / se0
    return {"se0": se0, "z": z, "p_value": two_sided_p(z)}


def _exact(answer: Agreement, table: Counts, level: float) -> dict[str, Any]:
    """The exact interval of PABAK, and the indices of a table of two categories."""
    n, agreed, size = answer.n, int(np.trace(table)), len(table)
    fields: dict[str, Any] = {}
    if size == 2 and n > 0:
        fields["prevalence_index"] = float(table[0, 0] - table[1, 1]) / n
        fields["bias_index"] = float(table[0, 1] - table[1, 0]) / n
    if answer.value is None:
        return fields
    tail = (1 - level) / 2
    low = float(special.betaincinv(agreed, n - agreed + 1, tail)) if agreed else 0.0
    high = float(special.betaincinv(agreed + 1, n - agreed, 1 - tail)) if agreed < n else 1.0
    low, high = ((size * share - 1) / (size - 1) for share in (low, high))
    reason = answer.reason if answer.reason is Reason.PERFECT_AGREEMENT else None
    return fields | {"interval": clipped(answer.value, low, high, level), "reason": reason}
