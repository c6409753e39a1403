"""Folders of DICOM files: read with what is wrong in them, written as a whole or not at all."""

import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

from derived_support import unchanged
from dicom_maker import encoded, mr_object, mr_series, save, set_raw
from halfscan_plugin.errors import BadInput
from halfscan_plugin.files import parse, read_folder, read_series, write_series
from halfscan_plugin.pixels import decode
from halfscan_plugin.volume import UnreadableSeries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "a folder"
    place.mkdir()
    return place


def test_files_are_sorted_into_series_at_any_depth(folder: Path) -> None:
    one, two = mr_series(3, name="one"), mr_series(2, name="two")
    save(one[:1], folder)
    save(one[1:], folder / "deep" / "er")
    save(two, folder / "two")
    found = read_folder([folder])
    assert {uid: len(items) for uid, items in found.series.items()} == {
        one[0].SeriesInstanceUID: 3,
        two[0].SeriesInstanceUID: 2,
    }
    assert found.ignored == []
    for items in found.series.values():
        assert all("PixelData" not in header for _, header in items)


def test_progress_reaches_the_end(folder: Path) -> None:
    save(mr_series(3), folder)
    steps: list[tuple[int, int]] = []
    read_folder([folder], lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_files_and_folders_may_be_mixed_and_named_twice(folder: Path) -> None:
    files = save(mr_series(3), folder)
    found = read_folder([files[0], folder, folder])
    assert sum(map(len, found.series.values())) == 3
    assert found.ignored == []


def test_an_empty_folder_holds_nothing(folder: Path) -> None:
    found = read_folder([folder])
    assert (found.series, found.ignored) == ({}, [])


@pytest.mark.parametrize(
    ("name", "word"),
    [("nothing", "does not exist"), ("x" * 300, "long"), ("nul\0byte", "null")],
)
def test_a_path_that_is_none_is_named(folder: Path, name: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        read_folder([folder / name])


def test_hidden_files_are_left_alone(folder: Path) -> None:
    save(mr_series(2), folder)
    (folder / ".DS_Store").write_bytes(b"anything")
    assert read_folder([folder]).ignored == []


def _without(keyword: str) -> bytes:
    dataset = mr_object()
    del dataset[keyword]
    if keyword == "SOPInstanceUID":
        # pydicom writes no file without it.
        return encoded(mr_object()).replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x19\x00UI", 1)
    return encoded(dataset)


def _directory() -> bytes:
    dataset = Dataset()
    dataset.FileSetID = "DISK"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    return encoded(dataset)


GARBAGE: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "not a DICOM file"),
    ("text", lambda: b"hello\n" * 100, "not a DICOM file"),
    ("prefix alone", lambda: bytes(128) + b"DICM", "no SeriesInstanceUID"),
    ("prefix, noise", lambda: bytes(128) + b"DICM" + bytes(range(256)), ""),
    ("without series", lambda: _without("SeriesInstanceUID"), "no SeriesInstanceUID"),
    ("without instance", lambda: _without("SOPInstanceUID"), "no SOPInstanceUID"),
    ("DICOMDIR", _directory, "no SeriesInstanceUID"),
    ("empty series", lambda: encoded(mr_object(SeriesInstanceUID="")), "no SeriesInstanceUID"),
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("name", "make", "why"), GARBAGE, ids=[name for name, _, _ in GARBAGE])
def test_garbage_is_ignored_with_its_reason(
    folder: Path, name: str, make: Callable[[], bytes], why: str
) -> None:
    save(mr_series(2, name="good"), folder)
    (folder / name).write_bytes(make())
    found = read_folder([folder])
    assert [len(items) for items in found.series.values()] == [2]
    (ignored,) = found.ignored
    assert ignored.file == folder / name
    assert why in ignored.reason
    assert "\n" not in ignored.reason
    assert ignored.is_loss is (name not in {"empty", "text", "DICOMDIR"})
    assert found.losses == [ignored] * ignored.is_loss


@pytest.mark.parametrize("name", ["1.dcm", "1.IMA", "1.dicom"])
def test_an_image_of_which_nothing_is_left_is_a_loss(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    (lost,) = read_folder([folder]).losses
    assert (lost.code, lost.reason) == ("damaged_file", "damaged: not a DICOM file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_ignored(folder: Path) -> None:
    (file,) = save(mr_series(1), folder)
    file.chmod(0)
    (lost,) = read_folder([folder]).losses
    assert "cannot be parsed" in lost.reason


def test_a_broken_link_is_no_file(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "nowhere")
    assert read_folder([folder]).ignored == []


def test_the_same_object_twice_is_read_once(folder: Path) -> None:
    save(mr_series(2), folder)
    save(mr_series(2), folder / "copy")
    found = read_folder([folder])
    assert [len(items) for items in found.series.values()] == [2]
    assert len(found.ignored) == 2
    assert all("the same object as" in one.reason for one in found.ignored)
    assert found.losses == []


def test_the_same_object_in_another_syntax_is_the_same(folder: Path) -> None:
    save(mr_series(1), folder / "a")
    (copy,) = mr_series(1)
    copy.compress(RLELossless, generate_instance_uid=False)
    save([copy], folder / "b")
    assert [one.code for one in read_folder([folder]).ignored] == ["same_object"]


OTHERS: list[tuple[str, Callable[[Dataset], object]]] = [
    ("place", lambda d: setattr(d, "ImagePositionPatient", [0, 0, 99])),
    ("number", lambda d: setattr(d, "InstanceNumber", 99)),
    ("series", lambda d: setattr(d, "SeriesInstanceUID", "1.2.3")),
    ("pixels", lambda d: setattr(d, "PixelData", bytes(len(d.PixelData)))),
]


@pytest.mark.parametrize(("name", "change"), OTHERS, ids=[name for name, _ in OTHERS])
def test_two_images_with_one_uid_are_not_the_same_object(
    folder: Path, name: str, change: Callable[[Dataset], object]
) -> None:
    (first,) = save(mr_series(1), folder / "a")
    (other,) = mr_series(1)
    change(other)
    (second,) = save([other], folder / "b")
    (lost,) = read_folder([folder]).losses
    assert (lost.file, lost.code) == (second, "duplicate_instance"), name
    assert lost.reason == f"another image than {first}, with the same SOPInstanceUID: left out"


def test_parse_takes_files_and_bytes(folder: Path) -> None:
    dataset = mr_object()
    (file,) = save([dataset], folder)
    assert parse(file).SOPInstanceUID == parse(BytesIO(encoded(dataset))).SOPInstanceUID
    assert "PixelData" in parse(file)
    assert "PixelData" not in parse(file, pixels=False)


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(1000)])
def test_parse_refuses_what_is_no_file(content: bytes) -> None:
    with pytest.raises(UnreadableSeries, match="not a DICOM file") as caught:
        parse(BytesIO(content))
    assert caught.value.code == "damaged_file"


def bare(dataset: Dataset, syntax: UID, *, meta: bool) -> bytes:
    """Encode an object as a file without preamble, with its meta information or without."""
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    content = encoded(dataset)[132:]
    return content if meta else content[12 + int.from_bytes(content[8:12], "little") :]


# Without meta information nothing tells how pixels are coded.
BARE = [
    (ImplicitVRLittleEndian, False),
    (ExplicitVRLittleEndian, False),
    (ExplicitVRBigEndian, False),
    (ImplicitVRLittleEndian, True),
    (ExplicitVRLittleEndian, True),
    (ExplicitVRBigEndian, True),
    (DeflatedExplicitVRLittleEndian, True),
    (RLELossless, True),
]


@pytest.mark.parametrize(("syntax", "meta"), BARE)
def test_files_without_preamble_are_read(folder: Path, syntax: UID, *, meta: bool) -> None:
    whole = mr_object()
    values = decode(whole)
    dataset = mr_object()
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = values.astype(">u2").tobytes()
    (folder / "1.dcm").write_bytes(bare(dataset, syntax, meta=meta))
    found = read_folder([folder])
    assert found.ignored == []
    ((file, header),) = found.series[whole.SeriesInstanceUID]
    assert header.file_meta.TransferSyntaxUID == syntax
    assert header.file_meta.MediaStorageSOPClassUID == whole.SOPClassUID
    (read,) = read_series([file])
    np.testing.assert_array_equal(decode(read), values)
    assert read.PatientName == whole.PatientName
    (again,) = write_series([read], folder / "out")
    assert dcmread(again).file_meta.TransferSyntaxUID == syntax, "with preamble and prefix"


def test_a_file_that_does_not_say_how_it_is_coded_is_read(folder: Path) -> None:
    content = encoded(mr_object())
    content = content.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI", 1)
    (folder / "1.dcm").write_bytes(content)
    ((_, header),) = read_folder([folder]).series[mr_object().SeriesInstanceUID]
    assert header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_derived_object_has_a_preamble_though_its_source_has_none() -> None:
    sources = [
        parse(BytesIO(bare(dataset, ImplicitVRLittleEndian, meta=False)))
        for dataset in mr_series(2)
    ]
    derived = unchanged(sources).datasets
    for dataset in derived:
        again = dcmread(BytesIO(encoded(dataset)))  # not forced
        assert again.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert again.file_meta.MediaStorageSOPClassUID == MRImageStorage


NO_FILES: dict[str, bytes] = {
    "two short tags": bytes.fromhex("0800 0500 0400 0000") + b"ISO ",
    "tags that fall": bytes.fromhex("0800 0800 0200 0000") + b"A " + bytes.fromhex("0800 0500") * 4,
    "an endless first value": bytes.fromhex("0800 0500 ffffff7f") + bytes(600),
    "another group": bytes.fromhex("1000 1000 0200 0000") + b"A " + bytes.fromhex("1000 2000") * 4,
    "big endian without VR": bytes.fromhex("0008 0005 0000 0002") + b"A " + bytes(40),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_only_begins_like_a_data_set_is_no_dicom(folder: Path, name: str) -> None:
    (folder / "notes").write_bytes(NO_FILES[name])
    (ignored,) = read_folder([folder]).ignored
    assert (ignored.code, ignored.reason) == ("not_dicom", "not a DICOM file")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("length", [60, 200, 700])
def test_a_file_without_preamble_that_is_cut_short_is_damaged(folder: Path, length: int) -> None:
    content = bare(mr_object(), ImplicitVRLittleEndian, meta=False)
    (folder / "image").write_bytes(content[:length])
    (lost,) = read_folder([folder]).losses
    assert lost.code == "damaged_file"


def test_a_file_that_vanished_is_named(folder: Path) -> None:
    files = save(mr_series(2), folder)
    files[1].unlink()
    with pytest.raises(UnreadableSeries, match=files[1].name):
        read_series(files)


def test_read_series_keeps_the_order(folder: Path) -> None:
    series = mr_series(3)
    files = save(series, folder)
    read = read_series(files[::-1])
    assert [d.SOPInstanceUID for d in read] == [d.SOPInstanceUID for d in series[::-1]]


def test_a_series_is_written_into_a_folder_of_its_own(folder: Path) -> None:
    target = folder / "deep" / "series"
    files = write_series(mr_series(3), target)
    assert [file.name for file in files] == ["0001.dcm", "0002.dcm", "0003.dcm"]
    assert [dcmread(file).InstanceNumber for file in files] == [1, 2, 3]
    assert [path.name for path in target.parent.iterdir()] == ["series"], "nothing is left behind"


def test_a_result_is_as_open_as_other_files(folder: Path) -> None:
    target = folder / "series"
    write_series(mr_series(1), target)
    plain = folder / "plain"
    plain.mkdir()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_of_this_name_is_replaced(folder: Path) -> None:
    target = folder / "series"
    write_series(mr_series(3), target)
    assert len(write_series(mr_series(2), target)) == 2


def test_what_fails_leaves_the_former_folder_and_no_other(folder: Path) -> None:
    target = folder / "series"
    write_series(mr_series(2), target)
    broken = mr_series(3)
    del broken[2].file_meta.TransferSyntaxUID
    with pytest.raises(Exception, match="Transfer Syntax"):
        write_series(broken, target)
    assert len(list(target.iterdir())) == 2
    assert [path.name for path in folder.iterdir()] == ["series"]


def test_a_target_that_is_a_file_is_bad_input(folder: Path) -> None:
    (folder / "series").write_text("mine")
    with pytest.raises(BadInput, match="cannot be written"):
        write_series(mr_series(2), folder / "series")
    assert (folder / "series").read_text() == "mine"
    with pytest.raises(BadInput, match="cannot be written"):
        write_series(mr_series(2), folder / "series" / "below")
    assert [path.name for path in folder.iterdir()] == ["series"]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_numbers_that_are_none_are_no_obstacle(folder: Path) -> None:
    dataset = set_raw(mr_object(), "InstanceNumber", "IS", b"one ")
    save([dataset], folder)
    assert len(read_folder([folder]).series) == 1
