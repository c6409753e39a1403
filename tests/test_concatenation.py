"""Concatenations: one multi-frame object in several parts, of which one may be missing."""

import pytest
from pydicom import Dataset

from dicom_maker import add_averages, add_modifier, made_uid, mr_series
from halfscan_plugin.concatenation import missing_parts
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import split
from halfscan_plugin.rules import judge
from image_maker import enhanced_image, frame_grid


def refused(series: list[Dataset]) -> UnreadableSeries:
    with pytest.raises(UnreadableSeries) as caught:
        split(series)
    return caught.value


def concatenation(parts: int = 3, *, total: bool = True) -> list[Dataset]:
    """Make one stack in several parts, two frames each."""
    frames = frame_grid(2 * parts)
    series = []
    for number in range(parts):
        own = frames[2 * number : 2 * number + 2]
        part = enhanced_image(own, index=number, seed=number, InstanceNumber=1)
        part.ConcatenationUID = made_uid("concatenation")
        part.SOPInstanceUIDOfConcatenationSource = made_uid("source")
        part.InConcatenationNumber = number + 1
        part.ConcatenationFrameOffsetNumber = 2 * number
        if total:
            part.InConcatenationTotalNumber = parts
        series.append(part)
    return series


@pytest.mark.parametrize("total", [True, False])
def test_a_concatenation_is_one_object(*, total: bool) -> None:
    (stack,) = split(concatenation(total=total)[::-1])
    assert [(s.source, s.frame) for s in stack.slices] == [
        (2, 0), (2, 1), (1, 0), (1, 1), (0, 0), (0, 1),
    ]  # fmt: skip
    assert (stack.warnings, stack.labels) == ((), ())


@pytest.mark.parametrize(
    ("total", "gone"), [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1)]
)
@pytest.mark.parametrize("by_number", [True, False])
def test_a_part_that_is_missing_is_named(*, total: bool, gone: int, by_number: bool) -> None:
    series = concatenation(total=total)
    del series[gone]
    if not by_number:
        for part in series:
            del part.InConcatenationNumber
    error = refused(series)
    assert error.code == "incomplete_concatenation"
    assert f"has 2 of 3 parts: InConcatenationNumber {gone + 1} is missing" in str(error)
    assert missing_parts(series) == {made_uid("concatenation"): (gone + 1,)}


def test_the_last_part_is_missed_only_where_the_total_tells() -> None:
    series = concatenation(total=False)[:2]
    assert missing_parts(series) == {}
    (stack,) = split(series)
    assert len(stack.slices) == 4
    assert missing_parts(mr_series(3)) == {}


def test_a_decision_names_what_is_missing() -> None:
    series = [
        add_averages(add_modifier(part, ParallelReductionFactorInPlane=2.0), 1.0)
        for part in concatenation()
    ]
    assert judge(series)[1].action == "reconstruct"
    decision = judge(series[:2])[1]
    assert (decision.action, decision.reason_code) == ("skip", "incomplete_concatenation")
    assert "InConcatenationNumber 3 is missing" in decision.reason
    assert not decision.possible
