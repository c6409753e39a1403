"""The same study three times: over HTTP, by the package from the exported CSV, and by R from it.

The readings are still coming in, and answers are missing. R needs psych and vcd (Debian:
r-base-core, r-cran-psych, r-cran-vcd); without them that part is skipped, with a message.
"""

import csv
import io
import shutil
import subprocess
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_study import STUDIES, Play
from api_support import Api, json_of
from halfscan_api.studies.protocol import Protocol, template
from halfscan_stats import clustered_mcnemar, cohen_kappa, icc, mcnemar, paired_t, shapiro_wilk
from halfscan_stats import wilcoxon_signed_rank as wilcoxon
from statistics_fixtures import Simulation, begin_over_http, read_over_http, wait

pytest_plugins = ["api_fixtures"]

ORACLE = Path(__file__).with_name("statistics_oracle.R")
ARMS = ("standard", "accelerated")
Figures = dict[tuple[str, ...], list[float | None]]


@dataclass
class Exported:
    """A study over HTTP, and the CSV files that it exports."""

    api: Api
    play: Play
    folder: Path

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return [
                row
                for row in csv.DictReader(file)
                if row["counted"] == "1" and row["repeat_round"] == "0"
            ]

    def table(self, name: str, **query: Any) -> list[dict[str, Any]]:
        path = f"{STUDIES}/{self.play.study_id}/statistics/{name}"
        answer = self.api.send("GET", path, role="statistician", query_string=query)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = json_of(answer)["rows"]
        return rows


@pytest.fixture
def exported(api: Api, tmp_path: Path) -> Exported:
    """Two sequences of the reference study; the second sessions have only begun."""
    document = template("tang2024").as_document()
    # Which readings come first follows from it: by chance all of them may have one score, where R
    # gives kappa an interval without width.
    document["seed"] = 7
    document["sequences"] = [
        one for one in document["sequences"] if one["name"] in {"sag_t1", "tra_t2"}
    ]
    protocol = Protocol.model_validate(document)
    simulation = Simulation(protocol, seed=3, missing=0.08)
    play = begin_over_http(api, protocol, cases=12)
    read_over_http(play, simulation, "r1", 0)
    read_over_http(play, simulation, "r2", 0)
    wait(play, 29)
    assert read_over_http(play, simulation, "r1", 1, at_most=9) == 9
    assert read_over_http(play, simulation, "r2", 1, at_most=7) == 7
    answer = api.send("GET", f"{STUDIES}/{play.study_id}/export?format=csv", role="statistician")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        archive.extractall(tmp_path / "export")
    return Exported(api, play, tmp_path / "export")


# --- over HTTP ----------------------------------------------------------------------------------


def over_http(study: Exported) -> Figures:
    """Every figure, by the name that the oracle gives it."""
    found: Figures = {}
    for row in study.table("agreement"):
        compared = row["compared"]
        if row["kind"] == "kappa":
            which = compared["arms"] if len(compared["readers"]) == 2 else compared["readers"]
            name = (
                row["section"],
                row["item"],
                row["place"] or "",
                compared["comparison"],
                which[0],
            )
            found["kappa", *name] = values_of(row["kappa"])
        elif compared["comparison"] == "inter_reader":
            scope = compared["arms"][0] if compared["scope"] == "within" else "pooled"
            found["icc", row["item"], row["place"], scope] = values_of(row["icc"])
    for table in ("image-quality", "snr"):
        for row in study.table(table):
            if row["kind"] == "difference" and row["level"] != "group":
                choice = row["difference"]
                key = ("difference", table, row["item"], row["place"], row["reader"])
                found[key] = [
                    choice["n"],
                    choice["t"]["mean_difference"],
                    choice["normality"]["p_value"],
                    choice["t"]["p_value"],
                    choice["wilcoxon"]["p_value"],
                ]
    for row in study.table("detection"):
        if row["reader"] is not None:
            found["mcnemar", row["item"], row["reader"]] = [
                row["n"],
                row["test_only"],
                row["reference_only"],
                row["mcnemar"]["p_value"],
                row["clustered"]["p_value"],
            ]
    return found


def values_of(answer: dict[str, Any]) -> list[float | None]:
    interval = answer["interval"] or {"low": None, "high": None}
    return [answer["n"], answer["value"], interval["low"], interval["high"]]


# --- by the package, from the CSV ---------------------------------------------------------------


def by_package(study: Exported) -> Figures:
    return {
        **dict(scores_by_package(study)),
        **dict(findings_by_package(study)),
        **dict(snr_by_package(study)),
    }


def grouped(rows: list[dict[str, str]], item: str, *places: str) -> dict[Any, Any]:
    """(item, place...) -> (reader, arm) -> case (and level) -> value."""
    found: dict[Any, Any] = defaultdict(lambda: defaultdict(dict))
    value = "snr" if item == "region" else "value"
    for row in rows:
        if row[value]:
            key = (row["case"], row["level"]) if item == "finding" else (row["case"],)
            what = (row[item], *(row[place] for place in places))
            found[what][row["reader"], row["arm"]][key] = float(row[value])
    return found


def both(
    sides: dict[Any, Any], first: Any, second: Any
) -> tuple[list[float], list[float], list[str]]:
    keys = sorted(sides[first].keys() & sides[second].keys())
    return [sides[first][k] for k in keys], [sides[second][k] for k in keys], [k[0] for k in keys]


def compared() -> Iterator[tuple[tuple[str, str], tuple[str, str], tuple[str, str]]]:
    for arm in ARMS:
        yield ("inter_reader", arm), ("r1", arm), ("r2", arm)
    for reader in ("r1", "r2"):
        yield ("inter_protocol", reader), (reader, ARMS[0]), (reader, ARMS[1])


def estimate(answer: Any) -> list[float | None]:
    limits = answer.interval
    return [answer.n, answer.value, limits and limits.low, limits and limits.high]


def difference(first: list[float], second: list[float]) -> list[float | None]:
    t = paired_t(second, first)
    normality = shapiro_wilk(np.subtract(second, first))
    return [t.n, t.mean_difference, normality.p_value, t.p_value, wilcoxon(second, first).p_value]


def scores_by_package(study: Exported) -> Iterator[tuple[tuple[str, ...], list[float | None]]]:
    for (item, place), sides in grouped(study.rows("scores.csv"), "criterion", "sequence").items():
        for name, one, other in compared():
            first, second, _ = both(sides, one, other)
            answer = cohen_kappa(first, second, categories=(1, 2, 3, 4), weights="linear")
            yield ("kappa", "scores", item, place, *name), estimate(answer)
        for reader in ("r1", "r2"):
            first, second, _ = both(sides, (reader, ARMS[0]), (reader, ARMS[1]))
            yield (
                ("difference", "image-quality", item, place, reader),
                difference(first, second),
            )


def findings_by_package(study: Exported) -> Iterator[tuple[tuple[str, ...], list[float | None]]]:
    for (item,), sides in grouped(study.rows("findings.csv"), "finding").items():
        for name, one, other in compared():
            first, second, _ = both(sides, one, other)
            yield (
                ("kappa", "findings", item, "", *name),
                estimate(cohen_kappa(first, second, categories=(0, 1))),
            )
        for reader in ("r1", "r2"):
            first, second, patients = both(sides, (reader, ARMS[0]), (reader, ARMS[1]))
            test = mcnemar(second, first)
            robust = clustered_mcnemar(second, first, cluster=patients)
            figures = [test.n, test.b, test.c, test.p_value, robust.p_value]
            yield ("mcnemar", item, reader), figures


def snr_by_package(study: Exported) -> Iterator[tuple[tuple[str, ...], list[float | None]]]:
    rows = [row for row in study.rows("measurements.csv") if row["transferred"] == "0"]
    for (item, place), sides in grouped(rows, "region", "sequence").items():
        blocks = []
        for arm in ARMS:
            first, second, _ = both(sides, ("r1", arm), ("r2", arm))
            blocks.append(np.column_stack([first, second]))
        for scope, block in zip((*ARMS, "pooled"), (*blocks, np.concatenate(blocks)), strict=True):
            yield ("icc", item, place, scope), estimate(icc(block))
        for reader in ("r1", "r2"):
            first, second, _ = both(sides, (reader, ARMS[0]), (reader, ARMS[1]))
            yield ("difference", "snr", item, place, reader), difference(first, second)


# --- by R ---------------------------------------------------------------------------------------


def by_r(study: Exported) -> Figures:
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is not installed (apt-get install r-base-core r-cran-psych r-cran-vcd)")
    probe = 'quit(status = !all(c("psych", "vcd") %in% rownames(installed.packages())))'
    if subprocess.run([rscript, "-e", probe], check=False, capture_output=True).returncode:
        pytest.skip("R has no psych and vcd (apt-get install r-cran-psych r-cran-vcd)")
    output = study.folder / "figures.csv"
    done = subprocess.run(
        [rscript, "--vanilla", str(ORACLE), str(study.folder), str(output)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: Figures = {}
    for line in output.read_text(encoding="utf-8").splitlines():
        name, *values = line.split(",")
        found[tuple(name.split("|"))] = [
            None if value in {"NA", "NaN"} else float(value) for value in values
        ]
    return found


# --- the same -----------------------------------------------------------------------------------


def differing(ours: Figures, theirs: Figures, tolerance: float) -> list[Any]:
    """Names whose figures are not the same; where the other side has none, nothing is compared."""
    return [
        (name, ours.get(name), values)
        for name, values in theirs.items()
        if len(ours.get(name, [])) != len(values)
        or any(
            theirs_one is not None
            and (own is None or abs(own - theirs_one) > tolerance * max(1, abs(theirs_one)))
            for own, theirs_one in zip(ours[name], values, strict=True)
        )
    ]


def test_over_http_is_what_the_package_says_of_the_export(exported: Exported) -> None:
    ours, theirs = over_http(exported), by_package(exported)
    assert ours.keys() == theirs.keys()
    assert differing(ours, theirs, 1e-9) == []
    assert differing(theirs, ours, 1e-9) == []
    # The study is unfinished, and answers are missing: something must be.
    complete = [values[0] for name, values in ours.items() if name[0] == "kappa"]
    assert min(value for value in complete if value is not None) < 12


def test_over_http_is_what_r_says_of_the_export(exported: Exported) -> None:
    theirs = by_r(exported)
    ours = over_http(exported)
    assert ours.keys() == theirs.keys()
    kinds = {name[0] for name in theirs}
    assert kinds == {"kappa", "icc", "difference", "mcnemar"}
    wrong = differing(ours, without_r_quirks(ours, theirs), 1e-6)
    assert wrong == []
    answered = [name for name, values in theirs.items() if None not in values]
    assert len(answered) > 0.7 * len(theirs)


def without_r_quirks(ours: Figures, theirs: Figures) -> Figures:
    """Leave out an interval without width beside a perfect agreement; end kappa's at -1 and 1."""
    kept: Figures = {}
    for name, values in theirs.items():
        perfect = name[0] == "kappa" and ours[name][1] == 1.0
        limits = [None if one is None else max(-1.0, min(1.0, one)) for one in values[2:]]
        ends = limits if name[0] == "kappa" else values[2:]
        kept[name] = [*values[:2], *((None, None) if perfect else ends)]
    return kept
