"""Everything around the spine: skin, fat, muscles, vessels, bowel."""

from collections.abc import Iterator

import numpy as np

from halfscan_models.simulation.anatomy import SIDES, Anatomy
from halfscan_models.simulation.arrays import FloatArray
from halfscan_models.simulation.shapes import Block, Frame, Shape, Tube
from halfscan_models.simulation.tissues import Label

__all__ = ["Layer", "soft_tissue_layers"]

Layer = tuple[Label, Shape]  # painted in order: a later layer covers an earlier one


def soft_tissue_layers(anatomy: Anatomy) -> Iterator[Layer]:
    """Yield the layers from the outside in."""
    yield Label.SKIN, anatomy.skin
    yield Label.FAT, anatomy.skin.grown(-2.0)
    yield Label.MUSCLE, anatomy.body_wall
    yield Label.VISCERAL_FAT, anatomy.cavity
    yield from _bowel(anatomy)
    yield from _vessels(anatomy)
    yield from _muscles(anatomy)


def _bowel(anatomy: Anatomy, count: int = 110) -> Iterator[Layer]:
    """Loops of bowel in front of the spine, some with gas, some with fluid, some solid."""
    rng = np.random.default_rng(anatomy.seed)
    contents = (Label.BOWEL_CONTENT, Label.BOWEL_SOLID, Label.BOWEL_SOLID, Label.BOWEL_GAS)
    front = float(anatomy.cavity.y_centre.mean() - anatomy.cavity.half_y.mean())
    for _ in range(count):
        x, z = rng.uniform(-105, 105), rng.uniform(-160, 160)
        across = 1 - (x / 125) ** 2
        y = rng.uniform(min(front * across + 16, -46), -44)
        halves = rng.uniform(8, 19, 3)
        loop = Block(Frame(x, y, z, rng.uniform(-1, 1)), halves[0] * 1.2, halves[1], halves[2])
        yield Label.BOWEL_WALL, loop
        yield contents[rng.integers(len(contents))], loop.grown(-2.0)


def _vessels(anatomy: Anatomy) -> Iterator[Layer]:
    """Aorta (left) and vena cava (right) in front of the bodies; below L4 they part."""
    z = anatomy.knots
    bodies = sorted(anatomy.vertebrae.values(), key=lambda v: v.frame.z0)
    heights = [v.frame.z0 for v in bodies]
    in_front = np.interp(z, heights, [v.frame.point(0, -v.half_u, 0)[1] for v in bodies])
    split = anatomy.vertebrae["L4"].frame.z0 - 12
    below = np.clip((split - z) / 60, 0, 1)
    for x0, radius, shift in ((8.0, 8.5, 10.0), (-15.0, 10.0, 9.5)):
        wide = np.where(z > split, radius, radius * 0.66).astype(np.float32)
        arms = (1.0, -1.0) if x0 > 0 else (1.0, -0.6)
        for arm in arms:
            x = (x0 + arm * 52 * below).astype(np.float32)
            y = (in_front - shift - 6 * below).astype(np.float32)
            vessel = Tube(z, x, y, wide, wide)
            yield Label.LIGAMENT, vessel.grown(1.0)
            yield Label.FLOW_VOID, vessel


def _muscle_tube(
    anatomy: Anatomy, x: float, half_x: float, depth: tuple[float, float], taper: float
) -> Tube:
    """One muscle column behind the spine, between two shares of the way canal to fascia."""
    z = anatomy.knots
    room = anatomy.fascia_y - anatomy.canal.y_centre
    y = anatomy.canal.y_centre + room * np.float32(sum(depth) / 2)
    half_y = room * np.float32((depth[1] - depth[0]) / 2)
    s1 = anatomy.vertebrae["S1"].frame.z0
    share = np.float32(1) - np.float32(taper) * np.clip((s1 + 25 - z) / 60, 0, 1)
    flat = np.full_like(z, x * anatomy.size)
    wide: FloatArray = (half_x * anatomy.size * share).astype(np.float32)
    return Tube(z, flat, y.astype(np.float32), wide, half_y.astype(np.float32))


def _muscles(anatomy: Anatomy) -> Iterator[Layer]:
    """Psoas, quadratus lumborum, erector spinae, multifidus, each in its dark fascia."""
    low, high = anatomy.vertebrae["L5"].frame.z0, anatomy.vertebrae["T12"].frame.z0
    z = anatomy.knots[(anatomy.knots > low - 5) & (anatomy.knots < high)]
    flat = np.ones_like(z)
    for side, s in SIDES.items():
        yield Label.LIGAMENT, anatomy.psoas[side].grown(0.5)
        yield Label.MUSCLE, anatomy.psoas[side]
        quadratus = Tube(z, s * 70 * flat, 14 * flat, 9 * flat, 15 * flat)
        yield Label.LIGAMENT, quadratus.grown(0.6)
        yield Label.MUSCLE, quadratus
        for x, half_x, depth, taper in (
            (44.0, 30.0, (0.12, 1.0), 0.35),
            (14.5, 12.5, (0.10, 0.98), 0.2),
        ):
            column = _muscle_tube(anatomy, s * x, half_x, depth, taper)
            yield Label.LIGAMENT, column.grown(0.7)
            yield Label.PARASPINAL, column
