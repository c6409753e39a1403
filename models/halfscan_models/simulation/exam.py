"""One simulated examination: a patient, four sequences, both arms, and the truth about them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from halfscan_models.simulation.anatomy import Anatomy, draw_anatomy
from halfscan_models.simulation.arrays import FloatArray, Point
from halfscan_models.simulation.coils import CoilArray
from halfscan_models.simulation.errors import SimulationError
from halfscan_models.simulation.geometry import Region, SliceStack
from halfscan_models.simulation.kspace import acquired_lines
from halfscan_models.simulation.parallel import TECHNIQUES, Technique
from halfscan_models.simulation.pathology import Pathology, draw_pathologies
from halfscan_models.simulation.phantom import Phantom
from halfscan_models.simulation.protocol import (
    ARMS,
    PROTOCOL,
    Arm,
    ArmParameters,
    Plane,
    SequenceProtocol,
    check_arms,
)
from halfscan_models.simulation.regions import place_regions
from halfscan_models.simulation.scanner import (
    ACS_LINES,
    Sampling,
    ScanPlane,
    SliceScan,
    add_noise,
    reconstruct_arm,
)

__all__ = [
    "PatientExam",
    "Progress",
    "SimulatedSeries",
    "image_stack",
    "lay_coils",
    "oriented",
    "scan_plane",
    "simulate_patient",
]

Progress = Callable[[int, int], None]  # images done, images in all

_SLICES: dict[Plane, int] = {"sagittal": 15, "transverse": 20}
_COIL_GAP_MM = 12.0


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedSeries:
    """One series of one arm.

    Attributes
    ----------
    sequence : SequenceProtocol
        What was scanned.
    arm : Arm
        ``"standard"`` or ``"accelerated"``.
    technique : Technique or None
        Parallel imaging technique, None where the factor is 1.
    sampling : Sampling
        The matrix, scaled where the caller asked for it.
    lines_acquired : int
        Phase lines measured for one average, autocalibration included.
    stack : SliceStack
        Geometry.
    volume, noise_free : FloatArray
        Magnitude images (slice, row, column), object units: water of full signal is 1. The
        noise-free one is fully sampled and the same in both arms.
    """

    sequence: SequenceProtocol
    arm: Arm
    technique: Technique | None
    sampling: Sampling
    lines_acquired: int
    stack: SliceStack
    volume: FloatArray
    noise_free: FloatArray

    @property
    def parameters(self) -> ArmParameters:
        """Factor, averages and scan time of this arm."""
        return self.sequence.arm(self.arm)


@dataclass(frozen=True, eq=False, slots=True)
class PatientExam:
    """All series of one patient with the truth.

    Attributes
    ----------
    anatomy : Anatomy
        Where everything lies, pathologies left aside.
    pathologies : tuple of Pathology
        What is wrong; the whole truth, every other level is healthy.
    regions : tuple of Region
        The reference study's regions of interest that the slices reach.
    series : tuple of SimulatedSeries
        In the protocol's order, the standard arm before the accelerated one.
    """

    anatomy: Anatomy
    pathologies: tuple[Pathology, ...]
    regions: tuple[Region, ...]
    series: tuple[SimulatedSeries, ...]

    def find(self, sequence: str, arm: Arm) -> SimulatedSeries:
        """Return the series of a sequence and arm.

        Raises
        ------
        SimulationError
            If it was not simulated.
        """
        for series in self.series:
            if (series.sequence.name, series.arm) == (sequence, arm):
                return series
        raise SimulationError(f"the exam has no series {sequence!r} of the {arm!r} arm")


def scan_plane(anatomy: Anatomy, plane: Plane, slices: int) -> ScanPlane:
    """Plan a stack as a technologist would.

    The sagittal stack is centred on the midline; the transverse one has a slice through the
    middle of L3/4, a twentieth of its slices above it and the others below, down to L5/S1.
    """
    sequence = next(s for s in PROTOCOL.values() if s.plane == plane)
    spacing = sequence.slice_spacing_mm
    readout = sequence.fov_mm * 9 / 8
    phase = sequence.fov_mm * (1 + sequence.phase_oversampling)
    if plane == "sagittal":
        positions = tuple(((slices - 1) / 2 - i) * spacing for i in range(slices))
        skin = anatomy.skin
        seen = np.abs(skin.z) < sequence.fov_mm / 2
        front = float((skin.y_centre - skin.half_y)[seen].min())
        back = float((skin.y_centre + skin.half_y)[seen].max())
        centre = (-8.0, round((front + back) / 2, 1))
    else:
        above = round(slices * 0.05)
        level = round(anatomy.discs["L3/L4"].frame.z0, 1)
        positions = tuple(level + (i - (slices - 1 - above)) * spacing for i in range(slices))
        centre = (0.0, 30.0)
    return ScanPlane(plane, centre, (readout, phase), positions, sequence.thickness_mm)


def image_stack(plan: ScanPlane, sequence: SequenceProtocol, sampling: Sampling) -> SliceStack:
    """Geometry of the image that a plan and a sampling give."""
    size = sampling.readout
    pixel = sequence.fov_mm / size
    half = size // 2 * pixel
    readout, phase = plan.centre_mm
    first: Point
    if plan.plane == "sagittal":
        first = (plan.slices_mm[0], phase - half, readout + half)
    else:
        first = (readout - half, phase - half, plan.slices_mm[0])
    shape = (len(plan.slices_mm), size, size)
    return SliceStack(
        plan.plane, shape, first, pixel, sequence.thickness_mm, sequence.slice_spacing_mm
    )


def oriented(image: FloatArray, plane: Plane) -> FloatArray:
    """Turn (readout, phase) into (row, column)."""
    return image if plane == "sagittal" else image.T


@dataclass(slots=True)
class _Job:
    """One sequence while it is being scanned."""

    sequence: SequenceProtocol
    sampling: Sampling
    stack: SliceStack
    noise_free: FloatArray
    arms: dict[Arm, FloatArray]
    rngs: dict[Arm, np.random.Generator]


def _scan(job: _Job, scan: SliceScan, index: int, technique: Technique, level: float) -> None:
    """Scan one slice of one sequence in all arms."""
    sequence, sampling = job.sequence, job.sampling
    raw, maps = scan.raw(sequence, sampling), scan.maps(sampling.acquired)
    clean = reconstruct_arm(raw, maps, sampling, 1, technique)
    job.noise_free[index] = oriented(clean, sequence.plane)
    for arm, volume in job.arms.items():
        parameters = sequence.arm(arm)
        noisy = add_noise(raw, sequence, sampling, parameters, job.rngs[arm], level)
        image = reconstruct_arm(noisy, maps, sampling, parameters.acceleration, technique)
        volume[index] = oriented(image, sequence.plane)


def _series(job: _Job, technique: Technique) -> Iterable[SimulatedSeries]:
    for arm, volume in job.arms.items():
        factor = job.sequence.arm(arm).acceleration
        measured = acquired_lines(job.sampling.acquired[1], factor, ACS_LINES)
        yield SimulatedSeries(
            sequence=job.sequence,
            arm=arm,
            technique=technique if factor > 1 else None,
            sampling=job.sampling,
            lines_acquired=int(measured.sum()),
            stack=job.stack,
            volume=volume,
            noise_free=job.noise_free,
        )


def _check(sequences: Sequence[str], slices: int | None, technique: str, level: float) -> None:
    unknown = sorted(set(sequences) - set(PROTOCOL))
    rules = (
        (
            bool(sequences) and not unknown,
            f"sequences must be some of {', '.join(PROTOCOL)}, got {sequences!r}",
        ),
        (slices is None or slices >= 1, f"slices must be >= 1, got {slices!r}"),
        (
            technique in TECHNIQUES,
            f"technique must be one of {', '.join(TECHNIQUES)}, got {technique!r}",
        ),
        (level >= 0, f"noise_level must be >= 0, got {level!r}"),
    )
    for holds, message in rules:
        if not holds:
            raise SimulationError(message)


def _jobs(
    plans: dict[Plane, ScanPlane],
    sequences: Sequence[str],
    arms: tuple[Arm, ...],
    scale: float,
    rng: np.random.Generator,
) -> list[_Job]:
    """Lay out every sequence; its noise does not depend on which others are asked for."""
    generators = iter(rng.spawn(len(PROTOCOL) * len(ARMS)))
    jobs: list[_Job] = []
    for name, sequence in PROTOCOL.items():
        rngs = {arm: next(generators) for arm in ARMS}
        if name in sequences:
            sampling = Sampling.of(sequence, scale)
            stack = image_stack(plans[sequence.plane], sequence, sampling)
            volumes = {arm: np.zeros(stack.shape, np.float32) for arm in arms}
            clean = np.zeros(stack.shape, np.float32)
            jobs.append(_Job(sequence, sampling, stack, clean, volumes, rngs))
    return jobs


def simulate_patient(  # noqa: PLR0913 - all but the generator are options by name
    rng: np.random.Generator,
    *,
    pathologies: Iterable[Pathology] | None = None,
    slices: int | None = None,
    sequences: Sequence[str] = tuple(PROTOCOL),
    arms: tuple[Arm, ...] = ARMS,
    matrix_scale: float = 1.0,
    technique: Technique = "SENSE",
    noise_level: float = 1.0,
    progress: Progress | None = None,
) -> PatientExam:
    """Simulate one lumbar examination.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of anatomy, pathologies and noise, which each draw from a spawned child: the same
        seed gives the same anatomy with any pathologies, and the same noise in a series with
        any others beside it.
    pathologies : iterable of Pathology, optional
        What the patient has; by default drawn with the reference study's frequencies.
    slices : int, optional
        Slices of every series; by default 15 sagittal and 20 transverse.
    sequences : sequence of str
        Names in `PROTOCOL`.
    arms : tuple of Arm
        Arms to scan. The arms share the anatomy, not the noise.
    matrix_scale : float
        Scale of all matrices, 0.1 to 1: less than 1 is quicker and coarser.
    technique : {"SENSE", "GRAPPA"}
        Reconstruction of accelerated series.
    noise_level : float
        Noise relative to the default, 0 for none.
    progress : callable, optional
        Called as ``progress(done, total)`` after each slice of each sequence.

    Returns
    -------
    PatientExam
        Series, truth, regions. At full size one core needs about 10 s for one arm, 15 s for both.

    Raises
    ------
    SimulationError
        If an argument breaks its rule; the message names it.
    """
    _check(sequences, slices, technique, noise_level)
    arms = check_arms(arms)
    for_anatomy, for_pathologies, for_noise = rng.spawn(3)
    anatomy = draw_anatomy(for_anatomy)
    if pathologies is None:
        pathologies = draw_pathologies(for_pathologies)
    phantom = Phantom(anatomy, pathologies)
    wanted = {PROTOCOL[name].plane for name in sequences}
    plans = {p: scan_plane(anatomy, p, slices or n) for p, n in _SLICES.items() if p in wanted}
    jobs = _jobs(plans, sequences, arms, matrix_scale, for_noise)
    coils = lay_coils(anatomy)
    done, total = 0, sum(job.stack.shape[0] for job in jobs)
    for plane, plan in plans.items():
        for index in range(len(plan.slices_mm)):
            scan = SliceScan(phantom, coils, plan, index, matrix_scale)
            for job in jobs:
                if job.sequence.plane == plane:
                    _scan(job, scan, index, technique, noise_level)
                    done += 1
                    if progress is not None:
                        progress(done, total)
    regions = place_regions(anatomy, {job.sequence.plane: job.stack for job in jobs})
    series = tuple(s for job in jobs for s in _series(job, technique))
    return PatientExam(anatomy, phantom.pathologies, regions, series)


def lay_coils(anatomy: Anatomy) -> CoilArray:
    """Lay the arrays on the patient, spine array behind, body array in front."""
    skin = anatomy.skin
    seen = np.abs(skin.z) < 100
    back = float((skin.y_centre + skin.half_y)[seen].max())
    front = float((skin.y_centre - skin.half_y)[seen].min())
    return CoilArray(back + _COIL_GAP_MM, front - _COIL_GAP_MM)
