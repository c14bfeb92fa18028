"""The screening head: a few convolutions over the fused map, a summary posterior, and a linear read-out.

The summary posterior is a variational bottleneck (Alemi 2017): its mean carries the evidence, its width the doubt,
and it is what a student on two leads learns to match.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.model.encoder import conv_block
from lsemvae.model.losses import masked_huber


class SummaryPosterior(nn.Module):
    """Features `[batch, feature]` -> mean and bounded log-variance `[batch, summary]`."""

    def __init__(self, features: int, summary: int, logvar_bound: float) -> None:
        super().__init__()
        self.mean = nn.Linear(features, summary)
        self.logvar = nn.Linear(features, summary)
        self.bound = logvar_bound

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance: two linear layers, since they quantize apart. The clamp is exact inside the bound."""
        return self.mean(h), self.logvar(h).clamp(-self.bound, self.bound)


class ReadOut(nn.Module):
    """Summary mean and log-variance -> logits `[batch, label]` and uncertainty `[batch, 1]` (mean log sd)."""

    def __init__(self, summary: int, n_labels: int) -> None:
        super().__init__()
        self.logits = nn.Linear(summary, n_labels)

    def forward(self, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and uncertainty: the average log standard deviation of the summary posterior."""
        return self.logits(mean), 0.5 * logvar.mean(-1, keepdim=True)


class MeasureHead(nn.Module):
    """Summary mean -> measured values, standardized with the mean and sd of the training recordings.

    `mean` and `sd` `[measure]` travel with the weights; an unmeasured cell (NaN) never enters them.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, summary: int, n_measures: int) -> None:
        super().__init__()
        self.linear = nn.Linear(summary, n_measures)
        self.register_buffer("mean", torch.zeros(n_measures))
        self.register_buffer("sd", torch.ones(n_measures))

    @torch.no_grad()
    def fit_scale(self, values: Tensor) -> None:
        """Take mean and sd from `values` `[record, measure]`; a column nobody measured keeps 0 and 1."""
        known = ~torch.isnan(values)
        count = known.sum(0)
        mean = torch.where(known, values, 0.0).sum(0) / count.clamp(min=1)
        square = torch.where(known, (values - mean).square(), 0.0).sum(0) / count.clamp(min=1)
        self.mean.copy_(mean)
        self.sd.copy_(torch.where(square > 0, square.sqrt(), torch.ones_like(square)))

    def loss(self, summary_mean: Tensor, measured: Tensor) -> Tensor:
        """Return the masked Huber loss in standard deviations; `measured` `[batch, measure]` in its own units with NaN."""
        return masked_huber(self.linear(summary_mean), (measured - self.mean) / self.sd)

    def forward(self, summary_mean: Tensor) -> Tensor:
        """Return values `[batch, measure]` in their own units."""
        return self.linear(summary_mean) * self.sd + self.mean


class ScreenHead(nn.Module):
    """Fused mean `[batch, latent, steps]` -> summary posterior and logits."""

    def __init__(self, latent: int, trunk: tuple[int, int], summary: int, n_labels: int, logvar_bound: float) -> None:
        super().__init__()
        t1, t2 = trunk
        self.trunk = nn.Sequential(conv_block(latent, t1, 7, 2), conv_block(t1, t2, 5, 2), conv_block(t2, t2, 5, 1))
        self.dropout = nn.Dropout(0.2)
        self.summary = SummaryPosterior(2 * t2, summary, logvar_bound)
        self.read_out = ReadOut(summary, n_labels)

    def posterior(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summary posterior; mean and maximum over time feed it."""
        h = self.trunk(fused)
        return self.summary(self.dropout(torch.cat([h.mean(-1), h.amax(-1)], -1)))
