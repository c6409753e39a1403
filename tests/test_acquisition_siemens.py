"""Siemens' protocol, text and image type, piece by piece."""

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_maker import enhanced_object, mr_object
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.vendors.ascconv import LONGEST, read_protocol
from vendor_layouts import (
    SIEMENS_IMAGE,
    SIEMENS_SERIES,
    add_blocks,
    siemens_classic,
    siemens_xa_classic,
    siemens_xa_enhanced,
)


def test_siemens_evidence_names_the_line_of_the_protocol() -> None:
    protocol = {"sPat.lAccelFactPE": 3, "sPat.lAccelFact3D": 1, "sPat.ucPATMode": "0x2"}
    acquisition = read_acquisition(siemens_classic("p3", protocol))
    found = {item.name: item for item in acquisition.evidence}
    line = found["[SIEMENS CSA HEADER] xx20 sPat.lAccelFactPE"]
    assert (line.tag, line.value, line.says) == ("(0029,1120)", "3", "factor in plane 3")
    assert found["[SIEMENS CSA HEADER] xx20 sPat.ucPATMode"].value == "0x2"
    assert found["[SIEMENS MR HEADER] xx11"].says == "total factor 3"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (1, {"in_plane_factor": 1.0, "slice_factor": 1.0, "compressed_sensing_factor": 1.0}),
        ("0x2", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": 1.0}),
        ("0x20", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": 1.0}),
        (256, {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": 6.0}),
        ("0x100", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": 6.0}),
        ("", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": None}),
        ("0xZZ", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": None}),
        ("many", {"in_plane_factor": 2.0, "slice_factor": 3.0, "compressed_sensing_factor": None}),
    ],
)
def test_siemens_mode_decides_on_compressed_sensing(mode: Any, expected: dict[str, Any]) -> None:
    protocol = {
        "sPat.lAccelFactPE": 2,
        "sPat.lAccelFact3D": 3,
        "sPat.ucPATMode": mode,
        "sPat.dTotalAccelFact": 6.0,
    }
    header = siemens_xa_classic(None, protocol, MRAcquisitionType="3D")
    acquisition = read_acquisition(header)
    assert {name: getattr(acquisition, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("phase", "along", "expected"),
    [(16, 16, False), ("0x10", "0x10", False), (8, 16, True), (16, "0x4", True), (0, 0, None)],
)
def test_siemens_partial_fourier(phase: Any, along: Any, *, expected: bool | None) -> None:
    protocol = {
        "sKSpace.ucPhasePartialFourier": phase,
        "sKSpace.ucSlicePartialFourier": along,
    }
    assert read_acquisition(siemens_classic(None, protocol)).partial_fourier is expected


@pytest.mark.parametrize(
    ("values", "bands"),
    [
        ({"tSequenceFileName": '""%SiemensSeq%\\\\tse""'}, 1.0),
        ({"tSequenceFileName": '""%CustomerSeq%\\\\own""'}, None),
        ({}, None),
        ({"sSliceAcceleration.lMultiBandFactor": 0}, None),
        ({"sSliceAcceleration.lMultiBandFactor": 4}, 4.0),
    ],
)
def test_siemens_slices_excited_at_once(values: dict[str, Any], bands: float | None) -> None:
    header = siemens_classic("p2", {"sPat.lAccelFactPE": 2, **values})
    assert read_acquisition(header).multiband_factor == bands


@pytest.mark.parametrize(
    ("own", "make", "bands"),
    [
        ({"sWipMemBlock.alFree[13]": 1}, siemens_classic, 1.0),
        ({"sWiPMemBlock.alFree[13]": 1}, siemens_classic, 1.0),
        ({"sWipMemBlock.alFree[13]": 4}, siemens_classic, None),
        ({}, siemens_classic, None),
        ({}, siemens_xa_classic, 1.0),
        ({"sWipMemBlock.alFree[13]": 4}, siemens_xa_classic, None),
    ],
)
def test_siemens_research_sequences_are_believed_where_their_own_field_agrees(
    own: dict[str, Any], make: Callable[..., Dataset], bands: float | None
) -> None:
    protocol = {
        "tSequenceFileName": '""%CustomerSeq%\\\\cmrr_mbep2d_bold""',
        "sSliceAcceleration.lMultiBandFactor": 1,
        **own,
    }
    assert read_acquisition(make("p2", protocol)).multiband_factor == bands


def test_siemens_protocol_that_is_cut_off_denies_nothing() -> None:
    header = siemens_classic("p2", {"tSequenceFileName": '""%SiemensSeq%\\\\tse""'})
    assert read_acquisition(header).multiband_factor == 1.0
    found = header[Tag(0x0029, 0x1120)]
    found.value = found.value[: found.value.index(b"### ASCCONV END")]
    assert read_acquisition(header).multiband_factor is None


def test_siemens_absent_text_does_not_deny_compressed_sensing() -> None:
    header = siemens_xa_enhanced(ParallelAcquisition="YES", ParallelAcquisitionTechnique="CS")
    acquisition = read_acquisition(header)
    assert acquisition.in_plane_factor is None
    assert acquisition.accelerated is True


@pytest.mark.parametrize("image_type", ["", None])
def test_siemens_image_type_that_is_empty_denies_nothing(image_type: str | None) -> None:
    header = siemens_classic("p2")
    header.ImageType = image_type
    # Deep Resolve came with XA31: up to VE, the release alone denies it.
    assert read_acquisition(header).deep_learning is False
    header.SoftwareVersions = "syngo MR XA31"
    assert read_acquisition(header).deep_learning is None
    assert read_acquisition(header).deep_learning_possible


def test_siemens_averages_come_from_the_protocol_where_nothing_else_tells() -> None:
    assert read_acquisition(siemens_classic("p2", {"lAverages": 3})).averages == 3.0
    header = siemens_classic("p2", {"lAverages": 3}, NumberOfAverages=2)
    acquisition = read_acquisition(header)
    assert acquisition.averages == 2.0
    assert any("disagrees" in item.says for item in acquisition.evidence)


def test_siemens_text_of_the_image_is_read_where_that_of_the_series_is_gone() -> None:
    header = siemens_xa_classic("p2")
    del header[Tag(SIEMENS_SERIES[0], 0x1009)]
    acquisition = read_acquisition(header)
    assert acquisition.in_plane_factor == 2.0
    assert acquisition.evidence[0].name == "[SIEMENS MR SDI 02] xx56"


@pytest.mark.parametrize("make", [siemens_classic, siemens_xa_classic, siemens_xa_enhanced])
def test_siemens_text_that_an_anonymiser_emptied_denies_nothing(
    make: Callable[..., Dataset],
) -> None:
    assert read_acquisition(make(None)).accelerated is False
    assert read_acquisition(make("")).accelerated is None


def test_the_old_block_that_xa_leaves_denies_nothing() -> None:
    header = mr_object(Manufacturer="Siemens Healthineers", MRAcquisitionType="3D")
    old = add_blocks(header, {(0x0051, "SIEMENS MR HEADER"): {0x08: ("CS", "IMAGE NUM X")}})
    assert read_acquisition(old).accelerated is None
    header = mr_object(
        Manufacturer="Siemens Healthineers",
        MRAcquisitionType="3D",
        SoftwareVersions="syngo MR XA30",
    )
    old = add_blocks(header, {(0x0051, "SIEMENS MR HEADER"): {0x12: ("SH", "TP 0")}})
    assert read_acquisition(old).accelerated is None


def test_a_private_sequence_that_cannot_be_read_denies_nothing() -> None:
    header = enhanced_object(Manufacturer="Siemens Healthineers")
    broken = b"\xfe\xff\x00\xe0\xff\xff\xff\x7fbroken"
    group = header.SharedFunctionalGroupsSequence[0]
    add_blocks(group, {SIEMENS_SERIES: {0xFE: ("UN", broken)}})
    assert read_acquisition(header).accelerated is None
    header = enhanced_object(Manufacturer="Siemens Healthineers")
    group = header.SharedFunctionalGroupsSequence[0]
    add_blocks(group, {SIEMENS_SERIES: {0xFE: ("SQ", Sequence([Dataset()]))}})
    assert read_acquisition(header).accelerated is None


def test_0021_76_alone_is_no_marker_of_deep_learning() -> None:
    header = siemens_xa_enhanced("p2", image_type=())
    for group in header.PerFrameFunctionalGroupsSequence:
        place = group[Tag(SIEMENS_IMAGE[0], 0x11FE)].value[0]
        details = ["IterativeDenoising:RelStrength=0.850", "EdgeEnhancement_2"]
        place.add_new(Tag(SIEMENS_IMAGE[0], 0x1076), "LO", details)
    assert read_acquisition(header).deep_learning is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no protocol",
        b"### ASCCONV END ###",
        b"### ASCCONV BEGIN ###",
        b"### ASCCONV BEGIN ###\nsPat.lAccelFactPE = 2",
        b"### ASCCONV BEGIN ###\n=\n= 2\nsPat.lAccelFactPE\n### ASCCONV END ###",
        b"### ASCCONV BEGIN ###\n" + b"x" * 5000 + b" = 2\n### ASCCONV END ###",
        b"\xff" * 1000 + b"### ASCCONV BEGIN \xff\n\xff = \xff\n### ASCCONV END ###",
    ],
)
def test_a_protocol_of_nothing_says_nothing(data: bytes) -> None:
    protocol = read_protocol(data)
    assert protocol is None or protocol.number("sPat.lAccelFactPE") is None
    header = siemens_classic(None, {})
    header[Tag(0x0029, 0x1120)].value = data
    assert read_acquisition(header).in_plane_factor == 1.0  # by the absent text


def test_a_line_of_the_protocol_that_is_cut_off_is_not_read() -> None:
    # It may have been 12.
    protocol = read_protocol(b"### ASCCONV BEGIN ###\nlAverages = 1\nsPat.lAccelFactPE = 1")
    assert protocol is not None
    assert not protocol.complete
    assert protocol.number("lAverages") == 1.0
    assert protocol.number("sPat.lAccelFactPE") is None


def test_a_protocol_is_read_no_further_than_the_limit() -> None:
    lines = b"".join(b"s%d = 1\n" % number for number in range(LONGEST // 8))
    protocol = read_protocol(b"### ASCCONV BEGIN ###\n" + lines + b"### ASCCONV END ###")
    assert protocol is not None
    assert not protocol.complete


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2", 2.0),
        ("0x2", 2.0),
        ("0X20", 32.0),
        ("2.5", 2.5),
        ("2 # two", 2.0),
        ("1e999", None),
        ("9" * 400, None),
        ("0x" + "f" * 900, None),
        ("nan", None),
        ("-1", -1.0),
        ("", None),
    ],
)
def test_numbers_of_a_protocol(written: str, number: float | None) -> None:
    text = f"### ASCCONV BEGIN ###\nname = {written}\n### ASCCONV END ###"
    protocol = read_protocol(text.encode())
    assert protocol is not None
    assert protocol.number("name") == number
