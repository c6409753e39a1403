"""Private attributes: what the table allows stays, in whatever block; everything else is gone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from derived_support import in_syntax, unchanged
from dicom_maker import add_block, mr_object, reread
from halfscan_plugin import private
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.carry import Carrier
from halfscan_plugin.private import ALLOWED, CSA_FIELDS, NESTED_PUBLIC
from halfscan_plugin.private_csa import CsaField, read_fields, reduce_csa, write_fields
from vendor_layouts import philips_classic, philips_factors

HEADER = "SIEMENS MR HEADER"
CSA = "SIEMENS CSA HEADER"


def derive_one(source: Dataset) -> Dataset:
    """Give what is derived from an object, as it comes from a file."""
    return reread(unchanged([source]).datasets[0])


def private_values(dataset: Dataset, place: str = "") -> Iterator[tuple[str, str, int, Any]]:
    """Yield every private value: where it is, its creator, low byte, value."""
    owners = private.creators(dataset)
    for element in dataset:
        tag = element.tag
        if tag.is_private and not private.is_creator(tag):
            owner = owners.get((tag.group, tag.element >> 8), "")
            yield place, owner, tag.element & 0xFF, element.value
        if element.VR == "SQ":
            for item in element.value:
                yield from private_values(item, f"{place}{tag}.")


def found(dataset: Dataset) -> set[tuple[str, int]]:
    return {(owner, low) for _, owner, low, _ in private_values(dataset)}


def test_the_table_is_sound() -> None:
    assert len(ALLOWED) == len(private._ROWS), "no row twice"
    for (group, creator, low), row in ALLOWED.items():
        assert group % 2 == 1
        assert 0 <= low <= 0xFF
        assert creator == creator.strip() != ""
        assert row.tag == f"({group:04X},xx{low:02X})"
        assert all((row.name, row.why, row.holds, row.vr))


def test_allowed_attributes_stay_with_their_creators() -> None:
    source = mr_object()
    block = add_block(source, 0x0019, HEADER)
    source.add_new(block + 0x0A, "US", 60)
    source.add_new(block + 0x0B, "DS", "12000")
    source.add_new(block + 0x0E, "FD", [0.1, -0.2, 0.9])
    after = derive_one(source)
    kept = after.private_block(0x0019, HEADER)
    assert (kept[0x0A].value, kept[0x0B].value) == (60, 12000)
    assert list(kept[0x0E].value) == [0.1, -0.2, 0.9]


def test_others_of_the_same_block_are_gone() -> None:
    source = mr_object()
    block = add_block(source, 0x0019, HEADER)
    source.add_new(block + 0x0A, "US", 60)
    source.add_new(block + 0x15, "FD", [1.0, 2.0, 3.0])
    source.add_new(block + 0x77, "LO", "Doe^Jane")
    assert found(derive_one(source)) == {(HEADER, 0x0A)}


def test_a_block_of_which_nothing_stays_is_gone() -> None:
    source = mr_object()
    source.add_new(add_block(source, 0x0019, HEADER) + 0x77, "LO", "Doe^Jane")
    source.add_new(add_block(source, 0x0009, "GEMS_IDEN_01") + 0x30, "SH", "orange")
    assert not [e for e in derive_one(source) if e.tag.is_private]


@pytest.mark.parametrize("others", [1, 3])
def test_the_creator_counts_and_not_the_block(others: int) -> None:
    source = mr_object()
    block = add_block(source, 0x0051, HEADER, others=others)
    source.add_new(block + 0x0B, "LO", "90*90")
    # The foreign blocks before hold something at the low bytes 0x09 and 0x11.
    after = derive_one(source)
    assert found(after) == {(HEADER, 0x0B)}
    assert after.private_block(0x0051, HEADER)[0x0B].value == "90*90"


def test_an_element_without_a_creator_is_gone() -> None:
    source = mr_object()
    source.add_new(0x0019100A, "US", 60)
    assert not [e for e in derive_one(source) if e.tag.is_private]


def test_a_creator_with_spaces_around() -> None:
    source = mr_object()
    source.add_new(0x00190010, "LO", f" {HEADER} ")
    source.add_new(0x0019100A, "US", 60)
    assert found(derive_one(source)) == {(HEADER, 0x0A)}


def siemens_enhanced() -> Dataset:
    """Make an object with the private sequence that XA puts into functional groups."""
    inner = Dataset()
    block = add_block(inner, 0x0021, "SIEMENS MR SDI 02")
    inner.add_new(block + 0x53, "FD", 24.414)
    inner.add_new(block + 0x71, "UT", "who was here")
    inner.PatientComments = "who was here"
    inner.AcquisitionTime = "101500"
    source = mr_object()
    outer = add_block(source, 0x0021, "SIEMENS MR SDI 02")
    source.add_new(outer + 0xFE, "SQ", Sequence([inner]))
    return source


def test_of_private_sequences_only_what_is_allowed_stays() -> None:
    after = derive_one(siemens_enhanced())
    (item,) = after.private_block(0x0021, "SIEMENS MR SDI 02")[0xFE].value
    assert item.private_block(0x0021, "SIEMENS MR SDI 02")[0x53].value == 24.414
    public = [e.keyword for e in item if not e.tag.is_private]
    assert public == ["AcquisitionTime"]
    assert set(public) <= set(NESTED_PUBLIC)


def test_how_a_philips_series_was_accelerated_stays() -> None:
    """Of classic series it stands nowhere else."""
    source = philips_classic(philips_factors(2.5, 1.0, "SENSE", "YES"))
    before, after = read_acquisition(source), read_acquisition(derive_one(source))
    assert before.in_plane_factor == 2.5
    assert (after.in_plane_factor, after.accelerated) == (2.5, True)


def test_a_private_sequence_of_which_nothing_stays_is_gone() -> None:
    source = siemens_enhanced()
    (item,) = source.private_block(0x0021, "SIEMENS MR SDI 02")[0xFE].value
    del item[item.private_block(0x0021, "SIEMENS MR SDI 02").get_tag(0x53)]
    del item.AcquisitionTime
    assert not [e for e in derive_one(source) if e.tag.is_private]


def test_a_source_in_implicit_vr_gets_the_representations_of_the_table(tmp_path: Path) -> None:
    source = siemens_enhanced()
    block = add_block(source, 0x2005, "Philips MR Imaging DD 001")
    source.add_new(block + 0x0E, "FL", 0.0358697)
    source.add_new(block + 0x0D, "FL", 0.0)
    read = in_syntax(source, ImplicitVRLittleEndian, tmp_path)
    after = derive_one(read)
    scale = after.private_block(0x2005, "Philips MR Imaging DD 001")
    assert scale[0x0E].VR == "FL"
    assert scale[0x0E].value == pytest.approx(0.0358697)
    assert found(after) == {
        ("SIEMENS MR SDI 02", 0xFE),
        ("SIEMENS MR SDI 02", 0x53),
        ("Philips MR Imaging DD 001", 0x0D),
        ("Philips MR Imaging DD 001", 0x0E),
    }


def test_a_big_endian_source(tmp_path: Path) -> None:
    source = mr_object()
    block = add_block(source, 0x0019, HEADER)
    source.add_new(block + 0x0A, "US", 60)
    uih = add_block(source, 0x0065, "Image Private Header")
    source.add_new(uih + 0x09, "UN", b"\0\0\0\0\0\0\xf0\x3f")
    after = derive_one(in_syntax(source, ExplicitVRBigEndian, tmp_path))
    assert after.private_block(0x0019, HEADER)[0x0A].value == 60
    assert found(after) == {(HEADER, 0x0A)}, "nobody knows which bytes of UN to turn round"


def test_bytes_that_are_no_value_are_gone() -> None:
    source = mr_object()
    block = add_block(source, 0x0065, "Image Private Header")
    source.add_new(block + 0x09, "UN", b"\x01\x02\x03\x04")  # half a number
    assert not [e for e in derive_one(source) if e.tag.is_private]


# ------------------------------------------------------------------------------- CSA headers

FIELDS = [
    CsaField("EchoLinePosition", 1, "IS", 6, 77, ("32", "", "")),
    CsaField("NumberOfImagesInMosaic", 1, "US", 9, 77, ("60", "", "")),
    CsaField("SliceNormalVector", 3, "FD", 4, 77, ("0.0", "0.10799944", "0.99415095")),
    CsaField("ExamDataRole", 1, "ST", 21, 205, ("Doe^Jane",)),
    CsaField("UserDefinedImage", 1, "UT", 21, 205, ()),
]


def csa_object(content: Any, vr: str = "OB") -> Dataset:
    source = mr_object()
    block = add_block(source, 0x0029, CSA)
    source.add_new(block + 0x10, vr, content)
    source.add_new(block + 0x20, "OB", b"SV10 and a protocol of many pages")
    return source


def test_of_the_csa_header_known_fields_stay() -> None:
    after = derive_one(csa_object(write_fields(FIELDS)))
    assert found(after) == {(CSA, 0x10)}
    content = after.private_block(0x0029, CSA)[0x10].value
    assert read_fields(content) == [FIELDS[1], FIELDS[2]]
    assert b"Doe" not in content


def test_what_lies_behind_the_texts_is_gone() -> None:
    content = bytearray(write_fields(FIELDS))
    at = content.index(b"SliceNormalVector\0") + len("SliceNormalVector\0")
    content[at : at + 8] = b"Doe^Jane"
    assert read_fields(bytes(content)) == FIELDS
    assert b"Doe" not in reduce_csa(bytes(content), CSA_FIELDS)


def test_the_same_fields_give_the_same_bytes() -> None:
    content = write_fields(FIELDS)
    assert write_fields(read_fields(content)) == content
    assert reduce_csa(content, {field.name for field in FIELDS}) == content


@pytest.mark.parametrize(
    "content",
    [b"", b"SV10", b"CSA1" + b"\0" * 200, write_fields(FIELDS)[:-200], b"SV10" + b"\xff" * 500],
    ids=["empty", "cut", "another", "short", "wild"],
)
def test_a_damaged_csa_header_is_gone(content: bytes) -> None:
    with pytest.raises(ValueError, match="CSA header"):
        read_fields(content)
    assert not [e for e in derive_one(csa_object(content)) if e.tag.is_private]


def test_a_csa_header_that_is_no_bytes_is_gone() -> None:
    assert not [e for e in derive_one(csa_object("text", "LO")) if e.tag.is_private]


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=6
    ),
    end=st.integers(0, 2000),
)
@example(changes=[(96, b"\xff\xff\xff\x7f")], end=2000)
def test_damaged_bytes_raise_nothing_else(changes: list[tuple[int, bytes]], end: int) -> None:
    content = bytearray(write_fields(FIELDS))
    for at, new in changes:
        content[at : at + len(new)] = new
    try:
        fields = read_fields(bytes(content[:end]))
    except ValueError:
        return
    # Names may hold anything that is ASCII by now; what was read can be written and read again.
    assert read_fields(write_fields(fields)) == [replace(field) for field in fields]


# --------------------------------------------------------------------------------- real series

CASES = [
    "si_e11_epi_p2", "si_vb17_epi_p2", "si_vb17_epi_mb_nopat_j2k", "si_xa30_classic_tfl_p2",
    "si_xa10_enh_sms2_nopat", "si_xa61_enh_p2", "ge_dwi_asset2", "ge_fmri_hb8_r1",
    "ph_r57_classic_ffe_cs4", "ph_r57_classic_fmri_s1p5_mb3", "ph_r11_enh_tse_none",
    "uih_r002_dti_p2_nex6", "cn_v61_classic_speeder2",
]  # fmt: skip


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("case", CASES)
def test_real_headers_keep_nothing_else(case: str, cases: Path) -> None:
    source = dcmread(min((cases / case).glob("*.dcm")))
    kept = list(private_values(Carrier().header(source)))
    assert {(owner, low) for _, owner, low, _ in kept} <= {(c, low) for _, c, low in ALLOWED}
    before = [value for _, _, _, value in private_values(source)]
    for _, owner, low, value in kept:
        if (owner, low) == (CSA, 0x10):
            assert {field.name for field in read_fields(value)} <= set(CSA_FIELDS)
        elif not isinstance(value, Sequence):
            assert value in before
    name = str(source.PatientName)
    assert not [v for *_, v in kept if isinstance(v, str | bytes) and name in str(v)]
