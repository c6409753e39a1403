"""What the planning of every test shares: the answer, the search, the allowance for clusters."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.measurements import finite
from halfscan_stats.result import Reason, plain

__all__ = [
    "SampleSize",
    "check",
    "check_levels",
    "in_clusters",
    "smallest",
    "tail_of",
    "unreachable",
    "whole",
]

CERTAIN = 25  # standard errors between the truth and the critical value
LARGEST = 10_000_000  # observations: the search must end
FARTHEST_LOOK = 2000  # observations
MOST_TABLES = 100_000  # n times n's that are looked at together


@dataclass(frozen=True, slots=True)
class SampleSize:
    """A number of observations and the power that it has.

    Parameters
    ----------
    method : str
        The test that is planned for, and how its power is found.
    n : int or None
        Observations (pairs, subjects), rounded up; None where no number reaches the power.
    power : float or None
        Power of n observations.
    alpha : float
        Level of the test.
    n_unrounded : float or None
        Where a formula gives it: the number before it is rounded up.
    target_power : float or None
        The power that was asked for; None where n was.
    design_effect : float
        What nesting multiplies the variance with, see `in_clusters`.
    n_clusters : int or None
        Clusters (patients) to enrol, where `cluster_size` was given.
    n_readers : int or None
        Readers who read all of it, where several are planned for.
    reason : Reason or None
        Why n or the power is None.
    """

    method: str
    n: int | None
    power: float | None
    alpha: float
    n_unrounded: float | None = None
    target_power: float | None = None
    design_effect: float = 1.0
    n_clusters: int | None = None
    n_readers: int | None = None
    reason: Reason | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: every field by name."""
        return dict(plain(self))


def first_reaching(power_at: Callable[[int], float], target: float, lowest: int = 1) -> int | None:
    """Search the smallest n whose power reaches the target, where power rises with n.

    Parameters
    ----------
    power_at : callable
        Power of n observations.
    target : float
        Power to reach.
    lowest : int
        Smallest n that the test can take.

    Returns
    -------
    int or None
        None where more than ten million observations would be needed.
    """
    high = lowest
    while power_at(high) < target:
        if high >= LARGEST:
            return None
        high = min(2 * high, LARGEST)
    low = max(high // 2, lowest - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_at(middle) < target else (low, middle)
    return high


def smallest(
    power_at: Callable[[int], float],
    target: float,
    teeth: float,
    powers_at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]] | None = None,
) -> int | None:
    """Search the n from which on the power of an exact test stays at or above the target.

    Parameters
    ----------
    power_at : callable
        Power of n observations. It is saw-toothed: a larger n may have less power.
    target : float
        Power to reach.
    teeth : float
        Observations that the teeth are long: the search ends when so many (and 50) in a row
        reach the target.
    powers_at : callable, optional
        The same of many n at once, where that is cheaper.

    Returns
    -------
    int or None
        None where more than ten million observations would be needed.
    """
    high = first_reaching(power_at, target)
    if high is None:
        return None
    look = math.ceil(min(50 + teeth, FARTHEST_LOOK))
    n = max(1, high - look)
    short = n - 1  # the last that falls short
    # Few at a time where n is large: each holds a table of its own.
    step = 1 if powers_at is None else max(1, min(look, MOST_TABLES // high))
    while n - short <= 2 * look:
        some = np.arange(n, n + step)
        powers = [power_at(n)] if powers_at is None else powers_at(some)
        for one, power in zip(some.tolist(), powers, strict=True):
            if power < target and one - short <= 2 * look:
                short = one
        n += step
    return short + 1


def tail_of(alpha: float, *, two_sided: bool) -> float:
    return alpha / 2 if two_sided else alpha


def unreachable(method: str, alpha: float, power: float, *, ever: bool = False) -> SampleSize:
    """No sample size: none would do or, if one would some day, it is beyond the search."""
    reason = Reason.TOO_MANY if ever else Reason.NOT_REACHABLE
    return SampleSize(method, None, None, alpha, target_power=power, reason=reason)


def in_clusters(
    found: SampleSize, cluster_size: float | None, icc: float, cluster_size_cv: float = 0.0
) -> SampleSize:
    """Enlarge a sample whose observations are nested in clusters [1]_.

    Parameters
    ----------
    found : SampleSize
        As if all observations were independent.
    cluster_size : float or None
        Mean number of observations of a cluster; None where each stands alone.
    icc : float
        Intraclass correlation of the observations of a cluster, 0 to 1.
    cluster_size_cv : float
        Coefficient of variation of the cluster sizes (SD over mean); 0 where all are the same.

    Returns
    -------
    SampleSize
        With n times the design effect ``1 + ((cv**2 + 1) * size - 1) * icc``.

    Raises
    ------
    StatsError
        If an argument lies outside its range.

    References
    ----------
    .. [1] Eldridge SM, Ashby D, Kerry S (2006). Int J Epidemiol 35:1292-1300.
    """
    check(0 <= finite(icc, "icc") <= 1, "icc must lie in [0, 1]", icc)
    check(
        finite(cluster_size_cv, "cluster_size_cv") >= 0,
        "cluster_size_cv must be at least 0",
        cluster_size_cv,
    )
    if cluster_size is None:
        check(icc == 0, "icc needs cluster_size", icc)
        check(cluster_size_cv == 0, "cluster_size_cv needs cluster_size", cluster_size_cv)
        return found
    check(
        finite(cluster_size, "cluster_size") >= 1, "cluster_size must be at least 1", cluster_size
    )
    effect = 1 + ((cluster_size_cv**2 + 1) * cluster_size - 1) * icc
    needed = effect * (found.n or 0)
    clusters = math.ceil(needed / cluster_size - 1e-9)
    return replace(found, n=math.ceil(needed - 1e-9), design_effect=effect, n_clusters=clusters)


def check_levels(alpha: float, power: float | None = None) -> None:
    check(0 < finite(alpha, "alpha") < 1, "alpha must be above 0 and below 1", alpha)
    if power is not None:
        check(alpha < finite(power, "power") < 1, "power must be above alpha and below 1", power)


def whole(n: float, lowest: int, name: str = "n") -> int:
    """A number of observations: whole, and not below the lowest that the test can take."""
    check(finite(n, name) == math.floor(n), f"{name} must be a whole number", n)
    check(n >= lowest, f"{name} must be at least {lowest}", n)
    return int(n)


def check(holds: bool, rule: str, value: object) -> None:  # noqa: FBT001  (a rule and its value)
    if not holds:
        raise StatsError(f"{rule}, got {value!r}")
