"""Many readers, many cases: the covariances by brute force, invariances, degenerate studies."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import mannwhitneyu

from halfscan_stats import ObuchowskiRockette, StatsError, obuchowski_rockette

Scores = npt.NDArray[np.float64]


def study(treatments: int = 2, readers: int = 3, cases: int = 40, seed: int = 0) -> tuple[Any, Any]:
    """Ratings from 1 to 5 (treatment, reader, case), and the truth."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(cases) % 3 == 0).astype(int)
    latent = rng.normal(0, 1, cases) + 1.5 * truth
    noise = rng.normal(0, 0.7, (treatments, readers, cases))
    shift = 0.2 * np.arange(treatments)[:, None, None] * truth
    return np.clip(np.round(3 + latent + noise + shift), 1, 5), truth


def areas(ratings: Scores, truth: npt.NDArray[np.int64]) -> Scores:
    """Areas under the curve, from Mann and Whitney's U of scipy: (treatment, reader)."""
    positive, negative = ratings[:, :, truth == 1], ratings[:, :, truth == 0]
    u = mannwhitneyu(positive, negative, axis=2, method="asymptotic").statistic
    return np.asarray(u / positive.shape[2] / negative.shape[2])


def test_figures_are_those_of_scipy() -> None:
    ratings, truth = study()
    answer = obuchowski_rockette(ratings, truth)
    assert np.allclose(answer.figures, areas(ratings, truth))
    assert (answer.n_positive, answer.n_negative) == (14, 26)
    assert answer.value == pytest.approx(np.diff(areas(ratings, truth).mean(axis=1)[::-1])[0])


def test_the_jackknife_leaves_cases_out_one_by_one() -> None:
    ratings, truth = study()
    cases = truth.size
    left_out = np.array(
        [
            areas(np.delete(ratings, case, axis=2), np.delete(truth, case)).ravel()
            for case in range(cases)
        ]
    )
    matrix = (cases - 1) ** 2 / cases * np.cov(left_out.T)
    parts = obuchowski_rockette(ratings, truth).components
    assert parts.error == pytest.approx(np.diag(matrix).mean())
    same_reader = [matrix[i, i + 3] for i in range(3)]
    assert parts.cov1 == pytest.approx(np.mean(same_reader))
    same_treatment = [matrix[i, j] for i in range(6) for j in range(i) if i // 3 == j // 3]
    assert parts.cov2 == pytest.approx(np.mean(same_treatment))
    neither = [matrix[i, j + 3] for i in range(3) for j in range(3) if i != j]
    assert parts.cov3 == pytest.approx(np.mean(neither))


def test_the_unbiased_covariance_is_unbiased() -> None:
    # Over many small studies its mean is the variance of the figure over those studies.
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1], 6)
    figures, errors = [], []
    for _ in range(1500):
        ratings = np.round(rng.normal(0, 1, (2, 1, 12)) + truth, 1)
        answer = obuchowski_rockette(ratings, truth, covariance="unbiased")
        figures.append(answer.figures[0][0])
        errors.append(answer.components.error or 0.0)
    assert np.mean(errors) == pytest.approx(np.var(figures), rel=0.1)


def test_components_are_raw_and_denominators_are_not() -> None:
    """Cov2 - cov3 below 0 counts as 0 in the tests alone (Hillis 2007), as in R's MRMCaov."""
    below = 0
    for seed in range(40):
        ratings, truth = study(cases=16, seed=seed)
        answer = obuchowski_rockette(ratings, truth)
        parts, test = answer.components, answer.random_both
        assert test is not None
        assert parts.ms_treatment_reader is not None
        assert parts.error is not None
        assert parts.cov1 is not None
        assert parts.cov2 is not None
        assert parts.cov3 is not None
        shared = parts.cov2 - parts.cov3
        raw = parts.ms_treatment_reader - parts.error + parts.cov1 + shared
        assert parts.treatment_reader == pytest.approx(raw)
        if shared < 0 and test.f is not None:
            below += 1
            assert test.f == pytest.approx((parts.ms_treatment or 0) / parts.ms_treatment_reader)
            assert test.df2 == pytest.approx(2)  # (treatments - 1) (readers - 1)
    assert below


@pytest.mark.parametrize("figure", ["auc", "sensitivity", "specificity"])
def test_the_covariances_agree_in_a_large_study(figure: str) -> None:
    ratings, truth = study(cases=600)
    threshold = None if figure == "auc" else 4
    answers = [
        obuchowski_rockette(
            ratings, truth, figure=figure, covariance=name, threshold=threshold, n_resamples=2000
        )
        for name in ("jackknife", "delong", "bootstrap")
    ]
    for answer in answers[1:]:
        assert answer.components.error == pytest.approx(answers[0].components.error, rel=0.1)
        assert answer.components.cov2 == pytest.approx(answers[0].components.cov2, rel=0.15)


def test_the_bootstrap_is_repeatable() -> None:
    ratings, truth = study()
    once, again, other = (
        obuchowski_rockette(ratings, truth, covariance="bootstrap", rng=seed, n_resamples=200)
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_shares_are_shares() -> None:
    ratings, truth = study()
    answer = obuchowski_rockette(ratings, truth, figure="sensitivity", threshold=4)
    assert np.allclose(answer.figures, (ratings[:, :, truth == 1] >= 4).mean(axis=2))
    binary = obuchowski_rockette(ratings >= 4, truth, figure="specificity")
    assert np.allclose(binary.figures, (ratings[:, :, truth == 0] < 4).mean(axis=2))
    variance = (ratings[0, 0, truth == 1] >= 4).var(ddof=1) / 14
    alone = obuchowski_rockette(ratings[:1, :1], truth, figure="sensitivity", threshold=4)
    assert alone.components.error == pytest.approx(variance)


def same(one: ObuchowskiRockette, other: ObuchowskiRockette, sign: int = 1) -> None:
    assert one.value == pytest.approx(sign * (other.value or 0), abs=1e-12)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-6)


def test_order_and_monotone_scales_do_not_matter() -> None:
    ratings, truth = study()
    answer = obuchowski_rockette(ratings, truth)
    order = np.random.default_rng(1).permutation(truth.size)
    same(answer, obuchowski_rockette(ratings[:, :, order], truth[order]))
    same(answer, obuchowski_rockette(ratings[:, ::-1], truth))
    same(answer, obuchowski_rockette(ratings[::-1], truth), sign=-1)
    same(answer, obuchowski_rockette(np.exp(ratings) - 7, truth))
    same(answer, obuchowski_rockette(-ratings, 1 - truth))


def test_a_t_test_of_two_treatments_is_their_f_test() -> None:
    ratings, truth = study()
    answer = obuchowski_rockette(ratings, truth)
    for test in (answer.random_both, answer.fixed_readers, answer.fixed_cases):
        assert test is not None
        (contrast,) = test.contrasts
        assert contrast.t is not None
        assert contrast.t**2 == pytest.approx(test.f)
        assert contrast.p_value == pytest.approx(test.p_value)
        assert contrast.difference == answer.value


def test_three_treatments_have_three_contrasts() -> None:
    ratings, truth = study(treatments=3)
    answer = obuchowski_rockette(ratings, truth)
    assert answer.random_both is not None
    assert [(c.first, c.second) for c in answer.random_both.contrasts] == [(0, 1), (0, 2), (1, 2)]
    assert answer.random_both.df1 == 2
    assert len(answer.treatments) == 3
    for estimate in answer.treatments:
        assert estimate.interval is not None
        assert 0 <= estimate.interval.low < estimate.interval.high <= 1


def test_missing_ratings_take_their_case_out() -> None:
    ratings, truth = study()
    ratings[1, 2, 7] = np.nan
    answer = obuchowski_rockette(ratings, truth)
    assert (answer.n, answer.n_given) == (39, 40)
    same(answer, obuchowski_rockette(np.delete(ratings, 7, axis=2), np.delete(truth, 7)))
    unknown = [None if case == 7 else int(value) for case, value in enumerate(truth)]
    same(answer, obuchowski_rockette(ratings, unknown))  # type: ignore[arg-type]  # None is missing


def reasons(answer: ObuchowskiRockette) -> tuple[Any, ...]:
    json.dumps(answer.as_dict(), allow_nan=False)
    return tuple(
        test.reason
        for test in (answer.random_both, answer.fixed_readers, answer.fixed_cases)
        if test
    )


def test_one_reader_answers_for_that_reader_only() -> None:
    ratings, truth = study(readers=1)
    answer = obuchowski_rockette(ratings, truth)
    assert reasons(answer) == ("too_few", None, "too_few")
    assert (answer.interval, answer.reason) == (None, "too_few")
    assert answer.fixed_readers is not None
    assert answer.fixed_readers.p_value is not None
    # DeLong's test of two correlated curves is the same thing
    delong = obuchowski_rockette(ratings, truth, covariance="delong").fixed_readers
    assert delong is not None
    assert delong.contrasts[0].se == pytest.approx(answer.fixed_readers.contrasts[0].se, rel=0.05)


def test_one_positive_case_answers_for_those_cases_only() -> None:
    ratings, truth = study()
    kept = [*np.flatnonzero(truth == 0).tolist(), 0]
    answer = obuchowski_rockette(ratings[:, :, kept], truth[kept])
    assert answer.n_positive == 1
    assert reasons(answer) == ("too_few", "too_few", None)


@pytest.mark.parametrize("truth", [[0] * 6, [1] * 6, [None] * 6])
def test_cases_of_one_kind_have_no_curve(truth: list[int | None]) -> None:
    ratings = np.arange(24.0).reshape(2, 2, 6)
    answer = obuchowski_rockette(ratings, truth)  # type: ignore[arg-type]  # None is missing
    assert (answer.value, answer.figures, answer.treatments) == (None, (), ())
    assert set(reasons(answer)) == {"too_few"}


def test_readers_without_error_or_difference() -> None:
    truth = np.repeat([0, 1], 5)
    perfect = np.tile(np.arange(10.0), (2, 3, 1))
    answer = obuchowski_rockette(perfect, truth)
    assert answer.value == 0
    assert set(reasons(answer)) == {"zero_variance"}
    ratings, known = study(treatments=1)
    twice = obuchowski_rockette(np.concatenate([ratings, ratings]), known)
    assert twice.value == 0
    assert twice.random_both is not None
    assert twice.random_both.reason == "zero_variance"


def test_one_treatment_has_a_figure_and_no_difference() -> None:
    ratings, truth = study(treatments=1)
    answer = obuchowski_rockette(ratings, truth)
    assert (answer.value, answer.reason) == (None, "too_few")
    assert answer.treatments[0].interval is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratings": [[1, 2]]}, r"\(treatment, reader, case\), got shape"),
        ({"truth": [0, 1]}, "one value a case"),
        ({"truth": np.arange(40)}, "1 with the finding"),
        ({"figure": "luck"}, "figure must be"),
        ({"figure": "sensitivity"}, "threshold is needed"),
        ({"covariance": "guess"}, "covariance must be"),
        ({"covariance": "unbiased", "figure": "specificity", "threshold": 3}, "for the auc"),
        ({"covariance": "bootstrap", "n_resamples": 1}, "n_resamples must be at least 2"),
        ({"level": 0}, "level must be"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    ratings, truth = study()
    with pytest.raises(StatsError, match=message):
        obuchowski_rockette(**{"ratings": ratings, "truth": truth} | arguments)
