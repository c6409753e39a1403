"""What is put into the marrow for an observer to find: lesions, and lines to be told apart.

A detection task asks whether a lesion of known size, contrast and place is there. The Rayleigh task
asks whether two lines are there or one that is as wide as the two are apart (Hanson and Myers, who
ask it of two points and a line, both convolved with a Gaussian: "Rayleigh task performance as a
method to evaluate image reconstruction algorithms", in Maximum Entropy and Bayesian Methods 1991).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.lesions import CONTRASTS, DIAMETERS_MM, ellipse_cover

__all__ = ["STIMULI", "TASKS", "Disc", "Lines", "Stimulus", "Task"]

Array = npt.NDArray[np.float64]
Bank = Literal["round", "oriented"]

SEPARATIONS_MM = (1.5, 2.0, 3.0)
# Chosen on the standard scan, so that its task is neither lost nor won at every separation.
_LINE_CONTRAST = 0.20
_LINE_LENGTH_MM = 6.0
_LINE_SD_MM = 1.0 / (2 * math.sqrt(2 * math.log(2)))  # 1 mm wide at half height
_FINE = 9  # points along a pixel over which a line's profile is averaged


@dataclass(frozen=True, slots=True)
class Disc:
    """A round lesion: its diameter [mm], and its contrast against the tissue around, above 0."""

    diameter_mm: float
    contrast: float

    def __post_init__(self) -> None:
        _check_positive(diameter_mm=self.diameter_mm, contrast=self.contrast)

    def cover(self, rows: Array, columns: Array) -> Array:
        """Share (row, column) of each pixel that it covers; axes [mm] about its centre."""
        half = self.diameter_mm / 2
        return ellipse_cover(rows, 0.0, half, columns, 0.0, half)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines along the columns, side by side in the direction of the phase lines.

    Attributes
    ----------
    separation_mm : float
        Between the two lines, or the width of the one.
    count : {1, 2}
        Two lines, or one with their signal spread evenly over the separation; both convolved with
        a Gaussian.
    contrast : float
        Peak of a single one of the two lines.
    """

    separation_mm: float
    count: Literal[1, 2]
    contrast: float = _LINE_CONTRAST

    def __post_init__(self) -> None:
        _check_positive(separation_mm=self.separation_mm, contrast=self.contrast)
        if self.count not in (1, 2):
            raise EvaluationError(f"count must be 1 or 2, got {self.count!r}")

    def cover(self, rows: Array, columns: Array) -> Array:
        """Profile (row, column) relative to the peak of one line; axes [mm] about the centre."""
        along = _averaged(rows, lambda z: _strip(z, _LINE_LENGTH_MM))
        half = self.separation_mm / 2
        if self.count == 2:
            across = _averaged(columns, lambda y: _line(y - half) + _line(y + half))
        else:
            area = 2 * math.sqrt(2 * math.pi) * _LINE_SD_MM
            across = _averaged(columns, lambda y: _strip(y, 2 * half) * area / (2 * half))
        return np.outer(along, across)


Stimulus = Disc | Lines | None


@dataclass(frozen=True, slots=True)
class Task:
    """Two stimuli to be told apart.

    Attributes
    ----------
    name : str
        As it is printed.
    absent, present : Stimulus
        The two; None is marrow alone.
    bank : {"round", "oriented"}
        Channels of the observer.
    """

    name: str
    absent: Stimulus
    present: Stimulus
    bank: Bank


def _line(distance: Array) -> Array:
    return np.asarray(np.exp(-((distance / _LINE_SD_MM) ** 2) / 2))


def _strip(distance: Array, width: float) -> Array:
    """Strip of a width and height 1, convolved with the lines' Gaussian."""
    edges = [(distance + side * width / 2) / _LINE_SD_MM for side in (1, -1)]
    return np.asarray(ndtr(edges[0]) - ndtr(edges[1]))


def _averaged(axis: Array, profile: Callable[[Array], Array]) -> Array:
    """Mean of a profile over each pixel of an axis [mm]."""
    steps = ((np.arange(_FINE) + 0.5) / _FINE - 0.5) * abs(axis[1] - axis[0])
    return np.asarray(profile(axis[:, None] + steps).mean(axis=1))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise EvaluationError(f"{name} must be finite and > 0, got {value!r}")


TASKS: tuple[Task, ...] = (
    *(
        Task(
            f"lesion of {diameter:g} mm, {100 * contrast:g} %",
            None,
            Disc(diameter, contrast),
            "round",
        )
        for diameter in DIAMETERS_MM
        for contrast in CONTRASTS
    ),
    *(
        Task(f"two lines {apart:g} mm apart, or one", Lines(apart, 1), Lines(apart, 2), "oriented")
        for apart in SEPARATIONS_MM
    ),
)
STIMULI: tuple[Stimulus, ...] = tuple(
    dict.fromkeys(stimulus for task in TASKS for stimulus in (task.absent, task.present))
)
