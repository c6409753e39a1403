"""Which way the images of an object lie: the names of anatomical planes, and localizers.

The name follows PS3.3 C.23.3.1.1 (hanging protocols, category IMAGE_PLANE): the component of the
slice normal that exceeds a threshold names the plane; where none does, the plane is oblique.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from halfscan_plugin.headers import items, numbers

__all__ = [
    "PLANES",
    "distinct_normals",
    "is_three_planes",
    "object_orientations",
    "orientation_plane",
    "plane",
]

Orientation = tuple[float, ...]  # six direction cosines: of the rows, of the columns
Normals = npt.NDArray[np.float64]  # (image, axis)

# Names of the planes whose normal is the patient's x, y and z axis (PS3.3 C.7.6.2.1.1).
AXES = ("sagittal", "coronal", "transverse")
PLANES = (*AXES, "oblique")
# A plane is named while its normal is within 37 degrees of an axis.
NAMED_FROM = 0.8  # cosine
SAME_DIRECTION = 0.01  # direction cosines; scanners write one orientation with some jitter
ORTHOGONAL_BELOW = 0.2  # cosine, 78 to 102 degrees: the planes of a localizer may be adjusted


def object_orientations(header: Dataset) -> list[Orientation]:
    """Give ImageOrientationPatient of every image in an object.

    Parameters
    ----------
    header : Dataset
        A classic object, or an enhanced one with its functional groups.

    Returns
    -------
    list of tuple of 6 float
        One for a classic object; of an enhanced one, those of its groups. Empty where none is
        written, or what is written is no six numbers.
    """
    places = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, name):
            places += items(group, "PlaneOrientationSequence")
    found = (numbers(place, "ImageOrientationPatient") for place in places)
    return [orientation for orientation in found if len(orientation) == 6]


def plane(header: Dataset) -> str | None:
    """Name the anatomical plane of an object's first image; as `orientation_plane`."""
    return orientation_plane(next(iter(object_orientations(header)), None))


def orientation_plane(orientation: Orientation | None) -> str | None:
    """Name the anatomical plane that direction cosines give.

    Parameters
    ----------
    orientation : tuple of 6 float or None
        ImageOrientationPatient.

    Returns
    -------
    str or None
        One of `PLANES`; None where the orientation is not known or spans no plane.
    """
    normals = _normals([] if orientation is None else [orientation])
    if not len(normals):
        return None
    cosines = np.abs(normals[0])
    axis = int(cosines.argmax())
    return AXES[axis] if cosines[axis] > NAMED_FROM else "oblique"


def distinct_normals(orientations: Iterable[Orientation]) -> Normals:
    """Find the slice normals that differ by more than a scanner's jitter.

    Parameters
    ----------
    orientations : iterable of tuple of 6 float
        Direction cosines.

    Returns
    -------
    ndarray, float64, shape (direction, axis)
        Unit vectors; opposite ones count as the same direction.
    """
    kept: list[npt.NDArray[np.float64]] = []
    for normal in _normals(list(dict.fromkeys(orientations))):
        known = (min(np.abs(normal - k).max(), np.abs(normal + k).max()) for k in kept)
        if all(difference > SAME_DIRECTION for difference in known):
            kept.append(normal)
    return np.array(kept).reshape(-1, 3)


def is_three_planes(normals: Normals) -> bool:
    """Tell whether three of the directions are at right angles: the mark of a localizer."""
    orthogonal = (np.abs(normals @ normals.T) < ORTHOGONAL_BELOW).astype(np.int64)
    # A walk of three steps that ends where it began is a triangle: three directions, each at a
    # right angle to the other two.
    return bool(np.trace(np.linalg.matrix_power(orthogonal, 3)) > 0) if len(normals) else False


def _normals(orientations: Sequence[Orientation]) -> Normals:
    """Cross rows with columns; what spans no plane is left out."""
    cosines = np.array(orientations, dtype=np.float64).reshape(-1, 6)
    with np.errstate(over="ignore", invalid="ignore"):
        normals = np.cross(cosines[:, :3], cosines[:, 3:])
        lengths = np.linalg.norm(normals, axis=1)
        usable = np.isfinite(lengths) & (lengths > 0)
        unit: Normals = normals[usable] / lengths[usable, np.newaxis]
    return unit
