"""The edge student: two measured channels in, logits and an uncertainty out. `encoder` runs in INT8, `head` in float.

It reads I and II because the other four limb leads are sums of these two. Early mixing of the two channels keeps what
separate encoders lose: the angle between them, which is the QRS axis.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.model.config import StudentConfig
from lsemvae.model.encoder import conv_block
from lsemvae.model.heads import MeasureHead, ReadOut, SummaryPosterior

RESIDUAL_KERNEL: Final = 3
# Parts of a recording whose maxima are averaged: 2.5 s of a 10 s recording, two beats or more.
PEAK_PARTS: Final = 4


class Residual(nn.Module):
    """`relu(x + f(x))` with two convolutions in `f` (He 2016, the basic block). Quantized, it is one INT8 addition.

    The sum passes a ReLU before it is stored, so it is non-negative like every other map here and keeps all 256 steps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        k = RESIDUAL_KERNEL
        self.first = conv_block(channels, channels, k, 1)
        self.second = nn.Sequential(nn.Conv1d(channels, channels, k, 1, k // 2, bias=False), nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[batch, channel, time]`, shape unchanged."""
        return torch.relu(x + self.second(self.first(x)))


class StudentEncoder(nn.Module):
    """`[batch, lead, time]` mV -> summary mean and log-variance `[batch, summary]`."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        # Each stage is a strided convolution and, where the configuration asks for them, residual blocks behind it.
        widths = (len(config.leads), *config.channels)
        stages: list[nn.Sequential] = []
        for k, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True)):
            first = conv_block(widths[k], widths[k + 1], kernel, stride)
            repeats = config.repeats[k] if config.repeats else 0
            blocks = (Residual(widths[k + 1]) for _ in range(repeats))
            stages.append(nn.Sequential(first, *blocks) if repeats else first)
        self.body = nn.Sequential(*stages)
        self.pool = config.pool
        features = config.channels[-1] * (2 if config.pool == "mean_max" else 1)
        self.summary = SummaryPosterior(features, config.summary, config.logvar_bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return summary mean and log-variance: convolutions, pooling over time, two linear layers."""
        return self.summary(self.pooled(self.body(x)))

    def pooled(self, h: Tensor) -> Tensor:
        """Return `[batch, feature]` of `[batch, channel, time]`: the mean over time, and beside it the peak where asked for.

        The peak is the mean of the maxima of `PEAK_PARTS` parts: pooling and a mean are what INT8 runtimes have (they lack a
        reduction by maximum), and one artefact moves a quarter of it.
        """
        if self.pool == "mean":
            return h.mean(-1)
        window = max(1, h.shape[-1] // PEAK_PARTS)
        return torch.cat([h.mean(-1), nn.functional.max_pool1d(h, window).mean(-1)], -1)

    def with_map(self, x: Tensor, stage: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map after convolution `stage` `[batch, channel, time]`, and what `forward` returns."""
        seen = self.body[: stage + 1](x)
        return seen, *self.summary(self.pooled(self.body[stage + 1 :](seen)))


class StudentNet(nn.Module):
    """The distilled screen: encoder, read-out, and what only training needs."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = StudentEncoder(config)
        self.head = ReadOut(config.summary, len(config.labels))
        # Only trained with: an exported graph holds encoder and head.
        self.measure = MeasureHead(config.summary, len(config.measures)) if config.measures else None
        self.hint = nn.Conv1d(config.channels[config.hint_stage], config.hint, 1) if config.hint else None

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[batch, label]` and uncertainty `[batch, 1]` of `ecg` `[batch, 2, 2500]` in mV (leads I, II)."""
        mean, logvar = self.encoder(ecg)
        return self.head(mean, logvar)
