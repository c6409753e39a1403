"""Volume and source headers to derived DICOM objects, one for each object of the source.

Classic objects give classic ones, multi-frame objects give multi-frame ones with the frames in the
source's order, mosaics give mosaics. What a derived object says of itself follows PS3.3: ImageType
(C.7.6.1.1.2), DerivationDescription, DerivationCodeSequence and SourceImageSequence (C.12.4 General
Reference), ContributingEquipmentSequence (C.12.1 SOP Common), and for single frames
`multiframe`. What it keeps of its source: `carry` and `private`. Codes: `references`.
``docs/derived.md`` lists all of it, attribute by attribute.

Everything is a function of the source, the model and the settings: doing it twice gives the same
bytes, so a repeated attempt stores nothing twice. The UIDs are a function of all of it, pixels
included: another content never hides behind a UID that an archive has already.

A derived object names its source twice: by UID, as the standard has it, and by a digest of the
pixel values that it was made from. Copies, corrections and merges in an archive give new UIDs and
leave the pixels as they are.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, generate_uid

from halfscan_plugin.carry import MAPPED, WRITTEN, Carrier
from halfscan_plugin.charsets import character_sets, encodable, is_encodable, keep_texts
from halfscan_plugin.encode import Syntax, lossy_attributes, set_pixels, target_syntax
from halfscan_plugin.enhanced import is_enhanced
from halfscan_plugin.headers import element, items, printable, text, texts, uid
from halfscan_plugin.multiframe import (
    LEFT_TO_THE_SOURCE,
    describe_frames,
    frame_type,
    keep_frames,
    renumber_concatenations,
)
from halfscan_plugin.overlays import add_overlay_data, embedded_overlays
from halfscan_plugin.pixels import cells_of
from halfscan_plugin.references import PROCESSING_EQUIPMENT, SMOOTHING, code, put, source_image
from halfscan_plugin.volume import SeriesVolume, stored_object

__all__ = [
    "Derivation",
    "DerivedSeries",
    "Origin",
    "Provenance",
    "default_description",
    "derive",
    "is_halfscan_output",
    "pixel_digest",
    "source_pixels",
    "source_uids",
]

MANUFACTURER = "Halfscan"
# Changes when the same source and model shall give other objects than before: that is, with every
# change of what is written here or of what `Reconstructor` computes around the network.
DERIVATION_VERSION = 4
LONGEST_LO, LONGEST_ST = 64, 1024  # characters, PS3.5 section 6.2
LONGEST_REMARK = 300  # leaves room for warnings and for what was done before
SOURCE_PIXELS = re.compile(r"source pixels sha256 ([0-9a-f]{64})")


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
        Its objects, one for each of the source that is in a whole volume, in the same order.
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


def source_uids(header: Dataset) -> list[str]:
    """Give the SOPInstanceUIDs of the images that an object says it was derived from.

    Those of SourceImageSequence, at the top level and in the functional groups of frames.
    """
    groups = [
        group
        for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in items(header, name)
    ]
    places = [header, *(d for g in groups for d in items(g, "DerivationImageSequence"))]
    sources = (image for place in places for image in items(place, "SourceImageSequence"))
    uids = (text(image, "ReferencedSOPInstanceUID") for image in sources)
    return list(dict.fromkeys(uid for uid in uids if uid))


def source_pixels(header: Dataset) -> str | None:
    """Give the digest of the pixels that an object of Halfscan's says it was made from.

    Of the last step, where Halfscan was at work more than once; None where nothing says so.
    """
    for item in reversed(items(header, "ContributingEquipmentSequence")):
        noted = SOURCE_PIXELS.search(text(item, "ContributionDescription"))
        if text(item, "Manufacturer") == MANUFACTURER and noted is not None:
            return noted[1]
    return None


def pixel_digest(source: SeriesVolume, index: int) -> str:
    """Name the pixel values of one object: SHA-256 over its images in the order of its frames.

    Parameters
    ----------
    source : SeriesVolume
        The series.
    index : int
        Which object of `source.sources`.

    Returns
    -------
    str
        Hexadecimal; of the decoded values, so that compression changes nothing.
    """
    digest = hashlib.sha256()
    images = [
        (place.frame, number) for number, place in enumerate(source.slices) if place.source == index
    ]
    for frame, number in sorted(images):
        image = np.ascontiguousarray(source.stored[number], dtype="<i8")
        digest.update(f"{frame}:{image.shape}:".encode())
        digest.update(image.data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """What a derived series was made from, as its objects say.

    Parameters
    ----------
    pixels : frozenset of str
        Digests of the pixels; empty where an object does not name them any more, since an archive
        that anonymises removes the text in which they stand.
    uids : frozenset of str
        SOPInstanceUIDs of the images; an archive that corrects or merges copies them as they are,
        one that anonymises maps them.
    networks : frozenset of str
        Names of the networks that made it: what another one made is no copy.
    """

    pixels: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, headers: Iterable[Dataset]) -> Self:
        """Read it from the objects of a derived series."""
        objects = list(headers)
        pixels = {source_pixels(header) for header in objects}
        uids = (uid for header in objects for uid in source_uids(header))
        named = frozenset(digest for digest in pixels if digest is not None)
        networks = frozenset(map(_network, objects))
        return cls(frozenset() if None in pixels else named, frozenset(uids), networks)

    def lies_in(self, other: "Origin") -> bool:
        """Tell whether a network made another series from the same images, or these and more."""
        if self.networks != other.networks:
            return False
        same_pixels = bool(self.pixels) and self.pixels <= other.pixels
        return same_pixels or (bool(self.uids) and self.uids <= other.uids)


def _network(header: Dataset) -> str:
    """Give the name of the network that made an object: the last step's, without its version."""
    models = [
        text(item, "ManufacturerModelName")
        for item in items(header, "ContributingEquipmentSequence")
        if text(item, "Manufacturer") == MANUFACTURER
    ]
    return models[-1].split(" ")[0] if models else ""


class Derivation:
    """All that a derived series follows from.

    Parameters
    ----------
    source : SeriesVolume
        The series that was reconstructed.
    result : ndarray, float32, shape (slice, row, column)
        The reconstructed volume on the source's scale.
    provenance : Provenance
        What made it.
    description : str, optional
        SeriesDescription; the source's own with ``HS`` appended where None.
    warnings : sequence of str
        What a reader should know; added to DerivationDescription.
    syntax : {"uncompressed", "source"}
        Explicit VR Little Endian, or the source's own lossless compression where it has one that
        can be written.
    remark : str
        Under which circumstances it was made, such as on demand; stands behind what was done.

    Raises
    ------
    ValueError
        If `result` has another shape than the source, or is not finite.
    """

    def __init__(
        self,
        source: SeriesVolume,
        result: npt.NDArray[np.float32],
        provenance: Provenance,
        *,
        description: str | None = None,
        warnings: Sequence[str] = (),
        syntax: Syntax = "uncompressed",
        remark: str = "",
    ) -> None:
        if result.shape != source.shape:
            raise ValueError(f"result has shape {result.shape}, the source {source.shape}")
        if not np.isfinite(result).all():
            raise ValueError("the result holds values that are not finite")
        self._source, self._result, self._provenance = source, result, provenance
        self._description, self._warnings = description, tuple(warnings)
        self._syntax, self._remark = syntax, remark
        self._pixels = [pixel_digest(source, index) for index in range(len(source.sources))]
        self._content = self._digest()

    def series_uid(self, series_number: int) -> str:
        """Give the SeriesInstanceUID under a SeriesNumber, as `write` gives it."""
        return _uid("series", *self._identity(series_number))

    def write(self, series_number: int) -> DerivedSeries:
        """Write the objects, one for each of the source.

        Parameters
        ----------
        series_number : int
            A number that is free in the study.
        """
        identity = self._identity(series_number)
        datasets, clipped, notes = [], 0, Counter[str]()
        # What a source's values break of the standard is the source's own affair: they stay.
        with disable_value_validation():
            for index in range(len(self._source.sources)):
                derived, beyond, said = self._object(index, series_number, identity)
                clipped += beyond
                notes.update(said)
                datasets.append(derived)
        renumber_concatenations(datasets)
        total = len(datasets)
        counted = (f"{note} (in {n} of {total} objects)" for note, n in sorted(notes.items()))
        return DerivedSeries(
            self.series_uid(series_number), tuple(datasets), clipped, tuple(counted)
        )

    def _object(
        self, index: int, series_number: int, identity: list[str]
    ) -> tuple[Dataset, int, list[str]]:
        """Write one object; give the pixels that were clipped and what could not be kept too."""
        original = self._source.sources[index]
        carrier = Carrier(_is_big_endian(original))
        derived = _header(original, carrier, identity)
        derived.SeriesInstanceUID = self.series_uid(series_number)
        derived.SeriesNumber = series_number
        derived.SeriesDescription = _description(original, self._description)
        self._describe(derived, index)
        notes = []
        if embedded_overlays(original):
            add_overlay_data(derived, original, cells_of(original))
            notes.append("overlays in unused bits of the pixels are carried over as OverlayData")
        pixels, clipped = stored_object(self._source, self._result, index)
        derived.BitsStored = self._source.bits[index]
        notes += _set_pixels(derived, pixels, original, self._syntax)
        carrier.note_texts(keep_texts(derived, character_sets(derived)))
        if self._description is None:
            carrier.note_texts(_unwritable(original, "SeriesDescription"))
        notes += [f"{name} could not be carried over whole" for name in carrier.left_out]
        return derived, clipped, notes

    def _identity(self, series_number: int) -> list[str]:
        # An archive keeps what it has under a UID: whatever changes the objects changes their UIDs.
        made_by = self._provenance
        return [
            str(DERIVATION_VERSION),
            str(self._source.sources[0].SeriesInstanceUID),
            self._content,
            made_by.software_version,
            f"{made_by.model_name} {made_by.model_version} {made_by.model_sha256}",
            f"{made_by.strength:.6f}",
            str(series_number),
            self._description or "",
            self._syntax,
            self._remark,
            "\n".join(self._warnings),
        ]

    def _digest(self) -> str:
        """Name what the source holds, headers and pixels, and what became of it."""
        objects = []
        with disable_value_validation():
            for original, pixels in zip(self._source.sources, self._pixels, strict=True):
                header = _written(_carried(original, Carrier(_is_big_endian(original))))
                # What is not carried because it is written anew, of what it was before.
                before = [str(element(original, keyword)) for keyword in WRITTEN]
                objects.append((before, hashlib.sha256(header).hexdigest(), pixels))
        digest = hashlib.sha256(repr(sorted(objects)).encode())
        digest.update(np.ascontiguousarray(self._result).data)
        return digest.hexdigest()

    def _describe(self, derived: Dataset, index: int) -> None:
        """Say what was done, with what, to which image."""
        source, made_by = self._source.sources[index], self._provenance
        model = f"{made_by.model_name} {made_by.model_version}"
        what = (
            f"Halfscan {made_by.software_version}: deep-learning noise reduction, model {model}, "
            f"strength {made_by.strength:g}"
        )
        circumstances = f". {printable(self._remark, LONGEST_REMARK)}" if self._remark else ""
        done = _printable(what + circumstances, source)
        before = text(source, "DerivationDescription")
        described = _derivation_description(done, self._warnings, before, source)
        derived.DerivationDescription = described
        earlier = items(source, "DerivationCodeSequence")
        copier = Carrier(_is_big_endian(source))
        # Several items are steps one after the other (C.12.4).
        derived.DerivationCodeSequence = DicomSequence(
            [*map(copier.copy, earlier), code(*SMOOTHING)]
        )
        if is_enhanced(derived):
            frames = self._source.frames(index)
            derived.ImageType = frame_type(texts(source, "ImageType"))
            keep_frames(derived, frames)
            describe_frames(derived, source, done, frames)
        else:
            derived.ImageType = ["DERIVED", "SECONDARY", *texts(source, "ImageType")[2:]]
            derived.SourceImageSequence = DicomSequence([source_image(source)])
        put(derived, **lossy_attributes(source))
        equipment = items(source, "ContributingEquipmentSequence")
        derived.ContributingEquipmentSequence = DicomSequence(
            [*map(copier.copy, equipment), _equipment(made_by, model, self._pixels[index])]
        )


def derive(
    source: SeriesVolume,
    result: npt.NDArray[np.float32],
    provenance: Provenance,
    *,
    series_number: int,
    **options: Any,
) -> DerivedSeries:
    """Write a reconstructed volume as derived objects: `Derivation` with a SeriesNumber."""
    return Derivation(source, result, provenance, **options).write(series_number)


def _set_pixels(
    derived: Dataset, pixels: npt.NDArray[np.integer[Any]], source: Dataset, syntax: Syntax
) -> list[str]:
    """Store the pixels in the syntax that is asked for; give what stood in the way."""
    wanted, note = target_syntax(source, syntax)
    failed = set_pixels(derived, pixels, wanted)
    return [reason for reason in (note, failed) if reason is not None]


def _uid(*parts: str) -> str:
    return str(generate_uid(entropy_srcs=list(parts)))


def _is_big_endian(source: Dataset) -> bool:
    return uid(getattr(source, "file_meta", Dataset()), "TransferSyntaxUID") == ExplicitVRBigEndian


def _carried(source: Dataset, carrier: Carrier) -> Dataset:
    return carrier.header(source, LEFT_TO_THE_SOURCE if is_enhanced(source) else ())


def _written(header: Dataset) -> bytes:
    """Encode a header that a carrier has copied, always in the same way."""
    buffer = BytesIO()
    dcmwrite(buffer, header, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def _header(source: Dataset, carrier: Carrier, identity: list[str]) -> Dataset:
    """Carry over what stays true: patient, study, geometry, acquisition; and name the object."""
    header = _carried(source, carrier)
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


def _equipment(provenance: Provenance, model: str, pixels: str) -> Dataset:
    """Name this software, its network and what it was given among the equipment (C.12.1)."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = DicomSequence([code(*PROCESSING_EQUIPMENT)])
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = model
    equipment.SoftwareVersions = provenance.software_version
    equipment.ContributionDescription = (
        f"ONNX model sha256 {provenance.model_sha256}; source pixels sha256 {pixels}"
    )
    return equipment
