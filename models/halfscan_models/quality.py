"""What a reconstruction did to each slice, and whether the network was made for it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from halfscan_models.noise import estimate_noise_sd
from halfscan_models.noise_map import NoiseEstimate
from halfscan_models.registry import ModelSpec, TrainedRange

Image = npt.NDArray[np.float64]  # (row, column)

# Below this the magnitude of a pixel is noise more than signal [noise SDs].
DARK = 2.5
# No pixel moves further than this [noise SDs]: noise that is twice as strong
# elsewhere stays below, and what a network does beyond is not noise reduction.
FURTHEST = 10.0
BRIGHT = 99.0  # percentile of the pixels that stands for the bright signal
# Side of the windows in which the residual is compared with anatomy [pixels].
_WINDOW = 8
_FEWEST_WINDOWS = 16
# Standard deviation of the blurring whose loss shows anatomy's edges [pixels].
_EDGE_WIDTH = 1.0
# Edges below this may be noise that is left in the result: it is in step with what was removed, and
# would pass for structure [noise SDs].
_LEFT_OVER = 0.5
# Places from which unrelated anatomy is taken, as shares of the windows' number.
_ELSEWHERE = (0.13, 0.29, 0.41, 0.59, 0.71, 0.87)


@dataclass(frozen=True, slots=True)
class SliceQuality:
    """What the reconstruction did to one slice.

    Attributes
    ----------
    noise_before, noise_after : float
        Estimated noise standard deviation of the source (`NoiseEstimate.sd`), and that share of it
        which is left by the estimate from windows (`estimate_noise_sd`), noise or fine texture
        [stored units].
    mean_change, largest_change : float
        Mean and largest absolute difference between result and source, in units of
        `noise_before`; 0 where no noise was found, because the slice is then unchanged. A largest
        change far above 5 is more than noise explains.
    structured_share : float or None
        Share of what was removed that follows the anatomy (`structured_share`): near 0 for noise,
        large for edges. None where nothing was removed or the slice shows too little signal.
    noise_variation : float
        Noise of the roughest tenth of the source over that of its quietest tenth, by the map of
        the noise (`halfscan_models.noise_map`); 1 where no noise was found. Above about 1.5, coils
        and acceleration make the noise uneven, or fine structure passes for noise.
    applied : float
        Share of the network's answer that was used, besides `strength`: below 1 where the signal
        is far higher than the network was trained on.
    limited_share : float
        Share of the pixels that the network would have moved by more than 10 noise SDs, and that
        were held back there.
    signal_to_noise, peak_to_bright, dark_share : float or None
        What the slice looks like (`InputFigures`); None where no noise was found.
    outside : tuple of str
        Which of these three lie outside what the network was trained on.

    All but those that describe the source are NaN where the network's answer is not finite: such
    a slice must not be used.
    """

    noise_before: float
    noise_after: float
    mean_change: float
    largest_change: float
    structured_share: float | None = None
    noise_variation: float = 1.0
    applied: float = 1.0
    limited_share: float = 0.0
    signal_to_noise: float | None = None
    peak_to_bright: float | None = None
    dark_share: float | None = None
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality figures of a reconstruction.

    Attributes
    ----------
    model, version, sha256 : str
        The network that was used.
    strength : float
        Share of the network's answer in the result, 0 to 1.
    slices : tuple of SliceQuality
        One for each slice, in order.
    warnings : tuple of str
        What a reader of the images should know, in words.
    """

    model: str
    version: str
    sha256: str
    strength: float
    slices: tuple[SliceQuality, ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as dictionaries, lists, texts and numbers, ready for JSON."""
        figures = asdict(self)
        figures["slices"] = [{**one, "outside": list(one["outside"])} for one in figures["slices"]]
        figures["warnings"] = list(figures["warnings"])
        return figures

    @property
    def outside_share(self) -> float:
        """Share of the slices with noise that lie outside what the network was trained on."""
        noisy = [one for one in self.slices if one.noise_before > 0.0]
        return sum(bool(one.outside) for one in noisy) / len(noisy) if noisy else 0.0


@dataclass(frozen=True, slots=True)
class InputFigures:
    """What a slice looks like to a network.

    Attributes
    ----------
    signal_to_noise : float
        99th percentile of the pixels over the noise standard deviation.
    peak_to_bright : float
        Largest pixel over the 99th percentile.
    dark_share : float
        Share of the pixels below 2.5 noise standard deviations.
    """

    signal_to_noise: float
    peak_to_bright: float
    dark_share: float

    def outside(self, trained: TrainedRange | None) -> tuple[str, ...]:
        """Name the figures that lie outside the trained range; none where it is not known."""
        if trained is None:
            return ()
        ranges = asdict(trained)
        return tuple(
            name
            for name, value in asdict(self).items()
            if not ranges[name][0] <= value <= ranges[name][1]
        )


def input_figures(units: Image) -> InputFigures:
    """Describe a slice in units of its noise.

    Parameters
    ----------
    units : ndarray
        (row, column), in units of the noise standard deviation.
    """
    bright = float(np.percentile(units, BRIGHT))
    peak = float(units.max())
    return InputFigures(
        signal_to_noise=bright,
        # A single bright pixel on nothing: as far from the rest as there are noise SDs.
        peak_to_bright=peak / max(bright, 1.0),
        dark_share=float(np.mean(units < DARK)),
    )


def structured_share(removed: Image, anatomy: Image) -> float | None:
    """Share of what was removed that follows the anatomy.

    What a denoiser removes ("method noise" [1]_) should look like noise: nothing of the picture
    should be seen in it, and its correlation with the picture is a measure of what was lost [2]_.
    Here the two are compared in windows of 8 x 8 pixels that lie in tissue. Anatomy is represented
    by what a slight blurring of the restored slice takes from it, which is strong at edges and
    lines; what of that is below half a noise SD may be noise that is left, and does not count. In
    each window the part of the residual that is proportional to it (least squares) counts as
    structured; the share is that of the summed squares over all windows, so places where much was
    removed count more.

    Noise correlates with anything by chance, more so where it is smooth. How much, is measured
    with anatomy from other windows of the same slice, and taken off:
    ``(share - chance) / (1 - chance)``.

    Parameters
    ----------
    removed : ndarray
        (row, column) source minus result, in units of the noise standard deviation.
    anatomy : ndarray
        (row, column) the network's result, same units.

    Returns
    -------
    float or None
        0 to 1; None where fewer than 16 windows lie in tissue or nothing was removed.

    Notes
    -----
    Measured against the share that stays the same from one noise to the next (ten realisations of
    each of 15 synthetic images), the correlation was 0.96; about half of that share was found.
    A structure that is gone without a trace leaves no edge in the result to be correlated with:
    a low share does not prove that nothing was lost.

    References
    ----------
    .. [1] Buades A, Coll B, Morel JM. A review of image denoising algorithms, with a new one.
       Multiscale Model Simul 2005;4:490-530. doi:10.1137/040616024
    .. [2] Brunet D, Vrscay ER, Wang Z. The use of residuals in image denoising. ICIAR 2009.
       doi:10.1007/978-3-642-02611-9_1
    """
    edges = anatomy - gaussian_filter(anatomy, _EDGE_WIDTH)
    edges[np.abs(edges) < _LEFT_OVER] = 0.0
    tissue = _windows(anatomy).min(axis=1) > DARK
    if np.count_nonzero(tissue) < _FEWEST_WINDOWS:
        return None
    residual, pattern = _windows(removed)[tissue], _windows(edges)[tissue]
    # A shift of the mean is no loss of structure: the bias of a magnitude has one.
    residual -= residual.mean(axis=1, keepdims=True)
    pattern -= pattern.mean(axis=1, keepdims=True)
    total = float((residual**2).sum())
    if total == 0.0:
        return None
    share = _explained(residual, pattern) / total
    steps = {max(1, round(place * len(pattern))) for place in _ELSEWHERE}
    chance = float(
        np.mean([_explained(residual, np.roll(pattern, step, axis=0)) for step in steps]) / total
    )
    return max(0.0, (share - chance) / (1.0 - chance)) if chance < 1.0 else None


def warnings_of(slices: Sequence[SliceQuality], spec: ModelSpec) -> tuple[str, ...]:
    """Say in words which slices lie outside what the network was trained on, and in what.

    Parameters
    ----------
    slices : sequence of SliceQuality
        All slices of a reconstruction.
    spec : ModelSpec
        The model.
    """
    noisy = [one for one in slices if one.noise_before > 0.0]
    if not noisy:
        return ()
    if spec.trained is None:
        return (f"model {spec.name} does not say on what images it was trained",)
    said = []
    for name, (low, high) in asdict(spec.trained).items():
        values = [getattr(one, name) for one in noisy if name in one.outside]
        if values:
            said.append(
                f"{name.replace('_', ' ')} {_range(min(values), max(values))} in {len(values)} "
                f"of {len(slices)} slices (trained: {_range(low, high)})"
            )
    if not said:
        return ()
    return (f"outside what model {spec.name} was trained on: {', '.join(said)}",)


def slice_quality(
    before: Image,
    after: Image,
    answer: Image,
    noise: NoiseEstimate,
    figures: InputFigures,
    *,
    applied: float,
    limited_share: float,
    trained: TrainedRange | None,
) -> SliceQuality:
    """Compare a slice with what became of it.

    Parameters
    ----------
    before, after : ndarray
        (row, column) source and result [stored units].
    answer : ndarray
        (row, column) what the network itself made of it [stored units].
    noise : NoiseEstimate
        Noise of the source, `sd` above 0 [stored units].
    figures : InputFigures
        What the source looks like.
    applied : float
        Share of the network's answer that was used, besides the strength.
    limited_share : float
        Share of the pixels that were held back.
    trained : TrainedRange or None
        What the network was trained on.
    """
    level = noise.sd
    units = before / level
    facts = {
        **asdict(figures),
        "noise_variation": _variation(noise.sd_map),
        "applied": applied,
        "limited_share": limited_share,
        "outside": figures.outside(trained),
    }
    change = (after - before) / level
    if not np.isfinite(change).all() or not np.isfinite(answer).all():
        return SliceQuality(level, np.nan, np.nan, np.nan, structured_share=np.nan, **facts)
    structured = structured_share(units - answer / level, answer / level) if change.any() else None
    change = np.abs(change)
    return SliceQuality(
        noise_before=level,
        noise_after=level * estimate_noise_sd(after) / noise.windows,
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
        structured_share=structured,
        **facts,
    )


def _variation(sd_map: Image) -> float:
    low, high = np.percentile(sd_map, [10.0, 90.0])
    return float(high / low)


def _windows(image: Image) -> Image:
    """Cut an image into windows that do not overlap; what is left at its end is not used."""
    rows, columns = (length // _WINDOW for length in image.shape)
    cut = image[: rows * _WINDOW, : columns * _WINDOW]
    tiles = cut.reshape(rows, _WINDOW, columns, _WINDOW).swapaxes(1, 2)
    return tiles.reshape(rows * columns, _WINDOW * _WINDOW)


def _explained(residual: Image, pattern: Image) -> float:
    """Sum of squares of the residual that is proportional to the pattern, window by window."""
    both = (residual * pattern).sum(axis=1)
    power = (pattern**2).sum(axis=1)
    return float((both**2 / np.maximum(power, np.finfo(np.float64).tiny)).sum())


def _range(low: float, high: float) -> str:
    low_text, high_text = f"{low:.3g}", f"{high:.3g}"
    return low_text if low_text == high_text else f"{low_text} to {high_text}"
