"""The evaluation as text, as Markdown, as JSON."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from halfscan_models.evaluation.detection import ObserverRow
from halfscan_models.evaluation.measures import Measure, verdict_counts
from halfscan_models.evaluation.run import Evaluation
from halfscan_models.evaluation.table3 import SnrRow
from halfscan_models.evaluation.trials import ARMS

__all__ = ["as_markdown", "as_text", "write_files"]

_HEAD = ("measure", "value", "bar", "")


def as_text(evaluation: Evaluation) -> str:
    """Return the table for a terminal."""
    lines = [_heading(evaluation), ""]
    rows = [_cells(measure) for measure in evaluation.measures]
    widths = [max(len(row[i]) for row in [*rows, _HEAD]) for i in range(4)]
    for section, group in groupby(evaluation.measures, key=lambda measure: measure.section):
        lines.append(section)
        for measure in group:
            cells = [c.ljust(w) for c, w in zip(_cells(measure), widths, strict=True)]
            lines.append("  " + "  ".join([*cells, measure.note]).rstrip())
    lines += ["", "Simulated Table 3 (SNR over the background), and the published ratio"]
    lines += [_snr_line(row) for row in evaluation.snr_rows]
    lines += ["", "Model observers: AUC of standard, accelerated, network; network less standard,"]
    lines.append(
        "less accelerated; correct forced choices [%]; signal and noise that the network keeps"
    )
    lines += ["  " + "  ".join(_observer_cells(row)) for row in evaluation.observer_rows]
    lines += ["", *(f"left out: {reason}" for reason in evaluation.skipped)]
    return "\n".join([*lines, _summary(evaluation)])


def as_markdown(evaluation: Evaluation) -> str:
    """Return the tables as Markdown."""
    lines = [f"{_heading(evaluation)}. {_summary(evaluation)}"]
    for section, group in groupby(evaluation.measures, key=lambda measure: measure.section):
        lines += ["", f"### {section}", "", "| measure | value | bar | | what it is |"]
        lines.append("| --- | ---: | ---: | --- | --- |")
        lines += ["| " + " | ".join([*_cells(m), m.note]) + " |" for m in group]
    lines += ["", "### Simulated Table 3, structure by structure", ""]
    lines.append(
        "| sequence | structure | patients | standard | network | ratio | published ratio | "
        "in tissue: over standard | over its input |"
    )
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in evaluation.snr_rows:
        published = "" if row.published_ratio is None else f"{row.published_ratio:.2f}"
        lines.append(
            f"| {row.sequence} | {row.region} | {row.patients} | {row.standard:.1f} | "
            f"{row.network:.1f} | {row.ratio:.2f} | {published} | {row.tissue_ratio:.2f} | "
            f"{row.tissue_gain:.2f} |"
        )
    lines += _observer_table(evaluation.observer_rows)
    if evaluation.skipped:
        lines += ["", *(f"- left out: {reason}" for reason in evaluation.skipped)]
    return "\n".join(lines) + "\n"


def write_files(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write evaluation.json and evaluation.md into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, table = folder / "evaluation.json", folder / "evaluation.md"
    content = json.dumps(evaluation.as_dict(), indent=1)
    figures.write_text(content + "\n", encoding="utf-8")
    table.write_text(as_markdown(evaluation), encoding="utf-8")
    return [figures, table]


def _cells(measure: Measure) -> tuple[str, str, str, str]:
    unit = f" {measure.unit}" if measure.values and measure.unit else ""
    return measure.name, measure.value_text + unit, measure.bar_text, measure.verdict


def _heading(evaluation: Evaluation) -> str:
    context = evaluation.context
    return (
        f"{context['model']} {context['version']} (SHA-256 {context['sha256'][:12]}), "
        f"{context['date']}, {context['machine']}, {context['patients']} simulated patients, "
        f"{context['duration_s'] / 60:.1f} minutes, load before it {context['load_before']}"
    )


def _summary(evaluation: Evaluation) -> str:
    counts = verdict_counts(evaluation.measures)
    return (
        f"{counts['met']} bars met, {counts['missed']} MISSED, "
        f"{counts['not_measured']} not measured; the trials of the model observers took "
        f"{evaluation.context['trials_s'] / 60:.1f} minutes"
    )


def _observer_table(rows: Sequence[ObserverRow]) -> list[str]:
    """Return the observers' table as Markdown, intervals of 95 % in brackets."""
    head = ["sequence", "task", *(f"AUC, {arm}" for arm in ARMS)]
    head += ["network less standard", "network less accelerated"]
    head += [f"correct choices [%], {arm}" for arm in ARMS]
    head += ["signal kept", "noise kept"]
    lines = ["", "### Model observers, task by task", "", "| " + " | ".join(head) + " |"]
    lines.append("| --- | --- |" + " ---: |" * (len(head) - 2))
    return lines + ["| " + " | ".join(_observer_cells(row)) + " |" for row in rows]


def _observer_cells(row: ObserverRow) -> list[str]:
    correct = [row.correct[arm] for arm in ARMS]
    return [
        row.sequence,
        row.task,
        *(str(row.areas[arm]) for arm in ARMS),
        str(row.over_standard),
        str(row.over_accelerated),
        *(f"{100 * c.value:.1f} ({100 * c.low:.1f} to {100 * c.high:.1f})" for c in correct),
        f"{row.signal_kept:.2f}",
        f"{row.noise_kept:.2f}",
    ]


def _snr_line(row: SnrRow) -> str:
    published = "" if row.published_ratio is None else f"  published {row.published_ratio:.2f}"
    return (
        f"  {row.sequence:10} {row.region:18} {row.standard:8.1f} {row.network:8.1f} "
        f"{row.ratio:6.2f}{published}"
    )
