"""The archive over REST: read a series, store a derived one (pyorthanc).

pyorthanc raises httpx's exceptions; they end here and become three of our own: the archive is
away (try again later), the series is not there, the archive refused an object.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, cast

import httpx
from pydicom import Dataset, dcmwrite
from pyorthanc import Orthanc

from halfscan_plugin.derived import is_halfscan_output
from halfscan_plugin.errors import HalfscanError, UnreadableSeries
from halfscan_plugin.file_start import FileStart
from halfscan_plugin.files import parse
from halfscan_plugin.headers import text
from halfscan_plugin.relay import source_digest

__all__ = [
    "Archive",
    "ArchiveUnavailable",
    "NotOurs",
    "SeriesNotFound",
    "SourceSeries",
    "StoreRefused",
    "StoredSeries",
]

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
    orthanc_series_id, series_instance_uid, study_instance_uid : str
        Its identifiers.
    instance_ids : tuple of str
        Orthanc's identifiers of its instances.
    source_digest : str
        The set of its instances, as the relay announces it.
    is_stable : bool
        False while it still arrives.
    """

    orthanc_series_id: str
    series_instance_uid: str
    study_instance_uid: str
    instance_ids: tuple[str, ...]
    source_digest: str
    is_stable: bool

    def announcement(self) -> dict[str, Any]:
        """Give what the ledger needs to know of it."""
        return {
            "orthanc_series_id": self.orthanc_series_id,
            "series_instance_uid": self.series_instance_uid,
            "study_instance_uid": self.study_instance_uid,
            "source_digest": self.source_digest,
            "n_instances": len(self.instance_ids),
        }


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A derived series as the archive holds it."""

    orthanc_series_id: str
    instances: int


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
            trust_env=False,
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
        """Look at a series: which instances it has now, and whether it still arrives."""
        with self._errors():
            series = self._client.get_series_id(series_id)
            study = self._client.get_series_id_study(series_id)
            instances = self._client.get_series_id_instances(series_id)
            uids = {i["ID"]: i["MainDicomTags"]["SOPInstanceUID"] for i in instances}
            return SourceSeries(
                orthanc_series_id=series_id,
                series_instance_uid=series["MainDicomTags"]["SeriesInstanceUID"],
                study_instance_uid=study["MainDicomTags"]["StudyInstanceUID"],
                instance_ids=tuple(sorted(uids)),
                source_digest=source_digest(uids.values()),
                is_stable=bool(series["IsStable"]),
            )

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
        with self._errors(), self._client.stream("GET", path, headers=UNPACKED) as answer:
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

    def series_numbers(self, series_id: str) -> dict[str, int]:
        """Give the SeriesNumber of every series in the same study, by SeriesInstanceUID."""
        numbers = {}
        with self._errors():
            study = self._client.get_series_id_study(series_id)
            for series in self._client.get_studies_id_series(study["ID"]):
                tags = series["MainDicomTags"]
                with contextlib.suppress(ValueError):
                    numbers[tags["SeriesInstanceUID"]] = int(tags.get("SeriesNumber") or "")
        return numbers

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
                answer = self._store_one(dataset)
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
        return StoredSeries(series_id, len(datasets))

    def remove_derived(self, series_instance_uid: str) -> bool:
        """Remove a derived series; False where the archive has none of this UID.

        Raises
        ------
        NotOurs
            If an object of it does not say that Halfscan wrote it; nothing is removed then.
        """
        found = self.find_series(series_instance_uid)
        for series_id in found:
            with contextlib.suppress(SeriesNotFound):  # somebody was faster
                header = self.header(self.instance_ids(series_id)[0])
                ours = is_halfscan_output(header)
                if not ours or text(header, "SeriesInstanceUID") != series_instance_uid:
                    raise NotOurs(f"series {series_instance_uid} was not written by Halfscan")
                with self._errors():
                    self._client.delete_series_id(series_id)
        return bool(found)

    def _check_complete(self, series_id: str, expected: int) -> None:
        held = len(self.instance_ids(series_id))
        if held != expected:
            raise StoreRefused(f"the archive holds {held} of {expected} derived instances")

    def _store_one(self, dataset: Dataset) -> dict[str, Any]:
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        with self._errors(StoreRefused):
            answer: dict[str, Any] = self._client.post_instances(buffer.getvalue())
        if answer.get("Status") not in {"Success", "AlreadyStored"}:
            raise StoreRefused(
                f"instance {dataset.SOPInstanceUID}: the archive answered {answer.get('Status')!r}"
            )
        return answer

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


def _parsed(instance_id: str, content: BinaryIO, *, pixels: bool) -> Dataset:
    try:
        return parse(content, pixels=pixels)
    except UnreadableSeries as error:
        raise UnreadableSeries(error.code, f"instance {instance_id}: {error}") from error
