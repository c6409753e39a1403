"""Whether each primary endpoint was met: in words, with the figures that say so."""

from collections.abc import Iterator
from typing import Any

from halfscan_api.statistics.equivalence_rows import MeanRow, ProportionRow, Row
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import InterchangeRow
from halfscan_api.statistics.report.methods import Tables
from halfscan_api.statistics.results import p_text, with_interval, word_of, words_of
from halfscan_api.studies.protocol import Endpoint, EndpointRole, Hypothesis


def primary_endpoints(frame: Frame, tables: Tables) -> list[str]:
    """Say of each primary endpoint whether it was met.

    Parameters
    ----------
    frame : Frame
    tables : mapping
        The computed tables by name.

    Returns
    -------
    list of str
        One paragraph an endpoint. It was met where every comparison of it was shown after the
        correction among the primary endpoints.
    """
    return [
        _paragraph(frame, one, tables)
        for one in frame.protocol.endpoints
        if one.role is EndpointRole.PRIMARY
    ]


def _paragraph(frame: Frame, endpoint: Endpoint, tables: Tables) -> str:
    name = words_of(endpoint.name)
    if endpoint.hypothesis is Hypothesis.ESTIMATE:
        return f"{name}: an estimate with its interval, under agreement; nothing is tested."
    if endpoint.hypothesis is Hypothesis.DIFFERENCE:
        return f"{name}: a test of difference, in its table; * marks what is significant."
    rows = [row for row in tables["equivalence"].rows if row.endpoint == endpoint.name]
    # All readers together answer for the endpoint, where there is such a row.
    together = [row for row in rows if isinstance(row, ProportionRow) and row.reader is None]
    answering: list[Any] = list(together or rows)
    margin = f"{word_of(endpoint.hypothesis.value)}, margin {endpoint.margin:g}"
    return f"{name} ({margin}): {_verdict(answering)}. " + " ".join(
        f"{text}." for text in _figures(frame, answering)
    )


def _verdict(rows: list[Any]) -> str:
    shown = [row.adjusted.significant for row in rows if row.adjusted is not None]
    if not rows or all(one is None for one in shown):
        return "no comparison has an answer"
    if all(shown):
        return "met"
    return f"not met ({sum(map(bool, shown))} of {len(shown)} comparisons shown)"


def _figures(frame: Frame, rows: list[Row]) -> Iterator[str]:
    for row in rows:
        what = "index" if isinstance(row, InterchangeRow) else "difference"
        place = row.place if isinstance(row, MeanRow) else None
        where = f", {frame.sequence_label(place)}" if place else ""
        where += f", reader {row.reader}" if row.reader else ""
        adjusted = row.adjusted.p_value if row.adjusted is not None else None
        interval = row.result.decision.interval
        yield (
            f"{row.label}{where}: {what} {with_interval(row.estimate, interval, None, 3)}, "
            f"p {p_text(row.p_value)}, adjusted {p_text(adjusted)}"
        )
