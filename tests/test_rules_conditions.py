"""Conditions of rules: what matches, what does not, and what is no condition."""

import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_maker import add_averages, add_modifier, enhanced_object, mr_object, set_raw
from halfscan_plugin.acquisition import Acquisition
from halfscan_plugin.conditions import FLAGS, NUMBERS, Subject, parse_condition
from halfscan_plugin.errors import BadInput

FAST = Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=False)


def acquired(**facts: Any) -> Acquisition:
    return Acquisition(**facts)


def matches(name: str, written: Any, subject: Subject | Dataset | Acquisition) -> bool:
    if isinstance(subject, Dataset):
        subject = Subject(subject, FAST)
    elif isinstance(subject, Acquisition):
        subject = Subject(mr_object(), subject)
    return parse_condition(name, written).failure(subject) is None


def refusal(name: str, written: Any) -> str:
    with pytest.raises(BadInput) as caught:
        parse_condition(name, written)
    return str(caught.value)


# --- facts of the acquisition -----------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("written", "value", "matched"),
    [
        (">= 2", 2.0, True),
        (">=2", 2.0, True),
        (">= 2", 1.999, False),
        ("< 2", 0.5625, True),
        ("< 2", 2.0, False),
        ("<= 1.5", 1.5, True),
        ("> 1", 1.0, False),
        ("== 2", 2.0, True),
        ("== 3", 1 / 0.333333333, True),  # a factor that was written as its reciprocal
        ("!= 2", 2.0, False),
        ("!= 2", 3.0, True),
        (">= 2 and < 4", 3.0, True),
        (">= 2 and < 4", 4.0, False),
        ("> -1e2", 1.0, True),
        (2, 2.0, True),
        (2.5, 2.0, False),
        ([1, ">= 3"], 4.0, True),
        ([1, ">= 3"], 2.0, False),
        ("unknown", 1.0, False),
        ("unknown", None, True),
        ([">= 2", "unknown"], None, True),
    ],
)
def test_numbers(name: str, written: Any, value: float | None, matched: bool) -> None:  # noqa: FBT001
    assert matches(name, written, acquired(**{name: value})) is matched


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [True, False, None])
@pytest.mark.parametrize("written", [True, False, "unknown"])
def test_flags(name: str, value: bool | None, written: Any) -> None:  # noqa: FBT001
    factor = {True: 2.0, False: 1.0, None: None}[value]
    known = Acquisition(in_plane_factor=factor) if name == "accelerated" else None
    acquisition = known or acquired(**{name: value})
    assert matches(name, written, acquisition) is (
        written == ("unknown" if value is None else value)
    )


@given(
    sign=st.sampled_from(["<", "<=", ">", ">="]),
    bound=st.floats(-1e6, 1e6),
    value=st.floats(0, 1e6) | st.none(),
)
def test_a_comparison_is_what_python_says_and_never_true_of_the_unknown(
    sign: str, bound: float, value: float | None
) -> None:
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign]
    expected = value is not None and compare(value, bound)
    assert matches("averages", f"{sign} {bound!r}", Acquisition(averages=value)) is expected


@given(bound=st.floats(0, 100), value=st.floats(0, 100) | st.none())
def test_opposite_comparisons_share_nothing_and_leave_only_the_unknown(
    bound: float, value: float | None
) -> None:
    acquisition = Acquisition(in_plane_factor=value)
    found = [
        matches("in_plane_factor", written, acquisition)
        for written in (f"< {bound!r}", f">= {bound!r}", "unknown")
    ]
    assert sum(found) == 1
    assert found[2] is (value is None)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=4), st.floats(0, 10) | st.none())
def test_a_list_is_any_of_its_alternatives(bounds: list[float], value: float | None) -> None:
    acquisition = Acquisition(averages=value)
    written = [f"< {bound!r}" for bound in bounds]
    one_by_one = [matches("averages", one, acquisition) for one in written]
    assert matches("averages", written, acquisition) is any(one_by_one)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("few", "'few'"),
        ("2", "'2'"),
        ("=> 2", "'=> 2'"),
        ("> 2 or < 1", "'> 2 or < 1'"),
        (">= 2 and", "'>= 2 and'"),
        ("> x", "'> x'"),
        ("Unknown", "'Unknown'"),
        ("", "''"),
        (True, "True"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ({"regex": "2"}, "{'regex': '2'}"),
        ([["< 2"]], "['< 2']"),
        (["< 2", "many"], "'many'"),
    ],
)
@pytest.mark.parametrize("name", ["averages", "EchoTime"])
def test_what_is_no_comparison(name: str, written: Any, shown: str) -> None:
    assert refusal(name, written) == (
        f"{name} must be a comparison such as '< 2' or '>= 2 and < 4', a number or 'unknown', "
        f"got {shown}"
    )


@pytest.mark.parametrize("written", ["yes", "true", 1, "< 2", {}])
def test_what_is_no_flag(written: Any) -> None:
    assert refusal("deep_learning", written) == (
        f"deep_learning must be true or false, without quotes, or 'unknown', got {written!r}"
    )


def test_an_empty_list_matches_nothing_and_is_refused() -> None:
    assert refusal("averages", []).endswith("got an empty list")


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        ([1, 0, 0, 0, 1, 0], "transverse"),
        ([0, 1, 0, 0, 0, -1], "sagittal"),
        ([1, 0, 0, 0, 0, -1], "coronal"),
        ([0, 1, 0, 1, 0, 0], "transverse"),  # rows and columns exchanged
        ([0.7071, 0.7071, 0, -0.7071, 0.7071, 0], "transverse"),  # turned in its plane
        ([1, 0, 0, 0, 0.9063, -0.4226], "transverse"),  # tilted by 25 degrees, as discs are
        ([1, 0, 0, 0, 0.7071, -0.7071], "oblique"),
    ],
)
def test_orientation(cosines: list[float], plane: str) -> None:
    header = mr_object(ImageOrientationPatient=cosines)
    assert matches("orientation", plane, header)
    others = [p for p in ("sagittal", "transverse", "coronal", "oblique") if p != plane]
    assert not matches("orientation", others, header)
    assert not matches("orientation", "unknown", header)


@pytest.mark.parametrize("cosines", [None, [1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]])
def test_an_orientation_that_is_none_is_unknown(cosines: list[float] | None) -> None:
    header = mr_object(ImageOrientationPatient=cosines)
    assert matches("orientation", "unknown", header)
    assert not matches("orientation", ["sagittal", "transverse", "coronal", "oblique"], header)


def test_the_orientation_of_an_enhanced_object_is_that_of_its_frames() -> None:
    header = enhanced_object()
    plane = Dataset()
    plane.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header.PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence = Sequence([plane])
    assert matches("orientation", "sagittal", header)


def test_another_name_of_a_plane_is_refused() -> None:
    assert refusal("orientation", "axial") == (
        "orientation must be one of sagittal, coronal, transverse, oblique (axial is transverse), "
        "got 'axial'"
    )


# --- DICOM keywords ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value", "matched"),
    [
        ("KNEE", "KNEE", True),
        ("knee", "KNEE", True),
        ("KNEE", "LKNEE", False),
        ("*KNEE", "LKNEE", True),
        ("K?EE", "KNEE", True),
        ("K?EE", "KNNEE", False),
        (["HIP", "KNEE"], "KNEE", True),
        (["HIP", "*EL*"], "KNEE", False),
        ({"regex": "^KN"}, "KNEE", True),
        ({"regex": "^kn"}, "KNEE", True),
        ({"regex": "N$"}, "KNEE", False),
        ("KNEE", None, False),
        ("*", None, False),
        ("*", "", False),
        ("unknown", None, True),
        ("unknown", "", True),
        ("unknown", "KNEE", False),
        ({"regex": ".*"}, None, False),
        ({"regex": "unknown"}, "UNKNOWN", True),
    ],
)
def test_texts(written: Any, value: str | None, matched: bool) -> None:  # noqa: FBT001
    assert matches("BodyPartExamined", written, mr_object(BodyPartExamined=value)) is matched


@pytest.mark.parametrize(
    ("written", "matched"),
    [("SE", True), ("IR", True), ("EP", False), ("SE\\IR", True), ("SE*", True), ("IR\\SE", False)],
)
def test_one_of_several_values_is_enough(written: str, matched: bool) -> None:  # noqa: FBT001
    assert matches("ScanningSequence", written, mr_object(ScanningSequence=["SE", "IR"])) is matched


@pytest.mark.parametrize(
    ("keyword", "value", "written", "matched"),
    [
        ("EchoTime", "90", ">= 80 and < 100", True),
        ("EchoTime", "90", 90, True),
        ("EchoTime", None, "< 1000", False),
        ("EchoTime", None, "unknown", True),
        ("MagneticFieldStrength", "1.5", "< 2", True),
        ("Rows", 256, ">= 256", True),
        ("PixelSpacing", [0.5, 0.7], "> 0.6", True),
        ("SmallestImagePixelValue", 0, 0, True),
    ],
)
def test_numeric_attributes(keyword: str, value: Any, written: Any, matched: bool) -> None:  # noqa: FBT001
    assert matches(keyword, written, mr_object(**{keyword: value})) is matched


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_value_that_cannot_be_read_is_unknown() -> None:
    header = set_raw(mr_object(), "EchoTime", "DS", b"abc ")
    assert matches("EchoTime", "unknown", header)
    assert not matches("EchoTime", "> -1e9", header)


def test_enhanced_objects_are_searched_in_their_functional_groups() -> None:
    header = add_averages(add_modifier(enhanced_object(), ParallelAcquisition="YES"), 3)
    assert matches("ParallelAcquisition", "yes", header)
    assert matches("NumberOfAverages", 3, header)
    assert matches("BodyPartExamined", "unknown", header)


def test_the_top_level_comes_before_the_functional_groups() -> None:
    header = add_averages(enhanced_object(NumberOfAverages=1), 3)
    assert matches("NumberOfAverages", 1, header)
    assert not matches("NumberOfAverages", 3, header)


def test_the_transfer_syntax_stands_in_the_file_meta_information() -> None:
    header = mr_object()
    assert matches("TransferSyntaxUID", "1.2.840.10008.1.2.1", header)
    del header.file_meta
    assert matches("TransferSyntaxUID", "unknown", header)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="*?\\"), min_size=1))
def test_a_text_without_stars_matches_itself_alone(text: str) -> None:
    if not text.strip() or text == "unknown" or text.lstrip()[:1] in tuple("<>=!"):
        return
    condition = parse_condition("SeriesDescription", text)
    assert condition.test.matches([text])
    assert not condition.test.matches([text + "x"])
    assert not condition.test.matches(["x" + text])
    assert not condition.test.matches([])


@given(
    start=st.text("abc[].(+", max_size=5),
    middle=st.text(max_size=5),
    end=st.text("xyz)$^|", max_size=5),
)
def test_a_star_stands_for_anything_and_other_signs_for_themselves(
    start: str, middle: str, end: str
) -> None:
    written = f"{start}*{end}"
    condition = parse_condition("SeriesDescription", written)
    assert condition.test.matches([f"{start}{middle}{end}".strip() or "x"])


@pytest.mark.parametrize("written", [3, True, "", "  ", "> 5", {}, {"glob": "x"}, {"regex": 3}])
def test_what_is_no_text(written: Any) -> None:
    assert refusal("StationName", written) == (
        "StationName must be a text, a pattern such as 'T2*' or { regex = '...' }, "
        f"got {written!r}"
    )


def test_a_bad_regular_expression_is_named() -> None:
    message = refusal("SeriesDescription", {"regex": "t2_(tse"})
    assert message.startswith("SeriesDescription: 't2_(tse' is no regular expression: missing )")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BodyPart", "; did you mean BodyPartExamined?"),
        ("bodypartexamined", "; did you mean BodyPartExamined?"),
        ("average", "; did you mean averages?"),
        ("inplane_factor", "; did you mean in_plane_factor?"),
        ("SeriesDescripton", "; did you mean SeriesDescription?"),
        ("qqqqq", ""),
        ("", ""),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name: str, hint: str) -> None:
    assert refusal(name, "x") == (
        f"{name!r} is neither a fact of the acquisition nor a DICOM keyword{hint}"
    )


@pytest.mark.parametrize(
    "name", ["SharedFunctionalGroupsSequence", "PixelData", "RedPaletteColorLookupTableData"]
)
def test_attributes_without_text_and_number_are_refused(name: str) -> None:
    assert refusal(name, "x").startswith(f"{name} holds no text and no number (")


# --- what a failure says ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("averages", ">= 2", "averages >= 2: no, it is 1"),
        ("averages", 2, "averages is 2: no, it is 1"),
        ("averages", ["unknown", ">= 2"], "averages is unknown or >= 2: no, it is 1"),
        ("slice_factor", ">= 2", "slice_factor >= 2: no, it is unknown"),
        ("accelerated", False, "accelerated is false: no, it is true"),
        ("orientation", "sagittal", "orientation is 'sagittal': no, it is transverse"),
        ("SeriesDescription", "pd*", "SeriesDescription like 'pd*': no, it is t2_tse_sag"),
        ("ImageType", {"regex": "x"}, "ImageType matches /x/: no, it is ORIGINAL\\PRIMARY\\M\\ND"),
        ("StationName", "mr1", "StationName is 'mr1': no, it is unknown"),
    ],
)
def test_a_failure_gives_the_condition_and_the_value(name: str, written: Any, says: str) -> None:
    assert parse_condition(name, written).failure(Subject(mr_object(), FAST)) == says


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "ReferringPhysicianName"])
def test_a_failure_does_not_show_what_belongs_to_a_patient(keyword: str) -> None:
    header = mr_object(**{keyword: "Phantom"})
    assert matches(keyword, "phantom*", header)
    failure = parse_condition(keyword, "x").failure(Subject(header, FAST))
    assert failure == f"{keyword} is 'x': no, it is another, not shown"


def test_a_failure_keeps_control_characters_out() -> None:
    header = mr_object(SeriesDescription="a\x1b[2Jb")
    failure = parse_condition("SeriesDescription", "x").failure(Subject(header, FAST))
    assert failure == "SeriesDescription is 'x': no, it is a?[2Jb"
