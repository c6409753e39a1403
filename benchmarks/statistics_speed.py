"""Single statistics against the libraries, side by side in one run.

    python benchmarks/statistics_speed.py [--quick]

Needs the extra ``benchmark``. Every line gives both times, their ratio and the bar that the
project set itself; the exit status tells whether all bars were met. Both sides answer the same
question on the same data, and where both give a number the numbers are compared first. All tables
of a study together: `study_tables_speed.py`.
"""

import argparse
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pingouin
from sklearn.metrics import cohen_kappa_score

import halfscan_stats as hs

Scores = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """One comparison."""

    name: str
    ours_s: float
    theirs_s: float
    bar: float | None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs_s / self.ours_s

    @property
    def met(self) -> bool:
        """Whether the bar was met, where there is one."""
        return self.bar is None or self.ratio >= self.bar


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    bar: float | None = None,
    repeats: tuple[int, int] = (200, 10),
) -> Row:
    """Time both, and print the line."""
    row = Row(name, seconds(ours, repeats[0]), seconds(theirs, repeats[1]), bar)
    bar_text = "" if bar is None else f"bar {bar:g}: {'met' if row.met else 'MISSED'}"
    print(
        f"{name:<58}{row.ours_s * 1e3:>10.3f} ms{row.theirs_s * 1e3:>12.2f} ms"
        f"{row.ratio:>9.1f} x   {bar_text}",
        flush=True,
    )
    return row


def agree(ours: float | None, theirs: float, tolerance: float = 1e-9) -> None:
    """Stop unless both sides answer the same."""
    if ours is None or abs(ours - theirs) > tolerance:
        sys.exit(f"the two sides disagree: {ours} and {theirs}")


def long_table(ratings: Scores) -> pd.DataFrame:
    """Ratings as pingouin wants them: a row a score."""
    n, k = ratings.shape
    return pd.DataFrame(
        {
            "subject": np.repeat(np.arange(n), k),
            "reader": np.tile(np.arange(k), n),
            "score": ratings.ravel(),
        }
    )


def pingouin_icc(table: pd.DataFrame) -> pd.DataFrame:
    """Pingouin's table of six intraclass correlations."""
    return pingouin.intraclass_corr(table, targets="subject", raters="reader", ratings="score")


def icc_rows(rng: np.random.Generator, *, quick: bool) -> list[Row]:
    """ICC of pingouin: six forms, and ours: six forms, and the one that is reported."""
    rows = []
    for n, k in ((155, 2), (10_000, 10)):
        if quick and n > 1000:
            continue
        ratings = rng.normal(10, 2, (n, 1)) + rng.normal(0, 1, (n, k))
        table = long_table(ratings)
        theirs = pingouin_icc(table).set_index("Type")["ICC"]
        agree(hs.icc(ratings).value, float(theirs["ICC(A,1)"]))
        rows += [
            compare(
                f"ICC, six forms, {n:,} x {k}: pingouin",
                lambda ratings=ratings: hs.icc_forms(ratings),  # type: ignore[misc]
                lambda table=table: pingouin_icc(table),  # type: ignore[misc]
                bar=30,
            ),
            compare(
                f"ICC(A,1) alone, {n:,} x {k}: pingouin",
                lambda ratings=ratings: hs.icc(ratings),  # type: ignore[misc]
                lambda table=table: pingouin_icc(table),  # type: ignore[misc]
            ),
        ]
    return rows


def nested_findings(rng: np.random.Generator) -> tuple[Scores, Scores, Scores]:
    """Patient, first and second reader: 31 patients x 5 levels."""
    patient = np.repeat(np.arange(31), 5)
    tendency = np.repeat(rng.normal(-0.5, 1, 31), 5) + rng.normal(0, 0.5, 155)
    first, second = (tendency + rng.normal(0, 0.4, (2, 155)) > 0).astype(np.int64)
    return patient, first, second


def sklearn_bootstrap(
    patient: Scores, first: Scores, second: Scores, n_resamples: int
) -> npt.NDArray[np.float64]:
    """Index loop: draw patients, gather their rows, ask scikit-learn."""
    rng = np.random.default_rng(1)
    members = [np.flatnonzero(patient == each) for each in np.unique(patient)]
    values = np.empty(n_resamples)
    for index in range(n_resamples):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        values[index] = cohen_kappa_score(first[rows], second[rows])
    return np.quantile(values, [0.025, 0.975])


def bootstrap_rows(rng: np.random.Generator, *, quick: bool) -> list[Row]:
    """Cluster bootstrap of kappa."""
    patient, first, second = nested_findings(rng)
    n_resamples = 200 if quick else 2000

    def ours() -> hs.Bootstrap:
        return hs.cluster_bootstrap(
            "kappa", first, second, cluster=patient, rng=1, n_resamples=n_resamples
        )

    interval = ours().interval
    low, high = sklearn_bootstrap(patient, first, second, n_resamples)
    if interval is None:
        sys.exit("the bootstrap has no interval")
    agree(interval.low, float(low))
    agree(interval.high, float(high))
    return [
        compare(
            f"cluster bootstrap, {n_resamples:,} x 31 patients x 5: sklearn",
            ours,
            lambda: sklearn_bootstrap(patient, first, second, n_resamples),
            bar=500,
            repeats=(50, 3),
        )
    ]


def kappa_rows(rng: np.random.Generator) -> list[Row]:
    """Weighted kappa, ours with its interval and test, scikit-learn's without."""
    truth = rng.integers(1, 5, 100_000)
    first, second = (np.clip(truth + rng.integers(-1, 2, 100_000), 1, 4) for _ in range(2))
    scale = (1, 2, 3, 4)
    table = table_of((first, second), 4, 1)

    def ours() -> hs.Agreement:
        return hs.cohen_kappa(first, second, categories=scale, weights="quadratic")

    agree(ours().value, float(cohen_kappa_score(first, second, weights="quadratic")))
    return [
        compare(
            "weighted kappa with interval, n = 100,000: sklearn",
            ours,
            lambda: cohen_kappa_score(first, second, labels=list(scale), weights="quadratic"),
            repeats=(50, 20),
        ),
        compare(
            "the same, ours from the table of counts: sklearn",
            lambda: hs.cohen_kappa(table=table, weights="quadratic"),
            lambda: cohen_kappa_score(first, second, labels=list(scale), weights="quadratic"),
            repeats=(200, 20),
        ),
    ]


def table_of(pair: Any, size: int, start: int) -> Scores:
    """Contingency table of two vectors, as fast as numpy makes it."""
    first, second = pair
    cells = (first - start) * size + second - start
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def peak_bytes(function: Callable[[], object]) -> int:
    """Most memory held at once during a call, beyond what was there before."""
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def memory_rows(rng: np.random.Generator) -> bool:
    """Peak memory over the bytes of the input, for n and 2 n: proportional if both are alike."""
    print(f"\n{'peak memory over input, float64, 10 readers':<48}{'n = 50,000':>12}{'100,000':>10}")
    scale = (1, 2, 3, 4)
    cluster = rng.integers(0, 5000, 100_000)
    functions: dict[str, Callable[[Scores, Scores], object]] = {
        "fleiss_kappa": lambda x, _: hs.fleiss_kappa(x, categories=scale),
        "fleiss_kappa, clustered": lambda x, c: hs.fleiss_kappa(x, categories=scale, cluster=c),
        "gwet_ac, quadratic": lambda x, _: hs.gwet_ac(x, categories=scale, weights="quadratic"),
        "pabak": lambda x, _: hs.pabak(x, categories=scale),
        "icc": lambda x, _: hs.icc(x),
        "icc, clustered": lambda x, c: hs.icc(x, cluster=c),
        "krippendorff_alpha, nominal": lambda x, _: hs.krippendorff_alpha(x),
        "krippendorff_alpha, ordinal": lambda x, _: hs.krippendorff_alpha(x, metric="ordinal"),
        "krippendorff_alpha, ratio": lambda x, _: hs.krippendorff_alpha(x, metric="ratio"),
    }
    proportional = True
    for name, function in functions.items():
        ratios = []
        for n in (50_000, 100_000):
            ratings = rng.integers(1, 5, (n, 10)).astype(np.float64)
            peak = peak_bytes(lambda x=ratings, c=cluster[:n]: function(x, c))  # type: ignore[misc]  # noqa: B023
            ratios.append(peak / ratings.nbytes)
        proportional &= ratios[1] < 1.2 * ratios[0]
        print(f"{name:<48}{ratios[0]:>11.1f}x{ratios[1]:>9.1f}x")
    ratings = rng.normal(10, 2, (100_000, 10))  # a million different values
    peak = peak_bytes(lambda: hs.krippendorff_alpha(ratings, metric="interval"))
    print(
        f"{'krippendorff_alpha, interval, all values differ':<48}{'':>12}"
        f"{peak / ratings.nbytes:>9.1f}x"
    )
    return proportional


def main() -> int:
    """Run everything; 0 if all bars were met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that it runs")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # pingouin calls pandas in ways that pandas deprecates
    rng = np.random.default_rng(2024)
    print(f"{'':<58}{'ours':>13}{'theirs':>15}{'ratio':>11}")
    rows = [
        *icc_rows(rng, quick=quick),
        *bootstrap_rows(rng, quick=quick),
        *kappa_rows(rng),
    ]
    proportional = memory_rows(rng)
    missed = [row.name for row in rows if not row.met]
    print(f"\nmemory {'grows with the input' if proportional else 'GROWS FASTER THAN THE INPUT'}")
    print("all bars met" if not missed else f"missed: {', '.join(missed)}")
    return 0 if proportional and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
