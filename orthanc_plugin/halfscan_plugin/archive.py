"""The archive over REST: read a series, store a derived one (pyorthanc).

pyorthanc raises httpx's exceptions; they end here and become three of our own: the archive is
away (try again later), the series is not there, the archive refused an object. Reads are tried
again on a fresh connection before the archive counts as away: Orthanc closes kept-alive
connections when it likes, and answers 503 while its database is busy.

A UID does not name a series in an archive: the same study may lie there under two PatientIDs.
What is looked up or removed is found within one of Orthanc's studies.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, cast

import httpx
import numpy as np
from pydicom import Dataset, dcmwrite
from pyorthanc import Orthanc

from halfscan_archive.retrying import STREAMED, RetryingTransport
from halfscan_plugin.derived import Origin, is_halfscan_output
from halfscan_plugin.errors import HalfscanError, UnreadableSeries
from halfscan_plugin.file_start import FileStart
from halfscan_plugin.files import parse
from halfscan_plugin.pixels import decode
from halfscan_plugin.relay import source_digest

__all__ = [
    "Archive",
    "ArchiveUnavailable",
    "ArchivedSeries",
    "NotOurs",
    "SeriesNotFound",
    "SourceSeries",
    "StoreRefused",
    "StoredSeries",
]


MOST_LOOKS = 3  # at a series that loses instances while it is looked at
# Orthanc would compress every answer that may be compressed: ten times the time for an image.
UNPACKED = {"Accept-Encoding": "identity"}


class ArchiveUnavailable(HalfscanError):
    """Orthanc cannot be reached, or does not answer as it should."""


class SeriesNotFound(HalfscanError):
    """The series is not, or no longer, in the archive."""


class StoreRefused(HalfscanError):
    """Orthanc did not take a derived object; what was stored has been removed again."""


class NotOurs(HalfscanError):
    """A series that shall be removed was not written by Halfscan."""


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """A series as the archive holds it now.

    Parameters
    ----------
    orthanc_series_id, orthanc_study_id, series_instance_uid, study_instance_uid : str
        Its identifiers.
    files : dict of str to str
        Orthanc's identifier of the stored file, by that of the instance: another one means that
        the instance was stored anew.
    source_digest : str
        Its instances and their contents, as the relay announces them.
    is_stable : bool
        False while it still arrives.
    """

    orthanc_series_id: str
    orthanc_study_id: str
    series_instance_uid: str
    study_instance_uid: str
    files: Mapping[str, str]
    source_digest: str
    is_stable: bool

    @property
    def instance_ids(self) -> list[str]:
        """Orthanc's identifiers of its instances."""
        return sorted(self.files)

    def announcement(self) -> dict[str, Any]:
        """Give what the ledger needs to know of it."""
        return {
            "orthanc_series_id": self.orthanc_series_id,
            "orthanc_study_id": self.orthanc_study_id,
            "series_instance_uid": self.series_instance_uid,
            "study_instance_uid": self.study_instance_uid,
            "source_digest": self.source_digest,
            "n_instances": len(self.files),
        }


@dataclass(frozen=True, slots=True)
class ArchivedSeries:
    """A series of one of Orthanc's studies.

    Parameters
    ----------
    orthanc_series_id, series_instance_uid : str
        Its identifiers.
    number : int or None
        SeriesNumber, where it is one.
    instance_ids : tuple of str
        Orthanc's identifiers of its instances.
    """

    orthanc_series_id: str
    series_instance_uid: str
    number: int | None
    instance_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A derived series as the archive holds it.

    Parameters
    ----------
    orthanc_series_id : str
    instances : int
        How many it has.
    added : int
        How many of them were not there before.
    """

    orthanc_series_id: str
    instances: int
    added: int = 0


class Archive:
    """An Orthanc server.

    Parameters
    ----------
    url : str
        Its address.
    username, password : str, optional
        Credentials of a registered user.
    timeout_s : float
        Longest wait for one answer [s].
    """

    def __init__(
        self,
        url: str,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._client = Orthanc(
            self._url,
            username=username,
            password=password,
            timeout=timeout_s,
            transport=RetryingTransport(),
            # pyorthanc itself tells an error's status only in the text of its message.
            event_hooks={"response": [httpx.Response.raise_for_status]},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ping(self) -> dict[str, Any]:
        """Ask Orthanc who it is; raise `ArchiveUnavailable` if it does not say."""
        try:
            with self._errors():
                system: dict[str, Any] = self._client.get_system()
                _ = system["Version"]
        except SeriesNotFound as error:
            raise ArchiveUnavailable(f"what answers at {self._url} is not Orthanc") from error
        return system

    def source(self, series_id: str) -> SourceSeries:
        """Look at a series: which instances it has now, what they hold, whether it still arrives.

        Raises
        ------
        SeriesNotFound
            If it is not there.
        """
        for _ in range(MOST_LOOKS):
            try:
                return self._look(series_id)
            except SeriesNotFound:
                self.instance_ids(series_id)  # raises, unless only one instance of it has gone
        raise ArchiveUnavailable(f"series {series_id} changes while it is looked at")

    def _look(self, series_id: str) -> SourceSeries:
        with self._errors():
            series = self._client.get_series_id(series_id)
            study = self._client.get_studies_id(series["ParentStudy"])
            instances = self._instances(series_id)
            return SourceSeries(
                orthanc_series_id=series_id,
                orthanc_study_id=study["ID"],
                series_instance_uid=series["MainDicomTags"]["SeriesInstanceUID"],
                study_instance_uid=study["MainDicomTags"]["StudyInstanceUID"],
                files={i["ID"]: i["FileUuid"] for i in instances},
                source_digest=source_digest(
                    (i["MainDicomTags"]["SOPInstanceUID"], self._md5(i["ID"])) for i in instances
                ),
                is_stable=bool(series["IsStable"]),
            )

    def holds(self, source: SourceSeries) -> bool:
        """Tell whether the archive still holds a series as it was looked at, in one request."""
        try:
            with self._errors():
                instances = self._instances(source.orthanc_series_id)
                return {i["ID"]: i["FileUuid"] for i in instances} == source.files
        except SeriesNotFound:
            return False

    def instance_ids(self, series_id: str) -> list[str]:
        """List Orthanc's identifiers of the instances of a series."""
        with self._errors():
            series = self._client.get_series_id(series_id)
            return sorted(series["Instances"])

    def dataset(self, instance_id: str) -> Dataset:
        """Read one instance, pixels included.

        Raises
        ------
        UnreadableSeries
            If the bytes are no DICOM file.
        """
        with self._errors():
            content: bytes = self._client.get_instances_id_file(instance_id, headers=UNPACKED)
        return _parsed(instance_id, BytesIO(content), pixels=True)

    def header(self, instance_id: str) -> Dataset:
        """Read one instance as far as its pixels: every element before them, private ones too.

        Raises
        ------
        UnreadableSeries
            If the bytes are no DICOM file.
        """
        path = f"{self._url}/instances/{instance_id}/file"
        arguments = {"headers": UNPACKED, "extensions": {STREAMED: True}}
        with self._errors(), self._client.stream("GET", path, **arguments) as answer:
            start = FileStart(answer.iter_bytes())
            try:
                return _parsed(instance_id, cast("BinaryIO", start), pixels=False)
            except UnreadableSeries:
                if start.error is not None:  # the connection broke, not the file
                    raise start.error from None
                raise

    def headers(self, series_id: str) -> list[Dataset]:
        """Read the headers of a series without its pixels, whole: as a folder's files are read.

        Orthanc tells the public tags of a whole series in one answer, twice as fast. What decides
        stands in private elements and long texts too, and in any object of the series.

        Parameters
        ----------
        series_id : str
            Orthanc's identifier.

        Returns
        -------
        list of Dataset
            One an object, in the order of Orthanc's identifiers, every element before the pixels.

        Raises
        ------
        SeriesNotFound
            If the series is not there, or has no instances.
        UnreadableSeries
            If an object is no DICOM file.
        """
        headers = []
        for instance_id in self.instance_ids(series_id):
            with contextlib.suppress(SeriesNotFound):  # removed meanwhile
                headers.append(self.header(instance_id))
        if not headers:
            raise SeriesNotFound(f"the archive has no instance of series {series_id}")
        return headers

    def series_of_study(self, study_id: str) -> list[ArchivedSeries]:
        """List the series of one of Orthanc's studies; none where it is not there."""
        try:
            with self._errors():
                return [
                    ArchivedSeries(
                        orthanc_series_id=series["ID"],
                        series_instance_uid=series["MainDicomTags"]["SeriesInstanceUID"],
                        number=_integer(series["MainDicomTags"].get("SeriesNumber")),
                        instance_ids=tuple(series["Instances"]),
                    )
                    for series in self._client.get_studies_id_series(study_id)
                ]
        except SeriesNotFound:
            return []

    def find_series(self, series_instance_uid: str) -> list[str]:
        """Look up Orthanc's identifiers of a series by its SeriesInstanceUID."""
        with self._errors():
            found: list[str] = self._client.post_tools_find(
                json={"Level": "Series", "Query": {"SeriesInstanceUID": series_instance_uid}}
            )
        return found

    def store(
        self, datasets: Sequence[Dataset], check: Callable[[], None] = lambda: None
    ) -> StoredSeries:
        """Store a derived series: every instance, or none.

        Parameters
        ----------
        datasets : sequence of Dataset
            The instances of one series.
        check : callable
            Called before every change of the archive; what it raises ends the store at once, and
            leaves what is stored to whoever has the right to it now.

        Raises
        ------
        StoreRefused, ArchiveUnavailable
            What this call had stored has been removed again, as far as the archive could be
            reached; what is left behind is found again by the next attempt, which stores the
            same UIDs.
        """
        added: list[str] = []
        series_id = ""
        try:
            for dataset in datasets:
                check()
                answer = self._store(dataset, check)
                series_id = answer["ParentSeries"]
                if answer["Status"] == "Success":
                    added.append(answer["ID"])
            self._check_complete(series_id, len(datasets))
        except Exception:
            for instance_id in added:
                check()  # another worker may have stored the same objects meanwhile
                with contextlib.suppress(HalfscanError), self._errors():
                    self._client.delete_instances_id(instance_id)
            raise
        return StoredSeries(series_id, len(datasets), len(added))

    def origin(self, series_id: str) -> Origin:
        """Read what a derived series was made from; nothing where it cannot be read, or is gone."""
        try:
            return Origin.of(map(self.header, self.instance_ids(series_id)))
        except (SeriesNotFound, UnreadableSeries):
            return Origin()

    def remove_derived(self, series_id: str) -> bool:
        """Remove a series that Halfscan wrote; False where the archive has it no more.

        Raises
        ------
        NotOurs
            If an object of it does not say that Halfscan wrote it; nothing is removed then.
        """
        try:
            for instance_id in self.instance_ids(series_id):
                if not is_halfscan_output(self.header(instance_id)):
                    raise NotOurs(f"series {series_id} was not written by Halfscan")
            with self._errors():
                self._client.delete_series_id(series_id)
        except SeriesNotFound:  # somebody was faster
            return False
        return True

    def _instances(self, series_id: str) -> list[dict[str, Any]]:
        instances: list[dict[str, Any]] = self._client.get_series_id_instances(series_id)
        return instances

    def _md5(self, instance_id: str) -> str:
        """Give the MD5 of a file: Orthanc's own, or ours where its settings keep none."""
        with contextlib.suppress(httpx.HTTPStatusError):
            path = f"{self._url}/instances/{instance_id}/attachments/dicom/md5"
            md5: str = self._client.get(path).text.strip()
            return md5
        content = self._client.get_instances_id_file(instance_id, headers=UNPACKED)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    def _check_complete(self, series_id: str, expected: int) -> None:
        held = len(self.instance_ids(series_id))
        if held != expected:
            raise StoreRefused(f"the archive holds {held} of {expected} derived instances")

    def _store(self, dataset: Dataset, check: Callable[[], None]) -> dict[str, Any]:
        """Store one object; one that is there under its UID already must be the same."""
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        content = buffer.getvalue()
        answer = self._post(dataset, content)
        if answer["Status"] == "AlreadyStored" and not self._is_stored(answer["ID"], content):
            # Only under a UID of ours, which nobody else gives away.
            if not is_halfscan_output(self.header(answer["ID"])):
                raise StoreRefused(
                    f"instance {dataset.SOPInstanceUID}: the archive holds another object under "
                    "this UID, which Halfscan did not write"
                )
            check()
            with self._errors(), contextlib.suppress(SeriesNotFound):
                self._client.delete_instances_id(answer["ID"])
            answer = self._post(dataset, content)
        return answer

    def _post(self, dataset: Dataset, content: bytes) -> dict[str, Any]:
        with self._errors(StoreRefused):
            answer: dict[str, Any] = self._client.post_instances(content)
        if answer.get("Status") not in {"Success", "AlreadyStored"}:
            raise StoreRefused(
                f"instance {dataset.SOPInstanceUID}: the archive answered {answer.get('Status')!r}"
            )
        return answer

    def _is_stored(self, instance_id: str, content: bytes) -> bool:
        """Tell whether an instance of the archive is what was sent."""
        with self._errors():
            md5 = self._md5(instance_id)
        if md5 == hashlib.md5(content, usedforsecurity=False).hexdigest():
            return True
        # An archive that transcodes what it takes has other bytes for the same object.
        sent, stored = parse(BytesIO(content)), self.dataset(instance_id)
        with contextlib.suppress(UnreadableSeries):
            same_pixels = np.array_equal(decode(sent), decode(stored))
            return same_pixels and _header_text(sent) == _header_text(stored)
        return False

    @contextlib.contextmanager
    def _errors(self, refused: type[HalfscanError] = ArchiveUnavailable) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == 404:
                raise SeriesNotFound(f"the archive has no {error.request.url.path}") from error
            if status in {401, 403}:
                raise ArchiveUnavailable(
                    f"Orthanc at {self._url} refuses the credentials (status {status})"
                ) from error
            raise refused(f"Orthanc at {self._url} answered {status}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ArchiveUnavailable(
                f"Orthanc at {self._url} cannot be reached: {error}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveUnavailable(
                f"what answers at {self._url} is not Orthanc: {error!r}"
            ) from error


def _header_text(dataset: Dataset) -> list[str]:
    return [str(found) for found in dataset if found.keyword != "PixelData"]


def _integer(written: str | None) -> int | None:
    try:
        return int(written or "")
    except ValueError:
        return None


def _parsed(instance_id: str, content: BinaryIO, *, pixels: bool) -> Dataset:
    try:
        return parse(content, pixels=pixels)
    except UnreadableSeries as error:
        raise UnreadableSeries(error.code, f"instance {instance_id}: {error}") from error
