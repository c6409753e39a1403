"""Volumes of real series against dcm2niix: another reader, the same slices in the same order."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from halfscan_plugin.volume import read_volume

TYPES = {4: "<i2", 512: "<u2"}  # NIfTI-1, datatype


def nifti_volumes(file: Path) -> npt.NDArray[np.integer[Any]]:
    """Read an uncompressed NIfTI-1 file: (volume, slice, row, column), rows as in DICOM."""
    content = file.read_bytes()
    count, *sizes = struct.unpack_from("<8h", content, 40)
    (kind,) = struct.unpack_from("<h", content, 70)
    (start,) = struct.unpack_from("<f", content, 108)
    shape = sizes[:count][::-1]
    values = np.frombuffer(content, TYPES[kind], int(np.prod(shape)), int(start))
    # dcm2niix writes the last row first.
    return values.reshape(-1, *shape[-3:])[:, :, ::-1]


@pytest.mark.cases
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "case",
    [
        "si_e11_epi_p2",
        "si_vb17_epi_p2",
        "si_xa61_enh_p2",
        "uih_r002_dti_p2_nex6",
        "ge_dwi_asset2",
    ],
)
def test_the_same_volumes_as_dcm2niix(case: str, cases: Path, tmp_path: Path) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed: apt-get install dcm2niix")
    files = [f for f in sorted((cases / case).iterdir()) if not f.name.upper().startswith("LICEN")]
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "out", "-o", str(tmp_path)]
    subprocess.run([*command, str(cases / case)], check=True, capture_output=True, timeout=120)
    (written,) = tmp_path.glob("*.nii")
    source = read_volume([dcmread(file) for file in files])
    stored = source.stored.reshape(len(source.stacks), -1, *source.stored.shape[1:])
    np.testing.assert_array_equal(stored, nifti_volumes(written))
