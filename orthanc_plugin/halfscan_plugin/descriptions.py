"""SeriesDescription of a derived series, from a template such as ``{SeriesDescription} HS``."""

import string
from dataclasses import dataclass

from halfscan_plugin.conditions import FACTS, Subject, is_private_to_patient, parse_condition
from halfscan_plugin.errors import BadInput
from halfscan_plugin.headers import printable

__all__ = ["LONGEST_LO", "Description", "parse_description"]

LONGEST_LO = 64  # characters, PS3.5 section 6.2


@dataclass(frozen=True, slots=True)
class Description:
    """A template: fixed texts, and the names of the attributes between them.

    Parameters
    ----------
    parts : tuple of (str, str or None)
        A fixed text, and the attribute whose value follows it.
    """

    parts: tuple[tuple[str, str | None], ...]

    def fill(self, subject: Subject) -> str | None:
        r"""Fill the template in for a series.

        Returns
        -------
        str or None
            At most 64 characters in one line, without ``\``; None where nothing is left of it.
            Where it would be longer, the values are cut, the longest first: what the template
            itself says stays.
        """
        values = [_value(subject, name) for _, name in self.parts]
        while (excess := len(self._joined(values)) - LONGEST_LO) > 0:
            longest = max(range(len(values)), key=lambda index: len(values[index]))
            values[longest] = values[longest][: -min(excess, len(values[longest]))]
        return self._joined(values) or None

    def _joined(self, values: list[str]) -> str:
        written = "".join(text + value for (text, _), value in zip(self.parts, values, strict=True))
        return " ".join(written.split())


def parse_description(template: str) -> Description:
    """Read a template.

    Parameters
    ----------
    template : str
        Text with DICOM keywords and facts of the acquisition in braces; ``{{`` for a brace.

    Raises
    ------
    BadInput
        If a brace stands alone, a name is unknown or belongs to the patient, or the fixed text
        alone is longer than an LO holds.
    """
    try:
        found = list(string.Formatter().parse(template))
    except ValueError as error:
        raise BadInput(f"series_description: {error}, got {template!r}") from error
    for _, name, form, conversion in found:
        if name is not None:
            _check_name(name, template, plain=not form and not conversion)
    description = Description(tuple((text, name) for text, name, _, _ in found))
    fixed = len("".join(text for text, _ in description.parts))
    if not template.strip() or "\\" in template or not template.isprintable():
        raise BadInput(f"series_description must be one line of text, got {template!r}")
    if fixed > LONGEST_LO:
        raise BadInput(
            f"series_description must be at most {LONGEST_LO} characters, got {fixed}: {template!r}"
        )
    return description


def _check_name(name: str, template: str, *, plain: bool) -> None:
    if not plain or not name.isidentifier():
        raise BadInput(
            f"series_description takes names in braces such as {{SeriesDescription}}, "
            f"got {template!r}"
        )
    try:
        parse_condition(name, "unknown")
    except BadInput as error:
        raise BadInput(f"series_description: {error}") from error
    if name not in FACTS and is_private_to_patient(name):
        raise BadInput(f"series_description must not name a patient, got {{{name}}}")


def _value(subject: Subject, name: str | None) -> str:
    values = [] if name is None else subject.values(name)
    written = "/".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return printable(written.replace("\\", "/"), LONGEST_LO)
