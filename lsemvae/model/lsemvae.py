"""LS-EMVAE: lead-specific encoders, hierarchical fusion, lead-conditioned decoder, screening head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.decoder import LeadDecoder
from lsemvae.model.encoder import LeadEncoders
from lsemvae.model.fusion import HierarchicalFusion
from lsemvae.model.heads import ScreenHead
from lsemvae.model.losses import gaussian_kl, gaussian_nll, standard_normal_kl

N_SAMPLES = 2500


class Posterior(NamedTuple):
    """Per-lead and fused Gaussians: `[batch, lead, latent, steps]` and `[batch, latent, steps]`."""

    lead_mean: Tensor
    lead_logvar: Tensor
    mean: Tensor
    logvar: Tensor


class Screen(NamedTuple):
    """Head output: logits `[batch, label]`, uncertainty `[batch, 1]`, summary mean and log-variance."""

    logits: Tensor
    uncertainty: Tensor
    summary_mean: Tensor
    summary_logvar: Tensor


def sample(mean: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Reparametrized sample."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + noise * (0.5 * logvar).exp()


class LsEmvae(nn.Module):
    """The full model. Input is always `[batch, 12, 2500]` mV in `config.leads` order plus presence `[batch, 12]`."""

    def __init__(self, config: LsEmvaeConfig) -> None:
        super().__init__()
        self.config = config
        n_leads = len(config.leads)
        self.encoders = LeadEncoders(n_leads, config.channels, config.latent, config.logvar_bound)
        self.fusion = HierarchicalFusion(config)
        self.decoder = LeadDecoder(n_leads, config.latent, config.channels, N_SAMPLES)
        self.head = ScreenHead(config.latent, config.trunk, config.summary, len(config.labels), config.logvar_bound)

    def posterior(self, x: Tensor, present: Tensor) -> Posterior:
        """Encode the present leads and fuse them; an absent lead cannot touch the result."""
        return self.fuse(self.encoders(x, present.any(0)), present)

    def fuse(self, leads: tuple[Tensor, Tensor], present: Tensor) -> Posterior:
        """Fuse encoded leads (means, log-variances) under a presence: encode once, fuse under as many subsets as wanted."""
        return Posterior(*leads, *self.fusion(*leads, present))

    def elbo_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Terms per sample: negative log-likelihood of `target` leads seen through `present` leads, KL, alignment.

        The KL is that of the posterior that is sampled. `alignment` is KL(fused || lead), averaged over present leads:
        each lead alone should already cover what all leads say (Hwang 2021, MVTCAE).
        """
        q = self.posterior(x, present)
        leads = torch.arange(len(self.config.leads), device=x.device)
        drawn = self.decoder(sample(q.mean, q.logvar, g), leads)
        nll = gaussian_nll(x, drawn, self.decoder.sd(), target)
        n_observed = target.sum(1).float().mean() * x.shape[-1]
        kl = standard_normal_kl(q.mean, q.logvar).flatten(1).sum(1).mean() / n_observed
        each = gaussian_kl(q.mean.unsqueeze(1), q.logvar.unsqueeze(1), q.lead_mean, q.lead_logvar)
        alignment = each.flatten(2).mean(2)[present].mean()
        return {"nll": nll, "kl": kl, "alignment": alignment}

    def screen(self, x: Tensor, present: Tensor, g: torch.Generator | None = None) -> Screen:
        """Logits and uncertainty from what the present leads show."""
        return self.read(self.posterior(x, present), g)

    def read(self, q: Posterior, g: torch.Generator | None = None) -> Screen:
        """The head on a posterior; in training the summary is sampled, in evaluation its mean is read."""
        mean, logvar = self.head.posterior(q.mean)
        used = sample(mean, logvar, g) if self.training else mean
        logits, uncertainty = self.head.read_out(used, logvar)
        return Screen(logits, uncertainty, mean, logvar)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Logits `[batch, label]`."""
        return self.screen(x, present).logits
