"""Bland-Altman plots of two readers' SNR, of each region and arm; limits with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    sheet = sheet_on(figure)
    for place, panel in zip(places(figure, rows, columns, _ROOM), panels, strict=False):
        _panel(sheet, place, panel, columns)
    most = max(len(panel.first) for panel in panels)
    sheet.finish(color=INK, alpha=0.75, rasterized=most > MOST_VECTORS)
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


def _panel(sheet: Sheet, place: Place, panel: _Panel, columns: int) -> None:
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
    means, differences = (panel.first + panel.second) / 2, panel.first - panel.second
    across = scale_of(means, place.left, place.width, 0.08)
    limits = _limits(answer)
    ends = [0.0, *differences, *(value for value, _, _ in limits)]
    ends += [end for _, found, _ in limits if found for end in (found.low, found.high)]
    up = scale_of(ends, place.bottom, place.height, 0.12)
    sheet.frame(place, across, up)
    _level(sheet, place, float(up(0.0)), colors=GREY, linewidths=0.6, linestyles=":")
    for value, interval, style in limits:
        _limit(sheet, place, up, (value, interval), style, panel.colour)
    sheet.points(across(means), up(differences))


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
    if answer.value is not None:
        texts.append(f"bias {number(answer.value, 1)}")
    if answer.lower is not None:
        texts.append(f"limits {number(answer.lower, 1)} to {number(answer.upper, 1)}")
    if answer.reason is not None:
        texts.append(REASONS.get(answer.reason.value, answer.reason.value))
    return ", ".join(texts)
