"""The archive, as the API reaches it: headers and pixels of series, through pyorthanc.

Headers come from Orthanc's DICOMweb plugin as DICOM JSON, pixels as uncompressed little-endian
frames: Orthanc decodes what is compressed. No text of Orthanc reaches a client: errors of its
answers become the errors below, and the details stand in the log.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from flask import Flask, current_app
from pyorthanc import Orthanc

from halfscan_api import multipart
from halfscan_api.errors import HalfscanError, one_line
from halfscan_api.retrying import BUSY, RetryingTransport
from halfscan_api.settings import PREFIX, Settings

log = structlog.stdlib.get_logger(__name__)

DicomJson = dict[str, Any]

DICOM_WEB = "/dicom-web"
TIMEOUT_S = 60.0
_KEY = "halfscan_archive"
_FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
_PAGE = 1000
_MISSING = "the archive does not hold these images: tell the coordinator"


class ArchiveNotConfigured(HalfscanError):
    """The API was started without an archive."""

    http_status = 503


class ArchiveUnavailable(HalfscanError):
    """The archive does not answer, or not as it should."""

    http_status = 503


class ImagesMissing(HalfscanError):
    """The archive does not hold what it should."""

    http_status = 503


@dataclass(frozen=True, slots=True)
class ArchivedSeries:
    """A series as the archive holds it now.

    Attributes
    ----------
    orthanc_id, series_instance_uid, study_instance_uid : str
    instances : tuple of str
        Orthanc's identifiers of the instances.
    """

    orthanc_id: str
    series_instance_uid: str
    study_instance_uid: str
    instances: tuple[str, ...]

    @property
    def path(self) -> str:
        """Path of the series in DICOMweb."""
        return f"{DICOM_WEB}/studies/{self.study_instance_uid}/series/{self.series_instance_uid}"


class Archive:
    """An Orthanc server with the DICOMweb plugin.

    Parameters
    ----------
    url : str
    username, password : str, optional
    timeout_s : float
        Longest wait for one answer [s].
    """

    def __init__(
        self,
        url: str,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._client = Orthanc(
            self._url,
            username=username,
            password=password,
            timeout=timeout_s,
            trust_env=False,
            transport=RetryingTransport(),
            # Orthanc would compress every answer: ten times the time for an image.
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [httpx.Response.raise_for_status]},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def series(self, series_instance_uid: str) -> ArchivedSeries:
        """Look up a series by its SeriesInstanceUID.

        Raises
        ------
        ImagesMissing
            The archive has none, or several.
        ArchiveUnavailable
        """
        with self._errors():
            found = list(self._find({"SeriesInstanceUID": series_instance_uid}))
        if len(found) != 1:
            log.warning("series_not_found", series=series_instance_uid, found=len(found))
            raise ImagesMissing(_MISSING)
        return found[0]

    def all_series(self, study_instance_uids: list[str] | None = None) -> list[ArchivedSeries]:
        """List the series of MR studies; of every study by default.

        Raises
        ------
        ArchiveUnavailable
        """
        queries: list[dict[str, str]] = [{}]
        if study_instance_uids is not None:
            queries = [{"StudyInstanceUID": uid} for uid in study_instance_uids]
        with self._errors():
            return [one for query in queries for one in self._find({"Modality": "MR", **query})]

    def series_of_day(self, patient_id: str, study_date: str) -> list[ArchivedSeries]:
        """List the MR series of a patient's studies of one day.

        Raises
        ------
        ArchiveUnavailable
        """
        if set(patient_id) & set("*?\\"):  # Orthanc would take them for wildcards
            return []
        query = {"Modality": "MR", "PatientID": patient_id, "StudyDate": study_date}
        with self._errors():
            return list(self._find(query))

    def headers(self, series: ArchivedSeries) -> list[DicomJson]:
        """Read the headers of a series as DICOM JSON (PS3.18 F.2), one an instance.

        Raises
        ------
        ImagesMissing, ArchiveUnavailable
        """
        with self._errors():
            answer: list[DicomJson] = self._get(f"{series.path}/metadata").json()
            if not answer or not all(isinstance(one, dict) for one in answer):
                raise ImagesMissing(_MISSING)
            return answer

    def frame(self, series: ArchivedSeries, sop_instance_uid: str, number: int) -> bytes:
        """Read one frame, uncompressed and little-endian.

        Parameters
        ----------
        series : ArchivedSeries
        sop_instance_uid : str
        number : int
            From 1.

        Raises
        ------
        ImagesMissing, ArchiveUnavailable
        """
        path = f"{series.path}/instances/{sop_instance_uid}/frames/{number}"
        with self._errors():
            answer = self._get(path, {"Accept": _FRAME})
            parts = multipart.parse(answer.content, answer.headers["Content-Type"])
            return parts[0].body

    def _find(self, query: Mapping[str, str]) -> Iterator[ArchivedSeries]:
        studies: dict[str, str] = {}
        since = 0
        while True:
            body = {"Level": "Series", "Expand": True, "Query": dict(query)}
            page = self._client.post_tools_find(json={**body, "Since": since, "Limit": _PAGE})
            for row in page:
                parent = row["ParentStudy"]
                if parent not in studies:
                    tags = self._client.get_studies_id(parent)["MainDicomTags"]
                    studies[parent] = tags["StudyInstanceUID"]
                yield ArchivedSeries(
                    orthanc_id=row["ID"],
                    series_instance_uid=row["MainDicomTags"]["SeriesInstanceUID"],
                    study_instance_uid=studies[parent],
                    instances=tuple(sorted(row["Instances"])),
                )
            if len(page) < _PAGE:
                return
            since += _PAGE

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        answer: httpx.Response = self._client.get(self._url + path, headers=headers)
        return answer

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            log.warning("archive_refused", status=status, path=error.request.url.path)
            if status in {400, 404}:  # Orthanc's DICOMweb says either of what is not there
                raise ImagesMissing(_MISSING) from None
            if status in BUSY:
                raise ArchiveUnavailable("the archive is busy: try again") from None
            raise ArchiveUnavailable("the archive does not answer as it should") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            log.warning("archive_unavailable", error=type(error).__name__, cause=one_line(error))
            raise ArchiveUnavailable("the archive cannot be reached: try again") from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.warning("archive_not_understood", error=type(error).__name__)
            raise ArchiveUnavailable("the archive does not answer as it should") from None


class _Lazy:
    """The archive of an app, connected at the first use: after the server has forked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._archive: Archive | None = None

    @property
    def configured(self) -> bool:
        """The settings name an archive."""
        return self._settings.orthanc_url is not None

    def get(self) -> Archive:
        """Give the archive.

        Raises
        ------
        ArchiveNotConfigured
        """
        settings = self._settings
        if settings.orthanc_url is None:
            raise ArchiveNotConfigured(
                f"this needs an archive: start the API with {PREFIX}ORTHANC_URL"
            )
        with self._lock:
            if self._archive is None:
                self._archive = Archive(
                    settings.orthanc_url, settings.orthanc_username, settings.orthanc_password
                )
            return self._archive

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            if self._archive is not None:
                self._archive.close()
            self._archive = None


def attach(app: Flask, settings: Settings) -> None:
    """Give an app its archive."""
    app.extensions[_KEY] = _Lazy(settings)


def archive() -> Archive:
    """Archive of the current app.

    Raises
    ------
    ArchiveNotConfigured
    """
    return _lazy(current_app).get()


def configured() -> bool:
    """Whether the current app has an archive."""
    return _lazy(current_app).configured


def close(app: Flask) -> None:
    """Close the connections of an app to its archive."""
    _lazy(app).close()


def _lazy(app: Flask) -> _Lazy:
    lazy = app.extensions[_KEY]
    if not isinstance(lazy, _Lazy):
        raise TypeError(f"the app must carry an archive, got {type(lazy).__name__}")
    return lazy
