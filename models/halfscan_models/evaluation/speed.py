"""Time per slice of 384 x 384: the network, BM3D and fast NLM, one process, all its cores."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from halfscan_models.evaluation.arithmetic import matrix_product_rate, multiply_adds
from halfscan_models.evaluation.classical import INSTALL, denoise_bm3d, denoise_nlm, is_installed
from halfscan_models.evaluation.corruption import CONDITIONS, NoisyImage, add_noise
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.evaluation.scans import Patient
from halfscan_models.reconstruct import load_reconstructor
from halfscan_models.registry import WEIGHTS

__all__ = ["SIDE", "speed_measures", "usable_cores"]

SECTION = "Time"
SIDE = 384


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slice() -> NoisyImage:
    """The midline slice of a simulated sagittal T1 series with 4 % of noise."""
    patient = Patient(4242)
    clean = patient.scan("sag_t1", patient.stack("sag_t1").shape[0] // 2).noise_free()
    return add_noise(clean, 0.04, CONDITIONS[0], np.random.default_rng(1))


def _best_times(
    methods: dict[str, Callable[[], object]], repeats: dict[str, int]
) -> dict[str, float]:
    """Shortest time of each method [s]; they take turns, so that a busy machine hits all."""
    best = dict.fromkeys(methods, float("inf"))
    for turn in range(max(repeats[name] for name in methods)):
        for name, call in methods.items():
            if turn < repeats[name]:
                start = time.perf_counter()
                call()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def speed_measures(
    model: str | None, *, weights: Path = WEIGHTS, repeats: int = 5, cores: int = 2
) -> list[Measure]:
    """Time the methods on one slice and relate the network's rate to a matrix product's.

    Parameters
    ----------
    model : str or None
        Name of the model.
    weights : Path
        Folder of the models.
    repeats : int
        Turns; BM3D, which is slow, gets two at most.
    cores : int
        Threads for each method that can use them; NLM in scikit-image uses one.
    """
    case = _slice()
    network = load_reconstructor(model, weights=weights, threads=cores)
    source = case.noisy.astype(np.float32)[None]
    methods: dict[str, Callable[[], object]] = {"network": lambda: network.reconstruct(source)}
    if is_installed("nlm"):
        methods["nlm"] = lambda: denoise_nlm(case.noisy, case.noise_sd)
    if is_installed("bm3d"):
        methods["bm3d"] = lambda: denoise_bm3d(case.noisy, case.noise_sd, threads=cores)
    # The first call of each allocates and compiles.
    network.reconstruct(source)
    counts = {"network": repeats, "nlm": repeats, "bm3d": min(2, repeats)}
    best = _best_times(methods, counts)
    peak = matrix_product_rate()
    rate = 2 * multiply_adds(model, SIDE, SIDE, weights=weights) / best["network"]
    return [
        Measure(
            SECTION,
            f"network, one slice of {SIDE} x {SIDE}",
            (best["network"],),
            "s",
            note=f"{cores} threads, shortest of {repeats}, noise estimate and quality included",
            digits=3,
        ),
        _ratio("BM3D over network", "bm3d", best, Bar("at least", 20.0), f"{cores} threads"),
        _ratio("fast NLM over network", "nlm", best, Bar("at least", 1.0), "one thread by design"),
        Measure(
            SECTION,
            "arithmetic rate over that of a float32 matrix product",
            (rate / peak,),
            bar=Bar("at least", 0.5),
            note=f"{rate / 2e9 * best['network']:.2f} billion multiply-adds, {rate / 1e9:.0f} of "
            f"{peak / 1e9:.0f} GFLOP/s",
        ),
    ]


def _ratio(name: str, rival: str, best: dict[str, float], bar: Bar, note: str) -> Measure:
    if rival not in best:
        return Measure(SECTION, name, (), "times", bar, reason=f"{rival} not installed: {INSTALL}")
    note = f"{best[rival]:.2f} s, {note}"
    return Measure(SECTION, name, (best[rival] / best["network"],), "times", bar, note)
