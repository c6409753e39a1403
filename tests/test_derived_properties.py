"""Whatever a scanner writes: geometry bit for bit, pixels as computed, nothing else touched."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from derived_support import MADE_BY, changes, unchanged
from dicom_maker import mr_series, reread
from halfscan_plugin.carry import DROPPED, MAPPED, WRITTEN
from halfscan_plugin.derived import derive
from halfscan_plugin.multiframe import LEFT_TO_THE_SOURCE
from halfscan_plugin.volume import read_volume
from image_maker import Frame, enhanced_image
from test_derived_frames import OWN

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
BITS = [(8, 8), (16, 8), (16, 12), (16, 16), (32, 20), (32, 32)]
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
ANGLES = st.floats(0, 2 * math.pi)


def decimal(value: float) -> str:
    """Write a number as a DS can hold it: 16 characters (PS3.5 section 6.2)."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)


def rotation(a: float, b: float, c: float) -> npt.NDArray[np.float64]:
    """Give an orthonormal matrix from three angles."""
    ca, sa, cb, sb, cc, sc = (f(x) for x in (a, b, c) for f in (math.cos, math.sin))
    first = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    second = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    third = np.array([[1, 0, 0], [0, cc, -sc], [0, sc, cc]])
    return np.asarray(first @ second @ third)


@st.composite
def geometries(draw: Any) -> dict[str, Any]:
    """Draw an oblique plane anywhere, with any spacing, in the digits that a DS allows."""
    matrix = rotation(draw(ANGLES), draw(ANGLES), draw(ANGLES))
    return {
        "orientation": [decimal(x) for x in matrix.T[:2].ravel()],
        "normal": matrix[:, 2],
        "corner": np.array([draw(st.floats(-400, 400)) for _ in range(3)]),
        "PixelSpacing": [decimal(draw(st.floats(0.05, 5))) for _ in range(2)],
        "SliceThickness": decimal(draw(st.floats(0.1, 20))),
        "pitch": draw(st.floats(0.2, 20)),
    }


def place(geometry: dict[str, Any], index: int) -> list[str]:
    position = geometry["corner"] + geometry["normal"] * geometry["pitch"] * index
    return [decimal(float(x)) for x in position]


def raw(dataset: Dataset, keyword: str) -> bytes:
    """Give the bytes of a value as they lie in the file."""
    element = dataset.get_item(Tag(keyword))
    assert element is not None
    value: bytes = element.value
    return value.rstrip(b" \0")


def results(draw: Any, volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Draw what a network might give, on the scale of its source."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = max(float(volume.max()), 1.0)
    noise = rng.normal(0, draw(st.sampled_from([0, 0.01, 0.3])) * top, volume.shape)
    return np.clip(volume + noise, 0, None).astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    geometry=geometries(),
    size=SIZES,
    bits=st.sampled_from(BITS),
    signed=st.booleans(),
    slope=st.one_of(st.none(), st.floats(1e-3, 1e3)),
    intercept=st.one_of(st.none(), st.floats(0, 1e4)),
)
def test_classic_objects(
    *,
    data: Any,
    geometry: dict[str, Any],
    size: tuple[int, int, int],
    bits: tuple[int, int],
    signed: bool,
    slope: float | None,
    intercept: float | None,
) -> None:
    slices, rows, columns = size
    series = mr_series(
        slices,
        rows=rows,
        columns=columns,
        bits=bits,
        signed=signed,
        seed=data.draw(st.integers(0, 9)),
        RescaleSlope=None if slope is None else decimal(slope),
        RescaleIntercept=None if intercept is None else decimal(intercept),
        WindowCenter="800.5",
        WindowWidth="1600",
        SliceThickness=geometry["SliceThickness"],
    )
    for index, dataset in enumerate(series):
        dataset.ImagePositionPatient = place(geometry, index)
        dataset.ImageOrientationPatient = geometry["orientation"]
        dataset.PixelSpacing = geometry["PixelSpacing"]
    source = read_volume([reread(dataset) for dataset in series])
    result = results(data.draw, source.volume)
    derived = derive(source, result, MADE_BY, series_number=1)
    clipped = 0
    for index, (kept, made) in enumerate(zip(source.sources, derived.datasets, strict=True)):
        original = next(d for d in series if d.SOPInstanceUID == kept.SOPInstanceUID)
        before, after = reread(original), reread(made)
        for keyword in GEOMETRY:
            assert raw(after, keyword) == raw(before, keyword)
        assert {c for c in changes(before, after) if not OWN.fullmatch(c)} <= {"PixelData"}
        change = result[index] - source.volume[index].astype(np.float64)
        wanted, beyond = stored(
            before, before.pixel_array, change, float(before.get("RescaleSlope", 1))
        )
        clipped += beyond
        np.testing.assert_array_equal(after.pixel_array, wanted)
        assert after.pixel_array.dtype == before.pixel_array.dtype
    assert derived.clipped_pixels == clipped


def stored(
    header: Dataset, pixels: npt.NDArray[Any], change: npt.NDArray[np.float64], slope: float
) -> tuple[npt.NDArray[np.int64], int]:
    """Compute what a changed image must store, and how many of its pixels are clipped."""
    wanted = pixels + np.rint(change / slope)
    highest = 2 ** (header.BitsStored - header.PixelRepresentation) - 1
    lowest = -highest - 1 if header.PixelRepresentation else 0
    within = np.clip(wanted, lowest, highest)
    return within.astype(np.int64), int(np.count_nonzero(within != wanted))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    geometry=geometries(),
    size=SIZES,
    bits=st.sampled_from([(8, 8), (16, 12), (16, 16)]),
    signed=st.booleans(),
    slope=st.floats(1e-3, 1e3),
    intercept=st.floats(0, 1e4),
    legacy=st.booleans(),
    shared=st.booleans(),
)
def test_enhanced_objects(
    *,
    data: Any,
    geometry: dict[str, Any],
    size: tuple[int, int, int],
    bits: tuple[int, int],
    signed: bool,
    slope: float,
    intercept: float,
    legacy: bool,
    shared: bool,
) -> None:
    slices, rows, columns = size
    slope = float(decimal(slope))
    order = data.draw(st.permutations(range(slices)))
    frames = [
        Frame(
            position=place(geometry, index),  # type: ignore[arg-type]
            orientation=geometry["orientation"],
            place=index + 1,
            slope=slope,
            intercept=float(decimal(intercept)),
        )
        for index in order
    ]
    before = reread(
        enhanced_image(
            frames, rows=rows, columns=columns, bits=bits, signed=signed, legacy=legacy,
            shared=shared, seed=data.draw(st.integers(0, 9)),
        )
    )  # fmt: skip
    source = read_volume([before])
    result = results(data.draw, source.volume)
    derived = derive(source, result, MADE_BY, series_number=1)
    (after,) = map(reread, derived.datasets)
    others = {path for path in changes(before, after) if not OWN.fullmatch(path)}
    assert others <= {"PixelData", "MRAcquisitionType"}
    clipped = 0
    for index, found in enumerate(source.slices):
        frame = before.pixel_array.reshape(-1, rows, columns)[found.frame]
        made = after.pixel_array.reshape(-1, rows, columns)[found.frame]
        wanted, beyond = stored(
            before, frame, result[index] - source.volume[index].astype(np.float64), slope
        )
        clipped += beyond
        np.testing.assert_array_equal(made, wanted)
    assert derived.clipped_pixels == clipped


# Control characters are no part of a description's one line: they become spaces.
TEXT = st.text(
    st.characters(max_codepoint=0x24F, categories=("L", "N", "P", "S"), exclude_characters="\\"),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    charset=st.sampled_from(["ISO_IR 192", "ISO_IR 100", "ISO_IR 101", None]),
    description=TEXT,
    name=TEXT,
    wanted=st.one_of(st.none(), TEXT),
    warnings=st.lists(TEXT, max_size=30),
)
def test_every_text_can_be_written(
    *, charset: str | None, description: str, name: str, wanted: str | None, warnings: list[str]
) -> None:
    codec = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", "ISO_IR 101": "iso8859-2"}.get(
        charset or "", "ascii"
    )
    name, description = (
        t.encode(codec, "ignore").decode(codec).strip() for t in (name, description)
    )
    (before, _) = mr_series(
        2, SpecificCharacterSet=charset, SeriesDescription=description, ImageComments=name
    )
    (after,) = map(
        reread, unchanged([reread(before)], description=wanted, warnings=warnings).datasets
    )
    assert after.get("SpecificCharacterSet") == charset
    assert after.ImageComments == before.ImageComments
    assert len(after.SeriesDescription) <= 64
    assert 0 < len(after.DerivationDescription) <= 1024
    after.SeriesDescription.encode(codec)
    after.DerivationDescription.encode(codec)
    if wanted is None and description:
        assert after.SeriesDescription == f"{description} HS"


def test_the_tables_hold_keywords() -> None:
    for keyword in (*DROPPED, *WRITTEN, *MAPPED, *LEFT_TO_THE_SOURCE):
        assert tag_for_keyword(keyword) is not None, keyword
