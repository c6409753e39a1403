"""Structured reports with measurements (PS3.16 TID 1500), as viewers send them.

A report holds measurement groups. A group is one region: its tracking identifier, its finding, its
finding site or its comment (OHIF's label) names it as the protocol does (name or label, in capitals
or not); the image that it refers to says in which sequence. It gives mean and SD, or a geometry
that the server measures, or both. highdicom reads the content items; viewers nest them in different
ways, so that a group is searched as a whole instead of held against one template.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    Scoord3DContentItem,
    ScoordContentItem,
    TextContentItem,
)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from halfscan_api.errors import HalfscanError
from halfscan_api.measurements.geometry import Coordinates, Geometry, Kind, check_points

SR_CLASSES = {EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage}
Code = tuple[str, str]

# Codes as (value, scheme): SNOMED CT, and what stood for it in older reports.
GROUP: Code = ("125007", "DCM")
MEAN: set[Code] = {("373098007", "SCT"), ("R-00317", "SRT")}
SD: set[Code] = {("386136009", "SCT"), ("R-10047", "SRT")}
AREA: set[Code] = {("42798000", "SCT"), ("G-A166", "SRT")}
DERIVATION: Code = ("121401", "DCM")
TRACKING: Code = ("112039", "DCM")
FINDING: Code = ("121071", "DCM")
COMMENT: Code = ("121106", "DCM")
FINDING_SITE: set[Code] = {("363698007", "SCT"), ("G-C0E3", "SRT")}
SQUARE_MM = {"mm2", "mm²"}

# Why an instance was not taken (PS3.18 annex I, PS3.4 table B.2-1).
NOT_SUPPORTED, NOT_THIS_STUDY, NOT_UNDERSTOOD = 0x0122, 0xA900, 0xC000


class ReportRefused(HalfscanError):
    """A report that cannot be filed.

    Attributes
    ----------
    failure : int
        FailureReason of the answer.
    """

    http_status = 409

    def __init__(self, message: str, failure: int = NOT_UNDERSTOOD) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class ReportedRegion:
    """One measurement group.

    Attributes
    ----------
    names : list of str
        What may name the region, the strongest first.
    mean, sd, area_mm2 : float or None
    geometry : Geometry or None
        In the coordinates of the report.
    sop_instance_uid : str or None
        The image, under its blinded identifier.
    frame_of_reference_uid : str or None
        Of coordinates in the patient, blinded too.
    """

    names: list[str]
    mean: float | None
    sd: float | None
    area_mm2: float | None
    geometry: Geometry | None
    sop_instance_uid: str | None
    frame_of_reference_uid: str | None


def read_report(content: bytes, study_uid: str) -> tuple[Dataset, list[ReportedRegion]]:
    """Read a report.

    Parameters
    ----------
    content : bytes
        A DICOM file.
    study_uid : str
        The one study that it may belong to.

    Returns
    -------
    Dataset, list of ReportedRegion
        The report, and its groups.

    Raises
    ------
    ReportRefused
    """
    report = read_object(content)
    if report.get("SOPClassUID") not in SR_CLASSES:
        raise ReportRefused("only structured reports are taken", NOT_SUPPORTED)
    if report.get("StudyInstanceUID") != study_uid:
        raise ReportRefused("it belongs to another study than the reading", NOT_THIS_STUDY)
    try:
        items = ContentSequence.from_sequence(report.ContentSequence)
        groups = [_region(list(_all(group))) for group in _groups(items)]
    except (AttributeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ReportRefused(f"its content is malformed: {type(error).__name__}") from None
    if not groups:
        raise ReportRefused("it holds no measurement group (TID 1500)")
    return report, groups


def read_object(content: bytes) -> Dataset:
    """Read the bytes of a part.

    Raises
    ------
    ReportRefused
        They are no DICOM file.
    """
    try:
        return dcmread(io.BytesIO(content), stop_before_pixels=True)
    except (InvalidDicomError, EOFError, ValueError, OSError, AttributeError, KeyError):
        raise ReportRefused("it is no DICOM file") from None


def choose_region(names: Sequence[str], known: dict[str, str]) -> str | None:
    """Find the region that a group speaks of.

    Parameters
    ----------
    names : sequence of str
        Of the group, the strongest first.
    known : dict of str to str
        Name to label of the regions that are asked for.

    Returns
    -------
    str or None
        The first name that is one of them; None if there is none.
    """
    plain = {_plain(text): name for name, label in known.items() for text in (label, name)}
    return next((plain[_plain(name)] for name in names if _plain(name) in plain), None)


def _groups(items: ContentSequence) -> Iterator[ContentSequence]:
    for item in items:
        if not isinstance(item, ContainerContentItem) or "ContentSequence" not in item:
            continue
        if _code(item.name) == GROUP:
            yield item.ContentSequence
        else:
            yield from _groups(item.ContentSequence)


def _all(items: ContentSequence) -> Iterator[ContentItem]:
    """Every item of a group at every depth, parents first."""
    for item in items:
        yield item
        if "ContentSequence" in item:
            yield from _all(item.ContentSequence)


def _region(items: list[ContentItem]) -> ReportedRegion:
    areas = [_square_mm(item) for item in items if _measures(item, AREA)]
    geometry, frame_of_reference = _geometry(items)
    images = {
        str(item.referenced_sop_instance_uid)
        for item in items
        if isinstance(item, ImageContentItem)
    }
    if len(images) > 1:
        raise ReportRefused("a measurement group refers to several images")
    return ReportedRegion(
        names=_names(items),
        mean=_one(items, MEAN, "mean"),
        sd=_one(items, SD, "standard deviation"),
        area_mm2=areas[0] if areas else None,
        geometry=geometry,
        sop_instance_uid=images.pop() if images else None,
        frame_of_reference_uid=frame_of_reference,
    )


def _names(items: list[ContentItem]) -> list[str]:
    tracking = [
        item.value for item in items if isinstance(item, TextContentItem) and _is(item, TRACKING)
    ]
    found = []
    for codes in ({FINDING}, FINDING_SITE, {COMMENT}):
        for item in items:
            if isinstance(item, CodeContentItem) and _code(item.name) in codes:
                found += [item.value.meaning, item.value.value]
            if isinstance(item, TextContentItem) and _code(item.name) in codes:
                found.append(item.value)
    return [*tracking, *found]


def _measures(item: ContentItem, codes: set[Code]) -> TypeGuard[NumContentItem]:
    """Tell whether a number is of this kind, by its own name or by its derivation."""
    if not isinstance(item, NumContentItem):
        return False
    modifiers = item.get("ContentSequence", [])
    return _code(item.name) in codes or any(
        isinstance(one, CodeContentItem) and _is(one, DERIVATION) and _code(one.value) in codes
        for one in modifiers
    )


def _one(items: list[ContentItem], codes: set[Code], what: str) -> float | None:
    values = {float(item.value) for item in items if _measures(item, codes)}
    if len(values) > 1:
        raise ReportRefused(f"a measurement group gives more than one {what}")
    return values.pop() if values else None


def _square_mm(item: NumContentItem) -> float:
    if item.unit.value not in SQUARE_MM:
        raise ReportRefused(f"an area must be in mm2, got {item.unit.value[:20]}")
    return float(item.value)


def _geometry(items: list[ContentItem]) -> tuple[Geometry | None, str | None]:
    """Find the one geometry of a group; a viewer may repeat it under each of its numbers."""
    shapes: dict[bytes, ScoordContentItem | Scoord3DContentItem] = {}
    for item in items:
        if isinstance(item, ScoordContentItem | Scoord3DContentItem):
            shapes.setdefault(item.value.tobytes(), item)
    if len(shapes) != 1:
        # Several shapes for one region: which one was measured is not said.
        return None, None
    shape = next(iter(shapes.values()))
    points = shape.value.tolist()
    kinds = {
        "CIRCLE": Kind.CIRCLE,
        "ELLIPSE": Kind.ELLIPSE,
        "POLYLINE": Kind.POLYGON,
        "POLYGON": Kind.POLYGON,
    }
    kind = kinds.get(shape.graphic_type.value)
    if kind is None:
        return None, None
    if kind is Kind.POLYGON and points[0] == points[-1]:
        points = points[:-1]
    check_points(kind, len(points))
    if isinstance(shape, Scoord3DContentItem):
        reference = str(shape.frame_of_reference_uid)
        return Geometry(kind, Coordinates.PATIENT, points), reference
    return Geometry(kind, Coordinates.IMAGE, points), None


def _is(item: ContentItem, code: Code) -> bool:
    return _code(item.name) == code


def _code(concept: CodedConcept) -> Code:
    return concept.value, concept.scheme_designator


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")
