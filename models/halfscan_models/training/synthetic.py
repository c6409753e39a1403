"""Synthetic training pairs, made from nothing but random numbers.

A scene (`scenes`) is measured (`acquisition`), and signal and noise are kept apart as complex
images. A pair is made of them by a few array operations: another mixture of the noise draws, a
level of noise, a crop, a turn, the magnitude, now and then the rounding to integers of an export.
So one measured scene serves many pairs, and making pairs costs little beside training on them.
The target is the magnitude of the same measurement without noise: the network learns to take noise
away and nothing else; neither resolution nor ringing is to be invented or removed.

Batch number i of a run depends on the run's seed and i alone, whichever process makes it. Batches
take turns among `PairSettings.pools` pools of measured scenes, through which new scenes move.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.training.acquisition import Acquired, acquire
from halfscan_models.training.scenes import draw_scene

__all__ = ["BatchMaker", "Measurement", "PairSettings", "make_batch", "measure"]

Array = npt.NDArray[np.float64]
Batch = npt.NDArray[np.float32]  # (crop, row, column)

# Scenes in a row that may show the same simulated patient.
_PATIENT_SCENES = 64


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What pairs look like.

    Attributes
    ----------
    matrix : int
        Rows and columns of a measured image [pixels], a multiple of 8.
    crop : int
        Rows and columns of a training crop [pixels], at most `matrix`.
    draws : int
        Independent draws of the noise that are kept with each measured scene.
    scenes : int
        Measured scenes in all pools together.
    uses : int
        Crops taken for each scene that enters a pool.
    pools : int
        Number of pools. As many worker processes, or a divisor of it, share the work.
    snr_low, snr_high : float
        Range of the ratio between the 99th percentile of the noise-free image and the standard
        deviation of the noise; drawn evenly on a logarithmic axis.
    sigma_error : float
        Spread of the noise level that the network is told about the true one, as standard deviation
        of its logarithm: that of the estimator of inference.
    """

    matrix: int = 192
    crop: int = 64
    draws: int = 3
    scenes: int = 192
    uses: int = 96
    pools: int = 1
    snr_low: float = 3.0
    snr_high: float = 200.0
    sigma_error: float = 0.1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One synthetic image.

    Attributes
    ----------
    noisy, clean : ndarray
        (row, column) magnitudes in units of the true noise standard deviation `sigma` = 1.
    noise_sd : ndarray
        (row, column) true noise standard deviation of each pixel; its root mean square is 1.
    """

    noisy: Array
    clean: Array
    noise_sd: Array


def measure(settings: PairSettings, rng: np.random.Generator, patient: int = 0) -> Measurement:
    """Draw a scene and measure it with noise.

    Parameters
    ----------
    settings : PairSettings
        Matrix and range of the signal-to-noise ratio.
    rng : numpy.random.Generator
        Source of all randomness.
    patient : int
        Which simulated patient is looked at where the scene is one.

    Returns
    -------
    Measurement
        The image in units of its noise.
    """
    acquired = _acquire(settings, 1, rng, patient)
    signal = acquired.signal * np.float32(_ratio(settings, rng) / _bright(acquired))
    noisy, clean = np.abs(signal + acquired.noise[0]), np.abs(signal)
    if rng.random() < 0.08:
        _blank_margin(noisy, clean, rng)
    return Measurement(*(a.astype(np.float64) for a in (noisy, clean, acquired.noise_sd)))


def make_batch(
    images: int, settings: PairSettings, rng: np.random.Generator
) -> tuple[Batch, Batch]:
    """Noisy and noise-free whole images, in units of the noise of each place.

    Parameters
    ----------
    images : int
        Images to make, each of its own scene.
    settings : PairSettings
        What the pairs look like; `sigma_error` and crops play no part.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    noisy, clean : ndarray
        (images, matrix, matrix) float32.
    """
    noisy, clean = [], []
    for _ in range(images):
        image = measure(settings, rng)
        noisy.append(image.noisy / image.noise_sd)
        clean.append(image.clean / image.noise_sd)
    return np.stack(noisy).astype(np.float32), np.stack(clean).astype(np.float32)


class BatchMaker:
    """Makes the batches of a run, each a function of the seed and its number.

    Parameters
    ----------
    settings : PairSettings
        What the pairs look like.
    crops : int
        Crops in a batch.
    seed : int
        Seed of the run.
    """

    def __init__(self, settings: PairSettings, crops: int, seed: int) -> None:
        self.settings = settings
        self.crops = crops
        self.seed = seed
        self._pools: dict[int, dict[int, _Scene]] = {}

    def batch(self, number: int) -> tuple[Batch, Batch]:
        """Noisy and noise-free crops of batch `number`, (crop, row, column).

        They are divided by the noise of each place, off by `sigma_error`.
        """
        noisy, clean, noise_sd, errors = self._crops(number)
        level = noise_sd * np.exp(self.settings.sigma_error * errors)[:, None, None]
        return noisy / level, clean / level

    def levels(self, number: int) -> tuple[Batch, Batch]:
        """Noisy crops of batch `number` and the noise standard deviation of each pixel.

        Both (crop, row, column), divided by the root mean square of the noise in the image.
        """
        noisy, _, noise_sd, _ = self._crops(number)
        return noisy, noise_sd

    def _crops(self, number: int) -> tuple[Batch, Batch, Batch, Batch]:
        turn, pool = divmod(number, self.settings.pools)
        scenes = self._pool(pool, turn * self.crops // self.settings.uses)
        rng = np.random.default_rng([self.seed, 1, number])
        crops = zip(*(self._crop(scenes, rng) for _ in range(self.crops)), strict=True)
        noisy, clean, noise_sd, errors = (np.stack(kind).astype(np.float32) for kind in crops)
        return noisy, clean, noise_sd, errors

    def _pool(self, pool: int, first: int) -> "list[_Scene]":
        """Scenes `first`, `first + 1`, ... of a pool; those that are new are measured."""
        size = max(1, self.settings.scenes // self.settings.pools)
        kept = self._pools.setdefault(pool, {})
        for gone in [number for number in kept if number < first]:
            del kept[gone]
        for number in range(first, first + size):
            if number not in kept:
                kept[number] = _Scene.draw(self.settings, self.seed, pool, number)
        return [kept[number] for number in range(first, first + size)]

    def _crop(
        self, scenes: "list[_Scene]", rng: np.random.Generator
    ) -> tuple[Batch, Batch, Batch, float]:
        """Noisy, noise-free, noise standard deviation of a crop, and a standard normal number."""
        scene = scenes[int(rng.integers(len(scenes)))]
        rows, columns = scene.window(self.settings.crop, rng)
        signal = scene.signal[rows, columns] * np.float32(_ratio(self.settings, rng))
        noisy = np.abs(signal + _mixture(scene.noise[:, rows, columns], rng))
        clean = np.abs(signal)
        if rng.random() < 0.3:
            _round(noisy, rng)
        if rng.random() < 0.04:
            _blank_margin(noisy, clean, rng)
        error = rng.standard_normal()
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        noisy, clean, noise_sd = (
            _turned(part, turn, flip=flip) for part in (noisy, clean, scene.noise_sd[rows, columns])
        )
        return noisy, clean, noise_sd, error


@dataclass(frozen=True, slots=True)
class _Scene:
    """A measured scene: signal of unit brightness, noise of unit level."""

    signal: npt.NDArray[np.complex64]
    noise: npt.NDArray[np.complex64]
    noise_sd: Batch

    @classmethod
    def draw(cls, settings: PairSettings, seed: int, pool: int, number: int) -> "_Scene":
        rng = np.random.default_rng([seed, 2, pool, number])
        patient = 1 + pool + settings.pools * (number // _PATIENT_SCENES)
        acquired = _acquire(settings, settings.draws, rng, patient)
        signal = acquired.signal / np.float32(_bright(acquired))
        return cls(signal, acquired.noise, acquired.noise_sd)

    def window(self, crop: int, rng: np.random.Generator) -> tuple[slice, slice]:
        """Draw the place of a crop; of two places, the one with more signal is likelier."""
        places = rng.integers(0, len(self.signal) - crop + 1, (2, 2))
        windows = [(slice(r, r + crop), slice(c, c + crop)) for r, c in places]
        step = slice(None, None, 8)
        signals = [float(np.abs(self.signal[window][step, step]).sum()) for window in windows]
        return windows[int(np.argmax(signals)) if rng.random() < 0.7 else 0]


def _acquire(
    settings: PairSettings, draws: int, rng: np.random.Generator, patient: int
) -> Acquired:
    fine = settings.matrix * 4 // 3 // 4 * 4  # finer than measured, so that edges ring as they do
    return acquire(draw_scene(fine, rng, patient), settings.matrix, draws, rng)


def _bright(acquired: Acquired) -> float:
    return max(float(np.percentile(np.abs(acquired.signal), 99)), 1e-6)


def _ratio(settings: PairSettings, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(settings.snr_low), np.log(settings.snr_high))))


def _mixture(
    draws: npt.NDArray[np.complex64], rng: np.random.Generator
) -> npt.NDArray[np.complex64]:
    """Noise with the covariance of the draws: their sum with a random complex unit vector."""
    weights = rng.standard_normal(2 * len(draws)).view(np.complex128)
    weights /= np.linalg.norm(weights)
    return np.asarray(np.tensordot(weights.astype(np.complex64), draws, 1))


def _round(noisy: Batch, rng: np.random.Generator) -> None:
    """Round to the integers of an export, between one and thirty to a unit of noise."""
    steps = np.float32(np.exp(rng.uniform(0.0, np.log(30.0))))
    noisy *= steps
    np.round(noisy, out=noisy)
    noisy /= steps


def _blank_margin(noisy: Batch, clean: Batch, rng: np.random.Generator) -> None:
    """Set a margin to zero, as distortion correction and rectangular fields of view do."""
    width = int(rng.integers(2, noisy.shape[0] // 5))
    for image in (noisy, clean):
        if width % 2:
            image[:width] = 0.0
        else:
            image[:, -width:] = 0.0


def _turned(crop: Batch, turns: int, *, flip: bool) -> Batch:
    crop = np.rot90(crop, turns)
    return np.ascontiguousarray(crop[:, ::-1] if flip else crop)
