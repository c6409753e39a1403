"""Volume and source headers to derived DICOM instances (classic MR Image Storage).

What a derived object says of itself follows PS3.3: ImageType (C.7.6.1.1.2), DerivationDescription,
DerivationCodeSequence and SourceImageSequence (C.7.6.1.1.3 General Reference), and
ContributingEquipmentSequence (C.12.1). Codes: (113087, DCM, "Smoothing") of CID 7203 Image
Derivation is the closest that the standard has to noise reduction; (121322, DCM, "Source image
for image processing operation") is of CID 7202; (109102, DCM, "Processing Equipment") of CID 7005
(PS3.16).

Everything is a function of the source, the model and the settings: doing it twice gives the same
bytes, so a repeated attempt stores nothing twice.
"""

import contextlib
import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from halfscan_plugin.headers import elements, items, text, texts
from halfscan_plugin.volume import SeriesVolume, stored_values

__all__ = ["DerivedSeries", "Provenance", "derive", "is_halfscan_output", "series_uid"]

MANUFACTURER = "Halfscan"
# Changes when the same source and model shall give other objects than before: that is, with every
# change of what is written here or of what `Reconstructor` computes around the network.
DERIVATION_VERSION = 1
# What described the source's pixels or bytes and would be wrong on the derived ones.
DROPPED = (
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "OriginalAttributesSequence",
    "EncryptedAttributesSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)
# What the derived objects say in their own words; an element of the source, whose value
# representation may be wrong, must not be in the way.
WRITTEN = (
    "ImageType",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "DerivationDescription",
    "DerivationCodeSequence",
    "SourceImageSequence",
    "ContributingEquipmentSequence",
    "HighBit",
)
NOT_COPIED = frozenset(DROPPED + WRITTEN)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the derived series.

    Parameters
    ----------
    model_name, model_version, model_sha256 : str
        The network.
    strength : float
        Share of the network's result in the blend, 0 to 1.
    software_version : str
        Halfscan's own version.
    """

    model_name: str
    model_version: str
    model_sha256: str
    strength: float
    software_version: str


@dataclass(frozen=True, slots=True)
class DerivedSeries:
    """The objects of a derived series, in the order of the slices."""

    series_instance_uid: str
    datasets: tuple[Dataset, ...]
    clipped_pixels: int


def is_halfscan_output(header: Dataset) -> bool:
    """Tell whether Halfscan wrote an object, from its ContributingEquipmentSequence."""
    equipment = items(header, "ContributingEquipmentSequence")
    return any(text(item, "Manufacturer") == MANUFACTURER for item in equipment)


def series_uid(sources: Sequence[Dataset], provenance: Provenance) -> str:
    """Derive the SeriesInstanceUID from the sources, the model and the settings."""
    return _uid("series", *_identity(sources, provenance))


def derive(
    source: SeriesVolume,
    result: npt.NDArray[np.float32],
    provenance: Provenance,
    *,
    series_number: int,
    description: str | None = None,
) -> DerivedSeries:
    """Write a reconstructed volume as derived instances.

    Parameters
    ----------
    source : SeriesVolume
        The series that was reconstructed.
    result : ndarray, float32, shape (slice, row, column)
        The reconstructed volume on the source's scale.
    provenance : Provenance
        What made it.
    series_number : int
        A number that is free in the study.
    description : str, optional
        SeriesDescription; the source's own with ``HS`` appended where None.

    Returns
    -------
    DerivedSeries
        One instance a slice, Explicit VR Little Endian.

    Raises
    ------
    ValueError
        If `result` has another shape than the source, or is not finite.
    """
    if result.shape != source.volume.shape:
        raise ValueError(f"result has shape {result.shape}, the source {source.volume.shape}")
    if not np.isfinite(result).all():
        raise ValueError("the result holds values that are not finite")
    identity = _identity(source.sources, provenance)
    uid = _uid("series", *identity)
    datasets, clipped = [], 0
    for index, dataset in enumerate(source.sources):
        pixels, beyond = stored_values(source, result, index)
        clipped += beyond
        derived = _copy_header(dataset)
        derived.SeriesInstanceUID = uid
        derived.SOPInstanceUID = _uid("instance", str(dataset.SOPInstanceUID), *identity)
        derived.SeriesNumber = series_number
        derived.SeriesDescription = _description(dataset, description)
        _describe(derived, dataset, provenance)
        _leave_out_unwritable(derived)
        _set_pixels(derived, pixels)
        datasets.append(derived)
    return DerivedSeries(uid, tuple(datasets), clipped)


def _identity(sources: Sequence[Dataset], provenance: Provenance) -> list[str]:
    uids = "\n".join(sorted(str(source.SOPInstanceUID) for source in sources))
    return [
        str(DERIVATION_VERSION),
        str(sources[0].SeriesInstanceUID),
        hashlib.sha256(uids.encode()).hexdigest(),
        provenance.model_sha256,
        f"{provenance.strength:.6f}",
    ]


def _uid(*parts: str) -> str:
    return str(generate_uid(entropy_srcs=list(parts)))


def _copy_header(dataset: Dataset) -> Dataset:
    """Copy the public attributes that stay true: patient, study, geometry, acquisition."""
    header = _copy(dataset, leave=NOT_COPIED)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    return header


def _copy(dataset: Dataset, leave: frozenset[str] = frozenset()) -> Dataset:
    """Copy the public elements that can be read, with those of sequences below."""
    copied = Dataset()
    for found in elements(dataset):
        # Groups up to 7 belong to messages, files and directories, never to an object.
        if found.tag.is_private or found.tag.group < 8 or found.keyword in leave:
            continue
        if isinstance(found.value, DicomSequence):
            below = DicomSequence([_copy(item) for item in found.value])
            copied.add(DataElement(found.tag, "SQ", below))
        else:
            copied.add(copy.deepcopy(found))
    return copied


def _leave_out_unwritable(header: Dataset) -> None:
    """Remove what can be read but not be written, such as a number with a replaced character."""
    if _is_writable(header):
        return
    for tag in sorted(header.keys()):
        single = Dataset()
        single[tag] = header[tag]
        if not _is_writable(single):
            del header[tag]


def _is_writable(header: Dataset) -> bool:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    # What pydicom raises depends on the value representation.
    with contextlib.suppress(Exception):
        write_dataset(buffer, header)
        return True
    return False


def _description(dataset: Dataset, description: str | None) -> str:
    # One value: a backslash in the source's description would separate two.
    name = description or f"{text(dataset, 'SeriesDescription') or 'MR'} HS"
    name = name.replace("\\", "/")
    return name if len(name) <= 64 else name[:61] + " HS"  # the longest LO


def _describe(derived: Dataset, source: Dataset, provenance: Provenance) -> None:
    """Say what was done, with what, to which image."""
    derived.ImageType = ["DERIVED", "SECONDARY", *texts(source, "ImageType")[2:]]
    model = f"{provenance.model_name} {provenance.model_version}"
    derived.DerivationDescription = (
        f"Halfscan {provenance.software_version}: deep-learning noise reduction, model {model}, "
        f"strength {provenance.strength:g}"
    )
    derived.DerivationCodeSequence = DicomSequence([_code("113087", "Smoothing")])
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = DicomSequence(
        [_code("121322", "Source image for image processing operation")]
    )
    derived.SourceImageSequence = DicomSequence([reference])
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = DicomSequence(
        [_code("109102", "Processing Equipment")]
    )
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = model
    equipment.SoftwareVersions = provenance.software_version
    equipment.ContributionDescription = f"ONNX model sha256 {provenance.model_sha256}"
    earlier = [_copy(item) for item in items(source, "ContributingEquipmentSequence")]
    derived.ContributingEquipmentSequence = DicomSequence([*earlier, equipment])
    derived.file_meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code


def _set_pixels(derived: Dataset, pixels: npt.NDArray[np.integer[Any]]) -> None:
    """Store the pixels in the source's own bit depth, uncompressed."""
    derived.HighBit = int(derived.BitsStored) - 1
    signed = derived.PixelRepresentation == 1
    bits = int(derived.BitsAllocated)
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}").newbyteorder("<")
    data = pixels.astype(dtype).tobytes()
    derived.PixelData = data + b"\0" * (len(data) % 2)  # even length, PS3.5 section 7.1
    derived["PixelData"].VR = "OB" if bits <= 8 else "OW"
