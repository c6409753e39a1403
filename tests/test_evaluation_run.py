"""What is measured on simulated patients, with networks whose answer is known; and the command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from halfscan_models.evaluation.arms import Gallery, Restore
from halfscan_models.evaluation.classical import is_installed
from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.ghosts import ghost_amplitudes, ghost_measures
from halfscan_models.evaluation.lesions import (
    DIAMETERS_MM,
    false_lesions,
    kept_contrasts,
    lesion_measures,
    schmorl_contrasts,
)
from halfscan_models.evaluation.memory import memory_measure, peak_memory
from halfscan_models.evaluation.run import EvaluationSettings
from halfscan_models.evaluation.scans import Patient
from halfscan_models.evaluation.sharpness import edge_profiles, sharpness_measures
from halfscan_models.evaluation.small import small_structures, visibility_measures
from halfscan_models.evaluation.table3 import PUBLISHED, region_snrs, snr_measures, snr_table
from halfscan_plugin.errors import BadInput
from halfscan_plugin.evaluate import given_sets

Image = npt.NDArray[np.float32]
SCALE = 0.5
SAGITTAL = ("sag_t1",)


def as_it_is(image: npt.ArrayLike) -> Image:
    """Do nothing."""
    return np.array(image, np.float32)


def halved(image: npt.ArrayLike) -> Image:
    """Keep half of everything."""
    return np.asarray(np.multiply(image, np.float32(0.5)), np.float32)


def blurred(image: npt.ArrayLike) -> Image:
    """Blur."""
    return np.asarray(gaussian_filter(np.asarray(image, np.float32), 1.0), np.float32)


@pytest.fixture(scope="module")
def patient() -> Patient:
    """One patient at half the matrix; scans are kept from test to test."""
    return Patient(3, matrix_scale=SCALE)


def gallery(patient: Patient, restore: Restore) -> Gallery:
    return Gallery(patient, restore)


def test_the_same_seed_gives_the_same_scan(patient: Patient) -> None:
    again = Patient(3, matrix_scale=SCALE).scan("sag_t1", 7)
    first = patient.scan("sag_t1", 7)
    for arm in ("standard", "accelerated"):
        np.testing.assert_array_equal(again.measured(arm), first.measured(arm))
    assert not np.array_equal(first.measured("standard"), first.measured("accelerated"))


def test_the_accelerated_scan_has_more_noise(patient: Patient) -> None:
    arms = gallery(patient, as_it_is).arms("sag_t1", 7)
    standard, accelerated = (
        float(np.std(image - arms.truth)) for image in (arms.standard, arms.accelerated)
    )
    assert 1.3 < accelerated / standard < 2.5  # the root of two, and the geometry factor


# --- SNR by region ---


def test_a_network_that_does_nothing_gains_nothing(patient: Patient) -> None:
    rows = snr_table(region_snrs(gallery(patient, as_it_is), SAGITTAL))
    assert {row.region for row in rows} == set(PUBLISHED)
    for row in rows:
        assert row.tissue_gain == pytest.approx(1.0)
        assert row.ratio < 1.0
    measures = {m.name: m for m in snr_measures(rows)}
    over = measures["sag_t1: SNR over the background, network over standard"]
    assert over.verdict == "MISSED"
    assert measures["SNR of regions, network over its own input"].verdict == "MISSED"


def test_emptying_the_air_doubles_the_ratio_of_the_study_alone(patient: Patient) -> None:
    """The study's definition looks at the background; the one in tissue does not."""
    truth = gallery(patient, as_it_is).arms("sag_t1", 7).truth
    air = truth < 0.02 * np.percentile(truth, 99)

    def quiet(image: npt.ArrayLike) -> Image:
        return np.where(air, halved(image), as_it_is(image))

    plain = snr_table(region_snrs(gallery(patient, as_it_is), SAGITTAL))
    emptied = snr_table(region_snrs(gallery(patient, quiet), SAGITTAL))
    for before, after in zip(plain, emptied, strict=True):
        if before.region.startswith("vertebra"):
            assert after.ratio == pytest.approx(2 * before.ratio, rel=0.01)
            assert after.tissue_ratio == pytest.approx(before.tissue_ratio)


def test_the_published_ratios_are_those_of_the_study() -> None:
    ratios = {name: network / standard for name, (standard, network) in PUBLISHED.items()}
    assert min(ratios.values()) == pytest.approx(1.775, abs=0.001)
    assert max(ratios.values()) == pytest.approx(1.819, abs=0.001)


# --- sharpness, lesions, ghosts ---


def test_a_blur_is_found_and_missed(patient: Patient) -> None:
    kept = sharpness_measures(edge_profiles(gallery(patient, as_it_is), SAGITTAL))
    lost = sharpness_measures(edge_profiles(gallery(patient, blurred), SAGITTAL))
    edges = [m for m in kept if m.section == "Sharpness"]
    assert len(edges) == 3
    assert all(abs(m.values[0]) < 6.0 for m in edges)  # one patient at half the matrix
    # Thin structures lose height rather than width; at half the matrix the cord is one of them.
    assert all(m.values[0] > 5.0 for m in lost if m.section == "Sharpness")
    assert {m.verdict for m in lost} == {"MISSED"}


def test_what_is_kept_of_lesions_is_what_the_network_keeps(patient: Patient) -> None:
    kept = kept_contrasts(gallery(patient, halved), SAGITTAL)
    assert len(kept) == 20 + 5
    assert {k.diameter_mm for k in kept if k.kind == "lesion"} == set(DIAMETERS_MM)
    share = sum(k.network for k in kept) / sum(k.power for k in kept)
    before = sum(k.accelerated for k in kept) / sum(k.power for k in kept)
    assert before == pytest.approx(1.0, abs=0.02)
    assert share == pytest.approx(0.5 * before)
    assert {m.verdict for m in lesion_measures(kept, [])} == {"MISSED"}


def test_lesions_show_the_contrast_that_they_were_given(patient: Patient) -> None:
    """The largest and strongest lesion changes its middle by about its contrast."""
    views = gallery(patient, as_it_is)
    kept = [k for k in kept_contrasts(views, SAGITTAL) if k.kind == "lesion"]
    by_size = {d: np.mean([k.power for k in kept if k.diameter_mm == d]) for d in DIAMETERS_MM}
    assert by_size[2.0] < by_size[3.0] < by_size[4.0] < by_size[6.0]


def test_schmorl_nodes_are_there_and_kept(patient: Patient) -> None:
    kept = schmorl_contrasts(gallery(patient, as_it_is), SAGITTAL, matrix_scale=SCALE)
    assert len(kept) == 3
    assert all(k.power > 0.0 for k in kept)
    assert sum(k.network for k in kept) / sum(k.power for k in kept) == pytest.approx(1.0, abs=0.03)


def test_an_invented_lesion_is_counted(patient: Patient) -> None:
    views = gallery(patient, as_it_is)
    centre = patient.anatomy.vertebrae["L3"].frame.point(0, 0, 0)
    stack = patient.stack("sag_t1")
    _, row, column = (round(place) for place in stack.to_index(centre))

    def inventive(image: npt.ArrayLike) -> Image:
        result = as_it_is(image)
        result[row - 1 : row + 2, column - 1 : column + 2] *= 1.5
        return result

    honest = false_lesions(views, SAGITTAL)
    dishonest = false_lesions(gallery(patient, inventive), SAGITTAL)
    assert honest[0].invented == 0
    assert honest[0].network == honest[0].accelerated
    assert dishonest[0].invented >= 1
    name = "false lesions that the network's input does not show"
    kept = kept_contrasts(views, SAGITTAL)
    verdicts = [
        next(m.verdict for m in lesion_measures(kept, found) if m.name == name)
        for found in (honest, dishonest)
    ]
    assert verdicts == ["met", "MISSED"]


def test_ghosts_are_there_and_their_gain_is_the_network_s(patient: Patient) -> None:
    plain = ghost_amplitudes(gallery(patient, as_it_is), SAGITTAL)
    doubled = ghost_amplitudes(gallery(patient, lambda image: 2 * as_it_is(image)), SAGITTAL)
    assert plain[0].strength > 0.005
    assert 0.5 < plain[0].accelerated < 1.1
    assert ghost_measures(plain)[0].values == pytest.approx((1.0,))
    assert ghost_measures(doubled)[0].values == pytest.approx((2.0,))
    assert ghost_measures(doubled)[0].verdict == "MISSED"


def test_roots_that_are_blurred_away_are_missed(patient: Patient) -> None:
    plain = visibility_measures(small_structures(gallery(patient, as_it_is), SAGITTAL))
    lost = visibility_measures(small_structures(gallery(patient, blurred), SAGITTAL))
    assert [m.verdict for m in plain] == ["met"]
    assert [m.verdict for m in lost] == ["MISSED"]


# --- memory, settings, images, command ---


def test_memory_is_that_of_a_process_of_its_own() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here: memory is not measured")
    baseline, peak = peak_memory(2, 128)
    assert 2**24 < baseline < peak < 2**32
    with pytest.raises(EvaluationError, match="no-such-model"):
        peak_memory(2, 128, "no-such-model")


def test_memory_of_few_slices_is_extrapolated() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here: memory is not measured")
    measure = memory_measure(None, slices=2)
    assert "extrapolated from 1 and 2 slices" in measure.note
    assert measure.values[0] > 512**3 * 6 / 2**30


@pytest.mark.parametrize(
    ("name", "value"),
    [("patients", 0), ("compared_patients", 0), ("repeats", 0), ("memory_slices", 1),
     ("processes", 0)],
)  # fmt: skip
def test_settings_without_sense_are_refused(name: str, value: int) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(EvaluationError, match=rf"{name} must be >= \d, got {value}"):
        EvaluationSettings(**settings)


def test_images_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere does not exist"):
        list(given_sets((tmp_path / "nowhere",), 1))
    with pytest.raises(BadInput, match="no DICOM series and no NIfTI file"):
        list(given_sets((tmp_path,), 1))


def test_without_images_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MR_CASES", raising=False)
    assert list(given_sets((), 1)) == []


def test_the_clean_cases_are_read(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MR_CASES", str(cases))
    found = {images.name: images.images[0].shape for images in given_sets((), 1)}
    assert found == {
        "derived_nifti2dicom_brain_t1": (256, 256),
        "ph_t5_se_nsa4_1024": (256, 256),
        "mt0_cervical": (192, 192),
        "t2_cervical_ms_axial": (256, 256),
        "t2_lumbar": (256, 201),
    }


SECTIONS = [
    "Likeness to the truth",
    "Noise estimate",
    "Time",
    "Memory",
    "Simulated Table 3",
    "Regulator's bar",
    "Sharpness",
    "Small lesions",
    "Residual aliasing",
    "Model observers",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "halfscan_plugin.cli", "evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
def test_the_command_prints_and_writes_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MR_CASES", raising=False)
    done = run("--quick", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(dict.fromkeys(m["section"] for m in found["measures"])) == SECTIONS
    assert found == json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert sum(found["counts"].values()) == sum(m["bar"] is not None for m in found["measures"])
    assert "real images: give --images PATH, or set MR_CASES" in found["skipped"]
    for measure in found["measures"]:
        assert bool(measure["values"]) == (measure["reason"] is None)
    if not is_installed("bm3d"):
        assert "bm3d is not installed" in found["skipped"]
        unmeasured = [m for m in found["measures"] if not m["values"]]
        assert unmeasured
        assert all(m["reason"].endswith("pip install 'halfscan[benchmark]'") for m in unmeasured)
    markdown = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert all(f"### {section}" in markdown for section in SECTIONS)
    assert "published ratio" in markdown
    assert "### Model observers, task by task" in markdown
    assert len(found["observers"]) == 19
    assert {row["trials"] for row in found["observers"]} == {80}
    assert found["context"]["trials_s"] > 0.0
    assert (tmp_path / "simulated.png").stat().st_size > 10_000
    assert (tmp_path / "trials.png").stat().st_size > 10_000
    assert not (tmp_path / "given.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "nowhere"), "halfscan: --images: nowhere does not exist"),
        (("--model", "no-such-model"), "halfscan: "),
        (("--quick", "--patients", "0"), "Invalid value for '--patients'"),
        (("--quick", "--trials", "79"), "Invalid value for '--trials'"),
        (("--observed", "tra_t2"), "halfscan: observed must be some of sag_t2, sag_t2_fs, sag_t1"),
    ],
)
def test_wrong_options_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
