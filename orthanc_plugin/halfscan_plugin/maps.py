r"""Parametric maps: images whose values measure something, and on what evidence.

Words of ImageType and FrameType tell, or the unit of the values: RescaleType, or the units of a
Real World Value Mapping. Magnitudes have none: their RescaleType is absent, ``US`` (unspecified,
PS3.3 C.11.1.1.2) or Philips' ``normalized``, and the unit of their mapping is ``1``. GE's field
maps say neither; the name of their pulse sequence does, and their magnitudes lie in the same
series.
"""

import re
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.tag import Tag

from halfscan_plugin.components import image_types
from halfscan_plugin.headers import items, stripped_text, text
from halfscan_plugin.vendors.findings import Evidence, evidence_of, evidence_of_element, tag_text
from halfscan_plugin.vendors.places import Block, find, private_places

__all__ = ["MAPS", "parametric_map"]

# Any value of ImageType or FrameType (vendors' own words, and PS3.3 C.8.16.1.4 Derived Pixel
# Contrast); so is whatever ends with MAP.
MAPS = {
    "ADC", "B0 MAP", "B1 MAP", "CALC_BVALUE", "CBF", "CBV", "DIFFUSION_ANISO", "EADC", "FA",
    "FAT_FRACTION", "FIELD MAP", "FIELDMAP", "GBP", "METABOLITE_MAP", "MTT", "PBP", "R2_STAR",
    "R2_STAR MAP", "RCBF", "RCBV", "RELCBF", "RELCBV", "RELMTT", "STD_DEVIATION", "T1 MAP",
    "T2 MAP", "T2_STAR MAP", "TMAX", "TRACEW", "TTP", "WATER_FRACTION", "Z_SCORE",
}  # fmt: skip
# Philips, third and fourth value: B0 MAP\B0 up to release 5, B0\B0 in release 11.
FIELD_MAPS = {"B0", "B1"}
# Units of maps, in capitals, without blanks and powers of ten.
UNITS = {
    "%", "/S", "1/MIN", "1/S", "CEL", "CM/S", "DEG", "DEGC", "DEGREES", "HERTZ", "HZ", "KPA", "M/S",
    "MILLIRADIALS", "MILLIRADIANS", "MILLISECONDS", "ML/100G/MIN", "ML/100ML/MIN",
    "ML/MIN/100G", "ML/MIN/100ML", "MM/S", "MM2/S", "MM^2/S", "MRAD", "MS", "MSEC", "PA", "PCT",
    "PERCENT", "PPB", "PPM", "RAD", "RAD/S", "RADIANS", "S", "S-1", "S^-1", "SEC", "UM2/S",
}  # fmt: skip
POWER = re.compile(r"\A[*X]?(?:10|1E)\^?\*?-?\d*\*?(?=[A-Z])")
GE_SEQUENCE = Block(0x0019, "GEMS_ACQU_01")
GE_SEQUENCE_LOW = (0x9C, 0x9E)  # the name, and the internal one
GE_FIELD_MAPS = {"3DB0MAP", "B0MAP", "B0RF"}


def parametric_map(header: Dataset) -> Evidence | None:
    """Give the evidence that an object holds a map.

    Parameters
    ----------
    header : Dataset
        A classic or an enhanced object.

    Returns
    -------
    Evidence or None
        The first attribute that says so; None where none does.
    """
    return next(_evidence(header), None)


def _evidence(header: Dataset) -> Iterator[Evidence]:
    says = "is a parametric map"
    for keyword, values in image_types(header):
        if any(word in MAPS or word.endswith("MAP") for word in values) or not (
            FIELD_MAPS.isdisjoint(values[2:4])
        ):
            yield Evidence(tag_text(Tag(keyword)), keyword, "\\".join(values), says)
    for place, keyword in _units(header):
        if _unit(text(place, keyword)) in UNITS:
            yield evidence_of(place, keyword, says)
    for low in GE_SEQUENCE_LOW:
        found = find(private_places(header, GE_SEQUENCE.group), GE_SEQUENCE, low)
        if found is not None and stripped_text(found).upper() in GE_FIELD_MAPS:
            yield evidence_of_element(found, GE_SEQUENCE.name(low), says)


def _units(header: Dataset) -> Iterator[tuple[Dataset, str]]:
    """Yield where the unit of the values may stand."""
    groups = [
        *items(header, "SharedFunctionalGroupsSequence"),
        *items(header, "PerFrameFunctionalGroupsSequence"),
    ]
    for place in (header, *groups):
        for rescale in (place, *items(place, "PixelValueTransformationSequence")):
            yield rescale, "RescaleType"
        for mapping in items(place, "RealWorldValueMappingSequence"):
            for units in items(mapping, "MeasurementUnitsCodeSequence"):
                yield units, "CodeValue"


def _unit(written: str) -> str:
    return POWER.sub("", re.sub(r"[\s_\[\]]", "", written.replace("µ", "u").upper()))
