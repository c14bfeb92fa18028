"""What all baselines share: evidence from the leads, logits linear in it, and the objective with labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.model.heads import MeasureHead
from lsemvae.model.losses import masked_bce


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
        """`[batch, evidence]` from what the present leads show."""
        raise NotImplementedError

    def read(self, evidence: Tensor) -> Tensor:
        """Logits `[batch, label]`."""
        raise NotImplementedError

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Logits `[batch, label]`."""
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
        """Masked binary cross-entropy through the leads `seen`, and the regression where there are measures."""
        evidence = self.evidence(x, seen)
        bce = masked_bce(self.read(evidence), labels, pos_weight=weight)
        if self.measure is None or measured is None:
            return {"loss": bce, "bce": bce}
        measuring = self.measure.loss(evidence, measured)
        return {"loss": bce + self.measuring * measuring, "bce": bce, "measuring": measuring}
