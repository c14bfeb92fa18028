"""Transformer on patches of the strip (Vaswani 2017, arXiv 1706.03762; patches after Dosovitskiy 2021, arXiv 2010.11929).

Normalization comes first in each layer (Xiong 2020, arXiv 2002.04745): it trains without a long warm-up. The residual stream
itself is never normalized before the last layer, so that amplitude in mV survives next to the learned positions.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import LengthError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.supervised import SupervisedScreen, sized
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.lsemvae import N_SAMPLES

PATCH: Final = 25  # samples: 100 ms, about one QRS complex; 100 tokens a strip
WIDTH: Final = 96
LAYERS: Final = 4
HEADS: Final = 4


class EcgTransformer(SupervisedScreen):
    """Tokens of 100 ms over all leads, learned positions, pre-norm encoder layers."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        (width,) = sized((WIDTH,), config)
        super().__init__(labels, measures, width)
        self.embed = nn.Conv1d(len(LEADS), width, PATCH, PATCH)  # a linear map of each patch
        self.positions = nn.Parameter(torch.empty(1, N_SAMPLES // PATCH, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, HEADS, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(width)

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return `[batch, width, 100]` of `[batch, 12, 2500]` mV."""
        if x.shape[-1] != N_SAMPLES:
            raise LengthError(f"found {x.shape[-1]} samples, expected {N_SAMPLES}")
        h = self.embed(x).transpose(1, 2) + self.positions
        for layer in self.layers:
            h = layer(h)
        return self.norm(h).transpose(1, 2)
