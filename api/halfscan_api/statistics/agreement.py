"""Table 4: agreement between readers, between protocols, and of a reader with themselves.

Scores and findings by kappa, measurements by ICC(A,1). A score is one observation a patient; the
levels of a finding are several, so that the cluster-robust interval stands beside the naive one.
An ICC of two readers is given within each arm and pooled over the arms, and always says which.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.agreeing import (
    Compared,
    IccRow,
    KappaRow,
    agreement_text,
    clustered_kappa_of,
    counts_of_table,
    gwet_of,
    kappa_of,
    pooled_icc,
    weights_for,
)
from halfscan_api.statistics.counts import PairCounts, Side
from halfscan_api.statistics.fleiss import FleissRow, fleiss_rows
from halfscan_api.statistics.frame import Frame, scale_of
from halfscan_api.statistics.options import AgreementQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import Cell, Grid, Line, Table
from halfscan_api.statistics.values import SnrValues, snr_values
from halfscan_api.studies.protocol import RegionRole
from halfscan_stats import icc

Row = KappaRow | IccRow | FleissRow

NOTES = (
    ("n used, of those that there could be, stands beside."),
    (
        "Findings: all levels of all patients. The first interval takes levels for independent, "
        "the second (patients) allows for levels of the same patient."
    ),
    "Scores: one observation a patient for each sequence and criterion.",
    (
        "ICC of two readers: within one protocol, and pooled over the protocols (as the reference "
        "study published it). Pooling adds the difference between protocols to the variance "
        "between cases and lifts the ICC: the two must not be compared."
    ),
    "Words: Landis & Koch 1977. Raw agreement: share of identical answers.",
)


@dataclass(frozen=True, slots=True)
class _Pairing:
    compared: Compared
    sides: tuple[Side, Side]


def compute(session: Session, frame: Frame, options: AgreementQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : AgreementQuery

    Returns
    -------
    Table of KappaRow, IccRow or FleissRow
    """
    rows: list[Row] = []
    if options.section in {"all", "scores"}:
        rows += _score_rows(session, frame, options)
    if options.section in {"all", "findings"}:
        rows += _finding_rows(session, frame, options)
    if len(frame.readers) > 2:
        rows += fleiss_rows(session, frame, options)
    if options.section in {"all", "measurements"} and frame.protocol.regions:
        rows += _icc_rows(frame, snr_values(session, frame), options)
    return Table.of(
        frame,
        options,
        name="agreement",
        title="Agreement between readers and between protocols",
        rows=tuple(rows),
        grids=tuple(_grids(frame, rows)),
        notes=(
            f"Values with {100 * options.level:.4g}% confidence intervals in parentheses.",
            *NOTES,
        ),
    )


def pairings(frame: Frame, rounds: list[int]) -> Iterator[_Pairing]:
    """Give every two readings that are compared, in the order of the publication."""
    for arm in frame.protocol.arm_names:
        for one, other in frame.reader_pairs:
            compared = Compared("inter_reader", "within", (one.name, other.name), (arm,))
            yield _Pairing(compared, (Side(one.id, arm), Side(other.id, arm)))
    for arm in frame.test_arms:
        for reader in frame.readers:
            compared = Compared("inter_protocol", "between", (reader.name,), (frame.reference, arm))
            yield _Pairing(compared, (Side(reader.id, frame.reference), Side(reader.id, arm)))
    for repeat_round in rounds:
        for reader in frame.readers:
            for arm in frame.protocol.arm_names:
                compared = Compared("intra_reader", "within", (reader.name,), (arm,), repeat_round)
                yield _Pairing(compared, (Side(reader.id, arm), Side(reader.id, arm, repeat_round)))


def _score_rows(session: Session, frame: Frame, options: AgreementQuery) -> Iterator[KappaRow]:
    found = PairCounts(session, frame, AnswerKind.SCORE)
    for sequence in frame.protocol.sequence_names:
        for criterion in frame.protocol.criteria_of(sequence):
            scale = tuple(choice.value for choice in criterion.scale)
            weights = weights_for(options.weights, scale)
            for pairing in pairings(frame, found.rounds()):
                table = found.table(criterion.name, [sequence], scale, *pairing.sides)
                yield KappaRow(
                    section="scores",
                    item=criterion.name,
                    label=criterion.label,
                    level="criterion",
                    place=sequence,
                    compared=pairing.compared,
                    kappa=kappa_of(table, scale, weights, frame.n_cases, options.level),
                    gwet=gwet_of(table, scale, weights, frame.n_cases, options.level),
                    table=counts_of_table(table),
                )


def _finding_rows(session: Session, frame: Frame, options: AgreementQuery) -> Iterator[KappaRow]:
    rounds = PairCounts(session, frame, AnswerKind.FINDING).rounds()
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    kept = list(pairings(frame, rounds))
    for finding in frame.protocol.findings:
        scale, n_given = scale_of(finding), frame.n_cases * len(finding.levels)
        weights = weights_for(options.weights, scale)
        for pairing in kept:
            counted = profiles.tables(finding.name, "", scale, pairing.sides)
            whole = counted.sum(axis=0)
            yield KappaRow(
                section="findings",
                item=finding.name,
                label=finding.label,
                level="finding",
                place=None,
                compared=pairing.compared,
                kappa=clustered_kappa_of(counted, scale, weights, n_given, options.level),
                gwet=gwet_of(whole, scale, weights, n_given, options.level),
                table=counts_of_table(whole),
            )


def _icc_rows(frame: Frame, snr: SnrValues, options: AgreementQuery) -> Iterator[IccRow]:
    for sequence in frame.protocol.sequence_names:
        for region in frame.protocol.regions_of(sequence):
            if region.role is not RegionRole.SIGNAL:
                continue
            common = {"item": region.name, "label": region.label, "place": sequence}
            yield from reader_iccs(frame, snr, common, options.level)
            for pairing in pairings(frame, snr.rounds()):
                if pairing.compared.comparison == "inter_reader":
                    continue
                columns = [
                    snr.of(
                        sequence, region.name, side.reader or 0, side.arm or "", side.repeat_round
                    )
                    for side in pairing.sides
                ]
                answer = icc(np.column_stack(columns), level=options.level)
                yield IccRow(**common, compared=pairing.compared, icc=answer)


def reader_iccs(
    frame: Frame, snr: SnrValues, common: dict[str, str], level: float
) -> Iterator[IccRow]:
    """Give the ICC of all readers within each arm, then pooled over the arms.

    `common` holds item, label and place of the row.
    """
    if len(frame.readers) < 2:
        return
    names = tuple(reader.name for reader in frame.readers)
    arms = [
        np.column_stack(
            [snr.of(common["place"], common["item"], reader.id, arm) for reader in frame.readers]
        )
        for arm in frame.protocol.arm_names
    ]
    for arm, values in zip(frame.protocol.arm_names, arms, strict=True):
        compared = Compared("inter_reader", "within", names, (arm,))
        yield IccRow(**common, compared=compared, icc=icc(values, level=level))
    compared = Compared("inter_reader", "pooled", names, tuple(frame.protocol.arm_names))
    yield IccRow(**common, compared=compared, icc=pooled_icc(arms, level))


# --- layout ---------------------------------------------------------------------------------------


def _grids(frame: Frame, rows: list[Row]) -> Iterator[Grid]:
    sections: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        sections.setdefault((row.section, row.place), []).append(row)
    for (section, place), some in sections.items():
        what = {"scores": "image quality", "findings": "findings", "measurements": "SNR"}[section]
        where = f", {frame.sequence_label(place)}" if place else ""
        yield _grid(f"Agreement on {what}{where}", some)


def _grid(caption: str, rows: list[Row]) -> Grid:
    columns = list(dict.fromkeys(row.compared for row in rows))
    cells = {(row.item, row.compared): _cell(row) for row in rows}
    labels = {row.item: row.label for row in rows}
    head: Line = (Cell(""), *(Cell(heading(compared)) for compared in columns))
    body: tuple[Line, ...] = tuple(
        (Cell(label), *(cells.get((item, compared), "") for compared in columns))
        for item, label in labels.items()
    )
    return Grid(caption, (head,), body)


def heading(compared: Compared) -> str:
    """Name a column: which readings are compared."""
    readers = " and ".join(compared.readers)
    arms = " and ".join(compared.arms)
    if compared.comparison == "inter_reader":
        scope = "pooled over" if compared.scope == "pooled" else "within"
        return f"Inter-reader ({readers}), {scope} {arms}"
    if compared.comparison == "inter_protocol":
        return f"Inter-protocol ({arms}), intra-reader {readers}"
    return f"Intra-reader {readers}, {arms}, repeat {compared.repeat_round}"


def _cell(row: Row) -> str:
    return agreement_text(row.icc if isinstance(row, IccRow) else row.kappa)
