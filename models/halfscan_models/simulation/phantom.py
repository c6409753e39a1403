"""One patient as a function of place: label and texture at any point, in any plane."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from halfscan_models.simulation.anatomy import Anatomy
from halfscan_models.simulation.arrays import FloatArray, LabelArray
from halfscan_models.simulation.interpolation import apply_weights, linear_weights
from halfscan_models.simulation.pathology import Pathology, check_pathologies
from halfscan_models.simulation.shapes import Box
from halfscan_models.simulation.soft_tissue import Layer, soft_tissue_layers
from halfscan_models.simulation.spine import spine_layers
from halfscan_models.simulation.tissues import Label

__all__ = ["Axes", "Phantom"]

# Order in which the three coordinates span the result: (slice, readout, phase) of a plane.
Axes = Literal["xzy", "zxy", "xyz"]

_LATTICE_MM = 2.0
_LATTICE_LOW = (-112.0, -172.0, -184.0)
_LATTICE_SHAPE = (113, 181, 185)
# Standard deviations of the smoothing along x, y, z [mm] of the noises that are summed.
_GRAIN_MM = ((1.2, 1.2, 1.2), (2.5, 2.5, 2.5), (7.0, 7.0, 7.0))
_STREAKS_MM = ((1.6, 1.6, 14.0),)
# Fat streaks: about 7 % of the spinal muscles, 1 % of the others.
_STREAK_THRESHOLDS = ((Label.PARASPINAL, 1.45), (Label.MUSCLE, 2.4))


@lru_cache(maxsize=4)
def _lattice(
    seed: int, stream: int, sigmas_mm: tuple[tuple[float, float, float], ...]
) -> FloatArray:
    """Random field of unit variance on the lattice: a sum of smoothed white noises."""
    rng = np.random.default_rng([seed, stream])
    total = np.zeros(_LATTICE_SHAPE, np.float32)
    for sigma_mm in sigmas_mm:
        white = rng.standard_normal(_LATTICE_SHAPE, dtype=np.float32)
        smooth = gaussian_filter(white, np.asarray(sigma_mm) / _LATTICE_MM, mode="wrap")
        total += smooth / smooth.std()
    total /= total.std()
    total.setflags(write=False)  # it is cached
    return total


@dataclass(frozen=True)
class _Mesh:
    """Three coordinate axes [mm] laid out along the axes of the result."""

    coordinates: tuple[FloatArray, FloatArray, FloatArray]  # x, y, z
    order: tuple[int, int, int]  # coordinate that runs along each axis of the result

    def window(self, box: Box) -> tuple[slice, slice, slice] | None:
        """Index ranges by coordinate that a box covers, or None where it covers nothing."""
        ranges: list[slice] = []
        for axis, low, high in zip(self.coordinates, *box, strict=True):
            # Axes ascend or descend; a binary search is all that most shapes cost.
            ascending = axis if axis[0] <= axis[-1] else axis[::-1]
            first = int(ascending.searchsorted(low, "left"))
            last = int(ascending.searchsorted(high, "right"))
            if first >= last:
                return None
            forward = ascending is axis
            ranges.append(
                slice(first, last) if forward else slice(axis.size - last, axis.size - first)
            )
        return ranges[0], ranges[1], ranges[2]

    def open(self, window: tuple[slice, slice, slice]) -> tuple[FloatArray, ...]:
        """The coordinates inside a window, shaped to broadcast over the result."""
        opened = []
        for i, (axis, part) in enumerate(zip(self.coordinates, window, strict=True)):
            shape = [1, 1, 1]
            shape[self.order.index(i)] = -1
            opened.append(axis[part].reshape(shape))
        return tuple(opened)


class Phantom:
    """A patient's anatomy with pathologies, to be sampled at any coordinates.

    Parameters
    ----------
    anatomy : Anatomy
        The patient.
    pathologies : iterable of Pathology
        What is wrong with them.

    Raises
    ------
    SimulationError
        If a pathology is listed twice.
    """

    def __init__(self, anatomy: Anatomy, pathologies: Iterable[Pathology] = ()) -> None:
        self.anatomy = anatomy
        self.pathologies = check_pathologies(pathologies)
        self.layers: tuple[Layer, ...] = (
            *soft_tissue_layers(anatomy),
            *spine_layers(anatomy, self.pathologies),
        )
        self._boxes = np.array([shape.box for _, shape in self.layers])

    def labels(self, x: FloatArray, y: FloatArray, z: FloatArray, *, axes: Axes) -> LabelArray:
        """Label at every point of a mesh.

        Parameters
        ----------
        x, y, z : FloatArray
            Coordinates along the three axes [mm]: to the patient's left, back and head; monotone.
        axes : {"xyz", "xzy", "zxy"}
            Order of the axes of the result.

        Returns
        -------
        LabelArray
            uint8, values of `Label`.
        """
        mesh = self._mesh(x, y, z, axes)
        shape = tuple(mesh.coordinates[i].size for i in mesh.order)
        result = np.full(shape, Label.AIR, np.uint8)
        low = [axis.min() for axis in mesh.coordinates]
        high = [axis.max() for axis in mesh.coordinates]
        near = (self._boxes[:, 0] <= high).all(axis=1) & (self._boxes[:, 1] >= low).all(axis=1)
        for i in np.flatnonzero(near):
            label, solid = self.layers[i]
            window = mesh.window(solid.box)
            if window is not None:
                inside = solid.contains(*mesh.open(window))
                view = result[tuple(window[i] for i in mesh.order)]
                np.copyto(view, np.uint8(label), where=inside)
        streaks = self._field(1, _STREAKS_MM, mesh)
        for muscle, threshold in _STREAK_THRESHOLDS:
            result[(result == muscle) & (streaks > threshold)] = Label.FAT
        return result

    def texture(self, x: FloatArray, y: FloatArray, z: FloatArray, *, axes: Axes) -> FloatArray:
        """Local variation of the tissues at every point of a mesh; mean 0, variance about 1."""
        return self._field(2, _GRAIN_MM, self._mesh(x, y, z, axes))

    def label_at(self, x: float, y: float, z: float) -> Label:
        """Label at one point [mm]."""
        point = (np.array([v], np.float32) for v in (x, y, z))
        return Label(int(self.labels(*point, axes="xyz")[0, 0, 0]))

    @staticmethod
    def _mesh(x: FloatArray, y: FloatArray, z: FloatArray, axes: Axes) -> _Mesh:
        order = ("xyz".index(axes[0]), "xyz".index(axes[1]), "xyz".index(axes[2]))
        return _Mesh((x, y, z), order)

    def _field(
        self, stream: int, sigmas_mm: tuple[tuple[float, float, float], ...], mesh: _Mesh
    ) -> FloatArray:
        """Interpolate one of the patient's random fields to a mesh, axis after axis."""
        field = _lattice(self.anatomy.seed, stream, sigmas_mm).transpose(mesh.order)
        for position, i in enumerate(mesh.order):
            low, count = _LATTICE_LOW[i], _LATTICE_SHAPE[i]
            weights = linear_weights(mesh.coordinates[i], low, _LATTICE_MM, count)
            field = apply_weights(weights, field, position)
        return field
