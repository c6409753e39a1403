"""What headers say of pixels and pixels do not keep to: padding, unused bits, negative values."""

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from compressed import compressed
from derived_support import MADE_BY, unchanged
from dicom_maker import Pixels, mr_series, reread, set_raw
from halfscan_models import load_reconstructor
from halfscan_plugin.derived import derive
from halfscan_plugin.encode import SYNTAXES, Syntax
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.guards import check
from halfscan_plugin.volume import SeriesVolume, read_volume

CORNER = (slice(None), slice(0, 8), slice(0, 8))


def magnitude(slices: int = 2, size: int = 64, seed: int = 0) -> Pixels:
    """Make a bright square in noisy air, from 10 on."""
    rng = np.random.default_rng(seed)
    signal = np.zeros((slices, size, size))
    signal[:, size // 4 : -size // 4, size // 4 : -size // 4] = 500
    noise = rng.normal(0, 25, (2, *signal.shape))
    return np.asarray(10 + np.rint(np.hypot(signal + noise[0], noise[1])), dtype=np.int64)


def read(series: list[Dataset]) -> SeriesVolume:
    return read_volume([reread(dataset) for dataset in series])


def cells(dataset: Dataset) -> npt.NDArray[np.uint16]:
    """Give all the bits of an uncompressed object of 16 bits."""
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def reconstructed(series: list[Dataset]) -> tuple[SeriesVolume, list[Dataset]]:
    """Send a series through the network and the guards."""
    source = read(series)
    result = load_reconstructor().reconstruct(source)
    check(source, result)
    derived = derive(source, result.volume, MADE_BY, series_number=1005)
    return source, [reread(dataset) for dataset in derived.datasets]


# --- padding ----------------------------------------------------------------------------------

# BitsStored, signed, what the pixels hold, and how the header writes it.
PADDINGS: dict[str, tuple[int, bool, int, str, bytes]] = {
    "signed": (16, True, -2000, "SS", b"\x30\xf8"),
    "signed, as US": (16, True, -2000, "US", b"\x30\xf8"),
    "signed, as UN": (16, True, -2000, "UN", b"\x30\xf8"),
    "signed, as OW": (16, True, -2000, "OW", b"\x30\xf8"),
    "signed, as a text": (16, True, -2000, "DS", b"-2000 "),
    "signed, of 12 bits": (12, True, -2000, "SS", b"\x30\xf8"),
    "signed, of 12 bits, as US": (12, True, -2000, "US", b"\x30\xf8"),
    "signed, positive": (16, True, 4095, "SS", b"\xff\x0f"),
    "signed, positive, as US": (16, True, 4095, "US", b"\xff\x0f"),
    "unsigned": (16, False, 63536, "US", b"\x30\xf8"),
    "unsigned, as SS": (16, False, 63536, "SS", b"\x30\xf8"),
    "unsigned, the largest, as SS": (16, False, 65535, "SS", b"\xff\xff"),
    "unsigned, beyond its bits": (12, False, 63536, "US", b"\x30\xf8"),
    "unsigned, cut to its bits": (12, False, 2096, "SS", b"\x30\xf8"),
    "unsigned, the largest": (12, False, 4095, "US", b"\xff\x0f"),
    "one": (12, False, 1, "US", b"\x01\x00"),
    "zero": (12, False, 0, "US", b"\x00\x00"),
    "zero, signed": (12, True, 0, "US", b"\x00\x00"),
}


def padded(name: str) -> tuple[Pixels, list[Dataset]]:
    bits, signed, value, vr, written = PADDINGS[name]
    pixels = magnitude()
    pixels[CORNER] = value
    series = mr_series(pixels=pixels, bits=(16, bits), signed=signed)
    return pixels, [set_raw(d, "PixelPaddingValue", vr, written) for d in series]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", PADDINGS)
def test_padding_stays_bit_for_bit(name: str) -> None:
    pixels, series = padded(name)
    value = PADDINGS[name][2]
    source, derived = reconstructed(series)
    np.testing.assert_array_equal(source.padding, pixels == value)
    assert source.warnings == ()
    for number, dataset in enumerate(derived):
        after, before = cells(dataset), cells(series[number])
        np.testing.assert_array_equal(after[CORNER[1:]], before[CORNER[1:]])
        assert (after != before).mean() > 0.8, "the image itself is reconstructed"
        assert dataset.BitsStored == series[number].BitsStored


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", PADDINGS)
def test_padding_does_not_change_what_the_noise_is_taken_for(name: str) -> None:
    expected = magnitude()
    expected[CORNER] = 0
    zeros = load_reconstructor().reconstruct(expected, strength=0)
    found = load_reconstructor().reconstruct(read(padded(name)[1]), strength=0)
    np.testing.assert_allclose(found.noise_sd, zeros.noise_sd)


@pytest.mark.parametrize("value", [20, 30, 500])
def test_single_pixels_with_the_padding_value_stay_and_are_shown_as_they_are(value: int) -> None:
    pixels = magnitude()
    series = mr_series(pixels=pixels, PixelPaddingValue=value)
    source, derived = reconstructed(series)
    np.testing.assert_array_equal(source.padding, pixels == value)
    np.testing.assert_array_equal(source.volume, pixels)
    for dataset, before in zip(derived, pixels, strict=True):
        assert (cells(dataset)[before == value] == value).all()
        assert (cells(dataset) != before).mean() > 0.8


RANGES = [
    (True, "SS", -2000, "SS", -3, [-2000, -1500, -3]),
    (True, "SS", -3, "SS", -2000, [-2000, -1500, -3]),
    (True, "US", 63536, "US", 65533, [-2000, -1500, -3]),
    (True, "US", 63536, "SS", 0, [-2000, -1500, 0]),
    (False, "US", 4000, "US", 4095, [4000, 4050, 4095]),
    (False, "US", 0, "US", 9, [0, 4, 9]),
    (False, "SS", -10, "SS", -1, [65526, 65530, 65535]),
]


@pytest.mark.parametrize(("signed", "vr", "value", "limit_vr", "limit", "marked"), RANGES)
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_a_range_of_padding(
    *,
    signed: bool,
    vr: str,
    value: int,
    limit_vr: str,
    limit: int,
    marked: list[int],
    syntax: UID | None,
) -> None:
    pixels = magnitude()
    pixels[0, :3, :8] = np.array(marked)[:, None]
    series = mr_series(pixels=pixels, bits=(16, 16), signed=signed)
    for dataset in series:
        dataset.add(DataElement(Tag("PixelPaddingValue"), vr, value))
        dataset.add(DataElement(Tag("PixelPaddingRangeLimit"), limit_vr, limit))
        dataset.file_meta.TransferSyntaxUID = syntax or dataset.file_meta.TransferSyntaxUID
    source, derived = reconstructed(series)
    np.testing.assert_array_equal(source.padding[0, :3, :8], np.ones((3, 8)))
    assert source.padding.sum() == 24
    assert (source.volume[source.padding] == 0).all()
    np.testing.assert_array_equal(cells(derived[0])[:3, :8], cells(series[0])[:3, :8])


def test_padding_in_unknown_bytes_of_a_big_endian_object() -> None:
    pixels = magnitude()
    pixels[CORNER] = -2000
    series = mr_series(pixels=pixels, bits=(16, 16), signed=True)
    for dataset, image in zip(series, pixels, strict=True):
        set_raw(dataset, "PixelPaddingValue", "UN", b"\xf8\x30")
        dataset.PixelData = image.astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    np.testing.assert_array_equal(read(series).padding, pixels == -2000)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("vr", "written"), [("US", b""), ("DS", b"none"), ("DS", b"1.5 "), ("OB", b"\1\2\3\4\5\6")]
)
def test_padding_that_is_no_number_marks_nothing(vr: str, written: bytes) -> None:
    series = [set_raw(d, "PixelPaddingValue", vr, written) for d in mr_series(2)]
    assert not read(series).padding.any()


def test_a_range_without_a_value_marks_nothing() -> None:
    assert not read(mr_series(2, PixelPaddingRangeLimit=4000)).padding.any()


def test_images_that_are_all_padding() -> None:
    pixels = np.concatenate([magnitude(1), np.full((1, 64, 64), 7)])
    source, derived = reconstructed(mr_series(pixels=pixels, PixelPaddingValue=7))
    assert source.padding[1].all()
    assert not source.volume[1].any()
    np.testing.assert_array_equal(cells(derived[1]), pixels[1])


# --- beyond BitsStored --------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "bits"), [(4096, 13), (5000, 13), (40_000, 16)])
def test_values_beyond_their_bits_are_told_and_stay(value: int, bits: int) -> None:
    pixels = magnitude()
    pixels[1, 30:32, 30:33] = value
    series = mr_series(pixels=pixels)
    source = read(series)
    np.testing.assert_array_equal(source.volume, pixels)
    name = series[1].SOPInstanceUID
    (warning,) = source.warnings
    assert warning == (
        f"pixels beyond BitsStored: 6, up to {value} in instance {name}, where 12 bits hold 0 "
        f"to 4095 (in 1 of 2 objects); they count as they are, and BitsStored of the derived "
        f"object is {bits}"
    )
    derived = [reread(dataset) for dataset in unchanged(series).datasets]
    np.testing.assert_array_equal([d.pixel_array for d in derived], pixels)
    assert [(d.BitsStored, d.HighBit) for d in derived] == [(12, 11), (bits, bits - 1)]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_values_beyond_their_bits_in_compressed_objects(syntax: Syntax) -> None:
    (dataset,) = mr_series(1, rows=40, columns=36, pixels=np.full((1, 40, 36), 300))
    compressed(dataset, JPEG2000Lossless)
    dataset.BitsStored, dataset.HighBit = 8, 7
    assert read([dataset]).bits == (9,)
    (after,) = map(reread, unchanged([dataset], syntax=syntax).datasets)
    assert (after.BitsStored, set(after.pixel_array.ravel())) == (9, {300})


def test_signed_values_beyond_their_bits() -> None:
    pixels = magnitude()
    pixels[0, 30, 30], pixels[0, 30, 31] = 5000, 3000
    source = read(mr_series(pixels=pixels, signed=True))
    np.testing.assert_array_equal(source.volume, pixels)
    assert source.bits == (14, 12)
    assert "pixels beyond BitsStored: 2, up to 5000" in source.warnings[0]


def test_a_sign_that_does_not_reach_into_the_unused_bits() -> None:
    pixels = magnitude()
    pixels[0, 5, 5] = -3
    series = mr_series(pixels=pixels, signed=True)
    series[0].PixelData = (np.frombuffer(series[0].PixelData, "<u2") & 0x0FFF).tobytes()
    source = read(series)
    np.testing.assert_array_equal(source.stored, pixels)
    assert source.bits == (12, 12)


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 9), (16, 11), (12, 99)])
def test_a_wrong_high_bit_is_told(bits: int, high: int) -> None:
    series = mr_series(pixels=magnitude(), bits=(16, bits), HighBit=high)
    source = read(series)
    np.testing.assert_array_equal(source.volume, magnitude())
    (warning,) = source.warnings
    assert warning == (
        f"HighBit is {high} in instance {series[0].SOPInstanceUID}, BitsStored {bits}: HighBit is "
        "not used (in 2 of 2 objects)"
    )
    assert {dataset.HighBit for dataset in unchanged(series).datasets} == {bits - 1}


@pytest.mark.parametrize("times", [16, 17])
def test_values_that_may_lie_in_the_upper_bits_are_refused(times: int) -> None:
    series = mr_series(pixels=magnitude() * times, HighBit=15)
    with pytest.raises(UnreadableSeries, match="got 15 with 12, and the pixels leave open") as info:
        read(series)
    assert info.value.code == "pixel_description"


# --- negative values ------------------------------------------------------------------------------


def test_a_few_negative_pixels_are_told_and_stay() -> None:
    pixels = magnitude()
    pixels[0, 3, 3], pixels[1, 60, 40:45] = -1, [-2, -40, -3, -1, -1]
    series = mr_series(pixels=pixels, signed=True)
    source, derived = reconstructed(series)
    np.testing.assert_array_equal(source.volume, np.maximum(pixels, 0))
    (warning,) = source.warnings
    assert warning == (
        f"negative pixels: 6, down to -40 in instance {series[1].SOPInstanceUID} (in 2 of 2 "
        "slices); a magnitude has none, they stay as they are"
    )
    for dataset, before in zip(derived, pixels, strict=True):
        after = dataset.pixel_array
        np.testing.assert_array_equal(after[before < 0], before[before < 0])
        assert (after != before).mean() > 0.8
        assert after[before >= 0].min() >= 0


def test_a_few_values_that_the_rescale_makes_negative() -> None:
    pixels = magnitude()
    lowest = pixels.min()
    source = read(mr_series(pixels=pixels, RescaleIntercept=str(-(lowest + 0.5))))
    assert "down to -0.5" in source.warnings[0]
    assert source.volume.min() == 0
    np.testing.assert_array_equal(source.padding, pixels == lowest)


def test_padding_and_negative_pixels() -> None:
    pixels = magnitude()
    pixels[CORNER], pixels[0, 20, 20] = -2000, -1
    series = mr_series(pixels=pixels, bits=(16, 16), signed=True)
    for dataset in series:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
    source, derived = reconstructed(series)
    assert "negative pixels: 1, down to -1" in source.warnings[0]
    for dataset, before in zip(derived, pixels, strict=True):
        np.testing.assert_array_equal(dataset.pixel_array[before < 0], before[before < 0])


def test_an_image_that_keeps_the_sign_is_refused() -> None:
    pixels = magnitude(3)
    pixels[1] -= 30
    assert 0.1 < (pixels[1] < 0).mean() < 0.5
    with pytest.raises(
        UnreadableSeries, match="of the pixels of slice 2, at most 10% pass"
    ) as info:
        read(mr_series(pixels=pixels, signed=True))
    assert info.value.code == "negative_values"
