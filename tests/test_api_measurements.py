"""Measurements by the server: against numpy on the archived pixels of simulated exams."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from api_support import Api, json_of
from blinded_support import (
    ARMS,
    SEQUENCES,
    BlindedStudy,
    Lumbar,
    Viewer,
    series_body,
    start_blinded,
)

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

Values = np.ndarray[Any, np.dtype[np.float64]]


def circle(column: float, row: float, radius: float) -> dict[str, Any]:
    """A circle in the image."""
    points = [[column, row], [column + radius, row]]
    return {"kind": "circle", "coordinates": "image", "points": points}


def ellipse(region: dict[str, Any]) -> dict[str, Any]:
    """A region of the truth: an ellipse in the patient."""
    centre = np.array(region["centre_mm"])
    first = region["half_axes_mm"][0] * np.array(region["first_axis"])
    second = region["half_axes_mm"][1] * np.array(region["second_axis"])
    points = [centre - first, centre + first, centre - second, centre + second]
    return {
        "kind": "ellipse",
        "coordinates": "patient",
        "points": [point.tolist() for point in points],
    }


def region(
    sequence: str, name: str, geometry: dict[str, Any], instance: str | None = None
) -> dict[str, Any]:
    more = {} if instance is None else {"sop_instance_uid": instance}
    return {"sequence": sequence, "region": name, "geometry": geometry, **more}


def in_circle(values: Values, column: float, row: float, radius: float) -> Values:
    y, x = np.indices(values.shape) + 0.5
    inside: Values = values[(x - column) ** 2 + (y - row) ** 2 <= radius**2]
    return inside


def in_ellipse(original: Dataset, truth: dict[str, Any]) -> Values:
    """Pixels inside a true region, from the header of the archive alone."""
    orientation = np.array(original.ImageOrientationPatient, float)
    position = np.array(original.ImagePositionPatient, float)
    rows, columns = np.indices((original.Rows, original.Columns))
    places = (
        position
        + columns[..., None] * float(original.PixelSpacing[1]) * orientation[:3]
        + rows[..., None] * float(original.PixelSpacing[0]) * orientation[3:]
    )
    offsets = places - truth["centre_mm"]
    first = offsets @ np.array(truth["first_axis"]) / truth["half_axes_mm"][0]
    second = offsets @ np.array(truth["second_axis"]) / truth["half_axes_mm"][1]
    inside: Values = original.pixel_array.astype(float)[first**2 + second**2 <= 1]
    return inside


def measure(viewer: Viewer, *regions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    answer = viewer.reading.send("POST", "/measurements", {"measurements": list(regions)})
    assert answer.status_code == 200, answer.text
    return {one["region"]: one for one in json_of(answer)["measurements"]}


def nearest(originals: list[Dataset], truth: dict[str, Any]) -> Dataset:
    def away(one: Dataset) -> float:
        orientation = np.array(one.ImageOrientationPatient, float)
        normal = np.cross(orientation[:3], orientation[3:])
        offset = np.array(truth["centre_mm"]) - np.array(one.ImagePositionPatient, float)
        return abs(float(offset @ normal))

    return min(originals, key=away)


def test_regions_of_the_truth_are_measured_on_the_archived_pixels(blinded: BlindedStudy) -> None:
    viewer, lumbar = blinded.open(), blinded.lumbar
    originals = lumbar.datasets(lumbar.uid(blinded.arm(viewer), "sag_t1"))
    names = ("vertebra_L1", "vertebra_L4", "disc_L3_L4", "csf", "background")
    truths = {name: lumbar.region(name) for name in names}
    found = measure(viewer, *(region("sag_t1", n, ellipse(t)) for n, t in truths.items()))
    noise = in_ellipse(nearest(originals, truths["background"]), truths["background"])
    for name, truth in truths.items():
        inside = in_ellipse(nearest(originals, truth), truth)
        one = found[name]
        assert one["n_pixels"] == inside.size
        assert one["mean"] == pytest.approx(inside.mean())
        assert one["sd"] == pytest.approx(inside.std(ddof=1))
        assert one["area_mm2"] == pytest.approx(truth["area_mm2"], rel=1e-4)
        assert one["source"] == "geometry"
        if name == "background":
            assert one["snr"] is None
        else:
            assert one["snr"] == pytest.approx(inside.mean() / noise.std(ddof=1))
    shown = {one["region"]: one for one in viewer.reading.show()["answers"]["measurements"]}
    assert shown == found


def test_noise_that_is_measured_anew_moves_every_snr(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    instance = viewer.metadata("sag_t2")[1].SOPInstanceUID
    place = region("sag_t2", "csf", circle(40, 60, 4), instance)
    before = measure(viewer, place)
    assert before["csf"]["snr"] is None
    for radius in (3.0, 5.0):
        noise = measure(viewer, region("sag_t2", "background", circle(10, 10, radius), instance))
        [csf] = [
            one
            for one in viewer.reading.show()["answers"]["measurements"]
            if one["region"] == "csf"
        ]
        assert csf["snr"] == pytest.approx(before["csf"]["mean"] / noise["background"]["sd"])


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_each_image_of_a_series_is_measured_as_itself(blinded: BlindedStudy, sequence: str) -> None:
    viewer, lumbar = blinded.open(), blinded.lumbar
    originals = lumbar.datasets(lumbar.uid(blinded.arm(viewer), sequence))
    for header, original in zip(viewer.metadata(sequence), originals, strict=True):
        place = region(sequence, "csf", circle(50.25, 44.5, 6.5), header.SOPInstanceUID)
        inside = in_circle(original.pixel_array.astype(float), 50.25, 44.5, 6.5)
        found = measure(viewer, place)["csf"]
        assert (found["n_pixels"], found["mean"]) == (inside.size, pytest.approx(inside.mean()))


def test_where_it_was_measured_is_kept_under_the_archives_names(both_blinded: BlindedStudy) -> None:
    viewer, lumbar = both_blinded.open(), both_blinded.lumbar
    header = viewer.metadata("sag_t1")[2]
    place = region("sag_t1", "fat", circle(60, 60, 5), header.SOPInstanceUID)
    seen = measure(viewer, place)["fat"]
    assert set(seen) == {
        *("sequence", "region", "mean", "sd", "area_mm2", "n_pixels", "snr", "source")
    }
    original = lumbar.datasets(lumbar.uid(both_blinded.arm(viewer), "sag_t1"))[2]
    [event] = [one for one in both_blinded.play.events() if one["action"] == "reading.save"]
    kept = event["new"]["measurements"][both_blinded.arm(viewer)]["sag_t1"]["fat"]
    assert kept["sop_instance_uid"] == original.SOPInstanceUID
    assert kept["geometry"]["frame_of_reference_uid"] == original.FrameOfReferenceUID
    assert kept["geometry"]["coordinates"] == "patient"
    spacing = float(original.PixelSpacing[0])
    along = np.subtract(kept["geometry"]["points"][1], kept["geometry"]["points"][0])
    np.testing.assert_allclose(
        along, 5 * spacing * np.array(original.ImageOrientationPatient[:3], float), atol=1e-3
    )
    assert both_blinded.play.verify()["holds"]


def changed(lumbar: Lumbar, change: Callable[[Dataset], None]) -> str:
    """Store the standard series once more, changed; gives its SeriesInstanceUID."""
    series_uid = generate_uid()
    datasets = lumbar.datasets(lumbar.uid("standard", "sag_t2"))
    for dataset in datasets:
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        change(dataset)
    lumbar.store(datasets)
    return series_uid


def _signed(dataset: Dataset) -> None:
    values = dataset.pixel_array.astype("<i2") - 1000
    dataset.PixelRepresentation = 1
    dataset.BitsStored, dataset.HighBit = 16, 15
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        del dataset[keyword]
    dataset.PixelData = values.tobytes()


def _rescaled(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "0.5", "-300", "US"


def _scaled_by_slice(dataset: Dataset) -> None:
    dataset.RescaleSlope = str(float(dataset.InstanceNumber))
    dataset.RescaleIntercept, dataset.RescaleType = "0", "US"


@pytest.mark.parametrize("change", [_signed, _rescaled, _scaled_by_slice])
def test_signed_and_rescaled_values(
    archive_api: Api, lumbar: Lumbar, change: Callable[[Dataset], None]
) -> None:
    """The server measures what the viewer shows: with slope and offset where they matter."""
    made = [changed(lumbar, change) for _ in ARMS]
    series = [
        one | {"series_instance_uid": made.pop()}
        for one in series_body(lumbar)
        if one["sequence"] == "sag_t2"
    ]
    play = start_blinded(archive_api, lumbar, series, sequences=("sag_t2",))
    viewer = BlindedStudy(play, lumbar).open()
    assert not made
    for header in viewer.metadata("sag_t2"):
        uid = header.SOPInstanceUID
        [file] = viewer.files(f"{viewer.series_path('sag_t2')}/instances/{uid}")
        slope, offset = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
        expected = in_circle(file.pixel_array * slope + offset, 40, 60, 5)
        found = measure(viewer, region("sag_t2", "csf", circle(40, 60, 5), uid))["csf"]
        assert found["mean"] == pytest.approx(expected.mean())
        assert found["sd"] == pytest.approx(expected.std(ddof=1))
        original = lumbar.datasets(lumbar.uid("standard", "sag_t2"))[file.InstanceNumber - 1]
        true = in_circle(original.pixel_array.astype(float), 40, 60, 5).mean()
        wanted = {
            "_signed": true - 1000,
            "_rescaled": true / 2 - 300,
            "_scaled_by_slice": true * float(original.InstanceNumber),
        }
        assert found["mean"] == pytest.approx(wanted[change.__name__])


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"sequence": "sag_pd"}, "sequence", "must be one of sag_t1, sag_t2"),
        ({"region": "liver"}, "region", "must be one of"),
        ({"sop_instance_uid": "1.2.3"}, "sop_instance_uid", "must be an image of the sequence"),
        ({"geometry": circle(5, 5, 0.3)}, "geometry", "at least 2 pixel centres"),
        ({"geometry": circle(0, 5, 3)}, "geometry", "must lie on the image"),
        (
            {
                "geometry": {
                    "kind": "circle",
                    "coordinates": "patient",
                    "points": [[900, 0, 0], [903, 0, 0]],
                },
                "sop_instance_uid": None,
            },
            "geometry",
            "must lie on a slice of the series",
        ),
    ],
)
def test_a_region_that_cannot_be_is_named(
    blinded: BlindedStudy, change: dict[str, Any], field: str, rule: str
) -> None:
    viewer = blinded.open()
    instance = viewer.metadata("sag_t1")[0].SOPInstanceUID
    good = region("sag_t1", "csf", circle(40, 40, 5), instance)
    body = {"measurements": [good, {**good, "region": "fat", **change}]}
    answer = viewer.reading.send("POST", "/measurements", body)
    assert answer.status_code == 422
    [error] = json_of(answer)["errors"]
    assert error["field"] == f"measurements.1.{field}"
    assert rule in error["detail"]
    assert viewer.reading.show()["answers"]["measurements"] == []


@pytest.mark.parametrize(
    ("geometry", "instance", "rule"),
    [
        (
            {"kind": "circle", "coordinates": "image", "points": [[1, 2, 3], [4, 5, 6]]},
            "1",
            "2 num",
        ),
        ({"kind": "circle", "coordinates": "patient", "points": [[1, 2], [4, 5]]}, "1", "3 num"),
        ({"kind": "ellipse", "coordinates": "image", "points": [[1, 2], [4, 5]]}, "1", "4 points"),
        ({"kind": "polygon", "coordinates": "image", "points": [[1, 2], [4, 5]]}, "1", "3 to 1000"),
        (circle(5, 5, 2), None, "need its sop_instance_uid"),
        ({"kind": "square", "coordinates": "image", "points": [[1, 2], [4, 5]]}, "1", "kind"),
    ],
)
def test_a_malformed_region_is_refused(
    blinded: BlindedStudy, geometry: dict[str, Any], instance: str | None, rule: str
) -> None:
    viewer = blinded.open()
    body = {"measurements": [region("sag_t1", "csf", geometry, instance)]}
    answer = viewer.reading.send("POST", "/measurements", body)
    assert answer.status_code == 422
    assert rule in answer.text


def test_a_measurement_is_a_change_like_any_other(both_blinded: BlindedStudy) -> None:
    """Versions, repeats, other readers, completed readings."""
    viewer, play = both_blinded.open(), both_blinded.play
    play.add_reader("r2")
    instance = viewer.metadata("sag_t1")[0].SOPInstanceUID
    body = {"measurements": [region("sag_t1", "csf", circle(40, 40, 5), instance)]}
    path, etag = f"/readings/{viewer.reading.code}/measurements", viewer.reading.etag
    assert play.ask("r1", "POST", path, body).status_code == 428
    assert play.ask("r1", "POST", path, body, If_Match='"77"').status_code == 412
    assert play.ask("r2", "POST", path, body, If_Match=etag).status_code in {404, 409}
    first = play.ask("r1", "POST", path, body, If_Match=etag, Idempotency_Key="k1")
    again = play.ask("r1", "POST", path, body, If_Match=etag, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.data == first.data
    both_blinded.complete(viewer)
    late = play.ask("r1", "POST", path, body, If_Match=etag, Idempotency_Key="k1")
    assert (late.status_code, late.data) == (200, first.data)
    assert play.ask("r1", "POST", path, body, If_Match=etag).status_code == 404
    # Once another session goes on, not even the values that were measured are given again.
    override = f"/api/v1/sessions/{both_blinded.session(1)}/override"
    reason = {"reason": "the reader leaves"}
    assert play.api.send("POST", override, reason, role="coordinator").status_code == 200
    both_blinded.open(1)
    closed = play.ask("r1", "POST", path, body, If_Match=etag, Idempotency_Key="k1")
    assert (closed.status_code, json_of(closed)["title"]) == (409, "Reading closed")
    assert len([one for one in play.events() if one["action"] == "reading.save"]) == 1
    assert play.verify()["holds"]


# --- the other arm ------------------------------------------------------------------------------


def read_with_regions(blinded: BlindedStudy, names: tuple[str, ...]) -> str:
    """Read the case in its first arm with true regions on sag_t1; gives that arm."""
    viewer = blinded.open()
    measure(
        viewer, *(region("sag_t1", name, ellipse(blinded.lumbar.region(name))) for name in names)
    )
    blinded.complete(viewer)
    return blinded.arm(viewer)


def transfer(blinded: BlindedStudy, **body: object) -> dict[str, Any]:
    return blinded.play.run("POST", "/measurements/transfer", body)


def test_the_same_place_is_measured_on_the_other_arm(both_blinded: BlindedStudy) -> None:
    names = ("vertebra_L2", "background")
    arm = read_with_regions(both_blinded, names)
    other = next(one for one in ARMS if one != arm)
    assert transfer(both_blinded) == {"measured": 2, "unchanged": 0, "left_out": []}
    lumbar = both_blinded.lumbar
    originals = lumbar.datasets(lumbar.uid(other, "sag_t1"))
    [event] = [one for one in both_blinded.play.events() if one["action"] == "reading.transfer"]
    found = event["new"]["measurements"][other]["sag_t1"]
    inside = {
        name: in_ellipse(nearest(originals, lumbar.region(name)), lumbar.region(name))
        for name in names
    }
    for name in names:
        assert found[name]["transferred"] is True
        assert found[name]["mean"] == pytest.approx(inside[name].mean())
        assert found[name]["n_pixels"] == inside[name].size
    snr = inside["vertebra_L2"].mean() / inside["background"].std(ddof=1)
    assert found["vertebra_L2"]["snr"] == pytest.approx(snr)
    assert transfer(both_blinded) == {"measured": 0, "unchanged": 2, "left_out": []}
    assert both_blinded.play.verify()["holds"], both_blinded.play.verify()


def test_the_reader_sees_nothing_of_a_transfer(both_blinded: BlindedStudy) -> None:
    viewer = both_blinded.open()
    measure(viewer, region("sag_t1", "fat", ellipse(both_blinded.lumbar.region("fat"))))
    both_blinded.complete(viewer)
    before, etag = viewer.reading.show(), viewer.reading.etag
    assert transfer(both_blinded, readings=[viewer.reading.code])["measured"] == 1
    assert viewer.reading.show() == before
    assert viewer.reading.etag == etag


def test_an_open_reading_is_not_transferred(blinded: BlindedStudy) -> None:
    viewer = blinded.open()
    measure(viewer, region("sag_t1", "fat", ellipse(blinded.lumbar.region("fat"))))
    assert transfer(blinded) == {"measured": 0, "unchanged": 0, "left_out": []}


def test_without_a_shared_frame_of_reference_nothing_is_transferred(
    archive_api: Api, lumbar: Lumbar
) -> None:
    def elsewhere(dataset: Dataset) -> None:
        dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4711"

    series = [
        {
            "arm": arm,
            "sequence": "sag_t2",
            "series_instance_uid": uid,
            "study_instance_uid": lumbar.study_uid(),
        }
        for arm, uid in zip(
            ARMS, (lumbar.uid("standard", "sag_t2"), changed(lumbar, elsewhere)), strict=True
        )
    ]
    play = start_blinded(archive_api, lumbar, series, sequences=("sag_t2",))
    study = BlindedStudy(play, lumbar)
    viewer = study.open()
    measure(viewer, region("sag_t2", "fat", ellipse(lumbar.region("fat"))))
    study.complete(viewer)
    done = transfer(study)
    [left] = done["left_out"]
    assert done["measured"] == 0
    assert left["reason"] == "the two series do not share a frame of reference"
    assert left["arm"] != study.arm(viewer)
