"""Each defect of the reference behind its switch: off by default, and what exactly it does when on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.fusion import HierarchicalFusion, product_of_experts
from lsemvae.model.lsemvae import LsEmvae, posterior_kl
from lsemvae.model.paper_config import PaperConfig
from lsemvae.model.switches import MODEL_SWITCHES, crossed, positional_members, with_defects, zscore

TINY = LsEmvaeConfig(channels=(2, 2, 4), latent=4, trunk=(4, 4), summary=4, labels=("A", "B"))
AVL, AVF = LEADS.index("aVL"), LEADS.index("aVF")


def _model(config: LsEmvaeConfig) -> LsEmvae:
    torch.manual_seed(0)
    return LsEmvae(config).eval()


def _x(n: int = 2) -> torch.Tensor:
    return 0.2 * torch.randn(n, 12, 2500, generator=torch.Generator().manual_seed(5))


def _present(*leads: str, n: int = 2) -> torch.Tensor:
    return torch.tensor([lead in (leads or LEADS) for lead in LEADS]).repeat(n, 1)


def _posteriors(n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 12, 4, 3, generator=g), torch.randn(n, 12, 4, 3, generator=g)


def test_all_switches_of_base_are_off_and_each_can_be_named() -> None:
    plain = LsEmvaeConfig()
    for name in MODEL_SWITCHES:
        assert with_defects(plain, name) != plain
    assert not with_defects(plain, "dropped_prior").prior
    assert with_defects(PaperConfig(), "kl_of_unsampled_mean").kl_of_unsampled_mean
    with pytest.raises(FormatError, match="lost_gradients"):
        with_defects(plain, "lost_gradients")


@torch.no_grad()
def test_lead_blind_decoder_draws_one_waveform_for_all_leads_with_the_same_weights() -> None:
    model, blind = _model(TINY), _model(with_defects(TINY, "lead_blind_decoder"))
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in blind.state_dict().items()}
    z = torch.randn(2, 4, 157)
    drawn = blind.decoder(z, torch.arange(12))
    assert drawn.shape == (2, 12, 2500)
    assert (drawn == drawn[:, :1]).all()
    assert torch.equal(drawn[:, 0], model.decoder(z, torch.tensor([0]))[:, 0])


@torch.no_grad()
def test_dropped_prior_leaves_the_product_of_the_leads_alone() -> None:
    fusion = HierarchicalFusion(with_defects(TINY, "dropped_prior"))
    mean, logvar = _posteriors()
    got = fusion(mean, logvar, _present("V1", "V2"))
    precision = (-logvar[:, 6:8]).exp()
    torch.testing.assert_close(got[1].exp(), 1 / precision.sum(1))
    torch.testing.assert_close(got[0], (precision * mean[:, 6:8]).sum(1) / precision.sum(1))


@torch.no_grad()
def test_kl_of_unsampled_mean_is_that_of_the_mean_of_the_leads_parameters() -> None:
    model, x, present = _model(with_defects(TINY, "kl_of_unsampled_mean")), _x(), _present("I", "V1", "V6")
    q = model.posterior(x, present)
    chosen = [LEADS.index(lead) for lead in ("I", "V1", "V6")]
    mean, logvar = q.lead_mean[:, chosen].mean(1), q.lead_logvar[:, chosen].mean(1)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    got = model.elbo_terms(x, present, present)["kl"] * 3 * 2500
    torch.testing.assert_close(got, expected)
    plain = _model(TINY).elbo_terms(x, present, present)["kl"] * 3 * 2500
    assert abs(float(plain - expected)) > 1e-2 * float(expected)


@torch.no_grad()
def test_kl_of_unsampled_mean_does_not_hold_the_sampled_posterior() -> None:
    """Leads whose means cancel cost nothing there, however far their product lies from the prior."""
    model = _model(with_defects(TINY, "kl_of_unsampled_mean"))
    mean, logvar = torch.zeros(1, 12, 4, 3), torch.zeros(1, 12, 4, 3)
    mean[:, 6:9], mean[:, 9:12] = 3.0, -3.0
    q = model.fuse((mean, logvar), _present(n=1))
    experts = model.fusion.experts(_present(n=1))
    assert posterior_kl(q, experts, of_unsampled_mean=True).item() == 0
    assert posterior_kl(q, experts, of_unsampled_mean=False).item() > 1


@torch.no_grad()
def test_per_lead_zscore_takes_voltage_away() -> None:
    model, plain, x, present = _model(with_defects(TINY, "per_lead_zscore")), _model(TINY), _x(), _present()
    louder = x * torch.linspace(0.5, 3, 12).view(1, 12, 1) + 0.1
    moved = [
        float((m.posterior(x, present).mean - m.posterior(louder, present).mean).abs().max()) for m in (model, plain)
    ]
    assert moved[0] < 1e-4
    assert moved[1] > 1e-2
    torch.testing.assert_close(model(x, present), model(louder, present), rtol=1e-4, atol=1e-5)
    terms = [model.elbo_terms(v, present, present, torch.Generator().manual_seed(0))["nll"] for v in (x, louder)]
    torch.testing.assert_close(terms[0], terms[1], rtol=1e-3, atol=1e-3)


def test_zscore_is_that_of_numpy_and_a_flat_lead_stays_zero() -> None:
    x = _x()
    x[0, 3] = 0.7
    got = zscore(x)
    expected = (x[1] - x[1].mean(-1, keepdim=True)) / x[1].numpy().std(-1, ddof=1, keepdims=True)
    torch.testing.assert_close(got[1], expected)
    assert (got[0, 3] == 0).all()


def _groups(*leads: str, prior: bool = True) -> list[list[str]]:
    member, exists = positional_members(_present(*leads, n=1), prior=prior)
    names = (*LEADS, "prior")
    return [
        [names[k] for k in row.nonzero()[:, 0].tolist()]
        for row, there in zip(member[0], exists[0], strict=True)
        if there
    ]


def test_positional_groups_cut_the_prior_off_for_twelve_leads() -> None:
    assert _groups(*LEADS) == [list(LEADS[k : k + 3]) for k in (0, 3, 6, 9)]


def test_positional_groups_of_six_leads_use_only_four() -> None:
    assert _groups(*LIMB_LEADS) == [["I"], ["II"], ["III"], ["aVR"]]
    assert _groups(*LIMB_LEADS, prior=False) == [["I"], ["II"], ["III"], ["aVR"]]


def test_positional_groups_of_few_leads_keep_the_prior_as_a_group() -> None:
    assert _groups("I", "II") == [["I"], ["II"], ["prior"]]
    assert _groups("I") == [["I"], ["prior"]]
    assert _groups("I", prior=False) == [["I"]]


@torch.no_grad()
def test_positional_groups_make_six_leads_deaf_to_avl_and_avf() -> None:
    mean, logvar = _posteriors()
    on, off = HierarchicalFusion(with_defects(TINY, "positional_groups")), HierarchicalFusion(TINY)
    present = _present(*LIMB_LEADS)
    for lead in LIMB_LEADS:
        moved = mean.clone()
        moved[:, LEADS.index(lead)] += 1
        heard = (on(moved, logvar, present)[0] - on(mean, logvar, present)[0]).abs().max() > 1e-4
        assert bool(heard) == (lead in LIMB_LEADS[:4]), lead
        assert (off(moved, logvar, present)[0] - off(mean, logvar, present)[0]).abs().max() > 1e-4


@torch.no_grad()
def test_positional_groups_with_uniform_weights_and_parameter_average_are_the_references_formula() -> None:
    config = dataclasses.replace(
        with_defects(TINY, "positional_groups"), group_weights="uniform", mixture="parameter_average", limb_rank=6
    )
    mean, logvar = _posteriors()
    got = HierarchicalFusion(config)(mean, logvar, _present())
    precision = (-logvar).exp().view(2, 4, 3, 4, 3)
    mu = (precision * mean.view(2, 4, 3, 4, 3)).sum(2) / precision.sum(2)
    torch.testing.assert_close(got[0], mu.mean(1))
    torch.testing.assert_close(got[1], (1 / precision.sum(2)).log().mean(1))


@torch.no_grad()
def test_positional_groups_learn_weights_of_four_groups() -> None:
    fusion = HierarchicalFusion(with_defects(TINY, "positional_groups"))
    assert fusion.group_logits.shape == (4, 4)  # type: ignore[union-attr]
    mean, logvar = _posteriors()
    one = fusion(mean, logvar, _present("I"))
    pair = [
        product_of_experts(mean[:, :1], logvar[:, :1], torch.zeros(2, 1), prior=False)[0],
        torch.zeros_like(mean[:, 0]),
    ]
    share = fusion.group_logits[:2].softmax(0).view(2, 1, 4, 1)  # type: ignore[index]
    torch.testing.assert_close(one[0], share[0] * pair[0] + share[1] * pair[1])


@torch.no_grad()
def test_crossed_avl_avf_gives_the_classifier_the_other_lead() -> None:
    model, plain, x, present = _model(with_defects(TINY, "crossed_avl_avf")), _model(TINY), _x(), _present()
    exchanged = x.clone()
    exchanged[:, AVL], exchanged[:, AVF] = x[:, AVF], x[:, AVL]
    assert torch.equal(model(x, present), plain(exchanged, present))
    assert not torch.equal(model(x, present), plain(x, present))
    alone = _present("aVL")
    assert torch.equal(model(x, alone), plain(exchanged, _present("aVF")))


@torch.no_grad()
def test_crossed_avl_avf_leaves_pre_training_alone() -> None:
    x, present = _x(), _present()
    terms = [
        _model(config).pretrain_terms(x, present, present, torch.Generator().manual_seed(1), progress=1.0)["loss"]
        for config in (TINY, with_defects(TINY, "crossed_avl_avf"))
    ]
    assert torch.equal(*terms)


@torch.no_grad()
def test_names_not_positions_decide_which_leads_are_crossed() -> None:
    assert crossed(("aVF", "I", "aVL")) == [2, 1, 0]
    assert crossed(("I", "aVL")) == [0, 1]


def test_crossed_avl_avf_reaches_fine_tuning() -> None:
    x, present = _x(), _present()
    exchanged = x.clone()
    exchanged[:, AVL], exchanged[:, AVF] = x[:, AVF], x[:, AVL]
    labels, weight = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.ones(2)
    on = _model(with_defects(TINY, "crossed_avl_avf")).finetune_terms(x, present, present, labels, weight)["loss"]
    off = _model(TINY).finetune_terms(exchanged, present, present, labels, weight)["loss"]
    assert torch.equal(on, off)
