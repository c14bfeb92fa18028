"""MMVAE+ (Palumbo 2023, ICLR): what leads share, `u`, and what each has for itself, `w`.

`q(u | X) = 1/M sum_m q(u | x_m)` and `q(w_m | x_m)`. Component m draws u and w_m from lead m; lead m is reconstructed from (u, w_m), every
other lead n from (u, w_n) with `w_n ~ r_n`, a learned prior of that lead: the own encoding of a target never serves its
cross-reconstruction, so that w cannot carry what u should. The objective is the bound with one sample (k = 1)::

    1/M sum_m E [ log p(x_m | u, w_m) + sum_{n != m} log p(x_n | u, w_n) + log p(u) - log q(u | X) - KL(q(w_m | x_m) || p(w_m)) ]

where `log q(u | X)` is the density of the whole mixture at the sample. Differences from the paper: Gaussians instead of Laplace
distributions, as in every model of this package; the plain reparametrized gradient (its DReG estimator matters for k > 1); and the
average over m is taken by one component a recording, spread evenly over the batch, for twelve would need 144 drawn leads a recording.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.screen import only_present
from lsemvae.model.baselines.vae import (
    MultimodalVae,
    component_weights,
    n_observed,
    pick,
    stratified_component,
    total_kl,
)
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.lsemvae import sample

SHARED_PER_PRIVATE: Final = 3  # channels of u for each of w: what one lead adds is less than what all have


def log_normal(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the log-density per element of a diagonal Gaussian."""
    return -0.5 * ((z - mean).square() * (-logvar).exp() + logvar + math.log(2 * math.pi))


def log_mixture(u: Tensor, mean: Tensor, logvar: Tensor, valid: Tensor) -> Tensor:
    """Return the log-density `[batch]` of the uniform mixture over the valid components, at `u` `[batch, latent, step]`."""
    each = log_normal(u.unsqueeze(1), mean, logvar).flatten(2).sum(2)
    return torch.logsumexp(each + component_weights(valid).log(), 1)


class MmvaePlus(MultimodalVae):
    """Encoders give shared and private channels of one map; the head reads the mean of the mixture over u."""

    unread = ("private_mean", "private_logvar", ".logvar.")
    private_mean: nn.Parameter
    private_logvar: nn.Parameter

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        config = config or LsEmvaeConfig()
        private = max(1, config.latent // SHARED_PER_PRIVATE)
        super().__init__(labels, measures, config, private=private)
        self.private = private
        self.private_mean = nn.Parameter(torch.zeros(len(LEADS), self.private, 1))  # r_n: a Gaussian a lead and channel
        self.private_logvar = nn.Parameter(torch.zeros(len(LEADS), self.private, 1))

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return shared and private channels of `[batch, lead, latent + private, step]`."""
        return parameters[:, :, : self.config.latent], parameters[:, :, self.config.latent :]

    @staticmethod
    def components(present: Tensor) -> Tensor:
        """Return which leads are components of the mixture; of a recording without leads one stands for the prior."""
        first = torch.zeros_like(present)
        first[:, 0] = ~present.any(1)
        return present | first

    def latent_mean(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the mean of the mixture over u: the average over the present leads."""
        shared, _ = self.split(self.encode(x, present)[0])
        return torch.einsum("bm,bmcs->bcs", component_weights(self.components(present)), shared)

    def draw_private(self, n: int, steps: int, g: torch.Generator | None = None) -> Tensor:
        """Draw `w` of every lead from its learned prior: `[batch, lead, private, step]`."""
        shape = (n, len(LEADS), self.private, steps)
        return sample(self.private_mean.expand(shape), self.private_logvar.expand(shape), g)

    def draw_leads(self, u: Tensor, w: Tensor) -> Tensor:
        """Draw every lead from the shared `u` `[batch, latent, step]` and its own `w` `[batch, lead, private, step]`."""
        leads = torch.arange(w.shape[1], device=u.device)
        return torch.cat([self.decoder(torch.cat([u, w[:, n]], 1), leads[n : n + 1]) for n in range(w.shape[1])], 1)

    def pretrain_terms(
        self, x: Tensor, present: Tensor, target: Tensor, g: torch.Generator | None = None, *, progress: float
    ) -> dict[str, Tensor]:
        """Return `loss`, `nll` per target sample, and `kl` of u (one-sample estimate) plus that of the component's w."""
        x = only_present(x, target)
        mean, logvar = self.encode(only_present(x, present), present)
        (u_mean, w_mean), (u_logvar, w_logvar) = self.split(mean), self.split(logvar)
        valid = self.components(present)
        m = stratified_component(valid, g)
        u = sample(pick(u_mean, m), pick(u_logvar, m), g)
        own_mean, own_logvar = pick(w_mean, m), pick(w_logvar, m)
        own = torch.nn.functional.one_hot(m, present.shape[1]).bool() & present
        w = torch.where(
            own[..., None, None],
            sample(own_mean, own_logvar, g).unsqueeze(1),
            self.draw_private(len(x), u.shape[-1], g),
        )
        nll = self.nll(x, self.draw_leads(u, w), target, self.all_leads(x))
        zero = torch.zeros_like(u)
        shared = log_mixture(u, u_mean, u_logvar, valid) - log_normal(u, zero, zero).flatten(1).sum(1)
        kl = (shared + total_kl(own_mean, own_logvar)).mean() / n_observed(target, x.shape[-1])
        return {"loss": nll + self.rise(progress) * kl, "nll": nll, "kl": kl}
