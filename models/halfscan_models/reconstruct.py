"""Reconstruction of a volume by a trained network, run by ONNX Runtime.

Each slice is divided by its own noise level, which is estimated from the slice, so that the
network sees the same noise whatever the scale of the stored values; its answer keeps the local mean
of the source and is multiplied by that level again. A slice without noise comes back as it was.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from halfscan_models.errors import DeviceError, ModelFileError, VolumeError
from halfscan_models.noise import estimate_noise_sd
from halfscan_models.registry import WEIGHTS, ModelSpec, find_model, read_weights

Volume = npt.NDArray[np.float32]  # (slice, row, column)
Progress = Callable[[int, int], None]  # slices done, slices in all

# Mirrored frame around each slice: the zeros that the network's convolutions assume beyond the
# edge stay away from the picture.
_MARGIN = 16
# The network needs about a kilobyte per pixel while it runs: half a gigabyte in a batch.
_BATCH_PIXELS = 2**19
# Slices with a side beyond this are cut into tiles, which overlap by more than the network's
# reach matters.
_TILE = 960
_OVERLAP = 48
# Standard deviation of the neighbourhood whose mean is kept [pixels].
_MEAN_WIDTH = 2.0

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class SliceQuality:
    """What the reconstruction did to one slice.

    Attributes
    ----------
    noise_before, noise_after : float
        Estimated noise standard deviation of the source and of the result [stored units]. In the
        result this is what is left in quiet places, noise or fine texture.
    mean_change, largest_change : float
        Mean and largest absolute difference between result and source, in units of
        `noise_before`; 0 where no noise was found, because the slice is then unchanged. A largest
        change far above 5 is more than noise explains.
    """

    noise_before: float
    noise_after: float
    mean_change: float
    largest_change: float


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
    """

    model: str
    version: str
    sha256: str
    strength: float
    slices: tuple[SliceQuality, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as dictionaries, lists, texts and numbers, ready for JSON."""
        figures = asdict(self)
        figures["slices"] = list(figures["slices"])
        return figures


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A reconstructed volume.

    Attributes
    ----------
    volume : ndarray
        (slice, row, column) float32 in the scale of the source; finite and never negative.
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
        self, volume: npt.ArrayLike, *, strength: float = 1.0, progress: Progress | None = None
    ) -> Reconstruction:
        """Reconstruct a volume slice by slice.

        Parameters
        ----------
        volume : array_like
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
        """
        source = _checked(volume)
        if not 0.0 <= strength <= 1.0:
            raise VolumeError(f"strength must be between 0 and 1, got {strength!r}")
        result = np.empty_like(source)
        figures: list[SliceQuality] = []
        levels = np.empty(len(source), dtype=np.float64)
        for part in _batches(source.shape):
            levels[part] = [estimate_noise_sd(image) for image in source[part]]
            result[part] = self._restore(source[part], levels[part], strength)
            figures += [
                _slice_quality(before, after, float(level))
                for before, after, level in zip(
                    source[part], result[part], levels[part], strict=True
                )
            ]
            if progress is not None:
                progress(part.stop, len(source))
        quality = Quality(
            model=self.spec.name,
            version=self.spec.version,
            sha256=self.spec.sha256,
            strength=float(strength),
            slices=tuple(figures),
        )
        return Reconstruction(result, levels, quality)

    def _restore(self, slices: Volume, levels: npt.NDArray[np.float64], strength: float) -> Volume:
        """Run the slices that have noise through the network; the others are copied."""
        result = slices.copy()
        noisy = levels > 0.0
        if strength == 0.0 or not noisy.any():
            return result
        level = levels[noisy, None, None]
        source = slices[noisy].astype(np.float64)
        units = source / level
        answer = self._network(units.astype(np.float32))
        answer = np.stack([_keep_local_mean(*pair) for pair in zip(units, answer, strict=True)])
        answer *= level
        mixture = source + strength * (answer - source)
        largest = float(np.finfo(np.float32).max)
        result[noisy] = np.clip(mixture, 0.0, largest).astype(np.float32)
        return result

    def _network(self, images: Volume) -> npt.NDArray[np.float64]:
        """Apply the network to images in units of their noise, in tiles where they are large."""
        rows, columns = images.shape[1:]
        framed = np.pad(
            images,
            ((0, 0), (_MARGIN, _MARGIN + rows % 2), (_MARGIN, _MARGIN + columns % 2)),
            mode="reflect",
        )
        answer = np.empty(images.shape, dtype=np.float64)
        for row in _tiles(rows):
            for column in _tiles(columns):
                # In the framed image, the tile with a margin begins where the tile does.
                window = framed[
                    :,
                    row.read.start : row.read.stop + 2 * _MARGIN,
                    column.read.start : column.read.stop + 2 * _MARGIN,
                ]
                (tile,) = self._session.run(None, {"image": window[:, None]})
                answer[:, row.write, column.write] = tile[:, 0, row.within, column.within]
        return answer


@dataclass(frozen=True, slots=True)
class _Tile:
    """A stretch of one axis: what is read, where it is written, and where that lies in the tile."""

    read: slice
    write: slice
    within: slice


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
    session = _session(read_weights(spec, weights=weights), spec, device, threads)
    return Reconstructor(spec, session, device)


def _import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off.

    From 1.29 on, the official Linux builds report sessions (name of the model's file, graph,
    hashes of the weights) to their maker unless this variable is set before the import. Nothing
    may leave a hospital on its own. Imported here, and not above: whoever only lists models or
    reads a specification need not have it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: PLC0415

    # In case somebody else has imported it before.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _session(content: bytes, spec: ModelSpec, device: str, threads: int | None) -> Any:
    if device not in _PROVIDERS:
        raise DeviceError(f"device must be one of {', '.join(_PROVIDERS)}, got {device!r}")
    if threads is not None and threads < 1:
        raise DeviceError(f"threads must be at least 1, got {threads!r}")
    onnxruntime = _import_onnxruntime()
    provider = _PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            f"device {device!r} needs {provider}, but ONNX Runtime offers only "
            f"{', '.join(available)}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin for work would take the cores from the archive beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors have no common root but Exception
        raise ModelFileError(
            f"ONNX Runtime cannot load {spec.file} on {device!r}: {error}"
        ) from error
    if provider not in session.get_providers():
        raise DeviceError(f"device {device!r} is not usable: ONNX Runtime fell back to the CPU")
    return session


def _checked(volume: npt.ArrayLike) -> Volume:
    """Return the volume as float32, or say what is wrong with it."""
    array = np.asarray(volume)
    if array.ndim != 3:
        raise VolumeError(
            f"volume must have 3 dimensions (slice, row, column), got shape {array.shape}"
        )
    if array.size == 0:
        raise VolumeError(f"volume must not be empty, got shape {array.shape}")
    if array.dtype.kind not in "uif":
        raise VolumeError(f"volume must hold real numbers, got type {array.dtype}")
    with np.errstate(over="ignore"):
        source = array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(source).all(axis=(1, 2)))
    if bad.size:
        raise VolumeError(
            f"volume must be finite in single precision, got NaN, infinity or values beyond its "
            f"range in slice {bad[0]} ({bad.size} of {len(source)} slices)"
        )
    lowest = float(source.min())
    if lowest < 0.0:
        raise VolumeError(f"volume must not be negative, got {lowest!r}")
    return source


def _batches(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of slices that together stay within the memory of a batch."""
    pixels = (shape[1] + 2 * _MARGIN) * (shape[2] + 2 * _MARGIN)
    size = max(1, _BATCH_PIXELS // pixels)
    for first in range(0, shape[0], size):
        yield slice(first, min(first + size, shape[0]))


def _tiles(length: int) -> Iterator[_Tile]:
    """Cover one axis with tiles; one is enough where the axis is not too long.

    Tiles begin at even pixels: the network works on pairs of pixels, and a tile that began between
    two pairs would not give the same answer as the whole.
    """
    even = length + length % 2
    if even <= _TILE:
        yield _Tile(slice(0, even), slice(0, length), slice(_MARGIN, _MARGIN + length))
        return
    for first in range(0, length, _TILE):
        last = min(first + _TILE, length)
        start, stop = max(0, first - _OVERLAP), min(last + _OVERLAP, even)
        within = _MARGIN + first - start
        yield _Tile(slice(start, stop), slice(first, last), slice(within, within + last - first))


def _keep_local_mean(
    source: npt.NDArray[np.float64], answer: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Give the answer the local mean of the source where there is signal.

    A network that was trained on pairs tends to the most likely picture, and that is too dark where
    fine bright texture lies on a dark ground. The mean over a small neighbourhood needs no
    network: noise changes it by 0.14 standard deviations only, and the bias that a magnitude has
    in bright pixels, sigma^2 / (2 A), is known (Gudbjartsson & Patz 1995,
    doi:10.1002/mrm.1910340618). In air, where the source says nothing, the network's answer stays.

    Parameters
    ----------
    source, answer : ndarray
        (row, column) in units of the noise standard deviation.

    Returns
    -------
    ndarray
        (row, column), same units.
    """
    mean = gaussian_filter(source, _MEAN_WIDTH)
    strength = np.sqrt(np.maximum(gaussian_filter(source**2, _MEAN_WIDTH), 0.0))
    # Pure noise has the value sqrt(2): nothing up to 2, everything from 3.5 on.
    weight = np.clip((strength - 2.0) / 1.5, 0.0, 1.0)
    missing = source - 0.5 / np.maximum(mean, 2.0) - answer
    local = gaussian_filter(weight * missing, _MEAN_WIDTH)
    share = np.maximum(gaussian_filter(weight, _MEAN_WIDTH), 1e-3)
    return np.asarray(answer + weight * local / share)


def _slice_quality(before: npt.ArrayLike, after: npt.ArrayLike, level: float) -> SliceQuality:
    if level == 0.0:
        return SliceQuality(0.0, 0.0, 0.0, 0.0)
    change = np.abs(np.subtract(after, before, dtype=np.float64)) / level
    return SliceQuality(
        noise_before=level,
        noise_after=estimate_noise_sd(after),
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
    )
