"""Every column of every table, edited past the API, must be found: but for a list with reasons."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from api_study import DAY, Play, start_study, uid
from api_support import Api, done
from halfscan_api.database import Base, UtcDateTime
from halfscan_api.studies.evidence import NOT_EVIDENCE, Discrepancy
from halfscan_api.studies.service import get_study
from halfscan_api.studies.tables import Study
from halfscan_api.studies.trail import verify, verify_server

pytest_plugins = ["api_fixtures"]

# Columns that a CHECK restricts: a value, and another one.
CHOICES = {
    "study_case.kind": ("study", "training"),
    "noise_series.role": ("repeat", "noise_map"),
    "reading_session.kind": ("reading", "repeat"),
    "reading.state": ("complete", "withdrawn"),
    "measurement.source": ("viewer", "geometry"),
    "api_token.role": ("reader", "admin"),
    "reconstruction.status": ("done", "skipped"),
    "reconstruction_attempt.result": ("done", "failed"),
}


@pytest.fixture
def play(api: Api) -> Play:
    """A study with rows of every kind, beside another one."""
    row = api.add()
    derived = uid("small", "P01", "accelerated", "sag_t1")
    api.post(f"/{row['id']}/outcome", done(api.must_claim(), derived_series_instance_uid=derived))
    start_study(api, name="other", cases=1, readers=("x1",))
    play = start_study(api, cases=2, training=1, repeat_sessions=1, repeat_cases=1)
    noise = {"series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3"}
    play.run("PUT", "/cases/P01/noise-series/standard/sag_t1/repeat", noise)
    for reader in ("r1", "r2"):
        play.read_session(reader, 0)
        play.read_session(reader, 1)
    api.clock.advance(28 * DAY)
    play.read_session("r1", 2)
    session = play.session("r2", 2)
    play.run("PUT", "/enrolment", {"automatic": True})
    assert play.verify()["holds"], play.verify()
    override = {"reason": "the reader leaves"}
    api.clock.advance(-20 * DAY)
    api.send("POST", f"/api/v1/sessions/{session}/override", override, role="coordinator")
    play.run("POST", "/cases/P02/exclude", {"reason": "moved too much"})
    return play


def other_value(column: Column[Any], value: Any, name: str) -> Any:
    """A value that the column takes and that it does not have."""
    kind = column.type
    if name in CHOICES:
        new: Any = next(one for one in CHOICES[name] if one != value)
    elif isinstance(kind, Boolean):
        new = not value
    elif isinstance(kind, UtcDateTime):
        new = (value or datetime.fromisoformat("2030-01-01T00:00:00Z")) + timedelta(seconds=1)
    elif isinstance(kind, Integer | Float):
        new = (value or 0) + (1000 if column.primary_key else 1)
    elif isinstance(value, list):
        new = [*value, "edited"]
    elif isinstance(kind, String):
        new = "e" * len(value) if value else "edited"
    else:
        new = {"edited": True}
    return new


def edits(connection: Connection) -> Iterator[tuple[Table, Column[Any], Any, Any]]:
    """Give every column that is evidence with the row to be edited: its key, and the value."""
    for table in Base.metadata.sorted_tables:
        left_out = NOT_EVIDENCE.get(table.name, {})
        if "*" in left_out:
            continue
        key = list(table.primary_key)
        for column in table.columns:
            if column.name in left_out:
                continue
            query = select(*key, column.label("edited")).order_by(*key)
            rows = list(connection.execute(query))
            assert rows, f"the study has no row of {table.name}"
            # A row that has a value and that others refer to, where one has; a late one, since the
            # first are of the other study. A number that nothing refers to means nothing.
            used = referring(connection, column)
            rows.sort(key=lambda row: (row.edited is not None, row.edited in used))
            yield table, column, rows[-1][: len(key)], rows[-1].edited


def referring(connection: Connection, column: Column[Any]) -> list[Any]:
    """Values of a column that other rows refer to."""
    return [
        value
        for other in Base.metadata.sorted_tables
        for key in other.foreign_keys
        if key.column is column
        for value in connection.scalars(select(key.parent).distinct())
    ]


@contextmanager
def unguarded(play: Play) -> Iterator[Connection]:
    """A connection of someone who switches keys, checks and triggers off; nothing is kept."""
    database = play.api.database
    with database.engine.connect() as connection:
        driver = connection.connection.cursor()
        if database.is_sqlite:
            driver.execute("PRAGMA foreign_keys=OFF")
        with connection.begin() as transaction:
            if database.is_sqlite:
                for verb in ("update", "delete"):
                    connection.execute(text(f"DROP TRIGGER audit_event_no_{verb}"))
            else:
                connection.execute(text("SET LOCAL session_replication_role = replica"))
            yield connection
            transaction.rollback()
        if database.is_sqlite:
            driver.execute("PRAGMA foreign_keys=ON")


def names_it(fault: Discrepancy, table: Table, column: Column[Any]) -> bool:
    """Tell whether a fault names table and column; a number may be named by what refers to it."""
    named = {f"{fault.table}.{name}" for name in (fault.column or "").split(", ")}
    wanted = {f"{table.name}.{column.name}"}
    if column.primary_key:
        wanted |= {
            f"{other.name}.{key.parent.name}"
            for other in Base.metadata.sorted_tables
            for key in other.foreign_keys
            if key.column is column
        }
    return bool(named & wanted)


def test_an_edit_of_any_column_is_found(play: Play) -> None:
    assert play.verify()["holds"], play.verify()
    missed = []
    with unguarded(play) as connection:
        for table, column, key, value in list(edits(connection)):
            name = f"{table.name}.{column.name}"
            with connection.begin_nested() as savepoint:
                where = [one == other for one, other in zip(table.primary_key, key, strict=True)]
                new = other_value(column, value, name)
                done = connection.execute(update(table).where(*where).values({column: new}))
                assert done.rowcount == 1, name
                others: list[Discrepancy] = []
                with Session(connection) as session:
                    for fault in all_faults(session):
                        if names_it(fault, table, column):
                            break
                        others.append(fault)
                    else:
                        missed.append((name, value, new, others[:3]))
                savepoint.rollback()
    assert missed == [], "\n".join(map(str, missed))
    assert play.verify()["holds"]


def all_faults(session: Session) -> Iterator[Discrepancy]:
    """What the verification of any study, or of the server, says; not that triggers are gone.

    The newest study comes first: it is the one that is edited, and each takes a tenth of a second.
    """
    for number in session.scalars(select(Study.id).order_by(Study.id.desc())).all():
        found = verify(session, get_study(session, number))
        yield from (fault for fault in found if "trigger" not in fault.what)
    yield from (fault for fault in verify_server(session) if "trigger" not in fault.what)


def test_the_list_of_what_is_no_evidence_names_what_there_is() -> None:
    for name, columns in NOT_EVIDENCE.items():
        table = Base.metadata.tables[name]
        assert set(columns) <= {"*", *(column.name for column in table.columns)}, name
        assert all(columns.values())
