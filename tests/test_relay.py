"""The relay: nothing that the archive received is ever forgotten."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from halfscan_plugin import relay as relay_module
from halfscan_plugin.departures import LONGEST_WAIT_S, QUIET_S, Departures
from halfscan_plugin.plugin import register
from halfscan_plugin.relay import (
    AnnouncementRefused,
    ApiClient,
    ApiUnavailable,
    Relay,
    RelaySettings,
    SettingsError,
    source_digest,
)
from tiny_server import Server, serve

SETTINGS = RelaySettings(api_url="http://127.0.0.1:8780", token="t")
PROPERTY = SETTINGS.cursor_property


class OrthancError(Exception):
    """As the Python plugin raises it: a code and its text."""


@dataclass
class MemoryArchive:
    """The part of Orthanc that the relay sees: a change log, series and global properties."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    series: dict[str, list[str]] = field(default_factory=dict)
    unstable: set[str] = field(default_factory=set)
    properties: dict[int, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    keeps_md5: bool = True
    last: int = 0

    # What happens to the archive.

    def log(self, kind: str, resource: str) -> int:
        self.last += 1
        self.changes.append({"Seq": self.last, "ChangeType": kind, "ID": resource})
        return self.last

    def receive(self, name: str, instances: int = 2, *, stable: bool = True) -> None:
        """Receive a series; `stable` also writes the row that tells."""
        self.series.setdefault(name, [])
        for _ in range(instances):
            uid = f"{name}.{len(self.series[name]) + 1}"
            self.series[name].append(uid)
            self.log("NewInstance", uid)
            if len(self.series[name]) == 1:
                self.log("NewSeries", name)
                self.log("NewStudy", "study")
        self.unstable.add(name)
        if stable:
            self.settle(name)

    def settle(self, name: str) -> None:
        self.unstable.discard(name)
        self.log("StableSeries", name)

    def delete(self, name: str) -> None:
        del self.series[name]
        self.unstable.discard(name)
        self.log("Deleted", name)

    @property
    def cursor(self) -> int:
        return int(self.properties[PROPERTY])

    # What the SDK offers.

    def RestApiGet(self, uri: str) -> bytes:  # noqa: N802  (Orthanc's name)
        self.asked.append(uri)
        parts = urlsplit(uri)
        if parts.path in self.broken:
            raise self.broken[parts.path]
        if parts.path == "/changes":
            return json.dumps(self._page(parts.query)).encode()
        _, kind, resource, *rest = parts.path.split("/")
        if kind == "instances" and rest:
            return self._file(resource, rest)
        return json.dumps(self._resource(kind, resource, rest)).encode()

    def _file(self, instance: str, rest: list[str]) -> bytes:
        content = self.contents.get(instance, instance.encode())
        if rest == ["file"]:
            return content
        assert rest == ["attachments", "dicom", "md5"]
        if not self.keeps_md5:
            raise OrthancError(17, "Unknown resource")
        return hashlib.md5(content, usedforsecurity=False).hexdigest().encode()

    def GetGlobalProperty(self, number: int, default: str) -> str:  # noqa: N802  (as above)
        return self.properties.get(number, default)

    def SetGlobalProperty(self, number: int, value: str) -> None:  # noqa: N802  (as above)
        self.properties[number] = value

    def LogInfo(self, message: str) -> None:  # noqa: N802  (as above)
        self.logs.append(message)

    LogWarning = LogError = LogInfo

    def _page(self, query: str) -> dict[str, Any]:
        if query == "last":
            return {"Changes": self.changes[-1:], "Done": True, "Last": self.last}
        asked = parse_qs(query)
        since, limit = int(asked["since"][0]), int(asked["limit"][0])
        rows = [row for row in self.changes if row["Seq"] > since]
        page = rows[:limit]
        last = page[-1]["Seq"] if page else since
        return {"Changes": page, "Done": len(rows) <= limit, "Last": last}

    def _resource(self, kind: str, resource: str, rest: list[str]) -> Any:
        if kind == "instances":
            for name, uids in self.series.items():
                if resource in uids:
                    return {"ID": resource, "ParentSeries": name}
        elif kind == "series" and resource in self.series:
            if rest:
                uids = self.series[resource]
                return [{"ID": u, "MainDicomTags": {"SOPInstanceUID": u}} for u in uids]
            return {
                "Instances": self.series[resource],
                "IsStable": resource not in self.unstable,
                "ParentStudy": "study",
                "MainDicomTags": {"SeriesInstanceUID": f"uid-{resource}"},
            }
        elif kind == "studies" and resource == "study":
            return {"MainDicomTags": {"StudyInstanceUID": "uid-study"}}
        raise OrthancError(17, "Unknown resource")


def digest_of(*names: str) -> str:
    """Name instances whose files hold their own names."""
    return source_digest(
        (name, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()) for name in names
    )


@dataclass
class MemoryApi:
    """Takes announcements, or does not."""

    taken: list[dict[str, Any]] = field(default_factory=list)
    departed: list[list[str]] = field(default_factory=list)
    retried: list[int] = field(default_factory=list)
    should_stand: list[dict[str, Any]] = field(default_factory=list)
    looked_at: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    away: bool = False
    refuses: set[str] = field(default_factory=set)

    def check(self) -> None:
        self._answer()

    def depart(self, series_ids: Sequence[str]) -> None:
        self._answer()
        self.departed.append(list(series_ids))
        for row in self.rows.values():
            if row["derived_orthanc_series_id"] in series_ids:
                row["status"] = "skipped"

    def standing(self, after: int) -> tuple[list[dict[str, Any]], int | None]:
        self._answer()
        page = self.should_stand[after : after + 2]
        return page, after + 2 if len(page) == 2 else None

    def sources(self, after: int, *, gone: bool) -> tuple[list[dict[str, Any]], int | None]:
        self._answer()
        listed = self.looked_at if gone else [one for one in self.looked_at if one["n_instances"]]
        page = listed[after : after + 2]
        return page, after + 2 if len(page) == 2 else None

    def retry(self, reconstruction_id: int) -> None:
        self._answer()
        self.retried.append(reconstruction_id)

    def _answer(self) -> None:
        if self.away:
            raise ApiUnavailable("the API cannot be reached: away")

    def announce(self, series: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            raise ApiUnavailable("the API cannot be reached: away")
        if series["orthanc_series_id"] in self.refuses:
            raise AnnouncementRefused("the API answered 422: no")
        self.taken.append(series)
        return self.rows.get(series["orthanc_series_id"], {"status": "pending"})

    @property
    def names(self) -> list[str]:
        return [series["orthanc_series_id"] for series in self.taken]


@pytest.fixture
def archive() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


def make(archive: MemoryArchive, api: MemoryApi, **settings: Any) -> Relay:
    merged = RelaySettings(**{"api_url": SETTINGS.api_url, "token": "t", **settings})
    return Relay(archive, merged, api)


@pytest.fixture
def relay(archive: MemoryArchive, api: MemoryApi) -> Relay:
    """Follow an archive that was empty at the first start."""
    relay = make(archive, api)
    relay.step()
    return relay


def test_a_first_start_leaves_what_was_there_already(
    archive: MemoryArchive, api: MemoryApi
) -> None:
    archive.receive("old")
    relay = make(archive, api)
    relay.step()
    assert api.taken == []
    archive.receive("new")
    relay.step()
    assert set(api.names) == {"new"}


def test_a_first_start_from_the_beginning_takes_everything(
    archive: MemoryArchive, api: MemoryApi
) -> None:
    archive.receive("old")
    archive.receive("older")
    make(archive, api, start_from="beginning").step()
    assert set(api.names) == {"old", "older"}


@pytest.mark.parametrize(("start_from", "expected"), [("now", 5), ("beginning", 0)])
def test_the_first_cursor_is_saved_at_once(
    archive: MemoryArchive, api: MemoryApi, start_from: str, expected: int
) -> None:
    """Saved before anything else is asked: what arrives now must not be taken for old."""
    archive.receive("old")
    assert archive.last == 5
    archive.broken["/changes/none"] = OrthancError(0, "")
    relay = make(archive, api, start_from=start_from)
    seen: list[int] = []
    get = archive.RestApiGet

    def watching(uri: str) -> bytes:
        if "since=" in uri:
            seen.append(archive.cursor)
        return get(uri)

    archive.RestApiGet = watching  # type: ignore[method-assign]  # watches the real one
    relay.step()
    assert seen[0] == expected


def test_what_is_announced(archive: MemoryArchive, api: MemoryApi, relay: Relay) -> None:
    archive.receive("a", instances=3)
    relay.step()
    digest = digest_of("a.1", "a.2", "a.3")
    assert api.taken == [
        {
            "orthanc_series_id": "a",
            "orthanc_study_id": "study",
            "series_instance_uid": "uid-a",
            "study_instance_uid": "uid-study",
            "source_digest": digest,
            "n_instances": 3,
        }
    ]
    assert archive.cursor == archive.last


def test_an_unstable_series_holds_the_cursor_and_nobody_else(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.receive("before")
    first = archive.last + 1
    archive.receive("slow", stable=False)
    archive.receive("quick")
    relay.step()
    assert api.names == ["before", "quick"]
    assert archive.cursor == first - 1
    archive.settle("slow")
    relay.step()
    assert api.names == ["before", "quick", "slow"]
    assert archive.cursor == archive.last


def test_while_the_api_is_away_nothing_is_lost(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    api.away = True
    start = archive.cursor
    for name in ("a", "b", "c"):
        archive.receive(name)
        with pytest.raises(ApiUnavailable):
            relay.step()
        assert archive.cursor == start
    assert relay.status()["waiting_series"] == 3
    api.away = False
    relay.step()
    assert api.names == ["a", "b", "c"]
    assert archive.cursor == archive.last


def test_a_new_process_announces_what_was_not_acknowledged(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.receive("a")
    relay.step()
    api.away = True
    archive.receive("b")
    with pytest.raises(ApiUnavailable):
        relay.step()
    api.away = False
    make(archive, api).step()
    assert api.names == ["a", "b"]


def test_the_series_behind_one_that_waits_are_announced_again(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    """The cursor is one number: after a restart some are announced twice, which does no harm."""
    archive.receive("slow", stable=False)
    archive.receive("quick")
    relay.step()
    archive.settle("slow")
    make(archive, api).step()
    assert api.names == ["quick", "slow", "quick"]


def test_a_series_that_never_became_stable_in_the_log_is_announced(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    """Orthanc was killed: no StableSeries row ever, but the series says that it is stable."""
    archive.receive("a", stable=False)
    archive.unstable.clear()
    relay.step()
    assert api.names == ["a"]


def test_a_row_of_an_instance_alone_is_enough(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.series["a"] = ["a.1"]
    archive.log("NewInstance", "a.1")
    relay.step()
    assert api.names == ["a"]


def test_more_instances_are_announced_as_another_set(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.receive("a", 2)
    relay.step()
    archive.receive("a", 1)
    relay.step()
    assert [series["n_instances"] for series in api.taken] == [2, 3]
    assert len({series["source_digest"] for series in api.taken}) == 2


def test_a_refused_series_is_left_aside(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    api.refuses.add("bad")
    archive.receive("bad")
    archive.receive("good")
    relay.step()
    assert api.names == ["good"]
    assert archive.cursor == archive.last
    status = relay.status()
    assert (status["announced_series"], status["refused_series"]) == (1, 1)
    assert any("bad is left aside" in line and "422" in line for line in archive.logs)


@pytest.mark.parametrize("stable", [True, False])
def test_a_deleted_series_is_forgotten(
    archive: MemoryArchive, api: MemoryApi, relay: Relay, *, stable: bool
) -> None:
    archive.receive("gone", stable=stable)
    archive.delete("gone")
    archive.receive("kept")
    relay.step()
    assert api.names == ["kept"]
    assert archive.cursor == archive.last


def test_a_series_that_is_deleted_while_it_waits_is_forgotten(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.receive("gone", stable=False)
    relay.step()
    archive.delete("gone")
    relay.step()
    assert api.taken == []
    assert archive.cursor == archive.last


@pytest.mark.parametrize("path", ["/series/gone/instances", "/studies/study"])
def test_a_series_that_is_deleted_between_two_questions_is_forgotten(
    archive: MemoryArchive, api: MemoryApi, relay: Relay, path: str
) -> None:
    archive.receive("gone")
    archive.broken[path] = OrthancError(17, "Unknown resource")
    relay.step()
    assert api.taken == []


def test_a_series_that_orthanc_cannot_show_does_not_block_the_others(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    start = archive.cursor
    archive.receive("broken")
    archive.receive("good")
    archive.broken["/series/broken"] = OrthancError(11, "database")
    with pytest.raises(OrthancError):
        relay.step()
    assert set(api.names) == {"good"}
    assert archive.cursor == start
    archive.broken.clear()
    relay.step()
    assert "broken" in api.names
    assert archive.cursor == archive.last


def test_long_logs_are_read_page_by_page(
    archive: MemoryArchive, api: MemoryApi, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "PAGE_ROWS", 4)
    for number in range(10):
        archive.receive(f"s{number}")
    relay.step()
    assert set(api.names) == {f"s{number}" for number in range(10)}
    assert sum("since=" in uri for uri in archive.asked) > 10


def test_a_page_that_is_empty_and_not_done_is_the_end(
    archive: MemoryArchive, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"Changes": [], "Done": False, "Last": 3}
    monkeypatch.setattr(archive, "_page", lambda _query: page)
    relay.step()


def test_while_very_many_wait_no_more_are_read(
    archive: MemoryArchive, api: MemoryApi, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_WAITING", 3)
    monkeypatch.setattr(relay_module, "PAGE_ROWS", 4)
    api.away = True
    for number in range(10):
        archive.receive(f"s{number}")
    with pytest.raises(ApiUnavailable):
        relay.step()
    assert relay.status()["waiting_series"] < 6
    api.away = False
    for _ in range(10):
        relay.step()
    assert set(api.names) == {f"s{number}" for number in range(10)}


def test_a_property_of_somebody_else_stops_the_relay(
    archive: MemoryArchive, api: MemoryApi
) -> None:
    archive.properties[PROPERTY] = "not ours"
    with pytest.raises(ValueError, match="not a cursor"):
        make(archive, api).step()
    assert archive.properties[PROPERTY] == "not ours"


def test_the_status_before_the_start(archive: MemoryArchive, api: MemoryApi) -> None:
    status = make(archive, api).status()
    assert status["cursor"] is None
    assert status["waiting_series"] == 0


# --- the thread -------------------------------------------------------------------------------


@pytest.fixture
def running(archive: MemoryArchive, api: MemoryApi) -> Iterator[Callable[..., Relay]]:
    started: list[Relay] = []

    def start(**settings: Any) -> Relay:
        relay = make(archive, api, **{"poll_interval_s": 0.02, **settings})
        relay.start()
        started.append(relay)
        return relay

    yield start
    for relay in started:
        relay.stop()


def wait_until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline, "nothing happened within 10 s"
        time.sleep(0.005)


def test_the_thread_follows_by_itself(
    archive: MemoryArchive, api: MemoryApi, running: Callable[..., Relay]
) -> None:
    running()
    wait_until(lambda: PROPERTY in archive.properties)
    archive.receive("a")
    wait_until(lambda: "a" in api.names)


def test_a_callback_wakes_the_thread(
    archive: MemoryArchive, api: MemoryApi, running: Callable[..., Relay]
) -> None:
    relay = running(poll_interval_s=3600)
    wait_until(lambda: PROPERTY in archive.properties)
    archive.receive("a")
    relay.wake()
    wait_until(lambda: "a" in api.names)


def test_the_thread_outlives_an_api_and_an_archive_that_are_away(
    archive: MemoryArchive, api: MemoryApi, running: Callable[..., Relay]
) -> None:
    api.away = True
    archive.properties[PROPERTY] = "0"
    archive.receive("a")
    relay = running()
    wait_until(lambda: relay.status()["last_error"])
    archive.broken["/changes"] = OrthancError(11, "database")
    wait_until(lambda: "cannot be followed" in str(relay.status()["last_error"]))
    archive.broken.clear()
    api.away = False
    wait_until(lambda: "a" in api.names and relay.status()["last_error"] is None)
    assert sum("cannot be reached" in line for line in archive.logs) <= 2, "said once, not always"
    assert any("acknowledges again" in line for line in archive.logs)


def test_the_thread_stops_at_once(archive: MemoryArchive, running: Callable[..., Relay]) -> None:
    relay = running(poll_interval_s=3600)
    wait_until(lambda: PROPERTY in archive.properties)
    begun = time.monotonic()
    relay.stop()
    assert time.monotonic() - begun < 2
    assert not any(thread.name == "halfscan-relay" for thread in threading.enumerate())


def test_the_thread_stops_in_the_middle_of_a_long_log(
    archive: MemoryArchive, running: Callable[..., Relay]
) -> None:
    archive.properties[PROPERTY] = "0"
    archive.receive("a", instances=500)
    get = archive.RestApiGet

    def slow(uri: str) -> bytes:
        time.sleep(0.02)
        return get(uri)

    archive.RestApiGet = slow  # type: ignore[method-assign]  # the real one, slowed down
    relay = running()
    wait_until(lambda: len(archive.asked) > 5)
    begun = time.monotonic()
    relay.stop()
    assert time.monotonic() - begun < 2
    assert archive.cursor < archive.last


def test_stopping_what_never_started(archive: MemoryArchive, api: MemoryApi) -> None:
    make(archive, api).stop()


# --- settings ---------------------------------------------------------------------------------

URL = "http://127.0.0.1:8780"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, 'needs a section "Halfscan"'),
        ([], 'needs a section "Halfscan"'),
        ({"ApiUrl": URL, "Token": "t", "Tokn": 1}, "Halfscan.Tokn is not a setting; known: ApiUrl"),
        ({"Token": "t"}, "Halfscan.ApiUrl is missing"),
        ({"ApiUrl": "127.0.0.1:8780", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": "ftp://host", "Token": "t"}, "got 'ftp://host'"),
        ({"ApiUrl": "http://", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": "http://host:port", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": "http://host:99999", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": "http://host/?a=1", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": "http://ho st/", "Token": "t"}, "ApiUrl must be http"),
        ({"ApiUrl": 8780, "Token": "t"}, "got 8780"),
        ({"ApiUrl": URL}, "exactly one of TokenFile and Token"),
        ({"ApiUrl": URL, "Token": "t", "TokenFile": "f"}, "exactly one of TokenFile and Token"),
        ({"ApiUrl": URL, "Token": ""}, "Halfscan.Token must be a non-empty text"),
        ({"ApiUrl": URL, "Token": 7}, "Halfscan.Token must be a non-empty text"),
        ({"ApiUrl": URL, "Token": "a b"}, "one word"),
        ({"ApiUrl": URL, "TokenFile": ["f"]}, "Halfscan.TokenFile must be a non-empty text"),
        ({"ApiUrl": URL, "Token": "t", "StartFrom": "here"}, "got 'here'"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": 0}, "PollIntervalS must be above 0"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": -1}, "got -1"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": True}, "got True"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": "5"}, "got '5'"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": float("nan")}, "got nan"),
        ({"ApiUrl": URL, "Token": "t", "PollIntervalS": 1e9}, "at most 3600"),
        ({"ApiUrl": URL, "Token": "t", "CursorProperty": 1023}, "1024 or above, got 1023"),
        ({"ApiUrl": URL, "Token": "t", "CursorProperty": "2000"}, "got '2000'"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_named(section: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        RelaySettings.from_section(section)
    assert message in str(caught.value)


def test_good_settings() -> None:
    section = {
        "ApiUrl": "https://api.example:8780/halfscan/",
        "TokenFile": "/run/token",
        "StartFrom": "beginning",
        "PollIntervalS": 2,
        "CursorProperty": 1024,
    }
    assert RelaySettings.from_section(section) == RelaySettings(
        "https://api.example:8780/halfscan/", "/run/token", None, "beginning", 2, 1024
    )


def test_the_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = RelaySettings(api_url=URL, token_file=str(file))
    with pytest.raises(ApiUnavailable, match="cannot be read"):
        settings.read_token()
    file.write_text("\n")
    with pytest.raises(ApiUnavailable, match="is empty"):
        settings.read_token()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ApiUnavailable, match="cannot be read"):
        settings.read_token()
    file.write_text("secret-a\nsecret-b\n")
    with pytest.raises(ApiUnavailable, match="more than one word") as caught:
        settings.read_token()
    assert "secret" not in str(caught.value)
    file.write_text("first\n")
    assert settings.read_token() == "first"
    file.write_text("second\n")
    assert settings.read_token() == "second"


# --- the API over HTTP ------------------------------------------------------------------------

SERIES = {"orthanc_series_id": "a", "source_digest": "ab" * 32, "n_instances": 2}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(201, json.dumps(SERIES).encode()) as state:
        yield state


def client(server: Server, **settings: Any) -> ApiClient:
    options = {"api_url": server.url, **(settings or {"token": "secret"})}
    return ApiClient(RelaySettings(**options), timeout_s=5)


@pytest.mark.parametrize("status", [200, 201])
def test_an_acknowledgement(server: Server, status: int) -> None:
    server.status = status
    client(server).announce(SERIES)
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("POST", "/api/v1/reconstructions")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == SERIES


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_refusal_tells_the_reason(server: Server, status: int) -> None:
    server.status, server.body = status, b'{"detail": "n_instances must be above 0"}'
    with pytest.raises(AnnouncementRefused, match=f"{status}.*n_instances must be above 0"):
        client(server).announce(SERIES)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503])
def test_trouble_means_later(server: Server, status: int) -> None:
    server.status, server.body = status, b"a proxy's words"
    with pytest.raises(ApiUnavailable, match=f"answered {status}: a proxy's words"):
        client(server).announce(SERIES)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_acknowledgement(server: Server, status: int) -> None:
    """Followed, the POST would arrive as a GET, and its answer 200 would lose the series."""
    server.status = status
    server.headers = {"Location": f"{server.url}/api/v1/elsewhere"}
    with pytest.raises(ApiUnavailable, match=f"answered {status}"):
        client(server).announce(SERIES)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"<html>welcome</html>", b"", b"[]", b"{}", b'{"source_digest": "another"}', b"\xff"],
)
def test_an_answer_of_something_else_is_no_acknowledgement(server: Server, body: bytes) -> None:
    server.status, server.body = 200, body
    with pytest.raises(ApiUnavailable, match="is not the API"):
        client(server).announce(SERIES)


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-nobody\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"\0" * 50]
)
def test_something_that_does_not_speak_http(server: Server, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        client(server).announce(SERIES)


def test_an_answer_cut_short_is_no_acknowledgement(server: Server) -> None:
    server.raw = b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"
    with pytest.raises(ApiUnavailable):
        client(server).announce(SERIES)


def test_a_hang_up_means_later(server: Server) -> None:
    server.hang_up = True
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        client(server).announce(SERIES)


def test_nobody_listens() -> None:
    with serve() as gone:
        pass
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        client(gone).announce(SERIES)


def test_a_token_file_that_appears_later(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    caller = client(server, token_file=str(file))
    with pytest.raises(ApiUnavailable, match="token file"):
        caller.announce(SERIES)
    assert server.requests == []
    file.write_text("late\n")
    caller.announce(SERIES)
    assert server.requests[0][2]["Authorization"] == "Bearer late"


def test_the_whole_way_over_http(archive: MemoryArchive, tmp_path: Path) -> None:
    """API away, then up with a wrong token, then right: the series arrives."""
    file = tmp_path / "token"
    with serve() as state:
        settings = RelaySettings(api_url=state.url, token_file=str(file), poll_interval_s=0.02)
        relay = Relay(archive, settings, ApiClient(settings))
        relay.step()
        archive.receive("a", 2)
        with pytest.raises(ApiUnavailable, match="token file"):
            relay.step()
        file.write_text("token")
        state.status = 401
        with pytest.raises(ApiUnavailable, match="401"):
            relay.step()
        digest = digest_of("a.1", "a.2")
        state.status, state.body = 201, json.dumps({"source_digest": digest}).encode()
        relay.step()
        assert archive.cursor == archive.last


# --- the plugin's registration ----------------------------------------------------------------


class MemoryModule(MemoryArchive):
    """The module ``orthanc`` with its callbacks."""

    ChangeType = SimpleNamespace(ORTHANC_STARTED=1, ORTHANC_STOPPED=2, STABLE_SERIES=3, DELETED=4)
    ResourceType = SimpleNamespace(PATIENT=0, STUDY=1, SERIES=2, INSTANCE=3)

    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__()
        self.configuration = configuration
        self.rest: dict[str, Callable[..., None]] = {}
        self.on_change: Callable[..., None] | None = None

    def GetConfiguration(self) -> str:  # noqa: N802  (Orthanc's name)
        return json.dumps(self.configuration)

    def RegisterRestCallback(self, uri: str, callback: Callable[..., None]) -> None:  # noqa: N802
        self.rest[uri] = callback

    def RegisterOnChangeCallback(self, callback: Callable[..., None]) -> None:  # noqa: N802
        self.on_change = callback


class Output:
    """The answer of a REST callback."""

    def __init__(self) -> None:
        self.answer: tuple[str, str] | None = None
        self.allowed: str | None = None

    def AnswerBuffer(self, body: str, mime: str) -> None:  # noqa: N802  (Orthanc's name)
        self.answer = (body, mime)

    def SendMethodNotAllowed(self, allowed: str) -> None:  # noqa: N802  (as above)
        self.allowed = allowed


def status_of(module: MemoryModule, method: str = "GET") -> Output:
    output = Output()
    module.rest["/halfscan/status"](output, "/halfscan/status", method=method)
    return output


def test_a_wrong_setting_leaves_the_plugin_off_and_says_so() -> None:
    module = MemoryModule({"Halfscan": {"ApiUrl": "ftp://x", "Token": "t"}})
    assert register(module) is None
    assert module.on_change is None
    answer = status_of(module).answer
    assert answer is not None
    state = json.loads(answer[0])
    assert state["enabled"] is False
    assert "ApiUrl" in state["error"]
    assert any("halfscan is off" in line for line in module.logs)


def test_the_plugin_starts_wakes_and_stops_with_orthanc() -> None:
    with serve() as state:
        section = {"ApiUrl": state.url, "Token": "t", "PollIntervalS": 3600}
        module = MemoryModule({"Halfscan": section})
        relay = register(module)
        assert relay is not None
        assert module.on_change is not None
        assert PROPERTY not in module.properties, "nothing happens before Orthanc has started"
        module.on_change(module.ChangeType.ORTHANC_STARTED, 0, "")
        try:
            wait_until(lambda: PROPERTY in module.properties)
            state.body = json.dumps({"source_digest": digest_of("a.1", "a.2")}).encode()
            module.receive("a")
            module.on_change(module.ChangeType.STABLE_SERIES, 2, "a")
            wait_until(lambda: relay.status()["announced_series"] == 1)
            answer = status_of(module).answer
            assert answer is not None
            assert answer[1] == "application/json"
            assert json.loads(answer[0])["cursor"] == module.last
            assert json.loads(answer[0]).get("token") != "t"
        finally:
            module.on_change(module.ChangeType.ORTHANC_STOPPED, 0, "")
    assert not any(thread.name == "halfscan-relay" for thread in threading.enumerate())


def test_the_status_is_for_reading_only() -> None:
    module = MemoryModule({})
    register(module)
    assert status_of(module, "POST").allowed == "GET"


# --- contents and deletions -------------------------------------------------------------------


def test_other_pixels_under_the_same_uids_are_announced_as_another_content(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.receive("a")
    relay.step()
    archive.contents["a.2"] = b"corrected"
    archive.log("NewInstance", "a.2")
    relay.step()
    before, after = ({k: v for k, v in one.items() if k != "source_digest"} for one in api.taken)
    assert before == after
    assert api.taken[0]["source_digest"] == digest_of("a.1", "a.2") != api.taken[1]["source_digest"]


def test_an_archive_that_keeps_no_md5_gives_the_same_digest(
    archive: MemoryArchive, api: MemoryApi, relay: Relay
) -> None:
    archive.keeps_md5 = False
    archive.receive("a")
    relay.step()
    assert api.taken[0]["source_digest"] == digest_of("a.1", "a.2")


@pytest.mark.parametrize("there", [True, False])
def test_a_derived_series_that_went_unnoticed_is_made_again(
    archive: MemoryArchive, api: MemoryApi, relay: Relay, *, there: bool
) -> None:
    api.rows["a"] = {"id": 1, "status": "done", "derived_orthanc_series_id": "derived"}
    if there:
        archive.receive("derived")
    archive.receive("a")
    relay.step()
    assert api.departed == ([] if there else [["derived"]])
    assert api.names.count("a") == (1 if there else 2), "announced again once that is told"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Watch:
    """Departures of an archive that a test deletes from."""

    archive: MemoryArchive
    api: MemoryApi
    clock: Clock
    ends: bool = False
    announced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.departures = Departures(
            self._find, self._announce, self.api, lambda: self.ends, self.clock
        )

    def _find(self, uri: str) -> Any:
        try:
            return json.loads(self.archive.RestApiGet(uri))
        except OrthancError as error:
            if error.args[0] != 17:
                raise
            return None

    def _announce(self, name: str) -> bool:
        self.announced.append(name)
        return True

    def later(self, seconds: float = QUIET_S) -> None:
        self.clock.now += seconds
        self.departures.step()


@pytest.fixture
def watch(archive: MemoryArchive, api: MemoryApi) -> Watch:
    watch = Watch(archive, api, Clock())
    watch.later()
    return watch


def standing(number: int = 1, **changes: Any) -> dict[str, Any]:
    facts = {"id": number, "orthanc_series_id": f"s{number}", "n_instances": [2]}
    derived = {"derived_orthanc_series_id": f"d{number}", "derived_instances": 2}
    return facts | derived | changes


def test_deletions_are_told_once_it_is_quiet(watch: Watch) -> None:
    for name in ("a", "b"):
        watch.departures.note(name)
        watch.departures.step()
    assert watch.api.departed == []
    assert watch.departures.waiting == 2
    watch.later()
    assert watch.api.departed == [["a", "b"]]
    watch.later()
    assert watch.api.departed == [["a", "b"]]
    assert watch.departures.waiting == 0


def test_what_comes_back_at_once_has_not_gone(watch: Watch) -> None:
    watch.departures.note("a")
    watch.archive.receive("a")
    watch.later()
    assert (watch.api.departed, watch.departures.waiting) == ([], 0)


def test_deletions_without_end_are_told_too(watch: Watch) -> None:
    for second in range(int(LONGEST_WAIT_S) + 1):
        watch.departures.note(f"{second}")
        watch.later(1.0)
    assert sum(map(len, watch.api.departed)) >= LONGEST_WAIT_S


def test_deletions_are_told_again_until_the_api_acknowledges(watch: Watch) -> None:
    watch.departures.note("a")
    watch.api.away = True
    with pytest.raises(ApiUnavailable):
        watch.later()
    watch.api.away = False
    watch.departures.step()
    assert watch.api.departed == [["a"]]


@pytest.mark.parametrize(
    ("held", "departed", "announced", "retried"),
    [
        ({"s1": 2, "d1": 2}, [], [], []),
        ({"d1": 2}, [["s1"]], [], []),
        ({"s1": 2}, [], [], [1]),
        ({}, [["s1", "d1"]], [], []),
        ({"s1": 1, "d1": 2}, [], ["s1"], []),
        ({"s1": 2, "d1": 1}, [], [], [1]),
    ],
)
def test_what_should_be_there_is_counted_after_images_were_deleted(
    watch: Watch,
    held: dict[str, int],
    departed: list[list[str]],
    announced: list[str],
    retried: list[int],
) -> None:
    for name, instances in held.items():
        watch.archive.receive(name, instances)
    watch.api.should_stand = watch.api.looked_at = [standing()]
    watch.departures.note(None)
    watch.later()
    assert watch.api.departed == departed
    assert watch.announced == announced
    assert watch.api.retried == retried


def test_all_pages_are_counted_at_the_start_and_only_when_it_is_due(watch: Watch) -> None:
    watch.api.should_stand = [standing(n) for n in range(1, 6)]
    watch.later()
    assert watch.api.departed == [], "nothing was deleted"
    started = Watch(watch.archive, watch.api, Clock())
    started.later()
    assert watch.api.departed == [[f"s{n}", f"d{n}"] for n in range(1, 6)]


def test_a_contents_of_before_may_stand_too(watch: Watch) -> None:
    watch.archive.receive("s1", 5)
    watch.archive.receive("d1", 2)
    watch.api.looked_at = [standing(n_instances=[6, 5])]
    watch.departures.note(None)
    watch.later()
    assert watch.announced == []


def test_a_series_that_was_skipped_is_counted_too(watch: Watch) -> None:
    watch.archive.receive("s1", 5)
    watch.archive.receive("s2", 2)
    watch.api.looked_at = [standing(1, n_instances=[6]), standing(2), standing(3)]
    watch.departures.note(None)
    watch.later()
    assert watch.announced == ["s1"], "what is there as it was, or gone, is nothing new"


def test_orthanc_tells_the_relay_what_it_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str | None] = []
    monkeypatch.setattr(Relay, "note_deletion", lambda _relay, series: told.append(series))
    module = MemoryModule({"Halfscan": {"ApiUrl": SETTINGS.api_url, "Token": "t"}})
    register(module)
    assert module.on_change is not None
    for level in ("INSTANCE", "SERIES", "STUDY", "PATIENT"):
        kind = getattr(module.ResourceType, level)
        module.on_change(module.ChangeType.DELETED, kind, level.lower())
    assert told == [None, "series"]


def test_a_series_that_came_back_is_announced_at_the_start(watch: Watch) -> None:
    """The ledger takes it for gone: the disk was not there when Orthanc started."""
    watch.archive.receive("s1", 2)
    watch.api.looked_at = [standing(1, n_instances=[]), standing(2, n_instances=[])]
    watch.departures.note(None)
    watch.later()
    assert watch.announced == []
    started = Watch(watch.archive, watch.api, Clock())
    started.later()
    assert started.announced == ["s1"]


def test_a_count_ends_with_the_relay(watch: Watch) -> None:
    watch.api.should_stand = [standing(1), standing(2)]
    watch.ends = True
    watch.departures.note(None)
    watch.departures.note("a")
    watch.later()
    assert watch.api.departed == []


def test_one_series_that_orthanc_cannot_read_does_not_stop_a_count(watch: Watch) -> None:
    watch.api.should_stand = [standing(1), standing(2)]
    watch.archive.broken["/series/s1"] = OrthancError(1, "disk")
    watch.departures.note(None)
    with pytest.raises(OrthancError, match="disk"):
        watch.later()
    assert watch.api.departed == [["s2", "d2"]]
    calls = len(watch.archive.asked)
    watch.later(0.0)
    assert len(watch.archive.asked) == calls, "not at once again"
