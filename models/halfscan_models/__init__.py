"""The network: arrays in and arrays out, no DICOM and no HTTP.

`load_reconstructor` gives a `Reconstructor`, whose `reconstruct` takes a volume and gives a
`Reconstruction`. Names are loaded on first use, so that importing the package costs nothing and
pulls in neither ONNX Runtime nor SciPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfscan_models.errors import (
        DeviceError,
        ModelFileError,
        ModelNotFoundError,
        ModelsError,
        VolumeError,
    )
    from halfscan_models.noise import estimate_noise_sd
    from halfscan_models.noise_map import NoiseEstimate, estimate_noise
    from halfscan_models.reconstruct import (
        Quality,
        Reconstruction,
        Reconstructor,
        SliceQuality,
        load_reconstructor,
    )
    from halfscan_models.registry import ModelSpec, find_model, list_models

_HOME = {
    "DeviceError": "errors",
    "ModelFileError": "errors",
    "ModelNotFoundError": "errors",
    "ModelSpec": "registry",
    "ModelsError": "errors",
    "NoiseEstimate": "noise_map",
    "Quality": "reconstruct",
    "Reconstruction": "reconstruct",
    "Reconstructor": "reconstruct",
    "SliceQuality": "reconstruct",
    "VolumeError": "errors",
    "estimate_noise": "noise_map",
    "estimate_noise_sd": "noise",
    "find_model": "registry",
    "list_models": "registry",
    "load_reconstructor": "reconstruct",
}

__all__ = [
    "DeviceError",
    "ModelFileError",
    "ModelNotFoundError",
    "ModelSpec",
    "ModelsError",
    "NoiseEstimate",
    "Quality",
    "Reconstruction",
    "Reconstructor",
    "SliceQuality",
    "VolumeError",
    "estimate_noise",
    "estimate_noise_sd",
    "find_model",
    "list_models",
    "load_reconstructor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
