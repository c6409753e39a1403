"""A series that a person enrols by its UID: what the archive says of it; no HTTP here.

Where the API knows no archive, what the caller sends is all there is.
"""

from collections.abc import Sequence
from dataclasses import replace

from halfscan_api.archive import Archive, ArchivedSeries, ImagesMissing
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
    series = _meant(archive.series_of_uid(uid), new)
    try:
        facts = read_facts(list(archive.headers(series).values()))
    except ImagesMissing:
        raise _not_held(uid) from None
    except UnusableImages as error:
        raise SeriesNotReadable(f"the series {uid} cannot be shown to readers: {error}") from None
    if reference and facts.by_halfscan:
        raise SeriesDerived(
            f"the reference arm must hold series as scanned, got the series {uid}, which "
            f"{facts.model or 'Halfscan'} made"
        )
    return _noted(replace(new, orthanc_series_id=series.orthanc_id), facts)


def _meant(held: Sequence[ArchivedSeries], new: NewSeries) -> ArchivedSeries:
    """Tell which series is meant; a study under two PatientIDs has each of its series twice."""
    uid = new.series_instance_uid
    if not held:
        raise _not_held(uid)
    in_study = [one for one in held if one.study_instance_uid == new.study_instance_uid]
    if not in_study:
        raise SeriesNotArchived(
            f"the series {uid} belongs to the study {held[0].study_instance_uid}, got "
            f"study_instance_uid {new.study_instance_uid}"
        )
    names = ", ".join(sorted(one.orthanc_id for one in in_study))
    if new.orthanc_series_id is None and len(in_study) > 1:
        raise SeriesNotArchived(
            f"the archive holds the series {uid} under {len(in_study)} patients: "
            f"orthanc_series_id must be one of {names}"
        )
    meant = [one for one in in_study if new.orthanc_series_id in (None, one.orthanc_id)]
    if not meant:
        raise SeriesNotArchived(
            f"Orthanc calls the series {uid} {names}, got orthanc_series_id {new.orthanc_series_id}"
        )
    return meant[0]


def _not_held(uid: str) -> SeriesNotArchived:
    return SeriesNotArchived(f"the archive does not hold the series {uid}")


def _noted(new: NewSeries, facts: SeriesFacts) -> NewSeries:
    return replace(
        new,
        scan_time_s=facts.scan_time_s if new.scan_time_s is None else new.scan_time_s,
        parameters=dict(facts.parameters) if new.parameters is None else new.parameters,
    )
