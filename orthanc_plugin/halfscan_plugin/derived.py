"""Volume and source headers to derived DICOM objects, one for each object of the source.

Classic objects give classic ones, multi-frame objects give multi-frame ones with the frames in the
source's order, mosaics give mosaics. What a derived object says of itself follows PS3.3: ImageType
(C.7.6.1.1.2), DerivationDescription, DerivationCodeSequence and SourceImageSequence (C.12.4 General
Reference), ContributingEquipmentSequence (C.12.1 SOP Common), and for single frames
`multiframe`. What it keeps of its source: `carry` and `private`. Codes: `references`.
``docs/derived.md`` lists all of it, attribute by attribute.

Everything is a function of the source, the model and the settings: doing it twice gives the same
bytes, so a repeated attempt stores nothing twice.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, FileMetaDataset
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, generate_uid

from halfscan_plugin.carry import MAPPED, Carrier
from halfscan_plugin.charsets import character_sets, encodable, is_encodable, keep_texts
from halfscan_plugin.encode import Syntax, lossy_attributes, set_pixels, target_syntax
from halfscan_plugin.enhanced import is_enhanced
from halfscan_plugin.headers import items, printable, text, texts, uid
from halfscan_plugin.multiframe import LEFT_TO_THE_SOURCE, describe_frames, frame_type
from halfscan_plugin.overlays import add_overlay_data, embedded_overlays
from halfscan_plugin.pixels import cells_of
from halfscan_plugin.references import PROCESSING_EQUIPMENT, SMOOTHING, code, put, source_image
from halfscan_plugin.volume import SeriesVolume, stored_object

__all__ = [
    "DerivedSeries",
    "Provenance",
    "default_description",
    "derive",
    "is_halfscan_output",
    "series_uid",
]

MANUFACTURER = "Halfscan"
# Changes when the same source and model shall give other objects than before: that is, with every
# change of what is written here or of what `Reconstructor` computes around the network.
DERIVATION_VERSION = 4
LONGEST_LO, LONGEST_ST = 64, 1024  # characters, PS3.5 section 6.2
LONGEST_REMARK = 300  # leaves room for warnings and for what was done before


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the derived series.

    Parameters
    ----------
    model_name, model_version, model_sha256 : str
        The network.
    strength : float
        Share of the network's result in the blend, 0 to 1.
    software_version : str
        Halfscan's own version.
    """

    model_name: str
    model_version: str
    model_sha256: str
    strength: float
    software_version: str

    def facts(self) -> dict[str, Any]:
        """Give what the ledger keeps of it, JSON-able."""
        return {
            "model_name": self.model_name,
            "model_version": self.model_version,
            "model_sha256": self.model_sha256,
            "strength": self.strength,
        }


@dataclass(frozen=True, slots=True)
class DerivedSeries:
    """A derived series.

    Parameters
    ----------
    series_instance_uid : str
        Its UID.
    datasets : tuple of Dataset
        Its objects, one for each of the source, in the same order.
    clipped_pixels : int
        Pixels whose value was beyond what BitsStored can hold.
    notes : tuple of str
        What could not be carried over, or not be written as asked for.
    """

    series_instance_uid: str
    datasets: tuple[Dataset, ...]
    clipped_pixels: int
    notes: tuple[str, ...] = ()


def is_halfscan_output(header: Dataset) -> bool:
    """Tell whether Halfscan wrote an object, from its ContributingEquipmentSequence."""
    equipment = items(header, "ContributingEquipmentSequence")
    return any(text(item, "Manufacturer") == MANUFACTURER for item in equipment)


def default_description(source: Dataset) -> str:
    """Give the SeriesDescription of a derived series that no rule names."""
    return _description(source, None)


def series_uid(
    sources: Sequence[Dataset],
    provenance: Provenance,
    *,
    series_number: int,
    description: str | None = None,
    syntax: Syntax = "uncompressed",
    remark: str = "",
) -> str:
    """Derive the SeriesInstanceUID from the sources, the model and the settings, as `derive`."""
    identity = _identity(sources, provenance, series_number, description, syntax, remark)
    return _uid("series", *identity)


def derive(
    source: SeriesVolume,
    result: npt.NDArray[np.float32],
    provenance: Provenance,
    *,
    series_number: int,
    description: str | None = None,
    warnings: Sequence[str] = (),
    syntax: Syntax = "uncompressed",
    remark: str = "",
) -> DerivedSeries:
    """Write a reconstructed volume as derived objects.

    Parameters
    ----------
    source : SeriesVolume
        The series that was reconstructed.
    result : ndarray, float32, shape (slice, row, column)
        The reconstructed volume on the source's scale.
    provenance : Provenance
        What made it.
    series_number : int
        A number that is free in the study.
    description : str, optional
        SeriesDescription; the source's own with ``HS`` appended where None.
    warnings : sequence of str
        What a reader should know; added to DerivationDescription.
    syntax : {"uncompressed", "source"}
        Explicit VR Little Endian, or the source's own lossless compression where it has one that
        can be written.
    remark : str
        Under which circumstances it was made, such as on demand; stands behind what was done.

    Returns
    -------
    DerivedSeries
        One object for each of the source.

    Raises
    ------
    ValueError
        If `result` has another shape than the source, or is not finite.
    """
    if result.shape != source.shape:
        raise ValueError(f"result has shape {result.shape}, the source {source.shape}")
    if not np.isfinite(result).all():
        raise ValueError("the result holds values that are not finite")
    identity = _identity(source.sources, provenance, series_number, description, syntax, remark)
    uid_of_series = _uid("series", *identity)
    datasets, clipped, notes = [], 0, Counter[str]()
    # What a source's values break of the standard is the source's own affair: they stay.
    with disable_value_validation():
        for index, original in enumerate(source.sources):
            carrier = Carrier(_is_big_endian(original))
            derived = _header(original, carrier, identity)
            derived.SeriesInstanceUID = uid_of_series
            derived.SeriesNumber = series_number
            derived.SeriesDescription = _description(original, description)
            _describe(derived, original, provenance, warnings, remark)
            if embedded_overlays(original):
                add_overlay_data(derived, original, cells_of(original))
                notes["overlays in unused bits of the pixels are carried over as OverlayData"] += 1
            pixels, beyond = stored_object(source, result, index)
            clipped += beyond
            derived.BitsStored = source.bits[index]
            notes.update(_set_pixels(derived, pixels, original, syntax))
            carrier.note_texts(keep_texts(derived, character_sets(derived)))
            if description is None:
                carrier.note_texts(_unwritable(original, "SeriesDescription"))
            notes.update(f"{name} could not be carried over whole" for name in carrier.left_out)
            datasets.append(derived)
    counted = (f"{note} (in {n} of {len(datasets)} objects)" for note, n in sorted(notes.items()))
    return DerivedSeries(uid_of_series, tuple(datasets), clipped, tuple(counted))


def _set_pixels(
    derived: Dataset, pixels: npt.NDArray[np.integer[Any]], source: Dataset, syntax: Syntax
) -> list[str]:
    """Store the pixels in the syntax that is asked for; give what stood in the way."""
    wanted, note = target_syntax(source, syntax)
    failed = set_pixels(derived, pixels, wanted)
    return [reason for reason in (note, failed) if reason is not None]


def _identity(
    sources: Sequence[Dataset],
    provenance: Provenance,
    series_number: int,
    description: str | None,
    syntax: Syntax,
    remark: str,
) -> list[str]:
    # An archive keeps what it has under a UID: whatever changes the objects changes their UIDs.
    uids = "\n".join(sorted(str(source.SOPInstanceUID) for source in sources))
    return [
        str(DERIVATION_VERSION),
        str(sources[0].SeriesInstanceUID),
        hashlib.sha256(uids.encode()).hexdigest(),
        provenance.model_sha256,
        f"{provenance.strength:.6f}",
        str(series_number),
        description or "",
        syntax,
        remark,
    ]


def _uid(*parts: str) -> str:
    return str(generate_uid(entropy_srcs=list(parts)))


def _is_big_endian(source: Dataset) -> bool:
    return uid(getattr(source, "file_meta", Dataset()), "TransferSyntaxUID") == ExplicitVRBigEndian


def _header(source: Dataset, carrier: Carrier, identity: list[str]) -> Dataset:
    """Carry over what stays true: patient, study, geometry, acquisition; and name the object."""
    header = carrier.header(source, LEFT_TO_THE_SOURCE if is_enhanced(source) else ())
    header.SOPInstanceUID = _uid("instance", str(source.SOPInstanceUID), *identity)
    for keyword in MAPPED:
        if keyword in header:
            put(header, **{keyword: _uid(keyword, text(source, keyword), *identity)})
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    return header


def _description(source: Dataset, description: str | None) -> str:
    # One value: a backslash in the source's description would separate two.
    name = description or f"{text(source, 'SeriesDescription') or 'MR'} HS"
    name = _printable(name.replace("\\", "/"), source)
    return name if len(name) <= LONGEST_LO else name[: LONGEST_LO - 3] + " HS"


def _unwritable(source: Dataset, keyword: str) -> list[BaseTag]:
    """Give the tag of a text of the source that loses characters where we make it our own."""
    kept = is_encodable(text(source, keyword), character_sets(source))
    return [] if kept else [Tag(keyword)]


def _printable(written: str, source: Dataset) -> str:
    """Write a text of our own on one line, in the characters that the source's objects have."""
    line = "".join(c if c.isprintable() else " " for c in written).strip()
    return encodable(line, character_sets(source))


def _describe(
    derived: Dataset,
    source: Dataset,
    provenance: Provenance,
    warnings: Sequence[str],
    remark: str,
) -> None:
    """Say what was done, with what, to which image."""
    model = f"{provenance.model_name} {provenance.model_version}"
    what = (
        f"Halfscan {provenance.software_version}: deep-learning noise reduction, model {model}, "
        f"strength {provenance.strength:g}"
    )
    circumstances = f". {printable(remark, LONGEST_REMARK)}" if remark else ""
    done = _printable(what + circumstances, source)
    before = text(source, "DerivationDescription")
    derived.DerivationDescription = _derivation_description(done, warnings, before, source)
    earlier = items(source, "DerivationCodeSequence")
    copier = Carrier(_is_big_endian(source))
    # Several items are steps one after the other (C.12.4).
    derived.DerivationCodeSequence = DicomSequence([*map(copier.copy, earlier), code(*SMOOTHING)])
    if is_enhanced(derived):
        derived.ImageType = frame_type(texts(source, "ImageType"))
        describe_frames(derived, source, done)
    else:
        derived.ImageType = ["DERIVED", "SECONDARY", *texts(source, "ImageType")[2:]]
        derived.SourceImageSequence = DicomSequence([source_image(source)])
    put(derived, **lossy_attributes(source))
    equipment = items(source, "ContributingEquipmentSequence")
    derived.ContributingEquipmentSequence = DicomSequence(
        [*map(copier.copy, equipment), _equipment(provenance, model)]
    )


def _derivation_description(
    done: str, warnings: Sequence[str], before: str, source: Dataset
) -> str:
    """Put into one short text what was done, what a reader should know, what was done before."""
    parts = [done]
    if warnings:
        parts.append(_printable(f"Warnings: {'; '.join(warnings)}", source))
    if before:
        parts.append(_printable(f"Before: {before}", source))
    written = ". ".join(parts)
    return written if len(written) <= LONGEST_ST else written[: LONGEST_ST - 3] + "..."


def _equipment(provenance: Provenance, model: str) -> Dataset:
    """Name this software and its network among the equipment (C.12.1)."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = DicomSequence([code(*PROCESSING_EQUIPMENT)])
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = model
    equipment.SoftwareVersions = provenance.software_version
    equipment.ContributionDescription = f"ONNX model sha256 {provenance.model_sha256}"
    return equipment
