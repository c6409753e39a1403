"""The scanner: how a slice of the phantom becomes raw data, and raw data an image.

Frequency is encoded head to feet (sagittal) or right to left (transverse), phase front to back.
An anterior saturation band quiets bowel and vessels, as on a real spine protocol. The steps keep
their physics: fat is shifted along the readout by its chemical shift, resolution is limited by
the acquired k-space (Gibbs ringing included), the phase direction is zero filled, noise is added
to the raw data of every coil. Left out are motion, flow, and the decay along the echo train.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from types import MappingProxyType

import numpy as np
from scipy.fft import next_fast_len

from halfscan_models.simulation.arrays import ComplexArray, FloatArray
from halfscan_models.simulation.coils import CoilArray
from halfscan_models.simulation.errors import SimulationError
from halfscan_models.simulation.kspace import (
    acquired_lines,
    acs_block,
    complex_noise,
    raw_filter,
    resize_centre,
    to_image,
    to_kspace,
)
from halfscan_models.simulation.parallel import Technique, combine, grappa, sense
from halfscan_models.simulation.phantom import Axes, Phantom
from halfscan_models.simulation.protocol import PROTOCOL, ArmParameters, Plane, SequenceProtocol
from halfscan_models.simulation.signal import FAT_SHIFT_HZ, signal_table

__all__ = [
    "ACS_LINES",
    "NOISE_AT_UNIT",
    "Sampling",
    "ScanPlane",
    "SliceScan",
    "noise_sd",
    "reconstruct_arm",
]

ACS_LINES = 24
# Noise of one coil for 1 mm^3, 1 Hz/pixel and one sample; sets the standard arm's sagittal T1
# signal-to-noise in a vertebral body to about 40.
NOISE_AT_UNIT = 0.034
_READOUT_MARGIN = 9 / 8  # readout oversampling kept until the image is cropped
_THROUGH_PLANE_SAMPLES = 4
_PHASE_MARGIN = 32  # lines kept beyond the acquired ones while coils are multiplied in
_SATURATION_Y_MM = -52.0
_SATURATION_LEFT = 0.12
# Share of the array's shading that the scanner's normalisation takes away; the rest stays.
_NORMALISATION = 0.7
_AXES: Mapping[Plane, Axes] = MappingProxyType({"sagittal": "xzy", "transverse": "zxy"})


def _multiple(value: float, of: int) -> int:
    return max(of, of * round(value / of))


@dataclass(frozen=True, slots=True)
class Sampling:
    """Numbers of samples of one sequence.

    Attributes
    ----------
    readout, lines : int
        Matrix over the field of view; the image is square, `readout` on both sides.
    factor : float
        Samples along phase over `lines`: 1 plus the phase oversampling.
    """

    readout: int
    lines: int
    factor: float

    @classmethod
    def of(cls, sequence: SequenceProtocol, scale: float = 1.0) -> "Sampling":
        """Sampling of a sequence with its matrix scaled (for quick previews and tests).

        Raises
        ------
        SimulationError
            If `scale` does not lie in [0.1, 1].
        """
        if not 0.1 <= scale <= 1:
            raise SimulationError(f"matrix_scale must lie in [0.1, 1], got {scale!r}")
        readout, lines = sequence.matrix
        if scale != 1:
            readout, lines = _multiple(readout * scale, 16), _multiple(lines * scale, 8)
        return cls(readout, lines, 1 + sequence.phase_oversampling)

    @property
    def acquired(self) -> tuple[int, int]:
        """Samples along readout and phase, oversampling included."""
        return round(self.readout * _READOUT_MARGIN), round(self.lines * self.factor)


@dataclass(frozen=True, slots=True)
class ScanPlane:
    """Position of a stack: centre and extent along readout and phase, slice positions [mm]."""

    plane: Plane
    centre_mm: tuple[float, float]
    extent_mm: tuple[float, float]
    slices_mm: tuple[float, ...]
    thickness_mm: float

    @property
    def axes(self) -> Axes:
        """Coordinates that run along (slice, readout, phase)."""
        return _AXES[self.plane]

    def mesh(self, slice_mm: FloatArray, shape: tuple[int, ...]) -> dict[str, FloatArray]:
        """Axes x, y, z [mm] of a grid of `shape` (readout, phase) over the extent."""
        sides = []
        for centre, extent, count in zip(self.centre_mm, self.extent_mm, shape, strict=True):
            sides.append(centre + (np.arange(count) - count // 2) * (extent / count))
        if self.plane == "sagittal":  # rows run from head to feet
            sides[0] = 2 * self.centre_mm[0] - sides[0]
        along = (slice_mm, sides[0].astype(np.float32), sides[1].astype(np.float32))
        return dict(zip(self.axes, along, strict=True))


def _edge_taper(count: int) -> FloatArray:
    """Fade out beyond the field of view, where the receiver's filter would cut."""
    margin = count * (1 - 1 / _READOUT_MARGIN) / 2
    distance = np.minimum(np.arange(count), np.arange(count)[::-1]) / margin
    taper: FloatArray = np.sin(np.clip(distance, 0, 1) * np.pi / 2) ** 2
    return taper.astype(np.float32)


class SliceScan:
    """One slice on the scanner: tissue is looked up once and serves all sequences.

    Parameters
    ----------
    phantom : Phantom
        The patient.
    coils : CoilArray
        The receive coils.
    plane : ScanPlane
        Position of the stack.
    index : int
        Slice in the stack.
    scale : float
        Scale of all matrices.
    """

    def __init__(
        self, phantom: Phantom, coils: CoilArray, plane: ScanPlane, index: int, scale: float
    ) -> None:
        self._coils, self._plane, self._index = coils, plane, index
        finest = [Sampling.of(s, scale) for s in PROTOCOL.values() if s.plane == plane.plane]
        sizes = [s.acquired for s in finest]
        self._shape = 2 * max(n for n, _ in sizes), 2 * max(n for _, n in sizes)
        samples = list(self._samples())
        labels = [phantom.labels(**mesh, axes=plane.axes)[0] for mesh in samples]
        self._labels = np.stack(labels).astype(np.intp)  # what `take` wants
        # One texture for the slab: it varies little over the thickness.
        mesh = samples[len(samples) // 2]
        self._texture = phantom.texture(**mesh, axes=plane.axes)[0]
        self._maps: dict[tuple[int, ...], ComplexArray] = {}
        saturated = 1 / (1 + np.exp(-(mesh["y"] - _SATURATION_Y_MM) / 1.5))
        band = _SATURATION_LEFT + (1 - _SATURATION_LEFT) * saturated
        # Phase runs along y in both planes.
        self._weight = np.outer(_edge_taper(self._shape[0]), band).astype(np.float32)

    def _samples(self) -> Iterator[dict[str, FloatArray]]:
        """Meshes through the thickness, each shifted a little in the plane.

        The shifts spread the samples over the area of a fine pixel, so that oblique edges come
        out smooth (a rank-1 lattice of the golden and the silver ratio).
        """
        for i in range(_THROUGH_PLANE_SAMPLES):
            depth = ((i + 0.5) / _THROUGH_PLANE_SAMPLES - 0.5) * self._plane.thickness_mm
            place = np.array([self._plane.slices_mm[self._index] + depth], np.float32)
            mesh = self._plane.mesh(place, self._shape)
            for axis, ratio in zip(self._plane.axes[1:], (0.618034, 0.414214), strict=True):
                pitch = abs(float(mesh[axis][1] - mesh[axis][0]))
                mesh[axis] = mesh[axis] + np.float32(((i * ratio) % 1 - 0.5) * pitch)
            yield mesh

    def _object(self, sequence: SequenceProtocol, readout: int) -> FloatArray:
        """Transverse magnetisation (readout, phase) on the fine grid, fat shifted."""
        table = signal_table(sequence)
        level = table.level.take(self._labels, mode="clip").mean(axis=0)
        level += table.slope.take(self._labels, mode="clip").mean(axis=0) * self._texture
        pixels = FAT_SHIFT_HZ / sequence.bandwidth_hz_px
        shift = round(pixels * self._shape[0] / readout)
        total: FloatArray = (level.real + np.roll(level.imag, shift, axis=0)) * self._weight
        return total

    def maps(self, shape: tuple[int, ...]) -> ComplexArray:
        """Coil sensitivities (coil, readout, phase) of this slice on a grid."""
        if shape not in self._maps:
            middle = np.array([self._plane.slices_mm[self._index]], np.float32)
            mesh = self._plane.mesh(middle, shape)
            self._maps[shape] = self._coils.sensitivities(**mesh, axes=self._plane.axes)[:, 0]
        return self._maps[shape]

    def raw(self, sequence: SequenceProtocol, sampling: Sampling) -> ComplexArray:
        """All raw data without noise, in hybrid space (coil, readout, phase).

        The object is band-limited along the readout before the coils see it, which their smooth
        sensitivities permit, and along phase after, on a grid that is wide enough for both.
        """
        readout, lines = sampling.acquired
        wide = min(2 * next_fast_len((lines + _PHASE_MARGIN) // 2), self._shape[1])
        spectrum = resize_centre(to_kspace(self._object(sequence, readout)), wide)
        spectrum = resize_centre(to_kspace(spectrum, axis=0), readout, axis=0)
        seen = to_image(to_image(spectrum, axis=0))
        return resize_centre(to_kspace(seen * self.maps(seen.shape)), lines)


def noise_sd(sequence: SequenceProtocol, sampling: Sampling, averages: int) -> float:
    """Noise of one coil in a fully sampled image, real part [object units].

    Noise grows with the square root of the bandwidth and falls with voxel volume, averages and
    the number of lines (Macovski 1996, doi:10.1002/mrm.1910360326). The volume is that of the
    printed matrix, so that a scaled matrix keeps the noise of the full one.
    """
    readout, lines = sequence.matrix
    voxel = sequence.fov_mm**2 / (readout * lines) * sequence.thickness_mm
    samples = lines * sampling.factor * averages
    return NOISE_AT_UNIT * sqrt(sequence.bandwidth_hz_px / samples) / voxel


def _finish(image: ComplexArray, maps: ComplexArray, sampling: Sampling) -> FloatArray:
    """Shade, filter, crop the oversampling, zero fill along phase, take the magnitude."""
    shading = np.sum(np.abs(maps) ** 2, axis=0) ** ((1 - _NORMALISATION) / 2)
    spectrum = to_kspace(to_kspace(image * shading), axis=0)
    spectrum *= np.outer(raw_filter(spectrum.shape[0]), raw_filter(spectrum.shape[1]))
    cropped = resize_centre(to_image(spectrum, axis=0), sampling.readout, axis=0)
    filled = resize_centre(cropped, round(sampling.readout * sampling.factor))
    magnitude: FloatArray = np.abs(resize_centre(to_image(filled), sampling.readout))
    return magnitude


def reconstruct_arm(
    raw: ComplexArray,
    maps: ComplexArray,
    sampling: Sampling,
    acceleration: int,
    technique: Technique,
) -> FloatArray:
    """Image (readout, phase) of raw data of which only the acquired lines are used.

    Raises
    ------
    SimulationError
        If the factor is neither 1 nor 2, or GRAPPA lacks autocalibration lines.
    """
    if acceleration == 1:
        image = combine(raw, maps)
    elif acceleration != 2:
        raise SimulationError(f"acceleration must be 1 or 2, got {acceleration!r}")
    elif technique == "SENSE":
        image = sense(raw, maps)
    else:
        image = grappa(raw, maps, acs_block(raw.shape[-1], ACS_LINES))
    return _finish(image, maps, sampling)


def add_noise(
    raw: ComplexArray,
    sequence: SequenceProtocol,
    sampling: Sampling,
    arm: ArmParameters,
    rng: np.random.Generator,
    level: float,
) -> ComplexArray:
    """Raw data with noise on the acquired lines; averages are averaged before they get here."""
    sd = level * noise_sd(sequence, sampling, arm.averages)
    lines = acquired_lines(raw.shape[-1], arm.acceleration, ACS_LINES)
    shape = (raw.shape[0], raw.shape[1], raw.shape[2])
    return raw + complex_noise(rng, shape, lines, sd)
