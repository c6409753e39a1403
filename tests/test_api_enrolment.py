"""Enrolment from the archive: real exams through the real stack, and headers of every kind."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from api_support import Api, done, json_of, make_api, skipped
from blinded_support import ARMS, SEQUENCES, Lumbar
from halfscan_api import archive
from halfscan_api.enrolment.headers import read_facts, scan_time
from halfscan_api.enrolment.pairing import arm_of_network, sequences_of
from halfscan_api.enrolment.watcher import watcher
from halfscan_api.studies.protocol import Protocol, template

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

SCAN_TIMES = {
    "sag_t1": (101, 53),
    "sag_t2": (77, 41),
    "sag_t2_fs": (70, 42),
    "tra_t2": (69, 39),
}


def new_study(api: Api, name: str = "lumbar") -> str:
    body = {"name": name, "template": "tang2024"}
    answer = api.send("POST", "/api/v1/studies", body, role="coordinator")
    assert answer.status_code == 201, answer.text
    return f"/api/v1/studies/{json_of(answer)['id']}"


def enrol(api: Api, study: str, *, dry_run: bool = False, **body: Any) -> dict[str, Any]:
    sent = {"dry_run": dry_run, **body}
    answer = api.send("POST", f"{study}/enrolment", sent, role="coordinator")
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def cases_of(api: Api, study: str) -> dict[str, dict[str, Any]]:
    found = json_of(api.send("GET", f"{study}/cases", role="coordinator"))["items"]
    return {one["pseudonym"]: one for one in found}


def note_reconstructions(api: Api, lumbar: Lumbar, patient: int = 0) -> None:
    """Tell the ledger of this app what the worker's own ledger knows."""
    for number, sequence in enumerate(SEQUENCES):
        source = lumbar.uid("fast", sequence, patient)
        more = {"series_instance_uid": source, "study_instance_uid": lumbar.study_uid(patient)}
        api.add(100 * patient + number, **more)
        row = api.must_claim()
        derived = lumbar.uid("accelerated", sequence, patient)
        outcome = done(row, derived_series_instance_uid=derived)
        assert api.post(f"/{row['id']}/outcome", outcome).status_code == 200


def test_two_patients_are_enrolled(both_archive_apis: Api, lumbar: Lumbar) -> None:
    """By default every study with reconstructed series; each patient one case, all sequences."""
    api = both_archive_apis
    study = new_study(api)
    note_reconstructions(api, lumbar, 0)
    note_reconstructions(api, lumbar, 1)
    shown = enrol(api, study, dry_run=True)
    assert cases_of(api, study) == {}
    made = enrol(api, study)
    assert {**shown, "dry_run": False} == made
    assert [one["pseudonym"] for one in made["cases"]] == ["C001", "C002"]
    assert made["not_told"] == []
    for patient, case in enumerate(cases_of(api, study).values()):
        found = {(one["arm"], one["sequence"]): one for one in case["series"]}
        assert set(found) == {(arm, sequence) for arm in ARMS for sequence in SEQUENCES}
        for (arm, sequence), one in found.items():
            assert one["series_instance_uid"] == lumbar.uid(arm, sequence, patient)
            assert one["study_instance_uid"] == lumbar.study_uid(patient)
            assert one["scan_time_s"] == SCAN_TIMES[sequence][ARMS.index(arm)]
    assert "HALFSCAN" not in api.send("GET", f"{study}/cases", role="coordinator").text
    again = enrol(api, study)
    assert (again["cases"], again["unchanged"]) == ([], 8)
    verified = api.send("GET", f"{study}/audit/verify", role="coordinator")
    assert json_of(verified)["holds"], verified.text


def test_table_1_and_the_lineage_come_along(archive_api: Api, lumbar: Lumbar) -> None:
    study = new_study(archive_api)
    note_reconstructions(archive_api, lumbar)
    made = enrol(archive_api, study)
    assert all(pair["visible_differences"] == [] for pair in made["cases"][0]["pairs"])
    found = {
        (one["arm"], one["sequence"]): one for one in cases_of(archive_api, study)["C001"]["series"]
    }
    standard = found["standard", "sag_t2_fs"]["parameters"]
    fast = found["accelerated", "sag_t2"]["parameters"]
    assert standard["averages"] == 2
    assert (standard["tr_ms"], standard["te_ms"], standard["thickness_mm"]) == (2800, 80, 4)
    assert (fast["averages"], fast["acceleration_factor"]) == (1, 2)
    assert fast["fov_mm"] == [280, 280]
    assert fast["bandwidth_hz_px"] == 250
    assert len(fast["matrix"]) == 2
    lineage = json_of(archive_api.send("GET", f"{study}/lineage", role="statistician"))
    assert lumbar.uid("fast", "sag_t2") in str(lineage)


def test_what_is_not_paired_is_said(archive_api: Api, lumbar: Lumbar) -> None:
    """The accelerated sources, a series alone, two that compete, and an odd one."""
    study = new_study(archive_api)
    note_reconstructions(archive_api, lumbar)
    sources = {lumbar.uid("fast", sequence) for sequence in SEQUENCES}
    made = enrol(archive_api, study, dry_run=True, study_instance_uids=[lumbar.study_uid()])
    reasons = {one["series_instance_uid"]: one["reason"] for one in made["left_out"]}
    assert {uid for uid, reason in reasons.items() if "stands for it" in reason} == sources
    assert len(made["cases"][0]["pairs"]) == 4


def stored(lumbar: Lumbar, uids: list[str], change: Callable[[Dataset], None]) -> str:
    """Store series once more as another examination; gives its StudyInstanceUID."""
    study_uid = generate_uid()
    for uid in uids:
        series_uid = generate_uid()
        datasets = lumbar.datasets(uid)
        for dataset in datasets:
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
            dataset.SOPInstanceUID = generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = f"NOBODY-{study_uid[-12:]}"
            change(dataset)
        lumbar.store(datasets)
    return study_uid


def nothing(dataset: Dataset) -> None:
    del dataset


def moved(dataset: Dataset) -> None:
    """The derived images lie elsewhere, and are larger."""
    if "ContributingEquipmentSequence" in dataset:
        position = [float(value) for value in dataset.ImagePositionPatient]
        dataset.ImagePositionPatient = [position[0], position[1] + 1.5, position[2]]
        dataset.SliceThickness = "3.5"
        dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.99"


def oblique(dataset: Dataset) -> None:
    half = 0.5**0.5
    dataset.ImageOrientationPatient = [half, half, 0, 0, 0, -1]


def gradient(dataset: Dataset) -> None:
    dataset.ScanningSequence = "GR"


def not_original(dataset: Dataset) -> None:
    if "ContributingEquipmentSequence" not in dataset:
        dataset.ImageType = ["DERIVED", "SECONDARY", "MPR"]


@pytest.mark.parametrize(
    ("arms", "change", "reason"),
    [
        (("standard",), nothing, "there is no derived series of sag_t2"),
        (("accelerated",), nothing, "there is no standard series of sag_t2"),
        (("standard", "standard", "accelerated"), nothing, "2 series can be sag_t2 in this arm"),
        (("standard", "accelerated", "accelerated"), nothing, "2 derived series can be sag_t2"),
        (("standard", "accelerated"), oblique, "oblique to every axis"),
        (("standard", "accelerated"), gradient, "its weighting is unclear: TR 2400 ms, TE 92 ms"),
        (("standard", "accelerated"), not_original, "no original image"),
    ],
)
def test_series_that_cannot_be_paired(
    archive_api: Api,
    lumbar: Lumbar,
    arms: tuple[str, ...],
    change: Callable[[Dataset], None],
    reason: str,
) -> None:
    study = new_study(archive_api)
    uids = [lumbar.uid(arm, "sag_t2") for arm in arms]
    made = enrol(archive_api, study, study_instance_uids=[stored(lumbar, uids, change)])
    assert made["cases"] == []
    assert any(reason in one["reason"] for one in made["left_out"]), made
    assert cases_of(archive_api, study) == {}


def test_what_readers_could_see_is_said(archive_api: Api, lumbar: Lumbar) -> None:
    uids = [lumbar.uid(arm, "sag_t2") for arm in ARMS]
    study_uid = stored(lumbar, uids, moved)
    made = enrol(archive_api, new_study(archive_api), study_instance_uids=[study_uid])
    [pair] = made["cases"][0]["pairs"]
    assert pair["visible_differences"] == [
        "SliceThickness 4.0 and 3.5 mm",
        "positions up to 1.50 mm apart",
        "no shared frame of reference: regions cannot be transferred",
    ]


def test_a_case_is_completed_later_and_never_changed(
    both_archive_apis: Api, lumbar: Lumbar
) -> None:
    study = new_study(both_archive_apis)
    case = {
        "pseudonym": "BY-HAND",
        "kind": "study",
        "series": [
            {
                "arm": "standard",
                "sequence": "sag_t2",
                "series_instance_uid": lumbar.uid("standard", "sag_t2"),
                "study_instance_uid": lumbar.study_uid(),
            }
        ],
    }
    assert (
        both_archive_apis.send("POST", f"{study}/cases", case, role="coordinator").status_code
        == 201
    )
    made = enrol(both_archive_apis, study, study_instance_uids=[lumbar.study_uid()])
    [completed] = made["cases"]
    assert (completed["pseudonym"], completed["is_new"]) == ("BY-HAND", False)
    assert len(completed["pairs"]) == 4
    assert len(cases_of(both_archive_apis, study)["BY-HAND"]["series"]) == 8
    place = f"{study}/cases/BY-HAND/series/accelerated/sag_t2"
    other = {
        "series_instance_uid": lumbar.uid("fast", "sag_t2"),
        "study_instance_uid": lumbar.study_uid(),
    }
    assert both_archive_apis.send("PUT", place, other, role="coordinator").status_code == 200
    again = enrol(both_archive_apis, study, study_instance_uids=[lumbar.study_uid()])
    assert (again["cases"], again["unchanged"]) == ([], 3)
    assert "another series of sag_t2" in str(again["left_out"])
    out = {"reason": "moved away"}
    path = f"{study}/cases/BY-HAND/exclude"
    assert both_archive_apis.send("POST", path, out, role="coordinator").status_code == 200
    excluded = enrol(both_archive_apis, study, study_instance_uids=[lumbar.study_uid()])
    assert "the case BY-HAND is excluded" in str(excluded["left_out"])


def three_arms(api: Api, *names: str) -> str:
    """Make a study with several test arms."""
    protocol = template("tang2024").as_document() | {"endpoints": []}
    tests = [{"name": name, "label": name.title(), "role": "test"} for name in names]
    protocol["arms"] = [one for one in protocol["arms"] if one["role"] == "reference"] + tests
    body = {"name": "arms", "protocol": protocol}
    answer = api.send("POST", "/api/v1/studies", body, role="coordinator")
    assert answer.status_code == 201, answer.text
    return f"/api/v1/studies/{json_of(answer)['id']}"


def test_of_several_test_arms_the_one_named_after_the_network_is_filled(
    archive_api: Api, lumbar: Lumbar
) -> None:
    study = three_arms(archive_api, "other_network", "dbpn_s")
    made = enrol(archive_api, study, study_instance_uids=[lumbar.study_uid()])
    assert made["arms_not_told"] == ["other_network"]
    [case] = made["cases"]
    assert {one["arm"] for one in case["pairs"]} == {"dbpn_s"}
    [shown] = cases_of(archive_api, study).values()
    assert {one["arm"] for one in shown["series"]} == {"standard", "dbpn_s"}
    assert shown["missing"] == [f"other_network/{sequence}" for sequence in SEQUENCES]
    again = enrol(archive_api, study, study_instance_uids=[lumbar.study_uid()])
    assert (again["cases"], again["unchanged"]) == ([], 4)


def test_of_several_test_arms_none_is_filled_by_guessing(archive_api: Api, lumbar: Lumbar) -> None:
    study = three_arms(archive_api, "weak", "strong")
    made = enrol(archive_api, study, study_instance_uids=[lumbar.study_uid()])
    assert (made["cases"], made["arms_not_told"]) == ([], ["weak", "strong"])
    reasons = {one["series_instance_uid"]: one["reason"] for one in made["left_out"]}
    for sequence in SEQUENCES:
        reason = reasons[lumbar.uid("accelerated", sequence)]
        assert reason.startswith("no arm, or not one alone, of weak, strong is named after its")
        assert "dbpn-s" in reason
        assert "no derived series" in reasons[lumbar.uid("standard", sequence)]


@pytest.mark.parametrize(
    ("names", "model", "arm"),
    [
        (("accelerated",), "dbpn-s 1", "accelerated"),
        (("dbpn_s", "dbpn_l"), "dbpn-l 2.1", "dbpn_l"),
        (("dbpn_s_1", "dbpn_s_2"), "dbpn-s 2", "dbpn_s_2"),
        (("dbpn_s_1", "dbpn_s_2"), "dbpn-s 3", None),
        (("dbpn_s", "dbpn_s_2"), "dbpn-s 2", None),
        (("dbpn", "other"), "dbpn-s 1", None),
        (("first", "second"), "", None),
    ],
)
def test_the_arm_of_a_network(names: tuple[str, ...], model: str, arm: str | None) -> None:
    document = template("tang2024").as_document() | {"endpoints": []}
    tests = [{"name": name, "label": f"Arm {name}", "role": "test"} for name in names]
    document["arms"] = [one for one in document["arms"] if one["role"] == "reference"] + tests
    assert arm_of_network(model, Protocol.model_validate(document)) == arm


def test_sequences_with_other_names_are_left_to_a_person(archive_api: Api, lumbar: Lumbar) -> None:
    protocol = template("tang2024").as_document() | {"endpoints": [], "criteria": []}
    protocol["sequences"][0]["name"] = "first"
    body = {"name": "names", "protocol": protocol}
    answer = archive_api.send("POST", "/api/v1/studies", body, role="coordinator")
    assert answer.status_code == 201, answer.text
    study = f"/api/v1/studies/{json_of(answer)['id']}"
    made = enrol(archive_api, study, study_instance_uids=[lumbar.study_uid()])
    assert made["not_told"] == ["first"]
    assert len(made["cases"][0]["pairs"]) == 3
    assert "no sequence of the protocol is sagittal T1" in str(made["left_out"])


def test_without_an_archive_the_setting_is_named(sqlite_api: Api) -> None:
    study = new_study(sqlite_api)
    answer = sqlite_api.send("POST", f"{study}/enrolment", {"dry_run": True}, role="coordinator")
    assert (answer.status_code, json_of(answer)["title"]) == (503, "Archive not configured")
    assert "HALFSCAN_API_ORTHANC_URL" in answer.text
    assert sqlite_api.send("POST", f"{study}/enrolment", {}, role="coordinator").status_code == 422


def test_an_archive_that_is_away_says_nothing_of_itself(
    api_sqlite_template: Path, tmp_path: Path, api_environment: None
) -> None:
    path = tmp_path / "halfscan.db"
    path.write_bytes(api_sqlite_template.read_bytes())
    api = make_api(f"sqlite:///{path}", orthanc_url="http://127.0.0.1:9")
    study = new_study(api)
    body = {"dry_run": True, "study_instance_uids": ["1.2.3"]}
    answer = api.send("POST", f"{study}/enrolment", body, role="coordinator")
    assert answer.status_code == 503
    assert json_of(answer)["detail"] == "the archive cannot be reached: try again"
    archive.close(api.app)
    api.database.dispose()


# --- by itself ----------------------------------------------------------------------------------


def automatic(api: Api, study: str, *, on: bool = True) -> None:
    answer = api.send("PUT", f"{study}/enrolment", {"automatic": on}, role="coordinator")
    assert answer.status_code == 200, answer.text


def test_a_reconstruction_that_finishes_joins_its_case(
    both_archive_apis: Api, lumbar: Lumbar
) -> None:
    api = both_archive_apis
    study, other = new_study(api), new_study(api, "other")
    shown = api.send("GET", f"{study}/enrolment", role="coordinator")
    assert json_of(shown) == {"automatic": False, "changed_at": None}
    automatic(api, study)
    assert json_of(api.send("GET", f"{study}/enrolment", role="coordinator"))["automatic"]
    note_reconstructions(api, lumbar)
    watcher(api.app).close()
    assert len(cases_of(api, study)["C001"]["series"]) == 8
    assert cases_of(api, other) == {}
    events = json_of(api.send("GET", f"{study}/audit?per_page=100", role="coordinator"))["items"]
    assert {one["actor"] for one in events if one["action"] == "case.enrol"} == {
        "automatic enrolment"
    }
    verified = json_of(api.send("GET", f"{study}/audit/verify", role="coordinator"))
    assert verified["holds"], verified


def test_a_standard_series_may_come_last(both_archive_apis: Api, lumbar: Lumbar) -> None:
    study = new_study(both_archive_apis)
    note_reconstructions(both_archive_apis, lumbar)
    automatic(both_archive_apis, study)
    both_archive_apis.add(
        900,
        series_instance_uid=lumbar.uid("standard", "sag_t1"),
        study_instance_uid=lumbar.study_uid(),
    )
    row = both_archive_apis.must_claim()
    assert both_archive_apis.post(f"/{row['id']}/outcome", skipped(row)).status_code == 200
    watcher(both_archive_apis.app).close()
    assert len(cases_of(both_archive_apis, study)["C001"]["series"]) == 8


def test_what_goes_wrong_there_is_no_matter_of_the_ledger(
    api_sqlite_template: Path, tmp_path: Path, api_environment: None
) -> None:
    """The archive is away: the outcome is stored and answered all the same."""
    path = tmp_path / "halfscan.db"
    path.write_bytes(api_sqlite_template.read_bytes())
    api = make_api(f"sqlite:///{path}", orthanc_url="http://127.0.0.1:9")
    study = new_study(api)
    automatic(api, study)
    api.add(1)
    row = api.must_claim()
    answer = api.post(f"/{row['id']}/outcome", done(row))
    assert (answer.status_code, json_of(answer)["status"]) == (200, "done")
    watcher(api.app).close()
    assert cases_of(api, study) == {}
    # The server is ending: nothing starts any more, and nothing breaks.
    api.add(2)
    row = api.must_claim()
    assert api.post(f"/{row['id']}/outcome", done(row)).status_code == 200
    archive.close(api.app)
    api.database.dispose()


# --- one series by hand -------------------------------------------------------------------------


def put(api: Api, study: str, place: str, **body: Any) -> Any:
    return api.send("PUT", f"{study}/cases/C1/series/{place}", body, role="coordinator")


@pytest.fixture
def by_hand(archive_api: Api) -> str:
    study = new_study(archive_api)
    case = {"pseudonym": "C1"}
    answer = archive_api.send("POST", f"{study}/cases", case, role="coordinator")
    assert answer.status_code == 201, answer.text
    return study


def test_a_series_by_hand_is_looked_up(archive_api: Api, lumbar: Lumbar, by_hand: str) -> None:
    """Its headers fill in what the caller leaves out, and nothing else."""
    uid = lumbar.uid("standard", "sag_t2")
    body = {"series_instance_uid": uid, "study_instance_uid": lumbar.study_uid()}
    answer = put(archive_api, by_hand, "standard/sag_t2", **body)
    assert answer.status_code == 200, answer.text
    [one] = json_of(answer)["series"]
    assert one["scan_time_s"] == SCAN_TIMES["sag_t2"][0]
    assert one["parameters"]["te_ms"] == 92
    assert one["orthanc_series_id"]
    sent = {"scan_time_s": 99.5, "parameters": {"te_ms": 1}}
    [one] = json_of(put(archive_api, by_hand, "standard/sag_t2", **body, **sent))["series"]
    assert (one["scan_time_s"], one["parameters"]) == (99.5, {"te_ms": 1})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"series_instance_uid": "1.2.3"}, "the archive does not hold the series 1.2.3"),
        ({"study_instance_uid": "1.2"}, "got study_instance_uid 1.2"),
        ({"orthanc_series_id": "-".join(["0" * 8] * 5)}, "got orthanc_series_id 00000000-"),
    ],
)
def test_a_series_that_the_archive_lacks_is_refused(
    archive_api: Api, lumbar: Lumbar, by_hand: str, changes: dict[str, str], said: str
) -> None:
    uid = lumbar.uid("standard", "sag_t2")
    body = {"series_instance_uid": uid, "study_instance_uid": lumbar.study_uid(), **changes}
    answer = put(archive_api, by_hand, "standard/sag_t2", **body)
    assert (answer.status_code, said in json_of(answer)["detail"]) == (409, True), answer.text
    case = {"pseudonym": "C2", "series": [{"arm": "standard", "sequence": "sag_t2", **body}]}
    answer = archive_api.send("POST", f"{by_hand}/cases", case, role="coordinator")
    assert (answer.status_code, said in json_of(answer)["detail"]) == (409, True), answer.text
    assert list(cases_of(archive_api, by_hand)) == ["C1"]


def test_what_a_network_made_is_no_reference(
    archive_api: Api, lumbar: Lumbar, by_hand: str
) -> None:
    """The headers tell it, also where another ledger knows the reconstruction."""
    uid = lumbar.uid("accelerated", "sag_t2")
    body = {"series_instance_uid": uid, "study_instance_uid": lumbar.study_uid()}
    answer = put(archive_api, by_hand, "standard/sag_t2", **body)
    assert answer.status_code == 409, answer.text
    assert "must hold series as scanned" in json_of(answer)["detail"]
    assert put(archive_api, by_hand, "accelerated/sag_t2", **body).status_code == 200


def test_a_series_that_readers_could_not_see_is_refused(
    archive_api: Api, lumbar: Lumbar, by_hand: str
) -> None:
    uid = lumbar.uid("standard", "sag_t2")
    study_uid = stored(lumbar, [uid], no_position)
    found = httpx.get(f"{lumbar.orthanc_url}/dicom-web/studies/{study_uid}/series").json()
    body = {
        "series_instance_uid": found[0]["0020000E"]["Value"][0],
        "study_instance_uid": study_uid,
    }
    answer = put(archive_api, by_hand, "standard/sag_t2", **body)
    assert answer.status_code == 409, answer.text
    assert "cannot be shown to readers" in json_of(answer)["detail"]


def test_an_archive_that_is_away_is_said(
    api_sqlite_template: Path, tmp_path: Path, api_environment: None
) -> None:
    path = tmp_path / "halfscan.db"
    shutil.copy(api_sqlite_template, path)
    api = make_api(f"sqlite:///{path}", orthanc_url="http://127.0.0.1:9")
    study = new_study(api)
    api.send("POST", f"{study}/cases", {"pseudonym": "C1"}, role="coordinator")
    body = {"series_instance_uid": "1.2.3", "study_instance_uid": "1.2"}
    answer = put(api, study, "standard/sag_t2", **body)
    assert (answer.status_code, json_of(answer)["title"]) == (503, "Archive unavailable")
    watcher(api.app).close()
    archive.close(api.app)
    api.database.dispose()


def no_position(dataset: Dataset) -> None:
    del dataset.ImagePositionPatient


# --- headers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def header(small_exam: dict[str, list[Path]]) -> Dataset:
    """A sagittal T2 header."""
    [files] = [files for name, files in small_exam.items() if name == "standard/t2_tse_sag"]
    return dcmread(files[0], stop_before_pixels=True)


def facts(header: Dataset, **changes: Any) -> Any:
    changed = copy.deepcopy(header)
    for keyword, value in changes.items():
        if value is None:
            del changed[keyword]
        else:
            setattr(changed, keyword, value)
    return read_facts([changed.to_json_dict()])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "sagittal T2"),
        ({"ScanOptions": ["FS"]}, "sagittal T2, fat-suppressed"),
        ({"ScanOptions": ["FAST_GEMS", "FS", "PFP"]}, "sagittal T2, fat-suppressed"),
        ({"InversionTime": "160", "EchoTime": "45"}, "sagittal T2, fat-suppressed"),
        ({"RepetitionTime": "621", "EchoTime": "9.2"}, "sagittal T1"),
        ({"RepetitionTime": "2000", "EchoTime": "12", "InversionTime": "860"}, "sagittal T1"),
        ({"RepetitionTime": "3000", "EchoTime": "30"}, "sagittal PD"),
        ({"ImageType": ["DERIVED", "PRIMARY", "W", "WATER"]}, "sagittal T2, fat-suppressed"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "transverse T2"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.906, 0.423]}, "transverse T2"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "coronal T2"),
        ({"RepetitionTime": "9000", "InversionTime": "2500"}, "None"),
        ({"ScanningSequence": ["GR"]}, "None"),
        ({"RepetitionTime": None}, "None"),
        ({"RepetitionTime": "1400"}, "None"),
    ],
)
def test_the_kind_of_a_series(header: Dataset, changes: dict[str, Any], kind: str) -> None:
    assert str(facts(header, **changes).kind) == kind


@pytest.mark.parametrize(
    ("maker", "creator", "tag", "value", "seconds"),
    [
        ("SIEMENS", "SIEMENS MR HEADER", (0x0051, 0x0A), "TA 01:17", 77),
        ("SIEMENS", "SIEMENS MR HEADER", (0x0051, 0x0A), "TA 02:03.50", 123.5),
        ("SIEMENS", "SIEMENS MR HEADER", (0x0051, 0x0A), "TA long", None),
        ("GE MEDICAL SYSTEMS", "GEMS_ACQU_01", (0x0019, 0x5A), 77_000_000.0, 77),
        ("Philips", "Philips MR Imaging DD 001", (0x2005, 0x33), 77.0, 77),
        ("Somebody", "SOMEBODY", (0x0051, 0x0A), "TA 01:17", None),
    ],
)
def test_the_scan_time_of_a_vendor(
    header: Dataset,
    maker: str,
    creator: str,
    tag: tuple[int, int],
    value: object,
    seconds: float | None,
) -> None:
    """Its own element, in whatever block it stands; nothing where it is not known."""
    changed = copy.deepcopy(header)
    del changed.AcquisitionDuration
    changed.Manufacturer = maker
    changed.private_block(tag[0], "ANOTHER", create=True).add_new(1, "LO", "x")
    block = changed.private_block(tag[0], creator, create=True)
    block.add_new(tag[1], "LO" if isinstance(value, str) else "FL", value)
    assert scan_time(changed.to_json_dict()) == seconds


def test_the_scan_time_of_the_standard(header: Dataset) -> None:
    changed = copy.deepcopy(header)
    changed.AcquisitionDuration = 77.0
    assert scan_time(changed.to_json_dict()) == 77
    changed.Manufacturer, changed.AcquisitionDuration = "UIH", 77_000.0
    assert scan_time(changed.to_json_dict()) == 77
    del changed.AcquisitionDuration
    assert scan_time(changed.to_json_dict()) is None


def test_the_sequences_of_the_reference_study_are_told_by_name() -> None:
    found = {str(kind): name for kind, name in sequences_of(template("tang2024")).items()}
    assert found == {
        "sagittal T1": "sag_t1",
        "sagittal T2": "sag_t2",
        "sagittal T2, fat-suppressed": "sag_t2_fs",
        "transverse T2": "tra_t2",
    }
