"""Pixels of a series: read exactly, or refused with a reason."""

import functools
import json
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_maker import ORIENTATIONS, encoded, mr_series, reread, set_raw, set_vr
from halfscan_plugin.derived import Provenance, derive
from halfscan_plugin.files import parse
from halfscan_plugin.inspection import inspect_series
from halfscan_plugin.volume import UnreadableSeries, read_volume, sort_slices

EXAMPLES = 200
PROVENANCE = Provenance("net", "1", "ab" * 32, 1.0, "0.1.0")


def refused(series: list[Dataset]) -> UnreadableSeries:
    with pytest.raises(UnreadableSeries) as caught:
        read_volume(series)
    assert len(str(caught.value)) > 10
    return caught.value


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_are_sorted_along_their_normal(orientation: str) -> None:
    series = mr_series(7, orientation=orientation)
    for number, dataset in enumerate(series):
        dataset.InstanceNumber = 100 - number  # against the positions
    shuffled = [series[i] for i in (3, 0, 6, 1, 5, 2, 4)]
    source = read_volume(shuffled)
    assert source.sources == tuple(series)
    assert [(place.source, place.frame) for place in source.slices] == [(i, 0) for i in range(7)]
    assert [stack.slices for stack in source.stacks] == [source.slices]
    expected = np.stack([dataset.pixel_array for dataset in series])
    np.testing.assert_array_equal(source.volume, expected)
    assert source.volume.dtype == np.float32


def test_slices_at_one_place_are_sorted_by_their_number() -> None:
    series = mr_series(4, ImagePositionPatient=[0, 0, 0])
    for dataset, number in zip(series, (10, 9, 2, 1), strict=True):
        dataset.InstanceNumber = number
    assert [d.InstanceNumber for d in sort_slices(series)] == [1, 2, 9, 10]


def test_slices_without_any_place_are_sorted_by_their_number() -> None:
    series = mr_series(3, ImagePositionPatient=None, ImageOrientationPatient=None)
    assert sort_slices(series[::-1]) == series


def test_rescale_is_applied() -> None:
    pixels = np.arange(24).reshape(2, 3, 4)
    source = read_volume(mr_series(pixels=pixels, RescaleSlope=2.5, RescaleIntercept=10))
    np.testing.assert_allclose(source.volume, pixels * 2.5 + 10)
    np.testing.assert_array_equal(source.stored, pixels)


@pytest.mark.parametrize("slope", [0, None, ""])
def test_without_a_slope_the_values_are_those_stored(slope: Any) -> None:
    source = read_volume(mr_series(2, RescaleSlope=slope))
    np.testing.assert_array_equal(source.volume, source.stored)


@pytest.mark.parametrize("bits", [(8, 8), (16, 12), (16, 16), (32, 20)])
@pytest.mark.parametrize("signed", [False, True])
def test_bit_depths(*, bits: tuple[int, int], signed: bool) -> None:
    series = mr_series(2, rows=5, columns=7, bits=bits, signed=signed)
    source = read_volume([reread(dataset) for dataset in series])
    np.testing.assert_array_equal(source.volume, [d.pixel_array for d in series])


def _truncate(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-8]


def _jpeg_2000(dataset: Dataset) -> None:
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(96)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless


def _broken_rle(dataset: Dataset) -> None:
    dataset.PixelData = encapsulate([b"\x02" + bytes(70)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless


def _rgb(dataset: Dataset) -> None:
    dataset.PhotometricInterpretation = "RGB"
    dataset.SamplesPerPixel = 3
    dataset.PlanarConfiguration = 0
    dataset.PixelData *= 3


def _multi_frame(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 3
    dataset.PixelData *= 3


def put(**attributes: Any) -> Callable[[Dataset], None]:
    """Set attributes of one object; None removes."""

    def change(dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return change


def raw(keyword: str, vr: str, value: bytes) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        set_raw(dataset, keyword, vr, value)

    return change


def _syntax(uid: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", uid)


BAD: list[tuple[str, Callable[[Dataset], None]]] = [
    ("damaged_pixels", _truncate),
    ("damaged_pixels", put(PixelData=b"")),
    ("damaged_pixels", _broken_rle),
    ("damaged_pixels", _jpeg_2000),
    ("unsupported_transfer_syntax", _syntax("1.2.3.4.5")),
    ("unsupported_transfer_syntax", _syntax("")),
    ("unsupported_transfer_syntax", lambda d: delattr(d, "file_meta")),
    ("photometric_interpretation", _rgb),
    ("photometric_interpretation", put(PhotometricInterpretation="MONOCHROME1")),
    ("photometric_interpretation", put(PhotometricInterpretation=None)),
    ("photometric_interpretation", put(SamplesPerPixel=None)),
    ("photometric_interpretation", raw("SamplesPerPixel", "US", b"")),
    ("multi_frame", _multi_frame),
    ("no_pixels", put(PixelData=None)),
    ("bad_rescale", raw("RescaleSlope", "DS", b"steep ")),
    ("bad_rescale", raw("RescaleSlope", "DS", b"1\\2 ")),
    ("bad_rescale", raw("RescaleIntercept", "DS", b"nan ")),
    ("bad_rescale", raw("RescaleIntercept", "DS", b"1e999 ")),
    ("bad_rescale", put(RescaleSlope="1e38")),
    ("negative_values", put(RescaleIntercept="-4096")),
    ("negative_values", put(RescaleSlope="-1")),
    ("pixel_description", put(BitsStored=None)),
    ("pixel_description", raw("BitsStored", "US", b"")),
    ("pixel_description", raw("BitsStored", "US", b"\x0c")),
    ("pixel_description", put(BitsStored=17)),
    ("pixel_description", put(BitsStored=0)),
    ("pixel_description", put(BitsAllocated=12)),
    ("pixel_description", put(BitsAllocated=1)),
    ("pixel_description", put(BitsAllocated=64)),
    ("pixel_description", put(BitsAllocated=None)),
    ("pixel_description", put(PixelRepresentation=None)),
    ("pixel_description", put(PixelRepresentation=2)),
    ("pixel_description", put(Rows=None)),
    ("pixel_description", raw("Rows", "US", b"")),
    ("pixel_description", put(Columns=0)),
    ("pixel_description", raw("Rows", "AT", b"\x0c\x00\x00\x00\x00\x00")),
    ("mixed_sizes", put(Rows=6)),
    ("bad_geometry", raw("ImageOrientationPatient", "DS", b"1\\0\\0\\0\\one\\0")),
    ("bad_geometry", raw("ImageOrientationPatient", "DS", b"1\\0\\0 ")),
    ("bad_geometry", raw("ImagePositionPatient", "DS", b"here")),
    ("bad_geometry", raw("ImagePositionPatient", "DS", b"0\\nan\\0 ")),
    ("bad_geometry", raw("PixelSpacing", "DS", b"wide")),
    ("bad_uid", put(SeriesInstanceUID=None)),
    ("bad_uid", put(StudyInstanceUID="")),
    ("bad_uid", put(SOPInstanceUID=None)),
    ("bad_uid", put(SOPClassUID=None)),
    ("bad_uid", raw("SOPClassUID", "DS", b"12")),
    ("bad_uid", raw("SeriesInstanceUID", "UI", b"1.2.\xe9.4")),
    ("bad_uid", raw("SOPInstanceUID", "UI", b"1.2\\1.3\0")),
    ("bad_uid", raw("SOPInstanceUID", "UI", b"1." * 40 + b"1\0")),
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("code", "change"), BAD)
@pytest.mark.parametrize("place", [0, 2])
def test_what_cannot_be_read_is_refused_with_its_reason(
    code: str, change: Callable[[Dataset], None], place: int
) -> None:
    series = mr_series(3)
    change(series[place])
    assert refused(series).code == code


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_slope_of_nan_is_refused_where_the_file_says_float() -> None:
    series = mr_series(2)
    set_vr(series[1], "RescaleSlope", "FD", float("nan"))
    assert refused(series).code == "bad_rescale"


def test_no_objects_at_all() -> None:
    assert refused([]).code == "no_pixels"


def test_the_same_instance_twice_is_refused() -> None:
    series = mr_series(2)
    error = refused([*series, series[0]])
    assert error.code == "duplicate_instance"
    assert series[0].SOPInstanceUID in str(error)


def test_the_message_names_the_instance_and_the_value() -> None:
    series = mr_series(2)
    series[1].PhotometricInterpretation = "RGB"
    message = str(refused(series))
    assert series[1].SOPInstanceUID in message
    assert "RGB" in message


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_syntaxes(syntax: str) -> None:
    series = mr_series(2)
    expected = [dataset.pixel_array.copy() for dataset in series]
    for dataset in series:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        if syntax == ExplicitVRBigEndian:
            cells = np.frombuffer(dataset.PixelData, "<u2")
            dataset.PixelData = cells.astype(">u2").tobytes()
    source = read_volume([reread(dataset) for dataset in series])
    np.testing.assert_array_equal(source.volume, expected)


def test_rle_is_decoded() -> None:
    series = mr_series(2)
    expected = [dataset.pixel_array.copy() for dataset in series]
    for dataset in series:
        uid = dataset.SOPInstanceUID
        dataset.compress(RLELossless, generate_instance_uid=False)
        assert dataset.SOPInstanceUID == uid
    source = read_volume([reread(dataset) for dataset in series])
    np.testing.assert_array_equal(source.volume, expected)


# --- bytes as they may come: never anything but UnreadableSeries ------------------------------


def use(contents: list[bytes]) -> str:
    """Do with files what a worker does, the network left out; give what came of it."""
    try:
        datasets = [parse(BytesIO(content)) for content in contents]
        report = inspect_series(datasets)
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        source = read_volume(datasets)
        derived = derive(source, source.volume, PROVENANCE, series_number=1005)
    except UnreadableSeries as error:
        return error.code
    for dataset in derived.datasets:
        dcmwrite(BytesIO(), dataset, enforce_file_format=True)
    return "written"


KEYWORDS = [
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription",
    "PatientName", "PatientBirthDate", "SpecificCharacterSet", "SliceThickness",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "PixelData",
    "ContributingEquipmentSequence", "SourceImageSequence", "DerivationCodeSequence",
    "DerivationDescription", "ReferencedImageSequence", "VOILUTSequence", "AcquisitionDate",
    "Manufacturer", "ParallelReductionFactorInPlane", "ParallelAcquisition", "PartialFourier",
    "NumberOfAverages", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
VRS = [
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OD", "OF",
    "OW", "PN", "SH", "SL", "SQ", "SS", "ST", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([b"", b" ", b"\0", b"0", b"-1", b"abc ", b"1\\2\\3 ", b"nan ", b"\\\\\\"]),
    st.sampled_from([b"1e400 ", b"99999999999999999999", b"ISO_IR 999", b"\xff\xfe\xfd\xfc"]),
    st.binary(max_size=24),
)


@functools.cache
def parts(index: int, *, implicit: bool) -> tuple[bytes, dict[BaseTag, bytes]]:
    """Encode an object in pieces: preamble with meta information, and each element."""
    dataset = mr_series(2, rows=4, columns=4)[index]
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    whole = encoded(dataset)
    length = 132 + 12 + int.from_bytes(whole[140:144], "little")
    elements = {}
    for element in dataset:
        single = Dataset()
        single.add(element)
        buffer = BytesIO()
        dcmwrite(buffer, single, implicit_vr=implicit, little_endian=True)
        elements[element.tag] = buffer.getvalue()
    assert whole == whole[:length] + b"".join(elements.values())
    return whole[:length], elements


def raw_element(tag: BaseTag, vr: str, value: bytes, *, implicit: bool) -> bytes:
    """Encode an element (PS3.5 section 7.1), whatever its value."""
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH", tag.group, tag.element)
    if implicit:
        head += struct.pack("<I", len(value))
    elif vr in {"OB", "OD", "OF", "OW", "SQ", "UC", "UN", "UR", "UT"}:
        head += vr.encode() + struct.pack("<HI", 0, len(value))
    else:
        head += vr.encode() + struct.pack("<H", len(value))
    return head + value


@pytest.mark.filterwarnings("ignore:::pydicom")
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(KEYWORDS), st.sampled_from([None, *VRS]), VALUES),
        min_size=1,
        max_size=4,
    ),
    everywhere=st.booleans(),
    implicit=st.booleans(),
)
def test_headers_that_break_rules_are_read_or_refused(
    *, changes: list[tuple[str, str | None, bytes]], everywhere: bool, implicit: bool
) -> None:
    contents = []
    for index in range(2):
        start, elements = parts(index, implicit=implicit)
        if everywhere or index == 0:
            elements = dict(elements)
            for keyword, vr, value in changes:
                tag = Tag(keyword)
                elements.pop(tag, None)
                if vr is not None:
                    elements[tag] = raw_element(tag, vr, value, implicit=implicit)
        contents.append(start + b"".join(content for _, content in sorted(elements.items())))
    use(contents)


def _rich() -> list[bytes]:
    """Make files with nested sequences and ambiguous value representations."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.PatientWeight = 70
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [2, 0, 16])
    table.LUTExplanation = "made up"
    table.add_new("LUTData", "US", [0, 1])
    series = mr_series(
        2,
        rows=4,
        columns=4,
        ReferencedImageSequence=Sequence([item]),
        VOILUTSequence=Sequence([table]),
        RescaleSlope=2,
        WindowCenter=100,
        WindowWidth=50,
    )
    for dataset in series:
        block = dataset.private_block(0x0019, "SIMULATED", create=True)
        block.add_new(0x10, "SQ", [Dataset()])
    return [encoded(dataset) for dataset in series]


RICH = _rich()


def test_the_untouched_files_are_written() -> None:
    assert use(RICH) == "written"


@pytest.mark.filterwarnings("ignore:::pydicom")
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(132, len(RICH[0]) - 1), st.integers(0, 255)), min_size=1, max_size=6
    )
)
def test_files_with_wrong_bytes_are_read_or_refused(edits: list[tuple[int, int]]) -> None:
    content = bytearray(RICH[0])
    for place, value in edits:
        content[place] = value
    use([bytes(content), RICH[1]])


@pytest.mark.filterwarnings("ignore:::pydicom")
@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(length=st.integers(0, len(RICH[0]) - 1))
def test_files_cut_short_are_refused(length: int) -> None:
    assert use([RICH[0][:length], RICH[1]]) != "written"
