"""Interchangeability of the arms for a finding: the individual equivalence index.

It is estimated for every finding, and tested where an endpoint of the protocol declares a margin
for it: a margin of its own, since disagreement of two readers is no share of findings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.adjusting import Adjusted, RawTest
from halfscan_api.statistics.differing import Numbers
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.studies.protocol import Endpoint, Finding, Hypothesis
from halfscan_stats import Interchangeability, interchangeability

SEED = 20240513  # of the resamples: the same data give the same interval


@dataclass(frozen=True, slots=True)
class InterchangeRow:
    """Interchangeability of the arms for a finding.

    Attributes
    ----------
    kind : str
        ``interchangeability``.
    endpoint, role : str or None
        As the protocol declares them; None where it declares no margin for this finding.
    hypothesis : str
        ``interchangeability``.
    item, label : str
        Finding.
    reference_arm, test_arm : str
    readers : tuple of str
    answer : Interchangeability
        The individual equivalence index, levels nested in patients, and its `decision`.
    p_value : float or None
        The one that decides, of one side.
    shown : bool or None
        Whether the index was shown to lie below the margin, before the correction.
    adjusted : Adjusted or None
        None where nothing is tested.
    """

    endpoint: str | None
    role: str | None
    item: str
    label: str
    reference_arm: str
    test_arm: str
    readers: tuple[str, ...]
    answer: Interchangeability
    p_value: float | None = None
    shown: bool | None = None
    adjusted: Adjusted | None = None
    hypothesis: str = Hypothesis.INTERCHANGEABILITY.value
    kind: str = "interchangeability"

    @property
    def margin(self) -> float:
        """Largest index that counts as interchangeable; 0 where none is declared."""
        return self.answer.margin or 0.0

    @property
    def reader(self) -> None:
        """All readers are in it."""

    @property
    def estimate(self) -> float | None:
        """The index."""
        return self.answer.value

    @property
    def result(self) -> Interchangeability:
        """What decides is its `decision`."""
        return self.answer


@dataclass(frozen=True, slots=True)
class InterchangeDraft:
    """An index before the p-values of its family are known; `endpoint` None: an estimate."""

    endpoint: Endpoint | None
    finding: Finding
    test_arm: str
    answer: Interchangeability

    @property
    def p_value(self) -> float | None:
        """P-value that decides."""
        return None if self.endpoint is None else self.answer.decision.p_value

    def raw(self) -> RawTest:
        """Give the p-value for correction: all readers are in it, as in tests of all together."""
        if self.endpoint is None:
            raise TypeError("an index without an endpoint is estimated, not tested")
        aspect = (self.endpoint.name, self.finding.name, None)
        return RawTest(aspect, self.p_value, together=True, role=self.endpoint.role)

    def row(self, frame: Frame, adjusted: Adjusted | None, alpha: float) -> InterchangeRow:
        """Give the row."""
        endpoint = self.endpoint
        return InterchangeRow(
            endpoint=None if endpoint is None else endpoint.name,
            role=None if endpoint is None else endpoint.role.value,
            item=self.finding.name,
            label=self.finding.label,
            reference_arm=frame.reference,
            test_arm=self.test_arm,
            readers=tuple(reader.name for reader in frame.readers),
            answer=self.answer,
            p_value=self.p_value,
            shown=None if self.p_value is None else self.p_value <= alpha,
            adjusted=adjusted,
        )


def interchange_drafts(
    session: Session, frame: Frame, options: EquivalenceQuery, alpha: float
) -> Iterator[InterchangeDraft]:
    """Compute the index of every finding: against each declared margin, or as an estimate.

    Parameters
    ----------
    session : Session
    frame : Frame
    options : EquivalenceQuery
    alpha : float
        One-sided level of the tests: their intervals have confidence 1 - 2 alpha.

    Yields
    ------
    InterchangeDraft
    """
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for finding in frame.protocol.findings:
        answers = finding_answers(profiles, frame, finding)
        n_levels, n_patients, n_readers = answers[frame.reference].shape
        patients = np.tile(np.arange(n_patients), n_levels)
        subjects = (n_levels * n_patients, n_readers)
        declared: list[Endpoint | None] = [
            endpoint
            for endpoint in frame.protocol.endpoints
            if endpoint.hypothesis is Hypothesis.INTERCHANGEABILITY
            and endpoint.item in {None, finding.name}
        ]
        for endpoint in declared or [None]:
            for arm in frame.test_arms:
                answer = interchangeability(
                    answers[frame.reference].reshape(subjects),
                    answers[arm].reshape(subjects),
                    cluster=patients,
                    margin=None if endpoint is None else endpoint.margin,
                    level=options.level if endpoint is None else 1 - 2 * alpha,
                    n_resamples=options.resamples,
                    rng=SEED,
                )
                yield InterchangeDraft(endpoint, finding, arm, answer)


def finding_answers(profiles: Profiles, frame: Frame, finding: Finding) -> dict[str, Numbers]:
    """Give the grades of a finding, arm -> (level, patient, reader), NaN where there is none."""
    readings = [(reader.id, arm) for arm in frame.protocol.arm_names for reader in frame.readers]
    shape = (len(finding.levels), frame.n_cases)
    found = profiles.answers(finding.name, "", readings, shape)
    return {
        arm: found[:, :, position * len(frame.readers) :][:, :, : len(frame.readers)]
        for position, arm in enumerate(frame.protocol.arm_names)
    }
