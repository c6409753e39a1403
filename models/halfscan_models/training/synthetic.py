"""Synthetic training pairs, made from nothing but random numbers.

A scene is a complex image of overlapping random shapes ("dead leaves" [1]_) with shading, texture
and smooth structures. It is measured the way a scanner measures: its k-space is cut to the acquired
matrix, filtered and zero filled; complex white noise goes through the same filter and zero filling
and is scaled by a smooth map like the geometry factor of parallel imaging; the magnitude is what
the network sees. The target is the same measurement without noise, so that the network learns to
take noise away and nothing else: neither resolution nor ringing is to be invented or removed.

All randomness comes from the generator that is passed in.

References
----------
.. [1] Lee AB, Mumford D, Huang J. Occlusion models for natural images: a statistical study of a
   scale-invariant dead leaves model. Int J Comput Vis 2001;41:35-59. doi:10.1023/A:1011109015675
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.noise import estimate_noise_sd

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Batch = npt.NDArray[np.float32]  # (crop, row, column)


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What pairs look like.

    Attributes
    ----------
    matrix : int
        Rows and columns of a measured image [pixels].
    crop : int
        Rows and columns of a training crop [pixels], at most `matrix`.
    crops : int
        Crops taken from each image.
    snr_low, snr_high : float
        Range of the ratio between the 99th percentile of the noise-free image and the standard
        deviation of the noise; drawn evenly on a logarithmic axis.
    sigma_error : float
        Spread of the noise level that the network is told, as standard deviation of its
        logarithm. It is applied to the level that the estimator of inference finds.
    """

    matrix: int = 144
    crop: int = 64
    crops: int = 6
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


def make_batch(
    scenes: int, settings: PairSettings, rng: np.random.Generator
) -> tuple[Batch, Batch]:
    """Noisy and noise-free crops of several scenes, in units of the estimated noise.

    Parameters
    ----------
    scenes : int
        Images to make; each gives `settings.crops` crops.
    settings : PairSettings
        What the pairs look like.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    noisy, clean : ndarray
        (scenes * crops, crop, crop) float32, divided by the noise level that inference would
        divide by (the estimate, with `sigma_error`).
    """
    noisy: list[Array] = []
    clean: list[Array] = []
    for _ in range(scenes):
        measurement = measure(settings, rng)
        level = estimate_noise_sd(measurement.noisy)
        # Texture can pass for noise, and inference will see it then as here; the limits keep a
        # picture without any quiet place from spoiling a step.
        level = float(np.clip(level, 0.5, 4.0) * np.exp(settings.sigma_error * rng.normal()))
        for _ in range(settings.crops):
            where = _crop_window(settings, rng)
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            noisy.append(_turned(measurement.noisy[where] / level, turn, flip=flip))
            clean.append(_turned(measurement.clean[where] / level, turn, flip=flip))
    return np.stack(noisy).astype(np.float32), np.stack(clean).astype(np.float32)


def measure(settings: PairSettings, rng: np.random.Generator) -> Measurement:
    """Draw a scene and measure it with noise.

    Parameters
    ----------
    settings : PairSettings
        Matrix and range of the signal-to-noise ratio.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    Measurement
        The image in units of its noise.
    """
    matrix = settings.matrix
    fine = 2 * (2 * matrix // 3)  # drawn finer than measured, so that edges ring as they do
    scene = _scene(fine, rng)
    acquired = _acquired_matrix(matrix, rng)
    window = _filter(acquired, rng)
    kspace = _centred(scene * _phase(fine, rng), acquired) * window
    signal = _image(kspace, matrix) * (matrix / fine) ** 2
    white = rng.normal(size=acquired) + 1j * rng.normal(size=acquired)
    noise = _image(np.asarray(white * window, dtype=np.complex128), matrix)
    noise /= np.sqrt(np.mean(noise.real**2 + noise.imag**2) / 2)
    noise_sd = _noise_map(matrix, rng)
    clean = np.abs(signal)
    ratio = np.exp(rng.uniform(np.log(settings.snr_low), np.log(settings.snr_high)))
    gain = ratio / max(float(np.percentile(clean, 99)), 1e-6)
    clean, noisy = clean * gain, np.abs(signal * gain + noise * noise_sd)
    if rng.random() < 0.08:
        _blank_margin(noisy, clean, rng)
    return Measurement(noisy, clean, noise_sd)


# --- scenes ---


def _scene(size: int, rng: np.random.Generator) -> Array:
    """Draw a non-negative image of about unit amplitude, (size, size)."""
    kind = rng.random()
    if kind < 0.06:
        scene = _smooth(size, rng.uniform(0.02, 0.15), rng)
        scene = np.maximum(scene - scene.min() * rng.uniform(0.0, 1.0), 0.0)
    else:
        scene = _leaves(size, rng)
    if rng.random() < 0.45:
        scene = _folded(scene, rng)
    if rng.random() < 0.3:
        scene = _blurred(scene, rng.uniform(0.4, 1.2))
    if rng.random() < 0.55:
        # Fine structure everywhere, like marrow, muscle or cortex seen at a low resolution.
        amount = np.exp(rng.uniform(np.log(0.02), np.log(0.4)))
        scene *= np.maximum(1 + amount * _rough(size, rng), 0.0)
    scene *= np.exp(rng.uniform(0.0, 0.6) * _smooth(size, 0.25, rng))  # coil shading
    if rng.random() < 0.5:
        scene = _body(scene, rng)
    return scene


def _folded(scene: Array, rng: np.random.Generator) -> Array:
    """Bands and thin lines along the level sets of a random field, like sulci and septa."""
    field = _texture(scene.shape[0], rng)
    where = np.clip(_smooth(scene.shape[0], rng.uniform(0.05, 0.2), rng) + 0.5, 0.0, 1.0)
    width = rng.uniform(0.05, 0.5)
    if rng.random() < 0.5:
        shape = 0.5 + 0.5 * np.tanh(field / width)
    else:
        shape = np.exp(-((field / width) ** 2))
    tone = rng.uniform(0.0, 1.3) * max(float(scene.mean()), 0.1)
    return np.asarray(scene + where * shape * rng.uniform(0.3, 1.0) * (tone - scene))


def _rough(size: int, rng: np.random.Generator) -> Array:
    """Random field of unit variance whose spectrum falls with a power of the frequency."""
    y, x = _frequencies(size)
    spectrum = (np.hypot(x, y) + rng.uniform(0.01, 0.1)) ** -rng.uniform(0.3, 2.0)
    return _shaped_noise(spectrum, rng)


def _leaves(size: int, rng: np.random.Generator) -> Array:
    """Overlapping random shapes, each with its own level, gradient and texture."""
    low = rng.uniform(0.0, 0.4)
    contrast = rng.uniform(0.15, 1.0)
    scene = np.full((size, size), low + contrast * rng.random())
    textures = [_texture(size, rng) for _ in range(2)]
    roughness = 0.0 if rng.random() < 0.35 else 0.35 * rng.random() ** 1.5
    smallest = rng.uniform(1.0, 6.0)
    largest = size * rng.uniform(0.12, 0.45)
    for radius in _radii(int(np.exp(rng.uniform(np.log(40), np.log(400)))), smallest, largest, rng):
        rows, columns, shape, place = _leaf(size, float(radius), rng)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        tone: Array | float = low + contrast * rng.random()
        if rng.random() < 0.4:
            tone = tone * (1 + rng.uniform(-0.4, 0.4) * place)
        if roughness and rng.random() < 0.7:
            texture = textures[int(rng.integers(2))][rows, columns]
            tone = tone * (1 + roughness * rng.random() * texture)
        part = scene[rows, columns]
        part += shape * (tone - part)
    return np.asarray(np.maximum(scene, 0.0))


def _radii(count: int, smallest: float, largest: float, rng: np.random.Generator) -> Array:
    """Radii whose density falls with the cube of the size, largest first drawn at random."""
    low, high = largest**-2, smallest**-2
    radii = (low + (high - low) * rng.random(count) ** rng.uniform(1.0, 4.0)) ** -0.5
    if rng.random() < 0.5:
        radii = np.sort(radii)[::-1]
    return radii


def _leaf(size: int, radius: float, rng: np.random.Generator) -> tuple[slice, slice, Array, Array]:
    """Bounding box, coverage in [0, 1] and a ramp in about [-1, 1] of one random shape."""
    row, column = rng.uniform(0, size, 2)
    reach = int(np.ceil(radius)) + 1
    rows = slice(max(0, int(row) - reach), min(size, int(row) + reach + 1))
    columns = slice(max(0, int(column) - reach), min(size, int(column) + reach + 1))
    angle = rng.uniform(0, 2 * np.pi)
    y = np.arange(rows.start, rows.stop)[:, None] - row
    x = np.arange(columns.start, columns.stop)[None, :] - column
    along = (np.cos(angle) * x + np.sin(angle) * y) / radius
    across = (np.cos(angle) * y - np.sin(angle) * x) / (radius * rng.uniform(0.08, 1.0))
    kind = rng.random()
    if kind < 0.6:
        distance = np.sqrt(along**2 + across**2)
    elif kind < 0.85:
        distance = np.maximum(np.abs(along), np.abs(across)) * 1.4
    else:
        # A wavy outline: three to seven lobes.
        lobes = int(rng.integers(3, 8))
        turn = np.arctan2(across, along)
        distance = np.sqrt(along**2 + across**2) * (1.2 + 0.2 * np.cos(lobes * turn + angle))
    edge = radius * (1.0 - distance) / rng.uniform(0.7, 2.0) + 0.5
    return rows, columns, np.clip(edge, 0.0, 1.0), np.clip(along, -1.0, 1.0)


def _texture(size: int, rng: np.random.Generator) -> Array:
    """Band-pass filtered noise of unit variance, isotropic or with a direction."""
    y, x = _frequencies(size)
    centre, width = rng.uniform(0.03, 0.35), rng.uniform(0.02, 0.15)
    band = np.exp(-0.5 * ((np.hypot(x, y) - centre) / width) ** 2)
    if rng.random() < 0.5:
        angle, spread = rng.uniform(0, np.pi), rng.uniform(0.1, 0.6)
        off = np.angle(np.exp(2j * (np.arctan2(y, x) - angle))) / 2
        band = band * np.exp(-0.5 * (off / spread) ** 2)
    return _shaped_noise(band, rng)


def _smooth(size: int, scale: float, rng: np.random.Generator) -> Array:
    """Gaussian random field of unit variance; `scale` is its width as a share of the image."""
    y, x = _frequencies(size)
    return _shaped_noise(np.exp(-2 * (np.pi * scale * size / 3) ** 2 * (x**2 + y**2)), rng)


def _shaped_noise(spectrum: Array, rng: np.random.Generator) -> Array:
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(spectrum.shape[0],) * 2)) * spectrum)
    return np.asarray((field - field.mean()) / (field.std() + 1e-12))


def _blurred(scene: Array, sd_pixels: float) -> Array:
    y, x = _frequencies(scene.shape[0])
    kernel = np.exp(-2 * (np.pi * sd_pixels) ** 2 * (x**2 + y**2))
    return np.maximum(np.fft.irfft2(np.fft.rfft2(scene) * kernel), 0.0)


def _frequencies(size: int) -> tuple[Array, Array]:
    rows = np.asarray(np.fft.fftfreq(size), dtype=np.float64)
    columns = np.asarray(np.fft.rfftfreq(size), dtype=np.float64)
    return rows[:, None], columns[None, :]


def _body(scene: Array, rng: np.random.Generator) -> Array:
    """Surround the scene with air, now and then with a bright rim like subcutaneous fat."""
    size = scene.shape[0]
    y, x = (np.mgrid[:size, :size] - size * rng.uniform(0.35, 0.65, (2, 1, 1))) / (size / 2)
    power = rng.uniform(1.6, 4.0)
    distance = (
        np.abs(x / rng.uniform(0.4, 1.1)) ** power + np.abs(y / rng.uniform(0.4, 1.1)) ** power
    ) ** (1 / power) + rng.uniform(0.0, 0.08) * _smooth(size, 0.1, rng)
    if rng.random() < 0.5:
        rim = np.clip((distance - rng.uniform(0.8, 0.95)) * size / 3, 0.0, 1.0)
        scene = scene + rim * (rng.uniform(0.6, 1.5) * max(float(scene.max()), 0.2) - scene)
    return np.asarray(scene * np.clip((1.0 - distance) * size / 4 + 0.5, 0.0, 1.0))


# --- measurement ---


def _phase(size: int, rng: np.random.Generator) -> Complex:
    y, x = np.mgrid[:size, :size] / size - 0.5
    turns = rng.uniform(-1.5, 1.5, 3)
    plane = turns[0] * x + turns[1] * y + turns[2] * x * y
    return np.asarray(np.exp(2j * np.pi * (plane + 0.1 * _smooth(size, 0.2, rng))))


def _acquired_matrix(matrix: int, rng: np.random.Generator) -> tuple[int, int]:
    """Acquired rows and columns: full, zero filled in one direction, or in both."""
    kind = rng.random()
    if kind < 0.4:
        factors = np.ones(2)
    elif kind < 0.7:
        factors = np.full(2, rng.uniform(1.0, 2.0))
    else:
        factors = rng.uniform(1.0, 2.0, 2)
        factors[0] = factors[0] if rng.random() < 0.5 else 1.0
    rows, columns = (int(matrix / factor) // 2 * 2 for factor in factors)
    return rows, columns


def _filter(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """k-space filter over the acquired matrix: none, Gaussian, Hamming-like, Fermi or elliptic."""
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in shape)
    radius = np.hypot(y[:, None], x[None, :])
    kind = rng.random()
    if kind < 0.45:
        return np.ones(shape)
    if kind < 0.6:
        return np.asarray(np.exp(-rng.uniform(0.2, 1.5) * radius**2))
    if kind < 0.75:
        floor = rng.uniform(0.54, 0.95)
        rows, columns = (floor + (1 - floor) * np.cos(np.pi * axis) for axis in (y, x))
        return np.asarray(np.maximum(rows[:, None] * columns[None, :], 0.0))
    if kind < 0.9:
        return np.asarray(1 / (1 + np.exp((radius - rng.uniform(0.75, 1.1)) / 0.06)))
    return (radius <= 1.0).astype(np.float64)


def _centred(image: Complex, shape: tuple[int, int]) -> Complex:
    """Middle of the k-space of an image, (rows, columns) of it."""
    kspace = np.fft.fftshift(np.fft.fft2(image))
    first = [(full - part) // 2 for full, part in zip(kspace.shape, shape, strict=True)]
    return kspace[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]]


def _image(kspace: Complex, matrix: int) -> Complex:
    """Zero fill to (matrix, matrix) and transform."""
    full = np.zeros((matrix, matrix), dtype=np.complex128)
    first = [(matrix - part) // 2 for part in kspace.shape]
    full[first[0] : first[0] + kspace.shape[0], first[1] : first[1] + kspace.shape[1]] = kspace
    return np.fft.ifft2(np.fft.ifftshift(full))


def _noise_map(matrix: int, rng: np.random.Generator) -> Array:
    """Noise level of each pixel, root mean square 1: even, or varying like a geometry factor."""
    if rng.random() < 0.5:
        return np.ones((matrix, matrix))
    level = np.exp(rng.uniform(0.05, 0.4) * _smooth(matrix, rng.uniform(0.1, 0.3), rng))
    return np.asarray(level / np.sqrt(np.mean(level**2)))


def _blank_margin(noisy: Array, clean: Array, rng: np.random.Generator) -> None:
    """Set a margin to zero, as distortion correction and rectangular fields of view do."""
    width = int(rng.integers(2, noisy.shape[0] // 5))
    for image in (noisy, clean):
        if width % 2:
            image[:width] = 0.0
        else:
            image[:, -width:] = 0.0


# --- crops ---


def _crop_window(settings: PairSettings, rng: np.random.Generator) -> tuple[slice, slice]:
    row, column = rng.integers(0, settings.matrix - settings.crop + 1, 2)
    return slice(row, row + settings.crop), slice(column, column + settings.crop)


def _turned(crop: Array, turns: int, *, flip: bool) -> Array:
    crop = np.rot90(crop, turns)
    return crop[:, ::-1] if flip else crop
