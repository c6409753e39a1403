"""``halfscan report``: the report of a study, written from the database without a server."""

import sys
from pathlib import Path

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.audit import COMMAND_LINE
from halfscan_api.cli import database_option, open_database
from halfscan_api.database import storable, utc_now
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report import ledger
from halfscan_api.statistics.report.build import build
from halfscan_api.statistics.report.facts import Facts, load_facts
from halfscan_api.statistics.report.ledger import version_of
from halfscan_api.statistics.service import compute_table
from halfscan_api.studies.service import StudyNotFound, get_study, lock_study, trail_of
from halfscan_api.studies.tables import Study
from halfscan_api.studies.trail import note_look


@click.command("report")
@click.argument("study")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="File to write; one that exists is replaced.",
)
@database_option
def command(study: str, out: Path, database_url: str | None) -> None:
    """Write the report of STUDY, its name or number, as one HTML file.

    While readings are left, that somebody looked is recorded in the audit trail.
    """
    if not out.parent.is_dir():
        raise click.UsageError(f"--out needs an existing folder, got {out}")
    with open_database(database_url, must_exist=True) as database:
        with database.snapshot() as session:
            row = find_study(session, study)
            facts = load_facts(session, row, load_frame(session, row))
            page = _page(session, row, facts)
        # First the note, then the file: nobody sees a report that the trail does not know of.
        with database.write() as session:
            locked = lock_study(session, row.id)
            trail = trail_of(session, locked, COMMAND_LINE, utc_now())
            note_look(trail, locked, "statistics/report")
    out.write_text(page, encoding="utf-8")
    click.echo(f"{out}: study {facts.frame.name}, revision {facts.frame.revision}", err=True)


def _page(session: Session, study: Study, facts: Facts) -> str:
    """Take the report that a server has made of this state, or write it."""
    made = ledger.find(session, version_of(study, facts), content=True)
    page = None if made is None else ledger.html_of(made)
    if page is not None:
        return page
    return build(
        session,
        facts,
        lambda name, query: compute_table(session, study, name, query),
        progress=_say,
    )


def _say(done: int, parts: int, part: str) -> None:
    """Write how far the report is; over the line before, where a person looks on."""
    line = f"{done + 1} of {parts}: {part}"
    if not sys.stderr.isatty():
        click.echo(line, err=True)
    else:
        end = "\n" if done + 1 == parts else ""
        click.echo(f"\r\033[K{line}{end}", err=True, nl=False)


def find_study(session: Session, key: str) -> Study:
    """Get a study by its name or number; names begin with a letter.

    Raises
    ------
    StudyNotFound
    """
    if key.isdecimal():
        return get_study(session, int(key))
    row = session.scalar(select(Study).where(Study.name == storable(key)))
    if row is None:
        raise StudyNotFound(f"there is no study named {key!r}")
    return row
