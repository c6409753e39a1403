"""The worker: whatever happens to a series becomes one outcome, and the next one goes on.

Ledger and archive are kept in memory here, because the real ones cannot fail on demand; the road
through the real ones is tested in ``test_archive_road``.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from derived_support import unchanged
from dicom_maker import add_siemens_classic, mr_object, mr_series, set_raw
from halfscan_api.inspections.schemas import InspectionOutcome
from halfscan_api.reconstructions.schemas import NewReconstruction, Outcome
from halfscan_models.errors import VolumeError
from halfscan_models.reconstruct import Reconstructor
from halfscan_plugin.archive import (
    Archive,
    ArchivedSeries,
    ArchiveUnavailable,
    NotOurs,
    SeriesNotFound,
    SourceSeries,
    StoredSeries,
    StoreRefused,
)
from halfscan_plugin.errors import GuardFailed
from halfscan_plugin.inspection import inspect_series
from halfscan_plugin.inspector import Inspector
from halfscan_plugin.ledger import LeaseLost, Ledger, LedgerRefused, LedgerUnavailable
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.rules import Rule, Rules
from halfscan_plugin.volume import UnreadableSeries
from halfscan_plugin.worker import LONGEST_TEXT, Worker

SERIES_ID = "-".join(["0123abcd"] * 5)
STUDY_ID = "-".join(["4567abcd"] * 5)


class MemoryLedger(Ledger):
    """Holds reconstructions; raises what a test puts into `troubles`, one a call."""

    def __init__(self, jobs: int = 1) -> None:
        super().__init__("http://127.0.0.1:1", "t")
        self.waiting: list[dict[str, Any]] = [
            {
                "id": n,
                "attempt": 1,
                "lease_token": f"k{n}",
                "orthanc_series_id": SERIES_ID,
                "source_digest": "d",
                "supersedes": [],
            }
            for n in range(1, jobs + 1)
        ]
        self.known: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []
        self.about_to_store: list[str] = []
        self.outcomes: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.renewals = 0
        self.claims = 0
        self.troubles: dict[str, list[Exception]] = {}

    def _trouble(self, call: str) -> None:
        if self.troubles.get(call):
            raise self.troubles[call].pop(0)

    def check(self) -> None:
        self._trouble("check")

    def claim(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        self.claims += 1
        assert (worker, lease_s) == ("w", LEASE_S)
        self._trouble("claim")
        return self.waiting.pop(0) if self.waiting else None

    def renew(
        self, job_id: int, lease_token: str, derived_series_instance_uid: str | None = None
    ) -> None:
        assert lease_token == f"k{job_id}"
        if derived_series_instance_uid is not None:
            self._trouble("announce series")
            self.about_to_store.append(derived_series_instance_uid)
            return
        self.renewals += 1
        self._trouble("renew")

    def rows(self, **filters: str | int | list[str]) -> dict[str, Any]:
        assert filters
        return {"items": self.known}

    def announce(self, series: dict[str, Any]) -> dict[str, Any]:
        self._trouble("announce")
        NewReconstruction.model_validate(series)
        self.announced.append(series)
        return {"id": 77}

    def claim_inspection(self, worker: str, lease_s: float) -> dict[str, Any] | None:
        assert (worker, lease_s) == ("w", 120)
        self._trouble("claim inspection")
        return self.questions.pop(0) if self.questions else None

    def finish_inspection(
        self, inspection_id: int, lease_token: str, outcome: dict[str, Any]
    ) -> dict[str, Any]:
        body = json.loads(json.dumps({"lease_token": lease_token, **outcome}, allow_nan=False))
        InspectionOutcome.model_validate(body)
        self._trouble("finish inspection")
        self.answers.append(outcome)
        return {"id": inspection_id}

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
        self.removed: list[str] = []
        self.digest, self.is_stable = "d", True
        self.found: dict[str, list[str]] = {}
        self.numbers: dict[str, int] = {}
        self.derived: dict[str, list[Dataset]] = {}
        self.instance_names: dict[str, str] = {}
        self.troubles: dict[str, BaseException] = {}

    def _trouble(self, call: str) -> None:
        if call in self.troubles:
            raise self.troubles[call]

    def ping(self) -> dict[str, Any]:
        self._trouble("ping")
        return {}

    def source(self, series_id: str) -> SourceSeries:
        assert series_id == SERIES_ID
        self._trouble("source")
        files = {str(n): f"file {n}" for n in range(len(self.series))}
        return SourceSeries(SERIES_ID, STUDY_ID, "1.2", "1", files, self.digest, self.is_stable)

    def holds(self, source: SourceSeries) -> bool:
        return source.orthanc_series_id == SERIES_ID

    def headers(self, series_id: str) -> list[Dataset]:
        assert series_id == SERIES_ID
        self._trouble("headers")
        return self.series

    def find_series(self, series_instance_uid: str) -> list[str]:
        return self.found.get(series_instance_uid, [])

    def remove_derived(self, series_id: str) -> bool:
        uid = series_id.removeprefix("orthanc ")
        self._trouble(f"remove {uid}")
        self.removed.append(uid)
        return True

    def series_of_study(self, study_id: str) -> list[ArchivedSeries]:
        assert study_id == STUDY_ID
        numbers = {"1.2.3": 1005, "2.25.5": None, **self.numbers}
        beside = [ArchivedSeries(f"orthanc {uid}", uid, n, ()) for uid, n in numbers.items()]
        copies = [
            ArchivedSeries(name, name, None, tuple(self.instance_ids(name)))
            for name in self.derived
            if name.startswith("copy")
        ]
        return [*beside, *copies]

    def instance_ids(self, series_id: str) -> list[str]:
        if series_id not in self.derived:
            raise SeriesNotFound(series_id)
        return [f"{series_id}/{n}" for n in range(len(self.derived[series_id]))]

    def header(self, instance_id: str) -> Dataset:
        series_id, number = self.instance_names.get(instance_id, instance_id).rsplit("/", 1)
        return self.derived[series_id][int(number)]

    def dataset(self, instance_id: str) -> Dataset:
        self.fetched.append(instance_id)
        self._trouble(f"dataset {instance_id}")
        return self.series[int(instance_id)]

    def store(self, datasets: Any, check: Any = None) -> StoredSeries:
        del check
        self._trouble("store")
        self.stored = list(datasets)
        return StoredSeries(SERIES_ID, len(datasets), len(datasets))


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


def other_warnings(outcome: dict[str, Any]) -> list[str]:
    """Leave out that the pixels here are noise alone, which no model was trained on."""
    return [one for one in outcome["warnings"] if not one.startswith("outside what model")]


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
    assert other_warnings(outcome) == []
    assert len(outcome["quality"]["slices"]["rms_change"]) == 3
    assert outcome["rule"] == "default: accelerated"
    assert outcome["replaced"] == []
    assert ledger.about_to_store == [outcome["derived_series_instance_uid"]]
    steps = {name: s for name, s in outcome["timings_s"].items() if name != "total"}
    names = {"detect", "fetch", "decode", "reconstruct", "guard", "derive", "store"}
    assert set(steps) == names
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
    assert archive.fetched == [], "headers decide"
    assert outcome["rule"] == "default: not accelerated"


SKIPPED: list[tuple[str, Callable[[], list[Dataset]]]] = [
    ("single_slice", lambda: fast(1)),
    ("not_mr", lambda: [*fast(2), *fast(1, name="b", Modality="CT")]),
    ("mixed_orientation", lambda: [*fast(2), *fast(1, name="b", orientation="sagittal")]),
    ("mixed_sizes", lambda: [*fast(3)[:2], *fast(3, rows=8)[2:]]),
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
        ("source", SeriesNotFound("gone"), "series_not_found"),
        ("headers", UnreadableSeries("damaged_file", "cut"), "damaged_file"),
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


def test_what_was_read_before_the_pixels_failed_is_kept(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.troubles["dataset 1"] = UnreadableSeries("damaged_file", "cut")
    make().step()
    outcome = only(ledger)
    assert (outcome["reason_code"], outcome["reason"]) == ("damaged_file", "cut")
    assert outcome["rule"] == "default: accelerated"
    assert outcome["acquisition"]["in_plane_factor"] == 2.0


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

    def slow(datasets: Any, check: Any = None) -> StoredSeries:
        deadline = time.monotonic() + 5
        while ledger.renewals < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        return wait(datasets, check)

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

    def slow(datasets: Any, check: Any = None) -> StoredSeries:
        time.sleep(0.2)
        return wait(datasets, check)

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


def test_a_wrong_token_is_not_hidden_by_an_archive_that_is_away(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.troubles["ping"] = ArchiveUnavailable("away")
    ledger.troubles["check"] = [LedgerUnavailable("starts later"), LedgerRefused("answered 401")]
    with pytest.raises(LedgerRefused):
        make().run()
    assert ledger.claims == 0


# --- a derived series takes the place of another -----------------------------------------------


def earlier(uid: str = "2.25.1", *, complete: bool = True) -> dict[str, Any]:
    return {
        "id": 1,
        "derived_series_instance_uid": uid,
        "derived_orthanc_series_id": f"orthanc {uid}" if complete else None,
        "complete": complete,
    }


def test_other_instances_than_announced_are_left_to_another_row(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.digest = "e" * 64
    ledger.waiting[0]["supersedes"] = [earlier(), earlier("2.25.5", complete=False)]
    make().step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["reason_code"]) == ("skipped", "superseded")
    assert "3 instances: reconstruction 77 stands for it" in outcome["reason"]
    (announced,) = ledger.announced
    assert (announced["source_digest"], announced["n_instances"]) == ("e" * 64, 3)
    assert announced["delay_s"] == 0
    assert (archive.fetched, archive.stored, archive.removed) == ([], [], [])
    assert "warnings" not in outcome, "the other row sees to them"


def test_a_series_that_still_arrives_is_looked_at_later(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.digest, archive.is_stable = "e" * 64, False
    make().step()
    assert ledger.announced[0]["delay_s"] == 30
    assert only(ledger)["reason_code"] == "superseded"


def test_an_api_that_is_away_while_instances_are_announced(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.digest = "e" * 64
    ledger.troubles["announce"] = [LedgerUnavailable("away")]
    make().step()
    assert only(ledger)["status"] == "failed", "so that another attempt announces them"


def test_the_old_series_goes_once_the_new_one_is_whole(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.waiting[0]["supersedes"] = [earlier(), earlier("2.25.5", complete=False)]
    make().step()
    outcome = only(ledger)
    assert outcome["status"] == "done"
    assert archive.removed == outcome["replaced"] == ["2.25.1", "2.25.5"]
    assert other_warnings(outcome) == []


def test_the_new_series_has_the_number_of_the_one_that_goes(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.waiting[0]["supersedes"] = [earlier()]
    archive.numbers = {"2.25.1": 1006}
    make().step()
    assert {d.SeriesNumber for d in archive.stored} == {1006}
    assert archive.removed == ["2.25.1"]


def test_the_same_series_is_not_removed(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.waiting *= 2
    worker = make()
    worker.step()
    uid = ledger.outcomes[0]["derived_series_instance_uid"]
    ledger.waiting[0]["supersedes"] = [earlier(uid)]
    worker.step()
    assert ledger.outcomes[1]["derived_series_instance_uid"] == uid
    assert (archive.removed, ledger.outcomes[1]["replaced"]) == ([], [])


def test_what_is_not_ours_stays_and_is_told(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.waiting[0]["supersedes"] = [earlier(), earlier("2.25.5")]
    archive.troubles["remove 2.25.1"] = NotOurs("series 2.25.1 was not written by Halfscan")
    make().step()
    outcome = only(ledger)
    assert outcome["status"] == "done"
    assert outcome["replaced"] == ["2.25.5"]
    assert other_warnings(outcome) == ["not removed: series 2.25.1 was not written by Halfscan"]


def test_an_archive_that_is_away_between_store_and_removal(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.waiting[0]["supersedes"] = [earlier()]
    archive.troubles["remove 2.25.1"] = ArchiveUnavailable("away")
    make().step()
    assert archive.stored
    assert only(ledger)["status"] == "failed", "the next attempt finds its work done, and removes"


def test_a_skip_keeps_what_is_whole_and_clears_the_rest(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.series = fast(1)
    archive.derived["orthanc 2.25.1"] = list(unchanged(archive.series).datasets)
    ledger.waiting[0]["supersedes"] = [earlier(), earlier("2.25.5", complete=False)]
    make().step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["reason_code"]) == ("skipped", "single_slice")
    assert archive.removed == outcome["replaced"] == ["2.25.5"]
    (warning,) = outcome["warnings"]
    assert "2.25.1 of reconstruction 1 stays in the archive" in warning


@pytest.mark.parametrize("orphans", ["remove", "keep"])
@pytest.mark.parametrize("change", ["other pixels", "an image that is gone", "gone itself"])
def test_a_skip_leaves_nothing_that_stands_for_pixels_that_are_not_there(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, change: str, orphans: str
) -> None:
    before = fast(2)
    archive.series = before[:1]
    if change == "other pixels":
        archive.series = fast(1, seed=2)
        assert archive.series[0].PixelData != before[0].PixelData
        before = before[:1]
    if change != "gone itself":
        archive.derived["orthanc 2.25.1"] = list(unchanged(before).datasets)
    ledger.waiting[0]["supersedes"] = [earlier()]
    make(orphans=orphans).step()
    outcome = only(ledger)
    assert outcome["reason_code"] == "single_slice"
    if orphans == "keep":
        assert "stays in the archive" in outcome["warnings"][0]
        assert archive.removed == []
    else:
        assert outcome["replaced"] == ["2.25.1"]
        assert archive.removed == ([] if change == "gone itself" else ["2.25.1"])


@pytest.mark.parametrize("orphans", ["remove", "keep"])
def test_a_derived_series_whose_source_is_gone(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, orphans: str
) -> None:
    archive.troubles["source"] = SeriesNotFound("gone")
    ledger.waiting[0]["orthanc_study_id"] = STUDY_ID
    ledger.waiting[0]["supersedes"] = [earlier(), earlier("2.25.5", complete=False)]
    make(orphans=orphans).step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["reason_code"]) == ("skipped", "series_not_found")
    gone = ["2.25.1", "2.25.5"] if orphans == "remove" else ["2.25.5"]
    assert archive.removed == outcome["replaced"] == gone
    assert len(outcome.get("warnings", [])) == (orphans == "keep")


@pytest.mark.parametrize("held", [[False], [True, False]])
def test_a_source_that_goes_while_it_is_reconstructed_takes_the_derived_series_with_it(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, held: list[bool]
) -> None:
    def gone(_source: SourceSeries) -> bool:
        there = held.pop(0)
        if not there:
            archive.troubles["source"] = SeriesNotFound("gone")
        return there

    archive.holds = gone  # type: ignore[assignment,method-assign]  # when it goes
    before = len(held)
    make().step()
    assert only(ledger)["reason_code"] == "series_not_found"
    assert len(archive.stored) == (3 if before == 2 else 0)
    assert archive.removed == ([SERIES_ID] if before == 2 else [])


def test_a_source_that_changes_while_it_is_reconstructed_is_left_to_another_row(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    def changed(_source: SourceSeries) -> bool:
        archive.digest = "e" * 64
        return False

    archive.holds = changed  # type: ignore[assignment,method-assign]  # when it changes
    make().step()
    assert only(ledger)["reason_code"] == "superseded"
    assert ledger.announced[0]["source_digest"] == "e" * 64
    assert archive.stored == []


def test_an_image_that_goes_while_it_is_read(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    archive.troubles["dataset 1"] = SeriesNotFound("gone")
    make().step()
    assert only(ledger)["status"] == "failed", "looked at again: the series itself is there"


@pytest.mark.parametrize("attempt", [1, 3])
def test_what_may_still_come_is_waited_for(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, attempt: int
) -> None:
    archive.troubles["headers"] = UnreadableSeries("incomplete_concatenation", "part 2 is missing")
    ledger.waiting[0] |= {"attempt": attempt, "max_attempts": 3}
    make().step()
    outcome = only(ledger)
    assert outcome["status"] == ("failed" if attempt < 3 else "skipped")
    assert "part 2 is missing" in (outcome.get("error") or outcome["reason"])


@pytest.mark.parametrize("known", [True, False])
def test_a_copied_derived_series_gives_way_to_the_new_one(
    ledger: MemoryLedger, archive: MemoryArchive, engine: Engine, make: MakeWorker, *, known: bool
) -> None:
    copied = unchanged(archive.series, engine.provenance).datasets
    archive.derived = {
        "copy": list(copied),
        "copy of others": list(unchanged(fast(2, seed=3, name="other")).datasets),
        "copy by another network": list(unchanged(archive.series).datasets),
    }
    if known:  # it is the derived series of another source with the same pixels
        ledger.known = [{"orthanc_study_id": STUDY_ID}]
    make().step()
    assert only(ledger)["status"] == "done"
    assert archive.removed == ([] if known else ["copy"])
    assert len(other_warnings(only(ledger))) == (0 if known else 1)


@pytest.mark.parametrize("same", [True, False])
def test_a_copy_beside_the_derived_series_is_removed(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, *, same: bool
) -> None:
    source = fast(2)
    archive.series = list(unchanged(source).datasets)
    archive.derived[SERIES_ID] = archive.series
    archive.instance_names = {str(n): f"{SERIES_ID}/{n}" for n in range(2)}
    other = source if same else fast(2, seed=3, name="other")
    archive.derived["orthanc 2.25.1"] = list(unchanged(other).datasets)
    row = {
        "id": 5,
        "orthanc_study_id": STUDY_ID,
        "replaced_at": None,
        "derived_orthanc_series_id": "orthanc 2.25.1",
    }
    answers: list[list[dict[str, Any]]] = [[], [row], []]
    ledger.rows = lambda **_: {"items": answers.pop(0)}  # type: ignore[method-assign]
    make().step()
    outcome = only(ledger)
    assert outcome["reason_code"] == "halfscan_output"
    assert archive.removed == ([SERIES_ID] if same else [])
    assert ("reconstruction 5: removed" in outcome["reason"]) is same


def test_nothing_is_stored_before_the_ledger_knows(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.troubles["announce series"] = [LedgerUnavailable("away"), LedgerUnavailable("away")]
    make().step()
    assert only(ledger)["status"] == "done"
    ledger.waiting = [{**MemoryLedger().waiting[0], "id": 1}]
    ledger.troubles["announce series"] = [LeaseLost("another worker has it")]
    archive.stored = []
    make().step()
    assert archive.stored == []
    assert len(ledger.outcomes) == 1, "who has lost the lease reports nothing"


def test_a_worker_that_is_stopped_does_not_wait_to_store(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    ledger.troubles["announce series"] = [LedgerUnavailable("away")] * 1000
    worker = make()
    threading.Timer(0.3, worker.stop).start()
    worker.step()
    assert (archive.stored, ledger.outcomes) == ([], [])


def test_a_store_ends_when_the_lease_has_run_out(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own clock: an API that cannot be asked cannot say that another one has it."""
    monkeypatch.setitem(globals(), "LEASE_S", 0.1)
    ledger.troubles["renew"] = [LedgerUnavailable("away")] * 1000
    stored = []

    def slow(datasets: Any, check: Any = None) -> StoredSeries:
        for dataset in datasets:
            check()
            stored.append(dataset)
            time.sleep(0.15)
        raise AssertionError("the check did not end it")

    archive.store = slow  # type: ignore[method-assign]  # as the real one calls back
    assert make(lease_s=0.1).step() is True
    assert len(stored) == 1
    assert ledger.outcomes == []


# --- guards, models ---------------------------------------------------------------------------


def test_a_result_that_fails_a_guard_is_not_stored_and_not_tried_again(
    ledger: MemoryLedger,
    archive: MemoryArchive,
    engine: Engine,
    make: MakeWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inverted(_: Reconstructor, images: Any) -> Any:
        return images.max() - images

    monkeypatch.setattr(Reconstructor, "_network", inverted)
    archive.series = fast(3, pixels=noisy_pixels())
    make().step()
    outcome = only(ledger)
    assert (outcome["status"], outcome["permanent"]) == ("failed", True)
    assert outcome["reason_code"].startswith("guard_")
    uid = archive.series[0].SOPInstanceUID
    assert f"slice 1 of 3 (source {uid})" in outcome["error"]
    assert outcome["reason"] == outcome["error"]
    assert outcome["rule"] == "default: accelerated"
    assert outcome["acquisition"]["in_plane_factor"] == 2.0
    assert outcome["model_sha256"] == engine.provenance.model_sha256
    assert outcome["strength"] == 1.0
    assert archive.stored == []


def test_what_a_guard_measured_stands_in_the_ledger(
    ledger: MemoryLedger, make: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"slice": 2, "value": 3.5, "limit": 3.0}

    def refuse(*_: Any) -> Any:
        raise GuardFailed("rms_change", "guard rms_change: slice 2", facts)

    monkeypatch.setattr("halfscan_plugin.reconstruction.check", refuse)
    make().step()
    outcome = only(ledger)
    assert outcome["reason_code"] == "guard_rms_change"
    assert outcome["quality"] == facts


def noisy_pixels() -> Any:
    rng = np.random.default_rng(5)
    discs = np.hypot(*np.mgrid[-24:24, -24:24]) < 15
    images = 100 + 1500 * discs + rng.normal(0, 30, (3, 48, 48))
    return np.clip(images, 0, 4095).astype(np.uint16)


def test_a_rule_that_names_a_model_that_is_not_here(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    rule = Rule("elsewhere", "reconstruct", (), "by_rule", "as asked", model="not-here")
    make(rules=Rules((rule,))).step()
    outcome = only(ledger)
    assert outcome["status"] == "failed"
    assert "not-here" in outcome["error"]


def test_a_rule_chooses_strength_and_its_name_stands_in_the_ledger(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    rule = Rule("half", "reconstruct", (), "by_rule", "as asked", strength=0.5)
    make(rules=Rules((rule,))).step()
    outcome = only(ledger)
    assert (outcome["rule"], outcome["strength"]) == ("half", 0.5)
    assert outcome["reason_code"] == "by_rule"


# --- questions about series -------------------------------------------------------------------


def question(**asked: str) -> dict[str, Any]:
    both = {"orthanc_series_id": None, "series_instance_uid": None}
    return {"id": 5, "lease_token": "q", **both, **asked}


@pytest.fixture
def inspector(ledger: MemoryLedger, archive: MemoryArchive) -> Inspector:
    return Inspector(ledger, archive, Rules(), name="w", poll_s=0.01)


def test_nobody_asks(inspector: Inspector, ledger: MemoryLedger) -> None:
    assert inspector.step() is False
    assert ledger.answers == []


def test_an_answer_is_what_the_command_says(
    inspector: Inspector, ledger: MemoryLedger, archive: MemoryArchive
) -> None:
    archive.found = {"1.2": [SERIES_ID]}
    ledger.questions = [question(series_instance_uid="1.2"), question(orthanc_series_id=SERIES_ID)]
    assert inspector.step() is True
    assert inspector.step() is True
    by_uid, by_id = ledger.answers
    assert by_uid == by_id == {"status": "done", "result": inspect_series(archive.series)}
    assert by_uid["result"]["decision"] == "reconstruct"
    assert (archive.fetched, archive.stored) == ([], [])


@pytest.mark.parametrize(
    ("found", "trouble", "code", "says"),
    [
        ([], None, "series_not_found", "the archive has no series 1.2"),
        (["a", "b"], None, "ambiguous_series", "2 series 1.2: ask by orthanc_series_id"),
        ([SERIES_ID], SeriesNotFound("gone"), "series_not_found", "gone"),
        ([SERIES_ID], ArchiveUnavailable("away"), "archive_unavailable", "away"),
        ([SERIES_ID], UnreadableSeries("damaged_file", "cut"), "damaged_file", "cut"),
        ([SERIES_ID], KeyError("Doe^Jane"), "unexpected", "unexpected KeyError"),
    ],
)
def test_a_question_without_an_answer(
    inspector: Inspector,
    ledger: MemoryLedger,
    archive: MemoryArchive,
    found: list[str],
    trouble: Exception | None,
    code: str,
    says: str,
) -> None:
    archive.found = {"1.2": found}
    if trouble is not None:
        archive.troubles["headers"] = trouble
    ledger.questions = [question(series_instance_uid="1.2")]
    assert inspector.step() is True
    (answer,) = ledger.answers
    assert (answer["status"], answer["error_code"]) == ("failed", code)
    assert says in answer["error"]
    assert "Doe" not in json.dumps(answer)


def test_a_question_that_another_worker_has_is_left(
    inspector: Inspector, ledger: MemoryLedger
) -> None:
    ledger.questions = [question(orthanc_series_id=SERIES_ID)]
    ledger.troubles["finish inspection"] = [LeaseLost("taken")]
    assert inspector.step() is True
    assert ledger.answers == []


def test_the_thread_of_questions_outlives_an_api_that_is_away(
    inspector: Inspector, ledger: MemoryLedger
) -> None:
    ledger.questions = [question(orthanc_series_id=SERIES_ID)]
    ledger.troubles["claim inspection"] = [LedgerUnavailable("away"), LedgerUnavailable("away")]
    stop = threading.Event()
    thread = threading.Thread(target=inspector.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while not ledger.answers and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ledger.answers) == 1


def test_an_api_that_knows_no_inspections_ends_the_thread(
    inspector: Inspector, ledger: MemoryLedger
) -> None:
    ledger.troubles["claim inspection"] = [LedgerRefused("answered 404")]
    inspector.run(threading.Event())


def test_a_question_does_not_wait_behind_a_long_series(
    ledger: MemoryLedger, archive: MemoryArchive, make: MakeWorker
) -> None:
    release = threading.Event()
    store = archive.store

    def slow(datasets: Any, check: Any = None) -> StoredSeries:
        assert release.wait(20)
        return store(datasets, check)

    archive.store = slow  # type: ignore[method-assign]  # the same, held up
    worker = make()
    thread = threading.Thread(target=worker.run)
    thread.start()
    ledger.questions = [question(orthanc_series_id=SERIES_ID)]
    deadline = time.monotonic() + 20
    while not ledger.answers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (len(ledger.answers), ledger.outcomes) == (1, [])
    release.set()
    while not ledger.outcomes and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.stop()
    thread.join(10)
    assert only(ledger)["status"] == "done"
    assert not any(t.name == "halfscan-inspector" for t in threading.enumerate())
