"""Transfer syntaxes: every kind of source, what its derived objects are coded in, lossy or not."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from derived_support import DCMCJPEG, MADE_BY, PLAIN, PYDICOM, in_syntax, unchanged
from dicom_maker import encoded, mr_series, reread
from halfscan_plugin.derived import derive
from halfscan_plugin.encode import LOSSY_METHODS, set_pixels, target_syntax
from halfscan_plugin.volume import read_volume

LOSSLESS = {
    DeflatedExplicitVRLittleEndian: DeflatedExplicitVRLittleEndian,
    RLELossless: RLELossless,
    JPEGLSLossless: JPEGLSLossless,
    JPEGLSNearLossless: JPEGLSLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    JPEG2000: JPEG2000Lossless,
}
# What dcmcjpeg writes is read, but cannot be written.
UNWRITTEN = {JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit, JPEGExtended12Bit}
ALL = [*PLAIN, *PYDICOM, *DCMCJPEG]


@pytest.fixture(autouse=True)
def _dcmtk() -> None:
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg is not installed: apt-get install dcmtk")


def smooth(bits: tuple[int, int], *, signed: bool = False, slices: int = 2) -> list[Dataset]:
    """Make images that a codec can compress, with values over the whole range of a magnitude."""
    highest = 2 ** (bits[1] - 1 if signed else bits[1]) - 1
    rows, columns = np.mgrid[:40, :36]
    image = (0.5 + 0.5 * np.sin(rows / 5) * np.cos(columns / 4)) * highest
    return mr_series(
        pixels=np.stack([np.rint(image * (1 - 0.1 * n)).astype(int) for n in range(slices)]),
        bits=bits,
        signed=signed,
    )


def series_in(syntax: UID, folder: Path) -> list[Dataset]:
    bits = (8, 8) if syntax == JPEGBaseline8Bit else (16, 12)
    return [in_syntax(dataset, syntax, folder) for dataset in smooth(bits)]


@pytest.mark.parametrize("mode", ["uncompressed", "source"])
@pytest.mark.parametrize("syntax", ALL, ids=lambda s: UID(s).keyword)
def test_what_did_not_change_comes_back(syntax: UID, mode: Any, tmp_path: Path) -> None:
    series = series_in(syntax, tmp_path)
    derived = unchanged(series, syntax=mode)
    expected = ExplicitVRLittleEndian
    if mode == "source":
        expected = LOSSLESS.get(syntax, ExplicitVRLittleEndian)
    for before, after in zip(series, map(reread, derived.datasets), strict=True):
        assert after.file_meta.TransferSyntaxUID == expected
        np.testing.assert_array_equal(pixel_array(after), pixel_array(before))
        assert after["PixelData"].VR in {"OB", "OW"}
    if mode == "source" and syntax in UNWRITTEN:
        assert derived.notes == (
            f"{UID(syntax).name} cannot be written: stored uncompressed (in 2 of 2 objects)",
        )
    else:
        assert derived.notes == ()


@pytest.mark.parametrize("mode", ["uncompressed", "source"])
@pytest.mark.parametrize("syntax", ALL, ids=lambda s: UID(s).keyword)
def test_once_lossy_always_said(syntax: UID, mode: Any, tmp_path: Path) -> None:
    for dataset in series_in(syntax, tmp_path):
        for keyword in ("", "Ratio", "Method"):
            dataset.pop(f"LossyImageCompression{keyword}", None)
        (after,) = map(reread, unchanged([dataset], syntax=mode).datasets)
        if syntax not in LOSSY_METHODS:
            assert "LossyImageCompression" not in after, "nothing is invented"
            continue
        assert after.LossyImageCompression == "01"
        assert after.LossyImageCompressionMethod == LOSSY_METHODS[syntax]
        expected = pixel_array(dataset).nbytes / len(dataset.PixelData)
        assert after.LossyImageCompressionRatio == pytest.approx(expected, rel=1e-3)


def test_what_a_header_says_of_lossy_compression_stays(tmp_path: Path) -> None:
    said = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["3", "9.5"],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
    }
    for syntax in (ExplicitVRLittleEndian, JPEG2000, JPEGLSLossless):
        (dataset, _) = series_in(syntax, tmp_path)
        for keyword, value in said.items():
            setattr(dataset, keyword, value)
        (after,) = map(reread, unchanged([dataset]).datasets)
        assert [after[keyword].value for keyword in said] == list(said.values())


def test_a_syntax_that_may_be_lossy_and_is_not(tmp_path: Path) -> None:
    (dataset, _) = series_in(JPEG2000, tmp_path)
    dataset.LossyImageCompression = "00"
    (after,) = map(reread, unchanged([dataset]).datasets)
    assert after.LossyImageCompression == "00"
    assert "LossyImageCompressionRatio" not in after


def test_a_syntax_that_is_lossy_whatever_the_header_says(tmp_path: Path) -> None:
    (dataset, _) = series_in(JPEGBaseline8Bit, tmp_path)
    dataset.LossyImageCompression = "00"
    (after,) = map(reread, unchanged([dataset]).datasets)
    assert after.LossyImageCompression == "01"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [(8, 8), (16, 12), (16, 16), (16, 10)])
@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: UID(s).keyword
)
def test_changed_pixels_in_every_depth(
    syntax: UID, bits: tuple[int, int], *, signed: bool, tmp_path: Path
) -> None:
    series = [in_syntax(d, syntax, tmp_path) for d in smooth(bits, signed=signed)]
    source = read_volume(series)
    result = np.roll(source.volume, 3, axis=2)
    derived = derive(source, result, MADE_BY, series_number=1, syntax="source")
    assert derived.notes == ()
    for after, wanted in zip(map(reread, derived.datasets), result, strict=True):
        assert after.file_meta.TransferSyntaxUID == syntax
        np.testing.assert_array_equal(pixel_array(after), wanted)


@pytest.mark.parametrize(
    ("syntax", "program"), [(RLELossless, "dcmdrle"), (JPEGLSLossless, "dcmdjpls")]
)
def test_another_decoder_gives_the_same_pixels(syntax: UID, program: str, tmp_path: Path) -> None:
    (derived,) = unchanged(
        [in_syntax(smooth((16, 12))[0], syntax, tmp_path)], syntax="source"
    ).datasets
    coded, plain = tmp_path / "coded.dcm", tmp_path / "plain.dcm"
    coded.write_bytes(encoded(derived))
    subprocess.run([program, coded, plain], check=True)
    np.testing.assert_array_equal(dcmread(plain).pixel_array, pixel_array(derived))


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_cannot_be_coded_is_stored_uncompressed() -> None:
    # JPEG-LS ends at 16 bits (ISO 14495-1).
    (derived,) = unchanged(mr_series(1, bits=(32, 24))).datasets
    pixels = derived.pixel_array
    note = set_pixels(derived, pixels, JPEGLSLossless)
    assert note is not None
    assert note.startswith("JPEG-LS Lossless Image Compression failed (")
    after = reread(derived)
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(after.pixel_array, pixels)


def test_images_too_small_for_a_code_are_stored_uncompressed() -> None:
    # OpenJPEG's five levels of wavelets need 32 pixels.
    (derived,) = unchanged(mr_series(1, rows=20, columns=64)).datasets
    pixels = derived.pixel_array
    assert set_pixels(derived, pixels, JPEG2000Lossless) is not None
    np.testing.assert_array_equal(reread(derived).pixel_array, pixels)


def test_frames_are_coded_one_by_one() -> None:
    frames = np.stack([d.pixel_array for d in smooth((16, 12), slices=3)])
    (derived,) = unchanged(mr_series(1, rows=40, columns=36)).datasets
    derived.NumberOfFrames = 3
    assert set_pixels(derived, frames, RLELossless) is None
    np.testing.assert_array_equal(pixel_array(reread(derived)), frames)


def test_an_odd_number_of_bytes_is_padded() -> None:
    (derived,) = unchanged(mr_series(1, rows=3, columns=5, bits=(8, 8))).datasets
    assert len(derived.PixelData) == 16
    assert reread(derived).pixel_array.shape == (3, 5)


def test_twice_gives_the_same_code(tmp_path: Path) -> None:
    for syntax in PYDICOM:
        series = series_in(syntax, tmp_path)
        once, again = (
            [encoded(d) for d in unchanged(series, syntax="source").datasets] for _ in "ab"
        )
        assert once == again


def test_a_source_without_a_transfer_syntax() -> None:
    assert target_syntax(Dataset(), "source") == (ExplicitVRLittleEndian, None)


def test_big_endian_words_are_turned_round(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [3, 0, 16])
    table.add_new("LUTData", "OW", b"\x01\x02\x03\x04\x05\x06")
    series = [
        in_syntax(d, ExplicitVRBigEndian, tmp_path)
        for d in mr_series(2, VOILUTSequence=Sequence([table]), EchoTime="90")
    ]
    for before, after in zip(series, map(reread, unchanged(series).datasets), strict=True):
        assert before.VOILUTSequence[0].LUTData == b"\x02\x01\x04\x03\x06\x05"
        assert after.VOILUTSequence[0].LUTData == b"\x01\x02\x03\x04\x05\x06"
        assert list(after.VOILUTSequence[0].LUTDescriptor) == [3, 0, 16]
