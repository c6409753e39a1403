"""What a table is: frozen rows with results of `halfscan_stats` in them, and how it is laid out.

A row says which item, place, readers and arms it is about, and carries results with full precision.
The layout for people is made from the rows alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Generic, Self, TypeVar

from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import TableQuery
from halfscan_api.studies.protocol import Hypothesis
from halfscan_stats import Result, SampleSize
from halfscan_stats.result import plain

R = TypeVar("R")

NOTHING = "\N{EN DASH}"  # stands where there is no number

# What a reason means, in the footnote of a table in which it stands.
REASONS = {
    "rater_constant": "a reader gave the same score throughout",
    "no_variation": "everyone gave the same score",
    "perfect_agreement": "all agree: there is no interval",
    "constant_difference": "all paired differences are the same: there is nothing to test against",
    "all_differences_zero": "every pair is tied",
    "no_discordant": "no pair disagrees",
    "too_few": "fewer observations, readers or patients than the method needs",
    "zero_variance": "the estimated standard error is zero",
    "negative_variance": "a variance came out negative",
    "undefined_resamples": "too many bootstrap resamples had no answer",
    "undefined": "the statistic has no value on these data",
    "no_convergence": "the iterative fit found no solution",
    "singular": "a matrix of the fit has no inverse",
    "unbounded": "the denominator is zero: there is no upper limit",
    "too_many": "more observations than the approximation, or the search for a size, was made for",
    "not_positive": "a measurement is 0 or below: it has no logarithm, and no ratio",
    "pairs_unknown": "only the discordant pairs are known",
    "not_reachable": "no finite sample gives what was asked for",
    "no_reference_standard": (
        "the study has no reference standard: MRMC needs one (truth in the protocol, or "
        "truth_reader)"
    ),
    "no_truth_reader": "the study has no reader of the name that the protocol gives its truth",
    "no_margin": "no endpoint declares a margin",
    "not_recorded": "the archived headers were not recorded at enrolment",
    "not_in_headers": "the archived headers do not state it",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a laid-out table; text that is not a `Cell` is a plain one.

    Attributes
    ----------
    text : str
    header : bool
    columns, rows : int
        How many columns and rows it spans.
    """

    text: str
    header: bool = True
    columns: int = 1
    rows: int = 1


Line = tuple[Cell | str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as it is printed.

    Attributes
    ----------
    caption : str
    head, body : tuple of Line
    """

    caption: str
    head: tuple[Line, ...]
    body: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Table(Generic[R]):
    """The answer of one endpoint.

    Attributes
    ----------
    name, title : str
    study : str
    revision, protocol_version : int
        What it was computed from.
    options : mapping
        What was asked for.
    rows : tuple
        Frozen rows; `kind` tells which one.
    grids : tuple of Grid
        The rows laid out as in the publication.
    notes : tuple of str
        What a reader of the table must know.
    """

    name: str
    title: str
    study: str
    revision: int
    protocol_version: int
    options: Mapping[str, Any]
    rows: tuple[R, ...]
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        frame: Frame,
        options: TableQuery,
        *,
        name: str,
        title: str,
        rows: tuple[R, ...],
        grids: tuple[Grid, ...],
        notes: tuple[str, ...],
    ) -> Self:
        """Make the table of a study at one revision, as it was asked for."""
        return cls(
            name=name,
            title=title,
            study=frame.name,
            revision=frame.revision,
            protocol_version=frame.protocol_version,
            options=options.shown(),
            rows=rows,
            grids=grids,
            notes=notes,
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of all results, each once."""
        return tuple(dict.fromkeys(text for name, text in _said(self.rows) if name == "method"))

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons that stand in the rows, and what they mean."""
        found = dict.fromkeys(text for name, text in _said(self.rows) if _is_reason(name))
        return {reason: REASONS.get(reason, reason) for reason in found}

    @property
    def printed_reasons(self) -> dict[str, str]:
        """Those of the reasons that stand in a bracket of the laid-out tables."""
        cells = [
            cell.text if isinstance(cell, Cell) else cell
            for grid in self.grids
            for line in grid.body
            for cell in line
        ]
        text = "\n".join(cells)
        return {
            words_of(name): says
            for name, says in self.reasons.items()
            if f"[{words_of(name)}]" in text
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it, with full precision; undefined is null, beside its reason."""
        return {
            "table": self.name,
            "title": self.title,
            "study": self.study,
            "revision": self.revision,
            "protocol_version": self.protocol_version,
            "options": plain(self.options),
            "rows": [document(row) for row in self.rows],
            "methods": list(self.methods),
            "reasons": self.reasons,
            "notes": list(self.notes),
        }


def document(value: object) -> Any:
    """Write a row as JSON knows it: results with all that they say of themselves."""
    if isinstance(value, Result | SampleSize):
        return value.as_dict()
    if value is None or isinstance(value, int | float) or type(value) is str:
        return plain(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: document(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(name): document(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [document(item) for item in value]
    return plain(value)


def flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of a document with their paths: ``kappa.interval.low``."""
    for name, value in row.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield path, value


def _said(value: object) -> Iterator[tuple[str, str]]:
    """Find every method and every reason, at any depth, with the name of its field."""
    if isinstance(value, tuple):
        # Of counts, only results say something.
        for item in value if value and is_dataclass(value[0]) else ():
            yield from _said(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for name in _names(type(value)):
            inner = getattr(value, name)
            if isinstance(inner, str):
                # Of a row, `method` is a name among others, and no sentence.
                is_method = name == "method" and not hasattr(value, "kind")
                if is_method or _is_reason(name):
                    yield name, str(inner)
            elif inner is not None:
                yield from _said(inner)


def _is_reason(name: str) -> bool:
    """Whether a field says why something is not there: reason, cluster_reason."""
    return name == "reason" or name.endswith("_reason")


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


# --- how figures are written for people ---------------------------------------------------------


def words_of(name: str) -> str:
    """Write the name of a reason or of an endpoint for people: ``constant difference``."""
    return str(name).replace("_", " ")


def word_of(hypothesis: str) -> str:
    """Write a hypothesis for people."""
    return "non-inferiority" if hypothesis == Hypothesis.NONINFERIORITY else hypothesis


def yes(value: bool | None) -> str:  # noqa: FBT001 - a word for it
    """Write an answer."""
    return NOTHING if value is None else "yes" if value else "no"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number; an en dash where there is none."""
    if value is None:
        return NOTHING
    # A little below zero is written as zero: adding 0 takes the sign of a negative zero away.
    return f"{round(value, digits) + 0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def p_text(p_value: float | None, reason: str | None = None) -> str:
    """Write a p-value as journals do: three digits, < 0.001 below."""
    if p_value is None:
        return f"{NOTHING} [{words_of(reason)}]" if reason else NOTHING
    shown = "<\N{NO-BREAK SPACE}0.001" if p_value < 0.001 else f"{p_value:.3f}"
    return f"{shown} [{words_of(reason)}]" if reason else shown


def with_interval(value: float | None, interval: Any, reason: str | None, digits: int = 2) -> str:
    """Write ``0.82 (0.68, 0.96)``; the reason stands where something is not there."""
    text = number(value, digits)
    if interval is not None:
        # Without a break: an interval is read in one.
        text += (
            f" ({number(interval.low, digits)},\N{NO-BREAK SPACE}{number(interval.high, digits)})"
        )
    return f"{text} [{words_of(reason)}]" if reason else text


def interval_text(interval: Any, digits: int = 2) -> str:
    """Write ``(0.68, 0.96)`` alone; an en dash where there is none."""
    return with_interval(None, interval, None, digits).removeprefix(NOTHING).strip() or NOTHING


def used(n: int, n_given: int) -> str:
    """Write how many observations were used, of those that there could be."""
    return f"{n} of {n_given}"


def share(count: int, total: int) -> str:
    """Write a count with its percentage."""
    return f"{count} ({100 * count / total:.1f})" if total else str(count)
