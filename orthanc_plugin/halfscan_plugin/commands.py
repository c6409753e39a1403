"""The commands of the archive side: worker, inspect, reconstruct, simulate."""

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from halfscan_plugin.errors import BadInput, HalfscanError
from halfscan_plugin.progress import bar, bars

if TYPE_CHECKING:
    from halfscan_plugin.reconstruction import Engine

__all__ = ["inspect", "reconstruct", "simulate", "worker"]

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--api-url", help="Address of the API.")
@click.option("--orthanc-url", help="Address of Orthanc.")
@click.option("--model", help="Name of the model; the default one if not given.")
@click.option("--strength", type=float, help="Share of the network's result, 0 to 1.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where the network runs.")
@click.option("--name", help="How the ledger calls this worker.")
def worker(**options: Any) -> None:
    """Reconstruct what the archive receives.

    Settings come from the environment, HALFSCAN_WORKER_<NAME> or HALFSCAN_WORKER_<NAME>_FILE:
    API_URL, TOKEN, ORTHANC_URL, ORTHANC_USERNAME, ORTHANC_PASSWORD, NAME, MODEL, STRENGTH,
    DEVICE, THREADS, LEASE_S, POLL_S, LOG_LEVEL, LOG_FORMAT. The options win.
    """
    from halfscan_plugin.settings import WorkerSettings  # noqa: PLC0415  (heavy, only here)

    settings = WorkerSettings.load(**options)

    from halfscan_plugin.archive import Archive  # noqa: PLC0415  (as above)
    from halfscan_plugin.ledger import Ledger  # noqa: PLC0415  (as above)
    from halfscan_plugin.logs import configure, log  # noqa: PLC0415  (as above)
    from halfscan_plugin.worker import Worker  # noqa: PLC0415  (as above)

    configure(settings.log_level, settings.log_format)
    engine = _engine(
        settings.model,
        settings.strength,
        device=settings.device,
        threads=settings.threads,
        weights=settings.weights,
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
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        log.info("worker_started", worker=settings.name, model=engine.provenance.model_name)
        worker.run()
        log.info("worker_stopped", worker=settings.name)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a series.")
def inspect(paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Say what would happen to each series in PATHS, and why, without doing anything."""
    from halfscan_plugin.files import read_folder  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.inspection import inspect_series  # noqa: PLC0415  (as above)

    with bar("reading headers") as progress:
        folder = read_folder(paths, progress)
    _tell_ignored(folder.ignored)
    if not folder.series:
        raise BadInput(f"no DICOM series in {', '.join(map(str, paths))}")
    reports = [inspect_series([header for _, header in items]) for items in folder.series.values()]
    if as_json:
        click.echo(json.dumps(reports, indent=1))
        return
    for report in reports:
        lines = [
            f"{report['decision']:11}  {report['series_instance_uid']}",
            f"             {report['manufacturer']}: {report['series_description']}",
            f"             {report['reason']} [{report['reason_code']}]",
        ]
        lines += [
            f"             {item['tag']} {item['name']} = {item['value']}: {item['says']}"
            for item in report["evidence"]
        ]
        for line in lines:
            # What a header holds must not move the cursor of a terminal.
            click.echo("".join(c if c.isprintable() else "?" for c in line))


@click.command()
@click.argument("source", metavar="IN", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@click.option("--model", help="Name of the model; the default one if not given.")
@click.option("--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Share of the network's result.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overrule the rules where it is possible at all.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a series.")
def reconstruct(
    source: Path,
    target: Path,
    *,
    model: str | None,
    strength: float,
    force: bool,
    as_json: bool,
) -> None:
    """Reconstruct the accelerated series in folder IN into folder OUT, without an archive."""
    from halfscan_plugin.files import read_folder  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.inspection import reconstruct_folder  # noqa: PLC0415  (as above)

    with bars() as add:
        folder = read_folder([source], add("reading headers"))
        _tell_ignored(folder.ignored)
        if not folder.series:
            raise BadInput(f"no DICOM series in {source}")
        engine = _engine(model, strength)
        reports = reconstruct_folder(
            folder, target, engine, force=force, progress=add("reconstructing slices")
        )
    if as_json:
        click.echo(json.dumps(reports, indent=1))
    else:
        for report in reports:
            click.echo(f"{report['status']:9}  {report['series_instance_uid']}: {report['reason']}")
            if report["status"] == "done":
                click.echo(f"           {len(report['files'])} files in {report['folder']}")
    if any(report["status"] == "failed" for report in reports):
        raise HalfscanError("not every series could be reconstructed, see above")


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


def _tell_ignored(ignored: list[tuple[Path, str]]) -> None:
    for file, reason in ignored[:5]:
        click.echo(f"ignored: {file}: {reason}", err=True)
    if len(ignored) > 5:
        click.echo(f"ignored: {len(ignored) - 5} further files", err=True)
