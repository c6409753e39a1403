"""Plays a reader study over HTTP alone: those who run it, and readers who answer as people might.

A `Line` is what a viewer needs to lose nothing: it sends again what got no answer, under the same
Idempotency-Key, and changes a reading under the ETag that it has. A `Ledger` keeps what was
acknowledged, so that a test can compare it with what the server says in the end.
"""

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Self

import requests

from api_study import case_series

API = "/api/v1"
SECTIONS = ("scores", "findings", "measurements")
PATIENCE_S = 60
# Answers with a token are shown once: these take no Idempotency-Key.
NO_KEY = re.compile(r"/readers(/[^/]+/token)?$")
# Names of an answer within its section.
KEYS = {
    "scores": ("sequence", "criterion"),
    "findings": ("finding", "level"),
    "measurements": ("sequence", "region"),
}

# What an answer of each kind holds.
VALUE: tuple[str, ...] = ("value",)
MEASURED: tuple[str, ...] = ("mean", "sd", "area_mm2", "n_pixels")

Json = dict[str, Any]
Key = tuple[str, str]
Piece = tuple[str, list[Json]]


class LostTouch(Exception):
    """The viewer was closed while a request was under way: nobody knows what became of it."""


@dataclass
class Tally:
    """What the lines of a study counted together."""

    sent: int = 0
    unanswered: int = 0
    unheard: int = 0
    replayed: int = 0
    forgotten: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, name: str) -> int:
        with self.lock:
            count: int = getattr(self, name) + 1
            setattr(self, name, count)
        return count


@dataclass
class Line:
    """HTTP with one token, through every breakdown of the server.

    Attributes
    ----------
    url : str
        Of the server.
    token : str
    tally : Tally
    on_request : callable, optional
        Called with the number of each request before it is sent for the first time.
    forgets : callable, optional
        Asked when a request got no answer; True makes the line forget it (`LostTouch`).
    hears : callable, optional
        Asked when a write was answered; False makes the line send it again, as if the answer had
        been lost on its way.
    """

    url: str
    token: str
    tally: Tally = field(default_factory=Tally)
    on_request: Callable[[int], None] | None = None
    forgets: Callable[[], bool] | None = None
    hears: Callable[[], bool] | None = None
    http: requests.Session = field(default_factory=requests.Session)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        etag: str | None = None,
        may_forget: bool = False,
    ) -> requests.Response:
        """Send a request until it is answered; a write carries an Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if method != "GET":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        if etag is not None:
            headers["If-Match"] = etag
        more: Json = {} if body is None else {"json": body}
        number = self.tally.add("sent")
        if self.on_request is not None:
            self.on_request(number)
        deadline = time.monotonic() + PATIENCE_S
        unheard: requests.Response | None = None
        while True:
            answer = self._try(method, path, headers, more)
            if answer is not None and (method == "GET" or self.hears is None or self.hears()):
                _check_repetition(answer, unheard)
                return answer
            if answer is not None:
                self.tally.add("unheard")
                unheard = answer
            assert time.monotonic() < deadline, f"no answer to {method} {path}"
            if may_forget and self.forgets is not None and self.forgets():
                self.tally.add("forgotten")
                raise LostTouch
            time.sleep(0.02)

    def _try(
        self, method: str, path: str, headers: Mapping[str, str], more: Json
    ) -> requests.Response | None:
        """Send a request once; None if there is no answer."""
        try:
            answer = self.http.request(method, self.url + path, headers=headers, timeout=30, **more)
        except requests.RequestException:
            self.tally.add("unanswered")
            return None
        if "Idempotent-Replayed" in answer.headers:
            self.tally.add("replayed")
        return answer

    def must(self, method: str, path: str, body: object = None, **more: Any) -> Json:
        """Send a request that must go well."""
        answer = self.send(method, path, body, **more)
        assert answer.status_code in {200, 201}, answer.text
        shown: Json = answer.json()
        return shown


def _check_repetition(answer: requests.Response, before: requests.Response | None) -> None:
    """A write that was answered before gives the same answer again; errors run anew."""
    if before is None or not before.ok or NO_KEY.search(before.url):
        return
    assert answer.headers.get("Idempotent-Replayed") == "true", answer.url
    for name in ("ETag", "Location", "Content-Type"):
        assert answer.headers.get(name) == before.headers.get(name), name
    assert (answer.status_code, answer.content) == (before.status_code, before.content)


@dataclass
class Lines:
    """Lines to one server, all closed at the end.

    Attributes
    ----------
    url : str
    tally : Tally
        Theirs together.
    """

    url: str
    tally: Tally = field(default_factory=Tally)
    opened: list[Line] = field(default_factory=list)

    def line(self, token: str, **more: Any) -> Line:
        made = Line(self.url, token, self.tally, **more)
        self.opened.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for line in self.opened:
            line.http.close()


# --- what was sent ------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What the readers of a study have sent, as far as the server has acknowledged it.

    Attributes
    ----------
    answers : dict
        code -> section -> names of the answer -> what was sent, without the names.
    pieces : dict
        code -> number of pieces in which the answers were saved.
    amended : dict
        code -> number of amendments.
    complete : list of str
        Codes of the readings that were completed.
    """

    answers: dict[str, dict[str, dict[Key, Json]]] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    amended: dict[str, int] = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)

    def note(self, code: str, section: str, items: list[Json]) -> None:
        own = self.answers.setdefault(code, {name: {} for name in SECTIONS})
        own[section] |= {key_of(section, one): value_of(section, one) for one in items}

    def version(self, code: str) -> int:
        """Version of a complete reading: made, opened, saved piece by piece, completed, amended."""
        return 3 + self.pieces[code] + self.amended.get(code, 0)


def key_of(section: str, item: Mapping[str, Any]) -> Key:
    first, second = KEYS[section]
    return item[first], item[second]


def value_of(section: str, item: Mapping[str, Any]) -> Json:
    """What was answered, without what the server derives from it."""
    left_out = {*KEYS[section], "snr", "source"}
    return {name: value for name, value in item.items() if name not in left_out}


def answers_of(body: Json) -> dict[str, dict[Key, Json]]:
    """Give the answers of a reading as its reader sees them, in the form of the ledger."""
    return {
        section: {key_of(section, one): value_of(section, one) for one in body["answers"][section]}
        for section in SECTIONS
    }


def answers_of_state(state: Json) -> dict[str, dict[Key, Json]]:
    """Give the answers of an exported reading, in the form of the ledger."""
    found: dict[str, dict[Key, Json]] = {}
    for section in SECTIONS:
        tree, names = state[section], VALUE
        if section == "measurements":
            # Of the reading's own images alone: nothing was transferred.
            assert list(tree) in ([], [state["arm"]])
            tree, names = tree.get(state["arm"], {}), MEASURED
        found[section] = {
            (first, second): {name: leaf[name] for name in names}
            for first, branch in tree.items()
            for second, leaf in branch.items()
        }
    return found


# --- simulated readers --------------------------------------------------------------------------


@dataclass(frozen=True)
class Simulation:
    """What simulated readers answer, always the same for the same seed.

    Image quality and the truth about findings belong to the case; the accelerated arm is a little
    better and less noisy, as in the reference study; readers agree mostly. `images` stands for
    what a reader sees: case and arm of each code, which the server never tells a reader.
    """

    seed: int
    images: Mapping[str, tuple[str, str]]

    def answers(self, reader: str, body: Json) -> dict[str, list[Json]]:
        case, arm = self.images[body["code"]]
        questions = body["questions"]
        scores = [self._score(reader, case, arm, one) for one in questions["criteria"]]
        findings = [
            self._finding(reader, case, arm, one, level)
            for one in questions["findings"]
            for level in one["levels"]
        ]
        measured = [self._measurement(reader, case, arm, one) for one in questions["regions"]]
        return {"scores": scores, "findings": findings, "measurements": measured}

    def draw(self, *names: str) -> random.Random:
        return random.Random("/".join((str(self.seed), *names)))

    def _score(self, reader: str, case: str, arm: str, asked: Json) -> Json:
        place = (asked["sequence"], asked["criterion"])
        points = [choice["value"] for choice in asked["scale"]]
        tendency = self.draw("quality", case, *place).gauss(0, 0.4)
        latent = points[-1] - 0.5 + tendency + self.draw(reader, case, arm, *place).gauss(0, 0.4)
        latent += 0.2 if arm == "accelerated" else 0.0
        value = min(points, key=lambda point: abs(point - latent))
        return {"sequence": place[0], "criterion": place[1], "value": value}

    def _finding(self, reader: str, case: str, arm: str, asked: Json, level: str) -> Json:
        grades = [grade["value"] for grade in asked["grades"]]
        # More towards the sacrum, as in life.
        rate = 0.1 + 0.5 * asked["levels"].index(level) / len(asked["levels"])
        truth = self.draw("truth", case, asked["finding"], level).random() < rate
        seen = self.draw(reader, case, arm, asked["finding"], level)
        present = seen.random() < (0.92 if truth else 0.04)
        value = seen.choice(grades[1:]) if present else 0
        return {"finding": asked["finding"], "level": level, "value": value}

    def _measurement(self, reader: str, case: str, arm: str, asked: Json) -> Json:
        sequence, region = asked["sequence"], asked["region"]
        own = self.draw(reader, case, arm, sequence, region)
        noise = 6.0 if arm == "standard" else 3.5
        signal = 4.0 if asked["noise"] else self.draw(case, sequence, region).lognormvariate(5, 0.4)
        area = asked["area_mm2"]["mean"] if asked["area_mm2"] else 25.0
        return {
            "sequence": sequence,
            "region": region,
            "mean": round(signal * own.gauss(1, 0.03), 3),
            "sd": round(noise * own.lognormvariate(0, 0.1), 3),
            "area_mm2": round(area * own.gauss(1, 0.01), 2),
            "n_pixels": own.randint(40, 400),
        }


def by_section(answers: Mapping[str, list[Json]]) -> list[Piece]:
    """Everything of a kind at once: the fewest requests."""
    return [(section, answers[section]) for section in SECTIONS if answers[section]]


def by_sequence(answers: Mapping[str, list[Json]]) -> list[Piece]:
    """As a viewer saves: what belongs to one sequence or one finding, piece by piece."""
    pieces: list[Piece] = []
    for section in SECTIONS:
        first = KEYS[section][0]
        by_name: dict[str, list[Json]] = {}
        for item in answers[section]:
            by_name.setdefault(item[first], []).append(item)
        pieces += [(section, items) for items in by_name.values()]
    return pieces


# --- those who take part ------------------------------------------------------------------------


@dataclass
class ReaderPlayer:
    """A reader with a viewer: reads what the server gives, and keeps the ledger.

    Each has a ledger of its own, so that two may read at the same time.
    """

    name: str
    line: Line
    simulation: Simulation
    split: Callable[[Mapping[str, list[Json]]], list[Piece]] = by_section
    before_complete: Callable[[str], None] | None = None
    ledger: Ledger = field(default_factory=Ledger)

    def sessions(self) -> list[Json]:
        items: list[Json] = self.line.must("GET", f"{API}/sessions")["items"]
        return items

    def next(self, session: str) -> requests.Response:
        return self.line.send("POST", f"{API}/sessions/{session}/next", may_forget=True)

    def read_session(self, number: int) -> list[str]:
        """Read a session to its end; the codes in the order of reading."""
        session = self.sessions()[number]["code"]
        codes: dict[str, None] = {}
        while True:
            try:
                answer = self.next(session)
                assert answer.status_code in {200, 204}, answer.text
                if answer.status_code == 204:
                    break
                codes[answer.json()["code"]] = None
                self._read(answer.json(), answer.headers["ETag"])
            except LostTouch:
                continue  # the viewer is opened again, and asks what there is to read
        self.ledger.complete += codes
        return list(codes)

    def read_some(self, number: int, count: int) -> list[str]:
        """Read so many readings of a session; their codes."""
        session = self.sessions()[number]["code"]
        codes = []
        for _ in range(count):
            answer = self.next(session)
            self._read(answer.json(), answer.headers["ETag"])
            codes.append(answer.json()["code"])
        return codes

    def amend(self, code: str, reason: str, section: str, items: list[Json]) -> None:
        """Change a complete reading."""
        path = f"{API}/readings/{code}"
        etag = self.line.send("GET", path).headers["ETag"]
        self.line.must("POST", f"{path}/amend", {"reason": reason, section: items}, etag=etag)
        self.ledger.note(code, section, items)
        self.ledger.amended[code] = self.ledger.amended.get(code, 0) + 1

    def _read(self, body: Json, etag: str) -> None:
        """Answer what is not answered yet, and complete."""
        code = body["code"]
        self._check_kept(body)
        pieces = self.split(self.simulation.answers(self.name, body))
        self.ledger.pieces[code] = len(pieces)
        for section, items in pieces:
            if not _is_there(body, section, items):
                etag = self._change("PUT", code, section, {section: items}, etag).headers["ETag"]
            self.ledger.note(code, section, items)
        if self.before_complete is not None:
            self.before_complete(code)
        answer = self._change("POST", code, "complete", {}, etag)
        assert answer.json() == {"code": code, "state": "complete", "missing": 0}

    def _change(
        self, method: str, code: str, what: str, body: Json, etag: str
    ) -> requests.Response:
        path = f"{API}/readings/{code}/{what}"
        answer = self.line.send(method, path, body, etag=etag, may_forget=True)
        assert answer.status_code == 200, answer.text
        return answer

    def _check_kept(self, body: Json) -> None:
        """An open reading shows all that was acknowledged."""
        shown = answers_of(body)
        for section, known in self.ledger.answers.get(body["code"], {}).items():
            lost = {key for key, value in known.items() if shown[section].get(key) != value}
            assert not lost, f"lost of the {section} of {body['code']}: {sorted(lost)}"


def _is_there(body: Json, section: str, items: list[Json]) -> bool:
    """Tell whether a piece was saved before its viewer was closed: whole, or not at all."""
    shown = answers_of(body)[section]
    there = [shown.get(key_of(section, one)) == value_of(section, one) for one in items]
    assert all(there) or not any(there), f"half a piece of the {section} of {body['code']}"
    return all(there)


@dataclass
class Coordinator:
    """Runs a study.

    Attributes
    ----------
    line : Line
    name : str
        Name of the study.
    url : str
        Path of the study; known once it is made.
    protocol : dict
        The newest version.
    """

    line: Line
    name: str
    url: str = ""
    protocol: Json = field(default_factory=dict)

    def make(self, **body: object) -> Json:
        """Make the study, from a protocol or a template."""
        made = self.line.must("POST", f"{API}/studies", {"name": self.name, **body})
        self.url = f"{API}/studies/{made['id']}"
        self.protocol = self.run("GET", "/protocol")["protocol"]
        return made

    def run(self, method: str, path: str, body: object = None, **more: Any) -> Json:
        """Send a request about the study that must go well."""
        return self.line.must(method, self.url + path, body, **more)

    def change_protocol(self, **changes: object) -> None:
        etag = self.line.send("GET", f"{self.url}/protocol").headers["ETag"]
        protocol = {**self.protocol, **changes}
        self.protocol = self.run("PUT", "/protocol", {"protocol": protocol}, etag=etag)["protocol"]

    def enrol(self, pseudonym: str, kind: str = "study") -> None:
        series = case_series(self.name, pseudonym, self.protocol)
        self.run("POST", "/cases", {"pseudonym": pseudonym, "kind": kind, "series": series})

    def add_reader(self, name: str) -> str:
        """Add a reader; the token.

        It is shown once, so where the answer got lost, another token is made.
        """
        answer = self.line.send("POST", f"{self.url}/readers", {"name": name})
        if answer.status_code == 409:
            body = {"reason": "the answer with the token got lost"}
            answer = self.line.send("POST", f"{self.url}/readers/{name}/token", body)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token

    def allocation(self) -> list[Json]:
        items: list[Json] = self.run("GET", "/allocation")["items"]
        return items

    def images(self) -> dict[str, tuple[str, str]]:
        """Give case and arm of each code: what a reader sees on the screen, and is not told."""
        return {one["code"]: (one["case"], one["arm"]) for one in self.allocation()}

    def sessions(self, reader: str) -> list[Json]:
        items = self.run("GET", "/sessions")["items"]
        return [one for one in items if one["reader"] == reader]

    def export(self) -> Json:
        return self.run("GET", "/export")

    def verify(self) -> Json:
        return self.run("GET", "/audit/verify")

    def events(self) -> Iterator[Json]:
        """Give every event of the audit trail, page by page."""
        after = 0
        while page := self.run("GET", f"/audit?per_page=1000&after={after}")["items"]:
            yield from page
            after = page[-1]["sequence_number"]


def begin(line: Line, name: str, *, cases: int, training: int, **body: object) -> Coordinator:
    """Make a study and enrol its cases."""
    coordinator = Coordinator(line, name)
    coordinator.make(**body)
    for number in range(1, training + 1):
        coordinator.enrol(f"T{number:02}", "training")
    for number in range(1, cases + 1):
        coordinator.enrol(f"P{number:02}")
    return coordinator
