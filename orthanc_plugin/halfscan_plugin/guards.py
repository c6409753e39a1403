"""Guards: a result that went too far from its source is not stored.

Each slice is compared with its own source, in standard deviations of its noise, because noise is
what a reconstruction takes away.

`Reconstructor` itself moves no pixel by more than 10 noise SDs; a network that would have to be
held back in many pixels is refused here, and so is whatever else went wrong between source and
result.

The limits were set from the shipped network on simulated exams and real series of five vendors;
`benchmarks/guards.py` measures how much of them good results use.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from halfscan_plugin.errors import GuardFailed
from halfscan_plugin.headers import integer, text
from halfscan_plugin.volume import SeriesVolume, stored_values

if TYPE_CHECKING:
    from halfscan_models.reconstruct import Reconstruction

__all__ = ["GUARDS", "Guard", "SliceFigures", "check", "measure"]

Image = npt.NDArray[np.floating[Any]]  # (row, column)

BRIGHT = 99.0  # percentile of the source's pixels that stands for its bright signal
# A pixel is far from its source beyond so many noise SDs and this share of the bright signal.
FAR_SD = 5.0
FAR_SHARE = 0.05
# Figures of so many slices stand in the ledger one by one, those of more as a summary.
MOST_LISTED = 2000
DIGITS = 4  # significant ones
# What the reconstruction itself says of each slice (`SliceQuality`), beside what is measured here.
FROM_QUALITY = ("mean_change", "structured_share", "applied")


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """How far the result of one slice went from its source.

    Attributes
    ----------
    noise_before, noise_after : float
        Estimated noise standard deviation [units of the volume].
    signal : float
        Bright signal of the source, its 99th percentile [noise_before].
    rms_change, largest_change : float
        Root mean square and largest absolute difference [noise_before].
    mean_shift : float
        Mean difference [noise_before]; negative where the bias of magnitude noise is taken away.
    range_excess : float
        How far the result goes beyond the smallest and largest value of its source [noise_before].
    far_share : float
        Share of the pixels that changed by more than 5 noise SDs and 5 % of the bright signal.
    limited_share : float
        Share of the pixels in which the network was held back.
    clipped_share : float
        Share of the pixels that the stored bits cannot hold, and that lose more than one noise SD
        and 5 % of the bright signal by it. A source that fills its bits to the brim, as some
        scanners scale every slice, loses next to nothing.
    """

    noise_before: float
    noise_after: float
    signal: float
    rms_change: float
    largest_change: float
    mean_shift: float
    range_excess: float
    far_share: float
    limited_share: float
    clipped_share: float

    @property
    def noise_ratio(self) -> float:
        """Noise after over noise before; 0 where there was none."""
        return self.noise_after / self.noise_before if self.noise_before > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Guard:
    """One limit.

    Parameters
    ----------
    name : str
        Static word.
    value : callable
        The figure that is limited.
    says : str
        What it is, for people.
    limit : float
        Largest figure that passes.
    of_signal : float
        What is added to the limit for each noise SD of the bright signal.
    """

    name: str
    value: Callable[[SliceFigures], float]
    says: str
    limit: float
    of_signal: float = 0.0

    def limit_for(self, figures: SliceFigures) -> float:
        """Give the limit for a slice."""
        return self.limit + self.of_signal * figures.signal


GUARDS = (
    # Good results: up to 5.8 SDs; 48 % of the limit.
    Guard("range", lambda f: f.range_excess, "noise SDs beyond its source's range", 12.0),
    # Good results: none. A bright pixel that does not fit shows as a flat spot.
    Guard("clipped", lambda f: f.clipped_share, "of the pixels lose by BitsStored", 0.001),
    # Good results: up to 1.4 SDs; 47 %.
    Guard("rms_change", lambda f: f.rms_change, "noise SDs RMS from its source", 3.0),
    # Good results: 10 SDs, where `Reconstructor` stops; 67 %.
    Guard("largest_change", lambda f: f.largest_change, "noise SDs at one pixel", 15.0),
    # Good results: up to 0.4 SDs; 25 %. Air alone shifts by 1.25, the mean of Rayleigh noise.
    Guard("mean_shift", lambda f: abs(f.mean_shift), "noise SDs mean shift", 1.5, 0.01),
    # Good results: none in most series, 1.1 % in diffusion images of 1,300 SDs; 23 %.
    Guard("limited", lambda f: f.limited_share, "of the pixels had to be held back", 0.05),
    # Good results: none.
    Guard("far_pixels", lambda f: f.far_share, "of the pixels are far from their source", 0.02),
    # Good results: half of the noise is left, and nearly all where the signal is so high that
    # little of the network's answer is used; 71 %.
    Guard("noise", lambda f: f.noise_ratio, "times the noise of its source", 1.4),
)


def check(source: SeriesVolume, result: "Reconstruction") -> dict[str, Any]:
    """Compare a result with its source, slice by slice.

    Parameters
    ----------
    source : SeriesVolume
        The series.
    result : Reconstruction
        What became of it.

    Returns
    -------
    dict
        The figures for the ledger, JSON-able: model and strength, how many slices lie outside what
        the model was trained on, smallest, median and largest of each figure over the slices, and
        the figures themselves as columns.

    Raises
    ------
    GuardFailed
        If a slice fails a guard; the message names the guard, the slice, its source, value and
        limit.
    """
    figures = []
    failures: list[tuple[Guard, int]] = []
    for index in range(len(source)):
        _check_finite(source, result, index)
        figures.append(measure(source, result, index))
        failed = [g for g in GUARDS if g.value(figures[-1]) > g.limit_for(figures[-1])]
        failures += [(failed[0], index)] if failed else []
    if failures:
        guard, index = failures[0]
        value, limit = guard.value(figures[index]), guard.limit_for(figures[index])
        raise GuardFailed(
            guard.name,
            f"guard {guard.name}: {_name(source, index)}: {value:.4g} {guard.says}, at most "
            f"{limit:.4g} pass; {len(failures)} of {len(figures)} slices fail a guard",
            {
                "guard": guard.name,
                "slice": index + 1,
                "value": _short(value),
                "limit": _short(limit),
                "n_slices": len(figures),
                "n_failed": len(failures),
                "figures": {name: _short(one) for name, one in asdict(figures[index]).items()},
            },
        )
    return _table(source, result, figures)


def measure(source: SeriesVolume, result: "Reconstruction", index: int) -> SliceFigures:
    """Measure how far the result of one slice went from its source.

    A slice without noise is left as it was: should it have changed all the same, the change counts
    as if one step of the stored values were the noise.
    """
    inside = ~source.padding[index]
    before = source[index][inside].astype(np.float64)
    change = result.volume[index][inside].astype(np.float64) - before
    noise = float(result.noise_sd[index])
    unit = noise or abs(float(source.slopes[index])) or 1.0
    if before.size == 0:
        return SliceFigures(noise, noise, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    after = before + change
    signal = float(np.percentile(before, BRIGHT))
    excess = max(float(after.max() - before.max()), float(before.min() - after.min()), 0.0)
    kept = stored_values(source, result.volume, index)[0].astype(np.float64)
    kept -= source.stored[index]
    lost = np.abs(change) - np.abs(kept[inside] * float(source.slopes[index]))
    return SliceFigures(
        noise_before=noise,
        noise_after=result.quality.slices[index].noise_after,
        signal=signal / unit,
        rms_change=float(np.sqrt(np.mean(change**2))) / unit,
        largest_change=float(np.abs(change).max()) / unit,
        mean_shift=float(change.mean()) / unit,
        range_excess=excess / unit,
        far_share=float(np.mean(np.abs(change) > FAR_SD * unit + FAR_SHARE * signal)),
        limited_share=result.quality.slices[index].limited_share,
        clipped_share=float(np.mean(lost > unit + FAR_SHARE * signal)),
    )


def _check_finite(source: SeriesVolume, result: "Reconstruction", index: int) -> None:
    bad = int(np.count_nonzero(~np.isfinite(result.volume[index])))
    if bad:
        raise GuardFailed(
            "finite",
            f"guard finite: {_name(source, index)}: {bad} pixels are NaN or infinite, 0 pass",
            {"guard": "finite", "slice": index + 1, "value": bad, "limit": 0},
        )


def _name(source: SeriesVolume, index: int) -> str:
    place = source.slices[index]
    uid = text(source.sources[place.source], "SOPInstanceUID")
    frame = f", frame {place.frame + 1}" if place.frame else ""
    return f"slice {index + 1} of {len(source.slices)} (source {uid}{frame})"


def _table(
    source: SeriesVolume, result: "Reconstruction", figures: Sequence[SliceFigures]
) -> dict[str, Any]:
    """Turn the figures into columns: a thousand slices are some 70 kB of JSON."""
    rows = [
        asdict(item) | {name: getattr(one, name) for name in FROM_QUALITY}
        for item, one in zip(figures, result.quality.slices, strict=True)
    ]
    columns = {name: [_short(row[name]) for row in rows] for name in rows[0]}
    outside = [list(one.outside) for one in result.quality.slices]
    table: dict[str, Any] = {
        "model": result.quality.model,
        "version": result.quality.version,
        "sha256": result.quality.sha256,
        "strength": result.quality.strength,
        "n_slices": len(figures),
        "n_outside": sum(map(bool, outside)),
        "summary": {name: _summary(values) for name, values in columns.items()},
    }
    if len(figures) <= MOST_LISTED:
        places = source.slices
        numbers = [integer(source.sources[p.source], "InstanceNumber") for p in places]
        table["slices"] = {"instance_number": numbers, **columns, "outside": outside}
        if any(place.frame for place in places):
            table["slices"]["frame"] = [place.frame + 1 for place in places]
    return table


def _summary(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"min": None, "median": None, "max": None}
    return {"min": min(known), "median": _short(float(np.median(known))), "max": max(known)}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
