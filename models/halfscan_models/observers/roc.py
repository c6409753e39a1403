"""Area under the ROC curve of several scans that are read alike, and what it is worth.

The area is the share of pairs, one image of each kind, in which the one with the signal has the
higher score. Its covariance is that of DeLong for images that are independent, and Obuchowski's for
images that come in clusters: of one patient there are many, with the signal and without it.

DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated receiver
operating characteristic curves. Biometrics 44 (1988) 837, doi:10.2307/2531595

Obuchowski NA. Nonparametric analysis of clustered ROC curve data. Biometrics 53 (1997) 567,
doi:10.2307/2533958
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from halfscan_models.observers.errors import ObserverError

__all__ = ["Areas", "Bounded", "correlated_areas", "mean_areas"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TAIL = 0.025  # of each side of a 95 % interval


@dataclass(frozen=True, slots=True)
class Bounded:
    """A value with its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        The value and the limits.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """Areas under the curves of several scans.

    Attributes
    ----------
    values : ndarray
        (scan,) areas, 0 to 1.
    covariance : ndarray
        (scan, scan).
    degrees_of_freedom : int
        Clusters less one.
    """

    values: Array
    covariance: Array
    degrees_of_freedom: int

    def area(self, scan: int) -> Bounded:
        """One area; its interval is symmetric in the logit, so that it stays between 0 and 1.

        An area of exactly 0 or 1 has no spread to take an interval from: the limits are the value,
        which says that the task is too easy and not that the area is known.
        """
        value, sd = float(self.values[scan]), math.sqrt(self.covariance[scan, scan])
        if not 0.0 < value < 1.0:
            return Bounded(value, value, value)
        reach = self._quantile * sd / (value * (1 - value))
        low, high = expit([logit(value) - reach, logit(value) + reach])
        return Bounded(value, float(low), float(high))

    def difference(self, first: int, second: int) -> Bounded:
        """First less second area."""
        value = float(self.values[first] - self.values[second])
        c = self.covariance
        variance = float(c[first, first] + c[second, second] - 2 * c[first, second])
        reach = self._quantile * math.sqrt(max(0.0, variance))
        return Bounded(value, value - reach, value + reach)

    @property
    def _quantile(self) -> float:
        return float(stdtrit(self.degrees_of_freedom, 1 - _TAIL))


def correlated_areas(
    present: npt.ArrayLike,
    absent: npt.ArrayLike,
    present_clusters: npt.ArrayLike | None = None,
    absent_clusters: npt.ArrayLike | None = None,
) -> Areas:
    """Areas of several scans, with their covariance.

    Parameters
    ----------
    present, absent : array_like
        (scan, image) scores of the images with the signal and without it; an image has the same
        place in every scan.
    present_clusters, absent_clusters : array_like, optional
        (image,) numbers of the clusters; the same number means the same cluster for both kinds.
        Without them every image is independent, and the covariance is DeLong's.

    Raises
    ------
    ObserverError
        Scores are not finite or have the wrong shape, or there are fewer than two clusters of a
        kind.
    """
    high, low = _scores(present, absent)
    if present_clusters is None or absent_clusters is None:
        first = np.arange(high.shape[1])
        second = high.shape[1] + np.arange(low.shape[1])
    else:
        first, second = (np.asarray(c, np.int64) for c in (present_clusters, absent_clusters))
    if first.shape != high.shape[1:] or second.shape != low.shape[1:]:
        raise ObserverError(
            f"there must be a cluster for each of the {high.shape[1]} and {low.shape[1]} images, "
            f"got shapes {first.shape} and {second.shape}"
        )
    ups = np.stack([_share_below(h, np.sort(s)) for h, s in zip(high, low, strict=True)])
    downs = np.stack([1 - _share_below(s, np.sort(h)) for h, s in zip(high, low, strict=True)])
    values = ups.mean(axis=1)
    names, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    spread_up = _summed(ups - values[:, None], places[: first.size], names.size)
    spread_down = _summed(downs - values[:, None], places[first.size :], names.size)
    covariance = (
        _scale(first) * spread_up @ spread_up.T / first.size**2
        + _scale(second) * spread_down @ spread_down.T / second.size**2
    )
    cross = names.size / (names.size - 1) * spread_up @ spread_down.T / (first.size * second.size)
    return Areas(values, covariance + cross + cross.T, names.size - 1)


def mean_areas(groups: Sequence[Areas]) -> Areas:
    """Mean over groups of images, each read by an observer that another group has trained.

    Groups that train each other's observers depend on each other: without a signal both templates
    follow the same chance, and both areas err alike. So the covariance is the mean of theirs, which
    that of the mean cannot exceed, and an interval holds the area at least as often as it says.

    Raises
    ------
    ObserverError
        There is no group.
    """
    if not groups:
        raise ObserverError("a mean of areas needs one group or more, got 0")
    return Areas(
        np.mean([group.values for group in groups], axis=0),
        np.mean([group.covariance for group in groups], axis=0),
        min(group.degrees_of_freedom for group in groups),
    )


def _scores(present: npt.ArrayLike, absent: npt.ArrayLike) -> tuple[Array, Array]:
    high, low = np.asarray(present, np.float64), np.asarray(absent, np.float64)
    if high.ndim != 2 or low.ndim != 2 or len(high) != len(low):
        raise ObserverError(
            f"scores must be (scan, image) for the same scans, got shapes {high.shape} and "
            f"{low.shape}"
        )
    if not (np.isfinite(high).all() and np.isfinite(low).all()):
        raise ObserverError("scores must be finite, got NaN or infinity")
    return high, low


def _share_below(values: Array, others: Array) -> Array:
    """Share of the others, which are sorted, that each value lies above; ties count half."""
    left = np.searchsorted(others, values, side="left")
    right = np.searchsorted(others, values, side="right")
    return np.asarray((left + right) / (2 * others.size))


def _summed(parts: Array, clusters: Integers, count: int) -> Array:
    """Sum parts (scan, image) within each cluster: (scan, cluster)."""
    return np.stack([np.bincount(clusters, weights=row, minlength=count) for row in parts])


def _scale(clusters: Integers) -> float:
    count = np.unique(clusters).size
    if count < 2:
        raise ObserverError(f"an area's spread needs two clusters of each kind, got {count}")
    return float(count / (count - 1))
