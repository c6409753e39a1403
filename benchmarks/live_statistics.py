"""The statistics endpoints while a study grows: 10,000 answers, then 1,000,000.

    python benchmarks/live_statistics.py [--quick] [--databases sqlite postgresql]

Needs the extra ``test`` and PostgreSQL for its half. The real app answers real requests (token,
SQL, statistics, JSON); before every request the revision moves, as it does when a reading is
completed, so that nothing comes from the cache. The bar: a request on 1,000,000 answers costs at
most 10 times what it costs on 10,000, for agreement and image quality of scores, and for all that
is said of findings. The exit status tells whether all bars were met.

Beside the bar: a GROUP BY over the answers, what the cache and 304 cost, and what the counts cost
where they are kept: a reading is completed over HTTP, with the counts and, in turn, without them.
A save in an open reading touches no counts.
"""

import argparse
import logging
import os
import pwd
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import psycopg
import structlog
from sqlalchemy import insert, make_url, select, text, update
from sqlalchemy.orm import Session

from halfscan_api import migrate
from halfscan_api.app import create_app
from halfscan_api.auth import Role, create_token
from halfscan_api.database import Base, Database, utc_now
from halfscan_api.readings import counts
from halfscan_api.readings.profiles import Answer, Profile, Question, profile_of
from halfscan_api.readings.sheet import load_sheets
from halfscan_api.readings.tables import Reading
from halfscan_api.settings import Settings
from halfscan_api.state import state
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.tables import Reader, Study

BAR = 10.0
SMALL, LARGE, QUICK = 10_000, 1_000_000, 100_000
ARMS = ("standard", "accelerated")
READERS = ("r1", "r2")
SEQUENCES, CRITERIA, FINDINGS, LEVELS = 5, 10, 10, 5
SCALE = [{"value": value, "label": str(value)} for value in range(1, 5)]
SCORE_PATHS = ("agreement", "image-quality")
FINDING_PATHS = ("agreement", "detection", "equivalence", "mrmc?truth_reader=r1", "sample-size")


def protocol(*, findings: bool) -> Protocol:
    """A study of scores, or of findings."""
    asked: dict[str, Any] = {
        "criteria": [
            {"name": f"criterion_{i}", "label": f"Criterion {i}", "scale": SCALE}
            for i in range(CRITERIA)
        ]
    }
    if findings:
        levels = [f"L{i}" for i in range(LEVELS)]
        asked = {
            "findings": [
                {"name": f"finding_{i}", "label": f"Finding {i}", "levels": levels}
                for i in range(FINDINGS)
            ],
            "endpoints": [
                {
                    "name": "detection",
                    "role": "primary",
                    "kind": "detection",
                    "hypothesis": "noninferiority",
                    "margin": 0.05,
                }
            ],
        }
    return Protocol.model_validate(
        {
            "title": "Benchmark",
            "arms": [
                {"name": ARMS[0], "label": "Standard", "role": "reference"},
                {"name": ARMS[1], "label": "Accelerated", "role": "test"},
            ],
            "sequences": [
                {"name": f"sequence_{i}", "label": f"Sequence {i}", "group": "all"}
                for i in range(SEQUENCES)
            ],
            "washout_days": 28,
            "required": [],
            **asked,
        }
    )


def answers(n: int, *, findings: bool) -> Iterator[tuple[Any, ...]]:
    """Rows of answers: (reading, reader, case, arm, place, item, value), case by case."""
    rng = random.Random(n)
    places = LEVELS if findings else SEQUENCES
    items = FINDINGS if findings else CRITERIA
    for case in range(1, n // (len(ARMS) * len(READERS) * places * items) + 1):
        for place in range(places):
            for item in range(items):
                latent = rng.gauss(0, 1)
                for arm in range(len(ARMS)):
                    for reader in range(len(READERS)):
                        reading = ((case - 1) * len(ARMS) + arm) * len(READERS) + reader + 1
                        seen = latent + 0.4 * arm + rng.gauss(0, 0.5)
                        value = int(seen > 1) if findings else min(4, max(1, round(2.5 + seen)))
                        yield reading, reader + 1, case, ARMS[arm], place, item, value


def fill(database: Database, n: int, *, findings: bool) -> tuple[int, int]:
    """Write a study with n answers; the number of answers and of cases."""
    now = utc_now()
    per_case = len(ARMS) * len(READERS) * (LEVELS * FINDINGS if findings else SEQUENCES * CRITERIA)
    cases = n // per_case
    with database.write() as session:
        study = {"name": "benchmark", "title": "Benchmark", "protocol_version": 1, "revision": 1}
        study |= {"seed": 1, "secret": "0" * 64, "created_at": now}
        tables = Base.metadata.tables
        session.execute(insert(tables["study"]), [study])
        document = protocol(findings=findings).as_document()
        version = {"study_id": 1, "number": 1, "document": document, "created_at": now}
        session.execute(insert(tables["protocol_version"]), [version])
        session.execute(
            insert(tables["study_case"]),
            [
                {"study_id": 1, "pseudonym": f"P{i:06}", "kind": "study", "enrolled_at": now}
                for i in range(cases)
            ],
        )
        session.execute(
            insert(tables["reader"]),
            [{"study_id": 1, "name": name, "created_at": now} for name in READERS],
        )
        session.execute(
            insert(tables["reading_session"]),
            [
                {"study_id": 1, "reader_id": reader, "code": f"{reader}{number}", "number": number}
                | {"kind": "reading", "created_at": now}
                for reader in (1, 2)
                for number in (1, 2)
            ],
        )
        session.execute(insert(tables["reading"]), list(readings(cases)))
    bulk(database, n, findings=findings)
    with database.write() as session:
        for table, rows in counted(n, findings=findings):
            session.execute(insert(tables[table]), rows)
        if n <= SMALL and counts.wrong_counts(session, 1):
            raise SystemExit("the counts of this benchmark are not what the answers say")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return cases * per_case, cases


def counted(n: int, *, findings: bool) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of the tables of counts, as completing one reading after the other makes them."""
    kind = "finding" if findings else "score"
    names = ("finding_", "L") if findings else ("criterion_", "sequence_")
    single: Counter[tuple[Any, ...]] = Counter()
    pairs: Counter[tuple[Any, ...]] = Counter()
    block = len(ARMS) * len(READERS)
    rows = answers(n, findings=findings)
    while some := list(islice(rows, block)):
        question = (f"{names[0]}{some[0][5]}", f"{names[1]}{some[0][4]}")
        value = {(row[1], row[3]): row[6] for row in some}
        for (reader, arm), given in value.items():
            single[(*question, reader, arm, given)] += 1
        for arm in ARMS:
            key = ("inter_reader", *question, 1, 2, arm, arm)
            pairs[(*key, value[1, arm], value[2, arm])] += 1
        first, second = sorted(ARMS)
        for reader in (1, 2):
            key = ("inter_arm", *question, reader, reader, first, second)
            pairs[(*key, value[reader, first], value[reader, second])] += 1
    fixed = {"study_id": 1, "answer_kind": kind, "repeat_round": 0}
    columns = ("item", "place", "reader_id", "arm", "value")
    yield (
        "answer_count",
        [
            {**fixed, **dict(zip(columns, key, strict=True)), "n": count}
            for key, count in single.items()
        ],
    )
    columns = ("pair_kind", "item", "place", "reader_a", "reader_b", "arm_a", "arm_b")
    yield (
        "answer_pair",
        [
            {**fixed, **dict(zip((*columns, "value_a", "value_b"), key, strict=True)), "n": count}
            for key, count in pairs.items()
        ],
    )
    yield "answer_profile", profiled(n, kind, names, findings=findings)


def profiled(n: int, kind: str, names: tuple[str, str], *, findings: bool) -> list[dict[str, Any]]:
    """Rows of the profiles: each case by criterion and sequence, or by finding."""
    found: Counter[tuple[Question, Profile]] = Counter()
    for _, rows in groupby(answers(n, findings=findings), key=itemgetter(2)):
        given: dict[Question, list[Answer]] = defaultdict(list)
        for _, reader, _, arm, place, item, value in rows:
            where = "" if findings else f"{names[1]}{place}"
            level = f"{names[1]}{place}" if findings else ""
            question = Question(kind, f"{names[0]}{item}", where)
            given[question].append(Answer(level, reader, arm, 0, value))
        for question, some in given.items():
            if (profile := profile_of(some)) is not None:
                found[question, profile] += 1
    return [profile.row(1, question, count) for (question, profile), count in found.items()]


def readings(cases: int) -> Iterator[dict[str, Any]]:
    """One reading of every reader and arm for every case."""
    for case in range(1, cases + 1):
        for arm in range(len(ARMS)):
            for reader in range(len(READERS)):
                yield {
                    "study_id": 1,
                    "reader_id": reader + 1,
                    "session_id": reader * len(ARMS) + arm + 1,
                    "case_id": case,
                    "arm": ARMS[arm],
                    "batch": 1,
                    "position": case,
                    "repeat_round": 0,
                    "code": f"{case:030x}{arm}{reader}",
                    "state": "complete",
                    "version": 2,
                    "active_s": 60.0,
                    "counted": True,
                }


def bulk(database: Database, n: int, *, findings: bool) -> None:
    """Write the answers as fast as the database takes them."""
    table, place, item = (
        ("finding", "level", "finding") if findings else ("score", "sequence", "criterion")
    )
    columns = ["reading_id", "reader_id", "case_id", "arm", place, item, "value"]
    fixed = {"study_id": 1, "session_kind": "reading", "session_number": 1, "repeat_round": 0}
    fixed |= {"counted": True, "saved_at": "2030-01-01 00:00:00+00:00"}
    names = ("L", "finding_") if findings else ("sequence_", "criterion_")
    rows = (
        (*row[:4], f"{names[0]}{row[4]}", f"{names[1]}{row[5]}", row[6], *fixed.values())
        for row in answers(n, findings=findings)
    )
    listed = ", ".join([*columns, *fixed])
    raw = database.engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        if database.is_sqlite:
            marks = ", ".join("?" for _ in (*columns, *fixed))
            cursor.execute("BEGIN")
            cursor.executemany(f"INSERT INTO {table} ({listed}) VALUES ({marks})", rows)  # noqa: S608
        else:
            with cursor.copy(f"COPY {table} ({listed}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        raw.commit()
    finally:
        raw.close()


class Measured:
    """The app on one database, and what its endpoints cost."""

    def __init__(self, url: str) -> None:
        self.app = create_app(Settings(database_url=url))
        with self.app.app_context():
            self.database = state().database
        with self.database.write() as session:
            role = Role.STATISTICIAN
            _, self.token = create_token(session, name="s", role=role, now=utc_now())
        self.client = self.app.test_client()

    def get(self, path: str, **headers: str) -> Any:
        """Ask for a table."""
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        return self.client.get(f"/api/v1/studies/1/statistics/{path}", headers=sent)

    def fresh(self, path: str) -> float:
        """Seconds of a request after a change."""
        with self.database.write() as session:
            session.execute(update(Study).values(revision=Study.revision + 1))
        began = time.perf_counter()
        answer = self.get(path)
        seconds = time.perf_counter() - began
        if answer.status_code != 200:
            raise SystemExit(answer.text)
        return seconds

    def fresh_s(self, path: str, repeats: int) -> float:
        """Median of the seconds of a request after a change."""
        return statistics.median([self.fresh(path) for _ in range(repeats + 1)][1:])

    def known_s(self) -> tuple[float, float]:
        """Seconds of a request that the cache answers, and of one that is answered 304."""
        path = "agreement"
        tag = self.get(path).headers["ETag"]
        unchanged = {"If-None-Match": tag}
        return median_s(lambda: self.get(path), 20), median_s(
            lambda: self.get(path, **unchanged), 20
        )

    def recount_s(self) -> float:
        """Seconds of the same counts by a GROUP BY over all answers joined with themselves."""
        with self.database.snapshot() as session:
            began = time.perf_counter()
            for query in counts.expected_pairs(session, 1):
                session.execute(query).all()
            return time.perf_counter() - began

    def completed_s(self, repeats: int) -> tuple[float, float]:
        """Median seconds of completing a reading, with the counts and without them, in turn."""
        with self.database.write() as session:
            reader = session.scalars(select(Reader).order_by(Reader.id).limit(1)).one()
            row, token = create_token(session, name="r", role=Role.READER, now=utc_now())
            reader.token_id = row.id
            codes = list(
                session.scalars(
                    select(Reading.code)
                    .where(Reading.reader_id == reader.id, Reading.arm == ARMS[-1])
                    .order_by(Reading.id)
                    .limit(repeats + 1)
                )
            )
        times: dict[bool, list[float]] = {True: [], False: []}
        for code in codes:
            for kept in (True, False):
                times[kept].append(self._complete(code, token, kept=kept))
        # The first of each warms up.
        return statistics.median(times[True][1:]), statistics.median(times[False][1:])

    def _complete(self, code: str, token: str, *, kept: bool) -> float:
        """Open a reading again, and complete it; what is not counted is counted afterwards."""
        add = counts._add  # noqa: SLF001 - what is measured
        with self.database.write() as session:
            sheet = next(iter(load_sheets(session, 1, [reading_id(session, code)])))
            counts.count_out(session, sheet)
            sheet.reading.state, sheet.reading.completed_at = "open", None
            sheet.reading.opened_at = sheet.reading.last_seen_at = utc_now()
            version = sheet.reading.version
        if not kept:
            counts._add = nothing  # type: ignore[assignment] # noqa: SLF001
        began = time.perf_counter()
        answer = self.client.post(
            f"/api/v1/readings/{code}/complete",
            json={},
            headers={"Authorization": f"Bearer {token}", "If-Match": f'"{version}"'},
        )
        seconds = time.perf_counter() - began
        counts._add = add  # noqa: SLF001
        if answer.status_code != 200:
            raise SystemExit(answer.text)
        if not kept:
            with self.database.write() as session:
                sheet = next(iter(load_sheets(session, 1, [reading_id(session, code)])))
                sheet.reading.counted = False
                session.flush()
                add(session, sheet.reading, sign=1)
                sheet.reading.counted = True
        return seconds


def reading_id(session: Session, code: str) -> int:
    """Number of the row of a reading."""
    return session.scalars(select(Reading.id).where(Reading.code == code)).one()


def nothing(session: Session, reading: Reading, *, sign: int) -> None:
    """Count nothing."""


def median_s(call: Callable[[], object], repeats: int) -> float:
    """Median of the seconds of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def run(kind: str, url_of: Callable[[str], str], sizes: tuple[int, int], *, findings: bool) -> bool:
    """Measure both sizes on one database; whether the bar was met."""
    what = "findings" if findings else "scores"
    paths = FINDING_PATHS if findings else SCORE_PATHS
    costs: dict[str, list[float]] = {path: [] for path in paths}
    for n in sizes:
        url = url_of(f"{what}_{n}")
        database = Database(make_url(url))
        migrate.upgrade(database)
        written, cases = fill(database, n, findings=findings)
        database.dispose()
        measured = Measured(url)
        for path in paths:
            costs[path].append(measured.fresh_s(path, 5))
        known, unchanged = measured.known_s()
        shown = "   ".join(f"{path} {costs[path][-1] * 1e3:.0f} ms" for path in paths)
        print(f"{kind:<11}{written:>10,} {what} of {cases:,} cases   {shown}", flush=True)
        print(f"{'':<11}{'':>10} cached {known * 1e3:.2f} ms   304 {unchanged * 1e3:.2f} ms")
        if written <= QUICK:
            print(f"{'':<11}{'':>10} GROUP BY over all answers {measured.recount_s():.3f} s")
        kept, without = measured.completed_s(15)
        per_answer = (kept - without) / (written / (cases * len(ARMS) * len(READERS)))
        print(
            f"{'':<11}{'':>10} completing a reading {kept * 1e3:.1f} ms, without the counts "
            f"{without * 1e3:.1f} ms = {kept / without:.2f} x; {per_answer * 1e3:.2f} ms an answer"
        )
        measured.database.dispose()
    met = True
    for path, (small, large) in costs.items():
        ratio = large / small
        met &= ratio <= BAR
        print(
            f"{kind:<11}{what} {path}: {sizes[1] // sizes[0]} times the answers cost {ratio:.2f} "
            f"times as much; bar {BAR:g}: {'met' if ratio <= BAR else 'MISSED'}",
            flush=True,
        )
    return met


@contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """Start a real PostgreSQL on a socket of its own; gives the address of a new database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="halfscan-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = [
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            "--",
        ]
    bin_folder, data = programs[-1].parent, folder / "data"
    initdb = [str(bin_folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N"]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
    command = [str(bin_folder / "postgres"), "-D", str(data), "-k", str(folder)]
    command += ["-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*as_user, *command], stdout=log, stderr=log, cwd=folder)

    def url_of(name: str) -> str:
        with connect(folder) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://postgres@/{name}?host={folder}"

    try:
        yield url_of
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


def connect(folder: Path) -> Any:
    """Connect, once the server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(
                host=str(folder), user="postgres", dbname="postgres", autocommit=True
            )
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextmanager
def sqlite() -> Iterator[Callable[[str], str]]:
    """Give addresses of SQLite files in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="halfscan-bench-") as folder:
        yield lambda name: f"sqlite:///{folder}/{name}.db"


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} answers instead")
    kinds = {"sqlite": sqlite, "postgresql": postgresql}
    parser.add_argument("--databases", nargs="+", choices=list(kinds), default=list(kinds))
    parser.add_argument("--no-findings", action="store_true")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sizes = (SMALL, QUICK if asked.quick else LARGE)
    met = True
    for kind in asked.databases:
        with kinds[kind]() as url_of:
            met &= run(kind, url_of, sizes, findings=False)
            if not asked.no_findings:
                met &= run(kind, url_of, sizes, findings=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
