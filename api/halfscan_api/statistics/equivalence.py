"""What a test of difference cannot say: not worse, as good, interchangeable.

Only what the protocol declares is tested: its endpoints with a margin. Interchangeability of the
readers' findings is given for every finding; it is tested where a margin of detection is declared.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.adjusting import Adjusted, RawTest, adjust, families_text
from halfscan_api.statistics.counts import (
    Counts,
    PairCounts,
    Side,
    paired_values,
    with_patients,
)
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.differing import Numbers, complete_pairs, given_of
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import (
    NOTHING,
    Cell,
    Grid,
    Line,
    Table,
    interval_text,
    p_text,
    with_interval,
)
from halfscan_api.statistics.scan_time import TOTAL, with_total
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import scan_times, snr_values
from halfscan_api.studies.protocol import Endpoint, EndpointKind, Finding, Hypothesis
from halfscan_stats import (
    Interchangeability,
    NonInferiority,
    Tost,
    interchangeability,
    noninferiority_paired_proportions,
    tost_paired,
)

SEED = 20240513  # of the resamples: the same data give the same interval


@dataclass(frozen=True, slots=True)
class PatientDecision:
    """What decides on a proportion whose observations are nested in patients.

    Attributes
    ----------
    p_value : float or None
        One-sided for non-inferiority, the larger of both sides for equivalence.
    by : str or None
        ``patients``: the cluster-robust standard error and Student's t. ``one_per_patient``: no
        pair disagrees, so that this error is zero; the score test then counts each patient once,
        as if all levels and readers of a patient said the same.
    """

    p_value: float | None
    by: str | None


@dataclass(frozen=True, slots=True)
class ProportionRow:
    """Non-inferiority or equivalence of what is found.

    Attributes
    ----------
    kind : str
        ``proportion``.
    endpoint, role, hypothesis : str
        As the protocol declares them.
    item, label : str
        Finding.
    reader : str or None
        None where all readers are added up.
    reference_arm, test_arm : str
    test : NonInferiority
        Test minus reference: the score test, which takes levels and readers for independent, and
        the answer that allows for patients.
    decision : PatientDecision
        The p-value that decides: levels and readers are nested in patients.
    shown : bool or None
        Whether the hypothesis was shown by `decision`, before the correction for several tests.
    p_naive : float or None
        Of the score test.
    shown_naive : bool or None
        What that test would say.
    adjusted : Adjusted
        The p-value that decides, after that correction.
    """

    endpoint: str
    role: str
    hypothesis: str
    item: str
    label: str
    reader: str | None
    reference_arm: str
    test_arm: str
    test: NonInferiority
    decision: PatientDecision
    shown: bool | None
    p_naive: float | None
    shown_naive: bool | None
    adjusted: Adjusted
    kind: str = "proportion"


@dataclass(frozen=True, slots=True)
class MeanRow:
    """Non-inferiority or equivalence of scores, SNR or scan time.

    Attributes
    ----------
    kind : str
        ``mean``.
    endpoint, role, hypothesis, item, label, reference_arm, test_arm, shown, adjusted
        See `ProportionRow`.
    place : str or None
        Sequence; None for the total scan time.
    reader : str or None
        None for the scan time.
    margin : float
        In the unit of what is compared.
    p_value : float or None
        That of the hypothesis: of one side for non-inferiority, of both for equivalence.
    test : Tost
        Test minus reference.
    """

    endpoint: str
    role: str
    hypothesis: str
    item: str
    label: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    margin: float
    p_value: float | None
    test: Tost
    shown: bool | None
    adjusted: Adjusted
    kind: str = "mean"


@dataclass(frozen=True, slots=True)
class InterchangeRow:
    """Interchangeability of the arms for a finding.

    Attributes
    ----------
    kind : str
        ``interchangeability``.
    item, label : str
        Finding.
    reference_arm, test_arm : str
    readers : tuple of str
    answer : Interchangeability
        The individual equivalence index, levels nested in patients.
    """

    item: str
    label: str
    reference_arm: str
    test_arm: str
    readers: tuple[str, ...]
    answer: Interchangeability
    kind: str = "interchangeability"


Row = ProportionRow | MeanRow | InterchangeRow


@dataclass(frozen=True, slots=True)
class _Draft:
    """A test before the p-values of its family are known."""

    endpoint: Endpoint
    item: str
    label: str
    place: str | None
    reader: str | None
    test_arm: str
    test: NonInferiority | Tost

    @property
    def decision(self) -> PatientDecision:
        """What decides on a proportion."""
        assert isinstance(self.test, NonInferiority)  # noqa: S101 - of means there is none
        return decided(self.test, self.endpoint.hypothesis)

    @property
    def p_naive(self) -> float | None:
        """P-value that takes every observation for independent."""
        equivalence = self.endpoint.hypothesis is Hypothesis.EQUIVALENCE
        if isinstance(self.test, NonInferiority):
            return self.test.p_equivalence if equivalence else self.test.p_value
        if equivalence:
            return self.test.p_value
        # A scan is worse where it is longer, everything else where it is less.
        longer = self.endpoint.kind is EndpointKind.SCAN_TIME
        return self.test.p_high if longer else self.test.p_low

    @property
    def p_value(self) -> float | None:
        """P-value that decides; means have one observation a patient."""
        return self.decision.p_value if isinstance(self.test, NonInferiority) else self.p_naive


def decided(test: NonInferiority, hypothesis: Hypothesis) -> PatientDecision:
    """Decide with levels and readers nested in patients.

    Parameters
    ----------
    test : NonInferiority
        With `cluster`: the sandwich standard error over patients.
    hypothesis : Hypothesis

    Returns
    -------
    PatientDecision
        One-sided t-test of (difference + margin) / se on patients - 1 degrees of freedom; for
        equivalence the larger p of both sides.
    """
    equivalence = hypothesis is Hypothesis.EQUIVALENCE
    if test.cluster_se and test.difference is not None and test.n_clusters:
        # The far side first: its p is that of (difference + margin) / se.
        distance = test.margin + (-abs(test.difference) if equivalence else test.difference)
        p_value = float(special.stdtr(test.n_clusters - 1, -distance / test.cluster_se))
        return PatientDecision(p_value, "patients")
    if test.n_clusters and test.n and not test.b + test.c:
        once = noninferiority_paired_proportions(
            n=test.n_clusters, b=0, c=0, margin=test.margin, alpha=test.alpha
        )
        p_value_once = once.p_equivalence if equivalence else once.p_value
        return PatientDecision(p_value_once, "one_per_patient")
    return PatientDecision(None, None)


def compute(session: Session, frame: Frame, options: EquivalenceQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : EquivalenceQuery

    Returns
    -------
    Table of ProportionRow, MeanRow and InterchangeRow
    """
    alpha = options.alpha or frame.protocol.alpha
    declared = [
        one
        for one in frame.protocol.endpoints
        if one.hypothesis in {Hypothesis.NONINFERIORITY, Hypothesis.EQUIVALENCE}
    ]
    drafts = [draft for one in declared for draft in _drafts(session, frame, one, alpha)]
    raw = [
        RawTest(
            (draft.endpoint.name, draft.item, draft.place),
            draft.p_value,
            together=draft.reader is None and draft.endpoint.kind is EndpointKind.DETECTION,
            role=draft.endpoint.role,
        )
        for draft in drafts
    ]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    tests: list[Row] = [
        _row(frame, draft, one, alpha) for draft, one in zip(drafts, adjusted, strict=True)
    ]
    changes = list(_interchange_rows(session, frame, declared, options))
    notes = [
        (
            f"One-sided level {alpha:g}: the intervals of differences have "
            f"{100 * (1 - 2 * alpha):.4g}% confidence and decide as the tests do. Difference: "
            "test minus reference."
        ),
        (
            "Findings: p (patients) and its interval decide. They allow for the levels and readers "
            "of a patient (sandwich standard error over patients, Student's t). Where no pair "
            "disagrees that error is zero, and the score test counts each patient once. p (naive) "
            "is the score test that takes all levels and readers for independent: it is too "
            "small where those of a patient are alike."
        ),
        (
            "Shown: the hypothesis was shown at this level by the p that decides, before (and, "
            "after the slash, with) the correction for several tests "
            f"({frame.protocol.multiplicity.method}: "
            f"{families_text(frame.protocol.multiplicity)})."
        ),
        (
            "Interchangeability: how much more two readers disagree when one of them uses the test "
            "arm; interchangeable where the upper limit lies below the margin beside it. "
            f"Its intervals have {100 * options.level:.4g}% confidence."
        ),
        "Scores are compared by their means, as margins in points of the scale ask for.",
    ]
    if not declared:
        notes.insert(0, "The protocol declares no endpoint with a margin: nothing is tested.")
    return Table(
        name="equivalence",
        title="Non-inferiority, equivalence and interchangeability",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=(*tests, *changes),
        grids=tuple(_grids(frame, tests, changes)),
        notes=tuple(notes),
    )


def _drafts(session: Session, frame: Frame, endpoint: Endpoint, alpha: float) -> Iterator[_Draft]:
    make = {
        EndpointKind.DETECTION: _detection_drafts,
        EndpointKind.IMAGE_QUALITY: _score_drafts,
        EndpointKind.SNR: _snr_drafts,
        EndpointKind.SCAN_TIME: _time_drafts,
    }
    return make[endpoint.kind](session, frame, endpoint, alpha)


def _detection_drafts(
    session: Session, frame: Frame, endpoint: Endpoint, alpha: float
) -> Iterator[_Draft]:
    readers = (*frame.readers, *((None,) if len(frame.readers) > 1 else ()))
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for arm in frame.test_arms:
        tables = []
        for reader in readers:
            who = None if reader is None else reader.id
            tables.append(
                finding_tables(profiles, frame, (Side(who, frame.reference), Side(who, arm)))
            )
        for finding in _findings(frame, endpoint):
            for reader, found in zip(readers, tables, strict=True):
                n_readers = len(frame.readers) if reader is None else 1
                n_given = frame.n_cases * len(finding.levels) * n_readers
                test = _noninferiority(found[finding.name], endpoint.margin or 0.0, alpha)
                yield _Draft(
                    endpoint,
                    finding.name,
                    finding.label,
                    None,
                    None if reader is None else reader.name,
                    arm,
                    given_of(test, n_given),
                )


def _noninferiority(tables: Counts, margin: float, alpha: float) -> NonInferiority:
    reference, test, patients = with_patients(tables)
    return noninferiority_paired_proportions(
        test, reference, margin=margin, alpha=alpha, categories=(0, 1), cluster=patients
    )


def _score_drafts(
    session: Session, frame: Frame, endpoint: Endpoint, alpha: float
) -> Iterator[_Draft]:
    counts = PairCounts(session, frame, AnswerKind.SCORE)
    for sequence in _sequences(frame, endpoint):
        for criterion in frame.protocol.criteria_of(sequence):
            if endpoint.item not in {None, criterion.name}:
                continue
            scale = tuple(choice.value for choice in criterion.scale)
            for arm in frame.test_arms:
                for reader in frame.readers:
                    sides = Side(reader.id, frame.reference), Side(reader.id, arm)
                    table = counts.table(criterion.name, [sequence], scale, *sides)
                    test = _tost(frame, paired_values(table, scale), endpoint, alpha)
                    yield _Draft(
                        endpoint, criterion.name, criterion.label, sequence, reader.name, arm, test
                    )


def _snr_drafts(
    session: Session, frame: Frame, endpoint: Endpoint, alpha: float
) -> Iterator[_Draft]:
    snr = snr_values(session, frame)
    for sequence in _sequences(frame, endpoint):
        for region in signal_regions(frame, sequence):
            if endpoint.item not in {None, region.name}:
                continue
            for arm in frame.test_arms:
                for reader in frame.readers:
                    reference, test = (
                        snr.of(sequence, region.name, reader.id, name)
                        for name in (frame.reference, arm)
                    )
                    answer = _tost(frame, complete_pairs(reference, test), endpoint, alpha)
                    yield _Draft(
                        endpoint, region.name, region.label, sequence, reader.name, arm, answer
                    )


def _time_drafts(
    session: Session, frame: Frame, endpoint: Endpoint, alpha: float
) -> Iterator[_Draft]:
    times = with_total(frame, scan_times(session, frame))
    places = [endpoint.sequence or TOTAL]
    for arm in frame.test_arms:
        for place in places:
            pairs = complete_pairs(times[frame.reference, place], times[arm, place])
            test = _tost(frame, pairs, endpoint, alpha)
            total = place == TOTAL
            label = "Total" if total else frame.sequence_label(place)
            yield _Draft(endpoint, place, label, None if total else place, None, arm, test)


def _tost(frame: Frame, pairs: tuple[Numbers, Numbers], endpoint: Endpoint, alpha: float) -> Tost:
    answer = tost_paired(pairs[1], pairs[0], margin=endpoint.margin, alpha=alpha)
    return given_of(answer, frame.n_cases)


def _row(frame: Frame, draft: _Draft, adjusted: Adjusted, alpha: float) -> ProportionRow | MeanRow:
    shown = None if draft.p_value is None else draft.p_value <= alpha
    endpoint = draft.endpoint
    if isinstance(draft.test, NonInferiority):
        return ProportionRow(
            endpoint=endpoint.name,
            role=endpoint.role.value,
            hypothesis=endpoint.hypothesis.value,
            item=draft.item,
            label=draft.label,
            reader=draft.reader,
            reference_arm=frame.reference,
            test_arm=draft.test_arm,
            test=draft.test,
            decision=draft.decision,
            shown=shown,
            p_naive=draft.p_naive,
            shown_naive=None if draft.p_naive is None else draft.p_naive <= alpha,
            adjusted=adjusted,
        )
    return MeanRow(
        endpoint=endpoint.name,
        role=endpoint.role.value,
        hypothesis=endpoint.hypothesis.value,
        item=draft.item,
        label=draft.label,
        place=draft.place,
        reader=draft.reader,
        reference_arm=frame.reference,
        test_arm=draft.test_arm,
        margin=endpoint.margin or 0.0,
        p_value=draft.p_value,
        test=draft.test,
        shown=shown,
        adjusted=adjusted,
    )


def _findings(frame: Frame, endpoint: Endpoint) -> list[Finding]:
    return [one for one in frame.protocol.findings if endpoint.item in {None, one.name}]


def _sequences(frame: Frame, endpoint: Endpoint) -> list[str]:
    return [name for name in frame.protocol.sequence_names if endpoint.sequence in {None, name}]


# --- interchangeability -------------------------------------------------------------------------


def _interchange_rows(
    session: Session, frame: Frame, declared: list[Endpoint], options: EquivalenceQuery
) -> Iterator[InterchangeRow]:
    margins = {
        finding.name: endpoint.margin
        for endpoint in reversed(declared)
        if endpoint.kind is EndpointKind.DETECTION
        for finding in _findings(frame, endpoint)
    }
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for finding in frame.protocol.findings:
        answers = finding_answers(profiles, frame, finding)
        n_levels, n_patients, n_readers = answers[frame.reference].shape
        patients = np.tile(np.arange(n_patients), n_levels)
        subjects = (n_levels * n_patients, n_readers)
        for arm in frame.test_arms:
            answer = interchangeability(
                answers[frame.reference].reshape(subjects),
                answers[arm].reshape(subjects),
                cluster=patients,
                margin=margins.get(finding.name),
                level=options.level,
                n_resamples=options.resamples,
                rng=SEED,
            )
            yield InterchangeRow(
                item=finding.name,
                label=finding.label,
                reference_arm=frame.reference,
                test_arm=arm,
                readers=tuple(reader.name for reader in frame.readers),
                answer=answer,
            )


def finding_answers(profiles: Profiles, frame: Frame, finding: Finding) -> dict[str, Numbers]:
    """Give the grades of a finding, arm -> (level, patient, reader), NaN where there is none."""
    readings = [(reader.id, arm) for arm in frame.protocol.arm_names for reader in frame.readers]
    shape = (len(finding.levels), frame.n_cases)
    found = profiles.answers(finding.name, "", readings, shape)
    return {
        arm: found[:, :, position * len(frame.readers) :][:, :, : len(frame.readers)]
        for position, arm in enumerate(frame.protocol.arm_names)
    }


# --- layout -------------------------------------------------------------------------------------


def _grids(frame: Frame, tests: list[Row], changes: list[InterchangeRow]) -> Iterator[Grid]:
    by_endpoint: dict[str, list[ProportionRow | MeanRow]] = {}
    for row in tests:
        if not isinstance(row, InterchangeRow):
            by_endpoint.setdefault(row.endpoint, []).append(row)
    for endpoint, rows in by_endpoint.items():
        yield _test_grid(frame, endpoint, rows)
    if changes:
        titles = (
            "",
            "Index",
            "Patients resampled",
            "Disagreement, reference",
            "between",
            "new",
            "Margin",
        )
        head = tuple(Cell(text) for text in (*titles, "Interchangeable", "n"))
        body = tuple(_change_line(row) for row in changes)
        yield Grid("Interchangeability of findings", (head,), body)


def _test_grid(frame: Frame, endpoint: str, rows: list[ProportionRow | MeanRow]) -> Grid:
    first = rows[0]
    margin = first.test.margin if isinstance(first, ProportionRow) else first.margin
    caption = (
        f"{endpoint.replace('_', ' ')} ({first.role}): {word_of(first.hypothesis)} of "
        f"{frame.arm_label(first.test_arm)}, margin {margin:g}"
    )
    titles = (
        "",
        "Sequence",
        "Reader",
        *(
            ("Difference, naive interval", "Interval (patients)", "p (patients)")
            if isinstance(first, ProportionRow)
            else ("Difference", "p")
        ),
        "p adjusted",
        "Shown",
        *(("p (naive)",) if isinstance(first, ProportionRow) else ()),
        "n",
    )
    body = tuple(_test_line(frame, row) for row in rows)
    return Grid(caption, (tuple(Cell(text) for text in titles),), body)


def _test_line(frame: Frame, row: ProportionRow | MeanRow) -> Line:
    shown = f"{yes(row.shown)} / {yes(row.adjusted.significant)}"
    n = f"{row.test.n} of {row.test.n_given}"
    if isinstance(row, MeanRow):
        place = frame.sequence_label(row.place) if row.place else ""
        difference = with_interval(row.test.mean_difference, row.test.interval, None, 3)
        p_value = p_text(row.p_value, row.test.reason)
        decides: Line = (difference, p_value, p_text(row.adjusted.p_value), shown)
        return (Cell(row.label), place, row.reader or "", *decides, n)
    return (
        Cell(row.label),
        "",
        row.reader or "all together",
        with_interval(row.test.difference, row.test.interval, None, 3),
        interval_text(row.test.cluster_interval, 3),
        p_text(row.decision.p_value, row.test.cluster_reason),
        p_text(row.adjusted.p_value),
        shown,
        p_text(row.p_naive, row.test.reason),
        n,
    )


def _change_line(row: InterchangeRow) -> Line:
    answer = row.answer
    return (
        Cell(row.label),
        with_interval(answer.value, answer.interval, answer.reason, 3),
        interval_text(answer.bootstrap_interval, 3),
        *(
            NOTHING if value is None else f"{value:.3f}"
            for value in (
                answer.disagreement_reference,
                answer.disagreement_between,
                answer.disagreement_new,
                answer.margin,
            )
        ),
        yes(answer.interchangeable) if answer.margin is not None else "no margin declared",
        f"{answer.n} of {answer.n_given}",
    )


def word_of(hypothesis: str) -> str:
    """Write a hypothesis for people."""
    return "non-inferiority" if hypothesis == Hypothesis.NONINFERIORITY else hypothesis


def yes(value: bool | None) -> str:  # noqa: FBT001 - a word for it
    """Write an answer."""
    return NOTHING if value is None else "yes" if value else "no"
