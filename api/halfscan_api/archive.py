"""The archive, as the API reaches it: headers and pixels of series, through pyorthanc.

Everything is read by Orthanc's identifiers, which follow from the patient, the study, the series
and the instance: the same UIDs may stand under two patients. Orthanc decodes what is compressed,
pydicom what Orthanc cannot. No text of Orthanc reaches a client: errors of its answers become the
errors below, and the details stand in the log.
"""

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import structlog
from flask import Flask, current_app
from pydicom.pixels.utils import pixel_array
from pyorthanc import Orthanc

from halfscan_api.errors import HalfscanError, one_line
from halfscan_api.orthanc_tags import DicomJson, dicom_json
from halfscan_api.settings import PREFIX, Settings
from halfscan_archive.retrying import BUSY, RetryingTransport

log = structlog.stdlib.get_logger(__name__)

__all__ = [
    "Archive",
    "ArchiveNotConfigured",
    "ArchiveUnavailable",
    "ArchivedSeries",
    "DicomJson",
    "ImagesMissing",
    "SeriesIdentity",
    "archive",
    "attach",
    "close",
    "configured",
]

TIMEOUT_S = 60.0
_KEY = "halfscan_archive"
_PAGE = 1000
_MISSING = "the archive does not hold these images: tell the coordinator"
_MOVED = "the archive holds these images under another patient than before: tell the coordinator"
_UNDECODABLE = (
    "the archive holds these images in a form that cannot be decoded: tell the coordinator"
)
# What Orthanc answers where it cannot decode a frame: its codecs, or the file, do not allow it.
_UNDECODED = frozenset({400, 500, 501})
_AMBIGUOUS = "the archive holds these images under several patients: tell the coordinator"


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
class SeriesIdentity:
    """What is written down of a series, to find it again.

    Attributes
    ----------
    series_instance_uid, study_instance_uid : str
    orthanc_id : str or None
        Orthanc's identifier, which tells the patient too; None where it is not known.
    """

    series_instance_uid: str
    study_instance_uid: str
    orthanc_id: str | None = None


@dataclass(frozen=True, slots=True)
class ArchivedSeries:
    """A series as the archive holds it now.

    Attributes
    ----------
    orthanc_id, series_instance_uid, study_instance_uid : str
    orthanc_patient_id : str
        Orthanc's identifier of the patient, which follows from PatientID.
    instances : tuple of str
        Orthanc's identifiers of the instances.
    """

    orthanc_id: str
    series_instance_uid: str
    study_instance_uid: str
    orthanc_patient_id: str
    instances: tuple[str, ...]


class Archive:
    """An Orthanc server.

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

    def series(self, identity: SeriesIdentity) -> ArchivedSeries:
        """Look up a series: of this study, and of the patient that it is known to belong to.

        Raises
        ------
        ImagesMissing
            The archive has none, or several of which none is known to be meant.
        ArchiveUnavailable
        """
        held = [
            series
            for series in self.series_of_uid(identity.series_instance_uid)
            if series.study_instance_uid == identity.study_instance_uid
        ]
        meant = [series for series in held if identity.orthanc_id in {None, series.orthanc_id}]
        if len(meant) != 1:
            uid = identity.series_instance_uid
            log.warning("series_not_found", series=uid, held=len(held), meant=len(meant))
            raise ImagesMissing(_AMBIGUOUS if meant else _MOVED if held else _MISSING)
        return meant[0]

    def series_of_uid(self, series_instance_uid: str) -> list[ArchivedSeries]:
        """List the series that have a SeriesInstanceUID: of several patients, more than one.

        Raises
        ------
        ArchiveUnavailable
        """
        with self._errors():
            return list(self._find({"SeriesInstanceUID": series_instance_uid}))

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

    def series_of_day(self, orthanc_patient_id: str, study_date: str) -> list[ArchivedSeries]:
        """List the MR series of a patient's studies of one day.

        Raises
        ------
        ImagesMissing
            The archive does not hold the patient any more.
        ArchiveUnavailable
        """
        with self._errors():
            studies = {
                study["ID"]: study["MainDicomTags"]["StudyInstanceUID"]
                for study in self._client.get_patients_id_studies(orthanc_patient_id)
                if study["MainDicomTags"].get("StudyDate") == study_date
            }
            return [
                _archived(row, studies[row["ParentStudy"]], orthanc_patient_id)
                for row in self._client.get_patients_id_series(orthanc_patient_id)
                if row["ParentStudy"] in studies and row["MainDicomTags"].get("Modality") == "MR"
            ]

    def headers(self, series: ArchivedSeries) -> dict[str, DicomJson]:
        """Read the headers of a series as DICOM JSON (PS3.18 F.2).

        Returns
        -------
        dict of str to dict
            By Orthanc's identifier of the instance, in the order of these.

        Raises
        ------
        ImagesMissing, ArchiveUnavailable
        """
        with self._errors():
            tags = self._client.get_series_id_instances_tags(
                series.orthanc_id, params={"short": ""}
            )
            if not tags:
                raise ImagesMissing(_MISSING)
            return {instance: dicom_json(tags[instance]) for instance in sorted(tags)}

    def frame(self, orthanc_instance_id: str, number: int) -> npt.NDArray[Any]:
        """Read the decoded values of one frame, without slope and intercept.

        Parameters
        ----------
        orthanc_instance_id : str
        number : int
            From 1.

        Returns
        -------
        ndarray of integers, shape (row, column, sample)

        Raises
        ------
        ImagesMissing, ArchiveUnavailable
        """
        path = f"{self._url}/instances/{orthanc_instance_id}"
        with self._errors():
            try:
                answer = self._client.get(
                    f"{path}/frames/{number - 1}/numpy", params={"rescale": "false"}
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _UNDECODED:
                    raise
                return _decoded(self._client.get(f"{path}/file").content, number)
            values: npt.NDArray[Any] = np.load(io.BytesIO(answer.content), allow_pickle=False)
            return values

    def _find(self, query: Mapping[str, str]) -> Iterator[ArchivedSeries]:
        studies: dict[str, tuple[str, str]] = {}
        since = 0
        while True:
            body = {"Level": "Series", "Expand": True, "Query": dict(query)}
            page = self._client.post_tools_find(json={**body, "Since": since, "Limit": _PAGE})
            for row in page:
                parent = row["ParentStudy"]
                if parent not in studies:
                    study = self._client.get_studies_id(parent)
                    uid = study["MainDicomTags"]["StudyInstanceUID"]
                    studies[parent] = (uid, study["ParentPatient"])
                yield _archived(row, *studies[parent])
            if len(page) < _PAGE:
                return
            since += _PAGE

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            log.warning("archive_refused", status=status, path=error.request.url.path)
            if status in {400, 404}:  # Orthanc says either of what is not there
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


def _decoded(file: bytes, number: int) -> npt.NDArray[Any]:
    """Decode a frame of a file, as Orthanc gives those that it can decode."""
    try:
        values = pixel_array(io.BytesIO(file), index=number - 1, raw=True)
    except Exception as error:  # noqa: BLE001 - each decoder has errors of its own
        log.warning("frame_not_decoded", error=type(error).__name__)
        raise ImagesMissing(_UNDECODABLE) from None
    return values[:, :, np.newaxis] if values.ndim == 2 else values


def _archived(
    row: Mapping[str, Any], study_instance_uid: str, orthanc_patient_id: str
) -> ArchivedSeries:
    return ArchivedSeries(
        orthanc_id=row["ID"],
        series_instance_uid=row["MainDicomTags"]["SeriesInstanceUID"],
        study_instance_uid=study_instance_uid,
        orthanc_patient_id=orthanc_patient_id,
        instances=tuple(sorted(row["Instances"])),
    )


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
