"""Alembic's entry: runs the migrations on the connection and in the transaction it is given."""

from typing import Any, Literal

from alembic import context

import halfscan_api.audit
import halfscan_api.auth
import halfscan_api.enrolment.tables
import halfscan_api.idempotency
import halfscan_api.inspections.tables
import halfscan_api.measurements.tables
import halfscan_api.readings.tables
import halfscan_api.reconstructions.tables
import halfscan_api.statistics.report.tables
import halfscan_api.studies.tables  # noqa: F401 - these put their tables into Base.metadata
from halfscan_api.database import Base, UtcDateTime


def render_item(kind: str, item: Any, autogen_context: object) -> str | Literal[False]:
    """Write the project's own types as what they are in the database.

    A migration stays as it is for ever: it must not import what the program may change.
    """
    del autogen_context
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
