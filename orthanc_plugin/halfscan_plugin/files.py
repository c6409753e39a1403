"""Folders of DICOM files: read them series by series, write a derived one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError

from halfscan_plugin.errors import BadInput
from halfscan_plugin.headers import text
from halfscan_plugin.volume import UnreadableSeries

__all__ = ["Folder", "parse", "read_folder", "read_series", "write_series"]


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies under some paths.

    Parameters
    ----------
    series : dict of str to list of (Path, Dataset)
        Files and headers (no pixels) by SeriesInstanceUID.
    ignored : list of (Path, str)
        Files that are no DICOM objects of a series, and why.
    """

    series: dict[str, list[tuple[Path, Dataset]]]
    ignored: list[tuple[Path, str]]


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
    ignored: list[tuple[Path, str]] = []
    seen: dict[str, Path] = {}
    for number, file in enumerate(files, 1):
        try:
            header = parse(file, pixels=False)
            problem = _problem(header, seen)
        except UnreadableSeries as error:
            problem = str(error)
        if problem is None:
            seen[text(header, "SOPInstanceUID")] = file
            series.setdefault(text(header, "SeriesInstanceUID"), []).append((file, header))
        else:
            ignored.append((file, problem))
        if progress is not None:
            progress(number, len(files))
    return Folder(series, ignored)


def parse(source: Path | BinaryIO, *, pixels: bool = True) -> Dataset:
    """Parse one DICOM file.

    Parameters
    ----------
    source : Path or binary file object
        The file.
    pixels : bool
        Whether PixelData is read too.

    Raises
    ------
    UnreadableSeries
        If it cannot be opened or is no DICOM file, or what follows is damaged.
    """
    try:
        return dcmread(source, stop_before_pixels=not pixels)
    except InvalidDicomError as error:
        raise UnreadableSeries("damaged_file", "not a DICOM file") from error
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises all kinds of exceptions on damaged bytes
        raise UnreadableSeries("damaged_file", f"cannot be parsed: {error}") from error


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


def _problem(header: Dataset, seen: dict[str, Path]) -> str | None:
    """Say why a file is no object of a series, or one that was read already."""
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        if not text(header, keyword):
            return f"not an object of a series: no {keyword}"
    if not text(header.file_meta, "TransferSyntaxUID"):
        return "not an object of a series: no TransferSyntaxUID"
    double = seen.get(text(header, "SOPInstanceUID"))
    return None if double is None else f"the same object as {double}"


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
