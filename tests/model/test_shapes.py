"""Shape contracts of the model, checked here and nowhere in production: each wrapper states what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.ecg.leads import LEADS
from lsemvae.model.config import LsEmvaeConfig, StudentConfig
from lsemvae.model.fusion import HierarchicalFusion, match_moments, product_of_experts
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet

checked: Callable[[Callable[..., object]], Callable[..., object]] = jaxtyped(typechecker=beartype)
TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=5, trunk=(8, 8), summary=6)
MODEL = LsEmvae(TINY).eval()
X, PRESENT = torch.randn(3, 12, 2500), torch.ones(3, 12, dtype=torch.bool)


def test_product_and_mixture_take_one_axis_away() -> None:
    @checked
    def product(
        mean: Float[Tensor, "batch expert *rest"],
        logvar: Float[Tensor, "batch expert *rest"],
        log_weight: Float[Tensor, "batch expert"],
    ) -> tuple[Float[Tensor, "batch *rest"], Float[Tensor, "batch *rest"]]:
        return product_of_experts(mean, logvar, log_weight, prior=True)

    @checked
    def mixture(
        mean: Float[Tensor, "batch group *rest"],
        logvar: Float[Tensor, "batch group *rest"],
        w: Float[Tensor, "batch group"],
    ) -> tuple[Float[Tensor, "batch *rest"], Float[Tensor, "batch *rest"]]:
        return match_moments(mean, logvar, w)

    for rest in ((), (4,), (4, 5)):
        product(torch.randn(2, 3, *rest), torch.randn(2, 3, *rest), torch.zeros(2, 3))
        mixture(torch.randn(2, 3, *rest), torch.randn(2, 3, *rest), torch.full((2, 3), 1 / 3))


def test_fusion_maps_leads_to_one_latent_map() -> None:
    fusion = HierarchicalFusion(TINY)

    @checked
    def fuse(
        mean: Float[Tensor, "batch lead latent step"],
        logvar: Float[Tensor, "batch lead latent step"],
        present: Bool[Tensor, "batch lead"],
    ) -> tuple[Float[Tensor, "batch latent step"], Float[Tensor, "batch latent step"]]:
        return fusion(mean, logvar, present)

    fuse(torch.randn(3, 12, 5, 7), torch.randn(3, 12, 5, 7), PRESENT)


@torch.no_grad()
def test_encoders_decoder_and_head() -> None:
    @checked
    def encode(
        x: Float[Tensor, "batch lead 2500"],
    ) -> tuple[Float[Tensor, "batch lead 5 157"], Float[Tensor, "batch lead 5 157"]]:
        return MODEL.encoders(x)

    @checked
    def decode(z: Float[Tensor, "batch 5 157"], leads: Int[Tensor, "lead"]) -> Float[Tensor, "batch lead 2500"]:
        return MODEL.decoder(z, leads)

    @checked
    def screen(
        x: Float[Tensor, "batch lead 2500"], present: Bool[Tensor, "batch lead"]
    ) -> tuple[Float[Tensor, "batch 13"], Float[Tensor, "batch 1"], Float[Tensor, "batch 6"], Float[Tensor, "batch 6"]]:
        return tuple(MODEL.screen(x, present))  # type: ignore[return-value]

    encode(X)
    decode(torch.randn(3, 5, 157), torch.arange(4))
    screen(X, PRESENT)


@torch.no_grad()
def test_student_and_augmentation() -> None:
    student = StudentNet(StudentConfig()).eval()

    @checked
    def run(ecg: Float[Tensor, "batch 2 2500"]) -> tuple[Float[Tensor, "batch 13"], Float[Tensor, "batch 1"]]:
        return student(ecg)

    @checked
    def vary(x: Float[Tensor, "batch lead time"], known: Bool[Tensor, "batch"]) -> Float[Tensor, "batch lead time"]:
        return augment(x, leads=LEADS, gain_known=known, spec=AugmentSpec(), g=torch.Generator().manual_seed(0))

    run(torch.randn(4, 2, 2500))
    vary(X, torch.ones(3, dtype=torch.bool))


def test_the_checker_does_refuse_a_wrong_shape() -> None:
    @checked
    def wrong(x: Float[Tensor, "batch lead"]) -> Float[Tensor, "batch"]:
        return x

    with pytest.raises(Exception, match="Type-check error"):
        wrong(torch.zeros(2, 3))
