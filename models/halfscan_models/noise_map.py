"""Where a magnitude image is noisy, and how much: a small network on top of the windows' estimate.

Windows alone (`noise`) cannot tell fine texture from noise: where there is no quiet place, they
call the texture noise. A network that has seen both can. It has 4 x 4 pixels in a block and five
convolutions of kernel 3 on the blocks, and says for each block by how much the windows' estimate is
off there, and how sure it is.

It was trained on the synthetic pairs of the denoiser (`halfscan_models.training.level`), whose
noise is known pixel by pixel; docs/training.md has its measured error.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, gaussian_filter

from halfscan_models.errors import ModelFileError
from halfscan_models.inference import open_session
from halfscan_models.noise import estimate_noise_sd

__all__ = ["NoiseEstimate", "estimate_noise"]

Image = npt.NDArray[np.float64]  # (row, column)
Features = npt.NDArray[np.float32]  # (row, column) of blocks

_WEIGHTS = Path(__file__).parent / "weights" / "noise.onnx"
_SHA256 = "236d34646e2beb72ab728b1df311ec960556c80bfee3806d9c3d03a994ae40f5"
_SMALLEST = 48  # pixels: the convolutions need 10 blocks
_REACH = 2  # blocks next to emptiness that say nothing either
# Percentile of the map that counts as the noise of the image.
QUIET = 10.0
_BLOCK = 4
# Range of the logarithm of the precision in training.
_PRECISION = (-3.0, 5.0)
# Standard deviation of the neighbourhood in which the map is evened out [blocks].
_WIDTH = 6.0
# Where the windows' estimate is further off than this, it is corrected twice: the network was
# trained on first guesses between 0.4 and 6 times the noise.
_FAR = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class NoiseEstimate:
    """The noise of a magnitude image.

    Attributes
    ----------
    sd : float
        Standard deviation of the noise in each of the two channels of the complex image, in the
        units of the image, where the image is quiet: the 10th percentile of the map. What is
        rougher elsewhere may be noise or structure, and a denoiser must leave structure alone. 0
        where the image shows no noise.
    sd_map : ndarray
        (row, column) that standard deviation from place to place; smooth.
    """

    sd: float
    sd_map: Image


def estimate_noise(image: npt.ArrayLike) -> NoiseEstimate:
    """Estimate the noise of one magnitude image from place to place.

    Parameters
    ----------
    image : array_like
        (row, column), finite, any scale.

    Returns
    -------
    NoiseEstimate
        Level and map. An image too small for the network (below 48 pixels in a direction) has the
        windows' estimate everywhere.

    Raises
    ------
    VolumeError
        The image is not two-dimensional, or holds NaN or infinity.
    ModelFileError
        The weights of the network are missing or not the published ones.
    """
    pixels = np.asarray(image, dtype=np.float64)
    level = estimate_noise_sd(pixels)
    flat = np.full(pixels.shape, level)
    if level == 0.0 or min(pixels.shape) < _SMALLEST:
        return NoiseEstimate(level, flat)
    filled = _filled(pixels)
    found = _corrected(pixels, level, filled)
    if found is None:
        return NoiseEstimate(level, flat)
    middle = float(np.median(found))
    if not 1 / _FAR < middle / level < _FAR:
        again = _corrected(pixels, middle, filled)
        found = found if again is None else again
    seen = found[_on_pixels(filled, pixels.shape)]
    return NoiseEstimate(float(np.percentile(seen, QUIET)), found)


def _filled(pixels: Image) -> npt.NDArray[np.bool_]:
    """Blocks that hold a picture, and whose neighbours do: elsewhere zeros stand for no noise."""
    rows, columns = (length // _BLOCK for length in pixels.shape)
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    picture = blocks.any(axis=(1, 3))
    return np.asarray(
        binary_erosion(picture, np.ones((3, 3)), iterations=_REACH, border_value=1), np.bool_
    )


def _corrected(pixels: Image, guess: float, filled: npt.NDArray[np.bool_]) -> Image | None:
    """Map of the noise, by the network's correction of a first guess; None where all is empty."""
    ratio, precision = _answer(pixels / guess)
    weight = np.where(_inside(filled, ratio.shape), np.exp(precision), 0.0)
    return _smooth(ratio, weight, pixels.shape) * guess if weight.any() else None


@lru_cache(maxsize=1)
def _session() -> Any:
    """Load the network, once in a process; one thread, because it is small."""
    try:
        content = _WEIGHTS.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the weights of the noise estimate: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise ModelFileError(
            f"{_WEIGHTS} is not what came with this version: expected sha256 {_SHA256}, "
            f"found {found}"
        )
    return open_session(content, _WEIGHTS.name, "cpu", 1)


def _answer(units: Image) -> tuple[Features, Features]:
    """Logarithms of true over guessed noise and of its precision, for the blocks inside."""
    rows, columns = (length - length % _BLOCK for length in units.shape)
    cut = units[None, None, :rows, :columns].astype(np.float32)
    ((answer,),) = _session().run(None, {"image": cut})
    return answer[0], np.clip(answer[1], *_PRECISION)


def _inside(blocks: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Cut off the blocks around the edge that the network gives no answer for."""
    margin = (blocks.shape[0] - shape[0]) // 2
    return blocks[margin : margin + shape[0], margin : margin + shape[1]]


def _smooth(ratio: Features, weight: Image, shape: tuple[int, ...]) -> Image:
    """Map of the ratio on the pixels: sure blocks count more, and stand in for those around."""
    floor = 1e-3 * float(weight.mean())
    above = gaussian_filter(weight * ratio, _WIDTH) + floor * np.average(ratio, weights=weight)
    smooth = np.exp(above / (gaussian_filter(weight, _WIDTH) + floor))
    missing = [length // _BLOCK - part for length, part in zip(shape, smooth.shape, strict=True)]
    whole = np.pad(smooth, [(gap // 2, gap - gap // 2) for gap in missing], mode="edge")
    return _on_pixels(whole.astype(np.float64), shape)


def _on_pixels(blocks: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Give each pixel what its block has, and those left at the end what is next to them."""
    pixels = blocks.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
    rest = [(0, length - part) for length, part in zip(shape, pixels.shape, strict=True)]
    return np.pad(pixels, rest, mode="edge")
