"""McNemar's test with observations nested in clusters, such as disc levels in patients."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats import rao_scott
from halfscan_stats.errors import StatsError
from halfscan_stats.inference import cluster_se
from halfscan_stats.mcnemar import McNemar, mcnemar
from halfscan_stats.ratings import (
    ArrayLike,
    Counts,
    check_level,
    cluster_codes,
    coded_pairs,
    counts_of,
)
from halfscan_stats.result import Decision, Reason, TestResult

__all__ = ["ClusteredMcNemar", "clustered_mcnemar"]

_METHODS = {"obuchowski": "Obuchowski 1998", "durkalski": "Durkalski et al. 2003"}


@dataclass(frozen=True, slots=True)
class ClusteredMcNemar(TestResult):
    """What the clustered tests answer, with the naive test beside them.

    Parameters
    ----------
    method, n, n_given, statistic, p_value, reason
        See `TestResult`: of the method that was asked for; n counts observations.
    n_clusters : int
        Clusters (patients) with an observation.
    b, c : int
        Observations that are positive on the first side only, and on the second side only.
    obuchowski, obuchowski_p : float or None
        Chi-square of Obuchowski with 1 degree of freedom, and its p-value.
    durkalski, durkalski_p : float or None
        Chi-square of Durkalski and colleagues, and its p-value.
    difference : float or None
        Share of positives on the first side minus that on the second, (b - c) / n.
    se : float or None
        Its standard error with clusters.
    decision : Decision
        What is printed: p-value and interval of the difference by the score test on the effective
        sample (`rao_scott`). They agree, and an interval is there without a discordant pair too.
    naive : McNemar or None
        The test that takes all observations for independent.
    """

    n_clusters: int = 0
    b: int = 0
    c: int = 0
    obuchowski: float | None = None
    obuchowski_p: float | None = None
    durkalski: float | None = None
    durkalski_p: float | None = None
    difference: float | None = None
    se: float | None = None
    decision: Decision = rao_scott.UNDECIDED
    naive: McNemar | None = None


def clustered_mcnemar(
    first: ArrayLike | None = None,
    second: ArrayLike | None = None,
    *,
    cluster: ArrayLike | None = None,
    tables: ArrayLike | None = None,
    categories: Sequence[Hashable] | npt.NDArray[Any] = (0, 1),
    method: str = "obuchowski",
    level: float = 0.95,
) -> ClusteredMcNemar:
    """Test whether two paired proportions are equal, observations nested in clusters.

    With d = b - c, the discordant observations of one side minus those of the other, and n the
    observations of each of K clusters: Obuchowski's chi-square [1]_ is
    (K - 1) / K * sum(d)^2 / sum(d^2), Durkalski's [2]_ is sum(d / n)^2 / sum((d / n)^2).

    Parameters
    ----------
    first, second : array_like
        (observation,) each, the two answers; or `first` alone, (observation, 2). None and NaN
        are missing: observations with both answers are used.
    cluster : array_like
        (observation,), the patient of each; needed with answers.
    tables : array_like, optional
        (cluster, 2, 2) instead: first side down, second across, positive first: [[a, b], [c, d]];
        or (cluster, 4) with a, b, c, d.
    categories : sequence of two
        What stands for negative and for positive.
    method : {"obuchowski", "durkalski"}
        Which of them `statistic` and `p_value` are; the other one is there too.
    level : float
        Confidence level of the interval of the difference.

    Returns
    -------
    ClusteredMcNemar
        Undefined answers: ``no_discordant`` (p = 1, no statistic), ``too_few`` (None, below 2
        clusters or without an observation), ``zero_variance`` (None: in every cluster as many
        discordant observations on either side). `decision` has an answer from 2 clusters on.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Obuchowski NA. On the comparison of correlated proportions for clustered data. Stat Med
       1998;17:1495-1507. doi:10.1002/(SICI)1097-0258(19980715)17:13<1495::AID-SIM863>3.0.CO;2-I
    .. [2] Durkalski VL, Palesch YY, Lipsitz SR, Rust PF. Analysis of clustered matched-pair data.
       Stat Med 2003;22:2417-2428. doi:10.1002/sim.1438
    """
    if method not in _METHODS:
        raise StatsError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    level = check_level(level)
    if tables is not None:
        if first is not None or second is not None or cluster is not None:
            raise StatsError("tables must stand alone, without answers and cluster")
        counts = _checked_tables(tables)
        n_given = int(counts.sum())
    else:
        counts, n_given = _tables(first, second, cluster, categories)
    return _test(counts[counts.any(axis=1)], n_given, method, level)


def _checked_tables(tables: ArrayLike) -> Counts:
    """Tables as (cluster, 4): a, b, c, d."""
    counts = counts_of(tables, "tables")
    if counts.shape[1:] not in ((2, 2), (4,)):
        raise StatsError(f"tables must be (cluster, 2, 2) or (cluster, 4), got {counts.shape}")
    return counts.reshape(len(counts), 4)


def _tables(
    first: ArrayLike | None,
    second: ArrayLike | None,
    cluster: ArrayLike | None,
    categories: Sequence[Hashable] | npt.NDArray[Any],
) -> tuple[Counts, int]:
    """Tables (cluster, 4) from answers, and how many observations were given."""
    if first is None or cluster is None:
        raise StatsError("answers and cluster must be given, one label an observation, or tables")
    pairs, kept = coded_pairs(first, second, categories)
    if len(pairs.categories) != 2:
        raise StatsError(f"categories must be negative and positive, got {pairs.categories!r}")
    clusters, n_clusters = cluster_codes(cluster, kept)
    cells = 3 - 2 * pairs.codes[:, 0] - pairs.codes[:, 1]  # a: both positive, d: both negative
    counts = np.bincount(4 * clusters + cells, minlength=4 * n_clusters)
    return counts.astype(np.int64).reshape(n_clusters, 4), kept.size


def _test(counts: Counts, n_given: int, method: str, level: float) -> ClusteredMcNemar:
    n, n_clusters = int(counts.sum()), len(counts)
    b, c = int(counts[:, 1].sum()), int(counts[:, 2].sum())
    fields: dict[str, Any] = {
        "method": f"McNemar's test with clusters ({_METHODS[method]})",
        "n": n,
        "n_given": n_given,
        "n_clusters": n_clusters,
        "b": b,
        "c": c,
    }
    if n == 0:
        return ClusteredMcNemar(**fields, reason=Reason.TOO_FEW)
    fields |= {"difference": (b - c) / n, "naive": mcnemar(b, c, n, level=level)}
    fields["decision"] = _decided(counts, level)
    if b + c == 0:
        return ClusteredMcNemar(
            **fields, p_value=1.0, obuchowski_p=1.0, durkalski_p=1.0, reason=Reason.NO_DISCORDANT
        )
    if n_clusters < 2:
        return ClusteredMcNemar(**fields, reason=Reason.TOO_FEW)
    apart, sizes = counts[:, 1] - counts[:, 2], counts.sum(axis=1)
    if not apart.any():
        return ClusteredMcNemar(**fields, reason=Reason.ZERO_VARIANCE)
    fields |= _chi_squares(apart, sizes)
    fields["se"] = cluster_se(apart - sizes * fields["difference"], n)
    statistic, p_value = fields[method], fields[f"{method}_p"]
    return ClusteredMcNemar(**fields, statistic=statistic, p_value=p_value)


def _decided(counts: Counts, level: float) -> Decision:
    """Decide by the score test on the effective sample."""
    clusters, values = np.arange(len(counts)), np.array([0.0, 1.0, -1.0, 0.0])
    differences = np.repeat(np.tile(values, len(counts)), counts.ravel())
    codes = np.repeat(clusters, counts.sum(axis=1))
    score = rao_scott.patients_score(differences, codes, len(counts))
    if score is None:
        return rao_scott.UNDECIDED
    return Decision(rao_scott.METHOD, score.p_two_sided(), score.interval(level))


def _chi_squares(apart: Counts, sizes: Counts) -> dict[str, float]:
    """Both chi-squares with their p-values."""
    count, shares = len(apart), apart / sizes
    obuchowski = (count - 1) / count * float(apart.sum()) ** 2 / float(apart @ apart)
    durkalski = float(shares.sum()) ** 2 / float(shares @ shares)
    return {
        "obuchowski": obuchowski,
        "obuchowski_p": float(special.chdtrc(1, obuchowski)),
        "durkalski": durkalski,
        "durkalski_p": float(special.chdtrc(1, durkalski)),
    }
