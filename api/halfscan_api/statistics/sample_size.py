"""How many patients the next study needs: from what this one has shown, or from what is assumed.

The reference study made no such calculation. Levels of a patient are no independent observations:
the design effect that this study shows is applied, and the number of patients stands beside that
of the observations.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.agreeing import clustered_kappa_of
from halfscan_api.statistics.counts import Counts, PairCounts, Side, paired_values
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import SampleSizeQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import Cell, Grid, Line, Table, number, words_of
from halfscan_api.statistics.sample_size_mrmc import MRMC_NOTE, mrmc_plans
from halfscan_api.studies.protocol import OF_DIFFERENCES, EndpointKind
from halfscan_stats import (
    SampleSize,
    StatsError,
    clustered_mcnemar,
    cohen_kappa,
    sample_size_kappa,
    sample_size_mcnemar,
    sample_size_noninferiority,
    sample_size_paired_t,
)

# What a figure of the query needs beside it.
_TOGETHER = {
    "delta": ("sd",),
    "sd": ("delta",),
    "p10": ("p01",),
    "p01": ("p10",),
    "margin": ("p10", "p01"),
    "kappa1": ("prevalence",),
    "prevalence": ("kappa1",),
    "icc": ("cluster_size",),
    "cluster_size_cv": ("cluster_size",),
}
_TEST_WORDS = {
    "mcnemar": "McNemar",
    "noninferiority": "non-inferiority",
    "kappa": "kappa",
    "paired_t": "paired t",
    "mrmc": "MRMC",
}


@dataclass(frozen=True, slots=True)
class SampleSizeRow:
    """One plan.

    Attributes
    ----------
    kind : str
        ``plan``.
    source : str
        ``study`` (assumptions from the answers so far) or ``asked`` (from the query).
    test : str
        ``mcnemar``, ``noninferiority``, ``kappa``, ``paired_t`` or ``mrmc`` (the AUC of many
        readers).
    item, label : str or None
        What is planned for.
    place : str or None
        Sequence.
    assumptions : dict
        What the plan rests on.
    plan : SampleSize or None
        Observations (and patients, where several sit in one) for the power that was asked for.
    reason : str or None
        Why there is no plan.
    """

    source: str
    test: str
    item: str | None
    label: str | None
    place: str | None
    assumptions: dict[str, float]
    plan: SampleSize | None
    reason: str | None
    kind: str = "plan"


@dataclass(frozen=True, slots=True)
class _What:
    source: str
    item: str | None = None
    label: str | None = None
    place: str | None = None


def compute(session: Session, frame: Frame, options: SampleSizeQuery) -> Table[SampleSizeRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : SampleSizeQuery

    Returns
    -------
    Table of SampleSizeRow

    Raises
    ------
    InvalidRequest
        Figures that belong together are not all there, or no test has an answer to them.
    """
    _check(frame, options)
    rows = (
        *_asked_rows(frame, options),
        *_finding_rows(session, frame, options),
        *_score_rows(session, frame, options),
        *_mrmc_rows(session, frame, options),
    )
    return Table.of(
        frame,
        options,
        name="sample-size",
        title="Sample sizes",
        rows=rows,
        grids=(_grid(frame, rows),),
        notes=(
            _planned(frame),
            (
                f"Power {options.power:g}. Observations: levels of patients for findings, patients "
                "for scores; patients stand beside where several observations sit in one."
            ),
            (
                "Findings: the share found with one protocol alone, the correlation within a "
                "patient (of one reader's levels, the mean of all readers; of kappa its own) and "
                "kappa are those of this study; one reader (or pair) is planned for. "
                "Non-inferiority: the margin of the endpoint that declares one, "
                "one-sided, no true difference. Kappa: tested against "
                f"{options.kappa0:g}, two-sided."
            ),
            "Scores: non-inferiority of the means, no true difference, one-sided.",
            *([MRMC_NOTE] if any(row.test == "mrmc" for row in rows) else []),
            (
                "For a next study: a plan from an unfinished study takes its estimates for the "
                "truth. The power of this study is not computed from its own results, which would "
                "say no more than its p-values (Hoenig & Heisey 2001)."
            ),
        ),
    )


def _planned(frame: Frame) -> str:
    """Say what was planned for this study, and what it has."""
    protocol = frame.protocol
    if protocol.planned_cases is None:
        return (
            f"This study: {frame.n_cases} cases; the protocol states no number planned beforehand."
        )
    why = protocol.sample_size_rationale or "The protocol does not say why that many."
    return f"This study: {protocol.planned_cases} cases planned, {frame.n_cases} included. {why}"


def _check(frame: Frame, options: SampleSizeQuery) -> None:
    """Refuse a figure that would be left out for want of another, or that cannot be."""
    errors = []
    for name, others in _TOGETHER.items():
        given = getattr(options, name)
        lacking = [other for other in others if getattr(options, other) is None]
        if given and lacking:
            detail = f"is of no use without {' and '.join(lacking)}, got {given:g}"
            errors.append({"in": "query", "field": name, "detail": detail})
    alpha = options.alpha or frame.protocol.alpha
    if options.power <= alpha:
        detail = f"must be above alpha ({alpha:g}), got {options.power:g}"
        errors.append({"in": "query", "field": "power", "detail": detail})
    shares = (options.p10 or 0.0) + (options.p01 or 0.0)
    if shares > 1:
        detail = f"p10 + p01 must be at most 1, got {shares:g}"
        errors.append({"in": "query", "field": "p01", "detail": detail})
    for name in ("auc_difference", "readers"):
        if getattr(options, name) is not None and frame.protocol.truth is None:
            detail = f"is of no use without a truth in the protocol, got {getattr(options, name):g}"
            errors.append({"in": "query", "field": name, "detail": detail})
    if errors:
        raise InvalidRequest(errors)


def _asked_rows(frame: Frame, options: SampleSizeQuery) -> Iterator[SampleSizeRow]:
    """Plan from the figures of the query, where a test has all that it needs."""
    what = _What("asked")
    nested = {
        "cluster_size": options.cluster_size,
        "icc": options.icc,
        "cluster_size_cv": options.cluster_size_cv,
    }
    if options.delta is not None and options.sd is not None:
        yield _plan(
            frame, options, what, "paired_t", {"delta": options.delta, "sd": options.sd}, nested
        )
    if options.p10 is not None and options.p01 is not None:
        shares = {"p10": options.p10, "p01": options.p01}
        yield _plan(frame, options, what, "mcnemar", shares, nested)
        if options.margin is not None:
            margin = {**shares, "margin": options.margin}
            yield _plan(frame, options, what, "noninferiority", margin, nested)
    if options.kappa1 is not None and options.prevalence is not None:
        given = {
            "kappa0": options.kappa0,
            "kappa1": options.kappa1,
            "prevalence": options.prevalence,
        }
        yield _plan(frame, options, what, "kappa", given, nested)


def _finding_rows(
    session: Session, frame: Frame, options: SampleSizeQuery
) -> Iterator[SampleSizeRow]:
    margins = _margins(frame, EndpointKind.DETECTION)
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for arm in frame.test_arms:
        found = finding_tables(profiles, frame, (Side(None, frame.reference), Side(None, arm)))
        # One reader is planned for: the correlation is that of the levels of one reader.
        single = [
            finding_tables(profiles, frame, (Side(one.id, frame.reference), Side(one.id, arm)))
            for one in frame.readers
        ]
        pairs = [
            finding_tables(profiles, frame, (Side(one.id, arm), Side(other.id, arm)))
            for one, other in frame.reader_pairs
        ]
        for finding in frame.protocol.findings:
            what = _What("study", finding.name, finding.label)
            tables = found[finding.name]
            n = int(tables.sum())
            size = float(len(finding.levels))
            nested = {"cluster_size": size, "icc": _icc([one[finding.name] for one in single])}
            margin = margins.get(finding.name)
            if not n or margin is None:
                yield _without(what, "noninferiority", "no_margin" if n else "too_few")
            else:
                whole = tables.sum(axis=0)
                apart = float(whole[0, 1] + whole[1, 0]) / (2 * n)
                assumed = {"p10": apart, "p01": apart, "margin": margin}
                yield _plan(frame, options, what, "noninferiority", assumed, nested)
            yield from _kappa_row(frame, options, what, [one[finding.name] for one in pairs], size)


def _kappa_row(
    frame: Frame,
    options: SampleSizeQuery,
    what: _What,
    tables: list[Counts],
    size: float,
) -> Iterator[SampleSizeRow]:
    """Plan for the mean kappa of all pairs of readers with the test arm."""
    whole = [table.sum(axis=0) for table in tables]
    values = [cohen_kappa(table=table).value for table in whole]
    there = [value for value in values if value is not None]
    n = sum(int(table.sum()) for table in whole)
    if not there or not n:
        yield _without(what, "kappa", "too_few")
        return
    positive = sum(int(table[1].sum() + table[:, 1].sum()) for table in whole)
    assumed = {
        "kappa0": options.kappa0,
        "kappa1": float(np.mean(there)),
        "prevalence": positive / (2 * n),
    }
    # Kappa has a correlation of its own: by how much clusters widen its standard error.
    effects = [(table, _kappa_effect(table)) for table in tables]
    nested = {"cluster_size": size, "icc": _mean_icc(effects)}
    yield _plan(frame, options, what, "kappa", assumed, nested)


def _score_rows(
    session: Session, frame: Frame, options: SampleSizeQuery
) -> Iterator[SampleSizeRow]:
    """Plan for the endpoints that declare a margin in points of a scale."""
    counts = PairCounts(session, frame, AnswerKind.SCORE)
    for endpoint in frame.protocol.endpoints:
        if endpoint.kind is not EndpointKind.IMAGE_QUALITY or endpoint.margin is None:
            continue
        for sequence in frame.protocol.sequence_names:
            for criterion in frame.protocol.criteria_of(sequence):
                if endpoint.item not in {None, criterion.name}:
                    continue
                if endpoint.sequence not in {None, sequence}:
                    continue
                scale = tuple(choice.value for choice in criterion.scale)
                what = _What("study", criterion.name, criterion.label, sequence)
                differences = [
                    np.subtract(*paired_values(table, scale))
                    for arm in frame.test_arms
                    for reader in frame.readers
                    if (
                        table := counts.table(
                            criterion.name,
                            [sequence],
                            scale,
                            Side(reader.id, arm),
                            Side(reader.id, frame.reference),
                        )
                    ).sum()
                    > 1
                ]
                variances = [float(values.var(ddof=1)) for values in differences]
                if not variances:
                    yield _without(what, "paired_t", "too_few")
                elif max(variances) == 0:
                    yield _without(what, "paired_t", "constant_difference")
                else:
                    assumed = {"delta": endpoint.margin, "sd": float(np.sqrt(np.mean(variances)))}
                    yield _plan(frame, options, what, "paired_t", assumed, {}, one_sided=True)


def _mrmc_rows(session: Session, frame: Frame, options: SampleSizeQuery) -> Iterator[SampleSizeRow]:
    """Plan for the AUC of many readers."""
    for found in mrmc_plans(session, frame, options):
        yield SampleSizeRow(
            source="study",
            test="mrmc",
            item=found.finding.name,
            label=found.finding.label,
            place=None,
            assumptions=found.assumptions,
            plan=found.plan,
            reason=found.reason,
        )


def _margins(frame: Frame, kind: EndpointKind) -> dict[str, float]:
    """Margin of each finding: of the first endpoint that declares one."""
    found: dict[str, float] = {}
    for endpoint in frame.protocol.endpoints:
        if endpoint.kind is kind and endpoint.hypothesis in OF_DIFFERENCES:
            for finding in frame.protocol.findings:
                if endpoint.item in {None, finding.name} and endpoint.margin is not None:
                    found.setdefault(finding.name, endpoint.margin)
    return found


def _icc(readers: list[Counts]) -> float:
    """Correlation of the levels of a patient, of each reader alone, from the difference found."""
    return _mean_icc([(tables, _difference_effect(tables)) for tables in readers])


def _mean_icc(effects: list[tuple[Counts, float | None]]) -> float:
    """Mean of (D - 1) / (m - 1), D the design effect, m the observations of a patient."""
    found = []
    for tables, effect in effects:
        patients = np.count_nonzero(tables.sum(axis=(1, 2)))
        size = float(tables.sum()) / patients if patients else 1.0
        if effect is not None and size > 1:
            found.append((effect - 1) / (size - 1))
    return float(np.clip(np.mean(found), 0.0, 1.0)) if found else 0.0


def _difference_effect(tables: Counts) -> float | None:
    """Design effect of the difference of two shares: variance over patients over the naive one."""
    test = clustered_mcnemar(tables=tables.reshape(len(tables), 4)[:, [3, 1, 2, 0]])
    if test.se is None or test.difference is None or not test.n:
        return None
    naive = ((test.b + test.c) / test.n - test.difference**2) / test.n
    return test.se**2 / naive if naive > 0 else None


def _kappa_effect(tables: Counts) -> float | None:
    """Design effect of kappa."""
    n = int(tables.sum())
    return clustered_kappa_of(tables, (0, 1), "none", n, 0.95).design_effect


def _plan(
    frame: Frame,
    options: SampleSizeQuery,
    what: _What,
    test: str,
    assumed: dict[str, float],
    nested: Mapping[str, float | None],
    *,
    one_sided: bool = False,
) -> SampleSizeRow:
    size = _FUNCTIONS[test]
    common: dict[str, Any] = {"alpha": options.alpha or frame.protocol.alpha}
    if one_sided:
        common["two_sided"] = False
    within = {name: value for name, value in nested.items() if value is not None}
    if "cluster_size" not in within:
        within = {}
    shown = {**assumed, **within, "alpha": common["alpha"]}
    try:
        plan = size(**assumed, **common, **within, power=options.power)
    except StatsError:
        # The estimates of a small study may lie where the plan has no answer (kappa below 0).
        return _without(what, test, "undefined", shown)
    reason = plan.reason.value if plan.reason is not None else None
    return SampleSizeRow(
        source=what.source,
        test=test,
        item=what.item,
        label=what.label,
        place=what.place,
        assumptions=shown,
        plan=plan,
        reason=reason,
    )


def _without(
    what: _What, test: str, reason: str, assumptions: dict[str, float] | None = None
) -> SampleSizeRow:
    return SampleSizeRow(
        source=what.source,
        test=test,
        item=what.item,
        label=what.label,
        place=what.place,
        assumptions=assumptions or {},
        plan=None,
        reason=reason,
    )


_FUNCTIONS: dict[str, Callable[..., SampleSize]] = {
    "mcnemar": sample_size_mcnemar,
    "noninferiority": sample_size_noninferiority,
    "kappa": sample_size_kappa,
    "paired_t": sample_size_paired_t,
}


_WORDS = {
    "p10": "share found with the test protocol alone",
    "p01": "with the reference protocol alone",
    "kappa0": "kappa to exceed",
    "kappa1": "kappa expected",
    "cluster_size": "observations of a patient",
    "icc": "their correlation",
    "delta": "difference",
    "sd": "SD of the differences",
}


def _grid(frame: Frame, rows: tuple[SampleSizeRow, ...]) -> Grid:
    titles = (
        *("", "Sequence", "From", "Test", "Assumptions"),
        *("Observations", "Patients"),
    )
    body: tuple[Line, ...] = tuple(_line(frame, row) for row in rows)
    return Grid("Sample sizes", (tuple(Cell(text) for text in titles),), body)


def _line(frame: Frame, row: SampleSizeRow) -> Line:
    assumed = ", ".join(
        f"{_WORDS.get(name, words_of(name))} {value:.3g}" for name, value in row.assumptions.items()
    )
    plan = row.plan
    size = number(None) if plan is None or plan.n is None else str(plan.n)
    patients = "" if plan is None or plan.n_clusters is None else str(plan.n_clusters)
    return (
        Cell(row.label or "(asked)"),
        frame.sequence_label(row.place) if row.place else "",
        row.source,
        _TEST_WORDS[row.test],
        assumed,
        f"{size} [{words_of(row.reason)}]" if row.reason else size,
        patients,
    )
