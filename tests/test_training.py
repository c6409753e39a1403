"""Training, export and reload on a tiny network."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is installed for training only")
pytest.importorskip("onnx", reason="ONNX's tools are installed for training only")

from halfscan_models import load_reconstructor  # noqa: E402 - after the skip
from halfscan_models.errors import TrainingError  # noqa: E402 - after the skip
from halfscan_models.network import BackProjectionNetwork  # noqa: E402 - needs PyTorch
from halfscan_models.training import train as loop  # noqa: E402 - needs PyTorch
from halfscan_models.training.settings import NetworkSettings, RunSettings  # noqa: E402 - as above
from halfscan_models.training.synthetic import PairSettings  # noqa: E402 - as above
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
        batch_scenes=1,
        workers=0,
        threads=1,
        log_every=2,
        validation_images=2,
        network=NetworkSettings(channels=4, stages=2),
        pairs=PairSettings(matrix=48, crop=32, crops=2),
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


def test_the_export_computes_what_pytorch_computes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = train(tiny(tmp_path))
    network = BackProjectionNetwork(4, 2)
    network.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"])
    image = np.random.default_rng(2).normal(5, 2, (3, 1, 38, 26)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(folder: str) -> RunSettings:
        return dataclasses.replace(tiny(tmp_path / folder, 6), checkpoint_minutes=0.0)

    train(settings("whole"))
    real = loop._step

    def until_the_plug_is_pulled(*arguments: Any) -> float:
        if arguments[1].step == 4:
            raise KeyboardInterrupt
        return float(real(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", until_the_plug_is_pulled)
        with pytest.raises(KeyboardInterrupt):
            train(settings("parts"))
    train(settings("parts"))
    whole, parts = (
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        for folder in ("whole", "parts")
    )
    assert events(tmp_path / "parts").count("started") == 2
    assert whole["step"] == parts["step"] == 6
    for name, weight in whole["average"].items():
        torch.testing.assert_close(parts["average"][name], weight, rtol=0, atol=1e-6)


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tiny(tmp_path, 1))
    with pytest.raises(TrainingError, match="belongs to a run with other settings"):
        train(dataclasses.replace(tiny(tmp_path, 1), seed=2))


def test_training_learns(tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(tmp_path, 60), learning_rate=3e-3)
    settings = dataclasses.replace(
        settings, pairs=dataclasses.replace(settings.pairs, snr_low=4.0, snr_high=10.0)
    )
    train(settings)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["gain_db"] > 1.0


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


def test_progress_counts_minutes_or_steps(tmp_path: Path) -> None:
    by_steps = tiny(tmp_path, 10)
    by_clock = dataclasses.replace(by_steps, steps=None, minutes=2.0)
    assert progress_of(by_steps, 5, 1e9) == 0.5
    assert progress_of(by_clock, 10**9, 30.0) == 0.25
    assert progress_of(by_clock, 0, 500.0) == 1.0


def test_the_command_reports_a_bad_file_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "halfscan_models.training", str(tmp_path / "no.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read run file")
    assert "Traceback" not in done.stderr
