"""Cases and their series: enrolment, exclusion and return, what a case still lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case as choose
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from halfscan_api.audit import JsonObject, Trail
from halfscan_api.database import storable
from halfscan_api.errors import HalfscanError
from halfscan_api.readings import counts
from halfscan_api.readings.sheet import load_sheets
from halfscan_api.readings.tables import Reading, ReadingState
from halfscan_api.reconstructions.tables import Reconstruction
from halfscan_api.states import state_of
from halfscan_api.studies.local import tell_locally
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.service import move_revision, record_change
from halfscan_api.studies.tables import CaseKind, CaseSeries, NoiseSeries, Study, StudyCase

CASE_COLUMNS = ("kind", "enrolled_at", "excluded_at", "exclusion_reason")
SERIES_COLUMNS = (
    *("series_instance_uid", "study_instance_uid", "orthanc_series_id", "scan_time_s"),
    *("parameters", "lineage", "added_at"),
)
NOISE_SERIES_COLUMNS = (
    *("series_instance_uid", "study_instance_uid", "orthanc_series_id", "lineage", "added_at"),
)
# What is kept of a reconstruction, whatever becomes of its row. The first ones make the UIDs of the
# derived series: a row that has these UIDs always has them; the others are of one run.
MODEL_COLUMNS = ("model_name", "model_version", "model_sha256", "strength")
MADE_COLUMNS = (
    *("series_instance_uid", "source_digest", "derived_series_instance_uid"),
    *MODEL_COLUMNS,
)
RUN_COLUMNS = ("reason_code", "reason", "finished_at")


class CaseNotFound(HalfscanError):
    """No case of the study has this pseudonym."""

    http_status = 404


class CaseExists(HalfscanError):
    """The pseudonym is taken."""

    http_status = 409


class SeriesTaken(HalfscanError):
    """The series stands for another case, arm or sequence of the study."""

    http_status = 409


class SeriesLocked(HalfscanError):
    """Someone has opened a reading with this series: it can no longer be another."""

    http_status = 409


class SeriesDerived(HalfscanError):
    """The network made the series: it cannot be what the network is compared with."""

    http_status = 409


class UnknownArmOrSequence(HalfscanError):
    """The protocol has no such arm or sequence."""

    http_status = 404


class ExclusionConflict(HalfscanError):
    """The case is excluded already, or is not."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class NewSeries:
    """A series of a case, as it is enrolled.

    Attributes
    ----------
    series_instance_uid, study_instance_uid : str
    orthanc_series_id : str or None
    scan_time_s : float or None
        Scan time [s].
    parameters : dict or None
        What the headers say.
    """

    series_instance_uid: str
    study_instance_uid: str
    orthanc_series_id: str | None = None
    scan_time_s: float | None = None
    parameters: Mapping[str, Any] | None = None


def add_case(trail: Trail, study: Study, pseudonym: str, kind: CaseKind) -> StudyCase:
    """Enrol a case, without a series yet; the study must be locked.

    Raises
    ------
    CaseExists
    """
    case = StudyCase(
        study_id=study.id,
        pseudonym=pseudonym,
        kind=kind.value,
        enrolled_at=trail.now,
        series=[],
        noise_series=[],
    )
    try:
        with trail.session.begin_nested():
            trail.session.add(case)
    except IntegrityError:
        raise CaseExists(f"a case {pseudonym!r} exists in the study {study.name}") from None
    move_revision(study)
    trail.record("case.enrol", case_subject(case), new=case_state(case))
    return case


def put_series(
    trail: Trail,
    study: Study,
    case: StudyCase,
    protocol: Protocol,
    place: tuple[str, str],
    new: NewSeries,
) -> CaseSeries:
    """Say which series a case has in an arm and a sequence; the study must be locked.

    It may be corrected until a reading of the case in that arm has been opened; scan time and
    parameters may be corrected at any time.

    Parameters
    ----------
    trail : Trail
    study : Study
    case : StudyCase
    protocol : Protocol
    place : str, str
        Arm and sequence.
    new : NewSeries

    Raises
    ------
    UnknownArmOrSequence, SeriesTaken, SeriesLocked, SeriesDerived
    """
    arm, sequence = place
    check_place(protocol, arm, sequence)
    before = case_state(case)
    row = next((one for one in case.series if (one.arm, one.sequence) == place), None)
    made_by = row.reconstruction_id if row is not None else None
    if row is None or row.series_instance_uid != new.series_instance_uid:
        check_free(trail.session, study, new.series_instance_uid)
        _check_original(trail.session, protocol, arm, new)
        _check_unread(trail.session, case, arm)
    if row is None:
        row = CaseSeries(study_id=study.id, arm=arm, sequence=sequence, added_at=trail.now)
        _fill(trail.session, row, new)
        case.series.append(row)
    else:
        _fill(trail.session, row, new)
    record_case(trail, study, case, "case.series", before)
    if row.reconstruction_id != made_by:
        made = {case.pseudonym: {arm: {sequence: row.reconstruction_id}}}
        tell_locally(trail, study, "series.reconstruction", {"reconstructions": made})
    return row


def exclude(trail: Trail, study: Study, case: StudyCase, *, reason: str, at: datetime) -> None:
    """Take a case out of the study; the study must be locked.

    Its completed readings stay and no longer count; the others are withdrawn.

    Raises
    ------
    ExclusionConflict
        It is excluded already.
    """
    if case.excluded_at is not None:
        raise ExclusionConflict(f"the case {case.pseudonym} is excluded: {case.exclusion_reason}")
    before = case_state(case)
    case.excluded_at, case.exclusion_reason = at, reason
    _set_readings(trail, study, case, excluded=True, reason=reason)
    move_revision(study)
    record_change(
        trail, "case.exclude", case_subject(case), before, case_state(case), reason=reason
    )


def readmit(trail: Trail, study: Study, case: StudyCase, *, reason: str) -> None:
    """Take an excluded case back; the study must be locked.

    Its completed readings count again; those that were withdrawn wait for their readers.

    Raises
    ------
    ExclusionConflict
        It is not excluded.
    """
    if case.excluded_at is None:
        raise ExclusionConflict(f"the case {case.pseudonym} is not excluded")
    before = case_state(case)
    case.excluded_at = case.exclusion_reason = None
    _set_readings(trail, study, case, excluded=False, reason=reason)
    move_revision(study)
    record_change(
        trail, "case.readmit", case_subject(case), before, case_state(case), reason=reason
    )


def record_case(
    trail: Trail,
    study: Study,
    case: StudyCase,
    action: str,
    before: JsonObject,
    *,
    reason: str | None = None,
) -> None:
    """Record what has changed of a case and its series, if anything has."""
    trail.session.flush()
    after = case_state(case)
    if before != after:
        move_revision(study)
        record_change(trail, action, case_subject(case), before, after, reason=reason)


def get_case(session: Session, study: Study, pseudonym: str) -> StudyCase:
    """Get a case with its series.

    Raises
    ------
    CaseNotFound
    """
    case = session.scalar(
        select(StudyCase)
        .where(StudyCase.study_id == study.id, StudyCase.pseudonym == storable(pseudonym))
        .options(selectinload(StudyCase.series), selectinload(StudyCase.noise_series))
    )
    if case is None:
        raise CaseNotFound(f"there is no case {pseudonym} in the study {study.name}")
    return case


def list_cases(session: Session, study: Study) -> Sequence[StudyCase]:
    """Every case of a study with its series, in the order of enrolment."""
    return session.scalars(
        select(StudyCase)
        .where(StudyCase.study_id == study.id)
        .order_by(StudyCase.id)
        .options(selectinload(StudyCase.series), selectinload(StudyCase.noise_series))
    ).all()


def missing_series(case: StudyCase, protocol: Protocol) -> list[str]:
    """Name what a case lacks, as arm/sequence; it can be allocated once it lacks nothing."""
    there = {(one.arm, one.sequence) for one in case.series}
    return [
        f"{arm}/{sequence}"
        for arm in protocol.arm_names
        for sequence in protocol.sequence_names
        if (arm, sequence) not in there
    ]


def case_subject(case: StudyCase) -> str:
    """Name a case as the audit trail does."""
    return f"case/{case.pseudonym}"


def case_state(case: StudyCase) -> JsonObject:
    """Give a case with its series as the audit trail holds it."""
    series: JsonObject = {}
    for one in case.series:
        series.setdefault(one.arm, {})[one.sequence] = state_of(one, SERIES_COLUMNS)
    noise: JsonObject = {}
    for row in case.noise_series:
        here = noise.setdefault(row.arm, {}).setdefault(row.sequence, {})
        here[row.role] = state_of(row, NOISE_SERIES_COLUMNS)
    state = {**state_of(case, CASE_COLUMNS), "series": series}
    # Nothing where there is none: events from before there were such series say nothing of them.
    return {**state, "noise_series": noise} if noise else state


def check_place(protocol: Protocol, arm: str, sequence: str) -> None:
    """Check that a protocol has an arm and a sequence.

    Raises
    ------
    UnknownArmOrSequence
    """
    for what, name, known in (
        ("arm", arm, protocol.arm_names),
        ("sequence", sequence, protocol.sequence_names),
    ):
        if name not in known:
            raise UnknownArmOrSequence(f"the {what} must be one of {', '.join(known)}, got {name}")


def check_free(session: Session, study: Study, uid: str) -> None:
    """Check that a series stands for nothing else in a study.

    Raises
    ------
    SeriesTaken
    """
    for table in (CaseSeries, NoiseSeries):
        taken = session.scalar(
            select(table.id).where(table.study_id == study.id, table.series_instance_uid == uid)
        )
        if taken is not None:
            raise SeriesTaken(f"the series {uid} stands for another case, arm, sequence or role")


def _check_original(session: Session, protocol: Protocol, arm: str, new: NewSeries) -> None:
    if arm != protocol.reference_arm:
        return
    made = find_reconstruction(session, new.series_instance_uid, new.orthanc_series_id)
    if made is not None:
        raise SeriesDerived(
            f"the reference arm {arm} must hold series as scanned, got the series "
            f"{new.series_instance_uid}, which reconstruction {made.id} made"
        )


def _check_unread(session: Session, case: StudyCase, arm: str) -> None:
    opened = session.scalar(
        select(Reading.id)
        .where(Reading.case_id == case.id, Reading.arm == arm, Reading.opened_at.is_not(None))
        .limit(1)
    )
    if opened is not None:
        raise SeriesLocked(
            f"a reading of the case {case.pseudonym} in the arm {arm} was opened: its series stays"
        )


def _fill(session: Session, row: CaseSeries, new: NewSeries) -> None:
    row.series_instance_uid = new.series_instance_uid
    row.study_instance_uid = new.study_instance_uid
    row.orthanc_series_id = new.orthanc_series_id
    row.scan_time_s = new.scan_time_s
    row.parameters = dict(new.parameters) if new.parameters is not None else None
    made = find_reconstruction(session, new.series_instance_uid, new.orthanc_series_id)
    row.reconstruction_id = made.id if made is not None else None
    row.lineage = lineage_of(made) if made is not None else None


def lineage_of(made: Reconstruction) -> JsonObject:
    """Write down what made a series, its number in this ledger, and the evidence it went by."""
    evidence = (made.acquisition or {}).get("evidence")
    return {
        "reconstruction_id": made.id,
        **state_of(made, (*MADE_COLUMNS, *RUN_COLUMNS)),
        **({} if evidence is None else {"evidence": evidence}),
    }


def find_reconstruction(
    session: Session, series_instance_uid: str, orthanc_series_id: str | None
) -> Reconstruction | None:
    """Find the newest reconstruction that made a series.

    Of two patients with the same UIDs, the one that Orthanc's identifier stands for comes first.
    """
    is_exact = Reconstruction.derived_orthanc_series_id == (orthanc_series_id or "")
    return session.scalar(
        select(Reconstruction)
        .where(Reconstruction.derived_series_instance_uid == series_instance_uid)
        .order_by(choose((is_exact, 0), else_=1), Reconstruction.id.desc())
        .limit(1)
    )


def _set_readings(
    trail: Trail, study: Study, case: StudyCase, *, excluded: bool, reason: str
) -> None:
    """Withdraw the readings of a case, or give them back; count the completed ones or not.

    A version moves only where its reader sees the state change: one that moved by itself, in two
    sessions, would tell the reader which two readings are of one case.
    """
    session = trail.session
    ids = session.scalars(
        select(Reading.id)
        .where(Reading.case_id == case.id)
        .order_by(Reading.id)
        .with_for_update(key_share=True)
    ).all()
    for sheet in load_sheets(session, study.id, ids):
        reading, before = sheet.reading, sheet.state()
        if reading.state == ReadingState.COMPLETE:
            if excluded:
                counts.count_out(session, sheet)
            elif case.kind == CaseKind.STUDY:
                counts.count_in(session, sheet)
        else:
            state = ReadingState.WITHDRAWN if excluded else ReadingState.PENDING
            reading.state = state.value
            if reading.opened_at is not None:
                reading.version += 1
        session.flush()
        action = "reading.withdraw" if excluded else "reading.return"
        record_change(trail, action, sheet.subject, before, sheet.state(), reason=reason)
