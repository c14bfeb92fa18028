"""What the variational baselines share with LS-EMVAE: encoders, decoder, head and likelihood. Only fusion and objective differ.

Objectives are in nats per observed sample, as in LS-EMVAE: each bound is divided by the number of target samples. The KL rises from
0 over the same share of the steps (Bowman 2016), so that no model collapses for want of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.screen import BaselineScreen, only_present
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.decoder import LeadDecoder
from lsemvae.model.encoder import LeadEncoders
from lsemvae.model.heads import ScreenHead
from lsemvae.model.losses import gaussian_nll, standard_normal_kl
from lsemvae.model.lsemvae import N_SAMPLES


def total_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(q || N(0, 1)) in nats a recording `[batch]`, summed over the latent map."""
    return standard_normal_kl(mean, logvar).flatten(1).sum(1)


def n_observed(target: Tensor, n_samples: int) -> Tensor:
    """Return the observed samples a recording, averaged over the batch: what nats are divided by."""
    return target.sum(1).float().mean() * n_samples


def component_weights(valid: Tensor) -> Tensor:
    """Return uniform weights `[batch, component]` over the valid components; each row of `valid` holds at least one."""
    return valid.float() / valid.sum(1, keepdim=True)


def stratified_component(valid: Tensor, g: torch.Generator | None = None) -> Tensor:
    """Draw one valid component for each recording: index `[batch]`.

    The batch is spread evenly over the components (systematic sampling): each recording draws uniformly, and no component is
    drawn more than one time above its share. One draw a recording estimates the sum over components without bias.
    """
    n, device = len(valid), valid.device
    order = torch.randperm(n, generator=g).to(device)
    place = (order + torch.rand(1, generator=g).to(device)) / n
    rank = (place * valid.sum(1)).long()  # which of the recording's valid components
    reached = valid.cumsum(1) > rank.unsqueeze(1)
    return reached.int().argmax(1)


def pick(parameters: Tensor, component: Tensor) -> Tensor:
    """Return the chosen row of `[batch, component, ...]` for each recording: `[batch, ...]`."""
    return parameters[torch.arange(len(component), device=component.device), component]


class VaeScreen(BaselineScreen):
    """The lead-conditioned decoder and the screening head on a deterministic map; subclasses bring the encoder."""

    pretrains = True
    # Names of parameters that pre-training alone uses, beyond those of decoder and summary width.
    unread: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...], config: LsEmvaeConfig, *, private: int = 0
    ) -> None:
        super().__init__(labels, measures, config.summary, config.measuring)
        self.config = config
        self.decoder = LeadDecoder(len(LEADS), config.latent + private, config.channels, N_SAMPLES)
        self.head = ScreenHead(config.latent, config.trunk, config.summary, len(self.labels), config.logvar_bound)

    def latent_mean(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the mean of the joint posterior given the present leads: `[batch, latent, step]`."""
        raise NotImplementedError

    def rise(self, progress: float) -> float:
        """Return the weight of the KL, 0 to 1."""
        return min(1.0, progress / self.config.anneal) if self.config.anneal else 1.0

    def nll(self, x: Tensor, drawn: Tensor, target: Tensor, leads: Tensor) -> Tensor:
        """Return the nats per sample of the leads with indices `leads`, drawn as `[batch, len(leads), time]`.

        The sd follows each lead's rms, as in `LeadDecoder.sd_for`.
        """
        return gaussian_nll(x[:, leads], drawn, self.decoder.sd_for(x)[:, leads], target[:, leads])

    def all_leads(self, x: Tensor) -> Tensor:
        """Return the indices of all leads, where `x` lives."""
        return torch.arange(x.shape[1], device=x.device)

    def evidence(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the mean of the summary, read from the mean of the joint posterior."""
        return self.head.posterior(self.latent_mean(only_present(x, present), present))[0]

    def read(self, evidence: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        return self.head.read_out.logits(evidence)

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Return what the logits depend on: neither the decoder nor the width of the summary."""
        skipped = ("decoder.", "head.summary.logvar.", *self.unread)
        return (p for name, p in self.named_parameters() if not any(part in name for part in skipped))


class MultimodalVae(VaeScreen):
    """One encoder for each lead, no weights shared: `LeadEncoders` of LS-EMVAE."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...], config: LsEmvaeConfig, *, private: int = 0
    ) -> None:
        super().__init__(labels, measures, config, private=private)
        latent = config.latent + private
        self.encoders = LeadEncoders(len(LEADS), config.channels, latent, config.logvar_bound)

    def encode(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances `[batch, lead, latent, step]`; an absent lead has those of the prior, 0 and 0."""
        mean, logvar = self.encoders(x, present.any(0))
        return only_present(mean, present), only_present(logvar, present)
