"""How many cases the next study of many readers needs: from the variance components of this one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.mrmc import SEED, ratings_of, reference_standard
from halfscan_api.statistics.options import SampleSizeQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.studies.protocol import Finding
from halfscan_stats import (
    ObuchowskiRockette,
    SampleSize,
    StatsError,
    obuchowski_rockette,
    sample_size_mrmc,
)

MRMC_NOTE: Final = (
    "MRMC: cases (patients) that all readers read with both arms, from the variance components of "
    "this study (Hillis, Obuchowski & Berbaum 2011), positive ones in the same share. "
    "Non-inferiority with the margin of the protocol's truth, no true difference, one-sided; with "
    "auc_difference the two-sided test of that difference."
)


@dataclass(frozen=True, slots=True)
class MrmcPlan:
    """A plan for the AUC of one finding with one test arm.

    Attributes
    ----------
    finding : Finding
    assumptions : dict
        What the plan rests on, beside the variance components.
    plan : SampleSize or None
        Cases for the power that was asked for.
    reason : str or None
        Why there is no plan.
    """

    finding: Finding
    assumptions: dict[str, float]
    plan: SampleSize | None
    reason: str | None


def mrmc_plans(session: Session, frame: Frame, options: SampleSizeQuery) -> Iterator[MrmcPlan]:
    """Plan every finding, where the protocol names a truth and its reader is there.

    Parameters
    ----------
    session : Session
    frame : Frame
    options : SampleSizeQuery

    Yields
    ------
    MrmcPlan
        Of a difference where one is asked for (`auc_difference`), of non-inferiority elsewhere.
    """
    truth, standard = frame.protocol.truth, reference_standard(frame)
    if truth is None or isinstance(standard, str):
        return
    profiles = Profiles(session, frame, AnswerKind.FINDING)
    for finding in frame.protocol.findings:
        for arm in frame.test_arms:
            if options.auc_difference is None and truth.margin is None:
                yield MrmcPlan(finding, {}, None, "no_margin")
            elif len(standard.judged) < 2:
                yield MrmcPlan(finding, {}, None, "too_few")
            else:
                ratings, true = ratings_of(profiles, frame, finding, standard, arm)
                pilot = obuchowski_rockette(ratings, true, rng=SEED)
                yield _plan(frame, options, finding, pilot, truth.margin)


def _plan(
    frame: Frame,
    options: SampleSizeQuery,
    finding: Finding,
    pilot: ObuchowskiRockette,
    margin: float | None,
) -> MrmcPlan:
    assumed: dict[str, Any] = {
        "difference": options.auc_difference or 0.0,
        "n_readers": options.readers or pilot.n_readers,
        "pilot_cases": pilot.n,
        "alpha": options.alpha or frame.protocol.alpha,
    }
    if options.auc_difference is None:
        assumed["margin"] = margin
    if pilot.components.cov3 is None:  # too few cases of either kind for a covariance
        return MrmcPlan(finding, assumed, None, "too_few")
    try:
        plan = sample_size_mrmc(components=pilot.components, power=options.power, **assumed)
    except StatsError:
        # The readers of this study leave no spread to plan with.
        return MrmcPlan(finding, assumed, None, "undefined")
    reason = None if plan.reason is None else plan.reason.value
    return MrmcPlan(finding, assumed, plan, reason)
