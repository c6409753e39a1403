"""The flow of participants as STARD 2015 draws it: boxes from enrolment to the last reading."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from sqlalchemy.orm import Session

from halfscan_api.statistics import participants
from halfscan_api.statistics.figures.canvas import (
    INK,
    PAGE_MM,
    Picture,
    new_figure,
    plain,
    saying,
    shortened,
    title,
    wrapped,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.statistics.participants import ExclusionRow, StepRow
from halfscan_api.statistics.results import Table

MOST_REASONS, MOST_READERS = 8, 12
_NAME = "Flow of participants"
_LINE_MM, _LETTER_MM, _PAD_MM, _GAP_MM = 3.1, 1.42, 1.6, 6.0
_MAIN = (8.0, 77.0)  # left edge and width of the boxes in the main line [mm]
_SIDE = (104.0, 66.0)
_ARMS_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class _Box:
    """A box with its text [mm from the upper left of the figure]; `bold` lines come first."""

    left: float
    top: float
    width: float
    lines: tuple[str, ...]
    bold: int = 1

    @property
    def height(self) -> float:
        """What the lines need."""
        return len(self.lines) * _LINE_MM + 2 * _PAD_MM

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.top + self.height

    @property
    def centre(self) -> float:
        """Middle from left to right."""
        return self.left + self.width / 2


Arrow = list[tuple[float, float]]  # its corners


def draw(session: Session, frame: Frame) -> Picture:
    """Draw the flow.

    Parameters
    ----------
    session : Session
    frame : Frame

    Returns
    -------
    Picture
    """
    return of_table(frame, participants.compute(session, frame, TableQuery()))


def of_table(frame: Frame, table: Table[participants.Row]) -> Picture:
    """Draw a table that was computed."""
    steps = {(row.step, row.reader, row.arm): row for row in table.rows if isinstance(row, StepRow)}
    if not steps["enrolled", None, None].n:
        return saying(_NAME, "No case has been enrolled yet.")
    reasons = Counter(row.why for row in table.rows if isinstance(row, ExclusionRow))
    boxes, arrows = _layout(frame, steps, reasons)
    height = max(box.bottom for box in boxes) + 2
    figure = new_figure(height, fitted=False)
    title(figure, _NAME)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE_MM), ylim=(height, 0))
    axes.set_axis_off()
    for box in boxes:
        _draw_box(axes, box)
    for corners in arrows:
        axes.plot(*zip(*corners, strict=True), color=INK, linewidth=0.6, zorder=1)
        head = {"arrowstyle": "-|>", "lw": 0.6, "color": INK, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", corners[-1], corners[-2], arrowprops=head)
    return Picture(
        figure,
        _NAME,
        "Cases of the study, as STARD 2015 asks for it; training cases are none of them. Who was "
        "screened and not enrolled is not known to the study. Read: complete readings of the first "
        "round that count.",
    )


Steps = dict[tuple[str, str | None, str | None], StepRow]


def _layout(frame: Frame, steps: Steps, reasons: Counter[str]) -> tuple[list[_Box], list[Arrow]]:
    """Place every box, and the arrows between them."""
    included, complete = steps["included", None, None], steps["with_every_series", None, None]
    enrolled = _main(8.0, f"Enrolled (n = {steps['enrolled', None, None].n})")
    excluded = _side(enrolled.bottom + 1.0, _excluded(steps, reasons))
    kept = _main(
        max(enrolled.bottom + _GAP_MM, excluded.bottom + 1.0), f"Included (n = {included.n})"
    )
    lacking = _side(
        kept.bottom + 1.0, [f"Without every series in every arm (n = {included.n - complete.n})"]
    )
    whole = _main(
        max(kept.bottom + _GAP_MM, lacking.bottom + 1.0),
        f"With every series in every arm (n = {complete.n})",
    )
    boxes, arrows = [enrolled, excluded, kept, lacking, whole], []
    for upper, side, lower in ((enrolled, excluded, kept), (kept, lacking, whole)):
        middle = side.top + side.height / 2
        arrows += [
            [(upper.centre, upper.bottom), (lower.centre, lower.top)],
            [(upper.centre, middle), (side.left, middle)],
        ]
    arms = _arm_boxes(frame, steps, whole.bottom + _GAP_MM)
    at = whole.bottom + _GAP_MM / 2
    arrows += [_bent(whole, box, at) for box in arms[:_ARMS_IN_A_ROW]]
    below = max(box.bottom for box in (whole, *arms)) + _GAP_MM
    throughout = steps["read_throughout", None, None]
    last = _main(below, f"Read by every reader in every arm (n = {throughout.n})")
    arrows += [_bent(box, last, below - _GAP_MM / 2) for box in arms[-_ARMS_IN_A_ROW:]]
    return [*boxes, *arms, last], arrows


def _arm_boxes(frame: Frame, steps: Steps, top: float) -> list[_Box]:
    """Give a box for each arm: which reader has read how many cases."""
    arms = frame.protocol.arm_names
    across = min(len(arms), _ARMS_IN_A_ROW)
    width = (PAGE_MM - 16 - (across - 1) * 4) / across
    boxes: list[_Box] = []
    for start in range(0, len(arms), across):
        row = [
            _box(8 + i * (width + 4), top, width, _read_lines(frame, steps, arm))
            for i, arm in enumerate(arms[start : start + across])
        ]
        boxes += row
        top = max(box.bottom for box in row) + 3
    return boxes


def _read_lines(frame: Frame, steps: Steps, arm: str) -> list[str]:
    rows = [steps["read", reader.name, arm] for reader in frame.readers]
    lines = [frame.arm_label(arm), *(f"read by {row.reader}: n = {row.n}" for row in rows)]
    if len(rows) > MOST_READERS:
        more = f"and {len(rows) - MOST_READERS} readers more: see the table"
        return [*lines[: MOST_READERS + 1], more]
    return lines if rows else [*lines, "no reader"]


def _excluded(steps: Steps, reasons: Counter[str]) -> list[str]:
    lines = [f"Excluded (n = {steps['excluded', None, None].n})"]
    # The most frequent first, then by their letters: the same flow is the same picture.
    listed = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    lines += [f"{shortened(why, 80)}: n = {n}" for why, n in listed[:MOST_REASONS]]
    rest = sum(n for _, n in listed[MOST_REASONS:])
    return [*lines, f"other reasons: n = {rest}"] if rest else lines


def _main(top: float, text: str) -> _Box:
    return _box(_MAIN[0], top, _MAIN[1], [text])


def _side(top: float, texts: Sequence[str]) -> _Box:
    return _box(_SIDE[0], top, _SIDE[1], texts)


def _box(left: float, top: float, width: float, texts: Sequence[str]) -> _Box:
    columns = int((width - 2 * _PAD_MM) / _LETTER_MM)
    broken = [wrapped(text, columns, most=3) for text in texts]
    lines = tuple(line for some in broken for line in some)
    return _Box(left, top, width, lines, bold=len(broken[0]))


def _bent(upper: _Box, lower: _Box, at: float) -> Arrow:
    """Go down, across at one height, and down again."""
    return [
        (upper.centre, upper.bottom),
        (upper.centre, at),
        (lower.centre, at),
        (lower.centre, lower.top),
    ]


def _draw_box(axes: Axes, box: _Box) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.top),
            box.width,
            box.height,
            boxstyle="square,pad=0",
            facecolor="white",
            edgecolor=INK,
            linewidth=0.6,
            zorder=2,
        )
    )
    for number, line in enumerate(box.lines):
        axes.text(
            box.left + _PAD_MM,
            box.top + _PAD_MM + (number + 0.5) * _LINE_MM,
            plain(line),
            va="center",
            fontweight="bold" if number < box.bold else "normal",
            zorder=3,
        )
