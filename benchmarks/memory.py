"""Peak memory of `halfscan reconstruct` and of a worker's way through a long series.

    python benchmarks/memory.py [--slices 512] [--matrix 512] [--noisy 512]

Makes a series of noisy discs as DICOM, runs the real command on it in a process of its own, and
prints the peak of that process's resident memory. The exit status is 1 from `LIMIT_MIB` on.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

LIMIT_MIB = 2048
SPACING_MM = 0.5
STUDY = ("halfscan benchmark", "memory")


def main() -> int:
    """Make the series, run the command, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=512)
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--noisy", type=int, help="the others have no noise, and cost little time")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="halfscan-benchmark-") as place:
        source = Path(place) / "in"
        noisy = chosen.slices if chosen.noisy is None else chosen.noisy
        write_series(source, chosen.slices, chosen.matrix, noisy)
        size = sum(file.stat().st_size for file in source.iterdir()) / 2**20
        matrix = f"{chosen.matrix} x {chosen.matrix}"
        print(f"{chosen.slices} slices of {matrix}, {noisy} noisy: {size:.0f} MiB")
        return run(source, Path(place) / "out")


def run(source: Path, target: Path) -> int:
    """Run ``halfscan reconstruct`` on a folder; 1 where it fails or takes too much memory."""
    command = [sys.executable, "-m", "halfscan_plugin.cli", "reconstruct", source, target, "--json"]
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.append(_all_of(child.stdout)))
    reader.start()
    # The peak is the kernel's own figure for this child alone, not a sample.
    _, status, usage = os.wait4(child.pid, 0)
    reader.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        print(f"the command failed with status {child.returncode}")
        return 1
    (report,) = json.loads(printed[0])
    peak_mib = usage.ru_maxrss / 1024  # Linux counts in KiB
    print(f"{report['status']}: {len(report.get('files', []))} files, {report.get('timings_s')}")
    print(f"{time.perf_counter() - begun:.0f} s, peak {peak_mib:.0f} MiB, limit {LIMIT_MIB} MiB")
    return int(report["status"] != "done" or peak_mib >= LIMIT_MIB)


def write_series(folder: Path, slices: int, matrix: int, noisy: int) -> None:
    """Write an accelerated series of noisy discs, one file a slice."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(512)
    for index in range(slices):
        dataset = header(index, matrix)
        dataset.PixelData = discs(matrix, index, rng, noisy=index < noisy).tobytes()
        dcmwrite(folder / f"{index + 1:04d}.dcm", dataset, enforce_file_format=True)


def discs(
    matrix: int, index: int, rng: np.random.Generator, *, noisy: bool = True
) -> npt.NDArray[np.uint16]:
    """Make one slice: discs of 200 to 1,000 in air, noise of standard deviation 20."""
    y, x = np.mgrid[:matrix, :matrix] / matrix - 0.5
    image = np.zeros((matrix, matrix))
    for number in range(8):
        angle = number + 0.05 * index
        row, column = 0.25 * np.sin(angle), 0.25 * np.cos(1.7 * angle)
        image[(y - row) ** 2 + (x - column) ** 2 < 0.01] = 200.0 + 100.0 * number
    noise = rng.normal(scale=20.0 if noisy else 0.0, size=(2, matrix, matrix))
    return np.asarray(np.rint(np.hypot(image + noise[0], noise[1])), dtype="<u2")


def header(index: int, matrix: int) -> Dataset:
    """Make the header of one slice of a series that the default rules reconstruct."""
    dataset = Dataset()
    for name, value in _facts(index, matrix).items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _facts(index: int, matrix: int) -> dict[str, Any]:
    return {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[*STUDY, str(index)]),
        "StudyInstanceUID": generate_uid(entropy_srcs=[*STUDY, "study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[*STUDY, "series"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[*STUDY, "frame of reference"]),
        "Modality": "MR",
        "Manufacturer": "Philips",
        "PatientName": "Benchmark^Memory",
        "PatientID": "BENCHMARK",
        "StudyDate": "20240101",
        "StudyTime": "120000",
        "AccessionNumber": "",
        "SeriesNumber": 5,
        "InstanceNumber": index + 1,
        "SeriesDescription": "512 slices",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE", "M", "SE"],
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "ParallelAcquisition": "YES",
        "ParallelAcquisitionTechnique": "SENSE",
        "ParallelReductionFactorInPlane": 2.0,
        "NumberOfAverages": 1,
        "EchoTime": 90.0,
        "RepetitionTime": 3000.0,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, float(index)],
        "PixelSpacing": [SPACING_MM, SPACING_MM],
        "SliceThickness": 1.0,
        "SpacingBetweenSlices": 1.0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": matrix,
        "Columns": matrix,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }


def _all_of(stream: Any) -> str:
    return str(stream.read())


if __name__ == "__main__":
    sys.exit(main())
