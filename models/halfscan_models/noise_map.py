"""Where a magnitude image is noisy, and how much: a small network on top of the windows' estimate.

Windows alone (`noise`) cannot tell fine texture from noise: where there is no quiet place, they
call the texture noise. A network that has seen both can. It has 4 x 4 pixels in a block and five
convolutions of kernel 3 on the blocks, and says for each block by how much the windows' estimate is
off there, and how sure it is.

What is told to the denoiser is a lower bound of the map: where the network is not sure whether it
sees noise or fine structure, structure is assumed, and left alone.

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
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

from halfscan_models.errors import ModelFileError
from halfscan_models.inference import open_session
from halfscan_models.noise import estimate_noise_sd

__all__ = ["NoiseEstimate", "estimate_noise"]

Image = npt.NDArray[np.float64]  # (row, column)

_WEIGHTS = Path(__file__).parent / "weights" / "noise.onnx"
_SHA256 = "236d34646e2beb72ab728b1df311ec960556c80bfee3806d9c3d03a994ae40f5"
_SMALLEST = 48  # pixels: the convolutions need 10 blocks
_REACH = 2  # blocks next to emptiness that say nothing either
# The lower bound lies so many times the uncertainty below the estimate, as far as that exceeds what
# plain noise has, but not below the quietest places of the image (percentile of the map): chosen on
# real and simulated images, docs/training.md.
_DOUBT = 4.0
_SURE = 0.06
_QUIET = 10.0
_BLOCK = 4
# Range of the logarithm of the precision, in training too.
PRECISION = (-3.0, 5.0)
# Standard deviation of the neighbourhood in which the map is evened out [blocks].
_WIDTH = 4.0
# Where the noise is a smaller or larger part of the windows' estimate than this, it is corrected
# twice: the network was trained on first guesses between 0.4 and 6 times the noise.
_NEAR = (1 / 3, 1.5)


@dataclass(frozen=True, slots=True, eq=False)
class NoiseEstimate:
    """The noise of a magnitude image.

    Attributes
    ----------
    sd : float
        Standard deviation of the noise in each of the two channels of the complex image, in the
        units of the image: the median of `sd_low`. 0 where the image shows no noise.
    sd_map : ndarray
        (row, column) that standard deviation from place to place; smooth.
    sd_low : ndarray
        (row, column) lower bound of it, the lower the less sure the estimate is; smooth.
    windows : float
        The windows' estimate (`estimate_noise_sd`): what a result's can be compared with.
    """

    sd: float
    sd_map: Image
    sd_low: Image
    windows: float


def estimate_noise(image: npt.ArrayLike) -> NoiseEstimate:
    """Estimate the noise of one magnitude image from place to place.

    Parameters
    ----------
    image : array_like
        (row, column), finite, any scale.

    Returns
    -------
    NoiseEstimate
        Level and maps. An image too small for the network (below 48 pixels in a direction) has the
        windows' estimate everywhere.

    Raises
    ------
    VolumeError
        The image is not two-dimensional, or holds NaN or infinity.
    ModelFileError
        The weights of the network are missing or not the published ones.
    """
    pixels = np.asarray(image, dtype=np.float64)
    level = windows = estimate_noise_sd(pixels)
    if level == 0.0 or min(pixels.shape) < _SMALLEST:
        return _even(windows, pixels)
    filled = _filled(pixels)
    for last in (False, True):
        ratio, precision = _answer(pixels / level)
        weight = np.where(_inside(filled, ratio.shape), np.exp(precision), 0.0)
        if not weight.any():
            return _even(windows, pixels)
        middle = level * float(np.exp(np.average(ratio, weights=weight)))
        if last or _NEAR[0] < middle / level < _NEAR[1]:
            break
        level = middle
    mean, doubt = _smooth(ratio, weight)
    seen = weight > 0.0
    quiet = np.minimum(mean, np.percentile(mean[seen], _QUIET))
    low = np.maximum(mean - _DOUBT * np.maximum(doubt - _SURE, 0.0), quiet)
    sd = level * float(np.exp(np.median(low[seen])))
    sd_map, sd_low = (level * np.exp(_on_pixels(one, pixels.shape)) for one in (mean, low))
    return NoiseEstimate(sd, sd_map, sd_low, windows)


def _even(level: float, pixels: Image) -> NoiseEstimate:
    flat = np.full(pixels.shape, level)
    return NoiseEstimate(level, flat, flat, level)


def _filled(pixels: Image) -> npt.NDArray[np.bool_]:
    """Blocks that hold a picture, and whose neighbours do: elsewhere zeros stand for no noise."""
    rows, columns = (length // _BLOCK for length in pixels.shape)
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    picture = blocks.any(axis=(1, 3))
    return np.asarray(
        binary_erosion(picture, np.ones((3, 3)), iterations=_REACH, border_value=1), np.bool_
    )


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


def _answer(units: Image) -> tuple[Image, Image]:
    """Logarithms of true over guessed noise and of its precision, for the blocks inside."""
    rows, columns = (length - length % _BLOCK for length in units.shape)
    cut = units[None, None, :rows, :columns].astype(np.float32)
    ((answer,),) = _session().run(None, {"image": cut})
    ratio, precision = answer.astype(np.float64)
    return ratio, np.clip(precision, *PRECISION)


def _inside(blocks: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Cut off the blocks around the edge that the network gives no answer for."""
    margin = (blocks.shape[0] - shape[0]) // 2
    return blocks[margin : margin + shape[0], margin : margin + shape[1]]


def _smooth(ratio: Image, weight: Image) -> tuple[Image, Image]:
    """Even out: sure blocks count more, and stand in for those around.

    Returns
    -------
    mean, doubt : ndarray
        Mean of the logarithm of the ratio, and of the scale of its Laplace distribution.
    """
    counted = (weight > 0.0).astype(np.float64)

    def even(values: Image) -> Image:
        # A little of the whole image's mean, for what lies far from every block that counts.
        return np.asarray(gaussian_filter(values, _WIDTH) + 1e-3 * values.mean())

    sum_of_weights = even(weight)
    return even(weight * ratio) / sum_of_weights, even(counted) / sum_of_weights


def _on_pixels(blocks: Image, shape: tuple[int, ...]) -> Image:
    """Interpolate linearly between the centres of the blocks inside; beyond, as the last one.

    Steps from block to block would show in a bright image that is divided by them.
    """
    places = []
    for length, count in zip(shape, blocks.shape, strict=True):
        margin = (length // _BLOCK - count) // 2
        places.append((np.arange(length) + 0.5) / _BLOCK - 0.5 - margin)
    grid = np.meshgrid(*places, indexing="ij")
    return np.asarray(map_coordinates(blocks, grid, order=1, mode="nearest"))
