"""Which images form a volume, in what order, and what is refused."""

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_maker import mr_series, set_raw
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import Stack, split
from image_maker import (
    Frame,
    enhanced_image,
    frame_grid,
    mosaic_image,
    slabs,
    tilted,
    united_imaging_image,
    volumes,
)

CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def refused(series: list[Dataset]) -> UnreadableSeries:
    with pytest.raises(UnreadableSeries) as caught:
        split(series)
    return caught.value


def shape(stacks: tuple[Stack, ...]) -> list[int]:
    return [len(stack.slices) for stack in stacks]


def numbers(stack: Stack) -> list[int | None]:
    return [place.number for place in stack.slices]


def without(series: list[Dataset], *left_out: int) -> list[Dataset]:
    """Take slices away; the numbers of the others stay."""
    return [dataset for index, dataset in enumerate(series) if index not in left_out]


def moved(series: list[Dataset], start: int, by_mm: float) -> list[Dataset]:
    """Push the slices from `start` on along z."""
    for dataset in series[start:]:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + by_mm]
    return series


# --- one volume --------------------------------------------------------------------------------


def test_one_volume() -> None:
    series = mr_series(5, spacing_mm=3.5)
    (stack,) = split(series[::-1])
    assert numbers(stack) == [1, 2, 3, 4, 5]
    assert [place.source for place in stack.slices] == [4, 3, 2, 1, 0]
    assert stack.spacing_mm == pytest.approx(3.5)
    assert (stack.labels, stack.warnings) == ((), ())
    first = stack.slices[0]
    assert (first.position, first.spacing_mm) == ((0.0, 0.0, 0.0), (0.75, 0.75))
    assert first.orientation == stack.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def test_headers_without_pixels_are_enough() -> None:
    series = mr_series(3)
    for dataset in series:
        del dataset.PixelData
    assert shape(split(series)) == [3]


def test_without_any_geometry_the_numbers_order() -> None:
    series = mr_series(3, ImagePositionPatient=None, ImageOrientationPatient=None)
    (stack,) = split(series[::-1])
    assert numbers(stack) == [1, 2, 3]
    assert (stack.spacing_mm, stack.orientation) == (None, None)


def test_a_single_slice() -> None:
    (stack,) = split(mr_series(1))
    assert (shape((stack,)), stack.spacing_mm) == ([1], None)


def test_orientations_with_jitter_are_one() -> None:
    series = mr_series(4)
    series[2].ImageOrientationPatient = [0.99999, 0.004, 0, -0.004, 0.99999, 0]
    assert shape(split(series)) == [4]


# --- several images in one place ---------------------------------------------------------------

SEPARATED: list[tuple[str, list[dict[str, Any]]]] = [
    ("EchoNumbers", [{"EchoNumbers": 1}, {"EchoNumbers": 2}]),
    ("EchoTime", [{"EchoTime": 10}, {"EchoTime": 80.5}, {"EchoTime": 120}]),
    ("TemporalPositionIdentifier", [{"TemporalPositionIdentifier": n} for n in range(1, 6)]),
    ("DiffusionBValue", [{"DiffusionBValue": b} for b in (0.0, 500.0, 1000.0)]),
    (
        "DiffusionGradientOrientation",
        [{"DiffusionGradientOrientation": d} for d in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])],
    ),
    ("kind", [{"ImageType": ["ORIGINAL", "PRIMARY", k]} for k in ("IN_PHASE", "WATER")]),
    ("ImageType", [{"ImageType": ["ORIGINAL", "PRIMARY", "M", k]} for k in ("ND", "NORM")]),
    ("AcquisitionNumber", [{"AcquisitionNumber": n} for n in (1, 2)]),
    ("InversionTime", [{"InversionTime": t} for t in (100, 2000)]),
    ("order", [{}, {}, {}]),
]


@pytest.mark.parametrize("by_slice", [False, True])
@pytest.mark.parametrize(("keyword", "labels"), SEPARATED)
def test_volumes_are_separated(
    keyword: str, labels: list[dict[str, Any]], *, by_slice: bool
) -> None:
    # Times that differ from image to image separate nothing.
    series = volumes(labels, 4, by_slice=by_slice)
    for index, dataset in enumerate(series):
        dataset.AcquisitionTime = dataset.ContentTime = f"10160{index % 10}.{index:06d}"
        dataset.TriggerTime = 10 * index
    stacks = split(series[::-1])
    assert shape(stacks) == [4] * len(labels)
    assert [stack.labels[-1][0] for stack in stacks] == [keyword] * len(labels)
    assert len({stack.labels for stack in stacks}) == len(labels)
    step = len(labels) if by_slice else 1
    assert all(
        np.diff(np.array(numbers(stack), dtype=int)).tolist() == [step] * 3 for stack in stacks
    )


def test_two_labels_at_once() -> None:
    labels = [{"EchoNumbers": e, "TemporalPositionIdentifier": t} for t in (1, 2) for e in (1, 2)]
    stacks = split(volumes(labels, 3))
    assert shape(stacks) == [3] * 4
    assert stacks[0].labels == (("EchoNumbers", "1"), ("TemporalPositionIdentifier", "1"))


def test_a_label_that_differs_from_slice_to_slice_separates_nothing() -> None:
    series = mr_series(4)
    for index, dataset in enumerate(series):
        dataset.EchoTime = 30 + 0.01 * index
        dataset.TemporalPositionIdentifier = index + 1
    (stack,) = split(series)
    assert stack.labels == ()


def test_a_time_that_lacks_a_slice_is_not_whole() -> None:
    series = volumes([{"TemporalPositionIdentifier": n} for n in (1, 2, 3)], 4)
    error = refused(without(series, 5))
    assert error.code == "missing_slices"
    assert "TemporalPositionIdentifier 2 has 3 of 4 slices" in str(error)


def test_images_that_nothing_tells_apart_are_refused_by_name() -> None:
    series = volumes([{}, {}], 4)
    for dataset in series:
        dataset.InstanceNumber = None
    error = refused(without(series, 6))
    assert error.code == "ambiguous_geometry"
    assert "2 images lie in one place and nothing tells them apart, 1 in others" in str(error)
    assert sum(dataset.SOPInstanceUID in str(error) for dataset in series) == 2


def test_places_that_differ_in_the_last_digit_are_one() -> None:
    series = volumes([{"EchoNumbers": 1}, {"EchoNumbers": 2}], 3)
    for dataset in series[3:]:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 0.004, y - 0.004, z + 0.009]
    assert shape(split(series)) == [3, 3]


# --- orientations ------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [[0, 10, 25, 45], [-20, 0, 20]])
def test_slabs_along_the_discs_are_stacks(degrees: list[float]) -> None:
    planes = [tilted(angle) for angle in degrees]
    stacks = split(slabs(planes, 3)[::-1])
    assert shape(stacks) == [3] * len(degrees)
    assert [list(stack.orientation or ()) for stack in stacks] == planes
    assert all(stack.spacing_mm == pytest.approx(4, abs=1e-3) for stack in stacks)


def test_reversed_normals_are_the_same_plane() -> None:
    stacks = split(slabs([tilted(0), [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], 3))
    assert shape(stacks) == [3, 3]


LOCALIZERS = [
    ([tilted(0), tilted(90)], 3),
    ([tilted(0), CORONAL, [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]], 1),
    ([tilted(0), tilted(75)], 5),
    ([tilted(0), tilted(60), tilted(30)], 2),
]


@pytest.mark.parametrize(("planes", "slices"), LOCALIZERS)
def test_planes_of_a_localizer_are_refused(planes: list[list[float]], slices: int) -> None:
    series = slabs(planes, slices)
    error = refused(series)
    assert error.code == "mixed_orientation"
    assert series[0].SOPInstanceUID in str(error)
    assert "degrees" in str(error)


def test_a_lone_tilted_image_is_no_slab() -> None:
    error = refused([*mr_series(3), *slabs([tilted(20)], 1)])
    assert error.code == "mixed_orientation"
    assert "single image" in str(error)


def test_images_around_one_axis_are_a_fan() -> None:
    series = slabs([tilted(angle) for angle in range(0, 180, 15)], 1)
    (stack,) = split(series[::-1])
    assert numbers(stack) == list(range(1, 13))
    assert stack.orientation is None
    assert "radial" in stack.warnings[0]


# --- slices that are not there -----------------------------------------------------------------


@pytest.mark.parametrize("left_out", [(2,), (3, 4), (5,)])
def test_a_missing_slice_is_found(left_out: tuple[int, ...]) -> None:
    series = mr_series(8)
    error = refused(without(series, *left_out))
    assert error.code == "missing_slices"
    assert series[left_out[0] - 1].SOPInstanceUID in str(error)
    assert f"{len(left_out)} slice" in str(error)


def test_a_missing_slice_is_found_among_interleaved_numbers() -> None:
    series = mr_series(8)
    for place, dataset in enumerate(series):  # every other slice first
        dataset.InstanceNumber = place // 2 + 1 + 4 * (place % 2)
    assert shape(split(series)) == [8]
    assert refused(without(series, 3)).code == "missing_slices"


def test_a_missing_slice_is_found_without_numbers() -> None:
    series = mr_series(8, InstanceNumber=None)
    assert refused(without(series, 3)).code == "missing_slices"


def test_a_slice_that_is_missing_at_every_time_is_found() -> None:
    series = volumes([{"TemporalPositionIdentifier": n} for n in (1, 2)], 6)
    assert refused(without(series, 3, 9)).code == "missing_slices"


def test_every_other_slice_is_missing() -> None:
    series = mr_series(9, SpacingBetweenSlices=4)
    assert refused(series[::2]).code == "missing_slices"
    assert refused([series[0], series[3]]).code == "missing_slices"
    # The gap between slices written as their distance: the numbers say that none is missing.
    assert shape(split(mr_series(5, SpacingBetweenSlices=1))) == [5]


def test_slabs_with_whole_numbers_are_separated() -> None:
    series = moved(mr_series(8), 5, 8.0)
    stacks = split(series)
    assert shape(stacks) == [5, 3]
    assert [stack.labels for stack in stacks] == [(("slab", "1"),), (("slab", "2"),)]
    assert all(stack.spacing_mm == pytest.approx(4) for stack in stacks)
    assert {stack.warnings for stack in stacks} == {
        ("gap of 12 mm between slices 5 and 6 of 8, usually 4 mm: their numbers leave none out",)
    }


def test_part_of_a_series_is_whole() -> None:
    assert shape(split(mr_series(20)[7:15])) == [8]


def test_irregular_spacing_is_said() -> None:
    series = mr_series(6)
    for dataset, depth in zip(series, (0, 3, 7, 10, 15, 17), strict=True):
        dataset.ImagePositionPatient = [0, 0, depth]
    (stack,) = split(series)
    assert stack.warnings == ("irregular spacing: 2 to 5 mm",)


# --- enhanced objects --------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_frames(*, legacy: bool, shared: bool) -> None:
    frames = frame_grid(4)[::-1]
    (stack,) = split([enhanced_image(frames, legacy=legacy, shared=shared)])
    assert [(place.source, place.frame) for place in stack.slices] == [
        (0, 3),
        (0, 2),
        (0, 1),
        (0, 0),
    ]
    assert numbers(stack) == [1, 2, 3, 4]
    assert stack.slices[0].spacing_mm == (0.75, 0.75)


def test_stacks_and_times_of_one_object() -> None:
    frames = frame_grid(3, times=2, orientations=[tilted(0), tilted(25)])
    stacks = split([enhanced_image(frames)])
    assert shape(stacks) == [3] * 4
    assert [dict(stack.labels)["TemporalPositionIndex"] for stack in stacks] == ["1", "2"] * 2


def test_stacks_of_one_slice_are_known_by_their_id() -> None:
    frames = frame_grid(1, orientations=[tilted(0), tilted(20), tilted(40)])
    assert shape(split([enhanced_image(frames)])) == [1, 1, 1]


def test_orthogonal_stacks_of_one_object_are_a_localizer() -> None:
    frames = frame_grid(3, orientations=[tilted(0), CORONAL])
    assert refused([enhanced_image(frames)]).code == "mixed_orientation"


def test_each_object_has_its_own_volumes() -> None:
    series = [enhanced_image(index=index) for index in range(3)]
    assert shape(split(series)) == [3] * 3


def test_objects_of_one_frame_form_a_volume() -> None:
    series = [enhanced_image([frame], index=i) for i, frame in enumerate(frame_grid(4))]
    assert shape(split(series)) == [4]


@pytest.mark.parametrize(
    ("first", "second", "keyword"),
    [
        ({"echo_ms": 10.0}, {"echo_ms": 20.0}, "EffectiveEchoTime"),
        ({"b_value": 0.0}, {"b_value": 1000.0}, "DiffusionBValue"),
        (
            {"others": {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 0.0}}},
            {"others": {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 9.0}}},
            "NominalCardiacTriggerDelayTime",
        ),
    ],
)
def test_frames_in_one_place(first: dict[str, Any], second: dict[str, Any], keyword: str) -> None:
    frames = [*frame_grid(3, **first), *frame_grid(3, **second)]
    stacks = split([enhanced_image(frames)])
    assert shape(stacks) == [3, 3]
    assert [stack.labels[-1][0] for stack in stacks] == [keyword] * 2


def test_dimensions_tell_frames_apart() -> None:
    dataset = enhanced_image([*frame_grid(3), *frame_grid(3)])
    item = Dataset()
    item.DimensionIndexPointer = 0x20011008  # a private phase number
    dataset.DimensionIndexSequence = Sequence([*dataset.DimensionIndexSequence, item])
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = group.FrameContentSequence[0]
        content.DimensionIndexValues = [*content.DimensionIndexValues, 1 + index // 3]
    stacks = split([dataset])
    assert [stack.labels for stack in stacks] == [(("dimension 4", "1"),), (("dimension 4", "2"),)]


@pytest.mark.parametrize("pointer", [-5, 2**40])
def test_a_dimension_that_points_to_no_tag(pointer: int) -> None:
    dataset = enhanced_image(frame_grid(3))
    item = Dataset()
    item.DimensionIndexPointer = 0x20011008
    item["DimensionIndexPointer"]._value = pointer
    dataset.DimensionIndexSequence = Sequence([*dataset.DimensionIndexSequence, item])
    assert shape(split([dataset])) == [3]


def test_a_missing_frame_is_found() -> None:
    frames = frame_grid(6)
    error = refused([enhanced_image([*frames[:2], *frames[3:]])])
    assert error.code == "missing_slices"
    assert "frame 2 (number 2)" in str(error)


@pytest.mark.parametrize(
    ("code", "frames"),
    [
        ("not_magnitude", [Frame(component="PHASE")]),
        ("not_magnitude", [*frame_grid(2), *frame_grid(2, component="PHASE")]),
        ("not_magnitude", [Frame(frame_type=("ORIGINAL", "PRIMARY", "VELOCITY", "NONE"))]),
        ("mixed_frames", [Frame(), Frame(frame_type=("DERIVED", "PRIMARY", "M", "ADC"))]),
        ("bad_geometry", [Frame(), Frame(position=None)]),
    ],
)
def test_frames_that_are_refused(code: str, frames: list[Frame]) -> None:
    assert refused([enhanced_image(frames)]).code == code


@pytest.mark.parametrize("count", [None, 0, 2, 4, 2**31 - 1])
def test_as_many_frames_as_groups(count: int | None) -> None:
    dataset = enhanced_image()
    dataset.NumberOfFrames = count
    error = refused([dataset])
    assert error.code == "frame_count"
    assert "3 items" in str(error)


# --- mosaics -----------------------------------------------------------------------------------


def tiles(count: int) -> "np.ndarray[tuple[int, int, int], np.dtype[np.int64]]":
    return np.random.default_rng(1).integers(1, 4096, (count, 4, 6))


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_tiles_lie_along_the_normal(orientation: str) -> None:
    (stack,) = split([mosaic_image(tiles(7), orientation=orientation)])
    assert [place.frame for place in stack.slices] == list(range(7))
    assert stack.spacing_mm == pytest.approx(4.0)
    assert stack.slices[0].position == pytest.approx((0, 0, 0), abs=1e-3)


def test_tiles_against_the_normal() -> None:
    dataset = mosaic_image(tiles(5))
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER")
    header = block[0x10].value.replace(b"1.00000000", b"-1.0000000")
    block[0x10].value = header
    (stack,) = split([dataset])
    assert [place.frame for place in stack.slices] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("stated", [-1, None])
@pytest.mark.parametrize("csa", [True, False])
def test_where_the_number_of_tiles_is_known_from(*, stated: int | None, csa: bool) -> None:
    dataset = mosaic_image(tiles(5), csa=csa, stated=stated)
    if stated is None and not csa:
        error = refused([dataset])
        assert (error.code, "no header tells" in str(error)) == ("mosaic", True)
    else:
        (stack,) = split([dataset])
        assert shape((stack,)) == [5]
        assert (stack.spacing_mm is None) != csa  # without the normal, their order is all we know


def test_the_number_of_tiles_in_the_protocol_alone() -> None:
    dataset = mosaic_image(tiles(5), stated=None)
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER")
    block[0x10].value = b"SV10" + bytes(12)
    assert shape(split([dataset])) == [5]


@pytest.mark.parametrize(
    ("stated", "rows", "says"),
    [(4, None, "5 in the CSA header"), (-1, 13, "does not divide"), (-1, 2, "does not divide")],
)
def test_mosaics_that_are_refused(stated: int, rows: int | None, says: str) -> None:
    dataset = mosaic_image(tiles(5), stated=stated)
    dataset.Rows = rows or dataset.Rows
    error = refused([dataset])
    assert error.code == "mosaic"
    assert says in str(error)


def test_several_mosaics_are_several_times() -> None:
    assert shape(split([mosaic_image(tiles(5), index=index) for index in range(4)])) == [5] * 4


def test_tiles_of_united_imaging() -> None:
    (stack,) = split([united_imaging_image(tiles(5))])
    assert stack.slices[4].position == (0.0, 0.0, 16.0)
    assert stack.spacing_mm == pytest.approx(4.0)


def test_an_absurd_number_of_tiles() -> None:
    dataset = united_imaging_image(tiles(5))
    block = dataset.private_block(0x0065, "Image Private Header")
    block[0x50].value = "1000000"
    assert refused([dataset]).code == "mosaic"


# --- headers that break rules ------------------------------------------------------------------


def test_no_headers() -> None:
    assert refused([]).code == "no_pixels"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]),
        ("ImageOrientationPatient", [1, 0, 0]),
        ("ImagePositionPatient", [0, 0, 1e30]),
        ("ImagePositionPatient", [0, 0]),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", [-1, 1]),
        ("ImagePositionPatient", None),
        ("ImageOrientationPatient", None),
    ],
)
def test_geometry_that_is_none(keyword: str, value: list[float] | None) -> None:
    series = mr_series(3)
    if value is None:
        delattr(series[1], keyword)
    else:
        setattr(series[1], keyword, value)
    error = refused(series)
    assert error.code == "bad_geometry"
    assert keyword in str(error)
    assert series[1].SOPInstanceUID in str(error)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_numbers_that_are_none() -> None:
    series = mr_series(3)
    for dataset in series:
        set_raw(dataset, "InstanceNumber", "IS", b"first")
    assert shape(split(series)) == [3]
