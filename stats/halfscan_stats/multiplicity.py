"""Many p-values at once: the corrections that a table of tests needs.

The reference study divides its level by the number of tests of one aspect (Bonferroni). Holm's
step-down procedure controls the same error and rejects at least as much; Benjamini and Hochberg
control the share of false discoveries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.ratings import check_level, counts_of, numbers
from halfscan_stats.result import Result

__all__ = ["AdjustedPValues", "adjust_pvalues"]

Floats = npt.NDArray[np.float64]

METHODS = {
    "none": "unadjusted",
    "bonferroni": "Bonferroni",
    "holm": "Holm 1979, step-down",
    "benjamini-hochberg": "Benjamini & Hochberg 1995, false discovery rate",
}
ALIASES = {
    "bh": "benjamini-hochberg",
    "fdr": "benjamini-hochberg",
    "fdr_bh": "benjamini-hochberg",
    "benjamini_hochberg": "benjamini-hochberg",
}


@dataclass(frozen=True, slots=True)
class AdjustedPValues(Result):
    """P-values after a correction, in the order in which they were given.

    Parameters
    ----------
    method : str
        The correction by name.
    n, n_given : int
        P-values that were there, and entries given: the difference was None.
    n_tests : int
        The number of tests that was corrected for.
    alpha : float
        The level of `rejected`.
    values : tuple of (float or None)
        Adjusted p-values, to be compared with `alpha` itself.
    rejected : tuple of (bool or None)
        Whether the adjusted p-value is at most `alpha`.
    """

    n_tests: int = 0
    alpha: float = 0.05
    values: tuple[float | None, ...] = ()
    rejected: tuple[bool | None, ...] = ()


def adjust_pvalues(
    p_values: Sequence[float | None],
    method: str = "holm",
    *,
    alpha: float = 0.05,
    n_tests: int | None = None,
) -> AdjustedPValues:
    """Adjust p-values for the number of tests.

    Parameters
    ----------
    p_values : sequence of (float or None), shape (test,)
        None (or NaN) where a test has no answer: it stays None and counts as no test.
    method : {"bonferroni", "holm", "benjamini-hochberg", "none"}
        Bonferroni multiplies by the number of tests; Holm [1]_ steps down; Benjamini and Hochberg
        [2]_ (also called "bh" or "fdr_bh") bound the false discovery rate.
    alpha : float
        Level at which `rejected` is judged.
    n_tests : int, optional
        The number of tests to correct for, where more were planned than are answered here.

    Returns
    -------
    AdjustedPValues

    Raises
    ------
    StatsError
        If the p-values are no list of numbers, one lies outside [0, 1], the method is unknown,
        alpha is no level, or `n_tests` is not whole or smaller than the number of p-values.

    References
    ----------
    .. [1] Holm S (1979). Scand J Stat 6:65-70.
    .. [2] Benjamini Y, Hochberg Y (1995). J R Stat Soc B 57:289-300.
    """
    name = method.lower() if isinstance(method, str) else ""
    name = ALIASES.get(name, name)
    if name not in METHODS:
        raise StatsError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    check_level(alpha, "alpha")
    given = numbers(p_values, "p_values")
    if given.ndim != 1:
        raise StatsError(f"p_values must be one list, got shape {given.shape}")
    there = ~np.isnan(given)
    p = given[there]
    if np.any((p < 0) | (p > 1)):
        raise StatsError(f"p-values must lie in [0, 1], got {p[(p < 0) | (p > 1)][0]!r}")
    tests = p.size if n_tests is None else int(counts_of(n_tests, "n_tests"))
    if tests < p.size:
        raise StatsError(f"n_tests must be at least the {p.size} p-values, got {n_tests!r}")
    adjusted = np.full(given.shape, np.nan)
    adjusted[there] = _adjust(p, name, tests)
    values = tuple(None if np.isnan(value) else float(value) for value in adjusted)
    return AdjustedPValues(
        method=METHODS[name],
        n=p.size,
        n_given=given.size,
        n_tests=tests,
        alpha=alpha,
        values=values,
        rejected=tuple(None if value is None else value <= alpha for value in values),
    )


def _adjust(p: Floats, name: str, tests: int) -> Floats:
    """Adjust p-values that are all there."""
    if name == "none" or p.size == 0:
        return p
    if name == "bonferroni":
        return np.minimum(p * tests, 1.0)
    order = np.argsort(p, kind="stable")
    steps = np.arange(p.size)
    if name == "holm":
        ranked = np.maximum.accumulate(p[order] * (tests - steps))
    else:
        scaled = p[order] * tests / (steps + 1)
        ranked = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(ranked, 1.0)
    return adjusted
