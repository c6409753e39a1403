"""Folders of DICOM files: read them series by series, write a derived one."""

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from halfscan_plugin.acquisition import MR_IMAGES
from halfscan_plugin.errors import BadInput
from halfscan_plugin.headers import text, uid
from halfscan_plugin.volume import UnreadableSeries

__all__ = ["Folder", "Ignored", "parse", "read_folder", "read_series", "write_series"]


DEFLATED = DeflatedExplicitVRLittleEndian.encode()
HEAD = 4096  # bytes in which the transfer syntax stands
PREAMBLE, PREFIX = 128, b"DICM"
# Groups with which a file without preamble begins: meta information, or the data set itself.
FIRST_GROUPS = (0x0002, 0x0008)
LONGEST_FIRST = 1024  # bytes of its first value: a length, a version, a character set, a type
SMALL_INFLATED, MOST_INFLATION = 2**26, 50  # bytes; MR images shrink to a half or a third
CHUNK = 2**20
# Names that only DICOM files have: one of them that is none has lost its beginning.
DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
# Codes of files that were left out although an image may be lost by it.
LOSSES = {"damaged_file", "too_large", "duplicate_instance"}
# Two objects that differ in one of these are two images, whatever their SOPInstanceUID says.
TELLING = (
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "EchoTime",
    "AcquisitionTime",
    "Rows",
    "Columns",
    "NumberOfFrames",
)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that was left out.

    Parameters
    ----------
    file : Path
        The file.
    code : str
        ``not_dicom``, ``no_series`` and ``same_object`` take nothing away; ``damaged_file``,
        ``too_large`` and ``duplicate_instance`` (another image has its SOPInstanceUID) may.
    reason : str
        Why, for people.
    """

    file: Path
    code: str
    reason: str

    @property
    def is_loss(self) -> bool:
        """Whether an image may be missing because of it."""
        return self.code in LOSSES


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies under some paths.

    Parameters
    ----------
    series : dict of str to list of (Path, Dataset)
        Files and headers (no pixels) by SeriesInstanceUID.
    ignored : list of Ignored
        Files that were left out, and why.
    """

    series: dict[str, list[tuple[Path, Dataset]]]
    ignored: list[Ignored]

    @property
    def losses(self) -> list[Ignored]:
        """The files without which an image may be missing."""
        return [one for one in self.ignored if one.is_loss]


def read_folder(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> Folder:
    """Read the headers of all files under some paths.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders; folders are read with all that is below them.
    progress : callable, optional
        Called with (files read, all).

    Raises
    ------
    BadInput
        If a path does not exist.
    """
    files = list(dict.fromkeys(_files(paths)))
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    ignored: list[Ignored] = []
    seen: dict[str, Path] = {}
    for number, file in enumerate(files, 1):
        try:
            header = parse(file, pixels=False)
        except UnreadableSeries as error:
            ignored.append(_unreadable(file, error))
        else:
            problem = _problem(file, header, seen)
            if problem is None:
                seen[text(header, "SOPInstanceUID")] = file
                series.setdefault(text(header, "SeriesInstanceUID"), []).append((file, header))
            else:
                ignored.append(problem)
        if progress is not None:
            progress(number, len(files))
    return Folder(series, ignored)


def parse(source: Path | BinaryIO, *, pixels: bool = True) -> Dataset:
    """Parse one DICOM file.

    Files without preamble, or without all of their meta information (PS3.10 section 7.1 asks for
    both), are read too, as Orthanc reads them.

    Parameters
    ----------
    source : Path or binary file object
        The file.
    pixels : bool
        Whether PixelData is read too.

    Raises
    ------
    UnreadableSeries
        If it cannot be opened or is no DICOM file, if what follows is damaged, or if it would
        grow beyond all measure when it is inflated.
    """
    try:
        bare = _is_bare(_head(source))
        _check_deflated(source)
        dataset = dcmread(source, stop_before_pixels=not pixels, force=bare)
    except InvalidDicomError as error:
        raise UnreadableSeries("damaged_file", "not a DICOM file") from error
    except (MemoryError, UnreadableSeries):
        raise
    except Exception as error:  # pydicom raises all kinds of exceptions on damaged bytes
        raise UnreadableSeries("damaged_file", f"cannot be parsed: {error}") from error
    if not text(dataset.file_meta, "TransferSyntaxUID"):
        _name_syntax(dataset)
    return dataset


def read_series(files: Sequence[Path]) -> list[Dataset]:
    """Read the files of one series, pixels included.

    Raises
    ------
    UnreadableSeries
        If one of them cannot be read; the message names it.
    """
    datasets = []
    for file in files:
        try:
            datasets.append(parse(file))
        except UnreadableSeries as error:
            raise UnreadableSeries(error.code, f"{file.name}: {error}") from error
    return datasets


def write_series(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write a series into a folder of its own: all of it, or nothing.

    Parameters
    ----------
    datasets : sequence of Dataset
        The objects.
    folder : Path
        Its parent is created; a folder of this name is replaced.

    Returns
    -------
    list of Path
        The files, ``0001.dcm`` and so on.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    """
    try:
        return _write_series(datasets, folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error}") from error


def _write_series(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".halfscan-", dir=folder.parent))
    try:
        for number, dataset in enumerate(datasets, 1):
            dcmwrite(workplace / f"{number:04d}.dcm", dataset, enforce_file_format=True)
        if folder.exists():
            shutil.rmtree(folder)
        # mkdtemp's folder is closed to others; a result is as open as the user's other files.
        mask = os.umask(0)
        os.umask(mask)
        workplace.chmod(0o777 & ~mask)
        workplace.rename(folder)
    except BaseException:
        shutil.rmtree(workplace, ignore_errors=True)
        raise
    return sorted(folder.iterdir())


def _head(source: Path | BinaryIO) -> bytes:
    """Give the first bytes of a file, and leave it as it was."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(HEAD)
    place = source.tell()
    head = source.read(HEAD)
    source.seek(place)
    return head


def _is_bare(head: bytes) -> bool:
    """Tell a data set without preamble from any other file by its first two elements."""
    if head[PREAMBLE:].startswith(PREFIX):
        return False
    first = _element_at(head, 0)
    if first is None or first[0] >> 16 not in FIRST_GROUPS or first[1] > LONGEST_FIRST:
        return False
    second = _element_at(head, first[1])
    return second is not None and first[0] < second[0] < (first[0] >> 16) + 0x40 << 16


def _element_at(head: bytes, place: int) -> tuple[int, int] | None:
    """Read the tag of an element and where it ends; None where no element can stand."""
    start = head[place : place + 12]
    if len(start) < 12:
        return None
    # Both groups are below 256: which of their bytes is zero tells the byte order.
    order: Literal["big", "little"] = "big" if start[0] == 0 else "little"
    tag = int.from_bytes(start[:2], order) << 16 | int.from_bytes(start[2:4], order)
    vr = start[4:6].decode("latin-1")
    if vr not in STANDARD_VR:
        if order == "big":  # there is no implicit VR in this order
            return None
        return tag, place + 8 + int.from_bytes(start[4:8], order)
    if vr in EXPLICIT_VR_LENGTH_32:
        return tag, place + 12 + int.from_bytes(start[8:12], order)
    return tag, place + 8 + int.from_bytes(start[6:8], order)


def _name_syntax(dataset: Dataset) -> None:
    """Write down how an object was read whose meta information does not say it, and what it is."""
    implicit, little = dataset.original_encoding
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax if little else ExplicitVRBigEndian
    if "MediaStorageSOPClassUID" not in dataset.file_meta:
        dataset.file_meta.MediaStorageSOPClassUID = uid(dataset, "SOPClassUID")


def _check_deflated(source: Path | BinaryIO) -> None:
    """Refuse a deflated object (PS3.5 section A.5) that inflates to more than any image does.

    pydicom inflates all of it at once: a file of a megabyte can ask for a gigabyte.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            _check_deflated(file)
        return
    place = source.tell()
    head = source.read(HEAD)
    if DEFLATED in head:
        # Preamble, prefix and (0002,0000), whose value is the length of the rest of the group.
        meta = PREAMBLE + len(PREFIX) if head[PREAMBLE:].startswith(PREFIX) else 0
        start = meta + 12 + int.from_bytes(head[meta + 8 : meta + 12], "little")
        source.seek(place + start)
        deflated = source.read()
        most = max(SMALL_INFLATED, MOST_INFLATION * len(deflated))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated, left = 0, deflated
        while left and not inflater.eof:
            inflated += len(inflater.decompress(left, CHUNK))
            left = inflater.unconsumed_tail
            if inflated > most:
                raise UnreadableSeries(
                    "too_large", f"{len(deflated)} bytes inflate to more than {most}"
                )
    source.seek(place)


def _unreadable(file: Path, error: UnreadableSeries) -> Ignored:
    no_dicom = isinstance(error.__cause__, InvalidDicomError)
    if no_dicom and file.suffix.lower() not in DICOM_SUFFIXES:
        return Ignored(file, "not_dicom", str(error))
    return Ignored(file, error.code, f"damaged: {error}" if no_dicom else str(error))


def _problem(file: Path, header: Dataset, seen: dict[str, Path]) -> Ignored | None:
    """Say why a file is no object of a series, or one that was read already."""
    missing = [name for name in ("SeriesInstanceUID", "SOPInstanceUID") if not text(header, name)]
    if missing:
        kind = uid(header.file_meta, "MediaStorageSOPClassUID")
        if kind == MediaStorageDirectoryStorage:
            return Ignored(file, "no_series", "a directory of files: no SeriesInstanceUID")
        reason = f"damaged, or no object of a series: no {', no '.join(missing)}"
        return Ignored(file, "damaged_file", reason)
    if uid(header.file_meta, "MediaStorageSOPClassUID") in MR_IMAGES and not text(header, "Rows"):
        return Ignored(file, "damaged_file", "damaged: an MR image that ends before its pixels")
    double = seen.get(text(header, "SOPInstanceUID"))
    return None if double is None else _compare(file, header, double)


def _compare(file: Path, header: Dataset, other: Path) -> Ignored:
    """Tell a copy of an object from another one that has its SOPInstanceUID."""
    if _is_same(file, header, other):
        return Ignored(file, "same_object", f"the same object as {other}")
    reason = f"another image than {other}, with the same SOPInstanceUID: left out"
    return Ignored(file, "duplicate_instance", reason)


def _is_same(file: Path, header: Dataset, other: Path) -> bool:
    try:
        first = parse(other, pixels=False)
        if any(text(header, keyword) != text(first, keyword) for keyword in TELLING):
            return False
        syntaxes = {text(one.file_meta, "TransferSyntaxUID") for one in (header, first)}
        # Coded in another way, the same pixels have other bytes.
        return len(syntaxes) > 1 or parse(file).get("PixelData") == parse(other).get("PixelData")
    except UnreadableSeries:
        return False


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:
            why = "does not exist" if isinstance(error, FileNotFoundError) else f"({error})"
            raise BadInput(f"{path} {why}") from error
        if path.is_dir():
            # Hidden files are editors' and file systems' own.
            found = (f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
            yield from sorted(found)
        else:
            yield path
