"""LS-EMVAE in its published sizes: preset `paper`. See `lsemvae.model.paper_config` for what is as published and what is not.

Objective (a sum over the latent, a mean over recordings)::

    1e-3 * sum_leads,time (x - drawn)^2  +  rise * KL(q || N(0, I))  +  0.1 * mean_leads,latent (mu_lead - mean_leads mu)^2

`q` is the posterior that is sampled (`kl_of_unsampled_mean` takes the reference's other one). `rise` goes from 0 to 1 over the first
`anneal` of all steps. Afterwards a probe reads the frozen means of the leads: dense, ReLU, dropout, dense.

What makes it faster than the plain form, with the same results: a decoder that knows no lead draws once, not once a lead; the two
dense heads of a lead are one product; the probe's pass through the frozen encoders keeps no graph. A loop over leads stays: on a CPU
grouped convolutions take twice its time, and one batched product of all heads gains nothing: its one gradient of 1 GB costs what it saves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lsemvae.ecg.errors import LeadError, LengthError
from lsemvae.model.fusion import HierarchicalFusion
from lsemvae.model.losses import in_float32, masked_bce
from lsemvae.model.lsemvae import Posterior, posterior_kl, sample
from lsemvae.model.paper_config import PaperConfig
from lsemvae.model.switches import crossed, zscore

BOXCAR: Final = 10  # samples at 500 Hz: a moving average over one period of 50 Hz, run forward and backward


class PaperEncoder(nn.Module):
    """`[batch, 1, time]` -> mean and log-variance, each `[batch, latent]`."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        widths = (1, *config.channels)
        self.body = nn.ModuleList(nn.Conv1d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths))
        self.heads = nn.Linear(config.flat, 2 * config.latent)
        self.bound = config.logvar_bound

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance; the first half of the outputs is the mean."""
        for conv in self.body:
            x = torch.relu(conv(x))
        mean, logvar = self.heads(x.flatten(1)).chunk(2, 1)
        return mean, logvar.clamp(-self.bound, self.bound)


class PaperEncoders(nn.Module):
    """All leads: `[batch, lead, time]` -> means and log-variances `[batch, lead, latent]`."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.per_lead = nn.ModuleList(PaperEncoder(config) for _ in config.leads)

    def forward(self, x: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances; encoders of leads outside `used` bool `[lead]` are not run and give zeros."""
        runs = used.tolist()
        if not any(runs):
            raise LeadError("found a batch in which no recording has a lead, expected at least one")
        pairs = {k: encoder(x[:, k : k + 1]) for k, encoder in enumerate(self.per_lead) if runs[k]}
        zero = torch.zeros_like(next(iter(pairs.values()))[0])
        filled = [pairs.get(k, (zero, zero)) for k in range(len(runs))]
        return torch.stack([p[0] for p in filled], 1), torch.stack([p[1] for p in filled], 1)


class PaperDecoder(nn.Module):
    """`z` `[batch, latent]` -> `[batch, lead, time]`: one waveform for all leads, unless `lead_blind_decoder` is off.

    Then an embedding of the lead scales and shifts the channels behind the dense layer; it starts at zero, where all leads are equal.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        widths = (*config.channels[::-1], 1)
        self.dense = nn.Linear(config.latent, config.flat)
        self.up = nn.ModuleList(nn.ConvTranspose1d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        self.leads = None if config.lead_blind_decoder else nn.Embedding(len(config.leads), 2 * widths[0])
        if self.leads is not None:
            nn.init.zeros_(self.leads.weight)
        self.n_leads = len(config.leads)
        self.width = widths[0]

    def forward(self, z: Tensor) -> Tensor:
        """Draw every lead; the lead-blind waveform is computed once and only repeated by view."""
        h = self.dense(z).view(len(z), self.width, -1)
        if self.leads is None:
            return self._lengthen(h).expand(-1, self.n_leads, -1)
        scale, shift = self.leads.weight.view(1, self.n_leads, -1, 1).chunk(2, 2)
        each = h.unsqueeze(1) * (1 + scale) + shift
        return self._lengthen(each.flatten(0, 1)).view(len(z), self.n_leads, -1)

    def _lengthen(self, h: Tensor) -> Tensor:
        for k, up in enumerate(self.up):
            h = up(h if k == 0 else torch.relu(h))
        return h


def from_250_hz(x: Tensor) -> Tensor:
    """Return a store's `[batch, lead, 2500]` mV at 250 Hz as `[batch, lead, 5000]` at 500 Hz: not as published.

    The paper records at 500 Hz, high-passes at 0.5 Hz and smooths. Here the store's own front-end (0.5-40 Hz) has been at work; between
    its samples the line is drawn straight, and the paper's smoothing follows: a moving average of 10 samples, forward and backward.
    On 24 training recordings of the development folder, leads made in the two ways correlate at 0.99 in the median and at 0.84 at the
    5th percentile.
    """
    middle = 0.5 * (x + functional.pad(x[..., 1:], (0, 1), mode="replicate"))
    return smoothed(torch.stack([x, middle], -1).flatten(-2))


def smoothed(x: Tensor) -> Tensor:
    """Apply a moving average over 10 samples forward and backward: a triangle of 19 weights; the edge is held."""
    box = torch.ones(BOXCAR, dtype=x.dtype, device=x.device) / BOXCAR
    triangle = functional.conv1d(box.view(1, 1, -1), box.view(1, 1, -1), padding=BOXCAR - 1)
    padded = functional.pad(x, (BOXCAR - 1, BOXCAR - 1), mode="replicate")
    return functional.conv1d(padded.flatten(0, 1).unsqueeze(1), triangle).view(x.shape)


@in_float32
def squared_error(x: Tensor, drawn: Tensor) -> Tensor:
    """Sum squared errors over time: `[batch, lead]`."""
    return (x - drawn).square().sum(-1)


class LsEmvaePaper(nn.Module):
    """The published model. Input `[batch, lead, 5000]` at 500 Hz (`lsemvae.data.paper_input`), or a store's `[batch, lead, 2500]`."""

    pretrains = True

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.config = config
        self.labels = config.labels
        self.encoders = PaperEncoders(config)
        self.fusion = HierarchicalFusion(config)
        self.decoder = PaperDecoder(config)
        self.probe = nn.Sequential(
            nn.Linear(len(config.probe_leads) * config.latent, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, len(config.labels)),
        )
        self.columns = [config.leads.index(lead) for lead in config.probe_leads]

    def prepared(self, x: Tensor) -> Tensor:
        """Return what encoders see and the decoder draws: `[batch, lead, n_samples]`, z-scored unless that switch is off."""
        if 2 * x.shape[-1] == self.config.n_samples:
            x = from_250_hz(x)
        if x.shape[-1] != self.config.n_samples:
            n = self.config.n_samples
            raise LengthError(f"found {x.shape[-1]} samples a lead, expected {n} (500 Hz) or {n // 2} (250 Hz)")
        return zscore(x) if self.config.per_lead_zscore else x

    def posterior(self, x: Tensor, present: Tensor) -> Posterior:
        """Return the posteriors of the leads and their fusion, from a prepared `x`."""
        leads = self.encoders(x, self.fusion.experts(present).any(0))
        return Posterior(*leads, *self.fusion(*leads, present))

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the objective `loss` and its terms; `progress` 0 to 1 is the share of steps done."""
        config, x = self.config, self.prepared(x)
        q = self.posterior(x, present)
        error = squared_error(x, self.decoder(sample(q.mean, q.logvar, g)))
        experts = self.fusion.experts(present)
        terms = {
            "reconstruction": config.reconstruction * (error * target).sum() / len(x),
            "kl": posterior_kl(q, experts, of_unsampled_mean=config.kl_of_unsampled_mean).mean(),
            "alignment": distance_from_mean(q.lead_mean, experts),
        }
        rise = min(1.0, progress / config.anneal) if config.anneal else 1.0
        loss = terms["reconstruction"] + rise * config.beta * terms["kl"] + config.alignment * terms["alignment"]
        return {"loss": loss, **terms}

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Return the probe's parameters: encoders stay as pre-training left them."""
        return self.probe.parameters()

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
        """Return the cross-entropy of the probe on the means of the leads `seen`; the paper's model learns no measures."""
        loss = masked_bce(self(x, seen), labels, pos_weight=weight if self.config.weighted else None)
        return {"loss": loss, "bce": loss}

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the frozen means of the probe's leads, side by side; zeros for an absent lead."""
        if self.config.crossed_avl_avf:
            order = crossed(self.config.leads)
            x, present = x[:, order], present[:, order]
        read = torch.zeros_like(present)
        read[:, self.columns] = present[:, self.columns]
        if not bool(read.any()):
            return x.new_zeros(len(x), len(self.columns) * self.config.latent)
        with torch.no_grad():
            mean, _ = self.encoders(self.prepared(x), read.any(0))
        return mean.masked_fill(~read.unsqueeze(-1), 0.0)[:, self.columns].flatten(1)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        return self.probe(self.features(x, present))


@in_float32
def distance_from_mean(mean: Tensor, experts: Tensor) -> Tensor:
    """Return the mean over experts and latent numbers of (mu_lead - mean mu)^2, averaged over recordings."""
    weight = (experts / experts.sum(1, keepdim=True).clamp(min=1)).unsqueeze(-1)
    centre = (weight * mean).sum(1, keepdim=True)
    return (weight * (mean - centre).square()).sum(1).mean()
