"""Muon: momentum whose update is made orthogonal, for networks of convolutions alone.

Each convolution's momentum, as a matrix (outputs, inputs x kernel), is replaced by the nearest
matrix whose singular values are about equal [1]_, so that no direction of a layer waits for the
others. Its size is that of a typical Adam update [2]_: the same learning rates serve.

References
----------
.. [1] Jordan K, et al. Muon: an optimizer for hidden layers in neural networks, 2024.
   https://kellerjordan.github.io/posts/muon/
.. [2] Liu J, et al. Muon is scalable for LLM training. 2025. arXiv:2502.16982
"""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Muon"]

# Coefficients of the quintic iteration of [1]: from any singular value in (0, 1] to about 1 in
# five rounds.
_ROUNDS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ADAM_SIZE = 0.2  # root mean square of an Adam update over its learning rate [2]


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with decoupled weight decay.

    Parameters
    ----------
    weights : iterable of Tensor
        Weights of convolutions, (outputs, inputs, kernel, kernel).
    rate : float
        Learning rate; also found as "lr" in the parameter groups.
    momentum : float
        Share of the momentum that is kept in a step.
    weight_decay : float
        Decoupled weight decay.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(weights, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    def step(self) -> None:
        """Take one step with the gradients that are there."""
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    self._move(weight, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, weight: Tensor, rate: float, keep: float, decay: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - keep)
        ahead = weight.grad.lerp(state["momentum"], keep)
        matrix = ahead.reshape(len(weight), -1)
        size = _ADAM_SIZE * max(matrix.shape) ** 0.5
        weight.mul_(1 - rate * decay)
        weight.add_(_orthogonal(matrix).reshape(weight.shape), alpha=-rate * size)


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return nearly the orthogonal matrix that is nearest to a matrix (rows, columns)."""
    wide = len(matrix) <= matrix.shape[1]
    part = (matrix if wide else matrix.T).bfloat16()
    part = part / (part.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = part @ part.T
        part = _A * part + (_B * square + _C * square @ square) @ part
    return (part if wide else part.T).to(matrix.dtype)
