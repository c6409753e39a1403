"""Texts in the character set of an object (PS3.3 C.12.1.1.2), as they are read and written."""

import contextlib
import re
import unicodedata

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PersonName

from halfscan_plugin.headers import elements, texts, value_text

__all__ = ["UNKNOWN_CHARACTER", "character_sets", "encodable", "is_encodable", "keep_texts"]

UNKNOWN_CHARACTER = "\ufffd"
SHIFT_JIS = "shift_jis"
# The parts of a name, each of which is encoded by itself (PS3.5 section 6.2.1).
NAME_DELIMITERS = re.compile(r"[\\^=]")


def character_sets(source: Dataset) -> list[str]:
    """Give the values of SpecificCharacterSet; none where they are no character sets."""
    found = texts(source, "SpecificCharacterSet")
    # What pydicom and Python's codecs raise depends on what is wrong with a name.
    with contextlib.suppress(Exception):
        for encoding in convert_encodings(found):
            "A".encode(encoding)
        return found
    return []


def encodable(written: str, charsets: list[str]) -> str:
    """Write a text in the characters that an object's Specific Character Set has.

    Parameters
    ----------
    written : str
        Any text.
    charsets : list of str
        Values of SpecificCharacterSet; none means the default repertoire, which is ASCII
        (PS3.3 C.12.1.1.2).

    Returns
    -------
    str
        What cannot be written becomes its base letter, or a question mark.
    """
    encodings = convert_encodings(charsets) if charsets else ["ascii"]
    return "".join(c if _can(c, encodings) else _plain(c) for c in written)


def is_encodable(written: str, charsets: list[str]) -> bool:
    """Tell whether a text can be one of our own as it is: on one line, with all its characters."""
    readable = written.isprintable() and UNKNOWN_CHARACTER not in written
    return readable and encodable(written, charsets) == written


def keep_texts(header: Dataset, charsets: list[str]) -> list[BaseTag]:
    """Make sure that an object's texts are written as they were read.

    Scanners write kanji in Shift-JIS and call it ISO_IR 13, which is half-width katakana alone.
    pydicom reads that, and katakana beside Latin letters, but writes question marks for both: such
    texts become bytes.

    Parameters
    ----------
    header : Dataset
        The object; changed in place, its items too.
    charsets : list of str
        The character sets of what is around it; it may have its own.

    Returns
    -------
    list of BaseTag
        The elements that cannot be written as they are.
    """
    charsets = character_sets(header) or charsets
    encodings = convert_encodings(charsets) if charsets else ["iso8859"]
    lost = []
    for found in list(elements(header)):
        if isinstance(found.value, Sequence):
            for item in found.value:
                lost += keep_texts(item, charsets)
        elif found.VR in CUSTOMIZABLE_CHARSET_VR and not value_text(found).isascii():
            kept = _kept(found, encodings)
            if kept is None:
                lost.append(found.tag)
            else:
                header[found.tag] = kept
    return lost


def _kept(found: DataElement, encodings: list[str]) -> DataElement | None:
    """Give an element that is written as it was read; None if there is none."""
    written = value_text(found)
    parts = NAME_DELIMITERS.split(written)
    if found.VR != "PN":
        parts = list(found.value) if isinstance(found.value, MultiValue) else [written]
    if all(_survives(part, encodings) for part in parts):
        return found
    with contextlib.suppress(UnicodeError):
        content = written.encode(SHIFT_JIS)
        if encodings[0] == SHIFT_JIS and content.decode(SHIFT_JIS) == written:
            value = PersonName(content, encodings) if found.VR == "PN" else content
            return DataElement(found.tag, found.VR, value)
    return None


def _survives(written: str, encodings: list[str]) -> bool:
    """Tell whether pydicom writes a text in a way that gives the same text again."""
    if written.isascii():
        return True
    # What cannot be encoded is replaced, with a warning that may be an error.
    with contextlib.suppress(Exception):
        return decode_bytes(encode_string(written, encodings), encodings, set()) == written
    return False


def _can(character: str, encodings: list[str]) -> bool:
    for encoding in encodings:
        # pydicom's name of the default repertoire is Latin-1, which has more than the standard.
        codec = "ascii" if encoding == "iso8859" else encoding
        try:
            character.encode(codec)
        except UnicodeEncodeError:
            continue
        return True
    return False


def _plain(character: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character)
    return "".join(c for c in decomposed if c.isascii() and c.isprintable()) or "?"
