"""What a reader may see of a reading: found, mapped to the archive and back; no HTTP here.

An image is reached from a reading of the caller that is open, and in no other way. A UID is found
by making the reading's UID of each object that the reading has, and comparing: nothing that a
client sends is ever looked up in the archive.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import Archive, ImagesMissing, SeriesIdentity
from halfscan_api.blinded.greyscale import GreyScale, grey_scale
from halfscan_api.blinded.header import (
    Labels,
    image_file,
    image_header,
    image_label,
    series_header,
    study_header,
)
from halfscan_api.blinded.source import (
    Frame,
    SourceCache,
    SourceSeries,
    UnusableImages,
    identity_of,
)
from halfscan_api.errors import HalfscanError
from halfscan_api.readings.blinding import (
    BlindedSeries,
    blinded_series,
    blinded_study_uid,
    blinded_uid,
    may_see_images,
)
from halfscan_api.readings.sessions import known_code
from halfscan_api.readings.tables import Reading
from halfscan_api.studies.service import protocol_of
from halfscan_api.studies.tables import CaseSeries, Reader, Study

log = structlog.stdlib.get_logger(__name__)


class ImagesNotFound(HalfscanError):
    """No image of an open reading of the caller stands at this address.

    The same, whether the code is nobody's or another reader's, the reading is not open any more,
    or the reading has no such series, image or frame.
    """

    http_status = 404

    def __init__(self) -> None:
        super().__init__("no image of an open reading of yours is at this address")


@dataclass(frozen=True, slots=True)
class Image:
    """One blinded image.

    Attributes
    ----------
    series : BlindedSeries
    source : SourceSeries
    index : int
        Its place in `source.frames`.
    uid : str
        Its blinded SOPInstanceUID.
    viewing : Viewing
        What it is looked up in.
    """

    series: BlindedSeries
    source: SourceSeries
    index: int
    uid: str
    viewing: "Viewing"

    @property
    def frame(self) -> Frame:
        """What it is in the archive."""
        return self.source.frames[self.index]

    @property
    def grey(self) -> GreyScale:
        """What is told of its pixel values."""
        return self.viewing.grey_scale(self.series)


@dataclass(frozen=True, slots=True)
class Viewing:
    """The images of an open reading.

    Attributes
    ----------
    labels : Labels
    all_series : list of BlindedSeries
        In the order of the protocol.
    others : mapping of str to sequence of SeriesIdentity
        Sequence -> series of the case in its other arms. Nothing of them is shown.
    archive : Archive
    cache : SourceCache
    """

    labels: Labels
    all_series: list[BlindedSeries]
    others: Mapping[str, Sequence[SeriesIdentity]]
    archive: Archive
    cache: SourceCache
    _grey: dict[str, GreyScale] = field(default_factory=dict, repr=False)

    def check_study(self, study_uid: str | None) -> None:
        """Let the one study of the reading through.

        Raises
        ------
        ImagesNotFound
        """
        if study_uid not in {None, self.labels.study_instance_uid}:
            raise ImagesNotFound

    def find_series(self, series_uid: str | None) -> list[BlindedSeries]:
        """Find a series; all of them where None.

        Raises
        ------
        ImagesNotFound
        """
        found = [one for one in self.all_series if series_uid in {None, one.series_instance_uid}]
        if not found:
            raise ImagesNotFound
        return found

    def source(self, series: BlindedSeries) -> SourceSeries:
        """Get what a series is in the archive."""
        return self.cache.get(self.archive, identity_of(series.source))

    def grey_scale(self, series: BlindedSeries) -> GreyScale:
        """Get what is told of the pixel values of a series: the same in every arm."""
        if series.sequence not in self._grey:
            others = [
                source
                for identity in self.others.get(series.sequence, ())
                if (source := self._other(identity)) is not None
            ]
            self._grey[series.sequence] = grey_scale(self.source(series), others)
        return self._grey[series.sequence]

    def _other(self, identity: SeriesIdentity) -> SourceSeries | None:
        try:
            source = self.cache.get(self.archive, identity)
            _ = source.range  # the pixels may be missing where the headers are not
        except (ImagesMissing, UnusableImages):
            log.warning("other_arm_unusable", series=identity.series_instance_uid)
            return None
        return source

    def images(self, series_uid: str | None = None, uid: str | None = None) -> list[Image]:
        """Find images: of the reading, of a series, or one.

        Raises
        ------
        ImagesNotFound
        """
        found = [
            image
            for series in self.find_series(series_uid)
            for image in self._images(series)
            if uid in {None, image.uid}
        ]
        if not found:
            raise ImagesNotFound
        return found

    def study_header(self) -> Dataset:
        """Header of the study, with what a search tells on top (PS3.18 table 10.6.3-3)."""
        header = study_header(self.labels)
        header.ModalitiesInStudy = ["MR"]
        header.NumberOfStudyRelatedSeries = len(self.all_series)
        header.NumberOfStudyRelatedInstances = sum(
            len(self.source(series).frames) for series in self.all_series
        )
        return header

    def series_header(self, series: BlindedSeries) -> Dataset:
        """Header of a series, with what a search tells on top (PS3.18 table 10.6.3-4)."""
        header = series_header(self.labels, series)
        header.NumberOfSeriesRelatedInstances = len(self.source(series).frames)
        return header

    def label(self, image: Image) -> Dataset:
        """Give what a search tells of an image."""
        return image_label(self.labels, image.series, image.source, image.index)

    def header(self, image: Image) -> Dataset:
        """Header of an image."""
        return image_header(self.labels, image.series, image.source, image.index, image.grey)

    def file(self, image: Image) -> Dataset:
        """Give an image as a DICOM file."""
        return image_file(self.header(image), image.source, image.index)

    def _images(self, series: BlindedSeries) -> Iterator[Image]:
        source = self.source(series)
        for index, frame in enumerate(source.frames):
            yield Image(series, source, index, self.labels.uid(frame.key), self)


def open_images(
    session: Session, token_id: int, code: str
) -> tuple[Labels, list[BlindedSeries], dict[str, list[SeriesIdentity]]]:
    """Get what a reader may see of a reading.

    Parameters
    ----------
    session : Session
    token_id : int
        Of the caller.
    code : str
        Of the reading.

    Returns
    -------
    Labels
    list of BlindedSeries
    dict of str to list of SeriesIdentity
        Sequence -> series of the case in its other arms.

    Raises
    ------
    ImagesNotFound
    """
    found = session.execute(
        select(Reading, Study)
        .join(Reader, Reader.id == Reading.reader_id)
        .join(Study, Study.id == Reading.study_id)
        .where(Reading.code == known_code(code), Reader.token_id == token_id)
    ).one_or_none()
    if found is None:
        raise ImagesNotFound
    reading, study = found
    if not may_see_images(reading):
        raise ImagesNotFound
    protocol = protocol_of(session, study, reading.protocol_version)
    series = blinded_series(session, study, reading, protocol)
    return labels_of(study, reading), series, _others(session, reading)


def _others(session: Session, reading: Reading) -> dict[str, list[SeriesIdentity]]:
    others: dict[str, list[SeriesIdentity]] = defaultdict(list)
    rows = session.scalars(
        select(CaseSeries)
        .where(CaseSeries.case_id == reading.case_id, CaseSeries.arm != reading.arm)
        .order_by(CaseSeries.arm)
    )
    for row in rows:
        others[row.sequence].append(identity_of(row))
    return others


def labels_of(study: Study, reading: Reading) -> Labels:
    """Give the identifiers of a reading."""
    return Labels(
        study_instance_uid=blinded_study_uid(study, reading),
        patient_id=reading.code,
        uid=partial(blinded_uid, study, reading),
    )
