"""Many readers, many cases, where there is a truth: each test arm against the reference arm.

The reference standard is one reader (a consensus, an expert) whose findings are taken for true: the
one that the protocol names, or the query. A patient is one case: rated by the highest grade of all
levels, true where any level has the finding. Where every reader read every case in both arms
Obuchowski and Rockette's analysis answers, elsewhere the U-statistics of Gallas, of the readings
that have their pair in the other arm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.adjusting import Adjusted, RawTest, adjust
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.interchange import finding_answers
from halfscan_api.statistics.options import MrmcQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import (
    Cell,
    Grid,
    Line,
    Table,
    number,
    p_text,
    with_interval,
    yes,
)
from halfscan_api.studies.protocol import Finding
from halfscan_stats import (
    MrmcNonInferiority,
    MrmcUStatistics,
    ObuchowskiRockette,
    Reason,
    mrmc_ustatistics,
    noninferiority_mrmc,
    obuchowski_rockette,
)

NO_REFERENCE = "no_reference_standard"
NO_TRUTH_READER = "no_truth_reader"
CROSSED, ANY_DESIGN = "obuchowski_rockette", "ustatistics"
SEED = 20240513
_METHOD_WORDS: Final = {CROSSED: "Obuchowski-Rockette", ANY_DESIGN: "U-statistics"}


@dataclass(frozen=True, slots=True)
class ReferenceStandard:
    """Whose findings are taken for true, and who is judged by them.

    Attributes
    ----------
    reader : ReaderOfStudy
    arm : str
        What the reader saw.
    judged : tuple of ReaderOfStudy
        All others.
    """

    reader: ReaderOfStudy
    arm: str
    judged: tuple[ReaderOfStudy, ...]


@dataclass(frozen=True, slots=True)
class MrmcRow:
    """One finding with one test arm.

    Attributes
    ----------
    kind : str
        ``mrmc``.
    item, label : str
        Finding.
    arms : tuple of str
        The treatments in their order: the test arm, the reference. Differences are test minus
        reference.
    readers : tuple of str
        Those whose findings are judged.
    truth_reader, truth_arm : str or None
        Whose findings are the reference standard.
    decided_by : str or None
        Which of the two analyses answers: ``obuchowski_rockette`` where every reader read every
        case in both arms (and for sensitivity and specificity), ``ustatistics`` elsewhere.
    answer : ObuchowskiRockette or None
        Of the cases that all readers read in both arms.
    ustatistics : MrmcUStatistics or None
        Of all readings that a reader has made of a patient in both arms; of the AUC alone.
    noninferiority : MrmcNonInferiority or None
        By the analysis that answers; None without a margin in the truth of the protocol.
    adjusted : Adjusted or None
        Its p-value after the correction for several tests.
    reason : str or None
        ``no_reference_standard``, ``no_truth_reader``, or that of the analysis that answers.
    """

    item: str
    label: str
    arms: tuple[str, ...]
    readers: tuple[str, ...]
    truth_reader: str | None
    truth_arm: str | None
    decided_by: str | None
    answer: ObuchowskiRockette | None
    ustatistics: MrmcUStatistics | None
    noninferiority: MrmcNonInferiority | None
    adjusted: Adjusted | None
    reason: str | None
    kind: str = "mrmc"

    @property
    def deciding(self) -> ObuchowskiRockette | MrmcUStatistics | None:
        """The analysis that answers."""
        return self.ustatistics if self.decided_by == ANY_DESIGN else self.answer


def compute(session: Session, frame: Frame, options: MrmcQuery) -> Table[MrmcRow]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : MrmcQuery

    Returns
    -------
    Table of MrmcRow

    Raises
    ------
    InvalidRequest
        There is no such reader or arm.
    """
    _check(frame, options)
    standard = reference_standard(frame, options.truth_reader, options.truth_arm)
    if isinstance(standard, str):
        rows, grids, notes = _unanswered(frame, standard)
    elif not standard.judged:
        rows, grids, notes = _unanswered(frame, Reason.TOO_FEW.value)
    else:
        rows = _tested(frame, options, tuple(_rows(session, frame, standard, options)))
        grids = (_grid(frame, rows, standard, options),)
        notes = tuple(_notes(frame, standard, rows, options))
    return Table.of(
        frame,
        options,
        name="mrmc",
        title="Multi-reader multi-case analysis of the findings",
        rows=rows,
        grids=grids,
        notes=notes,
    )


def reference_standard(
    frame: Frame, reader: str | None = None, arm: str | None = None
) -> ReferenceStandard | str:
    """Find the reference standard of a study.

    Parameters
    ----------
    frame : Frame
    reader, arm : str, optional
        Instead of those that the protocol names.

    Returns
    -------
    ReferenceStandard or str
        Or the reason why there is none: ``no_reference_standard`` where nobody names one,
        ``no_truth_reader`` where the study has no reader of that name.
    """
    truth = frame.protocol.truth
    name = reader or (truth.reader if truth is not None else None)
    if name is None:
        return NO_REFERENCE
    found = next((one for one in frame.readers if one.name == name), None)
    if found is None:
        return NO_TRUTH_READER
    # The arm of the protocol's truth is that of its reader, and of no other one.
    own = truth.arm if truth is not None and truth.reader == name else None
    judged = tuple(one for one in frame.readers if one != found)
    return ReferenceStandard(found, arm or own or frame.reference, judged)


def ratings_of(
    profiles: Profiles, frame: Frame, finding: Finding, standard: ReferenceStandard, test_arm: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give ratings (arm, reader, patient), the test arm first, and the truth (patient,).

    Both are NaN where a level is missing. A rating is the highest grade of a patient.
    """
    answers = finding_answers(profiles, frame, finding)
    columns = {reader.id: position for position, reader in enumerate(frame.readers)}
    highest = {arm: grades.max(axis=0) for arm, grades in answers.items()}
    true = highest[standard.arm][:, columns[standard.reader.id]]
    judged = [columns[one.id] for one in standard.judged]
    ratings = np.stack([highest[arm][:, judged].T for arm in (test_arm, frame.reference)])
    return ratings, np.where(np.isnan(true), np.nan, true > 0)


def _check(frame: Frame, options: MrmcQuery) -> None:
    known = [reader.name for reader in frame.readers]
    errors = []
    for field, value, names in (
        ("truth_reader", options.truth_reader, known),
        ("truth_arm", options.truth_arm, frame.protocol.arm_names),
    ):
        if value is not None and value not in names:
            detail = f"must be one of {', '.join(names) or '(none)'}, got {value!r}"
            errors.append({"in": "query", "field": field, "detail": detail})
    if options.covariance == "unbiased" and options.figure != "auc":
        detail = f"unbiased is of the auc alone, got it with figure {options.figure!r}"
        errors.append({"in": "query", "field": "covariance", "detail": detail})
    if errors:
        raise InvalidRequest(errors)


def _empty(frame: Frame, finding: Finding, test_arm: str, reason: str | None) -> MrmcRow:
    return MrmcRow(
        item=finding.name,
        label=finding.label,
        arms=(test_arm, frame.reference),
        readers=tuple(one.name for one in frame.readers),
        truth_reader=None,
        truth_arm=None,
        decided_by=None,
        answer=None,
        ustatistics=None,
        noninferiority=None,
        adjusted=None,
        reason=reason,
    )


def _unanswered(
    frame: Frame, reason: str
) -> tuple[tuple[MrmcRow, ...], tuple[Grid, ...], tuple[str, ...]]:
    """Rows that say why, and one sentence in place of a table of dashes."""
    rows = tuple(
        _empty(frame, finding, arm, reason)
        for finding in frame.protocol.findings
        for arm in frame.test_arms
    )
    truth = frame.protocol.truth
    names = ", ".join(one.name for one in frame.readers) or "none yet"
    if reason == NO_TRUTH_READER and truth is not None:
        says = (
            f"The protocol names {truth.reader} as its reference standard (truth), and the study "
            f"has no reader of that name (its readers: {names}). Nothing can be judged until it "
            "has."
        )
    elif reason == NO_REFERENCE:
        says = (
            "The study has no reference standard, so nothing can be judged: the protocol, or "
            "whoever asks for this table, can name the reader whose findings are taken for true."
        )
    else:
        says = f"The reference standard is the only reader ({names}): there is nobody to judge."
    return rows, (), (says,)


def _rows(
    session: Session, frame: Frame, standard: ReferenceStandard, options: MrmcQuery
) -> Iterator[MrmcRow]:
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for finding in frame.protocol.findings:
        for arm in frame.test_arms:
            row = replace(
                _empty(frame, finding, arm, Reason.TOO_FEW.value),
                readers=tuple(one.name for one in standard.judged),
                truth_reader=standard.reader.name,
                truth_arm=standard.arm,
            )
            yield _judged(row, *ratings_of(profiles, frame, finding, standard, arm), options)


def _judged(
    row: MrmcRow,
    ratings: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    options: MrmcQuery,
) -> MrmcRow:
    """Analyse the ratings both ways, and say which one answers."""
    answer = obuchowski_rockette(
        ratings,
        truth,
        figure=options.figure,
        covariance=options.covariance,
        threshold=None if options.figure == "auc" else 1.0,
        level=options.level,
        rng=SEED,
    )
    whole = None
    if options.figure == "auc":
        whole = mrmc_ustatistics(ratings, truth, paired=True, level=options.level)
    crossed = whole is None or whole.design == "fully crossed"
    row = replace(
        row, answer=answer, ustatistics=whole, decided_by=CROSSED if crossed else ANY_DESIGN
    )
    return replace(row, reason=None if row.deciding is None else row.deciding.reason)


def _tested(frame: Frame, options: MrmcQuery, rows: tuple[MrmcRow, ...]) -> tuple[MrmcRow, ...]:
    """Test non-inferiority of the AUC, where the protocol declares its margin."""
    margin = frame.protocol.truth.margin if frame.protocol.truth is not None else None
    if margin is None or options.figure != "auc":
        return rows
    alpha = options.alpha or frame.protocol.alpha
    tests = [
        None if one is None else noninferiority_mrmc(one, margin, alpha=alpha)
        for one in (row.deciding for row in rows)
    ]
    raw = [
        RawTest(("auc", row.item, row.arms[0]), None if test is None else test.p_value)
        for row, test in zip(rows, tests, strict=True)
    ]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    return tuple(
        replace(row, noninferiority=test, adjusted=one)
        for row, test, one in zip(rows, tests, adjusted, strict=True)
    )


# --- layout -------------------------------------------------------------------------------------


def _notes(
    frame: Frame, standard: ReferenceStandard, rows: tuple[MrmcRow, ...], options: MrmcQuery
) -> Iterator[str]:
    """Say which arm the truth comes from, whom that favours, and what the figures are."""
    arm = frame.arm_label(standard.arm)
    yield (
        f"Reference standard: the findings of reader {standard.reader.name} with {arm}. Readers "
        "are judged by what was seen on that arm: what only the other shows counts as their error, "
        f"which favours {arm}. Ask with each arm as truth_arm and compare."
    )
    yield (
        "A patient is one case: the highest grade of all levels, true where any level has the "
        "finding in the eyes of the reference standard. Difference: test minus reference."
    )
    yield (
        "Interval and p: readers and cases random, Student's t. A finding that is absent or "
        "present only gives two points of the curve: its AUC is the mean of sensitivity and "
        "specificity."
    )
    if any(row.decided_by == ANY_DESIGN for row in rows):
        yield (
            "Not every reader has read every case in both arms: the U-statistics of Gallas take "
            "every reading that has its pair, of the same reader and patient in the other arm. "
            "Obuchowski and Rockette's analysis of the cases that all readers read stands beside "
            "them in the data."
        )
    if any(row.noninferiority is not None for row in rows):
        alpha = options.alpha or frame.protocol.alpha
        yield (
            f"Non-inferiority of the AUC (Chen, Petrick & Sahiner 2012): one-sided at {alpha:g}, "
            "by the analysis of the row; its interval has the confidence "
            f"{100 * (1 - 2 * alpha):g} %. The margin is that of the protocol's truth."
        )


def _grid(
    frame: Frame, rows: tuple[MrmcRow, ...], standard: ReferenceStandard, options: MrmcQuery
) -> Grid:
    figure = "AUC" if options.figure == "auc" else options.figure
    tested = any(row.noninferiority is not None for row in rows)
    several = len(frame.test_arms) > 1
    titles = [
        *("", *(["Arm"] if several else [])),
        *(f"{figure}, test", f"{figure}, reference", "Difference", "p"),
        *(["Non-inferior", "p (one-sided)", "Margin"] if tested else []),
        *("Cases", "Analysis"),
    ]
    body = tuple(_line(frame, row, tested=tested, several=several) for row in rows)
    caption = (
        f"{figure}: reference standard {standard.reader.name}, {frame.arm_label(standard.arm)}"
    )
    return Grid(caption, (tuple(Cell(text) for text in titles),), body)


def _line(frame: Frame, row: MrmcRow, *, tested: bool, several: bool) -> Line:
    arm = [frame.arm_label(row.arms[0])] if several else []
    answer = row.deciding
    assert answer is not None  # noqa: S101 - every row of a study with a truth is analysed
    means = [
        with_interval(one.value, one.interval, None if one.interval else one.reason)
        for one in answer.treatments
    ]
    return (
        Cell(row.label),
        *arm,
        *(means or [number(None)] * 2),
        with_interval(answer.value, answer.interval, None, 3),
        p_text(answer.p_value, answer.reason),
        *(_noninferiority_cells(row) if tested else ()),
        f"{answer.n} of {answer.n_given} ({answer.n_positive} positive)",
        _METHOD_WORDS[row.decided_by or CROSSED],
    )


def _noninferiority_cells(row: MrmcRow) -> tuple[str, ...]:
    test, adjusted = row.noninferiority, row.adjusted
    if test is None:
        return (number(None),) * 3
    shown = test.noninferior if adjusted is None else adjusted.significant
    word = yes(shown)
    return word, p_text(test.p_value, test.reason), f"{test.margin:g}"
