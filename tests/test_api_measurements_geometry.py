"""Regions on an image: which pixels count, against other ways to say it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from matplotlib.path import Path as Line

from halfscan_api.blinded.source import Frame
from halfscan_api.measurements.geometry import (
    Coordinates,
    Geometry,
    Kind,
    RegionValues,
    UnusableGeometry,
    in_plane,
    measure,
    to_patient,
)

IMAGE, PATIENT = Coordinates.IMAGE, Coordinates.PATIENT


def make_frame(
    rows: int = 20,
    columns: int = 30,
    spacing: tuple[float, float] = (1.0, 1.0),
    turn: float = 0.0,
    **changes: Any,
) -> Frame:
    """An image whose rows and columns are turned about two axes."""
    cosine, sine = math.cos(turn), math.sin(turn)
    row = np.array([cosine, sine, 0.0])
    column = np.array([-sine * cosine, cosine * cosine, sine])
    given = {
        "sop_instance_uid": "1.2.3",
        "number": 1,
        "of": 1,
        "rows": rows,
        "columns": columns,
        "position": np.array([10.0, -20.0, 30.0]),
        "row_direction": row,
        "column_direction": column,
        "spacing_mm": spacing,
        "thickness_mm": 4.0,
        "patient_position": "HFS",
        "frame_of_reference_uid": "1.2",
        "photometric": "MONOCHROME2",
        "bits_allocated": 16,
        "bits_stored": 12,
        "high_bit": 11,
        "signed": False,
        "slope": 1.0,
        "intercept": 0.0,
    }
    return Frame(**{**given, **changes})


def values_of(frame: Frame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A different value in every pixel: which pixels counted can be read off the mean."""
    return np.arange(frame.rows * frame.columns, dtype=float).reshape(frame.rows, frame.columns)


def measured(
    kind: Kind, points: Sequence[Sequence[float]], frame: Frame, coordinates: Coordinates = IMAGE
) -> RegionValues:
    return measure(Geometry(kind, coordinates, points), frame, values_of(frame))


def rectangle(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_the_first_pixel_has_its_centre_at_one_half() -> None:
    frame = make_frame()
    found = measured(Kind.POLYGON, rectangle(0, 0, 2, 1), frame)
    assert (found.n_pixels, found.mean, found.area_mm2) == (2, 0.5, 2.0)
    corner = to_patient(np.array([[0.5, 0.5]]), frame)
    np.testing.assert_allclose(corner, [frame.position])


def test_a_centre_counts_and_the_share_of_a_pixel_does_not() -> None:
    frame = make_frame()
    found = measured(Kind.POLYGON, rectangle(0.6, 0.4, 3.4, 1.4), frame)
    # Centres at 1.5 and 2.5 of the first row alone.
    assert (found.n_pixels, found.mean) == (2, 1.5)
    assert found.area_mm2 == pytest.approx(2.8)
    assert found.sd == pytest.approx(np.std([1, 2], ddof=1))


def test_an_ellipse_holds_the_centres_on_its_line() -> None:
    frame = make_frame()
    found = measured(Kind.CIRCLE, [[5.5, 5.5], [6.5, 5.5]], frame)
    assert found.n_pixels == 5  # the middle and its four neighbours
    assert found.area_mm2 == pytest.approx(math.pi)


@given(
    centre=st.tuples(st.floats(8, 22), st.floats(7, 13)),
    axes=st.tuples(st.floats(1.1, 6), st.floats(1.1, 6)),
    angle=st.floats(0, math.pi),
    spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    turn=st.floats(-3, 3),
)
def test_an_ellipse_against_its_equation(
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float,
    spacing: tuple[float, float],
    turn: float,
) -> None:
    """In the plane [mm], turned by an angle; the same from coordinates in the patient."""
    frame = make_frame(60, 60, spacing, turn)
    height, width = spacing
    middle = np.array([30 * width, 30 * height]) + np.array(centre) * 0.01
    long, short = np.array(axes) * max(spacing)
    first = long * np.array([math.cos(angle), math.sin(angle)])
    second = short * np.array([-math.sin(angle), math.cos(angle)])
    ends = np.array([middle - first, middle + first, middle - second, middle + second])
    x, y = np.meshgrid((np.arange(60) + 0.5) * width, (np.arange(60) + 0.5) * height)
    u = (x - middle[0]) * math.cos(angle) + (y - middle[1]) * math.sin(angle)
    v = -(x - middle[0]) * math.sin(angle) + (y - middle[1]) * math.cos(angle)
    share = (u / long) ** 2 + (v / short) ** 2
    assume(np.abs(share - 1).min() > 1e-6)
    inside = share <= 1
    assume(inside.sum() >= 2)
    size = np.array([60 * width, 60 * height])
    reach = np.hypot(first, second)
    assume(((middle - reach > 0) & (middle + reach < size)).all())
    in_image = measured(Kind.ELLIPSE, (ends / [width, height]).tolist(), frame)
    assert in_image.n_pixels == inside.sum()
    assert in_image.mean == pytest.approx(values_of(frame)[inside].mean())
    assert in_image.sd == pytest.approx(values_of(frame)[inside].std(ddof=1))
    assert in_image.area_mm2 == pytest.approx(math.pi * long * short)
    in_patient = measured(Kind.ELLIPSE, to_patient(ends, frame).tolist(), frame, PATIENT)
    assert in_patient.n_pixels == in_image.n_pixels
    assert in_patient.mean == in_image.mean
    assert in_patient.area_mm2 == pytest.approx(in_image.area_mm2)
    np.testing.assert_allclose(in_patient.points_mm, in_image.points_mm, atol=2e-4)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=3, max_size=9))
@example([(0.0, 0.0), (0.0, 1.0), (2.0, 5e-324)])
def test_a_polygon_against_another_program(corners: list[tuple[float, float]]) -> None:
    """Matplotlib's, wherever no centre lies on the line."""
    frame = make_frame()
    points = np.array(corners)
    x, y = np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5)
    grid = np.column_stack([x.ravel(), y.ravel()])
    line = Line(np.vstack([points, points[:1]]), closed=True)
    surely = line.contains_points(grid, radius=1e-7)
    assume((surely == line.contains_points(grid, radius=-1e-7)).all())
    try:
        found = measured(Kind.POLYGON, points.tolist(), frame)
    except UnusableGeometry as error:
        known = ("cross itself", "must have an area", "must hold at least 2 pixel centres")
        assert any(text in str(error) for text in known)  # noqa: PT017 - either way is right
    else:
        assert found.n_pixels == surely.sum()
        assert found.mean == pytest.approx(values_of(frame).ravel()[surely].mean())


@pytest.mark.parametrize("turn", [0.0, 0.4, -2.0])
def test_coordinates_go_there_and_back(turn: float) -> None:
    frame = make_frame(spacing=(0.7, 1.3), turn=turn)
    points = np.array([[1.0, 2.0], [7.5, 3.25], [20.0, 11.0]])
    plane = in_plane(Geometry(Kind.POLYGON, IMAGE, points.tolist()), frame)
    np.testing.assert_allclose(plane, points * [1.3, 0.7])
    patient = to_patient(plane, frame)
    back = in_plane(Geometry(Kind.POLYGON, PATIENT, patient.tolist()), frame)
    np.testing.assert_allclose(back, plane, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "points", "rule"),
    [
        # The nerve roots of the reference study: 1.1 mm2 on pixels of 1.6 mm.
        (Kind.CIRCLE, [[5.0, 5.0], [5.37, 5.0]], r"at least 2 pixel centres, got 0: its area is"),
        (Kind.CIRCLE, [[5.5, 5.5], [5.9, 5.5]], "at least 2 pixel centres, got 1"),
        (Kind.CIRCLE, [[5.0, 5.0], [5.0, 5.0]], "must have an area"),
        (Kind.POLYGON, [[1, 1], [5, 5], [9, 9]], "must have an area"),
        (Kind.POLYGON, [[1, 1], [9, 9], [9, 1], [1, 9]], "must not cross itself"),
        (Kind.CIRCLE, [[1.0, 5.0], [3.0, 5.0]], r"must lie on the image, whose sides are 48 x 32"),
        (Kind.POLYGON, [[1, 1], [40, 1], [5, 9]], "must lie on the image"),
        (Kind.ELLIPSE, [[2, 5], [8, 5], [6, 4], [6, 6]], "must cross in their middle"),
    ],
)
def test_what_cannot_be_measured_is_said(kind: Kind, points: list[list[float]], rule: str) -> None:
    with pytest.raises(UnusableGeometry, match=rule):
        measured(kind, points, make_frame(spacing=(1.6, 1.6)))


def test_a_region_must_lie_on_the_image_it_names() -> None:
    frame = make_frame(turn=0.3)
    plane = np.array([[5.0, 5.0], [8.0, 5.0]])
    off = to_patient(plane, frame) + 1.9 * frame.normal
    assert measured(Kind.CIRCLE, off.tolist(), frame, PATIENT).n_pixels > 2
    with pytest.raises(UnusableGeometry, match=r"within 2.00 mm of the image, got 2.10 mm"):
        measured(Kind.CIRCLE, (off + 0.2 * frame.normal).tolist(), frame, PATIENT)
