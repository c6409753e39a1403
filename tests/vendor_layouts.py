"""The headers that scanners write about acceleration, built from nothing; all values are made up.

Each function writes one export of one vendor as pydicom holds it in memory; `vendor_table` lists
them with what they say. `moved`, `implicit`, `unknown` and `without_creators` make of any of them
what archives and anonymisers make of it.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from io import BytesIO
from typing import Any

from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RawDataStorage

from dicom_maker import add_averages, add_modifier, enhanced_object, mr_object

Blocks = Mapping[tuple[int, str], Mapping[int, tuple[str, Any]]]

SIEMENS_TEXT = (0x0051, "SIEMENS MR HEADER")
SIEMENS_CSA = (0x0029, "SIEMENS CSA HEADER")
SIEMENS_SERIES = (0x0021, "SIEMENS MR SDS 01")
SIEMENS_IMAGE = (0x0021, "SIEMENS MR SDI 02")
GE = (0x0043, "GEMS_PARM_01")
PHILIPS_COMBINATION = (0x2005, "Philips MR Imaging DD 001")
PHILIPS_NESTED = (0x2005, "Philips MR Imaging DD 005")
PHILIPS_TECHNIQUE = (0x2005, "Philips MR Imaging DD 008")
CANON = (0x700D, "CANON_MEC_MR3^10")
UIH = (0x0065, "Image Private Header")


def add_blocks(place: Dataset, blocks: Blocks, *, first: int = 0x10) -> Dataset:
    """Write private blocks, one after the other, from block number `first` on."""
    for number, ((group, creator), contents) in enumerate(blocks.items(), first):
        place.add_new(Tag(group, number), "LO", creator)
        for low, (vr, value) in contents.items():
            place.add_new(Tag(group, (number << 8) + low), vr, value)
    return place


def item(**attributes: Any) -> Dataset:
    """Make an item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def protocol_text(values: Mapping[str, Any], *, style: str = "XA") -> bytes:
    """Write a protocol as Siemens does, within data that are no text."""
    if style == "VB":
        begin = "### ASCCONV BEGIN ###"
        lines = [f"{name:<40} = {value}" for name, value in values.items()]
    else:
        begin = "### ASCCONV BEGIN object=MrProtDataImpl@MrProtocolData version=41340006 ###"
        lines = [f"{name}\t = \t{value}" for name, value in values.items()]
    text = "\n".join([begin, "ulVersion\t = \t51130001", *lines, "### ASCCONV END ###"])
    if style == "XA":
        return b'<XProtocol> \n{\n <Name> "PhoenixMetaProtocol" \n' + text.encode() + b"\n}\n\0"
    return (
        b"SV10\4\3\2\1\2\0\0\0M\0\0\0MrPhoenixProtocol\0\xff\xfe" + text.encode() + b"\n\0\xcd" * 9
    )


def siemens_classic(
    text: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    *,
    style: str = "VE",
    **attributes: Any,
) -> Dataset:
    """VB, VD and VE: the text in (0051,xx11), the protocol in the CSA header."""
    header = mr_object(Manufacturer="SIEMENS", SoftwareVersions="syngo MR E11", **attributes)
    shown: dict[int, tuple[str, Any]] = {0x08: ("CS", "IMAGE NUM 4"), 0x0B: ("LO", "90*90")}
    if text is not None:
        shown[0x11] = ("LO", text)
    blocks: dict[tuple[int, str], Mapping[int, tuple[str, Any]]] = {SIEMENS_TEXT: shown}
    if protocol is not None:
        blocks[SIEMENS_CSA] = {
            0x08: ("CS", "IMAGE NUM 4"),
            0x20: ("OB", protocol_text(protocol, style=style)),
        }
    return add_blocks(header, blocks)


def _xa_blocks(
    text: str | None, protocol: Mapping[str, Any] | None, image_type: Sequence[str]
) -> tuple[dict[int, tuple[str, Any]], dict[int, tuple[str, Any]]]:
    series: dict[int, tuple[str, Any]] = {0x01: ("IS", "90"), 0x33: ("SH", "GC25")}
    image: dict[int, tuple[str, Any]] = {0x06: ("LO", "X_1_1_1"), 0x58: ("SH", "64*64")}
    if text is not None:
        series[0x09] = image[0x56] = ("LO", text)
    if protocol is not None:
        series[0x19] = ("OB", protocol_text(protocol))
    if image_type:
        image[0x75] = ("CS", list(image_type))
        # Says what the scanner could have done: no marker of deep learning.
        image[0x76] = ("LO", ["ChannelMixing:ND=true_CMM=1_CDM=1", "ACCAlgo:9"])
    return series, image


def siemens_xa_classic(
    text: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    *,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "NONE"),
    **attributes: Any,
) -> Dataset:
    """XA, classic: private blocks at the top level; the old block stays, without the text."""
    header = mr_object(
        Manufacturer="Siemens Healthineers", SoftwareVersions="syngo MR XA30", **attributes
    )
    series, image = _xa_blocks(text, protocol, image_type)
    old = {0x08: ("CS", "IMAGE NUM X"), 0x09: ("LO", "1.0")}
    return add_blocks(header, {SIEMENS_SERIES: series, SIEMENS_IMAGE: image, SIEMENS_TEXT: old})


def siemens_xa_enhanced(
    text: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    *,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "NORM"),
    kind: str = "2D",
    **modifier: Any,
) -> Dataset:
    """XA, enhanced: public attributes and private sequences in the functional groups."""
    header = enhanced_object(
        Manufacturer="Siemens Healthineers",
        SoftwareVersions="syngo MR XA51",
        MRAcquisitionType=kind,
        ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"],
    )
    add_averages(add_modifier(header, **modifier), 1)
    series, image = _xa_blocks(text, protocol, image_type)
    shared, frame = (
        add_blocks(Dataset(), {SIEMENS_SERIES: series}),
        add_blocks(Dataset(), {SIEMENS_IMAGE: image}),
    )
    add_blocks(
        header.SharedFunctionalGroupsSequence[0],
        {SIEMENS_SERIES: {0xFE: ("SQ", DicomSequence([shared]))}},
    )
    for group in header.PerFrameFunctionalGroupsSequence:
        contents = {0xFE: ("SQ", DicomSequence([deepcopy(frame)]))}
        add_blocks(group, {SIEMENS_IMAGE: contents}, first=0x11)
    return header


def ge(
    reciprocals: Sequence[str] | None = ("1", "1"),
    parallel: Sequence[str] | None = ("10000", "0", "-1", "0", "", "NO", ""),
    *,
    bands: Sequence[str] | None = None,
    hypersense: Sequence[str] | None = ("1", "0", "3", "0"),
    recon_dl: Sequence[str] | None = None,
    release: str = "MR29.1_EA_2039.g",
    options: Sequence[str] = ("EDR_GEMS", "ACC_GEMS"),
    **attributes: Any,
) -> Dataset:
    """GE: everything in one private block."""
    header = mr_object(
        Manufacturer="GE MEDICAL SYSTEMS",
        SoftwareVersions=["29", "LX", release],
        ScanOptions=list(options),
        **attributes,
    )
    contents: dict[int, tuple[str, Any]] = {0x01: ("SS", 4)}
    for low, vr, values in (
        (0x83, "DS", reciprocals),
        (0x84, "LO", parallel),
        (0xB6, "LO", bands),
        (0xB7, "LO", hypersense),
        (0xCA, "LO", recon_dl),
    ):
        if values is not None:
            contents[low] = (vr, list(values))
    return add_blocks(header, {GE: contents})


def philips_factors(
    in_plane: float = 1.0, along_slices: float = 1.0, technique: str | None = None, flag: str = "NO"
) -> dict[str, Any]:
    """Give the attributes that Philips writes together."""
    factors: dict[str, Any] = {
        "ParallelReductionFactorInPlane": in_plane,
        "ParallelAcquisition": flag,
        "PartialFourier": "NO",
        "ParallelReductionFactorOutOfPlane": along_slices,
        "ParallelReductionFactorSecondInPlane": 1.0,
    }
    if technique is not None:
        factors["ParallelAcquisitionTechnique"] = technique
    return factors


def philips_classic(
    factors: Mapping[str, Any] | None,
    combination: str | None = "SENSE",
    *,
    release: str = "5.7.1",
    **attributes: Any,
) -> Dataset:
    """Philips up to 5.7, classic: the standard's attributes in a private sequence."""
    header = mr_object(
        Manufacturer="Philips", SoftwareVersions=[release, f"{release}.3"], **attributes
    )
    contents: dict[int, tuple[str, Any]] = {0x00: ("FL", 0.0), 0x0F: ("DS", "1070")}
    if combination is not None:
        contents[0xA1] = ("CS", combination)
    blocks: dict[tuple[int, str], Mapping[int, tuple[str, Any]]] = {PHILIPS_COMBINATION: contents}
    if factors is not None:
        nested = DicomSequence([item(PulseSequenceName="FFE", **factors)])
        blocks[PHILIPS_NESTED] = {0x00: ("CS", "NO"), 0x0F: ("SQ", nested)}
    return add_blocks(header, blocks)


def philips_enhanced(
    factors: Mapping[str, Any],
    *,
    smart_speed: str | None = None,
    release: str = "11.0.0",
    top_level: bool = True,
    kind: str = "2D",
) -> Dataset:
    """Philips enhanced: at the top level and nested; the modifier has no factor (release 11)."""
    header = enhanced_object(
        Manufacturer="Philips",
        SoftwareVersions=[release, f"{release}.0"],
        MRAcquisitionType=kind,
        **(factors if top_level else {}),
    )
    shared = header.SharedFunctionalGroupsSequence[0]
    shared.MRAveragesSequence = DicomSequence([item(NumberOfAverages=1)])
    modifier = {name: factors[name] for name in ("ParallelAcquisition", "PartialFourier")}
    add_modifier(header, **modifier)
    nested = {name: value for name, value in factors.items() if name != "ParallelAcquisition"}
    contents = {0x0E: ("SQ", DicomSequence([item(**nested)]))}
    add_blocks(shared, {PHILIPS_NESTED: contents})
    combination = "SYN_COCA" if factors["ParallelAcquisition"] == "NO" else "SENSE"
    for group in header.PerFrameFunctionalGroupsSequence:
        frame = add_blocks(item(), {PHILIPS_COMBINATION: {0xA1: ("CS", combination)}})
        add_blocks(group, {PHILIPS_NESTED: {0x0F: ("SQ", DicomSequence([frame]))}})
    if smart_speed is not None:
        add_blocks(header, {PHILIPS_TECHNIQUE: {0x10: ("CS", smart_speed)}}, first=0x11)
    return header


def canon(protocol: Mapping[str, int] | None = None, **attributes: Any) -> Dataset:
    """Canon V6.1, classic: the standard's attributes at the top level; the console's protocol."""
    header = mr_object(
        **{"Manufacturer": "CANON_MEC", "SoftwareVersions": "V6.1SP3002*", **attributes}
    )
    if protocol is not None:
        lines = [f"      <{name}>{value}</{name}>" for name, value in protocol.items()]
        text = "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<PAS>", *lines, "</PAS>"])
        add_blocks(header, {CANON: {0x14: ("SL", 0), 0x19: ("OB", text.encode())}}, first=0x11)
    return header


def canon_enhanced(**modifier: Any) -> Dataset:
    """Canon V6.1, enhanced."""
    header = enhanced_object(Manufacturer="CANON_MEC", SoftwareVersions="V6.1SP3002*")
    return add_averages(add_modifier(header, **modifier), 1)


def toshiba(**attributes: Any) -> Dataset:
    """Toshiba V5.0: no factor."""
    return mr_object(Manufacturer="TOSHIBA_MEC", SoftwareVersions="V5.0SP0001*", **attributes)


def uih(text: str | None, *, release: str = "R002", **attributes: Any) -> Dataset:
    """Write UIH's private header, with (0065,xx0D) where `text` is given."""
    header = mr_object(
        Manufacturer="UIH", SoftwareVersions=release, AcquisitionDuration=21000.0, **attributes
    )
    contents: dict[int, tuple[str, Any]] = {0x04: ("SH", "64*64")}
    if text is not None:
        contents[0x0D] = ("SH", text)
    return add_blocks(header, {UIH: contents})


def philips_enhanced_raw() -> Dataset:
    """Philips' raw data: the attributes of a scan, and no image."""
    header = mr_object(Manufacturer="Philips", **philips_factors())
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = RawDataStorage
    return header


def moved(header: Dataset, by: int = 0x13) -> Dataset:
    """Move every private block to another number, in every item too."""
    result = Dataset()
    if hasattr(header, "file_meta"):
        result.file_meta = deepcopy(header.file_meta)
    for found in deepcopy(header):
        if found.VR == "SQ":
            found.value = DicomSequence([moved(place, by) for place in found.value])
        tag = found.tag
        if tag.is_private:
            low_creator = tag.element <= 0xFF
            shift = by if low_creator else by << 8
            tag = Tag(tag.group, tag.element + shift)
        # Some scanners write values that their own VR does not allow: they are taken as they are.
        result[tag] = DataElement(tag, found.VR, found.value, already_converted=True)
    return result


def without_creators(header: Dataset) -> Dataset:
    """Remove every private creator and keep the elements, as careless anonymisers do."""
    result = deepcopy(header)
    _remove_creators(result)
    return result


def _remove_creators(place: Dataset) -> None:
    for found in list(place):
        if found.tag.is_private and found.tag.element <= 0xFF:
            del place[found.tag]
        elif found.VR == "SQ":
            for inner in found.value:
                _remove_creators(inner)


def implicit(header: Dataset) -> Dataset:
    """Give an object as it comes from a file with implicit VR."""
    return _through_a_file(header, ImplicitVRLittleEndian)


def unknown(header: Dataset) -> Dataset:
    """Give it as it comes from an archive that wrote such a file on with explicit VR."""
    return _through_a_file(implicit(header), ExplicitVRLittleEndian)


def _through_a_file(header: Dataset, syntax: UID) -> Dataset:
    result = deepcopy(header)
    result.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, result, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)
