"""The command of the statistics: the reference study, recomputed."""

import json
from itertools import groupby
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from halfscan_stats.equivalence import NonInferiority
    from halfscan_stats.published import PublishedRow, PublishedStudy

__all__ = ["published"]


@click.command()
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Margin of non-inferiority, a difference of detection rates.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="One-sided level of the test of non-inferiority.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def published(*, margin: float, alpha: float, as_json: bool) -> None:
    """Recompute the tables of the reference study (Tang et al. 2024).

    Each figure with what the package gives for it, and whether they agree; why no data give those
    that do not; and beside Table 5 the non-inferiority that the study names as missing.
    """
    from halfscan_stats.published import recompute  # noqa: PLC0415  (slow import)

    study = recompute(margin=margin, alpha=alpha)
    if as_json:
        click.echo(json.dumps(study.as_dict(), indent=2, allow_nan=False))
        return
    click.echo(f"{study.citation}\n{study.licence}")
    for table, rows in groupby(study.rows, key=lambda row: row.table):
        agree, total = study.counts[table]
        click.echo(f"\n{table}: {agree} of {total} agree")
        _print_rows(list(rows))
    _print_disagreement(study)


def _print_rows(rows: list["PublishedRow"]) -> None:
    """Print a table in columns as wide as they need to be."""
    lines = [("", "published", "recomputed", "agrees", "")]
    lines += [
        (
            row.item.replace("_", " "),
            row.published,
            row.recomputed,
            "yes" if row.agrees else "NO",
            row.how if row.noninferiority is None else _verdict(row.noninferiority),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:4], widths, strict=True)]
        click.echo("  " + "  ".join([*cells, line[4]]).rstrip())


def _verdict(answer: "NonInferiority") -> str:
    """Say what the test of non-inferiority says."""
    if answer.interval is None or answer.difference is None or answer.p_value is None:
        return f"non-inferiority: {answer.reason}"
    word = "non-inferior" if answer.noninferior else "NOT shown non-inferior"
    limits = answer.interval
    return (
        f"{word}: difference {100 * answer.difference:+.1f} %, {100 * limits.level:.0f} % interval "
        f"{100 * limits.low:+.1f} to {100 * limits.high:+.1f} %, "
        f"margin {100 * answer.margin:g} %, p = {answer.p_value:.4f}"
    )


def _print_disagreement(study: "PublishedStudy") -> None:
    """List what could not be reproduced, and the limits of the rest."""
    missing = [row for row in study.rows if not row.agrees]
    click.echo(f"\nNot reproduced: {len(missing)} of {len(study.rows)}")
    for row in missing:
        click.echo(f"  {row.table}, {row.item.replace('_', ' ')} ({row.published}): {row.how}")
    click.echo(
        "\nThe non-inferiority tests take the 155 levels as independent: the paper does not print "
        "which patient they belong to."
    )
