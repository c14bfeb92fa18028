"""MVAE (Wu and Goodman 2018, arXiv 1802.05335): product of experts with the prior, trained by the sub-sampled bound.

`q(z | X) = p(z) prod_i q(z | x_i)`: a missing lead is a factor left out. The objective is a sum of evidence lower bounds::

    ELBO(X) + sum_i ELBO({x_i}) + sum_j ELBO(X_j)   over all leads, each single lead, and k random subsets X_j

each reconstructing the leads that its posterior has seen; all are divided by the observed samples of the first. Two things follow
the shared training loop and not the paper, and each leaves a valid bound: the first posterior sees `present` and draws `target`;
and the sum over single leads is estimated without bias from `N_SINGLES` leads a step, weighted by their number.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lsemvae.model.baselines.screen import only_present
from lsemvae.model.baselines.vae import MultimodalVae, total_kl
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.fusion import product_of_experts
from lsemvae.model.lsemvae import sample

N_SINGLES: Final = 4  # single-lead bounds a step: all twelve would draw as many leads as the joint bound does
N_SUBSETS: Final = 1  # random subsets a step (the paper's k)


def log_weight(present: Tensor) -> Tensor:
    """Return the log weight of each expert: 0 for a present lead, -inf for an absent one."""
    return torch.zeros(present.shape, device=present.device).masked_fill(~present, float("-inf"))


class Mvae(MultimodalVae):
    """Product of the present leads' experts and the standard normal."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        super().__init__(labels, measures, config or LsEmvaeConfig())

    def joint(self, experts: tuple[Tensor, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance `[batch, latent, step]` of the product over `present` and the prior.

        Leads that no recording of the batch has are left out beforehand: a single lead then costs two experts, not thirteen.
        Some recording has a lead; one that has none gets the prior.
        """
        mean, logvar = experts
        used = present.any(0).nonzero()[:, 0]
        return product_of_experts(mean[:, used], logvar[:, used], log_weight(present[:, used]), prior=True)

    def latent_mean(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the mean of the product."""
        return self.joint(self.encode(x, present), present)[0]

    def bound(
        self, x: Tensor, experts: tuple[Tensor, Tensor], seen: Tensor, target: Tensor, g: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return reconstruction and KL of one bound in nats, summed over the recordings that have a target."""
        mean, logvar = self.joint(experts, seen)
        leads = target.any(0).nonzero()[:, 0]
        drawn = self.decoder(sample(mean, logvar, g), leads)
        nats = self.nll(x, drawn, target, leads) * target.sum() * x.shape[-1]
        return nats, (total_kl(mean, logvar) * target.any(1)).sum()

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the sum of bounds as `loss`, with `nll` and `kl` of the joint one, and the sums `singles` and `subsets`."""
        x = only_present(x, target)
        experts = self.encode(only_present(x, present), present)
        rise, n = self.rise(progress), target.sum() * x.shape[-1]
        nll, kl = (part / n for part in self.bound(x, experts, present, target, g))
        terms = {"nll": nll, "kl": kl}
        for name, drawn in (("singles", draw_singles(present, g)), ("subsets", draw_subsets(present, g))):
            parts = [self.bound(x, experts, seen, seen, g) for seen, _ in drawn]
            terms[name] = (
                torch.stack([w * (a + rise * b) for (a, b), (_, w) in zip(parts, drawn, strict=True)]).sum() / n
            )
        return {"loss": nll + rise * kl + terms["singles"] + terms["subsets"], **terms}


def draw_singles(present: Tensor, g: torch.Generator | None = None) -> list[tuple[Tensor, float]]:
    """Draw `N_SINGLES` of the batch's leads: presence `[batch, lead]` of each alone, and its weight in the sum."""
    candidates = present.any(0).nonzero()[:, 0]
    order = torch.randperm(len(candidates), generator=g)[:N_SINGLES].to(candidates.device)
    only = torch.nn.functional.one_hot(candidates[order], present.shape[1]).bool()
    return [(present & lead, len(candidates) / len(order)) for lead in only]


def draw_subsets(present: Tensor, g: torch.Generator | None = None) -> list[tuple[Tensor, float]]:
    """Draw `N_SUBSETS` subsets `[batch, lead]`, each uniform over the non-empty sets of the leads in the batch."""
    candidates = present.any(0)
    drawn: list[tuple[Tensor, float]] = []
    while len(drawn) < N_SUBSETS:
        subset = (torch.rand(present.shape[1], generator=g) < 0.5).to(present.device)
        if bool((subset & candidates).any()):
            drawn.append((present & subset, 1.0))
    return drawn
