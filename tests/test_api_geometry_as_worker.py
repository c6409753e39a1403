"""One meaning of geometry: what the worker reads of a header, the API reads too."""

import copy
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicom_maker import ORIENTATIONS, mr_object, mr_series
from halfscan_api.blinded import source
from halfscan_api.blinded.source import SourceSeries, UnusableImages, frames_of
from halfscan_api.enrolment import headers
from halfscan_api.enrolment.headers import plane_of
from halfscan_plugin import geometry, planes, slices
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import split
from halfscan_plugin.planes import plane
from halfscan_plugin.slices import orientation_of, position_of, spacing_of
from image_maker import enhanced_image, frame_grid, slabs, tilted

AXES = {"sagittal": "sagittal", "axial": "transverse"}


def api_frames(series: Sequence[Dataset]) -> list[source.Frame]:
    return frames_of([dataset.to_json_dict() for dataset in series])


def with_orientation(cosines: Sequence[float]) -> Dataset:
    dataset = mr_object()
    dataset.ImageOrientationPatient = [round(float(value), 6) for value in cosines]
    return dataset


def turned(cosines: Sequence[float], about: int, degrees: float) -> list[float]:
    """Turn both directions about one axis of the patient."""
    angle = math.radians(degrees)
    turn = np.eye(3)
    first, second = (axis for axis in range(3) if axis != about)
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
    return [*(turn @ cosines[:3]), *(turn @ cosines[3:])]


def test_the_limits_are_the_same() -> None:
    assert headers.NAMED_FROM == planes.NAMED_FROM
    assert source.SKEW == slices.SKEW
    assert source.FARTHEST_MM == slices.FARTHEST_MM
    assert source.SAME_ORIENTATION == geometry.SAME_ORIENTATION


@pytest.mark.parametrize("about", [0, 1, 2])
@pytest.mark.parametrize("start", ["axial", "sagittal"])
def test_a_tilted_plane_has_one_name(start: str, about: int) -> None:
    names = {}
    for degrees in np.arange(0, 90.5, 0.5):
        dataset = with_orientation(turned(ORIENTATIONS[start], about, float(degrees)))
        [frame] = api_frames([dataset])
        name = plane_of(frame)
        names[degrees] = "oblique" if name is None else name.value
        assert names[degrees] == plane(dataset), degrees
    # 36.87 degrees is the limit; about its own normal a plane turns in itself.
    own_normal = (start, about) in {("axial", 2), ("sagittal", 0)}
    assert names[36.5] == AXES[start]
    assert names[37.0] == (AXES[start] if own_normal else "oblique")
    assert names[53.0] == (AXES[start] if own_normal else "oblique")


def test_a_slab_along_a_disc_is_transverse() -> None:
    """Tilted by 31 to 36 degrees: reconstructed, and enrolled."""
    for degrees in range(31, 37):
        [frame] = api_frames([with_orientation(tilted(degrees))])
        assert plane_of(frame) == "transverse"


def is_taken(dataset: Dataset) -> tuple[bool, bool]:
    """Tell whether the worker takes the directions of an object, and whether the API does."""
    taken = []
    for read, refusal in (
        (lambda: orientation_of(dataset, "x"), UnreadableSeries),
        (lambda: api_frames([dataset]), UnusableImages),
    ):
        try:
            read()
            taken.append(True)
        except refusal:
            taken.append(False)
    return taken[0], taken[1]


@pytest.mark.parametrize("start", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("half", [slice(0, 3), slice(3, 6)], ids=["rows", "columns"])
def test_a_direction_may_be_a_little_long_or_short(start: str, half: slice) -> None:
    taken = {}
    for length in np.arange(0.9, 1.1005, 0.002):
        cosines = np.array(ORIENTATIONS[start])
        cosines[half] *= length
        dataset = with_orientation(cosines.tolist())
        worker, api = is_taken(dataset)
        assert worker == api, length
        taken[round(float(length), 3)] = api
        if api:
            [frame] = api_frames([dataset])
            for direction in (frame.row_direction, frame.column_direction, frame.normal):
                assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-12)
            assert frame.row_direction @ frame.column_direction == pytest.approx(0, abs=1e-12)
            exact = api_frames([with_orientation(ORIENTATIONS[start])])[0]
            np.testing.assert_allclose(frame.normal, exact.normal, atol=1e-5)
            np.testing.assert_allclose(frame.row_direction, exact.row_direction, atol=1e-5)
    assert taken[0.998]
    assert taken[1.002]
    assert not taken[0.9]
    assert not taken[1.1]


def test_directions_may_be_a_little_off_a_right_angle() -> None:
    for cosine in np.arange(-0.1, 0.1005, 0.005):
        across = [cosine, math.sqrt(1 - cosine**2), 0]
        dataset = with_orientation([1, 0, 0, *across])
        worker, api = is_taken(dataset)
        assert worker == api == (abs(round(float(cosine), 4)) <= 0.05), cosine


@pytest.mark.parametrize(
    "cosines", [[0.0] * 6, [1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, -1, 0]]
)
def test_what_spans_no_plane_is_refused(cosines: list[float]) -> None:
    worker, api = is_taken(with_orientation(cosines))
    assert worker == api == (cosines[4] == -1)


# --- series -------------------------------------------------------------------------------------


def discs() -> list[Dataset]:
    """Slabs that cross each other: by their places alone they would interleave."""
    series = slabs([tilted(degrees) for degrees in (-20, 0, 20)], 4)
    for number, dataset in enumerate(series):
        dataset.InstanceNumber = number + 1
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) - 30 * (number // 4)]
    return series


def backwards() -> list[Dataset]:
    series = mr_series(5, name="backwards")
    for number, dataset in enumerate(series):
        dataset.InstanceNumber = 5 - number
    return series


def jittering() -> list[Dataset]:
    """Cosines that a scanner wrote with some noise, 0.2 % off unit length."""
    series = mr_series(5, name="jitter", orientation="sagittal")
    for number, dataset in enumerate(series):
        cosines = np.array(ORIENTATIONS["sagittal"])
        cosines[1] *= 1.002 + 0.0005 * number
        dataset.ImageOrientationPatient = list(cosines)
    return series


SERIES: dict[str, list[Dataset]] = {
    "classic": mr_series(5, orientation="oblique"),
    "backwards": backwards(),
    "discs": discs(),
    "jittering": jittering(),
    "enhanced": [enhanced_image(name="one")],
    "enhanced, two stacks": [
        enhanced_image(frame_grid(4, orientations=[tilted(0), tilted(15)]), name="two")
    ],
}


@pytest.mark.parametrize("name", SERIES)
def test_slices_come_in_one_order_and_place(name: str) -> None:
    series = copy.deepcopy(SERIES[name])
    random.Random(3).shuffle(series)
    stacks = split(series)
    expected = [
        (str(series[place.source].SOPInstanceUID), place.frame + 1, place)
        for stack in stacks
        for place in stack.slices
    ]
    frames = api_frames(series)
    assert [(frame.sop_instance_uid, frame.number) for frame in frames] == [
        (uid, number) for uid, number, _ in expected
    ]
    for frame, (_, _, place) in zip(frames, expected, strict=True):
        assert tuple(frame.position) == place.position
        assert frame.spacing_mm == place.spacing_mm
        assert place.orientation is not None
        cosines = [*frame.row_direction, *frame.column_direction]
        np.testing.assert_allclose(cosines, place.orientation, atol=0.01)
    spacings = [stack.spacing_mm for stack in stacks]
    given: Any = None  # an archive is not asked
    shown = SourceSeries(given, given, tuple(frames), {}).spacing_between_mm
    assert shown == pytest.approx(np.median([one for one in spacings if one]), abs=1e-3)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", [0, 0, 99_999]),
        ("ImagePositionPatient", [0, 0, 100_001]),
        ("PixelSpacing", [0.5, 0.25]),
        ("PixelSpacing", [0.5, 0]),
        ("PixelSpacing", [-0.5, 0.5]),
        ("PixelSpacing", [0.5]),
    ],
)
def test_places_and_spacings_have_the_same_bounds(keyword: str, value: list[float]) -> None:
    dataset = mr_object(**{keyword: value})
    try:
        position_of(dataset, "x")
        spacing_of(dataset, "x")
    except UnreadableSeries:
        with pytest.raises(UnusableImages):
            api_frames([dataset])
    else:
        [frame] = api_frames([dataset])
        written = {"ImagePositionPatient": [*frame.position], "PixelSpacing": [*frame.spacing_mm]}
        assert written[keyword] == value


@pytest.mark.parametrize("number", ["", "1.0", "first"])
def test_a_number_that_is_none_hides_no_image(number: str) -> None:
    series = mr_series(3)
    objects = [dataset.to_json_dict() for dataset in series]
    objects[1]["00200013"] = {"vr": "IS", "Value": [number]}
    objects[2]["00280008"] = {"vr": "IS", "Value": [number]}
    assert len(frames_of(objects)) == 3


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("HighBit", None),
        ("HighBit", 11),
        ("RescaleSlope", 0),
        ("RescaleSlope", None),
        ("RescaleIntercept", ""),
        ("SliceThickness", None),
        ("FrameOfReferenceUID", None),
        ("PatientPosition", None),
        ("BitsAllocated", 32),
    ],
)
def test_what_the_worker_does_without_hides_no_image(keyword: str, value: object) -> None:
    dataset = mr_object(**{keyword: value})
    [frame] = api_frames([dataset])
    assert (frame.slope, frame.intercept, frame.bits_stored, frame.high_bit) == (1, 0, 12, 11)


def test_a_thickness_with_a_comma_hides_no_image() -> None:
    header = mr_object().to_json_dict()
    header["00180050"] = {"vr": "DS", "Value": ["3,5"]}
    [frame] = frames_of([header])
    assert frame.thickness_mm is None
