"""What a derived object carries over from its source.

All public attributes stay as they are, but for those that described the source's pixels or its
bytes and would be wrong on others (`DROPPED`), and those that a derived object says in its own
words (`WRITTEN`). Private attributes stay out unless `private.ALLOWED` names them.
"""

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PersonName

from halfscan_plugin import private
from halfscan_plugin.charsets import UNKNOWN_CHARACTER, character_sets
from halfscan_plugin.headers import element, text
from halfscan_plugin.overlays import overlay_elements

__all__ = ["DROPPED", "MAPPED", "WRITTEN", "Carrier"]

# What described the source's pixels, bytes or place, on any level of nesting.
DROPPED = (
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "OriginalAttributesSequence",
    "EncryptedAttributesSequence",
    "SOPInstanceStatus",
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
    "RetrieveAETitle",
    "InstanceAvailability",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "HistogramSequence",
    "ConversionSourceAttributesSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "DataSetTrailingPadding",
)
# What a derived object says itself; an element of the source, whose value representation may be
# wrong, must not be in the way.
WRITTEN = (
    "ImageType",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "DerivationDescription",
    "DerivationCodeSequence",
    "SourceImageSequence",
    "ContributingEquipmentSequence",
    "BitsStored",
    "HighBit",
)
# UIDs that tie objects together: those of derived objects must be their own.
MAPPED = ("ConcatenationUID", "SOPInstanceUIDOfConcatenationSource")
_DROPPED = frozenset[str | BaseTag](DROPPED)
SPECIFIC_CHARACTER_SET = 0x00080005
# Bytes of one number, for value representations whose bytes pydicom hands over as they are.
BYTES_A_NUMBER = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


@dataclass(slots=True)
class Carrier:
    """Copies data sets, and remembers what could not be carried.

    Parameters
    ----------
    big_endian : bool
        Whether the source is Explicit VR Big Endian.
    left_out : dict of str to None
        Public attributes of the source that could not be read or not be written.
    """

    big_endian: bool = False
    left_out: dict[str, None] = field(default_factory=dict)

    def header(self, source: Dataset, leave: Collection[str] = ()) -> Dataset:
        """Copy a whole object but for what it says of itself, and for `leave` of its top level.

        What comes back can be written as Explicit VR Little Endian.
        """
        left: set[str | BaseTag] = {*DROPPED, *WRITTEN, *leave}
        left.update(overlay_elements(source))  # `overlays` writes them anew
        header = self.copy(source, frozenset(left))
        known = character_sets(source)
        if not known and text(header, "SpecificCharacterSet"):
            del header.SpecificCharacterSet
            self._note(BaseTag(SPECIFIC_CHARACTER_SET))
        self._leave_out_unwritable(header, known)
        return header

    def note_texts(self, tags: Iterable[BaseTag]) -> None:
        """Remember texts that lose characters."""
        for tag in tags:
            self._note(tag)

    def copy(self, source: Dataset, leave: frozenset[str | BaseTag] = _DROPPED) -> Dataset:
        """Copy a data set and what is nested in it, but for `leave` and private attributes."""
        copied = Dataset()
        for tag in sorted(source.keys()):
            # Groups up to 7 belong to messages, files and directories, never to an object.
            if tag.is_private or tag.group < 8 or not {tag, keyword_for_tag(tag)}.isdisjoint(leave):
                continue
            found = element(source, tag)
            if found is None:
                self._note(tag)
            else:
                self._add(copied, found)
        for kept in self._private(source):
            copied.add(kept)
        return copied

    def _add(self, copied: Dataset, found: DataElement) -> None:
        if isinstance(found.value, Sequence):
            nested = Sequence([self.copy(item) for item in found.value])
            copied.add(DataElement(found.tag, "SQ", nested))
        elif self.big_endian and not _can_be_swapped(found):
            self._note(found.tag)
        else:
            copied.add(self._readable(found))

    def _readable(self, found: DataElement) -> DataElement:
        """Copy an element; what no character set can hold becomes a question mark."""
        size = BYTES_A_NUMBER.get(found.VR) if self.big_endian else None
        if size is not None and isinstance(found.value, bytes):
            swapped = np.frombuffer(found.value, f">u{size}").astype(f"<u{size}").tobytes()
            return DataElement(found.tag, found.VR, swapped)
        if found.VR in CUSTOMIZABLE_CHARSET_VR and UNKNOWN_CHARACTER in str(found.value):
            self._note(found.tag)
            return DataElement(found.tag, found.VR, _question_marks(found.value))
        return copy.copy(found)

    def _private(self, source: Dataset) -> Iterator[DataElement]:
        """Yield what may be kept of a data set's private attributes, with their creators."""
        owners = private.creators(source)
        reserved = set()
        for tag in sorted(tag for tag in source.keys() if tag.is_private):  # noqa: SIM118  (Dataset)
            block = (tag.group, tag.element >> 8)
            row = private.ALLOWED.get((tag.group, owners.get(block, ""), tag.element & 0xFF))
            found = None if row is None else element(source, tag)
            if row is None or found is None:
                continue
            kept = self._kept(found, row)
            if kept is None:
                continue
            if block not in reserved:
                reserved.add(block)
                yield DataElement(BaseTag(block[0] << 16 | block[1]), "LO", owners[block])
            yield kept

    def _kept(self, found: DataElement, row: private.PrivateAttribute) -> DataElement | None:
        if self.big_endian and found.VR in {"UN", *BYTES_A_NUMBER}:
            return None
        known = private.in_known_vr(found, row)
        if known is None:
            return None
        if row.vr != "SQ":
            return private.reduced(known, row)
        nested = [Dataset() for _ in known.value]
        for item, source in zip(nested, known.value, strict=True):
            public = (element(source, keyword) for keyword in private.NESTED_PUBLIC)
            for kept in (*filter(None, public), *self._private(source)):
                item.add(kept)
        return DataElement(known.tag, "SQ", Sequence(nested)) if any(nested) else None

    def _leave_out_unwritable(self, header: Dataset, encodings: list[str]) -> None:
        """Remove what can be read but not be written, such as a number with a wrong character."""
        if _is_writable(header, encodings):
            return
        for tag in sorted(header.keys()):
            single = Dataset()
            single[tag] = header[tag]
            if _is_writable(single, encodings):
                continue
            if isinstance(header[tag].value, Sequence):
                for item in header[tag].value:
                    self._leave_out_unwritable(item, encodings)
            else:
                self._note(tag)
                del header[tag]

    def _note(self, tag: BaseTag) -> None:
        self.left_out[_name(tag)] = None


def _can_be_swapped(found: DataElement) -> bool:
    """Tell whether big-endian bytes can be turned round: nobody knows what unknown ones hold."""
    size = BYTES_A_NUMBER.get(found.VR, 1)
    whole = not (isinstance(found.value, bytes) and len(found.value) % size)
    return whole and found.VR != "UN"


def _question_marks(value: Any) -> Any:
    if isinstance(value, MultiValue | list):
        return [_question_marks(one) for one in value]
    written = str(value).replace(UNKNOWN_CHARACTER, "?")
    return PersonName(written) if isinstance(value, PersonName) else written


def _is_writable(header: Dataset, charsets: list[str]) -> bool:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    # What pydicom raises depends on the value representation.
    with contextlib.suppress(Exception):
        write_dataset(buffer, header, parent_encoding=charsets or "iso8859")
        return True
    return False


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(tag)
