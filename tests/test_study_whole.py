"""The whole reference study, played over HTTP against the real server, on both databases.

31 patients and one more who is excluded half way, 2 readers, 4 sequences, 2 arms; training, two
sessions with the wash-out between them, and a repeat session; answers that might have been given.
What comes out must be what was sent in.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from moving_clock_server import MovingClockServer, moving_clock_server
from study_databases import new_database, new_token
from study_player import (
    API,
    SECTIONS,
    Coordinator,
    Json,
    Lines,
    ReaderPlayer,
    Simulation,
    answers_of_state,
    begin,
)

pytest_plugins = ["api_fixtures"]

CASES, TRAINING, REPEATED, SEED = 32, 2, 8, 20240131
READERS = ("reader1", "reader2")
ARMS = ("standard", "accelerated")
EXCLUDED = "P07"
# A reading with a pause that is longer than the protocol counts.
PAUSE_S, READING_S = 2700, 90
# Answers of one reading: 4 sequences x 11 criteria; 8 findings x 5 levels; 3 x 14 + 8 regions.
ANSWERS = {"scores": 44, "findings": 40, "measurements": 50}
# SHA-256 of the allocation that follows from the seed, see `places_of`: on any database and in
# any version, unless the rules of the allocation change.
ALLOCATION = "b3beb3f05cfe9f74d7ad96090b8db281f8080d781a81504e3bf94c936e2691d9"

Place = tuple[str, int, int, str, str]


@dataclass
class Played:
    """A study that was played to its end."""

    server: MovingClockServer
    coordinator: Coordinator
    readers: dict[str, ReaderPlayer]
    refused: dict[str, requests.Response] = field(default_factory=dict)
    active_s: dict[str, float] = field(default_factory=dict)
    export: Json = field(default_factory=dict)
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def readings(self, kind: str | None = None) -> dict[str, Json]:
        """States of the readings by code; of one kind of session or of all."""
        kinds = {
            subject: state["kind"]
            for subject, state in self.export["states"].items()
            if subject.startswith("session/")
        }
        return {
            subject.removeprefix("reading/"): state
            for subject, state in self.export["states"].items()
            if subject.startswith("reading/")
            and kind in {None, kinds[f"session/{state['session']}"]}
        }

    def sent(self) -> dict[str, dict[str, Any]]:
        return {
            code: answers
            for player in self.readers.values()
            for code, answers in player.ledger.answers.items()
        }


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("whole")
    server = None
    if request.param == "postgresql":
        server = request.getfixturevalue("api_postgresql")
    url = new_database(request.param, folder, server, "whole")
    token = new_token(url, "coordinator")
    with moving_clock_server(folder, url) as running, Lines(running.url) as lines:
        made = _begin(running, lines, token)
        _play(made)
        made.export = made.coordinator.export()
        made.tables = _csv(made.coordinator)
        yield made


def _begin(server: MovingClockServer, lines: Lines, token: str) -> Played:
    coordinator = begin(
        lines.line(token), "tang", cases=CASES, training=TRAINING, template="tang2024", seed=SEED
    )
    # The reference study has no repeat session; this one does.
    coordinator.change_protocol(repeat_sessions=1, repeat_cases=REPEATED)
    tokens = {name: coordinator.add_reader(name) for name in READERS}
    coordinator.run("POST", "/allocation")
    simulation = Simulation(SEED, coordinator.images())
    made = Played(server, coordinator, {})

    def takes_time(code: str) -> None:
        paused = len(made.active_s) % 10 == 9
        server.clock.advance(seconds=PAUSE_S if paused else READING_S)
        made.active_s[code] = 0 if paused else READING_S

    for name in READERS:
        made.readers[name] = ReaderPlayer(
            name, lines.line(tokens[name]), simulation, before_complete=takes_time
        )
    return made


def _play(study: Played) -> None:
    one, two = (study.readers[name] for name in READERS)
    clock = study.server.clock
    study.refused["before the training"] = _try(one, 1)
    for player in (one, two):
        player.read_session(0)
        player.read_session(1)
    study.refused["at once"] = _try(one, 2)
    _exclude(study)
    for player in (one, two):
        opens_at = datetime.fromisoformat(player.sessions()[2]["opens_at"])
        clock.set(opens_at - timedelta(seconds=1))
        study.refused["a second too early"] = _try(player, 2)
        clock.set(opens_at)
        player.read_session(2)
    study.refused["the repeat at once"] = _try(two, 3)
    session = study.coordinator.sessions(two.name)[3]["code"]
    override = {"reason": "the reader retires next week"}
    study.coordinator.line.must("POST", f"{API}/sessions/{session}/override", override)
    two.read_session(3)
    clock.advance(days=28)
    one.read_session(3)
    _amend(one)


def _try(player: ReaderPlayer, number: int) -> requests.Response:
    return player.next(player.sessions()[number]["code"])


def _exclude(study: Played) -> None:
    body = {"reason": "motion, the patient wishes to withdraw"}
    study.coordinator.run("POST", f"/cases/{EXCLUDED}/exclude", body)


def _amend(player: ReaderPlayer) -> None:
    code = player.ledger.complete[-1]
    names, old = next(iter(player.ledger.answers[code]["scores"].items()))
    value = 1 + old["value"] % 4
    item = {"sequence": names[0], "criterion": names[1], "value": value}
    player.amend(code, "mistyped, seen in the next case", "scores", [item])


# --- who reads what, and when -------------------------------------------------------------------


def places_of(allocation: list[Json]) -> list[Place]:
    """Everything of an allocation but the codes, which are drawn anew each time."""
    return [
        (one["reader"], one["session"], one["position"], one["case"], one["arm"])
        for one in allocation
    ]


def test_who_comes_too_early_is_told_why_and_until_when(played: Played) -> None:
    expected = {
        "before the training": ("the session waits: the training session is not complete", False),
        "at once": ("the session waits: the wash-out of 28 days is not over", True),
        "a second too early": ("the session waits: the wash-out of 28 days is not over", True),
        "the repeat at once": ("the session waits: the wash-out of 28 days is not over", True),
    }
    assert played.refused.keys() == expected.keys()
    for when, (says, known) in expected.items():
        answer = played.refused[when]
        assert answer.status_code == 409, when
        assert answer.headers["Content-Type"] == "application/problem+json"
        body = answer.json()
        assert (body["detail"], body["title"]) == (says, "Session not open"), when
        assert (body["opens_at"] is not None) == known, when


def test_no_case_comes_again_before_the_washout_is_over(played: Played) -> None:
    by_case: dict[tuple[str, str], list[tuple[int, datetime, datetime]]] = defaultdict(list)
    numbers = {
        subject.removeprefix("session/"): state["number"]
        for subject, state in played.export["states"].items()
        if subject.startswith("session/")
    }
    for state in played.readings().values():
        number = numbers[state["session"]]
        if state["state"] == "complete" and number > 0:
            opened = datetime.fromisoformat(state["opened_at"])
            completed = datetime.fromisoformat(state["completed_at"])
            by_case[state["reader"], state["case"]].append((number, opened, completed))
    gaps = {
        (reader, number): opened - before
        for (reader, _), reads in by_case.items()
        for (_, _, before), (number, opened, _) in zip(
            sorted(reads), sorted(reads)[1:], strict=False
        )
    }
    short = {key for key, gap in gaps.items() if gap < timedelta(days=28)}
    assert len(by_case) == CASES * len(READERS)
    # Only where the coordinator let it begin before its time.
    assert short == {("reader2", 3)}
    session = played.coordinator.sessions("reader2")[3]
    assert session["override_reason"] == "the reader retires next week"


def test_the_allocation_is_complete_and_balanced(played: Played) -> None:
    places = places_of(played.coordinator.allocation())
    study = {f"P{number:02}" for number in range(1, CASES + 1)}
    for reader in READERS:
        own = {
            number: {case: arm for who, at, _, case, arm in places if (who, at) == (reader, number)}
            for number in range(4)
        }
        assert own[0].keys() == {"T01", "T02"}
        assert own[1].keys() == own[2].keys() == study
        assert all(own[1][case] != own[2][case] for case in study)
        for number, total in ((0, TRAINING), (1, CASES), (2, CASES), (3, REPEATED)):
            assert Counter(own[number].values()) == dict.fromkeys(ARMS, total // 2), number
    repeats = {reader: {p[3] for p in places if p[:2] == (reader, 3)} for reader in READERS}
    assert repeats["reader1"] == repeats["reader2"]
    # One who guesses that the arm of one session is the arm of the other reader's: half the time.
    arms = {(reader, case): arm for reader, number, _, case, arm in places if number == 1}
    same = sum(arms["reader1", case] == arms["reader2", case] for case in study)
    assert CASES / 4 < same < 3 * CASES / 4


def test_the_order_differs_between_readers_and_sessions(played: Played) -> None:
    places = places_of(played.coordinator.allocation())
    orders = {
        (reader, number): [p[3] for p in places if p[:2] == (reader, number)]
        for reader in READERS
        for number in (1, 2)
    }
    for place, order in orders.items():
        positions = [p[2] for p in places if p[:2] == place]
        assert positions == list(range(1, CASES + 1))
        assert order != sorted(order)
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    for reader in READERS:
        assert orders[reader, 1][-1] != orders[reader, 2][0]


def test_readers_were_given_the_readings_in_the_order_of_the_allocation(played: Played) -> None:
    allocated = played.coordinator.allocation()
    for name, player in played.readers.items():
        expected = [
            one["code"]
            for one in allocated
            if one["reader"] == name and one["state"] != "withdrawn"
        ]
        assert player.ledger.complete == expected


def test_the_allocation_follows_from_the_seed(played: Played) -> None:
    places = places_of(played.coordinator.allocation())
    digest = hashlib.sha256(json.dumps(places).encode()).hexdigest()
    assert digest == ALLOCATION
    for name, seed, equal in (("again", SEED, True), ("other", SEED + 1, False)):
        other = begin(
            *(played.coordinator.line, name),
            cases=CASES,
            training=TRAINING,
            protocol={**played.coordinator.protocol, "seed": seed},
        )
        for reader in READERS:
            other.add_reader(reader)
        other.run("POST", "/allocation")
        found = other.allocation()
        assert (places_of(found) == places) is equal
        codes = {one["code"] for one in (*found, *played.coordinator.allocation())}
        assert len(codes) == 2 * len(places)


# --- what was sent is what is there -------------------------------------------------------------


def test_every_answer_is_there_once_and_as_it_was_sent(played: Played) -> None:
    sent = played.sent()
    complete = {
        code: state for code, state in played.readings().items() if state["state"] == "complete"
    }
    assert complete.keys() == sent.keys()
    for code, state in complete.items():
        for section, count in ANSWERS.items():
            stored = answers_of_state(state)[section]
            assert len(stored) == count
            assert stored == sent[code][section], (code, section)
    for player in played.readers.values():
        for code in player.ledger.complete:
            # The exclusion moved no version: two that move alike would be known for one case.
            assert complete[code]["version"] == player.ledger.version(code)


def test_the_snr_is_mean_over_noise(played: Played) -> None:
    readings = played.readings()
    for code, answers in played.sent().items():
        state = readings[code]
        measured = state["measurements"][state["arm"]]
        for (sequence, region), sent in answers["measurements"].items():
            snr = measured[sequence][region].get("snr")
            if region == "background":
                assert snr is None
            else:
                noise = answers["measurements"][sequence, "background"]["sd"]
                assert snr == pytest.approx(sent["mean"] / noise, rel=1e-12)


def test_the_readings_add_up(played: Played) -> None:
    withdrawn = [s for s in played.readings().values() if s["state"] == "withdrawn"]
    assert {state["case"] for state in withdrawn} == {EXCLUDED}
    repeated = EXCLUDED in {s["case"] for s in played.readings("repeat").values()}
    per_reader = TRAINING + 2 * CASES + REPEATED
    left = per_reader - 1 - repeated
    detail = played.coordinator.run("GET", "")
    assert detail["readings"] == {
        "pending": 0,
        "open": 0,
        "complete": len(READERS) * left,
        "withdrawn": len(withdrawn),
    }
    assert len(withdrawn) == len(READERS) * (per_reader - left)
    assert (detail["cases"], detail["excluded"], detail["readers"]) == (CASES, 1, len(READERS))
    for player in played.readers.values():
        assert len(player.ledger.complete) == len(set(player.ledger.complete)) == left
        assert {one["state"] for one in player.sessions()} == {"complete"}


def test_the_answers_add_up_by_arm_reader_and_sequence(played: Played) -> None:
    """From the CSV files, as a statistician counts them."""
    tables = played.tables
    patients = CASES - 1
    for arm in ARMS:
        for reader in READERS:
            own = {
                section: [
                    row
                    for row in tables[section]
                    if (row["arm"], row["reader"], row["counted"]) == (arm, reader, "1")
                    and row["session_kind"] == "reading"
                ]
                for section in SECTIONS
            }
            assert Counter(row["sequence"] for row in own["scores"]) == dict.fromkeys(
                ["sag_t1", "sag_t2", "sag_t2_fs", "tra_t2"], patients * 11
            )
            assert Counter(row["level"] for row in own["findings"]) == dict.fromkeys(
                ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"], patients * 8
            )
            assert Counter(row["sequence"] for row in own["measurements"]) == {
                **dict.fromkeys(["sag_t1", "sag_t2", "sag_t2_fs"], patients * 14),
                "tra_t2": patients * 8,
            }
            for section in SECTIONS:
                assert len({row["case"] for row in own[section]}) == patients


def test_the_csv_files_hold_what_was_sent(played: Played) -> None:
    tables = played.tables
    names = {"scores": ("sequence", "criterion"), "findings": ("finding", "level")}
    for section, (first, second) in names.items():
        found = {
            (row["reading"], row[first], row[second]): int(row["value"]) for row in tables[section]
        }
        assert len(found) == len(tables[section])
        assert found == {
            (code, *key): value["value"]
            for code, answers in played.sent().items()
            for key, value in answers[section].items()
        }
    sent = played.sent()
    assert len(tables["measurements"]) == len(sent) * ANSWERS["measurements"]
    for row in tables["measurements"]:
        one = sent[row["reading"]]["measurements"][row["sequence"], row["region"]]
        assert (float(row["mean"]), float(row["sd"])) == (one["mean"], one["sd"])
    assert len(tables["audit"]) == played.export["head"]["events"]


def _csv(coordinator: Coordinator) -> dict[str, list[dict[str, str]]]:
    answer = coordinator.line.send("GET", f"{coordinator.url}/export?format=csv")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {
            name.removesuffix(".csv"): list(
                csv.DictReader(io.StringIO(archive.read(name).decode(), newline=""))
            )
            for name in archive.namelist()
            if name.endswith(".csv")
        }


def test_the_lineage_counts_what_was_read_of_each_series(played: Played) -> None:
    rows = played.coordinator.run("GET", "/lineage")["items"]
    assert len(rows) == (CASES + TRAINING) * 2 * 4
    by_place = {(row["case"], row["arm"], row["sequence"]): row for row in rows}
    expected: Counter[tuple[str, str]] = Counter(
        (state["case"], state["arm"])
        for state in played.readings().values()
        if state["state"] == "complete"
    )
    for (case, arm, sequence), row in by_place.items():
        complete = expected[case, arm]
        regions = 8 if sequence == "tra_t2" else 14
        assert (row["complete"], row["scores"], row["measurements"]) == (
            complete,
            complete * 11,
            complete * regions,
        ), (case, arm, sequence)


def test_reading_time_without_pauses(played: Played) -> None:
    readings = played.readings()
    assert {code: readings[code]["active_s"] for code in played.active_s} == played.active_s
    assert set(played.active_s.values()) == {0, READING_S}


# --- the record ---------------------------------------------------------------------------------


def test_the_audit_trail_holds_and_tells_each_step_once(played: Played) -> None:
    verified = played.coordinator.verify()
    assert verified["holds"], verified["faults"]
    events = list(played.coordinator.events())
    assert [one["sequence_number"] for one in events] == list(range(1, 1 + len(events)))
    actions = Counter(one["action"] for one in events)
    complete = len(played.sent())
    assert actions["reading.open"] == actions["reading.complete"] == complete
    assert actions["reading.save"] == len(SECTIONS) * complete
    assert actions["reading.allocate"] == len(played.readings())
    once = ("reading.amend", "case.exclude", "session.override")
    assert {name: actions[name] for name in once} == dict.fromkeys(once, 1)
    assert {one["reader"] for one in events if one["role"] == "reader"} == set(READERS)


def test_an_amendment_keeps_the_old_value_and_says_why(played: Played) -> None:
    [event] = [one for one in played.coordinator.events() if one["action"] == "reading.amend"]
    assert event["reason"] == "mistyped, seen in the next case"
    [(sequence, old)] = event["old"]["scores"].items()
    [(criterion, before)] = old.items()
    after = event["new"]["scores"][sequence][criterion]["value"]
    assert after == 1 + before["value"] % 4
    code = event["subject"].removeprefix("reading/")
    assert played.sent()[code]["scores"][sequence, criterion] == {"value": after}


def test_an_excluded_case_stays_and_no_longer_counts(played: Played) -> None:
    own = [state for state in played.readings().values() if state["case"] == EXCLUDED]
    done = [state for state in own if state["state"] == "complete"]
    assert [state["counted"] for state in done] == [False] * len(READERS)
    counted = {state["case"] for state in played.readings().values() if state["counted"]}
    assert counted == {f"P{number:02}" for number in range(1, CASES + 1)} - {EXCLUDED}
    case = played.coordinator.run("GET", f"/cases/{EXCLUDED}")
    assert case["exclusion_reason"] == "motion, the patient wishes to withdraw"
    excluded = datetime.fromisoformat(case["excluded_at"])
    for state in done:
        assert datetime.fromisoformat(state["completed_at"]) < excluded


def test_the_export_gives_the_same_study_on_another_server(played: Played, tmp_path: Path) -> None:
    """Into a new SQLite file, from either database."""
    url = new_database("sqlite", tmp_path, None, "other")
    token = new_token(url, "coordinator")
    with moving_clock_server(tmp_path, url) as server, Lines(server.url) as lines:
        other = Coordinator(lines.line(token), "tang")
        made = other.line.must("POST", f"{API}/studies/import", played.export)
        assert made["events"] == played.export["head"]["events"]
        other.url = f"{API}/studies/{made['study']['id']}"
        assert other.export() == played.export
        assert other.verify()["holds"]


def test_a_statistician_reads_and_a_reader_does_not(played: Played) -> None:
    token = new_token(played.server.database_url, "statistician")
    with Lines(played.server.url) as lines:
        statistician = lines.line(token)
        path = f"{played.coordinator.url}/export"
        assert statistician.must("GET", path) == played.export
        assert statistician.send("GET", f"{played.coordinator.url}/allocation").status_code == 403
    for player in played.readers.values():
        assert player.line.send("GET", path).status_code == 403


def test_the_server_saw_no_error_of_its_own(played: Played) -> None:
    log = played.server.log.read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log


# --- both databases -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gathered() -> dict[str, dict[str, str]]:
    """What each database answered, by the address."""
    return {}


def test_both_databases_give_the_same_statistics(
    played: Played, gathered: dict[str, dict[str, str]], request: pytest.FixtureRequest
) -> None:
    """The study is the same but for its codes: so is every figure, but for rounding.

    A database gives rows in an order of its own, and sums round by their order.
    """
    paths = requests.get(f"{played.server.url}/openapi.json", timeout=30).json()["paths"]
    root = f"{API}/studies/{{study_id}}/statistics"
    found = {}
    for path in (path.replace("{study_id}", "1") for path in paths if path.startswith(root)):
        if "{" not in path:
            answer = played.coordinator.line.send("GET", path)
            # 422: it asks for something more.
            assert answer.status_code in {200, 422}, (path, answer.text)
            text = re.sub(r'"request_id":"[0-9a-f]*"', "", answer.text)
            found[path] = re.sub(r"-?\d+\.\d+(?:e-?\d+)?", _rounded, text)
    assert len(found) > 5
    gathered[request.node.callspec.params["played"]] = found
    for other in gathered.values():
        assert found.keys() == other.keys()
        for path, text in found.items():
            assert text == other[path], path


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.8g}"
