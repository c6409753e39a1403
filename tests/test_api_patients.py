"""Two patients with the same UIDs: each reader, ruler and case gets the images of its own."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from api_support import Api, done, json_of, series
from blinded_support import ARMS, BlindedStudy, Lumbar, start_blinded
from dicom_maker import made_uid
from halfscan_api.archive import Archive, ImagesMissing, SeriesIdentity
from halfscan_api.blinded.source import Frame, SourceCache, SourceSeries
from halfscan_api.measurements.geometry import Coordinates, Geometry, Kind
from halfscan_api.measurements.regions import RecentImages, Ruler
from halfscan_api.studies.cases import find_reconstruction
from halfscan_api.studies.tables import CaseSeries
from test_api_blinded import pixels
from test_api_enrolment import cases_of, enrol, new_study

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

FIRST, SECOND = "PATIENT-1", "PATIENT-2"


@dataclass
class Examination:
    """A study with one sequence in both arms; the same name gives the same UIDs.

    Attributes
    ----------
    brightness : int
        Of every pixel: tells whose image it is.
    """

    lumbar: Lumbar
    patient: str
    brightness: int
    name: str = "examination"

    @property
    def study_uid(self) -> str:
        return made_uid(self.name)

    def uid(self, arm: str) -> str:
        return made_uid(self.name, arm)

    def store(self, *arms: str, study: str = "", **attributes: str) -> "Examination":
        for arm in arms or ARMS:
            datasets = self.lumbar.datasets(self.lumbar.uid(arm, "sag_t2"))
            for number, dataset in enumerate(datasets):
                dataset.PatientID = self.patient
                dataset.StudyInstanceUID = study or self.study_uid
                dataset.SeriesInstanceUID = self.uid(arm)
                dataset.SOPInstanceUID = made_uid(self.name, arm, number)
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
                dataset.PixelData = np.full_like(dataset.pixel_array, self.brightness).tobytes()
                for keyword, value in attributes.items():
                    setattr(dataset, keyword, value)
            self.lumbar.store(datasets)
        return self

    def orthanc_id(self, arm: str) -> str:
        """Give what Orthanc calls a series, by its patient."""
        query = {"PatientID": self.patient, "SeriesInstanceUID": self.uid(arm)}
        body = {"Level": "Series", "Query": query}
        [name] = httpx.post(f"{self.lumbar.orthanc_url}/tools/find", json=body, timeout=60).json()
        return str(name)

    def identity(self, arm: str, *, exact: bool = True) -> SeriesIdentity:
        known = self.orthanc_id(arm) if exact else None
        return SeriesIdentity(self.uid(arm), self.study_uid, known)

    def body(self, arm: str, **more: str) -> dict[str, Any]:
        return {
            "arm": arm,
            "sequence": "sag_t2",
            "series_instance_uid": self.uid(arm),
            "study_instance_uid": self.study_uid,
            **more,
        }

    def remove(self, arm: str) -> None:
        url = f"{self.lumbar.orthanc_url}/series/{self.orthanc_id(arm)}"
        httpx.delete(url, timeout=60).raise_for_status()


@pytest.fixture
def first(lumbar: Lumbar) -> Examination:
    return Examination(lumbar, FIRST, 100)


@pytest.fixture
def second(lumbar: Lumbar) -> Examination:
    return Examination(lumbar, SECOND, 200)


def brightness(viewer: Any) -> int:
    """Give what a reader sees."""
    header = viewer.metadata("sag_t2")[0]
    values = np.unique(pixels(viewer, viewer.instance_path("sag_t2"), header))
    assert len(values) == 1
    return int(values[0])


# --- the archive --------------------------------------------------------------------------------


def test_images_are_those_of_the_patient(first: Examination, second: Examination) -> None:
    first.store()
    second.store()
    cache, ruler = SourceCache(), Ruler()
    points = [[5.0, 5.0], [8.0, 5.0]]
    circle = Geometry(Kind.CIRCLE, Coordinates.IMAGE, points)
    with closing(Archive(first.lumbar.orthanc_url)) as archive:
        for owner in (first, second, first):
            source = cache.get(archive, owner.identity("standard"))
            for frame in source.frames:
                assert set(np.unique(source.stored(frame))) == {owner.brightness}
            measured = ruler.measure(circle, source, source.frames[0])
            assert measured.mean == owner.brightness


def test_images_that_were_read_last_are_kept_and_no_more(first: Examination) -> None:
    first.store()
    read = []
    with closing(Archive(first.lumbar.orthanc_url)) as archive:
        source = SourceCache().get(archive, first.identity("standard"))

    def pixels_of(_: SourceSeries, frame: Frame) -> Any:
        read.append(frame.key)
        return np.zeros((1, 1))

    images = RecentImages(pixels_of, size=2)
    a, b, c = source.frames[:3]
    for frame in (a, a, b, a, c, a, b):
        images.get(source, frame)
    assert read == [one.key for one in (a, b, c, b)]


def test_where_the_patient_is_not_known_nobody_is_shown(
    first: Examination, second: Examination
) -> None:
    first.store()
    with closing(Archive(first.lumbar.orthanc_url)) as archive:
        loose = first.identity("standard", exact=False)
        held = archive.series(loose)
        assert held.orthanc_id == first.orthanc_id("standard")
        second.store()
        with pytest.raises(ImagesMissing, match="under several patients"):
            archive.series(loose)
        assert archive.series(first.identity("standard")) == held


def test_another_patients_images_do_not_stand_in(first: Examination, second: Examination) -> None:
    first.store()
    exact = first.identity("standard")
    second.store()
    first.remove("standard")
    message = "under another patient than before"
    archive = Archive(first.lumbar.orthanc_url)
    with closing(archive), pytest.raises(ImagesMissing, match=message):
        archive.series(exact)


def test_a_uid_that_stands_in_two_studies_is_no_obstacle(
    first: Examination, second: Examination
) -> None:
    """One SeriesInstanceUID in two studies: DICOMweb finds neither."""
    first.store()
    second.store(study=made_uid("another study"))
    with closing(Archive(first.lumbar.orthanc_url)) as archive:
        source = SourceCache().get(archive, first.identity("standard", exact=False))
        assert set(np.unique(source.stored(source.frames[0]))) == {first.brightness}


# --- readers ------------------------------------------------------------------------------------


def test_a_reader_sees_the_patient_that_was_enrolled(
    archive_api: Api, lumbar: Lumbar, first: Examination, second: Examination
) -> None:
    first.store()
    body = [first.body(arm) for arm in ARMS]
    viewer = BlindedStudy(start_blinded(archive_api, lumbar, body, ("sag_t2",)), lumbar).open()
    second.store()
    assert brightness(viewer) == first.brightness
    with archive_api.database.write() as session:
        for row in session.query(CaseSeries):
            row.orthanc_series_id = None  # as enrolled while the API knew no archive
    refused = viewer.ask(f"{viewer.series_path('sag_t2')}/metadata")
    assert refused.status_code == 503
    assert "under several patients" in json_of(refused)["detail"]
    for arm in ARMS:
        second.remove(arm)
    assert brightness(viewer) == first.brightness


def test_after_a_patient_id_was_corrected_the_series_is_enrolled_anew(
    archive_api: Api, lumbar: Lumbar, first: Examination, second: Examination
) -> None:
    """Orthanc then holds the same UIDs under the right PatientID: nobody takes that for granted."""
    first.store()
    body = [first.body(arm) for arm in ARMS]
    play = start_blinded(archive_api, lumbar, body, ("sag_t2",))
    viewer = BlindedStudy(play, lumbar).open()
    second.store()
    for arm in ARMS:
        first.remove(arm)
    refused = viewer.ask("/instances")
    assert refused.status_code == 503
    assert "under another patient than before" in json_of(refused)["detail"]
    for arm in ARMS:
        sent = {key: value for key, value in second.body(arm).items() if "uid" in key}
        play.run("PUT", f"/cases/P01/series/{arm}/sag_t2", sent)
    assert brightness(viewer) == second.brightness


# --- enrolment ----------------------------------------------------------------------------------


def test_by_hand_the_patient_is_named(
    archive_api: Api, lumbar: Lumbar, first: Examination, second: Examination
) -> None:
    first.store()
    second.store()
    study = new_study(archive_api)
    case = {"pseudonym": "C1", "series": [second.body("standard")]}
    refused = archive_api.send("POST", f"{study}/cases", case, role="coordinator")
    assert refused.status_code == 409
    detail = json_of(refused)["detail"]
    names = sorted([first.orthanc_id("standard"), second.orthanc_id("standard")])
    assert f"under 2 patients: orthanc_series_id must be one of {', '.join(names)}" in detail
    named = second.body("standard", orthanc_series_id=second.orthanc_id("standard"))
    case = {"pseudonym": "C1", "series": [named]}
    answer = archive_api.send("POST", f"{study}/cases", case, role="coordinator")
    assert answer.status_code == 201, answer.text
    [row] = json_of(answer)["series"]
    assert row["orthanc_series_id"] == second.orthanc_id("standard")


def test_what_could_be_enrolled_for_two_patients_is_left_to_a_person(
    archive_api: Api, first: Examination, second: Examination
) -> None:
    first.store()
    second.store()
    study = new_study(archive_api)
    made = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    assert made["cases"] == []
    reasons = [one["reason"] for one in made["left_out"]]
    assert reasons == ["the archive holds its UID under another patient too: enrol one by hand"] * 4


def test_a_pair_is_of_one_patient(
    archive_api: Api, first: Examination, second: Examination
) -> None:
    """The standard series of one and the derived one of the other are no pair."""
    first.store("standard")
    second.store("accelerated")
    study = new_study(archive_api)
    made = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    assert made["cases"] == []
    assert {one["reason"] for one in made["left_out"]} == {
        "there is no derived series of sag_t2",
        "there is no standard series of sag_t2",
    }
    # Both have the standard series, one has the derived one.
    second.store("standard")
    made = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    [case] = cases_of(archive_api, study).values()
    assert {one["orthanc_series_id"] for one in case["series"]} == {
        second.orthanc_id(arm) for arm in ARMS
    }


def test_a_patient_who_comes_later_changes_no_case(
    archive_api: Api, first: Examination, second: Examination
) -> None:
    first.store()
    study = new_study(archive_api)
    enrol(archive_api, study, study_instance_uids=[first.study_uid])
    before = cases_of(archive_api, study)
    second.store()
    again = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    assert (again["cases"], again["unchanged"]) == ([], 1)
    assert {one["reason"] for one in again["left_out"]} == {
        "the case C001 has a series of this UID from another patient: correct it by hand"
    }
    assert cases_of(archive_api, study) == before
    with archive_api.database.write() as session:
        for row in session.query(CaseSeries):
            row.orthanc_series_id = None
    again = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    assert (again["cases"], again["unchanged"]) == ([], 0)
    assert "of which of two patients is not written down" in str(again["left_out"])


@pytest.mark.parametrize(
    ("patient", "attributes", "paired"),
    [
        (FIRST, {}, True),
        (FIRST.lower(), {}, False),  # Orthanc searches for a PatientID in any case
        (FIRST, {"PatientBirthDate": "19010101"}, False),
        (FIRST, {"PatientSex": "F"}, False),
    ],
)
def test_a_days_other_study_is_of_the_same_person(
    archive_api: Api,
    lumbar: Lumbar,
    first: Examination,
    patient: str,
    attributes: dict[str, str],
    paired: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The derived series lies in another study of the day."""
    first.store("standard", PatientBirthDate="19700101", PatientSex="M")
    other = Examination(lumbar, patient, 150, name="later that day")
    known = {"PatientBirthDate": "19700101", "PatientSex": "M"}
    other.store("accelerated", **{**known, **attributes})
    study = new_study(archive_api)
    made = enrol(archive_api, study, study_instance_uids=[first.study_uid])
    assert len(made["cases"]) == (1 if paired else 0), made["left_out"]
    if attributes:
        assert "its PatientID is that of another person too" in str(made["left_out"])


def test_the_ledger_knows_the_patients_apart(
    archive_api: Api, first: Examination, second: Examination
) -> None:
    """The source of one patient's derived series is not that of the other's."""
    first.store("standard")
    second.store("standard")
    source = first.identity("standard")
    archive_api.add(
        1,
        series_instance_uid=source.series_instance_uid,
        study_instance_uid=source.study_instance_uid,
        orthanc_series_id=source.orthanc_id,
    )
    row = archive_api.must_claim()
    assert archive_api.post(f"/{row['id']}/outcome", done(row)).status_code == 200
    made = enrol(archive_api, new_study(archive_api), study_instance_uids=[first.study_uid])
    assert sorted(one["reason"] for one in made["left_out"]) == [
        "it is the source of a derived series, which stands for it",
        "there is no derived series of sag_t2",
    ]


def test_the_reconstruction_of_a_series_is_that_of_its_patient(sqlite_api: Api) -> None:
    names = [series(number)["orthanc_series_id"] for number in (901, 902)]
    made = {}
    for number, name in enumerate(names, 1):
        sqlite_api.add(number)
        row = sqlite_api.must_claim()
        outcome = done(row, derived_orthanc_series_id=name)
        assert sqlite_api.post(f"/{row['id']}/outcome", outcome).status_code == 200
        made[name] = row["id"]
    with sqlite_api.database.read() as session:
        for name in (*names, None, "another archive's"):
            reconstruction = find_reconstruction(session, "2.25.4242", name)
            assert reconstruction is not None
            assert reconstruction.id == made.get(str(name), made[names[1]])
