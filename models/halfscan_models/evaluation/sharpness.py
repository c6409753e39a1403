"""Sharpness: 10-90 % width of known edges, standard scan against network.

An edge-spread function is averaged over all points of a kind of edge: profiles across the edge,
aligned and scaled by the noise-free image, so that noise cannot choose the alignment and every arm
is treated alike. What is averaged is nearly free of noise; its width is read off by interpolation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from halfscan_models.evaluation.arms import Arms, Gallery
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.simulation.tissues import Label

__all__ = ["EDGES", "EdgeProfile", "edge_profiles", "edge_width_mm", "sharpness_measures"]

Array = npt.NDArray[np.float64]

SECTION = "Sharpness"
_DISC = (
    Label.ANNULUS,
    Label.INNER_ANNULUS,
    Label.NUCLEUS,
    Label.NUCLEUS_AGED,
    Label.NUCLEUS_DEGENERATED,
)
# Kind of edge: what lies on one side and what on the other (None: anything else).
EDGES: Mapping[str, tuple[tuple[Label, ...], tuple[Label, ...] | None]] = MappingProxyType(
    {
        "disc": (_DISC, None),
        "cord": ((Label.CORD,), (Label.FLUID,)),
        "cortical": ((Label.CORTICAL,), (Label.MARROW,)),
    }
)
_REACH_MM, _STEP_MM = 3.5, 0.1
_OFFSETS = np.arange(-_REACH_MM, _REACH_MM + _STEP_MM / 2, _STEP_MM)
_KEPT_MM = 2.0
_KEPT = np.arange(-_KEPT_MM, _KEPT_MM + _STEP_MM / 2, _STEP_MM)
_SEARCH_MM = 1.5
_CONTRAST = 0.08  # of the 99th percentile; fainter edges are left out
_ARMS = ("truth", "standard", "accelerated", "network")


@dataclass(frozen=True, slots=True, eq=False)
class EdgeProfile:
    """Mean edge-spread functions of one patient, sequence and kind of edge.

    Attributes
    ----------
    patient : int
        Seed of the patient.
    sequence, edge : str
        Where.
    points : int
        Profiles in the mean.
    profiles : dict of str to ndarray
        By arm, rising from about 0 to about 1, in steps of 0.1 mm.
    """

    patient: int
    sequence: str
    edge: str
    points: int
    profiles: dict[str, Array]


def edge_profiles(gallery: Gallery, sequences: Sequence[str]) -> list[EdgeProfile]:
    """Edge-spread functions in the midline slice of a patient's sagittal sequences."""
    found: list[EdgeProfile] = []
    for sequence in sequences:
        index = gallery.midline(sequence)
        labels = gallery.patient.labels(sequence, index)
        arms = gallery.arms(sequence, index)
        pixel_mm = gallery.patient.stack(sequence).pixel_mm
        for edge, (inside, outside) in EDGES.items():
            within = np.isin(labels, inside)
            beyond = ~within if outside is None else np.isin(labels, outside)
            points, normals = _edge_points(within, beyond)
            profile = _mean_profile(arms, points, normals, pixel_mm)
            if profile is not None:
                found.append(EdgeProfile(gallery.patient.seed, sequence, edge, *profile))
    return found


def _edge_points(
    within: npt.NDArray[np.bool_], beyond: npt.NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Pixels of one side that touch the other, with the direction across the edge, (2, n)."""
    distance = distance_transform_edt(within) - distance_transform_edt(~within)
    smooth = gaussian_filter(np.asarray(distance, np.float64), 1.5)
    slope = np.stack(np.gradient(smooth))
    near = distance_transform_edt(~beyond) <= 1.0
    frame = np.zeros_like(within)
    frame[8:-8, 8:-8] = True
    steep = np.hypot(*slope) > 0.3
    where = np.nonzero(within & near & frame & steep)
    normal = slope[:, where[0], where[1]]
    return np.asarray(where, np.float64), normal / np.hypot(*normal)


def _mean_profile(
    arms: Arms, points: Array, normals: Array, pixel_mm: float
) -> tuple[int, dict[str, Array]] | None:
    """Align, scale and average the profiles of all points; None where no edge is clear."""
    if points.shape[1] == 0:
        return None
    places = points[:, :, None] + normals[:, :, None] * (_OFFSETS / pixel_mm)
    profiles = {
        name: map_coordinates(image.astype(np.float64), places, order=3, mode="nearest")
        for name, image in arms.by_name().items()
    }
    least = _CONTRAST * float(np.percentile(arms.truth, 99))
    sums = {name: np.zeros(_KEPT.size) for name in _ARMS}
    count = 0
    for number, truth in enumerate(profiles["truth"]):
        edge = _clear_edge(truth, least)
        if edge is None:
            continue
        middle, low, high = edge
        count += 1
        for name in _ARMS:
            moved = np.interp(_KEPT + middle, _OFFSETS, profiles[name][number])
            # Falling edges are turned, so that all rise.
            scaled = (moved - low) / (high - low)
            sums[name] += scaled
    return None if count == 0 else (count, {name: sums[name] / count for name in _ARMS})


def _clear_edge(profile: Array, least: float) -> tuple[float, float, float] | None:
    """Place [mm] of the half height and the two levels of the steepest edge near the middle."""
    slope = np.gradient(profile)
    search = np.flatnonzero(np.abs(_OFFSETS) <= _SEARCH_MM)
    steepest = int(search[np.argmax(np.abs(slope[search]))])
    rising = np.sign(slope[steepest]) * slope > 0
    first = last = steepest
    while first > 0 and rising[first - 1]:
        first -= 1
    while last < profile.size - 1 and rising[last + 1]:
        last += 1
    low, high = float(profile[first]), float(profile[last])
    if abs(high - low) < least or last - first < round(1.0 / _STEP_MM):
        return None
    part = profile[first : last + 1]
    heights = (part - low) / (high - low)
    middle = float(np.interp(0.5, np.maximum.accumulate(heights), _OFFSETS[first : last + 1]))
    return (middle, low, high) if abs(middle) <= _SEARCH_MM else None


def edge_width_mm(profile: npt.ArrayLike, step_mm: float = _STEP_MM) -> float:
    """10-90 % width of a rising edge-spread function [mm].

    The levels are the extremes on either side of the middle; the two crossings are those nearest
    the middle, linearly interpolated.

    Parameters
    ----------
    profile : array_like
        Values at equal steps; the edge lies about in the middle.
    step_mm : float
        Distance between values [mm].
    """
    values = np.asarray(profile, np.float64)
    middle = values.size // 2
    start = int(np.argmin(values[: middle + 1]))
    end = middle + int(np.argmax(values[middle:]))
    low, high = values[start], values[end]
    rising = np.maximum.accumulate((values[start : end + 1] - low) / (high - low))
    positions = np.arange(rising.size) * step_mm
    # A rise without plateaus: interpolate the first place that reaches each height.
    first = np.concatenate([[True], np.diff(rising) > 0])
    ten, ninety = np.interp([0.1, 0.9], rising[first], positions[first])
    return float(ninety - ten)


def sharpness_measures(profiles: Sequence[EdgeProfile]) -> list[Measure]:
    """Width of each kind of edge in each sequence, and the share of sharper data sets."""
    measures: list[Measure] = []
    for sequence, edge in dict.fromkeys((p.sequence, p.edge) for p in profiles):
        group = [p for p in profiles if (p.sequence, p.edge) == (sequence, edge)]
        weights = [p.points for p in group]
        width = {
            arm: edge_width_mm(np.average([p.profiles[arm] for p in group], 0, weights))
            for arm in _ARMS
        }
        measures.append(
            Measure(
                SECTION,
                f"{sequence}, {edge} edge: 10-90 % width, network against standard",
                (100 * (width["network"] / width["standard"] - 1),),
                "%",
                Bar("at most", 2.0),
                f"network {width['network']:.3f} mm, standard {width['standard']:.3f} mm, "
                f"without noise {width['truth']:.3f} mm; {sum(weights)} profiles of "
                f"{len(group)} patients",
                digits=1,
            )
        )
    return [*measures, *_sharper_share(profiles)]


def _sharper_share(profiles: Sequence[EdgeProfile]) -> list[Measure]:
    """Data sets (a patient's sequence) whose edges are, on average, no wider in the network."""
    ratios: dict[str, list[float]] = {"standard": [], "accelerated": []}
    numbered = _data_sets(profiles)
    for group in numbered:
        widths = {
            arm: float(np.mean([edge_width_mm(p.profiles[arm]) for p in group])) for arm in _ARMS
        }
        for arm, found in ratios.items():
            found.append(widths["network"] / widths[arm])
    note = f"{len(numbered)} data sets; mean width over the kinds of edge"
    return [
        Measure(
            "Regulator's bar",
            f"boundaries sharper than in the {arm} scan",
            (100 * float(np.mean(np.array(found) < 1.0)),),
            "% of data sets",
            Bar("at least", 90.0),
            f"{note}; median ratio of widths {np.median(found):.3f}",
            digits=0,
        )
        for arm, found in ratios.items()
        if found
    ]


def _data_sets(profiles: Sequence[EdgeProfile]) -> list[list[EdgeProfile]]:
    """Group the profiles by patient and sequence."""
    keys = dict.fromkeys((p.patient, p.sequence) for p in profiles)
    return [[p for p in profiles if (p.patient, p.sequence) == key] for key in keys]
