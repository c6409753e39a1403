"""What other programs say of derived objects: dciodvfy, dcm2niix, highdicom, Orthanc's DICOMweb.

Each is asked about the source first: a derived object must not be worse.
"""

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import highdicom
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from archive_fixtures import Site
from derived_support import MADE_BY, REAL, in_syntax, real_files
from dicom_maker import ORIENTATIONS, made_uid, mr_series, reread, save
from halfscan_plugin.derived import derive
from halfscan_plugin.encode import Syntax
from halfscan_plugin.volume import read_volume
from image_maker import (
    enhanced_image,
    frame_grid,
    mosaic_image,
    renumber,
    tilted,
    united_imaging_image,
    volumes,
)

Series = list[Dataset]
Volume = tuple[tuple[int, ...], tuple[float, ...], tuple[float, float]]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def tiles(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(3).integers(0, 4096, (count, 32, 32))


def big(**options: Any) -> Series:
    return mr_series(**{"rows": 40, "columns": 36, "NumberOfAverages": 1, **options})


MADE: dict[str, Callable[[], Series]] = {
    "classic": big,
    "sagittal, rescaled": lambda: big(
        orientation="sagittal", RescaleSlope="2.5", RescaleIntercept="10", RescaleType="US"
    ),
    "oblique, signed": lambda: big(orientation="oblique", signed=True, bits=(16, 16)),
    "of 8 bits": lambda: big(bits=(8, 8)),
    "MONOCHROME1": lambda: big(
        PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    ),
    "windows": lambda: big(
        WindowCenter=["100", "300.5"], WindowWidth=["200", "600"],
        WindowCenterWidthExplanation=["soft", "hard"],
    ),
    "two echoes": lambda: volumes(
        [{"EchoNumbers": 1, "EchoTime": "20"}, {"EchoNumbers": 2, "EchoTime": "80"}],
        rows=40, columns=36,
    ),
    "enhanced": lambda: [enhanced_image(rows=40, columns=36)],
    "enhanced, nothing shared": lambda: [enhanced_image(rows=40, columns=36, shared=False)],
    "enhanced, four times": lambda: [enhanced_image(frame_grid(times=4), rows=40, columns=36)],
    "enhanced, two stacks": lambda: [
        enhanced_image(
            frame_grid(orientations=[ORIENTATIONS["axial"], tilted(20)]), rows=40, columns=36
        )
    ],
    "legacy converted": lambda: [enhanced_image(legacy=True, rows=40, columns=36)],
    "mosaics": lambda: [mosaic_image(tiles(7), index=n) for n in range(2)],
    "United Imaging's mosaic": lambda: [united_imaging_image(tiles(5))],
}  # fmt: skip
CODED = {
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


def made(kind: str, folder: Path) -> Series:
    if kind not in CODED:
        return MADE[kind]()
    return [in_syntax(dataset, CODED[kind], folder) for dataset in big()]


def smoothed(source: Series, syntax: Syntax = "uncompressed") -> Series:
    """Derive a series whose pixels are the mean of two neighbours in a column."""
    volume = read_volume(source)
    result = volume.volume.copy()
    result[:, 1:] = (result[:, 1:] + result[:, :-1]) / 2
    derived = derive(volume, result, MADE_BY, series_number=1001, syntax=syntax)
    assert derived.notes == ()
    return list(derived.datasets)


@pytest.fixture(params=[*MADE, *CODED])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Give the files of a made series and of what is derived from it.

    Not every program reads every transfer syntax: the source is written uncompressed.
    """
    kind = request.param
    plain = MADE[kind]() if kind in MADE else big()
    before = save(plain, tmp_path / "before")
    return before, save(smoothed(made(kind, tmp_path)), tmp_path / "derived")


@pytest.fixture(params=REAL)
def real_pair(
    request: pytest.FixtureRequest, cases: Path, tmp_path: Path
) -> tuple[list[Path], list[Path]]:
    """Give the files of a real series and of what is derived from it."""
    files = real_files(cases / request.param)
    return files, save(smoothed([dcmread(f) for f in files]), tmp_path / "derived")


# -------------------------------------------------------------------------------- dciodvfy


def said(files: Sequence[Path]) -> set[str]:
    """Collect what dciodvfy (dicom3tools) says of files, without what names a single one."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    lines: set[str] = set()
    for file in files:
        done = subprocess.run(["dciodvfy", file], capture_output=True, timeout=60, check=False)
        lines |= set(done.stderr.decode("latin-1").splitlines())
    assert lines, "it always says at least what kind of object a file holds"
    return lines


def errors(lines: set[str]) -> set[str]:
    return {line for line in lines if line.startswith("Error")}


def warnings(lines: set[str]) -> set[str]:
    return {line for line in lines if "Warning" in line}


# PS3.3 A.36 has no place for these at the top level of an enhanced object, where programs look
# that know nothing of frames. All that is new of any kind of source:
EXTENSIONS = re.compile(
    r"Warning - Attribute is not present in standard DICOM IOD - \((0x0008,0x2111|0x0008,0x9215|"
    r"0x0008,0x0100|0x0008,0x0102|0x0008,0x0104)\) .*|"
    r"Warning - Dicom dataset contains attributes not present in standard DICOM IOD.*"
)


def test_no_new_error(pair: tuple[list[Path], list[Path]]) -> None:
    before, after = map(said, pair)
    assert errors(after) - errors(before) == set()
    new = warnings(after) - warnings(before)
    assert not [line for line in new if not EXTENSIONS.fullmatch(line)]


@pytest.mark.cases
def test_no_new_error_of_a_real_series(real_pair: tuple[list[Path], list[Path]]) -> None:
    before, after = map(said, real_pair)
    assert errors(after) - errors(before) == set()
    new = warnings(after) - warnings(before)
    assert not [line for line in new if not EXTENSIONS.fullmatch(line)]


def test_no_new_error_of_a_simulated_exam(
    small_exam: dict[str, list[Path]], tmp_path: Path
) -> None:
    for name, files in small_exam.items():
        derived = save(smoothed([dcmread(f) for f in files]), tmp_path / name.replace("/", " "))
        assert errors(said(derived)) <= errors(said(files))


def test_the_validator_finds_errors(tmp_path: Path) -> None:
    """Show that the comparison above can fail."""
    (good, bad) = mr_series(2)
    del bad.ScanningSequence
    first, second = (errors(said(save([d], tmp_path / d.SOPInstanceUID))) for d in (good, bad))
    assert second - first


# -------------------------------------------------------------------------------- dcm2niix


def nifti(files: Sequence[Path], folder: Path) -> list[Volume]:
    """Convert with dcm2niix; give shape, affine (sform) and scale of each volume."""
    return sorted(_nifti_header(file) for file in converted(files, folder).glob("*.nii"))


def converted(files: Sequence[Path], folder: Path) -> Path:
    """Convert with dcm2niix; give the folder with what it writes."""
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed: apt-get install dcm2niix")
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, source / f"{number:04d}.dcm")
    arguments = ["dcm2niix", "-z", "n", "-b", "y", "-f", "v_%t", "-o", str(out), str(source)]
    subprocess.run(arguments, capture_output=True, timeout=120, check=False)
    return out


def _nifti_header(file: Path) -> Volume:
    """Read a NIfTI-1 header (little endian): dim, srow_x to srow_z, scl_slope, scl_inter."""
    header = file.read_bytes()[:348]
    dimensions = struct.unpack_from("<8h", header, 40)
    affine = struct.unpack_from("<12f", header, 280)
    slope, intercept = struct.unpack_from("<2f", header, 112)
    return dimensions[1 : dimensions[0] + 1], affine, (slope, intercept)


def test_converted_volumes_lie_where_the_source_lies(
    pair: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    before, after = pair
    source = nifti(before, tmp_path / "1")
    assert source, "dcm2niix converts the source"
    assert nifti(after, tmp_path / "2") == source


@pytest.mark.cases
def test_converted_volumes_of_a_real_series(
    real_pair: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    before, after = real_pair
    source = nifti(before, tmp_path / "1")
    assert source
    assert nifti(after, tmp_path / "2") == source


# What a program that corrects for motion, slice timing or distortion goes by.
ACQUISITION = (
    "RepetitionTime", "EchoTime", "FlipAngle", "SliceTiming", "TotalReadoutTime",
    "EstimatedTotalReadoutTime", "EffectiveEchoSpacing", "PhaseEncodingDirection",
    "BandwidthPerPixelPhaseEncode", "WaterFatShift", "PhilipsScaleSlope", "PhilipsRescaleSlope",
    "MultibandAccelerationFactor", "AcquisitionTime", "SliceThickness",
)  # fmt: skip


@pytest.mark.cases
def test_timing_of_a_real_series(real_pair: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    facts = []
    for number, files in enumerate(real_pair):
        folder = converted(files, tmp_path / str(number))
        told = [json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")]
        # GE writes the sign of its phase encoding into a block that stays out: docs/derived.md.
        left_out = {"PhaseEncodingDirection"} if told[0].get("Manufacturer") == "GE" else set()
        names = [name for name in ACQUISITION if name not in left_out]
        facts.append(sorted(str({name: one.get(name) for name in names}) for one in told))
    assert facts[0]
    assert facts[1] == facts[0]


# ------------------------------------------------------------------------------- highdicom


def test_highdicom_opens_it(pair: tuple[list[Path], list[Path]]) -> None:
    _compare_in_highdicom(*pair)


@pytest.mark.cases
def test_highdicom_opens_a_real_series(real_pair: tuple[list[Path], list[Path]]) -> None:
    before, after = real_pair
    _compare_in_highdicom(before[:2], _of(before[:2], after))


def _of(sources: list[Path], derived: list[Path]) -> list[Path]:
    """Find the derived files of sources by the source that each names."""
    named = {}
    for file in derived:
        header = dcmread(file, stop_before_pixels=True)
        place = header
        if "PerFrameFunctionalGroupsSequence" in header:
            place = header.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[-1]
        named[place.SourceImageSequence[-1].ReferencedSOPInstanceUID] = file
    return [named[dcmread(f, stop_before_pixels=True).SOPInstanceUID] for f in sources]


def _compare_in_highdicom(sources: list[Path], derived: list[Path]) -> None:
    for before, after in zip(sources, _of(sources, derived), strict=True):
        source, made_of_it = highdicom.imread(before), highdicom.imread(after)
        assert made_of_it.get_frames().shape == source.get_frames().shape
        where, expected = (i.get_volume_geometry() for i in (made_of_it, source))
        if expected is None:  # several volumes, or no geometry at all
            assert where is None
        else:
            assert where is not None
            assert where.spatial_shape == expected.spatial_shape
            np.testing.assert_array_equal(where.affine, expected.affine)


def test_highdicom_builds_the_same_volume() -> None:
    series = big(orientation="oblique")
    first, second = (
        highdicom.get_volume_from_series([reread(dataset) for dataset in datasets])
        for datasets in (series, smoothed(series))
    )
    np.testing.assert_array_equal(second.affine, first.affine)
    assert second.spatial_shape == first.spatial_shape


# -------------------------------------------------------------------------------- DICOMweb


@pytest.fixture(scope="module")
def derived_kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Series]:
    """Derive one series of each kind, all in one study."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds: dict[str, Series] = {}
    for kind in ("classic", "enhanced, four times", "legacy converted", "mosaics"):
        series = [reread(dataset) for dataset in MADE[kind]()]
        for index, dataset in enumerate(series):
            dataset.SeriesInstanceUID = made_uid(kind)
            renumber(dataset, kind, index)
        kinds[kind] = smoothed(series)
    for kind, syntax in CODED.items():
        series = [in_syntax(d, UID(syntax), folder) for d in big(name=kind)]
        kinds[f"{kind}, as the source"] = smoothed(series, "source")
    return kinds


@pytest.fixture
def archive(make_site: Callable[..., Site]) -> Iterator[tuple[Site, httpx.Client]]:
    """Start Orthanc alone: nobody listens to what its plugin announces."""
    site = make_site()
    site.stack.token_file.write_text("nobody")
    site.start("orthanc")
    with httpx.Client(base_url=f"{site.stack.orthanc_url}/dicom-web", timeout=60) as client:
        yield site, client


@pytest.mark.archive
def test_dicomweb_serves_it(
    archive: tuple[Site, httpx.Client], derived_kinds: dict[str, Series], tmp_path: Path
) -> None:
    site, client = archive
    for kind, series in derived_kinds.items():
        for file in save(series, tmp_path / kind):
            answer = site.upload(file.read_bytes())
            assert answer.json()["Status"] == "Success", kind
    for series in derived_kinds.values():
        _check_search(client, series[0], len(series))
        for dataset in series[:2]:
            _check_metadata(client, dataset)
            if dataset.file_meta.TransferSyntaxUID == JPEG2000Lossless:
                _check_codestreams(client, dataset)
            else:
                _check_frames(client, dataset)
                _check_rendered(client, dataset)


def _path(dataset: Dataset) -> str:
    return (
        f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


def _check_search(client: httpx.Client, dataset: Dataset, count: int) -> None:
    """QIDO-RS finds the series, with its description and its number of instances."""
    query = {"SeriesInstanceUID": str(dataset.SeriesInstanceUID)}
    (found,) = client.get("/series", params=query).json()
    assert found["0020000E"]["Value"] == [dataset.SeriesInstanceUID]
    assert found["00201209"]["Value"] == [count]
    assert found["0008103E"]["Value"] == [dataset.SeriesDescription]
    instances = client.get("/instances", params=query).json()
    assert len(instances) == count


def _check_metadata(client: httpx.Client, dataset: Dataset) -> None:
    """WADO-RS metadata is the object, but for its pixels."""
    (metadata,) = client.get(f"{_path(dataset)}/metadata").json()
    served = Dataset.from_json(metadata, lambda _: b"")
    for keyword in ("ImageType", "DerivationDescription", "SeriesDescription", "SeriesNumber"):
        assert served[keyword].value == dataset[keyword].value
    (equipment,) = served.ContributingEquipmentSequence
    assert equipment.Manufacturer == "Halfscan"
    if "PerFrameFunctionalGroupsSequence" in dataset:
        frames = served.PerFrameFunctionalGroupsSequence
        assert len(frames) == dataset.NumberOfFrames
        assert [
            f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
            for f in frames
        ] == list(range(1, len(frames) + 1))


def _frame(client: httpx.Client, dataset: Dataset, number: int, syntax: str) -> bytes:
    accept = f'multipart/related; type="application/octet-stream"; transfer-syntax={syntax}'
    answer = client.get(f"{_path(dataset)}/frames/{number}", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return _only_part(answer)


def _check_frames(client: httpx.Client, dataset: Dataset) -> None:
    """WADO-RS gives the pixels of each frame, uncompressed."""
    pixels = pixel_array(dataset).reshape(-1, dataset.Rows, dataset.Columns)
    for number in (1, len(pixels)):
        content = _frame(client, dataset, number, ExplicitVRLittleEndian)
        frame = np.frombuffer(content, pixels.dtype.newbyteorder("<"), pixels[0].size)
        np.testing.assert_array_equal(frame.reshape(pixels[0].shape), pixels[number - 1])


def _check_codestreams(client: httpx.Client, dataset: Dataset) -> None:
    """WADO-RS gives the frames as they are coded: Orthanc itself decodes no JPEG 2000."""
    for number, coded in enumerate(generate_frames(dataset.PixelData, number_of_frames=1), 1):
        assert _frame(client, dataset, number, "*") == coded


def _only_part(answer: httpx.Response) -> bytes:
    """Give the one part of a multipart answer, byte for byte."""
    boundary = answer.headers["Content-Type"].split("boundary=")[1].split(";")[0].strip('"')
    head, content = answer.content.split(b"\r\n\r\n", 1)
    assert head.startswith(b"--" + boundary.encode())
    part, end = content.rsplit(b"\r\n--" + boundary.encode(), 1)
    assert end.startswith(b"--")
    return part


def _check_rendered(client: httpx.Client, dataset: Dataset) -> None:
    """WADO-RS renders the image as a PNG of its size."""
    frames = "frames/2/" if dataset.get("NumberOfFrames", 1) > 1 else ""
    answer = client.get(f"{_path(dataset)}/{frames}rendered", headers={"Accept": "image/png"})
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack_from(">II", answer.content, 16)
    assert (height, width) == (dataset.Rows, dataset.Columns)
