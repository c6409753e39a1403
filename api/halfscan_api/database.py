"""The database: one engine, a session for each unit of work, times in UTC.

SQLite and PostgreSQL run the same code. A write on SQLite begins with ``BEGIN IMMEDIATE``: it
waits for its turn instead of failing half way, and what it read stays true until it commits.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy.exc
from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    create_engine,
    event,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from halfscan_api.errors import DatabaseUnavailable, one_line

Clock = Callable[[], datetime]

# Largest id of a row: what a signed 64-bit column holds.
MAX_ID = 2**63 - 1
BUSY_TIMEOUT_S = 15
_BEGIN = "halfscan_begin"


def storable(text: str) -> str:
    """Give a text as it may be looked up: PostgreSQL takes no character U+0000, nowhere."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def utc_now() -> datetime:
    """Time now, with its zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware on the way in, UTC in the table, aware (UTC) on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a time without a zone is refused, since nobody knows what it means."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time must carry its zone, got {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back, which SQLite does not store."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts up only in a column that is exactly INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def one_of(column: str, values: type[StrEnum]) -> str:
    """Condition of a CHECK constraint: the column holds one of the values."""
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class Base(DeclarativeBase):
    """Root of all tables."""

    # Every constraint has a name on both databases, so that a migration can name it.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """The engine and its sessions.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``sqlite:///FILE`` or ``postgresql+psycopg://...``; see `halfscan_api.settings.Settings`.
    pool_size : int
        Connections that are kept; as many again may be opened for a moment.
    info : mapping, optional
        What every session carries (`Session.info`).
    """

    def __init__(
        self, url: URL, *, pool_size: int = 8, info: Mapping[str, Any] | None = None
    ) -> None:
        self._info = dict(info or {})
        self.is_sqlite = url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_TIMEOUT_S}
        else:
            options["connect_args"] = {"connect_timeout": 10}
            options["pool_pre_ping"] = True
        self.engine: Engine = create_engine(url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        # What SQLite does anyway: every statement of a transaction sees the same state.
        self._snapshots = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writer = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})

    @property
    def name(self) -> str:
        """Address of the database without its password."""
        return str(self.engine.url)

    def create_file(self) -> None:
        """Make the file of SQLite, where there is none, for its owner alone.

        It holds the arms and the key of the blinded identifiers; SQLite gives its other files (-wal
        and -shm) the same rights.
        """
        path = self.engine.url.database
        if not self.is_sqlite or not path or path.startswith("file:"):
            return
        # What goes wrong here (no such folder), SQLite says when it opens the file.
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that changes nothing."""
        with self._session(self.engine) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Give a session that changes nothing and sees one state of the database to its end."""
        with self._session(self._snapshots) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session that commits at the end, or rolls back on an exception."""
        with self._session(self._writer) as session, session.begin():
            yield session

    def _session(self, engine: Engine) -> Session:
        return Session(engine, expire_on_commit=False, info=self._info)

    @contextmanager
    def writing_connection(self) -> Iterator[Connection]:
        """Give a bare connection for a migration; its transaction is the caller's to begin."""
        with self._writer.connect() as connection:
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an error of the database into one that names it and the cause.

        Raises
        ------
        DatabaseUnavailable
            When the database cannot be reached, opened, read or written.
        """
        try:
            yield
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
            raise DatabaseUnavailable(
                f"the database {self.name} cannot be used: {one_line(error)}{self._hint(error)}"
            ) from error

    def _hint(self, error: Exception) -> str:
        if self.is_sqlite and "unable to open" in one_line(error):
            return " (is it a file in a folder that exists and that this user may write to?)"
        return ""

    def dispose(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    del record
    # The driver must not begin transactions by itself: _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    # First: the pragmas below need a lock themselves.
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: what was acknowledged survives a power cut, not only a kill.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))
