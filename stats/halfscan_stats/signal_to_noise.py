"""Signal-to-noise ratio of one region, by three ways to know the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from halfscan_stats.differences import check_magnitude
from halfscan_stats.errors import StatsError
from halfscan_stats.measurements import ArrayLike, finite, numbers, paired_numbers
from halfscan_stats.result import Reason, Result

__all__ = [
    "RAYLEIGH_SD",
    "SignalToNoise",
    "SnrMethod",
    "snr_background",
    "snr_difference",
    "snr_noise_map",
]

# SD of the magnitude of complex noise of SD 1 in each channel, where there is no signal, for one
# coil (Rayleigh distribution): 0.655. Its inverse is the 1.53 of Henkelman 1985.
RAYLEIGH_SD = math.sqrt(2 - math.pi / 2)
# Standard deviation over the largest pixel, below which there is only rounding left.
_ROUNDING = 1e-12
_MIN_PIXELS = 2


class SnrMethod(StrEnum):
    """How the noise is known.

    ``background``: SD of a region in air. ``difference``: SD of the difference of two acquisitions
    of the same thing. ``noise_map``: a map of the noise's SD from place to place.
    """

    BACKGROUND = "background"
    DIFFERENCE = "difference"
    NOISE_MAP = "noise_map"


@dataclass(frozen=True, slots=True)
class SignalToNoise(Result):
    """A signal-to-noise ratio (the value), and what it is the ratio of.

    It has no interval: pixels of an interpolated, filtered or denoised image are correlated, and
    how far is unknown.

    Parameters
    ----------
    method, n, n_given
        See `Result`; n counts the pixels of the region.
    value : float or None
        Signal over noise.
    signal, noise : float or None
        Mean signal, and standard deviation of the noise [units of the image].
    reason : Reason or None
        Why the value is None.

    Raises
    ------
    ValueError
        If a number is not finite, or the value is None without a reason.
    """

    value: float | None = None
    signal: float | None = None
    noise: float | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        """Check that a missing value has a reason."""
        Result.__post_init__(self)
        if self.value is None and self.reason is None:
            raise ValueError("a signal-to-noise ratio without a value needs a reason")


def snr_background(region: ArrayLike, background: ArrayLike) -> SignalToNoise:
    """Mean of a region over the standard deviation of a region in air, not corrected.

    What most reader studies publish. It is the SNR only where noise is the same everywhere: not
    with parallel imaging, filters or a denoiser [1]_. Of a magnitude image of one coil the
    background's SD is `RAYLEIGH_SD` times that of the noise; as published, it is not divided by it.

    Parameters
    ----------
    region : array_like
        (pixel,), None and NaN are missing.
    background : array_like
        (pixel,), of another number.

    Returns
    -------
    SignalToNoise
        Undefined answers: ``too_few`` below 1 pixel of the region or 2 of the background,
        ``zero_variance`` where the background is constant.

    Raises
    ------
    StatsError
        On something that is no number, or beyond 1e100.

    References
    ----------
    .. [1] Dietrich O, Raya JG, Reeder SB, Reiser MF, Schoenberg SO. Measurement of signal-to-noise
       ratios in MR images: influence of multichannel coils, parallel imaging, and reconstruction
       filters. J Magn Reson Imaging 2007;26:375-385. doi:10.1002/jmri.20969
    """
    values, air = numbers(region, "region").ravel(), numbers(background, "background").ravel()
    n_given, values, air = values.size, values[~np.isnan(values)], air[~np.isnan(air)]
    largest = check_magnitude(np.concatenate([values, air]))
    method = "SNR: mean signal over the SD of the background, uncorrected"
    if values.size < 1 or air.size < _MIN_PIXELS:
        return SignalToNoise(method, values.size, n_given, reason=Reason.TOO_FEW)
    return _ratio(
        method,
        (values.size, n_given),
        signal=float(values.mean()),
        noise=float(air.std(ddof=1)),
        largest=largest,
    )


def snr_difference(first: ArrayLike, second: ArrayLike) -> SignalToNoise:
    """SNR of a region by the difference method: two acquisitions of the same thing.

    Signal is the mean of half the sum, noise the SD of the difference over sqrt(2) [1]_ [2]_ [3]_.
    It measures the noise where the signal is, so that it holds with parallel imaging and several
    coils. A movement between the acquisitions counts as noise. Of a denoised image it is the noise
    that is left: what was smoothed away with it, no SNR can tell.

    Parameters
    ----------
    first, second : array_like
        Any shape, the same of both: the same pixels, in the same units; None and NaN are missing:
        pixels that both have are used.

    Returns
    -------
    SignalToNoise
        Undefined answers: ``too_few`` below 2 pixels; ``zero_variance`` where both differ nowhere
        or by a constant, as copies of one acquisition do.

    Raises
    ------
    StatsError
        On two shapes, something that is no number, or beyond 1e100.

    References
    ----------
    .. [1] Reeder SB, Wintersperger BJ, Dietrich O, et al. Practical approaches to the evaluation of
       signal-to-noise ratio performance with parallel imaging. Magn Reson Med 2005;54:748-754.
       doi:10.1002/mrm.20636
    .. [2] Dietrich O, et al. J Magn Reson Imaging 2007;26:375-385. doi:10.1002/jmri.20969
    .. [3] NEMA MS 1: Determination of signal-to-noise ratio in diagnostic magnetic resonance
       imaging, method 1.
    """
    one, other = numbers(first, "first"), numbers(second, "second")
    if one.shape != other.shape:
        raise StatsError(
            f"first and second must hold the same pixels, got shapes {one.shape} and {other.shape}"
        )
    pairs = paired_numbers(one.ravel(), other.ravel(), "pixels")
    largest = check_magnitude(np.concatenate([pairs.x, pairs.y]))
    method = "SNR: difference method (Reeder 2005, NEMA MS 1)"
    if pairs.n < _MIN_PIXELS:
        return SignalToNoise(method, pairs.n, pairs.n_given, reason=Reason.TOO_FEW)
    return _ratio(
        method,
        (pairs.n, pairs.n_given),
        signal=float((pairs.x + pairs.y).mean()) / 2,
        noise=float((pairs.x - pairs.y).std(ddof=1)) / math.sqrt(2),
        largest=largest,
    )


def snr_noise_map(signal: float, noise_map: ArrayLike) -> SignalToNoise:
    """Mean signal of a region over the mean of a noise map in it.

    Parameters
    ----------
    signal : float
        Mean of the region.
    noise_map : array_like
        (pixel,), standard deviation of the noise in the region's pixels [units of the image]; None
        and NaN are missing.

    Returns
    -------
    SignalToNoise
        Undefined answers: ``too_few`` without a pixel, ``zero_variance`` where the map is 0.

    Raises
    ------
    StatsError
        If a standard deviation is negative, or something is no number or beyond 1e100.
    """
    given = numbers(noise_map, "noise_map").ravel()
    values, mean = given[~np.isnan(given)], finite(signal, "signal")
    if (values < 0).any():
        raise StatsError(f"noise_map must hold standard deviations >= 0, got {values.min():g}")
    largest = check_magnitude(np.append(values, mean))
    method = "SNR: mean signal over the mean of the noise map"
    if values.size < 1:
        return SignalToNoise(method, 0, given.size, reason=Reason.TOO_FEW)
    return _ratio(
        method,
        (values.size, given.size),
        signal=mean,
        noise=float(values.mean()),
        largest=largest,
    )


def _ratio(
    method: str, counts: tuple[int, int], *, signal: float, noise: float, largest: float
) -> SignalToNoise:
    if noise <= _ROUNDING * largest:
        return SignalToNoise(method, *counts, signal=signal, noise=0.0, reason=Reason.ZERO_VARIANCE)
    return SignalToNoise(method, *counts, value=signal / noise, signal=signal, noise=noise)
