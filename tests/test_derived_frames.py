"""Enhanced objects and mosaics: frames and tiles come back to their places and say their source."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from derived_support import MADE_BY, changes, unchanged
from dicom_maker import ORIENTATIONS, made_uid, mr_series, reread
from halfscan_plugin.derived import derive, is_halfscan_output
from halfscan_plugin.multiframe import LEFT_TO_THE_SOURCE
from halfscan_plugin.slices import Slice
from halfscan_plugin.volume import SeriesVolume, read_volume
from image_maker import (
    Frame,
    enhanced_image,
    frame_grid,
    mosaic_image,
    tilted,
    united_imaging_image,
)

# What a derived object says in its own words; everything else is as in the source.
OWN = re.compile(
    r"(SOPInstanceUID|SeriesInstanceUID|SeriesNumber|SeriesDescription|ImageType|"
    r"DerivationDescription|DerivationCodeSequence\[0\]\..*|ContributingEquipmentSequence\[0\]\..*|"
    r"SourceImageSequence\[0\]\..*|SourceImageEvidenceSequence\[0\]\..*|"
    r"(Shared|PerFrame)FunctionalGroupsSequence\[\d+\]\.MRImageFrameTypeSequence\[0\]\.FrameType|"
    r"PerFrameFunctionalGroupsSequence\[\d+\]\.DerivationImageSequence\[0\]\..*)"
)
KINDS = {
    "three slices": lambda: [enhanced_image()],
    "nothing shared": lambda: [enhanced_image(shared=False)],
    "legacy converted": lambda: [enhanced_image(legacy=True)],
    "signed, of 16 bits": lambda: [enhanced_image(bits=(16, 16), signed=True)],
    "of 8 bits": lambda: [enhanced_image(bits=(8, 8), rows=5, columns=3)],
    "four times": lambda: [enhanced_image(frame_grid(times=4))],
    "backwards": lambda: [enhanced_image(frame_grid()[::-1])],
    "one frame": lambda: [enhanced_image(frame_grid(1))],
    "two stacks": lambda: [
        enhanced_image(frame_grid(orientations=[ORIENTATIONS["axial"], tilted(20)]))
    ],
    "two objects": lambda: [
        enhanced_image(frame_grid(times=1), index=n, seed=n, AcquisitionNumber=n + 1)
        for n in range(2)
    ],
    "other slopes": lambda: [
        enhanced_image(
            [
                Frame(position=[0, 0, 4.0 * n], place=n + 1, slope=n + 0.5, intercept=7.0 * n)
                for n in range(3)
            ]
        )
    ],
    "mosaic": lambda: [mosaic_image(tiles(6))],
    "mosaics": lambda: [mosaic_image(tiles(7, seed=n), index=n) for n in range(2)],
    "a mosaic without a CSA header": lambda: [mosaic_image(tiles(4), csa=False)],
    "United Imaging's mosaic": lambda: [united_imaging_image(tiles(5))],
}


def tiles(count: int, *, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 4096, (count, 6, 5))


def places(volume: SeriesVolume) -> list[Slice]:
    """Give the slices but for what their type says: that is another one now."""
    return [replace(place, labels=()) for place in volume.slices]


def by_uid(datasets: Any) -> dict[str, Dataset]:
    """Find derived objects by the source that they name."""
    found = {}
    for dataset in datasets:
        if "SourceImageSequence" in dataset:
            (reference,) = dataset.SourceImageSequence
        else:
            derivation = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[-1]
            (reference,) = derivation.SourceImageSequence
        found[str(reference.ReferencedSOPInstanceUID)] = dataset
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_did_not_change_comes_back(kind: str) -> None:
    series = KINDS[kind]()
    derived = by_uid(map(reread, unchanged([reread(d) for d in series]).datasets))
    assert len(derived) == len(series)
    for before in series:
        after = derived[str(before.SOPInstanceUID)]
        assert after.PixelData == before.PixelData
        assert after.SOPClassUID == before.SOPClassUID
        others = {path for path in changes(reread(before), after) if not OWN.fullmatch(path)}
        private = {path for path in others if path.startswith("(")}
        assert others - private <= set(LEFT_TO_THE_SOURCE)
        # Of the private attributes only the protocol is gone, and empty texts of the CSA header.
        assert private <= {"(0029,1010)", "(0029,1020)"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_read_again_as_it_was(kind: str) -> None:
    source = read_volume([reread(dataset) for dataset in KINDS[kind]()])
    result = np.round(source.volume * 0.75 + 1)
    derived = derive(source, result, MADE_BY, series_number=1)
    again = read_volume([reread(dataset) for dataset in derived.datasets])
    steps = np.abs(source.slopes).reshape(-1, 1, 1) / 2
    clipped = derived.clipped_pixels
    assert np.count_nonzero(np.abs(again.volume - result) > steps + 1e-3) <= clipped
    assert places(again) == places(source)
    assert [len(s.slices) for s in again.stacks] == [len(s.slices) for s in source.stacks]


@pytest.mark.parametrize("legacy", [False, True])
def test_every_frame_says_what_it_comes_from(*, legacy: bool) -> None:
    before = enhanced_image(frame_grid(times=2), legacy=legacy)
    (after,) = map(reread, unchanged([before], remark="On demand: x").datasets)
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "M", "NONE"]
    assert "SourceImageSequence" not in after
    assert "dbpn-t 1" in after.DerivationDescription
    for number, groups in enumerate(after.PerFrameFunctionalGroupsSequence, 1):
        (derivation,) = groups.DerivationImageSequence
        assert "model dbpn-t 1, strength 1. On demand: x" in derivation.DerivationDescription
        (what,) = derivation.DerivationCodeSequence
        assert what.CodeValue == codes.cid7203.Smoothing.value
        (reference,) = derivation.SourceImageSequence
        assert reference.ReferencedSOPClassUID == before.SOPClassUID
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert reference.ReferencedFrameNumber == number
        assert reference.SpatialLocationsPreserved == "YES"
        (purpose,) = reference.PurposeOfReferenceCodeSequence
        expected = codes.cid7202.SourceImageForImageProcessingOperation
        assert (purpose.CodeValue, purpose.CodeMeaning) == (expected.value, expected.meaning)
    (study,) = after.SourceImageEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (listed,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == before.StudyInstanceUID
    assert series.SeriesInstanceUID == before.SeriesInstanceUID
    assert listed.ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert is_halfscan_output(after)


@pytest.mark.parametrize("shared", [False, True])
def test_frame_types_are_derived_wherever_they_stand(*, shared: bool) -> None:
    (after,) = map(reread, unchanged([enhanced_image(shared=shared)]).datasets)
    places = (*after.SharedFunctionalGroupsSequence, *after.PerFrameFunctionalGroupsSequence)
    types = [
        g.MRImageFrameTypeSequence[0].FrameType for g in places if "MRImageFrameTypeSequence" in g
    ]
    assert len(types) == (1 if shared else 3)
    assert all(list(found) == ["DERIVED", "PRIMARY", "M", "NONE"] for found in types)


def derivation(description: str) -> Dataset:
    item = Dataset()
    item.DerivationDescription = description
    return item


def test_earlier_derivations_come_first_and_stay_no_shared_group() -> None:
    before = enhanced_image()
    (shared,) = before.SharedFunctionalGroupsSequence
    shared.DerivationImageSequence = Sequence([derivation("distortion corrected")])
    (after,) = map(reread, unchanged([before]).datasets)
    assert "DerivationImageSequence" not in after.SharedFunctionalGroupsSequence[0]
    for groups in after.PerFrameFunctionalGroupsSequence:
        said = [item.DerivationDescription for item in groups.DerivationImageSequence]
        assert said[0] == "distortion corrected"
        assert said[1].startswith("Halfscan")
    assert "DerivationImageSequence" in shared, "the source is left as it was"


def test_earlier_derivations_of_single_frames_stay() -> None:
    before = enhanced_image()
    before.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence = Sequence(
        [derivation("normalised")]
    )
    (after,) = map(reread, unchanged([before]).datasets)
    said = [len(g.DerivationImageSequence) for g in after.PerFrameFunctionalGroupsSequence]
    assert said == [1, 2, 1]


@pytest.mark.parametrize(("study", "studies", "series"), [("study", 1, 2), ("other", 2, 1)])
def test_evidence_is_listed_by_study(study: str, studies: int, series: int) -> None:
    listed, of_series = Dataset(), Dataset()
    of_series.SeriesInstanceUID = made_uid("earlier")
    of_series.ReferencedSOPSequence = Sequence([])
    listed.StudyInstanceUID = made_uid(study)
    listed.ReferencedSeriesSequence = Sequence([of_series])
    before = enhanced_image(SourceImageEvidenceSequence=Sequence([listed]))
    (after,) = map(reread, unchanged([before]).datasets)
    assert len(after.SourceImageEvidenceSequence) == studies
    assert len(after.SourceImageEvidenceSequence[0].ReferencedSeriesSequence) == series


def test_a_concatenation_of_its_own() -> None:
    """Parts of one image name each other by UIDs; derived parts must not join the source's."""
    parts = [
        enhanced_image(
            frame_grid(2) if n == 0 else [Frame(position=[0, 0, 4.0 * (2 + n)], place=2 + n)],
            index=n,
            ConcatenationUID=made_uid("whole"),
            SOPInstanceUIDOfConcatenationSource=made_uid("whole", "source"),
            InConcatenationNumber=n + 1,
            ConcatenationFrameOffsetNumber=2 * n,
        )
        for n in range(2)
    ]
    derived = [reread(d) for d in unchanged(parts).datasets]
    for keyword in ("ConcatenationUID", "SOPInstanceUIDOfConcatenationSource"):
        assert len({d[keyword].value for d in derived}) == 1
        assert derived[0][keyword].value != parts[0][keyword].value
    assert [d.InConcatenationNumber for d in derived] == [1, 2]


def test_a_converted_object_no_longer_claims_to_be_a_conversion() -> None:
    """The frames were not converted from the classic images: their source was, and says so."""
    conversion, extremes = Dataset(), Dataset()
    conversion.ReferencedSOPInstanceUID = made_uid("classic")
    extremes.InstanceNumber = 7
    extremes.add_new("SmallestImagePixelValue", "US", 1)
    extremes.InstanceCreationDate = "20240102"
    before = enhanced_image(legacy=True)
    for groups in before.PerFrameFunctionalGroupsSequence:
        groups.ConversionSourceAttributesSequence = Sequence([conversion])
        groups.UnassignedPerFrameConvertedAttributesSequence = Sequence([extremes])
    (after,) = map(reread, unchanged([before]).datasets)
    for groups in after.PerFrameFunctionalGroupsSequence:
        assert "ConversionSourceAttributesSequence" not in groups
        (kept,) = groups.UnassignedPerFrameConvertedAttributesSequence
        assert [element.keyword for element in kept] == ["InstanceNumber"]


def test_what_only_originals_may_say_stays_with_the_source() -> None:
    said: dict[str, Any] = {
        "PulseSequenceName": "*tse2d1_16", "MRAcquisitionType": "2D", "EchoPulseSequence": "SPIN",
        "BulkMotionCompensationTechnique": "NONE", "IntervalsRejected": 3,
    }  # fmt: skip
    before = enhanced_image(**said)
    (after,) = map(reread, unchanged([before]).datasets)
    assert set(said) <= set(LEFT_TO_THE_SOURCE)
    assert not set(LEFT_TO_THE_SOURCE) & {element.keyword for element in after}
    (classic, _) = unchanged(mr_series(2, MRAcquisitionType="2D")).datasets
    assert classic.MRAcquisitionType == "2D"


def test_empty_tiles_stay_empty() -> None:
    source = read_volume([mosaic_image(tiles(7))])
    derived = derive(source, source.volume * 0 + 9, MADE_BY, series_number=1)
    (image,) = (dataset.pixel_array for dataset in derived.datasets)
    assert image.shape == (18, 15)
    assert (image[12:, 5:] == 0).all()
    assert (image[:12] == 9).all()
    assert (image[12:, :5] == 9).all()


def test_white_is_the_smallest_value() -> None:
    series = mr_series(2, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    source = read_volume([reread(dataset) for dataset in series])
    result = source.volume.copy()
    brighter = np.minimum(10, series[0].pixel_array)
    result[0] += brighter
    derived = derive(source, result, MADE_BY, series_number=1)
    first, second = map(reread, derived.datasets)
    assert first.PhotometricInterpretation == "MONOCHROME1"
    assert first.PresentationLUTShape == "INVERSE"
    np.testing.assert_array_equal(first.pixel_array, series[0].pixel_array - brighter)
    np.testing.assert_array_equal(second.pixel_array, series[1].pixel_array)


# --- frames of volumes that are not whole ------------------------------------------------------


def test_frames_of_a_volume_that_is_not_whole_stay_out() -> None:
    # The last of three times was stopped, and stands first in the object.
    frames = frame_grid(3, times=3)[:-1]
    source = enhanced_image([*frames[6:], *frames[:6]])
    (derived,) = unchanged([source]).datasets
    assert derived.NumberOfFrames == 6
    assert (derived.pixel_array == source.pixel_array[2:]).all()
    kept = source.PerFrameFunctionalGroupsSequence[2:]
    for number, (own, theirs) in enumerate(
        zip(derived.PerFrameFunctionalGroupsSequence, kept, strict=True), 3
    ):
        assert own.FrameContentSequence == theirs.FrameContentSequence
        assert own.PlanePositionSequence == theirs.PlanePositionSequence
        (reference,) = own.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedFrameNumber == number
    again = read_volume([reread(derived)])
    assert len(again) == 6
    assert [stack.warnings for stack in again.stacks] == [(), ()]


def concatenated(frames: list[Frame], sizes: list[int]) -> list[Dataset]:
    """Write frames as one object in parts."""
    series, offset = [], 0
    for number, size in enumerate(sizes):
        part = enhanced_image(
            frames[offset : offset + size], index=number, seed=number, InstanceNumber=1
        )
        part.ConcatenationUID = made_uid("concatenation")
        part.SOPInstanceUIDOfConcatenationSource = made_uid("whole")
        part.InConcatenationNumber = number + 1
        part.InConcatenationTotalNumber = len(sizes)
        part.ConcatenationFrameOffsetNumber = offset
        series.append(part)
        offset += size
    return series


def parts(datasets: Any) -> list[tuple[int, ...]]:
    return [
        (
            part.InConcatenationNumber,
            part.InConcatenationTotalNumber,
            part.ConcatenationFrameOffsetNumber,
            int(part.NumberOfFrames),
        )
        for part in datasets
    ]


def test_parts_of_a_concatenation_keep_their_places() -> None:
    series = concatenated(frame_grid(3, times=2), [4, 2])
    derived = unchanged(series[::-1]).datasets
    assert parts(derived) == parts(series)
    assert [part.pixel_array.tolist() for part in derived] == [
        part.pixel_array.tolist() for part in series
    ]


def test_parts_are_counted_anew_where_frames_stay_out() -> None:
    # The last of three times was stopped, and stands first: that part goes, the next loses a frame.
    frames = frame_grid(3, times=3)
    stopped = [*frames[6:8], *frames[:6]]
    derived = unchanged(concatenated(stopped, [1, 3, 4])).datasets
    assert parts(derived) == [(1, 2, 0, 2), (2, 2, 2, 4)]
    assert [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for part in derived
        for group in part.PerFrameFunctionalGroupsSequence
    ] == [2, 3, 1, 2, 3, 4]
