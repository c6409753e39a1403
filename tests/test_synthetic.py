"""Synthetic training pairs and the file that describes a run; no PyTorch is needed here."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from halfscan_models import load_reconstructor, training
from halfscan_models.errors import TrainingError
from halfscan_models.training.__main__ import main
from halfscan_models.training.acquisition import acquire
from halfscan_models.training.evaluate import evaluate, psnr_db
from halfscan_models.training.scenes import draw_scene
from halfscan_models.training.settings import read_run
from halfscan_models.training.synthetic import BatchMaker, PairSettings, make_batch, measure
from halfscan_models.training.textures import draw_texture

SMALL = PairSettings(matrix=72, crop=32, draws=2, scenes=6, uses=4)


def test_batch_has_the_shape_that_was_asked_for() -> None:
    for size, (noisy, clean) in (
        (72, make_batch(2, SMALL, np.random.default_rng(1))),
        (32, BatchMaker(SMALL, 2, seed=1).batch(0)),
    ):
        for images in (noisy, clean):
            assert images.shape == (2, size, size)
            assert images.dtype == np.float32
            assert np.isfinite(images).all()
            assert images.min() >= 0.0


def test_same_seed_same_pairs_other_seed_other_pairs() -> None:
    first, again, other = (make_batch(1, SMALL, np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_batch_depends_on_its_number_alone() -> None:
    """New scenes have come into the pool by then, whoever was there to see it."""
    settings = replace(SMALL, pools=2)
    there, fresh = BatchMaker(settings, 4, seed=3), BatchMaker(settings, 4, seed=3)
    batches = [there.batch(number) for number in range(8)]
    for number in (7, 2):
        for part, expected in zip(fresh.batch(number), batches[number], strict=True):
            np.testing.assert_array_equal(part, expected)
    assert not np.array_equal(batches[0][0], batches[1][0])


def test_scenes_move_through_a_pool() -> None:
    maker = BatchMaker(SMALL, 4, seed=4)
    maker.batch(0)
    assert sorted(maker._pools[0]) == [0, 1, 2, 3, 4, 5]
    maker.batch(3)  # twelve crops later, at four crops a scene
    assert sorted(maker._pools[0]) == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("seed", range(12))
def test_a_scene_is_a_picture(seed: int) -> None:
    scene = draw_scene(64, np.random.default_rng(seed))
    assert scene.shape == (64, 64)
    assert scene.dtype == np.float32
    assert np.isfinite(scene).all()
    assert scene.min() >= 0.0
    assert scene.max() > scene.min()


def test_textures_have_mean_zero_and_unit_variance() -> None:
    rng = np.random.default_rng(8)
    for _ in range(30):
        texture = draw_texture(64, rng)
        assert texture.mean() == pytest.approx(0.0, abs=1e-3)
        assert texture.std() == pytest.approx(1.0, abs=0.01)


def test_the_noise_of_a_measurement_has_the_level_that_is_stated() -> None:
    """Over many draws, and pixel by pixel: parallel imaging makes it uneven and correlated."""
    uneven = correlated = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        acquired = acquire(draw_scene(96, rng), 72, 40, rng)
        power = np.mean(np.abs(acquired.noise) ** 2, axis=0) / 2
        assert power.mean() == pytest.approx(1.0, rel=1e-3)
        ratio = np.sqrt(power) / acquired.noise_sd
        # In parallel imaging the level is measured, over a neighbourhood.
        assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
        assert np.percentile(np.abs(ratio - 1), 90) < 0.3
        uneven += int(acquired.noise_sd.max() > 1.5 * acquired.noise_sd.min())
        neighbours = np.mean(acquired.noise[:, 1:] * acquired.noise[:, :-1].conj()).real / 2
        correlated += int(neighbours > 0.1)
    assert 0 < uneven < 16
    assert 0 < correlated < 16


def test_noise_is_what_the_measurement_says() -> None:
    """Where the signal is strong, noisy minus clean has the stated standard deviation."""
    rng = np.random.default_rng(2)
    settings = PairSettings(matrix=96, snr_low=20.0, snr_high=60.0)
    ratios = []
    for _ in range(20):
        image = measure(settings, rng)
        assert np.sqrt(np.mean(image.noise_sd**2)) == pytest.approx(1.0)
        strong = image.clean > 8
        if strong.sum() > 1000:
            ratios.append(((image.noisy - image.clean) / image.noise_sd)[strong].std())
    assert len(ratios) >= 10
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.std(ratios) < 0.15


@pytest.mark.parametrize("snr", [3.0, 30.0, 150.0])
def test_snr_is_the_one_that_was_asked_for(snr: float) -> None:
    settings = PairSettings(matrix=72, snr_low=snr, snr_high=snr)
    for seed in range(8):
        image = measure(settings, np.random.default_rng(seed))
        # A margin that was blanked afterwards moves the percentile a little.
        assert np.percentile(image.clean, 99) == pytest.approx(snr, rel=0.15)


def test_pairs_are_in_units_of_the_noise() -> None:
    """The difference of a pair spreads by about one in quiet places, by more where noise grows."""
    noisy, clean = BatchMaker(replace(SMALL, scenes=20, uses=100), 40, seed=3).batch(0)
    spread = (noisy - clean).std(axis=(1, 2))
    assert 0.8 < np.median(spread) < 1.6


def test_the_run_that_made_the_weights_can_be_read() -> None:
    run = read_run(Path(training.__file__).with_name("run.toml"))
    assert run.name == "dbpn-s"
    assert run.minutes is not None or run.steps is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "cannot read run file"),
        ('name = "a"', "must give version, output"),
        ("name = 3", "name must be str, got 3"),
        ('minutes = "long"', "minutes must be float or int, got 'long'"),
        ("seed = true", "seed must be int, got True"),
        ("[network]\nchannels = 1.5", "network.channels must be int, got 1.5"),
        ('name = "a"\nversion = "1"\noutput = "o"', "steps or minutes must be given"),
        ('name = "a"\nversion = "1"\noutput = "o"\nsteps = 0', "must be > 0, got 0 and None"),
        ("minute = 3", "unknown setting minute; known are"),
        ("[pairs]\ncorp = 3", "unknown setting pairs.corp"),
        ("pairs = 3", "pairs must be a table, got 3"),
        (
            'name = "a"\nversion = "1"\noutput = "o"\nsteps = 1\n[pairs]\ncrop = 33',
            "pairs.crop must be a multiple of 4 up to pairs.matrix, got 33",
        ),
        (
            'name = "a"\nversion = "1"\noutput = "o"\nsteps = 1\nworkers = 2\n[pairs]\npools = 3',
            "pairs.pools must be a multiple of workers .2., got 3",
        ),
        (
            'name = "a"\nversion = "1"\noutput = "o"\nsteps = 1\ndevice = "tpu"',
            "device must be auto, cpu or cuda, got 'tpu'",
        ),
        ("bfloat16 = 1", "bfloat16 must be bool, got 1"),
    ],
)
def test_a_bad_run_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(content)
    with pytest.raises(TrainingError, match=message):
        read_run(path)


def test_a_missing_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere\.toml"):
        read_run(tmp_path / "nowhere.toml")


def test_the_shipped_network_gains_on_images_it_has_never_seen() -> None:
    faint, clear = evaluate(load_reconstructor(), images=10, matrix=128, ratios=(8.0, 32.0))
    assert faint.gain_db > 4.0
    assert clear.gain_db > 0.5
    assert clear.psnr_restored_db > faint.psnr_restored_db
    for result in (faint, clear):
        assert result.images == 10
        assert result.gain_worst_db <= result.gain_db
        assert result.psnr_restored_db - result.psnr_noisy_db == pytest.approx(
            result.gain_db, abs=0.02
        )


def test_psnr_of_a_known_error() -> None:
    clean = np.full((10, 10), 100.0)
    assert psnr_db(clean + 10.0, clean) == pytest.approx(20.0)


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_training_without_pytorch_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(training.__file__).with_name("run.toml")
    assert main([str(run)]) == 1
    assert "training needs torch: pip install 'halfscan[train]'" in capsys.readouterr().err
