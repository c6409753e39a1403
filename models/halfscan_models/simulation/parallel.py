"""Parallel imaging: optimal combination, SENSE and GRAPPA for a factor of two.

All functions take raw data in hybrid space (coil, readout position, phase frequency) and
sensitivities (coil, readout, phase) of the same shape, centred as in `kspace`, and return the
complex image (readout, phase) with the sensitivities divided out.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from halfscan_models.simulation.arrays import ComplexArray, FloatArray
from halfscan_models.simulation.errors import SimulationError
from halfscan_models.simulation.kspace import to_image, to_kspace

__all__ = ["TECHNIQUES", "Technique", "combine", "g_factor", "grappa", "sense"]

IntArray = npt.NDArray[np.intp]

Technique = Literal["SENSE", "GRAPPA"]
TECHNIQUES: tuple[Technique, ...] = get_args(Technique)

_FACTOR = 2
_READOUT_TAPS = (-2, -1, 0, 1, 2)
_PHASE_TAPS = (-3, -1, 1, 3)
_CALIBRATION_COLUMNS = 128
_GRAPPA_RIDGE = 1e-4


def combine(raw: ComplexArray, maps: ComplexArray) -> ComplexArray:
    """Least-squares combination of all coils (Roemer 1990, doi:10.1002/mrm.1910160203)."""
    images = to_image(raw)
    weight = np.sum(np.abs(maps) ** 2, axis=0)
    image: ComplexArray = np.sum(np.conj(maps) * images, axis=0) / weight
    return image


def _fold(array: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """The two halves (along phase) that fall onto each other at factor two."""
    half = array.shape[-1] // 2
    quarter = half // 2
    rolled = np.roll(array, -quarter, axis=-1)
    return rolled[..., :half], rolled[..., half:]


def _normal_equations(
    maps: ComplexArray,
) -> tuple[ComplexArray, ComplexArray, FloatArray, FloatArray, ComplexArray]:
    """Folded maps and the entries of their 2 x 2 normal matrix."""
    first, second = _fold(maps)
    a = np.sum(np.abs(first) ** 2, axis=0)
    b = np.sum(np.abs(second) ** 2, axis=0)
    c: ComplexArray = np.sum(np.conj(first) * second, axis=0)
    return first, second, a, b, c


def sense(raw: ComplexArray, maps: ComplexArray) -> ComplexArray:
    """Unfold every second phase line.

    Pruessmann 1999, doi:10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S. Only the
    regular lines are used; autocalibration lines, which serve GRAPPA, are ignored: the
    true sensitivities are known here.
    """
    lines = raw.shape[-1]
    regular = np.ascontiguousarray(raw[..., lines // 2 % _FACTOR :: _FACTOR])
    folded = to_image(regular) * np.float32(_FACTOR)
    first, second, a, b, c = _normal_equations(maps)
    p = np.sum(np.conj(first) * folded, axis=0)
    q = np.sum(np.conj(second) * folded, axis=0)
    determinant = a * b - np.abs(c) ** 2
    unfolded = np.concatenate(
        [(b * p - c * q) / determinant, (a * q - np.conj(c) * p) / determinant], axis=-1
    )
    return np.roll(unfolded, lines // 4, axis=-1)


def g_factor(maps: ComplexArray) -> FloatArray:
    """Noise amplification of SENSE at factor two, beyond the square root of two; at least 1."""
    _, _, a, b, c = _normal_equations(maps)
    g = np.sqrt(a * b / (a * b - np.abs(c) ** 2))
    both: FloatArray = np.concatenate([g, g], axis=-1)
    return np.roll(both, maps.shape[-1] // 4, axis=-1)


def _neighbours(raw: ComplexArray, columns: slice, lines: IntArray) -> ComplexArray:
    """Acquired neighbours (sample, coil x tap) of the points at `columns` and `lines`.

    Beyond the edge of k-space the neighbours wrap around: there is next to nothing there.
    """
    taps = [
        np.roll(raw, -k, axis=1)[:, columns, (lines + p) % raw.shape[-1]]
        for k in _READOUT_TAPS
        for p in _PHASE_TAPS
    ]
    flat = np.stack(taps).reshape(len(taps) * raw.shape[0], -1)
    return np.ascontiguousarray(flat.T)


def _grappa_kernel(raw: ComplexArray, acs: range) -> ComplexArray:
    """Fit the kernel (coil x tap, coil) to the autocalibration lines."""
    reach = max(_PHASE_TAPS)
    targets = np.arange(acs.start + reach, acs.stop - reach)
    if targets.size < 2:
        raise SimulationError(
            f"GRAPPA needs >= {2 * reach + 2} autocalibration lines, got {len(acs)}"
        )
    middle, half = raw.shape[1] // 2, min(_CALIBRATION_COLUMNS, raw.shape[1]) // 2
    columns = slice(middle - half, middle + half)
    source = _neighbours(raw, columns, targets)
    wanted = raw[:, columns, targets].reshape(raw.shape[0], -1).T
    normal = (source.conj().T @ source).astype(np.complex128)
    ridge = _GRAPPA_RIDGE * np.trace(normal).real / normal.shape[0]
    normal += ridge * np.eye(normal.shape[0])
    kernel: ComplexArray = np.linalg.solve(normal, source.conj().T @ wanted).astype(np.complex64)
    return kernel


def grappa(raw: ComplexArray, maps: ComplexArray, acs: range) -> ComplexArray:
    """Fill the missing lines from their neighbours (Griswold 2002, doi:10.1002/mrm.10171).

    The kernel of 5 readout by 4 phase points is fitted with a small ridge; the filled coils are
    combined as if all lines had been acquired, the autocalibration lines included.

    Raises
    ------
    SimulationError
        If there are too few autocalibration lines to fit the kernel.
    """
    lines = raw.shape[-1]
    raw = to_kspace(raw, axis=-2)
    kernel = _grappa_kernel(raw, acs)
    irregular = np.arange(1 - lines // 2 % _FACTOR, lines, _FACTOR)
    missing = np.setdiff1d(irregular, np.asarray(acs))
    filled = raw.copy()
    guess = _neighbours(raw, slice(None), missing) @ kernel
    filled[:, :, missing] = guess.T.reshape(raw.shape[0], raw.shape[1], -1)
    return combine(to_image(filled, axis=-2), maps)
