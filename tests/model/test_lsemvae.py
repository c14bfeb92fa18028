"""The whole model: every lead counts, absent ones do not, the decoder knows its lead, the student's shape."""

from __future__ import annotations

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


@torch.no_grad()
def test_every_lead_changes_the_logits() -> None:
    model, x = _model(), _x()
    base = model(x, _all())
    for k, lead in enumerate(LEADS):
        moved = x.clone()
        moved[:, k] *= 2
        assert (model(moved, _all()) - base).abs().max() > 1e-6, lead


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


@torch.no_grad()
def test_defect_lead_blind_decoder_leads_are_drawn_differently() -> None:
    model = _model()
    drawn = model.decoder(torch.randn(1, 5, 157), torch.arange(12))
    assert drawn.shape == (1, 12, 2500)
    assert (drawn[0, 0] - drawn[0, 3]).abs().max() > 1e-4


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
