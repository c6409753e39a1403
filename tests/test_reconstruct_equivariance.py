"""What changes the input in a way that means nothing changes the result in the same way alone."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from halfscan_models import Reconstructor, load_reconstructor
from halfscan_models.orientation import canonical_views, distinct

Image = npt.NDArray[np.float32]  # (row, column)
Turn = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

# Rounding of single precision, in units of the noise.
ROUNDING = 1e-3

TURNS: dict[str, Turn] = {
    "rows mirrored": lambda image: image[::-1],
    "columns mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1, ::-1],
    "transposed": lambda image: image.T,
    "transposed, rows mirrored": lambda image: image.T[::-1],
    "transposed, columns mirrored": lambda image: image.T[:, ::-1],
    "transposed, upside down": lambda image: image.T[::-1, ::-1],
}
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def network() -> Reconstructor:
    return load_reconstructor(threads=1)


def scene(rows: int, columns: int, seed: int = 0) -> Image:
    """Smooth blobs with edges, and noise of standard deviation 5 in two channels."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=(rows, columns)), min(rows, columns) / 8)
    clean = np.where(blobs > 0, 100.0, 40.0)
    noise = rng.normal(scale=5.0, size=(2, rows, columns))
    return np.asarray(np.hypot(clean + noise[0], noise[1]), dtype=np.float32)


def one(network: Reconstructor, image: Image) -> tuple[Image, float]:
    """Give the result of one slice, and its noise."""
    result = network.reconstruct(image[None])
    return result.volume[0], float(result.noise_sd[0])


@pytest.mark.parametrize("shape", [(64, 64), (72, 51), (33, 47), (48, 49)], ids=str)
@pytest.mark.parametrize("turn", TURNS)
def test_turning_turns_the_result(
    network: Reconstructor, turn: str, shape: tuple[int, int]
) -> None:
    image = scene(*shape)
    once, noise = one(network, image)
    turned, noise_turned = one(network, TURNS[turn](image))
    np.testing.assert_array_equal(turned, TURNS[turn](once))
    assert noise_turned == noise > 0


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
    turn=st.sampled_from(sorted(TURNS)),
)
@few
def test_turning_turns_the_result_of_any_matrix(
    network: Reconstructor, shape: tuple[int, int], seed: int, turn: str
) -> None:
    image = scene(*shape, seed=seed)
    once, noise = one(network, image)
    turned, _ = one(network, TURNS[turn](image))
    np.testing.assert_allclose(turned, TURNS[turn](once), rtol=0, atol=ROUNDING * noise)


def test_quality_does_not_depend_on_the_orientation(network: Reconstructor) -> None:
    image = scene(64, 64)
    volume = np.stack([image, *(turn(image) for turn in TURNS.values())])
    assert len(set(network.reconstruct(volume).quality.slices)) == 1


SYMMETRIC: dict[str, Turn] = {
    "left and right": lambda image: np.concatenate([image, image[:, ::-1]], axis=1),
    "all four sides": lambda image: np.block(
        [[image, image[:, ::-1]], [image[::-1], image[::-1, ::-1]]]
    ),
    "diagonal": lambda image: image + image.T,
    "turned by 180 degrees": lambda image: image + image[::-1, ::-1],
}


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_the_result_of_a_symmetric_picture_is_symmetric(network: Reconstructor, kind: str) -> None:
    image = SYMMETRIC[kind](scene(32, 32))
    once, noise = one(network, image)
    kept = [turn for turn in TURNS.values() if np.array_equal(turn(image), image)]
    assert kept
    for turn in kept:
        np.testing.assert_allclose(turn(once), once, rtol=0, atol=ROUNDING * noise)


def test_symmetric_pixels_cost_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network, runs = load_reconstructor(threads=1), []
    whole = network._network

    def counted(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        runs.append(len(images))
        return whole(images)

    monkeypatch.setattr(network, "_network", counted)
    network.reconstruct(SYMMETRIC["left and right"](scene(32, 32))[None])
    assert runs == [1]


def test_a_picture_that_balances_without_symmetry_is_averaged(network: Reconstructor) -> None:
    """Every row has the same sum, and no orientation is better than its mirror image."""
    line = scene(1, 48)[0]
    image = np.stack([np.roll(line, 7 * row * row) for row in range(48)])
    views = canonical_views(image.astype(np.float64))
    assert len(distinct(views, image.astype(np.float64))) > 1
    once, noise = one(network, image)
    for turn in TURNS.values():
        np.testing.assert_allclose(
            one(network, turn(image))[0], turn(once), rtol=0, atol=ROUNDING * noise
        )


# --- scale ------------------------------------------------------------------------------------


@given(power=st.integers(-60, 60))
@few
def test_a_power_of_two_scales_exactly(network: Reconstructor, power: int) -> None:
    image, factor = scene(40, 33), np.float32(2.0**power)
    once, noise = one(network, image)
    scaled, noise_scaled = one(network, image * factor)
    np.testing.assert_array_equal(scaled, once * factor)
    assert noise_scaled == noise * factor


@given(factor=st.floats(1e-25, 1e30), seed=st.integers(0, 99))
@few
def test_any_factor_scales(network: Reconstructor, factor: float, seed: int) -> None:
    image = scene(40, 33, seed)
    once, noise = one(network, image)
    scaled, noise_scaled = one(network, (image.astype(np.float64) * factor).astype(np.float32))
    assert noise_scaled == pytest.approx(noise * factor, rel=1e-4)
    np.testing.assert_allclose(scaled / factor, once, rtol=0, atol=0.01 * noise)


# --- padding ----------------------------------------------------------------------------------


@given(border=st.tuples(*[st.integers(0, 40)] * 4))
@few
def test_zeros_around_the_picture_change_nothing(
    network: Reconstructor, border: tuple[int, int, int, int]
) -> None:
    image = scene(41, 50)
    once, noise = one(network, image)
    top, bottom, left, right = border
    padded, noise_padded = one(network, np.pad(image, ((top, bottom), (left, right))))
    np.testing.assert_array_equal(padded, np.pad(once, ((top, bottom), (left, right))))
    assert noise_padded == noise


@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8])
def test_tiny_pictures_come_back_finite(network: Reconstructor, rows: int, columns: int) -> None:
    image = scene(rows, columns, seed=rows)
    result, _ = one(network, image)
    assert result.shape == image.shape
    assert np.isfinite(result).all()
    if min(rows, columns) < 3:  # too small to tell noise from signal
        np.testing.assert_array_equal(result, image)


# --- pictures that must not change -------------------------------------------------------------


@given(value=st.floats(0, 2.0**127, width=32), shape=st.tuples(*[st.integers(1, 30)] * 2))
@few
def test_a_constant_stays_constant(
    network: Reconstructor, value: float, shape: tuple[int, int]
) -> None:
    image = np.full(shape, value, dtype=np.float32)
    np.testing.assert_array_equal(one(network, image)[0], image)


y, x = np.mgrid[:96, :80]
NOISE_FREE = {
    "ramp": 40.0 * x,
    "plane": 1000 + 3.3 * x + 1.7 * y,
    "steps": 300.0 * (x // 16) + 77 * (y // 12),
    "ellipse": np.where((x - 40.0) ** 2 / 900 + (y - 48.0) ** 2 / 1600 < 1, 1500 + 2.2 * y, 0.0),
}


@pytest.mark.parametrize("scale", [1.0, 0.0123, 700.0])
@pytest.mark.parametrize("name", NOISE_FREE)
def test_a_picture_without_noise_stays_within_half_a_step(
    network: Reconstructor, name: str, scale: float
) -> None:
    """Rounding to the stored integers is all the noise it has, whatever RescaleSlope."""
    stored = (np.round(NOISE_FREE[name]) * scale).astype(np.float32)
    assert np.abs(one(network, stored)[0] - stored).max() <= 0.5 * scale


def test_one_more_step_of_noise_is_noise(network: Reconstructor) -> None:
    rng = np.random.default_rng(5)
    clean = 80 + 0.4 * x
    stored = np.round(clean + rng.normal(0, 1.0, x.shape)).astype(np.float32)
    result, noise = one(network, stored)
    assert noise == pytest.approx(1.04, rel=0.15)
    assert (result - clean).std() < 0.6
