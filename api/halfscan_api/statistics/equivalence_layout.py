"""How non-inferiority, equivalence and interchangeability are printed."""

from collections.abc import Iterator, Sequence

from halfscan_api.statistics.adjusting import families_text
from halfscan_api.statistics.equivalence_rows import MeanRow, ProportionRow, Row
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import InterchangeRow
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.results import (
    Cell,
    Grid,
    Line,
    number,
    p_text,
    used,
    with_interval,
    word_of,
    words_of,
    yes,
)
from halfscan_api.studies.protocol import Hypothesis
from halfscan_stats.rao_scott import ASSUMED_CORRELATION


def grids_of(frame: Frame, rows: Sequence[Row]) -> Iterator[Grid]:
    """Lay the rows out: a table for each endpoint, and one for what is estimated alone.

    Parameters
    ----------
    frame : Frame
    rows : sequence of ProportionRow, MeanRow or InterchangeRow

    Yields
    ------
    Grid
    """
    tested: dict[str, list[ProportionRow | MeanRow]] = {}
    indices: dict[str | None, list[InterchangeRow]] = {}
    for row in rows:
        if isinstance(row, InterchangeRow):
            indices.setdefault(row.endpoint, []).append(row)
        else:
            tested.setdefault(row.endpoint, []).append(row)
    for some in tested.values():
        yield _test_grid(frame, some)
    for endpoint, changes in indices.items():
        yield _index_grid(frame, endpoint, changes)


def _test_grid(frame: Frame, rows: list[ProportionRow | MeanRow]) -> Grid:
    first = rows[0]
    nested = isinstance(first, ProportionRow)
    titles = (
        "",
        *(() if nested else ("Sequence",)),
        *("Reader", "Difference", "p", "p adjusted", "Shown"),
        *(("Design effect", "p (naive)") if nested else ()),
        "n",
    )
    body = tuple(_test_line(frame, row) for row in rows)
    return Grid(_caption(frame, first), (tuple(map(Cell, titles)),), body)


def _caption(frame: Frame, row: Row) -> str:
    return (
        f"{words_of(str(row.endpoint))} ({row.role}): {word_of(row.hypothesis)} of "
        f"{frame.arm_label(row.test_arm)}, margin {row.margin:g}"
    )


def _test_line(frame: Frame, row: ProportionRow | MeanRow) -> Line:
    test, decision = row.test, row.test.decision
    answer = (
        with_interval(row.estimate, decision.interval, None, 3),
        p_text(row.p_value, decision.reason),
        p_text(row.adjusted.p_value),
        f"{yes(row.shown)} / {yes(row.adjusted.significant)}",
    )
    n = used(test.n, test.n_given)
    if isinstance(row, MeanRow):
        place = frame.sequence_label(row.place) if row.place else ""
        return (Cell(row.label), place, row.reader or "", *answer, n)
    naive = row.test.p_equivalence if row.hypothesis == Hypothesis.EQUIVALENCE else row.test.p_value
    reader = row.reader or "all together"
    effect = number(row.test.design_effect)
    return (Cell(row.label), reader, *answer, effect, p_text(naive, row.test.reason), n)


def _index_grid(frame: Frame, endpoint: str | None, rows: list[InterchangeRow]) -> Grid:
    first = rows[0]
    titles = (
        *("", "Index", "Disagreement, reference", "between", "new"),
        *(("p", "p adjusted", "Shown") if endpoint is not None else ()),
        "n",
    )
    caption = (
        "Interchangeability of findings: no endpoint declares a margin for it"
        if endpoint is None
        else _caption(frame, first)
    )
    return Grid(caption, (tuple(map(Cell, titles)),), tuple(_index_line(row) for row in rows))


def _index_line(row: InterchangeRow) -> Line:
    answer, decision = row.answer, row.answer.decision
    tested: Line = ()
    reason = decision.reason if decision.interval is None else None
    if row.adjusted is not None:
        shown = f"{yes(row.shown)} / {yes(row.adjusted.significant)}"
        tested = (p_text(row.p_value), p_text(row.adjusted.p_value), shown)
    return (
        Cell(row.label),
        with_interval(answer.value, decision.interval, reason, 3),
        number(answer.disagreement_reference, 3),
        number(answer.disagreement_between, 3),
        number(answer.disagreement_new, 3),
        *tested,
        used(answer.n, answer.n_given),
    )


def notes_of(
    frame: Frame, rows: Sequence[Row], options: EquivalenceQuery, alpha: float
) -> Iterator[str]:
    """Say what a reader of the table must know, of what stands in it.

    Parameters
    ----------
    frame : Frame
    rows : sequence of ProportionRow, MeanRow or InterchangeRow
    options : EquivalenceQuery
    alpha : float

    Yields
    ------
    str
    """
    tested = [row for row in rows if row.endpoint is not None]
    if tested:
        yield (
            f"One-sided level {alpha:g}: intervals have {100 * (1 - 2 * alpha):.4g}% confidence "
            "and decide as p does. Difference: test minus reference."
        )
    else:
        yield "The protocol declares no endpoint with a margin: nothing is tested."
    if any(isinstance(row, ProportionRow) for row in tested):
        yield (
            "Findings: the score test on the counts over the design effect of patients, who give "
            "several levels and readers, with Student's t. Where fewer pairs disagree than the "
            "margin lets expect, the design effect is partly that of an assumed correlation of "
            f"{ASSUMED_CORRELATION:g} within a patient. p (naive): every level and reader counted "
            "as independent."
        )
    if any(isinstance(row, MeanRow) for row in tested):
        yield (
            "Scores, SNR and scan times are compared by their means: two one-sided t-tests; where "
            "all differences are the same, exact sign tests."
        )
    if tested:
        yield (
            "Shown: the hypothesis was shown at this level, before / with the correction for "
            f"several tests ({words_of(frame.protocol.multiplicity.method)}: "
            f"{families_text(frame.protocol.multiplicity)})."
        )
    if frame.protocol.findings:
        yield (
            "Interchangeability: the individual equivalence index says how much more often two "
            "readers disagree when one of them uses the test arm. It is tested where an endpoint "
            "declares a margin for it; elsewhere its interval has "
            f"{100 * options.level:.4g}% confidence."
        )
