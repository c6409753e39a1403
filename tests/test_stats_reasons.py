"""Where an interval is missing a reason says why: every public function, on awkward input."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import halfscan_stats as stats
from halfscan_stats import Interval, Reason

Answers = Any  # a list of numbers and None

# First reader, second reader, patient of each of the pairs.
AWKWARD: dict[str, tuple[Answers, Answers, list[int]]] = {
    "nothing": ([], [], []),
    "all missing": ([None, None], [None, None], [1, 2]),
    "all missing but one": ([None, 1, None, 0], [1, 0, None, None], [1, 2, 3, 4]),
    "one pair": ([1], [0], [1]),
    "one pair that agrees": ([1], [1], [1]),
    "two pairs": ([1, 0], [0, 0], [1, 2]),
    "one cluster": ([1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 1, 0], [7] * 6),
    "two clusters": ([1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 1, 0], [1, 1, 1, 2, 2, 2]),
    "clusters that are alike": ([1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1], [1, 1, 2, 2, 3, 3]),
    "one category": ([1] * 6, [1] * 6, [1, 1, 2, 2, 3, 3]),
    "the other category": ([0] * 6, [0] * 6, [1, 1, 2, 2, 3, 3]),
    "perfect agreement": ([1, 0, 1, 0, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 2, 2, 3, 3]),
    "perfect, one cluster": ([1, 0, 1, 0], [1, 0, 1, 0], [1] * 4),
    "perfect disagreement": ([1, 0, 1, 0, 1, 1], [0, 1, 0, 1, 0, 0], [1, 1, 2, 2, 3, 3]),
    "a constant reader": ([1] * 6, [1, 0, 1, 0, 1, 1], [1, 1, 2, 2, 3, 3]),
    "both constant, apart": ([1] * 6, [0] * 6, [1, 1, 2, 2, 3, 3]),
    "a constant reader, one cluster": ([1] * 4, [1, 0, 1, 0], [1] * 4),
    "in order": ([1, 0, 1, 0, 1, 1, 0, 0], [1, 0, 0, 0, 1, 0, 1, 0], [1, 1, 2, 2, 3, 3, 4, 4]),
}
SCALE: dict[str, Any] = {"categories": (0, 1)}


def table(x: Answers, y: Answers, _cluster: list[int]) -> list[list[int]]:
    """Counts of complete pairs."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if None not in (a, b)]
    return [[pairs.count((a, b)) for b in (0, 1)] for a in (0, 1)]


def readers(x: Answers, y: Answers) -> Any:
    """Two readers of every pair, (subject, reader); an empty table has two columns too."""
    return np.array([x, y], dtype=float).T.reshape(-1, 2)


def many(x: Answers, y: Answers) -> tuple[Any, Any]:
    """Ratings (treatment, reader, case), and the truth."""
    return np.array([[x, y], [y, x]], dtype=float), np.array(x, dtype=float)


def bootstrapped(x: Answers, y: Answers, cluster: list[int]) -> Any:
    return stats.cluster_bootstrap("kappa", x, y, cluster=cluster, **SCALE, rng=1, n_resamples=50)


def compared(x: Answers, y: Answers, cluster: list[int], resamples: int) -> Any:
    return stats.interchangeability(
        readers(x, y), readers(y, y), cluster=cluster, **SCALE, margin=0.1, n_resamples=resamples
    )


CALLS: dict[str, list[Callable[[Answers, Answers, list[int]], Any]]] = {
    "bland_altman": [
        lambda x, y, c: stats.bland_altman(x, y, cluster=c),
        lambda x, y, _: stats.bland_altman(x, y, limits="exact"),
    ],
    "choose_paired_test": [lambda x, y, c: stats.choose_paired_test(x, y, cluster=c)],
    "cluster_bootstrap": [bootstrapped],
    "clustered_kappa": [lambda x, y, c: stats.clustered_kappa(x, y, cluster=c, **SCALE)],
    "clustered_mcnemar": [lambda x, y, c: stats.clustered_mcnemar(x, y, cluster=c)],
    "cohen_kappa": [
        lambda x, y, c: stats.cohen_kappa(x, y, cluster=c, **SCALE),
        lambda x, y, c: stats.cohen_kappa(table=table(x, y, c), **SCALE),
    ],
    "fleiss_kappa": [
        lambda x, y, c: stats.fleiss_kappa(readers(x, y), cluster=c, **SCALE),
    ],
    "gee_logit": [lambda x, y, c: stats.gee_logit(x, {"other": y}, c)],
    "gwet_ac": [lambda x, y, c: stats.gwet_ac(x, y, cluster=c, **SCALE)],
    "icc": [lambda x, y, c: stats.icc(readers(x, y), form="A,k", cluster=c)],
    "icc_forms": [lambda x, y, c: stats.icc_forms(readers(x, y), cluster=c)],
    "interchangeability": [
        lambda x, y, c: compared(x, y, c, 50),
        lambda x, y, c: compared(x, y, c, 0),
    ],
    "krippendorff_alpha": [
        lambda x, y, c: stats.krippendorff_alpha(readers(x, y), cluster=c),
        lambda x, y, c: stats.krippendorff_alpha(readers(x, y), metric="interval", cluster=c),
    ],
    "linear_mixed_model": [lambda x, y, c: stats.linear_mixed_model(x, {"other": y}, c)],
    "mcnemar": [
        lambda x, y, _: stats.mcnemar(x, y),
        lambda x, y, c: stats.mcnemar(table(x, y, c)[1][0], table(x, y, c)[0][1]),
    ],
    "mrmc_ustatistics": [lambda x, y, _: stats.mrmc_ustatistics(*many(x, y))],
    "noninferiority_mrmc": [
        lambda x, y, _: stats.noninferiority_mrmc(stats.mrmc_ustatistics(*many(x, y)), 0.1),
        lambda x, y, _: stats.noninferiority_mrmc(stats.obuchowski_rockette(*many(x, y)), 0.1),
    ],
    "noninferiority_paired_proportions": [
        lambda x, y, c: stats.noninferiority_paired_proportions(x, y, margin=0.1, cluster=c),
    ],
    "cumulative_link_mixed_model": [
        lambda x, y, c: stats.cumulative_link_mixed_model(
            [*x, *y], {"side": [0] * len(x) + [1] * len(y)}, cluster=[*c, *c], **SCALE
        ),
    ],
    "visual_grading_characteristics": [
        lambda x, y, c: stats.visual_grading_characteristics(
            [*x, *y], [0] * len(x) + [1] * len(y), cluster=[*c, *c], **SCALE
        ),
    ],
    "obuchowski_rockette": [
        lambda x, y, _: stats.obuchowski_rockette(*many(x, y)),
        lambda x, y, _: stats.obuchowski_rockette(*many(x, y), covariance="unbiased"),
        lambda x, y, _: stats.obuchowski_rockette(*many(x, y), figure="sensitivity"),
    ],
    "pabak": [lambda x, y, c: stats.pabak(x, y, cluster=c, **SCALE)],
    "paired_t": [lambda x, y, c: stats.paired_t(x, y, cluster=c)],
    "shapiro_wilk": [lambda x, _y, _: stats.shapiro_wilk(x)],
    "summarize": [lambda x, _y, _: stats.summarize(x)],
    "tango_interval": [lambda x, y, c: stats.tango_interval(x, y, cluster=c)],
    "tost_paired": [lambda x, y, c: stats.tost_paired(x, y, margin=1, cluster=c)],
    "wilcoxon_signed_rank": [lambda x, y, c: stats.wilcoxon_signed_rank(x, y, cluster=c)],
}
# These answer with no interval: p-values, words, numbers of cases.
WITHOUT_INTERVAL = {
    *("adjust_pvalues", "landis_koch"),
    *("snr_background", "snr_difference", "snr_noise_map", "spread_trend"),
}
SAID_ELSEWHERE: set[str] = set()


def parts(value: object) -> Iterator[Any]:
    """Every result in an answer, at any depth."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from parts(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, Interval):
        yield value
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))


def reason_of(result: Any, name: str) -> Reason | None:
    """What a result says about the lack of one of its intervals; the nearest name first."""
    stem = name.removesuffix("interval_t").removesuffix("interval").rstrip("_")
    kind = stem.split("_")[0]
    own = [f"{stem}_reason", f"{kind}_reason"] if kind else ["interval_reason", "difference_reason"]
    # What belongs to clusters has a reason of its own, always.
    names = own if kind == "cluster" else [*own, "reason"]
    found = (getattr(result, one, None) for one in names)
    return next((one for one in found if one is not None), None)


def asked_for(result: Any, name: str) -> bool:
    """Whether the interval was asked for: with clusters, or with resamples."""
    if name.startswith("cluster"):
        return result.n_clusters is not None
    return not (name.startswith("bootstrap") and result.n_resamples == 0 and result.interval)


def gaps(answer: object) -> Iterator[str]:
    """Intervals that are None and nothing says why."""
    for result in parts(answer):
        for field in dataclasses.fields(result):
            name = field.name
            if "Interval" not in str(field.type) or getattr(result, name) is not None:
                continue
            if asked_for(result, name) and reason_of(result, name) is None:
                yield f"{type(result).__name__}.{name}"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("awkward", AWKWARD)
def test_a_missing_interval_has_its_reason(name: str, awkward: str) -> None:
    for call in CALLS[name]:
        answer = call(*AWKWARD[awkward])
        assert set(gaps(answer)) <= SAID_ELSEWHERE
        for result in parts(answer):
            if isinstance(result, stats.Result):
                json.dumps(result.as_dict(), allow_nan=False)


def test_every_public_function_is_asked() -> None:
    public = {name for name in stats.__all__ if name.islower()}
    plans = {name for name in public if name.startswith(("sample_size_", "power_"))}
    assert public - plans - WITHOUT_INTERVAL == set(CALLS)


def test_the_test_finds_a_gap() -> None:
    @dataclasses.dataclass
    class Answer:
        interval: Interval | None = None
        cluster_interval: Interval | None = None
        n_clusters: int | None = 1
        reason: Reason | None = None
        cluster_reason: Reason | None = None

    assert list(gaps(Answer())) == ["Answer.interval", "Answer.cluster_interval"]
    assert list(gaps((Answer(reason=Reason.TOO_FEW),))) == ["Answer.cluster_interval"]
    both = Answer(reason=Reason.TOO_FEW, cluster_reason=Reason.TOO_FEW)
    assert list(gaps([Answer(Interval(0, 1), None, None), both])) == []


def test_one_cluster_says_so_beside_an_answer() -> None:
    answer = stats.paired_t([1, 2, 4], [0, 0, 1], cluster=[5, 5, 5])
    assert answer.interval is not None
    assert (answer.cluster_se, answer.cluster_interval) == (None, None)
    assert answer.cluster_reason is Reason.TOO_FEW
    alike = stats.paired_t([1, 2, 1, 2], [0, 0, 0, 0], cluster=[1, 1, 2, 2])
    assert alike.cluster_reason is Reason.ZERO_VARIANCE


@pytest.mark.parametrize("form", ["A,k", "C,k", "1,k"])
def test_an_icc_above_one_is_undefined(form: str) -> None:
    rng = np.random.default_rng(4)
    seen = 0
    for _ in range(400):
        answer = stats.icc(rng.integers(1, 4, (3, 3)), form=form)
        assert answer.value is None or answer.value <= 1
        seen += answer.value is not None and answer.value < 0
        if answer.value is None:
            assert answer.reason in {
                Reason.NEGATIVE_VARIANCE,
                Reason.NO_VARIATION,
                Reason.RATER_CONSTANT,
            }
            assert answer.interval is None
    assert seen  # negative ones are reported
