"""Table 2 for each sequence: scores of image quality by reader and arm, and their agreement.

Everything but the groups comes from counts by category. A group of criteria (sharpness of seven
structures) is one value a case: the mean over its criteria, of the cases that have them all. Its
kappa takes every criterion, and allows for several of them in a patient.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind, Score
from halfscan_api.statistics.agreeing import (
    Compared,
    KappaRow,
    agreement_text,
    clustered_kappa_of,
    counts_of_table,
    gwet_of,
    kappa_of,
    weights_for,
)
from halfscan_api.statistics.counts import (
    Counts,
    PairCounts,
    Scale,
    Side,
    ValueCounts,
    group_means,
    no_tables,
    paired_values,
    patient_tables,
)
from halfscan_api.statistics.differing import (
    DifferenceRow,
    Draft,
    Numbers,
    adjusted_text,
    difference_notes,
    difference_rows,
    score_difference_text,
    summary_text,
    test_text,
)
from halfscan_api.statistics.frame import (
    Frame,
    ReaderOfStudy,
    Unit,
    sequences_of,
    units_of,
)
from halfscan_api.statistics.options import ScoreQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import Cell, Grid, Line, Table
from halfscan_api.studies.protocol import EndpointKind

Row = DifferenceRow | KappaRow
Both = tuple[Numbers, Numbers]
Means = dict[tuple[int, str], dict[int, float]]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the drafts of a sequence are made from."""

    values: ValueCounts
    pairs: PairCounts


def compute(session: Session, frame: Frame, options: ScoreQuery) -> Table[Row]:
    """Compute the table of every sequence, or of one.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : ScoreQuery

    Returns
    -------
    Table of DifferenceRow and KappaRow
    """
    sequences = sequences_of(frame, options.sequence)
    kind = AnswerKind.SCORE
    found = _Found(ValueCounts(session, frame, kind), PairCounts(session, frame, kind))
    # Of every sequence, whatever is asked for: the family of tests is that of the whole table.
    every = frame.protocol.sequence_names
    drafts = [draft for name in every for draft in _drafts(session, frame, found, name)]
    tested = difference_rows(frame, drafts, options, EndpointKind.IMAGE_QUALITY)
    rows: list[Row] = [row for row in tested if row.place in sequences]
    rows += _kappas(session, frame, found.pairs, options)
    return Table.of(
        frame,
        options,
        name="image-quality",
        title="Subjective image quality by reader and protocol",
        rows=tuple(rows),
        grids=tuple(_grid(frame, name, rows) for name in sequences),
        notes=(
            *difference_notes(frame, options, scores=True),
            (
                "A group of criteria: the mean over its criteria is one value a case; its kappa "
                "takes all criteria."
            ),
            (
                "Kappa between readers: within each protocol and pooled over the protocols; the "
                "second interval (patients) allows for several observations of a patient."
            ),
            *_scales(frame),
        ),
    )


def _drafts(session: Session, frame: Frame, found: _Found, sequence: str) -> Iterator[Draft]:
    for unit in units_of(frame.protocol, sequence):
        means: Means = {}
        if unit.level == "group":
            means = group_means(session, frame, unit.criteria, sequence)
        for arm in frame.test_arms:
            for reader in frame.readers:
                if unit.level == "group":
                    singles, pairs = _of_means(frame, means, reader, arm)
                else:
                    singles, pairs = _of_counts(frame, found, unit, sequence, reader, arm)
                yield Draft(
                    item=unit.name,
                    label=unit.label,
                    level=unit.level,
                    place=sequence,
                    reader=reader.name,
                    test_arm=arm,
                    singles=singles,
                    pairs=pairs,
                )


def _of_counts(
    frame: Frame, found: _Found, unit: Unit, sequence: str, reader: ReaderOfStudy, arm: str
) -> tuple[Both, Both]:
    reference, test = (
        found.values.values(unit.name, sequence, reader.id, name) for name in (frame.reference, arm)
    )
    sides = Side(reader.id, frame.reference), Side(reader.id, arm)
    table = found.pairs.table(unit.name, [sequence], unit.scale, *sides)
    return (reference, test), paired_values(table, unit.scale)


def _of_means(frame: Frame, means: Means, reader: ReaderOfStudy, arm: str) -> tuple[Both, Both]:
    reference = means.get((reader.id, frame.reference), {})
    test = means.get((reader.id, arm), {})
    both = sorted(reference.keys() & test.keys())
    singles = np.array(list(reference.values())), np.array(list(test.values()))
    pairs = np.array([reference[case] for case in both]), np.array([test[case] for case in both])
    return singles, pairs


def _kappas(
    session: Session, frame: Frame, pairs: PairCounts, options: ScoreQuery
) -> Iterator[KappaRow]:
    """Give the agreement of every two readers, pooled over the arms and within each."""
    profiles = Profiles(session, frame, AnswerKind.SCORE)
    for one, other in frame.reader_pairs:
        for arm in (None, *frame.protocol.arm_names):
            arms = tuple(frame.protocol.arm_names) if arm is None else (arm,)
            scope = "pooled" if arm is None else "within"
            compared = Compared("inter_reader", scope, (one.name, other.name), arms)
            sides = Side(one.id, arm), Side(other.id, arm)
            groups = _group_tables(session, frame, sides)
            for sequence in sequences_of(frame, options.sequence):
                for unit in units_of(frame.protocol, sequence):
                    if unit.level == "group":
                        tables = groups.get((unit.name, sequence), no_tables(unit.scale))
                        yield _kappa(frame, unit, sequence, compared, tables, options)
                    elif arm is None:
                        tables = profiles.tables(unit.name, sequence, unit.scale, sides)
                        yield _kappa(frame, unit, sequence, compared, tables, options)
                    else:
                        # One observation a patient: the stored counts say it all.
                        table = pairs.table(unit.name, [sequence], unit.scale, *sides)
                        yield _kappa(frame, unit, sequence, compared, table, options)


def _group_tables(
    session: Session, frame: Frame, sides: tuple[Side, Side]
) -> dict[tuple[str, str], Counts]:
    """Give the tables of groups of criteria: (group, sequence) -> (patient, category, category).

    What forms a group is the protocol's alone: these come from the answers themselves.
    """
    items: dict[Scale, dict[str, str]] = {}
    for sequence in frame.protocol.sequence_names:
        for unit in units_of(frame.protocol, sequence):
            if unit.level == "group":
                items.setdefault(unit.scale, {}).update(dict.fromkeys(unit.criteria, unit.name))
    return {
        key: tables
        for scale, names in items.items()
        for key, tables in patient_tables(
            session, frame, names, scale, sides, by_place=True, table=Score
        ).items()
    }


def _kappa(
    frame: Frame,
    unit: Unit,
    sequence: str,
    compared: Compared,
    counted: Counts,
    options: ScoreQuery,
) -> KappaRow:
    """Make a row of one table, or of those of all patients."""
    n_given = frame.n_cases * len(unit.criteria) * len(compared.arms)
    weights = weights_for(options.weights, unit.scale)
    make = clustered_kappa_of if counted.ndim == 3 else kappa_of
    whole = counted.sum(axis=0) if counted.ndim == 3 else counted
    return KappaRow(
        section="scores",
        item=unit.name,
        label=unit.label,
        level=unit.level,
        place=sequence,
        compared=compared,
        kappa=make(counted, unit.scale, weights, n_given, options.level),
        gwet=gwet_of(whole, unit.scale, weights, n_given, options.level),
        table=counts_of_table(whole),
    )


def _scales(frame: Frame) -> Iterator[str]:
    """Say what the points of each scale mean, each scale once."""
    scales: dict[str, list[str]] = {}
    for criterion in frame.protocol.criteria:
        points = "; ".join(f"{one.value}, {one.label}" for one in criterion.scale)
        scales.setdefault(points, []).append(criterion.label)
    for points, labels in scales.items():
        yield f"Scale of {', '.join(labels)}: {points}."


# --- layout ---------------------------------------------------------------------------------------


def _grid(frame: Frame, sequence: str, rows: list[Row]) -> Grid:
    here = [row for row in rows if row.place == sequence]
    differences = [row for row in here if isinstance(row, DifferenceRow)]
    kappas = [row for row in here if isinstance(row, KappaRow)]
    arms = frame.protocol.arm_names
    head: Line = (
        *(Cell(text) for text in ("", "Reader")),
        *(Cell(frame.arm_label(arm)) for arm in arms[:2]),
        *(Cell(text) for text in ("Difference", "p", "p adjusted")),
        Cell("Kappa between readers, pooled over protocols"),
        *(Cell(f"Kappa within {frame.arm_label(arm)}") for arm in arms),
    )
    body: list[Line] = []
    for key in dict.fromkeys((row.item, row.level, row.test_arm) for row in differences):
        some = [row for row in differences if (row.item, row.level, row.test_arm) == key]
        agreements = _agreements(arms, [row for row in kappas if (row.item, row.level) == key[:2]])
        for position, row in enumerate(some):
            first = position == 0
            label = (Cell(row.label, rows=len(some)),) if first else ()
            last = tuple(Cell(text, header=False, rows=len(some)) for text in agreements)
            body.append((*label, *_difference_cells(row), *(last if first else ())))
    caption = f"Image quality of {frame.sequence_label(sequence)} images"
    return Grid(caption, (head,), tuple(body))


def _difference_cells(row: DifferenceRow) -> Line:
    return (
        row.reader or "",
        summary_text(row.reference, 2),
        summary_text(row.test, 2),
        score_difference_text(row.difference, 2),
        test_text(row.difference),
        adjusted_text(row.adjusted),
    )


def _agreements(arms: list[str], kappas: list[KappaRow]) -> list[str]:
    """Write the kappas of an item: pooled, then within each arm; several pairs of readers below."""
    columns: list[tuple[str, ...]] = [tuple(arms), *((arm,) for arm in arms)]
    texts = []
    for column in columns:
        some = [row for row in kappas if row.compared.arms == column]
        named = len(some) > 1
        texts.append("\n".join(_kappa_text(row, named=named) for row in some))
    return texts


def _kappa_text(row: KappaRow, *, named: bool) -> str:
    text = agreement_text(row.kappa)
    return f"{' and '.join(row.compared.readers)}: {text}" if named else text
