"""Simulated exams as DICOM files: headers, geometry, pixels, truth, errors."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from halfscan_models.simulation import ARMS, PROTOCOL, PatientExam, simulate_patient
from halfscan_plugin.errors import BadInput, HalfscanError
from halfscan_plugin.exam import ExamIdentity, SimulationReport, simulate, write_exam

QUICK: dict[str, Any] = {"matrix_scale": 0.25, "slices": 2}
SEED = 5


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SimulationReport:
    """One small patient, both arms, in a folder with a space in its name."""
    out = tmp_path_factory.mktemp("simulated exam") / "new folder"
    return simulate(out, patients=1, seed=SEED, **QUICK)


@pytest.fixture(scope="module")
def exam() -> PatientExam:
    """The same patient as arrays."""
    return simulate_patient(np.random.default_rng([SEED, 1]), **QUICK)


@pytest.fixture(scope="module")
def instances(report: SimulationReport) -> dict[tuple[str, str], list[Dataset]]:
    """The data sets of each series by sequence and arm, in order of instance number."""
    truth = json.loads(report.truth.read_text())
    return {
        (s["sequence"], s["arm"]): [dcmread(report.out / f) for f in s["files"]]
        for s in truth["patients"][0]["series"]
    }


def test_every_slice_of_every_series_is_a_file(report: SimulationReport) -> None:
    assert (report.patients, report.series, len(report.files)) == (1, 8, 16)
    on_disk = sorted(p for p in report.out.rglob("*") if p.is_file())
    assert on_disk == sorted([*report.files, report.truth])
    assert report.files[0] == report.out / "patient-0001" / "001_t2_tse_sag" / "0001.dcm"


def test_identifiers_are_unique_and_belong_together(
    instances: dict[tuple[str, str], list[Dataset]],
) -> None:
    every = [ds for series in instances.values() for ds in series]
    assert len({ds.SOPInstanceUID for ds in every}) == 16
    assert len({ds.SeriesInstanceUID for ds in every}) == 8
    assert len({ds.SeriesNumber for ds in every}) == 8
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate"):
        assert len({ds[keyword].value for ds in every}) == 1, keyword
    assert every[0].PatientID == "HALFSCAN-0005-0001"
    for ds in every:
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == MRImageStorage
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID


# Type 1 and 2 attributes of the MR Image IOD (PS3.3 A.4.3) that always apply; the second row may
# be empty.
TYPE_1 = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ScanningSequence",
    "SequenceVariant",
]
TYPE_2 = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
    "PatientPosition",
    "InstanceNumber",
    "ContentDate",
    "ContentTime",
    "SliceThickness",
    "ScanOptions",
    "MRAcquisitionType",
    "EchoTime",
    "EchoTrainLength",
    "RepetitionTime",
    "AcquisitionNumber",
]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", PROTOCOL)
def test_headers_say_how_it_was_acquired(
    instances: dict[tuple[str, str], list[Dataset]], name: str, arm: str
) -> None:
    sequence = PROTOCOL[name]
    parameters = sequence.arm(arm)  # type: ignore[arg-type]  # comes from ARMS
    for ds in instances[name, arm]:
        assert all(keyword in ds for keyword in TYPE_1 + TYPE_2)
        assert all(ds[keyword].value not in ("", None) for keyword in TYPE_1)
        assert list(ds.ImageType) == ["ORIGINAL", "PRIMARY", "M", "ND"]
        assert (ds.RepetitionTime, ds.EchoTime) == (sequence.tr_ms, sequence.te_ms)
        assert ds.PixelBandwidth == sequence.bandwidth_hz_px
        assert (ds.SliceThickness, ds.MagneticFieldStrength) == (4, 3)
        assert ds.NumberOfAverages == parameters.averages
        assert ds.AcquisitionDuration == parameters.scan_time_s
        assert ds.ParallelReductionFactorInPlane == parameters.acceleration
        assert ds.ParallelAcquisition == ("YES" if parameters.acceleration > 1 else "NO")
        assert ("ParallelAcquisitionTechnique" in ds) == (parameters.acceleration > 1)
        assert (ds.PercentSampling < 100) == (parameters.acceleration > 1)
        assert ("FS" in ds.ScanOptions) == sequence.fat_suppressed
        assert ds.SeriesDescription.endswith("_fast") == (arm == "accelerated")
        assert ds.BodyPartExamined == "LSPINE"


def test_phase_runs_front_to_back_in_both_planes(
    instances: dict[tuple[str, str], list[Dataset]],
) -> None:
    for name, direction, zeros in (("sag_t2", "ROW", [0, 3]), ("tra_t2", "COL", [1, 2])):
        ds = instances[name, "standard"][0]
        along = (
            ds.ImageOrientationPatient[:3] if direction == "ROW" else ds.ImageOrientationPatient[3:]
        )
        assert ds.InPlanePhaseEncodingDirection == direction
        assert list(along) == [0, 1, 0]
        assert [i for i, n in enumerate(ds.AcquisitionMatrix) if n == 0] == zeros


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", PROTOCOL)
def test_geometry_and_pixels_are_those_of_the_simulation(
    instances: dict[tuple[str, str], list[Dataset]], exam: PatientExam, name: str, arm: str
) -> None:
    series = exam.find(name, arm)  # type: ignore[arg-type]  # comes from ARMS
    factors = []
    for index, ds in enumerate(instances[name, arm]):
        assert ds.InstanceNumber == index + 1
        position = series.stack.to_patient(index, 0, 0)
        np.testing.assert_allclose(ds.ImagePositionPatient, position, atol=1e-3)
        row, column = (np.array(ds.ImageOrientationPatient[i : i + 3]) for i in (0, 3))
        last = np.add(
            ds.ImagePositionPatient,
            row * ds.PixelSpacing[1] * (ds.Columns - 1)
            + column * ds.PixelSpacing[0] * (ds.Rows - 1),
        )
        size = series.stack.shape[1]
        np.testing.assert_allclose(
            last, series.stack.to_patient(index, size - 1, size - 1), atol=1e-2
        )
        assert (ds.Rows, ds.Columns, ds.BitsStored) == (size, size, 12)
        assert ds.SpacingBetweenSlices == pytest.approx(series.stack.spacing_mm)
        pixels, volume = ds.pixel_array, series.volume[index]
        assert pixels.dtype == np.uint16
        assert pixels.max() <= 4095
        inside = (pixels > 500) & (pixels < 4095)
        factors.append(np.median(pixels[inside] / volume[inside]))
        np.testing.assert_allclose(pixels[inside], volume[inside] * factors[-1], rtol=0.01)
    assert factors[0] == pytest.approx(factors[1], rel=1e-3)
    locations = [float(ds.SliceLocation) for ds in instances[name, arm]]
    assert locations == sorted(locations)


def test_both_arms_are_stored_on_one_scale(
    instances: dict[tuple[str, str], list[Dataset]],
) -> None:
    for name in PROTOCOL:
        standard, fast = (np.mean(instances[name, arm][0].pixel_array) for arm in ARMS)
        assert standard == pytest.approx(fast, rel=0.05)


def test_times_follow_one_another(instances: dict[tuple[str, str], list[Dataset]]) -> None:
    ordered = sorted((s[0] for s in instances.values()), key=lambda ds: int(ds.SeriesNumber))
    starts = [ds.AcquisitionDateTime for ds in ordered]
    assert starts == sorted(set(starts))
    assert all(ds.ContentTime > ds.AcquisitionTime for ds in ordered)


def test_truth_names_every_file_series_level_and_region(
    report: SimulationReport, exam: PatientExam
) -> None:
    truth = json.loads(report.truth.read_text())
    (patient,) = truth["patients"]
    assert truth["simulation"]["seed"] == SEED
    files = [report.out / f for s in patient["series"] for f in s["files"]]
    assert files == list(report.files)
    for series in patient["series"]:
        first = dcmread(report.out / series["files"][0], stop_before_pixels=True)
        assert first.SeriesInstanceUID == series["series_instance_uid"]
        assert first.StudyInstanceUID == patient["study_instance_uid"]
        assert (first.ParallelAcquisition == "YES") == series["accelerated"]
        assert first.NumberOfAverages == series["averages"]
    found = {(p.level, p.kind) for p in exam.pathologies}
    told = {(lv["level"], kind) for lv in patient["levels"] for kind in lv["findings"]}
    assert told == found
    assert found, "the seed was chosen to have findings"
    assert len(patient["levels"]) == 5
    assert [r["name"] for r in patient["regions"]] == [r.name for r in exam.regions]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUICK, "slices": 1, "sequences": ("sag_t1",)}
    runs = [
        simulate(tmp_path / name, patients=n, seed=2, **options) for name, n in (("a", 1), ("b", 2))
    ]
    for first, second in zip(runs[0].files, runs[1].files, strict=False):
        assert first.relative_to(runs[0].out) == second.relative_to(runs[1].out)
        assert first.read_bytes() == second.read_bytes()
    patients = [json.loads(r.truth.read_text())["patients"] for r in runs]
    assert patients[0][0] == patients[1][0]
    assert patients[1][0]["patient_id"] != patients[1][1]["patient_id"]
    uids = {dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in runs[1].files}
    assert len(uids) == len(runs[1].files) == 4


def test_progress_runs_over_all_patients(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options: dict[str, Any] = {
        **QUICK,
        "slices": 1,
        "sequences": ("sag_t1",),
        "arms": ("standard",),
    }
    simulate(tmp_path / "out", patients=2, seed=2, progress=lambda *at: seen.append(at), **options)
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("program", "arguments"), [("dcmdump", ["-q"]), ("dciodvfy", [])], ids=["dcmtk", "dicom3tools"]
)
def test_other_programs_accept_the_files(
    report: SimulationReport, program: str, arguments: list[str]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for file in report.files[::2]:  # the first of each series
        run = subprocess.run(
            [program, *arguments, str(file)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert "error" not in run.stderr.lower()


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patients": 0}, "patients must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"slices": 0}, "slices must be >= 1, got 0"),
        ({"arms": ("quick",)}, "arms must be some of"),
        ({"matrix_scale": 7}, "matrix_scale must lie in"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        simulate(tmp_path / "out", **{"patients": 1, "seed": 0, **QUICK, **options})


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    keep = tmp_path / "keep.txt"
    keep.write_text("mine")
    with pytest.raises(BadInput, match="output folder must be empty"):
        simulate(tmp_path, patients=1, seed=0, **QUICK)
    with pytest.raises(BadInput, match="must be a folder, got the file"):
        simulate(keep, patients=1, seed=0, **QUICK)
    with pytest.raises(BadInput, match="cannot make the folder"):
        simulate(keep / "below", patients=1, seed=0, **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]
    assert keep.read_text() == "mine"


def test_an_exam_is_not_written_over_another(exam: PatientExam, tmp_path: Path) -> None:
    write_exam(exam, tmp_path / "patient", ExamIdentity(0, 1))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="must not exist yet"):
        write_exam(exam, tmp_path / "patient", ExamIdentity(0, 1))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_named(exam: PatientExam, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(HalfscanError, match=r"cannot write to .*file"):
        write_exam(exam, blocked, ExamIdentity(0, 1))
