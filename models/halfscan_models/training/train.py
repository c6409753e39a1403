"""The training loop: resumable to the last bit, seeded, on a GPU or on the cores of a CPU.

On a CPU each process of a run has one core, batches of its own and a copy of the network; gradients
are averaged after every step, and so the copies stay the same. Two processes of one thread gave
1.3 times the crops a second of one process with two threads, and where something else needs a core,
they slow down in proportion, while threads that wait for each other nearly stop.
"""

import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.utils.data import DataLoader, Dataset

from halfscan_models.errors import TrainingError
from halfscan_models.network import BackProjectionNetwork
from halfscan_models.training.export import export_model
from halfscan_models.training.optimizer import Muon
from halfscan_models.training.settings import RunSettings
from halfscan_models.training.synthetic import BatchMaker, make_batch

_VALIDATION_SEED = 987_654_321


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Batches of a run by number, from `first` on.

    A batch is the same whichever process makes it, and a continued run goes on with the pairs that
    the interrupted one would have seen.
    """

    def __init__(self, settings: RunSettings, first: int, rank: int = 0) -> None:
        self.maker = BatchMaker(settings.pairs, settings.crops, settings.seed)
        self.first = first
        self.rank = rank
        self.processes = settings.processes

    def __len__(self) -> int:
        """Return more batches than any run uses."""
        return 100_000_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Make noisy and clean, each (batch, 1, crop, crop)."""
        noisy, clean = self.maker.batch((self.first + index) * self.processes + self.rank)
        return torch.from_numpy(noisy)[:, None], torch.from_numpy(clean)[:, None]


@dataclass
class State:
    """What a checkpoint holds."""

    network: BackProjectionNetwork
    average: BackProjectionNetwork
    optimizer: Muon
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    rank: int = 0


def train(settings: RunSettings) -> Path:
    """Train to the end of the run and export the model.

    Parameters
    ----------
    settings : RunSettings
        The run. If its output folder holds a checkpoint, the run goes on from there.

    Returns
    -------
    Path
        The exported ONNX file.

    Raises
    ------
    TrainingError
        The checkpoint belongs to another run, the device is not there, or the loss stopped being a
        number.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    if settings.processes == 1:
        return _train(settings, 0)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        others = [
            multiprocessing.get_context("spawn").Process(
                target=_join, args=(settings, rank, meeting), daemon=True
            )
            for rank in range(1, settings.processes)
        ]
        for process in others:
            process.start()
        try:
            return _join(settings, 0, meeting)
        finally:
            for process in others:
                process.join(timeout=10)
                process.terminate()


def _join(settings: RunSettings, rank: int, meeting: str) -> Path:
    """Train as one of several processes, which meet at an address."""
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=settings.processes
    )
    try:
        return _train(settings, rank)
    finally:
        distributed.destroy_process_group()


def _train(settings: RunSettings, rank: int) -> Path:
    """Train; what is written, process 0 writes."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    state = _fresh(settings)
    state.rank = rank
    checkpoint = settings.output / "checkpoint.pt"
    if checkpoint.exists():
        _restore(state, checkpoint, settings)
    log = _Log(settings.output / "log.jsonl", silent=rank > 0)
    log.write("started", step=state.step, seconds=state.seconds, run=settings.identity())
    held_out = validation_set(settings) if rank == 0 else []
    _loop(settings, state, held_out, log)
    path = settings.output / f"{settings.name}.onnx"
    if rank == 0:
        _save(state, checkpoint, settings)
        figures = validate(state.average, held_out)
        path = export_model(state.average, settings, figures, state.step, state.seconds)
        log.write("finished", step=state.step, seconds=state.seconds, **figures)
    return path


def progress_of(settings: RunSettings, step: int, seconds: float) -> float:
    """Share of the run that is used, 0 to 1: of the steps or of the time, whichever is more."""
    by_steps = step / settings.steps if settings.steps is not None else 0.0
    by_clock = seconds / (60 * settings.minutes) if settings.minutes is not None else 0.0
    return min(max(by_steps, by_clock), 1.0)


def learning_rate(settings: RunSettings, progress: float) -> float:
    """One cycle: a straight climb to the peak, then half a cosine down to zero."""
    if progress < settings.warmup:
        return settings.learning_rate * (0.05 + 0.95 * progress / settings.warmup)
    fall = (progress - settings.warmup) / (1 - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


def validation_set(settings: RunSettings) -> list[tuple[Tensor, Tensor]]:
    """Fixed images that no training step sees."""
    pairs = []
    for index in range(settings.validation_images):
        rng = np.random.default_rng([_VALIDATION_SEED, index])
        noisy, clean = make_batch(1, settings.pairs, rng)
        pairs.append((torch.from_numpy(noisy)[:, None], torch.from_numpy(clean)[:, None]))
    return pairs


def validate(
    network: BackProjectionNetwork, held_out: list[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Mean peak signal-to-noise ratio [dB] of the pairs, noisy and restored, and the gain.

    The peak is the 99.5th percentile of the clean image.
    """
    before, after = [], []
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad():
        for noisy, clean in held_out:
            restored = network(noisy.to(device)).clamp_min(0.0).cpu()
            peak = float(np.percentile(clean.numpy(), 99.5))
            before.append(_psnr(noisy, clean, peak))
            after.append(_psnr(restored, clean, peak))
    network.train()
    gains = np.subtract(after, before)
    return {
        "psnr_noisy_db": round(float(np.mean(before)), 3),
        "psnr_restored_db": round(float(np.mean(after)), 3),
        "gain_db": round(float(np.mean(gains)), 3),
        "gain_worst_db": round(float(np.min(gains)), 3),
    }


def _psnr(image: Tensor, clean: Tensor, peak: float) -> float:
    error = float((image - clean).pow(2).mean())
    return 10 * math.log10(peak**2 / max(error, 1e-12))


def _loop(
    settings: RunSettings, state: State, held_out: list[tuple[Tensor, Tensor]], log: "_Log"
) -> None:
    started = time.monotonic() - state.seconds
    saved = state.seconds
    losses: list[Tensor] = []
    for noisy, clean in _batches(settings, state):
        state.seconds = _agreed(settings, time.monotonic() - started)
        progress = progress_of(settings, state.step, state.seconds)
        if progress >= 1.0:
            return
        rate = learning_rate(settings, progress)
        losses.append(_step(settings, state, noisy, clean, rate))
        if state.step % settings.log_every == 0:
            # Read here alone: on a GPU, reading waits for the arithmetic.
            loss = float(torch.stack(losses).mean())
            losses.clear()
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at step {state.step}: lower learning_rate")
            log.write("step", step=state.step, seconds=state.seconds, loss=loss, rate=rate)
        if state.seconds - saved >= 60 * settings.checkpoint_minutes:
            saved = state.seconds
            if state.rank > 0:
                continue
            _save(state, settings.output / "checkpoint.pt", settings)
            figures = validate(state.average, held_out)
            export_model(state.average, settings, figures, state.step, state.seconds)
            log.write("checkpoint", step=state.step, seconds=state.seconds, **figures)


def _batches(settings: RunSettings, state: State) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches from the state's step on, on its device."""
    pairs = Pairs(settings, state.step, state.rank)
    if settings.workers <= 0:
        for index in itertools.count():
            noisy, clean = pairs[index]
            yield noisy.to(state.device), clean.to(state.device)
    # Worker w makes every batch whose number is w modulo the number of workers, and so keeps to
    # its own pools.
    loader = DataLoader(
        pairs,
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=8,
        worker_init_fn=_one_thread,
        pin_memory=state.device.type == "cuda",
    )
    for noisy, clean in loader:
        yield noisy.to(state.device, non_blocking=True), clean.to(state.device, non_blocking=True)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def _step(settings: RunSettings, state: State, noisy: Tensor, clean: Tensor, rate: float) -> Tensor:
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    image = noisy.contiguous(memory_format=torch.channels_last)
    with torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
        restored = state.network(image)
    error = (restored.float() - clean).pow(2).mean((1, 2, 3))
    loss = 0.5 * (error + settings.error_floor).log().mean()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if settings.processes > 1:
        _average_gradients(state.network, settings.processes)
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_limit)
    state.optimizer.step()
    state.step += 1
    # Early on, a long memory would hold on to the random start.
    decay = min(settings.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        kept, new = list(state.average.parameters()), list(state.network.parameters())
        torch._foreach_lerp_(kept, new, 1 - decay)
    return loss.detach()


def _agreed(settings: RunSettings, seconds: float) -> float:
    """Give the time of process 0 to all: what follows from it must be the same everywhere."""
    if settings.processes == 1:
        return seconds
    shared = torch.tensor([seconds], dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return float(shared)


def _average_gradients(network: nn.Module, processes: int) -> None:
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= processes
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _fresh(settings: RunSettings) -> State:
    device = _device(settings.device)
    size = settings.network
    network = BackProjectionNetwork(size.channels, size.stages)
    average = BackProjectionNetwork(size.channels, size.stages)
    average.load_state_dict(network.state_dict())
    for copy in (network, average):
        # Convolutions on this layout are faster, on a CPU as on a GPU.
        copy.to(device=device, memory_format=torch.channels_last)
    optimizer = Muon(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    return State(network, average, optimizer, device)


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise TrainingError("device is cuda, but PyTorch finds no GPU")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _save(state: State, path: Path, settings: RunSettings) -> None:
    content = {
        "run": json.dumps(settings.identity(), sort_keys=True),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    # Written beside and renamed, so that an interruption leaves the last good checkpoint.
    beside = path.with_suffix(".new")
    torch.save(content, beside)
    beside.replace(path)


def _restore(state: State, path: Path, settings: RunSettings) -> None:
    content = torch.load(path, weights_only=True, map_location=state.device)
    if content["run"] != json.dumps(settings.identity(), sort_keys=True):
        raise TrainingError(
            f"{path} belongs to a run with other settings; choose another output folder"
        )
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.step, state.seconds = content["step"], content["seconds"]


class _Log:
    """JSON lines in a file, and the same on the terminal."""

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path = path
        self.silent = silent

    def write(self, event: str, **values: Any) -> None:
        if self.silent:
            return
        line = json.dumps({"event": event, **values})
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)
