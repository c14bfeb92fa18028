"""Defects of the reference implementation behind named switches: all off by default, each on its own to show its price.

=========================  ==============================================================================================
switch                     what the reference does
=========================  ==============================================================================================
`lead_blind_decoder`       one decoder that is not told which lead it draws: all leads get the same waveform
`dropped_prior`            the standard normal never joins a product (13 experts // 4 groups = 3: the 13th is cut off)
`kl_of_unsampled_mean`     the KL term is that of the arithmetic mean of the leads' parameters, which nobody samples
`lost_gradients`           `zero_grad` at every batch while the optimizer steps at every second one
`per_lead_zscore`          each lead of each recording is scaled to mean 0 and sd 1: axis and voltage are gone
`positional_groups`        groups are cut by position: six leads and a prior make four groups of one, aVL and aVF are cut off
`crossed_avl_avf`          the classifier feeds aVF to the encoder that was pre-trained on aVL, and aVL to that of aVF
=========================  ==============================================================================================

All are boolean fields of `LsEmvaeConfig` and `PaperConfig`, but for two: `dropped_prior` is the field `prior=False`, and
`lost_gradients` belongs to the optimizer: `TrainConfig(lost_gradients=True)`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from lsemvae.ecg.errors import FormatError

if TYPE_CHECKING:
    from torch import Tensor

    from lsemvae.model.config import LsEmvaeConfig
    from lsemvae.model.paper_config import PaperConfig

    _Config = TypeVar("_Config", bound=LsEmvaeConfig | PaperConfig)

MODEL_SWITCHES: Final = (
    "lead_blind_decoder",
    "dropped_prior",
    "kl_of_unsampled_mean",
    "per_lead_zscore",
    "positional_groups",
    "crossed_avl_avf",
)
# The reference cuts the experts into at most this many groups.
N_POSITIONAL_GROUPS: Final = 4
FLAT_SD: Final = 1e-5  # in mV, 10 nV: less is rounding of a constant, no signal to scale


def with_defects(config: _Config, *names: str) -> _Config:
    """Return the configuration with these defects of the reference switched on."""
    unknown = [name for name in names if name not in MODEL_SWITCHES]
    if unknown:
        raise FormatError(
            f"found switches {unknown}, expected some of {', '.join(MODEL_SWITCHES)}",
            advice="lost_gradients is a field of TrainConfig.",
        )
    changed: dict[str, Any] = {name: True for name in names if name != "dropped_prior"}
    if "dropped_prior" in names:
        changed["prior"] = False
    return replace(config, **changed)


def zscore(x: Tensor) -> Tensor:
    """Scale each lead of `[batch, lead, time]` to mean 0 and sd 1 (n - 1 in the divisor); a flat lead becomes zero."""
    centred = x - x.mean(-1, keepdim=True)
    sd = centred.square().sum(-1, keepdim=True).div(x.shape[-1] - 1).sqrt()
    return (centred / sd.clamp(min=FLAT_SD)).masked_fill(sd < FLAT_SD, 0.0)


def crossed(leads: tuple[str, ...]) -> list[int]:
    """Return positions of `leads` with aVL and aVF exchanged; unchanged where one of them is missing."""
    order = list(range(len(leads)))
    if "aVL" in leads and "aVF" in leads:
        a, b = leads.index("aVL"), leads.index("aVF")
        order[a], order[b] = b, a
    return order


def positional_members(present: Tensor, *, prior: bool) -> tuple[Tensor, Tensor]:
    """Cut groups by position: return experts of each, bool `[batch, 4, lead + 1]`, and which groups exist `[batch, 4]`.

    The experts of a recording are its present leads in order and then, with `prior`, the standard normal (the last column). With M
    experts there are g = min(4, M) groups of M // g; what does not divide is cut off.
    """
    experts = torch.cat([present, torch.full_like(present[:, :1], prior)], 1)
    count = experts.sum(1, keepdim=True)
    n_groups = count.clamp(max=N_POSITIONAL_GROUPS)
    size = count // n_groups.clamp(min=1)
    group = (experts.cumsum(1) - 1) // size.clamp(min=1)
    group = group.masked_fill(~experts, -1).masked_fill(group >= n_groups, -1)
    number = torch.arange(N_POSITIONAL_GROUPS, device=present.device)
    return group.unsqueeze(1) == number.view(1, -1, 1), number < n_groups
