"""A table as JSON, as CSV and as a page for people."""

import csv
import io
import json
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from halfscan_api.statistics.results import Cell, Grid, Line, Table, document, flat

_ENVIRONMENT = Environment(
    loader=PackageLoader("halfscan_api.statistics"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Columns that say what a row is about come first, in this order.
_FIRST = (
    *("kind", "endpoint", "role", "hypothesis", "section", "item", "label", "level", "place"),
    *("reader", "reference_arm", "test_arm"),
)


def as_json(table: Table[Any]) -> str:
    """Write a table with full precision."""
    return json.dumps(table.as_dict(), allow_nan=False, separators=(",", ":")) + "\n"


def as_csv(table: Table[Any]) -> str:
    """Write the rows of a table, one line each, with full precision (RFC 4180).

    A column is the path of a value, such as ``kappa.interval.low``. What a row does not have is
    empty; what is undefined is empty, with the reason in its own column.
    """
    rows = [dict(flat(document(row))) for row in table.rows]
    names = dict.fromkeys(name for row in rows for name in row)
    # A result that is nowhere there is a column of its own name, and no leaf of another.
    inner = {name.split(".")[0] for name in names if "." in name}
    leaves = [name for name in names if name not in inner]
    columns = [
        "revision",
        *(name for name in _FIRST if name in leaves),
        *(name for name in leaves if name not in _FIRST),
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        line = {"revision": table.revision, **row}
        writer.writerow([_cell(line.get(name)) for name in columns])
    return text.getvalue()


def as_html(table: Table[Any]) -> str:
    """Write a page that can be read and printed, with the methods in a footnote."""
    return page(table.title, [as_section(table)], table)


def as_section(table: Table[Any]) -> Markup:
    """Write the tables and footnotes of a page without the page, to be part of a report."""
    template = _ENVIRONMENT.get_template("section.html")
    grids = [grid_html(grid) for grid in table.grids]
    return Markup(template.render(table=table, grids=grids))  # noqa: S704 - escaped by the template


def page(title: str, sections: list[Markup], table: Table[Any]) -> str:
    """Write a page around sections."""
    template = _ENVIRONMENT.get_template("page.html")
    return template.render(title=title, sections=sections, table=table, version=version("halfscan"))


def grid_html(grid: Grid) -> Markup:
    """Write one laid-out table, everything escaped."""
    return Markup(
        "<table>\n<caption>{}</caption>\n<thead>\n{}</thead>\n<tbody>\n{}</tbody>\n</table>"
    ).format(grid.caption, _lines(grid.head, "col"), _lines(grid.body, "row"))


def _lines(lines: tuple[Line, ...], scope: str) -> Markup:
    return Markup("").join(
        Markup("<tr>{}</tr>\n").format(Markup("").join(_td(cell, scope) for cell in line))
        for line in lines
    )


def _td(cell: Cell | str, scope: str) -> Markup:
    if isinstance(cell, str):
        cell = Cell(cell, header=False)
    spans = Markup("")
    if cell.columns > 1:
        spans += Markup(' colspan="{}"').format(cell.columns)
    if cell.rows > 1:
        spans += Markup(' rowspan="{}"').format(cell.rows)
    first, *more = cell.text.split("\n")
    text = escape(first)
    for line in more:
        text += Markup("<br><small>{}</small>").format(line)
    if cell.header:
        return Markup('<th scope="{}"{}>{}</th>').format(scope, spans, text)
    return Markup("<td{}>{}</td>").format(spans, text)


def _cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float | str):
        return value
    return json.dumps(value, sort_keys=True)
