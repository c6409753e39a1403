"""Non-inferiority and equivalence: each difference with its interval against the margin."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from sqlalchemy.orm import Session

from halfscan_api.statistics import equivalence
from halfscan_api.statistics.equivalence_rows import MeanRow, Row
from halfscan_api.statistics.figures.canvas import (
    FAINT,
    GREY,
    INK,
    SMALL_PT,
    TITLE_Y,
    Picture,
    new_figure,
    plain,
    row_text,
    saying,
    shortened,
    title_and_legend,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import InterchangeRow
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.results import REASONS, Table, used, with_interval, word_of, yes
from halfscan_api.studies.protocol import EndpointKind, Hypothesis
from halfscan_stats import Interval

MOST_ROWS = 200
_NAME = "Non-inferiority and equivalence: difference against the margin"
_ROW_MM, _HEAD_MM = 4.4, 17.0


def draw(session: Session, frame: Frame, test_arm: str) -> Picture:
    """Draw every declared comparison of one arm with the reference.

    Parameters
    ----------
    session : Session
    frame : Frame
    test_arm : str

    Returns
    -------
    Picture
    """
    # The figure shows no interchangeability: nothing is resampled for it.
    table = equivalence.compute(session, frame, EquivalenceQuery(resamples=0))
    return of_table(frame, table, test_arm)


def of_table(frame: Frame, table: Table[Row], test_arm: str) -> Picture:
    """Draw a table that was computed."""
    rows = [row for row in table.rows if row.endpoint is not None and row.test_arm == test_arm]
    if not rows:
        return saying(_NAME, "The protocol declares no endpoint with a margin, or has no reader.")
    if not any(row.result.n for row in rows):
        return saying(_NAME, "No case has been read in both arms yet.")
    if len(rows) > MOST_ROWS:
        return saying(
            _NAME,
            f"This figure would have {len(rows)} rows, at most {MOST_ROWS} are drawn: see the "
            "table of equivalence.",
        )
    return _draw(frame, rows, test_arm)


def _draw(frame: Frame, rows: Sequence[Row], test_arm: str) -> Picture:
    by_endpoint = [
        [row for row in rows if row.endpoint == name]
        for name in dict.fromkeys(row.endpoint for row in rows)
    ]
    heights = [len(some) * _ROW_MM + _HEAD_MM for some in by_endpoint]
    figure = new_figure(sum(heights) + 14)
    panels = figure.subplots(len(by_endpoint), squeeze=False, height_ratios=heights)
    kinds: dict[str | None, EndpointKind] = {
        endpoint.name: endpoint.kind for endpoint in frame.protocol.endpoints
    }
    for axes, some in zip(panels[:, 0], by_endpoint, strict=True):
        _panel(frame, axes, some, kinds[some[0].endpoint])
    handles = [
        Line2D([], [], color=INK, marker="o", markersize=3, linewidth=1.2),
        Line2D([], [], color=INK, linestyle="--", linewidth=0.8),
    ]
    texts = [
        "difference and the interval that decides",
        "margin",
    ]
    title_and_legend(figure, _NAME, handles, texts)
    names = frame.arm_label(frame.reference), frame.arm_label(test_arm)
    return Picture(
        figure,
        _NAME,
        f"Difference: {names[1]} minus {names[0]}, with intervals of confidence 1 - 2 alpha, "
        "which decide as the tests do; those of findings allow for the levels and readers of a "
        "patient. Non-inferiority is shown where the interval lies wholly on the "
        "better side of the margin, equivalence where it lies between both. Shown: before / with "
        "the correction for several tests. Shaded: beyond the margin.",
    )


def _panel(frame: Frame, axes: Axes, rows: Sequence[Row], kind: EndpointKind) -> None:
    margins = _margins(rows[0], kind)
    low, high = _range(rows, margins)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axes.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
    for margin in margins:
        axes.axvline(margin, color=INK, linestyle="--", linewidth=0.8, zorder=1)
        axes.axvspan(*((low, margin) if margin < 0 else (margin, high)), color=FAINT, alpha=0.35)
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(rows)), labels=[_label(frame, row) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    first = rows[0]
    axes.set_title(
        plain(
            shortened(
                f"{str(first.endpoint).replace('_', ' ')} ({first.role}): "
                f"{word_of(first.hypothesis)}",
                80,
            )
        ),
        pad=14,
        y=TITLE_Y,
    )
    axes.set_xlabel(_unit(first, kind))
    for text, x in (("difference", 1.0), ("shown", 31.0), ("n", 45.0)):
        row_text(axes, x, -0.95, text, fontweight="bold")
    for y, row in enumerate(rows):
        _row(axes, y, row, low)


def _row(axes: Axes, y: float, row: Row, low: float) -> None:
    value, decision = row.estimate, row.result.decision
    if value is not None:
        axes.plot([value], [y], "o", color=INK, markersize=3, zorder=3)
    if decision.interval is not None:
        _bar(axes, y, decision.interval)
    elif decision.reason is not None:
        meaning = REASONS.get(str(decision.reason), str(decision.reason))
        axes.text(
            *(low, y, plain(meaning)),
            va="center",
            fontsize=SMALL_PT,
            color=GREY,
            style="italic",
        )
    row_text(axes, 1.0, y, with_interval(value, decision.interval, None, 3))
    corrected = row.adjusted.significant if row.adjusted is not None else None
    row_text(axes, 31.0, y, f"{yes(row.shown)} / {yes(corrected)}")
    row_text(axes, 45.0, y, used(row.result.n, row.result.n_given))


def _bar(axes: Axes, y: float, interval: Interval) -> None:
    axes.plot(
        [interval.low, interval.high], [y, y], color=INK, linewidth=1.2, solid_capstyle="butt"
    )


def _margins(row: Row, kind: EndpointKind) -> list[float]:
    """Give the limits that the interval must not touch: a scan is worse where it is longer."""
    if row.hypothesis == Hypothesis.EQUIVALENCE:
        return [-row.margin, row.margin]
    if row.hypothesis == Hypothesis.INTERCHANGEABILITY:
        return [row.margin]
    return [row.margin if kind is EndpointKind.SCAN_TIME else -row.margin]


def _range(rows: Sequence[Row], margins: Sequence[float]) -> tuple[float, float]:
    found = [0.0, *margins, *(-margin for margin in margins)]
    for row in rows:
        value = row.estimate
        found += [value] if value is not None else []
        interval = row.result.decision.interval
        found += [interval.low, interval.high] if interval is not None else []
    room = 0.05 * (max(found) - min(found))
    return min(found) - room, max(found) + room


def _label(frame: Frame, row: Row) -> str:
    place = row.place if isinstance(row, MeanRow) else None
    what = f"{row.label}, {frame.sequence_label(place)}" if place else row.label
    together = "" if isinstance(row, MeanRow) else "all readers"
    who = shortened(row.reader or together, 16)
    return plain(", ".join(part for part in (shortened(what, 44), who) if part))


def _unit(row: Row, kind: EndpointKind) -> str:
    if isinstance(row, InterchangeRow):
        return "index: further disagreement of two readers, as a share of levels"
    return {
        EndpointKind.DETECTION: "difference of the share of levels with the finding",
        EndpointKind.IMAGE_QUALITY: "difference of the mean score [points]",
        EndpointKind.SNR: "difference of the mean SNR",
        EndpointKind.SCAN_TIME: "difference of the mean scan time [s]",
    }.get(kind, "difference")
