"""Profiles of answers: what all counted readings of a case gave, one row for all like cases.

Statistics that allow for several observations of a patient need each patient's own table, and
those of many readers need each patient's readings side by side. `AnswerProfile` counts the cases
whose answers are the same: scores by criterion and sequence, findings with all their levels, in any
order. It grows with what readers can answer, and at most with the cases. Like the counts by
category it moves in the transaction that completes or amends a reading.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    Insert,
    Select,
    delete,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind, AnswerProfile, Finding, Reading, Score

MISSING = "-"
_KEY = [column.name for column in AnswerProfile.__table__.primary_key]
_ROWS_AT_ONCE = 500


class Answer(NamedTuple):
    """A value at one level ("" where there are none), and the reading that gave it."""

    level: str
    reader: int
    arm: str
    repeat_round: int
    value: int


class Question(NamedTuple):
    """What is counted together: criterion and sequence, or a finding at all levels."""

    answer_kind: str
    item: str
    place: str


class Profile(NamedTuple):
    """The answers of one case to one question.

    Attributes
    ----------
    readings : str
        JSON, a list of [reader, arm, repeat round] in their order.
    answers : str
        A word a level, each with the values of all readings in that order, ``-`` where there is
        none: ``0,0,1,1 0,0,0,0``. The words are sorted: which level is which is not told.
    """

    readings: str
    answers: str

    def row(self, study_id: int, question: Question, n: int) -> dict[str, Any]:
        """Give a row of `AnswerProfile`; many readers are too long for an index, a digest is not.

        The order of the columns is that of the table.
        """
        text = f"{self.readings}\n{self.answers}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        own = {"digest": digest, **self._asdict(), "n": n}
        return {"study_id": study_id, **question._asdict(), **own}


def profile_of(answers: Iterable[Answer]) -> Profile | None:
    """Give the profile of what one case was answered; None without an answer."""
    levels: dict[str, dict[tuple[int, str, int], int]] = defaultdict(dict)
    for one in answers:
        levels[one.level][one.reader, one.arm, one.repeat_round] = one.value
    if not levels:
        return None
    readings = sorted({reading for given in levels.values() for reading in given})
    words = sorted(
        ",".join(str(given.get(reading, MISSING)) for reading in readings)
        for given in levels.values()
    )
    return Profile(json.dumps(readings, separators=(",", ":")), " ".join(words))


def move_profiles(session: Session, reading: Reading, *, sign: int) -> None:
    """Let the case of a reading change its profiles; the reading does not count at this moment.

    Parameters
    ----------
    session : Session
    reading : Reading
    sign : int
        1: it is going to count. -1: it has just ceased to.
    """
    others: dict[Question, list[Answer]] = defaultdict(list)
    own: dict[Question, list[Answer]] = defaultdict(list)
    for table in (Score, Finding):
        here = (table.case_id == reading.case_id, or_(table.counted, _of(table, reading)))
        for kind, item, place, _, reading_id, *answer in session.execute(_query(table, *here)):
            side = own if reading_id == reading.id else others
            side[Question(kind, item, place)].append(Answer(*answer))
    moved = [
        profile.row(reading.study_id, question, n)
        for question, answers in own.items()
        for profile, n in (
            (profile_of(others[question]), -sign),
            (profile_of([*others[question], *answers]), sign),
        )
        if profile is not None
    ]
    for start in range(0, len(moved), _ROWS_AT_ONCE):
        some = moved[start : start + _ROWS_AT_ONCE]
        session.execute(_upsert(session, some))
        session.execute(
            delete(AnswerProfile).where(
                AnswerProfile.study_id == reading.study_id,
                AnswerProfile.digest.in_({row["digest"] for row in some}),
                AnswerProfile.n == 0,
            )
        )


def expected_profiles(session: Session, study_id: int) -> Iterator[dict[str, Any]]:
    """Give the rows that must be those of `AnswerProfile`, from the answers themselves."""
    for table in (Score, Finding):
        query = _query(table, table.study_id == study_id, table.counted)
        # By question, then by case: the answers of one case come together.
        query = query.order_by(*list(query.selected_columns)[1:4])
        rows = session.execute(query.execution_options(yield_per=10_000))
        for question, cases in groupby(rows, key=lambda row: Question(*row[:3])):
            found = Counter(
                profile_of(Answer(*row[5:]) for row in some)
                for _, some in groupby(cases, key=lambda row: row[3])
            )
            for profile, n in found.items():
                if profile is not None:
                    yield profile.row(study_id, question, n)


def _of(table: type[Score] | type[Finding], reading: Reading) -> ColumnElement[bool]:
    return table.reading_id == reading.id


def _query(
    table: type[Score] | type[Finding], *rules: ColumnExpressionArgument[bool]
) -> Select[Any]:
    """Select question, case and reading, then the fields of `Answer`."""
    asked: tuple[Any, ...] = (
        (AnswerKind.SCORE.value, Score.criterion, Score.sequence, literal(""))
        if table is Score
        else (AnswerKind.FINDING.value, Finding.finding, literal(""), Finding.level)
    )
    kind, item, place, level = asked
    given = (table.reader_id, table.arm, table.repeat_round, table.value)
    return select(
        literal(kind).label("answer_kind"),
        item.label("item"),
        place.label("place"),
        table.case_id,
        table.reading_id,
        level.label("at_level"),
        *given,
    ).where(*rules)


def _upsert(session: Session, rows: list[dict[str, Any]]) -> Insert:
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    dialect: Any = sqlite if is_sqlite else postgresql
    statement = dialect.insert(AnswerProfile).values(rows)
    result: Insert = statement.on_conflict_do_update(
        index_elements=_KEY, set_={"n": AnswerProfile.n + statement.excluded.n}
    )
    return result
