"""The worker: whatever happens to a series becomes one outcome, and the next one goes on.

Ledger and archive are kept in memory here, because the real ones cannot fail on demand; the road
through the real ones is tested in ``test_archive_road``.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset

from dicom_maker import add_siemens_classic, mr_object, mr_series, set_raw
from halfscan_api.reconstructions.schemas import Outcome
from halfscan_models.errors import VolumeError
from halfscan_plugin.archive import (
    Archive,
    ArchiveUnavailable,
    SeriesNotFound,
    StoredSeries,
    StoreRefused,
)
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.volume import UnreadableSeries
from halfscan_plugin.worker import LONGEST_TEXT, Worker

SERIES_ID = "-".join(["0123abcd"] * 5)


class MemoryLedger(Ledger):
    """Holds reconstructions; raises what a test puts into `troubles`, one a call."""

    def __init__(self, jobs: int = 1) -> None:
        super().__init__("http://127.0.0.1:1", "t")
        self.waiting = [
            {"id": n, "attempt": 1, "lease_token": f"k{n}", "orthanc_series_id": SERIES_ID}
            for n in range(1, jobs + 1)
        ]
        self.outcomes: list[dict[str, Any]] = []
        self.renewals = 0
        self.claims = 0
        self.troubles: dict[str, list[Exception]] = {}

    def _trouble(self, call: str) -> None:
        if self.troubles.get(call):
            raise self.troubles[call].pop(0)

    def claim(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        self.claims += 1
        assert (worker, lease_s) == ("w", LEASE_S)
        self._trouble("claim")
        return self.waiting.pop(0) if self.waiting else None

    def renew(self, job_id: int, lease_token: str) -> None:
        self.renewals += 1
        assert lease_token == f"k{job_id}"
        self._trouble("renew")

    def finish(self, job_id: int, lease_token: str, outcome: dict[str, Any]) -> dict[str, Any]:
        # What is sent must be what the API takes, and JSON.
        body = json.loads(json.dumps({"lease_token": lease_token, **outcome}, allow_nan=False))
        Outcome.model_validate(body)
        self._trouble("finish")
        self.outcomes.append(outcome)
        return {"id": job_id, "status": outcome["status"], "reason_code": None}


class MemoryArchive(Archive):
    """Holds one series; raises what a test puts into `troubles`."""

    def __init__(self, series: list[Dataset]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.series = series
        self.stored: list[Dataset] = []
        self.fetched: list[str] = []
        self.troubles: dict[str, BaseException] = {}

    def _trouble(self, call: str) -> None:
        if call in self.troubles:
            raise self.troubles[call]

    def ping(self) -> dict[str, Any]:
        self._trouble("ping")
        return {}

    def instance_ids(self, series_id: str) -> list[str]:
        assert series_id == SERIES_ID
        self._trouble("instance_ids")
        return [str(n) for n in range(len(self.series))]

    def dataset(self, instance_id: str) -> Dataset:
        self.fetched.append(instance_id)
        self._trouble(f"dataset {instance_id}")
        return self.series[int(instance_id)]

    def series_numbers(self, series_id: str) -> dict[str, int]:
        assert series_id == SERIES_ID
        return {"1.2.3": 1005}

    def store(self, datasets: Any, progress: Any = None) -> StoredSeries:
        del progress
        self._trouble("store")
        self.stored = list(datasets)
        return StoredSeries(SERIES_ID, len(datasets))


LEASE_S = 30


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=1)


def fast(slices: int = 3, **attributes: Any) -> list[Dataset]:
    series = mr_series(slices, **{"NumberOfAverages": 1, **attributes})
    return [add_siemens_classic(dataset, "p2") for dataset in series]


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def archive() -> MemoryArchive:
    return MemoryArchive(fast())


MakeWorker = Callable[..., Worker]


@pytest.fixture
def make(ledger: MemoryLedger, archive: MemoryArchive, engine: Engine) -> MakeWorker:
    def worker(**options: Any) -> Worker:
        merged = {"name": "w", "lease_s": LEASE_S, "poll_s": 0.01, **options}
        return Worker(ledger, archive, engine, **merged)

    return worker


def only(ledger: MemoryLedger) -> dict[str, Any]:
    (outcome,) = ledger.outcomes
    return outcome


def test_nothing_waits(ledger: MemoryLedger, make: MakeWorker) -> None:
    ledger.waiting.clear()
    assert make().step() is False
    assert ledger.outcomes == []


def test_an_accelerated_series_is_done(
    ledger: MemoryLedger, archive: MemoryArchive, engine: Engine, make: MakeWorker
) -> None:
    assert make().step() is True
    outcome = only(ledger)
    assert outcome["status"] == "done"
    assert outcome["reason_code"] == "accelerated"
    assert outcome["derived_instances"] == 3
    assert outcome["model_sha256"] == engine.provenance.model_sha256
    assert outcome["acquisition"]["in_plane_factor"] == 2.0
    assert outcome["warnings"] == []
    assert len(outcome["quality"]["slices"]) == 3
    steps = {name: s for name, s in outcome["timings_s"].items() if name != "total"}
    assert set(steps) == {"fetch", "decode", "reconstruct", "derive", "store"}
    assert outcome["timings_s"]["total"] == pytest.approx(sum(steps.values()), abs=1e-3)
    assert {d.SeriesInstanceUID for d in archive.stored} == {outcome["derived_series_instance_uid"]}
    assert {d.SeriesNumber for d in archive.stored} == {1006}, "1005 is taken in the study"


def test_a_header_that_decides_spares_the_fetch(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.series = [add_siemens_classic(d, None) for d in mr_series(50, NumberOfAverages=1)]
    make().step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["reason_code"]) == ("skipped", "not_accelerated")
    assert outcome["acquisition"]["accelerated"] is False
    assert archive.fetched == ["0"]


SKIPPED: list[tuple[str, Callable[[], list[Dataset]]]] = [
    ("single_slice", lambda: fast(1)),
    ("not_mr", lambda: [*fast(2), *fast(1, name="b", Modality="CT")]),
    ("mixed_orientation", lambda: [*fast(2), *fast(1, name="b", orientation="sagittal")]),
    ("mixed_sizes", lambda: [*fast(2), *fast(1, name="b", rows=8)]),
    ("no_pixels", lambda: fast(2, PixelData=None)),
    ("averaged", lambda: fast(2, NumberOfAverages=2)),
    ("bad_geometry", lambda: [set_raw(d, "PixelSpacing", "DS", b"wide") for d in fast(2)]),
    ("not_an_image", lambda: fast(2, SOPClassUID="1.2.3")),
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("code", "series"), SKIPPED)
def test_skips_have_their_reason(
    ledger: MemoryLedger,
    archive: MemoryArchive,
    make: MakeWorker,
    code: str,
    series: Callable[[], list[Dataset]],
) -> None:
    archive.series = series()
    make().step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["reason_code"]) == ("skipped", code)
    assert len(outcome["reason"]) > 5
    assert archive.stored == []


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        ("instance_ids", SeriesNotFound("gone"), "series_not_found"),
        ("dataset 1", SeriesNotFound("gone"), "series_not_found"),
        ("dataset 1", UnreadableSeries("damaged_file", "cut"), "damaged_file"),
    ],
)
def test_what_the_archive_has_no_longer_or_cannot_give_is_skipped(
    ledger: MemoryLedger,
    archive: MemoryArchive,
    make: MakeWorker,
    call: str,
    error: Exception,
    code: str,
) -> None:
    archive.troubles[call] = error
    make().step()
    assert (only(ledger)["status"], only(ledger)["reason_code"]) == ("skipped", code)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        ("store", StoreRefused("no space"), "StoreRefused: no space"),
        ("dataset 1", ArchiveUnavailable("away"), "ArchiveUnavailable: away"),
        ("store", MemoryError(), "MemoryError"),
        ("store", VolumeError("odd"), "VolumeError: odd"),
        ("store", KeyError("Doe^Jane"), "unexpected KeyError at test_worker.py:"),
        ("store", StoreRefused("x\0\x1b" * 5000), "StoreRefused: x??x"),
    ],
)
def test_what_may_work_later_is_failed(
    ledger: MemoryLedger,
    archive: MemoryArchive,
    make: MakeWorker,
    call: str,
    error: Exception,
    text: str,
) -> None:
    archive.troubles[call] = error
    assert make().step() is True
    outcome = only(ledger)
    assert outcome["status"] == "failed"
    assert outcome["error"].startswith(text)
    assert len(outcome["error"]) <= LONGEST_TEXT
    assert "Doe" not in json.dumps(outcome), "an unexpected error may quote a header"


def test_a_reason_fits_what_the_api_takes(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.series = [set_raw(mr_object(), "Modality", "LT", b"C\0T" + b"x" * 9000)]
    make().step()
    reason = only(ledger)["reason"]
    assert len(reason) <= LONGEST_TEXT
    assert reason.isprintable()


@pytest.mark.parametrize("who", ["ping", "claim"])
def test_who_is_away_before_the_claim_uses_up_no_attempt(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, who: str
) -> None:
    if who == "ping":
        archive.troubles["ping"] = ArchiveUnavailable("away")
    else:
        ledger.troubles["claim"] = [LedgerUnavailable("away")]
    with pytest.raises((ArchiveUnavailable, LedgerUnavailable)):
        make().step()
    assert ledger.claims == (0 if who == "ping" else 1)
    assert len(ledger.waiting) == 1


def test_the_lease_is_renewed_while_it_works(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "LEASE_S", 0.06)
    ledger.troubles["renew"] = [LedgerUnavailable("away")]
    working = make(lease_s=0.06)
    wait = archive.store

    def slow(datasets: Any, progress: Any = None) -> StoredSeries:
        deadline = time.monotonic() + 5
        while ledger.renewals < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        return wait(datasets, progress)

    archive.store = slow  # type: ignore[method-assign]  # the same, slowed down
    working.step()
    assert ledger.renewals >= 4
    assert only(ledger)["status"] == "done"
    assert not any(thread.name == "halfscan-lease" for thread in threading.enumerate())


def test_a_lost_lease_reports_nothing(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "LEASE_S", 0.03)
    ledger.troubles["renew"] = [LeaseLost("another worker has it")]
    wait = archive.store

    def slow(datasets: Any, progress: Any = None) -> StoredSeries:
        time.sleep(0.2)
        return wait(datasets, progress)

    archive.store = slow  # type: ignore[method-assign]  # the same, slowed down
    assert make(lease_s=0.03).step() is True
    assert ledger.renewals == 1
    assert ledger.outcomes == []


def test_an_outcome_waits_for_the_api(ledger: MemoryLedger, make: MakeWorker) -> None:
    ledger.troubles["finish"] = [LedgerUnavailable("away"), LedgerUnavailable("away")]
    make().step()
    assert only(ledger)["status"] == "done"


def test_an_outcome_that_is_refused_becomes_a_failure(
    ledger: MemoryLedger, make: MakeWorker
) -> None:
    """The row must not stay leased for an outcome that will never be taken."""
    ledger.troubles["finish"] = [LedgerRefused("answered 422: no")]
    make().step()
    outcome = only(ledger)
    assert outcome["status"] == "failed"
    assert "422" in outcome["error"]


@pytest.mark.parametrize(
    "errors", [[LedgerRefused("no"), LedgerRefused("no")], [LeaseLost("taken")]]
)
def test_an_outcome_that_nobody_takes_is_left(
    ledger: MemoryLedger, make: MakeWorker, errors: list[Exception]
) -> None:
    ledger.troubles["finish"] = errors
    assert make().step() is True
    assert ledger.outcomes == []


def test_it_runs_until_it_is_stopped(
    archive: MemoryArchive, ledger: MemoryLedger, make: MakeWorker
) -> None:
    ledger.waiting *= 2
    ledger.troubles["claim"] = [LedgerUnavailable("away"), LedgerUnavailable("away")]
    archive.troubles["ping"] = ArchiveUnavailable("away")
    worker = make()
    thread = threading.Thread(target=worker.run)
    thread.start()
    time.sleep(0.1)
    del archive.troubles["ping"]
    deadline = time.monotonic() + 20
    while len(ledger.outcomes) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [outcome["status"] for outcome in ledger.outcomes] == ["done", "done"]


def test_a_wrong_token_ends_the_run(ledger: MemoryLedger, make: MakeWorker) -> None:
    ledger.troubles["claim"] = [LedgerRefused("answered 401")]
    with pytest.raises(LedgerRefused):
        make().run()
