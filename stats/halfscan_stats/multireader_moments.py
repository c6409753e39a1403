"""Moments of the area under the curve for any design of readers, treatments and cases.

The area is a U-statistic: a mean of comparisons of a case that has the finding with one that has
not. Its variance follows from the chance that two comparisons succeed that share a reader, a
positive case, a negative case, some of them or none: Gallas' moments M1 to M8.
"""

from dataclasses import dataclass

import numpy as np

from halfscan_stats.ratings import Numbers

__all__ = ["RANDOM", "Moments", "SuccessCounts", "success_counts"]

RANDOM = ("negative", "positive", "reader")  # what a study draws
KERNEL_AT_ONCE = 4_000_000  # comparisons of a positive with a negative case held in memory

# From sums over all comparisons to those that share this and nothing else (Gallas et al. 2009): one
# factor each for reader, negative case and positive case.
_SHARED = np.array([[1, 0], [-1, 1]])
_TO_DISTINCT = np.kron(_SHARED, np.kron(_SHARED, _SHARED))

# Rows of M1 to M8 that a component of variance is made of, one row a component (ibid., eq. 19).
_COMPONENTS = {
    "negative": np.array([0, 0, 0, 0, 0, 0, 1, -1]),
    "positive": np.array([0, 0, 0, 0, 0, 1, 0, -1]),
    "reader": np.array([0, 0, 0, 1, 0, 0, 0, -1]),
}
# Coefficients of M1 to M8 whose sum is the share of that component.
_WEIGHTS = {
    "negative": np.array([1, 0, 1, 0, 1, 0, 1, 0]),
    "positive": np.array([1, 1, 0, 0, 1, 1, 0, 0]),
    "reader": np.array([1, 1, 1, 1, 0, 0, 0, 0]),
}


@dataclass(frozen=True, slots=True)
class SuccessCounts:
    """Sums of products of comparisons, for every two rows (treatment, reader).

    Parameters
    ----------
    successes, comparisons : ndarray of float
        (4, row, row). Products of the successes of two rows, and how many there are, with: the
        same two cases; the same positive case; the same negative case; any cases.
    wins, pairs : ndarray of float
        (row,), successes and comparisons of a row.
    shape : tuple of int
        Treatments and readers.
    """

    successes: Numbers
    comparisons: Numbers
    wins: Numbers
    pairs: Numbers
    shape: tuple[int, int]

    def moments(self, first: int, second: int) -> "Moments":
        """Moments of two treatments, readers and cases random."""
        r = self.shape[1]
        one, other = (slice(t * r, (t + 1) * r) for t in (first, second))
        sums = []
        for products in (self.successes, self.comparisons):
            block = products[:, one, other]
            sums.append(np.concatenate([np.einsum("kii->k", block), block.sum(axis=(1, 2))]))
        return Moments(sums[0], sums[1])

    def covariance(self) -> tuple[Numbers, Numbers]:
        """Unbiased covariance of the areas of all rows, and where it can be told (row, row)."""
        distinct = _TO_DISTINCT[:4, :4]
        products, counts = (
            np.einsum("jk,kab->jab", distinct, sums) for sums in (self.successes, self.comparisons)
        )
        total = self.comparisons[3]
        known = counts[3] > 0
        away = np.divide(products[3], counts[3], out=np.zeros_like(total), where=known)
        matrix = np.divide(self.successes[3], total, out=np.zeros_like(total), where=total > 0)
        return matrix - away, known


@dataclass(frozen=True, slots=True)
class Moments:
    """Gallas' moments of two treatments (or of one with itself).

    Parameters
    ----------
    successes, comparisons : ndarray of float
        (8,), the sums of `SuccessCounts` over the same reader, then over all pairs of readers.
    """

    successes: Numbers
    comparisons: Numbers

    @property
    def counts(self) -> Numbers:
        """Products that each of M1 to M8 is the mean of (8,)."""
        return np.asarray(_TO_DISTINCT @ self.comparisons)

    @property
    def values(self) -> tuple[float | None, ...]:
        """M1 to M8; None where the design has no such pair of comparisons."""
        sums, counts = _TO_DISTINCT @ self.successes, self.counts
        return tuple(
            float(total / count) if count > 0 else None
            for total, count in zip(sums, counts, strict=True)
        )

    @property
    def coefficients(self) -> Numbers:
        """What each of M1 to M8 is multiplied with in the covariance (8,)."""
        shares = self.counts / self.comparisons[7]
        shares[7] -= 1
        return np.asarray(shares)

    @property
    def covariance(self) -> float | None:
        """Unbiased covariance of the mean areas; None without two readers of different cases."""
        away = self.values[7]
        if away is None:
            return None
        return float(self.successes[7] / self.comparisons[7]) - away

    def component(self, name: str) -> float:
        """A component of variance from the biased moments, as its degrees of freedom need it."""
        means = np.divide(
            self.successes, self.comparisons, out=np.zeros(8), where=self.comparisons > 0
        )
        parts = _COMPONENTS[name]
        told = bool((self.comparisons[parts != 0] > 0).all())
        return float(parts @ means) if told else 0.0

    def df(self, name: str) -> int:
        """Degrees of freedom of a component: one less than what the design draws of it."""
        share = float(_WEIGHTS[name] @ self.coefficients)
        return round(1 / share - 1) if share > 0 else 0


def success_counts(positive: Numbers, negative: Numbers, shape: tuple[int, int]) -> SuccessCounts:
    """Compare every positive with every negative case that a reader rated with a treatment.

    Parameters
    ----------
    positive, negative : ndarray of float
        (treatment * reader, case) ratings of the cases with and without the finding; NaN where
        there is none.
    shape : tuple of int
        Treatments and readers.

    Returns
    -------
    SuccessCounts
        Ties count half.
    """
    (positive, n_alike), (negative, n_as_well) = _alike(positive), _alike(negative)
    rows = len(positive)
    rated = [(~np.isnan(side)).astype(float) for side in (positive, negative)]
    ups, downs = np.zeros_like(positive), np.zeros_like(negative)
    both = np.zeros((rows, rows))
    step = max(1, KERNEL_AT_ONCE // max(1, negative.shape[1] * rows))
    for start in range(0, positive.shape[1], step):
        part = slice(start, start + step)
        high, low = positive[:, part, None], negative[:, None, :]
        kernel = (high > low) + 0.5 * (high == low)  # NaN compares as false
        ups[:, part] = kernel @ n_as_well
        downs += n_alike[part] @ kernel
        flat, times = kernel.reshape(rows, -1), np.outer(n_alike[part], n_as_well).ravel()
        both += (flat if (times == 1).all() else flat * times) @ flat.T
    n1, n0 = rated[0] @ n_alike, rated[1] @ n_as_well
    same1, same0 = (rated[0] * n_alike) @ rated[0].T, (rated[1] * n_as_well) @ rated[1].T
    wins = ups @ n_alike
    same = (ups * n_alike) @ ups.T, (downs * n_as_well) @ downs.T
    return SuccessCounts(
        np.stack([both, *same, np.outer(wins, wins)]),
        np.stack(
            [
                same1 * same0,
                same1 * np.outer(n0, n0),
                same0 * np.outer(n1, n1),
                np.outer(n1 * n0, n1 * n0),
            ]
        ),
        wins,
        n1 * n0,
        shape,
    )


def _alike(ratings: Numbers) -> tuple[Numbers, Numbers]:
    """Cases that all rows rate alike as one column, and how many there are of each.

    Grades have few values: thousands of cases become a few dozen.
    """
    lowest = np.where(np.isnan(ratings), -np.inf, ratings)  # NaN is unlike itself
    columns, counts = np.unique(lowest, axis=1, return_counts=True)
    return np.where(np.isinf(columns), np.nan, columns), counts.astype(float)
