r"""What a series was acquired for, where that is no picture of anatomy, and on what evidence.

Diffusion, perfusion, functional and flow series: what is evaluated is their noise or a small
difference of their signals, and the model card excludes them. Attributes tell, names never do:

- words in ImageType and FrameType (PS3.3 C.8.13.3.1.1, Siemens ``ORIGINAL\PRIMARY\ASL\NONE``,
  Philips ``M_PCA\M\PCA``), and AcquisitionContrast;
- a b-value above 0, a direction of diffusion or of velocity, a labelling of the blood, in the
  standard's attributes and in the vendors' own;
- the course over time: echo-planar images of one place, taken again and again, are functional,
  or perfusion where a contrast agent was given. With an agent and not echo-planar, only many time
  points are perfusion: the few phases of a liver or a breast are read as pictures.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydicom import DataElement, Dataset
from pydicom.tag import Tag

from halfscan_plugin.components import frame_types, image_type, image_types
from halfscan_plugin.headers import (
    as_number,
    integer,
    items,
    number,
    numbers,
    stripped_text,
    text,
    texts,
)
from halfscan_plugin.vendors.findings import Evidence, evidence_of, evidence_of_element, tag_text
from halfscan_plugin.vendors.places import Block, find, private_places

__all__ = ["TECHNIQUES", "find_technique"]

TECHNIQUES = ("diffusion", "perfusion", "functional", "flow")

# Words of ImageType, FrameType and AcquisitionContrast.
WORDS = {
    "ASL": "perfusion",
    "DIFFUSION": "diffusion",
    "FLOW_ENCODED": "flow",
    "FMRI": "functional",
    "M_PCA": "flow",
    "PCA": "flow",
    "PERFUSION": "perfusion",
}
# Enumerated values of DiffusionDirectionality (PS3.3 C.8.13.5.9) besides NONE.
DIRECTED = {"BMATRIX", "DIRECTIONAL", "ISOTROPIC"}
# Where vendors write the b-value; GE adds multiples of 1e9 to the first of several values.
B_VALUES = (
    (Block(0x0043, "GEMS_PARM_01"), 0x39),
    (Block(0x2001, "Philips Imaging DD 001"), 0x03),
    (Block(0x0019, "SIEMENS MR HEADER"), 0x0C),
    (Block(0x0065, "Image Private Header"), 0x09),
)
GE_B_FLAG = 1e9
# How the blood was labelled: GE "PSEUDOCONTINUOUS", Philips "LABEL" and "CONTROL".
LABELLING = (
    (Block(0x0043, "GEMS_PARM_01"), 0xA3, re.compile(r"CONTINUOUS|PULSED")),
    (Block(0x2005, "Philips MR Imaging DD 005"), 0x29, re.compile(r"\A(?:LABEL|CONTROL)\Z")),
)
VELOCITY = (Block(0x0019, "GEMS_ACQU_01"), 0xCC)  # encoding velocity
EPI_FACTOR = (Block(0x2001, "Philips Imaging DD 001"), 0x13)
# Siemens' names of sequences: *ep_b1000t, re_b50#3; fl2d1_v150in.
SEQUENCE_B = re.compile(r"_b(\d+)(?:[#t_]|\Z)")
SEQUENCE_VELOCITY = re.compile(r"_v\d+(?:in|ap|pa|rl|lr|fh|hf)")
# An anatomical echo-planar series is repeated a few times at most; a functional one has dozens of
# time points. Phases after a contrast agent: 3 to 8 for pictures, dozens for a model of perfusion.
FEWEST_TIMES, FEWEST_PHASES = 10, 20

Named = tuple[str, Evidence]


def find_technique(headers: Sequence[Dataset]) -> tuple[str | None, tuple[Evidence, ...]]:
    """Say what a series was acquired for, by all its objects.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its images.

    Returns
    -------
    str or None
        One of `TECHNIQUES`, the first that any object names; None for what is read as a picture.
    tuple of Evidence
        The attribute that says so.
    """
    named: dict[str, Evidence] = {}
    for header in headers:
        for technique, evidence in _by_attributes(header):
            named.setdefault(technique, evidence)
        if TECHNIQUES[0] in named:
            break
    if not named:
        named = dict(_by_time(headers))
    technique = next((name for name in TECHNIQUES if name in named), "")
    if not technique:
        return None, ()
    return technique, (replace(named[technique], fact="technique"),)


def _by_attributes(header: Dataset) -> Iterator[Named]:
    yield from _words(header)
    yield from _diffusion(header)
    yield from _labelling(header)
    yield from _flow(header)


def _words(header: Dataset) -> Iterator[Named]:
    for keyword, values in image_types(header):
        for technique in {WORDS[value] for value in values[2:] if value in WORDS}:
            written = "\\".join(values)
            yield technique, Evidence(tag_text(Tag(keyword)), keyword, written, technique)
    for place in (header, *frame_types(header)):
        for value in image_type(place, "AcquisitionContrast"):
            if value in WORDS:
                yield WORDS[value], evidence_of(place, "AcquisitionContrast", WORDS[value])


def _diffusion(header: Dataset) -> Iterator[Named]:
    for place in _places(header, "MRDiffusionSequence"):
        if (number(place, "DiffusionBValue") or 0) > 0:
            yield "diffusion", evidence_of(place, "DiffusionBValue", "diffusion")
        elif text(place, "DiffusionDirectionality") in DIRECTED:
            yield "diffusion", evidence_of(place, "DiffusionDirectionality", "diffusion")
    for block, low in B_VALUES:
        found = find(private_places(header, block.group), block, low)
        if found is not None and (as_number(_values(found)[0]) or 0) % GE_B_FLAG > 0:
            yield "diffusion", evidence_of_element(found, block.name(low), "diffusion")
    for keyword in ("SequenceName", "PulseSequenceName"):
        match = SEQUENCE_B.search(text(header, keyword))
        if match is not None and int(match[1]) > 0 and _is_siemens(header):
            yield "diffusion", evidence_of(header, keyword, "diffusion")


def _labelling(header: Dataset) -> Iterator[Named]:
    says = "perfusion: the blood is labelled"
    if text(header, "ArterialSpinLabelingContrast"):
        yield "perfusion", evidence_of(header, "ArterialSpinLabelingContrast", says)
    for group in _groups(header):
        if items(group, "MRArterialSpinLabelingSequence"):
            keyword = "MRArterialSpinLabelingSequence"
            yield "perfusion", Evidence(tag_text(Tag(keyword)), keyword, "present", says)
            break
    for block, low, form in LABELLING:
        found = find(private_places(header, block.group), block, low)
        if found is not None and form.search(stripped_text(found).upper()):
            yield "perfusion", evidence_of_element(found, block.name(low), says)


def _flow(header: Dataset) -> Iterator[Named]:
    says = "flow: the velocity is encoded"
    if text(header, "PhaseContrast") == "YES":
        yield "flow", evidence_of(header, "PhaseContrast", says)
    for place in _places(header, "MRVelocityEncodingSequence"):
        if any(numbers(place, "VelocityEncodingDirection")):
            yield "flow", evidence_of(place, "VelocityEncodingDirection", says)
    block, low = VELOCITY
    found = find(private_places(header, block.group), block, low)
    if found is not None and (as_number(_values(found)[0]) or 0) > 0:
        yield "flow", evidence_of_element(found, block.name(low), says)
    for keyword in ("SequenceName", "PulseSequenceName"):
        if SEQUENCE_VELOCITY.search(text(header, keyword)) and _is_siemens(header):
            yield "flow", evidence_of(header, keyword, says)


def _by_time(headers: Sequence[Dataset]) -> Iterator[Named]:
    """Judge by the course over time, where no attribute names a technique."""
    planar = next((header for header in headers if _is_planar(header)), None)
    agent = next((header for header in headers if _has_agent(header)), None)
    if planar is None and agent is None:
        return
    times, evidence = _time_points(headers, repeats=planar is not None)
    if planar is not None and times >= FEWEST_TIMES:
        yield "functional" if agent is None else "perfusion", evidence
    elif agent is not None and times >= FEWEST_PHASES:
        yield "perfusion", evidence


def _time_points(headers: Sequence[Dataset], *, repeats: bool) -> tuple[int, Evidence]:
    """Count the time points, by what the objects say or by how often they show one place."""
    counts: dict[str, int] = {}
    stated = [integer(header, "NumberOfTemporalPositions") or 0 for header in headers]
    counts["NumberOfTemporalPositions"] = max(stated, default=0)
    numbered = {text(header, "TemporalPositionIdentifier") for header in headers} - {""}
    counts["TemporalPositionIdentifier"] = len(numbered)
    contents = [place for header in headers for place in _contents(header)]
    numbered = {text(place, "TemporalPositionIndex") for place in contents} - {""}
    counts["TemporalPositionIndex"] = len(numbered)
    if repeats:
        images = Counter(image for header in headers for image in _images(header))
        counts["ImagePositionPatient"] = max(images.values(), default=0)
    keyword = max(counts, key=lambda name: counts[name])
    times = counts[keyword]
    says = f"{times} time points"
    return times, Evidence(tag_text(Tag(keyword)), keyword, str(times), says)


def _contents(header: Dataset) -> Iterator[Dataset]:
    for frame in items(header, "PerFrameFunctionalGroupsSequence"):
        yield from items(frame, "FrameContentSequence")


def _images(header: Dataset) -> Iterator[tuple[tuple[float, ...], str]]:
    """Yield position and echo time of each image; several echoes are one time point."""
    if position := numbers(header, "ImagePositionPatient"):
        yield position, text(header, "EchoTime")
    for frame in items(header, "PerFrameFunctionalGroupsSequence"):
        echo = "\\".join(text(item, "EffectiveEchoTime") for item in items(frame, "MREchoSequence"))
        for item in items(frame, "PlanePositionSequence"):
            if position := numbers(item, "ImagePositionPatient"):
                yield position, echo


def _is_planar(header: Dataset) -> bool:
    """Tell echo-planar imaging; Philips writes the factor alone, 1 without it."""
    if (
        "EP" in texts(header, "ScanningSequence")
        or text(header, "EchoPlanarPulseSequence") == "YES"
    ):
        return True
    block, low = EPI_FACTOR
    found = find(private_places(header, block.group), block, low)
    return found is not None and (as_number(_values(found)[0]) or 0) > 1


def _has_agent(header: Dataset) -> bool:
    return bool(
        text(header, "ContrastBolusAgent").strip() or items(header, "ContrastBolusAgentSequence")
    )


def _groups(header: Dataset) -> list[Dataset]:
    return [
        *items(header, "SharedFunctionalGroupsSequence"),
        *items(header, "PerFrameFunctionalGroupsSequence"),
    ]


def _places(header: Dataset, macro: str) -> Iterator[Dataset]:
    yield header
    for group in _groups(header):
        yield from items(group, macro)


def _values(found: DataElement) -> list[str]:
    return [value.strip() for value in stripped_text(found).split("\\")]


def _is_siemens(header: Dataset) -> bool:
    return text(header, "Manufacturer").strip().upper().startswith("SIEMENS")
