"""One encoder per lead: millivolts in, a Gaussian over a latent map out. Weights are not shared between leads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import LeadError


def conv_block(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Sequential:
    """Return Conv1d (no bias) + BatchNorm1d + ReLU: the one block that folds and quantizes well."""
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(c_out), nn.ReLU(inplace=True)
    )


class LeadEncoder(nn.Module):
    """`[batch, 1, time]` mV -> mean and bounded log-variance, each `[batch, latent, time / 16]`."""

    def __init__(self, channels: tuple[int, int, int], latent: int, logvar_bound: float) -> None:
        super().__init__()
        c1, c2, c3 = channels
        self.body = nn.Sequential(conv_block(1, c1, 15, 4), conv_block(c1, c2, 9, 2), conv_block(c2, c3, 9, 2))
        self.mean = nn.Conv1d(c3, latent, 1)
        self.logvar = nn.Conv1d(c3, latent, 1)
        self.logvar_bound = logvar_bound

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance; the latter is bounded smoothly, so that no expert claims unlimited precision."""
        h = self.body(x)
        return self.mean(h), self.logvar_bound * torch.tanh(self.logvar(h) / self.logvar_bound)


class LeadEncoders(nn.Module):
    """All leads: `[batch, lead, time]` -> means and log-variances `[batch, lead, latent, steps]`.

    A Python loop over leads is the fastest form on a CPU: twelve small dense convolutions beat one grouped one.
    """

    def __init__(self, n_leads: int, channels: tuple[int, int, int], latent: int, logvar_bound: float) -> None:
        super().__init__()
        self.per_lead = nn.ModuleList(LeadEncoder(channels, latent, logvar_bound) for _ in range(n_leads))

    def forward(self, x: Tensor, used: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return means and log-variances; encoders of leads outside `used` bool `[lead]` are not run and give zeros."""
        pairs: list[tuple[Tensor, Tensor] | None] = []
        runs = [True] * len(self.per_lead) if used is None else used.tolist()
        for k, encoder in enumerate(self.per_lead):
            pairs.append(encoder(x[:, k : k + 1]) if runs[k] else None)
        shape = next((pair[0] for pair in pairs if pair is not None), None)
        if shape is None:
            raise LeadError("found a batch in which no recording has a lead, expected at least one")
        filled = [pair if pair is not None else (torch.zeros_like(shape), torch.zeros_like(shape)) for pair in pairs]
        return torch.stack([p[0] for p in filled], 1), torch.stack([p[1] for p in filled], 1)
