"""The parts of the evaluation: each measure on something whose answer is known."""

import gzip
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from halfscan_models.evaluation import arithmetic, classical, lesions
from halfscan_models.evaluation.arithmetic import matrix_product_rate, multiply_adds
from halfscan_models.evaluation.comparison import ComparedImage, comparison_measures
from halfscan_models.evaluation.corruption import CONDITIONS, Condition, add_noise
from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.images import centre_crop, pick_slices, read_nifti
from halfscan_models.evaluation.measures import Bar, Measure, verdict_counts
from halfscan_models.evaluation.metrics import Likeness, likeness, psnr_db, ssim_map
from halfscan_models.evaluation.rician import amplitude_of_mean, mean_of_magnitude
from halfscan_models.evaluation.sharpness import edge_width_mm

Image = npt.NDArray[np.float64]


def scene(rows: int = 128, columns: int = 96) -> Image:
    """Discs and a ramp on a dark ground."""
    y, x = np.mgrid[:rows, :columns]
    image = 100.0 * (np.hypot(y - rows / 2, x - columns / 2) < rows / 3)
    image += 60.0 * (np.hypot(y - rows / 3, x - columns / 2) < rows / 9)
    return np.asarray(image * (1 + 0.3 * x / columns), np.float64)


# --- bars ---


@pytest.mark.parametrize(
    ("kind", "value", "holds"),
    [
        ("at least", 2.0, True),
        ("at least", 1.999, False),
        ("at most", 2.0, True),
        ("at most", 2.001, False),
        ("below", 2.0, False),
        ("below", 1.999, True),
        ("above", 2.0, False),
        ("above", 2.001, True),
        ("at least", math.inf, False),
        ("at most", math.nan, False),
    ],
)
def test_a_bar_holds_on_the_right_side(kind: Any, value: float, *, holds: bool) -> None:
    assert Bar(kind, 2.0).holds(value) is holds


def test_a_measure_is_missed_where_one_of_its_values_is() -> None:
    bar = Bar("at least", 0.5)
    met = Measure("s", "n", (0.6, 0.5), "dB", bar)
    missed = replace(met, values=(0.6, 0.4999))
    absent = Measure("s", "n", (), "dB", bar, reason="not installed")
    plain = Measure("s", "n", (1.0,))
    assert [m.verdict for m in (met, missed, absent, plain)] == [
        "met",
        "MISSED",
        "not measured",
        "",
    ]
    counted = verdict_counts([met, missed, absent, plain])
    assert counted == {"met": 1, "missed": 1, "not_measured": 1}
    assert absent.value_text == "not installed"
    assert missed.as_dict()["met"] is False


def test_a_measure_has_values_or_a_reason() -> None:
    with pytest.raises(EvaluationError, match="either values or a reason"):
        Measure("s", "n", ())
    with pytest.raises(EvaluationError, match="either values or a reason"):
        Measure("s", "n", (1.0,), reason="why")


def test_what_is_not_finite_is_no_number_in_json() -> None:
    assert Measure("s", "n", (math.inf,)).as_dict()["values"] == [None]


# --- Rice distribution ---


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 2.5, 6.0, 29.9, 31.0, 80.0])
def test_mean_of_magnitude_agrees_with_simulation(ratio: float) -> None:
    rng = np.random.default_rng(1)
    sigma = 3.0
    noise = rng.normal(scale=sigma, size=(2, 400_000))
    seen = np.hypot(ratio * sigma + noise[0], noise[1])
    error = 4.5 * seen.std() / math.sqrt(seen.size)
    assert float(mean_of_magnitude(ratio * sigma, sigma)) == pytest.approx(seen.mean(), abs=error)


@given(ratio=st.floats(0.02, 200.0), sigma=st.floats(0.01, 1000.0))
def test_the_inverse_gives_the_amplitude_back(ratio: float, sigma: float) -> None:
    amplitude = ratio * sigma
    found = float(amplitude_of_mean(mean_of_magnitude(amplitude, sigma), sigma))
    # Near zero the mean is flat, and a step of the table is 0.001 sigma.
    assert found == pytest.approx(amplitude, abs=2e-3 * sigma)
    if ratio > 0.5:
        assert found == pytest.approx(amplitude, abs=3e-5 * sigma)


def test_means_below_those_of_noise_alone_give_zero() -> None:
    floor = math.sqrt(math.pi / 2)
    found = amplitude_of_mean([0.0, 0.5 * floor, floor * (1 - 1e-9)], 1.0)
    np.testing.assert_allclose(found, 0.0, atol=2e-3)


def test_without_noise_there_is_no_bias() -> None:
    np.testing.assert_array_equal(amplitude_of_mean([0.0, 3.0], 0.0), [0.0, 3.0])
    np.testing.assert_array_equal(mean_of_magnitude([0.0, 3.0], 0.0), [0.0, 3.0])


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_a_noise_level_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(EvaluationError, match="noise_sd must be finite and >= 0"):
        amplitude_of_mean([1.0], sigma)


# --- PSNR and SSIM ---


def test_psnr_of_a_known_error() -> None:
    truth = np.full((40, 40), 50.0)
    assert psnr_db(truth + 5.0, truth) == pytest.approx(20.0)
    mask = np.zeros((40, 40), np.bool_)
    mask[:20] = True
    half = truth.copy()
    half[:20] += 0.5
    assert psnr_db(half, truth, mask) == pytest.approx(40.0)
    assert psnr_db(half, truth) == pytest.approx(40.0 + 10 * math.log10(2))


def test_ssim_is_one_for_the_truth_and_less_for_anything_else() -> None:
    truth = scene()
    assert likeness(truth, truth).ssim == pytest.approx(1.0)
    noisy = truth + np.random.default_rng(0).normal(scale=10.0, size=truth.shape)
    found = likeness(noisy, truth)
    assert found.ssim < found.ssim_foreground < 1.0


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    truth = scene()
    noisy = truth + np.random.default_rng(0).normal(scale=10.0, size=truth.shape)
    _, wanted = metrics.structural_similarity(
        truth,
        noisy,
        data_range=float(np.percentile(truth, 99.5)),
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    np.testing.assert_allclose(ssim_map(noisy, truth), wanted, atol=1e-9)


def test_likeness_needs_two_images_of_one_shape() -> None:
    with pytest.raises(EvaluationError, match=r"one shape, got \(3, 4\) and \(4, 3\)"):
        likeness(np.ones((3, 4)), np.ones((4, 3)))
    with pytest.raises(EvaluationError, match="bright pixel"):
        likeness(np.ones((8, 8)), np.zeros((8, 8)))


# --- noise ---


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.name)
@pytest.mark.parametrize("shape", [(64, 48), (65, 47)])
def test_noise_has_the_level_and_the_spectrum_that_are_told(
    condition: Condition, shape: tuple[int, int]
) -> None:
    flat = np.full(shape, 1000.0)
    power = np.zeros(shape)
    levels = []
    for seed in range(60):
        case = add_noise(flat, 0.01, condition, np.random.default_rng(seed))
        np.testing.assert_allclose(case.truth, 1000.0)
        noise = case.noisy - case.truth  # far above the noise: the magnitude is the real channel
        levels.append(noise.var())
        power += np.abs(np.fft.fft2(noise)) ** 2 / 60
    assert math.sqrt(np.mean(levels)) == pytest.approx(case.noise_sd, rel=0.01)
    assert case.noise_sd == pytest.approx(10.0)
    assert case.spectrum.mean() == pytest.approx(case.noise_sd**2 * flat.size)
    # Where much is told, and where little or nothing is.
    total = case.spectrum.sum()
    for low, high in ((0.5, 1.1), (0.05, 0.5), (-1.0, 0.05)):
        share = case.spectrum / case.spectrum.max()
        band = (share > low) & (share <= high)
        assert power[band].sum() == pytest.approx(case.spectrum[band].sum(), abs=0.02 * total)


def test_the_truth_is_band_limited_with_the_noise() -> None:
    condition = Condition("box", zero_filling=1.67)
    image = np.full((64, 64), 200.0) + np.random.default_rng(0).normal(scale=20.0, size=(64, 64))
    case = add_noise(image, 0.04, condition, np.random.default_rng(1))
    outside = condition.weights((64, 64)) == 0.0
    assert outside.mean() == pytest.approx(1 - 1 / 1.67**2, abs=0.05)
    assert np.abs(np.fft.fft2(case.truth))[outside].max() < 1e-6 * 200.0 * 64**2


def test_white_noise_leaves_the_truth_as_it_is() -> None:
    np.testing.assert_allclose(
        add_noise(scene(), 0.04, CONDITIONS[0], np.random.default_rng(0)).truth, scene(), atol=1e-9
    )


def test_noise_that_is_none_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="must be positive, got 0"):
        add_noise(scene(), 0.0, CONDITIONS[0], rng)
    with pytest.raises(EvaluationError, match="2 dimensions"):
        add_noise(np.ones(5), 0.1, CONDITIONS[0], rng)
    with pytest.raises(EvaluationError, match="zero_filling must be >= 1"):
        Condition("x", zero_filling=0.5)
    with pytest.raises(EvaluationError, match="filter_floor must lie"):
        Condition("x", filter_floor=0.0)


# --- classical denoisers ---


@pytest.mark.parametrize("method", ["bm3d", "nlm"])
def test_a_classical_denoiser_gains_and_leaves_no_bias_in_air(method: str) -> None:
    if not classical.is_installed(method):
        pytest.skip(f"the package of {method} is not installed: {classical.INSTALL}")
    case = add_noise(scene(), 0.08, CONDITIONS[0], np.random.default_rng(0))
    call: Any = classical.denoise_bm3d if method == "bm3d" else classical.denoise_nlm
    restored = call(case.noisy, case.noise_sd)
    assert likeness(restored, case.truth).psnr_db > likeness(case.noisy, case.truth).psnr_db + 5
    air = restored[:10, :10]
    assert air.mean() < 0.5 * case.noise_sd < case.noisy[:10, :10].mean()


def test_bm3d_gains_from_the_spectrum_of_correlated_noise() -> None:
    if not classical.is_installed("bm3d"):
        pytest.skip(f"the package of bm3d is not installed: {classical.INSTALL}")
    case = add_noise(scene(), 0.08, CONDITIONS[2], np.random.default_rng(0))
    alone = classical.denoise_bm3d(case.noisy, case.noise_sd)
    told = classical.denoise_bm3d(case.noisy, case.noise_sd, spectrum=case.spectrum)
    assert likeness(told, case.truth).psnr_db > likeness(alone, case.truth).psnr_db + 0.5


def test_a_denoiser_that_is_not_installed_says_how_to_get_it() -> None:
    if classical.is_installed("bm3d"):
        pytest.skip("bm3d is installed")
    with pytest.raises(EvaluationError, match=r"bm3d needs the package bm3d: pip install"):
        classical.denoise_bm3d(scene(), 1.0)


def compared(network_db: float, rival_db: float, condition: str = "white") -> ComparedImage:
    rival = "bm3d" if condition == "white" else "bm3d_spectrum"
    liked = {
        "network": Likeness(network_db, network_db + 1, 0.9, 0.95),
        rival: Likeness(rival_db, rival_db + 1, 0.9, 0.95),
    }
    return ComparedImage("set", 0, condition, 0.04, 1.0, liked)


def test_the_network_must_be_ahead_by_the_bar() -> None:
    ahead, *_ = comparison_measures([compared(30.5, 30.0)])
    behind, *_ = comparison_measures([compared(30.4, 30.0)])
    assert (ahead.met, behind.met) == (True, False)
    assert ahead.values == pytest.approx((0.5, 0.5))


def test_a_rival_that_is_not_installed_is_not_beaten() -> None:
    measures = comparison_measures([compared(30.5, 30.0)])
    nlm = [m for m in measures if "NLM" in m.name]
    assert nlm
    assert {m.verdict for m in nlm} == {"not measured"}
    assert "pip install" in nlm[0].value_text


def test_the_estimate_that_is_farthest_off_is_named() -> None:
    cases = [replace(compared(30.5, 30.0), noise_ratio=r) for r in (1.1, 0.4, 1.0)]
    estimate = comparison_measures(cases)[-1]
    assert estimate.values == pytest.approx((1.0, 0.4))
    assert estimate.bar is None


# --- images ---


def nifti(path: Path, volume: npt.NDArray[Any], order: str = "<", slope: float = 0.0) -> Path:
    """Write a NIfTI-1 file of 16-bit integers."""
    header = bytearray(352)
    header[:4] = struct.pack(f"{order}i", 348)
    header[40:56] = struct.pack(f"{order}8h", 3, *volume.shape, 1, 1, 1, 1)
    header[70:72] = struct.pack(f"{order}h", 4)
    header[108:120] = struct.pack(f"{order}3f", 352.0, slope, 5.0 if slope else 0.0)
    header[344:348] = b"n+1\0"
    content = bytes(header) + volume.astype(f"{order}i2").tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nifti_slices_lie_along_the_shortest_axis(
    tmp_path: Path, order: str, name: str, axis: int
) -> None:
    volume = np.arange(3 * 40 * 50).reshape(3, 40, 50) % 3000
    moved = np.moveaxis(volume, 0, axis)
    np.testing.assert_array_equal(read_nifti(nifti(tmp_path / name, moved, order)), volume)


def test_nifti_values_are_scaled(tmp_path: Path) -> None:
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    scaled = read_nifti(nifti(tmp_path / "a.nii", volume, slope=0.5))
    np.testing.assert_allclose(scaled, volume * 0.5 + 5.0)


def test_what_is_no_nifti_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.nii"
    short.write_bytes(b"no")
    with pytest.raises(EvaluationError, match=r"short.nii is shorter"):
        read_nifti(short)
    other = tmp_path / "other.nii"
    other.write_bytes(bytes(400))
    with pytest.raises(EvaluationError, match=r"other.nii is no single-file NIfTI-1"):
        read_nifti(other)
    cut = nifti(tmp_path / "cut.nii", np.zeros((2, 3, 4)))
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(EvaluationError, match=r"cut.nii ends before its last voxel"):
        read_nifti(cut)
    plain = tmp_path / "plain.nii.gz"
    plain.write_bytes(bytes(400))
    with pytest.raises(EvaluationError, match=r"plain.nii.gz is no gzip file"):
        read_nifti(plain)


def test_slices_come_from_the_middle_of_a_volume() -> None:
    volume = np.stack([np.full((300, 40), 1.0 + i) for i in range(21)])
    volume[:, 0, 0] = -3.0
    (one,) = pick_slices(volume, 1)
    assert one.shape == (256, 40)
    assert one.max() == 11.0
    assert [image.max() for image in pick_slices(volume, 3)] == [6.0, 11.0, 16.0]
    assert pick_slices(volume[:, :100], 1)[0].min() == 0.0
    np.testing.assert_array_equal(centre_crop(np.arange(25).reshape(5, 5), 3)[0], [6, 7, 8])


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"at least 32 rows and columns, got shape \(3, 8"):
        pick_slices(np.ones((3, 8, 40)), 1)
    with pytest.raises(EvaluationError, match="slice 1 is dark"):
        pick_slices(np.zeros((3, 40, 40)), 1)


# --- arithmetic ---


def test_multiply_adds_grow_with_the_pixels() -> None:
    small, large = multiply_adds(None, 64, 64), multiply_adds(None, 64, 128)
    assert large == 2 * small
    assert small > 64 * 64 * 1000


def test_multiply_adds_of_known_operators() -> None:
    def node(kind: str, inputs: list[list[int]], output: list[int]) -> int:
        described = [{"float": shape} for shape in inputs]
        args = {
            "op_name": kind,
            "input_type_shape": described,
            "output_type_shape": [{"float": output}],
        }
        return arithmetic._of_node(args)

    assert node("Relu", [[1, 4, 8, 8]], [1, 4, 8, 8]) == 0
    assert node("Conv", [[1, 4, 8, 8], [6, 4, 3, 3], [6]], [1, 6, 8, 8]) == 6 * 64 * 4 * 9
    # Stride 2: the kernel is applied at the output's places, transposed at the input's.
    assert node("Conv", [[1, 4, 8, 8], [6, 4, 6, 6]], [1, 6, 4, 4]) == 6 * 16 * 4 * 36
    assert node("ConvTranspose", [[1, 6, 4, 4], [6, 4, 6, 6]], [1, 4, 8, 8]) == 6 * 16 * 4 * 36
    assert node("MatMul", [[5, 7], [7, 3]], [5, 3]) == 5 * 7 * 3
    with pytest.raises(EvaluationError, match="'Attention' is not known"):
        node("Attention", [[1, 4], [4, 4]], [1, 4])
    with pytest.raises(EvaluationError, match="does not give the kernel"):
        node("Conv", [[1, 4, 8, 8]], [1, 6, 8, 8])


def test_the_rate_of_a_matrix_product_is_positive() -> None:
    assert matrix_product_rate(128, 2) > 1e6


# --- edges and lesions on shapes whose answer is known ---


@pytest.mark.parametrize("sd_mm", [0.3, 0.5, 0.7])
def test_width_of_a_gaussian_edge(sd_mm: float) -> None:
    x = np.arange(-4.0, 4.05, 0.1)
    profile = 5.0 + 3.0 * erf(x / sd_mm / math.sqrt(2))
    assert edge_width_mm(profile) == pytest.approx(2.5631 * sd_mm, rel=0.01)


def test_width_of_a_ramp() -> None:
    x = np.arange(-4.0, 4.05, 0.1)
    assert edge_width_mm(np.clip(x, -1, 1)) == pytest.approx(1.6, rel=0.01)


def test_the_share_of_a_contrast() -> None:
    wanted = scene()
    assert lesions.projected_share(0.7 * wanted, wanted) == pytest.approx(0.7)
    noise = np.random.default_rng(0).normal(size=wanted.shape)
    assert lesions.projected_share(wanted + noise, wanted) == pytest.approx(1.0, abs=0.01)


def test_cover_of_an_ellipse_has_its_area() -> None:
    rows = np.asarray(np.arange(-20, 20) * 0.7, np.float64)
    columns = np.asarray(np.arange(-15, 15) * 1.1, np.float64)
    cover = lesions.ellipse_cover(rows, 0.3, 3.0, columns, -0.2, 2.0)
    assert cover.sum() * 0.7 * 1.1 == pytest.approx(math.pi * 6.0, rel=0.01)
    assert 0.0 <= cover.min() <= cover.max() == 1.0
