"""The whole evaluation in one run."""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.arms import Restore
from halfscan_models.evaluation.classical import is_installed
from halfscan_models.evaluation.comparison import (
    ComparedImage,
    compare,
    comparison_measures,
    comparison_tasks,
)
from halfscan_models.evaluation.corruption import CONDITIONS, Condition
from halfscan_models.evaluation.detection import (
    FEWEST_TRIALS,
    ObserverRow,
    detection_measures,
    observer_rows,
    patients_for,
)
from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.images import ImageSet, centre_crop
from halfscan_models.evaluation.measures import Measure, verdict_counts
from halfscan_models.evaluation.memory import memory_measure
from halfscan_models.evaluation.patients import PatientFigures, examine, patient_measures
from halfscan_models.evaluation.scans import Patient
from halfscan_models.evaluation.speed import speed_measures, usable_cores
from halfscan_models.evaluation.table3 import SnrRow
from halfscan_models.evaluation.trials import Responses, respond
from halfscan_models.evaluation.work import Progress, Workers, workers
from halfscan_models.registry import WEIGHTS, find_model
from halfscan_models.simulation.protocol import PROTOCOL

__all__ = ["Evaluation", "EvaluationSettings", "Reporter", "run_evaluation"]

# Gives, for a description, the function that moves its progress bar.
Reporter = Callable[[str], Progress]

# Patients whose noise-free images are compared; far from those that are examined.
_COMPARED_PATIENT = 100_000
_SAGITTAL = tuple(name for name, protocol in PROTOCOL.items() if protocol.plane == "sagittal")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is measured, and on how much; the defaults are the complete run.

    Attributes
    ----------
    model : str or None
        Name of the model; the default one where it is None.
    weights : Path
        Folder of the models.
    patients : int
        Simulated patients that are examined.
    compared_patients : int
        Simulated patients whose images are compared with BM3D and NLM.
    sequences : tuple of str
        Names in `PROTOCOL`.
    trials : int
        Trials of each task of the model observers.
    observed : tuple of str
        Sagittal sequences that the model observers read. By default the one in which noise and
        not the marrow's texture limits what is found.
    internal_noise : float
        Of the model observers, as a share of their scores' standard deviation.
    conditions, shares : tuple
        Kinds of noise, and levels over the 99th percentile.
    matrix_scale : float
        Scale of the simulated matrices, 0.1 to 1.
    repeats : int
        Turns of the timing.
    memory_slices : int
        Slices of the series whose memory is measured; extrapolated to 512.
    processes : int or None
        Processes; one for each usable core where it is None.
    """

    model: str | None = None
    weights: Path = WEIGHTS
    patients: int = 31
    compared_patients: int = 1
    sequences: tuple[str, ...] = tuple(PROTOCOL)
    trials: int = 2000
    observed: tuple[str, ...] = ("sag_t2_fs",)
    internal_noise: float = 0.0
    conditions: tuple[Condition, ...] = CONDITIONS
    shares: tuple[float, ...] = (0.02, 0.04, 0.08)
    matrix_scale: float = 1.0
    repeats: int = 5
    memory_slices: int = 32
    processes: int | None = None

    def __post_init__(self) -> None:
        for name in ("patients", "compared_patients", "repeats"):
            if getattr(self, name) < 1:
                raise EvaluationError(f"{name} must be >= 1, got {getattr(self, name)!r}")
        if self.memory_slices < 2:
            raise EvaluationError(f"memory_slices must be >= 2, got {self.memory_slices!r}")
        patients_for(self.trials)
        unknown = [name for name in self.observed if name not in _SAGITTAL]
        if unknown:
            raise EvaluationError(
                f"observed must be some of {', '.join(_SAGITTAL)}, got {unknown!r}"
            )
        if not 0.0 <= self.internal_noise < math.inf:
            raise EvaluationError(
                f"internal_noise must be finite and >= 0, got {self.internal_noise!r}"
            )
        if self.processes is not None and self.processes < 1:
            raise EvaluationError(f"processes must be >= 1, got {self.processes!r}")

    def quick(self) -> "EvaluationSettings":
        """Return the same on little: every measure, none of them accurate."""
        return replace(
            self,
            patients=1,
            sequences=("sag_t1", "tra_t2"),
            trials=FEWEST_TRIALS,
            conditions=(CONDITIONS[0], CONDITIONS[2]),
            shares=(0.04,),
            matrix_scale=0.5,
            repeats=1,
            memory_slices=2,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was measured.

    Attributes
    ----------
    measures : list of Measure
        The table.
    snr_rows : list of SnrRow
        The simulated Table 3.
    observer_rows : list of ObserverRow
        The model observers, task by task.
    compared : list of ComparedImage
        The images that were compared.
    context : dict
        Model, date, machine, versions, settings, duration.
    skipped : list of str
        What was left out, and why.
    """

    measures: list[Measure]
    snr_rows: list[SnrRow]
    observer_rows: list[ObserverRow]
    compared: list[ComparedImage]
    context: dict[str, Any]
    skipped: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {
            "context": self.context,
            "counts": verdict_counts(self.measures),
            "measures": [measure.as_dict() for measure in self.measures],
            "table3": [asdict(row) for row in self.snr_rows],
            "observers": [asdict(row) for row in self.observer_rows],
            "compared": [image.as_dict() for image in self.compared],
            "skipped": self.skipped,
        }


def _silent(_description: str) -> Progress:
    return lambda _done, _total: None


def run_evaluation(
    settings: EvaluationSettings,
    given: Sequence[ImageSet] = (),
    *,
    skipped: Sequence[str] = (),
    report: Reporter = _silent,
) -> Evaluation:
    """Measure the network.

    Parameters
    ----------
    settings : EvaluationSettings
        What is measured.
    given : sequence of ImageSet
        Real images that are compared beside the simulated ones.
    skipped : sequence of str
        What the caller left out, and why; it is printed with the rest.
    report : callable
        Takes a description, gives the function ``(done, total)`` that shows progress.

    Returns
    -------
    Evaluation
        The table and what stands behind it.

    Raises
    ------
    ModelsError
        A setting is wrong, or the model cannot be loaded.
    """
    begun, load = time.monotonic(), _load()
    cores = usable_cores()
    left_out = list(skipped)
    left_out += [f"{name} is not installed" for name in ("bm3d", "nlm") if not is_installed(name)]
    # The clock first: nothing else runs beside it.
    measures = _timed(settings, report("timing"), cores)
    with workers(settings.model, settings.weights, settings.processes or cores) as pool:
        compared = _compared(pool, settings, given, report)
        figures = PatientFigures()
        for patient in pool.map(
            examine,
            range(settings.patients),
            report("examining patients"),
            matrix_scale=settings.matrix_scale,
            sequences=settings.sequences,
        ):
            figures.add(patient)
        trials_begun = time.monotonic()
        responses = _observed(pool, settings, report("trials of model observers"))
        trials_s = time.monotonic() - trials_begun
    observed = observer_rows(responses, internal_noise=settings.internal_noise)
    from_patients, rows = patient_measures(figures)
    measures = _by_section(
        [
            *comparison_measures(compared),
            *measures,
            *from_patients,
            *detection_measures(observed, responses),
        ]
    )
    context = _context(settings, cores, time.monotonic() - begun, load)
    context["trials_s"] = round(trials_s, 1)
    return Evaluation(measures, rows, observed, compared, context, left_out)


def _by_section(measures: Sequence[Measure]) -> list[Measure]:
    """Bring the rows of a section together; the sections stay in the order of their first row."""
    sections = dict.fromkeys(measure.section for measure in measures)
    return [m for section in sections for m in measures if m.section == section]


def _timed(settings: EvaluationSettings, progress: Progress, cores: int) -> list[Measure]:
    """Time and memory, alone on the machine as far as this run is concerned."""
    progress(0, 2)
    measures = speed_measures(
        settings.model,
        weights=settings.weights,
        repeats=settings.repeats,
        cores=min(2, cores),
    )
    progress(1, 2)
    memory = memory_measure(
        settings.model,
        weights=settings.weights,
        slices=settings.memory_slices,
    )
    progress(2, 2)
    return [*measures, memory]


def _compared(
    pool: Workers, settings: EvaluationSettings, given: Sequence[ImageSet], report: Reporter
) -> list[ComparedImage]:
    seeds = range(_COMPARED_PATIENT, _COMPARED_PATIENT + settings.compared_patients)
    images = pool.map(
        noise_free_images,
        seeds,
        matrix_scale=settings.matrix_scale,
        sequences=settings.sequences,
    )
    simulated = ImageSet("simulated lumbar", "simulated", tuple(i for p in images for i in p))
    tasks = list(comparison_tasks([*given, simulated], settings.conditions, settings.shares))
    return pool.map(compare, tasks, report("comparing images"))


def _observed(pool: Workers, settings: EvaluationSettings, progress: Progress) -> list[Responses]:
    patients = range(patients_for(settings.trials))
    pieces = [(sequence, number) for sequence in settings.observed for number in patients]
    return pool.map(respond, pieces, progress, matrix_scale=settings.matrix_scale)


def noise_free_images(
    seed: int, restore: Restore, *, matrix_scale: float, sequences: Sequence[str]
) -> list[npt.NDArray[np.float64]]:
    """Noise-free slice through the middle of each sequence of one patient."""
    del restore  # what every worker is given
    patient = Patient(seed, matrix_scale=matrix_scale)
    found = []
    for sequence in sequences:
        index = patient.stack(sequence).shape[0] // 2
        found.append(centre_crop(patient.scan(sequence, index).noise_free()))
    return found


def _context(
    settings: EvaluationSettings, cores: int, seconds: float, load: float | None
) -> dict[str, Any]:
    spec = find_model(settings.model, weights=settings.weights)
    return {
        "model": spec.name,
        "version": spec.version,
        "sha256": spec.sha256,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {_processor()}, {cores} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_before": load,
        "duration_s": round(seconds, 1),
        "patients": settings.patients,
        "compared_patients": settings.compared_patients,
        "sequences": list(settings.sequences),
        "conditions": [condition.name for condition in settings.conditions],
        "noise_shares": list(settings.shares),
        "trials": settings.trials,
        "observed": list(settings.observed),
        "internal_noise": settings.internal_noise,
        "matrix_scale": settings.matrix_scale,
    }


def _load() -> float | None:
    """Mean number of running processes over the last minute; more than the cores disturb times."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    """Name of the processor, where Linux tells it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", maxsplit=1)[1].strip()
    return platform.processor() or "processor unknown"
