"""The commands of the archive side: worker, inspect, reconstruct, simulate."""

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from halfscan_plugin.errors import BadInput, FilesLost, HalfscanError
from halfscan_plugin.progress import bar, bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

    from halfscan_plugin.files import Folder, Ignored
    from halfscan_plugin.reconstruction import Engine
    from halfscan_plugin.rules import Rules
    from halfscan_plugin.settings import ArchiveSettings

__all__ = ["inspect", "reconstruct", "simulate", "worker"]

PATH = click.Path(path_type=Path)
SYNTAXES = click.Choice(["uncompressed", "source"])
SHOWN = 5  # files that were left out, of each kind, on standard error
EXITS = """\b
Exit codes:
  0  everything was {done}
  1  {failed}
  2  an argument, a setting, a rule or a path is wrong
  3  everything else was {done}, but files are damaged: an image may be missing
"""


@click.command()
@click.option("--api-url", help="Address of the API.")
@click.option("--orthanc-url", help="Address of Orthanc.")
@click.option("--model", help="Name of the model; the default one if not given.")
@click.option("--strength", type=float, help="Share of the network's result, 0 to 1.")
@click.option("--rules", type=PATH, help="Rules file; the default rules if not given.")
@click.option("--transfer-syntax", type=SYNTAXES, help="How derived objects are written.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where the network runs.")
@click.option("--name", help="How the ledger calls this worker.")
def worker(**options: Any) -> None:
    """Reconstruct what the archive receives.

    Settings come from the environment, HALFSCAN_WORKER_<NAME> or HALFSCAN_WORKER_<NAME>_FILE:
    API_URL, TOKEN, ORTHANC_URL, ORTHANC_USERNAME, ORTHANC_PASSWORD, NAME, RULES, MODEL, WEIGHTS,
    STRENGTH, TRANSFER_SYNTAX, OUTSIDE, ORPHANS, DEVICE, THREADS, LEASE_S, POLL_S, LOG_LEVEL,
    LOG_FORMAT.
    The options win.
    """
    from halfscan_plugin.settings import WorkerSettings  # noqa: PLC0415  (heavy, only here)

    settings = WorkerSettings.load(**options)

    from halfscan_plugin.archive import Archive  # noqa: PLC0415  (as above)
    from halfscan_plugin.ledger import Ledger  # noqa: PLC0415  (as above)
    from halfscan_plugin.logs import configure, log  # noqa: PLC0415  (as above)
    from halfscan_plugin.worker import Worker  # noqa: PLC0415  (as above)

    configure(settings.log_level, settings.log_format)
    rules = _rules(settings.rules, settings.weights)
    engine = _engine(
        settings.model,
        settings.strength,
        device=settings.device,
        threads=settings.threads,
        weights=settings.weights,
        transfer_syntax=settings.transfer_syntax,
        outside=settings.outside,
    )
    ledger = Ledger(str(settings.api_url), settings.token)
    archive = Archive(
        str(settings.orthanc_url), settings.orthanc_username, settings.orthanc_password
    )
    with closing(ledger), closing(archive):
        worker = Worker(
            ledger,
            archive,
            engine,
            name=settings.name,
            lease_s=settings.lease_s,
            poll_s=settings.poll_s,
            rules=rules,
            orphans=settings.orphans,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        log.info("worker_started", worker=settings.name, model=engine.provenance.model_name)
        worker.run()
        log.info("worker_stopped", worker=settings.name)


@click.command(
    epilog=EXITS.format(done="looked at", failed="Orthanc is away, or has no such series")
)
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--series", "series", multiple=True, metavar="UID",
              help="SeriesInstanceUID of a series in Orthanc; also several times.")  # fmt: skip
@click.option("--orthanc", "orthanc_url", metavar="URL", help="Address of Orthanc.")
@click.option("--rules", type=PATH, help="Rules file; the default rules if not given.")
@click.option("--explain", is_flag=True, help="Show every rule that was tried, and why it failed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a series.")
def inspect(
    paths: tuple[Path, ...],
    *,
    series: tuple[str, ...],
    orthanc_url: str | None,
    rules: Path | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Say what would happen to each series in PATHS, and why, without doing anything.

    PATHS are files and folders; with --series it looks at series in Orthanc, headers only. As
    the worker it takes HALFSCAN_WORKER_RULES, ..._MODEL, ..._STRENGTH, ..._WEIGHTS,
    ..._ORTHANC_URL, ..._ORTHANC_USERNAME and ..._ORTHANC_PASSWORD (or ..._ORTHANC_PASSWORD_FILE)
    from the environment, so that it answers as the worker would. The options win.
    """
    if bool(paths) == bool(series):
        raise BadInput("give either PATHS or --series UID")
    if orthanc_url is not None and not series:
        raise BadInput("--orthanc needs --series UID")
    from halfscan_plugin.inspection import (  # noqa: PLC0415  (heavy, only here)
        Defaults,
        inspect_folder,
        inspect_series,
    )
    from halfscan_plugin.settings import ArchiveSettings  # noqa: PLC0415  (as above)

    settings = ArchiveSettings.load(orthanc_url=orthanc_url, rules=rules)
    chosen = _rules(settings.rules, settings.weights)
    defaults = Defaults(settings.model, settings.strength, settings.weights)
    lost: list[Ignored] = []
    if series:
        found = _archived(series, settings)
        reports = [inspect_series(headers, chosen, defaults) for headers in found]
    else:
        folder = _read(paths)
        lost = folder.losses
        reports = inspect_folder(folder, chosen, defaults)
    if as_json:
        click.echo(json.dumps(reports, indent=1))
    else:
        from halfscan_plugin.reports import print_inspection  # noqa: PLC0415  (as above)

        print_inspection(reports, explain=explain)
    if lost:
        raise FilesLost(f"{_files(len(lost))} could not be read: an image may be missing")


def _read(paths: "Sequence[Path]") -> "Folder":
    """Read the headers of each series under some paths."""
    from halfscan_plugin.files import read_folder  # noqa: PLC0415  (heavy, only here)

    with bar("reading headers") as progress:
        folder = read_folder(paths, progress)
    _tell_ignored(folder.ignored)
    if not folder.series:
        raise BadInput(f"no DICOM series in {', '.join(map(str, paths))}")
    return folder


def _archived(uids: tuple[str, ...], settings: "ArchiveSettings") -> list[list["Dataset"]]:
    """Read the headers of series in Orthanc."""
    from halfscan_plugin.archive import Archive, SeriesNotFound  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.logs import configure  # noqa: PLC0415  (as above)

    configure("warning", "console")
    archive = Archive(
        str(settings.orthanc_url), settings.orthanc_username, settings.orthanc_password
    )
    found = []
    with closing(archive), bar("reading headers") as progress:
        for number, uid in enumerate(uids, 1):
            series_ids = archive.find_series(uid)
            if not series_ids:
                raise SeriesNotFound(f"the archive has no series {uid}")
            found += [archive.headers(series_id) for series_id in series_ids]
            progress(number, len(uids))
    return found


@click.command(
    epilog=EXITS.format(
        done="done", failed="a series failed: its result was refused, or its model does not load"
    )
)
@click.argument("source", metavar="IN", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@click.option("--rules", type=PATH, help="Rules file; the default rules if not given.")
@click.option("--model", help="Name of the model, for series whose rule names none.")
@click.option("--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Share of the network's result, for series whose rule gives none.")  # fmt: skip
@click.option("--transfer-syntax", type=SYNTAXES, default="uncompressed", show_default=True,
              help="How derived objects are written; source: its own lossless one.")  # fmt: skip
@click.option("--outside", type=click.Choice(["warn", "skip"]), default="warn", show_default=True,
              help="What happens to a series outside what the model was trained on.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overrule the rules where it is possible at all.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a series.")
def reconstruct(
    source: Path,
    target: Path,
    *,
    rules: Path | None,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Reconstruct the accelerated series in folder IN into folder OUT, without an archive."""
    from halfscan_plugin.files import read_folder  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.inspection import reconstruct_folder  # noqa: PLC0415  (as above)
    from halfscan_plugin.reports import print_reconstruction  # noqa: PLC0415  (as above)

    chosen = _rules(rules)
    with bars() as add:
        folder = read_folder([source], add("reading headers"))
        _tell_ignored(folder.ignored)
        if not folder.series:
            raise BadInput(f"no DICOM series in {source}")
        engine = _engine(**settings)
        progress = add("reconstructing slices")
        reports = reconstruct_folder(
            folder, target, engine, rules=chosen, force=force, progress=progress
        )
    if as_json:
        click.echo(json.dumps(reports, indent=1))
    else:
        print_reconstruction(reports)
    if any(report["status"] == "failed" for report in reports):
        raise HalfscanError("not every series could be reconstructed, see above")
    lost = [report for report in reports if _is_lost(report)]
    if lost:
        raise FilesLost(f"{len(lost)} series or files could not be read, see above")


@click.command()
@click.argument("out", type=PATH)
@click.option("--patients", type=int, default=1, show_default=True, help="Number of patients.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same exams.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def simulate(out: Path, *, patients: int, seed: int, as_json: bool) -> None:
    """Write simulated lumbar exams, standard and accelerated, as DICOM into OUT.

    OUT/truth.json tells levels, pathologies and regions.
    """
    from halfscan_plugin import exam  # noqa: PLC0415  (heavy, only here)

    with bar("simulating") as progress:
        report = exam.simulate(out, patients=patients, seed=seed, progress=progress)
    if as_json:
        click.echo(json.dumps({"out": str(out), "files": len(report.files)}, indent=1))
    else:
        click.echo(f"{len(report.files)} files of {patients} patients in {out}, see truth.json")


def _engine(model: str | None, strength: float, **options: Any) -> "Engine":
    """Load the model; what is wrong with it becomes one line."""
    from halfscan_models.errors import ModelsError  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.reconstruction import Engine  # noqa: PLC0415  (as above)

    try:
        return Engine(model, strength=strength, **options)
    except ModelsError as error:
        raise BadInput(str(error)) from error


def _rules(path: Path | None, weights: Path | None = None) -> "Rules":
    """Read the rules file; the default rules where there is none."""
    from halfscan_plugin.rules import DEFAULT_RULES  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.rules_file import load_rules  # noqa: PLC0415  (as above)

    return DEFAULT_RULES if path is None else load_rules(path, weights=weights)


def _is_lost(report: dict[str, Any]) -> bool:
    """Tell a file that was left out, or a series that was skipped, because of its bytes."""
    from halfscan_plugin.inspection import DAMAGED  # noqa: PLC0415  (heavy, only here)

    skipped = report["status"] == "skipped" and report["reason_code"] in DAMAGED
    return skipped or report["status"] == "unreadable"


def _tell_ignored(ignored: "Sequence[Ignored]") -> None:
    """Name files that were left out: first what may be an image, then the rest."""
    for word, files in (
        ("damaged", [one for one in ignored if one.is_loss]),
        ("ignored", [one for one in ignored if not one.is_loss]),
    ):
        for one in files[:SHOWN]:
            click.echo(f"{word}: {one.file}: {one.reason}", err=True)
        if len(files) > SHOWN:
            click.echo(f"{word}: {_files(len(files) - SHOWN, 'further ')}", err=True)


def _files(number: int, which: str = "") -> str:
    return f"{number} {which}file{'s' if number > 1 else ''}"
