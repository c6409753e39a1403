"""Table 3 for each sequence: signal-to-noise ratio by region, reader and arm, and its agreement.

Beside the ratio to the background, which the reference study published, stand those by a repeated
series and by a noise map, where cases have them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

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
from halfscan_api.statistics.region_sizes import NOTE as SIZE_NOTE
from halfscan_api.statistics.region_sizes import SizeRow, size_grid, size_rows
from halfscan_api.statistics.results import Cell, Grid, Line, Table
from halfscan_api.statistics.values import SnrValues, noise_snr_values, snr_values
from halfscan_api.studies.protocol import EndpointKind, Region, RegionRole
from halfscan_stats import RAYLEIGH_SD, SnrMethod

METHOD_LABELS = {
    SnrMethod.BACKGROUND: "Background",
    SnrMethod.DIFFERENCE: "Difference of two acquisitions",
    SnrMethod.NOISE_MAP: "Noise map",
}
NOTES = (
    (
        "SNR: mean signal of the region over the standard deviation of the noise region of the "
        "same sequence, as each reader measured them."
    ),
    (
        "What this ratio to the background cannot tell: how much noise there is in the region. "
        "Parallel imaging makes noise differ from place to place (geometry factor), and least of "
        "it may lie in the background. Filters and denoisers take more of the SD out of the "
        "background than out of tissue, so that the ratio overstates what they gain. In magnitude "
        "images of one coil the background's SD is "
        f"{RAYLEIGH_SD:.3f} of that of the noise (Rayleigh distribution), and the ratio, which is "
        f"not corrected, {1 / RAYLEIGH_SD:.2f} times the SNR; several coils have other factors. "
        "Dietrich et al. 2007 (doi:10.1002/jmri.20969), Reeder et al. 2005 "
        "(doi:10.1002/mrm.20636). A difference of this ratio between protocols is therefore no "
        "proof of a difference of SNR."
    ),
    (
        "ICC(A,1): two-way, absolute agreement, single reader. Pooled over the protocols (as the "
        "reference study published it; the second interval allows for the two values of a patient) "
        "and within each protocol: pooling adds the difference between protocols to the variance "
        "between cases."
    ),
)


METHOD_NOTES = {
    SnrMethod.DIFFERENCE: (
        "SNR by difference: mean of half the sum of two acquisitions over the SD of their "
        "difference / sqrt(2), in the pixels of the region as the reader placed it, where a case "
        "has a repeated series in the arm (Reeder et al. 2005; NEMA MS 1). Movement between the "
        "two counts as noise. Of a denoised series it is the noise that is left: detail that was "
        "lost with it is no noise, and shows in no SNR."
    ),
    SnrMethod.NOISE_MAP: (
        "SNR by noise map: mean signal over the mean of the map in the pixels of the region, where "
        "a case has a noise map in the arm. It is as good as the map."
    ),
}
EXPLORATORY_NOTE = (
    "Tests of the SNR by difference and by noise map are exploratory, and no part of the families "
    "of the ratio to the background: each method is one of its own."
)


@dataclass(frozen=True, slots=True)
class SnrRow(DifferenceRow):
    """SNR of one region, read by one reader in two arms, by one method.

    Attributes
    ----------
    method : str
        How the noise is known: ``background``, ``difference`` or ``noise_map``.
    """

    method: str = SnrMethod.BACKGROUND.value


Row = SnrRow | IccRow | SizeRow


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
    Table of SnrRow, IccRow and SizeRow
    """
    asked = sequences_of(frame, options.sequence)
    sequences = [name for name in asked if signal_regions(frame, name)]
    snr = snr_values(session, frame)
    # Of every sequence, whatever is asked for: the family of tests is that of the whole table.
    every = frame.protocol.sequence_names
    drafts = [draft for name in every for draft in _drafts(frame, snr, name)]
    tested = _of_method(
        SnrMethod.BACKGROUND, difference_rows(frame, drafts, options, EndpointKind.SNR)
    )
    others = noise_snr_values(session, frame)
    for method, values in others.items():
        tested += _by_noise(frame, options, method, values)
    rows: list[Row] = [row for row in tested if row.place in sequences]
    methods = [one for one in others if any(row.method == one for row in tested)]
    for name in sequences:
        for region in signal_regions(frame, name):
            common = {"item": region.name, "label": region.label, "place": name}
            rows += reader_iccs(frame, snr, common, options.level)
    sizes = size_rows(session, frame, sequences)
    rows += sizes
    return Table.of(
        frame,
        options,
        name="snr",
        title="Signal-to-noise ratio by region, reader and protocol",
        rows=tuple(rows),
        grids=tuple(grid for name in sequences for grid in _grids(frame, name, rows)),
        notes=(*difference_notes(frame, options), *NOTES, *_further_notes(methods, sizes)),
    )


def _further_notes(methods: Sequence[SnrMethod], sizes: Sequence[SizeRow]) -> Iterator[str]:
    yield from (METHOD_NOTES[method] for method in methods)
    if methods:
        yield EXPLORATORY_NOTE
    if sizes:
        yield SIZE_NOTE


def _of_method(method: SnrMethod, rows: Sequence[DifferenceRow]) -> list[SnrRow]:
    names = [field.name for field in fields(DifferenceRow)]
    return [
        SnrRow(**{name: getattr(row, name) for name in names}, method=method.value) for row in rows
    ]


def _by_noise(
    frame: Frame, options: SnrQuery, method: SnrMethod, values: SnrValues
) -> list[SnrRow]:
    """Give the rows of a method: of the regions and readers that have a value by it."""
    drafts = [
        draft
        for name in frame.protocol.sequence_names
        for draft in _drafts(frame, values, name)
        if any(map(len, draft.singles))
    ]
    return _of_method(method, difference_rows(frame, drafts, options, None))


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


def _grids(frame: Frame, sequence: str, rows: Sequence[Row]) -> Iterator[Grid]:
    """Lay a sequence out: as published, by method where there is another one, and the sizes."""
    here = [row for row in rows if row.place == sequence]
    yield _grid(frame, sequence, here)
    compared = [row for row in here if isinstance(row, SnrRow)]
    if any(row.method != SnrMethod.BACKGROUND for row in compared):
        yield _method_grid(frame, sequence, compared)
    sizes = size_grid(frame, sequence, [row for row in here if isinstance(row, SizeRow)])
    if sizes is not None:
        yield sizes


def _method_grid(frame: Frame, sequence: str, rows: Sequence[SnrRow]) -> Grid:
    """Lay the methods out below each other, for the regions and readers that have several."""
    several = {
        (row.item, row.test_arm, row.reader)
        for row in rows
        if row.method != SnrMethod.BACKGROUND.value
    }
    by_reader = {
        key: [row for row in rows if (row.item, row.test_arm, row.reader) == key]
        for key in dict.fromkeys((row.item, row.test_arm, row.reader) for row in rows)
        if key in several
    }
    arms = frame.protocol.arm_names
    head: Line = (
        *(Cell(text) for text in ("", "Reader", "Noise from")),
        *(Cell(frame.arm_label(arm)) for arm in arms[:2]),
        *(Cell(text) for text in ("Difference", "p", "p adjusted")),
    )
    body: list[Line] = []
    for some in by_reader.values():
        for position, row in enumerate(some):
            cells: Line = (METHOD_LABELS[SnrMethod(row.method)], *_difference_cells(row))
            if position == 0:
                cells = (
                    Cell(row.label, rows=len(some)),
                    Cell(row.reader or "", header=False, rows=len(some)),
                    *cells,
                )
            body.append(cells)
    caption = (
        f"Signal-to-noise ratio on {frame.sequence_label(sequence)} images, by how the noise is "
        "known"
    )
    return Grid(caption, (head,), tuple(body))


def _difference_cells(row: SnrRow) -> tuple[str, ...]:
    return (
        summary_text(row.reference, 1),
        summary_text(row.test, 1),
        difference_text(row.difference, 1),
        test_text(row.difference),
        adjusted_text(row.adjusted),
    )


def _grid(frame: Frame, sequence: str, here: Sequence[Row]) -> Grid:
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
    background = SnrMethod.BACKGROUND.value
    differences = [row for row in here if isinstance(row, SnrRow) and row.method == background]
    body: list[Line] = []
    for key in dict.fromkeys((row.item, row.test_arm) for row in differences):
        some = [row for row in differences if (row.item, row.test_arm) == key]
        for position, row in enumerate(some):
            cells: Line = (row.reader or "", *_difference_cells(row))
            if position == 0:
                found = [iccs.get((row.item, scope)) for scope in scopes]
                texts = [agreement_text(one.icc) if one is not None else "" for one in found]
                last = (Cell(text, header=False, rows=len(some)) for text in texts)
                cells = (Cell(row.label, rows=len(some)), *cells, *last)
            body.append(cells)
    caption = f"Signal-to-noise ratio on {frame.sequence_label(sequence)} images"
    return Grid(caption, (head,), tuple(body))
