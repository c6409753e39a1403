"""What is skipped before any rule: no rule can bring it back.

First what the objects are, then what their images show. The vendor's own deep learning is the one
exclusion that a rule can lift: see `rules`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from halfscan_plugin.acquisition import MR_IMAGES
from halfscan_plugin.components import frame_types, image_type, image_types, not_magnitude
from halfscan_plugin.derived import is_halfscan_output
from halfscan_plugin.headers import integer, text, uid
from halfscan_plugin.localizers import localizer
from halfscan_plugin.maps import parametric_map
from halfscan_plugin.vendors.findings import Evidence

__all__ = ["PROJECTIONS", "Exclusion", "find_exclusion", "set_aside"]

# Any value of ImageType or FrameType: images computed from a volume, also where the first value
# does not say DERIVED.
PROJECTIONS = {
    "CPR", "CURVED_MPR", "MAX_IP", "MINIP", "MIN_IP", "MIP", "MNIP", "MPR", "PROJECTION IMAGE",
    "VOLUME_RENDER",
}  # fmt: skip
# Any value: the scanner has moved the images of a time series onto each other, and its ImageType
# says ORIGINAL all the same.
RESAMPLED = "MOCO"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a series is skipped.

    Parameters
    ----------
    code : str
        Static word for machines.
    reason : str
        The same for people, with the values.
    possible : bool
        Whether the series could be reconstructed if someone insisted.
    """

    code: str
    reason: str
    possible: bool


def set_aside(objects: Sequence[Dataset]) -> tuple[list[Dataset], list[str]]:
    """Part the MR images of a series from what lies beside them without an image.

    Scanners put raw data and presentation states into a series of images: those stay where they
    are, and take nothing from the images.

    Parameters
    ----------
    objects : sequence of Dataset
        The objects of a series, or their headers.

    Returns
    -------
    list of Dataset
        The images in their order; all the objects where none of them is an image, so that the
        exclusion can say what they are.
    list of str
        One sentence for each kind of object that was set aside.
    """
    images = [one for one in objects if uid(one, "SOPClassUID") in MR_IMAGES]
    if not images:
        return list(objects), []
    kinds = Counter(
        uid(one, "SOPClassUID").name or "an object without SOPClassUID"
        for one in objects
        if uid(one, "SOPClassUID") not in MR_IMAGES
    )
    return images, [f"set aside: {number} x {kind}, no image" for kind, number in kinds.items()]


def find_exclusion(headers: Sequence[Dataset]) -> Exclusion | None:
    """Find what excludes a series, whatever the rules say.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects, at least one.

    Returns
    -------
    Exclusion or None
        The first one: what the objects are comes before what the images show.
    """
    for header in headers:
        problem = _object_problem(header)
        if problem is not None:
            return Exclusion(*problem, possible=False)
    for header in headers:
        problem = _image_problem(header)
        if problem is not None:
            return Exclusion(*problem, possible=True)
    reason = localizer(headers)
    return None if reason is None else Exclusion("localizer", reason, possible=True)


def _object_problem(header: Dataset) -> tuple[str, str] | None:
    """Name the code and the reason why an object holds nothing to reconstruct."""
    sop_class = uid(header, "SOPClassUID")
    modality = text(header, "Modality")
    problem = None
    if modality != "MR":
        problem = ("not_mr", f"Modality is {modality!r}, not MR")
    elif is_halfscan_output(header):
        problem = ("halfscan_output", "was written by Halfscan")
    elif sop_class not in MR_IMAGES:
        name = sop_class.name or "an object without SOPClassUID"
        problem = ("not_an_image", f"{name} holds no MR image")
    elif not (integer(header, "Rows") and integer(header, "Columns")):
        name = text(header, "SOPInstanceUID")
        problem = ("no_pixels", f"instance {name} has no Rows and Columns, thus no pixels")
    return problem


def _image_problem(header: Dataset) -> tuple[str, str] | None:
    """Name the code and the reason why an object's images are none to reconstruct."""
    types = list(image_types(header))
    problem = _first(types, "derived", lambda t: t[:1] == ["DERIVED"], "is derived")
    problem = problem or _computed(header, types)
    problem = problem or _first(types, "localizer", lambda t: "LOCALIZER" in t, "is a localizer")
    if problem is not None:
        return problem
    component, kind = not_magnitude(header), parametric_map(header)
    if component is not None:
        return "not_magnitude", _sentence(component)
    return None if kind is None else ("parametric_map", _sentence(kind))


def _sentence(evidence: Evidence) -> str:
    return f"{evidence.says}: {evidence.tag} {evidence.name} is {evidence.value}"


def _computed(header: Dataset, types: Sequence[tuple[str, list[str]]]) -> tuple[str, str] | None:
    """Recognise projections and reformats of a volume (PS3.3 C.8.16.2.1.3)."""
    says = "is computed from a volume"
    for place in (header, *frame_types(header)):
        values = image_type(place, "VolumeBasedCalculationTechnique")
        if values not in ([], ["NONE"]):
            written = "\\".join(values)
            return "derived", f"{says}: VolumeBasedCalculationTechnique is {written}"
    moved = "was moved by the scanner's correction of motion"
    return _first(types, "derived", lambda t: not PROJECTIONS.isdisjoint(t), says) or _first(
        types, "derived", lambda t: RESAMPLED in t, moved
    )


def _first(
    types: Sequence[tuple[str, list[str]]],
    code: str,
    matches: Callable[[list[str]], bool],
    says: str,
) -> tuple[str, str] | None:
    for keyword, values in types:
        if matches(values):
            written = "\\".join(values)
            return code, f"{says}: {keyword} is {written}"
    return None
