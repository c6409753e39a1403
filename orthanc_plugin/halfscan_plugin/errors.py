"""The errors of the archive side; all of them descend from `HalfscanError`."""

__all__ = ["BadInput", "HalfscanError"]


class HalfscanError(Exception):
    """Root of everything that the archive side raises on purpose.

    The command line prints such an error as one line; anything else is a defect.
    """

    exit_status = 1


class BadInput(HalfscanError):
    """A file, a setting or an argument breaks a rule; the message names rule and value."""

    exit_status = 2
