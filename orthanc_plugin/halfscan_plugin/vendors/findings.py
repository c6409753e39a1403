"""What a reader found: the facts so far, and the attribute behind each."""

from dataclasses import dataclass, field, replace
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag, Tag

from halfscan_plugin.headers import element, number, printable, value_text

__all__ = [
    "Evidence",
    "Findings",
    "add_number",
    "evidence_of",
    "evidence_of_element",
    "tag_text",
]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attribute and what it says.

    Parameters
    ----------
    tag : str
        Such as ``(0018,9069)``.
    name : str
        DICOM keyword, or the private creator in brackets with its element.
    value : str
        The value as written.
    says : str
        What it means, in words.
    fact : str
        The fact of the acquisition that rests on it; empty where none does.
    """

    tag: str
    name: str
    value: str
    says: str
    fact: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, str]:
        """Give what it says as JSON-able values."""
        return {"tag": self.tag, "name": self.name, "value": self.value, "says": self.says}


@dataclass
class Findings:
    """Facts in the making, by the names of `Acquisition`'s fields.

    The first attribute that states a fact decides it.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def add(self, fact: str, value: Any, evidence: Evidence) -> None:
        """Note a fact with its evidence; where another attribute says otherwise, note that."""
        if fact not in self.facts:
            self.facts[fact] = value
            self.evidence.append(replace(evidence, fact=fact))
        elif self.facts[fact] != value:
            self.evidence.append(replace(evidence, says=f"{evidence.says}: disagrees, not used"))

    def conclude(self, fact: str, value: Any, evidence: Evidence) -> None:
        """Note a fact that follows from what an attribute says, where none states it."""
        if fact not in self.facts:
            self.facts[fact] = value
            self.evidence.append(replace(evidence, fact=fact))


def evidence_of_element(element: DataElement, name: str, says: str) -> Evidence:
    """Make the evidence that one element gives."""
    written = printable(value_text(element))
    return Evidence(tag_text(element.tag), name, written, printable(says))


def evidence_of(place: Dataset, keyword: str, says: str) -> Evidence:
    """Make the evidence that a public attribute gives, be it readable or not."""
    found = element(place, keyword)
    if found is not None:
        return evidence_of_element(found, keyword, says)
    item = place.get_item(keyword)
    raw = item.value if item is not None and isinstance(item.value, bytes) else b""
    written = printable(raw.decode("ascii", "replace"))
    return Evidence(tag_text(Tag(keyword)), keyword, written, printable(says))


def add_number(place: Dataset, keyword: str, fact: str, findings: Findings, says: str) -> None:
    """Note a public attribute's positive number as a fact.

    Anything else that stands there (text, zero, a list) is noted as evidence that says so, and
    the fact stays unknown.
    """
    if keyword not in place:
        return
    found = element(place, keyword)
    if found is not None and value_text(found) == "":
        return
    value = number(place, keyword)
    if value is not None and value > 0:
        findings.add(fact, value, evidence_of(place, keyword, f"{says} {value:g}"))
    else:
        findings.evidence.append(evidence_of(place, keyword, f"{says} unreadable"))


def tag_text(tag: BaseTag) -> str:
    """Write a tag as ``(0018,9069)``."""
    return f"({tag.group:04X},{tag.element:04X})"
