"""Tissues of the phantom: proton density, relaxation times at 3 T, fat share.

Sources (all at 3 T): skeletal muscle, nerve, cord, blood and cartilage from Stanisz 2005 [1]_;
fat's T1 and the liver-like filler from de Bazelaire 2004 [2]_, whose bulk T1 of lumbar marrow
(586 ms) lies between the two components used here; fat's T2 from Pai 2008 [3]_ (41 to 143 ms,
longest in fast spin echo, where refocused J-coupling keeps fat bright) and muscle's between theirs
(34 ms) and that of [1]_ (50 ms);
fluid from subarachnoid measurements [4]_; the nucleus by degree of degeneration from Marinelli
2010 [5]_ (108 ms at Pfirrmann grade II, 53 ms at grade IV). Proton densities, ligament, skin,
Modic marrow and bowel are assumptions, chosen so that the signal ratios of the sagittal T1
series resemble Table 3 of the reference study.

References
----------
.. [1] Stanisz et al., Magn Reson Med 54 (2005) 507, doi:10.1002/mrm.20605
.. [2] de Bazelaire et al., Radiology 230 (2004) 652, doi:10.1148/radiol.2303021331
.. [3] Pai et al., Magn Reson Imaging 26 (2008) 1215, doi:10.1016/j.mri.2008.02.017
.. [4] "Quantification of T1 and T2 of subarachnoid CSF", Magn Reson Med (2023), PMC10696635
.. [5] Marinelli et al., AJNR 31 (2010) 1278, doi:10.3174/ajnr.A2080
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, auto
from types import MappingProxyType

__all__ = ["FAT_T1_MS", "FAT_T2_MS", "TISSUES", "Label", "Tissue"]

FAT_T1_MS = 382.0
FAT_T2_MS = 130.0


class Label(IntEnum):
    """What lies at a point of the phantom."""

    AIR = 0
    SKIN = auto()
    FAT = auto()
    VISCERAL_FAT = auto()
    EPIDURAL_FAT = auto()
    MUSCLE = auto()
    PARASPINAL = auto()
    LIGAMENT = auto()
    FLAVUM = auto()
    INTERSPINOUS = auto()
    CORTICAL = auto()
    MARROW = auto()
    CARTILAGE = auto()
    ANNULUS = auto()
    INNER_ANNULUS = auto()
    NUCLEUS = auto()
    NUCLEUS_AGED = auto()
    NUCLEUS_DEGENERATED = auto()
    HERNIATED = auto()
    FLUID = auto()
    CORD = auto()
    ROOT = auto()
    VEIN = auto()
    FLOW_VOID = auto()
    BOWEL_WALL = auto()
    BOWEL_CONTENT = auto()
    BOWEL_SOLID = auto()
    BOWEL_GAS = auto()
    MODIC_1 = auto()
    MODIC_2 = auto()
    CYST = auto()


@dataclass(frozen=True, slots=True)
class Tissue:
    """One tissue.

    Attributes
    ----------
    pd : float
        Proton density relative to water.
    t1_ms, t2_ms : float
        Relaxation times of its water part at 3 T [ms]; its fat part has fat's own.
    fat : float
        Share of the signal-giving protons that are fat's, 0 to 1.
    texture : float
        Standard deviation of the local variation of the two shares, relative.
    """

    pd: float
    t1_ms: float
    t2_ms: float
    fat: float = 0.0
    texture: float = 0.0


TISSUES: Mapping[Label, Tissue] = MappingProxyType(
    {
        Label.AIR: Tissue(0.0, 1000, 10),
        Label.SKIN: Tissue(0.6, 900, 35, texture=0.05),
        Label.FAT: Tissue(0.95, 900, 40, fat=0.96, texture=0.05),
        Label.VISCERAL_FAT: Tissue(0.90, 900, 40, fat=0.92, texture=0.09),
        Label.EPIDURAL_FAT: Tissue(0.92, 900, 40, fat=0.93, texture=0.06),
        Label.MUSCLE: Tissue(0.80, 1412, 40, fat=0.03, texture=0.09),
        Label.PARASPINAL: Tissue(0.80, 1412, 40, fat=0.06, texture=0.11),
        Label.LIGAMENT: Tissue(0.25, 1000, 15),
        Label.FLAVUM: Tissue(0.50, 900, 32, texture=0.05),
        Label.INTERSPINOUS: Tissue(0.60, 1000, 30, fat=0.45, texture=0.20),
        Label.CORTICAL: Tissue(0.04, 800, 5),
        Label.MARROW: Tissue(0.58, 850, 45, fat=0.40, texture=0.15),
        Label.CARTILAGE: Tissue(0.65, 1168, 43),
        Label.ANNULUS: Tissue(0.42, 1168, 27, texture=0.08),
        Label.INNER_ANNULUS: Tissue(0.62, 1200, 55, texture=0.07),
        Label.NUCLEUS: Tissue(0.72, 1400, 125, texture=0.06),
        Label.NUCLEUS_AGED: Tissue(0.70, 1350, 90, texture=0.07),
        Label.NUCLEUS_DEGENERATED: Tissue(0.58, 1200, 45, texture=0.08),
        Label.HERNIATED: Tissue(0.66, 1300, 75, texture=0.06),
        Label.FLUID: Tissue(1.0, 4309, 1886, texture=0.02),
        Label.CORD: Tissue(0.78, 993, 78, texture=0.03),
        Label.ROOT: Tissue(0.75, 1083, 78, texture=0.03),
        Label.VEIN: Tissue(0.75, 1932, 150),
        Label.FLOW_VOID: Tissue(0.06, 1932, 150, texture=0.3),
        Label.BOWEL_WALL: Tissue(0.75, 1100, 45, texture=0.10),
        Label.BOWEL_CONTENT: Tissue(0.85, 1800, 140, fat=0.05, texture=0.25),
        Label.BOWEL_SOLID: Tissue(0.70, 809, 34, fat=0.08, texture=0.20),
        Label.BOWEL_GAS: Tissue(0.01, 1000, 10),
        Label.MODIC_1: Tissue(0.72, 1500, 95, fat=0.15, texture=0.10),
        Label.MODIC_2: Tissue(0.72, 900, 45, fat=0.80, texture=0.08),
        Label.CYST: Tissue(0.95, 3000, 800),
    }
)
