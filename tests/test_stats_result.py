"""Results of the statistics: nothing undefined hides in a number."""

import dataclasses
import math
from typing import Any

import pytest

from halfscan_stats import Estimate, Interval, Reason, TestResult


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
