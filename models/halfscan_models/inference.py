"""A network run by ONNX Runtime: session, frame around each slice, tiles."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_models.errors import DeviceError, ModelFileError

Images = npt.NDArray[np.float32]  # (slice, row, column)

# Mirrored frame around each slice: the zeros that the network's convolutions assume beyond the
# edge stay away from the picture.
_MARGIN = 16
# Slices with a side beyond this are cut into tiles, which overlap by more than the network's
# reach matters. The network needs about a kilobyte per pixel while it runs.
_TILE = 528
_OVERLAP = 48
# The network works on blocks of so many pixels; frame, tile and overlap are multiples of it.
_BLOCK = 4

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class _Tile:
    """A stretch of one axis: what is read, where it is written, and where that lies in the tile."""

    read: slice
    write: slice
    within: slice


def run_network(session: Any, images: Images) -> npt.NDArray[np.float64]:
    """Apply a network to images in units of their noise, in tiles where they are large.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The network: "image" (batch, 1, row, column), both a multiple of 4.
    images : ndarray
        (slice, row, column), any matrix.

    Returns
    -------
    ndarray
        Same shape.
    """
    rows, columns = images.shape[1:]
    framed = np.pad(
        images,
        ((0, 0), (_MARGIN, _MARGIN + -rows % _BLOCK), (_MARGIN, _MARGIN + -columns % _BLOCK)),
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
            (tile,) = session.run(None, {"image": window[:, None]})
            answer[:, row.write, column.write] = tile[:, 0, row.within, column.within]
    return answer


def open_session(content: bytes, file: str, device: str, threads: int | None) -> Any:
    """Load a network.

    Parameters
    ----------
    content : bytes
        The ONNX file.
    file : str
        Its name, for messages.
    device : {"cpu", "cuda"}
        Where to run.
    threads : int, optional
        Threads on the CPU; as many as there are cores where None.

    Raises
    ------
    ModelFileError
        The content is no network.
    DeviceError
        `device` is unknown or not there, or `threads` is below 1.
    """
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
    # One block for all that a run needs, planned ahead, took 1.6 times the memory and no less time.
    # The arena stays: without it a run takes twice the time.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors have no common root but Exception
        raise ModelFileError(f"ONNX Runtime cannot load {file} on {device!r}: {error}") from error
    if provider not in session.get_providers():
        raise DeviceError(f"device {device!r} is not usable: ONNX Runtime fell back to the CPU")
    return session


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


def _tiles(length: int) -> Iterator[_Tile]:
    """Cover one axis with tiles of like size; one is enough where the axis is not too long.

    Tiles begin where the network's blocks do: one that began within a block would not give the
    same answer as the whole.
    """
    whole = length + -length % _BLOCK
    count = -(-whole // _TILE)
    if count == 1:
        yield _Tile(slice(0, whole), slice(0, length), slice(_MARGIN, _MARGIN + length))
        return
    size = _BLOCK * -(-whole // (_BLOCK * count))
    for first in range(0, length, size):
        last = min(first + size, length)
        start, stop = max(0, first - _OVERLAP), min(first + size + _OVERLAP, whole)
        within = _MARGIN + first - start
        yield _Tile(slice(start, stop), slice(first, last), slice(within, within + last - first))
