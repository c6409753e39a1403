"""Comparisons of the arms that an endpoint with a margin declares: their pairs, and the test."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.counts import PairCounts, Side, paired_values, with_patients
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.differing import Numbers, complete_pairs, given_of
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.scan_time import TOTAL, with_total
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import scan_times, snr_values
from halfscan_api.studies.protocol import Endpoint, EndpointKind, Hypothesis
from halfscan_stats import NonInferiority, Tost, noninferiority_paired_proportions, tost_paired

WITH_MARGIN = frozenset({Hypothesis.NONINFERIORITY, Hypothesis.EQUIVALENCE})


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


def comparisons(
    session: Session, frame: Frame, endpoint: Endpoint, *, together: bool = False
) -> Iterator[Comparison]:
    """Give the comparisons of an endpoint.

    Parameters
    ----------
    session : Session
    frame : Frame
    endpoint : Endpoint
        One with a margin.
    together : bool
        Findings of all readers together alone, instead of each reader's too.
    """
    if endpoint.kind is EndpointKind.DETECTION:
        return _of_findings(session, frame, endpoint, together=together)
    make = {
        EndpointKind.IMAGE_QUALITY: _of_scores,
        EndpointKind.SNR: _of_snr,
        EndpointKind.SCAN_TIME: _of_times,
    }
    return make[endpoint.kind](session, frame, endpoint)


def _of_findings(
    session: Session, frame: Frame, endpoint: Endpoint, *, together: bool
) -> Iterator[Comparison]:
    everyone = frame.readers[0] if len(frame.readers) == 1 else None
    apart = (*frame.readers, *((None,) if len(frame.readers) > 1 else ()))
    readers = (everyone,) if together else apart
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for arm in frame.test_arms:
        tables = []
        for reader in readers:
            who = None if reader is None else reader.id
            tables.append(
                finding_tables(profiles, frame, (Side(who, frame.reference), Side(who, arm)))
            )
        for finding in frame.protocol.findings:
            if endpoint.item not in {None, finding.name}:
                continue
            for reader, counts in zip(readers, tables, strict=True):
                n_readers = len(frame.readers) if reader is None else 1
                yield Comparison(
                    *(endpoint, finding.name, finding.label, None),
                    None if reader is None else reader.name,
                    arm,
                    *with_patients(counts[finding.name]),
                    n_given=frame.n_cases * len(finding.levels) * n_readers,
                )


def _of_scores(session: Session, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
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
                    about = endpoint, criterion.name, criterion.label, sequence, reader.name, arm
                    yield _of_patients(frame, about, paired_values(table, scale))


def _of_snr(session: Session, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
    snr = snr_values(session, frame)
    for sequence in _sequences(frame, endpoint):
        for region in signal_regions(frame, sequence):
            if endpoint.item not in {None, region.name}:
                continue
            for arm in frame.test_arms:
                for reader in frame.readers:
                    values = (
                        snr.of(sequence, region.name, reader.id, name)
                        for name in (frame.reference, arm)
                    )
                    about = endpoint, region.name, region.label, sequence, reader.name, arm
                    yield _of_patients(frame, about, complete_pairs(*values))


def _of_times(session: Session, frame: Frame, endpoint: Endpoint) -> Iterator[Comparison]:
    times = with_total(frame, scan_times(session, frame))
    sequence = endpoint.sequence
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
