"""Random geometry: volumes are found again exactly, and a missing slice is found anywhere."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_maker import mr_series
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import split
from image_maker import enhanced_image, frame_grid, normal, position, renumber, slabs, tilted

ANGLES = st.floats(-math.pi, math.pi)


def refusal(series: list[Dataset]) -> str:
    with pytest.raises(UnreadableSeries) as caught:
        split(series)
    return caught.value.code


def plane(turns: tuple[float, float, float], *, mirrored: bool) -> list[float]:
    """Turn the axes; `mirrored` reverses the columns and with them the normal."""
    a, b, c = turns
    around_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    around_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    around_x = np.array([[1, 0, 0], [0, math.cos(c), -math.sin(c)], [0, math.sin(c), math.cos(c)]])
    row, column = (around_z @ around_y @ around_x)[:, :2].T
    return [round(float(x), 6) for x in (*row, *(-column if mirrored else column))]


@settings(max_examples=150, deadline=None)
@given(
    turns=st.tuples(ANGLES, ANGLES, ANGLES),
    mirrored=st.booleans(),
    spacing_mm=st.floats(0.3, 20),
    slices=st.integers(1, 12),
    echoes=st.integers(1, 3),
    by_slice=st.booleans(),
    shuffled=st.randoms(use_true_random=False),
)
def test_volumes_are_found_again_exactly(
    *,
    turns: tuple[float, float, float],
    mirrored: bool,
    spacing_mm: float,
    slices: int,
    echoes: int,
    by_slice: bool,
    shuffled: Any,
) -> None:
    cosines = plane(turns, mirrored=mirrored)
    truth: dict[tuple[int, int], str] = {}
    series = []
    for echo in range(echoes):
        for place, dataset in enumerate(mr_series(slices, rows=2, columns=2, name="random")):
            index = place * echoes + echo if by_slice else echo * slices + place
            renumber(dataset, "random", index)
            dataset.EchoNumbers = echo + 1
            dataset.ImageOrientationPatient = cosines
            dataset.ImagePositionPatient = position(cosines, spacing_mm * place - 30)
            truth[echo, place] = dataset.SOPInstanceUID
            series.append(dataset)
    shuffled.shuffle(series)
    stacks = split(series)
    found = {
        (echo, place): series[image.source].SOPInstanceUID
        for echo, stack in enumerate(stacks)
        for place, image in enumerate(stack.slices)
    }
    assert found == truth
    assert all(stack.warnings == () for stack in stacks)
    if slices > 1:
        assert all(stack.spacing_mm == pytest.approx(spacing_mm, abs=1e-3) for stack in stacks)
    for stack in stacks:
        depths = [float(normal(cosines) @ np.array(s.position)) for s in stack.slices]
        assert depths == sorted(depths)


@settings(max_examples=100, deadline=None)
@given(
    slices=st.integers(4, 12),
    data=st.data(),
    spacing_mm=st.floats(0.5, 10),
    tilt_deg=st.floats(-80, 80),
    enhanced=st.booleans(),
)
def test_a_missing_slice_is_found_anywhere(
    *, slices: int, data: st.DataObject, spacing_mm: float, tilt_deg: float, enhanced: bool
) -> None:
    gone = data.draw(st.integers(1, slices - 2))
    cosines = tilted(tilt_deg)
    if enhanced:
        frames = frame_grid(slices, orientations=[cosines], spacing_mm=spacing_mm)
        series = [enhanced_image([*frames[:gone], *frames[gone + 1 :]], rows=2, columns=2)]
    else:
        series = mr_series(slices, rows=2, columns=2)
        del series[gone]
        for dataset in series:
            dataset.ImageOrientationPatient = cosines
            depth = spacing_mm * (int(dataset.InstanceNumber) - 1)
            dataset.ImagePositionPatient = position(cosines, depth)
    assert refusal(series) == "missing_slices"


@settings(max_examples=60, deadline=None)
@given(
    degrees=st.lists(st.integers(-22, 22), min_size=2, max_size=5, unique=True),
    slices=st.integers(2, 6),
    shuffled=st.randoms(use_true_random=False),
)
def test_slabs_are_found_again(*, degrees: list[int], slices: int, shuffled: Any) -> None:
    # At least 2 degrees between slabs: less is the jitter of one orientation.
    planes = [tilted(2 * angle) for angle in degrees]
    assume(max(degrees) - min(degrees) != 25)  # at the limit, the last digit decides
    series = slabs(planes, slices, rows=2, columns=2)
    shuffled.shuffle(series)
    if max(degrees) - min(degrees) > 25:
        assert refusal(series) == "mixed_orientation"
        return
    stacks = split(series)
    assert [list(stack.orientation or ()) for stack in stacks] == planes
    assert [len(stack.slices) for stack in stacks] == [slices] * len(planes)
