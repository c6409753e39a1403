"""Paired differences: what always holds, how the tests relate, undefined answers, bad input."""

import itertools
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from halfscan_stats import (
    Interval,
    Reason,
    Result,
    StatsError,
    adjust_pvalues,
    choose_paired_test,
    mcnemar,
    paired_t,
    shapiro_wilk,
    summarize,
    wilcoxon_signed_rank,
)

quick = settings(max_examples=60, deadline=None)
values = st.one_of(
    st.integers(1, 4).map(float), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))
)
pairs = st.lists(st.tuples(values, values), min_size=0, max_size=40)
counts = st.integers(0, 60)
Numbers = npt.NDArray[np.float64]


def columns(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in rows], [y for _, y in rows]


def sound(result: Result) -> dict[str, Any]:
    """JSON without NaN, and a p-value or a reason."""
    known = result.as_dict()
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    if "p_value" in known:
        assert known["p_value"] is not None or known["reason"] is not None
    return known


@quick
@given(pairs)
def test_every_answer_is_finite_or_has_a_reason(rows: list[tuple[float, float]]) -> None:
    x, y = columns(rows)
    for answer in (paired_t(x, y), wilcoxon_signed_rank(x, y), shapiro_wilk(x), summarize(x)):
        sound(answer)
    chosen = choose_paired_test(x, y)
    sound(chosen)
    assert chosen.t is not None
    assert chosen.wilcoxon is not None
    shown = chosen.t.p_value if chosen.chosen == "t" else chosen.wilcoxon.p_shown
    assert chosen.p_value == shown


@quick
@given(pairs)
def test_swapping_sides_turns_the_sign(rows: list[tuple[float, float]]) -> None:
    x, y = columns(rows)
    one, other = paired_t(x, y), paired_t(y, x)
    assert one.reason == other.reason
    if one.t is not None and other.t is not None:
        assert one.t == pytest.approx(-other.t)
        assert one.p_value == pytest.approx(other.p_value)
    first, second = wilcoxon_signed_rank(x, y), wilcoxon_signed_rank(y, x)
    assert (first.w_plus, first.w_minus) == (second.w_minus, second.w_plus)
    assert first.p_exact == second.p_exact
    if first.z is not None and second.z is not None:
        assert first.z == pytest.approx(-second.z, abs=1e-12)
    if first.interval is not None and second.interval is not None:
        assert first.interval.low == pytest.approx(-second.interval.high, abs=1e-9)


@quick
@given(pairs, st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[tuple[float, float]], random: Any) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)
    for test in (paired_t, wilcoxon_signed_rank):
        one, other = test(*columns(rows)), test(*columns(shuffled))
        assert one.reason == other.reason
        if one.p_value is not None:
            assert one.p_value == pytest.approx(other.p_value, rel=1e-6, abs=1e-12)


@quick
@given(pairs, st.floats(0.001, 1000), st.integers(-1000, 1000))
def test_units_do_not_matter(rows: list[tuple[float, float]], scale: float, shift: int) -> None:
    x, y = (np.array(side, dtype=float) for side in columns(rows))
    assume(x.size > 1)
    assume(float(np.ptp(x - y)) > 1e-3 * max(1.0, float(np.abs([x, y]).max())))
    one, other = paired_t(x, y), paired_t(x * scale + shift, y * scale + shift)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-4, abs=1e-12)


@quick
@given(st.lists(st.tuples(values, values), min_size=2, max_size=40))
def test_t_is_that_of_scipy_where_scipy_is_right(rows: list[tuple[float, float]]) -> None:
    x, y = (np.array(side) for side in columns(rows))
    assume(float(np.ptp(x - y)) > 1e-6 * max(1.0, float(np.abs([x, y]).max())))
    answer, expected = paired_t(x, y), stats.ttest_rel(x, y)
    assert answer.t == pytest.approx(expected.statistic, rel=1e-9)
    assert answer.p_value == pytest.approx(expected.pvalue, rel=1e-7, abs=1e-15)
    limits = expected.confidence_interval(0.95)
    assert answer.interval is not None
    assert (answer.interval.low, answer.interval.high) == pytest.approx(tuple(limits), rel=1e-7)


@quick
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_wilcoxon_is_that_of_scipy_where_scipy_is_right(differences: list[int]) -> None:
    assume(any(differences))
    answer = wilcoxon_signed_rank(differences, [0] * len(differences))
    expected = stats.wilcoxon(
        differences, zero_method="wilcox", correction=False, method="asymptotic"
    )
    assert answer.p_value == pytest.approx(expected.pvalue)
    corrected = stats.wilcoxon(
        differences, zero_method="wilcox", correction=True, method="asymptotic"
    )
    assert answer.p_corrected == pytest.approx(corrected.pvalue)
    pratt = stats.wilcoxon(differences, zero_method="pratt", correction=False, method="asymptotic")
    assert answer.p_pratt == pytest.approx(pratt.pvalue)


@quick
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_exact_p_counts_all_signs(differences: list[int]) -> None:
    there = [d for d in differences if d]
    assume(there)
    answer = wilcoxon_signed_rank(differences, [0] * len(differences))
    assert answer.w_plus is not None
    ranks = stats.rankdata(np.abs(there))
    middle = ranks.sum() / 2
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=len(there))
    ]
    further = np.mean([abs(total - middle) >= abs(answer.w_plus - middle) - 1e-9 for total in sums])
    assert answer.p_exact == pytest.approx(further)


def test_exact_and_asymptotic_agree_at_large_n() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(0.3, 1, 50)
    answer = wilcoxon_signed_rank(x, np.zeros(50))
    assert answer.p_exact == pytest.approx(answer.p_value, abs=0.003)
    assert answer.p_exact == pytest.approx(stats.wilcoxon(x, method="exact").pvalue)
    table = mcnemar(520, 480)
    assert table.p_value == pytest.approx(table.p_corrected, abs=1e-3)
    assert table.p_midp == pytest.approx(table.p_asymptotic, abs=1e-3)


@pytest.mark.parametrize("n", [8, 30, 201, 300])
def test_the_pseudomedian_is_the_median_of_all_averages(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(1, 2, n).round(2)
    answer = wilcoxon_signed_rank(x, np.zeros(n))
    averages = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(x.tolist(), 2)]
    assert answer.pseudomedian == pytest.approx(np.median(averages), abs=1e-9)
    assert answer.interval is not None
    assert answer.interval.low < np.median(averages) < answer.interval.high
    inside = wilcoxon_signed_rank(x - answer.interval.low - 0.004, np.zeros(n))
    outside = wilcoxon_signed_rank(x - answer.interval.low + 0.1, np.zeros(n))
    assert inside.p_value is not None
    assert outside.p_value is not None
    assert outside.p_value < 0.06 < inside.p_value + 0.02


def test_too_few_pairs_have_no_interval_of_the_pseudomedian() -> None:
    answer = wilcoxon_signed_rank([1, 2, 3, 4, 5], [0] * 5)
    assert answer.interval is None
    assert answer.pseudomedian == 3
    assert wilcoxon_signed_rank([1, 2, 3, 4, 5], [0] * 5, level=0.9).interval is not None


def test_many_pairs_need_no_matrix_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    answer = wilcoxon_signed_rank(rng.integers(1, 5, 20_000), rng.integers(1, 5, 20_000))
    assert answer.n == 20_000
    assert answer.p_exact is None
    assert answer.pseudomedian == pytest.approx(0, abs=1e-9)


@quick
@given(counts, counts)
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    answer = mcnemar(b, c)
    sound(answer)
    if b + c == 0:
        assert (answer.p_value, answer.reason) == (1.0, Reason.NO_DISCORDANT)
        return
    assert answer.p_value == pytest.approx(stats.binomtest(b, b + c).pvalue)
    limits = stats.binomtest(b, b + c).proportion_ci(method="exact")
    assert answer.odds_ratio_low == pytest.approx(limits.low / (1 - limits.low))
    if c:
        assert answer.odds_ratio_high == pytest.approx(limits.high / (1 - limits.high))
    assert answer.p_midp is not None
    assert answer.p_value is not None
    assert answer.p_midp <= answer.p_value


@quick
@given(counts, counts, counts, counts)
@example(2, 0, 0, 0)
@example(0, 1, 1, 0)
def test_mcnemar_knows_all_ways_to_give_a_table(a: int, b: int, c: int, d: int) -> None:
    assume(a + b + c + d > 0)
    first = [1] * (a + b) + [0] * (c + d)
    second = [1] * a + [0] * b + [1] * c + [0] * d
    table = mcnemar(table=[[a, b], [c, d]])
    assert mcnemar(first, second) == table
    columns = np.column_stack([first, second])
    if len(columns) == 2:  # two pairs look like a table
        with pytest.raises(StatsError, match="say table="):
            mcnemar(columns)
    else:
        assert mcnemar(columns) == table
    assert mcnemar(b, c, a + b + c + d) == mcnemar(b=b, c=c, n=a + b + c + d) == table
    swapped = mcnemar(second, first)
    assert swapped.p_value == table.p_value
    assert swapped.difference == pytest.approx(-(table.difference or 0))


def test_spss_changes_its_test_at_25_discordant_pairs() -> None:
    below, above = mcnemar(16, 8), mcnemar(16, 9)
    assert below.p_spss == below.p_value
    assert above.p_spss == above.p_corrected != above.p_value


def test_two_by_two_zeros_and_ones_may_be_either() -> None:
    assert mcnemar([[5, 1], [2, 9]]) == mcnemar(table=[[5, 1], [2, 9]])
    with pytest.raises(StatsError, match="say table="):
        mcnemar([[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "two vectors, or counts, or a table"),
        ({"first": [1, 0], "table": [[1, 0], [0, 1]]}, "two vectors, or counts, or a table"),
        ({"first": [1, 2], "second": [0, 1]}, r"scale \(0, 1\), got 2"),
        ({"first": [1, 0], "second": [0]}, "one length"),
        ({"first": 5}, "counts come in pairs"),
        ({"b": 5}, "counts come in pairs"),
        ({"c": 5}, "counts come in pairs"),
        ({"first": [1], "second": [0], "b": 1, "c": 2}, "not both"),
        ({"first": 5, "second": -1}, "at least 0, got -1"),
        ({"first": 5, "second": 1, "n": 5}, "at least b \\+ c = 6, got 5"),
        ({"first": [1], "second": [0], "n": 1}, "n is for counts"),
        ({"table": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}, r"\(2, 2\), got shape \(3, 3\)"),
        ({"first": ["a"], "second": ["b"], "categories": ["a", "b", "c"]}, "negative, positive"),
        ({"first": 5, "second": 1, "level": 95}, "level must be above 0"),
    ],
)
def test_mcnemar_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        mcnemar(**arguments)


@pytest.mark.parametrize("function", [paired_t, wilcoxon_signed_rank, choose_paired_test])
def test_paired_tests_refuse(function: Any) -> None:
    with pytest.raises(StatsError, match="one length"):
        function([1, 2, 3], [1, 2])
    with pytest.raises(StatsError, match="got infinity"):
        function([1, float("inf")], [1, 2])
    with pytest.raises(StatsError, match="must be numbers"):
        function(["good", "poor"], ["poor", "good"])
    with pytest.raises(StatsError, match="must not exceed 1e"):
        function([1e308, 1], [-1e308, 2])
    with pytest.raises(StatsError, match="one label an observation"):
        function([1, 2, 3], [3, 2, 1], cluster=[1, 1])


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-99, 1e99])
def test_the_smallest_and_largest_units(scale: float) -> None:
    x = np.array([1.0, 2, 2.5, 4, 8, 3]) * scale
    for answer in (paired_t(x, 0 * x), wilcoxon_signed_rank(x, 0 * x), summarize(x)):
        sound(answer)
    assert wilcoxon_signed_rank(x, 0 * x).p_exact == 2 / 64


def test_missing_values_leave_by_pairs() -> None:
    x: list[float | None] = [3, None, 4, 2, 3, 4, 3]
    y: list[float | None] = [4, 4, None, 4, 4, 4, 4]
    complete = ([3, 2, 3, 4, 3], [4, 4, 4, 4, 4])
    for test in (paired_t, wilcoxon_signed_rank):
        answer, expected = test(x, y), test(*complete)  # type: ignore[arg-type]  # None is missing
        assert (answer.n, answer.n_given, answer.n_missing) == (5, 7, 2)
        assert answer.p_value == expected.p_value


def test_clusters_of_one_are_no_clusters() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.4, 1, 40), np.zeros(40)
    answer = paired_t(x, y, cluster=np.arange(40))
    assert answer.cluster_se == pytest.approx(answer.se)
    assert answer.cluster_p_value == pytest.approx(answer.p_value)


def test_doubled_observations_do_not_deceive_the_clustered_tests() -> None:
    rng = np.random.default_rng(6)
    x, patients = rng.normal(0.3, 1, 30), np.arange(30)
    once = paired_t(x, np.zeros(30), cluster=patients)
    doubled, both = np.tile(x, 2), np.tile(patients, 2)
    twice = paired_t(doubled, np.zeros(60), cluster=both)
    assert twice.cluster_p_value == pytest.approx(once.cluster_p_value)
    assert twice.p_value is not None
    assert once.p_value is not None
    assert twice.p_value < once.p_value
    ranks = wilcoxon_signed_rank(doubled, np.zeros(60), cluster=both)
    single = wilcoxon_signed_rank(x, np.zeros(30))
    assert ranks.n_clusters == 30
    assert ranks.cluster_z == pytest.approx(single.z, rel=0.01)  # tied ranks: almost the same


def test_one_cluster_has_no_clustered_answer() -> None:
    for test in (paired_t, wilcoxon_signed_rank):
        answer = test([1, 2, 3, 5], [0, 0, 0, 0], cluster=["a"] * 4)
        assert (answer.n_clusters, answer.cluster_p_value) == (1, None)
        assert answer.p_value is not None


def test_normality_chooses_between_t_and_wilcoxon() -> None:
    rng = np.random.default_rng(8)
    bell, skewed = rng.normal(1, 1, 40), rng.exponential(1, 40) ** 2
    assert choose_paired_test(bell, np.zeros(40)).chosen == "t"
    assert choose_paired_test(skewed, np.zeros(40)).chosen == "wilcoxon"
    fixed = choose_paired_test(skewed, np.zeros(40), by="t")
    assert (fixed.chosen, fixed.by) == ("t", "protocol")
    assert fixed.p_value == paired_t(skewed, np.zeros(40)).p_value
    constant = choose_paired_test([4, 4, 4], [3, 3, 3])
    assert (constant.chosen, constant.normality.reason if constant.normality else None) == (
        "wilcoxon",
        "no_variation",
    )
    with pytest.raises(StatsError, match="by must be normality"):
        choose_paired_test(bell, skewed, by="mood")


@quick
@given(st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 2)), min_size=3, max_size=60))
def test_shapiro_is_that_of_scipy_where_scipy_is_right(data: list[float]) -> None:
    assume(np.ptp(data) > 0.1)
    expected = stats.shapiro(data)
    answer = shapiro_wilk(data)
    assert answer.w == pytest.approx(expected.statistic, rel=1e-6)
    assert answer.p_value == pytest.approx(expected.pvalue, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-99, 1e-12, 1.0, 1e12, 1e97])
def test_shapiro_knows_no_unit(scale: float) -> None:
    data = np.array([148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236.0])
    assert shapiro_wilk(data * scale).w == pytest.approx(0.78881, abs=1e-5)


def test_almost_constant_values_are_constant() -> None:
    assert shapiro_wilk([0.1 + 0.2, 0.3, 0.3, 0.3]).reason == "no_variation"
    assert shapiro_wilk(np.arange(5001)).reason == "too_many"
    with pytest.raises(StatsError, match="one vector"):
        shapiro_wilk([[1, 2], [3, 4]])


def test_a_summary_shows_what_normality_says() -> None:
    rng = np.random.default_rng(2)
    bell = summarize(rng.normal(150, 40, 31))
    assert bell.shown == "mean_sd"
    assert "±" in bell.text(1)
    skewed = summarize([3] * 12 + [4] * 19)
    assert skewed.shown == "median_iqr"
    assert skewed.text(0) == "4 (3-4)"
    constant = summarize([4, 4, 4])
    assert (constant.shown, constant.text()) == ("mean_sd", "4.00 ± 0.00")
    fixed = summarize([3] * 12 + [4] * 19, show="mean_sd")
    assert (fixed.text(), fixed.normality) == ("3.61 ± 0.50", None)
    assert summarize([np.nan, 4]).text() == "4.00"
    assert summarize([np.nan]).text() == "-"
    with pytest.raises(StatsError, match="show must be"):
        summarize([1], show="everything")


probabilities = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)
METHODS = ("bonferroni", "holm", "benjamini-hochberg", "none")


@quick
@given(probabilities, st.sampled_from(METHODS))
def test_adjusted_p_keeps_the_order(given_p: list[float | None], method: str) -> None:
    answer = adjust_pvalues(given_p, method)
    assert [value is None for value in answer.values] == [p is None for p in given_p]
    there = [(p, q) for p, q in zip(given_p, answer.values, strict=True) if p is not None]
    assert all(q is not None and p <= q + 1e-12 and q <= 1 for p, q in there)
    ordered = [q for _, q in sorted(there, key=lambda pair: pair[0])]
    assert all(one <= other + 1e-12 for one, other in itertools.pairwise(ordered))  # type: ignore[operator]


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_none_and_bonferroni(p: list[float]) -> None:
    bonferroni, holm = adjust_pvalues(p, "bonferroni"), adjust_pvalues(p, "holm")
    hochberg = adjust_pvalues(p, "bh")
    for low, middle, high in zip(hochberg.values, holm.values, bonferroni.values, strict=True):
        assert low is not None
        assert middle is not None
        assert high is not None
        assert low <= middle + 1e-12 <= high + 2e-12
    assert hochberg.values == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 1.2],), "lie in \\[0, 1\\], got"),
        (([0.1], "sidak"), "method must be one of"),
    ],
)
def test_adjustment_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        adjust_pvalues(*arguments)


def test_more_tests_may_be_planned_than_answered() -> None:
    assert adjust_pvalues([0.01], "bonferroni", n_tests=2).values == (0.02,)
    with pytest.raises(StatsError, match="n_tests must be at least the 3"):
        adjust_pvalues([0.1, 0.2, 0.3], n_tests=2)
    with pytest.raises(StatsError, match="alpha must be above 0"):
        adjust_pvalues([0.1], alpha=0)


# --- Hodges and Lehmann's estimate, and the p that is shown --------------------------------------


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=45),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_p_and_the_interval_of_the_shift_never_contradict_each_other(
    differences: list[int], level: float
) -> None:
    """Of scores, with any ties: few pairs (exact) and many (normal)."""
    answer = wilcoxon_signed_rank(differences, [0] * len(differences), level=level)
    shift, interval = answer.hodges_lehmann, answer.hodges_lehmann_interval
    if answer.n_nonzero == 0:
        assert (shift, answer.hodges_lehmann_reason) == (None, "all_differences_zero")
        return
    assert shift is not None
    assert answer.rank_biserial is not None
    assert answer.p_shown is not None
    assert shift * answer.rank_biserial >= 0
    if interval is None:
        assert answer.hodges_lehmann_reason == "too_few"
        assert answer.p_shown >= 1 - level
        return
    assert interval.low <= shift <= interval.high
    assert answer.hodges_lehmann_excludes_zero == (answer.p_shown < 1 - level)
    if answer.hodges_lehmann_excludes_zero:
        assert interval.low >= 0 or interval.high <= 0
        assert shift != 0 or 0 in (interval.low, interval.high)
    else:
        assert interval.low <= 0 <= interval.high


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_swapped_sides_turn_the_shift_and_zeros_leave_it(differences: list[int]) -> None:
    zeros = [0] * len(differences)
    answer = wilcoxon_signed_rank(differences, zeros)
    other = wilcoxon_signed_rank(zeros, differences)
    longer = wilcoxon_signed_rank([*differences, 0, 0, 0], [*zeros, 0, 0, 0])
    for one in (longer, other):
        assert one.p_shown == answer.p_shown
        assert one.hodges_lehmann_excludes_zero == answer.hodges_lehmann_excludes_zero
    assert longer.hodges_lehmann == answer.hodges_lehmann
    assert longer.hodges_lehmann_interval == answer.hodges_lehmann_interval
    if answer.hodges_lehmann is not None:
        assert other.hodges_lehmann == -answer.hodges_lehmann
    if answer.hodges_lehmann_interval is not None:
        low, high = answer.hodges_lehmann_interval.low, answer.hodges_lehmann_interval.high
        assert other.hodges_lehmann_interval is not None
        assert (other.hodges_lehmann_interval.low, other.hodges_lehmann_interval.high) == (
            -high,
            -low,
        )


@given(st.lists(st.integers(-40, 40), min_size=6, max_size=19, unique_by=abs), st.integers(-9, 9))
def test_the_interval_moves_with_the_data_where_nothing_ties(
    differences: list[int], shift: int
) -> None:
    moved = [value + shift for value in differences]
    # Both without zeros and without ties: the distribution of the ranks is then the same.
    assume(0 not in differences and 0 not in moved and len(set(map(abs, moved))) == len(moved))
    zeros = [0] * len(moved)
    before = wilcoxon_signed_rank(differences, zeros)
    after = wilcoxon_signed_rank(moved, zeros)
    assert before.hodges_lehmann is not None
    assert after.hodges_lehmann == before.hodges_lehmann + shift
    assert before.hodges_lehmann_interval is not None
    assert after.hodges_lehmann_interval is not None
    assert after.hodges_lehmann_interval.low == before.hodges_lehmann_interval.low + shift
    # No zeros, no ties: it is the interval of the textbook.
    assert before.hodges_lehmann_interval == before.interval


def test_a_limit_of_zero_may_be_open() -> None:
    """Of 18 scores 14 rose: p = 2 * 4048 / 2^18, and every shift above 0 up to 1 is kept."""
    answer = wilcoxon_signed_rank([1] * 14 + [-1] * 4 + [0] * 40, [0] * 58)
    assert answer.p_shown == 8096 / 2**18
    assert (answer.pseudomedian, answer.hodges_lehmann) == (0.0, 1.0)
    assert answer.hodges_lehmann_interval == Interval(0.0, 1.0, 0.95)
    assert answer.hodges_lehmann_excludes_zero
