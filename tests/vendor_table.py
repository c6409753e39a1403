"""What each vendor's header says about acceleration, on and off, and what is easily mistaken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydicom import Dataset

from dicom_maker import mr_object
from vendor_layouts import (
    canon,
    canon_enhanced,
    ge,
    philips_classic,
    philips_enhanced,
    philips_enhanced_raw,
    philips_factors,
    siemens_classic,
    siemens_xa_classic,
    siemens_xa_enhanced,
    toshiba,
    uih,
)

PRODUCT = '""%SiemensSeq%\\\\tse""'
PAT_OFF = {"sPat.lAccelFactPE": 1, "sPat.lAccelFact3D": 1, "sPat.ucPATMode": 1}
ONE_BAND = {"sSliceAcceleration.lMultiBandFactor": 1}
OFF = {"in_plane_factor": 1.0, "slice_factor": 1.0, "compressed_sensing_factor": 1.0}
AVERAGES = {"averages": 1.0}
ONE = {"slice_factor": 1.0, "multiband_factor": 1.0, "compressed_sensing_factor": 1.0}


@dataclass(frozen=True)
class Layout:
    """A header and what it says.

    `facts` holds what is known; whatever it does not name is None. `private` says whether any of
    it rests on private elements that need their creator.
    """

    name: str
    make: Callable[[], Dataset]
    accelerated: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    private: bool = True


GRAPPA_2: dict[str, Any] = {
    "sPat.lAccelFactPE": 2,
    "sPat.lAccelFact3D": 1,
    "sPat.ucPATMode": 2,
    **ONE_BAND,
}
GRAPPA_2_VB: dict[str, Any] = {**GRAPPA_2, "sPat.ucPATMode": "0x2", "tSequenceFileName": PRODUCT}
del GRAPPA_2_VB["sSliceAcceleration.lMultiBandFactor"]
GRAPPA_ALONG_SLICES: dict[str, Any] = {**GRAPPA_2, "sPat.lAccelFactPE": 1, "sPat.lAccelFact3D": 2}
COMPRESSED_SENSING: dict[str, Any] = {
    **PAT_OFF,
    **ONE_BAND,
    "sPat.ucPATMode": 256,
    "sPat.dTotalAccelFact": 4.0,
}
# The total alone says nothing: it reads 2.0 on a p3 scan, and defaults of what was off stay.
GRAPPA_3: dict[str, Any] = {
    **GRAPPA_2,
    "sPat.lAccelFactPE": 3,
    "sPat.dTotalAccelFact": 2.0,
    "MrAdvancedReconstruction.sDeepResolveBoost.lDenoisingStrength": 2,
    "MrAdvancedReconstruction.sIterativeDenoising.lDenoisingStrength": 3,
}
SMS_2: dict[str, Any] = {**PAT_OFF, "sPat.ucPATMode": 32, "sSliceAcceleration.lMultiBandFactor": 2}
CMRR: dict[str, Any] = {**GRAPPA_2, "tSequenceFileName": '""%CustomerSeq%\\\\cmrr_mbep2d_bold""'}
DEEP_RESOLVE = ["ORIGINAL", "PRIMARY", "M", "NORM", "DRS", "DIS2D", "DRB", "MFSPLIT"]
SIEMENS_ON: dict[str, Any] = {"in_plane_factor": 2.0, **ONE, "deep_learning": False}
SIEMENS_OFF: dict[str, Any] = {**OFF, "deep_learning": False}
TEXT_2: dict[str, Any] = {"in_plane_factor": 2.0, "slice_factor": 1.0, "deep_learning": False}
TEXT_ABSENT: dict[str, Any] = {**TEXT_2, "in_plane_factor": 1.0}
PAT: dict[str, Any] = {"ParallelAcquisition": "YES", "ParallelReductionFactorOutOfPlane": 1.0}
TWO_PUBLIC: dict[str, Any] = {**PAT, "ParallelReductionFactorInPlane": 2.0}
ONE_PUBLIC: dict[str, Any] = {**PAT, "ParallelReductionFactorInPlane": 1.0}
SIEMENS: list[Layout] = [
    Layout("VE text p2", lambda: siemens_classic("p2"), True, TEXT_2),
    Layout("VE text p4", lambda: siemens_classic("p4"), True, {**TEXT_2, "in_plane_factor": 4.0}),
    Layout("VE text absent", siemens_classic, False, TEXT_ABSENT),
    Layout(
        "VE text s4",
        lambda: siemens_classic("s4"),
        False,
        {**TEXT_ABSENT, "multiband_factor": 4.0},
    ),
    Layout(
        "VE text of a volume",
        lambda: siemens_classic("p2", MRAcquisitionType="3D"),
        True,
        {"deep_learning": False},
    ),
    Layout("VE protocol p2", lambda: siemens_classic("p2", GRAPPA_2), True, SIEMENS_ON),
    Layout("VE protocol alone", lambda: siemens_classic(None, GRAPPA_2), True, SIEMENS_ON),
    Layout(
        "VE protocol off",
        lambda: siemens_classic(None, {**PAT_OFF, **ONE_BAND}),
        False,
        {**SIEMENS_OFF, "multiband_factor": 1.0},
    ),
    Layout(
        "VB protocol in hex",
        lambda: siemens_classic("p2", GRAPPA_2_VB, style="VB"),
        True,
        SIEMENS_ON,
    ),
    Layout(
        "VE text is the total of a volume",
        lambda: siemens_classic("p2", GRAPPA_ALONG_SLICES, MRAcquisitionType="3D"),
        True,
        {**SIEMENS_ON, "in_plane_factor": 1.0, "slice_factor": 2.0},
    ),
    Layout(
        "VE research sequence that writes no slices at once",
        lambda: siemens_classic("p2", {**CMRR, "sWipMemBlock.alFree[13]": 8}),
        True,
        {key: value for key, value in SIEMENS_ON.items() if key != "multiband_factor"},
    ),
    Layout(
        "VE research sequence, one slice at a time",
        lambda: siemens_classic("p2", {**CMRR, "sWipMemBlock.alFree[13]": 1}),
        True,
        SIEMENS_ON,
    ),
    Layout(
        "VE reformat: CSAPARALLEL is an orientation",
        lambda: siemens_classic(ImageType=["DERIVED", "SECONDARY", "MPR", "CSAPARALLEL"]),
        False,
        TEXT_ABSENT,
    ),
    Layout("XA classic p2", lambda: siemens_xa_classic("p2"), True, TEXT_2),
    Layout(
        "XA classic p2 s3",
        lambda: siemens_xa_classic("p2 s3"),
        True,
        {**TEXT_2, "multiband_factor": 3.0},
    ),
    Layout("XA classic absent", siemens_xa_classic, False, TEXT_ABSENT),
    Layout("XA classic protocol", lambda: siemens_xa_classic("p2", GRAPPA_2), True, SIEMENS_ON),
    Layout(
        "XA classic compressed sensing",
        lambda: siemens_xa_classic(None, COMPRESSED_SENSING, MRAcquisitionType="3D"),
        True,
        {**SIEMENS_ON, "in_plane_factor": 1.0, "compressed_sensing_factor": 4.0},
    ),
    Layout(
        "XA classic p3 with a total of 2",
        lambda: siemens_xa_classic("p3", GRAPPA_3),
        True,
        {**SIEMENS_ON, "in_plane_factor": 3.0},
    ),
    Layout(
        "XA classic Deep Resolve",
        lambda: siemens_xa_classic("p2", GRAPPA_2, ImageType=DEEP_RESOLVE),
        True,
        {**SIEMENS_ON, "deep_learning": True},
    ),
    Layout(
        "XA enhanced p2",
        lambda: siemens_xa_enhanced("p2", GRAPPA_2),
        True,
        {**SIEMENS_ON, **AVERAGES},
    ),
    Layout(
        "XA enhanced p2 sms1 whose technique says SMS",
        lambda: siemens_xa_enhanced(
            "p2",
            {**GRAPPA_2, "sPat.ucPATMode": 32},
            ParallelAcquisitionTechnique="SMS",
            **TWO_PUBLIC,
        ),
        True,
        {**SIEMENS_ON, **AVERAGES},
    ),
    Layout(
        "XA enhanced SMS alone",
        lambda: siemens_xa_enhanced(None, SMS_2, ParallelAcquisitionTechnique="SMS", **ONE_PUBLIC),
        False,
        {**OFF, **AVERAGES, "multiband_factor": 2.0, "deep_learning": False},
    ),
    Layout(
        "XA enhanced SMS without a protocol",
        lambda: siemens_xa_enhanced(ParallelAcquisitionTechnique="SMS", **ONE_PUBLIC),
        False,
        {**OFF, **AVERAGES, "deep_learning": False},
    ),
    Layout(
        "XA enhanced GRAPPA without private elements",
        lambda: siemens_xa_enhanced(
            image_type=(), ParallelAcquisitionTechnique="GRAPPA", **TWO_PUBLIC
        ),
        True,
        {**SIEMENS_ON, **AVERAGES, "multiband_factor": None, "deep_learning": None},
    ),
    Layout(
        "XA enhanced off",
        lambda: siemens_xa_enhanced(
            None, {**PAT_OFF, **ONE_BAND}, ParallelAcquisition="NO", PartialFourier="NO"
        ),
        False,
        {**SIEMENS_OFF, **AVERAGES, "multiband_factor": 1.0, "partial_fourier": False},
    ),
    Layout(
        "XA enhanced compressed sensing",
        lambda: siemens_xa_enhanced(
            None, COMPRESSED_SENSING, kind="3D", ParallelAcquisitionTechnique="CS", **ONE_PUBLIC
        ),
        True,
        {**SIEMENS_ON, **AVERAGES, "in_plane_factor": 1.0, "compressed_sensing_factor": 4.0},
    ),
    Layout(
        "XA enhanced compressed sensing without a protocol",
        lambda: siemens_xa_enhanced(kind="3D", ParallelAcquisitionTechnique="CS", **ONE_PUBLIC),
        True,
        {"in_plane_factor": 1.0, "slice_factor": 1.0, "deep_learning": False, **AVERAGES},
    ),
    Layout(
        "XA enhanced Deep Resolve",
        lambda: siemens_xa_enhanced(
            "p2", GRAPPA_2, image_type=["ORIGINAL", "PRIMARY", "M", "DRG", "NORM", "DRS", "DIS2D"]
        ),
        True,
        {**SIEMENS_ON, **AVERAGES, "deep_learning": True},
    ),
]


GE_OFF: dict[str, Any] = {**ONE, "in_plane_factor": 1.0, "deep_learning": False}
ASSET = ("10000", "2", "0", "0", "", "YES", "ASSET")


def ge_on(factor: float, along: float = 1.0) -> dict[str, Any]:
    return {**GE_OFF, "in_plane_factor": factor, "slice_factor": along}


GE: list[Layout] = [
    Layout("GE off", ge, False, GE_OFF),
    Layout(
        "GE off, but value 5 names a technique",
        lambda: ge(("1", "1"), ("10000", "0", "2", "1", "asset", "NO", "")),
        False,
        GE_OFF,
    ),
    Layout("GE 2", lambda: ge(("0.5", "1"), ASSET), True, ge_on(2.0)),
    Layout("GE 3", lambda: ge(("0.333333", "1"), ASSET), True, ge_on(3.0)),
    Layout(
        "GE 1.5, ACC_GEMS all the same", lambda: ge(("0.666667", "1"), ASSET), False, ge_on(1.5)
    ),
    Layout(
        "GE 2 x 2",
        lambda: ge(("0.5", "0.5"), MRAcquisitionType="3D"),
        True,
        ge_on(2.0, 2.0),
    ),
    Layout("GE along slices", lambda: ge(("1", "0.5"), MRAcquisitionType="3D"), True, ge_on(1, 2)),
    Layout(
        "GE without reciprocals, off",
        lambda: ge(None, hypersense=None, release="DV25.0_R02"),
        False,
        GE_OFF,
    ),
    Layout(
        "GE without reciprocals, on",
        lambda: ge(None, ASSET, MRAcquisitionType="3D"),
        None,
        {
            "multiband_factor": 1.0,
            "compressed_sensing_factor": 1.0,
            "deep_learning": False,
        },
    ),
    Layout(
        "GE HyperBand",
        lambda: ge(bands=("8", "4", "19", "", "", "", ""), options=("HYPERBAND_GEMS",)),
        False,
        {**GE_OFF, "multiband_factor": 8.0},
    ),
    Layout(
        "GE HyperSense",
        lambda: ge(("0.5", "1"), ASSET, hypersense=("1.24", "1", "10", "0")),
        True,
        {**ge_on(2.0), "compressed_sensing_factor": 1.24},
    ),
    Layout(
        "GE options that are on, but without their elements",
        lambda: ge(hypersense=None, options=("HYPERBAND_GEMS", "HYPERSENSE_GEMS")),
        False,
        {"in_plane_factor": 1.0, "slice_factor": 1.0, "deep_learning": False},
    ),
    *[
        Layout(
            f"GE AIR Recon DL {strength[1]}",
            partial(ge, recon_dl=strength),
            False,
            {**GE_OFF, "deep_learning": True},
        )
        for strength in (("0.75", "High"), ("0.5", "Medium"), ("0.3", "Low"))
    ],
    Layout("GE MR30 without DL", lambda: ge(release="SIGNA_LX1.MR30.1_DA_2305.a"), False, GE_OFF),
    Layout(
        "GE MR30 cine: Sonic DL perhaps",
        lambda: ge(release="MR30.1_R01", CardiacNumberOfImages=20),
        False,
        {**GE_OFF, "deep_learning": None},
    ),
    Layout(
        "GE half NEX",
        lambda: ge(("0.5", "1"), NumberOfAverages="0.5625", options=("ACC_GEMS", "PFP")),
        True,
        {**ge_on(2.0), "averages": 0.5625, "partial_fourier": True},
    ),
]


def philips_says(
    factor: float, along: float = 1.0, bands: float = 1.0, cs: float = 1.0
) -> dict[str, Any]:
    return {
        "in_plane_factor": factor,
        "slice_factor": along,
        "multiband_factor": bands,
        "compressed_sensing_factor": cs,
        "partial_fourier": False,
        "deep_learning": False,
    }


SENSE_2 = philips_factors(2.0, 1.0, "SENSE", "YES")
SENSE_OFF = philips_factors()
CSENSE_4 = philips_factors(4.0, 1.0, "CSENSE", "YES")
MBSENSE_3 = philips_factors(1.5, 3.0, "MBSENSE", "YES")
PHILIPS: list[Layout] = [
    Layout("Philips classic SENSE", lambda: philips_classic(SENSE_2), True, philips_says(2.0)),
    Layout(
        "Philips classic off",
        lambda: philips_classic(SENSE_OFF, "SYN_COCA"),
        False,
        philips_says(1.0),
    ),
    Layout(
        "Philips classic off with a stale technique",
        lambda: philips_classic(philips_factors(technique="SENSE"), "SYN_COCA"),
        False,
        philips_says(1.0),
    ),
    Layout(
        "Philips classic YES with every factor 1.0",
        lambda: philips_classic(philips_factors(technique="SENSE", flag="YES")),
        False,
        philips_says(1.0),
    ),
    Layout(
        "Philips classic CSENSE", lambda: philips_classic(CSENSE_4), True, philips_says(4.0, cs=4.0)
    ),
    Layout(
        "Philips classic stale CSENSE",
        lambda: philips_classic(philips_factors(technique="CSENSE"), "SYN_COCA"),
        False,
        philips_says(1.0),
    ),
    Layout(
        "Philips classic MBSENSE",
        lambda: philips_classic(MBSENSE_3),
        False,
        philips_says(1.5, bands=3.0),
    ),
    Layout(
        "Philips classic volume with SENSE in both directions",
        lambda: philips_classic(philips_factors(2.0, 1.5, "SENSE", "YES"), MRAcquisitionType="3D"),
        True,
        philips_says(2.0, 1.5),
    ),
    Layout(
        "Philips classic, only the combination: off",
        lambda: philips_classic(None, "SYN_COCA"),
        False,
        {**OFF, "multiband_factor": 1.0, "deep_learning": False},
    ),
    Layout(
        "Philips classic, only the combination: on",
        lambda: philips_classic(None, MRAcquisitionType="3D"),
        None,
        {"deep_learning": False},
    ),
    Layout(
        "Philips enhanced R11 off",
        lambda: philips_enhanced(SENSE_OFF, smart_speed="NONE"),
        False,
        {**philips_says(1.0), **AVERAGES},
    ),
    Layout(
        "Philips enhanced R11 SmartSpeed AI",
        lambda: philips_enhanced(
            philips_factors(2.0, 1.0, "CSENSE", "YES"), smart_speed="CS_SENSE_AI"
        ),
        True,
        {**philips_says(2.0, cs=2.0), **AVERAGES, "deep_learning": True},
    ),
    Layout(
        "Philips enhanced R11 without the top level",
        lambda: philips_enhanced(SENSE_2, smart_speed="SENSE", top_level=False),
        True,
        {**philips_says(2.0), **AVERAGES},
    ),
    Layout(
        "Philips enhanced R11 that does not name SmartSpeed",
        lambda: philips_enhanced(SENSE_2),
        True,
        {**philips_says(2.0), **AVERAGES, "deep_learning": None},
    ),
    Layout(
        "Philips enhanced 5.6 MBSENSE",
        lambda: philips_enhanced(MBSENSE_3, release="5.6.1"),
        False,
        {**philips_says(1.5, bands=3.0), **AVERAGES},
    ),
    Layout(
        "Philips enhanced volume with a stale MBSENSE",
        lambda: philips_enhanced(
            philips_factors(1.0, 2.0, "MBSENSE", "YES"),
            kind="3D",
            release="5.6.1",
        ),
        True,
        {**philips_says(1.0, 2.0), **AVERAGES, "multiband_factor": None},
    ),
    Layout(
        "Philips Gyroscan of the 1990s",
        lambda: mr_object(
            Manufacturer="Philips",
            ManufacturerModelName="T5",
            SoftwareVersions="RTNC1",
            NumberOfAverages="4",
        ),
        False,
        {**ONE, "in_plane_factor": 1.0, "averages": 4.0, "deep_learning": False},
        private=False,
    ),
]


SPEEDER_2: dict[str, Any] = {
    "ParallelAcquisition": "YES",
    "ParallelReductionFactorInPlane": 2.0,
    "ParallelAcquisitionTechnique": "SPEEDER",
}
SPEEDER_FLAG: dict[str, Any] = {
    "ParallelAcquisition": "YES",
    "ParallelAcquisitionTechnique": "SPEEDER",
}
CANON_ON: dict[str, Any] = {"in_plane_factor": 2.0, "slice_factor": 1.0}
ECHO_PLANAR: dict[str, Any] = {"ScanningSequence": ["SE", "EP"]}
NO_NOISE_REDUCTION: dict[str, Any] = {"MLTBF": 1, "NRFLG": 0, "NRSET": 786433, "DDLRSET": 1245186}
BEFORE_AICE: dict[str, Any] = {"compressed_sensing_factor": 1.0, "deep_learning": False}
UIH_R002: dict[str, Any] = {**ONE, "deep_learning": False}
OTHERS: list[Layout] = [
    Layout("Canon V6.1", lambda: canon(**SPEEDER_2), True, CANON_ON, private=False),
    Layout(
        "Canon V6.1 off",
        lambda: canon(ParallelAcquisition="NO"),
        False,
        {"in_plane_factor": 1.0, "slice_factor": 1.0},
        private=False,
    ),
    Layout(
        "Canon V6.1 echo-planar with the console's protocol",
        lambda: canon(NO_NOISE_REDUCTION, **SPEEDER_2, **ECHO_PLANAR),
        True,
        {**CANON_ON, **ONE, "deep_learning": False},
    ),
    Layout(
        "Canon V6.1 with a noise reduction, AiCE perhaps",
        lambda: canon({**NO_NOISE_REDUCTION, "NRFLG": 4, "MLTBF": 2}, **SPEEDER_2),
        True,
        {**CANON_ON, "multiband_factor": 2.0},
    ),
    Layout(
        "Canon V6.1 enhanced",
        lambda: canon_enhanced(**{**SPEEDER_2, "ParallelAcquisitionTechnique": "OTHER"}),
        True,
        {**CANON_ON, "averages": 1.0},
        private=False,
    ),
    Layout(
        "Toshiba V5.0: accelerated, factor unknown",
        lambda: toshiba(MRAcquisitionType="3D", **SPEEDER_FLAG),
        True,
        BEFORE_AICE,
        private=False,
    ),
    Layout(
        "Toshiba V5.0 off",
        lambda: toshiba(ParallelAcquisition="NO"),
        False,
        {**BEFORE_AICE, "in_plane_factor": 1.0, "slice_factor": 1.0},
        private=False,
    ),
    Layout("UIH F:2S", lambda: uih("F:2S"), True, {**UIH_R002, "in_plane_factor": 2.0}),
    Layout("UIH F:2.50", lambda: uih("F:2.50"), True, {**UIH_R002, "in_plane_factor": 2.5}),
    Layout(
        "UIH of a later release",
        lambda: uih("F:1.5", release="R005"),
        False,
        {**ONE, "in_plane_factor": 1.5},
    ),
    Layout(
        "UIH absent",
        lambda: uih(None, MRAcquisitionType="3D"),
        None,
        {"deep_learning": False},
    ),
    Layout(
        "no acquisition at all",
        lambda: mr_object(Manufacturer="BIOLAB", MRAcquisitionType=None, ScanOptions=None),
        None,
        private=False,
    ),
    Layout(
        "raw data",
        philips_enhanced_raw,
        None,
        private=False,
    ),
]


LAYOUTS = [*SIEMENS, *GE, *PHILIPS, *OTHERS]
