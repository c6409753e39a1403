"""Agreement of measurements: the six intraclass correlations and the limits of agreement."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pingouin
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from halfscan_stats import (
    ICC_FORMS,
    BlandAltman,
    Icc,
    Reason,
    StatsError,
    bland_altman,
    icc,
    icc_forms,
)

Scores = npt.NDArray[np.float64]

quick = settings(max_examples=60, deadline=None)
# Tenths, so that many scores are equal and sums of squares come out as zero now and then.
scores = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.integers(-30, 30).map(lambda tenths: tenths / 10),
)
# Names of the six forms in pingouin's table.
PINGOUIN = {
    "ICC(1,1)": "1,1",
    "ICC(A,1)": "A,1",
    "ICC(C,1)": "C,1",
    "ICC(1,k)": "1,k",
    "ICC(A,k)": "A,k",
    "ICC(C,k)": "C,k",
}


def same(one: Icc, other: Icc, *, tolerance: float = 1e-7) -> None:
    assert one.reason == other.reason
    assert (one.value is None) == (other.value is None)
    if one.value is not None:
        assert one.value == pytest.approx(other.value, abs=tolerance, rel=tolerance)
    assert (one.interval is None) == (other.interval is None)
    if one.interval is not None and other.interval is not None:
        limits = (other.interval.low, other.interval.high)
        found = (one.interval.low, one.interval.high)
        assert found == pytest.approx(limits, abs=tolerance, rel=tolerance)


def sound(result: Icc | BlandAltman) -> None:
    """Finite, JSON-able, and nothing undefined without a reason."""
    json.dumps(result.as_dict(), allow_nan=False)
    if result.interval is not None and isinstance(result, Icc):
        assert result.interval.high <= 1 + 1e-12


def pingouin_table(ratings: Scores) -> pd.DataFrame:
    """The six forms by pingouin, by our names."""
    long = pd.DataFrame(
        [
            {"subject": subject, "reader": reader, "score": score}
            for (subject, reader), score in np.ndenumerate(ratings)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls pandas in ways that pandas deprecates
        table = pingouin.intraclass_corr(long, targets="subject", raters="reader", ratings="score")
    table["form"] = table["Type"].map(PINGOUIN)
    assert table["form"].notna().all()
    return table.set_index("form")


@pytest.mark.parametrize("seed", range(6))
def test_six_forms_agree_with_pingouin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(4, 40)), int(rng.integers(2, 6))
    ratings = rng.normal(10, 2, (n, 1)) + rng.normal(0, 1, k) + rng.normal(0, 1, (n, k))
    table = pingouin_table(ratings)
    interval = next(name for name in table.columns if name.startswith("CI95"))
    for result in icc_forms(ratings):
        row = table.loc[result.form]
        assert result.value == pytest.approx(row["ICC"], abs=1e-9)
        assert result.f == pytest.approx(row["F"], abs=1e-9)
        assert result.df1 == row["df1"]
        assert result.interval is not None
        limits = (result.interval.low, result.interval.high)
        assert limits == pytest.approx(tuple(row[interval]), abs=6e-3)  # it rounds to 2 decimals
        if not result.form.startswith("A"):
            assert result.df2 == row["df2"]
            assert result.p_value == pytest.approx(row["pval" if "pval" in row else "p_val"])


@quick
@given(ratings=scores, shift=st.integers(-1000, 1000), factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_shift_and_scale_do_not_matter(ratings: Scores, shift: int, factor: float) -> None:
    for result in icc_forms(ratings):
        sound(result)
        same(result, icc(ratings * factor, form=result.form))
        same(result, icc(ratings + shift, form=result.form))


@quick
@given(ratings=scores, data=st.data())
def test_order_does_not_matter(ratings: Scores, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(ratings))))
    columns = data.draw(st.permutations(range(ratings.shape[1])))
    shuffled = ratings[np.ix_(rows, columns)]
    for result in icc_forms(ratings):
        same(result, icc(shuffled, form=result.form))


@quick
@given(ratings=scores, offset=st.integers(7, 50))
def test_consistency_does_not_see_an_offset_and_agreement_does(
    ratings: Scores, offset: int
) -> None:
    moved = ratings + offset * np.arange(ratings.shape[1])
    for form in ("C,1", "C,k"):
        before, after = icc(ratings, form=form), icc(moved, form=form)
        # Scores that were all the same differ between readers now.
        assume(before.reason is not Reason.NO_VARIATION)
        same(before, after)


def test_agreement_is_at_most_consistency_where_readers_differ() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, (50, 1))
    ratings = truth + rng.normal(0, 0.5, (50, 3)) + [0, 1, 2]
    values = {result.form: result.value or 0.0 for result in icc_forms(ratings)}
    assert values["1,1"] < values["A,1"] < values["C,1"]
    for letter in "AC1":  # Spearman and Brown, three readers
        single = values[f"{letter},1"]
        assert values[f"{letter},k"] == pytest.approx(3 * single / (1 + 2 * single))


def test_known_variances_come_back() -> None:
    """Between subjects 4, readers 0.25, error 1: A,1 is 4 / 5.25 and C,1 is 4 / 5."""
    rng = np.random.default_rng(11)
    readers = rng.normal(0, 0.5, 200)
    ratings = rng.normal(0, 2, (2000, 1)) + readers + rng.normal(0, 1, (2000, 200))
    assert icc(ratings).value == pytest.approx(4 / (5 + float(readers.var(ddof=1))), abs=0.01)
    assert icc(ratings, form="C,1").value == pytest.approx(4 / 5, abs=0.01)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        ratings = rng.normal(0, 2, (30, 1)) + rng.normal(0, 1, (30, 2))
        interval = icc(ratings, form="C,1", level=0.9).interval
        assert interval is not None
        hits += interval.low <= 0.8 <= interval.high
    assert 0.86 < hits / 400 < 0.94


def test_two_vectors_names_of_forms_and_missing() -> None:
    a, b = [1.0, 2.0, None, 4.0, 6.0], [1.5, 2.0, 3.0, None, 5.0]
    result = icc(a, b)
    assert (result.n, result.n_given, result.n_missing, result.n_readers) == (3, 5, 2, 2)
    complete = [[1, 1.5], [2, 2], [6, 5]]
    same(result, icc(complete))
    assert next(iter(ICC_FORMS)) == "A,1"
    assert [each.form for each in icc_forms(complete)] == list(ICC_FORMS)
    names = {
        "A,1": ("ICC(A,1)", "ICC2", "ICC(2,1)", "a1", "2,1"),
        "C,k": ("ICC(C,k)", "ICC3k", "ICC(3,k)", "3k"),
        "1,1": ("ICC1", "ICC(1)", "1", "ICC(1,1)"),
        "1,k": ("ICC1k", "ICC(k)", "ICC(1,k)"),
    }
    for form, synonyms in names.items():
        assert {icc(complete, form=name).form for name in synonyms} == {form}


@pytest.mark.parametrize("form", ICC_FORMS)
def test_degenerate_ratings(form: str) -> None:
    cases: list[tuple[Any, Reason, float | None]] = [
        ([[4, 4], [4, 4]], Reason.NO_VARIATION, None),
        ([[1, 1], [2, 2]], Reason.PERFECT_AGREEMENT, 1.0),
        ([[1, 2]], Reason.TOO_FEW, None),
        ([[1], [2]], Reason.TOO_FEW, None),
        (np.empty((0, 2)), Reason.TOO_FEW, None),
        ([[1, None], [None, 2]], Reason.TOO_FEW, None),
    ]
    for ratings, reason, value in cases:
        result = icc(ratings, form=form, cluster=range(len(ratings)))
        sound(result)
        assert (result.reason, result.value, result.interval) == (reason, value, None)
        assert result.cluster_reason == reason


def test_readers_who_differ_by_a_constant() -> None:
    """MSE = 0: agreement has an interval, consistency is perfect, however the tenths round."""
    for factor in (1.0, 0.1, 1e-6, 1e6):
        ratings = np.array([[1, 2], [2, 3], [3, 4], [5, 6], [4, 5]]) * factor
        result = icc(ratings)
        assert result.value == pytest.approx(5 / 6)
        assert result.interval is not None
        limits = (result.interval.low, result.interval.high)
        assert limits == pytest.approx((0.0055274, 0.9838942), abs=1e-6)  # R's irr
        assert (result.f, result.p_value) == (None, 0.0)
        assert icc(ratings, form="C,1").reason is Reason.PERFECT_AGREEMENT


def test_constant_readers() -> None:
    one = icc([[3, 4], [4, 4], [4, 4], [3, 4], [4, 4]])
    assert (one.value, one.reason) == (0.0, Reason.RATER_CONSTANT)
    assert one.interval is not None
    both = icc([[3, 4], [3, 4], [3, 4]])
    assert (both.value, both.interval, both.reason) == (0.0, None, Reason.RATER_CONSTANT)
    consistency = icc([[3, 4], [3, 4], [3, 4]], form="C,1")
    assert (consistency.value, consistency.reason) == (None, Reason.RATER_CONSTANT)


def test_negative_values_are_reported() -> None:
    opposite = [[1, 5], [2, 4], [3, 3], [4, 2], [5, 1.5]]
    single, mean = icc(opposite), icc(opposite, form="A,k")
    assert single.value is not None
    assert single.value < -1
    assert single.interval is not None
    # The ratio is 5.14: no share of variance, and not answered.
    assert (mean.value, mean.interval, mean.reason) == (None, None, Reason.NEGATIVE_VARIANCE)
    exact = icc([[1, 2], [2, 1]])
    assert (exact.value, exact.reason) == (None, Reason.NEGATIVE_VARIANCE)


@quick
@given(ratings=scores, clusters=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_jackknife_is_that_of_leaving_each_patient_out(
    ratings: Scores, clusters: list[int]
) -> None:
    patients = np.array(clusters[: len(ratings)])
    for result in icc_forms(ratings, cluster=patients):
        sound(result)
        if result.cluster_se is None:
            continue
        left = [
            icc(ratings[patients != patient], form=result.form).value
            for patient in np.unique(patients)
        ]
        if None in left:  # a value whose mean squares are rounding alone
            continue
        values = np.array(left, dtype=np.float64)
        count = len(values)
        se = np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum())
        assert result.cluster_se == pytest.approx(se, rel=1e-6, abs=1e-6)


def test_the_robust_interval_knows_of_the_patients() -> None:
    """Five levels in each of 31 patients: the naive interval is too narrow, as simulated."""
    rng = np.random.default_rng(8)
    patients, truth = np.repeat(np.arange(31), 5), 0.8
    naive = robust = 0
    for _ in range(300):
        subjects = np.repeat(rng.normal(0, 0.6**0.5, 31), 5) + rng.normal(0, 0.4**0.5, 155)
        result = icc(subjects[:, None] + rng.normal(0, 0.5, (155, 2)), cluster=patients)
        assert result.interval is not None
        assert result.cluster_interval is not None
        naive += result.interval.low <= truth <= result.interval.high
        robust += result.cluster_interval.low <= truth <= result.cluster_interval.high
    assert robust / 300 > 0.91
    assert naive / 300 < robust / 300 - 0.02


differences = arrays.arrays(
    np.float64,
    st.integers(0, 12).map(lambda n: (n, 2)),
    elements=st.integers(-30, 30).map(lambda tenths: tenths / 10),
)


@quick
@given(pairs=differences, limits=st.sampled_from(["1999", "1986", "exact"]))
def test_limits_mirror_when_the_methods_swap(pairs: Scores, limits: str) -> None:
    result, mirror = (bland_altman(each, limits=limits) for each in (pairs, pairs[:, ::-1]))
    sound(result)
    assert (result.reason, result.n) == (mirror.reason, mirror.n)
    if result.lower is None or mirror.upper is None:
        assert result.n < 2
        return
    assert result.lower == pytest.approx(-mirror.upper)
    assert result.lower_interval is not None
    assert mirror.upper_interval is not None
    assert result.lower_interval.low == pytest.approx(-mirror.upper_interval.high)
    moved = bland_altman(pairs + 100, limits=limits)
    assert moved.lower == pytest.approx(result.lower, abs=1e-9)


def test_exact_limits_cover_where_the_approximations_fall_short() -> None:
    rng = np.random.default_rng(4)
    hits = dict.fromkeys(("exact", "1999", "1986"), 0)
    for _ in range(2000):
        sample = rng.normal(0, 1, (6, 1)) * [1, 0]
        for limits in hits:
            interval = bland_altman(sample, limits=limits).upper_interval
            assert interval is not None
            hits[limits] += interval.low <= 1.96 <= interval.high
    assert hits["exact"] / 2000 == pytest.approx(0.95, abs=0.015)
    assert max(hits["1999"], hits["1986"]) / 2000 < 0.93


def test_limits_of_repeated_measurements() -> None:
    """Between patients 0.64, within 0.36: limits are 1.96 of a total of 1."""
    rng = np.random.default_rng(9)
    patients = np.repeat(np.arange(4000), 3)
    apart = np.repeat(rng.normal(0, 0.8, 4000), 3) + rng.normal(0.5, 0.6, 12_000)
    result = bland_altman(apart, np.zeros(12_000), cluster=patients)
    assert result.cluster_sd == pytest.approx(1, abs=0.02)
    assert result.cluster_upper == pytest.approx(0.5 + 1.96, abs=0.04)
    assert result.cluster_lower == pytest.approx(0.5 - 1.96, abs=0.04)
    assert result.interval is not None
    assert result.cluster_interval is not None
    naive = result.interval.high - result.interval.low
    robust = result.cluster_interval.high - result.cluster_interval.low
    assert robust / naive == pytest.approx(np.sqrt(1 + 2 * 0.64), rel=0.03)


def test_one_pair_a_patient_is_no_clustering() -> None:
    pairs = np.random.default_rng(10).normal(0, 1, (20, 2))
    result = bland_altman(pairs, cluster=range(20))
    assert result.cluster_sd == pytest.approx(result.sd)
    assert result.cluster_lower == pytest.approx(result.lower)
    assert result.interval is not None
    assert result.cluster_interval is not None
    assert result.cluster_interval.low == pytest.approx(result.interval.low)
    few = bland_altman(pairs, cluster=[1] * 10 + [2] * 10)
    assert (few.cluster_interval, few.cluster_reason) == (None, Reason.TOO_FEW)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: icc([[1, 2]], form="B,1"), "form must be one of A,1"),
    (lambda: icc([1, 2, 3]), "two vectors, got shape"),
    (lambda: icc([["1", 2]]), "must be numbers, got '1'"),
    (lambda: icc([[1, np.inf]]), "finite or missing"),
    (lambda: icc([[1 + 2j, 1]]), "must be numbers, got complex128"),
    (lambda: icc([[1, 2]], level=0), "got 0"),
    (lambda: icc([[1, 2]], cluster=[1, 2]), "one label an observation"),
    (lambda: bland_altman([1, 2], [1]), "one length"),
    (lambda: bland_altman([[1, 2, 3]]), "must come in pairs"),
    (lambda: bland_altman([1], [2], limits="2020"), "limits must be one of"),
    (lambda: bland_altman([1], [2], multiplier=0), "multiplier must be above 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_names_the_rule_and_the_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()
