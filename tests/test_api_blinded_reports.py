"""STOW-RS: structured reports with measurements, built as viewers build them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    FindingSite,
    GraphicTypeValues,
    GraphicTypeValues3D,
    ImageContentItem,
    ImageRegion,
    ImageRegion3D,
    Measurement,
    MeasurementReport,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    RelationshipTypeValues,
    ScoordContentItem,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
)
from pydicom import Dataset, dcmwrite
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid
from werkzeug.test import TestResponse

from api_support import json_of
from blinded_support import BlindedStudy, Viewer
from halfscan_api import multipart

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

Group = PlanarROIMeasurementsAndQualitativeEvaluations
NO_UNITS = codes.UCUM.NoUnits
SIGNAL = CodedConcept("110852", "DCM", "MR signal intensity")
ELLIPSE = np.array([[20.0, 30.0], [40.0, 30.0], [30.0, 25.0], [30.0, 35.0]])


def numbers(mean: float, sd: float, area: float | None = None) -> list[Measurement]:
    """Mean and SD of the signal, as TID 1419 has them: by their derivation."""
    made = [
        Measurement(name=SIGNAL, value=mean, unit=NO_UNITS, derivation=codes.SCT.Mean),
        Measurement(name=SIGNAL, value=sd, unit=NO_UNITS, derivation=codes.SCT.StandardDeviation),
    ]
    if area is not None:
        made.append(Measurement(name=codes.SCT.Area, value=area, unit=codes.UCUM.SquareMillimeter))
    return made


def group(
    image: Dataset,
    name: str,
    measurements: list[Measurement],
    points: np.ndarray[Any, np.dtype[np.float64]] = ELLIPSE,
    kind: GraphicTypeValues = GraphicTypeValues.ELLIPSE,
    **more: Any,
) -> Group:
    region = ImageRegion(kind, points, SourceImageForRegion.from_source_image(image))
    return Group(
        tracking_identifier=TrackingIdentifier(generate_uid(), name),
        referenced_region=region,
        measurements=measurements or None,
        **more,
    )


def report(images: list[Dataset], *groups: Group) -> Dataset:
    """A measurement report about blinded images."""
    observer = PersonObserverIdentifyingAttributes(name="Reader^One")
    context = ObservationContext(
        observer_person_context=ObserverContext(codes.DCM.Person, observer)
    )
    content = MeasurementReport(
        observation_context=context,
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=list(groups),
    )
    made: Dataset = Comprehensive3DSR(
        evidence=images,
        content=content[0],
        series_number=100,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="A viewer",
    )
    return made


def encoded(dataset: Dataset) -> bytes:
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


def stow(viewer: Viewer, *contents: bytes, path: str = "", **more: Any) -> TestResponse:
    boundary = multipart.new_boundary()
    body = b"".join(multipart.write((("application/dicom", one) for one in contents), boundary))
    headers = {"Content-Type": multipart.content_type(boundary, "application/dicom")}
    return viewer.ask(path or "/studies", method="POST", data=body, headers=headers, **more)


def answers(viewer: Viewer) -> dict[tuple[str, str], dict[str, Any]]:
    found = viewer.reading.show()["answers"]["measurements"]
    return {(one["sequence"], one["region"]): one for one in found}


def failures(answer: TestResponse) -> list[tuple[int, str]]:
    body = answer.get_json()
    return [
        (one["00081197"]["Value"][0], one["00000902"]["Value"][0])
        for one in body.get("00081198", {}).get("Value", [])
    ]


@pytest.fixture
def viewer(blinded: BlindedStudy) -> Viewer:
    return blinded.open()


@pytest.fixture
def images(viewer: Viewer) -> list[Dataset]:
    """The blinded images of one series, as a viewer has them."""
    return viewer.files(viewer.series_path("sag_t1"))


def test_a_report_becomes_measurements(
    blinded: BlindedStudy, viewer: Viewer, images: list[Dataset]
) -> None:
    made = report(
        images,
        group(images[1], "vertebra_L3", numbers(812.5, 31.25, 204.5)),
        group(images[2], "Vertebra L4", numbers(700, 30, 203)),
        group(images[0], "Background", numbers(12, 2.5)),
    )
    answer = stow(viewer, encoded(made))
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "application/dicom+json"
    [stored] = answer.get_json()["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [made.SOPInstanceUID]
    assert "00081198" not in answer.get_json()
    found = answers(viewer)
    assert set(found) == {("sag_t1", one) for one in ("vertebra_L3", "vertebra_L4", "background")}
    one = found["sag_t1", "vertebra_L3"]
    assert (one["mean"], one["sd"], one["area_mm2"]) == (812.5, 31.25, 204.5)
    assert (one["source"], one["snr"]) == ("report", 812.5 / 2.5)
    # What is kept lies under the archive's identifiers, in the patient.
    arm = blinded.arm(viewer)
    originals = blinded.lumbar.datasets(blinded.lumbar.uid(arm, "sag_t1"))
    [event] = [one for one in blinded.play.events() if one["action"] == "reading.save"]
    kept = event["new"]["measurements"][arm]["sag_t1"]
    assert kept["vertebra_L3"]["sop_instance_uid"] == originals[1].SOPInstanceUID
    assert kept["vertebra_L4"]["sop_instance_uid"] == originals[2].SOPInstanceUID
    geometry = kept["vertebra_L3"]["geometry"]
    assert geometry["frame_of_reference_uid"] == originals[1].FrameOfReferenceUID
    spacing = float(originals[1].PixelSpacing[0])
    row = np.array(originals[1].ImageOrientationPatient[:3], float)
    along = np.subtract(geometry["points"][1], geometry["points"][0])
    np.testing.assert_allclose(along, 20 * spacing * row, atol=1e-3)
    assert blinded.play.verify()["holds"]


def test_a_region_may_be_named_by_its_finding_or_site(
    viewer: Viewer, images: list[Dataset]
) -> None:
    label = CodedConcept("CORNERSTONEFREETEXT", "CORNERSTONEJS", "vertebra L1")
    site = FindingSite(CodedConcept("91609006", "SCT", "Fat"))
    made = report(
        images,
        group(images[1], "Cornerstone3DTools@^0.1.0:X", numbers(5, 1), finding_type=label),
        group(images[1], "3", numbers(6, 1), finding_sites=[site]),
    )
    assert stow(viewer, encoded(made), path=viewer.study_path).status_code == 200
    assert {key[1] for key in answers(viewer)} == {"vertebra_L1", "fat"}


def test_a_geometry_without_numbers_is_measured_by_the_server(
    viewer: Viewer, images: list[Dataset]
) -> None:
    corners = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 20.0], [10.0, 20.0], [10.0, 10.0]])
    made = report(
        images,
        group(images[1], "fat", [], corners, GraphicTypeValues.POLYLINE),
        group(
            images[2], "csf", [], np.array([[40.0, 40.0], [44.0, 40.0]]), GraphicTypeValues.CIRCLE
        ),
    )
    assert stow(viewer, encoded(made)).status_code == 200
    found = answers(viewer)
    inside = images[1].pixel_array[10:20, 10:30].astype(float)
    fat = found["sag_t1", "fat"]
    assert fat["mean"] == pytest.approx(inside.mean())
    assert fat["sd"] == pytest.approx(inside.std(ddof=1))
    assert (fat["n_pixels"], fat["source"]) == (200, "report")
    spacing = float(images[1].PixelSpacing[0])
    assert fat["area_mm2"] == pytest.approx(200 * spacing**2)
    assert found["sag_t1", "csf"]["area_mm2"] == pytest.approx(np.pi * (4 * spacing) ** 2)


def in_patient(
    image: Dataset, points: np.ndarray[Any, np.dtype[np.float64]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    orientation = np.array(image.ImageOrientationPatient, float)
    spacing = np.array(image.PixelSpacing, float)
    along = (points - 0.5) * spacing[::-1]
    made: np.ndarray[Any, np.dtype[np.float64]] = (
        np.array(image.ImagePositionPatient, float)
        + along[:, :1] * orientation[:3]
        + along[:, 1:] * orientation[3:]
    )
    return made


def group_3d(image: Dataset, name: str, frame_of_reference: str) -> Group:
    region = ImageRegion3D(
        GraphicTypeValues3D.ELLIPSE, in_patient(image, ELLIPSE), UID(frame_of_reference)
    )
    return Group(
        tracking_identifier=TrackingIdentifier(generate_uid(), name), referenced_region=region
    )


def test_coordinates_in_the_patient(viewer: Viewer) -> None:
    """Without an image, the place must tell the sequence: here the transverse one alone."""
    transverse = viewer.files(viewer.series_path("tra_t2"))
    first = transverse[0]
    made = report(transverse, group_3d(first, "fat", first.FrameOfReferenceUID))
    answer = stow(viewer, encoded(made))
    assert answer.status_code == 200, answer.text
    y, x = np.indices(first.pixel_array.shape) + 0.5
    inside = first.pixel_array[((x - 30) / 10) ** 2 + ((y - 30) / 5) ** 2 <= 1]
    assert answers(viewer)["tra_t2", "fat"]["mean"] == pytest.approx(inside.mean())
    elsewhere = report(transverse, group_3d(first, "fat", generate_uid()))
    assert "one sequence alone" in failures(stow(viewer, encoded(elsewhere)))[0][1]


def ohif(image: Dataset, label: str, *, as_comment: bool) -> Dataset:
    """A report as OHIF's library writes it: numbers that carry the shape, a label for a name.

    The label is a finding in free text in older versions, and the comment of the group in 3.12.
    """
    contains = RelationshipTypeValues.CONTAINS
    template = report([image], group(image, "fat", numbers(1, 1)))

    def number(code: tuple[str, str, str], value: float, unit: CodedConcept) -> NumContentItem:
        shape = ScoordContentItem(
            codes.DCM.ImageRegion,
            GraphicTypeValues.ELLIPSE,
            ELLIPSE,
            relationship_type=RelationshipTypeValues.INFERRED_FROM,
        )
        shape.ContentSequence = ContentSequence(
            [
                ImageContentItem(
                    codes.DCM.SourceImage,
                    image.SOPClassUID,
                    image.SOPInstanceUID,
                    relationship_type=RelationshipTypeValues.SELECTED_FROM,
                )
            ]
        )
        item = NumContentItem(CodedConcept(*code), value, unit, relationship_type=contains)
        item.ContentSequence = ContentSequence([shape])
        return item

    observed = RelationshipTypeValues.HAS_OBS_CONTEXT
    inner = ContainerContentItem(
        codes.DCM.MeasurementGroup, template_id="1410", relationship_type=contains
    )
    finding = CodedConcept("CORNERSTONEFREETEXT", "CORNERSTONEJS", label)
    named: ContentItem = CodeContentItem(codes.DCM.Finding, finding, relationship_type=contains)
    if as_comment:
        named = TextContentItem(codes.DCM.Comment, label, relationship_type=contains)
    square_mm = CodedConcept("mm2", "UCUM", "SquareMilliMeter")
    inner.ContentSequence = ContentSequence(
        [
            TextContentItem(
                codes.DCM.TrackingIdentifier,
                "Cornerstone3DTools@^0.1.0:EllipticalROI",
                relationship_type=observed,
            ),
            UIDRefContentItem(
                codes.DCM.TrackingUniqueIdentifier, generate_uid(), relationship_type=observed
            ),
            named,
            number(("G-A166", "SRT", "Area"), 150.5, square_mm),
            number(("G-A437", "SRT", "Maximum"), 900, NO_UNITS),
            number(("R-00317", "SRT", "Mean"), 512, NO_UNITS),
            number(("R-10047", "SRT", "Standard Deviation"), 16, NO_UNITS),
        ]
    )
    outer = next(
        item
        for item in template.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    outer.ContentSequence = [inner]
    return template


@pytest.mark.parametrize("as_comment", [False, True])
def test_a_report_as_ohif_writes_it(
    viewer: Viewer, images: list[Dataset], *, as_comment: bool
) -> None:
    answer = stow(viewer, encoded(ohif(images[1], "Disc L3/L4", as_comment=as_comment)))
    assert answer.status_code == 200, answer.text
    [found] = answers(viewer).values()
    assert (found["region"], found["mean"], found["sd"]) == ("disc_L3_L4", 512, 16)
    assert found["area_mm2"] == 150.5


# --- what is refused ----------------------------------------------------------------------------

Make = Callable[[list[Dataset]], Dataset]


def _other_study(images: list[Dataset]) -> Dataset:
    made = report(images, group(images[0], "fat", numbers(1, 1)))
    made.StudyInstanceUID = generate_uid()
    return made


def _other_image(images: list[Dataset]) -> Dataset:
    images[0].SOPInstanceUID = generate_uid()
    return report(images, group(images[0], "fat", numbers(1, 1)))


def _no_group(images: list[Dataset]) -> Dataset:
    made = report(images, group(images[0], "fat", numbers(1, 1)))
    made.ContentSequence = made.ContentSequence[:1]
    return made


def _broken(images: list[Dataset]) -> Dataset:
    made = report(images, group(images[0], "fat", numbers(1, 1)))
    for item in made.ContentSequence:
        del item.ValueType
    return made


REFUSED: dict[str, tuple[Make, int, str]] = {
    "an image": (lambda images: images[0], 0x0122, "only structured reports"),
    "another study": (_other_study, 0xA900, "another study"),
    "another image": (_other_image, 0xC000, "not of this reading"),
    "no group": (_no_group, 0xC000, "no measurement group"),
    "malformed": (_broken, 0xC000, "malformed"),
    "an unknown region": (
        lambda images: report(images, group(images[0], "liver", numbers(1, 1))),
        0xC000,
        "sag_t1 has no region named 'liver'",
    ),
    "two means": (
        lambda images: report(images, group(images[0], "fat", [*numbers(1, 1), *numbers(2, 1)])),
        0xC000,
        "more than one mean",
    ),
    "the same twice": (
        lambda images: report(
            images, group(images[0], "fat", numbers(1, 1)), group(images[1], "Fat", numbers(2, 1))
        ),
        0xC000,
        "fat of sag_t1 is measured twice",
    ),
    "a point": (
        lambda images: report(
            images,
            group(images[0], "fat", [], np.array([[3.0, 3.0]]), GraphicTypeValues.POINT),
        ),
        0xC000,
        "mean and SD, or one closed geometry",
    ),
    "no pixel": (
        lambda images: report(
            images,
            group(
                images[0], "fat", [], np.array([[3.0, 3.0], [3.2, 3.0]]), GraphicTypeValues.CIRCLE
            ),
        ),
        0xC000,
        "fat: a region must hold at least 2 pixel centres",
    ),
    "an area in cm2": (
        lambda images: report(
            images,
            group(
                images[0],
                "fat",
                [
                    *numbers(1, 1),
                    Measurement(name=codes.SCT.Area, value=2, unit=codes.UCUM.SquareCentimeter),
                ],
            ),
        ),
        0xC000,
        "an area must be in mm2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_with_its_reason(
    viewer: Viewer, images: list[Dataset], name: str
) -> None:
    make, code, reason = REFUSED[name]
    made = make(images)
    answer = stow(viewer, encoded(made))
    assert answer.status_code == 409
    assert answer.content_type == "application/dicom+json"
    [(failure, comment)] = failures(answer)
    assert failure == code
    assert reason[:64] in comment
    [failed] = answer.get_json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [made.SOPInstanceUID]
    assert answers(viewer) == {}


def test_one_good_report_among_bad_ones_is_filed(viewer: Viewer, images: list[Dataset]) -> None:
    good = report(images, group(images[0], "fat", numbers(7, 1)))
    answer = stow(viewer, b"no DICOM", encoded(good), encoded(_other_study(images)))
    assert answer.status_code == 202
    assert [code for code, _ in failures(answer)] == [0xC000, 0xA900]
    assert answers(viewer)["sag_t1", "fat"]["mean"] == 7


def test_a_body_that_is_no_store_request(viewer: Viewer) -> None:
    kind = 'multipart/related; type="application/dicom"'
    for body, content_type, status in (
        (b"{}", "application/json", 415),
        (b"nothing", f"{kind}; boundary=x", 400),
        (b"nothing", kind, 400),
        (b"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x--\r\n", f"{kind}; boundary=x", 415),
        (b"--x--\r\n", f"{kind}; boundary=x", 400),
    ):
        answer = viewer.ask(
            "/studies", method="POST", data=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code == status, (body, answer.text)
        assert json_of(answer)["status"] == status


def test_a_report_is_filed_in_either_database(both_blinded: BlindedStudy) -> None:
    viewer = both_blinded.open()
    images = viewer.files(viewer.series_path("sag_t1"))
    regions = [group(images[0], "fat", numbers(7, 1)), group(images[1], "Disc L3/L4", [])]
    for _ in range(2):  # the same report again changes nothing
        answer = stow(viewer, encoded(report(images, *regions)))
        assert answer.status_code == 200, answer.text
    found = {region: one["source"] for (_, region), one in answers(viewer).items()}
    assert found == {"fat": "report", "disc_L3_L4": "report"}
    both_blinded.complete(viewer)
    assert stow(viewer, encoded(report(images, *regions))).status_code == 404
    assert both_blinded.play.verify()["holds"]


def test_only_the_open_reading_takes_reports(
    blinded: BlindedStudy, viewer: Viewer, images: list[Dataset]
) -> None:
    made = encoded(report(images, group(images[0], "fat", numbers(7, 1))))
    blinded.play.add_reader("r2")
    assert stow(viewer, made, reader="r2").status_code == 404
    assert stow(viewer, made, path="/studies/1.2.3").status_code == 404
    blinded.complete(viewer)
    assert stow(viewer, made).status_code == 404
    assert answers(viewer) == {}
