"""Scenes: noise-free pictures of nothing in particular, and of a lumbar spine.

Four kinds: overlapping random shapes ("dead leaves" [1]_), tissues that meet at the level sets of
random fields, plain rough fields, and planes through the simulated lumbar patient of
`halfscan_models.simulation`. The first three get folds, texture, shading, air and a rim of fat on
top. All randomness comes from the generator that is passed in.

References
----------
.. [1] Lee AB, Mumford D, Huang J. Occlusion models for natural images: a statistical study of a
   scale-invariant dead leaves model. Int J Comput Vis 2001;41:35-59. doi:10.1023/A:1011109015675
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from halfscan_models.simulation.anatomy import draw_anatomy
from halfscan_models.simulation.pathology import draw_pathologies
from halfscan_models.simulation.phantom import Axes, Phantom
from halfscan_models.simulation.protocol import PROTOCOL
from halfscan_models.simulation.signal import signal_table
from halfscan_models.simulation.tissues import Label
from halfscan_models.training.textures import bands, draw_texture, rough, smooth, warped

__all__ = ["PATIENT_SHARE", "draw_scene"]

Array = npt.NDArray[np.float32]

# Share of the scenes that are planes through a simulated patient.
PATIENT_SHARE = 0.2


def draw_scene(size: int, rng: np.random.Generator, patient: int = 0) -> Array:
    """Draw a scene.

    Parameters
    ----------
    size : int
        Rows and columns.
    rng : numpy.random.Generator
        Source of all randomness.
    patient : int
        Which simulated patient a plane is laid through. It takes half a second to build one, and
        the last two are kept: change the number seldom.

    Returns
    -------
    ndarray
        (size, size) float32, not negative, of about unit amplitude.
    """
    kind = rng.random()
    if kind < PATIENT_SHARE:
        scene = _patient_plane(size, patient, rng)
        if rng.random() < 0.5:
            scene = scene * np.maximum(1 + rng.uniform(0.02, 0.3) * draw_texture(size, rng), 0.0)
        return scene.astype(np.float32)
    if kind < 0.55:
        scene = _leaves(size, rng)
    elif kind < 0.92:
        scene = _tissues(size, rng)
    else:
        scene = rough(size, rng)
        scene = np.maximum(scene - scene.min() * rng.uniform(0.2, 1.0), 0.0)
    return _finished(scene, rng)


def _finished(scene: Array, rng: np.random.Generator) -> Array:
    """Add folds, blur, fine structure, shading and air, each now and then."""
    size = scene.shape[0]
    if rng.random() < 0.4:
        scene = _folded(scene, rng)
    if rng.random() < 0.3:
        scene = ndimage.gaussian_filter(scene, rng.uniform(0.4, 1.2))
    if rng.random() < 0.7:
        # Fine structure everywhere, like marrow, muscle or cortex seen at a low resolution.
        amount = np.exp(rng.uniform(np.log(0.02), np.log(0.4)))
        scene = scene * np.maximum(1 + amount * draw_texture(size, rng), 0.0)
    scene = scene * np.exp(rng.uniform(0.0, 0.5) * smooth(size, 0.3, rng))  # coil shading
    if rng.random() < 0.5:
        scene = _body(scene, rng)
    return np.maximum(scene, 0.0).astype(np.float32)


# --- kinds of scenes ---


def _tissues(size: int, rng: np.random.Generator) -> Array:
    """Regions that meet at the level sets of random fields, each with its tone and texture."""
    fields = [
        smooth(size, np.exp(rng.uniform(np.log(0.03), np.log(0.35))), rng)
        + rng.uniform(0.0, 0.25) * rough(size, rng)
        for _ in range(int(rng.integers(2, 7)))
    ]
    # The regions' borders are as sharp as half a pixel or as soft as several.
    weight = np.stack(fields) * (size * rng.uniform(0.03, 0.5))
    weight = np.exp(np.clip(weight - weight.max(0), -30, 0))
    weight /= weight.sum(0)
    low, contrast = rng.uniform(0.0, 0.3), rng.uniform(0.2, 1.0)
    scene = np.zeros((size, size), np.float32)
    for part in weight:
        tone = low + contrast * rng.random()
        amount = 0.0 if rng.random() < 0.35 else np.exp(rng.uniform(np.log(0.02), np.log(0.5)))
        texture = draw_texture(size, rng) if amount else 0.0
        scene += part * np.float32(tone) * np.maximum(1 + np.float32(amount) * texture, 0.0)
    return scene


def _leaves(size: int, rng: np.random.Generator) -> Array:
    """Overlapping random shapes, each with its own level, gradient and texture."""
    low = rng.uniform(0.0, 0.4)
    contrast = rng.uniform(0.15, 1.0)
    scene = np.full((size, size), low + contrast * rng.random(), np.float32)
    textures = [draw_texture(size, rng) for _ in range(3)]
    roughness = 0.0 if rng.random() < 0.3 else 0.5 * rng.random() ** 1.5
    smallest = rng.uniform(0.8, 6.0)
    largest = size * rng.uniform(0.1, 0.45)
    for radius in _radii(int(np.exp(rng.uniform(np.log(40), np.log(600)))), smallest, largest, rng):
        rows, columns, shape, place = _leaf(size, float(radius), rng)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        tone: Array | float = low + contrast * rng.random()
        if rng.random() < 0.4:
            tone = tone * (1 + rng.uniform(-0.4, 0.4) * place)
        if roughness and rng.random() < 0.7:
            texture = textures[int(rng.integers(3))][rows, columns]
            tone = tone * (1 + roughness * rng.random() * texture)
        part = scene[rows, columns]
        part += shape * (tone - part)
    return np.maximum(scene, 0.0)


def _radii(
    count: int, smallest: float, largest: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Radii whose density falls with the cube of the size, largest first drawn at random."""
    low, high = largest**-2, smallest**-2
    radii = (low + (high - low) * rng.random(count) ** rng.uniform(1.0, 4.0)) ** -0.5
    return np.sort(radii)[::-1] if rng.random() < 0.5 else radii


def _leaf(size: int, radius: float, rng: np.random.Generator) -> tuple[slice, slice, Array, Array]:
    """Bounding box, coverage in [0, 1] and a ramp in about [-1, 1] of one random shape."""
    row, column = rng.uniform(0, size, 2)
    reach = int(np.ceil(radius)) + 1
    rows = slice(max(0, int(row) - reach), min(size, int(row) + reach + 1))
    columns = slice(max(0, int(column) - reach), min(size, int(column) + reach + 1))
    angle = rng.uniform(0, 2 * np.pi)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(row)
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - np.float32(column)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    along = (cosine * x + sine * y) / np.float32(radius)
    across = (cosine * y - sine * x) / np.float32(radius * rng.uniform(0.08, 1.0))
    kind = rng.random()
    if kind < 0.6:
        distance = np.sqrt(along**2 + across**2)
    elif kind < 0.85:
        distance = np.maximum(np.abs(along), np.abs(across)) * np.float32(1.4)
    else:
        # A wavy outline: three to seven lobes.
        lobes = int(rng.integers(3, 8))
        turn = np.arctan2(across, along)
        wave = np.float32(1.2) + np.float32(0.2) * np.cos(lobes * turn + np.float32(angle))
        distance = np.sqrt(along**2 + across**2) * wave
    edge = np.float32(radius / rng.uniform(0.7, 2.0)) * (1 - distance) + np.float32(0.5)
    return rows, columns, np.clip(edge, 0, 1), np.clip(along, -1, 1)


# --- what is laid on top ---


def _folded(scene: Array, rng: np.random.Generator) -> Array:
    """Bands and thin lines along the level sets of a random field, like sulci and septa."""
    size = scene.shape[0]
    field = warped(bands(size, rng), 0.03, rng)
    where = np.clip(smooth(size, rng.uniform(0.05, 0.2), rng) + np.float32(0.5), 0, 1)
    width = np.float32(rng.uniform(0.05, 0.5))
    if rng.random() < 0.5:
        shape = 0.5 + 0.5 * np.tanh(field / width)
    else:
        shape = np.exp(-((field / width) ** 2))
    tone = rng.uniform(0.0, 1.3) * max(float(scene.mean()), 0.1)
    share = np.float32(rng.uniform(0.3, 1.0))
    return np.asarray(scene + where * shape * share * (np.float32(tone) - scene))


def _body(scene: Array, rng: np.random.Generator) -> Array:
    """Surround the scene with air, now and then with a bright rim like subcutaneous fat."""
    size = scene.shape[0]
    centre = rng.uniform(0.35, 0.65, (2, 1, 1))
    y, x = (np.mgrid[:size, :size] - size * centre) / (size / 2)
    power = rng.uniform(1.6, 4.0)
    distance = (
        np.abs(x / rng.uniform(0.4, 1.1)) ** power + np.abs(y / rng.uniform(0.4, 1.1)) ** power
    ) ** (1 / power) + rng.uniform(0.0, 0.08) * smooth(size, 0.1, rng)
    if rng.random() < 0.5:
        rim = np.clip((distance - rng.uniform(0.8, 0.95)) * size / 3, 0.0, 1.0)
        scene = scene + rim * (rng.uniform(0.6, 1.5) * max(float(scene.max()), 0.2) - scene)
    return np.asarray(scene * np.clip((1.0 - distance) * size / 4 + 0.5, 0.0, 1.0), np.float32)


# --- planes through a simulated patient ---


@lru_cache(maxsize=2)
def _patient(number: int) -> Phantom:
    """Return a simulated patient with random anatomy and pathology."""
    rng = np.random.default_rng([number, 77])
    return Phantom(draw_anatomy(rng), draw_pathologies(rng))


# Planes by (slice, readout, phase) axis, and how far from the middle slices may lie [mm].
_PLANES: tuple[tuple[Axes, float], ...] = (("xzy", 45.0), ("zxy", 110.0))


def _patient_plane(size: int, patient: int, rng: np.random.Generator) -> Array:
    """Draw a sagittal or transverse plane of random place, zoom and contrast."""
    axes, reach = _PLANES[int(rng.integers(2))]
    field_mm = rng.uniform(90.0, 280.0)
    centre = {"x": 0.0, "y": 20.0, "z": 0.0}
    middle = [centre[axis] + rng.uniform(-40.0, 40.0) for axis in axes[1:]]
    steps = (np.arange(size) - size // 2) * (field_mm / size)
    depth = rng.uniform(-reach, reach)
    phantom = _patient(patient)
    mesh = {axes[1]: middle[0] + steps, axes[2]: middle[1] + steps, axes[0]: np.array([depth])}
    coordinates = {axis: places.astype(np.float32) for axis, places in mesh.items()}
    labels = phantom.labels(**coordinates, axes=axes)[0].astype(np.intp)
    texture = phantom.texture(**coordinates, axes=axes)[0]
    level, slope = _contrast(rng)
    scene = level[labels] + slope[labels] * texture
    # The slice is thick: edges between tissues are not all sharp.
    scene = ndimage.gaussian_filter(scene, rng.uniform(0.3, 1.0))
    bright = max(float(np.percentile(scene, 99)), 1e-6)
    return np.asarray(np.maximum(scene / bright, 0.0), np.float32)


def _contrast(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw tissue levels and slopes of texture: a random spin echo, or levels out of the blue."""
    if rng.random() < 0.3:
        drawn = rng.random(len(Label)) ** rng.uniform(0.7, 2.0)
        drawn[Label.AIR] = 0.0
        return drawn.astype(np.float32), (drawn * rng.uniform(0.0, 0.25)).astype(np.float32)
    names = sorted(PROTOCOL)
    base = PROTOCOL[names[int(rng.integers(len(names)))]]
    sequence = replace(
        base, tr_ms=base.tr_ms * rng.uniform(0.6, 1.6), te_ms=base.te_ms * rng.uniform(0.5, 1.3)
    )
    table = signal_table(sequence)
    level = table.level.real + table.level.imag
    slope = (table.slope.real + table.slope.imag) * rng.uniform(0.5, 2.5)
    return np.asarray(level, np.float32), np.asarray(slope, np.float32)
