"""Schema of the database: plain Alembic, and the commands of ``flask db``."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import alembic.command
import alembic.util
import click
import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask.cli import with_appcontext
from sqlalchemy import Connection, text

from halfscan_api.database import BUSY_TIMEOUT_S, Database
from halfscan_api.errors import HalfscanError
from halfscan_api.state import state

log = structlog.stdlib.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number, the same everywhere: two processes that start at once migrate one after the other.
_LOCK_KEY = 4_815_162_342
# Several that start at once on a busy machine wait for all that came first.
MIGRATION_TIMEOUT_S = 180


class SchemaError(HalfscanError):
    """The schema cannot be brought to the wanted revision."""


@cache
def head() -> str:
    """Newest revision that this program knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise SchemaError(f"no migration in {MIGRATIONS}")
    return revision


def current(database: Database) -> str | None:
    """Revision of the database; None before the first migration."""
    with database.explained(), database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema forward, all or nothing.

    Raises
    ------
    SchemaError
        The database carries a revision that this program does not know.
    DatabaseUnavailable
        It cannot be reached, opened or written.
    """
    database.create_file()
    with _transaction(database) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        alembic.command.upgrade(_config(connection), revision)
        after = MigrationContext.configure(connection).get_current_revision()
    if after != before:
        log.info("schema_upgraded", before=before, after=after)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to a revision, all or nothing; raises as `upgrade` does."""
    with _transaction(database) as connection:
        alembic.command.downgrade(_config(connection), revision)


def new_revision(database: Database, message: str) -> None:
    """Write a migration from the difference between the tables and the database."""
    with _transaction(database) as connection:
        alembic.command.revision(
            _config(connection), message, autogenerate=True, rev_id=f"{int(head()) + 1:04}"
        )


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _transaction(database: Database) -> Iterator[Connection]:
    try:
        with database.explained(), database.writing_connection() as connection:
            if database.is_sqlite:
                # A table is changed by copying it: with the keys on, dropping the old copy would
                # delete the rows that refer to it. The switch works outside a transaction only.
                with _patient_and_keyless(connection), connection.begin():
                    yield connection
                    _check_foreign_keys(connection)
            else:
                with connection.begin():
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY}
                    )
                    yield connection
    except alembic.util.CommandError as error:
        raise SchemaError(
            f"the schema of {database.name} cannot be changed: {error} "
            f"(was it written by a newer version? this one knows {head()})"
        ) from error


@contextmanager
def _patient_and_keyless(connection: Connection) -> Iterator[None]:
    """Turn foreign keys off, and wait for another process's migration as PostgreSQL's lock does."""
    driver = connection.connection.cursor()
    driver.execute("PRAGMA foreign_keys=OFF")
    driver.execute(f"PRAGMA busy_timeout={MIGRATION_TIMEOUT_S * 1000}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        driver.execute("PRAGMA foreign_keys=ON")
        driver.close()


def _check_foreign_keys(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise SchemaError(f"{len(broken)} rows would refer to nothing, first in {broken[0][0]}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show a `HalfscanError` on the command line as one line."""
    try:
        yield
    except HalfscanError as error:
        raise click.ClickException(str(error)) from error


@click.group()
def db() -> None:
    """Schema of the database."""


@db.command("upgrade")
@click.argument("revision", default="head")
@with_appcontext
def _upgrade(revision: str) -> None:
    """Bring the schema forward to REVISION (the newest by default)."""
    with one_line_errors():
        upgrade(state().database, revision)
        click.echo(current(state().database))


@db.command("downgrade")
@click.argument("revision")
@with_appcontext
def _downgrade(revision: str) -> None:
    """Take the schema back to REVISION ("base": no tables, and no data)."""
    with one_line_errors():
        downgrade(state().database, revision)
        click.echo(current(state().database) or "base")


@db.command("current")
@with_appcontext
def _current() -> None:
    """Show the revision of the database and the newest one."""
    with one_line_errors():
        click.echo(f"{current(state().database) or 'base'} (newest: {head()})")


@db.command("revision")
@click.option("-m", "--message", required=True)
@with_appcontext
def _revision(message: str) -> None:
    """Write a migration from the difference between the tables and the database."""
    with one_line_errors():
        new_revision(state().database, message)
