"""MR objects for tests, with the tag layouts that scanners write; all values are made up.

Every function gives the same objects for the same arguments.
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset, FileMetaDataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

Pixels = npt.NDArray[np.integer[Any]]

ORIENTATIONS = {
    "axial": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "sagittal": [0.0, 1.0, 0.0, 0.0, 0.0, -1.0],
    "oblique": [0.8, 0.6, 0.0, 0.0, 0.0, -1.0],
}
SIEMENS_CLASSIC = (0x0051, "SIEMENS MR HEADER")
SIEMENS_XA = (0x0021, "SIEMENS MR SDS 01")
SIEMENS_XA_IMAGE = (0x0021, "SIEMENS MR SDI 02")


def made_uid(*parts: object) -> str:
    """Give a UID that depends on nothing but `parts`."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
    return f"2.25.{int(digest[:30], 16)}"


def mr_series(
    slices: int = 4,
    *,
    rows: int = 12,
    columns: int = 10,
    bits: tuple[int, int] = (16, 12),
    signed: bool = False,
    orientation: str = "axial",
    spacing_mm: float = 4.0,
    name: str = "series",
    pixels: Pixels | None = None,
    seed: int = 0,
    **attributes: Any,
) -> list[Dataset]:
    """Make a classic MR series, in the order of its slices.

    Parameters
    ----------
    slices, rows, columns : int
        Size; `pixels` has its own.
    bits : tuple of int
        BitsAllocated and BitsStored.
    signed : bool
        PixelRepresentation.
    orientation : str
        Key of `ORIENTATIONS`.
    spacing_mm : float
        Between slices [mm].
    name : str
        Another name, other UIDs; the study stays.
    pixels : ndarray of integers, shape (slice, row, column), optional
        Stored values; noise that fills the bits where None.
    seed : int
        Of the noise.
    **attributes
        By DICOM keyword; None removes one.
    """
    highest = 2 ** (bits[1] - 1 if signed else bits[1])
    if pixels is None:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, highest, (slices, rows, columns))
    cosines = np.array(ORIENTATIONS[orientation])
    normal = np.cross(cosines[:3], cosines[3:])
    datasets = []
    for index, image in enumerate(pixels):
        dataset = base_object(MRImageStorage, name, index)
        dataset.ImageOrientationPatient = list(cosines)
        dataset.ImagePositionPatient = [round(float(x), 4) for x in normal * spacing_mm * index]
        set_image(dataset, image, bits, signed=signed)
        for keyword, value in attributes.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)
        datasets.append(dataset)
    return datasets


def mr_object(**attributes: Any) -> Dataset:
    """Make one classic MR object; arguments as for `mr_series`."""
    return mr_series(1, **attributes)[0]


def enhanced_object(frames: int = 3, **attributes: Any) -> Dataset:
    """Make an enhanced MR object with empty functional groups; it has no pixels."""
    dataset = base_object(EnhancedMRImageStorage, "enhanced", 0)
    dataset.NumberOfFrames = frames
    dataset.Rows = dataset.Columns = 8
    dataset.SharedFunctionalGroupsSequence = DicomSequence([Dataset()])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence([Dataset() for _ in range(frames)])
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def add_modifier(dataset: Dataset, **attributes: Any) -> Dataset:
    """Put attributes into MRModifierSequence of an enhanced object's shared groups."""
    item = _item(**attributes)
    dataset.SharedFunctionalGroupsSequence[0].MRModifierSequence = DicomSequence([item])
    return dataset


def add_averages(dataset: Dataset, averages: float) -> Dataset:
    """Put NumberOfAverages into MRAveragesSequence of each frame."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.MRAveragesSequence = DicomSequence([_item(NumberOfAverages=averages)])
    return dataset


def add_siemens_classic(dataset: Dataset, text: str | None, *, others: int = 0) -> Dataset:
    """Write the block of VB and VE, with (0051,xx11) where `text` is given."""
    dataset.Manufacturer = "SIEMENS"
    block = add_block(dataset, *SIEMENS_CLASSIC, others=others)
    dataset.add_new(block + 0x08, "CS", "IMAGE NUM 4")
    if text is not None:
        dataset.add_new(block + 0x11, "LO", text)
    return dataset


def add_siemens_xa(
    dataset: Dataset, text: str | None, *, tokens: Sequence[str] = (), others: int = 0
) -> Dataset:
    """Write the blocks of XA at the top level, with (0021,xx09) where `text` is given."""
    dataset.Manufacturer = "Siemens Healthineers"
    _write_xa(dataset, text, tokens, others)
    return dataset


def add_siemens_xa_enhanced(
    dataset: Dataset, text: str | None, *, tokens: Sequence[str] = (), others: int = 0
) -> Dataset:
    """Write the blocks of XA as enhanced objects have them.

    (0021,xx09) is in the private sequence (0021,xxFE) of the shared functional groups, the image
    type with its tokens in that of each frame.
    """
    dataset.Manufacturer = "Siemens Healthineers"
    shared, image = Dataset(), Dataset()
    _write_xa(shared, text, (), others)
    block = add_block(image, *SIEMENS_XA_IMAGE, others=others)
    image.add_new(block + 0x75, "CS", ["ORIGINAL", "PRIMARY", "M", *tokens])
    group = dataset.SharedFunctionalGroupsSequence[0]
    outer = add_block(group, *SIEMENS_XA, others=others)
    group.add_new(outer + 0xFE, "SQ", [shared])
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        outer = add_block(frame, *SIEMENS_XA_IMAGE, others=others)
        frame.add_new(outer + 0xFE, "SQ", [image])
    return dataset


def add_block(dataset: Dataset, group: int, creator: str, *, others: int = 0) -> int:
    """Reserve a private block behind `others` foreign ones and give its first tag."""
    for number in range(others):
        foreign = dataset.private_block(group, f"FOREIGN {number}", create=True)
        # At the same low bytes: who reads by the full number reads this.
        foreign.add_new(0x09, "LO", "p9")
        foreign.add_new(0x11, "LO", "p9")
    block = dataset.private_block(group, creator, create=True)
    return int(block.get_tag(0))


def set_raw(dataset: Dataset, keyword: str, vr: str, value: bytes) -> Dataset:
    """Put bytes into an element as a file may hold them, whatever its VR says."""
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return dataset


def set_vr(dataset: Dataset, keyword: str, vr: str, value: Any) -> Dataset:
    """Write an attribute with another VR than its own."""
    dataset[keyword] = DataElement(Tag(keyword), vr, value)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    """Encode an object as a file, with the transfer syntax that its meta information names."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def reread(dataset: Dataset) -> Dataset:
    """Give an object as it comes from a file."""
    return dcmread(BytesIO(encoded(dataset)))


def save(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write objects into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, dataset in enumerate(datasets):
        file = folder / f"{dataset.get('SeriesNumber') or 0}-{number:03d}.dcm"
        file.write_bytes(encoded(dataset))
        files.append(file)
    return files


def base_object(sop_class: str, name: str, index: int) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = made_uid(name, "instance", index)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20240102"
    dataset.StudyTime = "101500"
    dataset.AcquisitionTime = f"1016{index % 60:02d}.250000"
    dataset.ContentDate, dataset.ContentTime = "20240102", f"1020{index % 60:02d}"
    dataset.AccessionNumber = ""
    dataset.Modality = "MR"
    dataset.Manufacturer = "Halfscan"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesDescription = "t2_tse_sag"
    dataset.PatientName = "Phantom^Numerical"
    dataset.PatientID = "PHANTOM-1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.ScanningSequence = "SE"
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = "FS"
    dataset.MRAcquisitionType = "2D"
    dataset.SliceThickness = "4.0"
    dataset.RepetitionTime = "3500"
    dataset.EchoTime = "90"
    dataset.EchoTrainLength = "16"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = made_uid("study")
    dataset.SeriesInstanceUID = made_uid(name)
    dataset.StudyID = "1"
    dataset.SeriesNumber = 5
    dataset.InstanceNumber = index + 1
    dataset.FrameOfReferenceUID = made_uid("frame")
    dataset.PositionReferenceIndicator = ""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def set_image(dataset: Dataset, image: Pixels, bits: tuple[int, int], *, signed: bool) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.PixelSpacing = [0.75, 0.75]
    dataset.BitsAllocated, dataset.BitsStored = bits
    dataset.HighBit = bits[1] - 1
    dataset.PixelRepresentation = int(signed)
    dtype = np.dtype(f"<{'i' if signed else 'u'}{bits[0] // 8}")
    content = image.astype(dtype).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits[0] <= 8 else "OW"


def _write_xa(place: Dataset, text: str | None, tokens: Sequence[str], others: int) -> None:
    block = add_block(place, *SIEMENS_XA, others=others)
    place.add_new(block + 0x05, "LO", "made up")
    if text is not None:
        place.add_new(block + 0x09, "LO", text)
    if tokens:
        image = add_block(place, *SIEMENS_XA_IMAGE)
        place.add_new(image + 0x75, "CS", ["ORIGINAL", "PRIMARY", "M", *tokens])


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
