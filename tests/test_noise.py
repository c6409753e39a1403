"""The blind noise estimate: right where it can be, silent where there is nothing."""

import numpy as np
import numpy.typing as npt
import pytest

from halfscan_models import VolumeError, estimate_noise_sd
from halfscan_models.noise import _rician_table

Image = npt.NDArray[np.float64]


def complex_noise(
    acquired: int, matrix: int, rng: np.random.Generator, *, smooth: bool = False
) -> npt.NDArray[np.complex128]:
    """Noise of unit standard deviation per channel, zero filled from `acquired` to `matrix`."""
    kspace = np.zeros((matrix, matrix), dtype=np.complex128)
    first = (matrix - acquired) // 2
    part = slice(first, first + acquired)
    white = rng.normal(size=(acquired, acquired)) + 1j * rng.normal(size=(acquired, acquired))
    if smooth:
        window = np.hamming(acquired)
        white *= window[:, None] * window
    kspace[part, part] = white
    noise = np.fft.ifft2(np.fft.ifftshift(kspace))
    return np.asarray(noise / np.sqrt(np.mean(np.abs(noise) ** 2) / 2))


def body(matrix: int) -> Image:
    """An ellipse of four tissues in air, peak 100."""
    y, x = np.mgrid[:matrix, :matrix] / matrix - 0.5
    tissue = np.select([y < -0.1, x < -0.1, y + x < 0.1], [40.0, 100.0, 70.0], 55.0)
    return np.where((x / 0.42) ** 2 + (y / 0.36) ** 2 < 1, tissue, 0.0)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("acquired", [128, 104, 80, 64])
def test_estimate_is_within_a_tenth_in_tissue_and_air(sigma: float, acquired: int) -> None:
    rng = np.random.default_rng(4)
    noisy = np.abs(body(128) + sigma * complex_noise(acquired, 128, rng))
    assert estimate_noise_sd(noisy) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("level", [0.0, 3.0, 100.0], ids=["air", "faint", "bright"])
@pytest.mark.parametrize("acquired", [192, 144, 96])
def test_estimate_is_within_a_tenth_on_plain_ground(level: float, acquired: int) -> None:
    rng = np.random.default_rng(5)
    noisy = np.abs(level + complex_noise(acquired, 192, rng))
    assert estimate_noise_sd(noisy) == pytest.approx(1.0, rel=0.1)


def test_filtered_noise_is_within_a_fifth() -> None:
    rng = np.random.default_rng(6)
    noisy = np.abs(body(128) + 2 * complex_noise(96, 128, rng, smooth=True))
    assert estimate_noise_sd(noisy) == pytest.approx(2.0, rel=0.2)


def test_air_that_was_set_to_zero_does_not_count() -> None:
    rng = np.random.default_rng(7)
    clean = body(128)
    noisy = np.where(clean > 0, np.abs(clean + 3 * complex_noise(128, 128, rng)), 0.0)
    assert estimate_noise_sd(noisy) == pytest.approx(3.0, rel=0.1)


def test_large_images_are_sampled_without_bias() -> None:
    rng = np.random.default_rng(8)
    noisy = np.abs(body(600) + 3 * complex_noise(600, 600, rng))
    assert estimate_noise_sd(noisy) == pytest.approx(3.0, rel=0.05)


def test_estimate_follows_the_scale() -> None:
    rng = np.random.default_rng(9)
    noisy = np.abs(body(64) + 3 * complex_noise(64, 64, rng))
    once = estimate_noise_sd(noisy)
    for scale in (1e-30, 1e-3, 1e30):
        assert estimate_noise_sd(noisy * scale) == pytest.approx(once * scale, rel=1e-6)


def test_estimate_is_the_same_turned_over() -> None:
    rng = np.random.default_rng(10)
    noisy = np.abs(body(96) + 3 * complex_noise(96, 96, rng))
    once = estimate_noise_sd(noisy)
    for other in (noisy[::-1], noisy[:, ::-1], noisy.T):
        assert estimate_noise_sd(other) == pytest.approx(once, rel=0.02)


def test_integers_are_taken() -> None:
    rng = np.random.default_rng(11)
    noisy = np.abs(20 * body(96) + 60 * complex_noise(96, 96, rng))
    stored = np.round(noisy).astype(np.uint16)
    assert estimate_noise_sd(stored) == pytest.approx(estimate_noise_sd(noisy), rel=0.01)


@pytest.mark.parametrize("shape", [(8, 8), (9, 30), (5, 7), (6, 6)])
def test_small_images_are_right_on_average(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(12)
    estimates = [estimate_noise_sd(50 + 2 * rng.normal(size=shape)) for _ in range(50)]
    assert np.mean(estimates) == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20)),
        np.full((20, 20), 7.0),
        np.full((40, 40), 1e30),
        np.full((9, 9), 0.1, dtype=np.float32),
        body(64),
        np.add.outer(np.arange(30.0), 2 * np.arange(30.0)),
        np.ones((1, 1)),
        np.arange(40.0).reshape(2, 20),
        np.zeros((0, 5)),
    ],
    ids=["zero", "flat", "huge", "float32", "body", "ramp", "pixel", "strip", "empty"],
)
def test_where_there_is_no_noise_the_estimate_is_zero(image: Image) -> None:
    assert estimate_noise_sd(image) == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_without_meaning_are_refused(value: float) -> None:
    image = np.ones((10, 10))
    image[3, 4] = value
    with pytest.raises(VolumeError, match="must be finite"):
        estimate_noise_sd(image)


def test_other_than_two_dimensions_are_refused() -> None:
    with pytest.raises(VolumeError, match=r"2 dimensions.*\(4, 4, 4\)"):
        estimate_noise_sd(np.ones((4, 4, 4)))


def test_rician_table_agrees_with_the_closed_form_in_air() -> None:
    # Rayleigh: mean sqrt(pi/2), standard deviation sqrt(2 - pi/2), in units of a channel.
    ratios, factors = _rician_table()
    assert factors[0] == pytest.approx(np.sqrt(2 - np.pi / 2), rel=1e-12)
    assert ratios[0] == pytest.approx(np.sqrt(np.pi / 2) / factors[0], rel=1e-12)
    assert factors[-1] == pytest.approx(1.0, abs=5e-3)
    assert (np.diff(ratios) > 0).all()
