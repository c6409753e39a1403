"""Counts from the database: one value, two values of the same question, two values by patient.

The first two come from `AnswerCount` and `AnswerPair`, which move with the answers
(`readings.counts`): what is read grows with the categories, however many cases there are. The third
is a GROUP BY over the answers: patients whose tables are equal come as one row, with their number.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Integer, and_, case, cast, func, literal, select
from sqlalchemy.orm import Session, aliased

from halfscan_api.readings.tables import (
    AnswerCount,
    AnswerKind,
    AnswerPair,
    Finding,
    PairKind,
    Score,
)
from halfscan_api.statistics.frame import Frame

Counts = npt.NDArray[np.int64]
Scale = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """Whose answers one side of a table is made of.

    Attributes
    ----------
    reader : int or None
        None where both sides are the same reader, whoever it is.
    arm : str or None
        None where both sides are the same arm, whichever it is.
    repeat_round : int
        0 is the first reading.
    """

    reader: int | None
    arm: str | None
    repeat_round: int = 0


class ValueCounts:
    """How often each reader gave each value in the first reading.

    Parameters
    ----------
    session : Session
    frame : Frame
    kind : AnswerKind
    """

    def __init__(self, session: Session, frame: Frame, kind: AnswerKind) -> None:
        table = AnswerCount
        rows = session.execute(
            select(table.item, table.place, table.reader_id, table.arm, table.value, table.n).where(
                table.study_id == frame.study_id,
                table.answer_kind == kind.value,
                table.repeat_round == 0,
            )
        )
        self._found: dict[tuple[str, str, int, str], dict[int, int]] = defaultdict(dict)
        for item, place, reader, arm, value, n in rows:
            self._found[item, place, reader, arm][value] = n

    def values(self, item: str, place: str, reader: int, arm: str) -> Counts:
        """Give every value as often as it was given, in ascending order."""
        found = sorted(self._found.get((item, place, reader, arm), {}).items())
        return np.repeat(
            np.array([value for value, _ in found], dtype=np.int64), [n for _, n in found]
        )


class PairCounts:
    """Contingency tables of two readings of the same cases.

    Parameters
    ----------
    session : Session
    frame : Frame
    kind : AnswerKind
    """

    def __init__(self, session: Session, frame: Frame, kind: AnswerKind) -> None:
        table = AnswerPair
        rows = session.execute(
            select(
                table.pair_kind,
                table.item,
                table.place,
                table.reader_a,
                table.reader_b,
                table.arm_a,
                table.arm_b,
                table.repeat_round,
                table.value_a,
                table.value_b,
                table.n,
            ).where(table.study_id == frame.study_id, table.answer_kind == kind.value)
        )
        self._found: dict[tuple[Any, ...], list[tuple[int, int, int]]] = defaultdict(list)
        for *key, first, second, n in rows:
            self._found[tuple(key)].append((first, second, n))

    def rounds(self) -> list[int]:
        """Repeat rounds that were read, from 1."""
        kind = PairKind.INTRA_READER.value
        return sorted({key[-1] for key in self._found if key[0] == kind})

    def table(
        self, item: str, places: Iterable[str], scale: Scale, first: Side, second: Side
    ) -> Counts:
        """Give the table (category, category) of two sides, added up over places.

        Parameters
        ----------
        item : str
            Criterion or finding.
        places : iterable of str
            Sequences or levels.
        scale : tuple of int
        first, second : Side
            Each with its reader and arm.
        """
        kind = _kind_of(first, second)
        # Stored once: by reader, by arm in the plain order of characters, the first reading first.
        turned = (_rank(first), first.repeat_round) > (_rank(second), second.repeat_round)
        a, b = (second, first) if turned else (first, second)
        index = {value: position for position, value in enumerate(scale)}
        table = np.zeros((len(scale), len(scale)), dtype=np.int64)
        for place in places:
            key = (kind.value, item, place, a.reader, b.reader, a.arm, b.arm, b.repeat_round)
            for value_a, value_b, n in self._found.get(key, ()):
                table[index[value_a], index[value_b]] += n
        return table.T if turned else table


def patient_tables(
    session: Session,
    frame: Frame,
    items: Mapping[str, str],
    scale: Scale,
    sides: tuple[Side, Side],
    *,
    place: str | None = None,
    by_place: bool = False,
    table: type[Score] | type[Finding] = Finding,
) -> dict[tuple[str, str], Counts]:
    """Give the contingency tables of two sides, one a patient.

    Parameters
    ----------
    session : Session
    frame : Frame
    items : mapping
        Criterion or finding -> the row that it is part of.
    scale : tuple of int
        Of all these items.
    sides : Side, Side
    place : str, optional
        One sequence or level; all of them by default.
    by_place : bool
        Each place apart; else all together.
    table : type
        Where the answers lie.

    Returns
    -------
    dict
        (row, place, "" where they are together) -> counts (patient, category, category). Patients
        are in no order; those without a pair of answers are not there.
    """
    if not items:
        return {}
    a, b = aliased(table), aliased(table)
    item, where = ("criterion", "sequence") if table is Score else ("finding", "level")
    here = [] if place is None else [getattr(a, where) == place]
    pairs = (
        select(
            case(dict(items), value=getattr(a, item)).label("row"),
            (getattr(a, where) if by_place else literal("")).label("place"),
            a.case_id.label("patient"),
            a.value.label("first"),
            b.value.label("second"),
        )
        .join(
            b,
            and_(
                b.study_id == frame.study_id,
                getattr(b, item) == getattr(a, item),
                getattr(b, where) == getattr(a, where),
                b.case_id == a.case_id,
                b.counted,
                *_both_sides(a, b, *sides),
            ),
        )
        .where(a.study_id == frame.study_id, getattr(a, item).in_(list(items)), a.counted, *here)
        .subquery()
    )
    cells = [
        func.sum(case((and_(pairs.c.first == first, pairs.c.second == second), 1), else_=0)).label(
            f"cell_{i}_{j}"
        )
        for i, first in enumerate(scale)
        for j, second in enumerate(scale)
    ]
    key = (pairs.c.row, pairs.c.place)
    patients = select(*key, *cells).group_by(*key, pairs.c.patient).subquery()
    columns = list(patients.c)
    query = select(*columns, func.count().label("patients")).group_by(*columns).order_by(*columns)
    return _expanded(session.execute(query).all(), len(scale))


def group_means(
    session: Session, frame: Frame, criteria: Sequence[str], sequence: str
) -> dict[tuple[int, str], dict[int, float]]:
    """Give the mean over the criteria of a group, for each case that has them all.

    Returns
    -------
    dict
        (reader, arm) -> case -> mean.
    """
    key = (Score.reader_id, Score.arm, Score.case_id)
    rows = session.execute(
        select(*key, func.sum(cast(Score.value, Integer)))
        .where(
            Score.study_id == frame.study_id,
            Score.sequence == sequence,
            Score.criterion.in_(criteria),
            Score.counted,
            Score.repeat_round == 0,
        )
        .group_by(*key)
        .having(func.count() == len(criteria))
    )
    found: dict[tuple[int, str], dict[int, float]] = defaultdict(dict)
    for reader, arm, patient, total in rows:
        found[reader, arm][patient] = int(total) / len(criteria)
    return found


def presence(tables: Counts) -> Counts:
    """Turn tables of grades into tables of absent (0) and present (any other grade)."""
    found = np.empty((*tables.shape[:-2], 2, 2), dtype=np.int64)
    found[..., 0, 0] = tables[..., 0, 0]
    found[..., 0, 1] = tables[..., 0, 1:].sum(axis=-1)
    found[..., 1, 0] = tables[..., 1:, 0].sum(axis=-1)
    found[..., 1, 1] = tables[..., 1:, 1:].sum(axis=(-2, -1))
    return found


def paired_values(table: Counts, scale: Scale) -> tuple[Counts, Counts]:
    """Unfold a table into its pairs: the values of the first side, and of the second."""
    points = np.array(scale, dtype=np.int64)
    first, second = np.indices(table.shape)
    n = table.ravel()
    return np.repeat(points[first.ravel()], n), np.repeat(points[second.ravel()], n)


def with_patients(tables: Counts) -> tuple[Counts, Counts, Counts]:
    """Unfold tables (patient, category, category) into codes of both sides, and the patients."""
    patients, first, second = np.indices(tables.shape)
    n = tables.ravel()
    return (
        np.repeat(first.ravel(), n),
        np.repeat(second.ravel(), n),
        np.repeat(patients.ravel(), n),
    )


def no_tables(scale: Scale) -> Counts:
    """Give the tables of no patient."""
    return np.zeros((0, len(scale), len(scale)), dtype=np.int64)


def _expanded(rows: Sequence[Any], size: int) -> dict[tuple[str, str], Counts]:
    found: dict[tuple[str, str], list[tuple[list[int], int]]] = defaultdict(list)
    for row, place, *cells, patients in rows:
        found[row, place].append(([int(cell) for cell in cells], patients))
    return {
        key: np.repeat(
            np.array([cells for cells, _ in some], dtype=np.int64).reshape(-1, size, size),
            [patients for _, patients in some],
            axis=0,
        )
        for key, some in found.items()
    }


def _both_sides(a: Any, b: Any, first: Side, second: Side) -> list[ColumnElement[bool]]:
    rules = [a.repeat_round == first.repeat_round, b.repeat_round == second.repeat_round]
    for column, one, other in (
        ("reader_id", first.reader, second.reader),
        ("arm", first.arm, second.arm),
    ):
        if one is None or other is None:
            rules.append(getattr(b, column) == getattr(a, column))
        else:
            rules += [getattr(a, column) == one, getattr(b, column) == other]
    return rules


def _kind_of(first: Side, second: Side) -> PairKind:
    if first.reader != second.reader:
        return PairKind.INTER_READER
    return PairKind.INTER_ARM if first.arm != second.arm else PairKind.INTRA_READER


def _rank(side: Side) -> tuple[int, str]:
    if side.reader is None or side.arm is None:
        raise ValueError(f"a stored table needs a reader and an arm on either side, got {side}")
    return side.reader, side.arm
