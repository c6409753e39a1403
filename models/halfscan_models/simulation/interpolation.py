"""Interpolation of lattices to the axes of a mesh, one axis after the other.

The weights are sparse: dense products would go through a threaded BLAS, which crawls on a machine
whose cores are busy.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from halfscan_models.simulation.arrays import FloatArray, RealArray

__all__ = ["Weights", "apply_weights", "cubic_weights", "linear_weights"]


class Weights(NamedTuple):
    """Sparse matrix (points, lattice nodes in use) and the first node in use."""

    matrix: csr_array
    first: int


def _sparse(nodes: npt.NDArray[np.intp], weights: RealArray) -> Weights:
    """Matrix with `weights` (points, k) at `nodes` (points, k)."""
    points, width = nodes.shape
    first, last = int(nodes.min()), int(nodes.max())
    starts = np.arange(points + 1) * width
    entries = (weights.astype(np.float32).ravel(), (nodes - first).ravel(), starts)
    return Weights(csr_array(entries, shape=(points, last + 1 - first)), first)


def linear_weights(points: FloatArray, low: float, step: float, count: int) -> Weights:
    """Weights of linear interpolation from ``low + step * i``; the ends are held."""
    place = np.clip((points - low) / step, 0, count - 1.001)
    first = place.astype(np.intp)
    share = place - first
    nodes = first[:, None] + np.arange(2)
    return _sparse(nodes, np.stack([1 - share, share], axis=1))


def cubic_weights(points: FloatArray, low: float, step: float, count: int) -> Weights:
    """Weights of cubic B-splines; the lattice must hold spline coefficients.

    `scipy.ndimage.spline_filter` makes the coefficients.
    """
    place = np.clip((points - low) / step, 1, count - 2.001)
    first = place.astype(np.intp)
    t = place - first
    basis = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    nodes = first[:, None] + np.arange(-1, 3)
    return _sparse(nodes, np.stack(basis, axis=1) / 6)


def apply_weights(weights: Weights, values: FloatArray, axis: int) -> FloatArray:
    """Interpolate along one axis of `values`."""
    matrix, first = weights
    front = np.moveaxis(values, axis, 0)[first : first + matrix.shape[1]]
    flat = matrix @ front.reshape(front.shape[0], -1)
    result: FloatArray = np.moveaxis(flat.reshape(-1, *front.shape[1:]), 0, axis)
    return result
