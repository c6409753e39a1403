"""What `inspect` and `reconstruct` print for people."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from halfscan_plugin.headers import as_number, printable

__all__ = ["print_inspection", "print_reconstruction"]

WIDTH = 200  # columns where no terminal says how wide it is
STYLES = {"reconstruct": "bold green", "skip": "bold yellow", "done": "bold green",
          "skipped": "bold yellow", "failed": "bold red", "unreadable": "bold red"}  # fmt: skip
MOST_VALUES = 6  # of a label, in a line


def print_inspection(reports: Iterable[Mapping[str, Any]], *, explain: bool) -> None:
    """Print what `inspect_series` says of each series.

    Parameters
    ----------
    reports : iterable of dict
        As `inspect_series` gives them.
    explain : bool
        Whether each rule that was tried is shown, with the first condition that failed.
    """
    console = _console()
    for report in reports:
        _print_head(console, report["decision"], report["series_instance_uid"])
        lines = [
            ("series", _series(report)),
            ("images", _images(report)),
            ("rule", report["rule"]),
            ("reason", f"{report['reason']} [{report['reason_code']}]"),
            ("settings", _settings(report)),
            *[("warning", warning) for warning in report["warnings"]],
        ]
        if explain:
            lines += _tried(report)
        _print_lines(console, lines)
        if report["evidence"]:
            _print_evidence(console, report["evidence"])
        console.print()


def print_reconstruction(reports: Iterable[Mapping[str, Any]]) -> None:
    """Print what `reconstruct_folder` did with each series."""
    console = _console()
    for report in reports:
        _print_head(console, report["status"], report["series_instance_uid"] or report["file"])
        lines = [
            ("rule", report["rule"] or ""),
            ("reason", f"{report['reason']} [{report['reason_code']}]"),
            *[("warning", warning) for warning in report["warnings"] if warning],
        ]
        if report["status"] == "done":
            count = _counted(len(report["files"]), "file")
            lines.append(("files", f"{count} in {report['folder']}"))
        if report["forced"]:
            lines.append(("forced", "on demand, against the decision to skip it"))
        _print_lines(console, lines)


def _console() -> Console:
    """Make a console for standard output: wide where it is no terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def _print_head(console: Console, word: str, uid: str) -> None:
    console.print(Text.assemble((f"{word:11}", STYLES[word]), f"  {_safe(uid)}"), soft_wrap=True)


def _print_lines(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, written in lines:
        if written:
            style = "yellow" if name == "warning" else ""
            grid.add_row(Text(name, "dim"), Text(_safe(written), style, overflow="fold"))
    console.print(_indented(grid))


def _print_evidence(console: Console, evidence: Iterable[Mapping[str, str]]) -> None:
    columns = ("tag", "name", "value", "says")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "tag")
    for item in evidence:
        table.add_row(*(Text(_safe(item[column])) for column in columns))
    console.print(_indented(table))


def _indented(table: Table) -> Padding:
    return Padding(table, (0, 0, 0, 2), expand=False)


def _series(report: Mapping[str, Any]) -> str:
    scanner = " ".join(filter(None, (report["manufacturer"], report["manufacturer_model_name"])))
    return ", ".join(filter(None, (scanner, report["series_description"])))


def _tried(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say of each rule that was tried why it did not decide."""
    if not report["tried"]:
        return [("tried", "no rule: such a series is skipped before any")]
    return [
        ("tried", f"{trial['rule']}: {trial['failure'] or 'every condition holds: it decides'}")
        for trial in report["tried"]
    ]


def _images(report: Mapping[str, Any]) -> str:
    """Say how many objects there are, and which volumes they form: alike ones together."""
    alike: dict[str, list[Mapping[str, str]]] = {}
    for stack in report["stacks"]:
        alike.setdefault(_volume(stack), []).append(stack["labels"])
    volumes = []
    for volume, labels in alike.items():
        number = f"{len(labels)} volumes of " if len(labels) > 1 else ""
        by = "".join(f", {name} {_values(labels, name)}" for name in _names(labels))
        volumes.append(f"{number}{volume}{by}")
    return "; ".join((_counted(report["instances"], "object"), *volumes))


def _volume(stack: Mapping[str, Any]) -> str:
    return " ".join(
        (
            _counted(stack["slices"], "slice"),
            *([stack["plane"]] if stack["plane"] else []),
            *([f"every {stack['spacing_mm']:.4g} mm"] if stack["spacing_mm"] else []),
        )
    )


def _names(labels: Iterable[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for one in labels for name in one))


def _values(labels: Iterable[Mapping[str, str]], name: str) -> str:
    values = sorted({one[name] for one in labels if name in one}, key=_order)
    if len(values) > MOST_VALUES:
        values = [*values[: MOST_VALUES - 2], "...", values[-1]]
    return ", ".join(values)


def _order(value: str) -> tuple[float, str]:
    """Order numbers by their size, and texts behind them."""
    number = as_number(value)
    return (math.inf if number is None else number), value


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _settings(report: Mapping[str, Any]) -> str:
    if report["decision"] == "skip":
        return ""
    strength = report["strength"]
    described = report["derived_series_description"]
    return ", ".join(
        filter(
            None,
            (
                f"model {report['model']}" if report["model"] else "",
                f"strength {strength:g}" if strength is not None else "",
                f"called {described!r}" if described else "",
            ),
        )
    )


def _safe(written: str) -> str:
    """Keep what a header holds from moving the cursor of a terminal."""
    return printable(written, longest=2000)
