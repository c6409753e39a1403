"""Sampling: centred Fourier transforms, phase lines, noise.

Images and k-space are centred: index ``n // 2`` is the origin of both, and all lengths are even.
Transforms carry the norm "forward": a coefficient does not depend on the size of the grid, so
that cropping or padding k-space changes the resolution and not the intensity.

Raw data stand in hybrid space, (coil, readout position, phase frequency): the readout is fully
sampled, and transforming it is the first step of every Cartesian reconstruction.
"""

import numpy as np
from scipy import fft

from halfscan_models.simulation.arrays import BoolArray, ComplexArray, FloatArray

__all__ = [
    "acquired_lines",
    "acs_block",
    "complex_noise",
    "raw_filter",
    "resize_centre",
    "to_image",
    "to_kspace",
]

_FILTER_FROM = 0.65  # of the highest frequency; from there the raw filter falls to _FILTER_END
_FILTER_END = 0.35


def _alternating(array: ComplexArray, axis: int) -> FloatArray:
    """+1, -1, +1, ... along an axis: as a factor, it moves the origin by half the length."""
    count = array.shape[axis]
    signs = np.where(np.arange(count) % 2, -1, 1).astype(np.float32)
    return signs if axis in (-1, array.ndim - 1) else signs[:, None]


def to_kspace(image: ComplexArray | FloatArray, axis: int = -1) -> ComplexArray:
    """Centred Fourier transform along one of the last two axes."""
    array = image.astype(np.complex64, copy=False)
    signs = _alternating(array, axis)
    spectrum: ComplexArray = fft.fft(array * signs, axis=axis, norm="forward", overwrite_x=True)
    spectrum *= signs * _half_turn(array.shape[axis])
    return spectrum


def to_image(kspace: ComplexArray, axis: int = -1) -> ComplexArray:
    """Inverse of `to_kspace`."""
    signs = _alternating(kspace, axis)
    image: ComplexArray = fft.ifft(kspace * signs, axis=axis, norm="forward", overwrite_x=True)
    image *= signs * _half_turn(kspace.shape[axis])
    return image


def _half_turn(count: int) -> np.float32:
    return np.float32(-1 if count // 2 % 2 else 1)


def resize_centre(array: ComplexArray, size: int, axis: int = -1) -> ComplexArray:
    """Crop or zero-pad one axis about its centre."""
    old = array.shape[axis]
    edge = abs(old - size) // 2
    if size <= old:
        cut = [slice(None)] * array.ndim
        cut[axis] = slice(edge, edge + size)
        return array[tuple(cut)]
    widths = [(0, 0)] * array.ndim
    widths[axis] = (edge, edge)
    return np.pad(array, widths)


def raw_filter(count: int) -> FloatArray:
    """Weights that quiet the ringing at edges: 1 inside, falling as a cosine at the rim."""
    k = np.abs(np.arange(count) - count // 2) / (count / 2)
    fall = np.clip((k - _FILTER_FROM) / (1 - _FILTER_FROM), 0, 1)
    weights = _FILTER_END + (1 - _FILTER_END) * np.cos(fall * np.pi / 2) ** 2
    return weights.astype(np.float32)


def acs_block(lines: int, acs_lines: int) -> range:
    """Autocalibration lines: a block about the centre of k-space, at most all lines."""
    count = min(acs_lines, lines)
    first = lines // 2 - count // 2
    return range(first, first + count)


def acquired_lines(lines: int, factor: int, acs_lines: int) -> BoolArray:
    """Phase lines that are measured: every `factor`-th one through the centre, and the block."""
    chosen: BoolArray = np.zeros(lines, np.bool_)
    chosen[lines // 2 % factor :: factor] = True
    if factor > 1:
        chosen[list(acs_block(lines, acs_lines))] = True
    return chosen


def complex_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], lines: BoolArray, image_sd: float
) -> ComplexArray:
    """White complex noise in hybrid space (coil, readout, phase) on the acquired lines.

    Its real and imaginary part each have the standard deviation `image_sd` in the image of one
    coil that is reconstructed from all lines; lines that are not acquired stay zero.
    """
    drawn = (*shape[:-1], int(lines.sum()), 2)
    pairs = rng.standard_normal(drawn, dtype=np.float32)
    pairs *= np.float32(image_sd / np.sqrt(shape[-1]))
    noise = np.zeros(shape, np.complex64)
    noise[..., lines] = pairs.view(np.complex64)[..., 0]
    return noise
