"""What can go wrong in `halfscan_models`; everything derives from `ModelsError`."""


class ModelsError(Exception):
    """Root of all errors that this package raises on purpose."""


class ModelNotFoundError(ModelsError):
    """No model has the name that was asked for."""


class ModelFileError(ModelsError):
    """A weights file or the list of models is missing, unreadable or not what was published."""


class DeviceError(ModelsError):
    """The computing device that was asked for is not there."""


class VolumeError(ModelsError):
    """The pixels cannot be reconstructed: wrong shape, wrong type, or values without meaning."""


class TrainingError(ModelsError):
    """A training run is described wrongly or cannot be continued."""
