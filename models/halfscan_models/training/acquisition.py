"""Measuring a synthetic scene the way a scanner does: what is kept is complex signal and noise.

The scene gets a smooth phase and is cut to the acquired k-space. Half of the images are read by
several coils and undersampled twofold, and SENSE [1]_ or GRAPPA [2]_ fills the gaps: their noise
follows the geometry factor and is correlated, and imperfect coil maps leave a ghost. Partial
Fourier, an elliptical k-space, filters and zero filling follow, and a smooth factor like an
intensity normalisation. All of it is linear, so signal and noise go the same way apart, and both
can be mixed again at any level.

All randomness comes from the generator that is passed in.

References
----------
.. [1] Pruessmann KP, et al. SENSE: sensitivity encoding for fast MRI. Magn Reson Med
   1999;42:952-962. doi:10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S
.. [2] Griswold MA, et al. Generalized autocalibrating partially parallel acquisitions (GRAPPA).
   Magn Reson Med 2002;47:1202-1210. doi:10.1002/mrm.10171
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from halfscan_models.simulation.kspace import (
    acquired_lines,
    acs_block,
    complex_noise,
    resize_centre,
    to_image,
    to_kspace,
)
from halfscan_models.simulation.parallel import grappa, sense
from halfscan_models.training.textures import smooth

__all__ = ["Acquired", "acquire"]

Real = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
Reconstruction = Callable[[Complex], Complex]

_COILS = 6
_ACS_LINES = 24
# Noise over signal while GRAPPA's kernel is fitted: small, so that the kernel is the signal's.
_FAINT = 1e-2
# Width of the neighbourhood over which the noise level is measured [pixels].
_LEVEL_WIDTH = 5.0


@dataclass(frozen=True, slots=True)
class Acquired:
    """A measured scene before its magnitude is taken.

    Attributes
    ----------
    signal : ndarray
        (row, column) complex64, without noise.
    noise : ndarray
        (draw, row, column) complex64, independent draws of the noise; the root mean square of
        their real and imaginary parts is 1.
    noise_sd : ndarray
        (row, column) float32, standard deviation of the real part of the noise at each pixel.
    """

    signal: Complex
    noise: Complex
    noise_sd: Real


def acquire(scene: Real, matrix: int, draws: int, rng: np.random.Generator) -> Acquired:
    """Measure a scene.

    Parameters
    ----------
    scene : ndarray
        (n, n) noise-free picture, drawn finer than `matrix` so that edges ring as they do.
    matrix : int
        Rows and columns of the result, a multiple of 8 and at most n.
    draws : int
        Independent draws of the noise.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    Acquired
        Signal and noise on the matrix.
    """
    shape = _acquired_matrix(matrix, rng)
    spectrum = _to_kspace(scene * _phase(scene.shape[0], rng))
    for axis, size in enumerate(shape):
        spectrum = resize_centre(spectrum, size, axis=axis)
    weights = _kspace_weights(shape, rng)
    shading = np.exp(rng.uniform(0.0, 0.4) * smooth(matrix, rng.uniform(0.25, 0.5), rng))
    parallel = rng.random() < 0.5
    if parallel:
        signal, noise = _parallel(_to_image(spectrum), draws, rng)
    else:
        signal, noise = _to_image(spectrum), _white((draws, *shape), rng)

    def finished(image: Complex) -> Complex:
        kspace = _to_kspace(image) * weights
        for axis in (-2, -1):
            kspace = resize_centre(kspace, matrix, axis=axis)
        return np.asarray(_to_image(kspace) * shading, dtype=np.complex64)

    signal, noise = finished(signal), finished(noise)
    noise /= np.sqrt(np.mean(noise.real**2 + noise.imag**2) / 2)
    power = np.mean(noise.real**2 + noise.imag**2, axis=0) / 2
    level = np.sqrt(ndimage.gaussian_filter(power, _LEVEL_WIDTH))
    if not parallel:
        # Known better than it can be measured.
        level = shading / np.sqrt(np.mean(shading**2))
    return Acquired(signal, noise, level.astype(np.float32))


def _to_kspace(image: Complex | Real) -> Complex:
    return to_kspace(to_kspace(image), axis=-2)


def _to_image(kspace: Complex) -> Complex:
    return to_image(to_image(kspace), axis=-2)


def _white(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32)
    return np.asarray(pairs.view(np.complex64)[..., 0])


def _phase(size: int, rng: np.random.Generator) -> Complex:
    """Phase factors: a few turns across the image and a smooth remainder."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    turns = rng.uniform(-1.5, 1.5, 3).astype(np.float32)
    plane = turns[0] * x + turns[1] * y + turns[2] * x * y
    angle = np.float32(2 * np.pi) * (plane + np.float32(0.1) * smooth(size, 0.2, rng))
    return np.asarray(np.exp(1j * angle), dtype=np.complex64)


def _acquired_matrix(matrix: int, rng: np.random.Generator) -> tuple[int, int]:
    """Acquired rows and columns, multiples of 4: full, zero filled in one direction, or both."""
    kind = rng.random()
    factors = np.ones(2)
    if kind > 0.5:
        factors[int(rng.integers(2))] = rng.uniform(1.0, 2.0)
    if kind > 0.7:
        factors[:] = factors.max() if kind > 0.85 else rng.uniform(1.0, 2.0, 2)
    rows, columns = (int(matrix / factor) // 4 * 4 for factor in factors)
    return rows, columns


def _kspace_weights(shape: tuple[int, int], rng: np.random.Generator) -> Real:
    """Filter over the acquired matrix, with or without partial Fourier and cut corners."""
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in shape)
    radius = np.hypot(y[:, None], x[None, :])
    weights = np.ones(shape)
    kind = rng.random()
    if kind > 0.85:
        weights = np.exp(-rng.uniform(0.2, 1.5) * radius**2)
    elif kind > 0.75:
        floor = rng.uniform(0.54, 0.95)
        rows, columns = (floor + (1 - floor) * np.cos(np.pi * axis) for axis in (y, x))
        weights = np.maximum(rows[:, None] * columns[None, :], 0.0)
    elif kind > 0.65:
        weights = 1 / (1 + np.exp((radius - rng.uniform(0.75, 1.1)) / 0.06))
    if rng.random() < 0.2:
        weights = weights * (radius <= 1.0)
    if rng.random() < 0.1:
        first = int(shape[1] * rng.uniform(0.1, 0.375))
        weights = weights * (np.arange(shape[1]) >= first)
    return weights.astype(np.float32)


# --- parallel imaging ---


def _parallel(image: Complex, draws: int, rng: np.random.Generator) -> tuple[Complex, Complex]:
    """Signal and noise of an image read by several coils at every second phase line."""
    maps = _coil_maps(image.shape, rng)
    raw = to_kspace(maps * image)
    scale = np.float32(np.sqrt(np.mean(np.abs(raw) ** 2)) * _FAINT)
    lines = acquired_lines(raw.shape[-1], 2, _ACS_LINES)
    believed = maps
    if rng.random() < 0.5:
        # Coil maps measured with an error leave a ghost at half the field of view.
        error = _coil_maps(image.shape, rng)
        believed = maps + np.float32(rng.uniform(0.0, 0.06)) * error
    rebuilt = _method(believed, image.shape, rng)
    signal = rebuilt(raw)
    noise = []
    for _ in range(draws):
        faint = scale * complex_noise(rng, (_COILS, *image.shape), lines, 1.0)
        noise.append((rebuilt(raw + faint) - signal) / scale)
    return signal, np.stack(noise)


def _method(maps: Complex, shape: tuple[int, ...], rng: np.random.Generator) -> Reconstruction:
    if rng.random() < 0.7 or shape[-1] < 2 * _ACS_LINES:
        return lambda raw: sense(raw, maps)
    block = acs_block(shape[-1], _ACS_LINES)
    return lambda raw: grappa(raw, maps, block)


def _coil_maps(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    """Smooth sensitivities (coil, row, column) of coils around the field of view."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    turn = rng.uniform(0, 2 * np.pi)
    spread, distance = rng.uniform(0.7, 1.3), rng.uniform(0.9, 1.3)
    maps = []
    for angle in turn + 2 * np.pi * np.arange(_COILS) / _COILS:
        y, x = rows - distance * np.sin(angle), columns - distance * np.cos(angle)
        reach = np.add.outer(y**2, x**2) / np.float32(spread**2)
        turns = np.add.outer(rng.uniform(-1, 1) * y, rng.uniform(-1, 1) * x)
        maps.append(np.exp(1j * (turns + angle)) / (0.15 + reach))
    total = np.stack(maps)
    total /= np.sqrt(np.sum(np.abs(total) ** 2, axis=0))
    return total.astype(np.complex64)
