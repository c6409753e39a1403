"""Table 5: what was found with both arms, with one alone, and McNemar's test.

All levels of all patients; the test that allows for levels of the same patient stands beside.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.adjusting import (
    Adjusted,
    RawTest,
    adjust,
    families_text,
    role_of_difference,
)
from halfscan_api.statistics.counts import (
    Counts,
    Scale,
    Side,
    no_tables,
    patient_tables,
    presence,
)
from halfscan_api.statistics.differing import given_of
from halfscan_api.statistics.frame import Frame, scale_of
from halfscan_api.statistics.options import DetectionQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import (
    Cell,
    Grid,
    Line,
    Table,
    interval_text,
    p_text,
    share,
    used,
    with_interval,
    words_of,
)
from halfscan_api.studies.protocol import EndpointKind, EndpointRole, Finding
from halfscan_stats import ClusteredMcNemar, McNemar, clustered_mcnemar, mcnemar


@dataclass(frozen=True, slots=True)
class DetectionRow:
    """What one reader (or all) found with two arms.

    Attributes
    ----------
    kind : str
        ``detection``.
    item, label : str
        Finding.
    place : str or None
        Level; None where all are added up.
    reader : str or None
        None where all readers are added up.
    reference_arm, test_arm : str
    n, n_given : int
        Levels of patients that were read with both arms, and that there could be.
    total, both, reference_only, test_only, neither : int
        Found with either, with both, with one alone, with none.
    mcnemar : McNemar
        Exact; `b` is found with the test arm only, `difference` is test minus reference.
    clustered : ClusteredMcNemar
        The same with levels (and readers) nested in patients; the naive test is within it.
    adjusted : Adjusted
        The p-value over patients (`clustered.decision`) after the correction of the protocol.
    """

    item: str
    label: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    n: int
    n_given: int
    total: int
    both: int
    reference_only: int
    test_only: int
    neither: int
    mcnemar: McNemar
    clustered: ClusteredMcNemar
    adjusted: Adjusted
    kind: str = "detection"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row before the p-values of its family are known."""

    finding: Finding
    place: str | None
    reader: str | None
    test_arm: str
    tables: Counts
    n_given: int


def compute(session: Session, frame: Frame, options: DetectionQuery) -> Table[DetectionRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : DetectionQuery

    Returns
    -------
    Table of DetectionRow
    """
    alpha = options.alpha or frame.protocol.alpha
    drafts = list(_drafts(session, frame, options))
    tested = [_tests(draft, options.level) for draft in drafts]
    raw = [
        RawTest(
            (draft.finding.name, draft.place),
            clustered.decision.p_value,
            together=draft.reader is None,
            part="" if draft.place is None else "levels",
            role=_role(frame, draft),
        )
        for draft, (_, clustered) in zip(drafts, tested, strict=True)
    ]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    rows = tuple(
        _row(frame, draft, *tests, one)
        for draft, tests, one in zip(drafts, tested, adjusted, strict=True)
    )
    return Table.of(
        frame,
        options,
        name="detection",
        title="Detection of common findings by protocol",
        rows=rows,
        grids=tuple(_grids(frame, rows)),
        notes=(
            (
                "Counts of levels, with percentages of the total found with either protocol. A "
                "graded finding counts as present from grade 1 on."
            ),
            (
                "Difference: test minus reference, as a share of all levels, with Tango's "
                "interval. p: McNemar, exact binomial. p (patients) and the interval beside it: "
                "the score test on the counts over the design effect of patients, who give several "
                "levels (and readers)."
            ),
            (
                "p adjusted, of that over patients, by "
                f"{words_of(frame.protocol.multiplicity.method)}: "
                f"{families_text(frame.protocol.multiplicity)}; single levels are a family of "
                f"their own; * significant at {alpha:g}. "
                "That no difference is significant is no proof of equivalence: see that table."
            ),
        ),
    )


def _role(frame: Frame, draft: _Draft) -> EndpointRole:
    """Give the role of a test: an endpoint is about all levels, one alone is exploratory."""
    if draft.place is not None:
        return EndpointRole.EXPLORATORY
    return role_of_difference(frame.protocol, EndpointKind.DETECTION, [draft.finding.name])


def finding_tables(profiles: Profiles, frame: Frame, sides: tuple[Side, Side]) -> dict[str, Counts]:
    """Give the tables (patient, 2, 2) of every finding at all levels, absent first."""
    return {
        finding.name: presence(profiles.tables(finding.name, "", scale_of(finding), sides))
        for finding in frame.protocol.findings
    }


def _tables_of_level(
    session: Session, frame: Frame, sides: tuple[Side, Side], place: str
) -> dict[str, Counts]:
    """Give the same at one level: from the answers themselves."""
    found: dict[str, Counts] = {}
    by_scale: dict[Scale, dict[str, str]] = {}
    for finding in frame.protocol.findings:
        if place in finding.levels:
            by_scale.setdefault(scale_of(finding), {})[finding.name] = finding.name
    for scale, items in by_scale.items():
        tables = patient_tables(session, frame, items, scale, sides, place=place)
        for name in items:
            found[name] = presence(tables.get((name, ""), no_tables(scale)))
    return found


def _drafts(session: Session, frame: Frame, options: DetectionQuery) -> Iterator[_Draft]:
    findings = frame.protocol.findings
    levels = dict.fromkeys(level for finding in findings for level in finding.levels)
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for place in (None, *(levels if options.by_level else ())):
        for arm in frame.test_arms:
            for reader in frame.readers_and_all:
                who = None if reader is None else reader.id
                sides = Side(who, frame.reference), Side(who, arm)
                found = (
                    finding_tables(profiles, frame, sides)
                    if place is None
                    else _tables_of_level(session, frame, sides, place)
                )
                for finding in findings:
                    if finding.name in found:
                        n_readers = len(frame.readers) if reader is None else 1
                        n_levels = len(finding.levels) if place is None else 1
                        yield _Draft(
                            finding,
                            place,
                            None if reader is None else reader.name,
                            arm,
                            found[finding.name],
                            frame.n_cases * n_levels * n_readers,
                        )


def _tests(draft: _Draft, level: float) -> tuple[McNemar, ClusteredMcNemar]:
    """Test minus reference: the table turned, present first."""
    turned = draft.tables[:, ::-1, ::-1].transpose(0, 2, 1)
    whole = turned.sum(axis=0)
    naive = mcnemar(table=whole, level=level)
    clustered = clustered_mcnemar(tables=turned, level=level)
    return given_of(naive, draft.n_given), given_of(clustered, draft.n_given)


def _row(
    frame: Frame,
    draft: _Draft,
    naive: McNemar,
    clustered: ClusteredMcNemar,
    adjusted: Adjusted,
) -> DetectionRow:
    (neither, test_only), (reference_only, both) = (
        (int(cell) for cell in line) for line in draft.tables.sum(axis=0)
    )
    return DetectionRow(
        item=draft.finding.name,
        label=draft.finding.label,
        place=draft.place,
        reader=draft.reader,
        reference_arm=frame.reference,
        test_arm=draft.test_arm,
        n=naive.n,
        n_given=naive.n_given,
        total=both + reference_only + test_only,
        both=both,
        reference_only=reference_only,
        test_only=test_only,
        neither=neither,
        mcnemar=naive,
        clustered=clustered,
        adjusted=adjusted,
    )


def _grids(frame: Frame, rows: tuple[DetectionRow, ...]) -> Iterator[Grid]:
    for arm in frame.test_arms:
        for place in dict.fromkeys(row.place for row in rows):
            for reader in dict.fromkeys(row.reader for row in rows):
                some = [
                    row
                    for row in rows
                    if (row.test_arm, row.place, row.reader) == (arm, place, reader)
                ]
                if some:
                    yield _grid(frame, arm, place, reader, some)


def _grid(
    frame: Frame, arm: str, place: str | None, reader: str | None, rows: list[DetectionRow]
) -> Grid:
    names = frame.arm_label(frame.reference), frame.arm_label(arm)
    columns = ("Total", "With both", f"With {names[0]} only", f"With {names[1]} only")
    upper: Line = (
        Cell("", rows=2),
        Cell("Abnormalities reported", columns=4),
        *(
            Cell(text, rows=2)
            for text in (
                "Difference",
                "p",
                "Interval (patients)",
                "p (patients)",
                "p adjusted",
                "n",
            )
        ),
    )
    body = tuple(_line(row) for row in rows)
    who = f"reader {reader}" if reader is not None else "all readers together"
    where = "all levels" if place is None else place
    caption = f"Detection with {names[0]} and {names[1]}: {who}, {where}"
    return Grid(caption, (upper, tuple(Cell(text) for text in columns)), body)


def _line(row: DetectionRow) -> Line:
    test, decision = row.mcnemar, row.clustered.decision
    mark = "*" if row.adjusted.significant else ""
    return (
        Cell(row.label),
        str(row.total),
        share(row.both, row.total),
        share(row.reference_only, row.total),
        share(row.test_only, row.total),
        with_interval(test.difference, test.interval, None, 3),
        p_text(test.p_value, test.reason),
        interval_text(decision.interval, 3),
        p_text(decision.p_value, decision.reason),
        p_text(row.adjusted.p_value) + mark,
        used(row.n, row.n_given),
    )
