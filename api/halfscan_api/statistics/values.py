"""Measured values from the database: signal-to-noise ratios and scan times, one row a value."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.measurements.noise import METHODS
from halfscan_api.measurements.tables import Measurement
from halfscan_api.statistics.frame import Frame
from halfscan_api.studies.tables import CaseKind, CaseSeries, NoiseSeries, StudyCase
from halfscan_stats import SnrMethod

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SnrValues:
    """SNR of every case in the study, by what was measured.

    Attributes
    ----------
    cases : tuple of int
        Rows of the cases, in their order.
    found : dict
        (sequence, region, reader, arm, repeat round) -> (case,), NaN where there is none.
    """

    cases: tuple[int, ...]
    found: dict[tuple[str, str, int, str, int], Numbers]

    def of(
        self, sequence: str, region: str, reader: int, arm: str, repeat_round: int = 0
    ) -> Numbers:
        """Give the values of all cases."""
        key = (sequence, region, reader, arm, repeat_round)
        nothing = np.full(len(self.cases), np.nan)
        return self.found.get(key, nothing)

    def rounds(self) -> list[int]:
        """Repeat rounds that were measured, from 1."""
        return sorted({key[-1] for key in self.found if key[-1] > 0})


def study_cases(session: Session, frame: Frame) -> tuple[int, ...]:
    """Give the cases that count, by the number of their row."""
    return tuple(
        session.scalars(
            select(StudyCase.id)
            .where(
                StudyCase.study_id == frame.study_id,
                StudyCase.kind == CaseKind.STUDY.value,
                StudyCase.excluded_at.is_(None),
            )
            .order_by(StudyCase.id)
        )
    )


def snr_values(session: Session, frame: Frame, sequence: str | None = None) -> SnrValues:
    """Load the SNRs that readers measured on the images before them, of one sequence or of all.

    What the server measured on the paired series of another arm, with the geometry of the reading,
    is not among them: it is no second reading.
    """
    cases = study_cases(session, frame)
    place = {case: position for position, case in enumerate(cases)}
    found: dict[tuple[str, str, int, str, int], Numbers] = defaultdict(
        lambda: np.full(len(cases), np.nan)
    )
    rows = session.execute(
        select(
            Measurement.sequence,
            Measurement.region,
            Measurement.reader_id,
            Measurement.arm,
            Measurement.repeat_round,
            Measurement.case_id,
            Measurement.snr,
        ).where(
            Measurement.study_id == frame.study_id,
            Measurement.counted,
            ~Measurement.transferred,
            Measurement.snr.is_not(None),
            *(() if sequence is None else (Measurement.sequence == sequence,)),
        )
    )
    for of_sequence, region, reader, arm, repeat_round, case, snr in rows:
        found[of_sequence, region, reader, arm, repeat_round][place[case]] = snr
    return SnrValues(cases, dict(found))


def noise_snr_values(session: Session, frame: Frame) -> dict[SnrMethod, SnrValues]:
    """Load the SNRs by repeated series and by noise maps, of the methods that there are.

    What was measured on another series than the one that the case has now does not count.
    """
    present = {
        (row.case_id, row.arm, row.sequence, METHODS[row.role]): row.series_instance_uid
        for row in session.scalars(
            select(NoiseSeries).where(NoiseSeries.study_id == frame.study_id)
        )
    }
    if not present:
        return {}
    cases = study_cases(session, frame)
    place = {case: position for position, case in enumerate(cases)}
    found: dict[SnrMethod, dict[tuple[str, str, int, str, int], Numbers]] = defaultdict(
        lambda: defaultdict(lambda: np.full(len(cases), np.nan))
    )
    rows = session.scalars(
        select(Measurement).where(
            Measurement.study_id == frame.study_id,
            Measurement.counted,
            ~Measurement.transferred,
            Measurement.noise.is_not(None),
        )
    )
    for row in rows:
        key = (row.sequence, row.region, row.reader_id, row.arm, row.repeat_round)
        for name, entry in (row.noise or {}).items():
            method = SnrMethod(name)
            uid = present.get((row.case_id, row.arm, row.sequence, method))
            if uid == entry["series_instance_uid"]:
                found[method][key][place[row.case_id]] = entry["snr"]
    return {
        method: SnrValues(cases, dict(found[method])) for method in SnrMethod if method in found
    }


def scan_times(session: Session, frame: Frame) -> dict[tuple[str, str], Numbers]:
    """Give the scan times [s] of all cases, (arm, sequence) -> (case,), NaN where unknown."""
    cases = study_cases(session, frame)
    place = {case: position for position, case in enumerate(cases)}
    times = {
        (arm, sequence): np.full(len(cases), np.nan)
        for arm in frame.protocol.arm_names
        for sequence in frame.protocol.sequence_names
    }
    rows = session.execute(
        select(
            CaseSeries.arm, CaseSeries.sequence, CaseSeries.case_id, CaseSeries.scan_time_s
        ).where(CaseSeries.study_id == frame.study_id, CaseSeries.scan_time_s.is_not(None))
    )
    for arm, sequence, case, seconds in rows:
        if case in place and (arm, sequence) in times:
            times[arm, sequence][place[case]] = seconds
    return times
