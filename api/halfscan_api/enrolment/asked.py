"""A series that a person enrols by its UID: what the archive says of it; no HTTP here.

Where the API knows no archive, what the caller sends is all there is.
"""

from dataclasses import replace

from halfscan_api.archive import Archive, ImagesMissing
from halfscan_api.blinded.source import UnusableImages
from halfscan_api.enrolment.headers import SeriesFacts, read_facts
from halfscan_api.errors import HalfscanError
from halfscan_api.studies.cases import NewSeries, SeriesDerived


class SeriesNotArchived(HalfscanError):
    """The archive does not hold the series, or not as it was named."""

    http_status = 409


class SeriesNotReadable(HalfscanError):
    """The archive holds the series, but readers could not be shown it."""

    http_status = 409


def ask(archive: Archive, new: NewSeries, *, reference: bool) -> NewSeries:
    """Find a series in the archive, and note what its headers say.

    Scan time and parameters that the caller sends stand; what is missing comes from the headers.

    Parameters
    ----------
    archive : Archive
    new : NewSeries
    reference : bool
        It is for the reference arm, which holds series as scanned.

    Raises
    ------
    SeriesNotArchived, SeriesNotReadable, SeriesDerived, ArchiveUnavailable
    """
    uid = new.series_instance_uid
    try:
        found = archive.series(uid)
        headers = archive.headers(found)
    except ImagesMissing:
        raise SeriesNotArchived(f"the archive does not hold the series {uid}, once") from None
    if found.study_instance_uid != new.study_instance_uid:
        raise SeriesNotArchived(
            f"the series {uid} belongs to the study {found.study_instance_uid}, got "
            f"study_instance_uid {new.study_instance_uid}"
        )
    if new.orthanc_series_id not in (None, found.orthanc_id):
        raise SeriesNotArchived(
            f"Orthanc calls the series {uid} {found.orthanc_id}, got orthanc_series_id "
            f"{new.orthanc_series_id}"
        )
    try:
        facts = read_facts(headers)
    except UnusableImages as error:
        raise SeriesNotReadable(f"the series {uid} cannot be shown to readers: {error}") from None
    if reference and facts.by_halfscan:
        raise SeriesDerived(
            f"the reference arm must hold series as scanned, got the series {uid}, which "
            f"{facts.model or 'Halfscan'} made"
        )
    return _noted(replace(new, orthanc_series_id=found.orthanc_id), facts)


def _noted(new: NewSeries, facts: SeriesFacts) -> NewSeries:
    return replace(
        new,
        scan_time_s=facts.scan_time_s if new.scan_time_s is None else new.scan_time_s,
        parameters=dict(facts.parameters) if new.parameters is None else new.parameters,
    )
