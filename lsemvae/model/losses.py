"""Terms of the objectives. Divergences are in nats per latent element; who calls them sums and averages.

Exponentials of log-variances and sums of divergences lose too much in 16 bits: `in_float32` keeps them in float32 under
autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")
_HALF: Final = (torch.bfloat16, torch.float16)


def _widened(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def in_float32(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run `function` with autocast off and 16-bit tensor arguments widened; float32 and float64 pass as they are."""

    @wraps(function)
    def wide(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        device = next((a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*map(_widened, args), **{k: _widened(v) for k, v in kwargs.items()})  # type: ignore[arg-type]

    return wide


@in_float32
def gaussian_kl(mean_q: Tensor, logvar_q: Tensor, mean_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return KL(q || p) per element of two diagonal Gaussians (Kingma and Welling 2014, appendix B)."""
    ratio = (logvar_q - logvar_p).exp()
    return 0.5 * (ratio + (mean_q - mean_p).square() * (-logvar_p).exp() - 1 - (logvar_q - logvar_p))


def standard_normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(q || N(0, 1)) per element."""
    zero = torch.zeros_like(mean)
    return gaussian_kl(mean, logvar, zero, zero)


@in_float32
def lead_nll(x: Tensor, drawn: Tensor, sd: Tensor) -> Tensor:
    """Return the nats per sample of each lead `[batch, lead]` (negative log-likelihood); `sd` `[batch or 1, lead, 1]`."""
    nll = 0.5 * ((x - drawn) / sd).square() + sd.log() + 0.5 * math.log(2 * math.pi)
    return nll.mean(-1)


def gaussian_nll(x: Tensor, drawn: Tensor, sd: Tensor, target: Tensor) -> Tensor:
    """Return the nats per sample over the leads in `target` `[batch, lead]`; `sd` `[batch or 1, lead, 1]`."""
    return lead_nll(x, drawn, sd)[target].mean()


def masked_bce(logits: Tensor, labels: Tensor, *, pos_weight: Tensor | None = None) -> Tensor:
    """Return binary cross-entropy over the labels that are not NaN: a statement nobody made is not a negative."""
    known = ~torch.isnan(labels)
    target = torch.where(known, labels, torch.zeros_like(labels))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def masked_huber(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the Huber loss (delta 1) of standardized `[batch, measure]` over cells that are not NaN (Huber 1964)."""
    known = ~torch.isnan(measured)
    target = torch.where(known, measured, predicted.detach())
    loss = torch.nn.functional.smooth_l1_loss(predicted, target, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def soft_bce(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return the distillation loss of independent binary outputs at a temperature (Hinton 2015), scaled by T^2."""
    soft = torch.sigmoid(teacher_logits / temperature)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits / temperature, soft)
    entropy = torch.nn.functional.binary_cross_entropy(soft, soft)
    return (loss - entropy) * temperature**2
