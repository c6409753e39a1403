"""Helpers of the tests of reader studies: a small protocol, and a study driven over HTTP alone."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.test import TestResponse

from api_support import Api, json_of

STUDIES = "/api/v1/studies"
DAY = 86_400
ARMS = ("standard", "accelerated")

SCALE = [
    {"value": 1, "label": "poor"},
    {"value": 2, "label": "fair"},
    {"value": 3, "label": "good"},
    {"value": 4, "label": "excellent"},
]


def small_protocol(**changes: Any) -> dict[str, Any]:
    """A protocol with two sequences, two criteria, one finding at two levels, two regions."""
    protocol = {
        "title": "A small study",
        "arms": [
            {"name": "standard", "label": "Standard", "role": "reference"},
            {"name": "accelerated", "label": "Accelerated", "role": "test"},
        ],
        "sequences": [
            {"name": "sag_t1", "label": "Sagittal T1", "group": "sagittal"},
            {"name": "tra_t2", "label": "Transverse T2", "group": "transverse"},
        ],
        "criteria": [
            {"name": "noise", "label": "Noise", "scale": SCALE},
            {
                "name": "overall_quality",
                "label": "Overall image quality",
                "scale": SCALE,
                "sequences": ["sag_t1"],
            },
        ],
        "findings": [
            {"name": "disc_bulge", "label": "Disc bulge", "levels": ["L4/L5", "L5/S1"]},
        ],
        "regions": [
            {"name": "psoas", "label": "Psoas", "group": "sagittal"},
            {"name": "background", "label": "Noise", "group": "sagittal", "role": "noise"},
        ],
        "washout_days": 28,
        "seed": 7,
    }
    return {**protocol, **changes}


def uid(*parts: object) -> str:
    """A UID that follows from its parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def case_series(study: str, case: str, protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Body of the series of a case, in every arm and sequence."""
    return [
        {
            "arm": arm["name"],
            "sequence": sequence["name"],
            "series_instance_uid": uid(study, case, arm["name"], sequence["name"]),
            "study_instance_uid": uid(study, case),
            "scan_time_s": 77 if arm["role"] == "reference" else 41,
        }
        for arm in protocol["arms"]
        for sequence in protocol["sequences"]
    ]


@dataclass
class Play:
    """A study over HTTP: the coordinator, and readers with their own tokens."""

    api: Api
    study_id: int
    name: str
    protocol: dict[str, Any]
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{STUDIES}/{self.study_id}"

    def run(
        self, method: str, path: str, body: object = None, role: str = "coordinator"
    ) -> dict[str, Any]:
        """A call of the coordinator that must go well."""
        answer = self.api.send(method, self.url + path, body, role=role)
        assert answer.status_code in {200, 201}, answer.text
        return json_of(answer)

    def enrol(self, pseudonym: str, kind: str = "study") -> dict[str, Any]:
        series = case_series(self.name, pseudonym, self.protocol)
        return self.run("POST", "/cases", {"pseudonym": pseudonym, "kind": kind, "series": series})

    def add_reader(self, name: str) -> None:
        made = self.run("POST", "/readers", {"name": name})
        self.tokens[name] = made["token"]

    def ask(
        self, reader: str, method: str, path: str, body: object = None, **headers: str
    ) -> TestResponse:
        """A call of a reader; headers as If_Match."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self.tokens[reader]}"
        more: dict[str, Any] = {} if body is None else {"json": body}
        return self.api.client.open(f"/api/v1{path}", method=method, headers=sent, **more)

    def sessions(self, reader: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json_of(self.ask(reader, "GET", "/sessions"))["items"]
        return items

    def session(self, reader: str, number: int = 0) -> str:
        code: str = self.sessions(reader)[number]["code"]
        return code

    def next(self, reader: str, session: str) -> "Reading | None":
        """Open the next reading; None once the session is complete."""
        answer = self.ask(reader, "POST", f"/sessions/{session}/next")
        assert answer.status_code in {200, 204}, answer.text
        if answer.status_code == 204:
            return None
        return Reading(self, reader, json_of(answer), answer.headers["ETag"])

    def must_next(self, reader: str, session: str) -> "Reading":
        reading = self.next(reader, session)
        assert reading is not None
        return reading

    def allocation(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.run("GET", "/allocation")["items"]
        return items

    def place(self, code: str) -> dict[str, Any]:
        """What the coordinator knows of a reading."""
        return next(item for item in self.allocation() if item["code"] == code)

    def read_session(
        self, reader: str, number: int, answers: "Answering | None" = None, seconds: float = 60
    ) -> list[str]:
        """Read a session to its end; the codes in the order of reading."""
        code = self.session(reader, number)
        codes = []
        while (reading := self.next(reader, code)) is not None:
            self.api.clock.advance(seconds)
            reading.fill(answers or plain_answers)
            reading.complete()
            codes.append(reading.code)
        return codes

    def verify(self) -> dict[str, Any]:
        return self.run("GET", "/audit/verify")

    def events(self, **query: object) -> list[dict[str, Any]]:
        text = "&".join(f"{name}={value}" for name, value in {"per_page": 1000, **query}.items())
        items: list[dict[str, Any]] = self.run("GET", f"/audit?{text}")["items"]
        return items


@dataclass
class Reading:
    """An open reading in the hands of its reader."""

    play: Play
    reader: str
    body: dict[str, Any]
    etag: str

    @property
    def code(self) -> str:
        code: str = self.body["code"]
        return code

    def send(self, method: str, path: str, body: object, **headers: str) -> TestResponse:
        sent = {"If_Match": self.etag, **headers}
        answer = self.play.ask(self.reader, method, f"/readings/{self.code}{path}", body, **sent)
        self.etag = answer.headers.get("ETag", self.etag)
        return answer

    def put(self, section: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        answer = self.send("PUT", f"/{section}", {section: items})
        assert answer.status_code == 200, answer.text
        return json_of(answer)

    def fill(self, answers: "Answering") -> None:
        for section, items in answers(self).items():
            if items:
                self.put(section, items)

    def complete(self, **body: object) -> dict[str, Any]:
        answer = self.send("POST", "/complete", body)
        assert answer.status_code == 200, answer.text
        return json_of(answer)

    def amend(self, **body: object) -> TestResponse:
        return self.send("POST", "/amend", body)

    def show(self) -> dict[str, Any]:
        answer = self.play.ask(self.reader, "GET", f"/readings/{self.code}")
        assert answer.status_code == 200, answer.text
        self.etag = answer.headers["ETag"]
        return json_of(answer)


Answering = Callable[[Reading], dict[str, list[dict[str, Any]]]]


def plain_answers(reading: Reading) -> dict[str, list[dict[str, Any]]]:
    """Every question answered, always the same way."""
    return answered(reading, lambda *what: sum(map(ord, "".join(what))))


def answered(reading: Reading, draw: Callable[..., int]) -> dict[str, list[dict[str, Any]]]:
    """Every question answered by a number that `draw` makes of its names."""
    questions = reading.body["questions"]
    scores = [
        {
            "sequence": one["sequence"],
            "criterion": one["criterion"],
            "value": one["scale"][draw(one["sequence"], one["criterion"]) % len(one["scale"])][
                "value"
            ],
        }
        for one in questions["criteria"]
    ]
    findings = [
        {"finding": one["finding"], "level": level, "value": draw(one["finding"], level) % 2}
        for one in questions["findings"]
        for level in one["levels"]
    ]
    measurements = [
        {
            "sequence": one["sequence"],
            "region": one["region"],
            "mean": 0.5 if one["noise"] else 100 + draw(one["sequence"], one["region"]) % 100,
            "sd": 2.5,
            "area_mm2": 25.0,
        }
        for one in questions["regions"]
    ]
    return {"scores": scores, "findings": findings, "measurements": measurements}


def start_study(
    api: Api,
    *,
    name: str = "small",
    cases: int = 3,
    training: int = 0,
    readers: tuple[str, ...] = ("r1", "r2"),
    allocate: bool = True,
    **changes: Any,
) -> Play:
    """Make a study with its cases and readers, and allocate it."""
    protocol = small_protocol(**changes)
    answer = api.send("POST", STUDIES, {"name": name, "protocol": protocol}, role="coordinator")
    assert answer.status_code == 201, answer.text
    play = Play(api, json_of(answer)["id"], name, protocol)
    for number in range(1, training + 1):
        play.enrol(f"T{number:02}", "training")
    for number in range(1, cases + 1):
        play.enrol(f"P{number:02}")
    for reader in readers:
        play.add_reader(reader)
    if allocate:
        play.run("POST", "/allocation")
    return play
