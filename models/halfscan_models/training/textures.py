"""Random fields: the fine structure of synthetic tissue, each of zero mean and unit variance.

Every field is made by a Fourier transform or two and a few array operations. All randomness comes
from the generator that is passed in.
"""

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

__all__ = ["bands", "draw_texture", "fibres", "rough", "smooth", "trabeculae", "warped"]

Array = npt.NDArray[np.float32]


def draw_texture(size: int, rng: np.random.Generator) -> Array:
    """Draw a field of a random kind, (size, size)."""
    kinds = (rough, bands, fibres, trabeculae, _grains)
    shares = (0.35, 0.15, 0.2, 0.15, 0.15)
    field = kinds[int(rng.choice(len(kinds), p=shares))](size, rng)
    if rng.random() < 0.3:
        # Skewed like marrow between septa or fat between fibres.
        field = _standard(np.exp(rng.uniform(-1.0, 1.0) * np.clip(field, -3.0, 3.0)))
    if rng.random() < 0.3:
        # Here strong, there weak: real texture is nowhere stationary.
        field = _standard(field * np.exp(0.8 * smooth(size, rng.uniform(0.05, 0.3), rng)))
    return field


def rough(size: int, rng: np.random.Generator) -> Array:
    """Spectrum that falls with a power of the frequency, as in natural images."""
    return _shaped(
        (_radius(size) + rng.uniform(0.005, 0.08)) ** np.float32(-rng.uniform(0.4, 2.2)), size, rng
    )


def bands(size: int, rng: np.random.Generator) -> Array:
    """Band-pass noise, isotropic or with a direction."""
    centre, width = np.exp(rng.uniform(np.log(0.02), np.log(0.35))), rng.uniform(0.02, 0.12)
    spectrum = np.exp(-0.5 * ((_radius(size) - centre) / width) ** 2)
    if rng.random() < 0.5:
        spectrum = spectrum * _direction(size, rng.uniform(0, np.pi), rng.uniform(0.1, 0.6))
    return _shaped(spectrum, size, rng)


def fibres(size: int, rng: np.random.Generator) -> Array:
    """Streaks along a bent direction, like muscle and tendon."""
    fall = (_radius(size) + 0.02) ** np.float32(-rng.uniform(0.2, 1.2))
    narrow = _direction(size, rng.uniform(0, np.pi), rng.uniform(0.05, 0.25))
    return warped(_shaped(fall * narrow, size, rng), rng.uniform(0.0, 0.06), rng)


def trabeculae(size: int, rng: np.random.Generator) -> Array:
    """Thin walls or threads along the level sets of band-pass noise, like spongy bone."""
    field = bands(size, rng)
    return _standard(np.exp(-((field / rng.uniform(0.15, 0.7)) ** 2)))


def _grains(size: int, rng: np.random.Generator) -> Array:
    """Scattered dots and short strokes: few pixels high, the others low."""
    white = rng.random((size, size), dtype=np.float32) < np.exp(rng.uniform(np.log(4e-3), -2.0))
    blurred = ndimage.gaussian_filter(white.astype(np.float32), rng.uniform(0.5, 1.6, 2))
    return warped(_standard(blurred), 0.02, rng)


def warped(field: Array, amount: float, rng: np.random.Generator) -> Array:
    """Move every pixel by a smooth random distance of about `amount` of the image."""
    size = field.shape[0]
    if amount * size < 0.5:
        return field
    places = np.mgrid[:size, :size].astype(np.float32)
    scale = rng.uniform(0.15, 0.4)
    for axis in range(2):
        places[axis] += amount * size * smooth(size, scale, rng)
    return _standard(ndimage.map_coordinates(field, places, order=1, mode="grid-wrap"))


def smooth(size: int, scale: float, rng: np.random.Generator) -> Array:
    """Gaussian random field; `scale` is the width of its structures as a share of the image."""
    return _shaped(np.exp(-2 * (np.pi * scale * size / 3 * _radius(size)) ** 2), size, rng)


def _shaped(spectrum: npt.NDArray[np.floating], size: int, rng: np.random.Generator) -> Array:
    white = fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    return _standard(fft.irfft2(white * spectrum.astype(np.float32), s=(size, size)))


def _standard(field: npt.NDArray[np.floating]) -> Array:
    field = field - field.mean()
    return np.asarray(field / (field.std() + 1e-6), dtype=np.float32)


def _axes(size: int) -> tuple[Array, Array]:
    rows, columns = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    return rows.astype(np.float32)[:, None], columns.astype(np.float32)[None, :]


def _radius(size: int) -> Array:
    rows, columns = _axes(size)
    return np.hypot(rows, columns)


def _direction(size: int, angle: float, spread: float) -> Array:
    """Weights of the frequencies near one direction."""
    rows, columns = _axes(size)
    off = np.arctan2(rows, columns) - np.float32(angle)
    off -= np.float32(np.pi) * np.round(off / np.float32(np.pi))
    return np.asarray(np.exp(-0.5 * (off / np.float32(spread)) ** 2))
