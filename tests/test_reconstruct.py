"""The public contract of `Reconstructor`, with the network that is shipped."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import halfscan_models
from halfscan_models import (
    DeviceError,
    ModelNotFoundError,
    Reconstructor,
    VolumeError,
    find_model,
    inference,
    load_reconstructor,
)

Volume = npt.NDArray[np.float32]
Image = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def network() -> Reconstructor:
    """Return the default model."""
    return load_reconstructor()


def phantom(rows: int, columns: int) -> Image:
    """Tissues with edges, a ramp and thin lines in air; peak 100."""
    y, x = np.mgrid[:rows, :columns]
    y, x = y / rows - 0.5, x / columns - 0.5
    tissue = np.select([y < -0.12, x < -0.1, y + x < 0.1], [40.0, 100.0, 70 + 40 * x], 55.0)
    tissue = np.where(np.abs((x - 0.1) % 0.125) < 0.012, 85.0, tissue)
    return np.where((x / 0.42) ** 2 + (y / 0.36) ** 2 < 1, tissue, 0.0)


def add_noise(clean: Image, sigma: float, seed: int = 0) -> Volume:
    """Magnitude of the image with complex noise."""
    rng = np.random.default_rng(seed)
    channels = rng.normal(scale=sigma, size=(2, *clean.shape))
    return np.asarray(np.hypot(clean + channels[0], channels[1]), dtype=np.float32)


def psnr(image: npt.NDArray[Any], clean: Image) -> float:
    return float(20 * np.log10(clean.max()) - 10 * np.log10(np.mean((image - clean) ** 2)))


@pytest.fixture(scope="module")
def noisy() -> Volume:
    """Return three slices with different noise."""
    return np.stack([add_noise(phantom(72, 60), sigma, seed=7) for sigma in (3.0, 6.0, 12.0)])


# --- what it gives ---


@pytest.mark.parametrize(
    "shape",
    [(1, 64, 64), (3, 33, 47), (2, 16, 15), (2, 5, 9), (1, 1, 1), (2, 1, 40), (40, 20, 20)],
    ids=str,
)
def test_result_has_the_shape_of_the_source(
    network: Reconstructor, shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(1)
    source = np.abs(50 + 5 * rng.normal(size=shape)).astype(np.float32)
    before = source.copy()
    result = network.reconstruct(source)
    assert result.volume.shape == shape
    assert result.volume.dtype == np.float32
    assert np.isfinite(result.volume).all()
    assert result.volume.min() >= 0.0
    assert result.noise_sd.shape == (shape[0],)
    assert len(result.quality.slices) == shape[0]
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize(("sigma", "gain_db"), [(2.0, 3.0), (5.0, 5.0), (10.0, 6.0)])
def test_noise_goes_and_the_picture_stays(
    network: Reconstructor, sigma: float, gain_db: float
) -> None:
    clean = phantom(128, 112)
    source = add_noise(clean, sigma)
    result = network.reconstruct(source[None])
    # A lower bound: on so small a picture much of the noise cannot be told from structure.
    assert 0.8 * sigma < result.noise_sd[0] < 1.1 * sigma
    assert psnr(result.volume[0], clean) - psnr(source, clean) >= gain_db


def test_interpolated_noise_goes_too(network: Reconstructor) -> None:
    clean, rng = phantom(128, 128), np.random.default_rng(2)
    kspace = np.zeros((128, 128), dtype=np.complex128)
    kspace[24:104, 24:104] = rng.normal(size=(80, 80)) + 1j * rng.normal(size=(80, 80))
    noise = np.fft.ifft2(np.fft.ifftshift(kspace))
    noise *= 5 / np.sqrt(np.mean(np.abs(noise) ** 2) / 2)
    inside = np.pad(np.ones((80, 80)), 24)
    smooth = np.fft.ifft2(np.fft.fft2(clean) * np.fft.ifftshift(inside))
    source, target = np.abs(smooth + noise), np.abs(smooth)
    result = network.reconstruct(source[None])
    assert psnr(result.volume[0], target) - psnr(source, target) >= 4.0


def test_air_gets_darker_and_tissue_keeps_its_level(network: Reconstructor) -> None:
    clean, sigma = phantom(128, 112), 5.0
    restored = network.reconstruct(add_noise(clean, sigma)[None]).volume[0]
    air = restored[:14]
    assert air.mean() < 0.5 * sigma  # 1.25 sigma before
    plain = (slice(70, 88), slice(28, 37))
    assert np.ptp(clean[plain]) == 0.0
    assert restored[plain].mean() == pytest.approx(clean[plain].mean(), abs=0.3 * sigma)
    assert restored[plain].std() < 0.5 * sigma


def test_the_local_mean_of_fine_texture_stays(network: Reconstructor) -> None:
    # Bright dots on a dark ground, faint against the noise: the most likely picture has none. The
    # lower half is plain, so that the noise can be told from the dots.
    clean = np.full((128, 96), 20.0)
    clean[:64:3, ::3] += 25.0
    sigma = 5.0
    restored = network.reconstruct(add_noise(clean, sigma, seed=3)[None])
    assert restored.noise_sd[0] == pytest.approx(sigma, rel=0.15)
    for part in (slice(12, 52), slice(76, 116)):
        bias = restored.volume[0, part, 12:-12].mean() - clean[part, 12:-12].mean()
        assert abs(bias) < 0.3 * sigma


def test_quality_says_what_changed(network: Reconstructor, noisy: Volume) -> None:
    result = network.reconstruct(noisy)
    for level, figures in zip(result.noise_sd, result.quality.slices, strict=True):
        assert figures.noise_before == level
        assert figures.noise_after < 0.6 * figures.noise_before
        assert 0.1 < figures.mean_change < figures.largest_change < 12.0
    content = json.loads(json.dumps(result.quality.as_dict()))
    assert content["model"] == network.spec.name
    assert content["sha256"] == network.spec.sha256
    assert content["strength"] == 1.0
    assert content["slices"][2]["noise_before"] == result.noise_sd[2]


def test_the_specification_is_that_of_the_model(network: Reconstructor) -> None:
    assert network.spec == find_model()
    assert network.device == "cpu"


# --- strength ---


def test_strength_zero_gives_the_source(network: Reconstructor, noisy: Volume) -> None:
    result = network.reconstruct(noisy, strength=0.0)
    np.testing.assert_array_equal(result.volume, noisy)
    assert result.quality.slices[0].largest_change == 0.0


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9])
def test_strength_blends_linearly(network: Reconstructor, noisy: Volume, strength: float) -> None:
    full = network.reconstruct(noisy).volume.astype(np.float64)
    part = network.reconstruct(noisy, strength=strength).volume
    np.testing.assert_allclose(part, noisy + strength * (full - noisy), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.0001, float("nan"), float("inf")])
def test_strength_outside_its_range_is_refused(
    network: Reconstructor, noisy: Volume, strength: float
) -> None:
    with pytest.raises(VolumeError, match="strength must be between 0 and 1, got"):
        network.reconstruct(noisy, strength=strength)


# --- what always holds ---


@pytest.mark.parametrize("value", [0.0, 1e-30, 7.0, 0.1, 3e38])
def test_a_flat_volume_stays_as_it_is(network: Reconstructor, value: float) -> None:
    source = np.full((2, 30, 31), value, dtype=np.float32)
    result = network.reconstruct(source)
    np.testing.assert_array_equal(result.volume, source)
    np.testing.assert_array_equal(result.noise_sd, [0.0, 0.0])


def test_a_picture_without_noise_stays_as_it_is(network: Reconstructor) -> None:
    blocks = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    source = np.kron(blocks, np.ones((1, 20, 21), dtype=np.float32))
    np.testing.assert_array_equal(network.reconstruct(source).volume, source)


def test_only_slices_with_noise_are_touched(network: Reconstructor, noisy: Volume) -> None:
    source = np.stack([noisy[0], np.zeros_like(noisy[0]), noisy[1]])
    result = network.reconstruct(source)
    assert result.noise_sd[1] == 0.0
    assert (result.noise_sd[[0, 2]] > 0).all()
    np.testing.assert_array_equal(result.volume[1], 0.0)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 17.0, 1e30])
def test_result_follows_the_scale(network: Reconstructor, noisy: Volume, scale: float) -> None:
    scaled = (noisy.astype(np.float64) * scale).astype(np.float32)
    once, other = network.reconstruct(noisy), network.reconstruct(scaled)
    np.testing.assert_allclose(other.noise_sd, once.noise_sd * scale, rtol=1e-5)
    difference = np.abs(other.volume / scale - once.volume) / once.noise_sd[:, None, None]
    assert difference.max() < 0.01


def test_slices_do_not_depend_on_their_neighbours(network: Reconstructor, noisy: Volume) -> None:
    together = network.reconstruct(noisy)
    alone = np.concatenate([network.reconstruct(image[None]).volume for image in noisy])
    backwards = network.reconstruct(noisy[::-1]).volume[::-1]
    np.testing.assert_array_equal(alone, together.volume)
    np.testing.assert_array_equal(backwards, together.volume)


def test_a_stream_gives_the_same_and_asks_for_one_slice_at_a_time(
    network: Reconstructor, noisy: Volume
) -> None:
    class Slices:
        """Not an array: slices that are made when they are asked for."""

        shape = noisy.shape

        def __getitem__(self, index: int) -> npt.NDArray[np.uint16]:
            return np.asarray(np.round(10 * noisy[index]), dtype=np.uint16)

    whole = network.reconstruct(np.round(10 * noisy))
    streamed = list(network.stream(Slices()))
    np.testing.assert_array_equal([one.image for one in streamed], whole.volume)
    assert tuple(one.quality for one in streamed) == whole.quality.slices
    assert network.quality([one.quality for one in streamed], 1.0) == whole.quality
    np.testing.assert_array_equal(network.reconstruct(Slices()).volume, whole.volume)


@pytest.mark.parametrize("shape", [(210, 100), (101, 233)], ids=str)
def test_tiles_of_large_slices_give_the_same(
    network: Reconstructor, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = add_noise(phantom(*shape), 5.0)[None]
    once = network.reconstruct(source)
    monkeypatch.setattr(inference, "_TILE", 80)
    again = network.reconstruct(source)
    assert np.abs(again.volume - once.volume).max() < 0.05 * once.noise_sd[0]


def test_progress_reaches_the_end(network: Reconstructor, noisy: Volume) -> None:
    calls: list[tuple[int, int]] = []
    network.reconstruct(noisy, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (3, 3)
    assert calls == sorted(calls)


def test_stored_integers_give_the_same_as_floats(network: Reconstructor, noisy: Volume) -> None:
    stored = np.round(noisy * 10).astype(np.uint16)
    np.testing.assert_array_equal(
        network.reconstruct(stored).volume,
        network.reconstruct(stored.astype(np.float32)).volume,
    )


# --- what is refused ---


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.ones((8, 8)), r"3 dimensions.*\(8, 8\)"),
        (np.ones((1, 1, 8, 8)), r"3 dimensions.*\(1, 1, 8, 8\)"),
        (np.ones((0, 8, 8)), r"must not be empty, got shape \(0, 8, 8\)"),
        (np.ones((2, 8, 0)), "must not be empty"),
        (np.ones((1, 8, 8), dtype=complex), "real numbers, got type complex128"),
        (np.full((1, 8, 8), "a"), "real numbers, got type <U1"),
        (np.full((1, 8, 8), fill_value=True), "real numbers, got type bool"),
        (np.full((1, 8, 8), -0.5), "must not be negative, got -0.5"),
        (np.full((3, 8, 8), 1e300), r"slice 0 \(3 of 3 slices\)"),
    ],
)
def test_a_bad_volume_is_refused(
    network: Reconstructor, volume: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(VolumeError, match=message):
        network.reconstruct(volume)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_without_meaning_are_refused(
    network: Reconstructor, noisy: Volume, value: float
) -> None:
    source = noisy.copy()
    source[1, 3, 4] = value
    with pytest.raises(VolumeError, match=r"must be finite.*slice 1 \(1 of 3 slices\)"):
        network.reconstruct(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device must be one of cpu, cuda, got 'tpu'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_a_bad_device_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        load_reconstructor(**options)


def test_cuda_is_used_or_refused_but_never_replaced(noisy: Volume) -> None:
    try:
        network = load_reconstructor(device="cuda")
    except DeviceError as error:
        assert "cuda" in str(error)  # noqa: PT017 - which of the two holds depends on the machine
    else:
        assert network.device == "cuda"
        assert network.reconstruct(noisy).volume.shape == noisy.shape


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="no model is called 'nothing'"):
        load_reconstructor("nothing")


# --- imports ---


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, halfscan_models; "
        "heavy = {'onnxruntime', 'torch', 'scipy', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "from halfscan_models import load_reconstructor; "
        "heavy = {'onnxruntime', 'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in halfscan_models.__all__:
        assert getattr(halfscan_models, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = halfscan_models.nothing
