"""What all baselines share: evidence from the leads, logits linear in it, and the objective with labels.

What is absent never reaches a result, and the head knows which leads it reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import LeadError
from lsemvae.model.heads import MeasureHead
from lsemvae.model.losses import masked_bce


def only_present(x: Tensor, present: Tensor) -> Tensor:
    """Return `x` `[batch, lead, ...]` with zeros where `present` `[batch, lead]` is false, whatever stood there (NaN too)."""
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
        """Return the hidden layer `[batch, hidden]` of a map `h` and presence `[batch, lead]`."""
        pooled = torch.cat([h.mean(-1), h.amax(-1), present.to(h.dtype)], -1)
        return self.dropout(torch.relu(self.hidden(pooled)))


class BaselineScreen(nn.Module):
    """Logits from a vector of evidence; with `measures` their values are regressed from the same vector, as in LS-EMVAE.

    Parameters
    ----------
    labels, measures : names of the outputs
    n_evidence : length of the evidence
    measuring : weight of the regression in fine-tuning
    """

    pretrains: bool

    def __init__(self, labels: tuple[str, ...], measures: tuple[str, ...], n_evidence: int, measuring: float) -> None:
        super().__init__()
        self.labels, self.measures, self.measuring = tuple(labels), tuple(measures), measuring
        self.measure = MeasureHead(n_evidence, len(measures)) if measures else None

    def evidence(self, x: Tensor, present: Tensor) -> Tensor:
        """Return `[batch, evidence]` from what the present leads show."""
        raise NotImplementedError

    def read(self, evidence: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        raise NotImplementedError

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        return self.read(self.evidence(x, present))

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
        """Return `loss`, the masked cross-entropy through the leads `seen`, and the regression where there are measures."""
        evidence = self.evidence(x, seen)
        bce = masked_bce(self.read(evidence), labels, pos_weight=weight)
        if self.measure is None or measured is None:
            return {"loss": bce, "bce": bce}
        measuring = self.measure.loss(evidence, measured)
        return {"loss": bce + self.measuring * measuring, "bce": bce, "measuring": measuring}
