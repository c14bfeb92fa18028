"""Terms of the objectives. Divergences are in nats per latent element; who calls them sums and averages."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsemvae.model.precision import in_float32


@in_float32
def gaussian_kl(mean_q: Tensor, logvar_q: Tensor, mean_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL(q || p) per element of two diagonal Gaussians (Kingma and Welling 2014, appendix B)."""
    ratio = (logvar_q - logvar_p).exp()
    return 0.5 * (ratio + (mean_q - mean_p).square() * (-logvar_p).exp() - 1 - (logvar_q - logvar_p))


def standard_normal_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q || N(0, 1)) per element."""
    zero = torch.zeros_like(mean)
    return gaussian_kl(mean, logvar, zero, zero)


@in_float32
def lead_nll(x: Tensor, drawn: Tensor, sd: Tensor) -> Tensor:
    """Negative log-likelihood in nats per sample of each lead, `[batch, lead]`; `sd` `[batch or 1, lead, 1]`."""
    nll = 0.5 * ((x - drawn) / sd).square() + sd.log() + 0.5 * math.log(2 * math.pi)
    return nll.mean(-1)


def gaussian_nll(x: Tensor, drawn: Tensor, sd: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood in nats per sample over the leads marked in `target` `[batch, lead]`; `sd` `[batch or 1, lead, 1]`."""
    return lead_nll(x, drawn, sd)[target].mean()


def masked_bce(logits: Tensor, labels: Tensor, *, pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over the labels that are not NaN: a statement nobody made is not a negative."""
    known = ~torch.isnan(labels)
    target = torch.where(known, labels, torch.zeros_like(labels))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def masked_huber(predicted: Tensor, measured: Tensor) -> Tensor:
    """Huber loss (delta 1) of standardized values `[batch, measure]` over the cells that are not NaN (Huber 1964)."""
    known = ~torch.isnan(measured)
    target = torch.where(known, measured, predicted.detach())
    loss = torch.nn.functional.smooth_l1_loss(predicted, target, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def soft_bce(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Distillation of independent binary outputs at a temperature (Hinton 2015), scaled by T^2."""
    soft = torch.sigmoid(teacher_logits / temperature)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits / temperature, soft)
    entropy = torch.nn.functional.binary_cross_entropy(soft, soft)
    return (loss - entropy) * temperature**2
