"""What a series is, told from its headers: plane, weighting, fat suppression, scan time, Table 1.

Classic objects say it at the top, enhanced ones in functional groups (PS3.3 C.8.13.5). What the
headers do not say stays None: nothing is guessed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from halfscan_api.archive import DicomJson
from halfscan_api.blinded.source import Frame, frames_of, values_of

# Fat-suppressed by inversion (STIR): inversion times around the null of fat, 1.5 T to 3 T [ms].
STIR_TI_MS = (80.0, 300.0)
# Inversion times of T1-weighted and of fluid-attenuated (T2) inversion recovery [ms].
T1_IR_TI_MS, FLAIR_TI_MS = (400.0, 1400.0), 1500.0
# Spin echo: T1 has both times short, T2 both long; between long TR and short TE lies PD [ms].
T1_TR_MS, T1_TE_MS = 1300.0, 40.0
T2_TR_MS, T2_TE_MS = 1500.0, 50.0
# A plane is named while its normal is within 37 degrees of an axis, as in the rules of the worker.
NAMED_FROM = 0.8  # cosine
_HALFSCAN = "Halfscan"


class Plane(StrEnum):
    """Direction of the slices."""

    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    TRANSVERSE = "transverse"


class Weighting(StrEnum):
    """What the contrast follows."""

    T1 = "t1"
    T2 = "t2"
    PD = "pd"


@dataclass(frozen=True, slots=True)
class Kind:
    """Which of the sequences of a protocol a series can be.

    Attributes
    ----------
    plane : Plane
    weighting : Weighting
    fat_suppressed : bool
    """

    plane: Plane
    weighting: Weighting
    fat_suppressed: bool

    def __str__(self) -> str:
        """Words for a person."""
        fat = ", fat-suppressed" if self.fat_suppressed else ""
        return f"{self.plane.value} {self.weighting.value.upper()}{fat}"


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What the headers of a series say.

    Attributes
    ----------
    kind : Kind or None
    unclear : str
        Why there is no kind; empty if there is one.
    by_halfscan : bool
        Halfscan wrote it.
    model : str
        Name and version of the network that made it; empty if Halfscan did not write it.
    derived : bool
        It is no original image, whoever derived it.
    sources : frozenset of str
        SOPInstanceUIDs of the images that it says it was made from.
    patient, born, sex, day : str
        PatientID, PatientBirthDate, PatientSex, and the date of the study; they never leave this
        package.
    scan_time_s : float or None
        Scan time [s].
    parameters : dict
        Table 1 of a publication: name -> value; what is unknown is left out.
    frames : list of Frame
    """

    kind: Kind | None
    unclear: str
    by_halfscan: bool
    model: str
    derived: bool
    sources: frozenset[str]
    patient: str
    born: str
    sex: str
    day: str
    scan_time_s: float | None
    parameters: Mapping[str, Any]
    frames: Sequence[Frame]


def read_facts(headers: Sequence[DicomJson]) -> SeriesFacts:
    """Read what a series is.

    Raises
    ------
    UnusableImages
        It cannot be shown to readers.
    """
    frames = frames_of(headers)
    first = headers[0]
    kind, unclear = _kind(first, frames[0])
    equipment = _items(first, "ContributingEquipmentSequence")
    ours = [one for one in equipment if _value(one, "Manufacturer") == _HALFSCAN]
    image_type = [str(one).upper() for one in values_of(first, "ImageType")]
    return SeriesFacts(
        kind=kind,
        unclear=unclear,
        by_halfscan=bool(ours),
        # The last one wrote it: before it stands what it was made from.
        model=str(_value(ours[-1], "ManufacturerModelName") or "") if ours else "",
        derived="DERIVED" in image_type[:1],
        sources=frozenset(_sources(headers)),
        patient=str(_value(first, "PatientID") or ""),
        born=str(_value(first, "PatientBirthDate") or ""),
        sex=str(_value(first, "PatientSex") or ""),
        day=str(_value(first, "StudyDate") or ""),
        scan_time_s=scan_time(first),
        parameters=_parameters(first, frames[0]),
        frames=frames,
    )


def is_same_person(facts: SeriesFacts, other: SeriesFacts) -> bool:
    """Tell whether nothing speaks against it that two series of one PatientID are of one person.

    Anonymous patients, and those that nobody registered, may share a PatientID.
    """
    pairs = ((facts.born, other.born), (facts.sex, other.sex))
    return all(one == two or not one or not two for one, two in pairs)


def plane_of(frame: Frame) -> Plane | None:
    """Direction of an image: the axis that its normal follows; None if it is oblique."""
    normal = np.abs(frame.normal)
    axis = int(np.argmax(normal))
    if normal[axis] <= NAMED_FROM:
        return None
    return (Plane.SAGITTAL, Plane.CORONAL, Plane.TRANSVERSE)[axis]


def scan_time(header: DicomJson) -> float | None:
    """Give the scan time [s]: AcquisitionDuration, or the vendor's own element; None if unknown."""
    maker = str(_value(header, "Manufacturer") or "").upper()
    duration = _number(find(header, "AcquisitionDuration"))
    if duration is not None and duration > 0:
        # United Imaging writes milliseconds where the standard has seconds.
        return duration / 1000 if maker.startswith("UIH") else duration
    for creator, group, low, scale in (
        ("GEMS_ACQU_01", 0x0019, 0x5A, 1e-6),
        ("Philips MR Imaging DD 001", 0x2005, 0x33, 1.0),
    ):
        value = _number(_private(header, creator, group, low))
        if value is not None and value > 0:
            return round(value * scale, 3)
    return _siemens_time(str(_private(header, "SIEMENS MR HEADER", 0x0051, 0x0A) or ""))


def find(header: DicomJson, keyword: str) -> Any:
    """Find an attribute: at the top, or in the functional groups of all frames or of the first."""
    return next(iter(_find_all(header, keyword)), None)


def _find_all(header: DicomJson, keyword: str) -> list[Any]:
    for item in _places(header):
        values = values_of(item, keyword)
        if values:
            return values
    return []


def _places(header: DicomJson) -> Iterator[DicomJson]:
    yield header
    for groups in (
        _items(header, "SharedFunctionalGroupsSequence")[:1],
        _items(header, "PerFrameFunctionalGroupsSequence")[:1],
    ):
        for group in groups:
            for element in group.values():
                values = element.get("Value") if isinstance(element, Mapping) else None
                yield from (one for one in values or [] if isinstance(one, dict))


def _kind(header: DicomJson, frame: Frame) -> tuple[Kind | None, str]:
    plane = plane_of(frame)
    if plane is None:
        return None, "its slices are oblique to every axis"
    fat = _is_fat_suppressed(header)
    weighting = _weighting(header, fat_suppressed=fat)
    if weighting is None:
        shown = ", ".join(
            f"{name} {value:g} ms" if value is not None else f"no {name}"
            for name, value in (("TR", _tr(header)), ("TE", _te(header)), ("TI", _ti(header)))
        )
        return None, f"its weighting is unclear: {shown}"
    return Kind(plane, weighting, fat), ""


def _weighting(header: DicomJson, *, fat_suppressed: bool) -> Weighting | None:
    tr, te, ti = _tr(header), _te(header), _ti(header)
    scanning = {str(one).upper() for one in _find_all(header, "ScanningSequence")}
    echo = str(find(header, "EchoPulseSequence") or "").upper()
    if tr is None or te is None or "GR" in scanning or echo == "GRADIENT":
        return None
    if ti is not None and ti >= FLAIR_TI_MS:
        return None
    if ti is not None and STIR_TI_MS[0] <= ti <= STIR_TI_MS[1] and fat_suppressed:
        return Weighting.T2
    inverted = ti is not None and T1_IR_TI_MS[0] <= ti <= T1_IR_TI_MS[1]
    if te <= T1_TE_MS and (tr <= T1_TR_MS or inverted):
        return Weighting.T1
    if tr < T2_TR_MS:
        return None
    return Weighting.T2 if te >= T2_TE_MS else Weighting.PD


def _is_fat_suppressed(header: DicomJson) -> bool:
    """Tell fat saturation, selective inversion, STIR and water images of Dixon series."""
    options = {str(one).upper() for one in _find_all(header, "ScanOptions")}
    suppression = str(find(header, "SpectrallySelectedSuppression") or "").upper()
    ti = _ti(header)
    stir = ti is not None and STIR_TI_MS[0] <= ti <= STIR_TI_MS[1]
    image_type = {str(one).upper() for one in values_of(header, "ImageType")}
    return (
        bool(options & {"FS", "FAT_SAT", "FATSAT", "SPIR", "SPAIR"})
        or suppression in {"FAT", "FAT_AND_WATER"}
        or stir
        or bool(image_type & {"WATER", "W"})
    )


def _tr(header: DicomJson) -> float | None:
    return _number(find(header, "RepetitionTime"))


def _te(header: DicomJson) -> float | None:
    return _number(find(header, "EchoTime") or find(header, "EffectiveEchoTime"))


def _ti(header: DicomJson) -> float | None:
    value = _number(find(header, "InversionTime") or find(header, "InversionTimes"))
    return value if value is not None and value > 0 else None


def _parameters(header: DicomJson, frame: Frame) -> dict[str, Any]:
    height, width = frame.spacing_mm
    matrix = [int(one) for one in _find_all(header, "AcquisitionMatrix") if _number(one)]
    parameters = {
        "thickness_mm": frame.thickness_mm,
        "tr_ms": _tr(header),
        "te_ms": _te(header),
        "ti_ms": _ti(header),
        "fov_mm": [round(frame.columns * width, 1), round(frame.rows * height, 1)],
        "averages": _number(find(header, "NumberOfAverages")),
        "matrix": matrix if len(matrix) == 2 else None,
        "rows": frame.rows,
        "columns": frame.columns,
        "acceleration_factor": _number(find(header, "ParallelReductionFactorInPlane")),
        "bandwidth_hz_px": _number(find(header, "PixelBandwidth")),
        "field_strength_t": _number(find(header, "MagneticFieldStrength")),
        "manufacturer": _value(header, "Manufacturer"),
        "model": _value(header, "ManufacturerModelName"),
    }
    return {name: value for name, value in parameters.items() if value not in (None, "")}


def _private(header: DicomJson, creator: str, group: int, low: int) -> Any:
    """Find a private element by its creator: the block moves from file to file."""
    for block in range(0x10, 0x100):
        values = (header.get(f"{group:04X}{block:04X}") or {}).get("Value") or []
        if values and str(values[0]).strip() == creator:
            element = header.get(f"{group:04X}{block:02X}{low:02X}") or {}
            found = element.get("Value") or []
            return found[0] if found else None
    return None


def _siemens_time(text: str) -> float | None:
    """Read such as ``TA 01:17`` or ``TA 02:03.50``: minutes and seconds."""
    match = re.fullmatch(r"(?:TA\s*)?(\d+):(\d{2}(?:\.\d+)?)", text.strip())
    return int(match[1]) * 60 + float(match[2]) if match else None


def _sources(tree: object) -> Iterator[str]:
    """Find the images that an object was made from, wherever it names them."""
    if isinstance(tree, Mapping):
        for item in _items(tree, "SourceImageSequence"):
            yield from (str(uid) for uid in values_of(item, "ReferencedSOPInstanceUID"))
        for element in tree.values():
            yield from _sources(element)
    elif isinstance(tree, list):
        for item in tree:
            yield from _sources(item)


def _items(header: Mapping[str, Any], keyword: str) -> list[DicomJson]:
    return [item for item in values_of(header, keyword) if isinstance(item, dict)]


def _value(header: DicomJson, keyword: str) -> Any:
    values = values_of(header, keyword)
    return values[0] if values else None


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, dict) else float(value)
    except (TypeError, ValueError):
        return None
