"""The header of a blinded image, built from an allow-list: what is not named here is not there.

A blinded image is a classic MR image (PS3.3 A.4) with one frame, whatever the archive holds, so
that the kind of object tells nothing. From the archive come geometry, grey scale and pixel values;
identifiers are those of the reading; everything else is the same for every image of every reading.

- Values of pixels stay as they are, in 16 bits; they are signed where a series holds negative ones.
- The window follows from the pixels: the mean of the arms' 1st and 99th percentiles.
- Slope and intercept are shown only where stored values mean nothing without them; see
  `blinded.source.SourceSeries.shows_rescale`.
- Window, sign and whether slope and intercept are there, are the same in all arms of a case; see
  `blinded.greyscale`.
- InstanceNumber counts along the normal of the slices; SliceLocation and SpacingBetweenSlices are
  computed from the positions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from halfscan_api.blinded.greyscale import GreyScale
from halfscan_api.blinded.source import Frame, SourceSeries
from halfscan_api.readings.blinding import BlindedSeries

# The same for every image of every reading.
STUDY_DATE = "20000101"
NEUTRAL_STUDY: dict[str, Any] = {
    "AccessionNumber": "",
    "PatientBirthDate": "",
    "PatientName": "Blinded^Reading",
    "PatientSex": "",
    "ReferringPhysicianName": "",
    "StudyDate": STUDY_DATE,
    "StudyDescription": "Blinded reading",
    "StudyID": "",
    "StudyTime": "000000",
}
NEUTRAL_SERIES: dict[str, Any] = {
    "Laterality": "",  # needed where no BodyPartExamined says that it cannot be (PS3.3 C.7.3.1)
    "Manufacturer": "",
    "Modality": "MR",
}
NEUTRAL_IMAGE: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
    "SOPClassUID": MRImageStorage,
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Halfscan blinded reading",
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "",
    "EchoTime": "",
    "EchoTrainLength": "",
    "RepetitionTime": "",
    "PositionReferenceIndicator": "",
    "SamplesPerPixel": 1,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
}


@dataclass(frozen=True, slots=True)
class Labels:
    """Identifiers that are the same for all images of a reading.

    Attributes
    ----------
    study_instance_uid : str
    patient_id : str
    uid : callable
        Makes the reading's UID of a UID of the archive.
    """

    study_instance_uid: str
    patient_id: str
    uid: Callable[[str], str]


def study_header(labels: Labels) -> Dataset:
    """Give what a reading says of its study."""
    header = _dataset(NEUTRAL_STUDY)
    header.StudyInstanceUID = labels.study_instance_uid
    header.PatientID = labels.patient_id
    return header


def series_header(labels: Labels, series: BlindedSeries) -> Dataset:
    """Give what a reading says of a series."""
    header = study_header(labels)
    header.update(_dataset(NEUTRAL_SERIES))
    header.SeriesInstanceUID = series.series_instance_uid
    header.SeriesNumber = series.number
    header.SeriesDescription = series.label
    return header


def image_label(labels: Labels, series: BlindedSeries, source: SourceSeries, index: int) -> Dataset:
    """Give what names an image: what a search tells of it."""
    frame = source.frames[index]
    header = series_header(labels, series)
    header.SOPClassUID = MRImageStorage
    header.SOPInstanceUID = labels.uid(frame.key)
    header.InstanceNumber = index + 1
    header.Rows, header.Columns = frame.rows, frame.columns
    header.BitsAllocated = 16
    return header


def image_header(
    labels: Labels, series: BlindedSeries, source: SourceSeries, index: int, grey: GreyScale
) -> Dataset:
    """Give all that a reading says of an image, but its pixels.

    Parameters
    ----------
    labels : Labels
    series : BlindedSeries
    source : SourceSeries
        What the series is in the archive.
    index : int
        Place of the image in `source.frames`.
    grey : GreyScale
        Of the case and sequence.
    """
    frame = source.frames[index]
    header = image_label(labels, series, source, index)
    header.update(_dataset(NEUTRAL_IMAGE))
    reference = frame.frame_of_reference_uid or series.source.series_instance_uid
    header.FrameOfReferenceUID = labels.uid(f"frame of reference/{reference}")
    _set_geometry(header, source, frame)
    _set_grey_scale(header, source, frame, grey)
    return header


def image_file(header: Dataset, source: SourceSeries, index: int) -> Dataset:
    """Add the pixels, and what a DICOM file needs on top."""
    header.PixelData = pixel_data(source, index, signed=header.PixelRepresentation == 1)
    header["PixelData"].VR = "OW"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    return header


def pixel_data(source: SourceSeries, index: int, *, signed: bool) -> bytes:
    """Give the pixel values of an image in 16 bits, little-endian."""
    kind = "<i2" if signed else "<u2"
    content: bytes = source.stored(source.frames[index]).astype(kind).tobytes()
    return content


def _set_geometry(header: Dataset, source: SourceSeries, frame: Frame) -> None:
    header.PixelSpacing = _decimals(frame.spacing_mm)
    header.ImagePositionPatient = _decimals(frame.position)
    header.ImageOrientationPatient = _decimals((*frame.row_direction, *frame.column_direction))
    header.SliceLocation = _decimals([round(frame.location_mm, 4)])[0]
    header.SliceThickness = "" if frame.thickness_mm is None else _decimals([frame.thickness_mm])[0]
    if source.spacing_between_mm is not None:
        header.SpacingBetweenSlices = _decimals([source.spacing_between_mm])[0]
    header.PatientPosition = frame.patient_position


def _set_grey_scale(header: Dataset, source: SourceSeries, frame: Frame, grey: GreyScale) -> None:
    header.PhotometricInterpretation = frame.photometric
    header.PixelRepresentation = int(grey.signed)
    header.WindowCenter, header.WindowWidth = _decimals([grey.centre, grey.width])
    if grey.shows_rescale:
        # Stored values of a series that needs no rescaling are what is measured: they stay.
        rescale = (frame.intercept, frame.slope) if source.shows_rescale else (0.0, 1.0)
        header.RescaleIntercept, header.RescaleSlope = _decimals(rescale)
        header.RescaleType = "US"


def _dataset(values: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _decimals(values: Iterable[float]) -> list[str]:
    """Write numbers as DS: the same number is the same text, whoever wrote it before."""
    return [format_number_as_ds(float(np.round(value, 10)) + 0.0) for value in values]
