"""What can go wrong with a model observer."""

from halfscan_models.errors import ModelsError

__all__ = ["ObserverError"]


class ObserverError(ModelsError):
    """Images, scores or settings of an observer break a rule; the message names it."""
