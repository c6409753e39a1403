"""Frames of enhanced MR objects: what their functional groups say (PS3.3 C.7.6.16).

Enhanced MR Image Storage and Legacy Converted Enhanced MR Image Storage hold many images in one
object. What is true of one frame stands in its item of PerFrameFunctionalGroupsSequence, what is
true of all of them in SharedFunctionalGroupsSequence.
"""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage

from halfscan_plugin.components import not_magnitude
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import element, integer, items, numbers, text, texts, uid
from halfscan_plugin.slices import (
    Labels,
    Slice,
    label,
    orientation_of,
    pitch_of,
    position_of,
    spacing_of,
)

__all__ = ["Groups", "enhanced_slices", "is_enhanced"]

ENHANCED = {EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage}
# What separates frames that lie in one place: functional group and attribute.
FRAME_LABELS = (
    ("FrameContentSequence", "StackID"),
    ("MREchoSequence", "EchoNumbers"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRModifierSequence", "InversionTimes"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CardiacSynchronizationSequence", "ActualCardiacTriggerDelayTime"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("FrameContentSequence", "FrameAcquisitionDateTime"),
    ("FrameContentSequence", "FrameReferenceDateTime"),
)
# Dimensions that say where a frame lies, or what is read elsewhere.
PLACE_DIMENSIONS = {
    "StackID",
    "InStackPositionNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIndex",
}


class Groups:
    """The functional groups of an object.

    Parameters
    ----------
    header : Dataset
        An enhanced object.

    Raises
    ------
    UnreadableSeries
        If the number of groups is not the number of frames.
    """

    def __init__(self, header: Dataset) -> None:
        self.frames = items(header, "PerFrameFunctionalGroupsSequence")
        self._shared = items(header, "SharedFunctionalGroupsSequence")[:1]
        self._known: dict[tuple[int, str], Dataset] = {}
        stated = integer(header, "NumberOfFrames")
        if stated is None or stated < 1 or stated != len(self.frames):
            raise UnreadableSeries(
                "frame_count",
                f"instance {text(header, 'SOPInstanceUID')}: NumberOfFrames is {stated}, "
                f"PerFrameFunctionalGroupsSequence has {len(self.frames)} items",
            )

    def item(self, frame: int, name: str) -> Dataset:
        """Give the functional group of a frame, its own or the shared one; empty if none."""
        if (frame, name) not in self._known:
            found = items(self.frames[frame], name)
            for groups in self._shared:
                found = found or items(groups, name)
            self._known[frame, name] = found[0] if found else Dataset()
        return self._known[frame, name]


def is_enhanced(header: Dataset) -> bool:
    """Tell whether an object holds its images as frames with functional groups."""
    return uid(header, "SOPClassUID") in ENHANCED


def enhanced_slices(header: Dataset, source: int) -> list[Slice]:
    """Describe the frames of an enhanced object.

    Raises
    ------
    UnreadableSeries
        If frames and functional groups do not fit, if a frame is no magnitude, if only some of
        the frames are derived, or if their geometry is none.
    """
    groups = Groups(header)
    name = text(header, "SOPInstanceUID")
    other = not_magnitude(header)
    if other is not None:
        # Magnitudes among other frames cannot be told from the object, which is written back as
        # one: its ImageType and description would be wrong for one part or the other.
        raise UnreadableSeries(
            "not_magnitude", f"instance {name}: {other.name} is {other.value}: {other.says}"
        )
    _check_frame_types(groups, name)
    dimensions = list(_dimensions(header))
    return [_slice(groups, dimensions, source, frame, name) for frame in range(len(groups.frames))]


def _slice(
    groups: Groups, dimensions: list[tuple[int, str]], source: int, frame: int, name: str
) -> Slice:
    where = f"{name}, frame {frame + 1}"
    measures = groups.item(frame, "PixelMeasuresSequence")
    return Slice(
        source,
        frame,
        position_of(groups.item(frame, "PlanePositionSequence"), where),
        orientation_of(groups.item(frame, "PlaneOrientationSequence"), where),
        spacing_of(measures, where),
        pitch_of(measures),
        _number(groups, frame),
        _labels(groups, dimensions, frame),
    )


def _number(groups: Groups, frame: int) -> int | None:
    """Give the place in the stack; a converted frame may have its old InstanceNumber instead."""
    place = integer(groups.item(frame, "FrameContentSequence"), "InStackPositionNumber")
    if place is not None:
        return place
    kept = groups.item(frame, "UnassignedPerFrameConvertedAttributesSequence")
    return integer(kept, "InstanceNumber")


def _labels(groups: Groups, dimensions: list[tuple[int, str]], frame: int) -> Labels:
    found = [(key, label(groups.item(frame, name), key)) for name, key in FRAME_LABELS]
    for item in items(
        groups.item(frame, "MRDiffusionSequence"), "DiffusionGradientDirectionSequence"
    ):
        key = "DiffusionGradientOrientation"
        found.append((key, label(item, key)))
    values = numbers(groups.item(frame, "FrameContentSequence"), "DimensionIndexValues")
    found += [(key, f"{values[index]:g}") for index, key in dimensions if index < len(values)]
    return tuple((key, value) for key, value in found if value)


def _dimensions(header: Dataset) -> Iterator[tuple[int, str]]:
    """Yield index and name of the dimensions that say more than where a frame lies."""
    for index, item in enumerate(items(header, "DimensionIndexSequence")):
        pointer = element(item, "DimensionIndexPointer")
        tag = pointer.value if pointer is not None and isinstance(pointer.value, int) else 0
        keyword = keyword_for_tag(tag) if 0 <= tag < 2**32 else ""
        if keyword not in PLACE_DIMENSIONS:
            yield index, f"dimension {index + 1} {keyword}".strip()


def _check_frame_types(groups: Groups, name: str) -> None:
    kinds = {
        "".join(texts(groups.item(frame, "MRImageFrameTypeSequence"), "FrameType")[:1])
        for frame in range(len(groups.frames))
    }
    if len(kinds) > 1:
        raise UnreadableSeries(
            "mixed_frames",
            f"instance {name}: FrameType of its frames says {', '.join(sorted(map(repr, kinds)))}",
        )
