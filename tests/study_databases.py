"""A database and a token for a server that a test starts: as someone who installs it makes them."""

import os
from pathlib import Path

import psycopg
import structlog
from click.testing import CliRunner
from sqlalchemy import make_url

from halfscan_api.__main__ import main


def new_database(kind: str, folder: Path, postgresql: str | None, name: str) -> str:
    """Give the address of an empty database.

    Parameters
    ----------
    kind : str
        ``sqlite`` or ``postgresql``.
    folder : Path
        For the file of SQLite.
    postgresql : str or None
        Address of a database of the PostgreSQL server.
    name : str
        Of the new database; one that exists is dropped.
    """
    if kind == "sqlite":
        return f"sqlite:///{folder}/{name}.db"
    assert postgresql is not None
    url = make_url(postgresql)
    with psycopg.connect(
        host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True
    ) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.set(database=name).render_as_string()


def new_token(database_url: str, role: str) -> str:
    """Make a token on the command line."""
    settings: dict[str, str | None] = {
        name: None for name in os.environ if name.upper().startswith("HALFSCAN_")
    }
    arguments = ("token", "create", "--role", role, "--name", f"the-{role}")
    result = CliRunner().invoke(main, [*arguments, "--database-url", database_url], env=settings)
    # The command has set up the log, on a stream that is closed by now.
    structlog.reset_defaults()
    assert result.exit_code == 0, result.output
    return result.stdout.strip()
