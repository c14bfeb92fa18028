"""LS-EMVAE: lead-specific encoders, hierarchical fusion, lead-conditioned decoder, screening head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.decoder import LeadDecoder
from lsemvae.model.encoder import LeadEncoders
from lsemvae.model.fusion import HierarchicalFusion
from lsemvae.model.heads import MeasureHead, ScreenHead
from lsemvae.model.losses import gaussian_kl, gaussian_nll, masked_bce, standard_normal_kl

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
        self.measure = MeasureHead(config.summary, len(config.measures)) if config.measures else None

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
        sd = self.decoder.sd_for(x) if self.config.noise == "relative" else self.decoder.sd().view(1, -1, 1)
        nll = gaussian_nll(x, drawn, sd, target)
        n_observed = target.sum(1).float().mean() * x.shape[-1]
        kl = standard_normal_kl(q.mean, q.logvar).flatten(1).sum(1).mean() / n_observed
        each = gaussian_kl(q.mean.unsqueeze(1), q.logvar.unsqueeze(1), q.lead_mean, q.lead_logvar)
        alignment = each.flatten(2).mean(2)[present].mean()
        return {"nll": nll, "kl": kl, "alignment": alignment}

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """The pre-training objective `loss` and its terms; `progress` 0 to 1 is the share of steps done."""
        terms = self.elbo_terms(x, present, target, g)
        rise = min(1.0, progress / self.config.anneal) if self.config.anneal else 1.0
        penalty = self.config.beta * terms["kl"] + self.config.alignment * terms["alignment"]
        return {"loss": terms["nll"] + rise * penalty, **terms}

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Everything but the decoder, which labels say nothing about."""
        return (p for name, p in self.named_parameters() if not name.startswith("decoder."))

    def finetune_terms(
        self,
        x: Tensor,
        present: Tensor,
        seen: Tensor,
        labels: Tensor,
        weight: Tensor,
        g: torch.Generator | None = None,
        measured: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The fine-tuning objective `loss` and its terms, read through the leads `seen` out of those `present`.

        Where they differ, the summary posterior of `seen` is pulled to that of all leads (which gets no gradient from it).
        """
        leads = self.encoders(x, present.any(0))
        q = self.read(self.fuse(leads, seen), g)
        terms = {
            "bce": masked_bce(q.logits, labels, pos_weight=weight),
            "bottleneck": standard_normal_kl(q.summary_mean, q.summary_logvar).sum(1).mean(),
        }
        if not torch.equal(seen, present):
            with torch.no_grad():
                whole = self.read(self.fuse(leads, present), g)
            kl = gaussian_kl(whole.summary_mean, whole.summary_logvar, q.summary_mean, q.summary_logvar)
            terms["matching"] = kl.sum(1).mean()
        if self.measure is not None and measured is not None:
            terms["measuring"] = self.measure.loss(q.summary_mean, measured)
        weights = {"bce": 1.0, **{name: getattr(self.config, name) for name in ("bottleneck", "matching", "measuring")}}
        return {"loss": torch.stack([weights[name] * value for name, value in terms.items()]).sum(), **terms}

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
