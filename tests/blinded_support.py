"""Helpers of the tests that read blinded: simulated exams in a real archive, and a viewer."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from werkzeug.test import TestResponse

from api_study import DAY, Play, Reading
from api_support import Api, json_of
from halfscan_api import multipart
from halfscan_api.studies.protocol import template
from halfscan_plugin.stack import Stack

ARMS = ("standard", "accelerated")
SEQUENCES = ("sag_t1", "sag_t2", "sag_t2_fs", "tra_t2")
PATIENCE_S = 180.0


@dataclass
class Lumbar:
    """An archive with simulated exams, and what is true about them.

    `series` holds the SeriesInstanceUIDs by patient, arm and sequence: ``fast`` are the accelerated
    series as scanned, ``accelerated`` those that the worker derived from them.
    """

    orthanc_url: str
    truth: list[dict[str, Any]]
    files: dict[str, list[Path]]
    series: list[dict[str, dict[str, str]]]

    def study_uid(self, patient: int = 0) -> str:
        uid: str = self.truth[patient]["study_instance_uid"]
        return uid

    def uid(self, arm: str, sequence: str, patient: int = 0) -> str:
        return self.series[patient][arm][sequence]

    def region(self, name: str, plane: str = "sagittal") -> dict[str, Any]:
        return next(
            one for one in self.truth[0]["regions"] if (one["name"], one["plane"]) == (name, plane)
        )

    def upload(self, content: bytes) -> None:
        answer = httpx.post(f"{self.orthanc_url}/instances", content=content, timeout=60)
        assert answer.status_code == 200, answer.text

    def store(self, datasets: list[Dataset]) -> None:
        for dataset in datasets:
            content = io.BytesIO()
            # Not save_as: it refuses to write big endian what was read as little endian.
            dcmwrite(content, dataset, enforce_file_format=True)
            self.upload(content.getvalue())

    def instances(self) -> set[str]:
        """Give what Orthanc calls its instances."""
        return set(httpx.get(f"{self.orthanc_url}/instances", timeout=60).json())

    def delete(self, instances: set[str]) -> None:
        if instances:
            body = {"Resources": sorted(instances)}
            url = f"{self.orthanc_url}/tools/bulk-delete"
            httpx.post(url, json=body, timeout=60).raise_for_status()

    def datasets(self, series_uid: str) -> list[Dataset]:
        """Read a series from the archive, along its slices."""
        query = {"Level": "Instance", "Query": {"SeriesInstanceUID": series_uid}}
        ids = httpx.post(f"{self.orthanc_url}/tools/find", json=query, timeout=60).json()
        found = [
            dcmread(io.BytesIO(httpx.get(f"{self.orthanc_url}/instances/{one}/file").content))
            for one in ids
        ]
        return sorted(found, key=lambda one: float(one.SliceLocation))


def derived_series(stack: Stack, expected: int) -> dict[str, str]:
    """Wait for the worker; the derived series by their sources."""
    headers = {"Authorization": f"Bearer {stack.token('service')}"}
    url = f"{stack.api_url}/api/v1/reconstructions?per_page=100&status=done"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        rows = httpx.get(url, headers=headers).json()["items"]
        if len(rows) == expected:
            return {row["series_instance_uid"]: row["derived_series_instance_uid"] for row in rows}
        time.sleep(0.3)
    pytest.fail(f"{len(rows)} of {expected} series were derived; {stack.programs[-1].log_tail()}")


def files_of(truth: list[dict[str, Any]], out: Path) -> dict[str, list[Path]]:
    return {
        series["series_instance_uid"]: [out / name for name in series["files"]]
        for patient in truth
        for series in patient["series"]
    }


def series_of(
    truth: list[dict[str, Any]], derived: dict[str, str]
) -> list[dict[str, dict[str, str]]]:
    found = []
    for patient in truth:
        by_arm: dict[str, dict[str, str]] = {"standard": {}, "fast": {}, "accelerated": {}}
        for series in patient["series"]:
            uid = series["series_instance_uid"]
            if series["arm"] == "standard":
                by_arm["standard"][series["sequence"]] = uid
            else:
                by_arm["fast"][series["sequence"]] = uid
                by_arm["accelerated"][series["sequence"]] = derived[uid]
        found.append(by_arm)
    return found


@dataclass
class Viewer:
    """A reader's viewer on one open reading."""

    reading: Reading
    seen: list[TestResponse] = field(default_factory=list)

    @property
    def images(self) -> dict[str, Any]:
        images: dict[str, Any] = self.reading.body["images"]
        return images

    @property
    def study_uid(self) -> str:
        uid: str = self.images["study_instance_uid"]
        return uid

    @property
    def study_path(self) -> str:
        return f"/studies/{self.study_uid}"

    def series_uid(self, sequence: str) -> str:
        uid: str = next(
            one["series_instance_uid"]
            for one in self.images["series"]
            if one["sequence"] == sequence
        )
        return uid

    def series_path(self, sequence: str) -> str:
        return f"{self.study_path}/series/{self.series_uid(sequence)}"

    def ask(self, path: str, accept: str = "", *, reader: str = "", **more: Any) -> TestResponse:
        """Call the DICOMweb service of the reading."""
        play = self.reading.play
        headers = {"Authorization": f"Bearer {play.tokens[reader or self.reading.reader]}"}
        if accept:
            headers["Accept"] = accept
        method = more.pop("method", "GET")
        headers.update(more.pop("headers", {}))
        url = self.images["dicom_web"] + path
        return play.api.client.open(url, method=method, headers=headers, **more)

    def get(self, path: str, accept: str = "") -> TestResponse:
        answer = self.ask(path, accept)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer

    def metadata(self, sequence: str) -> list[Dataset]:
        """Headers of a series, in the order of the answer."""
        body = self.get(f"{self.series_path(sequence)}/metadata").get_json()
        return [Dataset.from_json(one) for one in body]

    def instance_path(self, sequence: str, index: int = 0) -> str:
        uid = self.metadata(sequence)[index].SOPInstanceUID
        return f"{self.series_path(sequence)}/instances/{uid}"

    def files(self, path: str) -> list[Dataset]:
        answer = self.get(path, 'multipart/related; type="application/dicom"')
        parts = multipart.parse(answer.data, answer.headers["Content-Type"])
        return [dcmread(io.BytesIO(part.body)) for part in parts]


@dataclass
class BlindedStudy:
    """A study of the simulated patients, and its one reader."""

    play: Play
    lumbar: Lumbar

    def session(self, number: int) -> str:
        return self.play.session("r1", number)

    def open(self, number: int = 0) -> Viewer:
        """Open the next reading of the session with this place."""
        return Viewer(self.play.must_next("r1", self.session(number)))

    def arm(self, viewer: Viewer) -> str:
        arm: str = self.play.place(viewer.reading.code)["arm"]
        return arm

    def complete(self, viewer: Viewer) -> None:
        viewer.reading.show()
        viewer.reading.complete(missing_reason="not asked in this test")

    def both_arms(self, look: Callable[[Viewer], Any]) -> dict[str, Any]:
        """What `look` gives for the same case in each arm, each while it may be seen."""
        found = {}
        for number in (0, 1):
            viewer = self.open(number)
            found[self.arm(viewer)] = look(viewer)
            self.complete(viewer)
            self.play.api.clock.advance(29 * DAY)
        assert set(found) == set(ARMS)
        return found


def series_body(lumbar: Lumbar, patient: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm,
            "sequence": sequence,
            "series_instance_uid": lumbar.uid(arm, sequence, patient),
            "study_instance_uid": lumbar.study_uid(patient),
        }
        for arm in ARMS
        for sequence in SEQUENCES
    ]


def start_blinded(
    api: Api,
    lumbar: Lumbar,
    series: list[dict[str, Any]] | None = None,
    sequences: tuple[str, ...] = SEQUENCES,
) -> Play:
    """Make a study after the template with one case and one reader, allocated."""
    protocol = template("tang2024").as_document() | {"seed": 5, "endpoints": []}
    kept = [one for one in protocol["sequences"] if one["name"] in sequences]
    groups = {one["group"] for one in kept}
    protocol["sequences"] = kept
    protocol["regions"] = [one for one in protocol["regions"] if one["group"] in groups]
    body = {"name": "lumbar", "protocol": protocol}
    answer = api.send("POST", "/api/v1/studies", body, role="coordinator")
    assert answer.status_code == 201, answer.text
    play = Play(api, json_of(answer)["id"], "lumbar", protocol)
    case = {"pseudonym": "P01", "kind": "study", "series": series or series_body(lumbar)}
    play.run("POST", "/cases", case)
    play.add_reader("r1")
    play.run("POST", "/allocation")
    return play
