"""Simulated trials: the same place scanned with a signal and without it, in all three arms.

The signal is known exactly, the background as a distribution: marrow of healthy simulated patients
at twenty places of a sagittal slice beside the midline, five bodies with four each. A slice is
scanned once for every stimulus, each scan with noise of its own, and the stimuli go round among the
places: each place shows each of them once, and no scan is full of one kind. Standard and
accelerated image of a scan are made of one measurement (`ScannedSlice.retrospective`), and the
network restores the whole accelerated slice as it does in the product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.arms import Restore
from halfscan_models.evaluation.metrics import Likeness, likeness
from halfscan_models.evaluation.scans import SLICES, Patient, ScannedSlice
from halfscan_models.evaluation.stimuli import STIMULI, Bank, Stimulus
from halfscan_models.observers.channels import channel_outputs, difference_of_gaussians, gabor
from halfscan_models.simulation.arrays import ComplexArray
from halfscan_models.simulation.geometry import SliceStack
from halfscan_models.simulation.protocol import PROTOCOL

__all__ = ["ARMS", "PLACES", "Responses", "Site", "respond"]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]  # (row, column)

ARMS = ("standard", "accelerated", "network")
_FIRST_PATIENT = 200_000  # far from those that the other measures look at
# Behind and above a body's centre [mm]. A lesion of 6 mm ends 3 mm beyond its neighbours' windows.
_PLACES_MM = ((-8.5, -6.0), (-8.5, 6.0), (6.5, -6.0), (6.5, 6.0))
PLACES = 5 * len(_PLACES_MM)
_HALF_WINDOW_MM = 6.0
# Slices from the midline, on either side in turn: the midline holds the basivertebral vein.
_BESIDE = 2
# Lesions are bright where water is and fat is suppressed, dark where fat is bright.
_SIGN = {True: 1.0, False: -1.0}


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """What the channels show of one patient's trials.

    Attributes
    ----------
    sequence : str
        What was scanned.
    outputs : dict of str to ndarray
        (arm, stimulus, place, channel) by bank of channels.
    likeness : tuple of Likeness
        Of each arm to the truth, over the whole slice of the first scan.
    """

    sequence: str
    outputs: dict[Bank, Array]
    likeness: tuple[Likeness, ...]


class Site:
    """One slice of one patient, with the places in it.

    Parameters
    ----------
    number : int
        Which patient.
    sequence : str
        A sagittal one of `PROTOCOL`.
    matrix_scale : float
        Scale of all matrices, 0.1 to 1.

    Attributes
    ----------
    stack : SliceStack
        Geometry of the image.
    pixels : list of tuple of int
        (row, column) of each place.
    """

    def __init__(self, number: int, sequence: str, matrix_scale: float = 1.0) -> None:
        patient = Patient(_FIRST_PATIENT + number, matrix_scale=matrix_scale, pathologies=())
        index = SLICES["sagittal"] // 2 + (_BESIDE if number % 2 else -_BESIDE)
        self.stack: SliceStack = patient.stack(sequence)
        self._scan: ScannedSlice = patient.scan(sequence, index)
        self._seed = (_FIRST_PATIENT, number, list(PROTOCOL).index(sequence))
        self.pixels = [
            (round(row), round(column))
            for name, vertebra in patient.anatomy.vertebrae.items()
            if name.startswith("L")
            for _, row, column in (
                self.stack.to_index(vertebra.frame.point(0, u, w)) for u, w in _PLACES_MM
            )
        ]
        self._tissue = self._scan.acquired_image()
        mesh = patient.plan("sagittal").mesh(np.zeros(1, np.float32), self._tissue.shape)
        self._rows, self._columns = mesh["z"].astype(np.float64), mesh["y"].astype(np.float64)

    def scan(
        self, turn: int, stimuli: Sequence[Stimulus], restore: Restore
    ) -> tuple[dict[str, Image], Image]:
        """Scan the slice with a stimulus at each place.

        Parameters
        ----------
        turn : int
            Which noise.
        stimuli : sequence of Stimulus
            One for each place.
        restore : callable
            The network.

        Returns
        -------
        dict of str to ndarray
            Image (row, column) of each of `ARMS`.
        ndarray
            The image without noise.
        """
        extra = self._scan.encode(self._added(stimuli))
        images = self._scan.retrospective(np.random.default_rng([*self._seed, turn]), extra=extra)
        accelerated = images["accelerated"]
        arms = (images["standard"], accelerated, restore(accelerated))
        return dict(zip(ARMS, arms, strict=True)), self._scan.noise_free(extra=extra)

    def windows(self, image: npt.ArrayLike, half_pixels: int) -> Array:
        """Windows (place, row, column) about all places."""
        values = np.asarray(image, np.float64)
        return np.stack(
            [
                values[
                    row - half_pixels : row + half_pixels + 1,
                    column - half_pixels : column + half_pixels + 1,
                ]
                for row, column in self.pixels
            ]
        )

    def _added(self, stimuli: Sequence[Stimulus]) -> ComplexArray:
        """What the stimuli add to the signal (readout, phase) that is there without them.

        They lie about the centres of pixels: where a signal is known exactly, it is known to the
        fraction of a pixel.
        """
        sign = _SIGN[self._scan.sequence.fat_suppressed]
        total = np.zeros_like(self._tissue)
        for stimulus, (row, column) in zip(stimuli, self.pixels, strict=True):
            if stimulus is None:
                continue
            _, y, z = self.stack.to_patient(0, row, column)
            cover = stimulus.cover(self._rows - z, self._columns - y)
            local = complex(np.sum(self._tissue * cover) / np.sum(cover))
            total += (sign * stimulus.contrast * local * cover).astype(np.complex64)
        return total


def respond(piece: tuple[str, int], restore: Restore, *, matrix_scale: float = 1.0) -> Responses:
    """Scan one patient with every stimulus, and look at it through the channels.

    Parameters
    ----------
    piece : tuple of str and int
        Sequence and number of the patient.
    restore : callable
        The network.
    matrix_scale : float
        Scale of all matrices, 0.1 to 1.
    """
    sequence, number = piece
    site = Site(number, sequence, matrix_scale)
    pixel_mm = site.stack.pixel_mm
    half = int(_HALF_WINDOW_MM / pixel_mm)
    banks: dict[Bank, Array] = {
        "round": difference_of_gaussians(half, pixel_mm),
        "oriented": gabor(half, pixel_mm),
    }
    outputs: dict[Bank, Array] = {
        name: np.zeros((len(ARMS), len(STIMULI), PLACES, bank.shape[1]))
        for name, bank in banks.items()
    }
    compared: tuple[Likeness, ...] = ()
    for turn in range(len(STIMULI)):
        shown = (np.arange(PLACES) + turn) % len(STIMULI)
        images, truth = site.scan(turn, [STIMULI[i] for i in shown], restore)
        if turn == 0:
            compared = tuple(likeness(images[arm], truth) for arm in ARMS)
        for arm, name in enumerate(ARMS):
            windows = site.windows(images[name], half)
            for bank, channels in banks.items():
                outputs[bank][arm, shown, np.arange(PLACES)] = channel_outputs(windows, channels)
    return Responses(sequence, outputs, compared)
