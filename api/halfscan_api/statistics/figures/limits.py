"""Bland-Altman plots of two readers' SNR, of each region and arm; limits with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from sqlalchemy.orm import Session

from halfscan_api.statistics.differing import Numbers, complete_pairs
from halfscan_api.statistics.figures.canvas import (
    ARM_COLOURS,
    GREY,
    INK,
    SMALL_PT,
    TEXT_PT,
    Picture,
    Room,
    above,
    new_figure,
    note_in,
    panels_in,
    plain,
    saying,
    shortened,
    title,
)
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.results import REASONS, number
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import snr_values
from halfscan_stats import BlandAltman, Interval, bland_altman

MOST_PANELS = 120
MOST_VECTORS = 500  # points of a panel; more are drawn as pixels within the SVG
_PANEL_MM = 36.0  # with the room below it
_ROOM = Room(left=13, right=2, top=16, bottom=10, across=9, down=15)


@dataclass(frozen=True, slots=True)
class _Panel:
    """What a panel shows: two readers' values of the same cases."""

    region: str
    arm: str
    colour: str
    first: Numbers
    second: Numbers
    answer: BlandAltman


def draw(
    session: Session,
    frame: Frame,
    sequence: str,
    readers: tuple[ReaderOfStudy, ReaderOfStudy] | None,
    region: str | None = None,
) -> Picture:
    """Draw the differences between two readers, of each region in each arm.

    Parameters
    ----------
    session : Session
    frame : Frame
    sequence : str
    readers : (ReaderOfStudy, ReaderOfStudy) or None
        First minus second; None where the study has fewer than two.
    region : str, optional
        One alone.

    Returns
    -------
    Picture
    """
    name = f"Bland-Altman, SNR: {frame.sequence_label(sequence)}"
    regions = [one for one in signal_regions(frame, sequence) if region in {None, one.name}]
    if not regions:
        return saying(name, "The protocol measures no region on this sequence.")
    if readers is None:
        return saying(name, "The study has fewer than two readers: there is nothing to compare.")
    one, other = readers
    name = f"{name}, {one.name} minus {other.name}"
    arms = frame.protocol.arm_names
    if len(regions) * len(arms) > MOST_PANELS:
        return saying(
            name,
            f"This figure would have {len(regions) * len(arms)} panels, at most {MOST_PANELS} are "
            "drawn: ask for one region.",
        )
    found = snr_values(session, frame)
    panels = []
    for place in regions:
        for colour, arm in zip(ARM_COLOURS, arms, strict=False):
            values = [found.of(sequence, place.name, who.id, arm) for who in readers]
            first, second = complete_pairs(*values)
            answer = bland_altman(*values)
            name_of_arm = arm.replace("_", " ")
            panels.append(_Panel(place.label, name_of_arm, colour, first, second, answer))
    if not any(panel.answer.n for panel in panels):
        return saying(name, "No SNR was measured by both readers yet.")
    return _draw(name, panels, len(arms), readers)


def _draw(
    name: str,
    panels: Sequence[_Panel],
    n_arms: int,
    readers: tuple[ReaderOfStudy, ReaderOfStudy],
) -> Picture:
    columns = n_arms if len(panels) == n_arms else n_arms * max(1, 4 // n_arms)
    rows = -(-len(panels) // columns)
    height = 60.0 if rows == 1 and columns < 4 else _PANEL_MM
    figure = new_figure(rows * height + _ROOM.top, fitted=False)
    title(figure, name)
    grid = panels_in(figure, rows, columns, _ROOM).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _panel(axes, panel, columns)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("mean SNR of both readers", fontsize=TEXT_PT, y=0.004, va="bottom")
    first, second = (shortened(reader.name, 20) for reader in readers)
    figure.supylabel(plain(f"difference of SNR, {first} minus {second}"), fontsize=TEXT_PT, x=0.003)
    method = next(panel.answer.method for panel in panels)
    return Picture(
        figure,
        name,
        "Each point is a case. Solid line: bias; dashed lines: limits of agreement; bands: their "
        "95% intervals, plain of the bias, hatched grey of the limits; dotted line: "
        "no difference. Axes differ between panels. "
        f"{method}. Cases are taken for independent within a panel.",
    )


def _panel(axes: Axes, panel: _Panel, columns: int) -> None:
    answer = panel.answer
    letters = 104 // columns
    n = f"n {answer.n}/{answer.n_given}"
    above(
        axes,
        shortened(panel.region, letters),
        f"{shortened(panel.arm, letters)}, {n}",
        shortened(_figures(answer), 160 // columns),
    )
    axes.tick_params(labelsize=SMALL_PT)
    axes.locator_params(nbins=4)
    if not answer.n:
        axes.set(xticks=[], yticks=[])
        note_in(axes, "no case has both readers' value", columns=24)
        return
    axes.axhline(0, color=GREY, linewidth=0.6, linestyle=":")
    for value, interval, style in (
        (answer.value, answer.interval, "-"),
        (answer.lower, answer.lower_interval, "--"),
        (answer.upper, answer.upper_interval, "--"),
    ):
        _limit(axes, value, interval, style, panel.colour)
    axes.scatter(
        (panel.first + panel.second) / 2,
        panel.first - panel.second,
        s=4,
        color=INK,
        linewidths=0,
        alpha=0.75,
        zorder=3,
        rasterized=len(panel.first) > MOST_VECTORS,
    )
    axes.margins(x=0.08, y=0.12)


def _limit(
    axes: Axes, value: float | None, interval: Interval | None, style: str, colour: str
) -> None:
    if interval is not None and interval.high > interval.low:
        # The bias and its limits may overlap: bands of another colour, those of the limits hatched.
        face, hatch = (colour, "") if style == "-" else (GREY, "////")
        axes.axhspan(
            interval.low,
            interval.high,
            facecolor=face,
            alpha=0.3,
            linewidth=0,
            hatch=hatch,
            edgecolor=face,
        )
    if value is not None and np.isfinite(value):
        axes.axhline(value, color=colour, linewidth=0.9, linestyle=style, zorder=4)


def _figures(answer: BlandAltman) -> str:
    """Write bias and limits, or why something is not there."""
    texts = []
    if answer.value is not None:
        texts.append(f"bias {number(answer.value, 1)}")
    if answer.lower is not None:
        texts.append(f"limits {number(answer.lower, 1)} to {number(answer.upper, 1)}")
    if answer.reason is not None:
        texts.append(REASONS.get(answer.reason.value, answer.reason.value))
    return ", ".join(texts)
