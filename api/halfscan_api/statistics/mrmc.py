"""Many readers, many cases: Obuchowski and Rockette's analysis, where there is a truth.

The reference standard is one reader (a consensus, an expert) whose findings are taken for true. A
patient is one case: rated by the highest grade of all levels, true where any level has the finding.
"""

from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import finding_answers
from halfscan_api.statistics.options import MrmcQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.results import Cell, Grid, Line, Table, number, p_text, with_interval
from halfscan_api.studies.protocol import Finding
from halfscan_stats import ObuchowskiRockette, obuchowski_rockette

NO_REFERENCE = "no_reference_standard"
TOO_FEW = "too_few"
SEED = 20240513


@dataclass(frozen=True, slots=True)
class MrmcRow:
    """One finding.

    Attributes
    ----------
    kind : str
        ``mrmc``.
    item, label : str
        Finding.
    arms : tuple of str
        The treatments in their order: test arms first, the reference last, so that the value is
        test minus reference.
    readers : tuple of str
        Those whose findings are judged.
    truth_reader, truth_arm : str or None
        Whose findings are the reference standard.
    answer : ObuchowskiRockette or None
    reason : str or None
        ``no_reference_standard``, or that of the answer.
    """

    item: str
    label: str
    arms: tuple[str, ...]
    readers: tuple[str, ...]
    truth_reader: str | None
    truth_arm: str | None
    answer: ObuchowskiRockette | None
    reason: str | None
    kind: str = "mrmc"


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
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    rows = tuple(_row(profiles, frame, one, options) for one in frame.protocol.findings)
    return Table(
        name="mrmc",
        title="Multi-reader multi-case analysis of the findings",
        study=frame.name,
        revision=frame.revision,
        protocol_version=frame.protocol_version,
        options=options.shown(),
        rows=rows,
        # Without a truth there is nothing to lay out: the notes say so.
        grids=(_grid(frame, rows, options),) if options.truth_reader is not None else (),
        notes=(
            *_truth_notes(frame, options),
            (
                "A patient is one case: the highest grade of all levels, true where any level has "
                "the finding in the eyes of the reference standard. Difference: test minus "
                "reference."
            ),
            (
                "Interval and p: readers and cases random (Hillis). A finding that is absent or "
                "present only gives two points of the curve: its AUC is the mean of sensitivity "
                "and specificity."
            ),
        ),
    )


def _truth_notes(frame: Frame, options: MrmcQuery) -> tuple[str, ...]:
    """Say which arm the truth comes from, and whom that favours."""
    if options.truth_reader is None:
        return (
            (
                "Nothing is judged here: a study of this kind has no reference standard of its "
                "own. The table can be asked for with a reader, a consensus or an expert, named as "
                "the reference standard."
            ),
        )
    arm = options.truth_arm or frame.reference
    return (
        (
            f"Reference standard: the findings of reader {options.truth_reader} with "
            f"{frame.arm_label(arm)}. Readers are judged by what was seen on that arm: what only "
            "the other shows counts as their error, which favours "
            f"{frame.arm_label(arm)}. Ask with each arm as truth_arm and compare."
        ),
        (
            "Intervals of the difference use Student's t and are not cut: where a limit lies "
            "outside -1 to 1, the data do not limit the difference on that side."
        ),
    )


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


def _row(profiles: Profiles, frame: Frame, finding: Finding, options: MrmcQuery) -> MrmcRow:
    arms = (*frame.test_arms, frame.reference)
    truth = next((one for one in frame.readers if one.name == options.truth_reader), None)
    judged = [one for one in frame.readers if one != truth]
    row = MrmcRow(
        item=finding.name,
        label=finding.label,
        arms=arms,
        readers=tuple(one.name for one in judged),
        truth_reader=None,
        truth_arm=None,
        answer=None,
        reason=NO_REFERENCE,
    )
    if truth is None:
        return row
    truth_arm = options.truth_arm or frame.reference
    row = replace(row, truth_reader=truth.name, truth_arm=truth_arm, reason=TOO_FEW)
    if not judged:
        return row
    answers = finding_answers(profiles, frame, finding)
    columns = {reader.id: position for position, reader in enumerate(frame.readers)}
    # The highest grade of a patient, NaN where a level is missing.
    highest = {arm: grades.max(axis=0) for arm, grades in answers.items()}
    true = highest[truth_arm][:, columns[truth.id]]
    ratings = np.array([[highest[arm][:, columns[one.id]] for one in judged] for arm in arms])
    answer = obuchowski_rockette(
        ratings,
        np.where(np.isnan(true), np.nan, true > 0),
        figure=options.figure,
        covariance=options.covariance,
        threshold=None if options.figure == "auc" else 1.0,
        level=options.level,
        rng=SEED,
    )
    return replace(row, answer=answer, reason=answer.reason)


_FIGURES = {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


def _grid(frame: Frame, rows: tuple[MrmcRow, ...], options: MrmcQuery) -> Grid:
    arms = rows[0].arms if rows else ()
    titles = (
        "",
        *(f"{_FIGURES[options.figure]}, {frame.arm_label(arm)}" for arm in arms),
        "Difference",
        "p",
        "Cases",
    )
    body = tuple(_line(row) for row in rows)
    arm = frame.arm_label(options.truth_arm or frame.reference)
    truth = f"reference standard {options.truth_reader}, {arm}" if options.truth_reader else ""
    truth = truth or "no reference standard"
    caption = f"Obuchowski-Rockette, {_FIGURES[options.figure]}: {truth}"
    return Grid(caption, (tuple(Cell(text) for text in titles),), body)


def _line(row: MrmcRow) -> Line:
    answer = row.answer
    if answer is None:
        return (
            Cell(row.label),
            *("" for _ in row.arms),
            number(None),
            p_text(None, row.reason),
            "",
        )
    treatments = [with_interval(one.value, one.interval, None) for one in answer.treatments]
    return (
        Cell(row.label),
        *(treatments or [number(None) for _ in row.arms]),
        with_interval(answer.value, answer.interval, None, 3),
        p_text(answer.p_value, answer.reason),
        f"{answer.n} of {answer.n_given} ({answer.n_positive} positive)",
    )
