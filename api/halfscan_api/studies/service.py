"""Studies and their protocols; no HTTP here.

Each function takes a session and works inside its transaction. Whatever changes what statistics
see locks the study first (`lock_study`), then readings, then the audit trail (`Trail.record`):
always in this order, so that two requests never wait for each other.
"""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from halfscan_api.audit import Actor, JsonObject, Trail, difference
from halfscan_api.database import MAX_ID
from halfscan_api.errors import HalfscanError
from halfscan_api.readings.tables import Reading, ReadingState
from halfscan_api.states import state_of
from halfscan_api.studies.local import local_state, tell_locally
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.tables import CaseSeries, ProtocolVersion, Study

STUDY_COLUMNS = ("name", "title", "protocol_version", "seed", "created_at")
VERSION_COLUMNS = ("document", "reason", "created_at")
STUDY_SUBJECT = "study"


class StudyNotFound(HalfscanError):
    """No study has this id."""

    http_status = 404


class StudyExists(HalfscanError):
    """The name is taken."""

    http_status = 409


class ProtocolLocked(HalfscanError):
    """Readings exist: the protocol may grow, with a reason, and nothing else."""

    http_status = 409


def create_study(
    session: Session, *, name: str, protocol: Protocol, actor: Actor, now: datetime
) -> Study:
    """Make a study; where the protocol states no seed, one is drawn.

    Raises
    ------
    StudyExists
    """
    seed = secrets.randbelow(2**53) if protocol.seed is None else protocol.seed
    study = Study(
        name=name,
        title=protocol.title,
        protocol_version=1,
        revision=1,
        seed=seed,
        secret=secrets.token_hex(32),
        created_at=now,
    )
    add_study(session, study)
    version = ProtocolVersion(
        study_id=study.id,
        number=1,
        document=protocol.model_copy(update={"seed": seed}).as_document(),
        created_at=now,
    )
    session.add(version)
    session.flush()
    trail = trail_of(session, study, actor, now)
    trail.record("study.create", STUDY_SUBJECT, new=study_state(study))
    trail.record("protocol.version", version_subject(1), new=version_state(version))
    tell_locally(trail, study, "study.create", local_state(session, study))
    return study


def add_study(session: Session, study: Study) -> None:
    """Insert a study under a name that is free.

    Raises
    ------
    StudyExists
    """
    try:
        with session.begin_nested():
            session.add(study)
    except IntegrityError:
        raise StudyExists(f"a study named {study.name!r} exists on this server") from None


def get_study(session: Session, study_id: int) -> Study:
    """Get a study.

    Raises
    ------
    StudyNotFound
    """
    study = session.get(Study, study_id) if study_id <= MAX_ID else None
    if study is None:
        raise StudyNotFound(f"there is no study {study_id}")
    return study


def lock_study(session: Session, study_id: int) -> Study:
    """Get a study for a change; raises as `get_study` does."""
    get_study(session, study_id)
    return session.scalars(
        select(Study)
        .where(Study.id == study_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def list_studies(session: Session) -> Sequence[Study]:
    """Every study, oldest first."""
    return session.scalars(select(Study).order_by(Study.id)).all()


def trail_of(session: Session, study: Study, actor: Actor, now: datetime) -> Trail:
    """Give the audit trail of a study to write to."""
    return Trail(session, study.name, actor, now, study)


def move_revision(study: Study) -> None:
    """Say that what statistics see has changed; the study must be locked.

    Call it before the change is recorded: the event repeats the revision.
    """
    study.revision += 1


def get_version(session: Session, study: Study, number: int | None = None) -> ProtocolVersion:
    """Get a version of the protocol; the newest by default."""
    wanted = study.protocol_version if number is None else number
    return session.scalars(
        select(ProtocolVersion).where(
            ProtocolVersion.study_id == study.id, ProtocolVersion.number == wanted
        )
    ).one()


def protocol_of(session: Session, study: Study, number: int | None = None) -> Protocol:
    """Get a version of the protocol as a document; the newest by default."""
    return Protocol.model_validate(get_version(session, study, number).document)


def list_versions(session: Session, study: Study) -> Sequence[ProtocolVersion]:
    """Every version of the protocol, oldest first."""
    return session.scalars(
        select(ProtocolVersion)
        .where(ProtocolVersion.study_id == study.id)
        .order_by(ProtocolVersion.number)
    ).all()


def is_locked(session: Session, study: Study) -> bool:
    """Tell whether readings exist."""
    return (
        session.scalar(select(Reading.id).where(Reading.study_id == study.id).limit(1)) is not None
    )


def readings_by_state(session: Session, study: Study) -> dict[ReadingState, int]:
    """Count the readings of a study, training included; every state is there."""
    counted = session.execute(
        select(Reading.state, func.count())
        .where(Reading.study_id == study.id)
        .group_by(Reading.state)
    )
    found = {ReadingState(state): count for state, count in counted}
    return {state: found.get(state, 0) for state in ReadingState}


def amend_protocol(
    trail: Trail, study: Study, protocol: Protocol, *, reason: str | None
) -> ProtocolVersion:
    """Make a new version of the protocol; the study must be locked by `lock_study`.

    Once readings exist, the version needs a reason and may only grow: everything that the old one
    asks, compares and draws must still be in it. Series that are enrolled keep their place always.

    Raises
    ------
    ProtocolLocked
    """
    session = trail.session
    if protocol.seed is None:
        protocol = protocol.model_copy(update={"seed": study.seed})
    _check_amendment(session, study, protocol, reason)
    before = study_state(study)
    study.protocol_version += 1
    study.title = protocol.title
    study.seed = protocol.seed if protocol.seed is not None else study.seed
    version = ProtocolVersion(
        study_id=study.id,
        number=study.protocol_version,
        document=protocol.as_document(),
        reason=reason,
        created_at=trail.now,
    )
    session.add(version)
    move_revision(study)
    session.flush()
    subject = version_subject(version.number)
    trail.record("protocol.version", subject, new=version_state(version), reason=reason)
    record_change(trail, "study.change", STUDY_SUBJECT, before, study_state(study), reason=reason)
    return version


def record_change(
    trail: Trail,
    action: str,
    subject: str,
    before: JsonObject,
    after: JsonObject,
    *,
    reason: str | None = None,
) -> None:
    """Record how a state changed."""
    trail.record(
        action,
        subject,
        old=difference(after, before),
        new=difference(before, after),
        reason=reason,
    )


def study_state(study: Study) -> JsonObject:
    """Give the study as the audit trail holds it."""
    return state_of(study, STUDY_COLUMNS)


def version_state(version: ProtocolVersion) -> JsonObject:
    """Give a protocol version as the audit trail holds it."""
    return state_of(version, VERSION_COLUMNS)


def version_subject(number: int) -> str:
    """Name a protocol version as the audit trail does."""
    return f"protocol/{number}"


def _check_amendment(
    session: Session, study: Study, protocol: Protocol, reason: str | None
) -> None:
    if is_locked(session, study):
        if reason is None:
            raise ProtocolLocked("readings exist: an amendment of the protocol needs a reason")
        broken = list(_broken_by(protocol_of(session, study), protocol))
        if broken:
            raise ProtocolLocked(
                f"readings exist: an amendment may add and reword, but must not {'; '.join(broken)}"
            )
    placed = session.execute(
        select(CaseSeries.arm, CaseSeries.sequence)
        .where(CaseSeries.study_id == study.id)
        .distinct()
    )
    homeless = sorted(
        f"{arm}/{sequence}"
        for arm, sequence in placed
        if arm not in protocol.arm_names or sequence not in protocol.sequence_names
    )
    if homeless:
        raise ProtocolLocked(f"series are enrolled as {', '.join(homeless)}: these must stay")


def _broken_by(old: Protocol, new: Protocol) -> Iterable[str]:
    """Say what an amendment would take away from answers, series or the allocation."""
    if [(arm.name, arm.role) for arm in new.arms] != [(arm.name, arm.role) for arm in old.arms]:
        yield "change the arms"
    for name in ("seed", "repeat_sessions", "repeat_cases"):
        if getattr(new, name) != getattr(old, name):
            yield f"change {name} ({getattr(old, name)} before)"
    for what, before, after in (
        ("sequence", _sequences(old), _sequences(new)),
        ("criterion and its scale", _criteria(old), _criteria(new)),
        ("finding, level or grade", _findings(old), _findings(new)),
        ("region", _regions(old), _regions(new)),
    ):
        lost = sorted(before - after)
        if lost:
            yield f"take away or change a {what}: {', '.join(lost)}"


def _sequences(protocol: Protocol) -> set[str]:
    return {f"{one.name} ({one.group})" for one in protocol.sequences}


def _criteria(protocol: Protocol) -> set[str]:
    return {
        f"{sequence}/{one.name}={choice.value}"
        for sequence in protocol.sequence_names
        for one in protocol.criteria_of(sequence)
        for choice in one.scale
    }


def _findings(protocol: Protocol) -> set[str]:
    return {
        f"{one.name}/{level}={choice.value}"
        for one in protocol.findings
        for level in one.levels
        for choice in one.grades
    }


def _regions(protocol: Protocol) -> set[str]:
    return {f"{one.group}/{one.name} ({one.role.value})" for one in protocol.regions}
