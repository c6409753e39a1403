"""A study as one JSON document: every subject's state, and every event of the audit trail.

The same study gives the same document, byte for byte, wherever it is. Tokens, the secret of the
blinded identifiers and numbers of rows are not in it.
"""

from typing import Any

from sqlalchemy.orm import Session

from halfscan_api.audit import AuditEvent, JsonObject, events_of, head_of, patch_of, timestamp
from halfscan_api.studies.tables import Study
from halfscan_api.studies.trail import found_states

EVENT_COLUMNS = (
    *("sequence_number", "token_id", "actor", "role", "reader", "action", "subject", "reason"),
    *("previous_hash", "hash"),
)


def export_study(session: Session, study: Study) -> JsonObject:
    """Write a study as a document; the session must see one state of the database."""
    events, head_hash = head_of(session, study.name)
    return {
        "format": "halfscan-study",
        "format_version": 1,
        "name": study.name,
        "revision": study.revision,
        "events": [event_document(event) for event in events_of(session, study.name)],
        "head": {"events": events, "hash": head_hash},
        "states": dict(found_states(session, study)),
    }


def event_document(event: AuditEvent) -> dict[str, Any]:
    """Write an event as it stands in the document and in the listing."""
    # Events from before there were revisions stay what they were.
    revision = {} if event.revision is None else {"revision": event.revision}
    return {
        **{name: getattr(event, name) for name in EVENT_COLUMNS},
        **revision,
        "at": timestamp(event.at),
        "old": patch_of(event.old_text),
        "new": patch_of(event.new_text),
    }
