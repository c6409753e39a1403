"""The reference study's Table 3 on simulated patients: SNR by region.

The study divides the mean signal of a region by the standard deviation of the background (Tang et
al. 2024, methods), and so does `RegionSnr.background`. In a denoised image that ratio says little
about tissue: a denoiser empties the air first, and nothing limits the ratio. So `RegionSnr.tissue`
stands beside it: the mean signal over the root mean square of what separates the region from the
noise-free image, which counts noise that is left, blur and bias alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from halfscan_models.evaluation.arms import Gallery
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.simulation.anatomy import Anatomy
from halfscan_models.simulation.arrays import BoolArray
from halfscan_models.simulation.geometry import Region, SliceStack
from halfscan_models.simulation.protocol import PROTOCOL
from halfscan_models.simulation.regions import place_regions

__all__ = ["PUBLISHED", "RegionSnr", "SnrRow", "region_snrs", "snr_measures", "snr_table"]

SECTION = "Simulated Table 3"
_SMALLEST_BACKGROUND = 20  # pixels
# Table 3, sagittal T1, reader 1: mean SNR of the standard scan and of the accelerated one with the
# vendor's network.
PUBLISHED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "vertebra_L1": (157.6, 282.5),
        "vertebra_L2": (154.0, 275.0),
        "vertebra_L3": (144.5, 257.8),
        "vertebra_L4": (138.3, 247.5),
        "vertebra_L5": (143.3, 254.4),
        "disc_L1_L2": (92.9, 169.0),
        "disc_L2_L3": (91.5, 164.6),
        "disc_L3_L4": (82.2, 149.5),
        "disc_L4_L5": (79.2, 141.8),
        "disc_L5_S1": (89.0, 159.8),
        "psoas": (128.8, 232.2),
        "csf": (67.9, 123.2),
        "fat": (366.6, 651.8),
    }
)


@dataclass(frozen=True, slots=True)
class RegionSnr:
    """Signal-to-noise ratios of one region of one patient, by arm.

    Attributes
    ----------
    sequence, region : str
        Where.
    background, tissue : dict of str to float
        Ratio of "standard", "accelerated" and "network": over the standard deviation of the
        background, and over the difference from the noise-free image.
    """

    sequence: str
    region: str
    background: dict[str, float]
    tissue: dict[str, float]


@dataclass(frozen=True, slots=True)
class SnrRow:
    """One structure of one sequence over all patients.

    Attributes
    ----------
    sequence, region : str
        Where.
    patients : int
        In how many the region lies in the stack.
    standard, network : float
        Mean SNR over the background.
    ratio : float
        `network` over `standard`.
    tissue_ratio, tissue_gain : float
        Ratio of the mean SNR in tissue: network over standard, network over accelerated.
    published_ratio : float or None
        What the reference study's Table 3 gives.
    """

    sequence: str
    region: str
    patients: int
    standard: float
    network: float
    ratio: float
    tissue_ratio: float
    tissue_gain: float
    published_ratio: float | None


def region_snrs(gallery: Gallery, sequences: Sequence[str] = tuple(PROTOCOL)) -> list[RegionSnr]:
    """Measure every region of one patient in every sequence."""
    found: list[RegionSnr] = []
    for sequence in sequences:
        stack = gallery.patient.stack(sequence)
        regions = place_regions(gallery.patient.anatomy, {stack.plane: stack})
        for region in regions:
            index = stack.nearest_slice(region.centre_mm)
            if region.name == "background" or index is None:
                continue
            mask = region.mask(stack)[index]
            air = _background(gallery.patient.anatomy, stack, index)
            if air.sum() >= _SMALLEST_BACKGROUND and mask.any():
                found.append(_region_snr(gallery, sequence, region.name, index, mask, air))
    return found


def _region_snr(
    gallery: Gallery, sequence: str, name: str, index: int, mask: BoolArray, air: BoolArray
) -> RegionSnr:
    arms = gallery.arms(sequence, index)
    truth = arms.truth[mask].astype(np.float64)
    background: dict[str, float] = {}
    tissue: dict[str, float] = {}
    for arm, image in arms.by_name().items():
        if arm == "truth":
            continue
        values = image[mask].astype(np.float64)
        noise = float(image[air].std(dtype=np.float64, ddof=1))
        error = float(np.sqrt(np.mean(np.square(values - truth))))
        background[arm] = float(values.mean()) / noise if noise > 0.0 else float("inf")
        tissue[arm] = float(values.mean()) / error if error > 0.0 else float("inf")
    return RegionSnr(sequence, name, background, tissue)


def _background(anatomy: Anatomy, stack: SliceStack, index: int) -> BoolArray:
    """Ellipse of 300 mm^2 in the air behind the back, in one slice."""
    x, _, z = stack.to_patient(index, 0, 0)
    if stack.plane == "sagittal":
        height, halves = 30.0, (5.78, 16.52)
        axes = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        middle = (x, _behind(anatomy, height), height)
    else:
        halves = (16.52, 5.78)
        axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
        middle = (0.0, _behind(anatomy, z), z)
    mask: BoolArray = Region("background", stack.plane, middle, halves, *axes).mask(stack)[index]
    return mask


def _behind(anatomy: Anatomy, z_mm: float) -> float:
    """14 mm behind the skin of the back in the midline."""
    return anatomy.skin.centre(z_mm)[1] + anatomy.skin.half_axes(z_mm)[1] + 14.0


def snr_table(snrs: Sequence[RegionSnr]) -> list[SnrRow]:
    """Average over patients as the study did: ratios of mean SNRs."""
    places = dict.fromkeys((snr.sequence, snr.region) for snr in snrs)
    rows: list[SnrRow] = []
    for sequence, region in places:
        group = [snr for snr in snrs if (snr.sequence, snr.region) == (sequence, region)]
        mean = {arm: float(np.mean([s.background[arm] for s in group])) for arm in ARMS}
        tissue = {arm: float(np.mean([s.tissue[arm] for s in group])) for arm in ARMS}
        printed = PUBLISHED.get(region) if sequence == "sag_t1" else None
        rows.append(
            SnrRow(
                sequence,
                region,
                len(group),
                mean["standard"],
                mean["network"],
                mean["network"] / mean["standard"],
                tissue["network"] / tissue["standard"],
                tissue["network"] / tissue["accelerated"],
                None if printed is None else printed[1] / printed[0],
            )
        )
    return rows


ARMS = ("standard", "accelerated", "network")


def snr_measures(rows: Sequence[SnrRow]) -> list[Measure]:
    """The rows of the big table: the lowest ratio of each sequence, and the regulator's bar."""
    measures: list[Measure] = []
    for sequence in dict.fromkeys(row.sequence for row in rows):
        group = [row for row in rows if row.sequence == sequence]
        lowest = min(group, key=lambda row: row.ratio)
        weakest = min(group, key=lambda row: row.tissue_ratio)
        measures += [
            Measure(
                SECTION,
                f"{sequence}: SNR over the background, network over standard",
                (lowest.ratio,),
                bar=Bar("at least", 1.8),
                note=f"lowest of {len(group)} structures ({lowest.region}); the study's definition",
            ),
            Measure(
                SECTION,
                f"{sequence}: SNR in tissue, network over standard",
                (weakest.tissue_ratio, float(np.mean([row.tissue_ratio for row in group]))),
                note=f"lowest ({weakest.region}) / mean; error against the noise-free image",
            ),
        ]
    gain = 100 * (float(np.mean([row.tissue_gain for row in rows])) - 1)
    measures.append(
        Measure(
            "Regulator's bar",
            "SNR of regions, network over its own input",
            (gain,),
            "%",
            Bar("at least", 5.0),
            "mean gain over all structures of the SNR in tissue, which is harder than in air",
            digits=1,
        )
    )
    return measures
