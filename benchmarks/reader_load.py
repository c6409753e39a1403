"""20 readers at once save scores: latency, throughput, and whether anything is lost.

    python benchmarks/reader_load.py [--readers N] [--seconds S] [--database sqlite|postgresql|both]

Every reader is a process of its own with its own token; the server is the real one (`serve`:
gunicorn, one process, 8 threads) on loopback, over SQLite and over a PostgreSQL that this starts
with its default settings (so with fsync). A save is one score in one request, with If-Match and an
Idempotency-Key, as a viewer saves while its user clicks. First all save as fast as they can, then
at the pace of people: one score a second each.

Afterwards every save that was acknowledged must be there: as the newest value, as a version of its
reading, and as one event of an audit trail that holds. Exit status 1 if one is not.
"""

import argparse
import json
import multiprocessing
import os
import pwd
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import requests

API = "/api/v1"
STUDY = "load"
PACES = {"as fast as they can": 0.0, "one score a second": 1.0}
# Processes are forked while this one is small: starting 20 interpreters would take the time.
CONTEXT = multiprocessing.get_context("fork")


@dataclass
class Report:
    """What one reader did.

    Attributes
    ----------
    latencies_s : dict
        Pace -> seconds of each save.
    values : dict
        Code of the reading -> sequence/criterion -> the newest value.
    versions : dict
        Code of the reading -> the newest ETag.
    """

    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def saves(self) -> int:
        return sum(map(len, self.latencies_s.values()))


@dataclass
class Reader:
    """A reader with a viewer that saves every click."""

    url: str
    token: str
    http: requests.Session = field(default_factory=requests.Session)
    report: Report = field(default_factory=Report)
    code: str = ""
    questions: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def send(self, method: str, path: str, body: object, etag: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": uuid.uuid4().hex}
        if etag is not None:
            headers["If-Match"] = etag
        answer = self.http.request(
            method, self.url + API + path, json=body, headers=headers, timeout=60
        )
        answer.raise_for_status()
        return answer

    def open(self, session: str) -> None:
        """Open a reading, the next one where one was complete."""
        answer = self.send("POST", f"/sessions/{session}/next", {})
        body = answer.json()
        self.code, self.questions = body["code"], body["questions"]["criteria"]
        self.report.versions[self.code] = answer.headers["ETag"]
        self.report.values.setdefault(self.code, {})

    def save(self) -> float:
        """Save the next score; the seconds until it was acknowledged."""
        question = self.questions[self.asked % len(self.questions)]
        # Every round another value, so that each save is a change.
        value = 1 + (self.asked // len(self.questions) + self.asked) % len(question["scale"])
        place = {name: question[name] for name in ("sequence", "criterion")}
        body = {"scores": [{**place, "value": value}]}
        path, etag = f"/readings/{self.code}/scores", self.report.versions[self.code]
        began = time.perf_counter()
        answer = self.send("PUT", path, body, etag)
        took = time.perf_counter() - began
        self.report.versions[self.code] = answer.headers["ETag"]
        self.report.values[self.code]["/".join(place.values())] = value
        self.asked += 1
        return took

    def complete(self, session: str) -> None:
        body = {"missing_reason": "only scores are saved here"}
        path, etag = f"/readings/{self.code}/complete", self.report.versions[self.code]
        self.report.versions[self.code] = self.send("POST", path, body, etag).headers["ETag"]
        self.asked = 0
        self.open(session)


def read(url: str, token: str, seconds: float, barrier: Barrier, reports: "Queue[Report]") -> None:
    """Save scores for some seconds at each pace, all readers at the same time."""
    with requests.Session() as http:
        reader = Reader(url, token, http)
        headers = {"Authorization": f"Bearer {token}"}
        listed = http.get(f"{url}{API}/sessions", headers=headers, timeout=60).json()
        session = listed["items"][0]["code"]
        reader.open(session)
        for pace, pause_s in PACES.items():
            barrier.wait(120)
            end = time.perf_counter() + seconds
            own = reader.report.latencies_s.setdefault(pace, [])
            # People do not click at the same moment.
            time.sleep(pause_s * (os.getpid() % 20) / 20)
            while time.perf_counter() < end:
                own.append(reader.save())
                if reader.asked == len(reader.questions):
                    reader.complete(session)
                time.sleep(max(0.0, pause_s - own[-1]))
        reports.put(reader.report)


# --- the study ----------------------------------------------------------------------------------


@dataclass
class Desk:
    """The coordinator's connection."""

    url: str
    token: str
    study: str = ""

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = self.url + API + path
        answer = requests.request(method, url, json=body, headers=headers, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def prepare(self, readers: int) -> list[str]:
        """Make the reference study with its readers; their tokens."""
        made = self.ask("POST", "/studies", {"name": STUDY, "template": "tang2024", "seed": 1})
        self.study = f"/studies/{made['id']}"
        protocol = self.ask("GET", f"{self.study}/protocol")["protocol"]
        places = [
            (arm["name"], one["name"]) for arm in protocol["arms"] for one in protocol["sequences"]
        ]
        # Enough for the fastest reader: one who is alone.
        for case in range(1, 11 + 60 // readers):
            series = [
                {
                    "arm": arm,
                    "sequence": sequence,
                    "series_instance_uid": f"2.25.{case}.{number}",
                    "study_instance_uid": f"2.25.{case}",
                }
                for number, (arm, sequence) in enumerate(places, 1)
            ]
            body = {"pseudonym": f"P{case:02}", "series": series}
            self.ask("POST", f"{self.study}/cases", body)
        tokens = [
            self.ask("POST", f"{self.study}/readers", {"name": f"reader{number}"})["token"]
            for number in range(1, readers + 1)
        ]
        self.ask("POST", f"{self.study}/allocation")
        return tokens

    def lost(self, reports: list[Report]) -> list[str]:
        """Name what is not there as it was acknowledged."""
        states = self.ask("GET", f"{self.study}/export")["states"]
        wrong = []
        for report in reports:
            for code, sent in report.values.items():
                state = states[f"reading/{code}"]
                stored = {
                    f"{sequence}/{criterion}": leaf["value"]
                    for sequence, branch in state["scores"].items()
                    for criterion, leaf in branch.items()
                }
                if stored != sent or f'"{state["version"]}"' != report.versions[code]:
                    wrong.append(f"the reading {code}")
        sent_saves, saves = sum(report.saves for report in reports), self.count("reading.save")
        if saves != sent_saves:
            wrong.append(f"{sent_saves} saves were acknowledged, the audit trail has {saves}")
        if not self.ask("GET", f"{self.study}/audit/verify")["holds"]:
            wrong.append("the audit trail does not hold")
        return wrong

    def count(self, action: str) -> int:
        """Count the events of a kind."""
        found, after = 0, 0
        while True:
            query = f"action={action}&per_page=1000&after={after}"
            items = self.ask("GET", f"{self.study}/audit?{query}")["items"]
            if not items:
                return found
            found, after = found + len(items), items[-1]["sequence_number"]


# --- real processes -----------------------------------------------------------------------------


@contextmanager
def server(folder: Path, database_url: str) -> Iterator[Desk]:
    """Start the real server with a coordinator's token."""
    command = [sys.executable, "-m", "halfscan_api"]
    database = ("--database-url", database_url)
    made = subprocess.run(
        [*command, "token", "create", "--role", "coordinator", "--name", "bench", *database],
        check=True,
        capture_output=True,
        text=True,
    )
    ready = folder / "ready.json"
    options = ("--port", "0", "--ready-file", str(ready), *database)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", *options], stdout=log, stderr=log)
    try:
        wait_for(ready, process)
        yield Desk(json.loads(ready.read_text())["url"], made.stdout.strip())
    finally:
        process.terminate()
        process.wait(60)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the program that should make {path.name} did not")
        time.sleep(0.05)


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL of its own with default settings, on a socket; its address."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = [
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            "--",
        ]
    initdb, postgres = (str(programs[-1].parent / name) for name in ("initdb", "postgres"))
    data = str(folder / "data")
    command = [*as_user, initdb, "-D", data, "-U", "postgres", "-A", "trust"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    command = [*as_user, postgres, "-D", data, "-k", str(folder), "-c", "listen_addresses="]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        wait_for(folder / ".s.PGSQL.5432", process)
        time.sleep(0.5)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        process.terminate()
        process.wait(60)


def measure(desk: Desk, readers: int, seconds: float) -> list[Report]:
    """Let all readers save at the same time."""
    tokens = desk.prepare(readers)
    barrier, reports = CONTEXT.Barrier(readers), CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=read, args=(desk.url, token, seconds, barrier, reports))
        for token in tokens
    ]
    for process in processes:
        process.start()
    found = [reports.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    return found


def show(database: str, reports: list[Report], seconds: float) -> None:
    for pace in PACES:
        taken = sorted(one for report in reports for one in report.latencies_s[pace])
        cuts = statistics.quantiles(taken, n=100, method="inclusive")
        figures = "  ".join(
            f"{name} {1000 * value:7.1f} ms"
            for name, value in (
                *(("median", cuts[49]), ("p95", cuts[94]), ("p99", cuts[98])),
                ("longest", taken[-1]),
            )
        )
        rate = len(taken) / seconds
        print(f"{database:10}  {pace:20}  {len(taken):6} saves  {rate:6.1f}/s  {figures}")


def main() -> None:
    """Start, load, compare, print."""
    parser = argparse.ArgumentParser(description="Readers who save scores at the same time.")
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6, help="at each pace")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql", "both"), default="both", help="both"
    )
    given = parser.parse_args()
    chosen = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    print(
        f"{given.readers} readers, {os.cpu_count()} cores for them, the server and the database; "
        f"load average before: {os.getloadavg()[0]:.1f}"
    )
    wrong = []
    for database in chosen:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halfscan-load-")))
            if database == "sqlite":
                url = f"sqlite:///{folder}/halfscan.db"
            else:
                own = stack.enter_context(tempfile.TemporaryDirectory(prefix="halfscan-pg-"))
                url = stack.enter_context(postgresql(Path(own)))
            desk = stack.enter_context(server(folder, url))
            reports = measure(desk, given.readers, given.seconds)
            show(database, reports, given.seconds)
            lost = desk.lost(reports)
            saves = sum(report.saves for report in reports)
            readings = sum(len(report.values) for report in reports)
            print(f"{database:10}  {saves} saves in {readings} readings, lost: {len(lost)}")
            wrong += lost
    for one in wrong:
        print(f"LOST: {one}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
