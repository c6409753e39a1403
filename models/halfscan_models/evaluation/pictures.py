"""The pictures: what the network does, to be looked at beside the figures."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfscan_models.evaluation.arms import Gallery, Restore
from halfscan_models.evaluation.classical import denoise_bm3d, is_installed
from halfscan_models.evaluation.corruption import CONDITIONS, add_noise
from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.images import ImageSet
from halfscan_models.evaluation.scans import Patient
from halfscan_models.evaluation.stimuli import Disc, Lines, Stimulus
from halfscan_models.evaluation.trials import PLACES, Site

__all__ = ["can_draw", "draw_given", "draw_simulated", "draw_trials"]

Image = npt.NDArray[np.float64]
Panel = tuple[str, Image | None, float]  # title, image, half width of a residual's window or 0

_PATIENT = 0
_SHARE = 0.04
_RESIDUAL_SIGMAS = 4.0
_TRIALS: dict[str, Stimulus] = {
    "marrow alone": None,
    "2 mm, 30 %": Disc(2.0, 0.30),
    "3 mm, 20 %": Disc(3.0, 0.20),
    "6 mm, 10 %": Disc(6.0, 0.10),
    "one line of 3 mm": Lines(3.0, 1),
    "two lines 3 mm apart": Lines(3.0, 2),
}
_TRIAL_PLACE = 8  # in front and below in L3
_TRIAL_HALF_MM = 8.0
_MARROW_TOP = 1.7


def can_draw() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def draw_simulated(
    restore: Restore, path: Path, *, sequences: Sequence[str], matrix_scale: float = 1.0
) -> Path:
    """Draw standard, accelerated, network, BM3D and residual, one row for each sequence.

    BM3D is given the true noise of the accelerated scan, averaged over the body.
    """
    gallery = Gallery(Patient(_PATIENT, matrix_scale=matrix_scale), restore)
    rows: list[list[Panel]] = []
    for sequence in sequences:
        arms = gallery.arms(sequence, gallery.midline(sequence))
        truth = arms.truth.astype(np.float64)
        body = truth > 0.1 * np.percentile(truth, 99)
        noise_sd = float(np.std((arms.accelerated - arms.truth)[body]))
        rows.append(
            [
                (f"standard ({sequence})", arms.standard.astype(np.float64), 0.0),
                *_panels("accelerated", arms.accelerated, arms.network, noise_sd),
            ]
        )
    return _draw(rows, path)


def draw_given(restore: Restore, path: Path, sets: Sequence[ImageSet]) -> Path:
    """Draw clean, with 4 % of white noise, network, BM3D and residual, one row for each set."""
    rows: list[list[Panel]] = []
    for images in sets:
        case = add_noise(images.images[0], _SHARE, CONDITIONS[0], np.random.default_rng(0))
        rows.append(
            [
                (images.name, case.truth, 0.0),
                *_panels("noise 4 %", case.noisy, restore(case.noisy), case.noise_sd),
            ]
        )
    return _draw(rows, path)


def draw_trials(restore: Restore, path: Path, *, sequence: str, matrix_scale: float = 1.0) -> Path:
    """Draw a model observer's trials: no noise, standard, accelerated, network, residual.

    One row for each of six stimuli, all at the same place of one patient; the arms share the noise
    that they can share, the rows do not.
    """
    site = Site(0, sequence, matrix_scale)
    half = int(_TRIAL_HALF_MM / site.stack.pixel_mm)
    rows: list[list[Panel]] = []
    for turn, (name, stimulus) in enumerate(_TRIALS.items()):
        images, truth = site.scan(turn, [stimulus] * PLACES, restore)
        clean, standard, accelerated, network = (
            site.windows(image, half)[_TRIAL_PLACE]
            for image in (truth, *(images[arm] for arm in ("standard", "accelerated", "network")))
        )
        noise_sd = float(np.std(accelerated - clean))
        rows.append(
            [
                # The first panel sets the scale: the marrow's, a bright disc at the rim is cut.
                (name, np.minimum(clean, _MARROW_TOP * np.median(clean)), 0.0),
                ("standard", standard, 0.0),
                ("accelerated", accelerated, 0.0),
                ("network", network, 0.0),
                ("accelerated - network", accelerated - network, _RESIDUAL_SIGMAS * noise_sd),
            ]
        )
    return _draw(rows, path)


def _panels(
    name: str, noisy: npt.ArrayLike, restored: npt.ArrayLike, noise_sd: float
) -> list[Panel]:
    before, after = np.asarray(noisy, np.float64), np.asarray(restored, np.float64)
    classical = denoise_bm3d(before, noise_sd) if is_installed("bm3d") else None
    return [
        (name, before, 0.0),
        ("network", after, 0.0),
        ("BM3D" if classical is not None else "BM3D not installed", classical, 0.0),
        (f"{name} - network", before - after, _RESIDUAL_SIGMAS * noise_sd),
    ]


def _draw(rows: Sequence[Sequence[Panel]], path: Path) -> Path:
    """Draw the rows, scaled to the 99.5th percentile of the first image; residuals to 4 sigma."""
    if not can_draw():
        raise EvaluationError("pictures need matplotlib: pip install 'halfscan[benchmark]'")
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra; loaded where it is used)

    figure = Figure(figsize=(3 * len(rows[0]), 3.2 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        first = panels[0][1]
        top = float(np.percentile(first, 99.5)) if first is not None else 1.0
        for place, (title, image, window) in zip(line, panels, strict=True):
            place.set_title(title, fontsize=9)
            place.set_axis_off()
            if image is not None:
                low, high = (-window, window) if window else (0.0, top)
                place.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return path
