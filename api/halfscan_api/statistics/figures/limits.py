"""Bland-Altman plots of two readers' SNR, of each region and arm; limits with intervals.

Both arms of a region have one scale and the same axes, whichever two readers are shown: of the
ratio where the spread of any of them grows with the mean, else of the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
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
from halfscan_api.statistics.values import SnrValues, snr_values
from halfscan_api.studies.protocol import Region
from halfscan_stats import BlandAltman, Interval, bland_altman, spread_trend

MOST_PANELS = 120
MOST_VECTORS = 500  # points of a panel; more are drawn as pixels within the SVG
_PANEL_MM = 36.0  # with the room below it
_ROOM = Room(left=13, right=2, top=16, bottom=10, across=9, down=15)
SPREAD_LEVEL = 0.05
# Ratios that stand at an axis, with their inverses: the widest that fits.
_RATIO_TICKS = (1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 1000)


@dataclass(frozen=True, slots=True)
class _Scale:
    """How the values of a region are compared, in every arm and by every two readers.

    Attributes
    ----------
    of : str
        ``difference`` or ``ratio``.
    refused : bool
        Whether the spread asks for the ratio, and a value at or below 0 has none.
    lowest, highest : float
        Ends of the axis of the means.
    reach : float
        Ends of the other axis: -/+ this difference, or this ratio and its inverse.
    """

    of: str
    refused: bool
    lowest: float
    highest: float
    reach: float


@dataclass(frozen=True, slots=True)
class _Panel:
    """What a panel shows: two readers' values of the same cases."""

    region: str
    arm: str
    colour: str
    first: Numbers
    second: Numbers
    answer: BlandAltman
    scale: _Scale


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
        First minus, or over, second; None where the study has fewer than two.
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
    name = f"{name}, {one.name} against {other.name}"
    arms = frame.protocol.arm_names
    if len(regions) * len(arms) > MOST_PANELS:
        return saying(
            name,
            f"This figure would have {len(regions) * len(arms)} panels, at most {MOST_PANELS} are "
            "drawn: ask for one region.",
        )
    found = snr_values(session, frame)
    panels = [
        panel for place in regions for panel in _panels_of(frame, found, sequence, place, readers)
    ]
    if not any(panel.answer.n for panel in panels):
        return saying(name, "No SNR was measured by both readers yet.")
    return _draw(name, panels, len(arms), readers)


def _panels_of(
    frame: Frame,
    found: SnrValues,
    sequence: str,
    place: Region,
    readers: tuple[ReaderOfStudy, ReaderOfStudy],
) -> list[_Panel]:
    """Give the panels of a region, one an arm."""
    arms = frame.protocol.arm_names
    pairs = [
        complete_pairs(*(found.of(sequence, place.name, who.id, arm) for who in two))
        for two in frame.reader_pairs
        for arm in arms
    ]
    scale = _scale_of(pairs, n_tests=len(frame.reader_pairs))
    panels = []
    for colour, arm in zip(ARM_COLOURS, arms, strict=False):
        values = [found.of(sequence, place.name, who.id, arm) for who in readers]
        answer = bland_altman(*values, scale=scale.of)
        first, second = complete_pairs(*values)
        name = arm.replace("_", " ")
        panels.append(_Panel(place.label, name, colour, first, second, answer, scale))
    return panels


def _scale_of(pairs: Sequence[tuple[Numbers, Numbers]], n_tests: int) -> _Scale:
    """Decide the scale of a region by all its arms and readers, and how far its axes reach."""
    # The more readers, the more often one of their pairs would show a spread that is none.
    alpha = SPREAD_LEVEL / max(1, n_tests)
    grows = any(spread_trend(*pair, alpha=alpha).grows for pair in pairs)
    every = np.concatenate([np.empty(0), *(one for pair in pairs for one in pair)])
    positive = bool((every > 0).all())
    of = "ratio" if grows and positive else "difference"
    means = np.concatenate([np.empty(0), *((one + other) / 2 for one, other in pairs)])
    low, high = (float(means.min()), float(means.max())) if len(means) else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    reach = max((_reach(*pair, of) for pair in pairs), default=0.0) or 1.0
    reach = float(np.exp(1.12 * reach)) if of == "ratio" else 1.12 * reach
    return _Scale(of, grows and not positive, low - room, high + room, reach)


def _reach(one: Numbers, other: Numbers, of: str) -> float:
    """Give how far points and bands lie from no difference; of ratios, in their logarithm."""
    answer = bland_altman(one, other, scale=of)
    intervals = (answer.lower_interval, answer.upper_interval)
    ends = [end for band in intervals if band is not None for end in (band.low, band.high)]
    points = one / other if of == "ratio" else one - other
    everything = np.concatenate([points, ends])
    apart = np.log(everything) if of == "ratio" else everything
    return float(np.abs(apart).max(initial=0.0))


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
    labels = {
        "difference": f"difference of SNR, {first} minus {second}",
        "ratio": f"ratio of SNR, {first} over {second}",
    }
    scales = dict.fromkeys(panel.scale.of for panel in panels)
    label = " / ".join(labels[one] for one in scales)
    figure.supylabel(plain(label), fontsize=TEXT_PT, x=0.003)
    return Picture(figure, name, _caption(panels))


def _caption(panels: Sequence[_Panel]) -> str:
    """Say how to read the figure, and by what rule its scales were chosen."""
    methods = dict.fromkeys(panel.answer.method for panel in panels)
    refused = dict.fromkeys(panel.region for panel in panels if panel.scale.refused)
    texts = [
        (
            "Each point is a case. Solid line: bias; dashed lines: limits of agreement; bands: "
            "their 95% intervals, plain of the bias, hatched grey of the limits; dotted line: "
            "no difference. Both arms of a region have the same scale and axes, and so has every "
            "other pair of readers; axes differ between regions."
        ),
        (
            "The ratio (first over second reader, geometric mean and limits transformed back from "
            "the logarithms, Bland & Altman 1999) stands for the difference where the spread grows "
            "with the mean in any arm: regression of the absolute residual difference on the mean, "
            f"one-sided level {SPREAD_LEVEL:g}, over the number of pairs of readers."
        ),
        f"{'; '.join(methods)}. Cases are taken for independent within a panel.",
    ]
    if refused:
        texts.append(
            "The spread grows, but a value at or below 0 has no ratio, so that limits of the "
            f"difference are shown: {', '.join(refused)}."
        )
    return " ".join(texts)


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
    is_ratio = panel.scale.of == "ratio"
    axes.axhline(1 if is_ratio else 0, color=GREY, linewidth=0.6, linestyle=":")
    for value, interval, style in (
        (answer.value, answer.interval, "-"),
        (answer.lower, answer.lower_interval, "--"),
        (answer.upper, answer.upper_interval, "--"),
    ):
        _limit(axes, value, interval, style, panel.colour)
    axes.scatter(
        (panel.first + panel.second) / 2,
        panel.first / panel.second if is_ratio else panel.first - panel.second,
        s=4,
        color=INK,
        linewidths=0,
        alpha=0.75,
        zorder=3,
        rasterized=len(panel.first) > MOST_VECTORS,
    )
    _reach_of_axes(axes, panel.scale)


def _reach_of_axes(axes: Axes, scale: _Scale) -> None:
    axes.set_xlim(scale.lowest, scale.highest)
    if scale.of == "difference":
        axes.set_ylim(-scale.reach, scale.reach)
        return
    axes.set_yscale("log")
    axes.set_ylim(1 / scale.reach, scale.reach)
    fitting = [tick for tick in _RATIO_TICKS if tick <= scale.reach][-1:]
    axes.yaxis.set_major_locator(FixedLocator([1, *fitting, *(1 / tick for tick in fitting)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())


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
    bias, digits = ("ratio", 2) if answer.scale == "ratio" else ("bias", 1)
    texts = []
    if answer.value is not None:
        texts.append(f"{bias} {number(answer.value, digits)}")
    if answer.lower is not None:
        texts.append(f"limits {number(answer.lower, digits)} to {number(answer.upper, digits)}")
    if answer.reason is not None:
        texts.append(REASONS.get(answer.reason.value, answer.reason.value))
    return ", ".join(texts)
