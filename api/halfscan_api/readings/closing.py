"""One session at a time: what a reader has read in another session is closed to that reader.

Each case comes in one arm in each session. A reader who could look at the answers of one session
while reading another would hold the two arms side by side, and the wash-out would be for nothing.
So a reader has one open reading at most, and whatever was read in a session is closed for good as
soon as its reader goes on in another one: in a later one, or in an earlier one that an override
left behind. Training cases come in no other session: reading them closes nothing.
"""

import json

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from halfscan_api.errors import HalfscanError
from halfscan_api.readings.tables import Reading, ReadingSession, ReadingState, SessionKind
from halfscan_api.studies.tables import Reader


class ReadingClosed(HalfscanError):
    """Its reader has gone on in another session."""

    http_status = 409

    def __init__(self) -> None:
        super().__init__(
            "you have gone on in another session since: what you have read before is closed to "
            "you, so that no two sessions lie side by side; tell the coordinator of a mistake"
        )


class AnotherReadingOpen(HalfscanError):
    """The reader has a reading open in another session."""

    http_status = 409

    def __init__(self, session_code: str) -> None:
        super().__init__(
            f"one reading at a time: complete the open one of the session {session_code} first",
            extra={"open_session": session_code},
        )


def check_not_closed(session: Session, reading: Reading) -> None:
    """Let through to a reading that its reader may still see.

    Raises
    ------
    ReadingClosed
        It is not open, and its reader has opened or changed one of another session since.
    """
    if reading.state == ReadingState.OPEN or reading.last_seen_at is None:
        return
    number = session.get_one(ReadingSession, reading.session_id).number
    since = or_(
        Reading.last_seen_at > reading.last_seen_at,
        # At the same tick of the clock: sessions are read in their order.
        and_(Reading.last_seen_at == reading.last_seen_at, ReadingSession.number > number),
    )
    gone_on = session.scalar(
        select(Reading.id)
        .join(ReadingSession, ReadingSession.id == Reading.session_id)
        .where(
            Reading.reader_id == reading.reader_id,
            Reading.session_id != reading.session_id,
            ReadingSession.kind != SessionKind.TRAINING.value,
            since,
        )
        .limit(1)
    )
    if gone_on is not None:
        raise ReadingClosed


def check_none_open_elsewhere(session: Session, reader: Reader, row: ReadingSession) -> None:
    """Let a session open a reading if its reader has none open in another session.

    The reader is locked: of two sessions that are asked at the same moment, one gets through.

    Raises
    ------
    AnotherReadingOpen
    """
    session.execute(select(Reader.id).where(Reader.id == reader.id).with_for_update(key_share=True))
    code = session.scalar(
        select(ReadingSession.code)
        .join(Reading, Reading.session_id == ReadingSession.id)
        .where(
            Reading.reader_id == reader.id,
            Reading.session_id != row.id,
            Reading.state == ReadingState.OPEN.value,
        )
        .limit(1)
    )
    if code is not None:
        raise AnotherReadingOpen(code)


def check_replay(session: Session, body: str) -> None:
    """Let a stored answer about a reading be given again, as long as the reading is not closed.

    Raises
    ------
    ReadingClosed
    """
    code = json.loads(body)["code"] if body else None
    reading = session.scalar(select(Reading).where(Reading.code == code))
    if reading is not None:
        check_not_closed(session, reading)
