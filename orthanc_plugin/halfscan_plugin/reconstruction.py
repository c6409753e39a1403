"""One series from its objects to its derived objects: what the worker and `reconstruct` share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import Dataset

from halfscan_models import load_reconstructor
from halfscan_models.reconstruct import Reconstructor
from halfscan_models.registry import WEIGHTS
from halfscan_plugin.derived import DerivedSeries, Provenance, derive, series_uid
from halfscan_plugin.errors import BadInput
from halfscan_plugin.headers import integer
from halfscan_plugin.volume import read_volume

__all__ = ["Engine", "Outcome"]

FIRST_DERIVED_NUMBER = 1000  # added to the source's SeriesNumber, then the next free one
LARGEST_NUMBER = 2**31 - 1  # of an IS, PS3.5 section 6.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """A derived series with what is worth knowing about its making.

    Parameters
    ----------
    series : DerivedSeries
        The objects.
    provenance : Provenance
        Model and settings.
    timings_s : dict of str to float
        Seconds for each step.
    quality : dict
        The reconstructor's figures, JSON-able.
    warnings : tuple of str
        What someone should look at.
    """

    series: DerivedSeries
    provenance: Provenance
    timings_s: dict[str, float]
    quality: dict[str, Any]
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Give what the ledger and the report of a folder both say of it, JSON-able."""
        return {
            "derived_series_instance_uid": self.series.series_instance_uid,
            "model_name": self.provenance.model_name,
            "model_version": self.provenance.model_version,
            "model_sha256": self.provenance.model_sha256,
            "strength": self.provenance.strength,
            "timings_s": self.timings_s,
            "quality": self.quality,
            "warnings": list(self.warnings),
        }


class Engine:
    """A loaded model, ready for any number of series.

    Parameters
    ----------
    model : str, optional
        Name of the model; the default one where None.
    device : str
        ``"cpu"`` or ``"cuda"``.
    strength : float
        Share of the network's result in the blend, 0 to 1.
    threads : int
        Processor threads for the network; all cores where None.
    weights : Path, optional
        Folder with ``models.json`` and the weights; the package's own where None.

    Raises
    ------
    BadInput
        If `strength` is outside 0 to 1.
    ModelsError
        If the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        device: str = "cpu",
        strength: float = 1.0,
        threads: int | None = None,
        weights: Path | None = None,
    ) -> None:
        if not 0 <= strength <= 1:
            raise BadInput(f"strength must be between 0 and 1, got {strength!r}")
        self._reconstructor: Reconstructor = load_reconstructor(
            model, device=device, threads=threads, weights=weights or WEIGHTS
        )
        spec = self._reconstructor.spec
        self.provenance = Provenance(
            model_name=spec.name,
            model_version=spec.version,
            model_sha256=spec.sha256,
            strength=strength,
            software_version=version("halfscan"),
        )

    def run(
        self,
        datasets: Sequence[Dataset],
        taken_numbers: dict[str, int],
        progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Reconstruct one series.

        Parameters
        ----------
        datasets : sequence of Dataset
            Its objects, with pixels.
        taken_numbers : dict of str to int
            SeriesNumber of the study's series, by SeriesInstanceUID.
        progress : callable, optional
            Called with (slices done, all).

        Raises
        ------
        UnreadableSeries
            If the pixels cannot be used; the message says why.
        """
        started = time.perf_counter()
        source = read_volume(datasets)
        decoded = time.perf_counter()
        result = self._reconstructor.reconstruct(
            source.volume, strength=self.provenance.strength, progress=progress
        )
        reconstructed = time.perf_counter()
        number = free_number(source.sources, taken_numbers, self.provenance)
        series = derive(source, result.volume, self.provenance, series_number=number)
        warnings = []
        if series.clipped_pixels:
            warnings.append(
                f"{series.clipped_pixels} pixels were clipped to what BitsStored can hold"
            )
        return Outcome(
            series=series,
            provenance=self.provenance,
            timings_s={
                "decode": round(decoded - started, 4),
                "reconstruct": round(reconstructed - decoded, 4),
                "derive": round(time.perf_counter() - reconstructed, 4),
            },
            quality=result.quality.as_dict(),
            warnings=tuple(warnings),
        )


def free_number(
    sources: Sequence[Dataset], taken_numbers: dict[str, int], provenance: Provenance
) -> int:
    """Choose a SeriesNumber that no other series of the study has.

    The derived series itself may be there already, from an attempt that was cut short: its own
    number does not count as taken, so that a repeated attempt chooses the same.
    """
    own = series_uid(sources, provenance)
    taken = {number for uid, number in taken_numbers.items() if uid != own}
    if own in taken_numbers:
        return taken_numbers[own]
    number = FIRST_DERIVED_NUMBER
    base = integer(sources[0], "SeriesNumber")
    if base is not None and 0 < base < LARGEST_NUMBER - 2 * FIRST_DERIVED_NUMBER:
        number += base
    while number in taken:
        number += 1
    return number
