"""Mixtures over experts or subsets of leads: which components a recording has, and a stratified draw among them."""

from __future__ import annotations

import torch
from torch import Tensor


def component_weights(valid: Tensor) -> Tensor:
    """Uniform weights `[batch, component]` over the valid components; each row of `valid` holds at least one."""
    return valid.float() / valid.sum(1, keepdim=True)


def stratified_component(valid: Tensor, g: torch.Generator | None = None) -> Tensor:
    """One valid component for each recording: index `[batch]`.

    The batch is spread evenly over the components (systematic sampling): each recording draws uniformly, and no component is
    drawn more than one time above its share. One draw a recording estimates the sum over components without bias.
    """
    n, device = len(valid), valid.device
    order = torch.randperm(n, generator=g).to(device)
    place = (order + torch.rand(1, generator=g).to(device)) / n
    rank = (place * valid.sum(1)).long()  # which of the recording's valid components
    reached = valid.cumsum(1) > rank.unsqueeze(1)
    return reached.int().argmax(1)


def pick(parameters: Tensor, component: Tensor) -> Tensor:
    """The chosen row of `[batch, component, ...]` for each recording: `[batch, ...]`."""
    return parameters[torch.arange(len(component), device=component.device), component]
