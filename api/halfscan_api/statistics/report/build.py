"""The report of a study: one HTML file with everything in it, and nothing from elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy.orm import Session

from halfscan_api.statistics import options
from halfscan_api.statistics.figures import catalogue
from halfscan_api.statistics.figures.catalogue import FigureName, FigureQuery
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.render import grid_html
from halfscan_api.statistics.report.checklist import judged
from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.inline import inline_svg
from halfscan_api.statistics.report.methods import Tables, item_of, kind_of, paragraphs
from halfscan_api.statistics.report.primary import primary_endpoints
from halfscan_api.statistics.results import Table, word_of
from halfscan_api.statistics.service import SUBJECTS
from halfscan_api.statistics.snr import signal_regions

# Sequences with figures of their own; those of further ones are at their address.
MOST_SEQUENCES = 8
MOST_CELLS = 60_000
_WORDS = {"participants", "protocol", "conduct", "failures"}  # tables whose cells are words
# Columns that stand beside each other on a page across, and upright.
_UNBROKEN, _UPRIGHT = 10, 7

_ENVIRONMENT = Environment(
    loader=PackageLoader("halfscan_api.statistics"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
GetTable = Callable[[str, options.TableQuery], Table[Any]]
# Parts done, parts in all, the one that is made next.
Progress = Callable[[int, int, str], None]
# Section, its heading, its table.
_SECTIONS: Final = (
    ("participants", "Participants", "participants"),
    ("conduct", "Conduct of the readings", "conduct"),
    ("parameters", "Technical parameters", "protocol"),
    ("scan-time", "Scan time", "scan-time"),
    ("image-quality", "Image quality", "image-quality"),
    ("visual-grading", "Visual grading", "visual-grading"),
    ("snr", "SNR", "snr"),
    ("agreement", "Agreement", "agreement"),
    ("detection", "Detection", "detection"),
    ("equivalence", "Equivalence", "equivalence"),
    ("robustness", "Robustness", "robustness"),
    ("failures", "Failure analysis", "failures"),
    ("mrmc", "Many readers, many cases", "mrmc"),
    ("sample-size", "Sample size", "sample-size"),
)


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table; `numbers` where its cells are figures, and few enough to stand unbroken."""

    table: Markup
    columns: int
    numbers: bool


@dataclass(frozen=True, slots=True)
class FigureBlock:
    """A figure with its number, or the words that stand in its place."""

    number: int
    title: str
    caption: str
    svg: Markup | None


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the results."""

    anchor: str
    heading: str
    table: Table[Any]
    grids: list[TableBlock]
    figures: list[FigureBlock]
    remarks: list[str] = field(default_factory=list)

    @property
    def broad(self) -> bool:
        """Whether its tables are printed across the page."""
        return any(grid.columns > _UPRIGHT for grid in self.grids)


class _Parts:
    """Counts the parts of a report as they are made."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, -1

    def next(self, name: str) -> None:
        """Begin a part: what went before is done."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, name)


@dataclass(slots=True)
class _Drawing:
    """What the sections are made from; counts tables and figures through the report."""

    session: Session
    frame: Frame
    computed: Tables
    parts: _Parts
    tables: int = 0
    figures: int = 0


def build(
    session: Session, facts: Facts, get_table: GetTable, *, progress: Progress | None = None
) -> str:
    """Write the report.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    facts : Facts
    get_table : callable
        Computes a table, or takes it from a cache.
    progress : callable, optional
        Called before each part with the parts done, the parts in all and the name of the part.

    Returns
    -------
    str
        HTML.
    """
    frame = facts.frame
    asked = {anchor: list(_FIGURES.get(anchor, _no_figures)(frame)) for anchor, _, _ in _SECTIONS}
    parts = _Parts(len(SUBJECTS) + sum(map(len, asked.values())) + 1, progress)
    tables: dict[str, Table[Any]] = {}
    for name, subject in SUBJECTS.items():
        parts.next(f"table {name}")
        tables[name] = get_table(name, subject.query())
    drawing = _Drawing(session, frame, tables, parts)
    sections = [
        _section(drawing, (anchor, heading), tables[name], asked[anchor])
        for anchor, heading, name in _SECTIONS
    ]
    parts.next("text")
    return _page(facts, tables, sections)


def _page(facts: Facts, tables: Tables, sections: list[Section]) -> str:
    items = judged(facts, tables)
    template = _ENVIRONMENT.get_template("report.html")
    return template.render(
        facts=facts,
        frame=facts.frame,
        about=kind_of,
        item_of=partial(item_of, facts.frame.protocol),
        word_of=word_of,
        paragraphs=paragraphs(facts, tables),
        primary=primary_endpoints(facts.frame, tables),
        sections=sections,
        methods=[(section.heading, section.table.methods) for section in sections],
        guidelines=[
            (name, [item for item in items if item.guideline == name])
            for name in dict.fromkeys(item.guideline for item in items)
        ],
    )


def _section(
    drawing: _Drawing,
    names: tuple[str, str],
    table: Table[Any],
    asked: Iterable[tuple[FigureName, FigureQuery]],
) -> Section:
    anchor, heading = names
    frame = drawing.frame
    remarks: list[str] = []
    grids = list(_grids(table, drawing, remarks))
    if len(frame.protocol.sequences) > MOST_SEQUENCES and anchor in _FIGURES:
        left = [frame.sequence_label(name) for name in frame.protocol.sequence_names]
        remarks.append(
            f"Figures of further sequences ({', '.join(left[MOST_SEQUENCES:])}) are at the "
            "addresses of the figures."
        )
    figures = [_figure(drawing, name, query) for name, query in asked]
    return Section(anchor, heading, table, grids, figures, remarks)


def _grids(table: Table[Any], numbers: _Drawing, remarks: list[str]) -> Iterator[TableBlock]:
    cells = 0
    for grid in table.grids:
        cells += sum(map(len, grid.body))
        if cells > MOST_CELLS:
            remarks.append(
                f"Tables from {grid.caption!r} on are left out: more than {MOST_CELLS} cells. They "
                f"are at the address of the table {table.name}."
            )
            return
        numbers.tables += 1
        caption = f"Table {numbers.tables}. {grid.caption}"
        columns = max(map(len, grid.body), default=0)
        yield TableBlock(
            grid_html(replace(grid, caption=caption)),
            columns,
            numbers=table.name not in _WORDS and columns <= _UNBROKEN,
        )


def _figure(drawing: _Drawing, name: FigureName, query: FigureQuery) -> FigureBlock:
    """Draw a figure; other requests may draw theirs between two of ours."""
    from halfscan_api.statistics.figures import canvas  # noqa: PLC0415 - loads matplotlib

    drawing.figures += 1
    number, frame = drawing.figures, drawing.frame
    drawing.parts.next(f"figure {number}")
    with canvas.drawing():
        picture = catalogue.draw_of_tables(frame, name, query, drawing.computed)
        picture = picture or catalogue.draw(drawing.session, frame, name, query)
        if picture.empty:
            return FigureBlock(number, picture.title, picture.caption, None)
        content = canvas.render(picture, "svg")
    return FigureBlock(
        number, picture.title, picture.caption, inline_svg(content, f"figure{number}")
    )


# --- which figures ------------------------------------------------------------------------------

Asked = Iterator[tuple[FigureName, FigureQuery]]


def _of_sequences(names: list[str], name: FigureName, **more: Any) -> Asked:
    for sequence in names[:MOST_SEQUENCES]:
        yield name, FigureQuery.model_validate({"sequence": sequence, **more})


def _scored(frame: Frame) -> list[str]:
    protocol = frame.protocol
    return [name for name in protocol.sequence_names if protocol.criteria_of(name)]


def _score_figures(frame: Frame) -> Asked:
    yield from _of_sequences(_scored(frame), "likert")


def _snr_figures(frame: Frame) -> Asked:
    measured = [name for name in frame.protocol.sequence_names if signal_regions(frame, name)]
    yield from _of_sequences(measured, "snr")
    yield from _of_sequences(measured, "bland-altman")


def _agreement_figures(frame: Frame) -> Asked:
    if frame.protocol.findings:
        yield "kappa", FigureQuery(section="findings")
    yield from _of_sequences(_scored(frame), "kappa", section="scores")


def _detection_figures(frame: Frame) -> Asked:
    if frame.protocol.findings:
        for arm in frame.test_arms:
            yield "mcnemar", FigureQuery(arm=arm)


def _flow_figures(frame: Frame) -> Asked:
    del frame
    yield "participants", FigureQuery()


def _margin_figures(frame: Frame) -> Asked:
    if any(one.margin is not None for one in frame.protocol.endpoints):
        for arm in frame.test_arms:
            yield "equivalence", FigureQuery(arm=arm)


def _no_figures(frame: Frame) -> Asked:
    del frame
    yield from ()


_FIGURES: Final[dict[str, Callable[[Frame], Iterable[tuple[FigureName, FigureQuery]]]]] = {
    "participants": _flow_figures,
    "image-quality": _score_figures,
    "snr": _snr_figures,
    "agreement": _agreement_figures,
    "detection": _detection_figures,
    "equivalence": _margin_figures,
}
