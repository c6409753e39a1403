"""What the report of a study costs: CPU seconds of each part.

    python benchmarks/report_cost.py [--cases 31] [--readers 2] [--sequences 5] [--repeats 3]

Fills a study after the protocol of the reference study (31 patients, 2 readers, 2 arms) with
simulated answers, writes its report as `halfscan report` does, and prints the CPU seconds of this
process by part: facts, each table, the figures by kind, the text. The first report of a process
loads matplotlib and SciPy; the median of the others stands beside. CPU seconds are no time on the
clock: what else runs on the machine does not count, its caches do.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import make_url

from halfscan_api import migrate
from halfscan_api.database import Database
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report.build import build
from halfscan_api.statistics.report.facts import load_facts
from halfscan_api.statistics.service import compute_table
from halfscan_api.studies.protocol import Protocol, template
from halfscan_api.studies.service import get_study

# The player of the tests: the same simulated reader study.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from statistics_fixtures import Simulation, fill_study

BAR_CPU_S = 5.0


def protocol(n_sequences: int) -> Protocol:
    """Give the protocol of the reference study with so many sequences; more are like the last."""
    document: dict[str, Any] = template("tang2024").as_document()
    known = document["sequences"]
    document["sequences"] = known[:n_sequences] + [
        {**known[-1], "name": f"further_{number}", "label": f"Further sequence {number}"}
        for number in range(1, n_sequences - len(known) + 1)
    ]
    return Protocol.model_validate(document)


def write_report(database: Database, study_id: int) -> tuple[dict[str, float], int]:
    """Write the report once; CPU seconds by part, and the size of the page in bytes."""
    spent: dict[str, float] = defaultdict(float)
    current, began = "facts", time.process_time()

    def note(done: int, parts: int, part: str) -> None:
        nonlocal current, began
        del done, parts
        now = time.process_time()
        spent[current] += now - began
        current, began = part, now

    with database.snapshot() as session:
        study = get_study(session, study_id)
        facts = load_facts(session, study, load_frame(session, study))
        page = build(
            session,
            facts,
            lambda name, query: compute_table(session, study, name, query),
            progress=note,
        )
    note(0, 0, "")
    return dict(spent), len(page.encode())


def shown(spent: dict[str, float]) -> dict[str, float]:
    """Add up the figures."""
    found: dict[str, float] = defaultdict(float)
    for part, seconds in spent.items():
        found["figures" if part.startswith("figure ") else part] += seconds
    return dict(found)


def main() -> int:
    """Fill, write, print; 1 where a report of a warm process takes more than the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=31)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="halfscan-benchmark-") as place:
        database = Database(make_url(f"sqlite:///{place}/study.db"))
        migrate.upgrade(database)
        readers = tuple(f"r{number}" for number in range(1, chosen.readers + 1))
        with database.write() as session:
            simulation = Simulation(protocol(chosen.sequences))
            study = fill_study(session, simulation, cases=chosen.cases, readers=readers).id
        loaded = time.process_time()
        first, _ = write_report(database, study)
        loading = time.process_time() - loaded
        rounds, sizes = zip(
            *(write_report(database, study) for _ in range(chosen.repeats)), strict=True
        )
        database.dispose()
    parts = {
        part: statistics.median(shown(spent)[part] for spent in rounds) for part in shown(first)
    }
    total = statistics.median(sum(spent.values()) for spent in rounds)
    print(f"{chosen.cases} cases, {chosen.readers} readers, {chosen.sequences} sequences")
    print(f"{'part':24}{'CPU [s]':>9}{'share':>8}")
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{part:24}{seconds:9.2f}{seconds / total:8.0%}")
    print(f"{'whole report':24}{total:9.2f}{'':8} {sizes[0] / 2**20:.1f} MiB of HTML")
    print(f"{'the first of a process':24}{loading:9.2f}")
    met = total <= BAR_CPU_S
    print(f"bar: {BAR_CPU_S:g} s of CPU, {'met' if met else 'NOT met'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
