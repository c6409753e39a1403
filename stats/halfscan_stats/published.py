"""The reference study recomputed: what its tables print, and what the package answers.

Tang et al. 2024 compared standard and accelerated lumbar spine MRI. Its figures are in
``tang2024.json``. The data were not published; a figure agrees where the package gives it from the
printed counts, or from data that have all its printed margins. Where no such data exist, the table
says so. The non-inferiority that the study names as missing stands beside its Table 5.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from halfscan_stats.agreement import cohen_kappa
from halfscan_stats.equivalence import NonInferiority, noninferiority_paired_proportions
from halfscan_stats.inference import t_quantile
from halfscan_stats.mcnemar import mcnemar
from halfscan_stats.paired import paired_t
from halfscan_stats.published_search import (
    CATEGORIES,
    data_with_icc,
    joint_tables,
    kappa_table,
    margins_of,
    rounds_to,
)
from halfscan_stats.result import plain
from halfscan_stats.wilcoxon import wilcoxon_signed_rank

__all__ = ["PublishedRow", "PublishedStudy", "published_figures", "recompute"]

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published figure and what became of it.

    Parameters
    ----------
    table, item : str
        Where the figure stands.
    published, recomputed : str
        As printed, and as the package gives it; "-" where no data give it.
    agrees : bool
        Whether they are the same to the printed digits.
    how : str
        From which data, or why from none.
    noninferiority : NonInferiority or None
        Beside Table 5: whether accelerated images are non-inferior.
    """

    table: str
    item: str
    published: str
    recomputed: str
    agrees: bool
    how: str
    noninferiority: NonInferiority | None = None


@dataclass(frozen=True, slots=True)
class PublishedStudy:
    """The study's figures, one row each.

    Parameters
    ----------
    citation, licence : str
        Where the figures come from.
    rows : tuple of PublishedRow
        In the order of the paper.
    """

    citation: str
    licence: str
    rows: tuple[PublishedRow, ...]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Figures that agree, and all figures, by table."""
        all_rows = Counter(row.table for row in self.rows)
        agreeing = Counter(row.table for row in self.rows if row.agrees)
        return {table: (agreeing[table], total) for table, total in all_rows.items()}

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it: the rows, and the counts by table."""
        return {
            **plain(self),
            "counts": {
                table: {"agree": agree, "of": total}
                for table, (agree, total) in self.counts.items()
            },
        }


def published_figures() -> Figures:
    """Read the published tables as data.

    Returns
    -------
    dict
        What ``tang2024.json`` holds; every part says what its numbers are.
    """
    text = resources.files("halfscan_stats").joinpath("tang2024.json").read_text(encoding="utf-8")
    figures: Figures = json.loads(text)
    return figures


def recompute(*, margin: float = 0.05, alpha: float = 0.05) -> PublishedStudy:
    """Recompute the published study.

    Parameters
    ----------
    margin : float
        Margin of non-inferiority for Table 5, a difference of proportions.
    alpha : float
        Its one-sided level.

    Returns
    -------
    PublishedStudy

    Raises
    ------
    StatsError
        If margin or alpha lies outside its range.
    """
    figures = published_figures()
    rows = [
        *_scan_times(figures),
        *_score_tests(figures),
        *_score_kappas(figures),
        *_snr_tests(figures),
        *_snr_agreement(figures),
        *_finding_kappas(figures),
        *_detection(figures, margin, alpha),
    ]
    return PublishedStudy(figures["citation"], figures["licence"], tuple(rows))


def _scan_times(figures: Figures) -> list[PublishedRow]:
    times = figures["scan_time"]
    totals = [sum(times["standard_s"]), sum(times["accelerated_s"])]
    saving = 100 * (1 - totals[1] / totals[0])
    rows = [
        PublishedRow(
            "Scan time",
            f"{arm} protocol",
            f"{printed} s",
            f"{total} s",
            total == printed,
            "sum of the sequences in Table 1",
        )
        for arm, printed, total in zip(
            ("standard", "accelerated"), times["total_s"], totals, strict=True
        )
    ]
    return [
        *rows,
        PublishedRow(
            "Scan time",
            "saving",
            f"{times['saving_percent']} %",
            f"{saving:.1f} %",
            rounds_to(saving, times["saving_percent"], 0),
            "1 - accelerated / standard",
        ),
    ]


def _score_tests(figures: Figures) -> list[PublishedRow]:
    """Wilcoxon tests of Table 2: from every pair of margins that has the printed mean and SD."""
    rows = []
    for item, reader, standard, accelerated, p in figures["scores"]["rows"]:
        tables = [
            table
            for before in margins_of(figures["patients"], *standard)
            for after in margins_of(figures["patients"], *accelerated)
            for table in joint_tables(before, after)
        ]
        tests = {"Wilcoxon": [], "paired t": []}  # type: dict[str, list[float]]
        for table in tables:
            x, y = _unfold(table)
            for name, answer in (
                ("Wilcoxon", wilcoxon_signed_rank(x, y)),
                ("paired t", paired_t(x, y)),
            ):
                if answer.p_value is not None:
                    tests[name].append(answer.p_value)
        rows.append(_score_row(f"{item}, reader {reader}", p, tests))
    return rows


def _score_row(item: str, printed: str, tests: dict[str, list[float]]) -> PublishedRow:
    """Say which test, if any, gives the printed p."""
    closest = min(tests["Wilcoxon"], key=lambda p: abs(p - float(printed.lstrip("<"))))
    if any(_p_matches(p, printed) for p in tests["Wilcoxon"]):
        how = "Wilcoxon, from scores with the printed means and SDs"
    elif any(_p_matches(p, printed) for p in tests["paired t"]):
        how = "no Wilcoxon test of such scores gives it; a paired t-test does"
    else:
        how = "no scores with the printed means and SDs give it, by Wilcoxon or t"
    agrees = how.startswith("Wilcoxon")
    return PublishedRow(
        "Table 2, p", item, f"p {_sign(printed)}", f"p = {closest:.4f}", agrees, how
    )


def _sign(printed: str) -> str:
    return printed.replace("<", "< ") if printed.startswith("<") else f"= {printed}"


def _p_matches(p: float, printed: str) -> bool:
    return p < float(printed[1:]) if printed.startswith("<") else rounds_to(p, float(printed), 3)


def _unfold(table: tuple[tuple[int, ...], ...]) -> tuple[list[int], list[int]]:
    """Scores that a table of counts stands for."""
    pairs = [
        (CATEGORIES[i], CATEGORIES[j])
        for i, line in enumerate(table)
        for j, count in enumerate(line)
        for _ in range(count)
    ]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _score_kappas(figures: Figures) -> list[PublishedRow]:
    """Weighted kappas of Table 2: both protocols pooled, or either alone."""
    summaries = {(row[0], row[1]): row[2:4] for row in figures["scores"]["rows"]}
    rows = []
    for item, printed in figures["score_kappas"]["rows"].items():
        arms = [
            [
                np.array(table)
                for one in margins_of(figures["patients"], *summaries[item, 1][arm])
                for two in margins_of(figures["patients"], *summaries[item, 2][arm])
                for table in joint_tables(one, two)
            ]
            for arm in (0, 1)
        ]
        pooled = [first + second for first in arms[0] for second in arms[1]]
        answers = [
            cohen_kappa(table=table, categories=CATEGORIES, weights="linear")
            for table in (*pooled, *arms[0], *arms[1])
        ]
        agrees = any(
            answer.interval is not None
            and rounds_to(answer.value, printed[0])
            and rounds_to(answer.interval.low, printed[1])
            and rounds_to(answer.interval.high, printed[2])
            for answer in answers
        )
        rows.append(
            PublishedRow(
                "Table 2, kappa",
                item,
                _with_interval(printed),
                _with_interval(printed) if agrees else "-",
                agrees,
                "scores with the printed means and SDs"
                if agrees
                else "no scores of 62 (pooled) or 31 pairs with the printed means and SDs give it",
            )
        )
    return rows


def _with_interval(figures: list[float] | tuple[float, ...] | float) -> str:
    if isinstance(figures, int | float):
        return f"{figures:.2f}"
    return f"{figures[0]:.2f} ({figures[1]:.2f}, {figures[2]:.2f})"


def _snr_tests(figures: Figures) -> list[PublishedRow]:
    """Paired t-tests of Table 3: the largest p that any correlation of the arms allows."""
    rows = []
    n = figures["patients"]
    least_t = t_quantile(1 - 0.001 / 2, n - 1)
    for structure, (*summaries, _) in figures["snr"]["rows"].items():
        for reader, (standard, accelerated) in enumerate((summaries[0:2], summaries[2:4]), start=1):
            widest = (standard[1] + accelerated[1]) / math.sqrt(n)
            t = abs(accelerated[0] - standard[0]) / widest
            rows.append(
                PublishedRow(
                    "Table 3, p",
                    f"{structure}, reader {reader}",
                    "p < 0.001",
                    "p < 0.001" if t > least_t else "-",
                    t > least_t,
                    f"paired t is at least {t:.1f}, however the protocols correlate",
                )
            )
    return rows


def _snr_agreement(figures: Figures) -> list[PublishedRow]:
    """ICCs of Table 3: from data that are built to have all their margins."""
    rows = []
    for structure, (one_s, one_a, two_s, two_a, printed) in figures["snr"]["rows"].items():
        arms = [((*one_s,), (*two_s,)), ((*one_a,), (*two_a,))]
        pooled = data_with_icc(figures["patients"], arms, printed)
        within = [data_with_icc(figures["patients"], [arm], printed) for arm in arms]
        alone = any(found is not None for found in within)
        recomputed = "-"
        if pooled is not None and pooled.value is not None and pooled.interval is not None:
            limits = pooled.interval
            recomputed = _with_interval((pooled.value, limits.low, limits.high))
        rows.append(
            PublishedRow(
                "Table 3, ICC",
                structure,
                _with_interval(printed),
                recomputed,
                pooled is not None,
                f"both protocols pooled (62 rows); {'also' if alone else 'not'} within one",
            )
        )
    return rows


def _finding_kappas(figures: Figures) -> list[PublishedRow]:
    """Kappas of Table 4: from a 2x2 table of all levels."""
    n = figures["patients"] * figures["levels_per_patient"]
    rows = []
    for finding, entries in figures["kappas"]["rows"].items():
        for column, printed in zip(figures["kappas"]["columns"], entries, strict=True):
            if printed == 1:
                table: list[list[int]] | None = [[1, 0], [0, n - 1]]
                how = "any table without disagreement; kappa 1 has no asymptotic interval"
            else:
                table = kappa_table(n, *printed)
                how = f"no 2x2 table of {n} levels gives it"
            rows.append(_kappa_row(f"{finding}, {column}", printed, table, how))
    return rows


def _kappa_row(
    item: str, printed: float | list[float], table: list[list[int]] | None, how: str
) -> PublishedRow:
    name, shown = "Table 4, kappa", _with_interval(printed)
    if table is None:
        return PublishedRow(name, item, shown, "-", agrees=False, how=how)
    answer = cohen_kappa(table=table)
    value, limits = answer.value or 0.0, answer.interval
    if limits is None:
        return PublishedRow(name, item, shown, f"{value:.2f}", rounds_to(value, 1.0), how)
    figures = (value, limits.low, min(limits.high, 1.0))
    agrees = isinstance(printed, list) and all(
        rounds_to(found, figure) for found, figure in zip(figures, printed, strict=True)
    )
    return PublishedRow(name, item, shown, _with_interval(figures), agrees, f"2x2 table {table}")


def _detection(figures: Figures, margin: float, alpha: float) -> list[PublishedRow]:
    """McNemar tests of Table 5, and what the study lacked: non-inferiority."""
    n = figures["patients"] * figures["levels_per_patient"]
    rows = []
    for finding, (total, both, standard, accelerated, p) in figures["detection"]["rows"].items():
        neither = n - both - standard - accelerated
        test = mcnemar(table=[[both, standard], [accelerated, neither]])
        exact = test.p_value if test.p_value is not None else math.nan
        rows.append(
            PublishedRow(
                "Table 5, McNemar",
                finding,
                f"p = {p}",
                f"p = {exact:.3f}",
                _p_matches(exact, p) and both + standard + accelerated == total,
                f"exact binomial, {standard} standard only, {accelerated} accelerated only",
                noninferiority_paired_proportions(
                    accelerated, standard, n, margin=margin, alpha=alpha
                ),
            )
        )
    return rows
