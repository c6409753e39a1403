"""The command ``halfscan doctor``: what is wrong, and mending it."""

import json
import signal
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.progress import bar

if TYPE_CHECKING:
    from halfscan_plugin.reconciliation import Comparison
    from halfscan_plugin.settings import WorkerSettings

__all__ = ["doctor"]

HOUR_S = 3600.0
AWAY_S = 300.0  # what is away may be up again soon


@click.group()
def doctor() -> None:
    """Look for what is wrong, and mend it."""


@doctor.command()
@click.option("--apply", "applies", is_flag=True, help="Do what it would do.")
@click.option("--every", "hours", type=click.FloatRange(0, 8760, min_open=True), metavar="HOURS",
              help="Go on until it is stopped, with this pause between two looks.")  # fmt: skip
@click.option("--api-url", help="Address of the API.")
@click.option("--orthanc-url", help="Address of Orthanc.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a look.")
def archive(*, applies: bool, hours: float | None, as_json: bool, **addresses: Any) -> None:
    r"""Compare the ledger with the archive.

    Derived series that are missing, stale (their source holds other pixels by now), orphaned
    (their source is gone), doubled (copied with a study) or unknown to the ledger. It says what
    it would do; with --apply it does it. The numbers of the last look stand in the API's /metrics.

    Settings come from the environment, as for halfscan worker: HALFSCAN_WORKER_API_URL, ..._TOKEN,
    ..._ORTHANC_URL, ..._ORTHANC_USERNAME, ..._ORTHANC_PASSWORD, or ..._FILE. The options win.

    \b
    Exit codes:
      0  ledger and archive agree, or what could be mended is mended
      1  they disagree; or one of them is away
      2  an argument or a setting is wrong
    """
    from halfscan_plugin.settings import WorkerSettings  # noqa: PLC0415  (heavy, only here)

    settings = WorkerSettings.load(**addresses)
    over = threading.Event()
    if hours is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
    while True:
        pause_s = (hours or 0) * HOUR_S
        try:
            comparison = _look(settings, applies=applies)
        except HalfscanError as error:
            if hours is None:
                raise
            pause_s = min(pause_s, AWAY_S)
            click.echo(f"halfscan: {error}; trying again in {pause_s:g} s", err=True)
        else:
            _show(comparison, applies=applies, as_json=as_json)
            if hours is None and comparison.left:
                raise SystemExit(1)
        if hours is None or over.wait(pause_s):
            return


def _look(settings: "WorkerSettings", *, applies: bool) -> "Comparison":
    from halfscan_plugin.archive import Archive  # noqa: PLC0415  (heavy, only here)
    from halfscan_plugin.ledger import Ledger  # noqa: PLC0415  (as above)
    from halfscan_plugin.logs import configure  # noqa: PLC0415  (as above)
    from halfscan_plugin.reconciliation import Reconciliation  # noqa: PLC0415  (as above)

    configure("warning", settings.log_format)
    ledger = Ledger(str(settings.api_url), settings.token)
    archive = Archive(
        str(settings.orthanc_url), settings.orthanc_username, settings.orthanc_password
    )
    with closing(ledger), closing(archive), bar("derived series") as move:
        archive.ping()
        reconciliation = Reconciliation(archive, ledger, lambda checked: move(checked, checked))
        comparison = reconciliation.compare()
        if applies:
            reconciliation.mend(comparison)
        ledger.add_reconciliation(comparison.counts())
    return comparison


def _show(comparison: "Comparison", *, applies: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(comparison.facts()))
        return
    for seen in comparison.disagreements:
        row = "" if seen.reconstruction is None else f" of reconstruction {seen.reconstruction}"
        done = f"; {'done' if applies else 'would be done'}: {seen.remedy}" if seen.remedy else ""
        click.echo(f"{seen.kind}: {seen.derived_series_instance_uid}{row}: {seen.reason}{done}")
    click.echo(
        f"{comparison.checked} derived series looked at, "
        f"{len(comparison.disagreements)} disagreements, {comparison.mended} mended"
    )
