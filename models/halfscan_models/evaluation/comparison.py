"""The network against BM3D and non-local means, image by image.

The classical methods are told the true noise; the network estimates it itself, as in the product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.arms import Restore
from halfscan_models.evaluation.classical import INSTALL, denoise_bm3d, denoise_nlm, is_installed
from halfscan_models.evaluation.corruption import Condition, NoisyImage, add_noise
from halfscan_models.evaluation.images import ImageSet
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.evaluation.metrics import Likeness, likeness

__all__ = ["ComparedImage", "Task", "compare", "comparison_measures", "comparison_tasks"]

Image = npt.NDArray[np.float64]

SECTION = "Likeness to the truth"
# At this zero filling BM3D that is told sigma alone is run too.
_SIGMA_ALONE = "zero filled 1.67"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image with one kind and level of noise."""

    set_name: str
    number: int
    image: Image
    condition: Condition
    share: float

    def noisy(self) -> NoisyImage:
        """Return the image with its noise, the same at every call."""
        seed = [self.number, round(1000 * self.share), *self.condition.name.encode()]
        return add_noise(self.image, self.share, self.condition, np.random.default_rng(seed))


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """What the methods made of one task.

    Attributes
    ----------
    set_name : str
        Set that the image belongs to.
    number : int
        Image in the set.
    condition : str
        Kind of noise.
    share : float
        Noise over the 99th percentile.
    noise_ratio : float
        The network's estimate of the noise over the true one.
    likeness : dict of str to Likeness
        By method: noisy, network, nlm, bm3d (told sigma), bm3d_spectrum.
    """

    set_name: str
    number: int
    condition: str
    share: float
    noise_ratio: float
    likeness: dict[str, Likeness]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return asdict(self)


def comparison_tasks(
    sets: Sequence[ImageSet], conditions: Sequence[Condition], shares: Sequence[float]
) -> Iterator[Task]:
    """Every image with every kind and level of noise."""
    for images in sets:
        for number, image in enumerate(images.images):
            for condition in conditions:
                for share in shares:
                    yield Task(images.name, number, image, condition, share)


def compare(task: Task, restore: Restore) -> ComparedImage:
    """Run all methods that are installed on one task."""
    from halfscan_models.noise_map import estimate_noise  # noqa: PLC0415  (keeps imports acyclic)

    case = task.noisy()
    results: dict[str, npt.ArrayLike] = {"noisy": case.noisy, "network": restore(case.noisy)}
    if is_installed("nlm"):
        results["nlm"] = denoise_nlm(case.noisy, case.noise_sd)
    if is_installed("bm3d"):
        if task.condition.white or task.condition.name == _SIGMA_ALONE:
            results["bm3d"] = denoise_bm3d(case.noisy, case.noise_sd)
        if not task.condition.white:
            results["bm3d_spectrum"] = denoise_bm3d(
                case.noisy, case.noise_sd, spectrum=case.spectrum
            )
    return ComparedImage(
        task.set_name,
        task.number,
        task.condition.name,
        task.share,
        estimate_noise(case.noisy).sd / case.noise_sd,
        {method: likeness(image, case.truth) for method, image in results.items()},
    )


# What the network is held against: method, title, package, bar [dB].
Rival = tuple[str, str, str, float]
_WHITE = (("bm3d", "BM3D told sigma", "bm3d", 0.5), ("nlm", "fast NLM told sigma", "nlm", 0.5))
_CORRELATED = ("bm3d_spectrum", "BM3D told the spectrum", "bm3d", 0.5)
_ALONE = ("bm3d", "BM3D told sigma alone", "bm3d", 2.0)


def comparison_measures(compared: Sequence[ComparedImage]) -> list[Measure]:
    """Two rows for each set, condition and rival: PSNR and SSIM, whole image / foreground."""
    measures: list[Measure] = []
    for set_name, condition in dict.fromkeys((c.set_name, c.condition) for c in compared):
        group = [c for c in compared if (c.set_name, c.condition) == (set_name, condition)]
        rivals: tuple[Rival, ...]
        if condition == "white":
            rivals = _WHITE
        elif condition == _SIGMA_ALONE:
            rivals = (_CORRELATED, _ALONE)
        else:
            rivals = (_CORRELATED,)
        for rival in rivals:
            measures += _against(group, f"{set_name}, {condition}", *rival)
    return [*measures, *_estimates(compared)]


def _estimates(compared: Sequence[ComparedImage]) -> Iterator[Measure]:
    """How far the network's own estimate of the noise is from the noise that was added.

    Given images have noise of their own, which the estimate sees too.
    """
    for set_name in dict.fromkeys(c.set_name for c in compared):
        ratios = np.array([c.noise_ratio for c in compared if c.set_name == set_name])
        worst = float(ratios[np.argmax(np.abs(np.log(np.maximum(ratios, 1e-3))))])
        yield Measure(
            "Noise estimate",
            f"{set_name}: estimated over added noise",
            (float(np.median(ratios)), worst),
            note=f"median / worst of {ratios.size}; the classical methods are told the true value",
        )


def _against(
    group: Sequence[ComparedImage], place: str, rival: str, title: str, package: str, bar_db: float
) -> Iterator[Measure]:
    psnr, ssim = f"{place}: PSNR over {title}", f"{place}: SSIM over {title}"
    bars = Bar("at least", bar_db), Bar("at least", 0.0)
    if any(rival not in c.likeness for c in group):
        why = f"{package} not installed: {INSTALL}"
        yield Measure(SECTION, psnr, (), "dB", bars[0], reason=why)
        yield Measure(SECTION, ssim, (), "", bars[1], reason=why)
        return
    gains = {
        name: [getattr(c.likeness["network"], name) - getattr(c.likeness[rival], name)
               for c in group]
        for name in ("psnr_db", "psnr_foreground_db", "ssim", "ssim_foreground")
    }  # fmt: skip
    levels = ", ".join(
        f"{100 * share:g} %: "
        f"{np.mean([g for g, c in zip(gains['psnr_db'], group, strict=True) if c.share == share]):+.2f}"  # noqa: E501
        for share in dict.fromkeys(c.share for c in group)
    )
    both = "whole image / foreground"
    yield Measure(
        SECTION,
        psnr,
        (float(np.mean(gains["psnr_db"])), float(np.mean(gains["psnr_foreground_db"]))),
        "dB",
        bars[0],
        f"{both}; {levels}",
    )
    yield Measure(
        SECTION,
        ssim,
        (float(np.mean(gains["ssim"])), float(np.mean(gains["ssim_foreground"]))),
        "",
        bars[1],
        both,
        digits=3,
    )
