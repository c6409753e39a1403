"""Images in one place in the order of time, where times differ from slice to slice too."""

import math
from itertools import pairwise
from statistics import median_low

from halfscan_plugin.parts import Located, Part

__all__ = ["CLOCKS", "PHASES", "TIMES", "by_phase", "by_time", "number_of", "orders"]

# Times since the R wave: each slice has its own heart beats, and so its own phases.
PHASES = ("TriggerTime", "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
# Times of the clock: what was acquired first comes first, whatever the slice.
CLOCKS = (
    "AcquisitionTime",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "ContentTime",
)
# Times by which the images of one place follow each other; others may be those of their making.
TIMES = (*PHASES, "AcquisitionTime", "AcquisitionDateTime", "FrameAcquisitionDateTime")


def by_phase(part: Part, keyword: str) -> list[Part]:
    """Separate by the phase of the heart beat, which each slice divides in its own way.

    The heart beats faster in one breath hold than in another, so the times of one phase differ
    between slices. Times are compared in steps of their own slice: the slices with the most images
    say which phases there are, and an image of another slice belongs to the nearest.

    Parameters
    ----------
    part : Part
        The images.
    keyword : str
        Label that holds the time since the R wave [ms].

    Returns
    -------
    list of Part
        One for each phase; `part` alone where the times do not tell.
    """
    times = {item: number_of(item, keyword) for item in part.images}
    places: dict[int, list[Located]] = {}
    for item in sorted(part.images, key=times.__getitem__):
        places.setdefault(item.place, []).append(item)
    most = max(map(len, places.values()))
    if most < 2 or not all(map(math.isfinite, times.values())):
        return [part]
    fullest = [[times[item] for item in items] for items in places.values() if len(items) == most]
    phases = [median_low(phase) for phase in zip(*fullest, strict=True)]
    ranks: dict[Located, str] = {}
    for items in places.values():
        chosen = _ranks([times[item] for item in items], phases)
        if len(set(chosen)) < len(items):
            return [part]
        ranks |= {item: str(rank + 1) for item, rank in zip(items, chosen, strict=True)}
    return part.split(f"{keyword} order", [ranks[item] for item in part.images])


def by_time(part: Part, keyword: str | None = None) -> list[Part]:
    """Separate by what was acquired, or numbered, in a row: a place that recurs begins a volume.

    Parameters
    ----------
    part : Part
        The images, in the order of their numbers.
    keyword : str, optional
        Label that holds the time; the numbers where None.

    Returns
    -------
    list of Part
        One for each volume; `part` alone where a time, or a number, is not known, or is the same
        where a volume would begin.
    """
    times = {item: number_of(item, keyword) for item in part.images}
    if not all(map(math.isfinite, times.values())):
        return [part]
    volume, seen, before = 1, set[int](), -math.inf
    ranks: dict[Located, str] = {}
    for item in sorted(part.images, key=times.__getitem__):
        if item.place in seen:
            if times[item] == before:
                return [part]
            volume, seen = volume + 1, set()
        seen.add(item.place)
        before = times[item]
        ranks[item] = str(volume)
    label = "order" if keyword is None else f"{keyword} order"
    return part.split(label, [ranks[item] for item in part.images])


def orders(part: Part, keyword: str) -> bool:
    """Tell whether a time of each image is known, and another for each image of one place."""
    times = {item: number_of(item, keyword) for item in part.images}
    distinct = {(item.place, time) for item, time in times.items()}
    return all(map(math.isfinite, times.values())) and len(distinct) == len(times)


def _ranks(times: list[float], phases: list[float]) -> list[int]:
    """Give the phase of each time of one slice."""
    if len(times) == len(phases):
        return list(range(len(phases)))
    own = _step(times) if len(times) > 1 else 0.0
    scale = _step(phases) / own if own > 0 else 1.0
    return [
        min(range(len(phases)), key=lambda rank: abs(phases[rank] - time * scale)) for time in times
    ]


def number_of(item: Located, keyword: str | None) -> float:
    """Give a label's value as a number, or the number of the image; NaN where it is none."""
    if keyword is None:
        return math.nan if item.image.number is None else float(item.image.number)
    try:
        return float(item.labels.get(keyword, ""))
    except ValueError:
        return math.nan


def _step(times: list[float]) -> float:
    return median_low([later - earlier for earlier, later in pairwise(times)])
