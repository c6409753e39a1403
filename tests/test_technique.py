"""What a series was acquired for: by attributes, never by names; skipped unless a rule says so."""

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_maker import add_block, enhanced_object, mr_object, mr_series
from halfscan_plugin.rules import Decision, Rules, judge
from halfscan_plugin.rules_file import parse_rules
from halfscan_plugin.technique import TECHNIQUES, find_technique

FAST: dict[str, Any] = {"ParallelReductionFactorInPlane": 2.0, "NumberOfAverages": 1}
AGENT = "gadobutrol"


def typed(*values: str) -> Dataset:
    return mr_object(ImageType=["ORIGINAL", "PRIMARY", *values])


def private(group: int, creator: str, low: int, vr: str, value: Any, **attributes: Any) -> Dataset:
    header = mr_object(**attributes)
    header.add_new(add_block(header, group, creator, others=1) + low, vr, value)
    return header


def framed(sequence: str, **attributes: Any) -> Dataset:
    """Make an enhanced object whose last frame holds an item."""
    header = enhanced_object()
    place = Dataset()
    for keyword, value in attributes.items():
        setattr(place, keyword, value)
    setattr(header.PerFrameFunctionalGroupsSequence[-1], sequence, Sequence([place]))
    return header


def siemens(name: str) -> Dataset:
    return mr_object(Manufacturer="SIEMENS", SequenceName=name)


def ge_b(*values: int) -> Dataset:
    return private(0x0043, "GEMS_PARM_01", 0x39, "IS", list(values))


NAMED: list[tuple[str, str, Callable[[], Dataset]]] = [
    ("diffusion", "b-value", lambda: mr_object(DiffusionBValue=800.0)),
    ("diffusion", "direction", lambda: mr_object(DiffusionDirectionality="DIRECTIONAL")),
    ("diffusion", "frame", lambda: framed("MRDiffusionSequence", DiffusionBValue=50.0)),
    ("diffusion", "Siemens XA", lambda: typed("DIFFUSION", "NONE")),
    ("diffusion", "contrast", lambda: enhanced_object(AcquisitionContrast="DIFFUSION")),
    ("diffusion", "GE", lambda: ge_b(1000, 8, 0, 0)),
    ("diffusion", "GE with a flag", lambda: ge_b(1000000750, 8, 0, 0)),
    ("diffusion", "Philips",
     lambda: private(0x2001, "Philips Imaging DD 001", 0x03, "FL", 600.0)),
    ("diffusion", "Siemens VE",
     lambda: private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", 1000)),
    ("diffusion", "UIH", lambda: private(0x0065, "Image Private Header", 0x09, "FD", 928.3)),
    ("diffusion", "Siemens sequence", lambda: siemens("*ep_b1000t")),
    ("diffusion", "Siemens direction", lambda: siemens("*re_b50#3")),
    ("perfusion", "Siemens DSC", lambda: typed("PERFUSION", "NONE")),
    ("perfusion", "Siemens ASL", lambda: typed("ASL", "NONE", "ND", "NORM", "MOSAIC")),
    ("perfusion", "contrast",
     lambda: framed("MRImageFrameTypeSequence", AcquisitionContrast="PERFUSION")),
    ("perfusion", "labelling",
     lambda: enhanced_object(ArterialSpinLabelingContrast="PSEUDOCONTINUOUS")),
    ("perfusion", "labelling of a frame",
     lambda: framed("MRArterialSpinLabelingSequence", ASLContext="LABEL")),
    ("perfusion", "GE ASL",
     lambda: private(0x0043, "GEMS_PARM_01", 0xA3, "CS", "PSEUDOCONTINUOUS")),
    ("perfusion", "Philips ASL",
     lambda: private(0x2005, "Philips MR Imaging DD 005", 0x29, "CS", "CONTROL")),
    ("functional", "Siemens XA", lambda: typed("FMRI", "NONE")),
    ("functional", "echo-planar time points",
     lambda: mr_object(ScanningSequence=["EP", "GR"], NumberOfTemporalPositions=60)),
    ("functional", "Philips time points",
     lambda: private(0x2001, "Philips Imaging DD 001", 0x13, "SL", 57,
                     ScanningSequence="GR", NumberOfTemporalPositions=75)),
    ("perfusion", "echo-planar time points with an agent",
     lambda: mr_object(ScanningSequence="EP", NumberOfTemporalPositions=50,
                       ContrastBolusAgent=AGENT)),
    ("perfusion", "many phases with an agent",
     lambda: mr_object(ScanningSequence="GR", NumberOfTemporalPositions=40,
                       ContrastBolusAgent=AGENT)),
    ("flow", "phase contrast", lambda: enhanced_object(PhaseContrast="YES")),
    ("flow", "velocity of a frame",
     lambda: framed("MRVelocityEncodingSequence", VelocityEncodingDirection=[0.0, 0.0, 1.0])),
    ("flow", "contrast", lambda: enhanced_object(AcquisitionContrast="FLOW_ENCODED")),
    ("flow", "Philips", lambda: typed("M_PCA", "M", "PCA")),
    ("flow", "GE", lambda: private(0x0019, "GEMS_ACQU_01", 0xCC, "SS", 1500)),
    ("flow", "Siemens", lambda: siemens("fl2d1_v150in")),
]  # fmt: skip


@pytest.mark.parametrize(("technique", "name", "make"), NAMED, ids=[" ".join(n[:2]) for n in NAMED])
def test_a_technique_by_its_attributes(
    technique: str, name: str, make: Callable[[], Dataset]
) -> None:
    for series in ([make()], [mr_object(), make()], [make(), mr_object()]):
        found, evidence = find_technique(series)
        assert found == technique, name
        assert len(evidence) == 1
        assert evidence[0].value


PICTURES: list[tuple[str, Callable[[], Dataset]]] = [
    ("turbo spin echo", mr_object),
    ("echo-planar", lambda: mr_object(ScanningSequence=["EP", "SE"])),
    ("echo-planar, repeated",
     lambda: mr_object(ScanningSequence="EP", NumberOfTemporalPositions=4)),
    ("after an agent", lambda: mr_object(ContrastBolusAgent=AGENT)),
    ("phases of a liver",
     lambda: mr_object(ScanningSequence="GR", NumberOfTemporalPositions=5,
                       ContrastBolusAgent=AGENT)),
    ("phases of a heart", lambda: mr_object(ScanningSequence="GR", CardiacNumberOfImages=30)),
    ("b-value of 0", lambda: mr_object(DiffusionBValue=0.0, DiffusionDirectionality="NONE")),
    ("Philips b-value of 0",
     lambda: private(0x2001, "Philips Imaging DD 001", 0x03, "FL", 0.0)),
    ("GE b-value of 0", lambda: ge_b(0, 1073741825, 0, 0)),
    ("GE flag alone", lambda: ge_b(1000000000, 8, 0, 0)),
    ("GE velocity of 0", lambda: private(0x0019, "GEMS_ACQU_01", 0xCC, "SS", 0)),
    ("Philips without velocity",
     lambda: enhanced_object(PhaseContrast="NO", VelocityEncodingDirection=[0.0, 0.0, 0.0])),
    ("Siemens b0", lambda: siemens("*ep_b0")),
    ("Siemens turbo spin echo", lambda: siemens("*tse2d1_19")),
    ("names", lambda: mr_object(SeriesDescription="ep2d_diff perf bold ASL", ProtocolName="fMRI")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), PICTURES, ids=[n[0] for n in PICTURES])
def test_a_picture_of_anatomy(name: str, make: Callable[[], Dataset]) -> None:
    assert find_technique([make(), make()]) == (None, ()), name


def time_series(times: int, **attributes: Any) -> list[Dataset]:
    """Make a series that shows the same three places again and again."""
    return [
        header
        for number in range(times)
        for header in mr_series(3, name=f"time {number}", AcquisitionNumber=number, **attributes)
    ]


def test_time_points_are_counted_where_none_are_stated() -> None:
    technique, evidence = find_technique(time_series(12, ScanningSequence="EP"))
    assert technique == "functional"
    assert evidence[0].says == "12 time points"
    assert find_technique(time_series(9, ScanningSequence="EP"))[0] is None
    assert find_technique(time_series(12))[0] is None, "no echo-planar imaging"
    nowhere = time_series(12, ScanningSequence="EP", ImagePositionPatient=None)
    assert find_technique(nowhere)[0] is None, "places that are not known are not one place"
    echoes = [
        header
        for echo in range(4)
        for header in time_series(4, ScanningSequence="EP", EchoTime=str(10 + echo))
    ]
    assert find_technique(echoes)[0] is None, "echoes of one time point"


def test_diffusion_comes_before_the_course_over_time() -> None:
    series = time_series(12, ScanningSequence="EP")
    series[-1].DiffusionBValue = 1000.0
    assert find_technique(series)[0] == "diffusion"


def judged(series: list[Dataset], rules: str = "") -> Decision:
    return judge(series, parse_rules(rules, "rules.toml", models=[]) if rules else Rules())[1]


SKIPPED: dict[str, dict[str, Any]] = {
    "diffusion": {"DiffusionBValue": 800.0},
    "perfusion": {"ImageType": ["ORIGINAL", "PRIMARY", "ASL", "NONE"]},
    "functional": {"ScanningSequence": "EP", "NumberOfTemporalPositions": 60},
    "flow": {"PhaseContrast": "YES"},
}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_default_skips_it_and_a_rule_takes_it(technique: str) -> None:
    series = mr_series(3, **FAST, **SKIPPED[technique])
    decision = judged(series)
    assert (decision.action, decision.reason_code, decision.possible) == ("skip", technique, True)
    assert decision.rule == f"default: {technique}"
    assert decision.reason.startswith(f"a {technique} series, which the model card excludes: (")
    lifted = judged(
        series, f'[[rule]]\nname = "r"\naction = "reconstruct"\nwhen.technique = "{technique}"\n'
    )
    assert (lifted.action, lifted.rule) == ("reconstruct", "r")


def test_the_reason_shows_the_attribute() -> None:
    reason = judged(mr_series(3, DiffusionBValue=800.0, **FAST)).reason
    assert reason == (
        "a diffusion series, which the model card excludes: (0018,9087) DiffusionBValue is 800.0 "
        "(in plane 2, along slices 1, averages 1)"
    )


def test_a_rule_over_several_techniques() -> None:
    rules = '[[rule]]\nname = "r"\naction = "skip"\nreason = "r"\nwhen.technique = "unknown"\n'
    assert judged(mr_series(3, **FAST), rules).rule == "r"
    series = mr_series(3, DiffusionBValue=800.0, **FAST)
    assert judged(series, rules).reason_code == "diffusion"
    both = rules.replace('"unknown"', '["flow", "diffusion"]')
    assert judged(series, both).rule == "r"
