"""The archive over REST: read a series, store a derived one (pyorthanc).

pyorthanc raises httpx's exceptions; they end here and become three of our own: the archive is
away (try again later), the series is not there, the archive refused an object.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
from pydicom import Dataset, dcmwrite
from pyorthanc import Orthanc

from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.files import parse
from halfscan_plugin.volume import UnreadableSeries

__all__ = ["Archive", "ArchiveUnavailable", "SeriesNotFound", "StoreRefused", "StoredSeries"]


class ArchiveUnavailable(HalfscanError):
    """Orthanc cannot be reached, or does not answer as it should."""


class SeriesNotFound(HalfscanError):
    """The series is not, or no longer, in the archive."""


class StoreRefused(HalfscanError):
    """Orthanc did not take a derived object; what was stored has been removed again."""


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
            content: bytes = self._client.get_instances_id_file(instance_id)
        try:
            return parse(BytesIO(content))
        except UnreadableSeries as error:
            raise UnreadableSeries(error.code, f"instance {instance_id}: {error}") from error

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
        self, datasets: Sequence[Dataset], progress: Callable[[int, int], None] | None = None
    ) -> StoredSeries:
        """Store a derived series: every instance, or none.

        Parameters
        ----------
        datasets : sequence of Dataset
            The instances of one series.
        progress : callable, optional
            Called with (instances stored, all).

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
            for number, dataset in enumerate(datasets, 1):
                answer = self._store_one(dataset)
                series_id = answer["ParentSeries"]
                if answer["Status"] == "Success":
                    added.append(answer["ID"])
                if progress is not None:
                    progress(number, len(datasets))
            self._check_complete(series_id, len(datasets))
        except Exception:
            self._remove(added)
            raise
        return StoredSeries(series_id, len(datasets))

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

    def _remove(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            with contextlib.suppress(HalfscanError), self._errors():
                self._client.delete_instances_id(instance_id)

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
