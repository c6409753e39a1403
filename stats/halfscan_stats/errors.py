"""What can go wrong in `halfscan_stats`; everything derives from `StatsError`.

An answer that is undefined is no error: it is a result with None and a `Reason`. An error is input
that no method could use: a score outside the declared scale, a table with half a patient in it.
"""


class StatsError(ValueError):
    """Root of all errors that this package raises on purpose: the rule, and the value given."""
