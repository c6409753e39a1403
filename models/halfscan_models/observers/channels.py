"""Channels: the few numbers that an observer sees of an image.

A channelised observer looks at an image through a bank of filters that lie over the place where the
signal would be (Gallas and Barrett 2003, doi:10.1364/JOSAA.20.001725). Channels that are alike in
all directions suit a round signal, channels with a direction suit lines. Lengths are in mm and
frequencies in cycles/mm, so that a bank means the same for every matrix.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from halfscan_models.observers.errors import ObserverError

__all__ = ["channel_outputs", "difference_of_gaussians", "gabor"]

Array = npt.NDArray[np.float64]


def difference_of_gaussians(
    half_pixels: int,
    pixel_mm: float,
    *,
    lowest: float = 0.04,
    count: int = 7,
    spacing: float = 1.4,
    ratio: float = 1.67,
) -> Array:
    """Dense difference-of-Gaussian channels.

    In frequency, channel j is ``exp(-f^2 / (2 (Q s_j)^2)) - exp(-f^2 / (2 s_j^2))`` with
    ``s_j = s_1 a^(j-1)``: it passes a ring of frequencies about 1.8 s_j and no constant.

    Parameters
    ----------
    half_pixels : int
        Pixels from the centre to the rim: windows have 2 half_pixels + 1 on a side.
    pixel_mm : float
        Distance between pixels [mm].
    lowest : float
        s_1 [cycles/mm]. The default, with seven channels, suits signals of 2 to 6 mm in windows
        of 12 mm; [1]_ has ten from 0.005 cycles/pixel on, for windows several times larger.
    count : int
        Channels.
    spacing, ratio : float
        a and Q of [1]_.

    Returns
    -------
    ndarray
        (pixel, channel), each channel of unit norm; pixels row by row.

    Raises
    ------
    ObserverError
        A number is not positive, or `spacing` or `ratio` is not above 1.

    References
    ----------
    .. [1] Abbey CK, Barrett HH. Human- and model-observer performance in ramp-spectrum noise:
       effects of regularization and object variability. J Opt Soc Am A 18 (2001) 473,
       doi:10.1364/JOSAA.18.000473
    """
    _check_positive(lowest=lowest, count=count)
    for name, value in (("spacing", spacing), ("ratio", ratio)):
        if not value > 1.0:
            raise ObserverError(f"{name} must be > 1, got {value!r}")
    rows, columns = _grid(half_pixels, pixel_mm)
    squared = rows**2 + columns**2
    widths = lowest * spacing ** np.arange(count)
    bank = [_gaussian(squared, ratio * width) - _gaussian(squared, width) for width in widths]
    return _normalised(bank)


def gabor(
    half_pixels: int,
    pixel_mm: float,
    *,
    edges: Sequence[float] = (1 / 16, 1 / 8, 1 / 4, 1 / 2),
    orientations: int = 4,
) -> Array:
    """Gabor channels of even phase, for signals that are symmetric about the centre.

    A band from f_1 to f_2 has the centre frequency ``(f_1 + f_2) / 2`` and an envelope
    ``exp(-4 ln2 r^2 / w^2)`` with ``w = 4 ln2 / (pi (f_2 - f_1))``, the width at half height for
    which the band's half heights lie on its edges.

    Parameters
    ----------
    half_pixels, pixel_mm
        As for `difference_of_gaussians`.
    edges : sequence of float
        Edges of the bands, rising [cycles/mm].
    orientations : int
        Directions of the waves, spread evenly over half a turn; the first is along a row.

    Returns
    -------
    ndarray
        (pixel, channel), each channel of unit norm; band after band.

    Raises
    ------
    ObserverError
        A number is not positive, or the edges do not rise.
    """
    _check_positive(orientations=orientations)
    if len(edges) < 2 or edges[0] <= 0 or any(b <= a for a, b in pairwise(edges)):
        raise ObserverError(f"edges must be two or more rising frequencies > 0, got {edges!r}")
    rows, columns = _grid(half_pixels, pixel_mm)
    bank: list[Array] = []
    for low, high in pairwise(edges):
        width = 4 * math.log(2) / (math.pi * (high - low))
        envelope = np.exp(-4 * math.log(2) * (rows**2 + columns**2) / width**2)
        for angle in np.arange(orientations) * math.pi / orientations:
            along = columns * math.cos(angle) + rows * math.sin(angle)
            bank.append(envelope * np.cos(math.pi * (low + high) * along))
    return _normalised(bank)


def channel_outputs(windows: npt.ArrayLike, channels: Array) -> Array:
    """What an observer sees of windows that lie about the place in question.

    Parameters
    ----------
    windows : array_like
        (..., row, column).
    channels : ndarray
        (pixel, channel).

    Returns
    -------
    ndarray
        (..., channel).

    Raises
    ------
    ObserverError
        The windows have another number of pixels than the channels.
    """
    values = np.asarray(windows, np.float64)
    if values.ndim < 2 or values.shape[-2] * values.shape[-1] != len(channels):
        raise ObserverError(
            f"windows must have the channels' {len(channels)} pixels, got shape {values.shape}"
        )
    return np.asarray(values.reshape(*values.shape[:-2], -1) @ channels)


def _gaussian(squared: Array, width: float) -> Array:
    """Inverse Fourier transform, in two dimensions, of a Gaussian of a width in frequency."""
    return np.asarray(2 * math.pi * width**2 * np.exp(-2 * (math.pi * width) ** 2 * squared))


def _grid(half_pixels: int, pixel_mm: float) -> tuple[Array, Array]:
    """Rows and columns [mm] of a window, the origin in its centre."""
    _check_positive(half_pixels=half_pixels, pixel_mm=pixel_mm)
    axis = np.arange(-half_pixels, half_pixels + 1) * pixel_mm
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    return rows, columns


def _normalised(bank: Sequence[Array]) -> Array:
    """Lay the channels side by side, (pixel, channel), each of unit norm."""
    flat = np.stack([channel.ravel() for channel in bank], axis=1)
    return np.asarray(flat / np.linalg.norm(flat, axis=0))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ObserverError(f"{name} must be > 0, got {value!r}")
