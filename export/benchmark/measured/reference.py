"""The published six-lead path, at its published shape and with random weights: what our speed is compared with.

What it is: six lead encoders of 10 s at 500 Hz (three convolutions, then two dense layers 40,000 -> 256 each), the six means side by
side, and the classifier Linear 1536 -> 128, ReLU, Linear -> 2. 123.1 M parameters, 493 MB in float32, 158 M multiply-adds as
executed: the dense layers of the log-variances run too, although the classifier reads the means only. The hierarchical fusion is
not in it, because it shapes the pre-training and is not run when a recording is scored. Shapes: research on the published code
(arXiv 2503.13470), rebuilt from `lsemvae.model.paper`.

What it is not: no trained weights, so its outputs mean nothing, and no line of the published code. Time and memory do not depend
on the weights' values. Filtering and z-scoring of the input are not timed on either side.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LIMB_LEADS
from lsemvae.model.paper import PaperEncoders
from lsemvae.model.paper_config import PAPER_GROUPS, PaperConfig

# Present or absent: the published classifier ends in two logits.
N_CLASSES: Final = 2
# Six encoders of 20,488,352 and a classifier of 196,994.
PARAMETERS: Final = 123_127_106
_LIMB_GROUPS: Final = PAPER_GROUPS[:2]


class ReferencePath(nn.Module):
    """`ecg` `[batch, 6, 5000]`, z-scored limb leads at 500 Hz -> logits `[batch, 2]`."""

    def __init__(self) -> None:
        super().__init__()
        self.config = PaperConfig(leads=LIMB_LEADS, groups=_LIMB_GROUPS, probe_leads=LIMB_LEADS)
        self.encoders = PaperEncoders(self.config)
        self.head = nn.Sequential(
            nn.Linear(len(LIMB_LEADS) * self.config.latent, self.config.hidden),
            nn.ReLU(),
            nn.Dropout(self.config.dropout),
            nn.Linear(self.config.hidden, N_CLASSES),
        )
        self.register_buffer("used", torch.ones(len(LIMB_LEADS), dtype=torch.bool), persistent=False)

    used: Tensor

    def forward(self, ecg: Tensor) -> Tensor:
        """Return the logits."""
        mean, _ = self.encoders(ecg, self.used)
        logits: Tensor = self.head(mean.flatten(1))
        return logits


def build_reference(*, seed: int = 0) -> ReferencePath:
    """Return the path in evaluation mode, with weights drawn from `seed`; torch's own random state is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReferencePath().eval().requires_grad_(requires_grad=False)


def reference_input(*, seed: int = 0) -> Tensor:
    """Return one recording of the published shape, `[1, 6, 5000]`, of mean 0 and standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, len(LIMB_LEADS), PaperConfig().n_samples, generator=generator)
