"""Which private attributes of a source a derived object keeps.

A scanner's private attributes may hold anything: protocols as text, names of operators, histograms
of the pixels, binary blocks that nobody outside can read. So all of them stay out, but for those of
the table below: each is a number or a short code of the acquisition, known from the vendors' own
conformance statements or from the programs that read them, and needed by someone.

Private attributes are found by their creator (PS3.5 section 7.8.1), never by the block that a file
happens to use.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag

from halfscan_plugin.headers import element, value_text
from halfscan_plugin.private_csa import reduce_csa

__all__ = [
    "ALLOWED",
    "CSA_FIELDS",
    "NESTED_PUBLIC",
    "PrivateAttribute",
    "creators",
    "in_known_vr",
    "is_creator",
    "reduced",
]


@dataclass(frozen=True, slots=True)
class PrivateAttribute:
    """One private attribute that is kept.

    Parameters
    ----------
    group : int
        Its group.
    creator : str
        Its private creator.
    element : int
        The low byte of its element number.
    vr : str
        Value representation; a source in Implicit VR does not say it.
    name : str
        What it is called.
    why : str
        Who needs it.
    holds : str
        Why it is harmless: all that it can hold.
    """

    group: int
    creator: str
    element: int
    vr: str
    name: str
    why: str
    holds: str

    @property
    def key(self) -> tuple[int, str, int]:
        """Group, creator and low byte."""
        return self.group, self.creator, self.element

    @property
    def tag(self) -> str:
        """For example ``(0019,xx0A)``."""
        return f"({self.group:04X},xx{self.element:02X})"


_SIEMENS, _TEXTS = (0x0019, "SIEMENS MR HEADER"), (0x0051, "SIEMENS MR HEADER")
_CSA = (0x0029, "SIEMENS CSA HEADER")
_SDS, _SDI = (0x0021, "SIEMENS MR SDS 01"), (0x0021, "SIEMENS MR SDI 02")
_GE_ACQUISITION, _GE_RELATION = (0x0019, "GEMS_ACQU_01"), (0x0021, "GEMS_RELA_01")
_GE_PARAMETERS = (0x0043, "GEMS_PARM_01")
_PHILIPS = (0x2001, "Philips Imaging DD 001")
_PHILIPS_MR, _PHILIPS_5 = (
    (0x2005, "Philips MR Imaging DD 001"),
    (0x2005, "Philips MR Imaging DD 005"),
)
_UIH = (0x0065, "Image Private Header")

_MOSAIC = "to unpack a mosaic"
_TIMING = "slice timing"
_DIFFUSION = "diffusion"
_DISTORTION = "distortion correction"
_SCALE = "quantitative values"
_SORTING = "to sort images into volumes"
_ACCELERATION = "how the source was accelerated"
_NUMBER, _NUMBERS, _CODE = "a number", "numbers", "a code"
_NESTED = "items; of them, the attributes of this table and those listed below"

_ROWS = (
    (*_SIEMENS, 0x0A, "US", "NumberOfImagesInMosaic", _MOSAIC, _NUMBER),
    (*_SIEMENS, 0x0B, "DS", "SliceMeasurementDuration", _TIMING, _NUMBER),
    (*_SIEMENS, 0x0C, "IS", "B_value", _DIFFUSION, _NUMBER),
    (*_SIEMENS, 0x0D, "CS", "DiffusionDirectionality", _DIFFUSION, _CODE),
    (*_SIEMENS, 0x0E, "FD", "DiffusionGradientDirection", _DIFFUSION, _NUMBERS),
    (*_SIEMENS, 0x16, "DS", "TimeAfterStart", _TIMING, _NUMBER),
    (*_SIEMENS, 0x18, "IS", "RealDwellTime", _DISTORTION, _NUMBER),
    (*_SIEMENS, 0x27, "FD", "B_matrix", _DIFFUSION, _NUMBERS),
    (*_SIEMENS, 0x28, "FD", "BandwidthPerPixelPhaseEncode", _DISTORTION, _NUMBER),
    (*_SIEMENS, 0x29, "FD", "MosaicRefAcqTimes", _TIMING, _NUMBERS),
    (*_CSA, 0x10, "OB", "CSA Image Header Info", _MOSAIC, "the fields listed below"),
    (*_TEXTS, 0x0B, "LO", "AcquisitionMatrixText", _MOSAIC, "a code such as 90*90"),
    (*_TEXTS, 0x0F, "LO", "CoilString", _SORTING, "a code such as HEA;HEP"),
    (*_TEXTS, 0x11, "LO", "PATModeText", _ACCELERATION, "a code such as p2"),
    (*_SDS, 0x09, "LO", "PATModeText", _ACCELERATION, "a code such as p2"),
    (*_SDS, 0x5A, "CS", "ScanningSequence", "in the classic form", _CODE),
    (*_SDS, 0x5B, "CS", "SequenceVariant", "in the classic form", _CODE),
    (*_SDS, 0x5C, "CS", "ScanOptions", "in the classic form", _CODE),
    (*_SDS, 0xFE, "SQ", "MR SDS Sequence", "holds the rows above", _NESTED),
    (*_SDI, 0x03, "DS", "SliceMeasurementDuration", _TIMING, _NUMBER),
    (*_SDI, 0x04, "DS", "TimeAfterStart", _TIMING, _NUMBER),
    (*_SDI, 0x1C, "IS", "PhaseEncodingDirectionPositive", _DISTORTION, _NUMBER),
    (*_SDI, 0x42, "IS", "RealDwellTime", _DISTORTION, _NUMBER),
    (*_SDI, 0x4F, "LO", "CoilString", _SORTING, "a code such as HC1-7;NC1,2"),
    (*_SDI, 0x53, "FD", "BandwidthPerPixelPhaseEncode", _DISTORTION, _NUMBER),
    (*_SDI, 0x56, "LO", "PATModeText", _ACCELERATION, "a code such as p2"),
    (*_SDI, 0x58, "SH", "AcquisitionMatrixText", _MOSAIC, "a code such as 64p*64"),
    (*_SDI, 0xFE, "SQ", "MR SDI Sequence", "holds the rows above", _NESTED),
    (*_GE_ACQUISITION, 0xBB, "DS", "User data 20", _DIFFUSION, "a number: gradient along x"),
    (*_GE_ACQUISITION, 0xBC, "DS", "User data 21", _DIFFUSION, "a number: gradient along y"),
    (*_GE_ACQUISITION, 0xBD, "DS", "User data 22", _DIFFUSION, "a number: gradient along z"),
    (*_GE_ACQUISITION, 0xE0, "DS", "User data 24", _DIFFUSION, "a number: of directions"),
    (*_GE_RELATION, 0x4F, "SS", "Locations in acquisition", _SORTING, _NUMBER),
    (*_GE_PARAMETERS, 0x2C, "SS", "Effective echo spacing", _DISTORTION, _NUMBER),
    (*_GE_PARAMETERS, 0x2F, "SS", "Image type", "magnitude, phase, real or imaginary", _NUMBER),
    (*_GE_PARAMETERS, 0x39, "IS", "Slop_int_6 to 9", _DIFFUSION, "numbers: the b-value first"),
    (*_GE_PARAMETERS, 0x83, "DS", "Asset R factors", _ACCELERATION, _NUMBERS),
    (*_GE_PARAMETERS, 0xB6, "LO", "Multiband parameters", _ACCELERATION, "numbers as text"),
    (*_PHILIPS, 0x03, "FL", "Diffusion B-Factor", _DIFFUSION, _NUMBER),
    (*_PHILIPS, 0x04, "CS", "Diffusion Direction", _DIFFUSION, _CODE),
    (*_PHILIPS, 0x08, "IS", "Phase Number", _SORTING, _NUMBER),
    (*_PHILIPS, 0x0A, "IS", "Slice Number MR", _SORTING, _NUMBER),
    (*_PHILIPS, 0x13, "SL", "EPI Factor", _DISTORTION, _NUMBER),
    (*_PHILIPS, 0x22, "FL", "Water Fat Shift", _DISTORTION, _NUMBER),
    (*_PHILIPS_MR, 0x0D, "FL", "Scale Intercept", _SCALE, _NUMBER),
    (*_PHILIPS_MR, 0x0E, "FL", "Scale Slope", _SCALE, _NUMBER),
    (*_PHILIPS_MR, 0xB0, "FL", "Diffusion Direction RL", _DIFFUSION, _NUMBER),
    (*_PHILIPS_MR, 0xB1, "FL", "Diffusion Direction AP", _DIFFUSION, _NUMBER),
    (*_PHILIPS_MR, 0xB2, "FL", "Diffusion Direction FH", _DIFFUSION, _NUMBER),
    (*_PHILIPS_5, 0x0F, "SQ", "Private Per-Frame Sequence", "holds the rows above", _NESTED),
    (*_UIH, 0x04, "SH", "Acquisition matrix", _MOSAIC, "a code such as 64*64"),
    (*_UIH, 0x05, "SH", "Phase encoding direction", _DISTORTION, "a code such as A->P"),
    (*_UIH, 0x09, "FD", "B value", _DIFFUSION, _NUMBER),
    (*_UIH, 0x0D, "SH", "Parallel imaging", _ACCELERATION, "a code such as F:2S"),
    (*_UIH, 0x37, "FD", "Diffusion gradient direction", _DIFFUSION, _NUMBERS),
    (*_UIH, 0x50, "DS", "Number of images in the mosaic", _MOSAIC, _NUMBER),
    (*_UIH, 0x51, "SQ", "MR VFrame Sequence", _MOSAIC, _NESTED),
)  # fmt: skip

ALLOWED = {row.key: row for row in (PrivateAttribute(*values) for values in _ROWS)}
# Public attributes that are kept in the items of the sequences above: UIH has the place and the
# moment of each image of a mosaic there, Philips how a classic series was accelerated.
NESTED_PUBLIC = (
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "AcquisitionDuration",
    "ImagePositionPatient",
    "SliceLocation",
    "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane",
    "ParallelAcquisition",
    "ParallelAcquisitionTechnique",
    "PartialFourier",
)
# The fields of the CSA image header that are kept: numbers and short codes, as above.
CSA_FIELDS = (
    "NumberOfImagesInMosaic",
    "SliceNormalVector",
    "AcquisitionMatrixText",
    "ProtocolSliceNumber",
    "MosaicRefAcqTimes",
    "TimeAfterStart",
    "SliceMeasurementDuration",
    "PhaseEncodingDirectionPositive",
    "BandwidthPerPixelPhaseEncode",
    "RealDwellTime",
    "B_value",
    "B_matrix",
    "DiffusionDirectionality",
    "DiffusionGradientDirection",
    "ImaCoilString",
    "ImaPATModeText",
)


def is_creator(tag: BaseTag) -> bool:
    """Tell whether a private tag reserves a block: (gggg,0010) to (gggg,00FF)."""
    return tag.is_private and 0x10 <= tag.element <= 0xFF


def creators(dataset: Dataset) -> dict[tuple[int, int], str]:
    """Give the private creators of a data set by group and block."""
    tags: Collection[BaseTag] = dataset.keys()
    return {
        (tag.group, tag.element): value_text(element(dataset, tag)).strip()
        for tag in tags
        if is_creator(tag)
    }


def in_known_vr(found: DataElement, row: PrivateAttribute) -> DataElement | None:
    """Give an element whose value representation is unknown (UN) the one of the table.

    Returns
    -------
    DataElement or None
        None where the bytes, which are little endian (PS3.5 section 6.2.2), do not fit.
    """
    if found.VR != "UN" or not isinstance(found.value, bytes):
        return found if (found.VR == "SQ") == (row.vr == "SQ") else None
    value = found.value
    raw = RawDataElement(
        found.tag, row.vr, len(value), value, 0, is_implicit_VR=True, is_little_endian=True
    )
    # What pydicom raises depends on the value representation.
    with contextlib.suppress(Exception):
        return convert_raw_data_element(raw)
    return None


def reduced(found: DataElement, row: PrivateAttribute) -> DataElement | None:
    """Take out of an attribute what is not known to be harmless; None if nothing can be kept."""
    if row.key != (*_CSA, 0x10):
        return found
    if not isinstance(found.value, bytes):
        return None
    try:
        return DataElement(found.tag, "OB", reduce_csa(found.value, CSA_FIELDS))
    except ValueError:
        return None
