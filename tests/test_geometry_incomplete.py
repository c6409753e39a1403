"""Series that are not whole: stopped scans, stations, beating hearts, gaps."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_maker import mr_series
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import Stack, split
from image_maker import Frame, enhanced_image, frame_grid, mosaic_image, renumber, volumes

CONSTANT = {"AcquisitionTime": "102000", "ContentTime": "102100"}


def refused(series: list[Dataset]) -> UnreadableSeries:
    with pytest.raises(UnreadableSeries) as caught:
        split(series)
    return caught.value


def shape(stacks: tuple[Stack, ...]) -> list[int]:
    return [len(stack.slices) for stack in stacks]


def used(stacks: tuple[Stack, ...], series: list[Dataset]) -> set[int]:
    """Give the InstanceNumbers of the images that are in a volume, each of them once."""
    numbers = [int(series[s.source].InstanceNumber) for stack in stacks for s in stack.slices]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


def warnings(stacks: tuple[Stack, ...]) -> str:
    """Give what all volumes are warned of; the same of each."""
    (written,) = {stack.warnings for stack in stacks}
    return "; ".join(written)


def numbered(series: list[Dataset]) -> list[Dataset]:
    """Number images in a row, as a scanner does that numbers what there is."""
    for number, dataset in enumerate(series, 1):
        dataset.InstanceNumber = number
    return series


def without(series: list[Dataset], *left_out: int) -> list[Dataset]:
    return [dataset for dataset in series if int(dataset.InstanceNumber) not in left_out]


# --- stopped scans -----------------------------------------------------------------------------

# What tells four times apart; a callable has another value in each slice.
TIMES: list[tuple[str, dict[str, Any]]] = [
    ("AcquisitionNumber", {"AcquisitionNumber": lambda t, _: t + 1}),
    ("TemporalPositionIdentifier", {"TemporalPositionIdentifier": lambda t, _: t + 1}),
    ("TriggerTime", {"TriggerTime": lambda t, _: 700.0 * t}),
    ("AcquisitionTime", {"AcquisitionTime": lambda t, _: f"1020{10 * t:02d}"}),
    ("ContentTime", {"ContentTime": lambda t, _: f"1020{10 * t:02d}"}),
    ("AcquisitionTime order", {"AcquisitionTime": lambda t, s: f"1020{10 * t + s:02d}.5"}),
    ("DiffusionBValue", {"DiffusionBValue": lambda t, _: 300.0 * t}),
    ("order", {}),
]


def dynamic(
    attributes: dict[str, Any], times: int = 4, slices: int = 6, *, by_slice: bool = False
) -> list[Dataset]:
    series = volumes([CONSTANT] * times, slices, by_slice=by_slice)
    for index, dataset in enumerate(series):
        place, time = divmod(index, times) if by_slice else divmod(index, slices)[::-1]
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value(time, place))
    return series


# Numbers slice by slice tell no times apart.
NUMBERED = [(*label, by_slice) for label in TIMES for by_slice in (False, True)][:-1]


@pytest.mark.parametrize(("keyword", "attributes", "by_slice"), NUMBERED)
def test_whole_volumes_of_a_scan_that_was_stopped(
    keyword: str, attributes: dict[str, Any], *, by_slice: bool
) -> None:
    series = dynamic(attributes, by_slice=by_slice)
    stopped = without(series, *((20, 24) if by_slice else (23, 24)))
    random.Random(1).shuffle(stopped)
    stacks = split(stopped)
    assert shape(stacks) == [6, 6, 6]
    assert [stack.labels[-1][0] for stack in stacks] == [keyword] * 3
    left_out = {4, 8, 12, 16} if by_slice else {19, 20, 21, 22}
    assert used(stacks, stopped) == {int(d.InstanceNumber) for d in stopped} - left_out
    shown = "4, 8, 12, 16" if by_slice else "19 to 22"
    assert f"{keyword} " in warnings(stacks)
    assert f"has 4 of 6 slices (InstanceNumber {shown})" in warnings(stacks)


def test_nothing_tells_times_apart_that_are_numbered_slice_by_slice() -> None:
    error = refused(without(dynamic({}, by_slice=True), 20, 24))
    assert error.code == "ambiguous_geometry"
    assert "4 images lie in one place and nothing tells them apart, 3 in others" in str(error)


@pytest.mark.parametrize("by_slice", [False, True])
@pytest.mark.parametrize(("keyword", "attributes"), TIMES[:-1])
def test_an_image_that_was_lost_is_missed(
    keyword: str, attributes: dict[str, Any], *, by_slice: bool
) -> None:
    error = refused(without(dynamic(attributes, by_slice=by_slice), 9))
    assert error.code == "missing_slices"
    assert f"{keyword} " in str(error)
    assert "has 5 of 6 slices" in str(error)


def test_an_image_of_a_stopped_time_that_was_lost_is_missed() -> None:
    series = dynamic(TIMES[0][1])
    assert refused(without(series, 20, 23, 24)).code == "missing_slices"


def test_a_volume_that_the_scanner_numbered_without_the_image_is_left_out() -> None:
    stacks = split(numbered(without(dynamic(TIMES[0][1]), 9)))
    assert shape(stacks) == [6, 6, 6]
    assert "AcquisitionNumber 2 has 5 of 6 slices (InstanceNumber 7 to 11)" in warnings(stacks)


def test_without_numbers_only_the_last_volume_may_end_early() -> None:
    def unnumbered(*left_out: int) -> list[Dataset]:
        series = without(dynamic(TIMES[0][1]), *left_out)
        for dataset in series:
            dataset.InstanceNumber = None
        return series

    series = unnumbered(23, 24)
    stacks = split(series)
    assert shape(stacks) == [6, 6, 6]
    left_out = [d.SOPInstanceUID for d in series if d.AcquisitionNumber == 4]
    assert all(uid in warnings(stacks) for uid in left_out)
    assert refused(unnumbered(12)).code == "missing_slices"
    assert refused(unnumbered(21)).code == "missing_slices"


def test_a_scan_that_acquires_every_other_slice_first_and_was_stopped() -> None:
    def stopped(*there: int) -> list[Dataset]:
        series = dynamic({"AcquisitionNumber": lambda t, _: t + 1})
        for index, dataset in enumerate(series):
            time, place = divmod(index, 6)
            dataset.AcquisitionTime = f"1020{10 * time + place // 2 + 3 * (place % 2):02d}"
        return [d for i, d in enumerate(series) if i < 18 or i - 18 in there]

    assert shape(split(stopped(0, 1, 2, 4))) == [6, 6, 6]
    assert refused(stopped(0, 1, 2, 5)).code == "missing_slices"


def test_numbers_that_begin_anew_at_each_time() -> None:
    series = dynamic(TIMES[0][1])
    for index, dataset in enumerate(series):
        dataset.InstanceNumber = index % 6 + 1
    assert shape(split(series[:-2])) == [6, 6, 6]
    assert refused([*series[:20], *series[21:]]).code == "missing_slices"


@pytest.mark.parametrize("keyword", ["EchoNumbers", "EchoTime"])
def test_echoes_stop_together(keyword: str) -> None:
    series = volumes([{keyword: 1, **CONSTANT}, {keyword: 2, **CONSTANT}], 6)
    error = refused(without(series, 11, 12))
    assert error.code == "missing_slices"
    assert f"{keyword} 2 has 4 of 6 slices" in str(error)


def test_echoes_of_a_time_that_was_stopped() -> None:
    labels = [{"EchoNumbers": e, "AcquisitionNumber": t} for t in (1, 2, 3) for e in (1, 2)]
    series = without(volumes(labels, 4, by_slice=False), 19, 20, 23, 24)
    stacks = split(series)
    assert shape(stacks) == [4] * 4
    assert all("4 images" not in w or "2 of 4" in w for s in stacks for w in s.warnings)


def test_stopped_before_any_volume_was_whole() -> None:
    series = volumes([{"TemporalPositionIdentifier": n, **CONSTANT} for n in (1, 2, 3)], 6)
    # Each time has other slices than the next: none is whole.
    error = refused(without(series, 1, 2, 9, 10, 17, 18))
    assert error.code == "missing_slices"


def test_frames_of_a_stopped_scan() -> None:
    frames = frame_grid(4, times=3)[:-2]
    stacks = split([enhanced_image(frames)])
    assert shape(stacks) == [4, 4]
    assert "TemporalPositionIndex 3 has 2 of 4 slices (frames 9 to 10 of instance" in warnings(
        stacks
    )


def test_the_last_object_of_a_stopped_scan() -> None:
    series = [enhanced_image(index=i) for i in range(3)] + [enhanced_image(frame_grid(2), index=3)]
    stacks = split(series[::-1])
    assert shape(stacks) == [3, 3, 3]
    assert f"2 of 3 slices (frames 1 to 2 of instance {series[3].SOPInstanceUID})" in warnings(
        stacks
    )
    # A slab of its own is no stopped volume, nor is the first object.
    apart = enhanced_image(frame_grid(2, spacing_mm=5.0), index=3)
    assert shape(split([*series[:3], apart])) == [3, 3, 3, 2]
    first = enhanced_image(frame_grid(2), index=-1)
    assert shape(split([*series[:3], first])) == [2, 3, 3, 3]


def test_the_last_mosaic_of_a_stopped_scan() -> None:
    tiles = np.random.default_rng(1).integers(1, 4096, (5, 4, 6))
    stacks = split([mosaic_image(tiles[: 5 - index // 2], index=index) for index in range(3)])
    assert shape(stacks) == [5, 5]
    assert "the last object has 4 of 5 slices" in warnings(stacks)


# --- stations ----------------------------------------------------------------------------------

STATIONS: list[tuple[str, list[dict[str, Any]]]] = [
    ("AcquisitionNumber", [{"AcquisitionNumber": n} for n in (1, 2, 3)]),
    ("AcquisitionTime", [{"AcquisitionTime": f"10{n}000"} for n in (1, 2, 3)]),
    ("ContentTime", [{"ContentTime": f"10{n}000"} for n in (1, 2, 3)]),
    ("TemporalPositionIdentifier", [{"TemporalPositionIdentifier": n} for n in (1, 2, 3)]),
    ("FrameOfReferenceUID", [{"FrameOfReferenceUID": f"1.2.{n}"} for n in (1, 2, 3)]),
    ("TablePosition", [{"TablePosition": 100.0 * n} for n in (1, 2, 3)]),
    ("order", [{}, {}, {}]),
]


def stations(
    labels: list[dict[str, Any]], slices: int = 8, shift_mm: float = 24.0, axis: int = 2
) -> list[Dataset]:
    series = volumes([CONSTANT | label for label in labels], slices)
    for index, dataset in enumerate(series):
        position = [float(x) for x in dataset.ImagePositionPatient]
        position[axis] += shift_mm * (index // slices)
        dataset.ImagePositionPatient = position
    return series


@pytest.mark.parametrize(("keyword", "labels"), STATIONS)
def test_stations_that_share_places(keyword: str, labels: list[dict[str, Any]]) -> None:
    series = stations(labels)
    stacks = split(series[::-1])
    assert shape(stacks) == [8, 8, 8]
    assert [dict(stack.labels).keys() for stack in stacks] == [{keyword}] * 3
    assert used(stacks, series[::-1]) == set(range(1, 25))
    assert warnings(stacks) == ""


def test_stations_that_share_most_of_their_places() -> None:
    labels = [{"TemporalPositionIdentifier": n} for n in (1, 2, 3)]
    series = stations(labels, shift_mm=8.0)
    assert shape(split(series)) == [8, 8, 8]
    # With numbers that are not there, each of them may be a volume that lost its ends.
    assert refused(without(series, 8, 9)).code == "missing_slices"


@pytest.mark.parametrize("shift_mm", [26.0, 22.0, 25.1])
@pytest.mark.parametrize(("keyword", "labels"), STATIONS)
def test_stations_that_overlap_between_places(
    keyword: str, labels: list[dict[str, Any]], shift_mm: float
) -> None:
    stacks = split(stations(labels, shift_mm=shift_mm))
    assert shape(stacks) == [8, 8, 8]
    assert [dict(stack.labels).keys() for stack in stacks] == [{keyword}] * 3
    assert all(stack.spacing_mm == pytest.approx(4.0) for stack in stacks)


def test_every_other_slice_first_is_no_station() -> None:
    series = mr_series(8)
    for index, dataset in enumerate(series):
        dataset.AcquisitionNumber = 1 + index % 2
    assert shape(split(series)) == [8]
    assert refused(without(series, 5)).code == "missing_slices"


@pytest.mark.parametrize("label", [{}, {"AcquisitionNumber": 1}])
def test_stations_beside_each_other(label: dict[str, Any]) -> None:
    # Sagittal and coronal stations: the same planes, further along the patient.
    series = stations([label] * 2, shift_mm=250.0, axis=1)
    stacks = split(series[::-1])
    assert shape(stacks) == [8, 8]
    assert [dict(stack.labels)["station"] for stack in stacks] == ["1", "2"]
    assert shape(split(without(series, 15, 16))) == [8, 6]
    assert refused(without(series, 11)).code == "missing_slices"


def test_each_station_has_all_weightings() -> None:
    series = []
    for number, b_value in enumerate((0.0, 800.0)):
        part = stations(STATIONS[0][1])
        for index, dataset in enumerate(part):
            renumber(dataset, "whole body", 24 * number + index)
            dataset.DiffusionBValue = b_value
        series += part
    stacks = split(series)
    assert shape(stacks) == [8] * 6
    assert warnings(stacks) == ""


# --- beating hearts ----------------------------------------------------------------------------


def cine(slices: int = 4, phases: int = 10, delay_ms: float = 0.0) -> list[Dataset]:
    """Make slices with as many phases each, of heart beats that differ."""
    series = []
    for place in range(slices):
        for phase in range(phases):
            (dataset,) = volumes([CONSTANT], 1)
            renumber(dataset, "cine", place * phases + phase)
            dataset.ImagePositionPatient = [0.0, 0.0, 8.0 * place]
            dataset.TriggerTime = round(delay_ms + (31 + 0.7 * place) * phase, 1)
            series.append(dataset)
    return series


@pytest.mark.parametrize("delay_ms", [0.0, 120.0])
@pytest.mark.parametrize("phase", [0, 4, 9])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_phase_that_one_slice_lacks(place: int, phase: int, delay_ms: float) -> None:
    series = without(cine(delay_ms=delay_ms), place * 10 + phase + 1)
    lacking = {d.SOPInstanceUID for d in series if (int(d.InstanceNumber) - 1) % 10 == phase}
    numbered(series).reverse()
    stacks = split(series)
    assert shape(stacks) == [4] * 9
    kept = {series[s.source].SOPInstanceUID for stack in stacks for s in stack.slices}
    assert kept == {dataset.SOPInstanceUID for dataset in series} - lacking
    assert f"TriggerTime order {phase + 1} has 3 of 4 slices" in warnings(stacks)


@pytest.mark.parametrize("timed", [True, False])
def test_a_slice_within_which_a_scan_was_stopped(*, timed: bool) -> None:
    series = cine()[:-6]
    for dataset in series:
        if not timed:
            del dataset.TriggerTime
    stacks = split(series[::-1])
    assert shape(stacks) == [3] * 10
    assert warnings(stacks) == (
        "left out: 4 images of the last slice, which has 4 of 10 (InstanceNumber 31 to 34)"
    )
    error = refused(without(series, 15))
    assert error.code == ("missing_slices" if timed else "ambiguous_geometry")


def test_phases_are_in_the_order_of_time_whatever_their_numbers() -> None:
    series = cine()
    for index, dataset in enumerate(series):
        dataset.InstanceNumber = 1 + 7 * index % 40
    stacks = split(series)
    assert shape(stacks) == [4] * 10
    for phase, stack in enumerate(stacks):
        assert [series.index(series[s.source]) % 10 for s in stack.slices] == [phase] * 4
        assert stack.labels == (("order", str(phase + 1)),)


def test_frames_of_a_beating_heart_of_which_one_is_not_there() -> None:
    frames = [
        Frame(
            position=(0.0, 0.0, 8.0 * place),
            place=place + 1,
            time=phase + 1,
            others={
                "CardiacSynchronizationSequence": {
                    "NominalCardiacTriggerDelayTime": (31 + 0.7 * place) * phase
                }
            },
        )
        for place in range(4)
        for phase in range(10)
        if (place, phase) != (2, 4)
    ]
    stacks = split([enhanced_image(frames)])
    assert shape(stacks) == [4] * 9
    assert "TemporalPositionIndex 5 has 3 of 4 slices (frames 5, 15, 34 of" in warnings(stacks)


def test_a_phase_that_was_lost_is_missed() -> None:
    error = refused(without(cine(), 15))
    assert error.code == "missing_slices"
    assert "TriggerTime order 5 has 3 of 4 slices" in str(error)


@pytest.mark.parametrize("keyword", ["NominalCardiacTriggerDelayTime", "TriggerDelay"])
def test_objects_that_hold_one_slice_of_a_beating_heart(keyword: str) -> None:
    series = []
    for place in range(4):
        frames = [
            Frame(
                position=(0.0, 0.0, 8.0 * place),
                time=None,
                others={"CardiacSynchronizationSequence": {keyword: (31.0 + place) * phase}}
                if keyword.startswith("Nominal")
                else {},
            )
            for phase in range(5)
        ]
        series.append(enhanced_image(frames, index=place))
    assert shape(split(series)) == [4] * 5


# --- gaps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_a_gap_in_the_middle_of_a_stack_is_warned_of(times: int) -> None:
    labels = [{"TemporalPositionIdentifier": n + 1} for n in range(times)]
    series = volumes(labels, 9, SpacingBetweenSlices=4)
    gone = [n for n in range(1, 9 * times + 1) if n % 9 == 5]
    assert refused(without(series, *gone)).code == "missing_slices"
    stacks = split(numbered(without(series, *gone)))
    assert shape(stacks) == [4, 4] * times
    assert warnings(stacks) == (
        "gap of 8 mm between slices 4 and 5 of 8, usually 4 mm: their numbers leave none out"
    )


# --- whatever the series -----------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    times=st.integers(2, 4),
    slices=st.integers(3, 6),
    gone=st.sets(st.integers(0, 23), max_size=4),
    keyword=st.sampled_from(["AcquisitionNumber", "TemporalPositionIdentifier", "order"]),
    by_slice=st.booleans(),
    renumbered=st.booleans(),
    shuffled=st.randoms(use_true_random=False),
)
def test_each_image_is_used_once_or_named(
    *,
    times: int,
    slices: int,
    gone: set[int],
    keyword: str,
    by_slice: bool,
    renumbered: bool,
    shuffled: Any,
) -> None:
    attributes = {} if keyword == "order" else {keyword: lambda time, _: time + 1}
    series = dynamic(attributes, times, slices, by_slice=by_slice)
    series = [dataset for index, dataset in enumerate(series) if index not in gone]
    if renumbered:
        numbered(series)
    again = series[:]
    shuffled.shuffle(again)
    assert _outcome(series) == _outcome(again)


def _outcome(series: list[Dataset]) -> Any:
    """Give what is made of a series, whatever the order of its objects."""
    try:
        stacks = split(series)
    except UnreadableSeries as error:
        return error.code, str(error)
    kept = used(stacks, series)
    written = "; ".join(dict.fromkeys(w for stack in stacks for w in stack.warnings))
    left_out = {int(dataset.InstanceNumber) for dataset in series} - kept
    assert _numbers(written) == left_out
    for stack in stacks:
        places = {series[s.source].ImagePositionPatient[2] for s in stack.slices}
        assert len(places) == len(stack.slices)
    return [
        ([int(series[s.source].InstanceNumber) for s in stack.slices], stack.labels, stack.warnings)
        for stack in stacks
    ]


def _numbers(written: str) -> set[int]:
    """Read the numbers that a warning names."""
    numbers: set[int] = set()
    for part in written.split("(InstanceNumber ")[1:]:
        for run in part.split(")")[0].split(", "):
            low, _, high = run.partition(" to ")
            numbers |= set(range(int(low), int(high or low) + 1))
    return numbers
