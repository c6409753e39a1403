"""What a reader found: the facts so far, and the attribute behind each."""

import math
from dataclasses import dataclass, field
from typing import Any

from pydicom import DataElement, Dataset

__all__ = ["Evidence", "Findings", "add_number", "evidence_of", "evidence_of_element"]


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
    """

    tag: str
    name: str
    value: str
    says: str


@dataclass
class Findings:
    """Facts in the making; the first attribute that states a fact decides it."""

    facts: dict[str, Any] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def add(self, fact: str, value: Any, evidence: Evidence) -> None:
        """Note a fact with its evidence, unless it is known already."""
        if fact not in self.facts:
            self.facts[fact] = value
            self.evidence.append(evidence)


def evidence_of_element(element: DataElement, name: str, says: str) -> Evidence:
    """Make the evidence that one element gives."""
    tag = f"({element.tag.group:04X},{element.tag.element:04X})"
    return Evidence(tag, name, _shown(element.value), says)


def evidence_of(place: Dataset, keyword: str, says: str) -> Evidence:
    """Make the evidence that a public attribute gives."""
    return evidence_of_element(place[keyword], keyword, says)


def add_number(place: Dataset, keyword: str, fact: str, findings: Findings, says: str) -> None:
    """Note a public attribute's positive number as a fact.

    Anything else that stands there (text, zero, a list) is noted as evidence that says so, and
    the fact stays unknown.
    """
    value = place.get(keyword)
    if value is None or value == "":
        return
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and number > 0:
        findings.add(fact, number, evidence_of(place, keyword, f"{says} {number:g}"))
    else:
        findings.evidence.append(evidence_of(place, keyword, f"{says} unreadable"))


def _shown(value: Any) -> str:
    text = "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    try:
        return "\\".join(map(str, value)) if not isinstance(value, str | bytes) else text
    except TypeError:
        return text
