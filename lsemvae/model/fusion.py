"""Hierarchical fusion (HiME): a product of experts inside each named group of leads, a true mixture across groups.

Products are computed on log-precisions: `logvar = -logsumexp(-logvar_e)` and a softmax-weighted mean, so that no
constant is added to a variance (Hinton 2002 for the product; Wu and Goodman 2018 for the prior as an expert).

Across groups the mixture `sum_g w_g N(mu_g, var_g)` is replaced by the Gaussian with its mean and variance::

    mu = sum_g w_g mu_g ;  var = sum_g w_g (var_g + mu_g^2) - mu^2

Moment matching is chosen over sampling a component because everything downstream (the KL term, the head, the student
that learns to match the posterior) then sees one Gaussian, with a closed-form divergence and one decoder pass. Its
variance grows where groups disagree, which is what an abstaining screen needs.

Other fusions, for ablations (`LsEmvaeConfig.hierarchy`, `.mixture`, `.limb_experts`):

- `mixture="stratified"`: the mixture itself. The evidence lower bound takes one sample of each group, weighted by the group's weight,
  and bounds the divergence by `sum_g w_g KL(q_g || p)` (Shi 2019; KL is convex). What is deterministic (head, alignment, matching) reads
  the mixture's exact mean and its moment-matched variance. One weight a group, not one a channel: a sample belongs to one group as a whole.
- `mixture="parameter_average"`: the reference. Means and log-variances are averaged: neither a mixture nor its moments.
- `hierarchy="poe"`: one product of all leads (Wu and Goodman 2018). `hierarchy="moe"`: a mixture of the single leads (Shi 2019), each
  with the prior where `prior` keeps it; `limb_rank` has no part in it, for a mixture does not count evidence twice.
- `limb_experts="measured"`: where I and II are there, III, aVR, aVL and aVF are no experts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LIMB_LEADS, MEASURED_LEADS
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.losses import in_float32
from lsemvae.model.paper_config import PaperConfig
from lsemvae.model.switches import N_POSITIONAL_GROUPS, positional_members


@in_float32
def product_of_experts(mean: Tensor, logvar: Tensor, log_weight: Tensor, *, prior: bool) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of the product of Gaussians over axis 1 of `[batch, expert, ...]`.

    `log_weight` `[batch, expert]` scales precisions; -inf leaves an expert out.

    With `prior` the standard normal is one more expert. A set with no expert at all is the standard normal either way.
    """
    extra = (1,) * (mean.dim() - 2)
    log_precision = log_weight.view(*log_weight.shape, *extra) - logvar
    empty = torch.isneginf(log_weight).all(1).view(-1, 1, *extra)
    zero = torch.zeros_like(mean[:, :1])
    standard = zero if prior else zero.masked_fill(~empty, float("-inf"))
    mean, log_precision = torch.cat([mean, zero], 1), torch.cat([log_precision, standard], 1)
    joint_logvar = -torch.logsumexp(log_precision, 1)
    share = torch.exp(log_precision + joint_logvar.unsqueeze(1))
    return (share * mean).sum(1), joint_logvar


@in_float32
def match_moments(mean: Tensor, logvar: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of the mixture over axis 1 of `[batch, group, ...]`.

    `weight` is `[batch, group]`, or `[batch, group, channel]` with weights of its own for each channel; it sums to one over
    the groups.
    """
    w = weight.view(*weight.shape, *(1,) * (mean.dim() - weight.dim()))
    joint = (w * mean).sum(1)
    spread = (w * (mean - joint.unsqueeze(1)).square()).sum(1)
    variance = (w * logvar.exp()).sum(1) + spread
    return joint, variance.log()


@in_float32
def average_parameters(mean: Tensor, logvar: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted averages of means and log-variances over axis 1, as the reference; `weight` as in `match_moments`."""
    w = weight.view(*weight.shape, *(1,) * (mean.dim() - weight.dim()))
    return (w * mean).sum(1), (w * logvar).sum(1)


FusionConfig = LsEmvaeConfig | PaperConfig


class Mixture(NamedTuple):
    """Gaussians `[batch, group, ...]` and their weights `[batch, group]` or `[batch, group, channel]`; an absent group weighs 0."""

    mean: Tensor
    logvar: Tensor
    weight: Tensor


class HierarchicalFusion(nn.Module):
    """PoE inside each group, moment-matched mixture across the groups that have at least one lead."""

    groups: Tensor
    limb: Tensor
    derived: Tensor
    measured: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        # Groups hold leads by name, whatever order the leads are in.
        groups: dict[str, list[tuple[str, ...]]] = {
            "hime": [leads for _, leads in config.groups],
            "poe": [config.leads],
            "moe": [(lead,) for lead in config.leads],
        }
        for name, value in (
            ("groups", torch.stack([_named(config, leads) for leads in groups[config.hierarchy]])),
            ("limb", _named(config, LIMB_LEADS)),
            ("measured", _named(config, MEASURED_LEADS)),
            ("derived", _named(config, LIMB_LEADS) & ~_named(config, MEASURED_LEADS)),
        ):
            self.register_buffer(name, value, persistent=False)
        self.prior = config.prior
        self.limb_rank = config.limb_rank
        self.mixture = config.mixture
        self.positional = config.positional_groups
        self.tempered = config.hierarchy != "moe"
        self.measured_only = config.limb_experts == "measured"
        # Mixture weights before the softmax, `[group, channel]`. They start so that each group leads in a share of the
        # channels: where groups see different things, the spread between their means is noise in the mixture, and a
        # channel that one group owns has none. A mixture that is sampled has one weight a group and starts uniform.
        self.group_logits: nn.Parameter | None = None
        n = N_POSITIONAL_GROUPS if self.positional else len(self.groups)
        if config.group_weights == "learned" and config.hierarchy != "poe":
            owner = torch.arange(config.latent) % n
            owned = 2.0 * nn.functional.one_hot(owner, n).T.float()
            self.group_logits = nn.Parameter(torch.zeros(n, 1) if config.mixture == "stratified" else owned)

    def experts(self, present: Tensor) -> Tensor:
        """Return which leads `[batch, lead]` are experts: the present ones, less derived limb leads if only measured count."""
        if not self.measured_only:
            return present
        both = (present & self.measured).sum(1, keepdim=True) == len(MEASURED_LEADS)
        return present & ~(both & self.derived)

    def expert_log_weight(self, present: Tensor) -> Tensor:
        """Return log precision weights `[batch, lead]`: 0, log(rank / n) for n > rank limb leads, -inf where absent."""
        n_limb = (present & self.limb).sum(1, keepdim=True).clamp(min=1)
        limb_weight = torch.log((self.limb_rank / n_limb).clamp(max=1.0))
        weight = torch.where(self.limb & self.tempered, limb_weight, torch.zeros_like(limb_weight))
        return weight.masked_fill(~present, float("-inf"))

    def components(self, mean: Tensor, logvar: Tensor, present: Tensor) -> Mixture:
        """Return one Gaussian a group and the weights, from `[batch, lead, ...]` and presence `[batch, lead]`."""
        experts = self.experts(present)
        if self.positional:
            return self._positional_components(mean, logvar, experts)
        log_weight = self.expert_log_weight(experts)
        means, logvars = [], []
        for member in self.groups:
            in_group = log_weight[:, member]
            mu, lv = product_of_experts(mean[:, member], logvar[:, member], in_group, prior=self.prior)
            means.append(mu)
            logvars.append(lv)
        has_lead = torch.stack([(experts & member).any(1) for member in self.groups], 1)
        return Mixture(torch.stack(means, 1), torch.stack(logvars, 1), self._weight(has_lead))

    def _positional_components(self, mean: Tensor, logvar: Tensor, experts: Tensor) -> Mixture:
        """Return the groups that the reference would cut from these experts; the standard normal is the last of them."""
        member, exists = positional_members(experts, prior=self.prior)
        used = self.expert_log_weight(experts & member[..., :-1].any(1))
        log_weight = torch.cat([used, torch.zeros_like(used[:, :1])], 1)
        zero = torch.zeros_like(mean[:, :1])
        mean, logvar = torch.cat([mean, zero], 1), torch.cat([logvar, zero], 1)
        pairs = [
            product_of_experts(mean, logvar, log_weight.masked_fill(~member[:, g], float("-inf")), prior=False)
            for g in range(N_POSITIONAL_GROUPS)
        ]
        return Mixture(
            torch.stack([p[0] for p in pairs], 1), torch.stack([p[1] for p in pairs], 1), self._weight(exists)
        )

    def combine(self, mixture: Mixture) -> tuple[Tensor, Tensor]:
        """Return one Gaussian `[batch, ...]` for the mixture: its moments, or the reference's average of parameters."""
        return (average_parameters if self.mixture == "parameter_average" else match_moments)(*mixture)

    def forward(self, mean: Tensor, logvar: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return fused mean and log-variance `[batch, ...]` of `[batch, lead, ...]` under presence `[batch, lead]`."""
        return self.combine(self.components(mean, logvar, present))

    def _weight(self, has_lead: Tensor) -> Tensor:
        # Uniform over the groups that have a lead; with none at all every group is the prior, so uniform is right.
        weight = torch.where(has_lead.any(1, keepdim=True), has_lead.float(), torch.ones_like(has_lead.float()))
        weight = weight / weight.sum(1, keepdim=True)
        if self.group_logits is None:
            return weight
        masked = self.group_logits.masked_fill(weight.eq(0).unsqueeze(-1), float("-inf"))
        learned = masked.softmax(1)
        return learned.squeeze(-1) if self.mixture == "stratified" else learned


def _named(config: FusionConfig, leads: tuple[str, ...]) -> Tensor:
    return torch.tensor([lead in leads for lead in config.leads])
