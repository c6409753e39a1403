"""Folders of DICOM files: read them series by series, write a derived one."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError

from halfscan_plugin.errors import BadInput

__all__ = ["Folder", "read_folder", "read_series", "write_series"]


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
    files = list(_files(paths))
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    ignored: list[tuple[Path, str]] = []
    for number, file in enumerate(files, 1):
        try:
            header = dcmread(file, stop_before_pixels=True)
            uid = str(header.SeriesInstanceUID)
            _ = header.SOPInstanceUID, header.file_meta.TransferSyntaxUID
        except InvalidDicomError:
            ignored.append((file, "not a DICOM file"))
        except AttributeError as error:
            ignored.append((file, f"not an object of a series: {error}"))
        except (OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError) as error:
            ignored.append((file, f"cannot be parsed: {error}"))
        else:
            series.setdefault(uid, []).append((file, header))
        if progress is not None:
            progress(number, len(files))
    return Folder(series, ignored)


def read_series(files: Sequence[Path]) -> list[Dataset]:
    """Read the files of one series, pixels included."""
    return [dcmread(file) for file in files]


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
    """
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


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise BadInput(f"{path} does not exist")
        if path.is_dir():
            # Hidden files are editors' and file systems' own.
            found = (f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
            yield from sorted(found)
        else:
            yield path
