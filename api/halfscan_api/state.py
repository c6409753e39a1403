"""What a running app carries: its settings, database and clock."""

from dataclasses import dataclass

from flask import Flask, current_app

from halfscan_api.database import Clock, Database
from halfscan_api.settings import Settings

_KEY = "halfscan"


@dataclass(frozen=True, slots=True)
class State:
    """Parts that every request uses.

    Attributes
    ----------
    settings : Settings
    database : Database
    clock : callable
        Gives the time now, with its zone; tests pass their own.
    """

    settings: Settings
    database: Database
    clock: Clock


def attach(app: Flask, parts: State) -> None:
    """Give an app its parts."""
    app.extensions[_KEY] = parts


def state() -> State:
    """Parts of the current app."""
    parts = current_app.extensions[_KEY]
    if not isinstance(parts, State):
        raise TypeError(f"the app must carry a State, got {type(parts).__name__}")
    return parts
