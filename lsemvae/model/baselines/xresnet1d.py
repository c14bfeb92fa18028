"""XResNet1d: the residual network with the bag of tricks (He 2019, arXiv 1812.01187; on ECG Strodthoff 2021, arXiv 2004.13701).

A stem of three convolutions, shortcuts that shorten by average pooling before their 1x1 convolution (no sample is skipped), and
a last normalization of each block that starts at zero, so that every block starts as the identity.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.norm import BatchRenorm1d, conv_renorm
from lsemvae.model.baselines.supervised import SupervisedScreen, sized
from lsemvae.model.config import LsEmvaeConfig

KERNEL: Final = 5  # of every convolution, as in Strodthoff's one-dimensional form
STEM_WIDTHS: Final = (24, 40)
STAGE_WIDTHS: Final = (40, 64, 96, 128)  # one block each: the size of the model it is compared with


class XBlock(nn.Module):
    """Two convolutions of kernel 5; shortcut: average pooling, then a 1x1 convolution where channels change."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        last = conv_renorm(c_out, c_out, KERNEL, relu=False)
        norm = last[1]
        assert isinstance(norm, BatchRenorm1d)  # for the type checker: conv_renorm puts it there
        nn.init.zeros_(norm.weight)
        self.body = nn.Sequential(conv_renorm(c_in, c_out, KERNEL, stride), last)
        pool = nn.AvgPool1d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        widen = nn.Identity() if c_in == c_out else conv_renorm(c_in, c_out, 1, relu=False)
        self.shortcut = nn.Sequential(pool, widen)

    def forward(self, h: Tensor) -> Tensor:
        """Return `[batch, c_out, step / stride]` of `[batch, c_in, step]`."""
        return torch.relu(self.body(h) + self.shortcut(h))


class XResNet1d(SupervisedScreen):
    """All leads as channels; the stem shortens by four, three of the four stages by two."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        s1, s2, *stages = sized((*STEM_WIDTHS, *STAGE_WIDTHS), config)
        super().__init__(labels, measures, stages[-1])
        self.stem = nn.Sequential(
            conv_renorm(len(LEADS), s1, KERNEL, 2),
            conv_renorm(s1, s1, KERNEL),
            conv_renorm(s1, s2, KERNEL),
            nn.MaxPool1d(3, 2, 1),
        )
        widths = (s2, *stages)
        self.blocks = nn.Sequential(*(XBlock(widths[k], widths[k + 1], 1 if k == 0 else 2) for k in range(len(stages))))

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the last map `[batch, channel, step]`: 625 steps after the stem, 79 after the last stage."""
        return self.blocks(self.stem(x))
