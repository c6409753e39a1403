"""Export and import: the same study, byte for byte; CSV files that explain themselves."""

import copy
import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from api_study import DAY, STUDIES, Play, answered, start_study, uid
from api_support import Api, done, json_of, make_api
from halfscan_api.audit import FIRST_HASH, AuditEvent, canonical, hash_of, merge
from halfscan_api.measurements.tables import Measurement

pytest_plugins = ["api_fixtures"]


def played(api: Api) -> Play:
    """A study with everything in it: exclusion, amendment, override, an open reading, a draft."""
    row = api.add()
    outcome = done(
        api.must_claim(), derived_series_instance_uid=uid("small", "P01", "accelerated", "sag_t1")
    )
    api.post(f"/{row['id']}/outcome", outcome)
    play = start_study(api, cases=3, training=1, repeat_sessions=1, repeat_cases=1)
    noise = {"series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3"}
    play.run("PUT", "/cases/P01/noise-series/standard/sag_t1/noise_map", noise)
    values = iter(range(10_000))
    for number in (0, 1):
        play.read_session("r1", number, lambda reading: answered(reading, lambda *_: next(values)))
    api.clock.advance(28 * DAY)
    reading = play.must_next("r1", play.session("r1", 2))
    reading.fill(lambda one: answered(one, lambda *_: next(values)))
    reading.complete()
    reading.amend(
        reason="mixed up two levels",
        findings=[{"finding": "disc_bulge", "level": "L4/L5", "value": 1}],
        scores=[{"sequence": "sag_t1", "criterion": "noise", "value": None}],
    )
    play.run("POST", "/cases/P02/exclude", {"reason": 'moved, "too much"\nto be read'})
    play.read_session("r2", 0)
    session = play.session("r2", 2)
    api.send("POST", f"/api/v1/sessions/{session}/override", {"reason": "late"}, role="coordinator")
    play.must_next("r2", play.session("r2", 1)).put(
        "scores", [{"sequence": "sag_t1", "criterion": "noise", "value": 1}]
    )
    return play


def export(play: Play, role: str = "coordinator") -> bytes:
    answer = play.api.send("GET", f"{play.url}/export", role=role)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{play.name}.json"'
    content: bytes = answer.data
    return content


@pytest.fixture
def other(api_sqlite_template: Path, tmp_path: Path, api_environment: None) -> Iterator[Api]:
    """Another server, on SQLite."""
    path = tmp_path / "other.db"
    path.write_bytes(api_sqlite_template.read_bytes())
    made = make_api(f"sqlite:///{path}")
    # A server with a past: the numbers of rows must not matter.
    start_study(made, name="before", cases=2)
    yield made
    made.database.dispose()


def bring(api: Api, document: object, status: int = 201) -> dict[str, Any]:
    answer = api.send("POST", f"{STUDIES}/import", document, role="coordinator")
    assert answer.status_code == status, answer.text
    return json_of(answer)


def test_an_import_gives_the_same_study(api: Api, other: Api) -> None:
    play = played(api)
    first = export(play)
    made = bring(other, json.loads(first))
    assert (made["cases"], made["readers"]) == (4, 2)
    assert made["study"]["revision"] == play.run("GET", "")["revision"]
    twin = Play(other, made["study"]["id"], play.name, play.protocol)
    assert twin.verify()["head_hash"] == json.loads(first)["head"]["hash"]
    assert export(twin) == first
    assert twin.verify()["holds"]
    # The trail of the other server tells who brought it.
    [event] = json_of(other.send("GET", "/api/v1/audit?action=study.import", role="admin"))["items"]
    assert event["new"]["sha256"] == made["sha256"]


def test_an_imported_study_goes_on(api: Api, other: Api) -> None:
    play = played(api)
    other.clock.now = api.clock.now
    made = bring(other, json.loads(export(play)))
    twin = Play(other, made["study"]["id"], play.name, play.protocol)
    assert [one["token_id"] for one in twin.run("GET", "/readers")["items"]] == [None, None]
    token = twin.run("POST", "/readers/r1/token", {"reason": "moved to another server"})
    twin.tokens["r1"] = token["token"]
    mine = [row for row in twin.allocation() if row["reader"] == "r1" and row["session"] == 2]
    left = [row["code"] for row in mine if row["state"] == "pending"]
    assert twin.read_session("r1", 2) == left
    other.clock.advance(28 * DAY)
    assert len(twin.read_session("r1", 3)) <= 1
    twin.enrol("P04")
    made = twin.run("POST", "/allocation")
    assert [one["batch"] for one in made["made"]] == [2, 2]
    assert twin.verify()["holds"], twin.verify()


def test_lineage_travels(api: Api, other: Api) -> None:
    play = played(api)
    made = bring(other, json.loads(export(play)))
    twin = Play(other, made["study"]["id"], play.name, play.protocol)
    here, there = play.run("GET", "/lineage")["items"], twin.run("GET", "/lineage")["items"]
    assert there == here
    [derived] = [one for one in there if one["model_name"] is not None]
    assert derived["evidence"] == [{"tag": "0018,9069", "value": "2"}]
    assert (derived["model_version"], derived["model_sha256"]) == ("1", "ab" * 32)
    assert (derived["reconstruction_id"], derived["source_series_instance_uid"]) == (
        1,
        "1.2.826.0.1.1.2",
    )
    assert {one["model_name"] for one in there} == {None, "dbp"}


def test_nothing_secret_is_exported(api: Api) -> None:
    play = played(api)
    content = export(play).decode()
    with api.database.read() as session:
        secret = session.scalar(text("SELECT secret FROM study"))
        hashes = session.scalars(text("SELECT sha256 FROM api_token")).all()
    assert isinstance(secret, str)
    for hidden in (secret, *hashes, *play.tokens.values(), *api.tokens.values()):
        assert hidden not in content


def test_the_name_must_be_free(api: Api) -> None:
    play = played(api)
    document = json.loads(export(play))
    refused = bring(api, document, 409)
    assert refused["title"] == "Study exists"
    assert refused["detail"] == "a study named 'small' exists on this server"


def forge(document: dict[str, Any]) -> dict[str, Any]:
    """Compute the chain anew, as somebody would who changed an event."""
    previous = FIRST_HASH
    for one in document["events"]:
        one["previous_hash"] = previous
        columns = {name: one[name] for name in one if name not in {"at", "old", "new", "hash"}}
        event = AuditEvent(
            **columns,
            chain=document["name"],
            at=datetime.fromisoformat(one["at"]),
            old_text=None if one["old"] is None else canonical(one["old"]),
            new_text=None if one["new"] is None else canonical(one["new"]),
        )
        one["hash"] = previous = hash_of(event)
    document["head"] = {"events": len(document["events"]), "hash": previous}
    return document


Change = Callable[[dict[str, Any]], object]


def _of(document: dict[str, Any], kind: str) -> dict[str, Any]:
    state: dict[str, Any] = next(
        state for name, state in document["states"].items() if name.startswith(kind)
    )
    return state


@pytest.fixture
def document(sqlite_api: Api) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(export(played(sqlite_api)))
    return found


def test_a_document_that_was_changed_is_refused(document: dict[str, Any], other: Api) -> None:
    changes: list[tuple[Change, str]] = [
        (lambda one: one["events"].pop(), "the chain must end at event"),
        (lambda one: one["events"].pop(3), "events are missing"),
        (lambda one: one["events"][5].update(actor="me"), "was changed: its hash is another"),
        (lambda one: one["events"][5].update(new={"kind": "x"}), "was changed"),
        (lambda one: one["events"][5].pop("old"), "cannot be read"),
        (lambda one: one["events"][5].update(at="yesterday"), "cannot be read"),
        (lambda one: one["head"].update(hash="0" * 64), "the chain must end at event"),
        (lambda one: one["states"].pop("study"), "the states are not what the events add up to"),
        (lambda one: _of(one, "case/").update(kind="training"), "not what the events add up to"),
        (lambda one: one.update(name="other"), "was changed"),
        (lambda one: one.update(format="else"), "format"),
        (lambda one: one.update(format_version=2), "format_version"),
        (lambda one: one.pop("events"), "events: Field required"),
        (lambda one: one.update(revision=0), "revision"),
        (lambda one: one.update(more=1), "unknown name"),
    ]
    for change, says in changes:
        changed = copy.deepcopy(document)
        change(changed)
        assert says in bring(other, changed, 422)["detail"], says
    listed = json_of(other.send("GET", STUDIES, role="coordinator"))["items"]
    assert [one["name"] for one in listed] == ["before"]


def test_a_forged_chain_must_still_make_a_study(document: dict[str, Any], other: Api) -> None:
    """With the chain computed anew, the rest must fit together all the same."""
    changes: list[tuple[Change, str]] = [
        (lambda one: one["events"][0]["new"].update(seed="many"), ""),
        (lambda one: one["events"][0]["new"].pop("created_at"), ""),
        (lambda one: one["events"][1]["new"]["document"].update(arms=[]), ""),
        (lambda one: one["events"][0]["new"].update(seed=8), "does not follow from the seed"),
        (lambda one: one["events"][2]["new"].update(kind="x"), ""),
        (lambda one: one["events"][2]["new"].update(enrolled_at="2030-01-01"), ""),
    ]
    for change, says in changes:
        changed = copy.deepcopy(document)
        change(changed)
        forge(changed)
        told: dict[str, Any] = {}
        for event in changed["events"]:
            if event["new"] is not None:
                merge(told.setdefault(event["subject"], {}), event["new"])
        changed["states"] = told
        answer = other.send("POST", f"{STUDIES}/import", changed, role="coordinator")
        assert answer.status_code in {409, 422}, answer.text
        assert says in json_of(answer)["detail"]
    assert bring(other, document)["study"]["name"] == "small"


def test_a_document_may_be_larger_than_other_bodies(other: Api) -> None:
    large = {"format": "halfscan-study", "events": ["x" * 2_000_000]}
    assert bring(other, large, 422)["title"] == "Invalid request"
    answer = other.send("POST", STUDIES, {"name": "x" * 2_000_000}, role="coordinator")
    assert answer.status_code == 413


# --- CSV ----------------------------------------------------------------------------------------


def tables(play: Play, role: str = "statistician") -> dict[str, list[dict[str, str]]]:
    answer = play.api.send("GET", f"{play.url}/export?format=csv", role=role)
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        return {
            name: list(csv.DictReader(io.StringIO(archive.read(name).decode(), newline="")))
            for name in archive.namelist()
            if name.endswith(".csv")
        }


def test_the_tables_hold_every_answer_and_explain_themselves(api: Api) -> None:
    play = played(api)
    found = tables(play)
    states = json.loads(export(play))["states"]
    readings = {name: state for name, state in states.items() if name.startswith("reading/")}
    assert len(found["readings.csv"]) == len(readings)
    for section in ("scores", "findings"):
        stored = sum(len(inner) for state in readings.values() for inner in state[section].values())
        assert len(found[f"{section}.csv"]) == stored > 0
    for row in found["scores.csv"]:
        state = readings[f"reading/{row['reading']}"]
        answer = state["scores"][row["sequence"]][row["criterion"]]
        assert (int(row["value"]), row["saved_at"]) == (answer["value"], answer["saved_at"])
        assert (row["arm"], row["case"]) == (state["arm"], state["case"])
        assert row["counted"] == str(int(state["counted"]))
    assert {float(row["snr"]) for row in found["measurements.csv"] if row["snr"]}
    [excluded] = [row for row in found["cases.csv"] if row["excluded_at"]]
    assert excluded["exclusion_reason"] == 'moved, "too much"\nto be read'
    assert [row["action"] for row in found["audit.csv"]].count("reading.amend") == 1
    explained = {
        (row["file"], row["column"]): row["meaning"]
        for row in found["dictionary.csv"]
        if row["column"]
    }
    actual = {
        (name, column)
        for name, rows in found.items()
        if name != "dictionary.csv"
        for column in rows[0]
    }
    assert explained.keys() == actual
    assert all(explained.values())


def test_the_same_study_gives_the_same_zip(api: Api) -> None:
    play = played(api)
    path = f"{play.url}/export?format=csv"
    export(play)
    first, second = (api.send("GET", path, role="coordinator").data for _ in range(2))
    assert first == second


def test_a_second_export_differs_by_the_look_at_the_first(api: Api) -> None:
    play = played(api)
    first, second, third = (json.loads(export(play)) for _ in range(3))
    [look] = second["events"][len(first["events"]) :]
    assert (look["action"], look["subject"]) == ("looked", "export")
    assert second["states"] == first["states"]
    assert third == second


def test_measurements_say_where_they_were_taken(sqlite_api: Api) -> None:
    play = played(sqlite_api)
    geometry = {"kind": "circle", "points": [[1.0, 2.0, 3.0]]}
    with sqlite_api.database.write() as session:
        one = session.scalars(select(Measurement)).first()
        assert one is not None
        one.geometry, one.sop_instance_uid, one.frame_number = geometry, "1.2.3", 4
    [row] = [one for one in tables(play)["measurements.csv"] if one["geometry"]]
    assert json.loads(row["geometry"]) == geometry
    assert (row["sop_instance_uid"], row["frame_number"]) == ("1.2.3", "4")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "'", "''", "=cmd|' /C calc'!A0,"])
def test_no_text_is_a_formula_in_a_spreadsheet(sqlite_api: Api, start: str) -> None:
    play = start_study(sqlite_api, cases=1, readers=("r1",))
    reason = f"{start}moved too much"
    play.run("POST", "/cases/P01/exclude", {"reason": reason})
    found = tables(play)
    for rows in found.values():
        for row in rows:
            assert not [text for text in row.values() if text.startswith(("=", "+", "@", "-"))]
    [case] = found["cases.csv"]
    assert case["exclusion_reason"] == f"'{reason}"
    assert any("Take one ' away" in row["meaning"] for row in found["dictionary.csv"])
    # What is imported is the JSON document, which holds the text itself.
    assert json.loads(export(play))["states"]["case/P01"]["exclusion_reason"] == reason


def test_a_format_that_is_none(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=0, readers=(), allocate=False)
    answer = sqlite_api.send("GET", f"{play.url}/export?format=xls", role="coordinator")
    assert answer.status_code == 422
