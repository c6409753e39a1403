"""Commands of the API: ``halfscan serve`` and ``halfscan token``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from halfscan_api import auth, migrate, server
from halfscan_api.audit import COMMAND_LINE, SYSTEM, Trail
from halfscan_api.database import Database, utc_now
from halfscan_api.logs import configure_logging
from halfscan_api.migrate import one_line_errors
from halfscan_api.settings import Settings, SettingsError

database_option = click.option(
    "--database-url",
    help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
)


@click.command()
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (8780); 0 takes a free one.")
@database_option
@click.option("--threads", type=int, help="Requests that are answered at the same time (8).")
@click.option("--lease-s", type=int, help="Lease of a claim in seconds (60).")
@click.option("--max-attempts", type=int, help="Attempts before a job is dead (3).")
@click.option("--log-level", help="debug, info (the default), warning or error.")
@click.option("--log-format", help="json (the default) or console.")
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help='Written once it answers: {"url": ..., "pid": ...}.',
)
def serve(ready_file: Path | None, **options: str | int | None) -> None:
    """Serve the API; creates the database, or brings it up to date, first.

    Every option can also be given as an environment variable HALFSCAN_API_<OPTION>.
    """
    with one_line_errors():
        settings = Settings.load(**options)
        configure_logging(settings)
        if ready_file is not None and not ready_file.parent.is_dir():
            raise click.UsageError(f"--ready-file needs an existing folder, got {ready_file}")
        # The port comes first: while it is taken, the database may well belong to who has it.
        with server.listen(settings.host, settings.port) as listener:
            with _migrated(settings) as database:
                name = database.name

            def announce(url: str) -> None:
                click.echo(f"Halfscan API on {url}, documentation on {url}/docs, data in {name}")

            server.serve(settings, listener, ready_file=ready_file, announce=announce)


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that programs and people use."""


@token.command("create")
@click.option("--role", required=True, type=click.Choice([role.value for role in auth.Role]))
@click.option("--name", required=True, help="What the token is for, such as worker-1.")
@click.option("--days", type=click.IntRange(1, 36500), help="Days that it counts (no end).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@database_option
def _create(
    *, role: str, name: str, days: int | None, as_json: bool, database_url: str | None
) -> None:
    """Make a token and show it, this once."""
    if role == auth.Role.READER:
        raise click.UsageError(
            "a reader's token belongs to a reader of a study: the coordinator makes both at once, "
            "POST /api/v1/studies/ID/readers"
        )
    with open_database(database_url) as database, database.write() as session:
        now = utc_now()
        row, secret = auth.create_token(
            session, name=name, role=auth.Role(role), now=now, days=days
        )
        trail = Trail(session, SYSTEM, COMMAND_LINE, now)
        trail.record("token.create", f"token/{row.id}", new=auth.token_state(row))
        facts = _facts(row)
    if as_json:
        click.echo(json.dumps({**facts, "token": secret}))
        return
    click.echo(secret)
    click.echo(
        f"Token {facts['id']} ({role}, {name}) counts until {facts['expires_at'] or 'revoked'}. "
        f"It cannot be shown again. It is in {database.engine.url}: the API must use the same.",
        err=True,
    )


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@database_option
def _list(*, as_json: bool, database_url: str | None) -> None:
    """List the tokens; never the secrets."""
    with open_database(database_url, must_exist=True) as database, database.read() as session:
        rows = [_facts(row) for row in auth.list_tokens(session)]
    if as_json:
        click.echo(json.dumps(rows))
        return
    columns = ("id", "name", "role", "created_at", "expires_at", "revoked_at", "last_used_at")
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(str(row[column] if row[column] is not None else "") for column in columns))
    Console().print(table)


@token.command("revoke")
@click.argument("id_or_name")
@database_option
def _revoke(id_or_name: str, database_url: str | None) -> None:
    """Revoke the token with this ID or name, from now on."""
    with open_database(database_url, must_exist=True) as database, database.write() as session:
        now = utc_now()
        row = auth.revoke_token(session, id_or_name, now=now)
        if row.revoked_at == now:
            trail = Trail(session, SYSTEM, COMMAND_LINE, now)
            trail.record("token.revoke", f"token/{row.id}", new=auth.token_state(row))
        click.echo(f"Token {row.id} ({row.role}, {row.name}) no longer counts.")


@contextmanager
def open_database(database_url: str | None, *, must_exist: bool = False) -> Iterator[Database]:
    """Give the database of a command; what goes wrong becomes one line."""
    with one_line_errors():
        settings = Settings.load(database_url=database_url)
        if must_exist:
            _check_exists(settings)
        # Standard output is for the answer alone, so that a script can read it.
        configure_logging(settings.model_copy(update={"log_level": "warning"}))
        with _migrated(settings) as database, database.explained():
            yield database


def _check_exists(settings: Settings) -> None:
    """Refuse a SQLite file that is not there: asking for tokens must not make an empty one."""
    file = settings.url.database
    if settings.url.drivername.startswith("sqlite") and file and not Path(file).exists():
        raise SettingsError(
            f"there is no database {file}; HALFSCAN_API_DATABASE_URL or --database-url must name "
            "the one that the API uses"
        )


@contextmanager
def _migrated(settings: Settings) -> Iterator[Database]:
    """Give the database at the newest schema; its connections are closed at the end.

    They must be: the server forks, and a connection must not be in two processes.
    """
    database = Database(settings.url, info=settings.session_info)
    try:
        migrate.upgrade(database)
        yield database
    finally:
        database.dispose()


def _facts(row: auth.ApiToken) -> dict[str, str | int | None]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "created_at": _text(row.created_at),
        "expires_at": _text(row.expires_at),
        "revoked_at": _text(row.revoked_at),
        "last_used_at": _text(row.last_used_at),
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None
