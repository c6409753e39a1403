"""A reader tries to peek, over HTTP against the real server.

With a reader's token, every address is tried with the codes of others: they must answer like codes
that nobody has, byte by byte, header by header, and within the same time. Nothing about a reading
may go with its arm, and nothing that others do may show.
"""

import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
import requests

from api_study import small_protocol
from moving_clock_server import moving_clock_server
from study_databases import new_database, new_token
from study_player import API, SECTIONS, Coordinator, Json, Line, Lines, ReaderPlayer, Simulation
from study_player import begin as begin_study

METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE")
# Their values differ from answer to answer, whatever was asked.
RANDOM_HEADERS = {"X-Request-ID", "Date"}
TIMINGS = 120
# Share of pairs in which one kind of code takes longer than the other; 0.5 is no difference. With
# 120 of each, chance alone stays within 0.5 +- 0.15 but for once in 10,000 times.
SAME_TIME = 0.15


@dataclass
class Scene:
    """A study with readings in every state, and another one on the same server."""

    url: str
    coordinator: Coordinator
    own: ReaderPlayer
    other: ReaderPlayer
    stranger: ReaderPlayer
    codes: dict[str, str]
    # Of the reader: complete in the session before, and in the one that is read now.
    closed: list[str]
    complete: list[str]

    @property
    def line(self) -> Line:
        return self.own.line

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.line.token}", **more.pop("headers", {})}
        return self.line.http.request(
            method, self.url + path, headers=headers, timeout=30, allow_redirects=False, **more
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("peek")
    url = new_database("sqlite", folder, None, "peek")
    token = new_token(url, "coordinator")
    with moving_clock_server(folder, url) as server, Lines(server.url) as lines:
        coordinator = begin_study(
            lines.line(token), "peeked", cases=8, training=0, protocol=small_protocol()
        )
        tokens = {name: coordinator.add_reader(name) for name in ("own", "other")}
        coordinator.run("POST", "/allocation")
        elsewhere = begin_study(
            lines.line(token), "faraway", cases=2, training=0, protocol=small_protocol()
        )
        tokens["stranger"] = elsewhere.add_reader("stranger")
        elsewhere.run("POST", "/allocation")
        simulation = Simulation(1, {**coordinator.images(), **elsewhere.images()})
        players = {
            name: ReaderPlayer(name, lines.line(secret), simulation)
            for name, secret in tokens.items()
        }
        players["other"].read_session(0)
        players["stranger"].next(players["stranger"].sessions()[0]["code"])
        players["own"].read_session(0)
        closed = players["own"].ledger.complete
        server.clock.advance(days=28)
        complete = players["own"].read_some(1, 5)
        for name in ("own", "other"):
            players[name].next(players[name].sessions()[1]["code"])
        codes = _codes(coordinator, elsewhere)
        yield Scene(
            server.url, coordinator, **players, codes=codes, closed=closed, complete=complete
        )


def _codes(coordinator: Coordinator, elsewhere: Coordinator) -> dict[str, str]:
    """Codes that the reader must not get through with."""
    mine, foreign, strange = (
        {one["state"]: one["code"] for one in run.allocation() if one["reader"] == name}
        for run, name in ((coordinator, "own"), (coordinator, "other"), (elsewhere, "stranger"))
    )
    unknown = random.Random(5).randbytes(16).hex()
    return {
        "unknown": unknown,
        "own, not opened yet": mine["pending"],
        "foreign, open": foreign["open"],
        "foreign, complete": foreign["complete"],
        "foreign, not opened yet": foreign["pending"],
        "foreign session": coordinator.sessions("other")[1]["code"],
        "other study, open": strange["open"],
        "other study, session": elsewhere.sessions("stranger")[0]["code"],
        "too short": mine["open"][:-1],
        "too long": mine["open"] + "0",
        "in capitals": mine["open"].upper().replace("0", "A"),
        "with a space": mine["open"] + " ",
        "with a line feed": mine["open"] + "\n",
        "with a zero byte": foreign["open"] + "\0",
        "with a wildcard": mine["open"][:-1] + "%",
        "no ASCII": mine["open"][:-1] + "\N{FULLWIDTH DIGIT ONE}",
        "a number": "7777",
        "very long": "f" * 2000,
    }


# --- every address ------------------------------------------------------------------------------


def addresses(scene: Scene) -> dict[str, list[str]]:
    """Paths of the OpenAPI document, and the methods that each takes."""
    paths = requests.get(f"{scene.url}/openapi.json", timeout=30).json()["paths"]
    return {
        path: [name.upper() for name in item if name != "parameters"]
        for path, item in paths.items()
    }


def fill(path: str, code: str) -> str:
    """An address of the path; parameters other than the code are those of something that exists."""
    known = {"study_id": "1", "pseudonym": "P01", "arm": "standard", "sequence": "sag_t1"}
    known |= {"name": "other", "code": quote(code, safe="")}
    return re.sub(r"{(\w+)}", lambda found: known.get(found[1], "1"), path)


def body_of(method: str, path: str) -> Json | None:
    """A body that is right where the code is."""
    score = {"sequence": "sag_t1", "criterion": "noise", "value": 3}
    bodies: dict[str, Json] = {
        "scores": {"scores": [score]},
        "findings": {"findings": [{"finding": "disc_bulge", "level": "L4/L5", "value": 1}]},
        "measurements": {
            "measurements": [{"sequence": "sag_t1", "region": "psoas", "mean": 1, "sd": 1}]
        },
        "amend": {"reason": "to see what happens", "scores": [score]},
        "complete": {"missing_reason": "to see what happens"},
        "override": {"reason": "to see what happens"},
    }
    if (method, path) == ("POST", f"{API}/readings/{{code}}/measurements"):
        points = [[1.5, 1.5], [9.5, 1.5], [9.5, 9.5]]
        polygon = {"kind": "polygon", "coordinates": "image", "points": points}
        region = {"sequence": "sag_t1", "region": "psoas", "sop_instance_uid": "1.2.3"}
        return {"measurements": [{**region, "geometry": polygon}]}
    return bodies.get(path.rpartition("/")[2])


def shown(answer: requests.Response, code: str) -> tuple[int, dict[str, str], str]:
    """All of an answer, with the code and what is random in every answer replaced."""
    headers = {k: v for k, v in answer.headers.items() if k not in RANDOM_HEADERS}
    text = re.sub(r'("request_id":")[0-9a-f]{32}', r"\1", answer.text)
    escaped = json.dumps(code)[1:-1]
    # The path repeats the code, decoded; a Content-Length goes with its length.
    for form in {escaped, json.dumps(code, ensure_ascii=False)[1:-1], code, quote(code, safe="")}:
        text = text.replace(form, "CODE")
    length = int(headers.pop("Content-Length", 0)) - len(answer.content)
    return answer.status_code, {**headers, "length": str(length)}, text


def test_codes_of_others_answer_like_codes_that_nobody_has(scene: Scene) -> None:
    with_code = {path for path in addresses(scene) if "{code}" in path}
    assert len(with_code) >= 10
    for path in with_code:
        for method in METHODS:
            found = {}
            for kind, code in scene.codes.items():
                headers = {"If-Match": "*"}
                answer = scene.send(
                    method, fill(path, code), json=body_of(method, path), headers=headers
                )
                found[kind] = shown(answer, code)
                assert answer.status_code in {200, 403, 404, 405}, (path, method, kind, answer.text)
                # 200 is the answer to OPTIONS, which tells the methods of the address.
                assert (answer.status_code == 200) == (method == "OPTIONS"), (path, method, kind)
            for kind, answer_shown in found.items():
                if method == "HEAD":
                    answer_shown[1].pop("length")
                    found["unknown"][1].pop("length", None)
                assert answer_shown == found["unknown"], (path, method, kind)


def test_nothing_was_changed_by_the_attempts(scene: Scene) -> None:
    verified = scene.coordinator.verify()
    assert verified["holds"]
    actors = {
        event["reader"]
        for event in scene.coordinator.events()
        if event["action"].startswith(("reading.", "session."))
        and event["subject"].partition("/")[2] in scene.codes.values()
    }
    assert actors <= {None, "other"}


def test_every_other_address_is_closed_in_the_same_words(scene: Scene) -> None:
    """With ids that exist, and with ids that do not."""
    closed = {}
    for path, methods in addresses(scene).items():
        if "{code}" in path or not path.startswith(API) or path == f"{API}/sessions":
            continue
        for method in methods:
            for study in ("1", "2", "999"):
                target = fill(path, "").replace("/studies/1", f"/studies/{study}")
                answer = scene.send(method, target, json={})
                assert answer.status_code == 403, (method, target)
                body = answer.json()
                assert body.pop("instance") == target
                body.pop("request_id")
                closed[method, path, study] = json.dumps(body)
    assert len(closed) > 50
    for (method, path, study), text in closed.items():
        assert text == closed[method, path, "1"], (method, path, study)


def test_what_is_public_tells_nothing_of_the_study(scene: Scene) -> None:
    # The numbers of the document and the figures may be any.
    codes = {code for kind, code in scene.codes.items() if kind != "a number"}
    secret = {"peeked", "faraway", "stranger", *codes}
    for path in ("/", "/healthz", "/readyz", "/openapi.json", "/docs"):
        answer = scene.send("GET", path)
        assert not {word for word in secret if word in answer.text}, path


def test_how_far_the_others_are_is_not_in_the_metrics(scene: Scene) -> None:
    assert scene.send("GET", "/metrics").status_code == 403
    proxied = {"X-Forwarded-For": "192.0.2.7"}
    assert requests.get(f"{scene.url}/metrics", headers=proxied, timeout=30).status_code == 401


# --- what others do -----------------------------------------------------------------------------


def test_what_others_do_does_not_show(scene: Scene) -> None:
    def look() -> list[Any]:
        paths = [f"{API}/sessions", f"{API}/sessions/{scene.own.sessions()[1]['code']}/next"]
        paths += [f"{API}/readings/{code}" for code in (*scene.complete, *scene.closed)]
        return [shown(scene.send("GET", path), "") for path in paths]

    before = look()
    scene.other.read_session(1)
    assert look() == before


def test_an_idempotency_key_of_another_opens_nothing(scene: Scene) -> None:
    headers = {"Idempotency-Key": "the-same-key"}
    session = scene.stranger.sessions()[0]["code"]
    theirs = requests.post(
        f"{scene.url}{API}/sessions/{session}/next",
        headers={**headers, "Authorization": f"Bearer {scene.stranger.line.token}"},
        timeout=30,
    )
    assert theirs.status_code == 200
    again = scene.send("POST", f"{API}/sessions/{session}/next", headers=headers)
    assert again.status_code == 404
    assert "Idempotent-Replayed" not in again.headers


# --- what goes with the arm ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def allocated(scene: Scene) -> list[Json]:
    """The allocation of a study that is large enough to see a pattern."""
    large = begin_study(
        Line(scene.url, scene.coordinator.line.token, http=scene.coordinator.line.http),
        "large",
        cases=60,
        training=0,
        protocol=small_protocol(repeat_sessions=2),
    )
    for number in range(3):
        large.add_reader(f"r{number}")
    large.run("POST", "/allocation")
    return large.allocation()


def z_of(values: list[float], arms: list[bool]) -> float:
    """Correlation of the values with the arm, in standard errors."""
    n, mean, share = len(values), sum(values) / len(values), sum(arms) / len(arms)
    covariance = sum((v - mean) * (a - share) for v, a in zip(values, arms, strict=True)) / n
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / n * share * (1 - share))
    return 0.0 if spread == 0 else covariance / spread * math.sqrt(n)


def test_no_bit_of_a_code_goes_with_the_arm(allocated: list[Json]) -> None:
    arms = [one["arm"] == "accelerated" for one in allocated]
    numbers = [int(one["code"], 16) for one in allocated]
    assert len(numbers) == 60 * 4 * 3
    worst = max(abs(z_of([float(n >> bit & 1) for n in numbers], arms)) for bit in range(128))
    # 128 tries: beyond 5 standard errors once in 10,000 studies.
    assert worst < 5


@pytest.mark.parametrize("reader", ["r0", "r1", "r2"])
def test_no_place_in_a_session_goes_with_the_arm(allocated: list[Json], reader: str) -> None:
    """The seed is fixed: this holds always, or never."""
    for number in range(1, 5):
        own = [one for one in allocated if (one["reader"], one["session"]) == (reader, number)]
        arms = [one["arm"] == "accelerated" for one in own]
        positions = [float(one["position"]) for one in own]
        assert abs(z_of(positions, arms)) < 3.5
        assert abs(z_of([p % 2 for p in positions], arms)) < 3.5
        cases = [float(one["case"].removeprefix("P")) for one in own]
        assert abs(z_of(cases, arms)) < 3.5
        # From one reading to the next, the arm changes as often as it would by chance.
        changes = sum(one != other for one, other in pairwise(arms))
        assert abs(changes - 29.5) < 3.5 * math.sqrt(59) / 2


def test_the_readings_of_both_arms_look_alike(scene: Scene) -> None:
    """Headers, versions and the form of the answers of every reading that is complete."""
    arms = {one["code"]: one["arm"] for one in scene.coordinator.allocation()}
    forms: dict[str, set[str]] = {"standard": set(), "accelerated": set()}
    for code in scene.complete:
        status, headers, text = shown(scene.send("GET", f"{API}/readings/{code}"), code)
        body = json.loads(text)
        for section in SECTIONS:
            body["answers"][section] = [
                sorted(set(one) - {"value"}) for one in body["answers"][section]
            ]
        plain = re.sub(r"2\.25\.\d+", "UID", json.dumps(body))
        forms[arms[code]].add(json.dumps([status, headers, plain]))
    assert len(forms["standard"]) == 1
    assert forms["standard"] == forms["accelerated"]


def test_what_is_closed_says_the_same_of_both_arms(scene: Scene) -> None:
    """The session before: every address of a reading, and not a word that depends on it."""
    arms = {one["code"]: one["arm"] for one in scene.coordinator.allocation()}
    paths = {path for path in addresses(scene) if path.startswith(f"{API}/readings/{{code}}")}
    said: dict[str, set[str]] = {"standard": set(), "accelerated": set()}
    for code in scene.closed:
        for path in sorted(paths):
            for method in METHODS:
                answer = scene.send(
                    method,
                    fill(path, code),
                    json=body_of(method, path),
                    headers={"If-Match": "*"},
                )
                # Measuring asks for the images, which are there for an open reading alone: 404.
                assert answer.status_code in {404, 405, 409} or method == "OPTIONS", answer.text
                said[arms[code]].add(json.dumps([method, path, *shown(answer, code)]))
    assert said["standard"] == said["accelerated"]
    assert any("Reading closed" in text for text in said["standard"])


def test_a_request_id_is_random(scene: Scene) -> None:
    ids = {scene.send("GET", f"{API}/sessions").headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20
    # UUID version 4: 122 random bits, no clock, no address.
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one) for one in ids)


# --- time ---------------------------------------------------------------------------------------


def timed(scene: Scene, paths: dict[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of requests of each kind, in a random order."""
    dice = random.Random(1)
    order = [kind for kind in paths for _ in range(TIMINGS)]
    dice.shuffle(order)
    taken: dict[str, list[float]] = {kind: [] for kind in paths}
    for kind in order:
        path = dice.choice(paths[kind])
        began = time.perf_counter()
        scene.send("GET", path)
        taken[kind].append(time.perf_counter() - began)
    return taken


def share_longer(one: list[float], other: list[float]) -> float:
    """Share of pairs in which the first takes longer: the area under the ROC curve."""
    return sum(a > b for a in one for b in other) / (len(one) * len(other))


def test_codes_of_others_take_no_longer(scene: Scene) -> None:
    taken = timed(
        scene,
        {
            kind: [f"{API}/readings/{quote(code)}"]
            for kind, code in scene.codes.items()
            if kind not in {"very long", "a number"}
        },
    )
    for kind, seconds in taken.items():
        assert abs(share_longer(seconds, taken["unknown"]) - 0.5) < SAME_TIME, kind


def test_the_arms_take_the_same_time(scene: Scene) -> None:
    arms = {one["code"]: one["arm"] for one in scene.coordinator.allocation()}
    paths: dict[str, list[str]] = {"standard": [], "accelerated": []}
    for code in scene.complete:
        paths[arms[code]].append(f"{API}/readings/{code}")
    taken = timed(scene, paths)
    assert abs(share_longer(taken["standard"], taken["accelerated"]) - 0.5) < SAME_TIME
