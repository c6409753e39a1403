"""The real programs for the end-to-end tests, and small simulated exams to send them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from halfscan_plugin import exam
from halfscan_plugin.archive import Archive
from halfscan_plugin.dimse import send
from halfscan_plugin.ledger import Ledger, LedgerUnavailable
from halfscan_plugin.stack import Program, Stack, StartFailed, find_orthanc
from study_databases import new_token

FINAL = {"done", "skipped", "dead"}
# Two busy cores are slow; what does not come within this time does not come at all.
PATIENCE_S = 120.0


class SiteStack(Stack):
    """A stack whose tokens are made by the tests' process: one of their own takes seconds."""

    def token(self, role: str) -> str:
        if role not in self._tokens:
            self._tokens[role] = new_token(self.database_url, role)
        return self._tokens[role]


@dataclass
class Site:
    """A running archive with everything beside it, and what a test asks of it."""

    stack: Stack
    programs: dict[str, Program] = field(default_factory=dict)

    def start(self, *names: str, **worker_variables: str) -> None:
        """Start ``api``, ``orthanc`` and ``worker``, or those named."""
        for name in names or ("api", "orthanc", "worker"):
            if name == "worker":
                self.programs[name] = self.stack.start_worker(**worker_variables)
            else:
                self.programs[name] = getattr(self.stack, f"start_{name}")()
            if name == "api" and not self.stack.token_file.exists():
                self.stack.write_service_token()

    def kill(self, name: str) -> None:
        """End a program as a power cut would."""
        program = self.programs.pop(name)
        program.kill()
        self.stack.programs.remove(program)

    def stop(self, name: str) -> None:
        """End a program politely."""
        program = self.programs.pop(name)
        program.stop()
        self.stack.programs.remove(program)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.stack.api_url, self.stack.token("service"))

    @cached_property
    def archive(self) -> Archive:
        return Archive(self.stack.orthanc_url)

    def close(self) -> None:
        """End everything, at once: nothing of it is looked at any more."""
        for name in {"ledger", "archive"} & set(vars(self)):
            getattr(self, name).close()
        for program in self.stack.programs:
            program.kill()
        self.stack.stop()

    def send(self, files: list[Path]) -> None:
        send(files, self.stack.dicom_port)

    def upload(self, content: bytes) -> httpx.Response:
        """POST a file to Orthanc as it is, however broken."""
        return httpx.post(f"{self.stack.orthanc_url}/instances", content=content, timeout=30)

    def rows(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.ledger.rows(per_page=100)["items"]
        return items

    def row(self, series_instance_uid: str) -> dict[str, Any] | None:
        found = self.ledger.rows(series_instance_uid=series_instance_uid)["items"]
        return found[0] if found else None

    def wait_for(self, what: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Wait until `what` gives something true, and give it."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                value = what()
            except LedgerUnavailable:
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                logs = "\n".join(f"-- {n}\n{p.log_tail()}" for n, p in self.programs.items())
                pytest.fail(f"nothing came within {patience_s:g} s; logs:\n{logs}")
            time.sleep(0.1)

    def finished(self, series_instance_uid: str) -> dict[str, Any]:
        """Wait until a series has its outcome."""

        def outcome() -> dict[str, Any] | None:
            row = self.row(series_instance_uid)
            return row if row is not None and row["status"] in FINAL else None

        row: dict[str, Any] = self.wait_for(outcome)
        return row

    def settled(self) -> None:
        """Wait until the relay has announced everything and the ledger has no open row."""

        def calm() -> bool:
            state = httpx.get(f"{self.stack.orthanc_url}/halfscan/status").json()
            last = httpx.get(f"{self.stack.orthanc_url}/changes?last").json()["Last"]
            open_rows = [row for row in self.rows() if row["status"] not in FINAL]
            told = state["cursor"] >= last and state["waiting_deletions"] == 0
            return told and not open_rows

        self.wait_for(calm)

    def derived(self, row: dict[str, Any]) -> list[Dataset]:
        """Read the derived series of a row from the archive."""
        archive = self.archive
        (series_id,) = archive.find_series(row["derived_series_instance_uid"])
        return [archive.dataset(i) for i in archive.instance_ids(series_id)]

    def derived_series_count(self) -> int:
        """Count the series in the archive whose images say that Halfscan made them."""
        archive = self.archive
        ids = [series for uid in self._all_series_uids() for series in archive.find_series(uid)]
        firsts = (archive.dataset(archive.instance_ids(series)[0]) for series in ids)
        return sum("ContributingEquipmentSequence" in first for first in firsts)

    def _all_series_uids(self) -> list[str]:
        answer = httpx.get(f"{self.stack.orthanc_url}/series?expand&since=0&limit=1000", timeout=30)
        return [series["MainDicomTags"]["SeriesInstanceUID"] for series in answer.json()]

    def log(self, name: str) -> str:
        return (self.stack.folder / f"{name}.log").read_text(encoding="utf-8")


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make sites; what they start is ended after the test."""
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    sites: list[Site] = []

    def make(**options: Any) -> Site:
        # A space in the path, as in many a user's home.
        folder = tmp_path / f"site {len(sites)}"
        folder.mkdir()
        sites.append(Site(SiteStack(folder, **{"stable_age_s": 1, **options})))
        return sites[-1]

    yield make
    for each in sites:
        each.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Give a site on which everything runs."""
    running = make_site()
    running.start()
    return running


@pytest.fixture(scope="session")
def small_exam(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Simulate a small exam of both arms: files by ``<arm>/<sequence>``."""
    out = tmp_path_factory.mktemp("small exam") / "out"
    report = exam.simulate(out, patients=1, seed=11, slices=4, matrix_scale=0.35)
    series: dict[str, list[Path]] = {}
    for file in report.files:
        header = dcmread(file, stop_before_pixels=True)
        factor = header.get("ParallelReductionFactorInPlane") or 1
        fast = factor >= 2 and header.NumberOfAverages < 2
        arm = "accelerated" if fast else "standard"
        sequence = file.parent.name.split("_", 1)[-1]
        series.setdefault(f"{arm}/{sequence}", []).append(file)
    return series


@pytest.fixture
def fast_series(small_exam: dict[str, list[Path]]) -> list[Path]:
    """Give the files of one small accelerated series."""
    return next(files for name, files in small_exam.items() if name.startswith("accelerated/"))


@pytest.fixture
def variant(tmp_path: Path) -> Callable[..., list[Path]]:
    """Make a series of its own from files: new UIDs, and whatever `change` does to each."""

    def make(files: list[Path], change: Callable[[Dataset, int], None] | None = None) -> list[Path]:
        folder = tmp_path / f"variant-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        series_uid, made = generate_uid(), []
        for number, file in enumerate(files):
            dataset = dcmread(file)
            dataset.SeriesInstanceUID = series_uid
            dataset.SOPInstanceUID = generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            if change is not None:
                change(dataset, number)
            path = folder / f"{number:04d}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            made.append(path)
        return made

    return make


def uid_of(files: list[Path]) -> str:
    """Give the SeriesInstanceUID of a series' files."""
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
