"""Equivalence, non-inferiority, interchangeability: duality, limits, clusters, bad input."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from halfscan_stats import (
    StatsError,
    interchangeability,
    mcnemar,
    noninferiority_paired_proportions,
    paired_t,
    tango_interval,
    tost_paired,
)
from halfscan_stats.proportions import score_statistic

quick = settings(max_examples=60, deadline=None)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    """Counts b, c and n, n above 0."""
    n = draw(st.integers(1, 200))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


@quick
@given(tables(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_tango_holds_the_difference_and_stays_in_range(
    counts: tuple[int, int, int], level: float
) -> None:
    b, c, n = counts
    answer = tango_interval(b, c, n, level=level)
    assert answer.interval is not None
    assert answer.value == pytest.approx((b - c) / n)
    assert -1 <= answer.interval.low <= (b - c) / n <= answer.interval.high <= 1
    mirrored = tango_interval(b=c, c=b, n=n, level=level).interval
    assert mirrored is not None
    assert (answer.interval.low, answer.interval.high) == pytest.approx(
        (-mirrored.high, -mirrored.low), abs=1e-12
    )


@quick
@given(tables())
def test_a_higher_level_gives_a_wider_interval(counts: tuple[int, int, int]) -> None:
    narrow, wide = (tango_interval(*counts, level=level).interval for level in (0.8, 0.95))
    assert narrow is not None
    assert wide is not None
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@quick
@given(tables())
def test_the_limits_are_where_the_score_test_turns(counts: tuple[int, int, int]) -> None:
    b, c, n = counts
    limits = tango_interval(b, c, n).interval
    assert limits is not None
    for limit, side in ((limits.low, 1), (limits.high, -1)):
        if abs(limit) < 0.999:
            z = float(score_statistic(b, c, n, limit))
            assert side * z == pytest.approx(1.959964, abs=1e-4)


@quick
@given(tables())
def test_tango_and_mcnemar_agree_about_zero(counts: tuple[int, int, int]) -> None:
    b, c, n = counts
    assume(b + c > 0)
    test = mcnemar(b, c, n)
    assert float(score_statistic(b, c, n, 0)) ** 2 == pytest.approx(test.chi2, abs=1e-12)
    assert test.p_asymptotic is not None
    assume(abs(test.p_asymptotic - 0.05) > 1e-6)
    limits = tango_interval(b, c, n).interval
    assert limits is not None
    assert (limits.low > 0 or limits.high < 0) == (test.p_asymptotic < 0.05)


@quick
@given(tables(), st.floats(0.005, 0.5), st.sampled_from([0.025, 0.05]))
def test_the_test_and_the_interval_agree(
    counts: tuple[int, int, int], margin: float, alpha: float
) -> None:
    answer = noninferiority_paired_proportions(*counts, margin=margin, alpha=alpha)
    assert answer.p_value is not None
    assert answer.p_upper is not None
    assert answer.interval is not None
    assert answer.interval.level == pytest.approx(1 - 2 * alpha)
    assume(abs(answer.interval.low + margin) > 1e-9 < abs(answer.interval.high - margin))
    assert answer.noninferior == (answer.interval.low > -margin)
    assert answer.equivalent == (-margin < answer.interval.low <= answer.interval.high < margin)
    mirrored = noninferiority_paired_proportions(
        counts[1], counts[0], counts[2], margin=margin, alpha=alpha
    )
    assert mirrored.p_value == pytest.approx(answer.p_upper, abs=1e-9)


@quick
@given(tables(), st.floats(0.01, 0.4))
def test_a_wider_margin_is_easier(counts: tuple[int, int, int], margin: float) -> None:
    strict = noninferiority_paired_proportions(*counts, margin=margin).p_value
    mild = noninferiority_paired_proportions(*counts, margin=margin + 0.05).p_value
    assert strict is not None
    assert mild is not None
    assert mild <= strict + 1e-12


def test_the_score_falls_with_what_the_reference_finds_alone() -> None:
    # The enumeration of the power rests on it.
    for n in (1, 2, 7, 20, 60):
        for margin in (0.01, 0.05, 0.3, 0.8):
            b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
            z = np.where(b + c <= n, score_statistic(b, c, n, -margin), np.nan)
            assert not (np.diff(z, axis=1) > 1e-9).any()


# --- pairs nested in patients -------------------------------------------------------------------


def missed(count: int, *, n_patients: int = 31, levels: int = 5) -> tuple[Any, Any, Any]:
    """New, reference, patient: the new method misses `count` findings, one a patient."""
    patients = np.repeat(np.arange(n_patients), levels)
    reference = (np.arange(patients.size) % levels == 0).astype(int)
    new = reference.copy()
    new[: count * levels : levels] = 0
    return new, reference, patients


def test_the_decision_is_that_of_the_effective_sample() -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(31), 5)
    new = (rng.random(155) < 0.3).astype(int)
    reference = np.where(rng.random(155) < 0.1, 1 - new, new)
    naive = noninferiority_paired_proportions(new, reference, margin=0.05)
    both = noninferiority_paired_proportions(new, reference, margin=0.05, cluster=patients)
    assert (both.p_value, both.interval) == (naive.p_value, naive.interval)
    assert (both.n_clusters, naive.n_clusters) == (31, None)
    # As many pairs disagree as the hypothesis expects: nothing is assumed.
    assert both.b + both.c >= 0.05 * 155
    difference = new - reference
    sums = np.bincount(patients, weights=difference - difference.mean())
    assert both.design_effect is not None
    effect = 31 / 30 * (sums @ sums) / (np.abs(difference).sum() - 155 * difference.mean() ** 2)
    assert both.design_effect == pytest.approx(max(effect, 1.0))
    z = float(score_statistic(both.b, both.c, 155, -0.05)) / math.sqrt(both.design_effect)
    assert both.decision.p_value == pytest.approx(special.stdtr(30, -z))
    assert both.decision.method.startswith("score test (Nam 1997, Tango 1998) on counts over")
    assert naive.decision.p_value == naive.p_value
    assert naive.decision.interval == naive.interval


@pytest.mark.parametrize(
    ("n_patients", "levels", "margin"),
    [(31, 5, 0.05), (31, 10, 0.05), (12, 5, 0.05), (60, 5, 0.05), (100, 1, 0.05), (31, 1, 0.1)],
)
def test_every_further_miss_raises_p(n_patients: int, levels: int, margin: float) -> None:
    found = []
    for count in range(n_patients):
        new, reference, patients = missed(count, n_patients=n_patients, levels=levels)
        answer = noninferiority_paired_proportions(
            new, reference, margin=margin, cluster=patients, categories=(0, 1)
        )
        assert answer.decision.p_value is not None
        assert answer.p_value is not None
        found.append(answer.decision.p_value)
    assert (np.diff(found) > 0).all()


def test_identical_arms_are_as_good_and_so_is_an_arm_with_two_misses() -> None:
    # Score test on 155 pairs over a design effect of 1 + 4 * 0.1, Student's t with 30.
    identical = noninferiority_paired_proportions(*missed(0)[:2], margin=0.05, cluster=missed(0)[2])
    assert identical.design_effect == pytest.approx(1.4)
    expected = special.stdtr(30, -math.sqrt(155 / 1.4 * 0.05 / 0.95))
    assert identical.decision.p_value == pytest.approx(expected)
    decided = {}
    for count in range(5):
        new, reference, patients = missed(count)
        answer = noninferiority_paired_proportions(new, reference, margin=0.05, cluster=patients)
        decided[count] = answer.noninferior
    assert decided == {0: True, 1: True, 2: True, 3: False, 4: False}


@quick
@given(
    st.integers(2, 12),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.4),
    st.sampled_from([0.0, 0.02, 0.05, 0.2]),
    st.sampled_from([0.025, 0.05]),
)
def test_the_decision_and_its_interval_agree(
    n_patients: int, levels: int, seed: int, share: float, margin: float, alpha: float
) -> None:
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), levels)
    new = (rng.random(patients.size) < 0.4).astype(int)
    reference = np.where(rng.random(patients.size) < share, 1 - new, new)
    answer = noninferiority_paired_proportions(
        new, reference, margin=margin, alpha=alpha, cluster=patients
    )
    decision = answer.decision
    assert decision.interval is not None
    low, high = decision.interval.low, decision.interval.high
    assert decision.interval.level == pytest.approx(1 - 2 * alpha)
    assert -1 <= low <= answer.b / answer.n - answer.c / answer.n <= high <= 1
    if decision.p_value is None:
        assert (decision.reason, answer.b + answer.c, margin) == ("no_discordant", 0, 0)
        return
    assume(abs(low + margin) > 1e-9 < abs(high - margin))
    assert answer.noninferior == (low > -margin) == (decision.p_value <= alpha)
    assert answer.equivalent == (-margin < low <= high < margin)
    swapped = noninferiority_paired_proportions(
        reference, new, margin=margin, alpha=alpha, cluster=patients
    )
    assert swapped.decision.p_upper == pytest.approx(decision.p_lower, abs=1e-12)
    json.dumps(answer.as_dict(), allow_nan=False)


@pytest.mark.parametrize("together", [True, False])
def test_one_found_and_one_missed_is_an_answer(*, together: bool) -> None:
    _, reference, patients = missed(0)
    new = reference.copy()
    new[0], new[1 if together else 6] = 0, 1
    answer = noninferiority_paired_proportions(new, reference, margin=0.05, cluster=patients)
    assert (answer.b, answer.c, answer.difference) == (1, 1, 0)
    assert answer.decision.p_value is not None
    assert answer.decision.interval is not None
    assert answer.decision.interval.low == pytest.approx(-answer.decision.interval.high)
    assert answer.equivalent is answer.noninferior is True


@pytest.mark.parametrize(("correlation", "most"), [(0.0, 0.06), (0.2, 0.08)])
def test_the_decision_keeps_its_level(correlation: float, most: float) -> None:
    """At a difference of the margin 5 % of the studies are called non-inferior; Wald's t: 10 %."""
    rng = np.random.default_rng(3)
    patients, shown = np.repeat(np.arange(31), 5), 0
    for _ in range(600):
        lost = np.full((31, 1), 0.07)
        if correlation:
            spread = (1 - correlation) / correlation
            lost = rng.beta(0.07 * spread, 0.93 * spread, (31, 1))
        new = rng.random((31, 5)) < 0.5
        misses = rng.random((31, 5)) < lost
        gains = ~misses & (rng.random((31, 5)) < 0.02 / 0.93)
        reference = np.where(misses, True, np.where(gains, False, new))
        new = np.where(misses, False, np.where(gains, True, new))
        answer = noninferiority_paired_proportions(
            new.ravel().astype(int), reference.ravel().astype(int), margin=0.05, cluster=patients
        )
        shown += answer.noninferior is True
    assert 0.02 < shown / 600 < most


def test_levels_that_are_alike_count_less() -> None:
    apart, reference, patients = missed(4)
    together = reference.copy()
    reference = reference.copy()
    reference[:5], together[:4] = 1, 0
    together[4] = 1
    for new, least in ((apart, 1.0), (together, 2.5)):
        answer = noninferiority_paired_proportions(
            new, missed(0)[1] if new is apart else reference, margin=0.05, cluster=patients
        )
        assert (answer.b, answer.c) == (0, 4)
        assert answer.design_effect is not None
        assert answer.design_effect >= least


def test_one_patient_decides_nothing() -> None:
    single = tango_interval([1, 0, 1], [0, 0, 1], cluster=["a", "a", "a"])
    assert (single.n_clusters, single.cluster_interval) == (1, None)
    assert single.cluster_reason == "too_few"
    test = noninferiority_paired_proportions(
        [1, 0, 1], [0, 0, 1], margin=0.1, cluster=["a", "a", "a"]
    )
    assert (test.decision.p_value, test.decision.interval) == (None, None)
    assert (test.decision.reason, test.noninferior, test.equivalent) == ("too_few", None, None)
    assert test.p_value is not None
    for answer in (single, test):
        json.dumps(answer.as_dict(), allow_nan=False)


def test_the_interval_of_the_difference_allows_for_patients() -> None:
    new, reference, patients = missed(6)
    answer = tango_interval(new, reference, cluster=patients)
    assert answer.interval is not None
    assert answer.cluster_interval is not None
    assert answer.cluster_interval.low < answer.interval.low
    assert answer.cluster_interval.high > answer.interval.high
    same = tango_interval(reference, reference, cluster=patients)
    assert same.design_effect == pytest.approx(1.4)
    assert same.cluster_interval is not None
    assert same.cluster_interval.low == pytest.approx(-same.cluster_interval.high)


# --- means --------------------------------------------------------------------------------------


values = st.floats(-100, 100).map(lambda x: round(x, 2))


@quick
@given(
    st.lists(st.tuples(values, values), min_size=2, max_size=30),
    st.floats(0.5, 100),
    st.sampled_from([0.025, 0.05]),
)
def test_tost_and_the_interval_agree(
    rows: list[tuple[float, float]], margin: float, alpha: float
) -> None:
    x, y = [one for one, _ in rows], [other for _, other in rows]
    answer = tost_paired(x, y, margin=margin, alpha=alpha)
    assume(answer.interval is not None)
    assert answer.interval is not None
    low, high = answer.interval.low, answer.interval.high
    assume(abs(low + margin) > 1e-9 < abs(high - margin))
    assert answer.equivalent == (-margin < low <= high < margin)
    swapped = tost_paired(y, x, margin=margin, alpha=alpha)
    assert swapped.p_value == pytest.approx(answer.p_value, rel=1e-6, abs=1e-12)
    t = paired_t(x, y, level=1 - 2 * alpha)
    assert (t.interval, t.mean_difference) == (answer.interval, answer.mean_difference)


def test_tost_allows_for_clusters() -> None:
    rng = np.random.default_rng(9)
    patients = np.repeat(np.arange(15), 4)
    x = rng.normal(0, 1, 60) + rng.normal(0, 1, 15)[patients]
    answer = tost_paired(x, np.zeros(60), margin=0.8, cluster=patients)
    assert answer.decision.interval is not None
    assert answer.interval is not None
    low, high = answer.decision.interval.low, answer.decision.interval.high
    assert high - low > answer.interval.high - answer.interval.low
    assert answer.equivalent == (-0.8 < low <= high < 0.8)
    expected = paired_t(x, np.zeros(60), cluster=patients, level=0.9)
    assert answer.decision.interval == expected.cluster_interval


@pytest.mark.parametrize(
    ("count", "difference", "low", "high", "equivalent"),
    [
        (31, 0.0, 0.5**31, 0.5**31, True),
        (5, 0.0, 0.5**5, 0.5**5, True),
        (4, 0.0, 0.5**4, 0.5**4, False),  # the smallest number of signs that says p <= .05 is 5
        (31, -0.5, 1.0, 0.5**31, False),  # on the bound
        (31, -3.0, 1.0, 0.5**31, False),
        (31, 0.25, 0.5**31, 0.5**31, True),
    ],
)
def test_equal_differences_are_decided_by_their_signs(
    count: int, difference: float, low: float, high: float, *, equivalent: bool
) -> None:
    answer = tost_paired(np.full(count, 3.0 + difference), np.full(count, 3.0), margin=0.5)
    assert (answer.p_value, answer.reason) == (None, "constant_difference")
    decision = answer.decision
    assert (decision.p_lower, decision.p_upper) == (low, high)
    assert decision.p_value == max(low, high)
    assert decision.reason == "constant_difference"
    assert "sign test" in decision.method
    assert answer.equivalent is equivalent
    assert (decision.interval is None) == (count < 5)
    json.dumps(answer.as_dict(), allow_nan=False)


def test_equal_differences_count_once_a_patient() -> None:
    patients = np.repeat(np.arange(6), 5)
    answer = tost_paired(np.ones(30), np.ones(30), margin=0.5, cluster=patients)
    assert answer.decision.p_value == 0.5**6
    # The pairs differ, and every patient's mean is the same.
    patients, x = np.repeat(np.arange(6), 2), np.tile([1.0, -1.0], 6)
    spread = tost_paired(x, np.zeros(12), margin=0.5, cluster=patients)
    assert spread.p_value is not None
    assert (spread.decision.p_value, spread.equivalent) == (0.5**6, True)


def test_a_score_more_that_differs_does_not_make_p_smaller() -> None:
    # Identical scores were "no answer", and one that differed was p < 1e-10.
    same = np.full(31, 3.0)
    other = same.copy()
    other[0] = 2.0
    assert tost_paired(same, same, margin=0.5).equivalent
    assert tost_paired(other, same, margin=0.5).equivalent


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (tango_interval, {"b": 1, "c": 2}, "n is needed"),
        (tango_interval, {"first": 1, "second": 2, "n": 9, "cluster": [1]}, "as vectors"),
        (tango_interval, {"b": 1, "c": 2, "n": 9, "level": 1}, "level must be"),
        (noninferiority_paired_proportions, {"b": 1, "c": 2, "n": 9, "margin": 1}, "margin must"),
        (noninferiority_paired_proportions, {"b": 1, "c": 2, "n": 9, "margin": -0.1}, "margin"),
        (
            noninferiority_paired_proportions,
            {"b": 1, "c": 2, "n": 9, "margin": 0.1, "alpha": 0.5},
            "alpha must be above 0 and below 0.5",
        ),
        (tost_paired, {"x": [1], "y": [2]}, "either low and high, or margin"),
        (tost_paired, {"x": [1], "y": [2], "low": 1, "margin": 2}, "either low and high"),
        (tost_paired, {"x": [1], "y": [2], "low": 1}, "belong together"),
        (tost_paired, {"x": [1], "y": [2], "low": 1, "high": 1}, "low must be below high"),
        (tost_paired, {"x": [1], "y": [2], "margin": float("inf")}, "finite number"),
        (tost_paired, {"x": [1], "y": [2], "margin": 1, "alpha": 0.6}, "alpha must"),
        (interchangeability, {"reference": [[1, 2]], "new": [[1]]}, "same subjects and readers"),
        (interchangeability, {"reference": [1, 2], "new": [1, 2]}, "subject, reader"),
        (
            interchangeability,
            {"reference": [[1, 2]], "new": [[1, 2]], "disagreement": "anger"},
            "mismatch or squared",
        ),
        (
            interchangeability,
            {"reference": [[1, 2]], "new": [[1, 5]], "categories": [1, 2]},
            "must lie on the scale",
        ),
        (
            interchangeability,
            {"reference": [[1, 2], [1, 1]], "new": [[1, 2], [2, 2]], "n_resamples": -1},
            "n_resamples must be at least 0",
        ),
    ],
)
def test_refused(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        function(**arguments)


def simulated(n_patients: int = 31, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), 5)
    truth = rng.random(patients.size) < 0.3
    scores = np.where(rng.random((4, patients.size)) < 0.08, ~truth, truth).astype(int)
    return scores[:2].T, scores[2:].T, patients


def test_interchangeability_by_its_definition() -> None:
    reference, new, patients = simulated()
    answer = interchangeability(reference, new, cluster=patients, margin=0.1)
    between = [np.mean(reference[:, j] != new[:, k]) for j, k in ((0, 1), (1, 0))]
    within = np.mean(reference[:, 0] != reference[:, 1])
    assert answer.value == pytest.approx(np.mean(between) - within)
    assert answer.disagreement_reference == pytest.approx(within)
    assert answer.disagreement_new == pytest.approx(np.mean(new[:, 0] != new[:, 1]))
    assert answer.decision.interval is not None
    assert answer.decision.p_value is not None
    assert answer.interchangeable == (answer.decision.interval.high < 0.1)
    assert answer.interchangeable == (answer.decision.p_value < 0.025)
    assert (answer.n, answer.n_clusters, answer.n_readers) == (155, 31, 2)


def test_interchangeability_knows_no_order_of_readers_or_subjects() -> None:
    reference, new, patients = simulated()
    answer = interchangeability(reference, new, cluster=patients)
    order = np.random.default_rng(1).permutation(len(patients))
    shuffled = interchangeability(reference[order], new[order], cluster=patients[order])
    swapped = interchangeability(reference[:, ::-1], new[:, ::-1], cluster=patients)
    for other in (shuffled, swapped):
        assert (other.value, other.se) == pytest.approx((answer.value, answer.se))


def test_the_same_images_twice_are_interchangeable() -> None:
    reference, _, patients = simulated()
    answer = interchangeability(reference, reference, cluster=patients, margin=0.05)
    assert answer.value == pytest.approx(0, abs=1e-12)
    assert (answer.interval, answer.reason) == (None, "zero_variance")
    assert answer.decision.interval is not None
    assert answer.decision.p_value is not None
    expected = special.stdtr(30, -math.sqrt(155 / 1.4 * 0.05 / 0.95))
    assert answer.decision.p_value == pytest.approx(expected)
    assert answer.interchangeable


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_more_disagreement_is_never_easier_to_call_interchangeable(level: float) -> None:
    found = []
    for count in range(12):
        new, reference, patients = missed(count)
        old = np.column_stack([reference, reference])
        answer = interchangeability(
            old,
            np.column_stack([new, reference]),
            cluster=patients,
            margin=0.1,
            level=level,
            n_resamples=0,
        )
        assert answer.decision.p_value is not None
        found.append(answer.decision.p_value)
    assert (np.diff(found) > 0).all()
    assert found[0] < 0.01


def test_the_bootstrap_agrees_with_the_sandwich() -> None:
    reference, new, patients = simulated(200, seed=3)
    answer = interchangeability(reference, new, cluster=patients, n_resamples=4000, rng=1)
    assert answer.interval is not None
    assert answer.bootstrap_interval is not None
    assert answer.bootstrap_interval.low == pytest.approx(answer.interval.low, abs=0.003)
    assert answer.bootstrap_interval.high == pytest.approx(answer.interval.high, abs=0.003)
    again = interchangeability(reference, new, cluster=patients, n_resamples=4000, rng=1)
    assert again == answer
    without = interchangeability(reference, new, cluster=patients, n_resamples=0)
    assert (without.bootstrap_interval, without.n_resamples) == (None, 0)


def test_measurements_disagree_by_their_squares() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(150, 40, (31, 1))
    reference, new = truth + rng.normal(0, 5, (31, 2)), truth + rng.normal(0, 5, (31, 2))
    answer = interchangeability(reference, new, disagreement="squared")
    expected = np.mean(
        ((reference[:, 0] - new[:, 1]) ** 2 + (reference[:, 1] - new[:, 0]) ** 2) / 2
        - (reference[:, 0] - reference[:, 1]) ** 2
    )
    assert answer.value == pytest.approx(expected)
    assert answer.interval is not None


def test_three_readers_and_missing_scores() -> None:
    reference = [["a", "a", "b"], ["b", "b", "b"], ["a", None, "a"], ["b", "a", "b"]]
    new = [["a", "b", "b"], ["b", "b", "b"], ["a", "a", "a"], ["b", "b", "b"]]
    answer = interchangeability(reference, new, categories=["a", "b"])  # type: ignore[arg-type]
    assert (answer.n, answer.n_given, answer.n_readers) == (3, 4, 3)
    assert answer.disagreement_reference == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    assert answer.disagreement_between == pytest.approx((4 / 6 + 0 + 2 / 6) / 3)


@pytest.mark.parametrize(
    ("reference", "new", "reason"),
    [
        ([[1], [0]], [[1], [0]], "too_few"),
        (np.empty((0, 2)), np.empty((0, 2)), "too_few"),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]], "no_variation"),
        ([[1, 1], [0, 0]], [[1, 1], [0, 0]], "perfect_agreement"),
    ],
)
def test_interchangeability_without_an_answer(reference: Any, new: Any, reason: str) -> None:
    answer = interchangeability(reference, new)
    assert (answer.interval, answer.reason) == (None, reason)
    json.dumps(answer.as_dict(), allow_nan=False)
