"""The spine's layers: canal and its content, discs, bones, ligaments, and what disease changes.

Height that a degenerated disc loses is taken up by the two bodies beside it, and a stenosis is
a local waist: a finding changes its own level and moves nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from halfscan_models.simulation.anatomy import SIDES, Anatomy, DiscSpace, Vertebra
from halfscan_models.simulation.pathology import Kind, Pathology
from halfscan_models.simulation.shapes import Block, Body, Both, Capsule, Disc, Tube
from halfscan_models.simulation.soft_tissue import Layer
from halfscan_models.simulation.tissues import Label

__all__ = ["spine_layers"]

_CORTEX_MM = 0.8


def spine_layers(anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Iterator[Layer]:
    """Yield the spine's layers from the bottom up; later ones cover earlier ones."""
    yield from _foramina(anatomy, pathologies)
    yield from _canal(anatomy, pathologies)
    for disc in anatomy.discs.values():
        yield from _disc(disc, _at(pathologies, disc.level))
    for vertebra in anatomy.vertebrae.values():
        yield from _body(vertebra, anatomy, pathologies)
    yield from _sacrum(anatomy)
    for vertebra in anatomy.vertebrae.values():
        if not vertebra.sacral:
            yield from _arch(vertebra)
    for disc in anatomy.discs.values():
        yield from _flava(disc, _at(pathologies, disc.level))
    yield from _cysts(anatomy, pathologies)


def _at(
    pathologies: Sequence[Pathology], level: str, kind: Kind | None = None
) -> tuple[Pathology, ...]:
    return tuple(p for p in pathologies if p.level == level and kind in (None, p.kind))


def _severity(found: Sequence[Pathology], kind: Kind) -> float:
    """Greatest severity of a kind among the findings of one level, 0 where it is absent."""
    return max((p.severity for p in found if p.kind == kind), default=0.0)


# ---------------------------------------------------------------------- canal and foramina


def _narrowed(tube: Tube, anatomy: Anatomy, pathologies: Sequence[Pathology], by: float) -> Tube:
    """Narrow a tube at every stenotic level by up to the share `by`, within 11 mm."""
    share = np.ones_like(tube.z)
    for found in pathologies:
        if found.kind == "spinal_stenosis":
            distance = np.abs(tube.z - anatomy.discs[found.level].frame.z0) / 11
            waist = np.where(distance < 1, np.cos(distance * np.pi / 2) ** 2, 0)
            share = np.minimum(share, 1 - by * found.severity * waist.astype(np.float32))
    return replace(tube, half_x=tube.half_x * share, half_y=tube.half_y * share)


def _canal(anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Iterator[Layer]:
    """Ligament around, fat, dura, fluid, cord and the roots inside."""
    yield Label.LIGAMENT, anatomy.canal.grown(0.6)
    for disc in anatomy.discs.values():
        if not anatomy.vertebrae[disc.above].sacral:
            behind = disc.frame.at(0, disc.half_u + 17, -3, lean=0.2)
            yield Label.EPIDURAL_FAT, Block(behind, 5.0, 4.2, 9.0)
    yield Label.EPIDURAL_FAT, _narrowed(anatomy.canal, anatomy, pathologies, 0.35)
    sac = _narrowed(anatomy.sac, anatomy, pathologies, 0.50)
    yield Label.LIGAMENT, sac.grown(0.3)
    yield Label.FLUID, sac
    yield Label.CORD, anatomy.cord
    for filament in anatomy.filaments:
        yield Label.ROOT, _crowded(filament, anatomy, pathologies)


def _crowded(filament: Tube, anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Tube:
    """Move a root inwards with the sac that narrows around it."""
    sac = anatomy.sac
    wide = np.interp(filament.z, sac.z, _narrowed(sac, anatomy, pathologies, 0.50).half_x)
    share = (wide / np.maximum(np.interp(filament.z, sac.z, sac.half_x), 1e-3)).astype(np.float32)
    middle = np.interp(filament.z, sac.z, sac.y_centre).astype(np.float32)
    return replace(
        filament,
        x_centre=filament.x_centre * share,
        y_centre=middle + (filament.y_centre - middle) * share,
    )


def _foramina(anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Iterator[Layer]:
    """Fat-filled exits with the ganglion in them; a stenosis leaves the root without its fat."""
    for disc in anatomy.discs.values():
        if anatomy.vertebrae[disc.above].sacral:
            continue
        for side, s in SIDES.items():
            tight = _at(pathologies, disc.level, "foraminal_stenosis")
            severity = max((p.severity for p in tight if p.side == side), default=0.0)
            centre = disc.frame.at(18 * s, disc.half_u + 5, 4)
            exit_ = Block(centre, 10, 6.5, 11.5, squared=True)
            if severity:
                yield Label.FLAVUM, Block(centre, 10, 7.0, 12.5)
            left = 1 - 0.62 * severity
            fat = replace(exit_, half_u=exit_.half_u * left, half_w=exit_.half_w * left)
            yield Label.EPIDURAL_FAT, fat
            path = anatomy.root_path(disc.level, side)
            flat = 1 - 0.35 * severity
            for (p0, r0), (p1, r1) in pairwise(path):
                yield Label.ROOT, Capsule(p0, p1, r0 * flat, r1 * flat)


def _flava(disc: DiscSpace, found: Sequence[Pathology]) -> Iterator[Layer]:
    """Ligamenta flava, thickened in a stenosis."""
    if disc.above.startswith("S") or not disc.below:
        return
    radius = 1.7 + 1.5 * _severity(found, "spinal_stenosis")
    for s in SIDES.values():
        outer = disc.frame.point(9.5 * s, disc.half_u + 12.5, 0)
        inner = disc.frame.point(3.5 * s, disc.half_u + 19.0, -2)
        yield Label.FLAVUM, Capsule(outer, inner, radius, radius)


def _cysts(anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Iterator[Layer]:
    """Synovial cyst: fluid in a dark wall between a facet joint and the sac."""
    for found in pathologies:
        if found.kind == "facet_synovial_cyst":
            disc = anatomy.discs[found.level]
            radius = 2.5 + 2.2 * found.severity
            centre = disc.frame.at(7.5 * found.sign, disc.half_u + 11.5, 0)
            yield Label.LIGAMENT, Block(centre, radius + 0.9, radius + 0.9, radius + 0.9)
            yield Label.CYST, Block(centre, radius, radius, radius)


# -------------------------------------------------------------------------------- the discs


def _disc(disc: DiscSpace, found: Sequence[Pathology]) -> Iterator[Layer]:
    """Annulus, inner annulus, nucleus with its cleft; bulge, herniation."""
    bulge = 3.6 * _severity(found, "disc_bulge")
    outer = Disc(disc.frame, disc.half_x, disc.half_u, disc.half_w, disc.slope, bulge=bulge)
    degenerated = _severity(found, "disc_degeneration") > 0
    yield Label.ANNULUS, outer
    inner = replace(
        outer,
        frame=disc.frame.at(0, 0.8, 0),
        half_x=disc.half_x * 0.86,
        half_u=disc.half_u * 0.82,
        bulge=bulge * 0.8,
    )
    yield (Label.ANNULUS if degenerated else Label.INNER_ANNULUS), inner
    nucleus = replace(
        inner,
        frame=disc.frame.at(0, 1.6, 0),
        half_x=disc.half_x * 0.72,
        half_u=disc.half_u * 0.64,
        half_w=disc.half_w * 0.82,
        bulge=0.0,
    )
    yield (Label.NUCLEUS_DEGENERATED if degenerated else disc.nucleus), nucleus
    if disc.nucleus is not Label.ANNULUS and not degenerated:
        cleft = Block(nucleus.frame, nucleus.half_x * 0.8, nucleus.half_u * 0.8, 0.7)
        yield Label.NUCLEUS_AGED, cleft
    for herniation in found:
        if herniation.kind == "disc_herniation":
            yield from _herniation(disc, herniation)


def _herniation(disc: DiscSpace, found: Pathology) -> Iterator[Layer]:
    """Nucleus that left through the annulus, beside the midline, under a dark ligament."""
    reach = 2.5 + 4.5 * found.severity
    tall = disc.half_w * 0.75 + 1.2 * found.severity
    centre = disc.frame.at(3.5 * found.sign, disc.half_u - 1.0, -1.0)
    sequester = Block(centre, 6.5 + 1.5 * found.severity, reach + 1.0, tall)
    neck = disc.frame.at(2.5 * found.sign, disc.half_u - 6.0, 0)
    yield Label.ANNULUS, sequester.grown(0.8)
    yield Label.HERNIATED, sequester
    yield Label.HERNIATED, Block(neck, 3.0, 7.0, disc.half_w * 0.4)


# -------------------------------------------------------------------------------- the bones


def _bone(shape: Block | Body | Capsule, cortex: float = _CORTEX_MM) -> Iterator[Layer]:
    yield Label.CORTICAL, shape
    yield Label.MARROW, shape.grown(-cortex)


def _rims(
    vertebra: Vertebra, anatomy: Anatomy, pathologies: Sequence[Pathology]
) -> tuple[float, float]:
    """Heights of the upper and lower rim over the body's centre [mm]."""
    rims = [vertebra.height / 2, vertebra.height / 2]
    for disc in anatomy.discs.values():
        loss = 0.3 * disc.half_w * _severity(_at(pathologies, disc.level), "disc_degeneration")
        if disc.below == vertebra.name:
            rims[0] += loss
        if disc.above == vertebra.name:
            rims[1] += loss
    return rims[0], rims[1]


def _body(
    vertebra: Vertebra, anatomy: Anatomy, pathologies: Sequence[Pathology]
) -> Iterator[Layer]:
    """Body with its cortex and basivertebral vein, then Modic changes and Schmorl nodes."""
    upper, lower = _rims(vertebra, anatomy, pathologies)
    waist = vertebra.height / 2
    hull = Body(vertebra.frame, vertebra.half_x, vertebra.half_u, upper, lower, waist)
    marrow = hull.grown(-_CORTEX_MM)
    yield from _bone(hull)
    if not vertebra.sacral:
        vein = Block(vertebra.frame.at(0, vertebra.half_u - 4, 0), 7.0, 5.5, 2.0)
        yield Label.VEIN, Both(vein, marrow)
    for disc in anatomy.discs.values():
        if vertebra.name in (disc.above, disc.below):
            edge = (upper - 1.5) if disc.below == vertebra.name else -(lower - 1.5)
            for found in _at(pathologies, disc.level):
                yield from _endplate_lesion(vertebra, marrow, edge, found)


def _endplate_lesion(
    vertebra: Vertebra, marrow: Body, edge: float, found: Pathology
) -> Iterator[Layer]:
    """Modic band along, or Schmorl node into, the endplate at height `edge`."""
    if found.kind == "modic_changes":
        depth = 3.5 + 5.0 * found.severity
        band = Block(vertebra.frame.at(0, 0, edge), marrow.half_x * 1.1, marrow.half_u * 1.1, depth)
        label = Label.MODIC_1 if found.modic_type == 1 else Label.MODIC_2
        yield label, Both(band, marrow)
    if found.kind == "schmorl_nodes" and edge < 0:  # the lower endplate is hit more often
        radius = 3.0 + 2.2 * found.severity
        hull = marrow.grown(_CORTEX_MM)
        node = Block(vertebra.frame.at(3.0 * found.sign, 2.0, edge + 0.5), radius, radius, radius)
        yield Label.CORTICAL, Both(node.grown(1.4), hull)
        yield Label.NUCLEUS_AGED, Both(node, hull)


def _arch(vertebra: Vertebra) -> Iterator[Layer]:
    """Pedicles, articular and transverse processes, laminae, spinous process."""
    frame, back = vertebra.frame, vertebra.half_u
    yield Label.INTERSPINOUS, Block(frame.at(0, back + 36, -22), 2.6, 14, 17, squared=True)
    pieces: list[Block | Capsule] = [
        Block(frame.at(0, back + 35, -11, lean=0.30), 3.6, 16.5, 9.0),
        Block(frame.at(0, back + 44, -13, lean=0.2), 3.9, 7.5, 9.0, squared=True),
    ]
    for s in SIDES.values():
        pedicle = Block(frame.at(16.5 * s, back + 2, 5.5), 4.8, 11.0, 7.2)
        lateral = frame.point(19 * s, back + 8, 5), frame.point(39 * s, back + 12, 6)
        lamina = frame.point(14.5 * s, back + 15, -3), frame.point(1 * s, back + 21.5, -9)
        pieces += [pedicle, Capsule(*lateral, 4.2, 2.8), Capsule(*lamina, 3.6, 3.9)]
    yield from _fused(pieces)
    for s in SIDES.values():
        yield from _facets(vertebra, s)
    yield Label.LIGAMENT, Block(frame.at(0, back + 52, -16), 2.0, 1.4, 24)


def _facets(vertebra: Vertebra, s: float) -> Iterator[Layer]:
    """Superior and inferior articular process of one side, capped with cartilage."""
    frame, back = vertebra.frame, vertebra.half_u
    inferior = Block(frame.at(13.5 * s, back + 18, -15), 4.8, 5.0, 11.0)
    superior = Block(frame.at(19.0 * s, back + 13.5, 12.5), 4.6, 5.2, 9.5)
    for process in (inferior, superior):
        yield Label.CARTILAGE, process.grown(0.9)
        yield from _bone(process)


def _sacrum(anatomy: Anatomy) -> Iterator[Layer]:
    """Lateral masses and roof of the sacral canal, and the iliac bones, each as one bone."""
    sacrum = [v for v in anatomy.vertebrae.values() if v.sacral]
    yield from _fused([piece for vertebra in sacrum for piece in _sacral_pieces(vertebra)])
    top = anatomy.vertebrae["S1"].frame
    for s in SIDES.values():
        plate: list[Block | Capsule] = [
            Capsule(
                (s * 50, top.y0 + 42, top.z0 + dz), (s * 96, top.y0 - 22, top.z0 + dz), 6.5, 6.5
            )
            for dz in range(-63, 36, 6)
        ]
        yield from _fused(plate)


def _sacral_pieces(vertebra: Vertebra) -> Iterator[Block]:
    """Wings at both sides, roof and crest behind the canal of one sacral vertebra."""
    frame, back, wide = vertebra.frame, vertebra.half_u, vertebra.half_x
    tall = vertebra.height / 2 + 4
    for s in SIDES.values():
        yield Block(frame.at(s * (wide + 9), 5, 0), 18, 11, tall, squared=True)
    yield Block(frame.at(0, back + 19.5, -2, lean=0.1), wide * 0.6, 3.2, tall, squared=True)
    yield Block(frame.at(0, back + 24, -2, lean=0.1), 2.6, 5.0, tall * 0.7, squared=True)


def _fused(pieces: Sequence[Block | Capsule]) -> Iterator[Layer]:
    """Pieces grown together: one cortex around all of them."""
    for piece in pieces:
        yield Label.CORTICAL, piece
    for piece in pieces:
        yield Label.MARROW, piece.grown(-_CORTEX_MM)
