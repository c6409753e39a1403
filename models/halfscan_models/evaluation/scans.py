"""Single slices of a simulated patient, scanned again and again with the same noise.

`simulate_patient` scans whole examinations. The measures here need a few slices of many patients,
each several times: with a lesion and without, with right and with wrong coil sensitivities. The
noise of an arm comes from a seed, so that two scans differ by what was changed and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from halfscan_models.simulation.anatomy import Anatomy, draw_anatomy
from halfscan_models.simulation.arrays import ComplexArray, FloatArray, LabelArray
from halfscan_models.simulation.exam import image_stack, lay_coils, oriented, scan_plane
from halfscan_models.simulation.geometry import SliceStack
from halfscan_models.simulation.kspace import complex_noise, to_kspace
from halfscan_models.simulation.parallel import combine
from halfscan_models.simulation.pathology import Pathology, draw_pathologies
from halfscan_models.simulation.phantom import Phantom
from halfscan_models.simulation.protocol import (
    ARMS,
    PROTOCOL,
    Arm,
    ArmParameters,
    Plane,
    SequenceProtocol,
)
from halfscan_models.simulation.scanner import (
    Sampling,
    ScanPlane,
    SliceScan,
    add_noise,
    noise_sd,
    reconstruct_arm,
)

__all__ = ["SLICES", "Patient", "ScannedSlice"]

SLICES: dict[Plane, int] = {"sagittal": 15, "transverse": 20}


@dataclass(frozen=True, slots=True, eq=False)
class ScannedSlice:
    """The raw data of one slice and sequence, from which images are made.

    Attributes
    ----------
    sequence : SequenceProtocol
        What was scanned.
    sampling : Sampling
        The matrix.
    raw : ComplexArray
        Noise-free raw data (coil, readout, phase frequency).
    maps : ComplexArray
        True coil sensitivities (coil, readout, phase).
    seed : tuple of int
        Seed of the noise; each arm has its own.
    """

    sequence: SequenceProtocol
    sampling: Sampling
    raw: ComplexArray
    maps: ComplexArray
    seed: tuple[int, ...]

    def noise_free(
        self,
        *,
        arm: Arm = "standard",
        maps: ComplexArray | None = None,
        extra: ComplexArray | None = None,
    ) -> FloatArray:
        """Image (row, column) without noise.

        Parameters
        ----------
        arm : {"standard", "accelerated"}
            Which lines are used: residual aliasing occurs where the arm is undersampled. The
            standard arm is taken fully sampled in every sequence.
        maps : ComplexArray, optional
            Sensitivities that the reconstruction believes in; the true ones where it is None.
        extra : ComplexArray, optional
            Raw data that are added.
        """
        factor = 1 if arm == "standard" else self.sequence.arm(arm).acceleration
        return self._image(self._with(extra), factor, maps)

    def measured(
        self, arm: Arm, *, maps: ComplexArray | None = None, extra: ComplexArray | None = None
    ) -> FloatArray:
        """Image (row, column) of one arm with its noise, the same noise at every call."""
        parameters = self.sequence.arm(arm)
        rng = np.random.default_rng([*self.seed, 0 if arm == "standard" else 1])
        noisy = add_noise(self._with(extra), self.sequence, self.sampling, parameters, rng, 1.0)
        return self._image(noisy, parameters.acceleration, maps)

    def retrospective(
        self, rng: np.random.Generator, *, extra: ComplexArray | None = None
    ) -> dict[Arm, FloatArray]:
        """Images (row, column) of both arms from one measurement.

        The accelerated image is made of a part of the data of the standard one, its lines or its
        averages, so that the two share what they can of their noise and differ by as little else
        as may be; each alone has the same noise as in `measured`.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the noise.
        extra : ComplexArray, optional
            Raw data that are added.
        """
        noise_free = self._with(extra)
        shape = (self.raw.shape[0], self.raw.shape[1], self.raw.shape[2])
        every_line = np.ones(shape[-1], np.bool_)
        sd = noise_sd(self.sequence, self.sampling, 1)
        parameters: dict[Arm, ArmParameters] = {arm: self.sequence.arm(arm) for arm in ARMS}
        images: dict[Arm, FloatArray] = {}
        total = np.zeros(shape, np.complex64)
        for count in range(1, max(arm.averages for arm in parameters.values()) + 1):
            total += complex_noise(rng, shape, every_line, sd)
            for name, arm in parameters.items():
                if arm.averages == count:
                    noisy = noise_free + total / np.float32(count)
                    images[name] = self._image(noisy, arm.acceleration, None)
        return images

    def encode(self, image: ComplexArray) -> ComplexArray:
        """Raw data of an image on the acquired grid (readout, phase): what `extra` takes."""
        return to_kspace(image * self.maps)

    def acquired_image(self) -> ComplexArray:
        """Noise-free image (readout, phase) on the acquired grid, without shading or filter."""
        return combine(self.raw, self.maps)

    def _with(self, extra: ComplexArray | None) -> ComplexArray:
        return self.raw if extra is None else self.raw + extra

    def _image(self, raw: ComplexArray, factor: int, maps: ComplexArray | None) -> FloatArray:
        believed = self.maps if maps is None else maps
        image = reconstruct_arm(raw, believed, self.sampling, factor, "SENSE")
        return np.ascontiguousarray(oriented(image, self.sequence.plane))


class Patient:
    """One simulated patient on the scanner.

    Parameters
    ----------
    seed : int
        Same seed, same patient, same noise.
    matrix_scale : float
        Scale of all matrices, 0.1 to 1.
    pathologies : iterable of Pathology, optional
        What the patient has; drawn with the reference study's frequencies where it is None.

    Attributes
    ----------
    anatomy : Anatomy
        Where everything lies.
    pathologies : tuple of Pathology
        What is wrong.
    """

    def __init__(
        self,
        seed: int,
        *,
        matrix_scale: float = 1.0,
        pathologies: Iterable[Pathology] | None = None,
    ) -> None:
        for_anatomy, for_pathologies = np.random.default_rng([seed]).spawn(2)
        self.seed = seed
        self.anatomy: Anatomy = draw_anatomy(for_anatomy)
        drawn = draw_pathologies(for_pathologies) if pathologies is None else pathologies
        self._phantom = Phantom(self.anatomy, drawn)
        self.pathologies = self._phantom.pathologies
        self._scale = matrix_scale
        self._coils = lay_coils(self.anatomy)
        self._scans: dict[tuple[Plane, int], SliceScan] = {}

    def plan(self, plane: Plane) -> ScanPlane:
        """Position of the stack of a plane."""
        return scan_plane(self.anatomy, plane, SLICES[plane])

    def stack(self, sequence: str) -> SliceStack:
        """Geometry of the image of a sequence."""
        protocol = PROTOCOL[sequence]
        sampling = Sampling.of(protocol, self._scale)
        return image_stack(self.plan(protocol.plane), protocol, sampling)

    def scan(self, sequence: str, index: int) -> ScannedSlice:
        """Scan one slice of a sequence; tissue is looked up once for all sequences."""
        protocol = PROTOCOL[sequence]
        sampling = Sampling.of(protocol, self._scale)
        key = (protocol.plane, index)
        if key not in self._scans:
            plan = self.plan(protocol.plane)
            self._scans[key] = SliceScan(self._phantom, self._coils, plan, index, self._scale)
        scan = self._scans[key]
        seed = (self.seed, list(PROTOCOL).index(sequence), index)
        raw = scan.raw(protocol, sampling)
        return ScannedSlice(protocol, sampling, raw, scan.maps(sampling.acquired), seed)

    def forget(self) -> None:
        """Drop the tissue that was looked up: it fills some hundred megabytes."""
        self._scans.clear()

    def labels(self, sequence: str, index: int) -> LabelArray:
        """Label (row, column) at the centre of each pixel of a sagittal slice."""
        stack = self.stack(sequence)
        rows = [stack.to_patient(index, row, 0)[2] for row in range(stack.shape[1])]
        columns = [stack.to_patient(index, 0, column)[1] for column in range(stack.shape[2])]
        x = np.array([stack.to_patient(index, 0, 0)[0]], np.float32)
        y, z = np.array(columns, np.float32), np.array(rows, np.float32)
        labels: LabelArray = self._phantom.labels(x, y, z, axes="xzy")[0]
        return labels
