"""Reports that a viewer sends: filed as the measurements of the reading (STOW-RS, PS3.18 10.5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from halfscan_api.blinded.report import (
    ReportedRegion,
    ReportRefused,
    choose_region,
    read_object,
    read_report,
)
from halfscan_api.blinded.service import Image, ImagesNotFound, Viewing
from halfscan_api.blinded.source import Frame
from halfscan_api.measurements.geometry import (
    Geometry,
    UnusableGeometry,
    in_plane,
    nearest_frame,
    to_patient,
)
from halfscan_api.measurements.regions import Ruler, measured
from halfscan_api.measurements.service import Measured, RegionMeasured
from halfscan_api.measurements.tables import MeasurementSource
from halfscan_api.studies.protocol import Protocol

# ErrorComment holds so many characters (LO, PS3.5 section 6.2).
_LONGEST = 64


@dataclass(slots=True)
class Filed:
    """What became of the instances of a request.

    Attributes
    ----------
    measured : list of RegionMeasured
        To be saved.
    stored : list of Dataset
        The reports that were understood.
    failed : list of (Dataset or None, ReportRefused)
        The others; None where a part is no DICOM file.
    """

    measured: list[RegionMeasured] = field(default_factory=list)
    stored: list[Dataset] = field(default_factory=list)
    failed: list[tuple[Dataset | None, ReportRefused]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """200 if all were stored, 202 if some were, 409 if none was (PS3.18 table 10.5.3-1)."""
        if not self.failed:
            return 200
        return 202 if self.stored else 409

    def answer(self) -> Dataset:
        """Give the body of the answer (PS3.18 table I.2-1)."""
        body = Dataset()
        body.RetrieveURL = ""
        if self.stored:
            body.ReferencedSOPSequence = Sequence([_reference(one) for one in self.stored])
        failures = []
        for report, refusal in self.failed:
            item = _reference(report) if report is not None else Dataset()
            item.FailureReason = refusal.failure
            item.ErrorComment = str(refusal)[:_LONGEST]
            failures.append(item)
        if failures:
            body.FailedSOPSequence = Sequence(failures)
        return body


def file_reports(view: Viewing, protocol: Protocol, contents: list[bytes]) -> Filed:
    """Read reports, and measure what they leave to the server; nothing is saved yet.

    A later report wins over an earlier one about the same region.
    """
    done, ruler = Filed(), Ruler()
    found: dict[tuple[str, str], RegionMeasured] = {}
    for content in contents:
        try:
            report, regions = read_report(content, view.labels.study_instance_uid)
            own = [_file(view, protocol, region, ruler) for region in regions]
            _check_once(own)
        except ReportRefused as refusal:
            done.failed.append((_named(content), refusal))
            continue
        done.stored.append(report)
        found.update({(one.sequence, one.region): one for one in own})
    done.measured = list(found.values())
    return done


def _file(
    view: Viewing, protocol: Protocol, region: ReportedRegion, ruler: Ruler
) -> RegionMeasured:
    image = _image(view, region)
    sequence = image.series.sequence
    known = {one.name: one.label for one in protocol.regions_of(sequence)}
    name = choose_region(region.names, known)
    if name is None:
        shown = region.names[0][:20] if region.names else ""
        raise ReportRefused(f"{sequence} has no region named {shown!r}")
    try:
        return RegionMeasured(sequence, name, _measured(region, image, ruler))
    except UnusableGeometry as error:
        raise ReportRefused(f"{name}: {error}") from None


def _measured(region: ReportedRegion, image: Image, ruler: Ruler) -> Measured:
    report, frame = MeasurementSource.REPORT, image.frame
    if region.mean is None or region.sd is None:
        if region.geometry is None:
            raise ReportRefused("a group needs mean and SD, or one closed geometry")
        values = ruler.measure(region.geometry, image.source, frame)
        return measured(values, region.geometry, frame, report)
    if region.sd < 0 or (region.area_mm2 or 1) <= 0:
        raise ReportRefused("SD must be >= 0, and an area > 0")
    return Measured(
        mean=region.mean,
        sd=region.sd,
        area_mm2=region.area_mm2,
        source=report,
        geometry=_placed(region.geometry, frame) if region.geometry is not None else None,
        sop_instance_uid=frame.sop_instance_uid,
        frame_number=frame.number,
    )


def _placed(geometry: Geometry, frame: Frame) -> Mapping[str, object]:
    """Give the geometry of a report as it is stored: in the patient, under the archive's UIDs."""
    points = to_patient(in_plane(geometry, frame), frame)
    return {
        "kind": geometry.kind.value,
        "coordinates": "patient",
        "points": [[round(value, 4) for value in point] for point in points.tolist()],
        "frame_of_reference_uid": frame.frame_of_reference_uid,
    }


def _image(view: Viewing, region: ReportedRegion) -> Image:
    """Map what a group refers to back: an image, or a place in the frame of reference."""
    if region.sop_instance_uid is not None:
        try:
            return view.images(uid=region.sop_instance_uid)[0]
        except ImagesNotFound:
            raise ReportRefused("it refers to an image that is not of this reading") from None
    if region.geometry is None or region.frame_of_reference_uid is None:
        raise ReportRefused("a measurement group refers to no image")
    return _image_at(view, region, region.geometry)


def _image_at(view: Viewing, region: ReportedRegion, geometry: Geometry) -> Image:
    """Find the one image that a region in the patient lies on."""
    found = []
    for series in view.all_series:
        images = view.images(series.series_instance_uid)
        header = view.header(images[0])
        if header.FrameOfReferenceUID != region.frame_of_reference_uid:
            continue
        try:
            frame = nearest_frame(geometry.points, images[0].source)
            in_plane(geometry, frame)
        except UnusableGeometry:
            continue
        found += [image for image in images if image.frame is frame]
    if len(found) != 1:
        raise ReportRefused("3D coordinates without an image must lie on one sequence alone")
    return found[0]


def _check_once(regions: list[RegionMeasured]) -> None:
    keys = [(one.sequence, one.region) for one in regions]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ReportRefused(f"{twice[1]} of {twice[0]} is measured twice")


def _named(content: bytes) -> Dataset | None:
    try:
        return read_object(content)
    except ReportRefused:
        return None


def _reference(report: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(str(report.get("SOPClassUID", "")))
    item.ReferencedSOPInstanceUID = UID(str(report.get("SOPInstanceUID", "")))
    return item
