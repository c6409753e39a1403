"""Visual grading: scores of the arms compared as ordered categories, without distances.

Characteristics (VGC): how often a score of the test arm is above one of the reference, for each
criterion and sequence. Regression (VGR): by which odds it is higher, for each criterion over all
sequences. Both from the answers themselves: who gave them matters, so that stored counts are no
help, and the cost grows with the answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import Score
from halfscan_api.statistics.frame import Frame, sequences_of
from halfscan_api.statistics.options import GradingQuery
from halfscan_api.statistics.results import (
    Cell,
    Grid,
    Line,
    Table,
    number,
    p_text,
    used,
    with_interval,
)
from halfscan_api.studies.protocol import Criterion
from halfscan_stats import (
    Interval,
    OrdinalMixedModel,
    VisualGrading,
    cumulative_link_mixed_model,
    visual_grading_characteristics,
)

TEST = "test"  # the effect of the protocol, by its name in the model


@dataclass(frozen=True, slots=True)
class VgcRow:
    """Visual grading characteristics of a criterion on a sequence.

    Attributes
    ----------
    kind : str
        ``vgc``.
    item, label : str
        Criterion.
    place : str
        Sequence.
    reader : str or None
        None for all of them together.
    reference_arm, test_arm : str
    answer : VisualGrading
        Patients are clusters, readers are fixed.
    random_readers : VisualGrading or None
        The same of all readers together for readers like these; None of one reader.
    """

    item: str
    label: str
    place: str
    reader: str | None
    reference_arm: str
    test_arm: str
    answer: VisualGrading
    random_readers: VisualGrading | None = None
    kind: str = "vgc"


@dataclass(frozen=True, slots=True)
class VgrRow:
    """Visual grading regression of a criterion.

    Attributes
    ----------
    kind : str
        ``vgr``.
    item, label : str
        Criterion.
    reference_arm, test_arm : str
    odds_ratio : float or None
        Of a higher score with the test arm, for the same patient, reader and sequence.
    interval : Interval or None
    p_value : float or None
        Wald's, which agrees with the interval; that of the likelihood ratio is `answer.lr_p_value`.
    answer : OrdinalMixedModel
        Fixed: protocol, and sequence where there are several. Random: patients. Readers, where
        there are several, are what `answer.readers` says.
    """

    item: str
    label: str
    reference_arm: str
    test_arm: str
    odds_ratio: float | None
    interval: Interval | None
    p_value: float | None
    answer: OrdinalMixedModel
    kind: str = "vgr"


Row = VgcRow | VgrRow


@dataclass(frozen=True, slots=True)
class _Scores:
    """Counted scores of the first round, of one criterion, in two arms."""

    value: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    reader: npt.NDArray[np.int64]
    sequence: npt.NDArray[Any]

    def of(self, kept: npt.NDArray[np.bool_]) -> "_Scores":
        """Give some of them."""
        return _Scores(*(getattr(self, name)[kept] for name in self.__slots__))


def compute(session: Session, frame: Frame, options: GradingQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : GradingQuery

    Returns
    -------
    Table of VgcRow and VgrRow
    """
    sequences = sequences_of(frame, options.sequence)
    rows: list[Row] = []
    for criterion in frame.protocol.criteria:
        for arm in frame.test_arms:
            scores = _scores(session, frame, criterion, arm)
            rows += _characteristics(frame, criterion, arm, scores, sequences, options)
            rows.append(_regression(frame, criterion, arm, scores, options))
    return Table.of(
        frame,
        options,
        name="visual-grading",
        title="Visual grading of image quality",
        rows=tuple(rows),
        grids=tuple(_grids(frame, rows)),
        notes=(
            (
                "VGC: area under the curve of visual grading characteristics, the chance that a "
                "score with the test protocol is above one with the reference, ties counted half: "
                "0.5 without a difference. The interval takes readers as fixed and allows for all "
                "scores of a patient; the one for readers like these is beside the row of all "
                "together (mean of the readers' areas)."
            ),
            (
                "VGR: odds ratio of a higher score with the test protocol, from an ordinal mixed "
                "model over all sequences, with Wald's interval and p, and that of the likelihood "
                f"ratio. {_readers_text(frame, options)} The standard deviations are those of "
                "random effects on the log odds."
            ),
            (
                f"Intervals have {100 * options.level:.4g}% confidence; p-values are not corrected "
                "for several tests."
            ),
        ),
    )


def _readers_text(frame: Frame, options: GradingQuery) -> str:
    if len(frame.readers) < 2:
        return "Patients are random."
    if options.readers == "fixed":
        return "Patients are random, readers fixed: the answer is of these readers."
    few = ", and few readers say little of how readers differ" if len(frame.readers) < 5 else ""
    return f"Patients and readers are random: the answer is of readers like these{few}."


def _scores(session: Session, frame: Frame, criterion: Criterion, arm: str) -> _Scores:
    rows = session.execute(
        select(Score.value, Score.arm, Score.case_id, Score.reader_id, Score.sequence)
        .where(
            Score.study_id == frame.study_id,
            Score.criterion == criterion.name,
            Score.arm.in_([frame.reference, arm]),
            Score.counted,
            Score.repeat_round == 0,
        )
        # The same data, the same sums to the last bit.
        .order_by(Score.case_id, Score.reader_id, Score.sequence, Score.arm)
    ).all()
    value, arms, patient, reader, sequence = zip(*rows, strict=True) if rows else ((),) * 5
    return _Scores(
        value=np.array(value, dtype=np.int64),
        test=np.array([name == arm for name in arms], dtype=np.int64),
        patient=np.array(patient, dtype=np.int64),
        reader=np.array(reader, dtype=np.int64),
        sequence=np.array(sequence, dtype=object),
    )


def _characteristics(
    frame: Frame,
    criterion: Criterion,
    arm: str,
    scores: _Scores,
    sequences: list[str],
    options: GradingQuery,
) -> Iterator[VgcRow]:
    scale = [choice.value for choice in criterion.scale]
    for sequence in sequences:
        if criterion not in frame.protocol.criteria_of(sequence):
            continue
        for reader in frame.readers_and_all:
            kept = scores.sequence == sequence
            if reader is not None:
                kept &= scores.reader == reader.id
            some = scores.of(kept)
            yield VgcRow(
                item=criterion.name,
                label=criterion.label,
                place=sequence,
                reader=None if reader is None else reader.name,
                reference_arm=frame.reference,
                test_arm=arm,
                answer=_area(some, scale, options),
                random_readers=_area(some, scale, options, some.reader) if reader is None else None,
            )


def _area(
    scores: _Scores,
    scale: list[int],
    options: GradingQuery,
    reader: npt.NDArray[np.int64] | None = None,
) -> VisualGrading:
    return visual_grading_characteristics(
        scores.value,
        scores.test,
        cluster=scores.patient,
        reader=reader,
        categories=scale,
        level=options.level,
    )


def _regression(
    frame: Frame, criterion: Criterion, arm: str, scores: _Scores, options: GradingQuery
) -> VgrRow:
    effects: dict[str, npt.ArrayLike] = {TEST: scores.test}
    # The first sequence is what the others are compared with.
    for sequence in sorted(set(scores.sequence))[1:]:
        effects[sequence] = (scores.sequence == sequence).astype(np.int64)
    answer = cumulative_link_mixed_model(
        scores.value,
        effects,
        cluster=scores.patient,
        reader=scores.reader,
        readers=options.readers,
        tested=TEST,
        categories=[choice.value for choice in criterion.scale],
        level=options.level,
    )
    effect, ratio = answer.coefficient(TEST), answer.odds_ratio(TEST)
    return VgrRow(
        item=criterion.name,
        label=criterion.label,
        reference_arm=frame.reference,
        test_arm=arm,
        odds_ratio=None if ratio is None else ratio[0],
        interval=None if ratio is None else ratio[1],
        p_value=None if effect is None else effect.p_value,
        answer=answer,
    )


# --- layout -------------------------------------------------------------------------------------


def _grids(frame: Frame, rows: list[Row]) -> Iterator[Grid]:
    for arm in frame.test_arms:
        models = [row for row in rows if isinstance(row, VgrRow) and row.test_arm == arm]
        if models:
            titles = (
                *("", "Odds ratio", "p", "p, likelihood ratio", "SD patients", "SD readers"),
                *("Readers", "Scores", "Patients"),
            )
            yield Grid(
                f"Visual grading regression: {frame.arm_label(arm)}",
                (tuple(map(Cell, titles)),),
                tuple(_model_line(row) for row in models),
            )
        areas = [row for row in rows if isinstance(row, VgcRow) and row.test_arm == arm]
        for sequence in dict.fromkeys(row.place for row in areas):
            here = [row for row in areas if row.place == sequence]
            columns = (
                *("", "Reader", "AUC", "p", "AUC, readers random", "p"),
                *("Scores", "Patients"),
            )
            yield Grid(
                f"Visual grading characteristics on {frame.sequence_label(sequence)} images: "
                f"{frame.arm_label(arm)}",
                (tuple(map(Cell, columns)),),
                tuple(_area_line(row) for row in here),
            )


def _model_line(row: VgrRow) -> Line:
    answer = row.answer
    return (
        Cell(row.label),
        with_interval(row.odds_ratio, row.interval, answer.reason),
        p_text(row.p_value),
        p_text(answer.lr_p_value),
        number(answer.sd_cluster),
        number(answer.sd_reader),
        f"{answer.n_readers}, {answer.readers}" if answer.n_readers > 1 else "1",
        used(answer.n, answer.n_given),
        str(answer.n_clusters),
    )


def _area_line(row: VgcRow) -> Line:
    answer, likes = row.answer, row.random_readers
    return (
        Cell(row.label),
        row.reader or "all together",
        with_interval(answer.value, answer.interval, answer.reason),
        p_text(answer.p_value),
        "" if likes is None else with_interval(likes.value, likes.interval, likes.reason),
        "" if likes is None else p_text(likes.p_value),
        used(answer.n, answer.n_given),
        str(answer.n_clusters),
    )
