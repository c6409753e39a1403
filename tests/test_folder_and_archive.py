"""A folder and the archive decide alike: each series goes through both, and a real Orthanc."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RawDataStorage,
    RLELossless,
)

from archive_fixtures import Site
from compressed import compressed
from derived_support import unchanged
from dicom_maker import (
    add_block,
    add_siemens_classic,
    base_object,
    encoded,
    made_uid,
    mr_series,
    set_raw,
)
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.exclusions import set_aside
from halfscan_plugin.files import read_folder, read_series
from halfscan_plugin.inspection import inspect_series
from halfscan_plugin.stack import Stack, StartFailed, find_orthanc
from halfscan_plugin.volume import read_volume
from image_maker import (
    UNITED_IMAGING,
    enhanced_image,
    frame_grid,
    mosaic_image,
    slabs,
    tilted,
    united_imaging_image,
    volumes,
)

pytestmark = [
    pytest.mark.archive,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

FAST: dict[str, Any] = {"ParallelReductionFactorInPlane": 2.0, "NumberOfAverages": 1}
# Philips' spectra, examination cards and the like, beside the images they belong to.
PHILIPS_PRIVATE = "1.3.46.670589.11.0.0.12.2"


def siemens(name: str, **attributes: Any) -> list[Dataset]:
    """Make a series whose acceleration stands in private elements alone."""
    series = mr_series(4, name=name, NumberOfAverages=1, **attributes)
    return [add_siemens_classic(dataset, "p2") for dataset in series]


def beside(series: list[Dataset], sop_class: str, *, first: bool) -> list[Dataset]:
    """Put an object without an image into a series; `first` to whoever sorts by place or number."""
    other = base_object(sop_class, "beside", 0)
    for keyword in ("ScanningSequence", "EchoTime", "SliceThickness", "ImageType"):
        delattr(other, keyword)
    other.SeriesInstanceUID = series[0].SeriesInstanceUID
    other.SOPInstanceUID = made_uid(series[0].SOPInstanceUID, sop_class)
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.InstanceNumber = 0 if first else 99
    return [other, *series] if first else [*series, other]


def vframes(name: str, text: str) -> list[Dataset]:
    tiles = np.random.default_rng(5).integers(0, 4096, (2, 4, 12, 10))
    series = [united_imaging_image(t, name=name, index=i) for i, t in enumerate(tiles)]
    for number, dataset in enumerate(series):
        dataset.NumberOfAverages, dataset.AcquisitionNumber = 1, number + 1
        dataset.SoftwareVersions = "R002"
        dataset.add_new(add_block(dataset, *UNITED_IMAGING) + 0x0D, "SH", text)
    return series


def mosaics(name: str) -> list[Dataset]:
    tiles = np.random.default_rng(6).integers(0, 4096, (3, 5, 8, 8))
    made = [mosaic_image(t, name=name, index=i, NumberOfAverages=1) for i, t in enumerate(tiles)]
    return [add_siemens_classic(dataset, "p2") for dataset in made]


def enhanced(name: str) -> Dataset:
    dataset = enhanced_image(frame_grid(), name=name, rows=24, columns=20)
    modifier, averages = Dataset(), Dataset()
    modifier.ParallelAcquisition, modifier.ParallelReductionFactorInPlane = "YES", 2.0
    averages.NumberOfAverages = 1
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.MRModifierSequence, shared.MRAveragesSequence = [modifier], [averages]
    return dataset


def in_syntax(series: list[Dataset], syntax: Any) -> list[Dataset]:
    return [compressed(dataset, syntax) for dataset in series]


def of_class(series: list[Dataset], sop_class: Any, modality: str) -> list[Dataset]:
    for dataset in series:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        dataset.Modality = modality
    return series


def bare(series: list[Dataset], *, meta: bool) -> list[bytes]:
    """Encode objects as files without preamble, with meta information or without."""
    files = []
    for dataset in series:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        content = encoded(dataset)[132:]
        end = 12 + int.from_bytes(content[8:12], "little")
        files.append(content if meta else content[end:])
    return files


def late(series: list[Dataset], keyword: str, value: Any) -> list[Dataset]:
    """Change the last object alone."""
    setattr(series[-1], keyword, value)
    return series


def padded(name: str) -> list[Dataset]:
    pixels = np.random.default_rng(7).integers(1, 900, (4, 24, 20))
    pixels[:, :5, :5] = -2000
    series = mr_series(pixels=pixels, bits=(16, 16), signed=True, name=name, **FAST)
    return [set_raw(dataset, "PixelPaddingValue", "US", b"\x30\xf8") for dataset in series]


def unusual(name: str, *, lowest: int, highest: int) -> list[Dataset]:
    pixels = np.random.default_rng(8).integers(1, 900, (4, 24, 20))
    pixels[1, 3, 3], pixels[2, 4, 4] = lowest, highest
    return mr_series(pixels=pixels, signed=lowest < 0, name=name, **FAST)


def three_planes(name: str) -> list[Dataset]:
    planes = [tilted(0, plane) for plane in ("axial", "sagittal")]
    return slabs([*planes, [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]], name=name, **FAST)


SERIES: dict[str, Callable[[str], list[Dataset] | list[bytes]]] = {
    "accelerated": lambda n: mr_series(4, name=n, **FAST),
    "not accelerated": lambda n: mr_series(
        4, name=n, ParallelReductionFactorInPlane=1.0, NumberOfAverages=2
    ),
    "private": siemens,
    "raw data behind": lambda n: beside(siemens(n), RawDataStorage, first=False),
    "raw data before": lambda n: beside(siemens(n), RawDataStorage, first=True),
    "Philips' private objects": lambda n: beside(
        mr_series(4, name=n, Manufacturer="Philips", **FAST), PHILIPS_PRIVATE, first=True
    ),
    "a presentation state": lambda n: beside(
        siemens(n), GrayscaleSoftcopyPresentationStateStorage, first=True
    ),
    "raw data beside enhanced": lambda n: beside([enhanced(n)], RawDataStorage, first=True),
    "raw data beside mosaics": lambda n: beside(mosaics(n), RawDataStorage, first=True),
    "raw data beside vframes": lambda n: beside(vframes(n, "F:2S"), RawDataStorage, first=True),
    "raw data alone": lambda n: of_class(mr_series(2, name=n, **FAST), RawDataStorage, "MR"),
    "not MR": lambda n: of_class(mr_series(2, name=n), CTImageStorage, "CT"),
    "vframes": lambda n: vframes(n, "F:2S"),
    "vframes, not accelerated": lambda n: vframes(n, "F:1S"),
    "mosaics": mosaics,
    "enhanced": lambda n: [enhanced(n)],
    "several echoes": lambda n: volumes(
        [{"EchoNumbers": 1, "EchoTime": 10}, {"EchoNumbers": 2, "EchoTime": 90}], name=n, **FAST
    ),
    "JPEG 2000": lambda n: in_syntax(
        mr_series(4, rows=40, columns=36, name=n, **FAST), JPEG2000Lossless
    ),
    "JPEG Lossless": lambda n: in_syntax(mr_series(4, name=n, **FAST), JPEGLosslessSV1),
    "RLE": lambda n: in_syntax(mr_series(4, name=n, **FAST), RLELossless),
    "light is signal": lambda n: mr_series(
        4, name=n, PhotometricInterpretation="MONOCHROME1", **FAST
    ),
    "a localizer": three_planes,
    "derived": lambda n: mr_series(4, name=n, ImageType=["DERIVED", "SECONDARY", "M"], **FAST),
    "our own": lambda n: list(unchanged(mr_series(4, name=n, **FAST)).datasets),
    "one object differs": lambda n: late(mr_series(4, name=n, **FAST), "NumberOfAverages", 4),
    "one object is derived": lambda n: late(
        mr_series(4, name=n, **FAST), "ImageType", ["DERIVED", "SECONDARY"]
    ),
    "long texts": lambda n: mr_series(
        4, name=n, ImageComments="x" * 600, ImageType=["ORIGINAL", "PRIMARY", *["ND"] * 120], **FAST
    ),
    "a slice is missing": lambda n: [
        d for i, d in enumerate(mr_series(6, name=n, **FAST)) if i - 2
    ],
    "without preamble": lambda n: bare(mr_series(4, name=n, **FAST), meta=False),
    "without preamble, private": lambda n: bare(siemens(n), meta=True),
    "without syntax": lambda n: [
        encoded(dataset).replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI", 1)
        for dataset in mr_series(4, name=n, **FAST)
    ],
    "padding as US": padded,
    "a negative pixel": lambda n: unusual(n, lowest=-3, highest=900),
    "a pixel beyond its bits": lambda n: unusual(n, lowest=1, highest=5000),
    "negative pixels": lambda n: mr_series(4, name=n, RescaleIntercept="-2000", **FAST),
    "Shift-JIS": lambda n: [
        set_raw(d, "PatientName", "PN", "山田^太郎".encode("shift_jis"))
        for d in mr_series(4, name=n, SpecificCharacterSet="ISO_IR 13", **FAST)
    ],
}

# Reason codes of those that are skipped; None where other tests say what is right.
SKIPPED: dict[str, str | None] = {
    "not accelerated": "not_accelerated",
    "raw data alone": "not_an_image",
    "not MR": "not_mr",
    "vframes, not accelerated": "not_accelerated",
    "a localizer": "localizer",
    "derived": "derived",
    "our own": "halfscan_output",
    "one object differs": None,
    "one object is derived": "derived",
    "a slice is missing": "missing_slices",
}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one Orthanc, alone, for all series."""
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    site = Site(Stack(tmp_path_factory.mktemp("archive"), stable_age_s=60))
    try:
        site.start("orthanc")
        yield site
    finally:
        site.close()


def outcome(headers: list[Dataset], objects: list[Dataset]) -> dict[str, Any]:
    """Say of a series what is decided, with all that is known of it, and what its pixels are."""
    report = inspect_series(headers)
    try:
        volume = read_volume(set_aside(objects)[0])
    except UnreadableSeries as error:
        return {**report, "pixels": (error.code, str(error))}
    uids = [str(dataset.SOPInstanceUID) for dataset in volume.sources]
    digest = hashlib.sha256(volume.stored.tobytes() + volume.padding.tobytes()).hexdigest()
    return {**report, "pixels": (uids, volume.stored.shape, digest, volume.warnings)}


def from_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Give the outcome of each series of a folder."""
    return {
        uid: outcome([h for _, h in items], read_series([file for file, _ in items]))
        for uid, items in read_folder([folder]).series.items()
    }


def from_archive(site: Site, files: list[Path]) -> dict[str, dict[str, Any]]:
    """Give the outcome of each series that an archive holds then; it holds none afterwards."""
    answers = [site.upload(file.read_bytes()) for file in files]
    ids = {answer.json()["ParentSeries"] for answer in answers if answer.is_success}
    archive, outcomes = site.archive, {}
    for series_id in ids:
        headers = archive.headers(series_id)
        objects = [archive.dataset(i) for i in archive.instance_ids(series_id)]
        outcomes[str(headers[0].SeriesInstanceUID)] = outcome(headers, objects)
        httpx.delete(f"{site.stack.orthanc_url}/series/{series_id}", timeout=30)
    return outcomes


def check_alike(site: Site, folder: Path) -> dict[str, dict[str, Any]]:
    expected = from_folder(folder)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    found = from_archive(site, files)
    assert found.keys() == expected.keys()
    for uid, report in expected.items():
        differences = {k: (found[uid][k], v) for k, v in report.items() if found[uid][k] != v}
        assert differences == {}, folder.name
    return expected


@pytest.mark.parametrize("name", SERIES)
def test_series_of_every_kind(orthanc: Site, tmp_path: Path, name: str) -> None:
    files: Sequence[Dataset | bytes] = SERIES[name](name)
    for number, made in enumerate(files):
        content = made if isinstance(made, bytes) else encoded(made)
        (tmp_path / f"{number:04d}.dcm").write_bytes(content)
    (report,) = check_alike(orthanc, tmp_path).values()
    expected = SKIPPED.get(name, "accelerated")
    if expected is not None:
        assert report["reason_code"] == expected


def test_what_the_archive_refuses_the_folder_leaves_out(orthanc: Site, tmp_path: Path) -> None:
    series = mr_series(6, name="damaged", **FAST)
    whole = encoded(series[-1])
    damaged = [
        b"",
        b"hello world" * 100,
        whole[: whole.index(b"\x20\x00\x0d\x00")],
        whole[132 : whole.index(b"\x28\x00\x02\x00") + 3],
    ]
    for number, content in enumerate([*map(encoded, series[:5]), *damaged]):
        (tmp_path / f"{number:04d}.dcm").write_bytes(content)
    (report,) = check_alike(orthanc, tmp_path).values()
    assert (report["instances"], report["decision"]) == (5, "reconstruct")
    assert len(read_folder([tmp_path]).losses) == len(damaged)


def test_simulated_series(orthanc: Site, small_exam: dict[str, list[Path]]) -> None:
    folders = {file.parent for files in small_exam.values() for file in files}
    for folder in folders:
        check_alike(orthanc, folder)
    assert len(folders) > 3


@pytest.mark.cases
def test_real_series_of_every_vendor(orthanc: Site, cases: Path) -> None:
    folders = sorted(path for path in cases.iterdir() if path.is_dir())
    for folder in folders:
        check_alike(orthanc, folder)
    assert len(folders) > 15


@pytest.mark.cases
def test_reported_series(orthanc: Site, reported: Path) -> None:
    folders = sorted(path for path in reported.iterdir() if path.is_dir())
    for folder in folders:
        check_alike(orthanc, folder)
    assert folders
