"""The lumbar protocol of the reference study, both arms, as data.

TR, TE, field of view, matrix, averages, acceleration, bandwidth, scan time and slice thickness
are Table 1 of Tang et al. 2024 [1]_. The paper leaves out what the scanner also needs; those
figures are this project's own and are marked below: the echo train (chosen so that lines,
shots and TR give about the printed scan time), the phase oversampling of the transverse series
(its field of view is smaller than the body), the gap between slices and their number.

References
----------
.. [1] Tang et al., "Deep learning reconstruction for lumbar spine MRI acceleration: a prospective
   study", European Radiology Experimental (2024), doi:10.1186/s41747-024-00470-0
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from halfscan_models.simulation.errors import SimulationError

__all__ = ["ARMS", "PROTOCOL", "Arm", "ArmParameters", "Plane", "SequenceProtocol", "check_arms"]

Arm = Literal["standard", "accelerated"]
Plane = Literal["sagittal", "transverse"]
ARMS: tuple[Arm, ...] = ("standard", "accelerated")


@dataclass(frozen=True, slots=True)
class ArmParameters:
    """What differs between the arms: in-plane factor (1: none), averages, scan time [s]."""

    acceleration: int
    averages: int
    scan_time_s: float


@dataclass(frozen=True, slots=True)
class SequenceProtocol:
    """One turbo spin-echo sequence; lengths in mm, times in ms unless the name says otherwise.

    `matrix` is (readout, phase); `phase_oversampling` is the share of phase lines acquired
    beyond the field of view and thrown away.
    """

    name: str
    plane: Plane
    description: str
    tr_ms: float
    te_ms: float
    fov_mm: float
    matrix: tuple[int, int]
    bandwidth_hz_px: float
    thickness_mm: float
    standard: ArmParameters
    accelerated: ArmParameters
    echo_train_length: int
    fat_suppressed: bool = False
    phase_oversampling: float = 0.0
    gap_mm: float = 0.4

    def arm(self, name: Arm) -> ArmParameters:
        """Parameters of one arm."""
        return self.standard if name == "standard" else self.accelerated

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between slice centres [mm]."""
        return self.thickness_mm + self.gap_mm


_SEQUENCES = (
    SequenceProtocol(
        name="sag_t2",
        plane="sagittal",
        description="t2_tse_sag",
        tr_ms=2400,
        te_ms=92,
        fov_mm=280,
        matrix=(384, 268),
        bandwidth_hz_px=250,
        thickness_mm=4,
        standard=ArmParameters(1, 1, 77),
        accelerated=ArmParameters(2, 1, 41),
        echo_train_length=9,
    ),
    SequenceProtocol(
        name="sag_t2_fs",
        plane="sagittal",
        description="t2_tse_fs_sag",
        tr_ms=2800,
        te_ms=80,
        fov_mm=280,
        matrix=(320, 224),
        bandwidth_hz_px=252,
        thickness_mm=4,
        standard=ArmParameters(2, 2, 70),
        accelerated=ArmParameters(2, 1, 42),
        echo_train_length=10,
        fat_suppressed=True,
    ),
    SequenceProtocol(
        name="sag_t1",
        plane="sagittal",
        description="t1_tse_sag",
        tr_ms=621,
        te_ms=9.2,
        fov_mm=280,
        matrix=(384, 268),
        bandwidth_hz_px=250,
        thickness_mm=4,
        standard=ArmParameters(1, 1, 101),
        accelerated=ArmParameters(2, 1, 53),
        echo_train_length=3,
    ),
    SequenceProtocol(
        name="tra_t2",
        plane="transverse",
        description="t2_tse_tra",
        tr_ms=3290,
        te_ms=92,
        fov_mm=180,
        matrix=(320, 256),
        bandwidth_hz_px=252,
        thickness_mm=4,
        standard=ArmParameters(1, 1, 69),
        accelerated=ArmParameters(2, 1, 39),
        echo_train_length=18,
        phase_oversampling=0.5,
        gap_mm=0.8,
    ),
)

PROTOCOL: Mapping[str, SequenceProtocol] = MappingProxyType({s.name: s for s in _SEQUENCES})


def check_arms(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    """Return `arms` in the protocol's order.

    Raises
    ------
    SimulationError
        If `arms` is empty or holds a name that is not in `ARMS`.
    """
    unknown = sorted(set(arms) - set(ARMS))
    if unknown or not arms:
        raise SimulationError(f"arms must be some of {', '.join(ARMS)}, got {arms!r}")
    return tuple(arm for arm in ARMS if arm in arms)
