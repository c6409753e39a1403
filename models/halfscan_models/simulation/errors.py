"""What can go wrong in the simulation."""

from halfscan_models.errors import ModelsError

__all__ = ["SimulationError"]


class SimulationError(ModelsError):
    """A phantom, a protocol or an exam was asked for that cannot be made."""
