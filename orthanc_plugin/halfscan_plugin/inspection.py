"""Series in folders: what would happen to them, and doing it without an archive."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import Dataset

from halfscan_models.errors import ModelsError
from halfscan_plugin.acquisition import Acquisition, read_acquisition
from halfscan_plugin.files import Folder, read_series, write_series
from halfscan_plugin.headers import integer, text
from halfscan_plugin.rules import Decision, decide
from halfscan_plugin.volume import UnreadableSeries, sort_slices

if TYPE_CHECKING:  # looking at headers needs no network
    from halfscan_plugin.reconstruction import Engine

__all__ = ["inspect_series", "reconstruct_folder"]


def inspect_series(headers: Sequence[Dataset]) -> dict[str, Any]:
    """Say how a series was acquired and what would happen to it.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects.

    Returns
    -------
    dict
        The public contract of ``halfscan inspect --json``, and ``reason_code`` and ``instances``.
    """
    acquisition, decision = _judge(headers)
    first = headers[0]
    return {
        "series_instance_uid": text(first, "SeriesInstanceUID"),
        "manufacturer": text(first, "Manufacturer") or None,
        "series_description": text(first, "SeriesDescription") or None,
        "instances": len(headers),
        **acquisition.as_dict(),
        "decision": decision.action,
        "reason_code": decision.reason_code,
        "reason": decision.reason,
    }


def reconstruct_folder(
    folder: Folder,
    target: Path,
    engine: "Engine",
    *,
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
    force : bool
        Overrule a decision to skip where the series could be reconstructed all the same.
    progress : callable, optional
        Called with (slices done, all).

    Returns
    -------
    list of dict
        One report a series: ``status`` is done, skipped or failed, and ``reason`` says why.
    """
    chosen = {uid: _judge([h for _, h in items])[1] for uid, items in folder.series.items()}
    total = sum(
        len(folder.series[uid]) for uid, decision in chosen.items() if _goes(decision, force)
    )
    reports, done = [], 0
    for uid, items in folder.series.items():
        decision = chosen[uid]
        report: dict[str, Any] = {
            "series_instance_uid": uid,
            "status": "skipped",
            "reason_code": decision.reason_code,
            "reason": decision.reason,
        }
        if _goes(decision, force):

            def move(slices: int, _all: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + slices, total)

            numbers = _series_numbers(folder, items[0][1])
            report |= _reconstruct([file for file, _ in items], target, engine, numbers, move)
            done += len(items)
        reports.append(report)
    return reports


def _reconstruct(
    files: Sequence[Path],
    target: Path,
    engine: "Engine",
    numbers: dict[str, int],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    try:
        outcome = engine.run(read_series(files), numbers, progress)
    except UnreadableSeries as error:
        return {"status": "skipped", "reason_code": error.code, "reason": str(error)}
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


def _judge(headers: Sequence[Dataset]) -> tuple[Acquisition, Decision]:
    ordered = sort_slices(headers)
    acquisition = read_acquisition(ordered[0])
    return acquisition, decide(ordered, acquisition)


def _goes(decision: Decision, force: bool) -> bool:  # noqa: FBT001  (private, two uses)
    return decision.action == "reconstruct" or (force and decision.possible)


def _series_numbers(folder: Folder, header: Dataset) -> dict[str, int]:
    """Give the SeriesNumber of the series of the same study."""
    study = text(header, "StudyInstanceUID")
    return {
        uid: integer(items[0][1], "SeriesNumber") or 0
        for uid, items in folder.series.items()
        if text(items[0][1], "StudyInstanceUID") == study
    }
