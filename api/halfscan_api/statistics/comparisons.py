"""Comparisons of the arms that an endpoint with a margin declares: their pairs, and the test."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.counts import Counts, PairCounts, Side, paired_values, with_patients
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.differing import Numbers, complete_pairs, given_of
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.scan_time import TOTAL, with_total
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import SnrValues, scan_times, snr_values
from halfscan_api.studies.protocol import OF_DIFFERENCES, Endpoint, EndpointKind, Hypothesis
from halfscan_stats import NonInferiority, Tost, noninferiority_paired_proportions, tost_paired


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pairs of the reference arm and a test arm, which an endpoint with a margin is tested on.

    Attributes
    ----------
    endpoint : Endpoint
    item, label : str
        Finding, criterion, region, or sequence of a scan time.
    place, reader : str or None
        Sequence; reader, None for all together and for scan times.
    test_arm : str
    reference, test : ndarray, shape (n,)
        Values of the pairs.
    patients : ndarray, shape (n,), or None
        Patient of each pair of a finding; None where a pair is a patient.
    n_given : int
        Pairs that a complete study has.
    """

    endpoint: Endpoint
    item: str
    label: str
    place: str | None
    reader: str | None
    test_arm: str
    reference: Numbers
    test: Numbers
    patients: Numbers | None
    n_given: int

    @property
    def members(self) -> Numbers:
        """Patient of each pair; shape (n,)."""
        return np.arange(self.test.size) if self.patients is None else self.patients

    def result(
        self, alpha: float, kept: npt.NDArray[np.bool_] | None = None
    ) -> NonInferiority | Tost:
        """Test the pairs, or those of them that are kept."""
        of = slice(None) if kept is None else kept
        reference, test = self.reference[of], self.test[of]
        if self.patients is None:
            answer = tost_paired(test, reference, margin=self.endpoint.margin, alpha=alpha)
            return given_of(answer, self.n_given)
        proportions = noninferiority_paired_proportions(
            *(test, reference),
            margin=self.endpoint.margin or 0.0,
            alpha=alpha,
            categories=(0, 1),
            cluster=self.patients[of],
        )
        return given_of(proportions, self.n_given)

    def p_value(self, result: NonInferiority | Tost) -> float | None:
        """P-value of the endpoint's hypothesis, as a test of these pairs decided it."""
        if self.endpoint.hypothesis is Hypothesis.EQUIVALENCE:
            return result.decision.p_equivalence
        # A scan is worse where it is longer, everything else where it is less.
        longer = self.endpoint.kind is EndpointKind.SCAN_TIME
        return result.decision.p_upper if longer else result.decision.p_lower


class _Answers:
    """Answers of a study, loaded when the first endpoint asks for them."""

    def __init__(self, session: Session, frame: Frame) -> None:
        self.session, self.frame = session, frame
        self._findings: dict[tuple[int | None, str], Mapping[str, Counts]] = {}

    @cached_property
    def profiles(self) -> Profiles:
        return Profiles(self.session, self.frame, AnswerKind.FINDING)

    @cached_property
    def scores(self) -> PairCounts:
        return PairCounts(self.session, self.frame, AnswerKind.SCORE)

    @cached_property
    def snr(self) -> SnrValues:
        return snr_values(self.session, self.frame)

    @cached_property
    def times(self) -> dict[tuple[str, str], Numbers]:
        return with_total(self.frame, scan_times(self.session, self.frame))

    def findings(self, reader: int | None, arm: str) -> Mapping[str, Counts]:
        """Tables of a reader (None: of all) by finding, the reference arm against another."""
        key = reader, arm
        if key not in self._findings:
            sides = Side(reader, self.frame.reference), Side(reader, arm)
            self._findings[key] = finding_tables(self.profiles, self.frame, sides)
        return self._findings[key]


def comparisons(
    session: Session,
    frame: Frame,
    *,
    together: bool = False,
    without: Collection[EndpointKind] = (),
) -> Iterator[Comparison]:
    """Give the comparisons of every endpoint that tests a difference against a margin.

    Parameters
    ----------
    session : Session
    frame : Frame
    together : bool
        Findings of all readers together alone, instead of each reader's too.
    without : collection of EndpointKind
        Endpoints to leave out.
    """
    answers = _Answers(session, frame)
    make: dict[EndpointKind, Callable[[_Answers, Frame, Endpoint], Iterator[Comparison]]] = {
        EndpointKind.DETECTION: partial(_of_findings, together=together),
        EndpointKind.IMAGE_QUALITY: _of_scores,
        EndpointKind.SNR: _of_snr,
        EndpointKind.SCAN_TIME: _of_times,
    }
    for endpoint in frame.protocol.endpoints:
        if endpoint.hypothesis in OF_DIFFERENCES and endpoint.kind not in without:
            yield from make[endpoint.kind](answers, frame, endpoint)


def _of_findings(
    answers: _Answers, frame: Frame, endpoint: Endpoint, *, together: bool
) -> Iterator[Comparison]:
    everyone = frame.readers[0] if len(frame.readers) == 1 else None
    readers = (everyone,) if together else frame.readers_and_all
    for arm in frame.test_arms:
        for finding in frame.protocol.findings:
            if endpoint.item not in {None, finding.name}:
                continue
            for reader in readers:
                counts = answers.findings(None if reader is None else reader.id, arm)
                n_readers = len(frame.readers) if reader is None else 1
                yield Comparison(
                    *(endpoint, finding.name, finding.label, None),
                    None if reader is None else reader.name,
                    arm,
                    *with_patients(counts[finding.name]),
                    n_given=frame.n_cases * len(finding.levels) * n_readers,
                )


def _of_scores(answers: _Answers, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
    for sequence in _sequences(frame, endpoint):
        for criterion in frame.protocol.criteria_of(sequence):
            if endpoint.item not in {None, criterion.name}:
                continue
            scale = tuple(choice.value for choice in criterion.scale)
            for arm in frame.test_arms:
                for reader in frame.readers:
                    sides = Side(reader.id, frame.reference), Side(reader.id, arm)
                    table = answers.scores.table(criterion.name, [sequence], scale, *sides)
                    about = endpoint, criterion.name, criterion.label, sequence, reader.name, arm
                    yield _of_patients(frame, about, paired_values(table, scale))


def _of_snr(answers: _Answers, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
    for sequence in _sequences(frame, endpoint):
        for region in signal_regions(frame, sequence):
            if endpoint.item not in {None, region.name}:
                continue
            for arm in frame.test_arms:
                for reader in frame.readers:
                    values = (
                        answers.snr.of(sequence, region.name, reader.id, name)
                        for name in (frame.reference, arm)
                    )
                    about = endpoint, region.name, region.label, sequence, reader.name, arm
                    yield _of_patients(frame, about, complete_pairs(*values))


def _of_times(answers: _Answers, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
    times, sequence = answers.times, endpoint.sequence
    place = sequence or TOTAL
    label = "Total" if sequence is None else frame.sequence_label(sequence)
    for arm in frame.test_arms:
        pairs = complete_pairs(times[frame.reference, place], times[arm, place])
        yield _of_patients(frame, (endpoint, place, label, sequence, None, arm), pairs)


def _of_patients(
    frame: Frame,
    about: tuple[Endpoint, str, str, str | None, str | None, str],
    pairs: tuple[Numbers, Numbers],
) -> Comparison:
    """Give a comparison of means: one pair is one patient."""
    return Comparison(*about, *pairs, patients=None, n_given=frame.n_cases)


def _sequences(frame: Frame, endpoint: Endpoint) -> list[str]:
    return [name for name in frame.protocol.sequence_names if endpoint.sequence in {None, name}]
