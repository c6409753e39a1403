"""Bootstrap over clusters: patients are drawn with replacement, with all that belongs to them.

Most statistics depend on sums over patients alone (kappa on contingency tables, a mean on totals).
Then a resample is a row of weights, how often each patient was drawn, and all resamples together
are one matrix product: no observation is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.agreement import agreement_weights
from halfscan_stats.errors import StatsError
from halfscan_stats.ratings import (
    ArrayLike,
    Coded,
    Codes,
    Numbers,
    check_level,
    cluster_codes,
    coded_pairs,
    generator,
    numbers,
)
from halfscan_stats.result import Estimate, Interval, Reason

__all__ = ["Bootstrap", "cluster_bootstrap"]

# Numbers held at once: weights (resample, cluster) are made in blocks of this size.
_BLOCK = 1 << 22
# Share of resamples without an answer above which their quantiles are not believed.
_UNDEFINED = 0.05
# Difference below which two values of a statistic are the same but for rounding.
_TIE = 1e-12

Vectorised = Callable[[Numbers], Numbers]  # (resample, ...) -> (resample,), NaN where undefined


@dataclass(frozen=True, slots=True)
class Bootstrap(Estimate):
    """A statistic with its bootstrap interval.

    Parameters
    ----------
    method, n, n_given, value, interval, reason
        See `Estimate`; the value is that of the data themselves.
    se, mean : float or None
        Standard deviation and mean of the statistic over the resamples that have one.
    n_clusters : int
        Clusters (patients) that were drawn from.
    n_resamples, n_undefined : int
        Resamples drawn, and those of them where the statistic was undefined.
    """

    se: float | None = None
    mean: float | None = None
    n_clusters: int = 0
    n_resamples: int = 0
    n_undefined: int = 0


def cluster_bootstrap(  # the data come in three forms
    statistic: str | Callable[..., Any],
    *data: ArrayLike,
    cluster: ArrayLike | None = None,
    totals: ArrayLike | None = None,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    rng: np.random.Generator | int | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    interval: str = "percentile",
) -> Bootstrap:
    """Bootstrap interval of any statistic, clusters drawn with replacement [1]_ [2]_.

    Parameters
    ----------
    statistic : str or callable
        One of three:

        - a name (``kappa``, ``kappa_linear``, ``kappa_quadratic``, ``raw_agreement``, ``pabak``,
          ``gwet_ac1``) of an agreement of two readers, whose ratings are `data` or whose tables
          (cluster, category, category) are `totals`;
        - with `totals`, a function of many resamples at once: (resample, ...) sums over the
          clusters drawn to (resample,) values, NaN where undefined;
        - with `data`, a function of the arrays of one resample to a number, None, or a result
          with a ``value``. It is called once a resample.
    *data : array_like
        (observation, ...) each, one length.
    cluster : array_like, optional
        (observation,), the patient of each; needed with `data`.
    totals : array_like, optional
        (cluster, ...), what is summed over clusters.
    categories : sequence, optional
        The declared scale; needed with a name and ratings.
    rng : numpy.random.Generator or int
        Source of randomness, or a seed for one. Must be given.
    n_resamples : int
        Resamples, at least 2.
    level : float
        Confidence level.
    interval : {"percentile", "bca"}
        Quantiles of the resamples (type 7), or corrected for bias and acceleration.

    Returns
    -------
    Bootstrap
        Undefined answers: no value on the data themselves (``no_variation`` of a named agreement,
        ``undefined`` of a function); no interval with ``too_few`` (below 2 clusters),
        ``undefined_resamples`` (more than 5 % of the resamples have no value) or, where all
        resamples have the same value, ``perfect_agreement`` or ``zero_variance``.

    Raises
    ------
    StatsError
        If there is no rng, no such statistic, or the data do not fit together.

    Notes
    -----
    With totals, time grows with resamples x clusters and not with observations.

    References
    ----------
    .. [1] Efron B, Tibshirani RJ. An introduction to the bootstrap. New York: Chapman & Hall;
       1993. ISBN 978-0-412-04231-7
    .. [2] Field CA, Welsh AH. Bootstrapping clustered data. J R Stat Soc B 2007;69:369-390.
       doi:10.1111/j.1467-9868.2007.00593.x
    """
    random, level = generator(rng), check_level(level)
    if interval not in ("percentile", "bca"):
        raise StatsError(f"interval must be percentile or bca, got {interval!r}")
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, int) or n_resamples < 2:
        raise StatsError(f"n_resamples must be a whole number, at least 2, got {n_resamples!r}")
    sample = _sample(statistic, data, cluster, totals, categories)
    value = sample.value()
    fields: dict[str, Any] = {
        "method": f"cluster bootstrap, {interval} interval, {n_resamples} resamples",
        "n": sample.n,
        "n_given": sample.n_given,
        "n_clusters": sample.n_clusters,
        "n_resamples": n_resamples,
        "value": value,
    }
    named = isinstance(statistic, str)
    if value is None:
        undefined = Reason.NO_VARIATION if named else Reason.UNDEFINED
        return Bootstrap(**fields, reason=undefined if sample.n_clusters else Reason.TOO_FEW)
    if sample.n_clusters < 2:
        return Bootstrap(**fields, reason=Reason.TOO_FEW)
    drawn = sample.resampled(random, n_resamples)
    left_out = sample.left_out() if interval == "bca" else None
    return Bootstrap(**fields | _spread(value, drawn, left_out, level, named=named))


def _spread(
    value: float, drawn: Numbers, left_out: Numbers | None, level: float, *, named: bool
) -> dict[str, Any]:
    """Spread and interval of the resamples; BCa with the values that leave a cluster out."""
    known = drawn[~np.isnan(drawn)]
    fields: dict[str, Any] = {"n_undefined": drawn.size - known.size}
    if known.size > 1:
        fields |= {"se": float(known.std(ddof=1)), "mean": float(known.mean())}
    if fields["n_undefined"] > _UNDEFINED * drawn.size:
        return fields | {"reason": Reason.UNDEFINED_RESAMPLES}
    if np.ptp(known) <= _TIE * (1 + abs(value)):
        perfect = named and value > 1 - _TIE
        return fields | {"reason": Reason.PERFECT_AGREEMENT if perfect else Reason.ZERO_VARIANCE}
    plain = ((1 - level) / 2, (1 + level) / 2)
    tails = plain if left_out is None else _bca(plain, value, known, left_out)
    if tails is None:
        return fields | {"reason": Reason.UNDEFINED_RESAMPLES}
    low, high = np.quantile(known, tails).tolist()
    return fields | {"interval": Interval(low, high, level)}


@dataclass(frozen=True, slots=True)
class _Totals:
    """A statistic of sums over clusters."""

    statistic: Vectorised
    totals: Numbers  # (cluster, ...)
    n: int
    n_given: int

    @property
    def n_clusters(self) -> int:
        return len(self.totals)

    def _values(self, weights: Numbers) -> Numbers:
        """The statistic of resamples, from how often (resample, cluster) each was drawn."""
        shape = self.totals.shape
        sums = weights @ self.totals.reshape(shape[0], -1)
        values = np.asarray(self.statistic(sums.reshape(-1, *shape[1:])), dtype=np.float64)
        if values.shape != (len(weights),):
            raise StatsError(
                f"statistic must give one value a resample ({len(weights)}), got {values.shape}"
            )
        return np.where(np.isfinite(values), values, np.nan)

    def value(self) -> float | None:
        if self.n_clusters == 0:
            return None
        value = float(self._values(np.ones((1, self.n_clusters)))[0])
        return None if np.isnan(value) else value

    def resampled(self, random: np.random.Generator, n_resamples: int) -> Numbers:
        count = self.n_clusters
        step = max(1, _BLOCK // count)
        values = []
        for start in range(0, n_resamples, step):
            rows = min(step, n_resamples - start)
            drawn = random.integers(count, size=(rows, count))
            drawn += np.arange(rows)[:, None] * count
            weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
            values.append(self._values(weights.astype(np.float64)))
        return np.concatenate(values)

    def left_out(self) -> Numbers:
        without = self.totals.sum(axis=0) - self.totals
        return np.asarray(self.statistic(without), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Observations:
    """A statistic of observations, called once a resample."""

    statistic: Callable[..., Any]
    data: tuple[npt.NDArray[Any], ...]
    members: tuple[Codes, ...]  # observations of each cluster
    n: int

    @property
    def n_given(self) -> int:
        return self.n

    @property
    def n_clusters(self) -> int:
        return len(self.members)

    def _value(self, drawn: Sequence[int] | npt.NDArray[np.int64]) -> float:
        rows = np.concatenate([self.members[each] for each in drawn])
        answer = self.statistic(*(array[rows] for array in self.data))
        answer = getattr(answer, "value", answer)
        return float("nan") if answer is None or not np.isfinite(answer) else float(answer)

    def value(self) -> float | None:
        if self.n_clusters == 0:
            return None
        value = self._value(range(self.n_clusters))
        return None if np.isnan(value) else value

    def resampled(self, random: np.random.Generator, n_resamples: int) -> Numbers:
        count = self.n_clusters
        return np.array(
            [self._value(random.integers(count, size=count)) for _ in range(n_resamples)]
        )

    def left_out(self) -> Numbers:
        everyone = np.arange(self.n_clusters)
        return np.array([self._value(np.delete(everyone, each)) for each in everyone])


def _sample(
    statistic: str | Callable[..., Any],
    data: tuple[ArrayLike, ...],
    cluster: ArrayLike | None,
    totals: ArrayLike | None,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None,
) -> _Totals | _Observations:
    """The data in one of their three forms."""
    if (totals is None) == (not data):
        raise StatsError("either data with cluster, or totals must be given")
    if totals is not None:
        if cluster is not None:
            raise StatsError("totals are sums over clusters already: cluster must not be given")
        return _of_totals(statistic, totals)
    if cluster is None:
        raise StatsError("cluster must be given: one label an observation")
    if isinstance(statistic, str):
        return _of_ratings(statistic, data, cluster, categories)
    arrays = tuple(np.asarray(array) for array in data)
    lengths = {array.shape[:1] for array in arrays}
    if len(lengths) != 1 or () in lengths:
        raise StatsError(f"data must have one length, got {sorted(lengths)}")
    codes, n_clusters = cluster_codes(cluster, len(arrays[0]))
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_clusters))[:-1]
    members = tuple(np.split(order, ends)) if n_clusters else ()
    return _Observations(statistic, arrays, members, len(arrays[0]))


def _of_totals(statistic: str | Callable[..., Any], totals: ArrayLike) -> _Totals:
    sums = numbers(totals, "totals")
    if sums.ndim == 0 or np.isnan(sums).any():
        raise StatsError(f"totals must be (cluster, ...) without missing ones, got {sums.shape}")
    if not isinstance(statistic, str):
        return _Totals(statistic, sums, len(sums), len(sums))
    if sums.ndim != 3 or sums.shape[1] != sums.shape[2]:
        raise StatsError(
            f"totals of {statistic} must be (cluster, category, category), got {sums.shape}"
        )
    n = int(sums.sum())
    return _Totals(_named(statistic, sums.shape[1]), sums, n, n)


def _of_ratings(
    statistic: str,
    data: tuple[ArrayLike, ...],
    cluster: ArrayLike,
    categories: Sequence[Hashable] | npt.NDArray[Any] | None,
) -> _Totals:
    if len(data) > 2:
        raise StatsError(f"{statistic} is that of two readers, got {len(data)} arrays")
    needs = None if statistic in ("kappa", "raw_agreement") else statistic
    second = data[1] if len(data) == 2 else None
    pairs, kept = coded_pairs(data[0], second, categories, needs_scale=needs)
    codes, n_clusters = cluster_codes(cluster, kept)
    tables = _cluster_tables(pairs, codes, n_clusters)
    return _Totals(_named(statistic, len(pairs.categories)), tables, len(codes), kept.size)


def _cluster_tables(pairs: Coded, clusters: Codes, n_clusters: int) -> Numbers:
    size = len(pairs.categories)
    cells = (clusters * size + pairs.codes[:, 0]) * size + pairs.codes[:, 1]
    counts = np.bincount(cells, minlength=n_clusters * size * size)
    return counts.astype(np.float64).reshape(n_clusters, size, size)


def _named(name: str, n_categories: int) -> Vectorised:
    """The function of tables (resample, category, category) that a name stands for."""
    weights = {"kappa": "none", "kappa_linear": "linear", "kappa_quadratic": "quadratic"}
    if name in weights:
        return partial(_kappas, weights=agreement_weights(n_categories, weights[name]))
    if name not in ("raw_agreement", "pabak", "gwet_ac1"):
        known = ", ".join((*weights, "raw_agreement", "pabak", "gwet_ac1"))
        raise StatsError(f"statistic must be callable or one of {known}, got {name!r}")
    return partial(_adjusted, name=name)


def _kappas(tables: Numbers, *, weights: Numbers) -> Numbers:
    """Weighted kappas of many tables; NaN where everyone gave the same score."""
    n = tables.sum(axis=(1, 2))
    observed = np.einsum("bij,ij->b", tables, weights) * n
    row, column = tables.sum(axis=2), tables.sum(axis=1)
    expected = np.einsum("bi,ij,bj->b", row, weights, column, optimize=True)
    # In counts, so that zero is zero; the same score throughout gives 0 / 0.
    return _divided(observed - expected, n * n - expected)


def _adjusted(tables: Numbers, *, name: str) -> Numbers:
    """Raw agreement, PABAK or AC1 of many tables."""
    n, size = tables.sum(axis=(1, 2)), tables.shape[1]
    observed = _divided(np.einsum("bii->b", tables), n)
    if name == "raw_agreement":
        return observed
    shares = (tables.sum(axis=2) + tables.sum(axis=1)) / np.maximum(2 * n, 1)[:, None]
    varied = np.count_nonzero(shares, axis=1) > 1
    if name == "pabak":
        chance = np.full(len(tables), 1 / size)
    else:
        chance = (shares * (1 - shares)).sum(axis=1) / max(size - 1, 1)
    return np.where(varied, _divided(observed - chance, 1 - chance), np.nan)


def _divided(top: Numbers, bottom: Numbers) -> Numbers:
    """Ratio, NaN over zero."""
    zero = bottom == 0
    return np.where(zero, np.nan, top / np.where(zero, 1.0, bottom))


def _bca(
    tails: tuple[float, float], value: float, drawn: Numbers, left_out: Numbers
) -> tuple[float, float] | None:
    """Probabilities of the quantiles, corrected for bias and acceleration (Efron 1987)."""
    tied = np.abs(drawn - value) <= _TIE * (1 + abs(value))
    below = float(((drawn < value) & ~tied).mean() + tied.mean() / 2)
    if not 0 < below < 1 or not np.isfinite(left_out).all():
        return None
    away = left_out.mean() - left_out
    squares = float(away @ away)
    acceleration = float((away**3).sum()) / (6 * squares**1.5) if squares else 0.0
    bias = special.ndtri(below)
    shifted = bias + special.ndtri(tails)
    low, high = special.ndtr(bias + shifted / (1 - acceleration * shifted)).tolist()
    return (low, high) if low < high else None
