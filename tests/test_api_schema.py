"""The schema: tables and migrations agree on both databases; changes are all or nothing."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, make_url, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from api_support import START, Api, done, json_of
from halfscan_api import migrate
from halfscan_api.auth import ApiToken, Role, create_token
from halfscan_api.database import Base, Database
from halfscan_api.errors import DatabaseUnavailable
from halfscan_api.migrate import SchemaError
from halfscan_api.reconstructions.tables import Reconstruction, ReconstructionAttempt
from halfscan_api.settings import Settings
from halfscan_api.wsgi import create_app

pytest_plugins = ["api_fixtures"]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        url = make_url(f"sqlite:///{tmp_path}/empty.db")
    else:
        url = make_url(request.getfixturevalue("api_postgresql")).set(database="empty")
        with psycopg.connect(
            host=str(url.query["host"]), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute("DROP DATABASE IF EXISTS empty")
            connection.execute("CREATE DATABASE empty")
    database = Database(url)
    yield database
    database.dispose()


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def test_tables_and_migrations_agree(empty_database: Database) -> None:
    migrate.upgrade(empty_database)
    with empty_database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        checks = {
            (table.name, check["name"])
            for table in Base.metadata.sorted_tables
            for check in inspect(connection).get_check_constraints(table.name)
        }
    declared = {
        (table.name, str(constraint.name))
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert checks == declared
    assert ("reconstruction", "ck_reconstruction_status") in checks


def test_there_and_back_again(empty_database: Database) -> None:
    assert migrate.current(empty_database) is None
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database) == migrate.head()
    assert tables(empty_database) == {*Base.metadata.tables, "alembic_version"}
    migrate.downgrade(empty_database, "base")
    assert tables(empty_database) == {"alembic_version"}
    migrate.upgrade(empty_database)
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database) == migrate.head()


def test_a_migration_that_fails_leaves_nothing(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the way of the last table of the migration.
    with empty_database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE reconstruction_attempt (id INTEGER)"))
    with pytest.raises(DatabaseUnavailable, match="reconstruction_attempt"):
        migrate.upgrade(empty_database)
    assert tables(empty_database) == {"reconstruction_attempt"}


def test_a_schema_from_the_future_is_left_alone(empty_database: Database) -> None:
    migrate.upgrade(empty_database)
    with empty_database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        SchemaError, match=rf"9999.*newer version\? this one knows {migrate.head()}"
    ):
        migrate.upgrade(empty_database)
    with pytest.raises(SchemaError):
        migrate.downgrade(empty_database, "base")
    assert "reconstruction" in tables(empty_database)


def test_several_that_start_at_once_migrate_once(empty_database: Database) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        database = Database(empty_database.engine.url)
        try:
            migrate.upgrade(database)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)
        finally:
            database.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrate.current(empty_database) == migrate.head()


def test_a_migration_keeps_the_rows_that_refer_to_a_changed_table(sqlite_api: Api) -> None:
    sqlite_api.add()
    sqlite_api.must_claim()
    with migrate._transaction(sqlite_api.database) as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT * FROM reconstruction")
        connection.exec_driver_sql("DROP TABLE reconstruction")
        connection.exec_driver_sql("ALTER TABLE copy RENAME TO reconstruction")
        connection.exec_driver_sql("CREATE UNIQUE INDEX k ON reconstruction (id)")
    with sqlite_api.database.read() as session:
        assert len(session.scalars(select(ReconstructionAttempt)).all()) == 1


def test_a_migration_must_not_leave_rows_that_refer_to_nothing(sqlite_api: Api) -> None:
    sqlite_api.add()
    sqlite_api.must_claim()
    with (
        pytest.raises(SchemaError, match="1 rows would refer to nothing"),
        migrate._transaction(sqlite_api.database) as connection,
    ):
        connection.exec_driver_sql("DELETE FROM reconstruction")
    assert sqlite_api.show(1)["status"] == "leased"


def test_the_flask_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api_environment: None
) -> None:
    monkeypatch.setenv("HALFSCAN_API_DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    app = create_app()
    runner = app.test_cli_runner()
    head = migrate.head()
    for command, says in (
        (["current"], f"base (newest: {head})"),
        (["upgrade"], head),
        (["current"], f"{head} (newest: {head})"),
        (["downgrade", "base"], "base"),
    ):
        result = runner.invoke(args=["db", *command])
        assert (result.exit_code, result.stdout.splitlines()[-1:]) == (0, [says])
    result = runner.invoke(args=["db", "upgrade", "nonsense"])
    assert result.exit_code == 1
    assert "nonsense" in result.stderr
    assert "Traceback" not in result.output


def test_a_revision_is_written_from_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Database
) -> None:
    migrations = tmp_path / "migrations"
    (migrations / "versions").mkdir(parents=True)
    known = sorted(migrate.MIGRATIONS.glob("versions/0*.py"))
    for path in (migrate.MIGRATIONS / "env.py", migrate.MIGRATIONS / "script.py.mako", *known):
        copy = migrations / path.relative_to(migrate.MIGRATIONS)
        copy.write_text(path.read_text())
    migrate.upgrade(empty_database)
    with empty_database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE reconstruction DROP COLUMN warnings"))
        connection.execute(text("ALTER TABLE reconstruction DROP COLUMN finished_at"))
    monkeypatch.setattr(migrate, "MIGRATIONS", migrations)
    migrate.new_revision(empty_database, "Bring it back")
    [written] = (migrations / "versions").glob(f"{int(migrate.head()) + 1:04}_*.py")
    code = written.read_text()
    assert "add_column" in code
    assert "sa.DateTime(timezone=True)" in code
    assert "halfscan_api" not in code
    compile(code, str(written), "exec")


def test_a_name_counts_once_at_a_time_in_the_database_itself(api: Api) -> None:
    rows = [
        ApiToken(name="x", role="reader", sha256=digest * 64, created_at=START) for digest in "ab"
    ]
    with pytest.raises(IntegrityError), api.database.write() as session:
        session.add_all(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ApiToken(name="x", role="owner", sha256="a" * 64, created_at=START),
        lambda: ReconstructionAttempt(
            reconstruction_id=77, attempt=1, worker="w", lease_token="t", started_at=START
        ),
    ],
    ids=["role", "attempt of nothing"],
)
def test_the_database_refuses_what_cannot_be(api: Api, make: Callable[[], Base]) -> None:
    with pytest.raises(IntegrityError), api.database.write() as session:
        session.add(make())


def test_times_are_utc_whatever_zone_they_come_in(api: Api) -> None:
    tokyo = timezone(timedelta(hours=9))
    moment = datetime(2030, 1, 1, 5, 6, 7, 89, tzinfo=tokyo)
    with api.database.write() as session:
        row, _ = create_token(session, name="x", role=Role.READER, now=moment)
        row_id = row.id
    with api.database.read() as session:
        stored = session.get_one(ApiToken, row_id).created_at
    assert stored == moment
    assert stored.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(sqlite_api: Api) -> None:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - what is tested
    with (
        pytest.raises(StatementError, match="a time must carry its zone"),
        sqlite_api.database.write() as session,
    ):
        create_token(session, name="x", role=Role.READER, now=naive)


def test_sqlite_is_durable_and_checks_its_keys(sqlite_api: Api) -> None:
    with sqlite_api.database.engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15_000,
    }


def test_a_reader_is_not_held_up_by_a_writer(sqlite_api: Api) -> None:
    sqlite_api.add()
    sqlite_api.get()
    with sqlite_api.database.write() as session:
        session.add(ApiToken(name="x", role="reader", sha256="a" * 64, created_at=START))
        session.flush()
        assert json_of(sqlite_api.get())["total"] == 1


def test_a_failed_write_leaves_nothing(api: Api) -> None:
    def write_and_fail() -> None:
        with api.database.write() as session:
            session.add(ApiToken(name="x", role="reader", sha256="a" * 64, created_at=START))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with api.database.read() as session:
        assert session.scalar(select(ApiToken).where(ApiToken.name == "x")) is None


def test_json_null_is_null_in_the_table(api: Api) -> None:
    api.add()
    api.post("/1/outcome", done(api.must_claim(), quality=None, warnings=None))
    with api.database.read() as session:
        query = select(Reconstruction.id).where(
            Reconstruction.quality.is_(None), Reconstruction.warnings.is_(None)
        )
        assert session.scalars(query).all() == [1]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("this is a letter to my aunt " * 100)
    database = Database(Settings(database_url=f"sqlite:///{path}").url)
    with pytest.raises(DatabaseUnavailable, match=r"x\.db cannot be used: file is not a database"):
        migrate.upgrade(database)
    database.dispose()
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT * FROM sqlite_master")
