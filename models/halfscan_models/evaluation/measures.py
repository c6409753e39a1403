"""A measure, its bar, and whether the bar is met."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from halfscan_models.evaluation.errors import EvaluationError

__all__ = ["Bar", "Measure", "verdict_counts"]

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """What a measure is held against.

    Attributes
    ----------
    kind : {"at least", "above", "at most", "below"}
        Which side of the limit is good.
    limit : float
        The limit, in the unit of the measure.
    """

    kind: Literal["at least", "above", "at most", "below"]
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value meets the bar; a value that is not finite never does."""
        if not math.isfinite(value):
            return False
        return _HOLDS[self.kind](value, self.limit)


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table.

    Attributes
    ----------
    section, name : str
        What was measured.
    values : tuple of float
        The measured values; the bar holds where it holds for each of them. Empty where nothing
        could be measured.
    unit : str
        Unit of the values and of the bar's limit.
    bar : Bar or None
        None: printed for information, held against nothing.
    note : str
        What the values are, where they come from.
    reason : str or None
        Why nothing was measured.
    digits : int
        Digits after the point in print; the bar is held against the unrounded values.
    """

    section: str
    name: str
    values: tuple[float, ...]
    unit: str = ""
    bar: Bar | None = None
    note: str = ""
    reason: str | None = None
    digits: int = 2

    def __post_init__(self) -> None:
        if bool(self.values) == (self.reason is not None):
            raise EvaluationError(
                f"a measure has either values or a reason, got {self.values!r} and {self.reason!r}"
            )

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is no bar or nothing was measured."""
        if self.bar is None or not self.values:
            return None
        return all(self.bar.holds(value) for value in self.values)

    @property
    def verdict(self) -> str:
        """The last column: met, MISSED, not measured, or nothing."""
        if not self.values:
            return "not measured"
        return {None: "", True: "met", False: "MISSED"}[self.met]

    @property
    def value_text(self) -> str:
        """The values as printed, or why there are none."""
        if not self.values:
            return str(self.reason)
        return " / ".join(f"{value:.{self.digits}f}" for value in self.values)

    @property
    def bar_text(self) -> str:
        """The bar as printed."""
        if self.bar is None:
            return ""
        return f"{self.bar.kind} {self.bar.limit:g} {self.unit}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON holds it; a value that is not finite becomes None."""
        return {
            "section": self.section,
            "measure": self.name,
            "values": [value if math.isfinite(value) else None for value in self.values],
            "unit": self.unit,
            "bar": None if self.bar is None else {"kind": self.bar.kind, "limit": self.bar.limit},
            "met": self.met,
            "note": self.note,
            "reason": self.reason,
        }


def verdict_counts(measures: "list[Measure]") -> dict[str, int]:
    """Count the rows that have a bar: met, missed, not measured."""
    barred = [measure for measure in measures if measure.bar is not None]
    return {
        "met": sum(measure.met is True for measure in barred),
        "missed": sum(measure.met is False for measure in barred),
        "not_measured": sum(measure.met is None for measure in barred),
    }
