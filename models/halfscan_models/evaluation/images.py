"""The images that noise is added to: given ones and simulated ones."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.errors import EvaluationError

__all__ = ["LARGEST_SIDE", "ImageSet", "centre_crop", "pick_slices", "read_nifti"]

Image = npt.NDArray[np.float64]  # (row, column)
Volume = npt.NDArray[np.float32]  # (slice, row, column)

# NIfTI-1: code of the type of a voxel, https://nifti.nimh.nih.gov/nifti-1
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_HEADER = 348
LARGEST_SIDE = 256
_SMALLEST_SIDE = 32


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images of one kind that are compared together.

    Attributes
    ----------
    name : str
        As it is printed.
    origin : {"given", "simulated"}
        Whether somebody's scanner made them.
    images : tuple of ndarray
        (row, column) magnitudes.
    """

    name: str
    origin: str
    images: tuple[Image, ...]


def read_nifti(path: Path) -> Volume:
    """Read the first volume of a NIfTI-1 file, plain or gzipped.

    Returns
    -------
    ndarray
        (slice, row, column); the axis with the fewest voxels is taken for the slices.

    Raises
    ------
    EvaluationError
        The file is no NIfTI-1 file of a known type, or ends early.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise EvaluationError(f"{path.name} is no gzip file: {error}") from error
    if len(content) < _HEADER:
        raise EvaluationError(f"a NIfTI-1 header has {_HEADER} bytes, {path.name} is shorter")
    order = "<" if struct.unpack("<i", content[:4])[0] == _HEADER else ">"
    if struct.unpack(f"{order}i", content[:4])[0] != _HEADER or content[344:347] != b"n+1":
        raise EvaluationError(f"{path.name} is no single-file NIfTI-1 image")
    dims = struct.unpack(f"{order}8h", content[40:56])
    (code,) = struct.unpack(f"{order}h", content[70:72])
    (offset,) = struct.unpack(f"{order}f", content[108:112])
    slope, intercept = struct.unpack(f"{order}2f", content[112:120])
    if code not in _TYPES or dims[0] < 3 or min(dims[1:4]) < 1:
        raise EvaluationError(f"{path.name}: type {code} with {dims[0]} dimensions is not read")
    kind = np.dtype(f"{order}{_TYPES[code]}")
    count = int(np.prod(dims[1:4]))
    if len(content) < int(offset) + count * kind.itemsize:
        raise EvaluationError(f"{path.name} ends before its last voxel")
    values = np.frombuffer(content, kind, count, int(offset)).reshape(dims[1:4], order="F")
    scaled = values.astype(np.float32)
    if slope not in (0.0, 1.0) or intercept != 0.0:
        scaled = scaled * np.float32(slope or 1.0) + np.float32(intercept)
    axis = int(np.argmin(dims[1:4]))
    return np.ascontiguousarray(np.moveaxis(scaled, axis, 0))


def centre_crop(image: npt.ArrayLike, side: int = LARGEST_SIDE) -> Image:
    """Middle of an image, at most `side` pixels along each axis."""
    pixels = np.asarray(image, np.float64)
    starts = [max(0, (length - side) // 2) for length in pixels.shape]
    return np.ascontiguousarray(pixels[starts[0] : starts[0] + side, starts[1] : starts[1] + side])


def pick_slices(volume: npt.ArrayLike, count: int) -> tuple[Image, ...]:
    """Slices spread evenly over the middle half of a volume, cropped to the middle.

    Negative values, which no magnitude has, become 0.

    Raises
    ------
    EvaluationError
        The volume is not three-dimensional, too small, or one of the slices is dark.
    """
    slices = np.asarray(volume)
    if slices.ndim != 3 or min(slices.shape[1:]) < _SMALLEST_SIDE:
        raise EvaluationError(
            f"images must be volumes (slice, row, column) of at least {_SMALLEST_SIDE} rows and "
            f"columns, got shape {slices.shape}"
        )
    places = np.linspace(0.25, 0.75, count) if count > 1 else np.array([0.5])
    chosen = sorted({round(float(place) * (len(slices) - 1)) for place in places})
    images = tuple(np.maximum(centre_crop(slices[index]), 0.0) for index in chosen)
    for index, image in zip(chosen, images, strict=True):
        if not np.percentile(image, 99) > 0.0:
            raise EvaluationError(f"slice {index} is dark: it cannot be compared")
    return images
