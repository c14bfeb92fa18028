"""Presence of leads: what is absent never reaches a result, and the head knows which leads it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import LeadError


def only_present(x: Tensor, present: Tensor) -> Tensor:
    """`x` `[batch, lead, ...]` with zeros where `present` `[batch, lead]` is false, whatever stood there (NaN too)."""
    if not bool(present.any()):
        raise LeadError("found a batch in which no recording has a lead, expected at least one")
    return x.masked_fill(~present.view(*present.shape, *(1,) * (x.dim() - 2)), 0.0)


class PresenceHead(nn.Module):
    """Map `[batch, channel, step]` -> mean and maximum over time, the presence flags, one hidden layer; `logits` reads it.

    A lead of zeros is also what a flat electrode gives, so zeros alone do not say that a lead is absent: the flags do. They join
    after the pooling and not as input channels, where a constant channel would pass every convolution only to be taken away by
    the batch normalization of a batch seen through one lead set. The hidden layer lets a lead set change how features count;
    a linear read-out could only shift each logit.
    """

    def __init__(self, channels: int, n_leads: int, n_labels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * channels + n_leads, hidden)
        self.dropout = nn.Dropout(0.2)
        self.logits = nn.Linear(hidden, n_labels)

    def forward(self, h: Tensor, present: Tensor) -> Tensor:
        """`present` bool `[batch, lead]` -> the hidden layer `[batch, hidden]`."""
        pooled = torch.cat([h.mean(-1), h.amax(-1), present.to(h.dtype)], -1)
        return self.dropout(torch.relu(self.hidden(pooled)))
