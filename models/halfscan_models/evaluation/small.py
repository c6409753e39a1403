"""Visibility of small structures: nerve roots and the disc's height, without a reader.

The regulator's bar is half a point on a reader's scale, which only readers can measure. What is
measured here is what readers look at: the contrast of the nerve roots that hang in the fluid
(sagittal T2) and in the foramen (transverse T2), as a share of the noise-free one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from halfscan_models.evaluation.arms import Gallery
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.simulation.tissues import Label

__all__ = ["SmallStructure", "small_structures", "visibility_measures"]

_ARMS = ("standard", "accelerated", "network")
_FINE_MM = 1.5  # width of what is taken as ground beside a fine structure
_NEAR_MM = 1.5


@dataclass(frozen=True, slots=True)
class SmallStructure:
    """Fine detail in the sac of one patient: sums from which a kept share is made.

    Attributes
    ----------
    sequence : str
        Where.
    power : float
        Sum of the squared fine detail of the noise-free image over the sac.
    shares : dict of str to float
        Sum of the product of an arm's fine detail with the noise-free one.
    """

    sequence: str
    power: float
    shares: dict[str, float]


def small_structures(gallery: Gallery, sequences: Sequence[str]) -> list[SmallStructure]:
    """Project the fine detail inside the sac, roots in fluid, on the noise-free detail."""
    found: list[SmallStructure] = []
    for sequence in sequences:
        stack = gallery.patient.stack(sequence)
        if stack.plane != "sagittal":
            continue
        index = gallery.midline(sequence)
        labels = gallery.patient.labels(sequence, index)
        sac = np.isin(labels, (Label.FLUID, Label.ROOT))
        if not (labels == Label.ROOT).any():
            continue
        images = gallery.arms(sequence, index).by_name()
        detail = {
            name: _fine(image.astype(np.float64), stack.pixel_mm)[sac]
            for name, image in images.items()
        }
        wanted = detail["truth"]
        found.append(
            SmallStructure(
                sequence,
                float(np.sum(wanted**2)),
                {arm: float(np.sum(detail[arm] * wanted)) for arm in _ARMS},
            )
        )
    return found


def _fine(image: npt.NDArray[np.float64], pixel_mm: float) -> npt.NDArray[np.float64]:
    return np.asarray(image - gaussian_filter(image, _FINE_MM / pixel_mm))


def visibility_measures(found: Sequence[SmallStructure]) -> list[Measure]:
    """Contrast of the roots in the sac, by sequence."""
    measures: list[Measure] = []
    for sequence in dict.fromkeys(item.sequence for item in found):
        group = [item for item in found if item.sequence == sequence]
        power = sum(item.power for item in group)
        share = {arm: sum(item.shares[arm] for item in group) / power for arm in _ARMS}
        measures.append(
            Measure(
                "Regulator's bar",
                f"{sequence}: contrast of nerve roots in the sac, network over standard",
                (100 * share["network"] / share["standard"],),
                "%",
                Bar("at least", 95.0),
                "stands for the visibility of small structures (half a Likert point), which only "
                f"readers can score; {len(group)} patients",
                digits=1,
            )
        )
    return measures
