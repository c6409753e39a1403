"""Pixels of enhanced objects, mosaics, MONOCHROME1 and compressed objects: there and back."""

import logging
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from compressed import LOSSLESS, LOSSY, NEAR, compressed, frames_of
from dicom_maker import Pixels, encoded, mr_series, reread
from halfscan_plugin.codestream import announced_size
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.files import parse
from halfscan_plugin.volume import SeriesVolume, read_volume, stored_object, stored_values
from image_maker import (
    Frame,
    enhanced_image,
    frame_grid,
    montage,
    mosaic_image,
    tilted,
    united_imaging_image,
    volumes,
)


def refused(series: list[Dataset]) -> UnreadableSeries:
    with pytest.raises(UnreadableSeries) as caught:
        read_volume(series)
    return caught.value


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 4096, shape)


def assert_the_way_back(source: SeriesVolume) -> None:
    """Store the unchanged volume: bit for bit what the objects hold."""
    for index in range(len(source.slices)):
        pixels, clipped = stored_values(source, source.volume, index)
        assert clipped == 0
        np.testing.assert_array_equal(pixels, source.stored[index])
    for index, dataset in enumerate(source.sources):
        pixels, clipped = stored_object(source, source.volume, index)
        assert clipped == 0
        np.testing.assert_array_equal(pixels, dataset.pixel_array.reshape(pixels.shape))


# --- enhanced ----------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_frames_are_rescaled_each_by_its_own(*, legacy: bool, shared: bool) -> None:
    frames = [Frame([0, 0, 4 * n], place=n + 1, slope=1 + n, intercept=10 * n) for n in range(3)]
    pixels = noise(3, 5, 4)
    dataset = reread(enhanced_image(frames, pixels=pixels, legacy=legacy, shared=shared))
    source = read_volume([dataset])
    scale = np.array([1, 2, 3]).reshape(3, 1, 1)
    np.testing.assert_allclose(source.volume, pixels * scale + 10 * (scale - 1))
    assert source.slopes.tolist() == [1, 2, 3]
    assert_the_way_back(source)


def test_frames_without_a_rescale_are_as_stored() -> None:
    source = read_volume([enhanced_image(frame_grid(3, slope=None))])
    np.testing.assert_array_equal(source.volume, source.stored)


def test_frames_in_any_order_become_volumes() -> None:
    frames = frame_grid(3, times=2, orientations=[tilted(0), tilted(20)])
    order = np.random.default_rng(3).permutation(len(frames))
    pixels = noise(12, 4, 5)
    dataset = enhanced_image([frames[i] for i in order], pixels=pixels[order])
    source = read_volume([reread(dataset)])
    assert [len(stack.slices) for stack in source.stacks] == [3] * 4
    by_stack = {}
    for index, place in enumerate(source.slices):
        by_stack[order[place.frame]] = source.volume[index]
    for number, image in by_stack.items():
        np.testing.assert_array_equal(image, pixels[number])
    assert_the_way_back(source)


def test_a_change_comes_back_in_its_frame() -> None:
    dataset = enhanced_image(frame_grid(3)[::-1], pixels=np.full((3, 4, 5), 100))
    source = read_volume([dataset])
    result = source.volume.copy()
    result[0] += 7  # the first slice is the last frame
    pixels, _ = stored_object(source, result, 0)
    assert [int(frame.max()) for frame in pixels] == [100, 100, 107]


def test_several_objects() -> None:
    series = [enhanced_image(index=index, seed=index) for index in range(3)]
    source = read_volume([reread(dataset) for dataset in series[::-1]])
    np.testing.assert_array_equal(source.volume, np.concatenate([d.pixel_array for d in series]))
    assert [place.source for place in source.slices] == [0] * 3 + [1] * 3 + [2] * 3
    assert_the_way_back(source)


# --- mosaics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 11])
def test_mosaics_are_taken_apart_and_put_together(count: int) -> None:
    pixels = [noise(count, 4, 6, seed=n) + 1 for n in range(2)]
    series = [mosaic_image(p, index=n, bits=(16, 16)) for n, p in enumerate(pixels)]
    source = read_volume([reread(dataset) for dataset in series])
    np.testing.assert_array_equal(source.volume, np.concatenate(pixels))
    assert_the_way_back(source)
    result = source.volume + 5
    back, _ = stored_object(source, result, 1)
    across = int(np.ceil(np.sqrt(count)))
    # What lies behind the last tile stays empty.
    np.testing.assert_array_equal(back, montage(pixels[1] + 5, across, across))


def test_united_imaging() -> None:
    pixels = noise(5, 4, 6)
    source = read_volume([reread(united_imaging_image(pixels))])
    np.testing.assert_array_equal(source.volume, pixels)
    assert_the_way_back(source)


def test_a_tile_too_many_is_refused() -> None:
    dataset = mosaic_image(noise(6, 4, 6) + 1, csa=False, stated=5)
    error = refused([dataset])
    assert (error.code, "tile 6" in str(error)) == ("mosaic", True)


def test_tiles_of_different_size_are_refused() -> None:
    series = [mosaic_image(noise(5, 4, 6)), mosaic_image(noise(5, 6, 6), index=1)]
    assert refused(series).code == "mixed_sizes"


# --- several volumes ---------------------------------------------------------------------------


def test_volumes_follow_one_another() -> None:
    series = volumes([{"EchoNumbers": 1}, {"EchoNumbers": 2, "RescaleSlope": 3}], 3, by_slice=True)
    source = read_volume([reread(dataset) for dataset in series])
    assert [d.InstanceNumber for d in source.sources] == [1, 3, 5, 2, 4, 6]
    assert source.slopes.tolist() == [1, 1, 1, 3, 3, 3]
    assert_the_way_back(source)


def test_two_series_are_refused() -> None:
    assert refused([*mr_series(2), *mr_series(2, name="other")]).code == "mixed_series"


# --- MONOCHROME1 -------------------------------------------------------------------------------


def test_light_is_signal() -> None:
    light = noise(3, 6, 5)
    plain = read_volume(mr_series(pixels=light))
    turned = 4095 - light
    series = mr_series(pixels=turned, PhotometricInterpretation="MONOCHROME1")
    source = read_volume([reread(dataset) for dataset in series])
    np.testing.assert_array_equal(source.volume, plain.volume - plain.volume.min())
    assert source.slopes.tolist() == [-1] * 3
    assert_the_way_back(source)
    brighter, _ = stored_values(source, source.volume + 3, 0)
    np.testing.assert_array_equal(brighter, np.maximum(turned[0] - 3, 0))


@pytest.mark.parametrize("intercept", [-100, -50_000, 50_000])
def test_light_with_rescale_and_padding(intercept: int) -> None:
    pixels = noise(2, 3, 4)
    pixels[0, 0] = -2000
    series = mr_series(
        pixels=pixels,
        bits=(16, 16),
        signed=True,
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=2,
        RescaleIntercept=intercept,
    )
    for dataset in series:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
    source = read_volume(series)
    inside = ~source.padding
    expected = (pixels[inside].max() - pixels[inside]) * 2
    np.testing.assert_array_equal(source.volume[inside], expected)
    assert (source.volume[source.padding] == 0).all()
    assert_the_way_back(source)


def test_light_that_is_all_padding() -> None:
    series = mr_series(
        pixels=np.full((1, 3, 4), -7), signed=True, PhotometricInterpretation="MONOCHROME1"
    )
    series[0].add_new("PixelPaddingValue", "SS", -7)
    source = read_volume(series)
    assert not source.volume.any()
    assert_the_way_back(source)


def test_light_and_dark_in_one_series_are_refused() -> None:
    series = mr_series(2)
    series[1].PhotometricInterpretation = "MONOCHROME1"
    assert refused(series).code == "photometric_interpretation"


# --- compressed --------------------------------------------------------------------------------

BITS = [(8, 8), (16, 12), (16, 16)]


@pytest.mark.parametrize("syntax", [*LOSSLESS, DeflatedExplicitVRLittleEndian], ids=str)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_lossless_syntaxes(syntax: UID, *, bits: tuple[int, int], signed: bool, many: bool) -> None:
    options: dict[str, Any] = {"bits": bits, "signed": signed, "rows": 40, "columns": 36}
    series = [enhanced_image(**options)] if many else mr_series(2, **options)
    expected = np.concatenate([frames_of(dataset) for dataset in series])
    source = read_volume([reread(compressed(dataset, syntax)) for dataset in series])
    np.testing.assert_array_equal(source.stored, expected)
    assert_the_way_back(source)


@pytest.mark.parametrize("syntax", LOSSY, ids=str)
def test_lossy_syntaxes_are_read(syntax: UID) -> None:
    ramp = np.tile(np.arange(36) * 6, (40, 1))
    pixels = np.stack([ramp, ramp.max() - ramp])
    series = [compressed(dataset, syntax) for dataset in mr_series(pixels=pixels, bits=(8, 8))]
    source = read_volume([reread(dataset) for dataset in series])
    off = np.abs(source.stored.astype(int) - pixels).max()
    assert off <= (NEAR if syntax == JPEGLSNearLossless else 3)
    assert source.sources[0].LossyImageCompression == "01"


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", ["basic", "extended", "none"])
def test_where_frames_begin(table: str, fragments: int) -> None:
    dataset = compressed(enhanced_image(rows=40, columns=36), RLELossless)
    expected = dataset.pixel_array
    frames = frame_bytes(dataset)
    if table == "extended":
        data, offsets, lengths = encapsulate_extended(frames)
        dataset.PixelData = data
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        dataset.PixelData = encapsulate(
            frames, fragments_per_frame=fragments, has_bot=table == "basic"
        )
    dataset["PixelData"].is_undefined_length = True
    if table == "none" and fragments == 3:
        # Nobody can tell which fragments belong to one frame.
        assert refused([reread(dataset)]).code == "damaged_pixels"
    else:
        np.testing.assert_array_equal(read_volume([reread(dataset)]).stored, expected)


# --- damage and bombs --------------------------------------------------------------------------


def set_frames(dataset: Dataset, frames: list[bytes]) -> Dataset:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def frame_bytes(dataset: Dataset) -> list[bytes]:
    count = int(dataset.get("NumberOfFrames", 1))
    return list(generate_frames(dataset.PixelData, number_of_frames=count))


def bigger(frame: bytes) -> bytes:
    """Let a codestream announce 50,000 x 50,000 pixels."""
    if frame.startswith(b"\xff\x4f\xff\x51"):
        return frame[:8] + struct.pack(">II", 50_000, 50_000) + frame[16:]
    place = next(frame.find(marker) for marker in (b"\xff\xf7", b"\xff\xc3") if marker in frame)
    return frame[: place + 5] + struct.pack(">HH", 50_000, 50_000) + frame[place + 9 :]


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=str)
def test_a_codestream_that_announces_another_size(syntax: UID) -> None:
    (dataset,) = mr_series(1, rows=40, columns=36)
    compressed(dataset, syntax)
    (frame,) = frame_bytes(dataset)
    assert announced_size(frame) == (40, 36, 1)
    error = refused([set_frames(dataset, [bigger(frame)])])
    assert error.code == "damaged_pixels"
    assert "(50000, 50000" in str(error)


def test_a_codestream_of_tiny_tiles() -> None:
    (dataset,) = mr_series(1, rows=128, columns=128)
    compressed(dataset, JPEG2000Lossless)
    (frame,) = frame_bytes(dataset)
    tiled = frame[:24] + struct.pack(">II", 1, 1) + frame[32:]
    assert announced_size(tiled) == (128, 128, 128 * 128)
    assert refused([set_frames(dataset, [tiled])]).code == "damaged_pixels"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=str)
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_as_many_compressed_frames_as_stated(syntax: UID, kept: int) -> None:
    dataset = compressed(enhanced_image(rows=40, columns=36), syntax)
    frames = frame_bytes(dataset)
    error = refused([set_frames(dataset, (frames * 2)[:kept])])
    assert error.code == "damaged_pixels"


@pytest.mark.parametrize("syntax", LOSSLESS[:1] + LOSSLESS[1:5:2], ids=str)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_frames_cut_short(syntax: UID, share: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pydicom")
    dataset = compressed(mr_series(1, rows=40, columns=36)[0], syntax)
    (frame,) = frame_bytes(dataset)
    short = frame[: int(len(frame) * share) // 2 * 2]
    try:
        source = read_volume([set_frames(dataset, [short])])
    except UnreadableSeries as error:
        assert error.code == "damaged_pixels"  # noqa: PT017  (some decoders give what is there)
    else:
        assert source.volume.shape == (1, 40, 36)


@pytest.mark.parametrize(
    ("code", "keyword", "value"),
    [
        ("too_large", "Rows", 65535),
        ("too_large", "NumberOfFrames", 2**31 - 1),
        ("damaged_pixels", "Rows", 60),
        ("pixel_description", "NumberOfFrames", -1),
    ],
)
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless], ids=str)
def test_absurd_sizes(code: str, keyword: str, value: int, syntax: UID | None) -> None:
    (dataset,) = mr_series(1, rows=40, columns=40)
    if syntax is not None:
        compressed(dataset, syntax)
    if code == "too_large":
        dataset.Columns = 65535
    setattr(dataset, keyword, value)
    assert refused([dataset]).code == code


def test_a_deflated_bomb() -> None:
    (dataset,) = mr_series(1)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(2**27)
    content = encoded(dataset)
    assert len(content) < 2**18
    with pytest.raises(UnreadableSeries, match="inflate to more than") as caught:
        parse(BytesIO(content))
    assert caught.value.code == "too_large"


def test_a_table_instead_of_a_slope() -> None:
    (dataset,) = mr_series(1, ModalityLUTSequence=[Dataset()])
    assert refused([dataset]).code == "pixel_description"


# --- properties --------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    bits=st.sampled_from([(8, 8), (8, 7), (16, 12), (16, 16), (16, 9), (32, 24), (32, 32)]),
    signed=st.booleans(),
    scales=st.lists(st.tuples(st.floats(1e-4, 1e4), st.floats(0, 1e6)), min_size=4, max_size=4),
    legacy=st.booleans(),
    light=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_did_not_change_is_stored_bit_for_bit(
    *,
    size: tuple[int, int, int],
    bits: tuple[int, int],
    signed: bool,
    scales: list[tuple[float, float]],
    legacy: bool,
    light: bool,
    seed: int,
) -> None:
    slices, rows, columns = size
    options: dict[str, Any] = {"rows": rows, "columns": columns, "bits": bits, "signed": signed}
    frames = [
        Frame([0, 0, 4 * n], place=n + 1, slope=float(f"{slope:.6g}"), intercept=round(intercept))
        for n, (slope, intercept) in enumerate(scales[:slices])
    ]
    several = enhanced_image(frames, legacy=legacy, seed=seed, **options)
    single = mr_series(slices, seed=seed, **options)
    for dataset in (several, *single):
        dataset.PhotometricInterpretation = f"MONOCHROME{1 if light else 2}"
    for series in ([several], single):
        source = read_volume([reread(dataset) for dataset in series])
        np.testing.assert_array_equal(
            source.stored, np.concatenate([frames_of(dataset) for dataset in series])
        )
        assert source.volume.min() >= 0
        assert_the_way_back(source)


# --- real series -------------------------------------------------------------------------------

# Slices and stacks that the files hold.
CASES = {
    "cn_v61_classic_speeder2": (40, 1),
    "derived_nifti2dicom_brain_t1": (40, 1),
    "ge_dwi_asset1p5": (14, 7),
    "ge_dwi_asset2": (14, 7),
    "ge_fmri_hb8_r1": (40, 1),
    "ph_r11_enh_tse_csai2_DL": (12, 1),
    "ph_r11_enh_tse_none": (12, 1),
    "ph_r57_classic_ffe_cs4": (24, 1),
    "ph_r57_classic_fieldmap_none": (40, 2),
    "ph_r57_classic_fmri_s1p5_mb3": (40, 40),
    "ph_t5_se_nsa4_1024": (1, 1),
    "si_e11_epi_nopat": (60, 1),
    "si_e11_epi_p2": (60, 1),
    "si_vb17_epi_mb_nopat_j2k": (72, 2),
    "si_vb17_epi_p2": (70, 2),
    "si_xa10_enh_sms2_nopat": (24, 4),
    "si_xa30_classic_tfl_p2": (40, 1),
    "si_xa61_enh_p2": (70, 7),
    "uih_r002_dti_p2_nex6": (340, 17),
}
REFUSED_CASES = {
    "ge_localizer_arc2_nex0p56": "mixed_orientation",
    "nonimage_philips_raw": "no_pixels",
}


def case_files(folder: Path) -> list[Dataset]:
    known = (file for file in sorted(folder.iterdir()) if not file.name.upper().startswith("LICEN"))
    return [dcmread(file) for file in known]


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("case", CASES)
def test_real_series(case: str, cases: Path) -> None:
    source = read_volume(case_files(cases / case))
    slices, stacks = CASES[case]
    assert (len(source.slices), len(source.stacks)) == (slices, stacks)
    assert {len(stack.slices) for stack in source.stacks} == {slices // stacks}
    assert all(stack.warnings == () for stack in source.stacks)
    assert_the_way_back(source)


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("case", REFUSED_CASES)
def test_real_series_that_are_refused(case: str, cases: Path) -> None:
    assert refused(case_files(cases / case)).code == REFUSED_CASES[case]


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("case", ["si_e11_epi_p2", "si_vb17_epi_p2", "si_vb17_epi_mb_nopat_j2k"])
def test_the_first_tile_lies_where_the_protocol_says(case: str, cases: Path) -> None:
    source = read_volume(case_files(cases / case))
    dataset, place = source.sources[0], source.slices[0]
    assert place.position is not None
    assert place.orientation is not None
    assert place.spacing_mm is not None
    axes = np.array(place.orientation).reshape(2, 3)
    rows, columns = source.volume.shape[1:]
    # The protocol gives the centre of the slice.
    half = np.array([columns * place.spacing_mm[1], rows * place.spacing_mm[0]]) / 2
    centre = np.array(place.position) + half @ axes
    protocol = dataset[0x0029, 0x1020].value.decode("latin-1")
    stated = [0.0, 0.0, 0.0]
    for axis, name in enumerate(("dSag", "dCor", "dTra")):
        _, found, after = protocol.partition(f"sSliceArray.asSlice[0].sPosition.{name}")
        if found:
            stated[axis] = float(after.split("=")[1].split()[0])
    np.testing.assert_allclose(centre, stated, atol=0.01)
