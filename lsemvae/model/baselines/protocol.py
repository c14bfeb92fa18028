"""What the training loops ask of a model: LS-EMVAE and every baseline answer the same calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lsemvae.model.heads import MeasureHead


@runtime_checkable
class TrainableScreen(Protocol):
    """A screen that is trained in two stages on `x` float32 `[batch, lead, time]` mV and presence bool `[batch, lead]`.

    Leads are in canonical order; an absent lead reads as zeros, and whatever stands there never reaches a result.
    """

    labels: tuple[str, ...]
    measure: MeasureHead | None
    # False: supervised only; the loop then gives the whole budget to fine-tuning.
    pretrains: bool

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Return logits `[batch, label]` from what the present leads show."""

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the objective without labels, `loss`, and its terms.

        `present` are the leads that the encoder sees, `target` those to reconstruct; `progress` 0 to 1 is the share of steps done.
        """

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
        """Return the objective with labels, `loss`, and its terms.

        `present` are the leads recorded, `seen` those of the drawn subset; `labels` `[batch, label]` hold NaN where nobody made
        a statement; `weight` `[label]` multiplies the positives; `measured` `[batch, measure]` holds values for a model that has
        a `measure` head, NaN where unmeasured, and other models leave it aside.
        """

    def finetune_parameters(self) -> Iterable[nn.Parameter]:
        """Return what fine-tuning changes; the loop freezes the rest."""
