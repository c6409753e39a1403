"""What happens to readings: opened, filled in, completed, amended; no HTTP here.

Each function works inside one transaction and locks in the order study, session, reading, trail.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.audit import JsonObject, Trail
from halfscan_api.errors import HalfscanError
from halfscan_api.idempotency import ChangeHeaders, check_version
from halfscan_api.readings import counts
from halfscan_api.readings.answers import Answers, missing_answers, save_answers
from halfscan_api.readings.closing import check_none_open_elsewhere, check_not_closed
from halfscan_api.readings.sessions import SessionNotOpen, Standing, known_code, standings
from halfscan_api.readings.sheet import Sheet, load_sheet
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.studies.allocation import session_state, session_subject
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.service import (
    get_study,
    lock_study,
    move_revision,
    protocol_of,
    record_change,
)
from halfscan_api.studies.tables import Reader, Study, StudyCase

# So many missing answers are named; the number tells of the others.
_NAMED = 10


class ReadingNotFound(HalfscanError):
    """No reading of the caller has this code."""

    http_status = 404


class ReadingComplete(HalfscanError):
    """The reading is complete: it can only be amended, with a reason."""

    http_status = 409


class ReadingNotComplete(HalfscanError):
    """Only a complete reading can be amended."""

    http_status = 409


class NothingAmended(HalfscanError):
    """The reading holds these values already."""

    http_status = 409


class ReadingWithdrawn(HalfscanError):
    """The case was taken out of the study."""

    http_status = 409


class AnswersMissing(HalfscanError):
    """The protocol requires answers that are not there."""

    http_status = 409


class NothingToOverride(HalfscanError):
    """The session is open or complete, or its wash-out is waived already."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Desk:
    """What a reader has before them: a reading, with its study and the protocol it was opened by.

    Attributes
    ----------
    study : Study
    protocol : Protocol
    sheet : Sheet
    """

    study: Study
    protocol: Protocol
    sheet: Sheet


def standings_of(session: Session, reader: Reader, now: datetime) -> list[Standing]:
    """Tell where the sessions of a reader stand."""
    study = get_study(session, reader.study_id)
    washout_days = protocol_of(session, study).washout_days
    return standings(session, reader, washout_days=washout_days, now=now)


def open_reading(session: Session, reader: Reader, row: ReadingSession) -> Desk | None:
    """Get the reading of a session that is open; None if there is none."""
    reading = session.scalar(
        select(Reading).where(
            Reading.session_id == row.id, Reading.state == ReadingState.OPEN.value
        )
    )
    return desk_of(session, reader, reading) if reading is not None else None


def next_reading(trail: Trail, reader: Reader, row: ReadingSession) -> Desk | None:
    """Give the open reading of a session, or open the next one; the session must be locked.

    Returns
    -------
    Desk or None
        None once the session is complete.

    Raises
    ------
    SessionNotOpen
        Nothing is ready yet; the message and `opens_at` say what is waited for.
    AnotherReadingOpen
    """
    session = trail.session
    already = open_reading(session, reader, row)
    if already is not None:
        return already
    standing = next(
        one for one in standings_of(session, reader, trail.now) if one.session.id == row.id
    )
    reading = session.scalar(
        select(Reading)
        .where(
            Reading.session_id == row.id,
            Reading.state == ReadingState.PENDING.value,
            Reading.id.in_(standing.ready),
        )
        .order_by(Reading.position)
        .limit(1)
        .with_for_update(key_share=True)
    )
    if reading is None:
        if standing.cause is None:
            return None
        opens_at = standing.opens_at.isoformat() if standing.opens_at is not None else None
        raise SessionNotOpen(f"the session waits: {standing.cause}", extra={"opens_at": opens_at})
    check_none_open_elsewhere(session, reader, row)
    return _open(trail, reader, reading)


def desk_of(session: Session, reader: Reader, reading: Reading) -> Desk:
    """Load a reading with all that belongs to it."""
    study = get_study(session, reader.study_id)
    protocol = protocol_of(session, study, reading.protocol_version)
    return Desk(study, protocol, load_sheet(session, reading))


def find_reading(session: Session, reader: Reader, code: str, *, lock: bool = False) -> Reading:
    """Get a reading that its reader has opened.

    Raises
    ------
    ReadingNotFound
        The same, whether nobody has the code, another reader, or its turn has not come.
    ReadingClosed
        The reader has gone on in another session.
    """
    query = select(Reading).where(
        Reading.code == known_code(code),
        Reading.reader_id == reader.id,
        Reading.opened_at.is_not(None),
    )
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    reading = session.scalar(query)
    if reading is None:
        raise ReadingNotFound(f"there is no reading {code}")
    check_not_closed(session, reading)
    return reading


def save(trail: Trail, reader: Reader, code: str, answers: Answers, headers: ChangeHeaders) -> Desk:
    """Save answers to an open reading; what they do not name stays.

    Raises
    ------
    ReadingNotFound, PreconditionRequired, VersionConflict, ReadingComplete, ReadingWithdrawn,
    InvalidRequest
    """
    session = trail.session
    reading = find_reading(session, reader, code, lock=True)
    check_version(headers, reading.version)
    _check_open(reading)
    desk = desk_of(session, reader, reading)
    before = desk.sheet.state()
    save_answers(session, desk.sheet, desk.protocol, answers, now=trail.now)
    _touch(reading, desk.protocol, trail.now)
    reading.version += 1
    record_change(trail, "reading.save", desk.sheet.subject, before, desk.sheet.state())
    return desk


def complete(
    trail: Trail, reader: Reader, code: str, missing_reason: str | None, headers: ChangeHeaders
) -> Desk:
    """Complete a reading: from here on it counts, and changes need a reason.

    Raises
    ------
    ReadingNotFound, PreconditionRequired, VersionConflict, ReadingComplete, ReadingWithdrawn
    AnswersMissing
        Answers are missing, and no reason is given.
    """
    session = trail.session
    study = lock_study(session, reader.study_id)
    reading = find_reading(session, reader, code, lock=True)
    check_version(headers, reading.version)
    _check_open(reading)
    desk = desk_of(session, reader, reading)
    missing = missing_answers(desk.sheet, desk.protocol)
    if missing and missing_reason is None:
        raise _answers_missing(missing)
    before = desk.sheet.state()
    _touch(reading, desk.protocol, trail.now)
    reading.state = ReadingState.COMPLETE.value
    reading.completed_at = trail.now
    reading.missing_reason = missing_reason if missing else None
    reading.version += 1
    if _counts(session, desk.sheet):
        counts.count_in(session, desk.sheet)
        move_revision(study)
    record_change(
        trail,
        "reading.complete",
        desk.sheet.subject,
        before,
        desk.sheet.state(),
        reason=reading.missing_reason,
    )
    return desk


def amend(
    trail: Trail, reader: Reader, code: str, answers: Answers, reason: str, headers: ChangeHeaders
) -> Desk:
    """Change a complete reading, for a reason; the old values stay in the audit trail.

    Raises
    ------
    ReadingNotFound, PreconditionRequired, VersionConflict, ReadingNotComplete, NothingAmended,
    InvalidRequest
    """
    session = trail.session
    study = lock_study(session, reader.study_id)
    reading = find_reading(session, reader, code, lock=True)
    check_version(headers, reading.version)
    if reading.state != ReadingState.COMPLETE:
        raise ReadingNotComplete("only a complete reading is amended: save the answers instead")
    desk = desk_of(session, reader, reading)
    before, counted = desk.sheet.state(), reading.counted
    counts.count_out(session, desk.sheet)
    save_answers(session, desk.sheet, desk.protocol, answers, now=trail.now)
    if _values(desk.sheet.state()) == _values(before):
        raise NothingAmended("an amendment must change a value: the reading holds these already")
    if counted:
        counts.count_in(session, desk.sheet)
        move_revision(study)
    reading.version += 1
    record_change(
        trail, "reading.amend", desk.sheet.subject, before, desk.sheet.state(), reason=reason
    )
    return desk


def _values(state: JsonObject) -> object:
    """Give the answers of a state, without when they were saved."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items() if name != "saved_at"}
        return value

    return [plain(state[section]) for section in ("scores", "findings", "measurements")]


def override(trail: Trail, row: ReadingSession, reader: Reader, reason: str) -> None:
    """Waive the wash-out of a session, for a reason; the session must be locked.

    The order stays: what comes before it must be complete all the same.

    Raises
    ------
    NothingToOverride
        It has begun anyway, or its wash-out is waived already.
    """
    standing = next(
        one for one in standings_of(trail.session, reader, trail.now) if one.session.id == row.id
    )
    if standing.cause is None:
        raise NothingToOverride(f"the session {row.code} is {standing.state.value}")
    if row.override_at is not None:
        raise NothingToOverride(
            f"the wash-out of the session {row.code} is waived already; it waits: {standing.cause}"
        )
    before = session_state(row, reader.name)
    row.override_reason, row.override_at = reason, trail.now
    after = session_state(row, reader.name)
    record_change(trail, "session.override", session_subject(row), before, after, reason=reason)


def _open(trail: Trail, reader: Reader, reading: Reading) -> Desk:
    # Without a version yet, this is the newest one.
    desk = desk_of(trail.session, reader, reading)
    before = desk.sheet.state()
    reading.protocol_version = reading.protocol_version or desk.study.protocol_version
    reading.state = ReadingState.OPEN.value
    reading.opened_at = reading.opened_at or trail.now
    reading.last_seen_at = trail.now
    reading.version += 1
    record_change(trail, "reading.open", desk.sheet.subject, before, desk.sheet.state())
    return desk


def _touch(reading: Reading, protocol: Protocol, now: datetime) -> None:
    """Add the time since the last call to the reading time, unless it was a pause."""
    gap = now - (reading.last_seen_at or now)
    if timedelta(0) <= gap <= timedelta(minutes=protocol.pause_minutes):
        reading.active_s += gap.total_seconds()
    reading.last_seen_at = now


def _counts(session: Session, sheet: Sheet) -> bool:
    if sheet.session.kind == SessionKind.TRAINING:
        return False
    return session.get_one(StudyCase, sheet.reading.case_id).excluded_at is None


def _check_open(reading: Reading) -> None:
    if reading.state == ReadingState.WITHDRAWN:
        raise ReadingWithdrawn("this case was taken out of the study: ask for the next one")
    if reading.state == ReadingState.COMPLETE:
        raise ReadingComplete("the reading is complete: amend it, with a reason")


def _answers_missing(missing: list[str]) -> AnswersMissing:
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return AnswersMissing(
        f"{len(missing)} answers are missing: {', '.join(missing[:_NAMED])}{more}; "
        "give them, or a missing_reason",
        extra={"missing": missing},
    )
