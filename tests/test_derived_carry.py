"""What is carried over from a source, and what of it cannot be."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from derived_support import in_syntax, unchanged
from dicom_maker import encoded, mr_object, mr_series, reread, set_raw, set_vr
from halfscan_plugin.carry import DROPPED, Carrier
from halfscan_plugin.charsets import encodable
from halfscan_plugin.derived import LONGEST_ST
from halfscan_plugin.headers import text
from halfscan_plugin.references import code
from image_maker import Frame, enhanced_image


def derive_one(source: Dataset, **options: Any) -> Dataset:
    return reread(unchanged([source], **options).datasets[0])


def notes(*sources: Dataset) -> tuple[str, ...]:
    return unchanged(list(sources)).notes


@pytest.mark.filterwarnings("ignore:VR lookup failed:UserWarning:pydicom")
def test_an_attribute_that_no_dictionary_knows_stays(tmp_path: Path) -> None:
    source = mr_object()
    source.add(DataElement(Tag(0x00189FF0), "UN", b"\x01\x02\x03\x04"))
    for syntax in (source.file_meta.TransferSyntaxUID, ImplicitVRLittleEndian):
        after = derive_one(in_syntax(source, syntax, tmp_path))
        assert after[0x00189FF0].value == b"\x01\x02\x03\x04"


def test_a_known_attribute_of_unknown_representation_gets_its_own() -> None:
    source = mr_object()
    del source.EchoTime
    set_raw(source, "EchoTime", "UN", b"90.5")
    after = derive_one(reread(source))
    assert (after["EchoTime"].VR, after.EchoTime) == ("DS", 90.5)


def test_nobody_can_turn_unknown_big_endian_bytes_round(tmp_path: Path) -> None:
    source = mr_object()
    source.add(DataElement(Tag(0x00189FF0), "UN", b"\x01\x02\x03\x04"))
    read = in_syntax(source, ExplicitVRBigEndian, tmp_path)
    assert notes(read) == ("(0018,9FF0) could not be carried over whole (in 1 of 1 objects)",)
    assert 0x00189FF0 not in derive_one(read)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_big_endian_words_that_are_cut_are_left_out(tmp_path: Path) -> None:
    read = in_syntax(mr_object(), ExplicitVRBigEndian, tmp_path)
    read.add_new("SelectorOWValue", "OW", b"\x01\x02\x03")
    assert notes(read) == ("SelectorOWValue could not be carried over whole (in 1 of 1 objects)",)


def test_absent_attributes_stay_absent() -> None:
    needed = {"ScanOptions", "PositionReferenceIndicator", "StudyID", "ReferringPhysicianName"}
    source = mr_object(**dict.fromkeys(needed))
    assert not needed & {element.keyword for element in derive_one(source)}


def test_empty_attributes_stay_empty() -> None:
    source = mr_object(AccessionNumber="", Laterality="", EchoTime="")
    after = derive_one(source)
    assert (after.AccessionNumber, after.Laterality, after.EchoTime) == ("", "", None)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_cannot_be_read_or_written_is_listed() -> None:
    series = mr_series(3)
    for dataset in series[:2]:
        set_raw(dataset, "PatientWeight", "FD", b"123")
    set_raw(series[0], "PatientAge", "IS", b"\x80 ")
    assert notes(*series) == (
        "PatientAge could not be carried over whole (in 1 of 3 objects)",
        "PatientWeight could not be carried over whole (in 2 of 3 objects)",
    )


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_is_replaced_anyway_is_not_listed() -> None:
    source = mr_object()
    set_raw(source, "SmallestImagePixelValue", "US", b"1")
    set_raw(source, "SeriesNumber", "IS", b"five")
    assert notes(source) == ()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_one_bad_value_in_a_sequence_does_not_take_the_others_along() -> None:
    item = Dataset()
    item.CodeValue = "T-11501"
    set_vr(item, "ContextGroupVersion", "FD", "no number")
    source = mr_object(AnatomicRegionSequence=Sequence([item]), BodyPartExamined="LSPINE")
    derived = unchanged([source])
    (after,) = map(reread, derived.datasets)
    assert [e.keyword for e in after.AnatomicRegionSequence[0]] == ["CodeValue"]
    assert derived.notes == (
        "ContextGroupVersion could not be carried over whole (in 1 of 1 objects)",
    )


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_characters_that_were_never_valid_become_question_marks() -> None:
    source = mr_object(SpecificCharacterSet="ISO_IR 192")
    set_raw(source, "PatientName", "PN", b"M\xfcller^Jane")
    set_raw(source, "ImageComments", "LT", b"90\xb0 ")
    derived = unchanged([source])
    (after,) = map(reread, derived.datasets)
    assert (str(after.PatientName), after.ImageComments) == ("M?ller^Jane", "90?")
    assert derived.notes == (
        "ImageComments could not be carried over whole (in 1 of 1 objects)",
        "PatientName could not be carried over whole (in 1 of 1 objects)",
    )


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (None, "Smith^Jane"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Жуков^Юрий"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_any_character_set(charset: Any, name: str) -> None:
    source = mr_object(SpecificCharacterSet=charset, PatientName=name)
    after = derive_one(reread(source), description="Nacken T2 für Ärzte")
    assert str(after.PatientName) == name
    assert after.SpecificCharacterSet == (charset or "") if charset else True
    assert after.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")


TEXTS = ("PatientName", "InstitutionName", "ImageComments", "ProtocolName")


def with_texts(charset: str, content: bytes, description: bytes = b"t2") -> Dataset:
    """Make an object as a file holds it, with bytes in its texts that pydicom would not write."""
    source, item = mr_object(SpecificCharacterSet=charset), Dataset()
    source.AnatomicRegionSequence = Sequence([item])
    places = dict.fromkeys(TEXTS, content) | {"SeriesDescription": description}
    for number, (keyword, value) in enumerate(places.items()):
        setattr(source, keyword, chr(ord("P") + number) * (len(value) + len(value) % 2))
    item.CodeMeaning = "Z" * (len(content) + len(content) % 2)
    file = encoded(source)
    for number, value in enumerate(places.values()):
        size = len(value) + len(value) % 2
        file = file.replace(bytes([ord("P") + number]) * size, value.ljust(size))
    size = len(content) + len(content) % 2
    return dcmread(BytesIO(file.replace(b"Z" * size, content.ljust(size))))


KATAKANA, KANJI, BOTH = "ﾔﾏﾀﾞ^ﾀﾛｳ", "山田^太郎", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"
IN_JIS = KANJI.encode("iso2022_jp")
# The second byte of some characters is a backslash in ASCII.
JAPANESE: dict[str, tuple[str, bytes]] = {
    "katakana": ("ISO_IR 13", KATAKANA.encode("shift_jis")),
    "katakana beside Latin letters": ("ISO_IR 13", "ﾖｳﾂｲ T2~".encode("shift_jis")),
    "kanji in Shift-JIS": ("ISO_IR 13", BOTH.encode("shift_jis")),
    "kanji with a backslash": ("ISO_IR 13", "表示ソ T2".encode("shift_jis")),
    "two values": ("ISO_IR 13", "腰椎\\表示".encode("shift_jis")),
    "of several sets": ("ISO 2022 IR 13\\ISO 2022 IR 87", IN_JIS.replace(b"\x1b(B", b"\x1b(J")),
    "Shift-JIS though sets": ("ISO 2022 IR 13\\ISO 2022 IR 87", BOTH.encode("shift_jis")),
    "a term that is no first one": ("ISO_IR 13\\ISO 2022 IR 87", BOTH.encode("shift_jis")),
    "in JIS": ("\\ISO 2022 IR 87", IN_JIS),
    "in JIS, from the start": ("ISO 2022 IR 6\\ISO 2022 IR 87", IN_JIS),
    "Shift-JIS beside ASCII": ("\\ISO 2022 IR 87", BOTH.encode("shift_jis")),
    "Shift-JIS called Latin-1": ("ISO_IR 100", BOTH.encode("shift_jis")),
    "Shift-JIS called ASCII": ("", BOTH.encode("shift_jis")),
}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", JAPANESE)
def test_japanese_texts_stay(name: str) -> None:
    charset, content = JAPANESE[name]
    source = with_texts(charset, content)
    derived = unchanged([source])
    assert derived.notes == ()
    (after,) = map(reread, derived.datasets)
    source = with_texts(charset, content)
    assert text(after, "SpecificCharacterSet") == charset
    for keyword in TEXTS:
        assert str(after[keyword].value) == str(source[keyword].value)
        if len(charset) <= len("ISO_IR 100"):
            assert reread(derived.datasets[0]).get_item(keyword).value.rstrip() == content
    item = after.AnatomicRegionSequence[0]
    assert item.CodeMeaning == source.AnatomicRegionSequence[0].CodeMeaning


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("written", ["ﾖｳﾂｲ", "ﾖｳﾂｲ T2", "腰椎T2", "表示ソ"])
def test_a_japanese_series_description_stays(written: str) -> None:
    source = with_texts("ISO_IR 13", b"x", written.encode("shift_jis"))
    derived = unchanged([source])
    assert derived.notes == ()
    (after,) = map(reread, derived.datasets)
    assert after.get_item("SeriesDescription").value.rstrip() == f"{written} HS".encode("shift_jis")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("charset", "content", "lost"),
    [
        # Of Windows' Shift-JIS alone.
        ("ISO_IR 13", "髙橋".encode("cp932"), {*TEXTS, "CodeMeaning", "SeriesDescription"}),
        ("ISO_IR 192", KANJI.encode("shift_jis"), {*TEXTS, "CodeMeaning", "SeriesDescription"}),
        ("ISO_IR 100", KANJI.encode("shift_jis"), {"SeriesDescription"}),
        ("", KANJI.encode("shift_jis"), {"SeriesDescription"}),
    ],
)
def test_characters_that_are_lost_are_listed(charset: str, content: bytes, lost: set[str]) -> None:
    listed = unchanged([with_texts(charset, content, content)]).notes
    assert {note.split()[0] for note in listed} == lost
    assert notes(with_texts(charset, b"x")) == ()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("charset", [b"\x00\xff", b"ISO_IR 4711", b"klingon\\ISO_IR 100"])
def test_a_character_set_that_is_none(charset: bytes) -> None:
    source = mr_object(SeriesDescription="t2")
    set_raw(source, "SpecificCharacterSet", "CS", charset)
    after = derive_one(source)
    assert (str(after.PatientName), after.SeriesDescription) == ("Phantom^Numerical", "t2 HS")
    assert after.pixel_array.shape == (12, 10)


@pytest.mark.parametrize(
    ("written", "charsets", "expected"),
    [
        ("Wirbelsäule", ["ISO_IR 192"], "Wirbelsäule"),
        ("Wirbelsäule", ["ISO_IR 100"], "Wirbelsäule"),
        ("Wirbelsäule", [], "Wirbelsaule"),
        ("Wirbelsäule", ["ISO_IR 6"], "Wirbelsaule"),
        ("脊椎 T2", ["ISO_IR 100"], "?? T2"),
        ("脊椎 T2", ["", "ISO 2022 IR 87"], "脊椎 T2"),
    ],
)
def test_our_own_texts_fit_the_character_set(
    written: str, charsets: list[str], expected: str
) -> None:
    assert encodable(written, charsets) == expected


def overlay(source: Dataset, group: int, *, embedded: bool) -> None:
    source.add_new((group, 0x0010), "US", 12)
    source.add_new((group, 0x0011), "US", 10)
    source.add_new((group, 0x0040), "CS", "G")
    source.add_new((group, 0x0050), "SS", [1, 1])
    source.add_new((group, 0x0100), "US", 16 if embedded else 1)
    source.add_new((group, 0x0102), "US", 12 if embedded else 0)
    if not embedded:
        source.add_new((group, 0x3000), "OW", b"\0" * 16)


def test_overlays_stay_and_those_within_the_pixels_get_their_own_data() -> None:
    rng = np.random.default_rng(3)
    image, drawn = rng.integers(0, 4096, (12, 10)), rng.integers(0, 2, (2, 12, 10))
    source = mr_object(pixels=(image | drawn[0] << 12 | drawn[1] << 15)[None])
    overlay(source, 0x6000, embedded=False)
    overlay(source, 0x6002, embedded=True)
    overlay(source, 0x6004, embedded=True)
    source[0x6004, 0x0102].value = 15
    derived = unchanged([reread(source)])
    (after,) = map(reread, derived.datasets)
    np.testing.assert_array_equal(after.pixel_array, image)
    np.testing.assert_array_equal(np.frombuffer(after.PixelData, "<u2").reshape(12, 10), image)
    assert after[0x6000, 0x3000].value == b"\0" * 16
    for group, plane in zip((0x6002, 0x6004), drawn, strict=True):
        np.testing.assert_array_equal(after.overlay_array(group), plane)
        assert (after[group, 0x0100].value, after[group, 0x0102].value) == (1, 0)
        assert after[group, 0x0040].value == "G"
    assert derived.notes == (
        "overlays in unused bits of the pixels are carried over as OverlayData (in 1 of 1 objects)",
    )


def test_an_overlay_of_several_frames() -> None:
    frames = [Frame([0, 0, 4 * n], place=n + 1) for n in range(3)]
    source = enhanced_image(frames, rows=12, columns=10)
    cells = np.frombuffer(source.PixelData, "<u2").reshape(3, 12, 10)
    drawn = np.random.default_rng(3).integers(0, 2, (3, 12, 10))
    source.PixelData = (cells | drawn << 12).astype("<u2").tobytes()
    overlay(source, 0x6000, embedded=True)
    (after,) = map(reread, unchanged([source]).datasets)
    np.testing.assert_array_equal(after.pixel_array, cells)
    np.testing.assert_array_equal(after.overlay_array(0x6000), drawn)
    assert (after[0x6000, 0x0015].value, after[0x6000, 0x0051].value) == (3, 1)


def test_an_overlay_without_data_or_bits_is_gone() -> None:
    source = mr_object()
    overlay(source, 0x6000, embedded=True)
    source[0x6000, 0x0102].value = 3
    assert not [element for element in derive_one(source) if element.tag.group == 0x6000]


def test_what_described_the_pixels_is_gone_in_sequences_too() -> None:
    icon, item = Dataset(), Dataset()
    icon.Rows = 8
    item.IconImageSequence = Sequence([icon])
    item.add_new("LargestImagePixelValue", "US", 4000)
    item.ReferencedSOPInstanceUID = "1.2.3"
    after = derive_one(mr_object(ReferencedImageSequence=Sequence([item])))
    kept = [element.keyword for element in after.ReferencedImageSequence[0]]
    assert kept == ["ReferencedSOPInstanceUID"]
    assert {"IconImageSequence", "LargestImagePixelValue"} <= set(DROPPED)


def test_the_source_is_left_as_it_was() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    source = mr_object(ReferencedImageSequence=Sequence([item]), WindowCenter=["1", "2"])
    before = reread(source)
    (after,) = unchanged([source]).datasets
    after.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "4.5.6"
    after.WindowCenter = "7"
    assert reread(source) == before


def test_carried_headers_are_whole() -> None:
    source = mr_object()
    carried = Carrier().header(source, leave=("EchoTime",))
    assert "EchoTime" not in carried
    assert carried.RepetitionTime == source.RepetitionTime


# ---------------------------------------------------------------------- DerivationDescription


def test_what_was_done_before_is_said_too() -> None:
    steps = Sequence([code("113040", "Lossy Compression")])
    source = mr_object(
        DerivationDescription="JPEG quality 90", DerivationCodeSequence=steps, ImageType=["DERIVED"]
    )
    after = derive_one(source)
    assert after.DerivationDescription.endswith("strength 1. Before: JPEG quality 90")
    assert [item.CodeValue for item in after.DerivationCodeSequence] == ["113040", "113087"]
    assert list(after.ImageType) == ["DERIVED", "SECONDARY"]


def test_warnings_are_said_in_the_object() -> None:
    warnings = ["noise below what the network knows", "12 pixels were\nclipped"]
    after = derive_one(mr_object(), warnings=warnings)
    said = "Warnings: noise below what the network knows; 12 pixels were clipped"
    assert after.DerivationDescription.endswith(said)


def test_a_description_ends_where_its_representation_does() -> None:
    after = derive_one(mr_object(), warnings=["x" * 2000])
    assert len(after.DerivationDescription) == LONGEST_ST
    assert after.DerivationDescription.endswith("...")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("  t2\tfast\n", "t2 fast"), ("a\\b", "a/b"), ("x" * 70, "x" * 61 + " HS")],
)
def test_a_description_is_one_line_of_one_value(wanted: str, expected: str) -> None:
    assert derive_one(mr_object(), description=wanted).SeriesDescription == expected
