"""Residual aliasing: wrong coil sensitivities leave ghosts; the network must not amplify them.

SENSE unfolds with sensitivities whose phase is wrong by a smooth error of each coil, as motion
between calibration and scan leaves it. The ghost is the difference of the noise-free images with
wrong and with right sensitivities; its amplitude in an arm is the projection of that arm's
difference on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halfscan_models.evaluation.arms import Gallery
from halfscan_models.evaluation.lesions import projected_share
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.simulation.arrays import ComplexArray

__all__ = ["Ghost", "ghost_amplitudes", "ghost_measures", "wrong_maps"]

_ERROR_RAD = 0.25


@dataclass(frozen=True, slots=True)
class Ghost:
    """Ghosts of one slice.

    Attributes
    ----------
    sequence : str
        Where.
    strength : float
        Root mean square of the ghost over that of the image.
    accelerated, network : float
        Amplitude in the scan and in the restored scan, relative to the noise-free ghost.
    """

    sequence: str
    strength: float
    accelerated: float
    network: float


def wrong_maps(maps: ComplexArray, rng: np.random.Generator) -> ComplexArray:
    """Sensitivities (coil, readout, phase) with a smooth phase error in each coil [0.25 rad]."""
    coils, rows, columns = maps.shape
    y = np.linspace(-1, 1, rows)[:, None]
    x = np.linspace(-1, 1, columns)[None, :]
    terms = np.stack([np.ones((rows, columns)), y + 0 * x, x + 0 * y, x * y])
    error = np.einsum("ck,kyx->cyx", rng.normal(size=(coils, 4)) * _ERROR_RAD / 2, terms)
    wrong: ComplexArray = (maps * np.exp(1j * error)).astype(np.complex64)
    return wrong


def ghost_amplitudes(gallery: Gallery, sequences: Sequence[str]) -> list[Ghost]:
    """Measure the ghosts in one slice of each sequence that is undersampled."""
    found: list[Ghost] = []
    rng = np.random.default_rng([gallery.patient.seed, 77])
    for sequence in sequences:
        arms = gallery.arms(sequence, gallery.midline(sequence))
        scan = arms.scan
        maps = wrong_maps(scan.maps, rng)
        right = scan.noise_free(arm="accelerated")
        ghost = scan.noise_free(arm="accelerated", maps=maps) - right
        noisy = scan.measured("accelerated", maps=maps)
        found.append(
            Ghost(
                sequence,
                float(np.sqrt(np.mean(ghost**2) / np.mean(right**2))),
                projected_share(noisy - arms.accelerated, ghost),
                projected_share(gallery.restore(noisy) - arms.network, ghost),
            )
        )
    return found


def ghost_measures(ghosts: Sequence[Ghost]) -> list[Measure]:
    """Amplitude after over amplitude before, by sequence."""
    measures: list[Measure] = []
    for sequence in dict.fromkeys(ghost.sequence for ghost in ghosts):
        group = [ghost for ghost in ghosts if ghost.sequence == sequence]
        before = float(np.mean([g.accelerated for g in group]))
        after = float(np.mean([g.network for g in group]))
        strength = float(np.mean([g.strength for g in group]))
        measures.append(
            Measure(
                "Residual aliasing",
                f"{sequence}: amplitude of ghosts, after over before",
                (after / before,),
                bar=Bar("at most", 1.0),
                note=f"{before:.3f} before and {after:.3f} after, relative to the ghost without "
                f"noise ({100 * strength:.1f} % of the image); {len(group)} patients",
                digits=3,
            )
        )
    return measures
