"""A simulated examination as DICOM files: classic MR Image Storage, as a scanner would write it.

`halfscan_models.simulation` makes the arrays and knows the truth; here they get their headers
(DICOM PS3.3 A.4, MR Image IOD) and their place on disk:

    OUT/patient-0001/001_t2_tse_sag/0001.dcm
    OUT/truth.json

Everything follows from the seed, UIDs and dates included: the same call writes the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from halfscan_models.simulation import (
    ARMS,
    LEVELS,
    PROTOCOL,
    PatientExam,
    Region,
    SimulatedSeries,
    SimulationError,
    simulate_patient,
)
from halfscan_models.simulation.parallel import Technique
from halfscan_models.simulation.protocol import Arm
from halfscan_plugin.errors import BadInput, HalfscanError

__all__ = ["ExamIdentity", "SimulationReport", "simulate", "write_exam"]

Progress = Callable[[int, int], None]

_FIRST_DAY = datetime(2025, 1, 6, 8, 0, tzinfo=UTC)
_PAUSE_S = 20  # between two series, for the scanner to adjust
_FULL_SCALE = 3000  # stored value of the 99.9th percentile of a series, within 12 bits
_LARGEST = 4095
_PREFIX = "1.2.826.0.1.3680043.8.498."  # pydicom's root, which is free for all
_DOI = "10.1186/s41747-024-00470-0"


@dataclass(frozen=True, slots=True)
class ExamIdentity:
    """Who is examined, and when: a pseudonym that follows from the seed.

    Attributes
    ----------
    seed : int
        Seed of the simulation.
    number : int
        Patient of this simulation, from 1.
    """

    seed: int
    number: int

    @property
    def patient_id(self) -> str:
        """For example ``HALFSCAN-0007-0001``: seed and number."""
        return f"HALFSCAN-{self.seed:04d}-{self.number:04d}"

    @property
    def patient_name(self) -> str:
        """The same as family and given name."""
        return f"HALFSCAN^{self.seed:04d}-{self.number:04d}"

    @property
    def start(self) -> datetime:
        """Start of the examination: one patient a day."""
        return _FIRST_DAY + timedelta(days=self.number - 1)

    def uid(self, *parts: str) -> UID:
        """UID that follows from the identity and `parts`."""
        return generate_uid(_PREFIX, ["halfscan simulation", self.patient_id, *parts])


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What `simulate` wrote.

    Attributes
    ----------
    out : Path
        Folder.
    truth : Path
        The JSON file with the truth.
    patients, series : int
        Their numbers.
    files : tuple of Path
        All DICOM files.
    """

    out: Path
    truth: Path
    patients: int
    series: int
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One series on its way to disk."""

    series: SimulatedSeries
    number: int
    start: datetime
    scale: float  # stored values per object unit
    pixels: npt.NDArray[np.uint16]
    uid: UID

    @property
    def description(self) -> str:
        fast = "_fast" if self.series.arm == "accelerated" else ""
        return self.series.sequence.description + fast

    @property
    def folder(self) -> str:
        return f"{self.number:03d}_{self.description}"

    @property
    def window(self) -> tuple[float, float]:
        """Centre and width that a reader would start from."""
        clean = self.series.noise_free * self.scale
        # Fat is bright and everywhere, but where it is suppressed little else than fluid is bright.
        share = 99 if self.series.sequence.fat_suppressed else 96
        high = float(np.percentile(clean, share))
        return round(high / 2), round(high)


def _number(series: SimulatedSeries) -> int:
    """Series number: the protocol's order from 1 (standard) or from 11 (accelerated)."""
    first = 11 if series.arm == "accelerated" else 1
    return first + list(PROTOCOL).index(series.sequence.name)


def _entries(exam: PatientExam, identity: ExamIdentity) -> Iterator[_Entry]:
    """Scan times, stored values and UIDs of the series, in the order of their numbers."""
    ordered = sorted(exam.series, key=_number)
    waits = [0.0, *(s.parameters.scan_time_s + _PAUSE_S for s in ordered[:-1])]
    for series, offset in zip(ordered, accumulate(waits), strict=True):
        scale = _FULL_SCALE / max(float(np.percentile(series.noise_free, 99.9)), 1e-6)
        pixels = np.clip(np.rint(series.volume * scale), 0, _LARGEST).astype("<u2")
        number = _number(series)
        # The content is part of the UID: other settings under the same seed are other objects.
        content = hashlib.sha256(pixels.tobytes()).hexdigest()
        uid = identity.uid("series", str(number), content)
        start = identity.start + timedelta(seconds=offset)
        yield _Entry(series, number, start, scale, pixels, uid)


def _da(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def _tm(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")


def _ds(value: float) -> str:
    return format_number_as_ds(float(value))


def _set(ds: Dataset, **attributes: Any) -> None:
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)


def _study_header(ds: Dataset, identity: ExamIdentity) -> None:
    """Patient, general study, frame of reference, equipment (PS3.3 C.7.1 to C.7.5)."""
    _set(
        ds,
        SpecificCharacterSet="ISO_IR 100",
        PatientName=identity.patient_name,
        PatientID=identity.patient_id,
        PatientBirthDate="",
        PatientSex="O",
        QualityControlSubject="YES",  # a phantom, nobody
        StudyInstanceUID=identity.uid("study"),
        StudyDate=_da(identity.start),
        StudyTime=_tm(identity.start),
        StudyID=str(identity.number),
        StudyDescription="LSPINE simulated",
        AccessionNumber="",
        ReferringPhysicianName="",
        FrameOfReferenceUID=identity.uid("frame of reference"),
        PositionReferenceIndicator="",
        Manufacturer="Halfscan",
        ManufacturerModelName="numerical phantom",
        DeviceSerialNumber="0",
        SoftwareVersions="halfscan simulation 1",
    )


def _series_header(ds: Dataset, entry: _Entry) -> None:
    """General series and the moments of acquisition."""
    end = entry.start + timedelta(seconds=entry.series.parameters.scan_time_s)
    _set(
        ds,
        SOPClassUID=MRImageStorage,
        Modality="MR",
        SeriesInstanceUID=entry.uid,
        SeriesNumber=entry.number,
        SeriesDescription=entry.description,
        ProtocolName=entry.description,
        BodyPartExamined="LSPINE",
        PatientPosition="HFS",
        SeriesDate=_da(entry.start),
        SeriesTime=_tm(entry.start),
        AcquisitionDate=_da(entry.start),
        AcquisitionTime=_tm(entry.start),
        AcquisitionDateTime=_da(entry.start) + _tm(entry.start),
        AcquisitionNumber=1,
        AcquisitionDuration=float(entry.series.parameters.scan_time_s),
        ContentDate=_da(end),
        ContentTime=_tm(end),
        InstanceCreationDate=_da(end),
        InstanceCreationTime=_tm(end),
    )


def _sequence_header(ds: Dataset, series: SimulatedSeries) -> None:
    """How the images were acquired (PS3.3 C.8.3.1)."""
    sequence, arm = series.sequence, series.parameters
    readout, lines = series.sampling.readout, series.sampling.lines
    by_row = series.stack.plane == "sagittal"  # phase runs front to back: along a sagittal row
    measured = 100 * series.lines_acquired / series.sampling.acquired[1]
    _set(
        ds,
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND"],
        ScanningSequence="SE",
        SequenceVariant=["SK", "SP"],
        ScanOptions=["SP", "FS"] if sequence.fat_suppressed else "SP",
        MRAcquisitionType="2D",
        SequenceName=f"*tse2d1_{sequence.echo_train_length}",
        AngioFlag="N",
        RepetitionTime=_ds(sequence.tr_ms),
        EchoTime=_ds(sequence.te_ms),
        EchoTrainLength=sequence.echo_train_length,
        EchoNumbers=1,
        NumberOfAverages=_ds(arm.averages),
        ImagingFrequency=_ds(123.25),
        ImagedNucleus="1H",
        MagneticFieldStrength=_ds(3),
        NumberOfPhaseEncodingSteps=series.lines_acquired,
        PercentSampling=_ds(round(measured, 2)),
        PercentPhaseFieldOfView=_ds(100),
        PixelBandwidth=_ds(sequence.bandwidth_hz_px),
        ReceiveCoilName="SPINE-BODY-8",
        TransmitCoilName="BODY",
        AcquisitionMatrix=[0, readout, lines, 0] if by_row else [readout, 0, 0, lines],
        InPlanePhaseEncodingDirection="ROW" if by_row else "COL",
        FlipAngle=_ds(90),
        VariableFlipAngleFlag="N",
        ParallelAcquisition="YES" if arm.acceleration > 1 else "NO",
        ParallelReductionFactorInPlane=float(arm.acceleration),
    )
    if series.technique is not None:
        ds.ParallelAcquisitionTechnique = series.technique


def _image_header(ds: Dataset, entry: _Entry, index: int) -> None:
    """Geometry and pixels of one slice (PS3.3 C.7.6.2, C.7.6.3)."""
    stack = entry.series.stack
    position = stack.to_patient(index, 0, 0)
    centre, width = entry.window
    pixels = entry.pixels[index]
    # Classic MR Image Storage has no slice direction of its own: the location is signed along
    # the normal, so that it grows with the instance number.
    location = float(np.dot(position, stack.normal))
    _set(
        ds,
        InstanceNumber=index + 1,
        ImagePositionPatient=[_ds(round(v, 4)) for v in position],
        ImageOrientationPatient=[_ds(v) for v in (*stack.row_direction, *stack.column_direction)],
        PixelSpacing=[_ds(stack.pixel_mm), _ds(stack.pixel_mm)],
        SliceThickness=_ds(stack.thickness_mm),
        SpacingBetweenSlices=_ds(stack.spacing_mm),
        SliceLocation=_ds(round(location, 4)),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stack.shape[1],
        Columns=stack.shape[2],
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        SmallestImagePixelValue=int(pixels.min()),
        LargestImagePixelValue=int(pixels.max()),
        WindowCenter=_ds(centre),
        WindowWidth=_ds(max(width, 1)),
        PixelData=pixels.tobytes(),
    )


def _dataset(entry: _Entry, identity: ExamIdentity, index: int) -> Dataset:
    """One instance."""
    ds = Dataset()
    _study_header(ds, identity)
    _series_header(ds, entry)
    _sequence_header(ds, entry.series)
    _image_header(ds, entry, index)
    ds.SOPInstanceUID = identity.uid("instance", entry.uid, str(index + 1))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def _write_series(entry: _Entry, identity: ExamIdentity, folder: Path) -> list[Path]:
    """Write one series to its folder."""
    target = folder / entry.folder
    files: list[Path] = []
    try:
        target.mkdir(parents=True)
        for index in range(entry.series.stack.shape[0]):
            files.append(target / f"{index + 1:04d}.dcm")
            _dataset(entry, identity, index).save_as(files[-1], enforce_file_format=True)
    except FileExistsError:
        raise BadInput(f"the folder {target} must not exist yet") from None
    except OSError as error:
        raise HalfscanError(f"cannot write to {target}: {error.strerror or error}") from error
    return files


def write_exam(exam: PatientExam, folder: Path, identity: ExamIdentity) -> list[Path]:
    """Write all series of an exam, a folder each.

    Parameters
    ----------
    exam : PatientExam
        What was simulated.
    folder : Path
        Folder of the patient; made where it is missing.
    identity : ExamIdentity
        Pseudonym and date.

    Returns
    -------
    list of Path
        The files, in the order of series number and instance number.

    Raises
    ------
    BadInput
        If the folder of a series exists already.
    HalfscanError
        If a file cannot be written.
    """
    files: list[Path] = []
    for entry in _entries(exam, identity):
        files.extend(_write_series(entry, identity, folder))
    return files


# ------------------------------------------------------------------------------- the truth


def _region(region: Region) -> dict[str, Any]:
    return {**asdict(region), "area_mm2": round(region.area_mm2, 2)}


def _series_truth(entry: _Entry, folder: Path, out: Path) -> dict[str, Any]:
    series, arm = entry.series, entry.series.parameters
    target = folder / entry.folder
    return {
        "series_instance_uid": str(entry.uid),
        "series_number": entry.number,
        "series_description": entry.description,
        "sequence": series.sequence.name,
        "arm": series.arm,
        "accelerated": arm.acceleration > 1,
        "in_plane_factor": arm.acceleration,
        "averages": arm.averages,
        "technique": series.technique,
        "scan_time_s": arm.scan_time_s,
        "stored_per_unit": round(entry.scale, 4),
        "files": [f.relative_to(out).as_posix() for f in sorted(target.glob("*.dcm"))],
    }


def _patient_truth(
    exam: PatientExam, identity: ExamIdentity, folder: Path, out: Path
) -> dict[str, Any]:
    """What is true about one patient."""
    findings = {
        level: sorted({p.kind for p in exam.pathologies if p.level == level}) for level in LEVELS
    }
    return {
        "patient_id": identity.patient_id,
        "folder": folder.relative_to(out).as_posix(),
        "study_instance_uid": str(identity.uid("study")),
        "frame_of_reference_uid": str(identity.uid("frame of reference")),
        "levels": [{"level": level, "findings": found} for level, found in findings.items()],
        "pathologies": [asdict(p) for p in exam.pathologies],
        "regions": [_region(r) for r in exam.regions],
        "series": [_series_truth(e, folder, out) for e in _entries(exam, identity)],
    }


def _check_output(out: Path) -> None:
    """Make the folder, or refuse one that holds something."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"the output must be a folder, got the file {out}")
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"the output folder must be empty, and {out} is not")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the folder {out}: {error.strerror or error}") from error


def _write_truth(path: Path, seed: int, patients: Sequence[dict[str, Any]]) -> None:
    truth = {
        "simulation": {
            "seed": seed,
            "protocol": f"doi:{_DOI}, Table 1",
            "coordinates": "patient coordinates in mm: x to the left, y to the back, z to the head",
        },
        "patients": patients,
    }
    try:
        path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise HalfscanError(f"cannot write {path}: {error.strerror or error}") from error


def simulate(  # noqa: PLR0913 - all but the folder are options by name
    out: Path,
    *,
    patients: int,
    seed: int,
    arms: tuple[Arm, ...] = ARMS,
    sequences: Sequence[str] = tuple(PROTOCOL),
    slices: int | None = None,
    matrix_scale: float = 1.0,
    technique: Technique = "SENSE",
    progress: Progress | None = None,
) -> SimulationReport:
    """Simulate patients and write their exams and the truth to a folder.

    Parameters
    ----------
    out : Path
        Empty or new folder.
    patients : int
        Number of patients, >= 1; patient n is the same however many there are.
    seed : int
        Seed, >= 0. The same seed gives the same bytes.
    arms, sequences, slices, matrix_scale, technique
        See `halfscan_models.simulation.simulate_patient`.
    progress : callable, optional
        Called as ``progress(done, total)`` with slices scanned and slices in all.

    Returns
    -------
    SimulationReport
        What was written.

    Raises
    ------
    BadInput
        If an argument breaks its rule, or the folder is not empty.
    HalfscanError
        If a file cannot be written.
    """
    if patients < 1:
        raise BadInput(f"patients must be >= 1, got {patients!r}")
    if seed < 0:
        raise BadInput(f"seed must be >= 0, got {seed!r}")
    _check_output(out)
    files: list[Path] = []
    truths: list[dict[str, Any]] = []
    for number in range(1, patients + 1):
        try:
            exam = simulate_patient(
                np.random.default_rng([seed, number]),
                arms=arms,
                sequences=sequences,
                slices=slices,
                matrix_scale=matrix_scale,
                technique=technique,
                progress=_overall(progress, number, patients),
            )
        except SimulationError as error:
            raise BadInput(str(error)) from error
        identity = ExamIdentity(seed, number)
        folder = out / f"patient-{number:04d}"
        files += write_exam(exam, folder, identity)
        truths.append(_patient_truth(exam, identity, folder, out))
    truth = out / "truth.json"
    _write_truth(truth, seed, truths)
    series = sum(len(t["series"]) for t in truths)
    return SimulationReport(out, truth, patients, series, tuple(files))


def _overall(progress: Progress | None, number: int, patients: int) -> Progress | None:
    """Progress over all patients from that of one."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress((number - 1) * total + done, patients * total)

    return report
