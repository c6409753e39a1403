"""All tables of the reference study, by this package and by the best libraries, in one run.

    python benchmarks/study_tables_speed.py [--repeats N]

Needs the extra ``benchmark``. A simulated study of the size of Tang et al. 2024 (31 patients, 2
readers, 4 sequences, 5 levels) gives Table 2 (scores: mean, SD, Wilcoxon, weighted kappa) and
Table 3 (SNR: mean, SD, normality, paired t, ICC) of every sequence, Table 4 (kappas of findings)
and Table 5 (McNemar). Both sides compute the same figures from the same arrays, which are compared
before anything is timed. The libraries: scipy (Wilcoxon without continuity correction, t, Shapiro-
Wilk), pingouin (ICC), statsmodels (kappa with its interval, McNemar, Bonferroni), scikit-learn
(contingency tables on the declared scale). Exit status 1 if the bar of 8 is missed.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pingouin
from scipy import stats
from sklearn.metrics import confusion_matrix
from statsmodels.stats import contingency_tables, inter_rater
from statsmodels.stats.multitest import multipletests

import halfscan_stats as hs

Numbers = npt.NDArray[Any]
BAR = 8.0
PATIENTS, LEVELS, SEQUENCES = 31, 5, 4
ITEMS, STRUCTURES, FINDINGS = 5, 13, 8
SCALE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Study:
    """Simulated answers; the arms are standard and accelerated."""

    scores: Numbers  # (sequence, item, arm, reader, patient)
    snr: Numbers  # (sequence, structure, arm, reader, patient)
    findings: Numbers  # (finding, arm, reader, level of a patient)


def simulated(seed: int) -> Study:
    """Draw a study: readers agree mostly, and the accelerated arm is a little better."""
    rng = np.random.default_rng(seed)
    patient = rng.normal(0, 0.4, (SEQUENCES, ITEMS, 1, 1, PATIENTS))
    latent = 3.6 + patient + rng.normal(0, 0.4, (SEQUENCES, ITEMS, 2, 2, PATIENTS))
    latent[:, :, 1] += 0.2
    size = (SEQUENCES, STRUCTURES, 1, 1, PATIENTS)
    snr = rng.lognormal(4.6, 0.25, size) * rng.normal(
        1, 0.12, (SEQUENCES, STRUCTURES, 2, 2, PATIENTS)
    )
    snr[:, :, 1] *= 1.8
    tendency = rng.normal(-0.8, 1, (FINDINGS, 1, 1, PATIENTS * LEVELS))
    noise = rng.normal(0, 0.25, (FINDINGS, 2, 2, PATIENTS * LEVELS))
    return Study(
        scores=np.clip(np.round(latent), 1, 4).astype(int),
        snr=snr,
        findings=(tendency + noise > 0).astype(int),
    )


class Figures(dict[str, float]):
    """Figures by name."""

    def note(self, name: str, *values: float | None) -> None:
        """Keep the figures of one cell of a table."""
        self.update({f"{name} {i}": np.nan if v is None else v for i, v in enumerate(values)})


def scores_by_package(study: Study) -> Figures:
    """Table 2 of every sequence, by halfscan_stats."""
    figures = Figures()
    for s, i in np.ndindex(SEQUENCES, ITEMS):
        item, p_values = study.scores[s, i], []
        for r in range(2):
            figures.note(f"score {s} {i} {r}", *_means(item[:, r]))
            p_values.append(hs.wilcoxon_signed_rank(item[0, r], item[1, r]).p_value)
        adjusted = hs.adjust_pvalues(p_values, "bonferroni")
        figures.note(f"wilcoxon {s} {i}", *p_values, *adjusted.values)  # noqa: PD011  (no pandas)
        pooled = item.transpose(1, 0, 2).reshape(2, -1)
        kappa = hs.cohen_kappa(*pooled, categories=SCALE, weights="linear")
        figures.note(f"weighted {s} {i}", kappa.value, *_limits(kappa.interval))
    return figures


def scores_by_libraries(study: Study) -> Figures:
    """Table 2 of every sequence, by scipy, statsmodels and scikit-learn."""
    figures = Figures()
    for s, i in np.ndindex(SEQUENCES, ITEMS):
        item, p_values = study.scores[s, i], []
        for r in range(2):
            figures.note(f"score {s} {i} {r}", *_means(item[:, r]))
            test = stats.wilcoxon(item[0, r], item[1, r], correction=False, method="asymptotic")
            p_values.append(test.pvalue)
        adjusted = multipletests(p_values, method="bonferroni")[1]
        figures.note(f"wilcoxon {s} {i}", *p_values, *adjusted)
        pooled = item.transpose(1, 0, 2).reshape(2, -1)
        table = confusion_matrix(*pooled, labels=SCALE)
        kappa = inter_rater.cohens_kappa(table, wt="linear")
        figures.note(f"weighted {s} {i}", kappa.kappa, kappa.kappa_low, kappa.kappa_upp)
    return figures


def snr_by_package(study: Study) -> Figures:
    """Table 3 of every sequence without its ICC, by halfscan_stats."""
    figures = Figures()
    for s, i, r in np.ndindex(SEQUENCES, STRUCTURES, 2):
        standard, accelerated = study.snr[s, i, 0, r], study.snr[s, i, 1, r]
        figures.note(f"snr {s} {i} {r}", *_means(study.snr[s, i, :, r]))
        normal = hs.shapiro_wilk(standard - accelerated)
        t = hs.paired_t(standard, accelerated)
        figures.note(f"t {s} {i} {r}", normal.p_value, t.p_value, *_limits(t.interval))
    return figures


def snr_by_libraries(study: Study) -> Figures:
    """Table 3 of every sequence without its ICC, by scipy."""
    figures = Figures()
    for s, i, r in np.ndindex(SEQUENCES, STRUCTURES, 2):
        standard, accelerated = study.snr[s, i, 0, r], study.snr[s, i, 1, r]
        figures.note(f"snr {s} {i} {r}", *_means(study.snr[s, i, :, r]))
        normal = stats.shapiro(standard - accelerated)
        t = stats.ttest_rel(standard, accelerated)
        figures.note(f"t {s} {i} {r}", normal.pvalue, t.pvalue, *t.confidence_interval())
    return figures


def icc_by_package(study: Study) -> Figures:
    """ICC(A,1) of Table 3, both arms pooled, by halfscan_stats."""
    figures = Figures()
    for s, i in np.ndindex(SEQUENCES, STRUCTURES):
        icc = hs.icc(study.snr[s, i].transpose(0, 2, 1).reshape(-1, 2))
        figures.note(f"icc {s} {i}", icc.value, *_limits(icc.interval))
    return figures


def icc_by_libraries(study: Study) -> Figures:
    """ICC(A,1) of Table 3, both arms pooled, by pingouin."""
    figures = Figures()
    for s, i in np.ndindex(SEQUENCES, STRUCTURES):
        icc = _pingouin_icc(study.snr[s, i].transpose(0, 2, 1).reshape(-1, 2))
        figures.note(f"icc {s} {i}", icc["ICC"], *icc["CI95"])
    return figures


def findings_by_package(study: Study) -> Figures:
    """Tables 4 and 5, by halfscan_stats."""
    figures = Figures()
    for f, finding in enumerate(study.findings):
        for k, (one, two) in enumerate(_pairs(finding)):
            kappa = hs.cohen_kappa(one, two, categories=(0, 1))
            figures.note(f"kappa {f} {k}", kappa.value, *_limits(kappa.interval))
        figures.note(f"mcnemar {f}", hs.mcnemar(finding[0, 0], finding[1, 0]).p_value)
    return figures


def findings_by_libraries(study: Study) -> Figures:
    """Tables 4 and 5, by statsmodels and scikit-learn."""
    figures = Figures()
    for f, finding in enumerate(study.findings):
        for k, (one, two) in enumerate(_pairs(finding)):
            kappa = inter_rater.cohens_kappa(confusion_matrix(one, two, labels=(0, 1)))
            figures.note(f"kappa {f} {k}", kappa.kappa, kappa.kappa_low, kappa.kappa_upp)
        table = confusion_matrix(finding[0, 0], finding[1, 0], labels=(0, 1))
        figures.note(f"mcnemar {f}", contingency_tables.mcnemar(table, exact=True).pvalue)
    return figures


PARTS = (
    ("Table 2, scores", scores_by_package, scores_by_libraries),
    ("Table 3, SNR", snr_by_package, snr_by_libraries),
    ("Table 3, ICC", icc_by_package, icc_by_libraries),
    ("Tables 4 and 5, findings", findings_by_package, findings_by_libraries),
)


def _means(arms: Numbers) -> tuple[float, ...]:
    """Mean and standard deviation of both arms: the same code for both sides."""
    return (*arms.mean(axis=1), *arms.std(axis=1, ddof=1))


def _limits(interval: hs.Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _pairs(finding: Numbers) -> list[tuple[Numbers, Numbers]]:
    """Between the readers of either arm, and between the arms for either reader."""
    return [
        (finding[0, 0], finding[0, 1]),
        (finding[1, 0], finding[1, 1]),
        (finding[0, 0], finding[1, 0]),
        (finding[0, 1], finding[1, 1]),
    ]


def _pingouin_icc(ratings: Numbers) -> Any:
    n = len(ratings)
    table = pd.DataFrame(
        {
            "subject": np.repeat(np.arange(n), 2),
            "reader": np.tile([0, 1], n),
            "value": ratings.ravel(),
        }
    )
    answer = pingouin.intraclass_corr(table, targets="subject", raters="reader", ratings="value")
    return answer.set_index("Type").loc["ICC(A,1)"]


def compare(ours: Figures, theirs: Figures) -> None:
    """Stop unless both sides give the same figures (pingouin rounds its interval)."""
    if ours.keys() != theirs.keys():
        sys.exit("the two sides give different figures")
    for name, value in ours.items():
        tolerance = 0.0051 if name.startswith("icc") else 1e-6
        known = theirs[name]
        if name.startswith(("kappa", "weighted")):
            known = min(known, 1.0)  # ours clips the upper limit, as tables print it
        if not abs(value - known) <= tolerance:
            sys.exit(f"the two sides disagree on {name}: {value} and {known}")


def seconds(function: Callable[[Study], Figures], study: Study, repeats: int) -> float:
    """Median time of a call; the comparison before it has warmed it up."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(study)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description="The study's tables, ours against libraries.")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of either side")
    repeats = parser.parse_args().repeats
    study = simulated(1)
    names = ("numpy", "scipy", "pingouin", "statsmodels", "scikit-learn")
    print(", ".join(f"{name} {version(name)}" for name in names))
    totals, slowest, figures = [0.0, 0.0], [0.0, 0.0], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and scipy warn of themselves
        for name, *sides in PARTS:
            answers = [side(study) for side in sides]
            compare(*answers)
            figures += len(answers[0])
            times = [seconds(side, study, repeats) for side in sides]
            totals = [total + took for total, took in zip(totals, times, strict=True)]
            slowest = max(slowest, times, key=lambda pair: pair[1])
            print(line(name, times))
    rest = [total - took for total, took in zip(totals, slowest, strict=True)]
    print(line("All but the libraries' slowest", rest))
    print(line(f"All tables ({figures} figures)", totals))
    met = totals[1] / totals[0] >= BAR
    print(f"the same figures on both sides; bar {BAR:g}: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


def line(name: str, times: list[float]) -> str:
    """One line of the result."""
    ours, theirs = (f"{took * 1e3:>8.1f} ms" for took in times)
    return f"{name:<32}ours{ours}   libraries{theirs}   {times[1] / times[0]:>6.1f} x"


if __name__ == "__main__":
    main()
