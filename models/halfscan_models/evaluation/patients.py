"""Everything that is measured on one simulated patient, and many patients in parallel."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from halfscan_models.evaluation.arms import Gallery, Restore
from halfscan_models.evaluation.ghosts import Ghost, ghost_amplitudes, ghost_measures
from halfscan_models.evaluation.lesions import (
    FalseLesions,
    KeptContrast,
    false_lesions,
    kept_contrasts,
    lesion_measures,
    schmorl_contrasts,
)
from halfscan_models.evaluation.measures import Measure
from halfscan_models.evaluation.scans import Patient
from halfscan_models.evaluation.sharpness import EdgeProfile, edge_profiles, sharpness_measures
from halfscan_models.evaluation.small import SmallStructure, small_structures, visibility_measures
from halfscan_models.evaluation.table3 import (
    RegionSnr,
    SnrRow,
    region_snrs,
    snr_measures,
    snr_table,
)
from halfscan_models.simulation.protocol import PROTOCOL

__all__ = ["PatientFigures", "examine", "patient_measures"]


@dataclass(frozen=True, slots=True, eq=False)
class PatientFigures:
    """What was measured on one patient, or on several one after the other."""

    snrs: list[RegionSnr] = field(default_factory=list)
    edges: list[EdgeProfile] = field(default_factory=list)
    kept: list[KeptContrast] = field(default_factory=list)
    false: list[FalseLesions] = field(default_factory=list)
    ghosts: list[Ghost] = field(default_factory=list)
    small: list[SmallStructure] = field(default_factory=list)

    def add(self, other: "PatientFigures") -> None:
        """Append another patient's figures."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))


def examine(
    seed: int,
    restore: Restore,
    *,
    matrix_scale: float = 1.0,
    sequences: Sequence[str] = tuple(PROTOCOL),
) -> PatientFigures:
    """Simulate one patient and measure all there is to measure.

    Parameters
    ----------
    seed : int
        Which patient.
    restore : callable
        The network.
    matrix_scale : float
        Scale of all matrices, 0.1 to 1.
    sequences : sequence of str
        Names in `PROTOCOL`.
    """
    gallery = Gallery(Patient(seed, matrix_scale=matrix_scale), restore)
    sagittal = [name for name in sequences if PROTOCOL[name].plane == "sagittal"]
    figures = PatientFigures(
        snrs=region_snrs(gallery, sequences),
        edges=edge_profiles(gallery, sagittal),
        kept=kept_contrasts(gallery, sagittal),
        false=false_lesions(gallery, sagittal),
        ghosts=ghost_amplitudes(gallery, sequences),
        small=small_structures(gallery, sequences),
    )
    gallery.patient.forget()
    figures.kept.extend(schmorl_contrasts(gallery, sagittal[:1], matrix_scale=matrix_scale))
    return figures


def patient_measures(figures: PatientFigures) -> tuple[list[Measure], list[SnrRow]]:
    """All rows of the table that come from simulated patients, and the simulated Table 3."""
    rows = snr_table(figures.snrs)
    return [
        *snr_measures(rows),
        *sharpness_measures(figures.edges),
        *visibility_measures(figures.small),
        *lesion_measures(figures.kept, figures.false),
        *ghost_measures(figures.ghosts),
    ], rows
