"""The real MR series, each of them as its truth says."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from halfscan_plugin.acquisition import Acquisition, read_acquisition, read_series
from vendor_layouts import implicit, moved, unknown

pytestmark = pytest.mark.cases
TRUTH = {
    "accelerated": "accelerated_ge2",
    "in_plane_factor": "in_plane",
    "slice_factor": "out_of_plane",
    "multiband_factor": "multiband",
    "compressed_sensing_factor": "cs",
    "deep_learning": "dl",
}
# NumberOfAverages, for the objects whose number matters to the default rule.
AVERAGES = {"ge_localizer_arc2_nex0p56": 0.5625, "ph_t5_se_nsa4_1024": 4.0, "si_xa61_enh_p2": 1.0}


def listed(cases: Path) -> list[tuple[str, dict[str, Any], list[Path]]]:
    """Give the name, the truth and the files of each case."""
    entries = json.loads((cases / "truth.json").read_text(encoding="utf-8"))
    return [
        (entry["case"], entry["truth"], sorted((cases / entry["case"]).glob("*.dcm")))
        for entry in entries
    ]


def said(acquisition: Acquisition) -> dict[str, Any]:
    return {name: getattr(acquisition, name) for name in TRUTH}


def test_every_object_of_every_case_says_what_is_true(cases: Path) -> None:
    entries = listed(cases)
    assert len(entries) >= 20
    wrong = []
    for name, truth, files in entries:
        assert files, name
        expected = {fact: truth[key] for fact, key in TRUTH.items()}
        for file in files:
            acquisition = read_acquisition(dcmread(file, stop_before_pixels=True))
            if said(acquisition) != expected:
                wrong.append((file.name, name, said(acquisition), expected))
            facts = [value for value in said(acquisition).values() if value is not None]
            assert bool(acquisition.evidence) >= bool(facts)
    assert wrong == []


def test_averages(cases: Path) -> None:
    for name, averages in AVERAGES.items():
        file = next(files[0] for case, _, files in listed(cases) if case == name)
        header = dcmread(file, stop_before_pixels=True)
        assert read_acquisition(header).averages == averages, name


TECHNIQUES = {
    "cn_v61_classic_speeder2": None,  # the b = 0 images of a diffusion series alone
    "ge_dwi_asset1p5": "diffusion",
    "ge_dwi_asset2": "diffusion",
    "ge_fmri_hb8_r1": "functional",
    "ph_r57_classic_ffe_cs4": None,
    "ph_r57_classic_fieldmap_none": None,
    "ph_r57_classic_fmri_s1p5_mb3": "functional",
    "ph_r11_enh_tse_none": None,
    "si_e11_epi_p2": None,  # one echo-planar volume
    "si_xa30_classic_tfl_p2": None,
    "si_xa61_enh_p2": "functional",
    "uih_r002_dti_p2_nex6": "diffusion",
}


def test_techniques(cases: Path) -> None:
    told = {}
    for name, _, files in listed(cases):
        if name in TECHNIQUES:
            series = [dcmread(file, stop_before_pixels=True) for file in files]
            told[name] = read_series(series).technique
    assert told == TECHNIQUES


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("change", [implicit, unknown, moved])
def test_what_an_archive_makes_of_a_header_says_the_same(cases: Path, change: Any) -> None:
    for name, _, files in listed(cases):
        header = dcmread(files[0], stop_before_pixels=True)
        before = read_acquisition(header)
        after = read_acquisition(change(header))
        assert said(after) == said(before), name
        assert after.averages == before.averages, name
        assert after.partial_fourier == before.partial_fourier, name
