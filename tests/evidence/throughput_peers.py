"""What the throughput command trains: the published loop re-created, and our presets, each with its own input and objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from reference_loop import ReferenceConfig, ReferenceModel, reference_loss, reference_optimizer
from torch import Tensor, nn

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


def adamw(model: nn.Module, lr: float, weight_decay: float, *, fused: bool) -> torch.optim.AdamW:
    """AdamW; without `fused`, torch's default implementation for the device."""
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=fused or None)


def reference_peer(device: str, *, fused: bool) -> Peer:
    """The plain re-creation with the KL at full weight."""
    config = ReferenceConfig()
    model = ReferenceModel(config).to(device)
    optimizer = adamw(model, config.lr, config.weight_decay, fused=True) if fused else reference_optimizer(model)
    return Peer(
        model, optimizer, lambda x: reference_loss(x, model(x), beta=1.0, config=config), standardized, config.clip_norm
    )


def base_peer(device: str, *, fused: bool) -> Peer:
    """Our default model with its own pre-training objective; all leads are there and seen."""
    from lsemvae.model.config import LsEmvaeConfig
    from lsemvae.model.lsemvae import LsEmvae
    from lsemvae.train.pretrain import PRETRAIN

    model = LsEmvae(LsEmvaeConfig()).to(device)

    def loss(x: Tensor) -> Tensor:
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return model.pretrain_terms(x, present, present, progress=1.0)["loss"]

    return Peer(model, adamw(model, PRETRAIN.lr, PRETRAIN.weight_decay, fused=fused), loss, halved, PRETRAIN.clip_norm)


PEERS: dict[str, Callable[..., Peer]] = {"reference": reference_peer, "base": base_peer}
