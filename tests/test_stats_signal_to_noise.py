"""Signal-to-noise ratios: simulated images whose noise is known, and where the background lies."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from halfscan_stats import (
    RAYLEIGH_SD,
    Reason,
    SignalToNoise,
    SnrMethod,
    StatsError,
    snr_background,
    snr_difference,
    snr_noise_map,
)

Image = npt.NDArray[np.float64]
SIGNAL = 100.0
SIDE = 256
TISSUE = (slice(64, 192), slice(64, 192))  # 16,384 pixels
AIR = (slice(0, 40), slice(0, SIDE))  # 10,240 pixels


def magnitude(rng: np.random.Generator, sigma: Image | float, shading: float = 0.0) -> Image:
    """Magnitude of complex noise on a square of tissue, in air."""
    truth = np.zeros((SIDE, SIDE))
    columns = np.linspace(-1, 1, 128)
    truth[TISSUE] = SIGNAL * (1 + shading * columns)
    noise = rng.normal(0, 1, (2, SIDE, SIDE)) * sigma
    found: Image = np.hypot(truth + noise[0], noise[1])
    return found


def known(answer: SignalToNoise) -> float:
    assert answer.value is not None
    return answer.value


def test_the_constant_is_that_of_the_rayleigh_distribution() -> None:
    assert pytest.approx(0.655, abs=0.0005) == RAYLEIGH_SD
    assert pytest.approx(1.53, abs=0.005) == 1 / RAYLEIGH_SD
    drawn = np.hypot(*np.random.default_rng(1).normal(0, 1, (2, 1_000_000)))
    assert drawn.std() == pytest.approx(RAYLEIGH_SD, rel=0.003)


@pytest.mark.parametrize("true_snr", [10, 25, 60])
@pytest.mark.parametrize("shading", [0.0, 0.4])
def test_the_difference_method_finds_the_known_noise(true_snr: float, shading: float) -> None:
    """Of 16,384 pixels the SD has a standard error of 0.55 %: three of them."""
    rng = np.random.default_rng(2)
    one, other = (magnitude(rng, SIGNAL / true_snr, shading) for _ in range(2))
    found = snr_difference(one[TISSUE], other[TISSUE])
    assert known(found) == pytest.approx(true_snr, rel=0.0166)
    assert found.noise == pytest.approx(SIGNAL / true_snr, rel=0.0166)
    assert found.signal == pytest.approx(SIGNAL, rel=0.01)
    assert (found.n, found.n_given) == (128 * 128, 128 * 128)


def test_shading_falsifies_no_difference_but_the_sd_within_one_image() -> None:
    rng = np.random.default_rng(3)
    one, other = (magnitude(rng, 4.0, shading=0.4) for _ in range(2))
    assert known(snr_difference(one[TISSUE], other[TISSUE])) == pytest.approx(25, rel=0.0166)
    assert one[TISSUE].mean() / one[TISSUE].std() < 5


def test_the_background_of_one_coil_is_off_by_the_rayleigh_factor() -> None:
    image = magnitude(np.random.default_rng(4), 4.0)
    found = known(snr_background(image[TISSUE], image[AIR]))
    assert found == pytest.approx(25 / RAYLEIGH_SD, rel=0.025)


@pytest.mark.parametrize("g_factor", [1.5, 2.5])
def test_parallel_imaging_falsifies_the_background_by_its_g_factor(g_factor: float) -> None:
    """Noise is amplified where coils fold over (in the tissue) and not in the air."""
    rng = np.random.default_rng(5)
    sigma = np.full((SIDE, SIDE), 2.0)
    sigma[TISSUE] *= g_factor
    one, other = (magnitude(rng, sigma) for _ in range(2))
    true_snr = SIGNAL / (2.0 * g_factor)
    assert known(snr_difference(one[TISSUE], other[TISSUE])) == pytest.approx(true_snr, rel=0.0166)
    mapped = snr_noise_map(float(one[TISSUE].mean()), sigma[TISSUE])
    assert known(mapped) == pytest.approx(true_snr, rel=0.01)
    background = known(snr_background(one[TISSUE], one[AIR]))
    assert background / true_snr == pytest.approx(g_factor / RAYLEIGH_SD, rel=0.025)


def test_a_denoiser_that_works_harder_in_the_air_falsifies_the_background() -> None:
    """Strong smoothing in air, weak in tissue, as adaptive filters have it."""
    rng = np.random.default_rng(6)

    def denoised() -> Image:
        image = magnitude(rng, 4.0)
        kept: Image = ndimage.gaussian_filter(image, 3.0)
        kept[TISSUE] = ndimage.gaussian_filter(image, 0.5)[TISSUE]
        return kept

    one, other = denoised(), denoised()
    inner = (slice(70, 186), slice(70, 186))
    true_noise = np.std(
        [denoised()[inner] for _ in range(12)], axis=0, ddof=1
    )  # of each pixel, over acquisitions
    true_snr = SIGNAL / math.sqrt(float((true_noise**2).mean()))
    assert known(snr_difference(one[inner], other[inner])) == pytest.approx(true_snr, rel=0.03)
    assert known(snr_background(one[inner], one[AIR])) > 3 * true_snr


def test_swapping_and_scaling_change_nothing_and_movement_counts_as_noise() -> None:
    rng = np.random.default_rng(7)
    one, other = (magnitude(rng, 4.0, shading=0.4)[TISSUE] for _ in range(2))
    found = known(snr_difference(one, other))
    assert known(snr_difference(other, one)) == pytest.approx(found)
    assert known(snr_difference(one * 7, other * 7)) == pytest.approx(found)
    assert known(snr_difference(one, other + 0)) == found
    assert known(snr_difference(one, np.roll(other, 12, axis=1))) < 0.7 * found


def test_missing_pixels_leave_by_pairs() -> None:
    first, second = [10.0, 12.0, None, 9.0], [11.0, math.nan, 3.0, 12.0]
    found = snr_difference(first, second)
    assert (found.n, found.n_given) == (2, 4)
    # Differences -1 and -3: SD sqrt(2), over sqrt(2) 1; signal (21 + 21) / 4.
    assert found.value == pytest.approx(10.5)
    assert found.as_dict()["noise"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: snr_difference([5.0], [6.0]), Reason.TOO_FEW),
        (lambda: snr_difference([], []), Reason.TOO_FEW),
        (lambda: snr_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), Reason.ZERO_VARIANCE),
        (lambda: snr_difference([0.1, 0.2, 0.3], [1.1, 1.2, 1.3]), Reason.ZERO_VARIANCE),
        (lambda: snr_background([5.0, 6.0], [1.0]), Reason.TOO_FEW),
        (lambda: snr_background([5.0, 6.0], [1.0, 1.0]), Reason.ZERO_VARIANCE),
        (lambda: snr_background([], [1.0, 2.0]), Reason.TOO_FEW),
        (lambda: snr_noise_map(5.0, []), Reason.TOO_FEW),
        (lambda: snr_noise_map(5.0, [None, math.nan]), Reason.TOO_FEW),
        (lambda: snr_noise_map(5.0, [0.0, 0.0]), Reason.ZERO_VARIANCE),
    ],
)
def test_what_has_no_answer(answer: Callable[[], SignalToNoise], reason: Reason) -> None:
    found = answer()
    assert (found.value, found.reason) == (None, reason)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: snr_difference([1, 2], [1, 2, 3]), "must hold the same pixels, got shapes"),
        (lambda: snr_difference(["a", 2], [1, 2]), "must be numbers"),
        (lambda: snr_difference([math.inf, 2], [1, 2]), "must be finite or missing"),
        (lambda: snr_noise_map(5.0, [1.0, -2.0]), "must hold standard deviations >= 0, got -2"),
        (lambda: snr_noise_map(math.nan, [1.0]), "signal must be a finite number, got nan"),
        (lambda: snr_difference([1e200, 2], [1, 2]), "must not exceed"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], rule: str) -> None:
    with pytest.raises(StatsError, match=rule):
        call()


def test_the_methods_have_these_names() -> None:
    assert [one.value for one in SnrMethod] == ["background", "difference", "noise_map"]
