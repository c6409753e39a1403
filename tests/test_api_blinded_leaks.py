"""Leaks: what a reader can fetch of one case in two arms differs in the pixels and nothing else.

Identifiers and codes are replaced by the order of their first appearance: were that order to tell
something, the comparison would show it.
"""

import io
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from werkzeug.test import TestResponse

from api_support import Api
from blinded_support import ARMS, BlindedStudy, Lumbar, Viewer, start_blinded
from halfscan_api import multipart

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

PIXELS = "7FE00010"
META_LENGTH, PATIENT_ID = 0x00020000, 0x00100020
NAMES = {META_LENGTH, PATIENT_ID}
DICOM_FILES = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'
_NAME = re.compile(r"2\.25\.[0-9]+|\b[0-9a-f]{32}\b")


class Names:
    """Replaces identifiers and codes by numbers, in the order of their appearance."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def plain(self, text: str) -> str:
        return _NAME.sub(lambda m: self.known.setdefault(m[0], f"name-{len(self.known)}"), text)

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.plain(value)
        if isinstance(value, list):
            return [self.of(one) for one in value]
        if isinstance(value, dict):
            return {key: self.of(one) for key, one in value.items() if key != "request_id"}
        return value


def elements(file: bytes, names: Names) -> list[Any]:
    """Every element of a file as it is encoded: order, VR, length, value; pixels by length."""
    dataset = dcmread(io.BytesIO(file))
    found: list[Any] = [file[:132].hex()]
    for part in (dataset.file_meta, dataset):
        for tag in list(part.keys()):
            raw = part.get_item(tag)
            length = raw.length if hasattr(raw, "length") else None
            value = part[tag].value
            is_name = part[tag].VR == "UI" or tag in NAMES
            shown = "pixels" if f"{int(tag):08X}" == PIXELS else names.plain(str(value))
            if tag == META_LENGTH:  # counts the bytes of identifiers
                shown = ""
            found.append((f"{int(tag):08X}", part[tag].VR, None if is_name else length, shown))
    return found


def headers_of(answer: TestResponse, names: Names) -> dict[str, str]:
    """Headers, without what is random or follows from compressed pixels."""
    found = dict(answer.headers)
    del found["X-Request-ID"]
    pictures = answer.content_type.startswith(("image/", "multipart/related"))
    if pictures or answer.content_type.endswith("json"):
        found.pop("Content-Length", None)
    return {
        name: names.plain(re.sub("boundary=[0-9a-f]+", "", value)) for name, value in found.items()
    }


def body_of(answer: TestResponse, names: Names, *, keep_pixels: bool) -> Any:
    kind = answer.content_type
    if "json" in kind:
        # The order of members counts too.
        return names.of(answer.get_json()), list(members(answer.get_json()))
    if kind.startswith("multipart/related"):
        parts = multipart.parse(answer.data, kind)
        if 'type="application/dicom"' in kind:
            return [
                (part.content_type, elements(part.body, names), part.body[-100:] * keep_pixels)
                for part in parts
            ]
        return [
            (
                part.headers["content-type"],
                part.body if keep_pixels else len(part.body) if OCTETS[-25:-1] in kind else "",
            )
            for part in parts
        ]
    return answer.data if keep_pixels else ""


def members(value: Any) -> Iterator[str]:
    """Names of all members, in their order."""
    for one in value if isinstance(value, list) else []:
        yield from members(one)
    for name, one in value.items() if isinstance(value, dict) else ():
        yield name
        yield from members(one)


def everything(viewer: Viewer, *, keep_pixels: bool = False) -> dict[str, Any]:
    """All that a reader can fetch of a reading, by what was asked; without names and pixels."""
    names, found = Names(), {}
    ask = viewer.reading.play.ask

    def note(what: str, answer: TestResponse) -> None:
        body = body_of(answer, names, keep_pixels=keep_pixels)
        found[names.plain(what)] = (
            answer.status_code,
            headers_of(answer, names),
            body,
        )

    code = viewer.reading.code
    note("reading", ask("r1", "GET", f"/readings/{code}"))
    sequences = [one["sequence"] for one in viewer.images["series"]]
    study = viewer.study_path
    for path in ("/studies", f"/studies?PatientID={code}", "/series", "/instances"):
        note(path, viewer.ask(path))
    for path in (f"{study}/series", f"{study}/instances", f"{study}/metadata"):
        note(path, viewer.ask(path))
    note(study, viewer.ask(study, DICOM_FILES))
    for path in (f"{study}/rendered", f"{study}/thumbnail"):
        note(path, viewer.ask(path))
    for sequence in sequences:
        series = viewer.series_path(sequence)
        note(series, viewer.ask(series, DICOM_FILES))
        for end in ("/instances", "/metadata", "/rendered", "/thumbnail"):
            note(series + end, viewer.ask(series + end))
        for header in viewer.metadata(sequence):
            instance = f"{series}/instances/{header.SOPInstanceUID}"
            note(instance, viewer.ask(instance, DICOM_FILES))
            note(f"{instance}/frames/1", viewer.ask(f"{instance}/frames/1", OCTETS))
            for end in ("/metadata", "/rendered", "/thumbnail", "/frames/1/rendered"):
                note(instance + end, viewer.ask(instance + end))
            note(f"{instance}/frames/2", viewer.ask(f"{instance}/frames/2", OCTETS))
    for path in ("/studies/1.2/series", "/studies?limit=x", f"{study}/series/1.2/metadata"):
        note(path, viewer.ask(path))
    note("no xml", viewer.ask("/studies", "application/dicom+xml"))
    return found


def test_two_arms_differ_in_nothing_but_pixels(both_blinded: BlindedStudy) -> None:
    """The standard series against what the worker derived from the accelerated ones."""
    found = both_blinded.both_arms(everything)
    standard, accelerated = (found[arm] for arm in ARMS)
    assert len(standard) > 140
    assert list(standard) == list(accelerated)
    for what, answer in standard.items():
        assert answer == accelerated[what], what


def test_the_comparison_would_see_what_the_archive_tells(lumbar: Lumbar) -> None:
    """The same comparison on the archive's own headers finds the arm at once."""
    told = []
    for arm in ARMS:
        path = f"/dicom-web/studies/{lumbar.study_uid()}/series/{lumbar.uid(arm, 'sag_t2')}"
        answer = httpx.get(f"{lumbar.orthanc_url}{path}/metadata", timeout=60)
        told.append([Names().of(one) for one in answer.json()])
    different = {
        tag
        for one, other in zip(*told, strict=True)
        for tag in {*one, *other}
        if one.get(tag) != other.get(tag)
    }
    # Times, descriptions, averages or factors, numbers, derivation.
    assert {"00080031", "0008103E", "00189069", "00200011", "00082111"} <= different


# --- the same pixels under headers that tell everything -----------------------------------------

Disguise = Callable[[list[Dataset]], list[Dataset]]


def _each(change: Callable[[Dataset], None]) -> Disguise:
    def disguise(datasets: list[Dataset]) -> list[Dataset]:
        for dataset in datasets:
            change(dataset)
        return datasets

    return disguise


def _texts(dataset: Dataset) -> None:
    dataset.PatientComments = "fast arm"
    dataset.ImageComments = dataset.DerivationDescription = "deep learning"
    dataset.ImageType = ["DERIVED", "SECONDARY", "M", "DRB"]
    dataset.OperatorsName = "the^fast one"
    dataset.NumberOfAverages, dataset.EchoTrainLength = "0.5", "99"
    dataset.Manufacturer, dataset.SeriesNumber = "Vendor of Speed", "9999"
    dataset.WindowCenter, dataset.WindowWidth = ["1", "2"], ["3", "4"]
    dataset.WindowCenterWidthExplanation = ["FAST", "FASTER"]
    dataset.AcquisitionMatrix = [0, 64, 64, 0]
    dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = 1, 4095
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "7"
    dataset.add_new("PixelPaddingValue", "US", 7)
    block = dataset.private_block(0x0029, "FAST ARM", create=True)
    block.add_new(0x10, "LO", "accelerated")
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113087", "DCM", "Smoothing"
    dataset.DerivationCodeSequence = Sequence([item])
    dataset.add_new(0x60000010, "US", dataset.Rows)
    dataset.add_new(0x60000011, "US", dataset.Columns)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    bits = (dataset.Rows * dataset.Columns + 7) // 8
    dataset.add_new(0x60003000, "OW", b"\xff" * (bits + bits % 2))


def _sixteen_bits(dataset: Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 16, 15


def _signed(dataset: Dataset) -> None:
    _sixteen_bits(dataset)
    dataset.PixelRepresentation = 1


def _overlay_bits(dataset: Dataset) -> None:
    values = dataset.pixel_array.astype("<u2")
    values[10:20, 10:20] |= 0x8000
    dataset.PixelData = values.tobytes()


def _shifted(dataset: Dataset) -> None:
    """The stored bits lie at the top."""
    dataset.HighBit = 15
    dataset.PixelData = (dataset.pixel_array.astype("<u2") << 4).tobytes()


def _scaled(dataset: Dataset) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "2.5", "0", "US"


def _renumbered(datasets: list[Dataset]) -> list[Dataset]:
    for number, dataset in enumerate(datasets):
        dataset.InstanceNumber = 100 - number
        dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.77"
        del dataset.SliceLocation, dataset.SpacingBetweenSlices
        dataset.PixelSpacing = [f"{float(value):.9f}" for value in dataset.PixelSpacing]
    return datasets[::-1]


def _syntax(uid: str) -> Disguise:
    def change(dataset: Dataset) -> None:
        if uid in {RLELossless, JPEGLSLossless}:
            dataset.compress(uid, generate_instance_uid=False)
        else:
            if uid == ExplicitVRBigEndian:
                list(dataset.iterall())  # what pydicom has not decoded it would write as it was
                dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
                dataset["PixelData"].VR = "OW"
            dataset.file_meta.TransferSyntaxUID = UID(uid)

    return _each(change)


def _enhanced(datasets: list[Dataset]) -> list[Dataset]:
    """One multi-frame object: an Enhanced MR image with just what says where its frames are."""
    first = datasets[0]
    made = deepcopy(first)
    made.SOPClassUID = EnhancedMRImageStorage
    made.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    made.NumberOfFrames = len(datasets)
    made.PixelData = b"".join(one.PixelData for one in datasets)
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = Sequence([_only(first, "PixelSpacing", "SliceThickness")])
    shared.PlaneOrientationSequence = Sequence([_only(first, "ImageOrientationPatient")])
    for one in datasets:
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([_only(one, "ImagePositionPatient")])
        value = Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = "1", "0", "US"
        frame.PixelValueTransformationSequence = Sequence([value])
        frames.append(frame)
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del made[keyword]
    del made.SliceThickness
    return [made]


def _only(dataset: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, dataset[keyword].value)
    return item


DISGUISES: dict[str, Disguise] = {
    "texts, private blocks, overlays": _each(_texts),
    "16 bits stored": _each(_sixteen_bits),
    "signed": _each(_signed),
    "overlay in unused bits": _each(_overlay_bits),
    "bits at the top": _each(_shifted),
    "a slope": _each(_scaled),
    "other numbers, order and study": _renumbered,
    "implicit VR": _syntax(ImplicitVRLittleEndian),
    "big endian": _syntax(ExplicitVRBigEndian),
    "RLE": _syntax(RLELossless),
    "JPEG-LS": _syntax(JPEGLSLossless),
    "multi-frame": _enhanced,
}


def disguised(lumbar: Lumbar, disguise: Disguise) -> tuple[str, str]:
    """Store the same images once more, under other headers; gives the UIDs of series and study."""
    series_uid = generate_uid()
    datasets = lumbar.datasets(lumbar.uid("standard", "sag_t2"))
    for dataset in datasets:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta = meta
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    stored = disguise(datasets)
    lumbar.store(stored)
    return series_uid, stored[0].StudyInstanceUID


def _pair(lumbar: Lumbar, name: str) -> list[dict[str, Any]]:
    """Series of a case: the standard one, and the same in a disguise."""
    standard = (lumbar.uid("standard", "sag_t2"), lumbar.study_uid())
    places = (standard, disguised(lumbar, DISGUISES[name]))
    return [
        {
            "arm": arm,
            "sequence": "sag_t2",
            "series_instance_uid": uid,
            "study_instance_uid": study_uid,
        }
        for arm, (uid, study_uid) in zip(ARMS, places, strict=True)
    ]


@pytest.mark.parametrize("name", DISGUISES)
def test_the_same_pixels_look_the_same(archive_api: Api, lumbar: Lumbar, name: str) -> None:
    """Same pixels and geometry, everything else different: every answer is equal, pixels too."""
    play = start_blinded(archive_api, lumbar, _pair(lumbar, name), sequences=("sag_t2",))
    study = BlindedStudy(play, lumbar)
    found = study.both_arms(lambda viewer: everything(viewer, keep_pixels=True))
    assert list(found["standard"]) == list(found["accelerated"])
    for what, answer in found["standard"].items():
        assert answer == found["accelerated"][what], what


@pytest.mark.parametrize("name", ["bits at the top", "multi-frame", "JPEG-LS", "big endian"])
def test_pixels_of_a_disguised_series_are_its_own(
    archive_api: Api, lumbar: Lumbar, name: str
) -> None:
    """What is compared above is not empty: the pixels are those of the files."""
    expected = [one.pixel_array for one in lumbar.datasets(lumbar.uid("standard", "sag_t2"))]
    play = start_blinded(archive_api, lumbar, _pair(lumbar, name), sequences=("sag_t2",))
    study = BlindedStudy(play, lumbar)

    def pixels(viewer: Viewer) -> list[Any]:
        return [file.pixel_array for file in viewer.files(viewer.series_path("sag_t2"))]

    for found in study.both_arms(pixels).values():
        np.testing.assert_array_equal(found, expected)
