"""Agreement on categories: what always holds, how the coefficients relate, and bad input."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats import inter_rater

from halfscan_stats import (
    Agreement,
    Reason,
    StatsError,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    icc,
    krippendorff_alpha,
    pabak,
)

SCALE = (1, 2, 3, 4)
WEIGHTS = ("none", "linear", "quadratic")
Scores = npt.NDArray[np.int64]

quick = settings(max_examples=40, deadline=None)
pairs = arrays.arrays(
    np.int64, st.tuples(st.integers(0, 30), st.just(2)), elements=st.integers(1, 4)
)
many = arrays.arrays(
    np.int64, st.tuples(st.integers(2, 20), st.integers(2, 5)), elements=st.integers(1, 4)
)
tables = arrays.arrays(
    np.int64, st.integers(1, 4).map(lambda k: (k, k)), elements=st.integers(0, 12)
)


def same(one: Agreement, other: Agreement) -> None:
    """Value, spread and reason agree to rounding."""
    assert one.reason == other.reason
    for name in ("value", "se", "se0", "observed_agreement", "expected_agreement"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first == pytest.approx(second, abs=1e-9), name


def sound(result: Agreement) -> None:
    """Finite, JSON-able, and within its range."""
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["n_missing"] == result.n_given - result.n
    if result.value is not None:
        assert result.value <= 1
    if result.interval is not None:
        assert result.value is not None
        assert result.interval.low <= result.value + 1e-12
        assert result.value - 1e-12 <= result.interval.high <= 1
    elif result.value is not None:
        assert result.reason is not None
    if result.p_value is not None:
        assert 0 <= result.p_value <= 1


ALL: dict[str, Callable[..., Agreement]] = {
    "cohen": lambda x, **more: cohen_kappa(x, categories=SCALE, **more),
    "linear": lambda x, **more: cohen_kappa(x, categories=SCALE, weights="linear", **more),
    "quadratic": lambda x, **more: cohen_kappa(x, categories=SCALE, weights="quadratic", **more),
    "fleiss": lambda x, **more: fleiss_kappa(x, categories=SCALE, **more),
    "fleiss quadratic": lambda x, **more: fleiss_kappa(
        x, categories=SCALE, weights="quadratic", **more
    ),
    "AC1": lambda x, **more: gwet_ac(x, categories=SCALE, **more),
    "AC2": lambda x, **more: gwet_ac(x, categories=SCALE, weights="linear", **more),
    "PABAK": lambda x, **more: pabak(x, categories=SCALE, **more),
    "nominal": lambda x, **more: krippendorff_alpha(x, metric="nominal", **more),
    "ordinal": lambda x, **more: krippendorff_alpha(x, metric="ordinal", **more),
    "interval": lambda x, **more: krippendorff_alpha(x, metric="interval", **more),
    "ratio": lambda x, **more: krippendorff_alpha(x, metric="ratio", **more),
}
MANY = [name for name in ALL if name not in ("cohen", "linear", "quadratic")]


@pytest.mark.parametrize("name", ALL)
@quick
@given(ratings=pairs, missing=st.integers(0, 3))
def test_two_readers_swap_and_subjects_shuffle(name: str, ratings: Scores, missing: int) -> None:
    scores = ratings.astype(np.float64)
    scores[:missing, 0] = np.nan
    result = ALL[name](scores)
    sound(result)
    same(result, ALL[name](scores[:, ::-1]))
    same(result, ALL[name](scores[::-1]))
    if len(scores):  # as a list, and as two vectors with None
        listed = [[None if np.isnan(v) else v for v in row] for row in scores.tolist()]
        same(result, ALL[name](listed))


@pytest.mark.parametrize("name", MANY)
@quick
@given(ratings=many)
def test_many_readers_shuffle(name: str, ratings: Scores) -> None:
    result = ALL[name](ratings)
    sound(result)
    same(result, ALL[name](ratings[:, ::-1]))
    same(result, ALL[name](ratings[::-1]))


@quick
@given(ratings=pairs, order=st.permutations(SCALE))
def test_names_of_categories_do_not_matter(ratings: Scores, order: list[int]) -> None:
    renamed = np.array([0, *order])[ratings]
    for name in ("cohen", "fleiss", "AC1", "PABAK", "nominal"):
        same(ALL[name](ratings), ALL[name](renamed))
    words = np.array(["", "none", "mild", "moderate", "severe"])[ratings]
    scale = ("none", "mild", "moderate", "severe")
    same(cohen_kappa(ratings, categories=SCALE), cohen_kappa(words, categories=scale))
    weighted = [
        cohen_kappa(ratings, categories=SCALE, weights="linear"),
        cohen_kappa(words, categories=scale, weights="linear"),
        cohen_kappa(5 - ratings, categories=SCALE, weights="linear"),  # the scale upside down
    ]
    same(weighted[0], weighted[1])
    same(weighted[0], weighted[2])


@quick
@given(ratings=pairs, weights=st.sampled_from(WEIGHTS))
def test_a_table_says_the_same_as_its_ratings(ratings: Scores, weights: str) -> None:
    table = np.zeros((4, 4), dtype=int)
    np.add.at(table, (ratings[:, 0] - 1, ratings[:, 1] - 1), 1)
    same(
        cohen_kappa(table=table, weights=weights),
        cohen_kappa(ratings[:, 0], ratings[:, 1], categories=SCALE, weights=weights),
    )
    same(pabak(table=table), pabak(ratings, categories=SCALE))
    by_table = gwet_ac(table=table, weights=weights)
    by_ratings = gwet_ac(ratings, categories=SCALE, weights=weights)
    assert by_table.reason == by_ratings.reason
    if by_table.value is not None and by_table.se and by_ratings.se:
        n = by_table.n
        assert by_table.value == pytest.approx(by_ratings.value)
        assert by_table.se == pytest.approx(by_ratings.se * np.sqrt((n - 1) / n))


@quick
@given(table=tables, weights=st.sampled_from(WEIGHTS))
def test_kappa_of_any_table(table: Scores, weights: str) -> None:
    result = cohen_kappa(table=table, weights=weights)
    sound(result)
    sound(gwet_ac(table=table, weights=weights))
    sound(pabak(table=table, weights=weights))
    doubled = cohen_kappa(table=2 * table, weights=weights)
    if result.value is not None and result.n > 1:
        assert doubled.value == pytest.approx(result.value, abs=1e-9)
        if result.se is not None and doubled.se is not None:
            assert doubled.se == pytest.approx(result.se / np.sqrt(2), abs=1e-9)


@quick
@given(ratings=pairs, weights=st.sampled_from(WEIGHTS))
def test_weighted_kappa_is_one_minus_a_ratio_of_disagreements(
    ratings: Scores, weights: str
) -> None:
    """Counted pair by pair, without a table (Cohen 1968)."""
    result = cohen_kappa(ratings, categories=SCALE, weights=weights)
    assume(result.value is not None)

    def distance(one: int, other: int) -> float:
        power = {"none": 0, "linear": 1, "quadratic": 2}[weights]
        return float((one != other) * abs(one - other) ** power)

    a, b = ratings.T.tolist()
    seen = sum(map(distance, a, b)) / len(a)
    expected = sum(distance(x, y) for x in a for y in b) / len(a) ** 2
    assert result.value == pytest.approx(1 - seen / expected, abs=1e-9)


@quick
@given(table=tables)
def test_standard_errors_of_kappa_are_those_of_statsmodels(table: Scores) -> None:
    """Where statsmodels is right: neither reader constant, no perfect agreement."""
    result = cohen_kappa(table=table)
    assume(result.reason is None)
    theirs = inter_rater.cohens_kappa(table)
    assert result.value == pytest.approx(theirs.kappa, abs=1e-9)
    assert result.se == pytest.approx(theirs.std_kappa, abs=1e-9)
    assert result.se0 == pytest.approx(theirs.std_kappa0, abs=1e-9)


@quick
@given(ratings=many)
def test_fleiss_kappa_is_that_of_statsmodels(ratings: Scores) -> None:
    result = fleiss_kappa(ratings)
    assume(result.value is not None)
    counts = (ratings[:, :, None] == np.array(SCALE)).sum(axis=1)
    assert result.value == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-9)
    same(result, fleiss_kappa(counts=counts))


def test_with_two_categories_weights_do_not_matter() -> None:
    table = [[20, 5], [10, 15]]
    for weights in WEIGHTS:
        same(cohen_kappa(table=table), cohen_kappa(table=table, weights=weights))


@quick
@given(ratings=many)
def test_alpha_corrects_fleiss_kappa_for_small_samples(ratings: Scores) -> None:
    """Complete nominal data: 1 - alpha = (1 - 1/N) (1 - kappa) with N ratings."""
    kappa, alpha = fleiss_kappa(ratings), krippendorff_alpha(ratings)
    assume(kappa.value is not None)
    assert kappa.value is not None
    assert alpha.value is not None
    assert 1 - alpha.value == pytest.approx((1 - 1 / ratings.size) * (1 - kappa.value), abs=1e-9)


@quick
@given(ratings=many)
def test_interval_alpha_is_one_minus_within_over_total_variance(ratings: Scores) -> None:
    """Complete data: alpha = 1 - MSW / MST, from the one-way analysis of variance."""
    alpha = krippendorff_alpha(ratings, metric="interval")
    squares = icc(ratings).mean_squares
    assume(alpha.value is not None)
    assert squares is not None
    total = ratings.astype(np.float64).var(ddof=1)
    assert alpha.value == pytest.approx(1 - squares.within / total, abs=1e-9)


@quick
@given(ratings=pairs)
def test_quadratic_kappa_is_an_intraclass_correlation(ratings: Scores) -> None:
    """Fleiss & Cohen 1973: with n - 1 for n in the readers' term it is ICC(A,1) exactly."""
    kappa = cohen_kappa(ratings, categories=SCALE, weights="quadratic")
    squares = icc(ratings).mean_squares
    assume(kappa.value is not None and kappa.reason is not Reason.PERFECT_AGREEMENT)
    assert squares is not None
    top = squares.subjects - squares.error
    bottom = squares.subjects + squares.error + 2 * squares.readers / (squares.n - 1)
    assert kappa.value == pytest.approx(top / bottom, abs=1e-9)


def test_quadratic_kappa_meets_the_icc_in_large_samples() -> None:
    rng = np.random.default_rng(6)
    truth = rng.normal(3, 1, 20_000)
    ratings = np.clip(np.rint(truth[:, None] + rng.normal(0, 0.6, (20_000, 2)) + [0, 0.3]), 1, 5)
    kappa = cohen_kappa(ratings, categories=range(1, 6), weights="quadratic")
    assert kappa.value == pytest.approx(icc(ratings).value, abs=1e-4)


@pytest.mark.parametrize("readers", [2, 3, 4])
def test_with_every_category_as_frequent_all_three_agree(readers: int) -> None:
    """Chance agreement is one over the number of categories for Fleiss, AC1 and PABAK."""
    ratings = np.array(
        list(itertools.product(SCALE, repeat=readers)) + [(s,) * readers for s in SCALE]
    )
    values = [ALL[name](ratings).value for name in ("fleiss", "AC1", "PABAK")]
    assert values == pytest.approx([values[0]] * 3)


@quick
@given(ratings=pairs)
def test_scotts_pi_is_never_above_cohens_kappa(ratings: Scores) -> None:
    kappa, pi = cohen_kappa(ratings, categories=SCALE), fleiss_kappa(ratings)
    assume(kappa.value is not None)
    assert kappa.value is not None
    assert pi.value is not None
    assert pi.value <= kappa.value + 1e-9


@quick
@given(ratings=many)
def test_scales_of_measurement(ratings: Scores) -> None:
    """Alpha does not see what its scale of measurement does not tell."""
    scores = ratings.astype(np.float64)
    same(
        krippendorff_alpha(scores, metric="ordinal"),
        krippendorff_alpha(scores**3, metric="ordinal"),
    )
    same(
        krippendorff_alpha(scores, metric="interval"),
        krippendorff_alpha(5 - 2 * scores, metric="interval"),
    )
    same(krippendorff_alpha(scores, metric="ratio"), krippendorff_alpha(7 * scores, metric="ratio"))
    same(
        krippendorff_alpha(ratings, metric="ordinal"),
        krippendorff_alpha(ratings, metric="ordinal", categories=SCALE),
    )


def test_unused_categories_do_not_move_alpha_fleiss_and_unweighted_kappa() -> None:
    ratings = [[1, 1], [1, 3], [3, 3], [4, 3], [4, 4]]
    wide = tuple(range(10))
    for metric in ("nominal", "ordinal", "interval"):
        same(
            krippendorff_alpha(ratings, metric=metric),
            krippendorff_alpha(ratings, metric=metric, categories=wide),
        )
    same(cohen_kappa(ratings), cohen_kappa(ratings, categories=wide))
    same(fleiss_kappa(ratings), fleiss_kappa(ratings, categories=wide))


def test_the_declared_scale_moves_ac1_and_pabak() -> None:
    ratings = [[1, 1], [1, 2], [2, 2], [1, 1]]
    for statistic in (gwet_ac, pabak):
        two, five = statistic(ratings, categories=(1, 2)), statistic(ratings, categories=range(5))
        assert two.value is not None
        assert five.value is not None
        assert two.value < five.value
        assert (two.categories, five.categories) == ((1, 2), (0, 1, 2, 3, 4))


@pytest.mark.parametrize("name", MANY)
def test_one_patient_a_subject_is_no_clustering(name: str) -> None:
    ratings = np.random.default_rng(1).integers(1, 5, size=(40, 3))
    ratings[:, 1] = ratings[:, 0]
    result = ALL[name](ratings, cluster=np.arange(40))
    if name == "PABAK":  # more than two readers: from Student's t, like the others
        assert result.interval is not None
    assert result.cluster_se == pytest.approx(result.se)
    assert result.cluster_interval is not None
    assert result.interval is not None
    assert result.cluster_interval.low == pytest.approx(result.interval.low)
    assert result.n_clusters == 40
    assert result.design_effect == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL)
def test_copies_within_a_patient_add_nothing(name: str) -> None:
    """Five copies of each subject: the naive interval believes them, the robust one does not."""
    ratings = np.random.default_rng(2).integers(1, 5, size=(60, 2))
    ratings[::2, 1] = ratings[::2, 0]
    once = ALL[name](ratings, cluster=np.arange(60))
    copied = ALL[name](np.repeat(ratings, 5, axis=0), cluster=np.repeat(np.arange(60), 5))
    assert copied.n_clusters == 60
    assert copied.cluster_se == pytest.approx(once.cluster_se, rel=2e-2)
    assert copied.design_effect == pytest.approx(5, rel=2e-2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("ratings", "reason", "value"),
    [
        (np.full((6, 2), 4), Reason.NO_VARIATION, None),
        (np.array([[1, 1], [2, 2], [4, 4]]), Reason.PERFECT_AGREEMENT, 1.0),
        (np.full((5, 2), np.nan), Reason.TOO_FEW, None),
        (np.empty((0, 2)), Reason.TOO_FEW, None),
        (np.array([[1, 2]]), Reason.TOO_FEW, None),
    ],
    ids=["one score", "perfect", "all missing", "none", "one subject"],
)
def test_undefined_answers(
    name: str, ratings: npt.NDArray[Any], reason: Reason, value: float | None
) -> None:
    result = ALL[name](ratings, cluster=np.arange(len(ratings)))
    sound(result)
    assert (result.reason, result.value) == (reason, value)
    assert result.cluster_reason == reason
    assert result.cluster_interval is None
    assert result.n_given == len(ratings)
    if name != "PABAK":  # its interval is exact
        assert result.interval is None
    if result.n:
        assert result.raw_agreement == pytest.approx(float((ratings[:, 0] == ratings[:, 1]).mean()))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_constant_reader_leaves_kappa_0(weights: str) -> None:
    a = [3, 4, 4, 3, 4, 2]
    for first, second in ((a, [4] * 6), ([4] * 6, a), ([4] * 6, [3] * 6)):
        result = cohen_kappa(first, second, categories=SCALE, weights=weights, cluster=range(6))
        assert (result.value, result.reason) == (0.0, Reason.RATER_CONSTANT)
        assert (result.interval, result.se, result.z, result.p_value) == (None,) * 4
        assert result.cluster_reason is Reason.RATER_CONSTANT
        raw = np.mean(np.array(first) == np.array(second))
        assert result.raw_agreement == pytest.approx(raw)


def test_one_patient_has_no_robust_interval() -> None:
    ratings = [[1, 1], [2, 2], [1, 2], [2, 2]]
    for statistic in ALL.values():
        result = statistic(ratings, cluster=["p"] * 4)
        assert (result.cluster_interval, result.cluster_reason) == (None, Reason.TOO_FEW)
        assert result.interval is not None


def test_level_widens_the_interval() -> None:
    intervals = [
        cohen_kappa(table=[[20, 5], [10, 15]], level=level).interval for level in (0.9, 0.99)
    ]
    assert intervals[0] is not None
    assert intervals[1] is not None
    assert intervals[1].low < intervals[0].low < intervals[0].high < intervals[1].high
    assert intervals[1].level == 0.99


def test_missing_ratings_still_tell_of_chance() -> None:
    """Gwet's coefficients use a subject that one reader rated, but n counts it as missing."""
    result = gwet_ac([[1, None], [1, 1], [2, 2], [None, None]], categories=(1, 2))
    assert (result.n, result.n_given, result.n_readers) == (2, 4, 2)
    assert result.expected_agreement == pytest.approx(2 * (2 / 3) * (1 / 3))


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: cohen_kappa([1, 5], [1, 2], categories=SCALE), r"scale \(1, 2, 3, 4\), got 5"),
    (lambda: cohen_kappa([1.5, 2], [1, 2], categories=SCALE), "got 1.5"),
    (lambda: cohen_kappa(["1", 2], [1, 2], categories=SCALE), "got '1'"),
    (lambda: cohen_kappa([1, np.inf], [1, 2], categories=SCALE), "got inf"),
    (lambda: cohen_kappa([1, 2], [1, 2, 3]), "two vectors of one length"),
    (lambda: cohen_kappa([1, 2]), "two vectors, got shape"),
    (lambda: cohen_kappa([[1, 2, 3]]), "two readers, got shape"),
    (lambda: cohen_kappa([[1], [1, 2]]), "regular array"),
    (cohen_kappa, "ratings must be given"),
    (lambda: cohen_kappa([1, 2], [1, 2], weights="linear"), "categories must be declared"),
    (lambda: cohen_kappa([1, 2], [1, 2], weights="cubic"), "got 'cubic'"),
    (lambda: cohen_kappa([1, 2], [1, 2], categories=(1, 2, 2)), "must differ"),
    (lambda: cohen_kappa([1, 2], [1, 2], categories=()), "at least one category"),
    (lambda: cohen_kappa([1, 2], [1, 2], categories=(1, None)), "not missing"),
    (lambda: cohen_kappa([1, 2], [1, 2], categories="12"), "must list the scale"),
    (lambda: cohen_kappa([1, 2], [1, 2], level=95), "level must be above 0 and below 1, got 95"),
    (lambda: cohen_kappa([1, 2], [1, 2], cluster=[1]), "one label an observation"),
    (lambda: cohen_kappa([1, 2], [1, 2], cluster=[1, None]), "got a missing one"),
    (lambda: cohen_kappa(table=[[1, 2, 3], [4, 5, 6]]), r"got shape \(2, 3\)"),
    (lambda: cohen_kappa(table=[[1, -2], [3, 4]]), "at least 0, got -2"),
    (lambda: cohen_kappa(table=[[1, 0.5], [3, 4]]), "whole numbers, at least 0, got 0.5"),
    (lambda: cohen_kappa(table=[[1, None], [3, 4]]), "whole numbers, at least 0, got nan"),
    (lambda: cohen_kappa(table=[["a", "b"], ["c", "d"]]), "must be numbers, got 'a'"),
    (lambda: cohen_kappa(table=[]), "must be square"),
    (lambda: cohen_kappa([1], [1], table=[[1]]), "must stand alone"),
    (lambda: cohen_kappa(table=[[1, 2], [3, 4]], categories=(1, 2, 3)), "one row a category"),
    (lambda: gwet_ac([[1, 2], [1, 1]]), "Gwet's AC1 depends on the scale"),
    (lambda: gwet_ac([[1, 2]], table=[[1]]), "must stand alone"),
    (lambda: pabak([[1, 2], [1, 1]]), "PABAK depends on the scale"),
    (pabak, "ratings or a table must be given"),
    (fleiss_kappa, "ratings or counts must be given"),
    (lambda: fleiss_kappa(counts=[1, 2]), r"\(subject, category\)"),
    (lambda: fleiss_kappa(counts=[[1, 2]], categories=(1, 2, 3)), "a column a category"),
    (lambda: fleiss_kappa(np.arange(4000.0).reshape(-1, 2)), "at most 1000 categories, got 4000"),
    (lambda: krippendorff_alpha([[1, 2]], metric="cubic"), "got 'cubic'"),
    (lambda: krippendorff_alpha([[1, -2], [1, 1]], metric="ratio"), "at least 0, got -2"),
    (lambda: krippendorff_alpha([["b", "a"]], metric="ordinal"), "categories must be declared"),
    (lambda: krippendorff_alpha([["b", "a"]], metric="interval"), "must be numbers, got 'a'"),
    (lambda: krippendorff_alpha([1, 2]), r"\(subject, reader\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_names_the_rule_and_the_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()
