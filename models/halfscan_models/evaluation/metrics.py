"""How near an image is to the truth: PSNR and SSIM, over the whole image and its foreground."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from halfscan_models.evaluation.errors import EvaluationError

__all__ = ["Image", "Likeness", "foreground_of", "likeness", "psnr_db", "ssim_map"]

Image = npt.NDArray[np.float64]  # (row, column)
Mask = npt.NDArray[np.bool_]

_FOREGROUND = 0.1  # of the 99th percentile of the truth
_PEAK_PERCENTILE = 99.5
_WIDTH = 1.5  # of SSIM's window [pixels]
_K1, _K2 = 0.01, 0.03
_SMALLEST_ERROR = 1e-20


@dataclass(frozen=True, slots=True)
class Likeness:
    """Likeness of an image to the truth.

    Attributes
    ----------
    psnr_db, psnr_foreground_db : float
        Peak signal-to-noise ratio of the whole image and of its foreground [dB].
    ssim, ssim_foreground : float
        Mean structural similarity over the same pixels.
    """

    psnr_db: float
    psnr_foreground_db: float
    ssim: float
    ssim_foreground: float


def foreground_of(truth: Image) -> Mask:
    """Pixels above a tenth of the 99th percentile of the truth."""
    return np.asarray(truth > _FOREGROUND * np.percentile(truth, 99))


def peak_of(truth: Image) -> float:
    """Peak that PSNR and SSIM refer to: the 99.5th percentile of the truth.

    Raises
    ------
    EvaluationError
        The truth is dark: it has no peak.
    """
    peak = float(np.percentile(truth, _PEAK_PERCENTILE))
    if not peak > 0.0:
        raise EvaluationError(f"the truth must have a bright pixel in 200, got a peak of {peak!r}")
    return peak


def psnr_db(image: Image, truth: Image, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio [dB], 200 at most: an image may equal the truth.

    Parameters
    ----------
    image, truth : ndarray
        (row, column), same scale.
    mask : ndarray of bool, optional
        Pixels that count; all where it is None.
    """
    error = np.square(image - truth)
    mean = float(error.mean() if mask is None else error[mask].mean())
    share = mean / peak_of(truth) ** 2
    return float(-10 * np.log10(max(share, _SMALLEST_ERROR)))


def ssim_map(image: Image, truth: Image) -> Image:
    """Structural similarity of every pixel, Gaussian window of 1.5 pixels.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13, with the paper's K1 = 0.01, K2 = 0.03;
    the dynamic range is `peak_of` the truth.
    """
    c1, c2 = (_K1 * peak_of(truth)) ** 2, (_K2 * peak_of(truth)) ** 2

    def local(values: Image) -> Image:
        return np.asarray(gaussian_filter(values, _WIDTH, truncate=3.5))

    mean, mean_truth = local(image), local(truth)
    variance = local(image**2) - mean**2
    variance_truth = local(truth**2) - mean_truth**2
    covariance = local(image * truth) - mean * mean_truth
    return np.asarray(
        (2 * mean * mean_truth + c1)
        * (2 * covariance + c2)
        / ((mean**2 + mean_truth**2 + c1) * (variance + variance_truth + c2))
    )


def likeness(image: npt.ArrayLike, truth: npt.ArrayLike) -> Likeness:
    """PSNR and SSIM of an image against the truth.

    Raises
    ------
    EvaluationError
        The two have different shapes or are not two-dimensional.
    """
    seen, wanted = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    if seen.shape != wanted.shape or seen.ndim != 2:
        raise EvaluationError(
            f"image and truth must be images of one shape, got {seen.shape} and {wanted.shape}"
        )
    mask = foreground_of(wanted)
    similar = ssim_map(seen, wanted)
    return Likeness(
        psnr_db(seen, wanted),
        psnr_db(seen, wanted, mask),
        float(similar.mean()),
        float(similar[mask].mean()),
    )
