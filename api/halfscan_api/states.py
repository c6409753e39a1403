"""Rows as JSON and back: the form in which the audit trail and the export hold them.

Nothing is null in a state: what is not there is left out. Times are UTC with microseconds.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import inspect

from halfscan_api.audit import JsonObject, timestamp, without_null
from halfscan_api.database import Base, UtcDateTime

T = TypeVar("T", bound=Base)


def state_of(row: Base, columns: Iterable[str]) -> JsonObject:
    """Write columns of a row as JSON."""
    values = {name: getattr(row, name) for name in columns}
    return without_null(
        {
            name: timestamp(value) if isinstance(value, datetime) else value
            for name, value in values.items()
        }
    )


def row_of(table: type[T], columns: Iterable[str], state: Mapping[str, Any], **more: Any) -> T:
    """Make a row from what `state_of` wrote; `more` are the columns that it left out.

    Raises
    ------
    ValueError
        A time is none, or lacks its zone.
    """
    mapped = inspect(table).columns
    values = dict(more)
    for name in columns:
        value = state.get(name)
        if value is not None and isinstance(mapped[name].type, UtcDateTime):
            value = moment_of(value)
        values[name] = value
    return table(**values)


def moment_of(text: str) -> datetime:
    """Read a time that `halfscan_api.audit.timestamp` wrote.

    Raises
    ------
    ValueError
        It is none, or lacks its zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time must carry its zone, got {text}")
    return moment


def leaves(tree: JsonObject, depth: int) -> Iterator[tuple[tuple[str, ...], JsonObject]]:
    """Walk down a tree of states to those at a depth, each with its path."""
    if depth == 0:
        yield (), tree
        return
    for name, branch in tree.items():
        for path, leaf in leaves(branch, depth - 1):
            yield (name, *path), leaf
