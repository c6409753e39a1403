"""Headers as Orthanc tells them, made into DICOM JSON (PS3.18 F.2).

Orthanc's DICOMweb finds a series by its UIDs alone, and UIDs may stand under two patients. Its own
REST interface finds it by Orthanc's identifier, which holds the patient too, and tells headers in a
form of its own: every value is a text, and several are joined by backslashes.
"""

from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR

DicomJson = dict[str, Any]

_WHOLE = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMAL = frozenset({"DS", "FD", "FL"})
# Texts in which a backslash is a character like any other (PS3.5 section 6.2).
_UNDIVIDED = frozenset({"LT", "ST", "UR", "UT"})


def dicom_json(tags: Mapping[str, Any]) -> DicomJson:
    """Give the tags of an object, in Orthanc's short format, as DICOM JSON.

    What Orthanc does not tell (bulk data, texts of more than 256 characters) has no value. Numbers
    that are none stay texts: who reads them says what is wrong.

    Parameters
    ----------
    tags : mapping of str to str, list or None
        As in ``{"0028,0010": "320"}``; a list holds the items of a sequence.
    """
    named = ((key.replace(",", "").upper(), value) for key, value in tags.items())
    return {tag: _element(tag, value) for tag, value in named}


def _element(tag: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"vr": "SQ", "Value": [dicom_json(item) for item in value]}
    vr = _vr(tag)
    if not value:
        return {"vr": vr}
    texts = [value] if vr in _UNDIVIDED else value.split("\\")
    return {"vr": vr, "Value": [_value(vr, text.strip(" \0")) for text in texts]}


def _vr(tag: str) -> str:
    """Give the first VR that the dictionary allows; UN for what it does not know."""
    try:
        return dictionary_VR(int(tag, 16))[:2]
    except KeyError:
        return "UN"


def _value(vr: str, text: str) -> Any:
    if text == "":
        return None
    try:
        if vr in _WHOLE:
            return int(text)
        if vr in _DECIMAL:
            return float(text)
    except ValueError:
        return text
    return {"Alphabetic": text} if vr == "PN" else text
