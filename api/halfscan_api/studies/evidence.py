"""Where a subject of the audit trail lies in the tables, and which columns are no evidence.

Every column of every table is compared with the audit trail, with what it repeats, or with what it
follows from; `NOT_EVIDENCE` is the list of those that are not, each with its reason. A test edits
every other column, one by one, on both databases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent, JsonObject, timestamp
from halfscan_api.database import Base
from halfscan_api.enrolment.tables import StudyEnrolment
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import Finding, Reading, ReadingSession, Score
from halfscan_api.reconstructions.tables import (
    AttemptResult,
    Reconstruction,
    ReconstructionAttempt,
    Status,
)
from halfscan_api.studies.cases import MADE_COLUMNS, MODEL_COLUMNS, lineage_of
from halfscan_api.studies.tables import CaseSeries, Reader, Study, StudyCase

_NUMBER = "a number of this database; what refers to it is compared by what it stands for"
_LEDGER = "working state of the ledger of reconstructions, which changes as workers work"
# Table -> column ("*": all of them) -> why it is no evidence.
NOT_EVIDENCE: dict[str, dict[str, str]] = {
    **{
        table: {"id": _NUMBER}
        for table in (
            *("protocol_version", "case_series", "allocation", "score", "finding", "measurement"),
            *("noise_series", "audit_event"),
        )
    },
    "api_token": {"last_used_at": "a note, written without an event, at most once a minute"},
    "idempotency_record": {"*": "answers that are given again for a week, and then removed"},
    "inspection": {"*": "questions about series in the archive, removed after a week"},
    "study_report": {"*": "reports kept to be given again: made from the tables, and made anew"},
    "reconciliation": {"*": "counts of comparisons of ledger and archive, no part of a study"},
    # What made the series of a study is compared: `ledger_faults`.
    "reconstruction": dict.fromkeys(
        (
            *("orthanc_series_id", "orthanc_study_id", "source_orthanc_series_id", "look_again"),
            *("study_instance_uid", "n_instances", "priority", "attempt"),
            *("max_attempts", "run_after", "lease_token", "lease_s", "lease_until", "worker"),
            *("status",),
            *("rule", "derived_orthanc_series_id", "derived_instances", "timings_s", "quality"),
            *("warnings", "error", "replaced_by", "replaced_at", "created_at", "updated_at"),
        ),
        _LEDGER,
    ),
    "reconstruction_attempt": dict.fromkeys(
        (
            *("id", "attempt", "worker", "lease_token", "started_at", "error", "outcome_sha256"),
            *("derived_orthanc_series_id", "replaced_by", "replaced_at"),
        ),
        _LEDGER,
    ),
}
# What names a row: table -> columns. A row whose name was changed is another row.
_KEYS = {
    "study": "name",
    "protocol_version": "study_id, number",
    "study_case": "study_id, pseudonym, id",
    "case_series": "case_id, arm, sequence",
    "noise_series": "case_id, arm, sequence, role",
    "reader": "study_id, name, id",
    "allocation": "reader_id, batch",
    "reading_session": "reader_id, code, id",
    "reading": "code, study_id, session_id, reader_id, case_id, id",
    "score": "reading_id, sequence, criterion",
    "finding": "reading_id, finding, level",
    "measurement": "reading_id, arm, sequence, region",
    "api_token": "id",
}
_SUBJECTS = {
    "study": "study",
    "protocol": "protocol_version",
    "case": "study_case",
    "reader": "reader",
    "allocation": "allocation",
    "session": "reading_session",
    "reading": "reading",
    "token": "api_token",
}
# What lies in other tables than its subject: kind and first name of the path -> table and the
# number of names that lead to a row of it.
_INNER = {
    ("case", "series"): ("case_series", 3),
    ("case", "noise_series"): ("noise_series", 4),
    ("reading", "scores"): ("score", 3),
    ("reading", "findings"): ("finding", 3),
    ("reading", "measurements"): ("measurement", 4),
}
# What a state names otherwise than its column.
_RENAMED = {
    ("reading", "session"): "session_id",
    ("reading", "reader"): "reader_id",
    ("reading", "case"): "case_id",
    ("reading_session", "reader"): "reader_id",
    ("allocation", "reader"): "reader_id",
    ("api_token", "fingerprint"): "sha256",
}
_MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that does not hold.

    Attributes
    ----------
    what : str
        The rule that is broken.
    subject : str or None
        What it is about, and the way to the row inside it: ``reading/CODE/scores/sag_t1/noise``.
    sequence_number : int or None
        Event that it is about.
    table, column : str or None
        Where it lies. Several columns are separated by commas: one of them is wrong.
    """

    what: str
    subject: str | None = None
    sequence_number: int | None = None
    table: str | None = None
    column: str | None = None


def differences(subject: str, said: JsonObject, found: JsonObject) -> Iterator[Discrepancy]:
    """Say where a state in the tables is not the one that the events tell, column by column."""
    for path in _paths(said, found, ()):
        table, depth = _place(subject, path)
        row = "/".join((subject, *path[:depth]))
        if len(path) <= depth and depth:
            yield Discrepancy(
                f"is in the events or in the tables, not in both: a row of {table}",
                "/".join((subject, *path)),
                table=table,
                column=_KEYS[table],
            )
            continue
        name = path[depth]
        column = _RENAMED.get((table, name), name)
        shown = "/".join(path)
        what = f"is not in the tables what the events say: {table}.{column} ({shown})"
        yield Discrepancy(what, row, table=table, column=column)


def whole(subject: str, what: str) -> Discrepancy:
    """Say that a subject is there where it must not be, or is not where it must be."""
    table = _SUBJECTS.get(subject.partition("/")[0])
    return Discrepancy(what, subject, table=table, column=_KEYS.get(table or ""))


def local_faults(study: Study, said: JsonObject, found: JsonObject) -> Iterator[Discrepancy]:
    """Compare what a study has on this server with what the server's chain tells of it."""
    places = {
        "id": ("study", "id"),
        "secret_sha256": ("study", "secret"),
        "readers": ("reader", "token_id"),
        "reconstructions": ("case_series", "reconstruction_id"),
    }
    for path in _paths(_pruned(said), _pruned(found), ()):
        table, column = places[path[0]]
        what = f"is not what the trail of the server says: {table}.{column}"
        yield Discrepancy(what, "/".join((f"study {study.name}", *path[1:])), None, table, column)


def reference_faults(session: Session, study: Study) -> Iterator[Discrepancy]:
    """Find rows that refer to a row of another study, or to none.

    Answers are compared with their reading alone: the rest of what they say is what it says.
    """
    for child, name, parent in _references():
        table = child.__tablename__
        for row_id in session.scalars(_strangers(child, name, parent, study.id).limit(_MOST_ROWS)):
            what = f"{table}.{name} and {table}.study_id do not belong to one study"
            column = f"study_id, {name}"
            yield Discrepancy(what, f"{table} row {row_id}", table=table, column=column)


def unlike_their_reading(session: Session, study: Study) -> Iterator[Discrepancy]:
    """Find answers that no longer repeat what their reading says."""
    for table in (Score, Finding, Measurement):
        repeated: dict[str, Any] = {
            "study_id": Reading.study_id,
            "reader_id": Reading.reader_id,
            "case_id": Reading.case_id,
            "repeat_round": Reading.repeat_round,
            "counted": Reading.counted,
            "session_kind": ReadingSession.kind,
            "session_number": ReadingSession.number,
        }
        unlike = [getattr(table, name) != other for name, other in repeated.items()]
        rows = session.execute(
            select(Reading.code, table.id, *unlike, _wrong_arm(table))
            .select_from(table)
            .join(Reading, Reading.id == table.reading_id)
            .join(ReadingSession, ReadingSession.id == Reading.session_id)
            .where(Reading.study_id == study.id, or_(*unlike, _wrong_arm(table)))
            .limit(_MOST_ROWS)
        )
        arm = "arm, transferred" if table is Measurement else "arm"
        names = [*repeated, arm]
        for code, row_id, *wrong in rows:
            column = ", ".join(name for name, is_so in zip(names, wrong, strict=True) if is_so)
            kind = table.__tablename__
            what = f"row {row_id} of {kind} is not what its reading says: {kind}.{column}"
            yield Discrepancy(what, f"reading/{code}", table=kind, column=column)


def setting_faults(session: Session, study: Study, since: int) -> Iterator[Discrepancy]:
    """Find a setting of the enrolment that is not what the newest event about it says.

    `since` is the newest event that came with an import: settings of the enrolment do not travel.
    """
    event = session.scalar(
        select(AuditEvent)
        .where(
            AuditEvent.chain == study.name,
            AuditEvent.action == "enrolment.automatic",
            AuditEvent.sequence_number > since,
        )
        .order_by(AuditEvent.sequence_number.desc())
        .limit(1)
    )
    row = session.get(StudyEnrolment, study.id)
    said = None if event is None else (event.reason == "on", event.at)
    found = None if row is None else (row.automatic, row.changed_at)
    if said == found:
        return
    pairs = zip(("automatic", "changed_at"), said, found, strict=True) if said and found else ()
    column = ", ".join(name for name, one, other in pairs if one != other) or "study_id"
    what = f"is not what the newest event says: study_enrolment.{column}"
    yield Discrepancy(what, "study", table="study_enrolment", column=column)


def ledger_faults(session: Session, study: Study) -> Iterator[Discrepancy]:
    """Find reconstructions that are no longer what was noted when their series was enrolled.

    A row that was made again since may say more, and name another derived series; its attempts
    still say what made this one.
    """
    rows = session.execute(
        select(StudyCase.pseudonym, CaseSeries, Reconstruction)
        .join(CaseSeries, CaseSeries.case_id == StudyCase.id)
        .join(Reconstruction, Reconstruction.id == CaseSeries.reconstruction_id, isouter=True)
        .where(CaseSeries.study_id == study.id, CaseSeries.reconstruction_id.is_not(None))
    ).all()
    attempts: dict[int, list[ReconstructionAttempt]] = {row.id: [] for *_, row in rows if row}
    for attempt in session.scalars(
        select(ReconstructionAttempt).where(
            ReconstructionAttempt.reconstruction_id.in_(attempts),
            ReconstructionAttempt.result == AttemptResult.DONE.value,
        )
    ):
        attempts[attempt.reconstruction_id].append(attempt)
    for case, series, made in rows:
        subject = f"case/{case}/series/{series.arm}/{series.sequence}"
        if made is None:
            what = f"there is no reconstruction {series.reconstruction_id}"
            yield Discrepancy(what, subject, None, "case_series", "reconstruction_id")
            continue
        for table, column in _unlike_note(series.lineage or {}, made, attempts[made.id]):
            what = f"is not what was noted at the enrolment: {table}.{column}"
            yield Discrepancy(what, subject, table=table, column=column)


def _unlike_note(
    noted: JsonObject, made: Reconstruction, attempts: list[ReconstructionAttempt]
) -> Iterator[tuple[str, str]]:
    """Give table and column of what is not as it was noted; the attempts are those that ended well.

    Whether it was made again since, the time at which the newest attempt ended tells.
    """
    uid, found = noted.get("derived_series_instance_uid"), lineage_of(made)
    yield from _unlike_attempts(noted, [one for one in attempts if _made(one) == uid])
    newest = max(attempts, key=lambda one: one.id, default=None)
    names = list(MADE_COLUMNS if _made(made) == uid else MADE_COLUMNS[:2])
    if made.status == Status.DONE and newest is not None and newest.ended_at is not None:
        # What a done row says of its derived series, the attempt that made it says too.
        if _made(made) != _made(newest):
            yield Reconstruction.__tablename__, "derived_series_instance_uid"
        if made.finished_at != newest.ended_at:
            yield Reconstruction.__tablename__, "finished_at"
            yield ReconstructionAttempt.__tablename__, "ended_at"
        if noted.get("finished_at") == timestamp(newest.ended_at):
            names += ["reason_code", "reason", "evidence"]
    for name in names:
        if found.get(name) != noted.get(name):
            yield Reconstruction.__tablename__, {"evidence": "acquisition"}.get(name, name)


def _unlike_attempts(
    noted: JsonObject, attempts: list[ReconstructionAttempt]
) -> Iterator[tuple[str, str]]:
    if not attempts:
        key = "reconstruction_id, result, derived_series_instance_uid"
        yield ReconstructionAttempt.__tablename__, key
    for attempt in attempts:
        for name in MODEL_COLUMNS:
            if getattr(attempt, name) != noted.get(name):
                yield ReconstructionAttempt.__tablename__, name


def _made(row: Reconstruction | ReconstructionAttempt) -> str | None:
    return row.derived_series_instance_uid


def _wrong_arm(table: type[Score | Finding | Measurement]) -> ColumnElement[bool]:
    other: ColumnElement[bool] = table.arm != Reading.arm
    if table is not Measurement:
        return other
    return or_(
        and_(other, ~Measurement.transferred),
        and_(table.arm == Reading.arm, Measurement.transferred),
    )


def _references() -> Iterator[tuple[Any, str, Any]]:
    """Give every reference from a table of the studies to a row of a study, but the answers'."""
    parents = {one.__tablename__: one for one in (StudyCase, Reader, ReadingSession, Reading)}
    answers = {one.__tablename__ for one in (Score, Finding, Measurement)}
    for mapper in Base.registry.mappers:
        table = mapper.local_table
        if "study_id" not in table.c:
            continue
        for key in table.foreign_keys:
            parent = parents.get(str(key.column.table))
            name = key.parent.name
            if parent is not None and (str(table) not in answers or name == "reading_id"):
                yield mapper.class_, name, parent


def _strangers(
    child: Any, name: str, parent: Any, study_id: int
) -> Select[Any] | CompoundSelect[Any]:
    """Give rows of a study whose parent is of another, or none, and rows the other way round."""
    shown = child.id if hasattr(child, "id") else func.min(child.study_id)
    refers = getattr(child, name) == parent.id
    mine = (
        select(shown)
        .select_from(child)
        .join(parent, refers, isouter=True)
        .where(child.study_id == study_id, or_(parent.id.is_(None), parent.study_id != study_id))
    )
    if not hasattr(child, "id"):
        return mine.having(func.count() > 0)
    if name == "reading_id":
        return mine  # the other way round is a part of what an answer repeats
    theirs = (
        select(shown)
        .join(parent, refers)
        .where(parent.study_id == study_id, child.study_id != study_id)
    )
    return mine.union(theirs)


def _place(subject: str, path: tuple[str, ...]) -> tuple[str, int]:
    """Give the table that a path lies in, and how many of its names lead to the row."""
    kind = subject.partition("/")[0]
    return _INNER.get((kind, path[0]), (_SUBJECTS[kind], 0))


def _pruned(tree: JsonObject) -> JsonObject:
    """Leave out what is empty, at every depth."""
    branches = {
        name: _pruned(value) if isinstance(value, dict) else value for name, value in tree.items()
    }
    return {name: value for name, value in branches.items() if value != {}}


def _paths(one: Any, other: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Name the fields that differ, at the depth where they do."""
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from _paths(one.get(name), other.get(name), (*path, name))
    else:
        yield path
