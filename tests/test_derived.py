"""Derived instances: exact pixels, kept geometry, said provenance, the same every time."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from derived_support import MADE_BY, REAL, real_files, unchanged
from dicom_maker import (
    ORIENTATIONS,
    add_block,
    add_siemens_classic,
    encoded,
    made_uid,
    mr_series,
    reread,
    set_raw,
    set_vr,
)
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.carry import DROPPED
from halfscan_plugin.derived import (
    Derivation,
    DerivedSeries,
    Provenance,
    derive,
    is_halfscan_output,
    pixel_digest,
    source_pixels,
    source_uids,
)
from halfscan_plugin.headers import integer
from halfscan_plugin.reconstruction import LARGEST_NUMBER, free_number
from halfscan_plugin.rules import decide
from halfscan_plugin.volume import read_volume

BITS = [(8, 8), (8, 7), (16, 12), (16, 16), (16, 9), (32, 24)]
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    bits=st.sampled_from(BITS),
    signed=st.booleans(),
    orientation=st.sampled_from(sorted(ORIENTATIONS)),
    slope=st.one_of(st.none(), st.floats(1e-4, 1e4)),
    intercept=st.one_of(st.none(), st.floats(0, 1e6)),
    seed=st.integers(0, 2**32 - 1),
    shuffled=st.randoms(use_true_random=False),
)
def test_what_did_not_change_is_stored_bit_for_bit(
    *,
    size: tuple[int, int, int],
    bits: tuple[int, int],
    signed: bool,
    orientation: str,
    slope: float | None,
    intercept: float | None,
    seed: int,
    shuffled: Any,
) -> None:
    slices, rows, columns = size
    series = mr_series(
        slices,
        rows=rows,
        columns=columns,
        bits=bits,
        signed=signed,
        orientation=orientation,
        seed=seed,
        RescaleSlope=None if slope is None else f"{slope:.6g}",
        RescaleIntercept=None if intercept is None else f"{intercept:.6g}",
    )
    mixed = [reread(dataset) for dataset in series]
    shuffled.shuffle(mixed)
    derived = unchanged(mixed)
    assert derived.clipped_pixels == 0
    for before, after in zip(series, map(reread, derived.datasets), strict=True):
        np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
        assert after.pixel_array.dtype == before.pixel_array.dtype
        (reference,) = after.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert after.ImagePositionPatient == before.ImagePositionPatient


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, 0), (2, 100), (3, 50)])
def test_changes_are_rounded_to_stored_values(slope: float, intercept: float) -> None:
    pixels = np.full((2, 3, 4), 50)
    series = mr_series(pixels=pixels, RescaleSlope=slope, RescaleIntercept=intercept)
    source = read_volume(series)
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, 4096, pixels.shape)
    result = (wanted + rng.uniform(-0.4, 0.4, pixels.shape)) * slope + intercept
    derived = derive(source, result.astype(np.float32), MADE_BY, series_number=1)
    np.testing.assert_array_equal([d.pixel_array for d in derived.datasets], wanted)


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high"),
    [((16, 12), False, 0, 4095), ((16, 12), True, -2048, 2047), ((8, 8), False, 0, 255)],
)
def test_clipping_is_counted(*, bits: tuple[int, int], signed: bool, low: int, high: int) -> None:
    series = mr_series(2, bits=bits, signed=signed, pixels=np.full((2, 2, 3), 100))
    source = read_volume(series)
    result = source.volume.copy()
    result[0, 0] = [high + 0.4, high + 1, 1e30]
    result[1, 1] = [low - 0.4, low - 1, -1e30]
    derived = derive(source, result, MADE_BY, series_number=1)
    first, second = (dataset.pixel_array for dataset in derived.datasets)
    assert first[0].tolist() == [high, high, high]
    assert second[1].tolist() == [low, low, low]
    assert derived.clipped_pixels == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_result_that_is_not_finite_is_refused(value: float) -> None:
    source = read_volume(mr_series(2))
    result = source.volume.copy()
    result[1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        derive(source, result, MADE_BY, series_number=1)


def test_a_result_of_another_shape_is_refused() -> None:
    source = read_volume(mr_series(2))
    with pytest.raises(ValueError, match="shape"):
        derive(source, source.volume[:1], MADE_BY, series_number=1)


GEOMETRY = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID",
    "AcquisitionTime", "SliceThickness",
)  # fmt: skip
KEPT = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "Modality", "SeriesDate", "AcquisitionDate",
    "AcquisitionTime", "ContentDate", "ContentTime", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation", "RepetitionTime", "EchoTime",
    "Manufacturer", "PatientPosition", "SOPClassUID", "SpecificCharacterSet", "InstanceNumber",
]  # fmt: skip


def test_patient_study_geometry_and_times_are_kept() -> None:
    series = mr_series(3, orientation="oblique", RescaleSlope="2", WindowCenter="100")
    for before, after in zip(series, unchanged(series).datasets, strict=True):
        for keyword in [*KEPT, "RescaleSlope", "WindowCenter"]:
            assert after[keyword].value == before[keyword].value, keyword


def test_what_it_says_of_itself() -> None:
    series = mr_series(2)
    series_derived = unchanged(series)
    for before, after in zip(series, series_derived.datasets, strict=True):
        assert after.ImageType == ["DERIVED", "SECONDARY", "M", "ND"]
        assert after.SeriesInstanceUID == series_derived.series_instance_uid
        assert after.SeriesNumber == 1005
        assert after.SeriesDescription == "t2_tse_sag HS"
        assert "dbpn-t 1" in after.DerivationDescription
        assert "strength 1" in after.DerivationDescription
        (reference,) = after.SourceImageSequence
        assert reference.ReferencedSOPClassUID == before.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        (equipment,) = after.ContributingEquipmentSequence
        assert equipment.Manufacturer == "Halfscan"
        assert "ab" * 32 in equipment.ContributionDescription
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert len(str(after.SOPInstanceUID)) <= 64


def test_the_codes_are_those_of_the_standard() -> None:
    (after, _) = unchanged(mr_series(2)).datasets
    (purpose,) = after.SourceImageSequence[0].PurposeOfReferenceCodeSequence
    (role,) = after.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence
    used = (
        (after.DerivationCodeSequence[0], codes.cid7203.Smoothing),
        (purpose, codes.cid7202.SourceImageForImageProcessingOperation),
        (role, codes.cid7005.ProcessingEquipment),
    )
    for item, code in used:
        assert (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) == (
            code.value,
            code.scheme_designator,
            code.meaning,
        )


def test_it_is_recognised_as_our_own_and_skipped() -> None:
    series = [reread(dataset) for dataset in unchanged(mr_series(2)).datasets]
    assert all(is_halfscan_output(dataset) for dataset in series)
    decision = decide(series, read_acquisition(series[0]))
    assert (decision.reason_code, decision.possible) == ("halfscan_output", False)


def test_earlier_equipment_is_kept() -> None:
    scanner = Dataset()
    scanner.Manufacturer = "SIMULATED"
    add_block(scanner, 0x0019, "SIMULATED")
    series = mr_series(2, ContributingEquipmentSequence=Sequence([scanner]))
    after = unchanged(series).datasets[0]
    assert [item.Manufacturer for item in after.ContributingEquipmentSequence] == [
        "SIMULATED",
        "Halfscan",
    ]
    assert not is_halfscan_output(series[0]), "the source is left as it was"


def _elements(dataset: Dataset) -> list[Any]:
    found = []
    for element in dataset:
        found.append(element)
        if element.VR == "SQ":
            for item in element.value:
                found += _elements(item)
    return found


def test_private_tags_are_gone_in_sequences_too() -> None:
    below = Dataset()
    below.ReferencedSOPInstanceUID = "1.2.3"
    add_siemens_classic(below, None)
    below.ReferencedImageSequence = Sequence([add_siemens_classic(Dataset(), None)])
    series = [
        add_siemens_classic(dataset, None)
        for dataset in mr_series(2, ReferencedImageSequence=Sequence([below]))
    ]
    for after in map(reread, unchanged(series).datasets):
        assert not [element.tag for element in _elements(after) if element.tag.is_private]
        assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def test_what_described_the_sources_bytes_is_gone() -> None:
    series = mr_series(
        2,
        InstanceCreationDate="20240102",
        InstanceCreationTime="101500",
        InstanceCreatorUID="1.2.3",
        OriginalAttributesSequence=Sequence([Dataset()]),
        DigitalSignaturesSequence=Sequence([Dataset()]),
    )
    for dataset in series:
        dataset.add_new("SmallestImagePixelValue", "US", 1)
        dataset.add_new("LargestImagePixelValue", "US", 2)
    for after in unchanged(series).datasets:
        assert not [keyword for keyword in DROPPED if keyword != "PixelData" and keyword in after]


def test_groups_of_messages_and_files_are_left_out() -> None:
    series = mr_series(2)
    series[0].add_new(0x00041220, "LO", "a directory's own")
    after = reread(unchanged(series).datasets[0])
    assert 0x00041220 not in after


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_an_element_that_cannot_be_read_or_written_is_left_out() -> None:
    series = mr_series(2)
    set_raw(series[0], "PatientWeight", "FD", b"123")
    set_raw(series[0], "PatientAge", "IS", b"\x80 ")
    set_raw(series[0], "PixelPaddingValue", "IS", b"\x81 ")
    set_vr(series[0], "SeriesDescription", "IS", 7)
    set_vr(series[0], "SeriesNumber", "LO", "five")
    after = reread(unchanged(series).datasets[0])
    assert "PatientWeight" not in after
    assert "PatientAge" not in after
    assert "PixelPaddingValue" not in after
    assert (after.SeriesDescription, after.SeriesNumber) == ("7 HS", 1005)
    assert after.PatientID == "PHANTOM-1"


@pytest.mark.parametrize(
    ("before", "description", "expected"),
    [
        ("t1_tse", None, "t1_tse HS"),
        (None, None, "MR HS"),
        ("", None, "MR HS"),
        ("x" * 61, None, "x" * 61 + " HS"),
        ("x" * 64, None, "x" * 61 + " HS"),
        (["t1", "tse"], None, "t1/tse HS"),
        ("Wirbelsäule T2", None, "Wirbelsäule T2 HS"),
        ("t1_tse", "mine", "mine"),
    ],
)
def test_the_description(before: Any, description: str | None, expected: str) -> None:
    series = mr_series(2, SeriesDescription=before)
    after = reread(unchanged(series, description=description).datasets[0])
    assert after.SeriesDescription == expected


def derivation(series: list[Dataset], **options: Any) -> Derivation:
    """Give what a series gives that nothing was done to."""
    source = read_volume(series)
    return Derivation(source, source.volume, MADE_BY, **options)


def uids(derived: DerivedSeries) -> set[str]:
    return {derived.series_instance_uid, *(str(d.SOPInstanceUID) for d in derived.datasets)}


def test_twice_gives_the_same_bytes_whatever_the_order() -> None:
    series = mr_series(4)
    once = [encoded(dataset) for dataset in unchanged(series).datasets]
    again = [encoded(d) for d in unchanged([reread(d) for d in series[::-1]]).datasets]
    assert once == again


@pytest.mark.parametrize(
    "other",
    [
        replace(MADE_BY, strength=0.5),
        replace(MADE_BY, model_sha256="cd" * 32),
    ],
)
def test_another_model_or_strength_gives_other_uids(other: Provenance) -> None:
    series = mr_series(2)
    assert uids(unchanged(series)).isdisjoint(uids(unchanged(series, other)))


def test_another_set_of_instances_gives_other_uids() -> None:
    series = mr_series(3)
    assert uids(unchanged(series)).isdisjoint(uids(unchanged(series[:2])))
    assert uids(unchanged(series)).isdisjoint(uids(unchanged(mr_series(3, name="other"))))


@pytest.mark.parametrize("name", ["software_version", "model_name", "model_version"])
def test_whatever_stands_in_the_objects_changes_their_uids(name: str) -> None:
    series = mr_series(2)
    changes: dict[str, Any] = {name: "9.9"}
    other = replace(MADE_BY, **changes)
    assert not uids(unchanged(series)) & uids(unchanged(series, other))


def test_all_uids_are_valid_and_differ() -> None:
    found = uids(unchanged(mr_series(20, rows=2, columns=2)))
    assert len(found) == 21
    assert all(UID(uid).is_valid for uid in found)


def test_the_series_uid_is_known_beforehand() -> None:
    series = mr_series(2)
    choices: list[dict[str, Any]] = [{}, {"description": "knee"}, {"syntax": "source"}]
    for options in choices:
        known = derivation(series, **options).series_uid(1005)
        assert known == unchanged(series, **options).series_instance_uid


def test_whatever_changes_the_objects_changes_their_uids() -> None:
    series = mr_series(2)
    made = [
        unchanged(series),
        unchanged(series, description="x"),
        unchanged(series, syntax="source"),
        unchanged(series, series_number=1006),
        unchanged(series, remark="On demand"),
    ]
    corrected: list[dict[str, Any]] = [
        {"PatientID": "other"},
        {"SeriesDescription": "other"},
        {"EchoTime": 91},
    ]
    made += [unchanged(mr_series(2, **change)) for change in corrected]
    assert len(set().union(*map(uids, made))) == sum(len(uids(one)) for one in made)


def test_other_pixels_under_the_same_uids_give_other_uids() -> None:
    before, after = (mr_series(pixels=np.full((2, 3, 4), value)) for value in (50, 51))
    assert [d.SOPInstanceUID for d in before] == [d.SOPInstanceUID for d in after]
    assert not uids(unchanged(before)) & uids(unchanged(after))
    source = read_volume(before)
    other_result = derive(source, source.volume + 1, MADE_BY, series_number=1005)
    assert not uids(unchanged(before)) & uids(other_result)


def test_it_names_its_sources_by_uid_and_by_pixels() -> None:
    series = mr_series(3)
    source = read_volume(series)
    for index, after in enumerate(map(reread, unchanged(series).datasets)):
        assert source_uids(after) == [source.sources[index].SOPInstanceUID]
        assert source_pixels(after) == pixel_digest(source, index)
    assert len({pixel_digest(source, index) for index in range(3)}) == 3
    assert source_pixels(series[0]) is None
    assert source_uids(series[0]) == []


@pytest.mark.parametrize(
    ("number", "taken", "expected"),
    [
        (5, [], 1005),
        (5, [1004, 1006], 1005),
        (5, [1005, 1006], 1007),
        (None, [], 1000),
        ("", [1000], 1001),
        (0, [], 1000),
        (LARGEST_NUMBER, [], 1000),
        (-3, [], 1000),
    ],
)
def test_the_series_number_is_free_in_the_study(
    number: Any, taken: list[int], expected: int
) -> None:
    others = {made_uid("other", n): n for n in taken}
    base = integer(mr_series(2, SeriesNumber=number)[0], "SeriesNumber")
    assert free_number(base, others, made_at) == expected


@functools.cache
def made_at(number: int) -> str:
    """Give the UID of a derived series under a number."""
    return derivation(mr_series(2)).series_uid(number)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_series_number_that_is_none() -> None:
    series = mr_series(2)
    set_raw(series[0], "SeriesNumber", "IS", b"five")
    assert free_number(integer(series[0], "SeriesNumber"), {}, made_at) == 1000


def test_the_series_number_is_the_same_when_it_is_made_again() -> None:
    taken = {made_uid("other"): 1005}
    number = free_number(5, taken, made_at)
    taken |= {made_at(number): number, made_uid("later"): number + 1}
    assert free_number(5, taken, made_at) == number == 1006
    del taken[made_uid("other")]
    assert free_number(5, taken, made_at) == number, "what is there keeps its number"


@settings(deadline=None)
@given(taken=st.lists(st.integers(0, 1020)), there=st.lists(st.integers(1000, 1020)))
def test_one_uid_has_one_series_number(taken: list[int], there: list[int]) -> None:
    """Whatever else a study holds: a folder and an archive hold other series."""
    numbers = {made_uid("other", n): n for n in taken} | {made_at(n): n for n in there}
    number = free_number(5, numbers, made_at)
    assert numbers.get(made_at(number), number) == number
    assert bool(there) == (made_at(number) in numbers), "what is there is made again, no other"
    assert bool(there) or number not in taken


@pytest.mark.parametrize("rounds", [4])
def test_a_series_that_grows_keeps_its_number(rounds: int) -> None:
    taken, replaces = {made_uid("other"): 1005}, list[str]()
    for length in range(2, 2 + rounds):
        series = mr_series(length)

        uid_of = derivation(series).series_uid
        number = free_number(5, taken, uid_of, replaces)
        assert number == 1006
        taken = {made_uid("other"): 1005, uid_of(number): number}
        replaces = [uid_of(number)]
    foreign = taken | {made_uid("foreign"): 1006}
    assert free_number(5, foreign, made_uid, replaces) == 1007, "another series has it by now"
    assert free_number(5, {}, made_uid, replaces) == 1005, "it is not in the archive any more"


def test_nested_attributes_of_ambiguous_representation_are_written() -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [2, 0, 16])
    table.add_new("LUTData", "US", [0, 1])
    series = mr_series(2, VOILUTSequence=Sequence([table]))
    for dataset in series:
        dataset.add_new("PixelPaddingValue", "US", 0)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    after = reread(unchanged([reread(dataset) for dataset in series]).datasets[0])
    assert list(after.VOILUTSequence[0].LUTDescriptor) == [2, 0, 16]
    assert after.PixelPaddingValue == 0


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("case", REAL)
def test_real_series_come_back_bit_for_bit(case: str, cases: Path) -> None:
    series = [dcmread(file) for file in real_files(cases / case)]
    derived = unchanged(series)
    assert (derived.clipped_pixels, derived.notes) == (0, ())
    sources = read_volume(series).sources
    assert len(derived.datasets) == len(series)
    for before, after in zip(sources, map(reread, derived.datasets), strict=True):
        np.testing.assert_array_equal(pixel_array(after), pixel_array(before))
        assert after.BitsStored == before.BitsStored
        for keyword in GEOMETRY:
            assert after.get(keyword) == before.get(keyword)
