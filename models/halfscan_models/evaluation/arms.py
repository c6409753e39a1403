"""The four images of a slice that everything compares: truth, standard, accelerated, network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.scans import Patient, ScannedSlice
from halfscan_models.reconstruct import Reconstructor

__all__ = ["Arms", "Gallery", "Restore", "restorer"]

Image = npt.NDArray[np.float32]  # (row, column)
Restore = Callable[[npt.ArrayLike], Image]


def restorer(network: Reconstructor) -> Restore:
    """Make a function that reconstructs one image (row, column) as the product does."""

    def restore(image: npt.ArrayLike) -> Image:
        restored: Image = network.reconstruct(np.asarray(image, np.float32)[None]).volume[0]
        return restored

    return restore


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """One slice of one sequence.

    Attributes
    ----------
    scan : ScannedSlice
        Where the images come from.
    truth, standard, accelerated, network : ndarray
        (row, column): fully sampled without noise; the standard scan; the accelerated scan; the
        accelerated scan as the network restores it.
    """

    scan: ScannedSlice
    truth: Image
    standard: Image
    accelerated: Image
    network: Image

    def by_name(self) -> dict[str, Image]:
        """Return the four images by name."""
        return {
            "truth": self.truth,
            "standard": self.standard,
            "accelerated": self.accelerated,
            "network": self.network,
        }


class Gallery:
    """The slices of one patient, scanned and restored when they are first asked for.

    Parameters
    ----------
    patient : Patient
        Who is scanned.
    restore : callable
        The network.
    """

    def __init__(self, patient: Patient, restore: Restore) -> None:
        self.patient = patient
        self.restore = restore
        self._arms: dict[tuple[str, int], Arms] = {}

    def arms(self, sequence: str, index: int) -> Arms:
        """Images of one slice of one sequence."""
        key = (sequence, index)
        if key not in self._arms:
            scan = self.patient.scan(sequence, index)
            accelerated = scan.measured("accelerated")
            self._arms[key] = Arms(
                scan,
                scan.noise_free(),
                scan.measured("standard"),
                accelerated,
                self.restore(accelerated),
            )
        return self._arms[key]

    def midline(self, sequence: str) -> int:
        """Index of the sagittal slice in the midline, or of the transverse one at L3/L4."""
        stack = self.patient.stack(sequence)
        if stack.plane == "sagittal":
            return stack.shape[0] // 2
        disc = self.patient.anatomy.discs["L3/L4"].frame
        index = stack.nearest_slice((disc.x0, disc.y0, disc.z0))
        return stack.shape[0] // 2 if index is None else index
