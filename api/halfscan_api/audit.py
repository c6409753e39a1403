"""The audit trail: who, when, what, old, new, why; append-only and chained by hashes.

Each study has a chain of its own under its name; the chain `SYSTEM` holds what belongs to none
(tokens, imports, what a study has on this server alone). An event is written in the transaction of
the change that it tells of. Its hash covers all that it says and the hash before it, so that
nothing in the middle can be changed, taken out or put in. The head of the chain is sealed (HMAC),
so that nothing can be cut off at the end; that is a proof where the key is not in the database
(`Settings.audit_key`), and without one it finds only whoever does not compute the seal anew.
Triggers refuse an UPDATE or DELETE of an event. Who owns database and key can compute everything
anew: a hash that was noted elsewhere (each export carries the newest) shows that too.

`old_text` and `new_text` are JSON merge patches (RFC 7396) of what the event is about, its
subject: applying the patches of a subject one after the other gives its state, which must be the
state in the tables (`studies.trail`).
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Index, Integer, String, Text, select
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from halfscan_api.database import Base, Id, UtcDateTime

SYSTEM = "-system"  # no study can have this name
FIRST_HASH = "0" * 64
# Chunk of events that are in memory at once.
_CHUNK = 1000
# Where a session carries the key of the seals; without one they are sealed with this constant.
SEAL_KEY = "halfscan_seal_key"
_NO_KEY = b"halfscan: no key outside the database"

JsonObject = dict[str, Any]


class AuditEvent(Base):
    """One event; it never changes."""

    __tablename__ = "audit_event"
    __table_args__ = (Unique("chain", "sequence_number"), Index(None, "chain", "subject"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    chain: Mapped[str] = mapped_column(String(64))
    # Counts from 1 without a gap.
    sequence_number: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    # Who: the token as it was then, and the reader that it belonged to.
    token_id: Mapped[int | None] = mapped_column(Id)
    actor: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    reader: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(200))
    # Text, not JSON: the database must not write a number in another way than it was hashed.
    old_text: Mapped[str | None] = mapped_column(Text)
    new_text: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    # Revision of the study after the change; None in the chain of the server.
    revision: Mapped[int | None] = mapped_column(Integer)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """The newest event of a chain; its row is also the lock that gives events their order."""

    __tablename__ = "audit_head"

    chain: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence_number: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(64))
    # `seal_of` the three above.
    seal: Mapped[str] = mapped_column(String(64))


class Revised(Protocol):
    """What has a revision: a study."""

    @property
    def revision(self) -> int:
        """Moves with every change of what statistics see."""


# What the hash of an event covers, and the hash.
_HASHED = [column.name for column in AuditEvent.__table__.columns if column.name != "id"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes
    ----------
    token_id : int or None
        None for the command line.
    name : str
        Name of the token.
    role : str
    reader : str or None
        Name of the reader whom the token belongs to.
    """

    token_id: int | None
    name: str
    role: str
    reader: str | None = None


COMMAND_LINE = Actor(token_id=None, name="command line", role="admin")


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a chain does not hold.

    Attributes
    ----------
    sequence_number : int or None
        Event that is wrong; None where it is about no single event.
    what : str
        The rule that is broken.
    table, column : str
        Where it lies; the columns of which one is wrong, separated by commas.
    """

    sequence_number: int | None
    what: str
    table: str = "audit_event"
    column: str = "chain, sequence_number"


@dataclass(frozen=True, slots=True)
class Trail:
    """One chain, as one actor writes to it inside one transaction.

    Attributes
    ----------
    session : Session
        A writing one; the changes that the events tell of go through it too.
    chain : str
        Name of the study, or `SYSTEM`.
    actor : Actor
    now : datetime
    study : Revised, optional
        Study of the chain, whose revision every event repeats.
    """

    session: Session
    chain: str
    actor: Actor
    now: datetime
    study: Revised | None = None

    def record(
        self,
        action: str,
        subject: str,
        *,
        old: JsonObject | None = None,
        new: JsonObject | None = None,
        reason: str | None = None,
    ) -> AuditEvent:
        """Append an event.

        Call it last: the chain is locked from here to the end of the transaction.

        Parameters
        ----------
        action : str
            What was done, for example ``reading.complete``.
        subject : str
            What it was done to, for example ``reading/CODE``.
        old, new : dict, optional
            Merge patches back to the state before and on to the state after; see `difference`.
        reason : str, optional
        """
        head = _lock_head(self.session, self.chain)
        event = AuditEvent(
            chain=self.chain,
            sequence_number=head.sequence_number + 1,
            at=self.now,
            token_id=self.actor.token_id,
            actor=self.actor.name,
            role=self.actor.role,
            reader=self.actor.reader,
            action=action,
            subject=subject,
            old_text=None if old is None else canonical(old),
            new_text=None if new is None else canonical(new),
            reason=reason,
            revision=None if self.study is None else self.study.revision,
            previous_hash=head.hash,
        )
        event.hash = hash_of(event)
        self.session.add(event)
        # A seal that was broken stays broken: the next event must not mend it.
        was_sealed = is_sealed(self.session, head)
        head.sequence_number = event.sequence_number
        head.hash = event.hash
        if was_sealed:
            head.seal = seal_of(self.session, head)
        self.session.flush()
        return event


def new_head(
    session: Session, chain: str, sequence_number: int = 0, last_hash: str = FIRST_HASH
) -> AuditHead:
    """Make the head of a chain, sealed."""
    head = AuditHead(chain=chain, sequence_number=sequence_number, hash=last_hash)
    head.seal = seal_of(session, head)
    return head


def seal_of(session: Session, head: AuditHead) -> str:
    """Compute the seal of a head: HMAC-SHA-256 under the key that the session carries."""
    key = session.info.get(SEAL_KEY) or _NO_KEY
    said = canonical([head.chain, head.sequence_number, head.hash])
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def is_sealed(session: Session, head: AuditHead) -> bool:
    """Tell whether the head carries its seal."""
    return hmac.compare_digest(head.seal.encode(), seal_of(session, head).encode())


def check_seal(session: Session, chain: str) -> Iterator[Fault]:
    """Find a head that was set back, or forward, or sealed with another key."""
    head = session.get(AuditHead, chain)
    if head is not None and not is_sealed(session, head):
        what = "the head does not carry its seal: the chain was cut off, or the key is another"
        yield Fault(None, what, "audit_head", "sequence_number, hash, seal")


def head_of(session: Session, chain: str) -> tuple[int, str]:
    """Number of events of a chain, and the hash of the newest."""
    head = session.get(AuditHead, chain)
    return (head.sequence_number, head.hash) if head is not None else (0, FIRST_HASH)


def events_of(session: Session, chain: str) -> Iterator[AuditEvent]:
    """Give all events of a chain in their order, a part at a time."""
    query = select(AuditEvent).where(AuditEvent.chain == chain).order_by(AuditEvent.sequence_number)
    yield from session.scalars(query.execution_options(yield_per=_CHUNK))


def check_chain(
    events: Iterable[AuditEvent], *, head: tuple[int, str], known_hash: str | None = None
) -> Iterator[Fault]:
    """Find every place where a chain of events does not hold.

    Parameters
    ----------
    events : iterable of AuditEvent
        All of one chain, in their order.
    head : int, str
        From `head_of`.
    known_hash : str, optional
        A hash of this chain that was noted elsewhere: some event must carry it.
    """
    number, previous, known = 0, FIRST_HASH, known_hash is None
    for event in events:
        if event.sequence_number != number + 1:
            yield Fault(event.sequence_number, f"must be number {number + 1}: events are missing")
        if event.previous_hash != previous:
            what = "does not follow from the event before it"
            yield Fault(event.sequence_number, what, column="previous_hash")
        if event.hash != hash_of(event):
            what = "was changed: its hash is another"
            yield Fault(event.sequence_number, what, column=", ".join(_HASHED))
        number, previous = event.sequence_number, event.hash
        known = known or event.hash == known_hash
    if (number, previous) != head:
        what = f"the chain must end at event {head[0]}, it ends at {number}"
        yield Fault(None, what, "audit_head", "chain, sequence_number, hash")
    if not known:
        yield Fault(None, f"no event has the hash {known_hash}: the chain was written anew")


def hash_of(event: AuditEvent) -> str:
    """Compute sha256 over all that an event says, and the hash before it."""
    said = {
        "chain": event.chain,
        "sequence_number": event.sequence_number,
        "at": timestamp(event.at),
        "token_id": event.token_id,
        "actor": event.actor,
        "role": event.role,
        "reader": event.reader,
        "action": event.action,
        "subject": event.subject,
        "old": event.old_text,
        "new": event.new_text,
        "reason": event.reason,
        "previous_hash": event.previous_hash,
    }
    # Events from before there were revisions have the hash that they had.
    if event.revision is not None:
        said["revision"] = event.revision
    return hashlib.sha256(canonical(said).encode()).hexdigest()


def canonical(value: object) -> str:
    """Write JSON in the one way that is hashed: sorted keys, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def timestamp(moment: datetime) -> str:
    """Write a UTC time with microseconds, in the one way that is hashed and exported."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def patch_of(text: str | None) -> JsonObject | None:
    """Read the merge patch of an event."""
    if text is None:
        return None
    patch: JsonObject = json.loads(text)
    return patch


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> JsonObject:
    """Make the merge patch (RFC 7396) that turns one state into another.

    States hold no null: what is not there is left out.
    """
    patch: JsonObject = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value:
            both = isinstance(value, Mapping) and isinstance(before[name], Mapping)
            patch[name] = difference(before[name], value) if both else value
    return patch


def merge(state: JsonObject, patch: Mapping[str, Any]) -> JsonObject:
    """Apply a merge patch (RFC 7396) to a state, in place."""
    for name, value in patch.items():
        if value is None:
            state.pop(name, None)
        elif isinstance(value, Mapping):
            inner = state.get(name)
            state[name] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            state[name] = value
    return state


def without_null(state: Mapping[str, Any]) -> JsonObject:
    """Leave out what is null, at every depth: the form in which states are compared."""
    return {
        name: without_null(value) if isinstance(value, Mapping) else value
        for name, value in state.items()
        if value is not None
    }


def _lock_head(session: Session, chain: str) -> AuditHead:
    query = (
        select(AuditHead)
        .where(AuditHead.chain == chain)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    head = session.scalar(query)
    if head is None:
        try:
            with session.begin_nested():
                session.add(new_head(session, chain))
        except IntegrityError:
            pass  # another request began the chain at the same moment
        head = session.scalars(query).one()
    return head
