"""Noise as a scanner adds it: complex, band-limited or filtered with the image, then magnitude."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.errors import EvaluationError

__all__ = ["CONDITIONS", "Condition", "NoisyImage", "add_noise"]

Image = npt.NDArray[np.float64]  # (row, column)


@dataclass(frozen=True, slots=True)
class Condition:
    """What happens to image and noise alike in k-space.

    Attributes
    ----------
    name : str
        As it is printed.
    zero_filling : float
        Stored over acquired matrix along both axes, at least 1.
    filter_floor : float
        Weight at the rim of the acquired k-space: a raised cosine falls to it from 1 in the
        centre, along each axis; 1 for no filter.
    """

    name: str
    zero_filling: float = 1.0
    filter_floor: float = 1.0

    def __post_init__(self) -> None:
        if not self.zero_filling >= 1.0:
            raise EvaluationError(f"zero_filling must be >= 1, got {self.zero_filling!r}")
        if not 0.0 < self.filter_floor <= 1.0:
            raise EvaluationError(f"filter_floor must lie in (0, 1], got {self.filter_floor!r}")

    @property
    def white(self) -> bool:
        """Whether the noise of different pixels is independent."""
        return self.zero_filling == 1.0 and self.filter_floor == 1.0

    def weights(self, shape: tuple[int, ...]) -> Image:
        """Weights of k-space, in the order of `numpy.fft.fft2`."""
        axes = []
        for length in shape:
            frequency = np.abs(np.fft.fftfreq(length)) * 2 * self.zero_filling
            floor = self.filter_floor
            falling = (1 + floor) / 2 + (1 - floor) / 2 * np.cos(np.pi * np.minimum(frequency, 1))
            axes.append(np.where(frequency <= 1.0, falling, 0.0))
        return np.outer(*axes)


CONDITIONS = (
    Condition("white"),
    Condition("zero filled 1.25", zero_filling=1.25),
    Condition("zero filled 1.67", zero_filling=1.67),
    Condition("filtered", filter_floor=0.4),
)


@dataclass(frozen=True, slots=True, eq=False)
class NoisyImage:
    """An image with noise, and what is known about it.

    Attributes
    ----------
    noisy, truth : ndarray
        (row, column) magnitudes; the truth is band-limited and filtered as the noisy image.
    noise_sd : float
        Standard deviation of the noise in each channel.
    spectrum : ndarray
        (row, column) expected squared modulus of the unnormalised Fourier transform of one
        channel's noise, in the order of `numpy.fft.fft2`.
    """

    noisy: Image
    truth: Image
    noise_sd: float
    spectrum: Image


def add_noise(
    image: npt.ArrayLike, share: float, condition: Condition, rng: np.random.Generator
) -> NoisyImage:
    """Give a magnitude image complex noise.

    Parameters
    ----------
    image : array_like
        (row, column) magnitudes, not negative.
    share : float
        Standard deviation of the noise in each channel over the 99th percentile of the truth.
    condition : Condition
        White, zero filled, filtered.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    NoisyImage
        Same shape.

    Raises
    ------
    EvaluationError
        The image is not two-dimensional or `share` is not positive.
    """
    clean = np.asarray(image, np.float64)
    if clean.ndim != 2:
        raise EvaluationError(f"image must have 2 dimensions, got shape {clean.shape}")
    if not share > 0.0:
        raise EvaluationError(f"the share of noise must be positive, got {share!r}")
    weights = condition.weights(clean.shape)
    signal = np.fft.ifft2(np.fft.fft2(clean) * weights)
    truth = np.abs(signal)
    noise_sd = share * float(np.percentile(truth, 99))
    power = weights**2 / np.mean(weights**2)
    white = rng.standard_normal((2, *clean.shape))
    noise = np.fft.ifft2(np.fft.fft2(white[0] + 1j * white[1]) * np.sqrt(power)) * noise_sd
    return NoisyImage(np.abs(signal + noise), truth, noise_sd, noise_sd**2 * clean.size * power)
