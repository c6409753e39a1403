"""Data that could stand behind a published figure.

A paper prints means, intervals and p-values, not the data. Some figures allow few data sets, some
none: the search finds those whose figures round to what was printed.
"""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from halfscan_stats.intraclass import Icc, icc
from halfscan_stats.ratings import Numbers

__all__ = [
    "data_with_icc",
    "joint_tables",
    "kappa_table",
    "margins_of",
    "rounds_to",
]

Margin = tuple[int, ...]
Table = tuple[Margin, ...]
CATEGORIES = (1, 2, 3, 4)  # the study's scale
# SPSS prints three digits, the paper two: 0.4951 became 0.495 and then 0.49.
TWICE_ROUNDED = 0.0055
MEAN_SLACK = 0.049  # a mean of 128.8 may be anything from 128.75 to 128.85


def rounds_to(value: float | None, printed: float, digits: int = 2) -> bool:
    """Whether a value is printed as this, either way of rounding a half."""
    return value is not None and abs(value - printed) <= 0.5 * 10.0**-digits + 1e-9


def kappa_table(n: int, kappa: float, low: float, high: float) -> list[list[int]] | None:
    """Search a 2x2 table of n pairs whose kappa and 95 % interval round to these.

    The asymptotic variance is that of Fleiss, Cohen and Everitt (1969); the upper limit is
    clipped at 1.

    Parameters
    ----------
    n : int
        Pairs.
    kappa, low, high : float
        As printed, two digits.

    Returns
    -------
    list of list of int or None
        The table closest to the printed figures; None where there is none.
    """
    both, first = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    best, distance = None, math.inf
    for second in range(n + 1):  # one layer of tables at a time
        neither = n - both - first - second
        fits = (neither >= 0) & (first >= second)  # kappa does not know the readers apart
        a, b, d = both[fits], first[fits], neither[fits]
        value, reach = _kappa_and_reach(a / n, b / n, np.full(a.shape, second / n), d / n, n)
        upper = np.minimum(value + reach, 1.0)
        away = np.max([abs(value - kappa), abs(value - reach - low), abs(upper - high)], axis=0)
        if away.size and np.nanmin(away, initial=math.inf) < distance:
            at = int(np.nanargmin(away))
            distance = float(away[at])
            best = [[int(a[at]), int(b[at])], [second, int(d[at])]]
    return best if distance <= 0.005 + 1e-9 else None


def _kappa_and_reach(
    a: Numbers, b: Numbers, c: Numbers, d: Numbers, n: int
) -> tuple[Numbers, Numbers]:
    """Give kappa of many 2x2 tables of shares, and half the width of its interval."""
    rows, columns = a + b, a + c
    chance = rows * columns + (1 - rows) * (1 - columns)
    defined = chance < 1
    rest = np.where(defined, 1 - chance, 1.0)
    kappa = np.where(defined, (a + d - chance) / rest, np.nan)
    apart = 1 - kappa
    diagonal = a * (1 - (rows + columns) * apart) ** 2 + d * (1 - (2 - rows - columns) * apart) ** 2
    off = apart**2 * (b * (columns + 1 - rows) ** 2 + c * (1 - columns + rows) ** 2)
    variance = (diagonal + off - (kappa - chance * apart) ** 2) / rest**2 / n
    return kappa, 1.959963984540054 * np.sqrt(np.maximum(variance, 0.0))


def margins_of(n: int, mean: float, sd: float) -> list[Margin]:
    """List the counts of the scores 1 to 4 whose mean and standard deviation round to these.

    Parameters
    ----------
    n : int
        Scores.
    mean, sd : float
        As printed, two digits, perhaps rounded twice.

    Returns
    -------
    list of tuple of int
        (category,) each.
    """
    steps = np.arange(n + 1)
    first = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    first = first[first.sum(axis=1) <= n]
    counts = np.column_stack([first, n - first.sum(axis=1)])
    scale = np.array(CATEGORIES)
    average = counts @ scale / n
    spread = (counts * (scale - average[:, None]) ** 2).sum(axis=1) / (n - 1)
    fits = (abs(average - mean) <= TWICE_ROUNDED) & (abs(np.sqrt(spread) - sd) <= TWICE_ROUNDED)
    return [tuple(int(count) for count in line) for line in counts[fits]]


def joint_tables(rows: Margin, columns: Margin) -> Iterator[Table]:
    """List every table of counts with these margins.

    Parameters
    ----------
    rows, columns : tuple of int
        Margins with the same sum.

    Yields
    ------
    tuple of tuple of int
        (row, column).
    """
    if not rows:
        if not any(columns):
            yield ()
        return
    for line in _lines(rows[0], columns):
        left = tuple(total - used for total, used in zip(columns, line, strict=True))
        for rest in joint_tables(rows[1:], left):
            yield (line, *rest)


def _lines(total: int, limits: Margin) -> Iterator[Margin]:
    """List the ways to spread a total over columns that hold so many."""
    if len(limits) == 1:
        if total <= limits[0]:
            yield (total,)
        return
    for here in range(min(total, limits[0]) + 1):
        for rest in _lines(total - here, limits[1:]):
            yield (here, *rest)


def data_with_icc(
    n: int,
    arms: list[tuple[tuple[float, float], tuple[float, float]]],
    printed: tuple[float, float, float],
) -> Icc | None:
    """Search data of two readers with these means and spreads and this ICC(A,1).

    In every arm the readers' values get means and standard deviations that round to the printed
    ones and one common correlation, which decides the ICC of all arms together.

    Parameters
    ----------
    n : int
        Patients in an arm.
    arms : list of ((mean, sd), (mean, sd))
        Of reader 1 and reader 2, in every arm that is pooled.
    printed : tuple of float
        ICC and its 95 % interval, two digits.

    Returns
    -------
    Icc or None
        The answer that rounds to all three; None where there is none.
    """
    for shift, away in product((0.0, -MEAN_SLACK, MEAN_SLACK), np.linspace(-0.0049, 0.0049, 15)):
        shifted = [((one[0] + shift, one[1]), (two[0] - shift, two[1])) for one, two in arms]
        found = _with_icc(n, shifted, printed[0] + float(away))
        limits = found.interval
        if limits is not None and all(
            rounds_to(value, figure)
            for value, figure in zip((found.value, limits.low, limits.high), printed, strict=True)
        ):
            return found
    return None


def _with_icc(
    n: int, arms: list[tuple[tuple[float, float], tuple[float, float]]], target: float
) -> Icc:
    """Choose the correlation that gives the ICC, by secants: the ICC is almost linear in it."""
    before, correlation = 0.0, 0.5
    found, last = icc(_two_readers(n, arms, correlation)), icc(_two_readers(n, arms, before))
    for _ in range(6):
        here, there = found.value or 0.0, last.value or 0.0
        if abs(here - target) < 1e-6 or here == there:
            break
        step = (target - here) * (correlation - before) / (here - there)
        before, correlation, last = correlation, min(max(correlation + step, -1.0), 1.0), found
        found = icc(_two_readers(n, arms, correlation))
    return found


def _two_readers(
    n: int,
    arms: list[tuple[tuple[float, float], tuple[float, float]]],
    correlation: float,
) -> npt.NDArray[np.float64]:
    """Build values (patient of every arm, reader) with exact means, spreads and correlation."""
    ramp = np.arange(n) - (n - 1) / 2
    bowl = ramp**2 - np.mean(ramp**2)
    first, other = ramp / ramp.std(ddof=1), bowl / bowl.std(ddof=1)
    second = correlation * first + math.sqrt(max(1 - correlation**2, 0.0)) * other
    columns = [
        np.column_stack([one[0] + one[1] * first, two[0] + two[1] * second]) for one, two in arms
    ]
    return np.concatenate(columns)
