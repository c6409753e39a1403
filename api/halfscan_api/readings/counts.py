"""Counts by category that move with the answers, so that a statistic reads counts, not answers.

A reading counts from its completion on. `count_in` adds its answers to `AnswerCount`, and to
`AnswerPair` the pairs that they form with the answers of the readings of the same case that count
already, and moves the case from one `AnswerProfile` to another; `count_out` takes them away again.
An amendment takes out, changes, puts in; so does an exclusion. The study must be locked meanwhile
(`studies.service.lock_study`): two readings of a case that were counted at the same moment would
miss each other's pairs.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    String,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from halfscan_api.readings.profiles import expected_profiles, move_profiles
from halfscan_api.readings.sheet import Row, Sheet
from halfscan_api.readings.tables import (
    AnswerCount,
    AnswerKind,
    AnswerPair,
    AnswerProfile,
    Finding,
    PairKind,
    Reading,
    Score,
)

_COUNT_KEY = [column.name for column in AnswerCount.__table__.primary_key]
_PAIR_KEY = [column.name for column in AnswerPair.__table__.primary_key]


class _Source(NamedTuple):
    """A table of answers, and its columns that name the question."""

    kind: AnswerKind
    table: Any
    item: str
    place: str


class _Pairing(NamedTuple):
    """When two answers to the same question form a pair, and when `a` stands first in it."""

    kind: PairKind
    matches: ColumnElement[bool]
    a_first: ColumnElement[bool]


_SOURCES = (
    _Source(AnswerKind.SCORE, Score, "criterion", "sequence"),
    _Source(AnswerKind.FINDING, Finding, "finding", "level"),
)


def count_in(session: Session, sheet: Sheet) -> None:
    """Let a completed reading count; one that counts already stays as it is."""
    if sheet.reading.counted:
        return
    session.flush()
    _add(session, sheet.reading, sign=1)
    _mark(sheet, counted=True)
    session.flush()


def count_out(session: Session, sheet: Sheet) -> None:
    """Let a reading no longer count; one that does not stays as it is."""
    if not sheet.reading.counted:
        return
    _mark(sheet, counted=False)
    session.flush()
    _add(session, sheet.reading, sign=-1)
    for table in (AnswerCount, AnswerPair):
        session.execute(delete(table).where(table.study_id == sheet.reading.study_id, table.n == 0))


def recount(session: Session, study_id: int) -> None:
    """Count a study anew from its answers; after this the tables are as they must be."""
    for table in (AnswerCount, AnswerPair, AnswerProfile):
        session.execute(delete(table).where(table.study_id == study_id))
    for query in expected_counts(study_id):
        session.execute(insert(AnswerCount).from_select([*_COUNT_KEY, "n"], query))
    for query in expected_pairs(session, study_id):
        session.execute(insert(AnswerPair).from_select([*_PAIR_KEY, "n"], query))
    profiles = list(expected_profiles(session, study_id))
    if profiles:
        session.execute(insert(AnswerProfile), profiles)


def wrong_counts(session: Session, study_id: int) -> int:
    """Count the rows of the three tables that are not what the answers say."""
    return sum(1 for _ in unlike_counts(session, study_id))


def unlike_counts(session: Session, study_id: int) -> Iterator[tuple[str, str, str]]:
    """Find the rows of the three tables that are not what the answers say.

    Yields
    ------
    str, str, str
        Table, key of the row, and the columns of which one is wrong.
    """
    for table, key, expected in (
        (AnswerCount, _COUNT_KEY, _rows_of(session, expected_counts(study_id))),
        (AnswerPair, _PAIR_KEY, _rows_of(session, expected_pairs(session, study_id))),
        (
            AnswerProfile,
            [column.name for column in AnswerProfile.__table__.primary_key],
            (tuple(row.values()) for row in expected_profiles(session, study_id)),
        ),
    ):
        others = [one.name for one in table.__table__.columns if one.name not in key]
        columns = [getattr(table, name) for name in (*key, *others)]
        rows = session.execute(select(*columns).where(table.study_id == study_id))
        yield from _unlike(table.__tablename__, key, others, {tuple(row) for row in rows}, expected)


def _rows_of(session: Session, queries: Iterable[Select[Any]]) -> Iterator[tuple[Any, ...]]:
    for query in queries:
        for row in session.execute(query):
            yield tuple(row)


def _unlike(
    table: str,
    key: list[str],
    others: list[str],
    stored: set[tuple[Any, ...]],
    expected: Iterable[tuple[Any, ...]],
) -> Iterator[tuple[str, str, str]]:
    wanted = set(expected)
    n = len(key)
    counted = {row[:n]: row[n:] for row in wanted - stored}
    for row in stored - wanted:
        due = counted.pop(row[:n], None)
        wrong = [
            name
            for name, one, other in zip(others, row[n:], due or (), strict=False)
            if one != other
        ]
        yield table, _shown(row[:n]), ", ".join(wrong or key)
    for missing in counted:
        yield table, _shown(missing), ", ".join(key)


def _shown(key: tuple[Any, ...]) -> str:
    return "/".join(map(str, key))


def expected_counts(study_id: int) -> Iterator[Select[Any]]:
    """Give the queries whose rows must be those of `AnswerCount`."""
    for source in _SOURCES:
        yield _count_query(source).where(source.table.counted, source.table.study_id == study_id)


def expected_pairs(session: Session, study_id: int) -> Iterator[Select[Any]]:
    """Give the queries whose rows must be those of `AnswerPair`: each pair once, `a` first.

    Two readings of a case are found first, by the index of the case, and then their answers, by the
    reading: of the answers alone, SQLite would hold each one against all others to its question.
    (So no answer is asked for its study here: the index of that would be taken.)
    """
    one, other = aliased(Reading), aliased(Reading)
    for source in _SOURCES:
        a, b = aliased(source.table), aliased(source.table)
        for pairing in _pairings(session, a, b):
            yield _pair_query(source, pairing, a, b).where(
                one.study_id == study_id,
                one.counted,
                other.case_id == one.case_id,
                other.counted,
                a.reading_id == one.id,
                b.reading_id == other.id,
                a.counted,
                b.counted,
                pairing.a_first,
            )


def _mark(sheet: Sheet, *, counted: bool) -> None:
    rows: Iterable[Row] = (
        *sheet.scores.values(),
        *sheet.findings.values(),
        *sheet.measurements.values(),
    )
    sheet.reading.counted = counted
    for row in rows:
        row.counted = counted


def _add(session: Session, reading: Reading, *, sign: int) -> None:
    """Add (or take away) what one reading contributes; it does not count at this moment."""
    move_profiles(session, reading, sign=sign)
    others = session.scalars(
        select(Reading.id).where(
            Reading.case_id == reading.case_id, Reading.counted, Reading.id != reading.id
        )
    ).all()
    for source in _SOURCES:
        own = _count_query(source).where(source.table.reading_id == reading.id)
        session.execute(_upsert(session, AnswerCount, _COUNT_KEY, own, sign))
        if not others:
            continue
        a, b = aliased(source.table), aliased(source.table)
        for pairing in _pairings(session, a, b):
            paired = _pair_query(source, pairing, a, b)
            paired = paired.where(a.reading_id == reading.id, b.reading_id.in_(others))
            session.execute(_upsert(session, AnswerPair, _PAIR_KEY, paired, sign))


def _count_query(source: _Source) -> Select[Any]:
    table = source.table
    columns = (
        table.study_id,
        literal(source.kind.value, String).label("answer_kind"),
        getattr(table, source.item).label("item"),
        getattr(table, source.place).label("place"),
        table.reader_id,
        table.arm,
        table.repeat_round,
        table.value,
    )
    return select(*columns, func.count().label("n")).group_by(*_numbers(columns))


def _pairings(session: Session, a: Any, b: Any) -> Iterator[_Pairing]:
    # The plain order of characters, which PostgreSQL has under another name than SQLite.
    plain = "BINARY" if _is_sqlite(session) else "C"
    first_reading = and_(a.repeat_round == 0, b.repeat_round == 0)
    yield _Pairing(
        PairKind.INTER_READER,
        and_(first_reading, a.arm == b.arm, a.reader_id != b.reader_id),
        a.reader_id < b.reader_id,
    )
    yield _Pairing(
        PairKind.INTER_ARM,
        and_(first_reading, a.reader_id == b.reader_id, a.arm != b.arm),
        a.arm.collate(plain) < b.arm.collate(plain),
    )
    one_repeated = (a.repeat_round == 0) != (b.repeat_round == 0)
    yield _Pairing(
        PairKind.INTRA_READER,
        and_(one_repeated, a.reader_id == b.reader_id, a.arm == b.arm),
        a.repeat_round == 0,
    )


def _pair_query(source: _Source, pairing: _Pairing, a: Any, b: Any) -> Select[Any]:
    def first(name: str) -> ColumnElement[Any]:
        return case((pairing.a_first, getattr(a, name)), else_=getattr(b, name))

    def second(name: str) -> ColumnElement[Any]:
        return case((pairing.a_first, getattr(b, name)), else_=getattr(a, name))

    columns = (
        a.study_id,
        literal(pairing.kind.value, String).label("pair_kind"),
        literal(source.kind.value, String).label("answer_kind"),
        getattr(a, source.item).label("item"),
        getattr(a, source.place).label("place"),
        first("reader_id").label("reader_a"),
        second("reader_id").label("reader_b"),
        first("arm").label("arm_a"),
        second("arm").label("arm_b"),
        second("repeat_round").label("repeat_round"),
        first("value").label("value_a"),
        second("value").label("value_b"),
    )
    same = and_(
        a.case_id == b.case_id,
        getattr(a, source.item) == getattr(b, source.item),
        getattr(a, source.place) == getattr(b, source.place),
        pairing.matches,
    )
    return select(*columns, func.count().label("n")).join(b, same).group_by(*_numbers(columns))


def _numbers(columns: Iterable[Any]) -> list[ColumnElement[Any]]:
    """Group by the place of a column: expressions with parameters are equal for no database."""
    return [literal_column(str(number)) for number, _ in enumerate(columns, 1)]


def _upsert(session: Session, table: Any, key: list[str], query: Select[Any], sign: int) -> Insert:
    counted = query.subquery()
    signed = select(*(counted.c[name] for name in key), counted.c.n * sign).where(counted.c.n > 0)
    dialect: Any = sqlite if _is_sqlite(session) else postgresql
    statement = dialect.insert(table).from_select([*key, "n"], signed)
    result: Insert = statement.on_conflict_do_update(
        index_elements=key, set_={"n": table.n + statement.excluded.n}
    )
    return result


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
