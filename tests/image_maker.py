"""Series with more than one volume, frame or tile: enhanced objects, mosaics, echoes, slabs.

Built on `dicom_maker`; all values are made up, and the same arguments give the same objects.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from dicom_maker import (
    ORIENTATIONS,
    SIEMENS_CLASSIC,
    Pixels,
    add_block,
    base_object,
    made_uid,
    mr_series,
    set_image,
)

CSA = (0x0029, "SIEMENS CSA HEADER")
UNITED_IMAGING = (0x0065, "Image Private Header")
DIMENSIONS = ("StackID", "InStackPositionNumber", "TemporalPositionIndex")


@dataclass(frozen=True)
class Frame:
    """One frame of an enhanced object; None leaves an attribute out."""

    position: Sequence[float] | None = (0.0, 0.0, 0.0)
    orientation: Sequence[float] = tuple(ORIENTATIONS["axial"])
    stack: str | None = "1"
    place: int | None = 1
    time: int | None = 1
    echo_ms: float | None = 30.0
    b_value: float | None = None
    slope: float | None = 1.0
    intercept: float = 0.0
    component: str = "MAGNITUDE"
    frame_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "NONE")
    others: Mapping[str, Any] = field(default_factory=dict)


def tilted(degrees: float, orientation: str = "axial") -> list[float]:
    """Turn a plane around its rows, as slabs along the discs of a spine are."""
    cosines = np.array(ORIENTATIONS[orientation])
    row, column = cosines[:3], cosines[3:]
    angle = math.radians(degrees)
    turned = math.cos(angle) * column + math.sin(angle) * np.cross(row, column)
    return [round(float(x), 6) for x in (*row, *turned)]


def normal(orientation: Sequence[float]) -> npt.NDArray[np.float64]:
    """Rows cross columns."""
    return np.asarray(np.cross(orientation[:3], orientation[3:]), dtype=np.float64)


def position(orientation: Sequence[float], depth_mm: float) -> list[float]:
    """Give a position along the normal, in the digits that a scanner writes."""
    return [round(float(x), 4) for x in normal(orientation) * depth_mm]


def frame_grid(
    slices: int = 3,
    *,
    times: int = 1,
    orientations: Sequence[Sequence[float]] = (tuple(ORIENTATIONS["axial"]),),
    spacing_mm: float = 4.0,
    **attributes: Any,
) -> list[Frame]:
    """Make the frames of stacks, each with its slices, each at several times."""
    return [
        Frame(
            position=position(orientation, spacing_mm * place),
            orientation=tuple(orientation),
            stack=str(stack),
            place=place + 1,
            time=time + 1,
            **attributes,
        )
        for stack, orientation in enumerate(orientations, 1)
        for time in range(times)
        for place in range(slices)
    ]


def enhanced_image(
    frames: Sequence[Frame] | None = None,
    *,
    pixels: Pixels | None = None,
    rows: int = 12,
    columns: int = 10,
    bits: tuple[int, int] = (16, 12),
    signed: bool = False,
    legacy: bool = False,
    shared: bool = True,
    name: str = "enhanced",
    index: int = 0,
    seed: int = 0,
    **attributes: Any,
) -> Dataset:
    """Make an enhanced MR object with pixels.

    Parameters
    ----------
    frames : sequence of Frame, optional
        Three slices where None.
    pixels : ndarray of integers, shape (frame, row, column), optional
        Stored values; noise that fills the bits where None.
    legacy : bool
        Legacy Converted Enhanced MR Image Storage.
    shared : bool
        Whether what is the same in all frames is written once, for all.
    index : int
        Which object of the series.
    """
    frames = frame_grid() if frames is None else frames
    if pixels is None:
        highest = 2 ** (bits[1] - 1 if signed else bits[1])
        pixels = np.random.default_rng(seed).integers(0, highest, (len(frames), rows, columns))
    sop_class = LegacyConvertedEnhancedMRImageStorage if legacy else EnhancedMRImageStorage
    dataset = base_object(sop_class, name, index)
    for keyword in ("EchoTime", "RepetitionTime", "EchoTrainLength", "SliceThickness"):
        delattr(dataset, keyword)
    set_image(dataset, pixels[0], bits, signed=signed)
    del dataset.PixelSpacing
    content = b"".join(_bytes(image, bits, signed=signed) for image in pixels)
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits[0] <= 8 else "OW"
    dataset.NumberOfFrames = len(frames)
    _describe(dataset, frames, DIMENSIONS[2:] if legacy else DIMENSIONS)
    _set_groups(dataset, [_groups(frame, legacy=legacy) for frame in frames], shared=shared)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def volumes(
    labels: Sequence[Mapping[str, Any]], slices: int = 3, *, by_slice: bool = False, **options: Any
) -> list[Dataset]:
    """Make a classic series with several images in each place.

    Parameters
    ----------
    labels : sequence of mapping
        Attributes of each volume, such as ``{"EchoNumbers": 2}``.
    slices : int
        Of each volume.
    by_slice : bool
        Numbered slice by slice instead of volume by volume.
    **options
        As for `mr_series`.
    """
    series = []
    name = options.pop("name", "volumes")
    for number, label in enumerate(labels):
        volume = mr_series(slices, name=name, seed=number, **{**options, **label})
        for place, dataset in enumerate(volume):
            index = place * len(labels) + number if by_slice else number * slices + place
            renumber(dataset, name, index)
            series.append(dataset)
    return sorted(series, key=lambda dataset: int(dataset.InstanceNumber))


def slabs(
    orientations: Sequence[Sequence[float]], slices: int = 3, **options: Any
) -> list[Dataset]:
    """Make a classic series with a stack for each orientation."""
    series = []
    name = options.pop("name", "slabs")
    for number, orientation in enumerate(orientations):
        for place, dataset in enumerate(mr_series(slices, name=name, seed=number, **options)):
            renumber(dataset, name, number * slices + place)
            dataset.ImageOrientationPatient = list(orientation)
            dataset.ImagePositionPatient = position(orientation, 40.0 * number + 4.0 * place)
            series.append(dataset)
    return series


def renumber(dataset: Dataset, name: str, index: int) -> None:
    """Give an object another place in its series."""
    dataset.SOPInstanceUID = made_uid(name, "instance", index)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceNumber = index + 1


def mosaic_image(
    tiles: Pixels,
    *,
    name: str = "mosaic",
    index: int = 0,
    bits: tuple[int, int] = (16, 12),
    csa: bool = True,
    stated: int | None = -1,
    orientation: str = "axial",
    spacing_mm: float = 4.0,
    **attributes: Any,
) -> Dataset:
    """Make a Siemens mosaic.

    Parameters
    ----------
    tiles : ndarray of integers, shape (slice, row, column)
        Stored values.
    csa : bool
        Whether it has a CSA header, with the number of tiles and the normal.
    stated : int, optional
        (0019,xx0A); the number of tiles where -1, left out where None.
    """
    count, rows, columns = tiles.shape
    across = math.isqrt(count - 1) + 1
    dataset = base_object(MRImageStorage, name, index)
    dataset.Manufacturer = "SIEMENS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    set_image(dataset, montage(tiles, across, across), bits, signed=False)
    cosines = np.array(ORIENTATIONS[orientation])
    corner = -0.75 * (across - 1) / 2 * (cosines[:3] * columns + cosines[3:] * rows)
    dataset.ImageOrientationPatient = list(cosines)
    dataset.ImagePositionPatient = [round(float(x), 4) for x in corner]
    dataset.SpacingBetweenSlices = spacing_mm
    dataset.AcquisitionNumber = index + 1
    if stated is not None:
        block = add_block(dataset, 0x0019, SIEMENS_CLASSIC[1])
        dataset.add_new(block + 0x0A, "US", count if stated == -1 else stated)
    if csa:
        block = add_block(dataset, *CSA)
        values = {
            "NumberOfImagesInMosaic": [str(count)],
            "SliceNormalVector": [f"{x:.8f}" for x in normal(list(cosines))],
        }
        dataset.add_new(block + 0x10, "OB", csa_header(values))
        protocol = f"### ASCCONV BEGIN ###\nsSliceArray.lSize\t = \t{count}\n### ASCCONV END ###\n"
        dataset.add_new(block + 0x20, "OB", protocol.encode())
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def united_imaging_image(
    tiles: Pixels, *, name: str = "vframe", index: int = 0, spacing_mm: float = 4.0
) -> Dataset:
    """Make a mosaic as United Imaging writes it: no position but for each tile."""
    count = len(tiles)
    across = math.isqrt(count - 1) + 1
    dataset = base_object(MRImageStorage, name, index)
    dataset.Manufacturer = "UIH"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    set_image(dataset, montage(tiles, across, -(-count // across)), (16, 12), signed=False)
    dataset.ImageOrientationPatient = ORIENTATIONS["axial"]
    dataset.SpacingBetweenSlices = spacing_mm
    block = add_block(dataset, *UNITED_IMAGING)
    dataset.add_new(block + 0x50, "DS", str(count))
    frames = [_item(ImagePositionPatient=[0, 0, spacing_mm * tile]) for tile in range(count)]
    dataset.add_new(block + 0x51, "SQ", frames)
    return dataset


def montage(tiles: Pixels, across: int, down: int) -> Pixels:
    """Lay tiles row by row into one image; what is left over is 0."""
    _, rows, columns = tiles.shape
    image = np.zeros((down * rows, across * columns), dtype=tiles.dtype)
    for number, tile in enumerate(tiles):
        top, left = number // across * rows, number % across * columns
        image[top : top + rows, left : left + columns] = tile
    return image


def csa_header(values: Mapping[str, Sequence[str]]) -> bytes:
    """Encode named values as a CSA header of the second kind does."""
    content = b"SV10\x04\x03\x02\x01" + struct.pack("<II", len(values), 77)
    for name, written in values.items():
        head = struct.pack("<64si4siii", name.encode(), len(written), b"IS\0\0", 6, 6, 77)
        content += head
        for number in range(6):
            value = written[number].encode() + b"\0" if number < len(written) else b""
            content += struct.pack("<4i", len(value), len(value), 77, len(value))
            content += value + b"\0" * (-len(value) % 4)
    return content


def _bytes(image: Pixels, bits: tuple[int, int], *, signed: bool) -> bytes:
    return image.astype(np.dtype(f"<{'i' if signed else 'u'}{bits[0] // 8}")).tobytes()


def _describe(dataset: Dataset, frames: Sequence[Frame], dimensions: Sequence[str]) -> None:
    """Write the modules of an enhanced object that stand at its top level (PS3.3 A.36)."""
    components = {frame.component for frame in frames}
    dataset.ComplexImageComponent = components.pop() if len(components) == 1 else "MIXED"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.AcquisitionContrast = "T2"
    dataset.ImageType = list(frames[0].frame_type)
    dataset.AcquisitionDateTime = "20240102101600"
    dataset.AcquisitionDuration = 60.0
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = DicomSequence([])
    organisation = made_uid("dimensions")
    dataset.DimensionOrganizationSequence = DicomSequence(
        [_item(DimensionOrganizationUID=organisation)]
    )
    dataset.DimensionIndexSequence = DicomSequence(
        _item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
        )
        for keyword in dimensions
    )


def _groups(frame: Frame, *, legacy: bool) -> dict[str, Dataset]:
    """Give the functional groups of a frame."""
    groups = {
        "FrameContentSequence": _item(
            FrameAcquisitionDateTime="20240102101600",
            FrameReferenceDateTime="20240102101600",
            FrameAcquisitionDuration=100.0,
            StackID=frame.stack,
            InStackPositionNumber=frame.place,
            TemporalPositionIndex=frame.time,
            DimensionIndexValues=[int(frame.stack or 1), frame.place or 1, frame.time or 1],
        ),
        "PlanePositionSequence": _item(ImagePositionPatient=list(frame.position or ())),
        "PlaneOrientationSequence": _item(ImageOrientationPatient=list(frame.orientation)),
        "PixelMeasuresSequence": _item(PixelSpacing=[0.75, 0.75], SliceThickness=4.0),
        "PixelValueTransformationSequence": _item(
            RescaleIntercept=frame.intercept, RescaleSlope=frame.slope, RescaleType="US"
        ),
        "MRImageFrameTypeSequence": _item(
            FrameType=list(frame.frame_type),
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
            ComplexImageComponent=frame.component,
            AcquisitionContrast="T2",
        ),
        **{name: _item(**values) for name, values in frame.others.items()},
    }
    if frame.slope is None:
        del groups["PixelValueTransformationSequence"]
    if frame.position is None:
        del groups["PlanePositionSequence"]
    if legacy:
        kept = _item(InstanceNumber=frame.place)
        groups["UnassignedPerFrameConvertedAttributesSequence"] = kept
        content = groups["FrameContentSequence"]
        content.DimensionIndexValues = [frame.time or 1]
        del content.StackID, content.InStackPositionNumber
    if frame.echo_ms is not None:
        groups["MREchoSequence"] = _item(EffectiveEchoTime=frame.echo_ms)
    if frame.b_value is not None:
        groups["MRDiffusionSequence"] = _item(DiffusionBValue=frame.b_value)
    return groups


def _set_groups(dataset: Dataset, frames: list[dict[str, Dataset]], *, shared: bool) -> None:
    """Write functional groups: once for all frames where all say the same, if `shared`."""
    same = {
        name: item
        for name, item in frames[0].items()
        if shared and name != "FrameContentSequence" and all(f.get(name) == item for f in frames)
    }
    place = Dataset()
    for name, item in same.items():
        setattr(place, name, DicomSequence([item]))
    dataset.SharedFunctionalGroupsSequence = DicomSequence([place])
    per_frame = []
    for frame in frames:
        place = Dataset()
        for name, item in frame.items():
            if name not in same:
                setattr(place, name, DicomSequence([item]))
        per_frame.append(place)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(per_frame)


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(item, keyword, value)
    return item
