"""Sizes of the regions that readers placed: area and pixels by region, reader and arm."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.measurements.tables import Measurement
from halfscan_api.statistics.differing import given_of
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, number, used
from halfscan_stats import Summary, summarize

Place = tuple[str, str, int, str]  # sequence, region, reader, arm

NOTE = (
    "Size of the regions as placed: mean \N{PLUS-MINUS SIGN} SD, and the range. The area is that "
    "of the region, a pixel counts where its centre lies inside. What a viewer measured has the "
    "size that the viewer sent, if any."
)


@dataclass(frozen=True, slots=True)
class SizeRow:
    """How large one reader placed a region, in one arm.

    Attributes
    ----------
    kind : str
        ``size``.
    item, label : str
        Region.
    place : str
        Sequence.
    reader, arm : str
    area_mm2, n_pixels : Summary
        Of the first readings of all cases; the area [mm2].
    """

    item: str
    label: str
    place: str
    reader: str
    arm: str
    area_mm2: Summary
    n_pixels: Summary
    level: str = "region"
    kind: str = "size"


def size_rows(session: Session, frame: Frame, sequences: list[str]) -> list[SizeRow]:
    """Sum up the sizes of the regions of sequences, the background's too, where there are any."""
    found: dict[Place, tuple[list[float], list[float]]] = {}
    rows = session.execute(
        select(
            Measurement.sequence,
            Measurement.region,
            Measurement.reader_id,
            Measurement.arm,
            Measurement.area_mm2,
            Measurement.n_pixels,
        )
        .where(
            Measurement.study_id == frame.study_id,
            Measurement.counted,
            ~Measurement.transferred,
            Measurement.repeat_round == 0,
        )
        # The same data, the same sums to the last bit.
        .order_by(Measurement.case_id)
    )
    for sequence, region, reader, arm, area, n_pixels in rows:
        areas, pixels = found.setdefault((sequence, region, reader, arm), ([], []))
        if area is not None:
            areas.append(area)
        if n_pixels is not None:
            pixels.append(n_pixels)
    return list(_rows(frame, sequences, found))


def _rows(
    frame: Frame, sequences: list[str], found: dict[Place, tuple[list[float], list[float]]]
) -> Iterator[SizeRow]:
    for sequence in sequences:
        for region in frame.protocol.regions_of(sequence):
            for reader in frame.readers:
                for arm in frame.protocol.arm_names:
                    sizes = found.get((sequence, region.name, reader.id, arm), ([], []))
                    if not any(sizes):
                        continue
                    area, pixels = (
                        given_of(summarize(values, show="mean_sd"), frame.n_cases)
                        for values in sizes
                    )
                    yield SizeRow(
                        region.name, region.label, sequence, reader.name, arm, area, pixels
                    )


def size_grid(frame: Frame, sequence: str, rows: list[SizeRow]) -> Grid | None:
    """Lay the sizes on a sequence out, a line a region and reader; None where there are none."""
    here = {(row.item, row.reader, row.arm): row for row in rows if row.place == sequence}
    if not here:
        return None
    arms = frame.protocol.arm_names
    labels = [frame.arm_label(arm) for arm in arms]
    square = "mm\N{SUPERSCRIPT TWO}"
    head: Line = (
        *(Cell(text) for text in ("", "Reader")),
        *(Cell(f"{label}, area [{square}]") for label in labels),
        *(Cell(f"{label}, pixels") for label in labels),
    )
    body: list[Line] = []
    for region in frame.protocol.regions_of(sequence):
        names = [
            one.name
            for one in frame.readers
            if any((region.name, one.name, arm) in here for arm in arms)
        ]
        for position, reader in enumerate(names):
            some = [here.get((region.name, reader, arm)) for arm in arms]
            cells: Line = (
                reader,
                *(NOTHING if row is None else _size_text(row.area_mm2) for row in some),
                *(NOTHING if row is None else _size_text(row.n_pixels) for row in some),
            )
            first = (Cell(region.label, rows=len(names)),) if position == 0 else ()
            body.append((*first, *cells))
    caption = f"Size of the regions on {frame.sequence_label(sequence)} images"
    return Grid(caption, (head,), tuple(body))


def _size_text(size: Summary) -> str:
    """Write ``204.9 +- 1.2``, the range and n below."""
    if size.mean is None:
        return NOTHING
    spread = "" if size.sd is None else f" \N{PLUS-MINUS SIGN} {number(size.sd, 1)}"
    ends = f"{number(size.minimum, 1)} to {number(size.maximum, 1)}"
    return f"{number(size.mean, 1)}{spread}\n{ends}\nn {used(size.n, size.n_given)}"
