"""One series from its objects to its derived objects: what the worker and `reconstruct` share."""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydicom import Dataset

from halfscan_models import load_reconstructor
from halfscan_models.reconstruct import Quality, Reconstructor
from halfscan_models.registry import WEIGHTS
from halfscan_plugin.derived import Derivation, DerivedSeries, Provenance
from halfscan_plugin.encode import Syntax
from halfscan_plugin.errors import BadInput, UnreadableSeries
from halfscan_plugin.exclusions import find_exclusion, set_aside
from halfscan_plugin.guards import check
from halfscan_plugin.headers import integer
from halfscan_plugin.inspection import Defaults
from halfscan_plugin.rules import Decision
from halfscan_plugin.volume import read_volume

__all__ = ["Engine", "Outcome"]

FIRST_DERIVED_NUMBER = 1000  # added to the source's SeriesNumber, then the next free one
LARGEST_NUMBER = 2**31 - 1  # of an IS, PS3.5 section 6.2
MOST = 0.5  # a series with more than this share of its slices outside lies outside itself
Outside = Literal["warn", "skip"]


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
        How far each slice went from its source (`guards`), JSON-able.
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
            **self.provenance.facts(),
            "timings_s": self.timings_s,
            "quality": self.quality,
            "warnings": list(self.warnings),
        }


class Engine:
    """Loaded models, ready for any number of series.

    Parameters
    ----------
    model : str, optional
        Name of the model for every series whose rule names none; the package's default where
        None. It is loaded at once, other models when a rule asks for them.
    device : str
        ``"cpu"`` or ``"cuda"``.
    strength : float
        Share of the network's result in the blend, 0 to 1, unless a rule says otherwise.
    threads : int
        Processor threads for the network; all cores where None.
    weights : Path, optional
        Folder with ``models.json`` and the weights; the package's own where None.
    transfer_syntax : {"uncompressed", "source"}
        How derived objects are written: Explicit VR Little Endian, or the source's own lossless
        compression where it has one that can be written.
    outside : {"warn", "skip"}
        What happens to a series more than half of whose slices lie outside what the model was
        trained on: stored with a warning, as one is with fewer such slices, or skipped.

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
        transfer_syntax: Syntax = "uncompressed",
        outside: Outside = "warn",
    ) -> None:
        if not 0 <= strength <= 1:
            raise BadInput(f"strength must be between 0 and 1, got {strength!r}")
        self._load = functools.partial(
            load_reconstructor, device=device, threads=threads, weights=weights or WEIGHTS
        )
        first = self._load(model)
        self._reconstructors: dict[str, Reconstructor] = {first.spec.name: first}
        self.provenance = _provenance(first, strength)
        self.defaults = Defaults(first.spec.name, strength, weights)
        self._transfer_syntax = transfer_syntax
        self._outside = outside

    def run(
        self,
        datasets: Sequence[Dataset],
        taken_numbers: dict[str, int],
        progress: Callable[[int, int], None] | None = None,
        *,
        decision: Decision | None = None,
        replaces: Collection[str] = (),
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
        decision : Decision, optional
            What the rules said of it: model, strength and description where a rule names them. One
            to skip it was overruled, and the objects say so.
        replaces : collection of str
            SeriesInstanceUIDs of derived series that make room for this one: their numbers are
            free.

        Raises
        ------
        UnreadableSeries
            If the pixels cannot be used, or an object turns out to be one that no rule brings
            back; the message says why.
        ModelsError
            If the model that the decision names cannot be loaded.
        GuardFailed
            If the result went too far from its source.
        """
        reconstructor, provenance = self._settings(decision)
        started = time.perf_counter()
        images, beside = set_aside(datasets)
        if decision is not None and decision.action == "reconstruct":
            _check_again(images)
        source = read_volume(images)
        decoded = time.perf_counter()
        result = reconstructor.reconstruct(source, strength=provenance.strength, progress=progress)
        reconstructed = time.perf_counter()
        self._check_inside(result.quality)
        quality = check(source, result)
        checked = time.perf_counter()
        # Of the volumes as they were read: a decision may have seen none of them.
        geometry = tuple(dict.fromkeys(w for stack in source.stacks for w in stack.warnings))
        derivation = Derivation(
            source,
            result.volume,
            provenance,
            description=decision.series_description if decision is not None else None,
            warnings=(*result.quality.warnings, *geometry),
            syntax=self._transfer_syntax,
            remark=_remark(decision),
        )
        base = integer(source.sources[0], "SeriesNumber")
        number = free_number(base, taken_numbers, derivation.series_uid, replaces)
        series = derivation.write(number)
        return Outcome(
            series=series,
            provenance=provenance,
            timings_s=_lasted(started, decoded, reconstructed, checked, time.perf_counter()),
            quality=quality,
            warnings=(
                *beside,
                *result.quality.warnings,
                *geometry,
                *source.warnings,
                *_clipped(series),
                *series.notes,
            ),
        )

    def _check_inside(self, quality: Quality) -> None:
        """Skip a series most of whose slices the network was not made for, where that is set."""
        if self._outside == "skip" and quality.outside_share > MOST:
            raise UnreadableSeries("outside_training", "; ".join(quality.warnings))

    def provenance_of(self, decision: Decision | None) -> Provenance:
        """Give the model and the settings with which a decision is carried out."""
        return self._settings(decision)[1]

    def _settings(self, decision: Decision | None) -> tuple[Reconstructor, Provenance]:
        """Choose model and strength: the decision's, or else this engine's own."""
        name, strength = self.provenance.model_name, self.provenance.strength
        if decision is not None:
            name = decision.model or name
            strength = strength if decision.strength is None else decision.strength
        if name not in self._reconstructors:
            self._reconstructors[name] = self._load(name)
        reconstructor = self._reconstructors[name]
        return reconstructor, _provenance(reconstructor, strength)


def _lasted(*moments: float) -> dict[str, float]:
    """Give the seconds between the moments at which the steps of a reconstruction ended."""
    steps = ("decode", "reconstruct", "guard", "derive")
    return {step: round(b - a, 4) for step, (a, b) in zip(steps, pairwise(moments), strict=True)}


def _check_again(datasets: Sequence[Dataset]) -> None:
    """Look again: the objects that were fetched may be others than those that were decided on."""
    excluded = find_exclusion(datasets)
    if excluded is not None:
        raise UnreadableSeries(excluded.code, excluded.reason)


def _remark(decision: Decision | None) -> str:
    """Say of a series that was not to be reconstructed that somebody insisted, and on what."""
    if decision is None or decision.action == "reconstruct":
        return ""
    return f"On demand, against the decision to skip it ({decision.reason_code}): {decision.reason}"


def _clipped(series: DerivedSeries) -> list[str]:
    if not series.clipped_pixels:
        return []
    return [f"{series.clipped_pixels} pixels were clipped to what BitsStored can hold"]


def _provenance(reconstructor: Reconstructor, strength: float) -> Provenance:
    spec = reconstructor.spec
    return Provenance(
        model_name=spec.name,
        model_version=spec.version,
        model_sha256=spec.sha256,
        strength=strength,
        software_version=version("halfscan"),
    )


def free_number(
    base: int | None,
    taken_numbers: Mapping[str, int],
    uid_of: Callable[[int], str],
    replaces: Collection[str] = (),
) -> int:
    """Choose a SeriesNumber that no other series of the study has.

    The derived UID follows from the number, so one UID always has one number, whatever else the
    study holds. The derived series itself may be there already, from an attempt that was cut
    short: a repeated attempt chooses the same. A series that replaces another takes its number.

    Parameters
    ----------
    base : int or None
        SeriesNumber of the source.
    taken_numbers : mapping of str to int
        SeriesNumber of the study's series, by SeriesInstanceUID.
    uid_of : callable
        Gives the SeriesInstanceUID of the derived series under a number.
    replaces : collection of str
        SeriesInstanceUIDs of derived series that make room for it, oldest first.
    """
    for uid, number in taken_numbers.items():
        if number >= FIRST_DERIVED_NUMBER and uid == uid_of(number):
            return number
    taken = {number for uid, number in taken_numbers.items() if uid not in replaces}
    for uid in replaces:
        before = taken_numbers.get(uid, 0)
        if before >= FIRST_DERIVED_NUMBER and before not in taken:
            return before
    number = FIRST_DERIVED_NUMBER
    if base is not None and 0 < base < LARGEST_NUMBER - 2 * FIRST_DERIVED_NUMBER:
        number += base
    while number in taken:
        number += 1
    return number
