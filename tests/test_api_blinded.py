"""Blinded DICOMweb: what a viewer gets of an open reading, against the archive itself."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from api_study import DAY
from api_support import Api, json_of
from blinded_support import ARMS, SEQUENCES, BlindedStudy, Lumbar, Viewer, start_blinded
from halfscan_api import multipart

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

OCTETS = 'multipart/related; type="application/octet-stream"'


def pixels(viewer: Viewer, path: str, header: Dataset) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Fetch a frame as a viewer does."""
    answer = viewer.get(f"{path}/frames/1", OCTETS)
    [part] = multipart.parse(answer.data, answer.headers["Content-Type"])
    kind = "<i2" if header.PixelRepresentation else "<u2"
    values = np.frombuffer(part.body, kind).astype(np.int32)
    return values.reshape(header.Rows, header.Columns)


def test_a_viewer_gets_the_study_of_its_reading(both_blinded: BlindedStudy) -> None:
    viewer = both_blinded.open()
    [study] = viewer.get("/studies").get_json()
    assert study["0020000D"]["Value"] == [viewer.study_uid]
    assert study["00100020"]["Value"] == [viewer.reading.code]
    assert study["00201206"]["Value"] == [4]
    assert study["00201208"]["Value"] == [16]
    series = viewer.get(f"{viewer.study_path}/series").get_json()
    assert [one["0008103E"]["Value"][0] for one in series] == [
        "Sagittal T1",
        "Sagittal T2",
        "Sagittal T2, fat-suppressed",
        "Transverse T2",
    ]
    assert [one["0020000E"]["Value"][0] for one in series] == [
        viewer.series_uid(sequence) for sequence in SEQUENCES
    ]
    instances = viewer.get(f"{viewer.series_path('tra_t2')}/instances").get_json()
    assert [one["00200013"]["Value"][0] for one in instances] == [1, 2, 3, 4]
    assert len(viewer.get("/instances").get_json()) == 16
    assert len(viewer.get("/series").get_json()) == 4


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_pixels_and_geometry_are_those_of_the_archive(blinded: BlindedStudy, sequence: str) -> None:
    viewer = blinded.open()
    originals = blinded.lumbar.datasets(blinded.lumbar.uid(blinded.arm(viewer), sequence))
    headers = viewer.metadata(sequence)
    files = viewer.files(viewer.series_path(sequence))
    assert len(headers) == len(files) == len(originals) == 4
    for original, header, file in zip(originals, headers, files, strict=True):
        path = f"{viewer.series_path(sequence)}/instances/{header.SOPInstanceUID}"
        np.testing.assert_array_equal(pixels(viewer, path, header), original.pixel_array)
        np.testing.assert_array_equal(file.pixel_array, original.pixel_array)
        for keyword in (
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
            *("SliceThickness", "SpacingBetweenSlices", "SliceLocation", "Rows", "Columns"),
        ):
            np.testing.assert_allclose(
                np.asarray(header[keyword].value, float),
                np.asarray(original[keyword].value, float),
                atol=1e-6,
                err_msg=keyword,
            )
        del file.PixelData
        assert file.to_json_dict() == header.to_json_dict()


def test_the_window_follows_from_the_pixels_of_both_arms(
    blinded: BlindedStudy, lumbar: Lumbar
) -> None:
    """From those of the arm that is read alone, it would name the arm."""
    viewer = blinded.open()
    for sequence in SEQUENCES:
        files = viewer.files(viewer.series_path(sequence))
        ends = [
            np.percentile(
                [one.pixel_array for one in lumbar.datasets(lumbar.uid(arm, sequence))], (1, 99)
            )
            for arm in ARMS
        ]
        low, high = np.mean(ends, axis=0)
        for file in files:
            assert float(file.WindowCenter) == pytest.approx((low + high) / 2, abs=0.06)
            assert float(file.WindowWidth) == pytest.approx(high - low, abs=0.06)


def test_pictures(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    path = viewer.instance_path("sag_t2", 1)
    header = viewer.metadata("sag_t2")[1]
    values = pixels(viewer, path, header).astype(float)
    centre, width = float(header.WindowCenter), float(header.WindowWidth)
    expected = np.clip((values - centre + 0.5) / (width - 1) + 0.5, 0, 1) * 255
    png = viewer.get(f"{path}/rendered", "image/png")
    assert png.content_type == "image/png"
    np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(png.data))), expected, atol=0.51)
    jpeg = viewer.get(f"{path}/frames/1/rendered?quality=95")
    assert jpeg.content_type == "image/jpeg"
    difference = np.asarray(Image.open(io.BytesIO(jpeg.data)), float) - expected
    assert np.abs(difference).mean() < 3
    windowed = viewer.get(f"{path}/rendered?window=0,1,linear", "image/png")
    shown = np.asarray(Image.open(io.BytesIO(windowed.data)))
    np.testing.assert_array_equal(shown, np.where(values <= -0.5, 0, 255))
    small = viewer.get(f"{path}/rendered?viewport=40,20", "image/png")
    assert Image.open(io.BytesIO(small.data)).size == (20, 20)
    for where in (viewer.study_path, viewer.series_path("sag_t2"), path, f"{path}/frames/1"):
        answer = viewer.get(f"{where}/thumbnail")
        assert max(Image.open(io.BytesIO(answer.data)).size) == 128
    for where, count in ((viewer.study_path, 16), (viewer.series_path("tra_t2"), 4)):
        answer = viewer.get(f"{where}/rendered")
        parts = multipart.parse(answer.data, answer.headers["Content-Type"])
        assert [part.content_type for part in parts] == ["image/jpeg"] * count


@pytest.mark.parametrize(
    "query",
    [
        *("window=1", "window=a,b", "window=1,0.5", "window=nan,5", "window=1,2,linear,4"),
        *("viewport=0,5", "viewport=99999,5", "viewport=5", "quality=0", "quality=101"),
        *("quality=x", "quality=" + "9" * 5000),
    ],
)
def test_a_picture_that_cannot_be_is_refused(blinded: BlindedStudy, query: str) -> None:
    viewer = blinded.open()
    answer = viewer.ask(f"{viewer.instance_path('sag_t1')}/rendered?{query}")
    assert answer.status_code == 422
    assert json_of(answer)["errors"][0]["field"] == query.partition("=")[0]


def test_one_part_for_who_asks_for_one(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    path = viewer.instance_path("sag_t1")
    single = viewer.get(path, "application/dicom")
    assert single.content_type == "application/dicom"
    file = dcmread(io.BytesIO(single.data))
    frame = viewer.get(f"{path}/frames/1", "application/octet-stream")
    assert frame.data == file.PixelData
    assert int(frame.headers["Content-Length"]) == 2 * file.Rows * file.Columns
    assert frame.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/studies", "application/dicom+xml"),
        ("/studies", 'multipart/related; type="application/dicom+xml"'),
        ("{series}/metadata", "text/html"),
        ("{series}", "application/dicom"),
        ("{instance}", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80"),
        ("{instance}/frames/1", 'multipart/related; type="image/jp2"'),
        ("{instance}/rendered", "image/gif"),
        ("{instance}/rendered", "image/jpeg;q=0"),
    ],
)
def test_what_there_is_not_is_not_acceptable(blinded: BlindedStudy, path: str, accept: str) -> None:
    viewer = blinded.open()
    made = path.format(series=viewer.series_path("sag_t1"), instance=viewer.instance_path("sag_t1"))
    answer = viewer.ask(made, accept)
    assert answer.status_code == 406, answer.text
    assert "Accept must allow" in json_of(answer)["detail"]


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "text/html, application/dicom+json;q=0.5",
        'multipart/related; type="application/dicom+xml", application/json',
    ],
)
def test_headers_come_as_dicom_json(blinded: BlindedStudy, accept: str) -> None:
    answer = blinded.open().get("/studies", accept)
    assert answer.content_type == "application/dicom+json"


def test_the_transfer_syntax_may_be_named(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    path = viewer.instance_path("sag_t1")
    viewer.get(f"{path}/frames/1", "multipart/related; type=application/octet-stream")
    for syntax in ("*", "1.2.840.10008.1.2.1"):
        viewer.get(f"{path}/frames/1", f"{OCTETS}; transfer-syntax={syntax}")
        viewer.get(path, f'multipart/related; type="application/dicom"; transfer-syntax={syntax}')


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/studies?PatientID={code}", 1),
        ("/studies?00100020={code}", 1),
        ("/studies?PatientID=HALFSCAN-0011-0001", 0),
        ("/studies?PatientID=*", 1),
        ("/studies?PatientName=blinded*", 1),
        ("/studies?PatientName=HALFSCAN*", 0),
        ("/studies?StudyDate=19991231-20000102", 1),
        ("/studies?StudyDate=20250106", 0),
        ("/studies?StudyInstanceUID={study}", 1),
        ("/studies?StudyInstanceUID=1.2,{study}", 1),
        ("/studies?StudyInstanceUID=1.2", 0),
        ("/studies?ModalitiesInStudy=MR&limit=101&offset=0&fuzzymatching=false", 1),
        ("/studies?ModalitiesInStudy=CT", 0),
        ("/studies?limit=0", 0),
        ("/studies?offset=1", 0),
        ("/studies?includefield=all&includefield=00081030", 1),
        ("/series?Modality=MR&SeriesNumber=2", 1),
        ("/series?SeriesDescription=Sagittal*", 3),
        ("/series?SeriesDescription=*T1", 1),
        ("{study_path}/series?limit=3&offset=2", 2),
        ("/instances?InstanceNumber=1", 4),
        ("{study_path}/instances?SeriesInstanceUID={series}", 4),
    ],
)
def test_searches(blinded: BlindedStudy, path: str, found: int) -> None:
    viewer = blinded.open()
    asked = path.format(
        code=viewer.reading.code,
        study=viewer.study_uid,
        study_path=viewer.study_path,
        series=viewer.series_uid("tra_t2"),
    )
    answer = viewer.ask(asked)
    assert answer.status_code == (200 if found else 204)
    assert len(answer.get_json(silent=True) or []) == found
    assert "Warning" not in answer.headers


def test_what_is_not_searched_for_is_said(blinded: BlindedStudy) -> None:
    answer = blinded.open().get("/studies?EchoTime=80&nonsense=%22%0A&00189073=5")
    assert answer.headers["Warning"] == '299 halfscan "ignored: EchoTime, nonsense, 00189073"'
    assert len(answer.get_json()) == 1
    assert blinded.open().ask("/studies?limit=-1").status_code == 422


# --- who may look -------------------------------------------------------------------------------


def everywhere(viewer: Viewer) -> list[str]:
    series, instance = viewer.series_path("sag_t1"), viewer.instance_path("sag_t1")
    return [
        *("/studies", "/series", "/instances", f"{viewer.study_path}/series"),
        *(f"{viewer.study_path}/instances", f"{series}/instances"),
        *(viewer.study_path, series, instance),
        *(f"{one}/metadata" for one in (viewer.study_path, series, instance)),
        *(f"{one}/rendered" for one in (viewer.study_path, series, instance)),
        *(f"{one}/thumbnail" for one in (viewer.study_path, series, instance)),
        *(f"{instance}/frames/1{kind}" for kind in ("", "/rendered", "/thumbnail")),
    ]


def refusal(answer: Any) -> dict[str, Any]:
    body = json_of(answer)
    del body["instance"], body["request_id"]
    return {"code": answer.status_code, "media_type": answer.content_type, **body}


def test_every_wrong_door_is_the_same(both_blinded: BlindedStudy) -> None:
    """Another reader's reading, nobody's, one that waits, one that is complete: one answer."""
    play = both_blinded.play
    play.add_reader("r2")
    viewer = both_blinded.open()
    paths = everywhere(viewer)
    assert all(viewer.ask(path).status_code == 200 for path in paths)
    waiting = next(item["code"] for item in play.allocation() if item["state"] == "pending")
    home = viewer.images["dicom_web"]
    refused = [refusal(viewer.ask(path, reader="r2")) for path in paths]
    for code in (waiting, "0" * 32, "nonsense", "%27"):
        viewer.images["dicom_web"] = f"/api/v1/blinded/{code}/dicom-web"
        refused += [refusal(viewer.ask(path)) for path in paths]
    viewer.images["dicom_web"] = home
    both_blinded.complete(viewer)
    refused += [refusal(viewer.ask(path)) for path in paths]
    assert all(one == refused[0] for one in refused)
    assert refused[0]["code"] == 404
    assert refused[0]["media_type"] == "application/problem+json"


def test_a_token_of_another_role_gets_nothing(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    for role, token in blinded.play.api.tokens.items():
        headers = {"Authorization": f"Bearer {token}"}
        answer = viewer.ask("/studies", headers=headers)
        assert answer.status_code == (404 if role == "reader" else 403), role
    assert viewer.ask("/studies", headers={"Authorization": ""}).status_code == 401


def test_only_the_readings_own_identifiers_lead_anywhere(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    series, lumbar = viewer.series_path("sag_t1"), blinded.lumbar
    archived = lumbar.uid(blinded.arm(viewer), "sag_t1")
    original = lumbar.datasets(archived)[0].SOPInstanceUID
    foreign = viewer.instance_path("sag_t2").rpartition("/")[2]
    for path in (
        f"/studies/{lumbar.study_uid()}/series",
        f"/studies/{lumbar.study_uid()}/metadata",
        f"{viewer.study_path}/series/{archived}/metadata",
        f"{series}/instances/{original}/metadata",
        f"{series}/instances/{foreign}/metadata",
        f"{series}/instances/{foreign}/frames/1",
        f"{viewer.instance_path('sag_t1')}/frames/2",
        f"{viewer.instance_path('sag_t1')}/frames/1,1",
        f"{viewer.instance_path('sag_t1')}/frames/0",
        "/studies/..%2F..%2Fsystem",
        f"{viewer.study_path}/bulkdata/1",
    ):
        assert viewer.ask(path).status_code == 404, path


def test_identifiers_differ_from_reading_to_reading(both_blinded: BlindedStudy) -> None:
    def look(viewer: Viewer) -> set[str]:
        return {
            str(value)
            for sequence in SEQUENCES
            for header in viewer.metadata(sequence)
            for value in (
                *(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID),
                *(header.FrameOfReferenceUID, header.PatientID),
            )
        }

    first, second = both_blinded.both_arms(look).values()
    assert not first & second
    assert len(first) == 1 + 4 + 16 + 1 + 1


def test_without_an_archive_the_setting_is_named(sqlite_api: Api, lumbar: Lumbar) -> None:
    viewer = BlindedStudy(start_blinded(sqlite_api, lumbar), lumbar).open()
    answer = viewer.ask("/studies")
    assert answer.status_code == 503
    assert "HALFSCAN_API_ORTHANC_URL" in json_of(answer)["detail"]
    assert viewer.ask("/studies", headers={"Authorization": "Bearer x"}).status_code == 401


def test_the_clock_does_not_close_a_reading(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    blinded.play.api.clock.advance(400 * DAY)
    viewer.get("/studies")


def test_a_blinded_image_is_a_valid_object(blinded: BlindedStudy, tmp_path: Path) -> None:
    """Another program (dicom3tools) finds nothing wrong with it."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    viewer = blinded.open()
    for sequence in SEQUENCES:
        [file] = viewer.files(viewer.instance_path(sequence))
        path = tmp_path / f"{sequence}.dcm"
        file.save_as(path, enforce_file_format=True)
        run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "MRImage" in run.stderr
        assert [line for line in run.stderr.splitlines() if line.startswith("Error")] == []
