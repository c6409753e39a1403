"""SNR by region, both arms: every case as a pair, with median and quartiles; a panel a reader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from sqlalchemy.orm import Session

from halfscan_api.statistics.differing import Numbers, complete, complete_pairs
from halfscan_api.statistics.figures.canvas import (
    ARM_COLOURS,
    ARM_MARKERS,
    FAINT,
    GREY,
    TITLE_Y,
    Picture,
    Room,
    legend_mm,
    new_figure,
    panels_in,
    plain,
    saying,
    shortened,
    title_and_legend,
    widest_mm,
)
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import SnrValues, snr_values
from halfscan_api.studies.protocol import Region

MOST_REGIONS = 64
MOST_READERS = 12
MOST_VECTORS = 500  # lines of a region; more are drawn as pixels within the SVG
_PANEL_MM = 62.0
_LEAN = 35  # of the labels [degrees]
_WIDTH = 0.5  # of the arms of a region together


@dataclass(frozen=True, slots=True)
class _Values:
    """Values of a sequence."""

    frame: Frame
    sequence: str
    regions: Sequence[Region]
    snr: SnrValues

    def of(self, region: Region, reader: ReaderOfStudy, arm: str) -> Numbers:
        return self.snr.of(self.sequence, region.name, reader.id, arm)

    def all(self) -> Iterator[Numbers]:
        for region in self.regions:
            for reader in self.frame.readers:
                for arm in self.frame.protocol.arm_names:
                    yield complete(self.of(region, reader, arm))


def draw(session: Session, frame: Frame, sequence: str) -> Picture:
    """Draw the signal-to-noise ratios of a sequence.

    Parameters
    ----------
    session : Session
    frame : Frame
    sequence : str

    Returns
    -------
    Picture
    """
    name = f"Signal-to-noise ratio by region: {frame.sequence_label(sequence)}"
    regions = signal_regions(frame, sequence)
    if not regions:
        return saying(name, "The protocol measures no region on this sequence.")
    if len(regions) > MOST_REGIONS or len(frame.readers) > MOST_READERS:
        return saying(
            name,
            f"This figure would have {len(regions)} regions and {len(frame.readers)} readers, at "
            f"most {MOST_REGIONS} and {MOST_READERS} are drawn: see the table of SNR.",
        )
    values = _Values(frame, sequence, regions, snr_values(session, frame, sequence))
    everything = np.concatenate([np.empty(0), *values.all()])
    if not len(everything):
        return saying(name, "No SNR of this sequence counts yet: no reading with it is complete.")
    return _draw(name, values, logarithmic=_wants_logarithm(everything))


def _wants_logarithm(values: Numbers) -> bool:
    """Tell whether regions differ so much that a linear axis would flatten most of them."""
    return bool(values.min() > 0 and values.max() / values.min() > 4)


def _draw(name: str, values: _Values, *, logarithmic: bool) -> Picture:
    frame = values.frame
    labels = [shortened(region.label, 32) for region in values.regions]
    n = len(frame.readers)
    top = legend_mm([arm.label for arm in frame.protocol.arms]) + 6
    figure = new_figure(n * _PANEL_MM + top + 15, fitted=False)
    # Labels lean: what is as wide as they are reaches down and to the left.
    widest = widest_mm(figure, labels)
    lean = np.deg2rad(_LEAN)
    left, bottom = max(14.0, widest * np.cos(lean) + 4), widest * np.sin(lean) + 5
    room = Room(left, 2, top, bottom, 0, 8)
    panels = panels_in(figure, n, 1, room, sharex=True, sharey=True)
    for axes, reader in zip(panels.ravel(), frame.readers, strict=True):
        _panel(axes, values, reader, logarithmic=logarithmic)
    last = panels.ravel()[-1]
    last.set_xticks(range(len(labels)), labels=list(map(plain, labels)))
    for text in last.get_xticklabels():
        text.set(rotation=_LEAN, ha="right", rotation_mode="anchor")
    last.set_xlim(-0.6, len(labels) - 0.4)
    _legend(figure, name, frame)
    scale = " The axis is logarithmic." if logarithmic else ""
    return Picture(
        figure,
        name,
        "Each thin line is a case, measured in the reference arm (left) and in a test arm (right) "
        "by the same reader; cases without both are left out of the lines. Symbols: median, bars: "
        f"quartiles, of all values of the arm.{scale} Below each region: cases with both arms.",
    )


def _panel(axes: Axes, values: _Values, reader: ReaderOfStudy, *, logarithmic: bool) -> None:
    axes.set_title(plain(f"Reader {shortened(reader.name, 60)}"), y=TITLE_Y)
    axes.set_ylabel("SNR")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    arms = values.frame.protocol.arm_names
    order = [values.frame.reference, *values.frame.test_arms]
    places = np.linspace(-_WIDTH / 2, _WIDTH / 2, len(order))
    columns = [[values.of(region, reader, arm) for arm in order] for region in values.regions]
    counts = _pairs(axes, places, columns)
    for position, arm in enumerate(order):
        some = [complete(found[position]) for found in columns]
        _summaries(axes, float(places[position]), some, arms.index(arm))
    for x, n in enumerate(counts):
        axes.annotate(
            f"n {n}" if x == 0 else str(n),
            (x, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=5,
            color=GREY,
        )


def _pairs(axes: Axes, places: Numbers, regions: Sequence[Sequence[Numbers]]) -> list[int]:
    """Join the values of each case, from the reference to each test arm; give the fewest pairs."""
    lines, counts = [], []
    for x, columns in enumerate(regions):
        pairs = [complete_pairs(columns[0], column) for column in columns[1:]]
        counts.append(min(len(first) for first, _ in pairs))
        for place, (first, second) in zip(places[1:], pairs, strict=True):
            ends = np.empty((len(first), 2, 2))
            ends[:, 0, 0], ends[:, 1, 0] = x + places[0], x + place
            ends[:, 0, 1], ends[:, 1, 1] = first, second
            lines.append(ends)
    most = max(map(len, lines))
    axes.add_collection(
        LineCollection(
            [line for ends in lines for line in ends],
            colors=GREY,
            linewidths=0.3,
            alpha=float(np.clip(30 / max(most, 1), 0.03, 0.5)),
            rasterized=most > MOST_VECTORS,
        )
    )
    return counts


def _summaries(axes: Axes, place: float, regions: Sequence[Numbers], arm: int) -> None:
    """Draw median and quartiles of one arm in each region."""
    found = {
        x + place: np.percentile(values, [25, 50, 75])
        for x, values in enumerate(regions)
        if len(values)
    }
    if not found:
        return
    low, middle, high = np.array(list(found.values())).T
    axes.vlines(list(found), low, high, colors=ARM_COLOURS[arm], linewidths=2)
    axes.plot(
        list(found),
        middle,
        ARM_MARKERS[arm],
        color=ARM_COLOURS[arm],
        markersize=3.6,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4,
    )


def _legend(figure: Figure, name: str, frame: Frame) -> None:
    arms = frame.protocol.arms
    handles = [
        Line2D([], [], color=ARM_COLOURS[i], marker=ARM_MARKERS[i], markersize=3.6, linewidth=2)
        for i in range(len(arms))
    ]
    title_and_legend(figure, name, handles, [arm.label for arm in arms])
