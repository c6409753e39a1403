"""What the tests of derived objects share: sources in other transfer syntaxes, and what changed."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_maker import encoded, reread
from halfscan_plugin.derived import DerivedSeries, Provenance, derive
from halfscan_plugin.volume import read_volume

MADE_BY = Provenance("dbpn-t", "1", "ab" * 32, 1.0, "0.1.0")
# Options of DCMTK's dcmcjpeg, which writes what nothing in Python does.
DCMCJPEG = {
    JPEGLossless: ["+el", "+sv", "6"],
    JPEGLosslessSV1: ["+e1"],
    JPEGBaseline8Bit: ["+eb"],
    JPEGExtended12Bit: ["+ee"],
}
PYDICOM: dict[UID, dict[str, Any]] = {
    RLELossless: {},
    JPEGLSLossless: {},
    JPEGLSNearLossless: {"jls_error": 3},
    JPEG2000Lossless: {},
    JPEG2000: {"j2k_cr": [4]},
}
PLAIN = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

# The real series that can be read: all MR images but a localizer in three planes.
REAL = [
    "cn_v61_classic_speeder2", "derived_nifti2dicom_brain_t1", "ge_dwi_asset1p5", "ge_dwi_asset2",
    "ge_fmri_hb8_r1", "ph_r11_enh_tse_csai2_DL", "ph_r11_enh_tse_none", "ph_r57_classic_ffe_cs4",
    "ph_r57_classic_fieldmap_none", "ph_r57_classic_fmri_s1p5_mb3", "ph_t5_se_nsa4_1024",
    "si_e11_epi_nopat", "si_e11_epi_p2", "si_vb17_epi_mb_nopat_j2k", "si_vb17_epi_p2",
    "si_xa10_enh_sms2_nopat", "si_xa30_classic_tfl_p2", "si_xa61_enh_p2", "uih_r002_dti_p2_nex6",
]  # fmt: skip


def unchanged(
    series: Sequence[Dataset], made_by: Provenance = MADE_BY, **options: Any
) -> DerivedSeries:
    """Derive a series whose result is the source's own volume."""
    source = read_volume(series)
    return derive(source, source.volume, made_by, **{"series_number": 1005, **options})


def real_files(case: Path) -> list[Path]:
    """Give the DICOM files of a real series; its folder holds a licence too."""
    return sorted(file for file in case.iterdir() if not file.name.startswith("LICENSE"))


def in_syntax(dataset: Dataset, syntax: UID, folder: Path) -> Dataset:
    """Give an uncompressed object as a file in another transfer syntax."""
    copied = reread(dataset)
    if syntax in PYDICOM:
        copied.compress(syntax, generate_instance_uid=False, **PYDICOM[syntax])
    elif syntax in DCMCJPEG:
        before, after = folder / "before.dcm", folder / "after.dcm"
        before.write_bytes(encoded(copied))
        # Without +un, dcmcjpeg gives the copy of a lossy compression a UID of its own.
        subprocess.run(["dcmcjpeg", "+un", *DCMCJPEG[syntax], before, after], check=True)
        return dcmread(after)
    else:
        if syntax == ExplicitVRBigEndian:
            _swap(copied)
        copied.file_meta.TransferSyntaxUID = syntax
    return reread(copied)


def flat(dataset: Dataset, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a data set with its path, nested ones too."""
    for element in dataset:
        name = f"{path}{element.keyword or element.tag}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from flat(item, f"{name}[{number}].")
        else:
            yield name, element.value


def changes(before: Dataset, after: Dataset) -> set[str]:
    """Give the paths of values that are not the same in two objects, or only in one."""
    first, second = dict(flat(before)), dict(flat(after))
    return {p for p in first.keys() | second.keys() if first.get(p) != second.get(p)}


def _swap(dataset: Dataset) -> None:
    """Turn the bytes of words round: pydicom writes them as they are."""
    for element in dataset.iterall():
        if element.VR == "OW":
            content = bytearray(element.value)
            content[::2], content[1::2] = content[1::2], content[::2]
            element.value = bytes(content)
