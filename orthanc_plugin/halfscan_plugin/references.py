"""References between objects and codes: how a derived object names its sources.

Codes (PS3.16): (113087, DCM, "Smoothing") of CID 7203 Image Derivation is the closest that the
standard has to noise reduction; (121322, DCM, "Source image for image processing operation") is of
CID 7202 Source Image Purposes of Reference; (109102, DCM, "Processing Equipment") is of CID 7005
Contributing Equipment Purposes of Reference.
"""

from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence

from halfscan_plugin.headers import items, text

__all__ = [
    "PROCESSING_EQUIPMENT",
    "SMOOTHING",
    "SOURCE_IMAGE",
    "code",
    "evidence",
    "put",
    "source_image",
]

SMOOTHING = ("113087", "Smoothing")
SOURCE_IMAGE = ("121322", "Source image for image processing operation")
PROCESSING_EQUIPMENT = ("109102", "Processing Equipment")


def put(dataset: Dataset, **attributes: Any) -> None:
    """Write attributes, by keyword, whatever representation they had in the source."""
    for keyword, value in attributes.items():
        dataset.pop(keyword, None)
        setattr(dataset, keyword, value)


def code(value: str, meaning: str) -> Dataset:
    """Make an item of a code sequence (PS3.3 section 8.8), of the DICOM Controlled Terminology."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    return item


def source_image(source: Dataset, frame: int | None = None) -> Dataset:
    """Make an item of SourceImageSequence (PS3.3 C.12.4.1.2 and C.7.6.16.2.6).

    Parameters
    ----------
    source : Dataset
        The object that an image was made from.
    frame : int, optional
        Which of its frames, from 1; all of them where None.
    """
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    # Each pixel shows the place that it showed before.
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = Sequence([code(*SOURCE_IMAGE)])
    return item


def evidence(earlier: list[Dataset], source: Dataset) -> Sequence:
    """List an object among those that an enhanced one refers to.

    SourceImageEvidenceSequence is required where SourceImageSequence is there (PS3.3 C.8.13.2); it
    names study, series and object (Table C.17-3 and section 10.42).

    Parameters
    ----------
    earlier : list of Dataset
        Items that are there already.
    source : Dataset
        The object to be listed.
    """
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedSOPSequence = Sequence([reference])
    of_study = [i for i in earlier if text(i, "StudyInstanceUID") == str(source.StudyInstanceUID)]
    if of_study:
        listed = items(of_study[0], "ReferencedSeriesSequence")
        put(of_study[0], ReferencedSeriesSequence=Sequence([*listed, series]))
        return Sequence(earlier)
    study = Dataset()
    study.StudyInstanceUID = source.StudyInstanceUID
    study.ReferencedSeriesSequence = Sequence([series])
    return Sequence([*earlier, study])
