"""Robustness: whether what was shown against a margin hangs on one patient or on one reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.counts import PairCounts, Side, paired_values, with_patients
from halfscan_api.statistics.detection import finding_tables
from halfscan_api.statistics.differing import complete_pairs
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.options import RobustnessQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import NOTHING, Cell, Grid, Line, Table, p_text
from halfscan_api.statistics.snr import signal_regions
from halfscan_api.statistics.values import snr_values
from halfscan_api.studies.protocol import Endpoint, EndpointKind, Hypothesis
from halfscan_stats import Decision, noninferiority_paired_proportions, tost_paired

Numbers = npt.NDArray[Any]
_TESTED = {Hypothesis.NONINFERIORITY, Hypothesis.EQUIVALENCE}


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """A comparison with a margin, done again without each patient.

    Attributes
    ----------
    kind : str
        ``without_a_patient``.
    endpoint, hypothesis : str
    item, label : str
        Finding, criterion or region.
    place, reader : str or None
        Sequence; reader, None for all together.
    reference_arm, test_arm : str
    n_patients : int
        Patients with a pair.
    p_value : float or None
        With all of them.
    p_lowest, p_highest : float or None
        Without one patient: whichever makes p smallest and largest.
    shown : bool or None
        With all of them, at the one-sided level.
    n_turned : int
        Patients without whom it would be the other way.
    """

    endpoint: str
    hypothesis: str
    item: str
    label: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    n_patients: int
    p_value: float | None
    p_lowest: float | None
    p_highest: float | None
    shown: bool | None
    n_turned: int
    kind: str = "without_a_patient"


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a comparison is made from: values by patient, and the test of them."""

    endpoint: Endpoint
    item: str
    label: str
    place: str | None
    reader: ReaderOfStudy | None
    test_arm: str
    patients: npt.NDArray[np.int64]
    decide: Callable[[npt.NDArray[np.bool_]], Decision]

    def p_of(self, kept: npt.NDArray[np.bool_]) -> float | None:
        """P-value of the hypothesis with some of the pairs."""
        decision = self.decide(kept)
        if self.endpoint.hypothesis is Hypothesis.EQUIVALENCE:
            return decision.p_equivalence
        return decision.p_lower

    def row(self, frame: Frame, alpha: float) -> RobustnessRow:
        """Leave out each patient in turn."""
        everyone = self.p_of(np.ones(self.patients.size, dtype=bool))
        shown = None if everyone is None else everyone <= alpha
        members = np.unique(self.patients)
        without = [self.p_of(self.patients != patient) for patient in members]
        there = [p_value for p_value in without if p_value is not None]
        return RobustnessRow(
            endpoint=self.endpoint.name,
            hypothesis=self.endpoint.hypothesis.value,
            item=self.item,
            label=self.label,
            place=self.place,
            reader=None if self.reader is None else self.reader.name,
            reference_arm=frame.reference,
            test_arm=self.test_arm,
            n_patients=members.size,
            p_value=everyone,
            p_lowest=min(there, default=None),
            p_highest=max(there, default=None),
            shown=shown,
            n_turned=sum((p_value <= alpha) != shown for p_value in there),
        )


def compute(session: Session, frame: Frame, options: RobustnessQuery) -> Table[RobustnessRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : RobustnessQuery

    Returns
    -------
    Table of RobustnessRow
    """
    alpha = options.alpha or frame.protocol.alpha
    rows = [sample.row(frame, alpha) for sample in _samples(session, frame, alpha)]
    return Table(
        name="robustness",
        title="Robustness",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=tuple(rows),
        grids=tuple(_grids(frame, rows)),
        notes=(
            (
                f"Each comparison with a margin, done again without each patient, at the one-sided "
                f"level {alpha:g} and without correction for several tests. Turned: patients "
                "without whom the answer would be the other one."
            ),
            (
                "Each reader alone, and all together, stand in the table of equivalence. Sites and "
                "scanners are not compared: the study does not record them."
            ),
        ),
    )


def _samples(session: Session, frame: Frame, alpha: float) -> Iterator[_Sample]:
    make = {
        EndpointKind.DETECTION: _detection,
        EndpointKind.IMAGE_QUALITY: _scores,
        EndpointKind.SNR: _snr,
    }
    for endpoint in frame.protocol.endpoints:
        if endpoint.hypothesis in _TESTED and endpoint.kind in make:
            yield from make[endpoint.kind](session, frame, endpoint, alpha)


def _detection(
    session: Session, frame: Frame, endpoint: Endpoint, alpha: float
) -> Iterator[_Sample]:
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    reader = frame.readers[0] if len(frame.readers) == 1 else None
    who = None if reader is None else reader.id
    for arm in frame.test_arms:
        tables = finding_tables(profiles, frame, (Side(who, frame.reference), Side(who, arm)))
        for finding in frame.protocol.findings:
            if endpoint.item not in {None, finding.name}:
                continue
            reference, test, patients = with_patients(tables[finding.name])

            def decide(
                kept: npt.NDArray[np.bool_],
                pairs: tuple[Numbers, ...] = (test, reference, patients),
            ) -> Decision:
                new, old, cluster = (values[kept] for values in pairs)
                return noninferiority_paired_proportions(
                    *(new, old),
                    margin=endpoint.margin or 0.0,
                    alpha=alpha,
                    categories=(0, 1),
                    cluster=cluster,
                ).decision

            name = finding.name, finding.label
            yield _Sample(endpoint, *name, None, reader, arm, patients, decide)


def _scores(session: Session, frame: Frame, endpoint: Endpoint, alpha: float) -> Iterator[_Sample]:
    counts = PairCounts(session, frame, AnswerKind.SCORE)
    for sequence in frame.protocol.sequence_names:
        if endpoint.sequence not in {None, sequence}:
            continue
        for criterion in frame.protocol.criteria_of(sequence):
            if endpoint.item not in {None, criterion.name}:
                continue
            scale = tuple(choice.value for choice in criterion.scale)
            for arm in frame.test_arms:
                for reader in frame.readers:
                    sides = Side(reader.id, frame.reference), Side(reader.id, arm)
                    table = counts.table(criterion.name, [sequence], scale, *sides)
                    name = criterion.name, criterion.label, sequence
                    pairs = paired_values(table, scale)
                    yield _of_means(endpoint, name, reader, arm, pairs, alpha)


def _snr(session: Session, frame: Frame, endpoint: Endpoint, alpha: float) -> Iterator[_Sample]:
    snr = snr_values(session, frame)
    for sequence in frame.protocol.sequence_names:
        if endpoint.sequence not in {None, sequence}:
            continue
        for region in signal_regions(frame, sequence):
            if endpoint.item not in {None, region.name}:
                continue
            for arm in frame.test_arms:
                for reader in frame.readers:
                    first, second = (
                        snr.of(sequence, region.name, reader.id, name)
                        for name in (frame.reference, arm)
                    )
                    name = region.name, region.label, sequence
                    pairs = complete_pairs(first, second)
                    yield _of_means(endpoint, name, reader, arm, pairs, alpha)


def _of_means(
    endpoint: Endpoint,
    name: tuple[str, str, str],
    reader: ReaderOfStudy,
    arm: str,
    pairs: tuple[Numbers, ...],
    alpha: float,
) -> _Sample:
    """Give the sample of a mean: one pair is one patient."""
    reference, test = pairs

    def decide(kept: npt.NDArray[np.bool_]) -> Decision:
        return tost_paired(
            test[kept], reference[kept], margin=endpoint.margin, alpha=alpha
        ).decision

    return _Sample(endpoint, *name, reader, arm, np.arange(len(test)), decide)


# --- layout -------------------------------------------------------------------------------------


def _grids(frame: Frame, rows: list[RobustnessRow]) -> Iterator[Grid]:
    head = tuple(
        map(
            Cell,
            ("", "Reader", "p", "p without a patient, from", "to", "Shown", "Turned", "Patients"),
        )
    )
    for endpoint in dict.fromkeys(row.endpoint for row in rows):
        body = tuple(_line(frame, row) for row in rows if row.endpoint == endpoint)
        caption = f"Without each patient in turn: {endpoint.replace('_', ' ')}"
        yield Grid(caption, (head,), body)


def _line(frame: Frame, row: RobustnessRow) -> Line:
    place = f", {frame.sequence_label(row.place)}" if row.place else ""
    return (
        Cell(f"{row.label}{place}"),
        row.reader or "all together",
        *(p_text(value) for value in (row.p_value, row.p_lowest, row.p_highest)),
        NOTHING if row.shown is None else "yes" if row.shown else "no",
        str(row.n_turned),
        str(row.n_patients),
    )
