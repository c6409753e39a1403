"""How a series was accelerated, read from the layouts that scanners write."""

import json
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import LegacyConvertedEnhancedMRImageStorage, RawDataStorage

from dicom_maker import (
    add_averages,
    add_block,
    add_modifier,
    add_siemens_classic,
    add_siemens_xa,
    add_siemens_xa_enhanced,
    enhanced_object,
    mr_object,
    reread,
    set_raw,
    set_vr,
)
from halfscan_plugin.acquisition import Acquisition, read_acquisition

Answer = bool | None  # None: unknown
FACTS = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
    "partial_fourier",
    "deep_learning",
)


def facts(acquisition: Acquisition) -> dict[str, Any]:
    """Give what is known."""
    values = {name: getattr(acquisition, name) for name in FACTS}
    return {name: value for name, value in values.items() if value is not None}


def check(header: Dataset, accelerated: Answer, **expected: Any) -> Acquisition:
    """Read a header from memory and from a file, and compare."""
    acquisition = read_acquisition(header)
    assert acquisition == read_acquisition(reread(header))
    assert facts(acquisition) == expected
    assert acquisition.accelerated is accelerated
    for item in acquisition.evidence:
        assert item.tag.startswith("(")
        assert item.name
        assert item.says
    return acquisition


def classic(**attributes: Any) -> Dataset:
    """Make an object that does not say whether it is 2D, from which something would follow."""
    return mr_object(MRAcquisitionType=None, **attributes)


def enhanced(**attributes: Any) -> Dataset:
    """Do the same for an enhanced one."""
    header = enhanced_object(**attributes)
    del header.MRAcquisitionType
    return header


def test_without_any_tag_nothing_is_known() -> None:
    acquisition = check(classic(), None)
    assert acquisition.evidence == ()


OFF = {"in_plane_factor": 1.0, "slice_factor": 1.0}
PUBLIC = [
    ({"ParallelReductionFactorInPlane": 2.0}, True, {"in_plane_factor": 2.0}),
    ({"ParallelReductionFactorInPlane": 1.99}, False, {"in_plane_factor": 1.99}),
    ({"ParallelReductionFactorInPlane": 1.0}, False, {"in_plane_factor": 1.0}),
    ({"ParallelReductionFactorOutOfPlane": 2.0}, True, {"slice_factor": 2.0}),
    ({"ParallelReductionFactorOutOfPlane": 1.0}, None, {"slice_factor": 1.0}),
    (
        {"ParallelReductionFactorInPlane": 1.5, "ParallelReductionFactorOutOfPlane": 1.4},
        False,
        {"in_plane_factor": 1.5, "slice_factor": 1.4},
    ),
    # Some exports write YES with every factor 1.0: the factors are believed.
    (
        {"ParallelAcquisition": "YES", "ParallelReductionFactorInPlane": 1.0},
        False,
        {"in_plane_factor": 1.0},
    ),
    # On, but by how much? Of an unknown vendor nothing says that it was 2 or more.
    ({"ParallelAcquisition": "YES", "ParallelAcquisitionTechnique": "SPEEDER"}, None, {}),
    ({"ParallelAcquisition": "NO"}, False, OFF),
    # A technique left over from another protocol says nothing, but that it is no other.
    (
        {"ParallelAcquisition": "NO", "ParallelAcquisitionTechnique": "SENSE"},
        False,
        {**OFF, "compressed_sensing_factor": 1.0},
    ),
    ({"ParallelAcquisition": "NO", "ParallelAcquisitionTechnique": "CSENSE"}, False, OFF),
    # A factor is believed against the flag.
    (
        {"ParallelAcquisition": "NO", "ParallelReductionFactorInPlane": 2.0},
        True,
        {"in_plane_factor": 2.0, "slice_factor": 1.0},
    ),
    # Slices excited at once do not count as acceleration.
    (
        {
            "ParallelReductionFactorInPlane": 1.5,
            "ParallelReductionFactorOutOfPlane": 3.0,
            "ParallelAcquisitionTechnique": "MBSENSE",
        },
        False,
        {
            "in_plane_factor": 1.5,
            "slice_factor": 1.0,
            "multiband_factor": 3.0,
            "compressed_sensing_factor": 1.0,
        },
    ),
    # SMS and 1.0 stand there with any number of slices at once.
    (
        {
            "ParallelReductionFactorInPlane": 2.0,
            "ParallelReductionFactorOutOfPlane": 1.0,
            "ParallelAcquisitionTechnique": "SMS",
        },
        True,
        {"in_plane_factor": 2.0, "slice_factor": 1.0, "compressed_sensing_factor": 1.0},
    ),
    (
        {
            "ParallelReductionFactorInPlane": 1.0,
            "ParallelReductionFactorOutOfPlane": 2.0,
            "ParallelAcquisitionTechnique": "SMS",
        },
        False,
        {
            "in_plane_factor": 1.0,
            "slice_factor": 1.0,
            "multiband_factor": 2.0,
            "compressed_sensing_factor": 1.0,
        },
    ),
    (
        {
            "ParallelReductionFactorInPlane": 2.0,
            "ParallelReductionFactorOutOfPlane": 1.5,
            "ParallelAcquisitionTechnique": "CSENSE",
        },
        True,
        {"in_plane_factor": 2.0, "slice_factor": 1.5, "compressed_sensing_factor": 3.0},
    ),
    # Compressed sensing was on, by a factor that is not written.
    (
        {"ParallelReductionFactorInPlane": 1.0, "ParallelAcquisitionTechnique": "CS"},
        True,
        {"in_plane_factor": 1.0},
    ),
    ({"PartialFourier": "YES"}, None, {"partial_fourier": True}),
    ({"PartialFourier": "NO"}, None, {"partial_fourier": False}),
    ({"NumberOfAverages": "2"}, None, {"averages": 2.0}),
    ({"NumberOfAverages": "0.5625"}, None, {"averages": 0.5625}),
    ({"NumberOfAverages": "1.0000"}, None, {"averages": 1.0}),
]


@pytest.mark.parametrize(("tags", "accelerated", "expected"), PUBLIC)
def test_public_tags_of_classic_objects(
    tags: dict[str, Any], accelerated: Answer, expected: dict[str, Any]
) -> None:
    check(classic(**tags), accelerated, **expected)


@pytest.mark.parametrize(("tags", "accelerated", "expected"), PUBLIC)
def test_public_tags_of_enhanced_objects(
    tags: dict[str, Any], accelerated: Answer, expected: dict[str, Any]
) -> None:
    averages = tags.get("NumberOfAverages")
    others = {name: value for name, value in tags.items() if name != "NumberOfAverages"}
    header = add_modifier(enhanced(), **others)
    if averages is not None:
        add_averages(header, averages)
    check(header, accelerated, **expected)


@pytest.mark.parametrize(("tags", "accelerated", "expected"), PUBLIC)
def test_public_tags_at_the_top_level_of_enhanced_objects(
    tags: dict[str, Any], accelerated: Answer, expected: dict[str, Any]
) -> None:
    check(enhanced(**tags), accelerated, **expected)


@pytest.mark.parametrize(("tags", "accelerated", "expected"), PUBLIC)
@pytest.mark.parametrize("group", ["Shared", "PerFrame"])
def test_public_tags_of_legacy_converted_objects(
    tags: dict[str, Any], accelerated: Answer, expected: dict[str, Any], group: str
) -> None:
    header = enhanced()
    header.SOPClassUID = LegacyConvertedEnhancedMRImageStorage
    header.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedMRImageStorage
    place = Dataset()
    for keyword, value in tags.items():
        setattr(place, keyword, value)
    sequence = f"Unassigned{group}ConvertedAttributesSequence"
    setattr(header[f"{group}FunctionalGroupsSequence"].value[0], sequence, Sequence([place]))
    check(header, accelerated, **expected)


def test_slices_of_a_2d_series_share_no_encoding() -> None:
    header = mr_object(ParallelReductionFactorInPlane=2.0)
    acquisition = check(header, True, in_plane_factor=2.0, slice_factor=1.0)
    assert acquisition.evidence[-1].tag == "(0018,0023)"
    check(mr_object(), None, slice_factor=1.0)
    volume = mr_object(ParallelReductionFactorInPlane=2.0, MRAcquisitionType="3D")
    check(volume, True, in_plane_factor=2.0)


def test_in_3d_no_slices_are_excited_at_once() -> None:
    header = mr_object(
        MRAcquisitionType="3D",
        ParallelReductionFactorOutOfPlane=2.0,
        ParallelAcquisitionTechnique="MBSENSE",
    )
    check(header, True, slice_factor=2.0, compressed_sensing_factor=1.0)
    del header.ParallelReductionFactorOutOfPlane
    check(header, None, compressed_sensing_factor=1.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [("PFP", {"partial_fourier": True}), (["FS", "PFF"], {"partial_fourier": True}), ("FS", {})],
)
def test_partial_fourier_among_the_options(options: Any, expected: dict[str, Any]) -> None:
    check(classic(ScanOptions=options), None, **expected)


def test_a_factor_at_the_top_level_goes_with_a_modifier_that_lacks_it() -> None:
    header = enhanced(ParallelReductionFactorInPlane=2.0)
    check(add_modifier(header, ParallelAcquisition="YES"), True, in_plane_factor=2.0)


def test_a_factor_in_the_modifier_is_believed_against_a_flag_at_the_top_level() -> None:
    header = add_modifier(enhanced(ParallelAcquisition="NO"), ParallelReductionFactorInPlane=2.0)
    check(header, True, in_plane_factor=2.0, slice_factor=1.0)


def test_an_attribute_that_says_otherwise_is_shown() -> None:
    header = enhanced(ParallelReductionFactorInPlane=2.0)
    acquisition = check(
        add_modifier(header, ParallelReductionFactorInPlane=3.0), True, in_plane_factor=2.0
    )
    assert [item.says for item in acquisition.evidence] == [
        "factor in plane 2",
        "factor in plane 3: disagrees, not used",
    ]


def test_averages_that_differ_between_frames_are_no_number() -> None:
    header = add_averages(enhanced(frames=3), 1)
    header.PerFrameFunctionalGroupsSequence[2].MRAveragesSequence[0].NumberOfAverages = "4"
    acquisition = check(header, None)
    assert [item.says for item in acquisition.evidence] == ["averages 1", "averages 4"]
    assert acquisition.values("averages") == [1.0, 4.0]
    assert len(header.PerFrameFunctionalGroupsSequence) == 3, "the header is left as it was"


def test_averages_stand_in_the_groups_of_each_frame() -> None:
    acquisition = check(add_averages(enhanced(frames=5), 1.5), None, averages=1.5)
    assert [item.tag for item in acquisition.evidence] == ["(0018,0083)"]


def test_evidence_names_the_tag_the_value_and_what_it_says() -> None:
    header = classic(
        ParallelReductionFactorInPlane=2.0,
        ParallelAcquisition="YES",
        ParallelAcquisitionTechnique="GRAPPA",
        NumberOfAverages=1,
    )
    evidence = {item.tag: item for item in read_acquisition(header).evidence}
    assert set(evidence) == {"(0018,9069)", "(0018,9077)", "(0018,9078)", "(0018,0083)"}
    factor = evidence["(0018,9069)"]
    assert factor.name == "ParallelReductionFactorInPlane"
    assert factor.value == "2.0"
    assert factor.says == "factor in plane 2"
    assert "GRAPPA" in evidence["(0018,9078)"].says


def _raw_average(value: bytes) -> Dataset:
    return set_raw(classic(), "NumberOfAverages", "DS", value)


UNREADABLE = [
    (set_vr(classic(), "ParallelReductionFactorInPlane", "LO", "fast"), "fast"),
    (set_vr(classic(), "ParallelReductionFactorInPlane", "LO", ["2", "3"]), "2\\3"),
    (classic(ParallelReductionFactorInPlane=[2.0, 3.0]), "2.0\\3.0"),
    (classic(ParallelReductionFactorInPlane=-2.0), "-2.0"),
    (classic(ParallelReductionFactorInPlane=0.0), "0.0"),
    (classic(ParallelReductionFactorInPlane=float("nan")), "nan"),
    (classic(ParallelReductionFactorInPlane=float("inf")), "inf"),
    (_raw_average(b"one "), "one"),
    (_raw_average(b"1\\2 "), "1\\2"),
    (_raw_average(b"-1"), "-1"),
    (_raw_average(b"0 "), "0"),
    (_raw_average(b"nan "), "nan"),
    (_raw_average(b"1,5 "), "1,5"),
    (set_raw(classic(), "ParallelReductionFactorInPlane", "FD", b"123"), "123"),
    (set_raw(classic(), "NumberOfAverages", "UN", b"\xff\x00\xfe\x01"), None),
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("header", "shown"), UNREADABLE)
def test_a_value_that_is_no_positive_number_is_evidence_and_no_fact(
    header: Dataset, shown: str | None
) -> None:
    acquisition = read_acquisition(header)
    assert facts(acquisition) == {}
    assert acquisition.accelerated is None
    (item,) = acquisition.evidence
    assert item.says.endswith("unreadable")
    assert shown is None or item.value == shown
    json.dumps(acquisition.as_dict(), allow_nan=False)


@pytest.mark.parametrize("vr", ["DS", "FD", "LO", "UN"])
def test_an_empty_value_is_as_good_as_none(vr: str) -> None:
    header = set_raw(classic(), "NumberOfAverages", vr, b"")
    assert read_acquisition(header) == Acquisition()


def test_evidence_is_short_and_printable() -> None:
    header = set_vr(classic(), "NumberOfAverages", "LT", "a\x00b\x1b[2J" + "x" * 5000)
    (item,) = read_acquisition(header).evidence
    assert item.value.startswith("a?b?[2J")
    assert len(item.value) <= 200
    assert item.value.isprintable()


@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize(
    ("text", "accelerated", "expected"),
    [
        ("p2", True, {"in_plane_factor": 2.0}),
        ("P2", True, {"in_plane_factor": 2.0}),
        ("p4", True, {"in_plane_factor": 4.0}),
        ("p1", False, {"in_plane_factor": 1.0}),
        ("p2 s3", True, {"in_plane_factor": 2.0, "multiband_factor": 3.0}),
        ("s2", False, {"in_plane_factor": 1.0, "multiband_factor": 2.0}),
        (" p3 ", True, {"in_plane_factor": 3.0}),
        (None, False, {"in_plane_factor": 1.0}),  # absent: not accelerated
        ("", None, {}),  # emptied, perhaps: what it held is not known
        ("p", None, {}),
        ("p2x2", None, {}),
        ("p0", None, {}),
        ("CS4", None, {}),
        ("0.5\\1", None, {}),
    ],
)
@pytest.mark.parametrize("layout", [add_siemens_classic, add_siemens_xa])
def test_siemens_text(
    layout: Any,
    text: str | None,
    accelerated: Answer,
    expected: dict[str, Any],
    others: int,
) -> None:
    header = layout(mr_object(), text, others=others)
    acquisition = check(header, accelerated, deep_learning=False, slice_factor=1.0, **expected)
    private = [item for item in acquisition.evidence if item.name.startswith("[SIEMENS")]
    assert private, "the text, or its absence, is evidence"
    if text and text.strip():
        assert private[0].tag == f"({header_group(layout)},{0x10 + others:02X}{low(layout)})"
    else:
        says = {None: "absent: not accelerated", "": "there, but empty: says nothing"}
        assert private[0].says == says[text]


def header_group(layout: Any) -> str:
    return "0051" if layout is add_siemens_classic else "0021"


def low(layout: Any) -> str:
    return "11" if layout is add_siemens_classic else "09"


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize(
    ("text", "accelerated", "expected"),
    [
        ("p2", True, {"in_plane_factor": 2.0}),
        ("p2 s3", True, {"in_plane_factor": 2.0, "multiband_factor": 3.0}),
        (None, False, {"in_plane_factor": 1.0}),
    ],
)
def test_siemens_xa_enhanced(
    text: str | None, accelerated: Answer, expected: dict[str, Any], others: int
) -> None:
    header = add_siemens_xa_enhanced(enhanced_object(), text, others=others)
    check(header, accelerated, deep_learning=False, slice_factor=1.0, **expected)


def test_siemens_xa_enhanced_with_public_tags_takes_those() -> None:
    header = add_modifier(
        enhanced_object(),
        ParallelAcquisition="YES",
        ParallelReductionFactorInPlane=1.0,
        ParallelAcquisitionTechnique="SMS",
    )
    add_siemens_xa_enhanced(header, "s2")
    check(
        header,
        False,
        in_plane_factor=1.0,
        slice_factor=1.0,
        multiband_factor=2.0,
        compressed_sensing_factor=1.0,
        deep_learning=False,
    )


def test_only_siemens_is_read_as_siemens() -> None:
    header = add_siemens_classic(mr_object(), "p2")
    header.Manufacturer = "Philips"
    check(header, None, slice_factor=1.0)


def test_a_foreign_block_at_siemens_place_is_not_read() -> None:
    header = mr_object(Manufacturer="SIEMENS")
    block = add_block(header, 0x0051, "SOMEBODY ELSE")
    header.add_new(block + 0x11, "LO", "p2")
    check(header, None, slice_factor=1.0, deep_learning=False)


def test_a_block_that_an_anonymiser_emptied_says_nothing() -> None:
    header = mr_object(Manufacturer="SIEMENS")
    add_block(header, 0x0051, "SIEMENS MR HEADER")
    check(header, None, slice_factor=1.0, deep_learning=False)


def test_siemens_text_without_its_private_creator_is_not_read() -> None:
    header = mr_object(Manufacturer="SIEMENS")
    header.add_new(0x00511011, "LO", "p2")
    check(header, None, slice_factor=1.0, deep_learning=False)


def test_siemens_text_of_unknown_representation_is_read() -> None:
    header = add_siemens_classic(mr_object(), None)
    header.add_new(0x00511011, "UN", b"p2")
    assert read_acquisition(header).in_plane_factor == 2.0


@pytest.mark.parametrize("token", ["DRB", "DRG", "DRS"])
def test_deep_resolve_in_the_image_type(token: str) -> None:
    image_type = ["ORIGINAL", "PRIMARY", "M", "NORM", token, "DIS2D"]
    header = add_siemens_xa(mr_object(ImageType=image_type), "p2")
    acquisition = check(header, True, in_plane_factor=2.0, slice_factor=1.0, deep_learning=True)
    (item,) = (i for i in acquisition.evidence if i.name == "ImageType")
    assert token in item.says


def test_deep_resolve_in_the_private_image_type() -> None:
    header = add_siemens_xa(mr_object(), "p2", tokens=["DRB"])
    check(header, True, in_plane_factor=2.0, slice_factor=1.0, deep_learning=True)


@pytest.mark.parametrize(("tokens", "expected"), [(["DRB"], True), (["DIS2D"], False)])
def test_deep_resolve_of_enhanced_objects(tokens: list[str], expected: Answer) -> None:
    header = add_siemens_xa_enhanced(enhanced_object(), "p2", tokens=tokens)
    check(header, True, in_plane_factor=2.0, slice_factor=1.0, deep_learning=expected)


def test_the_image_type_of_an_enhanced_object_cannot_deny_deep_resolve() -> None:
    header = add_modifier(
        enhanced_object(Manufacturer="Siemens Healthineers"), ParallelReductionFactorInPlane=2.0
    )
    check(header, True, in_plane_factor=2.0, slice_factor=1.0)


def test_a_token_within_a_word_is_no_marker() -> None:
    header = add_siemens_classic(mr_object(ImageType=["ORIGINAL", "PRIMARY", "M", "DRBX"]), "p2")
    check(header, True, in_plane_factor=2.0, slice_factor=1.0, deep_learning=False)


def test_other_vendors_deep_learning_is_unknown() -> None:
    header = mr_object(Manufacturer="CANON_MEC", ParallelReductionFactorInPlane=2.0)
    assert read_acquisition(header).deep_learning is None


def test_raw_data_with_a_protocol_tell_nothing_of_an_image() -> None:
    header = mr_object(SOPClassUID=RawDataStorage, ParallelReductionFactorInPlane=1.0)
    assert read_acquisition(header) == Acquisition()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "keyword", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
)
@pytest.mark.parametrize(
    ("vr", "value"), [("LO", b"no sequence"), ("UN", b"\x01\x02"), ("SQ", b"")]
)
def test_groups_that_are_no_sequence_say_nothing(keyword: str, vr: str, value: bytes) -> None:
    header = set_raw(enhanced_object(Manufacturer="SIEMENS"), keyword, vr, value)
    assert read_acquisition(header).accelerated is None


def test_as_dict_holds_the_public_names() -> None:
    report = read_acquisition(add_siemens_classic(mr_object(NumberOfAverages=1), "p2")).as_dict()
    assert list(report) == ["accelerated", *FACTS, "technique", "differing", "evidence"]
    assert report["accelerated"] is True
    assert all(set(item) == {"tag", "name", "value", "says"} for item in report["evidence"])
    assert json.loads(json.dumps(report)) == report
