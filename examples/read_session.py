"""A reader's client in one file: reads a whole session of a study over REST and DICOMweb.

    HALFSCAN_TOKEN=... python examples/read_session.py http://127.0.0.1:8780

It needs requests and numpy. `read_session` takes a judge: a function that sees the questions and
the images of a reading and gives the answers. The one at the end asks on the terminal.
"""  # noqa: INP001 - an example is no package

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests

Json = dict[str, Any]
DICOM_JSON = {"Accept": "application/dicom+json"}
OCTETS = {"Accept": "application/octet-stream"}
TIMEOUT_S = 60


class Client:
    """The API, as one reader."""

    def __init__(self, api: str, token: str) -> None:
        self._api = api.rstrip("/")
        self._http = requests.Session()
        self._http.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Any:
        """Call the API; gives the answer, or raises with what it says is wrong."""
        answer = self._http.request(
            method, self._api + path, json=body, headers=headers, timeout=TIMEOUT_S
        )
        if not answer.ok:
            message = answer.json().get("detail", answer.text)
            raise RuntimeError(f"{method} {path}: {answer.status_code} {message}")
        return answer


@dataclass
class Image:
    """One image of a reading: its header as DICOM JSON, its pixels on request."""

    client: Client
    path: str
    header: Json

    def value(self, tag: str) -> Any:
        """First value of an attribute, for example 00280010 for Rows."""
        return self.header[tag]["Value"][0]

    @property
    def uid(self) -> str:
        """SOPInstanceUID, which regions name."""
        uid: str = self.value("00080018")
        return uid

    def pixels(self) -> Any:
        """Pixel values: 16 bits, signed where PixelRepresentation is 1."""
        answer = self.client.call("GET", f"{self.path}/instances/{self.uid}/frames/1", **OCTETS)
        kind = "<i2" if self.value("00280103") else "<u2"
        shape = (self.value("00280010"), self.value("00280011"))
        return np.frombuffer(answer.content, kind).reshape(shape)


@dataclass
class Reading:
    """An open reading: its questions, its images by sequence, its version."""

    client: Client
    body: Json
    etag: str
    images: dict[str, list[Image]] = field(default_factory=dict)

    def load_images(self) -> None:
        """Fetch the headers of all series."""
        where = self.body["images"]
        for series in where["series"]:
            path = f"{where['dicom_web']}/studies/{where['study_instance_uid']}"
            path = f"{path}/series/{series['series_instance_uid']}"
            headers = self.client.call("GET", f"{path}/metadata", **DICOM_JSON).json()
            self.images[series["sequence"]] = [Image(self.client, path, one) for one in headers]

    def change(self, method: str, what: str, body: Json) -> Json:
        """Save something; the version moves with every change."""
        path = f"/api/v1/readings/{self.body['code']}/{what}"
        answer = self.client.call(method, path, body, **{"If-Match": self.etag})
        self.etag = answer.headers["ETag"]
        saved: Json = answer.json()
        return saved


Judge = Callable[[Reading], Json]


def read_session(client: Client, session: str, judge: Judge) -> Iterator[str]:
    """Read a session to its end.

    Parameters
    ----------
    client : Client
    session : str
        Its code, from GET /api/v1/sessions.
    judge : callable
        Gets a reading; gives scores, findings, measurements (mean and SD), regions (for the server
        to measure), each a list, and missing_reason where answers are missing.

    Yields
    ------
    str
        The code of each reading that was completed.
    """
    while True:
        answer = client.call("POST", f"/api/v1/sessions/{session}/next")
        if answer.status_code == 204:
            return
        reading = Reading(client, answer.json(), answer.headers["ETag"])
        reading.load_images()
        answers = judge(reading)
        for section in ("scores", "findings", "measurements"):
            if answers.get(section):
                reading.change("PUT", section, {section: answers[section]})
        if answers.get("regions"):
            reading.change("POST", "measurements", {"measurements": answers["regions"]})
        reason = answers.get("missing_reason")
        reading.change("POST", "complete", {"missing_reason": reason} if reason else {})
        yield reading.body["code"]


def ask(reading: Reading) -> Json:
    """Ask every score on the terminal; an empty line leaves one out."""
    scores = []
    for question in reading.body["questions"]["criteria"]:
        scale = ", ".join(f"{one['value']} {one['label']}" for one in question["scale"])
        text = input(f"{question['sequence']}: {question['label']} ({scale}): ").strip()
        if text:
            named = {"sequence": question["sequence"], "criterion": question["criterion"]}
            scores.append({**named, "value": int(text)})
    return {"scores": scores, "missing_reason": "only scores are asked on the terminal"}


def main() -> None:
    """Read the first session that is ready."""
    parser = argparse.ArgumentParser(description="Read a session of a Halfscan study.")
    parser.add_argument("api", help="address of the API, such as http://127.0.0.1:8780")
    client = Client(parser.parse_args().api, os.environ["HALFSCAN_TOKEN"])
    for session in client.call("GET", "/api/v1/sessions").json()["items"]:
        if session["state"] == "open":
            for code in read_session(client, session["code"], ask):
                sys.stdout.write(f"complete: {code}\n")
            break
    client.close()


if __name__ == "__main__":
    main()
