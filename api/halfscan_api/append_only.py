"""The triggers that refuse a change of an event must still be what the migration made.

Who drops them and puts them back leaves nothing behind here; the hashes and the seal find what was
done meanwhile.
"""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from halfscan_api.audit import Fault

# As `migrations/versions/0003_studies.py` made them.
MESSAGE = "audit_event is append-only"
SQLITE = {
    f"audit_event_no_{verb.lower()}": (
        f"CREATE TRIGGER audit_event_no_{verb.lower()} BEFORE {verb} ON audit_event "
        f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
    )
    for verb in ("UPDATE", "DELETE")
}
_POSTGRESQL = "audit_event_no_change"
# pg_trigger.tgtype: 2 before, 8 delete, 16 update, 32 truncate; without 1, for each statement.
_TYPE = 2 + 8 + 16 + 32
_PG_QUERY = """
SELECT t.tgtype = :type AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL
       AND p.prosrc LIKE :body AND p.proname = 'refuse_change_of_audit_event'
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = CAST('audit_event' AS regclass) AND t.tgname = :name
"""


def check_triggers(session: Session) -> Iterator[Fault]:
    """Find each trigger of the table of events that is gone, switched off or another."""
    if session.get_bind().dialect.name == "sqlite":
        rows = session.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        found: dict[str, str] = dict(map(tuple, rows))
        wrong = [name for name, sql in SQLITE.items() if found.get(name) != sql]
    else:
        body = f"% BEGIN RAISE EXCEPTION '{MESSAGE}'; END %"
        asked = {"type": _TYPE, "body": body, "name": _POSTGRESQL}
        holds = session.scalar(text(_PG_QUERY), asked)
        wrong = [] if holds else [_POSTGRESQL]
    for name in wrong:
        yield Fault(None, f"the trigger {name} is gone or another", column="")
