"""How much of each guard's limit good results use: the figures behind `halfscan_plugin.guards`.

    python benchmarks/guards.py [--patients 3] [--slices 5] [FOLDER ...]

Every folder is searched for series of MR images that can be read as volumes. A share of 1 would be
a good result that a guard refuses; the exit status is 1 from `ROOM` on.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from halfscan_models import load_reconstructor
from halfscan_models.reconstruct import Reconstructor
from halfscan_plugin import exam
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.files import read_folder, read_series
from halfscan_plugin.guards import GUARDS, measure
from halfscan_plugin.volume import SeriesVolume, read_volume

ROOM = 0.75
SCALES = (0.25, 0.35, 0.5, 0.75)


def main() -> int:
    """Measure, and print a line for each series and the worst of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--slices", type=int, default=5)
    chosen = parser.parse_args()
    network = load_reconstructor()
    names = [guard.name for guard in GUARDS]
    print(f"{'series':44}{'slices':>7}{'signal':>8}", *(f"{name:>15}" for name in names))
    worst = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory(prefix="halfscan-benchmark-") as place:
        folders = [*simulated(Path(place), chosen.patients, chosen.slices), *chosen.folders]
        for name, source in volumes(folders, chosen.slices):
            signal, shares = used(network, source)
            worst = {guard: max(worst[guard], shares[guard]) for guard in names}
            cells = (f"{shares[guard]:15.3f}" for guard in names)
            print(f"{name[-43:]:44}{len(source):7}{signal:8.0f}", *cells, flush=True)
    print(f"{'worst':59}", *(f"{worst[guard]:15.3f}" for guard in names))
    return int(max(worst.values()) >= ROOM)


def simulated(folder: Path, patients: int, slices: int) -> Iterator[Path]:
    """Simulate exams of several matrix sizes."""
    for number in range(patients):
        out = folder / f"exam-{number}"
        scale = SCALES[number % len(SCALES)]
        exam.simulate(out, patients=1, seed=100 + number, slices=slices, matrix_scale=scale)
        yield out


def volumes(folders: list[Path], slices: int) -> Iterator[tuple[str, SeriesVolume]]:
    """Read the series that form volumes, some slices of each."""
    for folder in folders:
        for items in read_folder([folder]).series.values():
            try:
                source = read_volume(read_series([file for file, _ in items]))
            except UnreadableSeries:
                continue
            some = np.unique(np.linspace(0, len(source) - 1, slices).astype(int))
            yield items[0][0].parent.name, source.part([int(index) for index in some])


def used(network: Reconstructor, source: SeriesVolume) -> tuple[float, dict[str, float]]:
    """Give the largest signal [noise SDs], and the largest share of each limit."""
    result = network.reconstruct(source)
    figures = [measure(source, result, index) for index in range(len(source))]
    shares = {
        guard.name: max(guard.value(item) / guard.limit_for(item) for item in figures)
        for guard in GUARDS
    }
    return max(item.signal for item in figures), shares


if __name__ == "__main__":
    sys.exit(main())
