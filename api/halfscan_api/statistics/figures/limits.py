"""Bland-Altman plots of two readers' SNR, of each region and arm; limits with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.statistics.differing import Numbers, complete_pairs
from halfscan_api.statistics.figures.canvas import (
    ARM_COLOURS,
    GREY,
    INK,
    TEXT_PT,
    Picture,
    Room,
    new_figure,
    plain,
    saying,
    shortened,
    title,
    wrapped,
)
from halfscan_api.statistics.figures.sheet import Place, Scale, Sheet, places, scale_of, sheet_on
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.results import REASONS, number
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import snr_values
from halfscan_stats import BlandAltman, Interval, bland_altman

MOST_PANELS = 120
MOST_VECTORS = 500  # points of a panel; more are drawn as pixels within the SVG
_PANEL_MM = 36.0  # with the room below it
_LINE_MM = 2.4  # of the text above a panel
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

    @property
    def means(self) -> Numbers:
        """Mean of both readers, (case,)."""
        return (self.first + self.second) / 2

    @property
    def apart(self) -> Numbers:
        """Their difference, or their ratio, (case,)."""
        ratio = self.answer.scale == "ratio"
        return self.first / self.second if ratio else self.first - self.second

    @property
    def nothing(self) -> float:
        """What readers who agree have."""
        return 1.0 if self.answer.scale == "ratio" else 0.0


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
    found = snr_values(session, frame, sequence)
    panels: list[_Panel] = []
    for place in regions:
        values = {
            arm: [found.of(sequence, place.name, who.id, arm) for who in readers] for arm in arms
        }
        panels += _of_region(place.label, values)
    if not any(panel.answer.n for panel in panels):
        return saying(name, "No SNR was measured by both readers yet.")
    return _draw(name, panels, len(arms), readers)


def _of_region(label: str, values: Mapping[str, list[Numbers]]) -> Iterator[_Panel]:
    """Give the panels of a region: ratios in all arms where the spread grows in one of them."""
    answers = {arm: bland_altman(*pair, scale="by_spread") for arm, pair in values.items()}
    pairs = {arm: complete_pairs(*pair) for arm, pair in values.items()}
    if any(answer.scale == "ratio" for answer in answers.values()):
        if all((np.concatenate(pair) > 0).all() for pair in pairs.values()):
            answers = {arm: bland_altman(*pair, scale="ratio") for arm, pair in values.items()}
        else:
            answers = {arm: bland_altman(*pair) for arm, pair in values.items()}
    for colour, (arm, answer) in zip(ARM_COLOURS, answers.items(), strict=False):
        yield _Panel(label, arm.replace("_", " "), colour, *pairs[arm], answer)


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
    sheet = sheet_on(figure)
    ends = {region: _ends(panels, region) for region in {panel.region for panel in panels}}
    for place, panel in zip(places(figure, rows, columns, _ROOM), panels, strict=False):
        _panel(sheet, place, panel, columns, ends[panel.region])
    most = max(len(panel.first) for panel in panels)
    sheet.finish(color=INK, alpha=0.75, rasterized=most > MOST_VECTORS)
    figure.supxlabel("mean SNR of both readers", fontsize=TEXT_PT, y=0.004, va="bottom")
    first, second = (shortened(reader.name, 20) for reader in readers)
    ratios = any(panel.answer.scale == "ratio" for panel in panels)
    what = f"difference of SNR, {first} minus {second}" + (" (or ratio)" if ratios else "")
    figure.supylabel(plain(what), fontsize=TEXT_PT, x=0.003)
    methods = "; ".join(dict.fromkeys(panel.answer.method for panel in panels))
    where = (
        "Where the spread grows with the mean in an arm (regression of the absolute residuals, "
        "p < 0.05) the panels of this region show ratios, first over second. "
        if ratios
        else ""
    )
    return Picture(
        figure,
        name,
        "Each point is a case. Solid line: bias; dashed lines: limits of agreement; bands: their "
        "95% intervals, plain of the bias, hatched grey of the limits; dotted line: "
        f"no difference. The panels of a region have the same axes. {where}"
        f"{methods}. Cases are taken for independent within a panel.",
    )


def _ends(panels: Sequence[_Panel], region: str) -> tuple[list[float], list[float]]:
    """Give all that the axes of a region must hold: means, and differences with their limits."""
    across: list[float] = []
    up: list[float] = []
    for panel in panels:
        if panel.region == region and panel.answer.n:
            across += panel.means.tolist()
            up += [panel.nothing, *panel.apart.tolist()]
            for value, interval, _ in _limits(panel.answer):
                up += [value, *((interval.low, interval.high) if interval else ())]
    return across, up


def _panel(
    sheet: Sheet,
    place: Place,
    panel: _Panel,
    columns: int,
    ends: tuple[list[float], list[float]],
) -> None:
    answer = panel.answer
    letters = 104 // columns
    top = place.bottom + place.height + 1
    region, n = shortened(panel.region, letters), f"n {answer.n}/{answer.n_given}"
    sheet.text(place.left, top + 2 * _LINE_MM, region, va="bottom", fontsize=6, fontweight="bold")
    small = [f"{shortened(panel.arm, letters)}, {n}", shortened(_figures(answer), 160 // columns)]
    for line, text in zip((1, 0), small, strict=True):
        sheet.text(place.left, top + line * _LINE_MM, text, va="bottom", fontsize=5)
    if not answer.n:
        sheet.frame(place, None, None)
        middle = place.left + place.width / 2, place.bottom + place.height / 2
        why = "\n".join(wrapped("no case has both readers' value", 24))
        sheet.text(*middle, why, ha="center", va="center", color=GREY)
        return
    across = scale_of(ends[0], place.left, place.width, 0.08)
    up = scale_of(ends[1], place.bottom, place.height, 0.12)
    sheet.frame(place, across, up)
    _level(sheet, place, float(up(panel.nothing)), colors=GREY, linewidths=0.6, linestyles=":")
    for value, interval, style in _limits(answer):
        _limit(sheet, place, up, (value, interval), style, panel.colour)
    sheet.points(across(panel.means), up(panel.apart))


def _limits(answer: BlandAltman) -> list[tuple[float, Interval | None, str]]:
    """Give bias and limits with their intervals and styles, those that there are."""
    found = (
        (answer.value, answer.interval, "-"),
        (answer.lower, answer.lower_interval, "--"),
        (answer.upper, answer.upper_interval, "--"),
    )
    return [(value, interval, style) for value, interval, style in found if value is not None]


def _level(sheet: Sheet, place: Place, y: float, **style: Any) -> None:
    sheet.line([place.left, place.left + place.width], [y, y], **style)


def _limit(
    sheet: Sheet,
    place: Place,
    up: Scale,
    limit: tuple[float, Interval | None],
    style: str,
    colour: str,
) -> None:
    value, interval = limit
    if interval is not None and interval.high > interval.low:
        # The bias and its limits may overlap: bands of another colour, those of the limits hatched.
        face, hatch = (colour, "") if style == "-" else (GREY, "////")
        low, high = map(float, up([interval.low, interval.high]))
        band = replace(place, bottom=low, height=high - low)
        sheet.area(band, facecolors=face, alpha=0.3, linewidths=0, hatch=hatch, edgecolors=face)
    look = {"colors": colour, "linewidths": 0.9, "linestyles": style, "zorder": 4}
    _level(sheet, place, float(up(value)), **look)


def _figures(answer: BlandAltman) -> str:
    """Write bias and limits, or why something is not there."""
    texts = []
    word, digits = ("ratio", 2) if answer.scale == "ratio" else ("bias", 1)
    if answer.value is not None:
        texts.append(f"{word} {number(answer.value, digits)}")
    if answer.lower is not None:
        texts.append(f"limits {number(answer.lower, digits)} to {number(answer.upper, digits)}")
    if answer.reason is not None:
        texts.append(REASONS.get(answer.reason.value, answer.reason.value))
    return ", ".join(texts)
