"""Many small panels on one sheet: drawn in millimetres, all of a kind in one go.

Axes of matplotlib cost some 20 ms each, with their ticks and what looks for room for them; a figure
of 46 panels took most of its time there. A sheet is one pair of axes without furniture, in
millimetres from the lower left corner; a panel is where it stands and what its ends mean.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halfscan_api.statistics.figures.canvas import (
    INK,
    PAGE_MM,
    SMALL_PT,
    Room,
    height_mm,
    plain,
)
from halfscan_api.statistics.results import number

Numbers = npt.NDArray[np.float64]
_TICK_MM = 0.8
_NARROWEST = 1e-9  # range of an axis, of the size of its values: below it there is one tick


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel stands on its sheet [mm, from the lower left]."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Scale:
    """What the ends of a panel's axis mean.

    Attributes
    ----------
    low, high : float
        Values at the ends; high above low.
    start_mm, length_mm : float
        Where the low end lies on the sheet, and how long the axis is.
    """

    low: float
    high: float
    start_mm: float
    length_mm: float

    def __call__(self, values: npt.ArrayLike) -> Numbers:
        """Give the places of values on the sheet [mm]."""
        share = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return self.start_mm + share * self.length_mm

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Give round values within the ends, with their labels."""
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(value) for value in found if self.low <= value <= self.high]
        step = float(np.diff(found).min()) if len(found) > 1 else 1.0
        digits = max(0, -int(np.floor(np.log10(step) + 1e-9))) + (_is_quarter(step))
        return [(value, number(value, digits)) for value in inside]


def _is_quarter(step: float) -> int:
    """Tell whether a step (0.25, 0.025) needs one digit more than its size says."""
    return int(step < 1 and f"{step:.1e}".startswith("2.5")) or int(f"{step:.1e}" == "2.5e+00")


def scale_of(values: npt.ArrayLike, start_mm: float, length_mm: float, margin: float) -> Scale:
    """Make a scale that holds values, with a margin [share of their range] at both ends."""
    found = np.asarray(values, np.float64)
    low, high = float(found.min()), float(found.max())
    if high - low <= _NARROWEST * max(abs(low), abs(high)):
        # All the same: some room around it, as wide as the value is large.
        half = 0.05 * max(abs(low), abs(high)) or 0.05
        return Scale(low - half, high + half, start_mm, length_mm)
    room = margin * (high - low)
    return Scale(low - room, high + room, start_mm, length_mm)


@dataclass(slots=True)
class Sheet:
    """What is drawn on a sheet, kind by kind; `finish` puts it there.

    Attributes
    ----------
    axes : Axes
        In millimetres.
    """

    axes: Axes
    _lines: dict[tuple[tuple[str, Any], ...], list[Numbers]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _areas: dict[tuple[tuple[str, Any], ...], list[Numbers]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _points: list[Numbers] = field(default_factory=list)

    def line(self, xs: Sequence[float], ys: Sequence[float], **style: Any) -> None:
        """Draw a line; those of one style (of `LineCollection`) are drawn together."""
        self._lines[tuple(sorted(style.items()))].append(np.column_stack([xs, ys]))

    def area(self, place: Place, **style: Any) -> None:
        """Fill a rectangle; those of one style (of `PolyCollection`) are drawn together."""
        left, right = place.left, place.left + place.width
        low, high = place.bottom, place.bottom + place.height
        corners = np.array([(left, low), (right, low), (right, high), (left, high)])
        self._areas[tuple(sorted(style.items()))].append(corners)

    def points(self, xs: Numbers, ys: Numbers) -> None:
        """Draw points; all of a sheet look the same."""
        self._points.append(np.column_stack([xs, ys]))

    def text(self, x_mm: float, y_mm: float, text: str, **style: Any) -> None:
        """Write a text."""
        self.axes.text(x_mm, y_mm, plain(text), **{"fontsize": SMALL_PT, **style})

    def frame(self, place: Place, across: Scale | None, up: Scale | None) -> None:
        """Draw the left and lower edge of a panel, with ticks and labels where there are scales."""
        style = {"colors": INK, "linewidths": 0.5}
        top, right = place.bottom + place.height, place.left + place.width
        corner_x, corner_y = place.left, place.bottom
        self.line([corner_x, corner_x, right], [top, corner_y, corner_y], **style)
        for value, label in across.ticks(4) if across else ():
            x = float(across(value)) if across else 0.0
            self.line([x, x], [corner_y, corner_y - _TICK_MM], **style)
            self.text(x, corner_y - 1.8 * _TICK_MM, label, ha="center", va="top")
        for value, label in up.ticks(4) if up else ():
            y = float(up(value)) if up else 0.0
            self.line([corner_x, corner_x - _TICK_MM], [y, y], **style)
            self.text(corner_x - 1.5 * _TICK_MM, y, label, ha="right", va="center")

    def finish(self, **look: Any) -> None:
        """Put on the axes what was drawn: areas, lines, points in a style of `Axes.scatter`."""
        for style, areas in self._areas.items():
            self.axes.add_collection(PolyCollection(areas, zorder=1, **dict(style)), autolim=False)
        for style, lines in self._lines.items():
            self.axes.add_collection(
                LineCollection(lines, **{"zorder": 2, **dict(style)}), autolim=False
            )
        if self._points:
            places = np.concatenate(self._points)
            self.axes.scatter(places[:, 0], places[:, 1], s=4, linewidths=0, zorder=3, **look)


def sheet_on(figure: Figure) -> Sheet:
    """Lay a sheet over a whole figure."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE_MM), ylim=(0, height_mm(figure)))
    axes.set_axis_off()
    return Sheet(axes)


def places(figure: Figure, rows: int, columns: int, room: Room) -> list[Place]:
    """Give the places of panels of equal size, row by row from the upper left."""
    height = height_mm(figure)
    wide = (PAGE_MM - room.left - room.right - (columns - 1) * room.across) / columns
    high = (height - room.top - room.bottom - (rows - 1) * room.down) / rows
    return [
        Place(
            room.left + column * (wide + room.across),
            height - room.top - row * (high + room.down) - high,
            wide,
            high,
        )
        for row in range(rows)
        for column in range(columns)
    ]
