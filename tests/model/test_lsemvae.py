"""The whole model: every lead counts, absent ones do not, the decoder knows its lead, the student's shape."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lsemvae.ecg.errors import LeadError
from lsemvae.ecg.leads import LEADS
from lsemvae.model.config import LsEmvaeConfig, StudentConfig
from lsemvae.model.heads import MeasureHead
from lsemvae.model.losses import gaussian_kl, gaussian_nll, masked_bce, soft_bce
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet

TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=5, trunk=(8, 8), summary=6)


def _model(seed: int = 0) -> LsEmvae:
    torch.manual_seed(seed)
    return LsEmvae(TINY).eval()


def _x(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 12, 2500, generator=torch.Generator().manual_seed(5))


def _all(n: int = 2) -> torch.Tensor:
    return torch.ones(n, 12, dtype=torch.bool)


@pytest.mark.slow
@pytest.mark.promise(70)
@torch.no_grad()
def test_every_lead_changes_the_logits() -> None:
    model, x = _model(), _x()
    base = model(x, _all())
    for k, lead in enumerate(LEADS):
        moved = x.clone()
        moved[:, k] *= 2
        assert (model(moved, _all()) - base).abs().max() > 1e-6, lead


@pytest.mark.promise(70)
@torch.no_grad()
def test_an_absent_lead_cannot_touch_the_result() -> None:
    model, x, present = _model(), _x(), _all()
    present[:, 6:] = False
    garbage = x.clone()
    garbage[:, 6:] = 1e3
    assert torch.equal(model(x, present), model(garbage, present))


@torch.no_grad()
def test_absence_is_decided_per_recording() -> None:
    model, x, present = _model(), _x(), _all()
    present[0, 6:] = False
    both = model(x, present)
    torch.testing.assert_close(both[0], model(x[:1], present[:1])[0])
    torch.testing.assert_close(both[1], model(x[1:], present[1:])[0])


@pytest.mark.promise(72)
@torch.no_grad()
def test_defect_lead_blind_decoder_leads_are_drawn_differently() -> None:
    model = _model()
    drawn = model.decoder(torch.randn(1, 5, 157), torch.arange(12))
    assert drawn.shape == (1, 12, 2500)
    assert (drawn[0, 0] - drawn[0, 3]).abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.promise(72)
def test_one_latent_can_draw_opposite_leads() -> None:
    """What a lead-blind decoder cannot learn: aVR as the mirror image of II."""
    torch.manual_seed(0)
    model = LsEmvae(TINY)
    t = torch.arange(2500) / 250
    x = torch.zeros(4, 12, 2500)
    x[:, 1] = torch.sin(2 * torch.pi * 2 * t)
    x[:, 3] = -x[:, 1]
    target = torch.zeros(4, 12, dtype=torch.bool)
    target[:, [1, 3]] = True
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.elbo_terms(x, target, target, torch.Generator().manual_seed(0))["nll"].backward()
        optimizer.step()
    drawn = model.decoder(model.posterior(x, target).mean, torch.arange(12))
    residual = (x - drawn)[:, [1, 3]].square().mean() / x[:, [1, 3]].square().mean()
    assert residual < 0.3


def test_divergence_is_that_of_the_sampled_posterior() -> None:
    model, x = _model(), _x()
    q = model.posterior(x, _all())
    expected = kl_divergence(Normal(q.mean, (0.5 * q.logvar).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    terms = model.elbo_terms(x, _all(), _all())
    torch.testing.assert_close(terms["kl"] * 12 * 2500, expected)


def test_pairwise_divergence_matches_torch() -> None:
    a, la, b, lb = torch.randn(4, 3, 5)
    expected = kl_divergence(Normal(a, (0.5 * la).exp()), Normal(b, (0.5 * lb).exp()))
    torch.testing.assert_close(gaussian_kl(a, la, b, lb), expected)


def test_likelihood_matches_torch_and_counts_only_target_leads() -> None:
    x, drawn, sd = torch.randn(2, 3, 50), torch.randn(2, 3, 50), torch.tensor([0.5, 1.0, 2.0])
    target = torch.tensor([[True, False, True], [True, False, False]])
    each = -Normal(drawn, sd.view(1, 3, 1)).log_prob(x).mean(-1)
    torch.testing.assert_close(gaussian_nll(x, drawn, sd.view(1, 3, 1), target), each[target].mean())


@pytest.mark.promise(73)
def test_a_missing_statement_is_not_a_negative() -> None:
    logits = torch.tensor([[3.0, -2.0]], requires_grad=True)
    masked_bce(logits, torch.tensor([[float("nan"), 1.0]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] < 0


def test_distillation_is_zero_at_the_teacher_and_positive_elsewhere() -> None:
    teacher = torch.tensor([[1.5, -3.0]])
    assert soft_bce(teacher, teacher, 2.0).abs() < 1e-6
    assert soft_bce(teacher + 1, teacher, 2.0) > 0.01


@torch.no_grad()
def test_the_fused_latent_widens_when_leads_of_a_group_are_taken_away() -> None:
    """Fewer experts in a product: less certain everywhere, and never less than the prior alone."""
    model, x = _model(), _x()
    widths = []
    for leads in (("V1", "V2", "V3"), ("V1", "V2"), ("V1",)):
        present = torch.tensor([lead in leads for lead in LEADS]).repeat(2, 1)
        widths.append(model.posterior(x, present).logvar)
    assert (widths[0] < widths[1]).all()
    assert (widths[1] < widths[2]).all()
    assert (widths[2] < 0).all()


def test_a_batch_without_any_lead_is_an_error_that_says_so() -> None:
    with pytest.raises(LeadError, match="no recording has a lead"):
        _model()(_x(), torch.zeros(2, 12, dtype=torch.bool))


@torch.no_grad()
def test_alignment_is_the_divergence_of_the_fused_posterior_from_each_present_lead() -> None:
    model, x, present = _model(), _x(), _all()
    present[0, 3:] = False
    q = model.posterior(x, present)
    fused = Normal(q.mean, (0.5 * q.logvar).exp())
    each = torch.stack([
        kl_divergence(fused, Normal(q.lead_mean[:, k], (0.5 * q.lead_logvar[:, k]).exp())).flatten(1).mean(1)
        for k in range(12)
    ], 1)  # fmt: skip
    torch.testing.assert_close(model.elbo_terms(x, present, present)["alignment"], each[present].mean())


@torch.no_grad()
def test_student_gives_logits_and_one_uncertainty() -> None:
    torch.manual_seed(0)
    student = StudentNet(StudentConfig()).eval()
    logits, uncertainty = student(torch.randn(3, 2, 2500))
    assert logits.shape == (3, len(student.config.labels))
    assert uncertainty.shape == (3, 1)
    assert sum(p.numel() for p in student.parameters()) < 300_000


@pytest.mark.promise(97)
def test_a_value_nobody_measured_has_no_gradient_and_the_scale_ignores_it() -> None:
    head = MeasureHead(3, 2)
    nan = float("nan")
    head.fit_scale(torch.tensor([[1.0, nan], [3.0, nan]]))
    assert head.mean.tolist() == [2.0, 0.0]
    assert head.sd.tolist() == [1.0, 1.0]
    summary = torch.randn(2, 3, requires_grad=True)
    head.loss(summary, torch.tensor([[nan, nan], [2.0, nan]])).backward()
    assert (summary.grad[0] == 0).all()  # type: ignore[index]
    assert (summary.grad[1] != 0).any()  # type: ignore[index]
    assert head.linear.weight.grad[1].abs().sum() == 0  # type: ignore[index]


def test_the_likelihoods_width_follows_the_leads_own_voltage() -> None:
    decoder = _model().decoder
    x = torch.randn(2, 12, 2500) * torch.linspace(0.1, 1.2, 12).view(1, 12, 1)
    ratio = decoder.sd_for(x)[:, :, 0] / x.square().mean(-1).sqrt()
    torch.testing.assert_close(ratio, decoder.sd().expand(2, 12) / 0.15)
    assert (decoder.sd_for(torch.zeros(1, 12, 10)) > 0).all()


def _stratified(**changes: object) -> LsEmvae:
    torch.manual_seed(0)
    return LsEmvae(replace(TINY, mixture="stratified", group_weights="uniform", **changes)).eval()


@pytest.mark.slow
@pytest.mark.promise(98)
@torch.no_grad()
def test_stratified_likelihood_is_that_of_the_mixture_by_monte_carlo() -> None:
    """One sample a group, weighted, against samples whose group is drawn: the same expectation, with less spread."""
    model, x, present = _stratified(), _x(1), _all(1)
    q = model.posterior(x, present)
    mix = model.fusion.components(q.lead_mean, q.lead_logvar, present)
    g, n = torch.Generator().manual_seed(0), 100
    got = torch.tensor([float(model.elbo_terms(x, present, present, g)["nll"]) for _ in range(n)])
    pick = torch.multinomial(mix.weight[0], n, replacement=True, generator=g)
    z = mix.mean[0, pick] + torch.randn(n, *mix.mean.shape[2:], generator=g) * (0.5 * mix.logvar[0, pick]).exp()
    sd = model.decoder.sd_for(x)
    drawn = torch.cat([model.decoder(part, torch.arange(12)) for part in z.split(50)])
    want = -Normal(drawn, sd).log_prob(x).mean((1, 2))
    spread = float((got.var() + want.var()).div(n).sqrt())
    assert abs(float(got.mean() - want.mean())) < 4 * spread
    assert got.std() < want.std()


@pytest.mark.slow
@torch.no_grad()
def test_stratified_divergence_bounds_that_of_the_mixture() -> None:
    """sum_g w_g KL(q_g || p) is no less than KL(mixture || p), and no more than that plus the entropy of the weights."""
    model, x, present = _stratified(), _x(1), _all(1)
    with torch.no_grad():
        for k, encoder in enumerate(model.encoders.per_lead):
            encoder.mean.bias += 2.0 * (k // 6 - 0.5)  # type: ignore[operator, union-attr]
    q = model.posterior(x, present)
    mean, logvar, weight = model.fusion.components(q.lead_mean, q.lead_logvar, present)
    g, n = torch.Generator().manual_seed(0), 2000
    pick = torch.multinomial(weight[0], n, replacement=True, generator=g)
    z = mean[0, pick] + torch.randn(n, *mean.shape[2:], generator=g) * (0.5 * logvar[0, pick]).exp()
    each = Normal(mean[0], (0.5 * logvar[0]).exp()).log_prob(z.unsqueeze(1)).flatten(2).sum(2)
    log_q = torch.logsumexp(each + weight[0].log(), 1)
    estimate = log_q - Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
    bound = float(model.elbo_terms(x, present, present)["kl"]) * 12 * 2500
    error = 4 * float(estimate.std()) / n**0.5
    assert float(estimate.mean()) - error < bound < float(estimate.mean()) + math.log(3) + error


@torch.no_grad()
def test_stratified_head_reads_the_mean_of_the_mixture_and_absent_groups_are_not_drawn() -> None:
    model, x, present = _stratified(), _x(), _all()
    q = model.posterior(x, present)
    mix = model.fusion.components(q.lead_mean, q.lead_logvar, present)
    torch.testing.assert_close(q.mean, mix.mean.mean(1))
    limb = present.clone()
    limb[:, 6:] = False
    calls: list[int] = []
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    model.elbo_terms(x, limb, present)
    assert len(calls) == 1
    model.elbo_terms(x, present, present)
    assert len(calls) == 4


def test_stratified_weights_are_one_a_group_and_get_a_gradient() -> None:
    model = LsEmvae(replace(TINY, mixture="stratified"))
    assert model.fusion.group_logits.shape == (3, 1)  # type: ignore[union-attr]
    model.pretrain_terms(_x(), _all(), _all(), progress=1.0)["loss"].backward()
    assert model.fusion.group_logits.grad.abs().min() > 0  # type: ignore[union-attr]


@pytest.mark.promise(98)
def test_gaussian_divergence_is_the_monte_carlo_average_of_the_log_ratio() -> None:
    g = torch.Generator().manual_seed(0)
    mean_q, logvar_q, mean_p, logvar_p = (torch.tensor(v) for v in (0.7, -1.0, -0.4, 0.5))
    q, p = Normal(mean_q, (0.5 * logvar_q).exp()), Normal(mean_p, (0.5 * logvar_p).exp())
    z = mean_q + torch.randn(200_000, generator=g) * (0.5 * logvar_q).exp()
    ratio = q.log_prob(z) - p.log_prob(z)
    assert float(gaussian_kl(mean_q, logvar_q, mean_p, logvar_p)) == pytest.approx(float(ratio.mean()), abs=0.01)


@pytest.mark.slow
@pytest.mark.promise(99)
@pytest.mark.parametrize(
    "changes",
    [{}, {"hierarchy": "poe"}, {"hierarchy": "moe"}, {"mixture": "stratified"}, {"mixture": "parameter_average"}],
)
def test_gradients_reach_the_encoder_of_every_lead(changes: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = LsEmvae(replace(TINY, alignment=0.0, **changes))
    model.pretrain_terms(_x(), _all(), _all(), torch.Generator().manual_seed(0), progress=1.0)["loss"].backward()
    for lead, encoder in zip(LEADS, model.encoders.per_lead, strict=True):
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, (lead, name)
            assert parameter.grad.abs().sum() > 0, (lead, name)


@pytest.mark.slow
def test_measured_experts_train_no_derived_limb_lead() -> None:
    model = LsEmvae(replace(TINY, limb_experts="measured"))
    model.pretrain_terms(_x(), _all(), _all(), progress=1.0)["loss"].backward()
    trained = [lead for lead, e in zip(LEADS, model.encoders.per_lead, strict=True) if e.mean.weight.grad is not None]
    assert trained == ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.mark.promise(99)
@torch.no_grad()
def test_exchanging_avl_and_avf_changes_the_answer() -> None:
    model, x = _model(), _x()
    exchanged = x[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]]
    assert (model(x, _all()) - model(exchanged, _all())).abs().max() > 1e-6


@pytest.mark.slow
@torch.no_grad()
def test_latent_matching_is_the_divergence_of_the_subset_from_all_leads() -> None:
    torch.manual_seed(0)
    model, x, limb = LsEmvae(replace(TINY, latent_matching=0.5)).eval(), _x(), _all()
    limb[:, 6:] = False
    terms = model.pretrain_terms(x, limb, _all(), torch.Generator().manual_seed(0), progress=1.0)
    whole, part = model.posterior(x, _all()), model.posterior(x, limb)
    expected = kl_divergence(
        Normal(whole.mean, (0.5 * whole.logvar).exp()), Normal(part.mean, (0.5 * part.logvar).exp())
    )
    torch.testing.assert_close(terms["latent_matching"], expected.mean(), rtol=1e-4, atol=1e-6)
    plain = _model().pretrain_terms(x, limb, _all(), torch.Generator().manual_seed(0), progress=1.0)
    assert "latent_matching" not in plain
    torch.testing.assert_close(terms["loss"], plain["loss"] + 0.5 * terms["latent_matching"])
    assert "latent_matching" not in model.pretrain_terms(x, _all(), _all(), progress=1.0)


def test_latent_matching_sends_no_gradient_through_the_posterior_of_all_leads() -> None:
    torch.manual_seed(0)
    model, limb = LsEmvae(replace(TINY, latent_matching=0.5)), _all()
    limb[:, 6:] = False
    model.pretrain_terms(_x(), limb, _all(), progress=1.0)["latent_matching"].backward()
    moved = [lead for lead, e in zip(LEADS, model.encoders.per_lead, strict=True) if e.mean.weight.grad is not None]
    for lead, encoder in zip(LEADS, model.encoders.per_lead, strict=True):
        gradient = encoder.mean.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (lead in LEADS[:6]), (lead, moved)


@torch.no_grad()
def test_absolute_noise_does_not_follow_the_voltage() -> None:
    """Of a decoder that draws nothing: ten times the voltage costs 99 times the squares, or, relative to it, log 10."""
    for noise in ("absolute", "relative"):
        model, x = LsEmvae(replace(TINY, noise=noise)).eval(), _x()
        model.decoder.last.weight.zero_()
        model.decoder.last.bias.zero_()  # type: ignore[union-attr]
        small, large = (
            model.elbo_terms(v, _all(), _all(), torch.Generator().manual_seed(0))["nll"] for v in (x, 10 * x)
        )
        squares = 0.5 * (x / model.decoder.sd().view(1, -1, 1)).square().mean()
        expected = 99 * squares if noise == "absolute" else torch.log(torch.tensor(10.0))
        torch.testing.assert_close(large - small, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_bfloat16_autocast_gives_the_objective_in_float32() -> None:
    model, x = _model(), _x()
    with torch.autocast("cpu", torch.bfloat16):
        half = model.pretrain_terms(x, _all(), _all(), torch.Generator().manual_seed(0), progress=1.0)
    full = model.pretrain_terms(x, _all(), _all(), torch.Generator().manual_seed(0), progress=1.0)
    for name, value in full.items():
        assert half[name].dtype == torch.float32, name
        torch.testing.assert_close(half[name], value, rtol=0.05, atol=1e-3)
