"""What the supervised baselines share: masked input and a head that knows the lead set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.screen import BaselineScreen, PresenceHead, only_present
from lsemvae.model.config import LsEmvaeConfig

HIDDEN: Final = 64  # units of the head's one hidden layer
_STEP: Final = 8  # widths are multiples of it: the heads of the transformer share them out


def sized(widths: tuple[int, ...], config: LsEmvaeConfig | None) -> tuple[int, ...]:
    """Return widths that suit the default configuration, scaled as `config` scales the encoders of LS-EMVAE."""
    plain = LsEmvaeConfig()
    size = (config or plain).channels[-1] / plain.channels[-1]
    return tuple(max(_STEP, _STEP * round(width * size / _STEP)) for width in widths)


class SupervisedScreen(BaselineScreen):
    """A feature map of the leads, then a `PresenceHead`; learns from labels alone."""

    pretrains = False

    def __init__(self, labels: tuple[str, ...], measures: tuple[str, ...], channels: int) -> None:
        super().__init__(labels, measures, HIDDEN, LsEmvaeConfig().measuring)
        self.head = PresenceHead(channels, len(LEADS), len(self.labels), HIDDEN)

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return a map `[batch, channel, step]` of `[batch, lead, time]` mV with zeros for absent leads."""
        raise NotImplementedError

    def evidence(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the hidden layer of the head."""
        return self.head(self.features(only_present(x, present), present), present)

    def read(self, evidence: Tensor) -> Tensor:
        """Return logits `[batch, label]`."""
        return self.head.logits(evidence)

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Raise FormatError: a supervised model has no such objective, and is not to be counted as pre-trained."""
        raise FormatError(
            f"found a pre-training step for {type(self).__name__}, expected fine-tuning only",
            advice="Give the whole budget to fine-tuning where `pretrains` is false.",
        )

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters."""
        return self.parameters()
