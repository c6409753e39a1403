"""Training, export and reload on a tiny network."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is installed for training only")
pytest.importorskip("onnx", reason="ONNX's tools are installed for training only")

from halfscan_models import estimate_noise, load_reconstructor, noise_map  # noqa: E402 - after the skip
from halfscan_models.errors import TrainingError  # noqa: E402 - after the skip
from halfscan_models.network import BackProjectionNetwork  # noqa: E402 - needs PyTorch
from halfscan_models.training import train as loop  # noqa: E402 - needs PyTorch
from halfscan_models.training.level import train_level  # noqa: E402 - needs PyTorch
from halfscan_models.training.optimizer import _orthogonal  # noqa: E402 - needs PyTorch
from halfscan_models.training.settings import NetworkSettings, RunSettings  # noqa: E402 - as above
from halfscan_models.training.synthetic import BatchMaker, PairSettings  # noqa: E402 - as above
from halfscan_models.training.train import (  # noqa: E402 - needs PyTorch
    learning_rate,
    progress_of,
    train,
)


def tiny(output: Path, steps: int = 6) -> RunSettings:
    """Describe a run of a few seconds."""
    return RunSettings(
        name="tiny",
        version="0.0.1",
        output=output,
        steps=steps,
        crops=3,
        workers=0,
        threads=1,
        log_every=2,
        validation_images=2,
        network=NetworkSettings(channels=4, stages=2),
        pairs=PairSettings(matrix=48, crop=32, draws=2, scenes=4, uses=5),
    )


def events(output: Path) -> list[str]:
    lines = (output / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def publish(model: Path, folder: Path) -> None:
    """Make a weights folder of an exported model."""
    facts = json.loads(model.with_suffix(".json").read_text())
    folder.mkdir()
    (folder / "tiny.onnx").write_bytes(model.read_bytes())
    entry = {key: facts[key] for key in ("name", "version", "sha256", "file")}
    entry |= {"card": "tiny.md", "summary": "A tiny network."}
    (folder / "models.json").write_text(json.dumps({"default": "tiny", "models": [entry]}))


def test_a_trained_network_is_exported_and_reconstructs(tmp_path: Path) -> None:
    model = train(tiny(tmp_path / "run"))
    assert events(tmp_path / "run") == ["started", "step", "step", "step", "finished"]
    publish(model, tmp_path / "weights")
    network = load_reconstructor(weights=tmp_path / "weights")
    rng = np.random.default_rng(1)
    source = np.abs(40 + 4 * rng.normal(size=(2, 33, 50))).astype(np.float32)
    result = network.reconstruct(source)
    assert result.volume.shape == source.shape
    assert result.quality.slices[0].largest_change > 0


@pytest.mark.parametrize("shape", [(3, 1, 40, 24), (1, 1, 38, 26), (2, 1, 33, 47)], ids=str)
def test_the_export_computes_what_pytorch_computes(
    tmp_path: Path, shape: tuple[int, int, int, int]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = train(tiny(tmp_path))
    network = BackProjectionNetwork(4, 2)
    network.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"])
    image = np.random.default_rng(2).normal(5, 2, shape).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.abs(expected - image).max() > 1e-3  # it does something
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_export_comes_with_the_skeleton_of_a_card(tmp_path: Path) -> None:
    model = train(tiny(tmp_path, 2))
    facts = json.loads(model.with_suffix(".json").read_text())
    card = model.with_suffix(".md").read_text()
    for fact in ("# tiny 0.0.1", facts["sha256"], str(facts["parameters"]), "Not a medical device"):
        assert fact in card


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The same bits, whether the training process or another one makes the pairs."""

    def settings(folder: str) -> RunSettings:
        run = dataclasses.replace(tiny(tmp_path / folder, 7), checkpoint_minutes=0.0)
        return dataclasses.replace(run, pairs=dataclasses.replace(run.pairs, pools=2))

    train(settings("whole"))
    real = loop._step

    def until_the_plug_is_pulled(*arguments: Any) -> Any:
        if arguments[1].step == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", until_the_plug_is_pulled)
        with pytest.raises(KeyboardInterrupt):
            train(settings("parts"))
    train(dataclasses.replace(settings("parts"), workers=workers))
    whole, parts = (
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        for folder in ("whole", "parts")
    )
    assert events(tmp_path / "parts").count("started") == 2
    assert whole["step"] == parts["step"] == 7
    for copy in ("network", "average"):
        for name, weight in whole[copy].items():
            assert torch.equal(parts[copy][name], weight), name
    for index, moments in whole["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(parts["optimizer"]["state"][index][name], value), name


def test_processes_train_one_network_together(tmp_path: Path) -> None:
    """A step of two processes is a step on the crops of both."""
    settings = dataclasses.replace(tiny(tmp_path, 1), bfloat16=False, device="cpu", warmup=1e-9)
    pairs = dataclasses.replace(settings.pairs, pools=2)
    train(dataclasses.replace(settings, pairs=pairs, processes=2))
    together = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["network"]
    torch.manual_seed(settings.seed)
    state = loop._fresh(settings)
    maker = BatchMaker(pairs, settings.crops, settings.seed)
    both = [np.concatenate(parts) for parts in zip(maker.batch(0), maker.batch(1), strict=True)]
    noisy, clean = (torch.from_numpy(part)[:, None] for part in both)
    loop._step(settings, state, noisy, clean, learning_rate(settings, 0.0))
    for name, weight in state.network.state_dict().items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"workers": 1}, {"device": "auto"}, {"processes": 3}])
def test_processes_that_cannot_share_a_run_are_refused(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    pairs = dataclasses.replace(tiny(tmp_path).pairs, pools=2)
    right: dict[str, Any] = {"processes": 2, "workers": 0, "device": "cpu", "pairs": pairs}
    dataclasses.replace(tiny(tmp_path), **right)
    with pytest.raises(TrainingError, match="process"):
        dataclasses.replace(tiny(tmp_path), **(right | wrong))


def test_the_noise_network_learns_and_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(tiny(tmp_path, 60), crops=8, learning_rate=4e-3)
    pairs = dataclasses.replace(settings.pairs, matrix=64, crop=64, scenes=12, uses=100)
    path = train_level(dataclasses.replace(settings, pairs=pairs))
    monkeypatch.setattr(noise_map, "_WEIGHTS", path)
    monkeypatch.setattr(noise_map, "_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    noise_map._session.cache_clear()
    try:
        noisy = np.abs(30 + 4 * np.random.default_rng(3).normal(size=(96, 84)))
        noise = estimate_noise(noisy)
    finally:
        noise_map._session.cache_clear()
    assert noise.sd_map.shape == (96, 84)
    assert noise.sd == pytest.approx(4.0, rel=0.5)
    assert noise.sd_map.std() > 0.0  # it is the network's


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tiny(tmp_path, 1))
    with pytest.raises(TrainingError, match="belongs to a run with other settings"):
        train(dataclasses.replace(tiny(tmp_path, 1), seed=2))


def test_training_learns(tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(tmp_path, 150), learning_rate=5e-3, crops=8)
    pairs = dataclasses.replace(settings.pairs, snr_low=4.0, snr_high=10.0, scenes=12, uses=100)
    train(dataclasses.replace(settings, pairs=pairs))
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["gain_db"] > 1.0


def test_an_update_is_nearly_orthogonal() -> None:
    torch.manual_seed(3)
    for shape in ((8, 50), (50, 8)):
        singular = torch.linalg.svdvals(_orthogonal(torch.randn(shape)))
        assert len(singular) == 8
        assert 0.6 < singular.min() <= singular.max() < 1.4


def test_blocks_compute_what_strided_convolutions_compute() -> None:
    """Kernel 3 on blocks of 2 x 2 pixels is kernel 6 and stride 2 on the pixels."""
    pixels = torch.rand(1, 2, 12, 16)
    kernel = torch.rand(3, 2, 6, 6)
    wanted = torch.nn.functional.conv2d(pixels, kernel, stride=2, padding=2)
    blocks = torch.nn.functional.pixel_unshuffle(pixels, 2)
    # Tap (2 u + i, 2 v + j) of the kernel meets pixel (i, j) of block (u, v).
    split = kernel.reshape(3, 2, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(3, 8, 3, 3)
    found = torch.nn.functional.conv2d(blocks, split, padding=1)
    torch.testing.assert_close(found, wanted)


def test_the_untrained_network_is_the_identity() -> None:
    image = torch.rand(2, 1, 16, 12)
    with torch.no_grad():
        assert torch.equal(BackProjectionNetwork(4, 3)(image), image)


def test_the_learning_rate_climbs_and_falls_to_zero(tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(tmp_path), learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(settings, progress) for progress in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_progress_counts_steps_minutes_or_what_comes_first(tmp_path: Path) -> None:
    by_steps = tiny(tmp_path, 10)
    by_clock = dataclasses.replace(by_steps, steps=None, minutes=2.0)
    both = dataclasses.replace(by_steps, minutes=2.0)
    assert progress_of(by_steps, 5, 1e9) == 0.5
    assert progress_of(by_clock, 10**9, 30.0) == 0.25
    assert progress_of(by_clock, 0, 500.0) == 1.0
    assert progress_of(both, 5, 30.0) == 0.5
    assert progress_of(both, 1, 90.0) == 0.75


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="device is cuda, but PyTorch finds no GPU"):
        train(dataclasses.replace(tiny(tmp_path), device="cuda"))


def test_the_command_reports_a_bad_file_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "halfscan_models.training", str(tmp_path / "no.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read run file")
    assert "Traceback" not in done.stderr
