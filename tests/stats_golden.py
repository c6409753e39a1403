"""Worked examples with known answers, for the tests of the statistics.

The project's own examples stand in ``tests/golden/*.json``: published data with the numbers that
were printed, and small ones worked out by hand, each with its source. A case is

    {"id", "source", "call", "arguments", "expected", "tolerance"}

where `call` names a function of `halfscan_stats`, and `expected` maps paths into its result
(``value``, ``interval.low``, ``reason``) to numbers, text or null.

A larger collection (from R and from published examples) is no part of the project: it is read
from the folder that HALFSCAN_REFERENCE names, or from ``../shared/reference``.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

import halfscan_stats

Case = dict[str, Any]

_GOLDEN = Path(__file__).parent / "golden"
_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "reference"
ABSENT = "the reference cases are not here: HALFSCAN_REFERENCE or ../shared/reference"


def own_cases(name: str) -> list[ParameterSet]:
    """Parameters, one a case of ``tests/golden/NAME.json``."""
    cases = json.loads((_GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["id"]) for case in cases]


def reference_file(name: str) -> Path | None:
    """A file of the collection; None where it is not there."""
    path = Path(os.environ.get("HALFSCAN_REFERENCE") or _BESIDE) / name
    return path if path.exists() else None


def reference_cases(*statistics: str) -> list[ParameterSet]:
    """Parameters, one a case of the collection with one of these statistics; or one that skips."""
    path = reference_file("statistics.json")
    if path is None:
        return [pytest.param({}, marks=pytest.mark.skip(reason=ABSENT))]
    cases = json.loads(path.read_text(encoding="utf-8"))
    found = [case for case in cases if case["statistic"] in statistics]
    missing = set(statistics) - {case["statistic"] for case in found}
    assert not missing, f"no case of {missing}"
    return [pytest.param(case, id=case["id"]) for case in found]


def run(case: Case) -> Any:
    """What the function answers to the case."""
    return getattr(halfscan_stats, case["call"])(**case["arguments"])


def at(result: Any, path: str) -> Any:
    """What a result holds at a path; None where the path ends early in a None."""
    for name in path.split("."):
        if result is None:
            return None
        if name.lstrip("-").isdigit():
            result = result[int(name)]
        else:
            result = result[name] if isinstance(result, dict) else getattr(result, name)
    return result


def agrees(result: Any, expected: dict[str, Any], tolerance: float) -> None:
    """Fail unless the result holds what is expected, every path of it."""
    for path, value in expected.items():
        found = at(result, path)
        if value is None or isinstance(value, str | bool):
            assert found == value, f"{path}: {found!r}, expected {value!r}"
        else:
            assert found is not None, f"{path}: None, expected {value!r}"
            assert found == pytest.approx(value, abs=tolerance, rel=1e-9), path
