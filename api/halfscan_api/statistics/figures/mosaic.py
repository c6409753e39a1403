"""Mosaics of McNemar's tables: what both arms found, one alone, or neither; a panel a finding."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from sqlalchemy.orm import Session

from halfscan_api.statistics import detection
from halfscan_api.statistics.detection import DetectionRow
from halfscan_api.statistics.figures.canvas import (
    BLUE,
    FAINT,
    ORANGE,
    PURPLE,
    SMALL_PT,
    Picture,
    Room,
    above,
    new_figure,
    note_in,
    panels_in,
    plain,
    saying,
    shortened,
    title_and_legend,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import DetectionQuery
from halfscan_api.statistics.results import Table, number, p_text

MOST_PANELS = 150
_COLUMNS = 4
_PANEL_MM = 46.0  # with the room below it
_ROOM = Room(left=1, right=1, top=17, bottom=13, across=4, down=20)
# both, reference only, test only, neither: discordant cells carry a hatch, for a print in grey.
_FACES = (BLUE, "white", "white", FAINT)
_HATCHES = ("", "//////", "\\\\\\\\\\\\", "")
_EDGES = (BLUE, ORANGE, PURPLE, FAINT)


def draw(session: Session, frame: Frame, test_arm: str) -> Picture:
    """Draw the four counts of each finding and reader.

    Parameters
    ----------
    session : Session
    frame : Frame
    test_arm : str
        What the reference arm is compared with.

    Returns
    -------
    Picture
    """
    return of_table(frame, detection.compute(session, frame, DetectionQuery()), test_arm)


def of_table(frame: Frame, table: Table[DetectionRow], test_arm: str) -> Picture:
    """Draw a table that was computed."""
    names = frame.reference, test_arm
    name = f"Findings with {names[0]} and {names[1]} (McNemar)"
    rows = [
        row
        for row in table.rows
        if row.place is None and row.reader is not None and row.test_arm == test_arm
    ]
    if not rows:
        return saying(name, "The protocol asks for no finding, or the study has no reader.")
    if not any(row.n for row in rows):
        return saying(name, "No case has been read in both arms yet.")
    if len(rows) > MOST_PANELS:
        return saying(
            name,
            f"This figure would have {len(rows)} panels, at most {MOST_PANELS} are drawn: see the "
            "table of detection.",
        )
    return _draw(frame, name, rows, names)


def _draw(frame: Frame, name: str, rows: Sequence[DetectionRow], names: tuple[str, str]) -> Picture:
    readers = list(dict.fromkeys(row.reader for row in rows))
    by_reader = [[row for row in rows if row.reader == reader] for reader in readers]
    lines = sum(-(-len(some) // _COLUMNS) for some in by_reader)
    figure = new_figure(lines * _PANEL_MM + _ROOM.top, fitted=False)
    grid = panels_in(figure, lines, _COLUMNS, _ROOM)
    for axes in grid.ravel():
        axes.set_axis_off()
    top = 0
    for some in by_reader:
        for position, row in enumerate(some):
            _panel(grid[top + position // _COLUMNS, position % _COLUMNS], row, names)
        top += -(-len(some) // _COLUMNS)
    patches = [
        Patch(facecolor=face, hatch=hatch, edgecolor=edge)
        for face, hatch, edge in zip(_FACES, _HATCHES, _EDGES, strict=True)
    ]
    texts = ["both", f"{names[0]} only", f"{names[1]} only", "neither"]
    title_and_legend(figure, name, patches, texts)
    arms = "; ".join(f"{arm}: {frame.arm_label(arm)}" for arm in names)
    return Picture(
        figure,
        name,
        "Areas are shares of all levels that were read in both arms: left column found with "
        f"{names[0]}, right column not; lower part found with {names[1]}. Hatched areas "
        "disagree. p: McNemar, exact binomial; p (patients): the score test on the counts over "
        "the design effect of patients, who give several levels. "
        f"Difference: {names[1]} minus {names[0]}, with Tango's interval. {arms}.",
    )


def _panel(axes: Axes, row: DetectionRow, names: tuple[str, str]) -> None:
    axes.set_axis_on()
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(False)
    above(axes, shortened(row.label, 33), shortened(f"reader {row.reader}", 40))
    counts = row.both, row.reference_only, row.test_only, row.neither
    if row.n:
        _cells(axes, counts)
    else:
        note_in(axes, "no case read in both arms", columns=24)
    axes.set_xlabel(plain(_below(row, names)), fontsize=SMALL_PT, loc="left")


def _cells(axes: Axes, counts: tuple[int, int, int, int]) -> None:
    """Tile the unit square: the columns are the reference arm, their parts the test arm."""
    both, reference_only, test_only, neither = counts
    n = sum(counts)
    x = 0.0
    for parts in (((both, 0), (reference_only, 1)), ((test_only, 2), (neither, 3))):
        column = sum(count for count, _ in parts)
        y = 0.0
        for count, kind in parts:
            if not count:
                continue
            axes.add_patch(
                Rectangle(
                    (x, y),
                    column / n,
                    count / column,
                    facecolor=_FACES[kind],
                    hatch=_HATCHES[kind],
                    edgecolor=_EDGES[kind],
                    linewidth=0.6,
                )
            )
            y += count / column
        x += column / n


def _below(row: DetectionRow, names: tuple[str, str]) -> str:
    test = row.mcnemar
    difference = f"{number(100 * test.difference, 1)}%" if test.difference is not None else "none"
    if test.interval is not None:
        limits = number(100 * test.interval.low, 1), number(100 * test.interval.high, 1)
        difference += f" ({limits[0]}, {limits[1]})"
    clustered = p_text(row.clustered.decision.p_value, row.clustered.decision.reason)
    return (
        f"both {row.both}, neither {row.neither}; n {row.n}\n"
        f"{shortened(names[0], 12)} only {row.reference_only}, "
        f"{shortened(names[1], 12)} only {row.test_only}\n"
        f"difference {difference}\n"
        f"p {p_text(test.p_value)}, patients {shortened(clustered, 24)}"
    )
