"""Localizers: quick images to plan on, and on what evidence.

The scanner says so in ImageType, or three planes at right angles do. A name alone says nothing: a
myeloma survey is a diagnostic series, and a study may be called after scouts. It counts as whole
words, and together with what is true of a localizer:

- planes in several directions, three slices at most, or wide gaps between the slices;
- a coarse or small matrix: enough beside names that nothing else has (``localizer``, Siemens'
  AutoAlign scout, which is an accelerated volume like any other), both beside the others.
"""

import re
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.geometry import split
from halfscan_plugin.headers import integer, items, numbers, printable, text
from halfscan_plugin.planes import distinct_normals, is_three_planes, object_orientations

__all__ = ["localizer"]

# Whole words: what stands around them is no letter.
WORDS = r"(?<![a-z])(?:{})(?![a-z])"
UNMISTAKABLE = re.compile(
    WORDS.format(r"locali[sz]ers?|aa[a-z]*_?scout|3.?pl(?:ane)?.?loc"), re.IGNORECASE
)
AMBIGUOUS = re.compile(WORDS.format(r"scout|(?:smart)?survey"), re.IGNORECASE)
LONGEST_NAME = 64
FEW_SLICES = 3
# Distance of neighbours over SliceThickness; diagnostic series leave gaps of up to a third.
WIDE_PITCH = 1.5
COARSE_MM = 1.5  # between pixels
SMALL_MATRIX = 192  # rows and columns


def localizer(headers: Sequence[Dataset]) -> str | None:
    """Say why a series is a localizer, apart from ImageType.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its images.

    Returns
    -------
    str or None
        The reason with the values; None where it is none.
    """
    orientations = (o for header in headers for o in object_orientations(header))
    normals = distinct_normals(orientations)
    if is_three_planes(normals):
        return "ImageOrientationPatient gives three planes at right angles"
    for pattern in (UNMISTAKABLE, AMBIGUOUS):
        called = _called(headers, pattern)
        if called is None:
            continue
        if len(normals) > 1:
            return f"{called}, and its planes lie in {len(normals)} directions"
        shown = [*_slices(headers)]
        coarse = [*_matrix(headers[0])]
        if shown or len(coarse) >= (1 if pattern is UNMISTAKABLE else 2):
            return f"{called}, and {', '.join(shown + coarse)}"
    return None


def _called(headers: Sequence[Dataset], pattern: re.Pattern[str]) -> str | None:
    for header in headers:
        for keyword in ("SeriesDescription", "ProtocolName"):
            name = text(header, keyword)
            if pattern.search(name):
                return f"is called a localizer: {keyword} is {printable(name, LONGEST_NAME)}"
    return None


def _slices(headers: Sequence[Dataset]) -> Iterator[str]:
    """Say what of the slices is true of a localizer."""
    try:
        stacks = split(headers)
    except UnreadableSeries:
        stacks = ()
    slices = max((len(stack.slices) for stack in stacks), default=len(headers))
    if slices <= FEW_SLICES:
        yield f"it has {slices} slices"
    pitch = max((stack.spacing_mm or 0.0 for stack in stacks), default=0.0)
    thickness = _measure(headers[0], "SliceThickness")
    if thickness and pitch >= WIDE_PITCH * thickness:
        yield f"its slices of {thickness:g} mm lie {pitch:g} mm apart"


def _matrix(header: Dataset) -> Iterator[str]:
    """Say what of the pixels is true of a localizer."""
    spacing = _measure(header, "PixelSpacing")
    if spacing and spacing >= COARSE_MM:
        yield f"its pixels measure {spacing:g} mm"
    size = max(integer(header, "Rows") or 0, integer(header, "Columns") or 0)
    if 0 < size <= SMALL_MATRIX:
        yield f"its matrix is {size}"


def _measure(header: Dataset, keyword: str) -> float | None:
    """Give a measure of the pixels, the smallest where it has several values."""
    places = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, name)[:1]:
            places += items(group, "PixelMeasuresSequence")[:1]
    return next((min(found) for place in places if (found := numbers(place, keyword))), None)
