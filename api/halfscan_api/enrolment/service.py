"""Enrolment from the archive: looks, pairs, and writes cases; no HTTP here.

The archive is asked before the transaction of a case begins; what it said is held against the
study again inside. A patient's identity is compared here and goes nowhere else: a case gets the
next free pseudonym.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import Archive
from halfscan_api.audit import Actor, Trail
from halfscan_api.database import Database
from halfscan_api.enrolment.pairing import Candidate, LeftOut, Pair, Paired, sequences_of
from halfscan_api.enrolment.patients import PatientSearch, reconstructions
from halfscan_api.enrolment.schemas import (
    EnrolledCase,
    EnrolledPair,
    Enrolment,
    EnrolmentOut,
    NotEnrolled,
)
from halfscan_api.enrolment.tables import StudyEnrolment
from halfscan_api.studies.cases import NewSeries, add_case, list_cases, put_series
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.service import (
    STUDY_SUBJECT,
    get_study,
    lock_study,
    protocol_of,
    trail_of,
)
from halfscan_api.studies.tables import CaseKind, CaseSeries, NoiseSeries, Study, StudyCase


@dataclass(slots=True)
class _Plan:
    """What is to be done about one patient and day."""

    case: StudyCase | None = None
    pairs: list[Pair] = field(default_factory=list)
    unchanged: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    arms: set[str] = field(default_factory=set)


def enrol(
    database: Database,
    archive: Archive,
    study_id: int,
    wanted: Enrolment,
    *,
    actor: Actor,
    now: datetime,
) -> EnrolmentOut:
    """Look through the archive, and enrol what can be paired.

    Parameters
    ----------
    database : Database
    archive : Archive
    study_id : int
    wanted : Enrolment
    actor : Actor
    now : datetime

    Raises
    ------
    StudyNotFound, ArchiveUnavailable
    """
    with database.snapshot() as session:
        protocol = protocol_of(session, get_study(session, study_id))
        made = reconstructions(session)
    sequences = sequences_of(protocol)
    done = EnrolmentOut(
        dry_run=wanted.dry_run,
        cases=[],
        unchanged=0,
        left_out=[],
        not_told=[one for one in protocol.sequence_names if one not in sequences.values()],
        arms_not_told=protocol.test_arms,
    )
    studies = made.studies if wanted.study_instance_uids is None else wanted.study_instance_uids
    for paired in PatientSearch(archive, made, sequences, protocol).pairs(studies):
        # Sessions of both kinds: a dry run must not wait for writers, nor hold them up.
        opened = database.snapshot() if wanted.dry_run else database.write()
        with opened as session:
            planned = {one.pseudonym for one in done.cases}
            plan, case = _enrol_one(session, study_id, paired, wanted, planned, actor, now)
        done = _add(done, plan, case)
    return done


def set_automatic(trail: Trail, study: Study, *, automatic: bool) -> StudyEnrolment:
    """Say whether reconstructions that finish join their cases; the study must be locked."""
    row = trail.session.get(StudyEnrolment, study.id)
    if row is None:
        row = StudyEnrolment(study_id=study.id, automatic=False, changed_at=trail.now)
        trail.session.add(row)
    row.automatic, row.changed_at = automatic, trail.now
    trail.session.flush()
    trail.record("enrolment.automatic", STUDY_SUBJECT, reason="on" if automatic else "off")
    return row


def automatic_studies(session: Session) -> Sequence[int]:
    """Studies that enrol by themselves."""
    return session.scalars(
        select(StudyEnrolment.study_id)
        .where(StudyEnrolment.automatic)
        .order_by(StudyEnrolment.study_id)
    ).all()


def _enrol_one(
    session: Session,
    study_id: int,
    paired: Paired,
    wanted: Enrolment,
    planned: set[str],
    actor: Actor,
    now: datetime,
) -> tuple[_Plan, EnrolledCase | None]:
    """Enrol the pairs of one patient and day, or say what would be."""
    study = get_study(session, study_id) if wanted.dry_run else lock_study(session, study_id)
    protocol = protocol_of(session, study)
    cases = list_cases(session, study)
    plan = _plan(cases, paired, protocol)
    if not plan.pairs:
        return plan, None
    is_new = plan.case is None
    taken = planned | {case.pseudonym for case in cases}
    pseudonym = plan.case.pseudonym if plan.case is not None else _next_pseudonym(taken)
    if not wanted.dry_run:
        trail = trail_of(session, study, actor, now)
        case = plan.case or add_case(trail, study, pseudonym, CaseKind(wanted.kind))
        _put(trail, study, case, protocol, plan.pairs)
    shown = [_pair_out(one) for one in plan.pairs]
    return plan, EnrolledCase(pseudonym=pseudonym, is_new=is_new, pairs=shown)


def _put(
    trail: Trail, study: Study, case: StudyCase, protocol: Protocol, pairs: Iterable[Pair]
) -> None:
    there = {one.series_instance_uid for one in case.series}
    reference = protocol.reference_arm
    for one in pairs:
        for arm, candidate in ((reference, one.standard), (one.arm, one.derived)):
            if candidate.uid not in there:
                new = NewSeries(
                    series_instance_uid=candidate.uid,
                    study_instance_uid=candidate.series.study_instance_uid,
                    orthanc_series_id=candidate.series.orthanc_id,
                    scan_time_s=candidate.facts.scan_time_s,
                    parameters=dict(candidate.facts.parameters),
                )
                put_series(trail, study, case, protocol, (arm, one.sequence), new)


def _plan(cases: Sequence[StudyCase], paired: Paired, protocol: Protocol) -> _Plan:
    """Hold the pairs against what the study has."""
    plan = _Plan(left_out=list(paired.left_out), arms=paired.arms)
    noise = {row.series_instance_uid: (case, row) for case in cases for row in case.noise_series}
    places = {row.series_instance_uid: (case, row) for case in cases for row in case.series}
    pairs = []
    for one in paired.pairs:
        reasons = (_tells_noise(series, noise) or _misplaced(series, places) for series in one.both)
        reason = next(filter(None, reasons), None)
        if reason is None:
            pairs.append(one)
        else:
            plan.left_out += _all_out([one], reason)
    own = {
        places[series.uid][0].pseudonym: places[series.uid][0]
        for one in pairs
        for series in one.both
        if series.uid in places
    }
    if len(own) > 1:
        plan.left_out += _all_out(pairs, f"its patient is in {', '.join(sorted(own))}")
        return plan
    plan.case = next(iter(own.values()), None)
    if plan.case is not None and plan.case.excluded_at is not None:
        plan.left_out += _all_out(pairs, f"the case {plan.case.pseudonym} is excluded")
        return plan
    _sort_out(plan, pairs, paired.contested, protocol)
    return plan


def _tells_noise(
    candidate: Candidate, noise: Mapping[str, tuple[StudyCase, NoiseSeries]]
) -> str | None:
    """Say whose noise a series tells, since it can stand for no arm then."""
    if candidate.uid not in noise:
        return None
    case, row = noise[candidate.uid]
    return f"it is the {row.role} of {row.arm}/{row.sequence} of the case {case.pseudonym}"


def _misplaced(
    candidate: Candidate, places: Mapping[str, tuple[StudyCase, CaseSeries]]
) -> str | None:
    """Say why the study's series of the same UID may be one of another patient."""
    if candidate.uid not in places:
        return None
    case, row = places[candidate.uid]
    where = f"the case {case.pseudonym} has a series of this UID"
    if row.study_instance_uid != candidate.series.study_instance_uid:
        return f"{where} in the study {row.study_instance_uid}"
    if row.orthanc_series_id is None and candidate.has_twin:
        return f"{where}, of which of two patients is not written down: correct it by hand"
    if row.orthanc_series_id not in {None, candidate.series.orthanc_id}:
        return f"{where} from another patient: correct it by hand"
    return None


def _sort_out(plan: _Plan, pairs: Sequence[Pair], contested: set[str], protocol: Protocol) -> None:
    """Tell what is to be enrolled, what is enrolled, and what stands in the way."""
    reference = protocol.reference_arm
    rows = plan.case.series if plan.case is not None else []
    taken = {(row.arm, row.sequence): row.series_instance_uid for row in rows}
    for one in pairs:
        held = (taken.get((reference, one.sequence)), taken.get((one.arm, one.sequence)))
        wanted = (one.standard.uid, one.derived.uid)
        if held == wanted:
            plan.unchanged += 1
        elif any(a not in {None, b} for a, b in zip(held, wanted, strict=True)):
            reason = f"the case has another series of {one.sequence}: correct it by hand"
            plan.left_out += _all_out([one], reason)
        elif contested & {series.series.orthanc_id for series in one.both}:
            reason = "the archive holds its UID under another patient too: enrol one by hand"
            plan.left_out += _all_out([one], reason)
        else:
            plan.pairs.append(one)


def _all_out(pairs: Iterable[Pair], reason: str) -> list[LeftOut]:
    return [
        LeftOut(one.uid, one.series.study_instance_uid, reason)
        for each in pairs
        for one in each.both
    ]


def _next_pseudonym(taken: set[str]) -> str:
    number = len(taken) + 1
    while f"C{number:03}" in taken:
        number += 1
    return f"C{number:03}"


def _pair_out(one: Pair) -> EnrolledPair:
    return EnrolledPair(
        sequence=one.sequence,
        arm=one.arm,
        standard_series_instance_uid=one.standard.uid,
        derived_series_instance_uid=one.derived.uid,
        standard_scan_time_s=one.standard.facts.scan_time_s,
        derived_scan_time_s=one.derived.facts.scan_time_s,
        visible_differences=one.visible,
    )


def _add(done: EnrolmentOut, plan: _Plan, case: EnrolledCase | None) -> EnrolmentOut:
    return EnrolmentOut(
        dry_run=done.dry_run,
        cases=[*done.cases, *([case] if case is not None else [])],
        unchanged=done.unchanged + plan.unchanged,
        left_out=[*done.left_out, *(NotEnrolled.model_validate(one) for one in plan.left_out)],
        not_told=done.not_told,
        arms_not_told=[arm for arm in done.arms_not_told if arm not in plan.arms],
    )
