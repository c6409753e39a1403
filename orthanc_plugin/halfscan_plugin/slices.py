"""What one image of a series is, and which of them form a volume."""

from dataclasses import dataclass

from pydicom import Dataset

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import element, integer, number, numbers, text, texts

__all__ = [
    "Labels",
    "Orientation",
    "Position",
    "Slice",
    "Stack",
    "classic_labels",
    "classic_slices",
    "label",
    "orientation_of",
    "pitch_of",
    "position_of",
    "spacing_of",
]

Labels = tuple[tuple[str, str], ...]
Position = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]

# Direction cosines that are further from unit length, or from a right angle, are no directions.
SKEW = 0.05
FARTHEST_MM = 1e5  # no scanner writes a position 100 m from its centre
# What separates the images of classic objects that lie in one place.
CLASSIC_LABELS = (
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "ImageType",
    "SequenceName",
    "RepetitionTime",
    "NumberOfAverages",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentTime",
    "FrameOfReferenceUID",
    "TablePosition",
    "ReceiveCoilName",
)


@dataclass(frozen=True, slots=True)
class Slice:
    """One image of a series: a classic object, a frame of an enhanced one, a tile of a mosaic.

    Parameters
    ----------
    source : int
        Index of its object among the objects of the series.
    frame : int
        Index of the frame or tile within its object; 0 for a classic object.
    position : tuple of 3 float or None
        ImagePositionPatient: centre of the first pixel [mm, patient coordinates].
    orientation : tuple of 6 float or None
        ImageOrientationPatient: direction cosines of the rows and the columns.
    spacing_mm : tuple of 2 float or None
        PixelSpacing: between rows, between columns.
    pitch_mm : float or None
        SpacingBetweenSlices, as written.
    number : int or None
        InstanceNumber, or the frame's place in its stack: where slices are missing, it has holes.
    labels : tuple of (str, str)
        What separates it from other images in the same place: keyword and value.
    """

    source: int
    frame: int = 0
    position: Position | None = None
    orientation: Orientation | None = None
    spacing_mm: tuple[float, float] | None = None
    pitch_mm: float | None = None
    number: int | None = None
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices that form one volume.

    Parameters
    ----------
    slices : tuple of Slice
        In the order of their positions along the normal.
    orientation : tuple of 6 float or None
        Direction cosines that all of them share; None where they are not known, or differ.
    spacing_mm : float or None
        Usual distance of neighbours along the normal.
    labels : tuple of (str, str)
        What separates this stack from others in the same place: keyword and value.
    warnings : tuple of str
        What someone should look at.
    """

    slices: tuple[Slice, ...]
    orientation: Orientation | None = None
    spacing_mm: float | None = None
    labels: Labels = ()
    warnings: tuple[str, ...] = ()


def classic_slices(header: Dataset, source: int) -> list[Slice]:
    """Describe a classic object, which is one slice.

    Raises
    ------
    UnreadableSeries
        If it holds several frames, or if its geometry is none.
    """
    name = text(header, "SOPInstanceUID")
    frames = integer(header, "NumberOfFrames")
    if frames not in {None, 0, 1}:
        raise UnreadableSeries("multi_frame", f"instance {name} holds {frames} frames")
    return [
        Slice(
            source,
            0,
            position_of(header, name),
            orientation_of(header, name),
            spacing_of(header, name),
            pitch_of(header),
            integer(header, "InstanceNumber"),
            classic_labels(header),
        )
    ]


def classic_labels(header: Dataset) -> Labels:
    """Give what separates the image of a classic object from others in the same place."""
    kind = ("kind", "".join(texts(header, "ImageType")[2:3]))
    found = [kind, *((keyword, label(header, keyword)) for keyword in CLASSIC_LABELS)]
    return tuple((keyword, value) for keyword, value in found if value)


def position_of(place: Dataset, name: str) -> Position | None:
    """Read ImagePositionPatient; `name` is the instance, for the message."""
    values = _values(place, "ImagePositionPatient", 3, name)
    if values is None:
        return None
    if max(map(abs, values)) > FARTHEST_MM:
        raise UnreadableSeries(
            "bad_geometry",
            f"instance {name}: ImagePositionPatient must be within {FARTHEST_MM:g} mm, "
            f"got {values}",
        )
    return values[0], values[1], values[2]


def orientation_of(place: Dataset, name: str) -> Orientation | None:
    """Read ImageOrientationPatient; `name` is the instance, for the message."""
    values = _values(place, "ImageOrientationPatient", 6, name)
    if values is None:
        return None
    row, column = values[:3], values[3:]
    lengths = [sum(x * x for x in axis) for axis in (row, column)]
    across = sum(a * b for a, b in zip(row, column, strict=True))
    if any(abs(length - 1) > 2 * SKEW for length in lengths) or abs(across) > SKEW:
        raise UnreadableSeries(
            "bad_geometry",
            f"instance {name}: ImageOrientationPatient must be two directions at a right angle, "
            f"got {values}",
        )
    return values[0], values[1], values[2], values[3], values[4], values[5]


def spacing_of(place: Dataset, name: str) -> tuple[float, float] | None:
    """Read PixelSpacing; `name` is the instance, for the message."""
    values = _values(place, "PixelSpacing", 2, name)
    if values is None:
        return None
    if not all(0 < value < FARTHEST_MM for value in values):
        raise UnreadableSeries(
            "bad_geometry", f"instance {name}: PixelSpacing must be positive, got {values}"
        )
    return values[0], values[1]


def pitch_of(place: Dataset) -> float | None:
    """Read SpacingBetweenSlices where it is a distance."""
    pitch = number(place, "SpacingBetweenSlices")
    return pitch if pitch is not None and 0 < pitch < FARTHEST_MM else None


def label(place: Dataset, keyword: str) -> str:
    """Give an attribute as one text, in which equal numbers look the same; empty if absent."""
    found = element(place, keyword)
    if found is None:
        return ""
    if found.VR in {"DS", "FD", "FL", "IS", "US"}:
        # A direction is written with more digits than it is known to.
        return "\\".join(f"{round(value, 3) + 0.0:g}" for value in numbers(place, keyword))
    return text(place, keyword)


def _values(place: Dataset, keyword: str, length: int, name: str) -> tuple[float, ...] | None:
    item = place.get_item(keyword)
    if item is None or item.value in (None, b"", ""):
        return None
    values = numbers(place, keyword)
    if len(values) != length:
        raise UnreadableSeries(
            "bad_geometry", f"instance {name}: {keyword} must be {length} numbers"
        )
    return values
