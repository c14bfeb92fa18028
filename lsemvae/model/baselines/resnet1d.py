"""ResNet1d: three residual blocks of kernels 8, 5, 3 (Wang 2017, arXiv 1611.06455; on ECG Strodthoff 2021, arXiv 2004.13701)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.norm import conv_renorm
from lsemvae.model.baselines.supervised import SupervisedScreen, sized
from lsemvae.model.config import LsEmvaeConfig

KERNELS: Final = (8, 5, 3)
WIDTHS: Final = (48, 88, 112)  # Wang's 64, 128, 128, brought to the size of the model it is compared with
# 60 ms of signal a step of 16 ms: Wang's network has no stem and would run all blocks at 2,500 steps.
STEM_KERNEL: Final = 15
STEM_STRIDE: Final = 4


class ResidualBlock(nn.Module):
    """Three convolutions, the last without ReLU, plus a shortcut (1x1 where the shape changes), ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        k1, k2, k3 = KERNELS
        self.body = nn.Sequential(
            conv_renorm(c_in, c_out, k1, stride),
            conv_renorm(c_out, c_out, k2),
            conv_renorm(c_out, c_out, k3, relu=False),
        )
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else conv_renorm(c_in, c_out, 1, stride, relu=False)

    def forward(self, h: Tensor) -> Tensor:
        """Return `[batch, c_out, step / stride]`; the step that the even kernel adds is cut."""
        shortcut = self.shortcut(h)
        return torch.relu(self.body(h)[..., : shortcut.shape[-1]] + shortcut)


class ResNet1d(SupervisedScreen):
    """All leads as channels of one residual network."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        c1, c2, c3 = sized(WIDTHS, config)
        super().__init__(labels, measures, c3)
        self.stem = conv_renorm(len(LEADS), c1, STEM_KERNEL, STEM_STRIDE)
        self.blocks = nn.Sequential(ResidualBlock(c1, c1, 1), ResidualBlock(c1, c2, 2), ResidualBlock(c2, c3, 2))

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the last map `[batch, channel, step]`: 625 steps after the stem, 157 after the blocks."""
        return self.blocks(self.stem(x))
