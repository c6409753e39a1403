"""How much of a job is detection: headers read from Orthanc, and the decision.

A series goes the whole road through the real programs: Orthanc with the plugin, the API, a worker.
What is measured stands in the ledger: ``timings_s`` of its row. Run it with

    python benchmarks/detection_share.py --slices 500 --matrix 256

It ends with status 1 where detection takes 5 % of the job or more.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from halfscan_plugin.archive import Archive
from halfscan_plugin.dimse import send
from halfscan_plugin.ledger import Ledger
from halfscan_plugin.stack import Stack

BAR = 0.05
PATIENCE_S = 3600.0
PRIVATE_BYTES = 60_000  # of the protocol that Siemens writes into every object


def main() -> int:
    """Run the series through the programs and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="halfscan-benchmark-") as place:
        folder = Path(place)
        files = write_series(folder / "series", chosen.slices, chosen.matrix, chosen.seed)
        report = measure(folder, files) | {"slices": chosen.slices, "matrix": chosen.matrix}
    print(json.dumps(report, indent=1))
    return 0 if report["detection_share"] < BAR else 1


def write_series(folder: Path, slices: int, matrix: int, seed: int) -> list[Path]:
    """Write an accelerated series: a noisy disc in each slice, a large private element in each."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    study, series, frame = (generate_uid(entropy_srcs=[n, str(seed)]) for n in "abc")
    distance = np.hypot(*np.mgrid[-1 : 1 : matrix * 1j, -1 : 1 : matrix * 1j])
    protocol = rng.bytes(PRIVATE_BYTES)
    files = []
    for index in range(slices):
        image = 1200 * (distance < 0.8) + 500 * (distance < 0.3) + rng.normal(0, 40, distance.shape)
        dataset = header_of_slice(index, (study, series, frame))
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x20, "OB", protocol)
        dataset.Rows = dataset.Columns = matrix
        dataset.PixelData = np.abs(image).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        files.append(folder / f"{index:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def header_of_slice(index: int, uids: tuple[str, str, str]) -> Dataset:
    """Make what a slice says of itself, without its pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = uids
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[uids[1], str(index)])
    dataset.Modality, dataset.Manufacturer = "MR", "SIMULATED"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.PatientID, dataset.PatientName = "BENCHMARK", "Bench^Mark"
    dataset.StudyDate, dataset.StudyTime = "20240102", "101500"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 5, index + 1
    dataset.NumberOfAverages, dataset.ParallelReductionFactorInPlane = 1, 2.0
    dataset.ParallelAcquisition, dataset.ParallelAcquisitionTechnique = "YES", "SENSE"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = 3500, 90, 16
    dataset.ImagePositionPatient = [0, 0, float(index)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.75, 0.75], 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def measure(folder: Path, files: list[Path]) -> dict[str, object]:
    """Send the series, wait for its outcome, and give what the ledger says of it."""
    stack = Stack(folder, stable_age_s=1)
    try:
        stack.start()
        send(files, stack.dicom_port)
        ledger = Ledger(stack.api_url, stack.token("service"))
        row = wait_for_outcome(ledger, stack)
        ledger.close()
        archive = Archive(stack.orthanc_url)
        system = archive.ping()
        archive.close()
    finally:
        stack.stop()
    timings = row["timings_s"]
    return {
        "orthanc": system["Version"],
        "derived_instances": row["derived_instances"],
        "timings_s": timings,
        "detection_s_per_slice": round(timings["detect"] / len(files), 5),
        "detection_share": round(timings["detect"] / timings["total"], 4),
        "bar": BAR,
    }


def wait_for_outcome(ledger: Ledger, stack: Stack) -> dict[str, object]:
    """Wait until the series is done."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        stack.check()
        rows = ledger.rows(status="done")["items"]
        if rows:
            return dict(rows[0])
        time.sleep(1)
    raise SystemExit(f"the series was not done within {PATIENCE_S:g} s")


if __name__ == "__main__":
    sys.exit(main())
