"""``halfscan demo``: the whole stack on loopback, and a simulated exam through it."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from halfscan_plugin import exam
from halfscan_plugin.dimse import send
from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.files import read_folder
from halfscan_plugin.ledger import Ledger, LedgerUnavailable
from halfscan_plugin.progress import bars
from halfscan_plugin.stack import Stack

__all__ = ["command"]

SEED = 1
# A busy machine is slow, but a demo that hangs must say so.
LONGEST_WAIT_S = 600.0
FINAL = {"done", "skipped", "dead"}

Bar = Callable[[str], Callable[[int, int], None]]


class DemoFailed(HalfscanError):
    """A series of the exam did not come back reconstructed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The exam as it was sent."""

    descriptions: dict[str, str]  # by SeriesInstanceUID
    accelerated: frozenset[str]  # SeriesInstanceUIDs; the others are the standard scans
    last_instance_at: float  # time.monotonic() after the last C-STORE [s]


@click.command()
@click.option("--once", is_flag=True, help="End as soon as the derived series are stored.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(*, once: bool, as_json: bool) -> None:
    """Start Orthanc with the plugin, the API and a worker, and send them a simulated exam.

    Everything runs on loopback, on free ports, in a temporary folder. Ctrl-C ends all of it.
    """
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="halfscan-demo-") as name:
        stack = Stack(Path(name))
        try:
            # It takes a minute and more: also who reads it through a pipe sees that it goes on.
            with bars(always=True) as add:
                result = _play(stack, add)
            click.echo(json.dumps(result, indent=1)) if as_json else _show(stack, result)
            if not once:
                _stay(stack)
        finally:
            with _undisturbed():
                stack.stop()


def _play(stack: Stack, add: Bar) -> dict[str, Any]:
    """Start the stack, send the exam, wait for its reconstructions."""
    begun = time.monotonic()
    starting = add("starting Orthanc, API and worker")
    starting(0, 3)
    stack.start_api()
    stack.write_service_token()
    starting(1, 3)
    stack.start_orthanc()
    starting(2, 3)
    stack.start_worker()
    starting(3, 3)
    sent = _send_exam(stack, add)
    rows = _wait(stack, sent, add("reconstructing series"))
    return {
        "series": [_report(row, sent) for row in rows if row["status"] == "done"],
        "seconds_after_last_instance": round(time.monotonic() - sent.last_instance_at, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "orthanc_explorer": f"{stack.orthanc_url}/app/explorer.html",
        "api_documentation": f"{stack.api_url}/docs",
        "api": f"{stack.api_url}/api/v1",
        "reconstructions": f"{stack.api_url}/api/v1/reconstructions",
        "dicom_port": stack.dicom_port,
    }


def _send_exam(stack: Stack, add: Bar) -> Sent:
    # Both arms: a reader study compares the standard scans with what is derived from the fast ones.
    out = stack.folder / "exam"
    made = exam.simulate(out, patients=1, seed=SEED, progress=add("simulating the exam"))
    truth = json.loads(made.truth.read_text(encoding="utf-8"))["patients"][0]["series"]
    accelerated = {one["series_instance_uid"] for one in truth if one["arm"] == "accelerated"}
    series = read_folder([out]).series
    files = [file for items in series.values() for file, _ in items]
    send(files, stack.dicom_port, progress=add("sending by C-STORE"))
    descriptions = {uid: str(items[0][1].SeriesDescription) for uid, items in series.items()}
    return Sent(descriptions, frozenset(accelerated), time.monotonic())


def _wait(stack: Stack, sent: Sent, progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Wait until every series of the exam has its outcome."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    with closing(Ledger(stack.api_url, stack.token("service"))) as ledger:
        while len(finished := _finished(ledger, sent)) < len(sent.descriptions):
            progress(len(finished), len(sent.descriptions))
            stack.check()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"only {len(finished)} of {len(sent.descriptions)} series were finished "
                    f"after {LONGEST_WAIT_S:g} s"
                )
            time.sleep(0.3)
    progress(len(finished), len(sent.descriptions))
    for row in finished:
        wanted = "done" if row["series_instance_uid"] in sent.accelerated else "skipped"
        if row["status"] != wanted:
            why = row.get("reason") or row.get("error")
            raise DemoFailed(f"series {row['series_instance_uid']} is {row['status']}: {why}")
    return sorted(finished, key=lambda row: int(row["id"]))


def _finished(ledger: Ledger, sent: Sent) -> list[dict[str, Any]]:
    try:
        rows = ledger.rows(per_page=100)["items"]
    except LedgerUnavailable:
        return []  # busy, or gone: then Stack.check says so
    return [
        row
        for row in rows
        if row["series_instance_uid"] in sent.descriptions and row["status"] in FINAL
    ]


def _report(row: dict[str, Any], sent: Sent) -> dict[str, Any]:
    return {
        "id": row["id"],
        "source": sent.descriptions[row["series_instance_uid"]],
        "series_instance_uid": row["series_instance_uid"],
        "derived_series_instance_uid": row["derived_series_instance_uid"],
        "derived_orthanc_series_id": row["derived_orthanc_series_id"],
        "instances": row["derived_instances"],
        "seconds": row["timings_s"]["total"],
        "model": f"{row['model_name']} {row['model_version']}",
    }


def _show(stack: Stack, result: dict[str, Any]) -> None:
    """Print what lies in the archive now, and where to look."""
    console = Console()
    table = Table(title="Derived series in the archive")
    for heading in ("source", "slices", "seconds", "derived SeriesInstanceUID"):
        table.add_column(heading, overflow="fold")
    for series in result["series"]:
        table.add_row(
            series["source"],
            str(series["instances"]),
            f"{series['seconds']:.1f}",
            series["derived_series_instance_uid"],
        )
    console.print(table)
    token = stack.token("coordinator")
    waited = result["seconds_after_last_instance"]
    lines = (
        f"All were there {waited:g} s after the last instance had arrived.",
        "",
        f"Orthanc Explorer      {result['orthanc_explorer']}",
        f"API, interactive      {result['api_documentation']}",
        f"Reconstructions       {result['reconstructions']}",
        f"                      curl -H 'Authorization: Bearer {token}' \\",
        f"                        {result['reconstructions']}",
        'Reader study          docs/studies.md, "Try it on the demo", with these two:',
        f"                      export API={result['api']}",
        f"                      export COORDINATOR={token}",
        f"Send your own series  storescu -aec ORTHANC 127.0.0.1 {stack.dicom_port} FILES",
    )
    for line in lines:
        click.echo(line)


def _stay(stack: Stack) -> None:
    """Keep everything running until Ctrl-C."""
    click.echo("Ctrl-C ends everything.")
    try:
        while True:
            stack.check()
            time.sleep(1)
    except KeyboardInterrupt:
        click.echo("\nending...", err=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn a polite end from outside, or a closed terminal, into an orderly exit."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {n: signal.signal(n, leave) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let an impatient second Ctrl-C not leave anything behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
