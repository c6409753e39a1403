"""What is skipped before any rule, whichever vendor wrote it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_maker import add_block, enhanced_object, mr_object, mr_series, set_raw
from halfscan_plugin.acquisition import Acquisition
from halfscan_plugin.components import not_magnitude
from halfscan_plugin.exclusions import find_exclusion
from halfscan_plugin.maps import MAPS
from halfscan_plugin.planes import distinct_normals, is_three_planes, object_orientations
from halfscan_plugin.rules import Rule, Rules, decide

FAST = Acquisition(in_plane_factor=2.0, averages=1.0)
EVERYTHING = Rules((Rule("everything", "reconstruct"),))


def with_frames(*frames: dict[str, Any], shared: dict[str, Any] | None = None) -> Dataset:
    """Make an enhanced object whose frames say of themselves what they show."""
    header = enhanced_object(len(frames) or 2)
    if shared is not None:
        header.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence = Sequence([item(shared)])
    for group, attributes in zip(header.PerFrameFunctionalGroupsSequence, frames, strict=False):
        group.MRImageFrameTypeSequence = Sequence([item(attributes)])
    return header


def item(attributes: dict[str, Any]) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def ge(value: int | None, *, others: int = 0, vr: str = "SS") -> Dataset:
    """Make a GE object with (0043,xx2F)."""
    header = mr_object(
        Manufacturer="GE MEDICAL SYSTEMS", ImageType=["ORIGINAL", "PRIMARY", "OTHER"]
    )
    block = add_block(header, 0x0043, "GEMS_PARM_01", others=others)
    if value is not None:
        header.add_new(block + 0x2F, vr, value)
    return header


def image_type(*values: str) -> Dataset:
    return mr_object(ImageType=["ORIGINAL", "PRIMARY", *values])


def as_text(*values: str) -> Dataset:
    """Make an object whose ImageType breaks the rules of a code string."""
    header = mr_object()
    header.add_new("ImageType", "LO", list(values))
    return header


COMPUTED: list[tuple[str, Callable[[], Dataset], str]] = [
    ("MIP that calls itself original", lambda: image_type("M", "ND", "MIP"), "ImageType"),
    ("minimum of SWI", lambda: image_type("MNIP", "ND", "NORM"), "ImageType"),
    ("reformat", lambda: image_type("MPR", "ND"), "ImageType"),
    ("Philips", lambda: image_type("PROJECTION IMAGE", "M", "FFE"), "ImageType"),
    (
        "technique of an enhanced object",
        lambda: enhanced_object(VolumeBasedCalculationTechnique="MAX_IP"),
        "VolumeBasedCalculationTechnique is MAX_IP",
    ),
    (
        "technique of a frame",
        lambda: with_frames({"VolumeBasedCalculationTechnique": "CURVED_MPR"}),
        "VolumeBasedCalculationTechnique is CURVED_MPR",
    ),
    (
        "projection in a frame",
        lambda: with_frames({"FrameType": ["ORIGINAL", "PRIMARY", "ANGIO", "MAX_IP"]}),
        "FrameType",
    ),
]


@pytest.mark.parametrize(("name", "make", "says"), COMPUTED, ids=[n[0] for n in COMPUTED])
def test_what_was_computed_from_a_volume(name: str, make: Callable[[], Dataset], says: str) -> None:
    found = find_exclusion([make()])
    assert found is not None, name
    assert (found.code, found.possible) == ("derived", True)
    assert found.reason.startswith("is computed from a volume: ")
    assert says in found.reason


def test_a_volume_that_was_not_computed() -> None:
    assert find_exclusion([enhanced_object(VolumeBasedCalculationTechnique="NONE")]) is None


NOT_MAGNITUDE: list[tuple[str, Callable[[], Dataset], str]] = [
    (
        "Siemens phase",
        lambda: image_type("P", "ND"),
        r"(0008,0008) ImageType is ORIGINAL\PRIMARY\P",
    ),
    ("Siemens real", lambda: image_type("R", "ND", "DIS2D"), "ImageType"),
    ("Philips phase", lambda: image_type("PHASE MAP", "P", "FFE"), "ImageType"),
    ("Philips real", lambda: image_type("R_IR", "R", "IR"), "ImageType"),
    ("Philips imaginary", lambda: image_type("I_SE", "I", "SE"), "ImageType"),
    ("Philips velocity", lambda: image_type("VELOCITY MAP", "P", "PCA"), "ImageType"),
    ("fourth value", lambda: image_type("M_FFE", "P", "FFE"), "ImageType"),
    ("small letters", lambda: as_text("ORIGINAL", "PRIMARY", "phase "), "ImageType"),
    (
        "component of a classic object",
        lambda: mr_object(ComplexImageComponent="PHASE"),
        "(0008,9208) ComplexImageComponent is PHASE",
    ),
    (
        "component of an enhanced object",
        lambda: enhanced_object(ComplexImageComponent="MIXED"),
        "ComplexImageComponent is MIXED",
    ),
    (
        "component of all frames",
        lambda: with_frames(shared={"ComplexImageComponent": "IMAGINARY"}),
        "ComplexImageComponent is IMAGINARY",
    ),
    (
        "component of the last frame",
        lambda: with_frames(
            {"ComplexImageComponent": "MAGNITUDE"}, {"ComplexImageComponent": "REAL"}
        ),
        "ComplexImageComponent is REAL",
    ),
    (
        "type of the last frame",
        lambda: with_frames(
            {"FrameType": ["ORIGINAL", "PRIMARY", "T1", "M"]},
            {"FrameType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P"]},
        ),
        "(0008,9007) FrameType is",
    ),
    ("GE phase", lambda: ge(1), "(0043,102F) [GEMS_PARM_01] xx2F is 1"),
    ("GE real", lambda: ge(2), "a real part"),
    ("GE imaginary", lambda: ge(3), "an imaginary part"),
    ("GE behind other blocks", lambda: ge(1, others=2), "(0043,122F)"),
]


@pytest.mark.parametrize(("name", "make", "says"), NOT_MAGNITUDE, ids=[n[0] for n in NOT_MAGNITUDE])
def test_what_is_not_a_magnitude(name: str, make: Callable[[], Dataset], says: str) -> None:
    found = find_exclusion([mr_object(), make()])
    assert found is not None, name
    assert (found.code, found.possible) == ("not_magnitude", True)
    assert says in found.reason


MAGNITUDES: list[tuple[str, Callable[[], Dataset]]] = [
    ("Siemens", lambda: image_type("M", "NORM", "DIS2D", "MFSPLIT")),
    ("Philips", lambda: image_type("M_FFE", "M", "FFE")),
    ("Canon", lambda: image_type("GDC")),
    ("UIH", lambda: image_type("M", "VFRAME")),
    ("GE", lambda: ge(0)),
    ("GE without the element", lambda: ge(None)),
    ("GE with another value", lambda: ge(7)),
    ("GE with a text", lambda: ge("1x", vr="LO")),  # type: ignore[arg-type]  # what a file may hold
    ("nothing said", lambda: mr_object(ImageType=None)),
    ("too short", lambda: mr_object(ImageType=["ORIGINAL"])),
    ("enhanced Siemens", lambda: enhanced_object(ComplexImageComponent="MAGNITUDE")),
    (
        "enhanced Philips",
        lambda: with_frames({"FrameType": ["ORIGINAL", "PRIMARY", "T1", "M"]}),
    ),
    # Not the third value: PHYSIO, PARALLEL and the like begin with the same letter.
    ("letters", lambda: image_type("PROP", "PARALLEL", "IR", "R2")),
]


@pytest.mark.parametrize(("name", "make"), MAGNITUDES, ids=[n[0] for n in MAGNITUDES])
def test_what_is_a_magnitude(name: str, make: Callable[[], Dataset]) -> None:
    assert not_magnitude(make()) is None, name
    assert find_exclusion([make()]) is None


def test_a_series_that_the_scanner_has_corrected_for_motion() -> None:
    """Siemens' MoCoSeries calls itself original; its images were moved onto each other."""
    found = find_exclusion([image_type("M", "ND", "NORM", "MOCO", "MOSAIC")])
    assert found is not None
    assert (found.code, found.possible) == ("derived", True)
    assert "correction of motion" in found.reason


@pytest.mark.parametrize("word", [*sorted(MAPS), "T2 MAP", "T1MAP", "WEIRD_MAP"])
def test_maps(word: str) -> None:
    found = find_exclusion([image_type("M", word)])
    assert found is not None
    assert found.code == "parametric_map"
    assert word in found.reason


def test_maps_among_the_frames() -> None:
    header = with_frames(
        {"FrameType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
        {"FrameType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "ADC"]},
    )
    found = find_exclusion([header])
    assert found is not None
    assert found.reason == (
        "is a parametric map: (0008,9007) FrameType is ORIGINAL\\PRIMARY\\DIFFUSION\\ADC"
    )


def mapped(unit: str, *, frames: bool = False) -> Dataset:
    """Make an object whose Real World Value Mapping has a unit."""
    header = enhanced_object() if frames else mr_object()
    place = header.PerFrameFunctionalGroupsSequence[-1] if frames else header
    units = item({"CodeValue": unit, "CodingSchemeDesignator": "UCUM"})
    mapping = item({"MeasurementUnitsCodeSequence": Sequence([units])})
    place.RealWorldValueMappingSequence = Sequence([mapping])
    return header


def rescaled_frames(unit: str) -> Dataset:
    header = enhanced_object()
    transformed = Sequence([item({"RescaleType": unit})])
    header.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = transformed
    return header


def ge_sequence(name: str, low: int = 0x9C) -> Dataset:
    header = mr_object(Manufacturer="GE MEDICAL SYSTEMS")
    header.add_new(add_block(header, 0x0019, "GEMS_ACQU_01") + low, "LO", name)
    return header


MEASURED: list[tuple[str, Callable[[], Dataset], str]] = [
    ("Philips 11", lambda: image_type("B0", "B0", "UNSPECIFIED"), "ImageType"),
    ("Philips 5", lambda: image_type("B0 MAP", "B0", "UNSPECIFIED"), "ImageType"),
    ("field map in Hz", lambda: mr_object(RescaleType="Hz"), "(0028,1054) RescaleType is Hz"),
    ("relaxation time", lambda: mr_object(RescaleType="ms"), "RescaleType is ms"),
    ("velocity", lambda: mr_object(RescaleType="cm/s"), "RescaleType is cm/s"),
    ("diffusion", lambda: mr_object(RescaleType="10^-6 mm2/s"), "RescaleType is 10^-6 mm2/s"),
    ("fraction", lambda: mr_object(RescaleType="PCT"), "RescaleType is PCT"),
    ("frames in Hz", lambda: rescaled_frames("Hz"), "RescaleType is Hz"),
    ("mapping to Hz", lambda: mapped("Hz"), "CodeValue is Hz"),
    ("mapping of the last frame", lambda: mapped("ms", frames=True), "CodeValue is ms"),
    ("GE field map", lambda: ge_sequence("B0map"), "[GEMS_ACQU_01] xx9C is B0map"),
    ("GE field map, internal name", lambda: ge_sequence("b0map", 0x9E), "xx9E"),
]


@pytest.mark.parametrize(("name", "make", "says"), MEASURED, ids=[n[0] for n in MEASURED])
def test_maps_by_their_units(name: str, make: Callable[[], Dataset], says: str) -> None:
    found = find_exclusion([mr_object(), make()])
    assert found is not None, name
    assert (found.code, found.possible) == ("parametric_map", True)
    assert says in found.reason


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("unspecified", lambda: mr_object(RescaleType="US")),
        ("Philips", lambda: mr_object(RescaleType="normalized")),
        ("empty", lambda: mr_object(RescaleType="")),
        ("frames", lambda: rescaled_frames("US")),
        ("no units", lambda: mapped("1")),
        ("arbitrary", lambda: mapped("[arb'U]")),
        ("raw perfusion", lambda: image_type("PERFUSION", "NONE")),
        ("raw ASL", lambda: image_type("ASL", "NONE", "ND", "MOSAIC")),
        ("other sequence", lambda: ge_sequence("EFGRE3D")),
    ],
)
def test_what_is_no_map(name: str, make: Callable[[], Dataset]) -> None:
    assert find_exclusion([make()]) is None, name


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (["DERIVED", "PRIMARY", "M"], "derived"),
        (["derived", "PRIMARY", "M"], "derived"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        (["ORIGINAL", "PRIMARY", "M", "LOCALIZER"], "localizer"),
        (["ORIGINAL", "DERIVED"], None),
    ],
)
def test_image_types(values: list[str], code: str | None) -> None:
    found = find_exclusion([as_text(*values)])
    assert (found.code if found else None) == code
    if values[0].isupper():
        found = find_exclusion([with_frames({"FrameType": values})])
        assert (found.code if found else None) == code


@pytest.mark.parametrize("name", [n[0] for n in NOT_MAGNITUDE])
def test_no_rule_brings_back_what_is_excluded(name: str) -> None:
    series = [mr_object(), next(n[1] for n in NOT_MAGNITUDE if n[0] == name)()]
    decision = decide(series, FAST, EVERYTHING)
    assert (decision.action, decision.rule) == ("skip", "always: not_magnitude")
    assert decision.trials == ()


# --- localizers -------------------------------------------------------------------------------


def rotated(degrees: float) -> list[float]:
    """Give the orientation of a plane that was turned around the patient's long axis."""
    angle = np.radians(degrees)
    return [float(np.cos(angle)), float(np.sin(angle)), 0.0, 0.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("orientations", "three"),
    [
        ([[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]], True),
        ([[1, 0, 0, 0, 1, 0], rotated(5), rotated(97)], True),
        ([[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]], False),
        ([rotated(angle) for angle in range(0, 180, 15)], False),  # a radial series
        ([[1, 0, 0, 0, 1, 0], rotated(0), rotated(45)], False),
        ([[1, 0, 0, 0, 1, 0]] * 3, False),
        ([], False),
    ],
)
def test_three_planes(orientations: list[list[float]], three: bool) -> None:  # noqa: FBT001
    normals = distinct_normals(map(tuple, orientations))
    assert is_three_planes(normals) is three


def test_jitter_and_the_other_side_are_the_same_direction() -> None:
    planes = [(1, 0, 0, 0, 1, 0), (0.99999, 0.004, 0, -0.004, 0.99999, 0), (0, 1, 0, 1, 0, 0)]
    assert len(distinct_normals(planes)) == 1


@given(st.lists(st.tuples(*[st.floats(-1e200, 1e200)] * 6), max_size=5))
def test_any_numbers_for_an_orientation(orientations: list[tuple[float, ...]]) -> None:
    normals = distinct_normals(orientations)
    assert np.isfinite(normals).all()
    assert isinstance(is_three_planes(normals), bool)


def test_the_planes_of_frames_are_seen() -> None:
    header = enhanced_object(3)
    for group, cosines in zip(
        header.PerFrameFunctionalGroupsSequence,
        ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]),
        strict=True,
    ):
        group.PlaneOrientationSequence = Sequence([item({"ImageOrientationPatient": cosines})])
    assert len(object_orientations(header)) == 3
    found = find_exclusion([header])
    assert found is not None
    assert found.code == "localizer"


# --- damaged headers --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@given(
    keyword=st.sampled_from(
        ["ImageType", "ImageOrientationPatient", "ComplexImageComponent", "Rows", "Modality"]
    ),
    vr=st.sampled_from(["CS", "DS", "US", "UN", "LO", "FD"]),
    value=st.binary(max_size=24),
)
def test_damaged_values_are_judged_all_the_same(keyword: str, vr: str, value: bytes) -> None:
    series = mr_series(2)
    set_raw(series[1], keyword, vr, value)
    decision = decide(series, FAST, EVERYTHING)
    assert decision.action in {"reconstruct", "skip"}
