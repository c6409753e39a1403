"""`Acquisition` to `Decision`: reconstruct or skip, and the reason.

The default rule is: an acceleration factor of at least 2 and fewer than 2 averages. The factor
alone does not decide: the reference study's STANDARD fat-suppressed T2 was acquired with factor 2
and two averages, its ACCELERATED one with factor 2 and one (Tang et al. 2024, Table 1,
doi:10.1186/s41747-024-00470-0).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydicom import Dataset

from halfscan_plugin.acquisition import ENHANCED, MR_IMAGES, Acquisition
from halfscan_plugin.derived import is_halfscan_output
from halfscan_plugin.headers import integer, numbers, text, texts, uid

__all__ = ["Decision", "decide"]

FEWEST_SLICES = 2
AVERAGES_BELOW = 2.0
SAME_ORIENTATION = 0.01  # direction cosines; scanners write one orientation with some jitter
# Third value of ImageType (PS3.3 C.8.3.1.1.1 and the vendors' own): not the magnitude.
NOT_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY"}
MAPS = {
    "ADC", "ASL", "CBF", "CBV", "FA", "MTT", "TRACEW", "T1 MAP", "T2 MAP", "T2_STAR MAP",
    "R2_STAR MAP", "B0 MAP", "B1 MAP", "FIELD MAP", "FIELDMAP", "PERFUSION", "TTP",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a series, and why.

    Parameters
    ----------
    action : {"reconstruct", "skip"}
        What to do.
    reason_code : str
        Static word for machines, such as ``not_accelerated``.
    reason : str
        The same for people, with the values.
    possible : bool
        Whether the series could be reconstructed if someone insisted.
    """

    action: Literal["reconstruct", "skip"]
    reason_code: str
    reason: str
    possible: bool = True


def decide(
    headers: Sequence[Dataset], acquisition: Acquisition, *, complete: bool = True
) -> Decision:
    """Decide on a series.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects.
    acquisition : Acquisition
        How it was acquired.
    complete : bool
        False where `headers` holds only a sample, so that nothing can be said about the number
        of slices.

    Returns
    -------
    Decision
        The first rule that matches decides: what the objects are, what the images show, how they
        were acquired, and last what cannot be written back. So a series that would not be
        reconstructed anyway says why, rather than that it could not be.
    """
    decision = _object_rules(headers) or _image_rules(headers) or _acquisition_rule(acquisition)
    limit = _limit(headers)
    if limit is not None and decision.action == "reconstruct":
        return _skip(*limit, possible=False)
    if limit is not None:
        return replace(decision, possible=False)
    if complete and len(headers) < FEWEST_SLICES and decision.action == "reconstruct":
        return _skip("single_slice", f"{len(headers)} slice, at least {FEWEST_SLICES} are needed")
    return decision


def _skip(code: str, reason: str, *, possible: bool = True) -> Decision:
    return Decision("skip", code, reason, possible)


def _object_rules(headers: Sequence[Dataset]) -> Decision | None:
    """Check what the objects are: these rules cannot be overruled."""
    for header in headers:
        problem = _object_problem(header)
        if problem is not None:
            return _skip(*problem, possible=False)
    return None


def _object_problem(header: Dataset) -> tuple[str, str] | None:
    """Name the code and the reason why one object cannot be reconstructed."""
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
        problem = ("no_pixels", "Rows and Columns are missing: no pixels")
    return problem


def _limit(headers: Sequence[Dataset]) -> tuple[str, str] | None:
    """Name what cannot be written back, whatever anyone decides."""
    for header in headers:
        sop_class = uid(header, "SOPClassUID")
        if sop_class in ENHANCED:
            reason = f"accelerated, but {sop_class.name} cannot be written back yet"
            return "enhanced_object", reason
        if "MOSAIC" in texts(header, "ImageType"):
            reason = "accelerated, but ImageType says MOSAIC: tiles cannot be written back yet"
            return "mosaic", reason
    return None


def _image_rules(headers: Sequence[Dataset]) -> Decision | None:
    """Check what the images show."""
    rules: tuple[tuple[str, Callable[[list[str]], bool], str], ...] = (
        ("derived", lambda t: t[:1] == ["DERIVED"], "ImageType says DERIVED"),
        ("localizer", lambda t: "LOCALIZER" in t, "ImageType says LOCALIZER"),
        ("not_magnitude", lambda t: _third(t) in NOT_MAGNITUDE, "not a magnitude"),
        ("parametric_map", lambda t: not MAPS.isdisjoint(t), "a parametric map"),
    )
    for header in headers:
        image_type = texts(header, "ImageType")
        for code, matches, says in rules:
            if matches(image_type):
                written = "\\".join(image_type)
                return _skip(code, f"{says}: ImageType is {written}")
    first = numbers(headers[0], "ImageOrientationPatient")
    for header in headers[1:]:
        other = numbers(header, "ImageOrientationPatient")
        if len(other) != len(first) or not np.allclose(other, first, atol=SAME_ORIENTATION):
            reason = f"ImageOrientationPatient differs ({first} and {other}): a localizer"
            return _skip("mixed_orientation", reason)
    return None


def _acquisition_rule(acquisition: Acquisition) -> Decision:
    """Apply the default rule."""
    if acquisition.deep_learning:
        return _skip("vendor_deep_learning", "the vendor's deep learning was applied already")
    factors = {
        "in plane": acquisition.in_plane_factor,
        "along slices": acquisition.slice_factor,
        "compressed sensing": acquisition.compressed_sensing_factor,
    }
    known = ", ".join(f"{name} {value:g}" for name, value in factors.items() if value is not None)
    if acquisition.accelerated is None:
        return _skip("acceleration_unknown", "no header that is understood tells the factor")
    if not acquisition.accelerated:
        return _skip("not_accelerated", f"every factor is below 2: {known}")
    if acquisition.averages is None:
        return _skip("averages_unknown", f"accelerated ({known}), but no header tells the averages")
    if acquisition.averages >= AVERAGES_BELOW:
        reason = f"accelerated ({known}), but with {acquisition.averages:g} averages, 2 or more"
        return _skip("averaged", reason)
    reason = f"accelerated ({known}) with {acquisition.averages:g} averages"
    return Decision("reconstruct", "accelerated", reason)


def _third(image_type: list[str]) -> str:
    """Give the third value of ImageType; Philips adds the sequence: ``R_FFE``, ``I_SE``."""
    return re.sub(r"^([PRI])_.*", r"\1", image_type[2]) if len(image_type) > 2 else ""
