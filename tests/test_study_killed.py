"""The server is killed 50 times in the middle of a study: nothing is lost, nothing happens twice.

Two readers read at the same time while gunicorn's master and worker get kill -9 at random moments.
Some requests are interrupted, some answers never arrive; a viewer then sends again under the same
Idempotency-Key, or it was closed, has forgotten everything and asks what there is to read.
"""

import queue
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from api_study import small_protocol
from moving_clock_server import MovingClockServer, moving_clock_server
from study_databases import new_database, new_token
from study_player import (
    SECTIONS,
    Coordinator,
    Lines,
    ReaderPlayer,
    Simulation,
    answers_of_state,
    begin,
    by_sequence,
)

pytest_plugins = ["api_fixtures"]

KILLS, CASES, TRAINING = 50, 12, 2
READERS = ("reader1", "reader2")
READINGS = len(READERS) * (TRAINING + 2 * CASES)
# Next, four pieces (scores of two sequences, a finding, the regions of one sequence), complete.
PIECES = 4
REQUESTS = READINGS * (PIECES + 2)
# Longer than a request takes: some kills hit while it runs, some between two.
LONGEST_DELAY_S = 0.025


@dataclass
class Killer:
    """Kills the server at random moments and starts it again, until it has done so often enough.

    The moments are requests of the study, drawn beforehand, and a random time within the one that
    follows: so all kills happen, however fast the machine is.
    """

    server: MovingClockServer
    dice: random.Random
    moments: set[int] = field(default_factory=set)
    orders: "queue.SimpleQueue[float | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.moments = set(self.dice.sample(range(1, REQUESTS), KILLS))

    def on_request(self, number: int) -> None:
        if number in self.moments:
            self.orders.put(self.dice.uniform(0, LONGEST_DELAY_S))

    def run(self) -> None:
        pause = threading.Event()
        while (delay := self.orders.get()) is not None:
            pause.wait(delay)
            self.server.kill()
            self.server.start()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.run)
            try:
                yield
            finally:
                self.orders.put(None)
                future.result(120)


@dataclass
class Study:
    """What was played, with the server that was killed."""

    coordinator: Coordinator
    readers: list[ReaderPlayer]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_or_doubled_by_50_kills(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    postgresql = request.getfixturevalue("api_postgresql") if kind == "postgresql" else None
    url = new_database(kind, tmp_path, postgresql, "killed")
    token = new_token(url, "coordinator")
    with moving_clock_server(tmp_path, url) as server, Lines(server.url) as lines:
        killer = Killer(server, random.Random(20240131))
        with killer.at_work():
            study = _play(killer, lines, token)
        assert server.kills == KILLS
        with capsys.disabled():
            print(f"\n{kind}: {server.kills} kills, {lines.tally}")  # noqa: T201
        # It did interrupt, and answers did get lost.
        assert lines.tally.unanswered >= KILLS / 2
        assert lines.tally.replayed > 0
        assert lines.tally.forgotten > 0
        _check_answers(study)
        _check_trail(study)
        server.stop()
    if kind == "sqlite":
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.close()


def _play(killer: Killer, lines: Lines, token: str) -> Study:
    """Make the study and read it to its end, killed all along."""
    dice = random.Random(7)
    habits: dict[str, Any] = {
        "on_request": killer.on_request,
        "hears": lambda: dice.random() > 0.05,
    }
    line = lines.line(token, **habits)
    coordinator = begin(line, "killed", cases=CASES, training=TRAINING, protocol=small_protocol())
    tokens = {name: coordinator.add_reader(name) for name in READERS}
    coordinator.run("POST", "/allocation")
    simulation = Simulation(3, coordinator.images())
    habits["forgets"] = lambda: dice.random() < 0.3
    readers = [
        ReaderPlayer(name, lines.line(tokens[name], **habits), simulation, by_sequence)
        for name in READERS
    ]
    _read_at_the_same_time(readers, (0, 1))
    opens_at = [datetime.fromisoformat(reader.sessions()[2]["opens_at"]) for reader in readers]
    killer.server.clock.set(max(opens_at))
    _read_at_the_same_time(readers, (2,))
    return Study(coordinator, readers)


def _read_at_the_same_time(readers: list[ReaderPlayer], sessions: tuple[int, ...]) -> None:
    def read(reader: ReaderPlayer) -> None:
        for number in sessions:
            reader.read_session(number)

    with ThreadPoolExecutor(len(readers)) as pool:
        for future in [pool.submit(read, reader) for reader in readers]:
            future.result(240)


def _check_answers(study: Study) -> None:
    """Everything that was sent is there, nothing else, and as often as it was sent."""
    states = study.coordinator.export()["states"]
    readings = {
        subject.removeprefix("reading/"): state
        for subject, state in states.items()
        if subject.startswith("reading/")
    }
    assert len(readings) == READINGS
    for reader in study.readers:
        own = {code for code, state in readings.items() if state["reader"] == reader.name}
        assert set(reader.ledger.complete) == own
        assert len(reader.ledger.complete) == len(own)
        for code in own:
            state = readings[code]
            assert state["state"] == "complete"
            # One more version for each change that was made, and none for a repetition.
            assert state["version"] == reader.ledger.version(code)
            assert reader.ledger.pieces[code] == PIECES
            assert answers_of_state(state) == reader.ledger.answers[code]
            stored = sum(_leaves(state[section]) for section in SECTIONS)
            assert stored == sum(map(len, reader.ledger.answers[code].values()))


def _leaves(tree: dict[str, Any]) -> int:
    if "saved_at" in tree:
        return 1
    return sum(_leaves(branch) for branch in tree.values())


def _check_trail(study: Study) -> None:
    verified = study.coordinator.verify()
    assert verified["holds"], verified["faults"]
    events = list(study.coordinator.events())
    assert len(events) == verified["events"]
    assert len({one["hash"] for one in events}) == len(events)
    actions = Counter(one["action"] for one in events)
    # Looked: at the allocation. A token: where the answer that showed the first one was lost.
    may_differ = ("looked", "reader.token")
    assert {name: count for name, count in actions.items() if name not in may_differ} == {
        "study.create": 1,
        "protocol.version": 1,
        "case.enrol": CASES + TRAINING,
        "case.series": (CASES + TRAINING) * 4,
        "reader.add": len(READERS),
        "allocation.make": len(READERS),
        "session.make": 3 * len(READERS),
        "reading.allocate": READINGS,
        "reading.open": READINGS,
        "reading.save": READINGS * PIECES,
        "reading.complete": READINGS,
    }
