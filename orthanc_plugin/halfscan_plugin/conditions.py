"""Conditions of rules: an attribute, and what its value must be.

A condition is over a fact of the acquisition (``averages = "< 2"``), which must hold for every
object of the series that tells the fact, over the plane of the images
(``orientation = "sagittal"``) or over a DICOM keyword (``BodyPartExamined = "KNEE"``). What is
compared with a value that is not known does not match: neither ``averages = "< 2"`` nor
``averages = ">= 2"`` matches where no header tells the averages. ``"unknown"`` asks for just that.
"""

import difflib
import itertools
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.tag import Tag

from halfscan_plugin.acquisition import Acquisition
from halfscan_plugin.errors import BadInput
from halfscan_plugin.headers import items, numbers, printable, texts
from halfscan_plugin.planes import PLANES, plane
from halfscan_plugin.technique import TECHNIQUES

__all__ = ["FACTS", "Condition", "Subject", "is_private_to_patient", "parse_condition"]

Value = str | float | bool

UNKNOWN = "unknown"
ORIENTATION = "orientation"
NUMBERS = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
)
FLAGS = ("accelerated", "partial_fourier", "deep_learning", "deep_learning_possible")
# Facts with a name for a value, and the names that there are.
NAMED = {ORIENTATION: PLANES, "technique": TECHNIQUES}
FACTS = (*NUMBERS, *FLAGS, *NAMED)

# Value representations, PS3.5 section 6.2.
NUMERIC_VRS = {"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
TEXT_VRS = {
    "AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT",
}  # fmt: skip
PATIENT_GROUP = 0x0010

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": lambda value, wanted: math.isclose(value, wanted, rel_tol=1e-6, abs_tol=1e-9),
    "!=": lambda value, wanted: not math.isclose(value, wanted, rel_tol=1e-6, abs_tol=1e-9),
}
COMPARISON = re.compile(r"(<=|>=|==|!=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


class Test(Protocol):
    """What a value must be."""

    def matches(self, values: list[Value]) -> bool:
        """Tell whether one of the values is so; an empty list is a value that is not known."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The value is not known."""

    def matches(self, values: list[Value]) -> bool:
        """Tell whether there is no value."""
        return not values


@dataclass(frozen=True, slots=True)
class Equal:
    """The value is this one: true, false or the name of a plane."""

    wanted: Value

    def matches(self, values: list[Value]) -> bool:
        """Tell whether one of the values is the one that is wanted."""
        return self.wanted in values


@dataclass(frozen=True, slots=True)
class Compared:
    """The value keeps every bound, such as ``>= 2`` and ``< 4``."""

    bounds: tuple[tuple[str, float], ...]

    def matches(self, values: list[Value]) -> bool:
        """Tell whether one of the values keeps all the bounds."""
        return any(
            all(OPERATORS[sign](float(value), bound) for sign, bound in self.bounds)
            for value in values
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """The text has this form; capital and small letters are the same."""

    pattern: re.Pattern[str]

    def matches(self, values: list[Value]) -> bool:
        """Tell whether one of the texts, or all of them joined, has the form."""
        written = [str(value).strip() for value in values]
        return any(map(self.pattern.search, [*written, "\\".join(written)])) if written else False


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several tests."""

    tests: tuple[Test, ...]

    def matches(self, values: list[Value]) -> bool:
        """Tell whether one of the tests matches."""
        return any(test.matches(values) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Subject:
    """What conditions are checked on.

    Parameters
    ----------
    header : Dataset
        The first object of a series, in the order of its slices.
    acquisition : Acquisition
        How the series was acquired.
    """

    header: Dataset
    acquisition: Acquisition

    def values(self, name: str) -> list[Value]:
        """Give the values of a fact or a keyword; none where it is not known.

        A fact has several values where the objects of the series differ.
        """
        if name == ORIENTATION:
            found = plane(self.header)
            return [] if found is None else [found]
        if name in FACTS:
            return self.acquisition.values(name)
        for place in _places(self.header, name):
            values: list[Value] = list(_values(place, name))
            if values:
                return values
        return []


@dataclass(frozen=True, slots=True)
class Condition:
    """A name and what its value must be.

    Parameters
    ----------
    name : str
        A fact of the acquisition, ``orientation`` or a DICOM keyword.
    says : str
        The condition in words, such as ``averages < 2``.
    test : Test
        What the value must be.
    """

    name: str
    says: str
    test: Test

    def failure(self, subject: Subject) -> str | None:
        """Say why the condition does not match; None where it does."""
        values = subject.values(self.name)
        # Each value of a keyword is one of the same object; each of a fact is another object's.
        cases = [[value] for value in values] if self.name in FACTS and values else [values]
        if all(self.test.matches(case) for case in cases):
            return None
        return f"{self.says}: no, it is {_shown(self.name, values)}"


def parse_condition(name: str, written: Any) -> Condition:
    """Read one condition as a rules file gives it.

    Parameters
    ----------
    name : str
        A fact of the acquisition, ``orientation`` or a DICOM keyword.
    written : object
        The value: a comparison, a number, true or false, a text, a list of alternatives, a table
        with ``regex``.

    Raises
    ------
    BadInput
        If no condition has this name, or if the value is none that it can have; the message names
        both.
    """
    parse, rule = _kind(name)
    alternatives = written if isinstance(written, list) else [written]
    tests = [_parse_one(name, one, parse, rule) for one in alternatives]
    if not tests:
        raise BadInput(f"{name} must be {rule}, got an empty list")
    says = " or ".join(map(_words, alternatives))
    return Condition(name, f"{name} {says}", tests[0] if len(tests) == 1 else OneOf(tuple(tests)))


def is_private_to_patient(keyword: str) -> bool:
    """Tell whether an attribute names or describes a person: it is matched, but not shown."""
    tag = Tag(keyword)
    return tag.group == PATIENT_GROUP or dictionary_VR(tag) == "PN"


def _kind(name: str) -> tuple[Callable[[Any], Test | None], str]:
    """Give the reader of a name's values, and the rule that they keep."""
    a_comparison = "a comparison such as '< 2' or '>= 2 and < 4', a number or 'unknown'"
    if name in NUMBERS:
        return _number, a_comparison
    if name in FLAGS:
        flags = "true or false, without quotes, or 'unknown'"
        return (lambda w: Equal(w) if isinstance(w, bool) else None), flags
    if name in NAMED:
        names = NAMED[name]
        rule = f"one of {', '.join(names)}{' (axial is transverse)' * (name == ORIENTATION)}"
        return (lambda w: Equal(w) if w in names else None), rule
    if not name or tag_for_keyword(name) is None:
        raise BadInput(_no_such(name))
    vr = dictionary_VR(name)
    if _is_numeric(vr):
        return _number, a_comparison
    if vr in TEXT_VRS:
        return _text, "a text, a pattern such as 'T2*' or { regex = '...' }"
    raise BadInput(f"{name} holds no text and no number ({vr}), so there is no condition on it")


def _is_numeric(vr: str) -> bool:
    """Tell whether a value representation holds numbers; some attributes have a choice of two."""
    return NUMERIC_VRS.issuperset(vr.split(" or "))


def _parse_one(name: str, written: Any, parse: Callable[[Any], Test | None], rule: str) -> Test:
    if written == UNKNOWN:
        return Unknown()
    try:
        test = parse(written)
    except re.error as error:
        raise BadInput(f"{name}: {written['regex']!r} is no regular expression: {error}") from error
    if test is None:
        raise BadInput(f"{name} must be {rule}, got {written!r}")
    return test


def _number(written: Any) -> Test | None:
    if isinstance(written, int | float) and not isinstance(written, bool):
        return Compared((("==", float(written)),)) if math.isfinite(written) else None
    if not isinstance(written, str):
        return None
    bounds = [COMPARISON.fullmatch(part.strip()) for part in written.split(" and ")]
    known = tuple((bound[1], float(bound[2])) for bound in bounds if bound is not None)
    return Compared(known) if len(known) == len(bounds) else None


def _text(written: Any) -> Test | None:
    if isinstance(written, dict):
        regex = written.get("regex")
        if list(written) != ["regex"] or not isinstance(regex, str):
            return None
        return Pattern(re.compile(regex, re.IGNORECASE))
    # A text has no order: "> 5" is a mistake, and would silently never match.
    if not isinstance(written, str) or not written.strip() or COMPARISON.match(written):
        return None
    wild = {"*": ".*", "?": "."}
    form = "".join(wild.get(c) or re.escape(c) for c in written.strip())
    return Pattern(re.compile(rf"\A{form}\Z", re.IGNORECASE | re.DOTALL))


def _no_such(name: str) -> str:
    by_lower = {known.lower(): known for known in (*filter(None, keyword_dict), *FACTS)}
    near = [fact for fact in FACTS if name and name.lower() in fact][:1]
    near = near or difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
    return f"{name!r} is neither a fact of the acquisition nor a DICOM keyword{hint}"


def _places(header: Dataset, keyword: str) -> list[Dataset]:
    """List where an attribute may stand: top level, shared groups, groups of the first frame."""
    if Tag(keyword).group == 2:
        return [getattr(header, "file_meta", Dataset())]
    groups = items(header, "SharedFunctionalGroupsSequence")
    groups += items(header, "PerFrameFunctionalGroupsSequence")[:1]
    macros = (items(group, tag) for group in groups for tag in sorted(group.keys()))
    return [header, *groups, *itertools.chain.from_iterable(macros)]


def _values(place: Dataset, keyword: str) -> tuple[float, ...] | list[str]:
    if _is_numeric(dictionary_VR(keyword)):
        return numbers(place, keyword)
    return [text for text in texts(place, keyword) if text.strip()]


def _words(written: Any) -> str:
    """Put a condition's value into words: ``< 2``, ``is true``, ``like 'T2*'``."""
    if isinstance(written, dict):
        return f"matches /{written['regex']}/"
    if isinstance(written, bool):
        return f"is {str(written).lower()}"
    if isinstance(written, str):
        if written == UNKNOWN or COMPARISON.match(written):
            return written if written != UNKNOWN else "is unknown"
        return f"{'like' if set('*?') & set(written) else 'is'} {written!r}"
    return f"is {written:g}"


def _shown(name: str, values: list[Value]) -> str:
    """Write values for a person; what belongs to a patient stays out of reasons and logs."""
    if not values:
        return UNKNOWN
    if name not in FACTS and is_private_to_patient(name):
        return "another, not shown"
    written = (
        str(value).lower() if isinstance(value, bool)
        else f"{value:g}" if isinstance(value, float)
        else str(value)
        for value in values
    )  # fmt: skip
    return printable("\\".join(written))
