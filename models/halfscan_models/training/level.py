"""Training of the noise estimator's network: how much of a picture's roughness is noise.

    python -m halfscan_models.training.level models/halfscan_models/training/noise.toml --output DIR

The network (`LevelNetwork`) looks at blocks of 4 x 4 pixels and their neighbourhood and says for
each what the noise there is, and how sure it is. It learns from the pairs of the denoiser: there
the true noise of every pixel is known. `halfscan_models.noise_map` uses it.
"""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from halfscan_models.errors import TrainingError
from halfscan_models.noise_map import PRECISION
from halfscan_models.training.export import write_onnx
from halfscan_models.training.optimizer import Muon
from halfscan_models.training.settings import RunSettings, read_run
from halfscan_models.training.synthetic import BatchMaker

__all__ = ["LevelNetwork", "train_level"]

_BLOCK = 4
_MAPS = 48
_LAYERS = 5
_SLOPE = 0.2
# The first guess may be so many times the noise, or so small a share of it: texture passes for
# noise in it.
_GUESS = (0.4, 6.0)


class LevelNetwork(nn.Module):
    """Convolutions on blocks of pixels: a correction of the noise level and its precision.

    Parameters
    ----------
    maps, layers : int
        Feature maps, and convolutions of kernel 3 before the last one of kernel 1.
    """

    def __init__(self, maps: int = _MAPS, layers: int = _LAYERS) -> None:
        super().__init__()
        sizes = [_BLOCK**2 + 1, *[maps] * layers]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=0) for before, after in itertools.pairwise(sizes)
        )
        self.last = nn.Conv2d(maps, 2, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, 1, H, W) in units of a first guess to (batch, 2, H', W').

        Logarithm of true over guessed noise, and logarithm of the precision of that, for every
        block of 4 x 4 pixels that is `layers` blocks away from the edge.
        """
        blocks = nn.functional.pixel_unshuffle(image, _BLOCK)
        mean = blocks.mean(1, keepdim=True)
        units = torch.cat([blocks - mean, mean], 1)
        # The inverse hyperbolic sine, which the exporter does not know.
        features = units.sign() * (units.abs() + (units.square() + 1).sqrt()).log()
        for convolution in self.convolutions:
            features = nn.functional.leaky_relu(convolution(features), _SLOPE)
        return self.last(features)


def train_level(settings: RunSettings) -> Path:
    """Train the estimator's network, on one core.

    Parameters
    ----------
    settings : RunSettings
        The run: its steps, crops, learning rate, seed, pairs and output folder. The same run gives
        the same weights.

    Returns
    -------
    Path
        The weights, `noise.onnx` in the output folder.

    Raises
    ------
    TrainingError
        The run does not say how many steps it has.
    """
    if settings.steps is None:
        raise TrainingError("the run of the noise estimate needs steps")
    steps = settings.steps
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    network = LevelNetwork()
    weights = [p for p in network.parameters() if p.ndim == 4]
    biases = [p for p in network.parameters() if p.ndim == 1]
    muon, adam = Muon(weights, settings.learning_rate), torch.optim.Adam(biases)
    maker = BatchMaker(settings.pairs, settings.crops, settings.seed + 1)
    rng = np.random.default_rng(settings.seed)
    settings.output.mkdir(parents=True, exist_ok=True)
    losses = []
    for step in range(steps):
        noisy, levels = maker.levels(step)
        rate = settings.learning_rate * min(1.0, (step + 1) / 100) * (1 - step / steps)
        off = rng.uniform(np.log(_GUESS[0]), np.log(_GUESS[1]), (len(noisy), 1, 1))
        guess = np.exp(off).astype(np.float32)
        for group in muon.param_groups + adam.param_groups:
            group["lr"] = rate
        losses.append(_step(network, noisy / guess, levels / guess))
        muon.step()
        adam.step()
        if (step + 1) % settings.log_every == 0:
            entry = {"step": step + 1, "loss": float(np.mean(losses)), "rate": rate}
            print(json.dumps(entry), flush=True)
            losses.clear()
    path = settings.output / "noise.onnx"
    write_onnx(network, path, "answer")
    return path


def _step(
    network: LevelNetwork, noisy: npt.NDArray[np.float32], levels: npt.NDArray[np.float32]
) -> float:
    """Give the weights their gradients: likelihood of a Laplace distribution."""
    target = torch.from_numpy(levels)[:, None].pow(2)
    target = 0.5 * nn.functional.avg_pool2d(target, _BLOCK).log()
    margin = len(network.convolutions)
    target = target[:, :, margin:-margin, margin:-margin]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(torch.from_numpy(noisy)[:, None])
    ratio, precision = answer.float().split(1, 1)
    precision = precision.clamp(*PRECISION)
    loss = ((ratio - target).abs() * precision.exp() - precision).mean()
    network.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    return float(loss.detach())


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    settings = replace(read_run(options.run), output=options.output)
    print(train_level(settings))


if __name__ == "__main__":
    main()
