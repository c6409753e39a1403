"""Series in folders and in the archive: what would happen to them, and doing it without one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import Dataset

from halfscan_models.errors import ModelsError
from halfscan_models.registry import WEIGHTS, find_model
from halfscan_plugin.derived import default_description
from halfscan_plugin.errors import BadInput, GuardFailed, UnreadableSeries
from halfscan_plugin.exclusions import set_aside
from halfscan_plugin.files import Folder, read_series, write_series
from halfscan_plugin.geometry import Stack, sort_slices, split
from halfscan_plugin.headers import integer, text
from halfscan_plugin.planes import orientation_plane
from halfscan_plugin.rules import DEFAULT_RULES, Decision, Rules, judge

if TYPE_CHECKING:  # looking at headers needs no network
    from halfscan_plugin.reconstruction import Engine

__all__ = ["DAMAGED", "Defaults", "inspect_folder", "inspect_series", "reconstruct_folder"]

UID = re.compile(r"\d+(?:\.\d+)+")
# Codes of series that are skipped because their bytes are damaged.
DAMAGED = {"damaged_file", "damaged_pixels", "no_pixels"}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a reconstruction takes where no rule names it.

    Parameters
    ----------
    model : str, optional
        Name of the model; the package's default where None.
    strength : float
        Share of the network's result, 0 to 1.
    weights : Path, optional
        Folder with ``models.json``; the package's own where None.
    """

    model: str | None = None
    strength: float = 1.0
    weights: Path | None = None

    def model_name(self) -> str:
        """Give the name of the model.

        Raises
        ------
        BadInput
            If there is no such model.
        """
        try:
            return find_model(self.model, weights=self.weights or WEIGHTS).name
        except ModelsError as error:
            raise BadInput(str(error)) from error


def inspect_series(
    headers: Sequence[Dataset], rules: Rules = DEFAULT_RULES, defaults: Defaults | None = None
) -> dict[str, Any]:
    """Say how a series was acquired and what would happen to it.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects.
    rules : Rules
        What decides.
    defaults : Defaults, optional
        What a reconstruction takes where no rule names it; the package's own where None.

    Returns
    -------
    dict
        The public contract of ``halfscan inspect --json``, and ``reason_code``, ``instances``,
        ``rule`` (that decided), ``tried`` (rules in their order, and why each failed), ``model``,
        ``strength`` and ``derived_series_description`` (with which a series is reconstructed;
        None for one that is skipped), ``stacks`` (volumes, empty where the headers form none) and
        ``warnings``.
    """
    acquisition, decision = judge(headers, rules)
    first = set_aside(headers)[0][0]
    stacks = decision.stacks or _stacks(headers)
    return {
        "series_instance_uid": text(first, "SeriesInstanceUID"),
        "manufacturer": text(first, "Manufacturer") or None,
        "manufacturer_model_name": text(first, "ManufacturerModelName") or None,
        "series_description": text(first, "SeriesDescription") or None,
        "instances": len(headers),
        **acquisition.as_dict(),
        "decision": decision.action,
        "rule": decision.rule,
        "reason_code": decision.reason_code,
        "reason": decision.reason,
        **_settings(headers, decision, defaults or Defaults()),
        "tried": [{"rule": trial.rule, "failure": trial.failure} for trial in decision.trials],
        "stacks": [_facts(stack) for stack in stacks],
        "warnings": list(
            dict.fromkeys((*decision.warnings, *(text for one in stacks for text in one.warnings)))
        ),
    }


def inspect_folder(
    folder: Folder, rules: Rules = DEFAULT_RULES, defaults: Defaults | None = None
) -> list[dict[str, Any]]:
    """Say what `inspect_series` says of each series of a folder, with the names of the files.

    A file that was left out, although it may hold an image, is a warning of each series that has
    files in the same folder.
    """
    reports = []
    for items in folder.series.values():
        report = inspect_series([header for _, header in items], rules, defaults)
        report["reason"] = _with_files(report["reason"], items)
        report["warnings"] += _beside(folder, items)
        reports.append(report)
    return reports


def reconstruct_folder(
    folder: Folder,
    target: Path,
    engine: "Engine",
    *,
    rules: Rules = DEFAULT_RULES,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Reconstruct the series of a folder into another.

    Parameters
    ----------
    folder : Folder
        What was read.
    target : Path
        Each derived series becomes a folder below it, named by its SeriesInstanceUID.
    engine : Engine
        The loaded model.
    rules : Rules
        What decides.
    force : bool
        Overrule a decision to skip where the series could be reconstructed all the same.
    progress : callable, optional
        Called with (slices done, all).

    Returns
    -------
    list of dict
        One report a series: ``status`` is done, skipped or failed, and ``reason`` says why. Then
        one for each file that was left out although it may hold an image: ``unreadable``.
    """
    chosen = {
        uid: judge([header for _, header in items], rules)[1]
        for uid, items in folder.series.items()
    }
    total = sum(
        len(folder.series[uid]) for uid, decision in chosen.items() if _goes(decision, force)
    )
    reports, done = [], 0
    for uid, items in folder.series.items():
        decision = chosen[uid]
        report: dict[str, Any] = {
            "series_instance_uid": uid,
            "status": "skipped",
            "rule": decision.rule,
            "reason_code": decision.reason_code,
            "reason": decision.reason,
            "forced": False,
            "warnings": list(decision.warnings),
        }
        if _goes(decision, force):

            def move(slices: int, _all: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + slices, total)

            numbers = _series_numbers(folder, items[0][1])
            files = [file for file, _ in items]
            report |= _reconstruct(files, target, engine, numbers, decision, move)
            report["forced"] = decision.action == "skip"
            done += len(items)
        report["reason"] = _with_files(report["reason"], items)
        report["warnings"] = [*report["warnings"], *_beside(folder, items)]
        reports.append(report)
    return [*reports, *_unreadable(folder)]


def _reconstruct(
    files: Sequence[Path],
    target: Path,
    engine: "Engine",
    numbers: dict[str, int],
    decision: Decision,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    try:
        outcome = engine.run(read_series(files), numbers, progress, decision=decision)
    except UnreadableSeries as error:
        return {"status": "skipped", "reason_code": error.code, "reason": str(error)}
    except GuardFailed as error:
        return {"status": "failed", "reason_code": error.code, "reason": str(error)}
    except ModelsError as error:
        return {"status": "failed", "reason_code": "reconstruction_failed", "reason": str(error)}
    place = target / outcome.series.series_instance_uid
    written = write_series(outcome.series.datasets, place)
    return {
        "status": "done",
        **outcome.facts(),
        "folder": str(place),
        "files": [file.name for file in written],
    }


def _goes(decision: Decision, force: bool) -> bool:  # noqa: FBT001  (private, two uses)
    return decision.action == "reconstruct" or (force and decision.possible)


def _settings(headers: Sequence[Dataset], decision: Decision, defaults: Defaults) -> dict[str, Any]:
    """Give what a series would be reconstructed with: what the rule names, or the defaults."""
    names = ("model", "strength", "derived_series_description")
    if decision.action == "skip":
        return dict.fromkeys(names)
    strength = defaults.strength if decision.strength is None else decision.strength
    called = decision.series_description
    if called is None:
        called = default_description(sort_slices(set_aside(headers)[0])[0])
    values = (decision.model or defaults.model_name(), strength, called)
    return dict(zip(names, values, strict=True))


def _with_files(written: str, items: Sequence[tuple[Path, Dataset]]) -> str:
    """Name the file behind each SOPInstanceUID that a reason names."""
    files = {text(header, "SOPInstanceUID"): file.name for file, header in items}

    def named(found: re.Match[str]) -> str:
        file = files.get(found[0])
        return found[0] if file is None else f"{found[0]} (file {file})"

    return UID.sub(named, written)


def _beside(folder: Folder, items: Sequence[tuple[Path, Dataset]]) -> list[str]:
    """Warn of files that may belong to a series: those left out of the folders that it is in."""
    places = {file.parent for file, _ in items}
    return [
        f"an image may be missing: {lost.file.name} beside it was left out: {lost.reason}"
        for lost in folder.losses
        if lost.file.parent in places
    ]


def _unreadable(folder: Folder) -> list[dict[str, Any]]:
    return [
        {
            "series_instance_uid": None,
            "file": str(lost.file),
            "status": "unreadable",
            "rule": None,
            "reason_code": lost.code,
            "reason": lost.reason,
            "forced": False,
            "warnings": [f"{lost.file} was left out: {lost.reason}"],
        }
        for lost in folder.losses
    ]


def _stacks(headers: Sequence[Dataset]) -> Sequence[Stack]:
    """Find the volumes of a series that is skipped: what its reason is, the decision says."""
    try:
        return split(set_aside(headers)[0])
    except UnreadableSeries:
        return ()


def _facts(stack: Stack) -> dict[str, Any]:
    return {
        "slices": len(stack.slices),
        "plane": orientation_plane(stack.orientation),
        "spacing_mm": stack.spacing_mm,
        "labels": dict(stack.labels),
        "warnings": list(stack.warnings),
    }


def _series_numbers(folder: Folder, header: Dataset) -> dict[str, int]:
    """Give the SeriesNumber of the series of the same study."""
    study = text(header, "StudyInstanceUID")
    return {
        uid: integer(items[0][1], "SeriesNumber") or 0
        for uid, items in folder.series.items()
        if text(items[0][1], "StudyInstanceUID") == study
    }
