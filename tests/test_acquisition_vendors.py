"""Each vendor's layouts, as the scanner writes them and as archives and anonymisers leave them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import DataElement, Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_maker import mr_object
from halfscan_plugin.acquisition import READERS, Acquisition, read_acquisition
from halfscan_plugin.headers import value_text
from halfscan_plugin.rules import decide
from vendor_layouts import (
    GE,
    PHILIPS_NESTED,
    add_blocks,
    canon,
    ge,
    implicit,
    moved,
    philips_classic,
    philips_factors,
    siemens_classic,
    siemens_xa_classic,
    toshiba,
    uih,
    unknown,
    without_creators,
)
from vendor_table import LAYOUTS, Layout

FACTS = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
    "partial_fourier",
    "deep_learning",
)
NAMES = [layout.name for layout in LAYOUTS]


def unchanged(header: Dataset) -> Dataset:
    return header


def facts(acquisition: Acquisition) -> dict[str, Any]:
    return {name: getattr(acquisition, name) for name in FACTS}


def test_the_layouts_have_different_names() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("change", [unchanged, moved, implicit, unknown])
@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
def test_a_layout_says_what_its_vendor_means(
    layout: Layout, change: Callable[[Dataset], Dataset]
) -> None:
    acquisition = read_acquisition(change(layout.make()))
    assert facts(acquisition) == {name: layout.facts.get(name) for name in FACTS}
    assert acquisition.accelerated is layout.accelerated
    known = [name for name in FACTS if getattr(acquisition, name) is not None]
    assert bool(acquisition.evidence) >= bool(known), "no fact without evidence"
    for item in acquisition.evidence:
        assert re.fullmatch(r"\([0-9A-F]{4},([0-9A-F]{4}|xx[0-9A-F]{2})\)", item.tag)
        assert item.name
        assert item.says


@pytest.mark.parametrize("layout", [x for x in LAYOUTS if x.private], ids=lambda x: x.name)
def test_private_elements_without_their_creator_say_nothing(layout: Layout) -> None:
    stripped = without_creators(layout.make())
    acquisition = read_acquisition(stripped)
    for item in acquisition.evidence:
        assert not item.name.startswith("["), f"{item} has no creator"
    # What is still said comes from public attributes, and contradicts nothing.
    for name, value in facts(acquisition).items():
        assert value in {None, layout.facts.get(name)}, name


@pytest.mark.parametrize("layout", [x for x in LAYOUTS if x.private], ids=lambda x: x.name)
def test_another_vendor_says_nothing_through_private_elements(layout: Layout) -> None:
    header = layout.make()
    header.Manufacturer = "ANOTHER"
    acquisition = read_acquisition(header)
    assert all(not item.name.startswith("[") for item in acquisition.evidence)
    assert acquisition.deep_learning is None


@pytest.mark.parametrize(
    ("written", "vendor"),
    [
        ("SIEMENS", "siemens"),
        ("Siemens Healthineers", "siemens"),
        ("Siemens HealthCare GmbH", "siemens"),
        ("GE MEDICAL SYSTEMS", "ge"),
        ("GE", "ge"),
        ("Philips Medical Systems", "philips"),
        (" Philips", "philips"),
        ("CANON_MEC", "canon"),
        ("TOSHIBA_MEC", "canon"),
        ("UIH", "uih"),
        ("GEOMETRICS", None),
        ("Halfscan", None),
        ("", None),
    ],
)
def test_a_manufacturer_has_one_reader(written: str, vendor: str | None) -> None:
    text = f"{written.strip().upper()} "
    found = [name for name, reader in READERS.items() if text.startswith(reader.manufacturers)]
    assert found == ([vendor] if vendor else [])


def test_the_vendor_is_told_by_the_manufacturer_as_it_is_written() -> None:
    for written in ("GE MEDICAL SYSTEMS", "ge healthcare ", " GE"):
        header = ge(("0.5", "1"))
        header.Manufacturer = written
        assert read_acquisition(header).in_plane_factor == 2.0


# GE


@pytest.mark.parametrize(
    ("written", "in_plane", "along"),
    [
        (("0.25", "1"), 4.0, 1.0),
        (("0.4", "1"), 2.5, 1.0),
        (("0.571429", "1"), 1.75, 1.0),
        (("0.5",), 2.0, None),
        (("0", "1"), None, 1.0),
        (("2", "1"), None, 1.0),
        (("-0.5", "1"), None, 1.0),
        (("0.000001", "1"), None, 1.0),
        (("", ""), None, None),
        (("half", "1"), None, 1.0),
        (("0.5", "0.5", "0.5"), 2.0, 2.0),
    ],
)
def test_ge_reciprocals(
    written: tuple[str, ...], in_plane: float | None, along: float | None
) -> None:
    header = ge(None, None, MRAcquisitionType="3D")
    header.add_new(Tag(GE[0], 0x1083), "LO", list(written))
    acquisition = read_acquisition(header)
    assert (acquisition.in_plane_factor, acquisition.slice_factor) == (in_plane, along)


@pytest.mark.parametrize(
    ("release", "cine", "expected"),
    [
        ("DV26.0_R03", 0, False),
        ("MR Software release:DV28.0_R02_1947.a", 20, False),
        ("SIGNA_LX1.MR30.1_DA_2305.a", 1, False),
        ("SIGNA_LX1.MR30.1_DA_2305.a", 20, None),
        ("MR31.0_R01", 0, None),
        ("15", 0, False),
    ],
)
def test_ge_absent_recon_dl(release: str, cine: int, *, expected: bool | None) -> None:
    header = ge(release=release, CardiacNumberOfImages=cine)
    assert read_acquisition(header).deep_learning is expected


def test_ge_recon_dl_of_strength_0_is_off() -> None:
    assert read_acquisition(ge(recon_dl=("0", "Off"))).deep_learning is False


@pytest.mark.parametrize(
    ("layout", "fact"),
    [
        ({"recon_dl": ()}, "deep_learning"),
        ({"hypersense": ()}, "compressed_sensing_factor"),
        ({"bands": ("",)}, "multiband_factor"),
        ({"reciprocals": (), "parallel": None}, "in_plane_factor"),
    ],
)
def test_ge_element_that_an_anonymiser_emptied_says_nothing(
    layout: dict[str, Any], fact: str
) -> None:
    """It is there: that it is absent, which means off, cannot be said of it."""
    assert getattr(read_acquisition(ge(**layout)), fact) is None


def test_ge_block_that_an_anonymiser_emptied_says_nothing() -> None:
    header = mr_object(Manufacturer="GE MEDICAL SYSTEMS", MRAcquisitionType="3D")
    assert read_acquisition(add_blocks(header, {GE: {}})) == Acquisition()


# Philips


def test_philips_window_center_is_no_sequence() -> None:
    """(2005,100F) is Window Center of DD 001, or the nested sequence of DD 005."""
    header = philips_classic(None, None)
    assert header[0x2005100F].VR == "DS"
    assert read_acquisition(header).in_plane_factor is None
    nested = Sequence([Dataset()])
    nested[0].ParallelReductionFactorInPlane = 2.0
    header = mr_object(Manufacturer="Philips")
    add_blocks(header, {PHILIPS_NESTED: {0x0F: ("SQ", nested)}})
    assert header[0x2005100F].VR == "SQ"
    assert read_acquisition(header).in_plane_factor == 2.0


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("2.5.3", False),
        ("3.2.1", False),
        ("5.7.1", False),
        ("5.8.0", None),
        ("11.0.0", None),
        ("", None),
    ],
)
def test_philips_releases_before_smart_speed(release: str, *, expected: bool | None) -> None:
    header = philips_classic(philips_factors(2.0, 1.0, "SENSE", "YES"), release=release)
    assert read_acquisition(header).deep_learning is expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("NONE", False),
        ("SENSE", False),
        ("CS_SENSE", False),
        ("CS_SENSE_AI", True),
        ("SENSE AI", True),
        ("PAINT", None),
        ("CS_SENSE_NEXT", None),
    ],
)
def test_philips_smart_speed(written: str, *, expected: bool | None) -> None:
    header = philips_classic(philips_factors(), release="11.0.0")
    add_blocks(header, {(0x2005, "Philips MR Imaging DD 008"): {0x10: ("CS", written)}}, first=0x20)
    assert read_acquisition(header).deep_learning is expected


def test_philips_flag_without_a_technique_leaves_open_what_it_was() -> None:
    factors = philips_factors(2.0, 1.0, None, "YES")
    acquisition = read_acquisition(philips_classic(factors))
    assert acquisition.accelerated
    assert acquisition.compressed_sensing_factor is None
    assert acquisition.multiband_factor is None


def test_philips_compressed_sensing_of_a_volume_is_the_product() -> None:
    factors = philips_factors(2.0, 1.5, "CSENSE", "YES")
    acquisition = read_acquisition(philips_classic(factors, MRAcquisitionType="3D"))
    assert acquisition.compressed_sensing_factor == 3.0


def test_philips_combination_counts_only_where_there_is_no_factor() -> None:
    factors = {"ParallelReductionFactorInPlane": 2.0}
    acquisition = read_acquisition(philips_classic(factors, "SYN_COCA"))
    assert acquisition.in_plane_factor == 2.0
    assert acquisition.compressed_sensing_factor is None
    assert all("xxA1" not in item.name for item in acquisition.evidence)


def test_philips_compressed_sensing_without_a_factor_is_accelerated_all_the_same() -> None:
    factors = {"ParallelAcquisition": "YES", "ParallelAcquisitionTechnique": "CSENSE"}
    acquisition = read_acquisition(philips_classic(factors))
    assert acquisition.accelerated
    assert acquisition.in_plane_factor is None
    assert acquisition.compressed_sensing_factor is None


# Canon and Toshiba


def test_a_factor_that_is_not_written_is_not_made_up() -> None:
    acquisition = read_acquisition(toshiba(ParallelAcquisition="YES", NumberOfAverages=1))
    assert acquisition.accelerated is True
    assert acquisition.unknown_factor
    assert acquisition.in_plane_factor is None
    assert any("not written" in item.says for item in acquisition.evidence)
    report = acquisition.as_dict()
    assert report["accelerated"] is True
    assert "unknown_factor" not in report
    assert decide([toshiba(ParallelAcquisition="YES")] * 2, acquisition).reason_code != (
        "not_accelerated"
    )


def test_a_factor_of_one_is_believed_against_canons_flag() -> None:
    header = canon(ParallelAcquisition="YES", ParallelReductionFactorInPlane=1.0)
    assert read_acquisition(header).accelerated is False


@pytest.mark.parametrize(
    ("values", "bands", "learning"),
    [
        ({"MLTBF": 1, "NRFLG": 0}, 1.0, False),
        ({"MLTBF": 3}, 3.0, None),
        ({"MLTBF": 0, "NRFLG": 1}, None, None),
        ({"MLTBF": 99999, "NRFLG": "off"}, None, None),
        ({}, None, None),
    ],
)
def test_canons_protocol(values: dict[str, Any], bands: float | None, learning: Any) -> None:
    acquisition = read_acquisition(canon(values, ParallelReductionFactorInPlane=2.0))
    assert acquisition.multiband_factor == bands
    assert acquisition.deep_learning is learning


def test_canons_protocol_with_two_scans_that_differ_says_nothing() -> None:
    header = canon({"MLTBF": 1, "NRFLG": 0})
    found = header[Tag(0x700D, 0x1119)]
    found.value += b"<MLTBF>2</MLTBF><NRFLG>1</NRFLG>"
    acquisition = read_acquisition(header)
    assert acquisition.multiband_factor is None
    assert acquisition.deep_learning is None


def test_unknown_markers_of_deep_learning_are_null_and_not_false() -> None:
    factor: dict[str, Any] = {"ParallelReductionFactorInPlane": 2.0}
    assert read_acquisition(canon(**factor)).deep_learning is None
    assert read_acquisition(uih("F:2S", release="R006")).deep_learning is None
    assert read_acquisition(mr_object(Manufacturer="FUJIFILM", **factor)).deep_learning is None


# UIH


@pytest.mark.parametrize(
    ("written", "factor"),
    [
        ("F:2S", 2.0),
        ("F:2.50", 2.5),
        ("F:1", 1.0),
        ("F:0", None),
        ("F:", None),
        ("F:2S;B:3", None),
        ("2", None),
        ("F:999", None),
    ],
)
def test_uih_text(written: str, factor: float | None) -> None:
    acquisition = read_acquisition(uih(written))
    assert acquisition.in_plane_factor == factor
    assert acquisition.multiband_factor == (None if factor is None else 1.0)


# Everything


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("value", [b"", b"\xff" * 100_000, b"9" * 100_000, b"\0" * 7])
@pytest.mark.parametrize("make", [siemens_xa_classic, ge, canon, lambda: uih("F:2S")])
def test_huge_and_strange_values_raise_nothing(make: Callable[[], Dataset], value: bytes) -> None:
    for tag in [found.tag for found in make() if found.tag.is_private]:
        header = make()
        header[tag] = DataElement(tag, "UN", value)
        acquisition = read_acquisition(header)
        assert all(len(item.value) <= 200 for item in acquisition.evidence)
        json.dumps(acquisition.as_dict(), allow_nan=False)


def test_a_sequence_in_the_place_of_a_text_is_no_text() -> None:
    header = siemens_xa_classic("p2")
    del header.ImageType
    header[Tag(0x0008, 0x0008)] = DataElement(Tag(0x0008, 0x0008), "SQ", Sequence([Dataset()]))
    (item,) = [item for item in read_acquisition(header).evidence if "Resolve" in item.says]
    assert item.name == "[SIEMENS MR SDI 02] xx75"
    header = siemens_classic("p2")
    header[Tag(0x0051, 0x1011)] = DataElement(Tag(0x0051, 0x1011), "SQ", Sequence([Dataset()]))
    assert value_text(header[Tag(0x0051, 0x1011)]) == ""


def test_nested_deeper_than_anyone_looks() -> None:
    inner = Dataset()
    for _ in range(400):
        outer = Dataset()
        outer.add_new(Tag(PHILIPS_NESTED[0], 0x10), "LO", PHILIPS_NESTED[1])
        outer.add_new(Tag(PHILIPS_NESTED[0], 0x100F), "SQ", Sequence([inner]))
        inner = outer
    header = mr_object(Manufacturer="Philips", MRAcquisitionType=None)
    add_blocks(header, {PHILIPS_NESTED: {0x0F: ("SQ", Sequence([inner]))}})
    assert read_acquisition(header).accelerated is None


# Documentation


def test_the_documentation_has_a_row_for_every_reader() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "vendors.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    modules = {row.split("|")[1].strip().strip("`") for row in rows}
    assert set(READERS) <= modules
    for name, reader in READERS.items():
        assert reader.read.__module__ == f"halfscan_plugin.vendors.{name}"


def test_the_documentation_names_every_private_creator() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "vendors.md"
    text = page.read_text(encoding="utf-8")
    folder = Path(__file__).resolve().parents[1] / "orthanc_plugin/halfscan_plugin/vendors"
    creators = {
        creator
        for file in folder.glob("*.py")
        for creator in re.findall(r'Block\(0x[0-9A-F]{4}, "([^"]+)"\)', file.read_text("utf-8"))
    }
    assert len(creators) >= 9
    assert [creator for creator in sorted(creators) if creator not in text] == []
