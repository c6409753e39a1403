"""`python -m halfscan_models.training.evaluate`: a model on synthetic images it has never seen.

The images go through `Reconstructor`, so that the estimate of the noise, the frames and the batches
of inference are part of what is measured. PyTorch is not needed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfscan_models.errors import ModelsError
from halfscan_models.noise import estimate_noise_sd
from halfscan_models.noise_map import estimate_noise
from halfscan_models.reconstruct import Reconstructor, load_reconstructor
from halfscan_models.registry import WEIGHTS
from halfscan_models.training.synthetic import Measurement, PairSettings, measure

# Neither a training run nor its validation starts from this number.
_SEED = 555_000_111
RATIOS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, slots=True)
class Result:
    """Mean figures at one signal-to-noise ratio.

    Attributes
    ----------
    snr : float
        99th percentile of the noise-free image over the standard deviation of the noise.
    images : int
        Number of images.
    psnr_noisy_db, psnr_restored_db : float
        Mean peak signal-to-noise ratio [dB]; the peak is the 99.5th percentile of the noise-free
        image.
    gain_db, gain_worst_db : float
        Mean and smallest gain of an image [dB].
    noise_ratio, noise_ratio_low, noise_ratio_high : float
        Median, tenth and ninetieth percentile over images of estimated over true noise standard
        deviation, both the median of a map.
    windows_ratio, windows_ratio_low, windows_ratio_high : float
        The same of the windows' estimate alone, the first guess.
    map_error : float
        Root mean square difference of the logarithms of estimated and true map, median over images.
    """

    snr: float
    images: int
    psnr_noisy_db: float
    psnr_restored_db: float
    gain_db: float
    gain_worst_db: float
    noise_ratio: float
    noise_ratio_low: float
    noise_ratio_high: float
    windows_ratio: float
    windows_ratio_low: float
    windows_ratio_high: float
    map_error: float


def evaluate(
    network: Reconstructor, *, images: int, matrix: int = 192, ratios: Sequence[float] = RATIOS
) -> list[Result]:
    """Restore synthetic images at several signal-to-noise ratios.

    Parameters
    ----------
    network : Reconstructor
        What is evaluated.
    images : int
        Images at each ratio; the same scenes at all of them.
    matrix : int
        Rows and columns [pixels].
    ratios : sequence of float
        Signal-to-noise ratios.

    Returns
    -------
    list of Result
        One for each ratio.
    """
    return [_at(network, images, PairSettings(matrix=matrix), ratio) for ratio in ratios]


def psnr_db(image: npt.NDArray[np.float64], clean: npt.NDArray[np.float64]) -> float:
    """Peak signal-to-noise ratio [dB], the peak being the 99.5th percentile of `clean`."""
    peak = float(np.percentile(clean, 99.5))
    return float(10 * np.log10(peak**2 / max(float(np.mean((image - clean) ** 2)), 1e-12)))


def _at(network: Reconstructor, images: int, settings: PairSettings, ratio: float) -> Result:
    settings = replace(settings, snr_low=ratio, snr_high=ratio)
    pairs = [measure(settings, np.random.default_rng([_SEED, index])) for index in range(images)]
    answer = network.reconstruct(np.stack([pair.noisy for pair in pairs]))
    before = [psnr_db(pair.noisy, pair.clean) for pair in pairs]
    after = [
        psnr_db(restored.astype(np.float64), pair.clean)
        for restored, pair in zip(answer.volume, pairs, strict=True)
    ]
    gains = np.subtract(after, before)
    true = [np.median(pair.noise_sd) for pair in pairs]
    low, middle, high = np.percentile(answer.noise_sd / true, (10, 50, 90))
    windows = np.array([estimate_noise_sd(pair.noisy) for pair in pairs]) / true
    windows_low, windows_middle, windows_high = np.percentile(windows, (10, 50, 90))
    return Result(
        snr=ratio,
        images=images,
        psnr_noisy_db=round(float(np.mean(before)), 2),
        psnr_restored_db=round(float(np.mean(after)), 2),
        gain_db=round(float(gains.mean()), 2),
        gain_worst_db=round(float(gains.min()), 2),
        noise_ratio=round(float(middle), 3),
        noise_ratio_low=round(float(low), 3),
        noise_ratio_high=round(float(high), 3),
        windows_ratio=round(float(windows_middle), 3),
        windows_ratio_low=round(float(windows_low), 3),
        windows_ratio_high=round(float(windows_high), 3),
        map_error=round(float(np.median([_map_error(pair) for pair in pairs])), 3),
    )


def _map_error(pair: Measurement) -> float:
    seen = pair.noisy > 0.0
    error = np.log(estimate_noise(pair.noisy).sd_map / pair.noise_sd)[seen]
    return float(np.sqrt(np.mean(error**2)))


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON object a line and return the exit status: 0, or 1 where the model fails."""
    parser = argparse.ArgumentParser(
        prog="python -m halfscan_models.training.evaluate", description=__doc__
    )
    parser.add_argument("--model", help="name of the model; the default one if not given")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the models")
    parser.add_argument("--images", type=int, default=25, help="images at each ratio")
    options = parser.parse_args(arguments)
    try:
        network = load_reconstructor(options.model, weights=options.weights)
        for result in evaluate(network, images=options.images):
            print(json.dumps(asdict(result)))
    except ModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
