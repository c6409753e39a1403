"""What the archive holds is what the ledger says: corrected, copied, merged, deleted, sent again.

One Orthanc with everything beside it serves all tests here: each has patients of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import httpx
import pytest
from pydicom import Dataset

from archive_content import (
    check_agreement,
    delete,
    fast_series,
    get,
    orthanc_id,
    pixels_of,
    post,
    post_find,
    series_of,
    sources_of,
    upload,
)
from archive_fixtures import Site, SiteStack
from dicom_maker import made_uid
from halfscan_plugin.archive import Archive, SourceSeries, StoredSeries, StoreRefused
from halfscan_plugin.derived import Provenance, derive
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.stack import StartFailed, find_orthanc
from halfscan_plugin.volume import read_volume
from halfscan_plugin.worker import Worker

pytestmark = pytest.mark.archive

QUICK = {"HALFSCAN_WORKER_POLL_S": "0.2", "HALFSCAN_WORKER_THREADS": "1"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site that overwrites what is sent again, as many an archive is set."""
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("content")
    site = Site(SiteStack(folder, stable_age_s=1, orthanc_options={"OverwriteInstances": True}))
    try:
        site.start(**QUICK)
        yield site
    finally:
        site.close()


def row_of(site: Site, name: str, status: str = "done", **query: str) -> dict[str, Any]:
    """Wait until a series of a patient has a row of a status, and nothing is open."""
    series = orthanc_id(site, "Series", PatientID=f"P-{name}", **query)

    def row() -> dict[str, Any] | None:
        rows: list[dict[str, Any]] = site.ledger.rows(orthanc_series_id=series)["items"]
        return next((r for r in rows if r["status"] == status), None)

    found: dict[str, Any] = site.wait_for(row)
    return found


def made(site: Site, name: str, **options: Any) -> dict[str, Any]:
    """Send a series and wait for its derived one; gives the row."""
    upload(site, fast_series(name, **options))
    row = row_of(site, name)
    site.settled()
    return row


def derived_of(site: Site, name: str) -> list[Any]:
    study = orthanc_id(site, "Study", PatientID=f"P-{name}")
    derived = series_of(site, study)[1]
    return derived[0] if len(derived) == 1 else []


@pytest.mark.parametrize("deleted_before", [True, False])
def test_corrected_pixels_under_the_same_uids(shared: Site, *, deleted_before: bool) -> None:
    name = f"corrected-{deleted_before}"
    first = made(shared, name)
    if deleted_before:
        delete(shared, f"/series/{first['orthanc_series_id']}")
    corrected = fast_series(name, seed=7)
    upload(shared, corrected)

    def follows() -> bool:
        rows = shared.ledger.rows(orthanc_series_id=first["orthanc_series_id"])["items"]
        return bool(rows[0]["id"] != first["id"] and rows[0]["status"] == "done")

    shared.wait_for(follows)
    shared.settled()
    assert sources_of(derived_of(shared, name)) == pixels_of(corrected)
    old = shared.ledger.row(first["id"])
    new = shared.ledger.rows(orthanc_series_id=first["orthanc_series_id"])["items"][0]
    assert (old["replaced_by"], new["replaced_by"]) == (new["id"], None)
    check_agreement(shared)


def test_what_is_sent_again_unchanged_changes_nothing(shared: Site) -> None:
    first = made(shared, "same")
    before = shared.archive.instance_ids(first["derived_orthanc_series_id"])
    upload(shared, fast_series("same"))
    shared.settled()
    assert shared.ledger.row(first["id"])["finished_at"] == first["finished_at"]
    assert shared.archive.instance_ids(first["derived_orthanc_series_id"]) == before
    check_agreement(shared)


def test_one_study_under_two_patients(shared: Site) -> None:
    study = made_uid("twice")
    series = {
        patient: fast_series("twice", 5, PatientID=f"P-{patient}", StudyInstanceUID=study)
        for patient in ("wrong", "right")
    }
    for patient, objects in series.items():
        upload(shared, objects[:4])
        row_of(shared, patient)
    shared.settled()
    kept = derived_of(shared, "right")
    upload(shared, series["wrong"][4:])
    shared.wait_for(lambda: len(derived_of(shared, "wrong")) == 5)
    shared.settled()
    assert derived_of(shared, "right") == kept
    assert {d.PatientID for d in derived_of(shared, "wrong")} == {"P-wrong"}
    check_agreement(shared)


@pytest.mark.parametrize("keeps_source", [True, False])
@pytest.mark.parametrize("kept", [[], ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]])
def test_a_corrected_patient_id(shared: Site, *, keeps_source: bool, kept: list[str]) -> None:
    name = f"id-{keeps_source}-{len(kept)}"
    made(shared, name)
    patient = orthanc_id(shared, "Patient", PatientID=f"P-{name}")
    body = {"Replace": {"PatientID": f"P-{name}-2"}, "KeepSource": keeps_source, "Force": True}
    post(shared, f"/patients/{patient}/modify", {**body, "Keep": kept})
    shared.wait_for(lambda: len(post_find(shared, "Series", PatientID=f"P-{name}-2")) == 2)
    shared.settled()
    shared.wait_for(lambda: _is_calm(shared))
    assert len(derived_of(shared, f"{name}-2")) == 4
    assert bool(post_find(shared, "Study", PatientID=f"P-{name}")) is keeps_source
    check_agreement(shared)


def test_a_study_that_was_anonymised(shared: Site) -> None:
    made(shared, "named")
    study = orthanc_id(shared, "Study", PatientID="P-named")
    copy = post(shared, f"/studies/{study}/anonymize", {})["ID"]
    shared.wait_for(lambda: _is_calm(shared) and len(series_of(shared, copy)[1]) == 1)
    shared.settled()
    (sources, derived) = series_of(shared, copy)
    assert (len(sources), len(derived)) == (1, 1)
    assert {d.PatientID for d in derived[0]} == {sources[0][0].PatientID} != {"P-named"}
    check_agreement(shared)


def test_a_study_that_was_merged_into_another(shared: Site) -> None:
    made(shared, "from")
    made(shared, "into", seed=3)
    moved = orthanc_id(shared, "Study", PatientID="P-from")
    target = orthanc_id(shared, "Study", PatientID="P-into")
    post(shared, f"/studies/{target}/merge", {"Resources": [moved], "KeepSource": False})
    shared.wait_for(lambda: _is_calm(shared) and len(series_of(shared, target)[0]) == 2)
    shared.settled()
    assert len(series_of(shared, target)[1]) == 2
    assert post_find(shared, "Study", PatientID="P-from") == []
    check_agreement(shared)


def test_a_study_that_was_deleted_and_sent_again(shared: Site) -> None:
    first = made(shared, "again")
    delete(shared, f"/studies/{orthanc_id(shared, 'Study', PatientID='P-again')}")
    shared.settled()
    gone = shared.ledger.row(first["id"])
    assert (gone["status"], gone["reason_code"]) == ("skipped", "series_not_found")
    again = made(shared, "again")
    assert again["id"] == first["id"]
    assert again["derived_series_instance_uid"] == first["derived_series_instance_uid"]
    check_agreement(shared)


def test_a_source_that_was_deleted_takes_its_derived_series_along(shared: Site) -> None:
    first = made(shared, "orphan")
    delete(shared, f"/series/{first['orthanc_series_id']}")
    shared.wait_for(lambda: post_find(shared, "Series", PatientID="P-orphan") == [])
    shared.settled()
    row = shared.ledger.row(first["id"])
    assert (row["status"], row["reason_code"]) == ("skipped", "series_not_found")
    assert row["attempts"][0]["replaced_at"] is not None
    check_agreement(shared)


@pytest.mark.parametrize(("place", "left"), [(3, 3), (1, 0)])
def test_one_image_of_the_source_that_was_deleted(shared: Site, place: int, left: int) -> None:
    """At the end of the stack the rest is made again; a hole in it leaves nothing to stand for."""
    name = f"image-{place}"
    instances = upload(shared, fast_series(name))
    row_of(shared, name)
    shared.settled()
    delete(shared, f"/instances/{instances[place]}")

    def derived() -> int:
        study = orthanc_id(shared, "Study", PatientID=f"P-{name}")
        return sum(map(len, series_of(shared, study)[1]))

    shared.wait_for(lambda: derived() == left)
    shared.settled()
    check_agreement(shared)


def test_a_derived_series_that_somebody_deleted_stays_deleted(shared: Site) -> None:
    first = made(shared, "unwanted")
    derived = derived_of(shared, "unwanted")
    delete(shared, f"/series/{first['derived_orthanc_series_id']}")
    shared.settled()
    row = shared.ledger.row(first["id"])
    assert (row["status"], row["reason_code"]) == ("skipped", "derived_deleted")
    upload(shared, derived)  # another archive sends it back
    shared.wait_for(lambda: shared.ledger.row(first["id"])["status"] == "done")
    shared.settled()
    back = shared.ledger.row(first["id"])
    assert back["derived_series_instance_uid"] == first["derived_series_instance_uid"]
    check_agreement(shared)


def test_a_copy_whose_source_is_deleted_goes_too(shared: Site) -> None:
    """Anonymised, the source loses the private attribute that says that it was accelerated."""
    made(shared, "copied")
    study = orthanc_id(shared, "Study", PatientID="P-copied")
    copy = post(shared, f"/studies/{study}/anonymize", {})["ID"]
    shared.wait_for(
        lambda: _is_calm(shared) and len(get(shared, f"/studies/{copy}")["Series"]) == 2
    )
    shared.settled()
    sources, derived = series_of(shared, copy)
    assert (len(sources), len(derived)) == (1, 1), "the copy stands beside its source"
    (series,) = post_find(shared, "Series", SeriesInstanceUID=str(sources[0][0].SeriesInstanceUID))
    delete(shared, f"/series/{series}")
    shared.wait_for(lambda: not httpx.get(f"{shared.stack.orthanc_url}/studies/{copy}").is_success)
    shared.settled()
    check_agreement(shared)


# --- what happens while a worker is at it -----------------------------------------------------


class Meddler(Archive):
    """An archive in which something happens before or after a derived series is stored."""

    def __init__(self, url: str, *, after: bool, meddle: Callable[[], None]) -> None:
        super().__init__(url)
        self._after, self._meddle = after, meddle

    def store(
        self, datasets: Sequence[Dataset], check: Callable[[], None] = lambda: None
    ) -> StoredSeries:
        if not self._after:
            self._meddle()
        stored = super().store(datasets, check)
        if self._after:
            self._meddle()
        return stored

    def holds(self, source: SourceSeries) -> bool:
        if not self._after:
            self._meddle()
        return super().holds(source)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give an archive without the plugin, and a ledger; tests announce, and work, themselves."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "nothing.py").touch()
    options = {"PythonScript": str(folder / "nothing.py")}
    site = Site(SiteStack(folder, stable_age_s=1, orthanc_options=options))
    try:
        site.start("api", "orthanc")
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=1)


def announce(site: Site, name: str) -> dict[str, Any]:
    series = orthanc_id(site, "Series", PatientID=f"P-{name}", Modality="MR")
    return site.ledger.announce(site.archive.source(series).announcement())


def work(site: Site, engine: Engine, archive: Archive | None = None, **options: Any) -> None:
    worker = Worker(
        site.ledger,
        archive or site.archive,
        engine,
        name="w",
        lease_s=60,
        poll_s=0.1,
        **options,
    )
    while worker.step():
        pass


@pytest.mark.parametrize("after", [False, True])
def test_a_study_that_is_deleted_while_it_is_reconstructed_does_not_come_back(
    bare: Site, engine: Engine, *, after: bool
) -> None:
    name = f"meanwhile-{after}"
    upload(bare, fast_series(name))
    row = announce(bare, name)
    study = orthanc_id(bare, "Study", PatientID=f"P-{name}")
    gone: list[bool] = []

    def remove() -> None:
        if not gone:
            delete(
                bare, f"/studies/{study}" if not after else f"/series/{row['orthanc_series_id']}"
            )
            gone.append(True)

    with closing(Meddler(bare.stack.orthanc_url, after=after, meddle=remove)) as archive:
        work(bare, engine, archive)
    assert post_find(bare, "Study", PatientID=f"P-{name}") == []
    ended = bare.ledger.row(row["id"])
    assert (ended["status"], ended["reason_code"]) == ("skipped", "series_not_found")


def test_pixels_that_are_corrected_while_they_are_reconstructed(bare: Site, engine: Engine) -> None:
    upload(bare, fast_series("racing"))
    row = announce(bare, "racing")
    corrected = fast_series("racing", seed=5)
    sent: list[list[str]] = []

    def correct() -> None:
        if not sent:
            delete(bare, f"/series/{row['orthanc_series_id']}")
            sent.append(upload(bare, corrected))

    with closing(Meddler(bare.stack.orthanc_url, after=True, meddle=correct)) as archive:
        work(bare, engine, archive)
    bare.wait_for(lambda: bare.archive.source(row["orthanc_series_id"]).is_stable)
    announce_again = bare.archive.source(row["orthanc_series_id"]).announcement()
    bare.ledger.announce(announce_again)
    work(bare, engine)
    study = orthanc_id(bare, "Study", PatientID="P-racing")
    (derived,) = series_of(bare, study)[1]
    assert sources_of(derived) == pixels_of(corrected)
    assert bare.ledger.row(row["id"])["reason_code"] == "superseded"


# --- what is there already under a UID --------------------------------------------------------


def derived_series(name: str) -> list[Dataset]:
    volume = read_volume(fast_series(name))
    made_by = Provenance("m", "1", "ab" * 32, 1.0, "0.1.0")
    return list(derive(volume, volume.volume, made_by, series_number=1005).datasets)


def test_what_is_there_is_not_stored_twice(bare: Site) -> None:
    objects = derived_series("stored")
    assert bare.archive.store(objects).added == 4
    again = bare.archive.store(objects)
    assert (again.added, again.instances) == (0, 4)


def test_another_object_of_ours_under_the_same_uid_gives_way(bare: Site) -> None:
    objects = derived_series("tampered")
    other = derived_series("tampered")[1]
    other.PixelData = bytes(len(other.PixelData))
    upload(bare, [objects[0], other])
    stored = bare.archive.store(objects)
    assert stored.added == 3
    ids = bare.archive.instance_ids(stored.orthanc_series_id)
    held = {d.SOPInstanceUID: d.PixelData for d in map(bare.archive.dataset, ids)}
    assert held == {d.SOPInstanceUID: d.PixelData for d in objects}


def test_an_object_of_somebody_else_under_the_same_uid_is_left_and_told(bare: Site) -> None:
    objects = derived_series("foreign")
    other = derived_series("foreign")[1]
    del other.ContributingEquipmentSequence
    upload(bare, [other])
    with pytest.raises(StoreRefused, match="another object under this UID"):
        bare.archive.store(objects)
    (series,) = post_find(bare, "Series", PatientID="P-foreign")
    assert len(bare.archive.instance_ids(series)) == 1


# --- what is not ours to remove ---------------------------------------------------------------


def announced(site: Site, name: str) -> list[dict[str, Any]]:
    """Announce every series of a patient."""
    series = post_find(site, "Series", PatientID=f"P-{name}")
    return [site.ledger.announce(site.archive.source(i).announcement()) for i in series]


def forget(site: Site, name: str) -> None:
    """Delete a patient's study, and tell the ledger."""
    series = post_find(site, "Series", PatientID=f"P-{name}")
    delete(site, f"/studies/{orthanc_id(site, 'Study', PatientID=f'P-{name}')}")
    site.ledger.depart(series)


def test_a_derived_series_from_elsewhere_is_left_alone(bare: Site, engine: Engine) -> None:
    """Its source was never here: what is deleted beside it is none of its business."""
    upload(bare, derived_series("elsewhere"))
    upload(bare, fast_series("elsewhere", name_of_series="beside", NumberOfAverages=4, seed=8))
    announced(bare, "elsewhere")
    work(bare, engine)
    (beside,) = (r for r in bare.rows() if r["reason_code"] == "averaged")
    delete(bare, f"/series/{beside['orthanc_series_id']}")
    bare.ledger.depart([beside["orthanc_series_id"]])
    work(bare, engine)
    assert len(post_find(bare, "Series", PatientID="P-elsewhere")) == 1
    forget(bare, "elsewhere")


def test_what_another_network_made_of_the_same_source_is_no_copy(
    bare: Site, engine: Engine
) -> None:
    upload(bare, fast_series("arms"))
    announced(bare, "arms")
    work(bare, engine)
    upload(bare, derived_series("arms"))
    rows = announced(bare, "arms")
    work(bare, engine)
    assert len(post_find(bare, "Series", PatientID="P-arms")) == 3
    source = next(row for row in rows if row["status"] == "done")
    bare.ledger.retry(source["id"])
    work(bare, engine)
    assert len(post_find(bare, "Series", PatientID="P-arms")) == 3
    forget(bare, "arms")


def test_what_was_taken_for_gone_and_is_there_is_found(bare: Site, engine: Engine) -> None:
    upload(bare, fast_series("back"))
    (row,) = announced(bare, "back")
    work(bare, engine)
    done = bare.ledger.row(row["id"])
    bare.ledger.depart([done["orthanc_series_id"], done["derived_orthanc_series_id"]])
    assert bare.ledger.row(row["id"])["reason_code"] == "series_not_found"
    bare.wait_for(lambda: bare.archive.source(done["orthanc_series_id"]).is_stable)
    (seen,) = halfscan_doctor(bare, "--json", "--apply")["disagreements"]
    assert (seen["kind"], seen["source"]) == ("missing", done["orthanc_series_id"])
    work(bare, engine)
    again = bare.ledger.row(row["id"])
    assert again["status"] == "done"
    assert again["derived_series_instance_uid"] == done["derived_series_instance_uid"]
    check_agreement(bare, "P-back")


# --- the doctor -------------------------------------------------------------------------------


def halfscan_doctor(site: Site, *arguments: str, code: int = 0) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HALFSCAN_WORKER_API_URL": site.stack.api_url,
        "HALFSCAN_WORKER_TOKEN_FILE": str(site.stack.token_file),
        "HALFSCAN_WORKER_ORTHANC_URL": site.stack.orthanc_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "halfscan_plugin.cli", "doctor", "archive", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    if "--json" not in arguments:
        return {"text": done.stdout}
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_the_doctor_finds_and_mends_what_nobody_told(bare: Site, engine: Engine) -> None:
    """Without a plugin nothing is followed: as after a week in which it was off."""
    names = ("fine", "missing", "partial", "stale", "orphaned", "both", "doubled")
    rows = {}
    for name in names:
        upload(bare, fast_series(f"doctor-{name}"))
        rows[name] = announce(bare, f"doctor-{name}")
    work(bare, engine)
    rows = {name: bare.ledger.row(row["id"]) for name, row in rows.items()}
    assert {row["status"] for row in rows.values()} == {"done"}
    derived = {name: row["derived_orthanc_series_id"] for name, row in rows.items()}
    copied = [bare.archive.dataset(i) for i in bare.archive.instance_ids(derived["doubled"])]
    for number, dataset in enumerate(copied):
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = made_uid("x"), made_uid("x", number)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    upload(bare, copied)
    delete(bare, f"/series/{derived['missing']}")
    delete(bare, f"/instances/{bare.archive.instance_ids(derived['partial'])[0]}")
    delete(bare, f"/series/{rows['stale']['orthanc_series_id']}")
    upload(bare, fast_series("doctor-stale", seed=9))
    delete(bare, f"/series/{rows['orphaned']['orthanc_series_id']}")
    delete(bare, f"/studies/{orthanc_id(bare, 'Study', PatientID='P-doctor-both')}")
    bare.wait_for(lambda: bare.archive.source(rows["stale"]["orthanc_series_id"]).is_stable)

    seen = halfscan_doctor(bare, "--json", code=1)
    kinds = {d["reconstruction"]: d["kind"] for d in seen["disagreements"]}
    expected = {"missing": "missing", "partial": "missing", "both": "missing"}
    expected |= {"stale": "stale", "orphaned": "orphaned", "doubled": "doubled"}
    assert kinds == {rows[name]["id"]: kind for name, kind in expected.items()}
    assert (seen["checked"], seen["missing"], seen["mended"]) == (len(kinds) + 2, 3, 0) or (
        seen["checked"] >= len(names)
    )
    assert "would be done: make it again" in halfscan_doctor(bare, code=1)["text"]
    assert halfscan_doctor(bare, "--json", "--apply")["mended"] == 6
    work(bare, engine)
    assert halfscan_doctor(bare, "--json")["disagreements"] == []
    assert "0 disagreements" in halfscan_doctor(bare)["text"]
    metrics = httpx.get(f"{bare.stack.api_url}/metrics").text
    assert 'halfscan_archive_disagreements{kind="missing"} 0.0' in metrics
    check_agreement(bare, "P-doctor-*")


def test_what_is_kept_without_a_source_is_no_disagreement(bare: Site, engine: Engine) -> None:
    upload(bare, fast_series("kept"))
    row = announce(bare, "kept")
    work(bare, engine)
    delete(bare, f"/series/{row['orthanc_series_id']}")
    assert halfscan_doctor(bare, "--json", "--apply")["orphaned"] == 1
    work(bare, engine, orphans="keep")
    marked = bare.ledger.row(row["id"])
    assert (marked["status"], marked["reason_code"]) == ("skipped", "series_not_found")
    assert "stays in the archive without its source" in marked["warnings"][0]
    assert halfscan_doctor(bare, "--json")["disagreements"] == []
    delete(bare, f"/studies/{orthanc_id(bare, 'Study', PatientID='P-kept')}")


def test_a_doctor_without_an_archive_says_so(bare: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare.stack, "http_port", 9)
    assert halfscan_doctor(bare, code=1)["text"] == ""


def _is_calm(site: Site) -> bool:
    state = get(site, "/halfscan/status")
    last: int = get(site, "/changes?last")["Last"]
    return bool(state["cursor"] >= last)
