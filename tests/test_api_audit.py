"""The audit trail: append-only, chained, and the tables must be what it says."""
# ruff: noqa: S608 - the statements are the test's own

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from api_study import Play, plain_answers, start_study
from api_support import START, Api, json_of
from halfscan_api import migrate
from halfscan_api.append_only import SQLITE
from halfscan_api.audit import (
    SEAL_KEY,
    SYSTEM,
    Actor,
    AuditHead,
    Trail,
    check_seal,
    difference,
    merge,
    seal_of,
)
from halfscan_api.database import Database
from halfscan_api.studies.evidence import Discrepancy
from halfscan_api.studies.service import get_study
from halfscan_api.studies.trail import verify, verify_server

pytest_plugins = ["api_fixtures"]

ACTOR = Actor(token_id=1, name="someone", role="coordinator")


@pytest.fixture
def play(api: Api) -> Play:
    made = start_study(api, cases=2, training=1)
    made.read_session("r1", 0)
    made.read_session("r1", 1)
    made.must_next("r2", made.session("r2")).put(
        "scores", [{"sequence": "sag_t1", "criterion": "noise", "value": 2}]
    )
    made.run("POST", "/cases/P02/exclude", {"reason": "moved too much"})
    return made


@contextmanager
def tampered(play: Play, *statements: str) -> Iterator[Session]:
    """Change the database past the API, as its owner can, and take it back afterwards."""
    database = play.api.database
    with database.engine.connect() as connection, connection.begin() as transaction:
        if database.is_sqlite:
            for verb in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER audit_event_no_{verb}"))
        else:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            assert connection.execute(text(statement)).rowcount != 0, statement
        with Session(connection) as session:
            yield session
        transaction.rollback()


def found_by(play: Play, *statements: str, known_hash: str | None = None) -> list[Discrepancy]:
    with tampered(play, *statements) as session:
        return verify(session, get_study(session, play.study_id), known_hash=known_hash)


def faults(play: Play) -> list[dict[str, Any]]:
    body = play.verify()
    assert body["holds"] is (body["faults"] == [])
    found: list[dict[str, Any]] = body["faults"]
    return found


def test_every_event_says_who_when_what_and_why(play: Play) -> None:
    events = play.events()
    assert [event["sequence_number"] for event in events] == list(range(1, len(events) + 1))
    assert [event["action"] for event in events][:3] == [
        "study.create",
        "protocol.version",
        "case.enrol",
    ]
    [excluded] = [event for event in events if event["action"] == "case.exclude"]
    assert (excluded["actor"], excluded["role"], excluded["reader"]) == (
        "the-coordinator",
        "coordinator",
        None,
    )
    assert excluded["reason"] == "moved too much"
    assert excluded["old"] == {"excluded_at": None, "exclusion_reason": None}
    assert excluded["new"]["exclusion_reason"] == "moved too much"
    completed = [event for event in events if event["action"] == "reading.complete"]
    assert {event["reader"] for event in completed} == {"r1"}
    assert {event["actor"] for event in completed} == {"small.r1"}
    assert all(event["at"] >= START.isoformat() for event in events)
    assert faults(play) == []


def test_events_are_listed_page_by_page(play: Play) -> None:
    everything = play.events()
    pages: list[dict[str, Any]] = []
    after = 0
    while True:
        page = play.run("GET", f"/audit?after={after}&per_page=7")
        if not page["items"]:
            break
        pages += page["items"]
        after = page["items"][-1]["sequence_number"]
    # Looking is an event itself, once for each revision; these two looks were at the same one.
    assert pages[: len(everything)] == everything
    assert [one["action"] for one in pages[len(everything) :]] == ["looked"]
    subject = everything[2]["subject"]
    assert {one["subject"] for one in play.events(subject=subject)} == {subject}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET reason = 'another' WHERE sequence_number = 3",
        "DELETE FROM audit_event WHERE sequence_number = 3",
        "DELETE FROM audit_event",
    ],
)
def test_the_database_refuses_a_change_of_an_event(play: Play, statement: str) -> None:
    with (
        pytest.raises(DatabaseError, match="audit_event is append-only"),
        play.api.database.engine.begin() as connection,
    ):
        connection.execute(text(statement))
    assert faults(play) == []


def test_postgresql_refuses_to_empty_the_trail(play: Play) -> None:
    if play.api.database.is_sqlite:
        pytest.skip("SQLite has no TRUNCATE")
    with (
        pytest.raises(DatabaseError, match="append-only"),
        play.api.database.engine.begin() as connection,
    ):
        connection.execute(text("TRUNCATE audit_event"))


_LAST = "(SELECT max(sequence_number) FROM audit_event WHERE chain = 'small')"
_CHAIN = "WHERE chain = 'small' AND sequence_number"


# Edits of the events, and what must be said of them.
EVENT_EDITS = [
    (f"UPDATE audit_event SET reason = 'x' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET at = '2031-01-01 00:00:00' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET actor = 'x' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET reader = 'r9' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET token_id = 77 {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET new_text = '{{}}' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET new_text = '{{' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET hash = '{'0' * 64}' {_CHAIN} = 5", "was changed"),
    (f"UPDATE audit_event SET previous_hash = '{'0' * 64}' {_CHAIN} = 5", "does not follow"),
    (f"DELETE FROM audit_event {_CHAIN} = 5", "must be number 5: events are missing"),
    (f"DELETE FROM audit_event {_CHAIN} = 1", "must be number 1: events are missing"),
    (f"DELETE FROM audit_event {_CHAIN} = {_LAST}", "the chain must end at event"),
    (f"UPDATE audit_event SET sequence_number = 900 {_CHAIN} = 5", "events are missing"),
    ("UPDATE audit_head SET sequence_number = 3 WHERE chain = 'small'", "must end at event 3"),
]


def test_an_edit_of_the_trail_is_found(play: Play) -> None:
    for statement, says in EVENT_EDITS:
        found = found_by(play, statement)
        assert any(says in fault.what for fault in found), (statement, found)
    assert faults(play) == []


def test_an_event_that_was_put_in_is_found(play: Play) -> None:
    columns = "chain, at, token_id, actor, role, action, subject, new_text, previous_hash, hash"
    found = found_by(
        play,
        f"INSERT INTO audit_event (sequence_number, {columns}) "
        f"SELECT sequence_number + 1000, {columns} FROM audit_event {_CHAIN} = 4",
    )
    assert any("events are missing" in fault.what for fault in found)


# The owner of the database cuts the end off, and mends the head.
CUT_OFF = (
    f"DELETE FROM audit_event {_CHAIN} = {_LAST}",
    (
        "UPDATE audit_head SET sequence_number = sequence_number - 1, hash = "
        f"(SELECT hash FROM audit_event {_CHAIN} = {_LAST}) WHERE chain = 'small'"
    ),
)


def test_a_chain_that_was_computed_anew_is_found_by_a_hash_from_outside(play: Play) -> None:
    noted = play.verify()["head_hash"]
    assert play.run("GET", f"/audit/verify?known_hash={noted}")["holds"]
    unknown = play.run("GET", f"/audit/verify?known_hash={'0' * 64}")
    assert not unknown["holds"]
    found = found_by(play, *CUT_OFF, known_hash=noted)
    assert any("the chain was written anew" in fault.what for fault in found)


def test_an_end_that_was_cut_off_is_found_by_the_seal(play: Play) -> None:
    """The last event tells of a look, so the tables are the same without it."""
    play.run("GET", "/audit")
    assert play.events()[-1]["action"] == "looked"
    found = [one for one in found_by(play, *CUT_OFF) if one.table != "audit_event"]
    assert [one.what for one in found] == [
        "the head does not carry its seal: the chain was cut off, or the key is another"
    ]


def test_a_broken_seal_is_not_mended_by_the_next_event(play: Play) -> None:
    with tampered(play, *CUT_OFF) as session:
        study = get_study(session, play.study_id)
        Trail(session, study.name, ACTOR, START).record("test", "export")
        assert any("does not carry its seal" in one.what for one in verify(session, study))


def test_a_key_outside_the_database_makes_the_seal_a_proof(play: Play) -> None:
    """Who does not have the key cannot seal a head, though the program is known."""
    database = play.api.database
    keyed = Database(database.engine.url, info={SEAL_KEY: b"kept in another place"})
    with keyed.write() as session:
        Trail(session, "keyed", ACTOR, START).record("test", "a")
    with keyed.read() as session:
        assert list(check_seal(session, "keyed")) == []
    with database.write() as session:
        head = session.get_one(AuditHead, "keyed")
        head.seal = seal_of(session, head)
    with keyed.read() as session:
        assert [one.table for one in check_seal(session, "keyed")] == ["audit_head"]
    keyed.dispose()


def test_what_was_there_before_is_told_by_the_upgrade(tmp_path: Path) -> None:
    database = Database(make_url(f"sqlite:///{tmp_path}/old.db"))
    migrate.upgrade(database, "0005")
    with database.engine.begin() as connection:
        for statement in (
            (
                "INSERT INTO api_token (id, name, role, sha256, created_at) "
                "VALUES (7, 'small.r1', 'reader', 'ab', '2030-01-01 00:00:00.000000')"
            ),
            (
                "INSERT INTO study (id, name, title, protocol_version, revision, seed, secret, "
                "created_at) VALUES (3, 'small', 't', 1, 9, 1, 'cd', '2030-01-01 00:00:00.000000')"
            ),
            (
                "INSERT INTO reader (id, study_id, name, token_id, created_at) "
                "VALUES (1, 3, 'r1', 7, '2030-01-01 00:00:00.000000')"
            ),
        ):
            connection.execute(text(statement))
    migrate.upgrade(database)
    with database.write() as session:
        assert verify_server(session) == []
        session.execute(text("UPDATE reader SET token_id = NULL"))
        session.execute(text("UPDATE api_token SET role = 'admin'"))
        found = {(one.table, one.column) for one in verify_server(session)}
        assert found == {("reader", "token_id"), ("api_token", "role")}
        session.rollback()
    database.dispose()


def test_triggers_that_are_gone_are_told(play: Play) -> None:
    api = play.api
    drop = (
        ["DROP TRIGGER audit_event_no_update", "DROP TRIGGER audit_event_no_delete"]
        if api.database.is_sqlite
        else ["ALTER TABLE audit_event DISABLE TRIGGER audit_event_no_change"]
    )
    again = (
        list(SQLITE.values())
        if api.database.is_sqlite
        else ["ALTER TABLE audit_event ENABLE TRIGGER audit_event_no_change"]
    )
    for statements, gone in ((drop, len(drop)), (again, 0)):
        with api.database.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        assert [one["what"] for one in faults(play) if "trigger" in one["what"]] == [
            one["what"] for one in faults(play)
        ]
        assert len(faults(play)) == gone
        server = json_of(api.send("GET", "/api/v1/audit/verify", role="admin"))
        assert server["holds"] is (gone == 0)


# Edits of the tables; the subject and the words that must be in what is said of them.
TABLE_EDITS: list[tuple[str, str | None, str]] = [
    ("UPDATE score SET value = 5 - value", "reading/", "scores/sag_t1/noise/value"),
    ("DELETE FROM score", "reading/", "scores"),
    ("UPDATE score SET criterion = 'beauty' WHERE criterion = 'noise'", "reading/", "scores"),
    ("UPDATE score SET saved_at = '2031-01-01 00:00:00'", "reading/", "saved_at"),
    ("UPDATE score SET arm = 'other'", "reading/", "score.arm"),
    ("UPDATE score SET reader_id = 2", "reading/", "score.reader_id"),
    ("UPDATE score SET session_number = 9", "reading/", "score.session_number"),
    ("UPDATE finding SET value = 1 - value", "reading/", "findings/disc_bulge/L4/L5/value"),
    ("UPDATE finding SET case_id = 1 WHERE case_id = 2", "reading/", "finding.case_id"),
    ("UPDATE measurement SET mean = mean * 1.5", "reading/", "sag_t1/psoas/mean"),
    ("UPDATE measurement SET snr = 99", "reading/", "psoas/snr"),
    ("UPDATE measurement SET transferred = (1 = 1)", "reading/", "measurement.arm, transferred"),
    ("UPDATE reading SET arm = 'x' WHERE arm = 'standard'", "reading/", "arm"),
    ("UPDATE reading SET active_s = 1 WHERE state = 'complete'", "reading/", "active_s"),
    ("UPDATE reading SET counted = (1 = 0)", "reading/", "counted"),
    ("UPDATE reading SET completed_at = NULL", "reading/", "completed_at"),
    ("UPDATE reading SET code = 'c' WHERE id = 1", "reading/c", "in no event"),
    ("UPDATE study_case SET pseudonym = 'P77' WHERE pseudonym = 'P01'", "case/P77", "in no"),
    (
        "UPDATE study_case SET excluded_at = NULL, exclusion_reason = NULL",
        "case/P02",
        "study_case.excluded_at",
    ),
    ("UPDATE case_series SET series_instance_uid = '1.2' WHERE id = 1", "case/", "series"),
    ("UPDATE case_series SET scan_time_s = 1", "case/", "scan_time_s"),
    ("DELETE FROM case_series WHERE id = 1", "case/", "series"),
    ("UPDATE reader SET name = 'r9' WHERE name = 'r1'", "reader/r9", "in no event"),
    ("UPDATE study SET seed = 8", "study", "seed"),
    ("UPDATE study SET title = 'x'", "study", "title"),
    ("UPDATE reading_session SET override_at = '2030-01-01 00:00:00'", "session/", "override"),
    ("UPDATE allocation SET batch = 2", "allocation/", "in no event"),
    ("UPDATE answer_count SET n = n + 1", None, "answer_count."),
    ("DELETE FROM answer_count", None, "answer_count."),
    ("UPDATE protocol_version SET reason = 'x'", "protocol/1", "reason"),
]


def test_an_edit_of_what_the_trail_tells_of_is_found(play: Play) -> None:
    assert faults(play) == []
    for statement, subject, says in TABLE_EDITS:
        found = found_by(play, statement)
        assert any(
            says in f"{fault.subject} {fault.what}"
            and (fault.subject or "").startswith(subject or "")
            for fault in found
        ), (statement, found)
    assert faults(play) == []


def test_the_protocol_is_in_the_trail_too(play: Play) -> None:
    change = (
        "UPDATE protocol_version SET document = json_set(document, '$.alpha', 0.1)"
        if play.api.database.is_sqlite
        else "UPDATE protocol_version SET document = jsonb_set(document, '{alpha}', '0.1')"
    )
    [fault] = [fault for fault in found_by(play, change) if fault.subject == "protocol/1"]
    assert "document/alpha" in fault.what


def test_a_swap_of_arms_is_found_by_the_seed_as_well(play: Play) -> None:
    found = found_by(
        play,
        "UPDATE reading SET arm = CASE arm WHEN 'standard' THEN 'accelerated' ELSE 'standard' END "
        "WHERE session_id IN (SELECT id FROM reading_session WHERE number = 0)",
    )
    assert any(fault.what == "does not follow from the seed" for fault in found)


def test_what_is_found_is_told(play: Play) -> None:
    with play.api.database.engine.begin() as connection:
        connection.execute(text("UPDATE score SET value = 5 - value WHERE counted"))
    found = faults(play)
    assert found
    assert all(fault["subject"] is None or fault["what"] for fault in found)
    assert any("scores/sag_t1/noise/value" in fault["what"] for fault in found)


def test_a_failed_change_leaves_no_event(play: Play) -> None:
    before = play.verify()["events"]
    refused = play.api.send(
        "POST", f"{play.url}/cases/P02/exclude", {"reason": "twice"}, role="coordinator"
    )
    assert refused.status_code == 409
    assert play.verify()["events"] == before


# --- looking ------------------------------------------------------------------------------------


def looks(play: Play) -> list[tuple[str, str]]:
    with play.api.database.read() as session:
        rows = session.execute(
            text("SELECT subject, role FROM audit_event WHERE action = 'looked' ORDER BY id")
        )
        return [(subject, role) for subject, role in rows]


def test_looking_while_readings_are_left_is_an_event(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    for role in ("coordinator", "statistician", "statistician"):
        assert api.send("GET", f"{play.url}/export", role=role).status_code == 200
    assert looks(play) == [("export", "coordinator"), ("export", "statistician")]
    play.allocation()
    assert looks(play)[-1] == ("allocation", "coordinator")
    # What has changed since is looked at anew.
    play.read_session("r1", 0)
    api.send("GET", f"{play.url}/export?format=csv", role="statistician")
    assert looks(play)[3:] == [("export", "statistician")]
    assert play.verify()["holds"]


def test_afterwards_anybody_may_look(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",), washout_days=0, training=1)
    for number in range(3):
        play.read_session("r1", number)
    before = looks(play)
    for path in ("/export", "/allocation", "/audit"):
        play.run("GET", path)
    assert looks(play) == before


# --- the chain itself ---------------------------------------------------------------------------


def test_many_at_once_make_one_chain(api: Api) -> None:
    def write(number: int) -> None:
        with api.database.write() as session:
            trail = Trail(session, SYSTEM, ACTOR, START)
            trail.record("test", f"subject/{number}", new={"number": number})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(40)))
    body = json_of(api.send("GET", "/api/v1/audit/verify", role="admin"))
    roles = len(api.tokens)  # the tokens of the test are told too
    assert (body["holds"], body["events"]) == (True, 40 + roles)


_JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)
_STATES = st.dictionaries(st.text(max_size=2), _JSON, max_size=5)


@given(_STATES, _STATES)
def test_a_difference_leads_from_one_state_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    state = json.loads(json.dumps(before))
    assert merge(state, difference(before, after)) == after
    assert merge(state, difference(after, before)) == before
    assert difference(before, before) == {}


def test_answers_in_a_reading_make_one_event_each_time(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",))
    reading = play.must_next("r1", play.session("r1"))
    for section, items in plain_answers(reading).items():
        reading.put(section, items)
    actions = [event["action"] for event in play.events(subject=f"reading/{reading.code}")]
    assert actions == ["reading.allocate", "reading.open", *["reading.save"] * 3]
