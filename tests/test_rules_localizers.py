"""Localizers: a name counts as whole words, and beside what is true of a localizer."""

from typing import Any

import pytest
from pydicom.sequence import Sequence

from dicom_maker import enhanced_object, mr_series
from halfscan_plugin.exclusions import find_exclusion

UNMISTAKABLE = [
    "localizer", "Localiser sag", "AAHScout", "AAHead_Scout_64ch", "3-pl Loc SSFSE", "3Plane Loc",
    "AX LOCALIZERS", "localizer2",
]  # fmt: skip
AMBIGUOUS = ["Scout", "Survey_SHC", "SmartSurvey", "MYELOMA SURVEY", "SKELETAL SURVEY"]
NO_WORDS = ["t2_tse_sag", "T1 local tumour", "Boy Scouts", "relocalizers", "block", "surveyed"]

# What says the same of a diagnostic series and of a localizer.
DIAGNOSTIC: dict[str, Any] = {"rows": 320, "columns": 320}


def reason(slices: int, keyword: str, called: str, **attributes: Any) -> str | None:
    found = find_exclusion(mr_series(slices, **{keyword: called, **attributes}))
    if found is None:
        return None
    assert (found.code, found.possible) == ("localizer", True)
    return found.reason


@pytest.mark.parametrize("called", [*UNMISTAKABLE, *AMBIGUOUS])
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName"])
def test_a_name_beside_three_slices_or_wide_gaps(keyword: str, called: str) -> None:
    says = f"is called a localizer: {keyword} is {called}, and "
    assert reason(3, keyword, called, **DIAGNOSTIC) == says + "it has 3 slices"
    assert reason(7, keyword, called, SliceThickness="8", spacing_mm=16.0, **DIAGNOSTIC) == (
        says + "its slices of 8 mm lie 16 mm apart"
    )


@pytest.mark.parametrize("called", UNMISTAKABLE)
def test_an_unmistakable_name_beside_a_coarse_or_a_small_matrix(called: str) -> None:
    """Siemens' AutoAlign scout is an accelerated volume of pixels of 1.6 mm."""
    says = f"is called a localizer: SeriesDescription is {called}, and "
    coarse = reason(12, "SeriesDescription", called, PixelSpacing=[1.6, 1.6], **DIAGNOSTIC)
    assert coarse == says + "its pixels measure 1.6 mm"
    small = reason(12, "SeriesDescription", called, rows=128, columns=160)
    assert small == says + "its matrix is 160"
    assert reason(12, "SeriesDescription", called, **DIAGNOSTIC) is None, "a word alone"


@pytest.mark.parametrize("called", AMBIGUOUS)
def test_an_ambiguous_name_needs_both(called: str) -> None:
    """A survey of a myeloma is a diagnostic series, be its pixels coarse or its matrix small."""
    assert reason(6, "ProtocolName", called, rows=64, columns=64) is None
    assert reason(30, "ProtocolName", called, PixelSpacing=[1.56, 1.56], **DIAGNOSTIC) is None
    both = reason(30, "ProtocolName", called, PixelSpacing=[1.6, 1.6], rows=160, columns=160)
    assert both is not None
    assert both.endswith("its pixels measure 1.6 mm, its matrix is 160")


@pytest.mark.parametrize("called", NO_WORDS)
def test_other_words(called: str) -> None:
    assert reason(3, "SeriesDescription", called, PixelSpacing=[2.0, 2.0]) is None


def test_two_planes_with_a_name_and_without() -> None:
    for called, excluded in (("survey", True), ("t2", False)):
        series = [
            *mr_series(6, SeriesDescription=called, **DIAGNOSTIC),
            *mr_series(
                6, name="sagittal", orientation="sagittal", SeriesDescription=called, **DIAGNOSTIC
            ),
        ]
        found = find_exclusion(series)
        assert (found is not None) is excluded
        if found is not None:
            assert found.reason.endswith("and its planes lie in 2 directions")


def test_the_frames_of_an_enhanced_localizer() -> None:
    header = enhanced_object(20, SeriesDescription="localizer", Rows=320, Columns=320)
    measures = mr_series(1, PixelSpacing=[1.9, 1.9])[0]
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = Sequence([measures])
    found = find_exclusion([header])
    assert found is not None
    assert found.reason.endswith("and its pixels measure 1.9 mm")
