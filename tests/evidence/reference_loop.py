"""A plain re-creation of the published training loop, as a peer for timing. It is never imported by the package.

Written from a description of shapes, losses and optimization (arXiv 2503.13470 and its public code as of 2025-08), not from that code.
What is slow or wrong there is kept here on purpose, because it is what our loop is compared with:

- a Python loop over twelve encoders, two dense heads of 40,000 -> 256 each;
- twelve identical calls of the one decoder, which knows no lead: all twelve outputs are the same waveform;
- groups by position: the prior is the thirteenth expert, 13 // 4 = 3, so no group holds it;
- the KL is taken on the mean of the lead posteriors, which is not the distribution that is sampled;
- `zero_grad` at each mini-batch: with accumulation over two, every second gradient is thrown away.

Random weights and random input suffice: no kernel here takes a time that depends on values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ReferenceConfig:
    """Sizes as published; smaller ones are for tests."""

    n_leads: int = 12
    n_samples: int = 5000  # 10 s at 500 Hz
    channels: tuple[int, int, int] = (16, 32, 64)
    latent: int = 256
    n_groups: int = 4
    recon_scale: float = 1e-3  # on the sum of squared errors
    alignment: float = 0.1
    anneal_epochs: int = 50  # the KL's weight rises linearly to 1
    lr: float = 5e-4
    weight_decay: float = 1e-5
    clip_norm: float = 1.0
    accumulation: int = 2

    @property
    def flat(self) -> int:
        """Features after three convolutions of stride 2: 64 x 625 = 40,000."""
        return self.channels[-1] * (self.n_samples // 8)


class Outputs(NamedTuple):
    """Reconstructions and lead posteriors, one `[batch, time]` or `[batch, latent]` per lead; fused posterior `[batch, latent]`."""

    recons: list[Tensor]
    means: list[Tensor]
    logvars: list[Tensor]
    mean: Tensor
    logvar: Tensor


class ReferenceEncoder(nn.Module):
    """`[batch, 1, time]` -> mean and log-variance, each `[batch, latent]`."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.channels
        self.conv1 = nn.Conv1d(1, c1, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(c1, c2, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(c2, c3, 3, stride=2, padding=1)
        self.mean = nn.Linear(config.flat, config.latent)
        self.logvar = nn.Linear(config.flat, config.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.conv1(x))
        h = torch.relu(self.conv2(h))
        h = torch.relu(self.conv3(h)).flatten(1)
        return self.mean(h), self.logvar(h)


class ReferenceDecoder(nn.Module):
    """`[batch, latent]` -> `[batch, 1, time]`, whichever lead is meant."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        c1, c2, c3 = config.channels
        self.shape = (c3, config.flat // c3)
        self.dense = nn.Linear(config.latent, config.flat)
        self.up1 = nn.ConvTranspose1d(c3, c2, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose1d(c2, c1, 4, stride=2, padding=1)
        self.up3 = nn.ConvTranspose1d(c1, 1, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.dense(z).view(-1, *self.shape)
        return self.up3(torch.relu(self.up2(torch.relu(self.up1(h)))))


def product_of_experts(means: Tensor, logvars: Tensor) -> tuple[Tensor, Tensor]:
    """Precision-weighted product over the first axis of `[expert, batch, latent]`, with 1e-8 added twice as published."""
    precision = 1 / (logvars.exp() + 1e-8)
    total = precision.sum(0)
    return (precision * means).sum(0) / total, (1 / total + 1e-8).log()


def grouped_fusion(means: list[Tensor], logvars: list[Tensor], n_groups: int) -> tuple[Tensor, Tensor]:
    """Experts cut into groups by position after the prior is appended; products inside, plain averages of parameters across.

    The whole size is floored, so with twelve leads and four groups the prior is in none of them.
    """
    prior = torch.zeros_like(means[0])
    all_means, all_logvars = torch.stack([*means, prior]), torch.stack([*logvars, prior])
    n_groups = min(n_groups, len(all_means))
    size = len(all_means) // n_groups
    pairs = [
        product_of_experts(all_means[k * size : (k + 1) * size], all_logvars[k * size : (k + 1) * size])
        for k in range(n_groups)
    ]
    return torch.stack([p[0] for p in pairs]).mean(0), torch.stack([p[1] for p in pairs]).mean(0)


class ReferenceModel(nn.Module):
    """Twelve encoders, one decoder: 256,150,577 parameters in the published sizes."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(ReferenceEncoder(config) for _ in range(config.n_leads))
        self.decoder = ReferenceDecoder(config)

    def forward(self, x: Tensor) -> Outputs:
        """`[batch, lead, time]`, each lead standardized."""
        means, logvars = [], []
        for k, encoder in enumerate(self.encoders):
            mean, logvar = encoder(x[:, k : k + 1])
            means.append(mean)
            logvars.append(logvar)
        mean, logvar = grouped_fusion(means, logvars, self.config.n_groups)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        recons = [self.decoder(z).squeeze(1) for _ in self.encoders]
        return Outputs(recons, means, logvars, mean, logvar)


def reference_loss(x: Tensor, out: Outputs, *, beta: float, config: ReferenceConfig) -> Tensor:
    """`1e-3 * SSE + beta * KL + 0.1 * alignment`, the first two summed and divided by the batch, the last a mean.

    KL and alignment refer to the arithmetic means of the lead posteriors' parameters; the fused posterior is in neither.
    """
    n = len(x)
    error = sum(((x[:, k] - recon) ** 2).sum() for k, recon in enumerate(out.recons)) / n
    mean, logvar = torch.stack(out.means).mean(0), torch.stack(out.logvars).mean(0)
    kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum() / n
    align = sum(nn.functional.mse_loss(each, mean) for each in out.means) / len(out.means)
    return config.recon_scale * error + beta * kl + config.alignment * align


def annealed(epoch: int, config: ReferenceConfig) -> float:
    """Weight of the KL in an epoch, counted from 0."""
    return min(epoch / config.anneal_epochs, 1.0)


def reference_optimizer(model: ReferenceModel, *, fused: bool = False) -> torch.optim.AdamW:
    """AdamW as published, with torch's default implementation for the device unless `fused`."""
    config = model.config
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=fused or None)


def train_epoch(
    model: ReferenceModel, optimizer: torch.optim.Optimizer, batches: Iterable[Tensor], *, epoch: int = 0
) -> list[float]:
    """One epoch of the published loop in fp32; the loss of each mini-batch `[batch, lead, time]`.

    The gradient is cleared at each mini-batch, so a step sees the last of `accumulation` mini-batches alone. That the loss is divided by
    `accumulation` is usual but not stated in the description; clipping and Adam leave little of the difference.
    """
    config, losses = model.config, []
    for k, x in enumerate(batches):
        optimizer.zero_grad()
        loss = reference_loss(x, model(x), beta=annealed(epoch, config), config=config)
        (loss / config.accumulation).backward()
        if (k + 1) % config.accumulation == 0:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses
