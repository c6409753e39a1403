"""Answers patient by patient, without reading them answer by answer: from `AnswerProfile`.

Patients whose answers are the same are one row of the database. Here they become as many again,
in arrays: which patient is which, and which level, is neither known nor needed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind, AnswerProfile
from halfscan_api.statistics.counts import Counts, Scale, Side, no_tables
from halfscan_api.statistics.frame import Frame

Numbers = npt.NDArray[np.float64]
_MISSING = re.compile(r"-(?!\d)")  # a value may be negative


@dataclass(frozen=True, slots=True)
class _Block:
    """Profiles with the same readings and as many levels.

    Attributes
    ----------
    readings : tuple of (int, str, int)
        Reader, arm, repeat round.
    values : ndarray
        (profile, level, reading), NaN where there is no answer.
    n : ndarray
        (profile,), patients.
    """

    readings: tuple[tuple[int, str, int], ...]
    values: Numbers
    n: Counts
    coded: dict[Scale, Counts] = field(default_factory=dict)

    def codes(self, scale: Scale) -> Counts:
        """Give the places of the values on a scale, -1 where there is none."""
        if scale not in self.coded:
            codes = np.full(self.values.shape, -1, dtype=np.int64)
            for code, value in enumerate(scale):
                codes[self.values == value] = code
            self.coded[scale] = codes
        return self.coded[scale]


class Profiles:
    """The profiles of a study.

    Parameters
    ----------
    session : Session
    frame : Frame
    kind : AnswerKind
        Scores lie under criterion and sequence; findings under their name and "".
    """

    def __init__(self, session: Session, frame: Frame, kind: AnswerKind) -> None:
        table = AnswerProfile
        # Sums round by the order of what is summed: it is the same in every database.
        rows = session.execute(
            select(table.item, table.place, table.readings, table.answers, table.n)
            .where(table.study_id == frame.study_id, table.answer_kind == kind.value)
            .order_by(table.digest)
        )
        found: dict[tuple[str, str], dict[tuple[str, int], list[tuple[str, int]]]]
        found = defaultdict(lambda: defaultdict(list))
        for item, place, readings, answers, n in rows:
            found[item, place][readings, answers.count(" ") + 1].append((answers, n))
        self._blocks = {
            question: [_block(*key, some) for key, some in blocks.items()]
            for question, blocks in found.items()
        }

    def tables(self, item: str, place: str, scale: Scale, sides: tuple[Side, Side]) -> Counts:
        """Give the contingency tables of two sides, one a patient.

        Parameters
        ----------
        item, place : str
        scale : tuple of int
        sides : Side, Side

        Returns
        -------
        ndarray
            Counts (patient, category, category), levels added up. Patients without a pair of
            answers are not there.
        """
        size = len(scale)
        found = [no_tables(scale)]
        for block in self._blocks.get((item, place), ()):
            codes = block.codes(scale)
            cells = np.zeros(len(codes) * size**2, dtype=np.int64)
            for a, b in _pairs(block, *sides):
                first, second = codes[:, :, a], codes[:, :, b]
                there = (first >= 0) & (second >= 0)
                patient = np.nonzero(there)[0]
                where = (patient * size + first[there]) * size + second[there]
                cells += np.bincount(where, minlength=cells.size)
            tables = cells.reshape(-1, size, size)
            kept = tables.any(axis=(1, 2))
            found.append(np.repeat(tables[kept], block.n[kept], axis=0))
        return np.concatenate(found)

    def answers(
        self, item: str, place: str, readings: Sequence[tuple[int, str]], shape: tuple[int, int]
    ) -> Numbers:
        """Give the first answers of some readings.

        Parameters
        ----------
        item, place : str
        readings : sequence of (int, str)
            Reader and arm.
        shape : (int, int)
            Levels and patients that there could be.

        Returns
        -------
        ndarray
            (level, patient, reading), NaN where there is no answer. A level is the same one for
            all readings of a patient, and any one for different patients.
        """
        blocks = self._blocks.get((item, place), ())
        n_levels = max([shape[0], *(block.values.shape[1] for block in blocks)])
        n_patients = max(shape[1], sum(int(block.n.sum()) for block in blocks))
        found = np.full((n_levels, n_patients, len(readings)), np.nan)
        start = 0
        for block in blocks:
            values = np.repeat(block.values, block.n, axis=0).transpose(1, 0, 2)
            stop = start + values.shape[1]
            columns = {reading: column for column, reading in enumerate(block.readings)}
            for position, (reader, arm) in enumerate(readings):
                column = columns.get((reader, arm, 0))
                if column is not None:
                    found[: len(values), start:stop, position] = values[:, :, column]
            start = stop
        return found

    def readers_by_value(
        self, item: str, place: str, scale: Scale, arm: str
    ) -> tuple[Counts, Counts]:
        """Count the readers who gave each value with one arm in the first reading.

        Returns
        -------
        ndarray, ndarray
            Counts (observation, category), and the patient of each observation. Observations
            without an answer are not there.
        """
        counts = [np.zeros((0, len(scale)), dtype=np.int64)]
        patients = [np.zeros(0, dtype=np.int64)]
        start = 0
        for block in self._blocks.get((item, place), ()):
            own = [i for i, one in enumerate(block.readings) if one[1:] == (arm, 0)]
            codes = np.repeat(block.codes(scale)[:, :, own], block.n, axis=0)
            given = np.stack([(codes == one).sum(axis=2) for one in range(len(scale))], axis=2)
            kept = given.any(axis=2)
            counts.append(given[kept])
            patients.append(start + np.nonzero(kept)[0])
            start += len(codes)
        return np.concatenate(counts), np.concatenate(patients)


def _block(readings: str, n_levels: int, rows: list[tuple[str, int]]) -> _Block:
    names = tuple((reader, arm, number) for reader, arm, number in json.loads(readings))
    text = ",".join(answers for answers, _ in rows).replace(" ", ",")
    values = np.array(_MISSING.sub("nan", text).split(","), dtype=np.float64)
    n = np.array([n for _, n in rows], dtype=np.int64)
    return _Block(names, values.reshape(len(rows), n_levels, len(names)), n)


def _pairs(block: _Block, first: Side, second: Side) -> Iterator[tuple[int, int]]:
    """Give the readings that the two sides are made of, by their places."""
    for i, (reader_a, arm_a, round_a) in enumerate(block.readings):
        for j, (reader_b, arm_b, round_b) in enumerate(block.readings):
            if (
                (round_a, round_b) == (first.repeat_round, second.repeat_round)
                and _are((reader_a, reader_b), (first.reader, second.reader))
                and _are((arm_a, arm_b), (first.arm, second.arm))
            ):
                yield i, j


def _are(found: tuple[object, object], asked: tuple[object, object]) -> bool:
    """Tell whether two are those asked for; where one is None, any two that are the same."""
    return found[0] == found[1] if None in asked else found == asked
