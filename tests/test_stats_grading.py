"""Visual grading: characteristics and regression, against R, against definitions, on bad input."""

import csv
import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from halfscan_stats import (
    StatsError,
    cumulative_link_mixed_model,
    visual_grading_characteristics,
)
from halfscan_stats.cumulative_link import CumulativeLinkData, laplace_likelihood

quick = settings(max_examples=50, deadline=None)
ORACLE = Path(__file__).with_name("grading_oracle.R")
GOLDEN = Path(__file__).parent / "golden" / "grading.json"
COLUMNS = ("score", "test", "sequence", "patient", "reader")
SCALE = range(1, 7)
# Readers are fixed: two are too few for R's random effect.
FIXED = {"two_readers", "three_fixed"}


def studies() -> dict[str, npt.NDArray[np.int64]]:
    """Simulated studies, (observation, score test sequence patient reader)."""
    unused = simulated(11, readers=3, points=5)
    return {
        "three_readers": simulated(1, readers=3, of_readers=0.4),
        "four_readers": simulated(2, readers=4, of_readers=0.8),
        "missing_and_sequences": simulated(3, readers=3, of_readers=0.7, sequences=2, missing=0.15),
        "no_patients_spread": simulated(14, readers=3, of_patients=0.0),
        "five_points": simulated(6, patients=60, readers=3, of_readers=1.0, points=5),
        "one_reader": simulated(9, patients=60, readers=1, of_patients=1.5),
        "no_readers_spread": simulated(8, readers=3, of_readers=0.0, effect=0.3),
        "unused_category": unused[unused[:, 0] != 3],
        "two_readers": simulated(5, readers=2),
        "three_fixed": simulated(12, readers=3, sequences=2, missing=0.3),
    }


def simulated(
    seed: int,
    *,
    patients: int = 31,
    readers: int = 2,
    sequences: int = 1,
    of_patients: float = 0.8,
    of_readers: float = 0.4,
    effect: float = 0.7,
    points: int = 4,
    missing: float = 0.0,
) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    liking, strictness = rng.normal(0, of_patients, patients), rng.normal(0, of_readers, readers)
    cuts = np.linspace(-2.5, 1, points - 1)
    rows = []
    for patient in range(patients):
        for reader in range(readers):
            for test in (0, 1):
                for sequence in range(sequences):
                    if rng.random() < missing:
                        continue
                    predictor = effect * test + 0.3 * sequence
                    predictor += liking[patient] + strictness[reader]
                    score = int((predictor + rng.logistic() > cuts).sum()) + 1
                    rows.append((score, test, sequence, patient, reader))
    return np.array(rows)


def fitted(rows: npt.NDArray[np.int64], readers: str = "random") -> Any:
    effects = {"test": rows[:, 1]}
    if np.ptp(rows[:, 2]):
        effects["sequence"] = rows[:, 2]
    return cumulative_link_mixed_model(
        rows[:, 0],
        effects,
        cluster=rows[:, 3],
        reader=rows[:, 4],
        readers=readers,
        tested="test",
        categories=SCALE,
    )


def role(name: str) -> str:
    return "fixed" if name in FIXED else "random"


def figures(fit: Any) -> list[float]:
    """In the order in which R prints them."""
    return [
        fit.log_likelihood,
        *fit.thresholds,
        *(effect.estimate for effect in fit.coefficients),
        *(effect.se for effect in fit.coefficients),
        fit.sd_cluster,
        *([] if fit.sd_reader is None else [fit.sd_reader]),
        fit.lr_statistic,
    ]


@pytest.mark.parametrize("name", list(studies()))
def test_the_regression_gives_what_r_gave(name: str) -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))["studies"][name]
    fit = fitted(studies()[name], role(name))
    assert fit.reason is None
    assert figures(fit) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_r_gives_it_today(tmp_path: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed (Debian: r-base-core, r-cran-ordinal)")
    try_it = ["Rscript", "-e", "library(ordinal); library(numDeriv)"]
    if subprocess.run(try_it, capture_output=True, check=False).returncode:
        pytest.skip("R has no ordinal or numDeriv (Debian: r-cran-ordinal, r-cran-numderiv)")
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))["studies"]
    names = ("no_readers_spread", "one_reader", "three_fixed")  # each of the three models
    files = []
    for name in names:
        files.append(tmp_path / f"{name}.csv")
        with files[-1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, "readers"))
            writer.writerows([*row, role(name)] for row in studies()[name].tolist())
    said = subprocess.run(
        ["Rscript", ORACLE, *files], capture_output=True, text=True, check=True, timeout=170
    ).stdout
    for line, name in zip(said.splitlines(), names, strict=True):
        found = [float(word) for word in line.split()]
        assert found == pytest.approx(expected[name], rel=1e-8, abs=1e-7)


def test_swapped_arms_turn_the_effect_and_a_reversed_scale_too() -> None:
    rows = simulated(5, readers=2)
    fit = fitted(rows)
    effect = fit.coefficient("test")
    swapped = rows.copy()
    swapped[:, 1] = 1 - rows[:, 1]
    assert fitted(swapped).coefficient("test").estimate == pytest.approx(-effect.estimate, abs=1e-6)
    reversed_scale = rows.copy()
    reversed_scale[:, 0] = 5 - rows[:, 0]
    turned = fitted(reversed_scale)
    assert turned.coefficient("test").estimate == pytest.approx(-effect.estimate, abs=1e-6)
    assert turned.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    ratio, interval = fit.odds_ratio("test")
    assert ratio == pytest.approx(math.exp(effect.estimate))
    assert interval.low < ratio < interval.high
    assert (fit.n_clusters, fit.n_readers, fit.sd_reader is not None) == (31, 2, True)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rows = simulated(31, readers=3, sequences=2, missing=0.2)
    data = CumulativeLinkData(
        scores=rows[:, 0] - 1,
        design=rows[:, 1:3].astype(float),
        clusters=rows[:, 3],
        readers=rows[:, 4],
        n_categories=4,
        n_clusters=31,
        n_readers=3,
    )
    point = np.array([-2.0, -0.5, 1.0, 0.4, 0.1, 0.9, -0.5])
    _, gradient = laplace_likelihood(data, point[:5], point[5:])
    for place, slope in enumerate(gradient):
        aside = np.zeros(7)
        aside[place] = 1e-5
        ahead, back = (
            laplace_likelihood(data, moved[:5], moved[5:])[0]
            for moved in (point + aside, point - aside)
        )
        assert slope == pytest.approx((ahead - back) / 2e-5, abs=1e-6)


def test_the_likelihood_ratio_is_that_of_the_model_without_the_effect() -> None:
    rows = simulated(32, readers=3, sequences=2)
    both = fitted(rows)
    smaller = cumulative_link_mixed_model(
        rows[:, 0],
        {"sequence": rows[:, 2]},
        cluster=rows[:, 3],
        reader=rows[:, 4],
        categories=SCALE,
    )
    loss = 2 * (both.log_likelihood - smaller.log_likelihood)
    assert both.lr_statistic == pytest.approx(loss, abs=1e-9)
    assert both.lr_p_value == pytest.approx(stats.chi2.sf(loss, 1))
    assert (smaller.tested, smaller.lr_p_value, smaller.lr_reason) == (None, None, None)


def test_a_category_that_nobody_used_changes_nothing() -> None:
    rows = simulated(7)
    wide = cumulative_link_mixed_model(
        rows[:, 0], {"test": rows[:, 1]}, cluster=rows[:, 3], categories=range(-2, 9)
    )
    tight = cumulative_link_mixed_model(
        rows[:, 0], {"test": rows[:, 1]}, cluster=rows[:, 3], categories=range(1, 5)
    )
    assert wide == tight
    assert wide.sd_reader is None


def test_the_effect_is_found_as_often_as_it_should_be() -> None:
    """Of 60 simulated studies the 95 % interval holds the effect in at least 52."""
    held = 0
    for seed in range(60):
        effect = fitted(simulated(100 + seed, readers=2, of_readers=0.3)).coefficient("test")
        held += effect.interval.low <= 0.7 <= effect.interval.high
    assert 52 <= held <= 60


@pytest.mark.parametrize(
    ("scores", "test", "patients", "reason"),
    [
        ([3, 3, 3, 3], [0, 1, 0, 1], [1, 1, 2, 2], "no_variation"),
        ([3, 2], [0, 1], [1, 1], "too_few"),
        ([None, None], [0, 1], [1, 2], "too_few"),
        ([3, 2, 3, 2], [1, 1, 1, 1], [1, 1, 2, 2], "singular"),
        ([1] * 12 + [4] * 12, [0] * 12 + [1] * 12, list(range(12)) * 2, "singular"),
    ],
)
def test_a_regression_without_an_answer(
    scores: list[Any], test: list[int], patients: list[int], reason: str
) -> None:
    fit = cumulative_link_mixed_model(
        scores, {"test": test}, cluster=patients, tested="test", categories=SCALE
    )
    assert (fit.reason, fit.coefficients, fit.log_likelihood) == (reason, (), None)
    assert fit.odds_ratio("test") is None
    assert (fit.lr_p_value, fit.lr_reason) == (None, reason)
    json.dumps(fit.as_dict(), allow_nan=False)


# --- characteristics ----------------------------------------------------------------------------


def vgc(rows: npt.NDArray[np.int64], **more: Any) -> Any:
    return visual_grading_characteristics(
        rows[:, 0], rows[:, 1], cluster=rows[:, 3], categories=SCALE, **more
    )


def test_the_area_is_that_of_mann_and_whitney() -> None:
    rows = simulated(8, readers=3)
    answer = vgc(rows)
    new, old = rows[rows[:, 1] == 1, 0], rows[rows[:, 1] == 0, 0]
    assert answer.value == pytest.approx(
        stats.mannwhitneyu(new, old).statistic / new.size / old.size
    )
    x, y = np.array(answer.curve).T
    assert (answer.curve[0], answer.curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert np.trapezoid(y, x) == pytest.approx(answer.value)
    assert (answer.n_test, answer.n_reference, answer.n_clusters) == (new.size, old.size, 31)


def test_by_hand() -> None:
    # Test 2, 3, 3 against reference 1, 2, 3, a patient each: 1.5, 2.5 and 2.5 of 3 are beaten.
    answer = visual_grading_characteristics(
        [1, 2, 3, 2, 3, 3], [0, 0, 0, 1, 1, 1], cluster=[1, 2, 3, 1, 2, 3], categories=SCALE
    )
    assert answer.value == pytest.approx(6.5 / 9)
    # Components: test 1/2, 5/6, 5/6; reference 1, 5/6, 1/3. Their sums by patient, about the area.
    sums = np.array([1 / 2 + 1, 5 / 6 + 5 / 6, 5 / 6 + 1 / 3]) / 3 - 2 * 6.5 / 9 / 3
    assert answer.se == pytest.approx(math.sqrt(3 / 2 * float(sums @ sums)))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.sampled_from([0.9, 0.95]))
def test_p_and_interval_agree_and_arms_can_be_swapped(
    seed: int, patients: int, level: float
) -> None:
    rows = simulated(seed, patients=patients, readers=2, missing=0.1)
    answer = vgc(rows, level=level)
    json.dumps(answer.as_dict(), allow_nan=False)
    swapped = rows.copy()
    swapped[:, 1] = 1 - rows[:, 1]
    other = vgc(swapped, level=level)
    if answer.value is None:
        assert answer.reason == "too_few"
        return
    assert other.value == pytest.approx(1 - answer.value)
    if answer.interval is None:
        assert answer.reason is not None
        return
    assert 0 <= answer.interval.low <= answer.value <= answer.interval.high <= 1
    if abs(answer.p_value - (1 - level)) > 1e-9:
        outside = answer.interval.low > 0.5 or answer.interval.high < 0.5
        assert outside == (answer.p_value < 1 - level)


def random_readers(rows: npt.NDArray[np.int64], **more: Any) -> Any:
    return vgc(rows, reader=rows[:, 4], **more)


def test_random_readers_by_hand() -> None:
    """Hillis 2007 for a single treatment, from areas of readers and jackknifed covariances."""
    rows = simulated(21, patients=40, readers=4, of_readers=0.5)
    answer = random_readers(rows)
    areas = np.array([vgc(rows[rows[:, 4] == reader]).value for reader in range(4)])
    left = np.array(
        [
            [
                vgc(rows[(rows[:, 4] == reader) & (rows[:, 3] != patient)]).value
                for reader in range(4)
            ]
            for patient in range(40)
        ]
    )
    covariance = np.cov(left.T) * 39**2 / 40
    off = (covariance.sum() - np.trace(covariance)) / 12
    se = math.sqrt((areas.var(ddof=1) + 4 * max(off, 0)) / 4)
    assert answer.reader_areas == pytest.approx(areas)
    assert answer.value == pytest.approx(areas.mean())
    assert answer.se == pytest.approx(se, rel=0.03)
    df = min((4 * answer.se**2 / areas.var(ddof=1)) ** 2 * 3, 39)
    assert answer.df == pytest.approx(df)
    assert (answer.readers, vgc(rows).readers) == ("random", "fixed")


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([0.0, 0.2]))
def test_random_readers_can_be_swapped_and_agree_with_p(
    seed: int, readers: int, missing: float
) -> None:
    rows = simulated(seed, patients=12, readers=readers, missing=missing)
    answer = random_readers(rows)
    json.dumps(answer.as_dict(), allow_nan=False)
    swapped = rows.copy()
    swapped[:, 1] = 1 - rows[:, 1]
    other = random_readers(swapped)
    assert other.value == pytest.approx(1 - answer.value)
    if answer.interval is None:
        assert answer.reason is not None
        return
    assert other.p_value == pytest.approx(answer.p_value)
    if abs(answer.p_value - 0.05) > 1e-9:
        outside = answer.interval.low > 0.5 or answer.interval.high < 0.5
        assert outside == (answer.p_value < 0.05)


def test_one_reader_is_no_sample_of_readers() -> None:
    rows = simulated(22, readers=2)
    one = random_readers(rows[rows[:, 4] == 0])
    assert (one.interval, one.p_value, one.reason) == (None, None, "too_few")
    assert one.value == pytest.approx(vgc(rows[rows[:, 4] == 0]).value)
    # A reader who saw one protocol alone has no area.
    half = random_readers(rows[(rows[:, 4] == 0) | (rows[:, 1] == 0)])
    assert (len(half.reader_areas), half.value) == (1, one.value)
    assert (half.n, half.n_given) == (62, 93)


def test_readers_who_differ_widen_the_interval_of_readers_like_these() -> None:
    """Of 200 simulated studies of no difference, readers random in their taste (true area .5)."""
    rng, wrong = np.random.default_rng(23), {"fixed": 0, "random": 0}
    for seed in range(200):
        rows = simulated(1000 + seed, patients=20, readers=4, effect=0.0)
        taste = rng.integers(-1, 2, 4)
        rows[:, 0] = np.clip(rows[:, 0] + rows[:, 1] * taste[rows[:, 4]], 1, 6)
        for answer in (vgc(rows), random_readers(rows)):
            wrong[answer.readers] += answer.p_value is not None and answer.p_value < 0.05
    assert wrong["fixed"] > 60
    assert wrong["random"] <= 24


def test_more_scores_of_the_same_patients_are_no_new_patients() -> None:
    rows = simulated(9)
    once, twice = vgc(rows), vgc(np.repeat(rows, 2, axis=0))
    assert (twice.value, twice.se) == pytest.approx((once.value, once.se))


@pytest.mark.parametrize(
    ("scores", "test", "patients", "value", "reason"),
    [
        ([3, 3, 3, 3], [0, 1, 0, 1], [1, 1, 2, 2], 0.5, "no_variation"),
        ([3, 3, 2, 2], [0, 1, 0, 1], [1, 1, 2, 2], 0.5, "zero_variance"),
        ([3, 2], [0, 1], [1, 1], 0.0, "too_few"),
        ([3, None], [0, 1], [1, 2], None, "too_few"),
    ],
)
def test_characteristics_without_an_interval(
    scores: list[Any], test: list[int], patients: list[int], value: float | None, reason: str
) -> None:
    answer = visual_grading_characteristics(scores, test, cluster=patients, categories=SCALE)
    assert (answer.value, answer.interval, answer.reason) == (value, None, reason)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: visual_grading_characteristics([1, 2], [0, 2], cluster=[1, 2], categories=SCALE),
         "test must be 0 or 1"),
        (lambda: visual_grading_characteristics([1, 2], [0], cluster=[1, 2], categories=SCALE),
         "vectors of one length"),
        (lambda: visual_grading_characteristics([1, 9], [0, 1], cluster=[1, 2], categories=SCALE),
         "must lie on the scale"),
        (lambda: cumulative_link_mixed_model([1, 2], {}, cluster=[1, 2], categories=SCALE),
         "at least one fixed effect"),
        (lambda: cumulative_link_mixed_model([1, 2], {"a": [1]}, cluster=[1, 2], categories=SCALE),
         "effect 'a' must have one value an observation"),
        (lambda: cumulative_link_mixed_model(
            [1, 2], {"a": [0, 1]}, cluster=[1, 2], categories=SCALE, readers="some"),
         "readers must be random or fixed, got 'some'"),
        (lambda: cumulative_link_mixed_model(
            [1, 2], {"a": [0, 1]}, cluster=[1, 2], categories=SCALE, tested="b"),
         "tested must be one of a, got 'b'"),
        (lambda: cumulative_link_mixed_model(
            [1, 2], {"a": [0, 1]}, cluster=[1, 2], categories=SCALE, level=2),
         "level must be"),
    ],
)  # fmt: skip
def test_refused(call: Any, said: str) -> None:
    with pytest.raises(StatsError, match=said):
        call()
