r"""What the pixels of an MR image are: magnitudes, or something else, and on what evidence.

A noise reduction that was trained on magnitudes has nothing to say about a phase, a real part or
a velocity. Vendors write it in different places:

- ImageType, third or fourth value (Siemens ``P``; Philips ``PHASE MAP\P\FFE``, ``R_IR\R\IR``),
  and FrameType in enhanced objects;
- ComplexImageComponent (PS3.3 C.8.13.3.1.1), in enhanced objects also for each frame;
- GE: (0043,xx2F) of GEMS_PARM_01, "Image Type (real, imaginary, phase, magnitude)" in pydicom's
  dictionary of private elements: 0 magnitude, 1 phase, 2 real, 3 imaginary. GE's ImageType does
  not tell: its third value is ``OTHER`` or the name of a technique.
"""

import re
from collections.abc import Iterator

from pydicom import Dataset

from halfscan_plugin.headers import as_number, element, items, private_block, texts
from halfscan_plugin.vendors.findings import Evidence, evidence_of, evidence_of_element

__all__ = ["frame_types", "image_types", "not_magnitude"]

NOT_MAGNITUDE = {
    "P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY", "VELOCITY MAP",
}  # fmt: skip
# MIXED: the frames differ, so that some are no magnitudes.
OTHER_COMPONENTS = {"PHASE", "REAL", "IMAGINARY", "MIXED"}
GE_BLOCK = (0x0043, "GEMS_PARM_01")
GE_IMAGE_TYPE = 0x2F
GE_COMPONENTS: dict[float | None, str] = {1: "a phase", 2: "a real part", 3: "an imaginary part"}


def not_magnitude(header: Dataset) -> Evidence | None:
    """Give the evidence that an object holds something else than magnitudes.

    Parameters
    ----------
    header : Dataset
        A classic or an enhanced object.

    Returns
    -------
    Evidence or None
        The first attribute that says so; None where none does.
    """
    for place, keyword in _places(header):
        values = image_type(place, keyword)[2:4]
        if any(_component(value) in NOT_MAGNITUDE for value in values):
            return evidence_of(place, keyword, "not a magnitude")
        if OTHER_COMPONENTS.intersection(image_type(place, "ComplexImageComponent")):
            return evidence_of(place, "ComplexImageComponent", "not a magnitude")
    return _ge(header)


def frame_types(header: Dataset) -> Iterator[Dataset]:
    """Yield the items of MRImageFrameTypeSequence: of all frames, then of each."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, name):
            yield from items(group, "MRImageFrameTypeSequence")


def image_types(header: Dataset) -> Iterator[tuple[str, list[str]]]:
    """Yield ImageType, and FrameType of the frames of an enhanced object, in capitals."""
    for place, keyword in _places(header):
        yield keyword, image_type(place, keyword)


def image_type(place: Dataset, keyword: str) -> list[str]:
    """Give the values of ImageType, FrameType and the like in capitals, without spaces around."""
    return [value.strip().upper() for value in texts(place, keyword)]


def _places(header: Dataset) -> Iterator[tuple[Dataset, str]]:
    yield header, "ImageType"
    for place in frame_types(header):
        yield place, "FrameType"


def _component(value: str) -> str:
    """Philips adds the sequence: ``R_FFE``, ``I_SE``."""
    return re.sub(r"^([PRI])_.*", r"\1", value)


def _ge(header: Dataset) -> Evidence | None:
    tag = private_block(header, *GE_BLOCK).get(GE_IMAGE_TYPE)
    if tag is None:
        return None
    found = element(header, tag)
    component = None if found is None else GE_COMPONENTS.get(as_number(found.value))
    if found is None or component is None:
        return None
    return evidence_of_element(found, f"[{GE_BLOCK[1]}] xx{GE_IMAGE_TYPE:02X}", component)
