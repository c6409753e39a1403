"""What a derived multi-frame object says of its frames (PS3.3 C.7.6.16).

Enhanced MR Image Storage and Legacy Converted Enhanced MR Image Storage keep what is true of single
frames in functional groups: of one frame (PerFrameFunctionalGroupsSequence) or of all
(SharedFunctionalGroupsSequence). A derived object keeps the groups of its source, in the order of
its frames, and changes two: the frame type, and what each frame was derived from. Frames of volumes
that are not whole are left out.
"""

from collections.abc import Iterable, Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from halfscan_plugin.concatenation import concatenation, concatenation_number
from halfscan_plugin.headers import integer, items, texts
from halfscan_plugin.references import SMOOTHING, code, evidence, put, source_image

__all__ = [
    "LEFT_TO_THE_SOURCE",
    "describe_frames",
    "frame_type",
    "keep_frames",
    "renumber_concatenations",
]

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
# Of the top level, required where value 1 of ImageType is ORIGINAL or MIXED and optional where it
# is DERIVED: MR Pulse Sequence (C.8.13.4), Bulk Motion Synchronization (C.7.6.18.3) and three
# attributes of Cardiac Synchronization (C.7.6.18.1). dciodvfy, up to 2022 at least, knows only the
# first half of that rule and calls them errors in derived objects. The source has them.
LEFT_TO_THE_SOURCE = (
    "PulseSequenceName",
    "MRAcquisitionType",
    "EchoPulseSequence",
    "MultipleSpinEcho",
    "MultiPlanarExcitation",
    "PhaseContrast",
    "VelocityEncodingAcquisitionSequence",
    "TimeOfFlightContrast",
    "ArterialSpinLabelingContrast",
    "SteadyStatePulseSequence",
    "EchoPlanarPulseSequence",
    "SaturationRecovery",
    "SpectrallySelectedSuppression",
    "OversamplingPhase",
    "GeometryOfKSpaceTraversal",
    "RectilinearPhaseEncodeReordering",
    "SegmentedKSpaceTraversal",
    "CoverageOfKSpace",
    "NumberOfKSpaceTrajectories",
    "BulkMotionCompensationTechnique",
    "BulkMotionSignalSource",
    "CardiacRRIntervalSpecified",
    "IntervalsAcquired",
    "IntervalsRejected",
)


def frame_type(values: list[str]) -> list[str]:
    """Give ImageType or FrameType of a derived enhanced object.

    Value 1 says DERIVED. Value 2 is always PRIMARY there (C.8.16.1.2): SECONDARY, as in classic
    objects, is not among its values. Values 3 and 4, flavor and derived contrast, stay: less noise
    is neither another flavor nor a contrast computed from several images (C.8.16.1.4).
    """
    return ["DERIVED", "PRIMARY", *values[2:]]


def keep_frames(derived: Dataset, frames: Sequence[int]) -> None:
    """Leave out the frames that are in no whole volume; what the others say of themselves stays.

    Parameters
    ----------
    derived : Dataset
        The derived object, with the groups of its source; changed in place.
    frames : sequence of int
        Indices of the source's frames that stay, in their order.
    """
    groups = items(derived, PER_FRAME)
    if len(frames) < len(groups):
        put(derived, **{PER_FRAME: DicomSequence([groups[frame] for frame in frames])})
        put(derived, NumberOfFrames=len(frames))


def renumber_concatenations(objects: Iterable[Dataset]) -> None:
    """Count parts and frames of concatenations anew, of which some may be left out.

    Parameters
    ----------
    objects : iterable of Dataset
        The derived objects; changed in place. Of one that is whole nothing changes.
    """
    concatenations: dict[str, list[Dataset]] = {}
    for part in objects:
        if concatenation(part):
            concatenations.setdefault(concatenation(part), []).append(part)
    for parts in concatenations.values():
        parts.sort(key=concatenation_number)
        offset = 0
        for number, part in enumerate(parts, 1):
            counted = {
                "InConcatenationNumber": number,
                "InConcatenationTotalNumber": len(parts),
                "ConcatenationFrameOffsetNumber": offset,
            }
            for keyword, value in counted.items():
                if keyword in part and integer(part, keyword) != value:
                    put(part, **{keyword: value})
            offset += integer(part, "NumberOfFrames") or 0


def describe_frames(
    derived: Dataset, source: Dataset, description: str, kept: Sequence[int]
) -> None:
    """Say of each frame that it is derived, how, and from which frame.

    Parameters
    ----------
    derived : Dataset
        The derived object, with the groups of its source; changed in place.
    source : Dataset
        The source.
    description : str
        DerivationDescription.
    kept : sequence of int
        Indices of the source's frames that it holds, in their order.
    """
    shared, frames = items(derived, SHARED), items(derived, PER_FRAME)
    for groups in (*shared, *frames):
        for item in items(groups, "MRImageFrameTypeSequence"):
            if "FrameType" in item:
                put(item, FrameType=frame_type(texts(item, "FrameType")))
    # A functional group is either shared or of single frames (C.7.6.16.1.1). What the source says
    # of its own derivation comes first: one item for each process.
    earlier = [item for groups in shared for item in items(groups, "DerivationImageSequence")]
    for groups in shared:
        groups.pop("DerivationImageSequence", None)
    for index, groups in zip(kept, frames, strict=True):
        own = items(groups, "DerivationImageSequence")
        item = _derivation(source, index + 1, description)
        put(groups, DerivationImageSequence=DicomSequence([*earlier, *own, item]))
    listed = items(derived, "SourceImageEvidenceSequence")
    put(derived, SourceImageEvidenceSequence=evidence(listed, source))


def _derivation(source: Dataset, frame: int, description: str) -> Dataset:
    """Make an item of DerivationImageSequence (C.7.6.16.2.6)."""
    item = Dataset()
    item.DerivationDescription = description
    item.DerivationCodeSequence = DicomSequence([code(*SMOOTHING)])
    item.SourceImageSequence = DicomSequence([source_image(source, frame)])
    return item
