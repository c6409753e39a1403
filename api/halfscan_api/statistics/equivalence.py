"""What a test of difference cannot say: not worse, as good, interchangeable.

Only what the protocol declares is tested: its endpoints with a margin. Interchangeability of the
readers' findings is estimated for every finding. What decides is the `decision` of each result of
`halfscan_stats`: nothing is computed anew here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.adjusting import Adjusted, RawTest, adjust
from halfscan_api.statistics.counts import (
    Counts,
    PairCounts,
    Side,
    paired_values,
    with_patients,
)
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.differing import Numbers, complete_pairs, given_of
from halfscan_api.statistics.equivalence_layout import grids_of, notes_of
from halfscan_api.statistics.equivalence_rows import MeanRow, ProportionRow, Row
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import InterchangeDraft, interchange_drafts
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import Table
from halfscan_api.statistics.scan_time import TOTAL, with_total
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import scan_times, snr_values
from halfscan_api.studies.protocol import Endpoint, EndpointKind, Finding, Hypothesis
from halfscan_stats import (
    NonInferiority,
    Tost,
    noninferiority_paired_proportions,
    tost_paired,
)


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
    def p_value(self) -> float | None:
        """P-value of the hypothesis, as the test decided it."""
        decision = self.test.decision
        if self.endpoint.hypothesis is Hypothesis.EQUIVALENCE:
            return decision.p_equivalence
        # A scan is worse where it is longer, everything else where it is less.
        longer = self.endpoint.kind is EndpointKind.SCAN_TIME
        return decision.p_upper if longer else decision.p_lower

    def row(self, frame: Frame, adjusted: Adjusted, alpha: float) -> ProportionRow | MeanRow:
        """Give the row."""
        common: dict[str, Any] = {
            "endpoint": self.endpoint.name,
            "role": self.endpoint.role.value,
            "hypothesis": self.endpoint.hypothesis.value,
            "item": self.item,
            "label": self.label,
            "reader": self.reader,
            "reference_arm": frame.reference,
            "test_arm": self.test_arm,
            "margin": self.endpoint.margin or 0.0,
            "p_value": self.p_value,
            "shown": None if self.p_value is None else self.p_value <= alpha,
            "adjusted": adjusted,
        }
        if isinstance(self.test, NonInferiority):
            return ProportionRow(**common, test=self.test)
        return MeanRow(**common, test=self.test, place=self.place)


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
        endpoint
        for endpoint in frame.protocol.endpoints
        if endpoint.hypothesis in {Hypothesis.NONINFERIORITY, Hypothesis.EQUIVALENCE}
    ]
    drafts = [draft for one in declared for draft in _drafts(session, frame, one, alpha)]
    indices = list(interchange_drafts(session, frame, options, alpha))
    tested = [draft for draft in indices if draft.endpoint is not None]
    raw = [*(_raw(draft) for draft in drafts), *(_raw_index(draft) for draft in tested)]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    every: list[_Draft | InterchangeDraft] = [*drafts, *tested]
    rows: list[Row] = [
        draft.row(frame, one, alpha) for draft, one in zip(every, adjusted, strict=True)
    ]
    rows += [draft.row(frame, None, alpha) for draft in indices if draft.endpoint is None]
    return Table(
        name="equivalence",
        title="Non-inferiority, equivalence and interchangeability",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=tuple(rows),
        grids=tuple(grids_of(frame, rows)),
        notes=tuple(notes_of(frame, rows, options, alpha)),
    )


def _raw(draft: _Draft) -> RawTest:
    return RawTest(
        (draft.endpoint.name, draft.item, draft.place),
        draft.p_value,
        together=draft.reader is None and draft.endpoint.kind is EndpointKind.DETECTION,
        role=draft.endpoint.role,
    )


def _raw_index(draft: InterchangeDraft) -> RawTest:
    """All readers are in it: it belongs to the tests of all readers together."""
    assert draft.endpoint is not None  # noqa: S101 - of those that are tested
    aspect = (draft.endpoint.name, draft.finding.name, None)
    return RawTest(aspect, draft.p_value, together=True, role=draft.endpoint.role)


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


def _findings(frame: Frame, endpoint: Endpoint) -> list[Finding]:
    return [one for one in frame.protocol.findings if endpoint.item in {None, one.name}]


def _sequences(frame: Frame, endpoint: Endpoint) -> list[str]:
    return [name for name in frame.protocol.sequence_names if endpoint.sequence in {None, name}]
