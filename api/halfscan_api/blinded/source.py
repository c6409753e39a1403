"""Archived series as frames: what the blinded images and the measurements are made from.

Classic objects hold one frame, enhanced ones many; both become the same list of frames, slab after
slab, in the order of their place along the normal of the slices. What is read of a header is what
stands in `Frame` and nothing else.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
from pydicom.datadict import tag_for_keyword

from halfscan_api.archive import Archive, ArchivedSeries, DicomJson, SeriesIdentity
from halfscan_api.errors import HalfscanError
from halfscan_api.studies.tables import CaseSeries, NoiseSeries

log = structlog.stdlib.get_logger(__name__)

Pixels = npt.NDArray[np.int32]  # (row, column)

# Series whose headers are kept in memory; a reading has a few.
KEPT_SERIES = 128
# The window follows from at most so many pixels of each series, evenly taken.
MAX_SAMPLES = 4_000_000
# What the worker takes too: direction cosines that are further from unit length, or from a right
# angle, are no directions; no position lies 100 m away; images whose cosines differ by less are
# parallel.
SKEW = 0.05
FARTHEST_MM = 1e5
SAME_ORIENTATION = 0.01
_UNUSABLE = "the archive holds these images in a form that cannot be shown: tell the coordinator"
# Shares of the pixels of a series below and above which its window saturates [%].
WINDOW_PERCENTILES = (1.0, 99.0)


class UnusableImages(HalfscanError):
    """The archive holds the series, but it is none that a reader can be shown."""

    http_status = 503


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a series: its place in the archive, its geometry, its pixel description.

    Attributes
    ----------
    sop_instance_uid : str
        Of the object that holds it.
    number, of : int
        Frame of the object, from 1; frames of the object.
    position, row_direction, column_direction : ndarray, float64, shape (3,)
        ImagePositionPatient [mm], and the two halves of ImageOrientationPatient, made unit vectors
        at a right angle.
    spacing_mm : tuple of float
        PixelSpacing: between rows, between columns [mm].
    slope, intercept : float
        Of the modality transformation (PS3.3 C.11.1).
    """

    sop_instance_uid: str
    number: int
    of: int
    rows: int
    columns: int
    position: npt.NDArray[np.float64]
    row_direction: npt.NDArray[np.float64]
    column_direction: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    patient_position: str
    frame_of_reference_uid: str
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float

    @property
    def key(self) -> str:
        """Name in the archive that differs from that of every other frame."""
        return self.sop_instance_uid if self.of == 1 else f"{self.sop_instance_uid}/{self.number}"

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Normal of the image."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def location_mm(self) -> float:
        """Place along the normal [mm]."""
        return float(self.position @ self.normal)

    def stored(self, values: npt.NDArray[Any]) -> Pixels:
        """Give the stored values of what the archive decoded.

        Bits beside the stored ones (old overlays lie there) do not count (PS3.5 section 8.1.1).

        Parameters
        ----------
        values : ndarray of integers, shape (row, column, 1)

        Raises
        ------
        UnusableImages
        """
        expected = (self.rows, self.columns, 1)
        if values.shape != expected or values.dtype.kind not in "iu":
            got = (*values.shape, str(values.dtype))
            log.warning("frame_has_another_form", got=got, expected=expected)
            raise UnusableImages(_UNUSABLE)
        raw = values[:, :, 0].astype(np.int32) & ((1 << self.bits_stored) - 1)
        if self.signed:
            raw = np.where(raw >> (self.bits_stored - 1), raw - (1 << self.bits_stored), raw)
        return raw


@dataclass(frozen=True, slots=True)
class PixelRange:
    """What the pixels of a series span.

    Attributes
    ----------
    smallest, largest : int
        Smallest and largest stored value; the smallest is at most 0.
    low, high : float
        Its percentiles `WINDOW_PERCENTILES`, in the values that are shown.
    """

    smallest: int
    largest: int
    low: float
    high: float


@dataclass(frozen=True)
class SourceSeries:
    """A series of the archive, ready to be shown and measured.

    Attributes
    ----------
    archive : Archive
    series : ArchivedSeries
    frames : tuple of Frame
        In the order of `frames_of`.
    instance_ids : mapping of str to str
        SOPInstanceUID -> Orthanc's identifier of the instance.
    """

    archive: Archive
    series: ArchivedSeries
    frames: tuple[Frame, ...]
    instance_ids: Mapping[str, str]

    @cached_property
    def shows_rescale(self) -> bool:
        """Tell whether stored values mean nothing without slope and intercept.

        One positive slope for all and no offset changes the unit alone, which is arbitrary in MR:
        then stored values are what readers see and what is measured.
        """
        slopes = {frame.slope for frame in self.frames}
        offsets = {frame.intercept for frame in self.frames}
        return len(slopes) > 1 or min(slopes) <= 0 or offsets != {0.0}

    @cached_property
    def spacing_between_mm(self) -> float | None:
        """Distance of neighbouring slices: the median [mm]."""
        gaps: list[float] = []
        for slab in _slabs(self.frames):
            places = {round(float(frame.position @ slab[0].normal), 3) for frame in slab}
            gaps += np.diff(sorted(places)).tolist()
        return round(float(np.median(gaps)), 4) if gaps else None

    @cached_property
    def range(self) -> PixelRange:
        """Look at all pixels of the series once."""
        step = math.ceil(sum(one.rows * one.columns for one in self.frames) / MAX_SAMPLES)
        smallest, largest, samples = 0, 0, []
        for frame in self.frames:
            stored = self.stored(frame)
            smallest, largest = min(smallest, int(stored.min())), max(largest, int(stored.max()))
            samples.append(self._shown(frame, stored).ravel()[::step])
        low, high = np.percentile(np.concatenate(samples), WINDOW_PERCENTILES)
        return PixelRange(smallest, largest, float(low), float(high))

    def stored(self, frame: Frame) -> Pixels:
        """Read the stored values of a frame."""
        instance_id = self.instance_ids[frame.sop_instance_uid]
        return frame.stored(self.archive.frame(instance_id, frame.number))

    def shown(self, frame: Frame) -> npt.NDArray[np.float64]:
        """Read the values of a frame as a viewer shows them: rescaled where that is shown."""
        return self._shown(frame, self.stored(frame))

    def rescaled(self, frame: Frame) -> npt.NDArray[np.float64]:
        """Read the values of a frame in the unit that its header gives them, shown or not.

        Two series may store one unit with different slopes.
        """
        return self.stored(frame).astype(np.float64) * frame.slope + frame.intercept

    def _shown(self, frame: Frame, stored: Pixels) -> npt.NDArray[np.float64]:
        values = stored.astype(np.float64)
        return values * frame.slope + frame.intercept if self.shows_rescale else values


class SourceCache:
    """The series that were asked for last, each as the archive held it then.

    A series that has changed since (an instance came or went) is read anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[ArchivedSeries, SourceSeries] = OrderedDict()

    def get(self, archive: Archive, identity: SeriesIdentity) -> SourceSeries:
        """Give a series of the archive.

        Raises
        ------
        UnusableImages, ImagesMissing, ArchiveUnavailable
        """
        series = archive.series(identity)
        with self._lock:
            kept = self._kept.get(series)
            if kept is not None:
                self._kept.move_to_end(series)
                return kept
        headers = archive.headers(series)
        frames = tuple(frames_of(list(headers.values())))
        ids = {str(_value(one, "SOPInstanceUID")): name for name, one in headers.items()}
        read = SourceSeries(archive, series, frames, ids)
        with self._lock:
            self._kept[series] = read
            if len(self._kept) > KEPT_SERIES:
                self._kept.popitem(last=False)
        return read


def identity_of(row: CaseSeries | NoiseSeries) -> SeriesIdentity:
    """Tell what a study has written down of a series of a case, to find it in the archive."""
    return SeriesIdentity(
        row.series_instance_uid, row.study_instance_uid, orthanc_id=row.orthanc_series_id
    )


def frames_of(headers: Sequence[DicomJson]) -> list[Frame]:
    """Find the frames of a series.

    Parameters
    ----------
    headers : sequence of dict
        DICOM JSON, one an instance.

    Raises
    ------
    UnusableImages
        An object is no grey image with at most 16 bits and a place in the patient.
    """
    numbered = [
        (_whole(_value(header, "InstanceNumber")) or 0, frame)
        for header in headers
        for frame in _frames(header)
    ]
    numbered.sort(key=lambda entry: (entry[0], entry[1].sop_instance_uid, entry[1].number))
    frames = []
    for slab in _slabs([frame for _, frame in numbered]):
        # Sorting keeps the order of the numbers where images lie in one place.
        frames += sorted(slab, key=lambda frame: round(float(frame.position @ slab[0].normal), 3))
    return frames


def _slabs(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Separate the orientations, in the order in which they were numbered.

    Slabs along the discs of a spine are tilted against each other, each with its own normal.
    """
    slabs: list[list[Frame]] = []
    for frame in frames:
        slab = next((slab for slab in slabs if _is_parallel(slab[0], frame)), None)
        if slab is None:
            slabs.append([frame])
        else:
            slab.append(frame)
    return slabs


def _is_parallel(frame: Frame, other: Frame) -> bool:
    cosines, others = (
        np.concatenate([one.row_direction, one.column_direction]) for one in (frame, other)
    )
    return bool(np.abs(cosines - others).max() <= SAME_ORIENTATION)


def _frames(header: DicomJson) -> Iterator[Frame]:
    shared = _first(header, "SharedFunctionalGroupsSequence")
    per_frame = _items(header, "PerFrameFunctionalGroupsSequence")
    count = _whole(_value(header, "NumberOfFrames")) or 1
    if count != max(len(per_frame), 1):
        log.warning("frames_without_a_place", frames=count, groups=len(per_frame))
        raise UnusableImages(_UNUSABLE)
    for index, groups in enumerate(per_frame or [{}]):
        try:
            yield _frame(_Lookup(header, shared, groups), index + 1, count)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            log.warning("image_unusable", error=type(error).__name__, cause=str(error))
            raise UnusableImages(_UNUSABLE) from None


def _frame(header: "_Lookup", number: int, of: int) -> Frame:
    row, column = _directions(
        np.array(header.numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6))
    )
    spacing = header.numbers("PixelSpacing", "PixelMeasuresSequence", 2)
    stored, high = int(header.need("BitsStored")), _whole(header.get("HighBit"))
    transformation = "PixelValueTransformationSequence"
    frame = Frame(
        sop_instance_uid=str(header.need("SOPInstanceUID")),
        number=number,
        of=of,
        rows=int(header.need("Rows")),
        columns=int(header.need("Columns")),
        position=np.array(header.numbers("ImagePositionPatient", "PlanePositionSequence", 3)),
        row_direction=row,
        column_direction=column,
        spacing_mm=(spacing[0], spacing[1]),
        thickness_mm=_number(header.first("SliceThickness", "PixelMeasuresSequence")),
        patient_position=str(header.get("PatientPosition") or ""),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        photometric=str(header.need("PhotometricInterpretation")),
        bits_allocated=int(header.need("BitsAllocated")),
        bits_stored=stored,
        high_bit=stored - 1 if high is None else high,
        signed=int(header.need("PixelRepresentation")) == 1,
        # A slope of 0 would show nothing: it stands where nobody set one.
        slope=float(header.first("RescaleSlope", transformation) or 0) or 1.0,
        intercept=float(header.first("RescaleIntercept", transformation) or 0),
    )
    _check(frame, int(header.need("SamplesPerPixel")))
    return frame


def _check(frame: Frame, samples: int) -> None:
    if samples != 1 or not frame.photometric.startswith("MONOCHROME"):
        raise ValueError(f"must be grey, got {samples} samples, {frame.photometric}")
    bits = (frame.bits_allocated, frame.bits_stored, frame.high_bit)
    fits = 0 < bits[1] <= bits[2] + 1 <= bits[0] and bits[1] <= 16
    if bits[0] not in {8, 16, 32} or not fits:
        raise ValueError(f"must have at most 16 bits, got allocated, stored, high bit {bits}")
    if not (math.isfinite(frame.slope) and math.isfinite(frame.intercept)):
        raise ValueError("RescaleSlope and RescaleIntercept must be finite")
    if np.abs(frame.position).max() > FARTHEST_MM:
        raise ValueError(f"ImagePositionPatient must be within {FARTHEST_MM:g} mm")
    if not all(0 < spacing < FARTHEST_MM for spacing in frame.spacing_mm):
        raise ValueError(f"PixelSpacing must be > 0, got {frame.spacing_mm}")


def _directions(
    cosines: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make unit vectors at a right angle of direction cosines that are nearly so.

    Their normal stays; a scanner's cosines are rounded, and some are off by more.
    """
    row, column = cosines[:3], cosines[3:]
    if max(abs(row @ row - 1), abs(column @ column - 1)) > 2 * SKEW or abs(row @ column) > SKEW:
        raise ValueError("ImageOrientationPatient must be two directions at a right angle")
    normal = np.cross(row, column)
    row = row / np.linalg.norm(row)
    return row, np.cross(normal / np.linalg.norm(normal), row)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A header with the functional groups of one frame (PS3.3 C.7.6.16)."""

    header: DicomJson
    shared: DicomJson
    groups: DicomJson

    def get(self, keyword: str) -> Any:
        return _value(self.header, keyword)

    def need(self, keyword: str) -> Any:
        value = self.get(keyword)
        if value is None:
            raise KeyError(keyword)
        return value

    def values(self, keyword: str, group: str) -> list[Any]:
        """Values of an attribute: of the frame, of all frames, of the object."""
        for where in (_first(self.groups, group), _first(self.shared, group), self.header):
            values = values_of(where, keyword)
            if values:
                return values
        return []

    def first(self, keyword: str, group: str) -> Any:
        return next(iter(self.values(keyword, group)), None)

    def numbers(self, keyword: str, group: str, count: int) -> list[float]:
        values = [float(value) for value in self.values(keyword, group)]
        if len(values) != count or not all(map(math.isfinite, values)):
            raise ValueError(f"{keyword} must hold {count} numbers, got {len(values)}")
        return values


def values_of(header: Mapping[str, Any], keyword: str) -> list[Any]:
    """Values of an attribute in DICOM JSON; none where it is missing or empty."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no DICOM keyword: {keyword}")
    element = header.get(f"{tag:08X}")
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []


def _value(header: Mapping[str, Any], keyword: str) -> Any:
    values = values_of(header, keyword)
    return values[0] if values else None


def _number(value: Any) -> float | None:
    """Give a number; None for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    """Give a whole number, also of a text such as ``3.0``; None for what is none."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _items(header: Mapping[str, Any], keyword: str) -> list[DicomJson]:
    return [item for item in values_of(header, keyword) if isinstance(item, dict)]


def _first(header: Mapping[str, Any], keyword: str) -> DicomJson:
    items = _items(header, keyword)
    return items[0] if items else {}
