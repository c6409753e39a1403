"""Table 3 for each sequence: signal-to-noise ratio by region, reader and arm, and its agreement."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.measurements.tables import Measurement
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
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, Table, number
from halfscan_api.statistics.values import SnrValues, snr_values
from halfscan_api.studies.protocol import EndpointKind, Region, RegionRole
from halfscan_stats import Summary, summarize


@dataclass(frozen=True, slots=True)
class RegionSizeRow:
    """How large a reader drew a region in an arm.

    Attributes
    ----------
    kind : str
        ``region_size``.
    item, label : str
        Region.
    place : str
        Sequence.
    reader, arm : str
    area_mm2, pixels : Summary
        Of the measurements that say so, one a case.
    """

    item: str
    label: str
    place: str
    reader: str
    arm: str
    area_mm2: Summary
    pixels: Summary
    kind: str = "region_size"


Row = DifferenceRow | IccRow | RegionSizeRow

NOTES = (
    (
        "What this ratio cannot tell: parallel imaging makes the noise differ from place to place, "
        "so that the background says little of the tissue; in a magnitude image the SD of the "
        "background is 0.655 of the noise; and filters, denoising and deep-learning reconstruction "
        "take more noise from the background than from tissue. The ratio of such images is no "
        "measure of what was gained (Dietrich et al. 2007)."
    ),
    ("Sizes of the regions: of the measurements that state them, mean, SD and range."),
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
    rows += _sizes(session, frame, sequences)
    return Table(
        name="snr",
        title="Signal-to-noise ratio by region, reader and protocol",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=tuple(rows),
        grids=(
            *(_grid(frame, name, rows) for name in sequences),
            *_size_grids(frame, rows),
        ),
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


def _sizes(session: Session, frame: Frame, sequences: list[str]) -> Iterator[RegionSizeRow]:
    """Give the sizes of every region that has a measurement, the noise region too."""
    columns = (Measurement.sequence, Measurement.region, Measurement.reader_id, Measurement.arm)
    measured = session.execute(
        select(*columns, Measurement.area_mm2, Measurement.n_pixels).where(
            Measurement.study_id == frame.study_id,
            Measurement.counted,
            Measurement.repeat_round == 0,
            ~Measurement.transferred,
        )
    )
    areas: dict[tuple[str, str, int, str], list[float]] = {}
    pixels: dict[tuple[str, str, int, str], list[float]] = {}
    for sequence, region, reader_id, arm, area, n_pixels in measured:
        key = sequence, region, reader_id, arm
        areas.setdefault(key, []).append(math.nan if area is None else area)
        pixels.setdefault(key, []).append(math.nan if n_pixels is None else n_pixels)
    for place in sequences:
        for one in frame.protocol.regions_of(place):
            for reader in frame.readers:
                for arm in frame.protocol.arm_names:
                    key = place, one.name, reader.id, arm
                    if not all(map(math.isnan, areas.get(key, []))):
                        yield RegionSizeRow(
                            item=one.name,
                            label=one.label,
                            place=place,
                            reader=reader.name,
                            arm=arm,
                            area_mm2=summarize(np.array(areas[key]), show="mean_sd"),
                            pixels=summarize(np.array(pixels[key]), show="mean_sd"),
                        )


def _size_grids(frame: Frame, rows: list[Row]) -> Iterator[Grid]:
    sizes = [row for row in rows if isinstance(row, RegionSizeRow)]
    arms = frame.protocol.arm_names
    head: Line = tuple(Cell(text) for text in ("", "Reader", *map(frame.arm_label, arms)))
    for sequence in dict.fromkeys(row.place for row in sizes):
        here = {(row.item, row.reader, row.arm): row for row in sizes if row.place == sequence}
        labels = {row.item: row.label for row in sizes}
        body: tuple[Line, ...] = tuple(
            (
                Cell(labels[item]),
                reader,
                *(_size_text(here.get((item, reader, arm))) for arm in arms),
            )
            for item, reader in dict.fromkeys((item, reader) for item, reader, _ in here)
        )
        unit = "[mm\N{SUPERSCRIPT TWO}]"
        caption = f"Sizes of the regions on {frame.sequence_label(sequence)} images {unit}"
        yield Grid(caption, (head,), body)


def _size_text(row: RegionSizeRow | None) -> str:
    """Write mean and SD, the range and n."""
    if row is None:
        return NOTHING
    area = row.area_mm2
    return (
        f"{area.text(1)}\n{number(area.minimum, 1)} to {number(area.maximum, 1)}\n"
        f"n {area.n} of {area.n_given}"
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
