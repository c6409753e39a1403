"""Results of the statistics: nothing undefined hides in a number."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from halfscan_stats import Agreement, Estimate, Interval, Reason, TestResult, landis_koch
from halfscan_stats.result import plain


def test_an_estimate_carries_value_interval_and_counts() -> None:
    estimate = Estimate("ICC(A,1)", n=30, n_given=31, value=0.8, interval=Interval(0.7, 0.9))
    assert estimate.interval is not None
    assert (estimate.value, estimate.interval.level, estimate.n) == (0.8, 0.95, 30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 1.0  # type: ignore[misc]  # that it is refused is the point


def test_undefined_is_none_with_a_reason() -> None:
    undefined = Estimate("kappa", n=31, n_given=31, reason=Reason.NO_VARIATION)
    assert undefined.value is None
    assert undefined.reason == "no_variation"
    exact = TestResult("McNemar, exact", n=31, n_given=31, p_value=1.0)
    assert exact.statistic is None


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Estimate, {"value": math.nan, "reason": Reason.TOO_FEW}, "value must be finite"),
        (Estimate, {"value": 0.5}, "needs a reason"),
        (Estimate, {"value": 0.5, "n": 32, "reason": Reason.TOO_FEW}, "0 <= n <= n_given"),
        (TestResult, {"p_value": math.inf}, "p_value must be finite"),
        (TestResult, {"p_value": 1.2}, "must lie in"),
        (TestResult, {}, "needs a reason"),
    ],
)
def test_a_broken_result_is_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{"method": "m", "n": 31, "n_given": 31, **arguments})


@pytest.mark.parametrize(
    ("limits", "message"),
    [((0.0, math.inf), "finite"), ((0.9, 0.1), "low must be"), ((0.1, 0.9, 1.0), "level")],
)
def test_a_broken_interval_is_refused(limits: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval(*limits)


def test_a_result_as_json_knows_it() -> None:
    result = Agreement(
        "kappa",
        n=30,
        n_given=31,
        value=np.float64(0.61),
        interval=Interval(0.5, 0.7),
        categories=(1, "two"),
    )
    given = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert given["interval"] == {"low": 0.5, "high": 0.7, "level": 0.95}
    assert (given["value"], given["word"], given["n_missing"]) == (0.61, "substantial", 1)
    assert (given["categories"], given["reason"], given["se"]) == ([1, "two"], None, None)
    undefined = Estimate("kappa", n=0, n_given=0, reason=Reason.TOO_FEW).as_dict()
    assert undefined["reason"] == "too_few"
    assert type(undefined["reason"]) is str
    assert Interval(0, 1).as_dict() == {"low": 0, "high": 1, "level": 0.95}


def test_plain_values() -> None:
    assert plain({"a": (np.int64(1), np.array([0.5, 2.0]))}) == {"a": [1, [0.5, 2.0]]}
    assert plain([Reason.TOO_FEW, None, True]) == ["too_few", None, True]
    for broken in (math.nan, [math.inf], {"a": np.float64("nan")}):
        with pytest.raises(ValueError, match="finite or None"):
            plain(broken)
    with pytest.raises(ValueError, match="cannot hold a set"):
        plain({1, 2})


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, None),
        (-0.01, "poor"),
        (0.0, "slight"),
        (0.2, "slight"),
        (0.21, "fair"),
        (0.41, "moderate"),
        (0.6000000000000001, "moderate"),
        (0.61, "substantial"),
        (0.81, "almost perfect"),
        (1.0, "almost perfect"),
    ],
)
def test_words_of_landis_and_koch(value: float | None, word: str | None) -> None:
    assert landis_koch(value) == word


def test_no_word_for_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="finite or None, got nan"):
        landis_koch(math.nan)
