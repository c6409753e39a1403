"""How well an observer without eyes does its tasks on each scan.

For every task and arm a Hotelling observer is trained on one half of the patients and reads the
other, and the other way round, so that it never reads what it was trained on and every trial
counts. The bar is on the area under the ROC curve, network less standard scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.lesions import projected_share
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.evaluation.stimuli import STIMULI, TASKS, Task
from halfscan_models.evaluation.trials import ARMS, PLACES, Responses
from halfscan_models.observers.forced_choice import proportion_correct
from halfscan_models.observers.hotelling import train_hotelling
from halfscan_models.observers.roc import Areas, Bounded, correlated_areas, mean_areas

__all__ = ["FEWEST_TRIALS", "ObserverRow", "detection_measures", "observer_rows", "patients_for"]

Array = npt.NDArray[np.float64]

SECTION = "Model observers"
FEWEST_TRIALS = 4 * PLACES  # two patients in each half: less has no spread
_MARGIN = -0.02
_NETWORK, _STANDARD, _ACCELERATED = (ARMS.index(n) for n in ("network", "standard", "accelerated"))


@dataclass(frozen=True, slots=True)
class ObserverRow:
    """One task on one sequence.

    Attributes
    ----------
    sequence, task : str
        What was scanned, and what was to be told apart.
    trials, patients : int
        Pairs of one image of each kind, and the patients that they come from.
    areas : dict of str to Bounded
        Area under the ROC curve by arm.
    over_standard, over_accelerated : Bounded
        Area of the network less that of the other.
    correct : dict of str to Bounded
        Share of correct forced choices by arm.
    signal_kept, noise_kept : float
        What the network leaves of its input's mean signal, and of the standard deviation of the
        images without it, both along that signal: what is told apart stays the same where it
        leaves equal shares.
    """

    sequence: str
    task: str
    trials: int
    patients: int
    areas: dict[str, Bounded]
    over_standard: Bounded
    over_accelerated: Bounded
    correct: dict[str, Bounded]
    signal_kept: float
    noise_kept: float


def patients_for(trials: int) -> int:
    """Patients, an even number, that give as many trials or a few more.

    Raises
    ------
    EvaluationError
        There are too few trials for two halves with a spread.
    """
    if trials < FEWEST_TRIALS:
        raise EvaluationError(f"trials must be >= {FEWEST_TRIALS}, got {trials!r}")
    return 2 * -(-trials // (2 * PLACES))


def observer_rows(
    responses: Sequence[Responses], *, internal_noise: float = 0.0, seed: int = 0
) -> list[ObserverRow]:
    """Do every task on every sequence.

    Parameters
    ----------
    responses : sequence of Responses
        Of all patients; the patients of a sequence are halved in their order.
    internal_noise : float
        Of the observer, as a share of its score's standard deviation; none by default.
    seed : int
        Of the internal noise.

    Raises
    ------
    EvaluationError
        A sequence has fewer than four patients, or an odd number of them.
    """
    rows: list[ObserverRow] = []
    for sequence in dict.fromkeys(item.sequence for item in responses):
        group = [item for item in responses if item.sequence == sequence]
        if len(group) % 2 or len(group) < FEWEST_TRIALS // PLACES:
            raise EvaluationError(
                f"two halves need an even number of patients >= {FEWEST_TRIALS // PLACES}, "
                f"got {len(group)}"
            )
        outputs = {
            bank: np.stack([item.outputs[bank] for item in group], axis=2)
            for bank in group[0].outputs
        }  # (arm, stimulus, patient, place, channel)
        for task in TASKS:
            seen = outputs[task.bank]
            present, absent = (seen[:, STIMULI.index(s)] for s in (task.present, task.absent))
            halves = _scores(present, absent, internal_noise, seed)
            rows.append(_row(sequence, task, halves, _kept(present, absent)))
    return rows


def _scores(
    present: Array, absent: Array, internal_noise: float, seed: int
) -> list[tuple[Array, Array]]:
    """Scores (arm, patient, place) with and without the signal, for each half that is read."""
    half = present.shape[1] // 2
    parts = slice(0, half), slice(half, None)
    halves: list[tuple[Array, Array]] = []
    for trained, read in (parts, parts[::-1]):
        found: tuple[list[Array], list[Array]] = ([], [])
        for with_signal, without in zip(present, absent, strict=True):
            channels = with_signal.shape[-1]
            observer = train_hotelling(
                with_signal[trained].reshape(-1, channels), without[trained].reshape(-1, channels)
            )
            rng = np.random.default_rng(seed)  # the same internal noise for every arm
            for scores, images in zip(found, (with_signal, without), strict=True):
                scores.append(observer.scores(images[read], internal_noise=internal_noise, rng=rng))
        halves.append((np.stack(found[0]), np.stack(found[1])))
    return halves


def _kept(present: Array, absent: Array) -> tuple[float, float]:
    """Shares of signal and noise that the network leaves, along the signal of its input."""
    signal = (present - absent).mean(axis=(1, 2))
    along = signal[_ACCELERATED]
    spread = [float(np.std(absent[arm] @ along)) for arm in (_NETWORK, _ACCELERATED)]
    return projected_share(signal[_NETWORK], along), spread[0] / spread[1]


def _row(
    sequence: str,
    task: Task,
    halves: Sequence[tuple[Array, Array]],
    kept: tuple[float, float],
) -> ObserverRow:
    areas = mean_areas([_areas(*half) for half in halves])
    # A forced choice is between two patients: of one patient, both images have the same marrow.
    chosen = [(present, np.roll(absent, 1, axis=1)) for present, absent in halves]
    correct = {
        name: proportion_correct(
            *(np.concatenate([half[kind][arm].ravel() for half in chosen]) for kind in (0, 1))
        )
        for arm, name in enumerate(ARMS)
    }
    patients = sum(present.shape[1] for present, _ in halves)
    return ObserverRow(
        sequence,
        task.name,
        patients * PLACES,
        patients,
        {name: areas.area(arm) for arm, name in enumerate(ARMS)},
        areas.difference(_NETWORK, _STANDARD),
        areas.difference(_NETWORK, _ACCELERATED),
        correct,
        *kept,
    )


def _areas(present: Array, absent: Array) -> Areas:
    patients = np.repeat(np.arange(present.shape[1]), present.shape[2])
    arms = len(present)
    return correlated_areas(present.reshape(arms, -1), absent.reshape(arms, -1), patients, patients)


def detection_measures(
    rows: Sequence[ObserverRow], responses: Sequence[Responses]
) -> list[Measure]:
    """Whether the network is no worse than the standard scan, task by task.

    Beside it, without a bar, what PSNR and SSIM say of the same scans, and how well forced choice
    and area agree.
    """
    measures = [_barred(row) for row in rows]
    for sequence in dict.fromkeys(row.sequence for row in rows):
        group = [row for row in rows if row.sequence == sequence]
        measures += _likeness_measures(sequence, responses)
        gaps = [abs(row.correct[arm].value - row.areas[arm].value) for row in group for arm in ARMS]
        measures.append(
            Measure(
                SECTION,
                f"{sequence}: correct forced choices less AUC",
                (max(gaps),),
                note=f"largest of {len(gaps)}; equal but for chance",
                digits=3,
            )
        )
    return measures


def _barred(row: ObserverRow) -> Measure:
    areas = [row.areas[arm].value for arm in ARMS]
    note = (
        f"difference {row.over_standard}; AUC {' / '.join(f'{area:.3f}' for area in areas)} of "
        f"{' / '.join(ARMS)}; {row.trials} trials of {row.patients} patients"
    )
    if min(row.areas["standard"].value, row.areas["network"].value) == 1.0:
        note += "; too easy to tell scans apart: every trial is right"
    return Measure(
        SECTION,
        f"{row.sequence}, {row.task}: AUC over standard, lower limit",
        (row.over_standard.low,),
        "",
        Bar("above", _MARGIN),
        note,
        digits=3,
    )


def _likeness_measures(sequence: str, responses: Sequence[Responses]) -> list[Measure]:
    """Mean PSNR and SSIM of the arms in the foreground of the slices that were scanned."""
    group = [item.likeness for item in responses if item.sequence == sequence]
    psnr, ssim = (
        tuple(float(np.mean([getattr(arms[i], name) for arms in group])) for i in range(len(ARMS)))
        for name in ("psnr_foreground_db", "ssim_foreground")
    )
    note = f"{' / '.join(ARMS)}, foreground of the same slices: what likeness says of them"
    return [
        Measure(SECTION, f"{sequence}: PSNR", psnr, "dB", note=note),
        Measure(SECTION, f"{sequence}: SSIM", ssim, note=note, digits=3),
    ]
