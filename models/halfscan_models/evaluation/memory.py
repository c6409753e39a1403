"""Largest memory of a process that reconstructs a long series.

``python -m halfscan_models.evaluation.memory SLICES SIDE`` is that process: it loads the network,
makes a noisy series, reconstructs it as the product does and prints, as JSON, its resident memory
before and at its highest. Linux gives both in /proc/self/status; elsewhere nothing is measured.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.measures import Bar, Measure
from halfscan_models.reconstruct import load_reconstructor
from halfscan_models.registry import WEIGHTS

__all__ = ["memory_measure", "peak_memory"]

SECTION = "Memory"
SLICES, SIDE = 512, 512
_STATUS = Path("/proc/self/status")
_GIB = 2**30
_HELD = 6  # bytes a pixel: 16-bit integers and the float32 of the result


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise EvaluationError(f"{_STATUS} has no field {field}")


def _series(slices: int, side: int) -> npt.NDArray[np.uint16]:
    """A disc with noise, (slice, row, column) 16-bit integers as scanners store them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    clean = 400.0 * (np.hypot(y, x) < 0.35) * (1.2 + np.sin(25 * x) * np.cos(18 * y))
    series = np.empty((slices, side, side), np.uint16)
    for image in series:
        noise = rng.standard_normal((2, side, side)) * 20.0
        image[:] = np.rint(np.hypot(clean + noise[0], noise[1]))
    return series


def main(arguments: list[str]) -> None:
    """Run as the process that is measured."""
    slices, side, model, weights = arguments
    network = load_reconstructor(model or None, weights=Path(weights))
    baseline = _status_bytes("VmRSS")
    series = _series(int(slices), int(side))
    result = network.reconstruct(series)
    figures = {
        "baseline": baseline,
        "peak": _status_bytes("VmHWM"),
        "slices": len(result.volume),
    }
    sys.stdout.write(json.dumps(figures))


def peak_memory(
    slices: int, side: int, model: str | None = None, *, weights: Path = WEIGHTS
) -> tuple[int, int]:
    """Resident memory [bytes] of a fresh process: after loading, and at its highest.

    Parameters
    ----------
    slices, side : int
        Size of the series.
    model : str, optional
        Name of the model.
    weights : Path
        Folder of the models.

    Raises
    ------
    EvaluationError
        The process failed; its last words are in the message.
    """
    command = [sys.executable, "-m", "halfscan_models.evaluation.memory"]
    command += [str(slices), str(side), model or "", str(weights)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EvaluationError(
            f"the process whose memory is measured ended with {done.returncode}: "
            f"{done.stderr.strip()[-400:]}"
        )
    figures = json.loads(done.stdout)
    return int(figures["baseline"]), int(figures["peak"])


def memory_measure(model: str | None, *, weights: Path = WEIGHTS, slices: int = SLICES) -> Measure:
    """Highest memory for a series of 512 slices of 512 x 512.

    Fewer slices are extrapolated: the growth from a half to all of `slices` goes on to 512, but at
    least what the series and its result hold.
    """
    name = f"highest resident memory, {SLICES} slices of {SIDE} x {SIDE}"
    bar = Bar("below", 2.0)
    if not _STATUS.exists():
        return Measure(SECTION, name, (), "GiB", bar, reason="not measured: no /proc here")
    baseline, peak = peak_memory(slices, SIDE, model, weights=weights)
    note = f"process before the series {baseline / _GIB:.2f} GiB"
    if slices != SLICES:
        _, half = peak_memory(slices // 2, SIDE, model, weights=weights)
        # Two short runs differ by chance too; every slice takes its integers and its result.
        growth = max((peak - half) / (slices - slices // 2), _HELD * SIDE**2)
        measured = peak
        peak = round(peak + growth * (SLICES - slices))
        note += (
            f"; extrapolated from {slices // 2} and {slices} slices ({measured / _GIB:.2f} GiB), "
            f"{growth / SIDE**2:.1f} bytes a pixel"
        )
    return Measure(SECTION, name, (peak / _GIB,), "GiB", bar, note)


if __name__ == "__main__":
    main(sys.argv[1:])
