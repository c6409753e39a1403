"""Searches (QIDO-RS, PS3.18 section 8.3.4): which blinded headers fit what a viewer asks."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from halfscan_api.errors import InvalidRequest

# Parameters of a search that name no attribute.
OTHERS = {"limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching"}
_RANGES = {"DA", "TM", "DT"}


@dataclass(frozen=True, slots=True)
class Search:
    """What a viewer asks for.

    Attributes
    ----------
    wanted : dict of BaseTag to str
        Attributes and what they must match.
    limit : int or None
    offset : int
    ignored : list of str
        Parameters that no attribute of the answers has.
    """

    wanted: dict[BaseTag, str] = field(default_factory=dict)
    limit: int | None = None
    offset: int = 0
    ignored: list[str] = field(default_factory=list)

    def select(self, headers: Iterable[Dataset]) -> list[Dataset]:
        """Give the headers that match, from `offset` on, at most `limit` of them."""
        found = [header for header in headers if self._matches(header)]
        end = None if self.limit is None else self.offset + self.limit
        return found[self.offset : end]

    def _matches(self, header: Dataset) -> bool:
        return all(_matches(header, tag, asked) for tag, asked in self.wanted.items())


def read_search(arguments: Mapping[str, str], known: Iterable[BaseTag]) -> Search:
    """Read the query of a search.

    Parameters
    ----------
    arguments : mapping of str to str
        Attributes by keyword or by eight hexadecimal digits, limit, offset, and others.
    known : iterable of BaseTag
        Attributes that the answers can hold; others are ignored.

    Raises
    ------
    InvalidRequest
        limit or offset is no whole number >= 0.
    """
    answers = set(known)
    wanted, ignored = {}, []
    for name, value in arguments.items():
        if name in OTHERS:
            continue
        tag = _tag(name)
        if tag not in answers or tag is None:
            ignored.append(name)
        else:
            wanted[tag] = value
    return Search(
        wanted,
        limit=_number(arguments, "limit"),
        offset=_number(arguments, "offset") or 0,
        ignored=ignored,
    )


def _tag(name: str) -> BaseTag | None:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return Tag(int(name, 16))
    number = tag_for_keyword(name)
    return None if number is None else Tag(number)


def _number(arguments: Mapping[str, str], name: str) -> int | None:
    text = arguments.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        detail = f"must be a whole number >= 0, got {text[:20]!r}"
        raise InvalidRequest([{"in": "query", "field": name, "detail": detail}])
    return int(text)


def _matches(header: Dataset, tag: BaseTag, asked: str) -> bool:
    if asked in {"", "*"}:
        return True
    values = _texts(header, tag)
    representation = dictionary_VR(tag)
    if representation == "UI":
        return bool(set(re.split(r"[\\,]", asked)) & set(values))
    if representation in _RANGES and "-" in asked:
        first, _, last = asked.partition("-")
        return any((not first or first <= one) and (not last or one <= last) for one in values)
    if representation == "PN":
        asked, values = asked.lower(), [one.lower() for one in values]
    # "*" and "?" alone are wildcards in DICOM, "[" is a character.
    pattern = asked.replace("[", "[[]")
    return any(fnmatch.fnmatchcase(one, pattern) for one in values)


def _texts(header: Dataset, tag: BaseTag) -> Sequence[str]:
    element = header.get(tag)
    if element is None:
        return []
    value = element.value
    return [str(one) for one in (value if isinstance(value, MultiValue) else [value])]
