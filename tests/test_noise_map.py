"""The noise map: noise told from texture, from place to place; what it cannot see, it leaves."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from halfscan_models import ModelFileError, VolumeError, estimate_noise, estimate_noise_sd
from halfscan_models import noise_map as module
from test_noise import body, complex_noise

Image = npt.NDArray[np.float64]


def textured(matrix: int, amount: float, seed: int) -> Image:
    """A body whose every place has band-pass texture: no quiet window anywhere inside."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(matrix), np.fft.fftfreq(matrix)))
    band = np.exp(-(((radius - 0.12) / 0.06) ** 2))
    texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=(matrix, matrix))) * band).real
    return np.asarray(np.maximum(100 * (1 + amount * texture / texture.std()), 0.0))


@pytest.mark.parametrize("sigma", [2.0, 8.0])
@pytest.mark.parametrize("acquired", [192, 152, 112])
def test_the_level_is_within_a_quarter_in_tissue_and_air(sigma: float, acquired: int) -> None:
    rng = np.random.default_rng(1)
    noise = estimate_noise(np.abs(body(192) + sigma * complex_noise(acquired, 192, rng)))
    assert noise.sd == pytest.approx(sigma, rel=0.25)
    assert noise.sd_map.shape == (192, 192)
    assert np.median(noise.sd_map) == pytest.approx(sigma, rel=0.15)


def test_texture_passes_for_noise_less_than_in_windows() -> None:
    rng = np.random.default_rng(2)
    noisy = np.abs(textured(192, 0.15, 3) + 3.0 * complex_noise(192, 192, rng))
    windows, noise = estimate_noise_sd(noisy), estimate_noise(noisy)
    assert windows > 6.0
    assert np.median(noise.sd_map) < 5.0
    assert np.all(noise.sd_low <= noise.sd_map)
    assert noise.sd == pytest.approx(3.0, rel=0.4)


def test_the_map_follows_noise_that_grows_across_the_image() -> None:
    """Noise three times as strong on the right, as a geometry factor makes it."""
    rng = np.random.default_rng(4)
    factor = np.linspace(1.0, 3.0, 256)
    noise = estimate_noise(np.abs(120 + 2.0 * factor * complex_noise(256, 256, rng)))
    found = np.median(noise.sd_map, axis=0) / 2.0
    assert found[20] == pytest.approx(factor[20], rel=0.25)
    assert found[128] == pytest.approx(factor[128], rel=0.15)
    assert found[235] == pytest.approx(factor[235], rel=0.25)
    assert noise.sd == pytest.approx(2.0 * np.median(factor), rel=0.25)
    assert np.all(noise.sd_low <= noise.sd_map)
    assert np.median(noise.sd_low / noise.sd_map) > 0.75


def test_the_estimate_follows_the_scale() -> None:
    noisy = np.abs(body(96) + 3 * complex_noise(96, 96, np.random.default_rng(5)))
    once = estimate_noise(noisy)
    for scale in (2.0**-90, 2.0**30):
        again = estimate_noise(noisy * scale)
        assert again.sd == once.sd * scale
        np.testing.assert_array_equal(again.sd_map, once.sd_map * scale)
        np.testing.assert_array_equal(again.sd_low, once.sd_low * scale)


def test_a_map_has_no_steps() -> None:
    """A bright image is divided by it: steps between blocks would show."""
    rng = np.random.default_rng(10)
    factor = np.linspace(1.0, 3.0, 160)
    noise = estimate_noise(np.abs(300 + factor * complex_noise(160, 160, rng)))
    for one in (noise.sd_map, noise.sd_low):
        assert np.abs(np.diff(np.log(one), axis=1)).max() < 0.02
        assert np.abs(np.diff(np.log(one), 2, axis=1)).max() < 0.005


def test_margins_set_to_zero_say_nothing() -> None:
    noisy = np.abs(80 + 3 * complex_noise(160, 160, np.random.default_rng(6)))
    noisy[:, :60] = 0.0
    noise = estimate_noise(noisy)
    assert noise.sd == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("shape", [(47, 200), (20, 20), (3, 3)])
def test_small_images_have_the_level_of_the_windows(shape: tuple[int, int]) -> None:
    image = np.abs(50 + 2 * np.random.default_rng(7).normal(size=shape))
    noise = estimate_noise(image)
    assert noise.sd == estimate_noise_sd(image)
    assert np.all(noise.sd_map == noise.sd)


@pytest.mark.parametrize("shape", [(48, 51), (61, 130)])
def test_the_map_has_the_shape_of_the_image(shape: tuple[int, int]) -> None:
    image = np.abs(50 + 2 * np.random.default_rng(8).normal(size=shape))
    noise = estimate_noise(image)
    assert noise.sd_map.shape == shape
    assert noise.sd == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("image", [np.zeros((64, 64)), body(64), np.full((64, 64), 7.0)])
def test_no_noise_is_no_noise(image: Image) -> None:
    noise = estimate_noise(image)
    assert noise.sd == 0.0
    assert not noise.sd_map.any()


def test_values_without_meaning_are_refused() -> None:
    image = np.ones((64, 64))
    image[3, 4] = np.nan
    with pytest.raises(VolumeError, match="must be finite"):
        estimate_noise(image)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "noise.onnx"
    monkeypatch.setattr(module, "_WEIGHTS", broken)
    noisy = np.abs(50 + np.random.default_rng(9).normal(size=(64, 64)))
    module._session.cache_clear()
    try:
        with pytest.raises(ModelFileError, match="cannot read the weights of the noise estimate"):
            estimate_noise(noisy)
        shutil.copy(Path(module.__file__).parent / "weights" / "noise.onnx", broken)
        broken.write_bytes(broken.read_bytes()[:-1])
        with pytest.raises(ModelFileError, match=r"noise\.onnx is not what came with this version"):
            estimate_noise(noisy)
    finally:
        module._session.cache_clear()


def test_a_first_guess_that_is_far_off_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows may be off by more than the network corrects at once: it looks twice."""
    noisy = np.abs(60 + 2 * complex_noise(128, 128, np.random.default_rng(11)))
    once = estimate_noise(noisy)
    for factor in (0.2, 5.0, 12.0):
        monkeypatch.setattr(module, "estimate_noise_sd", lambda _, factor=factor: 2.0 * factor)
        again = estimate_noise(noisy)
        assert again.sd == pytest.approx(once.sd, rel=0.25), factor
        assert again.windows == 2.0 * factor
