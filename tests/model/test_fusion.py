"""Hierarchical fusion: against the textbook, and against the defects of the reference that its formulas invite."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from lsemvae.model.config import LsEmvaeConfig, from_json, to_json
from lsemvae.model.fusion import HierarchicalFusion, match_moments, product_of_experts
from lsemvae.model.losses import gaussian_kl

FUSION = HierarchicalFusion(LsEmvaeConfig(latent=4))


def _posteriors(seed: int = 0, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 12, 4, 5, generator=g), torch.randn(n, 12, 4, 5, generator=g)


def _present(*leads: str, n: int = 3) -> torch.Tensor:
    return torch.tensor([lead in leads for lead in LEADS]).repeat(n, 1)


@pytest.mark.promise(69)
def test_product_is_the_precision_weighted_mean_with_the_prior_as_one_expert() -> None:
    mean, logvar = _posteriors()
    got_mean, got_logvar = product_of_experts(mean[:, :3], logvar[:, :3], torch.zeros(3, 3), prior=True)
    precision = (-logvar[:, :3]).exp()
    total = precision.sum(1) + 1
    torch.testing.assert_close(got_logvar.exp(), 1 / total)
    torch.testing.assert_close(got_mean, (precision * mean[:, :3]).sum(1) / total)


@pytest.mark.promise(69)
def test_an_empty_set_of_experts_is_the_prior() -> None:
    mean, logvar = _posteriors()
    for prior in (True, False):
        got = product_of_experts(mean, logvar, torch.full((3, 12), float("-inf")), prior=prior)
        assert (got[0] == 0).all()
        assert (got[1] == 0).all()


@pytest.mark.promise(69, 98)
def test_moments_are_those_of_samples_from_the_mixture() -> None:
    g = torch.Generator().manual_seed(1)
    mean, logvar = torch.tensor([[[-1.0], [2.0], [0.5]]]), torch.tensor([[[-1.0], [0.3], [0.0]]])
    weight = torch.tensor([[0.2, 0.5, 0.3]])
    pick = torch.multinomial(weight[0], 400_000, replacement=True, generator=g)
    draws = mean[0, pick, 0] + torch.randn(400_000, generator=g) * (0.5 * logvar[0, pick, 0]).exp()
    got_mean, got_logvar = match_moments(mean, logvar, weight)
    assert got_mean.item() == pytest.approx(draws.mean().item(), abs=0.01)
    assert got_logvar.exp().item() == pytest.approx(draws.var().item(), rel=0.01)


@pytest.mark.promise(70)
def test_defect_dropped_experts_every_lead_changes_the_result_for_every_lead_set() -> None:
    for leads in (LEADS, LIMB_LEADS, ("I", "II")):
        mean, logvar = _posteriors()
        present = _present(*leads)
        base = FUSION(mean, logvar, present)
        for lead in leads:
            moved = mean.clone()
            moved[:, LEADS.index(lead)] += 1
            assert (FUSION(moved, logvar, present)[0] - base[0]).abs().max() > 1e-4, (leads, lead)


@pytest.mark.promise(69)
def test_defect_dropped_prior_the_prior_pulls_towards_zero() -> None:
    mean, logvar = _posteriors()
    without = HierarchicalFusion(dataclasses.replace(LsEmvaeConfig(latent=4), prior=False))
    kept, dropped = FUSION(mean, logvar, _present("I"))[1], without(mean, logvar, _present("I"))[1]
    assert (kept < dropped).all()
    torch.testing.assert_close(dropped, logvar[:, 0])


@pytest.mark.promise(70)
@settings(max_examples=25, deadline=None)
@given(st.permutations(list(LIMB_LEADS)))
def test_permuting_leads_inside_a_group_changes_nothing(order: list[str]) -> None:
    mean, logvar = _posteriors()
    index = [LEADS.index(lead) for lead in order] + list(range(6, 12))
    present = _present(*LEADS)
    a, b = FUSION(mean, logvar, present), FUSION(mean[:, index], logvar[:, index], present)
    torch.testing.assert_close(a[0], b[0])
    torch.testing.assert_close(a[1], b[1])


def test_exchanging_leads_of_two_groups_changes_the_result() -> None:
    mean, logvar = _posteriors()
    index = list(range(12))
    index[0], index[6] = 6, 0
    present = _present(*LEADS)
    assert (FUSION(mean, logvar, present)[0] - FUSION(mean[:, index], logvar[:, index], present)[0]).abs().max() > 1e-3


@pytest.mark.promise(70)
def test_a_missing_lead_is_left_out_exactly() -> None:
    mean, logvar = _posteriors()
    garbage_mean, garbage_logvar = mean.clone(), logvar.clone()
    garbage_mean[:, 7], garbage_logvar[:, 7] = 1e6, -6.0
    present = _present(*(lead for lead in LEADS if lead != "V2"))
    a, b = FUSION(mean, logvar, present), FUSION(garbage_mean, garbage_logvar, present)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


@pytest.mark.promise(71)
def test_six_limb_leads_count_as_two_channels_not_six() -> None:
    mean, logvar = torch.zeros(1, 12, 4, 1), torch.zeros(1, 12, 4, 1)
    two = FUSION(mean, logvar, _present("I", "II", n=1))[1]
    six = FUSION(mean, logvar, _present(*LIMB_LEADS, n=1))[1]
    torch.testing.assert_close(two, six)
    assert (FUSION(mean, logvar, _present("I", n=1))[1] > two).all()


def test_variance_grows_where_groups_disagree() -> None:
    uniform = HierarchicalFusion(LsEmvaeConfig(latent=4, group_weights="uniform"))
    mean, logvar = torch.zeros(1, 12, 4, 1), torch.full((1, 12, 4, 1), -2.0)
    agree = uniform(mean, logvar, _present(*LEADS, n=1))[1]
    mean[:, 6:9] = 3.0
    assert (uniform(mean, logvar, _present(*LEADS, n=1))[1] > agree + 1).all()


def test_learned_group_weights_are_a_mixture_in_each_channel_and_leave_absent_groups_out() -> None:
    mean, logvar = _posteriors()
    limb = FUSION(mean, logvar, _present(*LIMB_LEADS))
    frontal = product_of_experts(
        mean[:, :6], logvar[:, :6], FUSION.expert_log_weight(_present(*LIMB_LEADS))[:, :6], prior=True
    )
    torch.testing.assert_close(limb, frontal)
    owned = HierarchicalFusion(LsEmvaeConfig(latent=4))
    with torch.no_grad():
        owned.group_logits[:] = torch.tensor([[99.0, 0, 0, 99.0], [0, 99.0, 0, 0], [0, 0, 99.0, 0]])  # type: ignore[index]
    whole = owned(mean, logvar, _present(*LEADS))[0]
    torch.testing.assert_close(whole[:, 0], owned(mean, logvar, _present(*LIMB_LEADS))[0][:, 0])
    torch.testing.assert_close(whole[:, 1], owned(mean, logvar, _present("V1", "V2", "V3"))[0][:, 1])


def test_the_mixture_weights_get_a_gradient() -> None:
    fusion = HierarchicalFusion(LsEmvaeConfig(latent=4))
    mean, logvar = _posteriors()
    fusion(mean, logvar, _present(*LEADS))[0].square().sum().backward()
    assert fusion.group_logits.grad.abs().min() > 0  # type: ignore[union-attr]


def test_extreme_log_variances_stay_finite_and_their_gradients_too() -> None:
    mean, logvar = _posteriors()
    mean.requires_grad_()
    logvar = (logvar.sign() * 6.0).requires_grad_()
    out = FUSION(mean, logvar, _present("I", "V6"))
    (out[0].sum() + out[1].sum()).backward()
    assert torch.isfinite(out[0]).all()
    assert torch.isfinite(mean.grad).all()  # type: ignore[arg-type]
    assert torch.isfinite(logvar.grad).all()  # type: ignore[arg-type]


def test_groups_must_name_every_lead_once() -> None:
    with pytest.raises(FormatError, match="each of"):
        LsEmvaeConfig(groups=(("a", ("I", "II")),))


def _uniform(**changes: object) -> HierarchicalFusion:
    return HierarchicalFusion(dataclasses.replace(LsEmvaeConfig(latent=4, group_weights="uniform"), **changes))


def _density(grid: torch.Tensor, mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    return Normal(mean.double(), (0.5 * logvar.double()).exp()).log_prob(grid)


@pytest.mark.promise(98)
@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3), (0.4, 1.0)])
def test_product_is_the_normalized_product_of_densities_on_a_grid(weights: tuple[float, ...], *, prior: bool) -> None:
    """Each expert's density raised to its weight (the rank temperature), times the prior's: mean and variance by summation."""
    g = torch.Generator().manual_seed(len(weights))
    mean, logvar = torch.randn(2, 1, len(weights), 1, generator=g)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    log_density = _density(grid, torch.tensor(0.0), torch.tensor(0.0)) if prior else torch.zeros_like(grid)
    for k, weight in enumerate(weights):
        log_density = log_density + weight * _density(grid, mean[0, k], logvar[0, k])
    p = (log_density - log_density.max()).exp()
    p = p / p.sum()
    expected_mean = (p * grid).sum()
    expected_variance = (p * (grid - expected_mean).square()).sum()
    got_mean, got_logvar = product_of_experts(mean, logvar, torch.tensor([weights]).log(), prior=prior)
    assert got_mean.item() == pytest.approx(expected_mean.item(), abs=1e-4)
    assert got_logvar.exp().item() == pytest.approx(expected_variance.item(), rel=1e-4)


def test_six_limb_leads_are_a_product_of_densities_at_the_temperature_of_two() -> None:
    mean, logvar = _posteriors()
    got = FUSION(mean, logvar, _present(*LIMB_LEADS))
    precision = (2 / 6) * (-logvar[:, :6]).exp()
    torch.testing.assert_close(got[1].exp(), 1 / (1 + precision.sum(1)))
    torch.testing.assert_close(got[0], (precision * mean[:, :6]).sum(1) / (1 + precision.sum(1)))


def test_one_flat_product_takes_all_leads_and_one_prior() -> None:
    mean, logvar = _posteriors()
    got = HierarchicalFusion(LsEmvaeConfig(latent=4, hierarchy="poe"))(mean, logvar, _present(*LEADS))
    precision = (-logvar).exp()
    precision[:, :6] *= 2 / 6
    torch.testing.assert_close(got[1].exp(), 1 / (1 + precision.sum(1)))
    torch.testing.assert_close(got[0], (precision * mean).sum(1) / (1 + precision.sum(1)))


def test_a_flat_mixture_is_that_of_the_present_leads() -> None:
    mean, logvar = _posteriors()
    present = _present("I", "aVR", "V6")
    got = _uniform(hierarchy="moe", prior=False)(mean, logvar, present)
    chosen = [0, 3, 11]
    want = match_moments(mean[:, chosen], logvar[:, chosen], torch.full((3, 3), 1 / 3))
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1], want[1])


def test_a_flat_mixture_keeps_the_prior_in_each_lead() -> None:
    mean, logvar = _posteriors()
    got = _uniform(hierarchy="moe")(mean, logvar, _present("III"))
    want = product_of_experts(mean[:, 2:3], logvar[:, 2:3], torch.zeros(3, 1), prior=True)
    torch.testing.assert_close(got, want)


def test_parameter_average_is_no_mixture() -> None:
    mean, logvar = _posteriors()
    mixture = _uniform().components(mean, logvar, _present(*LEADS))
    got = _uniform(mixture="parameter_average")(mean, logvar, _present(*LEADS))
    torch.testing.assert_close(got[0], mixture.mean.mean(1))
    torch.testing.assert_close(got[1], mixture.logvar.mean(1))
    assert (_uniform()(mean, logvar, _present(*LEADS))[1] > got[1]).all(), (
        "the mixture's variance holds the disagreement too"
    )


def test_measured_experts_leave_derived_limb_leads_out_only_where_both_are_measured() -> None:
    mean, logvar = _posteriors()
    measured, plain = HierarchicalFusion(LsEmvaeConfig(latent=4, limb_experts="measured")), FUSION
    torch.testing.assert_close(
        measured(mean, logvar, _present(*LIMB_LEADS)), plain(mean, logvar, _present("I", "II")), rtol=0, atol=0
    )
    without_i = _present(*LIMB_LEADS[1:])
    assert torch.equal(measured.experts(without_i), without_i)
    assert torch.equal(measured(mean, logvar, without_i)[0], plain(mean, logvar, without_i)[0])


def test_limb_rank_six_is_six_independent_experts() -> None:
    mean, logvar = _posteriors()
    naive = HierarchicalFusion(LsEmvaeConfig(latent=4, limb_rank=6))
    got = naive(mean, logvar, _present(*LIMB_LEADS))[1]
    torch.testing.assert_close((-got).exp(), 1 + (-logvar[:, :6]).exp().sum(1))


@pytest.mark.promise(99)
@settings(max_examples=10, deadline=None)
@given(st.permutations(range(3)))
def test_the_order_of_groups_changes_nothing(order: list[int]) -> None:
    mean, logvar = _posteriors()
    config = LsEmvaeConfig(latent=4)
    other = HierarchicalFusion(dataclasses.replace(config, groups=tuple(config.groups[k] for k in order)))
    with torch.no_grad():
        other.group_logits.copy_(FUSION.group_logits[order])  # type: ignore[union-attr, index]
    for present in (_present(*LEADS), _present(*LIMB_LEADS), _present("V2")):
        a, b = FUSION(mean, logvar, present), other(mean, logvar, present)
        torch.testing.assert_close(a[0], b[0])
        torch.testing.assert_close(a[1], b[1])


@pytest.mark.parametrize(
    "changes",
    [{}, {"mixture": "stratified"}, {"mixture": "parameter_average"}, {"hierarchy": "poe"}, {"hierarchy": "moe"},
     {"limb_experts": "measured"}, {"positional_groups": True}],
)  # fmt: skip
def test_a_recording_without_leads_is_the_prior_whatever_the_fusion(changes: dict[str, object]) -> None:
    mean, logvar = _posteriors()
    got = _uniform(**changes)(mean, logvar, torch.zeros(3, 12, dtype=torch.bool))
    torch.testing.assert_close(got, (torch.zeros_like(got[0]), torch.zeros_like(got[1])))


def test_fusion_and_divergence_keep_float32_under_autocast() -> None:
    """Log-variances of -6 in 16 bits: a product of twelve would lose its third digit."""
    mean, logvar = _posteriors()
    half_mean, half_logvar = mean.bfloat16(), (2 * logvar).bfloat16()
    present = _present(*LEADS)
    want = FUSION(half_mean.float(), half_logvar.float(), present)
    with torch.autocast("cpu", torch.bfloat16):
        got = FUSION(half_mean, half_logvar, present)
        kl = gaussian_kl(half_mean, half_logvar, 0 * half_mean, 0 * half_logvar)
        fused_kl = gaussian_kl(*got, torch.zeros_like(got[0]), torch.zeros_like(got[0]))
    assert {t.dtype for t in (*got, kl, fused_kl)} == {torch.float32}
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    assert torch.equal(kl, gaussian_kl(half_mean.float(), half_logvar.float(), 0 * mean, 0 * logvar))


def test_configuration_survives_json_and_refuses_unknown_keys() -> None:
    config = LsEmvaeConfig(latent=7)
    assert from_json(LsEmvaeConfig, to_json(config)) == config
    with pytest.raises(FormatError, match="latnet"):
        from_json(LsEmvaeConfig, {**to_json(config), "latnet": 3})
