"""What all figures share: sizes in millimetres, colours, text, and files that come out the same.

Matplotlib draws without pyplot. It keeps its settings in one place for the whole process and does
not promise to work in threads, so that figures are drawn one at a time, under a lock.

Text in an SVG stays text: it can be read aloud, searched and selected, it is a tenth of the size,
and scripts that DejaVu Sans does not have (Chinese labels) are shown by the fonts of the viewer.
Every text is laid out with DejaVu Sans, the widest of the fonts that the file names.
"""

import gc
import io
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAGE_MM = 174.0  # two columns of a journal
PNG_DPI = 300
MOST_MEASURED = 6  # texts, to find the widest
_MM_PER_INCH = 25.4
_PT_PER_MM = 72 / _MM_PER_INCH
_LOCK = threading.Lock()

# Okabe & Ito: told apart with any colour vision, and in print by their lightness.
INK = "#1a1a1a"
GREY = "#767676"
FAINT = "#d9d9d9"
BLUE = "#0072b2"
ORANGE = "#d55e00"
GREEN = "#009e73"
PURPLE = "#cc79a7"
ARM_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
ARM_MARKERS = ("o", "s", "^", "D")

SMALL_PT = 5.5
TEXT_PT = 6.5
TITLE_PT = 7.5
# Of a panel's title [axes], said: otherwise each drawing measures every label to find it.
TITLE_Y = 1.0

# For letters that DejaVu Sans lacks, in a PNG; taken where they are installed.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
)
_STYLE: Any = {
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": TEXT_PT,
    "axes.titlesize": TEXT_PT,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT_PT,
    "axes.linewidth": 0.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": INK,
    # Of vectors and 300 dpi, letters need no fitting to pixels: measured a third faster.
    "text.hinting": "no_hinting",
    "xtick.labelsize": TEXT_PT,
    "ytick.labelsize": TEXT_PT,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 0.8,
    "hatch.linewidth": 0.5,
    "legend.fontsize": TEXT_PT,
    "legend.frameon": False,
    "figure.titlesize": TITLE_PT,
    "figure.titleweight": "bold",
    "svg.fonttype": "none",
    "svg.hashsalt": "halfscan",
}

FileFormat = Literal["svg", "png"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and what is said below it.

    Attributes
    ----------
    figure : Figure
    title : str
        What it shows, in a few words.
    caption : str
        How to read it: symbols, intervals, methods, what is not drawn.
    empty : bool
        Whether it only says why there is nothing to draw.
    """

    figure: Figure
    title: str
    caption: str
    empty: bool = False


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with the settings of all figures; everything of a figure happens in here."""
    with _LOCK, mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        mpl.rcParams["font.family"] = ["sans-serif", *_installed_fallbacks()]
        # A letter that no font has is drawn as a box; in an SVG the viewer's fonts know more.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        with _without_collections():
            yield


@contextmanager
def _without_collections() -> Iterator[None]:
    """Let no garbage be looked for: a figure is a web of cycles, all alive until it is written.

    A fifth of the time of a figure went there.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Room:
    """Room around and between the panels of a figure [mm]."""

    left: float
    right: float
    top: float
    bottom: float
    across: float
    down: float


def new_figure(height_mm: float, *, fitted: bool = True) -> Figure:
    """Make an empty figure as wide as a page.

    Parameters
    ----------
    height_mm : float
    fitted : bool
        Lay it out so that no text is cut; otherwise `panels_in` says where the panels stand, which
        takes a fraction of the time where there are many.
    """
    size = PAGE_MM / _MM_PER_INCH, height_mm / _MM_PER_INCH
    figure = Figure(figsize=size, layout="constrained" if fitted else None)
    FigureCanvasAgg(figure)
    return figure


def height_mm(figure: Figure) -> float:
    """Give the height of a figure [mm]."""
    return float(figure.get_figheight() * _MM_PER_INCH)


def panels_in(figure: Figure, rows: int, columns: int, room: Room, **shared: Any) -> Any:
    """Make panels of equal size, (row, column); `sharex`, `sharey` as in `Figure.subplots`."""
    height = height_mm(figure)
    panel_width = (PAGE_MM - room.left - room.right - (columns - 1) * room.across) / columns
    panel_height = (height - room.top - room.bottom - (rows - 1) * room.down) / rows
    return figure.subplots(
        rows,
        columns,
        squeeze=False,
        **shared,
        gridspec_kw={
            "left": room.left / PAGE_MM,
            "right": 1 - room.right / PAGE_MM,
            "bottom": room.bottom / height,
            "top": 1 - room.top / height,
            "wspace": room.across / panel_width,
            "hspace": room.down / panel_height,
        },
    )


def widest_mm(figure: Figure, texts: Sequence[str], fontsize: float = TEXT_PT) -> float:
    """Measure the widest of texts [mm]; those with fewer letters by far are left out."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined] # of Agg
    font = font_manager.FontProperties(family=mpl.rcParams["font.family"], size=fontsize)
    longest = sorted(dict.fromkeys(texts), key=columns_of, reverse=True)[:MOST_MEASURED]
    widths = [renderer.get_text_width_height_descent(one, font, False)[0] for one in longest]
    return float(max(widths, default=0.0) / figure.dpi * _MM_PER_INCH)


def saying(title: str, text: str) -> Picture:
    """Make a figure that says why there is nothing to draw."""
    figure = new_figure(30, fitted=False)
    figure.suptitle(plain(shortened(title, 110)), x=0.01, ha="left")
    lines = "\n".join(wrapped(text, 100))
    figure.text(0.5, 0.4, plain(lines), ha="center", va="center", color=GREY)
    return Picture(figure, title, text, empty=True)


def render(picture: Picture, kind: FileFormat) -> bytes:
    """Write a figure; the same figure gives the same bytes: no date, no random names."""
    buffer = io.BytesIO()
    layout = picture.figure.get_layout_engine()
    if layout is not None:
        # Laid out here: savefig would draw the whole figure once more to do the same, and does so
        # for the stand-in of "none" too.
        layout.execute(picture.figure)
        picture.figure.set_layout_engine(None)
    metadata: dict[str, Any] = {
        "Title": clean(picture.title),
        "Description": clean(picture.caption),
    }
    if kind == "svg":
        metadata |= {"Date": None, "Creator": "Halfscan"}
    else:
        # The texts of a PNG are Latin-1; its reader has the title in the picture.
        metadata = {"Software": None}
    picture.figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


# --- text ---------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Give a text as matplotlib draws it letter by letter: a dollar sign begins no formula."""
    return clean(text).replace("$", r"\$")


def clean(text: str) -> str:
    """Replace what no XML may hold (control characters, half characters) by a space."""
    return "".join(
        letter
        if letter == "\n" or unicodedata.category(letter) not in {"Cc", "Cs", "Cn", "Co"}
        else " "
        for letter in text
    )


def columns_of(text: str) -> int:
    """Count how many letters wide a text is; a Chinese one counts for two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(text: str, columns: int) -> str:
    """Cut a text that is wider than so many letters, and show that it was cut."""
    text = " ".join(clean(text).split())
    if columns_of(text) <= columns:
        return text
    while columns_of(text) > columns - 1:
        text = text[:-1]
    return f"{text.rstrip()}\N{HORIZONTAL ELLIPSIS}"


def wrapped(text: str, columns: int, *, most: int = 12) -> list[str]:
    """Break a text into lines of at most so many letters; the last of `most` lines is cut."""
    words = [part for word in clean(text).split() for part in _pieces(word, columns)]
    lines: list[str] = []
    while words:
        line = words.pop(0)
        while words and columns_of(f"{line} {words[0]}") <= columns:
            line = f"{line} {words.pop(0)}"
        lines.append(line)
    if len(lines) > most:
        rest = " ".join(lines[most - 1 :])
        lines = [*lines[: most - 1], shortened(rest, columns)]
    return lines


def _pieces(word: str, columns: int) -> Iterator[str]:
    """Break a word that is wider than a line."""
    piece = ""
    for letter in word:
        if columns_of(piece + letter) > columns:
            yield piece
            piece = ""
        piece += letter
    yield piece


# --- axes ---------------------------------------------------------------------------------------


def title(figure: Figure, text: str) -> None:
    """Write the title at the upper left."""
    figure.suptitle(plain(shortened(text, 105)), x=0.005, y=0.995, ha="left", va="top")


def above(axes: Axes, heading: str, *lines: str) -> None:
    """Write a bold heading above a panel and small lines between."""
    axes.set_title(plain(heading), pad=2.5 + 7 * len(lines), fontsize=6, y=TITLE_Y)
    axes.annotate(
        plain("\n".join(lines)),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 2.5),
        textcoords="offset points",
        va="bottom",
        fontsize=5,
    )


def note_in(axes: Axes, text: str, *, columns: int = 40) -> None:
    """Write in the middle of axes why they are empty."""
    lines = "\n".join(wrapped(text, columns))
    axes.text(
        *(0.5, 0.5, plain(lines)),
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=GREY,
        fontsize=SMALL_PT,
    )


def row_label(axes: Axes, y: float, text: str) -> None:
    """Write the name of a row at its left; a tick with a label costs five times as much."""
    axes.annotate(
        plain(text),
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        annotation_clip=False,
    )


def row_text(axes: Axes, x_mm: float, y: float, text: str, **more: Any) -> None:
    """Write a text beside a row: millimetres from the right end of the axes, y in rows."""
    axes.annotate(
        plain(text),
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(x_mm * _PT_PER_MM, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        **{"fontsize": SMALL_PT, **more},
    )


def title_and_legend(
    figure: Figure, name: str, handles: Sequence[Any], labels: Sequence[str]
) -> None:
    """Write the title, and one legend below it in as many columns as fit."""
    texts = [plain(shortened(text, 60)) for text in labels]
    figure.legend(
        handles,
        texts,
        title=plain(shortened(name, 105)),
        title_fontproperties={"size": TITLE_PT, "weight": "bold"},
        alignment="left",
        loc="outside upper left" if figure.get_layout_engine() else "upper left",
        ncols=_legend_columns(labels),
        handlelength=1.6,
        columnspacing=1.2,
        borderaxespad=0.2,
        borderpad=0.1,
    )


def legend_mm(labels: Sequence[str]) -> float:
    """Give the height of a title and its legend [mm]."""
    return 5.0 + 3.5 * -(-len(labels) // _legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    widest = max((columns_of(shortened(text, 60)) for text in labels), default=1)
    return max(1, min(len(labels), 120 // (widest + 6)))


def _installed_fallbacks() -> list[str]:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return [name for name in _FALLBACKS if name in installed]
