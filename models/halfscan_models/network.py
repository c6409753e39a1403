"""Deep back-projection network for restoration at constant matrix size (training only).

The network is the one of Haris et al. [1]_ with three changes.

- Theirs maps a small image to a large one. This one first projects the image *down* and lets the
  back-projection units move between half and quarter resolution, so that input and output have
  the same matrix. The last layer brings blocks of pixels back to full resolution. What enters is
  the image less its local mean, and the mean beside it, scaled down: the answer sought is as small
  as the noise, and a bright ground a hundred times larger would stand in training's way.
- Maps of half resolution are kept in blocks of 2 x 2 pixels as maps of quarter resolution, four
  times as many ("space to depth"). On blocks, their convolution of kernel 6 and stride 2 is one
  of kernel 3 and stride 1, and so is the transposed one: the same arithmetic without moving a
  pixel, several times faster on a processor.
- Convolutions carry no bias [2]_ apart from the first: the input is in units of the noise, and that
  one bias tells the network what "one" means. Without it the network must guess from the picture
  what is noise and what is texture; measured, that costs more than a decibel (docs/training.md).

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

__all__ = ["BackProjectionNetwork", "Projection"]

# Side of the blocks of pixels that the first layer takes apart: from full to quarter resolution.
_BLOCK = 4
_PHASES = 4  # pixels of half resolution in one of quarter resolution
_SLOPE = 0.2  # of the activation below zero
# Neighbourhood of the local mean [blocks], and by what it is scaled down: a signal of 50 noise
# units then weighs as much as the noise.
_AROUND = 5
_MEAN_SCALE = 1 / 16


def _layer(inputs: int, outputs: int, kernel: int, *, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias), nn.LeakyReLU(_SLOPE)
    )


class Projection(nn.Module):
    """From one resolution to the other, corrected by the back-projected error.

    Parameters
    ----------
    inputs : int
        Feature maps that arrive, of all earlier projections to this resolution together.
    source, target : int
        Feature maps at the resolution that is left and at the one that is reached: `source` is the
        smaller in an up-projection and the larger in a down-projection.
    """

    def __init__(self, inputs: int, source: int, target: int) -> None:
        super().__init__()
        self.merge = nn.Identity() if inputs == source else _layer(inputs, source, 1)
        self.project = _layer(source, target, 3)
        self.back = _layer(target, source, 3)
        self.correct = _layer(source, target, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, inputs, H, W) to (batch, target, H, W)."""
        features = self.merge(features)
        projected = self.project(features)
        return projected + self.correct(self.back(projected) - features)


def _centred(blocks: Tensor) -> Tensor:
    """Split blocks (batch, pixels, H, W) into pixels about their mean, means about theirs, means.

    Parameters
    ----------
    blocks : Tensor
        (batch, pixels, H, W).

    Returns
    -------
    Tensor
        (batch, pixels + 2, H, W).
    """
    mean = blocks.mean(1, keepdim=True)
    around = nn.functional.avg_pool2d(
        mean, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False
    )
    return torch.cat([blocks - mean, mean - around, around * _MEAN_SCALE], 1)


class BackProjectionNetwork(nn.Module):
    """Dense deep back-projection network with a global residual.

    Parameters
    ----------
    channels : int
        Feature maps of every unit.
    stages : int
        Up-projections; there is one down-projection between each two.
    """

    def __init__(self, channels: int = 32, stages: int = 4) -> None:
        super().__init__()
        fine = _PHASES * channels
        self.apart = nn.PixelUnshuffle(_BLOCK)
        self.head = _layer(_BLOCK**2 + 2, fine, 3, bias=True)
        self.enter = _layer(fine, channels, 3)
        self.ups = nn.ModuleList(
            Projection(channels * (stage + 1), channels, fine) for stage in range(stages)
        )
        self.downs = nn.ModuleList(
            Projection(fine * (stage + 1), fine, channels) for stage in range(stages - 1)
        )
        self.tail = nn.Conv2d(fine * (stages + 1), _BLOCK**2, 3, padding=1, bias=False)
        self.together = nn.PixelShuffle(_BLOCK)
        # Training starts from the identity: the residual is zero.
        nn.init.zeros_(self.tail.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        image : Tensor
            (batch, 1, H, W), H and W at least 4, in units of the noise standard deviation.

        Returns
        -------
        Tensor
            (batch, 1, H, W), same units; may be slightly negative.
        """
        height, width = image.shape[2], image.shape[3]
        margin = (0, -width % _BLOCK, 0, -height % _BLOCK)
        blocks = self.apart(nn.functional.pad(image, margin, mode="reflect"))
        features = self.head(_centred(blocks))
        lows = [self.enter(features)]
        highs: list[Tensor] = []
        for stage, up in enumerate(self.ups):
            highs.append(up(torch.cat(lows, 1)))
            if stage < len(self.downs):
                lows.append(self.downs[stage](torch.cat(highs, 1)))
        residual = self.together(self.tail(torch.cat([features, *highs], 1)))
        return image + residual[:, :, :height, :width]
