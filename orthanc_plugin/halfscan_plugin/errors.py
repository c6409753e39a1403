"""The errors of the archive side; all of them descend from `HalfscanError`."""

from typing import Any

__all__ = [
    "BadInput",
    "ExtraMissing",
    "FilesLost",
    "GuardFailed",
    "HalfscanError",
    "UnreadableSeries",
]


class HalfscanError(Exception):
    """Root of everything that the archive side raises on purpose.

    The command line prints such an error as one line; anything else is a defect.
    """

    exit_status = 1


class BadInput(HalfscanError):
    """A file, a setting or an argument breaks a rule; the message names rule and value."""

    exit_status = 2


class ExtraMissing(HalfscanError):
    """A package is not installed that the command needs; the message names the extra."""

    exit_status = 2


class FilesLost(HalfscanError):
    """Everything else was done, but some files could not be read; an image may be missing."""

    exit_status = 3


class UnreadableSeries(HalfscanError):
    """A series cannot be used; `code` is a static word, the message says why.

    A worker records it as skipped: another attempt would find the same bytes.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class GuardFailed(HalfscanError):
    """A result went too far from its source.

    Attributes
    ----------
    code : str
        Static word, such as ``guard_rms_change``.
    facts : dict
        The same for machines, JSON-able: the slice, its figures, the limit; may be empty.
    """

    def __init__(self, guard: str, message: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = f"guard_{guard}"
        self.facts = facts or {}
