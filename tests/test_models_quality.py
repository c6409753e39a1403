"""What is said of a reconstruction: structure in what was removed, inputs that were not trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from halfscan_models import Reconstructor, load_reconstructor
from halfscan_models.errors import ModelFileError
from halfscan_models.quality import FURTHEST, Quality, SliceQuality, input_figures, structured_share
from halfscan_models.registry import WEIGHTS, find_model, list_models

Image = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def network() -> Reconstructor:
    return load_reconstructor(threads=1)


def tissues(size: int = 160) -> Image:
    """Discs of different brightness on a ground, all well above the noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size]
    image = np.full((size, size), 20.0)
    for _ in range(60):
        row, column, radius = rng.uniform((0, 0, 4), (size, size, 20))
        image[(y - row) ** 2 + (x - column) ** 2 < radius**2] = rng.uniform(15, 60)
    return np.asarray(gaussian_filter(image, 0.7))


def white(size: int = 160, seed: int = 1) -> Image:
    return np.random.default_rng(seed).normal(size=(size, size))


# --- structured share -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [0.0, 0.6, 1.0], ids=["white", "correlated", "smooth"])
def test_noise_is_not_structured(seed: int, width: float) -> None:
    noise = gaussian_filter(white(seed=seed), width)
    share = structured_share(noise / noise.std(), tissues())
    assert share == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("width", [0.8, 1.2, 1.6])
def test_blurred_edges_are_structured(width: float) -> None:
    clean = tissues()
    blurred = gaussian_filter(clean, width)
    share = structured_share(clean - blurred, blurred)
    assert share is not None
    assert share > 0.5


def test_the_share_is_that_of_the_energy() -> None:
    """Noise and lost edges of the same energy: about half of what was removed is structured."""
    clean = tissues()
    blurred = gaussian_filter(clean, 1.0)
    lost = clean - blurred
    alone = structured_share(lost, blurred)
    mixed = structured_share(lost + white() * np.sqrt(np.mean(lost**2)), blurred)
    assert alone is not None
    assert mixed == pytest.approx(alone / 2, abs=0.08)


def test_more_blurring_of_a_noisy_picture_shows() -> None:
    noisy = tissues() + white()
    shares = []
    for width in (0.5, 1.0, 1.5):
        blurred = gaussian_filter(noisy, width)
        shares.append(structured_share(noisy - blurred, blurred))
    assert min(share for share in shares if share is not None) > 0.3
    assert None not in shares


def test_the_network_removes_less_structure_than_blurring(network: Reconstructor) -> None:
    noisy = np.abs(tissues() + white())
    (figures,) = network.reconstruct(noisy[None]).quality.slices
    blurred = gaussian_filter(noisy, 1.0)
    of_blurring = structured_share(noisy - blurred, blurred)
    assert figures.structured_share is not None
    assert of_blurring is not None
    assert 0 <= figures.structured_share < of_blurring / 2


def test_the_share_does_not_depend_on_the_strength(network: Reconstructor) -> None:
    noisy = np.abs(tissues() + white())[None]
    whole, half, none = (
        network.reconstruct(noisy, strength=strength).quality.slices[0].structured_share
        for strength in (1.0, 0.5, 0.0)
    )
    assert whole == half
    assert none is None


@pytest.mark.parametrize(
    ("removed", "anatomy"),
    [
        (white(), np.abs(white(seed=2))),  # air
        (white(24), tissues(24)),  # too small
        (np.zeros((160, 160)), tissues()),  # nothing removed
    ],
    ids=["air", "small", "unchanged"],
)
def test_where_it_is_not_defined_it_is_none(removed: Image, anatomy: Image) -> None:
    assert structured_share(removed, anatomy) is None


# --- outside ----------------------------------------------------------------------------------


def magnitude(clean: Image, seed: int = 4) -> Image:
    noise = np.random.default_rng(seed).normal(size=(2, *clean.shape))
    return np.asarray(np.hypot(clean + noise[0], noise[1]))


def quality(network: Reconstructor, *images: Image) -> Quality:
    return network.reconstruct(np.stack(images)).quality


def test_an_ordinary_slice_lies_inside(network: Reconstructor) -> None:
    found = quality(network, magnitude(tissues()))
    assert found.slices[0].outside == ()
    assert found.slices[0].applied == 1.0
    assert (found.warnings, found.outside_share) == ((), 0.0)
    assert found.slices[0].signal_to_noise == pytest.approx(60, rel=0.15)


def test_a_signal_beyond_the_training_is_told(network: Reconstructor) -> None:
    ordinary, high = magnitude(tissues()), magnitude(20 * tissues())
    found = quality(network, ordinary, high)
    assert [one.outside for one in found.slices] == [(), ("signal_to_noise",)]
    assert found.outside_share == 0.5
    (warning,) = found.warnings
    assert warning.startswith(f"outside what model {network.spec.name} was trained on: ")
    assert "in 1 of 2 slices (trained: 3 to 220)" in warning


def test_a_bright_spot_and_an_empty_picture_are_told(network: Reconstructor) -> None:
    spot = tissues()
    spot[70:73, 70:73] = 400
    empty = np.zeros((160, 160))
    empty[70:80, 70:80] = 30
    found = quality(network, magnitude(spot), magnitude(empty))
    assert "peak_to_bright" in found.slices[0].outside
    assert "dark_share" in found.slices[1].outside


def test_far_beyond_the_training_the_network_counts_less(network: Reconstructor) -> None:
    shares, furthest = [], []
    for factor in (1, 5, 20, 80):
        (one,) = quality(network, magnitude(factor * tissues())).slices
        shares.append(one.applied)
        furthest.append(one.largest_change)
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert shares[3] < 0.1
    assert max(furthest) <= FURTHEST


def test_no_pixel_goes_far(network: Reconstructor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reconstructor, "_network", lambda _, images: 3.0 * images.astype(float))
    (one,) = quality(network, magnitude(tissues())).slices
    assert one.largest_change == pytest.approx(FURTHEST, rel=1e-3)


def test_a_slice_without_noise_lies_nowhere(network: Reconstructor) -> None:
    found = quality(network, np.full((40, 40), 7.0))
    assert found.slices[0] == SliceQuality(0.0, 0.0, 0.0, 0.0)
    assert (found.warnings, found.outside_share) == ((), 0.0)


def test_a_model_that_does_not_tell_its_training_is_told(network: Reconstructor) -> None:
    silent = Reconstructor(replace(network.spec, trained=None), network._session, "cpu")
    found = quality(silent, magnitude(20 * tissues()))
    assert found.warnings == (
        f"model {network.spec.name} does not say on what images it was trained",
    )
    assert found.slices[0].outside == ()
    assert found.slices[0].applied == 1.0


def test_figures_of_a_slice() -> None:
    units = np.zeros((10, 10))
    units[:5] = 10.0
    units[0, 0] = 30.0
    figures = input_figures(units)
    assert figures.signal_to_noise == pytest.approx(np.percentile(units, 99))
    assert figures.peak_to_bright == pytest.approx(30 / figures.signal_to_noise)
    assert figures.dark_share == 0.5


def test_the_figures_are_json(network: Reconstructor) -> None:
    content = quality(network, magnitude(20 * tissues()), np.full((160, 160), 7.0)).as_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["slices"][0]["outside"] == ["signal_to_noise"]
    assert content["slices"][1]["structured_share"] is None


# --- the list of models -----------------------------------------------------------------------


@pytest.mark.parametrize("spec", list_models(), ids=lambda spec: spec.name)
def test_a_shipped_model_tells_its_training(spec: Any) -> None:
    assert spec.trained is not None
    lowest, highest = spec.trained.signal_to_noise
    assert lowest < 10
    assert highest > 50


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ("all", "trained needs exactly signal_to_noise, peak_to_bright, dark_share; got 'all'"),
        ({"signal_to_noise": [3, 150]}, "trained needs exactly"),
        ([3, 150], "trained.signal_to_noise must be two numbers"),
    ],
)
def test_a_range_that_breaks_a_rule_is_refused(
    tmp_path: Path, trained: object, message: str
) -> None:
    content = json.loads((WEIGHTS / "models.json").read_text(encoding="utf-8"))
    entry = content["models"][0]
    if isinstance(trained, list):
        for value in ([3], [150, 3], [-1, 3], ["3", 150], [True, 3], 3, [3, float("inf")]):
            entry["trained"]["signal_to_noise"] = value
            (tmp_path / "models.json").write_text(json.dumps(content))
            with pytest.raises(ModelFileError, match=message):
                list_models(weights=tmp_path)
        return
    entry["trained"] = trained
    (tmp_path / "models.json").write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=message):
        list_models(weights=tmp_path)


def test_an_entry_may_be_silent(tmp_path: Path) -> None:
    content = json.loads((WEIGHTS / "models.json").read_text(encoding="utf-8"))
    del content["models"][0]["trained"]
    (tmp_path / "models.json").write_text(json.dumps(content))
    assert find_model(weights=tmp_path).trained is None
