"""MoPoE (Sutter 2021, arXiv 2105.02470): a mixture over products of experts of subsets of leads.

`q(z | X) = 1/K sum_k q_k(z)` with `q_k` proportional to `prod_{i in S_k} q(z | x_i)`. All 4,095 subsets of twelve leads are out of reach;
the family here holds the single leads, the lead sets in use (12, 6, I+II, I), and the named groups of LS-EMVAE (the frontal plane is the
six-lead set): 17 distinct subsets. Where leads are missing each subset shrinks to what is present, empty ones fall away and
equal ones count once: the power set of what is present would hold exactly these.

The bound is the paper's: `KL(1/K sum_k q_k || p) <= 1/K sum_k KL(q_k || p)` (the KL is convex in its first argument), and the
expectation over the mixture is taken by one component a recording, spread evenly over the batch.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lsemvae.ecg.leads import LEADS, LIMB_LEADS, MEASURED_LEADS
from lsemvae.model.baselines.screen import only_present
from lsemvae.model.baselines.vae import MultimodalVae, component_weights, n_observed, pick, stratified_component
from lsemvae.model.config import BASE_GROUPS, LsEmvaeConfig
from lsemvae.model.losses import standard_normal_kl
from lsemvae.model.lsemvae import sample

SETS_IN_USE: Final[tuple[tuple[str, ...], ...]] = (LEADS, LIMB_LEADS, MEASURED_LEADS, ("I",))


def subset_family() -> tuple[tuple[str, ...], ...]:
    """Return the distinct subsets of leads, single ones first."""
    wanted = [(lead,) for lead in LEADS] + [members for _, members in BASE_GROUPS] + list(SETS_IN_USE)
    return tuple(dict.fromkeys(tuple(lead for lead in LEADS if lead in subset) for subset in wanted))


class Mopoe(MultimodalVae):
    """Mixture over the family's products. The products hold no prior, as in the paper's definition."""

    family: Tensor

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        super().__init__(labels, measures, config or LsEmvaeConfig())
        member = torch.tensor([[lead in subset for lead in LEADS] for subset in subset_family()])
        self.register_buffer("family", member, persistent=False)

    def members(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the leads of each subset `[batch, subset, lead]` that are present, and which subsets count `[batch, subset]`.

        A recording without leads keeps one empty subset, whose product is the prior.
        """
        shrunk = self.family & present.unsqueeze(1)
        equal = (shrunk.unsqueeze(2) == shrunk.unsqueeze(1)).all(-1)
        repeated = torch.tril(equal, -1).any(-1)  # equal to one before it
        empty = ~shrunk.any(-1) & present.any(1, keepdim=True)
        return shrunk, ~repeated & ~empty

    def products(self, experts: tuple[Tensor, Tensor], shrunk: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance `[batch, subset, latent, step]` of each subset's product.

        All subsets at once as one matrix product over precisions. The encoders bound log-variances, so precisions neither
        overflow nor vanish; an empty subset gets precision 1 and mean 0.
        """
        mean, logvar = experts
        shape = mean.shape[2:]
        precision = (-logvar).flatten(2).exp()
        member = shrunk.to(mean.dtype)
        total = member @ precision + (~shrunk.any(-1, keepdim=True)).to(mean.dtype)
        joint = (member @ (precision * mean.flatten(2))) / total
        return joint.unflatten(2, shape), -total.log().unflatten(2, shape)

    def mixture(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means, log-variances and which subsets count, for input with zeros in absent leads."""
        shrunk, valid = self.members(present)
        return *self.products(self.encode(x, present), shrunk), valid

    def latent_mean(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the mean of the mixture: the average over its components."""
        mean, _, valid = self.mixture(x, present)
        return torch.einsum("bk,bkcs->bcs", component_weights(valid), mean)

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return `loss`, `nll` through one component a recording, and `kl`, the bound on the mixture's."""
        x = only_present(x, target)
        mean, logvar, valid = self.mixture(only_present(x, present), present)
        chosen, leads = stratified_component(valid, g), self.all_leads(x)
        z = sample(pick(mean, chosen), pick(logvar, chosen), g)
        nll = self.nll(x, self.decoder(z, leads), target, leads)
        each = standard_normal_kl(mean, logvar).flatten(2).sum(2)
        kl = (component_weights(valid) * each).sum(1).mean() / n_observed(target, x.shape[-1])
        return {"loss": nll + self.rise(progress) * kl, "nll": nll, "kl": kl}
