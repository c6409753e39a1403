"""Receive coils: four loops behind the back, four in front, by the law of Biot and Savart.

The sensitivity of a loop is its transverse field per unit current, ``Bx - i By`` with the main
field along z (principle of reciprocity, Hoult 1976, doi:10.1016/0022-2364(76)90233-X). The fields
are quasi-static: the shortened wavelength at 3 T is left out. Loops are taken to be noise
decorrelated with equal noise.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import spline_filter1d

from halfscan_models.simulation.arrays import ComplexArray, FloatArray
from halfscan_models.simulation.interpolation import apply_weights, cubic_weights

__all__ = ["CoilArray"]

Float64 = npt.NDArray[np.float64]

_LATTICE_MM = 12.0
_LOW = (-110.0, -195.0, -190.0)
_COUNT = (20, 33, 33)
_SOFTENING_MM = 22.0  # keeps the field finite at the wire, wider than a lattice step
_WIRE_PIECES = 40


def _loop(x0: float, y0: float, z0: float, half_x: float, half_z: float) -> Float64:
    """Corner points (n + 1, 3) [mm] of an elliptical loop parallel to the x-z plane."""
    angle = np.linspace(0, 2 * np.pi, _WIRE_PIECES + 1)
    flat = np.full_like(angle, y0)
    return np.stack([x0 + half_x * np.cos(angle), flat, z0 + half_z * np.sin(angle)], axis=1)


def _field(loop: Float64, points: Float64) -> npt.NDArray[np.complex128]:
    """Transverse field ``Bx - i By`` of a loop at points (n, 3), arbitrary unit."""
    total = np.zeros(points.shape[0], np.complex128)
    for start, end in pairwise(loop):
        piece, away = end - start, points - (start + end) / 2
        cube = (np.einsum("ij,ij->i", away, away) + _SOFTENING_MM**2) ** 1.5
        bx = piece[1] * away[:, 2] - piece[2] * away[:, 1]
        by = piece[2] * away[:, 0] - piece[0] * away[:, 2]
        total += (bx - 1j * by) / cube
    return total


class CoilArray:
    """Eight receive coils around the lumbar spine.

    Parameters
    ----------
    back_y_mm, front_y_mm : float
        Planes of the spine array and of the body array [mm].

    Attributes
    ----------
    count : int
        Number of coils.
    """

    count = 8

    def __init__(self, back_y_mm: float, front_y_mm: float) -> None:
        axes = [low + _LATTICE_MM * np.arange(n) for low, n in zip(_LOW, _COUNT, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        fields = []
        for y, half_x, half_z in ((back_y_mm, 62.0, 85.0), (front_y_mm, 85.0, 95.0)):
            for x0, z0 in ((-0.8, 0.85), (0.8, 0.85), (-0.8, -0.85), (0.8, -0.85)):
                loop = _loop(x0 * half_x, y, z0 * half_z - 10, half_x, half_z)
                fields.append(_field(loop, grid).reshape(_COUNT))
        lattice = np.stack(fields)
        middle = [int(np.argmin(np.abs(axis))) for axis in axes]
        at_origin = lattice[:, middle[0], middle[1], middle[2]]
        lattice /= np.linalg.norm(at_origin)
        # Real and imaginary part apart, as spline coefficients.
        parts = np.stack([lattice.real, lattice.imag])
        for axis in (2, 3, 4):
            parts = spline_filter1d(parts, axis=axis, mode="mirror")
        self._lattice: FloatArray = parts.astype(np.float32)

    def sensitivities(
        self, x: FloatArray, y: FloatArray, z: FloatArray, *, axes: str
    ) -> ComplexArray:
        """Sensitivity of each coil on a mesh; the root sum of squares is 1 near the origin.

        Parameters
        ----------
        x, y, z : FloatArray
            Coordinates along the axes [mm].
        axes : str
            Order of the result's axes after the first, for example ``"xzy"``.

        Returns
        -------
        ComplexArray
            complex64: coil, then the axes as ordered.
        """
        maps = self._lattice
        order = ["xyz".index(axis) for axis in axes]
        for i in order:
            weights = cubic_weights((x, y, z)[i], _LOW[i], _LATTICE_MM, _COUNT[i])
            maps = apply_weights(weights, maps, i + 2)
        turned = maps.transpose(0, 1, *(i + 2 for i in order))
        result = np.empty(turned.shape[1:], np.complex64)
        result.real, result.imag = turned
        return result
