"""beta-VAE (Higgins 2017, ICLR): one encoder over all leads, the KL weighted by beta.

The bound is `E log p(x | z) - beta KL(q(z | x) || N(0, 1))`; dividing both by the number of observed samples leaves beta as it is.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.norm import conv_renorm
from lsemvae.model.baselines.screen import only_present
from lsemvae.model.baselines.vae import VaeScreen, n_observed, total_kl
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.lsemvae import sample

BETA: Final = 4.0  # the published choice on images; 1 is the plain VAE
# Channels against one lead's encoder: with these the one encoder has about as many weights as the twelve together.
WIDENING: Final = 3


class JointEncoder(nn.Module):
    """`[batch, 12, time]` mV and presence -> mean and bounded log-variance `[batch, latent, time / 16]`.

    The presence flags move mean and log-variance after the convolutions: before them, normalization of a batch seen through
    one lead set would take a constant channel away.
    """

    def __init__(self, config: LsEmvaeConfig) -> None:
        super().__init__()
        c1, c2, c3 = (WIDENING * c for c in config.channels)
        self.body = nn.Sequential(
            conv_renorm(len(LEADS), c1, 15, 4), conv_renorm(c1, c2, 9, 2), conv_renorm(c2, c3, 9, 2)
        )
        self.mean = nn.Conv1d(c3, config.latent, 1)
        self.logvar = nn.Conv1d(c3, config.latent, 1)
        self.mean_presence = nn.Linear(len(LEADS), config.latent, bias=False)
        self.logvar_presence = nn.Linear(len(LEADS), config.latent, bias=False)
        self.logvar_bound = config.logvar_bound

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance; the latter is bounded as in `LeadEncoder`."""
        h, flags = self.body(x), present.to(x.dtype)
        mean = self.mean(h) + self.mean_presence(flags).unsqueeze(-1)
        logvar = self.logvar(h) + self.logvar_presence(flags).unsqueeze(-1)
        return mean, self.logvar_bound * torch.tanh(logvar / self.logvar_bound)


class BetaVae(VaeScreen):
    """All leads as channels of one encoder; the decoder draws every lead from the one latent map."""

    unread = ("encoder.logvar",)

    def __init__(
        self,
        labels: tuple[str, ...],
        measures: tuple[str, ...] = (),
        *,
        config: LsEmvaeConfig | None = None,
        beta: float = BETA,
    ) -> None:
        super().__init__(labels, measures, config or LsEmvaeConfig())
        self.encoder = JointEncoder(self.config)
        self.beta = beta

    def latent_mean(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the encoder's mean `[batch, latent, step]`."""
        return self.encoder(x, present)[0]

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return `loss` and its terms: `nll` and `kl` per target sample, the latter weighted by beta."""
        x = only_present(x, target)
        mean, logvar = self.encoder(only_present(x, present), present)
        leads = self.all_leads(x)
        nll = self.nll(x, self.decoder(sample(mean, logvar, g), leads), target, leads)
        kl = total_kl(mean, logvar).mean() / n_observed(target, x.shape[-1])
        return {"loss": nll + self.rise(progress) * self.beta * kl, "nll": nll, "kl": kl}
