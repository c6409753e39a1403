"""Guards: good results of the shipped network pass with room, bad ones are named and not stored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from scipy.ndimage import gaussian_filter

from dicom_maker import mr_series
from halfscan_models.noise import estimate_noise_sd
from halfscan_models.quality import FURTHEST
from halfscan_models.reconstruct import Quality, Reconstruction, Reconstructor, SliceQuality
from halfscan_plugin.errors import GuardFailed, UnreadableSeries
from halfscan_plugin.files import read_series
from halfscan_plugin.guards import GUARDS, MOST_LISTED, SliceFigures, check, measure
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.volume import SeriesVolume, read_volume

Volume = Any  # (slice, row, column), float32
SICK = 1  # the slice that a test spoils

# Good results must stay below these shares of each limit: room for images that nobody tried.
ROOM = 0.75


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=1)


def fast(exam: dict[str, list[Path]]) -> list[Path]:
    """Give the files of the first accelerated series."""
    return next(files for name, files in exam.items() if name.startswith("accelerated/"))


def reconstruct(engine: Engine, source: SeriesVolume) -> Reconstruction:
    (network,) = engine._reconstructors.values()
    return network.reconstruct(source.volume)


@pytest.fixture(scope="module")
def source(small_exam: dict[str, list[Path]]) -> SeriesVolume:
    return read_volume(read_series(fast(small_exam)))


@pytest.fixture(scope="module")
def good(engine: Engine, source: SeriesVolume) -> Reconstruction:
    return reconstruct(engine, source)


def with_volume(source: SeriesVolume, result: Reconstruction, volume: Volume) -> Reconstruction:
    """Give a result with other pixels, and the noise that these have."""

    def left(before: Volume, after: Volume) -> float:
        if not np.isfinite(after).all():
            return 0.0
        return estimate_noise_sd(after) / estimate_noise_sd(before)

    slices = tuple(
        replace(old, noise_after=old.noise_before * left(before, after))
        for old, before, after in zip(result.quality.slices, source.volume, volume, strict=True)
    )
    return replace(result, volume=volume, quality=replace(result.quality, slices=slices))


def used(figures: SliceFigures) -> dict[str, float]:
    """Give the share of each limit that a slice uses."""
    return {guard.name: guard.value(figures) / guard.limit_for(figures) for guard in GUARDS}


def check_room(source: SeriesVolume, result: Reconstruction, name: str) -> None:
    for index in range(len(source.volume)):
        shares = used(measure(source, result, index))
        assert max(shares.values()) < ROOM, (name, index, shares)
    check(source, result)


def test_good_results_of_simulated_exams_pass_with_room(
    engine: Engine, small_exam: dict[str, list[Path]]
) -> None:
    for name, files in small_exam.items():
        source = read_volume(read_series(files))
        check_room(source, reconstruct(engine, source), name)


@pytest.mark.cases
def test_good_results_of_real_series_pass_with_room(engine: Engine, cases: Path) -> None:
    tried = 0
    for folder in sorted(path for path in cases.iterdir() if path.is_dir()):
        files = sorted(folder.glob("*.dcm"))
        try:
            source = read_volume(read_series(files))
        except UnreadableSeries:
            continue
        some = np.linspace(0, len(source) - 1, 4).astype(int)
        part = source.part([int(index) for index in some])
        check_room(part, reconstruct(engine, part), folder.name)
        tried += 1
    assert tried > 10


# --- bad results ------------------------------------------------------------------------------


def one_nan(image: Volume, _: SeriesVolume) -> Volume:
    image[3, 4] = np.nan
    return image


def one_infinity(image: Volume, _: SeriesVolume) -> Volume:
    image[3, 4] = np.inf
    return image


def hot_pixel(image: Volume, _: SeriesVolume) -> Volume:
    image[3, 4] = 2 * image.max()
    return image


def added_noise(image: Volume, source: SeriesVolume) -> Volume:
    noise = 1.2 * estimate_noise_sd(source.volume[SICK])
    return np.abs(source.volume[SICK] + np.random.default_rng(1).normal(0, noise, image.shape))


BAD: dict[str, tuple[Callable[[Volume, SeriesVolume], Volume], set[str]]] = {
    "one NaN": (one_nan, {"finite"}),
    "one infinity": (one_infinity, {"finite"}),
    "all NaN": (lambda image, _: np.full_like(image, np.nan), {"finite"}),
    "black": (lambda image, _: np.zeros_like(image), {"rms_change"}),
    "constant": (lambda image, _: np.full_like(image, image.mean()), {"rms_change"}),
    "inverted": (lambda image, _: image.max() - image, {"rms_change"}),
    "brighter": (lambda image, _: image * 1.3, {"range", "rms_change"}),
    "offset": (lambda image, _: image + 0.1 * image.max(), {"range", "rms_change"}),
    "mirrored": (lambda image, _: image[:, ::-1], {"rms_change"}),
    "moved by two pixels": (lambda image, _: np.roll(image, 2, axis=0), {"rms_change"}),
    "blurred": (lambda image, _: gaussian_filter(image, 2.0), {"rms_change", "far_pixels"}),
    "a neighbour": (lambda _, source: source.volume[SICK + 2], {"rms_change"}),
    "noise added": (added_noise, {"noise"}),
    "hot pixel": (hot_pixel, {"range"}),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_slice_is_named(source: SeriesVolume, good: Reconstruction, what: str) -> None:
    spoil, guards = BAD[what]
    volume = good.volume.copy()
    volume[SICK] = spoil(volume[SICK], source)
    with pytest.raises(GuardFailed) as caught:
        check(source, with_volume(source, good, volume))
    assert caught.value.code.removeprefix("guard_") in guards, str(caught.value)
    message = str(caught.value)
    uid = source.sources[SICK].SOPInstanceUID
    assert f"slice {SICK + 1} of {len(source.volume)} (source {uid})" in message
    assert "pass" in message
    if caught.value.code != "guard_finite":
        assert message.endswith(f"1 of {len(source.volume)} slices fail a guard")
        facts = caught.value.facts
        assert (facts["slice"], facts["n_failed"]) == (SICK + 1, 1)
        assert facts["value"] > facts["limit"]


def test_a_black_hole_within_the_picture_is_named(
    source: SeriesVolume, good: Reconstruction
) -> None:
    volume = good.volume.copy()
    rows, columns = (size // 2 for size in volume.shape[1:])
    volume[SICK, rows - 10 : rows + 10, columns - 10 : columns + 10] = 0
    with pytest.raises(GuardFailed, match=r"rms_change|largest_change|far_pixels"):
        check(source, with_volume(source, good, volume))


def beyond_the_bits(excess: float) -> tuple[SeriesVolume, Reconstruction]:
    """Make a source that fills its twelve bits, and a result that goes beyond; noise SD 100."""
    pixels = np.full((2, 40, 40), 4095, dtype=np.uint16)
    pixels[:, ::2] = 3000
    source = read_volume(mr_series(2, pixels=pixels))
    slices = (SliceQuality(100.0, 10.0, 0.1, 0.1),) * 2
    quality = Quality("m", "1", "0" * 64, 1.0, slices)
    return source, Reconstruction(source.volume + np.float32(excess), np.full(2, 100.0), quality)


def test_values_that_the_bits_cannot_hold_are_named() -> None:
    with pytest.raises(GuardFailed, match=r"guard clipped: slice 1 of 2 .*0\.5 of the pixels"):
        check(*beyond_the_bits(350))


def test_a_source_scaled_to_the_brim_loses_next_to_nothing() -> None:
    assert check(*beyond_the_bits(50))["summary"]["clipped_share"]["max"] == 0


def test_a_slice_without_noise_must_stay_as_it_was() -> None:
    source = read_volume(mr_series(2, pixels=np.full((2, 40, 40), 500, dtype=np.uint16)))
    quiet = (SliceQuality(0.0, 0.0, 0.0, 0.0),) * 2
    quality = Quality("m", "1", "0" * 64, 1.0, quiet)
    same = Reconstruction(source.volume.copy(), np.zeros(2), quality)
    assert check(source, same)["summary"]["rms_change"]["max"] == 0
    volume = source.volume.copy()
    volume[1] = 400
    with pytest.raises(GuardFailed, match="slice 2 of 2"):
        check(source, replace(same, volume=volume))


# --- bad networks -----------------------------------------------------------------------------

NETWORKS: dict[str, Callable[[Volume], Volume]] = {
    "NaN": lambda images: np.full(images.shape, np.nan),
    "constant": lambda images: np.full(images.shape, 3.0),
    "inverted": lambda images: images.max() - images.astype(np.float64),
    "noise": lambda images: images + np.random.default_rng(2).normal(0, 1.5, images.shape),
    "smooth": lambda images: gaussian_filter(images.astype(np.float64), (0, 3, 3)),
    "moved": lambda images: np.roll(images.astype(np.float64), 3, axis=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bad_network_stores_nothing(
    engine: Engine, small_exam: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The engine itself raises: what calls it cannot forget to ask."""
    monkeypatch.setattr(Reconstructor, "_network", lambda _, images: NETWORKS[name](images))
    with pytest.raises(GuardFailed, match=r"slices fail a guard|NaN or infinite"):
        engine.run(read_series(fast(small_exam)), {})


# --- the figures in the ledger ----------------------------------------------------------------


def test_the_figures_are_columns(source: SeriesVolume, good: Reconstruction) -> None:
    table = check(source, good)
    assert (table["model"], table["strength"]) == (good.quality.model, 1.0)
    assert table["n_slices"] == len(source.volume)
    assert {len(column) for column in table["slices"].values()} == {len(source.volume)}
    numbers = [int(dataset.InstanceNumber) for dataset in source.sources]
    assert table["slices"]["instance_number"] == numbers
    assert table["slices"]["noise_before"] == pytest.approx(list(good.noise_sd), rel=1e-3)
    rms = table["slices"]["rms_change"]
    assert table["summary"]["rms_change"]["max"] == max(rms)
    assert 0 < min(rms) <= max(rms) < 1.5
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def many(slices: int) -> tuple[SeriesVolume, Reconstruction]:
    """Make a series of many small noisy slices and its result."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(100, 4000, (slices, 8, 8)).astype(np.uint16)
    source = read_volume(mr_series(slices, pixels=pixels))
    noise = rng.uniform(5, 7, slices)
    figures = tuple(SliceQuality(level, level / 3, 0.5, 2.0) for level in noise)
    volume = np.clip(source.volume + rng.normal(0, 3, source.volume.shape), 0, 4095)
    quality = Quality("m" * 30, "1.0", "0" * 64, 1.0, figures)
    return source, Reconstruction(volume.astype(np.float32), noise, quality)


def test_a_thousand_slices_fit_the_ledger() -> None:
    table = check(*many(1000))
    assert len(json.dumps(table)) < 120_000, "the API takes a megabyte"


def test_more_slices_are_told_as_a_summary() -> None:
    table = check(*many(MOST_LISTED + 1))
    assert "slices" not in table
    assert table["n_slices"] == MOST_LISTED + 1
    assert len(json.dumps(table)) < 3000


def test_padding_does_not_count() -> None:
    """Holes in the image are written back as they were, whatever the network made of them."""

    def padded(dataset: Dataset) -> Dataset:
        dataset.PixelPaddingValue = -2000
        return dataset

    pixels = np.random.default_rng(4).integers(400, 900, (2, 40, 40)).astype(np.int16)
    pixels[:, :, :10] = -2000
    made = [padded(d) for d in mr_series(2, pixels=pixels, bits=(16, 16), signed=True)]
    source = read_volume(made)
    assert source.padding[:, :, :10].all()
    quality = Quality("m", "1", "0" * 64, 1.0, (SliceQuality(50.0, 10.0, 0.1, 0.1),) * 2)
    volume = source.volume.copy()
    volume[:, :, :10] = 5000
    check(source, Reconstruction(volume, np.full(2, 50.0), quality))


def test_the_source_of_a_slice_can_be_found(small_exam: dict[str, list[Path]]) -> None:
    """The order of the figures is that of the slices, not that of the files."""
    files = fast(small_exam)
    source = read_volume([dcmread(file) for file in files[::-1]])
    assert [d.InstanceNumber for d in source.sources] == sorted(
        dcmread(file).InstanceNumber for file in files
    )


# --- outside what the model was trained on -----------------------------------------------------


def high_signal(slices: int, outside: int) -> list[Dataset]:
    """Make a noisy series, some of whose slices have a signal far beyond the training's."""
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:64, :64]
    disc = np.where((x - 32) ** 2 + (y - 32) ** 2 < 26**2, 1.0 + (x > 32), 0.0)
    pixels = np.empty((slices, 64, 64))
    for index in range(slices):
        signal = disc * (1500.0 if index < outside else 100.0)
        noise = rng.normal(0, 3.0, (2, 64, 64))
        pixels[index] = np.hypot(signal + noise[0], noise[1])
    return mr_series(slices, pixels=np.round(pixels).astype(np.uint16))


def test_a_series_outside_is_stored_with_a_warning(engine: Engine) -> None:
    outcome = engine.run(high_signal(4, 3), {})
    (warning,) = (text for text in outcome.warnings if text.startswith("outside"))
    assert "signal to noise" in warning
    assert "in 3 of 4 slices (trained: 3 to 220)" in warning
    for dataset in outcome.series.datasets:
        assert f"Warnings: {warning}" in dataset.DerivationDescription
    assert outcome.quality["n_outside"] == 3
    assert outcome.quality["slices"]["outside"] == [["signal_to_noise"]] * 3 + [[]]
    assert outcome.quality["summary"]["applied"]["min"] < 0.5
    assert outcome.quality["summary"]["largest_change"]["max"] <= FURTHEST + 0.01


def test_a_series_outside_is_skipped_by_setting() -> None:
    strict = Engine(threads=1, outside="skip")
    with pytest.raises(UnreadableSeries, match="in 3 of 4 slices") as caught:
        strict.run(high_signal(4, 3), {})
    assert caught.value.code == "outside_training"
    outcome = strict.run(high_signal(4, 2), {})  # half of it is not most of it
    assert any("in 2 of 4 slices" in text for text in outcome.warnings)


def test_an_ordinary_series_has_no_warning(engine: Engine) -> None:
    outcome = engine.run(high_signal(3, 0), {})
    assert outcome.warnings == ()
    assert outcome.quality["n_outside"] == 0
    summary = outcome.quality["summary"]
    assert 0 <= summary["structured_share"]["min"] <= summary["structured_share"]["max"] <= 1
    assert summary["mean_change"]["min"] > 0
