"""LS-EMVAE: lead-specific encoders, hierarchical fusion, lead-conditioned decoder, screening head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.decoder import LeadDecoder
from lsemvae.model.encoder import LeadEncoders
from lsemvae.model.fusion import HierarchicalFusion
from lsemvae.model.heads import MeasureHead, ScreenHead
from lsemvae.model.losses import gaussian_kl, gaussian_nll, lead_nll, masked_bce, standard_normal_kl
from lsemvae.model.switches import crossed, zscore

N_SAMPLES: Final = 2500


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
    """Draw from a Gaussian, with a gradient; noise is drawn where the generator lives: a seed means the same everywhere."""
    device = mean.device if generator is None else generator.device
    noise = torch.randn(mean.shape, generator=generator, device=device).to(mean.device)
    return mean + noise * (0.5 * logvar).exp()


def posterior_kl(q: Posterior, experts: Tensor, *, of_unsampled_mean: bool) -> Tensor:
    """Return the KL of the posterior that is sampled from the standard normal, in nats `[batch]`.

    With `of_unsampled_mean` (a defect of the reference) it is that of the mean, over the experts `[batch, lead]`, of the
    leads' means and log-variances, which nobody samples.
    """
    mean, logvar = q.mean, q.logvar
    if of_unsampled_mean:
        share = experts / experts.sum(1, keepdim=True).clamp(min=1)
        share = share.view(*experts.shape, *(1,) * (q.lead_mean.dim() - 2))
        mean, logvar = (share * q.lead_mean).sum(1), (share * q.lead_logvar).sum(1)
    return standard_normal_kl(mean, logvar).flatten(1).sum(1)


class LsEmvae(nn.Module):
    """The full model. Input is always `[batch, 12, 2500]` mV in `config.leads` order plus presence `[batch, 12]`."""

    pretrains = True

    def __init__(self, config: LsEmvaeConfig) -> None:
        super().__init__()
        self.config = config
        self.labels = config.labels
        n_leads = len(config.leads)
        self.encoders = LeadEncoders(n_leads, config.channels, config.latent, config.logvar_bound)
        self.fusion = HierarchicalFusion(config)
        self.decoder = LeadDecoder(
            n_leads, config.latent, config.channels, N_SAMPLES, lead_blind=config.lead_blind_decoder
        )
        self.head = ScreenHead(config.latent, config.trunk, config.summary, len(config.labels), config.logvar_bound)
        self.measure = MeasureHead(config.summary, len(config.measures)) if config.measures else None

    def prepared(self, x: Tensor) -> Tensor:
        """Return what encoders see and the decoder draws: millivolts, or z-scores where that switch is on."""
        return zscore(x) if self.config.per_lead_zscore else x

    def encode(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances `[batch, lead, latent, steps]`; leads that are no expert in any recording are zero."""
        return self.encoders(self.prepared(x), self.fusion.experts(present).any(0))

    def posterior(self, x: Tensor, present: Tensor) -> Posterior:
        """Encode the present leads and fuse them; an absent lead cannot touch the result."""
        return self.fuse(self.encode(x, present), present)

    def fuse(self, leads: tuple[Tensor, Tensor], present: Tensor) -> Posterior:
        """Fuse encoded leads (means, log-variances) under a presence: encode once, fuse under as many subsets as wanted."""
        return Posterior(*leads, *self.fusion(*leads, present))

    def elbo_terms(
        self,
        x: Tensor,
        present: Tensor,
        target: Tensor,
        g: torch.Generator | None = None,
        *,
        q: Posterior | None = None,
    ) -> dict[str, Tensor]:
        """Return terms per sample: the nats of `target` leads seen through `present` leads, KL, alignment.

        `q` is the posterior under `present`, where it is known already. The KL is that of the posterior that is sampled.
        `alignment` is KL(fused || lead), averaged over present leads: each lead alone should already cover what all leads say
        (Hwang 2021, MVTCAE).
        """
        q = self.posterior(x, present) if q is None else q
        x = self.prepared(x)
        experts = self.fusion.experts(present)
        sd = self.decoder.sd_for(x) if self.config.noise == "relative" else self.decoder.sd().view(1, -1, 1)
        if self.config.mixture == "stratified":
            # One sample of each group, weighted, and `sum_g w_g KL(q_g || p)` (Shi 2019).
            mean, logvar, weight = self.fusion.components(q.lead_mean, q.lead_logvar, present)
            each_nll = torch.zeros_like(x[..., 0])
            for k in weight.detach().gt(0).any(0).nonzero()[:, 0].tolist():
                drawn = self._draw(sample(mean[:, k], logvar[:, k], g))
                each_nll = each_nll + weight[:, k : k + 1] * lead_nll(x, drawn, sd)
            nll, kl = each_nll[target].mean(), (weight * standard_normal_kl(mean, logvar).flatten(2).sum(2)).sum(1)
        else:
            nll = gaussian_nll(x, self._draw(sample(q.mean, q.logvar, g)), sd, target)
            kl = posterior_kl(q, experts, of_unsampled_mean=self.config.kl_of_unsampled_mean)
        n_observed = target.sum(1).float().mean() * x.shape[-1]
        each = gaussian_kl(q.mean.unsqueeze(1), q.logvar.unsqueeze(1), q.lead_mean, q.lead_logvar)
        alignment = each.flatten(2).mean(2)[experts].mean()
        return {"nll": nll, "kl": kl.mean() / n_observed, "alignment": alignment}

    def _draw(self, z: Tensor) -> Tensor:
        return self.decoder(z, torch.arange(len(self.config.leads), device=z.device))

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the pre-training objective `loss` and its terms; `progress` 0 to 1 is the share of steps done.

        Where `latent_matching` weighs it and the leads seen are not all, the posterior of all leads (which gets no gradient from it) is
        to be covered by that of the subset: KL(all || subset) per latent element.
        """
        matched = bool(self.config.latent_matching) and not torch.equal(present, target)
        leads = self.encode(x, present | target if matched else present)
        q = self.fuse(leads, present)
        terms = self.elbo_terms(x, present, target, g, q=q)
        rise = min(1.0, progress / self.config.anneal) if self.config.anneal else 1.0
        penalty = self.config.beta * terms["kl"] + self.config.alignment * terms["alignment"]
        if matched:
            with torch.no_grad():
                whole = self.fuse(leads, present | target)
            terms["latent_matching"] = gaussian_kl(whole.mean, whole.logvar, q.mean, q.logvar).mean()
            penalty = penalty + self.config.latent_matching * terms["latent_matching"]
        return {"loss": terms["nll"] + rise * penalty, **terms}

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters but the decoder's, which labels say nothing about."""
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
        """Return the fine-tuning objective `loss` and its terms, read through the leads `seen` out of those `present`.

        Where they differ, the summary posterior of `seen` is pulled to that of all leads (which gets no gradient from it).
        """
        x, present, seen = self._wired(x, present, seen)
        leads = self.encode(x, present)
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
        """Return logits, uncertainty and summary posterior from what the present leads show."""
        return self.read(self.posterior(*self._wired(x, present)), g)

    def _wired(self, *by_lead: Tensor) -> tuple[Tensor, ...]:
        """Return `[batch, lead, ...]` as the classifier's encoders get them: with aVL and aVF crossed where that switch is on."""
        if not self.config.crossed_avl_avf:
            return by_lead
        order = crossed(self.config.leads)
        return tuple(tensor[:, order] for tensor in by_lead)

    def read(self, q: Posterior, g: torch.Generator | None = None) -> Screen:
        """Run the head on a posterior; in training the summary is sampled, in evaluation its mean is read."""
        mean, logvar = self.head.posterior(q.mean)
        used = sample(mean, logvar, g) if self.training else mean
        logits, uncertainty = self.head.read_out(used, logvar)
        return Screen(logits, uncertainty, mean, logvar)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        return self.screen(x, present).logits
