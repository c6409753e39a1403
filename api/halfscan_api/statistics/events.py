"""The revision of a study as it moves: server-sent events.

Every open stream looks at the database once a second (one row by its key), so that it sees what any
process on the same database writes. A stream has a bounded life, after which the client connects
again and says with Last-Event-ID what it has; streams take at most half of the server's threads.
"""

import threading
import time
from collections.abc import Iterator

import structlog
from flask import Flask, Response
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from halfscan_api.database import Database
from halfscan_api.errors import HalfscanError
from halfscan_api.studies.tables import Study

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S = 1.0
HEARTBEAT_S = 15.0
# Less than the time that a server gives running requests when it is stopped.
LIFE_S = 25.0
RETRY_MS = 2000
EVENT_STREAM = "text/event-stream"
_STREAMS = "halfscan_streams"


class TooManyStreams(HalfscanError):
    """Half of the server's threads serve streams already."""

    http_status = 503


def limit_streams(app: Flask, threads: int) -> None:
    """Let streams take at most half of the server's threads: the others keep on serving."""
    app.extensions[_STREAMS] = threading.BoundedSemaphore(max(1, threads // 2))


def open_stream(
    app: Flask, database: Database, study_id: int, *, known: int | None, life_s: float
) -> Response:
    """Answer with a stream of revisions.

    Parameters
    ----------
    app : Flask
    database : Database
    study_id : int
        Of a study that is there.
    known : int or None
        Revision that the client has; None sends the present one at once.
    life_s : float
        Seconds until the stream ends.

    Raises
    ------
    TooManyStreams
    """
    streams: threading.BoundedSemaphore = app.extensions[_STREAMS]
    if not streams.acquire(blocking=False):
        raise TooManyStreams(
            "too many streams are open: ask for the revision instead, or try again",
            headers={"Retry-After": "10"},
        )
    events = revisions(database, study_id, known=known, life_s=life_s)
    answer = Response(events, mimetype=EVENT_STREAM)
    answer.call_on_close(_Release(streams))
    # A proxy must pass every event on at once.
    answer.headers["X-Accel-Buffering"] = "no"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def revisions(
    database: Database, study_id: int, *, known: int | None, life_s: float
) -> Iterator[str]:
    """Give events as text: each revision once, a comment where nothing happens for a while."""
    now = time.monotonic()
    end, spoken = now + life_s, now
    yield f"retry: {RETRY_MS}\n\n"
    while True:
        try:
            revision = revision_of(database, study_id)
        except SQLAlchemyError as error:
            log.warning("stream_ended", study_id=study_id, error=type(error).__name__)
            return
        now = time.monotonic()
        if revision is None:
            return
        if revision != known:
            known, spoken = revision, now
            yield f'id: {revision}\nevent: revision\ndata: {{"revision":{revision}}}\n\n'
        elif now - spoken >= HEARTBEAT_S:
            spoken = now
            yield ": nothing new\n\n"
        if now >= end:
            return
        time.sleep(min(LOOK_EVERY_S, max(0.0, end - now)))


def revision_of(database: Database, study_id: int) -> int | None:
    """Look at the revision of a study; None once it is gone."""
    with database.read() as session:
        return session.scalar(select(Study.revision).where(Study.id == study_id))


def last_event_id(header: str | None) -> int | None:
    """Read Last-Event-ID; what is no revision is as if it were not there."""
    text = (header or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


class _Release:
    """Gives a place back, however often the server closes the answer."""

    def __init__(self, streams: threading.BoundedSemaphore) -> None:
        self._streams, self._lock, self._done = streams, threading.Lock(), False

    def __call__(self) -> None:
        with self._lock:
            if self._done:
                return
            self._done = True
        self._streams.release()
