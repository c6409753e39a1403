"""Spin-echo signal of every tissue for one sequence."""

from dataclasses import dataclass
from math import exp

import numpy as np

from halfscan_models.simulation.arrays import ComplexArray
from halfscan_models.simulation.protocol import SequenceProtocol
from halfscan_models.simulation.tissues import FAT_T1_MS, FAT_T2_MS, TISSUES

__all__ = ["FAT_SHIFT_HZ", "SignalTable", "signal_table", "spin_echo"]

FAT_SHIFT_HZ = 3.4e-6 * 123.25e6  # methylene against water, 3.4 ppm at 2.89 T
_FAT_LEFT_AFTER_SUPPRESSION = 0.06  # a spectrally selective pulse never catches the olefins


def spin_echo(pd: float, t1_ms: float, t2_ms: float, *, tr_ms: float, te_ms: float) -> float:
    """Signal of an ideal spin echo, ``PD (1 - exp(-TR/T1)) exp(-TE/T2)``.

    A turbo spin echo is treated as one echo at its effective TE: the echo train's blurring,
    stimulated echoes, magnetisation transfer and the recovery lost to the train are left out;
    the lengthened T2 of fat in echo trains is put into the tissue table instead.
    """
    return pd * (1.0 - exp(-tr_ms / t1_ms)) * exp(-te_ms / t2_ms)


@dataclass(frozen=True, slots=True)
class SignalTable:
    """Signal by label, water in the real part, fat in the imaginary part (complex64 a label).

    The signal where the texture is t is ``level + slope * t``: where there is more fat there is
    less water.
    """

    level: ComplexArray
    slope: ComplexArray


def signal_table(sequence: SequenceProtocol) -> SignalTable:
    """Tabulate the signal of all tissues under one sequence."""
    level, slope = (np.zeros(max(TISSUES) + 1, np.complex64) for _ in range(2))
    left = _FAT_LEFT_AFTER_SUPPRESSION if sequence.fat_suppressed else 1.0
    times = {"tr_ms": sequence.tr_ms, "te_ms": sequence.te_ms}
    for label, tissue in TISSUES.items():
        pure_water = spin_echo(tissue.pd, tissue.t1_ms, tissue.t2_ms, **times)
        pure_fat = spin_echo(tissue.pd, FAT_T1_MS, FAT_T2_MS, **times)
        water, fat = (1 - tissue.fat) * pure_water, tissue.fat * pure_fat * left
        level[label] = complex(water, fat)
        slope[label] = complex(-water, fat) * tissue.texture
    return SignalTable(level, slope)
