"""The report: complete, self-contained, escaped, honest about what is missing; and the command."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import update
from werkzeug.test import TestResponse

from api_study import STUDIES, Play, plain_answers, small_protocol, start_study
from api_support import Api, json_of
from figure_support import NASTY, ask, fill, nasty_protocol
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report import build, facts
from halfscan_api.statistics.report.checklist import Item, judged
from halfscan_api.statistics.report.claim import CLAIM
from halfscan_api.statistics.report.cli import command
from halfscan_api.statistics.report.facts import changes_of, load_facts
from halfscan_api.statistics.report.inline import inline_svg
from halfscan_api.statistics.report.stard_ai import STARD_AI
from halfscan_api.statistics.report.verdicts import Status
from halfscan_api.statistics.results import Table
from halfscan_api.statistics.service import SUBJECTS, compute_table
from halfscan_api.studies.service import get_study
from halfscan_api.studies.tables import CaseSeries, Reader
from statistics_fixtures import bump, tang_study

pytest_plugins = ["api_fixtures"]

# Numbers of the items, from the papers (STARD 2015: 30 items, four of them in two parts or more).
STARD = [
    *(str(number) for number in range(1, 10)),
    *("10a", "10b", "11", "12a", "12b", "13a", "13b"),
    *(str(number) for number in range(14, 21)),
    *("21a", "21b"),
    *(str(number) for number in range(22, 31)),
]
# STARD-AI: 40 items, five of them in two parts or more.
_PARTS = {"15": "abcd", "16": "abc", "17": "ab", "26": "ab", "40": "ab"}
STARD_AI_NUMBERS = [
    f"{number}{part}" for number in range(1, 41) for part in _PARTS.get(str(number), " ")
]
STARD_AI_NUMBERS = [number.strip() for number in STARD_AI_NUMBERS]
GRRAS = [str(number) for number in range(1, 16)]
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """A page, read as a browser reads it; every element must be closed where it belongs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append((name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "xlink:href", "action", "data"}:
                self.links.append(value or "")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(api: Api, study: int, **more: str) -> TestResponse:
    return ask(api, study, "report", **more)


def page_of(api: Api, study: int) -> Page:
    answer = report(api, study)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def items_of(api: Api, study: int) -> dict[tuple[str, str], Item]:
    with api.database.snapshot() as session:
        row = get_study(session, study)
        known = load_facts(session, row, load_frame(session, row))
        tables = {name: compute_table(session, row, name) for name in SUBJECTS}
    return {(item.guideline, item.number): item for item in judged(known, tables)}


def test_primary_endpoints_are_answered(sqlite_api: Api) -> None:
    common = {"role": "primary", "kind": "detection", "hypothesis": "noninferiority"}
    endpoints = [
        {**common, "name": "wide_margin", "margin": 0.9},
        {**common, "name": "no_margin_at_all", "margin": 0.0001},
    ]
    study = fill(sqlite_api, cases=12, endpoints=endpoints)
    text = page_of(sqlite_api, study).text
    assert "wide margin (non-inferiority, margin 0.9): met." in text
    assert "no margin at all (non-inferiority, margin 0.0001): not met (" in text
    assert "adjusted" in text


# --- in every state -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["empty", "no readings", "half", "complete"])
def test_a_report_in_every_state(api: Api, state: str) -> None:
    unread = [("r2", f"P{case:04}", "accelerated") for case in range(1, 5)]
    makers: dict[str, Callable[[], int]] = {
        "empty": lambda: start_study(api, cases=0, readers=(), allocate=False).study_id,
        "no readings": lambda: start_study(api, cases=2).study_id,
        "half": lambda: fill(api, cases=5, unread=unread),
        "complete": lambda: fill(api, cases=5),
    }
    page = page_of(api, makers[state]())
    says = {
        "empty": "No reading has been allocated yet",
        "no readings": "Interim state: 8 of 8 readings are left",
        "half": "Interim state: 4 of 20 readings are left",
        "complete": "All 20 readings are complete",
    }
    for which, sentence in says.items():
        assert (sentence in page.text) == (which == state)
    _self_contained(page)
    assert page.tags.count("svg") == {"empty": 0, "no readings": 1, "half": 9, "complete": 9}[state]


def test_the_reference_study_whole(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api)
    page = page_of(sqlite_api, study)
    _self_contained(page)
    # Four sequences: Likert bars, SNR, Bland-Altman and kappas of scores each; the flow of
    # participants, kappas of findings, a mosaic, and the differences against their margins.
    assert page.tags.count("svg") == 4 * 4 + 4
    assert [int(one) for one in re.findall(r"Figure (\d+)\. ", page.text)] == list(range(1, 21))
    with sqlite_api.database.snapshot() as session:
        row = get_study(session, study)
        tables = [compute_table(session, row, name) for name in SUBJECTS if name != "lineage"]
    _holds_every_table(page, tables)


def _self_contained(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    pointed = {one for _, value in page.attributes for one in re.findall(r"url\(#([^)]+)\)", value)}
    assert pointed <= set(page.ids)
    assert not [value for _, value in page.attributes if "url(http" in value or "@import" in value]


def _holds_every_table(page: Page, tables: list[Table[object]]) -> None:
    captions = re.findall(r"Table (\d+)\. ", page.text)
    grids = [grid for table in tables for grid in table.grids]
    assert sorted(map(int, captions)) == list(range(1, len(grids) + 1))
    printed = [["".join(cell.split()) for cell in row] for row in page.rows]
    for grid in grids:
        for line in grid.body:
            cells = [cell if isinstance(cell, str) else cell.text for cell in line]
            assert ["".join(cell.split()) for cell in cells] in printed
    for table in tables:
        for note in table.notes:
            assert " ".join(note.split()) in page.text
        assert all(method in page.text for method in table.methods)


def test_a_study_that_asks_for_little(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3, readers=("only",), findings=[], regions=[])
    page = page_of(sqlite_api, study)
    assert "The protocol declares no endpoint." in page.text
    assert "McNemar's exact test" not in page.text
    _self_contained(page)


def test_many_sequences_have_their_figures_elsewhere(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fill(sqlite_api, cases=3)
    monkeypatch.setattr(build, "MOST_SEQUENCES", 1)
    monkeypatch.setattr(build, "MOST_CELLS", 30)
    text = page_of(sqlite_api, study).text
    assert (
        "Figures of further sequences (Transverse T2) are at the addresses of the figures." in text
    )
    assert "on are left out: more than 30 cells" in text


# --- methods ------------------------------------------------------------------------------------


def test_methods_say_what_was_done(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api)
    text = page_of(sqlite_api, study).text
    with sqlite_api.database.snapshot() as session:
        row = get_study(session, study)
        chosen = [
            one.difference.chosen
            for name in ("scan-time", "image-quality", "snr")
            for one in compute_table(session, row, name).rows
            if one.kind == "difference" and one.difference.p_value is not None
        ]
    for sentence in (
        "The protocol asks for a wash-out of 28 days; no second reading of a case is on record",
        "SHA-256 of the seed 7 and of the names",
        "p-values were adjusted by Bonferroni's method, in families of 2 tests",
        f"of {len(chosen)} comparisons with an answer, {chosen.count('t')} are from the t-test",
        f"and {chosen.count('wilcoxon')} from Wilcoxon's",
        "2 endpoints with a declared margin were tested one-sided at the level 0.05: score test",
        "The protocol declares no primary endpoint.",
        "spread grows with the mean in any of them (one-sided regression",
        "What this ratio to the background cannot tell",
        "11 criteria of image quality were scored",
        "8 findings were looked for at 5 levels",
        "31 cases were enrolled",
        "None was excluded after enrolment.",
        *(f"{name} {version(name)}" for name in ("halfscan", "numpy", "scipy", "matplotlib")),
        f"used by no table of this report: statsmodels {version('statsmodels')}",
        "124 series of Accelerated TSE with deep-learning reconstruction (TSE-DL) have no record",
    ):
        assert sentence in text, sentence


def test_no_internal_name_reaches_the_page(sqlite_api: Api) -> None:
    """Of a complete study, as it is printed: words, no names of the program."""
    page = page_of(sqlite_api, tang_study(sqlite_api))
    assert re.findall(r"\b[a-z]+_[a-z_]+\b", page.text) == []
    # The publication writes the factor of a scan without acceleration like that.
    text = re.sub(r"Acceleration factor( None| \d)+", "", page.text)
    for word in ("None(?! was excluded)", "nan", "NoneType", "not answered yet", "the last one on"):
        assert not re.search(rf"\b{word}\b", text), word
    assert all(set(row[1:]) != {"\N{EN DASH}"} for row in page.rows if row[1:])


def test_the_models_are_named(api: Api) -> None:
    study = fill(api, cases=3)
    made = {"model_name": "dbp", "model_version": "1.2", "model_sha256": "ab" * 32, "strength": 0.8}
    with api.database.write() as session:
        session.execute(
            update(CaseSeries).where(CaseSeries.arm == "accelerated").values(lineage=made)
        )
    text = page_of(api, study).text
    assert (
        "were reconstructed by the deep-learning model dbp 1.2 (weights "
        f"with SHA-256 {'ab' * 32}, strength 0.8)." in text
    )
    assert "ONNX Runtime that ran the model is not part of the recorded lineage" in text


def test_a_fixed_test_without_correction_is_said(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=4, difference_test="wilcoxon", alpha=0.01)
    text = page_of(sqlite_api, study).text
    assert "Tests were two-sided at the level 0.01" in text
    assert "As the protocol fixes it, values were compared by Wilcoxon's signed-rank test" in text
    assert "p-values were not adjusted for the number of tests." in text
    assert "No endpoint declares a margin" in text


# --- what was amended, waived, left out ---------------------------------------------------------


@pytest.fixture
def eventful(api: Api) -> Play:
    """A study with an exclusion, an amendment, a waived wash-out, gaps and an amended reading."""
    play = start_study(api, cases=3, training=1, repeat_sessions=1)
    play.run("POST", "/cases/P02/exclude", {"reason": "motion in every series"})
    grown = small_protocol(repeat_sessions=1, washout_days=21)
    grown["criteria"] = [
        *grown["criteria"],
        {**grown["criteria"][0], "name": "contrast", "label": "Contrast"},
    ]
    body = {"protocol": grown, "reason": "contrast was asked for by the ethics board"}
    version_now = api.send("GET", f"{play.url}/protocol", role="coordinator").headers["ETag"]
    answer = api.client.put(
        f"{play.url}/protocol",
        json=body,
        headers={
            "Authorization": f"Bearer {api.tokens['coordinator']}",
            "If-Match": version_now,
        },
    )
    assert answer.status_code == 200, answer.text
    play.read_session("r1", 0)
    play.read_session("r1", 1)
    reading = play.must_next("r2", play.session("r2", 0))
    reading.fill(plain_answers)
    reading.complete()
    return play


def test_amendments_exclusions_and_waived_washouts_are_told(api: Api, eventful: Play) -> None:
    page = page_of(api, eventful.study_id)
    row = next(row for row in page.rows if row[0] == "2" and "ethics" in row[2])
    assert row[2:] == [
        "contrast was asked for by the ethics board",
        "criteria: contrast added; washout_days: 28 became 21",
    ]
    assert "motion in every series" in page.text
    assert "1 case was excluded after enrolment" in page.text
    assert "1 further case for training never count." in page.text
    assert "No session began before its time." in page.text
    first = report(api, eventful.study_id).headers["ETag"]
    sessions = eventful.sessions("r1")
    waiting = next(one for one in sessions if one["state"] == "waiting")
    path = f"/api/v1/sessions/{waiting['code']}/override"
    before = json_of(api.send("GET", eventful.url, role="coordinator"))["revision"]
    reason = {"reason": "the reader leaves the country"}
    waived = api.send("POST", path, reason, role="coordinator")
    assert waived.status_code == 200, waived.text
    after = json_of(api.send("GET", eventful.url, role="coordinator"))["revision"]
    # The revision stands still: the report is another one all the same.
    assert before == after
    again = report(api, eventful.study_id, etag=first)
    assert again.status_code == 200
    assert "the reader leaves the country" in again.text
    assert "It was waived for 1 session" in again.text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"alpha": 0.05}, {"alpha": 0.05}, []),
        ({"alpha": 0.05}, {"alpha": 0.01}, ["alpha: 0.05 became 0.01"]),
        ({}, {"repeat_cases": 3}, ["repeat_cases: nothing became 3"]),
        ({"description": "a"}, {"description": "b"}, ["description: rewritten"]),
        (
            {"arms": [{"name": "a"}, {"name": "b"}]},
            {"arms": [{"name": "b"}, {"name": "a"}]},
            ["arms: another order"],
        ),
        (
            {"regions": [{"name": "fat", "group": "sag", "role": "signal"}]},
            {"regions": [{"name": "fat", "group": "tra", "role": "signal"}]},
            ["regions: tra/fat added", "regions: sag/fat removed"],
        ),
        (
            {"criteria": [{"name": "noise", "label": "Noise"}]},
            {"criteria": [{"name": "noise", "label": "Grain"}]},
            ["criteria: noise changed"],
        ),
        (
            {"multiplicity": {"method": "none"}},
            {"multiplicity": {"method": "holm", "family_size": 2}},
            ["multiplicity: method none became method holm, family_size 2"],
        ),
        ({"required": ["scores"]}, {"required": []}, ["required: scores became "]),
    ],
)
def test_what_an_amendment_changed(
    old: dict[str, object], new: dict[str, object], expected: list[str]
) -> None:
    assert list(changes_of(old, new)) == expected


def test_the_shortest_time_between_two_readings_of_a_case(api: Api) -> None:
    play = start_study(api, cases=1, readers=("r1",), washout_days=28)
    play.read_session("r1", 0)
    api.clock.advance(28.5 * 86_400)
    play.read_session("r1", 1)
    text = page_of(api, play.study_id).text
    assert "same reader was 28.5 days." in text
    assert "A wash-out of at least 28 days lay between the sessions" in text


def amended(play: Play, reason: str, **changes: Any) -> None:
    protocol = play.run("GET", "/protocol")["protocol"] | changes
    headers = {"Authorization": f"Bearer {play.api.tokens['coordinator']}", "If-Match": "*"}
    body = {"protocol": protocol, "reason": reason}
    answer = play.api.client.put(f"{play.url}/protocol", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


def test_a_wash_out_that_was_amended_away_and_back_is_not_claimed(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    assert "no second reading of a case is on record" in page_of(api, play.study_id).text
    play.read_session("r1", 0)
    amended(play, "in a hurry", washout_days=0)
    play.read_session("r1", 1)
    amended(play, "as it was", washout_days=28)
    text = page_of(api, play.study_id).text
    assert "lay between the sessions" not in text
    assert "which was not kept: 2 of 2 second readings of a case began before" in text
    assert "(version 1: 28 days; version 2: 0 days; version 3: 28 days)" in text


def test_goalposts_that_moved_after_a_look_are_told(api: Api) -> None:
    endpoint = {
        "name": "noise",
        "role": "exploratory",
        "kind": "image_quality",
        "item": "noise",
        "hypothesis": "noninferiority",
        "margin": 0.05,
    }
    play = start_study(api, cases=2, readers=("r1",), endpoints=[endpoint])
    assert "not amended after the first reading" in page_of(api, play.study_id).text
    play.read_session("r1", 0)
    api.clock.advance(60)
    moved = {**endpoint, "role": "primary", "margin": 0.5}
    amended(play, "it looks better", endpoints=[moved], alpha=0.4)
    text = page_of(api, play.study_id).text
    told = (
        "alpha: 0.05 became 0.4; endpoints: noise changed (role exploratory became primary, margin"
    )
    assert f"{told} 0.05 became 0.5)" in text
    assert "By then 2 readings had been completed, and answers by protocol had been seen" in text


# --- the checklist ------------------------------------------------------------------------------


def test_every_item_of_the_guidelines_is_judged(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=4)
    items = items_of(sqlite_api, study)
    assert list(items) == [
        *(("STARD 2015", number) for number in STARD),
        *((STARD_AI, number) for number in STARD_AI_NUMBERS),
        *(("GRRAS", number) for number in GRRAS),
        *((CLAIM, str(number)) for number in range(1, 45)),
    ]
    page = page_of(sqlite_api, study)
    headings = {row[0] for row in page.rows} | set(page.text.split(" "))
    for item in items.values():
        verdict = item.verdict
        assert bool(verdict.where) == (verdict.status in {Status.REPORTED, Status.PARTLY}), item
        assert (verdict.missing == "") == (verdict.status is Status.REPORTED), item
        assert item.number in headings
        row = [item.number, item.asks, verdict.status.value, "; ".join(verdict.where)]
        assert [*row, verdict.missing] in page.rows


def test_judgements_follow_what_the_study_holds(api: Api) -> None:
    empty = items_of(api, start_study(api, cases=0, readers=(), allocate=False).study_id)
    full_id = fill(
        api,
        cases=4,
        endpoints=[
            {
                "name": "main",
                "role": "primary",
                "kind": "detection",
                "hypothesis": "noninferiority",
                "margin": 0.05,
            }
        ],
    )
    full = items_of(api, full_id)
    for key, before, after in (
        (("STARD 2015", "4"), Status.MISSING, Status.REPORTED),
        (("STARD 2015", "19"), Status.MISSING, Status.PARTLY),
        (("STARD 2015", "23"), Status.MISSING, Status.PARTLY),
        (("GRRAS", "4"), Status.MISSING, Status.PARTLY),
        (("GRRAS", "13"), Status.MISSING, Status.PARTLY),
        (("GRRAS", "14"), Status.MISSING, Status.PARTLY),
        (("STARD 2015", "10b"), Status.NOT_APPLICABLE, Status.NOT_APPLICABLE),
        (("STARD 2015", "30"), Status.MISSING, Status.MISSING),
    ):
        assert (empty[key].verdict.status, full[key].verdict.status) == (before, after), key
    with api.database.write() as session:
        session.execute(update(Reader).values(experience_years=12.5))
        bump(session, full_id)
    assert "12.5" in page_of(api, full_id).text
    assert items_of(api, full_id)["GRRAS", "12"].verdict.status is Status.PARTLY


# --- nothing gets out, nothing gets in ----------------------------------------------------------


def test_everything_is_escaped(api: Api) -> None:
    protocol = small_protocol(**nasty_protocol())
    body = {"name": "nasty", "protocol": protocol}
    made = api.send("POST", STUDIES, body, role="coordinator")
    assert made.status_code == 201, made.text
    play = Play(api, json_of(made)["id"], "nasty", protocol)
    for number in (1, 2):
        play.enrol(f"P{number:02}")
    for reader in ("r1", "r2"):
        play.add_reader(reader)
    play.run("POST", "/allocation")
    play.run("POST", "/cases/P02/exclude", {"reason": NASTY})
    for reader in ("r1", "r2"):
        play.read_session(reader, 0)
    answer = report(api, play.study_id)
    assert "<script" not in answer.text
    page = Page(answer.text)
    _self_contained(page)
    assert " ".join(NASTY.split()) in page.text
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_identifiers_of_two_figures_do_not_meet() -> None:
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        b'<metadata>of whom</metadata><defs><path id="p"/></defs><use xlink:href="#p"/>'
        b'<g clip-path="url(#p)"><text>id="p" &lt;b&gt;</text></g></svg>'
    )
    text = str(inline_svg(svg, "figure3"))
    assert 'id="figure3-p"' in text
    assert 'xlink:href="#figure3-p"' in text
    assert 'clip-path="url(#figure3-p)"' in text
    assert 'id="p" &lt;b&gt;' in text
    assert "of whom" not in text


def test_who_sees_the_report_and_that_it_is_recorded(api: Api) -> None:
    play = start_study(api, cases=1)
    assert report(api, play.study_id, role="service").status_code == 403
    assert play.ask("r1", "GET", f"/studies/{play.study_id}/statistics/report").status_code == 403
    for role in ("statistician", "coordinator", "statistician"):
        assert report(api, play.study_id, role=role).status_code == 200
    looks = [(event["role"], event["subject"]) for event in play.events(action="looked")]
    assert looks == [
        ("statistician", "statistics/report"),
        ("coordinator", "statistics/report"),
    ]


def test_the_report_is_made_once_for_each_state(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fill(api, cases=3)
    first = report(api, study)
    second = report(api, study)
    assert first.data == second.data
    known = report(api, study, etag=first.headers["ETag"])
    assert (known.status_code, known.data) == (304, b"")
    with api.database.write() as session:
        bump(session, study)
    third = report(api, study, etag=first.headers["ETag"])
    assert third.status_code == 200
    assert third.headers["ETag"] != first.headers["ETag"]
    # Another version of a library writes another report.
    monkeypatch.setattr(facts, "version", lambda name: f"{name}-next")
    assert report(api, study, etag=third.headers["ETag"]).status_code == 200


def test_a_package_that_is_not_there_is_said() -> None:
    assert facts.versions_of(("halfscan", "no-such-package-at-all")) == {
        "halfscan": version("halfscan"),
        "no-such-package-at-all": "not installed",
    }


def test_there_is_no_such_study(sqlite_api: Api) -> None:
    assert report(sqlite_api, 77).status_code == 404


# --- the command --------------------------------------------------------------------------------


def test_the_command_writes_the_same_report(
    api: Api, api_database_url: str, tmp_path: Path
) -> None:
    play = start_study(api, cases=1)
    out = tmp_path / "report.html"
    for key in (play.name, str(play.study_id)):
        arguments = [key, "--out", str(out), "--database-url", api_database_url]
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
        assert out.read_text(encoding="utf-8") == report(api, play.study_id).text
    looks = [event["actor"] for event in play.events(action="looked")]
    assert looks[0] == "command line"


@pytest.mark.parametrize(
    ("key", "out", "message"),
    [
        ("nobody", "report.html", "there is no study named 'nobody'"),
        ("77", "report.html", "there is no study 77"),
        ("small", "no/folder/report.html", "--out needs an existing folder"),
    ],
)
def test_the_command_says_what_is_wrong(
    sqlite_api: Api, tmp_path: Path, key: str, out: str, message: str
) -> None:
    url = sqlite_api.database.engine.url.render_as_string(hide_password=False)
    arguments = [key, "--out", str(tmp_path / out), "--database-url", url]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert not (tmp_path / out).exists()
