"""Stacked bars of the scores, by arm: one figure a sequence, a panel a reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.counts import ValueCounts
from halfscan_api.statistics.figures.canvas import (
    GREY,
    INK,
    SMALL_PT,
    TITLE_Y,
    Picture,
    Room,
    new_figure,
    panels_in,
    plain,
    row_label,
    row_text,
    saying,
    shortened,
    title,
    title_and_legend,
    widest_mm,
)
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.studies.protocol import Criterion

MOST_BARS = 1500
_BAR_MM = 3.4
_HEADING = 0.95  # rows
_GAP = 0.25
_TOP_MM, _DOWN_MM = 17.0, 12.0  # above the first panel; between the lines of panels
_COUNT_MM = 12.0  # beside a bar
_HEIGHT = 0.82
_NARROWEST = 0.05  # of a bar: a share below it carries no number

Numbers = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Bars:
    """Parts of bars: the corners of each, and its colour."""

    corners: list[Numbers]
    colours: list[str]


def draw(session: Session, frame: Frame, sequence: str) -> Picture:
    """Draw the scores of a sequence: each criterion, reader and arm.

    Parameters
    ----------
    session : Session
    frame : Frame
    sequence : str

    Returns
    -------
    Picture
    """
    name = f"Image quality scores: {frame.sequence_label(sequence)}"
    criteria = frame.protocol.criteria_of(sequence)
    if not criteria:
        return saying(name, "The protocol asks for no score of this sequence.")
    found = ValueCounts(session, frame, AnswerKind.SCORE)
    counts = {
        (criterion.name, reader.id, arm): _counts(found, criterion, sequence, reader, arm)
        for criterion in criteria
        for reader in frame.readers
        for arm in frame.protocol.arm_names
    }
    if not any(values.sum() for values in counts.values()):
        return saying(name, "No score of this sequence counts yet: no reading with it is complete.")
    if len(counts) > MOST_BARS:
        return saying(
            name,
            f"This figure would have {len(counts)} bars, at most {MOST_BARS} are drawn: see the "
            "table of image quality.",
        )
    return _draw(frame, name, criteria, counts)


def _counts(
    found: ValueCounts, criterion: Criterion, sequence: str, reader: ReaderOfStudy, arm: str
) -> Numbers:
    given = found.values(criterion.name, sequence, reader.id, arm)
    return np.array([np.sum(given == choice.value) for choice in criterion.scale], np.float64)


def _draw(
    frame: Frame,
    name: str,
    criteria: Sequence[Criterion],
    counts: dict[tuple[str, int, str], Numbers],
) -> Picture:
    arms = frame.protocol.arm_names
    columns = min(len(frame.readers), 3)
    lines = -(-len(frame.readers) // columns)
    rows = len(criteria) * (len(arms) + _HEADING + _GAP)
    height = rows * _BAR_MM + _DOWN_MM
    figure = new_figure(lines * height + _TOP_MM, fitted=False)
    left = widest_mm(figure, _short_arms(frame)) + 3
    room = Room(left, _COUNT_MM, _TOP_MM, 6, _COUNT_MM + 2, _DOWN_MM)
    panels = panels_in(figure, lines, columns, room, sharex=True).ravel()
    for position, axes in enumerate(panels):
        if position >= len(frame.readers):
            axes.set_axis_off()
            continue
        reader = frame.readers[position]
        axes.set_title(plain(f"Reader {shortened(reader.name, 30)}"), y=TITLE_Y)
        _panel(axes, frame, reader, criteria, counts, named=position % columns == 0)
    _legend(figure, name, criteria)
    return Picture(figure, name, _caption(frame))


def _panel(
    axes: Axes,
    frame: Frame,
    reader: ReaderOfStudy,
    criteria: Sequence[Criterion],
    counts: dict[tuple[str, int, str], Numbers],
    *,
    named: bool,
) -> None:
    arms = frame.protocol.arm_names
    y, ticks, bars = 0.0, [], _Bars([], [])
    for criterion in criteria:
        if named:
            heading = shortened(_heading_of(criterion), 130 // min(len(frame.readers), 3))
            axes.text(0, y + 0.15, plain(heading), va="center")
        y += _HEADING
        for arm in arms:
            _bar(axes, bars, y, counts[criterion.name, reader.id, arm], frame.n_cases)
            ticks.append(y)
            y += 1
        y += _GAP
    # All bars in one go: each a patch of its own took a third of the time of the figure.
    axes.add_collection(
        PolyCollection(bars.corners, facecolors=bars.colours, edgecolors="white", linewidths=0.4),
        autolim=False,
    )
    axes.set(xlim=(0, 1), ylim=(y - _GAP, -0.4))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0%", "25%", "50%", "75%", "100%"])
    axes.set_yticks([])
    for tick, short in zip(ticks, _short_arms(frame) * len(criteria), strict=True):
        if named:
            row_label(axes, tick, short)
    axes.spines["left"].set_visible(False)


def _short_arms(frame: Frame) -> list[str]:
    return [shortened(arm.replace("_", " "), 16) for arm in frame.protocol.arm_names]


def _bar(axes: Axes, bars: _Bars, y: float, counts: Numbers, n_cases: int) -> None:
    n = counts.sum()
    row_text(axes, 1, y, f"{n:.0f}/{max(n_cases, n):.0f}", color=GREY)
    if not n:
        axes.text(0.01, y, "none yet", va="center", color=GREY, fontsize=SMALL_PT)
        return
    shares = counts / n
    starts = np.cumsum(shares) - shares
    colours = _colours(len(counts))
    low, high = y - _HEIGHT / 2, y + _HEIGHT / 2
    for left, right in zip(starts, starts + shares, strict=True):
        bars.corners.append(np.array([(left, low), (right, low), (right, high), (left, high)]))
    bars.colours += colours
    for start, share, count, point in zip(starts, shares, counts, range(len(counts)), strict=True):
        if share >= _NARROWEST:
            dark = point > 0.55 * (len(counts) - 1)
            axes.text(
                *(start + share / 2, y, f"{count:.0f}"),
                ha="center",
                va="center_baseline",
                fontsize=SMALL_PT,
                color="white" if dark else INK,
            )


@cache
def _colours(points: int) -> list[str]:
    """One hue from light to dark: an order, which survives a grey print."""
    shades = mpl.colormaps["Blues"](np.linspace(0.13, 0.95, points))
    return [to_hex(shade) for shade in shades]


def _legend(figure: Figure, name: str, criteria: Sequence[Criterion]) -> None:
    """Name the points; scales with other words share the numbers, others have no common legend."""
    scales = {tuple((one.value, one.label) for one in item.scale) for item in criteria}
    values = {tuple(value for value, _ in scale) for scale in scales}
    if len(values) > 1:
        title(figure, name)
        return
    points = next(iter(scales))
    texts = [f"{value} {label}" if len(scales) == 1 else str(value) for value, label in points]
    patches = [Patch(facecolor=colour) for colour in _colours(len(points))]
    title_and_legend(figure, name, patches, texts)


def _heading_of(criterion: Criterion) -> str:
    """Name a criterion and the ends of its scale."""
    first, last = criterion.scale[0], criterion.scale[-1]
    return f"{criterion.label} ({first.value} {first.label} to {last.value} {last.label})"


def _caption(frame: Frame) -> str:
    arms = "; ".join(f"{arm.name}: {arm.label}" for arm in frame.protocol.arms)
    return (
        "Share of each score, lowest point at the left and lightest; the numbers are counts, where "
        "the share is wide enough to hold one. Beside each bar: scores that count, of the cases "
        f"that there could be. {arms}."
    )
