"""Table 3 for each sequence: signal-to-noise ratio by region, reader and arm, and its agreement."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from halfscan_api.statistics.agreeing import IccRow, agreement_text
from halfscan_api.statistics.agreement import reader_iccs
from halfscan_api.statistics.differing import (
    DifferenceRow,
    Draft,
    adjusted_text,
    complete,
    complete_pairs,
    difference_notes,
    difference_rows,
    difference_text,
    summary_text,
    test_text,
)
from halfscan_api.statistics.frame import Frame, sequences_of
from halfscan_api.statistics.options import SnrQuery
from halfscan_api.statistics.results import Cell, Grid, Line, Table
from halfscan_api.statistics.values import SnrValues, snr_values
from halfscan_api.studies.protocol import EndpointKind, Region, RegionRole

Row = DifferenceRow | IccRow

NOTES = (
    (
        "SNR: mean signal of the region over the standard deviation of the noise region of the "
        "same sequence, as each reader measured them."
    ),
    (
        "ICC(A,1): two-way, absolute agreement, single reader. Pooled over the protocols (as the "
        "reference study published it; the second interval allows for the two values of a patient) "
        "and within each protocol: pooling adds the difference between protocols to the variance "
        "between cases."
    ),
)


def compute(session: Session, frame: Frame, options: SnrQuery) -> Table[Row]:
    """Compute the table of every sequence, or of one.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : SnrQuery

    Returns
    -------
    Table of DifferenceRow and IccRow
    """
    asked = sequences_of(frame, options.sequence)
    sequences = [name for name in asked if signal_regions(frame, name)]
    snr = snr_values(session, frame)
    # Of every sequence, whatever is asked for: the family of tests is that of the whole table.
    every = frame.protocol.sequence_names
    drafts = [draft for name in every for draft in _drafts(frame, snr, name)]
    tested = difference_rows(frame, drafts, options, EndpointKind.SNR)
    rows: list[Row] = [row for row in tested if row.place in sequences]
    for name in sequences:
        for region in signal_regions(frame, name):
            common = {"item": region.name, "label": region.label, "place": name}
            rows += reader_iccs(frame, snr, common, options.level)
    return Table(
        name="snr",
        title="Signal-to-noise ratio by region, reader and protocol",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=tuple(rows),
        grids=tuple(_grid(frame, name, rows) for name in sequences),
        notes=(*difference_notes(frame, options), *NOTES),
    )


def signal_regions(frame: Frame, sequence: str) -> list[Region]:
    """Regions of a sequence that have an SNR."""
    return [one for one in frame.protocol.regions_of(sequence) if one.role is RegionRole.SIGNAL]


def _drafts(frame: Frame, snr: SnrValues, sequence: str) -> Iterator[Draft]:
    for region in signal_regions(frame, sequence):
        for arm in frame.test_arms:
            for reader in frame.readers:
                reference, test = (
                    snr.of(sequence, region.name, reader.id, name)
                    for name in (frame.reference, arm)
                )
                yield Draft(
                    item=region.name,
                    label=region.label,
                    level="region",
                    place=sequence,
                    reader=reader.name,
                    test_arm=arm,
                    singles=(complete(reference), complete(test)),
                    pairs=complete_pairs(reference, test),
                )


def _grid(frame: Frame, sequence: str, rows: list[Row]) -> Grid:
    here = [row for row in rows if row.place == sequence]
    arms = frame.protocol.arm_names
    head: Line = (
        *(Cell(text) for text in ("", "Reader")),
        *(Cell(frame.arm_label(arm)) for arm in arms[:2]),
        *(Cell(text) for text in ("Difference", "p", "p adjusted")),
        Cell("ICC, pooled over protocols"),
        *(Cell(f"ICC within {frame.arm_label(arm)}") for arm in arms),
    )
    scopes: list[tuple[str, ...]] = [tuple(arms), *((arm,) for arm in arms)]
    iccs = {(row.item, row.compared.arms): row for row in here if isinstance(row, IccRow)}
    differences = [row for row in here if isinstance(row, DifferenceRow)]
    body: list[Line] = []
    for key in dict.fromkeys((row.item, row.test_arm) for row in differences):
        some = [row for row in differences if (row.item, row.test_arm) == key]
        for position, row in enumerate(some):
            cells: Line = (
                row.reader or "",
                summary_text(row.reference, 1),
                summary_text(row.test, 1),
                difference_text(row.difference, 1),
                test_text(row.difference),
                adjusted_text(row.adjusted),
            )
            if position == 0:
                found = [iccs.get((row.item, scope)) for scope in scopes]
                texts = [agreement_text(one.icc) if one is not None else "" for one in found]
                last = (Cell(text, header=False, rows=len(some)) for text in texts)
                cells = (Cell(row.label, rows=len(some)), *cells, *last)
            body.append(cells)
    caption = f"Signal-to-noise ratio on {frame.sequence_label(sequence)} images"
    return Grid(caption, (head,), tuple(body))
