"""Small lesions: whether their contrast is kept, and whether any appears where there is none.

A lesion is put into the object before the coils see it, and the same slice is scanned with it and
without it, with the same noise. The difference of the two restored images, projected on the
difference of the two noise-free ones, is the share of the contrast that is kept: 1 for a
reconstruction that keeps it, less where it is smoothed away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, convolve, label

from halfscan_models.evaluation.arms import Gallery
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.evaluation.scans import Patient, ScannedSlice
from halfscan_models.simulation.anatomy import Anatomy
from halfscan_models.simulation.arrays import ComplexArray, Point
from halfscan_models.simulation.geometry import SliceStack
from halfscan_models.simulation.pathology import LEVELS, Pathology
from halfscan_models.simulation.tissues import Label

__all__ = [
    "CONTRASTS",
    "DIAMETERS_MM",
    "FalseLesions",
    "KeptContrast",
    "ellipse_cover",
    "false_lesions",
    "kept_contrasts",
    "lesion_measures",
    "projected_share",
    "schmorl_contrasts",
]

Array = npt.NDArray[np.float64]

SECTION = "Small lesions"
DIAMETERS_MM = (2.0, 3.0, 4.0, 6.0)
CONTRASTS = (0.05, 0.10, 0.20, 0.30)
# Places in each vertebral body, behind and above its centre [mm], far enough apart that no lesion
# reaches another's window.
_PLACES_MM = ((-8.0, -6.0), (-8.0, 6.0), (6.0, -7.0), (6.0, 7.0))
_FISSURE_MM = (1.5, 5.0)  # depth and height of an annular fissure's bright zone
_FISSURE_CONTRAST = 0.30
_FINE = 9  # points along each axis of a pixel at which a lesion's cover is looked up
_MARGIN_MM = 2.5
# A false lesion: contrast of a disc against its ring that differs from the truth by this share of
# the local signal.
_FALSE_CONTRAST = 0.10
_ERODED_MM = 3.0


@dataclass(frozen=True, slots=True)
class KeptContrast:
    """Contrast of one lesion, summed so that lesions can be pooled.

    Attributes
    ----------
    kind : {"lesion", "fissure", "schmorl"}
        What was put in.
    sequence : str
        Where.
    diameter_mm, contrast : float
        Size and contrast against the tissue around; 0 for Schmorl nodes, which have their own.
    power : float
        Sum of the squared noise-free difference.
    network, accelerated : float
        Sum of the product of the difference with the noise-free one: of the restored images and
        of their input.
    """

    kind: str
    sequence: str
    diameter_mm: float
    contrast: float
    power: float
    network: float
    accelerated: float


@dataclass(frozen=True, slots=True)
class FalseLesions:
    """Places in one slice that look like a lesion and are none.

    Attributes
    ----------
    sequence : str
        Where.
    standard, accelerated, network : int
        How many there are in each image.
    invented : int
        Those of the network where its own input shows less than half of that contrast.
    """

    sequence: str
    standard: int
    accelerated: int
    network: int
    invented: int


@dataclass(frozen=True, slots=True)
class _Planned:
    """A lesion to be put in: centre [mm], half axes along y and z [mm], signed contrast."""

    kind: str
    centre: Point
    halves_mm: tuple[float, float]
    diameter_mm: float
    contrast: float


def projected_share(difference: npt.ArrayLike, wanted: npt.ArrayLike) -> float:
    """Least-squares factor between a difference and the wanted one: 1 where it is kept."""
    found, true = np.asarray(difference, np.float64), np.asarray(wanted, np.float64)
    return float(np.sum(found * true) / np.sum(true * true))


def kept_contrasts(gallery: Gallery, sequences: Sequence[str]) -> list[KeptContrast]:
    """Put lesions and fissures into a patient's midline slice and see what is kept."""
    found: list[KeptContrast] = []
    for sequence in sequences:
        index = gallery.midline(sequence)
        stack = gallery.patient.stack(sequence)
        arms = gallery.arms(sequence, index)
        planned = list(_planned(gallery.patient.anatomy, gallery.patient.seed))
        extra = _encoded(gallery.patient, arms.scan, planned)
        noisy = arms.scan.measured("accelerated", extra=extra)
        changes = {
            "truth": arms.scan.noise_free(extra=extra) - arms.truth,
            "accelerated": noisy - arms.accelerated,
            "network": gallery.restore(noisy) - arms.network,
        }
        for lesion in planned:
            window = _window(stack, lesion.centre, max(lesion.halves_mm) + _MARGIN_MM)
            found.append(
                _kept(changes, window, lesion.kind, sequence, lesion.diameter_mm, lesion.contrast)
            )
    return found


def schmorl_contrasts(
    gallery: Gallery, sequences: Sequence[str], *, matrix_scale: float
) -> list[KeptContrast]:
    """Give a patient Schmorl nodes at three levels, and see what is kept of them."""
    found: list[KeptContrast] = []
    levels = LEVELS[:3]
    nodes = [Pathology("schmorl_nodes", level, severity=0.6) for level in levels]
    healthy = tuple(p for p in gallery.patient.pathologies if p.kind != "schmorl_nodes")
    seed = gallery.patient.seed
    sides = [
        Gallery(Patient(seed, matrix_scale=matrix_scale, pathologies=chosen), gallery.restore)
        for chosen in (healthy, (*healthy, *nodes))
    ]
    for sequence in sequences:
        index = gallery.midline(sequence)
        stack = gallery.patient.stack(sequence)
        without, given = (side.arms(sequence, index).by_name() for side in sides)
        changes = {name: given[name] - without[name] for name in given}
        for level in levels:
            vertebra = gallery.patient.anatomy.vertebrae[level.split("/", maxsplit=1)[0]]
            centre = vertebra.frame.point(0, 2.0, -vertebra.height / 2 + 2.0)
            window = _window(stack, centre, 9.0)
            found.append(_kept(changes, window, "schmorl", sequence, 0.0, 0.0))
    return found


def _kept(
    changes: dict[str, npt.NDArray[np.float32]],
    window: tuple[slice, slice],
    kind: str,
    sequence: str,
    diameter_mm: float,
    contrast: float,
) -> KeptContrast:
    wanted, network, accelerated = (
        changes[name][window].astype(np.float64) for name in ("truth", "network", "accelerated")
    )
    return KeptContrast(
        kind,
        sequence,
        diameter_mm,
        contrast,
        float(np.sum(wanted * wanted)),
        float(np.sum(network * wanted)),
        float(np.sum(accelerated * wanted)),
    )


def _planned(anatomy: Anatomy, seed: int) -> Iterator[_Planned]:
    """Twenty lesions in the bodies L1 to L5, five fissures; each patient shifts the combinations.

    Bright and dark lesions take turns.
    """
    combinations = [(d, c) for d in DIAMETERS_MM for c in CONTRASTS]
    number = 5 * seed
    for name, vertebra in anatomy.vertebrae.items():
        if not name.startswith("L"):
            continue
        for u, w in _PLACES_MM:
            diameter, contrast = combinations[number % len(combinations)]
            sign = 1.0 if (number // len(combinations) + number) % 2 else -1.0
            half = diameter / 2
            centre = vertebra.frame.point(0, u, w)
            yield _Planned("lesion", centre, (half, half), diameter, sign * contrast)
            number += 1
    for level in LEVELS:
        disc = anatomy.discs[level]
        centre = disc.frame.point(0, disc.half_u - 3.0, 0)
        halves = (_FISSURE_MM[0] / 2, _FISSURE_MM[1] / 2)
        yield _Planned("fissure", centre, halves, _FISSURE_MM[0], _FISSURE_CONTRAST)


def _encoded(patient: Patient, scan: ScannedSlice, planned: Sequence[_Planned]) -> ComplexArray:
    """Raw data of all lesions: what each adds to the signal that is there without it."""
    tissue = scan.acquired_image()
    plan = patient.plan(scan.sequence.plane)
    mesh = plan.mesh(np.zeros(1, np.float32), tissue.shape)
    y, z = mesh["y"].astype(np.float64), mesh["z"].astype(np.float64)
    total = np.zeros_like(tissue)
    for lesion in planned:
        cover = ellipse_cover(z, lesion.centre[2], lesion.halves_mm[1], y, lesion.centre[1],
                       lesion.halves_mm[0])  # fmt: skip
        local = complex(np.sum(tissue * cover) / np.sum(cover))
        total += (lesion.contrast * local * cover).astype(np.complex64)
    return scan.encode(total)


def ellipse_cover(
    rows: Array,
    row_mm: float,
    row_half: float,
    columns: Array,
    column_mm: float,
    column_half: float,
) -> Array:
    """Share of each pixel that an ellipse covers, looked up at points within the pixel."""
    steps = (np.arange(_FINE) + 0.5) / _FINE - 0.5
    fine_rows = rows[:, None] + steps * abs(rows[1] - rows[0])
    fine_columns = columns[:, None] + steps * abs(columns[1] - columns[0])
    near_rows = np.abs(rows - row_mm) <= row_half + 2.0
    near_columns = np.abs(columns - column_mm) <= column_half + 2.0
    v = ((fine_rows[near_rows] - row_mm) / row_half) ** 2
    u = ((fine_columns[near_columns] - column_mm) / column_half) ** 2
    inside = v[:, None, :, None] + u[None, :, None, :] <= 1.0
    cover = np.zeros((rows.size, columns.size))
    cover[np.ix_(near_rows, near_columns)] = inside.mean(axis=(2, 3))
    return cover


def _window(stack: SliceStack, centre: Point, half_mm: float) -> tuple[slice, slice]:
    _, row, column = stack.to_index(centre)
    reach = half_mm / stack.pixel_mm
    return tuple(  # type: ignore[return-value]
        slice(max(0, round(place - reach)), round(place + reach) + 1) for place in (row, column)
    )


# --- false lesions ---


def false_lesions(gallery: Gallery, sequences: Sequence[str]) -> list[FalseLesions]:
    """Count what looks like a lesion of 2 to 6 mm in marrow that holds none."""
    found: list[FalseLesions] = []
    for sequence in sequences:
        index = gallery.midline(sequence)
        pixel_mm = gallery.patient.stack(sequence).pixel_mm
        marrow = gallery.patient.labels(sequence, index) == Label.MARROW
        inner = binary_erosion(marrow, iterations=max(1, round(_ERODED_MM / pixel_mm)))
        images = gallery.arms(sequence, index).by_name()
        found.append(_count_false(images, inner, pixel_mm, sequence))
    return found


def _count_false(
    images: dict[str, npt.NDArray[np.float32]],
    inner: npt.NDArray[np.bool_],
    pixel_mm: float,
    sequence: str,
) -> FalseLesions:
    truth = images["truth"].astype(np.float64)
    counts = dict.fromkeys(("standard", "accelerated", "network", "invented"), 0)
    for diameter in DIAMETERS_MM:
        kernel, mean = _disc_against_ring(diameter, pixel_mm)
        level = np.maximum(convolve(truth, mean), 1e-6 * float(truth.max()))
        contrast = {
            name: convolve(images[name].astype(np.float64) - truth, kernel) / level
            for name in ("standard", "accelerated", "network")
        }
        for name, values in contrast.items():
            counts[name] += _places(values, inner)[1]
        where, number = _places(contrast["network"], inner)
        for place in range(1, number + 1):
            at = where == place
            seen = contrast["accelerated"][at]
            shown = contrast["network"][at]
            peak = int(np.argmax(np.abs(shown)))
            counts["invented"] += int(np.sign(shown[peak]) * seen[peak] < _FALSE_CONTRAST / 2)
    return FalseLesions(sequence, **counts)


def _places(contrast: Array, inner: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    where, number = label((np.abs(contrast) >= _FALSE_CONTRAST) & inner)
    return np.asarray(where, np.int32), int(number)


def _disc_against_ring(diameter_mm: float, pixel_mm: float) -> tuple[Array, Array]:
    """Kernels of a disc's mean less its ring's, and of the mean over both."""
    half = int(np.ceil((diameter_mm / 2 + 2.0) / pixel_mm))
    axis = np.arange(-half, half + 1) * pixel_mm
    distance = np.hypot(axis[:, None], axis[None, :])
    disc = (distance <= max(diameter_mm / 2, 0.6 * pixel_mm)).astype(np.float64)
    ring = ((distance > diameter_mm / 2 + 0.5) & (distance <= diameter_mm / 2 + 2.0)).astype(
        np.float64
    )
    both = disc + ring
    return disc / disc.sum() - ring / ring.sum(), both / both.sum()


# --- the rows of the table ---


def lesion_measures(kept: Sequence[KeptContrast], false: Sequence[FalseLesions]) -> list[Measure]:
    """Contrast kept by size, by contrast, of fissures and nodes; false lesions."""
    kept_bar = Bar("at most", 5.0)
    measures: list[Measure] = []
    for name, group in _groups(kept):
        share = sum(k.network for k in group) / sum(k.power for k in group)
        before = sum(k.accelerated for k in group) / sum(k.power for k in group)
        measures.append(
            Measure(
                SECTION,
                f"{name}: contrast lost or gained",
                (100 * abs(share - 1),),
                "%",
                kept_bar,
                f"kept {100 * share:.1f} % (its input {100 * before:.1f} %) over {len(group)}",
                digits=1,
            )
        )
    if false:
        sums = {
            name: sum(getattr(f, name) for f in false)
            for name in ("standard", "accelerated", "network", "invented")
        }
        measures.append(
            Measure(
                SECTION,
                "false lesions that the network's input does not show",
                (float(sums["invented"]),),
                "places",
                Bar("at most", 0),
                f"contrast of 10 % in healthy marrow, {len(false)} slices",
                digits=0,
            )
        )
        if sums["standard"]:
            measures.append(
                Measure(
                    SECTION,
                    "false lesions in all, network over standard",
                    (sums["network"] / sums["standard"],),
                    "",
                    Bar("at most", 1.0),
                    "chance noise of 10 % contrast in healthy marrow: standard "
                    f"{sums['standard']}, accelerated {sums['accelerated']}, network "
                    f"{sums['network']}",
                )
            )
    return measures


def _groups(kept: Sequence[KeptContrast]) -> Iterator[tuple[str, list[KeptContrast]]]:
    lesions = [k for k in kept if k.kind == "lesion"]
    for diameter in DIAMETERS_MM:
        group = [k for k in lesions if k.diameter_mm == diameter]
        if group:
            yield f"{diameter:g} mm, contrast 5 to 30 %", group
    for contrast in CONTRASTS:
        group = [k for k in lesions if abs(abs(k.contrast) - contrast) < 1e-9]
        if group:
            yield f"contrast {100 * contrast:g} %, 2 to 6 mm", group
    for kind, name in (("fissure", "annular fissures"), ("schmorl", "Schmorl nodes")):
        group = [k for k in kept if k.kind == kind]
        if group:
            yield name, group
