"""Reconstruct or skip: every rule, and which one comes first."""

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)

from dicom_maker import (
    add_modifier,
    add_siemens_xa,
    enhanced_object,
    mr_object,
    mr_series,
    set_raw,
)
from halfscan_plugin.acquisition import Acquisition, read_acquisition
from halfscan_plugin.rules import decide

FAST = Acquisition(in_plane_factor=2.0, averages=1.0)


def changed(series: list[Dataset], index: int, **attributes: Any) -> list[Dataset]:
    """Set attributes of one object; None removes."""
    for keyword, value in attributes.items():
        if value is None:
            delattr(series[index], keyword)
        else:
            setattr(series[index], keyword, value)
    return series


def three_planes() -> list[Dataset]:
    """Make a localizer whose ImageType does not say so."""
    coronal = mr_series(3, name="coronal", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    return [*mr_series(3), *mr_series(3, name="sagittal", orientation="sagittal"), *coronal]


def halfscan_output() -> Dataset:
    equipment = Dataset()
    equipment.Manufacturer = "Halfscan"
    other = Dataset()
    other.Manufacturer = "SIMULATED"
    return mr_object(ContributingEquipmentSequence=Sequence([other, equipment]))


def test_an_accelerated_series_is_reconstructed() -> None:
    decision = decide(mr_series(), FAST)
    assert (decision.action, decision.reason_code, decision.possible) == (
        "reconstruct",
        "accelerated",
        True,
    )
    assert "in plane 2" in decision.reason


# The code, the series, whether someone may insist, and a word of the reason.
OBJECTS: list[tuple[str, Callable[[], list[Dataset]], bool, str]] = [
    ("not_mr", lambda: mr_series(Modality="CT", SOPClassUID=CTImageStorage), False, "'CT'"),
    ("not_mr", lambda: mr_series(Modality=None), False, "''"),
    ("halfscan_output", lambda: [halfscan_output(), mr_object()], False, "Halfscan"),
    ("not_an_image", lambda: mr_series(SOPClassUID=RawDataStorage), False, "Raw Data"),
    (
        "not_an_image",
        lambda: mr_series(SOPClassUID=SecondaryCaptureImageStorage),
        False,
        "Secondary Capture",
    ),
    ("not_an_image", lambda: mr_series(SOPClassUID=None), False, "without SOPClassUID"),
    ("not_an_image", lambda: mr_series(SOPClassUID="1.2.3.4"), False, "1.2.3.4"),
    ("no_pixels", lambda: mr_series(Rows=None), False, "Rows"),
    ("no_pixels", lambda: changed(mr_series(), 3, Columns=None), False, "Columns"),
    ("no_pixels", lambda: mr_series(Rows=0), False, "Rows"),
    ("derived", lambda: mr_series(ImageType=["DERIVED", "PRIMARY", "M"]), True, "DERIVED"),
    ("derived", lambda: mr_series(ImageType="DERIVED"), True, "DERIVED"),
    ("localizer", lambda: mr_series(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), True, "LOC"),
    *[
        (
            "not_magnitude",
            lambda third=third: mr_series(ImageType=["ORIGINAL", "PRIMARY", third]),
            True,
            third,
        )
        for third in ("P", "PHASE MAP", "R", "REAL", "I", "VELOCITY", "R_FFE", "I_SE", "P_IR")
    ],
    *[
        (
            "parametric_map",
            lambda word=word: mr_series(ImageType=["ORIGINAL", "PRIMARY", "M", word]),
            True,
            word,
        )
        for word in ("ADC", "FA", "T1 MAP", "B0 MAP", "TTP")
    ],
    (
        "localizer",
        three_planes,
        True,
        "three planes at right angles",
    ),
    (
        "mixed_orientation",
        lambda: changed(mr_series(), 2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        False,
        "tilted by 90 degrees",
    ),
    (
        "bad_geometry",
        lambda: changed(mr_series(), 2, ImageOrientationPatient=None),
        False,
        "has no ImageOrientationPatient",
    ),
    ("single_slice", lambda: mr_series(1), True, "1 slice"),
]


@pytest.mark.parametrize(
    ("code", "make", "may_insist", "word"), OBJECTS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_objects_and_images(
    *, code: str, make: Callable[[], list[Dataset]], may_insist: bool, word: str
) -> None:
    decision = decide(make(), FAST)
    assert (decision.action, decision.reason_code) == ("skip", code)
    assert decision.possible is may_insist
    assert word in decision.reason


def test_what_the_geometry_refuses_says_so_after_the_rules() -> None:
    series = mr_series(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    decision = decide(series, FAST)
    assert (decision.action, decision.reason_code) == ("skip", "mosaic")
    assert not decision.possible, "nobody can insist on what cannot be read"
    assert decision.rule == "default: accelerated"
    slow = decide(series, Acquisition(in_plane_factor=1.0, averages=1.0))
    assert slow.reason_code == "not_accelerated", "what is not for us says so first"


def test_missing_slices_are_refused_and_a_sample_says_nothing_of_them() -> None:
    series = mr_series(8)
    del series[3]
    decision = decide(series, FAST)
    assert decision.reason_code == "missing_slices"
    assert decide(series[:1], FAST, complete=False).reason_code == "accelerated"


def test_a_decision_to_reconstruct_holds_the_volumes() -> None:
    echoes = [
        *mr_series(3, EchoTime="10", EchoNumbers=1),
        *mr_series(3, name="b", EchoTime="90", EchoNumbers=2),
    ]
    decision = decide(echoes, FAST)
    assert decision.action == "reconstruct"
    assert [len(stack.slices) for stack in decision.stacks] == [3, 3]
    assert decide(echoes, Acquisition()).stacks == ()


# Factors and averages: the borders of the default rule.
ACQUISITIONS = [
    (Acquisition(in_plane_factor=2.0, averages=1.0), "accelerated"),
    (Acquisition(in_plane_factor=2.0, averages=1.5), "accelerated"),
    (Acquisition(in_plane_factor=2.0, averages=0.5625), "accelerated"),
    (Acquisition(in_plane_factor=2.0, averages=1.99), "accelerated"),
    (Acquisition(in_plane_factor=2.0, averages=2.0), "averaged"),
    (Acquisition(in_plane_factor=4.0, averages=6.0), "averaged"),
    (Acquisition(in_plane_factor=2.0, averages=None), "averages_unknown"),
    (Acquisition(in_plane_factor=1.99, averages=1.0), "not_accelerated"),
    (Acquisition(in_plane_factor=1.0, averages=1.0), "not_accelerated"),
    (Acquisition(in_plane_factor=1.0, averages=None), "not_accelerated"),
    (Acquisition(averages=1.0), "acceleration_unknown"),
    (Acquisition(), "acceleration_unknown"),
    (Acquisition(slice_factor=2.0, averages=1.0), "accelerated"),
    (Acquisition(compressed_sensing_factor=2.0, averages=1.0), "accelerated"),
    (Acquisition(in_plane_factor=1.0, slice_factor=2.0, averages=1.0), "accelerated"),
    # The factors are not multiplied, and slices excited at once do not count.
    (Acquisition(in_plane_factor=1.5, slice_factor=1.5, averages=1.0), "not_accelerated"),
    (Acquisition(in_plane_factor=1.0, multiband_factor=3.0, averages=1.0), "not_accelerated"),
    (Acquisition(multiband_factor=3.0, averages=1.0), "acceleration_unknown"),
    (
        Acquisition(in_plane_factor=1.0, partial_fourier=True, averages=1.0),
        "not_accelerated",
    ),
    (Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=True), "vendor_deep_learning"),
    (Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=False), "accelerated"),
    (Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=None), "accelerated"),
]


@pytest.mark.parametrize(("acquisition", "code"), ACQUISITIONS)
def test_the_default_rule(acquisition: Acquisition, code: str) -> None:
    decision = decide(mr_series(), acquisition)
    assert decision.reason_code == code
    assert decision.action == ("reconstruct" if code == "accelerated" else "skip")
    assert decision.possible
    assert len(decision.reason) > 10


# The arms of the reference study, Table 1 of doi:10.1186/s41747-024-00470-0: factor and averages.
@pytest.mark.parametrize(
    ("arm", "factor", "averages", "code"),
    [
        ("standard, fat-suppressed T2", 2, 2, "averaged"),
        ("accelerated, fat-suppressed T2", 2, 1, "accelerated"),
    ],
)
def test_the_reference_studys_arms(arm: str, factor: float, averages: float, code: str) -> None:
    series = [
        add_siemens_xa(dataset, f"p{factor}") for dataset in mr_series(NumberOfAverages=averages)
    ]
    assert decide(series, read_acquisition(series[0])).reason_code == code, arm


ORDER: list[tuple[str, dict[str, Any]]] = [
    # Each series breaks all the rules from its place on; the first one is the reason.
    ("not_mr", {"Modality": "CT"}),
    ("halfscan_output", {"ContributingEquipmentSequence": "Halfscan"}),
    ("not_an_image", {"SOPClassUID": RawDataStorage}),
    ("no_pixels", {"Rows": None}),
    ("derived", {"ImageType": ["DERIVED", "PRIMARY", "P", "LOCALIZER", "ADC", "MOSAIC"]}),
    ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "LOCALIZER", "ADC", "MOSAIC"]}),
    ("not_magnitude", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ADC", "MOSAIC"]}),
    ("parametric_map", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ADC", "MOSAIC"]}),
    ("vendor_deep_learning", {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
]


@pytest.mark.parametrize("place", range(len(ORDER)), ids=[code for code, _ in ORDER])
def test_the_first_rule_that_matches_is_the_reason(place: int) -> None:
    series = mr_series(2)
    for _, attributes in reversed(ORDER[place:]):
        equipment = halfscan_output().ContributingEquipmentSequence
        for keyword, value in attributes.items():
            changed(series, 1, **{keyword: equipment if value == "Halfscan" else value})
    assert decide(series, Acquisition(deep_learning=True)).reason_code == ORDER[place][0]


def test_a_sample_says_nothing_of_the_number_of_slices() -> None:
    assert decide(mr_series(1), FAST, complete=False).action == "reconstruct"


def test_jitter_of_the_orientation_is_no_localizer() -> None:
    series = changed(
        mr_series(), 1, ImageOrientationPatient=[0.999998, 0.002, 0, -0.002, 0.999998, 0]
    )
    assert decide(series, FAST).action == "reconstruct"


def test_enhanced_objects_are_judged_by_their_acquisition() -> None:
    header = add_modifier(enhanced_object(), ParallelReductionFactorInPlane=2.0)
    assert decide([header], read_acquisition(header)).reason_code == "averages_unknown"


def test_a_modality_with_control_characters_is_only_a_wrong_modality() -> None:
    header = set_raw(mr_object(), "Modality", "CS", b"M\x00\x1bR")
    assert decide([header], FAST).reason_code == "not_mr"
