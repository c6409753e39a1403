"""Reconstruction of a volume by a trained network, run by ONNX Runtime.

Each slice is divided by its own noise, which is estimated from place to place from the slice, so
that the network sees the same noise everywhere, whatever the scale of the stored values and the
geometry factor; its answer is multiplied by the noise again. A slice without noise comes back as it
was.

Slices are independent of each other, and go through one by one: what a volume needs besides itself
and its result does not grow with the number of its slices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from halfscan_models.errors import VolumeError
from halfscan_models.inference import open_session, run_network
from halfscan_models.noise_map import NoiseEstimate, estimate_noise
from halfscan_models.orientation import View, canonical_views, distinct
from halfscan_models.quality import (
    FURTHEST,
    InputFigures,
    Quality,
    SliceQuality,
    input_figures,
    slice_quality,
    warnings_of,
)
from halfscan_models.registry import WEIGHTS, ModelSpec, find_model, read_weights

__all__ = [
    "Images",
    "Quality",
    "Reconstruction",
    "Reconstructor",
    "RestoredSlice",
    "SliceQuality",
    "load_reconstructor",
]

Volume = npt.NDArray[np.float32]  # (slice, row, column)
Image = npt.NDArray[np.float64]  # (row, column)
Progress = Callable[[int, int], None]  # slices done, slices in all

# Up to so many times the highest signal of its training, a network's answer is used whole: its
# errors are below the noise there (1.1 noise SDs RMS on seven real series).
_BEYOND = 2.0
# Rounding to integers has the standard deviation 1 / sqrt(12) = 0.29 of a step; the estimate of
# the noise is some percent off.
_ROUNDING = 0.35


class Images(Protocol):
    """A volume that gives its slices one by one, an array or something that makes them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(slice, row, column)."""

    def __getitem__(self, index: int, /) -> npt.ArrayLike:
        """Give one slice, (row, column)."""


@dataclass(frozen=True, slots=True, eq=False)
class RestoredSlice:
    """One reconstructed slice.

    Attributes
    ----------
    image : ndarray
        (row, column) float32 in the scale of the source.
    quality : SliceQuality
        What changed.
    """

    image: npt.NDArray[np.float32]
    quality: SliceQuality


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A reconstructed volume.

    Attributes
    ----------
    volume : ndarray
        (slice, row, column) float32 in the scale of the source; never negative, and finite as long
        as the network's answer is.
    noise_sd : ndarray
        (slice,) float64, estimated noise standard deviation of each source slice [stored units].
    quality : Quality
        What changed, slice by slice.
    """

    volume: Volume
    noise_sd: npt.NDArray[np.float64]
    quality: Quality


class Reconstructor:
    """A loaded network; make one with `load_reconstructor`.

    Attributes
    ----------
    spec : ModelSpec
        The model that was loaded.
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, spec: ModelSpec, session: Any, device: str) -> None:
        self.spec = spec
        self.device = device
        self._session = session

    def reconstruct(
        self,
        volume: npt.ArrayLike | Images,
        *,
        strength: float = 1.0,
        progress: Progress | None = None,
    ) -> Reconstruction:
        """Reconstruct a volume slice by slice.

        Parameters
        ----------
        volume : array_like, or anything with `shape` whose items are slices
            (slice, row, column) magnitudes, any non-negative scale, any matrix size.
        strength : float
            0 gives the source back, 1 the network's answer, values between a mixture of the two.
        progress : callable, optional
            Called with (slices done, slices in all) as slices are finished.

        Returns
        -------
        Reconstruction
            Same shape and scale as `volume`, which is left as it is.

        Raises
        ------
        VolumeError
            The volume is not three-dimensional, is empty, not numeric, or holds NaN, infinity or
            negative values; or `strength` is outside 0 to 1.

        Notes
        -----
        Mirroring, transposing, padding with zeros, the order of the slices and their number change
        the result in the same way and nothing else, but for rounding; a positive factor on all
        values gives a factor on the result, exactly for powers of two.
        """
        source = _checked(volume)
        count = source.shape[0]
        result = np.empty(source.shape, dtype=np.float32)
        figures: list[SliceQuality] = []
        for restored in self.stream(source, strength=strength):
            result[len(figures)] = restored.image
            figures.append(restored.quality)
            if progress is not None:
                progress(len(figures), count)
        levels = np.array([one.noise_before for one in figures], dtype=np.float64)
        return Reconstruction(result, levels, self.quality(figures, strength))

    def stream(
        self, volume: npt.ArrayLike | Images, *, strength: float = 1.0
    ) -> Iterator[RestoredSlice]:
        """Reconstruct slice by slice, and keep none of them: as `reconstruct`, for long series.

        Yields
        ------
        RestoredSlice
            One for each slice, in order.
        """
        source = _checked(volume)
        if not 0.0 <= strength <= 1.0:
            raise VolumeError(f"strength must be between 0 and 1, got {strength!r}")
        for index in range(source.shape[0]):
            yield self._restored(_single(source, index), float(strength))

    def quality(self, figures: Sequence[SliceQuality], strength: float) -> Quality:
        """Put the figures of the slices of a `stream` together."""
        return Quality(
            model=self.spec.name,
            version=self.spec.version,
            sha256=self.spec.sha256,
            strength=float(strength),
            slices=tuple(figures),
            warnings=warnings_of(figures, self.spec),
        )

    def _restored(self, source: npt.NDArray[np.float32], strength: float) -> RestoredSlice:
        """Restore one slice in the orientation that its content prefers."""
        image = source.astype(np.float64)
        groups = distinct(canonical_views(image), image)
        noises = [_noise(pictures[0][1]) for pictures in groups]
        if not groups or min(noise.sd for noise in noises) == 0.0:
            return RestoredSlice(source.copy(), SliceQuality(0.0, 0.0, 0.0, 0.0))
        view, before = groups[0][0]
        noise = _together(groups, noises, view, image.shape)
        figures = input_figures(before / noise.sd)
        applied = self._applied(figures)
        answer, full = image, image
        if strength > 0.0:
            pictures = [pictures[0][1] for pictures in groups]
            answers = [self._answer(p, n.sd_low) for p, n in zip(pictures, noises, strict=True)]
            answer = _turned_back(groups, answers, image.shape)
            full = image + applied * (answer - image)
        reach = FURTHEST * noise.sd
        limited = np.clip(full, image - reach, image + reach)
        limited = np.clip(limited, 0.0, float(np.finfo(np.float32).max))
        after = image + strength * (limited - image)
        quality = slice_quality(
            before,
            view.of(after),
            view.of(answer),
            noise,
            figures,
            applied=applied,
            limited_share=float(np.mean(np.abs(view.of(full) - before) > reach)),
            trained=self.spec.trained,
        )
        return RestoredSlice(after.astype(np.float32), quality)

    def _applied(self, figures: InputFigures) -> float:
        """Share of the network's answer that is used for a slice.

        Far beyond the highest signal that the network was trained on, its errors at edges grow
        with the signal while there is less and less noise to be seen: from twice that signal on,
        the share falls as the signal grows, so that the errors do not.
        """
        if self.spec.trained is None:
            return 1.0
        highest = _BEYOND * self.spec.trained.signal_to_noise[1]
        return min(1.0, highest / max(figures.signal_to_noise, 1.0))

    def _answer(self, picture: Image, noise_sd: Image) -> Image:
        """Give the network's answer to a slice [stored units]."""
        units = picture / noise_sd
        answer = self._network(units[None].astype(np.float32))[0]
        if not np.isfinite(answer).all():
            return np.full(picture.shape, np.nan)
        return np.asarray(answer * noise_sd)

    def _network(self, images: Volume) -> npt.NDArray[np.float64]:
        """Apply the network to images in units of their noise."""
        return run_network(self._session, images)


def load_reconstructor(
    name: str | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    weights: Path = WEIGHTS,
) -> Reconstructor:
    """Load a model, its weights checked against the published SHA-256.

    Parameters
    ----------
    name : str, optional
        Model; the default one where it is None.
    device : {"cpu", "cuda"}
        Where to run.
    threads : int, optional
        Threads on the CPU; as many as there are cores where it is None.
    weights : Path
        Folder with `models.json` and the weights.

    Returns
    -------
    Reconstructor
        Ready for use.

    Raises
    ------
    ModelNotFoundError
        No model has this name.
    ModelFileError
        The weights are missing, not the published ones, or no network.
    DeviceError
        `device` is unknown or not there, or `threads` is below 1.
    """
    spec = find_model(name, weights=weights)
    session = open_session(read_weights(spec, weights=weights), spec.file, device, threads)
    return Reconstructor(spec, session, device)


def _checked(volume: npt.ArrayLike | Images) -> Images:
    """Return the volume with slices that can be asked for, or say what is wrong with it."""
    source: Any = volume if hasattr(volume, "shape") else np.asarray(volume)
    shape = tuple(source.shape)
    if len(shape) != 3:
        raise VolumeError(f"volume must have 3 dimensions (slice, row, column), got shape {shape}")
    if 0 in shape:
        raise VolumeError(f"volume must not be empty, got shape {shape}")
    kind = np.asarray(source[0]).dtype
    if kind.kind not in "uif":
        raise VolumeError(f"volume must hold real numbers, got type {kind}")
    bad, lowest = [], 0.0
    for index in range(shape[0]):
        image = _single(source, index)
        if not np.isfinite(image).all():
            bad.append(index)
        else:
            lowest = min(lowest, float(image.min()))
    if bad:
        raise VolumeError(
            f"volume must be finite in single precision, got NaN, infinity or values beyond its "
            f"range in slice {bad[0]} ({len(bad)} of {shape[0]} slices)"
        )
    if lowest < 0.0:
        raise VolumeError(f"volume must not be negative, got {lowest!r}")
    checked: Images = source
    return checked


def _single(source: Images, index: int) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(source[index]).astype(np.float32, copy=False)


def _noise(picture: Image) -> NoiseEstimate:
    """Estimate the noise; 0 where the rounding of the stored values explains what is found."""
    noise = estimate_noise(picture)
    values = np.unique(picture)
    step = float(np.diff(values).min()) if values.size > 1 else 0.0
    if noise.sd > _ROUNDING * step:
        return noise
    nothing = np.zeros(picture.shape)
    return NoiseEstimate(0.0, nothing, nothing, 0.0)


def _together(
    groups: list[list[tuple[View, Image]]],
    noises: list[NoiseEstimate],
    view: View,
    shape: tuple[int, ...],
) -> NoiseEstimate:
    """Mean of the estimates of all groups, in one view."""
    maps = ([noise.sd_map for noise in noises], [noise.sd_low for noise in noises])
    sd_map, sd_low = (view.of(_turned_back(groups, parts, shape)) for parts in maps)
    sd, windows = (
        float(np.mean(v)) for v in zip(*((n.sd, n.windows) for n in noises), strict=True)
    )
    return NoiseEstimate(sd, sd_map, sd_low, windows)


def _turned_back(
    groups: list[list[tuple[View, Image]]], parts: list[Image], shape: tuple[int, ...]
) -> Image:
    """Mean over all views of what was made of each group's picture, where it belongs."""
    back = [
        view.back(part, shape)
        for pictures, part in zip(groups, parts, strict=True)
        for view, _ in pictures
    ]
    return sum(back[1:], back[0]) / len(back)
