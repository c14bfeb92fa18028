"""What the throughput command trains: the published loop re-created, and our presets, each with its own input and objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from reference_loop import ReferenceConfig, ReferenceModel, reference_loss, reference_optimizer
from torch import Tensor, nn

if TYPE_CHECKING:
    from lsemvae.model.config import TrainConfig
    from lsemvae.model.lsemvae import LsEmvae
    from lsemvae.model.paper import LsEmvaePaper

N_LEADS, N_SAMPLES = 12, 5000
"""10 s at 500 Hz."""

Loss = Callable[[Tensor], Tensor]


@dataclass
class Peer:
    """What a candidate trains: `loss` maps recordings, in this peer's own form, to a scalar."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    prepare: Callable[[Tensor], Tensor]
    clip_norm: float


def recordings(n: int, *, seed: int = 0) -> Tensor:
    """Random recordings `[n, 12, 5000]` of 0.2 mV rms at 500 Hz."""
    return 0.2 * torch.randn(n, N_LEADS, N_SAMPLES, generator=torch.Generator().manual_seed(seed))


def standardized(x_mv: Tensor) -> Tensor:
    """Each lead of each recording to mean 0 and sd 1, as published."""
    return (x_mv - x_mv.mean(-1, keepdim=True)) / x_mv.std(-1, keepdim=True)


def halved(x_mv: Tensor) -> Tensor:
    """500 Hz to 250 Hz by the mean of neighbours: `[n, 12, 5000]` -> `[n, 12, 2500]`."""
    return x_mv.unflatten(-1, (-1, 2)).mean(-1)


def reference_peer(device: str, *, fused: bool) -> Peer:
    """The plain re-creation with the KL at full weight."""
    config = ReferenceConfig()
    model = ReferenceModel(config).to(device)
    optimizer = reference_optimizer(model, fused=fused)
    return Peer(
        model, optimizer, lambda x: reference_loss(x, model(x), beta=1.0, config=config), standardized, config.clip_norm
    )


def preset_peer(
    model: LsEmvae | LsEmvaePaper, train: TrainConfig, prepare: Callable[[Tensor], Tensor], device: str, *, fused: bool
) -> Peer:
    """One of our models with its own pre-training objective, KL and alignment at full weight; all leads are there and seen."""
    from lsemvae.train.loop import make_optimizer

    model.to(device)
    train = replace(train, optimizer="fused_adamw") if fused else train

    def loss(x: Tensor) -> Tensor:
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return model.pretrain_terms(x, present, present, progress=1.0)["loss"]

    return Peer(model, make_optimizer(train, list(model.parameters())), loss, prepare, train.clip_norm)


def paper_peer(device: str, *, fused: bool) -> Peer:
    """Our preset in the published sizes. It standardizes its input itself, inside the step; its own AdamW is the fused one."""
    from lsemvae.data.labels import LABELS
    from lsemvae.model.paper import LsEmvaePaper
    from lsemvae.model.presets import PAPER_PRETRAIN, preset

    return preset_peer(LsEmvaePaper(preset("paper", labels=LABELS)), PAPER_PRETRAIN, lambda x: x, device, fused=fused)


def base_peer(device: str, *, fused: bool) -> Peer:
    """Our default model."""
    from lsemvae.model.config import LsEmvaeConfig
    from lsemvae.model.lsemvae import LsEmvae
    from lsemvae.train.pretrain import PRETRAIN

    return preset_peer(LsEmvae(LsEmvaeConfig()), PRETRAIN, halved, device, fused=fused)


PEERS: dict[str, Callable[..., Peer]] = {"reference": reference_peer, "paper": paper_peer, "base": base_peer}
