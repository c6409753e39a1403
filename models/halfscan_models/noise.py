"""Blind noise estimation in magnitude images.

The noise of a magnitude image is hard to read off a single statistic: interpolation and filters
correlate it, so that high-pass estimators see too little; in air it follows the Rayleigh
distribution, whose standard deviation is only 0.655 of that of the two channels; and anatomy looks
like noise. The estimator here looks at many small windows, removes a plane from each, corrects
each window for the Rician distribution and for the correlation of the noise, and takes the lowest
pronounced mode of what the windows say.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from halfscan_models.errors import VolumeError

Image = npt.NDArray[np.float64]  # (row, column)

_WINDOW = 7
_MIN_WINDOWS = 24
# Windows along one axis that are plenty; larger images are looked at in steps.
_PLACES = 144
# Below this fraction of the largest value, a spread is rounding of the arithmetic, not noise.
_ROUNDING = 1e-6
# Mean over standard deviation of a magnitude below which a window counts as air: 1.91 for a
# Rayleigh distribution, more where part of the spread is lost to the plane.
_DARK_RATIO = 2.6
# Largest distance between the fifth percentile of the windows and their mode that noise explains
# [natural logarithm]: 0.2 for white noise, 0.45 in air and where noise was zero filled twofold,
# and some variation of the geometry factor.
_QUIETEST = 0.05
_SPREAD = 0.6


def estimate_noise_sd(image: npt.ArrayLike) -> float:
    """Noise standard deviation of one magnitude image, from the image alone.

    Parameters
    ----------
    image : array_like
        (row, column), finite, any scale.

    Returns
    -------
    float
        Standard deviation of the noise in each of the two channels of the complex image (the one
        seen where the signal is strong), in the units of the image; 0 where the image shows no
        noise or is too small to tell (less than 3 pixels in a direction).

    Raises
    ------
    VolumeError
        The image is not two-dimensional, or holds NaN or infinity.

    Notes
    -----
    The correction from the standard deviation of a magnitude to that of its channels is the one of
    Koay & Basser [1]_. Time is linear in the number of pixels.

    References
    ----------
    .. [1] Koay CG, Basser PJ. Analytically exact correction scheme for signal extraction from
       noisy magnitude MR signals. J Magn Reson 2006;179:317-322. doi:10.1016/j.jmr.2006.01.016
    """
    pixels = np.asarray(image, dtype=np.float64)
    if pixels.ndim != 2:
        raise VolumeError(f"image must have 2 dimensions (row, column), got shape {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise VolumeError("image must be finite, got NaN or infinity")
    window = _window_for(pixels.shape)
    scale = float(np.abs(pixels).max(initial=0.0))
    if window == 0 or scale == 0.0:
        return 0.0
    means, variances, lag_row, lag_column = _window_statistics(pixels / scale, window)
    masked = (means == 0.0) & (variances <= _ROUNDING**2)
    keep = ~masked
    if not keep.any():
        return 0.0
    sds = np.sqrt(variances)
    quiet = sds <= _ROUNDING
    # Exact zeros were set aside as a mask, so windows without any spread belong to a picture
    # that carries no noise.
    if np.count_nonzero(quiet & keep) * 4 >= np.count_nonzero(keep):
        return 0.0
    keep &= ~quiet
    means, sds, lags = means[keep], sds[keep], (lag_row[keep], lag_column[keep])
    # What a window shows of correlated noise is known only once its windows are known, and these
    # only once the Rician correction has that share: three rounds settle it.
    share = 1.0
    for _ in range(3):
        full = sds / share
        channel = full / _rician_factor(means / full)
        chosen, sigma = _lowest_mode(np.log(channel))
        dark = bool(np.median(means[chosen] / sds[chosen]) < _DARK_RATIO)
        share = _visible_share(
            lags[0][chosen], lags[1][chosen], sds[chosen] ** 2, window, dark=dark
        )
    return sigma * scale


def _window_for(shape: tuple[int, ...]) -> int:
    """Largest odd window up to 7 that fits at least twice; 0 where the image is too small."""
    smallest = min(shape)
    if smallest < 3:
        return 0
    return max(3, min(_WINDOW, (smallest // 2) | 1 if smallest >= 6 else 3))


def _window_statistics(pixels: Image, window: int) -> tuple[Image, Image, Image, Image]:
    """Mean, variance about a plane, and lag-1 differences of the residual, for many windows.

    All four are flat arrays, one value a window; windows that leave the image are not used, and
    large images are not looked at in every place.
    """
    half = window // 2
    offsets = np.arange(-half, half + 1, dtype=np.float64)
    slope = offsets / (offsets @ offsets)
    flat = np.full(window, 1.0 / window)
    places = [_places(length, half) for length in pixels.shape]
    rows = _along_rows(pixels, flat, places[0])
    mean = _along_columns(rows, flat, places[1])
    slopes = (
        _along_columns(_along_rows(pixels, slope, places[0]), flat, places[1]),
        _along_columns(rows, slope, places[1]),
    )
    square = _along_columns(_along_rows(pixels**2, flat, places[0]), flat, places[1])
    explained = (offsets @ offsets / window) * (slopes[0] ** 2 + slopes[1] ** 2)
    count = window * window
    variance = np.maximum(square - mean**2 - explained, 0.0) * count / (count - 3)
    # Half the mean squared difference of neighbours, again without the plane's share: the
    # variance less the covariance at lag 1. The first difference of a window would reach outside.
    inner = np.append(0.0, np.full(window - 1, 1.0 / (window - 1)))
    lags = []
    for axis, plane in enumerate(slopes):
        step = np.diff(pixels, axis=axis, prepend=np.take(pixels, [0], axis=axis)) ** 2
        weights = (inner, flat) if axis == 0 else (flat, inner)
        step = _along_columns(_along_rows(step, weights[0], places[0]), weights[1], places[1])
        lags.append(0.5 * np.maximum(step - plane**2, 0.0))
    return mean.ravel(), variance.ravel(), lags[0].ravel(), lags[1].ravel()


def _places(length: int, half: int) -> slice:
    """Centres along one axis of the windows that lie inside the image."""
    return slice(half, length - half, max(1, length // _PLACES))


def _along_rows(pixels: Image, weights: Image, places: slice) -> Image:
    return np.asarray(ndimage.correlate1d(pixels, weights, axis=0, mode="nearest"))[places]


def _along_columns(pixels: Image, weights: Image, places: slice) -> Image:
    return np.asarray(ndimage.correlate1d(pixels, weights, axis=1, mode="nearest"))[:, places]


@lru_cache(maxsize=1)
def _rician_table() -> tuple[Image, Image]:
    """Mean over standard deviation of a Rician magnitude, and its sd over that of a channel."""
    theta = np.linspace(0.0, 12.0, 1201)
    half = theta**2 / 4
    mean = np.sqrt(np.pi / 2) * ((1 + 2 * half) * special.i0e(half) + 2 * half * special.i1e(half))
    sd = np.sqrt(2 + theta**2 - mean**2)
    return mean / sd, sd


def _rician_factor(ratio: Image) -> Image:
    """Standard deviation of the magnitude over that of a channel, from the magnitude's mean/sd."""
    ratios, factors = _rician_table()
    return np.interp(ratio, ratios, factors, right=1.0)


def _lowest_mode(logs: Image) -> tuple[npt.NDArray[np.bool_], float]:
    """Windows near the lowest pronounced mode, and that mode as a standard deviation."""
    if logs.size < _MIN_WINDOWS:
        middle = float(np.median(logs))
        return np.ones(logs.size, dtype=np.bool_), float(np.exp(middle))
    width = 0.04
    low = float(logs.min()) - 0.5
    bins = int((float(logs.max()) + 0.5 - low) / width) + 1
    counts, edges = np.histogram(logs, bins=bins, range=(low, low + bins * width))
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), 3.0)
    inner = density[1:-1]
    peaks = 1 + np.flatnonzero((inner >= density[:-2]) & (inner > density[2:]))
    pronounced = peaks[density[peaks] >= 0.5 * density.max()]
    # Noise alone spreads little from window to window; where the quietest ones lie far below
    # the mode, the mode is anatomy.
    mode = min(
        float(edges[pronounced[0]] + width / 2),
        float(np.quantile(logs, _QUIETEST)) + _SPREAD,
    )
    near = np.abs(logs - mode) < 0.15
    if not near.any():
        near = np.abs(logs - mode) <= np.abs(logs - mode).min()
    return near, float(np.exp(logs[near].mean()))


@lru_cache(maxsize=16)
def _correlation_table(window: int, *, dark: bool) -> tuple[Image, Image, Image]:
    """What a window shows of band-limited noise, for bands from 1 (white) down to 0.2.

    Noise that was zero filled by 1/b along an axis has the autocorrelation sinc(b d); noise that
    was filtered strongly besides has nearly a Gaussian one of the same curvature. The truth lies
    between, and so does this table. The magnitude in air has the autocorrelation
    (2F1(-1/2, -1/2; 1; rho^2) - 1) / (4/pi - 1) where that of the channels is rho. A constant and
    a slope fitted to a window take part of such noise with them.

    Returns
    -------
    drop, constant, slope : ndarray
        One minus the correlation of neighbours, rising; the share of the variance taken by the
        constant and by the slope, along one axis.
    """
    bands = np.linspace(0.2, 1.0, 33)[:, None, None]
    half = window // 2
    offsets = np.arange(-half, half + 1, dtype=np.float64)
    basis = np.stack([np.full(window, window**-0.5), offsets / np.sqrt(offsets @ offsets)])
    distance = offsets[:, None] - offsets[None, :]

    def correlation(lag: Image) -> Image:
        rho = 0.5 * (np.sinc(bands * lag) + np.exp(-((np.pi * bands * lag) ** 2) / 6))
        if dark:
            rho = (special.hyp2f1(-0.5, -0.5, 1.0, rho**2) - 1) / (4 / np.pi - 1)
        return np.asarray(rho)

    taken = np.einsum("ki,bij,kj->kb", basis, correlation(distance), basis) / window
    drop = 1 - correlation(np.ones((1, 1)))[:, 0, 0]
    # White noise is the first point whatever the shape of the band.
    return np.append(drop, 1.0), np.append(taken[0], 1 / window), np.append(taken[1], 1 / window)


def _visible_share(
    lag_row: Image, lag_column: Image, variances: Image, window: int, *, dark: bool
) -> float:
    """Share of the noise's standard deviation that windows show after the plane is removed.

    Solved by fixed point: the share depends on the correlation of neighbours, and this on the
    full variance.
    """
    drop, constant, slope = _correlation_table(window, dark=dark)
    count = window * window
    shown = float(variances.mean())
    # Medians: a window that holds a faint edge must not speak for the others.
    lags = shown * np.array([np.median(lag / variances) for lag in (lag_row, lag_column)])
    full = shown
    # The slope that noise itself has in a window was taken from the differences too.
    offsets = np.arange(window) - window // 2
    slope_of_noise = 0.5 / (window * float(offsets @ offsets))
    for _ in range(20):
        neighbours = np.minimum(lags / full + slope_of_noise, 1.0)
        constants = np.interp(neighbours, drop, constant)
        slopes = np.interp(neighbours, drop, slope)
        taken = constants.prod() + slopes[0] * constants[1] + constants[0] * slopes[1]
        full = shown * (count - 3) / count / max(1.0 - float(taken), 0.3)
    return float(np.sqrt(shown / full))
