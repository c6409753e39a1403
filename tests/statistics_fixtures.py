"""A study full of simulated answers: straight into the tables, and read over HTTP.

Both ways ask `Simulation` for the answers of a reading, so that they hold the same study.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from api_study import STUDIES, Play, Reading, uid
from api_support import START, Api, json_of
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings import counts
from halfscan_api.readings.tables import Finding, ReadingSession, Score
from halfscan_api.readings.tables import Reading as ReadingRow
from halfscan_api.studies.protocol import Protocol, RegionRole, template
from halfscan_api.studies.tables import (
    CaseKind,
    CaseSeries,
    ProtocolVersion,
    Reader,
    Study,
    StudyCase,
)

TANG_SECONDS = {
    "standard": {"sag_t1": 101.0, "sag_t2": 77.0, "sag_t2_fs": 70.0, "tra_t2": 69.0},
    "accelerated": {"sag_t1": 53.0, "sag_t2": 41.0, "sag_t2_fs": 42.0, "tra_t2": 39.0},
}


def tang_parameters(arm: str, sequence: str) -> dict[str, Any]:
    """Table 1 of the reference study, as enrolment would note it."""
    tr = {"sag_t1": 621, "sag_t2": 2400, "sag_t2_fs": 2800, "tra_t2": 3290}[sequence]
    te = {"sag_t1": 9.2, "sag_t2": 92, "sag_t2_fs": 80, "tra_t2": 92}[sequence]
    accelerated = arm == "accelerated"
    return {
        "thickness_mm": 4,
        "tr_ms": tr,
        "te_ms": te,
        "fov_mm": [180, 180] if sequence == "tra_t2" else [280, 280],
        "averages": 2 if sequence == "sag_t2_fs" and not accelerated else 1,
        "matrix": [320, 256] if sequence == "tra_t2" else [384, 268],
        "acceleration_factor": 2 if accelerated or sequence == "sag_t2_fs" else None,
        "bandwidth_hz_px": 252 if sequence in {"sag_t2_fs", "tra_t2"} else 250,
    }


@dataclass(frozen=True)
class Simulation:
    """Answers that follow from names and a seed.

    `missing` is the share of answers that a reader leaves out.
    """

    protocol: Protocol
    seed: int = 1
    missing: float = 0.0

    def rng(self, *names: object) -> np.random.Generator:
        text = "/".join(map(str, (self.seed, *names)))
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))

    def answers(self, case: str, arm: str, reader: str, repeat_round: int = 0) -> dict[str, Any]:
        """Scores, findings and measurements of one reading, as their requests take them."""
        patient, images = self.rng(case), self.rng(case, arm)
        own = self.rng(case, arm, reader, repeat_round)
        better = 0.0 if arm == self.protocol.arm_names[0] else 0.35
        answered = {
            "scores": list(self._scores(patient, images, own, better)),
            "findings": list(self._findings(patient, own)),
            "measurements": list(self._measurements(patient, own, better)),
        }
        keep = self.rng("missing", case, arm, reader, repeat_round)
        return {
            section: [item for item in items if keep.random() >= self.missing]
            for section, items in answered.items()
        }

    def _scores(
        self,
        patient: np.random.Generator,
        images: np.random.Generator,
        own: np.random.Generator,
        better: float,
    ) -> Iterator[dict[str, Any]]:
        for sequence in self.protocol.sequence_names:
            for criterion in self.protocol.criteria_of(sequence):
                latent = patient.normal(0.5, 0.5) + images.normal(better, 0.2) + own.normal(0, 0.35)
                place = int(np.clip(round(2.2 + latent), 0, len(criterion.scale) - 1))
                yield {
                    "sequence": sequence,
                    "criterion": criterion.name,
                    "value": criterion.scale[place].value,
                }

    def _findings(
        self, patient: np.random.Generator, own: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        burden = patient.normal(0, 0.7)
        for rank, finding in enumerate(self.protocol.findings):
            threshold = 0.1 + 0.25 * rank
            for level in finding.levels:
                latent = burden + patient.normal(0, 0.8) + own.normal(0, 0.3)
                top = len(finding.grades) - 1
                place = int(np.clip(np.ceil(latent - threshold), 0, top))
                yield {
                    "finding": finding.name,
                    "level": level,
                    "value": finding.grades[place].value,
                }

    def _measurements(
        self, patient: np.random.Generator, own: np.random.Generator, better: float
    ) -> Iterator[dict[str, Any]]:
        for sequence in self.protocol.sequence_names:
            for region in self.protocol.regions_of(sequence):
                noise = region.role is RegionRole.NOISE
                level = 1.0 if noise else 120 * (1 + 2 * better) * np.exp(patient.normal(0, 0.25))
                yield {
                    "sequence": sequence,
                    "region": region.name,
                    "mean": float(level * np.exp(own.normal(0, 0.1))),
                    "sd": 1.0 if noise else 5.0,
                }


# --- straight into the tables -------------------------------------------------------------------


def fill_study(
    session: Session,
    simulation: Simulation,
    *,
    name: str = "filled",
    cases: int = 31,
    readers: tuple[str, ...] = ("r1", "r2"),
    unread: Iterable[tuple[str, str, str]] = (),
) -> Study:
    """Write a study with completed readings; `unread` are (reader, case, arm) still to come."""
    protocol = simulation.protocol
    study = Study(
        name=name,
        title=protocol.title,
        protocol_version=1,
        revision=1,
        seed=7,
        secret="0" * 64,
        created_at=START,
    )
    session.add(study)
    session.flush()
    session.add(
        ProtocolVersion(
            study_id=study.id, number=1, document=protocol.as_document(), created_at=START
        )
    )
    rows = [
        StudyCase(
            study_id=study.id,
            pseudonym=f"P{number:04}",
            kind=CaseKind.STUDY.value,
            enrolled_at=START,
        )
        for number in range(1, cases + 1)
    ]
    people = [Reader(study_id=study.id, name=reader, created_at=START) for reader in readers]
    session.add_all([*rows, *people])
    session.flush()
    _add_series(session, study, protocol, rows)
    left = set(unread)
    for reader in people:
        for number, arm in enumerate(protocol.arm_names, start=1):
            _read(session, simulation, study, reader, (number, arm), rows, left)
    counts.recount(session, study.id)
    return study


def _add_series(session: Session, study: Study, protocol: Protocol, cases: list[StudyCase]) -> None:
    session.execute(
        insert(CaseSeries),
        [
            {
                "study_id": study.id,
                "case_id": case.id,
                "arm": arm,
                "sequence": sequence,
                "series_instance_uid": uid(study.name, case.pseudonym, arm, sequence),
                "study_instance_uid": uid(study.name, case.pseudonym),
                "scan_time_s": TANG_SECONDS.get(arm, {}).get(sequence),
                "parameters": tang_parameters(arm, sequence)
                if sequence in TANG_SECONDS.get(arm, {})
                else None,
                "added_at": START,
            }
            for case in cases
            for arm in protocol.arm_names
            for sequence in protocol.sequence_names
        ],
    )


def _read(
    session: Session,
    simulation: Simulation,
    study: Study,
    reader: Reader,
    part: tuple[int, str],
    cases: list[StudyCase],
    left: set[tuple[str, str, str]],
) -> None:
    number, arm = part
    row = ReadingSession(
        study_id=study.id,
        reader_id=reader.id,
        number=number,
        kind="reading",
        created_at=START,
        code=hashlib.sha256(f"{study.name}{reader.name}{number}".encode()).hexdigest()[:32],
    )
    session.add(row)
    session.flush()
    readings = []
    for position, case in enumerate(cases, start=1):
        complete = (reader.name, case.pseudonym, arm) not in left
        code = f"{study.name}{reader.name}{case.pseudonym}{arm}"
        readings.append(
            ReadingRow(
                study_id=study.id,
                reader_id=reader.id,
                session_id=row.id,
                case_id=case.id,
                arm=arm,
                batch=1,
                position=position,
                repeat_round=0,
                version=2,
                active_s=60.0,
                code=hashlib.sha256(code.encode()).hexdigest()[:32],
                state="complete" if complete else "pending",
                counted=complete,
            )
        )
    session.add_all(readings)
    session.flush()
    found: dict[Any, list[dict[str, Any]]] = {Score: [], Finding: [], Measurement: []}
    for case, reading in zip(cases, readings, strict=True):
        if reading.counted:
            common = _common(reading, number)
            answers = simulation.answers(case.pseudonym, arm, reader.name)
            found[Score] += [{**common, **item} for item in answers["scores"]]
            found[Finding] += [{**common, **item} for item in answers["findings"]]
            found[Measurement] += _with_snr(simulation.protocol, common, answers["measurements"])
    for table, answered in found.items():
        if answered:
            session.execute(insert(table), answered)


def _common(reading: ReadingRow, number: int) -> dict[str, Any]:
    return {
        "study_id": reading.study_id,
        "reader_id": reading.reader_id,
        "case_id": reading.case_id,
        "reading_id": reading.id,
        "arm": reading.arm,
        "session_kind": "reading",
        "session_number": number,
        "repeat_round": 0,
        "counted": True,
        "saved_at": START,
    }


def _with_snr(
    protocol: Protocol, common: dict[str, Any], measured: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    noise = {
        (sequence, region.name)
        for sequence in protocol.sequence_names
        for region in protocol.regions_of(sequence)
        if region.role is RegionRole.NOISE
    }
    sd = {
        one["sequence"]: one["sd"] for one in measured if (one["sequence"], one["region"]) in noise
    }
    return [
        {
            **common,
            **one,
            "transferred": False,
            "source": "viewer",
            "snr": None
            if (one["sequence"], one["region"]) in noise or one["sequence"] not in sd
            else one["mean"] / sd[one["sequence"]],
        }
        for one in measured
    ]


def bump(session: Session, study_id: int) -> None:
    """Move the revision, as a change would."""
    session.execute(update(Study).where(Study.id == study_id).values(revision=Study.revision + 1))


def tang_study(api: Api, **options: Any) -> int:
    """The reference study with simulated answers; its id."""
    simulation = Simulation(template("tang2024"), missing=options.pop("missing", 0.0))
    with api.database.write() as session:
        return fill_study(session, simulation, **options).id


# --- over HTTP ----------------------------------------------------------------------------------


def begin_over_http(
    api: Api,
    protocol: Protocol,
    *,
    name: str = "played",
    cases: int = 8,
    readers: tuple[str, ...] = ("r1", "r2"),
) -> Play:
    """Make and allocate a study over HTTP alone."""
    document = protocol.as_document()
    body = {"name": name, "protocol": document}
    answer = api.send("POST", STUDIES, body, role="coordinator")
    assert answer.status_code == 201, answer.text
    play = Play(api, json_of(answer)["id"], name, document)
    for number in range(1, cases + 1):
        play.enrol(f"P{number:04}")
    for reader in readers:
        play.add_reader(reader)
    play.run("POST", "/allocation")
    return play


def read_over_http(
    play: Play, simulation: Simulation, reader: str, number: int, *, at_most: int | None = None
) -> int:
    """Read a session, or the first readings of it; how many were read."""
    places = {item["code"]: item for item in play.allocation()}
    session = play.session(reader, number)

    def fill(reading: Reading) -> dict[str, Any]:
        place = places[reading.code]
        return simulation.answers(place["case"], place["arm"], reader, place["repeat_round"])

    read = 0
    while at_most is None or read < at_most:
        reading = play.next(reader, session)
        if reading is None:
            break
        play.api.clock.advance(60)
        reading.fill(fill)
        reading.complete(missing_reason="left out on purpose")
        read += 1
    return read


def wait(play: Play, days: int) -> None:
    """Let days pass."""
    play.api.clock.now += timedelta(days=days)
