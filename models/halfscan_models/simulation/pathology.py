"""The degenerative findings that a phantom can carry, by kind, level and side."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from halfscan_models.simulation.errors import SimulationError

__all__ = [
    "KINDS",
    "LEVELS",
    "PREVALENCE",
    "Kind",
    "Level",
    "Pathology",
    "Side",
    "check_pathologies",
    "draw_pathologies",
]

Level = Literal["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
Kind = Literal[
    "spinal_stenosis",
    "foraminal_stenosis",
    "disc_degeneration",
    "disc_bulge",
    "disc_herniation",
    "facet_synovial_cyst",
    "modic_changes",
    "schmorl_nodes",
]
Side = Literal["right", "left"]
LEVELS: tuple[Level, ...] = get_args(Level)
KINDS: tuple[Kind, ...] = get_args(Kind)
_SIDES: tuple[Side, ...] = get_args(Side)

# Findings among the 155 levels (31 patients) of the reference study, its Table 5.
PREVALENCE: dict[Kind, float] = {
    "spinal_stenosis": 24 / 155,
    "foraminal_stenosis": 33 / 155,
    "disc_degeneration": 83 / 155,
    "disc_bulge": 53 / 155,
    "disc_herniation": 45 / 155,
    "facet_synovial_cyst": 2 / 155,
    "modic_changes": 20 / 155,
    "schmorl_nodes": 11 / 155,
}
# Degeneration grows downwards, Schmorl nodes do not; each row averages 1. An assumption.
_LOWER_LEVELS = (0.4, 0.6, 0.9, 1.5, 1.6)
_UPPER_LEVELS = (1.6, 1.4, 1.0, 0.6, 0.4)


@dataclass(frozen=True, slots=True)
class Pathology:
    """One finding.

    Attributes
    ----------
    kind : Kind
        The finding, by the name that the reference study's Table 5 gives it.
    level : Level
        Disc level at which it lies.
    side : Side
        Used by foraminal stenosis, herniation (paramedian), cyst and Schmorl node.
    severity : float
        0 to 1, exclusive of 0: scales the size of the change.
    modic_type : int
        1 (oedema) or 2 (fat); used by Modic changes.
    """

    kind: Kind
    level: Level
    side: Side = "left"
    severity: float = 1.0
    modic_type: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        rules = (
            (self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}"),
            (self.level in LEVELS, f"level must be one of {', '.join(LEVELS)}, got {self.level!r}"),
            (self.side in _SIDES, f"side must be right or left, got {self.side!r}"),
            (0 < self.severity <= 1, f"severity must lie in (0, 1], got {self.severity!r}"),
            (self.modic_type in (1, 2), f"modic_type must be 1 or 2, got {self.modic_type!r}"),
        )
        for holds, message in rules:
            if not holds:
                raise SimulationError(message)

    @property
    def sign(self) -> float:
        """-1 on the patient's right, +1 on the left (the x axis points to the left)."""
        return 1.0 if self.side == "left" else -1.0


def check_pathologies(pathologies: Iterable[Pathology]) -> tuple[Pathology, ...]:
    """Return the pathologies as a tuple.

    Raises
    ------
    SimulationError
        If one kind is listed twice at one level and side.
    """
    found = tuple(pathologies)
    keys = [(p.kind, p.level, p.side) for p in found]
    for key in keys:
        if keys.count(key) > 1:
            raise SimulationError(
                f"a pathology may stand once at a level and side, got {key} twice"
            )
    return found


def draw_pathologies(rng: np.random.Generator) -> tuple[Pathology, ...]:
    """Draw the findings of one patient with the reference study's frequencies.

    A herniation at a level takes the place of a bulge; everything else is drawn independently,
    which the disease is not: correlations between findings are left out.
    """
    found: list[Pathology] = []
    for i, level in enumerate(LEVELS):
        for kind in KINDS:
            weights = _UPPER_LEVELS if kind == "schmorl_nodes" else _LOWER_LEVELS
            present = rng.random() < PREVALENCE[kind] * weights[i]
            side, modic_type = _SIDES[rng.integers(2)], rng.integers(1, 3)
            severity = float(rng.uniform(0.6, 1.0))
            if present:
                modic: Literal[1, 2] = 1 if modic_type == 1 else 2
                found.append(Pathology(kind, level, side, severity, modic))
    herniated = {p.level for p in found if p.kind == "disc_herniation"}
    return tuple(p for p in found if p.kind != "disc_bulge" or p.level not in herniated)
