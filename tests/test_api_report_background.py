"""Reports in the background: made once, found by every process, taken over from a killed one."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from api_study import STUDIES, start_study
from api_support import Api, json_of
from figure_support import fill
from halfscan_api.app import create_app
from halfscan_api.settings import Settings
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.report import build, cli, ledger, making, routes
from halfscan_api.statistics.report.facts import load_facts
from halfscan_api.statistics.report.ledger import ReportLeaseLost, Version
from halfscan_api.statistics.report.preference import Preference, preference_of
from halfscan_api.statistics.report.tables import StudyReport
from halfscan_api.studies.service import get_study
from statistics_fixtures import bump

pytest_plugins = ["api_fixtures"]

PATIENCE_S = 60.0


def ask(
    api: Api, study: int, prefer: str | None = None, *, method: str = "GET", tail: str = ""
) -> TestResponse:
    headers = {"Authorization": f"Bearer {api.tokens['statistician']}"}
    if prefer is not None:
        headers["Prefer"] = prefer
    path = f"{STUDIES}/{study}/statistics/report{tail}"
    return api.client.open(path, method=method, headers=headers)


def progress(api: Api, study: int) -> dict[str, Any]:
    answer = ask(api, study, tail="/progress")
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def reports(api: Api) -> list[StudyReport]:
    with api.database.read() as session:
        return list(session.scalars(select(StudyReport).order_by(StudyReport.id)))


def version(api: Api, study: int) -> Version:
    with api.database.snapshot() as session:
        row = get_study(session, study)
        return ledger.version_of(row, load_facts(session, row, load_frame(session, row)))


class Held:
    """Stands in for the writing of a report: begins, and ends when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.calls = threading.Event(), 0
        self._free = threading.Event()
        monkeypatch.setattr(making, "build", self)
        monkeypatch.setattr(making, "NOTE_EVERY_S", 0.0)

    def __call__(self, *_: Any, progress: Callable[[int, int, str], None]) -> str:
        self.calls += 1
        progress(3, 7, "table agreement")
        self.begun.set()
        assert self._free.wait(PATIENCE_S)
        progress(6, 7, "text")
        return f"<p>report {self.calls}</p>"

    def let_go(self) -> None:
        self._free.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


# --- the contract of HTTP -----------------------------------------------------------------------


def test_a_plain_request_waits_and_gets_the_page(api: Api) -> None:
    study = fill(api, cases=2)
    answer = ask(api, study)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["ETag"] == f'"{version(api, study).name}"'
    assert "Preference-Applied" not in answer.headers
    assert ask(api, study, "respond-async").data == answer.data


def test_a_report_that_is_not_ready_is_202_with_its_progress(api: Api, held: Held) -> None:
    study = start_study(api, cases=1).study_id
    assert progress(api, study)["state"] == "absent"
    first = ask(api, study, "respond-async")
    assert (first.status_code, first.mimetype) == (202, "application/json")
    assert first.headers["Location"] == f"{STUDIES}/{study}/statistics/report/progress"
    assert first.headers["Retry-After"] == "2"
    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["Preference-Applied"] == "respond-async"
    assert held.begun.wait(PATIENCE_S)
    body = progress(api, study)
    assert (body["state"], body["part"]) == ("making", "table agreement")
    assert (body["parts_done"], body["parts"]) == (3, 7)
    assert body["etag"] == f'"{version(api, study).name}"'
    waited = ask(api, study, "wait=1")
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (202, "wait=1")
    held.let_go()
    until(lambda: progress(api, study)["state"] == "done")
    done = progress(api, study)
    assert (done["parts_done"], done["parts"], done["part"]) == (7, 7, "")
    page = api.client.get(
        done["href"], headers={"Authorization": f"Bearer {api.tokens['statistician']}"}
    )
    assert (page.status_code, page.text) == (200, "<p>report 1</p>")
    assert held.calls == 1


def test_a_look_is_recorded_with_the_page_and_not_before(api: Api, held: Held) -> None:
    play = start_study(api, cases=1)
    for answer in (
        ask(api, play.study_id, "respond-async"),
        ask(api, play.study_id, method="POST"),
        ask(api, play.study_id, tail="/progress"),
    ):
        assert answer.status_code in {200, 202}
    held.let_go()
    until(lambda: progress(api, play.study_id)["state"] == "done")
    # Looking at the trail is a look too.
    assert [one["subject"] for one in play.events(action="looked")] == []
    assert ask(api, play.study_id).status_code == 200
    looks = [one["subject"] for one in play.events(action="looked")]
    assert looks == ["audit", "statistics/report"]


def test_post_begins_a_report_and_says_whether_it_is_there(api: Api, held: Held) -> None:
    study = start_study(api, cases=1).study_id
    assert ask(api, 77, method="POST").status_code == 404
    assert ask(api, 77, tail="/progress").status_code == 404
    begun = ask(api, study, method="POST")
    assert (begun.status_code, json_of(begun)["state"]) == (202, "making")
    assert begun.headers["Location"].endswith("/statistics/report/progress")
    assert ask(api, study, method="POST").status_code == 202
    held.let_go()
    until(lambda: progress(api, study)["state"] == "done")
    again = ask(api, study, method="POST")
    assert (again.status_code, json_of(again)["state"]) == (200, "done")
    assert "Retry-After" not in again.headers
    assert held.calls == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preference(50, "")),
        ("", Preference(50, "")),
        ("wait=10", Preference(10, "wait=10")),
        ("respond-async, wait=10", Preference(10, "respond-async, wait=10")),
        ("respond-async", Preference(0, "respond-async")),
        ("Respond-Async; foo=bar", Preference(0, "respond-async")),
        ('wait = "7"', Preference(7, "wait=7")),
        ("wait=3, wait=40", Preference(3, "wait=3")),
        ("wait=9999", Preference(60, "wait=60")),
        ("wait=0", Preference(0, "wait=0")),
        ("wait=-1", Preference(50, "")),
        ("wait=soon, handling=lenient", Preference(50, "")),
        (",;=,,", Preference(50, "")),
    ],
)
def test_preferences_are_read_as_rfc_7240_says(header: str | None, expected: Preference) -> None:
    assert preference_of(header, default_s=50, longest_s=60) == expected


def test_who_waits_leaves_threads_for_the_others(
    sqlite_api: Api, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = start_study(sqlite_api, cases=1).study_id
    monkeypatch.setitem(
        sqlite_api.app.extensions, "halfscan_report_waiting", threading.BoundedSemaphore(1)
    )
    answers: list[TestResponse] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(sqlite_api, study)))
    waiting.start()
    assert held.begun.wait(PATIENCE_S)
    began = time.monotonic()
    assert ask(sqlite_api, study, "wait=30").status_code == 202
    assert time.monotonic() - began < 20
    held.let_go()
    waiting.join()
    assert [answer.status_code for answer in answers] == [200]


# --- once, and for every process ----------------------------------------------------------------


def test_two_servers_on_one_database_make_a_report_once(
    api: Api, api_database_url: str, held: Held
) -> None:
    study = start_study(api, cases=1).study_id
    other = Api(create_app(Settings(database_url=api_database_url), clock=api.clock), api.clock)
    other.tokens = api.tokens
    answers: list[TestResponse] = []
    threads = [
        threading.Thread(target=lambda some=some: answers.append(ask(some, study)))
        for some in (api, other, api, other)
    ]
    for thread in threads:
        thread.start()
    assert held.begun.wait(PATIENCE_S)
    held.let_go()
    for thread in threads:
        thread.join()
    assert {(one.status_code, one.text) for one in answers} == {(200, "<p>report 1</p>")}
    assert held.calls == 1
    assert [row.state for row in reports(api)] == ["done"]
    other.database.dispose()


KILLED = """
import sys, time
from sqlalchemy import make_url
from halfscan_api.database import Database, utc_now
from halfscan_api.statistics.report import ledger
from halfscan_api.statistics.report.ledger import Version
from datetime import datetime
url, study, revision, name, now = sys.argv[1:]
database = Database(make_url(url))
with database.write() as session:
    version = Version(int(study), int(revision), name)
    claimed = ledger.claim(session, version, now=datetime.fromisoformat(now))
print(claimed.report_id, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_is_taken_over(api: Api, api_database_url: str) -> None:
    study = start_study(api, cases=1).study_id
    wanted = version(api, study)
    arguments = [api_database_url, str(study), str(wanted.revision), wanted.name]
    command = [sys.executable, "-c", KILLED, *arguments, api.clock.now.isoformat()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdecimal()
        process.kill()
    # As long as the lease holds, nobody can know.
    assert ask(api, study, "wait=0").status_code == 202
    assert progress(api, study)["state"] == "making"
    api.clock.advance(ledger.LEASE.total_seconds() + 1)
    assert progress(api, study)["state"] == "absent"
    assert ask(api, study).status_code == 200
    assert [(row.state, row.attempt) for row in reports(api)] == [("done", 2)]


def test_a_report_that_kills_its_process_is_given_up(api: Api) -> None:
    study = start_study(api, cases=1).study_id
    wanted = version(api, study)
    for _ in range(ledger.ATTEMPTS):
        with api.database.write() as session:
            assert ledger.claim(session, wanted, now=api.clock.now) is not None
        api.clock.advance(ledger.LEASE.total_seconds() + 1)
    answer = ask(api, study)
    assert answer.status_code == 500
    assert "vanished 3 times" in json_of(answer)["detail"]
    assert answer.headers["Retry-After"] == "30"
    assert progress(api, study)["state"] == "failed"
    assert ask(api, study, method="POST").status_code == 202
    assert ask(api, study).status_code == 200


def test_who_was_taken_for_dead_writes_nothing(sqlite_api: Api) -> None:
    study = start_study(sqlite_api, cases=1).study_id
    wanted = version(sqlite_api, study)
    with sqlite_api.database.write() as session:
        first = ledger.claim(session, wanted, now=sqlite_api.clock.now)
    sqlite_api.clock.advance(ledger.LEASE.total_seconds() + 1)
    now = sqlite_api.clock.now
    with sqlite_api.database.write() as session:
        second = ledger.claim(session, wanted, now=now)
        assert ledger.claim(session, wanted, now=now) is None
    assert first is not None
    assert second is not None
    writings: list[Callable[[Session], None]] = [
        lambda session: ledger.advance(session, first, (1, 2, "text"), now=now),
        lambda session: ledger.finish(session, first, "<p>late</p>", now=now),
        lambda session: ledger.fail(session, first, "late", now=now),
    ]
    for late in writings:
        with (
            pytest.raises(ReportLeaseLost, match="must be held"),
            sqlite_api.database.write() as session,
        ):
            late(session)
    with sqlite_api.database.write() as session:
        ledger.give_up(session, first)
        ledger.finish(session, second, "<p>in time</p>", now=now)
    assert ask(sqlite_api, study).text == "<p>in time</p>"


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_report_that_fails_says_so_and_is_tried_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = start_study(api, cases=1).study_id
    calls = []

    def fails(*_: Any, **__: Any) -> str:
        calls.append(1)
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(making, "build", fails)
    answer = ask(api, study)
    assert answer.status_code == 500
    assert json_of(answer)["type"] == "urn:halfscan:problem:report-failed"
    assert "ZeroDivisionError; POST makes it again at once" in json_of(answer)["detail"]
    assert "secret" not in answer.text
    assert ask(api, study).status_code == 500
    assert len(calls) == 1
    monkeypatch.setattr(making, "build", build.build)
    api.clock.advance(ledger.PAUSE.total_seconds())
    assert ask(api, study).status_code == 200
    assert len(reports(api)) == 1


def test_a_study_that_moves_on_gets_the_report_of_its_new_state(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fill(api, cases=2)
    held_back = making.Maker.ensure

    def late(maker: making.Maker, wanted: Version, *, again: bool = False) -> None:
        # Between the look at the version and the work: the study moves.
        monkeypatch.setattr(making.Maker, "ensure", held_back)
        with api.database.write() as session:
            bump(session, study)
        held_back(maker, wanted, again=again)

    before = version(api, study)
    monkeypatch.setattr(making.Maker, "ensure", late)
    answer = ask(api, study)
    after = version(api, study)
    assert before != after
    assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{after.name}"')
    assert f"report at revision {after.revision}" in answer.text
    assert [row.version for row in reports(api)] == [after.name]


def test_a_database_that_goes_away_ends_the_work_and_the_lease_runs_out(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = start_study(sqlite_api, cases=1).study_id
    gone = threading.Event()

    def fails(*_: Any, **__: Any) -> str:
        gone.set()
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(making, "build", fails)
    assert ask(sqlite_api, study, "respond-async").status_code == 202
    assert gone.wait(PATIENCE_S)
    assert progress(sqlite_api, study)["state"] == "making"
    monkeypatch.setattr(making, "build", build.build)
    sqlite_api.clock.advance(ledger.LEASE.total_seconds() + 1)
    assert ask(sqlite_api, study).status_code == 200


def test_a_report_waits_for_its_turn_and_keeps_its_lease(
    sqlite_api: Api, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(making, "MOST_AT_ONCE", 1)
    maker = making.Maker(sqlite_api.app)
    monkeypatch.setitem(sqlite_api.app.extensions, "halfscan_report_maker", maker)
    first, second = (fill(sqlite_api, name=name, cases=1) for name in ("first", "second"))
    assert ask(sqlite_api, first, "respond-async").status_code == 202
    assert held.begun.wait(PATIENCE_S)
    assert ask(sqlite_api, second, "respond-async").status_code == 202
    until(lambda: progress(sqlite_api, second)["part"] == "waiting for other reports")
    held.let_go()
    assert ask(sqlite_api, second).status_code == 200
    assert held.calls == 2


def test_the_newest_reports_are_kept(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fill(sqlite_api, cases=1)
    monkeypatch.setattr(making, "build", lambda *_, **__: "<p>report</p>")
    for _ in range(ledger.KEPT + 2):
        sqlite_api.clock.advance(1)
        with sqlite_api.database.write() as session:
            bump(session, study)
        assert ask(sqlite_api, study).status_code == 200
    assert [row.revision for row in reports(sqlite_api)] == [4, 5, 6]


def test_reports_are_no_evidence_of_a_study(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    play = start_study(api, cases=1)
    monkeypatch.setattr(making, "build", lambda *_, **__: "<p>report</p>")
    assert ask(api, play.study_id).status_code == 200
    with api.database.write() as session:
        session.execute(update(StudyReport).values(parts=999))
    assert play.run("GET", "/audit/verify")["holds"]


# --- the command --------------------------------------------------------------------------------


def test_the_command_tells_its_progress_and_takes_what_a_server_made(
    sqlite_api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fill(sqlite_api, cases=1)
    url = sqlite_api.database.engine.url.render_as_string(hide_password=False)
    out = tmp_path / "report.html"
    arguments = [str(study), "--out", str(out), "--database-url", url]
    result = CliRunner().invoke(cli.command, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    total = int(lines[0].split(" ")[2].rstrip(":"))
    told = [line for line in lines if f" of {total}: " in line]
    assert [int(line.split(" ")[0]) for line in told] == list(range(1, total + 1))
    assert lines[0] == f"1 of {total}: table protocol"
    assert lines[total - 1] == f"{total} of {total}: text"
    assert out.read_text(encoding="utf-8") == ask(sqlite_api, study).text

    def never(*_: Any, **__: Any) -> str:
        raise AssertionError("it is there already")

    monkeypatch.setattr(cli, "build", never)
    written = out.read_bytes()
    out.unlink()
    result = CliRunner().invoke(cli.command, arguments)
    assert (result.exit_code, out.read_bytes()) == (0, written)
    assert routes.RETRY_AFTER_S == 2
