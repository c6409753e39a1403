"""What can go wrong in an evaluation."""

from halfscan_models.errors import ModelsError

__all__ = ["EvaluationError"]


class EvaluationError(ModelsError):
    """A setting, an image or a file of the evaluation breaks a rule; the message names it."""
