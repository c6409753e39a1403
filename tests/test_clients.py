"""The worker's two clients, against servers that answer as real ones do, or do not."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt

from dicom_maker import add_siemens_classic, encoded, mr_object, mr_series, save
from halfscan_plugin.archive import (
    Archive,
    ArchiveUnavailable,
    NotOurs,
    SeriesNotFound,
    StoreRefused,
)
from halfscan_plugin.dimse import SendFailed, send
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.volume import UnreadableSeries
from tiny_server import Server, serve

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as state:
        state.headers = dict(JSON)
        yield state


@pytest.fixture
def ledger(server: Server) -> Iterator[Ledger]:
    client = Ledger(server.url, "secret", timeout_s=5)
    yield client
    client.close()


@pytest.fixture
def archive(server: Server) -> Iterator[Archive]:
    client = Archive(server.url, timeout_s=5)
    yield client
    client.close()


# --- the ledger -------------------------------------------------------------------------------

R, Q = "/reconstructions", "/inspections"
CALLS: list[tuple[Callable[[Ledger], Any], str, str, dict[str, Any]]] = [
    (lambda c: c.claim("w", 60), "POST", f"{R}/claim", {"worker": "w", "lease_s": 60}),
    (lambda c: c.renew(7, "k"), "POST", f"{R}/7/lease", {"lease_token": "k"}),
    (
        lambda c: c.renew(7, "k", "2.25.1"),
        "POST",
        f"{R}/7/lease",
        {"lease_token": "k", "derived_series_instance_uid": "2.25.1"},
    ),
    (
        lambda c: c.finish(7, "k", {"status": "failed", "error": "e"}),
        "POST",
        f"{R}/7/outcome",
        {"lease_token": "k", "status": "failed", "error": "e"},
    ),
    (lambda c: c.announce({"a": 1}), "POST", R, {"a": 1}),
    (lambda c: c.retry(7), "POST", f"{R}/7/retry", {}),
    (lambda c: c.row(7), "GET", f"{R}/7", {}),
    (lambda c: c.rows(status="dead", page=2), "GET", f"{R}?status=dead&page=2", {}),
    (
        lambda c: c.rows(exclude_reason_code=["a", "b"]),
        "GET",
        f"{R}?exclude_reason_code=a&exclude_reason_code=b",
        {},
    ),
    (lambda c: c.claim_inspection("w", 9), "POST", f"{Q}/claim", {"worker": "w", "lease_s": 9}),
    (
        lambda c: c.finish_inspection(7, "k", {"status": "done", "result": {}}),
        "POST",
        f"{Q}/7/outcome",
        {"lease_token": "k", "status": "done", "result": {}},
    ),
    (
        lambda c: c.ask(series_instance_uid="1.2"),
        "POST",
        Q,
        {"series_instance_uid": "1.2"},
    ),
    (lambda c: c.inspection(7, 2.5), "GET", f"{Q}/7?wait_s=2.5", {}),
]


@pytest.mark.parametrize(("call", "method", "path", "body"), CALLS)
def test_what_the_ledger_sends(
    server: Server,
    ledger: Ledger,
    call: Callable[[Ledger], Any],
    method: str,
    path: str,
    body: dict[str, Any],
) -> None:
    server.body = b'{"id": 7}'
    assert call(ledger) in ({"id": 7}, None)
    ((sent, place, headers, content),) = server.requests
    assert (sent, place) == (method, f"/api/v1{path}")
    assert json.loads(content or b"{}") == body
    assert headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_wrong_is_told_beforehand(
    server: Server, ledger: Ledger, status: int
) -> None:
    server.status, server.body = status, b'{"detail": "no"}'
    with pytest.raises(LedgerRefused, match="look at the worker's token: HALFSCAN_WORKER_TOKEN"):
        ledger.check()


def test_a_token_that_is_right_passes(server: Server, ledger: Ledger) -> None:
    server.status, server.body = 404, b'{"detail": "there is no reconstruction 0"}'
    ledger.check()
    ((sent, place, _, _),) = server.requests
    assert (sent, place) == ("POST", f"/api/v1{R}/0/lease")


def test_nothing_to_claim(server: Server, ledger: Ledger) -> None:
    server.status, server.body = 204, b""
    assert ledger.claim("w", 60) is None


@pytest.mark.parametrize(
    ("status", "path", "error"),
    [
        (401, "", LedgerRefused),
        (403, "", LedgerRefused),
        (404, "", LedgerRefused),
        (422, "", LedgerRefused),
        (409, "", LedgerRefused),
        (409, "/7/lease", LeaseLost),
        (429, "", LedgerUnavailable),
        (500, "", LedgerUnavailable),
        (503, "", LedgerUnavailable),
        (302, "", LedgerRefused),
        (307, "", LedgerRefused),
    ],
)
def test_what_the_ledger_makes_of_an_answer(
    server: Server, ledger: Ledger, status: int, path: str, error: type[Exception]
) -> None:
    server.status, server.body = status, b'{"detail": "the reason"}'
    server.headers["Location"] = f"{server.url}/elsewhere"
    with pytest.raises(error, match=f"answered {status}: the reason"):
        ledger.renew(7, "k") if path else ledger.announce({})
    assert len(server.requests) == 1, "a redirected POST would arrive as a GET"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b"7", b"null"])
def test_something_else_that_answers_200(server: Server, ledger: Ledger, body: bytes) -> None:
    server.body = body
    with pytest.raises(LedgerUnavailable, match="is not the API"):
        ledger.claim("w", 60)


@pytest.mark.parametrize("body", [b"a gateway's words", b"[1]", b'{"title": "a gateway\'s words"}'])
def test_an_error_without_a_problem_shows_what_came(
    server: Server, ledger: Ledger, body: bytes
) -> None:
    server.status, server.body = 502, body
    with pytest.raises(LedgerUnavailable, match=r"502: (a gateway's words|\[1\])"):
        ledger.claim("w", 60)


@pytest.mark.parametrize("raw", [b"SSH-2.0-nobody\r\n", b"\0" * 40])
def test_what_does_not_speak_http_is_no_api(server: Server, ledger: Ledger, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(LedgerUnavailable, match="cannot be reached"):
        ledger.claim("w", 60)


def test_an_api_that_hangs_up(server: Server, ledger: Ledger) -> None:
    server.hang_up = True
    with pytest.raises(LedgerUnavailable, match="cannot be reached"):
        ledger.claim("w", 60)


def test_a_netrc_file_does_not_replace_the_token(
    server: Server, ledger: Ledger, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(file))
    ledger.announce({})
    assert server.requests[0][2]["Authorization"] == "Bearer secret"


# --- the archive ------------------------------------------------------------------------------


def test_ping_wants_orthanc(server: Server, archive: Archive) -> None:
    server.body = b'{"Version": "1.12.7"}'
    assert archive.ping()["Version"] == "1.12.7"
    for body in (b"{}", b"[]", b"7", b"nonsense"):
        server.body = body
        with pytest.raises(ArchiveUnavailable, match="is not Orthanc"):
            archive.ping()


def test_ping_on_a_page_of_somebody_else(server: Server, archive: Archive) -> None:
    server.headers, server.body = {"Content-Type": "text/html"}, b"<html>"
    with pytest.raises(ArchiveUnavailable, match="is not Orthanc"):
        archive.ping()
    server.headers = {}
    with pytest.raises(ArchiveUnavailable, match="is not Orthanc"):
        archive.ping()
    server.status = 404
    with pytest.raises(ArchiveUnavailable, match="is not Orthanc"):
        archive.ping()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, SeriesNotFound, "the archive has no /series/s"),
        (401, ArchiveUnavailable, "refuses the credentials"),
        (403, ArchiveUnavailable, "refuses the credentials"),
        (500, ArchiveUnavailable, "answered 500"),
        (302, ArchiveUnavailable, "answered 302"),
    ],
)
def test_what_the_archive_makes_of_an_answer(
    server: Server, archive: Archive, status: int, error: type[Exception], message: str
) -> None:
    server.status = status
    with pytest.raises(error, match=message):
        archive.instance_ids("s")


def test_an_archive_that_hangs_up_or_is_not_there(server: Server, archive: Archive) -> None:
    server.hang_up = True
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        archive.instance_ids("s")
    gone = Archive("http://127.0.0.1:1", timeout_s=5)
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        gone.ping()
    gone.close()


def test_an_object_is_read_or_named(server: Server, archive: Archive) -> None:
    dataset = mr_object()
    server.headers, server.body = {"Content-Type": "application/dicom"}, encoded(dataset)
    assert archive.dataset("i").SOPInstanceUID == dataset.SOPInstanceUID
    server.body = b"nonsense"
    with pytest.raises(UnreadableSeries, match="instance i: not a DICOM file") as caught:
        archive.dataset("i")
    assert caught.value.code == "damaged_file"


def test_the_series_of_a_study(server: Server, archive: Archive) -> None:
    tags: list[dict[str, str]] = [
        {"SeriesInstanceUID": "1", "SeriesNumber": "5"},
        {"SeriesInstanceUID": "2", "SeriesNumber": "five"},
        {"SeriesInstanceUID": "3"},
    ]
    series = [
        {"ID": f"s{t['SeriesInstanceUID']}", "Instances": [], "MainDicomTags": t} for t in tags
    ]
    server.answers = {"/studies/st/series": (200, json.dumps(series).encode())}
    numbers = {s.series_instance_uid: s.number for s in archive.series_of_study("st")}
    assert numbers == {"1": 5, "2": None, "3": None}


def stored(server: Server, held: int, status: str = "Success") -> None:
    answer = {"ID": "i", "ParentSeries": "s", "Status": status}
    server.answers = {
        "/instances": (200, json.dumps(answer).encode()),
        "/series/s": (200, json.dumps({"Instances": ["i"] * held}).encode()),
    }


def deletions(server: Server) -> int:
    return sum(method == "DELETE" for method, *_ in server.requests)


def test_a_series_is_stored_whole(server: Server, archive: Archive) -> None:
    stored(server, held=3)
    checks: list[int] = []
    result = archive.store(mr_series(3), lambda: checks.append(1))
    assert (result.orthanc_series_id, result.instances) == ("s", 3)
    assert len(checks) == 3
    assert deletions(server) == 0


@pytest.mark.parametrize("allowed", [0, 1, 3, 4])
def test_who_may_not_store_any_more_touches_nothing(
    server: Server, archive: Archive, allowed: int
) -> None:
    """Neither another object nor one that it stored: another worker may have stored the same."""
    stored(server, held=2)
    checks = iter(range(allowed))

    def check() -> None:
        if next(checks, None) is None:
            raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        archive.store(mr_series(3), check)
    posts = sum(method == "POST" for method, *_ in server.requests)
    assert (posts, deletions(server)) == (min(allowed, 3), max(0, allowed - 3))


def test_what_is_incomplete_is_removed_again(server: Server, archive: Archive) -> None:
    stored(server, held=2)
    with pytest.raises(StoreRefused, match="holds 2 of 3"):
        archive.store(mr_series(3))
    assert deletions(server) == 3


def test_what_was_there_before_is_not_removed(server: Server, archive: Archive) -> None:
    stored(server, held=2, status="AlreadyStored")
    series = mr_series(1)
    md5 = hashlib.md5(encoded(series[0]), usedforsecurity=False).hexdigest().encode()
    server.answers["/instances/i/attachments/dicom/md5"] = (200, md5)
    with pytest.raises(StoreRefused, match="holds 2 of 1"):
        archive.store(series)
    assert deletions(server) == 0


@pytest.mark.parametrize("status", ["FilteredOut", "Failure"])
def test_an_object_that_is_not_taken(server: Server, archive: Archive, status: str) -> None:
    stored(server, held=1, status=status)
    with pytest.raises(StoreRefused, match=status):
        archive.store(mr_series(1))


def test_an_archive_without_space(server: Server, archive: Archive) -> None:
    server.answers = {"/instances": (507, b"{}")}
    with pytest.raises(StoreRefused, match="answered 507"):
        archive.store(mr_series(2))


def test_an_object_that_cannot_be_encoded_leaves_nothing_behind(
    server: Server, archive: Archive
) -> None:
    stored(server, held=2)
    series: list[Dataset] = mr_series(2)
    del series[1].file_meta.TransferSyntaxUID
    with pytest.raises(Exception, match="Transfer Syntax"):
        archive.store(series)
    assert deletions(server) == 1


def test_credentials_are_sent(server: Server) -> None:
    server.body = b'{"Version": "1"}'
    client = Archive(server.url + "/", "user", "password", timeout_s=5)
    client.ping()
    client.close()
    assert server.requests[0][2]["Authorization"].startswith("Basic ")


def test_a_header_comes_without_the_pixels(server: Server, archive: Archive) -> None:
    dataset = mr_object(rows=1200, columns=1000)
    server.headers, server.body = {"Content-Type": "application/dicom"}, encoded(dataset)
    header = archive.header("i")
    assert "PixelData" not in header
    assert header.SOPInstanceUID == dataset.SOPInstanceUID
    assert header == archive.dataset("i")[:0x7FE00000]
    assert server.requests[0][2]["Accept-Encoding"] == "identity", "Orthanc would compress it"


def test_a_header_of_nonsense_is_named(server: Server, archive: Archive) -> None:
    server.headers, server.body = {"Content-Type": "application/dicom"}, b"nonsense" * 100
    with pytest.raises(UnreadableSeries, match="instance i: not a DICOM file"):
        archive.header("i")


def test_a_connection_that_breaks_is_no_damaged_file(server: Server, archive: Archive) -> None:
    content = encoded(mr_object())[:300]
    server.raw = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\nContent-Length: 9000\r\n\r\n"
    ) + content
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        archive.header("i")


def headers_answer(server: Server, objects: dict[str, Dataset]) -> None:
    server.answers = {
        "/series/s": (200, json.dumps({"Instances": list(objects)}).encode()),
        **{f"/instances/{i}/file": (200, encoded(dataset)) for i, dataset in objects.items()},
    }


def test_every_header_of_a_series_is_whole(server: Server, archive: Archive) -> None:
    series = [add_siemens_classic(dataset, "p2") for dataset in mr_series(3)]
    for dataset in series:
        dataset.ImageComments = "x" * 300  # Orthanc tells no text of this length
    headers_answer(server, dict(zip("cba", series, strict=True)))
    headers = archive.headers("s")
    assert headers == [dataset[:0x7FE00000] for dataset in series[::-1]]


def test_an_object_that_is_removed_meanwhile_is_left_out(server: Server, archive: Archive) -> None:
    series = mr_series(2)
    headers_answer(server, dict(zip("ab", series, strict=True)))
    server.answers["/instances/a/file"] = (404, b"{}")
    assert [h.SOPInstanceUID for h in archive.headers("s")] == [series[1].SOPInstanceUID]
    server.answers["/instances/b/file"] = (404, b"{}")
    with pytest.raises(SeriesNotFound, match="no instance of series s"):
        archive.headers("s")


def test_a_series_without_instances_is_not_there(server: Server, archive: Archive) -> None:
    server.body = b'{"Instances": []}'
    with pytest.raises(SeriesNotFound, match="no instance of series s"):
        archive.headers("s")


def test_a_series_as_it_is_now(server: Server, archive: Archive) -> None:
    uids = ["1.2.3", "1.2.20"]
    instances = [
        {"ID": name, "FileUuid": f"file {name}", "MainDicomTags": {"SOPInstanceUID": uid}}
        for name, uid in zip("ba", uids, strict=True)
    ]
    series = {"IsStable": False, "ParentStudy": "t", "MainDicomTags": {"SeriesInstanceUID": "1.2"}}
    server.answers = {
        "/series/s": (200, json.dumps(series).encode()),
        "/studies/t": (200, b'{"ID": "t", "MainDicomTags": {"StudyInstanceUID": "1"}}'),
        "/series/s/instances": (200, json.dumps(instances).encode()),
        "/instances/a/attachments/dicom/md5": (200, b"aa"),
        "/instances/b/attachments/dicom/md5": (200, b"bb"),
    }
    source = archive.source("s")
    assert source.instance_ids == ["a", "b"]
    assert source.is_stable is False
    assert source.announcement() == {
        "orthanc_series_id": "s",
        "orthanc_study_id": "t",
        "series_instance_uid": "1.2",
        "study_instance_uid": "1",
        "source_digest": hashlib.sha256(b"1.2.20 aa\n1.2.3 bb").hexdigest(),
        "n_instances": 2,
    }
    assert archive.holds(source)
    instances[0]["FileUuid"] = "stored anew"
    server.answers["/series/s/instances"] = (200, json.dumps(instances).encode())
    assert not archive.holds(source)
    server.answers["/series/s/instances"] = (404, b"")
    assert not archive.holds(source)


@pytest.mark.parametrize("ours", [True, False])
def test_only_what_halfscan_wrote_is_removed(
    server: Server, archive: Archive, *, ours: bool
) -> None:
    dataset = mr_object()
    if ours:
        equipment = Dataset()
        equipment.Manufacturer = "Halfscan"
        dataset.ContributingEquipmentSequence = [equipment]
    server.headers = dict(JSON)
    server.answers = {
        "/series/s": (200, b'{"Instances": ["i"]}'),
        "/instances/i/file": (200, encoded(dataset)),
    }
    if ours:
        assert archive.remove_derived("s") is True
    else:
        with pytest.raises(NotOurs, match="was not written by Halfscan"):
            archive.remove_derived("s")
    assert deletions(server) == int(ours)


def test_what_is_gone_needs_no_removal(server: Server, archive: Archive) -> None:
    server.status = 404
    assert archive.remove_derived("s") is False
    assert archive.series_of_study("t") == []
    assert deletions(server) == 0


def test_a_series_is_found_by_its_uid(server: Server, archive: Archive) -> None:
    server.answers = {"/tools/find": (200, b'["s"]')}
    assert archive.find_series("1.2.3") == ["s"]
    assert json.loads(server.requests[0][3])["Query"] == {"SeriesInstanceUID": "1.2.3"}


# --- C-STORE, to a real service class provider ------------------------------------------------


@contextmanager
def provider(status: int, *contexts: str) -> Iterator[tuple[int, list[str]]]:
    """Listen on a free loopback port; every object is answered with `status`."""
    received: list[str] = []

    def on_store(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return status

    entity = AE("ARCHIVE")
    for sop_class in contexts:
        entity.add_supported_context(sop_class)
    listening = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        yield listening.socket.getsockname()[1], received
    finally:
        listening.shutdown()


def test_files_are_sent(tmp_path: Path) -> None:
    series = mr_series(3)
    files = save(series, tmp_path)
    steps: list[tuple[int, int]] = []
    with provider(0x0000, MRImageStorage) as (port, received):
        send(files, port, progress=lambda *step: steps.append(step))
    assert received == [dataset.SOPInstanceUID for dataset in series]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_archive_that_refuses_an_object_is_told_with_the_file(tmp_path: Path) -> None:
    files = save(mr_series(2), tmp_path)
    with (
        provider(0xA700, MRImageStorage) as (port, received),
        pytest.raises(SendFailed, match=f"{files[0].name}: C-STORE answered 0xA700"),
    ):
        send(files, port)
    assert len(received) == 1


def test_an_archive_that_does_not_take_the_kind_of_object(tmp_path: Path) -> None:
    files = save(mr_series(2), tmp_path)
    with provider(0x0000, CTImageStorage) as (port, received), pytest.raises(SendFailed):
        send(files, port)
    assert received == []


# pynetdicom drops the socket that could not connect without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_archive_at_the_port(tmp_path: Path) -> None:
    files = save(mr_series(1), tmp_path)
    with pytest.raises(SendFailed, match="no association with the archive"):
        send(files, 1)
