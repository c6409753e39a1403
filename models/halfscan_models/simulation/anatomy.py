"""Where everything lies in one patient: the spine's chain, the canal, the body's outline.

Sizes are those of an adult, varied at random: vertebral bodies of about 27 mm height, 34 mm
depth and 42 to 50 mm width, discs of 8 to 11 mm, a canal of about 17 mm depth, a conus that
ends near L1. The origin is the centre of L3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import cos, radians, sin, tan
from types import MappingProxyType

import numpy as np
from scipy.interpolate import PchipInterpolator

from halfscan_models.simulation.arrays import FloatArray, Point, RealArray
from halfscan_models.simulation.shapes import Frame, Tube
from halfscan_models.simulation.tissues import Label

__all__ = ["SIDES", "Anatomy", "DiscSpace", "Vertebra", "draw_anatomy"]

SIDES: Mapping[str, float] = MappingProxyType({"right": -1.0, "left": 1.0})

_KNOTS: FloatArray = np.arange(-185, 181, 1, dtype=np.float32)

# Name, tilt [degrees], half width, half depth, height, height of the disc below [mm].
_CHAIN = (
    ("T11", 8, 17.0, 14.5, 23.0, 5.0),
    ("T12", 10, 19.0, 15.5, 24.5, 6.5),
    ("L1", 10, 20.5, 16.5, 26.0, 8.0),
    ("L2", 6, 21.5, 17.0, 27.0, 9.5),
    ("L3", 0, 22.5, 17.2, 27.5, 10.5),
    ("L4", -8, 23.5, 17.4, 27.5, 11.0),
    ("L5", -18, 24.5, 17.4, 27.0, 10.0),
    ("S1", -36, 24.0, 15.0, 28.0, 2.6),
    ("S2", -46, 18.0, 10.0, 22.0, 2.0),
    ("S3", -52, 14.0, 7.5, 18.0, 2.0),
)


@dataclass(frozen=True, slots=True)
class Vertebra:
    """One vertebral body; lengths in mm, `frame` at its centre."""

    name: str
    frame: Frame
    half_x: float
    half_u: float
    height: float

    @property
    def sacral(self) -> bool:
        """Whether it is part of the sacrum, which has no joints and processes of its own."""
        return self.name.startswith("S")


@dataclass(frozen=True, slots=True)
class DiscSpace:
    """The space between two bodies; `slope` is the tangent of half the angle between them."""

    level: str
    above: str
    below: str
    frame: Frame
    half_x: float
    half_u: float
    half_w: float
    slope: float
    nucleus: Label


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One patient's anatomy without any pathology.

    Attributes
    ----------
    vertebrae, discs : mapping
        By name (``"L4"``) and by level (``"L4/L5"``).
    canal, sac, cord : Tube
        Spinal canal (filled with fat), thecal sac (fluid), cord down to the conus.
    filaments : tuple of Tube
        Roots of the cauda equina inside the sac.
    psoas : mapping of str to Tube
        By side.
    skin, body_wall, cavity : Tube
        Outlines: outer skin, outer face of the muscular wall, abdominal cavity.
    fascia_y : FloatArray
        Back of the spinal muscles at the heights `knots` [mm].
    size : float
        This patient's size relative to the mean.
    seed : int
        Seed of what has no place of its own: bowel and texture.
    """

    vertebrae: Mapping[str, Vertebra]
    discs: Mapping[str, DiscSpace]
    canal: Tube
    sac: Tube
    cord: Tube
    filaments: tuple[Tube, ...]
    psoas: Mapping[str, Tube]
    skin: Tube
    body_wall: Tube
    cavity: Tube
    knots: FloatArray
    fascia_y: FloatArray
    size: float
    seed: int

    def root_path(self, level: str, side: str) -> tuple[tuple[Point, float], ...]:
        """Course of the root that leaves at a level: points [mm] with the radius there [mm].

        The third point is the middle of the ganglion in the foramen.
        """
        disc, s = self.discs[level], SIDES[side]
        edge = disc.half_u
        local = (
            (7.5 * s, edge + 8.0, 15.0, 1.1),
            (12.5 * s, edge + 6.0, 10.0, 1.7),
            (18.5 * s, edge + 4.0, 4.0, 2.9),
            (26.0 * s, edge - 3.0, -5.0, 2.0),
            (31.0 * s, edge - 11.0, -19.0, 1.8),
        )
        return tuple((disc.frame.point(x, u, w), r) for x, u, w, r in local)


def _draw_chain(rng: np.random.Generator, size: float) -> dict[str, Vertebra]:
    """Place the bodies one below the other, L3 at the origin."""
    lordosis = rng.uniform(0.75, 1.15)
    tilts = [radians(t * lordosis + rng.normal(0, 1)) for _, t, *_ in _CHAIN]
    y = z = 0.0
    placed: dict[str, Vertebra] = {}
    for i, (name, _, half_x, half_u, height, gap) in enumerate(_CHAIN):
        tall = height * size * rng.uniform(0.97, 1.03)
        gap_mm = gap * size * rng.uniform(0.88, 1.12)
        y, z = y - sin(tilts[i]) * tall / 2, z - cos(tilts[i]) * tall / 2
        placed[name] = Vertebra(
            name,
            Frame(0.0, y, z, tilts[i]),
            half_x * size * rng.uniform(0.97, 1.03),
            half_u * size * rng.uniform(0.97, 1.03),
            tall,
        )
        between = (tilts[i] + tilts[min(i + 1, len(tilts) - 1)]) / 2
        y -= sin(tilts[i]) * tall / 2 + sin(between) * gap_mm
        z -= cos(tilts[i]) * tall / 2 + cos(between) * gap_mm
    y3, z3 = placed["L3"].frame.y0, placed["L3"].frame.z0
    return {
        v.name: Vertebra(
            v.name,
            Frame(0.0, v.frame.y0 - y3, v.frame.z0 - z3, v.frame.tilt),
            v.half_x,
            v.half_u,
            v.height,
        )
        for v in placed.values()
    }


def _disc_between(above: Vertebra, below: Vertebra, nucleus: Label) -> DiscSpace:
    """Fill the space between two bodies."""
    _, top_y, top_z = above.frame.point(0, 0, -above.height / 2)
    _, low_y, low_z = below.frame.point(0, 0, below.height / 2)
    thickness = float(np.hypot(top_y - low_y, top_z - low_z))
    tilt = (above.frame.tilt + below.frame.tilt) / 2
    return DiscSpace(
        level=f"{above.name}/{below.name}",
        above=above.name,
        below=below.name,
        frame=Frame(0.0, (top_y + low_y) / 2, (top_z + low_z) / 2, tilt),
        half_x=(above.half_x + below.half_x) / 2 + 0.8,
        half_u=(above.half_u + below.half_u) / 2 + 0.8,
        half_w=thickness / 2,
        slope=tan((above.frame.tilt - below.frame.tilt) / 2),
        nucleus=nucleus,
    )


def _draw_discs(rng: np.random.Generator, bodies: dict[str, Vertebra]) -> dict[str, DiscSpace]:
    names = list(bodies)
    discs: dict[str, DiscSpace] = {}
    for above, below in pairwise(names):
        aged = rng.random() < 0.3
        sacral = bodies[above].sacral
        label = Label.INNER_ANNULUS if sacral else Label.NUCLEUS_AGED if aged else Label.NUCLEUS
        disc = _disc_between(bodies[above], bodies[below], label)
        discs[disc.level] = disc
    return discs


def _canal_line(bodies: dict[str, Vertebra], half_depth: float) -> tuple[FloatArray, FloatArray]:
    """Middle of the canal behind the bodies, and its slope dy/dz, at the knots."""
    behind = [v.frame.point(0, v.half_u + half_depth, 0) for v in bodies.values()]
    points = sorted((z, y) for _, y, z in behind)
    z, y = (np.array(c) for c in zip(*points, strict=True))
    low, high = (y[1] - y[0]) / (z[1] - z[0]), (y[-1] - y[-2]) / (z[-1] - z[-2])
    z = np.concatenate([[z[0] - 60], z, [z[-1] + 60]])
    y = np.concatenate([[y[0] - 60 * low], y, [y[-1] + 60 * high]])
    curve = PchipInterpolator(z, y)
    return (
        np.asarray(curve(_KNOTS), np.float32),
        np.asarray(curve.derivative()(_KNOTS), np.float32),
    )


def _tube(x: RealArray | float, y: RealArray, half_x: RealArray, half_y: RealArray) -> Tube:
    full = [np.broadcast_to(np.asarray(v, np.float32), _KNOTS.shape) for v in (x, half_x, half_y)]
    return Tube(_KNOTS, full[0], y.astype(np.float32), full[1], full[2])


def _by_height(bodies: dict[str, Vertebra], **values: float) -> FloatArray:
    """Interpolate values given at vertebrae to the knots."""
    points = sorted((bodies[name].frame.z0, value) for name, value in values.items())
    z, v = zip(*points, strict=True)
    values_at_knots: FloatArray = np.interp(_KNOTS, z, v).astype(np.float32)
    return values_at_knots


def _draw_canal(
    rng: np.random.Generator, bodies: dict[str, Vertebra], size: float
) -> tuple[Tube, Tube, Tube]:
    """Canal, thecal sac and cord."""
    half_depth = 8.6 * size * rng.uniform(0.94, 1.08)
    line, slope = _canal_line(bodies, half_depth)
    stretch = np.sqrt(1 + np.square(slope))  # a tilted canal is deeper in a transverse cut
    wide = _by_height(bodies, T11=10.5, L1=11.5, L3=11.8, L5=13.0, S1=13.5, S2=10, S3=7)
    deep = _by_height(bodies, T11=1, L4=1, L5=1.06, S1=0.88, S2=0.62, S3=0.5)
    canal = _tube(0, line, wide * np.float32(size), half_depth * deep * stretch)
    sac_wide = _by_height(bodies, T11=8.6, L1=9.4, L3=9.6, L5=9.0, S1=6.5, S2=0.1, S3=0)
    sac_deep = _by_height(bodies, T11=7.2, L1=7.6, L3=7.4, L5=6.4, S1=4.6, S2=0.1, S3=0)
    # Fat lies in front of the sac at the lumbosacral junction, behind it above.
    shift = _by_height(bodies, T11=-0.4, L3=-0.7, L5=0.6, S1=1.0, S2=0.5)
    sac = _tube(0, line + shift, sac_wide * np.float32(size), sac_deep * stretch * np.float32(size))
    conus = bodies["L1"].frame.z0 + rng.normal(0, 9)
    cord_share = np.clip((_KNOTS - conus) / 32, 0, 1) ** 0.5
    cord = _tube(0, line + 0.6, 4.7 * cord_share, 3.9 * cord_share)
    return canal, sac, cord


def _draw_filaments(
    rng: np.random.Generator, sac: Tube, cord: Tube, bodies: dict[str, Vertebra], count: int = 26
) -> tuple[Tube, ...]:
    """Roots of the cauda equina: from the conus down, lying at the back, leaving one by one."""
    top = float(cord.z[cord.half_x > 0].min()) + 22
    ends = [bodies[name].frame.z0 for name in ("L2", "L3", "L4", "L5", "S1")]
    filaments: list[Tube] = []
    for i in range(count):
        side = -1.0 if i % 2 else 1.0
        end = ends[min(i // 4, 4)] + rng.uniform(-14, 4)
        z = np.array([knot for knot in _KNOTS if end < knot < top], np.float32)
        x0 = np.interp(z, sac.z, sac.x_centre)
        y0 = np.interp(z, sac.z, sac.y_centre)
        half_x, half_y = np.interp(z, sac.z, sac.half_x), np.interp(z, sac.z, sac.half_y)
        lateral = 0.12 + 0.66 * (1 - min(i // 4, 5) / 5) * rng.uniform(0.75, 1.1)
        behind = rng.uniform(0.12, 0.92) * np.sqrt(1 - min(lateral, 0.9) ** 2) * 0.86
        # From beside the conus to its own place within 35 mm, waving a little.
        settle = np.clip((top - z) / 35, 0, 1)
        wave = 0.5 * np.sin(z / rng.uniform(9, 16) + rng.uniform(0, 6))
        x = x0 + side * half_x * (0.4 + (lateral - 0.4) * settle) + wave
        y = y0 + half_y * (0.25 + (behind - 0.25) * settle) + 0.3 * wave
        radius = np.full_like(z, rng.uniform(0.65, 0.95))
        filaments.append(Tube(z, x.astype(np.float32), y.astype(np.float32), radius, radius))
    return tuple(filaments)


def _draw_psoas(
    rng: np.random.Generator, bodies: dict[str, Vertebra], size: float
) -> dict[str, Tube]:
    """Psoas major of both sides, from T12 down to the sacrum."""
    x = _by_height(bodies, T12=28, L1=30, L2=33, L3=37, L4=42, L5=49, S1=57, S2=63)
    y = _by_height(bodies, T12=6, L1=6, L2=3, L3=0, L4=-3, L5=-9, S1=-22, S2=-34)
    half_x = _by_height(bodies, T12=1, L1=7, L2=11.5, L3=15.5, L4=18.5, L5=19, S1=18, S2=16)
    half_y = _by_height(bodies, T12=1, L1=9, L2=14, L3=18, L4=20.5, L5=20.5, S1=18, S2=15)
    return {
        side: _tube(
            s * x * np.float32(size),
            y,
            half_x * np.float32(size * rng.uniform(0.92, 1.08)),
            half_y * np.float32(size * rng.uniform(0.92, 1.08)),
        )
        for side, s in SIDES.items()
    }


def _draw_outline(
    rng: np.random.Generator, canal: Tube, bodies: dict[str, Vertebra], size: float
) -> tuple[tuple[Tube, Tube, Tube], FloatArray]:
    """Skin, muscular wall, cavity; and the back of the spinal muscles."""
    # The back follows the spine's curve only in part.
    kernel = np.hanning(81)
    padded = np.pad(canal.y_centre, 40, mode="edge")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    behind = _by_height(bodies, T11=40, L2=45, L4=44, L5=38, S1=32, S2=27)
    fascia = (0.35 * canal.y_centre + 0.65 * smooth + behind * size).astype(np.float32)
    fat_back = rng.uniform(9, 22) * _by_height(bodies, T11=0.75, L2=0.9, L4=1.25, S1=1.35)
    back = fascia + fat_back
    front = np.full_like(back, -(104 + rng.uniform(-10, 8)) * size)
    fat_front = np.float32(rng.uniform(12, 24))
    half_x = np.float32(158 * size) + _by_height(bodies, T11=-8, L3=-2, S1=8)
    skin = _tube(0, (front + back) / 2, half_x, (back - front) / 2)
    wall_front, wall_back = front + fat_front, fascia + 1
    wall = _tube(
        0, (wall_front + wall_back) / 2, half_x - fat_front - 4, (wall_back - wall_front) / 2
    )
    inner_front, inner_back = wall_front + 9, wall_back - 8
    cavity = _tube(
        0, (inner_front + inner_back) / 2, half_x - fat_front - 15, (inner_back - inner_front) / 2
    )
    return (skin, wall, cavity), fascia


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient.

    The same generator state gives the same anatomy whatever pathologies are added later.
    """
    size = float(np.clip(rng.normal(1.0, 0.035), 0.92, 1.08))
    bodies = _draw_chain(rng, size)
    discs = _draw_discs(rng, bodies)
    canal, sac, cord = _draw_canal(rng, bodies, size)
    filaments = _draw_filaments(rng, sac, cord, bodies)
    psoas = _draw_psoas(rng, bodies, size)
    (skin, wall, cavity), fascia = _draw_outline(rng, canal, bodies, size)
    return Anatomy(
        vertebrae=MappingProxyType(bodies),
        discs=MappingProxyType(discs),
        canal=canal,
        sac=sac,
        cord=cord,
        filaments=filaments,
        psoas=MappingProxyType(psoas),
        skin=skin,
        body_wall=wall,
        cavity=cavity,
        knots=_KNOTS,
        fascia_y=fascia,
        size=size,
        seed=int(rng.integers(2**32)),
    )
