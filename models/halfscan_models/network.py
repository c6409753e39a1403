"""Deep back-projection network for restoration at constant matrix size (training only).

The network is the one of Haris et al. [1]_ with one change: where theirs maps a small image to a
large one, this one first projects the image *down* to feature maps of half the resolution and lets
the back-projection units move between the two resolutions, so that input and output have the same
matrix. Convolutions carry no bias [2]_ apart from the first: the input is in units of the noise,
and that one bias tells the network what "one" means.

Only training imports this module: it needs PyTorch, inference does not.

References
----------
.. [1] Haris M, Shakhnarovich G, Ukita N. Deep back-projection networks for super-resolution.
   CVPR 2018. doi:10.1109/CVPR.2018.00179
.. [2] Mohan S, Kadkhodaie Z, Simoncelli EP, Fernandez-Granda C. Robust and interpretable blind
   image denoising via bias-free convolutional neural networks. ICLR 2020. arXiv:1906.05478
"""

import torch
from torch import Tensor, nn

# Kernel 6, stride 2, padding 2 halves or doubles the matrix exactly. The kernel is a multiple of
# the stride, so every output pixel of the transposed convolution receives the same number of
# contributions: no checkerboard.
_KERNEL, _STRIDE, _PADDING = 6, 2, 2


def _down(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, _KERNEL, _STRIDE, _PADDING, bias=False), nn.PReLU(channels)
    )


def _up(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, _KERNEL, _STRIDE, _PADDING, bias=False),
        nn.PReLU(channels),
    )


def _merge(inputs: int, channels: int) -> nn.Module:
    """1 x 1 convolution that brings dense connections back to `channels` maps."""
    if inputs == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, channels, 1, bias=False), nn.PReLU(channels))


class UpProjection(nn.Module):
    """Half resolution to full resolution, corrected by the back-projected error.

    Parameters
    ----------
    inputs : int
        Feature maps that arrive, of all earlier down-projections together.
    channels : int
        Feature maps inside the unit and at its exit.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.merge = _merge(inputs, channels)
        self.up = _up(channels)
        self.back = _down(channels)
        self.correct = _up(channels)

    def forward(self, low: Tensor) -> Tensor:
        """Map (batch, inputs, H/2, W/2) to (batch, channels, H, W)."""
        low = self.merge(low)
        high = self.up(low)
        return high + self.correct(self.back(high) - low)


class DownProjection(nn.Module):
    """Full resolution to half resolution, corrected by the back-projected error.

    Parameters
    ----------
    inputs : int
        Feature maps that arrive, of all earlier up-projections together.
    channels : int
        Feature maps inside the unit and at its exit.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.merge = _merge(inputs, channels)
        self.down = _down(channels)
        self.back = _up(channels)
        self.correct = _down(channels)

    def forward(self, high: Tensor) -> Tensor:
        """Map (batch, inputs, H, W) to (batch, channels, H/2, W/2)."""
        high = self.merge(high)
        low = self.down(high)
        return low + self.correct(self.back(low) - high)


class BackProjectionNetwork(nn.Module):
    """Dense deep back-projection network with a global residual.

    Parameters
    ----------
    channels : int
        Feature maps of every unit.
    stages : int
        Up-projections; there is one down-projection between each two.
    """

    def __init__(self, channels: int = 16, stages: int = 4) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.PReLU(channels))
        self.enter = _down(channels)
        self.ups = nn.ModuleList(
            UpProjection(channels * (stage + 1 if stage else 1), channels)
            for stage in range(stages)
        )
        self.downs = nn.ModuleList(
            DownProjection(channels * (stage + 1), channels) for stage in range(stages - 1)
        )
        self.tail = nn.Conv2d(channels * (stages + 1), 1, 3, padding=1, bias=False)
        # Training starts from the identity: the residual is zero.
        nn.init.zeros_(self.tail.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        image : Tensor
            (batch, 1, H, W), H and W even, in units of the noise standard deviation.

        Returns
        -------
        Tensor
            (batch, 1, H, W), same units; may be slightly negative.
        """
        features = self.head(image)
        lows = [self.enter(features)]
        highs: list[Tensor] = []
        for stage, up in enumerate(self.ups):
            highs.append(up(torch.cat(lows, 1)))
            if stage < len(self.downs):
                lows.append(self.downs[stage](torch.cat(highs, 1)))
        return image + self.tail(torch.cat([features, *highs], 1))
