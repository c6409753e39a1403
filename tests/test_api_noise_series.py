"""SNR by a repeated series and by a noise map: measured on archived pixels, seen by no reader."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from api_study import Play, start_study, uid
from api_support import Api, done, json_of, make_api
from blinded_support import ARMS, BlindedStudy, Lumbar, Viewer, series_body, start_blinded

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

Values = np.ndarray[Any, np.dtype[np.float64]]
SIGNAL, SIGMA = 600.0, 25.0
PLACE = (40.5, 60.5, 9.0)
AIR = (12.0, 12.0, 5.0)


def circle(column: float, row: float, radius: float) -> dict[str, Any]:
    points = [[column, row], [column + radius, row]]
    return {"kind": "circle", "coordinates": "image", "points": points}


def in_circle(values: Values, place: tuple[float, float, float]) -> Values:
    y, x = np.indices(values.shape) + 0.5
    inside: Values = values[(x - place[0]) ** 2 + (y - place[1]) ** 2 <= place[2] ** 2 + 1e-9]
    return inside


def store(
    lumbar: Lumbar,
    draw: Callable[[int, tuple[int, int]], Values],
    change: Callable[[Dataset], None] = lambda _: None,
) -> tuple[str, list[Values]]:
    """Store a series like the standard one with drawn pixels; its UID and the pixels stored."""
    series_uid, made = generate_uid(), []
    datasets = lumbar.datasets(lumbar.uid("standard", "sag_t2"))
    for index, dataset in enumerate(datasets):
        pixels = np.round(draw(index, (dataset.Rows, dataset.Columns))).astype(np.uint16)
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = pixels.tobytes()
        for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            if keyword in dataset:
                del dataset[keyword]
        change(dataset)
        made.append(pixels.astype(float))
    lumbar.store(datasets)
    return series_uid, made


def noisy(seed: int, scale: float = 1.0) -> Callable[[int, tuple[int, int]], Values]:
    """The same thing in every acquisition, a slope across it, and noise of its own."""

    def draw(index: int, shape: tuple[int, int]) -> Values:
        rng = np.random.default_rng([seed, index])
        truth = SIGNAL + 100 * np.linspace(-1, 1, shape[1])
        found: Values = (truth + rng.normal(0, SIGMA, shape)) / scale
        return found

    return draw


def constant(value: float) -> Callable[[int, tuple[int, int]], Values]:
    return lambda _, shape: np.full(shape, value)


def put(
    study: BlindedStudy | Play,
    series_uid: str,
    role: str = "repeat",
    arm: str = "standard",
    study_uid: str = "1.2.3",
) -> dict[str, Any]:
    play = study if isinstance(study, Play) else study.play
    if isinstance(study, BlindedStudy):
        study_uid = study.lumbar.study_uid()
    body = {"series_instance_uid": series_uid, "study_instance_uid": study_uid}
    return play.run("PUT", f"/cases/P01/noise-series/{arm}/sag_t2/{role}", body)


def measure(viewer: Viewer) -> None:
    instance = viewer.metadata("sag_t2")[1].SOPInstanceUID
    regions = [
        {
            "sequence": "sag_t2",
            "region": name,
            "sop_instance_uid": instance,
            "geometry": circle(*place),
        }
        for name, place in (("csf", PLACE), ("background", AIR))
    ]
    answer = viewer.reading.send("POST", "/measurements", {"measurements": regions})
    assert answer.status_code == 200, answer.text


def noise(study: BlindedStudy, **body: object) -> dict[str, Any]:
    return study.play.run("POST", "/measurements/noise", body)


def begin(api: Api, lumbar: Lumbar, standard: str) -> BlindedStudy:
    series = [
        one | ({"series_instance_uid": standard} if one["arm"] == "standard" else {})
        for one in series_body(lumbar)
        if one["sequence"] == "sag_t2"
    ]
    return BlindedStudy(start_blinded(api, lumbar, series, sequences=("sag_t2",)), lumbar)


def snr_table(study: BlindedStudy, kind: str = "json") -> Any:
    headers = {"Authorization": f"Bearer {study.play.api.tokens['statistician']}"}
    url = f"{study.play.url}/statistics/snr?format={kind}"
    answer = study.play.api.client.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    return json_of(answer) if kind == "json" else answer.text


def rows(study: BlindedStudy, kind: str = "difference") -> list[dict[str, Any]]:
    return [row for row in snr_table(study)["rows"] if row["kind"] == kind]


@pytest.fixture
def scanned(archive_api: Api, lumbar: Lumbar) -> tuple[BlindedStudy, list[Values]]:
    """A case whose standard series has known noise; read in both arms, with regions."""
    return read(archive_api, lumbar)


def read(api: Api, lumbar: Lumbar) -> tuple[BlindedStudy, list[Values]]:
    standard, pixels = store(lumbar, noisy(1))
    study = begin(api, lumbar, standard)
    study.both_arms(measure)
    return study, pixels


def entry(study: BlindedStudy, name: str) -> dict[str, Any]:
    """What the newest event says of the region's noise by a method."""
    event = [one for one in study.play.events() if one["action"] == "reading.noise"][-1]
    found: dict[str, Any] = event["new"]["measurements"]["standard"]["sag_t2"]["csf"]["noise"][name]
    return found


# --- what is measured ---------------------------------------------------------------------------


def test_both_methods_are_those_of_the_archived_pixels(
    both_archive_apis: Api, lumbar: Lumbar
) -> None:
    study, first = read(both_archive_apis, lumbar)
    repeat, second = store(lumbar, noisy(2))
    noise_map, _ = store(lumbar, constant(SIGMA))
    put(study, repeat)
    put(study, noise_map, "noise_map")
    assert noise(study) == {"measured": 2, "unchanged": 0, "left_out": []}
    one, other = (in_circle(pixels[1], PLACE) for pixels in (first, second))
    expected = ((one + other).mean() / 2) / ((one - other).std(ddof=1) / np.sqrt(2))
    found = entry(study, "difference")
    assert found["snr"] == pytest.approx(expected)
    # 253 pixels: the SD of normal noise lies within 3 x 4.5 % of its own.
    assert found["noise"] == pytest.approx(SIGMA, rel=0.135)
    assert found["n_pixels"] == one.size
    assert found["series_instance_uid"] == repeat
    by_map = entry(study, "noise_map")
    assert by_map["snr"] == pytest.approx(one.mean() / SIGMA)
    assert noise(study) == {"measured": 0, "unchanged": 2, "left_out": []}
    assert study.play.verify()["holds"], study.play.verify()


def test_another_slope_of_the_repeat_is_no_noise(
    scanned: tuple[BlindedStudy, list[Values]],
) -> None:
    """A repeat stored in steps of 2 is the same thing as one stored in steps of 1."""
    study, first = scanned

    def halved(dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "2", "0", "US"

    repeat, stored = store(study.lumbar, noisy(2, scale=2), halved)
    put(study, repeat)
    noise(study)
    one, other = in_circle(first[1], PLACE), 2 * in_circle(stored[1], PLACE)
    expected = ((one + other).mean() / 2) / ((one - other).std(ddof=1) / np.sqrt(2))
    assert entry(study, "difference")["snr"] == pytest.approx(expected)


def _elsewhere(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4712"


def _moved(dataset: Dataset) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, float(z) + 0.4]


def _coarser(dataset: Dataset) -> None:
    dataset.PixelSpacing = [float(value) * 1.01 for value in dataset.PixelSpacing]


@pytest.mark.parametrize("change", [_elsewhere, _moved, _coarser])
def test_a_repeat_on_other_pixels_is_left_out(
    scanned: tuple[BlindedStudy, list[Values]], change: Callable[[Dataset], None]
) -> None:
    study, _ = scanned
    repeat, _ = store(study.lumbar, noisy(2), change)
    put(study, repeat)
    answer = noise(study)
    [left] = answer["left_out"]
    assert (answer["measured"], left["method"], left["arm"]) == (0, "difference", "standard")
    assert "has no image on the same pixels" in left["reason"]
    assert {row["method"] for row in rows(study)} == {"background"}


def test_copies_and_empty_maps_have_no_noise(scanned: tuple[BlindedStudy, list[Values]]) -> None:
    study, _ = scanned
    put(study, store(study.lumbar, noisy(1))[0])
    put(study, store(study.lumbar, constant(0))[0], "noise_map")
    reasons = {one["method"]: one["reason"] for one in noise(study)["left_out"]}
    assert reasons == {
        "difference": "the repeat differs nowhere, or by a constant: it is a copy",
        "noise_map": "the noise map is 0 in the region",
    }


def test_what_a_viewer_measured_has_no_place(archive_api: Api, lumbar: Lumbar) -> None:
    standard, _ = store(lumbar, noisy(1))
    study = begin(archive_api, lumbar, standard)
    put(study, store(lumbar, noisy(2))[0])

    def by_viewer(viewer: Viewer) -> None:
        measured = [{"sequence": "sag_t2", "region": "csf", "mean": 600, "sd": 20}]
        viewer.reading.put("measurements", measured)

    study.both_arms(by_viewer)
    [left] = noise(study)["left_out"]
    assert left["reason"] == "the viewer measured the region: its place is not known"


# --- the table ----------------------------------------------------------------------------------


def test_the_methods_stand_beside_each_other_and_nothing_stands_for_nothing(
    scanned: tuple[BlindedStudy, list[Values]],
) -> None:
    study, first = scanned
    table = snr_table(study)
    assert {row["method"] for row in table["rows"] if row["kind"] == "difference"} == {"background"}
    assert "by how the noise is known" not in snr_table(study, "html")
    put(study, store(study.lumbar, noisy(2))[0])
    noise(study)
    found = {(row["method"], row["item"]): row for row in rows(study)}
    shown = found["difference", "csf"]
    assert shown["reference"]["n"] == 1
    assert shown["test"]["n"] == 0
    assert shown["reference"]["mean"] == pytest.approx(entry(study, "difference")["snr"])
    assert shown["difference"]["n"] == 0
    assert shown["adjusted"]["role"] == "exploratory"
    assert not [key for key in found if key[0] == "noise_map"]
    assert [key for key in found if key[0] == "difference"] == [("difference", "csf")]
    background = found["background", "csf"]["reference"]["mean"]
    air, signal = in_circle(first[1], AIR), in_circle(first[1], PLACE)
    assert background == pytest.approx(signal.mean() / air.std(ddof=1))
    page = snr_table(study, "html")
    assert "by how the noise is known" in page
    assert "Difference of two acquisitions" in page
    assert "Noise map</" not in page
    notes = " ".join(snr_table(study)["notes"])
    assert "What this ratio to the background cannot tell" in notes
    assert "Rayleigh" in notes
    assert "SNR by difference" in notes
    assert "SNR by noise map" not in notes
    assert "background" not in snr_table(study)["methods"]


def test_the_size_of_regions_is_reported(scanned: tuple[BlindedStudy, list[Values]]) -> None:
    study, first = scanned
    sizes = {(row["item"], row["arm"]): row for row in rows(study, "size")}
    assert set(sizes) == {(name, arm) for name in ("csf", "background") for arm in ARMS}
    lumbar = study.lumbar
    spacing = [float(v) for v in lumbar.datasets(lumbar.uid("standard", "sag_t2"))[0].PixelSpacing]
    for name, place in (("csf", PLACE), ("background", AIR)):
        one = sizes[name, "standard"]
        assert one["n_pixels"]["mean"] == in_circle(first[1], place).size
        area = np.pi * place[2] ** 2 * spacing[0] * spacing[1]
        assert one["area_mm2"]["mean"] == pytest.approx(area, rel=1e-3)
        assert one["area_mm2"]["n"] == one["area_mm2"]["n_given"] == 1
    page = snr_table(study, "html")
    assert "Size of the regions on" in page


def test_another_repeat_is_measured_anew_and_none_counts_that_was_taken_back(
    scanned: tuple[BlindedStudy, list[Values]],
) -> None:
    study, _ = scanned
    put(study, store(study.lumbar, noisy(2))[0])
    noise(study)
    before = entry(study, "difference")["snr"]
    put(study, store(study.lumbar, noisy(3))[0])
    assert {row["method"] for row in rows(study)} == {"background"}
    assert noise(study)["measured"] == 1
    after = entry(study, "difference")["snr"]
    assert after != before
    [row] = [row for row in rows(study) if row["method"] == "difference"]
    assert row["reference"]["mean"] == pytest.approx(after)
    path = "/cases/P01/noise-series/standard/sag_t2/repeat/withdraw"
    case = study.play.run("POST", path, {"reason": "the patient moved between the two"})
    assert case["noise_series"] == []
    assert {row["method"] for row in rows(study)} == {"background"}
    [event] = [one for one in study.play.events() if one["reason"] and "moved" in one["reason"]]
    assert (event["action"], event["subject"]) == ("case.noise_series", "case/P01")
    assert study.play.verify()["holds"]


def test_a_region_that_moves_takes_its_noise_along(archive_api: Api, lumbar: Lumbar) -> None:
    standard, _ = store(lumbar, noisy(1))
    study = begin(archive_api, lumbar, standard)
    put(study, store(lumbar, noisy(2))[0])
    viewer = study.open(0)
    while study.arm(viewer) != "standard":
        study.complete(viewer)
        study.play.api.clock.advance(29 * 86_400)
        viewer = study.open(1)
    measure(viewer)
    study.complete(viewer)
    assert noise(study)["measured"] == 1
    viewer.reading.show()
    moved = [{"sequence": "sag_t2", "region": "csf", "mean": 500, "sd": 20}]
    answer = viewer.reading.amend(reason="another place", measurements=moved)
    assert answer.status_code == 200, answer.text
    assert {row["method"] for row in rows(study)} == {"background"}
    assert study.play.verify()["holds"]


# --- what a reader sees -------------------------------------------------------------------------


def test_a_reader_sees_nothing_of_it(archive_api: Api, lumbar: Lumbar) -> None:
    """Before, while and after it is measured; neither series, nor values, nor a new version."""
    standard, _ = store(lumbar, noisy(1))
    study = begin(archive_api, lumbar, standard)
    hidden = {"repeat": store(lumbar, noisy(2))[0], "noise_map": store(lumbar, constant(9))[0]}
    for arm in ARMS:
        for role, series_uid in hidden.items():
            if arm == "standard":
                put(study, series_uid, role)

    def seen(viewer: Viewer) -> str:
        measure(viewer)
        reader = f"Bearer {study.play.tokens['r1']}"
        listed = viewer.get(f"/studies/{viewer.study_uid}/series", "application/dicom+json")
        assert len(json.loads(listed.data)) == 1
        shown = json.dumps([viewer.reading.show(), json.loads(listed.data)])
        study.complete(viewer)
        before = viewer.reading.show(), viewer.reading.etag
        noise(study)
        assert (viewer.reading.show(), viewer.reading.etag) == before
        for path in ("/measurements/noise", "/cases/P01", "/statistics/snr", "/export"):
            method = "POST" if path.endswith("noise") else "GET"
            more: dict[str, Any] = {"json": {}} if method == "POST" else {}
            answer = study.play.api.client.open(
                study.play.url + path, method=method, headers={"Authorization": reader}, **more
            )
            assert answer.status_code == 403, path
        return shown + json.dumps(before[0])

    texts = []
    for number in (0, 1):
        texts.append(seen(study.open(number)))
        study.play.api.clock.advance(29 * 86_400)
    for text in texts:
        assert not any(series_uid in text for series_uid in hidden.values())
        assert "difference" not in text
        assert "noise_map" not in text
        assert '"noise_series"' not in text
        keys = {key for one in _measurements(text) for key in one}
        assert keys == {
            *("sequence", "region", "mean", "sd", "area_mm2", "n_pixels", "snr", "source")
        }
    assert {row["method"] for row in rows(study)} == {"background", "difference", "noise_map"}


def _measurements(text: str) -> list[dict[str, Any]]:
    body, _ = json.JSONDecoder().raw_decode(text)
    found: list[dict[str, Any]] = body[0]["answers"]["measurements"]
    assert len(found) == 2
    return found


# --- which series may be one --------------------------------------------------------------------


@pytest.fixture
def play(sqlite_api: Api) -> Play:
    return start_study(
        sqlite_api,
        cases=2,
        sequences=[{"name": "sag_t2", "label": "Sagittal T2", "group": "sagittal"}],
        criteria=[],
    )


def refused(play: Play, path: str, series_uid: str = "1.2.3.4") -> tuple[int, str]:
    body = {"series_instance_uid": series_uid, "study_instance_uid": "1.2.3"}
    answer = play.api.send("PUT", play.url + path, body, role="coordinator")
    return answer.status_code, answer.text


def test_places_and_roles_that_are_none_are_named(play: Play) -> None:
    for path, rule in (
        ("/cases/P01/noise-series/standard/sag_t2/copy", "must be one of repeat, noise_map"),
        ("/cases/P01/noise-series/fast/sag_t2/repeat", "the arm must be one of standard"),
        ("/cases/P01/noise-series/standard/sag_t9/repeat", "the sequence must be one of sag_t2"),
        ("/cases/P09/noise-series/standard/sag_t2/repeat", "there is no case P09"),
    ):
        status, text = refused(play, path)
        assert status == 404
        assert rule in text
    nowhere = "/cases/P01/noise-series/standard/sag_t2/repeat/withdraw"
    answer = play.api.send("POST", play.url + nowhere, {"reason": "a slip"}, role="coordinator")
    assert answer.status_code == 404
    assert "has no series standard/sag_t2/repeat" in answer.text


def test_one_series_stands_for_one_thing(play: Play) -> None:
    path = "/cases/P01/noise-series/standard/sag_t2"
    status, text = refused(play, f"{path}/repeat", uid("small", "P01", "standard", "sag_t2"))
    assert (status, "stands for another" in text) == (409, True)
    put(play, "1.2.3.4")
    assert refused(play, f"{path}/noise_map")[0] == 409
    assert refused(play, "/cases/P02/noise-series/standard/sag_t2/repeat")[0] == 409
    body = {"series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3"}
    url = f"{play.url}/cases/P02/series/standard/sag_t2"
    assert play.api.send("PUT", url, body, role="coordinator").status_code == 409
    assert put(play, "1.2.3.4")["noise_series"][0]["role"] == "repeat"
    assert len([one for one in play.events() if one["action"] == "case.noise_series"]) == 1


def test_a_case_without_the_series_has_no_noise_of_it(play: Play) -> None:
    play.run("POST", "/cases", {"pseudonym": "P07"})
    status, text = refused(play, "/cases/P07/noise-series/standard/sag_t2/repeat")
    assert (status, "has no series standard/sag_t2 yet" in text) == (409, True)


def test_a_repeat_is_made_by_the_network_that_made_its_series(api: Api) -> None:
    """Otherwise the difference would be that of two networks."""
    series = [uid("small", "P01", "accelerated", "sag_t1"), "1.2.3.4"]
    for number, derived in enumerate(series):
        row = api.add(number + 1)
        api.post(
            f"/{row['id']}/outcome", done(api.must_claim(), derived_series_instance_uid=derived)
        )
    play = start_study(api, cases=1)
    path = "/cases/P01/noise-series/{}/sag_t1/repeat"
    status, text = refused(play, path.format("accelerated"), "1.2.3.5")
    assert status == 409
    assert "a repeat must be made as the series that it repeats" in text
    status, text = refused(play, path.format("standard"))
    assert status == 409
    assert "by no network that the ledger knows, got the series 1.2.3.4" in text
    body = {"series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3"}
    made = play.run("PUT", path.format("accelerated"), body)["noise_series"][0]
    assert made["lineage"]["derived_series_instance_uid"] == "1.2.3.4"


def test_an_archive_must_hold_it(archive_api: Api, lumbar: Lumbar) -> None:
    study = begin(archive_api, lumbar, store(lumbar, noisy(1))[0])
    body = {"series_instance_uid": "1.2.3.4", "study_instance_uid": lumbar.study_uid()}
    url = f"{study.play.url}/cases/P01/noise-series/standard/sag_t2/repeat"
    answer = study.play.api.send("PUT", url, body, role="coordinator")
    assert (answer.status_code, "does not hold the series" in answer.text) == (409, True)
    # The reference arm holds series as scanned, and so do their repeats.
    body["series_instance_uid"] = lumbar.uid("accelerated", "sag_t1")
    answer = study.play.api.send("PUT", url, body, role="coordinator")
    assert answer.status_code == 409
    assert "must hold series as scanned" in answer.text


def test_noise_travels_with_the_study(
    scanned: tuple[BlindedStudy, list[Values]], api_sqlite_template: Path, tmp_path: Path
) -> None:
    study, _ = scanned
    put(study, store(study.lumbar, noisy(2))[0])
    noise(study)
    exported = study.play.api.send("GET", f"{study.play.url}/export", role="coordinator").data
    shutil.copy(api_sqlite_template, tmp_path / "other.db")
    other = make_api(f"sqlite:///{tmp_path}/other.db")
    headers = {
        "Authorization": f"Bearer {other.tokens['coordinator']}",
        "Content-Type": "application/json",
    }
    url = "/api/v1/studies/import"
    answer = other.client.post(url, input_stream=io.BytesIO(exported), headers=headers)
    assert answer.status_code == 201, answer.text
    # The address of the copy, under the same name: its table is the same one.
    path = f"/api/v1/studies/{json_of(answer)['study']['id']}"
    found = json_of(other.send("GET", f"{path}/statistics/snr", role="statistician"))
    assert found["rows"] == snr_table(study)["rows"]
    assert {row.get("method") for row in found["rows"]} >= {"background", "difference"}
    assert json_of(other.send("GET", f"{path}/audit/verify", role="coordinator"))["holds"]
    other.database.dispose()
