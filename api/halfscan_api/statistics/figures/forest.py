"""Forest plot of kappas: naive and cluster-robust intervals side by side, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sqlalchemy.orm import Session

from halfscan_api.statistics import agreement
from halfscan_api.statistics.agreeing import KappaRow
from halfscan_api.statistics.figures.canvas import (
    FAINT,
    GREY,
    INK,
    ORANGE,
    SMALL_PT,
    Picture,
    Room,
    legend_mm,
    new_figure,
    panels_in,
    plain,
    row_label,
    row_text,
    saying,
    shortened,
    title_and_legend,
    widest_mm,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import AgreementQuery
from halfscan_api.statistics.results import REASONS, Table, number
from halfscan_stats import Agreement, Interval

MOST_ROWS = 300
_ROW_MM = 4.0
_WORDS = ((0.1, "slight"), (0.3, "fair"), (0.5, "moderate"), (0.7, "substantial"))
_WORDS_MM, _BOTTOM_MM = 7.0, 9.0
_LABEL = 40  # letters
_N_MM = {True: 42.0, False: 24.0}  # where n stands, with and without a column before it
_APART = 0.17  # rows between the two intervals


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the plot: a heading, or a kappa."""

    label: str
    kappa: Agreement | None = None


def draw(session: Session, frame: Frame, section: str, sequence: str | None) -> Picture:
    """Draw the kappas of the findings, or of the scores of a sequence.

    Parameters
    ----------
    session : Session
    frame : Frame
    section : str
        ``findings`` or ``scores``.
    sequence : str or None
        Of the scores.

    Returns
    -------
    Picture
    """
    options = AgreementQuery.model_validate({"section": section})
    return of_table(frame, agreement.compute(session, frame, options), section, sequence)


def of_table(
    frame: Frame, table: Table[agreement.Row], section: str, sequence: str | None
) -> Picture:
    """Draw the kappas of a table that was computed."""
    place = sequence if section == "scores" else None
    what = "findings" if place is None else f"scores, {frame.sequence_label(place)}"
    name = f"Agreement (kappa): {what}"
    rows = [
        row
        for row in table.rows
        if isinstance(row, KappaRow) and row.section == section and row.place == place
    ]
    if not rows:
        return saying(
            name,
            "There is no pair of readings that could agree: fewer than two readers "
            "or no such question.",
        )
    if not any(row.kappa.n for row in rows):
        return saying(name, "No case has been read twice yet: no two complete readings to compare.")
    if len(rows) > MOST_ROWS:
        return saying(
            name,
            f"This figure would have {len(rows)} rows, at most {MOST_ROWS} are drawn: see the "
            "table of agreement.",
        )
    return _draw(name, _lines(rows), rows[0].kappa.weights)


def _lines(rows: Sequence[KappaRow]) -> list[_Line]:
    lines: list[_Line] = []
    for compared in dict.fromkeys(row.compared for row in rows):
        lines.append(_Line(agreement.heading(compared)))
        lines += [_Line(row.label, row.kappa) for row in rows if row.compared == compared]
    return lines


def _draw(name: str, lines: Sequence[_Line], weights: str) -> Picture:
    kappas = [line.kappa for line in lines if line.kappa is not None]
    robust = any(kappa.n_clusters is not None for kappa in kappas)
    texts = ["kappa, interval that takes all observations for independent"]
    texts += ["cluster-robust interval (patients)"] if robust else []
    top = legend_mm(texts) + _WORDS_MM
    figure = new_figure(len(lines) * _ROW_MM + top + _BOTTOM_MM, fitted=False)
    left = widest_mm(figure, [shortened(line.label, _LABEL) for line in lines if line.kappa]) + 3
    right = _N_MM[robust] + 14
    axes = panels_in(figure, 1, 1, Room(left, right, top, _BOTTOM_MM, 0, 0))[0, 0]
    low = min([0.0, *(interval.low for kappa in kappas for interval in _intervals(kappa))])
    _background(axes, low, len(lines))
    rows = [(y, line.kappa) for y, line in enumerate(lines) if line.kappa is not None]
    _kappas(axes, rows, low, robust=robust)
    _labels(axes, lines, robust=robust)
    handles = [Line2D([], [], color=INK, marker="o", markersize=3)]
    handles += [Line2D([], [], color=ORANGE, linewidth=2)] if robust else []
    title_and_legend(figure, name, handles, texts)
    return Picture(figure, name, _caption(kappas, weights, robust=robust))


def _background(axes: Axes, low: float, n_lines: int) -> None:
    axes.set(xlim=(low - 0.03, 1.03), ylim=(n_lines - 0.4, -0.6))
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        axes.axvline(value, color=FAINT, linewidth=0.5, zorder=0)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0] if low > -0.25 else [-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("kappa")
    axes.spines["left"].set_visible(False)
    if low > -0.25:
        for x, word in (*_WORDS, (0.9, "almost\nperfect")):
            axes.text(x, -0.75, word, ha="center", va="bottom", fontsize=5, color=GREY)


def _kappas(axes: Axes, rows: Sequence[tuple[int, Agreement]], low: float, *, robust: bool) -> None:
    """Draw the kappas of all rows with their intervals, or say why there is none."""
    above = _APART * robust
    points = [(kappa.value, y - above) for y, kappa in rows if kappa.value is not None]
    if points:
        axes.plot(*zip(*points, strict=True), "o", color=INK, markersize=3, zorder=3)
    naive = [(y - above, kappa.interval) for y, kappa in rows if kappa.interval is not None]
    _bars(axes, naive, INK, 0.9)
    over_patients = [
        (y + _APART, kappa.cluster_interval)
        for y, kappa in rows
        if kappa.cluster_interval is not None
    ]
    _bars(axes, over_patients, ORANGE, 2.0)
    for y, kappa in rows:
        reason = _reason(kappa)
        if reason is not None:
            axes.text(
                low, y, plain(reason), va="center", fontsize=SMALL_PT, color=GREY, style="italic"
            )


def _bars(
    axes: Axes, intervals: Sequence[tuple[float, Interval]], colour: str, width: float
) -> None:
    lows, highs = ([getattr(one, end) for _, one in intervals] for end in ("low", "high"))
    axes.hlines([y for y, _ in intervals], lows, highs, colors=colour, linewidths=width)


def _labels(axes: Axes, lines: Sequence[_Line], *, robust: bool) -> None:
    axes.set_yticks([])
    columns = [("kappa (95% CI)", 1.0)]
    columns += [("patients' CI", 24.0)] if robust else []
    columns.append(("n", _N_MM[robust]))
    for text, x in columns:
        row_text(axes, x, -1.0, text, fontweight="bold")
    for y, line in enumerate(lines):
        if line.kappa is None:
            _heading(axes, y, line.label)
            continue
        kappa = line.kappa
        row_label(axes, y, shortened(line.label, _LABEL))
        texts = [_text(kappa.value, kappa.interval)]
        texts += [_text(None, kappa.cluster_interval)] if robust else []
        texts.append(f"{kappa.n}/{kappa.n_given}")
        for (_, x), text in zip(columns, texts, strict=True):
            row_text(axes, x, y, text)


def _heading(axes: Axes, y: float, text: str) -> None:
    axes.text(
        *(0, y, plain(shortened(text, 62))),
        transform=axes.get_yaxis_transform(),
        va="center",
        fontweight="bold",
        fontsize=SMALL_PT,
        zorder=4,
    )


def _text(value: float | None, interval: Interval | None) -> str:
    shown = number(value) if value is not None else ""
    if interval is None:
        return shown or "\N{EN DASH}"
    return f"{shown} ({number(interval.low)}, {number(interval.high)})".strip()


def _intervals(kappa: Agreement) -> list[Interval]:
    found = [one for one in (kappa.interval, kappa.cluster_interval) if one is not None]
    if kappa.value is not None and kappa.value < 0:
        found.append(Interval(kappa.value, kappa.value))
    return found


def _reason(kappa: Agreement) -> str | None:
    if kappa.value is None:
        return f"undefined: {_meaning(kappa.reason)}"
    if kappa.interval is None:
        return f"no interval: {_meaning(kappa.reason)}"
    if kappa.n_clusters is not None and kappa.cluster_interval is None:
        return f"no interval over patients: {_meaning(kappa.cluster_reason)}"
    return None


def _meaning(reason: str | None) -> str:
    return REASONS.get(str(reason), str(reason)).removesuffix(": there is no interval")


def _caption(kappas: Sequence[Agreement], weights: str, *, robust: bool) -> str:
    methods = "; ".join(dict.fromkeys(kappa.method for kappa in kappas))
    weighted = "unweighted" if weights == "none" else f"{weights} weights"
    beside = (
        " The thin interval takes observations for independent, the broad one allows for several "
        "of a patient."
        if robust
        else ""
    )
    return (
        f"Kappa ({weighted}) with its 95% interval, clipped at 1.{beside} n: observations used, of "
        f"those that there could be. Words: Landis & Koch 1977. {methods}."
    )
