"""Hierarchical fusion (HiME): a product of experts inside each named group of leads, a true mixture across groups.

Products are computed on log-precisions: `logvar = -logsumexp(-logvar_e)` and a softmax-weighted mean, so that no
constant is added to a variance (Hinton 2002 for the product; Wu and Goodman 2018 for the prior as an expert).

Across groups the mixture `sum_g w_g N(mu_g, var_g)` is replaced by the Gaussian with its mean and variance::

    mu = sum_g w_g mu_g ;  var = sum_g w_g (var_g + mu_g^2) - mu^2

Moment matching is chosen over sampling a component because everything downstream (the KL term, the head, the student
that learns to match the posterior) then sees one Gaussian, with a closed-form divergence and one decoder pass. Its
variance grows where groups disagree, which is what an abstaining screen needs. The reference averages log-variances
instead: neither a mixture nor its moments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LIMB_LEADS
from lsemvae.model.config import LsEmvaeConfig


def product_of_experts(mean: Tensor, logvar: Tensor, log_weight: Tensor, *, prior: bool) -> tuple[Tensor, Tensor]:
    """Product over axis 1 of `[batch, expert, ...]`; `log_weight` `[batch, expert]` scales precisions, -inf leaves out.

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


def match_moments(mean: Tensor, logvar: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the mixture over axis 1 of `[batch, group, ...]`.

    `weight` is `[batch, group]`, or `[batch, group, channel]` with weights of its own for each channel; it sums to one over
    the groups.
    """
    w = weight.view(*weight.shape, *(1,) * (mean.dim() - weight.dim()))
    joint = (w * mean).sum(1)
    spread = (w * (mean - joint.unsqueeze(1)).square()).sum(1)
    variance = (w * logvar.exp()).sum(1) + spread
    return joint, variance.log()


class HierarchicalFusion(nn.Module):
    """PoE inside each group, moment-matched mixture across the groups that have at least one lead."""

    groups: Tensor
    limb: Tensor

    def __init__(self, config: LsEmvaeConfig) -> None:
        super().__init__()
        member = torch.zeros(len(config.groups), len(config.leads), dtype=torch.bool)
        for g, (_, leads) in enumerate(config.groups):
            for lead in leads:
                member[g, config.leads.index(lead)] = True
        self.register_buffer("groups", member, persistent=False)
        self.register_buffer("limb", torch.tensor([lead in LIMB_LEADS for lead in config.leads]), persistent=False)
        self.prior = config.prior
        self.limb_rank = config.limb_rank
        self.group_logits = self._group_logits(config) if config.group_weights == "learned" else None

    @staticmethod
    def _group_logits(config: LsEmvaeConfig) -> nn.Parameter:
        """Mixture weights `[group, channel]` before the softmax. They start so that each group leads in a share of the channels.

        Where groups see different things, the spread between their means is noise in the mixture: a channel that one group owns has
        none.
        """
        n = len(config.groups)
        owner = torch.arange(config.latent) % n
        return nn.Parameter(2.0 * nn.functional.one_hot(owner, n).T.float())

    def expert_log_weight(self, present: Tensor) -> Tensor:
        """Log precision weight `[batch, lead]`: 0, or log(rank / n) for n > rank limb leads, or -inf where absent."""
        n_limb = (present & self.limb).sum(1, keepdim=True).clamp(min=1)
        limb_weight = torch.log((self.limb_rank / n_limb).clamp(max=1.0))
        weight = torch.where(self.limb, limb_weight, torch.zeros_like(limb_weight))
        return weight.masked_fill(~present, float("-inf"))

    def forward(self, mean: Tensor, logvar: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """`[batch, lead, ...]` and presence `[batch, lead]` -> fused mean and log-variance `[batch, ...]`."""
        log_weight = self.expert_log_weight(present)
        means, logvars = [], []
        for member in self.groups:
            in_group = log_weight[:, member]
            mu, lv = product_of_experts(mean[:, member], logvar[:, member], in_group, prior=self.prior)
            means.append(mu)
            logvars.append(lv)
        has_lead = torch.stack([(present & member).any(1) for member in self.groups], 1)
        weight = self._group_weight(has_lead)
        if self.group_logits is not None:
            masked = self.group_logits.masked_fill(weight.eq(0).unsqueeze(-1), float("-inf"))
            weight = masked.softmax(1)
        return match_moments(torch.stack(means, 1), torch.stack(logvars, 1), weight)

    @staticmethod
    def _group_weight(has_lead: Tensor) -> Tensor:
        """Uniform over the groups that have a lead; with none at all every group is the prior, so uniform is right."""
        weight = has_lead.float()
        weight = torch.where(has_lead.any(1, keepdim=True), weight, torch.ones_like(weight))
        return weight / weight.sum(1, keepdim=True)
