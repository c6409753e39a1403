"""The classical denoisers that the network is compared with: BM3D and non-local means.

Both are told the true noise, and both are freed of the magnitude's bias afterwards: without that
they would lose several dB in the background, and the comparison would flatter the network. Their
packages belong to the extra ``benchmark`` (bm3d is free for research only) and are imported when
they are used.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.rician import amplitude_of_mean

__all__ = ["INSTALL", "denoise_bm3d", "denoise_nlm", "is_installed"]

Image = npt.NDArray[np.float64]  # (row, column)

INSTALL = "pip install 'halfscan[benchmark]'"
_PACKAGES = {"bm3d": "bm3d", "nlm": "skimage"}
# The values that scikit-image's own example gives for fast NLM with a known noise level.
_PATCH, _DISTANCE, _STRENGTH = 5, 6, 0.8


def is_installed(method: str) -> bool:
    """Whether the package of a method ("bm3d" or "nlm") is there."""
    return find_spec(_PACKAGES[method]) is not None


def _require(method: str) -> None:
    if not is_installed(method):
        raise EvaluationError(f"{method} needs the package {_PACKAGES[method]}: {INSTALL}")


def denoise_bm3d(
    image: npt.ArrayLike,
    noise_sd: float,
    *,
    spectrum: npt.ArrayLike | None = None,
    threads: int = 1,
) -> Image:
    """BM3D (profile "np"), then the inverse of the magnitude's mean.

    Mäkinen et al. 2020, doi:10.1109/TIP.2020.3014721, which is Dabov et al. 2007
    (doi:10.1109/TIP.2007.901238) made exact for correlated noise.

    Parameters
    ----------
    image : array_like
        (row, column) magnitudes.
    noise_sd : float
        True standard deviation of the noise in each channel.
    spectrum : array_like, optional
        True power spectrum of the noise, as `NoisyImage.spectrum`; white where it is None.
    threads : int
        Threads of the package.

    Returns
    -------
    ndarray
        (row, column) estimated amplitudes.

    Raises
    ------
    EvaluationError
        The package is not installed.
    """
    _require("bm3d")
    bm3d: Any = _import_bm3d()
    profile = bm3d.BM3DProfile()
    profile.num_threads = threads
    source = np.asarray(image, np.float64)
    # The package compares with absolute limits: an image in units of its largest value.
    scale = float(source.max())
    if spectrum is None:
        mean = bm3d.bm3d(source / scale, noise_sd / scale, profile)
    else:
        mean = bm3d.bm3d(source / scale, np.asarray(spectrum) / scale**2, profile)
    return amplitude_of_mean(np.asarray(mean, np.float64) * scale, noise_sd)


def _import_bm3d() -> Any:
    """Import the package; bm4d, on which it rests, still calls a function that NumPy 2.4 lost."""
    if not hasattr(np, "trapz"):
        vars(np)["trapz"] = np.trapezoid
    import bm3d  # noqa: PLC0415  (an extra; loaded where it is used)

    return bm3d


def denoise_nlm(image: npt.ArrayLike, noise_sd: float) -> Image:
    """scikit-image's fast non-local means, then the inverse of the magnitude's mean.

    Buades et al. 2005, doi:10.1109/CVPR.2005.38; patches of 5, distance 6, h = 0.8 sigma.

    Parameters
    ----------
    image : array_like
        (row, column) magnitudes.
    noise_sd : float
        True standard deviation of the noise in each channel.

    Returns
    -------
    ndarray
        (row, column) estimated amplitudes.

    Raises
    ------
    EvaluationError
        The package is not installed.
    """
    _require("nlm")
    from skimage.restoration import denoise_nl_means  # noqa: PLC0415  (as above)

    mean = denoise_nl_means(
        np.asarray(image, np.float64),
        patch_size=_PATCH,
        patch_distance=_DISTANCE,
        h=_STRENGTH * noise_sd,
        sigma=noise_sd,
        fast_mode=True,
    )
    return amplitude_of_mean(mean, noise_sd)
