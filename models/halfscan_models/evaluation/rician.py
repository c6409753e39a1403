"""The magnitude's bias: mean of the Rice distribution and its inverse.

A denoiser for Gaussian noise that is given a magnitude image finds its mean, and that is too
bright where the signal is weak: sigma sqrt(pi/2) in air. Inverting the mean takes the bias off
(Koay & Basser 2006, doi:10.1016/j.jmr.2006.01.016).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import i0e, i1e

from halfscan_models.evaluation.errors import EvaluationError

__all__ = ["amplitude_of_mean", "mean_of_magnitude"]

Array = npt.NDArray[np.float64]

# Signal-to-noise ratio up to which the table reaches; beyond it the first two terms of the
# asymptotic series are right to 1e-5 of the noise.
_TABLE_END = 30.0
_TABLE_STEP = 0.001


def _unit_mean(ratio: Array) -> Array:
    """E[m] / sigma for A / sigma: sqrt(pi/2) L_1/2(-ratio^2 / 2), by scaled Bessel functions."""
    half = ratio**2 / 4
    return np.asarray(
        np.sqrt(np.pi / 2) * ((1 + 2 * half) * i0e(half) + 2 * half * i1e(half)), np.float64
    )


def _check(noise_sd: float) -> None:
    if not (np.isfinite(noise_sd) and noise_sd >= 0.0):
        raise EvaluationError(f"noise_sd must be finite and >= 0, got {noise_sd!r}")


def mean_of_magnitude(amplitude: npt.ArrayLike, noise_sd: float) -> Array:
    """Mean of the magnitude of a signal with complex Gaussian noise.

    Parameters
    ----------
    amplitude : array_like
        Noise-free amplitude, not negative, any scale.
    noise_sd : float
        Standard deviation of the noise in each channel, same scale.

    Raises
    ------
    EvaluationError
        `noise_sd` is negative or not finite.
    """
    _check(noise_sd)
    signal = np.asarray(amplitude, np.float64)
    return signal.copy() if noise_sd == 0.0 else _unit_mean(signal / noise_sd) * noise_sd


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array]:
    ratios = np.arange(0.0, _TABLE_END + _TABLE_STEP / 2, _TABLE_STEP)
    return _unit_mean(ratios), ratios


def amplitude_of_mean(mean: npt.ArrayLike, noise_sd: float) -> Array:
    """Amplitude whose magnitude has this mean; the inverse of `mean_of_magnitude`.

    Means below that of pure noise, sigma sqrt(pi/2), which only an estimate can have, give 0.

    Parameters
    ----------
    mean : array_like
        Mean of the magnitude, any scale.
    noise_sd : float
        Standard deviation of the noise in each channel, same scale.

    Raises
    ------
    EvaluationError
        `noise_sd` is negative or not finite.
    """
    _check(noise_sd)
    level = np.asarray(mean, np.float64)
    if noise_sd == 0.0:
        return np.maximum(level, 0.0)
    unit = level / noise_sd
    means, ratios = _table()
    # E[m] = A + sigma^2 / (2 A) + ... solved for A.
    far = (unit + np.sqrt(np.maximum(unit**2 - 2.0, 0.0))) / 2
    near = np.interp(unit, means, ratios)
    return np.asarray(np.where(unit > means[-1], far, near) * noise_sd)
